"""Questions to the daemon; each on a connection of its own, so that a long one delays no other."""

import json
from pathlib import Path
from typing import Any

import trio

from fusefs.daemon.wire import AGENT_NAME, decode_error, encode, socket_address
from fusefs.errors import DaemonFailed

#: For an answer to what is not asked to wait.
ANSWER_TIMEOUT_S = 60.0
_CHUNK = 1 << 16


class Link:
    """The agent's socket of the daemon that serves `store`."""

    def __init__(self, store: Path) -> None:
        self.store = store

    async def ask(self, verb: str, *, wait_s: float = 0.0, **arguments: Any) -> Any:
        """The answer to a verb; `wait_s`: to one that waits for news, how long it is to do so.

        Raises what the daemon answers, or DaemonFailed when it does not.
        """
        if wait_s:
            arguments["wait_s"] = wait_s
        try:
            with (
                trio.fail_after(ANSWER_TIMEOUT_S + wait_s),
                socket_address(self.store, AGENT_NAME) as address,
            ):
                async with await trio.open_unix_socket(address) as stream:
                    await stream.send_all(encode({"verb": verb, "args": arguments}))
                    line = await _line(stream)
        except (OSError, trio.BrokenResourceError) as error:
            raise DaemonFailed(f"the daemon of {self.store} is gone ({error})") from error
        except trio.TooSlowError as error:
            raise DaemonFailed(f"the daemon of {self.store} does not answer") from error
        if not line.endswith(b"\n"):
            raise DaemonFailed(f"the daemon of {self.store} went away while it was asked")
        reply = json.loads(line)
        if "error" in reply:
            raise decode_error(reply["error"])
        return reply["result"]


async def _line(stream: trio.SocketStream) -> bytes:
    parts = [await stream.receive_some(_CHUNK)]
    while parts[-1] and not parts[-1].endswith(b"\n"):
        parts.append(await stream.receive_some(_CHUNK))
    return b"".join(parts)
