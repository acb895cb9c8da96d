"""Evictions: what may go, how copies are proved, what is refused, what stays readable."""

from random import Random

import msgspec
import pytest
import trio
from blake3 import blake3

from fusefs.base import failpoints
from fusefs.daemon.fetch_desk import (
    CopiesArguments,
    EvictPlanArguments,
    FetchDesk,
    PathArguments,
    PinArguments,
)
from fusefs.errors import InUse, NotEnoughCopies, RemoteUnreachable, StoreError
from fusefs.model import keys, remote
from fusefs.model.block import Block
from fusefs.model.remote import Remote
from fusefs.store.collector import reading_segments
from fusefs.sync.registry import by_number
from tests.unit.daemon.agents import Agent, Counted
from tests.unit.elsewhere import Away
from tests.unit.inprocess import InProcess

CONTENT = Random(1).randbytes(12 << 20)
OTHER = Random(2).randbytes(12 << 20)


@pytest.fixture
def away(fs: InProcess) -> Away:
    fs.write(b"a", CONTENT)
    fs.sync()
    fs.store.roll()
    fs.write(b"b", OTHER)
    fs.sync()
    fs.store.roll()
    fs.write(b"c", b"new")
    away = Away(fs.store)
    away.copy_all()
    return away


def agent_of(fs: InProcess, *several: Away) -> tuple[Agent, Counted]:
    remotes = {one.name: Counted(one) for one in several}
    return Agent(fs, **remotes), remotes[several[0].name]


def evict(fs: InProcess, agent: Agent, **options: int) -> dict[str, object]:
    """Everything that may go."""
    evicting = fs.filesystem.evicting

    async def act() -> dict[str, object]:
        plan = await evicting.plan(None, None)
        numbers = [one.number for one in plan.segments]
        done = await evicting.evict(numbers, **options)  # type: ignore[arg-type]
        return done.record()

    found: dict[str, object] = agent.run(act)
    return found


def test_the_space_comes_back_and_reads_still_work(fs: InProcess, away: Away) -> None:
    agent, remote = agent_of(fs, away)
    before = fs.store.segments_bytes
    done = evict(fs, agent)
    assert done["refused"] == []
    assert fs.store.segments_bytes <= before - 24 * (1 << 20)
    assert remote.read_bytes == 0  # they were stored a moment ago
    fs.remount()
    assert agent.read(b"a") == CONTENT
    assert agent.read(b"b") == OTHER


def test_what_was_sealed_a_moment_ago_may_go(fs: InProcess) -> None:
    fs.sync()
    before = fs.store.checkpointed.segment
    fs.write(b"a", CONTENT)
    away = Away(fs.store)
    away.copy_all()
    assert fs.store.checkpointed.segment == before
    agent, _ = agent_of(fs, away)
    done = evict(fs, agent)
    assert done["refused"] == []
    assert fs.store.segments_bytes < 1 << 20
    assert agent.read(b"a") == CONTENT


def test_with_the_only_remote_unreachable_nothing_goes(fs: InProcess, away: Away) -> None:
    agent, remote = agent_of(fs, away)
    remote.why_not = RemoteUnreachable("example.org does not answer")
    before = dict(fs.store.segments)
    done = evict(fs, agent)
    assert done["segments"] == 0
    assert "0 of 1 proved copies" in str(done["refused"])
    assert "away: example.org does not answer" in str(done["refused"])
    assert dict(fs.store.segments) == before


def test_without_an_agent_nothing_goes(fs: InProcess, away: Away) -> None:
    fs.filesystem.fetching.timeout_s = 0.01
    number = min(away.objects)
    with pytest.raises(NotEnoughCopies, match="nobody has looked"):
        trio.run(fs.filesystem.evicting.evict, [number])
    assert number in fs.store.segments


@pytest.mark.parametrize(
    ("options", "goes"),
    [
        ({"numcopies": 2}, False),
        ({"mincopies": 2}, False),
        ({"numcopies": 0, "mincopies": 0}, True),
        ({"numcopies": 1}, True),
    ],
)
def test_so_many_copies_are_needed(
    fs: InProcess, away: Away, options: dict[str, int], goes: bool
) -> None:
    agent, _ = agent_of(fs, away)
    done = evict(fs, agent, **options)
    assert bool(done["segments"]) == goes
    assert bool(done["refused"]) != goes


