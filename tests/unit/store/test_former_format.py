"""A store of format 1, whose blocks have hashes of other parts, is read, and becomes one of now."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from fusefs.errors import DiskFull, StoreDamaged
from fusefs.fsck.check import check
from fusefs.model import keys
from fusefs.model.block import Block
from fusefs.store.identity import FORMAT
from fusefs.store.index import Index
from fusefs.store.log import Log
from fusefs.store.store import Store
from tests.unit.store.acts import add, block_row, flip, segment

Open = Callable[[], Store]
CONTENT = os.urandom(1 << 20)


def format_of(path: Path) -> int:
    number: int = json.loads((path / "fusefs.json").read_text())["format"]
    return number


@pytest.fixture
def old(path: Path, open_store: Open) -> int:
    """The store is as fusefs made it when the format was 1; returns a block in it."""
    store = open_store()
    number = add(store, CONTENT)
    batch = store.batch()
    block = store.blocks.row(batch, number)
    parts = [CONTENT[at : at + (64 << 10)] for at in range(0, len(CONTENT), 64 << 10)]
    leaves = b"".join(blake3(part).digest()[:8] for part in parts)
    batch.put(keys.block(number), block._replace(leaves=leaves).pack())
    store.commit(batch)
    store.close()
    identity = path / "fusefs.json"
    identity.write_text(json.dumps(json.loads(identity.read_text()) | {"format": 1}))
    return number


def row(path: Path, number: int) -> Block:
    index = Index(path / "index", read_only=True)
    try:
        found = index.get(keys.block(number))
        assert found is not None
        return Block.unpack(found)
    finally:
        index.close()


def test_its_blocks_are_read_and_verified_whole(path: Path, open_store: Open, old: int) -> None:
    store = open_store()
    part = store.blocks.locate(old).read_part(500_000, 4096)
    assert part is not None
    assert bytes(part) == CONTENT[500_000:504_096]
    store.close()
    flip(segment(path, row(path, old).segment), row(path, old).offset + 900_000)
    with pytest.raises(StoreDamaged):
        open_store().blocks.locate(old).read_part(500_000, 4096)


def test_it_becomes_one_of_now_before_anything_is_written(
    path: Path, open_store: Open, old: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    begin = Log.__init__

    def look(self: Log, *arguments: object, **said: object) -> None:
        found.append(format_of(path))
        begin(self, *arguments, **said)  # type: ignore[arg-type]

    monkeypatch.setattr(Log, "__init__", look)
    before = json.loads((path / "fusefs.json").read_text())
    assert open_store().identity.format == FORMAT
    assert found == [FORMAT]
    assert json.loads((path / "fusefs.json").read_text()) == before | {
        "format": FORMAT,
        "keys": {},
    }


def test_a_check_takes_it_for_sound_and_leaves_its_format_alone(path: Path, old: int) -> None:
    report = check(path, True)
    assert report.blocks_read == 1
    assert [one for one in report.problems if one.kind in ("row", "content")] == []
    assert format_of(path) == 1


def test_a_disk_that_does_not_take_the_new_format_is_said(
    path: Path, open_store: Open, old: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = segment(path, 1).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskFull, match=r"fusefs\.json"):
            open_store()
    assert format_of(path) == 1
    assert segment(path, 1).read_bytes() == before
    open_store()


def test_a_block_that_is_healed_has_the_hashes_of_now(
    path: Path, open_store: Open, old: int
) -> None:
    flip(segment(path, row(path, old).segment), row(path, old).offset + 900_000)
    store = open_store()
    assert list(store.blocks.refill_hints()) == []
    assert add(store, CONTENT) == old
    healed = block_row(store, old)
    assert healed is not None
    assert Block.unpack(healed).has_leaves
