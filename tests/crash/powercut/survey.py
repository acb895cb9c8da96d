"""Look at a store after a power cut: is everything there that was promised, and does it work on?

    python -m tests.crash.powercut.survey STORE RUN END NEVER

STORE lies on the disk after the cut. RUN is a directory with what the writers noted, and with the
key of an encrypted store; END and NEVER are as in `writelog.Cut`. Ends with a traceback if a
promise was not kept. It is a process of its own, because a damaged index may end whoever reads it
by a signal.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import lmdb
import msgspec

from fusefs.errors import StoreDamaged
from fusefs.fsck.check import check as fsck
from fusefs.model import keys, keyslot
from fusefs.model.inode import ROOT_INO
from fusefs.model.keyslot import Secret
from fusefs.store import keyring
from fusefs.store.cipher import Cipher
from fusefs.store.log import Position
from fusefs.store.margins import DEFAULT
from fusefs.store.recovery import list_segments
from fusefs.store.snapshot import NAME as SNAPSHOT
from tests.crash.powercut import promises
from tests.crash.powercut.writers import Job
from tests.unit import invariants
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess

JOBS = "jobs.json"
#: The key file of an encrypted store.
KEY = "key"
AFTER = b"after the cut"


def save_jobs(run: Path, jobs: list[Job]) -> None:
    (run / JOBS).write_text(json.dumps(jobs))


def load_jobs(run: Path) -> list[Job]:
    return [Job(*fields) for fields in json.loads((run / JOBS).read_text())]


def content_of(fs: InProcess, path: bytes) -> bytes:
    """The content of a file, or what nobody wrote where it cannot be read."""
    try:
        return fs.read(path)
    except StoreDamaged as error:
        return str(error).encode()


def files_below(fs: InProcess, path: bytes) -> Iterator[bytes]:
    for name in fs.names(path):
        inner = path + b"/" + name
        if fs.at(inner).is_dir:
            yield from files_below(fs, inner)
        else:
            yield inner


def found_of(fs: InProcess, job: Job) -> tuple[dict[str, bytes], promises.Removed]:
    """The files of a writer, and what it removed and can be taken back."""
    top = job.name.encode()
    if fs.tree.lookup(ROOT_INO, top) is None:
        return {}, Counter()
    below = top + b"/"
    files = {
        os.fsdecode(path.removeprefix(below)): content_of(fs, path) for path in files_below(fs, top)
    }
    removed = Counter(
        (os.fsdecode(one.origin.removeprefix(below)), content_of(fs, fs.trash.path_in_trash(one)))
        for one in fs.pending()
        if one.origin.startswith(below)
    )
    return files, removed


def check_promises(fs: InProcess, run: Path, end: int, never: int) -> str:
    """Raises Lost. Returns how far the writers had come.

    The promise of a purge is that it was asked for, and so goes on by itself.
    """
    purger = fs.filesystem.purger
    for asked in purger.jobs():
        while purger.step(asked.number):
            pass
    told = []
    for job in load_jobs(run):
        if (run / job.name).exists():
            come = promises.progress(run / job.name, job.steps, end, never)
            assert not come.begun or fs.at(job.name.encode()).is_dir
            promises.check(job, come, *found_of(fs, job))
            told.append(f"{come.durable}..{come.begun}")
    return " ".join(told)


def secret_of(run: Path) -> Secret | None:
    """What opens the store of a run, if it is encrypted."""
    key = run / KEY
    return keyslot.key_file(key.read_bytes()) if key.exists() else None


def problems_of(store: Path, cipher: Cipher | None) -> list[str]:
    """What fsck finds, with all content read; the first of it also goes to stderr."""
    report = fsck(store, read_data=True, cipher=cipher)
    found = [f"fsck: {one.kind} {one.where}: {one.message}" for one in report.problems]
    sys.stderr.writelines(line + "\n" for line in found[:10])
    return found


def check_snapshot(store: Path) -> None:
    """Once segments have been deleted, a copy of the index and the log after it are all there."""
    segments = list_segments(store / "segments")
    if not segments or segments[0] == 1:
        return
    with (
        lmdb.open(str(store / SNAPSHOT), subdir=False, readonly=True, lock=False) as copy,
        copy.begin() as rows,
    ):
        position = Position(*msgspec.msgpack.decode(rows.get(keys.META + b"position")))
        assert rows.stat()["entries"] == sum(1 for _ in rows.cursor())
    needed = range(position.segment, segments[-1] + 1)
    assert segments[-len(needed) :] == list(needed), (position, segments)


def check_it_works_on(fs: InProcess) -> None:
    """Write, remove, give space back, die again: nothing of it goes wrong."""
    fs.write(AFTER, AFTER * 1000)
    for path in [path for path, data in fs.tree_below().items() if data is not None][::3]:
        if path != AFTER:
            fs.unlink(path)
    for one in fs.pending()[::2]:
        fs.unlink(fs.trash.path_in_trash(one))
    while fs.reap():
        pass
    fs.collect(DEFAULT)
    before = fs.tree_below()
    fs.crash()
    assert fs.tree_below() == before
    assert fs.read(AFTER) == AFTER * 1000
    invariants.check(fs.store)


def run(arguments: Sequence[str]) -> int:
    """All of it; returns the exit code of the process."""
    store, directory = map(Path, arguments[:2])
    end, never = map(int, arguments[2:])
    check_snapshot(store)
    secret = secret_of(directory)
    cipher = keyring.unlock(store, secret) if secret else None
    problems = problems_of(store, cipher)
    fs = InProcess(store, ManualClock(), secret=secret)
    told = check_promises(fs, directory, end, never)
    assert not problems
    replay = fs.store.replay
    invariants.check(fs.store)
    check_it_works_on(fs)
    fs.close()
    assert not problems_of(store, cipher)
    print(f"steps {told}; replayed {replay.batches} batches, cut {replay.cut_bytes} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
