"""Every kind of remote is put to the contract, those over a network against real servers."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fusefs.base.clock import SystemClock
from fusefs.errors import RemoteError
from fusefs.remotes import contract
from fusefs.remotes.address import connect
from fusefs.remotes.api import Buffer, Remote
from fusefs.remotes.around import Around
from fusefs.remotes.fault import Faulty
from fusefs.remotes.memory import MemoryRemote
from fusefs.remotes.retry import Policy, Retrying
from fusefs.remotes.room import Spared
from fusefs.remotes.secrets import Secrets
from fusefs.remotes.throttle import Throttled, Timetable, buckets
from fusefs.remotes.verify import Look, Verified
from tests.remotes.servers import Server, SshSftp

_SERVERS = {"seaweed": True, "rclone_s3": False, "webdav": False, "sshd": True}
_KINDS = ["memory", "directory", "wrapped", "sftp-without-links", *_SERVERS]


class PlainSftp(SshSftp):
    """A server without the extensions of OpenSSH."""

    def command(self) -> list[str]:
        denied = "hardlink,fsync,statvfs,posix-rename,limits"
        *command, _, subsystem = super().command()
        return [*command, "-o", f"{subsystem} -P {denied}"]


@pytest.fixture(scope="module", params=_KINDS)
def remote(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Remote]:
    kind = request.param
    with ExitStack() as stack:
        if kind in _SERVERS:
            server: Server = request.getfixturevalue(kind)
            remote = connect(server.url, Secrets(server.secrets, "test"))
            if kind == "rclone_s3":
                # Where two of its threads make one directory, it answers 500: try again.
                remote = Retrying(remote, SystemClock(), policy=Policy(first_delay_s=0.05))
            assert remote.capabilities.is_conditional == _SERVERS[kind]
        elif kind == "sftp-without-links":
            server = stack.enter_context(PlainSftp(tmp_path_factory.mktemp("plain")))
            remote = connect(server.url)
            assert not remote.capabilities.is_conditional
        elif kind == "wrapped":
            remote = _wrapped(MemoryRemote("memory://wrapped"))
        else:
            directory = tmp_path_factory.mktemp("directory")
            remote = connect("memory://contract" if kind == "memory" else f"file://{directory}")
        stack.callback(remote.close)
        yield remote


def _wrapped(remote: Remote) -> Remote:
    """All wrappers, one around the other."""
    clock = SystemClock()
    throttled = Throttled(Faulty(remote, ()), *buckets(Timetable.parse("100G"), clock))
    return Around(Verified(Retrying(Spared(throttled, clock), clock), Look.BYTES))


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_contract(remote: Remote, check: contract.Check) -> None:
    trial = contract.Trial(remote, f"contract/{check.__name__}/")
    check(trial)
    contract.clean(trial)
    assert list(remote.list(trial.scratch)) == []


def test_a_directory_is_left_as_it_was(tmp_path: Path) -> None:
    remote = connect(f"file://{tmp_path}")
    trial = contract.Trial(remote, "contract/left/")
    assert [o.error for o in contract.run(trial, SystemClock()) if o.error] == []
    contract.clean(trial)
    remote.close()
    assert list(tmp_path.iterdir()) == []


class Overwrites(Around):
    """A remote that breaks one promise."""

    def put(self, name: str, content: Buffer) -> bool:
        self.remote.delete(name)
        return self.remote.put(name, content)


class Short(Around):
    def get(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        return self.remote.get(name, start, size)[:50_000]


class Leaky(Around):
    def delete(self, name: str) -> bool:
        return {}[name]  # an error of another kind


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        (Overwrites, {"put twice", "put race", "empty"}),
        (Short, {"ranges", "whole", "large"}),
        (Leaky, {"delete", "unknown", "threads", "no names"}),
    ],
)
def test_a_broken_promise_is_found(kind: type[Around], broken: set[str]) -> None:
    trial = contract.Trial(kind(MemoryRemote(f"memory://{kind.__name__}")), "broken/")
    outcomes = list(contract.run(trial, SystemClock()))
    found = {outcome.check for outcome in outcomes if outcome.error}
    assert broken <= found
    assert len(outcomes) == len(contract.CHECKS)
    assert all(isinstance(o.error, RemoteError) for o in outcomes if o.error)
