"""What the kernel tells of other processes, in /proc (see proc(5))."""

import os
import signal
from contextlib import suppress

#: Which field of /proc/PID/stat, after the name in parentheses, is the exit code.
_EXIT_CODE = 52 - 3
_SIGNAL = 0x7F


def name_of(pid: int) -> bytes:
    """The name of a process; empty if it is gone."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read().rstrip(b"\n")
    except OSError:
        return b""


def leader_of(thread: int) -> int:
    """The process of a thread: its own number where it is one, or is gone."""
    try:
        with open(f"/proc/{thread}/status", "rb") as file:
            for line in file:
                if line.startswith(b"Tgid:"):
                    return int(line.split()[1])
    except OSError:
        pass
    return thread


def signal_name(number: int) -> str:
    """SIGTERM, or a number for the many that have no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Deaths:
    """Looks whether processes are just ending; keeps the file of the last one open, which is asked
    for again and again while it closes many files.

    That file is statm: a process that ends gives up its memory before it closes its files, and to
    learn that it has some costs a fifth of what the whole of stat does.
    """

    def __init__(self) -> None:
        self._pid = 0
        self._file = -1

    def killed_by(self, pid: int) -> int:
        """The number of the signal by which a process or thread is just ending; 0 if it lives on,
        ends by itself, is gone, or may not be looked at."""
        if pid != self._pid:
            self._open(pid)
        try:
            has_memory = os.pread(self._file, 2, 0) != b"0 "
        except OSError:  # gone, or never there; the next one may have the same number
            self._open(0)
            return 0
        return 0 if has_memory else _ended_by(pid)

    def _open(self, pid: int) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._pid, self._file = pid, -1
        if pid:
            with suppress(OSError):
                self._file = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)


def _ended_by(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return int(fields[_EXIT_CODE]) & _SIGNAL if len(fields) > _EXIT_CODE else 0
