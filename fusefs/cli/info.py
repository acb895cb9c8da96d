"""fusefs info: how one file is kept."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json

if TYPE_CHECKING:
    from pathlib import Path


def info(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A path below a mount, or a store.")],
    inside: Annotated[
        str | None,
        typer.Argument(metavar="[INSIDE]", help="The path inside, when PATH is a store."),
    ] = None,
    block: Annotated[
        int | None,
        typer.Option("--block", metavar="N", help="Show which files need block N instead."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the inode of a path, its extents, and the segments that hold its blocks.

    \b
    Example:
      fusefs info ~/mnt/docs/a.txt
      fusefs info /srv/store docs/a.txt
      fusefs info --block 17 ~/mnt
    """
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve, resolve_inner

    target = resolve(path)
    if block is not None:
        _show_block(target.store, block, as_json)
        return
    inner = target.inner or b"" if inside is None else resolve_inner(target, inside)
    with reach(target.store) as surface:
        record = surface.info(inner)
    if as_json:
        output.as_json(record)
    else:
        _show(record)


def _show_block(store: "Path", number: int, as_json: bool) -> None:
    from fusefs.cli.fsck import as_record, bring_up_to_date
    from fusefs.cli.unlocking import cipher_of
    from fusefs.errors import NoSuchPath
    from fusefs.fsck.check import uses_of
    from fusefs.store.format import segment_name

    if not 0 < number < 1 << 64:
        raise NoSuchPath(f"there is no block {number}")
    bring_up_to_date(store)
    cipher = cipher_of(store)
    found, uses = uses_of(store, number, cipher)
    if found is None and not uses:
        raise NoSuchPath(f"there is no block {number} in {store}, and no file needs it")
    record: dict[str, Any] = {"block": number}
    if found is not None:
        record |= {
            "segment": segment_name(found.segment),
            "segment_offset": found.offset,
            "stored": found.stored,
            "length": found.length,
            "references": found.refs,
            "blake3": (cipher.veil(found.digest, found.leaves) if cipher else found.digest).hex(),
        }
    record["extents"] = [as_record(one) for one in uses]
    if as_json:
        output.as_json(record)
    else:
        _show(record)


def _show(record: dict[str, Any]) -> None:
    extents = record.pop("extents")
    output.record(record)
    if extents:
        output.line("")
        names = list(dict.fromkeys(name for extent in extents for name in extent))
        columns = [output.Column(output.title(name), right=True) for name in names]
        rows = ([output.text(extent.get(name, "")) for name in names] for extent in extents)
        output.table(columns, rows)
