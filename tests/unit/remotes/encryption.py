"""An encrypted remote in memory, and the raw one below it, for tests that look at both."""

from collections.abc import Callable
from itertools import count

from fusefs.model import keyslot
from fusefs.model.keyslot import Strength
from fusefs.remotes import encrypted
from fusefs.remotes.api import Remote
from fusefs.remotes.encrypted import Encrypted
from fusefs.remotes.memory import MemoryRemote

SECRET = keyslot.passphrase("correct horse")
#: The least that argon2id does: its strength is not what these tests are about.
WEAK = Strength(passes=1, memory_kib=8, lanes=1)
CREATED = "2026-11-22T00:00:00Z"
_places = count()


def raw_remote() -> MemoryRemote:
    """A place of its own."""
    return MemoryRemote(f"memory://{__name__}-{next(_places)}")


def encrypted_remote(inner: Remote | None = None) -> Encrypted:
    return encrypted.initialise(inner or raw_remote(), SECRET, created=CREATED, strength=WEAK)


def counted_random(start: int = 0) -> Callable[[int], bytes]:
    """Random bytes that are the same in every run: 00 01 02 ..., going on where it was."""
    following = count(start)
    return lambda size: bytes(next(following) & 0xFF for _ in range(size))


def replace(remote: MemoryRemote, name: str, content: bytes) -> None:
    """What a remote never does by itself."""
    remote.delete(name)
    assert remote.put(name, content)


def only_name(remote: MemoryRemote) -> str:
    """The one object that is no key slot."""
    (name,) = (found.name for found in remote.list("") if not found.name.startswith("keys/"))
    return name
