"""Extended attributes, and ACLs that stay in step with the mode."""

import errno
import stat

import pytest

from fusefs.errors import Refused
from fusefs.model.inode import HAS_XATTR
from fusefs.tree import acl
from fusefs.tree.acl import AclEntry
from tests.unit.inprocess import InProcess

NOBODY = 0xFFFFFFFF


def an_acl(user: int, group: int, other: int, *, mask: int | None = None, **named: int) -> bytes:
    """rwx numbers; `named` as u1000=7, g50=5."""
    entries = [AclEntry(acl.USER_OBJ, user, NOBODY)]
    entries += [AclEntry(acl.USER, p, int(n[1:])) for n, p in named.items() if n[0] == "u"]
    entries.append(AclEntry(acl.GROUP_OBJ, group, NOBODY))
    entries += [AclEntry(acl.GROUP, p, int(n[1:])) for n, p in named.items() if n[0] == "g"]
    if mask is not None:
        entries.append(AclEntry(acl.MASK, mask, NOBODY))
    entries.append(AclEntry(acl.OTHER, other, NOBODY))
    return acl.pack(entries)


def permissions(fs: InProcess, path: bytes) -> int:
    return stat.S_IMODE(fs.at(path).mode)


def test_attributes_come_back_and_survive(fs: InProcess) -> None:
    ino = fs.make(b"file").ino
    values = {
        b"user.a": b"value",
        b"user.empty": b"",
        b"security.capability": b"\0\1\2",
        b"trusted." + b"n" * 247: b"x" * (64 << 10),
    }
    for name, value in values.items():
        fs.tree.xattrs.set(ino, name, value)
    fs.tree.xattrs.set(ino, b"user.a", b"other")
    values[b"user.a"] = b"other"
    fs.crash()
    assert {name: fs.tree.xattrs.get(ino, name) for name in fs.tree.xattrs.names(ino)} == values


def test_removing_the_last_one_leaves_none(fs: InProcess) -> None:
    ino = fs.make(b"file").ino
    fs.tree.xattrs.set(ino, b"user.a", b"1")
    fs.tree.xattrs.set(ino, b"user.b", b"2")
    fs.tree.xattrs.remove(ino, b"user.a")
    assert fs.tree.xattrs.names(ino) == [b"user.b"]
    fs.tree.xattrs.remove(ino, b"user.b")
    assert fs.tree.xattrs.names(ino) == []
    with pytest.raises(Refused) as caught:
        fs.tree.xattrs.get(ino, b"user.b")
    assert caught.value.errno == errno.ENODATA


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (b"user." + b"n" * 251, b"", errno.ERANGE),
        (b"user.a", b"x" * ((64 << 10) + 1), errno.ENOSPC),
        (acl.ACCESS, b"no acl", errno.EINVAL),
        (acl.ACCESS, b"", errno.EINVAL),
        (acl.DEFAULT, b"\2\0\0\0abc", errno.EINVAL),
    ],
)
def test_what_is_no_attribute_is_refused(
    fs: InProcess, name: bytes, value: bytes, expected: int
) -> None:
    ino = fs.mkdir(b"dir").ino
    with pytest.raises(Refused) as caught:
        fs.tree.xattrs.set(ino, name, value)
    assert caught.value.errno == expected
    assert fs.tree.xattrs.names(ino) == []


def test_removing_what_is_not_there_is_refused(fs: InProcess) -> None:
    ino = fs.make(b"file").ino
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            fs.tree.xattrs.remove(ino, b"user.a")
        assert caught.value.errno == errno.ENODATA
        fs.tree.xattrs.set(ino, b"user.other", b"")


def test_attributes_change_ctime(fs: InProcess) -> None:
    inode = fs.make(b"file")
    for act in (
        lambda: fs.tree.xattrs.set(inode.ino, b"user.a", b"1"),
        lambda: fs.tree.xattrs.remove(inode.ino, b"user.a"),
    ):
        fs.clock.advance(1)
        act()
        assert inode.ctime == fs.clock.now_ns
        assert inode.mtime < inode.ctime


