"""fusefs agent: the process that the daemon starts for what waits on a network."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer


def agent(store: Annotated[str, typer.Argument(metavar="STORE", help="The store.")]) -> None:
    """Send, fetch and move for the daemon of a store; started by it, and ends with it."""
    from fusefs.agent.agent import run
    from fusefs.daemon.logs import AGENT_FILE_NAME, log_to_file

    path = Path(store)
    log_to_file(path, AGENT_FILE_NAME, debug=bool(os.environ.get("FUSEFS_DEBUG")))
    run(path)
    sys.stderr.flush()
    os._exit(0)  # threads may wait for a network, and nothing in them would be missed
