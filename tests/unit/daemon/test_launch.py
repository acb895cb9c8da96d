"""A daemon in the background: the parent learns that it is ready, or why not."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from fusefs.daemon.launch import start_in_background
from fusefs.errors import DaemonFailed, StoreLocked

Ready = Callable[[], None]


def test_the_parent_returns_when_the_daemon_is_ready_and_the_daemon_goes_on(
    tmp_path: Path,
) -> None:
    os.mkfifo(tmp_path / "go")
    os.mkfifo(tmp_path / "done")

    def body(ready: Ready) -> None:
        ready()
        (tmp_path / "go").read_bytes()
        (tmp_path / "done").write_bytes(f"{os.getpid()} {os.getsid(0) != os.getpid()}".encode())

    pid = start_in_background(body)
    assert pid != os.getpid()
    (tmp_path / "go").write_bytes(b"x")
    assert (tmp_path / "done").read_bytes().decode().split() == [str(pid), "True"]


def test_an_error_before_ready_is_raised_here_as_what_it_is() -> None:
    def body(ready: Ready) -> None:
        raise StoreLocked("/srv/store is in use by process 17")

    with pytest.raises(StoreLocked, match="process 17"):
        start_in_background(body)


def test_an_unexpected_error_is_told_on_one_line() -> None:
    def body(ready: Ready) -> None:
        raise ValueError("two\nlines")

    with pytest.raises(DaemonFailed, match=r"ValueError: two lines"):
        start_in_background(body)


def test_a_daemon_that_is_killed_while_starting_is_a_failure() -> None:
    def body(ready: Ready) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(DaemonFailed, match="--foreground"):
        start_in_background(body)


def test_an_error_after_ready_is_nobody_elses_business() -> None:
    def body(ready: Ready) -> None:
        ready()
        raise StoreLocked("late")

    assert start_in_background(body) > 0


def test_the_daemon_goes_on_when_the_parent_is_killed_meanwhile(tmp_path: Path) -> None:
    for name in ("started", "go", "done"):
        os.mkfifo(tmp_path / name)

    def body(ready: Ready) -> None:
        (tmp_path / "started").write_bytes(b"x")
        (tmp_path / "go").read_bytes()
        ready()
        (tmp_path / "done").write_bytes(b"served")

    parent = os.fork()
    if parent == 0:
        start_in_background(body)
        os._exit(0)
    (tmp_path / "started").read_bytes()
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    (tmp_path / "go").write_bytes(b"x")
    assert (tmp_path / "done").read_bytes() == b"served"


def test_nothing_of_the_caller_is_held_open(tmp_path: Path) -> None:
    reader, writer = os.pipe()

    def body(ready: Ready) -> None:
        ready()
        os.mkfifo(tmp_path / "wait")
        signal.alarm(20)
        (tmp_path / "wait").read_bytes()

    pid = start_in_background(body)
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert pipe.read() == b""  # end of file: the daemon has no copy of the other end
    os.kill(pid, signal.SIGKILL)
