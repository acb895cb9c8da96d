"""Transfers through the program as users run it, and through the Python interface."""

import json
import os
import pwd
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fusefs.daemon.client import Client
from fusefs.errors import (
    AlreadyRunning,
    BadTransfer,
    NoSuchTransfer,
    NotRunning,
    UnknownEndpoint,
    UsageError,
)
from fusefs.model.transfer import Status
from fusefs.remotes import address
from fusefs.remotes.multipart import Uploads
from fusefs.remotes.secrets import Secrets
from fusefs.transfers import Specification, TransferClient, http_status
from tests.conftest import Mounted, fusefs, run_fusefs, run_fusefs_as
from tests.remotes.proxy import proxied
from tests.remotes.servers import RcloneWebdav, SeaweedS3, SshSftp
from tests.stops import has_stopped
from tests.system.synced import agent_of
from tests.system.trashcan import until

pytestmark = pytest.mark.mount

MIB = 1 << 20
#: Of the file whose progress is looked at.
LARGE = int(os.environ.get("FUSEFS_TRANSFER_MIB", "48")) * MIB


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


def shown(mounted: Mounted, id: str) -> dict[str, Any]:
    return dict(json.loads(fusefs("transfer", "show", "--json", id, mounted.mnt)))


def client(mounted: Mounted) -> TransferClient:
    return TransferClient(partial(Client.connect, mounted.store))


def test_from_the_mount_to_a_directory(mounted: Mounted, target: Path) -> None:
    (mounted.mnt / "data" / "sub").mkdir(parents=True)
    (mounted.mnt / "data" / "a.csv").write_bytes(b"1,2\n")
    (mounted.mnt / "data" / "sub" / "n\xe4me").write_bytes(b"x" * MIB * 2)
    instructions = target.parent / "instructions.json"
    instructions.write_text('{"ü": [1.0, {"b": null}]}')
    id = fusefs(
        "transfer", "create", "--from", mounted.mnt / "data", "--to", target, "--description",
        "what *it* is", "--instructions", instructions, "--wait", "a.csv", "sub",
    ).strip()  # fmt: skip
    record = shown(mounted, id)
    assert (record["status"], record["files_moved"]) == ("succeeded", 2)
    assert record["source"] == ["store:/data"]
    manifest = json.loads((target / id / "manifest.json").read_bytes())
    assert record["manifest"] == str(target / id / "manifest.json")
    assert manifest["instructions"] == {"ü": [1.0, {"b": None}]}
    for one in manifest["resources"]:
        content = (target / id / one["path"]).read_bytes()
        assert content == (mounted.mnt / "data" / one["path"]).read_bytes()
        assert one["hash"] == f"sha256:{sha256(content).hexdigest()}"
    listed = fusefs("transfer", "list", mounted.mnt)
    assert id in listed
    assert "2/2" in listed
    watched = fusefs("transfer", "watch", id, mounted.mnt).splitlines()
    assert [line.split()[-1] for line in watched] == [
        "unknown", "active", "finalizing", "succeeded",
    ]  # fmt: skip
    assert id in fusefs("transfer", "journal", "--since", "1h ago", mounted.mnt)
    assert id not in fusefs("transfer", "journal", "--until", "2001-01-01", mounted.mnt)
    ended = record["ended"]
    assert id in fusefs("transfer", "journal", "--since", ended, "--until", ended, mounted.mnt)
    refused = run_fusefs(
        "transfer", "journal", "--since", ended, "--until", "2001-01-01", mounted.mnt
    )
    assert (refused.returncode, "is later than --until" in refused.stderr) == (2, True)
    mounted.umount()
    assert shown_unmounted(mounted.store, id)["status"] == "succeeded"
    assert run_fusefs("transfer", "cancel", id, mounted.store).returncode == 88


def shown_unmounted(store: Path, id: str) -> dict[str, Any]:
    return dict(json.loads(fusefs("transfer", "show", "--json", id, store)))


