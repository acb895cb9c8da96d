"""The life of what was removed: into the trash, what it is there, and the way back."""

import errno
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from random import Random

import pytest

from tests.conftest import COMMAND_TIMEOUT_S, Mounted, fusefs, run_fusefs
from tests.system.test_bad_input import assert_refused
from tests.system.trashcan import NOBODY, TrashCan, fusefs_as, look, remove, until

pytestmark = pytest.mark.mount
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs to be root")

MIB = 1 << 20
PENDING, ONGOING = "delete-pending", "delete-ongoing"
COMPLETE, READY = "delete-complete", "ready"
CLOSED = (errno.EPERM, errno.EACCES)


@pytest.fixture
def top(mounted: Mounted) -> Path:
    return mounted.mnt


@pytest.fixture
def can(mounted: Mounted) -> TrashCan:
    return TrashCan(mounted.mnt)


def shell(command: str, cwd: Path, uid: int = 0) -> str:
    """Run by a shell, as another user perhaps; returns what it had to complain of."""
    setpriv = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    done = subprocess.run(
        [*(setpriv if uid else []), "sh", "-c", command],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
        timeout=COMMAND_TIMEOUT_S,
    )
    assert bool(done.returncode) == bool(done.stderr), done
    return done.stderr


def qualities(path: Path) -> object:
    status = path.lstat()
    names = os.listxattr(path, follow_symlinks=False)
    xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    return (
        status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_size,
        status.st_atime_ns, status.st_mtime_ns, status.st_nlink, status.st_blocks, xattrs,
    )  # fmt: skip


# -- into the trash, and what is shown


def test_removing_takes_the_same_time_for_a_large_file(top: Path, can: TrashCan) -> None:
    """So large that nobody would see the end, were each block of it looked at."""
    size = 1 << 52
    with open(top / "large", "wb") as file:
        file.write(b"begin")
        file.truncate(size)
    before = datetime.now().astimezone()
    shell("rm large", top)
    assert os.listdir(top) == []
    entry = can.entry("large")
    assert (entry["state"], entry["size"], entry["cause"]) == (PENDING, size, "unlink")
    assert (entry["uid"], entry["comm"], entry["kind"]) == (os.getuid(), "rm", "file")
    deleted = datetime.fromisoformat(entry["deleted_at"])
    assert before <= deleted <= datetime.now().astimezone()
    with open(top / entry["trash_path"].lstrip("/"), "rb") as file:
        assert file.read(8) == b"begin\0\0\0"


def test_what_is_shown_where(top: Path, can: TrashCan) -> None:
    """Live names, the trash, and the history each show what is theirs, at every step."""
    (top / "other").touch()

    def shown() -> tuple[bool, list[str], list[str]]:
        found = subprocess.check_output(["find", top], text=True)
        assert ".trash" not in found + subprocess.check_output(["ls", "-la", top], text=True)
        listed = [one["state"] for one in can.lines("--all")]
        return f"{top}/file\n" in found, listed, [one["state"] for one in can.history()]

    (top / "file").write_text("content")
    assert shown() == (True, [], [])
    (top / "file").unlink()
    assert shown() == (False, [PENDING], [PENDING])
    number = can.id_of("file")
    with (top / can.entry("file")["trash_path"].lstrip("/")).open("rb"):
        (top / can.entry("file")["trash_path"].lstrip("/")).unlink()
        assert shown() == (False, [ONGOING], [ONGOING])
    until(lambda: not can.lines())
    assert shown() == (False, [], [COMPLETE])
    assert can.states(number) == [PENDING, ONGOING, COMPLETE]


def test_a_state_that_there_is_none_of_is_told_those_there_are(top: Path) -> None:
    assert_refused(run_fusefs("trash", "history", top, "--state", "gone"), 2, "gone", COMPLETE)


