"""The store shrinks to what is needed, while it is mounted and while it is not."""

import json
from pathlib import Path
from random import Random

import pytest

from tests.conftest import Mounted, fusefs

pytestmark = pytest.mark.mount
MIB = 1 << 20


def segments_bytes(store: Path) -> int:
    return sum(path.stat().st_size for path in (store / "segments").iterdir())


def gc(*arguments: str | Path) -> dict[str, int]:
    record: dict[str, int] = json.loads(fusefs("gc", "--json", *arguments))
    return record


def purge(mounted: Mounted, name: str) -> None:
    """Remove a file, and then what is in the trash of it."""
    (mounted.mnt / name).unlink()
    (entry,) = (mounted.mnt / ".trash").glob(f"*/{name}")
    entry.unlink()


@pytest.mark.parametrize("is_mounted", [True, False])
def test_purged_content_gives_its_space_back(mounted: Mounted, is_mounted: bool) -> None:
    kept = Random(1).randbytes(20 * MIB)
    (mounted.mnt / "kept").write_bytes(kept[: 10 * MIB])
    (mounted.mnt / "gone").write_bytes(Random(2).randbytes(60 * MIB))
    with open(mounted.mnt / "kept", "ab") as file:
        file.write(kept[10 * MIB :])
    assert gc(mounted.mnt)["segments"] == 0
    purge(mounted, "gone")
    mounted.remount()  # orphans are freed at the latest now
    target = mounted.mnt if is_mounted else mounted.store
    if not is_mounted:
        mounted.umount()
    planned = gc("--dry-run", target)
    assert planned["is_plan"]
    assert segments_bytes(mounted.store) > 80 * MIB
    done = gc(target)
    assert (done["segments"], done["moved_bytes"]) == (planned["segments"], planned["moved_bytes"])
    assert done["freed_bytes"] == planned["freed_bytes"] > 60 * MIB
    assert segments_bytes(mounted.store) < 30 * MIB
    mounted.remount()
    assert (mounted.mnt / "kept").read_bytes() == kept
    assert json.loads(fusefs("fsck", "--json", "--read-data", mounted.store))["problems"] == []


def test_the_trash_keeps_its_content(mounted: Mounted) -> None:
    content = Random(3).randbytes(20 * MIB)
    (mounted.mnt / "file").write_bytes(content)
    (mounted.mnt / "file").unlink()
    mounted.remount()
    gc(mounted.mnt)
    fusefs("trash", "restore", mounted.mnt / "file")
    assert (mounted.mnt / "file").read_bytes() == content
