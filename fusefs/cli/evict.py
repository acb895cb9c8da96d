"""fusefs evict: drop what has enough copies elsewhere from this disk."""

from typing import Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json
from fusefs.cli.progress import bar

#: Segments whose copies are proved with one question to the daemon.
_STEP = 16


def evict(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="The store, its mountpoint, or a path below it.")
    ] = ".",
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH...]", help="More files or directories below it."),
    ] = None,
    to_free: Annotated[
        str | None, typer.Option(metavar="SIZE", help="No more than this, such as 10G.")
    ] = None,
    numcopies: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Copies that each segment is to have elsewhere."),
    ] = None,
    mincopies: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="And so many at least; the larger of both counts."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every copy back, however lately that was done.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only say what would be dropped.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Drop local content of which there are enough copies in remotes, proved right then.

    It stays readable, and comes back when it is read. Whole segments go, of which a file has some
    and shares some with others: those read least lately first. Each copy is asked for at its
    remote, with its size, and read back unless that was done within 30 days. What is pinned, what
    is new and what no remote has published stays. See 'fusefs copies' for how many are needed
    without an option. The exit code is 72 if nothing could go for want of copies.

    \b
    Example:
      fusefs evict ~/mnt --to-free 10G
      fusefs evict ~/mnt/videos
      fusefs evict --dry-run ~/mnt
    """
    from fusefs.cli.places import Places
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve, resolve_inner

    place = resolve(target)
    inner = [resolve_inner(place, path) for path in paths or []]
    if place.inner:
        inner.insert(0, place.inner)
    limit = _size(to_free)
    with Places() as places:
        if not dry_run:
            places.served(place.store)
        with reach(place.store) as surface:
            plan = surface.ask(
                "evict_plan", paths=inner, to_free=limit, numcopies=numcopies, mincopies=mincopies
            )
            if dry_run:
                _show(plan, as_json=as_json)
                return
            done = {"segments": 0, "freed_bytes": 0, "refused": []}
            numbers = [number for number, _ in plan["segments"]]
            with bar("evicting") as on_progress:
                for at in range(0, len(numbers), _STEP):
                    part = surface.ask(
                        "evict", segments=numbers[at : at + _STEP], numcopies=numcopies,
                        mincopies=mincopies, read_all=verify,
                    )  # fmt: skip
                    for key, value in part.items():
                        done[key] += value
                    if on_progress:
                        on_progress(min(at + _STEP, len(numbers)), len(numbers))
    _report(plan, done, as_json=as_json)


def _size(text: str | None) -> int | None:
    from fusefs.base.units import parse_size
    from fusefs.errors import UsageError

    if text is None:
        return None
    try:
        return parse_size(text)
    except ValueError as error:
        raise UsageError(f"--to-free {text}: {error}") from error


def _show(plan: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.as_json(plan)
        return
    segments = output.counted(len(plan["segments"]), "segment", "segments")
    copies = output.counted(plan["needed_copies"], "copy", "copies")
    output.line(
        f"would free {output.size(plan['size_bytes'])} in {segments}, if {copies} of each can be"
        " proved"
    )
    _show_kept(plan["kept"])


def _show_kept(kept: dict[str, int]) -> None:
    words = {"pinned": "pinned", "unpublished": "not in a remote yet", "recent": "too new"}
    stays = [f"{output.size(kept[key])} {words[key]}" for key in words if kept[key]]
    if stays:
        output.line(f"stays here: {', '.join(stays)}")


def _report(plan: dict[str, Any], done: dict[str, Any], *, as_json: bool) -> None:
    from fusefs.errors import NotEnoughCopies, SomeFailed

    if as_json:
        output.as_json({**done, "kept": plan["kept"]})
    else:
        segments = output.counted(done["segments"], "segment", "segments")
        output.line(f"freed {output.size(done['freed_bytes'])} in {segments}")
        _show_kept(plan["kept"])
    if refused := done["refused"]:
        more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
        kind = SomeFailed if done["segments"] else NotEnoughCopies
        raise kind(f"{refused[0]}{more}: see to the remotes and try again")
