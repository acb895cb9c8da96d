"""Hints: the first bytes of a block's BLAKE3 -> its number, to find a block stored before.

An LMDB environment of its own, never synced. Every hit is checked against the full hash in the
index, so a hint may be missing, stale or wrong and costs at most a block stored twice. After an
unclean stop the environment is thrown away and filled again in the background; so it is where it
is not what the last stop left, by the sum in ``clean``, because LMDB trusts its pages. (The hash as
the key of the main index would spread each checkpoint over thousands of pages.)

Where the disk has no room for hints, or refuses them, the store goes on without.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import lmdb
from blake3 import blake3

_PREFIX = 10
_CLEAN = "clean"
_DATA = "data.mdb"
_PIECE = 4 << 20
#: Each dirties a page of its own in a large environment, and LMDB keeps the memory of as many pages
#: as it ever had at a time.
_PUTS_OF_A_TRANSACTION = 1024


class Hints:
    """STORE/hints. `needs_refill` says that it was thrown away at opening."""

    _is_open = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._puts = 0
        self._environment: Any
        self._transaction: Any
        self.needs_refill = True
        with suppress(OSError):
            self.needs_refill = not self._is_as_left()
        self._open()

    def _is_as_left(self) -> bool:
        """Whether a clean stop left it and nothing came upon it since; the next stop is to tell."""
        clean = self._path / _CLEAN
        if not clean.exists():
            return False
        told = clean.read_bytes()
        clean.unlink()
        return told == self._sum()

    def _sum(self) -> bytes:
        # Not through a map, all of which would count as memory of this process meanwhile.
        digest = blake3(max_threads=blake3.AUTO)
        buffer = memoryview(bytearray(_PIECE))
        with open(self._path / _DATA, "rb", buffering=0) as file:
            while size := file.readinto(buffer):
                digest.update(buffer[:size])
        return digest.digest()

    def _open(self) -> None:
        try:
            if self.needs_refill:
                shutil.rmtree(self._path, ignore_errors=True)
                self._path.mkdir(mode=0o700, exist_ok=True)
                if (self._path / _DATA).exists():
                    return
            self._environment = lmdb.open(
                os.fsencode(self._path), map_size=64 << 20, sync=False, metasync=False,
                max_readers=1,
            )  # fmt: skip
            self._transaction = self._environment.begin(write=True)
        except (lmdb.Error, OSError):
            return
        self._is_open = True

    def get(self, digest: bytes) -> int | None:
        """The number that a block with this hash may have."""
        value = self._transaction.get(digest[:_PREFIX]) if self._is_open else None
        return int.from_bytes(value, "big") if value else None

    def put(self, digest: bytes, number: int) -> None:
        """Note where a block of this hash is. Losing the note is no error."""
        if not self._is_open:
            return
        try:
            self._transaction.put(digest[:_PREFIX], number.to_bytes(8, "big"))
        except lmdb.Error:
            self._renew()
        else:
            self._puts += 1
            if self._puts % _PUTS_OF_A_TRANSACTION == 0:
                self._turn_over()

    def close(self) -> None:
        """Keep what is there for the next opening, if it is complete."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            self._transaction.commit()
            self._environment.sync(True)
        except lmdb.Error:
            return
        finally:
            self._environment.close()
        if not self.needs_refill:
            with suppress(OSError):
                (self._path / _CLEAN).write_bytes(self._sum())

    def abandon(self) -> None:
        """Let go of it as it stands; the next opening throws it away."""
        if self._is_open:
            self._is_open = False
            self._transaction.abort()
            self._environment.close()

    def __del__(self) -> None:
        self.abandon()  # see Index.__del__

    def _turn_over(self) -> None:
        """Commit, so that dirty pages do not pile up, and grow the map where it fills."""
        try:
            self._transaction.commit()
            info = self._environment.info()
            if (info["last_pgno"] + 1) * 4096 * 2 > info["map_size"]:
                self._environment.set_mapsize(info["map_size"] * 2)
            self._transaction = self._environment.begin(write=True)
        except lmdb.Error:
            self._renew()

    def _renew(self) -> None:
        """Begin an empty one: a full or failing disk must not stop writes for a hint."""
        self.abandon()
        self.needs_refill = True
        self._open()
