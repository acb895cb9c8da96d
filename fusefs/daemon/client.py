"""A client of the control socket of a running daemon: the surface of its store.

Synchronous, for the CLI. Every wait has a deadline, because a daemon may hang; but the one for an
event has none, because nothing may happen for days.
"""

import json
import socket
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fusefs.base.events import Kind
from fusefs.daemon.wire import decode_error, encode, socket_address
from fusefs.errors import DaemonFailed, FusefsError, NotPermitted

if TYPE_CHECKING:
    from fusefs.daemon.collecting import Progress

_ANSWER_TIMEOUT_S = 15.0
#: Between two tries to get among those that wait to be served.
_CROWDED_S = 0.02
#: Between two looks at a purge or a scrub.
_MOMENT_S = 0.1
#: For what waits on the disk: at most the dirty limit has to be written.
_FLUSH_TIMEOUT_S = 300.0
#: A collection may move as much as the store holds.
_GC_TIMEOUT_S = 24 * 3600.0
_PROGRESS_EVERY_S = 0.2


class Client:
    """One connection; use it as a context manager. Its methods are those of `Surface`."""

    def __init__(self, store: Path, connection: socket.socket) -> None:
        self._store = store
        self._connection = connection
        self._replies = connection.makefile("rb")

    @classmethod
    def connect(cls, store: Path, timeout_s: float = _ANSWER_TIMEOUT_S) -> "Client | None":
        """A client of the daemon that serves `store`; None if no one listens there.

        Raises NotPermitted.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        deadline = time.monotonic() + timeout_s
        try:
            with socket_address(store) as address:
                while True:
                    try:
                        connection.connect(address)
                        break
                    except BlockingIOError:  # as many wait already as the kernel lets
                        if time.monotonic() > deadline:
                            raise
                        time.sleep(_CROWDED_S)
        except PermissionError as error:
            connection.close()
            raise NotPermitted(
                f"the daemon of {store} answers only the owner of the store and root"
            ) from error
        except OSError:
            connection.close()
            return None
        return cls(store, connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._replies.close()
        self._connection.close()

    def status(self) -> dict[str, Any]:
        """See `Surface.status`; so for the others."""
        answer: dict[str, Any] = self._ask("status")
        return answer

    def df(self) -> dict[str, Any]:
        answer: dict[str, Any] = self._ask("df")
        return answer

    def info(self, path: bytes) -> dict[str, Any]:
        answer: dict[str, Any] = self._ask("info", path=path)
        return answer

    def ask(self, verb: str, **arguments: Any) -> Any:
        return self._ask(verb, timeout_s=_FLUSH_TIMEOUT_S, **arguments)

    def purge_progress(self, jobs: list[int]) -> list[dict[str, Any]]:
        time.sleep(_MOMENT_S)
        return list(self.ask("trash_jobs", numbers=jobs))

    def scrub_progress(self) -> dict[str, Any]:
        time.sleep(_MOMENT_S)
        return dict(self.ask("scrub_status"))

    def gc(self, dry_run: bool, on_progress: "Progress | None" = None) -> dict[str, Any]:
        with self._watching(on_progress):
            answer: dict[str, Any] = self._ask("gc", timeout_s=_GC_TIMEOUT_S, dry_run=dry_run)
        return answer

    @contextmanager
    def _watching(self, on_progress: "Progress | None") -> Iterator[None]:
        """Ask on a connection of its own, in a thread of its own, how far a collection is."""
        if on_progress is None:
            yield
            return
        ended = threading.Event()

        def watch() -> None:
            with suppress(FusefsError):
                other = Client.connect(self._store)
                if other is None:
                    return
                with other:
                    while not ended.wait(_PROGRESS_EVERY_S):
                        if running := other.status()["collecting"]:
                            on_progress(running["segments_done"], running["segments_planned"])

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def checkpoint(self) -> None:
        self._ask("checkpoint", timeout_s=_FLUSH_TIMEOUT_S)

    def flush(self) -> None:
        self._ask("flush", timeout_s=_FLUSH_TIMEOUT_S)

    def stop(self) -> None:
        """Have the daemon unmount and end, whoever still uses the mount; returns at once."""
        self._ask("stop")

    def events(
        self,
        after: int | None = None,
        follow: bool = False,
        kinds: Collection[Kind] = (),
        buffer: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """What happened, see `Events.subscribe`; with `follow` goes on until the mount has ended.
        `buffer`: how many may wait in the daemon before the oldest is lost, by default many.

        Raises DaemonFailed when the daemon dies. Of a connection that follows nothing else can be
        asked any more.
        """
        timeout_s = None if follow else _ANSWER_TIMEOUT_S
        wanted = {"after": after, "follow": follow, "kinds": list(kinds)}
        if buffer is not None:
            wanted["buffer"] = buffer
        record = self._ask("events", timeout_s, **wanted)
        while record is not None:
            yield record
            record = self._reply()

    def hang_up(self) -> None:
        """Make whoever waits for a reply see the end of the stream; for signal handlers."""
        with suppress(OSError):  # the daemon was faster
            self._connection.shutdown(socket.SHUT_RDWR)

    def _ask(self, verb: str, timeout_s: float | None = _ANSWER_TIMEOUT_S, **args: object) -> Any:
        self._connection.settimeout(timeout_s)
        with self._talking():
            self._connection.sendall(encode({"verb": verb, "args": args}))
        return self._reply()

    def _reply(self) -> Any:
        with self._talking():
            line = self._replies.readline()
        if not line.endswith(b"\n"):
            raise self._failed("went away while it was asked")
        reply = json.loads(line)
        if "error" in reply:
            raise decode_error(reply["error"])
        return reply["result"]

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """What the connection raises, as our own error."""
        try:
            yield
        except TimeoutError as error:
            timeout_s = self._connection.gettimeout()
            raise self._failed(f"does not answer within {timeout_s:.0f} s") from error
        except OSError as error:
            raise self._failed(f"went away ({error.strerror})") from error

    def _failed(self, how: str) -> DaemonFailed:
        return DaemonFailed(
            f"the daemon of {self._store} {how}: look at {self._store}/daemon.log or its journal"
        )
