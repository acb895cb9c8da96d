"""fusefs transfer create."""

import os
from typing import Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json
from fusefs.cli.transfer.places import ask_running, end, store_of
from fusefs.cli.transfer.watching import wait


def create(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Below the source; a directory: all files in it."),
    ],
    source: Annotated[
        str, typer.Option("--from", metavar="A", help="The source: see above.", show_default=False)
    ],
    destination: Annotated[
        str, typer.Option("--to", metavar="B", help="The destination.", show_default=False)
    ],
    description: Annotated[
        str, typer.Option("--description", metavar="TEXT", help="For people, in Markdown.")
    ] = "",
    instructions: Annotated[
        str,
        typer.Option(
            "--instructions",
            metavar="JSON",
            help="For programs: a JSON object, or a file with one. Goes into the manifest as is.",
        ),
    ] = "",
    moves: Annotated[
        str,
        typer.Option(
            "--moves",
            metavar="JSON",
            help='More sources: [{"from": A, "files": [...]}], or a file with that.',
        ),
    ] = "",
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", "-k", help="Skip what cannot be moved instead of failing."),
    ] = False,
    from_secrets: Annotated[
        str, typer.Option(metavar="SOURCE", help="Where those of a URL are: file:/path, env:NAME.")
    ] = "",
    to_secrets: Annotated[
        str, typer.Option(metavar="SOURCE", help="The same for the destination.")
    ] = "",
    user: Annotated[str, typer.Option(metavar="NAME", help="In whose name (root only).")] = "",
    store: Annotated[
        str | None, typer.Option("--in", metavar="TARGET", help="The store that is to do it.")
    ] = None,
    is_to_wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Return when it has ended, with its exit code.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring files from one place to another; print the id of the transfer, which goes on alone.

    A and B are a path in a mount, the word "store" or store:/PATH, the name of a remote (or
    NAME:PATH), any directory, or a URL. All files come into a folder of B that is named by the id,
    and the manifest last: while there is no manifest.json, the transfer is not complete.

    \b
    Example:
      fusefs transfer create --from ~/mnt/data --to /media/usb run1 run2/notes.txt
      fusefs transfer create --from ~/mnt --to s3://bucket/in --to-secrets file:/etc/key . --wait
    """
    from fusefs.errors import UsageError

    wanted: list[dict[str, Any]] = [{"from": source, "files": files}]
    if moves:
        wanted += _moves(_text(moves))
    place = store_of([one["from"] for one in wanted] + [destination], store)
    if from_secrets and len(wanted) > 1:
        raise UsageError("--from-secrets is for one source: leave out --moves")
    with ask_running(place) as client:
        answer = client.ask(
            "transfer_create",
            moves=[
                {
                    "source": end(one["from"], from_secrets),
                    "files": [os.fsencode(file) for file in one["files"]],
                }
                for one in wanted
            ],
            destination=end(destination, to_secrets),
            description=description,
            instructions=_text(instructions),
            user=user,
            policy="continue" if keep_going else "stop",
        )
        if as_json:
            output.as_json(answer)
        else:
            output.line(answer["id"])
        if is_to_wait:
            wait(client, answer["id"])


def _text(given: str) -> str:
    """JSON that was given, or what a file has of it."""
    from fusefs.errors import UsageError

    if not given or given.lstrip().startswith(("{", "[")):
        return given
    try:
        with open(given, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{given} is neither JSON nor a file with it ({error})") from error


def _moves(text: str) -> list[dict[str, Any]]:
    import msgspec

    from fusefs.errors import UsageError

    class More(msgspec.Struct, forbid_unknown_fields=True, rename={"source": "from"}):
        source: str
        files: list[str]

    try:
        found = msgspec.json.decode(text, type=list[More])
    except msgspec.MsgspecError as error:
        raise UsageError(f"--moves: {error}") from error
    return [{"from": one.source, "files": one.files} for one in found]
