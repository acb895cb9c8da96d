"""Mapped files count as memory until they are released, and read as before afterwards."""

import mmap
import time
from pathlib import Path

from fusefs.base import resident

SIZE = 64 << 20


def test_released_pages_are_not_resident_and_still_there(tmp_path: Path) -> None:
    below = tmp_path / "a store"
    below.mkdir()
    file, other = below / "mapped", tmp_path / "other"
    for path in (file, other):
        path.write_bytes(b"x" * (SIZE - 1) + b"y")
    with file.open("rb") as one, other.open("rb") as two:
        mapped = mmap.mmap(one.fileno(), 0, prot=mmap.PROT_READ)
        kept = mmap.mmap(two.fileno(), 0, prot=mmap.PROT_READ)
        before = resident.mapped_bytes()
        assert mapped.find(b"y") == kept.find(b"y") == SIZE - 1
        assert resident.mapped_bytes() >= before + 2 * SIZE

        resident.release(below)

        assert resident.mapped_bytes() < before + SIZE + SIZE // 2
        assert mapped.find(b"y") == SIZE - 1
        mapped.close()
        kept.close()


def test_what_is_read_meanwhile_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "mapped"
    path.write_bytes(b"x" * (SIZE - 1) + b"y")
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        before = resident.mapped_bytes()
        with resident.kept_small(tmp_path):
            assert mapped.find(b"y") == SIZE - 1
            deadline = time.monotonic() + 60
            while resident.mapped_bytes() > before + SIZE // 2 and time.monotonic() < deadline:
                time.sleep(0.001)
        assert resident.mapped_bytes() < before + SIZE // 2
        assert mapped.find(b"y") == SIZE - 1
        assert resident.mapped_bytes() > before + SIZE // 2  # nobody looks any more
        mapped.close()
