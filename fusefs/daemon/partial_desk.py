"""What can be asked of the half-written files of an open filesystem."""

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import trio

from fusefs.base.clock import utc
from fusefs.daemon.filesystem import Filesystem
from fusefs.daemon.verbs import Verb
from fusefs.daemon.wire import describe_error
from fusefs.errors import (
    FusefsError,
    NotPermitted,
    WrongState,
)
from fusefs.model.inode import Inode
from fusefs.model.partial import Partial
from fusefs.tree.places import places_of

Record = dict[str, Any]


class ListArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`idle_s`: only those that nobody has written for longer."""

    idle_s: float = 0.0


class PathArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`path`: from the root of the filesystem."""

    path: bytes


class PathsArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`paths`: from the root of the filesystem."""

    paths: list[bytes]


class SweepArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`older_than_s`: how long they have been idle at least."""

    older_than_s: float
    dry_run: bool = False


class PartialDesk:
    """Answers about the half-written files of `filesystem`."""

    def __init__(self, filesystem: Filesystem) -> None:
        self._filesystem = filesystem
        self._tree = filesystem.tree
        self._partials = filesystem.files.partials
        self._sweeping = filesystem.sweeping

    async def listing(self, arguments: ListArguments, _uid: int) -> list[Record]:
        """All that have a name outside the trash, also those that are being written; by path."""
        paths: dict[int, bytes] = {}
        for place in places_of(self._tree, dict(self._partials)):
            if place is None:
                await trio.lowlevel.checkpoint()
            elif not place.is_in_trash:
                paths.setdefault(place.ino, place.path)
        found = [
            self._record(self._tree.inode(ino), one, path)
            for ino, path in sorted(paths.items(), key=lambda item: item[1])
            if (one := self._partials.get(ino)) is not None
        ]
        return [one for one in found if (one["idle_s"] or 0) >= arguments.idle_s]

    async def show(self, arguments: PathArguments, _uid: int) -> Record:
        """One of them, after verifying all of it up to its offset.

        `missing` are the ranges [begin, end) of which nothing has come.

        Raises NoSuchPath, WrongState (it is complete), DiskFull, StoreError.
        """
        inode = self._resolve(arguments.path)
        if inode.ino in self._partials and not self._filesystem.options.read_only:
            await self._partials.check(inode.ino)
        self._filesystem.files.flush_one(inode.ino)
        await self._filesystem.files.sync()
        one = self._partials.get(inode.ino)
        if one is None:
            raise WrongState(f"{_shown(arguments.path)} is complete")
        size = one.upload.size if one.upload else inode.size
        missing = self._filesystem.files.extents.missing(inode, size)
        return {**self._record(inode, one, arguments.path), "missing": missing}

    async def complete(self, arguments: PathsArguments, uid: int) -> Record:
        """Say that files are as they should be. Failures are items of the answer."""
        self._filesystem.check_writable()
        done, failed = [], []
        for path in arguments.paths:
            try:
                self._complete(path, uid)
            except FusefsError as error:
                failed.append({"what": os.fsdecode(path), **describe_error(error)})
            else:
                done.append(_shown(path))
        await self._filesystem.flush()
        return {"completed": done, "failed": failed}

    def _complete(self, path: bytes, uid: int) -> None:
        inode = self._resolve(path)
        one = self._partials.get(inode.ino)
        if uid not in (0, inode.uid):
            raise NotPermitted(f"{_shown(path)} belongs to another user")
        if one is None:
            raise WrongState(f"{_shown(path)} is complete already")
        if one.is_writing:
            raise WrongState(f"{_shown(path)} is being written: it is complete when it is closed")
        self._partials.complete(inode.ino)

    async def sweep(self, arguments: SweepArguments, uid: int) -> Record:
        """Move old ones to the trash."""
        if not arguments.dry_run:
            self._filesystem.check_writable()
        swept = await self._sweeping.sweep(arguments.older_than_s, uid, dry_run=arguments.dry_run)
        await self._filesystem.flush()
        return {
            "swept": [
                {"path": _shown(one.path), "size": one.size} for one in swept if not one.error
            ],
            "failed": [
                {"what": os.fsdecode(one.path), **describe_error(one.error)}
                for one in swept
                if one.error
            ],
        }

    def _record(self, inode: Inode, one: Partial, path: bytes) -> Record:
        idle = self._sweeping.idle_s(inode, one)
        return {
            "path": _shown(path),
            "inode": inode.ino,
            "state": "writing" if one.is_writing else "partial",
            "size": inode.size,
            "offset": one.offset,
            "why": one.why,
            "is_new": one.is_new,
            "begun": utc(one.begun_ns),
            "idle_s": None if idle is None else round(idle, 3),
            "becomes": os.fsdecode(one.upload.name) if one.upload else None,
            "becomes_size": one.upload.size if one.upload else None,
        }

    def _resolve(self, path: bytes) -> Inode:
        inode = self._filesystem.resolve(path)
        if not inode.is_file:
            raise WrongState(f"{_shown(path)} is no file, and so never half-written")
        return inode

    VERBS: ClassVar[Mapping[str, Verb]] = {
        "partial_list": Verb(ListArguments, listing),
        "partial_show": Verb(PathArguments, show),
        "partial_complete": Verb(PathsArguments, complete),
        "partial_sweep": Verb(SweepArguments, sweep),
    }


def _shown(path: bytes) -> str:
    return "/" + os.fsdecode(path.strip(b"/"))
