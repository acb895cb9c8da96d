"""When a remote gets what: after a rest, at the latest after half a minute, and when asked."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from fusefs.base.events import Events
from fusefs.config.options import StoreOptions
from fusefs.daemon import syncing
from fusefs.daemon.syncing import Syncing
from fusefs.errors import NoSuchRemote, WrongState
from fusefs.model import keys
from fusefs.model.remote import Copy, Remote
from fusefs.store.store import Store
from tests.unit.clocks import ManualClock
from tests.unit.store import acts

FAR_S = 100.0


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Iterator[Store]:
    Store.init(tmp_path / "store", StoreOptions(), clock=clock)
    store = Store.open(tmp_path / "store", clock=clock)
    yield store
    store.abandon()


@pytest.fixture
def sync(store: Store) -> Syncing:
    made = Syncing(store, Events(store.clock), lambda: None)

    async def durable() -> None:
        store.sync()

    made.sync = durable
    made.registry.add("usb", Remote(number=0, url="file:///x", writer="me"))
    return made


def row(sync: Syncing) -> Remote:
    return sync.registry.get("usb")


async def order(sync: Syncing, wait_s: float = FAR_S, rest_s: float = 0.0) -> tuple[Any, float]:
    """The order, and after how long it came."""
    began = trio.current_time()
    found = await sync.order("usb", row(sync).number, wait_s, rest_s)
    return found, trio.current_time() - began


def store_copies(sync: Syncing, segments: list[int]) -> None:
    copies = [(segment, Copy("n", 1, b"d" * 32, 1)) for segment in segments]
    sync.stored("usb", row(sync), copies)


async def publish(sync: Syncing) -> None:
    cut = await sync.cut(row(sync))
    for first in cut["tables"]:
        lacking = sync.table(row(sync), cut["cut"], first)["lacking"]
        store_copies(sync, [one["segment"] for one in lacking])
    sync.published("usb", row(sync), row(sync).sequence + 1, cut["cut"])


async def test_a_cut_is_made_when_users_rest(
    store: Store, sync: Syncing, autojump_clock: trio.testing.MockClock
) -> None:
    acts.put(store, row=b"x")
    found, after_s = await order(sync)
    assert found == {"do": "publish"}
    assert syncing.IDLE_S <= after_s < syncing.IDLE_S + 1
    await publish(sync)
    assert (await order(sync))[0] is None
    assert sync.record("usb", row(sync))["is_in_step"]
    acts.put(store, row=b"y")
    assert (await order(sync))[0] == {"do": "publish"}


async def test_a_cut_is_made_at_the_latest_after_a_while(
    store: Store, sync: Syncing, autojump_clock: trio.testing.MockClock
) -> None:
    async def write() -> None:
        while True:
            acts.put(store, row=os.urandom(4))
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        found, after_s = await order(sync)
        nursery.cancel_scope.cancel()
    assert found == {"do": "publish"}
    assert syncing.AT_LATEST_S <= after_s < syncing.AT_LATEST_S + 2


@pytest.mark.parametrize(
    ("key", "is_act"),
    [(keys.TRASH_POLICY, True), (keys.COPIES_WANTED, True), (keys.setting("scrub"), False)],
)
async def test_what_users_set_is_an_act_and_books_are_none(
    store: Store,
    sync: Syncing,
    clock: ManualClock,
    autojump_clock: trio.testing.MockClock,
    key: bytes,
    is_act: bool,
) -> None:
    await publish(sync)
    batch = store.batch()
    batch.put(key, b"set")
    store.commit(batch)
    expected = {"do": "publish"} if is_act else None
    assert (await order(sync))[0] == expected
    store.close()
    after = Store.open(store.path, clock=clock)
    try:
        assert (await order(Syncing(after, Events(clock), lambda: None)))[0] == expected
    finally:
        after.close()


async def test_the_last_segment_that_every_remote_has_is_known(
    store: Store, sync: Syncing, autojump_clock: trio.testing.MockClock
) -> None:
    acts.put(store, row=b"x")
    assert sync.published_segment() == 0
    await publish(sync)
    assert sync.published_segment() == row(sync).published_segment > 0
    sync.registry.add("slow", Remote(number=0, url="file:///y", writer="me"))
    assert sync.published_segment() == 0
    sync.registry.change("slow", is_paused=True)
    assert sync.published_segment() == row(sync).published_segment
    sync.registry.change("usb", is_paused=True)
    assert sync.published_segment() == store.newest_segment


async def test_sealed_segments_go_ahead_of_the_cut(
    store: Store, sync: Syncing, autojump_clock: trio.testing.MockClock
) -> None:
    acts.add(store, os.urandom(50))
    store.seal()
    acts.add(store, os.urandom(50))
    found, after_s = await order(sync)
    assert found["do"] == "send"
    assert [one["segment"] for one in found["segments"]] == [1]
    assert after_s < 1


async def test_who_asks_does_not_wait_and_a_failure_is_not_repeated_at_once(
    store: Store, sync: Syncing, autojump_clock: trio.testing.MockClock
) -> None:
    acts.put(store, row=b"x")
    sync.ask(["usb"])
    found, after_s = await order(sync, rest_s=60)
    assert (found, after_s < 1) == ({"do": "publish"}, True)
    sync.report("usb", row(sync), "", {"class": "RemoteFull", "message": "full"}, (0, 0, 0))
    found, after_s = await order(sync, rest_s=20)
    assert found == {"do": "publish"}
    assert after_s >= 20
    one = sync.record("usb", row(sync))
    assert (one["error"], one["error_class"], one["failures"]) == ("full", "RemoteFull", 1)
    await publish(sync)
    assert sync.record("usb", row(sync))["error"] is None


@pytest.mark.parametrize("how", ["a segment arrives", "an order is done", "it is published"])
async def test_an_error_stays_until_something_went_right(
    store: Store, sync: Syncing, how: str
) -> None:
    """And a remote that stays full is not said to go on with each try."""

    def told() -> list[str]:
        return [str(one.kind) for one in sync._events.since(0)]

    acts.put(store, row=b"x")
    for _ in range(3):
        sync.report("usb", row(sync), "sending segments", None, (0, 0, 0))
        sync.report("usb", row(sync), "sending", None, (99, 1, 0))
        sync.report("usb", row(sync), "", {"class": "RemoteFull", "message": "full"}, (0, 0, 0))
    sync.report("usb", row(sync), "sending segments", None, (0, 0, 0))
    assert sync.record("usb", row(sync))["error"] == "full"
    assert told() == ["sync-error"]
    match how:
        case "a segment arrives":
            store_copies(sync, [1])
        case "an order is done":
            sync.report("usb", row(sync), "", None, (0, 0, 0))
        case "it is published":
            await publish(sync)
    assert sync.record("usb", row(sync))["error"] is None
    assert told()[:2] == ["sync-error", "sync-goes-on"]


async def test_who_asks_during_a_try_that_fails_gets_another(
    store: Store, sync: Syncing, autojump_clock: trio.testing.MockClock
) -> None:
    """That one began before the user mended what it fails of."""
    acts.put(store, row=b"x")
    sync.ask(["usb"])
    await order(sync)
    sync.ask(["usb"])
    sync.report("usb", row(sync), "", {"class": "WrongKey", "message": "wrong"}, (0, 0, 0))
    assert sync.record("usb", row(sync))["failures"] == 0
    found, after_s = await order(sync, rest_s=60)
    assert (found, after_s < 1) == ({"do": "publish"}, True)
    sync.report("usb", row(sync), "", {"class": "WrongKey", "message": "wrong"}, (0, 0, 0))
    assert sync.record("usb", row(sync))["failures"] == 1
    assert (await order(sync, rest_s=20))[1] >= 20


async def test_who_asks_after_a_cut_does_not_wait_for_the_next(
    store: Store, sync: Syncing, autojump_clock: trio.testing.MockClock
) -> None:
    acts.put(store, row=b"x")
    await order(sync)
    cut = await sync.cut(row(sync))
    acts.put(store, row=b"y")
    sync.ask(["usb"])
    sync.published("usb", row(sync), 1, cut["cut"])
    found, after_s = await order(sync)
    assert (found, after_s < 1) == ({"do": "publish"}, True)


async def test_paused_held_and_removed_remotes_get_nothing(
    store: Store, sync: Syncing, clock: ManualClock, autojump_clock: trio.testing.MockClock
) -> None:
    acts.put(store, row=b"x")
    sync.hold(row(sync), 50)
    _, after_s = await order(sync)
    assert after_s >= 50
    sync.registry.change("usb", is_paused=True)
    assert (await order(sync))[0] is None
    sync.registry.add("other", Remote(number=0, url="file:///z", writer="me"))
    with pytest.raises(WrongState, match="fusefs sync resume PATH usb"):
        sync.ask(["other", "usb"])
    assert not sync.state(sync.registry.get("other")).is_asked
    number = row(sync).number
    sync.registry.remove("usb")
    clock.advance(1)
    sync.registry.add("usb", Remote(number=0, url="file:///y"))
    assert row(sync).number != number
    with pytest.raises(NoSuchRemote):
        await sync.order("usb", number, 1, 0)


async def test_a_paused_remote_that_is_taken_over_is_sent_to_when_it_is_resumed(
    store: Store, sync: Syncing, autojump_clock: trio.testing.MockClock
) -> None:
    acts.put(store, row=b"x")
    sync.adopted("usb", sync.registry.change("usb", is_paused=True, sequence=7))
    assert (await order(sync))[0] is None
    sync.registry.change("usb", is_paused=False)
    assert (await order(sync))[0] == {"do": "publish"}


async def test_what_is_of_use_to_nobody_is_not_sent(
    store: Store, sync: Syncing, autojump_clock: trio.testing.MockClock
) -> None:
    number = acts.add(store, os.urandom(50))
    store.seal()
    batch = store.batch()
    store.blocks.change_refs(batch, number, -1)
    store.commit(batch)
    assert sync.copies.lacking(row(sync).number) == []
    assert (await order(sync))[0] == {"do": "publish"}


async def test_after_a_start_only_acts_that_are_not_published_count(
    store: Store, sync: Syncing, autojump_clock: trio.testing.MockClock
) -> None:
    acts.add(store, b"x")
    await publish(sync)
    store.seal()
    again = Syncing(store, Events(store.clock), lambda: None)
    assert again.record("usb", row(again))["is_in_step"]
    acts.put(store, row=b"y")
    later = Syncing(store, Events(store.clock), lambda: None)
    assert not later.record("usb", row(later))["is_in_step"]


async def test_a_drain_waits_for_what_comes_and_not_for_what_fails(
    store: Store, sync: Syncing, autojump_clock: trio.testing.MockClock
) -> None:
    acts.put(store, row=b"x")

    async def agent() -> None:
        await order(sync)
        await publish(sync)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent)
        await sync.drain(lambda left: None)
    assert row(sync).sequence == 1
    acts.put(store, row=b"y")

    async def failing() -> None:
        await order(sync)
        sync.report("usb", row(sync), "", {"class": "RemoteFull", "message": "full"}, (0, 0, 0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(failing)
        await sync.drain(lambda left: None)
    assert row(sync).sequence == 1


async def test_of_a_read_only_mount_nothing_is_sent(
    store: Store, sync: Syncing, autojump_clock: trio.testing.MockClock
) -> None:
    acts.put(store, row=b"x")
    still = Syncing(store, Events(store.clock), lambda: None, is_read_only=True)
    assert await still.order("usb", row(still).number, FAR_S, 0) is None
