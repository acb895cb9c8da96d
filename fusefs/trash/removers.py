"""Who removes, and what of it belongs together.

Removals by one process with short pauses between them are one batch. When a path that such a batch
has removed whole is made and removed once more, a new one begins.
"""

from fusefs.base.process import leader_of, name_of
from fusefs.model import batch, keys
from fusefs.model.batch import RemovalBatch
from fusefs.model.entry import Entry
from fusefs.store.store import Store
from fusefs.tree.act import Act
from fusefs.tree.removal import Caller

#: A pause that ends a batch.
BATCH_PAUSE_S = 5.0
_KEPT = 1000


class Remover:
    """A process that removes. `batch`: that of its last removal, which was at `last_s`."""

    __slots__ = ("batch", "last_s", "process")

    def __init__(self, process: bytes) -> None:
        self.process = process
        self.batch = 0
        self.last_s = -BATCH_PAUSE_S


class Removers:
    """The processes that removed something lately from one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[int, Remover] = {}

    def of(self, pid: int) -> Remover:
        """The process of a thread with this id, which is what the kernel tells."""
        known = self._known.get(pid)
        if known and self._store.clock.monotonic() - known.last_s < BATCH_PAUSE_S:
            return known
        if len(self._known) > _KEPT:
            self._known.clear()
        leader = leader_of(pid)
        made = self._known[pid] = self.of(leader) if leader != pid else Remover(name_of(pid))
        return made

    def batch(self, act: Act, remover: Remover, caller: Caller, origin: bytes) -> RemovalBatch:
        """The batch that the removal of the path `origin` belongs to; `enter` puts its row."""
        now_s, now = self._store.clock.monotonic(), self._store.clock.time_ns()
        row = None
        if remover.batch and now_s - remover.last_s < BATCH_PAUSE_S:
            row = act.get(keys.batch(remover.batch))
        remover.last_s = now_s
        if row is not None:
            sums = batch.unpack(row)
            is_again = sums.is_whole and sums.is_within(origin)
            if sums.uid == caller.uid and not is_again:
                return sums
        counters = self._store.counters
        counters.cookie += 1
        remover.batch = counters.cookie
        return RemovalBatch(remover.batch, caller.uid, remover.process, origin, True, now, now)

    @staticmethod
    def enter(act: Act, made: Entry, sums: RemovalBatch) -> None:
        """Count an entry in its batch."""
        sums.takes(made.origin)
        sums.count(made.state, 1)
        sums.size_bytes += made.size_bytes
        sums.last, sums.ended_ns = made.number, made.deleted_ns
        act.put(keys.batch(sums.number), batch.pack(sums))
