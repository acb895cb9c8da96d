"""Durations and sizes as people write them: ``90s``, ``12h``, ``30d``; ``500M``, ``10G``."""

import re
from fractions import Fraction

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdwy])")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?", re.IGNORECASE)
#: Times are kept in 64 bits of nanoseconds since 1970.
_DURATION_MAX_S = 100 * _SECONDS["y"]
_SIZE_MAX = 1 << 60


def parse_duration(text: str) -> float:
    """Seconds of ``30d``, ``1.5h``, ``0``. Raises ValueError."""
    text = text.strip()
    if text == "0":
        return 0.0
    found = _DURATION.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no duration: write it like 90s, 12h, 7d or 4w")
    seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds > _DURATION_MAX_S:
        raise ValueError(f"{text!r} is too long: give at most 100y, or forever")
    return seconds


def show_duration(seconds: float) -> str:
    """What `parse_duration` reads as the same: in days, hours, minutes or seconds."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s" if seconds else "0"


def parse_size(text: str) -> int:
    """Bytes of ``500M``, ``10GiB``, ``0``; units are powers of 1024. Raises ValueError."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is no size: write it like 500M or 10G")
    power = " KMGTP".index(found[2].upper()) if found[2] else 0
    size = Fraction(found[1]) * 1024**power
    if size > _SIZE_MAX:
        raise ValueError(f"{text!r} is too large")
    return int(size)


def show_size(size: int) -> str:
    """What `parse_size` reads as the same."""
    for unit, power in (("P", 5), ("T", 4), ("G", 3), ("M", 2), ("K", 1)):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power}{unit}"
    return str(size)


def readable_size(count: float) -> str:
    """Bytes for people, rounded: 0 B, 999 B, 1.4 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(count) < 1024 or unit == "PiB":
            break
        count /= 1024
    return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
