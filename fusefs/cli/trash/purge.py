"""fusefs trash purge, fusefs trash empty: destroy what is in the trash."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json, Target, seconds
from fusefs.cli.progress import bar

if TYPE_CHECKING:
    from fusefs.daemon.surface import Surface

Record = dict[str, Any]

#: Ids in one request.
_MANY = 4000

NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Return at once; the purge goes on by itself.")
]
Owner = Annotated[
    str | None, typer.Option(metavar="USER", help="Only what belongs to this user (name or uid).")
]


def purge(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TARGET] ID...",
            help="Entries by their IDs. TARGET, a store or mountpoint, comes first where you are"
            " not in it.",
        ),
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="DURATION", help="All removed longer ago: 12h, 3d, 2w.")
    ] = None,
    owner: Owner = None,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> None:
    """Destroy entries of the trash, now and for good.

    What somebody has open, or belongs to others, stays, and is said.

    \b
    Example:
      fusefs trash purge ~/mnt 17 18
      fusefs trash purge ~/mnt --older-than 3d
    """
    from fusefs.cli.reaching import reach
    from fusefs.cli.trash.wanted import numbers, split
    from fusefs.errors import UsageError

    place, wanted = split(what or [])
    ids = numbers(wanted)
    selects = older_than is not None or owner is not None
    if bool(ids) == selects:
        raise UsageError("give IDs, or --older-than or --owner; to purge all: fusefs trash empty")
    older_than_s = seconds(older_than) if older_than is not None else None
    with reach(place.store) as surface:
        if ids:
            asked = [
                surface.ask("trash_purge", numbers=ids[start : start + _MANY])
                for start in range(0, len(ids), _MANY)
            ]
        else:
            uid = _uid(owner) if owner is not None else None
            asked = [surface.ask("trash_purge", older_than_s=older_than_s, owner=uid)]
        _report(surface, asked, no_wait, as_json)


def empty(
    target: Target = ".",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> None:
    """Destroy everything in the trash, now and for good.

    At a terminal it asks before.

    \b
    Example:
      fusefs trash empty ~/mnt
    """
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve

    with reach(resolve(target).store) as surface:
        if sys.stdin.isatty() and not yes:
            space = surface.df()
            entries = output.counted(space["trash_entries"], "entry", "entries")
            typer.confirm(f"Destroy {entries} of {output.size(space['trash_bytes'])}?", abort=True)
        _report(surface, [surface.ask("trash_purge")], no_wait, as_json)


def _report(surface: "Surface", asked: list[Record], no_wait: bool, as_json: bool) -> None:
    from fusefs.cli.failures import fail

    jobs = [job for answer in asked for job in answer["jobs"]]
    items = [item for answer in asked for item in answer["items"]]
    waited_for = sorted({*jobs, *(item["job"] for item in items if item["job"])})
    progress: list[Record] = []
    if waited_for and not no_wait:
        progress = _wait(surface, waited_for)
        _settle(surface, items)
    failed = [item for item in items if "class" in item]
    if as_json:
        output.as_json({"job": min(waited_for, default=None), "jobs": progress, "items": items})
    elif no_wait:
        for job in waited_for:
            output.line(f"purge {job} is under way")
    elif not items or len(failed) < len(items):
        _say(progress, items)
    done = len(items) - len(failed)
    fail([(str(item["id"]), item) for item in failed], done)
    _fail_for(progress, items)


def _wait(surface: "Surface", jobs: list[int]) -> list[Record]:
    """Until all jobs are over; a bar at a terminal shows how far they are."""
    expected = surface.df()["trash_entries"]
    with bar("purging") as on_progress:
        while True:
            progress = surface.purge_progress(jobs)
            if on_progress:
                on_progress(sum(job.get("done", 0) for job in progress), expected)
            if all(job["is_over"] for job in progress):
                return progress


def _settle(surface: "Surface", items: list[Record]) -> None:
    """Say of each item what became of it."""
    from fusefs.daemon.wire import describe_error
    from fusefs.errors import FusefsError, InUse

    left = {item["id"]: item for item in items if item["job"]}
    for outcome in surface.ask("trash_outcomes", numbers=list(left)) if left else ():
        item = left[outcome["id"]]
        item["state"] = outcome["state"]
        if outcome["state"] == "delete-error":
            error = FusefsError(f"entry {item['id']}: {outcome['error']}")
            error.errno = outcome["errno"]
            item.update(describe_error(error))
        elif outcome["state"] == "delete-pending":
            item.update(describe_error(InUse(f"entry {item['id']} is in use")))


def _say(progress: list[Record], items: list[Record]) -> None:
    done = sum(job.get("done", 0) for job in progress)
    gone = sum(1 for item in items if not item["job"] and "class" not in item)
    if done + gone or not items:
        output.line(f"purged {output.counted(done + gone, 'entry', 'entries')}")


def _fail_for(progress: list[Record], items: list[Record]) -> None:
    from fusefs.errors import SomeFailed

    if items:
        return
    failed = sum(job.get("failed", 0) for job in progress)
    in_use = sum(job.get("in_use", 0) for job in progress)
    if failed or in_use:
        raise SomeFailed(
            f"{failed} failed, {in_use} stay because they are in use or belong to others:"
            " see fusefs trash list --all"
        )


def _uid(user: str) -> int:
    import pwd

    from fusefs.errors import UsageError

    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError as error:
        raise UsageError(f"there is no user {user!r}") from error
