"""What a log line looks like in each of its places."""

import io
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from fusefs.daemon import logs


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising
    structlog.reset_defaults()


def test_a_line_in_the_file_has_time_level_room_and_fields(tmp_path: Path) -> None:
    logs.log_to_file(tmp_path)
    structlog.get_logger("fusefs.x").warning("log cut", segment=12, path=b"a\xff b", rate="100%s")
    line = (tmp_path / "daemon.log").read_text()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING fusefs\.x: "
        r"log cut, segment=12 path='a\\udcff b' rate=100%s\n",
        line,
    )


def test_tracebacks_and_plain_loggers_work_too(tmp_path: Path) -> None:
    logs.log_to_file(tmp_path)
    try:
        raise ValueError("x")
    except ValueError:
        structlog.get_logger("a").exception("failed", what=1)
    logging.getLogger("b").info("plain %d", 7)
    text = (tmp_path / "daemon.log").read_text()
    assert "ERROR a: failed, what=1\nTraceback" in text
    assert "INFO b: plain 7\n" in text


def test_no_file_before_the_first_line(tmp_path: Path) -> None:
    logs.log_to_file(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_refuses_the_file_hurts_nobody(tmp_path: Path) -> None:
    logs.log_to_file(tmp_path / "missing")
    structlog.get_logger("a").info("x")


def test_the_journal_gets_priorities_on_each_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "journal").open("w+") as journal:
        monkeypatch.setattr(sys, "stderr", journal)
        stat = os.fstat(journal.fileno())
        logs.log_to_stderr({"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"})
        structlog.get_logger("a").error("one\ntwo")
        journal.flush()
        journal.seek(0)
        assert journal.read() == "<3>a: one\n<3>two\n"


def test_a_stderr_that_is_not_the_journal_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    logs.log_to_stderr({"JOURNAL_STREAM": "1:2"})
    structlog.get_logger("a").info("x")
    assert sys.stderr.getvalue().endswith(" INFO a: x\n")  # type: ignore[attr-defined]


def test_the_log_of_a_store_is_closed_when_another_takes_its_place(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    logs.log_to_file(tmp_path / "one")
    logging.getLogger("fusefs.x").warning("a line")
    (first,) = logging.getLogger().handlers
    assert isinstance(first, logging.FileHandler)
    assert first.stream is not None
    logs.log_to_file(tmp_path / "two")
    assert first.stream is None
