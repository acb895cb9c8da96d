"""Whether anything was done behind a place of the log: asked once, when a store is opened."""

from pathlib import Path

from fusefs.store import format
from fusefs.store.recovery import list_segments
from fusefs.store.store import is_act


def has_acts_behind(store: Path, segment: int, newest: int) -> bool:
    """Whether users did anything in the log behind `segment`, up to `newest`; also where a part of
    that is missing. Reads as little as it can; waits for the disk."""
    numbers = [one for one in list_segments(store / "segments") if segment < one <= newest]
    if numbers != list(range(segment + 1, newest + 1)):
        return True
    return any(_has_acts(store / "segments" / format.segment_name(one)) for one in numbers)


def _has_acts(path: Path) -> bool:
    try:
        data = memoryview(path.read_bytes())
    except OSError:
        return True
    for record in format.scan(data, format.HEADER_SIZE, verify_blocks=False):
        if isinstance(record, format.Torn):
            return True
        if record.kind == format.BATCH and is_act(dict(format.unpack_batch(record.body))):
            return True
    return False
