"""Transfers from one directory to another: what comes, what is recorded, what is refused."""

import json
import os
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from fusefs.config.transfers import TransferOptions
from fusefs.errors import (
    AlreadyRunning,
    BadTransfer,
    FusefsError,
    NoSuchTransfer,
    NotPermitted,
    NotRunning,
    PayloadTooLarge,
    RemoteFull,
    RemoteUnreachable,
    TooManyTransfers,
    UnknownEndpoint,
)
from fusefs.model.transfer import File
from fusefs.transfers import request
from fusefs.transfers.api import Found, Surveyed
from fusefs.transfers.records import Records
from tests.unit.transfers.world import World, end

MIB = 1 << 20


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def statuses(record: dict[str, Any]) -> list[str]:
    return [one["status"] for one in record["history"]]


async def test_files_come_with_a_manifest_and_one_record(world: World) -> None:
    write(world.source / "a.txt", b"one")
    write(world.source / "sub" / "b.bin", bytes(3 << 20))
    write(world.source / "empty", b"")
    async with world.running():
        id = await world.create("a.txt", "sub", "empty", description="what it *is*")
        record = await world.until(id)
    assert (record["status"], record["error"]) == ("succeeded", "")
    assert statuses(record) == ["unknown", "active", "finalizing", "succeeded"]
    assert (record["files_moved"], record["bytes_moved"]) == (3, (3 << 20) + 3)
    folder = world.target / id
    manifest = world.manifest(id)
    assert {one["path"] for one in manifest["resources"]} == {"a.txt", "sub/b.bin", "empty"}
    for one in manifest["resources"]:
        content = (folder / one["path"]).read_bytes()
        assert content == (world.source / one["path"]).read_bytes()
        assert one["hash"] == f"sha256:{sha256(content).hexdigest()}"
        assert one["bytes"] == len(content)
    assert sorted(path.name for path in folder.iterdir()) == [
        "a.txt", "empty", "manifest.json", "sub",
    ]  # fmt: skip
    assert [(one["id"], one["status"], one["files"]) for one in await world.journal()] == [
        (id, "succeeded", 3)
    ]


async def test_the_longest_names_come(world: World) -> None:
    name = "ä" * 127 + "x"  # 255 bytes
    write(world.source / name, b"one")
    async with world.running():
        record = await world.until(await world.create(name))
    assert (record["status"], record["error"]) == ("succeeded", "")


async def test_an_empty_directory_makes_a_manifest_without_resources(world: World) -> None:
    async with world.running():
        id = await world.create(".")
        assert (await world.until(id))["status"] == "succeeded"
    assert world.manifest(id)["resources"] == []


async def test_what_is_elsewhere_is_staged_first_and_moved_once(world: World) -> None:
    staging = world.hold_staging()
    write(world.root / "mnt" / "dir" / "a", b"a")
    world.filesystem.move_desk.mountpoint = bytes(world.root / "mnt")
    async with world.running():
        id = await world.create("a", source="store:/dir")
        await world.until(id, ["staging"])
        await world.wait(lambda: staging.asked == [b"dir/a"])
        staging.done.set()
        record = await world.until(id)
    assert statuses(record) == ["unknown", "staging", "active", "finalizing", "succeeded"]
    assert len(await world.journal()) == 1


@pytest.mark.parametrize(
    ("files", "more", "kind"),
    [
        ([], {}, BadTransfer),
        (["a", "a"], {}, BadTransfer),
        (["a", "./a"], {}, BadTransfer),
        (["two/1", "two"], {}, None),
        ([""], {}, BadTransfer),
        (["none"], {}, UnknownEndpoint),
        (["../a"], {}, BadTransfer),
        (["/etc/passwd"], {}, BadTransfer),
        (["a"], {"source": "/nowhere/at/all"}, UnknownEndpoint),
        (["a"], {"to": "/nowhere/at/all"}, UnknownEndpoint),
        (["a"], {"to": "no-such-remote"}, UnknownEndpoint),
        (["a"], {"to": ""}, BadTransfer),
        (["a"], {"to": "gopher://host/x"}, FusefsError),
        (["a"], {"user": "no-such-user-here"}, BadTransfer),
        (["a"], {"user": "root", "uid": 12345}, NotPermitted),
        (["a"], {"instructions": "[1]"}, BadTransfer),
        (["a"], {"instructions": '{"a": NaN}'}, BadTransfer),
        (["a"], {"instructions": "{"}, BadTransfer),
        (["a"], {"description": "x" * (request.TEXT_MAX_BYTES + 1)}, BadTransfer),
        (["manifest.json"], {}, BadTransfer),
        (["large"], {}, PayloadTooLarge),
        (["many"], {}, PayloadTooLarge),
    ],
)
async def test_a_bad_request_is_refused_before_it_is_recorded(
    tmp_path: Path, files: list[str], more: dict[str, Any], kind: type[FusefsError] | None
) -> None:
    world = World(tmp_path, TransferOptions(payload_bytes=MIB, files=5))
    for name in ("a", "manifest.json", "two/1", "two/2", *(f"many/{n}" for n in range(6))):
        write(world.source / name, b"x")
    write(world.source / "large", bytes(MIB + 1))
    async with world.running():
        if kind is None:
            await world.until(await world.create(*files, **more))
        else:
            with pytest.raises(kind):
                await world.create(*files, **more)
            assert await world.ask("transfer_list") == []
            assert os.listdir(world.target) == []
        assert len(await world.journal()) == (kind is None)
    world.fs.close()


