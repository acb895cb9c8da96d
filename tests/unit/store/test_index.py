"""Ordered rows: what a range holds, and a map that grows under a running transaction."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusefs.base import resident
from fusefs.errors import StoreDamaged
from fusefs.model import keys
from fusefs.model.inode import Inode
from fusefs.store import store as store_module
from fusefs.store.index import Batch, Index, MapFull
from fusefs.store.store import Store
from tests.unit.store.acts import get, put

Open = Callable[[], Store]
KEY = st.binary(min_size=1, max_size=3)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("index")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    (tmp_path / "index").mkdir()
    index = Index(tmp_path / "index")
    yield index
    index.close()


def test_a_batch_reads_its_own_rows_first(index: Index) -> None:
    index.apply({b"a": b"1", b"b": b"2"})
    batch = Batch(index)
    batch.put(b"a", b"3")
    batch.delete(b"b")
    assert (batch.get(b"a"), batch.get(b"b"), batch.get(b"c")) == (b"3", None, None)
    assert (index.get(b"a"), index.get(b"b")) == (b"1", b"2")
    index.apply(batch.rows)
    assert (index.get(b"a"), index.get(b"b")) == (b"3", None)


def test_deleting_what_is_not_there_is_no_error(index: Index) -> None:
    index.apply({b"a": None})
    assert index.get(b"a") is None


@given(rows=st.dictionaries(KEY, st.binary(max_size=5), max_size=30), start=KEY, end=KEY)
def test_ranges_hold_what_a_sorted_list_holds(
    directory: Path, rows: dict[bytes, bytes], start: bytes, end: bytes
) -> None:
    index = Index(directory)
    try:
        index.apply(dict(rows))  # thrown away by close
        ordered = sorted(rows.items())
        prefix = start[:1]
        of_prefix = [row for row in ordered if row[0].startswith(prefix)]
        assert list(index.scan(prefix)) == of_prefix
        assert list(index.scan(start, prefix)) == [row for row in of_prefix if row[0] >= start]
        assert list(index.scan(b"")) == ordered

        before = [row for row in of_prefix if row[0] <= start][-1:]
        after = [row for row in of_prefix if start < row[0] < end]
        if end > start:
            assert index.covering(start, end, prefix) == before + after

        below = [row for row in ordered if row[0] < end]
        tail = []
        for row in reversed(below):
            if not row[0].startswith(end[:1]) or len(tail) == 4:
                break
            tail.append(row)
        assert index.tail(end, end[:1], 4) == tail
    finally:
        index.close()


def test_a_checkpoint_is_what_a_copy_has(index: Index, tmp_path: Path) -> None:
    index.apply({b"a": b"1"})
    index.commit({"position": b"here"})
    index.apply({b"a": b"2"})
    index.copy(tmp_path / "copy")
    copy = Index(tmp_path / "copy", read_only=True)
    assert list(copy.scan(b"a")) == [(b"a", b"1")]
    copy.close()
    assert index.get(b"a") == b"2"
    assert index.book("position") == b"here"
    index.restart(grow=False)
    assert index.get(b"a") == b"1"


def test_the_map_does_not_move_under_a_copy(index: Index) -> None:
    """LMDB would not refuse, and the thread that copies would end the process."""
    size = index._environment.info()["map_size"]
    with index._stays:
        index.apply({b"%05d" % number: bytes(4000) for number in range(10_000)})
        index.commit({})
        assert index._environment.info()["map_size"] == size
    index.commit({})
    assert index._environment.info()["map_size"] > size


def test_a_full_map_is_said_and_a_larger_one_takes_it(index: Index) -> None:
    index.apply({b"first": b"row"})
    index.commit({})
    rows = {b"%05d" % number: bytes(4000) for number in range(20_000)}
    with pytest.raises(MapFull):
        index.apply(rows)
    index.restart(grow=True)
    index.apply(rows)
    assert index.get(b"first") == b"row"


def test_the_map_grows_between_transactions_before_it_is_full(index: Index) -> None:
    for part in range(8):  # 160 MB in all, into a map of 64 MiB
        index.apply({b"%d %05d" % (part, number): bytes(4000) for number in range(5000)})
        index.commit({})
    assert index.get(b"0 00000") == bytes(4000)


def test_an_index_larger_than_the_first_map_is_opened_with_room_to_spare(tmp_path: Path) -> None:
    index = Index(tmp_path)
    for part in range(4):
        index.apply({b"%d %05d" % (part, number): bytes(4000) for number in range(5000)})
        index.commit({})
    index.close()
    index = Index(tmp_path)
    index.apply({b"4 %05d" % number: bytes(4000) for number in range(5000)})
    index.close()


def fill(store: Store, batches: int) -> int:
    """Rows of 40 MiB and some a hundred batches, no checkpoint between; returns their number."""
    for part in range(batches):
        batch = store.batch()
        for number in range(100):
            batch.put(b"~%05d %03d" % (part, number), bytes([part % 251]) * 4000)
        store.commit(batch)
    return batches * 100


def check_filled(store: Store, batches: int) -> None:
    count = 0
    for key, row in store.scan(b"~"):
        assert row == bytes([int(key[1:6]) % 251]) * 4000
        count += 1
    assert count == batches * 100


def test_a_map_that_must_grow_several_times_within_one_transaction_loses_nothing(
    store: Store, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "CHECKPOINT_BYTES", 1 << 40)
    batches = 420  # 168 MB in a map of 64 MiB: it must become 256
    fill(store, batches)
    assert store.statistics().checkpoints == 0
    check_filled(store, batches)
    store.abandon()
    store = open_store()  # recovery has to grow it just so
    assert store.replay.batches == batches
    check_filled(store, batches)


def test_recovery_into_a_map_that_grows_counts_right(
    store: Store, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "CHECKPOINT_BYTES", 1 << 40)
    for number in range(3, 203):
        batch = store.batch()
        batch.put(keys.inode(number), Inode(number, 0o100644, 0, 0, 0).pack())
        for part in range(100):
            batch.put(b"~%d %d" % (number, part), bytes(4000))
        store.commit(batch)
    store.abandon()
    store = open_store()
    assert store.totals.inodes == 200
    assert store.counters.ino == 202


def test_a_checkpoint_that_finds_the_map_full_grows_it(
    store: Store, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, a=b"1")
    commit = Index.commit
    tries = []

    def full_once(self: Index, books: dict[str, bytes]) -> None:
        tries.append(books)
        if len(tries) == 1:
            raise MapFull
        commit(self, books)

    monkeypatch.setattr(Index, "commit", full_once)
    store.checkpoint()
    assert len(tries) == 2
    assert get(store, "a") == b"1"
    store.abandon()
    store = open_store()
    assert store.replay.batches == 0
    assert get(store, "a") == b"1"


def test_the_index_is_for_its_owner_alone(tmp_path: Path) -> None:
    Index(tmp_path).close()
    assert os.stat(tmp_path / "data.mdb").st_mode & 0o077 == 0


def test_an_index_that_was_cut_off_is_damage_and_no_crash(
    store: Store, open_store: Open, path: Path
) -> None:
    put(store, **{f"k{number}": bytes(2000) for number in range(1000)})
    store.close()
    data = path / "index" / "data.mdb"
    os.truncate(data, data.stat().st_size // 4)
    with pytest.raises(StoreDamaged, match="can be rebuilt from the log"):
        open_store()


@pytest.mark.parametrize("book", ["position", "counters", "totals"])
def test_a_book_that_does_not_decode_is_damage(
    store: Store, open_store: Open, path: Path, book: str
) -> None:
    store.close()
    index = Index(path / "index")
    index.commit({book: b"\xc1"})
    index.close()
    with pytest.raises(StoreDamaged, match=book):
        open_store()


def test_memory_given_back_takes_nothing_from_the_index(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {f"{number:05}": os.urandom(1000) for number in range(20_000)}
    put(store, **rows)
    store.checkpoint()
    assert all(get(store, name) == row for name, row in rows.items())
    put(store, late=b"in the transaction alone")
    before = resident.mapped_bytes()

    monkeypatch.setattr(store_module, "MAPPED_BYTES", before)
    store.give_back_memory()
    assert resident.mapped_bytes() == before, "it was not too much"

    monkeypatch.setattr(store_module, "MAPPED_BYTES", before - 1)
    store.give_back_memory()
    assert resident.mapped_bytes() < before - sum(map(len, rows.values())) // 2
    assert get(store, "late") == b"in the transaction alone"
    assert all(get(store, name) == row for name, row in rows.items())
