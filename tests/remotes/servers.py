"""Real servers to keep objects on: SeaweedFS, rclone's S3 and WebDAV, OpenSSH's SFTP.

All listen on loopback only, keep their data in a given directory, and die with the test: by their
own process id, and with the process that runs the tests at the latest. `kill` is SIGKILL, and
`start` brings the same server back, with the same port and data.
"""

import contextlib
import ctypes
import http.client
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

READY_TIMEOUT_S = 180
ACCESS_KEY, SECRET_KEY = "TestAccessKey", "TestSecretKey-7hq2"
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
_given: set[int] = set()


def free_port(also: int = 0) -> int:
    """A port of loopback that nobody listens on; if `also`, the one so much higher is free too.

    None of those that the kernel gives to clients, which would take it before a server does; and
    none that was given before, to a server that may not listen yet.
    """
    lowest_of_clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(10_000, lowest_of_clients - also)
        if _given & {port, port + also}:
            continue
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + also if also else 0))
            except OSError:
                continue
        _given.update({port, port + also})
        return port


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class Server:
    """A server process.

    `url`: of a remote in it. `secrets`: what they are, as `remotes.secrets` would read them.
    `port`: for a proxy before it; `at(port)` is the URL then. `data`: directory of its files.
    """

    directory: Path
    port: int = field(default_factory=free_port)
    secrets: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.data = self.directory / "data"
        self.data.mkdir(exist_ok=True)
        self.prepare()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return self.at(self.port)

    def at(self, port: int) -> str:
        """The URL of the same remote by another port, such as a proxy's."""
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def prepare(self) -> None:
        """Write what it needs before its first start."""

    def is_ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def start(self) -> None:
        """Start it, if it does not run, and return when it serves."""
        if self.process and self.process.poll() is None:
            return
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
            )
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self.is_ready():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if not self.process:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text("utf-8", "replace")[-800:]

    def secrets_file(self) -> Path:
        """A file with the secrets, for `file:` sources."""
        path = self.directory / "secrets"
        path.write_text("".join(f"{key} = '{value}'\n" for key, value in self.secrets.items()))
        path.chmod(0o600)
        return path


def _program(name: str) -> str:
    if not (found := shutil.which(name)):
        pytest.skip(f"{name} is not installed (the extra 'test' has it)")
    return found


@dataclass
class SeaweedS3(Server):
    """SeaweedFS with its S3 gateway, and the buckets `bucket` and `other`.

    The process is a whole cluster of master, volume server, filer and gateway.
    """

    secrets: Mapping[str, str] = field(
        default_factory=lambda: {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}
    )
    bucket: str = "bucket"

    def at(self, port: int) -> str:
        return f"s3://{self.bucket}/prefix?endpoint=http://127.0.0.1:{port}"

    def prepare(self) -> None:
        # Each port P of theirs takes P+10000 as well.
        self.port, self.master, self.volume, self.filer = (free_port(10000) for _ in range(4))
        (self.directory / "s3.json").write_text(
            '{"identities": ['
            + _identity("all", ACCESS_KEY, SECRET_KEY, "Admin", "Read", "Write", "List", "Tagging")
            + ", "
            + _identity("reader", "Reader", SECRET_KEY, "Read", "List")
            + "]}"
        )

    def command(self) -> list[str]:
        return [
            _program("weed"), "server", f"-dir={self.data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            f"-master.port={self.master}", "-master.volumeSizeLimitMB=512",
            f"-volume.port={self.volume}", "-volume.max=50", "-volume.preStopSeconds=0",
            "-filer", f"-filer.port={self.filer}", "-s3", f"-s3.port={self.port}",
            "-s3.config=s3.json", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-s3.allowDeleteBucketNotEmpty=true", "-master.telemetry=false",
        ]  # fmt: skip

    def is_ready(self) -> bool:
        """When it takes a write: the gateway answers long before it has a volume to write to."""
        return all(self._makes(bucket) for bucket in (self.bucket, "other"))

    def stop(self) -> None:
        # An orderly end takes it 15 s, and leaves nothing that a test would miss.
        self.kill()

    def _makes(self, bucket: str) -> bool:
        # The filer has no access control, and buckets are directories of it.
        filer = f"http://127.0.0.1:{self.filer}/buckets/{bucket}/"
        return (
            _answers("POST", filer, 201, 409)
            and _answers("PUT", f"{filer}.ready", 201)
            and _answers("DELETE", f"{filer}.ready", 204)
            and _answers("GET", f"http://127.0.0.1:{self.port}/", 403)
        )


