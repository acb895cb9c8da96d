"""What systemd hears, on a socket like its own."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fusefs.daemon.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        path = tmp_path / "notify"
        listener.bind(str(path))
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield listener


def test_ready_with_a_status_in_any_alphabet(manager: socket.socket) -> None:
    with closing(Notifier()) as notifier:
        notifier.ready("/srv/Фото on /mnt/\udcff\nx")
    said = manager.recv(4096)
    assert said.split(b"\n") == [
        b"READY=1",
        "STATUS=/srv/Фото on /mnt/".encode() + b"\xff x",
        b"MAINPID=%d" % os.getpid(),
    ]


def test_the_rest_of_a_life(manager: socket.socket) -> None:
    with closing(Notifier()) as notifier:
        notifier.status("opening")
        notifier.alive()
        notifier.extend_timeout(1.5)
        notifier.stopping("draining")
    assert [manager.recv(4096) for _ in range(4)] == [
        b"STATUS=opening",
        b"WATCHDOG=1",
        b"EXTEND_TIMEOUT_USEC=1500000",
        b"STOPPING=1\nSTATUS=draining",
    ]


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready("x")


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_signs_of_life_come_twice_as_often_as_needed(
    environ: dict[str, str], interval: float | None
) -> None:
    assert Notifier(environ).watchdog_interval_s == interval
