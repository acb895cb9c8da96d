"""The power fails at any moment under several writers: what was acknowledged is there.

A store lies on a disk that remembers every write and every flush (`disk`), so a power cut can be
made afterwards, at any moment, again and again (`writelog`): a new disk that has all up to a
flush and a random part of what came after it. Its ext4 recovers its journal, the store its log;
then the store is compared with what the writers were told (`survey`, `promises`).

That ext4's flushes come through loop device and FUSE into the log is shown by the first test, and
that a daemon which does not sync would be found out by the last.

FUSEFS_POWER_CUTS is the number of cuts of a plain store, an encrypted one has half of them;
FUSEFS_POWER_SEED makes other ones. Threads and processes
make each run another one; the disk of a failed cut is made again by the command in the failure's
message.
"""

import os
from contextlib import closing
from pathlib import Path

import pytest

from fusefs.errors import WrongKey
from fusefs.model import keyslot
from fusefs.store import keyring
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
from tests.crash.powercut.runs import Run, make_store, record
from tests.crash.powercut.survey import KEY
from tests.crash.powercut.writelog import Cut, WriteLog, copy_image

pytestmark = [pytest.mark.mount, pytest.mark.root, pytest.mark.slow, needs_loop_devices]

CUTS = int(os.environ.get("FUSEFS_POWER_CUTS", "8"))
SEED = int(os.environ.get("FUSEFS_POWER_SEED", "1"))
#: More of them are made for more cuts; of a plain store, at least two.
CUTS_OF_A_RUN = 40
ENCRYPTED = pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "encrypted"])
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


@ENCRYPTED
@pytest.mark.timeout(600 + 20 * CUTS)
def test_what_was_acknowledged_is_there_after_a_power_cut(
    tmp_path: Path, is_encrypted: bool
) -> None:
    cuts = -(-CUTS // 2) if is_encrypted else CUTS
    runs = max(1 if is_encrypted else 2, -(-cuts // CUTS_OF_A_RUN))
    for seed in range(SEED, SEED + runs):
        run = record(tmp_path / f"run-{seed}", seed, is_encrypted=is_encrypted)
        with closing(Machine(run)) as machine:
            for cut in machine.cuts(seed * 1000, -(-cuts // runs)):
                machine.check(cut)


@ENCRYPTED
@pytest.mark.timeout(600 + 10 * CUTS)
def test_a_recovery_survives_power_cuts(tmp_path: Path, is_encrypted: bool) -> None:
    run = record(tmp_path / "run", SEED, is_encrypted=is_encrypted)
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
            mounted.mount(**run.environ)
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


@ENCRYPTED
def test_a_new_store_is_there_after_a_power_cut(tmp_path: Path, is_encrypted: bool) -> None:
    run = Run(tmp_path)
    log, blank, image = run.log, run.blank, tmp_path / "image"
    make_ext4(blank)
    copy_image(blank, image)
    with (
        recorded_disk(tmp_path / "fuse", image, log) as device,
        ext4_mount(device, tmp_path / "disk") as disk,
    ):
        make_store(disk / "store", run, is_encrypted=is_encrypted)
        end = log.stat().st_size
    reading = WriteLog(log)
    reading.apply(blank, 0, max(place for place in reading.flushes if place <= end))
    reading.close()
    with ext4_of(blank, tmp_path / "after") as disk:
        fusefs("fsck", disk / "store", **run.environ)


def test_what_opens_a_store_is_as_before_or_after_a_change_of_keys(tmp_path: Path) -> None:
    run = Run(tmp_path)
    first, second, third = (tmp_path / name for name in (KEY, "second", "third"))
    for key in (second, third):
        key.write_bytes(os.urandom(32))
    make_ext4(run.blank)
    image, state = tmp_path / "image", tmp_path / "state"
    copy_image(run.blank, image)
    with (
        recorded_disk(tmp_path / "fuse", image, run.log) as device,
        ext4_mount(device, tmp_path / "disk", UNORDERED) as disk,
    ):
        make_store(disk / "store", run, is_encrypted=True)
        places = [run.log.stat().st_size]
        for verb, old, new in (("add", first, second), ("change", second, third)):
            fusefs("key", verb, disk / "store", "--key-file", old, "--new-key-file", new)
            places.append(run.log.stat().st_size)
    opening = [{first}, {first, second}, {first, third}]
    with closing(WriteLog(run.log)) as log:
        for seed in range(SEED * 1000, SEED * 1000 + 4 * CUTS):
            cut = log.cut(seed, places[0])
            copy_image(run.blank, state)
            log.apply(state, 0, cut.base)
            log.apply_torn(state, cut)
            durable = sum(place < cut.never for place in places[1:])
            begun = sum(place <= cut.end for place in places[:-1])
            with ext4_of(state, tmp_path / "after") as disk:
                found = {key for key in (first, second, third) if opens(disk / "store", key)}
                assert found in opening[durable : max(durable, begun) + 1], cut


def opens(store: Path, key: Path) -> bool:
    try:
        keyring.opened(store, keyslot.key_file(key.read_bytes()))
    except WrongKey:
        return False
    return True


@pytest.mark.timeout(900)
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
