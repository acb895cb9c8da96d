"""Do the rows of the index fit together? One function for each kind of row.

Each yields a `Problem` for every row that does not fit; together they check the invariants that
the model states: extents cover a file, references are counted, every name has its inode and every
inode its names.
"""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from fusefs.fsck.view import Rows
from fusefs.model import dirent, entry, extent, keys
from fusefs.model.block import Block
from fusefs.model.extent import HOLE
from fusefs.model.inode import HAS_XATTR, IN_TRASH, ROOT_INO, TRASH_INO, Inode


@dataclass(frozen=True)
class Problem:
    """`kind`: which invariant; `where`: path, inode, block or segment; `message`: what is wrong."""

    kind: str
    where: str
    message: str


@dataclass
class _Counts:
    """What the names and extents say, to be compared with what the inodes and blocks say."""

    live_names: Counter[int] = field(default_factory=Counter)
    trash_names: Counter[int] = field(default_factory=Counter)
    subdirectories: Counter[int] = field(default_factory=Counter)
    references: Counter[int] = field(default_factory=Counter)
    trash_directories: set[int] = field(default_factory=set)


def structure(rows: Rows) -> Iterator[Problem]:
    """Every misfit among the rows."""
    counts = _Counts()
    for key, row in rows.scan(keys.INODE):
        if _inode(key, row).flags & IN_TRASH:
            counts.trash_directories.add(keys.number(key))
    yield from _names(rows, counts)
    yield from _entries(rows)
    yield from _extents(rows, counts)
    yield from _inodes(rows, counts)
    yield from _blocks(rows, counts)
    yield from _attributes(rows)


def path_of(rows: Rows, ino: int) -> str:
    """A path for messages, or the inode's number where it has no name."""
    parts: list[bytes] = []
    while ino != ROOT_INO:
        if ino == TRASH_INO:
            parts.append(b".trash")
            break
        found = _any_name(rows, ino)
        if found is None or len(parts) > 4096:
            return f"inode {ino}"
        ino, name = found
        parts.append(name)
    return "/" + os.fsdecode(b"/".join(reversed(parts)))


def _any_name(rows: Rows, ino: int) -> tuple[int, bytes] | None:
    name = rows.get(keys.directory(ino))
    row = rows.get(keys.inode(ino))
    if name is not None and row is not None:
        return Inode.unpack(ino, row).parent, name
    for key, listed in rows.scan(keys.ORDER):
        found, _, text = dirent.unpack_listed(listed)
        if found == ino:
            return keys.number(key), text
    return None


def _inode(key: bytes, row: bytes) -> Inode:
    return Inode.unpack(keys.number(key), row)


def _names(rows: Rows, counts: _Counts) -> Iterator[Problem]:
    for key, row in rows.scan(keys.NAME):
        parent, name, found = keys.number(key), key[9:], dirent.unpack(row)
        where = f"{path_of(rows, parent).rstrip('/')}/{os.fsdecode(name)}"
        inode_row = rows.get(keys.inode(found.ino))
        if inode_row is None:
            yield Problem("name", where, f"names inode {found.ino}, which does not exist")
            continue
        inode = Inode.unpack(found.ino, inode_row)
        if stat.S_IFMT(inode.mode) != found.kind:
            yield Problem("name", where, "names an inode of another type")
        if found.ino == TRASH_INO:
            continue  # the one name that is not listed
        listed = rows.get(keys.order(parent, found.cookie))
        if listed is None or dirent.unpack_listed(listed) != (found.ino, found.kind, name):
            yield Problem("listing", where, "is not listed in its directory")
        if rows.get(keys.inode(parent)) is None:
            yield Problem("name", where, f"lies in directory {parent}, which does not exist")
        if inode.is_dir:
            counts.subdirectories[parent] += 1
            if inode.parent != parent or rows.get(keys.directory(inode.ino)) != name:
                yield Problem("directory", where, "does not know its own name and parent")
        is_entry = parent in counts.trash_directories and (
            rows.get(keys.entry(found.cookie)) is not None
        )
        (counts.trash_names if is_entry else counts.live_names)[found.ino] += 1
    for key, row in rows.scan(keys.ORDER):
        ino, _, name = dirent.unpack_listed(row)
        by_name = rows.get(keys.name(keys.number(key), name))
        if by_name is None or dirent.unpack(by_name).cookie != keys.second(key):
            where = f"{path_of(rows, keys.number(key)).rstrip('/')}/{os.fsdecode(name)}"
            yield Problem("listing", where, f"is listed (inode {ino}) but cannot be looked up")


