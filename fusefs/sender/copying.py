"""The whole copy: which file goes where, what is skipped, what failed.

Small files are written whole by a few threads, each to a staging name that becomes the target's;
large ones go one after the other, see `transfer`. What cannot be copied is an item of the outcome
and stops nothing else; but a daemon that is gone ends the copy, and so does a full disk.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from errno import EIO
from pathlib import Path
from typing import Any

from blake3 import blake3

from fusefs.daemon.mountpoint import sync
from fusefs.errors import (
    ContentDiffers,
    DaemonFailed,
    DiskFull,
    FusefsError,
    NoSuchUpload,
    SourceChanged,
    UsageError,
)
from fusefs.model.extent import BLOCK_SIZE
from fusefs.sender.asking import GONE, Daemon, daemon_at, inner_path
from fusefs.sender.attributes import Attributes
from fusefs.sender.outcome import Outcome
from fusefs.sender.receivers import (
    WINDOW_BLOCKS,
    Asked,
    Compared,
    Place,
    sync_directory,
    write_all,
)
from fusefs.sender.source import KnownSource, OpenSource, ReadSource
from fusefs.sender.staging import staged_name, token_of
from fusefs.sender.transfer import Transfer

#: Files up to this are written whole.
_SMALL_BYTES = BLOCK_SIZE
_THREADS = 2
_PENDING = 200
#: How often an upload is begun whose staging file goes away under it.
_ATTEMPTS = 5


@dataclass(frozen=True)
class Options:
    """`is_recursive`: directories with all below. `is_preserving`: mode, times, owner, attributes.
    `by_content`: compare files of one size by content to skip them. `is_verifying`: read all back.
    `patience_s`: for how long a daemon that is gone is waited for."""

    is_recursive: bool = False
    is_preserving: bool = False
    by_content: bool = False
    is_verifying: bool = False
    patience_s: float = 0.0


class Item:
    """One thing to be copied: `source` to `target`."""

    __slots__ = ("source", "status", "target")

    def __init__(self, source: bytes, target: bytes, status: os.stat_result) -> None:
        self.source = source
        self.target = target
        self.status = status


class Copying:
    """One run of ``fusefs cp``.

    `progress` is told of bytes that are done, `say` gets lines for people.
    """

    def __init__(
        self, options: Options, *, progress: Callable[[int], None] = lambda size: None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:  # fmt: skip
        self._options = options
        self._progress = progress
        self._say = say
        self.outcome = Outcome()
        self._daemons: dict[int, Daemon | None] = {}  # by device
        self._directories: list[Item] = []
        self._copied: list[Item] = []
        self._targets: set[bytes] = set()  # directories to make durable

    def run(self, sources: Sequence[bytes], target: bytes) -> Outcome:
        """Copy `sources` to `target`, or into it if it is a directory.

        Raises UsageError, DaemonFailed, DiskFull, StoreError.
        """
        started = time.monotonic()
        into = os.path.isdir(target)
        if len(sources) > 1 and not into:
            raise UsageError(f"{os.fsdecode(target)} is not a directory: several go into one")
        above = target if target.endswith(b"/") else os.path.dirname(target) or b"."
        if not into and not os.path.isdir(above):
            raise UsageError(f"{os.fsdecode(above)} is not a directory: make it first")
        try:
            with ThreadPoolExecutor(_THREADS) as threads:
                self._run(threads, sources, target, into)
            self._end()
        finally:
            self.outcome.seconds = time.monotonic() - started
        return self.outcome

    def _run(
        self, threads: ThreadPoolExecutor, sources: Sequence[bytes], target: bytes, into: bool
    ) -> None:
        pending: list[Future[None]] = []
        try:
            for source in sources:
                name = os.path.basename(source.rstrip(b"/"))
                within = into and name not in (b"", b".", b"..")
                for item in self._items(source, os.path.join(target, name) if within else target):
                    if stat.S_ISREG(item.status.st_mode) and item.status.st_size > _SMALL_BYTES:
                        self._guarded(self._copy_large, item)
                    else:
                        pending.append(threads.submit(self._guarded, self._copy_small, item))
                    while len(pending) > _PENDING:
                        pending.pop(0).result()
            for one in pending:
                one.result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise

    # -- what there is

    def _items(self, source: bytes, target: bytes) -> Iterator[Item]:
        """Everything that is no directory, after the directories that it needs were made."""
        try:
            status = os.lstat(source) if self._options.is_recursive else os.stat(source)
        except OSError as error:
            self._fail(source, error)
            return
        if not stat.S_ISDIR(status.st_mode):
            yield Item(source, target, status)
        elif not self._options.is_recursive:
            self._fail(source, UsageError("is a directory: -r copies it with all below"))
        elif os.path.realpath(target).startswith(os.path.realpath(source) + b"/"):
            self._fail(source, UsageError("a directory cannot be copied into itself"))
        else:
            yield from self._below(Item(source, target, status))

    def _below(self, top: Item) -> Iterator[Item]:
        pending = [top]
        while pending:
            directory = pending.pop()
            try:
                self._make_directory(directory)
                with os.scandir(directory.source) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                self._fail(directory.source, error)
                continue
            below = []
            for entry in found:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError as error:
                    self._fail(entry.path, error)
                    continue
                if entry.name == b".trash" and _is_mountpoint_of_fusefs(directory.source):
                    continue
                item = Item(entry.path, os.path.join(directory.target, entry.name), status)
                if stat.S_ISDIR(status.st_mode):
                    below.append(item)
                else:
                    yield item
            pending += reversed(below)

    def _make_directory(self, item: Item) -> None:
        try:
            os.mkdir(item.target, 0o700)
        except FileExistsError:
            if not os.path.isdir(item.target):
                raise
            if not self._options.is_preserving:
                return
        self.outcome.add(directories=1)
        self._directories.append(item)

    # -- one thing

    def _guarded(self, copy: Callable[[Item], None], item: Item) -> None:
        """Copy it, or note why not; what ends the whole copy is raised."""
        try:
            self._patiently(copy, item)
        except (DaemonFailed, DiskFull):
            raise
        except (FusefsError, OSError) as error:
            if isinstance(error, OSError) and error.errno in DiskFull.errnos:
                raise DiskFull(f"{os.fsdecode(item.target)}: {error.strerror}") from error
            self._fail(item.source, error)

    def _patiently(self, copy: Callable[[Item], None], item: Item) -> None:
        attempts = 0
        while True:
            try:
                copy(item)
                return
            except NoSuchUpload:  # the daemon has forgotten us, or the name was taken away
                attempts += 1
                if attempts == _ATTEMPTS:
                    raise
            except (DaemonFailed, OSError) as error:
                lost = self._lost(item, error)
                if lost is None:
                    raise
                if not lost.wait_until_back(self._options.patience_s):
                    raise lost.lost() from error

    def _lost(self, item: Item, error: Exception) -> Daemon | None:
        """The daemon whose end was the reason of `error`, if that is so."""
        if isinstance(error, OSError) and error.errno not in (*GONE, EIO):
            return None
        for path in (item.target, item.source):
            daemon = daemon_at(path)
            if daemon is not None and not daemon.is_alive:
                return daemon
        return None

    def _fail(self, path: bytes, error: Exception) -> None:
        why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        shown: dict[str, Any] = {"path": os.fsdecode(path), "error": why}
        if isinstance(error, FusefsError):
            shown["exit_code"] = error.exit_code
        with self.outcome.lock:
            self.outcome.failed.append(shown)

    def _copy_small(self, item: Item) -> None:
        """Whatever is no large file."""
        mode = item.status.st_mode
        if stat.S_ISREG(mode):
            self._copy_small_file(item)
            return
        staged = self._staged(item, item.status)
        with suppress(FileNotFoundError):
            os.unlink(staged)
        attributes = self._attributes(item, None)
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(item.source), staged)
        elif stat.S_ISSOCK(mode):
            raise UsageError("is a socket: it cannot be copied")
        else:
            os.mknod(staged, stat.S_IFMT(mode) | attributes.mode, item.status.st_rdev)
        attributes.put_node(staged)
        os.rename(staged, item.target)
        self.outcome.add(links=1)
        self._noted(item)

    def _staged(self, item: Item, status: os.stat_result) -> bytes:
        directory, name = os.path.split(item.target)
        return os.path.join(directory, staged_name(name, self._token(item, status)))

    def _token(self, item: Item, status: os.stat_result) -> bytes:
        name = os.path.basename(item.target)
        return token_of(item.source, status, name, is_preserving=self._options.is_preserving)

    def _attributes(self, item: Item, target: os.stat_result | None) -> Attributes:
        return Attributes(
            item.source, item.status, target, is_preserving=self._options.is_preserving
        )

    def _copy_small_file(self, item: Item) -> None:
        target = _lstat(item.target)
        if target is not None and self._is_same(item, target):
            return
        with open(item.source, "rb", buffering=0) as source:
            before = os.fstat(source.fileno())
            content = source.read(before.st_size + 1)
            after = os.fstat(source.fileno())
        if len(content) != before.st_size or before.st_mtime_ns != after.st_mtime_ns:
            raise SourceChanged("changed while it was read: copy it again")
        staged = self._staged(item, before)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        attributes = self._attributes(item, target)
        descriptor = os.open(staged, flags, attributes.mode)
        try:
            attributes.put_early(descriptor)
            write_all(descriptor, content, 0)
            attributes.put(descriptor)
        finally:
            os.close(descriptor)
        os.rename(staged, item.target)
        self.outcome.add(files=1, total_bytes=len(content), sent_bytes=len(content))
        self._progress(len(content))
        self._noted(item)

    def _noted(self, item: Item) -> None:
        with self.outcome.lock:
            self._targets.add(os.path.dirname(item.target))
            if self._options.is_verifying and stat.S_ISREG(item.status.st_mode):
                self._copied.append(item)

    # -- large files

    def _copy_large(self, item: Item) -> None:
        target = _lstat(item.target)
        if target is not None and self._is_same(item, target):
            return
        file = OpenSource(item.source)
        try:
            self._send(item, file, target)
        finally:
            file.close()
        self._noted(item)

    def _send(self, item: Item, file: OpenSource, target: os.stat_result | None) -> None:
        directory, name = os.path.split(item.target)
        if target is not None and stat.S_ISDIR(target.st_mode):
            raise UsageError(f"{os.fsdecode(item.target)} is a directory")
        place = Place(directory or b".", name, self._token(item, file.status), file.size)
        receiver = self._receiver(place, self._attributes(item, target))
        sent = 0

        def progress(size: int, was_sent: bool) -> None:
            nonlocal sent
            with self.outcome.lock:
                sent += size if was_sent else 0
            self._progress(size)

        try:
            receiver.begin()
            with self._reader(file, item.source) as source:
                Transfer(source, receiver, progress).run()
        finally:
            receiver.close()
            self.outcome.add(sent_bytes=sent, resumed=receiver.present_bytes > 0)
        self.outcome.add(files=1, total_bytes=file.size, present_bytes=max(0, file.size - sent))

    def _receiver(self, place: Place, attributes: Attributes) -> Asked | Compared:
        daemon = self._daemon_of(place.directory)
        if daemon is not None and daemon.may_ask:
            return Asked(place, attributes, daemon)
        return Compared(place, attributes)

    def _reader(self, file: OpenSource, path: bytes) -> ReadSource | KnownSource:
        daemon = self._daemon_of(os.path.dirname(path) or b".")
        if daemon is not None and daemon.may_ask:
            return KnownSource(file, WINDOW_BLOCKS, daemon, inner_path(os.path.realpath(path)))
        return ReadSource(file, WINDOW_BLOCKS)

    def _daemon_of(self, directory: bytes) -> Daemon | None:
        device = os.stat(directory).st_dev
        if device not in self._daemons:
            daemon = self._daemons[device] = daemon_at(directory)
            if daemon is not None and not daemon.may_ask:
                self._say(
                    f"the daemon of {daemon.mount.path} does not answer this user: copying goes on"
                    " without asking it what is there already"
                )
        return self._daemons[device]

    # -- what is there already

    def _is_same(self, item: Item, target: os.stat_result) -> bool:
        """Whether the target need not be copied; it is counted then."""
        status = item.status
        if not stat.S_ISREG(target.st_mode) or target.st_size != status.st_size:
            return False
        if (target.st_dev, target.st_ino) == (status.st_dev, status.st_ino):
            raise UsageError(f"{os.fsdecode(item.target)} is the same file")
        if self._options.by_content:
            is_same = self._digests_of(item.source) == self._digests_of(item.target)
        else:
            is_same = target.st_mtime_ns == status.st_mtime_ns
        if is_same:
            self.outcome.add(skipped=1, total_bytes=status.st_size, present_bytes=status.st_size)
            self._progress(status.st_size)
        return is_same

    def _digests_of(self, path: bytes) -> bytes:
        """The root hash of a file, told by its daemon or read."""
        file = OpenSource(path)
        hasher = blake3()
        try:
            with self._reader(file, path) as source:
                for window in range(-(-file.size // (WINDOW_BLOCKS * BLOCK_SIZE))):
                    found = source.digests(window)
                    hasher.update(b"".join(found))
                    first = window * WINDOW_BLOCKS
                    source.done(range(first, first + len(found)))
        finally:
            file.close()
        return hasher.digest()

    # -- the end

    def _end(self) -> None:
        """Times of directories, which their content has changed; durability; reading back."""
        for item in reversed(self._directories):
            try:
                attributes = Attributes(
                    item.source, item.status, None, is_preserving=self._options.is_preserving
                )
                attributes.put_directory(item.target)
            except OSError as error:
                self._fail(item.source, error)
        devices = set()
        for directory in self._targets:
            directory = directory or b"."
            if (device := os.stat(directory).st_dev) not in devices:
                devices.add(device)
                if self._daemon_of(directory) is None:
                    sync(Path(os.fsdecode(directory)))
                else:  # which does not hear of syncfs(2)
                    sync_directory(directory)
        for item in self._copied:
            try:
                if _hash_of(item.source) != _hash_of(item.target):
                    raise ContentDiffers(f"{os.fsdecode(item.target)} reads back as other bytes")
            except (OSError, ContentDiffers) as error:
                self._fail(item.target, error)


def _hash_of(path: bytes) -> bytes:
    hasher = blake3()
    with open(path, "rb", buffering=0) as file:
        while part := file.read(4 * BLOCK_SIZE):
            hasher.update(part)
    return hasher.digest()


def _lstat(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _is_mountpoint_of_fusefs(path: bytes) -> bool:
    return os.path.ismount(path) and daemon_at(path) is not None
