"""What the kernel has mounted, from /proc/self/mountinfo, and where a path lies in it.

Nothing here touches a fusefs mount: a daemon that is dead answers ENOTCONN, one that hangs would
take the caller with it. So paths are resolved by hand, component by component, and no system call
is made from the root of a fusefs mount downwards.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")
#: The filesystem type that a mount of ours has in the mount table.
FSTYPE = b"fuse.fusefs"
#: As the kernel's own limit for symbolic links in one path.
MAX_SYMLINKS = 40

_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo, see proc(5).

    `root` is the directory of the filesystem that is seen at `mountpoint`: b"/" but for binds.
    """

    mount_id: int
    parent_id: int
    device: bytes
    root: bytes
    mountpoint: bytes
    fstype: bytes
    source: bytes

    @property
    def is_fusefs(self) -> bool:
        return self.fstype == FSTYPE

    @property
    def store(self) -> Path:
        """The store that a fusefs mount serves."""
        return Path(os.fsdecode(self.source))

    @property
    def path(self) -> Path:
        """The mountpoint as a path."""
        return Path(os.fsdecode(self.mountpoint))


@dataclass(frozen=True)
class Location:
    """Where a path lies: absolute, without symbolic links outside of fusefs.

    `mount` is the mount that holds it, None where the table does not say (a chroot).
    """

    path: bytes
    mount: Mount | None

    @property
    def inner(self) -> bytes:
        """The path relative to the root of the mounted filesystem, b"" for the root itself."""
        assert self.mount is not None
        below = self.path[len(self.mount.mountpoint.rstrip(b"/")) :]
        return (self.mount.root.rstrip(b"/") + below).strip(b"/")


@dataclass(frozen=True)
class MountTable:
    """All mounts that this process can see, in the order in which they were made."""

    mounts: tuple[Mount, ...]
    _children: dict[tuple[int | None, bytes], Mount] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        known = {mount.mount_id for mount in self.mounts}
        children = {(_parent(mount, known), mount.mountpoint): mount for mount in self.mounts}
        object.__setattr__(self, "_children", children)

    @classmethod
    def read(cls, source: Path = MOUNTINFO) -> "MountTable":
        """The table as it is now."""
        return cls.parse(source.read_bytes())

    @classmethod
    def parse(cls, text: bytes) -> "MountTable":
        """The table in the text of a mountinfo file; lines that are not understood are skipped."""
        return cls(tuple(m for line in text.split(b"\n") if (m := _parse_line(line)) is not None))

    def of_store(self, store: Path) -> Iterator[Mount]:
        """The fusefs mounts of `store`, newest first."""
        source = os.fsencode(store)
        return (m for m in reversed(self.mounts) if m.is_fusefs and m.source == source)

    def at(self, mountpoint: bytes) -> Mount | None:
        """The mount whose mountpoint is exactly the absolute path `mountpoint`, if one is seen."""
        mount = self._enter(b"/", None)
        for prefix in _prefixes(mountpoint):
            mount = self._enter(prefix, mount)
        return mount if mount and mount.mountpoint == mountpoint else None

    def locate(self, path: bytes) -> Location:
        """Resolve `path` (may be relative) as the kernel would, but never inside a fusefs mount.

        Below a fusefs mount ``..`` is taken literally and links are not followed. Components that
        do not exist are kept, and so are links beyond the kernel's limit. Raises FileNotFoundError
        if `path` is relative and the current directory is gone.
        """
        if not path.startswith(b"/"):
            path = os.path.join(os.getcwdb(), path)
        pending = _components(path)
        trail = [(b"/", self._enter(b"/", None))]
        links = 0
        while pending:
            name = pending.pop()
            if name == b".":
                continue
            if name == b"..":
                trail = trail[:-1] or trail
                continue
            parent, mount = trail[-1]
            here = os.path.join(parent, name)
            entered = self._enter(here, mount)
            may_be_link = entered is mount and not (mount and mount.is_fusefs)
            if may_be_link and links < MAX_SYMLINKS and (link := _readlink(here)) is not None:
                links += 1
                trail = trail[:1] if link.startswith(b"/") else trail
                pending += _components(link)
            else:
                trail.append((here, entered))
        return Location(*trail[-1])

    def _enter(self, path: bytes, mount: Mount | None) -> Mount | None:
        """The mount that holds `path`, whose parent directory is held by `mount`.

        Several mounts may be stacked on one path: each has the one below it as its parent.
        """
        while above := self._children.get((mount.mount_id if mount else None, path)):
            mount = above
        return mount


def _parent(mount: Mount, known: set[int]) -> int | None:
    outside = mount.parent_id not in known or mount.parent_id == mount.mount_id
    return None if outside else mount.parent_id


def _components(path: bytes) -> list[bytes]:
    """The names in `path`, the last one first."""
    return [name for name in path.split(b"/") if name][::-1]


def _prefixes(path: bytes) -> Iterator[bytes]:
    end = 0
    while (end := path.find(b"/", end + 1)) != -1:
        yield path[:end]
    if path != b"/":
        yield path


def _readlink(path: bytes) -> bytes | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def _parse_line(line: bytes) -> Mount | None:
    """``36 35 98:0 /root /mountpoint options [tags...] - fstype source superoptions``."""
    try:
        left, right = line.split(b" - ", 1)
        mount_id, parent_id, device, root, mountpoint = left.split(b" ")[:5]
        fstype, source = right.split(b" ")[:2]
        return Mount(
            int(mount_id),
            int(parent_id),
            device,
            unescape(root),
            unescape(mountpoint),
            unescape(fstype),
            unescape(source),
        )
    except ValueError:
        return None


def unescape(text: bytes) -> bytes:
    r"""Undo the kernel's escapes: space, tab, newline, backslash and # are written \ooo."""
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), text)
