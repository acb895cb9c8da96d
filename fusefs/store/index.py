"""The index: ordered rows in LMDB behind one write transaction that stays open.

Reads go through the write transaction, so they see every row put before them. `commit` makes a
checkpoint: it must be called by the thread that began the transaction (py-lmdb would let another
thread commit and then keep the writer lock). A reader in another process sees the last checkpoint.

The map grows between transactions while less than half of it is used; one that fills up all the
same raises MapFull, and the store rebuilds the transaction from the log. LMDB moves a map that
grows, and does not know who reads it: no copy is made meanwhile.
"""

import errno
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from fusefs.base import durable, failpoints, resident
from fusefs.errors import DiskFull, IndexSpace, StoreDamaged, StoreError
from fusefs.model import keys
from fusefs.store import snapshot

_INITIAL_MAP = 64 << 20
#: What LMDB raises where its pages say what it never wrote, or in a transaction that met such.
_DAMAGES = (
    lmdb.CorruptedError, lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.PageNotFoundError,
    lmdb.BadTxnError, lmdb.CursorFullError, lmdb.IncompatibleError,
)  # fmt: skip
#: What a message about a damaged index ends with.
WAY_OUT = "it can be rebuilt from the log, by fusefs rebuild"


class MapFull(Exception):
    """The open transaction is lost: grow the map and replay the log."""


