"""Nothing that loses its name is lost: it stands in .trash, as it was, where it was."""

import errno
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from fusefs.base import failpoints
from fusefs.base.process import name_of
from fusefs.errors import DiskFull, Refused
from fusefs.model import keys
from fusefs.model.entry import Cause, Entry, Stamp, State
from fusefs.model.inode import ROOT_INO
from fusefs.tree.removal import Caller
from fusefs.tree.tree import RENAME_EXCHANGE
from tests.unit import invariants
from tests.unit.inprocess import REGULAR, SYMLINK, InProcess

HOUR = b".trash/2027-01-15T08"  # of the manual clock


def errno_of(act: Callable[[], object]) -> int:
    with pytest.raises(Refused) as caught:
        act()
    return caught.value.errno


def entries(fs: InProcess) -> list[Entry]:
    return fs.pending()


def test_an_unlinked_file_stands_in_the_trash_with_all_it_had(fs: InProcess) -> None:
    fs.mkdir(b"docs")
    fs.write(b"docs/a.txt", b"content")
    inode = fs.at(b"docs/a.txt")
    fs.tree.set_attributes(inode, fs.caller, mode=0o640, uid=7, gid=8, mtime=5)
    fs.tree.xattrs.set(inode.ino, b"user.note", b"mine")
    fs.caller = Caller(7, 8, 1)
    fs.clock.advance(3)
    fs.unlink(b"docs/a.txt")
    assert fs.names(b"docs") == []
    fs.crash()
    assert fs.read(HOUR + b"/docs/a.txt") == b"content"
    found = fs.at(HOUR + b"/docs/a.txt")
    assert (found.ino, found.uid, found.gid, found.mtime) == (inode.ino, 7, 8, 5)
    assert stat.S_IMODE(found.mode) == 0o640
    assert fs.tree.xattrs.get(found.ino, b"user.note") == b"mine"
    (entry,) = entries(fs)
    assert (entry.origin, entry.uid, entry.cause) == (b"docs/a.txt", 7, Cause.UNLINK)
    assert entry.state is State.PENDING
    assert entry.history == (Stamp(State.PENDING, entry.deleted_ns, "unlink"),)
    assert entry.deleted_ns == fs.clock.now_ns
    assert fs.trash.path_in_trash(entry) == HOUR + b"/docs/a.txt"
    assert fs.trash.ledger.find(entry.number) == entry
    assert fs.trash.ledger.find(99999) is None


def test_every_kind_of_thing_goes_to_the_trash(fs: InProcess) -> None:
    fs.make(b"link", SYMLINK, target=b"where")
    fs.make(b"fifo", stat.S_IFIFO | 0o600)
    for name in (b"link", b"fifo"):
        fs.unlink(name)
    assert fs.tree.readlink(fs.at(HOUR + b"/link").ino) == b"where"
    assert [entry.kind for entry in entries(fs)] == [stat.S_IFLNK, stat.S_IFIFO]


def test_waiting_bytes_go_to_the_trash_with_their_file(fs: InProcess) -> None:
    fs.make(b"file")
    handle = fs.opened(b"file")
    fs.pwrite(handle, 0, b"written, not yet stored")
    fs.unlink(b"file")
    fs.files.release(handle)
    assert fs.read(HOUR + b"/file") == b"written, not yet stored"


def test_what_a_rename_overwrites_goes_to_the_trash(fs: InProcess) -> None:
    fs.write(b"new", b"new")
    fs.write(b"file", b"old")
    fs.rename(b"new", b"file")
    assert fs.read(b"file") == b"new"
    assert fs.read(HOUR + b"/file") == b"old"
    assert [entry.cause for entry in entries(fs)] == [Cause.RENAME]


def test_an_exchange_loses_nothing(fs: InProcess) -> None:
    fs.make(b"a")
    fs.make(b"b")
    fs.rename(b"a", b"b", RENAME_EXCHANGE)
    assert entries(fs) == []


