"""Contents of blocks, encrypted: how they are sealed, named and found again in a store with a key.

From the data key of the store (model.keyslot) come three others, by BLAKE3 derive_key::

    block name    name   = BLAKE3 keyed(name key, BLAKE3 of the plain content)
    block digest  veiled = BLAKE3 of the plain content  XOR  BLAKE3 keyed(digest key, name)
    block content payload = nonce:24 ciphertext tag:16
                  XChaCha20-Poly1305(content key, nonce, content, maybe compressed;
                                     associated data: "fusefs block" codec:u8 name:32)

The *name* stands wherever a plain store has the BLAKE3 of a block: in its record, in its row, in
the hints. Equal content has one name in one store, so it is found and stored once; without the key
nobody can tell from a name whether the store holds a content that he knows.

Who knows the digest finds the name: senders ask by plain digests, as they ask any store. The other
way, from the row of a block to its digest, goes through `veiled`, which stands in the row. Name and
veiled digest together are the synthetic initial vector and the ciphertext of a deterministic
encryption (Rogaway, Shrimpton: The SIV Construction, 2006).

The nonce is random and stands with its block: a content that is written again after damage, or
compressed by another version of zstd, is not the same plaintext, so no nonce is made of its name.
Two of 24 random bytes never meet. The name is bound to the ciphertext: what verifies is the
content of that name, sealed by who has the key, and need not be hashed once more.
"""

import os

from blake3 import blake3

from fusefs.model import keyslot
from fusefs.model.keyslot import Random

NONCE_SIZE = 24
#: By how much a sealed content is longer.
OVERHEAD = NONCE_SIZE + 16


class Cipher:
    """The keys of an encrypted store. Its methods may be called in any thread."""

    __slots__ = ("_content", "_digest", "_name", "_random", "key_id")

    def __init__(self, data_key: bytes, random: Random = os.urandom) -> None:
        self.key_id = keyslot.key_id(data_key)
        self._name = keyslot.subkey(data_key, "block name")
        self._digest = keyslot.subkey(data_key, "block digest")
        self._content = keyslot.subkey(data_key, "block content")
        self._random = random

    def __repr__(self) -> str:
        return f"<cipher of the key {self.key_id}>"

    def name(self, digest: bytes) -> bytes:
        """The name of the content with this BLAKE3."""
        return blake3(digest, key=self._name).digest()

    def veil(self, name: bytes, digest: bytes) -> bytes:
        """The BLAKE3 of the content of that name, hidden; of a hidden one, the BLAKE3."""
        mask = blake3(name, key=self._digest).digest()
        return (int.from_bytes(mask, "big") ^ int.from_bytes(digest, "big")).to_bytes(32, "big")

    def seal(self, codec: int, name: bytes, content: bytes | bytearray | memoryview) -> bytes:
        """What is stored of `content`, which is that of a block, by `codec`."""
        from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt  # as in keyslot

        nonce = self._random(NONCE_SIZE)
        return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(
            bytes(content), _bound(codec, name), nonce, self._content
        )

    def unseal(self, codec: int, name: bytes, payload: bytes | memoryview) -> bytes | None:
        """What was sealed, or None where this is not what `seal` made for that block."""
        from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt
        from nacl.exceptions import CryptoError

        try:
            return crypto_aead_xchacha20poly1305_ietf_decrypt(
                bytes(payload[NONCE_SIZE:]),
                _bound(codec, name),
                bytes(payload[:NONCE_SIZE]),
                self._content,
            )
        except (CryptoError, ValueError):
            return None


def _bound(codec: int, name: bytes) -> bytes:
    return b"fusefs block" + bytes([codec]) + name
