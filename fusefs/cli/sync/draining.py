"""fusefs sync now, wait: until everything written up to now is in the remotes."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json
from fusefs.cli.progress import bar

if TYPE_CHECKING:
    from fusefs.daemon.surface import Surface

Record = dict[str, Any]

Store = Annotated[
    str,
    typer.Argument(
        metavar="MNT", help="The mountpoint, or the store; by default where you are.",
        show_default=False,
    ),
]  # fmt: skip
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME...", help="Which remotes; all of them if none is named."),
]
Timeout = Annotated[
    str | None, typer.Option(metavar="AGE", help="Wait no longer than this, such as 10m.")
]
_LOOK_S = 0.2


def now(
    target: Store = ".", names: Names = None, timeout: Timeout = None, as_json: Json = False
) -> None:
    """Bring everything that was written up to now into the remotes, without waiting for quiet.

    Returns when it is there. A remote that fails ends it with its error. One that is paused is left
    out, and named, unless there is no other.

    \b
    Example:
      fusefs sync now ~/mnt
      fusefs sync now ~/mnt usb --timeout 10m
    """
    _drain(target, names or [], timeout, as_json, is_asked=True)


def wait(
    target: Store = ".", names: Names = None, timeout: Timeout = None, as_json: Json = False
) -> None:
    """Wait until everything that was written up to now is in the remotes, also if they fail now.

    The exit code is 61 when that is not so in time. A remote that is paused is not waited for, and
    named, unless there is no other.

    \b
    Example:
      fusefs sync wait ~/mnt --timeout 1h
    """
    _drain(target, names or [], timeout, as_json, is_asked=False)


def _drain(
    target: str, names: list[str], timeout: str | None, as_json: bool, *, is_asked: bool
) -> None:
    from fusefs.cli.arguments import seconds
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve

    limit_s = None if timeout is None else seconds(timeout)
    store = resolve(target).store
    with reach(store) as surface, bar("syncing") as on_progress:
        records = drain(surface, names, limit_s, on_progress, is_asked=is_asked)
    if as_json:
        output.as_json(records)


def drain(
    surface: "Surface",
    names: list[str],
    timeout_s: float | None,
    progress: Callable[[int, int], None] | None = None,
    *,
    is_asked: bool = True,
) -> list[Record]:
    """Wait until all that was written up to now is in the remotes; their records then.

    Without `names`: in those that are not paused; the others are complained of. With `is_asked`
    they are to hurry, and a failure ends it. Raises WrongState for a remote of `names` that is
    paused or a trash remote, if all are paused, and for one that becomes so; RemoteUnreachable when
    `timeout_s` is over, the error of a remote that fails.
    """
    from fusefs.errors import RemoteUnreachable, WrongState

    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    mountpoint = surface.status()["mountpoint"]
    if mountpoint is None:
        raise WrongState("only a mounted store is synced: mount it first")
    surface.flush()
    begun = surface.ask("remotes", names=names)
    if trash := [one["name"] for one in begun if names and one["is_trash"]]:
        raise WrongState(f"the remote {trash[0]} is a trash remote, which nothing is synced to")
    begun = [one for one in begun if not one["is_trash"]]
    goal = max((one["acts"] for one in begun), default=0)
    failures = {one["name"]: one["failures"] for one in begun}
    asked = [one["name"] for one in begun if not one["is_paused"]]
    if paused := [one["name"] for one in begun if one["is_paused"]]:
        if names or not asked:
            raise WrongState(_paused(paused, mountpoint))
        output.complain(_paused(paused, mountpoint))
    if is_asked and asked:
        surface.ask("sync_now", names=asked)
    most = 0
    while True:
        records: list[Record] = surface.ask("remotes", names=asked) if asked else []
        late = [one for one in records if not _has(one, goal)]
        behind = sum(one["behind_bytes"] for one in late)
        most = max(most, behind)
        if progress and most:
            progress(most - behind, most)
        if not late:
            return records
        for one in late:
            if one["is_paused"]:
                raise WrongState(_paused([one["name"]], mountpoint))
            if is_asked and one["failures"] > failures[one["name"]]:
                raise _error(one)
        if deadline is not None and time.monotonic() > deadline:
            raise RemoteUnreachable(_why(late))
        time.sleep(_LOOK_S)


def _has(record: Record, goal: int) -> bool:
    """Whether all acts up to `goal` are published."""
    is_far_enough: bool = record["published_acts"] >= goal
    return bool(record["is_in_step"]) or (record["sequence"] > 0 and is_far_enough)


def _paused(names: list[str], mountpoint: str) -> str:
    are = f"the remote {names[0]} is" if len(names) == 1 else f"the remotes {', '.join(names)} are"
    return f"{are} paused: fusefs sync resume {mountpoint} {' '.join(names)}"


def _error(record: Record) -> Exception:
    from fusefs.daemon.wire import decode_error

    text = f"the remote {record['name']}: {record['error']}"
    return decode_error({"class": record["error_class"], "message": text})


def _why(late: list[Record]) -> str:
    return "; ".join(
        f"the remote {one['name']} lacks {one['behind_segments']} segments"
        f" ({output.size(one['behind_bytes'])})" + (f": {one['error']}" if one["error"] else "")
        for one in late
    ) + ": it goes on in the background"  # fmt: skip
