"""Sees what is done with names below a directory, by inotify(7)."""

import ctypes
import os
import select
import struct
import threading
from pathlib import Path
from typing import NamedTuple

MODIFY, CLOSE_WRITE, MOVED_TO, CREATE = 0x2, 0x8, 0x80, 0x100
OVERFLOW, IS_DIRECTORY = 0x4000, 0x40000000
_HEAD = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Seen(NamedTuple):
    """An event: `path` from the directory on, `mask` of the constants above."""

    path: Path
    mask: int


class Watcher:
    """Watches `top` and each directory that is made below it, in a thread, until `stop`.

    What happens in a directory before its watch is there is seen as what then lies in it: with a
    mask of 0. `lost` says whether the kernel had to drop events.
    """

    def __init__(self, top: Path) -> None:
        self._top = top
        self._descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._descriptor >= 0, os.strerror(ctypes.get_errno())
        self._paths: dict[int, Path] = {}
        self._ended = os.eventfd(0)
        self.seen: list[Seen] = []
        self.lost = False
        self._watch(top)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        os.eventfd_write(self._ended, 1)
        self._thread.join()
        os.close(self._descriptor)
        os.close(self._ended)

    def _watch(self, directory: Path) -> None:
        mask = MODIFY | CLOSE_WRITE | MOVED_TO | CREATE
        number = _libc.inotify_add_watch(self._descriptor, os.fsencode(directory), mask)
        if number < 0:
            return  # gone again
        self._paths[number] = directory
        for entry in os.scandir(directory):
            if entry.is_dir(follow_symlinks=False):
                self._watch(Path(entry.path))
            else:
                self.seen.append(Seen(Path(entry.path).relative_to(self._top), 0))

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        poller.register(self._ended, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poller.poll()}
            if self._descriptor in ready:
                self._take(os.read(self._descriptor, 1 << 20))
            elif self._ended in ready:
                return

    def _take(self, events: bytes) -> None:
        at = 0
        while at < len(events):
            number, mask, _, length = _HEAD.unpack_from(events, at)
            name = events[at + _HEAD.size : at + _HEAD.size + length].rstrip(b"\0")
            at += _HEAD.size + length
            if mask & OVERFLOW:
                self.lost = True
                continue
            path = self._paths[number] / os.fsdecode(name)
            if mask & IS_DIRECTORY:
                if mask & (CREATE | MOVED_TO):
                    self._watch(path)
            else:
                self.seen.append(Seen(path.relative_to(self._top), mask))
