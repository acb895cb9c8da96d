"""What is published can be restored, at every instant, whatever fails; and by one writer only."""

import os
import shutil
from pathlib import Path

import pytest

from fusefs.config.options import StoreOptions
from fusefs.errors import (
    FormatTooNew,
    ObjectDamaged,
    RemoteTaken,
    RemoteUnreachable,
    WrongState,
)
from fusefs.model import keys
from fusefs.remotes.memory import MemoryRemote
from fusefs.store import format
from fusefs.store.collector import Collector
from fusefs.store.margins import DEFAULT
from fusefs.store.store import Store
from fusefs.sync import layout, publish, reading
from tests.unit.clocks import ManualClock
from tests.unit.store import acts
from tests.unit.sync.places import Desk, Faulty, Rows, a_remote, names, restored, rows_of


def test_what_is_published_is_the_store_as_it_was(store: Store, remote: MemoryRemote) -> None:
    desk = Desk(store)
    acts.add(store, b"content" * 100)
    desk.publisher(remote).publish()
    checkpoint, rows = restored(remote)
    assert rows == rows_of(store)
    assert (checkpoint.uuid, checkpoint.sequence) == (store.identity.uuid, 1)
    assert (desk.row.sequence, desk.row.published_segment) == (1, checkpoint.end[0])


def test_later_checkpoints_add_deltas_and_send_nothing_twice(
    store: Store, remote: MemoryRemote
) -> None:
    desk = Desk(store)
    publisher = desk.publisher(remote)
    for n in range(5):
        acts.add(store, os.urandom(5000))
        acts.put(store, **{f"row{n}": b"x", "again": b"%d" % n})
        acts.put(store, again=None)
        publisher.publish()
        checkpoint, rows = restored(remote)
        assert rows == rows_of(store)
        assert checkpoint.sequence == n + 1
    assert len(checkpoint.deltas) >= 4
    assert checkpoint.base == layout.read_checkpoint(remote, 1).base
    for sequence in range(1, 6):
        restored(remote, sequence)


def test_a_new_publisher_goes_on_with_the_base_there_is(store: Store, remote: MemoryRemote) -> None:
    desk = Desk(store)
    for _ in range(3):
        acts.add(store, os.urandom(100))
        desk.publisher(remote).publish()
    assert restored(remote)[0].base == layout.read_checkpoint(remote, 1).base
    shutil.rmtree(store.path / "sync")
    acts.add(store, os.urandom(100))
    desk.publisher(remote).publish()
    checkpoint, rows = restored(remote)
    assert checkpoint.base == layout.read_checkpoint(remote, 1).base
    assert rows == rows_of(store)


def test_a_base_is_made_anew_when_the_deltas_have_grown(
    store: Store, remote: MemoryRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "MAX_DELTAS", 3)
    desk = Desk(store)
    publisher = desk.publisher(remote)
    for n in range(9):
        acts.put(store, **{f"row{n}": os.urandom(10)})
        publisher.publish()
        checkpoint, rows = restored(remote)
        assert rows == rows_of(store)
        assert len(checkpoint.deltas) <= 3
    bases = {layout.read_checkpoint(remote, n).base for n in range(1, 10)}
    assert len(bases) >= 2


def test_rows_that_change_while_a_base_is_read_are_right_in_the_end(
    store: Store, remote: MemoryRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "STRETCH_ROWS", 7)
    for n in range(100):
        acts.put(store, **{f"row{n:03}": b"before"})
    store.checkpoint()
    original = reading._stretch
    turn = 0

    def stretch(path: Path, start: bytes) -> list[tuple[bytes, bytes]]:
        nonlocal turn
        turn += 1
        acts.put(store, **{f"row{turn:03}": b"during", f"row{99 - turn:03}": None, "new": b"x"})
        acts.put(store, **{f"row{turn + 40:03}": None, f"row{turn + 50:03}": b"late"})
        store.checkpoint()
        return original(path, start)

    monkeypatch.setattr(reading, "_stretch", stretch)
    desk = Desk(store)
    desk.publisher(remote).publish()
    assert turn > 5
    assert restored(remote)[1] == rows_of(store)


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_a_fault_at_any_call_leaves_what_was_published_and_is_made_good(
    tmp_path: Path, clock: ManualClock, is_done: bool
) -> None:
    """For every n the n-th call to the remote fails; then all goes on."""
    at = 0
    while True:
        at += 1
        path = tmp_path / f"store{at}"
        Store.init(path, StoreOptions(), clock=clock)
        store = Store.open(path, clock=clock)
        try:
            inner = MemoryRemote(f"memory://{path}")
            faulty = Faulty(inner, at, is_done=is_done)
            failed = publish_with(store, inner, faulty)
        finally:
            store.abandon()
        assert failed == (faulty.calls >= at)
        if not failed:
            break
    assert at > 20


