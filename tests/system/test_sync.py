"""What is written to a mount gets to its remotes by itself, whatever is killed meanwhile."""

import errno
import json
import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fusefs.errors import (
    BadRemote,
    DamageFound,
    NoSuchRemote,
    RemoteMissing,
    RemoteTaken,
    RemoteUnreachable,
    UsageError,
    WrongState,
)
from fusefs.remotes.address import connect
from fusefs.remotes.api import Remote
from fusefs.sync import layout
from tests.conftest import COMMAND_TIMEOUT_S, Mounted, fusefs, run_fusefs
from tests.system.synced import agent_of, assert_restorable, kill_agent, record
from tests.system.trashcan import until

pytestmark = pytest.mark.mount

MIB = 1 << 20


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere"
    path.mkdir()
    return path


@pytest.fixture
def remote(place: Path) -> Remote:
    return connect(f"file://{place}")


@pytest.fixture
def synced(mounted: Mounted, place: Path) -> Mounted:
    """With the remote "usb"."""
    fusefs("remote", "add", mounted.mnt, "usb", f"file://{place}")
    return mounted


def wait(mounted: Mounted) -> None:
    fusefs("sync", "wait", mounted.mnt, "--timeout", "170s")


def test_what_is_written_arrives_without_a_word(
    synced: Mounted, place: Path, remote: Remote
) -> None:
    (synced.mnt / "a").write_bytes(os.urandom(20 * MIB))
    (synced.mnt / "dir").mkdir()
    (synced.mnt / "dir" / "b").write_bytes(b"small")
    wait(synced)
    one = record(synced, "usb")
    assert (one["is_in_step"], one["behind_segments"], one["error"]) == (True, 0, None)
    assert one["sent_bytes"] >= 20 * MIB
    (synced.mnt / "dir" / "b").unlink()
    os.rename(synced.mnt / "a", synced.mnt / "c")
    wait(synced)
    assert record(synced, "usb")["sequence"] > one["sequence"]
    synced.umount()
    assert_restorable(synced.store, remote)


def test_after_the_last_byte_the_writer_is_not_needed(synced: Mounted, remote: Remote) -> None:
    """Copied, unmounted at once, mounted again: it goes on by itself."""
    (synced.mnt / "a").write_bytes(os.urandom(3 * MIB))
    synced.umount()
    synced.mount()
    wait(synced)
    synced.umount()
    assert_restorable(synced.store, remote)


def test_a_mount_alone_publishes_nothing(synced: Mounted, remote: Remote) -> None:
    (synced.mnt / "a").write_bytes(b"x")
    fusefs("sync", "now", synced.mnt)
    before = layout.sequences(remote)
    synced.remount()
    assert record(synced, "usb")["is_in_step"]
    fusefs("sync", "now", synced.mnt)
    assert layout.sequences(remote) == before


def test_now_does_not_wait_for_quiet_and_says_what_is_wrong(
    synced: Mounted, place: Path, remote: Remote
) -> None:
    synced.expected += ["sync waits"]
    (synced.mnt / "a").write_bytes(b"x")
    fusefs("sync", "now", synced.mnt)
    assert record(synced, "usb")["is_in_step"]
    place.rename(place.with_name("gone"))
    (synced.mnt / "b").write_bytes(b"y")
    done = run_fusefs("sync", "now", synced.mnt)
    assert (done.returncode, "usb" in done.stderr) == (RemoteMissing.exit_code, True)
    late = run_fusefs("sync", "wait", synced.mnt, "--timeout", "1s")
    assert late.returncode == RemoteUnreachable.exit_code
    one = record(synced, "usb")
    assert (one["is_in_step"], one["error_class"]) == (False, "RemoteMissing")
    assert str(place) in one["error"]
    status = fusefs("status", synced.mnt)
    assert str(place) in next(line for line in status.splitlines() if "remote usb" in line)
    place.with_name("gone").rename(place)
    fusefs("sync", "now", synced.mnt)
    assert record(synced, "usb")["error"] is None
    synced.umount()
    assert_restorable(synced.store, remote)