def test_the_history_has_every_transition_in_order(top: Path, can: TrashCan) -> None:
    remove(top / "file")
    fusefs("trash", "restore", top / "file")
    (top / "file").unlink()
    fusefs("trash", "purge", top, can.id_of("file"))
    stamps = [stamp for entry in can.history("--path", "file") for stamp in entry["history"]]
    states = [stamp["state"] for stamp in stamps]
    assert states == [PENDING, READY, PENDING, ONGOING, COMPLETE]
    times = [stamp["time"] for stamp in stamps]
    assert times == sorted(times)
    assert all(stamp["cause"] for stamp in stamps)
    for state in (PENDING, READY, COMPLETE):
        assert state in fusefs("trash", "history", top)


# -- the way back


@needs_root
def test_metadata_is_the_same_before_and_after(top: Path, can: TrashCan) -> None:
    paths = [top / "file", top / "link", top / "fifo"]
    paths[0].write_bytes(b"x" * 5000)
    paths[1].symlink_to("nowhere")
    os.mkfifo(paths[2], 0o620)
    os.setxattr(paths[0], "user.note", b"\0\xff")
    subprocess.run(["setfacl", "-m", "u:1234:rw", paths[0]], check=True)
    for number, path in enumerate(paths):
        os.chown(path, 1000 + number, 2000 + number, follow_symlinks=False)
        times = (1_234_567_890_123_456_789, 987_654_321_987_654_321 + number)
        os.utime(path, ns=times, follow_symlinks=False)
    os.chmod(paths[0], 0o4751)
    before = [qualities(path) for path in paths]
    for path in paths:
        path.unlink()
    fusefs("trash", "restore", "--last", top)
    assert [qualities(path) for path in paths] == before
    assert paths[0].read_bytes() == b"x" * 5000
    assert os.readlink(paths[1]) == "nowhere"


def test_restore_never_overwrites(top: Path, can: TrashCan) -> None:
    remove(top / "file", "old")
    (top / "file").write_text("new")
    (top / "third").write_text("third")
    number = can.id_of("file")
    assert_refused(run_fusefs("trash", "restore", top / "file"), 32, "/file", "--to")
    assert_refused(run_fusefs("trash", "restore", top, number), 32, "/file", "--to")
    assert_refused(run_fusefs("trash", "restore", top, number, "--to", top / "third"), 32, "/third")
    assert can.entry("file")["state"] == PENDING
    assert can.states(number) == [PENDING]
    fusefs("trash", "restore", top, number, "--to", top / "back")
    texts = [(top / name).read_text() for name in ("file", "third", "back")]
    assert texts == ["new", "third", "old"]


@needs_root
def test_missing_parents_are_made_again_as_they_were(top: Path) -> None:
    directory = top / "a/b"
    directory.mkdir(parents=True)
    os.chown(directory, 1234, 5678)
    directory.chmod(0o2750)
    remove(directory / "file")
    shell("rm -r a", top)
    fusefs("trash", "restore", directory / "file")
    assert (directory / "file").read_text() == "content"
    status = directory.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o2750, 1234, 5678)


def test_mv_out_of_the_trash_is_a_restore(top: Path, can: TrashCan) -> None:
    remove(top / "file")
    entry = can.entry("file")
    assert shell(f"mv {entry['trash_path'].lstrip('/')} back", top) == ""
    assert (top / "back").read_text() == "content"
    assert can.lines() == []
    assert can.states(str(entry["id"])) == [PENDING, READY]


def test_one_name_removed_many_times_is_as_many_entries(top: Path, can: TrashCan) -> None:
    names = [b"n" * 255, b"caf\xe9 \n\xff"]
    paths = [Path(os.fsdecode(os.fsencode(top) + b"/" + name)) for name in names]
    for turn in range(20):
        for path in paths:
            remove(path, f"{turn}")
    found: dict[str, list[str]] = {os.fsdecode(b"/" + name): [] for name in names}
    for entry in can.lines("--all"):
        found[entry["original_path"]].append(str(entry["id"]))
        assert len(os.fsencode(entry["trash_path"].rpartition("/")[2])) <= 255
    for turn, ids in enumerate(zip(*found.values(), strict=True)):
        look("trash", "restore", "--json", top, *ids)
        for number, path in enumerate(paths):
            assert path.read_text() == f"{turn}"
            path.rename(top / f"{number} {turn}")
    assert turn == 19
    assert can.lines() == []


