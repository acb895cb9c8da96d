"""The command line: arguments, what is said, and the exit code.

0 all rows have figures or were skipped, 1 a row failed, 2 it cannot be run like that, 128 and the
number of the signal when it was ended by one.
"""

import argparse
import errno
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import fusefs
from benchmark import content, machine, names, result, trees
from benchmark.daemon import Daemon, of_mount
from benchmark.place import Place
from benchmark.result import Result
from benchmark.rows import FULL, MIB, QUICK, ROWS, Sizes
from benchmark.run import DROP_CACHES, Idleness, Run, Wrong

#: In order, with the rows that each gives. Each begins with an empty directory.
WORKLOADS: tuple[tuple[Callable[[Run], None], tuple[str, ...]], ...] = (
    (
        content.sequential,
        ("write-1m", "write-again", "read-cold", "read-warm", "random-read"),
    ),
    (content.small_writes, ("write-128k",)),
    (content.random_writes, ("random-write",)),
    (content.syncs, ("fsync",)),
    (content.busy_lookups, ("busy-lookup",)),
    (
        names.small_files,
        ("create", "stat-cold", "stat", "list-cold", "list", "read-small", "rename", "unlink"),
    ),
    (trees.copy, ("cp", "rm")),
    (trees.unpack, ("tar",)),
    (trees.synchronize, ("rsync", "rsync-again")),
    (trees.commit, ("git-add", "git-commit", "git-status")),
)
_PROMPT = Idleness(every_s=0.05, at_most_s=1)
_PATIENT = Idleness(every_s=0.25, at_most_s=10)
#: A load per core from which on other work is worth a word.
_BUSY_LOAD = 0.3

