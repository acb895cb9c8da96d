"""Where the daemon's log lines go, and how they look.

In the foreground to stderr, with journald's priority prefixes when stderr is the journal; in the
background to STORE/daemon.log, and those of the agent to STORE/agent.log, which are turned over at
a size. A line is::

    2026-11-21T12:08:01.123Z WARNING fusefs.store.recovery: log cut, segment=12 offset=4096

The file appears with the first line, so a daemon that refuses to start leaves nothing behind.
"""

import faulthandler
import logging
import os
import sys
import time
from collections.abc import Mapping
from logging.handlers import RotatingFileHandler
from pathlib import Path

import structlog
from structlog.typing import EventDict, WrappedLogger

FILE_NAME, AGENT_FILE_NAME = "daemon.log", "agent.log"
_FILE_LIMIT_BYTES = 4 << 20
_FILES_KEPT = 3

#: Numbers of syslog(3), which journald reads from a line that begins with <N>.
_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


def log_to_stderr(environ: Mapping[str, str] = os.environ, *, debug: bool = False) -> None:
    """Send every log line to stderr."""
    formatter = _JournalFormatter() if _stderr_is_journal(environ) else _PlainFormatter()
    _install(logging.StreamHandler(sys.stderr), formatter, debug)


def log_to_file(store: Path, name: str = FILE_NAME, *, debug: bool = False) -> None:
    """Send every log line to a log file of `store`."""
    handler = RotatingFileHandler(
        store / name,
        maxBytes=_FILE_LIMIT_BYTES,
        backupCount=_FILES_KEPT,
        encoding="utf-8",
        errors="backslashreplace",
        delay=True,
    )
    _install(handler, _PlainFormatter(), debug)


def catch_stderr(store: Path) -> None:
    """Let what libraries and a dying interpreter say on stderr end up in the log of `store`."""
    descriptor = os.open(store / FILE_NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    faulthandler.enable()


def _install(handler: logging.Handler, formatter: logging.Formatter, debug: bool) -> None:
    handler.setFormatter(formatter)
    # A full disk under daemon.log must not turn each log line into a traceback.
    logging.raiseExceptions = False
    root = logging.getLogger()
    for before in root.handlers:
        if isinstance(before, RotatingFileHandler):  # of another store that this process had open
            before.close()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.add_logger_name, _render],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _render(_logger: WrappedLogger, _method: str, event: EventDict) -> tuple[tuple[str], EventDict]:
    """An event and its fields as the arguments of a call of the standard library's logger."""
    event.pop("logger", None)
    extras = {key: event.pop(key) for key in ("exc_info", "stack_info") if key in event}
    message = str(event.pop("event", ""))
    fields = " ".join(f"{key}={_value(value)}" for key, value in event.items())
    # Without arguments the standard library leaves % signs in names alone.
    return (f"{message}, {fields}" if fields else message,), extras


def _value(value: object) -> str:
    text = os.fsdecode(value) if isinstance(value, bytes) else str(value)
    return repr(text) if not text.isprintable() or " " in text or not text else text


class _PlainFormatter(logging.Formatter):
    """Time, level, module, message."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")


class _JournalFormatter(logging.Formatter):
    """Priority, module, message; every line of a traceback has one. The journal knows the time."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


def _stderr_is_journal(environ: Mapping[str, str]) -> bool:
    """Whether stderr is the very stream that systemd connected, see systemd.exec(5)."""
    stream = environ.get("JOURNAL_STREAM", "")
    if not stream:
        return False
    try:
        stat = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return stream == f"{stat.st_dev}:{stat.st_ino}"
