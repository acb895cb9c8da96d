"""Which segments are in which remote: rows, and what of them is kept in memory.

A segment is *of use* while a block in it has references. Those are what a remote is to have; the
rest of the log is batches, which go there as deltas. A row of a segment that is of no use and not
here any more says nothing that anybody needs, and goes.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import msgspec

from fusefs.model import keys, remote
from fusefs.model.remote import Copy, Remote
from fusefs.store.store import Store
from fusefs.sync.registry import by_number

#: Rows that one batch deletes.
_SLICE = 1000


def cheapest_first(store: Store, segment: int) -> list[tuple[str, Remote, Copy]]:
    """The copies of a segment, each with its remote and the name of that. Raises StoreDamaged."""
    known = by_number(store)
    found = [(*known[n], copy) for n, copy in store.copies(segment).items() if n in known]
    return sorted(found, key=lambda one: (one[1].cost, one[0]))


def note_seen(store: Store, seen: Mapping[tuple[int, str], int]) -> None:
    """Note when copies, each a segment and a remote, were last seen whole: wall time in ns, 0 for
    one that was seen otherwise. Raises DiskFull, StoreError."""
    batch = store.batch()
    for number, (name, _) in by_number(store).items():
        for (segment, remote_name), when in seen.items():
            if remote_name == name and (copy := store.copies(segment).get(number)) is not None:
                row = msgspec.structs.replace(copy, verified_ns=when)
                batch.put(keys.copy(segment, number), remote.pack(row))
    store.commit(batch)


class Copies:
    """The copies of the segments of `store`. `version` grows with each change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[int, set[int]] = {}
        self._lacking: dict[int, tuple[tuple[int, int, int], list[int]]] = {}
        self.version = 0
        for key, _ in store.scan(keys.COPY):
            self._held.setdefault(keys.second(key), set()).add(keys.number(key))

    def held(self, number: int) -> set[int]:
        """The segments that are in the remote of this number; not to be changed."""
        return self._held.get(number, set())

    def get(self, segment: int, number: int) -> Copy | None:
        """What is known of the copy of a segment in a remote."""
        if segment not in self.held(number):
            return None
        row = self._store.get(keys.copy(segment, number))
        try:
            return None if row is None else remote.unpack_copy(row)
        except msgspec.MsgspecError:
            return None  # fsck tells it

    def needed(self) -> list[int]:
        """The segments of use up to the last sealed one, ascending."""
        last = self._store.sealed_segment
        return sorted(one for one in self._store.usage.segments() if one <= last)

    def lacking(self, number: int) -> list[int]:
        """The segments of use that a remote has not, oldest first; not to be changed."""
        now = self.version, self._store.sealed_segment, self._store.usage.version
        before, lacking = self._lacking.get(number, (None, []))
        if before != now:
            held = self.held(number)
            lacking = [one for one in self.needed() if one not in held]
            self._lacking[number] = now, lacking
        return lacking

    def page(self, number: int, after: int) -> list[tuple[int, str, int, str]]:
        """Some copies in a remote, of segments behind `after`: (segment, name, size, BLAKE3 in
        hex); an empty one is the last."""
        found = []
        for segment in sorted(one for one in self.held(number) if one > after)[:_SLICE]:
            if (copy := self.get(segment, number)) is not None:
                found.append((segment, copy.name, copy.size, copy.digest.hex()))
        return found

    def put(self, number: int, copies: Iterable[tuple[int, Copy]]) -> None:
        """Record copies in a remote, in one act."""
        batch = self._store.batch()
        segments = set()
        for segment, copy in copies:
            batch.put(keys.copy(segment, number), remote.pack(copy))
            segments.add(segment)
        self._store.commit(batch)
        self._held.setdefault(number, set()).update(segments)
        self.version += 1

    def forget(self, number: int, segments: Iterable[int]) -> Iterator[int]:
        """Delete rows of copies in a remote, some at a step; yields how many."""
        held = self._held.get(number, set())
        rest = iter([one for one in segments if one in held])
        while part := list(islice(rest, _SLICE)):
            batch = self._store.batch()
            for segment in part:
                batch.delete(keys.copy(segment, number))
            self._store.commit(batch)
            held.difference_update(part)
            self.version += 1
            yield len(part)

    def forget_all(self, number: int) -> Iterator[int]:
        """Delete all rows of copies in a remote, some at a step."""
        yield from self.forget(number, sorted(self.held(number)))

    def forget_dead(self) -> Iterator[int]:
        """Delete the rows of segments that are neither here nor of use, some at a step."""
        live, local = self._store.usage.live_bytes, self._store.segments
        for number in list(self._held):
            dead = [one for one in self._held[number] if one not in local and not live(one)]
            yield from self.forget(number, sorted(dead))
