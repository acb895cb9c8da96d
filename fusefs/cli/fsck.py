"""fusefs fsck: check a store."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json, Target
from fusefs.cli.progress import bar

if TYPE_CHECKING:
    from pathlib import Path


def fsck(
    target: Target = ".",
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Read and verify every block too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check a store; it may stay mounted and in use. Changes nothing.

    Every problem is named. The exit code is 40 if there are any.

    \b
    Example:
      fusefs fsck /srv/store
      fusefs fsck --read-data ~/mnt
    """
    from fusefs.daemon.target import resolve
    from fusefs.errors import DamageFound
    from fusefs.fsck.check import check

    store = resolve(target).store
    _bring_up_to_date(store)
    with bar("checking") as progress:
        report = check(store, read_data, progress)
    record = as_record(report)
    if as_json:
        output.as_json(record)
    else:
        _show(record)
    if report.problems:
        raise DamageFound(f"{store} has {len(report.problems)} problems, named above")


def _bring_up_to_date(store: "Path") -> None:
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
    output.record({**record, "problems": len(problems)})
