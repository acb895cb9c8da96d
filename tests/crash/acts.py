"""What a victim does until it is killed, and what must be there afterwards.

    python -m tests.crash.acts STORE PLAN      open the store, act, say each act that returned
    python -m tests.crash.acts STORE PLAN -    only open it: the plan strikes during recovery
    python -m tests.crash.acts STORE PLAN gc   give back space, as a mount does

`PLAN` is one of fusefs.base.failpoints. Each act changes one path and is the same in every run, so
the test knows from the number of acts said what the victim was promised.
"""

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from fusefs.base import failpoints
from fusefs.store.margins import DEFAULT
from fusefs.tree.tree import SET_ID
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess

COUNT = 90
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
    for entry in list(fs.trash.entries()):
        fs.unlink(fs.trash.path_in_trash(entry))
    while fs.reap():
        pass


def main() -> None:
    store, plan, *other = sys.argv[1:]
    if other == ["gc"]:
        fs = InProcess(Path(store), ManualClock())
        waste(fs)
        failpoints.arm(plan)
        fs.collect(DEFAULT)
        return
    failpoints.arm(plan)
    fs = InProcess(Path(store), ManualClock())
    if other:
        return
    if fs.tree.lookup(1, b"dir") is None:
        fs.mkdir(b"dir")
    for number, (_, act, _) in enumerate(acts()):
        if number == COUNT:
            break
        act(fs)
        os.write(1, b"%d\n" % number)


if __name__ == "__main__":
    main()
