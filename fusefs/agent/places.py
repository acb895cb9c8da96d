"""Remotes as their rows say: connected once, and anew when the row has become another."""

from collections.abc import Callable
from typing import Any, TypeVar

import structlog
import trio

from fusefs.agent.link import Link
from fusefs.base.clock import SystemClock
from fusefs.errors import NoSuchRemote, RemoteUnreachable
from fusefs.model.remote import Remote as Row
from fusefs.remotes.api import Remote
from fusefs.remotes.throttle import Limits
from fusefs.sync.places import connect

#: Calls to remotes at one time, of all tasks together; each has a thread, and perhaps a segment.
MAX_CALLS = 16

_Result = TypeVar("_Result")

log = structlog.get_logger(__name__)


class Place:
    """A remote of the store: its `name`, its `row` and the `remote` itself, connected here.

    `retries`: calls that were made again, since it was. Raises as `sync.places.connect`.
    """

    def __init__(self, name: str, row: Row, limits: Limits) -> None:
        self.name = name
        self.row = row
        self.retries = 0
        self.remote: Remote = connect(row, self._note_retry, limits)

    def _note_retry(self, call: str, attempt: int, error: RemoteUnreachable) -> None:
        self.retries += 1
        log.debug("tried again", remote=self.name, call=call, attempt=attempt, error=str(error))


class Places:
    """The remotes of the store that `link` leads to. `limits`: of whoever moves bytes there."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.limits = Limits(SystemClock())
        self._places: dict[str, Place] = {}
        self._calls = trio.CapacityLimiter(MAX_CALLS)

    async def get(self, name: str) -> Place:
        """The remote of that name, connected.

        Raises NoSuchRemote, BadRemote, WrongKey and what connecting raises.
        """
        try:
            row = Row(**await self._link.ask("remote_row", name=name))
        except NoSuchRemote:
            self.forget(name)
            raise
        known = self._places.get(name)
        if known is None or _address(known.row) != _address(row):
            known = await self.call(Place, name, row, self.limits)
            self._places[name] = known
        known.row = row
        return known

    def forget(self, name: str) -> None:
        """Connect anew the next time: what there is may be the cause of a failure."""
        self._places.pop(name, None)

    async def call(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Make a call that waits for a network, in a thread. Cancelled, nobody waits for it."""
        return await trio.to_thread.run_sync(
            function, *arguments, abandon_on_cancel=True, limiter=self._calls
        )


def _address(row: Row) -> tuple[object, ...]:
    """What a connection depends on."""
    return row.number, row.url, row.secrets, row.limit, row.is_encrypted
