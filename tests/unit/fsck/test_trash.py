"""Each damage to the books of a busy trash is told by its kind and place, and nothing else is."""

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from fusefs.fsck.check import check
from fusefs.model import batch, entry, keys
from fusefs.model.entry import Stamp, State
from fusefs.model.totals import Totals
from fusefs.store.store import Store
from tests.unit import invariants
from tests.unit.clocks import ManualClock
from tests.unit.fsck.busy import WAITING, Busy, build, copy
from tests.unit.fsck.sample import Changes
from tests.unit.inprocess import InProcess

TOTALS = keys.META + b"totals"
HOUR = "/.trash/2027-01-15T08"
NOBODY = 19  # no entry, batch or job has this number

Case = tuple[Callable[[Busy], Changes], set[str]]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("busy") / "store"
    build(path)
    return path


@pytest.fixture
def busy(template: Path, tmp_path: Path) -> Busy:
    return copy(template, tmp_path / "store")


def as_if(state: State) -> dict[str, object]:
    """The fields of an entry that has come to `state`."""
    return {"state": state, "history": (Stamp(state, 1, "damage"),)}


def orphan(ino: int, number: int) -> Changes:
    return {keys.orphan(ino): number.to_bytes(8, "big")}


def one_more_live_directory(s: Busy) -> Changes:
    totals = msgspec.msgpack.decode(s.row(TOTALS), type=Totals)
    totals.directories += 1
    return {TOTALS: msgspec.msgpack.encode(totals)}


def past(s: Busy, origin: bytes, number: int) -> Changes:
    """Both rows of the record that an entry, under this number, has left the trash."""
    one = msgspec.structs.replace(s.entry(origin), number=number, **as_if(State.READY))
    return {keys.history(number): entry.pack(one), keys.finished(5, number): b""}


# `batch of tree`: the number of the batch of the entry /tree; so for entries, purges, inodes.

ENTRIES: dict[str, Case] = {
    "being purged, and still there": (
        lambda s: s.changed(b"early", **as_if(State.ONGOING)) | {s.queued(b"early"): None},
        {"trash /early"},
    ),
    "failed, and still there, which may be": (
        lambda s: s.changed(b"early", **as_if(State.ERROR)) | {s.queued(b"early"): None},
        set(),
    ),
    "being purged, and not to be freed": (
        lambda s: {keys.orphan(s.entry(b"rm").ino): b""},
        {"trash /rm"},
    ),
    "failed, and not to be freed": (
        lambda s: {keys.orphan(s.entry(b"half/failed").ino): b""},
        {"trash /half/failed"},
    ),
    "over, and still there": (
        lambda s: s.changed(b"early", **as_if(State.READY)) | {s.queued(b"early"): None},
        {"trash /early"},
    ),
    "in a directory that is no part of the trash": (
        lambda s: s.inode(s.entry(b"half/2").parent, flags=0),
        {"trash /half/2", f"trash {HOUR}/half"},
    ),
}

QUEUE: dict[str, Case] = {
    "entry that is not queued": (lambda s: {s.queued(b"tree/a"): None}, {"trash /tree/a"}),
    "entry that says another time": (
        lambda s: s.changed(b"tree/a", deadline_ns=5),
        {"trash /tree/a"},
    ),
    "entry that is queued twice": (
        lambda s: {keys.queue(5, s.entry(b"tree/a").number): b""},
        {"trash /tree/a"},
    ),
    "entry that is to stay": (
        lambda s: {keys.queue(5, s.entry(b"lone").number): b""},
        {"trash /lone"},
    ),
    "entry that is being purged": (
        lambda s: {keys.queue(s.entry(b"rm").deadline_ns, s.entry(b"rm").number): b""},
        {"trash /rm"},
    ),
    "entry that has left": (
        lambda s: {keys.queue(5, s.entry(b"purged").number): b""},
        {"trash entry of purged"},
    ),
    "entry that never was": (lambda s: {keys.queue(5, NOBODY): b""}, {f"trash entry {NOBODY}"}),
}

