"""Does the index know where it stands, and which numbers are taken?"""

from collections.abc import Iterator

import msgspec

from fusefs.fsck.problem import Problem
from fusefs.fsck.tally import Census
from fusefs.fsck.view import View
from fusefs.model import keys


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
        ("inode", counters.ino, census.ino),
        ("block", counters.block, census.block),
        ("cookie", counters.cookie, census.cookie),
    ):
        if counted < highest:
            message = f"{what} {counted + 1} comes next, but there are some up to {highest}"
            yield Problem("counters", "index", message)
    inodes = census.rows[keys.INODE]
    if counters.inodes != inodes:
        message = f"counts {counters.inodes} inodes, there are {inodes}"
        yield Problem("counters", "index", message)