def _entries(rows: Rows) -> Iterator[Problem]:
    for key, row in rows.scan(keys.ENTRY):
        one = entry.unpack(row)
        by_name = rows.get(keys.name(one.parent, one.name))
        if by_name is None or dirent.unpack(by_name).cookie != keys.number(key):
            where = "/" + os.fsdecode(one.origin)
            yield Problem("trash", where, f"entry {one.number} has no name in the trash")


def _extents(rows: Rows, counts: _Counts) -> Iterator[Problem]:
    inode: Inode | None = None
    ino = position = data_bytes = 0

    def finished() -> Iterator[Problem]:
        if inode is not None:
            if position != inode.stored_size:
                message = f"extents end at {position}, its size is {inode.stored_size}"
                yield Problem("extent", path_of(rows, ino), message)
            if data_bytes != inode.blocks_bytes:
                message = f"counts {inode.blocks_bytes} bytes of data, has {data_bytes}"
                yield Problem("extent", path_of(rows, ino), message)

    for key, row in rows.scan(keys.EXTENT):
        one = extent.unpack(keys.second(key), row)
        if keys.number(key) != ino:
            yield from finished()
            ino, position, data_bytes = keys.number(key), 0, 0
            inode_row = rows.get(keys.inode(ino))
            inode = Inode.unpack(ino, inode_row) if inode_row is not None else None
            if inode is None:
                yield Problem("extent", f"inode {ino}", "has extents, but does not exist")
        if inode is not None and one.offset != position:
            what = "overlap" if one.offset < position else "leave a gap"
            yield Problem("extent", path_of(rows, ino), f"extents {what} at byte {one.offset}")
        position = one.end
        if one.block == HOLE:
            continue
        data_bytes += one.length
        counts.references[one.block] += 1
        block_row = rows.get(keys.block(one.block))
        if block_row is None:
            message = f"needs block {one.block}, which does not exist"
            yield Problem("extent", path_of(rows, ino), message)
        elif one.skip + one.length > Block.unpack(block_row).length:
            message = f"reaches behind the end of block {one.block}"
            yield Problem("extent", path_of(rows, ino), message)
    yield from finished()


def _inodes(rows: Rows, counts: _Counts) -> Iterator[Problem]:
    for key, row in rows.scan(keys.INODE):
        inode = _inode(key, row)
        ino = inode.ino
        names = counts.live_names[ino] + counts.trash_names[ino]
        is_orphan = rows.get(keys.orphan(ino)) is not None
        if not names and not is_orphan and ino not in (ROOT_INO, TRASH_INO):
            yield Problem("orphan", f"inode {ino}", "has no name and is not marked to be freed")
        if inode.is_dir:
            expected = 2 + counts.subdirectories[ino]
            if inode.nlink != expected and not is_orphan:
                message = f"has {inode.nlink} links, should have {expected}"
                yield Problem("links", path_of(rows, ino), message)
            continue
        if (inode.nlink, inode.trash_names) != (counts.live_names[ino], counts.trash_names[ino]):
            message = (
                f"counts {inode.nlink} names and {inode.trash_names} in the trash,"
                f" has {counts.live_names[ino]} and {counts.trash_names[ino]}"
            )
            yield Problem("links", path_of(rows, ino), message)
        if inode.is_file and inode.stored_size and rows.get(keys.extent(ino, 0)) is None:
            message = f"has no extent at its start, its size is {inode.stored_size}"
            yield Problem("extent", path_of(rows, ino), message)
        if inode.is_symlink and rows.get(keys.link(ino)) is None:
            yield Problem("link", path_of(rows, ino), "is a symbolic link without a target")


def _blocks(rows: Rows, counts: _Counts) -> Iterator[Problem]:
    for key, row in rows.scan(keys.BLOCK):
        number = keys.number(key)
        block, found = Block.unpack(row), counts.references[number]
        if block.refs != found:
            message = f"counts {block.refs} references, has {found}"
            yield Problem("references", f"block {number}", message)


def _attributes(rows: Rows) -> Iterator[Problem]:
    for key, _ in rows.scan(keys.XATTR):
        row = rows.get(keys.inode(keys.number(key)))
        if row is None:
            where = f"inode {keys.number(key)}"
            yield Problem("xattr", where, "has extended attributes, but does not exist")
        elif not _inode(key[:9], row).flags & HAS_XATTR:
            where = path_of(rows, keys.number(key))
            yield Problem("xattr", where, f"does not show its attribute {os.fsdecode(key[9:])}")
