"""fusefs partial: files that are half-written, and how far they are good."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json, Target, seconds

if TYPE_CHECKING:
    import fusefs.daemon.target as targets

Record = dict[str, Any]

app = typer.Typer(
    name="partial",
    help="List half-written files, say that one is complete, or move old ones to the trash.",
    no_args_is_help=False,
    rich_markup_mode=None,
)

_COLUMNS = (
    output.Column("STATE"),
    output.Column("GOOD", right=True),
    output.Column("SIZE", right=True),
    output.Column("IDLE", right=True),
    output.Column("WHY"),
    output.Column("PATH"),
)
_OLDER = typer.Option("--older-than", metavar="DURATION", help="Idle for longer: 90s, 12h, 30d.")

Where = Annotated[
    list[str],
    typer.Argument(
        metavar="[TARGET] PATH...",
        help="Files. A store that is not mounted comes first, as TARGET; PATHs are inside it then.",
    ),
]


@app.command("list")
def list_partials(
    target: Target = ".",
    older_than: Annotated[str | None, _OLDER] = None,
    as_json: Json = False,
) -> None:
    """List files that are half-written, or being written.

    \b
    Example:
      fusefs partial list ~/mnt
    """
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve

    idle_s = 0.0 if older_than is None else seconds(older_than)
    with reach(resolve(target).store) as surface:
        found = surface.ask("partial_list", idle_s=idle_s)
    if as_json:
        output.as_json(found)
    else:
        output.table(_COLUMNS, map(_row, found))


@app.command()
def show(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file, or a store.")],
    inside: Annotated[
        str | None,
        typer.Argument(metavar="[INSIDE]", help="The path inside, when PATH is a store."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show how far a half-written file is good, after reading all of that again, and what it lacks.

    Missing are the bytes of which nothing has come: 0-1048576 is the first MiB.

    \b
    Example:
      fusefs partial show ~/mnt/film.mkv
    """
    from fusefs.cli.reaching import reach

    place, (inner,) = _places([path] if inside is None else [path, inside])
    with reach(place.store) as surface:
        record = surface.ask("partial_show", path=inner)
    if as_json:
        output.as_json(record)
    else:
        missing = [f"{begin}-{end}" for begin, end in record["missing"]]
        shown = {name: value for name, value in record.items() if value not in ("", None)}
        output.record({**shown, "missing": missing or "nothing"})


@app.command()
def complete(what: Where, as_json: Json = False) -> None:
    """Say that half-written files are as they should be.

    \b
    Example:
      fusefs partial complete ~/mnt/app.log
    """
    from fusefs.cli.failures import fail
    from fusefs.cli.reaching import reach

    place, paths = _places(what)
    with reach(place.store) as surface:
        answer = surface.ask("partial_complete", paths=paths)
    if as_json:
        output.as_json(answer)
    else:
        for path in answer["completed"]:
            output.line(output.printable(path))
    fail([(item["what"], item) for item in answer["failed"]], len(answer["completed"]))


@app.command()
def sweep(
    older_than: Annotated[str, _OLDER],
    target: Target = ".",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only say what would be moved.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Move copies that stopped half-way, and that nobody went on with, to the trash.

    An older file that was being changed when its writer died stays.

    \b
    Example:
      fusefs partial sweep --older-than 30d ~/mnt
    """
    from fusefs.cli.failures import fail
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve

    age_s = seconds(older_than)
    with reach(resolve(target).store) as surface:
        answer = surface.ask("partial_sweep", older_than_s=age_s, dry_run=dry_run)
    if as_json:
        output.as_json(answer)
    else:
        for one in answer["swept"]:
            output.line(output.printable(one["path"]))
    fail([(item["what"], item) for item in answer["failed"]], len(answer["swept"]))


def _row(one: Record) -> tuple[str, ...]:
    idle = one["idle_s"]
    return (
        one["state"],
        output.size(one["offset"]),
        output.size(one["size"]),
        "?" if idle is None else _whole(idle),
        output.printable(one["why"]),
        output.printable(one["path"]),
    )


def _whole(idle_s: float) -> str:
    from fusefs.base.units import show_duration

    unit = next((unit for unit in (86400, 3600, 60) if idle_s >= unit), 1)
    return show_duration(idle_s // unit * unit)


def _places(arguments: list[str]) -> "tuple[targets.Target, list[bytes]]":
    """The store and the inner paths of ``[TARGET] PATH...``. Raises UsageError, NotMounted."""
    from fusefs.daemon.target import resolve, resolve_inner
    from fusefs.errors import UsageError

    place = resolve(arguments[0])
    paths = arguments if place.inner else arguments[1:]
    if not paths:
        raise UsageError(f"{arguments[0]!r} is no file: name a file in it, too")
    return place, [resolve_inner(place, path) for path in paths]
