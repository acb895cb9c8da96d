"""Every error that fusefs raises on purpose, as one tree.

::

    FusefsError                     errno  exit
    |-- UsageError                  EINVAL    2   the command line makes no sense
    |-- SomeFailed                  EIO       3   some of several items failed, each was named
    |-- StoreError
    |   |-- NotAStore               ENOENT   10   the path holds no fusefs store
    |   |-- StoreExists             EEXIST   11   init on one, or on what is not empty
    |   |-- FormatTooNew            EPROTO   12   written by a later fusefs
    |   |-- StoreLocked             EBUSY    13   another process writes to this store
    |   |-- StoreDamaged            EIO      14   a record or a block does not verify
    |   |-- StoreReadOnly           EROFS    15   the disk under the store refuses writes
    |   |-- DiskFull                ENOSPC   16   the disk under the store is full
    |   |-- IndexSpace              ENOMEM   17   the index cannot be mapped or grown
    |   |-- NotLocal                EIO      18   content that is in remotes only
    |-- MountError
    |   |-- MountpointMissing       ENOENT   20
    |   |-- MountpointNotEmpty      ENOTEMPTY 21
    |   |-- MountpointBusy          EBUSY    22   something is mounted there, or still in use
    |   |-- FuseUnavailable         EACCES   23   no /dev/fuse, no right to use it, no fusermount3
    |   |-- NotMounted              EINVAL   24
    |   |-- DaemonFailed            EIO      25   the daemon died or does not answer
    |-- NoSuchPath                  ENOENT   30   a path inside a store that does not exist
    |-- NoSuchEntry                 ENOENT   31   no such entry in the trash
    |-- TargetExists                EEXIST   32   restore never overwrites
    |-- NotPermitted                EPERM    33
    |-- WrongState                  EBUSY    34   not possible in the state that it is in
    |-- InUse                       EBUSY    35   somebody has it open
    |-- BadPolicy                   EINVAL   36   a policy of the trash that does not parse
    |-- DamageFound                 EIO      40   fsck, rebuild, scrub: damage (each was named)
    |-- NoSuchUpload                ENOENT   50   never begun, finished, or given up
    |-- WrongUpload                 EINVAL   51   another upload has that file: token or size differ
    |-- SourceChanged               EAGAIN   52   the source of a copy changed while it was read
    |-- ContentDiffers              EIO      53   what arrived is not what was sent
    |-- RemoteError                 EREMOTEIO 60  something about a remote
    |   |-- RemoteUnreachable       EHOSTUNREACH 61  the network, or the server, for now: try again
    |   |-- RemoteDenied            EACCES   62   credentials that are wrong, missing or too weak
    |   |-- RemoteMissing           ENOENT   63   no such bucket, share or directory
    |   |-- RemoteFull              ENOSPC   64   it has no room
    |   |-- RemoteReadOnly          EROFS    65   it takes no writes
    |   |-- NoSuchObject            ENOENT   66   no such object in it
    |   |-- ObjectDamaged           EIO      67   an object is not what was stored
    |   |-- RemoteTaken             EBUSY    68   another store, or another machine, writes to it
    |   |-- BadRemote               EINVAL   69   a URL or a setting that makes no sense
    |   |-- WrongKey                EACCES   70   a passphrase or key that does not open it
    |   |-- NoSuchRemote            ENOENT   71   the store has no remote of that name
    |-- NotEnoughCopies             EBUSY    72   too few proved copies elsewhere to drop this one
    |-- TransferError
    |   |-- BadTransfer             EINVAL   80   no files, duplicate ids, an impossible pair
    |   |-- UnknownEndpoint         ENOENT   81   source or destination does not exist
    |   |-- PayloadTooLarge         EFBIG    82   over the limit of one transfer
    |   |-- NoSuchTransfer          ENOENT   83   never created, or pruned since
    |   |-- TransferFailed          EIO      84   it ended in failure; says of what
    |   |-- TransferCanceled        ECANCELED 85  it was canceled
    |   |-- TooManyTransfers        EAGAIN   86   queues are full: try again later
    |   |-- AlreadyRunning          EALREADY 87   transfers were started before
    |   |-- NotRunning              ENOTCONN 88   transfers were not started, or stopped since
    |-- Refused                     any       1   what a system call on the mount answers

Each class carries its errno and its exit code. Exit codes never change their meaning; a retired
number is not used again. Errors become errnos in ``fusefs.fuse.operations`` and exit codes in
``fusefs.cli.app``, nowhere else. A message names the thing and the way out, in one line.
"""

