"""What a victim does until it is killed, and what must be there afterwards.

    python -m tests.crash.acts STORE PLAN      open the store, act, say each act that returned
    python -m tests.crash.acts STORE PLAN -    only open it: the plan strikes during recovery
    python -m tests.crash.acts STORE PLAN gc   give back space, as a mount does
    python -m tests.crash.acts STORE PLAN rebuild    make the index anew
    python -m tests.crash.acts STORE PLAN repair     repair what is damaged
    python -m tests.crash.acts STORE PLAN scrub      verify all blocks, and record the bad ones

`PLAN` is one of fusefs.base.failpoints. Each act changes one path and is the same in every run, so
the test knows from the number of acts said what the victim was promised.
"""

import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fusefs.base import failpoints
from fusefs.fsck.repair import repair
from fusefs.fsck.selection import Selection
from fusefs.model.job import Selector
from fusefs.store import rebuild
from fusefs.store.margins import DEFAULT
from fusefs.tree.tree import SET_ID
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess

COUNT = 130
#: Path -> content.
Contents = dict[bytes, bytes]
#: The path that an act touches, how it is done, and what it does to the contents.
Act = tuple[bytes, Callable[[InProcess], object], Callable[[Contents], object]]


def content(number: int) -> bytes:
    return random.Random(number).randbytes(1 + number * 4099 % 70_000)


def acts() -> Iterator[Act]:
    """Without end."""
    number = 0
    while True:
        number += 1
        path, data = b"dir/%d" % number, content(number)
        yield (
            path,
            lambda fs, path=path, data=data: fs.write(path, data),
            lambda made, path=path, data=data: made.update({path: data}),
        )
        if number % 3 == 0:
            moved = b"moved %d" % number
            yield (
                path,
                lambda fs, path=path, moved=moved: fs.rename(path, moved),
                lambda made, path=path, moved=moved: made.update({moved: made.pop(path)}),
            )
        if number % 4 == 0 and (number - 2) % 3:
            gone = b"dir/%d" % (number - 2)
            yield (
                gone,
                lambda fs, gone=gone: fs.unlink(gone),
                lambda made, gone=gone: made.pop(gone),
            )
        if number % 5 == 0 and number % 3:
            yield (
                path,
                lambda fs, path=path: fs.files.truncate(
                    fs.tree.resolve(path), 10, keeps=SET_ID
                ),
                lambda made, path=path: made.update({path: made[path][:10]}),
            )  # fmt: skip
        if number % 4 == 1 and number % 3:
            yield (
                path,
                lambda fs, path=path: fs.unlink(path),
                lambda made, path=path: made.pop(path),
            )
            kept = data[:10] if number % 5 == 0 else data
            yield (
                path,
                lambda fs, path=path: fs.restorer().restore(path),
                lambda made, path=path, kept=kept: made.update({path: kept}),
            )
        if number % 5 == 2:
            yield from acts_on_a_tree(b"tree %d" % number, data)
        if number % 4 == 3:
            yield b"", purge_all, lambda made: None
            yield b"", change_deadlines, lambda made: None
            yield b"", forget_history, lambda made: None
        if number % 6 == 0:
            yield b"", lambda fs: fs.store.seal(), lambda made: None
        if number % 7 == 0:
            yield b"", lambda fs: fs.sync(), lambda made: None
        if number % 9 == 0:
            yield b"", lambda fs: fs.collect(), lambda made: None
        if number % 8 == 0:
            yield b"", lambda fs: fs.store.checkpoint(), lambda made: None


def waste(fs: InProcess) -> None:
    """Fill the newest segment with what nobody needs."""
    fs.write(b"waste", random.Random(0).randbytes(500_000))
    fs.unlink(b"waste")
    for entry in fs.pending():
        if entry.origin == b"waste":
            fs.unlink(fs.trash.path_in_trash(entry))
    while fs.reap():
        pass


def acts_on_a_tree(tree: bytes, data: bytes) -> Iterator[Act]:
    """Made, removed, restored into a directory that was gone, removed, and moved back."""
    path = tree + b"/sub/file"
    made = {path: data}

    def make(fs: InProcess) -> None:
        for one in (tree, tree + b"/sub"):
            if fs.tree.lookup(*fs._place(one)) is None:
                fs.mkdir(one)
        fs.write(path, data)

    def remove(fs: InProcess) -> None:
        fs.unlink(path)
        for one in (tree + b"/sub", tree):
            fs.rmdir(one)

    def move_back(fs: InProcess) -> None:
        fs.rename(fs.trash.path_in_trash(fs.pending()[-1]), tree)

    yield path, make, lambda contents: contents.update(made)
    yield path, remove, lambda contents: contents.pop(path)
    yield path, lambda fs: fs.restorer().restore(path), lambda contents: contents.update(made)
    yield path, remove, lambda contents: contents.pop(path)
    yield path, move_back, lambda contents: contents.update(made)


def work(fs: InProcess) -> None:
    while fs.filesystem.purging.step():
        pass


def purge_all(fs: InProcess) -> None:
    fs.filesystem.purger.ask(Selector(upto=fs.store.counters.cookie), "test", 0)
    work(fs)


def change_deadlines(fs: InProcess) -> None:
    policy = fs.trash.retention.policy
    fs.trash.set_policy(policy.with_changes([("keep", "8d" if policy.keep_s > 8e5 else "30d")]))
    work(fs)


def forget_history(fs: InProcess) -> None:
    fs.trash.set_policy(fs.trash.retention.policy.with_changes([("history", "1s")]))
    fs.clock.advance(2)
    while fs.filesystem.expiry.clean_history():
        pass


def run(arguments: Sequence[str]) -> int:
    """All of it; returns the exit code of the process."""
    store, plan, *other = arguments
    if other == ["gc"]:
        fs = InProcess(Path(store), ManualClock())
        waste(fs)
        failpoints.arm(plan)
        fs.collect(DEFAULT)
        return 0
    failpoints.arm(plan)
    if other == ["rebuild"]:
        with rebuild.alone(Path(store)):
            rebuild.apply(rebuild.plan(Path(store)))
        return 0
    if other == ["repair"]:
        repair(Path(store), Selection.of(True), ManualClock())
        return 0
    fs = InProcess(Path(store), ManualClock())
    if other == ["scrub"]:
        fs.scrub()
        fs.close()
    if other:
        return 0
    if fs.tree.lookup(1, b"dir") is None:
        fs.mkdir(b"dir")
    for number, (_, act, _) in enumerate(acts()):
        if number == COUNT:
            break
        act(fs)
        os.write(1, b"%d\n" % number)
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