async def test_what_the_destination_can_never_take_is_refused_or_skipped(world: World) -> None:
    for name in ("a", "b"):
        write(world.source / name, b"x")
    world.gates.unfit.add(b"b")
    async with world.running():
        with pytest.raises(PayloadTooLarge, match=r"^files: b'b' is too large"):
            await world.create(".")
        assert await world.ask("transfer_list") == []
        record = await world.until(await world.create(".", policy="continue"))
    assert (record["status"], record["files_moved"]) == ("succeeded", 1)
    assert [(one["path"], one["error_kind"]) for one in record["skipped"]] == [
        ("b", "PayloadTooLarge")
    ]


async def test_nobody_is_told_to_make_a_source(world: World) -> None:
    async with world.running():
        for what in ({"source": "/nowhere/at/all"}, {"to": "/nowhere/at/all"}):
            with pytest.raises(UnknownEndpoint, match="is no directory") as refused:
                await world.create("a", **what)
            assert ("make it first" in str(refused.value)) == ("to" in what)


async def test_an_end_that_cannot_be_had_is_named(world: World) -> None:
    write(world.source / "a", b"a")
    world.gates.fail("survey", 1)
    async with world.running():
        with pytest.raises(RemoteUnreachable, match=r"^destination: the network is down$"):
            await world.create("a")


async def test_names_that_would_leave_the_folder_are_refused(world: World) -> None:
    """A bucket may hold them."""
    for name in (b"../a", b"a//b", b"/a", b"a/./b"):
        surveyed = Surveyed((Found(0, name, 1),))
        with pytest.raises(BadTransfer):
            request.files_of(surveyed, [world.move()], world.options)


async def test_many_sources_do_not_have_the_files_read_for_each_of_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[bytes] = []
    files = Records.files

    def counted(records: Records, id: bytes) -> Iterator[File]:
        reads.append(id)
        return files(records, id)

    monkeypatch.setattr(Records, "files", counted)
    counts = []
    async with world.running():
        for sources in (2, 12):
            moves = []
            for number in range(sources):
                write(world.root / f"s{number}" / f"f{number}", b"content")
                source = end(world.root / f"s{number}")
                moves.append({"source": source, "files": [b"f%d" % number]})
            reads.clear()
            answer = await world.ask("transfer_create", moves=moves, destination=end(world.target))
            record = await world.until(answer["id"])
            assert (record["status"], record["files_moved"]) == ("succeeded", sources)
            counts.append(len(reads))
    assert counts[0] == counts[1] > 0


async def test_a_file_that_vanished_fails_the_transfer_and_is_named(world: World) -> None:
    for number in range(10):
        write(world.source / f"f{number}", b"x" * number)
    world.gates.close("survey")
    async with world.running():
        async with trio.open_nursery() as nursery:
            ids: list[str] = []

            async def create(policy: str) -> None:
                ids.append(await world.create(".", policy=policy))

            nursery.start_soon(create, "continue")
            nursery.start_soon(create, "stop")
            world.gates.close("write")
            await world.gates.reached("survey", 2)
            world.gates.open_one("survey")
        (world.source / "f7").unlink()
        world.gates.open()
        records = {r["policy"]: r for r in [await world.until(id) for id in ids]}
    goes_on, stops = records["continue"], records["stop"]
    assert goes_on["status"] == "succeeded"
    assert (goes_on["files_moved"], goes_on["files_skipped"]) == (9, 1)
    assert [one["path"] for one in goes_on["skipped"]] == ["f7"]
    manifest = world.manifest(goes_on["id"])
    assert len(manifest["resources"]) == 9
    assert [one["path"] for one in manifest["skipped"]] == ["f7"]
    assert (stops["status"], stops["error_kind"]) == ("failed", "NoSuchObject")
    assert "f7" in stops["error"]
    assert [one["path"] for one in stops["skipped"]] == ["f7"]
    assert not (world.target / stops["id"] / "manifest.json").exists()


