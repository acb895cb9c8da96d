"""A small store with one of everything, and how to damage exactly one thing in it.

    /docs/a.txt          1 MiB and 100 KiB: blocks 1 and 2
    /docs/sub/b          block 3; also called /docs/twice
    /link  /empty        a symbolic link; an empty file with an extended attribute
    /old                 removed: in the trash as entry 14 of batch 12, with block 4
    /sparse              3 MiB, of which block 5 are 4 bytes

Segment 1 holds the first three blocks, segment 2 the rest. All is checkpointed and sealed.
"""

from pathlib import Path
from random import Random

from fusefs.fsck.check import check
from fusefs.model import corruption, keys
from fusefs.model.block import Block
from fusefs.model.corruption import Corruption, Object, State
from fusefs.model.inode import Inode
from fusefs.store.counters import Counters
from fusefs.store.index import Index
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import SYMLINK, InProcess

ROOT, TRASH, DOCS, A, SUB, B, LINK, EMPTY, OLD, HOUR, SPARSE = range(1, 12)
A_COOKIE, TWICE_COOKIE, EMPTY_COOKIE, OLD_BATCH, OLD_ENTRY, LAST_COOKIE = 5, 8, 10, 12, 14, 15
IN_TRASH = "/.trash/2027-01-15T08/old"
MIB = 1 << 20

Changes = dict[bytes, bytes | None]


def build(path: Path) -> None:
    fs = InProcess(path, ManualClock())
    fs.mkdir(b"docs")
    fs.write(b"docs/a.txt", Random(1).randbytes(MIB + 100 * 1024))
    fs.mkdir(b"docs/sub")
    fs.write(b"docs/sub/b", b"content of b")
    fs.link(b"docs/sub/b", b"docs/twice")
    fs.make(b"link", SYMLINK, target=b"docs/a.txt")
    fs.make(b"empty")
    fs.tree.xattrs.set(EMPTY, b"user.note", b"mine")
    fs.store.seal()
    fs.write(b"old", b"removed")
    fs.unlink(b"old")
    fs.write(b"sparse", b"data", offset=MIB)
    fs.truncate(b"sparse", 3 * MIB)
    assert fs.store.counters == Counters(ino=SPARSE, block=5, cookie=LAST_COOKIE)
    assert [one.number for one in fs.trash.entries()] == [OLD_ENTRY]
    fs.close()


class Sample:
    """The store at `path`, which nobody has open."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def row(self, key: bytes) -> bytes:
        index = Index(self.path / "index")
        try:
            row = index.get(key)
            assert row is not None
            return row
        finally:
            index.close()

    def inode(self, ino: int, **fields: int) -> Changes:
        """The inode's row with other fields."""
        inode = Inode.unpack(ino, self.row(keys.inode(ino)))
        for field, value in fields.items():
            setattr(inode, field, value)
        return {keys.inode(ino): inode.pack()}

    def block(self, number: int, **fields: object) -> Changes:
        """The block's row with other fields."""
        block = Block.unpack(self.row(keys.block(number)))
        return {keys.block(number): block._replace(**fields).pack()}  # type: ignore[arg-type]

    def record(self, number: int, at: int | None = None) -> Changes:
        """A record of block `number` as bad, under the number `at` if that is another."""
        one = Corruption(
            number, 1, 100, State.DAMAGED, "reason", 1, 2, (Object(A, b"/docs/a.txt"),)
        )
        return {keys.corruption(number if at is None else at): corruption.pack(one)}

    def change(self, changes: Changes) -> None:
        """Put and delete rows behind the log's back."""
        index = Index(self.path / "index")
        index.apply(changes)
        index.commit({})
        index.close()

    def problems(self, *, read_data: bool = False) -> set[str]:
        """What a check finds, each as `kind where`."""
        report = check(self.path, read_data)
        assert report.data_was_read is read_data
        return {f"{problem.kind} {problem.where}" for problem in report.problems}
