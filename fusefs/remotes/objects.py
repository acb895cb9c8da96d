"""Object stores and WebDAV as remotes, through OpenDAL's synchronous operators.

Traps of the library, all met:

- Its exceptions share no base class, and their text holds the request: see `answers`.
- Leaving an opened file by an exception commits the part written so far: only whole writes.
- The time limit for input and output holds for a whole write, not for each piece of it: at the
  default of 10 s no 16 MiB object could ever be written below 1.6 MB/s. It is set by size here.
- A range that ends behind the object is an error ("too little data"), one that begins there too.
- A request about a single object cannot tell a missing bucket from a missing object, and some
  services make a bucket that is written to: it is looked for before anything else.
- WebDAV keeps the part of a write that was cut off, under the name: objects are written aside and
  renamed there. Missing parent directories are made, which is wanted, and a missing share is, which
  is not.
- The iterator of a listing waits for the network without letting go of the interpreter's lock: a
  service that stalls would stop every thread of the process. Its asynchronous twin does not, so
  listings have an event loop of their own, in the thread that asks.
- A forked child hangs: operators are made in the process that uses them.
"""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from os import urandom
from typing import TypeVar

import opendal
from opendal import exceptions
from opendal.layers import TimeoutLayer
from opendal.types import Entry

from fusefs.base.clock import Clock, SystemClock
from fusefs.errors import BadRemote, NoSuchObject, RemoteDenied, RemoteMissing, RemoteReadOnly
from fusefs.remotes import answers
from fusefs.remotes.address import Address
from fusefs.remotes.api import Buffer, Capabilities, Found
from fusefs.remotes.names import check_name, check_prefix
from fusefs.remotes.secrets import Secrets
from fusefs.remotes.services import SERVICES

_TIMEOUT_S = 30.0
_SLOWEST_BYTES_PER_S = 64 << 10
#: Asked for one by one up to here, and by a listing beyond.
_FEW = 64
_AT_ONCE = 8
_LISTED_AT_ONCE = 1000
_SETTLE_S = 1.0
#: Where another is just writing: WebDAV servers lock a directory while they make one in it.
_LOCKED_TURNS = 20
_LOCKED_WAIT_S = 0.02
_INCOMING = ".incoming/"
#: Left there by a writer that was killed, without doubt.
_STALE_S = 86400
_ERRORS: tuple[type[Exception], ...] = tuple(
    value
    for value in vars(exceptions).values()
    if isinstance(value, type) and issubclass(value, Exception)
)
_T = TypeVar("_T")


