"""Paths of encrypted files: each part of one is veiled by itself, so that folders stay folders.

::

    path  = part ("/" part)*                part by part, as the plain one
    part  = chunk ("-/" chunk)*             base32 of veil, in small letters, cut after 192 of them:
                                            a name may have 255 bytes, and here no more either
    veil  = iv || field XOR BLAKE3(stream key, iv), as long as the field
    field = the plain part, filled up with zero bytes to 24, 64, 104, 144, 184, 224 or 264
    iv    = keyed BLAKE3 of (the plain path above, 0, field), 16 bytes

The veil is as in `remotes.veil`, and what lies above is bound to it: equal names in two folders do
not look alike, and a part is nothing in another folder. To be seen are how many folders and files
are in each folder, and about how long their names are.
"""

import base64
import binascii
from dataclasses import dataclass, field

from blake3 import blake3

from fusefs.model.keyslot import subkey

_IV_SIZE = 16
#: A veil is a multiple of it, so that its base32 has no padding.
_STEP = 40
_CHUNK = 192


@dataclass(frozen=True)
class PathVeil:
    """The keys under which paths are hidden."""

    iv_key: bytes = field(repr=False)
    stream_key: bytes = field(repr=False)

    @classmethod
    def of(cls, data_key: bytes) -> "PathVeil":
        return cls(subkey(data_key, "path iv"), subkey(data_key, "path stream"))

    def cover(self, path: bytes) -> bytes:
        """The veiled path; of the empty one, the empty one."""
        parts = path.split(b"/") if path else []
        return b"/".join(
            self._cover(b"/".join(parts[:number]), part) for number, part in enumerate(parts)
        )

    def uncover(self, covered: bytes) -> bytes | None:
        """The plain path, or None where `covered` is none of this key."""
        above, token = b"", b""
        for chunk in covered.split(b"/"):
            token += chunk.removesuffix(b"-")
            if chunk.endswith(b"-"):
                continue
            part = self._uncover(above, token)
            if part is None:
                return None
            above, token = above + b"/" + part if above else part, b""
        return above if above and self.cover(above) == covered else None

    def _cover(self, above: bytes, part: bytes) -> bytes:
        size = -(-(_IV_SIZE + len(part)) // _STEP) * _STEP
        plain = part.ljust(size - _IV_SIZE, b"\0")
        iv = self._iv(above, plain)
        token = base64.b32encode(iv + self._streamed(plain, iv)).lower()
        return b"-/".join(token[at : at + _CHUNK] for at in range(0, len(token), _CHUNK))

    def _uncover(self, above: bytes, token: bytes) -> bytes | None:
        try:
            veiled = base64.b32decode(token.upper())
        except binascii.Error:
            return None
        iv = veiled[:_IV_SIZE]
        plain = self._streamed(veiled[_IV_SIZE:], iv)
        return plain.rstrip(b"\0") if self._iv(above, plain) == iv else None

    def _iv(self, above: bytes, plain: bytes) -> bytes:
        return blake3(above + b"\0" + plain, key=self.iv_key).digest(_IV_SIZE)

    def _streamed(self, text: bytes, iv: bytes) -> bytes:
        stream = blake3(iv, key=self.stream_key).digest(len(text))
        size = len(text)
        return (int.from_bytes(text, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")