def test_a_removed_tree_stands_in_the_trash_as_it_was(fs: InProcess) -> None:
    fs.mkdir(b"proj", 0o750)
    fs.mkdir(b"proj/src", 0o2711)
    fs.mkdir(b"proj/empty", 0o700)
    fs.tree.set_attributes(fs.at(b"proj/src"), fs.caller, uid=7, gid=8)
    fs.tree.xattrs.set(fs.at(b"proj/src").ino, b"user.a", b"1")
    fs.write(b"proj/src/main.c", b"int main;")
    for act, path in (
        (fs.unlink, b"proj/src/main.c"),
        (fs.rmdir, b"proj/src"),
        (fs.rmdir, b"proj/empty"),
        (fs.rmdir, b"proj"),
    ):
        act(path)
    fs.crash()
    assert fs.names() == []
    proj = HOUR + b"/proj"
    assert fs.tree_below(proj) == {
        proj + b"/empty": None,
        proj + b"/src": None,
        proj + b"/src/main.c": b"int main;",
    }
    for path, mode in ((b"", 0o750), (b"/src", 0o2711), (b"/empty", 0o700)):
        assert stat.S_IMODE(fs.at(proj + path).mode) == mode
    source = fs.at(proj + b"/src")
    assert (source.uid, source.gid) == (7, 8)
    assert fs.tree.xattrs.get(source.ino, b"user.a") == b"1"


def test_the_mirror_has_the_last_attributes_of_its_directory(fs: InProcess) -> None:
    fs.mkdir(b"dir", 0o700)
    fs.make(b"dir/file")
    fs.unlink(b"dir/file")
    directory = fs.at(b"dir")
    fs.tree.set_attributes(directory, fs.caller, mode=0o555, uid=7)
    fs.tree.xattrs.set(directory.ino, b"user.late", b"1")
    fs.rmdir(b"dir")
    mirror = fs.at(HOUR + b"/dir")
    assert (stat.S_IMODE(mirror.mode), mirror.uid) == (0o555, 7)
    assert fs.tree.xattrs.get(mirror.ino, b"user.late") == b"1"


def test_a_private_directory_is_private_in_the_trash(fs: InProcess) -> None:
    fs.mkdir(b"home")
    private = fs.mkdir(b"home/secret", 0o700)
    fs.tree.set_attributes(private, fs.caller, uid=7)
    fs.make(b"home/secret/file")
    fs.unlink(b"home/secret/file")
    mirror = fs.at(HOUR + b"/home/secret")
    assert (stat.S_IMODE(mirror.mode), mirror.uid) == (0o700, 7)


@pytest.mark.parametrize(
    "name", [b"file", b"n" * 255, b"\xff" * 255, "ü".encode() * 127 + b"x", b".~3~"]
)
def test_the_same_name_removed_many_times_is_there_as_often(fs: InProcess, name: bytes) -> None:
    for number in range(20):
        fs.write(name, b"%d" % number)
        fs.unlink(name)
    found = fs.names(HOUR)
    assert len(found) == 20
    assert name in found
    assert all(len(one) <= 255 for one in found)
    assert {fs.read(HOUR + b"/" + one) for one in found} == {b"%d" % n for n in range(20)}
    for entry in entries(fs):
        assert entry.origin == name
        assert entry.name == name or entry.name.endswith(b".~%d~" % entry.number)


def test_a_name_that_looks_like_ours_is_not_overwritten(fs: InProcess) -> None:
    fs.write(b"file", b"1")
    fs.unlink(b"file")
    # Whatever number the next entry gets, its suffixed name is taken already.
    for number in range(fs.store.counters.cookie, fs.store.counters.cookie + 300):
        fs.write(b"file.~%d~" % number, b"mine")
    for number in range(fs.store.counters.cookie - 299, fs.store.counters.cookie + 1):
        if fs.tree.lookup(1, b"file.~%d~" % number):
            fs.unlink(b"file.~%d~" % number)
    before = len(fs.names(HOUR))
    following = fs.store.counters.cookie + 2  # one for the file, then the one in the trash
    fs.write(b"file.~%d~" % (following + 2), b"mine")
    fs.unlink(b"file.~%d~" % (following + 2))
    fs.write(b"file", b"2")
    fs.unlink(b"file")
    assert len(fs.names(HOUR)) == before + 2
    invariants.check(fs.store)


