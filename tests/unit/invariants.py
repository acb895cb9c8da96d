"""What must hold of every store at every moment, checked by reading all of its index.

    problems(store)      a line for each broken invariant; what the tests assert to be empty
    rows_in_log(store)   the index as the log alone would make it

Written from the formats in fusefs.model alone, so that it does not repeat the code's own mistakes.
"""

import stat
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress

import lmdb
import msgspec

from fusefs.errors import NotLocal
from fusefs.model import batch, dirent, entry, extent, job, keys
from fusefs.model.block import Block
from fusefs.model.entry import FINAL, State
from fusefs.model.extent import BLOCK_SIZE, DAMAGED, HOLE
from fusefs.model.inode import HAS_XATTR, IN_TRASH, ROOT_INO, TRASH_INO, Inode
from fusefs.store.log import Position
from fusefs.store.recovery import list_segments, replay, segment_sizes
from fusefs.store.store import Store

Rows = dict[bytes, bytes]
#: What a block takes of the log beside its content and its row: the head of its record, its line
#: in the seal, the lengths of the row's key and value, the key.
_BESIDE = 12 + 44 + 16 + 6 + 9


def check(store: Store, *, read_data: bool = True) -> None:
    """Fail with every broken invariant, named."""
    found = problems(store, read_data=read_data)
    assert not found, "\n".join(found)


def problems(store: Store, *, read_data: bool = True) -> list[str]:
    """Every broken invariant of the store as it stands."""
    rows = rows_in_index(store)
    found = list(_Checker(rows).run())
    counters = store.counters
    found += _misfits(store, rows)
    found += _misused(store, rows)
    for table, counter in ((keys.INODE, counters.ino), (keys.BLOCK, counters.block)):
        highest = max((keys.number(key) for key in rows if key[:1] == table), default=0)
        if highest > counter:
            found.append(f"number {highest} of {table!r} is above the counter {counter}")
    found += [
        f"number {number} of {table!r} is above the counter {counters.cookie}"
        for table, number in _cookies(rows)
        if number > counters.cookie
    ]
    if rows_in_log(store) != rows:
        found.append("the log does not make the same index")
    if read_data:
        for key in rows:
            if key[:1] == keys.BLOCK:
                with suppress(NotLocal):
                    store.blocks.locate(keys.number(key)).read()  # raises StoreDamaged
    return found


def _cookies(rows: Rows) -> Iterator[tuple[bytes, int]]:
    """(table, number) of all rows whose numbers are taken from the one counter of cookies."""
    for key in rows:
        if key[:1] == keys.ORDER:
            yield keys.ORDER, keys.second(key)
        elif key[:1] in (keys.ENTRY, keys.HISTORY, keys.BATCH, keys.JOB):
            yield key[:1], keys.number(key)


def _misfits(store: Store, rows: Rows) -> list[str]:
    """Totals that are not the sum of the rows."""
    inodes = [Inode.unpack(0, row) for key, row in rows.items() if key[:1] == keys.INODE]
    blocks = [Block.unpack(row) for key, row in rows.items() if key[:1] == keys.BLOCK]
    directories = [inode for inode in inodes if inode.is_dir]
    others = [inode for inode in inodes if not inode.is_dir]
    needed = [block for block in blocks if block.refs]
    expected = {
        "inodes": len(inodes),
        "files": sum(inode.nlink > 0 for inode in others),
        "directories": sum(not inode.flags & IN_TRASH for inode in directories),
        "trash_entries": sum(key[:1] == keys.ENTRY for key in rows),
        "live_bytes": sum(inode.blocks_bytes for inode in others if inode.nlink),
        "trash_bytes": sum(
            inode.blocks_bytes for inode in others if inode.trash_names and not inode.nlink
        ),
        "stored_bytes": sum(block.stored for block in needed),
        "plain_bytes": sum(block.length for block in needed),
        "referenced_bytes": sum(block.length * block.refs for block in needed),
        "garbage_bytes": sum(block.stored for block in blocks if not block.refs),
    }
    counted = msgspec.structs.asdict(store.totals)
    return [
        f"total {name} is {counted[name]}, should be {value}"
        for name, value in expected.items()
        if counted[name] != value
    ]


