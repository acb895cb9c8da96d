"""A remote that tries again what failed for now.

Only RemoteUnreachable is worth another try, and every call of a remote may be repeated. The delay
doubles. Retries are for a remote that moves: when nothing has succeeded for `stall_s`, whatever the
call, a failure is told at once, so that an offline remote is not asked five times by everybody who
wants something of it; the first call that succeeds ends that.
"""

import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from fusefs.base.clock import Clock
from fusefs.errors import RemoteUnreachable
from fusefs.remotes.api import Buffer, Found, Remote
from fusefs.remotes.around import Around

_T = TypeVar("_T")
#: Waits so many seconds, or until it is all over; whether it is. `threading.Event.wait` is one.
Wait = Callable[[float], bool]
#: Told of each failure that is followed by another try: the call, which try it was, the error.
Tried = Callable[[str, int, RemoteUnreachable], None]


@dataclass(frozen=True)
class Policy:
    """How patient to be. `attempts`: of one call, the first included. Delays in seconds."""

    attempts: int = 5
    first_delay_s: float = 0.5
    delay_max_s: float = 30.0
    stall_s: float = 60.0


class Retrying(Around):
    """Repeats the calls of `remote` that found it unreachable.

    `wait`: lets the delays pass, and ends them early when everything is to stop; the error of the
    last try is raised then.
    """

    def __init__(
        self,
        remote: Remote,
        clock: Clock,
        *,
        policy: Policy | None = None,
        wait: Wait | None = None,
        tried: Tried | None = None,
    ) -> None:
        super().__init__(remote)
        self._clock = clock
        self._policy = policy or Policy()
        self._wait = wait or threading.Event().wait
        self._tried = tried
        self._moved_s = clock.monotonic()

    def put(self, name: str, content: Buffer) -> bool:
        return self._call("put", partial(self.remote.put, name, content))

    def get(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        return self._call("get", partial(self.remote.get, name, start, size))

    def sizes(self, names: Collection[str]) -> dict[str, int]:
        return self._call("sizes", partial(self.remote.sizes, names))

    def list(self, prefix: str) -> Iterator[Found]:
        seen: set[str] = set()
        attempt = 0
        while True:
            attempt += 1
            try:
                for found in self.remote.list(prefix):
                    if found.name not in seen:
                        seen.add(found.name)
                        yield found
                        # It moves: what follows is worth as many tries again.
                        attempt = 1
                        self._moved_s = self._clock.monotonic()
            except RemoteUnreachable as error:
                self._pause("list", attempt, error)
            else:
                self._moved_s = self._clock.monotonic()
                return

    def delete(self, name: str) -> bool:
        return self._call("delete", partial(self.remote.delete, name))

    def free_bytes(self) -> int | None:
        return self._call("free_bytes", self.remote.free_bytes)

    def _call(self, what: str, call: Callable[[], _T]) -> _T:
        attempt = 0
        while True:
            attempt += 1
            try:
                result = call()
            except RemoteUnreachable as error:
                self._pause(what, attempt, error)
            else:
                self._moved_s = self._clock.monotonic()
                return result

    def _pause(self, what: str, attempt: int, error: RemoteUnreachable) -> None:
        """Wait before the next try, or raise `error` if there is to be none."""
        policy = self._policy
        is_stalled = self._clock.monotonic() - self._moved_s > policy.stall_s
        if attempt >= policy.attempts or is_stalled:
            raise error
        if self._tried:
            self._tried(what, attempt, error)
        if self._wait(min(policy.first_delay_s * 2 ** (attempt - 1), policy.delay_max_s)):
            raise error