def test_a_file_and_a_directory_of_one_name_stand_side_by_side(fs: InProcess) -> None:
    fs.write(b"x", b"file")
    fs.unlink(b"x")
    fs.mkdir(b"x")
    fs.write(b"x/in", b"inside")
    fs.unlink(b"x/in")
    fs.rmdir(b"x")
    fs.write(b"x", b"file again")
    fs.unlink(b"x")
    contents = sorted(content for content in fs.tree_below(HOUR).values() if content is not None)
    assert contents == [b"file", b"file again", b"inside"]


def test_a_directory_removed_many_times_is_there_as_often(fs: InProcess) -> None:
    for number in range(3):
        fs.mkdir(b"dir", 0o700 + number)
        fs.write(b"dir/%d" % number, b"%d" % number)
        fs.unlink(b"dir/%d" % number)
        fs.rmdir(b"dir")
    removed = [entry for entry in entries(fs) if entry.kind == stat.S_IFDIR]
    assert [entry.origin for entry in removed] == [b"dir"] * 3
    for number, entry in enumerate(removed):
        assert fs.names(fs.trash.path_in_trash(entry)) == [b"%d" % number]
        assert stat.S_IMODE(fs.tree.inode(entry.ino).mode) == 0o700 + number
    fs.restorer().restore(removed[1].number)
    assert fs.tree_below(b"dir") == {b"dir/1": b"1"}


