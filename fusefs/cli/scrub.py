"""fusefs scrub: read all content to verify it, and say which of it is bad."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json, Target
from fusefs.cli.progress import bar

if TYPE_CHECKING:
    from fusefs.daemon.surface import Surface

Record = dict[str, Any]

_COLUMNS = (
    output.Column("BLOCK", right=True),
    output.Column("STATE"),
    output.Column("FIRST SEEN (UTC)"),
    output.Column("LAST SEEN (UTC)"),
    output.Column("SEGMENT"),
    output.Column("OFFSET", right=True),
    output.Column("REASON"),
    output.Column("INODE", right=True),
    output.Column("PATH"),
)


def scrub(
    target: Target = ".",
    status: Annotated[
        bool, typer.Option("--status", help="Only say how far it is, or how the last one ended.")
    ] = False,
    listing: Annotated[
        bool, typer.Option("--list", help="Only list the blocks that are known to be bad.")
    ] = False,
    rate: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Read no more than so much a second, such as 50M."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Read and verify all content now, or go on with a scrub that is under way.

    A mounted store does so by itself, slowly; see the mount options scrub_rate and scrub_every.
    Each bad block is healed from a remote of a mounted store, or recorded with the files that need
    it, until it is good again or gone. The exit code is 40 if there are records, also with --list.
    Ctrl-C ends the waiting; a mount goes on by itself, and any other store with the next scrub.

    \b
    Example:
      fusefs scrub ~/mnt
      fusefs scrub --rate 50M /srv/store
      fusefs scrub --status ~/mnt
      fusefs scrub --list --json ~/mnt
    """
    from fusefs.cli.reaching import reach
    from fusefs.cli.trash.wanted import pages
    from fusefs.daemon.target import resolve
    from fusefs.errors import DamageFound, UsageError

    if sum([status, listing, rate is not None]) > 1:
        raise UsageError("give one of --status, --list and --rate")
    limit = _parse_rate(rate)
    store = resolve(target).store
    with reach(store) as surface:
        if status:
            _show_status(surface.ask("scrub_status"), as_json)
            return
        record = None if listing else _scrub(surface, limit)
        records = list(pages(surface, "scrub_records"))
    if as_json:
        output.as_json(records if record is None else {**record, "corruptions": records})
    else:
        if record is not None:
            _show_done(record)
        if records or listing:
            output.table(_COLUMNS, (row for one in records for row in _rows(one)))
    if records:
        blocks = output.counted(len(records), "block", "blocks")
        raise DamageFound(f"{store} has {blocks} known to be bad, listed above")


def _parse_rate(text: str | None) -> int:
    from fusefs.base.units import parse_size
    from fusefs.errors import UsageError

    if text is None:
        return 0
    try:
        rate = parse_size(text)
    except ValueError:
        rate = 0
    if not rate:
        raise UsageError(f"--rate {text}: give bytes a second, such as 50M")
    return rate


def _scrub(surface: "Surface", rate: int) -> Record:
    """Start, and wait for the end; a bar at a terminal shows how far it is."""
    from fusefs.errors import StoreError

    record: Record = surface.ask("scrub_start", rate=rate)
    with bar("scrubbing") as on_progress:
        while record["is_running"]:
            record = surface.scrub_progress()
            if on_progress:
                on_progress(min(record["read_bytes"], record["total_bytes"]), record["total_bytes"])
            if record["trouble"]:
                raise StoreError(f"the scrub waits: {record['trouble']}")
    return record


def _rows(one: Record) -> list[tuple[str, ...]]:
    """A line for each file that needs the block."""
    block = (
        str(one["block"]),
        one["state"],
        output.moment(one["first_seen"]),
        output.moment(one["last_seen"]),
        one["segment"],
        str(one["segment_offset"]),
        output.printable(one["reason"]),
    )
    rows: list[tuple[str, ...]] = [
        (*block, str(it["inode"]), output.printable(it["path"] or "(no name)"))
        for it in one["objects"]
    ]
    if one["other_objects"] or not rows:
        others = output.counted(one["other_objects"], "other file", "other files")
        rows.append((*block, "", others))
    return rows


def _show_done(record: Record) -> None:
    blocks = output.counted(record["blocks"], "block", "blocks")
    output.line(f"read {output.size(record['read_bytes'])} in {blocks}, {_bad(record, 'of them ')}")


def _bad(record: Record, of_them: str = "") -> str:
    healed = f", {record['healed']} of these healed" if record["healed"] else ""
    return f"{record['damaged']} {of_them}bad{healed}"


def _show_status(record: Record, as_json: bool) -> None:
    if as_json:
        output.as_json(record)
        return
    read, total = output.size(record["read_bytes"]), output.size(record["total_bytes"])
    if record["began"] is None:
        state = "never begun"
    elif record["ended"] is not None:
        state = f"ended {output.moment(record['ended'])} UTC"
    else:
        state = "under way" if record["is_running"] else "under way, and paused"
    fields = [("scrub", state)]
    if record["began"] is not None:
        fields += [
            ("began", f"{output.moment(record['began'])} UTC"),
            ("read", f"{read} of {total}, {record['blocks']} blocks, {_bad(record)}"),
        ]
    if record["trouble"]:
        fields.append(("waits", output.printable(record["trouble"])))
    output.fields([*fields, ("known to be bad", str(record["records"]))])