def rows_in_index(store: Store) -> Rows:
    """All rows but the index's own books."""
    return {key: row for key, row in store.scan(b"") if key[:1] != keys.META}


def rows_in_log(store: Store) -> Rows:
    """What a replay of the whole log makes, on the copy of the index if there is one."""
    rows: Rows = {}

    def apply(changes: dict[bytes, bytes | None]) -> None:
        for key, row in changes.items():
            if row is None:
                rows.pop(key, None)
            else:
                rows[key] = row

    start = _read_snapshot(store, rows)
    done = replay(
        store.path / "segments",
        store.identity.uuid_bytes,
        start,
        apply,
        cut=False,
        cipher=store.blocks.cipher,
        size_elsewhere=lambda n: max((one.size for one in store.copies(n).values()), default=0),
    )
    assert not done.cut_why, done.cut_why
    return rows


def _read_snapshot(store: Store, rows: Rows) -> Position:
    """Fill `rows` with those of STORE/snapshot; returns where the log goes on from there."""
    path = store.path / "snapshot"
    if not path.exists():
        return Position(0, 0)
    with (
        lmdb.open(str(path), subdir=False, readonly=True, lock=False) as environment,
        environment.begin() as transaction,
    ):
        position = transaction.get(keys.META + b"position")
        rows.update((bytes(key), bytes(row)) for key, row in transaction.cursor())
    for key in [key for key in rows if key[:1] == keys.META]:
        del rows[key]
    return Position(*msgspec.msgpack.decode(position))


def _misused(store: Store, rows: Rows) -> list[str]:
    """Segments of which the collector believes that something else is of use."""
    live: Counter[int] = Counter()
    for key, row in rows.items():
        if key[:1] == keys.BLOCK and (block := Block.unpack(row)).refs:
            live[block.segment] += block.stored + _BESIDE + len(row)
    return [
        f"segment {number} has {live[number]} live bytes, counted as {counted}"
        for number in list_segments(store.path / "segments")
        if (counted := store.usage.live_bytes(number)) != live[number]
    ] + _missized(store, live.total())


def _missized(store: Store, live_bytes: int) -> list[str]:
    """Sizes that the store keeps in mind and that the files do not have."""
    sizes = segment_sizes(store.path / "segments")
    found = [] if sizes == store.segments else [f"segments are {sizes}, not {store.segments}"]
    if (total := sum(sizes.values())) != store.segments_bytes:
        found.append(f"segments have {total} bytes, counted as {store.segments_bytes}")
    if live_bytes != store.usage.total_bytes:
        found.append(f"{live_bytes} bytes are needed, counted as {store.usage.total_bytes}")
    return found


