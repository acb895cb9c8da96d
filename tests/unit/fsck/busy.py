"""A small store with a busy trash: of each table at least one row, and of each state an entry.

    /kept /tree/a /tree/in/b /tree/in /tree   removed in one go, pending
    /lone                                     removed alone; never due by itself
    /early                                    removed by a version that knew no batches
    /half/1 /half/2 /half/failed              one batch: being purged by a job, pending, failed
    /rm                                       removed inside of the trash, so by no job
    /purged /restored                         have left the trash
    /back /back/sub                           taken back; what /back/sub had is still to be done

The policy was changed just now, so deadlines are to be made anew. A second purge waits.
"""

import shutil
from pathlib import Path

import msgspec

from fusefs.errors import StoreDamaged
from fusefs.model import batch, entry, job, keys
from fusefs.model.entry import Entry
from fusefs.model.job import Selector
from fusefs.store.index import Index
from tests.unit.clocks import ManualClock
from tests.unit.fsck.sample import Changes, Sample
from tests.unit.inprocess import InProcess

#: Longer than the pause that ends a batch.
PAUSE_S = 60
#: The number of the purge that waits.
WAITING = 58


class Busy(Sample):
    """The store at `path`. Entries are known by their old paths."""

    def entry(self, origin: bytes) -> Entry:
        """The entry of what was at `origin`, be it in the trash or not."""
        index = Index(self.path / "index")
        try:
            (found,) = (
                one
                for table in (keys.ENTRY, keys.HISTORY)
                for one in (entry.unpack(row) for _, row in index.scan(table))
                if one.origin == origin
            )
            return found
        finally:
            index.close()

    def changed(self, origin: bytes, **fields: object) -> Changes:
        """The row of an entry with other fields."""
        one = self.entry(origin)
        table = keys.history if one.state in entry.FINAL else keys.entry
        return {table(one.number): entry.pack(msgspec.structs.replace(one, **fields))}

    def batch(self, origin: bytes, **fields: object) -> Changes:
        """The row of the batch of an entry with other fields."""
        key = keys.batch(self.entry(origin).batch)
        return {key: batch.pack(msgspec.structs.replace(batch.unpack(self.row(key)), **fields))}

    def job(self, origin: bytes, **fields: object) -> Changes:
        """The row of the job of an entry with other fields."""
        key = keys.job(self.entry(origin).job)
        return {key: job.pack(msgspec.structs.replace(job.unpack(self.row(key)), **fields))}

    def queued(self, origin: bytes) -> bytes:
        """The key of an entry in the queue."""
        one = self.entry(origin)
        return keys.queue(one.deadline_ns, one.number)

    def finished(self, origin: bytes) -> bytes:
        """The key of an entry in the order of leaving the trash."""
        number = self.entry(origin).number
        index = Index(self.path / "index")
        try:
            (key,) = (key for key, _ in index.scan(keys.FINISHED) if keys.second(key) == number)
            return key
        finally:
            index.close()


def build(path: Path) -> None:
    fs = InProcess(path, ManualClock())
    purger = fs.filesystem.purger
    fs.trash.steady.mark_if_due()
    for name in (b"tree", b"tree/in", b"half", b"back", b"back/sub"):
        fs.mkdir(name)
    for name in (
        b"kept", b"tree/a", b"tree/in/b", b"lone", b"early", b"half/1", b"half/2", b"half/failed",
        b"rm", b"purged", b"restored", b"back/c", b"back/sub/d", b"back/sub/e",
    ):  # fmt: skip
        fs.write(name, b"content of " + name)
    _remove(fs, b"kept", b"tree/a", b"tree/in/b", b"tree/in/", b"tree/")
    _remove(fs, b"half/1", b"half/2", b"half/failed")
    for name in (b"lone", b"early", b"rm", b"purged", b"restored"):
        _remove(fs, name)
    _remove(fs, b"back/c", b"back/sub/d", b"back/sub/e", b"back/sub/", b"back/")
    _purge(fs, b"purged")
    fs.reap()
    (over,) = purger.jobs()
    assert over.is_over
    purger.end(over)
    fs.restorer().restore(b"restored")
    _purge(fs, b"half/1", b"half/failed")
    fs.trash.cannot_free(_find(fs, b"half/failed").number, StoreDamaged("a block is damaged"))
    fs.unlink(fs.trash.path_in_trash(_find(fs, b"rm")))
    waiting = purger.ask(Selector(upto=_find(fs, b"lone").number), "asked", 0)
    assert waiting.number == WAITING
    _forget_batch(fs, b"early")
    _keep_for_ever(fs, b"lone")
    fs.trash.set_policy(fs.trash.retention.policy.with_changes([("keep", "30d")]))
    _take_half_back(fs, b"back")
    fs.files.flush_all()
    fs.store.close()  # the filesystem's own close would free what waits for that


def copy(template: Path, to: Path) -> Busy:
    shutil.copytree(template, to)
    return Busy(to)


def _remove(fs: InProcess, *paths: bytes) -> None:
    """Remove in one go; what ends in a slash is a directory."""
    fs.clock.advance(PAUSE_S)
    for path in paths:
        if path.endswith(b"/"):
            fs.rmdir(path[:-1])
        else:
            fs.unlink(path)


def _find(fs: InProcess, origin: bytes) -> Entry:
    (found,) = (one for one in fs.trash.entries() if one.origin == origin)
    return found


def _purge(fs: InProcess, *origins: bytes) -> None:
    """Begin to purge; nothing is freed yet."""
    numbers = tuple(_find(fs, origin).number for origin in origins)
    asked = fs.filesystem.purger.ask(Selector(numbers=numbers), "asked", 0)
    assert fs.filesystem.purger.step(asked.number)


def _forget_batch(fs: InProcess, origin: bytes) -> None:
    one = _find(fs, origin)
    with fs.tree.act() as act:
        act.delete(keys.batch(one.batch))
        act.put(keys.entry(one.number), entry.pack(msgspec.structs.replace(one, batch=0)))


def _keep_for_ever(fs: InProcess, origin: bytes) -> None:
    one = _find(fs, origin)
    with fs.tree.act() as act:
        fs.trash.ledger.set_deadline(act, one, one.since_ns, 0)


def _take_half_back(fs: InProcess, path: bytes) -> None:
    """Move a directory out of the trash, and stop when those in it are still to be revived."""
    place = fs.trash.path_in_trash(_find(fs, path))
    above, _, name = place.rpartition(b"/")
    fs.tree.rename(fs.at(above).ino, name, 1, path, 0, fs.caller)
    revival = fs.trash.revive()
    next(revival)
    revival.close()
