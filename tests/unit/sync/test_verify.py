"""Whatever is wrong in a remote is found, and put right from what is there elsewhere."""

import os

import pytest

from fusefs.remotes.memory import MemoryRemote
from fusefs.store.store import Store
from fusefs.sync import layout, verify
from fusefs.sync.verify import Object
from tests.unit.store import acts
from tests.unit.sync.places import Desk, names, restored


@pytest.fixture
def desk(store: Store, remote: MemoryRemote) -> Desk:
    """Published twice, three segments."""
    desk = Desk(store)
    for n in range(3):
        acts.add(store, os.urandom(2000))
        acts.put(store, **{f"row{n}": b"x"})
        desk.publisher(remote).publish()
    return desk


def damage(remote: MemoryRemote, name: str) -> None:
    content = bytearray(remote.get(name))
    content[len(content) // 2] ^= 1
    remote.delete(name)
    remote.put(name, content)


def look(remote: MemoryRemote) -> verify.Found:
    return verify.look(remote, (), lambda one: True)


def needed(remote: MemoryRemote) -> set[str]:
    found = names(remote)
    return {n for n in found if n.startswith((layout.INDEX, layout.SEGMENTS))}


def test_a_sound_remote_is_read_whole(desk: Desk, remote: MemoryRemote) -> None:
    found = look(remote)
    assert (found.bad, found.bad_checkpoints) == ([], [])
    assert found.read_bytes == found.size_bytes
    assert found.checkpoint == restored(remote)[0]
    assert verify.look(remote, (), lambda one: False).read_bytes == 0


@pytest.mark.parametrize("is_missing", [False, True])
def test_each_object_that_is_bad_is_named(
    desk: Desk, remote: MemoryRemote, is_missing: bool
) -> None:
    newest = restored(remote)[0]
    segments = {one.name for one in layout.read_segments(remote, newest).values()}
    index = {piece.name for piece in layout.row_pieces(remote, newest)}
    index |= {newest.base.name, *(piece.name for piece in newest.tables)}
    for name in sorted(segments | index):
        content = remote.get(name)
        if is_missing:
            remote.delete(name)
        else:
            damage(remote, name)
        found = look(remote)
        assert [bad.object.name for bad in found.bad] == [name]
        assert found.is_index_bad == (name in index)
        assert verify.put_right(remote, found.bad[0].object, content)
        assert look(remote).bad == []


def test_what_is_known_to_be_there_is_looked_at_too(desk: Desk, remote: MemoryRemote) -> None:
    found = verify.look(remote, [Object(layout.SEGMENTS + "00" * 32, 5, 77)], lambda one: True)
    assert [(bad.object.segment, bad.why) for bad in found.bad] == [(77, "is missing")]


def test_other_content_puts_nothing_right(desk: Desk, remote: MemoryRemote) -> None:
    segment = next(name for name in sorted(names(remote)) if name.startswith(layout.SEGMENTS))
    before = remote.get(segment)
    assert not verify.put_right(remote, Object(segment, 5, 1), b"other")
    assert remote.get(segment) == before


def test_a_bad_checkpoint_is_told_and_the_one_before_is_looked_at(
    desk: Desk, remote: MemoryRemote
) -> None:
    damage(remote, layout.checkpoint_object(3))
    found = look(remote)
    assert found.bad_checkpoints == [3]
    assert found.checkpoint is not None
    assert found.checkpoint.sequence == 2


def test_a_bad_index_is_made_anew(desk: Desk, remote: MemoryRemote, store: Store) -> None:
    """What the verb does: what is bad goes, another writer makes a base."""
    newest = restored(remote)[0]
    for piece in layout.row_pieces(remote, newest):
        remote.delete(piece.name)
    remote.delete(newest.base.name)
    assert look(remote).is_index_bad
    desk.syncing.registry.change(desk.name, writer="me again")
    desk.publisher(remote).publish()
    assert look(remote).bad == []
    restored(remote)
