"""An encrypted object, byte by byte.

::

    object = head frame+
    head   = "FUSEFSX" version:u8=1  veiled name:216       224 bytes; the name as in remotes.veil
    frame  = salt:19 last:u8  ciphertext  tag:16           of 64 KiB of the plain object, the last
                                                           one of the rest, which may be nothing

Each frame is XChaCha20-Poly1305 under the content key; its nonce is ``salt || number:u32be ||
last:u8``, the associated data the plain name. That is the STREAM construction (Hoang,
Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance, 2015). The salt is random for each object and so ties its frames to each other;
it is repeated in every frame, so that a range is read, decrypted and verified by itself, by one
request. A frame that was flipped, moved, dropped or taken from another object or another version
of this one does not verify, and an object ends only where a frame says that it is the last.

The head serves listings alone (remotes.veil): who reads from the first byte verifies it as well.

What a store writes once is never encrypted twice under one salt: 2^-152 for a pair of objects.
"""

from collections.abc import Iterator
from typing import NamedTuple

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from fusefs.errors import ObjectDamaged

CHUNK_SIZE = 64 << 10
MAGIC = b"FUSEFSX\x01"
SALT_SIZE = 19
_TAG_SIZE = 16
_FRAME_OVERHEAD = SALT_SIZE + 1 + _TAG_SIZE
FRAME_SIZE = CHUNK_SIZE + _FRAME_OVERHEAD
_VEILED_NAME_SIZE = 216
HEAD_SIZE = len(MAGIC) + _VEILED_NAME_SIZE


class Frames(NamedTuple):
    """What some frames of an object hold; `is_end`: the object ends with them."""

    plain: bytes
    is_end: bool


def head(veiled_name: bytes) -> bytes:
    """What an object of that name begins with."""
    return MAGIC + veiled_name


def veiled_name(start: bytes) -> bytes | None:
    """The veiled name in the first bytes of an object, or None where they are no head."""
    if len(start) < HEAD_SIZE or not start.startswith(MAGIC):
        return None
    return start[len(MAGIC) : HEAD_SIZE]


def seal(key: bytes, name: bytes, salt: bytes, content: memoryview) -> Iterator[bytes]:
    """The frames of an object."""
    count = max(1, -(-len(content) // CHUNK_SIZE))
    for number in range(count):
        chunk = bytes(content[number * CHUNK_SIZE : (number + 1) * CHUNK_SIZE])
        yield seal_frame(key, name, salt, number, chunk, is_last=number == count - 1)


def seal_frame(
    key: bytes, name: bytes, salt: bytes, number: int, chunk: bytes, *, is_last: bool
) -> bytes:
    """One of the frames, of 64 KiB if it is not the last."""
    last = bytes([is_last])
    nonce = salt + number.to_bytes(4, "big") + last
    return salt + last + crypto_aead_xchacha20poly1305_ietf_encrypt(chunk, name, nonce, key)


def unseal(key: bytes, name: bytes, first: int, frames: memoryview) -> Frames:
    """What is in `frames`, the first of which has the number `first`, and must be whole.

    Raises ObjectDamaged; the message is the reason, without the object.
    """
    parts = []
    salt, is_end = b"", False
    for number, at in enumerate(range(0, len(frames), FRAME_SIZE), first):
        frame = frames[at : at + FRAME_SIZE]
        its_salt, last = bytes(frame[:SALT_SIZE]), bytes(frame[SALT_SIZE : SALT_SIZE + 1])
        if its_salt != (salt or its_salt) or last not in (b"\0", b"\1"):
            raise ObjectDamaged("it was put together from parts that do not belong together")
        salt, is_end = its_salt, last == b"\1"
        nonce = salt + number.to_bytes(4, "big") + last
        try:
            plain = crypto_aead_xchacha20poly1305_ietf_decrypt(
                bytes(frame[SALT_SIZE + 1 :]), name, nonce, key
            )
        except (CryptoError, ValueError) as error:
            raise ObjectDamaged(f"its part {number} does not verify") from error
        parts.append(plain)
    return Frames(b"".join(parts), is_end)


def plain_size(sealed: int, head_size: int = HEAD_SIZE) -> int:
    """Bytes of the plain object for an encrypted one, with a head of that size.

    Where there is none of that size, what its frames could hold at most: reading tells the damage.
    """
    whole, rest = divmod(max(0, sealed - head_size), FRAME_SIZE)
    return whole * CHUNK_SIZE + max(0, rest - _FRAME_OVERHEAD)
