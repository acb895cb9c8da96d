"""The allocator keeps pages, and the garbage collector looks past what was made at the start."""

import subprocess
import sys

import pytest

from fusefs.base import memory

FAULTS = """
import resource
from fusefs.base import memory
if {tuned}:
    memory.keep_pages()
source = bytes(1 << 20)
def some():
    held = [source[1:] for _ in range(16)]
some()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    some()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(code: str) -> str:
    """What a new process prints: these settings are for the whole of one."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    return done.stdout.strip()


def test_large_buffers_are_made_of_pages_that_are_there() -> None:
    if int(run(FAULTS.format(tuned=False))) < 10_000:
        pytest.skip("this libc keeps them anyway")
    assert int(run(FAULTS.format(tuned=True))) < 1000


def test_a_libc_that_cannot_be_told_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    memory.keep_pages()


def test_what_is_there_is_not_collected_again() -> None:
    code = """
import gc
from fusefs.base import memory
memory.settle()
print(gc.get_freeze_count() > 1000 and len(gc.get_objects()) < 1000)
"""
    assert run(code) == "True"
