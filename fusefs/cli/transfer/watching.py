"""fusefs transfer watch: how far one is, live."""

import sys
import time
from typing import TYPE_CHECKING, Any

from fusefs.cli import output
from fusefs.cli.arguments import Json, Target
from fusefs.cli.transfer.places import Id, ask_running

if TYPE_CHECKING:
    from fusefs.daemon.client import Client

_LOOK_EVERY_S = 0.2
_ENDED = ("succeeded", "failed", "canceled")

Record = dict[str, Any]


def watch(id: Id, target: Target = ".", as_json: Json = False) -> None:
    """Show how far a transfer is until it has ended: a bar at a terminal, else each new status.

    Ends with 0 if it succeeded, else with the code of what failed it.

    \b
    Example:
      fusefs transfer watch 4f2c6e0a-6f0b-4d8e-9d0c-2b8a5a6f7c11 ~/mnt
    """
    from fusefs.daemon.target import resolve

    with ask_running(resolve(target)) as client:
        wait(client, id, is_told=True, as_json=as_json)


def wait(client: "Client", id: str, *, is_told: bool = False, as_json: bool = False) -> None:
    """Return when a transfer has succeeded; with `is_told` say each status on the way.

    Raises the error that it failed with, TransferCanceled, NoSuchTransfer, NotRunning.
    """
    from fusefs.cli.progress import bar
    from fusefs.errors import NotRunning

    said = 0
    has_bar = sys.stderr.isatty() and not as_json
    with bar(id[:8]) as show:
        while True:
            record = client.ask("transfer_show", id=id)
            if show:
                show(record["bytes_moved"], record["bytes_total"])
            for one in record["history"][said:] if is_told and not has_bar else ():
                if as_json:
                    output.json_line({"id": id, **one})
                else:
                    output.line(f"{output.moment(one['time'])}  {one['status']}")
                said += 1
            if record["status"] in _ENDED:
                break
            if not client.ask("transfer_running"):
                raise NotRunning(
                    f"transfers are stopped, and transfer {id} rests: see fusefs transfer start"
                )
            time.sleep(_LOOK_EVERY_S)
    _raise_end(record)


def _raise_end(record: Record) -> None:
    from fusefs.daemon.wire import decode_error
    from fusefs.errors import TransferCanceled, TransferFailed

    if record["status"] == "canceled":
        cause = record["history"][-1]["cause"]
        raise TransferCanceled(f"transfer {record['id']} was canceled: {cause}")
    if record["status"] == "failed":
        error = decode_error({"class": record["error_kind"], "message": record["error"]})
        if type(error).exit_code == 1:
            raise TransferFailed(str(error))
        raise error