from collections.abc import Iterator
from errno import (
    EACCES,
    EAGAIN,
    EALREADY,
    EBUSY,
    ECANCELED,
    EDQUOT,
    EEXIST,
    EFBIG,
    EHOSTUNREACH,
    EINVAL,
    EIO,
    ENOENT,
    ENOMEM,
    ENOSPC,
    ENOTCONN,
    ENOTEMPTY,
    EPERM,
    EPROTO,
    EREMOTEIO,
    EROFS,
)


class FusefsError(Exception):
    """Root of the tree. ``str(error)`` is one line for people."""

    errno: int = EIO
    exit_code: int = 1


class UsageError(FusefsError):
    """The command line makes no sense."""

    errno = EINVAL
    exit_code = 2


class SomeFailed(FusefsError):
    """Some of several items failed; each one was reported by itself."""

    errno = EIO
    exit_code = 3


class StoreError(FusefsError):
    """Something about the backing directory."""


class NotAStore(StoreError):
    """The path holds no fusefs store."""

    errno = ENOENT
    exit_code = 10


class StoreExists(StoreError):
    """A store cannot be made where something is already."""

    errno = EEXIST
    exit_code = 11


class FormatTooNew(StoreError):
    """The store was written by a later fusefs."""

    errno = EPROTO
    exit_code = 12


class StoreLocked(StoreError):
    """Another process writes to this store."""

    errno = EBUSY
    exit_code = 13


class StoreDamaged(StoreError):
    """A record, an index row or a block does not verify."""

    errno = EIO
    exit_code = 14


class StoreReadOnly(StoreError):
    """The disk under the store refuses writes."""

    errno = EROFS
    exit_code = 15


class DiskFull(StoreError):
    """The disk under the store is full, or full up to its reserve."""

    #: What the operating system says when there is no room.
    errnos = frozenset({ENOSPC, EDQUOT})
    errno = ENOSPC
    exit_code = 16


class IndexSpace(StoreError):
    """The index cannot be mapped or grown: too little address space."""

    errno = ENOMEM
    exit_code = 17


class NotLocal(StoreError):
    """Content that is in remotes only, and was not fetched yet or cannot be had just now.

    `segment`, `offset`, `size`: where it lies in the log.
    """

    errno = EIO
    exit_code = 18

    def __init__(self, message: str, segment: int = 0, offset: int = 0, size: int = 0) -> None:
        super().__init__(message)
        self.segment = segment
        self.offset = offset
        self.size = size


class MountError(FusefsError):
    """Something about the mountpoint or about FUSE."""


class MountpointMissing(MountError):
    """The mountpoint is not there or is no directory."""

    errno = ENOENT
    exit_code = 20


class MountpointNotEmpty(MountError):
    """Mounting would hide files."""

    errno = ENOTEMPTY
    exit_code = 21


class MountpointBusy(MountError):
    """Something is mounted there already, or files in it are still in use."""

    errno = EBUSY
    exit_code = 22


class FuseUnavailable(MountError):
    """/dev/fuse or fusermount3 is missing or may not be used."""

    errno = EACCES
    exit_code = 23


class NotMounted(MountError):
    """The path is not a fusefs mount."""

    errno = EINVAL
    exit_code = 24


class DaemonFailed(MountError):
    """The mount daemon died or does not answer."""

    errno = EIO
    exit_code = 25


class NoSuchPath(FusefsError):
    """A path inside a store that does not exist."""

    errno = ENOENT
    exit_code = 30


class NoSuchEntry(FusefsError):
    """No such entry in the trash."""

    errno = ENOENT
    exit_code = 31


class TargetExists(FusefsError):
    """Restore never overwrites."""

    errno = EEXIST
    exit_code = 32


class NotPermitted(FusefsError):
    """The caller may not do that."""

    errno = EPERM
    exit_code = 33


class WrongState(FusefsError):
    """An operation that the state of a thing, such as an entry of the trash, does not allow."""

    errno = EBUSY
    exit_code = 34


class InUse(FusefsError):
    """Somebody has it open."""

    errno = EBUSY
    exit_code = 35


class BadPolicy(FusefsError):
    """A policy of the trash that does not parse."""

    errno = EINVAL
    exit_code = 36


