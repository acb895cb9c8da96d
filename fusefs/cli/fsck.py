"""fusefs fsck: check a store."""

import math
import random
import threading
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json, Target
from fusefs.cli.interrupt import at_interrupt
from fusefs.cli.progress import bar

if TYPE_CHECKING:
    from pathlib import Path


#: What the command line says as ``--read-data=PART``: an option with or without a value is nothing
#: that the parser knows.
_PART_OPTION = "--read-data-part"


def spelled(argument: str) -> str:
    """The argument as the parser understands it."""
    head, equals, value = argument.partition("=")
    return f"{_PART_OPTION}={value}" if equals and head == "--read-data" else argument


def fsck(
    target: Target = ".",
    read_data: Annotated[
        bool,
        typer.Option(
            "--read-data",
            help="Read and verify every block too; =N/T the N-th of T parts, =X% some at random.",
        ),
    ] = False,
    part: Annotated[str | None, typer.Option(_PART_OPTION, hidden=True)] = None,
    seed: Annotated[
        int | None, typer.Option(help="For X%: the same number selects the same blocks.")
    ] = None,
    time_s: Annotated[
        float | None,
        typer.Option("--time", metavar="SECONDS", min=0, help="End after so long, and say where."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a store; it may stay mounted and in use. Changes nothing.

    Every problem is named. The exit code is 40 if there are any. Ctrl-C ends the check with what
    it found so far.

    \b
    Example:
      fusefs fsck /srv/store
      fusefs fsck --read-data ~/mnt
      fusefs fsck --read-data=3/7 ~/mnt      # one part a day: all in a week
      fusefs fsck --read-data=5% --time 600 ~/mnt
    """
    from fusefs.daemon.target import resolve
    from fusefs.errors import DamageFound
    from fusefs.fsck.check import check
    from fusefs.fsck.selection import Selection

    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    selection = Selection.parse(part, seed) if part is not None else Selection.of(read_data)
    store = resolve(target).store
    end_s = math.inf if time_s is None else time.monotonic() + time_s
    interrupted = threading.Event()
    with at_interrupt(interrupted.set):
        bring_up_to_date(store)
        with bar("checking") as progress:
            report = check(
                store,
                selection if selection.percent else False,
                progress,
                lambda: not interrupted.is_set() and time.monotonic() < end_s,
            )
        record = as_record(report)
        if selection.percent < 100 and part is not None:
            record["seed"] = seed
        if as_json:
            output.as_json(record)
        else:
            _show(record)
        if report.problems:
            raise DamageFound(f"{store} has {len(report.problems)} problems, named above")


def bring_up_to_date(store: "Path") -> None:
    """Have a running daemon write out what it knows, so that the check sees the present."""
    from fusefs.daemon.client import Client

    if (client := Client.connect(store)) is not None:
        with client:
            client.flush()
            client.checkpoint()


def as_record(report: Any) -> dict[str, Any]:
    """The report as plain JSON types, names as text."""
    import dataclasses
    import os

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, bytes):
            return os.fsdecode(value)
        return value if isinstance(value, int | float | str | None) else str(value)

    record: dict[str, Any] = plain(report)
    return record


def _show(record: dict[str, Any]) -> None:
    problems = record.pop("problems")
    for problem in problems:
        where, message = str(problem.get("where", "")), str(problem.get("message", ""))
        output.line(output.printable(f"{problem.get('kind')}: {where}: {message}"))
    stopped = record.pop("stopped")
    output.record({**record, "problems": len(problems)})
    if stopped:
        output.line(f"ended before it was done, in the check of {stopped}")
