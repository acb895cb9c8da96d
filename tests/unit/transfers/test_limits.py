"""Transfers within the bandwidth of a remote, which the sync has as well."""

import os
import threading
from pathlib import Path
from typing import Any

from fusefs.config.transfers import TransferOptions
from fusefs.model.remote import Remote
from fusefs.remotes.throttle import Limits
from fusefs.sync.places import connect
from tests.unit.clocks import ManualClock
from tests.unit.transfers.world import World

MIB = 1 << 20


class Listening(World):
    """Time passes only while somebody waits for the limit, and the daemon hears of moves."""

    def __init__(self, root: Path, options: TransferOptions) -> None:
        self.time = ManualClock()
        self._heard = threading.Semaphore(0)
        self.hears = False
        super().__init__(root, options, Limits(self.time, self._wait))

    def _wait(self, seconds: float) -> bool:
        if self.hears:
            assert self._heard.acquire(timeout=120), "who waits gives no sign of life"
        self.time.advance(seconds)
        return False

    async def ask(self, verb: str, **arguments: Any) -> Any:
        answer = await super().ask(verb, **arguments)
        if verb == "move_progress":
            self._heard.release()
        return answer


async def test_transfers_and_sync_share_the_bandwidth_of_a_remote(tmp_path: Path) -> None:
    world = Listening(tmp_path, TransferOptions(stall_s=60, retries=0))
    place = tmp_path / "remote"
    place.mkdir()
    row = Remote(number=1, url=f"file://{place}", limit="1M:2M")
    world.filesystem.syncing.registry.add("slow", row)
    (world.source / "f").write_bytes(os.urandom(4 * MIB))
    began = world.time.monotonic()
    async with world.running():
        connect(row, limits=world.limits).put("o/sync", bytes(6 * MIB))
        assert world.time.monotonic() == began
        world.hears = True
        id = await world.create("f", to="slow")
        record = await world.until(id)
        assert (record["status"], record["retries"]) == ("succeeded", 0), record
        up_s = world.time.monotonic() - began
        # A second's worth may go at once, and for the last block nobody waits; up, and back.
        assert 8 <= up_s <= 10 + 2
        back = await world.create(f"{id}/f", source="slow", to=world.target)
        assert (await world.until(back))["status"] == "succeeded"
        assert 1 <= world.time.monotonic() - began - up_s <= 2
    world.fs.close()
