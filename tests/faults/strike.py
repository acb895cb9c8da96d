"""Let the n-th call fail, for n = 1, 2, 3 ... until all of the script passes untouched.

    LD_PRELOAD=shim.so python -m tests.faults.strike WORK KIND SCRIPT EVERY

SCRIPT is ``acts`` (of script.py), ``acts-on`` (all later calls fail as well, until the acts are
over: a disk that is full and gets room again) or a verb of VERBS. In WORK a store is made; each n
has a copy of it and a process of its own, forked from this one: it acts with the shim armed and
dies as by kill -9. Another one opens the store again and looks. Says a line of JSON for each n:
what failed, what raised, and what is wrong with it ("" if nothing). n goes up by EVERY.
"""

import gc
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

from fusefs.cli.app import run
from fusefs.errors import FusefsError
from fusefs.fsck.check import check
from tests.faults.forks import in_child
from tests.faults.script import ACTS, AFTERWARDS, Act, World, content
from tests.faults.shim import KINDS, Kind, Shim
from tests.unit import invariants
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess

_SYNCS_OF_THE_LOG = ("fdatasync segments/", "fsync segments/", "sync segments")


@dataclass
class Outcome:
    """Of one n. `first`: the call that failed, "" if there were not so many."""

    number: int
    first: str = ""
    raised: list[str] = field(default_factory=list)
    wrong: str = ""


@dataclass(frozen=True)
class Verb:
    """`arguments` with the store behind; `prepare` makes the store what the verb is for, and tells
    the world what that changes."""

    arguments: tuple[str, ...]
    prepare: Callable[[Path, World], object] = lambda store, world: None


def _remove(store: Path, world: World) -> None:
    shutil.rmtree(store)
    world.contents.clear()
    world.trash.clear()


def _damage(store: Path, world: World) -> None:
    """One bit of a block that nobody needs, so that its segment is to be put aside."""
    fs = InProcess(store, ManualClock())
    fs.write(b"old", content(14, 70_000))
    world.contents[b"old"] = content(14, 70_000)
    fs.close()
    file = store / "segments" / f"{1:016x}"
    data = bytearray(file.read_bytes())
    data[30_000] ^= 1
    file.write_bytes(data)


VERBS = {
    "init": Verb(("init",), _remove),
    "rebuild": Verb(("rebuild",), lambda store, world: shutil.rmtree(store / "index")),
    "repair": Verb(("fsck", "--repair", "--read-data"), _damage),
    "fsck": Verb(("fsck", "--read-data")),
}


def make_template(path: Path, verb: Verb | None) -> World:
    """A store whose daemon was killed, with a torn tail: opening it replays and cuts."""
    fs = InProcess(path, ManualClock())
    fs.write(b"old", content(10, 70_000))
    fs.write(b"gone", content(11, 20_000))
    fs.unlink(b"gone")
    fs.store.seal()
    fs.store.checkpoint()
    fs.write(b"behind the checkpoint", content(12, 9_000))
    fs.mkdir(b"dir")
    world = World.of(fs)
    fs.store.abandon()
    newest = max((path / "segments").iterdir())
    with newest.open("ab") as file:
        file.write(Random(13).randbytes(300))
    if verb:
        verb.prepare(path, world)
    return world