def make_tree(where: Path, files: int) -> None:
    """Files in three levels."""
    for number in range(files):
        directory = where / f"{number % 5}/{number % 3}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"file {number}").write_text(f"content {number}")
    (where / "empty").mkdir()


def test_a_removed_tree_is_one_line_and_one_restore(
    top: Path, can: TrashCan, tmp_path: Path
) -> None:
    model, tree = tmp_path / "model", top / "tree"
    make_tree(model, 1000)
    subprocess.run(["cp", "-a", model, tree], check=True)
    remove(top / "before")

    def by_id() -> list[str | Path]:
        (line,) = (one for one in can.lines() if one["original_path"] == "/tree")
        return [top, str(line["id"])]

    ways: list[Callable[[], list[str | Path]]] = [lambda: ["--last", top], lambda: [tree], by_id]
    for what in ways:
        shell("rm -rf tree", top)
        lines = [(one["original_path"], one["entries"], one["comm"]) for one in can.lines()]
        assert lines[1:] == [("/tree", 1000 + 5 + 15 + 2, "rm")]
        fusefs("trash", "restore", *what())
        subprocess.run(["diff", "-r", model, tree], check=True)
        assert (tree / "empty").is_dir()
        assert [one["original_path"] for one in can.lines()] == ["/before"]


def test_an_empty_directory_costs_nothing(top: Path, can: TrashCan) -> None:
    (top / "empty").mkdir(0o711)
    shell("rmdir empty", top)
    assert can.entry("empty")["size"] == can.space()["trash_bytes"] == 0
    fusefs("trash", "restore", top / "empty")
    assert stat.S_IMODE((top / "empty").stat().st_mode) == 0o711


def test_removing_one_of_two_names_keeps_the_other(top: Path, can: TrashCan) -> None:
    (top / "a").write_text("content")
    for purge in (False, True):
        os.link(top / "a", top / "b")
        shell("rm a", top)
        assert [one["original_path"] for one in can.lines("--all")] == ["/a"]
        assert (top / "b").read_text() == "content"
        if purge:
            fusefs("trash", "purge", top, can.id_of("a"))
            assert can.lines() == []
            assert (top / "b").read_text() == "content"
            assert (top / "b").stat().st_nlink == 1
        else:
            fusefs("trash", "restore", top / "a")
            assert (top / "a").samefile(top / "b")
            assert (top / "a").stat().st_nlink == 2
            (top / "b").rename(top / "c")
            (top / "c").unlink()
            look("trash", "empty", "--json", top)


# -- what is open


def test_an_open_file_outlives_rm_and_purge(top: Path, can: TrashCan) -> None:
    content = Random(1).randbytes(3 * MIB)
    (top / "file").write_bytes(content)
    with (top / "file").open("r+b", buffering=0) as file:
        (top / "file").unlink()
        entry = can.entry("file")
        refused = run_fusefs("trash", "purge", top, str(entry["id"]))
        assert_refused(refused, 35, entry["id"], "/file", "in use")
        emptied = run_fusefs("trash", "empty", top)
        assert (emptied.returncode, "in use" in emptied.stderr) == (3, True)
        assert can.entry("file")["state"] == PENDING
        (top / entry["trash_path"].lstrip("/")).unlink()  # by its owner, for good
        assert can.entry("file")["state"] == ONGOING
        file.seek(0)
        assert file.read() == content
        file.write(b"still written")
        file.seek(-13, os.SEEK_END)
        assert file.read() == b"still written"
        os.fsync(file.fileno())
        assert can.space()["stored_bytes"] > 3 * MIB
    until(lambda: not can.lines())
    assert can.space()["stored_bytes"] == 0
    assert can.states(str(entry["id"])) == [PENDING, ONGOING, COMPLETE]


