"""Any sequence of acts, with crashes between, does what a dict of byte arrays does.

FUSEFS_MODEL_EXAMPLES is the number of sequences.
"""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from fusefs.errors import FusefsError, TargetExists
from fusefs.model.entry import Entry
from fusefs.model.extent import BLOCK_SIZE
from fusefs.tree.tree import RENAME_EXCHANGE, RENAME_NOREPLACE
from tests.unit import invariants
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess, split

NAME = st.sampled_from([b"a", b"b", b"c", b"\xff\xfe"])
PATH = st.lists(NAME, min_size=1, max_size=3).map(b"/".join)
OFFSET = st.integers(0, 40) | st.integers(BLOCK_SIZE - 20, BLOCK_SIZE + 20)
DATA = st.binary(min_size=1, max_size=40)
XATTR = st.sampled_from([b"user.a", b"user.b"])


class File:
    """A file of the model. `versions`: what a crash may bring back, besides holes."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.xattrs: dict[bytes, bytes] = {}
        self.versions: list[bytes] = []

    def change(self, content: bytes, *, is_durable: bool) -> None:
        self.versions = [] if is_durable else [*self.versions, bytes(self.content)]
        self.content = bytearray(content)


Node = File | None  # None is a directory


class FilesystemMachine(RuleBasedStateMachine):
    """The model: paths to nodes, and what lies in the trash, oldest first."""

    @initialize()
    def start(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="fusefs-model-"))
        self.clock = ManualClock()
        self.fs = InProcess(self.directory / "store", self.clock)
        self.live: dict[bytes, Node] = {b"": None}
        self.removed: list[tuple[bytes, File]] = []
        self.held: dict[int, File] = {}

    def teardown(self) -> None:
        if hasattr(self, "fs"):
            self.remount()
            self.fs.close()
            shutil.rmtree(self.directory)

    # -- the model

    def children(self, path: bytes) -> list[bytes]:
        return [one for one in self.live if one and split(one)[0] == path]

    def below(self, path: bytes) -> list[bytes]:
        return [one for one in self.live if one == path or one.startswith(path + b"/")]

    def problem_above(self, path: bytes) -> int:
        """Why nothing can be done at `path`, or 0."""
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            above = b"/".join(parts[:depth])
            if above not in self.live:
                return errno.ENOENT
            if self.live[above] is not None:
                return errno.ENOTDIR
        return 0

    def expect(self, wanted: int, act: Callable[[], object]) -> bool:
        """Do it; it must fail with `wanted`, or succeed if that is 0. True if it succeeded."""
        found = 0
        try:
            act()
        except FusefsError as error:
            found = error.errno
        assert errno.errorcode.get(found) == errno.errorcode.get(wanted)
        return not found

    def remove(self, path: bytes) -> None:
        node = self.live.pop(path)
        if node is not None:
            self.removed.append((path, node))

    # -- names

    @rule(path=PATH)
    def make(self, path: bytes) -> None:
        problem = self.problem_above(path) or (errno.EEXIST if path in self.live else 0)
        if self.expect(problem, lambda: self.fs.make(path)):
            self.live[path] = File()

    @rule(path=PATH)
    def mkdir(self, path: bytes) -> None:
        problem = self.problem_above(path) or (errno.EEXIST if path in self.live else 0)
        if self.expect(problem, lambda: self.fs.mkdir(path)):
            self.live[path] = None

    @rule(path=PATH, new=PATH)
    def link(self, path: bytes, new: bytes) -> None:
        problem = self.problem_above(path) or (0 if path in self.live else errno.ENOENT)
        problem = problem or self.problem_above(new)
        problem = problem or (errno.EEXIST if new in self.live else 0)
        problem = problem or (errno.EPERM if self.live.get(path) is None else 0)
        if self.expect(problem, lambda: self.fs.link(path, new)):
            self.live[new] = self.live[path]

    @rule(path=PATH)
    def unlink(self, path: bytes) -> None:
        problem = self.problem_above(path) or (0 if path in self.live else errno.ENOENT)
        problem = problem or (errno.EISDIR if self.live[path] is None else 0)
        if self.expect(problem, lambda: self.fs.unlink(path)):
            self.remove(path)

    @rule(path=PATH)
    def rmdir(self, path: bytes) -> None:
        problem = self.problem_above(path) or (0 if path in self.live else errno.ENOENT)
        problem = problem or (errno.ENOTDIR if self.live[path] is not None else 0)
        problem = problem or (errno.ENOTEMPTY if self.children(path) else 0)
        if self.expect(problem, lambda: self.fs.rmdir(path)):
            self.remove(path)

    @rule(old=PATH, new=PATH, flags=st.sampled_from([0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE]))
    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        if new.startswith(old + b"/") or old.startswith(new + b"/"):
            return  # the kernel answers these
        problem = self.problem_above(old) or self.problem_above(new)
        if not problem and old not in self.live:
            problem = errno.ENOENT
        is_same = False
        if not problem and new not in self.live and flags == RENAME_EXCHANGE:
            problem = errno.ENOENT
        if not problem and new in self.live:
            one, other = self.live[old], self.live[new]
            is_same = old == new or (one is other is not None)
            if flags == RENAME_NOREPLACE:
                problem = errno.EEXIST
            elif not is_same and not flags:
                if other is None:
                    full = errno.ENOTEMPTY if self.children(new) else 0
                    problem = errno.EISDIR if one is not None else full
                elif one is None:
                    problem = errno.ENOTDIR
        if not self.expect(problem, lambda: self.fs.rename(old, new, flags)) or is_same:
            return
        moved = {new + path[len(old) :]: self.live.pop(path) for path in self.below(old)}
        if flags == RENAME_EXCHANGE:
            back = {old + path[len(new) :]: self.live.pop(path) for path in self.below(new)}
            self.live |= back
        elif new in self.live:
            self.remove(new)
        self.live |= moved

    # -- contents

    def file(self, path: bytes) -> File | None:
        return None if self.problem_above(path) else self.live.get(path)

    @rule(path=PATH, offset=OFFSET, data=DATA)
    def write_and_close(self, path: bytes, offset: int, data: bytes) -> None:
        if (file := self.file(path)) is not None:
            self.fs.write(path, data, offset)
            file.change(overwritten(file.content, offset, data), is_durable=self.is_closed(file))

    def is_closed(self, file: File) -> bool:
        return file not in self.held.values()

    @rule(path=PATH)
    def hold(self, path: bytes) -> None:
        if (file := self.file(path)) is not None and len(self.held) < 4:
            self.held[self.fs.opened(path)] = file

    @precondition(lambda self: self.held)
    @rule(offset=OFFSET, data=DATA, index=st.integers(0, 3))
    def write_held(self, offset: int, data: bytes, index: int) -> None:
        handle, file = list(self.held.items())[index % len(self.held)]
        self.fs.pwrite(handle, offset, data)
        file.change(overwritten(file.content, offset, data), is_durable=False)
        assert self.fs.pread(handle, 0, 2 * BLOCK_SIZE) == file.content

    @precondition(lambda self: self.held)
    @rule(index=st.integers(0, 3))
    def let_go(self, index: int) -> None:
        handle = list(self.held)[index % len(self.held)]
        file = self.held.pop(handle)
        self.fs.files.release(handle)
        if self.is_closed(file):
            file.versions = []

    @rule(path=PATH, size=OFFSET)
    def truncate(self, path: bytes, size: int) -> None:
        if (file := self.file(path)) is not None:
            self.fs.truncate(path, size)
            content = file.content[:size] + bytes(max(0, size - len(file.content)))
            file.change(content, is_durable=self.is_closed(file))

    @rule(path=PATH)
    def read(self, path: bytes) -> None:
        if (file := self.file(path)) is not None:
            assert self.fs.read(path) == file.content
            if self.is_closed(file):
                file.versions = []

    @rule(path=PATH, name=XATTR, value=st.none() | DATA)
    def change_xattr(self, path: bytes, name: bytes, value: bytes | None) -> None:
        if (file := self.file(path)) is None:
            return
        ino = self.fs.at(path).ino
        if value is not None:
            self.fs.tree.xattrs.set(ino, name, value)
            file.xattrs[name] = value
        else:
            problem = 0 if name in file.xattrs else errno.ENODATA
            if self.expect(problem, lambda: self.fs.tree.xattrs.remove(ino, name)):
                del file.xattrs[name]

    # -- trash

    def removed_files(self) -> list[Entry]:
        return [one for one in self.fs.pending() if not stat.S_ISDIR(one.kind)]

    @precondition(lambda self: self.removed)
    @rule(index=st.integers(0, 20))
    def restore(self, index: int) -> None:
        index %= len(self.removed)
        origin, file = self.removed[index]
        number = self.removed_files()[index].number
        problem = self.problem_above(origin)
        if origin in self.live or problem == errno.ENOTDIR:
            assert (
                self.expect(TargetExists.errno, lambda: self.fs.restorer().restore(number)) is False
            )
            return
        assert self.fs.restorer().restore(number) == [origin]
        del self.removed[index]
        parts = origin.split(b"/")
        for depth in range(1, len(parts)):
            self.live.setdefault(b"/".join(parts[:depth]), None)
        self.live[origin] = file

    @precondition(lambda self: self.removed)
    @rule(index=st.integers(0, 20))
    def purge(self, index: int) -> None:
        index %= len(self.removed)
        entry = self.removed_files()[index]
        self.fs.unlink(self.fs.trash.path_in_trash(entry))
        del self.removed[index]

    @rule()
    def reap(self) -> None:
        while self.fs.reap():
            pass
        assert not [ino for ino in self.fs.tree.orphans() if not self.fs.files.is_open(ino)]

    @rule(minutes=st.sampled_from([1, 61]))
    def time_passes(self, minutes: int) -> None:
        self.clock.advance(60 * minutes)

    # -- the store

    @rule()
    def flush(self) -> None:
        self.fs.sync()
        self.all_is_durable()

    @rule()
    def checkpoint(self) -> None:
        self.fs.store.checkpoint()

    @rule()
    def remount(self) -> None:
        for handle in self.held:
            self.fs.files.release(handle)
        self.held.clear()
        self.fs.remount()
        self.all_is_durable()
        self.look()
        invariants.check(self.fs.store)

    @rule()
    def crash(self) -> None:
        self.held.clear()
        self.fs.crash()
        for file, content in self.contents():
            if file.versions:
                versions = [*file.versions, bytes(file.content)]
                for position, byte in enumerate(content):
                    assert not byte or any(
                        one[position : position + 1] == bytes([byte]) for one in versions
                    )
                file.content = bytearray(content)
        self.all_is_durable()
        self.look()
        invariants.check(self.fs.store)

    def contents(self) -> list[tuple[File, bytes]]:
        found = [(file, self.fs.read(path)) for path, file in self.live.items() if file is not None]
        for (_, file), entry in zip(self.removed, self.removed_files(), strict=True):
            found.append((file, self.fs.read(self.fs.trash.path_in_trash(entry))))
        return found

    def all_is_durable(self) -> None:
        for file in [*self.live.values(), *(file for _, file in self.removed)]:
            if file is not None:
                file.versions = []

    @rule()
    def look(self) -> None:
        """All that can be seen is what the model says."""
        below = self.fs.tree_below()
        assert {path: data is None for path, data in below.items()} == {
            path: file is None for path, file in self.live.items() if path
        }
        for file, content in self.contents():
            assert content == file.content
        for (origin, file), entry in zip(self.removed, self.removed_files(), strict=True):
            assert entry.origin == origin
            self.check_inode(file, entry.ino)
        for path, node in self.live.items():
            if node is not None:
                self.check_inode(node, self.fs.at(path).ino)

    def check_inode(self, file: File, ino: int) -> None:
        inode = self.fs.tree.inode(ino)
        names = [node for node in self.live.values() if node is file]
        assert inode.nlink == len(names)
        assert inode.trash_names == len([one for _, one in self.removed if one is file])
        assert inode.size == len(file.content)
        xattrs = {
            name: self.fs.tree.xattrs.get(ino, name) for name in self.fs.tree.xattrs.names(ino)
        }
        assert xattrs == file.xattrs


def overwritten(content: bytearray, offset: int, data: bytes) -> bytes:
    result = content + bytes(max(0, offset - len(content)))
    result[offset : offset + len(data)] = data
    return bytes(result)


TestFilesystem = FilesystemMachine.TestCase
TestFilesystem.settings = settings(
    max_examples=int(os.environ.get("FUSEFS_MODEL_EXAMPLES", "60")),
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
