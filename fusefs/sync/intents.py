"""What a store is about to put into a remote, noted before in STORE/sync/<number of the remote>.

Found in the remote it is ours, whatever became of the answer; see `publish`.
"""

from pathlib import Path

import msgspec
from blake3 import blake3

from fusefs.base import durable
from fusefs.errors import of_disk


class Intent(msgspec.Struct, array_like=True):
    """`content` of the checkpoint that was put last, or is about to be; `digests` of it and of
    those that were to have that place before."""

    sequence: int
    digests: list[bytes]
    content: bytes


class Intents:
    """Of the store at `store`, for the remote that its row knows by `number`."""

    def __init__(self, store: Path, number: int) -> None:
        self._path = store / "sync" / f"{number:x}"

    def read(self) -> Intent | None:
        """The last one; None where that is not known any more."""
        try:
            return msgspec.msgpack.decode(self._path.read_bytes(), type=Intent)
        except (OSError, msgspec.MsgspecError):  # it is known again with the next checkpoint
            return None

    def write(self, sequence: int, content: bytes) -> Intent:
        """Note what is about to be put, durably. Raises DiskFull, StoreError."""
        before = self.read()
        digests = before.digests if before and before.sequence == sequence else []
        intent = Intent(sequence, [*digests, blake3(content).digest()], content)
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            durable.write_file(self._path, msgspec.msgpack.encode(intent))
        except OSError as error:
            raise of_disk(error, self._path) from error
        return intent

    def forget(self) -> None:
        """The store has no such remote any more. Raises StoreError."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise of_disk(error, self._path) from error