def publish_with(store: Store, inner: MemoryRemote, faulty: Faulty) -> int:
    """Publish three times and once more without faults; how often it failed."""
    desk = Desk(store)
    failed = 0
    states: dict[int, Rows] = {}
    for _ in range(3):
        acts.add(store, os.urandom(1000))
        acts.put(store, row=os.urandom(4))
        try:
            desk.publisher(faulty).publish()
        except RemoteUnreachable:
            failed += 1
        for sequence in layout.sequences(inner):
            states.setdefault(sequence, restored(inner, sequence)[1])
    desk.publisher(inner).publish()
    assert restored(inner)[1] == rows_of(store)
    for sequence, rows in states.items():
        assert restored(inner, sequence)[1] == rows
    segments = [n for n in names(inner) if n.startswith(layout.SEGMENTS)]
    assert len(segments) == len(desk.syncing.copies.held(desk.row.number))
    return failed


def test_a_checkpoint_whose_answer_was_lost_is_known_as_ours(
    store: Store, remote: MemoryRemote
) -> None:
    desk = Desk(store)
    acts.add(store, b"one")
    publisher = desk.publisher(remote)
    publisher.publish()
    desk.syncing.registry.change(desk.name, sequence=0, published_segment=0)
    acts.add(store, b"two")
    desk.publisher(remote).publish()
    assert desk.row.sequence == 2
    assert restored(remote)[1] == rows_of(store)


def test_an_earlier_try_that_arrives_late_is_ours_too(
    store: Store, remote: MemoryRemote, tmp_path: Path
) -> None:
    """The first put times out, another follows, and then the first one comes through."""
    desk = Desk(store)
    acts.add(store, b"one")
    desk.publisher(remote).publish()
    acts.add(store, b"two")
    held: dict[str, bytes] = {}

    class Late(MemoryRemote):
        def put(self, name, content):  # type: ignore[no-untyped-def]
            if name == layout.checkpoint_object(2) and not held:
                held[name] = bytes(content)
                raise RemoteUnreachable("timed out")
            if name == layout.checkpoint_object(2):
                super().put(name, held[name])
            return super().put(name, content)

    late = Late(remote.place)
    with pytest.raises(RemoteUnreachable):
        desk.publisher(late).publish()
    acts.add(store, b"three")
    desk.publisher(late).publish()
    assert desk.row.sequence == 3
    assert restored(remote)[1] == rows_of(store)


def test_of_two_writers_the_second_is_refused(
    store: Store, remote: MemoryRemote, tmp_path: Path, clock: ManualClock
) -> None:
    desk = Desk(store)
    acts.add(store, b"one")
    first = desk.publisher(remote)
    first.publish()
    store.checkpoint()
    shutil.copytree(store.path, tmp_path / "copy")
    copy = Store.open(tmp_path / "copy", clock=clock)
    try:
        other = Desk(copy, desk.name)
        second = other.publisher(remote)
        acts.add(store, b"here")
        first.publish()
        mine = restored(remote)[1]
        acts.add(copy, b"there")
        with pytest.raises(RemoteTaken, match="adopt"):
            second.publish()
        with pytest.raises(RemoteTaken, match="this store, elsewhere"):
            other.publisher(remote)
        assert restored(remote)[1] == mine
        # The user decides: from here on it is the copy's.
        other.syncing.registry.change(other.name, sequence=2, writer="another")
        other.publisher(remote).publish()
        assert restored(remote)[1] == rows_of(copy)
        with pytest.raises(RemoteTaken):
            first.publish()
    finally:
        copy.abandon()


def test_another_store_is_not_written_over(
    store: Store, remote: MemoryRemote, tmp_path: Path, clock: ManualClock
) -> None:
    desk = Desk(store)
    acts.add(store, b"one")
    desk.publisher(remote).publish()
    Store.init(tmp_path / "other", StoreOptions(), clock=clock)
    other = Store.open(tmp_path / "other", clock=clock)
    try:
        with pytest.raises(RemoteTaken, match="another store"):
            Desk(other).publisher(remote)
    finally:
        other.abandon()


def test_a_remote_of_a_later_format_is_refused(store: Store, remote: MemoryRemote) -> None:
    remote.put(layout.FORMAT_NAME, b'{"fusefs_remote": 99}')
    with pytest.raises(FormatTooNew):
        Desk(store).publisher(remote)


def test_a_remote_that_was_emptied_is_not_taken_for_a_new_one(
    store: Store, remote: MemoryRemote
) -> None:
    desk = Desk(store)
    acts.add(store, b"one")
    desk.publisher(remote).publish()
    for name in names(remote):
        remote.delete(name)
    with pytest.raises(ObjectDamaged, match="sync verify"):
        desk.publisher(remote)


def collect(store: Store, number: int) -> None:
    """Empty a sealed segment and delete it, as the collector does."""
    collector = Collector(store)
    held = collector.read(number)
    collector.move(number, held)
    store.seal()
    store.checkpoint()
    store.write_snapshot()
    assert [n for n, _ in collector.delete({number: [one.number for one in held]})] == [number]


def test_segments_that_are_collected_before_they_are_sent(
    store: Store, remote: MemoryRemote
) -> None:
    desk = Desk(store)
    acts.add(store, os.urandom(2000))
    store.seal()
    publisher = desk.publisher(remote)
    turns = []

    def vanish() -> None:
        if len(turns) < 2:
            turns.append(min(store.segments))
            collect(store, turns[-1])

    desk.after_cut = vanish
    publisher.publish()
    assert len(turns) == 2
    assert desk.cuts >= 2
    assert restored(remote)[1] == rows_of(store)


