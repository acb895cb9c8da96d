"""fusefs sync verify: whether a remote holds what the store counts on."""

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json
from fusefs.cli.progress import bar
from fusefs.cli.remote.adding import Name, Store
from fusefs.cli.remote.where import connected
from fusefs.cli.sync.expiring import known_copies

if TYPE_CHECKING:
    from fusefs.daemon.surface import Surface
    from fusefs.remotes.api import Remote
    from fusefs.sync.verify import Bad, Found

Record = dict[str, Any]

_COLUMNS = (
    output.Column("SEGMENT", right=True),
    output.Column("OBJECT"),
    output.Column("PROBLEM"),
    output.Column("NOW"),
)
_SHOWN = 20
#: What becomes of a bad object that is, or will be, as it should be.
_MENDED = frozenset({"replaced", "made anew", "sent again"})


def verify(
    target: Store,
    name: Name,
    sample: Annotated[
        float,
        typer.Option(metavar="PERCENT", min=0, max=100, help="Read so many of the contents."),
    ] = 100.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only say what is bad, put nothing right.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Verify that everything is in a remote that a clone from it would need.

    Each object is asked for, and its content read and compared with its hash; with --sample only
    that of a part, another one each time. What is bad is replaced from the segment here or in
    another remote; without one, the blocks of it that are good come back to this disk. The exit
    code is 40 if something was bad and could not be put right.

    \b
    Example:
      fusefs sync verify ~/mnt bucket --sample 5
    """
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve
    from fusefs.errors import DamageFound
    from fusefs.sync import verify as verification

    store = resolve(target).store
    chance = random.SystemRandom()
    with reach(store) as surface, connected(surface, name) as (remote, row):
        copies = [verification.Object(n, size, s) for s, n, size, _ in known_copies(surface, name)]
        with bar("verifying") as on_progress:
            found = verification.look(
                remote, copies, lambda _: chance.random() * 100 < sample, on_progress
            )
        fates = {} if dry_run else _repair(surface, store, name, remote, found)
        if not dry_run and (
            found.is_index_bad or found.bad_checkpoints or (row.sequence and not found.checkpoint)
        ):
            _make_index_anew(surface, name, remote, found)
    left = sum(fates.get(one.object.name) not in _MENDED for one in found.bad)
    _show(found, fates, as_json)
    if left:
        bad = output.counted(left, "bad object", "bad objects")
        raise DamageFound(f"{remote.place} has {bad}, listed above")


def _repair(
    surface: "Surface", store: Path, name: str, remote: "Remote", found: "Found"
) -> dict[str, str]:
    """What became of each bad object, by its name."""
    fates: dict[str, str] = {}
    for bad in found.bad:
        if not bad.object.segment:
            fates[bad.object.name] = "made anew"
            remote.delete(bad.object.name)
        elif _replace(surface, store, name, remote, bad):
            fates[bad.object.name] = "replaced"
        else:
            fates[bad.object.name] = _forget(surface, store, name, bad.object.segment)
    return fates


def _forget(surface: "Surface", store: Path, name: str, segment: int) -> str:
    """What becomes of a segment that cannot be replaced; what is good of it is saved."""
    from fusefs.errors import NotLocal

    fate = "sent again"
    if not _path(store, segment).exists():
        try:
            found = surface.ask("fetch_salvage", segment=segment)
        except NotLocal as error:
            return f"left as it is: {error}"
        blocks = output.counted(found["lost"], "block", "blocks")
        fate = f"lost: {blocks}; saved: {found['saved']}"
    surface.ask("sync_forget", name=name, segments=[segment])
    return fate


def _replace(surface: "Surface", store: Path, name: str, remote: "Remote", bad: "Bad") -> bool:
    """Put a segment right, from here or from another remote."""
    from fusefs.errors import FusefsError
    from fusefs.sync.verify import put_right

    try:
        if put_right(remote, bad.object, _path(store, bad.object.segment).read_bytes()):
            return True
    except OSError:
        pass  # it is not here, or the disk does not give it
    for other in surface.ask("remotes"):
        if other["name"] == name or other["is_trash"]:
            continue
        try:
            with connected(surface, other["name"]) as (place, _):
                content = place.get(bad.object.name)
        except FusefsError:
            continue
        if put_right(remote, bad.object, content):
            return True
    return False


def _path(store: Path, segment: int) -> Path:
    from fusefs.store.format import segment_name

    return store / "segments" / segment_name(segment)


def _make_index_anew(surface: "Surface", name: str, remote: "Remote", found: "Found") -> None:
    """Have the next checkpoint begin with a base of its own, and that be made now."""
    from fusefs.sync import layout

    for sequence in found.bad_checkpoints:
        remote.delete(layout.checkpoint_object(sequence))
    newest = max(layout.sequences(remote), default=0)
    surface.ask("remote_adopt", name=name, sequence=newest, writer=os.urandom(16).hex())


def _show(found: "Found", fates: dict[str, str], as_json: bool) -> None:
    if as_json:
        output.as_json(
            {
                "objects": found.objects,
                "size_bytes": found.size_bytes,
                "read_bytes": found.read_bytes,
                "checkpoint": found.checkpoint and found.checkpoint.sequence,
                "bad_checkpoints": found.bad_checkpoints,
                "repaired": sum(fate == "replaced" for fate in fates.values()),
                "bad": [
                    {
                        "object": bad.object.name,
                        "segment": bad.object.segment or None,
                        "problem": bad.why,
                        "now": fates.get(bad.object.name),
                    }
                    for bad in found.bad
                ],
            }
        )
        return
    if found.bad:
        output.table(
            _COLUMNS,
            (
                (
                    str(bad.object.segment or ""), bad.object.name, output.printable(bad.why),
                    fates.get(bad.object.name, "bad"),
                )
                for bad in found.bad[:_SHOWN]
            ),
        )  # fmt: skip
    objects = output.counted(found.objects, "object", "objects")
    output.line(
        f"{objects} ({output.size(found.size_bytes)}), {output.size(found.read_bytes)} of it read,"
        f" {len(found.bad) + len(found.bad_checkpoints)} bad"
    )
