"""What happened in a store since it was opened, for whoever wants to follow it.

Any room may publish; a purge does so for each of 100 000 entries, so an event is a tuple until
somebody reads it, and a list of subscribers that is empty costs nothing. Readers come late or fall
behind: the last KEPT events can be had again, and a subscriber that does not take what waits for it
loses the oldest and is told how many. Nobody who listens can slow down who publishes.

All in one thread, the daemon's loop.
"""

import os
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, NamedTuple

from fusefs.base.clock import Clock, utc

#: Events that can be read after they happened.
KEPT = 1000
#: Events that wait for one subscriber.
QUEUE_LIMIT = 10_000

#: Of a field: what JSON has, and bytes for paths.
Value = str | bytes | int | float | None
Record = dict[str, Any]


class Kind(StrEnum):
    """What an event may tell of; the README has the fields of each."""

    RECOVERED = "recovered"
    MOUNTED = "mounted"
    COLLECTED = "collected"
    DAMAGED_READ = "damaged-read"
    CORRUPTION = "corruption"
    HEALED = "healed"
    SCRUBBED = "scrubbed"
    UPLOADED = "uploaded"
    PARTIAL_SWEPT = "partial-swept"
    RESTORE = "restore"
    PURGE = "purge"
    PURGE_JOB = "purge-job"
    POLICY = "policy"
    EVICTED = "evicted"
    NOT_FETCHED = "not-fetched"
    PUBLISHED = "published"
    SYNC_ERROR = "sync-error"
    SYNC_GOES_ON = "sync-goes-on"
    TRANSFER = "transfer"
    UNMOUNTING = "unmounting"


class Event(NamedTuple):
    """One thing that happened. `number` counts from 1 since the store was opened."""

    number: int
    time_ns: int
    kind: Kind
    fields: dict[str, Value]

    def record(self) -> Record:
        """As a JSON object; bytes become text with surrogate escapes."""
        shown: Record = {"number": self.number, "time": utc(self.time_ns), "kind": self.kind}
        for name, value in self.fields.items():
            shown[name] = os.fsdecode(value) if isinstance(value, bytes) else value
        return shown


class Subscription:
    """What one subscriber has still to take. Made by `Events.subscribe`."""

    def __init__(
        self, wake: Callable[[], object], kinds: Collection[Kind], limit: int | None = None
    ) -> None:
        self._wake = wake
        self._limit = limit or QUEUE_LIMIT
        self._kinds = frozenset(kinds)
        self._waiting: deque[Event] = deque()
        self._lost = 0

    def offer(self, event: Event) -> None:
        """Keep the event for the subscriber, if it is of a kind that it wants."""
        if self._kinds and event.kind not in self._kinds:
            return
        self._waiting.append(event)
        if len(self._waiting) > self._limit:
            self._waiting.popleft()
            self._lost += 1
        elif len(self._waiting) == 1:
            self._wake()

    def lose(self, count: int) -> None:
        """Have the subscriber told that so many events came before it could take them."""
        self._lost += count

    def take(self, limit: int) -> list[Record]:
        """The next records, about `limit` of them; [] if there are none.

        ``{"kind": "lost", "count": n}`` stands where n events are missing.
        """
        taken: list[Record] = []
        if self._lost:
            taken.append({"kind": "lost", "count": self._lost})
            self._lost = 0
        while self._waiting and len(taken) < limit:
            taken.append(self._waiting.popleft().record())
        return taken


class Events:
    """The events of one open store."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._subscriptions: list[Subscription] = []

    def publish(self, kind: Kind, **fields: Value) -> None:
        """Tell everybody. `fields` may have any names but number, time and kind."""
        self._last += 1
        event = Event(self._last, self._clock.time_ns(), kind, fields)
        self._kept.append(event)
        for subscription in self._subscriptions:
            subscription.offer(event)

    def since(self, number: int) -> list[Event]:
        """The kept events behind `number`, the oldest first.

        A number that is still to come was given by an earlier daemon: it gets everything.
        """
        if number > self._last:
            number = 0
        return [event for event in self._kept if event.number > number]

    @contextmanager
    def subscribe(
        self,
        wake: Callable[[], object],
        after: int | None = None,
        kinds: Collection[Kind] = (),
        limit: int | None = None,
    ) -> Iterator[Subscription]:
        """A subscription, inside the block: to the kept events, and to each one from now on.

        `wake` is called, inside `publish`, when there is something to take after there was nothing.
        With `after` only events behind that number, and the subscriber is told if not all of them
        are kept any more (of whatever kind they were). Without `kinds`, all kinds. `limit`: how
        many may wait before the oldest is lost, by default QUEUE_LIMIT.
        """
        subscription = Subscription(wake, kinds, limit)
        kept = self.since(after or 0)
        if kept and after is not None:
            subscription.lose(kept[0].number - 1 - (after if after <= self._last else 0))
        for event in kept:
            subscription.offer(event)
        self._subscriptions.append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)