class ObjectRemote:
    """Objects in a bucket, or in a directory of a WebDAV share."""

    def __init__(self, address: Address, secrets: Secrets, clock: Clock | None = None) -> None:
        """Raises BadRemote. Nothing is sent."""
        self.place = address.place
        self._service = SERVICES[address.scheme]
        self._secrets = secrets
        self._clock = clock or SystemClock()
        self._timeout_s: float = address.options.get("timeout", _TIMEOUT_S)
        self._slowest: int = address.options.get("slowest", _SLOWEST_BYTES_PER_S)
        is_conditional = self._service.is_conditional and address.options.get("conditional", True)
        self.capabilities = Capabilities(is_conditional=is_conditional)
        self._root = f"/{address.path.strip('/')}/".replace("//", "/")
        settings = self._service.settings(address, secrets)
        try:
            self._bare = opendal.Operator(self._service.scheme, root=self._root, **settings)
            self._top = opendal.Operator(self._service.scheme, root="/", **settings)
        except _ERRORS as error:
            raise BadRemote(f"{self.place}: {self._hidden(answers.read(error).message)}") from None
        self._operator = self._limited(self._bare, 0)
        self._writers: dict[int, opendal.Operator] = {}
        self._lock = threading.Lock()
        self._stripes = [threading.Lock() for _ in range(64)]
        self._is_seen = False
        self._threads: ThreadPoolExecutor | None = None

    def put(self, name: str, content: Buffer) -> bool:
        self._look(check_name(name))
        whole = bytes(content)
        writer = self._writer(len(whole))
        try:
            if self.capabilities.is_conditional:
                return self._put_if_none(writer, name, whole)
            # At least the threads of this process do not meet.
            with self._stripes[hash(name) % len(self._stripes)]:
                return self._put_after_a_look(writer, name, whole)
        except RemoteDenied as error:
            raise self._read_only(error) from None

    def get(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        self._look(check_name(name))
        if size == 0:
            self._need_size(name)
            return b""
        try:
            return self._read(name, start, size)
        except _BeyondEnd:
            length = self._need_size(name)
            if start >= length:
                return b""
            end = length if size is None else min(length, start + size)
            return self._read(name, start, end - start)

    def sizes(self, names: Collection[str]) -> dict[str, int]:
        wanted = {check_name(name) for name in names}
        if not wanted:
            return {}
        self._look("")
        if len(wanted) == 1:
            found = [(name, self._size(name)) for name in wanted]
        elif len(wanted) <= _FEW:
            found = list(self._pool().map(lambda name: (name, self._size(name)), wanted))
        else:
            below = {name[: name.rfind("/") + 1] for name in wanted}
            found = [(name, size) for prefix in below for name, size, _ in self._listed(prefix)]
        return {name: size for name, size in found if size is not None and name in wanted}

    def list(self, prefix: str) -> Iterator[Found]:
        check_prefix(prefix)
        self._look(prefix)
        yield from self._listed(prefix)

    def delete(self, name: str) -> bool:
        self._look(check_name(name))
        if self._size(name) is None:
            return False
        try:
            self._call(name, lambda: self._operator.delete(name))
        except RemoteDenied as error:
            raise self._read_only(error) from None
        return True

    def free_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        if self._threads:
            self._threads.shutdown()

    def _put_if_none(self, writer: opendal.Operator, name: str, whole: bytes) -> bool:
        try:
            writer.write(name, whole, if_not_exists=True)
        except _ERRORS as error:
            answer = answers.read(error)
            if answer.exists:
                return False
        else:
            return True
        raise self._error(answer, name)

    def _put_after_a_look(self, writer: opendal.Operator, name: str, whole: bytes) -> bool:
        if self._size(name) is not None:
            return False
        if not self._service.is_staged:
            self._call(name, partial(writer.write, name, whole))
            return True
        aside = f"{_INCOMING}{urandom(12).hex()}"
        self._call(name, partial(writer.write, aside, whole))
        # Much time may have passed.
        if self._size(name) is not None:
            self._call(name, partial(self._operator.delete, aside))
            return False
        self._call(name, partial(self._operator.rename, aside, name))
        return True

    def _read(self, name: str, start: int, size: int | None) -> bytes:
        try:
            if start == 0 and size is None:
                return bytes(self._operator.read(name))
            return bytes(self._operator.read(name, offset=start, size=size))
        except _ERRORS as error:
            answer = answers.read(error)
        if answer.is_beyond_end:
            raise _BeyondEnd
        raise self._error(answer, name)

    def _size(self, name: str) -> int | None:
        """Bytes of an object, None if there is none."""
        try:
            found = self._call(name, lambda: self._operator.stat(name))
        except NoSuchObject:
            return None
        return found.content_length if found.is_file else None

    def _need_size(self, name: str) -> int:
        if (size := self._size(name)) is None:
            raise NoSuchObject(f"{self.place}: {name}: no such object")
        return size

    def _listed(self, prefix: str) -> Iterator[Found]:
        for entry in self._entries(prefix, recursive=True):
            name, what = entry.path, entry.metadata
            if name.endswith("/") or any(part.startswith(".") for part in name.split("/")):
                continue
            modified = what.last_modified
            modified_ns = int(modified.timestamp() * 1000) * 10**6 if modified else 0
            yield Found(name, what.content_length, modified_ns)

    def _entries(self, prefix: str, *, recursive: bool = False) -> Iterator[Entry]:
        """What a listing has, directories too. Raises errors of ours."""
        loop = asyncio.new_event_loop()
        references = sys.getrefcount(loop)
        entries: AsyncIterator[Entry] | None = None
        try:
            entries = loop.run_until_complete(_begun(self._operator, prefix, recursive=recursive))
            while some := loop.run_until_complete(_next_of(entries)):
                yield from some
        except _ERRORS as error:
            answer = answers.read(error)
        else:
            return
        finally:
            entries = None  # it refers to the loop
            _settle(loop, references, self._operator)
            loop.close()
        raise self._error(answer, prefix)

    def _look(self, name: str) -> None:
        """See once whether the bucket or directory is there. Raises RemoteMissing."""
        if self._is_seen:
            return
        if self._service.is_staged:
            self._look_for_directory()
            self._sweep()
        else:
            next(self._entries(""), None)
        self._is_seen = True

    def _look_for_directory(self) -> None:
        top = self._limited(self._top, 0)
        try:
            # The directory above says what is in it; of its root, OpenDAL says "there" unasked.
            self._call("", lambda: top.stat(self._root.lstrip("/") or "/"))
        except NoSuchObject:
            raise RemoteMissing(f"{self.place}: no such directory: make it first") from None

    def _sweep(self) -> None:
        """Remove what writers left that were killed."""
        for entry in list(self._entries(_INCOMING)):
            modified = entry.metadata.last_modified
            if modified and self._clock.time_ns() / 10**9 - modified.timestamp() > _STALE_S:
                self._call("", partial(self._operator.delete, entry.path))

    def _read_only(self, error: RemoteDenied) -> RemoteDenied | RemoteReadOnly:
        """What a denied write is where reading is allowed: a place that takes no writes."""
        try:
            next(self._entries(""), None)
        except RemoteDenied:
            return error
        return RemoteReadOnly(f"{self.place}: it may be read, but not written: {error}")

    def _writer(self, size: int) -> opendal.Operator:
        """The operator whose limit of time fits objects of `size` bytes."""
        step = size.bit_length()
        with self._lock:
            if not (writer := self._writers.get(step)):
                writer = self._writers[step] = self._limited(self._bare, 1 << step)
        return writer

    def _limited(self, operator: opendal.Operator, size: int) -> opendal.Operator:
        limit_s = self._timeout_s + size / self._slowest
        return operator.layer(TimeoutLayer(timeout=self._timeout_s, io_timeout=limit_s))

    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if not self._threads:
                self._threads = ThreadPoolExecutor(_AT_ONCE, "remote")
            return self._threads

    def _call(self, name: str, call: Callable[[], _T]) -> _T:
        """What `call` returns; what it raises as an error of ours, about the object `name`."""
        for turn in range(_LOCKED_TURNS):
            try:
                return call()
            except _ERRORS as error:
                answer = answers.read(error)
            if not answer.is_locked:
                break
            time.sleep(_LOCKED_WAIT_S * (turn + 1))
        raise self._error(answer, name)

    def _error(self, answer: answers.Answer, name: str) -> Exception:
        what = f"{self.place}: {name}".rstrip(": ")
        error = answers.error_of(answer, what, self._clock.time_ns() / 10**9)
        return type(error)(self._hidden(str(error)))

    def _hidden(self, text: str) -> str:
        return self._secrets.hide(text)


def _settle(loop: asyncio.AbstractEventLoop, references: int, operator: opendal.Operator) -> None:
    """Wait until OpenDAL's threads have let go of a loop: after its result one of them needs the
    interpreter once more, and aborts the process if that has ended by then (15 of 25 runs)."""
    deadline = time.monotonic() + _SETTLE_S
    while sys.getrefcount(loop) > references + 1 and time.monotonic() < deadline:
        time.sleep(0.001)
        # Any call into the library drops the references that it could not drop elsewhere.
        operator.capability()


async def _begun(
    operator: opendal.Operator, prefix: str, *, recursive: bool
) -> AsyncIterator[Entry]:
    listing = await operator.to_async_operator().list(prefix, recursive=recursive)
    return aiter(listing)


async def _next_of(entries: AsyncIterator[Entry]) -> list[Entry]:
    """Some more of a listing; nothing at its end."""
    some: list[Entry] = []
    async for entry in entries:
        some.append(entry)
        if len(some) == _LISTED_AT_ONCE:
            break
    return some


class _BeyondEnd(Exception):
    """A range that ends behind the object."""
