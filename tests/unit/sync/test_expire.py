"""What goes from a remote is what nothing needs, and nothing else, whatever it is."""

import os

import pytest

from fusefs.errors import RemoteUnreachable
from fusefs.remotes.memory import MemoryRemote
from fusefs.store.store import Store
from fusefs.sync import expire, layout
from fusefs.sync.margins import Margins
from tests.unit.store import acts
from tests.unit.sync.places import Desk, Faulty, names, restored

DAY_NS = 24 * 3600 * 10**9
NOTHING_IS_YOUNG = Margins(keep_newest=2, keep_days=0, min_age_s=-1e6)


def grow(store: Store, remote: MemoryRemote, times: int) -> Desk:
    """Publish again and again, each time without what was there before."""
    desk = Desk(store)
    last = 0
    for _ in range(times):
        number = acts.add(store, os.urandom(500))
        if last:
            batch = store.batch()
            store.blocks.change_refs(batch, last, -1)
            store.commit(batch)
        last = number
        desk.publisher(remote).publish()
    return desk


def test_which_checkpoints_stay() -> None:
    days = {n: (100 + n // 3) * DAY_NS + n for n in range(1, 31)}  # three each day, up to day 110
    kept = expire.staying(days, Margins(keep_newest=4, keep_days=2))
    assert kept == {30, 29, 28, 27, 26}
    assert expire.staying({}, Margins()) == set()


def test_what_only_old_checkpoints_needed_goes(store: Store, remote: MemoryRemote) -> None:
    grow(store, remote, 6)
    before = names(remote)
    plan = expire.plan(remote, (), store.clock.time_ns(), NOTHING_IS_YOUNG)
    assert names(remote) == before
    assert plan.kept == (5, 6)
    assert plan.checkpoints == (1, 2, 3, 4)
    assert expire.apply(plan, remote) == len(plan.objects)
    assert names(remote) == before - set(plan.objects)
    assert len([n for n in plan.objects if n.startswith(layout.SEGMENTS)]) == 4
    for sequence in plan.kept:
        restored(remote, sequence)
    again = expire.plan(remote, (), store.clock.time_ns(), NOTHING_IS_YOUNG)
    assert again.objects == ()


def test_what_is_young_or_known_stays(store: Store, remote: MemoryRemote) -> None:
    desk = grow(store, remote, 4)
    young = Margins(keep_newest=1, keep_days=0, min_age_s=1e9)
    assert expire.plan(remote, (), store.clock.time_ns(), young).objects == ()
    held = {
        copy.name
        for n in desk.syncing.copies.held(desk.row.number)
        if (copy := desk.syncing.copies.get(n, desk.row.number))
    }
    assert len(held) >= 2
    plan = expire.plan(remote, held, store.clock.time_ns(), NOTHING_IS_YOUNG)
    assert not held & set(plan.objects)


def test_a_checkpoint_that_cannot_be_read_keeps_what_it_may_have_named(
    store: Store, remote: MemoryRemote
) -> None:
    grow(store, remote, 5)
    name = layout.checkpoint_object(5)
    content = remote.get(name)
    remote.delete(name)
    remote.put(name, content[:-1])
    plan = expire.plan(remote, (), store.clock.time_ns(), NOTHING_IS_YOUNG)
    assert plan.unreadable == (5,)
    assert all(name.startswith(layout.CHECKPOINTS) for name in plan.objects)


def test_with_a_trash_remote_nothing_goes_before_all_of_it_is_there(
    store: Store, remote: MemoryRemote
) -> None:
    grow(store, remote, 5)
    shelf = MemoryRemote(remote.place + "/trash")
    plan = expire.plan(remote, (), store.clock.time_ns(), NOTHING_IS_YOUNG)
    contents = {name: remote.get(name) for name in plan.objects}
    before = names(remote)
    for at in range(1, len(plan.objects) + 1):
        with pytest.raises(RemoteUnreachable):
            expire.apply(plan, remote, [("dropped/x", Faulty(shelf, at, is_done=False))])
        assert names(remote) == before
    expire.apply(plan, remote, [("dropped/x", shelf)])
    assert names(remote) == before - set(plan.objects)
    assert {name: shelf.get(f"dropped/x/{name}") for name in plan.objects} == contents


def test_an_interrupted_expiry_is_gone_on_with(store: Store, remote: MemoryRemote) -> None:
    grow(store, remote, 5)
    total = len(expire.plan(remote, (), store.clock.time_ns(), NOTHING_IS_YOUNG).objects)
    for at in range(1, total):
        plan = expire.plan(remote, (), store.clock.time_ns(), NOTHING_IS_YOUNG)
        with pytest.raises(RemoteUnreachable):
            expire.apply(plan, Faulty(remote, 1 + at % 2, is_done=False))
        restored(remote)
    while (plan := expire.plan(remote, (), store.clock.time_ns(), NOTHING_IS_YOUNG)).objects:
        expire.apply(plan, remote)
    restored(remote, 4)
    restored(remote, 5)
