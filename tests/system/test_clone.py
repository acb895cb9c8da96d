"""A store anew from a remote: clone, mount at once, go on where it was killed, take over."""

import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from fusefs.errors import NoSuchObject, NotAStore, RemoteTaken, StoreExists
from tests.conftest import Mounted, fusefs, run_fusefs
from tests.system.away import add_remote, segments_bytes, sync

pytestmark = pytest.mark.mount

MIB = 1 << 20
RANDOM = Random(3)


def fill(mnt: Path, count: int = 60) -> None:
    """Files of all sizes, links, attributes, deletions."""
    for number in range(count):
        folder = mnt / f"folder {number % 7}"
        folder.mkdir(exist_ok=True)
        (folder / f"file {number}").write_bytes(RANDOM.randbytes(RANDOM.randrange(1 << 17)))
    (mnt / "large").write_bytes(RANDOM.randbytes(5 * MIB))
    (mnt / "link").symlink_to("large")
    os.link(mnt / "large", mnt / "hard")
    os.setxattr(mnt / "large", "user.note", b"known")
    (mnt / "gone").write_bytes(b"x" * 10_000)
    (mnt / "gone").unlink()
    with open(mnt / "sparse", "wb") as file:
        file.truncate(50 * MIB)
        file.seek(20 * MIB)
        file.write(b"in the middle")


