"""The time by which the trash ages: it counts what has really passed, whatever the clocks say.

A wall clock that is set forward must not purge anything early. So ages are not differences of wall
times. While the machine runs, also over restarts of the daemon, time is its uptime, which nobody
can set. Over a restart of the machine only the wall clock can tell how long it was off; a machine
that has just come up may have a wrong one until the network corrects it. Therefore:

- In the first `SETTLE_S` of a machine's run nothing expires, and what is removed then is dated when
  that time is over. After it, the wall clock is believed.
- A clock that was set back over a restart of the machine counts as no time at all. How long the
  machine was off is not known then, so neither is what a right clock of its next run would add:
  that counts as no time either.
- A clock that is corrected while the machine runs adds nothing: what counts at the next start is by
  how much the clock is further than it ever was, the time that has passed since included.

So: never early, unless over a restart of the machine the wall clock is wrong, not even behind what
it was before, and still wrong ten minutes later; at times late.
"""

import msgspec

from fusefs.base.clock import Clock
from fusefs.model import keys
from fusefs.store.index import Batch
from fusefs.store.store import Store
from fusefs.tree.act import Act

#: For the network to set the clock of a machine that has just started.
SETTLE_S = 600
#: The mark in the index is renewed when it is that old, and when the wall clock was set forward, or
#: that would be added after a power cut.
MARK_EVERY_S = 3600
_JUMP_NS = 10**9
_KEY = keys.setting("steady")


class Mark(msgspec.Struct, array_like=True):
    """Clocks at one moment; `now_ns` is ours.

    `wall_ns` is the wall clock as if it had never been set back. `is_behind`: this run of the
    machine began with one that had been set back, so `wall_ns` lacks the time before.
    """

    boot: str
    uptime_ns: int
    wall_ns: int
    now_ns: int
    is_behind: bool = False


class Steady:
    """The steady time of one store, in nanoseconds; at first about the wall time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.clock: Clock = store.clock
        self._boot = self.clock.boot_id()
        row = store.get(_KEY)
        self._mark = msgspec.msgpack.decode(row, type=Mark) if row else self._fresh()
        self._is_marked = row is not None
        same_run = self._mark.boot == self._boot
        self._is_same_run = same_run and self._mark.uptime_ns <= self.clock.uptime_ns()

    def _fresh(self) -> Mark:
        wall = self.clock.time_ns()
        return Mark(self._boot, self.clock.uptime_ns(), wall, wall)

    @property
    def is_settled(self) -> bool:
        """Whether `now_ns` may be asked for."""
        return self._is_same_run or self.clock.uptime_ns() >= SETTLE_S * 10**9

    def now_ns(self) -> int:
        """0 while it is not known."""
        if not self.is_settled:
            return 0
        if not self._is_same_run:
            self._believe_wall()
        return self._mark.now_ns + self.clock.uptime_ns() - self._mark.uptime_ns

    def _believe_wall(self) -> None:
        mark, wall = self._mark, self.clock.time_ns()
        further = wall - mark.wall_ns
        passed = 0 if mark.is_behind else max(0, further)
        wall = max(wall, mark.wall_ns)
        now = mark.now_ns + passed
        self._mark = Mark(self._boot, self.clock.uptime_ns(), wall, now, is_behind=further < 0)
        self._is_same_run = True
        self._is_marked = False

    def mark_if_due(self) -> None:
        """Remember where the clocks stand, now and then. Raises DiskFull, StoreError."""
        now = self.now_ns()
        if not now or not self._is_due(now):
            return
        mark = self._fresh_mark()
        batch: Batch = self._store.batch()
        batch.put(_KEY, msgspec.msgpack.encode(mark))
        self._store.commit(batch)
        self._was_marked(mark)

    def date(self, act: Act) -> int:
        """`now_ns`, for an act that notes it: where that is due the act also remembers where the
        clocks stand, since another start must go on from here."""
        now = self.now_ns()
        if now and self._is_due(now):
            mark = self._fresh_mark()
            act.put(_KEY, msgspec.msgpack.encode(mark))
            act.then(lambda: self._was_marked(mark))
        return now

    def _was_marked(self, mark: Mark) -> None:
        self._mark, self._is_marked = mark, True

    def _is_due(self, now_ns: int) -> bool:
        mark = self._mark
        age_ns = now_ns - mark.now_ns
        ahead_ns = self.clock.time_ns() - mark.wall_ns - age_ns
        is_old = age_ns >= MARK_EVERY_S * 10**9
        return not self._is_marked or is_old or ahead_ns > _JUMP_NS

    def _fresh_mark(self) -> Mark:
        mark, uptime = self._mark, self.clock.uptime_ns()
        age_ns = uptime - mark.uptime_ns
        wall = max(self.clock.time_ns(), mark.wall_ns + age_ns)
        return Mark(self._boot, uptime, wall, mark.now_ns + age_ns, mark.is_behind)
