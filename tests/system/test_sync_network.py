"""Sync to a real object store over a network that fails: all arrives, and little is sent twice."""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusefs.errors import RemoteDenied, RemoteUnreachable
from fusefs.remotes import address, secrets
from fusefs.remotes.api import Remote
from fusefs.store.format import SEGMENT_SIZE
from fusefs.sync import layout
from tests.conftest import Mounted, fusefs, run_fusefs
from tests.remotes.proxy import Proxy, proxied
from tests.remotes.servers import SeaweedS3
from tests.system.synced import assert_restorable, kill_agent, record
from tests.system.trashcan import until

pytestmark = [pytest.mark.mount, pytest.mark.slow, pytest.mark.timeout(900)]

MIB = 1 << 20
#: Requests, their heads and answers: for each object, and for each connection.
HEADS_BYTES = 8 << 10


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SeaweedS3]:
    with SeaweedS3(tmp_path / "server") as server:
        yield server


@pytest.fixture
def proxy(server: SeaweedS3) -> Iterator[Proxy]:
    with proxied(server.port) as proxy:
        yield proxy


@pytest.fixture
def remote(server: SeaweedS3) -> Remote:
    return address.connect(server.url, secrets.read(f"file:{server.secrets_file()}", os.environ))


@pytest.fixture
def synced(mounted: Mounted, server: SeaweedS3, proxy: Proxy) -> Mounted:
    """With the remote "bucket", by way of the proxy."""
    mounted.expected += ["sync waits"]
    source = f"file:{server.secrets_file()}"
    url = server.at(proxy.port)
    fusefs("remote", "add", mounted.mnt, "bucket", url, "--secrets", source)
    return mounted


def test_all_arrives_over_a_network_that_is_cut_and_a_server_that_is_killed(
    synced: Mounted, server: SeaweedS3, proxy: Proxy, remote: Remote
) -> None:
    chance = random.Random(3)
    size = kills = 0
    proxy.throttle(24 * MIB)
    for turn in range(12):
        count = chance.randrange(4, 16) * MIB
        (synced.mnt / f"file{turn}").write_bytes(os.urandom(count))
        size += count
        run_fusefs("sync", "wait", synced.mnt, "--timeout", f"{chance.random():.2f}s")
        match turn % 4:
            case 0:
                proxy.cut_after(chance.randrange(16 * MIB))
            case 1:
                proxy.cut()
            case 2:
                server.kill()
                server.start()
                kills += 1
            case _:
                kill_agent(synced)
                kills += 1
    while proxy.cuts < 3:  # there was nothing under way to be cut
        (synced.mnt / f"cut{proxy.cuts}").write_bytes(os.urandom(4 * MIB))
        size += 4 * MIB
        proxy.cut_after(MIB)
        until(lambda before=proxy.cuts: proxy.cuts > before)
    run_fusefs("sync", "now", synced.mnt)  # the rest that it takes after a failure is over
    done = run_fusefs("sync", "wait", synced.mnt, "--timeout", "170s")
    assert done.returncode == 0, done
    losses = proxy.cuts + kills
    objects = list(remote.list(""))
    stored = sum(one.size for one in objects)
    heads = HEADS_BYTES * (10 * len(objects) + proxy.connections)
    assert stored >= size
    assert proxy.up <= stored + losses * SEGMENT_SIZE + heads
    synced.umount()
    assert_restorable(synced.store, remote)
    segments = [one for one in objects if one.name.startswith(layout.SEGMENTS)]
    assert len(segments) <= len(list((synced.store / "segments").iterdir()))


def test_an_offline_remote_is_normal(synced: Mounted, proxy: Proxy, remote: Remote) -> None:
    (synced.mnt / "before").write_bytes(b"x")
    fusefs("sync", "now", synced.mnt)
    proxy.refuse()
    (synced.mnt / "meanwhile").write_bytes(os.urandom(20 * MIB))
    done = run_fusefs("sync", "now", synced.mnt)
    assert done.returncode == RemoteUnreachable.exit_code
    one = record(synced, "bucket")
    assert (one["is_in_step"], one["error_class"]) == (False, "RemoteUnreachable")
    assert one["behind_bytes"] >= 20 * MIB
    synced.remount()  # the queue is kept
    proxy.allow()
    fusefs("sync", "wait", synced.mnt, "--timeout", "170s")
    assert record(synced, "bucket")["error"] is None
    synced.umount()
    assert_restorable(synced.store, remote)


def test_one_remote_that_hangs_delays_no_other(
    synced: Mounted, proxy: Proxy, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    fusefs("remote", "add", synced.mnt, "usb", f"file://{tmp_path}/elsewhere")
    fusefs("sync", "now", synced.mnt)
    proxy.stall()
    (synced.mnt / "a").write_bytes(os.urandom(2 * MIB))
    fusefs("sync", "now", synced.mnt, "usb", "--timeout", "170s")
    assert not record(synced, "bucket")["is_in_step"]
    proxy.flow()
    fusefs("sync", "wait", synced.mnt, "--timeout", "170s")


def test_credentials_that_become_wrong_are_told(synced: Mounted, server: SeaweedS3) -> None:
    synced.expected += ["a task waits"]
    fusefs("sync", "now", synced.mnt)
    good = (server.directory / "secrets").read_text()
    (server.directory / "secrets").write_text(good.replace("7hq2", "7hq3"))
    synced.remount()
    (synced.mnt / "a").write_bytes(b"x")
    done = run_fusefs("sync", "now", synced.mnt)
    assert done.returncode == RemoteDenied.exit_code
    one = record(synced, "bucket")
    assert one["error_class"] == "RemoteDenied"
    for shown in (json.dumps(one), done.stderr, fusefs("status", synced.mnt), synced.log):
        assert "7hq" not in shown
    assert "7hq" not in (synced.store / "agent.log").read_text()
    (server.directory / "secrets").write_text(good)
    fusefs("sync", "now", synced.mnt)
