"""How blocks of an encrypted store are named and sealed: the format, and what does not verify."""

import pytest
from blake3 import blake3
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt

from fusefs.errors import WrongKey
from fusefs.model.block import ENCRYPTED, RAW, RAW_ENCRYPTED, ZSTD, ZSTD_ENCRYPTED
from fusefs.store import format
from fusefs.store.cipher import NONCE_SIZE, OVERHEAD, Cipher
from tests.unit.remotes.encryption import counted_random

KEY = bytes(range(32))
TEXT = b"One ring to rule them all, one ring to find them. " * 40
DIGEST = blake3(TEXT).digest()


def key_for(purpose: str) -> bytes:
    return blake3(KEY, derive_key_context=f"fusefs 2026 {purpose}").digest()


@pytest.fixture
def cipher() -> Cipher:
    return Cipher(KEY, counted_random())


def sealed(cipher: Cipher, content: bytes, *, compress: bool = False) -> tuple[int, bytes, bytes]:
    """(codec, name, payload) of a block, as it is stored."""
    codec, packed = format.encode(content, compress)
    name = cipher.name(blake3(content).digest())
    return ENCRYPTED[codec], name, cipher.seal(ENCRYPTED[codec], name, packed)


def test_names_and_veiled_digests_are_as_the_format_says(cipher: Cipher) -> None:
    name = cipher.name(DIGEST)
    assert name == blake3(DIGEST, key=key_for("block name")).digest()
    veiled = cipher.veil(name, DIGEST)
    mask = blake3(name, key=key_for("block digest")).digest()
    assert veiled == bytes(a ^ b for a, b in zip(mask, DIGEST, strict=True))
    assert cipher.veil(name, veiled) == DIGEST
    assert name.hex() == NAME
    assert veiled.hex() == VEILED


def test_a_payload_is_as_the_format_says(cipher: Cipher) -> None:
    name = cipher.name(DIGEST)
    payload = cipher.seal(RAW_ENCRYPTED, name, TEXT)
    nonce = bytes(range(NONCE_SIZE))
    assert (payload[:NONCE_SIZE], len(payload)) == (nonce, len(TEXT) + OVERHEAD)
    bound = b"fusefs block" + bytes([RAW_ENCRYPTED]) + name
    plain = crypto_aead_xchacha20poly1305_ietf_decrypt(
        payload[NONCE_SIZE:], bound, nonce, key_for("block content")
    )
    assert plain == TEXT
    assert blake3(payload).hexdigest() == PAYLOAD


def test_one_content_has_one_name_and_never_twice_the_same_payload(cipher: Cipher) -> None:
    first, second = sealed(cipher, TEXT), sealed(cipher, TEXT)
    assert first[1] == second[1]
    assert first[2] != second[2]
    assert Cipher(bytes(32)).name(DIGEST) != cipher.name(DIGEST)


@pytest.mark.parametrize(("compress", "codec"), [(False, RAW_ENCRYPTED), (True, ZSTD_ENCRYPTED)])
def test_a_block_comes_back(cipher: Cipher, compress: bool, codec: int) -> None:
    kind, name, payload = sealed(cipher, TEXT, compress=compress)
    assert kind == codec
    assert format.decode(kind, memoryview(payload), len(TEXT), name, cipher) == TEXT
    assert TEXT[:40] not in payload


def test_nothing_verifies_but_what_was_sealed_for_that_block(cipher: Cipher) -> None:
    codec, name, payload = sealed(cipher, TEXT)
    other = cipher.name(blake3(b"other").digest())
    assert format.decode(codec, payload, len(TEXT), other, cipher) is None
    assert format.decode(codec, payload, len(TEXT) - 1, name, cipher) is None
    assert format.decode(ZSTD_ENCRYPTED, payload, len(TEXT), name, cipher) is None
    assert format.decode(codec, payload, len(TEXT), name, Cipher(bytes(32))) is None
    for size in (0, NONCE_SIZE - 1, NONCE_SIZE, OVERHEAD - 1, len(payload) - 1):
        assert format.decode(codec, payload[:size], len(TEXT), name, cipher) is None
    for at in (0, NONCE_SIZE, len(payload) - 1):
        flipped = bytearray(payload)
        flipped[at] ^= 1
        assert format.decode(codec, flipped, len(TEXT), name, cipher) is None


@pytest.mark.parametrize("codec", [RAW, ZSTD])
def test_a_plain_block_is_none_of_an_encrypted_store(cipher: Cipher, codec: int) -> None:
    kind, payload = format.encode(TEXT, codec == ZSTD)
    assert kind == codec
    assert format.decode(codec, bytes(payload), len(TEXT), DIGEST) == TEXT
    assert format.decode(codec, bytes(payload), len(TEXT), DIGEST, cipher) is None
    assert format.decode(codec, bytes(payload), len(TEXT), cipher.name(DIGEST), cipher) is None


def test_without_the_key_a_block_is_not_called_damaged(cipher: Cipher) -> None:
    codec, name, payload = sealed(cipher, TEXT)
    with pytest.raises(WrongKey):
        format.decode(codec, payload, len(TEXT), name)


def test_keys_are_not_shown(cipher: Cipher) -> None:
    assert cipher.key_id in repr(cipher)
    for purpose in ("block name", "block digest", "block content"):
        assert key_for(purpose).hex() not in repr(cipher)
    assert KEY.hex() not in repr(cipher)


# Of the key 00 01 02 ... and that text.
NAME = "1bdb36cd32e7042645a8211040c5f0c49eb9739f800de0f7e6055b7918bea6e3"
VEILED = "a4cb5814ef2782700aff160a6528f557594a6291aa2cda1cadacffb9bec66ef8"
PAYLOAD = "2090031dbe167b859b57f2fc70a50f694c8c3219b750a133ca00864882a38970"