class Index:
    """Rows of STORE/index. `read_only` opens the last checkpoint, for other processes.

    Where `path` is a file and not a directory it is a copy of an index, which nobody writes to.
    """

    _is_open = False

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._read_only = read_only
        self._stays = threading.Lock()  # held: the map does not move
        #: Why the rows are not what the log says any more; every use raises it.
        self.lost: StoreError | None = None
        # Any: the stubs allow memoryviews, which `buffers` would turn on.
        self._transaction: Any
        #: The row at a key, or None; the transaction's own, hence a new one after each commit.
        self.get: Callable[[bytes], bytes | None]
        self._open()
        self._is_open = True

    def _open(self) -> None:
        is_copy = self._path.is_file()
        try:
            self._environment = lmdb.open(
                os.fsencode(self._path), map_size=_INITIAL_MAP if not self._read_only else 0,
                subdir=not is_copy, lock=not is_copy, readonly=self._read_only,
                create=not self._read_only, max_readers=126, metasync=True, sync=True, mode=0o600,
            )  # fmt: skip
        except (lmdb.Error, OSError) as error:
            raise _translate(error, self._path) from error
        if not self._read_only:
            self._grow_when_half_full()  # LMDB opens a larger one with no room to spare
        self._begin()

    @classmethod
    def create(cls, path: Path) -> None:
        """Make an empty index in the directory `path`, durably.

        LMDB itself syncs no earlier than at its first commit; until then a power cut would leave
        an empty file, which looks like a lost index. Raises DiskFull or StoreError.
        """
        cls(path).close()
        try:
            descriptor = os.open(path / "data.mdb", os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            durable.sync_directory(path)
        except OSError as error:
            raise _translate(error, path) from error

    def _begin(self) -> None:
        try:
            self._transaction = self._begun()
        except lmdb.Error as error:
            raise _translate(error, self._path) from error
        self.get = _translated(self._transaction.get, self._path)
        self.lost = None

    def _begun(self) -> Any:
        while True:
            try:
                return self._environment.begin(write=not self._read_only)
            except lmdb.MapResizedError:  # the writer was faster: map as much as there is now
                self._environment.set_mapsize(0)

    def apply(self, rows: dict[bytes, bytes | None]) -> None:
        """Put and delete `rows`. Raises MapFull, after which the transaction is unusable."""
        put, delete = self._transaction.put, self._transaction.delete
        try:
            for key, value in rows.items():
                if value is None:
                    delete(key)
                else:
                    put(key, value)
        except lmdb.MapFullError as error:
            raise MapFull from error
        except lmdb.Error as error:
            raise _translate(error, self._path) from error

    def scan(self, start: bytes, prefix: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Rows from `start` on, in order, while keys begin with `prefix` (default: `start`).

        Must not be kept over a change of the index.
        """
        return _scan(self._transaction, self._path, start, start if prefix is None else prefix)

    def covering(self, first: bytes, end: bytes, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """The row at `first`, or else the last one before it, and all rows up to `end`, exclusive;
        of those that begin with `prefix`."""
        try:
            with self._transaction.cursor() as cursor:  # of each read: `_cursor` costs some us
                return _covering(cursor, first, end, prefix)
        except lmdb.Error as error:
            raise _translate(error, self._path) from error

    def tail(self, end: bytes, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` rows before `end` that begin with `prefix`, the last one first."""
        found: list[tuple[bytes, bytes]] = []
        with _cursor(self._transaction, self._path) as cursor:
            has_row = cursor.prev() if cursor.set_range(end) else cursor.last()
            while has_row and len(found) < limit:
                key, value = cursor.item()
                if not key.startswith(prefix):
                    break
                found.append((key, value))
                has_row = cursor.prev()
        return found

    def commit(self, books: Mapping[str, bytes | None]) -> None:
        """Checkpoint: write `books` into the meta table (None: delete) and commit, durably; begin
        the next.

        Raises DiskFull or StoreError; the transaction is lost then, as with MapFull.
        """
        try:
            for name, value in books.items():
                if value is None:
                    self._transaction.delete(keys.META + name.encode())
                else:
                    self._transaction.put(keys.META + name.encode(), value)
            failpoints.hit("checkpoint.commit")
            self._transaction.commit()
            failpoints.hit("checkpoint.committed")
        except lmdb.MapFullError as error:
            raise MapFull from error
        except (lmdb.Error, OSError) as error:
            self._transaction.abort()
            raise _translate(error, self._path) from error
        self._grow_when_half_full()
        self._environment.reader_check()
        self._begin()

    def restart(self, *, grow: bool) -> None:
        """Throw the open transaction away and begin again at the last checkpoint.

        Raises StoreError; there is no transaction then: see `lose`.
        """
        self._transaction.abort()
        try:
            self._environment.begin(write=True).abort()
        except lmdb.PanicError:
            # A commit could not write its meta page: LMDB does nothing more until it is opened
            # anew. Whoever copies it in another thread must be done before its memory goes.
            with self._stays:
                self._environment.close()
            self._open()
            return
        except lmdb.Error as error:
            raise _translate(error, self._path) from error
        if grow:
            with self._stays:
                self._grow(2)
        self._begin()

    def lose(self, error: StoreError) -> None:
        """Let every later use raise `error`, until a `restart` succeeds."""
        self._transaction.abort()
        self._transaction = _Lost(error)
        self.get = self._transaction.get
        self.lost = error

    def _grow_when_half_full(self) -> None:
        info = self._environment.info()
        is_half_full = (info["last_pgno"] + 1) * 4096 * 2 > info["map_size"]
        if is_half_full and self._stays.acquire(blocking=False):  # or else another time
            try:
                self._grow(2)
            finally:
                self._stays.release()

    def _grow(self, factor: int) -> None:
        size = self._environment.info()["map_size"] * factor
        try:
            self._environment.set_mapsize(size)
        except lmdb.Error as error:
            raise IndexSpace(
                f"{self._path}: cannot map {size >> 20} MiB of address space: raise the limit"
                " on virtual memory (ulimit -v)"
            ) from error

    @property
    def lacks_pages(self) -> bool:
        """Whether the file is shorter than the pages that LMDB counts: the last of them may never
        have been written, or the file was cut off, and then reading it ends in SIGBUS."""
        pages = self._environment.info()["last_pgno"] + 1
        page_size = self._environment.stat()["psize"]
        return os.path.getsize(self._path / "data.mdb") < pages * page_size

    def book(self, name: str) -> bytes | None:
        """A row of the meta table as of the last checkpoint."""
        return self.get(keys.META + name.encode())

    def copy(self, path: Path) -> None:
        """Write the last checkpoint, compacted and with its sum (store.snapshot), to a new file.
        In any thread.

        Raises DiskFull or StoreError.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                with self._stays, resident.kept_small(self._path):
                    self._environment.copyfd(descriptor, compact=True)
                snapshot.seal(descriptor)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except (lmdb.Error, OSError) as error:
            raise _translate(error, path) from error

    @property
    def size_bytes(self) -> int:
        """About what `copy` writes: pages in use, which may be far fewer than the file has."""
        stat = self._environment.stat()
        pages = stat["leaf_pages"] + stat["branch_pages"] + stat["overflow_pages"]
        return int(pages) * int(stat["psize"])

    def close(self) -> None:
        """Close without a checkpoint."""
        if self._is_open:
            self._is_open = False
            self._transaction.abort()
            self._environment.close()

    def __del__(self) -> None:
        # Dropped in a cycle, LMDB's objects would be freed in any order. An environment that goes
        # before its transaction unmaps a mutex that this thread holds, and the next one that it
        # unlocks ends the process.
        self.close()


class _Lost:
    """In the place of a transaction that there is none of: every use raises why."""

    def __init__(self, error: StoreError) -> None:
        self._error = error

    def get(self, *_: object) -> Any:
        raise self._error

    put = delete = cursor = commit = get

    def abort(self) -> None:
        """There is nothing to throw away."""


def _translated(
    get: Callable[[bytes], bytes | None], path: Path
) -> Callable[[bytes], bytes | None]:
    """`get`, with errors of the tree; knows no Index, which would not go away by itself then."""

    def translated(key: bytes) -> bytes | None:
        try:
            return get(key)
        except lmdb.Error as error:
            raise _translate(error, path) from error

    return translated


@contextmanager
def _cursor(transaction: Any, path: Path) -> Iterator[Any]:
    """A cursor whose errors are those of the tree."""
    try:
        with transaction.cursor() as cursor:
            yield cursor
    except lmdb.Error as error:
        raise _translate(error, path) from error


def _covering(cursor: Any, first: bytes, end: bytes, prefix: bytes) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    has_row = cursor.set_range(first)
    if not has_row:
        has_row = cursor.last()
    elif cursor.key() != first:
        has_row = cursor.prev() or cursor.first()
    while has_row:
        key, value = cursor.item()
        if key >= end:
            break
        if key.startswith(prefix):
            found.append((key, value))
        elif found or key > first:
            break
        has_row = cursor.next()
    return found


def _scan(
    transaction: Any, path: Path, start: bytes, prefix: bytes
) -> Iterator[tuple[bytes, bytes]]:
    with _cursor(transaction, path) as cursor:
        if cursor.set_range(start):
            for key, value in cursor:
                if not key.startswith(prefix):
                    return
                yield key, value


def _translate(error: Exception, path: Path) -> StoreError:
    number = getattr(error, "errno", None) or _errno_in(str(error))
    if isinstance(error, lmdb.MemoryError) or number == errno.ENOMEM:
        return IndexSpace(f"{path}: no address space to map the index: raise ulimit -v")
    if number in DiskFull.errnos or isinstance(error, lmdb.DiskError):
        return DiskFull(f"{path}: no room for the index: free space on the disk")
    # The last is told by an error of no class of its own.
    if isinstance(error, _DAMAGES) or "LMDB data format" in str(error):
        return StoreDamaged(f"{path} is damaged ({error}): {WAY_OUT}")
    return StoreError(f"{path}: {error}")


def _errno_in(text: str) -> int | None:
    """py-lmdb gives errors of the system as text only."""
    for number in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM):
        if os.strerror(number) in text:
            return number
    return None


class Batch:
    """The index changes of one act, made together or not at all.

    Reads through it see its own rows first.
    """

    __slots__ = ("_index_get", "rows")

    def __init__(self, index: Index) -> None:
        self._index_get = index.get
        self.rows: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        if key in self.rows:
            return self.rows[key]
        return self._index_get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self.rows[key] = value

    def delete(self, key: bytes) -> None:
        self.rows[key] = None
