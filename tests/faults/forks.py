"""Calls in processes of their own, forked from one that has all modules: milliseconds each."""

import contextlib
import io
import os
import pickle
import signal
import traceback
from collections.abc import Callable
from typing import Any

# The verbs import these when they are called: here once, and not in each child.
import fusefs.cli.progress
import fusefs.daemon.client
import fusefs.daemon.target
import fusefs.fsck.check
import fusefs.fsck.repair
import fusefs.store.rebuild  # noqa: F401
from fusefs.cli.app import run

_TIMEOUT_S = 300


with contextlib.redirect_stdout(io.StringIO()):
    run(["version"])  # and these what the parser does


def in_child(act: Callable[..., Any], *arguments: Any) -> Any:
    """What `act` returns in a fork that dies without any good-bye; a text where it failed.

    The caller must not have run trio, whose threads a fork does not have.
    """
    inward, outward = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(_TIMEOUT_S)
        try:
            result = act(*arguments)
        except BaseException:
            result = traceback.format_exc()
        with open(outward, "wb") as pipe:
            pickle.dump(result, pipe)
        os._exit(0)
    os.close(outward)
    with open(inward, "rb") as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return pickle.loads(said) if said else f"the process ended with {status}"
