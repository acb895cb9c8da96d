"""The limits of transfers: mount options that begin with ``transfer_``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fusefs.base.units import parse_duration, parse_size
from fusefs.errors import UsageError

PREFIX = "transfer_"


@dataclass(frozen=True)
class TransferOptions:
    """What transfers may take, and for how long.

    `payload_bytes`, `files`: of one transfer. `at_once`: transfers under way; `waiting`: more of
    them that wait. `moves_per_endpoint`: files under way at one end. `delete_after_s`: how long the
    status of one that has ended can be asked for. `stall_s`: without a byte for so long a move is
    given up and begun again. `retries`: of a file, beside those while bytes move.
    """

    payload_bytes: int = 1 << 40
    files: int = 20_000
    at_once: int = 8
    waiting: int = 1000
    moves_per_endpoint: int = 4
    delete_after_s: float = 7 * 86400.0
    stall_s: float = 60.0
    retries: int = 5


def parse(option: str, name: str, value: str) -> dict[str, Any]:
    """The field that a mount option sets, `name` being it without the prefix.

    Raises UsageError that names `option`.
    """
    try:
        field, read, example = _READERS[name]
    except KeyError:
        known = " ".join(f"{PREFIX}{known}" for known in _READERS)
        raise UsageError(
            f"mount option {option!r} is not known; of transfers there are {known}"
        ) from None
    try:
        return {field: read(value)}
    except ValueError as error:
        raise UsageError(
            f"mount option {option!r}: {error}; write it like {PREFIX}{name}={example}"
        ) from error


def _number(lowest: int, highest: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not (value.isascii() and value.isdigit() and lowest <= int(value) <= highest):
            raise ValueError(f"give a number from {lowest} to {highest}")
        return int(value)

    return read


def _size(value: str) -> int:
    if not (size := parse_size(value)):
        raise ValueError("nothing could be moved")
    return size


def _duration(lowest_s: float) -> Callable[[str], float]:
    def read(value: str) -> float:
        seconds = parse_duration(value)
        if seconds < lowest_s:
            raise ValueError(f"give at least {lowest_s:g}s")
        return seconds

    return read


#: By the name of the option: which field it sets, how its value is read, and an example.
_READERS: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "payload": ("payload_bytes", _size, "100G"),
    "files": ("files", _number(1, 100_000), "20000"),
    "at_once": ("at_once", _number(1, 64), "8"),
    "waiting": ("waiting", _number(1, 100_000), "1000"),
    "moves": ("moves_per_endpoint", _number(1, 32), "4"),
    "delete_after": ("delete_after_s", _duration(1), "7d"),
    "stall": ("stall_s", _duration(1), "60s"),
    "retries": ("retries", _number(0, 100), "5"),
}