def test_into_the_mount_and_out_of_it(mounted: Mounted, target: Path) -> None:
    (target / "f").write_bytes(os.urandom(3 * MIB))
    first = fusefs(
        "transfer", "create", "--from", target, "--to", mounted.mnt, "--wait", "f"
    ).strip()
    assert json.loads(fusefs("trash", "list", "--all", "--json", mounted.mnt)) == []
    second = fusefs(
        "transfer", "create", "--from", "store:/", "--in", mounted.mnt, "--to", target, "--wait",
        f"{first}/f",
    ).strip()  # fmt: skip
    assert (target / second / first / "f").read_bytes() == (target / "f").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--from", "SOURCE", "--to", "/no/such/place", "a"], 81),
        (["--from", "/no/such/place", "--to", "TARGET", "a"], 81),
        (["--from", "SOURCE", "--to", "TARGET", "none"], 81),
        (["--from", "SOURCE", "--to", "nothing-of-that-name", "a"], 81),
        (["--from", "SOURCE", "--to", "TARGET", "a", "a"], 80),
        (["--from", "SOURCE", "--to", "TARGET", "../a"], 80),
        (["--from", "SOURCE", "--to", "SOURCE", "a"], 80),
        (["--from", "SOURCE", "--to", "TARGET", "--user", "no-such-user", "a"], 80),
        (["--from", "SOURCE", "--to", "TARGET", "--instructions", "[]", "a"], 80),
        (["--from", "no-such-remote:dir", "--to", "TARGET", "a"], 81),
        (["--from", "SOURCE", "--to", "TARGET", "--instructions", '{"a"', "a"], 80),
        (["--from", "SOURCE", "--to", "gopher://x/y", "a"], 69),
        (["--from", "SOURCE", "--to", "s3://bucket/x?nonsense=1", "a"], 69),
        (["--from", "SOURCE", "--to", "s3://key:secret@bucket/x", "a"], 80),
        (["--from", "SOURCE", "--to", "TARGET"], 2),
    ],
)
def test_bad_requests(mounted: Mounted, target: Path, arguments: list[str], code: int) -> None:
    (mounted.mnt / "a").write_bytes(b"a")
    places = {"SOURCE": str(mounted.mnt), "TARGET": str(target)}
    filled = [places.get(one, one) for one in arguments]
    done = run_fusefs("transfer", "create", "--in", mounted.mnt, *filled)
    assert done.returncode == code, done
    assert done.stderr.count("\n") == 1 or code == 2
    assert json.loads(fusefs("transfer", "list", "--json", mounted.mnt)) == []
    assert os.listdir(target) == []


def test_what_cannot_be_found_is_told_with_the_way_out(mounted: Mounted, target: Path) -> None:
    (target / "a").write_bytes(b"a")
    ends = ("--from", target, "--to", target)
    nowhere = run_fusefs_as(0, "transfer", "create", *ends, "a", cwd="/")
    assert (nowhere.returncode, "--in" in nowhere.stderr) == (24, True), nowhere
    ends = ("--from", "bucket:dir", "--to", target)
    unknown = run_fusefs("transfer", "create", *ends, "--in", mounted.mnt, "a")
    assert (unknown.returncode, "fusefs remote list" in unknown.stderr) == (81, True), unknown
    status = run_fusefs("transfer", "list", "--status", "done", mounted.mnt)
    assert (status.returncode, "succeeded" in status.stderr) == (2, True), status


@pytest.mark.parametrize(
    "option",
    [
        "transfer_payload=0",
        "transfer_payload=much",
        "transfer_at_once=0",
        "transfer_at_once=-1",
        "transfer_waiting=x",
        "transfer_moves=1000",
        "transfer_delete_after=0",
        "transfer_delete_after=7",
        "transfer_stall=0.1s",
        "transfer_retries=many",
        "transfer_files=0",
        "transfer_nonsense=1",
    ],
)
def test_a_broken_setting_is_named_and_nothing_starts(store: Path, mnt: Path, option: str) -> None:
    done = run_fusefs("mount", "-o", option, store, mnt)
    assert done.returncode == 2
    assert option in done.stderr
    assert not os.path.ismount(mnt)


def test_who_watches_hears_who_canceled(mounted: Mounted, target: Path) -> None:
    (mounted.mnt / "a").write_bytes(b"a")
    mounted.remount(FUSEFS_FAILPOINTS="move.block=1:kill")  # so that it comes to no end by itself
    mounted.expected = [r".*agent.*"]
    id = fusefs("transfer", "create", "--from", mounted.mnt, "--to", target, "a").strip()
    fusefs("transfer", "cancel", id, mounted.mnt)
    done = run_fusefs("transfer", "watch", id, mounted.mnt)
    me = pwd.getpwuid(os.getuid()).pw_name
    assert (done.returncode, f"canceled: asked for by {me}\n" in done.stderr) == (85, True)


