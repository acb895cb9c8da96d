"""A mount: pyfuse3's session with the settings that were measured, and its main loop."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pyfuse3
import structlog
import trio

from fusefs.config.options import MountOptions
from fusefs.errors import FuseUnavailable
from fusefs.fuse import wait
from fusefs.fuse.operations import Operations, Rooms

_TASKS = 64
#: With it reads arrive as 1 MiB, without as 128 KiB.
_READ_AHEAD_KIB = 1024

log = structlog.get_logger(__name__)


class _Option(str):
    """A mount option that may hold any bytes; pyfuse3 would encode it as ASCII."""

    def encode(self, *_: object) -> bytes:
        return os.fsencode(str(self))


class FuseMount:
    """One mount of a filesystem. pyfuse3 allows one in a process."""

    def __init__(self, rooms: Rooms, mountpoint: str, options: MountOptions, fsname: str) -> None:
        self._mountpoint = mountpoint
        self._options = options
        self._fsname = fsname
        #: Where nobody but root gets in, permissions refuse nothing. The kernel that is to check
        #: them asks for a directory's attributes after each change in it: 7 requests for a new
        #: file in place of 6, 3 for a rename in place of 1.
        self._checks_permissions = os.geteuid() != 0 or options.allow_other
        self._operations = Operations(rooms, options, checks_permissions=self._checks_permissions)

    def is_referenced(self, ino: int) -> bool:
        """Whether the kernel still knows the inode."""
        return self._operations.references.has(ino)

    def mount(self) -> None:
        """Mount; requests wait until `run`. Raises FuseUnavailable."""
        escaped = self._fsname.replace("\\", "\\\\").replace(",", "\\,")
        options = {"subtype=fusefs", *self._options.fuse_options}
        if self._checks_permissions:
            options.add("default_permissions")
        options.add(_Option(f"fsname={escaped}"))
        if os.geteuid() == 0:
            # libfuse's own default is nosuid,nodev, also for root, whose mounts are no risk.
            options |= {"dev", "suid"} - {no[2:] for no in options & {"nodev", "nosuid"}}
        try:
            pyfuse3.init(self._operations, self._mountpoint, options)
        except RuntimeError as error:
            raise FuseUnavailable(
                f"cannot mount on {self._mountpoint} ({error}): are fuse3 and /dev/fuse there, and"
                " may you use them? (allow_other needs user_allow_other in /etc/fuse.conf)"
            ) from error
        wait.install()

    async def run(self) -> None:
        """Answer requests until the mount is taken away, or `terminate`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._set_read_ahead)
            await pyfuse3.main(max_tasks=_TASKS)
            nursery.cancel_scope.cancel()

    def terminate(self) -> None:
        """End `run` soon."""
        pyfuse3.terminate()

    def close(self, unmount: bool) -> None:
        """Free the session; `unmount` also takes the mount away."""
        pyfuse3.close(unmount=unmount)

    def forget_name(self, parent: int, name: bytes) -> None:
        """Tell the kernel, from a thread, that a name it holds for absent came into being."""
        pyfuse3.invalidate_entry_async(parent, name, ignore_enoent=True)

    def forget_file(self, names: Sequence[tuple[int, bytes]], ino: int) -> None:
        """Have the kernel forget names (parent, name) and then all that it keeps of an inode.

        Waits for requests under way: to be called in a thread, and never for one of them.
        """
        for parent, name in names:
            with suppress(OSError):  # it does not know it
                pyfuse3.invalidate_entry(parent, name)
        with suppress(OSError):
            pyfuse3.invalidate_inode(ino)

    async def _set_read_ahead(self) -> None:
        try:
            # Through the mount, hence in a thread: the answer comes from this very loop.
            status = await trio.to_thread.run_sync(
                os.stat, self._mountpoint, abandon_on_cancel=True
            )
            device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
            Path(f"/sys/class/bdi/{device}/read_ahead_kb").write_text(str(_READ_AHEAD_KIB))
        except OSError as error:
            log.info("read_ahead_kb stays at the kernel's default", reason=error.strerror)