class _Checker:
    def __init__(self, rows: Rows) -> None:
        self.tables: dict[bytes, Rows] = defaultdict(dict)
        for key, row in rows.items():
            self.tables[key[:1]][key] = row
        self.inodes = {
            keys.number(key): Inode.unpack(keys.number(key), row)
            for key, row in self.tables[keys.INODE].items()
        }

    def run(self) -> Iterator[str]:
        yield from self.names()
        yield from self.link_counts()
        yield from self.entries()
        yield from self.books_of_trash()
        yield from self.attributes()
        yield from self.extents_and_blocks()

    def names(self) -> Iterator[str]:
        """Names by name and by cookie are the same, and lead to inodes of their kind."""
        listed = {}
        for key, row in self.tables[keys.ORDER].items():
            ino, kind, name = dirent.unpack_listed(row)
            listed[keys.number(key), name] = dirent.Dirent(ino, kind, keys.second(key))
        by_name = {
            (keys.number(key), key[9:]): dirent.unpack(row)
            for key, row in self.tables[keys.NAME].items()
        }
        trash = by_name.pop((ROOT_INO, b".trash"), None)
        if trash != dirent.Dirent(TRASH_INO, stat.S_IFDIR, 0):
            yield f"the root's name for the trash is {trash}"
        for key in by_name.keys() ^ listed.keys():
            yield f"name {key} is only in one of the two tables of names"
        cookies = Counter(found.cookie for found in by_name.values())
        for cookie, count in cookies.items():
            if count > 1 or cookie <= 2:
                yield f"cookie {cookie} belongs to {count} names"
        for key, found in by_name.items():
            if listed.get(key, found) != found:
                yield f"name {key} is {found} by name, {listed[key]} in the listing"
            if found.ino not in self.inodes:
                yield f"name {key} leads to inode {found.ino}, which is not there"
            elif stat.S_IFMT(self.inodes[found.ino].mode) != found.kind:
                yield f"name {key} has kind {found.kind:o}, its inode another"
            parent = self.inodes.get(key[0])
            if parent is None or not parent.is_dir or not parent.nlink:
                yield f"name {key} is in a directory that is not there"
        self.by_name = by_name

    def link_counts(self) -> Iterator[str]:
        """nlink is live names, trash_names is names in the trash; a directory has one name."""
        live: Counter[int] = Counter()
        trashed: Counter[int] = Counter()
        subdirectories: Counter[int] = Counter()
        homes: dict[int, tuple[int, bytes]] = {}
        for (parent, name), found in self.by_name.items():
            if found.kind == stat.S_IFDIR:
                subdirectories[parent] += 1
                if found.ino in homes:
                    yield f"directory {found.ino} has two names"
                homes[found.ino] = parent, name
            elif self.is_in_trash(parent, found.cookie):
                trashed[found.ino] += 1
            else:
                live[found.ino] += 1
        orphans = {keys.number(key) for key in self.tables[keys.ORPHAN]}
        for ino, inode in self.inodes.items():
            if inode.is_dir:
                yield from self.directory(inode, homes.get(ino), subdirectories[ino])
            elif (inode.nlink, inode.trash_names) != (live[ino], trashed[ino]):
                yield (
                    f"inode {ino} counts {inode.nlink} live and {inode.trash_names} trashed names,"
                    f" there are {live[ino]} and {trashed[ino]}"
                )
            if (ino in orphans) != (inode.nlink == 0 and inode.trash_names == 0):
                yield f"inode {ino} is {'' if ino in orphans else 'not '}in the orphan table"
        for ino in orphans - self.inodes.keys():
            yield f"orphan {ino} has no inode"
        named = set(homes) | {ROOT_INO, TRASH_INO}
        for key in self.tables[keys.DIRECTORY]:
            if keys.number(key) not in named:
                yield f"directory {keys.number(key)} has a row for its name, and no name"

    def is_in_trash(self, parent: int, cookie: int) -> bool:
        """Whether a name is one of the trash. Of a directory that is taken back what lies in it
        leaves the trash first, and its mark goes last."""
        if not self.inodes[parent].flags & IN_TRASH:
            return False
        return not self.is_taken_back(parent) or keys.entry(cookie) in self.tables[keys.ENTRY]

    def is_taken_back(self, ino: int) -> bool:
        while ino not in (ROOT_INO, TRASH_INO):
            if keys.revival(ino) in self.tables[keys.REVIVAL]:
                return True
            ino = self.inodes[ino].parent
        return False

    def directory(
        self, inode: Inode, home: tuple[int, bytes] | None, children: int
    ) -> Iterator[str]:
        ino = inode.ino
        if home is None and ino not in (ROOT_INO, TRASH_INO):
            if inode.nlink or children:
                yield f"directory {ino} has no name, nlink {inode.nlink}, {children} children"
            return
        if inode.nlink != 2 + children:
            yield f"directory {ino} has nlink {inode.nlink} and {children} subdirectories"
        if inode.trash_names:
            yield f"directory {ino} counts trashed names"
        if home is None:
            return
        if home[0] != inode.parent:
            yield f"directory {ino} is in {home[0]}, its inode says {inode.parent}"
        if self.tables[keys.DIRECTORY].get(keys.directory(ino)) != home[1]:
            yield f"directory {ino} is called {home[1]!r}, its own row says otherwise"
        is_marked, is_above = inode.flags & IN_TRASH, self.inodes[home[0]].flags & IN_TRASH
        if is_marked != is_above and not (is_marked and self.is_taken_back(ino)):
            yield f"directory {ino} and the one above disagree about being in the trash"

    def entries(self) -> Iterator[str]:
        """Each name of the trash that is no directory has an entry, and the reverse."""
        names = {
            found.cookie: (parent, name, found.ino, found.kind)
            for (parent, name), found in self.by_name.items()
            if self.is_in_trash(parent, found.cookie)
        }
        orphans = {
            int.from_bytes(row, "big"): keys.number(key)
            for key, row in self.tables[keys.ORPHAN].items()
            if row
        }
        for key, row in self.tables[keys.ENTRY].items():
            one = entry.unpack(row)
            has = (one.parent, one.name, one.ino, one.kind)
            name = names.pop(one.number, None)
            is_orphan = orphans.pop(one.number, None) == one.ino
            if one.number != keys.number(key) or name not in (has, None):
                yield f"entry {one} stands for no name"
            if (name is None) != is_orphan or (one.state is State.PENDING) > (name is not None):
                yield f"entry {one} has name {name}, orphan: {is_orphan}"
            if one.state is State.ONGOING and name is not None:
                yield f"entry {one} is being purged, and has its name {name} still"
            if one.state != one.history[-1].state or one.state in FINAL:
                yield f"entry {one.number} is {one.state}, its history says otherwise"
        for cookie, what in names.items():
            if what[3] != stat.S_IFDIR:
                yield f"name {what} in the trash has no entry {cookie}"
        for number, ino in orphans.items():
            yield f"orphan {ino} is of entry {number}, which is not there"

    def books_of_trash(self) -> Iterator[str]:
        """The queue, batches, jobs and history are those of the entries."""
        entries = [entry.unpack(row) for row in self.tables[keys.ENTRY].values()]
        queue = {
            keys.queue(one.deadline_ns, one.number)
            for one in entries
            if one.state is State.PENDING and one.deadline_ns
        }
        for key in queue ^ self.tables[keys.QUEUE].keys():
            yield f"row {key!r} of the queue, or its entry, has no other"
        by_batch: dict[int, list[entry.Entry]] = defaultdict(list)
        for one in entries:
            if one.batch:  # else made before there were batches
                by_batch[one.batch].append(one)
        batches = {keys.number(key): row for key, row in self.tables[keys.BATCH].items()}
        for number in batches.keys() ^ by_batch.keys():
            yield f"batch {number} or its entries are not there"
        for number, row in batches.items():
            sums, inside = batch.unpack(row), by_batch[number]
            states = Counter(one.state for one in inside)
            counted = {
                State.PENDING: sums.pending, State.ONGOING: sums.ongoing, State.ERROR: sums.failed
            }  # fmt: skip
            if +Counter(counted) != states:
                yield f"batch {number} counts {counted}, there are {states}"
            if sums.size_bytes != sum(one.size_bytes for one in inside):
                yield f"batch {number} counts {sums.size_bytes} bytes"
            for one in inside:
                if not number < one.number <= sums.last or not sums.is_within(one.origin):
                    yield f"entry {one.number} is outside of its batch {sums}"
        ongoing = Counter(one.job for one in entries if one.job and one.state is State.ONGOING)
        for key, row in self.tables[keys.JOB].items():
            active = job.unpack(row)
            if active.number != keys.number(key):
                yield f"{active} stands under number {keys.number(key)}"
            if active.ongoing != ongoing[active.number]:
                yield f"{active} has {ongoing[active.number]} entries under way"
        for number in ongoing:
            if keys.job(number) not in self.tables[keys.JOB]:
                yield f"purge {number} has entries under way, and is not there"
        past = {keys.number(key) for key in self.tables[keys.HISTORY]}
        finished = [keys.second(key) for key in self.tables[keys.FINISHED]]
        if sorted(past) != sorted(finished):
            yield "the history and its order differ"
        for key, row in self.tables[keys.HISTORY].items():
            one = entry.unpack(row)
            if one.number != keys.number(key):
                yield f"the history has {one} under another number"
            if one.state not in FINAL or one.state != one.history[-1].state:
                yield f"entry {one.number} is {one.state}, and is history"
        for number in past & {one.number for one in entries}:
            yield f"entry {number} is in the trash, and in the history"
        for key in self.tables[keys.REVIVAL]:
            inode = self.inodes.get(keys.number(key))
            if inode is not None and not inode.is_dir:  # it may have been removed meanwhile
                yield f"inode {inode.ino} is taken back as a directory, and is none"

    def attributes(self) -> Iterator[str]:
        for key in self.tables[keys.XATTR]:
            inode = self.inodes.get(keys.number(key))
            if inode is None or not inode.flags & HAS_XATTR:
                yield f"extended attribute {key!r} of an inode that does not know of one"
        links = {keys.number(key): row for key, row in self.tables[keys.LINK].items()}
        for ino, inode in self.inodes.items():
            if inode.is_symlink != (ino in links):
                yield f"inode {ino} and the table of link targets disagree"
            elif inode.is_symlink and len(links[ino]) != inode.stored_size:
                yield f"symbolic link {ino} has size {inode.stored_size}"
        for ino in links.keys() - self.inodes.keys():
            yield f"link target of inode {ino}, which is not there"

    def extents_and_blocks(self) -> Iterator[str]:
        """Extents cover [0, stored size); a block has as many references as extents name it."""
        blocks = {
            keys.number(key): Block.unpack(row) for key, row in self.tables[keys.BLOCK].items()
        }
        references: Counter[int] = Counter()
        by_ino: dict[int, list[extent.Extent]] = defaultdict(list)
        for key, row in self.tables[keys.EXTENT].items():
            one = extent.unpack(keys.second(key), row)
            by_ino[keys.number(key)].append(one)
            if one.block == HOLE:
                if one.skip:
                    yield f"hole {one} has a skip"
                continue
            if one.block == DAMAGED:
                if one.skip:
                    yield f"damage {one} has a skip"
                continue
            references[one.block] += 1
            block = blocks.get(one.block)
            if block is None or one.skip + one.length > block.length:
                yield f"extent {one} of inode {keys.number(key)} is not in block {block}"
            if one.offset // BLOCK_SIZE != (one.end - 1) // BLOCK_SIZE:
                yield f"extent {one} crosses a multiple of the block size"
        for ino in by_ino.keys() - self.inodes.keys():
            yield f"extents of inode {ino}, which is not there"
        for ino, inode in self.inodes.items():
            if inode.is_file:
                yield from _coverage(inode, sorted(by_ino[ino]))
            elif by_ino[ino]:
                yield f"extents of inode {ino}, which is no file"
        for number, block in blocks.items():
            if block.refs != references[number]:
                yield f"block {number} counts {block.refs} references of {references[number]}"


def _coverage(inode: Inode, extents: list[extent.Extent]) -> Iterator[str]:
    position = data = 0
    after_hole = False
    for one in extents:
        if one.offset != position or not one.length:
            yield f"inode {inode.ino}: extent {one} stands where {position} was expected"
        if after_hole and one.block == HOLE:
            yield f"inode {inode.ino}: two holes in a row at {one.offset}"
        after_hole = one.block == HOLE
        data += 0 if after_hole else one.length
        position = one.end
    if position != inode.stored_size:
        yield f"inode {inode.ino}: extents end at {position}, size is {inode.stored_size}"
    if data != inode.blocks_bytes:
        yield f"inode {inode.ino}: {data} bytes of data, its inode says {inode.blocks_bytes}"