def test_two_copies_in_two_remotes_are_enough_for_two(fs: InProcess, away: Away) -> None:
    second = Away(fs.store, 2, "second")
    second.copy_all()
    agent, _ = agent_of(fs, away, second)
    trio.run(FetchDesk(fs.filesystem).copies, CopiesArguments(numcopies=2), 0)
    done = evict(fs, agent)
    assert done["segments"]
    fs.remount()
    assert fs.filesystem.evicting.settings.numcopies == 2


def test_a_copy_that_is_gone_or_cut_proves_nothing(fs: InProcess, away: Away) -> None:
    first, second = sorted(away.objects)[:2]
    agent, _ = agent_of(fs, away)
    cut = away.objects[first]
    away.objects[first] = cut[:-1]
    done = evict(fs, agent)
    assert first in fs.store.segments
    assert second not in fs.store.segments
    assert f"has {len(cut) - 1} bytes, not {len(cut)}" in str(done["refused"])


def test_a_copy_that_changed_is_found_by_reading_it(fs: InProcess, away: Away) -> None:
    agent, remote = agent_of(fs, away)
    first = min(away.objects)
    away.objects[first] = bytes(len(away.objects[first]))
    done = evict(fs, agent, read_all=True)
    assert first in fs.store.segments
    assert "is not what was stored" in str(done["refused"])
    assert remote.read_bytes == sum(map(len, away.objects.values()))
    evict(fs, agent)  # nor does it count afterwards, when nobody asks for it to be read
    assert first in fs.store.segments


def test_one_that_cannot_be_reached_is_trusted_when_it_can(fs: InProcess, away: Away) -> None:
    agent, remote = agent_of(fs, away)
    remote.why_not = RemoteUnreachable("example.org does not answer")
    assert not evict(fs, agent, read_all=True)["segments"]
    remote.why_not = None
    assert evict(fs, agent)["segments"]
    assert remote.read_bytes == 0


def test_what_was_seen_long_ago_is_read_again(fs: InProcess, away: Away) -> None:
    fs.clock.advance(31 * 86400)
    agent, remote = agent_of(fs, away)
    evict(fs, agent)
    assert remote.read_bytes == sum(map(len, away.objects.values()))
    number = min(away.objects)
    assert fs.store.copies(number)[1].verified_ns == fs.clock.time_ns()


def test_what_is_pinned_stays(fs: InProcess, away: Away) -> None:
    fs.remount()  # for the registry to have the remote
    desk = FetchDesk(fs.filesystem)
    agent, _ = agent_of(fs, away)
    trio.run(desk.pin, PinArguments(b"a", True), 0)
    plan = trio.run(desk.evict_plan, EvictPlanArguments([b"a"]), 0)
    assert plan["segments"] == []
    assert plan["kept"]["pinned"] >= len(CONTENT)
    evict(fs, agent)
    assert fs.read(b"a") == CONTENT
    assert not _is_here(fs, b"b")
    trio.run(desk.pin, PinArguments(b"a", None), 0)
    evict(fs, agent)
    assert not _is_here(fs, b"a")


def test_a_pin_holds_for_what_is_below_but_for_what_is_excepted(fs: InProcess, away: Away) -> None:
    desk = FetchDesk(fs.filesystem)
    fs.mkdir(b"d")
    fs.rename(b"a", b"d/a")
    fs.rename(b"b", b"d/b")
    trio.run(desk.pin, PinArguments(b"d", True), 0)
    trio.run(desk.pin, PinArguments(b"d/b", False), 0)
    agent, _ = agent_of(fs, away)
    evict(fs, agent)
    assert _is_here(fs, b"d/a")
    assert not _is_here(fs, b"d/b")


def _is_here(fs: InProcess, path: bytes) -> bool:
    found = trio.run(FetchDesk(fs.filesystem).whereis, PathArguments(path), 0)
    return bool(found["here_bytes"] == found["bytes"])


def test_what_no_checkpoint_in_a_remote_names_stays(fs: InProcess, away: Away) -> None:
    row = remote.unpack_remote(fs.store.get(keys.remote("away")) or b"")
    batch = fs.store.batch()
    batch.put(keys.remote("away"), remote.pack(msgspec.structs.replace(row, published_segment=0)))
    fs.store.commit(batch)
    agent, _ = agent_of(fs, away)
    assert evict(fs, agent)["segments"] == 0
    plan = trio.run(fs.filesystem.evicting.plan, None, None)
    assert plan.kept.unpublished


