"""Key slots of an encrypted remote: who opens it, and how that changes."""

import threading
from pathlib import Path

import pytest

from fusefs.errors import BadRemote, WrongKey, WrongState
from fusefs.model import keyslot
from fusefs.remotes import encrypted, keyring
from fusefs.remotes.api import Buffer
from fusefs.remotes.encrypted import Encrypted
from fusefs.remotes.memory import MemoryRemote
from tests.unit.remotes.encryption import (
    CREATED,
    SECRET,
    WEAK,
    encrypted_remote,
    raw_remote,
    replace,
)

OTHER = keyslot.passphrase("battery staple")
FILE = keyslot.key_file(b"0123456789abcdef" * 2)


@pytest.fixture
def raw() -> MemoryRemote:
    return raw_remote()


@pytest.fixture
def remote(raw: MemoryRemote) -> Encrypted:
    return encrypted_remote(raw)


def add(raw: MemoryRemote, secret: keyslot.Secret) -> int:
    data_key = keyring.unlock(raw, SECRET)
    return keyring.add(raw, data_key, secret, label="x", created=CREATED, strength=WEAK)


@pytest.mark.usefixtures("remote")
def test_a_wrong_secret_is_refused_with_the_remote_and_the_way_out(raw: MemoryRemote) -> None:
    for wrong in (OTHER, FILE):
        with pytest.raises(WrongKey, match=f"{raw.place} .* {wrong.kind}.*give a passphrase"):
            encrypted.open_encrypted(raw, wrong)
        with pytest.raises(WrongKey):
            encrypted.initialise(raw, wrong, created=CREATED)


def test_what_is_not_encrypted_is_not_opened(raw: MemoryRemote) -> None:
    assert not keyring.is_encrypted(raw)
    with pytest.raises(BadRemote, match="not encrypted"):
        encrypted.open_encrypted(raw, SECRET)


def test_a_remote_with_plain_objects_is_not_made_encrypted(raw: MemoryRemote) -> None:
    raw.put("segments/1", b"plain")
    with pytest.raises(BadRemote, match="empty place"):
        encrypted.initialise(raw, SECRET, created=CREATED, strength=WEAK)
    assert [found.name for found in raw.list("")] == ["segments/1"]


def test_each_slot_opens_the_same_objects(raw: MemoryRemote, remote: Encrypted) -> None:
    remote.put("a", b"content")
    before = {found.name: raw.get(found.name) for found in raw.list("")}
    assert [add(raw, OTHER), add(raw, FILE)] == [2, 3]
    for secret in (SECRET, OTHER, FILE):
        assert encrypted.open_encrypted(raw, secret).get("a") == b"content"
    after = {found.name: raw.get(found.name) for found in raw.list("")}
    assert before.items() <= after.items()
    assert after.keys() - before.keys() == {"keys/2", "keys/3"}


@pytest.mark.usefixtures("remote")
def test_a_slot_that_was_removed_opens_no_more(raw: MemoryRemote) -> None:
    add(raw, OTHER)
    keyring.remove(raw, 1, keyring.unlock(raw, OTHER))
    with pytest.raises(WrongKey):
        keyring.unlock(raw, SECRET)
    assert keyring.opened(raw, OTHER)[0] == 2
    assert list(keyring.slots(raw)) == [2]


@pytest.mark.usefixtures("remote")
def test_the_last_slot_is_not_removed(raw: MemoryRemote) -> None:
    data_key = keyring.unlock(raw, SECRET)
    with pytest.raises(WrongState, match="last"):
        keyring.remove(raw, 1, data_key)
    raw.put("keys/2", b"rubbish")
    with pytest.raises(WrongState, match="last"):
        keyring.remove(raw, 1, data_key)
    keyring.remove(raw, 2, data_key)
    assert keyring.unlock(raw, SECRET) == data_key


@pytest.mark.usefixtures("remote")
def test_a_slot_that_is_not_there_is_named(raw: MemoryRemote) -> None:
    with pytest.raises(BadRemote, match="no key slot 7: it has 1"):
        keyring.remove(raw, 7, keyring.unlock(raw, SECRET))


