"""Fetching on demand: what is asked of remotes, by whom it is shared, what readers get."""

from pathlib import Path
from random import Random

import pytest
import trio

from fusefs.daemon.fetch_desk import FetchDesk, OrdersArguments
from fusefs.errors import NotLocal, RemoteUnreachable, StoreDamaged
from fusefs.model import keys
from fusefs.model.block import Block
from tests.unit.daemon.agents import Agent, Counted
from tests.unit.elsewhere import Away
from tests.unit.inprocess import InProcess

CONTENT = Random(1).randbytes(12 << 20)


@pytest.fixture
def away(fs: InProcess) -> Away:
    fs.write(b"a", CONTENT)
    away = Away(fs.store)
    away.evict_all()
    fs.remount()
    return away


def agent_of(fs: InProcess, away: Away) -> tuple[Agent, Counted]:
    remote = Counted(away)
    return Agent(fs, away=remote), remote


def test_a_file_is_read_and_each_byte_is_fetched_once(fs: InProcess, away: Away) -> None:
    agent, remote = agent_of(fs, away)
    assert agent.read(b"a") == CONTENT
    seen: set[tuple[str, int]] = set()
    for name, start, size in remote.reads:
        pages = {(name, at) for at in range(start, start + size, 4096)}
        assert not seen & pages
        seen |= pages
    fs.remount()
    before = remote.read_bytes
    assert Agent(fs, away=remote).read(b"a") == CONTENT
    assert remote.read_bytes == before


def test_what_was_fetched_before_a_crash_is_not_fetched_again(fs: InProcess, away: Away) -> None:
    agent, remote = agent_of(fs, away)
    assert agent.read(b"a", 0, 6 << 20) == CONTENT[: 6 << 20]
    fs.crash()
    remote.reads.clear()
    fetched = {
        (number, at)
        for number in fs.store.cache.sizes
        for at in range(0, 16 << 20, 1 << 20)
        if not fs.store.cache.lacking(number, at, at + (1 << 20))
    }
    assert len(fetched) >= 6
    assert Agent(fs, away=remote).read(b"a") == CONTENT
    again = {(away.names[name], at) for name, at, size in remote.reads if size == 1 << 20}
    assert not fetched & again


def test_readahead_grows_for_who_reads_in_sequence(fs: InProcess, away: Away) -> None:
    agent, _ = agent_of(fs, away)
    agent.read(b"a", 0, 1 << 20)
    first = len(agent.orders)
    assert first <= 8
    agent.read(b"a", 5 << 20, 4096)  # a reader at random
    assert len(agent.orders) - first <= 2


def test_readers_of_one_place_share_what_is_ordered(fs: InProcess, away: Away) -> None:
    agent, remote = agent_of(fs, away)
    number = fs.files.open(fs.at(b"a"), for_writing=False)
    file = fs.files.handle(number).file
    found = []

    async def one() -> None:
        found.append(bytes(await fs.files.read(file, 0, 4096)))

    async def act() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one)

    agent.run(act)
    fs.files.release(number)
    assert found == [CONTENT[:4096]] * 20
    starts = [start for _, start, _ in remote.reads]
    assert len(starts) == len(set(starts))


def test_a_reader_learns_why_and_the_next_one_is_served(fs: InProcess, away: Away) -> None:
    agent, remote = agent_of(fs, away)
    remote.why_not = RemoteUnreachable("example.org does not answer")
    with pytest.raises(NotLocal, match="remote away: example"):
        agent.read(b"a")
    assert "example.org" in fs.filesystem.fetching.record()["last_error"]
    assert "not-fetched" in [one.kind for one in fs.filesystem.events.since(0)]
    remote.why_not = None
    assert agent.read(b"a") == CONTENT
    assert fs.filesystem.fetching.record()["last_error"] == ""


def test_without_an_agent_a_reader_does_not_wait_for_ever(fs: InProcess, away: Away) -> None:
    fs.filesystem.fetching.timeout_s = 0.01
    with pytest.raises(NotLocal, match="there is no agent"):
        fs.read(b"a")
    agent, _ = agent_of(fs, away)
    fs.filesystem.fetching.timeout_s = 60
    assert agent.read(b"a") == CONTENT


