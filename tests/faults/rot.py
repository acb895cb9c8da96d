"""Damages a store in every way of a table, and says what is told of it, read, and mended.

    python -m tests.faults.rot WORK [SEED]

Says a line of JSON for each case. Each look is a process of its own, forked from this one, because
a damaged index may end it. With SEED the cases are flips in the index, at random.
"""

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from fusefs.cli.app import run
from fusefs.config.options import StoreOptions
from fusefs.errors import FusefsError
from fusefs.store import format
from fusefs.store.format import Record
from fusefs.store.store import Store
from tests.faults.forks import in_child
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess
from tests.unit.store.acts import records, segment

PAGE = 4096
#: Random damages in one run.
FLIPS = 10
CONTENTS = {
    b"raw": Random(1).randbytes(3_000),
    b"text": b"all work and no play " * 1_000,  # compressed
    b"d/inner": Random(2).randbytes(5_000),
    b"second": Random(3).randbytes(200_000),  # read by parts
    b"third": Random(4).randbytes(4_000),
}


@dataclass
class Found:
    """`told`: problems that fsck names, each as `kind where`. `read`: by path, what is not as it
    was; or why the store does not open. `mended`: the verbs that were needed, with their exit
    codes; `told_after` and `read_after` once they are done."""

    case: str
    code: int | str = 0
    told: list[str] = field(default_factory=list)
    read: dict[str, str] | str = field(default_factory=dict)
    mended: list[str] = field(default_factory=list)
    code_after: int | str = 0
    told_after: list[str] = field(default_factory=list)
    read_after: dict[str, str] | str = field(default_factory=dict)


def make_template(path: Path) -> None:
    """Segment 1: raw, text and d/inner; 2: second, and one in the trash; 3: third. All sealed."""
    Store.init(path, StoreOptions("zstd"), clock=ManualClock())
    fs = InProcess(path, ManualClock())
    fs.mkdir(b"d")
    for name, data in CONTENTS.items():
        fs.write(name, data)
        if name == b"d/inner":
            fs.store.seal()
        if name == b"second":
            fs.write(b"gone", b"in the trash")
            fs.unlink(b"gone")
            fs.store.seal()
    fs.close()


def make_with_snapshot(path: Path) -> None:
    """The same with a past that only the snapshot knows."""
    make_template(path)
    fs = InProcess(path, ManualClock())
    fs.write(b"waste", Random(5).randbytes(500_000))
    fs.unlink(b"waste")
    for entry in fs.pending():
        if entry.origin == b"waste":
            fs.unlink(fs.trash.path_in_trash(entry))
    while fs.reap():
        pass
    fs.store.seal()
    fs.collect()
    assert (path / "snapshot").exists()
    fs.close()


# -- damages

Damage = Callable[[Path], object]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def flip_at(at: int) -> Damage:
    return lambda path: flip(path, at)


def flipped(kind: int, which: int, at: int) -> Damage:
    """A bit of the `which`th record of a kind in segment 1, in its byte `at` (from its end if
    negative)."""

    def damage(store: Path) -> None:
        found = [r for r in records(store, 1) if isinstance(r, Record) and r.kind == kind][which]
        flip(segment(store, 1), (found.start if at >= 0 else found.end) + at)

    return damage


def on(name: str, act: Callable[[Path], object]) -> Damage:
    return lambda store: act(store / name)


def garbage(path: Path) -> None:
    path.write_bytes(Random(6).randbytes(path.stat().st_size))


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def exchange(store: Path) -> None:
    one, other = segment(store, 1), segment(store, 2)
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


HEADER = {"magic": 0, "version": 8, "store": 16, "number": 32, "crc": 48}
HEAD = {"type": 0, "length": 4, "crc": 8}
FIRST = f"segments/{1:016x}"
WAYS: dict[str, Callable[[Path], object]] = {
    "half": half, "empty": empty, "zeros": zeros, "garbage": garbage, "gone": Path.unlink,
}  # fmt: skip
CASES: dict[str, Damage] = {
    **{f"header: {name}": on(FIRST, flip_at(at)) for name, at in HEADER.items()},
    **{
        f"{what}: {name}": flipped(kind, which, at)
        for what, kind, which, more in (
            ("raw block", format.BLOCK, 0, {"number": 12, "size": 20, "hash": 24, "payload": 56}),
            ("zstd block", format.BLOCK, 1, {"codec": 1, "payload": -9}),
            ("batch", format.BATCH, 2, {"key size": 12, "row": -1}),
            ("seal", format.SEAL, 0, {"number": 12, "size": 24}),
        )
        for name, at in ((HEAD if what != "zstd block" else {}) | more).items()
    },
    **{f"segment: {name}": on(FIRST, way) for name, way in WAYS.items()},
    **{f"last segment: {name}": on(f"segments/{3:016x}", way) for name, way in WAYS.items()},
    "segments: exchanged": exchange,
    **{f"index: {name}": on("index/data.mdb", way) for name, way in WAYS.items()},
    **{f"hints: {name}": on("hints/data.mdb", way) for name, way in WAYS.items()},
    "hints: bit": on("hints/data.mdb", flip_at(5000)),
    **{f"identity: {name}": on("fusefs.json", way) for name, way in WAYS.items()},
    "identity: bit": on("fusefs.json", flip_at(4)),
}  # fmt: skip
WITH_SNAPSHOT: dict[str, Damage] = {
    **{f"snapshot: {name}": on("snapshot", way) for name, way in WAYS.items()},
    "snapshot: bit": on("snapshot", flip_at(5000)),
}