def test_a_paused_remote_gets_nothing_and_then_all(synced: Mounted, remote: Remote) -> None:
    fusefs("sync", "now", synced.mnt)
    fusefs("sync", "pause", synced.mnt, "usb")
    before = list(remote.list(""))
    (synced.mnt / "a").write_bytes(os.urandom(MIB))
    synced.remount()
    assert record(synced, "usb")["is_paused"]
    assert run_fusefs("sync", "now", synced.mnt).returncode != 0
    assert list(remote.list("")) == before
    fusefs("sync", "resume", synced.mnt)
    wait(synced)
    synced.umount()
    assert_restorable(synced.store, remote)


@pytest.mark.parametrize("verb", ["now", "wait"])
def test_others_do_not_wait_for_a_remote_that_is_paused(
    synced: Mounted, place: Path, tmp_path: Path, verb: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    fusefs("remote", "add", synced.mnt, "disk", f"file://{other}")
    fusefs("sync", "now", synced.mnt)
    fusefs("sync", "pause", synced.mnt, "usb")
    (synced.mnt / "a").write_bytes(os.urandom(MIB))
    way_out = f"the remote usb is paused: fusefs sync resume {synced.mnt} usb"
    done = run_fusefs("sync", verb, synced.mnt)
    assert (done.returncode, done.stderr) == (0, f"fusefs: {way_out}\n")
    assert (record(synced, "disk")["is_in_step"], record(synced, "usb")["is_in_step"]) == (1, 0)
    named = run_fusefs("sync", verb, synced.mnt, "disk", "usb")
    assert (named.returncode, way_out in named.stderr) == (WrongState.exit_code, True)
    fusefs("sync", "pause", synced.mnt)
    all_of_them = run_fusefs("sync", verb, synced.mnt)
    assert all_of_them.returncode == WrongState.exit_code
    assert f"fusefs sync resume {synced.mnt} disk usb" in all_of_them.stderr


def test_who_waits_for_a_remote_hears_that_it_is_paused_meanwhile(
    synced: Mounted, place: Path
) -> None:
    synced.expected += ["sync waits"]
    place.rename(place.with_name("gone"))
    (synced.mnt / "a").write_bytes(b"x")
    with subprocess.Popen(
        [sys.executable, "-m", "fusefs", "sync", "wait", synced.mnt], stderr=subprocess.PIPE
    ) as waiting:
        try:
            until(lambda: record(synced, "usb")["error"] is not None)
            assert waiting.poll() is None
            fusefs("sync", "pause", synced.mnt)
            _, said = waiting.communicate(timeout=COMMAND_TIMEOUT_S)
        finally:
            waiting.kill()
    assert (waiting.returncode, b"is paused" in said) == (WrongState.exit_code, True)


@pytest.mark.slow
def test_killing_agent_and_daemon_costs_nothing(
    synced: Mounted, place: Path, remote: Remote
) -> None:
    """kill -9 of both in turn, at any time, while files are written."""
    chance = random.Random(5)
    for turn in range(12):
        for n in range(3):
            (synced.mnt / f"{turn}-{n}").write_bytes(os.urandom(chance.randrange(6 * MIB)))
        run_fusefs("sync", "wait", synced.mnt, "--timeout", f"{chance.random():.2f}s")
        if turn % 3 == 2:
            synced.kill()
            synced.mount()
        else:
            until(lambda: kill_agent(synced))
    wait(synced)
    fusefs("fsck", synced.mnt)
    synced.umount()
    assert_restorable(synced.store, remote)
    segments = len(list(remote.list(layout.SEGMENTS)))
    assert segments <= len(list((synced.store / "segments").iterdir()))


PUBLISHING = (
    "sync.send", "sync.sent", "sync.cut", "sync.base", "sync.delta", "sync.tables", "sync.intent",
    "sync.put", "sync.published",
)  # fmt: skip


@pytest.mark.parametrize("point", PUBLISHING)
def test_an_agent_that_dies_at_each_step_is_followed_by_another(
    store: Path, mnt: Path, place: Path, remote: Remote, point: str
) -> None:
    filesystem = Mounted(store, mnt)
    try:
        filesystem.mount(FUSEFS_FAILPOINTS=f"{point}=1:kill")
        fusefs("remote", "add", mnt, "usb", f"file://{place}")
        (mnt / "a").write_bytes(os.urandom(MIB))
        until(lambda: "the agent has ended" in filesystem.log)
        filesystem.remount()
        (mnt / "b").write_bytes(b"more")
        wait(filesystem)
        filesystem.umount()
        assert_restorable(store, remote)
        assert len(layout.sequences(remote)) == max(layout.sequences(remote))
    finally:
        filesystem.clean_up()


def test_the_agent_ends_with_its_daemon(synced: Mounted) -> None:
    fusefs("sync", "now", synced.mnt)
    descriptor = os.pidfd_open(agent_of(synced))
    synced.kill()
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    assert poller.poll(COMMAND_TIMEOUT_S * 1000)
    os.close(descriptor)
    synced.mount()


def test_the_agent_gives_way_to_all_others(synced: Mounted) -> None:
    fusefs("sync", "now", synced.mnt)
    pid = agent_of(synced)
    nice = os.getpriority(os.PRIO_PROCESS, pid)
    assert nice >= 10
    assert os.getsid(pid) == pid
    if (group := Path(f"/proc/{pid}/autogroup")).exists():
        assert group.read_text().split()[-1] == str(nice)


def test_unmounting_with_flush_brings_all_away_first(
    synced: Mounted, place: Path, remote: Remote
) -> None:
    synced.expected += ["sync waits"]
    (synced.mnt / "a").write_bytes(os.urandom(2 * MIB))
    place.rename(place.with_name("gone"))
    refused = run_fusefs("umount", "--flush", "--timeout", "80s", synced.mnt)
    assert refused.returncode == RemoteMissing.exit_code
    assert f"{synced.mnt} stays mounted" in refused.stderr
    assert synced.is_mounted
    place.with_name("gone").rename(place)
    fusefs("umount", "--flush", synced.mnt)
    synced.wait_for_end()
    assert_restorable(synced.store, remote)


def test_unmounting_with_flush_leaves_out_a_remote_that_is_paused(
    synced: Mounted, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    fusefs("remote", "add", synced.mnt, "disk", f"file://{other}")
    fusefs("sync", "pause", synced.mnt, "usb")
    (synced.mnt / "a").write_bytes(b"x")
    done = run_fusefs("umount", "--flush", synced.mnt)
    assert (done.returncode, "the remote usb is paused" in done.stderr) == (0, True)
    synced.wait_for_end()
    assert_restorable(synced.store, connect(f"file://{other}"))


def test_a_stop_drains_for_as_long_as_it_may(synced: Mounted, place: Path, remote: Remote) -> None:
    synced.remount("-o", "drain=60s")
    (synced.mnt / "a").write_bytes(os.urandom(2 * MIB))
    synced.kill(signal.SIGTERM)
    assert_restorable(synced.store, remote)


def test_a_stop_does_not_wait_for_a_remote_that_is_not_there(
    synced: Mounted, place: Path, remote: Remote
) -> None:
    synced.expected += ["sync waits", "a remote fails"]
    synced.remount("-o", "drain=1h")
    (synced.mnt / "a").write_bytes(b"x")
    place.rename(place.with_name("gone"))
    synced.kill(signal.SIGTERM)  # waits for the end, and not for an hour


def test_a_file_says_where_it_is(synced: Mounted, place: Path) -> None:
    attribute = "user.fusefs.synced"
    path = synced.mnt / "a"
    path.write_bytes(os.urandom(MIB))
    fusefs("sync", "now", synced.mnt)
    assert os.getxattr(path, attribute) == b"usb=yes"
    fusefs("sync", "pause", synced.mnt)
    path.chmod(0o600)
    assert os.getxattr(path, attribute) == b"usb=no"
    fusefs("sync", "resume", synced.mnt)
    fusefs("sync", "now", synced.mnt)
    assert os.getxattr(path, attribute) == b"usb=yes"
    assert attribute not in os.listxattr(path)
    with pytest.raises(PermissionError):
        os.setxattr(path, attribute, b"usb=yes")
    fusefs("remote", "remove", synced.mnt, "usb")
    with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
        os.getxattr(path, attribute)


def test_remotes_are_added_listed_and_removed(
    mounted: Mounted, place: Path, tmp_path: Path
) -> None:
    missing = run_fusefs("remote", "add", mounted.mnt, "usb", f"file://{tmp_path}/none")
    assert missing.returncode == RemoteMissing.exit_code
    assert json.loads(fusefs("remote", "list", mounted.mnt, "--json")) == []
    assert agent_of(mounted) == 0
    fusefs("remote", "add", mounted.mnt, "usb", f"file://{place}", "--cost", "120", "--limit", "9M")
    (listed,) = json.loads(fusefs("remote", "list", mounted.mnt, "--json"))
    assert (listed["name"], listed["cost"], listed["limit"]) == ("usb", 120, "9M")
    (empty := tmp_path / "empty").mkdir()
    fusefs("remote", "set", mounted.mnt, "usb", "--cost", "50", "--limit", "8M")
    wrong = run_fusefs("remote", "set", mounted.mnt, "usb", "--secrets", f"file:{tmp_path}/none")
    assert wrong.returncode == BadRemote.exit_code
    assert run_fusefs("remote", "set", mounted.mnt, "usb").returncode == UsageError.exit_code
    assert run_fusefs("remote", "set", mounted.mnt, "usb", "--limit", "x").returncode == 69
    (listed,) = json.loads(fusefs("remote", "list", mounted.mnt, "--json"))
    assert (listed["cost"], listed["limit"], listed["secrets"]) == (50, "8M", "")
    for name, url, code, why in (
        ("usb", f"file://{place}", 34, f"a remote usb already, file://{place}"),
        ("usb", f"file://{empty}", 34, f"a remote usb already, file://{place}"),
        ("store", f"file://{empty}", 69, "is the store itself, in transfers"),
        ("../x", f"file://{empty}", 69, "is no name for a remote"),
        ("other", f"file://{place}/", 34, "is the place of the remote usb already"),
    ):
        done = run_fusefs("remote", "add", mounted.mnt, name, url)
        assert (done.returncode, why in done.stderr) == (code, True), done.stderr
    assert list(empty.iterdir()) == []
    assert len(json.loads(fusefs("remote", "list", mounted.mnt, "--json"))) == 1
    (mounted.mnt / "a").write_bytes(b"x")
    fusefs("sync", "now", mounted.mnt)
    assert list((mounted.store / "sync").iterdir())
    fusefs("remote", "remove", mounted.mnt, "usb")
    assert not list((mounted.store / "sync").iterdir())
    assert run_fusefs("remote", "show", mounted.mnt, "usb").returncode == NoSuchRemote.exit_code
    assert (place / "format").exists()
    taken = run_fusefs("remote", "add", mounted.mnt, "usb", f"file://{place}")
    assert taken.returncode == RemoteTaken.exit_code
    assert "--adopt" in taken.stderr
    fusefs("remote", "add", mounted.mnt, "usb", f"file://{place}", "--adopt")
    fusefs("sync", "now", mounted.mnt)
    assert "in step" in fusefs("remote", "list", mounted.mnt)
    fusefs("fsck", mounted.mnt)


def test_the_second_of_two_writers_is_refused_until_the_user_decides(
    synced: Mounted, place: Path, remote: Remote, tmp_path: Path
) -> None:
    (synced.mnt / "a").write_bytes(b"x")
    fusefs("sync", "now", synced.mnt)
    synced.umount()
    copy = tmp_path / "copy"
    os.system(f"cp -a {synced.store} {copy}")
    (tmp_path / "mnt2").mkdir()
    other = Mounted(copy, tmp_path / "mnt2")
    other.expected += ["sync waits", "taken over"]
    synced.expected += ["sync waits", "taken over"]
    try:
        synced.mount()
        other.mount()
        (synced.mnt / "mine").write_bytes(b"1")
        fusefs("sync", "now", synced.mnt)
        (other.mnt / "theirs").write_bytes(b"2")
        refused = run_fusefs("sync", "now", other.mnt)
        assert refused.returncode == RemoteTaken.exit_code
        assert "sync adopt" in record(other, "usb")["error"]
        fusefs("sync", "adopt", other.mnt, "usb")
        fusefs("sync", "now", other.mnt)
        (synced.mnt / "more").write_bytes(b"3")
        assert run_fusefs("sync", "now", synced.mnt).returncode == RemoteTaken.exit_code
        other.umount()
        assert_restorable(copy, remote)
    finally:
        other.clean_up()
    assert other.unexpected() == []


def test_what_is_bad_in_a_remote_is_found_and_put_right(
    synced: Mounted, place: Path, remote: Remote
) -> None:
    synced.expected += ["sync waits", "taken over"]
    (synced.mnt / "a").write_bytes(os.urandom(2 * MIB))
    fusefs("sync", "now", synced.mnt)
    assert json.loads(fusefs("sync", "verify", synced.mnt, "usb", "--json"))["bad"] == []
    segments = sorted((place / "segments").iterdir())
    victim = max(segments, key=lambda path: path.stat().st_size)
    content = victim.read_bytes()
    victim.chmod(0o600)
    victim.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    found = run_fusefs("sync", "verify", synced.mnt, "usb", "--dry-run", "--json")
    assert found.returncode == DamageFound.exit_code
    assert [bad["object"] for bad in json.loads(found.stdout)["bad"]] == [f"segments/{victim.name}"]
    done = json.loads(fusefs("sync", "verify", synced.mnt, "usb", "--json"))
    assert done["repaired"] == 1
    assert victim.read_bytes() == content
    for path in (place / "index").iterdir():
        path.unlink()
    fusefs("sync", "verify", synced.mnt, "usb")
    fusefs("sync", "now", synced.mnt)
    assert json.loads(fusefs("sync", "verify", synced.mnt, "usb", "--json"))["bad"] == []
    for path in [*place.glob("*/*"), place / "format"]:
        path.unlink()
    (synced.mnt / "b").write_bytes(b"x")
    assert run_fusefs("sync", "now", synced.mnt).returncode
    fusefs("sync", "verify", synced.mnt, "usb")
    fusefs("sync", "now", synced.mnt)
    synced.umount()
    assert_restorable(synced.store, remote)


def test_what_a_remote_does_not_need_is_deleted_but_what_goes_to_the_trash_remote_first(
    synced: Mounted, place: Path, remote: Remote, tmp_path: Path
) -> None:
    for turn in range(4):
        (synced.mnt / "a").write_bytes(os.urandom(MIB))
        (synced.mnt / f"b{turn}").write_bytes(b"x")
        fusefs("sync", "now", synced.mnt)
    trash = tmp_path / "trash"
    trash.mkdir()
    fusefs("remote", "add", synced.mnt, "bin", f"file://{trash}", "--trash")
    refused = run_fusefs("sync", "wait", synced.mnt, "bin")
    assert (refused.returncode, "is a trash remote" in refused.stderr) == (
        WrongState.exit_code,
        True,
    )
    keep = "--keep", "1", "--min-age", "0s", "--json"
    planned = json.loads(fusefs("sync", "expire", synced.mnt, "usb", "--dry-run", *keep))
    assert len(planned["checkpoints"]) == len(layout.sequences(remote)) - 1 >= 3
    trash.rename(tmp_path / "away")
    before = sorted(path.name for path in place.rglob("*"))
    refused = run_fusefs("sync", "expire", synced.mnt, "usb", *keep)
    assert refused.returncode == RemoteMissing.exit_code
    assert "nothing is deleted, as the trash remote cannot take it" in refused.stderr
    assert sorted(path.name for path in place.rglob("*")) == before
    (tmp_path / "away").rename(trash)
    done = json.loads(fusefs("sync", "expire", synced.mnt, "usb", *keep))
    assert done == planned
    assert len(list((trash / "dropped" / "usb").rglob("*/*"))) == done["objects"]
    assert len(layout.sequences(remote)) == 1
    (synced.mnt / "last").write_bytes(b"x")
    fusefs("sync", "now", synced.mnt, "usb")
    synced.umount()
    assert_restorable(synced.store, remote)


def test_status_metrics_and_events_tell_of_the_sync(synced: Mounted) -> None:
    (synced.mnt / "a").write_bytes(os.urandom(MIB))
    fusefs("sync", "now", synced.mnt)
    assert "in step" in fusefs("sync", "status", synced.mnt)
    numbers = fusefs("status", "--prometheus", synced.mnt)
    lines = [line for line in numbers.splitlines() if 'remote="usb"' in line]
    values = {line.split("{")[0]: float(line.split()[-1]) for line in lines}
    assert values["fusefs_remote_in_step"] == 1
    assert values["fusefs_remote_behind_bytes"] == 0
    assert values["fusefs_remote_sent_bytes_total"] >= MIB
    assert '"published"' in fusefs("events", synced.mnt)