def test_small_segments_that_are_merged_cost_no_base(store: Store, remote: MemoryRemote) -> None:
    desk = Desk(store)
    publisher = desk.publisher(remote)
    for _ in range(DEFAULT.merge_least + 1):
        acts.add(store, os.urandom(2000))
        publisher.publish()
    base = restored(remote)[0].base
    collector = Collector(store)
    emptied = {}
    for one in collector.plan_merge(desk.syncing.published_segment()).segments:
        held = collector.read(one.number)
        collector.move(one.number, held)
        emptied[one.number] = [block.number for block in held]
    store.checkpoint()
    store.write_snapshot()
    assert len(list(collector.delete(emptied))) >= DEFAULT.merge_least
    before = names(remote)
    publisher.publish()
    checkpoint, rows = restored(remote)
    assert (rows, checkpoint.base) == (rows_of(store), base)
    assert len([name for name in names(remote) - before if layout.SEGMENTS in name]) == 1


def test_a_collection_without_end_is_given_up_for_now(store: Store, remote: MemoryRemote) -> None:
    desk = Desk(store)
    acts.add(store, os.urandom(2000))
    store.seal()
    desk.after_cut = lambda: collect(store, min(store.segments))
    publisher = desk.publisher(remote)
    with pytest.raises(WrongState):
        publisher.publish()
    desk.after_cut = lambda: None
    publisher.publish()
    assert restored(remote)[1] == rows_of(store)


def test_segments_are_sent_ahead_once_and_oldest_first(store: Store, remote: MemoryRemote) -> None:
    desk = Desk(store)
    for _ in range(3):
        acts.add(store, os.urandom(100))
        store.seal()
    order = []

    class Watched(MemoryRemote):
        def put(self, name, content):  # type: ignore[no-untyped-def]
            order.append(name)
            return super().put(name, content)

    watched = Watched(remote.place)
    publisher = desk.publisher(watched)
    publisher.send(desk.wanted())
    assert desk.wanted() == []
    sent = [name for name in order if name.startswith(layout.SEGMENTS)]
    copies = [desk.syncing.copies.get(n, desk.row.number) for n in sorted(store.segments)]
    assert sent == [copy.name for copy in copies if copy]
    publisher.publish()
    assert len(order) == len(set(order))


def test_what_is_there_already_is_not_sent(store: Store, remote: MemoryRemote) -> None:
    """An agent that died before it could say what it had sent."""
    desk = Desk(store)
    acts.add(store, os.urandom(100))
    store.seal()
    desk.publisher(remote).send(desk.wanted())
    number = desk.row.number
    assert list(desk.syncing.copies.forget_all(number))
    counted = Faulty(remote, 0, is_done=False)
    before = names(remote)
    desk.publisher(counted).send(desk.wanted())
    assert desk.wanted() == []
    assert names(remote) == before
    assert counted.calls == 3  # format, checkpoints, and which of these it has


def test_a_segment_that_is_only_in_another_remote_comes_from_there(
    store: Store, remote: MemoryRemote, tmp_path: Path
) -> None:
    first = Desk(store, "first")
    acts.add(store, os.urandom(100))
    first.publisher(remote).publish()
    other = a_remote(tmp_path / "other")
    second = Desk(store, "second")
    second.others = {"first": remote}
    segment = min(store.segments)
    path = store.path / "segments" / format.segment_name(segment)
    content = path.read_bytes()
    path.write_bytes(content[:-40] + bytes(40))  # what is here has become bad: theirs is taken
    second.publisher(other).send(second.wanted())
    copy = second.syncing.copies.get(segment, second.row.number)
    assert copy is not None
    assert other.get(copy.name) == content
    path.write_bytes(content)


def test_rows_of_copies_go_when_nothing_needs_them(store: Store, remote: MemoryRemote) -> None:
    desk = Desk(store)
    number = acts.add(store, os.urandom(100))
    publisher = desk.publisher(remote)
    publisher.publish()
    old = min(store.segments)
    assert desk.syncing.copies.get(old, desk.row.number) is not None
    batch = store.batch()
    store.blocks.change_refs(batch, number, -1)
    store.commit(batch)
    acts.add(store, b"next")
    store.seal()
    collect(store, old)
    publisher.publish()
    assert store.get(keys.copy(old, desk.row.number)) is None
    assert restored(remote)[1] == rows_of(store)


def test_a_remote_that_is_emptied_meanwhile_gets_no_checkpoint_without_a_base(
    store: Store, remote: MemoryRemote
) -> None:
    desk = Desk(store)
    acts.add(store, b"one")
    publisher = desk.publisher(remote)
    publisher.publish()
    for name in names(remote):
        remote.delete(name)
    acts.add(store, b"two")
    with pytest.raises(ObjectDamaged, match="sync verify"):
        publisher.publish()
    assert layout.sequences(remote) == []
