"""A remote that fails as planned: for tests of whatever must bear with one.

Faults are counted when they strike, so that a test can tell that what it planned did happen.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from fusefs.errors import RemoteError, RemoteUnreachable
from fusefs.remotes.api import Buffer, Found, Remote
from fusefs.remotes.around import Around

_T = TypeVar("_T")


class Kind(Enum):
    """What happens: failing before or after the call took effect, or bytes that are not right."""

    BEFORE = "before"
    AFTER = "after"
    FLIPPED = "flipped"
    CUT = "cut"


@dataclass(frozen=True)
class Fault:
    """What happens to which calls of a method.

    `first`: to which call, counted from 1 for each method; `count`: to so many of them from there;
    0: to all. `prefix`: only calls about names that begin so are counted. FLIPPED and CUT concern
    what `get` returns and what `put` stores. `error`: what BEFORE and AFTER raise.
    """

    method: str
    kind: Kind
    first: int = 1
    count: int = 1
    prefix: str = ""
    error: type[RemoteError] = RemoteUnreachable


class Faulty(Around):
    """Does to calls what a plan says. `hits`: how often each fault of the plan struck."""

    def __init__(self, remote: Remote, plan: Sequence[Fault]) -> None:
        super().__init__(remote)
        self.plan = tuple(plan)
        self.hits = [0] * len(self.plan)
        self._calls = [0] * len(self.plan)
        self._lock = threading.Lock()

    def put(self, name: str, content: Buffer) -> bool:
        struck = self._struck("put", name)
        stored = _spoilt(bytes(content), struck)
        return self._act(struck, f"put of {name}", lambda: self.remote.put(name, stored))

    def get(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        struck = self._struck("get", name)
        got = self._act(struck, f"get of {name}", lambda: self.remote.get(name, start, size))
        return _spoilt(got, struck)

    def sizes(self, names: Collection[str]) -> dict[str, int]:
        struck = self._struck("sizes", "")
        return self._act(struck, "sizes", lambda: self.remote.sizes(names))

    def list(self, prefix: str) -> Iterator[Found]:
        struck = self._struck("list", prefix)
        # AFTER is in the middle: half of the listing is out by then.
        found = list(self.remote.list(prefix)) if _has(struck, Kind.AFTER) else None
        if found is None:
            yield from self._act(struck, "list", lambda: self.remote.list(prefix))
            return
        yield from found[: len(found) // 2]
        self._act(struck, "list", lambda: None)

    def delete(self, name: str) -> bool:
        struck = self._struck("delete", name)
        return self._act(struck, f"delete of {name}", lambda: self.remote.delete(name))

    def _struck(self, method: str, name: str) -> tuple[Fault, ...]:
        """The faults that strike the call that begins now."""
        struck: list[Fault] = []
        with self._lock:
            for number, fault in enumerate(self.plan):
                if fault.method != method or not name.startswith(fault.prefix):
                    continue
                self._calls[number] += 1
                past = self._calls[number] - fault.first
                if past >= 0 and (not fault.count or past < fault.count):
                    self.hits[number] += 1
                    struck.append(fault)
        return tuple(struck)

    def _act(self, struck: tuple[Fault, ...], what: str, call: Callable[[], _T]) -> _T:
        for fault in struck:
            if fault.kind is Kind.BEFORE:
                raise fault.error(f"{self.place}: planned fault before {what}")
        result = call()
        for fault in struck:
            if fault.kind is Kind.AFTER:
                raise fault.error(f"{self.place}: planned fault after {what}")
        return result


def _has(struck: tuple[Fault, ...], kind: Kind) -> bool:
    return any(fault.kind is kind for fault in struck)


def _spoilt(content: bytes, struck: tuple[Fault, ...]) -> bytes:
    if content and _has(struck, Kind.FLIPPED):
        middle = len(content) // 2
        content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    return content[: len(content) // 2] if _has(struck, Kind.CUT) else content
