"""Places among the transfers under way, given to those that wait in the order of their coming."""

from collections import deque

import trio


class Queue:
    """`places` of them. Whoever has one keeps it until its end."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken: set[bytes] = set()
        self._waiting: deque[tuple[bytes, trio.Event]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def take(self, id: bytes) -> None:
        """Return when `id` has a place."""
        if id in self._taken:
            return
        given = trio.Event()
        self._waiting.append((id, given))
        self._give()
        try:
            await given.wait()
        except trio.Cancelled:
            if given.is_set():
                self.give_back(id)
            else:
                self._waiting.remove((id, given))
            raise

    def keep(self, id: bytes) -> None:
        """`id` is under way already, whatever the limit says by now."""
        self._taken.add(id)

    def give_back(self, id: bytes) -> None:
        """`id` has ended; nothing where it had no place."""
        self._taken.discard(id)
        self._give()

    def _give(self) -> None:
        while self._waiting and len(self._taken) < self._places:
            id, given = self._waiting.popleft()
            self._taken.add(id)
            given.set()
