"""The power fails at any moment under several writers: what was acknowledged is there.

A store lies on a disk that remembers every write and every flush (`disk`), so a power cut can be
made afterwards, at any moment, again and again (`writelog`): a new disk that has all up to a
flush and a random part of what came after it. Its ext4 recovers its journal, the store its log;
then the store is compared with what the writers were told (`survey`, `promises`).

That ext4's flushes come through loop device and FUSE into the log is shown by the first test, and
that a daemon which does not sync would be found out by the last.

FUSEFS_POWER_CUTS is the number of cuts, FUSEFS_POWER_SEED makes other ones. Threads and processes
make each run another one; the disk of a failed cut is made again by the command in the failure's
message.
"""

import os
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import ROOT, Mounted, fusefs
from tests.crash.powercut.machine import Machine, PowerFailed, survey
from tests.crash.powercut.rig import (
    UNORDERED,
    ext4_mount,
    ext4_of,
    make_ext4,
    needs_loop_devices,
    recorded_disk,
)
from tests.crash.powercut.runs import record
from tests.crash.powercut.writelog import Cut, WriteLog, copy_image

pytestmark = [pytest.mark.mount, pytest.mark.root, pytest.mark.slow, needs_loop_devices]

CUTS = int(os.environ.get("FUSEFS_POWER_CUTS", "8"))
SEED = int(os.environ.get("FUSEFS_POWER_SEED", "1"))
#: More of them are made for more cuts.
CUTS_OF_A_RUN = 40
LYING = Path(__file__).parent / "lying"


def test_a_flush_reaches_the_log_behind_what_it_flushes(tmp_path: Path) -> None:
    image, log = tmp_path / "image", tmp_path / "log"
    make_ext4(image)
    content = os.urandom(5000)
    with (
        recorded_disk(tmp_path / "fuse", image, log) as device,
        ext4_mount(device, tmp_path / "disk") as disk,
        (disk / "file").open("wb", buffering=0) as file,
    ):
        file.write(content)
        before = log.stat().st_size
        os.fdatasync(file.fileno())
        after = log.stat().st_size
    reading = WriteLog(log)
    flushes = [place for place in reading.flushes if before < place <= after]
    reading.close()
    logged = log.read_bytes()[before : max(flushes)]
    assert content[:4096] in logged
    assert content[4096:] in logged


@pytest.mark.timeout(120 + 10 * CUTS)
def test_what_was_acknowledged_is_there_after_a_power_cut(tmp_path: Path) -> None:
    runs = max(2, -(-CUTS // CUTS_OF_A_RUN))
    for seed in range(SEED, SEED + runs):
        with closing(Machine(record(tmp_path / f"run-{seed}", seed))) as machine:
            for cut in machine.cuts(seed * 1000, -(-CUTS // runs)):
                machine.check(cut)


@pytest.mark.timeout(120 + CUTS)
def test_a_recovery_survives_power_cuts(tmp_path: Path) -> None:
    run = record(tmp_path / "run", SEED)
    with closing(Machine(run)) as machine:
        cut = machine.cuts(SEED * 1000, 3)[1]
        image, _ = machine.disk_after(cut)
    again = tmp_path / "again"
    again.mkdir()
    copy_image(image, again / "blank")
    with (
        recorded_disk(tmp_path / "fuse", image, again / "log") as device,
        ext4_mount(device, tmp_path / "disk", UNORDERED) as disk,
    ):
        mounted = Mounted(disk / "store", run.directory / "mnt")
        try:
            mounted.mount()
            mounted.kill()
        finally:
            mounted.clean_up()
    with closing(WriteLog(again / "log")) as log:
        for seed in range(SEED * 1000, SEED * 1000 + max(4, CUTS // 10)):
            second = log.cut(seed, 0)
            copy_image(again / "blank", image)
            log.apply(image, 0, second.base)
            log.apply_torn(image, second)
            try:
                print(f"{second}: {survey(image, run.directory, cut)}")
            except AssertionError as error:
                raise PowerFailed(f"seed {SEED}, {cut} and then {second}\n{error}") from None


def test_a_new_store_is_there_after_a_power_cut(tmp_path: Path) -> None:
    log, blank, image = tmp_path / "log", tmp_path / "blank", tmp_path / "image"
    make_ext4(blank)
    copy_image(blank, image)
    with (
        recorded_disk(tmp_path / "fuse", image, log) as device,
        ext4_mount(device, tmp_path / "disk") as disk,
    ):
        fusefs("init", disk / "store")
        end = log.stat().st_size
    reading = WriteLog(log)
    reading.apply(blank, 0, max(place for place in reading.flushes if place <= end))
    reading.close()
    with ext4_of(blank, tmp_path / "after") as disk:
        fusefs("fsck", disk / "store")


@pytest.mark.timeout(300)
def test_a_daemon_that_does_not_sync_is_found_out(tmp_path: Path) -> None:
    run = record(tmp_path / "run", 2, PYTHONPATH=f"{LYING}:{ROOT}")
    with closing(Machine(run)) as machine:
        assert any("promises.Lost: " in failure(machine, cut) for cut in machine.cuts(0, 12))


def failure(machine: Machine, cut: Cut) -> str:
    try:
        machine.check(cut)
    except PowerFailed as error:
        return str(error)
    return ""
