"""Small cold reads are made on the loop while the disk is fast, and in a thread while it is not."""

import os
import threading
import time
from types import SimpleNamespace

import pytest

from fusefs.files import files
from fusefs.store.log import Buffer
from fusefs.store.reading import ColdBlock
from tests.unit.inprocess import InProcess

MIB = 1 << 20


class Disk:
    """Takes `delay_s`, without any time passing, and notes whether it is asked on the loop."""

    def __init__(self, fs: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
        self.delay_s = 0.0
        self.now_s = 0.0
        self.on_loop: list[bool] = []
        self._loop = threading.get_ident()
        self._read = ColdBlock.read_part
        monkeypatch.setattr(
            ColdBlock, "read_part", lambda *all_, **named: self.read(*all_, **named)
        )
        fake = SimpleNamespace(perf_counter=lambda: self.now_s, monotonic=time.monotonic)
        monkeypatch.setattr(files, "time", fake)

    def read(
        self, block: ColdBlock, skip: int, length: int, no_wait: bool = False
    ) -> Buffer | None:
        if no_wait:
            return None
        self.now_s += self.delay_s
        self.on_loop.append(threading.get_ident() == self._loop)
        return self._read(block, skip, length)


def test_the_way_follows_the_disk(fs: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(MIB)
    fs.write(b"file", content)
    handle = fs.opened(b"file")
    disk = Disk(fs, monkeypatch)

    def reads(delay_s: float) -> list[bool]:
        disk.delay_s, disk.on_loop = delay_s, []
        for offset in range(5000, 5000 + 40 * 4096, 4096):
            assert fs.pread(handle, offset, 4096) == content[offset : offset + 4096]
        return disk.on_loop

    assert all(reads(0.0001))
    assert not any(reads(0.005)[5:])
    assert not any(reads(0.00001))  # of the kernel's memory, which says nothing of the disk
    assert all(reads(0.0001)[30:])
    fs.files.release(handle)


def test_a_large_cold_read_is_made_in_a_thread(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(MIB)
    fs.write(b"file", content)
    handle = fs.opened(b"file")
    disk = Disk(fs, monkeypatch)
    assert fs.pread(handle, 0, MIB) == content
    assert disk.on_loop == [False]
    fs.files.release(handle)
