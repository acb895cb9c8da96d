"""Which passphrases and key files open an encrypted store: the key slots in STORE/fusefs.json.

A slot (model.keyslot) holds the data key of the store, wrapped by one secret. Secrets come and go
without anything else being written again; a mounted store is not disturbed, it has its key. Slots
are in no other place than this file and the checkpoints in remotes: without it nothing in the store
can be read by anybody.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from fusefs.errors import StoreError, WrongKey, WrongState, of_disk
from fusefs.model import keyslot
from fusefs.model.keyslot import Random, Secret, Slot, Strength
from fusefs.store import identity
from fusefs.store.cipher import Cipher
from fusefs.store.identity import StoreIdentity


def first(
    secret: Secret,
    *,
    created: str,
    random: Random = os.urandom,
    strength: Strength | None = None,
) -> Slot:
    """The slot of a new data key, for a store to be."""
    data_key = random(keyslot.KEY_SIZE)
    return keyslot.wrap(
        data_key, secret, label="first", created=created, random=random, strength=strength
    )


def slots(path: Path) -> dict[int, Slot]:
    """The slots of the store at `path`, by number. Raises WrongState where it is not encrypted."""
    return _slots(path, identity.read(path))


def unlock(path: Path, secret: Secret) -> Cipher:
    """The keys of the store at `path`. Raises WrongKey; WrongState where it is not encrypted."""
    return Cipher(opened(path, secret)[1])


def opened(path: Path, secret: Secret) -> tuple[int, bytes]:
    """(number of the slot that `secret` opens, data key). Raises as `unlock`."""
    return _opened(path, slots(path), secret)


def add(
    path: Path,
    present: Secret,
    new: Secret,
    *,
    label: str,
    created: str,
    replacing: bool = False,
    random: Random = os.urandom,
    strength: Strength | None = None,
) -> tuple[int, int]:
    """Let `new` open the store as well, or, if `replacing`, instead of `present`; (number of the
    new slot, of the one that `present` opened).

    Raises as `unlock`, WrongState where there are too many slots, DiskFull, StoreError.
    """
    with _alone(path):
        known = identity.read(path)
        found = _slots(path, known)
        old, data_key = _opened(path, found, present)
        if replacing:
            del found[old]
        free = [n for n in range(1, keyslot.MAX_SLOTS + 1) if n not in known.keys]
        if not free:
            if not replacing:
                raise WrongState(
                    f"{path} has {keyslot.MAX_SLOTS} key slots, the most possible: remove one"
                )
            free = [old]
        found[free[0]] = keyslot.wrap(
            data_key, new, label=label, created=created, random=random, strength=strength
        )
        _write(path, known, found)
        return free[0], old


def remove(path: Path, present: Secret, number: int) -> None:
    """Take a slot away, whoever knows its secret; `present` opens one.

    Raises as `unlock`, WrongState where there is no such slot or no other, DiskFull, StoreError.
    """
    with _alone(path):
        known = identity.read(path)
        found = _slots(path, known)
        _opened(path, found, present)
        if number not in found:
            have = ", ".join(map(str, sorted(found)))
            raise WrongState(f"{path} has no key slot {number}: it has {have}")
        if len(found) == 1:
            raise WrongState(
                f"key slot {number} of {path} is the last: without it nothing in the store could be"
                " read any more; add another first"
            )
        del found[number]
        _write(path, known, found)


def _slots(path: Path, known: StoreIdentity) -> dict[int, Slot]:
    if not known.is_encrypted:
        raise WrongState(f"{path} is not encrypted: no key opens it")
    return dict(sorted(known.keys.items()))


def _opened(path: Path, found: dict[int, Slot], secret: Secret) -> tuple[int, bytes]:
    if (one := keyslot.search(found, secret)) is not None:
        return one
    kinds = " or ".join(sorted({slot.kind for slot in found.values()})) or "key"
    raise WrongKey(
        f"{path} is not opened by this {secret.kind}: its key slots are for a {kinds};"
        f" {identity.WAYS}"
    )


def _write(path: Path, known: StoreIdentity, found: dict[int, Slot]) -> None:
    try:
        identity.write(path, replace(known, keys=dict(sorted(found.items()))))
    except OSError as error:
        raise of_disk(error, path / identity.NAME) from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No other changes of slots meanwhile; a mount of the store is no hindrance."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
