"""The first request of a session: our flags in its reply, and everything else unchanged."""

import os
import socket
import struct
from collections.abc import Iterator

import pytest

from fusefs.fuse import relay
from fusefs.fuse.relay import Relay, extended

INIT, GETATTR = 26, 3
OFFERED = 0x73FFFFFB  # by Linux 6.18
ASKED = 0x4050B029  # by libfuse 3.14


def request(opcode: int = INIT, major: int = 7, flags: int = OFFERED) -> bytes:
    body = struct.pack("=4I", major, 45, 131072, flags) + bytes(48)
    return struct.pack("=IIQQIIII", 40 + len(body), opcode, 2, 0, 0, 0, 0, 0) + body


def reply(error: int = 0, unique: int = 2, major: int = 7, flags: int = ASKED) -> bytes:
    body = struct.pack("=4I", major, 31, 131072, flags) + bytes(range(48))
    return struct.pack("=IiQ", 16 + len(body), error, unique) + body


def test_what_the_kernel_offers_is_taken() -> None:
    flags = (ASKED | relay.ADDED) & ~relay.AUTO_INVAL_DATA
    assert extended(request(), reply()) == reply(flags=flags)


@pytest.mark.parametrize(
    ("offered", "added"),
    [
        (ASKED, 0),
        (ASKED | relay.HANDLE_KILLPRIV_V2, relay.HANDLE_KILLPRIV_V2),
        (ASKED | relay.DONT_MASK, relay.DONT_MASK),
    ],
)
def test_nothing_else_is_taken(offered: int, added: int) -> None:
    assert extended(request(flags=offered), reply()) == reply(flags=ASKED | added)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (request(opcode=GETATTR), reply()),
        (request(major=8), reply()),
        (request(major=8), struct.pack("=IiQII", 24, 0, 2, 7, 31)),
        (request(), reply(error=-71)),
        (request(), reply(unique=3)),
        (request(), reply(major=8)),
        (request()[:50], reply()),
        (request(), reply()[:31]),
        (b"", b""),
    ],
)
def test_what_is_not_known_passes_unchanged(asked: bytes, answer: bytes) -> None:
    assert extended(asked, answer) == answer


class Session:
    """A socket as the device, whose other end is the kernel."""

    def __init__(self) -> None:
        self.kernel, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.kernel.settimeout(60)
        self.descriptor = device.detach()
        self.identity = self.is_what()
        self.relay = Relay(self.descriptor)

    def is_what(self) -> tuple[int, int]:
        found = os.fstat(self.descriptor)
        return found.st_dev, found.st_ino

    def close(self) -> None:
        self.kernel.close()
        os.close(self.descriptor)


@pytest.fixture
def session() -> Iterator[Session]:
    before = set(os.listdir("/proc/self/fd"))
    session = Session()
    yield session
    session.close()
    assert set(os.listdir("/proc/self/fd")) == before


def test_libfuse_reads_and_answers_beside_the_device(session: Session) -> None:
    session.kernel.send(request())
    assert session.relay.begin()
    assert session.is_what() != session.identity
    assert os.read(session.descriptor, 1 << 20) == request()
    os.write(session.descriptor, reply())
    session.relay.finish()
    assert session.kernel.recv(1 << 20) == extended(request(), reply())
    assert session.is_what() == session.identity
    assert not os.get_inheritable(session.descriptor)


def test_a_request_that_is_not_there_is_left_to_libfuse(session: Session) -> None:
    assert not session.relay.begin()
    assert session.is_what() == session.identity


def test_a_device_that_cannot_be_read_is_left_to_libfuse(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(19, "unmounted")

    session.kernel.send(request())
    monkeypatch.setattr(os, "read", refuse)
    assert not session.relay.begin()
    assert session.is_what() == session.identity


def test_a_reply_that_is_late_goes_to_the_device(session: Session) -> None:
    session.kernel.send(request(opcode=GETATTR))
    assert session.relay.begin()
    assert os.read(session.descriptor, 1 << 20) == request(opcode=GETATTR)
    session.relay.finish()
    os.write(session.descriptor, reply())
    assert session.kernel.recv(1 << 20) == reply()


def test_a_mount_that_went_away_meanwhile_is_no_error(session: Session) -> None:
    session.kernel.send(request())
    assert session.relay.begin()
    os.write(session.descriptor, reply())
    session.kernel.close()
    session.relay.finish()
    assert session.is_what() == session.identity
