"""ext4 is shut down under several writers, and loses what it had not written.

EXT4_IOC_SHUTDOWN is a power cut that costs little: from that moment on nothing reaches the disk,
not even the journal, and calls fail. It tells nothing about flushes and torn sectors, as
`test_power_cuts` does, but strikes between any two calls of a daemon at full speed.

Calls that run while it strikes need not fail: where the journal gives up behind the back of an
fdatasync, ext4 answers 0 (measured on Linux 6.18 without fusefs, 12 of 17 708 calls, all of them
within 15 ms after the ioctl had begun). So only what was noted before it began is a promise; the
places that writers note are times.
FUSEFS_POWER_ROUNDS is the number of rounds, FUSEFS_POWER_SEED makes other ones.
"""

import fcntl
import os
import random
import struct
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Mounted
from tests.crash.powercut.machine import survey
from tests.crash.powercut.rig import (
    ORDERED,
    UNORDERED,
    ext4_mount,
    loop_device,
    make_ext4,
    needs_loop_devices,
)
from tests.crash.powercut.runs import Run, make_store, prepare
from tests.crash.powercut.survey import save_jobs
from tests.crash.powercut.writelog import Cut
from tests.crash.powercut.writers import Job, at_work, wait_for

pytestmark = [pytest.mark.mount, pytest.mark.root, pytest.mark.slow, needs_loop_devices]

ROUNDS = int(os.environ.get("FUSEFS_POWER_ROUNDS", "2"))
SEED = int(os.environ.get("FUSEFS_POWER_SEED", "1"))
#: _IOR('X', 125, __u32) of linux/fs.h, and its flag "do not flush the journal".
FS_IOC_SHUTDOWN = 0x8004587D
NOLOGFLUSH = 2
#: How ext4 is mounted, and whether the store is encrypted, in turn.
KINDS = ((ORDERED, False), (UNORDERED, True), (ORDERED, True), (UNORDERED, False))
#: Far more than a writer can do until the power fails.
STEPS = 2000
#: How many times writers say that they begin or have done a step before that.
NOTES = (20, 600)


def shut_down(disk: Path) -> Cut:
    descriptor = os.open(disk, os.O_RDONLY)
    try:
        began_ns = time.monotonic_ns()
        fcntl.ioctl(descriptor, FS_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
    finally:
        os.close(descriptor)
    return Cut(0, 0, end=sys.maxsize, never=began_ns)


def work_until_shut_down(disk: Path, run: Run, seed: int, *, is_encrypted: bool) -> Cut:
    source = random.Random(seed)
    share = source.choice((0.05, 0.3))
    work = [Job(f"writer {i}", seed * 10 + i, STEPS, share, False) for i in range(3)]
    save_jobs(run.directory, work)
    mounted = Mounted(disk / "store", run.directory / "mnt")
    mounted.mnt.mkdir()
    reading, said = os.pipe()

    def say() -> int:
        os.write(said, b".")
        return time.monotonic_ns()

    try:
        make_store(mounted.store, run, is_encrypted=is_encrypted)
        mounted.mount(**run.environ)
        prepare(mounted.mnt, work)
        parts = [(job, slice(None)) for job in work]
        with at_work(mounted.mnt, parts, run.directory, say, may_fail=True) as writers:
            for _ in range(source.randint(*NOTES)):
                assert os.read(reading, 1)
            cut = shut_down(disk)
            mounted.kill()
            wait_for(writers)
        return cut
    finally:
        os.close(reading)
        os.close(said)
        mounted.clean_up()


@pytest.mark.timeout(300 + 60 * ROUNDS)
def test_what_was_acknowledged_is_there_after_a_shutdown(tmp_path: Path) -> None:
    for seed in range(SEED * 1000, SEED * 1000 + ROUNDS):
        run = Run(tmp_path / f"run-{seed}")
        run.directory.mkdir()
        image = run.directory / "image"
        options, is_encrypted = KINDS[seed % len(KINDS)]
        make_ext4(image)
        with (
            loop_device(image, is_direct=False) as device,
            ext4_mount(device, run.directory / "disk", options) as disk,
        ):
            cut = work_until_shut_down(disk, run, seed, is_encrypted=is_encrypted)
        try:
            print(f"Shutdown({seed}): {survey(image, run.directory, cut)}")
        except AssertionError as error:
            raise AssertionError(f"FUSEFS_POWER_SEED={SEED}, round {seed}: {error}") from None
        image.unlink()
