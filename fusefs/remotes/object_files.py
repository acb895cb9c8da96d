"""Files in a bucket, or in a directory of a WebDAV share: one object each, under its own path.

An object comes whole, so a file that was cut off is sent again from its begin. It comes under a
temporary name, is read back from there, and then copied to its final name by the service, which
has it whole or not at all. Where the service can, a large one is written in parts, so that it is
seen to move: ending that after an error makes an object of the parts written so far, which is no
harm under that name. A kill, or a connection that is lost, leaves an upload in an S3 bucket: it is
aborted before the same object is written again, and with the folder of the temporaries at the
latest. Their names have the id of a transfer in them, so no upload is touched that is not ours.

Empty directories do not exist. Names must be UTF-8, and paths without empty parts.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from os import urandom
from typing import TYPE_CHECKING

from fusefs.errors import (
    BadRemote,
    BadTransfer,
    NoSuchObject,
    RemoteDenied,
    RemoteError,
    RemoteUnreachable,
)
from fusefs.remotes.address import Address, need
from fusefs.remotes.api import MAX_OBJECT_BYTES, Buffer
from fusefs.remotes.files import (
    PROBE,
    FileCapabilities,
    Quiet,
    ReadAhead,
    Reader,
    Seen,
    Writer,
    check_whole,
)
from fusefs.remotes.object_store import COPIED_BYTES_PER_S, ObjectStore
from fusefs.remotes.secrets import Secrets

if TYPE_CHECKING:
    from fusefs.remotes.multipart import Uploads

#: Most services copy an object of at most so many bytes by one request.
_COPY_MAX_BYTES = 5 << 30
#: What goes in one request where there can be several, and what is read at one time.
_PART_BYTES = 8 << 20


class ObjectFiles:
    """Those below an address."""

    def __init__(self, address: Address, secrets: Secrets) -> None:
        """Raises BadRemote where the service has no way from one name to another."""
        self._store = ObjectStore(address, secrets)
        self._address, self._secrets = address, secrets
        self._known_uploads: Uploads | None = None
        self.place = address.place
        self._operator = self._store.operator
        can = self._operator.capability()
        self._can_rename = bool(can.rename)
        self._can_send_parts = bool(can.write_can_multi)
        if not (can.rename or can.copy):
            raise BadRemote(f"{self.place}: this service cannot copy objects, so no transfers")
        most = _COPY_MAX_BYTES if self._can_send_parts else MAX_OBJECT_BYTES
        self._piece = _PART_BYTES if self._can_send_parts else MAX_OBJECT_BYTES
        copied = 0 if self._can_rename else COPIED_BYTES_PER_S
        quiet = Quiet(self._store.timeout_s, self._piece, self._store.slowest, copied)
        self.capabilities = FileCapabilities(can_resume=False, whole_bytes=most, quiet=quiet)

    def look(self, path: bytes) -> Seen | None:
        name = self._name(path)
        self._store.look()
        try:
            found = self._store.call(name, partial(self._operator.stat, name))
        except NoSuchObject:
            return None
        if not found.is_file:
            return None
        tag = found.etag or found.last_modified
        return Seen(path, found.content_length, f"{found.content_length}.{tag}")

    def walk(self, path: bytes) -> Iterator[Seen]:
        prefix = self._prefix(path)
        self._store.look()
        for entry in self._store.entries(prefix, recursive=True):
            name = entry.path
            if not name.endswith("/") and not name.startswith(PROBE.decode()):
                yield Seen(name.encode(), entry.metadata.content_length, "")

    def has_folder(self, path: bytes) -> bool:
        return not path or next(self.walk(path), None) is not None

    def check_readable(self) -> None:
        self._store.look()
        next(self._store.entries(""), None)

    def check_writable(self) -> None:
        self.check_readable()
        probe = PROBE.decode() + urandom(6).hex()
        self._write(probe, b"")
        self._store.call(probe, partial(self._operator.delete, probe))

    def check_fits(self, path: bytes, size: int) -> None:
        self._name(path)
        check_whole(self, path, size)

    def reader(self, path: bytes) -> Reader:
        if (seen := self.look(path)) is None:
            raise NoSuchObject(f"{self.place}: {self._name(path)}: no such object")
        name, length = self._name(path), seen.size

        def read(start: int, size: int) -> bytes:
            wanted = min(size, length - start)
            return self._store.read(name, start, wanted) if wanted > 0 else b""

        return ReadAhead(read, _PART_BYTES)

    def writer(self, path: bytes, start: int) -> Writer:
        raise NotImplementedError(f"{self.place} takes whole files only")

    def patch(self, path: bytes, start: int, content: Buffer) -> None:
        raise NotImplementedError(f"{self.place} takes whole files only")

    def write_whole(self, path: bytes, parts: Iterable[bytes]) -> None:
        name = self._name(path)
        self._store.look()
        pending = iter(parts)
        first = bytearray()
        for part in pending:
            first += part
            if len(first) > self._piece:
                break
        else:
            self._write(name, bytes(first))
            return
        if not self._can_send_parts:
            check_whole(self, path, len(first))
        if uploads := self._uploads():
            key = self._key(name)
            uploads.abort(key, lambda found: found == key)
        operator = self._store.writer(_PART_BYTES)
        try:
            opened = partial(operator.open, name, "wb", chunk=_PART_BYTES)
            file = self._store.call(name, opened)
            try:
                self._store.call(name, partial(file.write, bytes(first)))
                del first
                for part in pending:
                    self._store.call(name, partial(file.write, part))
            except RemoteUnreachable:
                raise  # ending it would wait for the same line once more
            except BaseException:
                with suppress(RemoteError):
                    self._store.call(name, file.close)
                raise
            self._store.call(name, file.close)
        except RemoteDenied as error:
            raise self._store.read_only(error) from None

    def rename(self, path: bytes, new: bytes) -> None:
        name, final = self._name(path), self._name(new)
        if self._can_rename:
            self._store.call(final, partial(self._operator.rename, name, final))
            return
        copier = self._store.copier(self._store.size(name) or 0)
        self._store.call(final, partial(copier.copy, name, final))
        self._store.call(name, partial(self._operator.delete, name))

    def remove(self, path: bytes) -> bool:
        name = self._name(path)
        if self.look(path) is None:
            return False
        self._store.call(name, partial(self._operator.delete, name))
        return True

    def remove_folder(self, path: bytes) -> None:
        prefix = self._prefix(path)
        if prefix and (uploads := self._uploads()):
            uploads.abort(self._key(prefix))
        self._store.call(prefix, partial(self._operator.remove_all, prefix))

    def free_bytes(self) -> int | None:
        return None

    def room(self) -> str:
        return ""

    def close(self) -> None:
        """Nothing is kept open."""

    def _write(self, name: str, content: bytes) -> None:
        writer = self._store.writer(len(content))
        try:
            self._store.call(name, partial(writer.write, name, content))
        except RemoteDenied as error:
            raise self._store.read_only(error) from None

    def _uploads(self) -> "Uploads | None":
        """Those in this bucket; None where the service leaves none behind."""
        if self._store.service.keeps_uploads and not self._known_uploads:
            self._known_uploads = need("botocore", "s3", _import_uploads)(
                self._address, self._secrets
            )
        return self._known_uploads

    def _key(self, name: str) -> str:
        """A name as the bucket has it."""
        return f"{self._address.path.strip('/')}/{name}".lstrip("/")

    def _name(self, path: bytes) -> str:
        try:
            name = path.decode()
        except UnicodeDecodeError:
            shown = path.decode(errors="backslashreplace")
            raise BadTransfer(f"{shown}: a name in {self.place} must be UTF-8") from None
        return name

    def _prefix(self, path: bytes) -> str:
        return f"{self._name(path)}/" if path else ""


def _import_uploads() -> type["Uploads"]:
    from fusefs.remotes.multipart import Uploads

    return Uploads
