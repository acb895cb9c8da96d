"""What a copy has of its source beside the content."""

import os
import stat
from contextlib import suppress
from errno import EINVAL, ENODATA, ENOTSUP, EPERM
from functools import lru_cache

#: Those that fusefs answers by itself.
_OWN = "user.fusefs."
_SKIPPED = frozenset({_OWN + "state", _OWN + "offset"})
_NOT_HERE = (ENOTSUP, EPERM, ENODATA, EINVAL)


class Attributes:
    """Those of one file: all of its source's if `is_preserving`, else what a new file gets.

    Without it a file that is replaced hands on its mode, as when it is written over.
    """

    def __init__(
        self, source: bytes, status: os.stat_result, target: os.stat_result | None,
        *, is_preserving: bool,
    ) -> None:  # fmt: skip
        self._source = source
        self._status = status
        self._is_preserving = is_preserving
        if is_preserving:
            self.mode = stat.S_IMODE(status.st_mode)
        elif target is not None:
            self.mode = stat.S_IMODE(target.st_mode) & 0o777
        else:
            self.mode = stat.S_IMODE(status.st_mode) & 0o777 & ~_umask()

    @property
    def mtime_ns(self) -> int:
        """0 if it is not preserved."""
        return self._status.st_mtime_ns if self._is_preserving else 0

    def put_early(self, descriptor: int) -> None:
        """Give a file that was just made what it can have before it is written.

        Only what differs: each change is a request, and what a new file has is known without.
        """
        now = os.fstat(descriptor)
        wanted = self._status
        is_owned = (now.st_uid, now.st_gid) == (wanted.st_uid, wanted.st_gid)
        if self._is_preserving and os.geteuid() == 0 and not is_owned:
            os.fchown(descriptor, wanted.st_uid, wanted.st_gid)
        if stat.S_IMODE(now.st_mode) != self.mode:
            os.fchmod(descriptor, self.mode)

    def put(self, descriptor: int) -> None:
        """Give a file the rest, when it has been written."""
        if self.mode & (stat.S_ISUID | stat.S_ISGID):  # a write may have taken them
            os.fchmod(descriptor, self.mode)
        if self._is_preserving:
            self._copy_xattrs(descriptor)
            os.utime(descriptor, ns=(self._status.st_atime_ns, self._status.st_mtime_ns))

    def put_directory(self, path: bytes) -> None:
        """Give a directory all of them."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.put_early(descriptor)
            self.put(descriptor)
        finally:
            os.close(descriptor)

    def put_node(self, path: bytes) -> None:
        """Give a symbolic link or a special file what it can have."""
        if not self._is_preserving:
            return
        if os.geteuid() == 0:
            os.chown(path, self._status.st_uid, self._status.st_gid, follow_symlinks=False)
        if not stat.S_ISLNK(self._status.st_mode):
            os.chmod(path, self.mode)
        times = self._status.st_atime_ns, self._status.st_mtime_ns
        os.utime(path, ns=times, follow_symlinks=False)

    def _copy_xattrs(self, descriptor: int) -> None:
        try:
            names = os.listxattr(self._source)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            return
        for name in names:
            if name in _SKIPPED:
                continue
            with _Suppressed(*_NOT_HERE):
                os.setxattr(descriptor, name, os.getxattr(self._source, name))


class _Suppressed(suppress):
    """Suppress an OSError with one of these numbers."""

    def __init__(self, *numbers: int) -> None:
        super().__init__(OSError)
        self._numbers = numbers

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        return isinstance(error, OSError) and error.errno in self._numbers


@lru_cache(maxsize=1)
def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