def test_a_reader_that_is_cancelled_leaves_nothing_stuck(fs: InProcess, away: Away) -> None:
    number = fs.files.open(fs.at(b"a"), for_writing=False)
    file = fs.files.handle(number).file

    async def act() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fs.files.read, file, 0, 4096)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(act)
    fs.files.release(number)
    assert fs.filesystem.fetching.record()["waiting"] == 0
    agent, _ = agent_of(fs, away)
    assert agent.read(b"a") == CONTENT


def test_orders_that_a_dead_agent_had_are_given_to_the_next(fs: InProcess, away: Away) -> None:
    desk = FetchDesk(fs.filesystem)
    agent, _ = agent_of(fs, away)
    number = fs.files.open(fs.at(b"a"), for_writing=False)
    file = fs.files.handle(number).file
    found = []

    async def read() -> None:
        found.append(bytes(await fs.files.read(file, 0, 4096)))

    async def act() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            first = await desk.orders(OrdersArguments("dies", 8), 0)
            assert first["orders"]
            nursery.start_soon(agent.serve)
            while not found:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    trio.run(act)
    fs.files.release(number)
    assert found == [CONTENT[:4096]]


def test_what_one_remote_lost_or_holds_damaged_comes_from_another(fs: InProcess) -> None:
    fs.write(b"a", CONTENT)
    cheap = Away(fs.store, 1, "cheap", cost=10)
    dear = Away(fs.store, 2, "dear", cost=20)
    cheap.copy_all()
    dear.evict_all()
    for number, content in cheap.objects.items():
        cheap.objects[number] = bytes(len(content))
    fs.remount()
    remotes = {"cheap": Counted(cheap), "dear": Counted(dear)}
    agent = Agent(fs, **remotes)
    assert agent.read(b"a", 0, 1 << 20) == CONTENT[: 1 << 20]
    assert remotes["cheap"].reads
    assert remotes["dear"].reads
    assert fs.store.blocks.counts.damaged_reads == 0


def test_each_copy_is_tried_before_one_that_did_not_verify_is_again(fs: InProcess) -> None:
    fs.write(b"a", CONTENT)
    several = [Away(fs.store, number, f"remote{number}", cost=number) for number in (1, 2, 3)]
    for one in several[:2]:
        one.copy_all()
    several[2].evict_all()
    for one in several[:2]:
        one.objects = {number: bytes(len(content)) for number, content in one.objects.items()}
    fs.remount()
    agent = Agent(fs, **{one.name: Counted(one) for one in several})
    assert agent.read(b"a", 0, 1 << 20) == CONTENT[: 1 << 20]
    piece = agent.orders[0]["offset"] >> 20
    first = [one for one in agent.orders if one["offset"] >> 20 == piece]
    told = [[(one["remote"], one["is_doubted"]) for one in order["copies"]] for order in first]
    assert told == [
        [("remote1", False), ("remote2", False), ("remote3", False)],
        [("remote2", False), ("remote3", False), ("remote1", True)],
        [("remote3", False), ("remote1", True), ("remote2", True)],
    ]


def test_a_copy_that_did_not_verify_is_read_back_before_it_counts(fs: InProcess) -> None:
    fs.write(b"a", CONTENT)
    cheap, dear = Away(fs.store, 1, "cheap", cost=10), Away(fs.store, 2, "dear", cost=20)
    cheap.copy_all()
    dear.evict_all()
    first = min(cheap.objects)
    cheap.objects[first] = bytes(len(cheap.objects[first]))
    fs.remount()
    Agent(fs, cheap=Counted(cheap), dear=Counted(dear)).read(b"a", 0, 1 << 20)
    copies = fs.store.copies(first)
    assert copies[1].verified_ns == 0
    assert copies[2].verified_ns > 0


def test_what_came_while_a_reader_looked_is_not_fetched_again(fs: InProcess, away: Away) -> None:
    agent, remote = agent_of(fs, away)
    number = min(away.objects)
    away.fetch(number, 0, 4 << 20)
    wanted = NotLocal("it was not there a moment ago", number, 100, 1 << 20)
    agent.run(lambda: fs.filesystem.fetching.fetch(wanted))
    assert not any(start < 2 << 20 for _, start, _ in remote.reads)
    agent.run(lambda: fs.filesystem.fetching.fetch(wanted, tries=1))  # then it is no good
    assert remote.reads[-1][2] >= 1 << 16


