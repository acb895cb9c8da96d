r"""Files in an encrypted remote: around others that see neither contents nor names.

::

    file = "FUSEFSF\1" frame+    as in remotes.sealed, of 64 KiB, the last one of the rest
    path = "files/" and what remotes.veiled_paths makes of the plain one

The data key is that of the remote, which its key slots hold; files have subkeys of their own, and
lie beside the objects in a folder that no object is in.

A file comes whole under a new salt, and gets another name when it is complete. So its frames are
tied to each other, and whatever is changed, cut or put together anew is found when it is read; but
they are not tied to the name: who can write there can put one whole file in place of another. The
manifest of a transfer, which is such a file, has the checksums.
"""

import os
import posixpath
from collections.abc import Iterable, Iterator

from fusefs.errors import NoSuchObject, ObjectDamaged
from fusefs.model.keyslot import Random, subkey
from fusefs.remotes import sealed
from fusefs.remotes.api import Buffer
from fusefs.remotes.around import AroundFiles
from fusefs.remotes.files import (
    FileCapabilities,
    Files,
    Reader,
    Seen,
    Writer,
    check_whole,
    read_fully,
)
from fusefs.remotes.sealed import CHUNK_SIZE, FRAME_SIZE, SALT_SIZE
from fusefs.remotes.veiled_paths import PathVeil

FOLDER = b"files"
MAGIC = b"FUSEFSF\x01"
#: What frames are bound to beside their salt and number.
_BOUND = b"file"


class EncryptedFiles(AroundFiles):
    """Those below `base` of what `files`, a whole remote, holds under a data key."""

    def __init__(
        self, files: Files, data_key: bytes, base: bytes = b"", random: Random = os.urandom
    ) -> None:
        super().__init__(files)
        self._key = subkey(data_key, "file content")
        self._veil = PathVeil.of(data_key)
        self._base = posixpath.normpath(b"/" + base).lstrip(b"/")
        self._random = random

    @property
    def place(self) -> str:
        whole = f"{self.files.place} (encrypted)"
        return "/".join(filter(None, (whole, os.fsdecode(self._base))))

    @property
    def capabilities(self) -> FileCapabilities:
        below = self.files.capabilities
        most = below.whole_bytes
        return FileCapabilities(
            can_resume=False,
            whole_bytes=None if most is None else sealed.plain_size(most, len(MAGIC)),
            quiet=below.quiet,
        )

    def look(self, path: bytes) -> Seen | None:
        seen = self.files.look(self._covered(path))
        return None if seen is None else self._seen(path, seen)

    def walk(self, path: bytes) -> Iterator[Seen]:
        """As in the seam; what no holder of the key put there is not listed."""
        begin = self._base + b"/" if self._base else b""
        for seen in self.files.walk(self._covered(path)):
            plain = self._veil.uncover(seen.path.removeprefix(FOLDER + b"/"))
            if plain is not None:
                yield self._seen(plain.removeprefix(begin), seen)

    def has_folder(self, path: bytes) -> bool:
        return self.files.has_folder(self._covered(path))

    def check_fits(self, path: bytes, size: int) -> None:
        self.files.check_fits(self._covered(path), 0)
        check_whole(self, path, size)

    def reader(self, path: bytes) -> Reader:
        """As in the seam; it raises ObjectDamaged too."""
        where = f"{path.decode(errors='backslashreplace')} in {self.place}"
        if (seen := self.look(path)) is None:
            raise NoSuchObject(f"{where} does not exist")
        reader = self.files.reader(self._covered(path))
        try:
            return EncryptedReader(reader, self._key, seen.size, where)
        except BaseException:
            reader.close()
            raise

    def writer(self, path: bytes, start: int) -> Writer:
        raise NotImplementedError(f"{self.place} takes whole files only")

    def patch(self, path: bytes, start: int, content: Buffer) -> None:
        raise NotImplementedError(f"{self.place} takes whole files only")

    def write_whole(self, path: bytes, parts: Iterable[bytes]) -> None:
        self.files.write_whole(self._covered(path), self._sealed(parts))

    def rename(self, path: bytes, new: bytes) -> None:
        self.files.rename(self._covered(path), self._covered(new))

    def remove(self, path: bytes) -> bool:
        return self.files.remove(self._covered(path))

    def remove_folder(self, path: bytes) -> None:
        self.files.remove_folder(self._covered(path))

    def _covered(self, path: bytes) -> bytes:
        """Where the file or folder `path` lies; the empty one is the place itself."""
        below = b"/".join(filter(None, (self._base, path)))
        return b"/".join(filter(None, (FOLDER, self._veil.cover(below))))

    @staticmethod
    def _seen(path: bytes, seen: Seen) -> Seen:
        return Seen(path, sealed.plain_size(seen.size, len(MAGIC)), seen.version)

    def _sealed(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        salt = self._random(SALT_SIZE)
        yield MAGIC
        number, pending = 0, bytearray()
        for part in parts:
            pending += part
            while len(pending) > CHUNK_SIZE:  # the last frame is known when no more comes
                chunk = bytes(pending[:CHUNK_SIZE])
                del pending[:CHUNK_SIZE]
                yield sealed.seal_frame(self._key, _BOUND, salt, number, chunk, is_last=False)
                number += 1
        yield sealed.seal_frame(self._key, _BOUND, salt, number, bytes(pending), is_last=True)


class EncryptedReader:
    """A file of `size` plain bytes; `where` it is, for messages."""

    def __init__(self, reader: Reader, key: bytes, size: int, where: str) -> None:
        """Raises ObjectDamaged where it is empty, and does not say so itself."""
        self._reader = reader
        self._key = key
        self._size = size
        self._where = where
        self._salt = b""
        self._last = max(0, size - 1) // CHUNK_SIZE
        if not size:
            self._opened(0, 0)

    def read(self, start: int, size: int) -> bytes:
        stop = min(start + size, self._size)
        if stop <= start:
            return b""
        first = start // CHUNK_SIZE
        plain = self._opened(first, (stop - 1) // CHUNK_SIZE)
        return plain[start - first * CHUNK_SIZE : stop - first * CHUNK_SIZE]

    def close(self) -> None:
        self._reader.close()

    def _opened(self, first: int, last: int) -> bytes:
        """What is in frames, the last one included."""
        head = 0 if first else len(MAGIC)
        at = len(MAGIC) - head + first * FRAME_SIZE
        raw = read_fully(self._reader, at, head + (last + 1 - first) * FRAME_SIZE)
        if head and raw[:head] != MAGIC:
            raise self._damaged("it is no encrypted file")
        frames = memoryview(raw)[head:]
        try:
            plain, is_end = sealed.unseal(self._key, _BOUND, first, frames)
        except ObjectDamaged as error:
            raise self._damaged(str(error)) from error
        salt = bytes(frames[:SALT_SIZE])
        self._salt = self._salt or salt
        if salt != self._salt or is_end != (last == self._last):
            raise self._damaged("it is not whole, or was put together from several")
        return plain

    def _damaged(self, why: str) -> ObjectDamaged:
        return ObjectDamaged(f"{self._where} is damaged: {why}")