@pytest.mark.parametrize("policy", ["stop", "continue"])
async def test_a_move_that_breaks_fails_the_whole(world: World, policy: str) -> None:
    other = world.root / "other"
    for number in range(4):
        write(world.source / f"a{number}", bytes(number))
        write(other / f"b{number}", bytes(number))
    world.gates.close("write")
    async with world.running():
        answer = await world.ask(
            "transfer_create",
            moves=[
                {"source": end(world.source), "files": [b"."]},
                {"source": end(other), "files": [b"."]},
            ],
            destination=end(world.target),
            policy=policy,
        )
        id = answer["id"]
        await world.gates.reached("write")
        world.gates.refuse(bytes(other))
        world.gates.open()
        record = await world.until(id)
        await world.until_idle()
    assert (record["status"], record["error_kind"]) == ("failed", "RemoteDenied")
    assert not (world.target / id / "manifest.json").exists()
    assert not (world.target / id / ".partial").exists()
    if policy == "continue":
        assert (record["files_moved"], record["files_skipped"]) == (4, 4)
        assert record["bytes_moved"] == 0 + 1 + 2 + 3


async def test_instructions_and_description_come_through_unchanged(
    world: World, tmp_path: Path
) -> None:
    write(world.source / "a", b"a")
    nested: Any = 'Ünïcödé \u2028 \U0001f600 " \\ \x7f' * 4000
    for _ in range(40):
        nested = {"é\n": [nested, 1e300, 12345678901234567890123, 0.1, None, True]}
        if len(json.dumps(nested)) > 200_000:
            break
    text = json.dumps({"deep": nested, "float": 1.10}, ensure_ascii=False)
    assert len(text.encode()) > 64 << 10
    description = "# Zeile\n\n*ü* \U0001f4a9 " * 100
    async with world.running():
        id = await world.create("a", instructions=text, description=description)
        await world.until(id)
        assert (await world.show(id))["instructions"] == text
    raw = (world.target / id / "manifest.json").read_bytes()
    assert text.encode() in raw
    manifest = json.loads(raw)
    assert manifest["description"] == description
    assert manifest["instructions"] == json.loads(text)


async def test_fifty_that_end_in_one_instant_have_fifty_records(world: World) -> None:
    write(world.source / "a", b"a")
    async with world.running():
        ids = [await world.create("a") for _ in range(50)]
        for id in ids:
            await world.until(id)
        records = await world.journal()
        assert sorted(one["id"] for one in records) == sorted(ids)
        now = world.clock.time_ns()
        world.clock.advance(1)
        late = await world.create("a")
        await world.until(late)

        async def ended(since: int, until: int) -> int:
            page = await world.ask("transfer_journal", since_ns=since, until_ns=until)
            return len(page["records"])

        assert await ended(now, now) == 50
        assert await ended(now, now + 10**9) == 51
        assert await ended(now + 1, now + 10**9) == 1
        assert await ended(now + 1, now + 10**9 - 1) == 0


async def test_equal_names_at_the_same_time_come_to_folders_of_their_own(world: World) -> None:
    sources = [world.root / f"s{number}" for number in range(20)]
    for number, source in enumerate(sources):
        write(source / "same" / "name", b"%d" % number * 100_000)
    async with world.running():
        ids = [await world.create("same", source=source) for source in sources]
        for id in ids:
            assert (await world.until(id))["status"] == "succeeded"
    for number, id in enumerate(ids):
        content = (world.target / id / "same" / "name").read_bytes()
        assert content == b"%d" % number * 100_000
        assert len(world.manifest(id)["resources"]) == 1


