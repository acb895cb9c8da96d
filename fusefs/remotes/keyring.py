"""The key slots of an encrypted remote: objects ``keys/<number>``, under their plain names.

A slot (model.keyslot) is readable by everybody who can read the remote: it is worth as much as its
passphrase. Whoever can delete from the remote can delete the slots, and with them the way to the
data: a remote that others can write to wants another one beside it.

Slots are never overwritten: a secret is changed by adding the new slot before the old one goes.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from fusefs.errors import BadRemote, NoSuchObject, WrongKey, WrongState
from fusefs.model import keyslot
from fusefs.model.keyslot import Random, Secret, Slot, Strength
from fusefs.remotes.api import Remote

FOLDER = "keys/"


def secret(secrets: Mapping[str, str]) -> Secret | None:
    """What opens an encrypted remote, of the secrets that belong to it, or None where nothing is.

    The key file wins over the passphrase. Raises BadRemote where it cannot be read.
    """
    try:
        if path := secrets.get("key_file"):
            if not path.startswith("/"):
                raise ValueError("key_file: give the path from the root, such as /etc/fusefs/key")
            return read_key_file(Path(path))
        if text := secrets.get("passphrase"):
            return keyslot.passphrase(text)
    except ValueError as error:
        raise BadRemote(f"secrets: {error}") from error
    return None


def read_key_file(path: Path) -> Secret:
    """The secret of the key file at `path`. Raises ValueError with the reason."""
    try:
        with path.open("rb") as file:
            content = file.read(keyslot.MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"the key file {path} cannot be read: {error.strerror}") from error
    try:
        return keyslot.key_file(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def is_encrypted(remote: Remote) -> bool:
    """Whether there are key slots: then nothing but through them makes sense there."""
    return any(True for _ in remote.list(FOLDER))


def slots(remote: Remote) -> dict[int, Slot]:
    """The slots by their numbers, in order; what is none, or of a later fusefs, is left out."""
    found: dict[int, Slot] = {}
    for number in sorted(_numbers(remote)):
        with suppress(NoSuchObject, msgspec.MsgspecError):
            text = remote.get(f"{FOLDER}{number}", 0, keyslot.MAX_SLOT_BYTES)
            found[number] = keyslot.unpack(text)
    return found


def create(
    remote: Remote,
    secret: Secret,
    *,
    created: str,
    random: Random = os.urandom,
    strength: Strength | None = None,
) -> bytes:
    """Give an empty remote its data key, in one slot; the data key.

    Where another did so at the same time, and `secret` opens what he made, his. Raises BadRemote
    where the remote holds objects already, WrongKey, and what the remote raises.
    """
    if not is_encrypted(remote):
        if any(True for _ in remote.list("")):
            raise BadRemote(
                f"{remote.place} holds objects that are not encrypted: give an empty place"
            )
        data_key = random(keyslot.KEY_SIZE)
        slot = keyslot.wrap(
            data_key, secret, label="first", created=created, random=random, strength=strength
        )
        remote.put(f"{FOLDER}1", keyslot.pack(slot))
    # What is there now is the truth, whoever wrote it.
    return unlock(remote, secret)


def unlock(remote: Remote, secret: Secret) -> bytes:
    """The data key. Raises BadRemote where nothing is encrypted, WrongKey."""
    return opened(remote, secret)[1]


def opened(remote: Remote, secret: Secret) -> tuple[int, bytes]:
    """(number of the slot that `secret` opens, data key). Raises as `unlock`."""
    found = slots(remote)
    if not found:
        raise BadRemote(f"{remote.place} is not encrypted: it holds no key slot that can be read")
    if (one := keyslot.search(found, secret)) is not None:
        return one
    kinds = " or ".join(sorted({slot.kind for slot in found.values()}))
    raise WrongKey(
        f"{remote.place} is not opened by this {secret.kind}: give a {kinds} of one of its"
        f" {len(found)} key slots"
    )


def add(
    remote: Remote,
    data_key: bytes,
    secret: Secret,
    *,
    label: str,
    created: str,
    random: Random = os.urandom,
    strength: Strength | None = None,
) -> int:
    """Let `secret` open the remote as well; the number of its slot, the lowest that is free.

    Raises WrongState where there are too many.
    """
    slot = keyslot.wrap(
        data_key, secret, label=label, created=created, random=random, strength=strength
    )
    packed = keyslot.pack(slot)
    taken = _numbers(remote)
    for number in (n for n in range(1, keyslot.MAX_SLOTS + 1) if n not in taken):
        # Another may take the number at this moment; a put that was repeated says that somebody
        # had it. What is there afterwards tells whose it is.
        remote.put(f"{FOLDER}{number}", packed)
        if remote.get(f"{FOLDER}{number}") == packed:
            return number
    raise WrongState(
        f"{remote.place} has {keyslot.MAX_SLOTS} key slots, the most possible: remove one"
    )


def remove(remote: Remote, number: int, data_key: bytes) -> None:
    """Take a slot away, whoever knows its secret.

    `data_key`: proves that another slot opens, and is known to the caller. Raises BadRemote where
    there is no such slot, WrongState where no other holds the same key.
    """
    found, numbers = slots(remote), _numbers(remote)
    if number not in numbers:
        have = ", ".join(map(str, sorted(numbers))) or "none"
        raise BadRemote(f"{remote.place} has no key slot {number}: it has {have}")
    its_id = keyslot.key_id(data_key)
    if not any(slot.key_id == its_id for other, slot in found.items() if other != number):
        raise WrongState(
            f"key slot {number} of {remote.place} is the last: without it nothing there could be"
            " read any more; add another first"
        )
    remote.delete(f"{FOLDER}{number}")


def _numbers(remote: Remote) -> set[int]:
    """The slots that there are, readable or not."""
    possible = {f"{FOLDER}{number}": number for number in range(1, keyslot.MAX_SLOTS + 1)}
    return {possible[found.name] for found in remote.list(FOLDER) if found.name in possible}
