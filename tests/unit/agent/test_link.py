"""Unit tests of fusefs.agent.link."""

import json
import os
from pathlib import Path

import trio

from fusefs.agent.link import Link
from fusefs.daemon.wire import AGENT_NAME


async def test_a_verb_that_waits_is_told_for_how_long(tmp_path: Path) -> None:
    """One that is not answers at once that there is nothing, and is asked again without a rest."""
    asked = []

    async def answer(stream: trio.SocketStream) -> None:
        asked.append(json.loads(await stream.receive_some(65536)))
        await stream.send_all(b'{"result": null}\n')

    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(os.fspath(tmp_path / AGENT_NAME))
    listener.listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, [trio.SocketListener(listener)])
        link = Link(tmp_path)
        await link.ask("news", wait_s=5.0, known=1)
        await link.ask("status")
        nursery.cancel_scope.cancel()
    assert asked == [
        {"verb": "news", "args": {"known": 1, "wait_s": 5.0}},
        {"verb": "status", "args": {}},
    ]
