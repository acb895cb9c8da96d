"""How many requests the kernel makes of the daemon: what it may keep it does not ask for again."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Mounted, fusefs

pytestmark = pytest.mark.mount

Count = Callable[[Callable[[], object]], int]

#: What no one can do without, but for the acts themselves: an attribute or two.
FEW = 10


@pytest.fixture
def count(mounted: Mounted) -> Count:
    """Tells how many requests a call makes."""

    def so_far() -> int:
        record = json.loads(fusefs("status", "--json", mounted.store))
        return int(record["counters"]["requests"])

    def count(call: Callable[[], object]) -> int:
        before = so_far()
        call()
        return so_far() - before

    return count


@pytest.fixture
def file(mounted: Mounted) -> Path:
    return mounted.mnt / "file"


def test_a_write_is_one_request(file: Path, count: Count) -> None:
    with file.open("wb", buffering=0) as out:
        out.write(b"x" * 4096)  # of whole pages, or there are two requests for each
        made = count(lambda: [out.write(b"x" * 4096) for _ in range(100)])
    assert 100 <= made <= 100 + FEW


def test_what_was_just_written_is_not_asked_for(file: Path, count: Count) -> None:
    with file.open("w+b", buffering=0) as both:

        def write_look_read() -> None:
            for number in range(100):
                os.pwrite(both.fileno(), b"%04096d" % number, number * 4096)
                os.fstat(both.fileno())
                assert os.pread(both.fileno(), 4096, number * 4096) == b"%04096d" % number

        # A write, the attributes, and whether there is a capability, after each time that these
        # came; no read.
        assert 200 <= count(write_look_read) <= 300 + FEW


def test_a_symbolic_link_is_read_once(file: Path, count: Count) -> None:
    file.symlink_to("target")
    os.readlink(file)
    assert count(lambda: [os.readlink(file) for _ in range(100)]) <= FEW
