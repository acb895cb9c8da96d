"""Whatever happens to a transfer, it comes to an end, once: canceled, failed, cut off, repeated."""

import json
import os
import threading
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from fusefs.agent import moving
from fusefs.base import failpoints
from fusefs.config.transfers import TransferOptions
from fusefs.errors import NotPermitted, WrongState
from fusefs.remotes.files import Quiet
from fusefs.store.store import Store
from fusefs.transfers import role, transfers
from tests.unit.transfers.world import ENDED, Record, World

MIB = 1 << 20


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


async def hold(world: World, status: str) -> str:
    """A transfer that is in `status` and stays there."""
    world.clock.advance(1)
    match status:
        case "unknown":
            world.gates.close("write")
            await world.create("a")
            await world.gates.reached("write")
        case "staging":
            world.hold_staging()
        case "active" | "inactive":
            world.gates.close("write")
        case "finalizing":
            world.gates.close("manifest")
    source = "store:/" if status == "staging" else None
    if source:
        world.filesystem.move_desk.mountpoint = bytes(world.source)
    id = await world.create("a", source=source)
    if status == "inactive":
        await world.until(id, ["active"])
        await world.ask("transfer_pause", id=id)
    await world.until(id, [status])
    return id


@pytest.mark.parametrize("is_stuck", [False, True], ids=["", "what it does is stuck"])
@pytest.mark.parametrize("status", ["unknown", "staging", "active", "inactive", "finalizing"])
async def test_a_transfer_is_canceled_in_every_status(
    tmp_path: Path, status: str, is_stuck: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role, "CANCEL_BOUND_S", 0.5)
    world = World(tmp_path, TransferOptions(at_once=1))
    write(world.source / "a", b"a")
    async with world.running():
        id = await hold(world, status)
        with pytest.raises(NotPermitted):
            await world.ask("transfer_cancel", id=id, uid=12345)
        answer = await world.ask("transfer_cancel", id=id)
        assert answer["status"] in (status, "canceled")
        if not is_stuck:
            world.gates.open()
        record = await world.until(id)
        assert (record["status"], record["error_kind"]) == ("canceled", "")
        assert record["history"][-1]["cause"] == "asked for by root"
        again = await world.ask("transfer_cancel", id=id)
        assert (again["status"], again["is_canceling"]) == ("canceled", False)
        mine = [one for one in await world.journal() if one["id"] == id]
        assert [one["status"] for one in mine] == ["canceled"]
        world.gates.open()
        await world.until_idle()
        assert not (world.target / id / "manifest.json").exists()
        assert not (world.target / id / ".partial").exists()
    world.fs.close()


async def test_the_history_names_the_first_who_canceled_it(world: World) -> None:
    write(world.source / "a", b"a")
    world.gates.close("write")
    async with world.running():
        id = await world.create("a", uid=4_000_000)  # who has no name here
        await world.ask("transfer_cancel", id=id, uid=4_000_000)
        await world.ask("transfer_cancel", id=id)
        world.gates.open()
        record = await world.until(id)
    assert record["history"][-1]["cause"] == "asked for by 4000000"


async def test_a_paused_transfer_rests_and_goes_on_after_a_crash(world: World) -> None:
    write(world.source / "a", b"a")
    async with world.running():
        id = await hold(world, "inactive")
        world.gates.open()
        await world.until_idle()
        assert (await world.show(id))["status"] == "inactive"
    world.crash()
    async with world.running():
        await world.until_idle()
        assert (await world.show(id))["status"] == "inactive"
        await world.ask("transfer_resume", id=id)
        record = await world.until(id)
        with pytest.raises(WrongState):
            await world.ask("transfer_pause", id=id)
    assert record["status"] == "succeeded"


@pytest.mark.parametrize("status", ["unknown", "staging", "active", "finalizing"])
@pytest.mark.parametrize("is_canceling", [False, True], ids=["", "canceling"])
async def test_a_crash_in_any_status_is_gone_on_with(
    tmp_path: Path, status: str, is_canceling: bool
) -> None:
    world = World(tmp_path, TransferOptions(at_once=1))
    write(world.source / "a", b"a" * MIB * 3)
    async with world.running():
        id = await hold(world, status)
        if is_canceling:
            await world.ask("transfer_cancel", id=id)
    world.gates.open()
    world.crash()
    world.filesystem.move_desk.mountpoint = bytes(world.source)
    async with world.running():
        record = await world.until(id)
        others = [one["id"] for one in await world.ask("transfer_list")]
        for other in others:
            await world.until(other)
        await world.until_idle()
    assert record["status"] == ("canceled" if is_canceling else "succeeded")
    assert sorted(one["id"] for one in await world.journal()) == sorted(others)
    world.crash()
    async with world.running():
        await world.until_idle()
    assert len(await world.journal()) == len(others)
    assert (world.target / id / "manifest.json").exists() is not is_canceling
    world.fs.close()


