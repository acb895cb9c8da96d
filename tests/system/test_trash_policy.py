"""What the trash keeps and for how long: the policy of the store, rules of directories, what tools
leave behind, caps, and mounts without trash."""

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.conftest import Mounted, fusefs, run_fusefs
from tests.disks import small_ext4
from tests.system.test_bad_input import assert_refused
from tests.system.test_tools import needs
from tests.system.test_tools import run as run_tool
from tests.system.trashcan import TrashCan, look, remove, until

pytestmark = pytest.mark.mount

MIB = 1 << 20
RULE = "user.fusefs.trash"


@pytest.fixture
def top(mounted: Mounted) -> Path:
    return mounted.mnt


@pytest.fixture
def can(mounted: Mounted) -> TrashCan:
    return TrashCan(mounted.mnt)


def paths(can: TrashCan) -> list[str]:
    """What is in the trash, oldest first."""
    return [one["original_path"].lstrip("/") for one in can.lines("--all")]


def policy(path: Path, *words: str) -> dict[str, object]:
    record: dict[str, object] = look("trash", "policy", "--json", path, *words)
    return record


# -- rules


def test_a_directory_without_trash(top: Path, can: TrashCan) -> None:
    """By the verb, and by the attribute that it sets; for all below; and until it is cleared."""
    below = top / "cache/deep"
    below.mkdir(parents=True)
    assert policy(top / "cache", "set", "skip")["keeps"] == "nothing"
    assert os.getxattr(top / "cache", RULE) == b"skip"
    remove(below / "1")
    remove(top / "2")
    assert paths(can) == ["2"]
    answer = policy(below)
    assert (answer["keeps"], answer["because_of"], answer["rule"]) == (
        "nothing", "/cache", "inherit",
    )  # fmt: skip
    os.setxattr(below, RULE, b"5d")
    policy(top / "cache", "clear")
    assert RULE not in os.listxattr(top / "cache")
    remove(below / "3")
    assert paths(can) == ["2", "cache/deep/3"]
    assert policy(below)["keeps"] == "5d"
    os.removexattr(below, RULE)
    assert policy(below)["keeps"] == "7d"
    assert policy(below)["because_of"] == "the store"


def test_a_single_file_without_trash(top: Path, can: TrashCan) -> None:
    for name, rule in (("skipped", b"skip"), ("zero", b"0"), ("kept", b"inherit")):
        (top / name).touch()
        os.setxattr(top / name, RULE, rule)
        (top / name).unlink()
    assert paths(can) == ["kept"]


def test_a_rule_is_for_what_is_there_already(top: Path, can: TrashCan) -> None:
    for name in ("forever", "zero"):
        (top / name).mkdir()
        remove(top / name / "file")
    policy(top / "forever", "set", "forever")
    policy(top / "zero", "set", "0")
    until(lambda: paths(can) == ["forever/file"])
    until(lambda: can.lines()[0]["purge_at"] is None)
    can.set("keep=1s")
    remove(top / "short")
    until(lambda: paths(can) == ["forever/file"])


def test_a_store_without_trash(top: Path, can: TrashCan) -> None:
    can.set("keep=0")
    remove(top / "gone")
    assert paths(can) == []
    policy(top, "clear")
    remove(top / "kept")
    assert paths(can) == ["kept"]


def test_a_policy_that_makes_no_sense(top: Path) -> None:
    (top / "file").touch()
    before = policy(top)
    for setting in ("keep=soon", "colour=red", "max-size=-1"):
        done = run_fusefs("trash", "policy", top, "set", setting)
        assert_refused(done, 36, setting.partition("=")[0])
    assert_refused(run_fusefs("trash", "policy", top / "file", "set", "max-size=1G"), 36, "store")
    assert_refused(run_fusefs("trash", "policy", top / "none"), 30, "/none")
    for value in (b"soon", b"", b"\xff"):
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            os.setxattr(top / "file", RULE, value)
    assert policy(top) == before
    assert os.listxattr(top / "file") == []


# -- what a rename or a truncation overwrites