def test_the_python_interface(mounted: Mounted, target: Path) -> None:
    (mounted.mnt / "a").write_bytes(b"a" * 1000)
    transfers = client(mounted)
    assert transfers.running
    with pytest.raises(AlreadyRunning):
        transfers.start()
    subscription, idle = transfers.subscribe(), transfers.subscribe(buffer=1)
    told = []
    reader = threading.Thread(target=lambda: told.extend(subscription), daemon=True)
    reader.start()
    id = transfers.create(
        Specification("store", str(target), ["a"], description="d", instructions='{"x": 1}')
    )
    until(lambda: transfers.status(id).is_over)
    status = transfers.status(id)
    assert (status.status, status.files_moved, status.bytes_moved) == (Status.SUCCEEDED, 1, 1000)
    until(lambda: len(told) == 4)
    transfers.unsubscribe(subscription)
    reader.join(10)
    assert not reader.is_alive()
    assert [(one.id, one.status.value, one.description) for one in told] == [
        (id, status, "d") for status in ("unknown", "active", "finalizing", "succeeded")
    ]
    assert subscription.dropped == 0
    transfers.unsubscribe(idle)
    with pytest.raises(UsageError, match="from 1 to 10000"):
        transfers.subscribe(buffer=0)
    transfers.cancel(id)
    assert transfers.status(id).status is Status.SUCCEEDED
    for call, kind, code in (
        (partial(transfers.status, "4f2c6e0a-6f0b-4d8e-9d0c-2b8a5a6f7c11"), NoSuchTransfer, 404),
        (
            partial(transfers.create, Specification("store", "/no/where", ["a"])),
            UnknownEndpoint,
            404,
        ),
        (partial(transfers.create, Specification("store", str(target), [])), BadTransfer, 400),
    ):
        with pytest.raises(kind) as raised:
            call()
        assert http_status(raised.value) == code
    transfers.stop()
    assert not transfers.running
    with pytest.raises(NotRunning):
        transfers.create(Specification("store", str(target), ["a"]))
    with pytest.raises(NotRunning):
        transfers.stop()
    transfers.start()
    assert transfers.running
    mounted.umount()
    assert not transfers.running
    with pytest.raises(NotRunning):
        transfers.status(id)


def test_two_hundred_callers_at_once_get_their_own_answers(mounted: Mounted, target: Path) -> None:
    (mounted.mnt / "a").write_bytes(b"a")
    transfers = client(mounted)
    ids = [
        transfers.create(Specification("store", str(target), ["a"], description=str(number)))
        for number in range(40)
    ]
    answers: dict[int, tuple[str, str]] = {}

    def ask(number: int) -> None:
        status = transfers.status(ids[number % len(ids)])
        answers[number] = status.id, status.description

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {
        number: (ids[number % len(ids)], str(number % len(ids))) for number in range(200)
    }
    until(lambda: all(transfers.status(id).is_over for id in ids))


@pytest.mark.slow
@pytest.mark.parametrize("stop", ["umount", "SIGTERM"])
def test_a_transfer_out_of_the_mount_is_no_reason_to_stay(
    mounted: Mounted, target: Path, stop: str
) -> None:
    (mounted.mnt / "a").write_bytes(os.urandom(16 * MIB))
    fusefs("remote", "add", mounted.mnt, "slow", f"file://{target}", "--limit", "1M")
    fusefs("sync", "pause", mounted.mnt, "slow")
    id = fusefs("transfer", "create", "--from", mounted.mnt, "--to", "slow", "a").strip()
    until(lambda: shown(mounted, id)["bytes_moved"])
    if stop == "umount":
        mounted.umount()
    else:
        mounted.kill(signal.SIGTERM)
    assert "still in use" not in mounted.log
    assert shown_unmounted(mounted.store, id)["status"] == "active"
    mounted.mount()
    record = until(lambda: (one := shown(mounted, id))["bytes_moved"] and one)
    assert (record["status"], record["retries"]) == ("active", 0)
    fusefs("transfer", "stop", mounted.mnt)
    watched = run_fusefs("transfer", "watch", id, mounted.mnt)  # it does not wait for ever
    assert (watched.returncode, "are stopped" in watched.stderr) == (88, True)
    fusefs("transfer", "start", mounted.mnt)
    fusefs("transfer", "cancel", id, mounted.mnt)
    until(lambda: shown(mounted, id)["ended"])


def test_who_else_uses_the_mount_keeps_it_and_transfers_go_on(
    mounted: Mounted, target: Path
) -> None:
    (mounted.mnt / "a").write_bytes(b"a")
    with (mounted.mnt / "a").open("rb"):
        assert run_fusefs("umount", mounted.mnt).returncode == 22
        id = fusefs("transfer", "create", "--from", mounted.mnt, "--to", target, "--wait", "a")
    assert (target / id.strip() / "a").read_bytes() == b"a"


