"""What a copy did."""

import threading
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Outcome:
    """Sums of a copy; of many threads.

    `files`: that were copied, `skipped`: that were the same already. `total_bytes`: of both;
    `present_bytes` of them were where they should be, or known there, and `sent_bytes` were not.
    `resumed`: uploads of which a part was there. `failed`: what could not be copied, and why.
    """

    files: int = 0
    directories: int = 0
    links: int = 0
    skipped: int = 0
    total_bytes: int = 0
    present_bytes: int = 0
    sent_bytes: int = 0
    resumed: int = 0
    seconds: float = 0.0
    failed: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, **numbers: int) -> None:
        """Add to the sums of these names."""
        with self.lock:
            for name, number in numbers.items():
                setattr(self, name, getattr(self, name) + number)

    def record(self) -> dict[str, Any]:
        shown = {name: value for name, value in vars(self).items() if name != "lock"}
        return {**shown, "seconds": round(self.seconds, 3)}
