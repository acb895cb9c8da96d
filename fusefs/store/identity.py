"""STORE/fusefs.json, which makes a directory a store, and STORE/lock, which admits one writer."""

import errno
import fcntl
import mmap
import os
import re
import uuid
from contextlib import suppress
from pathlib import Path

import msgspec

from fusefs.base import durable
from fusefs.config.options import Compression, StoreOptions
from fusefs.errors import (
    FormatTooNew,
    NotAStore,
    StoreDamaged,
    StoreError,
    StoreExists,
    StoreLocked,
    StoreReadOnly,
    WrongKey,
    of_disk,
)
from fusefs.model.keyslot import Slot
from fusefs.store.cipher import Cipher

NAME = "fusefs.json"
LOCK = "lock"
#: What a clone has fetched, until it is a store: a lock, and objects by the hashes of their bytes.
CLONE = "clone"
_OF_CLONE = re.compile(r"lock|[0-9a-f]{64}(\.new)?")
#: What else a clone makes before the last step.
_HALF_CLONED = frozenset({CLONE, "segments", "index", "snapshot", NAME + ".new"})
#: Format of the whole store: a change that an older fusefs would misread raises it. A store of an
#: earlier one is read as it is, and becomes one of this with the first open for writing.
#: 2: the leaves of a block (model.block) are XXH3-64 of 16 KiB; they were BLAKE3 of 64 KiB.
FORMAT = 2
#: How the key of a store can be given.
WAYS = (
    "give what opens it by --key-file or --passphrase-file (of mount, fsck, rebuild and key), the"
    " mount option key_file=, a systemd credential fusefs.key, $FUSEFS_KEY_FILE, or at a terminal"
)
#: Features that this program knows; a store that requires another is refused.
ENCRYPTION = "encryption"
FEATURES: frozenset[str] = frozenset({ENCRYPTION})


class StoreIdentity(msgspec.Struct, frozen=True, omit_defaults=False):
    """What fusefs.json says.

    `requires`: features without which the store cannot be read, such as encryption.
    `mountpoint`: where a service mounts it, if init was told. `keys`: of an encrypted store, its
    data key, wrapped once for each passphrase or key file that opens it, by numbers from 1.
    """

    format: int
    uuid: str
    created_ns: int
    compression: Compression = "none"
    requires: tuple[str, ...] = ()
    mountpoint: str | None = None
    keys: dict[int, Slot] = {}

    @property
    def uuid_bytes(self) -> bytes:
        return uuid.UUID(self.uuid).bytes

    @property
    def is_encrypted(self) -> bool:
        return ENCRYPTION in self.requires

    def require_key(self, path: Path, cipher: Cipher | None) -> None:
        """Raises WrongKey where the store, at `path`, is encrypted and `cipher` is not its."""
        if self.is_encrypted and cipher is None:
            raise WrongKey(f"{path} is encrypted: {WAYS}")
        if cipher is not None and all(slot.key_id != cipher.key_id for slot in self.keys.values()):
            raise WrongKey(f"{path} is not encrypted by this key: {WAYS}")


