r"""One file from one place to another, so that it can be cut off anywhere and gone on with.

Where the destination can go on with files::

    source --blocks of 1 MiB--> .partial/N          the bytes
                   \--BLAKE3--> .partial/N.blocks   what the source had: header, a digest a block
    .partial/N --read back, each block against its digest--> rename to the final name

A bad block is fetched again and replaced, nothing else. What is behind the last whole block, and
behind the last digest, is cut off before a file is gone on with; so no block counts that was not
both sent and noted. The digests are of what the source had when the block was read, and are bound
to its version: another version begins anew.

Elsewhere the file comes whole under the temporary name and is read back from there as well.

The temporaries of a transfer lie in one folder, so that names may be as long as they like; it goes
when the transfer ends. Whatever one that was cut off has moved already is verified again and not
sent again.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256

from blake3 import blake3

from fusefs.base import failpoints
from fusefs.errors import (
    ContentDiffers,
    NoSuchObject,
    RemoteUnreachable,
    SourceChanged,
)
from fusefs.remotes.files import Files, Reader, Seen, Writer, read_fully
from fusefs.transfers import manifest
from fusefs.transfers.api import Moved

BLOCK = 1 << 20
#: Blocks between two times that they are made durable: on a slow disk all at once would take so
#: long that the move looked stalled.
_SYNC_EVERY = 64
_DIGEST = 32
#: How often bad blocks of one file are sent again before it is given up.
_MENDINGS = 3

#: Told how many bytes are good at the destination, and how many were sent this time; may raise to
#: end it all.
Tick = Callable[[int, int], None]


class Carrying:
    """One file: from `path` to `folder`/`path`, its temporary being named by `number`. Blocks."""

    def __init__(
        self, source: Files, target: Files, path: bytes, folder: bytes, number: int
    ) -> None:
        self._source = source
        self._target = target
        self._path = path
        self._final = folder + b"/" + path
        self._temporary = b"%b/%b/%d" % (folder, manifest.PARTIAL, number)
        self._noted = self._temporary + b".blocks"
        self._sent = 0

    def run(self, tick: Tick) -> Moved:
        """Raises as `Carrier.move`, and what `tick` raises."""
        seen = self._source.look(self._path)
        if seen is None:
            raise NoSuchObject(f"{self._source.place}: {_shown(self._path)} does not exist")
        try:
            return self._run(seen, tick)
        except NoSuchObject as error:
            if self._source.look(self._path) is None:
                raise
            raise RemoteUnreachable(f"a temporary has vanished: {error}") from error

    def _run(self, seen: Seen, tick: Tick) -> Moved:
        self._target.check_fits(self._path, seen.size)
        if not self._target.capabilities.can_resume:
            return self._run_whole(seen, tick)
        with closing(self._source.reader(self._path)) as reader:
            return self._run_resumable(seen, reader, tick)

    # -- where files can be gone on with

    def _run_resumable(self, seen: Seen, reader: Reader, tick: Tick) -> Moved:
        digests = self._digests_noted(seen)
        if (found := self._moved_before(seen, digests, tick)) is not None:
            return Moved(seen.size, *found, 0, seen.size)
        kept = self._kept(digests, seen.size)
        tick(min(kept * BLOCK, seen.size), 0)
        self._send(seen, reader, digests, kept, tick)
        failpoints.hit("move.sent")
        for _ in range(_MENDINGS):
            found, bad = self._verify(self._temporary, seen, digests, tick)
            if not bad:
                break
            self._mend(seen, reader, digests, bad)
        else:
            self._drop()
            raise ContentDiffers(
                f"{self._target.place}: what arrives of {_shown(self._path)} is not what was sent"
            )
        self._require_unchanged(seen)
        failpoints.hit("move.verified")
        tick(seen.size, self._sent)
        self._target.rename(self._temporary, self._final)
        failpoints.hit("move.renamed")
        return Moved(seen.size, *found, self._sent, min(kept * BLOCK, seen.size))

    def _moved_before(
        self, seen: Seen, digests: list[bytes], tick: Tick
    ) -> tuple[bytes, bytes] | None:
        """Its hashes, where the file has its final name already: we were cut off just then."""
        if len(digests) < -(-seen.size // BLOCK):
            return None
        final = self._target.look(self._final)
        if final is None or final.size != seen.size:
            return None
        found, bad = self._verify(self._final, seen, digests, tick)
        return None if bad else found

    def _header(self, seen: Seen) -> bytes:
        """Of the notes; as long as a digest, so that they are a table of one column."""
        return blake3(f"blocks of {BLOCK}, {seen.size} bytes, {seen.version}".encode()).digest()

    def _digests_noted(self, seen: Seen) -> list[bytes]:
        """Of the blocks that were sent of this version of the source."""
        if seen.size <= BLOCK or (noted := self._target.look(self._noted)) is None:
            return []
        try:
            with closing(self._target.reader(self._noted)) as reader:
                content = read_fully(reader, 0, noted.size)
        except NoSuchObject:
            return []
        if content[:_DIGEST] != self._header(seen):
            return []
        whole = len(content) - len(content) % _DIGEST
        return [content[at : at + _DIGEST] for at in range(_DIGEST, whole, _DIGEST)]

    def _kept(self, digests: list[bytes], size: int) -> int:
        """How many blocks are there and noted; forgets the digests of others."""
        found = self._target.look(self._temporary)
        there = (
            0 if found is None else found.size // BLOCK + (found.size == size and size % BLOCK > 0)
        )
        kept = min(there, len(digests))
        del digests[kept:]
        return kept

    def _send(
        self, seen: Seen, reader: Reader, digests: list[bytes], kept: int, tick: Tick
    ) -> None:
        with (
            closing(self._target.writer(self._temporary, min(kept * BLOCK, seen.size))) as writer,
            self._notes(seen, kept) as notes,
        ):
            for start in range(kept * BLOCK, seen.size, BLOCK):
                block = self._read_block(reader, start, seen.size)
                writer.write(block)
                digests.append(blake3(block).digest())
                if notes:
                    notes.write(digests[-1])
                self._sent += len(block)
                failpoints.hit("move.block")
                tick(start + len(block), self._sent)
                if len(digests) % _SYNC_EVERY == 0:
                    writer.sync()
            writer.sync()

    @contextmanager
    def _notes(self, seen: Seen, kept: int) -> Iterator[Writer | None]:
        """None where the file is so small that it is sent again instead."""
        if seen.size <= BLOCK:
            yield None
            return
        with closing(
            self._target.writer(self._noted, _DIGEST * (kept + 1) if kept else 0)
        ) as notes:
            if not kept:
                notes.write(self._header(seen))
            yield notes

    def _verify(
        self, path: bytes, seen: Seen, digests: list[bytes], tick: Tick
    ) -> tuple[tuple[bytes, bytes], list[int]]:
        """BLAKE3 and SHA-256 of a file, and where those of its blocks begin that are not right."""
        whole, other, bad = blake3(), sha256(), list[int]()
        with closing(self._target.reader(path)) as reader:
            for number, digest in enumerate(digests):
                start = number * BLOCK
                block = read_fully(reader, start, min(BLOCK, seen.size - start))
                if blake3(block).digest() != digest:
                    bad.append(start)
                whole.update(block)
                other.update(block)
                tick(seen.size, self._sent)
        return (whole.digest(), other.digest()), bad

    def _mend(self, seen: Seen, source: Reader, digests: list[bytes], bad: list[int]) -> None:
        """Send bad blocks of the temporary again."""
        for start in bad:
            block = self._read_block(source, start, seen.size)
            if blake3(block).digest() != digests[start // BLOCK]:
                self._drop()  # the notes are of another source, or rotten
                raise SourceChanged(
                    f"{self._source.place}: {_shown(self._path)} changed while it was moved"
                )
            self._target.patch(self._temporary, start, block)
            self._sent += len(block)

    # -- where they come whole

    def _run_whole(self, seen: Seen, tick: Tick) -> Moved:
        whole, other = blake3(), sha256()
        with closing(self._source.reader(self._path)) as reader:

            def blocks() -> Iterator[bytes]:
                for start in range(0, seen.size, BLOCK):
                    block = self._read_block(reader, start, seen.size)
                    whole.update(block)
                    other.update(block)
                    yield block
                    self._sent += len(block)
                    failpoints.hit("move.block")
                    tick(self._sent, self._sent)

            self._target.write_whole(self._temporary, blocks())
        self._require_unchanged(seen)
        failpoints.hit("move.sent")
        found = blake3()
        with closing(self._target.reader(self._temporary)) as reader:
            for start in range(0, seen.size, BLOCK):
                found.update(read_fully(reader, start, min(BLOCK, seen.size - start)))
                tick(seen.size, self._sent)
        if found.digest() != whole.digest():
            self._drop()
            raise ContentDiffers(
                f"{self._target.place}: what arrived of {_shown(self._path)} is not what was sent"
            )
        failpoints.hit("move.verified")
        tick(seen.size, self._sent)
        self._target.rename(self._temporary, self._final)
        failpoints.hit("move.renamed")
        return Moved(seen.size, whole.digest(), other.digest(), self._sent)

    # -- both

    def _read_block(self, reader: Reader, start: int, size: int) -> bytes:
        block = read_fully(reader, start, min(BLOCK, size - start))
        if len(block) < min(BLOCK, size - start):
            raise SourceChanged(
                f"{self._source.place}: {_shown(self._path)} became shorter while it was read"
            )
        return block

    def _require_unchanged(self, seen: Seen) -> None:
        """Raises SourceChanged, and keeps nothing then."""
        now = self._source.look(self._path)
        if now is None or now.version != seen.version:
            self._drop()
            raise SourceChanged(
                f"{self._source.place}: {_shown(self._path)} changed while it was moved"
            )

    def _drop(self) -> None:
        self._target.remove(self._temporary)
        self._target.remove(self._noted)


def _shown(path: bytes) -> str:
    return path.decode(errors="backslashreplace")