# -- what each state allows


def test_what_a_state_does_not_allow_is_refused_and_names_it(top: Path, can: TrashCan) -> None:
    for name in ("back", "going", "gone"):
        remove(top / name)
    ids = {name: can.id_of(name) for name in ("back", "going", "gone")}
    fusefs("trash", "restore", top / "back")
    fusefs("trash", "purge", top, ids["gone"])
    trash_path = top / can.entry("going")["trash_path"].lstrip("/")
    with trash_path.open("rb") as file:
        trash_path.unlink()
        before = can.history()
        for name, state in (("back", READY), ("going", ONGOING), ("gone", COMPLETE)):
            done = run_fusefs("trash", "restore", top, ids[name])
            assert_refused(done, 34, ids[name], f"/{name}", f"is {state}", PENDING)
        assert_refused(run_fusefs("trash", "purge", top, ids["back"]), 34, f"is {READY}")
        fusefs("trash", "purge", top, ids["gone"])  # it is: a success
        fusefs("trash", "purge", "--no-wait", top, ids["going"])
        assert file.read() == b"content"
        assert [one for one in can.history() if one["id"] != int(ids["going"])] == [
            one for one in before if one["id"] != int(ids["going"])
        ]
    assert (top / "back").read_text() == "content"
    until(lambda: not can.lines())


def test_what_was_removed_in_one_go_is_gone_in_one_go(top: Path, can: TrashCan) -> None:
    """The id of such a line means the same when nothing of it is left."""
    for name in ("a", "b"):
        remove(top / name)
    (line,) = can.lines()
    assert line["entries"] == 2
    for expected in ("purged 2 entries\n", "purged 1 entry\n"):
        assert fusefs("trash", "purge", top, str(line["id"])) == expected
    done = run_fusefs("trash", "restore", top, str(line["id"]))
    assert_refused(done, 34, line["id"], f"is {COMPLETE}")


def test_one_that_is_blocked_does_not_stop_the_rest(top: Path, can: TrashCan) -> None:
    for number in range(9):
        (top / f"{number}").write_text("content")
    with (top / "4").open():
        for number in range(9):
            (top / f"{number}").unlink()
        done = run_fusefs("trash", "purge", top, *can.ids(), "4711")
        assert (done.returncode, done.stdout) == (3, "purged 8 entries\n")
        said = done.stderr.splitlines()
        assert len(said) == 3
        assert sum("/4" in line and "in use" in line for line in said) == 1
        assert sum("4711" in line for line in said) == 1
        assert [one["original_path"] for one in can.lines("--all")] == ["/4"]


# -- the trash is read-only, and closed to others


def test_nothing_is_changed_in_the_trash_by_hand(top: Path, can: TrashCan) -> None:
    (top / "dir").mkdir()
    remove(top / "dir/file")
    (top / "live").write_text("live")
    entry = can.entry("dir/file")
    where = entry["trash_path"].lstrip("/")
    above = os.path.dirname(where)
    assert shell(f"cat {where}; ls -la {above}", top) == ""
    assert shell(f"test $(cat {where}) = content", top) == ""
    for command in (
        f"touch {above}/new",
        "touch .trash/new",
        f"mkdir {above}/new",
        f"ln -s x {above}/new",
        f"mkfifo {above}/new",
        f"mv live {above}/new",
        f"mv -f live {where}",
        f"mv {where} {above}/new",
        f"ln live {above}/new",
        f"ln {where} new",
        f"chmod 600 {where}",
        f"chmod 600 {above}",
        f"chown 7 {where}",
        f"touch {where}",
        f"truncate -s 1 {where}",
        f"truncate -s 100 {where}",
        f"echo more >> {where}",
        f"echo more > {where}",
        f"dd if=/dev/zero of={where} count=1 conv=notrunc status=none",
        f"setfattr -n user.a -v 1 {where}",
        f"setfattr -n user.fusefs.trash -v 0 {above}",
        f"setfacl -m u:1234:r {where}",
        "rmdir .trash",
        "mv .trash elsewhere",
        "mv -T dir .trash",
    ):
        said = shell(command, top)
        assert any(os.strerror(number) in said for number in CLOSED), (command, said)
    assert sorted(os.listdir(top)) == ["dir", "live"]
    assert can.entry("dir/file") == entry
    fusefs("trash", "restore", top / "dir/file")
    assert (top / "dir/file").read_text() == "content"


