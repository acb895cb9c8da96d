"""A mounted store with an encrypted remote: what somebody sees who can read all of the remote."""

import os
import re
import time
from pathlib import Path

import pytest

from fusefs.errors import BadRemote, WrongKey
from fusefs.model import keyslot
from fusefs.remotes.directory import DirectoryRemote
from fusefs.remotes.encrypted import open_encrypted
from tests.conftest import COMMAND_TIMEOUT_S, Mounted, fusefs, run_fusefs

pytestmark = pytest.mark.mount

PLAIN = b"a known plain text; "
NAME = "a-known-file-name"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere"
    path.mkdir()
    return path


def _secrets(path: Path, passphrase: str) -> str:
    path.write_text(f"passphrase = '{passphrase}'\n")
    path.chmod(0o600)
    return f"file:{path}"


def test_an_encrypted_remote_holds_all_and_shows_nothing(
    mounted: Mounted, tmp_path: Path, place: Path
) -> None:
    url, secrets = f"file://{place}", _secrets(tmp_path / "secrets", "correct horse")
    for number in range(3):
        content = PLAIN * 50_000 + os.urandom(1000)
        (mounted.mnt / f"{NAME}-{number}").write_bytes(content)
    (mounted.mnt / NAME / "sub").mkdir(parents=True)
    fusefs("remote", "add", mounted.mnt, "far", url, "--encrypt", "--secrets", secrets)
    fusefs("sync", "wait", mounted.mnt)

    files = [path for path in place.rglob("*") if path.is_file()]
    shown = b"".join(os.fsencode(path.relative_to(place)) + path.read_bytes() for path in files)
    needles = [PLAIN, NAME.encode(), b"segments", b"index", b"checkpoint", b"correct horse"]
    assert len(files) > 4
    assert [needle for needle in needles if needle in shown] == []

    raw = DirectoryRemote(url, place)
    inside = open_encrypted(raw, keyslot.passphrase("correct horse"))
    folders = {found.name.partition("/")[0] for found in inside.list("")}
    assert {"segments", "index", "checkpoints"} <= folders
    segments = b"".join(inside.get(found.name) for found in inside.list("segments/"))
    assert PLAIN in segments

    fusefs("remote", "remove", mounted.mnt, "far")
    wrong = _secrets(tmp_path / "wrong", "battery staple")
    again = ["remote", "add", mounted.mnt, "again", f"{url}/"]
    done = run_fusefs(*again, "--encrypt", "--secrets", wrong)
    assert (done.returncode, str(place) in done.stderr) == (WrongKey.exit_code, True), done
    done = run_fusefs(*again)
    assert (done.returncode, "--encrypt" in done.stderr) == (BadRemote.exit_code, True), done
    tops = {found.name.partition("/")[0] for found in raw.list("")} - {"keys"}
    assert [top for top in tops if not re.fullmatch("[0-9a-f]{32}", top)] == []


def test_a_flipped_byte_in_an_encrypted_remote_is_found_and_put_right(
    mounted: Mounted, tmp_path: Path, place: Path
) -> None:
    url, secrets = f"file://{place}", _secrets(tmp_path / "secrets", "correct horse")
    (mounted.mnt / NAME).write_bytes(os.urandom(2 << 20))
    fusefs("remote", "add", mounted.mnt, "far", url, "--encrypt", "--secrets", secrets)
    fusefs("sync", "wait", mounted.mnt)
    (segment,) = (path for path in place.rglob("*") if path.stat().st_size > 2 << 20)
    content = bytearray(segment.read_bytes())
    content[1 << 20] ^= 1
    segment.write_bytes(content)
    assert "replaced" in fusefs("sync", "verify", mounted.mnt, "far")
    assert " 0 bad" in fusefs("sync", "verify", mounted.mnt, "far")


@pytest.mark.slow
def test_a_new_passphrase_goes_on_where_the_old_one_ended(
    mounted: Mounted, tmp_path: Path, place: Path
) -> None:
    url, secrets = f"file://{place}", _secrets(tmp_path / "secrets", "correct horse")
    fusefs("remote", "add", mounted.mnt, "far", url, "--encrypt", "--secrets", secrets)
    (tmp_path / "new").write_text("battery staple\n")
    new = ["--new-passphrase-file", tmp_path / "new"]
    fusefs("remote", "key", "change", mounted.mnt, "far", *new)
    mounted.remount()
    (mounted.mnt / NAME).write_bytes(PLAIN)
    mounted.expected.append("sync waits, remote=far .* is not opened by this passphrase")
    deadline = time.monotonic() + COMMAND_TIMEOUT_S
    while "WrongKey" not in (shown := fusefs("remote", "show", mounted.mnt, "far")):
        assert time.monotonic() < deadline, shown
    _secrets(tmp_path / "secrets", "battery staple")
    fusefs("sync", "now", mounted.mnt)
    fusefs("sync", "wait", mounted.mnt)
    assert "WrongKey" not in fusefs("remote", "show", mounted.mnt, "far")
