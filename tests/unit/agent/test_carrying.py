"""One file, cut off anywhere: what is sent again, what is verified, what never gets its name."""

import os
import random
from pathlib import Path

import pytest
from blake3 import blake3

from fusefs.agent.carrying import BLOCK, Carrying
from fusefs.errors import ContentDiffers, NoSuchObject, SourceChanged
from fusefs.remotes.api import Buffer
from fusefs.remotes.local_files import LocalFiles, LocalWriter
from fusefs.transfers.api import Moved

BLOCKS = 6
SIZE = (BLOCKS - 1) * BLOCK + 4321


class Cut(Exception):
    """The agent dies here."""


class Box:
    """A source, a destination, and one file between them."""

    def __init__(self, root: Path) -> None:
        self.source, self.target = root / "source", root / "target"
        self.source.mkdir()
        self.target.mkdir()
        self.file = self.source / "f"
        self.content = random.Random(3).randbytes(SIZE)
        self.file.write_bytes(self.content)
        self.temporary = self.target / "id" / ".partial" / "0"
        self.notes = self.target / "id" / ".partial" / "0.blocks"
        self.final = self.target / "id" / "f"
        self.files: type[LocalFiles] = LocalFiles

    def carry(self, cut_after: int | None = None) -> Moved:
        """Move it, or die when so many bytes are good."""

        def tick(good: int, sent: int) -> None:
            if cut_after is not None and good >= cut_after:
                raise Cut

        carrying = Carrying(
            self.files(bytes(self.source)), self.files(bytes(self.target)), b"f", b"id", 0
        )
        return carrying.run(tick)

    def is_right(self) -> bool:
        return self.final.read_bytes() == self.content


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.mark.parametrize("blocks", range(1, BLOCKS + 1))
def test_what_was_cut_off_is_gone_on_with(box: Box, blocks: int) -> None:
    with pytest.raises(Cut):
        box.carry(min(blocks * BLOCK, SIZE))
    assert not box.final.exists()
    moved = box.carry()
    assert box.is_right()
    assert moved.blake3 == blake3(box.content).digest()
    assert moved.sent_bytes == SIZE - min(blocks * BLOCK, SIZE)
    assert moved.resumed_bytes == min(blocks * BLOCK, SIZE)


def test_a_block_that_rots_meanwhile_is_sent_again_and_no_other(box: Box) -> None:
    with pytest.raises(Cut):
        box.carry(4 * BLOCK)
    with box.temporary.open("r+b") as file:
        file.seek(BLOCK + 7)
        file.write(bytes([box.content[BLOCK + 7] ^ 1]))
    moved = box.carry()
    assert box.is_right()
    assert moved.sent_bytes == SIZE - 4 * BLOCK + BLOCK
    assert moved.sha256
    assert moved.blake3 == blake3(box.content).digest()


@pytest.mark.parametrize("cut", [1, BLOCK // 2, BLOCK, BLOCK + 1, 3 * BLOCK])
@pytest.mark.parametrize("what", ["temporary", "notes"])
def test_a_tail_that_was_lost_is_sent_again(box: Box, cut: int, what: str) -> None:
    with pytest.raises(Cut):
        box.carry(4 * BLOCK)
    path: Path = getattr(box, what)
    os.truncate(path, max(0, path.stat().st_size - cut))
    box.carry()
    assert box.is_right()


@pytest.mark.parametrize("what", ["temporary", "notes"])
@pytest.mark.parametrize("content", [None, b"", b"x" * 100, b"x" * (2 * SIZE)])
def test_temporaries_of_another_kind_are_not_believed(
    box: Box, what: str, content: bytes | None
) -> None:
    with pytest.raises(Cut):
        box.carry(4 * BLOCK)
    path: Path = getattr(box, what)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    box.carry()
    assert box.is_right()


def test_another_source_begins_anew(box: Box) -> None:
    with pytest.raises(Cut):
        box.carry(4 * BLOCK)
    box.content = random.Random(4).randbytes(SIZE)
    box.file.write_bytes(box.content)
    moved = box.carry()
    assert box.is_right()
    assert moved.sent_bytes == SIZE


@pytest.mark.parametrize("size", [0, 100, SIZE])
def test_a_source_that_changes_meanwhile_gets_no_name(box: Box, size: int) -> None:
    box.content = box.content[:size]
    box.file.write_bytes(box.content)

    class Changing(LocalFiles):
        def writer(self, path: bytes, start: int) -> LocalWriter:
            if path == b"id/.partial/0":
                box.file.write_bytes(b"another")
            return super().writer(path, start)

    box.files = Changing
    with pytest.raises(SourceChanged):
        box.carry()
    assert not box.final.exists()
    box.files, box.content = LocalFiles, b"another"
    box.carry()
    assert box.is_right()


def test_a_source_that_vanished_says_so(box: Box) -> None:
    with pytest.raises(Cut):
        box.carry(BLOCK)
    box.file.unlink()
    with pytest.raises(NoSuchObject):
        box.carry()
    assert not box.final.exists()


@pytest.mark.parametrize("size", [1000, SIZE])
def test_what_is_changed_on_its_way_gets_no_name(box: Box, size: int) -> None:
    """Each time: it is given up, and nothing of it is kept. Once: only the block goes again."""
    box.content = box.content[:size]
    box.file.write_bytes(box.content)
    times = 1000

    class Bad(LocalFiles):
        def writer(self, path: bytes, start: int) -> LocalWriter:
            real = super().writer(path, start)
            write = real.write

            def flip(content: Buffer) -> None:
                nonlocal times
                times -= 1
                write(bytes([content[0] ^ (times >= 0)]) + bytes(content[1:]))

            if path == b"id/.partial/0":
                real.write = flip  # type: ignore[method-assign]
            return real

        def patch(self, path: bytes, start: int, content: Buffer) -> None:
            nonlocal times
            times -= 1
            bad = bytes([content[0] ^ (times >= 0)]) + bytes(content[1:])
            super().patch(path, start, bad)

    box.files = Bad
    with pytest.raises(ContentDiffers):
        box.carry()
    assert not box.final.exists()
    assert not box.temporary.exists()
    times = 1
    box.carry()
    assert box.is_right()


def test_what_has_its_name_already_is_not_sent_again(box: Box) -> None:
    box.carry()
    moved = box.carry()
    assert (moved.sent_bytes, moved.resumed_bytes) == (0, SIZE)
    assert box.is_right()
    with box.final.open("r+b") as file:
        file.write(b"rotten")
    box.carry()
    assert box.is_right()
