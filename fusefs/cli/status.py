"""fusefs status: one screen about a store and its mount."""

import os
import select
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json, Target
from fusefs.cli.interrupt import at_interrupt
from fusefs.cli.output import counted, printable, size
from fusefs.cli.remote.listing import standing

if TYPE_CHECKING:
    from fusefs.daemon.target import Target as Place

Record = dict[str, Any]


def status(
    target: Target = ".",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it live.")] = False,
    interval_s: Annotated[
        float, typer.Option("--interval", "-n", metavar="SECONDS", min=0.1, help="With --watch.")
    ] = 2.0,
    prometheus: Annotated[
        bool, typer.Option("--prometheus", help="Print the text format of Prometheus.")
    ] = False,
    file: Annotated[
        str | None,
        typer.Option("--output", metavar="FILE", help="With --prometheus: replace FILE by it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show space, trash, log and errors.

    \b
    Example:
      fusefs status ~/mnt
      fusefs status --watch /srv/store
      fusefs status --prometheus --output /var/lib/node_exporter/fusefs.prom ~/mnt
    """
    from fusefs.daemon.target import resolve
    from fusefs.errors import UsageError

    if prometheus and (watch or as_json):
        raise UsageError("--prometheus is a format of its own: leave out --json and --watch")
    if file is not None and not prometheus:
        raise UsageError("--output is for the numbers of Prometheus: give --prometheus as well")
    place = resolve(target)
    if prometheus:
        _give_numbers(place, file)
    elif not watch:
        _print(read(place), as_json)
    elif as_json or not sys.stdout.isatty():
        _repeat(place, interval_s, as_json)
    else:
        _live(place, interval_s)


def _give_numbers(place: "Place", file: str | None) -> None:
    """Print the numbers, or put them in place of a file at one stroke."""
    from pathlib import Path

    from fusefs.base import durable
    from fusefs.daemon.metrics import render
    from fusefs.errors import UsageError

    text = render(read(place))
    if file is None:
        sys.stdout.write(text.decode())
        return
    try:
        durable.write_file(Path(file), text, mode=0o644)
    except OSError as error:
        raise UsageError(
            f"--output {file}: {error.strerror}: give a file in a directory that you may write to"
        ) from error


def read(place: "Place") -> Record:
    """The status of a store with its `state`: mounted, dead (its daemon is) or not mounted."""
    from fusefs.cli.reaching import reach

    with reach(place.store) as surface:
        record = surface.status()
    if record["mountpoint"]:
        return {"state": "mounted", **record}
    state = "dead" if place.mountpoint else "not mounted"
    return {"state": state, **record, "mountpoint": place.mountpoint and str(place.mountpoint)}


def screen(record: Record) -> list[tuple[str, str]]:
    """The record as lines for people."""
    partials = record["partials"]
    counters = record["counters"]
    errors = []
    if counters["damaged_reads"]:
        reads = counted(counters["damaged_reads"], "damaged read", "damaged reads")
        healed = counted(counters["healed"], "block", "blocks")
        errors.append(f"{reads} since the start, {healed} healed")
    if bad := record["corruption_records"]:
        errors.append(f"{counted(bad, 'block is', 'blocks are')} bad, see fusefs scrub --list")
    if record["purge_trouble"]:
        errors.append(f"purging waits: {printable(record['purge_trouble'])}")
    if record["cut_bytes"]:
        errors.append(f"{size(record['cut_bytes'])} of the log did not verify and were set aside")
    if why := record["away"]["last_error"]:
        errors.append(f"what is in remotes only cannot be fetched: {printable(why)}")
    return [
        ("store", f"{printable(record['store'])}  ({record['uuid']})"),
        ("mount", printable(_mount(record))),
        *space(record),
        (
            "half-written",
            f"{counted(partials['count'], 'file', 'files')} of {size(partials['bytes'])},"
            f" {size(partials['old_bytes'])} of it old",
        ),
        (
            "purges",
            f"{record['purges_running']} under way, {record['purges_queued']} waiting",
        ),
        (
            "not yet on disk",
            f"{size(record['waiting_bytes'])} in memory,"
            f" {size(record['unsynced_bytes'])} written but not synced",
        ),
        (
            "log",
            f"segment {record['log_segment']} at {record['log_offset']},"
            f" {counters['checkpoints']} checkpoints,"
            f" {counters['replayed_records']} records replayed",
        ),
        (
            "since the start",
            f"{size(counters['bytes_stored'])} written in "
            f"{counted(counters['needed'], 'block', 'blocks')},"
            f" {size(counters['already_present_bytes'])} were there already,"
            f" {counters['log_syncs']} syncs",
        ),
        *([("away", _away(record["away"]))] if record["away"]["away_bytes"] else []),
        *((f"remote {one['name']}", printable(standing(one))) for one in record["remotes"]),
        ("errors", "; ".join(errors) or "none"),
    ]


def space(record: Record) -> list[tuple[str, str]]:
    """What the space is used for, as lines for people."""
    return [
        (
            "files",
            f"{size(record['live_bytes'])} in {counted(record['files'], 'file', 'files')}"
            f" and {counted(record['directories'], 'directory', 'directories')}",
        ),
        (
            "trash",
            f"{size(record['trash_bytes'])}"
            f" in {counted(record['trash_entries'], 'entry', 'entries')}",
        ),
        (
            "blocks",
            f"{size(record['stored_bytes'])} needed, {size(record['garbage_bytes'])} not any more",
        ),
        (
            "segments",
            f"{size(record['segments_bytes'])}"
            f" in {counted(record['segments'], 'file', 'files')},"
            f" of which gc would free {size(record['reclaimable_bytes'])}",
        ),
        (
            "saved",
            f"{size(record['dedup_saved_bytes'])} by sharing equal blocks,"
            f" {size(record['compression_saved_bytes'])} by compression",
        ),
        (
            "disk",
            f"{size(record['disk_free_bytes'])} free,"
            f" the last {size(record['reserve_bytes'])} of it kept in reserve",
        ),
    ]


def _mount(record: Record) -> str:
    if record["state"] == "mounted":
        since = record["started"][:19].replace("T", " ")
        return f"{record['mountpoint']}, by process {record['pid']} since {since} UTC"
    if record["state"] == "dead":
        store, mountpoint = record["store"], record["mountpoint"]
        return f"{mountpoint} is DEAD: 'fusefs mount {store} {mountpoint}' brings it back"
    return "not mounted"


def _away(record: Record) -> str:
    away, cached = size(record["away_bytes"]), size(record["cache_bytes"])
    return f"{away} in remotes only, {cached} kept of what was fetched"


def _print(record: Record, as_json: bool) -> None:
    if as_json:
        output.as_json(record)
    else:
        output.fields(screen(record))


def _repeat(place: "Place", interval_s: float, as_json: bool) -> None:
    """For a pipe: one record after the other, until interrupted or the reader has gone."""
    _print(read(place), as_json)
    sys.stdout.flush()
    for _ in _ticks(interval_s):
        output.line("")
        _print(read(place), as_json)
        sys.stdout.flush()


def _live(place: "Place", interval_s: float) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    def draw() -> Group:
        grid = Table.grid(padding=(0, 2))
        for name, value in screen(read(place)):
            grid.add_row(Text(name, style="dim"), Text(value))
        return Group(grid, Text(f"{time.strftime('%H:%M:%S')}, Ctrl-C ends", style="dim"))

    with Live(draw(), auto_refresh=False, screen=True) as live:
        for _ in _ticks(interval_s):
            live.update(draw(), refresh=True)


def _ticks(interval_s: float) -> Iterator[None]:
    """A tick after each interval, until Ctrl-C, which is raised between two ticks."""
    interrupted, interrupt = os.pipe()
    try:
        with at_interrupt(lambda: os.write(interrupt, b"!")):
            while not select.select([interrupted], [], [], interval_s)[0]:
                yield
    finally:
        os.close(interrupted)
        os.close(interrupt)
