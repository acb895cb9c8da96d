"""Half-written files: the promise of each, that its bytes before the offset are good."""

from collections.abc import Collection, Iterator

from fusefs.fsck.problem import Places, Problem
from fusefs.fsck.tables import Tables
from fusefs.model.extent import BLOCK_SIZE


def partials(tables: Tables, places: Places, bad: Collection[int]) -> Iterator[Problem]:
    """What is wrong with them; `bad`: blocks that do not verify."""
    for ino, one in tables.partials():
        if not is_file(tables, ino):
            yield Problem("partial", f"inode {ino}", "is half-written, but is no file")
        elif (end := good_end(tables, ino, one.offset, bad)) < one.offset:
            message = f"is good up to byte {one.offset}, it says, and is so up to {end}"
            yield Problem("partial", places.path(ino), message)


def is_file(tables: Tables, ino: int) -> bool:
    inode = tables.inode(ino)
    return inode is not None and inode.is_file


def good_end(tables: Tables, ino: int, offset: int, bad: Collection[int]) -> int:
    """Up to which multiple of the block size, at most `offset`, a file's bytes lie in blocks that
    are not `bad`."""
    end = 0
    for one in tables.extents_of(ino):
        is_good = one is not None and one.offset == end and one.has_block and one.block not in bad
        if end >= offset or one is None or not is_good:
            break
        end = one.end
    return min(end, offset) // BLOCK_SIZE * BLOCK_SIZE
