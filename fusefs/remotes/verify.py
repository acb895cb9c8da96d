"""A remote that does not believe: what was put is looked at, what is got has the hash in its name.

Objects are named by content: where the last part of a name is 64 hexadecimal digits, it is the
BLAKE3 of the object. Other names pass unchecked. A part of an object cannot be checked here; who
asks for parts has sums of his own over what is in them.
"""

import re
from enum import Enum

from blake3 import blake3

from fusefs.errors import ObjectDamaged, RemoteUnreachable
from fusefs.remotes.api import Buffer, Remote
from fusefs.remotes.around import Around

_HEX = re.compile("[0-9a-f]{64}")


class Look(Enum):
    """How closely to look at what was put: at nothing, at its size, or at all of its bytes."""

    NOT = "not"
    SIZE = "size"
    BYTES = "bytes"


def digest_of(name: str) -> str | None:
    """The BLAKE3 in a name, as hexadecimal digits; None where it has none."""
    last = name.rpartition("/")[2]
    return last if _HEX.fullmatch(last) else None


class Verified(Around):
    """Raises ObjectDamaged for what is not as it was put; nothing damaged is returned."""

    def __init__(self, remote: Remote, look: Look = Look.SIZE) -> None:
        super().__init__(remote)
        self._look = look

    def put(self, name: str, content: Buffer) -> bool:
        """As the seam has it. What an earlier put left there damaged is replaced."""
        digest = digest_of(name)
        if digest and blake3(content).hexdigest() != digest:
            raise ObjectDamaged(f"{self.place}: {name}: these bytes are not of that name")
        for _ in range(2):
            is_new = self.remote.put(name, content)
            # What is there under a name that does not say what belongs there is another's affair.
            if (not is_new and not digest) or self._is_good(name, content):
                return is_new
            self.remote.delete(name)
        raise ObjectDamaged(f"{self.place}: {name}: the remote does not keep what is put")

    def get(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        got = self.remote.get(name, start, size)
        digest = digest_of(name) if start == 0 and size is None else None
        if digest and blake3(got).hexdigest() != digest:
            raise ObjectDamaged(f"{self.place}: {name}: its bytes are not what was stored")
        return got

    def _is_good(self, name: str, content: Buffer) -> bool:
        if self._look is Look.NOT:
            return True
        if self._look is Look.BYTES:
            return self.remote.get(name) == bytes(content)
        there = self.remote.sizes([name])
        if name not in there:
            raise RemoteUnreachable(f"{self.place}: {name}: stored, and not visible yet")
        return there[name] == memoryview(content).nbytes
