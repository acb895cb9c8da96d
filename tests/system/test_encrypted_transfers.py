"""Transfers into an encrypted remote and back: what is to be seen there, and what is noticed."""

import json
import os
import signal
import subprocess
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from fusefs.errors import ObjectDamaged, WrongKey
from tests.conftest import Mounted, fusefs, run_fusefs
from tests.stops import has_stopped
from tests.system.away import sync
from tests.system.synced import agent_of
from tests.system.trashcan import until

pytestmark = pytest.mark.mount

PLAIN = b"a known plain text; "
NAME = "a-known-name"
CONTENTS = {
    f"{NAME} 1": PLAIN * 100_000,
    f"{NAME}/empty": b"",
    f"{NAME}/sub/Ünïcode \n": PLAIN,
    f"{NAME}/{'long ' * 50}": Random(1).randbytes((3 << 20) + 17),
}


@pytest.fixture
def place(tmp_path: Path, mounted: Mounted) -> Path:
    """An encrypted remote, and files to be moved there."""
    path = tmp_path / "elsewhere"
    path.mkdir()
    write_secrets(tmp_path, "correct horse")
    fusefs(
        "remote", "add", mounted.mnt, "far", f"file://{path}", "--encrypt",
        "--secrets", f"file:{tmp_path}/secrets",
    )  # fmt: skip
    for name, content in CONTENTS.items():
        file = mounted.mnt / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return path


def write_secrets(directory: Path, passphrase: str) -> None:
    (directory / "secrets").write_text(f"passphrase = '{passphrase}'\n")
    (directory / "secrets").chmod(0o600)


def into(mounted: Mounted) -> str:
    """The id of a transfer of all files that has succeeded."""
    return fusefs(
        "transfer", "create", "--from", mounted.mnt / "data", "--to", "far", "--wait",
        "--description", PLAIN.decode(), f"{NAME} 1", NAME,
    ).strip()  # fmt: skip


def out_of(mounted: Mounted, target: Path, what: str) -> subprocess.CompletedProcess[str]:
    return run_fusefs(
        "transfer", "create", "--from", "far", "--in", mounted.mnt, "--to", target, "--wait", what
    )


def files_of(place: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(place)): one.read_bytes() for one in place.rglob("*") if one.is_file()
    }


def test_there_and_back(mounted: Mounted, place: Path, tmp_path: Path) -> None:
    id = into(mounted)
    stored = files_of(place / "files")
    assert len(stored) == len(CONTENTS) + 1
    sync(mounted)
    stored = files_of(place)
    told = "".join(stored).encode() + b"".join(stored.values())
    needles = [PLAIN, NAME.encode(), b"empty", b"manifest", b"partial", id.encode()]
    assert [one for one in needles if one in told] == []

    target = tmp_path / "target"
    target.mkdir()
    back = out_of(mounted, target, id).stdout.strip()
    for name, content in CONTENTS.items():
        assert (target / back / id / name).read_bytes() == content
    manifest = json.loads((target / back / id / "manifest.json").read_bytes())
    assert manifest["description"] == PLAIN.decode()
    assert {one["path"]: one["hash"] for one in manifest["resources"]} == {
        name: f"sha256:{sha256(content).hexdigest()}" for name, content in CONTENTS.items()
    }
    everything = out_of(mounted, target, ".").stdout.strip()
    assert files_of(target / everything / id) == files_of(target / back / id)
    fusefs("sync", "verify", mounted.mnt, "far")  # what transfers put there is no damage


def test_what_an_agent_has_left_half_done_is_done_by_the_next(
    mounted: Mounted, place: Path, tmp_path: Path
) -> None:
    mounted.remount(FUSEFS_FAILPOINTS="move.block=3:stop")
    mounted.expected = [r".*agent.*"]
    id = fusefs(
        "transfer", "create", "--from", mounted.mnt / "data", "--to", "far", NAME
    ).strip()  # fmt: skip
    until(lambda: has_stopped(agent_of(mounted)))
    agent = agent_of(mounted)
    mounted.kill()
    os.kill(agent, signal.SIGKILL)
    assert [name for name, content in files_of(place).items() if PLAIN in content] == []
    mounted.mount()
    until(lambda: '"succeeded"' in fusefs("transfer", "show", "--json", id, mounted.mnt))
    assert len(files_of(place / "files")) == len(CONTENTS)  # but for one, and a manifest
    target = tmp_path / "target"
    target.mkdir()
    back = out_of(mounted, target, id).stdout.strip()
    for name in list(CONTENTS)[1:]:
        assert (target / back / id / name).read_bytes() == CONTENTS[name]


def test_a_flipped_byte_is_noticed_and_nothing_else_is_lost(
    mounted: Mounted, place: Path, tmp_path: Path
) -> None:
    id = into(mounted)
    large = max((place / "files").rglob("*"), key=lambda one: one.stat().st_size)
    stored = bytearray(large.read_bytes())
    stored[len(stored) // 2] ^= 1
    large.write_bytes(stored)
    target = tmp_path / "target"
    target.mkdir()
    done = out_of(mounted, target, id)
    assert done.returncode == ObjectDamaged.exit_code
    (back,) = target.iterdir()
    moved = {name: path for name, path in files_of(back).items() if ".partial" not in name}
    wanted = {f"{id}/{name}": content for name, content in CONTENTS.items()}
    moved.pop("manifest.json", None)
    moved.pop(f"{id}/manifest.json", None)
    assert moved.items() <= wanted.items()
    assert len(moved) < len(wanted)


def test_without_its_passphrase_nothing_is_moved(
    mounted: Mounted, place: Path, tmp_path: Path
) -> None:
    id = into(mounted)
    before = files_of(place / "files")
    mounted.umount()
    write_secrets(tmp_path, "battery staple")
    mounted.expected += ["is not opened by this passphrase", "sync"]
    mounted.mount()
    done = run_fusefs(
        "transfer", "create", "--from", mounted.mnt / "data", "--to", "far", "--wait", NAME
    )
    assert done.returncode == WrongKey.exit_code
    target = tmp_path / "target"
    target.mkdir()
    assert out_of(mounted, target, id).returncode == WrongKey.exit_code
    assert files_of(place / "files") == before
    assert os.listdir(target) == []
