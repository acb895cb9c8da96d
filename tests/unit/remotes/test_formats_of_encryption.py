"""Test vectors: whoever reads the formats from their pictures gets these bytes."""

import msgspec
import pytest

from fusefs.errors import ObjectDamaged
from fusefs.model import keyslot
from fusefs.remotes import sealed
from fusefs.remotes.veil import SHORT_NAME_BYTES, Veil
from tests.unit.remotes.encryption import CREATED, WEAK, counted_random

DATA_KEY = bytes(range(32))
SALT = bytes(range(100, 119))
NAME = b"segments/abc"


def test_subkeys() -> None:
    assert (
        keyslot.subkey(DATA_KEY, "content").hex()
        == "0db75b451ee62a8e87e4f5185f4932c978158d70baf4ba06d4c5e3a60225e018"
    )
    assert keyslot.key_id(DATA_KEY) == "f9669d29726b71910f00388f73885ae3"


def test_an_object() -> None:
    veil = Veil.of(DATA_KEY)
    head = sealed.head(veil.head(NAME.decode()))
    key = keyslot.subkey(DATA_KEY, "content")
    frames = b"".join(sealed.seal(key, NAME, SALT, memoryview(b"some content")))
    assert (
        head[:40].hex()
        == "46555345465358019bddd30b9ccf9a3cf87d146996bd3fca790071e11bc811fc6bb81012c3b11a4b"
    )
    assert len(head) == 224
    assert frames.hex() == (
        "6465666768696a6b6c6d6e6f7071727374757601dcd4cd92"
        "affa8b09aa6bb1ca88d6161bcb2559578396d045fb69b25a"
    )
    assert sealed.unseal(key, NAME, 0, memoryview(frames)) == (b"some content", True)
    assert sealed.veiled_name(head + frames) == veil.head(NAME.decode())


def test_an_object_of_several_frames() -> None:
    key = keyslot.subkey(DATA_KEY, "content")
    content = bytes(sealed.CHUNK_SIZE + 1)
    frames = b"".join(sealed.seal(key, NAME, SALT, memoryview(content)))
    assert frames[: len(SALT) + 1] == SALT + b"\0"
    assert frames[sealed.FRAME_SIZE - 16 :].hex() == (
        "c90706bbb81e08409ae3cbf1d77bbf7c6465666768696a6b6c6d6"
        "e6f70717273747576012f41060862ffcde373ebecacf21b326fe3"
    )
    assert sealed.plain_size(sealed.HEAD_SIZE + len(frames)) == len(content)


def test_names() -> None:
    veil = Veil.of(DATA_KEY)
    folder, _, token = veil.cover(NAME.decode()).partition("/")
    assert folder == "7365168ece67a8b722bf221461e6ecef"
    assert token == (
        "aff63sahabzll2s72epg3sljkd5ri7obtfagrdqad2qkq4offxbugu6ngpfiu4gjsklmpx2y6l2mhtrx"
        "64r27m5s25htrplrj77wqupu6qeqzmpd3hfgyr2oh4avzan57ccmwf54ytsd34keksg2z5s375urhyec"
    )
    assert veil.cover("segments/" + "x" * SHORT_NAME_BYTES) == (
        "7365168ece67a8b722bf221461e6ecef/f3eda0b2480c524"
        "b6d2c97d8b8ab01a7e02caaa8bd8e983e09dc52216aeb0c80"
    )
    assert veil.uncover(f"{folder}/{token}") == NAME.decode()
    assert repr(veil) == "Veil()"


def test_slots() -> None:
    slot = keyslot.wrap(
        DATA_KEY,
        keyslot.passphrase("correct horse"),
        label="mine",
        created=CREATED,
        random=counted_random(),
        strength=WEAK,
    )
    assert slot.wrapped == (
        "80060ea99f97ec961d65716a2be94405130a84fea1f143be"
        "b03e1a9e84c8d9d4096be46b01ab08074934d64c511f52c7"
    )
    assert keyslot.unwrap(slot, keyslot.passphrase("correct horse")) == DATA_KEY
    filed = keyslot.wrap(
        DATA_KEY,
        keyslot.key_file(b"k" * 32),
        label="mine",
        created=CREATED,
        random=counted_random(),
    )
    assert filed.kdf is None
    assert filed.wrapped == (
        "e6c4c5207f377f3fe6b6f3a0c75856141c7fec8ea59ef2a4"
        "88d4816136b01d1f4ce79a6287bb62cbaea6446b5612afd1"
    )


def test_what_a_slot_says_is_proven() -> None:
    secret = keyslot.passphrase("correct horse")
    slot = keyslot.wrap(
        DATA_KEY, secret, label="", created=CREATED, random=counted_random(), strength=WEAK
    )
    change = msgspec.structs.replace
    assert slot.kdf is not None
    bad = [
        change(slot, kind="key file"),
        change(slot, key_id="00" * 16),
        change(slot, nonce="00" * 24),
        change(slot, nonce="00"),
        change(slot, wrapped="00" * 48),
        change(slot, wrapped="zz"),
        change(slot, kdf=None),
        change(slot, kdf=change(slot.kdf, salt="00" * 16)),
        change(slot, kdf=change(slot.kdf, salt="")),
        change(slot, kdf=change(slot.kdf, passes=2)),
    ]
    assert [keyslot.unwrap(each, secret) for each in bad] == [None] * len(bad)
    assert keyslot.unwrap(slot, keyslot.passphrase("wrong")) is None
    assert keyslot.unwrap(slot, keyslot.key_file(b"correct horse" * 3)) is None


@pytest.mark.parametrize(
    "cost",
    [
        {"memory_kib": 1 << 30},
        {"passes": 1 << 30},
        {"lanes": 1 << 20},
        {"lanes": 0},
        {"passes": -1},
    ],
)
def test_what_a_slot_may_cost_its_reader_is_bounded(
    cost: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> bytes:
        raise AssertionError("argon2id was asked for it")

    secret = keyslot.passphrase("correct horse")
    slot = keyslot.wrap(
        DATA_KEY, secret, label="", created=CREATED, random=counted_random(), strength=WEAK
    )
    monkeypatch.setattr("argon2.low_level.hash_secret_raw", never)
    dear = msgspec.structs.replace(slot, kdf=msgspec.structs.replace(slot.kdf, **cost))
    assert keyslot.unwrap(keyslot.unpack(keyslot.pack(dear)), secret) is None


def test_a_passphrase_opens_however_its_accents_were_typed() -> None:
    assert keyslot.passphrase("caf\u00e9") == keyslot.passphrase("cafe\u0301")


def test_secrets_are_not_shown() -> None:
    assert "horse" not in repr(keyslot.passphrase("correct horse"))


@pytest.mark.parametrize("size", [0, 31, (64 << 10) + 1])
def test_a_key_file_of_a_strange_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="head -c 32"):
        keyslot.key_file(bytes(size))


def test_a_slot_of_a_later_version_is_none_of_ours() -> None:
    slot = keyslot.wrap(
        DATA_KEY, keyslot.key_file(b"k" * 32), label="", created=CREATED, random=counted_random()
    )
    later = keyslot.pack(slot).replace(b'"version": 1', b'"version": 2')
    with pytest.raises(msgspec.MsgspecError):
        keyslot.unpack(later)


def test_frames_of_nothing_and_of_rubbish() -> None:
    key = keyslot.subkey(DATA_KEY, "content")
    for rubbish in (b"\0", b"\0" * 20, b"\0" * 36, b"\2" * 100):
        with pytest.raises(ObjectDamaged):
            sealed.unseal(key, NAME, 0, memoryview(rubbish))
