"""Names of encrypted objects: nothing of the plain name is visible, and listing gives it back.

::

    object name = folder "/" token                      32 and 160 characters, whatever the name
    folder      = keyed BLAKE3 of the first part of the plain name ("" where it has but one), 16
                  bytes in hex: all of ``segments/`` is in one folder, and can be listed
    token       = base32 of veil(name, 84), in small letters; of a longer name 64 hex digits of its
                  keyed BLAKE3: the name is then read from the head of the object
    veil(name, width)
                = iv || field XOR BLAKE3(stream key, iv), as long as the field
    field       = the name, filled up with zero bytes to `width`
    iv          = keyed BLAKE3 of the field, 16 bytes

The veil is the SIV construction (Rogaway and Shrimpton: Deterministic Authenticated-Encryption,
2006), with keyed BLAKE3 as the pseudorandom function and its extendable output as the stream: the
same name is always veiled alike, which is what lets an object be found, and what was tampered with
or made by others is told from a name. To be seen are how many objects each folder holds, and that
the same name came back after it was deleted.
"""

import base64
import binascii
import re
from dataclasses import dataclass, field

from blake3 import blake3

from fusefs.model.keyslot import subkey
from fusefs.remotes.api import MAX_NAME_BYTES

#: Wide enough for a folder and a BLAKE3 in hex; 100 bytes are 160 characters of base32.
SHORT_NAME_BYTES = 84
_IV_SIZE = 16
_TOKEN_LENGTH = (_IV_SIZE + SHORT_NAME_BYTES) * 8 // 5
_LONG_TOKEN = re.compile(r"[0-9a-f]{64}")
_VEILED = re.compile(r"[0-9a-f]{32}/[0-9a-z]+")


@dataclass(frozen=True)
class Veil:
    """The keys under which names are hidden."""

    folder_key: bytes = field(repr=False)
    token_key: bytes = field(repr=False)
    iv_key: bytes = field(repr=False)
    stream_key: bytes = field(repr=False)

    @classmethod
    def of(cls, data_key: bytes) -> "Veil":
        purposes = "name folder", "name token", "name iv", "name stream"
        return cls(*(subkey(data_key, purpose) for purpose in purposes))

    def folder(self, name_or_prefix: str) -> str:
        """The folder that holds the object, or all with the prefix, which is not empty."""
        first, slash, _ = name_or_prefix.partition("/")
        return blake3((first if slash else "").encode(), key=self.folder_key).hexdigest()[:32]

    def cover(self, name: str) -> str:
        """The name of the encrypted object."""
        if len(name) > SHORT_NAME_BYTES:
            token = blake3(name.encode(), key=self.token_key).hexdigest()
        else:
            token = base64.b32encode(self._veil(name, SHORT_NAME_BYTES)).decode().lower()
        return f"{self.folder(name)}/{token}"

    def uncover(self, covered: str) -> str | None:
        """The plain name, or None where `covered` is none of this key, or only its head tells."""
        token = covered.partition("/")[2]
        if len(token) != _TOKEN_LENGTH:
            return None
        try:
            name = self._unveil(base64.b32decode(token.upper()))
        except binascii.Error:
            return None
        return name if name is not None and self.cover(name) == covered else None

    @staticmethod
    def is_covered(covered: str) -> bool:
        """Whether it could be the name of an encrypted object."""
        return _VEILED.fullmatch(covered) is not None

    @staticmethod
    def is_long(covered: str) -> bool:
        """Whether only the head tells the plain name."""
        return _LONG_TOKEN.fullmatch(covered.partition("/")[2]) is not None

    def head(self, name: str) -> bytes:
        """The name as it stands in the head of its object."""
        return self._veil(name, MAX_NAME_BYTES)

    def name_in_head(self, veiled: bytes, covered: str) -> str | None:
        """The plain name of the object `covered`, whose head has `veiled`, or None as `uncover`."""
        name = self._unveil(veiled)
        return name if name is not None and self.cover(name) == covered else None

    def _veil(self, name: str, width: int) -> bytes:
        plain = name.encode().ljust(width, b"\0")
        iv = blake3(plain, key=self.iv_key).digest(_IV_SIZE)
        return iv + self._streamed(plain, iv)

    def _unveil(self, veiled: bytes) -> str | None:
        iv = veiled[:_IV_SIZE]
        plain = self._streamed(veiled[_IV_SIZE:], iv)
        if blake3(plain, key=self.iv_key).digest(_IV_SIZE) != iv:
            return None
        return plain.rstrip(b"\0").decode()

    def _streamed(self, text: bytes, iv: bytes) -> bytes:
        stream = blake3(iv, key=self.stream_key).digest(len(text))
        size = len(text)
        return (int.from_bytes(text, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")
