"""Whatever path a user has at hand: a store, a mountpoint, or anything below one of them.

Works from the mount table and the marker file of a store, so it works also when the mount is dead
or the store is not mounted, and it never touches a mount.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from fusefs.daemon.mounttable import Location, MountTable
from fusefs.errors import NotMounted, NotPermitted, UsageError
from fusefs.store.identity import NAME


@dataclass(frozen=True)
class Target:
    """What a path stands for.

    `mountpoint`: where the store is mounted, dead or alive; None if nowhere that we can see.
    `inner`: the path inside the filesystem, b"" for its root; None if the path led to the store.
    """

    store: Path
    mountpoint: Path | None
    inner: bytes | None


def resolve(path: str | bytes | Path, way_out: str = "name the STORE, or mount it first") -> Target:
    """The store, mountpoint and inner path that `path` stands for.

    `way_out`: what to do where it stands for none, for the message. Raises NotMounted if it is
    neither in a fusefs mount nor in a store, NotPermitted if we may not look.
    """
    table = MountTable.read()
    try:
        location = table.locate(os.fsencode(path))
    except FileNotFoundError as error:
        raise NotMounted(
            "the current directory is gone, perhaps unmounted: leave it, or give an absolute path"
        ) from error
    if location.mount and location.mount.is_fusefs:
        return Target(location.mount.store, location.mount.path, location.inner)
    store = _enclosing_store(location)
    if store is None:
        raise NotMounted(
            f"{os.fspath(path)!r} is neither a fusefs store nor in a mounted one: {way_out}"
        )
    mount = next(table.of_store(store), None)
    return Target(store, mount.path if mount else None, None)


def resolve_inner(target: Target, path: str) -> bytes:
    """The path inside the filesystem of `target` that `path` names.

    `path` may lead through the mountpoint, or be written as seen from the root of the filesystem
    (``docs/a.txt``, ``/docs/a.txt``). Raises UsageError if it leads into another filesystem.
    """
    location = MountTable.read().locate(os.fsencode(path))
    if location.mount and location.mount.is_fusefs:
        if location.mount.store != target.store:
            raise UsageError(
                f"{path!r} lies in {location.mount.path}, a mount of another store:"
                f" give a path in that of {target.store}"
            )
        return location.inner
    if target.inner is None or not path.startswith("/"):
        return os.path.normpath(b"/" + os.fsencode(path)).strip(b"/")
    raise UsageError(f"{path!r} is not in {target.mountpoint}: give a path below it")


def real_path(path: str | Path) -> Path:
    """`path` absolute and without symbolic links, without touching any fusefs mount."""
    return Path(os.fsdecode(MountTable.read().locate(os.fsencode(path)).path))


def _enclosing_store(location: Location) -> Path | None:
    path = Path(os.fsdecode(location.path))
    try:
        return next((p for p in (path, *path.parents) if (p / NAME).is_file()), None)
    except PermissionError as error:
        raise NotPermitted(f"{path} belongs to another user: try again as its owner") from error
