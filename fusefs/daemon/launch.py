"""Start a daemon in the background and wait until it is ready or has failed.

::

    fusefs mount ---fork---> (new session) ---fork---> daemon
        |                                                |
        +------------- pipe: one line <------------------+   "ready", or its error

The first fork gives the shell its prompt back, the second makes sure that the daemon never gets a
terminal. If the parent is killed meanwhile the daemon goes on: nobody reads the line then.
Fork before anything has started threads or opened the store.
"""

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from fusefs.daemon.wire import decode_error, encode, encode_error
from fusefs.errors import DaemonFailed, FusefsError

#: What a daemon does: it calls its argument once it serves, and returns or raises when it ends.
Body = Callable[[Callable[[], None]], None]


def start_in_background(body: Body) -> int:
    """Run `body` in a daemon process; returns its pid when it has called that it is ready.

    Raises what `body` raised before that, as the same class of the error tree; DaemonFailed if the
    process ended without a word.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        _become_daemon(body, sender)
    os.close(sender)
    with open(receiver, "rb") as pipe:
        line = pipe.readline()
    os.waitpid(child, 0)
    if not line:
        raise DaemonFailed("the daemon died while starting: try again with --foreground to see why")
    reply = json.loads(line)
    if "error" in reply:
        raise decode_error(reply["error"])
    return int(reply["ready"])


def _become_daemon(body: Body, sender: int) -> None:
    """The rest of the life of the forked process; never returns."""
    code = 1
    try:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        _close_inherited(keep=sender)
        code = _report(body, sender)
    finally:
        os._exit(code)


def _close_inherited(keep: int) -> None:
    """Hold nothing of the caller's: not its terminal, not its pipes."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.closerange(3, keep)
    os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))


def _report(body: Body, sender: int) -> int:
    """Run `body`, tell the parent how the start went; returns the exit code."""
    try:
        body(lambda: _send(sender, encode({"ready": os.getpid()})))
    except FusefsError as error:
        _send(sender, encode_error(error))
        return error.exit_code
    except BaseException as error:
        what = f"{type(error).__name__}: {error}".replace("\n", " ")
        _send(sender, encode_error(DaemonFailed(f"the daemon failed to start ({what})")))
        return 1
    return 0


def _send(sender: int, line: bytes) -> None:
    """Give the parent its one line; it may have got one already, or be gone."""
    with suppress(OSError):
        os.write(sender, line)
        os.close(sender)
