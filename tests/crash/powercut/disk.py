"""A disk that remembers: a FUSE filesystem of one file, an image, which logs what happens to it.

    python -m tests.crash.powercut.disk DIRECTORY IMAGE LOG

mounts on DIRECTORY, where the file `disk` has the bytes of IMAGE, says "ready", and ends when it
is unmounted. `writelog` describes LOG. It is a program of its own, because the kernel waits for
it when a loop device over it is flushed: who waits for the kernel must not be who answers it.

Each request is answered before the next one is looked at. So what was written before a flush is
before it in the log, and what the kernel was told to be durable is.
"""

import errno
import os
import stat
import sys

import pyfuse3
import trio

from tests.crash.powercut.writelog import FLUSH, RECORD, WRITE

DISK_INO = pyfuse3.ROOT_INODE + 1
NAME = b"disk"


class RecordedDisk(pyfuse3.Operations):
    """The root directory, and the image in it."""

    def __init__(self, image: int, log: int) -> None:
        super().__init__()
        self._image = image
        self._log = log

    def _attributes(self, ino: int) -> pyfuse3.EntryAttributes:
        found = pyfuse3.EntryAttributes()
        found.st_ino = ino
        found.st_nlink = 1
        found.attr_timeout = found.entry_timeout = 3600
        if ino == DISK_INO:
            found.st_mode = stat.S_IFREG | 0o600
            found.st_size = os.fstat(self._image).st_size
        else:
            found.st_mode = stat.S_IFDIR | 0o700
        return found

    async def getattr(self, ino: int, ctx: object) -> pyfuse3.EntryAttributes:
        return self._attributes(ino)

    async def lookup(self, parent: int, name: bytes, ctx: object) -> pyfuse3.EntryAttributes:
        if name != NAME:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._attributes(DISK_INO)

    async def open(self, ino: int, flags: int, ctx: object) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=ino, direct_io=True)

    async def read(self, fh: int, offset: int, size: int) -> bytes:
        return os.pread(self._image, size, offset)

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        self._note(WRITE, offset, data)
        assert os.pwrite(self._image, data, offset) == len(data)
        return len(data)

    async def fsync(self, fh: int, datasync: bool) -> None:
        self._note(FLUSH, 0, b"")

    async def flush(self, fh: int) -> None:
        """close(2) of a descriptor; of no meaning to a disk."""

    async def release(self, fh: int) -> None:
        pass

    def _note(self, kind: bytes, offset: int, data: bytes) -> None:
        record = RECORD.pack(kind, offset, len(data))
        assert os.writev(self._log, [record, data]) == len(record) + len(data)


def main() -> None:
    directory, image, log = sys.argv[1:]
    disk = RecordedDisk(
        os.open(image, os.O_RDWR),
        os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
    )
    pyfuse3.init(disk, directory, {"fsname=recorded", "default_permissions"})
    print("ready", flush=True)
    try:
        trio.run(pyfuse3.main, 1, 1)  # one task: requests in the order of their coming
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
