"""fusefs fsck: check a store."""

import math
import random
import threading
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json, Target
from fusefs.cli.interrupt import at_interrupt
from fusefs.cli.progress import bar
from fusefs.cli.spelling import PART_OPTION
from fusefs.cli.unlocking import KeyFile, PassphraseFile

if TYPE_CHECKING:
    from pathlib import Path

    from fusefs.fsck.selection import Selection
    from fusefs.store.cipher import Cipher


def fsck(
    target: Target = ".",
    read_data: Annotated[
        bool,
        typer.Option(
            "--read-data",
            help="Read and verify every block too; =N/T the N-th of T parts, =X% some at random.",
        ),
    ] = False,
    part: Annotated[str | None, typer.Option(PART_OPTION, hidden=True)] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="For X%: the same number selects the same blocks."),
    ] = None,
    time_s: Annotated[
        float | None,
        typer.Option("--time", metavar="SECONDS", min=0, help="End after so long, and say where."),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair what can be; the store must not be mounted.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="With --repair: only say what would be done.")
    ] = False,
    no_remotes: Annotated[
        bool, typer.Option("--no-remotes", help="With --repair: do without what remotes have.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Known damage is a problem as well.")
    ] = False,
    key_file: KeyFile = "",
    passphrase_file: PassphraseFile = "",
    as_json: Json = False,
) -> None:
    """Check a store; it may stay mounted and in use. Changes nothing without --repair.

    Every problem is named. The exit code is 40 if there are any. Ctrl-C ends the check with what
    it found so far.

    A repair corrects counts and listings, names in /lost+found what has no name, and marks bytes
    that are lost: reading them is an error until they are overwritten. What a remote has of bad
    content is written anew before; a dry run asks no remote, and says what would be lost without
    them. Add --read-data to have all content looked at. The check is made again afterwards.

    \b
    Example:
      fusefs fsck /srv/store
      fusefs fsck --read-data ~/mnt
      fusefs fsck --read-data=3/7 ~/mnt      # one part a day: all in a week
      fusefs fsck --read-data=5% --time 600 ~/mnt
      fusefs fsck --repair --dry-run --read-data /srv/store
    """
    from fusefs.cli.unlocking import cipher_of
    from fusefs.daemon.target import resolve
    from fusefs.errors import DamageFound, UsageError
    from fusefs.fsck.check import check
    from fusefs.fsck.selection import Selection

    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    selection = Selection.parse(part, seed) if part is not None else Selection.of(read_data)
    store = resolve(target).store
    if dry_run and not repair:
        raise UsageError("--dry-run says what a repair would do: give --repair as well")
    cipher = cipher_of(store, key_file, passphrase_file)
    done = _healed(store, selection, cipher) if repair and not dry_run and not no_remotes else []
    done += _repair(store, selection, dry_run, cipher) if repair else []
    if dry_run:
        _show_repairs(done, as_json)
        return
    end_s = math.inf if time_s is None else time.monotonic() + time_s
    interrupted = threading.Event()
    with at_interrupt(interrupted.set):
        bring_up_to_date(store)
        with bar("checking") as progress:
            report = check(
                store,
                selection if selection.percent else False,
                progress,
                lambda: not interrupted.is_set() and time.monotonic() < end_s,
                cipher,
            )
        record = as_record(report)
        if selection.percent < 100 and part is not None:
            record["seed"] = seed
        if repair:
            record["repairs"] = done
        if as_json:
            output.as_json(record)
        else:
            _show(record)
        if report.problems or (strict and report.known):
            count = len(report.problems) + (len(report.known) if strict else 0)
            problems = output.counted(count, "problem", "problems")
            raise DamageFound(f"{store} has {problems}, named above")


def _healed(store: "Path", selection: "Selection", cipher: "Cipher | None") -> list[str]:
    """Write anew what remotes have of bad blocks; returns a line for each."""
    from fusefs.base.clock import SystemClock
    from fusefs.fsck.healing import Healer
    from fusefs.sync.places import connect

    with bar("looking for bad blocks") as progress:
        healed = Healer(store, connect, cipher).heal(selection, SystemClock(), progress)
    return [f"content: block {number}: is as it was, from a remote" for number in healed]


def _repair(
    store: "Path", selection: "Selection", dry_run: bool, cipher: "Cipher | None"
) -> list[str]:
    """Repair, or plan it; returns what was or would be done, a line each."""
    from fusefs.base.clock import SystemClock
    from fusefs.fsck.repair import repair
    from fusefs.store.format import segment_name

    with bar("looking for what to repair") as progress:
        plan = repair(
            store, selection, SystemClock(), is_dry=dry_run, progress=progress, cipher=cipher
        )
    aside = (f"segment: {segment_name(n)}: emptied and put aside in cut" for n in plan.segments)
    return [*map(str, plan.repairs), *aside, *map(str, plan.last)]


def _show_repairs(done: list[str], as_json: bool) -> None:
    if as_json:
        output.as_json({"repairs": done})
        return
    for one in done:
        output.line(output.printable(f"would repair {one}"))
    if not done:
        output.line("nothing is to be repaired")


def bring_up_to_date(store: "Path") -> None:
    """Have a running daemon write out what it knows, so that the check sees the present."""
    from fusefs.daemon.client import Client

    if (client := Client.connect(store)) is not None:
        with client:
            client.flush()
            client.checkpoint()


def as_record(report: Any) -> dict[str, Any]:
    """The report as plain JSON types, names as text."""
    import dataclasses
    import os

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, bytes):
            return os.fsdecode(value)
        return value if isinstance(value, int | float | str | None) else str(value)

    record: dict[str, Any] = plain(report)
    return record


def _show(record: dict[str, Any]) -> None:
    for one in record.pop("repairs", ()):
        output.line(output.printable(f"repaired {one}"))
    problems, known = record.pop("problems"), record.pop("known")
    for problem in (*problems, *known):
        where, message = str(problem.get("where", "")), str(problem.get("message", ""))
        output.line(output.printable(f"{problem.get('kind')}: {where}: {message}"))
    stopped = record.pop("stopped")
    counts = {"problems": len(problems)} | ({"known": len(known)} if known else {})
    output.record(record | counts)
    if stopped:
        output.line(f"ended before it was done, in the check of {stopped}")
