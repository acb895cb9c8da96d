"""A script of requests with known numbers: `status` and Prometheus are told exactly these."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from pyfuse3 import FUSEError

from fusefs.config.options import MountOptions
from fusefs.daemon.metrics import COUNTERS, GAUGES, render
from fusefs.daemon.service import Service
from fusefs.fuse.operations import Operations
from fusefs.model.inode import ROOT_INO
from fusefs.uploads.counts import UploadCounts
from tests.unit.clocks import ManualClock
from tests.unit.fuse.calls import context
from tests.unit.inprocess import InProcess

MIB = 1 << 20
CONTENT = Random(1).randbytes(3 * MIB)


class Script:
    """A program at a filesystem, whose requests are counted here as well."""

    def __init__(self, path: Path) -> None:
        self.fs = InProcess(path, ManualClock())
        self._face = Operations(self.fs.filesystem, MountOptions())
        self.made = 0

    def call(self, request: str, *arguments: Any) -> Any:
        self.made += 1
        handler: Callable[..., Awaitable[Any]] = getattr(self._face, request)
        return trio.run(handler, *arguments)

    def write(self, name: bytes, content: bytes) -> None:
        """As cp does, with an fsync."""
        info, _ = self.call("create", ROOT_INO, name, 0o644, 0, context())
        for at in range(0, len(content), MIB):
            self.call("write", info.fh, at, content[at : at + MIB])
        self.call("fsync", info.fh, False)
        self.call("flush", info.fh)
        self.call("release", info.fh)

    def read(self, name: bytes) -> None:
        info = self.call("open", self.fs.at(name).ino, 0, context())
        try:
            self.call("read", info.fh, 0, MIB)
        finally:
            self.call("release", info.fh)

    def status(self) -> dict[str, Any]:
        return Service(self.fs.filesystem, "/mnt").status()


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    script = Script(tmp_path / "store")
    yield script
    script.fs.store.abandon()


def numbers(text: bytes) -> dict[str, float]:
    """Name -> value, of a text in the format of Prometheus; labels are left out."""
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_the_numbers_of_a_script_are_told_exactly(script: Script) -> None:
    script.write(b"one", CONTENT)
    script.write(b"two", CONTENT)
    script.call("fsyncdir", ROOT_INO, False)
    script.call("unlink", ROOT_INO, b"two", context())
    script.fs.store.checkpoint()
    script.fs.scrub()
    record = script.status()
    counters = {
        "requests": 16,
        "bytes_received": 6 * MIB,
        "already_present": 3,
        "already_present_bytes": 3 * MIB,
        "needed": 3,
        "needed_bytes": 3 * MIB,
        "bytes_stored": 3 * MIB,
        "fsyncs": 3,
        "log_syncs": 4,  # for each fsync, and the checkpoint
        "checkpoints": 1,
        "replayed_records": 0,
        "damaged_reads": 0,
        "healed": 0,
        "fetches": 0,
        "fetched_bytes": 0,
        "failed_fetches": 0,
        "scrubbed": 3,
        "scrubbed_bytes": 3 * MIB,
        "uploads": asdict(UploadCounts()),
    }
    gauges = {
        "files": 1,
        "live_bytes": 3 * MIB,
        "trash_entries": 1,
        "trash_bytes": 3 * MIB,
        "stored_bytes": 3 * MIB,
        "garbage_bytes": 0,
        "dedup_saved_bytes": 3 * MIB,
        "corruption_records": 0,
        "partials.count": 0,
        "waiting_bytes": 0,
    }
    assert script.made == counters["requests"]
    assert record["counters"] == counters
    assert {one.key: one.of(record) for one in GAUGES if one.key in gauges} == gauges
    shown = numbers(render(record))
    told = {one.key: one.of(counters) for one in COUNTERS}
    assert {one.key: shown[f"fusefs_{one.name}_total"] for one in COUNTERS} == told
    assert {key.partition(".")[0] for key in told} == set(counters)
    names = {one.key: f"fusefs_{one.name}" for one in GAUGES}
    assert {key: shown[names[key]] for key in gauges} == gauges
    assert {one.key: shown[names[one.key]] for one in GAUGES} == {
        one.key: one.of(record) for one in GAUGES
    }
    assert len(shown) == len(COUNTERS) + len(GAUGES) + 1


def test_what_a_crash_left_is_counted_by_the_next(script: Script) -> None:
    script.write(b"one", CONTENT)
    acts = script.fs.store.statistics().batches
    script.fs.crash()
    counters = script.status()["counters"]
    assert acts > 3
    assert counters["replayed_records"] == acts
    assert (counters["requests"], counters["needed"], counters["checkpoints"]) == (0, 0, 1)


def test_reads_that_find_damage_are_counted(script: Script) -> None:
    script.write(b"one", CONTENT)
    segment = script.fs.path / "segments" / f"{1:016x}"
    data = segment.read_bytes()
    with open(segment, "r+b") as file:
        file.seek(data.find(CONTENT[:64]))
        file.write(bytes([CONTENT[0] ^ 1]))
    for _ in range(2):
        with pytest.raises(FUSEError):
            script.read(b"one")
    trio.run(script.fs.filesystem.scrubbing.settle)
    record = script.status()
    assert (record["counters"]["damaged_reads"], record["corruption_records"]) == (2, 1)
    shown = numbers(render(record))
    assert (shown["fusefs_damaged_reads_total"], shown["fusefs_corruption_records"]) == (2, 1)


def test_each_number_has_help_a_type_and_the_store(script: Script) -> None:
    record = script.status()
    families = list(text_string_to_metric_families(render(record).decode()))
    assert all(family.documentation.endswith(".") for family in families)
    assert {family.type for family in families} == {"counter", "gauge"}
    labels = [sample.labels for family in families for sample in family.samples]
    assert labels == [{"store": record["uuid"]}] * len(labels)


@pytest.mark.parametrize(("state", "shown"), [("mounted", 1), ("dead", 0), ("not mounted", 0)])
def test_whether_it_is_mounted_is_a_number(script: Script, state: str, shown: int) -> None:
    assert numbers(render({**script.status(), "state": state}))["fusefs_mounted"] == shown
