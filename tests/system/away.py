"""Mounted stores with a remote in a directory, that is told apart by renaming it."""

import os
from pathlib import Path

from fusefs.daemon.client import Client
from fusefs.store import format
from tests.conftest import Mounted, fusefs


def add_remote(mounted: Mounted, place: Path, name: str = "usb", *options: str) -> None:
    """Have the store kept in a directory as well."""
    place.mkdir(exist_ok=True)
    fusefs("remote", "add", mounted.mnt, name, f"file://{place}", *options)


def sync(mounted: Mounted) -> None:
    """Have all go to the remotes, and wait for it."""
    client = Client.connect(mounted.store)
    assert client is not None
    with client:
        client.flush()
    fusefs("sync", "now", mounted.mnt)
    fusefs("sync", "wait", mounted.mnt)


def segments_bytes(store: Path) -> int:
    """What the segments take on the disk."""
    return sum(path.stat().st_size for path in (store / "segments").iterdir())


def drop_caches(mnt: Path) -> None:
    """Have the kernel ask again for what it has of a mount."""
    for path in mnt.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def flip(store: Path, info: dict[str, object], at: int = 100) -> None:
    """Change a byte of the first block of a file, on the disk."""
    one = info["extents"][0]  # type: ignore[index]
    path = store / "segments" / format.segment_name(int(one["segment"], 16))
    with open(path, "r+b") as file:
        file.seek(one["segment_offset"] + at)
        byte = file.read(1)[0]
        file.seek(one["segment_offset"] + at)
        file.write(bytes([byte ^ 1]))


def wait_for_event(mounted: Mounted, kind: str) -> None:
    """Return when something of that kind has happened since the mount."""
    client = Client.connect(mounted.store)
    assert client is not None
    with client:
        next(client.events(follow=True, kinds=[kind]))