BATCHES: dict[str, Case] = {
    "pending": (lambda s: s.batch(b"half/1", pending=2), {"trash batch of half/1"}),
    "under way": (lambda s: s.batch(b"half/1", ongoing=0), {"trash batch of half/1"}),
    "failed": (lambda s: s.batch(b"half/1", failed=0), {"trash batch of half/1"}),
    "size": (lambda s: s.batch(b"tree", size_bytes=51), {"trash batch of tree"}),
    "size of an entry": (lambda s: s.changed(b"tree/a", size_bytes=0), {"trash batch of tree"}),
    "last entry": (
        lambda s: s.batch(b"half/1", last=s.entry(b"half/2").number),
        {"trash /half/failed", "trash batch of half/1"},
    ),
    "last entry of another, with room to spare": (lambda s: s.batch(b"half/1", last=45), set()),
    "entry before it": (
        lambda s: s.batch(b"half/1", top=b"") | s.changed(b"kept", batch=s.entry(b"half/1").batch),
        {"trash /kept", "trash batch of kept"},
    ),
    "top": (
        lambda s: s.batch(b"half/1", top=b"ha"),
        {"trash /half/1", "trash /half/2", "trash /half/failed"},
    ),
    "no row": (
        lambda s: {keys.batch(s.entry(b"half/1").batch): None},
        {"trash /half/1", "trash /half/2", "trash /half/failed"},
    ),
    "no entries": (
        lambda s: {
            keys.batch(NOBODY): batch.pack(
                batch.RemovalBatch(NOBODY, 0, b"", b"", False, 1, 1, last=NOBODY + 1)
            )
        },
        {f"trash batch {NOBODY}"},
    ),
    "entry of another": (
        lambda s: s.batch(b"kept", last=99) | s.changed(b"lone", batch=s.entry(b"kept").batch),
        {"trash batch of kept", "trash batch of lone"},
    ),
}

JOBS: dict[str, Case] = {
    "too many under way": (lambda s: s.job(b"half/1", ongoing=2), {"trash purge of half/1"}),
    "too few under way": (lambda s: s.job(b"half/1", ongoing=0), {"trash purge of half/1"}),
    "no row": (lambda s: {keys.job(s.entry(b"half/1").job): None}, {"trash /half/1"}),
    "entry of another": (
        lambda s: s.changed(b"half/1", job=WAITING),
        {"trash purge of half/1", f"trash purge {WAITING}"},
    ),
}

HISTORY: dict[str, Case] = {
    "no record": (
        lambda s: {keys.history(s.entry(b"purged").number): None},
        {"trash entry of purged"},
    ),
    "no time": (lambda s: {s.finished(b"purged"): None}, {"trash /purged"}),
    "two times": (
        lambda s: {keys.finished(5, s.entry(b"purged").number): b""},
        {"trash /purged"},
    ),
    "past of another state": (lambda s: s.changed(b"purged", history=()), {"trash /purged"}),
    "in the trash too": (
        lambda s: past(s, b"lone", s.entry(b"lone").number),
        {"trash /lone"},
    ),
    "number to come": (lambda s: past(s, b"lone", 99), {"counters index"}),
}

INODES: dict[str, Case] = {
    "to be freed for nobody": (
        lambda s: orphan(s.entry(b"rm").ino, NOBODY),
        {"trash /rm", "trash inode of rm"},
    ),
    "to be freed for another": (
        lambda s: orphan(s.entry(b"rm").ino, s.entry(b"half/1").number),
        {"trash /rm", "trash /half/1"},
    ),
    "to be freed for one that stays": (
        lambda s: orphan(s.entry(b"lone").ino, s.entry(b"lone").number),
        {"trash /lone", f"orphan {HOUR}/lone"},
    ),
    "file that is taken back as a directory": (
        lambda s: {keys.revival(s.entry(b"lone").ino): b"taken back"},
        {f"trash {HOUR}/lone"},
    ),
    "removed while it is taken back, which may be": (
        lambda s: {keys.revival(999): b"taken back"},
        set(),
    ),
    "directory that nobody takes back": (
        lambda s: {keys.revival(s.entry(b"back").ino): None},
        {"trash /back"},
    ),
    "directory whose own mark is gone already, which may be": (
        lambda s: s.inode(s.entry(b"back").ino, flags=0) | one_more_live_directory(s),
        set(),
    ),
    "directory in one that nobody takes back": (
        lambda s: (
            s.inode(s.entry(b"back").ino, flags=0) | {keys.revival(s.entry(b"back").ino): None}
        ),
        {"trash /back/sub"},
    ),
    "directory of the trash that is not marked": (
        lambda s: s.inode(s.entry(b"tree/in").ino, flags=0),
        {f"trash {HOUR}/tree/in", "trash /tree/in/b"},
    ),
}