def random_flips(seed: int) -> dict[str, Damage]:
    """Some bits of a page of the index."""

    def damage(path: Path, chance: Random) -> None:
        data = bytearray(path.read_bytes())
        page = chance.randrange(len(data) // PAGE)
        for _ in range(chance.choice((1, 40, 400))):
            data[page * PAGE + chance.randrange(PAGE)] ^= 1 << chance.randrange(8)
        path.write_bytes(data)

    return {
        f"index: flips {number}": on(
            "index/data.mdb", lambda path, number=number: damage(path, Random(number))
        )
        for number in range(seed * FLIPS, (seed + 1) * FLIPS)
    }


# -- looking


def call(*arguments: str) -> int:
    with contextlib.redirect_stderr(io.StringIO()) as err:
        code = run(arguments)
    assert "unexpected" not in err.getvalue(), err.getvalue()
    return code


def quietly(*arguments: str) -> int:
    with contextlib.redirect_stdout(io.StringIO()):
        return call(*arguments)


def fsck(store: Path) -> tuple[int, list[str]]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = call("fsck", "--read-data", "--json", str(store))
    report: dict[str, Any] = json.loads(out.getvalue() or "{}")
    return code, sorted({f"{one['kind']} {one['where']}" for one in report.get("problems", ())})


def read(store: Path) -> dict[str, str] | str:
    try:
        fs = InProcess(store, ManualClock())
    except FusefsError as error:
        return f"exit code {error.exit_code}"
    found: dict[str, str] = {}
    for name, data in CONTENTS.items():
        try:
            if fs.read(name) != data:
                found[name.decode()] = "wrong"
        except FusefsError as error:
            found[name.decode()] = os.strerror(error.errno)
    try:
        fs.write(b"new", b"written")
        fs.sync()
        fs.close()
    except FusefsError as error:
        found["new"] = os.strerror(error.errno)
    return found


def mend(store: Path) -> list[str]:
    """What a user does: repair; rebuild where that asks for it; at last at any price."""
    done = []
    for verb in ("fsck --repair --read-data", "rebuild", "rebuild --accept-loss"):
        code = in_child(quietly, *verb.split(), str(store))
        done.append(f"{verb}: {code}")
        if verb.startswith("rebuild") and code in (0, 40):
            code = in_child(quietly, "fsck", "--repair", "--read-data", str(store))
            done.append(f"fsck --repair --read-data: {code}")
            break
        if code in (0, 40):
            break
    return done


def look(case: str, template: Path, damage: Damage) -> Found:
    store, other = template.with_name("damaged"), template.with_name("read")
    for path in (store, other):
        shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(template, store)
    damage(store)
    shutil.copytree(store, other)
    found = Found(case)
    told = in_child(fsck, store)
    found.code, found.told = told if isinstance(told, tuple) else (told, [])
    found.read = in_child(read, other)
    found.mended = mend(store)
    told = in_child(fsck, store)
    found.code_after, found.told_after = told if isinstance(told, tuple) else (told, [])
    found.read_after = in_child(read, store)
    return found


def main() -> None:
    work = Path(sys.argv[1])
    seeds = [int(one) for one in sys.argv[2:]]
    parts = [("template", make_template, random_flips(seeds[0]) if seeds else CASES)]
    if not seeds:
        parts.append(("with snapshot", make_with_snapshot, WITH_SNAPSHOT))
    for name, make, cases in parts:
        assert (done := in_child(make, work / name)) is None, done
        for case, damage in cases.items():
            print(json.dumps(asdict(look(case, work / name, damage))), flush=True)


if __name__ == "__main__":
    main()
