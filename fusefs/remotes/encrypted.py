"""A remote whose objects are encrypted: around another that sees neither contents nor names.

What the other sees are how many objects there are, how large each is to within some bytes, when
they came and went, and which are read together. The format of an object is `remotes.sealed`'s,
of its name `remotes.veil`'s, of the keys `model.keyslot`'s.
"""

import os
from collections.abc import Collection, Iterator, Mapping

from fusefs.errors import NoSuchObject, ObjectDamaged, WrongKey
from fusefs.model.keyslot import Random, Secret, Strength, subkey
from fusefs.remotes import keyring, sealed
from fusefs.remotes.api import Buffer, Found, Remote
from fusefs.remotes.around import Around
from fusefs.remotes.names import check_name, check_prefix
from fusefs.remotes.sealed import CHUNK_SIZE, FRAME_SIZE, HEAD_SIZE
from fusefs.remotes.veil import Veil


def open_encrypted(remote: Remote, secret: Secret, random: Random = os.urandom) -> "Encrypted":
    """The plain face of an encrypted remote.

    Raises WrongKey, BadRemote where it is not encrypted, and what the remote raises.
    """
    return Encrypted(remote, keyring.unlock(remote, secret), random)


def open_with(remote: Remote, secrets: Mapping[str, str]) -> "Encrypted":
    """As `open_encrypted`, by the key file or the passphrase among the remote's `secrets`.

    Raises WrongKey where there is neither.
    """
    return Encrypted(remote, data_key(remote, secrets))


def data_key(remote: Remote, secrets: Mapping[str, str]) -> bytes:
    """The key of all that is encrypted there. Raises as `open_with`."""
    secret = keyring.secret(secrets)
    if secret is None:
        raise WrongKey(
            f"{remote.place} is encrypted: put passphrase = or key_file = where --secrets reads it"
        )
    return keyring.unlock(remote, secret)


def initialise(
    remote: Remote,
    secret: Secret,
    *,
    created: str,
    random: Random = os.urandom,
    strength: Strength | None = None,
) -> "Encrypted":
    """Make an empty remote an encrypted one, or open what is one already.

    `created`: UTC, for people. Raises as `open_encrypted`, and BadRemote where plain objects are.
    """
    data_key = keyring.create(remote, secret, created=created, random=random, strength=strength)
    return Encrypted(remote, data_key, random)


class Encrypted(Around):
    """A remote around another, under a data key."""

    def __init__(self, remote: Remote, data_key: bytes, random: Random = os.urandom) -> None:
        super().__init__(remote)
        self._key = subkey(data_key, "content")
        self._veil = Veil.of(data_key)
        self._random = random

    def put(self, name: str, content: Buffer) -> bool:
        check_name(name)
        salt = self._random(sealed.SALT_SIZE)
        with memoryview(content) as view:
            frames = b"".join(
                [
                    sealed.head(self._veil.head(name)),
                    *sealed.seal(self._key, name.encode(), salt, view),
                ]
            )
        return self.remote.put(self._veil.cover(name), frames)

    def get(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """As in the seam; raises ObjectDamaged too."""
        check_name(name)
        first = start // CHUNK_SIZE
        at = self._start(first)
        if size is None:
            raw = self.remote.get(self._veil.cover(name), at)
            is_end_due = True
        else:
            frames = (start + max(size, 1) - 1) // CHUNK_SIZE + 1 - first
            wanted = frames * FRAME_SIZE + (0 if first else HEAD_SIZE)
            raw = self.remote.get(self._veil.cover(name), at, wanted)
            is_end_due = len(raw) < wanted
        if first and not raw:
            self._check_end(name, first)
            return b""
        plain = self._opened(name, first, raw, is_end_due)
        skipped = start - first * CHUNK_SIZE
        return plain[skipped : None if size is None else skipped + size]

    def sizes(self, names: Collection[str]) -> dict[str, int]:
        plain = {self._veil.cover(check_name(name)): name for name in names}
        found = self.remote.sizes(plain.keys())
        return {plain[covered]: sealed.plain_size(size) for covered, size in found.items()}

    def list(self, prefix: str) -> Iterator[Found]:
        """As in the seam; what no holder of the key put there is not listed."""
        check_prefix(prefix)
        inside = f"{self._veil.folder(prefix)}/" if prefix else ""
        for found in self.remote.list(inside):
            name = self._name(found.name)
            if name is not None and name.startswith(prefix):
                yield Found(name, sealed.plain_size(found.size), found.modified_ns)

    def delete(self, name: str) -> bool:
        return self.remote.delete(self._veil.cover(check_name(name)))

    def _opened(self, name: str, first: int, raw: bytes, is_end_due: bool) -> bytes:
        """The content of `raw`, which begins with the frame `first`, or the head where that is 0.

        `is_end_due`: the object must end there.
        """
        view = memoryview(raw)
        if not first:
            if raw[:HEAD_SIZE] != sealed.head(self._veil.head(name)):
                raise self._damaged(name, "its head does not verify")
            view = view[HEAD_SIZE:]
        try:
            plain, is_end = sealed.unseal(self._key, name.encode(), first, view)
        except ObjectDamaged as error:
            raise self._damaged(name, str(error)) from error
        if is_end_due and not is_end:
            raise self._damaged(name, "its end is missing")
        return plain

    def _check_end(self, name: str, first: int) -> None:
        """Prove that the object ends before its frame `first`, of which nothing was there."""
        covered = self._veil.cover(name)
        size = self.remote.sizes([covered]).get(covered)
        if size is None:
            raise NoSuchObject(f"{self.place} has no object {name}")
        last = max(0, sealed.plain_size(size) - 1) // CHUNK_SIZE
        if last >= first:
            raise self._damaged(name, "a part of it is missing")
        self._opened(name, last, self.remote.get(covered, self._start(last)), is_end_due=True)

    @staticmethod
    def _start(frame: int) -> int:
        """Where to read from for a frame: of the first one, the head too."""
        return HEAD_SIZE + frame * FRAME_SIZE if frame else 0

    def _name(self, covered: str) -> str | None:
        """The plain name of an object of the inner remote, or None where it is none of ours."""
        if not self._veil.is_covered(covered):
            return None
        if not self._veil.is_long(covered):
            return self._veil.uncover(covered)
        try:
            start = self.remote.get(covered, 0, HEAD_SIZE)
        except NoSuchObject:
            return None
        veiled = sealed.veiled_name(start)
        return None if veiled is None else self._veil.name_in_head(veiled, covered)

    def _damaged(self, name: str, why: str) -> ObjectDamaged:
        return ObjectDamaged(f"the object {name} in {self.place} is damaged: {why}")
