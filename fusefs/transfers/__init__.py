"""Transfers: files brought from one place to another, orchestrated, recorded and proved.

::

    dispatcher --> stager --> mover --> manifestor
         |____________ recorder __________|          rows in the index, the journal

    api         the seam to who touches sources and destinations
    orders      what that is over the control socket
    transfers   all of them: what can be asked, and the roles that do it
    role        what the roles have in common; queue: places among those under way
    request     what is refused before it is recorded
    records     the rows; recorder: makes changes durable, tells them, hands on
    manifest    the data package that says that a transfer is complete
    client      all that, for Python programs outside: the names below

Each role is a task with an inbox. A change of status and the hand-off to the next role are one
batch, so a transfer is in exactly one place at every instant, whatever is killed.

Called by `daemon`. Knows the index and nothing of networks: bytes are moved by `agent`.
"""

from fusefs.transfers.client import (
    KINDS,
    Message,
    Specification,
    Subscription,
    TransferClient,
    TransferStatus,
    http_status,
)

__all__ = [
    "KINDS",
    "Message",
    "Specification",
    "Subscription",
    "TransferClient",
    "TransferStatus",
    "http_status",
]
