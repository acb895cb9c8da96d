"""Object stores and WebDAV as remotes.

A write to WebDAV that was cut off leaves its part there under the name: objects are written aside
and renamed. Missing parent directories are made, which is wanted, and a missing share is, which is
not: it is looked for before anything else.
"""

import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from os import urandom

from fusefs.errors import RemoteDenied
from fusefs.remotes.address import Address
from fusefs.remotes.api import Buffer, Capabilities, Found
from fusefs.remotes.names import check_name, check_prefix
from fusefs.remotes.object_store import ObjectStore
from fusefs.remotes.secrets import Secrets

#: Asked for one by one up to here, and by a listing beyond.
_FEW = 64
_AT_ONCE = 8
_INCOMING = ".incoming/"
#: Left there by a writer that was killed, without doubt.
_STALE_S = 86400


class ObjectRemote:
    """Objects in a bucket, or in a directory of a WebDAV share."""

    def __init__(self, address: Address, secrets: Secrets) -> None:
        """Raises BadRemote. Nothing is sent."""
        self.place = address.place
        self._store = ObjectStore(address, secrets)
        is_conditional = self._store.service.is_conditional
        self.capabilities = Capabilities(
            is_conditional=is_conditional and address.options.get("conditional", True)
        )
        self._stripes = [threading.Lock() for _ in range(64)]
        self._lock = threading.Lock()
        self._has_swept = False
        self._threads: ThreadPoolExecutor | None = None

    def put(self, name: str, content: Buffer) -> bool:
        check_name(name)
        self._look()
        whole = bytes(content)
        try:
            if self.capabilities.is_conditional:
                return self._store.put_if_none(name, whole)
            # At least the threads of this process do not meet.
            with self._stripes[hash(name) % len(self._stripes)]:
                return self._put_after_a_look(name, whole)
        except RemoteDenied as error:
            raise self._store.read_only(error) from None

    def get(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        check_name(name)
        self._look()
        return self._store.read(name, start, size)

    def sizes(self, names: Collection[str]) -> dict[str, int]:
        wanted = {check_name(name) for name in names}
        if not wanted:
            return {}
        self._look()
        if len(wanted) == 1:
            found = [(name, self._store.size(name)) for name in wanted]
        elif len(wanted) <= _FEW:
            found = list(self._pool().map(lambda name: (name, self._store.size(name)), wanted))
        else:
            below = {name[: name.rfind("/") + 1] for name in wanted}
            found = [(name, size) for prefix in below for name, size, _ in self._listed(prefix)]
        return {name: size for name, size in found if size is not None and name in wanted}

    def list(self, prefix: str) -> Iterator[Found]:
        check_prefix(prefix)
        self._look()
        yield from self._listed(prefix)

    def delete(self, name: str) -> bool:
        check_name(name)
        self._look()
        if self._store.size(name) is None:
            return False
        try:
            self._store.call(name, lambda: self._store.operator.delete(name))
        except RemoteDenied as error:
            raise self._store.read_only(error) from None
        return True

    def free_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        if self._threads:
            self._threads.shutdown()

    def _put_after_a_look(self, name: str, whole: bytes) -> bool:
        if self._store.size(name) is not None:
            return False
        writer = self._store.writer(len(whole))
        if not self._store.service.is_staged:
            self._store.call(name, partial(writer.write, name, whole))
            return True
        aside = f"{_INCOMING}{urandom(12).hex()}"
        self._store.call(name, partial(writer.write, aside, whole))
        # Much time may have passed.
        if self._store.size(name) is not None:
            self._store.call(name, partial(self._store.operator.delete, aside))
            return False
        self._store.call(name, partial(self._store.operator.rename, aside, name))
        return True

    def _listed(self, prefix: str) -> Iterator[Found]:
        for entry in self._store.entries(prefix, recursive=True):
            name, what = entry.path, entry.metadata
            if name.endswith("/") or any(part.startswith(".") for part in name.split("/")):
                continue
            modified = what.last_modified
            modified_ns = int(modified.timestamp() * 1000) * 10**6 if modified else 0
            yield Found(name, what.content_length, modified_ns)

    def _look(self) -> None:
        """See once whether the place is there, and tidy it up. Raises RemoteMissing."""
        self._store.look()
        if self._store.service.is_staged and not self._has_swept:
            self._sweep()
            self._has_swept = True

    def _sweep(self) -> None:
        """Remove what writers left that were killed."""
        for entry in list(self._store.entries(_INCOMING)):
            modified = entry.metadata.last_modified
            if modified and time.time() - modified.timestamp() > _STALE_S:
                self._store.call("", partial(self._store.operator.delete, entry.path))

    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if not self._threads:
                self._threads = ThreadPoolExecutor(_AT_ONCE, "remote")
            return self._threads