#: How often each is passed at least on the way from staging to the end.
LEAST_HITS = {"transfer.commit": 4, "transfer.hand-on": 3, "transfer.manifest": 1}


@pytest.mark.parametrize("count", range(1, 5))
@pytest.mark.parametrize("step", LEAST_HITS)
async def test_a_step_that_fails_is_done_again(world: World, step: str, count: int) -> None:
    """Failing on the way from any status to the next one leaves no transfer in between."""
    write(world.source / "a", b"a")
    staging = world.hold_staging()
    world.filesystem.move_desk.mountpoint = bytes(world.source)
    async with world.running():
        id = await world.create("a", source="store:/")
        await world.until(id, ["staging"])
        failpoints.arm(f"{step}={count}:ENOSPC")
        staging.done.set()
        record = await world.until(id)
        await world.wait(lambda: failpoints.hits().get(step, 0) >= min(count, LEAST_HITS[step]))
    assert record["status"] == "succeeded"
    assert len(await world.journal()) == 1


MOVES = ("move.block", "move.sent", "move.verified", "move.renamed")


@pytest.mark.parametrize("step", MOVES)
async def test_an_agent_that_fails_anywhere_fails_one_try_at_most(world: World, step: str) -> None:
    write(world.source / "a", b"a" * (2 * MIB + 5))
    failpoints.arm(f"{step}=1:EIO")
    async with world.running():
        id = await world.create("a")
        record = await world.until(id)
        await world.until_idle()
    assert failpoints.hits()[step] >= 1
    assert record["status"] in ("succeeded", "failed")
    assert not (world.target / id / ".partial").exists()
    assert (world.target / id / "manifest.json").exists() is (record["status"] == "succeeded")


async def test_a_manifest_that_cannot_be_put_fails_the_transfer(world: World) -> None:
    write(world.source / "a", b"a")
    world.gates.close("write")
    async with world.running():
        id = await world.create("a")
        await world.gates.reached("write")
        (world.target / id / "manifest.json").mkdir(parents=True)
        (world.target / id / "manifest.json" / "x").touch()
        world.gates.open()
        record = await world.until(id)
        await world.until_idle()
    assert record["status"] == "failed"
    assert "finalizing" in [one["status"] for one in record["history"]]
    assert sorted(path.name for path in (world.target / id).iterdir()) == ["a", "manifest.json"]
    assert (world.target / id / "a").read_bytes() == b"a"


async def test_a_move_without_a_sign_of_life_is_begun_again(tmp_path: Path) -> None:
    world = World(tmp_path, TransferOptions(stall_s=0.3, retries=1000))
    write(world.source / "a", b"a")
    world.gates.close("write")
    async with world.running():
        id = await world.create("a")
        await world.gates.reached("write", 2)
        world.gates.open()
        record = await world.until(id)
    assert (record["status"], record["files_moved"]) == ("succeeded", 1)
    assert record["retries"] >= 1
    assert len(await world.journal()) == 1
    world.fs.close()


@pytest.mark.parametrize("where", ["write", "manifest"])
async def test_a_request_within_its_own_time_is_no_stall(tmp_path: Path, where: str) -> None:
    world = World(tmp_path, TransferOptions(stall_s=4, retries=1000))
    gaps_s: list[float] = []

    async def note_gaps() -> None:
        while True:
            began = trio.current_time()
            try:
                await trio.sleep(moving.SIGN_EVERY_S)
            finally:
                gaps_s.append(trio.current_time() - began)

    world.gates.quiet = Quiet(answer_s=60)
    write(world.source / "a", b"a")
    world.gates.close(where)
    async with world.running():
        id = await world.create("a")
        await world.gates.reached(where)
        signs = world.asked["move_progress"] + int(6 / moving.SIGN_EVERY_S)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(note_gaps)
            await world.wait(lambda: world.asked["move_progress"] > signs)
            nursery.cancel_scope.cancel()
        world.gates.open()
        record = await world.until(id)
    assert record["status"] == "succeeded"
    assert not record["retries"] or max(gaps_s) > 2, "the machine gave no sign of life either"
    world.fs.close()