def test_as_many_as_like_wait_at_once_for_what_the_agent_does(
    mounted: Mounted, target: Path
) -> None:
    (mounted.mnt / "a").write_bytes(b"a")
    transfers = client(mounted)
    asked = Specification("store:/", str(target), ["a"])
    ended: list[Status] = []

    def have_done() -> None:
        with Client.connect(mounted.store) as daemon:  # type: ignore[union-attr]
            id = transfers.create(asked)
            until(lambda: daemon.ask("transfer_show", id=id)["ended"])
            ended.append(transfers.status(id).status)

    threads = [threading.Thread(target=have_done) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == [Status.SUCCEEDED] * 40


def test_progress_is_seen_while_it_happens(mounted: Mounted, tmp_path: Path) -> None:
    """Over a network that is slow until enough was seen."""
    with (mounted.mnt / "large").open("wb") as file:
        for _ in range(LARGE // MIB):
            file.write(os.urandom(MIB))
    transfers = client(mounted)
    seen: list[int] = []
    with SshSftp(tmp_path / "server") as server, proxied(server.port) as proxy:
        proxy.throttle(MIB)
        id = transfers.create(Specification("store", server.at(proxy.port), ["large"]))

        def look() -> bool:
            status = transfers.status(id)
            seen.append(status.bytes_moved)
            if len(set(seen)) > 5:
                proxy.throttle(0)
            return status.is_over

        until(look)
    assert seen == sorted(seen)
    assert (seen[-1], len(set(seen)) > 5) == (LARGE, True), sorted(set(seen))


SERVERS = {"s3": SeaweedS3, "webdav": RcloneWebdav, "sftp": SshSftp}


@contextmanager
def bucket(kind: str, directory: Path) -> Iterator[tuple[str, str]]:
    """URL, and where its secrets are."""
    with SERVERS[kind](directory) as server:
        yield server.url, f"file:{server.secrets_file()}" if server.secrets else ""


@pytest.mark.slow
@pytest.mark.parametrize("kind", SERVERS)
def test_to_a_bucket_and_back(mounted: Mounted, tmp_path: Path, target: Path, kind: str) -> None:
    (mounted.mnt / "d").mkdir()
    for number, size in enumerate((0, 10, MIB + 1, 9 * MIB)):
        (mounted.mnt / "d" / f"f {number}").write_bytes(os.urandom(size))
    with bucket(kind, tmp_path / "server") as (url, secrets):
        id = fusefs(
            "transfer", "create", "--from", mounted.mnt, "--to", url, "--to-secrets", secrets,
            "--wait", "d",
        ).strip()  # fmt: skip
        record = shown(mounted, id)
        assert record["files_moved"] == 4
        plain, _, options = url.partition("?")
        said = f"?{options}" if kind == "s3" else ""
        assert record["manifest"] == f"{plain}/{id}/manifest.json{said}"
        back = fusefs(
            "transfer", "create", "--from", url, "--from-secrets", secrets, "--to", target,
            "--in", mounted.mnt, "--wait", id,
        ).strip()  # fmt: skip
    for number in range(4):
        content = (target / back / id / "d" / f"f {number}").read_bytes()
        assert content == (mounted.mnt / "d" / f"f {number}").read_bytes()
    manifest = json.loads((target / back / id / "manifest.json").read_bytes())
    assert len(manifest["resources"]) == 4
    text = fusefs("transfer", "show", "--json", back, mounted.mnt) + mounted.log
    assert "TestSecretKey" not in text


def unfinished(server: SeaweedS3) -> dict[str, str]:
    """The uploads in its bucket: their ids by key."""
    found = bucket_of(server).list_multipart_uploads(Bucket=server.bucket)
    return {one["Key"]: one["UploadId"] for one in found.get("Uploads", [])}


def bucket_of(server: SeaweedS3) -> Any:
    secrets = Secrets(server.secrets)
    return Uploads(address.parse(server.url), secrets)._client


@pytest.mark.slow
@pytest.mark.parametrize("is_canceled", [False, True], ids=["goes on", "is canceled"])
def test_no_unfinished_upload_outlives_a_transfer_whose_agent_was_killed(
    mounted: Mounted, tmp_path: Path, is_canceled: bool
) -> None:
    (mounted.mnt / "large").write_bytes(os.urandom(72 * MIB))
    mounted.remount(FUSEFS_FAILPOINTS="move.block=70:stop")
    mounted.expected = [r".*agent.*"]
    with SeaweedS3(tmp_path / "server") as server:
        theirs = "prefix/id/.partial/0"
        bucket_of(server).create_multipart_upload(Bucket=server.bucket, Key=theirs)
        id = fusefs(
            "transfer", "create", "--from", mounted.mnt, "--to", server.url, "--to-secrets",
            f"file:{server.secrets_file()}", "large",
        ).strip()  # fmt: skip
        ours = f"prefix/{id}/.partial/0"
        until(lambda: has_stopped(agent_of(mounted)))
        assert ours in unfinished(server)
        agent = agent_of(mounted)
        mounted.kill()
        os.kill(agent, signal.SIGKILL)
        if is_canceled:  # and before that none of the next agents comes to the end
            mounted.mount(FUSEFS_FAILPOINTS="move.block=1:kill")
            fusefs("transfer", "cancel", id, mounted.mnt)
        else:
            mounted.mount()
        end = "canceled" if is_canceled else "succeeded"
        until(lambda: shown(mounted, id)["status"] == end)
        until(lambda: unfinished(server).keys() == {theirs})
