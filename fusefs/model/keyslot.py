"""A key slot: a data key wrapped by one passphrase or one key file, as JSON.

What is encrypted is so under a random data key of 32 bytes, which never changes. Each slot holds
that key wrapped by another secret: a secret is added or replaced by writing a slot, and nothing
that was encrypted is written again. Somebody who once had the data key keeps it: after a secret
became known to others, a new slot does not help, a new data key (so a new remote) does.

::

    slot     = {"kind": "passphrase" | "key file", "label": for people, "created": UTC,
                "key_id": hex 16, "nonce": hex 24, "wrapped": hex 48,
                "kdf": null or {"name": "argon2id", "passes", "memory_kib", "lanes",
                                "salt": hex 16},
                "format": "fusefs key slot", "version": 1}
    key_id   = BLAKE3 derive_key("fusefs 2026 key id", data key), 16 bytes
    wrapped  = XChaCha20-Poly1305(wrapping key, nonce, data key,
                                  associated data: "fusefs key slot 1" 0 kind 0 key_id)
    wrapping key
             = argon2id(passphrase in UTF-8 and NFC, salt), or, of a key file,
               BLAKE3 derive_key("fusefs 2026 key file", its bytes)

`key_id` tells data keys apart and gives nothing away. The strength of argon2id is the second
recommendation of RFC 9106; what a slot asks for is bounded, because whoever can write a slot could
otherwise have its readers allocate all memory.

The ciphers are imported where they are used: every command reads what a store is, with its slots,
and most stores have none.
"""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from blake3 import blake3

KEY_SIZE = 32
#: Of one store or remote, numbered from 1; each one tried with a passphrase costs its time.
MAX_SLOTS = 16
#: More is no slot.
MAX_SLOT_BYTES = 4096
#: A key file: at least what cannot be guessed, at most what is surely not another file by mistake.
MIN_KEY_FILE_BYTES, MAX_KEY_FILE_BYTES = KEY_SIZE, 64 << 10

_NONCE_SIZE = 24
_SALT_SIZE = 16
_KEY_ID_SIZE = 16
#: What a slot that is read may ask for at most: 1 GiB, some seconds.
_MAX_MEMORY_KIB, _MAX_PASSES, _MAX_LANES = 1 << 20, 16, 16

Kind = Literal["passphrase", "key file"]
Random = Callable[[int], bytes]


@dataclass(frozen=True)
class Secret:
    """What opens a slot: a passphrase in UTF-8, or the bytes of a key file. Never shown."""

    kind: Kind
    material: bytes = field(repr=False)


@dataclass(frozen=True)
class Strength:
    """What argon2id costs: passes over `memory_kib` of memory, by `lanes` threads."""

    passes: int = 3
    memory_kib: int = 64 << 10
    lanes: int = 4


class _Argon(msgspec.Struct, forbid_unknown_fields=True):
    name: Literal["argon2id"]
    passes: int
    memory_kib: int
    lanes: int
    salt: str


class Slot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As in the picture above."""

    kind: Kind
    label: str
    created: str
    key_id: str
    nonce: str
    wrapped: str
    kdf: _Argon | None
    format: Literal["fusefs key slot"] = "fusefs key slot"
    version: Literal[1] = 1


def passphrase(text: str) -> Secret:
    """The secret of a passphrase; one with accents opens whatever keyboard it was typed on.

    Raises ValueError where it is empty.
    """
    if not text:
        raise ValueError("an empty passphrase protects nothing")
    return Secret("passphrase", unicodedata.normalize("NFC", text).encode())


def key_file(content: bytes) -> Secret:
    """The secret of a key file, all its bytes. Raises ValueError where they are too few or many."""
    if not MIN_KEY_FILE_BYTES <= len(content) <= MAX_KEY_FILE_BYTES:
        raise ValueError(
            f"a key file has {MIN_KEY_FILE_BYTES} bytes to {MAX_KEY_FILE_BYTES >> 10} KiB, and"
            " that is not what this one has: make one with 'head -c 32 /dev/urandom > FILE'"
        )
    return Secret("key file", content)


def key_id(data_key: bytes) -> str:
    """What tells one data key from another."""
    return subkey(data_key, "key id")[:_KEY_ID_SIZE].hex()


def subkey(key: bytes, purpose: str) -> bytes:
    """The key for one `purpose`, which tells nothing of `key` or of those for others."""
    return blake3(key, derive_key_context=f"fusefs 2026 {purpose}").digest()


def wrap(
    data_key: bytes,
    secret: Secret,
    *,
    label: str,
    created: str,
    random: Random,
    strength: Strength | None = None,
) -> Slot:
    """A slot in which `secret` finds `data_key`."""
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt

    kdf = None
    if secret.kind == "passphrase":
        cost = strength or Strength()
        salt = random(_SALT_SIZE).hex()
        kdf = _Argon("argon2id", cost.passes, cost.memory_kib, cost.lanes, salt)
    its_id, nonce = key_id(data_key), random(_NONCE_SIZE)
    wrapped = crypto_aead_xchacha20poly1305_ietf_encrypt(
        data_key, _bound(secret.kind, its_id), nonce, _wrapping_key(secret, kdf)
    )
    return Slot(secret.kind, label, created, its_id, nonce.hex(), wrapped.hex(), kdf)


def unwrap(slot: Slot, secret: Secret) -> bytes | None:
    """The data key, or None where `secret` does not open the slot, or the slot is damaged.

    Takes half a second for a passphrase; a slot that asks for more than the bounds is damaged.
    """
    from argon2.exceptions import HashingError
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt
    from nacl.exceptions import CryptoError

    if slot.kind != secret.kind or (slot.kdf is None) != (slot.kind == "key file"):
        return None
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(
            bytes.fromhex(slot.wrapped),
            _bound(slot.kind, slot.key_id),
            bytes.fromhex(slot.nonce),
            _wrapping_key(secret, slot.kdf),
        )
    except (CryptoError, ValueError, HashingError):
        return None


def search(slots: Mapping[int, Slot], secret: Secret) -> tuple[int, bytes] | None:
    """(number of the slot that `secret` opens, data key), or None where it opens none."""
    for number, slot in slots.items():
        if (data_key := unwrap(slot, secret)) is not None:
            return number, data_key
    return None


def pack(slot: Slot) -> bytes:
    return msgspec.json.format(msgspec.json.encode(slot), indent=2) + b"\n"


def unpack(text: bytes) -> Slot:
    """Raises msgspec.MsgspecError on what is no slot, or one of a later fusefs."""
    return msgspec.json.decode(text, type=Slot)


def _bound(kind: Kind, its_id: str) -> bytes:
    return f"fusefs key slot 1\0{kind}\0{its_id}".encode()


def _wrapping_key(secret: Secret, kdf: _Argon | None) -> bytes:
    """Raises ValueError where the slot asks for what is out of bounds, HashingError otherwise."""
    if kdf is None:
        return subkey(secret.material, "key file")
    if (
        not 8 * kdf.lanes <= kdf.memory_kib <= _MAX_MEMORY_KIB
        or not 1 <= kdf.passes <= _MAX_PASSES
        or not 1 <= kdf.lanes <= _MAX_LANES
    ):
        raise ValueError("a strength out of bounds")
    from argon2.low_level import Type, hash_secret_raw

    return hash_secret_raw(
        secret.material,
        bytes.fromhex(kdf.salt),
        kdf.passes,
        kdf.memory_kib,
        kdf.lanes,
        KEY_SIZE,
        Type.ID,
    )
