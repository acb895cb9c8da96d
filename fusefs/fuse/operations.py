"""The request handlers.

Each is short and does not wait, but for blocks and fdatasync. `_answer` wraps them all: an
`FusefsError` becomes its errno, and anything unforeseen becomes EIO and a traceback in the log,
because an exception that left a handler would end the mount for everybody.

Set-ID bits: before a write(2) that is to clear them the kernel says so in a SETATTR of its own,
with a mode, or of nothing at all where the session has HANDLE_KILLPRIV_V2 (see `relay`). The
handlers clear them with a new size, with O_TRUNC and with a new owner or group.

Times in replies: this daemon is the only writer, so the kernel may keep names and attributes for
long. In the trash nothing is kept, since deletions change it behind the kernel's back.
"""

import errno
import functools
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import pyfuse3
import structlog
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext, SetattrFields

from fusefs.base.events import Events, Kind
from fusefs.base.tally import Tally
from fusefs.config.options import MountOptions
from fusefs.errors import BadPolicy, FusefsError, Refused, StoreDamaged
from fusefs.files import attributes
from fusefs.files.files import Files
from fusefs.fuse.references import References
from fusefs.model.inode import HAS_XATTR, IN_TRASH, ROOT_INO, TRASH_INO, Inode
from fusefs.store.log import Buffer
from fusefs.store.store import Store
from fusefs.trash import policy
from fusefs.trash.trash import Trash
from fusefs.tree import acl
from fusefs.tree.places import a_path_of
from fusefs.tree.removal import Caller
from fusefs.tree.tree import SET_ID, TRASH_NAME, Tree

KEEP_S = 86400
_BLOCK_UNIT = 512
#: Cookies of the two names that every directory has, and of the trash in the root; other names
#: get higher ones.
_DOT, _DOTDOT, _TRASH = 1, 2, 3
_TRUSTED = b"trusted."
_CAPABILITY = b"security.capability"
_ACLS = (acl.ACCESS, acl.DEFAULT)
_NAMESPACES = (b"user.", b"security.", _TRUSTED)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_TRUNC

log = structlog.get_logger(__name__)
_Handler = TypeVar("_Handler", bound=Callable[..., Awaitable[Any]])


def _answer(handler: _Handler) -> _Handler:
    @functools.wraps(handler)
    async def answered(self: "Operations", *arguments: Any) -> Any:
        self.tally.requests += 1
        try:
            return await handler(self, *arguments)
        except FUSEError:
            raise
        except (BadPolicy, Refused) as refusal:
            raise FUSEError(refusal.errno) from None
        except FusefsError as error:
            if error.errno != errno.ENOSPC:
                log.error("request failed", request=handler.__name__, error=str(error))
            raise FUSEError(error.errno) from None
        except Exception:
            log.exception("request failed", request=handler.__name__)
            raise FUSEError(errno.EIO) from None

    return answered  # type: ignore[return-value]


def _caller(context: RequestContext) -> Caller:
    return Caller(context.uid, context.gid, context.pid)


def _tells_writes_at_most(fields: SetattrFields) -> bool:
    """Whether there is nothing but times of earlier writes, as a kernel with a write-back cache
    tells them."""
    others = (
        fields.update_size, fields.update_mode, fields.update_uid, fields.update_gid,
        fields.update_atime,
    )  # fmt: skip
    return not any(others)


def _kept_set_id(inode: Inode, context: RequestContext) -> int:
    """The set-ID bits that a truncation by the caller leaves alone.

    Root keeps both, and members of the file's group set-group-ID, as on other filesystems of
    Linux 6.2 and later.
    """
    if context.uid == 0 or not inode.mode & SET_ID:
        return SET_ID
    if context.gid == inode.gid:
        return stat.S_ISGID
    if not inode.mode & stat.S_ISGID:
        return 0  # not worth asking for the other groups
    try:
        groups = pyfuse3.get_sup_groups(context.pid)
    except (OSError, RuntimeError):  # the caller has died meanwhile
        return 0
    return stat.S_ISGID if inode.gid in groups else 0


class _Listing:
    """An open directory. `end`: the highest cookie when it was opened or read from the start; what
    comes after is not shown, or who makes a name for each one seen would never end."""

    __slots__ = ("end", "ino")

    def __init__(self, ino: int, end: int) -> None:
        self.ino = ino
        self.end = end


class Rooms(Protocol):
    """What a mount serves."""

    store: Store
    tree: Tree
    files: Files
    trash: Trash
    events: Events
    tally: Tally


