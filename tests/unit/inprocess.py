"""A filesystem in this process, without FUSE, driven by paths as the kernel drives the real one."""

import stat
from collections.abc import Callable
from errno import ENOTDIR
from pathlib import Path

import trio

from fusefs.config.options import Compression, MountOptions, StoreOptions
from fusefs.daemon.collecting import Collected, Collecting
from fusefs.daemon.filesystem import Filesystem
from fusefs.errors import Refused
from fusefs.model import extent, keys
from fusefs.model.corruption import Corruption
from fusefs.model.entry import Entry, State
from fusefs.model.extent import Extent
from fusefs.model.inode import Inode
from fusefs.model.keyslot import Secret
from fusefs.store import keyring
from fusefs.store.margins import Margins
from fusefs.store.store import Store
from fusefs.trash.restore import Restorer
from fusefs.tree.removal import Caller
from fusefs.tree.tree import SET_ID
from tests.unit.clocks import ManualClock
from tests.unit.remotes.encryption import CREATED, WEAK

#: Collect everything there is to gain.
ALL = Margins(slack=0.0, least_bytes=0)
ROOT_USER = Caller(0, 0, 0)
REGULAR, DIRECTORY, SYMLINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777


def split(path: bytes) -> tuple[bytes, bytes]:
    head, _, last = path.rpartition(b"/")
    return head, last


class InProcess:
    """`caller` makes the calls. Files are opened and closed for each read and write.

    With a `secret` the store is encrypted.
    """

    def __init__(
        self,
        path: Path,
        clock: ManualClock,
        options: MountOptions | None = None,
        *,
        secret: Secret | None = None,
        compression: Compression = "none",
    ) -> None:
        self.path = path
        self.clock = clock
        self.options = options or MountOptions()
        self.caller = ROOT_USER
        if not path.exists():
            slot = keyring.first(secret, created=CREATED, strength=WEAK) if secret else None
            Store.init(path, StoreOptions(compression), clock=clock, slot=slot)
        self.cipher = keyring.unlock(path, secret) if secret else None
        self.open()

    def open(self) -> None:
        self.filesystem = Filesystem.open(self.path, self.options, self.clock, self.cipher)
        self.store = self.filesystem.store
        self.tree = self.filesystem.tree
        self.files = self.filesystem.files
        self.trash = self.filesystem.trash

    def close(self) -> None:
        self.filesystem.close()

    def remount(self) -> None:
        self.close()
        self.open()

    def crash(self, *, at_once: bool = False) -> None:
        """Die and come back: only what was appended is left. Unless `at_once`, whole blocks are, as
        some time has passed since they were written."""
        if not at_once:
            self.files.store_whole()
        self.store.abandon()
        self.open()

    # -- names

    def _place(self, path: bytes) -> tuple[int, bytes]:
        head, last = split(path)
        parent = self.tree.resolve(head)
        if not parent.is_dir:  # the kernel's answer
            raise Refused(ENOTDIR)
        return parent.ino, last

    def at(self, path: bytes) -> Inode:
        return self.tree.resolve(path)

    def make(self, path: bytes, mode: int = REGULAR, target: bytes | None = None) -> Inode:
        return self.tree.make(*self._place(path), mode, self.caller, target=target)

    def mkdir(self, path: bytes, mode: int = 0o755) -> Inode:
        return self.make(path, stat.S_IFDIR | mode)

    def link(self, path: bytes, new_path: bytes) -> Inode:
        return self.tree.link(self.at(path).ino, *self._place(new_path))

    def unlink(self, path: bytes) -> None:
        self.tree.unlink(*self._place(path), self.caller)

    def rmdir(self, path: bytes) -> None:
        self.tree.rmdir(*self._place(path), self.caller)

    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        self.tree.rename(*self._place(old), *self._place(new), flags, self.caller)
        for _ in self.trash.revive():
            pass

    def names(self, path: bytes = b"") -> list[bytes]:
        return sorted(name for _, _, name, _ in self.tree.listing(self.at(path).ino, 0))

    def tree_below(self, path: bytes = b"") -> dict[bytes, bytes | None]:
        """Path -> content of everything below `path`; None for directories."""
        found: dict[bytes, bytes | None] = {}
        for name in self.names(path):
            inner = path + b"/" + name if path else name
            inode = self.at(inner)
            if inode.is_dir:
                found[inner] = None
                found |= self.tree_below(inner)
            else:
                found[inner] = self.read(inner)
        return found

    # -- contents

    def opened(self, path: bytes) -> int:
        """A handle for reading and writing, kept open."""
        return self.files.open(self.at(path), for_writing=True)

    def pwrite(self, handle: int, offset: int, data: bytes) -> None:
        self.files.write(self.files.handle(handle), offset, data)

    def pread(self, handle: int, offset: int, size: int) -> bytes:
        return bytes(trio.run(self.files.read, self.files.handle(handle).file, offset, size))

    def write(self, path: bytes, data: bytes, offset: int = 0) -> None:
        """Open, write, close; makes the file if need be."""
        parent, name = self._place(path)
        if self.tree.lookup(parent, name) is None:
            self.make(path)
        handle = self.opened(path)
        try:
            self.pwrite(handle, offset, data)
        finally:
            self.files.release(handle)

    def read(self, path: bytes) -> bytes:
        """The whole content; opened for reading only."""
        inode = self.at(path)
        handle = self.files.open(inode, for_writing=False)
        try:
            return self.pread(handle, 0, inode.size)
        finally:
            self.files.release(handle)

    def truncate(self, path: bytes, size: int) -> None:
        self.files.truncate(self.at(path), size, keeps=SET_ID)

    def sync(self) -> None:
        trio.run(self.filesystem.flush)

    def extents(self, path: bytes) -> list[Extent]:
        """The rows of the map of a file."""
        inode = self.at(path)
        prefix = keys.EXTENT + inode.ino.to_bytes(8, "big")
        return [extent.unpack(keys.second(key), row) for key, row in self.store.scan(prefix)]

    # -- trash

    def pending(self) -> list[Entry]:
        """What can be taken back, oldest first."""
        return [one for one in self.trash.entries() if one.state is State.PENDING]

    def restorer(self, caller: Caller | None = None) -> Restorer:
        return Restorer(self.tree, self.trash, caller or self.caller)

    def collect(self, margins: Margins = ALL) -> Collected:
        """Give space back; by default from every segment that has a byte of no use."""
        return trio.run(Collecting(self.store, margins).collect)

    def scrub(self) -> None:
        """Verify all blocks, or go on with what was begun."""
        scrubbing = self.filesystem.scrubbing
        scrubbing.ask(0)
        while scrubbing.record()["is_running"]:
            trio.run(scrubbing.step)

    def corruptions(self) -> list[Corruption]:
        """What is known of bad blocks."""
        return list(self.filesystem.scrubbing.records())

    def reap(self, is_referenced: Callable[[int], bool] = lambda ino: False) -> int:
        """Free what nobody holds; one slice. Returns how much it did."""
        self.filesystem.is_referenced = is_referenced
        return self.filesystem.reaper.step()
