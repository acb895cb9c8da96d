"""What can be asked about content that is in remotes, by the agent that fetches it and by users."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from fusefs.daemon.filesystem import Filesystem
from fusefs.daemon.verbs import Verb

Record = dict[str, Any]


class OrdersArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`session`: of the agent's process; a new one gets again what the one before did not report.
    `limit`: how many orders it can take."""

    session: str
    limit: int = 8


class DoneArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`id`: of the order. `error`: why it was not done, for people, or empty. `remote`: where what
    came is from. `proofs`: of an order to prove copies, see `evicting`."""

    id: int
    error: str = ""
    remote: str = ""
    proofs: list[Record] = []


class FetchDesk:
    """Answers about what is fetched for `filesystem`.

    An order is ``{"id", "kind": "fetch", "segment", "offset", "size", "copies"}``: lay these bytes
    of the segment into the file STORE/cache/<segment name>, from the first of the copies
    ``{"remote", "name"}`` that gives them; `remote` is a remote of the store, `name` the object.
    """

    def __init__(self, filesystem: Filesystem) -> None:
        self._filesystem = filesystem
        self._orders = filesystem.orders
        self._fetching = filesystem.fetching

    async def orders(self, arguments: OrdersArguments, _uid: int) -> Record:
        """Orders for the agent; waits a while for the first one."""
        return {"orders": await self._orders.take(arguments.session, arguments.limit)}

    async def done(self, arguments: DoneArguments, _uid: int) -> Record:
        """An order was done, or cannot be done."""
        answer = {"proofs": arguments.proofs}
        order = self._orders.done(arguments.id, arguments.error, answer)
        if order is not None and order.what["kind"] == "fetch":
            self._fetching.done(order, arguments.remote)
        return {}

    VERBS: ClassVar[Mapping[str, Verb]] = {
        "fetch_orders": Verb(OrdersArguments, orders),
        "fetch_done": Verb(DoneArguments, done),
    }
