"""A store with part of its content elsewhere: evict, read, fetch, pin, heal, through a mount."""

import json
import os
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from fusefs.errors import DamageFound, NotEnoughCopies, NotLocal, RemoteUnreachable
from tests.conftest import Mounted, fusefs, run_fusefs
from tests.system.away import add_remote, drop_caches, flip, segments_bytes, sync, wait_for_event

pytestmark = pytest.mark.mount

MIB = 1 << 20
A, B = Random(1).randbytes(34 * MIB), Random(2).randbytes(10 * MIB)


@pytest.fixture
def place(tmp_path: Path, mounted: Mounted) -> Path:
    """A remote with all of a store that holds two files."""
    place = tmp_path / "elsewhere"
    add_remote(mounted, place)
    (mounted.mnt / "a").write_bytes(A)
    (mounted.mnt / "d").mkdir()
    (mounted.mnt / "d" / "b").write_bytes(B)
    sync(mounted)
    return place


def status(mounted: Mounted) -> dict[str, object]:
    found: dict[str, object] = json.loads(fusefs("status", "--json", mounted.mnt))
    return found


def evict(mounted: Mounted, *options: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(fusefs("evict", "--json", mounted.mnt, *options))
    return found


def test_the_space_comes_back_and_what_is_read_is_fetched_once(
    mounted: Mounted, place: Path
) -> None:
    before = segments_bytes(mounted.store)
    planned = json.loads(fusefs("evict", "--dry-run", "--json", mounted.mnt))
    done = evict(mounted)
    assert done["refused"] == []
    assert done["freed_bytes"] == planned["size_bytes"]
    assert segments_bytes(mounted.store) == before - done["freed_bytes"]
    assert segments_bytes(mounted.store) < 20 * MIB
    assert os.stat(mounted.mnt / "a").st_blocks * 512 >= len(A)
    drop_caches(mounted.mnt)
    assert (mounted.mnt / "a").read_bytes() == A
    fetched = status(mounted)["counters"]["fetched_bytes"]
    assert fetched <= before
    mounted.kill()
    mounted.mount()
    assert (mounted.mnt / "a").read_bytes() == A
    assert (mounted.mnt / "d" / "b").read_bytes() == B
    assert status(mounted)["counters"]["fetched_bytes"] + fetched <= before


def test_killed_in_the_middle_of_a_file_it_fetches_the_rest_alone(
    mounted: Mounted, place: Path
) -> None:
    before = segments_bytes(mounted.store)
    evict(mounted)
    drop_caches(mounted.mnt)
    file = os.open(mounted.mnt / "a", os.O_RDONLY)
    assert b"".join(os.read(file, MIB) for _ in range(16)) == A[: 16 * MIB]
    first = status(mounted)["counters"]["fetched_bytes"]
    mounted.kill()
    with suppress(OSError):  # its daemon is dead
        os.close(file)
    mounted.mount()
    assert (mounted.mnt / "a").read_bytes() == A
    assert (mounted.mnt / "d" / "b").read_bytes() == B
    second = status(mounted)["counters"]["fetched_bytes"]
    assert first >= 16 * MIB
    assert first + second <= before + 12 * MIB  # what was under way when it was killed


def test_with_the_remote_away_nothing_is_dropped_and_readers_hear_why(
    mounted: Mounted, place: Path
) -> None:
    mounted.expected += ["sync waits", "cannot be fetched", "cannot reach"]
    gone = place.rename(place.with_name("unplugged"))
    before = segments_bytes(mounted.store)
    done = run_fusefs("evict", mounted.mnt)
    assert done.returncode == NotEnoughCopies.exit_code
    assert "0 of 1 proved copies elsewhere (usb: " in done.stderr
    assert segments_bytes(mounted.store) == before
    gone.rename(place)
    assert evict(mounted)["segments"]
    drop_caches(mounted.mnt)
    place.rename(gone)
    with pytest.raises(OSError, match="Input/output error"):
        (mounted.mnt / "a").read_bytes()
    assert "usb" in status(mounted)["away"]["last_error"]
    gone.rename(place)
    assert (mounted.mnt / "a").read_bytes() == A


def test_a_store_without_a_remote_keeps_all(mounted: Mounted) -> None:
    (mounted.mnt / "a").write_bytes(B)
    for options in ([], ["--dry-run"]):
        done = run_fusefs("evict", *options, mounted.mnt)
        assert done.returncode == NotEnoughCopies.exit_code
        assert "kept in no remote" in done.stderr


def test_a_dry_run_says_how_many_copies_would_be_needed(mounted: Mounted, place: Path) -> None:
    fusefs("copies", mounted.mnt, "--numcopies", "2")
    assert "if 2 copies" in fusefs("evict", "--dry-run", mounted.mnt)
    assert "if 3 copies" in fusefs("evict", "--dry-run", "--mincopies", "3", mounted.mnt)
    assert "if 1 copy" in fusefs("evict", "--dry-run", "--numcopies", "0", mounted.mnt)


def test_the_cheapest_remote_is_read_from(mounted: Mounted, place: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    add_remote(mounted, other, "other", "--cost", "150")
    sync(mounted)
    for dear in (place, other):
        evict(mounted)
        drop_caches(mounted.mnt)
        # What came from it would be noticed, in the log.
        good = {path: path.read_bytes() for path in (dear / "segments").iterdir()}
        for path, content in good.items():
            path.write_bytes(bytes(len(content)))
        assert (mounted.mnt / "a").read_bytes() == A
        for path, content in good.items():
            path.write_bytes(content)
        fusefs("fetch", mounted.mnt)
        fusefs("remote", "set", mounted.mnt, "usb", "--cost", "100")


def test_of_the_only_copy_that_is_damaged_all_but_the_bad_block_is_saved(
    mounted: Mounted, place: Path, tmp_path: Path
) -> None:
    mounted.expected += ["does not verify", "is not healed", "cannot be fetched"]
    mounted.expected += ["is missing", "are asked for again"]
    evict(mounted)
    drop_caches(mounted.mnt)
    first = json.loads(fusefs("whereis", "--json", mounted.mnt / "a"))["segments"][0]
    bad = place / first["copies"][0]["name"]
    content = bytearray(bad.read_bytes())
    content[5 * MIB] ^= 1
    bad.chmod(0o600)
    bad.write_bytes(content)
    done = run_fusefs("sync", "verify", mounted.mnt, "usb")
    assert done.returncode == DamageFound.exit_code
    assert "lost: 1 block; saved: " in done.stdout
    refused = run_fusefs("fetch", mounted.mnt)
    assert refused.returncode == NotLocal.exit_code
    assert "it is in no remote" in refused.stderr
    read = bytearray(len(A))
    lost = []
    with (mounted.mnt / "a").open("rb", buffering=0) as file:
        for at in range(0, len(A), 128 << 10):
            try:
                read[at : at + (128 << 10)] = os.pread(file.fileno(), 128 << 10, at)
            except OSError:
                lost.append(at)
    assert 0 < len(lost) <= 8
    assert all(lost[0] // MIB == at // MIB for at in lost)
    for at in lost:
        read[at : at + (128 << 10)] = A[at : at + (128 << 10)]
    assert read == A
    (source := tmp_path / "source").write_bytes(A)
    fusefs("cp", source, mounted.mnt / "again")
    drop_caches(mounted.mnt)
    assert (mounted.mnt / "a").read_bytes() == A
    sync(mounted)
    fusefs("sync", "verify", mounted.mnt, "usb")


def test_a_remote_with_the_only_copies_is_not_forgotten(mounted: Mounted, place: Path) -> None:
    evict(mounted)
    done = run_fusefs("remote", "remove", mounted.mnt, "usb")
    assert done.returncode == NotEnoughCopies.exit_code
    assert "has the only copies" in done.stderr
    assert (mounted.mnt / "a").read_bytes() == A
    fusefs("fetch", mounted.mnt)
    fusefs("remote", "remove", mounted.mnt, "usb")
    drop_caches(mounted.mnt)
    assert (mounted.mnt / "a").read_bytes() == A


def test_what_is_fetched_or_pinned_is_here(mounted: Mounted, place: Path) -> None:
    evict(mounted)
    whereis = json.loads(fusefs("whereis", "--json", mounted.mnt / "d"))
    assert whereis["here_bytes"] < whereis["bytes"] == len(B)
    assert whereis["segments"][0]["copies"][0]["remote"] == "usb"
    fusefs("pin", mounted.mnt / "d")
    assert os.getxattr(mounted.mnt / "d", "user.fusefs.pin") == b"1"
    whereis = json.loads(fusefs("whereis", "--json", mounted.mnt / "d"))
    assert whereis["here_bytes"] == whereis["bytes"]
    evict(mounted)
    whereis = json.loads(fusefs("whereis", "--json", mounted.mnt / "d" / "b"))
    assert whereis["here_bytes"] == whereis["bytes"]
    fusefs("fetch", mounted.mnt / "a")
    place.rename(place.with_name("unplugged"))
    mounted.expected += ["sync waits"]
    assert (mounted.mnt / "a").read_bytes() == A
    assert (mounted.mnt / "d" / "b").read_bytes() == B
    fusefs("unpin", mounted.mnt / "d")


def test_a_store_that_is_not_mounted_is_pinned_and_what_is_away_comes_back(
    mounted: Mounted, place: Path
) -> None:
    evict(mounted)
    mounted.umount()
    assert "came back" in fusefs("pin", mounted.store)
    fusefs("pin", mounted.store)
    mounted.mount()
    assert (mounted.mnt / "a").read_bytes() == A
    assert evict(mounted)["freed_bytes"] == 0
    assert os.getxattr(mounted.mnt, "user.fusefs.pin") == b"1"


def test_a_flipped_byte_is_healed_and_reported(mounted: Mounted, place: Path) -> None:
    info = json.loads(fusefs("info", "--json", mounted.mnt / "a"))
    mounted.umount()
    flip(mounted.store, info)
    mounted.expected += ["a block is bad"]
    mounted.mount()
    assert (mounted.mnt / "a").read_bytes() == A
    assert status(mounted)["counters"]["healed"] == 1
    wait_for_event(mounted, "healed")
    assert "a bad block was healed from a remote" in mounted.log
    fusefs("scrub", mounted.mnt)
    mounted.umount()
    fusefs("fsck", mounted.store)
    mounted.mount()


def test_a_scrub_says_what_was_bad_and_what_is_healed(mounted: Mounted, place: Path) -> None:
    fusefs("evict", mounted.mnt / "d")
    info = json.loads(fusefs("info", "--json", mounted.mnt / "a"))
    mounted.umount()
    flip(mounted.store, info)
    mounted.expected += ["a block is bad", "damaged content"]
    missed = json.loads(run_fusefs("scrub", "--json", mounted.store).stdout)
    assert (missed["damaged"], missed["healed"], len(missed["corruptions"])) == (1, 0, 1)
    mounted.mount()
    assert (mounted.mnt / "d" / "b").read_bytes() == B  # which the agent has fetched: it is there
    assert "1 of them bad, 1 of these healed\n" in fusefs("scrub", mounted.mnt)
    found = json.loads(fusefs("scrub", "--status", "--json", mounted.mnt))
    assert (found["damaged"], found["healed"], found["records"]) == (1, 1, 0)
    assert "1 bad, 1 of these healed\n" in fusefs("scrub", "--status", mounted.mnt)
    assert "0 of them bad\n" in fusefs("scrub", mounted.mnt)


def test_a_repair_takes_bad_content_from_a_remote(mounted: Mounted, place: Path) -> None:
    info = json.loads(fusefs("info", "--json", mounted.mnt / "a"))
    mounted.umount()
    flip(mounted.store, info)
    gone = place.rename(place.with_name("unplugged"))
    done = run_fusefs("fsck", "--repair", "--read-data", mounted.store)
    assert done.returncode == RemoteUnreachable.exit_code
    assert "--no-remotes" in done.stderr
    gone.rename(place)
    out = fusefs("fsck", "--repair", "--read-data", mounted.store)
    assert "is as it was, from a remote" in out
    assert "are lost" not in out
    mounted.mount()
    assert (mounted.mnt / "a").read_bytes() == A


def test_a_store_can_hold_more_than_its_cache_size(mounted: Mounted, place: Path) -> None:
    mounted.remount("-o", "cache_size=16M")
    wait_for_event(mounted, "evicted")
    assert segments_bytes(mounted.store) <= 24 * MIB
    assert (mounted.mnt / "a").read_bytes() == A
    assert (mounted.mnt / "d" / "b").read_bytes() == B


def test_an_unmounted_store_is_evicted_as_well(mounted: Mounted, place: Path) -> None:
    mounted.umount()
    before = segments_bytes(mounted.store)
    fusefs("evict", mounted.store)
    assert segments_bytes(mounted.store) < before - 30 * MIB
    fusefs("fsck", "--read-data", mounted.store)
    fusefs("fetch", mounted.store)
    assert segments_bytes(mounted.store) >= before
    mounted.mount()
    assert (mounted.mnt / "a").read_bytes() == A


def test_a_read_only_mount_reads_what_is_away(mounted: Mounted, place: Path) -> None:
    evict(mounted)
    mounted.remount("-o", "ro")
    assert (mounted.mnt / "a").read_bytes() == A
    done = run_fusefs("pin", mounted.mnt / "a")
    assert "read-only" in done.stderr
