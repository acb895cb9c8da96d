"""Does the index know where it stands, and which numbers are taken?"""

from collections.abc import Iterator

import msgspec

from fusefs.fsck.census import Census
from fusefs.fsck.problem import Problem
from fusefs.fsck.view import View


def books(rows: View, census: Census) -> Iterator[Problem]:
    """What is wrong with position and counters; `census` has counted the rows."""
    if rows.checkpoint is None:
        yield Problem("row", "index", "row m position does not decode")
    elif rows.unreplayed:
        yield Problem("log", "log", rows.unreplayed)
    try:
        counters = rows.counters()
    except msgspec.MsgspecError as error:
        yield Problem("row", "index", f"row m counters does not decode: {error}")
        return
    for what, counted, highest in (
        ("inode", counters.ino, census.highest.ino),
        ("block", counters.block, census.highest.block),
        ("cookie", counters.cookie, census.highest.cookie),
    ):
        if counted < highest:
            message = f"{what} {counted + 1} comes next, but there are some up to {highest}"
            yield Problem("counters", "index", message)


def totals_of(rows: View, census: Census) -> Iterator[Problem]:
    """Sums that are not those of the rows, which tells something only where the rows are sound."""
    try:
        totals = msgspec.structs.asdict(rows.totals())
    except msgspec.MsgspecError as error:
        yield Problem("row", "index", f"row m totals does not decode: {error}")
        return
    for what, counted in totals.items():
        found = getattr(census.totals, what)
        if counted != found:
            yield Problem("totals", "index", f"counts {counted} {what}, there are {found}")
