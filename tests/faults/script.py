"""What a filesystem is made to do while calls fail, and what must be true after each act.

Each act says what it makes of the names and contents, and of the trash. An act that returned has
done so. One that raised has changed nothing; of a write, any part.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from fusefs.model.job import Selector
from tests.unit.inprocess import InProcess

#: Path -> content, None for directories.
Contents = dict[bytes, bytes | None]


def content(number: int, size: int) -> bytes:
    return random.Random(number).randbytes(size)


@dataclass
class World:
    """What is to be found: `contents`, and those of the `trash`, by the paths that they had.

    `unsure`: paths of files whose bytes wait in memory after a write that failed, with the contents
    that they had since: a crash may leave old bytes, new bytes or a hole.
    """

    contents: Contents = field(default_factory=dict)
    trash: Contents = field(default_factory=dict)
    unsure: dict[bytes, set[bytes]] = field(default_factory=dict)

    @classmethod
    def of(cls, fs: InProcess) -> "World":
        trash = {one.origin: fs.read(fs.trash.path_in_trash(one)) for one in fs.pending()}
        return cls(fs.tree_below(), dict(trash))

    def copy(self) -> "World":
        return World(dict(self.contents), dict(self.trash), dict(self.unsure))

    def doubt(self, path: bytes, *contents: bytes | None) -> None:
        """After a write to `path` that failed."""
        self.unsure[path] = self.unsure.get(path, set()) | {one or b"" for one in contents}

    def differs_from(self, found: "World") -> str:
        """How `found`, read after a new start, is not this; "" if it is."""
        for name, mine, other in (
            ("tree", self.contents, found.contents),
            ("trash", self.trash, found.trash),
        ):
            for path in sorted(mine.keys() | other.keys()):
                if (path in mine) is not (path in other):
                    return f"{path!r} is {'missing' if path in mine else 'there'} in the {name}"
                data = other[path]
                if data != mine[path] and not _is_of(data, self.unsure.get(path)):
                    return f"{path!r} in the {name} has other bytes"
        return ""


def _is_of(data: bytes | None, versions: set[bytes] | None) -> bool:
    """Whether each byte is a hole's, or one that stood there."""
    if data is None or versions is None:
        return False
    size = 8  # all that the script writes begins and ends at multiples of it, or at the end
    return len(data) <= max(map(len, versions)) and all(
        not any(part) or any(one[at : at + len(part)] == part for one in versions)
        for at in range(0, len(data), size)
        for part in [data[at : at + size]]
    )


@dataclass(frozen=True)
class Act:
    """`needs`, `makes`, `from_trash`: paths that must be there, must not, must be in the
    trash for it to make sense.
    `syncs`: all before it is durable when it returns."""

    name: str
    do: Callable[[InProcess], object]
    change: Callable[[World], object] = lambda world: None
    needs: tuple[bytes, ...] = ()
    makes: tuple[bytes, ...] = ()
    from_trash: bytes = b""
    writes: bytes = b""
    purges: bool = False
    syncs: bool = False
    remounts: bool = False

    def makes_sense(self, world: World) -> bool:
        return (
            all(path in world.contents for path in self.needs)
            and not any(path in world.contents for path in self.makes)
            and (not self.from_trash or self.from_trash in world.trash)
        )


def _write(path: bytes, data: bytes, offset: int = 0) -> Act:
    def change(world: World) -> None:
        old = world.contents.get(path) or b""
        world.contents[path] = old[:offset].ljust(offset, b"\0") + data + old[offset + len(data) :]

    needs = (path.rpartition(b"/")[0],) if b"/" in path else ()
    return Act(f"write {path!r}", lambda fs: fs.write(path, data, offset), change, needs,
               writes=path)  # fmt: skip


def _truncate(path: bytes, size: int) -> Act:
    def change(world: World) -> None:
        world.contents[path] = (world.contents[path] or b"")[:size].ljust(size, b"\0")

    return Act(f"truncate {path!r}", lambda fs: fs.truncate(path, size), change, (path,),
               writes=path)  # fmt: skip


def _rename(old: bytes, new: bytes) -> Act:
    def change(world: World) -> None:
        if new in world.contents:
            world.trash[new] = world.contents[new]
        world.contents[new] = world.contents.pop(old)
        if old in world.unsure:
            world.doubt(new, *world.unsure[old])

    return Act(f"rename {old!r}", lambda fs: fs.rename(old, new), change, (old,))


def _unlink(path: bytes) -> Act:
    def change(world: World) -> None:
        world.trash[path] = world.contents.pop(path)

    return Act(f"unlink {path!r}", lambda fs: fs.unlink(path), change, (path,))


def _restore(path: bytes) -> Act:
    def change(world: World) -> None:
        world.contents[path] = world.trash.pop(path)

    return Act(f"restore {path!r}", lambda fs: fs.restorer().restore(path), change,
               makes=(path,), from_trash=path)  # fmt: skip


def _mkdir(path: bytes) -> Act:
    return Act(f"mkdir {path!r}", lambda fs: fs.mkdir(path),
               lambda world: world.contents.update({path: None}), makes=(path,))  # fmt: skip


def _purge_all(fs: InProcess) -> None:
    fs.filesystem.purger.ask(Selector(upto=fs.store.counters.cookie), "test", 0)
    while fs.filesystem.purging.step():
        pass


SYNC = Act("sync", lambda fs: fs.sync(), lambda world: world.unsure.clear(), syncs=True)
CHECKPOINT = Act("checkpoint", lambda fs: fs.store.checkpoint(), syncs=True)
SEAL = Act("seal", lambda fs: fs.store.seal())
COLLECT = Act("collect", lambda fs: fs.collect())
PURGE = Act("purge", _purge_all, lambda world: world.trash.clear(), purges=True)
REMOUNT = Act("remount", lambda fs: fs.remount(), lambda world: world.unsure.clear(),
              syncs=True, remounts=True)  # fmt: skip

ACTS = (
    _mkdir(b"d"),
    _write(b"d/one", content(1, 60_000)),
    _write(b"d/one", content(2, 5_000), 1_000),
    SYNC,
    _truncate(b"d/one", 10_000),
    _truncate(b"d/one", 30_000),
    _rename(b"d/one", b"d/two"),
    _write(b"big", content(3, 2_500_000)),
    _unlink(b"d/two"),
    CHECKPOINT,
    _write(b"short", b"short"),
    _rename(b"short", b"kept"),
    SEAL,
    _unlink(b"kept"),
    _restore(b"kept"),
    _unlink(b"big"),
    PURGE,
    COLLECT,
    REMOUNT,
    _write(b"d/late", content(4, 3_000)),
    _write(b"d/other", content(6, 3_000)),
    _rename(b"d/other", b"d/late"),
    SYNC,
    _unlink(b"d/late"),
    PURGE,
    COLLECT,
    _write(b"last", content(5, 100_000)),
    SYNC,
    _write(b"only in the log", b"said"),
)  # fmt: skip

#: What must go well as soon as nothing fails any more.
AFTERWARDS = (_write(b"room again", content(7, 50_000)), SYNC, CHECKPOINT)