class Operations(pyfuse3.Operations):
    """The handlers of one mount. `checks_permissions`: the kernel checks modes and ACLs."""

    enable_acl = True
    enable_writeback_cache = False
    supports_dot_lookup = False

    def __init__(
        self, rooms: Rooms, options: MountOptions, *, checks_permissions: bool = True
    ) -> None:
        super().__init__()
        self._has_acl = options.acl
        self.enable_acl = options.acl and checks_permissions  # to the kernel this says: check them
        self.enable_writeback_cache = options.writeback_cache
        self._shows_trash = options.show_trash
        self.references = References()
        self.tally = rooms.tally
        self._listings: dict[int, _Listing] = {}
        self._last_listing = 0
        self._stripped = 0  # the inode whose capability was removed last
        self._store = rooms.store
        self._tree = rooms.tree
        self._files = rooms.files
        self._trash = rooms.trash
        self._events = rooms.events

    # -- replies

    def _attributes(self, inode: Inode, keep_s: float = KEEP_S) -> EntryAttributes:
        reply = EntryAttributes()
        reply.st_ino = inode.ino
        reply.st_mode = inode.mode
        # What is in the trash shows its one name there, but a handle from before shows none.
        reply.st_nlink = inode.nlink or int(self._files.is_frozen(inode))
        reply.st_uid = inode.uid
        reply.st_gid = inode.gid
        reply.st_rdev = inode.rdev
        reply.st_size = inode.size
        reply.st_blksize = 4096
        reply.st_blocks = -(-self._files.allocated_bytes(inode) // _BLOCK_UNIT)
        reply.st_atime_ns = inode.atime
        reply.st_mtime_ns = inode.mtime
        reply.st_ctime_ns = inode.ctime
        reply.generation = 1
        if inode.flags & IN_TRASH or not inode.nlink:
            keep_s = 0
        reply.entry_timeout = reply.attr_timeout = keep_s
        return reply

    def _entry(self, inode: Inode) -> EntryAttributes:
        """A reply that gives the kernel one more reference."""
        self.references.add(inode.ino)
        return self._attributes(inode)

    def _masked(self, parent: int, mode: int, context: RequestContext) -> int:
        """The mode of something new: a default ACL takes the place of the umask."""
        has_any = self._has_acl and self._tree.inode(parent).flags & HAS_XATTR
        if has_any and acl.DEFAULT in self._tree.xattrs.names(parent):
            return mode
        return mode & ~context.umask

    # -- names

    @_answer
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        inode = self._tree.lookup(parent_inode, name)
        if inode is not None:
            return self._entry(inode)
        if self._tree.inode(parent_inode).flags & IN_TRASH:
            raise FUSEError(errno.ENOENT)
        absent = EntryAttributes()
        absent.st_ino = 0  # FUSE's way to say: and it stays absent until you make it
        absent.entry_timeout = KEEP_S
        return absent

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for ino, count in inode_list:
            self.references.drop(ino, count)

    @_answer
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        mode = self._masked(parent_inode, mode, ctx)
        return self._entry(self._tree.make(parent_inode, name, mode, _caller(ctx), rdev=rdev))

    @_answer
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        mode = self._masked(parent_inode, mode, ctx)
        return self._entry(self._tree.make(parent_inode, name, mode, _caller(ctx)))

    @_answer
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        mode = stat.S_IFLNK | 0o777
        return self._entry(self._tree.make(parent_inode, name, mode, _caller(ctx), target=target))

    @_answer
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        return self._entry(self._tree.link(inode, new_parent_inode, new_name))

    @_answer
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        self._tree.unlink(parent_inode, name, _caller(ctx))

    @_answer
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        self._tree.rmdir(parent_inode, name, _caller(ctx))

    @_answer
    async def rename(
        self, parent_inode_old: int, name_old: bytes, parent_inode_new: int, name_new: bytes,
        flags: int, ctx: RequestContext,
    ) -> None:  # fmt: skip
        self._tree.rename(
            parent_inode_old, name_old, parent_inode_new, name_new, flags, _caller(ctx)
        )
        for _ in self._trash.revive():
            await trio.lowlevel.checkpoint()

    @_answer
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        target = self._tree.readlink(inode)
        self._tree.accessed(self._tree.inode(inode))
        return target

    # -- directories

    @_answer
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        if not self._tree.inode(inode).is_dir:
            raise FUSEError(errno.ENOTDIR)
        self._last_listing += 1
        self._listings[self._last_listing] = _Listing(inode, self._store.counters.cookie)
        return self._last_listing

    @_answer
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        reply, tree = pyfuse3.readdir_reply, self._tree
        listing = self._listings[fh]
        directory = tree.inode(listing.ino)
        if not start_id:
            listing.end = self._store.counters.cookie
        if start_id < _DOT:
            tree.accessed(directory)
            if not reply(token, b".", self._attributes(directory), _DOT):
                return
        if start_id < _DOTDOT:
            above = tree.inode(directory.parent)
            if not reply(token, b"..", self._attributes(above), _DOTDOT):
                return
        if start_id < _TRASH and listing.ino == ROOT_INO and self._shows_trash:
            if not reply(token, TRASH_NAME, self._attributes(tree.inode(TRASH_INO)), _TRASH):
                return
            self.references.add(TRASH_INO)
        for ino, _, name, cookie in tree.listing(listing.ino, max(start_id, _TRASH)):
            if cookie > listing.end:
                return
            if not reply(token, name, self._attributes(tree.inode(ino)), cookie):
                return
            self.references.add(ino)

    async def releasedir(self, fh: int) -> None:
        del self._listings[fh]

    # -- attributes

    @_answer
    async def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        """Asked only where the kernel checks nothing, hence by root, who may all but run a file
        that nobody may."""
        target = self._tree.inode(inode)
        return not mode & os.X_OK or target.is_dir or bool(target.mode & 0o111)

    @_answer
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return self._attributes(self._tree.inode(inode))

    @_answer
    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:  # fmt: skip
        target = self._tree.inode(inode)
        if not (
            self.enable_writeback_cache and fields.update_ctime and _tells_writes_at_most(fields)
        ):
            self._refuse_in_trash(target)
        if fields.update_size:
            self._files.truncate(target, attr.st_size, keeps=_kept_set_id(target, ctx))
        mode = attr.st_mode if fields.update_mode else None
        if fields.update_size and mode is not None:
            mode &= ~SET_ID | target.mode  # the kernel clears fewer of them than `truncate` did
        elif mode is None and target.mode & SET_ID and not target.is_dir:
            mode = self._mode_without_privileges(target, fields, ctx)
        changes = {
            "mode": mode,
            "uid": attr.st_uid if fields.update_uid else None,
            "gid": attr.st_gid if fields.update_gid else None,
            "atime": attr.st_atime_ns if fields.update_atime else None,
            "mtime": attr.st_mtime_ns if fields.update_mtime else None,
            "ctime": attr.st_ctime_ns if fields.update_ctime else None,
        }
        if not fields.update_size or any(value is not None for value in changes.values()):
            self._tree.set_attributes(target, _caller(ctx), **changes)
        return self._attributes(target)

    def _mode_without_privileges(
        self, inode: Inode, fields: SetattrFields, context: RequestContext
    ) -> int | None:
        """The mode after chown(2), or before a write(2) that clears set-ID bits; None: as it is.

        A request for nothing is either such a write, hence by somebody who has it open, or a
        chown to nobody new. With a write-back cache the latter tells its time.
        """
        keeps = _kept_set_id(inode, context) & stat.S_ISGID
        if inode.mode & stat.S_IXGRP:
            keeps = 0
        mode = inode.mode & (~SET_ID | keeps)
        if fields.update_uid or fields.update_gid:
            return mode
        if fields.update_mtime or not _tells_writes_at_most(fields):
            return None
        is_chown = fields.update_ctime or not self._files.is_written(inode.ino)
        if context.uid:
            if is_chown and mode != inode.mode and context.uid != inode.uid:
                raise FUSEError(errno.EPERM)
            return mode
        # A write by root takes a capability and not these bits; the kernel has just removed it.
        is_write = not is_chown and self._stripped == inode.ino
        self._stripped = 0
        return None if is_write else mode

    def _refuse_in_trash(self, inode: Inode) -> None:
        if inode.flags & IN_TRASH or self._files.is_frozen(inode):
            raise FUSEError(errno.EPERM)

    # -- extended attributes

    @_answer
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        self._check_xattr_name(name)
        if name in attributes.NAMES:
            if name == attributes.OFFSET:
                await self._files.sync()  # what is told is a promise
            found = self._tree.inode(inode)
            return attributes.get(self._files.partials, found, name, self._files.synced)
        return self._tree.xattrs.get(inode, name)

    @_answer
    async def listxattr(self, inode: int, ctx: RequestContext) -> list[bytes]:
        names = self._tree.xattrs.names(inode)
        names += attributes.listed(self._files.partials, inode)
        if ctx.uid == 0:
            return names
        return [name for name in names if not name.startswith(_TRUSTED)]

    @_answer
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        self._check_xattr_name(name)
        target = self._tree.inode(inode)
        self._refuse_in_trash(target)
        if name == policy.ATTRIBUTE:
            policy.parse_rule(value)
            self._admit_rule(inode, ctx)
        if name in attributes.NAMES:
            attributes.set_(self._files.partials, target, name, value)
        else:
            before = target.mode
            self._tree.xattrs.set(inode, name, value)
            if target.mode != before and not self.enable_acl:
                # It goes with an ACL, as a kernel that checks them knows by itself. To forget no
                # more than attributes waits for nothing.
                pyfuse3.invalidate_inode(inode, attr_only=True)

    @_answer
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        self._check_xattr_name(name)
        self._refuse_in_trash(self._tree.inode(inode))
        if name == policy.ATTRIBUTE:
            self._admit_rule(inode, ctx)
        if name in attributes.NAMES:
            raise FUSEError(errno.EPERM)
        self._tree.xattrs.remove(inode, name)
        if name == _CAPABILITY:
            self._stripped = inode

    def _admit_rule(self, inode: int, ctx: RequestContext) -> None:
        """A rule of the trash is the owner's: who may only write could have all of it purged."""
        if ctx.uid not in (0, self._tree.inode(inode).uid):
            raise FUSEError(errno.EPERM)
        self._trash.rules_change()

    def _check_xattr_name(self, name: bytes) -> None:
        """Refuse what is in no namespace of xattr(7)."""
        if name in _ACLS and self._has_acl:
            return
        if not name.startswith(_NAMESPACES):
            raise FUSEError(errno.EOPNOTSUPP)
        if name in _NAMESPACES:
            raise FUSEError(errno.EINVAL)

    # -- contents

    @_answer
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        begin = self._files.partials.begin
        mode = self._masked(parent_inode, mode, ctx)
        inode = self._tree.make(parent_inode, name, mode, _caller(ctx), also=begin)
        handle = self._files.open(inode, for_writing=True, pid=ctx.pid)
        return FileInfo(fh=handle, keep_cache=True), self._entry(inode)

    @_answer
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        target = self._tree.inode(inode)
        is_writer = bool(flags & _WRITES)
        handle = self._files.open(target, for_writing=is_writer, pid=ctx.pid)
        if flags & os.O_TRUNC:
            try:
                self._files.truncate(target, 0, keeps=_kept_set_id(target, ctx))
            except FusefsError:
                self._files.release(handle)
                raise
        return FileInfo(fh=handle, keep_cache=True)

    @_answer
    async def read(  # type: ignore[override]  # pyfuse3 takes any buffer
        self, fh: int, off: int, size: int
    ) -> Buffer:
        file = self._files.handle(fh).file
        try:
            return await self._files.read(file, off, size)
        except StoreDamaged as damage:
            path = a_path_of(self._tree, file.inode.ino)
            log.error("damaged content", path=os.fsdecode(path), offset=off, error=str(damage))
            self._events.publish(Kind.DAMAGED_READ, path=b"/" + path, offset=off)
            raise FUSEError(errno.EIO) from None

    @_answer
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        self._files.write(self._files.handle(fh), off, buf)
        self.tally.bytes_received += len(buf)
        return len(buf)

    @_answer
    async def flush(self, fh: int) -> None:
        handle = self._files.handle(fh)
        if handle.is_writer:  # a reader is not the one to hear that there was no room
            self._files.close(handle)

    @_answer
    async def release(self, fh: int) -> None:
        self._files.release(fh)

    @_answer
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._files.fsync(self._files.handle(fh).file)
        self.tally.fsyncs += 1

    @_answer
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self._files.sync()
        self.tally.fsyncs += 1

    @_answer
    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        disk = os.statvfs(self._store.path)
        reserve = self._store.space.reserve_bytes // disk.f_frsize
        reply = pyfuse3.StatvfsData()
        reply.f_bsize = 1 << 20
        reply.f_frsize = disk.f_frsize
        reply.f_blocks = max(0, disk.f_blocks - reserve)
        reply.f_bfree = max(0, disk.f_bfree - reserve)
        reply.f_bavail = max(0, disk.f_bavail - reserve)
        used = self._store.totals.inodes
        reply.f_files = used + reply.f_bavail
        reply.f_ffree = reply.f_favail = reply.f_bavail
        reply.f_namemax = 255
        return reply
