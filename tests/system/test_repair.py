"""A file whose content is damaged on the disk is repaired as far as it can be, and used again."""

import json
import os
from random import Random

import pytest

from tests.conftest import Mounted, fusefs, run_fusefs

pytestmark = pytest.mark.mount
MIB = 1 << 20


def damage(mounted: Mounted, content: bytes) -> None:
    """Change one bit of what the store has of `content`."""
    for path in (mounted.store / "segments").iterdir():
        data = path.read_bytes()
        if (at := data.find(content[:64])) >= 0:
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            return
    pytest.fail("it is not in the store")


def test_lost_bytes_are_marked_and_written_again(mounted: Mounted) -> None:
    content = Random(1).randbytes(3 * MIB)
    (mounted.mnt / "file").write_bytes(content)
    (mounted.mnt / "other").write_bytes(b"other")
    assert run_fusefs("fsck", "--repair", mounted.mnt).returncode == 13
    mounted.umount()
    damage(mounted, content[MIB : 2 * MIB])
    assert run_fusefs("fsck", "--read-data", mounted.store).returncode == 40
    planned = json.loads(
        fusefs("fsck", "--repair", "--dry-run", "--json", "--read-data", mounted.store)
    )
    done = json.loads(fusefs("fsck", "--repair", "--json", "--read-data", mounted.store))
    assert planned["repairs"] == done["repairs"]
    assert done["problems"] == []
    assert [one["where"] for one in done["known"]] == ["/file"]
    fusefs("fsck", "--read-data", mounted.store)
    mounted.expected.append("lost")
    mounted.mount()
    assert (mounted.mnt / "other").read_bytes() == b"other"
    with open(mounted.mnt / "file", "r+b") as file:
        assert os.pread(file.fileno(), MIB, 0) == content[:MIB]
        with pytest.raises(OSError, match="Input/output error"):
            os.pread(file.fileno(), MIB, MIB)
        os.pwrite(file.fileno(), content[MIB : 2 * MIB], MIB)
        os.fsync(file.fileno())
    mounted.remount()
    assert (mounted.mnt / "file").read_bytes() == content
    mounted.umount()
    fusefs("fsck", "--read-data", "--strict", mounted.store)
