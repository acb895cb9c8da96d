"""Transfers asked for, canceled, paused, cut off and gone on with, in any order.

FUSEFS_MODEL_EXAMPLES makes the sequences more.
"""

import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import trio
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import booleans, integers, sampled_from

from fusefs.config.transfers import TransferOptions
from fusefs.errors import WrongState
from fusefs.model.transfer import CHANGES, Status
from tests.unit import invariants
from tests.unit.transfers.world import ENDED, World

EXAMPLES = int(os.environ.get("FUSEFS_MODEL_EXAMPLES", "12"))
#: What may follow what, by any number of changes.
AFTER = {(before, after) for (before, _), after in CHANGES.items()}


class Machine(RuleBasedStateMachine):
    """Each rule lets the roles run for a moment, with an agent or without one."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="fusefs-transfers-"))
        self.world = World(self.root, TransferOptions(at_once=2, retries=1, stall_s=60))
        self.ids: list[str] = []
        self.ended: dict[str, str] = {}
        for number in range(4):
            (self.world.source / f"f{number}").write_bytes(bytes(number * 1000))

    def teardown(self) -> None:
        self.play(lambda: self._finish(), agent=True)
        world = self.world
        journal = trio.run(world.journal)
        assert sorted(one["id"] for one in journal) == sorted(self.ids)
        for id in self.ids:
            record = trio.run(world.show, id)
            folder = world.target / id
            has_manifest = (folder / "manifest.json").exists()
            assert has_manifest is (record["status"] == "succeeded"), record
            if has_manifest:
                listed = json.loads((folder / "manifest.json").read_bytes())["resources"]
                assert len(listed) == record["files_moved"]
        invariants.check(world.fs.store)
        world.fs.close()
        shutil.rmtree(self.root)

    async def _finish(self) -> None:
        for id in self.ids:
            if (await self.world.show(id))["status"] == "inactive":
                await self.world.ask("transfer_resume", id=id)
        for id in self.ids:
            await self.world.until(id)
        await self.world.until_idle()

    def play(self, act: Callable[[], Awaitable[object]], *, agent: bool) -> None:
        async def run() -> None:
            async with self.world.running(agent=agent):
                await act()

        trio.run(run)

    @rule(policy=sampled_from(["stop", "continue"]), vanishes=booleans(), waits=booleans())
    def create(self, policy: str, vanishes: bool, waits: bool) -> None:
        extra = self.world.source / "extra"
        extra.write_bytes(b"x")

        async def act() -> None:
            if vanishes:
                self.world.gates.close("write")
            self.ids.append(await self.world.create(".", policy=policy))
            if vanishes:
                extra.unlink()
                self.world.gates.open()
            if waits:
                await self.world.until(self.ids[-1])

        self.play(act, agent=True)

    @precondition(lambda self: self.ids)
    @rule(which=integers(0, 99), agent=booleans())
    def cancel(self, which: int, agent: bool) -> None:
        id = self.ids[which % len(self.ids)]
        self.play(lambda: self.world.ask("transfer_cancel", id=id), agent=agent)

    @precondition(lambda self: self.ids)
    @rule(which=integers(0, 99), is_pause=booleans(), agent=booleans())
    def pause(self, which: int, is_pause: bool, agent: bool) -> None:
        id = self.ids[which % len(self.ids)]
        verb = "transfer_pause" if is_pause else "transfer_resume"

        async def act() -> None:
            with suppress(WrongState):
                await self.world.ask(verb, id=id)

        self.play(act, agent=agent)

    @rule()
    def crash(self) -> None:
        self.world.crash()

    @rule(agent=booleans())
    def rest(self, agent: bool) -> None:
        self.world.clock.advance(1)
        self.play(self.world.wait_a_moment, agent=agent)

    @invariant()
    def nothing_goes_backwards(self) -> None:
        records = {one["id"]: one for one in trio.run(self.world.ask, "transfer_list")}
        assert set(records) == set(self.ids)
        for id, record in records.items():
            history = trio.run(self.world.show, id)["history"]
            steps = [Status(one["status"]) for one in history]
            assert all(pair in AFTER for pair in itertools.pairwise(steps))
            assert self.ended.get(id, record["status"]) == record["status"]
            if record["status"] in ENDED:
                self.ended[id] = record["status"]
            moved = record["files_moved"] + record["files_skipped"]
            assert moved <= record["files_total"]


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
