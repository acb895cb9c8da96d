"""What the kernel tells of other processes, in /proc (see proc(5))."""

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


def killed_by(pid: int) -> int:
    """The number of the signal by which a process or thread is just ending; 0 if it lives on, ends
    by itself, is gone, or may not be looked at."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            fields = file.read(1024).rpartition(b")")[2].split()
    except OSError:
        return 0
    return int(fields[_EXIT_CODE]) & _SIGNAL if len(fields) > _EXIT_CODE else 0