MALFORMED: dict[str, Case] = {
    "queue": (lambda s: {s.queued(b"tree/a"): b"?"}, {f"row {HOUR}/tree/a"}),
    "queue key": (lambda s: {keys.queue(5, 5)[:9]: b""}, {"row index"}),
    "batch": (
        lambda s: {keys.batch(s.entry(b"half/1").batch): b"\xc1"},
        {"row batch of half/1"},
    ),
    "batch under another number": (
        lambda s: {keys.batch(NOBODY): s.row(keys.batch(s.entry(b"half/1").batch))},
        {f"row batch {NOBODY}"},
    ),
    "job": (lambda s: {keys.job(s.entry(b"half/1").job): b"\xc1"}, {"row purge of half/1"}),
    "job under another number": (
        lambda s: {keys.job(NOBODY): s.row(keys.job(s.entry(b"half/1").job))},
        {f"row purge {NOBODY}"},
    ),
    "history": (
        lambda s: {keys.history(s.entry(b"purged").number): b"\xc1"},
        {"row entry of purged"},
    ),
    "history of what is in the trash": (
        lambda s: s.changed(b"purged", **as_if(State.PENDING)),
        {"row entry of purged"},
    ),
    "time of leaving": (lambda s: {s.finished(b"purged"): b"?"}, {"row entry of purged"}),
    "time of leaving key": (lambda s: {keys.finished(5, 5)[:9]: b""}, {"row index"}),
    "revival": (lambda s: {keys.revival(s.entry(b"back").ino): b"\xff"}, {"row /back"}),
    "orphan": (
        lambda s: {keys.orphan(s.entry(b"rm").ino): b"?"},
        {"row inode of rm", "trash /rm"},
    ),
    "policy": (lambda s: {keys.setting("policy"): b"\xc1"}, {"row index"}),
    "policy of other types": (
        lambda s: {keys.setting("policy"): msgspec.msgpack.encode({"keep_s": "long"})},
        {"row index"},
    ),
    "steady time": (lambda s: {keys.setting("steady"): b"\xc1"}, {"row index"}),
    "steady time that lacks a clock": (
        lambda s: {keys.setting("steady"): msgspec.msgpack.encode(("boot", 1, 2))},
        {"row index"},
    ),
    "unknown setting": (lambda s: {keys.setting("pomicy"): b""}, {"row index"}),
    "entry of a batch": (
        lambda s: {keys.entry(s.entry(b"tree/a").number): b"\xc1"},
        {f"row {HOUR}/tree/a"},
    ),
    "all of a batch": (
        lambda s: {keys.entry(s.entry(b"lone").number): b"\xc1"},
        {f"row {HOUR}/lone"},
    ),
    "entry of a batch, which excuses no other batch": (
        lambda s: {keys.entry(s.entry(b"tree/a").number): b"\xc1"} | s.batch(b"half/1", pending=2),
        {f"row {HOUR}/tree/a", "trash batch of half/1"},
    ),
    "entry of a job": (
        lambda s: {keys.entry(s.entry(b"half/1").number): b"\xc1"},
        {"row entry of half/1"},
    ),
    "entry of a negative job": (lambda s: s.changed(b"lone", job=-1), {f"row {HOUR}/lone"}),
    "entry of a negative batch": (lambda s: s.changed(b"lone", batch=-1), {f"row {HOUR}/lone"}),
    "entry of a negative time": (
        lambda s: s.changed(b"lone", deadline_ns=-1),
        {f"row {HOUR}/lone"},
    ),
}


def cases(**groups: dict[str, Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("damage", "expected"),
        [
            pytest.param(*case, id=f"{group}: {title}")
            for group, several in groups.items()
            for title, case in several.items()
        ],
    )


@cases(
    entries=ENTRIES, queue=QUEUE, batches=BATCHES, jobs=JOBS, history=HISTORY, inodes=INODES,
    malformed=MALFORMED,
)  # fmt: skip
def test_one_damage_is_told_as_what_it_is(
    busy: Busy, damage: Callable[[Busy], Changes], expected: set[str]
) -> None:
    told = {_numbered(busy, one) for one in expected}
    busy.change(damage(busy))
    assert busy.problems() == told


def _numbered(busy: Busy, problem: str) -> str:
    """`batch of tree` as its number."""
    what = re.fullmatch(r"(\w+ \w+) of (\S+)", problem)
    if not what:
        return problem
    one = busy.entry(what[2].encode())
    field = {"entry": "number", "purge": "job", "inode": "ino"}
    kind = what[1].split()[1]
    return f"{what[1]} {getattr(one, field.get(kind, kind))}"


@pytest.mark.parametrize("read_data", [False, True])
def test_a_sound_store_with_a_busy_trash_has_no_problems(busy: Busy, read_data: bool) -> None:
    report = check(busy.path, read_data)
    assert (report.problems, report.torn, report.replayed) == ((), "", 0)


def test_nor_has_it_when_a_mount_has_taken_back_the_rest(busy: Busy) -> None:
    fs = InProcess(busy.path, ManualClock())
    invariants.check(fs.store)
    assert fs.names(b"back/sub") == [b"d", b"e"]
    fs.store.close()
    assert busy.problems(read_data=True) == set()


def test_the_invariants_of_all_tests_agree_that_it_is_sound(busy: Busy) -> None:
    store = Store.open(busy.path, clock=ManualClock())
    try:
        invariants.check(store)
    finally:
        store.abandon()
