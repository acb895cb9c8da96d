"""A bucket, or a directory of a WebDAV share, through OpenDAL's synchronous operators.

Traps of the library, all met:

- Its exceptions share no base class, and their text holds the request: see `answers`. Those of an
  opened file are of the class OSError, with the same text.
- Leaving an opened file by an exception commits the part written so far, and raises what comes of
  that instead.
- The time limit for input and output holds for a whole write, not for each piece of it: at the
  default of 10 s no 16 MiB object could ever be written below 1.6 MB/s. It is set by size here.
- A range that ends behind the object is an error ("too little data"), one that begins there too.
- A request about a single object cannot tell a missing bucket from a missing object, and some
  services make a bucket that is written to: it is looked for before anything else.
- The iterator of a listing waits for the network without letting go of the interpreter's lock: a
  service that stalls would stop every thread of the process. Its asynchronous twin does not, so
  listings have an event loop of their own, in the thread that asks.
- A forked child hangs: operators are made in the process that uses them.
"""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

import opendal
from opendal import exceptions
from opendal.layers import TimeoutLayer
from opendal.types import Entry

from fusefs.errors import BadRemote, NoSuchObject, RemoteDenied, RemoteMissing, RemoteReadOnly
from fusefs.remotes import answers
from fusefs.remotes.address import Address
from fusefs.remotes.secrets import Secrets
from fusefs.remotes.services import SERVICES

_TIMEOUT_S = 30.0
_SLOWEST_BYTES_PER_S = 64 << 10
#: A service that copies an object by itself does so many bytes a second at least.
COPIED_BYTES_PER_S = 4 << 20
_LISTED_AT_ONCE = 1000
_SETTLE_S = 1.0
#: Where another is just writing: WebDAV servers lock a directory while they make one in it.
_LOCKED_TURNS = 20
_LOCKED_WAIT_S = 0.02
_ERRORS: tuple[type[Exception], ...] = tuple(
    value
    for value in vars(exceptions).values()
    if isinstance(value, type) and issubclass(value, Exception)
)
_CALL_ERRORS: tuple[type[Exception], ...] = (*_ERRORS, OSError)
_T = TypeVar("_T")


