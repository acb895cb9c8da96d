"""What is counted while the rows are read."""

from collections import Counter
from dataclasses import dataclass, field

from fusefs.model import keys
from fusefs.model.totals import COUNTED, Totals
from fusefs.store.counters import Counters


@dataclass
class Census:
    """How many rows each table has, the highest numbers in use, and the sums over rows."""

    rows: Counter[bytes] = field(default_factory=Counter)
    highest: Counters = field(default_factory=lambda: Counters(0, 0, 0))
    totals: Totals = field(default_factory=Totals)

    def add(self, key: bytes, row: bytes) -> None:
        """Count one row."""
        table = key[:1]
        self.rows[table] += 1
        if table in COUNTED:
            self.totals.account(key, None, row)
        self.highest.take(key)
        if table == keys.HISTORY:  # its number was a cookie, and must not be one again
            self.highest.cookie = max(self.highest.cookie, keys.number(key))
