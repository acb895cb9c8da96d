"""What happens to a user who gets it wrong: one line that names the thing and the way out, an exit
code of its own, and nothing changed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import pytest

from tests.conftest import (
    COMMAND_TIMEOUT_S,
    ROOT,
    Done,
    Mounted,
    fusefs,
    needs_mount_namespace,
    run_fusefs,
)

pytestmark = pytest.mark.mount
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs to be root")

NOBODY = 65534
#: Runs the program as nobody, through private mounts: the environment and the checkout may lie
#: below a directory that is closed to others. Takes: its own directory, theirs, the arguments.
AS_NOBODY = """
set -eu
mkdir "$1/environment" "$1/checkout"
mount --bind "$2" "$1/environment"
mount --bind "$3" "$1/checkout"
export PYTHONPATH=$1/checkout
python=$1/environment/bin/python
shift 3
exec setpriv --reuid nobody --regid nogroup --clear-groups "$python" -m fusefs "$@"
"""
#: Runs the program in little more address space than its modules take.
WITHOUT_SPACE = """
import contextlib, io, resource, sys, fusefs.cli.app, fusefs.daemon.daemon
with contextlib.redirect_stdout(io.StringIO()):
    fusefs.cli.app.run(["version"])  # the parser of the command line loads its libraries late
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (4 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(fusefs.cli.app.run(sys.argv[1:]))
"""


#: Files that say who holds the store open, and nothing about its content.
LOCKS = ("lock", "lock.mdb")


def fingerprint(path: Path) -> str:
    """Of all names, modes, times and contents below `path`, but for locks."""
    digest = blake2b()
    for file in sorted(f for f in [path, *path.rglob("*")] if f.name not in LOCKS):
        stat = file.lstat()
        digest.update(f"{file} {stat.st_mode} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()


def assert_refused(done: Done, code: int, *words: object) -> None:
    """The program said one line with `words` in it, and ended with `code`."""
    assert done.returncode == code, done
    assert done.stdout == ""
    assert done.stderr.startswith("fusefs: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert str(word) in done.stderr


@pytest.fixture
def unchanged(store: Path, tmp_path: Path) -> Iterator[None]:
    """Nothing about the store, the mountpoint and their surroundings may change in the test."""
    before = fingerprint(tmp_path)
    yield
    assert fingerprint(tmp_path) == before


@pytest.mark.parametrize("verb", ["mount", "status", "df", "info", "fsck", "trash list"])
def test_neither_a_store_nor_a_mount(tmp_path: Path, mnt: Path, verb: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "file").write_text("x")
    before = fingerprint(tmp_path)
    if verb == "mount":
        assert_refused(run_fusefs("mount", place, mnt), 10, place, "fusefs init")
    else:
        assert_refused(run_fusefs(*verb.split(), place), 24, place, "STORE")
    assert fingerprint(tmp_path) == before


def test_a_store_that_does_not_exist(tmp_path: Path, mnt: Path) -> None:
    assert_refused(run_fusefs("mount", tmp_path / "none", mnt), 10, tmp_path / "none")


@pytest.mark.parametrize("verb", ["mount", "status", "fsck"])
def test_a_newer_format(store: Path, mnt: Path, tmp_path: Path, verb: str) -> None:
    marker = store / "fusefs.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "format": 999}))
    before = fingerprint(tmp_path)
    paths = [store, mnt] if verb == "mount" else [store]
    assert_refused(run_fusefs(verb, *paths), 12, store, "999", "later")
    assert fingerprint(tmp_path) == before


def test_an_unknown_feature(store: Path, mnt: Path, tmp_path: Path) -> None:
    marker = store / "fusefs.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "requires": ["telepathy"]}))
    before = fingerprint(tmp_path)
    assert_refused(run_fusefs("mount", store, mnt), 12, store, "telepathy")
    assert fingerprint(tmp_path) == before


def test_init_of_a_store(store: Path, unchanged: None) -> None:
    assert_refused(run_fusefs("init", store), 11, store, "already")


def test_init_of_a_directory_with_files(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    before = fingerprint(tmp_path)
    assert_refused(run_fusefs("init", tmp_path), 11, tmp_path, "empty")
    assert fingerprint(tmp_path) == before


def test_a_second_mount_of_one_store(mounted: Mounted, tmp_path: Path) -> None:
    (mounted.mnt / "file").write_text("x")
    other = tmp_path / "other"
    other.mkdir()
    names = sorted(mounted.store.rglob("*"))
    done = run_fusefs("mount", mounted.store, other)
    assert_refused(done, 13, mounted.store, mounted.pid, f"fusefs umount {mounted.mnt}")
    assert sorted(mounted.store.rglob("*")) == names
    assert (mounted.mnt / "file").read_text() == "x"
    assert list(other.iterdir()) == []


def test_a_second_mount_on_the_same_mountpoint(mounted: Mounted) -> None:
    done = run_fusefs("mount", mounted.store, mounted.mnt)
    assert_refused(done, 22, mounted.store, mounted.mnt, "already", mounted.pid)
    assert list(mounted.mnt.iterdir()) == []


def test_the_mountpoint_is_missing(store: Path, tmp_path: Path, unchanged: None) -> None:
    missing = tmp_path / "none"
    assert_refused(run_fusefs("mount", store, missing), 20, missing, "mkdir")


def test_the_mountpoint_is_a_file(store: Path, tmp_path: Path, mnt: Path) -> None:
    mnt.rmdir()
    mnt.touch()
    before = fingerprint(tmp_path)
    assert_refused(run_fusefs("mount", store, mnt), 20, mnt, "not a directory")
    assert fingerprint(tmp_path) == before


def test_the_mountpoint_is_not_empty(store: Path, mnt: Path, tmp_path: Path) -> None:
    (mnt / "file").write_text("x")
    before = fingerprint(tmp_path)
    assert_refused(run_fusefs("mount", store, mnt), 21, mnt, "empty directory")
    assert fingerprint(tmp_path) == before


def test_the_mountpoint_is_a_mount_of_something_else(store: Path, unchanged: None) -> None:
    assert_refused(run_fusefs("mount", store, "/proc"), 22, "/proc", "another mountpoint")


def test_the_mountpoint_is_a_mount_of_another_store(mounted: Mounted, tmp_path: Path) -> None:
    other = tmp_path / "other"
    fusefs("init", other)
    before = fingerprint(other)
    assert_refused(run_fusefs("mount", other, mounted.mnt), 22, mounted.mnt, mounted.store)
    assert fingerprint(other) == before


def test_the_mountpoint_lies_in_the_store(store: Path, unchanged: None) -> None:
    done = run_fusefs("mount", store, store / "segments")
    assert_refused(done, 2, store, store / "segments", "beside")


def test_the_store_lies_in_the_mountpoint(store: Path, tmp_path: Path, unchanged: None) -> None:
    assert_refused(run_fusefs("mount", store, tmp_path), 2, store, "beside")


def test_an_unknown_mount_option(store: Path, mnt: Path, unchanged: None) -> None:
    assert_refused(run_fusefs("mount", "-o", "noatime,frob=1", store, mnt), 2, "frob=1", "--help")


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Path]:
    """A directory of nobody's, where pytest's own are closed to others."""
    path = Path(tempfile.mkdtemp(prefix="fusefs-test-"))
    os.chown(path, NOBODY, NOBODY)
    yield path
    shutil.rmtree(path)


def run_as_nobody(*arguments: str | Path) -> Done:
    with tempfile.TemporaryDirectory(prefix="fusefs-test-") as own:
        os.chmod(own, 0o755)
        shell = ("unshare", "--mount", "sh", "-c", AS_NOBODY, "sh")
        return run(*shell, own, sys.prefix, ROOT, *arguments)


def run_without_space(*arguments: str | Path) -> Done:
    return run(sys.executable, "-c", WITHOUT_SPACE, *arguments)


def run(*command: str | Path) -> Done:
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd="/",
        timeout=COMMAND_TIMEOUT_S,
    )


@needs_mount_namespace
def test_no_permission_on_dev_fuse(public: Path) -> None:
    if os.stat("/dev/fuse").st_mode & 0o006:
        pytest.skip("/dev/fuse is open to everybody here")
    store, mnt = public / "store", public / "mnt"
    assert run_as_nobody("init", store).returncode == 0
    mnt.mkdir()
    os.chown(mnt, NOBODY, NOBODY)
    before = fingerprint(public)
    assert_refused(run_as_nobody("mount", store, mnt), 23, "/dev/fuse", "chmod 0666")
    assert fingerprint(public) == before


@needs_mount_namespace
def test_somebody_elses_store(store: Path, public: Path) -> None:
    other = public / "store"
    shutil.move(store, other)
    before = fingerprint(public)
    done = run_as_nobody("status", other)
    assert done.returncode in (15, 33)
    assert_refused(done, done.returncode, other)
    assert fingerprint(public) == before


@pytest.fixture
def read_only(store: Path) -> Iterator[Path]:
    """The store, on a disk that refuses writes."""
    subprocess.run(["mount", "--bind", store, store], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", store], check=True)
        yield store
    finally:
        subprocess.run(["umount", store], check=True)


@needs_root
@pytest.mark.parametrize("verb", ["mount", "status", "df", "trash list"])
def test_a_read_only_disk(read_only: Path, mnt: Path, verb: str) -> None:
    before = fingerprint(read_only)
    paths = [read_only, mnt] if verb == "mount" else [read_only]
    assert_refused(run_fusefs(*verb.split(), *paths), 15, read_only, "check the mount")
    assert fingerprint(read_only) == before


@needs_root
def test_init_on_a_read_only_disk(read_only: Path) -> None:
    assert_refused(run_fusefs("init", read_only / "sub"), 15, read_only / "sub")


def test_no_address_space_for_the_index(store: Path) -> None:
    fusefs("status", store)
    before = fingerprint(store)
    assert_refused(run_without_space("status", store), 17, store, "ulimit")
    assert fingerprint(store) == before


def test_umount_of_what_is_not_mounted(store: Path, tmp_path: Path, unchanged: None) -> None:
    assert_refused(run_fusefs("umount", store), 24, store, "nothing to unmount")
    assert_refused(run_fusefs("umount", tmp_path), 24, tmp_path, "nothing to unmount")


def test_umount_of_what_is_in_use(mounted: Mounted) -> None:
    with (mounted.mnt / "file").open("w") as file:
        assert_refused(run_fusefs("umount", mounted.mnt), 22, mounted.mnt, "fuser", "--force")
        file.write("still works")
    assert (mounted.mnt / "file").read_text() == "still works"


def test_a_daemon_that_hangs(mounted: Mounted) -> None:
    os.kill(mounted.pid, signal.SIGSTOP)
    try:
        done = run_fusefs("status", mounted.mnt)
        assert_refused(done, 25, mounted.store, "daemon.log")
    finally:
        os.kill(mounted.pid, signal.SIGCONT)


def test_a_path_that_is_not_there(mounted: Mounted) -> None:
    assert_refused(run_fusefs("info", mounted.mnt / "none"), 30, "none")


def test_restore_of_what_was_never_removed(mounted: Mounted) -> None:
    assert_refused(run_fusefs("trash", "restore", mounted.mnt / "none"), 31, "none")
    assert_refused(run_fusefs("trash", "restore", mounted.mnt, "4711"), 31, "4711")
    assert_refused(run_fusefs("trash", "restore", mounted.mnt), 2, "an ID, a path")
