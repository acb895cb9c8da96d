"""Beginning to write early is a hint: it changes nothing, and what fails is not told."""

from pathlib import Path

import pytest

from fusefs.base import writeback


def test_a_file_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb", buffering=0) as file:
        file.write(bytes(10_000))
        writeback.begin(file.fileno(), 0, 10_000)
    assert path.read_bytes() == bytes(10_000)


def test_a_closed_file_is_no_error() -> None:
    writeback.begin(-1, 0, 10)


def test_a_libc_without_the_call_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert writeback._libc_call() is None
    monkeypatch.setattr(writeback, "_sync_file_range", None)
    writeback.begin(0, 0, 10)
