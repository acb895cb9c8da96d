"""A process that has a store open and writes, as a daemon does, at the word of a test.

Run as ``python -m tests.unit.fsck.writer STORE``. Each line on stdin is an act below; each is
answered by a line when it is done. A store that it makes has a small map of its index.
"""

import os
import sys
from pathlib import Path

from fusefs.store import format, index
from fusefs.store.store import Store
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess

_SMALL_MAP = 128 << 10


class Writer:
    """The acts."""

    def __init__(self, path: Path) -> None:
        self._fs = InProcess(path, ManualClock())
        self._count = 0
        self._rest = b""

    def write(self) -> None:
        """Some of everything."""
        for _ in range(20):
            self._count += 1
            name = b"file-%d" % self._count
            self._fs.write(name, name * 100)
            self._fs.write(name, b"again", offset=300)
            if self._count % 2:
                self._fs.unlink(name)

    def checkpoint(self) -> None:
        self._fs.store.checkpoint()

    def seal(self) -> None:
        self._fs.store.seal()

    def grow(self) -> None:
        """More than the map of the index had room for before."""
        index = self._fs.store._index
        before = index._environment.info()["map_size"]
        while index._environment.info()["map_size"] < 4 * before:
            self.write()
            self.checkpoint()

    def half(self) -> None:
        """The first half of a batch."""
        batch = format.pack_batch(dict.fromkeys([b"z" + bytes(8)], None))
        self._rest = batch[len(batch) // 2 :]
        os.write(_descriptor(self._fs.store), batch[: len(batch) // 2])

    def rest(self) -> None:
        """Its second half."""
        os.write(_descriptor(self._fs.store), self._rest)


def _descriptor(store: Store) -> int:
    return store._log._descriptor


def main() -> None:
    index._INITIAL_MAP = _SMALL_MAP
    writer = Writer(Path(sys.argv[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        getattr(writer, line.strip())()
        print("done", flush=True)
    os._exit(0)  # as if killed


if __name__ == "__main__":
    main()