async def test_only_what_ended_long_ago_is_forgotten(tmp_path: Path) -> None:
    world = World(tmp_path, TransferOptions(delete_after_s=2))
    write(world.source / "a", b"a")
    async with world.running():
        ended = await world.create("a")
        await world.until(ended)
        world.gates.close("write")
        active = await world.create("a")
        await world.gates.reached("write", 2)
        world.clock.advance(3)
        with trio.fail_after(120):
            while True:  # it looks once a second
                listed = [one["id"] for one in await world.ask("transfer_list")]
                if ended not in listed:
                    break
                await trio.testing.wait_all_tasks_blocked(0.01)
        with pytest.raises(NoSuchTransfer):
            await world.show(ended)
        assert (await world.show(active))["status"] == "active"
        assert len(await world.journal()) == 1
        assert [one["id"] for one in await world.ask("transfer_list")] == [active]
    world.fs.close()


async def test_start_and_stop(world: World) -> None:
    write(world.source / "a", b"a")
    async with world.running():
        assert await world.ask("transfer_running") is True
        with pytest.raises(AlreadyRunning):
            await world.ask("transfer_start")
        world.gates.close("write")
        id = await world.create("a")
        await world.gates.reached("write")
        await world.ask("transfer_stop")
        assert await world.ask("transfer_running") is False
        for call in (
            partial(world.ask, "transfer_stop"),
            partial(world.create, "a"),
            partial(world.ask, "transfer_cancel", id=id),
        ):
            with pytest.raises(NotRunning):
                await call()
        assert (await world.show(id))["status"] == "active"
        world.gates.open()
        await world.ask("transfer_start")
        assert (await world.until(id))["status"] == "succeeded"
    assert len(await world.journal()) == 1


async def test_two_hundred_questions_get_their_own_answers(world: World) -> None:
    write(world.source / "a", b"a")
    async with world.running():
        ids = [await world.create("a", description=f"number {n}") for n in range(200)]
        answers: dict[str, dict[str, Any]] = {}

        async def ask(id: str) -> None:
            answers[id] = await world.show(id)

        async with trio.open_nursery() as nursery:
            for id in ids:
                nursery.start_soon(ask, id)
        assert [answers[id]["id"] for id in ids] == ids
        assert [answers[id]["description"] for id in ids] == [f"number {n}" for n in range(200)]
        for id in ids:
            await world.until(id)


async def test_a_room_is_given_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    write(world.source / "a", bytes(70 * MIB))
    free = 100 * MIB + request.RESERVE_BYTES
    world.gates.free_bytes = free
    world.gates.close("write")
    async with world.running():
        first = await world.create("a")
        with pytest.raises(RemoteFull):
            await world.create("a")
        assert len(await world.ask("transfer_list")) == 1
        await world.ask("transfer_cancel", id=first)
        world.gates.open()
        await world.until(first)
        await world.until(await world.create("a"))


async def test_more_than_may_wait_are_refused(tmp_path: Path) -> None:
    world = World(tmp_path, TransferOptions(at_once=1, waiting=2))
    write(world.source / "a", b"a")
    world.gates.close("write")
    async with world.running():
        ids = [await world.create("a") for _ in range(3)]
        with pytest.raises(TooManyTransfers):
            await world.create("a")
        await world.gates.reached("write")
        assert [(await world.show(id))["status"] for id in ids] == ["active", "unknown", "unknown"]
        world.gates.open()
        for id in ids:
            assert (await world.until(id))["status"] == "succeeded"
    world.fs.close()


async def test_what_cannot_be_asked_for(world: World) -> None:
    async with world.running():
        with pytest.raises(NoSuchTransfer):
            await world.show("4f2c6e0a-6f0b-4d8e-9d0c-2b8a5a6f7c11")
        with pytest.raises(BadTransfer):
            await world.show("x")


async def test_each_status_is_told_once(world: World) -> None:
    write(world.source / "a", b"a")
    subscribe = partial(world.filesystem.events.subscribe, lambda: None, kinds=["transfer"])
    with subscribe() as counted, subscribe(limit=3) as slow:
        async with world.running():
            id = await world.create("a", description="d")
            await world.until(id)
        told, late = counted.take(100), slow.take(100)
    statuses = ["unknown", "active", "finalizing", "succeeded"]
    assert [(one["id"], one["status"], one["description"]) for one in told] == [
        (id, status, "d") for status in statuses
    ]
    assert all(one["time"] for one in told)
    assert [one.get("count", one.get("status")) for one in late] == [1, *statuses[1:]]
