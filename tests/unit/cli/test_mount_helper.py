"""mount.fusefs speaks the language of mount(8)."""

from pathlib import Path

import pytest

from fusefs.cli import mount, mount_helper
from fusefs.cli.mount_helper import parse, run
from fusefs.errors import FusefsError, FuseUnavailable, MountpointBusy, NotAStore, UsageError


def test_a_command_line_as_mount_writes_it() -> None:
    request = parse(["/srv/s", "/mnt", "-o", "rw,noatime", "-t", "fusefs", "-N", "1"])
    assert (request.store, request.mountpoint, request.options) == (
        "/srv/s",
        "/mnt",
        ["rw,noatime"],
    )
    assert not request.is_fake


def test_letters_may_stand_together() -> None:
    request = parse(["-sfnv", "/srv/s", "/mnt", "-oro"])
    assert (request.is_fake, request.is_verbose, request.options) == (True, True, ["ro"])


@pytest.mark.parametrize("arguments", [[], ["/srv/s"], ["a", "b", "c"], ["a", "b", "-x"]])
def test_nonsense(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(arguments)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 1),
        (FuseUnavailable("x"), 1),
        (NotAStore("x"), 32),
        (MountpointBusy("x"), 32),
        (ZeroDivisionError("x"), 2),
    ],
)
def test_exit_codes_are_those_of_mount(
    error: FusefsError,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(mount, "mount_store", fail)
    assert run(["/srv/s", "/mnt"]) == code
    assert capsys.readouterr().err.startswith("mount.fusefs: ")


def test_success_may_be_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mount, "mount_store", lambda *_: 1)
    assert run(["/srv/s", "/mnt", "-v"]) == 0
    assert capsys.readouterr().out == "/srv/s mounted on /mnt\n"


def test_fake_checks_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("mounted")

    monkeypatch.setattr(mount, "mount_store", fail)
    assert run([str(tmp_path), "/mnt", "-f"]) in (mount_helper.MOUNT_FAILED, 1)
    assert "not a fusefs store" in capsys.readouterr().err
