"""Extended attributes, and the POSIX ACLs among them, which must agree with the mode.

A flag of the inode says whether it has any: most have none, and are spared the look into the index.
"""

from errno import EINVAL, ENODATA, ENOSPC, ERANGE

from fusefs.errors import Refused
from fusefs.model import keys
from fusefs.model.inode import HAS_XATTR, Inode
from fusefs.store.store import Store
from fusefs.tree import acl
from fusefs.tree.act import Act
from fusefs.tree.inodes import Inodes

XATTR_NAME_MAX = 255
XATTR_SIZE_MAX = 64 << 10


class Xattrs:
    """The extended attributes of all inodes of a store."""

    def __init__(self, store: Store, inodes: Inodes) -> None:
        self._store = store
        self._inodes = inodes

    def get(self, ino: int, name: bytes) -> bytes:
        """Raises Refused: ENODATA."""
        inode = self._inodes.get(ino)
        value = self._store.get(keys.xattr(ino, name)) if inode.flags & HAS_XATTR else None
        if value is None:
            raise Refused(ENODATA)
        return value

    def names(self, ino: int) -> list[bytes]:
        if not self._inodes.get(ino).flags & HAS_XATTR:
            return []
        return [key[9:] for key, _ in self._store.scan(keys.XATTR + ino.to_bytes(8, "big"))]

    def set(self, ino: int, name: bytes, value: bytes) -> None:
        """Raises Refused: ERANGE (name), ENOSPC (value too large), EINVAL (not an ACL)."""
        self._store.space.admit_name()
        if len(name) > XATTR_NAME_MAX:
            raise Refused(ERANGE)
        if len(value) > XATTR_SIZE_MAX:
            raise Refused(ENOSPC)
        inode = self._inodes.get(ino)
        with Act(self._store, self._inodes) as act:
            act.change(inode)
            if name in (acl.ACCESS, acl.DEFAULT):
                self._set_acl(act, inode, name, value)
            else:
                self._put(act, inode, name, value)
            inode.ctime = self._store.clock.time_ns()

    def remove(self, ino: int, name: bytes) -> None:
        """Raises Refused: ENODATA."""
        self.get(ino, name)
        inode = self._inodes.get(ino)
        is_last = self.names(ino) == [name]
        with Act(self._store, self._inodes) as act:
            act.change(inode)
            act.delete(keys.xattr(ino, name))
            if is_last:
                inode.flags &= ~HAS_XATTR
            inode.ctime = self._store.clock.time_ns()

    def copy(self, act: Act, source: Inode, target: Inode, but: bytes = b"") -> None:
        """Give `target` the extended attributes of `source`, `but` that one, and no others."""
        names = [name for name in self.names(source.ino) if name != but]
        if target.flags & HAS_XATTR:
            for key, _ in self._store.scan(keys.XATTR + target.ino.to_bytes(8, "big")):
                if key[9:] not in names:
                    act.delete(key)
            target.flags &= ~HAS_XATTR
        for name in names:
            self._put(act, target, name, self.get(source.ino, name))

    def chmod(self, act: Act, inode: Inode) -> None:
        """Bring the access ACL into step with the mode, which was changed in this act."""
        if inode.flags & HAS_XATTR:
            value = self._store.get(keys.xattr(inode.ino, acl.ACCESS))
            if value is not None:
                changed = acl.with_mode(acl.unpack(value), inode.mode)
                act.put(keys.xattr(inode.ino, acl.ACCESS), acl.pack(changed))

    def inherit(self, act: Act, parent: Inode, inode: Inode) -> None:
        """Give `inode`, which is made in this act, what the default ACL of `parent` says."""
        if not parent.flags & HAS_XATTR:
            return
        value = self._store.get(keys.xattr(parent.ino, acl.DEFAULT))
        if value is None:
            return
        entries = acl.inherit(acl.unpack(value), inode.mode)
        inode.mode = inode.mode & ~0o777 | acl.permission_bits(entries)
        if not acl.is_minimal(entries):
            self._put(act, inode, acl.ACCESS, acl.pack(entries))
        if inode.is_dir:
            self._put(act, inode, acl.DEFAULT, value)

    def _set_acl(self, act: Act, inode: Inode, name: bytes, value: bytes) -> None:
        try:
            entries = acl.unpack(value)
        except ValueError as error:
            raise Refused(EINVAL, str(error)) from error
        if name == acl.ACCESS:
            inode.mode = inode.mode & ~0o777 | acl.permission_bits(entries)
            if acl.is_minimal(entries):
                if inode.flags & HAS_XATTR:
                    act.delete(keys.xattr(inode.ino, name))
                return
        self._put(act, inode, name, value)

    @staticmethod
    def _put(act: Act, inode: Inode, name: bytes, value: bytes) -> None:
        act.put(keys.xattr(inode.ino, name), value)
        inode.flags |= HAS_XATTR
