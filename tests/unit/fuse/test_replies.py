"""What the kernel is told: attributes, how long it may keep them, what it refers to."""

import errno
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pyfuse3
import pytest
from pyfuse3 import FUSEError

from fusefs.base import failpoints
from fusefs.fuse.operations import KEEP_S, Operations
from fusefs.model import keys
from fusefs.model.block import Block
from fusefs.model.inode import ROOT_INO, TRASH_INO
from tests.unit.fuse.calls import Call, context
from tests.unit.inprocess import InProcess
from tests.unit.store.acts import flip, segment

HOUR = b".trash/2027-01-15T08"


def errno_of(act: Callable[[], object]) -> int:
    with pytest.raises(FUSEError) as caught:
        act()
    return caught.value.errno


def test_a_name_is_kept_long_and_referred_to(
    fs: InProcess, call: Call, operations: Operations
) -> None:
    fs.write(b"file", b"x" * 1000)
    inode = fs.at(b"file")
    reply = call("lookup", ROOT_INO, b"file", context())
    assert (reply.st_ino, reply.st_size, reply.st_blocks, reply.st_nlink) == (inode.ino, 1000, 2, 1)
    assert reply.st_mtime_ns == fs.clock.now_ns
    assert (reply.entry_timeout, reply.attr_timeout, reply.generation) == (KEEP_S, KEEP_S, 1)
    call("getattr", inode.ino, context())  # gives no reference
    call("forget", [(inode.ino, 1)])
    assert not operations.references.has(inode.ino)


@pytest.mark.parametrize("request_", ["mknod", "mkdir", "symlink", "link", "create"])
def test_whatever_hands_out_an_entry_gives_a_reference(
    fs: InProcess, call: Call, operations: Operations, request_: str
) -> None:
    fs.make(b"other")
    arguments = {
        "mknod": (ROOT_INO, b"new", 0o100644, 0),
        "mkdir": (ROOT_INO, b"new", 0o040755),
        "symlink": (ROOT_INO, b"new", b"target"),
        "link": (fs.at(b"other").ino, ROOT_INO, b"new"),
        "create": (ROOT_INO, b"new", 0o100644, os.O_RDWR),
    }
    call(request_, *arguments[request_], context())
    assert operations.references.has(fs.at(b"new").ino)


def test_an_absent_name_is_kept_for_absent(call: Call, operations: Operations) -> None:
    reply = call("lookup", ROOT_INO, b"nothing", context())
    assert (reply.st_ino, reply.entry_timeout) == (0, KEEP_S)
    assert not operations.references.has(0)
    assert errno_of(lambda: call("lookup", ROOT_INO, b"n" * 256, context())) == errno.ENAMETOOLONG


def test_nothing_in_the_trash_is_kept(fs: InProcess, call: Call) -> None:
    fs.mkdir(b"docs")
    fs.write(b"docs/file", b"content")
    fs.unlink(b"docs/file")
    trash = call("lookup", ROOT_INO, b".trash", context())
    mirror = call("lookup", fs.at(HOUR).ino, b"docs", context())
    file = call("lookup", mirror.st_ino, b"file", context())
    assert [r.entry_timeout + r.attr_timeout for r in (trash, mirror, file)] == [0, 0, 0]
    assert file.st_nlink == 1
    assert errno_of(lambda: call("lookup", TRASH_INO, b"nothing", context())) == errno.ENOENT


def test_what_was_removed_while_open_is_not_kept_and_has_no_links(
    fs: InProcess, call: Call
) -> None:
    fs.make(b"file")
    ino = fs.at(b"file").ino
    fs.opened(b"file")
    fs.unlink(b"file")
    reply = call("getattr", ino, context())
    assert (reply.st_nlink, reply.attr_timeout) == (0, 0)