class DamageFound(FusefsError):
    """fsck, rebuild or scrub found damage; each piece was named in the report."""

    errno = EIO
    exit_code = 40


class NoSuchUpload(FusefsError):
    """An upload that was never begun, is finished, or was given up."""

    errno = ENOENT
    exit_code = 50


class WrongUpload(FusefsError):
    """The file belongs to another upload: its token, size or name is not the one given."""

    errno = EINVAL
    exit_code = 51


class SourceChanged(FusefsError):
    """The source of a copy changed while it was read."""

    errno = EAGAIN
    exit_code = 52


class ContentDiffers(FusefsError):
    """What arrived is not what was sent."""

    errno = EIO
    exit_code = 53


class RemoteError(FusefsError):
    """Something about a remote."""

    errno = EREMOTEIO
    exit_code = 60


class RemoteUnreachable(RemoteError):
    """The network or the server fails for now: the same call may succeed later."""

    errno = EHOSTUNREACH
    exit_code = 61


class RemoteDenied(RemoteError):
    """Credentials that are wrong, missing or too weak; or clocks that differ too much."""

    errno = EACCES
    exit_code = 62


class RemoteMissing(RemoteError):
    """The bucket, share or directory does not exist."""

    errno = ENOENT
    exit_code = 63


class RemoteFull(RemoteError):
    """The remote has no room, or a quota is used up."""

    errno = ENOSPC
    exit_code = 64


class RemoteReadOnly(RemoteError):
    """The remote takes no writes."""

    errno = EROFS
    exit_code = 65


class NoSuchObject(RemoteError):
    """No such object in the remote."""

    errno = ENOENT
    exit_code = 66


class ObjectDamaged(RemoteError):
    """An object is not what was stored."""

    errno = EIO
    exit_code = 67


class RemoteTaken(RemoteError):
    """Another store, or the same on another machine, writes to the remote."""

    errno = EBUSY
    exit_code = 68


class BadRemote(RemoteError):
    """A URL or a setting that makes no sense; the message names its key."""

    errno = EINVAL
    exit_code = 69


class WrongKey(RemoteError):
    """A passphrase or a key that does not open the remote or the store."""

    errno = EACCES
    exit_code = 70


class NoSuchRemote(RemoteError):
    """The store has no remote of that name."""

    errno = ENOENT
    exit_code = 71


class NotEnoughCopies(FusefsError):
    """Too few proved copies elsewhere to drop the one here."""

    errno = EBUSY
    exit_code = 72


class TransferError(FusefsError):
    """Something about a transfer."""


class BadTransfer(TransferError):
    """A request for a transfer that makes no sense; nothing was recorded."""

    errno = EINVAL
    exit_code = 80


class UnknownEndpoint(TransferError):
    """A source or destination that does not exist."""

    errno = ENOENT
    exit_code = 81


class PayloadTooLarge(TransferError):
    """More than one transfer may carry."""

    errno = EFBIG
    exit_code = 82


class NoSuchTransfer(TransferError):
    """A transfer that was never created, or was pruned since."""

    errno = ENOENT
    exit_code = 83


class TransferFailed(TransferError):
    """A transfer that ended in failure."""

    errno = EIO
    exit_code = 84


class TransferCanceled(TransferError):
    """A transfer that was canceled."""

    errno = ECANCELED
    exit_code = 85


class TooManyTransfers(TransferError):
    """Queues are full: try again later."""

    errno = EAGAIN
    exit_code = 86


class AlreadyRunning(TransferError):
    """Transfers were started before."""

    errno = EALREADY
    exit_code = 87


class NotRunning(TransferError):
    """Transfers were not started, or were stopped since."""

    errno = ENOTCONN
    exit_code = 88


class Refused(FusefsError):
    """What a system call on the mount is answered with; carries its own errno."""

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message)
        self.errno = number


def named(name: object, message: str, otherwise: type[FusefsError] = FusefsError) -> FusefsError:
    """The error of the class of this name; of one that there is not, `otherwise`."""
    kind = next((kind for kind in _tree(FusefsError) if kind.__name__ == name), otherwise)
    return kind.__new__(kind, message)


def _tree(root: type[FusefsError]) -> Iterator[type[FusefsError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _tree(kind)


def of_disk(error: OSError, what: object) -> StoreError:
    """The error of the tree for what the operating system said about a part of a store."""
    kind = DiskFull if error.errno in DiskFull.errnos else StoreError
    return kind(f"{what}: {error.strerror}")
