"""fusefs transfer cancel, pause, resume, stop, start."""

from fusefs.cli import output
from fusefs.cli.arguments import Json, Target
from fusefs.cli.transfer.places import Id, ask_running


def cancel(id: Id, target: Target = ".", as_json: Json = False) -> None:
    """Ask for the end of a transfer; returns at once. One that has ended stays as it is.

    What has its final name by then stays there; there will be no manifest.

    \b
    Example:
      fusefs transfer cancel 4f2c6e0a-6f0b-4d8e-9d0c-2b8a5a6f7c11 ~/mnt
    """
    from fusefs.daemon.target import resolve

    with ask_running(resolve(target)) as client:
        answer = client.ask("transfer_cancel", id=id)
    if as_json:
        output.as_json(answer)
    else:
        output.line("is to be canceled" if answer["is_canceling"] else answer["status"])


def pause(id: Id, target: Target = ".") -> None:
    """Let a transfer rest, as long as the store exists, until it is resumed.

    \b
    Example:
      fusefs transfer pause 4f2c6e0a-6f0b-4d8e-9d0c-2b8a5a6f7c11 ~/mnt
    """
    _ask("transfer_pause", target, id=id)


def resume(id: Id, target: Target = ".") -> None:
    """Let a transfer go on that was paused.

    \b
    Example:
      fusefs transfer resume 4f2c6e0a-6f0b-4d8e-9d0c-2b8a5a6f7c11 ~/mnt
    """
    _ask("transfer_resume", target, id=id)


def stop(target: Target = ".") -> None:
    """Rest all transfers of a store until "start", or the next mount. Fails if they rest.

    \b
    Example:
      fusefs transfer stop ~/mnt
    """
    _ask("transfer_stop", target)


def start(target: Target = ".") -> None:
    """Go on after a stop. Fails if transfers are running.

    \b
    Example:
      fusefs transfer start ~/mnt
    """
    _ask("transfer_start", target)


def _ask(verb: str, target: str, **arguments: str) -> None:
    from fusefs.daemon.target import resolve

    with ask_running(resolve(target)) as client:
        client.ask(verb, **arguments)
