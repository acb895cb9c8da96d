"""The events of a mount on their way to clients of the control socket.

A client asks for what is kept, or follows: then its connection carries events until it hangs up or
the mount has ended, which may be in weeks. Followers therefore have places of their own: other
verbs are answered however many there are.
"""

from contextlib import AbstractContextManager, suppress
from typing import Annotated

import msgspec
import trio

from fusefs.base.events import QUEUE_LIMIT, Events, Kind, Subscription
from fusefs.daemon.wire import encode, encode_error
from fusefs.errors import FusefsError

#: Connections that follow at one time.
MAX_FOLLOWERS = 16
#: For the followers to take what is left when the mount has ended.
GOODBYE_S = 1.0
#: Events that are encoded without a pause for others: some 2 ms.
_BATCH = 200

#: What a client that went away or stalls raises here.
GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)


class EventsArguments(msgspec.Struct, forbid_unknown_fields=True):
    """Of ``events``. `after`, `kinds`, `buffer`: see `Events.subscribe`; `follow`: also those to
    come."""

    after: Annotated[int, msgspec.Meta(ge=0)] | None = None
    follow: bool = False
    kinds: list[Kind] = []
    buffer: Annotated[int, msgspec.Meta(ge=1, le=QUEUE_LIMIT)] = QUEUE_LIMIT


class Following:
    """Sends `events` to clients, each a line, None at the end.

    A client that does not take a batch within `stall_s` is given up.
    """

    def __init__(self, events: Events, stall_s: float) -> None:
        self._events = events
        self._stall_s = stall_s
        self._followers = 0
        self._is_ending = False
        self._news = trio.lowlevel.ParkingLot()
        self._all_gone = trio.lowlevel.ParkingLot()

    async def send_kept(self, stream: trio.SocketStream, wanted: EventsArguments) -> None:
        """Send what is kept. Raises GONE."""
        with self._subscribe(wanted) as subscription:
            pass  # no more than there is now, or a busy daemon would never come to the end
        await self._send_waiting(stream, subscription)
        await self._send(stream, encode({"result": None}))

    async def follow(self, stream: trio.SocketStream, wanted: EventsArguments) -> None:
        """Send what is kept and what comes, until the mount has ended or the client is gone."""
        if self._followers >= MAX_FOLLOWERS:
            many = f"{MAX_FOLLOWERS} clients follow the events of this mount: end one of them first"
            await self._send(stream, encode_error(FusefsError(many)))
            return
        self._followers += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_wait_for_hangup, stream, nursery.cancel_scope)
                with suppress(*GONE):
                    await self._send_news(stream, wanted)
                nursery.cancel_scope.cancel()
        finally:
            self._followers -= 1
            if not self._followers:
                self._all_gone.unpark_all()

    async def finish(self) -> None:
        """The mount has ended: send the followers what is left, and that it is all."""
        self._is_ending = True
        self._news.unpark_all()
        with trio.move_on_after(GOODBYE_S):
            while self._followers:
                await self._all_gone.park()

    async def _send_news(self, stream: trio.SocketStream, wanted: EventsArguments) -> None:
        with self._subscribe(wanted) as subscription:
            await self._send_waiting(stream, subscription)
            while not self._is_ending:
                await self._news.park()
                await self._send_waiting(stream, subscription)
        await self._send(stream, encode({"result": None}))

    def _subscribe(self, wanted: EventsArguments) -> AbstractContextManager[Subscription]:
        return self._events.subscribe(
            self._news.unpark_all, wanted.after, wanted.kinds, wanted.buffer
        )

    async def _send_waiting(self, stream: trio.SocketStream, subscription: Subscription) -> None:
        while records := subscription.take(_BATCH):
            await self._send(stream, b"".join(encode({"result": one}) for one in records))

    async def _send(self, stream: trio.SocketStream, lines: bytes) -> None:
        with trio.fail_after(self._stall_s):
            await stream.send_all(lines)


async def _wait_for_hangup(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    """End `scope` when the client goes away, without waiting for an event that it cannot take.

    It has nothing more to say, so whatever arrives is its end as well.
    """
    with suppress(*GONE):
        await stream.receive_some(1)
    scope.cancel()
