"""Fetches what readers wait for into the cache of the store, and proves copies before a drop.

The daemon orders (daemon.fetch_desk); each order is done in a thread of its own, and reported.
"""

import os
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import trio
from blake3 import blake3

from fusefs.errors import DaemonFailed, FusefsError, ObjectDamaged
from fusefs.remotes.api import Remote
from fusefs.store.presence import Cache

Record = dict[str, Any]
#: Puts a verb with its arguments to the daemon. Blocks; called by several threads at once.
Ask = Callable[..., Any]

#: Orders that are done at one time: pieces of 1 MiB, or proofs.
AT_ONCE = 8
#: After an error of the daemon's.
_RETRY_S = 1.0

log = structlog.get_logger(__name__)


class Fetcher:
    """Does the orders of the daemon of `store`. `remote_of`: an open remote by its name."""

    def __init__(self, store: Path, ask: Ask, remote_of: Callable[[str], Remote]) -> None:
        self._cache = Cache(store)
        self._ask = ask
        self._remote_of = remote_of
        self._session = secrets.token_hex(8)
        self._slots = trio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Take orders until cancelled, or until the daemon is gone. Raises DaemonFailed."""
        async with trio.open_nursery() as nursery:
            while True:
                async with self._slots:
                    limit = self._slots.value + 1
                ask = partial(self._ask, "fetch_orders", session=self._session, limit=limit)
                answer = await trio.to_thread.run_sync(ask, abandon_on_cancel=True)
                for order in answer["orders"]:
                    await self._slots.acquire()
                    nursery.start_soon(self._do, order)

    async def _do(self, order: Record) -> None:
        try:
            await trio.to_thread.run_sync(self._do_and_report, order)
        except DaemonFailed:
            raise
        except FusefsError as error:
            log.warning("an order could not be reported", error=str(error))
        finally:
            self._slots.release()

    def _do_and_report(self, order: Record) -> None:
        self._ask("fetch_done", **self.do(order))

    def do(self, order: Record) -> Record:
        """Do an order; returns the arguments of the report."""
        try:
            done = self._prove(order) if order["kind"] == "prove" else self._fetch(order)
        except (FusefsError, OSError) as error:
            done = {"error": str(error)}
        except Exception as error:  # of a library below; its user must hear of it
            log.exception("an order failed", kind=order["kind"])
            done = {"error": f"unexpected {type(error).__name__}: {error}"}
        return {"id": order["id"], **done}

    # -- fetching

    def _fetch(self, order: Record) -> Record:
        """From the first copy that gives what is wanted."""
        reasons = []
        for copy in order["copies"]:
            try:
                content = self._read(copy, order["offset"], order["size"])
            except FusefsError as error:
                reasons.append(f"remote {copy['remote']}: {error}")
                continue
            self._lay(order["segment"], order["offset"], content)
            return {"remote": copy["remote"]}
        return {"error": "; ".join(reasons)}

    def _read(self, copy: Record, offset: int, size: int) -> bytes:
        content = self._remote_of(copy["remote"]).get(copy["name"], offset, size)
        if len(content) != size:
            raise ObjectDamaged(
                f"{copy['name']} ends at byte {offset + len(content)}, within what was stored"
            )
        return content

    def _lay(self, segment: int, offset: int, content: bytes) -> None:
        """Lay bytes of a segment into its file of the cache. Raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._cache.path(segment), flags, 0o600)
        try:
            rest, at = memoryview(content), offset
            while rest:
                written = os.pwrite(descriptor, rest, at)
                rest, at = rest[written:], at + written
        finally:
            os.close(descriptor)

    # -- proving

    def _prove(self, order: Record) -> Record:
        """Which copies are there just now: with their sizes, and their content where that is asked
        for. A remote that does not answer proves nothing."""
        proofs: list[Record] = []
        for name in sorted({copy["remote"] for copy in order["copies"]}):
            copies = [copy for copy in order["copies"] if copy["remote"] == name]
            try:
                remote = self._remote_of(name)
                sizes = remote.sizes([copy["name"] for copy in copies])
            except FusefsError as error:
                proofs += [_proof(copy, str(error)) for copy in copies]
                continue
            for copy in copies:
                proofs.append(_proof(copy, self._why_not(remote, copy, sizes.get(copy["name"]))))
        return {"proofs": proofs}

    def _why_not(self, remote: Remote, copy: Record, size: int | None) -> str:
        """What is wrong with a copy, "" if nothing is."""
        if size is None:
            return f"{copy['name']} is not there"
        if size != copy["size"]:
            return f"{copy['name']} has {size} bytes, not {copy['size']}"
        if not copy["is_read"]:
            return ""
        try:
            content = remote.get(copy["name"])
        except FusefsError as error:
            return str(error)
        if blake3(content).hexdigest() != copy["digest"]:
            return f"{copy['name']} is not what was stored"
        return ""


def _proof(copy: Record, why_not: str) -> Record:
    return {"segment": copy["segment"], "remote": copy["remote"], "why_not": why_not}
