"""The agent beside the daemon: begun when there is something for it, begun again when it dies.

It holds the other end of a pipe, and ends when this closes: by a clean end of the daemon or any
other. Killing it costs what it had under way, and nothing else.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import structlog
import trio

import fusefs
from fusefs.daemon.logs import AGENT_FILE_NAME

#: Between its death and the next one; longer each time, unless it lived for long.
FIRST_REST_S, LAST_REST_S = 0.5, 10.0
_LONG_LIFE_S = 30.0
#: For it to end by itself when it is not needed any more.
_END_S = 3.0

log = structlog.get_logger(__name__)


class AgentProcess:
    """The agent of the store at `path`. `pid`: 0 while there is none."""

    def __init__(self, path: Path, is_wanted: Callable[[], bool]) -> None:
        self._path = path
        self._is_wanted = is_wanted
        self._news = trio.Event()
        self.pid = 0

    def wake(self) -> None:
        """Whether it is wanted may have changed."""
        self._news.set()

    async def run(self) -> None:
        """Keep it alive while it is wanted, until cancelled."""
        rest_s = FIRST_REST_S
        while True:
            while not self._is_wanted():
                await self._news.wait()
                self._news = trio.Event()
            began = trio.current_time()
            await self._live()
            if trio.current_time() - began >= _LONG_LIFE_S:
                rest_s = FIRST_REST_S
            if self._is_wanted():
                log.info("the agent has ended, another follows", seconds=rest_s)
            await trio.sleep(rest_s)
            rest_s = min(rest_s * 2, LAST_REST_S)

    async def _live(self) -> None:
        """One agent, from its start to its end, or to ours."""
        try:
            output = os.open(
                self._path / AGENT_FILE_NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600
            )
        except OSError as error:
            log.warning("the agent has no log", error=str(error))
            output = os.open(os.devnull, os.O_WRONLY)
        try:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "fusefs", "agent", self._path],
                stdin=subprocess.PIPE, stdout=output, stderr=output,
                cwd=Path(fusefs.__file__).parents[1],
            )  # fmt: skip
        except OSError as error:
            log.error("the agent cannot be started", error=str(error))
            return
        finally:
            os.close(output)
        self.pid = process.pid
        try:
            await process.wait()
        finally:
            self.pid = 0
            with trio.CancelScope(shield=True):  # it is ours, and must not outlive us
                await _end(process)


async def _end(process: trio.Process) -> None:
    assert process.stdin is not None
    await process.stdin.aclose()
    with trio.move_on_after(_END_S):
        await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