class Actor:
    """Acts on a store until the script is over; `wrong` says what was not as it must be."""

    def __init__(self, store: Path, shim: Shim, world: World, *, stays: bool) -> None:
        self._store = store
        self._stays = stays
        self._shim = shim
        self._is_refused = False  # a sync has failed since the store was opened
        self.world = world
        self.raised: list[str] = []
        self.wrong = ""

    def run(self) -> None:
        fs = self._opened()
        for act in ACTS:
            if self.wrong or fs is None:
                break
            if act.makes_sense(self.world):
                fs = self._do(fs, act)
        self._shim.disarm()
        for act in AFTERWARDS if self._stays else ():
            if fs is not None and not self.wrong:
                self._stays = False
                fs = self._do(fs, act)

    @property
    def _is_short_of_room(self) -> bool:
        """An act may be refused before it has tried to write."""
        return self._stays and self._shim.struck > 0

    def _opened(self) -> InProcess | None:
        for _ in range(2):
            try:
                return InProcess(self._store, ManualClock())
            except FusefsError as error:
                self._note("open", error)
            gc.collect()
            if self._stays:
                self._shim.disarm()
        self.wrong = "it cannot be opened again"
        return None

    def _note(self, name: str, error: FusefsError) -> None:
        self.raised.append(f"{name}: {type(error).__name__}: {error}")

    def _do(self, fs: InProcess, act: Act) -> InProcess | None:
        before = self.world
        after = before.copy()
        act.change(after)
        was_struck, has_raised = self._shim.struck, False
        try:
            act.do(fs)
        except FusefsError as error:
            has_raised = True
            self._note(act.name, error)
        is_struck = self._shim.struck > was_struck
        if is_struck and self._shim.first.startswith(_SYNCS_OF_THE_LOG):
            self._is_refused = True
        if self._is_refused and not has_raised and (is_struck or act.syncs):
            self.wrong = f"{act.name} returned after a sync that failed"
        if has_raised and not (is_struck or self._is_refused or self._is_short_of_room):
            self.wrong = f"{act.name} raised when all was well again: {self.raised[-1]}"
        if act.remounts and has_raised:
            fs = self._reopened(fs)
        if fs is None or not (is_struck or has_raised):
            self.world = after
            return fs
        with self._shim.paused():
            found = World.of(fs)
        found.unsure = after.unsure
        self.world = after
        if has_raised:
            self._settle(act, before, after, found)
        elif not self.wrong and (why := after.differs_from(found)):
            self.wrong = f"{act.name} returned, and {why}"
        return fs

    def _reopened(self, fs: InProcess) -> InProcess | None:
        if fs.store._lock >= 0:
            self.wrong = "a store that was to be closed is still locked"
            return None
        self._is_refused = False
        return self._opened()

    def _settle(self, act: Act, before: World, after: World, found: World) -> None:
        """The act has raised: what is there now is what must be there later."""
        if act.purges:
            before.trash = {
                path: before.trash[path] for path in found.trash if path in before.trash
            }
        if act.writes in found.contents and act.writes:
            contents = (w.contents.get(act.writes) for w in (before, after, found))
            found.doubt(act.writes, *contents)
            before.contents[act.writes] = found.contents[act.writes]
        if not self.wrong and (why := before.differs_from(found)):
            self.wrong = f"{act.name} raised, and {why}"
        self.world = found


def act_out(
    store: Path, shim: Shim, kind: Kind, number: int, world: World, stays: bool
) -> tuple[Outcome, World]:
    """In a process of its own."""
    actor = Actor(store, shim, world, stays=stays)
    shim.arm(store, kind, number, stays=stays)
    try:
        actor.run()
    except Exception:
        actor.wrong = traceback.format_exc()
    shim.disarm()
    return Outcome(number, shim.first, actor.raised, actor.wrong), actor.world


def look_again(store: Path, world: World) -> str:
    """In a process of its own: what is wrong with what the other one left."""
    fs = InProcess(store, ManualClock())
    if why := world.differs_from(World.of(fs)):
        return f"opened again, {why}"
    invariants.check(fs.store)
    fs.write(b"after", b"it goes on")
    fs.sync()
    fs.close()
    if problems := check(store, True).problems:
        return f"fsck finds {problems}"
    fs.open()
    return "" if fs.read(b"after") == b"it goes on" else "it does not go on"


def call(
    verb: Verb, store: Path, shim: Shim, kind: Kind, number: int, world: World
) -> tuple[Outcome, World]:
    """In a process of its own: the verb, and once more where it failed."""
    heard = os.open(store.with_name("heard"), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.dup2(heard, 1)
    os.dup2(heard, 2)
    shim.arm(store, kind, number)
    code = run([*verb.arguments, str(store)])
    shim.disarm()
    done = Outcome(number, shim.first, [f"exit code {code}"] if code else [])
    if code and not done.first:
        done.wrong = "it fails without a fault"
    elif b"unexpected" in (words := os.pread(heard, 10_000, 0)):
        done.wrong = words.decode()
    elif code and (code := run([*verb.arguments, str(store)])):
        done.wrong = f"called again, it ended with exit code {code}"
    return done, world


def outcome(
    template: Path, world: World, shim: Shim, kind: Kind, number: int, script: str
) -> Outcome:
    store = template.with_name("struck")
    shutil.rmtree(store, ignore_errors=True)
    if template.exists():
        shutil.copytree(template, store)
    if script in VERBS:
        done = in_child(call, VERBS[script], store, shim, kind, number, world)
    else:
        done = in_child(act_out, store, shim, kind, number, world, script == "acts-on")
    if isinstance(done, str):
        return Outcome(number, "?", [], done)
    found, left = done
    if not found.wrong:
        found.wrong = in_child(look_again, store, left)
    assert isinstance(found, Outcome)
    return found


def main() -> None:
    work, kind, script = Path(sys.argv[1]), KINDS[sys.argv[2]], sys.argv[3]
    every, number = int(sys.argv[4]), 1
    world = in_child(make_template, work / "template", VERBS.get(script))
    assert isinstance(world, World), world
    shim = Shim()
    while True:
        found = outcome(work / "template", world, shim, kind, number, script)
        print(json.dumps(asdict(found)), flush=True)
        if found.first in ("", "?"):
            return
        number += every


if __name__ == "__main__":
    main()