async def test_what_was_sent_in_vain_counts(world: World) -> None:
    write(world.source / "a", os.urandom(2 * MIB))
    world.gates.fail("rename", 1000)
    async with world.running():
        record = await world.until(await world.create("a"))
    assert (record["status"], record["bytes_moved"]) == ("failed", 0)
    # One try that moved bytes, and those that may fail.
    assert (record["bytes_sent"], record["retries"]) == (2 * MIB, 1 + world.options.retries)


async def test_temporaries_go_when_the_destination_can_be_reached_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "CLEAN_RESTS_S", (0.0, 0.01, 0.01))
    write(world.source / "a", b"a")
    world.gates.fail("rename", 1000)
    world.gates.fail("clean", 2)
    async with world.running():
        id = await world.create("a")
        assert (await world.until(id))["status"] == "failed"
        await world.wait(lambda: not (world.target / id / ".partial").exists())


async def test_what_has_come_is_not_forgotten_while_it_rests(world: World) -> None:
    write(world.source / "a", os.urandom(2 * MIB))
    world.gates.close("rename")
    async with world.running():
        id = await world.create("a")
        await world.when(id, lambda record: record["bytes_moved"] == 2 * MIB)
        await world.ask("transfer_pause", id=id)
        record = await world.until(id, ["inactive"])
        assert (record["bytes_moved"], record["bytes_sent"]) == (2 * MIB, 2 * MIB)
        await world.ask("transfer_cancel", id=id)
        world.gates.open()
        record = await world.until(id)
    assert (record["status"], record["files_moved"]) == ("canceled", 0)
    assert (record["bytes_moved"], record["bytes_sent"]) == (0, 2 * MIB)


async def test_a_move_that_is_stuck_for_ever_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, TransferOptions(stall_s=0.1, retries=2))
    write(world.source / "a", b"a")
    world.gates.close("write")
    monkeypatch.setattr(role, "CANCEL_BOUND_S", 0.2)
    async with world.running():
        record = await world.until(await world.create("a"))
    assert (record["status"], record["error_kind"]) == ("failed", "RemoteUnreachable")
    assert record["error"].startswith("a: nothing moved for 0.1 s: look at ")
    world.fs.close()


async def test_a_network_that_comes_back_in_time_costs_retries_only(world: World) -> None:
    write(world.source / "a", b"a" * MIB * 2)
    world.gates.fail("write", 2)
    async with world.running():
        record = await world.until(await world.create("a"))
    assert (record["status"], record["retries"]) == ("succeeded", 2)


async def test_a_network_that_is_gone_for_good_fails_the_transfer(world: World) -> None:
    write(world.source / "a", b"a")
    world.gates.fail("write", 1000)
    async with world.running():
        record = await world.until(await world.create("a"))
    assert (record["status"], record["error_kind"]) == ("failed", "RemoteUnreachable")


async def test_without_an_agent_a_transfer_waits_and_can_be_canceled(world: World) -> None:
    write(world.source / "a", b"a")
    world.gates.close("write")
    async with world.running():
        id = await world.create("a")
        await world.gates.reached("write")
    world.crash()
    async with world.running(agent=False):
        await world.until(id, ["active"])
        await world.ask("transfer_cancel", id=id)
        assert (await world.until(id))["status"] == "canceled"


async def test_progress_only_grows(world: World) -> None:
    write(world.source / "a", os.urandom(24 * MIB))
    seen: list[int] = []
    async with world.running():
        id = await world.create("a")
        with trio.fail_after(120):
            while True:
                record = await world.show(id)
                seen.append(record["bytes_moved"])
                if record["status"] in ENDED:
                    break
                await trio.testing.wait_all_tasks_blocked(0.0005)
    assert seen == sorted(seen)
    assert seen[-1] == 24 * MIB
    assert json.loads((world.target / id / "manifest.json").read_bytes())


async def test_nothing_is_shown_that_a_power_cut_could_take_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(world.source / "a", b"a")
    disk = threading.Event()
    sync = Store.sync
    seen: list[Record] = []

    async def look(id: str) -> None:
        seen.append(await world.show(id))

    async with world.running(), trio.open_nursery() as nursery:
        id = await hold(world, "active")
        monkeypatch.setattr(Store, "sync", lambda store: disk.wait(30) and sync(store))
        nursery.start_soon(partial(world.ask, "transfer_cancel", id=id))
        await world.wait_a_moment()
        nursery.start_soon(look, id)
        await world.wait_a_moment()
        assert not seen
        disk.set()
    assert seen[0]["is_canceling"]