def test_an_access_acl_sets_the_mode_with_its_mask_as_the_group(fs: InProcess) -> None:
    ino = fs.make(b"file").ino
    value = an_acl(7, 5, 1, mask=6, u1000=7)
    fs.tree.xattrs.set(ino, acl.ACCESS, value)
    assert permissions(fs, b"file") == 0o761
    assert fs.tree.xattrs.get(ino, acl.ACCESS) == value


def test_an_acl_that_says_what_the_mode_says_is_not_kept(fs: InProcess) -> None:
    ino = fs.make(b"file").ino
    fs.tree.xattrs.set(ino, acl.ACCESS, an_acl(7, 5, 1, mask=6, u1000=7))
    fs.tree.xattrs.set(ino, acl.ACCESS, an_acl(6, 4, 0))
    assert permissions(fs, b"file") == 0o640
    assert acl.ACCESS not in fs.tree.xattrs.names(ino)


def test_an_acl_that_is_not_kept_leaves_no_mark(fs: InProcess) -> None:
    inode = fs.make(b"file")
    fs.tree.xattrs.set(inode.ino, acl.ACCESS, an_acl(6, 4, 0))
    assert not inode.flags & HAS_XATTR


def test_chmod_changes_the_mask_and_not_the_group_entry(fs: InProcess) -> None:
    inode = fs.make(b"file")
    fs.tree.xattrs.set(inode.ino, acl.ACCESS, an_acl(7, 5, 1, mask=6, u1000=7))
    fs.tree.set_attributes(inode, fs.caller, mode=0o4640)
    assert fs.tree.xattrs.get(inode.ino, acl.ACCESS) == an_acl(6, 5, 0, mask=4, u1000=7)
    assert permissions(fs, b"file") == 0o4640


def test_setting_an_acl_keeps_the_set_id_bits(fs: InProcess) -> None:
    inode = fs.make(b"file", stat.S_IFREG | 0o4755)
    fs.tree.xattrs.set(inode.ino, acl.ACCESS, an_acl(7, 0, 0))
    assert permissions(fs, b"file") == 0o4700


def test_a_default_acl_is_inherited_and_limited_by_the_mode(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    default = an_acl(7, 5, 5, mask=7, u1000=7, g50=3)
    fs.tree.xattrs.set(fs.at(b"dir").ino, acl.DEFAULT, default)
    assert permissions(fs, b"dir") == 0o755
    file = fs.make(b"dir/file", stat.S_IFREG | 0o640)
    assert permissions(fs, b"dir/file") == 0o640
    assert fs.tree.xattrs.get(file.ino, acl.ACCESS) == an_acl(6, 5, 0, mask=4, u1000=7, g50=3)
    assert acl.DEFAULT not in fs.tree.xattrs.names(file.ino)
    inner = fs.mkdir(b"dir/inner", 0o777)
    assert fs.tree.xattrs.get(inner.ino, acl.DEFAULT) == default
    assert fs.tree.xattrs.get(inner.ino, acl.ACCESS) == an_acl(7, 5, 5, mask=7, u1000=7, g50=3)
    link = fs.make(b"dir/link", stat.S_IFLNK | 0o777, target=b"x")
    assert fs.tree.xattrs.names(link.ino) == []


def test_a_minimal_default_acl_gives_a_mode_and_no_acl(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    fs.tree.xattrs.set(fs.at(b"dir").ino, acl.DEFAULT, an_acl(7, 5, 0))
    file = fs.make(b"dir/file", stat.S_IFREG | 0o666)
    assert permissions(fs, b"dir/file") == 0o640
    assert fs.tree.xattrs.names(file.ino) == []


def test_attributes_go_with_their_inode(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    ino = fs.at(b"dir").ino
    fs.tree.xattrs.set(ino, b"user.a", b"1")
    fs.rmdir(b"dir")
    fs.reap()
    assert not list(fs.store.scan(b"x" + ino.to_bytes(8, "big")))
