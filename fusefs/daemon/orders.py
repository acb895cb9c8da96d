"""What the agent is to do for us: orders, which it takes, does, and reports.

The agent asks for orders with the name of its session, and gets none twice. A new session is a new
process: it gets those again that the one before did not report. What nobody waits for any more is
withdrawn; a report of it is ignored.
"""

from dataclasses import dataclass, field
from typing import Any

import trio

Record = dict[str, Any]
#: How long an agent waits for an order before it is told that there is none: it shows that it
#: lives by asking again.
POLL_S = 20.0
#: An agent that has not asked for so long is gone, or hangs.
_SEEN_S = 2 * POLL_S


@dataclass(eq=False)
class Order:
    """One thing to do. `what`: for the agent. `ended` is set when it was reported, with `error`, ""
    if it was done, and what else the agent had to say."""

    number: int
    what: Record
    is_urgent: bool
    is_given: bool = False
    error: str = ""
    answer: Record = field(default_factory=dict)
    ended: trio.Event = field(default_factory=trio.Event)
    waiting: int = 0

    async def wait(self, timeout_s: float) -> bool:
        """Wait for its end; False if that takes longer."""
        self.waiting += 1
        try:
            with trio.move_on_after(timeout_s):
                await self.ended.wait()
        finally:
            self.waiting -= 1
        return self.ended.is_set()


class Orders:
    """The orders of one store that were not reported yet."""

    def __init__(self) -> None:
        self._open: dict[int, Order] = {}
        self._last = 0
        self._session = ""
        self._asked_at = float("-inf")
        self._news = trio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def has_agent(self) -> bool:
        """Whether an agent has asked for orders lately."""
        return trio.current_time() - self._asked_at < _SEEN_S

    def place(self, what: Record, *, is_urgent: bool = True) -> Order:
        """Add an order; urgent ones are given first."""
        self._last += 1
        order = self._open[self._last] = Order(self._last, what, is_urgent)
        self._tell()
        return order

    def hurry(self, order: Order) -> None:
        """Somebody waits for it by now."""
        order.is_urgent = True

    def withdraw(self, order: Order, error: str) -> None:
        """Nobody waits for it any more."""
        if self._open.pop(order.number, None):
            order.error = error
            order.ended.set()

    async def take(self, session: str, limit: int, wait_s: float) -> list[Record]:
        """Up to `limit` orders for the agent of that session; waits for the first one, but no
        longer than `wait_s`."""
        if session != self._session:
            self._session = session
            for order in self._open.values():
                order.is_given = False
            self._tell()
        self._asked_at = trio.current_time()
        with trio.move_on_after(wait_s):
            while session == self._session and not self._ready():
                await self._news.wait()
        self._asked_at = trio.current_time()
        if session != self._session:
            return []
        chosen = self._ready()[:limit]
        for order in chosen:
            order.is_given = True
        return [{"id": order.number, **order.what} for order in chosen]

    def done(self, number: int, error: str, answer: Record) -> Order | None:
        """The agent reports an order; None where nobody waits for that any more."""
        order = self._open.pop(number, None)
        if order is not None:
            order.error, order.answer = error, answer
            order.ended.set()
        return order

    def _ready(self) -> list[Order]:
        ready = [order for order in self._open.values() if not order.is_given]
        return sorted(ready, key=lambda order: not order.is_urgent)

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()