def _answers(method: str, url: str, *codes: int) -> bool:
    """Whether a server answers a request by one of these codes."""
    data = b"x" if method == "PUT" else None
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, data, method=method), timeout=10
        ) as answer:
            return answer.status in codes
    except urllib.error.HTTPError as error:
        with error:
            return error.code in codes
    except (OSError, http.client.HTTPException):
        return False


def _identity(name: str, key: str, secret: str, *actions: str) -> str:
    allowed = ", ".join(f'"{action}"' for action in actions)
    credentials = f'[{{"accessKey": "{key}", "secretKey": "{secret}"}}]'
    return f'{{"name": "{name}", "credentials": {credentials}, "actions": [{allowed}]}}'


@dataclass
class RcloneS3(Server):
    """rclone's S3 gateway to a directory, with the bucket `bucket`. It ignores If-None-Match."""

    secrets: Mapping[str, str] = field(
        default_factory=lambda: {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}
    )

    def at(self, port: int) -> str:
        return f"s3://bucket/prefix?endpoint=http://127.0.0.1:{port}&conditional=no"

    def prepare(self) -> None:
        (self.data / "bucket").mkdir(exist_ok=True)

    def command(self) -> list[str]:
        return [
            _program("rclone"), "serve", "s3", "--config", "/dev/null",
            "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--addr", f"127.0.0.1:{self.port}",
            "--dir-cache-time", "1s", str(self.data),
        ]  # fmt: skip


@dataclass
class RcloneWebdav(Server):
    """rclone's WebDAV server over a directory."""

    secrets: Mapping[str, str] = field(
        default_factory=lambda: {"username": "user", "password": SECRET_KEY}
    )

    def at(self, port: int) -> str:
        return f"webdav+http://127.0.0.1:{port}/dir"

    def prepare(self) -> None:
        (self.data / "dir").mkdir(exist_ok=True)

    def command(self) -> list[str]:
        return [
            _program("rclone"), "serve", "webdav", "--config", "/dev/null",
            "--user", "user", "--pass", SECRET_KEY, "--addr", f"127.0.0.1:{self.port}",
            "--dir-cache-time", "1s", str(self.data),
        ]  # fmt: skip


@dataclass
class SshSftp(Server):
    """OpenSSH's SFTP server, for the user that runs the tests, by key."""

    def at(self, port: int) -> str:
        return (
            f"sftp://{_user()}@127.0.0.1:{port}{self.data}"
            f"?private_key={self.directory}/user_key&host_key={self.fingerprint}"
        )

    def prepare(self) -> None:
        if not Path("/usr/sbin/sshd").exists() or not shutil.which("ssh-keygen"):
            pytest.skip("OpenSSH is not installed (Debian: openssh-server)")
        for name in ("host_key", "user_key"):
            path = self.directory / name
            if not path.exists():
                command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
                subprocess.run(command, check=True)
        public = (self.directory / "user_key.pub").read_text()
        (self.directory / "authorized_keys").write_text(public)
        command = ["ssh-keygen", "-l", "-f", str(self.directory / "host_key.pub")]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        #: Of the host key, percent-encoded for a URL.
        self.fingerprint = told.split()[1].replace("+", "%2B").replace("/", "%2F")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)

    def command(self) -> list[str]:
        return [
            "/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-h", str(self.directory / "host_key"),
            "-o", f"Port={self.port}", "-o", "ListenAddress=127.0.0.1", "-o", "PidFile=none",
            "-o", "StrictModes=no", "-o", f"AuthorizedKeysFile={self.directory}/authorized_keys",
            "-o", "PasswordAuthentication=no", "-o", "MaxStartups=100",
            "-o", "Subsystem=sftp internal-sftp",
        ]  # fmt: skip

    def _end(self, number: int) -> None:
        # Its connections are processes that would outlive it.
        children = _descendants(self.process.pid) if self.process else []
        super()._end(number)
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *_descendants(child)]
    return found