def test_the_trash_is_not_changed_by_hand(fs: InProcess, call: Call) -> None:
    fs.write(b"file", b"content")
    ino = fs.at(b"file").ino
    fs.unlink(b"file")
    sized = SimpleNamespace(update_size=True)
    refused = [
        lambda: call("setattr", ino, pyfuse3.EntryAttributes(), sized, None, context()),
        lambda: call("setxattr", ino, b"user.a", b"", context()),
        lambda: call("removexattr", ino, b"user.a", context()),
        lambda: call("open", ino, os.O_WRONLY, context()),
        lambda: call("open", ino, os.O_RDONLY | os.O_TRUNC, context()),
        lambda: call("mkdir", TRASH_INO, b"new", 0o040755, context()),
    ]
    assert {errno_of(act) for act in refused} == {errno.EPERM}
    assert fs.read(HOUR + b"/file") == b"content"


def test_attributes_of_the_system_are_not_taken(fs: InProcess, call: Call) -> None:
    request = ("setxattr", ROOT_INO, b"system.other", b"", context())
    assert errno_of(lambda: call(*request)) == errno.EOPNOTSUPP


def test_open_truncates(fs: InProcess, call: Call) -> None:
    fs.write(b"file", b"content")
    info = call("open", fs.at(b"file").ino, os.O_WRONLY | os.O_TRUNC, context())
    assert fs.at(b"file").size == 0
    assert call("write", info.fh, 0, b"new") == 3
    call("release", info.fh)
    assert fs.read(b"file") == b"new"


def test_an_open_that_fails_leaves_no_handle(fs: InProcess, call: Call) -> None:
    fs.write(b"file", b"content")
    ino = fs.at(b"file").ino
    failpoints.arm("log.append=1:ENOSPC")
    try:
        assert errno_of(lambda: call("open", ino, os.O_TRUNC, context())) == errno.ENOSPC
        assert failpoints.hits()["log.append"] == 1
    finally:
        failpoints.disarm()
    assert not fs.files.is_open(ino)


def test_damaged_content_is_never_given_out_and_named_in_the_log(
    fs: InProcess, call: Call, logged: list[Any]
) -> None:
    fs.mkdir(b"docs")
    fs.write(b"docs/file", b"content")
    block = Block.unpack(fs.store.get(keys.block(1)) or b"")
    flip(segment(fs.path, block.segment), block.offset)
    fh = call("open", fs.at(b"docs/file").ino, os.O_RDONLY, context()).fh
    assert errno_of(lambda: call("read", fh, 0, 7)) == errno.EIO
    (line,) = [line for line in logged if line["event"] == "damaged content"]
    assert (line["path"], line["offset"], line["log_level"]) == ("docs/file", 0, "error")
    (event,) = fs.filesystem.events.since(0)
    assert (event.kind, event.fields) == ("damaged-read", {"path": b"/docs/file", "offset": 0})


def test_statfs_keeps_the_reserve_for_itself(fs: InProcess, call: Call) -> None:
    fs.make(b"file")
    reply, disk = call("statfs", context()), os.statvfs(fs.path)
    assert reply.f_frsize * (disk.f_blocks - reply.f_blocks) == pytest.approx(
        fs.store.space.reserve_bytes, abs=reply.f_frsize
    )
    assert reply.f_files - reply.f_ffree == 3
    assert reply.f_namemax == 255


def test_a_rule_of_the_trash_is_the_owners(fs: InProcess, call: Call) -> None:
    ino = fs.mkdir(b"shared", 0o777).ino
    fs.tree.set_attributes(fs.at(b"shared"), fs.caller, uid=7)
    for uid in (7, 0):
        call("setxattr", ino, b"user.fusefs.trash", b"30d", context(uid))
        assert call("getxattr", ino, b"user.fusefs.trash", context(8)) == b"30d"
        assert errno_of(
            lambda: call("setxattr", ino, b"user.fusefs.trash", b"0", context(8))
        ) == errno.EPERM  # fmt: skip
        assert errno_of(
            lambda: call("removexattr", ino, b"user.fusefs.trash", context(8))
        ) == errno.EPERM  # fmt: skip
        call("removexattr", ino, b"user.fusefs.trash", context(uid))
    assert (
        errno_of(lambda: call("setxattr", ino, b"user.fusefs.trash", b"soon", context(7)))
        == errno.EINVAL
    )