@pytest.mark.usefixtures("remote")
def test_slots_are_limited(raw: MemoryRemote) -> None:
    data_key = keyring.unlock(raw, SECRET)
    for _ in range(keyslot.MAX_SLOTS - 1):
        keyring.add(raw, data_key, FILE, label="x", created=CREATED)
    with pytest.raises(WrongState, match="remove one"):
        keyring.add(raw, data_key, FILE, label="x", created=CREATED)


@pytest.mark.usefixtures("remote")
def test_a_slot_that_another_took_at_the_same_moment_is_left_to_him(raw: MemoryRemote) -> None:
    """Of a remote that looks before it puts, the later writer wins, and both are told so."""

    class Late(MemoryRemote):
        def put(self, name: str, content: Buffer) -> bool:
            if name == "keys/2":
                return super().put(name, b"another's slot")
            return super().put(name, content)

    remote = Late(raw.place)
    data_key = keyring.unlock(remote, SECRET)
    assert keyring.add(remote, data_key, FILE, label="", created=CREATED) == 3
    assert raw.get("keys/2") == b"another's slot"
    assert keyring.opened(raw, FILE) == (3, data_key)


@pytest.mark.usefixtures("remote")
def test_a_slot_whose_put_was_repeated_is_made_once(raw: MemoryRemote) -> None:
    class Repeating(MemoryRemote):
        def put(self, name: str, content: Buffer) -> bool:
            super().put(name, content)
            return super().put(name, content)

    remote = Repeating(raw.place)
    data_key = keyring.unlock(remote, SECRET)
    assert keyring.add(remote, data_key, FILE, label="", created=CREATED) == 2
    assert list(keyring.slots(remote)) == [1, 2]


@pytest.mark.parametrize("content", [b"", b"{", b"x" * 10_000, b"\xff", b'{"kind": "passphrase"}'])
def test_a_damaged_slot_does_not_keep_the_others_from_opening(
    raw: MemoryRemote, remote: Encrypted, content: bytes
) -> None:
    remote.put("a", b"content")
    add(raw, OTHER)
    replace(raw, "keys/1", content)
    assert encrypted.open_encrypted(raw, OTHER).get("a") == b"content"
    with pytest.raises(WrongKey):
        encrypted.open_encrypted(raw, SECRET)
    assert list(keyring.slots(raw)) == [2]


def test_of_two_who_make_it_at_once_one_does_and_the_other_opens_his(raw: MemoryRemote) -> None:
    """Both look before either writes: the put of one is what makes the other lose."""
    both_looked = threading.Barrier(2)

    class Meeting(MemoryRemote):
        def put(self, name: str, content: Buffer) -> bool:
            if name == "keys/1":
                both_looked.wait(30)
            return super().put(name, content)

    made: list[Encrypted] = []

    def make(number: int) -> None:
        remote = Meeting(raw.place)
        made.append(encrypted.initialise(remote, SECRET, created=CREATED, strength=WEAK))
        made[-1].put(f"by-{number}", b"content")

    threads = [threading.Thread(target=make, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(made) == 2
    assert {found.name for found in made[0].list("")} == {"by-0", "by-1"}
    assert list(keyring.slots(raw)) == [1]


def test_a_secret_comes_from_the_secrets_of_the_remote(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(FILE.material)
    assert keyring.secret({}) is None
    assert keyring.secret({"passphrase": "correct horse"}) == SECRET
    assert keyring.secret({"passphrase": "x", "key_file": str(path)}) == FILE
    for missing in (str(tmp_path / "none"), str(tmp_path), "key"):
        with pytest.raises(BadRemote, match=r"key.file"):
            keyring.secret({"key_file": missing})


def test_an_encrypted_remote_asks_for_what_its_secrets_lack(
    raw: MemoryRemote, remote: Encrypted
) -> None:
    remote.put("a", b"content")
    assert encrypted.open_with(raw, {"passphrase": "correct horse"}).get("a") == b"content"
    with pytest.raises(WrongKey, match="--secrets"):
        encrypted.open_with(raw, {"password": "of another thing"})