def test_only_so_much_goes_as_is_asked_for_the_oldest_first(fs: InProcess, away: Away) -> None:
    plan = trio.run(fs.filesystem.evicting.plan, None, 1)
    assert len(plan.segments) == 1
    everything = trio.run(fs.filesystem.evicting.plan, None, None).segments
    assert len(everything) > 1
    assert plan.segments[0] == min(everything, key=lambda one: (one.used_ns, one.number))


def test_nothing_goes_while_somebody_reads_segments(fs: InProcess, away: Away) -> None:
    agent, _ = agent_of(fs, away)
    with reading_segments(fs.path), pytest.raises(InUse):
        evict(fs, agent)
    assert evict(fs, agent)["segments"]


EVICTING = ("evict.proved", "evict.delete", "evict.deleted")


@pytest.mark.parametrize("point", EVICTING)
def test_killed_while_it_evicts(fs: InProcess, away: Away, point: str) -> None:
    agent, _ = agent_of(fs, away)
    failpoints.arm(f"{point}={1 if point == 'evict.proved' else 2}:EIO")
    with pytest.raises((OSError, StoreError, ExceptionGroup)):
        evict(fs, agent)
    failpoints.disarm()
    fs.crash()
    assert agent.read(b"a") == CONTENT
    assert agent.read(b"b") == OTHER
    evict(fs, agent)
    assert agent.read(b"a") == CONTENT


def test_garbage_does_not_point_to_what_is_gone(fs: InProcess, away: Away) -> None:
    fs.truncate(b"b", 1 << 20)
    agent, _ = agent_of(fs, away)
    evict(fs, agent)
    fs.truncate(b"a", 0)
    rows = [Block.unpack(row) for _, row in fs.store.scan(keys.BLOCK)]
    assert all(one.refs for one in rows if one.segment not in fs.store.segments)


def test_where_a_file_is(fs: InProcess, away: Away) -> None:
    desk = FetchDesk(fs.filesystem)
    found = trio.run(desk.whereis, PathArguments(b"a"), 0)
    assert found["bytes"] == found["here_bytes"] == len(CONTENT)
    assert {one["remote"] for it in found["segments"] for one in it["copies"]} == {"away"}
    agent, _ = agent_of(fs, away)
    evict(fs, agent)
    agent.read(b"a", 0, 4096)
    found = trio.run(desk.whereis, PathArguments(b"a"), 0)
    assert found["here_bytes"] == 0
    assert sum(one["cached_bytes"] for one in found["segments"])


def test_the_cache_is_kept_within_its_limit(fs: InProcess, away: Away) -> None:
    agent, _ = agent_of(fs, away)
    evict(fs, agent)
    agent.read(b"a")
    evicting = fs.filesystem.evicting
    evicting._limit_bytes = fs.store.segments_bytes + (1 << 20)

    async def until_small() -> None:
        with trio.move_on_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(evicting.run)
                while evicting._excess_bytes() > 0:
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()

    agent.run(until_small)
    assert evicting._excess_bytes() <= 0
    assert agent.read(b"a") == CONTENT


def test_segments_go_by_themselves_when_there_is_more_than_the_limit(
    fs: InProcess, away: Away
) -> None:
    agent, _ = agent_of(fs, away)
    evicting = fs.filesystem.evicting
    evicting._limit_bytes = 14 << 20

    async def until_small() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(evicting.run)
            while evicting._excess_bytes() > 0:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    agent.run(until_small)
    assert fs.store.segments_bytes <= 14 << 20
    assert blake3(agent.read(b"a")).digest() == blake3(CONTENT).digest()


def test_what_a_remote_has_published_goes_soon_after(
    fs: InProcess, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusefs.daemon.evicting._LOOK_EVERY_S", 0.01)
    agent, _ = agent_of(fs, away)
    evicting = fs.filesystem.evicting
    evicting._limit_bytes = 14 << 20
    [(name, row)] = by_number(fs.store).values()

    def put(row: Remote) -> None:
        batch = fs.store.batch()
        batch.put(keys.remote(name), remote.pack(row))
        fs.store.commit(batch)

    async def until_small() -> None:
        put(msgspec.structs.replace(row, published_segment=0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(evicting.run)
            while not evicting._said:
                await trio.lowlevel.checkpoint()
            assert fs.store.segments_bytes > 14 << 20
            put(row)
            with trio.fail_after(60):
                while evicting._excess_bytes() > 0:
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    agent.run(until_small)
    assert fs.store.segments_bytes <= 14 << 20
