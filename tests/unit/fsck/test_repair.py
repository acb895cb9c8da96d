"""Each kind of damage that can be put right is, by acts of the log, and stays so."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec
import pytest

from fusefs.cli.app import run
from fusefs.daemon.service import Service
from fusefs.errors import StoreDamaged, StoreLocked
from fusefs.fsck import repair as repair_module
from fusefs.fsck.check import check
from fusefs.fsck.repair import Plan, repair
from fusefs.fsck.selection import Selection
from fusefs.model import dirent, extent, keys
from fusefs.model.extent import DAMAGED, Extent
from fusefs.model.inode import Inode
from fusefs.model.totals import Totals
from fusefs.store import format, rebuild
from fusefs.store.counters import Counters
from tests.unit import invariants
from tests.unit.clocks import ManualClock
from tests.unit.fsck.sample import (
    A_COOKIE,
    DOCS,
    EMPTY,
    EMPTY_COOKIE,
    LAST_COOKIE,
    LINK,
    MIB,
    ROOT,
    SPARSE,
    SUB,
    TWICE_COOKIE,
    A,
    B,
    Changes,
    Sample,
)
from tests.unit.inprocess import InProcess
from tests.unit.store.acts import flip, records, segment

META = keys.META
#: The sample's damage was done behind the log's back, and what a repair need not touch stays so.
LOG_MISSES = "the log does not make the same index"


def fix(sample: Sample, *, read_data: bool = True, is_dry: bool = False) -> Plan:
    return repair(sample.path, Selection.of(read_data), ManualClock(), is_dry=is_dry)


def everything(path: Path) -> dict[Path, bytes]:
    return {
        one: one.read_bytes()
        for one in sorted(path.rglob("*"))
        if one.is_file() and one.name not in ("lock", "lock.mdb", "readers.lock")
    }


def listed(ino: int, kind: int, name: bytes) -> bytes:
    return dirent.pack_listed(ino, kind, name)


def without_name(parent: int, name: bytes, cookie: int) -> Changes:
    return {keys.name(parent, name): None, keys.order(parent, cookie): None}


Case = tuple[Callable[[Sample], Changes], set[str]]
#: What is changed, and `kind where` of what the repair says of it.
CASES: dict[str, Case] = {
    "links of a file": (lambda s: s.inode(B, nlink=7), {"links /docs/twice"}),
    "links of a directory": (lambda s: s.inode(DOCS, nlink=2), {"links /docs"}),
    "names in the trash": (lambda s: s.inode(A, trash_names=3), {"links /docs/a.txt"}),
    "references": (lambda s: s.block(3, refs=9), {"references block 3"}),
    "no references": (lambda s: s.block(3, refs=0), {"references block 3"}),
    "record of what is not there": (lambda s: s.record(999), {"record block 999"}),
    "record that does not decode": (lambda s: {keys.corruption(1): b"?"}, {"record block 1"}),
    "counters": (
        lambda s: {META + b"counters": msgspec.msgpack.encode(Counters(3, 1, 4))},
        {"counters index"},
    ),
    "totals": (
        lambda s: {META + b"totals": msgspec.msgpack.encode(Totals(files=99))},
        set(),
    ),
    "usage": (lambda s: {META + b"live/%016x" % 1: bytes(8)}, set()),
    "listing that is missing": (
        lambda s: {keys.order(DOCS, A_COOKIE): None},
        {"listing /docs/a.txt"},
    ),
    "listing of another inode": (
        lambda s: {keys.order(DOCS, A_COOKIE): listed(B, stat.S_IFREG, b"a.txt")},
        {"listing /docs/a.txt"},
    ),
    "listing of a name that is not there": (
        lambda s: {keys.order(DOCS, 99): listed(999, stat.S_IFREG, b"ghost")},
        {"listing /docs/ghost"},
    ),
    "listing of a name under another number": (
        lambda s: {keys.order(DOCS, 99): listed(A, stat.S_IFREG, b"a.txt")},
        {"listing /docs/a.txt"},
    ),
    "name that only the listing has": (
        lambda s: {keys.name(DOCS, b"a.txt"): None},
        {"listing /docs/a.txt"},
    ),
    "mark on what has a name": (
        lambda s: {keys.orphan(A): b""},
        {f"orphan inode {A}"},
    ),
    "mark on what is not there": (
        lambda s: {keys.orphan(999): b""},
        {"orphan inode 999"},
    ),
    "file without a name": (
        lambda s: without_name(ROOT, b"empty", EMPTY_COOKIE),
        {f"orphan inode {EMPTY}"},
    ),
    "extent that is missing": (
        lambda s: {keys.extent(A, MIB): None},
        {"extent /docs/a.txt"},
    ),
    "extent that does not decode": (
        lambda s: {keys.extent(A, 0): b"?"},
        {"extent /docs/a.txt", "references block 1"},
    ),
    "extents that overlap": (
        lambda s: (
            {keys.extent(A, 0): extent.pack(Extent(0, MIB, 1, 0))}
            | {keys.extent(A, 500): extent.pack(Extent(500, 10, 1, 0))}
        ),
        {"extent /docs/a.txt"},
    ),
    "extent of a block that is not there": (
        lambda s: {keys.block(2): None},
        {"extent /docs/a.txt"},
    ),
    "block whose row does not decode": (
        lambda s: {keys.block(2): b"?"},
        {"extent /docs/a.txt", "references block 2"},
    ),
    "extent behind the end of its block": (
        lambda s: {keys.extent(B, 0): extent.pack(Extent(0, 12, 3, 5))},
        {"extent /docs/twice", "references block 3"},
    ),
    "extents of what is not there": (
        lambda s: {keys.extent(999, 0): extent.pack(Extent(0, 5, 1, 0))},
        {"extent inode 999"},
    ),
    "extents of a directory": (
        lambda s: {keys.extent(SUB, 0): extent.pack(Extent(0, 5, 1, 0))},
        {f"extent inode {SUB}"},
    ),
    "size beyond the extents": (
        lambda s: s.inode(A, stored_size=5 * MIB, size=5 * MIB),
        {"extent /docs/a.txt"},
    ),
    "size short of the extents": (
        lambda s: s.inode(A, stored_size=5, size=5),
        {"extent /docs/a.txt"},
    ),
    "bytes of data": (lambda s: s.inode(A, blocks_bytes=1), {"extent /docs/a.txt"}),
}
#: Follows from others, and is told with them.
DERIVED = {"totals index", "counters index", "links /"}


@pytest.mark.parametrize(("damage", "expected"), CASES.values(), ids=CASES)
def test_what_can_be_is_put_right(
    sample: Sample,
    damage: Callable[[Sample], Changes],
    expected: set[str],
    request: pytest.FixtureRequest,
) -> None:
    sample.change(damage(sample))
    if "usage" not in request.node.name:
        assert sample.problems() != set()
    before = everything(sample.path)
    dry = fix(sample, is_dry=True)
    assert everything(sample.path) == before
    done = fix(sample)
    assert done == dry
    told = {f"{one.kind} {one.where}".replace("/docs/sub/b", "/docs/twice") for one in done.repairs}
    assert expected <= told
    assert told - expected <= DERIVED | {f"references block {n}" for n in (1, 2, 3)}
    assert sample.problems(read_data=True) == set()
    fs = InProcess(sample.path, ManualClock())
    assert invariants.problems(fs.store, read_data=True) in ([], [LOG_MISSES])
    fs.close()
    assert fix(sample).repairs == ()


def test_a_sound_store_is_left_as_it_is(sample: Sample) -> None:
    assert fix(sample) == Plan((), ())
    fs = InProcess(sample.path, ManualClock())
    invariants.check(fs.store)
    fs.close()


def test_what_has_no_name_is_in_lost_and_found(sample: Sample) -> None:
    sample.change(
        without_name(ROOT, b"docs", 4)
        | without_name(ROOT, b"empty", EMPTY_COOKIE)
        | without_name(ROOT, b"sparse", LAST_COOKIE)
    )
    fix(sample)
    assert sample.problems(read_data=True) == set()
    fs = InProcess(sample.path, ManualClock())
    home = fs.at(b"lost+found")
    assert (home.mode, home.uid, home.gid) == (stat.S_IFDIR | 0o700, 0, 0)
    assert fs.names(b"lost+found") == sorted(b"%d" % ino for ino in (DOCS, EMPTY, SPARSE))
    assert fs.read(b"lost+found/%d/sub/b" % DOCS) == b"content of b"
    assert len(fs.read(b"lost+found/%d" % SPARSE)) == 3 * MIB
    fs.rename(b"lost+found/%d" % DOCS, b"docs")
    assert invariants.problems(fs.store) in ([], [LOG_MISSES])
    fs.close()
    fs = InProcess(sample.path, ManualClock())
    fs.make(b"another")
    inode = fs.at(b"another").ino
    cookie = dirent.unpack(fs.store.get(keys.name(ROOT, b"another")) or b"").cookie
    fs.close()
    sample.change(without_name(ROOT, b"another", cookie))
    fix(sample)
    fs = InProcess(sample.path, ManualClock())
    assert fs.at(b"lost+found/%d" % inode).ino == inode
    assert fs.at(b"lost+found").ino == home.ino
    fs.close()


def test_a_lost_and_found_that_is_no_directory_is_left_alone(sample: Sample) -> None:
    fs = InProcess(sample.path, ManualClock())
    fs.write(b"lost+found", b"mine")
    fs.close()
    sample.change(without_name(ROOT, b"empty", EMPTY_COOKIE))
    fix(sample)
    fs = InProcess(sample.path, ManualClock())
    assert fs.read(b"lost+found") == b"mine"
    assert fs.names(b"lost+found.1") == [b"%d" % EMPTY]
    fs.close()


# -- damaged content


def damage_payload(sample: Sample, which: int) -> None:
    found = [r for r in records(sample.path, 1) if isinstance(r, format.Record)]
    flip(segment(sample.path, 1), [r for r in found if r.kind == format.BLOCK][which].end - 1)


def test_a_block_that_was_given_up_is_not_on_record_any_more(sample: Sample) -> None:
    damage_payload(sample, 1)
    fs = InProcess(sample.path, ManualClock())
    fs.scrub()
    assert [one.block for one in fs.corruptions()] == [2]
    fs.close()
    fix(sample)
    report = check(sample.path, True)
    assert [one.kind for one in report.known] == ["damaged"]
    fs = InProcess(sample.path, ManualClock())
    assert fs.corruptions() == []
    fs.scrub()
    assert fs.corruptions() == []
    invariants.check(fs.store)
    fs.close()


def test_lost_bytes_read_as_an_error_until_they_are_overwritten(sample: Sample) -> None:
    fs = InProcess(sample.path, ManualClock())
    whole = fs.read(b"docs/a.txt")
    fs.close()
    damage_payload(sample, 1)  # block 2: what is behind the first MiB of a.txt
    fix(sample)
    report = check(sample.path, True)
    assert report.problems == ()
    assert [(one.kind, one.where) for one in report.known] == [("damaged", "/docs/a.txt")]
    fs = InProcess(sample.path, ManualClock())
    assert fs.extents(b"docs/a.txt")[-1] == Extent(MIB, 100 * 1024, DAMAGED, 0)
    handle = fs.opened(b"docs/a.txt")
    assert fs.pread(handle, 0, MIB) == whole[:MIB]
    for offset, size in ((0, 2 * MIB), (MIB, 1), (MIB - 1, 2)):
        with pytest.raises(StoreDamaged, match="are lost"):
            fs.pread(handle, offset, size)
    fs.pwrite(handle, MIB + 10, b"good")
    fs.files.flush_all()
    assert fs.pread(handle, MIB + 10, 4) == b"good"
    with pytest.raises(StoreDamaged, match="are lost"):
        fs.pread(handle, MIB + 9, 1)
    invariants.check(fs.store)
    rest = Extent(MIB + 14, 100 * 1024 - 14, DAMAGED, 0)
    assert [one for one in fs.extents(b"docs/a.txt") if one.offset > MIB + 10] == [rest]
    fs.pwrite(handle, MIB, whole[MIB:])  # the very content that was lost
    fs.files.flush_all()
    fs.files.release(handle)
    fs.remount()
    assert fs.read(b"docs/a.txt") == whole
    invariants.check(fs.store)
    fs.close()
    assert check(sample.path, True).known == ()


@pytest.mark.parametrize("act", ["truncate", "lengthen", "remove"])
def test_known_damage_goes_with_what_it_is_in(sample: Sample, act: str) -> None:
    damage_payload(sample, 1)
    fix(sample)
    fs = InProcess(sample.path, ManualClock())
    if act == "truncate":
        fs.truncate(b"docs/a.txt", MIB + 1)
        fs.truncate(b"docs/a.txt", MIB)
    elif act == "lengthen":
        fs.truncate(b"docs/a.txt", 3 * MIB)
    else:
        fs.unlink(b"docs/a.txt")
        for entry in list(fs.trash.entries()):
            fs.unlink(fs.trash.path_in_trash(entry))
        while fs.reap():
            pass
    invariants.check(fs.store)
    fs.close()
    report = check(sample.path, True)
    assert report.problems == ()
    assert len(report.known) == (act == "lengthen")


def test_known_damage_is_a_problem_only_where_it_is_to_be(
    sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    damage_payload(sample, 1)
    assert run(["fsck", "--read-data", str(sample.path)]) == 40
    assert run(["fsck", "--repair", "--read-data", str(sample.path)]) == 0
    out = capsys.readouterr().out
    assert "repaired extent: /docs/a.txt: bytes 1048576 to 1150976 are lost" in out
    assert "damaged: /docs/a.txt: " in out
    assert run(["fsck", "--read-data", str(sample.path)]) == 0
    assert run(["fsck", "--strict", str(sample.path)]) == 40
    fs = InProcess(sample.path, ManualClock())
    shown = Service(fs.filesystem, None).info(b"docs/a.txt")
    assert shown["extents"][-1] == {"offset": MIB, "length": 100 * 1024, "damaged": True}
    fs.close()


def test_an_index_with_known_damage_is_rebuilt_with_it(sample: Sample) -> None:
    damage_payload(sample, 1)
    fix(sample)
    with rebuild.alone(sample.path):
        made = rebuild.apply(rebuild.plan(sample.path))
    assert (made.recounted, made.damaged) == ((), ())
    assert len(check(sample.path, True).known) == 1


# -- damaged segments


def find(sample: Sample, kind: int, which: int) -> format.Record:
    found = [r for r in records(sample.path, 1) if isinstance(r, format.Record)]
    return [r for r in found if r.kind == kind][which]


@pytest.mark.parametrize("kind", [format.BLOCK, format.BATCH, format.SEAL])
def test_a_damaged_segment_is_emptied_and_put_aside(sample: Sample, kind: int) -> None:
    """The head of a record in it; nothing of the content is lost."""
    fs = InProcess(sample.path, ManualClock())
    paths = (b"docs/a.txt", b"docs/sub/b", b"sparse")
    expected = [fs.read(path) for path in paths]
    fs.close()
    flip(segment(sample.path, 1), find(sample, kind, 0).start + 9)
    assert fix(sample, read_data=False).segments == (1,)
    assert not segment(sample.path, 1).exists()
    assert (sample.path / "cut" / f"{format.segment_name(1)}-damaged").exists()
    report = check(sample.path, True)
    assert (report.problems, report.known) == ((), ())
    with rebuild.alone(sample.path):
        plan = rebuild.plan(sample.path)
        assert (plan.has_snapshot, plan.damages) == (True, ())
        rebuild.apply(plan)
    fs = InProcess(sample.path, ManualClock())
    assert [fs.read(path) for path in paths] == expected
    invariants.check(fs.store)
    fs.close()


def test_what_is_not_put_aside_is_read_in_a_damaged_segment(sample: Sample) -> None:
    """Also where nobody asked for the content to be read."""
    damage_payload(sample, 1)
    flip(segment(sample.path, 1), find(sample, format.BATCH, 0).start + 9)
    fix(sample, read_data=False)
    report = check(sample.path, True)
    assert report.problems == ()
    assert [one.where for one in report.known] == ["/docs/a.txt"]


def test_a_segment_that_is_gone(sample: Sample) -> None:
    os.unlink(segment(sample.path, 1))
    fix(sample)
    report = check(sample.path, True)
    assert report.problems == ()
    assert {one.where.replace("sub/b", "twice") for one in report.known} == {
        "/docs/a.txt",
        "/docs/twice",
    }


# -- who may, and what is said


def test_a_store_that_is_open_is_not_repaired(sample: Sample) -> None:
    fs = InProcess(sample.path, ManualClock())
    for is_dry in (False, True):
        with pytest.raises(StoreLocked):
            fix(sample, is_dry=is_dry)
    fs.close()


def test_an_index_that_cannot_be_read_is_for_rebuild(sample: Sample) -> None:
    data = sample.path / "index" / "data.mdb"
    data.write_bytes(Random(1).randbytes(data.stat().st_size))
    with pytest.raises(StoreDamaged, match="fusefs rebuild"):
        fix(sample)


def test_what_cannot_be_repaired_is_named(
    sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    sample.change({keys.link(LINK): None})
    assert run(["fsck", "--repair", str(sample.path)]) == 40
    assert "link: /link: is a symbolic link without a target" in capsys.readouterr().out


def test_a_dry_run_prints_the_plan(sample: Sample, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fsck", "--dry-run", str(sample.path)]) == 2
    assert run(["fsck", "--repair", "--dry-run", str(sample.path)]) == 0
    assert capsys.readouterr().out == "nothing is to be repaired\n"
    sample.change(sample.block(3, refs=9))
    assert run(["fsck", "--repair", "--dry-run", "--json", str(sample.path)]) == 0
    assert json.loads(capsys.readouterr().out)["repairs"] == [
        "references: block 3: has 1 references",
        "totals: index: are counted again",
    ]
    assert sample.problems() != set()


def test_a_repair_that_is_cut_off_is_ended_by_the_next(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_payload(sample, 1)
    flip(segment(sample.path, 1), find(sample, format.BATCH, 0).start + 9)
    sample.change(
        without_name(ROOT, b"empty", EMPTY_COOKIE)
        | {keys.order(DOCS, TWICE_COOKIE): None}
        | sample.inode(DOCS, nlink=9)
    )
    hit = repair_module.failpoints.hit
    for step in range(1, 30):
        left = step

        def cut_off(name: str) -> None:
            nonlocal left
            left -= name.startswith("repair.")
            if left == 0:
                raise KeyboardInterrupt
            hit(name)

        monkeypatch.setattr(repair_module.failpoints, "hit", cut_off)
        try:
            fix(sample)
        except KeyboardInterrupt:
            continue
        break
    assert step > 2
    report = check(sample.path, True)
    assert (report.problems, len(report.known)) == ((), 1)
    assert Inode.unpack(DOCS, sample.row(keys.inode(DOCS))).nlink == 3