class ObjectStore:
    """The place of an address. `operator`: for calls that are short; errors come out by `call`."""

    def __init__(self, address: Address, secrets: Secrets) -> None:
        """Raises BadRemote. Nothing is sent."""
        self.place = address.place
        self.service = SERVICES[address.scheme]
        self._secrets = secrets
        self.timeout_s: float = address.options.get("timeout", _TIMEOUT_S)
        self.slowest: int = address.options.get("slowest", _SLOWEST_BYTES_PER_S)
        self._root = f"/{address.path.strip('/')}/".replace("//", "/")
        settings = self.service.settings(address, secrets)
        try:
            self._bare = opendal.Operator(self.service.scheme, root=self._root, **settings)
            self._top = opendal.Operator(self.service.scheme, root="/", **settings)
        except _ERRORS as error:
            raise BadRemote(f"{self.place}: {self._hidden(answers.read(error).message)}") from None
        self.operator = self._limited(self._bare, 0)
        self._writers: dict[int, opendal.Operator] = {}
        self._lock = threading.Lock()
        self._is_seen = False

    def look(self) -> None:
        """See once whether the bucket or directory is there. Raises RemoteMissing."""
        if self._is_seen:
            return
        if self.service.is_staged:
            self._look_for_directory()
        else:
            next(self.entries(""), None)
        self._is_seen = True

    def _look_for_directory(self) -> None:
        top = self._limited(self._top, 0)
        try:
            # The directory above says what is in it; of its root, OpenDAL says "there" unasked.
            self.call("", lambda: top.stat(self._root.lstrip("/") or "/"))
        except NoSuchObject:
            raise RemoteMissing(f"{self.place}: no such directory: make it first") from None

    def put_if_none(self, name: str, whole: bytes) -> bool:
        """Store an object if there is none of that name; whether there was none."""
        try:
            self.writer(len(whole)).write(name, whole, if_not_exists=True)
        except _ERRORS as error:
            answer = answers.read(error)
            if answer.exists:
                return False
        else:
            return True
        raise self._error(answer, name)

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """A part of an object; fewer bytes where it ends before. Raises NoSuchObject."""
        content = self._range(name, start, size)
        if content is not None:
            return content
        length = self.size(name)
        if length is None:
            raise NoSuchObject(f"{self.place}: {name}: no such object")
        end = length if size is None else min(length, start + size)
        return (self._range(name, start, end - start) or b"") if start < end else b""

    def _range(self, name: str, start: int, size: int | None) -> bytes | None:
        """None where the range is not all within the object, or nothing."""
        if size == 0:
            return None
        try:
            if start == 0 and size is None:
                return bytes(self.operator.read(name))
            return bytes(self.operator.read(name, offset=start, size=size))
        except _ERRORS as error:
            answer = answers.read(error)
        if answer.is_beyond_end:
            return None
        raise self._error(answer, name)

    def size(self, name: str) -> int | None:
        """Bytes of an object, None if there is none."""
        try:
            found = self.call(name, lambda: self.operator.stat(name))
        except NoSuchObject:
            return None
        return found.content_length if found.is_file else None

    def entries(self, prefix: str, *, recursive: bool = False) -> Iterator[Entry]:
        """What a listing has, directories too. Raises errors of ours."""
        loop = asyncio.new_event_loop()
        references = sys.getrefcount(loop)
        entries: AsyncIterator[Entry] | None = None
        try:
            entries = loop.run_until_complete(_begun(self.operator, prefix, recursive=recursive))
            while some := loop.run_until_complete(_next_of(entries)):
                yield from some
        except _ERRORS as error:
            answer = answers.read(error)
        else:
            return
        finally:
            entries = None  # it refers to the loop
            _settle(loop, references, self.operator)
            loop.close()
        raise self._error(answer, prefix)

    def read_only(self, error: RemoteDenied) -> RemoteDenied | RemoteReadOnly:
        """What a denied write is where reading is allowed: a place that takes no writes."""
        try:
            next(self.entries(""), None)
        except RemoteDenied:
            return error
        return RemoteReadOnly(f"{self.place}: it may be read, but not written: {error}")

    def writer(self, size: int) -> opendal.Operator:
        """The operator whose limit of time fits objects of `size` bytes."""
        step = size.bit_length()
        with self._lock:
            if not (writer := self._writers.get(step)):
                writer = self._writers[step] = self._limited(self._bare, 1 << step)
        return writer

    def copier(self, size: int) -> opendal.Operator:
        """The operator whose limit of time fits the copying of objects of `size` bytes."""
        limit_s = self.timeout_s + size / COPIED_BYTES_PER_S
        return self._bare.layer(TimeoutLayer(timeout=limit_s, io_timeout=limit_s))

    def _limited(self, operator: opendal.Operator, size: int) -> opendal.Operator:
        limit_s = self.timeout_s + size / self.slowest
        return operator.layer(TimeoutLayer(timeout=self.timeout_s, io_timeout=limit_s))

    def call(self, name: str, call: Callable[[], _T]) -> _T:
        """What `call` returns; what it raises as an error of ours, about the object `name`."""
        for turn in range(_LOCKED_TURNS):
            try:
                return call()
            except _CALL_ERRORS as error:
                answer = answers.read(error)
            if not answer.is_locked:
                break
            time.sleep(_LOCKED_WAIT_S * (turn + 1))
        raise self._error(answer, name)

    def _error(self, answer: answers.Answer, name: str) -> Exception:
        what = f"{self.place}: {name}".rstrip(": ")
        error = answers.error_of(answer, what, time.time())
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