@needs_root
def test_what_belongs_to_others_stays(mounted: Mounted, top: Path, can: TrashCan) -> None:
    mounted.remount("-o", "allow_other")
    top.chmod(0o777)
    remove(top / "foreign")
    (top / "secret").write_text("content")
    (top / "secret").chmod(0o600)
    (top / "secret").unlink()
    for name in ("a", "b", "c"):
        assert shell(f"echo his > {name}; rm {name}", top, NOBODY) == ""
    before = [can.entry(path) for path in ("foreign", "secret", "a", "b", "c")]
    where = {one["original_path"].lstrip("/"): one["trash_path"].lstrip("/") for one in before}
    assert shell(f'cat "{where["foreign"]}"', top, NOBODY) == ""
    for command in (
        f'rm -f "{where["foreign"]}"',
        f'mv -f "{where["foreign"]}" taken',
        f"cat {where['secret']}",
        "rmdir .trash",
    ):
        said = shell(command, top, NOBODY)
        assert any(os.strerror(number) in said for number in CLOSED), (command, said)
    assert [can.entry(one["original_path"].lstrip("/")) for one in before] == before
    assert shell(f"mv {where['a']} back; rm {where['b']}", top, NOBODY) == ""
    assert shell("cat back", top, NOBODY) == ""
    until(lambda: len(can.ids()) == 3)
    assert [one["original_path"] for one in can.lines("--all")] == ["/foreign", "/secret", "/c"]


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that all users can get into, where pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="fusefs-test-") as path:
        os.chmod(path, 0o755)
        yield Path(path)


@needs_root
def test_the_verbs_know_who_asks(public: Path) -> None:
    """Somebody who may talk to the daemon, because the store is his, is not thereby root."""
    mounted = Mounted(public / "store", public / "mnt")
    mounted.mnt.mkdir()
    fusefs("init", mounted.store)
    try:
        mounted.mount("-o", "allow_other")
        remove(mounted.mnt / "foreign")
        can = TrashCan(mounted.mnt)
        number = can.id_of("foreign")
        (mounted.mnt / "his").write_text("his")
        os.chown(mounted.mnt / "his", NOBODY, NOBODY)
        (mounted.mnt / "his").unlink()
        assert_refused(fusefs_as(NOBODY, "trash", "list", mounted.mnt), 33, mounted.store)
        for path in (mounted.store, mounted.store / "control.sock"):
            os.chown(path, NOBODY, NOBODY)
        before = [can.entry(path) for path in ("foreign", "his")]
        for verb in ("restore", "purge"):
            done = fusefs_as(NOBODY, "trash", verb, mounted.mnt, number)
            assert_refused(done, 33, "/foreign", "another user")
        done = fusefs_as(NOBODY, "trash", "policy", mounted.mnt, "set", "keep=0")
        assert_refused(done, 33, "owner")
        assert [can.entry(path) for path in ("foreign", "his")] == before
        done = fusefs_as(NOBODY, "trash", "empty", mounted.mnt)
        assert (done.returncode, "belong to others" in done.stderr) == (3, True)
        assert can.ids() == [number]
    finally:
        mounted.clean_up()
    assert mounted.unexpected() == []