def test_what_a_rename_overwrites_can_be_taken_back(top: Path, can: TrashCan) -> None:
    for switch, expected in (("off", []), ("on", ["b"])):
        can.set(f"replaced={switch}")
        (top / "a").write_text("new")
        (top / "b").write_text("old")
        subprocess.run(["mv", top / "a", top / "b"], check=True)
        assert paths(can) == expected
    assert can.entry("b")["cause"] == "rename-over"
    fusefs("trash", "restore", top, can.id_of("b"), "--to", top / "old")
    assert [(top / name).read_text() for name in ("b", "old")] == ["new", "old"]


def test_what_a_truncation_overwrites_is_not_kept(top: Path, can: TrashCan) -> None:
    """Neither by O_TRUNC nor by truncate(2): the name stays, so nothing was removed."""
    (top / "file").write_text("old")
    (top / "file").write_text("new")
    os.truncate(top / "file", 1)
    assert paths(can) == []


# -- temporary names of tools; with `skip=none` the trash has them


@needs("sed")
def test_sed_leaves_the_old_file(top: Path, can: TrashCan) -> None:
    (top / "file").write_text("old\n")
    run_tool("sed", "-i", "s/old/new/", top / "file")
    assert paths(can) == ["file"]
    fusefs("trash", "restore", top / "file", "--to", top / "back")
    assert [(top / name).read_text() for name in ("file", "back")] == ["new\n", "old\n"]


@needs("rsync")
@pytest.mark.parametrize("skips", ["usual", "none"])
def test_rsync_leaves_old_files_alone(top: Path, can: TrashCan, tmp_path: Path, skips: str) -> None:
    can.set(f"skip={skips}")
    source = tmp_path / "source"
    source.mkdir()
    (source / "kept").write_text("1")
    (source / "gone").write_text("1")
    run_tool("rsync", "-a", f"{source}/", f"{top}/")
    assert paths(can) == []
    (source / "kept").write_text("22")
    (source / "gone").unlink()
    run_tool("rsync", "-a", "--delete", f"{source}/", f"{top}/")
    assert sorted(paths(can)) == ["gone", "kept"]
    # An interrupted one takes its temporary file away.
    (source / "large").write_bytes(bytes(64 * MIB))
    with subprocess.Popen(["rsync", "-a", "--bwlimit=1000", f"{source}/", f"{top}/"]) as process:
        until(lambda: list(top.glob(".large.*")))
        process.terminate()
    until(lambda: not list(top.glob(".large.*")))
    temporary = [name for name in paths(can) if name.startswith(".large.")]
    assert len(temporary) == (skips == "none")


@needs("vim")
@pytest.mark.parametrize("skips", ["usual", "none"])
def test_vim_leaves_old_files_alone(top: Path, can: TrashCan, skips: str) -> None:
    can.set(f"skip={skips}")
    (top / "file").write_text("old\n")
    command = ["vim", "-N", "-u", "NONE", "-i", "NONE", "-e", "-s", "-c", "set backupcopy=no"]
    run_tool(*command, "-c", "%s/old/new/", "-c", "wq", top / "file")
    assert (top / "file").read_text() == "new\n"
    assert os.listdir(top) == ["file"]
    usual = {".file.swp", ".file.swpx", ".file.swx", "4913", "file~"}
    assert set(paths(can)) <= ({"file"} if skips == "usual" else usual | {"file"})
    assert bool(set(paths(can)) & usual) == (skips == "none")


