"""fusefs cp, put and get: whatever interrupts them, the next run goes on, and nothing is wrong."""

import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fusefs.daemon.writer import writer_of
from tests.conftest import COMMAND_TIMEOUT_S, ROOT, Mounted, fusefs, run_fusefs
from tests.stops import has_stopped, stopped
from tests.system.trashcan import NOBODY, fusefs_as, until

pytestmark = pytest.mark.mount

MIB = 1 << 20
SIZE = 48 * MIB + 12345


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(random.randbytes(SIZE))
    return path


def copied(*arguments: str | Path, verb: str = "cp") -> dict[str, Any]:
    """What a copy says that it did."""
    outcome: dict[str, Any] = json.loads(fusefs(verb, "--json", *arguments))
    return outcome


def uploads(mounted: Mounted) -> dict[str, int]:
    """The daemon's counts."""
    status = json.loads(fusefs("status", "--json", mounted.mnt))
    counts: dict[str, int] = status["counters"]["uploads"]
    return counts


def staging_files(directory: Path) -> list[Path]:
    return list(directory.glob(".*.fusefs-part"))


class Running:
    """A copy in the background."""

    def __init__(self, *arguments: str | Path, **environ: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fusefs", "cp", "--json", *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self) -> tuple[int, str]:
        """Exit code, and what it said about errors."""
        _, errors = self.process.communicate(timeout=COMMAND_TIMEOUT_S)
        return self.process.returncode, errors


def wait_for_bytes(mounted: Mounted, count: int, running: Running) -> None:
    """Until so much has come, or the copy is at its end."""
    from fusefs.daemon.client import Client

    client = Client.connect(mounted.store)
    assert client is not None
    with client:
        while client.status()["counters"]["uploads"]["received_bytes"] < count:
            if running.process.poll() is not None:
                return


def same(one: Path, other: Path) -> bool:
    return subprocess.run(["cmp", one, other], stdout=subprocess.DEVNULL).returncode == 0


def test_first_copy_and_second_under_another_name(mounted: Mounted, source: Path) -> None:
    first = copied(source, mounted.mnt / "one")
    assert (first["sent_bytes"], first["present_bytes"]) == (SIZE, 0)
    second = copied(source, mounted.mnt / "two")
    assert (second["sent_bytes"], second["present_bytes"]) == (0, SIZE)
    assert same(source, mounted.mnt / "one")
    assert same(source, mounted.mnt / "two")
    assert uploads(mounted)["received_bytes"] == SIZE
    assert not staging_files(mounted.mnt)
    mounted.remount()
    assert same(source, mounted.mnt / "two")


def test_a_changed_file_sends_what_changed_and_the_old_one_is_in_the_trash(
    mounted: Mounted, source: Path
) -> None:
    copied(source, mounted.mnt / "file")
    with source.open("r+b") as file:
        file.seek(20 * MIB + 5)
        file.write(b"changed")
    assert copied(source, mounted.mnt / "file")["sent_bytes"] == MIB
    assert same(source, mounted.mnt / "file")
    listed = json.loads(fusefs("trash", "list", "--json", mounted.mnt))
    assert [one["original_path"] for one in listed] == ["/file"]


def test_a_killed_sender_goes_on(mounted: Mounted, source: Path) -> None:
    kills = 0
    for part in (0.1, 0.35, 0.6, 0.9):
        running = Running(source, mounted.mnt / "file")
        wait_for_bytes(mounted, int(SIZE * part), running)
        running.kill()
        kills += 1
    outcome = copied(source, mounted.mnt / "file")
    assert same(source, mounted.mnt / "file")
    received = uploads(mounted)["received_bytes"]
    assert SIZE <= received <= SIZE + kills * MIB
    assert outcome["files"] + outcome["skipped"] == 1
    assert not staging_files(mounted.mnt)


def test_a_sender_that_dies_after_the_last_byte_is_not_needed(
    mounted: Mounted, source: Path
) -> None:
    code = "import os, sys; from fusefs.sender.receivers import Asked; "
    code += "Asked.finish = lambda *_: os.kill(os.getpid(), 9); "
    code += "from fusefs.__main__ import main; main()"
    dying = [sys.executable, "-c", code, "cp", "-p", source, mounted.mnt / "file"]
    source.chmod(0o640)
    ended = subprocess.run(dying, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert ended.returncode == -signal.SIGKILL
    until((mounted.mnt / "file").exists)
    assert same(source, mounted.mnt / "file")
    found, wanted = (mounted.mnt / "file").stat(), source.stat()
    assert (found.st_mode, found.st_mtime_ns) == (wanted.st_mode, wanted.st_mtime_ns)
    assert not staging_files(mounted.mnt)
    assert state(mounted.mnt / "file") == b"complete"
    told = until(lambda: fusefs("events", "--kind", "uploaded", mounted.mnt))
    assert [json.loads(line)["path"] for line in told.splitlines()] == ["/file"]


def state(path: Path) -> bytes:
    return os.getxattr(path, "user.fusefs.state")


def test_a_killed_daemon_and_the_copy_goes_on(mounted: Mounted, source: Path) -> None:
    running = Running("--wait", "60", source, mounted.mnt / "file")
    wait_for_bytes(mounted, SIZE // 2, running)
    mounted.kill()
    mounted.mount()
    assert running.end() == (0, "")
    assert same(source, mounted.mnt / "file")


def test_a_killed_daemon_and_a_second_run(mounted: Mounted, source: Path) -> None:
    mounted.expected = ["a record is cut short"]
    mounted.remount(FUSEFS_FAILPOINTS="log.append=45:kill")  # each block is one, of 49
    running = Running(source, mounted.mnt / "file")
    code, errors = running.end()
    assert code == 25
    assert "it will continue" in errors
    mounted.wait_for_end()
    mounted.mount()
    assert not (mounted.mnt / "file").exists()
    assert copied(source, mounted.mnt / "file")["sent_bytes"] <= SIZE // 2 + 4 * MIB
    assert same(source, mounted.mnt / "file")


def test_two_senders_share_the_work_and_one_is_killed(mounted: Mounted, source: Path) -> None:
    first = Running(source, mounted.mnt / "file")
    second = Running(source, mounted.mnt / "file")
    wait_for_bytes(mounted, SIZE // 4, first)
    first.kill()
    assert second.end() == (0, "")
    assert same(source, mounted.mnt / "file")
    assert not staging_files(mounted.mnt)


def test_two_sources_for_one_name_do_not_mix(mounted: Mounted, source: Path) -> None:
    other = source.with_name("other")
    other.write_bytes(random.randbytes(SIZE))
    running = [Running(path, mounted.mnt / "file") for path in (source, other)]
    assert [one.end() for one in running] == [(0, "")] * 2
    assert same(source, mounted.mnt / "file") or same(other, mounted.mnt / "file")
    assert len(json.loads(fusefs("trash", "list", "--json", mounted.mnt))) == 1


@pytest.mark.parametrize("appended", [10, 45], ids=["while it is hashed", "when all was hashed"])
@pytest.mark.parametrize("how", ["written", "cut", "longer"])
def test_a_source_that_changes_is_not_completed(
    mounted: Mounted, source: Path, how: str, appended: int
) -> None:
    """Not even by the daemon alone, and least of all after the next copy."""
    mounted.remount(FUSEFS_FAILPOINTS=f"log.append={appended}:stop")
    running = Running(source, mounted.mnt / "file")
    with stopped(mounted.pid):
        match how:
            case "written":
                with source.open("r+b") as file:
                    file.write(b"x")
            case "cut":
                os.truncate(source, 3 * MIB)
            case "longer":
                os.truncate(source, SIZE + 1)
    code, errors = running.end()
    assert code == 52
    assert "changed while it was read" in errors
    assert not (mounted.mnt / "file").exists()
    assert len(staging_files(mounted.mnt)) == 1
    copied(source, mounted.mnt / "file")
    mounted.remount()
    assert same(source, mounted.mnt / "file")
    assert len(staging_files(mounted.mnt)) == 1


def test_a_damaged_kept_block_is_sent_again(mounted: Mounted, source: Path) -> None:
    mounted.expected = ["damaged blocks are asked for again", "a block is bad"]
    copied(source, mounted.mnt / "one")
    mounted.umount()
    segment = sorted((mounted.store / "segments").iterdir())[0]
    with segment.open("r+b") as file:
        file.seek(5 * MIB + 77)
        byte = file.read(1)
        file.seek(5 * MIB + 77)
        file.write(bytes([byte[0] ^ 1]))
    mounted.mount()
    assert copied(source, mounted.mnt / "two")["sent_bytes"] == MIB
    assert same(source, mounted.mnt / "two")
    assert same(source, mounted.mnt / "one")  # healed by that


def make_tree(top: Path) -> None:
    """Some of everything."""
    (top / "dir/deep").mkdir(parents=True)
    (top / "empty dir").mkdir()
    for number in range(60):
        (top / f"dir/small {number}").write_bytes(random.randbytes(number * 100))
    (top / "dir/deep/large").write_bytes(random.randbytes(3 * MIB + 1))
    (top / "dir/deep/sparse").touch()
    os.truncate(top / "dir/deep/sparse", 5 * MIB)
    (top / "link").symlink_to("dir/small 3")
    (top / "dangling").symlink_to("nowhere")
    os.mkfifo(top / "pipe")
    os.setxattr(top / "dir/small 1", "user.colour", b"blue")
    os.chmod(top / "dir/small 2", 0o741)
    os.utime(top / "dir/small 2", ns=(10**18 + 1, 10**18 + 2))
    os.utime(top / "dir", ns=(10**18 + 3, 10**18 + 4))
    os.chmod(top / "empty dir", 0o700)


def listing(top: Path) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for path in sorted([top, *top.rglob("*")]):
        status = path.lstat()
        extra = os.readlink(path) if path.is_symlink() else None
        attributes = () if path.is_symlink() else sorted(os.listxattr(path))
        found.append(
            (path.relative_to(top), status.st_mode, status.st_mtime_ns, status.st_uid, extra,
             attributes)
        )  # fmt: skip
    return found


def test_a_tree_with_its_attributes_there_and_back(mounted: Mounted, tmp_path: Path) -> None:
    top = tmp_path / "top"
    make_tree(top)
    first = copied("-a", top, mounted.mnt / "copy")
    assert first["failed"] == []
    assert listing(mounted.mnt / "copy") == listing(top)
    assert subprocess.run(["diff", "-r", "--exclude=pipe", "--no-dereference",
                           top, mounted.mnt / "copy"]).returncode == 0  # fmt: skip
    again = copied("-a", top, mounted.mnt)  # into a directory that is there
    assert (again["files"], (mounted.mnt / "top").is_dir()) == (62, True)
    for same_again in (
        copied("-a", f"{top}/", mounted.mnt),
        copied("-a", f"{top}/.", mounted.mnt / "top"),
    ):
        assert (same_again["skipped"], same_again["sent_bytes"], same_again["files"]) == (62, 0, 0)
    copied("-a", mounted.mnt / "copy", tmp_path / "back", verb="get")
    assert listing(tmp_path / "back") == listing(top)


def test_what_cannot_be_copied_is_named_and_the_rest_is(mounted: Mounted, tmp_path: Path) -> None:
    top = tmp_path / "top"
    make_tree(top)
    (mounted.mnt / "top/dir/small 7").mkdir(parents=True)
    done = run_fusefs("cp", "-a", top, mounted.mnt)
    assert done.returncode == 3
    assert "small 7" in done.stderr
    assert (mounted.mnt / "top/dir/small 8").is_file()
    done = run_fusefs("cp", top, mounted.mnt / "other")
    assert (done.returncode, "-r" in done.stderr) == (2, True)


def test_get_goes_on_after_an_interruption(mounted: Mounted, source: Path, tmp_path: Path) -> None:
    copied(source, mounted.mnt / "file")
    ended = subprocess.run(
        [sys.executable, "-m", "fusefs", "get", mounted.mnt / "file", tmp_path / "back"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (24 * MIB, 24 * MIB)),
    )
    assert (ended.returncode, os.strerror(errno.EFBIG) in ended.stderr.decode()) == (1, True)
    outcome = copied(mounted.mnt / "file", tmp_path / "back", verb="get")
    assert outcome["sent_bytes"] <= SIZE - 16 * MIB
    assert same(source, tmp_path / "back")
    assert not staging_files(tmp_path)


def test_get_does_not_believe_what_it_finds(mounted: Mounted, source: Path, tmp_path: Path) -> None:
    copied(source, mounted.mnt / "file")
    running = Running(mounted.mnt / "file", tmp_path / "back")
    while running.process.poll() is None and not staging_files(tmp_path):
        pass
    running.kill()
    for part in staging_files(tmp_path):
        part.write_bytes(source.read_bytes()[: 10 * MIB] + bytes(10 * MIB))
    copied(mounted.mnt / "file", tmp_path / "back", verb="get")
    assert same(source, tmp_path / "back")


def test_a_store_that_is_not_mounted(store: Path, source: Path, tmp_path: Path) -> None:
    assert copied(source, f"{store}:/file", verb="put")["sent_bytes"] == SIZE
    assert copied(source, f"{store}:/again", verb="put")["sent_bytes"] == 0
    copied(f"{store}:/again", tmp_path / "back", verb="get")
    assert same(source, tmp_path / "back")
    done = run_fusefs("cp", source.with_name("missing"), f"{store}:/file")
    assert done.returncode == 1
    assert str(store) not in Path("/proc/self/mountinfo").read_text()
    shutil.rmtree(store)


@pytest.mark.parametrize("target", ["none/file", "none/", "whole/file"])
def test_a_target_in_no_directory(mounted: Mounted, source: Path, target: str) -> None:
    (mounted.mnt / "whole").write_bytes(b"x")
    done = run_fusefs("cp", source, f"{mounted.mnt}/{target}")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{mounted.mnt}/{target.partition('/')[0]}" in done.stderr
    assert "is not a directory: make it first" in done.stderr


def test_put_and_get_want_a_fusefs(mounted: Mounted, source: Path, tmp_path: Path) -> None:
    assert run_fusefs("put", source, tmp_path / "other").returncode == 2
    assert run_fusefs("get", source, mounted.mnt / "other").returncode == 2
    assert not (tmp_path / "other").exists()


def test_equal_content_is_skipped_by_checksum(mounted: Mounted, source: Path) -> None:
    copied(source, mounted.mnt / "file")
    assert copied("--checksum", source, mounted.mnt / "file")["skipped"] == 1
    os.utime(source, ns=(1, 1))
    assert copied("--checksum", "--verify", source, mounted.mnt / "file")["skipped"] == 1


def test_a_reader_that_looked_before_sees_the_new_content(mounted: Mounted, source: Path) -> None:
    (mounted.mnt / "file").write_bytes(b"old")
    copied(source, mounted.mnt / "first")
    assert (mounted.mnt / "file").read_bytes() == b"old"
    copied(source, mounted.mnt / "file")
    assert (mounted.mnt / "file").stat().st_size == SIZE
    assert same(source, mounted.mnt / "file")


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="needs to be root")
def test_another_user_copies_without_asking(mounted: Mounted, source: Path) -> None:
    mounted.remount("-o", "allow_other")
    mounted.mnt.chmod(0o777)
    source.chmod(0o644)
    source.parent.chmod(0o755)
    # From a directory inside of those that pytest closes to others.
    done = fusefs_as(NOBODY, "cp", "source", "mnt/file", cwd=source.parent)
    assert done.returncode == 0, done.stderr
    assert "does not answer this user" in done.stderr
    assert same(source, mounted.mnt / "file")


def test_two_copies_into_a_store_that_is_not_mounted(store: Path, source: Path) -> None:
    running = [Running(source, f"{store}:/{name}") for name in ("one", "two")]
    assert [one.end() for one in running] == [(0, "")] * 2
    assert str(store) not in Path("/proc/self/mountinfo").read_text()
    for name in ("one", "two"):
        copied("--verify", f"{store}:/{name}", source.with_name(name), verb="get")
        assert same(source, source.with_name(name))
    shutil.rmtree(store)


def test_a_copy_that_is_ended_unmounts(store: Path, source: Path) -> None:
    running = Running(source, f"{store}:/one", FUSEFS_FAILPOINTS="log.append=10:stop")
    with stopped(until(lambda: writer_of(store) if has_stopped(writer_of(store)) else None)):
        assert str(store) in Path("/proc/self/mountinfo").read_text()
        running.process.send_signal(signal.SIGTERM)
    running.end()
    assert str(store) not in Path("/proc/self/mountinfo").read_text()
    copied(source, f"{store}:/one")
    shutil.rmtree(store)
