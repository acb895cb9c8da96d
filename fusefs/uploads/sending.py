"""Who sends what: the processes that send an upload, and the window that each is at.

A window of blocks that one sender was told to send is leased to it. Others of the same upload go
on to other windows, and come back for what is still missing. A lease ends with its process at
once, and when nothing of its window has come for a while. (Its process, and not its connection to
the control socket: the server closes one that is silent for seconds, and has places for few.)
"""

import os
import select
from dataclasses import dataclass, field

#: A sender of whom nothing has come for so long has lost its lease.
LEASE_S = 10.0
#: And its upload the room that it was promised.
EXPIRY_S = 600.0


class Process:
    """A process, as long as it lives: its number may be given to another afterwards."""

    def __init__(self, pid: int) -> None:
        try:
            self._descriptor = os.pidfd_open(pid)
        except OSError:  # not one that can be seen here: time tells
            self._descriptor = -1

    @property
    def is_alive(self) -> bool:
        if self._descriptor < 0:
            return True
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        return not poller.poll(0)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@dataclass
class Sender:
    """One process that sends an upload. `first_new_block`: those with lower numbers were there
    before it began, so that nobody has lately looked at them."""

    process: Process
    first_new_block: int


@dataclass
class Lease:
    """`missing`: blocks of its window when they were last counted, at `since_s`."""

    pid: int
    missing: int
    since_s: float


@dataclass
class Sending:
    """The senders of one upload, by process number, and their leases, by window.

    `active_s`: when one of them last asked or sent something. `place`: parent and name of the
    staging file.
    """

    active_s: float
    place: tuple[int, bytes]
    senders: dict[int, Sender] = field(default_factory=dict)
    leases: dict[int, Lease] = field(default_factory=dict)

    def join(self, pid: int, first_new_block: int) -> None:
        """A process begins to send, or begins again."""
        if (before := self.senders.get(pid)) is not None:
            before.process.close()
        self.senders[pid] = Sender(Process(pid), first_new_block)

    def drop_dead(self) -> None:
        """Forget the senders that have ended, and their leases."""
        for pid, sender in list(self.senders.items()):
            if not sender.process.is_alive:
                sender.process.close()
                del self.senders[pid]
        self.leases = {at: one for at, one in self.leases.items() if one.pid in self.senders}

    def is_taken(self, window: int, pid: int, missing: int, now_s: float) -> bool:
        """Whether another live sender is at that window, of which `missing` blocks are missing."""
        lease = self.leases.get(window)
        if lease is None or lease.pid == pid or not missing:
            return False
        if missing < lease.missing:
            lease.missing, lease.since_s = missing, now_s
        return now_s - lease.since_s < LEASE_S

    def lease(self, window: int, pid: int, missing: int, now_s: float) -> None:
        """The process is told to send so many blocks of that window."""
        self.leases[window] = Lease(pid, missing, now_s)

    def close(self) -> None:
        for sender in self.senders.values():
            sender.process.close()
        self.senders.clear()
