"""What was removed comes back where it was, over nothing."""

import stat

import pytest

from fusefs.errors import NoSuchEntry, NotPermitted, TargetExists
from fusefs.trash.policy import ATTRIBUTE
from fusefs.tree.removal import Caller
from tests.unit import invariants
from tests.unit.inprocess import InProcess

HOUR = b".trash/2027-01-15T08"


def remove_tree(fs: InProcess, path: bytes) -> None:
    for name in fs.names(path):
        inner = path + b"/" + name
        if fs.at(inner).is_dir:
            remove_tree(fs, inner)
        else:
            fs.unlink(inner)
    fs.rmdir(path)


def a_project(fs: InProcess) -> dict[bytes, bytes | None]:
    fs.mkdir(b"home", 0o711)
    fs.mkdir(b"home/proj", 0o2750)
    fs.mkdir(b"home/proj/src", 0o700)
    fs.tree.set_attributes(fs.at(b"home/proj"), fs.caller, uid=7, gid=8)
    fs.tree.xattrs.set(fs.at(b"home/proj").ino, b"user.a", b"1")
    fs.write(b"home/proj/readme", b"read me")
    fs.write(b"home/proj/src/main", b"main")
    return fs.tree_below(b"home/proj")


def test_by_id_by_path_and_by_path_in_the_trash(fs: InProcess) -> None:
    for target in ("id", b"file", b"/file", HOUR + b"/file"):
        fs.write(b"file", b"content")
        fs.unlink(b"file")
        (entry,) = fs.pending()
        restorer = fs.restorer()
        wanted = entry.number if isinstance(target, str) else target
        assert restorer.restore(wanted) == [b"file"]
        assert restorer.appeared == [(1, b"file")]
        assert fs.read(b"file") == b"content"
        assert not fs.pending()
        fs.unlink(b"file")
        fs.unlink(HOUR + b"/file")


def test_a_path_removed_several_times_means_the_last(fs: InProcess) -> None:
    for number in range(3):
        fs.write(b"file", b"%d" % number)
        fs.unlink(b"file")
    fs.restorer().restore(b"file")
    assert fs.read(b"file") == b"2"
    fs.restorer().restore(b"file", b"before")
    assert fs.read(b"before") == b"1"


def test_what_stands_at_the_target_stays_and_the_entry_too(fs: InProcess) -> None:
    fs.write(b"file", b"old")
    fs.unlink(b"file")
    fs.write(b"file", b"new")
    fs.mkdir(b"dir")
    for target, to in ((b"file", None), (b"file", b"dir"), (b"file", b"/"), (b"file", b"file/x")):
        with pytest.raises(TargetExists, match=r"--to|no directory"):
            fs.restorer().restore(target, to)
    assert fs.read(b"file") == b"new"
    assert len(fs.pending()) == 1
    assert fs.restorer().restore(b"file", b"dir/file.old") == [b"dir/file.old"]
    assert fs.read(b"dir/file.old") == b"old"


def test_nothing_is_restored_into_the_trash(fs: InProcess) -> None:
    fs.write(b"file", b"old")
    fs.unlink(b"file")
    for to in (b".trash/file", HOUR + b"/again"):
        with pytest.raises(TargetExists):
            fs.restorer().restore(b"file", to)


@pytest.mark.parametrize(
    "target", [99, b"never", b".trash/never/was", b".trash", HOUR, b".trash/x"]
)
def test_what_is_not_in_the_trash_is_said(fs: InProcess, target: int | bytes) -> None:
    fs.write(b"file", b"old")
    fs.unlink(b"file")
    with pytest.raises((NoSuchEntry, TargetExists)):
        fs.restorer().restore(target)
    assert len(fs.pending()) == 1


def test_parents_that_are_gone_are_made_again_as_they_were(fs: InProcess) -> None:
    a_project(fs)
    remove_tree(fs, b"home")
    fs.restorer().restore(b"home/proj/src/main")
    assert fs.tree_below() == {
        b"home": None,
        b"home/proj": None,
        b"home/proj/src": None,
        b"home/proj/src/main": b"main",
    }
    for path, mode in ((b"home", 0o711), (b"home/proj", 0o2750), (b"home/proj/src", 0o2700)):
        assert stat.S_IMODE(fs.at(path).mode) == mode
    proj = fs.at(b"home/proj")
    assert (proj.uid, proj.gid) == (7, 8)
    assert fs.tree.xattrs.get(proj.ino, b"user.a") == b"1"
    invariants.check(fs.store)


def test_a_directory_comes_back_with_everything_in_it(fs: InProcess) -> None:
    before = a_project(fs)
    remove_tree(fs, b"home/proj")
    restorer = fs.restorer()
    assert restorer.restore(b"home/proj") == [b"home/proj"]
    assert restorer.appeared == [(fs.at(b"home").ino, b"proj")]
    assert fs.tree_below(b"home/proj") == before
    proj = fs.at(b"home/proj")
    assert (stat.S_IMODE(proj.mode), proj.uid, proj.gid) == (0o2750, 7, 8)
    assert not fs.pending()
    fs.write(b"home/proj/src/main", b"alive")
    fs.crash()
    assert fs.read(b"home/proj/src/main") == b"alive"