def same(a: Path, b: Path) -> None:
    done = subprocess.run(["diff", "-r", "--no-dereference", a, b], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def place(tmp_path: Path, mounted: Mounted) -> Path:
    place = tmp_path / "elsewhere"
    add_remote(mounted, place)
    fill(mounted.mnt)
    sync(mounted)
    return place


@pytest.fixture
def other(tmp_path: Path, mounted: Mounted):  # type: ignore[no-untyped-def]
    """Another machine: a place for a store and a mount, with nothing there."""
    (tmp_path / "mnt2").mkdir()
    other = Mounted(tmp_path / "store2", tmp_path / "mnt2")
    # Both may live on in one place for a while: who publishes first stops the other one.
    for machine in (mounted, other):
        machine.expected.append("sync waits, .* has another writer")
    try:
        yield other
    finally:
        other.clean_up()
    assert other.unexpected() == []


def clone(place: Path, other: Mounted, *options: str, **environ: str) -> dict[str, object]:
    out = fusefs("clone", "--json", f"file://{place}", other.store, *options, **environ)
    found: dict[str, object] = json.loads(out)
    return found


def test_what_was_published_is_there_again(mounted: Mounted, place: Path, other: Mounted) -> None:
    done = clone(place, other)
    assert done["remote"] == "usb"
    assert segments_bytes(other.store) < 1000
    other.mount()
    same(mounted.mnt, other.mnt)
    assert os.getxattr(other.mnt / "large", "user.note") == b"known"
    assert os.stat(other.mnt / "hard").st_nlink == 2
    assert os.stat(other.mnt / "sparse").st_blocks < 100
    other.umount()
    fusefs("fsck", "--read-data", other.store)
    fusefs("rebuild", other.store)
    other.mount()
    same(mounted.mnt, other.mnt)


def test_a_clone_goes_on_as_the_writer_and_the_original_is_refused(
    mounted: Mounted, place: Path, other: Mounted, tmp_path: Path
) -> None:
    clone(place, other)
    other.mount()
    (other.mnt / "new").write_bytes(b"written to the clone")
    (other.mnt / "large").unlink()
    sync(other)
    (mounted.mnt / "too late").write_bytes(b"by the original")
    refused = run_fusefs("sync", "now", mounted.mnt)
    assert refused.returncode == RemoteTaken.exit_code
    shown = json.loads(fusefs("remote", "show", "--json", mounted.mnt, "usb"))
    assert shown["error_class"] == "RemoteTaken"
    other.umount()
    third = Mounted(tmp_path / "store3", tmp_path / "mnt")
    clone(place, third)
    mounted.umount()
    third.mount()
    try:
        assert (third.mnt / "new").read_bytes() == b"written to the clone"
        assert not (third.mnt / "large").exists()
        assert (third.mnt / "hard").stat().st_size == 5 * MIB
    finally:
        third.clean_up()


#: Where a clone is killed, and the how manieth time; at the last of them it is a store.
CLONING = {"clone.piece": 2, "clone.fetched": 1, "clone.made": 1, "clone.written": 1}


def test_killed_in_the_middle_it_goes_on(mounted: Mounted, place: Path, other: Mounted) -> None:
    fetched = 0
    for point, count in list(CLONING.items())[:-1]:
        before = fetched
        plan = f"{point}={count}:kill"
        done = run_fusefs("clone", f"file://{place}", other.store, FUSEFS_FAILPOINTS=plan)
        assert done.returncode < 0, done
        refused = run_fusefs("mount", other.store, other.mnt)
        assert refused.returncode == NotAStore.exit_code
        assert "fusefs clone URL" in refused.stderr
        fetched = sum(path.stat().st_size for path in (other.store / "clone").glob("*"))
        assert fetched >= before
    done = clone(place, other)
    assert done["fetched_bytes"] == 0
    other.mount()
    same(mounted.mnt, other.mnt)


def test_killed_when_it_was_whole_it_is_a_store(
    mounted: Mounted, place: Path, other: Mounted
) -> None:
    done = run_fusefs(
        "clone", f"file://{place}", other.store, FUSEFS_FAILPOINTS="clone.written=1:kill"
    )
    assert done.returncode < 0
    other.mount()
    same(mounted.mnt, other.mnt)


def test_a_clone_of_many_files_is_readable_at_once(
    mounted: Mounted, tmp_path: Path, other: Mounted
) -> None:
    place = tmp_path / "elsewhere"
    add_remote(mounted, place)
    for folder in range(20):
        path = mounted.mnt / str(folder)
        path.mkdir()
        for number in range(100):
            (path / str(number)).write_bytes(b"%d %d" % (folder, number))
    sync(mounted)
    clone(place, other)
    other.mount()
    assert (other.mnt / "7" / "42").read_bytes() == b"7 42"
    fetched = json.loads(fusefs("status", "--json", other.mnt))["counters"]["fetched_bytes"]
    assert fetched <= 2 * MIB


def test_an_encrypted_remote_is_cloned_with_its_key(
    mounted: Mounted, tmp_path: Path, other: Mounted
) -> None:
    secrets = tmp_path / "secrets"
    secrets.write_text("passphrase = 'correct horse'\n")
    secrets.chmod(0o600)
    place = tmp_path / "elsewhere"
    add_remote(mounted, place, "usb", "--encrypt", "--secrets", f"file:{secrets}")
    fill(mounted.mnt, 5)
    sync(mounted)
    refused = run_fusefs("clone", f"file://{place}", other.store)
    assert refused.returncode != 0
    clone(place, other, "--secrets", f"file:{secrets}")
    other.mount()
    same(mounted.mnt, other.mnt)


def test_an_earlier_checkpoint(mounted: Mounted, place: Path, other: Mounted) -> None:
    (mounted.mnt / "later").write_bytes(b"later")
    first = json.loads(fusefs("remote", "show", "--json", mounted.mnt, "usb"))["sequence"]
    sync(mounted)
    clone(place, other, "--checkpoint", str(first))
    other.mount("-o", "ro")
    assert not (other.mnt / "later").exists()
    assert (other.mnt / "large").stat().st_size == 5 * MIB


def test_what_cannot_be_cloned_says_why(tmp_path: Path, other: Mounted, place: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = run_fusefs("clone", f"file://{empty}", other.store)
    assert (done.returncode, "holds nothing of fusefs" in done.stderr) == (
        NoSuchObject.exit_code,
        True,
    )
    done = run_fusefs("clone", "--checkpoint", "999", f"file://{place}", other.store)
    assert (done.returncode, "has no checkpoint 999" in done.stderr) == (
        NoSuchObject.exit_code,
        True,
    )
    other.store.mkdir(exist_ok=True)
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("mine")
    done = run_fusefs("clone", f"file://{place}", full)
    assert done.returncode == StoreExists.exit_code
    assert os.listdir(full) == ["mine"]
    with suppress(FileNotFoundError):
        assert not (other.store / "fusefs.json").exists()


@pytest.mark.parametrize("is_store", [False, True])
def test_what_is_only_called_as_a_clone_calls_it_is_not_touched(
    other: Mounted, place: Path, is_store: bool
) -> None:
    if is_store:
        fusefs("init", other.store)
    mine = ["clone/notes", "clone/" + "0" * 64, "segments/mine", "index/mine"]
    for name in mine if not is_store else mine[:2]:
        (other.store / name).parent.mkdir(parents=True, exist_ok=True)
        (other.store / name).write_text("mine")
    before = sorted(other.store.rglob("*"))
    done = run_fusefs("clone", f"file://{place}", other.store)
    why = "is a store already" if is_store else "is not empty"
    assert (done.returncode, why in done.stderr) == (StoreExists.exit_code, True)
    assert sorted(other.store.rglob("*")) == before
    if not is_store:
        done = run_fusefs("mount", other.store, other.mnt)
        assert (done.returncode, "fusefs init" in done.stderr) == (NotAStore.exit_code, True)