@needs("git")
@pytest.mark.parametrize("skips", ["usual", "none"])
def test_git_leaves_old_files_alone(top: Path, can: TrashCan, tmp_path: Path, skips: str) -> None:
    can.set(f"skip={skips}")
    who = {
        f"GIT_{one}_{what}": "a@b" for one in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    environ = {"HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1", **who}
    run_tool("git", "init", "-q", top / "work", environ=environ)
    for number in range(3):
        (top / f"work/file {number}").write_text(f"{number}")
        run_tool("git", "add", ".", cwd=top / "work", environ=environ)
        run_tool("git", "commit", "-qm", "more", cwd=top / "work", environ=environ)
    names = [os.path.basename(path) for path in paths(can)]
    temporary = [name for name in names if name.startswith("tmp_obj_") or name.endswith(".lock")]
    assert bool(temporary) == (skips == "none")


def test_a_skip_rule_is_for_young_names_and_its_process_alone(top: Path, can: TrashCan) -> None:
    can.set("skip=none", "skip=+*.tmp below 1h by rm", "skip=+*.old below 0.001s")
    for name in ("a.tmp", "b.tmp", "c.old", "d"):
        (top / name).touch()
    until(lambda: time.time() > (top / "d").stat().st_mtime + 0.01)
    subprocess.run(["rm", *(top / name for name in ("a.tmp", "c.old", "d"))], check=True)
    (top / "b.tmp").unlink()  # not by rm
    assert sorted(paths(can)) == ["b.tmp", "c.old", "d"]


# -- caps


def test_what_is_above_the_size_goes_oldest_first(
    mounted: Mounted, top: Path, can: TrashCan
) -> None:
    mounted.expected = ["purging early"]
    for number in range(6):
        remove(top / f"{number}", Random(number).randbytes(MIB))
    assert can.space()["trash_bytes"] == 6 * MIB
    can.set("max-size=3M")
    until(lambda: can.space()["trash_bytes"] <= 3 * MIB)
    assert paths(can) == ["3", "4", "5"]
    (gone,) = can.history("--path", "0")
    assert gone["history"][1]["cause"] == "above max-size"
    assert "purging early" in mounted.log
    can.set("max-size=off")
    remove(top / "6", bytes(9 * MIB))
    assert paths(can) == ["3", "4", "5", "6"]


@pytest.fixture
def small(tmp_path: Path, mnt: Path) -> Iterator[Mounted]:
    """A filesystem whose store lies on a disk of 160 MiB."""
    with small_ext4(tmp_path, 160 * MIB) as disk:
        mounted = Mounted(disk / "store", mnt)
        mounted.expected = ["background work waits for space", "purging early"]
        try:
            fusefs("init", mounted.store)
            mounted.mount()
            yield mounted
        finally:
            mounted.clean_up()
    assert mounted.unexpected() == []


def fill(path: Path) -> None:
    """Write until there is no room. Raises OSError."""
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(Random(file.tell()).randbytes(MIB))
            os.fsync(file.fileno())


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="needs to be root")
def test_low_space_purges_early_only_when_told_to(small: Mounted) -> None:
    top, can = small.mnt, TrashCan(small.mnt)
    contents = [Random(number).randbytes(6 * MIB) for number in range(8)]
    for number, content in enumerate(contents):
        remove(top / f"{number}", content)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        fill(top / "more")
    everything = [f"{number}" for number in range(8)]
    assert paths(can) == everything
    free = can.space()["disk_free_bytes"]
    can.set(f"min-free={free + 20 * MIB}")
    until(lambda: paths(can) != everything)
    until(lambda: not can.space()["purges_running"])
    left = paths(can)
    assert left == everything[-len(left) :]
    assert 3 <= len(left) <= 5
    assert (can.history("--path", "0")[0]["history"][1]["cause"]) == "below min-free"
    assert "purging early" in small.log
    fusefs("gc", top)
    (top / "again").write_bytes(contents[0])
    fusefs("trash", "restore", top / "7")
    assert (top / "7").read_bytes() == contents[7]


# -- mounts


def test_a_mount_without_trash(mounted: Mounted, top: Path, can: TrashCan) -> None:
    remove(top / "before")
    mounted.remount("-o", "notrash")
    assert policy(top)["is_enabled"] is False
    assert "-o notrash" in fusefs("trash", "policy", top)
    remove(top / "gone", Random(1).randbytes(MIB))
    (top / "a").touch()
    (top / "b").write_text("old")
    (top / "a").rename(top / "b")
    (top / "dir").mkdir()
    (top / "dir").rmdir()
    assert paths(can) == ["before"]
    until(lambda: can.space()["stored_bytes"] <= len("content"))
    fusefs("trash", "restore", top / "before")
    assert (top / "before").read_text() == "content"
    mounted.remount()
    (top / "before").unlink()
    assert paths(can) == ["before"]


def test_a_shown_trash_is_seen_by_tools(mounted: Mounted, top: Path) -> None:
    remove(top / "file")
    mounted.remount("-o", "show_trash")
    found = subprocess.check_output(["find", top, "-name", "file"], text=True)
    assert found.startswith(f"{top}/.trash/")
    assert ".trash" in subprocess.check_output(["ls", "-A", top], text=True).split()
