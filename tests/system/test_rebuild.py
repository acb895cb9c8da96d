"""A store whose index is gone is mounted again with everything in it."""

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.conftest import Mounted, fusefs, run_fusefs

pytestmark = pytest.mark.mount
MIB = 1 << 20


def purge(mounted: Mounted, name: str) -> None:
    (mounted.mnt / name).unlink()
    (entry,) = (mounted.mnt / ".trash").glob(f"*/{name}")
    entry.unlink()


def fill(mounted: Mounted) -> None:
    """One of everything."""
    mnt = mounted.mnt
    (mnt / "dir" / "sub").mkdir(parents=True)
    for number in range(30):
        (mnt / "dir" / f"file {number}").write_bytes(Random(number).randbytes(number * 40_001))
    os.link(mnt / "dir" / "file 3", mnt / "dir" / "sub" / "again")
    os.symlink("dir/file 1", mnt / "link")
    os.chmod(mnt / "dir" / "file 4", 0o640)
    os.utime(mnt / "dir" / "file 5", ns=(10**18, 10**18 + 7))
    os.setxattr(mnt / "dir" / "file 6", "user.note", b"mine")
    with open(mnt / "sparse", "wb") as file:
        file.seek(5 * MIB)
        file.write(b"end")
    (mnt / "removed").write_bytes(b"in the trash")
    (mnt / "removed").unlink()
    (mnt / "dir" / "file 7").rename(mnt / "renamed")


def picture(mounted: Mounted) -> dict[str, object]:
    """All that can be seen of every file, the trash included."""
    found: dict[str, object] = {}
    for top in (mounted.mnt, mounted.mnt / ".trash"):
        for path in sorted(top.rglob("*")):
            info = path.lstat()
            what: object = None
            if stat.S_ISREG(info.st_mode):
                what = path.read_bytes()
            elif stat.S_ISLNK(info.st_mode):
                what = os.readlink(path)
            attributes = {
                name: os.getxattr(path, name, follow_symlinks=False)
                for name in os.listxattr(path, follow_symlinks=False)
            }
            shown = (info.st_ino, info.st_mode, info.st_nlink, info.st_uid, info.st_size)
            times = (info.st_mtime_ns, info.st_ctime_ns, info.st_blocks)
            found[str(path.relative_to(mounted.mnt))] = (*shown, *times, what, attributes)
    return found


def garbage(store: Path) -> None:
    data = store / "index" / "data.mdb"
    data.write_bytes(Random(1).randbytes(data.stat().st_size))


DESTROY: dict[str, Callable[[Path], object]] = {
    "removed": lambda store: shutil.rmtree(store / "index"),
    "garbage": garbage,
    "cut off": lambda store: os.truncate(store / "index" / "data.mdb", 10_000),
}


@pytest.mark.parametrize("destroy", DESTROY.values(), ids=DESTROY)
@pytest.mark.parametrize("has_snapshot", [False, True], ids=["the log", "a snapshot"])
def test_everything_is_there_after_a_kill_and_the_loss_of_the_index(
    mounted: Mounted, destroy: Callable[[Path], object], has_snapshot: bool
) -> None:
    if has_snapshot:
        (mounted.mnt / "waste").write_bytes(Random(9).randbytes(20 * MIB))
        purge(mounted, "waste")
        fusefs("gc", mounted.mnt)
        assert (mounted.store / "snapshot").exists()
    fill(mounted)
    fusefs("fsck", mounted.mnt)  # makes a checkpoint
    (mounted.mnt / "late").write_bytes(b"only in the log")
    expected = picture(mounted)
    mounted.kill()
    destroy(mounted.store)
    refused = run_fusefs("mount", mounted.store, mounted.mnt)
    assert refused.returncode == 14
    assert "fusefs rebuild" in refused.stderr
    planned = json.loads(fusefs("rebuild", "--dry-run", "--json", mounted.store))
    done = json.loads(fusefs("rebuild", "--json", mounted.store))
    assert planned.items() <= done.items()
    assert (planned["snapshot"] == "sound") is has_snapshot
    assert done["problems"] == []
    report = json.loads(fusefs("fsck", "--json", "--read-data", mounted.store))
    assert report["problems"] == []
    mounted.mount()
    assert picture(mounted) == expected
    (mounted.mnt / "after").write_bytes(b"it goes on")
    mounted.remount()
    assert (mounted.mnt / "after").read_bytes() == b"it goes on"


def test_a_mounted_store_is_refused(mounted: Mounted) -> None:
    for options in ((), ("--dry-run",)):
        assert run_fusefs("rebuild", *options, mounted.mnt).returncode == 13


def test_damaged_blocks_are_named_by_the_files_that_need_them(mounted: Mounted) -> None:
    (mounted.mnt / "good").write_bytes(b"good" * 1000)
    (mounted.mnt / "bad").write_bytes(b"bad!" * 1000)
    mounted.umount()
    first = mounted.store / "segments" / f"{1:016x}"
    first.write_bytes(first.read_bytes().replace(b"bad!bad!", b"bad!bAd!", 1))
    shutil.rmtree(mounted.store / "index")
    done = run_fusefs("rebuild", mounted.store)
    assert done.returncode == 40
    assert "content: /bad: block 2 for bytes 0 to 4000" in done.stdout
    mounted.mount()
    assert (mounted.mnt / "good").read_bytes() == b"good" * 1000
    with pytest.raises(OSError, match="Input/output error"):
        (mounted.mnt / "bad").read_bytes()
    mounted.expected.append("damage")


def test_what_would_be_lost_is_said_before_it_is(mounted: Mounted) -> None:
    (mounted.mnt / "before").write_bytes(b"before")
    (mounted.mnt / "this-name").write_bytes(b"this")
    mounted.umount()
    mounted.mount()
    (mounted.mnt / "after").write_bytes(b"after")
    mounted.umount()
    first = mounted.store / "segments" / f"{1:016x}"
    first.write_bytes(first.read_bytes().replace(b"this-name", b"that-name", 1))
    shutil.rmtree(mounted.store / "index")
    planned = run_fusefs("rebuild", "--dry-run", mounted.store)
    assert planned.returncode == 40
    assert planned.stdout.startswith(f"lost: segment {first.name} bytes ")
    refused = run_fusefs("rebuild", mounted.store)
    assert refused.returncode == 14
    assert "--accept-loss" in refused.stderr
    assert not (mounted.store / "index").exists()
    done = run_fusefs("rebuild", "--accept-loss", mounted.store)
    assert done.returncode == 40
    assert f"lost: segment {first.name}" in done.stderr
    mounted.mount()
    assert (mounted.mnt / "before").read_bytes() == b"before"
    assert (mounted.mnt / "after").read_bytes() == b"after"
