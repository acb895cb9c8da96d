"""fusefs transfer list, show, journal."""

import math
from datetime import UTC
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json, Target
from fusefs.cli.transfer.places import Id

if TYPE_CHECKING:
    from fusefs.daemon.surface import Surface

Record = dict[str, Any]

Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Ended then or later: 2026-11-21, or 12h ago."),
]
Until = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Ended then or earlier.")
]

_COLUMNS = (
    output.Column("ID"),
    output.Column("STATUS"),
    output.Column("FILES", right=True),
    output.Column("BYTES", right=True),
    output.Column("CHANGED"),
    output.Column("FROM"),
    output.Column("TO"),
)
_JOURNAL_COLUMNS = (
    output.Column("STOP"),
    output.Column("ID"),
    output.Column("STATUS"),
    output.Column("FILES", right=True),
    output.Column("BYTES", right=True),
    output.Column("USER"),
    output.Column("TO"),
)


def list_transfers(
    target: Target = ".",
    statuses: Annotated[
        list[str] | None, typer.Option("--status", metavar="STATUS", help="Only these.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List transfers, the latest last: those under way, and those that ended in the last days.

    \b
    Example:
      fusefs transfer list ~/mnt
    """
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve
    from fusefs.errors import UsageError
    from fusefs.model.transfer import Status

    for unknown in set(statuses or ()).difference(Status):
        raise UsageError(f"--status {unknown} is none; there are {', '.join(Status)}")
    with reach(resolve(target).store) as surface:
        found = surface.ask("transfer_list", statuses=statuses or [])
    if as_json:
        output.as_json(found)
    else:
        output.table(_COLUMNS, map(_row, found))


def show(id: Id, target: Target = ".", as_json: Json = False) -> None:
    """Show all that is known of a transfer: how far it is, what was skipped, why it failed.

    \b
    Example:
      fusefs transfer show 4f2c6e0a-6f0b-4d8e-9d0c-2b8a5a6f7c11 ~/mnt
    """
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve

    with reach(resolve(target).store) as surface:
        record = surface.ask("transfer_show", id=id)
    if as_json:
        output.as_json(record)
        return
    skipped, history = record.pop("skipped"), record.pop("history")
    output.record(record)
    for one in history:
        cause = f"  {one['cause']}" if one["cause"] else ""
        output.line(output.printable(f"{output.moment(one['time'])}  {one['status']}{cause}"))
    for one in skipped:
        output.line(output.printable(f"skipped {one['path']}: {one['error']}"))


def journal(
    target: Target = ".", since: Since = None, until: Until = None, as_json: Json = False
) -> None:
    """List what has ended, the earliest first. These records are kept for good.

    \b
    Example:
      fusefs transfer journal --since 2026-11-01 ~/mnt
      fusefs transfer journal --since "7d ago" --json ~/mnt
    """
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve
    from fusefs.errors import UsageError

    wanted: dict[str, int] = {}
    if since is not None:
        wanted["since_ns"] = _moment(since, is_end=False)
    if until is not None:
        wanted["until_ns"] = _moment(until, is_end=True)
    if wanted.get("since_ns", 0) > wanted.get("until_ns", math.inf):
        raise UsageError(f"--since {since} is later than --until {until}: nothing is in between")
    with reach(resolve(target).store) as surface:
        found = _pages(surface, wanted)
    if as_json:
        output.as_json(found)
    else:
        output.table(_JOURNAL_COLUMNS, map(_journal_row, found))


def _pages(surface: "Surface", wanted: dict[str, int]) -> list[Record]:
    records: list[Record] = []
    after = ""
    while True:
        page = surface.ask("transfer_journal", after=after, **wanted)
        records += page["records"]
        if page["next"] is None:
            return records
        after = page["next"]


def _moment(text: str, *, is_end: bool) -> int:
    """Wall time in ns of ``2026-11-21``, ``2026-11-21T09:08:07Z`` or ``12h ago``; of a day, a
    second or a microsecond its begin, or its end. Raises UsageError."""
    import time
    from datetime import datetime, timedelta

    from fusefs.base.units import parse_duration
    from fusefs.errors import UsageError

    try:
        if text.endswith(" ago"):
            return max(0, time.time_ns() - int(parse_duration(text.removesuffix(" ago")) * 1e9))
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is no time: write it like 2026-11-21, 2026-11-21T09:08:07Z or '12h ago'"
        ) from error
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    if is_end and not found.microsecond:
        is_day = len(text) <= len("2026-11-21")
        found += timedelta(days=1) if is_day else timedelta(seconds=1)
        return max(0, int(found.timestamp()) * 10**9 - 1)
    within_ns = 999 if is_end else 0  # times are shown in microseconds, and kept in nanoseconds
    return max(0, round(found.timestamp() * 10**6) * 1000 + within_ns)


def _row(one: Record) -> tuple[str, ...]:
    return (
        one["id"],
        one["status"] + (" (to be canceled)" if one["is_canceling"] else ""),
        f"{one['files_moved']}/{one['files_total']}",
        f"{output.size(one['bytes_moved'])}/{output.size(one['bytes_total'])}",
        output.moment(one["changed"]),
        output.printable(" ".join(map(_short, one["source"]))),
        output.printable(_short(one["destination"])),
    )


def _journal_row(one: Record) -> tuple[str, ...]:
    return (
        output.moment(one["stop"]),
        one["id"],
        one["status"],
        f"{one['files']}/{one['files_total']}",
        output.size(one["bytes"]),
        output.printable(one["user"]),
        output.printable(_short(one["destination"])),
    )


def _short(end: str) -> str:
    """A URL without its options, which `show` has."""
    return end.partition("?")[0] if "://" in end else end
