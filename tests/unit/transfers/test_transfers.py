"""Transfers from one directory to another: what comes, what is recorded, what is refused."""

from hashlib import sha256
from pathlib import Path

from tests.unit.transfers.world import World


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


async def test_files_come_with_a_manifest_and_one_record(world: World) -> None:
    write(world.source / "a.txt", b"one")
    write(world.source / "sub" / "b.bin", bytes(3 << 20))
    write(world.source / "empty", b"")
    async with world.running():
        id = await world.create("a.txt", "sub", "empty", description="what it *is*")
        record = await world.until(id)
    assert (record["status"], record["error"]) == ("succeeded", "")
    assert [one["status"] for one in record["history"]] == [
        "unknown", "active", "finalizing", "succeeded",
    ]  # fmt: skip
    folder = world.target / id
    manifest = world.manifest(id)
    assert {one["path"] for one in manifest["resources"]} == {"a.txt", "sub/b.bin", "empty"}
    for one in manifest["resources"]:
        content = (folder / one["path"]).read_bytes()
        assert content == (world.source / one["path"]).read_bytes()
        assert one["hash"] == f"sha256:{sha256(content).hexdigest()}"
        assert one["bytes"] == len(content)
    assert sorted(path.name for path in folder.iterdir()) == [
        "a.txt", "empty", "manifest.json", "sub",
    ]  # fmt: skip
    assert [(one["id"], one["status"], one["files"]) for one in await world.journal()] == [
        (id, "succeeded", 3)
    ]
