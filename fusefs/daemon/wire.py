"""The control socket of a running daemon, STORE/control.sock: where it is and what is said on it.

One line of JSON each way, any number of requests on one connection, answered in order::

    -> {"verb": "trash_restore", "args": {"target": "ZG9jcy9hLnR4dA==", "to": null}}
    <- {"result": {...}}
    <- {"error": {"class": "TargetExists", "message": "...", "exit_code": 32, "errno": 17}}

The verb ``events`` is answered by one such line for each event and a null behind the last. With
``follow`` the null comes when the mount has ended, and whatever the client says before that ends
the connection::

    -> {"verb": "events", "args": {"after": null, "follow": false, "kinds": []}}
    <- {"result": {"number": 1, "time": "...", "kind": "mounted", ...}}
    <- {"result": null}

Paths in requests are bytes, in base64; names in replies are text with surrogate escapes.

The agent has a socket of its own, STORE/agent.sock, on which the same is said: however many clients
wait for what it does, it is heard.

The address of a unix socket has room for 108 bytes. Both ends therefore go through a descriptor of
the store directory, /proc/self/fd/N/control.sock, so that STORE may lie as deep as it likes.

`control` is the server and `client` the client; this module is what they agree on, and is quick to
import because every verb of the CLI does it.
"""

import json
import os
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fusefs import errors
from fusefs.errors import FusefsError

NAME = "control.sock"
AGENT_NAME = "agent.sock"
#: Some ten thousand paths in base64, or a text of 256 KiB with each character escaped.
MAX_REQUEST_BYTES = 4 << 20


def encode(message: object) -> bytes:
    """One line, for either direction."""
    # The standard library's encoder, because msgspec's refuses lone surrogates.
    text = json.dumps(message, ensure_ascii=True, separators=(",", ":"), default=_base64)
    return text.encode() + b"\n"


def _base64(path: bytes) -> str:
    return b64encode(path).decode()


@contextmanager
def socket_address(store: Path, name: str = NAME) -> Iterator[str]:
    """An address for bind(2) and connect(2) to a socket of `store`; valid inside the block."""
    directory = os.open(store, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{name}"
    finally:
        os.close(directory)


def encode_error(error: FusefsError) -> bytes:
    """The reply that `decode_error` makes the same error of."""
    return encode({"error": describe_error(error)})


def describe_error(error: FusefsError) -> dict[str, Any]:
    """An error as a record."""
    return {
        "class": type(error).__name__,
        "message": str(error),
        "exit_code": error.exit_code,
        "errno": error.errno,
    }


def decode_error(described: dict[str, Any]) -> FusefsError:
    """The error that a reply describes, as its own class; one that we do not know as the root's."""
    error = errors.named(described.get("class"), str(described.get("message")))
    error.errno = described.get("errno", error.errno)
    return error