def test_each_hour_has_a_directory_of_its_own(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    for number in range(3):
        fs.make(b"dir/file")
        fs.unlink(b"dir/file")
        assert len(fs.names(b".trash")) == number + 1
        fs.clock.advance(3600)
    assert [fs.names(b".trash/" + hour) for hour in fs.names(b".trash")] == [[b"dir"]] * 3


def test_a_path_is_the_one_that_the_file_had_when_it_was_removed(fs: InProcess) -> None:
    for name in (b"a", b"a/b"):
        fs.mkdir(name)
    fs.make(b"a/b/one")
    fs.make(b"a/b/two")
    fs.unlink(b"a/b/one")
    fs.rename(b"a", b"z")
    fs.unlink(b"z/b/two")
    assert [entry.origin for entry in entries(fs)] == [b"a/b/one", b"z/b/two"]
    assert fs.names(HOUR) == [b"a", b"z"]
    assert fs.names(HOUR + b"/z/b") == [b"two"]


def test_a_hard_link_that_goes_leaves_the_others(fs: InProcess) -> None:
    fs.write(b"a", b"content")
    fs.link(b"a", b"b")
    inode = fs.at(b"a")
    fs.unlink(b"a")
    assert (inode.nlink, inode.trash_names) == (1, 1)
    assert not fs.files.is_frozen(inode)
    fs.write(b"b", b"CONTENT")  # one inode: the name in the trash shows it too
    assert fs.read(HOUR + b"/a") == b"CONTENT"
    fs.unlink(b"b")
    assert (inode.nlink, inode.trash_names) == (0, 2)
    assert fs.files.is_frozen(inode)
    fs.rename(HOUR + b"/a", b"back")
    assert (inode.nlink, inode.trash_names) == (1, 1)
    fs.unlink(HOUR + b"/b")
    assert (inode.nlink, inode.trash_names) == (1, 0)
    assert fs.read(b"back") == b"CONTENT"


def test_what_is_in_the_trash_cannot_be_written(fs: InProcess) -> None:
    fs.write(b"file", b"content")
    fs.unlink(b"file")
    assert errno_of(lambda: fs.opened(HOUR + b"/file")) == errno.EPERM
    assert fs.read(HOUR + b"/file") == b"content"


def test_who_had_it_open_may_go_on_until_he_closes_it(fs: InProcess) -> None:
    fs.write(b"file", b"content")
    handle = fs.opened(b"file")
    fs.unlink(b"file")
    fs.pwrite(handle, 0, b"CON")
    again = fs.opened(HOUR + b"/file")
    fs.files.release(again)
    fs.files.release(handle)
    assert errno_of(lambda: fs.opened(HOUR + b"/file")) == errno.EPERM
    assert fs.read(HOUR + b"/file") == b"CONtent"


def test_nothing_is_made_linked_or_moved_into_the_trash(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    fs.make(b"file")
    fs.make(b"gone")
    fs.unlink(b"gone")
    for place in (b".trash", HOUR):
        for act in (
            lambda place=place: fs.make(place + b"/x"),
            lambda place=place: fs.mkdir(place + b"/x"),
            lambda place=place: fs.make(place + b"/x", SYMLINK, target=b"y"),
            lambda place=place: fs.link(b"file", place + b"/x"),
            lambda place=place: fs.rename(b"file", place + b"/x"),
            lambda place=place: fs.rename(b"dir", place + b"/x"),
        ):
            assert errno_of(act) == errno.EPERM
    for act in (
        lambda: fs.rename(HOUR + b"/gone", HOUR + b"/x"),
        lambda: fs.rename(b"file", HOUR + b"/gone"),
        lambda: fs.rename(b"file", HOUR + b"/gone", RENAME_EXCHANGE),
        lambda: fs.rename(HOUR + b"/gone", b"file", RENAME_EXCHANGE),
        lambda: fs.link(HOUR + b"/gone", b"x"),
        lambda: fs.rmdir(b".trash"),
    ):
        assert errno_of(act) == errno.EPERM
    assert fs.tree_below(b".trash") == {HOUR: None, HOUR + b"/gone": b""}


def test_removing_inside_the_trash_frees(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    fs.write(b"dir/file", b"content" * 100)
    fs.unlink(b"dir/file")
    fs.rmdir(b"dir")
    fs.unlink(HOUR + b"/dir/file")
    fs.rmdir(HOUR + b"/dir")
    fs.rmdir(HOUR)
    assert entries(fs) == []
    assert fs.names(b".trash") == []
    invariants.check(fs.store)
    assert len(fs.tree.orphans()) == 4  # the directory, its file, its mirror, the hour's
    assert fs.reap()
    assert fs.store.totals.inodes == 2
    assert not list(fs.store.scan(keys.EXTENT))
    fs.crash()
    assert fs.store.totals.inodes == 2
    fs.make(b"next")
    fs.unlink(b"next")
    assert fs.names(HOUR) == [b"next"]


def test_a_directory_of_the_trash_that_is_not_empty_stays(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    fs.make(b"dir/file")
    fs.unlink(b"dir/file")
    assert errno_of(lambda: fs.rmdir(HOUR + b"/dir")) == errno.ENOTEMPTY


def test_mirrors_that_were_purged_are_made_again(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    for _ in range(3):
        fs.make(b"dir/file")
        fs.unlink(b"dir/file")
        fs.unlink(HOUR + b"/dir/file")
        fs.rmdir(HOUR + b"/dir")
        fs.rmdir(HOUR)
        fs.reap()
    assert fs.names(b".trash") == []


def test_after_a_removal_that_failed_the_next_one_works(fs: InProcess) -> None:
    fs.mkdir(b"dir")
    fs.make(b"dir/file")
    failpoints.arm("log.append=1:ENOSPC")
    with pytest.raises(DiskFull):
        fs.unlink(b"dir/file")
    failpoints.disarm()
    assert fs.names(b"dir") == [b"file"]
    fs.unlink(b"dir/file")
    assert fs.names(HOUR + b"/dir") == [b"file"]


def test_one_mv_takes_a_whole_tree_back(fs: InProcess) -> None:
    paths = [b"proj", b"proj/a", b"proj/a/b"]
    for path in paths:
        fs.mkdir(path)
    files = {b"proj/%d" % number: b"%d" % number for number in range(10)}
    files |= {b"proj/a/b/x": b"deep", b"proj/a/y": b"y"}
    for path, content in files.items():
        fs.write(path, content)
    fs.link(b"proj/1", b"proj/a/linked")
    for path in [*files, b"proj/a/linked"]:
        fs.unlink(path)
    for path in reversed(paths):
        fs.rmdir(path)
    fs.rename(HOUR + b"/proj", b"back")
    expected = {path.replace(b"proj", b"back", 1): content for path, content in files.items()}
    expected |= {b"back/a": None, b"back/a/b": None, b"back/a/linked": b"1"}
    assert fs.tree_below(b"back") == expected
    assert fs.at(b"back/1") is fs.at(b"back/a/linked")
    assert fs.at(b"back/1").nlink == 2
    assert entries(fs) == []
    invariants.check(fs.store)
    fs.crash()
    fs.write(b"back/a/new", b"it lives")
    fs.unlink(b"back/a/new")
    assert [entry.origin for entry in entries(fs)] == [b"back/a/new"]


def test_a_large_tree_comes_back_in_several_acts(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusefs.trash.trash.STEP", 7)
    fs.mkdir(b"dir")
    for number in range(50):
        fs.write(b"dir/%d" % number, b"%d" % number)
        fs.unlink(b"dir/%d" % number)
    fs.rmdir(b"dir")
    fs.rename(HOUR + b"/dir", b"dir")
    assert len(fs.names(b"dir")) == 50
    assert entries(fs) == []
    invariants.check(fs.store)


def test_a_large_tree_whose_return_was_cut_short_is_taken_back_by_the_next_start(
    fs: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusefs.trash.trash.STEP", 7)
    fs.mkdir(b"dir")
    for number in range(50):
        fs.write(b"dir/%d" % number, b"%d" % number)
        fs.unlink(b"dir/%d" % number)
    fs.rmdir(b"dir")
    failpoints.arm("log.append=4:ENOSPC")
    with pytest.raises(DiskFull):
        fs.rename(HOUR + b"/dir", b"dir")
    failpoints.disarm()
    fs.crash()
    assert len(fs.names(b"dir")) == 50
    assert entries(fs) == []
    assert {fs.read(b"dir/" + name) for name in fs.names(b"dir")} == {
        b"%d" % number for number in range(50)
    }
    invariants.check(fs.store)


def test_a_file_of_the_trash_moved_over_a_live_one_changes_places(fs: InProcess) -> None:
    fs.write(b"file", b"first")
    fs.unlink(b"file")
    fs.write(b"file", b"second")
    fs.rename(HOUR + b"/file", b"file")
    assert fs.read(b"file") == b"first"
    (entry,) = entries(fs)
    assert fs.read(fs.trash.path_in_trash(entry)) == b"second"


def test_the_name_of_the_process_is_kept(fs: InProcess) -> None:
    fs.caller = Caller(0, 0, os.getpid())
    fs.make(b"file")
    fs.unlink(b"file")
    with open("/proc/self/comm", "rb") as comm:
        assert entries(fs)[0].process == comm.read().rstrip(b"\n")
    fs.caller = Caller(0, 0, 2**22 + 1)  # no such process
    fs.tree.make(1, b"other", REGULAR, fs.caller)
    fs.unlink(b"other")
    assert entries(fs)[1].process == b""


def test_what_the_threads_of_a_process_remove_is_one_removal(fs: InProcess) -> None:
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        for name, pool in ((b"one", first), (b"other", second)):
            fs.make(name)
            fs.caller = Caller(0, 0, pool.submit(threading.get_native_id).result())
            fs.unlink(name)
    one, other = entries(fs)
    assert one.batch == other.batch
    assert one.process == name_of(os.getpid())


def test_deeper_than_any_stack_is_removed_and_taken_back(fs: InProcess) -> None:
    depth = 1500
    parent = fs.mkdir(b"top").ino
    for _ in range(depth):
        parent = fs.tree.make(parent, b"d", stat.S_IFDIR | 0o755, fs.caller).ino
    fs.tree.make(parent, b"file", stat.S_IFREG | 0o644, fs.caller)
    fs.tree.unlink(parent, b"file", fs.caller)
    while parent != ROOT_INO:
        inode = fs.tree.inode(parent)
        parent = inode.parent
        fs.tree.rmdir(parent, fs.tree.name_of(inode), fs.caller)
    assert fs.names() == []
    path = b"top" + b"/d" * depth + b"/file"
    assert fs.restorer().restore(path) == [path]
    assert fs.at(path).nlink == 1
