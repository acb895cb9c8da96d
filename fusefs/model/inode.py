"""An inode: what stat(2) shows, and a little more.

Mutable on purpose: the tree keeps one object for each inode in use, and handlers change it. What
counts is the packed row in the index.
"""

import stat
from collections.abc import Callable
from operator import attrgetter
from struct import Struct

#: The root of the mounted tree; FUSE fixes the number.
ROOT_INO = 1
#: The root of the trash, shown as ``.trash``.
TRASH_INO = 2

#: The extended attribute of a directory that says what becomes of what is removed in it.
TRASH_RULE = b"user.fusefs.trash"

#: Some extended attribute exists; without it no lookup for one is needed.
HAS_XATTR = 1
#: A directory inside the trash. Names in it are changed by deletion and restore alone.
IN_TRASH = 2

#: Times that a row can hold are within this many nanoseconds of 1970: up to the year 2262.
TIME_LIMIT_NS = (1 << 63) - 1

VERSION = 1
_ROW = Struct("<BIIIIQQQqqqqIIQ")
ROW_SIZE = _ROW.size
#: Of a row what the totals of a store count, which stays the same in most changes: version, mode,
#: nlink, blocks_bytes, flags, trash_names.
SUMMED = Struct("<BI8xI16xQ32xII8x")


class Inode:
    """One inode.

    `size` is what stat shows; `stored_size` is what the extents cover. They differ while written
    bytes wait in memory, and only `stored_size` reaches the index.
    `blocks_bytes`: bytes of extents that are not holes. `nlink`: live names alone (for a
    directory, 2 and its subdirectories); `trash_names`: names in the trash. `parent`: for
    directories, the one they are in; 0 for the rest. Times are nanoseconds since 1970.
    """

    __slots__ = (
        "atime", "blocks_bytes", "btime", "ctime", "flags", "gid", "ino", "mode", "mtime", "nlink",
        "parent", "rdev", "size", "stored_size", "trash_names", "uid",
    )  # fmt: skip

    def __init__(
        self, ino: int, mode: int, uid: int, gid: int, now_ns: int, *, nlink: int = 1,
        rdev: int = 0, parent: int = 0, flags: int = 0,
    ) -> None:  # fmt: skip
        self.ino = ino
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.nlink = nlink
        self.rdev = rdev
        self.size = 0
        self.stored_size = 0
        self.blocks_bytes = 0
        self.atime = self.mtime = self.ctime = self.btime = now_ns
        self.flags = flags
        self.trash_names = 0
        self.parent = parent

    def pack(self) -> bytes:
        return _ROW.pack(
            VERSION, self.mode, self.uid, self.gid, self.nlink, self.rdev, self.stored_size,
            self.blocks_bytes, self.atime, self.mtime, self.ctime, self.btime, self.flags,
            self.trash_names, self.parent,
        )  # fmt: skip

    @classmethod
    def unpack(cls, ino: int, row: bytes) -> "Inode":
        """Raises struct.error or ValueError on a row that is not one."""
        self = cls.__new__(cls)
        self.ino = ino
        (
            version, self.mode, self.uid, self.gid, self.nlink, self.rdev, self.stored_size,
            self.blocks_bytes, self.atime, self.mtime, self.ctime, self.btime, self.flags,
            self.trash_names, self.parent,
        ) = _ROW.unpack(row)  # fmt: skip
        if version != VERSION:
            raise ValueError(f"inode {ino}: row version {version}")
        self.size = self.stored_size
        return self

    def fields(self) -> tuple[int, ...]:
        """All of it, to be given back to `set_fields`."""
        return _fields(self)

    def set_fields(self, fields: tuple[int, ...]) -> None:
        for field, value in zip(Inode.__slots__, fields, strict=True):
            setattr(self, field, value)

    @property
    def is_dir(self) -> bool:
        return self.mode & 0o170000 == stat.S_IFDIR

    @property
    def is_file(self) -> bool:
        return self.mode & 0o170000 == stat.S_IFREG

    @property
    def is_symlink(self) -> bool:
        return self.mode & 0o170000 == stat.S_IFLNK


_fields: Callable[[Inode], tuple[int, ...]] = attrgetter(*Inode.__slots__)
