"""What can be asked about uploads: announce one, offer its blocks, end it.

The sender writes to the staging file through the mount, as anybody would; what it needs to know for
that, and the one act that gives the file its name, are here. `uploads` says how it works.
"""

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from fusefs.daemon.filesystem import Filesystem
from fusefs.daemon.verbs import Verb
from fusefs.errors import DiskFull
from fusefs.model.inode import ROOT_INO
from fusefs.model.partial import Upload
from fusefs.tree.removal import Caller
from fusefs.uploads.uploads import WINDOW_BLOCKS

Record = dict[str, Any]


class BeginArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`path`: of the staging file, from the root of the filesystem. `token`, `size`, `name`,
    `mtime_ns`: see `model.partial.Upload`. `pid`: of the sender."""

    path: bytes
    token: bytes
    size: int
    name: bytes
    pid: int
    mtime_ns: int = 0


class OfferArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`id`: as `upload_begin` answered. `window`: its number. `digests`: BLAKE3 of its blocks, one
    after the other. `root`: with the last window, BLAKE3 of all digests."""

    id: int
    token: bytes
    pid: int
    window: int
    digests: bytes
    root: bytes = b""


class UploadArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`id`: as `upload_begin` answered."""

    id: int
    token: bytes


class FinishArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`root`: BLAKE3 of the digests of all blocks in order."""

    id: int
    token: bytes
    root: bytes
    pid: int = 0


class DigestsArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`path`: of a file, from the root of the filesystem. `first`: position of the first block."""

    path: bytes
    first: int
    count: int


class UploadDesk:
    """Answers about the uploads into `filesystem`."""

    def __init__(self, filesystem: Filesystem) -> None:
        self._filesystem = filesystem
        self._uploads = filesystem.uploads

    async def begin(self, arguments: BeginArguments, uid: int) -> Record:
        """Announce an upload, or join it."""
        self._filesystem.check_writable()
        declared = Upload(
            arguments.token, arguments.size, arguments.name, mtime_ns=arguments.mtime_ns
        )
        try:
            inode, present = self._uploads.begin(arguments.path, declared, arguments.pid, uid)
        except DiskFull:
            if (gone := self._uploads.take_back(arguments.path, declared)) is not None:
                await self._filesystem.forget_upload(gone)
            raise
        return {"id": inode.ino, "present_bytes": present, "window_blocks": WINDOW_BLOCKS}

    async def offer(self, arguments: OfferArguments, _uid: int) -> Record:
        """What is missing of a window: `have` is all, none or part; or it is taken by another
        sender, who is just sending it."""
        digests = [arguments.digests[at : at + 32] for at in range(0, len(arguments.digests), 32)]
        answer = await self._uploads.offer(
            arguments.id, arguments.token, arguments.pid, arguments.window, digests, arguments.root
        )
        missing = sum(end - start for start, end in answer.missing)
        have = "all" if not missing else "none" if missing >= answer.size else "part"
        return {"have": have, "missing": answer.missing, "is_taken": answer.is_taken}

    async def missing(self, arguments: UploadArguments, _uid: int) -> Record:
        """The ranges of which nothing has come yet."""
        return {"missing": self._uploads.missing(arguments.id, arguments.token)}

    async def finish(self, arguments: FinishArguments, uid: int) -> Record:
        """Give the file its name."""
        self._filesystem.check_writable()
        gid = self._filesystem.tree.inode(ROOT_INO).gid
        caller = Caller(uid, gid, arguments.pid or os.getpid())
        done = await self._uploads.finish(arguments.id, arguments.token, arguments.root, caller)
        if done.was_already:
            await self._filesystem.forget_upload(done)
        else:
            await self._filesystem.tell_uploaded(done)
        return {"was_already": done.was_already}

    async def withdraw(self, arguments: UploadArguments, _uid: int) -> Record:
        """The source of an upload has changed."""
        self._filesystem.check_writable()
        self._uploads.withdraw(arguments.id, arguments.token)
        return {}

    async def abort(self, arguments: UploadArguments, _uid: int) -> Record:
        """Give an upload up, with what has come of it."""
        self._filesystem.check_writable()
        await self._filesystem.forget_upload(self._uploads.abort(arguments.id, arguments.token))
        return {}

    async def digests(self, arguments: DigestsArguments, _uid: int) -> Record:
        """BLAKE3 of the aligned blocks of a file, null for what is lost."""
        found = await self._uploads.digests(arguments.path, arguments.first, arguments.count)
        return {"digests": [digest.hex() if digest else None for digest in found]}

    VERBS: ClassVar[Mapping[str, Verb]] = {
        "upload_begin": Verb(BeginArguments, begin),
        "upload_offer": Verb(OfferArguments, offer),
        "upload_missing": Verb(UploadArguments, missing),
        "upload_finish": Verb(FinishArguments, finish),
        "upload_withdraw": Verb(UploadArguments, withdraw),
        "upload_abort": Verb(UploadArguments, abort),
        "upload_digests": Verb(DigestsArguments, digests),
    }
