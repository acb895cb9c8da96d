"""What the figures were measured on; without that they mean nothing."""

import os
import platform
import re
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """CPU model, cores, memory in bytes, kernel, and the load before anything was measured."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": _meminfo("MemTotal"),
        "kernel": platform.release(),
        "load": round(os.getloadavg()[0], 2),
    }


def free_memory_bytes() -> int:
    """What programs can still take."""
    return _meminfo("MemAvailable")


def _cpu_model() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _meminfo(name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
