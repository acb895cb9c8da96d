"""Fetches what readers wait for into the cache of the store, and proves copies before a drop.

The daemon orders (daemon.fetch_desk); each order is done in a thread of its own, and reported.
"""

import math
import os
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import trio
from blake3 import blake3

from fusefs.agent.link import Link
from fusefs.agent.persist import persist
from fusefs.agent.places import Places
from fusefs.errors import DaemonFailed, FusefsError, NoSuchObject, ObjectDamaged, RemoteUnreachable
from fusefs.remotes.api import Remote
from fusefs.store.presence import Cache

Record = dict[str, Any]

#: Orders that are done at one time: pieces of 1 MiB, or proofs.
AT_ONCE = 8
#: A remote that did not answer is asked after the others for so long.
RESTS_S = 60.0
#: And where there are others, they are not kept waiting for longer than this: readers do not wait
#: for as long as a remote may be tried again.
PATIENCE_S = 15.0
#: How long the daemon may let us wait for an order.
_POLL_S = 30.0

log = structlog.get_logger(__name__)


async def run(link: Link, places: Places) -> None:
    """Do orders as they come."""
    session = secrets.token_hex(8)
    slots = trio.Semaphore(AT_ONCE)
    silent: dict[str, float] = {}
    async with trio.open_nursery() as nursery:

        async def take() -> None:
            async with slots:
                limit = slots.value + 1
            answer = await link.ask("fetch_orders", session=session, limit=limit, wait_s=_POLL_S)
            for order in answer["orders"]:
                await slots.acquire()
                nursery.start_soon(_serve, link, places, order, slots, silent)

        await persist(take, "fetching")


async def _serve(
    link: Link, places: Places, order: Record, slots: trio.Semaphore, silent: dict[str, float]
) -> None:
    """One order. A task boundary: what is not reported is ordered again.

    `silent`: when each remote did not answer, by `trio.current_time`; of all orders together.
    """
    try:
        reasons = []
        todo = parts(order, silent, trio.current_time())
        for part in todo:
            patience_s = math.inf if part is todo[-1] else PATIENCE_S
            done, unreachable = await _done(link, places, part, patience_s)
            for name in unreachable:
                places.forget(name)
                silent[name] = trio.current_time()
            if "error" not in done:
                break
            reasons.append(done["error"])
            done["error"] = "; ".join(reasons)
        await link.ask("fetch_done", **done)
    except DaemonFailed as error:
        log.debug("the daemon cannot be told", error=str(error))
    except FusefsError as error:
        log.warning("an order could not be reported", error=str(error))
    except Exception:
        log.exception("an order failed")
    finally:
        slots.release()


async def _done(
    link: Link, places: Places, part: Record, patience_s: float
) -> tuple[Record, set[str]]:
    """What came of a part, and the remotes that did not answer. After `patience_s` it is left to
    itself: should its bytes come yet, they are the same as others'."""
    with trio.move_on_after(patience_s):
        remotes = {name: await _connected(places, name) for name in _names(part)}
        doer = Fetcher(link.store, partial(_of, remotes))
        return await places.call(doer.do, part), doer.unreachable
    names = _names(part)
    error = f"remote {', '.join(sorted(names))}: it did not answer within {patience_s:.0f} s"
    return {"id": part["id"], "error": error}, names


def parts(order: Record, silent: dict[str, float], now: float) -> list[Record]:
    """What is to be done of an order, one part after the other until one succeeds.

    To fetch, one remote is asked after the other, each connected only then; after the others those
    that did not answer lately, as each piece would wait for them anew; and last those whose content
    is doubted. A proof wants all.
    """
    if order["kind"] != "fetch" or not order["copies"]:
        return [order]
    copies = sorted(
        order["copies"],
        key=lambda copy: (
            copy["is_doubted"],
            now - silent.get(copy["remote"], -math.inf) < RESTS_S,
        ),
    )
    return [{**order, "copies": [copy]} for copy in copies]


def _names(order: Record) -> set[str]:
    return {copy["remote"] for copy in order["copies"]}


async def _connected(places: Places, name: str) -> Remote | FusefsError:
    """A remote, or why it cannot be had."""
    try:
        return (await places.get(name)).remote
    except DaemonFailed:
        raise
    except FusefsError as error:
        return error


def _of(remotes: dict[str, Remote | FusefsError], name: str) -> Remote:
    found = remotes[name]
    if isinstance(found, FusefsError):
        raise found
    return found


class Fetcher:
    """Does orders for `store`. `remote_of`: a remote by its name; may raise. `unreachable`: the
    remotes that did not answer."""

    def __init__(self, store: Path, remote_of: Callable[[str], Remote]) -> None:
        self._cache = Cache(store)
        self._remote_of = remote_of
        self.unreachable: set[str] = set()

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
                self._note(copy["remote"], error)
                reasons.append(f"remote {copy['remote']}: {error}")
                continue
            self._lay(order["segment"], order["offset"], content)
            return {"remote": copy["remote"]}
        return {"error": "; ".join(reasons)}

    def _note(self, name: str, error: FusefsError) -> None:
        if isinstance(error, RemoteUnreachable):
            self.unreachable.add(name)

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
                self._note(name, error)
                proofs += [_proof(copy, error) for copy in copies]
                continue
            proofs += [_looked_at(remote, copy, sizes.get(copy["name"])) for copy in copies]
        return {"proofs": proofs}


def _looked_at(remote: Remote, copy: Record, size: int | None) -> Record:
    """What is wrong with a copy of which the remote says that it has `size` bytes, if anything."""
    name = copy["name"]
    if size is None:
        return _proof(copy, NoSuchObject(f"{name} is not there"))
    if size != copy["size"]:
        return _proof(copy, ObjectDamaged(f"{name} has {size} bytes, not {copy['size']}"))
    if not copy["is_read"]:
        return _proof(copy)
    try:
        content = remote.get(name)
    except FusefsError as error:
        return _proof(copy, error)
    if blake3(content).hexdigest() != copy["digest"]:
        return _proof(copy, ObjectDamaged(f"{name} is not what was stored"))
    return _proof(copy)


def _proof(copy: Record, wrong: FusefsError | None = None) -> Record:
    return {
        "segment": copy["segment"],
        "remote": copy["remote"],
        "why_not": "" if wrong is None else str(wrong),
        "is_bad": isinstance(wrong, NoSuchObject | ObjectDamaged),
    }
