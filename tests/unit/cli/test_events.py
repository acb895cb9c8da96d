"""`fusefs events` where there is no daemon, and Ctrl-C."""

import signal
from pathlib import Path

import pytest

from fusefs.base.events import Kind
from fusefs.cli.app import run
from fusefs.cli.interrupt import at_interrupt
from fusefs.config.options import StoreOptions
from fusefs.errors import DaemonFailed, NotMounted, UsageError
from fusefs.store.store import Store
from tests.unit.clocks import ManualClock


@pytest.fixture
def store(tmp_path: Path) -> str:
    Store.init(tmp_path / "store", StoreOptions(), clock=ManualClock())
    return str(tmp_path / "store")


def test_a_store_that_is_not_mounted_has_no_events(
    store: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["events", store]) == 0
    assert capfd.readouterr() == ("", "")


def test_a_store_that_is_not_mounted_cannot_be_followed(
    store: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["events", "--follow", store]) == NotMounted.exit_code == 24
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "is not mounted" in err


@pytest.mark.parametrize("follow", [[], ["--follow"]])
def test_an_unknown_kind_is_refused_and_the_known_ones_are_named(
    store: str, capfd: pytest.CaptureFixture[str], follow: list[str]
) -> None:
    asked = ["events", *follow, "--kind", "mounted", "--kind", "colected", store]
    assert run(asked) == UsageError.exit_code == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "'colected'" in err
    assert [kind for kind in Kind if f"'{kind}'" not in err] == []


def test_the_page_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["events", "--help"]) == 0
    assert "  fusefs events --follow" in capsys.readouterr().out


def test_an_interrupt_is_raised_when_the_block_has_ended() -> None:
    seen: list[str] = []
    before = signal.getsignal(signal.SIGINT)

    @at_interrupt(lambda: seen.append("stop"))
    def block() -> None:
        signal.raise_signal(signal.SIGINT)
        seen.append("end")
        raise DaemonFailed("because of the stop")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert seen == ["stop", "end"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_is_raised_at_once() -> None:
    seen: list[str] = []

    @at_interrupt(lambda: seen.append("stop"))
    def block() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        seen.append("end")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert seen == ["stop"]


def test_other_errors_pass() -> None:
    with pytest.raises(DaemonFailed), at_interrupt(lambda: None):
        raise DaemonFailed("by itself")
