"""The process: it gives way to others, runs its tasks, and ends when the daemon does."""

import ctypes
import os
import platform
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import structlog
import trio

from fusefs.agent import fetching, moving, syncing
from fusefs.agent.link import Link
from fusefs.agent.places import Places

#: What it does, each as a task for itself.
TASKS: tuple[Callable[[Link, Places], Awaitable[None]], ...] = (
    fetching.run,
    syncing.run,
    moving.run,
)

_NICE = 10
#: ioprio_set(2) by machine, as Python has none: best effort, the lowest level.
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_WHO_PROCESS, _LOWEST = 1, 2 << 13 | 7

log = structlog.get_logger(__name__)


def run(store: Path) -> None:
    """Work for the daemon of `store` until standard input ends: the daemon has the other side."""
    _give_way()
    os.chdir("/")
    trio.run(_run, store)


async def _run(store: Path) -> None:
    link = Link(store)
    places = Places(link)
    log.info("agent begins", store=store, pid=os.getpid())
    async with trio.open_nursery() as nursery:
        for task in TASKS:
            nursery.start_soon(task, link, places)
        async with trio.lowlevel.FdStream(os.dup(0)) as daemon:
            with suppress(trio.BrokenResourceError):
                await daemon.receive_some(1)
        nursery.cancel_scope.cancel()
    log.info("agent ends", store=store)


def _give_way() -> None:
    """To whatever else needs the processor or the disk.

    Where the kernel shares the processor between sessions before it looks at processes (sched(7),
    "The autogroup feature"), only a session of our own, as nice as we are, gives way to others.
    """
    nice = os.nice(_NICE)
    with suppress(OSError):
        os.setsid()
        Path("/proc/self/autogroup").write_text(str(nice))
    if number := _IOPRIO_SET.get(platform.machine()):
        ctypes.CDLL(None).syscall(number, _WHO_PROCESS, 0, _LOWEST)
