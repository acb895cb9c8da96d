"""Transfers for Python programs: typed calls to the daemon of a mounted store.

::

    from functools import partial
    from fusefs.daemon.client import Client
    from fusefs.transfers import Specification, TransferClient

    transfers = TransferClient(partial(Client.connect, Path("/srv/store")))
    id = transfers.create(Specification("store:/data", "/media/usb", ["run1", "notes.txt"]))
    while not (status := transfers.status(id)).is_over: ...

Each call has a connection of its own, so threads may share one client. Errors are the classes of
`fusefs.errors`, the same for the same condition: `KINDS` has what they are on the command line and
over HTTP. Calls while transfers are stopped, or the store is not mounted, raise NotRunning at once.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, Self

import msgspec

from fusefs import errors
from fusefs.base.events import Kind
from fusefs.errors import FusefsError, NotRunning
from fusefs.model.transfer import TERMINAL, Policy, Status

#: What a request may be refused with, and how a transfer may fail: status codes of HTTP. The exit
#: code of each is its own, see `fusefs.errors`.
KINDS: dict[type[FusefsError], int] = {
    errors.BadTransfer: 400,
    errors.NotPermitted: 403,
    errors.UnknownEndpoint: 404,
    errors.NoSuchTransfer: 404,
    errors.WrongState: 409,
    errors.AlreadyRunning: 409,
    errors.TransferCanceled: 410,
    errors.PayloadTooLarge: 413,
    errors.SourceChanged: 422,
    errors.ContentDiffers: 502,
    errors.TransferFailed: 500,
    errors.DiskFull: 507,
    errors.RemoteFull: 507,
    errors.RemoteError: 502,
    errors.NotRunning: 503,
    errors.TooManyTransfers: 503,
    errors.DaemonFailed: 503,
}


#: Messages that may wait to be taken.
BUFFER_MAX = 10_000


def http_status(error: FusefsError) -> int:
    """The HTTP status for an error: that of its nearest class in `KINDS`."""
    return next((KINDS[kind] for kind in type(error).__mro__ if kind in KINDS), 500)


class Daemon(AbstractContextManager[Any], Protocol):
    """A connection to a daemon; `fusefs.daemon.client.Client` is one."""

    def ask(self, verb: str, **arguments: Any) -> Any: ...

    def events(
        self,
        after: int | None = None,
        follow: bool = False,
        kinds: Sequence[Kind] = (),
        buffer: int | None = None,
    ) -> Iterator[dict[str, Any]]: ...

    def hang_up(self) -> None: ...


class Specification(NamedTuple):
    """What is to be transferred. `source`, `destination`: ``store``, ``store:/path``, the name of a
    remote, a directory or a URL. `files`: below the source; a directory stands for all in it.
    `more`: further sources and their files. `instructions`: a JSON object as text. `user`: in whose
    name, by default that of this process."""

    source: str
    destination: str
    files: Sequence[str | bytes]
    description: str = ""
    instructions: str = ""
    more: Sequence[tuple[str, Sequence[str | bytes]]] = ()
    policy: Policy = Policy.STOP
    user: str = ""
    source_secrets: str = ""
    destination_secrets: str = ""


class Skipped(msgspec.Struct, frozen=True):
    """A file that was not moved, and why."""

    path: str
    error_kind: str
    error: str


class TransferStatus(msgspec.Struct, frozen=True):
    """Where a transfer stands. Times are UTC as JSON has them; `ended`: None before its end."""

    id: str
    status: Status
    description: str
    source: list[str]
    destination: str
    user: str
    created: str
    changed: str
    ended: str | None
    is_canceling: bool
    files_total: int
    files_moved: int
    files_skipped: int
    bytes_total: int
    bytes_moved: int
    bytes_sent: int
    resumes: int
    retries: int
    error_kind: str
    error: str
    manifest: str
    skipped: list[Skipped]

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL


class Message(msgspec.Struct, frozen=True):
    """That a transfer has come into a status."""

    description: str
    id: str
    status: Status
    time: str


class Subscription:
    """Messages from the moment of its making on, one for each change of a status.

    Iterating waits for the next, until it is unsubscribed or the mount has ended. `dropped`: how
    many were lost because they were not taken in time. Made by `TransferClient.subscribe`.
    """

    def __init__(self, daemon: Daemon, buffer: int) -> None:
        self._daemon = daemon
        last = 0
        for event in daemon.events():
            last = event["number"]
        self._events = daemon.events(after=last, follow=True, kinds=(Kind.TRANSFER,), buffer=buffer)
        self._is_over = False
        self._taking = threading.Lock()
        self.dropped = 0

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        """Raises DaemonFailed when the daemon dies."""
        with self._taking:
            if self._is_over:
                raise StopIteration
            try:
                for event in self._events:
                    if event["kind"] == "lost":
                        self.dropped += event["count"]
                    else:
                        return msgspec.convert(event, type=Message)
            except FusefsError:
                if not self._is_over:
                    raise
            raise StopIteration

    def close(self) -> None:
        self._is_over = True
        self._daemon.hang_up()
        with self._taking:  # whoever waits for a message has been told that there is none
            self._daemon.__exit__(None, None, None)


class TransferClient:
    """`connect` makes a connection to the daemon of a store, or returns None where none answers."""

    def __init__(self, connect: Callable[[], Daemon | None]) -> None:
        self._connect = connect

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def create(self, asked: Specification) -> str:
        """Have a transfer recorded and done; its id. It is durable on return.

        Raises BadTransfer, UnknownEndpoint, PayloadTooLarge, NotPermitted, RemoteFull,
        TooManyTransfers, other RemoteErrors, NotRunning: nothing was recorded then.
        """
        sources = [(asked.source, asked.files, asked.source_secrets)]
        sources += [(source, files, "") for source, files in asked.more]
        answer = self._ask(
            "transfer_create",
            moves=[
                {"source": _end(source, secrets), "files": [os.fsencode(one) for one in files]}
                for source, files, secrets in sources
            ],
            destination=_end(asked.destination, asked.destination_secrets),
            description=asked.description,
            instructions=asked.instructions,
            policy=asked.policy.value,
            user=asked.user,
        )
        return str(answer["id"])

    def status(self, id: str) -> TransferStatus:
        """Raises NoSuchTransfer, BadTransfer for what is no id."""
        return msgspec.convert(self._ask("transfer_show", id=id), type=TransferStatus)

    def cancel(self, id: str) -> None:
        """Ask for its end, which comes soon; one that has ended stays as it is.

        Raises NoSuchTransfer, NotPermitted.
        """
        self._ask("transfer_cancel", id=id)

    def subscribe(self, buffer: int = BUFFER_MAX) -> Subscription:
        """Messages about all transfers; at most `buffer` of them, up to 10 000, wait to be taken.

        Raises UsageError for another buffer, NotRunning.
        """
        if not 1 <= buffer <= BUFFER_MAX:
            raise errors.UsageError(f"buffer: give a number from 1 to {BUFFER_MAX}")
        return Subscription(self._connected(), buffer)

    def unsubscribe(self, subscription: Subscription) -> None:
        """No more messages; whoever waits for one is told that there is none."""
        subscription.close()

    def start(self) -> None:
        """Go on after a stop. Raises AlreadyRunning."""
        self._ask("transfer_start")

    def stop(self) -> None:
        """Rest all transfers until a start, or the next mount. Raises NotRunning."""
        self._ask("transfer_stop")

    @property
    def running(self) -> bool:
        """Whether transfers are done; False also where the store is not mounted."""
        try:
            return bool(self._ask("transfer_running"))
        except NotRunning:
            return False

    def _ask(self, verb: str, **arguments: Any) -> Any:
        with self._connected() as daemon:
            return daemon.ask(verb, **arguments)

    def _connected(self) -> Daemon:
        daemon = self._connect()
        if daemon is None:
            raise NotRunning("no daemon answers for the store: mount it first")
        return daemon


def _end(text: str, secrets: str) -> dict[str, Any]:
    is_path = text.startswith(("/", "."))
    return {"text": text, "path": os.fsencode(os.path.realpath(text)) if is_path else b"",
            "secrets": secrets}  # fmt: skip
