"""Places that do not work, each told apart from the others, through the program as users run it."""

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

import pytest

from fusefs.errors import (
    NoSuchObject,
    RemoteDenied,
    RemoteFull,
    RemoteMissing,
    RemoteReadOnly,
    RemoteUnreachable,
)
from fusefs.remotes.address import connect
from fusefs.remotes.api import Remote
from fusefs.remotes.secrets import Secrets
from tests.conftest import run_fusefs
from tests.disks import small_ext4
from tests.remotes.proxy import Proxy
from tests.remotes.servers import (
    ACCESS_KEY,
    SECRET_KEY,
    RcloneS3,
    RcloneWebdav,
    SeaweedS3,
    Server,
    SshSftp,
    free_port,
)

MIB = 1 << 20
S3_SECRETS = Secrets({"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}, "test")


def _secrets(tmp_path: Path, **values: str) -> str:
    path = tmp_path / "secrets.toml"
    path.write_text("".join(f"{key} = '{value}'\n" for key, value in values.items()))
    path.chmod(0o600)
    return f"file:{path}"


def _test(url: str, secrets: str = "") -> tuple[int, str]:
    """Exit code and messages of `remote test`, of which none says the secret."""
    done = run_fusefs("remote", "test", url, "--secrets", secrets)
    said = done.stdout + done.stderr
    assert SECRET_KEY not in said
    assert "Traceback" not in said
    return done.returncode, done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 of 16 MiB."""
    if os.getuid():
        pytest.skip("needs to be root")
    with small_ext4(tmp_path, 16 * MIB, has_journal=False) as path:
        yield path


def test_a_good_place_passes_and_is_left_clean(seaweed: SeaweedS3) -> None:
    done = run_fusefs(
        "remote", "test", "--json", seaweed.url, "--secrets", f"file:{seaweed.secrets_file()}"
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert {check["state"] for check in told["checks"]} <= {"ok", "skipped"}
    assert told["up_bytes_per_s"] > 0
    assert told["down_bytes_per_s"] > 0
    assert told["round_trip_s"] > 0
    left = list(connect(seaweed.url, S3_SECRETS).list("fusefs-test/"))
    assert left == []


@pytest.mark.parametrize("kind", ["seaweed", "rclone_s3"])
def test_a_wrong_secret_is_denied(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server: Server = request.getfixturevalue(kind)
    secrets = _secrets(tmp_path, access_key_id=ACCESS_KEY, secret_access_key="WrongSecret-93hx")
    code, said = _test(server.url, secrets)
    assert code == RemoteDenied.exit_code
    assert "the secret key is wrong" in said
    assert "WrongSecret" not in said
    secrets = _secrets(tmp_path, access_key_id="Nobody", secret_access_key=SECRET_KEY)
    code, said = _test(server.url, secrets)
    assert code == RemoteDenied.exit_code
    assert "does not know this access key" in said


def test_a_wrong_password_of_webdav_is_denied(webdav: RcloneWebdav, tmp_path: Path) -> None:
    code, said = _test(webdav.url, _secrets(tmp_path, username="user", password="WrongSecret-93hx"))
    assert code == RemoteDenied.exit_code
    assert "WrongSecret" not in said


def test_a_key_that_the_sftp_server_does_not_take_is_denied(sshd: SshSftp, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    code, said = _test(sshd.url.replace(f"{sshd.directory}/user_key", str(key)))
    assert code == RemoteDenied.exit_code
    assert "key" in said


def test_another_host_key_than_the_known_one_is_refused(sshd: SshSftp) -> None:
    other = "SHA256:" + "A" * 43
    code, said = _test(sshd.url.replace(f"host_key={sshd.fingerprint}", f"host_key={other}"))
    assert code == RemoteDenied.exit_code
    assert "another key than the one that is known" in said
    assert "host_key" in said


def test_a_known_hosts_file_is_believed(sshd: SshSftp, tmp_path: Path) -> None:
    public = (sshd.directory / "host_key.pub").read_text().split()
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{sshd.port} {public[0]} {public[1]}\n")
    url = sshd.url.replace(f"host_key={sshd.fingerprint}", f"known_hosts={known}")
    remote = connect(url)
    assert list(remote.list("no/such/")) == []
    remote.close()
    known.write_text(f"elsewhere {public[0]} {public[1]}\n")
    code, said = _test(url)
    assert code == 69
    assert "known_hosts" in said
    assert "ssh-keyscan" in said


@pytest.mark.parametrize("kind", ["seaweed", "rclone_s3"])
def test_a_missing_bucket_is_missing_and_not_made(
    kind: str, request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue(kind)
    url = server.url.replace("s3://bucket/", "s3://no-such-bucket/")
    code, said = _test(url, f"file:{server.secrets_file()}")
    assert code == RemoteMissing.exit_code
    assert "no such bucket" in said
    for call in (
        lambda remote: remote.put("a", b"x"),
        lambda remote: remote.get("a"),
        lambda remote: remote.sizes(["a"]),
        lambda remote: remote.delete("a"),
    ):
        with pytest.raises(RemoteMissing):
            call(connect(url, S3_SECRETS))


@pytest.mark.parametrize("kind", ["webdav", "sshd", "directory"])
def test_a_missing_directory_is_missing_and_not_made(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if kind == "directory":
        url, secrets, where = f"file://{tmp_path}/none", Secrets(), tmp_path / "none"
    else:
        server: Server = request.getfixturevalue(kind)
        base = server.url.replace("/dir", "") if kind == "webdav" else server.url
        head, mark, tail = base.partition("?")
        url, secrets = f"{head}/none{mark}{tail}", Secrets(server.secrets, "test")
        where = server.data / "none"
    for call in (
        lambda remote: remote.put("a/b", b"x"),
        lambda remote: remote.get("a/b"),
        lambda remote: remote.sizes(["a/b"]),
        lambda remote: list(remote.list("a/")),
        lambda remote: remote.delete("a/b"),
    ):
        with pytest.raises(RemoteMissing, match="no such directory"):
            call(connect(url, secrets))
    assert not where.exists()


def test_a_disk_that_is_not_mounted_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "usb").mkdir()
    code, said = _test(f"file://{tmp_path}/usb?mountpoint={tmp_path}/usb")
    assert code == RemoteUnreachable.exit_code
    assert "nothing is mounted" in said
    assert list((tmp_path / "usb").iterdir()) == []


def test_a_key_that_may_only_read_is_told_as_such(seaweed: SeaweedS3, tmp_path: Path) -> None:
    secrets = _secrets(tmp_path, access_key_id="Reader", secret_access_key=SECRET_KEY)
    code, said = _test(seaweed.url, secrets)
    assert code == RemoteReadOnly.exit_code
    assert "may be read, but not written" in said


def test_a_share_that_takes_no_writes_is_told_as_such(tmp_path: Path) -> None:
    class ReadOnly(RcloneWebdav):
        def command(self) -> list[str]:
            return [*super().command(), "--read-only"]

    with ReadOnly(tmp_path / "webdav") as server:
        code, said = _test(server.url, f"file:{server.secrets_file()}")
    assert code == RemoteReadOnly.exit_code
    assert "read-only" in said


@pytest.mark.root
def test_a_disk_that_takes_no_writes_is_told_as_such(small_disk: Path, sshd: SshSftp) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert _test(f"file://{small_disk}")[0] == RemoteReadOnly.exit_code
    url = sshd.url.replace(f"{sshd.data}?", f"{small_disk}?")
    assert _test(url)[0] == RemoteReadOnly.exit_code


@pytest.mark.root
@pytest.mark.parametrize("kind", ["directory", "sshd"])
def test_a_full_disk_is_full_and_what_is_there_stays(
    kind: str, small_disk: Path, request: pytest.FixtureRequest
) -> None:
    url = f"file://{small_disk}"
    if kind == "sshd":
        sshd: SshSftp = request.getfixturevalue("sshd")
        url = sshd.url.replace(f"{sshd.data}?", f"{small_disk}?")
    remote = connect(url)
    kept = 0
    while remote.free_bytes() > 4 * MIB:
        assert remote.put(f"a/{kept}", os.urandom(3 * MIB))
        kept += 1
    assert kept >= 2
    with pytest.raises(RemoteFull):
        remote.put("a/more", os.urandom(6 * MIB))
    assert {f.name: f.size for f in remote.list("")} == {
        f"a/{number}": 3 * MIB for number in range(kept)
    }
    assert list((small_disk / ".incoming").iterdir()) == []
    remote.close()
    assert _test(url)[0] == RemoteFull.exit_code


@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "SignatureDoesNotMatch"])
def test_a_clock_that_is_wrong_is_said_to_be(code: str, tmp_path: Path) -> None:
    class Elsewhen(http.server.BaseHTTPRequestHandler):
        """A service that lives an hour later."""

        def do_GET(self) -> None:
            body = f"<Error><Code>{code}</Code><Message>Too large</Message></Error>"
            self.send_response_only(403)
            self.send_header("Date", formatdate(time.time() + 3600, usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhen) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"s3://bucket/p?endpoint=http://127.0.0.1:{server.server_port}"
        secrets = _secrets(tmp_path, access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY)
        exit_code, said = _test(url, secrets)
        server.shutdown()
    assert exit_code == RemoteDenied.exit_code
    assert "clocks" in said
    assert "by 60 minutes" in said


@pytest.mark.parametrize("scheme", ["s3", "webdav", "sftp"])
def test_a_server_that_does_not_run_is_unreachable(scheme: str, tmp_path: Path) -> None:
    port = free_port()
    url = {
        "s3": f"s3://b/p?endpoint=http://127.0.0.1:{port}",
        "webdav": f"webdav+http://127.0.0.1:{port}/dir",
        "sftp": f"sftp://me@127.0.0.1:{port}/dir?host_key=SHA256:{'A' * 43}",
    }[scheme]
    secrets = _secrets(
        tmp_path, access_key_id="A", secret_access_key=SECRET_KEY, username="u", password=SECRET_KEY
    )
    code, said = _test(url, secrets)
    assert code == RemoteUnreachable.exit_code
    assert "Connection refused" in said


def _through(line: Proxy, server: Server, options: str = "") -> Remote:
    """The remote of a server behind a proxy."""
    url = server.at(line.port)
    if options:
        url += ("&" if "?" in url else "?") + options
    return connect(url, Secrets(server.secrets, "test"))


@pytest.mark.parametrize("kind", ["seaweed", "webdav", "sshd"])
def test_a_cut_connection_leaves_nothing_under_the_name(
    kind: str, request: pytest.FixtureRequest, proxy: Callable[[Server], Proxy]
) -> None:
    server: Server = request.getfixturevalue(kind)
    before = proxy(server)
    remote = _through(before, server)
    content = os.urandom(8 * MIB)
    remote.put(f"cut/{kind}/warm", b"x")
    before.cut_after(3 * MIB)
    with pytest.raises(RemoteUnreachable):
        remote.put(f"cut/{kind}/one", content)
    assert before.cuts >= 1
    direct = connect(server.url, Secrets(server.secrets, "test"))
    with pytest.raises(NoSuchObject):
        direct.get(f"cut/{kind}/one")
    # The same remote goes on, by a new connection, and sends each byte once.
    before.up = 0
    assert remote.put(f"cut/{kind}/one", content)
    assert direct.get(f"cut/{kind}/one") == content
    assert before.up < len(content) + MIB
    remote.close()
    direct.close()


@pytest.mark.parametrize("kind", ["rclone_s3", "webdav", "sshd"])
def test_a_server_that_stalls_is_given_up(
    kind: str, request: pytest.FixtureRequest, proxy: Callable[[Server], Proxy]
) -> None:
    server: Server = request.getfixturevalue(kind)
    before = proxy(server)
    remote = _through(before, server, "timeout=5s")
    remote.put(f"stall/{kind}", b"x")
    before.stall()
    calls: tuple[Callable[[], object], ...] = (
        lambda: remote.get(f"stall/{kind}"),
        lambda: remote.put(f"stall/{kind}-2", b"x"),
        lambda: list(remote.list("stall/")),
    )
    with ThreadPoolExecutor() as threads:  # they wait at the same time
        for done in [threads.submit(call) for call in calls]:
            assert isinstance(done.exception(), RemoteUnreachable)
    before.flow()
    before.cut()
    assert remote.get(f"stall/{kind}") == b"x"
    remote.close()


@pytest.mark.parametrize("kind", ["rclone_s3", "webdav", "sshd"])
def test_a_server_that_stalls_does_not_stop_the_other_threads(
    kind: str, request: pytest.FixtureRequest, proxy: Callable[[Server], Proxy]
) -> None:
    # The proxy is threads of this very process: it can let the bytes flow again only if the call
    # that waits for them lets it.
    server: Server = request.getfixturevalue(kind)
    before = proxy(server)
    remote = _through(before, server)
    remote.put(f"threads/{kind}", b"x")
    calls: tuple[Callable[[], object], ...] = (
        lambda: list(remote.list("threads/")),
        lambda: remote.get(f"threads/{kind}"),
        lambda: remote.put(f"threads/{kind}-2", b"x"),
        lambda: remote.sizes([f"threads/{kind}"]),
        lambda: remote.delete(f"threads/{kind}-2"),
    )
    for call in calls:
        before.stall()
        other = threading.Timer(0.2, before.flow)
        other.start()
        began = time.monotonic()
        call()
        assert time.monotonic() - began < 25  # and not the 30 s of the limit
        other.join()
    remote.close()


@pytest.mark.parametrize("kind", ["rclone_s3", "webdav", "sshd"])
def test_a_slow_line_is_no_stall(
    kind: str, request: pytest.FixtureRequest, proxy: Callable[[Server], Proxy]
) -> None:
    server: Server = request.getfixturevalue(kind)
    before = proxy(server)
    options = "timeout=4s" if kind == "sshd" else "timeout=4s&slowest=100K"
    remote = _through(before, server, options)
    remote.put(f"slow/{kind}/warm", b"x")
    before.throttle(MIB // 2)
    content = os.urandom(3 * MIB)
    assert remote.put(f"slow/{kind}/object", content)
    assert remote.get(f"slow/{kind}/object") == content
    remote.close()


@pytest.mark.parametrize("kind", ["rclone_s3", "webdav", "sshd"])
def test_a_server_that_was_killed_is_found_again(kind: str, tmp_path: Path) -> None:
    kinds: dict[str, type[Server]] = {
        "rclone_s3": RcloneS3, "webdav": RcloneWebdav, "sshd": SshSftp,
    }  # fmt: skip
    with kinds[kind](tmp_path / kind) as server:
        remote = connect(server.url, Secrets(server.secrets, "test"))
        assert remote.put("a/b", b"content")
        server.kill()
        with pytest.raises(RemoteUnreachable):
            remote.get("a/b")
        server.start()
        assert remote.get("a/b") == b"content"
        remote.close()


def test_a_killed_writer_leaves_nothing_for_long(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from fusefs.remotes.directory import DirectoryRemote\n"
        "remote = DirectoryRemote('x', Path(sys.argv[1]))\n"
        "with remote._incoming(b'half') as path:\n"
        "    print(path, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, place],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        left = Path(process.stdout.readline().decode().strip())
        # While he lives, nobody takes it away.
        assert connect(f"file://{place}").put("a/1", b"x")
        assert left.exists()
        process.kill()
        process.wait()
    assert left.exists()
    assert connect(f"file://{place}").put("a/2", b"x")
    assert not left.exists()
