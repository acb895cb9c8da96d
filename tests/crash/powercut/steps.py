"""What a writer does, planned before it begins; and the tree that results after each step.

A plan follows from its seed alone. So whoever looks at the store after a power cut can plan
again, and needs to know of the writer only how far it came.

fusefs keeps one log. So after a power cut a writer's directory must be as it was after some step,
and not an earlier one than the last that was acknowledged as durable (`Step.is_durable`): what
came before it in the log is durable with it. Of the step after that one an unfinished write may
be seen.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

PAGE = 4096
#: How many pages the file has that is kept open.
PAGES = 12


class Step(NamedTuple):
    """`name`: what it is done to; `other`: a second name; `number`: makes content and offset.

    ======== =========================================================================
    create   a new file, written in two halves
    append   to a file
    splice   bytes into the midst of a file, or behind its end
    cut      a file to a length
    rename   a file to `other`, which may be there
    mkdir    with a file in it, moved there
    move     a directory to `other`
    unlink   a file
    restore  what was removed as `name`, to `other`
    purge    what was removed as `name`
    collect  give space back; changes nothing
    scribble pages into the file that is kept open, which nothing syncs but `settle`
    settle   fsync of that file
    ======== =========================================================================
    """

    index: int
    action: str
    name: str = ""
    other: str = ""
    number: int = 0
    is_durable: bool = False

    @property
    def data(self) -> bytes:
        """What it writes: mostly a few KiB, sometimes over a block's end, sometimes little."""
        source = random.Random(self.number)
        size = source.choice((10, 100, 4096, 5000, 20_000, 70_000, 300_000))
        return source.randbytes(1_100_000 if self.number % 29 == 0 else size)

    @property
    def offset(self) -> int:
        return random.Random(-self.number).choice((0, 1, 4096, 65_536, 200_000))

    @property
    def pages(self) -> dict[int, bytes]:
        """What a scribble writes: number of the page -> its content."""
        source = random.Random(self.number)
        return {
            page: source.randbytes(PAGE) for page in source.sample(range(PAGES), PAGES // 4)
        }  # fmt: skip


#: Steps that change the bytes of one file: seen half-done after a power cut.
WRITING = {"create", "append", "splice", "cut"}


@dataclass
class Tree:
    """A writer's directory: path -> content of files; what is in the trash, by the path it had;
    and how often something was removed from a path."""

    files: dict[str, bytes] = field(default_factory=dict)
    removed: Counter[tuple[str, bytes]] = field(default_factory=Counter)
    removals: Counter[str] = field(default_factory=Counter)

    def take(self, step: Step) -> None:
        """Change as `step` does."""
        files, name, other = self.files, step.name, step.other
        match step.action:
            case "create" | "append" | "splice" | "cut":
                files[name] = written(step, files.get(name))
            case "rename" | "mkdir":
                if other in files:
                    self._remove(other)
                files[other] = files.pop(name)
            case "move":
                for path in [path for path in files if path.startswith(name + "/")]:
                    files[other + path.removeprefix(name)] = files.pop(path)
            case "unlink":
                self._remove(name)
            case "restore":
                files[other] = self._taken(name)
            case "purge":
                self._taken(name)

    def _remove(self, name: str) -> None:
        self.removed[name, self.files.pop(name)] += 1
        self.removals[name] += 1

    def _taken(self, name: str) -> bytes:
        found = next(key for key in self.removed if key[0] == name)
        del self.removed[found]
        return found[1]

    def takeable(self) -> list[str]:
        """What in the trash has its plain name there, without a number behind it."""
        return sorted(name for name, _ in self.removed if self.removals[name] == 1)


def written(step: Step, old: bytes | None) -> bytes:
    """The content of a file after a step that changes its bytes."""
    old, data, offset = old or b"", step.data, step.offset
    match step.action:
        case "create":
            return data
        case "append":
            return old + data
        case "splice":
            return old[:offset].ljust(offset, b"\0") + data + old[offset + len(data) :]
        case _:
            return old[:offset].ljust(offset, b"\0")


@cache
def plan(seed: int, count: int, synced_share: float, *, by_verbs: bool) -> list[Step]:
    """The steps of a writer, who syncs after `synced_share` of them. With `by_verbs` it uses the
    command line for what is in the trash, and asks for collections; that is durable when it
    returns."""
    source = random.Random(seed)
    tree, made = Tree(), []
    for index in range(count):
        step = _next(source, tree, index, synced_share, by_verbs)
        tree.take(step)
        made.append(step)
    return made


def _next(
    source: random.Random, tree: Tree, index: int, synced_share: float, by_verbs: bool
) -> Step:
    number = source.getrandbits(40)
    is_synced = source.random() < synced_share
    files = sorted(path for path in tree.files if "/" not in path)
    new = f"file {index}"
    actions = ["create", "scribble"]
    if is_synced:
        actions += ["settle", "settle"]
    if len(files) > 2:
        actions += ["append", "splice", "cut", "rename", "rename", "unlink", "unlink", "mkdir"]
    if directories := sorted({path.split("/")[0] for path in tree.files if "/" in path}):
        actions += ["move"]
    if in_trash := tree.takeable():
        actions += ["restore", "purge"] * (1 + 3 * by_verbs)
    if by_verbs:
        actions += ["collect"]
    match source.choice(actions):
        case "create":
            return Step(index, "create", new, "", number, is_synced)
        case "append" | "splice" | "cut" as action:
            return Step(index, action, source.choice(files), "", number, is_synced)
        case "rename":
            name = source.choice(files)
            others = [new, *(path for path in files if path != name)]
            return Step(index, "rename", name, source.choice(others), 0, is_synced)
        case "mkdir":
            name = source.choice(files)
            return Step(index, "mkdir", name, f"dir {index}/{name}", 0, is_synced)
        case "move":
            return Step(index, "move", source.choice(directories), f"dir {index}", 0, is_synced)
        case "unlink":
            return Step(index, "unlink", source.choice(files), "", 0, is_synced)
        case "restore":
            name = source.choice(in_trash)
            return Step(index, "restore", name, new, 0, is_synced or by_verbs)
        case "purge":
            return Step(index, "purge", source.choice(in_trash), "", 0, is_synced or by_verbs)
        case "collect":
            return Step(index, "collect")
        case "scribble":
            return Step(index, "scribble", "", "", number)
        case _:
            return Step(index, "settle", is_durable=True)


def trees(steps: list[Step], first: int, last: int) -> Iterator[tuple[int, Tree]]:
    """(number of steps done, tree) from `first` to `last` steps; the tree changes meanwhile."""
    tree = Tree()
    for count, step in enumerate([*steps[:last], None]):
        if count >= first:
            yield count, tree
        if step is not None:
            tree.take(step)