_DESCRIPTION = """\
Measure the filesystem that DIR is on: a mounted fusefs, a local directory, any other mount.

It works in a new directory below DIR and removes it at the end, also after Ctrl-C; in a fusefs it
purges from the trash what it removed. Other work on the machine spoils the figures.
"""
_EPILOG = """\
How it measures:
  Content is random and new in each repeat: it does not compress, and no store has it already
  (but for write-again). Sizes, names and random places are the same in each run. What was
  written is read back and compared, outside of the timed part; a difference fails the row.
  Cold: as root all caches of the kernel are dropped, of the whole machine. Otherwise the
  pages of the files are (posix_fadvise); below a FUSE filesystem the pages of its own files
  stay then, and rows that this would make meaningless are skipped. What a daemon keeps in its
  own memory stays in any case.
  Warm: the same again at once. The figure is mostly that of the kernel's page cache.
  Rows without fsync measure until the programs are done, not until the disk has everything.
  Daemon CPU: seconds in the timed part; 'later': afterwards, until it was idle.
  The time is that of a Python program that makes one call after the other.

Exit codes: 0 done, 1 a row failed, 2 it cannot be run like that.
"""


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP; everything is cleaned up on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Refused(Exception):
    """It cannot be run like that; the message says why, and the way out."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    options = _parse(arguments)
    if options.list:
        for row in ROWS.values():
            print(f"{row.name:<13}{row.unit:<10}{row.text}")
        return 0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup(1)
            signal.signal(number, _interrupt)
    try:
        return _measure(options)
    except Refused as refusal:
        _say(f"error: {refusal}")
        return 2
    except Interrupted as interrupted:
        _say(f"ended by {signal.Signals(interrupted.number).name}, nothing is left")
        return 128 + interrupted.number


def _interrupt(number: int, _: FrameType | None) -> None:
    # A second one ends what hangs, and the directory stays.
    signal.signal(number, signal.SIG_DFL)
    os.write(sys.stderr.fileno(), b"removing what was made; a second time leaves it there\n")
    raise Interrupted(number)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/bench",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("directory", metavar="DIR", nargs="?", type=Path, help="what to measure")
    add("--list", action="store_true", help="what the rows are, and nothing else")
    add("--only", metavar="ROW,...", help="these rows, and what they need")
    add("--quick", action="store_true", help="small sizes, once: to see that it works")
    add("--repeat", metavar="N", type=int, help="median and spread of N (default 3, --quick 1)")
    add("--json", metavar="FILE", type=Path, help="write all samples there")
    add("--against", metavar="OTHER", type=Path, help="compare with what --json wrote")
    add("--pid", metavar="PID", type=int, help="CPU seconds of a daemon (a fusefs' is found)")
    add("--keep-caches", action="store_true", help="as root, measure cold rows as others do")
    options = parser.parse_args(arguments)
    if not options.list and options.directory is None:
        parser.error("give the directory to measure")
    if options.repeat is None:
        options.repeat = 1 if options.quick else 3
    if options.repeat < 1:
        parser.error("--repeat is at least 1")
    return options


def _measure(options: argparse.Namespace) -> int:
    wanted = _wanted_rows(options.only)
    other = _other(options.against)
    if options.json is not None and not os.access(options.json.parent, os.W_OK):
        raise Refused(f"{options.json.parent} cannot be written to: name another --json FILE")
    sizes = QUICK if options.quick else FULL
    place = _place(options.directory)
    _require_room(place, sizes, options.repeat)
    daemon, notes = _daemon(options.pid, place)
    can_drop = os.access(DROP_CACHES, os.W_OK) and not options.keep_caches
    about = _about(options, place, daemon, can_drop)
    notes += _notes(about, other)

    staging = Place(Path(tempfile.gettempdir()))
    idleness = _PROMPT if options.quick else _PATIENT
    run = Run(place, staging, sizes, daemon, idleness, can_drop, tell=_say)
    run.want(wanted)
    try:
        with place.made(), staging.made():
            for number in range(options.repeat):
                _say(f"repeat {number + 1} of {options.repeat}")
                _repeat(run)
    except OSError as error:
        _say(
            f"error: {error}: look whether {place.path} or {staging.path} is left,"
            " and remove it when that can be done"
        )
        return 1
    outcome = Result(about, run.outcomes)
    _print(outcome, other, notes)
    if options.json is not None:
        try:
            options.json.write_text(outcome.as_json())
        except OSError as error:
            raise Refused(f"--json {options.json}: {error.strerror}") from error
    return int(outcome.has_failed)


def _repeat(run: Run) -> None:
    """Each workload once. One that fails is not run again, the others go on."""
    for workload, rows in WORKLOADS:
        if not any(run.wants(row) for row in rows):
            continue
        before = {row: len(run.outcomes[row].samples) for row in rows if row in run.outcomes}
        try:
            workload(run)
        except Wrong as error:
            run.fail(rows, f"WRONG: {error}")
        except OSError as error:
            done = [row for row, count in before.items() if len(run.outcomes[row].samples) > count]
            run.fail([row for row in rows if row not in done], str(error))
        run.tidy()


def _wanted_rows(only: str | None) -> list[str]:
    if only is None:
        return list(ROWS)
    asked = only.split(",")
    for name in asked:
        if name not in ROWS:
            raise Refused(f"there is no row {name!r}: 'tools/bench --list' names them")
    return [name for name in ROWS if name in asked]


def _other(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        return result.load(path)
    except OSError as error:
        raise Refused(f"--against {path}: {error.strerror}") from error
    except ValueError as error:
        raise Refused(f"--against: {error}") from error


def _place(directory: Path) -> Place:
    try:
        is_directory = directory.is_dir()
        os.statvfs(directory)
    except FileNotFoundError:
        is_directory = False
    except OSError as error:
        way_out = "mount it again" if error.errno == errno.ENOTCONN else "give another directory"
        raise Refused(f"{directory}: {error.strerror}: {way_out}") from error
    if not is_directory:
        raise Refused(f"{directory} is no directory: make it first, or mount there")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise Refused(f"{directory} cannot be written to by this user: give a directory of yours")
    return Place(directory.resolve())


def _require_room(place: Place, sizes: Sizes, repeat: int) -> None:
    """In a fusefs space comes back later, so each repeat needs its own."""
    needed = sizes.room_bytes * (repeat if place.is_fusefs else 1)
    if place.free_bytes < needed:
        raise Refused(
            f"{place.directory} has room for {_mib(place.free_bytes)} and {_mib(needed)} are"
            " needed: make room, or see --quick and --repeat"
        )
    if machine.free_memory_bytes() < sizes.memory_bytes:
        raise Refused(
            f"{_mib(machine.free_memory_bytes())} of memory are free and"
            f" {_mib(sizes.memory_bytes)} are needed: end other programs, or see --quick"
        )


def _daemon(pid: int | None, place: Place) -> tuple[Daemon | None, list[str]]:
    """The daemon to be watched, and what there is to say of it."""
    found, trouble = None, None
    if place.mount is not None and place.is_fusefs:
        found, trouble = of_mount(place.mount)
    if pid is None:
        return found, [trouble] if trouble else []
    given = Daemon(pid, found.version if found and found.pid == pid else None)
    try:
        given.cpu_s()
    except ProcessLookupError as error:
        raise Refused(f"--pid: {error}") from error
    return given, []


def _about(
    options: argparse.Namespace, place: Place, daemon: Daemon | None, can_drop: bool
) -> dict[str, Any]:
    mount = place.mount
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "fusefs_version": daemon.version if daemon and daemon.version else fusefs.__version__,
        "machine": machine.describe(),
        "directory": str(place.directory),
        "filesystem": os.fsdecode(mount.fstype) if mount else "unknown",
        "quick": options.quick,
        "repeat": options.repeat,
        "cold": "caches dropped" if can_drop else "posix_fadvise",
        "daemon_pid": daemon.pid if daemon else None,
    }


def _notes(about: dict[str, Any], other: dict[str, Any] | None) -> list[str]:
    """What a reader of the table has to know."""
    notes = []
    if about["quick"]:
        notes.append("--quick: the sizes are too small for figures that mean anything")
    if about["machine"]["load"] > _BUSY_LOAD * about["machine"]["cores"]:
        notes.append(f"other work ran on the machine before: load {about['machine']['load']}")
    if about["cold"] != "caches dropped":
        notes.append("cold rows: only the pages of the files were dropped, see --help")
    if other is not None:
        notes.append("ratio: how many times as fast as the other; above 1 is faster")
        for key in ("quick", "cold"):
            if other.get(key) != about[key]:
                notes.append(f"the other has {key}: {other.get(key)}, so its rows differ")
        if other.get("machine", {}).get("cpu") != about["machine"]["cpu"]:
            notes.append("the other was measured on another CPU")
    return notes


def _print(outcome: Result, other: dict[str, Any] | None, notes: list[str]) -> None:
    about, host = outcome.about, outcome.about["machine"]
    print(f"{about['directory']} on {about['filesystem']}, {about['started']}")
    print(f"fusefs {about['fusefs_version']}, Linux {host['kernel']}")
    print(f"{host['cpu']}, {host['cores']} cores, {_mib(host['memory_bytes'])} of memory")
    print(f"median of {about['repeat']}, spread from the lowest to the highest\n")
    for line in outcome.table(other):
        print(line)
    if notes:
        print()
    for note in notes:
        print(f"note: {note}")


def _mib(size: int) -> str:
    return f"{size // MIB:,} MiB"


def _say(text: str) -> None:
    with suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)
