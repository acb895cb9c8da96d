"""Listings that go on where they stopped, whatever comes and goes meanwhile."""

import errno
from typing import Any

import pyfuse3
import pytest
from pyfuse3 import EntryAttributes, FUSEError

from fusefs.fuse.operations import KEEP_S, Operations
from fusefs.model.inode import ROOT_INO
from tests.unit.fuse.calls import Call, context
from tests.unit.inprocess import InProcess

Page = list[tuple[bytes, EntryAttributes, int]]


class Kernel:
    """Lists a directory in pages of `room` entries."""

    def __init__(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        self._call = call
        self._opened = 0
        self.room = 1000
        monkeypatch.setattr(pyfuse3, "readdir_reply", self._reply)

    def _reply(self, token: Page, name: bytes, reply: EntryAttributes, cookie: int) -> bool:
        if len(token) == self.room:
            return False
        token.append((name, reply, cookie))
        return True

    def page(self, ino: int, after: int = 0) -> Page:
        """Go on behind the cookie `after`, in the directory that was opened for the first page."""
        token: Page = []
        if not after:
            self._opened = self._call("opendir", ino, context())
        self._call("readdir", self._opened, after, token)
        return token

    def names(self, ino: int) -> list[bytes]:
        found: list[bytes] = []
        after = 0
        while page := self.page(ino, after):
            found += [name for name, _, _ in page]
            after = page[-1][2]
        return found


@pytest.fixture
def kernel(call: Call, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(call, monkeypatch)


@pytest.mark.parametrize("room", [1, 2, 3, 7, 100])
def test_pages_of_any_size_list_each_name_once(fs: InProcess, kernel: Kernel, room: int) -> None:
    names = [b"file-%d" % number for number in range(10)]
    for name in names:
        fs.make(name)
    kernel.room = room
    assert kernel.names(ROOT_INO) == [b".", b"..", *names]  # and not .trash


def test_what_stays_is_listed_once_while_others_come_and_go(fs: InProcess, kernel: Kernel) -> None:
    for name in (b"a", b"b", b"c", b"d"):
        fs.make(name)
    kernel.room = 4
    first = kernel.page(ROOT_INO)
    assert [name for name, _, _ in first] == [b".", b"..", b"a", b"b"]
    fs.unlink(b"b")  # the one that the listing stopped at
    fs.unlink(b"c")
    fs.make(b"e")
    fs.rename(b"a", b"f")
    fs.rename(b"d", b"g")
    second = kernel.page(ROOT_INO, first[-1][2])
    assert [name for name, _, _ in second] == [b"g"]  # which was there before


def test_a_name_that_is_replaced_keeps_its_place(fs: InProcess, kernel: Kernel) -> None:
    for name in (b"a", b"b", b"c"):
        fs.make(name)
    kernel.room = 3
    first = kernel.page(ROOT_INO)
    assert [name for name, _, _ in first] == [b".", b"..", b"a"]
    for name in (b"a", b"b"):
        fs.make(b"new")
        fs.rename(b"new", name)
    second = kernel.page(ROOT_INO, first[-1][2])
    assert [name for name, _, _ in second] == [b"b", b"c"]


def test_listed_entries_are_references_but_for_the_dots(
    fs: InProcess, kernel: Kernel, operations: Operations
) -> None:
    fs.mkdir(b"docs")
    directory = fs.at(b"docs").ino
    inos = [fs.make(b"docs/" + name).ino for name in (b"a", b"b")]
    kernel.room = 3
    page = kernel.page(directory)
    assert [reply.st_ino for _, reply, _ in page] == [directory, ROOT_INO, inos[0]]
    assert [operations.references.has(ino) for ino in (directory, ROOT_INO, *inos)] == [
        False, False, True, False,
    ]  # fmt: skip


def test_listings_of_the_trash_are_not_kept(fs: InProcess, kernel: Kernel) -> None:
    fs.make(b"file")
    fs.unlink(b"file")
    trash = {name: reply for name, reply, _ in kernel.page(fs.at(b".trash/2027-01-15T08").ino)}
    root = {name: reply for name, reply, _ in kernel.page(ROOT_INO)}
    assert (trash[b"file"].entry_timeout, trash[b"."].attr_timeout) == (0, 0)
    assert root[b"."].entry_timeout == KEEP_S


def test_only_directories_are_listed(fs: InProcess, call: Call) -> None:
    with pytest.raises(FUSEError) as caught:
        call("opendir", fs.make(b"file").ino, context())
    assert caught.value.errno == errno.ENOTDIR


def test_a_listing_changes_the_time_of_access_once(
    fs: InProcess, kernel: Kernel, logged: list[Any]
) -> None:
    fs.mkdir(b"docs")
    fs.clock.advance(5)
    kernel.page(fs.at(b"docs").ino)
    assert fs.at(b"docs").atime == fs.clock.now_ns
    assert logged == []
