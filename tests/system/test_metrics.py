"""The counters of a mount, as those who gather them get them."""

import json
import os
import socket
import urllib.request
from random import Random
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Mounted, fusefs, run_fusefs

pytestmark = pytest.mark.mount
MIB = 1 << 20


def numbers(text: str) -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def status(mounted: Mounted) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(fusefs("status", "--json", mounted.mnt))
    return record


def act(mounted: Mounted) -> None:
    """3 MiB are written, and written again under another name, each with an fsync."""
    content = Random(1).randbytes(3 * MIB)
    for name in ("one", "two"):
        with open(mounted.mnt / name, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    (mounted.mnt / "two").unlink()


EXPECTED = {
    "fusefs_received_bytes_total": 6 * MIB,
    "fusefs_already_present_blocks_total": 3,
    "fusefs_already_present_bytes_total": 3 * MIB,
    "fusefs_needed_blocks_total": 3,
    "fusefs_needed_bytes_total": 3 * MIB,
    "fusefs_stored_bytes_total": 3 * MIB,
    "fusefs_fsyncs_total": 2,
    "fusefs_replayed_records_total": 0,
    "fusefs_damaged_reads_total": 0,
    "fusefs_scrubbed_bytes_total": 0,
    "fusefs_trash_entries": 1,
    "fusefs_trash_bytes": 3 * MIB,
    "fusefs_live_bytes": 3 * MIB,
    "fusefs_mounted": 1,
}


def test_all_ways_to_the_counters_tell_the_same(mounted: Mounted) -> None:
    mounted.remount("-o", "metrics=0")
    act(mounted)
    record = status(mounted)
    assert {
        key: record["counters"][key] for key in ("bytes_received", "already_present", "needed")
    } == {"bytes_received": 6 * MIB, "already_present": 3, "needed": 3}
    with urllib.request.urlopen(f"http://{record['metrics']}/metrics", timeout=30) as reply:
        assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        scraped = numbers(reply.read().decode())
    printed = numbers(fusefs("status", "--prometheus", mounted.mnt))
    for found in (scraped, printed):
        assert {name: found[name] for name in EXPECTED} == EXPECTED
        assert found["fusefs_requests_total"] > 10
    assert scraped.keys() == printed.keys()


def test_a_file_for_a_collector_is_replaced_at_one_stroke(mounted: Mounted) -> None:
    act(mounted)
    file = mounted.store.parent / "fusefs.prom"
    file.write_text("old")
    before = os.stat(file).st_ino
    assert fusefs("status", "--prometheus", "--output", file, mounted.mnt) == ""
    assert os.stat(file).st_ino != before
    assert os.stat(file).st_mode & 0o777 == 0o644
    found = numbers(file.read_text())
    assert {name: found[name] for name in EXPECTED} == EXPECTED
    mounted.umount()
    fusefs("status", "--prometheus", "--output", file, mounted.store)
    found = numbers(file.read_text())
    assert (found["fusefs_mounted"], found["fusefs_received_bytes_total"]) == (0, 0)
    assert found["fusefs_trash_entries"] == 1


def test_what_makes_no_sense_is_refused(mounted: Mounted) -> None:
    for arguments in (
        ["--prometheus", "--json"], ["--prometheus", "--watch"], ["--output", "x"],
        ["--prometheus", "--output", mounted.store.parent / "none" / "x"],
    ):  # fmt: skip
        done = run_fusefs("status", *arguments, mounted.mnt)
        assert (done.returncode, done.stdout) == (2, "")
    mounted.umount()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for option in (f"metrics={port}", "metrics=localhost:1"):
            done = run_fusefs("mount", "-o", option, mounted.store, mounted.mnt)
            assert (done.returncode, "metrics" in done.stderr) == (2, True), done
            assert not mounted.is_mounted
    mounted.mount()
    assert status(mounted)["metrics"] is None