def create(
    path: Path,
    options: StoreOptions,
    created_ns: int,
    mountpoint: str | None = None,
    slot: Slot | None = None,
) -> StoreIdentity:
    """What `path`, a new or empty directory, or one that an init left half made, is to be.

    `slot`: makes it an encrypted one. The file is written last by the caller's `write`, so that a
    directory is a store or is not.
    Raises StoreExists, StoreReadOnly, StoreError.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        require_new(path)
        if not os.access(path, os.W_OK):
            raise StoreReadOnly(f"{path} cannot be written: check the mount and its permissions")
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreExists(f"{path} is not a directory: give a new or an empty one") from error
    except OSError as error:
        raise _translate(error, path) from error
    return StoreIdentity(
        FORMAT,
        str(uuid.uuid4()),
        created_ns,
        options.compression,
        requires=() if slot is None else (ENCRYPTION,),
        mountpoint=mountpoint,
        keys={} if slot is None else {1: slot},
    )


def require_new(path: Path) -> None:
    """Raises StoreExists where a store, or anything else of use, is in the directory; OSError."""
    if not _is_half_made(path):
        what = "is a store already" if (path / NAME).exists() else "is not empty"
        raise StoreExists(f"{path} {what}: give a new or an empty directory")


def _is_half_made(path: Path) -> bool:
    """Whether nothing is there but what an init that was cut off leaves: no segment, no row."""
    names = set(os.listdir(path))
    if names - {"segments", "index", LOCK, NAME + ".new"}:
        return False
    index = path / "index" / "data.mdb"
    return not (
        ("segments" in names and os.listdir(path / "segments"))
        or (index.exists() and index.stat().st_size > 2 * mmap.PAGESIZE)  # LMDB's two meta pages
    )


def has_clone_begun(path: Path) -> bool:
    """Whether a clone fetched, or fetches, into `path`: no other directory is taken for that.

    Raises OSError.
    """
    return (path / CLONE).is_dir() and all(map(_OF_CLONE.fullmatch, os.listdir(path / CLONE)))


def is_half_cloned(path: Path) -> bool:
    """Whether nothing is there but what a clone leaves that was cut off. Raises OSError."""
    return has_clone_begun(path) and not set(os.listdir(path)) - _HALF_CLONED


def write(path: Path, identity: StoreIdentity) -> None:
    """Put `identity` into the store at `path`, durably."""
    encoded = msgspec.json.format(msgspec.json.encode(identity), indent=2)
    mode = 0o600 if identity.is_encrypted else 0o644
    durable.write_file(path / NAME, encoded + b"\n", mode)


def read(path: Path) -> StoreIdentity:
    """What the store at `path` is.

    Raises NotAStore, FormatTooNew, StoreDamaged.
    """
    try:
        text = (path / NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        with suppress(OSError):  # of a directory that is not ours
            if is_half_cloned(path):
                raise NotAStore(
                    f"{path} is a clone that was not finished: say 'fusefs clone URL {path}'"
                    " again, which goes on with it"
                ) from error
        raise NotAStore(
            f"{path} is not a fusefs store: make one with 'fusefs init {path}'"
        ) from error
    except OSError as error:
        raise _translate(error, path) from error
    try:
        number = msgspec.json.decode(text, type=_Probe).format
        if number > FORMAT:
            raise FormatTooNew(
                f"{path} has format {number}, this fusefs knows up to {FORMAT}: install a later one"
            )
        identity = msgspec.json.decode(text, type=StoreIdentity)
    except msgspec.MsgspecError as error:
        raise StoreDamaged(f"{path / NAME} cannot be read: {error}") from error
    if unknown := set(identity.requires) - FEATURES:
        raise FormatTooNew(
            f"{path} needs {', '.join(sorted(unknown))}, unknown to this fusefs:"
            " install a later one"
        )
    return identity


def upgrade(path: Path, known: StoreIdentity) -> None:
    """Make the store at `path`, which is locked, one of this format, durably, before anything is
    written to it that an older fusefs would misread. Raises DiskFull, StoreError."""
    if known.format == FORMAT:
        return
    try:
        write(path, msgspec.structs.replace(known, format=FORMAT))
    except OSError as error:
        raise of_disk(error, path / NAME) from error


class _Probe(msgspec.Struct):
    format: int


def lock(path: Path) -> int:
    """Become the one writer of the store; returns a descriptor, to be closed for unlocking.

    The pid stands in the file for people, where there is room. Raises StoreLocked, StoreReadOnly.
    """
    try:
        descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _translate(error, path) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StoreLocked(
            f"{path} is in use by process {owner}: unmount it there, or use its mountpoint"
        ) from error
    with suppress(OSError):  # a full disk is no reason not to mount
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _translate(error: OSError, path: Path) -> StoreError:
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StoreReadOnly(
            f"{path} cannot be written ({error.strerror}): check the mount and its permissions"
        )
    return of_disk(error, path)