def test_the_parents_of_a_directory_come_back_as_they_were_too(fs: InProcess) -> None:
    before = a_project(fs)
    remove_tree(fs, b"home")
    fs.restorer().restore(b"home/proj/src")
    proj = fs.at(b"home/proj")
    assert (stat.S_IMODE(proj.mode), proj.uid) == (0o2750, 7)
    assert stat.S_IMODE(fs.at(b"home").mode) == 0o711
    fs.restorer().restore(b"home")  # the rest is laid into what is there
    assert fs.tree_below(b"home/proj") == before
    invariants.check(fs.store)


def test_a_directory_that_lives_takes_back_what_was_removed_from_it(fs: InProcess) -> None:
    before = a_project(fs)
    remove_tree(fs, b"home/proj/src")
    fs.unlink(b"home/proj/readme")
    fs.write(b"home/proj/new", b"new")
    restored = fs.restorer().restore(b"home/proj")
    assert sorted(restored) == [b"home/proj/readme", b"home/proj/src"]
    assert fs.tree_below(b"home/proj") == before | {b"home/proj/new": b"new"}


def test_a_directory_can_come_back_elsewhere(fs: InProcess) -> None:
    before = a_project(fs)
    remove_tree(fs, b"home/proj")
    fs.restorer().restore(HOUR + b"/home/proj", b"/else/where")
    expected = {path.replace(b"home/proj", b"else/where"): c for path, c in before.items()}
    assert fs.tree_below(b"else/where") == expected


@pytest.mark.parametrize("to", [None, b"new/place/file"])
def test_a_rule_of_the_trash_stays_where_it_was_given(fs: InProcess, to: bytes | None) -> None:
    """Else what is removed in the new place would go for good, for which nobody has asked."""
    fs.mkdir(b"home")
    fs.mkdir(b"home/proj")
    fs.write(b"home/proj/file", b"content")
    for name, value in ((ATTRIBUTE, b"90d"), (b"user.colour", b"blue")):
        fs.tree.xattrs.set(fs.at(b"home/proj").ino, name, value)
    remove_tree(fs, b"home")
    fs.restorer().restore(b"home/proj/file", to)
    made = fs.at(b"new/place" if to else b"home/proj")
    expected = {b"user.colour"} if to else {b"user.colour", ATTRIBUTE}
    assert set(fs.tree.xattrs.names(made.ino)) == expected


def test_a_file_in_the_way_of_a_merge_stays(fs: InProcess) -> None:
    a_project(fs)
    fs.unlink(b"home/proj/readme")
    fs.write(b"home/proj/readme", b"newer")
    with pytest.raises(TargetExists, match="readme"):
        fs.restorer().restore(HOUR + b"/home/proj")
    assert fs.read(b"home/proj/readme") == b"newer"
    assert fs.read(HOUR + b"/home/proj/readme") == b"read me"


def test_the_latest_hour_wins(fs: InProcess) -> None:
    for number in range(3):
        fs.mkdir(b"dir")
        fs.write(b"dir/file", b"%d" % number)
        remove_tree(fs, b"dir")
        fs.clock.advance(3600)
    fs.restorer().restore(b"dir")
    assert fs.read(b"dir/file") == b"2"


def test_others_may_not_take_what_is_not_theirs(fs: InProcess) -> None:
    a_project(fs)
    fs.tree.set_attributes(fs.at(b"home/proj/readme"), fs.caller, uid=7)
    remove_tree(fs, b"home/proj")
    stranger, owner = Caller(99, 99, 0), Caller(7, 7, 0)
    for target in (b"home/proj/readme", b"home/proj", HOUR + b"/home/proj/readme"):
        with pytest.raises(NotPermitted, match="another user"):
            fs.restorer(stranger).restore(target)
    assert fs.names(b"home") == []
    assert fs.restorer(owner).restore(b"home/proj/readme") == [b"home/proj/readme"]


def test_a_restored_hard_link_is_the_same_inode_again(fs: InProcess) -> None:
    fs.write(b"a", b"content")
    fs.link(b"a", b"b")
    fs.unlink(b"a")
    fs.restorer().restore(b"a")
    assert fs.at(b"a") is fs.at(b"b")
    assert fs.at(b"a").nlink == 2


def test_a_name_that_only_looks_like_a_numbered_one_is_another(fs: InProcess) -> None:
    fs.mkdir(b"x.~y")
    fs.write(b"x.~y/file", b"content")
    fs.unlink(b"x.~y/file")
    with pytest.raises(NoSuchEntry):
        fs.restorer().restore(b"x")
    assert fs.names() == [b"x.~y"]
    assert fs.names(b"x.~y") == []


@pytest.mark.parametrize("length", [1, 229, 230, 231, 240, 252, 255])
def test_names_of_any_length_mean_the_last_removal(fs: InProcess, length: int) -> None:
    for number in range(3):
        fs.write(b"n" * length, b"%d" % number)
        fs.unlink(b"n" * length)
    for number in (2, 1, 0):
        fs.restorer().restore(b"n" * length, b"%d" % number)
        assert fs.read(b"%d" % number) == b"%d" % number
