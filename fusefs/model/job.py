"""A purge that was asked for: remembered until all that it wants is gone or has failed."""

import msgspec

from fusefs.model.entry import Entry, State


class Selector(msgspec.Struct, array_like=True, frozen=True):
    """Which entries: those in `numbers`, or all up to the number `upto`.

    Of these, where not 0 or None: of the batch `batch`, removed before `before_ns`, due by `due_ns`
    (times of `trash.steady`), belonging to the user `uid`.
    """

    numbers: tuple[int, ...] = ()
    upto: int = 0
    batch: int = 0
    before_ns: int = 0
    due_ns: int = 0
    uid: int | None = None

    def takes(self, entry: Entry) -> bool:
        """Whether `entry` is one of them, apart from its owner."""
        if self.numbers:
            if entry.number not in self.numbers:
                return False
        elif entry.number > self.upto:
            return False
        if self.batch and entry.batch != self.batch:
            return False
        if self.before_ns and not 0 < entry.since_ns < self.before_ns:
            return False
        return self.is_due(entry)

    def is_due(self, entry: Entry) -> bool:
        """Whether the deadline of `entry`, which may have changed or be another's, allows it."""
        return not self.due_ns or 0 < entry.deadline_ns <= self.due_ns


class Job(msgspec.Struct, array_like=True):
    """One purge. `number`: its id, never that of an entry. `cause`: why, for the history.

    `uid`: who asked. `asked_ns`: wall time. `cursor`: the last entry, or the count of numbers, that
    was looked at; `is_begun` once all were. `ongoing`, `done`, `failed`: entries of it by outcome;
    `skipped`: not purged, because in use.
    """

    number: int
    cause: str
    uid: int
    asked_ns: int
    selector: Selector
    cursor: int = 0
    is_begun: bool = False
    ongoing: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0

    def count(self, state: State, sign: int) -> None:
        """One entry more or less that is in `state`."""
        if state is State.ONGOING:
            self.ongoing += sign
        elif state is State.ERROR:
            self.failed += sign
        elif state is State.COMPLETE:
            self.done += sign

    @property
    def is_over(self) -> bool:
        return self.is_begun and not self.ongoing


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Job)


def pack(job: Job) -> bytes:
    return _encoder.encode(job)


def unpack(row: bytes) -> Job:
    """Raises msgspec.MsgspecError on a row that is not one."""
    return _decoder.decode(row)
