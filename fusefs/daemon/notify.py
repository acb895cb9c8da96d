"""What systemd is told, after sd_notify(3). Everything is a no-op outside of a Type=notify unit."""

import os
from collections.abc import Mapping

import sdnotify


class Notifier:
    """The connection to the service manager of this process."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._connection = sdnotify.SystemdNotifier() if environ.get("NOTIFY_SOCKET") else None
        self.watchdog_interval_s = self._half_of_watchdog(environ)

    @staticmethod
    def _half_of_watchdog(environ: Mapping[str, str]) -> float | None:
        """Half of what the manager waits for a sign of life, as sd_watchdog_enabled(3) advises."""
        meant_for = environ.get("WATCHDOG_PID", "")
        limit = environ.get("WATCHDOG_USEC", "")
        if (meant_for and meant_for != str(os.getpid())) or not limit.isdigit() or not int(limit):
            return None
        return int(limit) / 2 / 1e6

    def ready(self, status: str) -> None:
        """The mount answers."""
        self._send(f"READY=1\n{_status(status)}\nMAINPID={os.getpid()}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(_status(text))

    def stopping(self, status: str) -> None:
        """From here on we drain."""
        self._send(f"STOPPING=1\n{_status(status)}")

    def alive(self) -> None:
        """The watchdog's sign of life."""
        self._send("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> None:
        """Starting or stopping goes on: ask for that much more time from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def close(self) -> None:
        """The end; nothing may be said afterwards."""
        if self._connection is not None and self._connection.socket is not None:
            self._connection.socket.close()

    def _send(self, state: str) -> None:
        if self._connection is not None:
            # sdnotify encodes as Latin-1 and drops what does not fit: hand it the bytes one by one.
            self._connection.notify(os.fsencode(state).decode("latin-1"))


def _status(text: str) -> str:
    return "STATUS=" + text.replace("\n", " ")
