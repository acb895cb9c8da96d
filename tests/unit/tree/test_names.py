"""Making, linking, removing and renaming: what POSIX says, with the errno that it says."""

import errno
import stat
from collections.abc import Callable

import pytest

from fusefs.base import failpoints
from fusefs.errors import DiskFull, FusefsError, Refused
from fusefs.model import keys
from fusefs.model.inode import TIME_LIMIT_NS, Inode
from fusefs.tree.places import a_path_of
from fusefs.tree.removal import Caller
from fusefs.tree.tree import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT
from tests.unit import invariants
from tests.unit.inprocess import DIRECTORY, REGULAR, SYMLINK, InProcess

LONG = b"n" * 255


def errno_of(act: Callable[[], object]) -> int:
    with pytest.raises(Refused) as caught:
        act()
    return caught.value.errno


def state(inode: Inode) -> dict[str, object]:
    return {field: getattr(inode, field) for field in Inode.__slots__}


def test_a_name_leads_to_what_was_made(fs: InProcess) -> None:
    made = fs.make(b"file")
    assert fs.at(b"file") is made
    assert fs.tree.lookup(1, b"other") is None
    fs.remount()
    found = fs.at(b"file")
    assert (found.ino, found.mode, found.nlink) == (made.ino, REGULAR, 1)


def test_every_kind_of_node_keeps_its_kind_and_number(fs: InProcess) -> None:
    kinds = (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)
    for number, kind in enumerate(kinds):
        fs.tree.make(1, b"%d" % number, kind | 0o600, fs.caller, rdev=0x103)
    fs.remount()
    for number, kind in enumerate(kinds):
        inode = fs.at(b"%d" % number)
        assert stat.S_IFMT(inode.mode) == kind
        assert inode.rdev == 0x103


def test_a_symbolic_link_keeps_its_target(fs: InProcess) -> None:
    link = fs.make(b"link", SYMLINK, target=b"to/\xff/where")
    fs.make(b"file")
    fs.remount()
    assert fs.tree.readlink(link.ino) == b"to/\xff/where"
    assert fs.at(b"link").size == len(b"to/\xff/where")
    assert errno_of(lambda: fs.tree.readlink(fs.at(b"file").ino)) == errno.EINVAL


def test_any_255_bytes_are_a_name_and_256_are_not(fs: InProcess) -> None:
    name = bytes(set(range(1, 256)) - {0x2F}) + b"x"
    assert len(name) == 255
    fs.make(name)
    fs.make(LONG)
    assert fs.names() == sorted([name, LONG])
    too_long = LONG + b"n"
    for act in (
        lambda: fs.make(too_long),
        lambda: fs.mkdir(too_long),
        lambda: fs.link(LONG, too_long),
        lambda: fs.rename(LONG, too_long),
        lambda: fs.rename(too_long, b"x"),
        lambda: fs.unlink(too_long),
        lambda: fs.tree.lookup(1, too_long),
    ):
        assert errno_of(act) == errno.ENAMETOOLONG


def test_what_exists_is_not_made_again(fs: InProcess) -> None:
    fs.make(b"file")
    fs.mkdir(b"dir")
    for name in (b"file", b"dir", b".trash"):
        assert errno_of(lambda name=name: fs.make(name)) == errno.EEXIST
        assert errno_of(lambda name=name: fs.mkdir(name)) == errno.EEXIST
        assert errno_of(lambda name=name: fs.link(b"file", name)) == errno.EEXIST


def test_nothing_is_made_in_a_directory_that_was_removed(fs: InProcess) -> None:
    gone = fs.mkdir(b"gone").ino
    fs.make(b"file")
    fs.rmdir(b"gone")
    assert errno_of(lambda: fs.tree.make(gone, b"x", REGULAR, fs.caller)) == errno.ENOENT
    assert errno_of(lambda: fs.tree.link(fs.at(b"file").ino, gone, b"x")) == errno.ENOENT
    assert errno_of(lambda: fs.tree.rename(1, b"file", gone, b"x", 0, fs.caller)) == errno.ENOENT


