"""Which secrets open an encrypted store, and how they come and go."""

from pathlib import Path

import pytest

from fusefs.base import failpoints
from fusefs.config.options import StoreOptions
from fusefs.errors import WrongKey, WrongState
from fusefs.model import keyslot
from fusefs.store import identity, keyring
from fusefs.store.store import Store
from tests.unit.clocks import ManualClock
from tests.unit.remotes.encryption import CREATED, SECRET, WEAK

FILE = keyslot.key_file(bytes(range(64)))
OTHER = keyslot.passphrase("another")


@pytest.fixture
def path(tmp_path: Path, clock: ManualClock) -> Path:
    slot = keyring.first(SECRET, created=CREATED, strength=WEAK)
    Store.init(tmp_path / "store", StoreOptions(), clock=clock, slot=slot)
    return tmp_path / "store"


def add(path: Path, present: keyslot.Secret, new: keyslot.Secret, **said: bool) -> tuple[int, int]:
    return keyring.add(path, present, new, label="x", created=CREATED, strength=WEAK, **said)


def test_a_new_store_is_opened_by_its_secret_and_by_no_other(path: Path) -> None:
    known = identity.read(path)
    assert (known.requires, list(known.keys)) == (("encryption",), [1])
    assert keyring.unlock(path, SECRET).key_id == known.keys[1].key_id
    for other in (OTHER, FILE):
        with pytest.raises(WrongKey, match=f"{path} is not opened by this {other.kind}"):
            keyring.unlock(path, other)


def test_only_its_owner_reads_the_slots(path: Path) -> None:
    assert (path / identity.NAME).stat().st_mode & 0o777 == 0o600


def test_two_stores_have_two_keys(tmp_path: Path) -> None:
    slots = [keyring.first(SECRET, created=CREATED, strength=WEAK) for _ in range(2)]
    assert slots[0].key_id != slots[1].key_id


def test_a_secret_is_added_and_the_first_removed(path: Path) -> None:
    cipher = keyring.unlock(path, SECRET)
    assert add(path, SECRET, FILE) == (2, 1)
    assert keyring.unlock(path, FILE).name(bytes(32)) == cipher.name(bytes(32))
    keyring.remove(path, FILE, 1)
    assert list(keyring.slots(path)) == [2]
    with pytest.raises(WrongKey):
        keyring.unlock(path, SECRET)
    assert add(path, FILE, OTHER) == (1, 2)
    assert list(keyring.slots(path)) == [1, 2]


def test_the_last_secret_stays_and_what_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(WrongState, match="is the last"):
        keyring.remove(path, SECRET, 1)
    with pytest.raises(WrongState, match="no key slot 7: it has 1"):
        keyring.remove(path, SECRET, 7)
    with pytest.raises(WrongKey):
        keyring.remove(path, OTHER, 1)
    assert list(keyring.slots(path)) == [1]


def test_whoever_cannot_open_it_lets_nobody_in(path: Path) -> None:
    before = (path / identity.NAME).read_bytes()
    with pytest.raises(WrongKey):
        add(path, OTHER, FILE)
    assert (path / identity.NAME).read_bytes() == before


def test_there_are_so_many_slots_and_a_full_store_can_still_change_one(path: Path) -> None:
    for number in range(2, keyslot.MAX_SLOTS + 1):
        assert add(path, SECRET, keyslot.key_file(bytes([number]) * 32))[0] == number
    with pytest.raises(WrongState, match="remove one"):
        add(path, SECRET, FILE)
    assert add(path, SECRET, FILE, replacing=True) == (1, 1)
    assert keyring.opened(path, FILE)[0] == 1
    assert len(keyring.slots(path)) == keyslot.MAX_SLOTS


def test_a_plain_store_has_no_slots(tmp_path: Path, clock: ManualClock) -> None:
    Store.init(tmp_path / "plain", StoreOptions(), clock=clock)
    for act in (keyring.slots, lambda path: keyring.unlock(path, SECRET)):
        with pytest.raises(WrongState, match="is not encrypted"):
            act(tmp_path / "plain")


def test_a_mounted_store_may_get_a_secret(path: Path, clock: ManualClock) -> None:
    store = Store.open(path, clock=clock, cipher=keyring.unlock(path, SECRET))
    add(path, SECRET, FILE, replacing=True)
    store.close()
    failpoints.disarm()
    Store.open(path, clock=clock, cipher=keyring.unlock(path, FILE)).close()
