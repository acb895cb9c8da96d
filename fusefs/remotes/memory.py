"""A remote in the memory of this process: what the contract is written against, and for tests.

All that are opened under one name are one place, as with any other address.
"""

import threading
import time
from collections.abc import Collection, Iterator

from fusefs.errors import NoSuchObject
from fusefs.remotes.api import Buffer, Capabilities, Found
from fusefs.remotes.names import check_name, check_prefix

_Objects = dict[str, tuple[bytes, int]]
_places: dict[str, tuple[_Objects, threading.Lock]] = {}


class MemoryRemote:
    """Objects in a dictionary, with the time of their writing."""

    capabilities = Capabilities(is_conditional=True)

    def __init__(self, place: str) -> None:
        self.place = place
        self._objects, self._lock = _places.setdefault(place, ({}, threading.Lock()))

    def put(self, name: str, content: Buffer) -> bool:
        new = bytes(content), time.time_ns()
        with self._lock:
            return self._objects.setdefault(check_name(name), new) is new

    def get(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        if not (found := self._objects.get(check_name(name))):
            raise NoSuchObject(f"{self.place}: no object {name}")
        return found[0][start:] if size is None else found[0][start : start + size]

    def sizes(self, names: Collection[str]) -> dict[str, int]:
        with self._lock:
            there = {check_name(name): self._objects.get(name) for name in names}
        return {name: len(found[0]) for name, found in there.items() if found}

    def list(self, prefix: str) -> Iterator[Found]:
        check_prefix(prefix)
        with self._lock:
            there = list(self._objects.items())
        for name, (content, written_ns) in there:
            if name.startswith(prefix):
                yield Found(name, len(content), written_ns)

    def delete(self, name: str) -> bool:
        with self._lock:
            return self._objects.pop(check_name(name), None) is not None

    def free_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        """Nothing to let go of: the objects stay for whoever opens the same place."""
