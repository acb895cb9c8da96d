"""What can be asked of the scrub of an open filesystem, and of what is known of bad blocks."""

import os
from collections.abc import Mapping
from itertools import islice
from typing import Any, ClassVar

import msgspec

from fusefs.base.clock import utc
from fusefs.daemon.filesystem import Filesystem
from fusefs.daemon.verbs import Verb
from fusefs.errors import StoreReadOnly
from fusefs.model.corruption import Corruption
from fusefs.store import format

Record = dict[str, Any]

_PAGE = 100


class ScrubArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`rate`: bytes a second, 0 being no limit."""

    rate: int = 0


class RecordsArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`after`: the `next` of the page before."""

    after: int = 0


class NoArguments(msgspec.Struct, forbid_unknown_fields=True):
    pass


class ScrubDesk:
    """Answers about the scrub of `filesystem`."""

    def __init__(self, filesystem: Filesystem) -> None:
        self._filesystem = filesystem
        self._scrubbing = filesystem.scrubbing

    async def start(self, arguments: ScrubArguments, _uid: int) -> Record:
        """Have a pass now, or go on with the one under way; returns at once.

        Raises StoreReadOnly.
        """
        if self._filesystem.options.read_only:
            raise StoreReadOnly("the store is mounted read-only: mount it without -o ro")
        self._scrubbing.ask(arguments.rate)
        return self._scrubbing.record()

    async def status(self, _arguments: NoArguments, _uid: int) -> Record:
        """How far the pass is that is under way, or what the last one came to."""
        return self._scrubbing.record()

    async def records(self, arguments: RecordsArguments, _uid: int) -> Record:
        """A page of what is known of bad blocks, by number."""
        found = list(islice(self._scrubbing.records(arguments.after), _PAGE))
        return {
            "records": [_record(one) for one in found],
            "next": found[-1].block if len(found) == _PAGE else None,
        }

    VERBS: ClassVar[Mapping[str, Verb]] = {
        "scrub_start": Verb(ScrubArguments, start),
        "scrub_status": Verb(NoArguments, status),
        "scrub_records": Verb(RecordsArguments, records),
    }


def _record(one: Corruption) -> Record:
    return {
        "block": one.block,
        "segment": format.segment_name(one.segment),
        "segment_offset": one.offset,
        "state": one.state.value,
        "reason": one.reason,
        "first_seen": utc(one.first_ns),
        "last_seen": utc(one.last_ns),
        "objects": [{"inode": it.ino, "path": os.fsdecode(it.path) or None} for it in one.objects],
        "other_objects": one.others,
    }