def test_hard_links_are_one_inode(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    fs.write(b"one", b"content")
    inode = fs.link(b"one", b"dir/two")
    assert fs.at(b"one") is fs.at(b"dir/two") is inode
    assert inode.nlink == 2
    fs.unlink(b"one")
    assert inode.nlink == 1
    assert fs.read(b"dir/two") == b"content"


def test_a_directory_and_a_file_without_names_cannot_be_linked(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    assert errno_of(lambda: fs.link(b"dir", b"again")) == errno.EPERM
    inode = fs.make(b"file")
    fs.unlink(b"file")
    assert errno_of(lambda: fs.tree.link(inode.ino, 1, b"again")) == errno.EPERM  # in the trash


def test_the_count_of_a_directory_is_two_and_its_subdirectories(fs: InProcess) -> None:
    for name in (b"a", b"a/b", b"a/c", b"d"):
        fs.mkdir(name)
    fs.make(b"a/file")
    assert (fs.at(b"a").nlink, fs.at(b"a/b").nlink, fs.at(b"").nlink) == (4, 2, 4)
    fs.rename(b"a/b", b"d/b")
    assert (fs.at(b"a").nlink, fs.at(b"d").nlink, fs.at(b"d/b").parent) == (3, 3, fs.at(b"d").ino)
    fs.rmdir(b"a/c")
    assert fs.at(b"a").nlink == 2
    fs.rename(b"d/b", b"d/e")
    assert fs.at(b"d").nlink == 3


def test_removing_says_what_is_wrong(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    fs.make(b"dir/file")
    assert errno_of(lambda: fs.unlink(b"no")) == errno.ENOENT
    assert errno_of(lambda: fs.rmdir(b"no")) == errno.ENOENT
    assert errno_of(lambda: fs.unlink(b"dir")) == errno.EISDIR
    assert errno_of(lambda: fs.rmdir(b"dir/file")) == errno.ENOTDIR
    assert errno_of(lambda: fs.rmdir(b"dir")) == errno.ENOTEMPTY
    assert errno_of(lambda: fs.rmdir(b".trash")) == errno.EPERM
    assert errno_of(lambda: fs.at(b"dir/file/x")) == errno.ENOTDIR
    assert errno_of(lambda: fs.at(b"dir/x")) == errno.ENOENT


def test_rename_moves_a_name_and_keeps_the_inode(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    inode = fs.make(b"a")
    fs.rename(b"a", b"dir/b")
    assert fs.names() == [b"dir"]
    assert fs.at(b"dir/b") is inode


def test_rename_over_a_file_takes_its_name(fs: InProcess) -> None:
    fs.write(b"a", b"new")
    old = fs.make(b"b")
    fs.rename(b"a", b"b")
    assert fs.read(b"b") == b"new"
    assert fs.names() == [b"b"]
    assert old.nlink == 0


def test_rename_over_a_hard_link_of_itself_does_nothing(fs: InProcess) -> None:
    fs.make(b"a")
    fs.link(b"a", b"b")
    fs.rename(b"a", b"b")
    fs.rename(b"a", b"a")
    assert fs.names() == [b"a", b"b"]
    assert fs.at(b"a").nlink == 2


def test_rename_over_an_empty_directory_takes_its_place(fs: InProcess) -> None:
    for name in (b"a", b"a/in", b"up", b"up/b"):
        fs.mkdir(name)
    moved = fs.at(b"a")
    fs.rename(b"a", b"up/b")
    assert fs.at(b"up/b") is moved
    assert (fs.at(b"").nlink, fs.at(b"up").nlink, moved.nlink) == (3, 3, 3)
    assert fs.tree.path_of(fs.at(b"up/b/in")) == b"up/b/in"


def test_rename_says_what_is_wrong(fs: InProcess) -> None:
    for name in (b"dir", b"full"):
        fs.mkdir(name)
    fs.make(b"full/file")
    fs.make(b"file")
    for old, new, flags, expected in (
        (b"no", b"x", 0, errno.ENOENT),
        (b"file", b"dir", 0, errno.EISDIR),
        (b"dir", b"file", 0, errno.ENOTDIR),
        (b"dir", b"full", 0, errno.ENOTEMPTY),
        (b"file", b"full/file", RENAME_NOREPLACE, errno.EEXIST),
        (b"file", b"file", RENAME_NOREPLACE, errno.EEXIST),
        (b"file", b"no", RENAME_EXCHANGE, errno.ENOENT),
        (b"file", b"no", 8, errno.EINVAL),
        (b"file", b"full/file", RENAME_WHITEOUT | RENAME_EXCHANGE, errno.EINVAL),
        (b"file", b"full/file", RENAME_WHITEOUT | RENAME_NOREPLACE, errno.EEXIST),
        (b"file", b"full/file", RENAME_NOREPLACE | RENAME_EXCHANGE, errno.EINVAL),
        (b".trash", b"x", 0, errno.EPERM),
        (b"dir", b".trash", 0, errno.EPERM),
        (b"file", b".trash", RENAME_EXCHANGE, errno.EPERM),
    ):
        act = lambda old=old, new=new, flags=flags: fs.rename(old, new, flags)  # noqa: E731
        assert errno_of(act) == expected, (old, new, flags)
    assert fs.tree_below() == {b"dir": None, b"file": b"", b"full": None, b"full/file": b""}


def test_noreplace_moves_where_nothing_is(fs: InProcess) -> None:
    fs.make(b"a")
    fs.rename(b"a", b"b", RENAME_NOREPLACE)
    assert fs.names() == [b"b"]


def test_a_whiteout_stays_where_the_name_was(fs: InProcess) -> None:
    fs.write(b"a", b"content")
    fs.write(b"b", b"replaced")
    fs.rename(b"a", b"b", RENAME_WHITEOUT)
    left = fs.at(b"a")
    assert (left.mode, left.rdev, left.nlink) == (stat.S_IFCHR, 0, 1)
    assert fs.read(b"b") == b"content"
    assert [e.origin for e in fs.trash.entries()] == [b"b"]


def test_exchange_swaps_two_names_of_any_kind(fs: InProcess) -> None:
    for name in (b"x", b"y", b"x/dir", b"x/dir/full"):
        fs.mkdir(name)
    fs.write(b"y/file", b"content")
    directory = fs.at(b"x/dir")
    fs.rename(b"x/dir", b"y/file", RENAME_EXCHANGE)
    assert fs.at(b"y/file") is directory
    assert fs.read(b"x/dir") == b"content"
    assert (fs.at(b"x").nlink, fs.at(b"y").nlink) == (2, 3)
    assert fs.tree.path_of(fs.at(b"y/file/full")) == b"y/file/full"
    fs.rename(b"y/file", b"x/dir", RENAME_EXCHANGE)
    assert fs.read(b"y/file") == b"content"
    assert list(fs.trash.entries()) == []


def test_times_of_the_directories_follow(fs: InProcess) -> None:
    fs.mkdir(b"a")
    fs.mkdir(b"b")

    def changed(act: Callable[[], object], *paths: bytes) -> None:
        fs.clock.advance(1)
        act()
        for path in (b"a", b"b"):
            inode = fs.at(path)
            is_now = inode.mtime == inode.ctime == fs.clock.now_ns
            assert is_now == (path in paths), path

    changed(lambda: fs.make(b"a/file"), b"a")
    changed(lambda: fs.link(b"a/file", b"b/link"), b"b")
    changed(lambda: fs.rename(b"a/file", b"b/file"), b"a", b"b")
    changed(lambda: fs.unlink(b"b/file"), b"b")
    changed(lambda: fs.mkdir(b"a/dir"), b"a")
    changed(lambda: fs.rmdir(b"a/dir"), b"a")


def test_what_is_made_in_a_setgid_directory_has_its_group(fs: InProcess) -> None:
    fs.caller = Caller(1000, 1000, 0)
    fs.mkdir(b"plain")
    assert (fs.make(b"plain/file").uid, fs.at(b"plain/file").gid) == (1000, 1000)
    team = fs.mkdir(b"team")
    fs.tree.set_attributes(team, fs.caller, gid=50, mode=0o2775)
    assert fs.make(b"team/file").gid == 50
    assert not fs.at(b"team/file").mode & stat.S_ISGID
    inner = fs.mkdir(b"team/dir")
    assert inner.gid == 50
    assert inner.mode & stat.S_ISGID


def test_chown_clears_set_id_bits_of_programs(fs: InProcess) -> None:
    for name, mode, kept in (
        (b"suid", 0o4755, 0o755),
        (b"sgid", 0o2775, 0o775),
        (b"lock", 0o2644, 0o2644),  # set-group-ID without execution means locking
    ):
        inode = fs.make(name, stat.S_IFREG | mode)
        fs.tree.set_attributes(inode, fs.caller, uid=7)
        assert stat.S_IMODE(inode.mode) == kept
    directory = fs.mkdir(b"dir", 0o2755)
    fs.tree.set_attributes(directory, fs.caller, gid=7)
    assert stat.S_IMODE(directory.mode) == 0o2755


def test_attributes_survive(fs: InProcess) -> None:
    inode = fs.make(b"file")
    fs.clock.advance(1)
    fs.tree.set_attributes(
        inode, fs.caller, mode=0o4711, uid=12, gid=13, atime=-5, mtime=1_700_000_000_123_456_789
    )
    fs.crash()
    found = fs.at(b"file")
    assert stat.S_IMODE(found.mode) == 0o4711
    assert stat.S_ISREG(found.mode)
    assert (found.uid, found.gid, found.atime) == (12, 13, -5)
    assert found.mtime == 1_700_000_000_123_456_789
    assert found.ctime == fs.clock.now_ns


def test_times_out_of_range_become_the_next_in_range(fs: InProcess) -> None:
    inode = fs.make(b"file")
    fs.tree.set_attributes(inode, fs.caller, atime=10**30, mtime=-(10**30))
    fs.crash()
    assert (fs.at(b"file").atime, fs.at(b"file").mtime) == (TIME_LIMIT_NS, -TIME_LIMIT_NS)


def test_a_read_sets_atime_as_relatime_does(fs: InProcess) -> None:
    inode = fs.make(b"file")
    fs.clock.advance(10)
    fs.tree.accessed(inode)
    first = inode.atime
    assert first == fs.clock.now_ns
    fs.clock.advance(3600)
    fs.tree.accessed(inode)
    assert inode.atime == first
    fs.clock.advance(24 * 3600)
    fs.tree.accessed(inode)
    assert inode.atime == fs.clock.now_ns
    fs.tree.flush_times()
    fs.crash()
    assert fs.at(b"file").atime == fs.clock.now_ns


def test_a_listing_goes_on_while_names_come_and_go(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    ino = fs.at(b"dir").ino
    stays = [b"stays %d" % number for number in range(1000)]
    goes = [b"goes %d" % number for number in range(1000)]
    for pair in zip(stays, goes, strict=True):
        for name in pair:
            fs.make(b"dir/" + name)
    seen: list[bytes] = []
    cookie = 0
    step = 0
    while page := list(fs.tree.listing(ino, cookie))[:37]:
        seen += [name for _, _, name, _ in page]
        cookie = page[-1][3]
        for _ in range(15):
            if goes:
                fs.unlink(b"dir/" + goes.pop(0 if step % 2 else -1))
        if step < 20:  # or the listing would never end
            fs.make(b"dir/new %d" % step)
            # A name that was renamed shows at most once under each name.
            fs.rename(b"dir/stays %d" % step, b"dir/renamed %d" % step)
            stays.remove(b"stays %d" % step)
        step += 1
    assert len(seen) == len(set(seen))
    assert set(stays) <= set(seen)
    fresh = [name for _, _, name, _ in fs.tree.listing(ino, 0)]
    assert sorted(fresh) == fs.names(b"dir")
    assert {name for name in fresh if name.startswith(b"goes")} == set(goes)


def test_hard_links_all_stand_in_the_listing(fs: InProcess) -> None:
    fs.make(b"0")
    for number in range(1, 50):
        fs.link(b"0", b"%d" % number)
    assert len(fs.names()) == 50


def test_the_trash_is_found_by_name_and_not_listed(fs: InProcess) -> None:
    assert fs.names() == []
    assert fs.at(b".trash").ino == 2


@pytest.mark.parametrize(
    "act",
    [
        lambda fs: fs.make(b"dir/new"),
        lambda fs: fs.mkdir(b"dir/new"),
        lambda fs: fs.make(b"dir/new", SYMLINK, target=b"x"),
        lambda fs: fs.link(b"file", b"dir/new"),
        lambda fs: fs.unlink(b"file"),
        lambda fs: fs.rmdir(b"dir/sub"),
        lambda fs: fs.rename(b"file", b"dir/new"),
        lambda fs: fs.rename(b"file", b"other"),
        lambda fs: fs.rename(b"dir/sub", b"empty"),
        lambda fs: fs.rename(b"file", b"dir/sub", RENAME_EXCHANGE),
        lambda fs: fs.tree.set_attributes(fs.at(b"file"), fs.caller, mode=0o4700, uid=9),
        lambda fs: fs.tree.xattrs.set(fs.at(b"file").ino, b"user.a", b"1"),
        lambda fs: fs.tree.xattrs.remove(fs.at(b"other").ino, b"user.b"),
        lambda fs: fs.truncate(b"other", 3),
        lambda fs: fs.truncate(b"other", 3_000_000),
        lambda fs: fs.restorer().restore(b"gone/deep"),
    ],
)  # fmt: skip
def test_an_act_that_the_full_disk_refuses_leaves_everything_as_it_was(
    fs: InProcess, act: Callable[[InProcess], object]
) -> None:
    for name in (b"dir", b"dir/sub", b"empty", b"gone"):
        fs.mkdir(name)
    fs.make(b"file")
    fs.write(b"other", b"content")
    fs.write(b"gone/deep", b"removed")
    fs.unlink(b"gone/deep")
    fs.tree.xattrs.set(fs.at(b"other").ino, b"user.b", b"2")
    paths = (b"", b"dir", b"dir/sub", b"empty", b"file", b"other", b".trash")
    fs.files.flush_all()
    before = {path: state(fs.at(path)) for path in paths}
    rows = invariants.rows_in_index(fs.store)
    fs.clock.advance(5)
    failpoints.arm("log.append=1:ENOSPC")
    with pytest.raises(DiskFull):
        act(fs)
    assert failpoints.hits()["log.append"] == 1
    failpoints.disarm()
    assert invariants.rows_in_index(fs.store) == rows
    after = {path: state(fs.at(path)) for path in paths}
    for path, fields in after.items():
        for field in ("mtime", "ctime"):  # noted in memory by truncate, before the disk refused
            if path == b"other":
                fields[field] = before[path][field]
    assert after == before
    invariants.check(fs.store)
    act(fs)  # and with room it works


def test_an_act_that_fails_for_another_reason_is_undone_too(fs: InProcess) -> None:
    inode = fs.make(b"file")
    before = state(inode)

    def act() -> None:
        with fs.tree.act() as act:
            act.change(inode)
            inode.mode = 0
            act.put(keys.link(inode.ino), b"x")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        act()
    assert state(inode) == before
    assert fs.store.get(keys.link(inode.ino)) is None


def test_a_name_is_refused_before_data_may_not_be_removed(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs.make(b"file")

    def full() -> None:
        raise DiskFull("no")

    monkeypatch.setattr(fs.store.space, "admit_name", full)
    for act in (
        lambda: fs.make(b"x"),
        lambda: fs.link(b"file", b"x"),
        lambda: fs.tree.xattrs.set(fs.at(b"file").ino, b"user.a", b""),
    ):
        with pytest.raises(FusefsError):
            act()
    fs.rename(b"file", b"y")
    fs.unlink(b"y")


def test_an_orphan_lives_until_it_is_reaped(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    ino = fs.at(b"dir").ino
    fs.rmdir(b"dir")
    assert fs.tree.orphans() == [ino]
    assert fs.reap(lambda ino: True) == 0
    fs.crash()
    assert fs.tree.orphans() == [ino]
    before = fs.store.totals.inodes
    assert fs.reap()
    assert fs.store.totals.inodes == before - 1
    assert fs.tree.orphans() == []
    assert errno_of(lambda: fs.tree.inode(ino)) == errno.ENOENT


def test_a_path_is_found_for_every_inode(fs: InProcess) -> None:
    fs.mkdir(b"a")
    fs.mkdir(b"a/b")
    inode = fs.make(b"a/b/file")
    assert a_path_of(fs.tree, inode.ino) == b"a/b/file"
    assert fs.tree.path_of(fs.at(b"a/b")) == b"a/b"
    assert fs.tree.path_of(fs.at(b"")) == b""
    assert a_path_of(fs.tree, 999) == b"inode 999"


def test_one_inode_has_one_object_as_long_as_its_file_is_open(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusefs.tree.inodes._KEPT", 3)
    fs.make(b"file")
    handle = fs.opened(b"file")
    for number in range(10):
        fs.make(b"other %d" % number)
    seen_by_stat = fs.at(b"file")
    fs.pwrite(handle, 0, b"content")
    assert fs.at(b"file").size == 7
    fs.files.release(handle)
    fs.tree.set_attributes(seen_by_stat, fs.caller, mode=0o600)
    fs.remount()
    assert fs.read(b"file") == b"content"


def test_formatting_again_changes_nothing(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    rows = invariants.rows_in_index(fs.store)
    fs.tree.format(1, 1)
    assert invariants.rows_in_index(fs.store) == rows
    assert fs.at(b"").mode == DIRECTORY
