"""The mountpoint: whether a store may be mounted there, clearing a dead mount, unmounting.

Called by the daemon and by `fusefs umount`. A dead mount of our own store at the mountpoint is
cleared by the next mount and only there: at any other place ENOTCONN is the right answer, an empty
directory would not be.
"""

import ctypes
import os
import subprocess
from errno import EACCES, EBUSY, EINVAL, EPERM
from pathlib import Path

from fusefs.daemon.mounttable import Mount, MountTable
from fusefs.daemon.writer import writer_of
from fusefs.errors import (
    DaemonFailed,
    FuseUnavailable,
    MountError,
    MountpointBusy,
    MountpointMissing,
    MountpointNotEmpty,
    NotMounted,
    NotPermitted,
    StoreLocked,
    UsageError,
)

DEVICE = Path("/dev/fuse")
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_FUSERMOUNT_TIMEOUT_S = 60


def check_device() -> None:
    """Raise FuseUnavailable unless this process may use FUSE."""
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError as error:
        raise FuseUnavailable(
            f"{DEVICE} is missing: load the module with 'modprobe fuse'"
        ) from error
    except OSError as error:
        raise FuseUnavailable(
            f"{DEVICE} may not be used ({error.strerror}):"
            f" mount as root, or let root do 'chmod 0666 {DEVICE}'"
        ) from error


def check_mountpoint(store: Path, mountpoint: Path) -> None:
    """Raise unless `store` may be mounted on `mountpoint` (both resolved); changes nothing.

    A dead mount of `store` that is there already is no obstacle, see `clear_dead_mount`. Raises
    UsageError, MountpointMissing, MountpointNotEmpty, MountpointBusy, StoreLocked.
    """
    if store.is_relative_to(mountpoint) or mountpoint.is_relative_to(store):
        raise UsageError(
            f"{store} and {mountpoint} lie one in the other: choose a mountpoint beside the store"
        )
    table = MountTable.read()
    mount = table.at(os.fsencode(mountpoint))
    if mount is not None and not (mount.is_fusefs and mount.store == store):
        raise MountpointBusy(_busy_with(mount, mountpoint))
    if mount is not None and (pid := writer_of(store)) is not None:
        raise MountpointBusy(f"{store} is mounted on {mountpoint} already, by process {pid}")
    if mount is None:
        _check_directory(mountpoint)
        _check_elsewhere(table, store)


def _check_elsewhere(table: MountTable, store: Path) -> None:
    mount = next(table.of_store(store), None)
    if mount is not None and (pid := writer_of(store)) is not None:
        raise StoreLocked(
            f"{store} is mounted on {mount.path} already, by process {pid}: use that, or say"
            f" 'fusefs umount {mount.path}' first"
        )


def _busy_with(mount: Mount, mountpoint: Path) -> str:
    what = os.fsdecode(mount.fstype) + " of " + os.fsdecode(mount.source)
    return f"{mountpoint} is a mount already ({what}): unmount it or choose another mountpoint"


def _check_directory(mountpoint: Path) -> None:
    try:
        with os.scandir(mountpoint) as entries:
            is_empty = next(entries, None) is None
    except FileNotFoundError as error:
        raise MountpointMissing(f"{mountpoint} does not exist: mkdir it") from error
    except NotADirectoryError as error:
        raise MountpointMissing(f"{mountpoint} is not a directory: give an empty one") from error
    except OSError as error:
        raise MountpointMissing(
            f"{mountpoint} cannot be read ({error.strerror}): give an empty directory of your own"
        ) from error
    if not is_empty:
        raise MountpointNotEmpty(
            f"{mountpoint} is not empty and mounting would hide its files: give an empty directory"
        )


def clear_dead_mount(store: Path, mountpoint: Path) -> bool:
    """Take away a mount of `store` on `mountpoint` whose daemon is gone; True if there was one.

    Only for the holder of the lock of `store`: any mount of it that the table shows is dead then.
    """
    found = False
    while (mount := MountTable.read().at(os.fsencode(mountpoint))) is not None:
        if not (mount.is_fusefs and mount.store == store):
            break
        unmount(mountpoint, lazy=True)
        found = True
    return found


def unmount(mountpoint: Path, *, lazy: bool = False) -> None:
    """Unmount what is mounted at `mountpoint`; `lazy` detaches it even while it is in use.

    Blocks while the kernel hands its dirty pages to the daemon: never call it on the daemon's loop.
    Raises MountpointBusy, NotMounted, NotPermitted, MountError.
    """
    if os.geteuid() == 0:
        _umount2(mountpoint, _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0))
    else:
        _fusermount(mountpoint, ["-u", "-z"] if lazy else ["-u"])


def _umount2(mountpoint: Path, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(mountpoint), flags) != 0:
        raise _refusal(mountpoint, ctypes.get_errno())


def _fusermount(mountpoint: Path, flags: list[str]) -> None:
    command = ["fusermount3", *flags, "--", os.fspath(mountpoint)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C"},
            timeout=_FUSERMOUNT_TIMEOUT_S,
        )
    except FileNotFoundError as error:
        raise FuseUnavailable("fusermount3 is missing: apt install fuse3") from error
    except subprocess.TimeoutExpired as error:
        raise DaemonFailed(
            f"{mountpoint} could not be unmounted within {_FUSERMOUNT_TIMEOUT_S} s:"
            " its daemon does not answer"
        ) from error
    if done.returncode == 0:
        return
    said = done.stderr.decode(errors="replace").strip()
    for number in (EBUSY, EPERM, EINVAL):
        if os.strerror(number).lower() in said.lower():
            raise _refusal(mountpoint, number)
    if "not found in" in said:
        raise _refusal(mountpoint, EINVAL)
    raise MountError(f"{mountpoint} could not be unmounted: {said}")


def _refusal(mountpoint: Path, number: int) -> MountError | NotPermitted:
    if number == EBUSY:
        return MountpointBusy(
            f"{mountpoint} is in use: 'fuser -vm {mountpoint}' shows by whom,"
            f" 'fusefs umount --force {mountpoint}' cuts them off"
        )
    if number in (EPERM, EACCES):
        return NotPermitted(f"{mountpoint} was mounted by another user: unmount it as root")
    if number == EINVAL:
        return NotMounted(f"{mountpoint} is not a mount")
    return MountError(f"{mountpoint} could not be unmounted: {os.strerror(number)}")


def sync(path: Path | int) -> None:
    """syncfs(2): have the kernel hand all dirty pages of the mount at `path` to its daemon.

    Blocks on the daemon: never call it on the daemon's loop. Raises OSError.
    """
    descriptor = path if isinstance(path, int) else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        if descriptor is not path:
            os.close(descriptor)
