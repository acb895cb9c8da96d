"""The process that serves a filesystem: which it is, and what CPU time it has used."""

import os
from dataclasses import dataclass
from pathlib import Path

from fusefs.daemon.client import Client
from fusefs.daemon.mounttable import Mount
from fusefs.errors import FusefsError

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
#: Fields of /proc/PID/stat after the name in parentheses, see proc(5).
_UTIME, _STIME = 14 - 3, 15 - 3


@dataclass(frozen=True)
class Daemon:
    """A running process; `version` is that of a fusefs, where it could be asked."""

    pid: int
    version: str | None = None

    def cpu_s(self) -> float:
        """Seconds of all its threads in user and kernel mode, in steps of 10 ms.

        Raises ProcessLookupError when it is gone.
        """
        try:
            text = Path(f"/proc/{self.pid}/stat").read_bytes()
        except OSError as error:
            raise ProcessLookupError(f"process {self.pid} is gone, or may not be seen") from error
        fields = text.rpartition(b")")[2].split()
        return (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS_PER_S


def of_mount(mount: Mount) -> tuple[Daemon | None, str | None]:
    """The daemon of a mounted fusefs; or why it cannot be known."""
    try:
        client = Client.connect(mount.store)
        if client is None:
            return None, f"the daemon of {mount.path} does not answer"
        with client:
            status = client.status()
    except FusefsError as error:
        return None, f"no CPU seconds without --pid: {error}"
    return Daemon(status["pid"], status["version"]), None