def test_what_no_copy_holds_any_more_is_an_error(fs: InProcess, away: Away) -> None:
    for number, content in away.objects.items():
        away.objects[number] = bytes(len(content))
    agent, _ = agent_of(fs, away)
    with pytest.raises(NotLocal, match="does not verify"):
        agent.read(b"a", 0, 4096)


def test_a_bad_block_is_healed_by_its_reader(fs: InProcess) -> None:
    fs.write(b"a", CONTENT)
    away = Away(fs.store)
    away.copy_all()
    fs.remount()
    one = fs.extents(b"a")[3]
    block = block_of(fs, one.block)
    before = spoil(fs, block)
    agent, remote = agent_of(fs, away)
    assert agent.read(b"a") == CONTENT
    assert fs.store.blocks.counts.healed == 1
    assert "healed" in [one.kind for one in fs.filesystem.events.since(0)]
    fs.remount()
    remote.reads.clear()
    assert fs.read(b"a") == CONTENT
    fs.scrub()
    assert fs.corruptions() == []
    spoil(fs, block, before)


def test_a_scrub_heals(fs: InProcess) -> None:
    fs.write(b"a", CONTENT)
    away = Away(fs.store)
    away.copy_all()
    fs.remount()
    one = fs.extents(b"a")[3]
    block = block_of(fs, one.block)
    before = spoil(fs, block)
    fs.scrub()  # there is nobody to fetch it
    assert len(fs.corruptions()) == 1
    agent, _ = agent_of(fs, away)
    scrubbing = fs.filesystem.scrubbing

    async def act() -> None:
        await trio.testing.wait_all_tasks_blocked()
        scrubbing.ask(0)
        while scrubbing.record()["is_running"]:
            await scrubbing.step()

    agent.run(act)
    assert fs.corruptions() == []
    assert fs.store.blocks.counts.healed == 1
    told = [one.fields for one in fs.filesystem.events.since(0) if one.kind == "scrubbed"]
    assert [(it["damaged"], it["healed"]) for it in told] == [(1, 0), (1, 1)]
    assert fs.read(b"a") == CONTENT
    spoil(fs, block, before)


def test_a_bad_block_without_a_copy_stays_one(fs: InProcess) -> None:
    fs.write(b"a", CONTENT)
    fs.remount()
    block = block_of(fs, fs.extents(b"a")[3].block)
    before = spoil(fs, block)
    with pytest.raises(StoreDamaged):
        fs.read(b"a")
    spoil(fs, block, before)


def block_of(fs: InProcess, number: int) -> Block:
    return Block.unpack(fs.store.get(keys.block(number)) or b"")


def spoil(fs: InProcess, block: Block, content: bytes = b"") -> bytes:
    """Flip a byte of a block on the disk, or lay `content` there; returns what was there."""
    path: Path = fs.path / "segments" / f"{block.segment:016x}"
    with open(path, "r+b") as file:
        file.seek(block.offset + 9)
        before = file.read(1)
        file.seek(block.offset + 9)
        file.write(content or bytes([before[0] ^ 1]))
    return before


def test_a_whole_segment_comes_back(fs: InProcess, away: Away) -> None:
    agent, remote = agent_of(fs, away)
    agent.read(b"a", 0, 3 << 20)
    fetching = fs.filesystem.fetching
    number = min(away.objects)
    assert number not in fs.store.segments
    fetched = agent.run(lambda: fetching.fetch_segment(number))
    assert fetched < len(away.objects[number])
    assert fs.store.segments[number] == len(away.objects[number])
    path = fs.path / "segments" / f"{number:016x}"
    assert path.read_bytes() == away.objects[number]
    assert number not in fs.store.cache.sizes
    assert remote.read_bytes <= sum(map(len, away.objects.values()))


def test_the_cache_gives_way_when_the_disk_gets_full(
    fs: InProcess, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, _ = agent_of(fs, away)
    agent.read(b"a")
    space = fs.store.space
    assert fs.store.cache.total_bytes
    monkeypatch.setattr(space, "refresh", lambda: 0 if fs.store.cache.total_bytes else 1 << 40)
    space._left = 0
    space.admit_data(1)
    assert fs.store.cache.total_bytes == 0
    fs.remount()
    monkeypatch.setattr(fs.store.space, "refresh", lambda: 0)
    with pytest.raises(NotLocal, match="full up to its reserve"):
        agent.read(b"a")
