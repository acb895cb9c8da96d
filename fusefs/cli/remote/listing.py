"""fusefs remote list, show: which remotes a store has, and where they stand."""

from typing import Any

from fusefs.cli import output
from fusefs.cli.arguments import Json
from fusefs.cli.remote.adding import Name, Store

Record = dict[str, Any]

_COLUMNS = (
    output.Column("NAME"),
    output.Column("URL"),
    output.Column("COST", right=True),
    output.Column("SEGMENTS", right=True),
    output.Column("STATE"),
)


def list_remotes(target: Store = ".", as_json: Json = False) -> None:
    """List the remotes of a store, and whether they are in step.

    \b
    Example:
      fusefs remote list ~/mnt
    """
    records = read(target, [])
    if as_json:
        output.as_json(records)
        return
    output.table(
        _COLUMNS,
        (
            (
                one["name"],
                output.printable(one["url"]),
                str(one["cost"]),
                str(one["segments"]),
                output.printable(standing(one)),
            )
            for one in records
        ),
    )


def show(target: Store, name: Name, as_json: Json = False) -> None:
    """Show all that is known of a remote.

    \b
    Example:
      fusefs remote show ~/mnt usb
    """
    record = read(target, [name])[0]
    if as_json:
        output.as_json(record)
    else:
        output.record(record)


def read(target: str, names: list[str]) -> list[Record]:
    """The records of some remotes, or of all. Raises NoSuchRemote."""
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve

    with reach(resolve(target).store) as surface:
        return list(surface.ask("remotes", names=names))


def standing(record: Record) -> str:
    """How a remote stands, in some words."""
    if record["is_trash"]:
        return "takes what is dropped elsewhere"
    parts = []
    if record["is_in_step"]:
        parts.append("in step")
    elif record["behind_segments"]:
        count = output.counted(record["behind_segments"], "segment", "segments")
        parts.append(f"{count} ({output.size(record['behind_bytes'])}) behind")
    else:
        parts.append("checkpoint to come")
    if record["behind_s"] is not None:
        parts.append(f"last complete {record['behind_s']:.0f} s ago")
    elif not record["sequence"]:
        parts.append("never complete")
    if record["is_paused"]:
        parts.append("paused")
    elif record["doing"] and not record["is_in_step"]:
        parts.append(f"{record['doing']}, {output.size(record['bytes_per_s'])}/s")
    if record["error"]:
        parts.append(record["error"])
    return "; ".join(parts)
