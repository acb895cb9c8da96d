"""fusefs trash policy: how long what is removed is kept, and what is not kept at all."""

from typing import Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json

_VERBS = ("show", "set", "clear")


def policy(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH] [show|set|clear] [NAME=VALUE...]",
            help="PATH: a mountpoint or store for the policy of the store; or a file or directory"
            " in it for the rule there, which holds for everything below.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show or change how long what is removed is kept.

    A change holds for what is in the trash already. For a directory or a file: set 30d (or 12h,
    90s ...), forever, 0 or skip (nothing goes to the trash), inherit. For a store: keep=7d,
    replaced=on|off (what a rename overwrites), max-size=10G|off, min-free=5G|off, history=30d,
    skip=usual|none|-PATTERN|'+PATTERN below 60s by PROCESS'.

    \b
    Example:
      fusefs trash policy ~/mnt set keep=14d max-size=50G
      fusefs trash policy ~/mnt/cache set skip
      fusefs trash policy ~/mnt/photos set 90d
    """
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve
    from fusefs.errors import UsageError

    words = list(words or [])
    path = words.pop(0) if words and words[0] not in _VERBS else "."
    verb = words.pop(0) if words else "show"
    if verb not in _VERBS or (verb == "set") != bool(words):
        raise UsageError("say: fusefs trash policy [PATH] show, or set NAME=VALUE..., or clear")
    changes = [_change(word) for word in words]
    place = resolve(path)
    with reach(place.store) as surface:
        record = surface.ask(
            "trash_policy", path=place.inner or b"", changes=changes, is_clear=verb == "clear"
        )
    if as_json:
        output.as_json(record)
    else:
        output.fields(_shown(record))


def _change(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    return (name, value) if equals else ("keep", word)


def _shown(record: dict[str, Any]) -> list[tuple[str, str]]:
    lines = []
    if not record["is_enabled"]:
        lines.append(("trash", "off: mounted with -o notrash"))
    if record["path"] != "/":
        lines.append(("path", output.printable(record["path"])))
        lines.append(("rule", record["rule"]))
    because = output.printable(record["because_of"])
    lines.append(("kept here", f"{record['keeps']} (because of {because})"))
    lines += [(f"store: {name}", value) for name, value in record["store"].items()]
    return lines + [("skipped", output.printable(rule)) for rule in record["skips"]]
