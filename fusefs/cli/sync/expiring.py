"""fusefs sync expire: delete in a remote what nothing needs any more."""

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json
from fusefs.cli.progress import bar
from fusefs.cli.remote.adding import Name, Store
from fusefs.cli.remote.where import connected

if TYPE_CHECKING:
    from fusefs.daemon.surface import Surface
    from fusefs.remotes.api import Remote
    from fusefs.sync.expire import Plan

DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")]


def expire(
    target: Store,
    name: Name,
    keep: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Keep the newest N checkpoints.")
    ] = None,
    min_age: Annotated[
        str | None, typer.Option(metavar="AGE", help="Keep what is younger, such as 7d.")
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Delete old checkpoints of a remote, and what only these needed.

    A mounted store does so by itself once a day. Kept are the newest checkpoints, the last one of
    each of the last days, all that they need, all that the store counts on, and what is young.
    With a trash remote everything that goes is stored there first; if that fails, nothing goes.

    \b
    Example:
      fusefs sync expire --dry-run ~/mnt bucket
    """
    from dataclasses import replace

    from fusefs.cli.arguments import seconds
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve
    from fusefs.sync import expire as expiry
    from fusefs.sync.margins import DEFAULT

    margins = DEFAULT
    if keep is not None:
        margins = replace(margins, keep_newest=keep, keep_days=0)
    if min_age is not None:
        margins = replace(margins, min_age_s=seconds(min_age))
    with reach(resolve(target).store) as surface, ExitStack() as stack:
        remote, _ = stack.enter_context(connected(surface, name))
        if not dry_run:
            surface.ask("sync_hold", name=name, seconds=margins.hold_s)
            stack.callback(surface.ask, "sync_hold", name=name, seconds=0)
        plan = expiry.plan(remote, set(known_names(surface, name)), time.time_ns(), margins)
        if not dry_run:
            shelves = _shelves(surface, name, stack)
            with bar("expiring") as on_progress:
                expiry.apply(plan, remote, shelves, on_progress)
    if as_json:
        output.as_json(_record(plan))
    else:
        output.line(_sentence(plan, "would delete" if dry_run else "deleted"))


def known_names(surface: "Surface", name: str) -> list[str]:
    """The objects that the store counts on in a remote."""
    return [copy[1] for copy in known_copies(surface, name)]


def known_copies(surface: "Surface", name: str) -> list[tuple[int, str, int, str]]:
    """The copies that a store has in a remote: (segment, name, size, BLAKE3)."""
    found: list[tuple[int, str, int, str]] = []
    while page := surface.ask("sync_copies", name=name, after=found[-1][0] if found else 0):
        found += [tuple(one) for one in page]
    return found


def _shelves(surface: "Surface", name: str, stack: ExitStack) -> list[tuple[str, "Remote"]]:
    """The trash remotes of a store, each with the folder for what goes from this one."""
    shelves = []
    for one in surface.ask("remotes"):
        if one["is_trash"]:
            remote, _ = stack.enter_context(connected(surface, one["name"]))
            shelves.append((f"dropped/{name}", remote))
    return shelves


def _record(plan: "Plan") -> dict[str, Any]:
    return {
        "checkpoints": list(plan.checkpoints),
        "kept_checkpoints": list(plan.kept),
        "unreadable_checkpoints": list(plan.unreadable),
        "objects": len(plan.objects),
        "size_bytes": plan.size_bytes,
    }


def _sentence(plan: "Plan", done: str) -> str:
    objects = output.counted(len(plan.objects), "object", "objects")
    checkpoints = output.counted(len(plan.checkpoints), "checkpoint", "checkpoints")
    text = f"{done} {objects} ({output.size(plan.size_bytes)}), {checkpoints} among them"
    if plan.unreadable:
        text += f"; {len(plan.unreadable)} checkpoints cannot be read: fusefs sync verify"
    return text
