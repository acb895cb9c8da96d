"""fusefs remote key, on a remote in memory."""

import json
from pathlib import Path

import pytest

from fusefs.cli.app import run
from fusefs.daemon.surface import reach
from fusefs.errors import BadRemote, NoSuchRemote, UsageError, WrongKey, WrongState
from fusefs.model import keyslot
from fusefs.remotes import encrypted
from fusefs.remotes.address import connect
from tests.unit.remotes.encryption import CREATED, SECRET, WEAK, raw_remote


@pytest.fixture
def url() -> str:
    raw = raw_remote()
    remote = encrypted.initialise(raw, SECRET, created=CREATED, strength=WEAK)
    remote.put("a", b"content")
    return raw.place


@pytest.fixture
def secrets(tmp_path: Path) -> str:
    return _private(tmp_path / "secrets", "passphrase = 'correct horse'\n")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(bytes(range(32)))
    return path


def _private(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o600)
    return f"file:{path}"


def _slots(url: str, capsys: pytest.CaptureFixture[str]) -> list[tuple[int, str, str]]:
    capsys.readouterr()
    assert run(["remote", "key", "list", url, "--json"]) == 0
    return [
        (slot["slot"], slot["kind"], slot["label"]) for slot in json.loads(capsys.readouterr().out)
    ]


def test_a_key_file_is_added_and_the_passphrase_removed(
    url: str, secrets: str, key_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ["--secrets", secrets, "--new-key-file", str(key_file), "--label", "safe"]
    assert run(["remote", "key", "add", url, *said]) == 0
    assert _slots(url, capsys) == [(1, "passphrase", "first"), (2, "key file", "safe")]
    by_file = _private(tmp_path / "other", f"key_file = '{key_file}'\n")
    assert run(["remote", "key", "remove", url, "1", "--secrets", by_file]) == 0
    assert _slots(url, capsys) == [(2, "key file", "safe")]
    assert run(["remote", "key", "remove", url, "2", "--secrets", by_file]) == WrongState.exit_code
    assert run(["remote", "key", "add", url, *said]) == WrongKey.exit_code
    assert url in capsys.readouterr().err


def test_a_passphrase_is_changed_and_nothing_else(
    url: str, secrets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = connect(url)
    (tmp_path / "new").write_text("battery staple\n")
    before = {f.name: raw.get(f.name) for f in raw.list("") if not f.name.startswith("keys/")}
    said = ["--secrets", secrets, "--new-passphrase-file", str(tmp_path / "new")]
    assert run(["remote", "key", "change", url, *said]) == 0
    assert secrets in capsys.readouterr().out
    assert _slots(url, capsys) == [(2, "passphrase", "")]
    after = {f.name: raw.get(f.name) for f in raw.list("") if not f.name.startswith("keys/")}
    assert before == after
    opened = encrypted.open_encrypted(raw, keyslot.passphrase("battery staple"))
    assert opened.get("a") == b"content"
    with pytest.raises(WrongKey):
        encrypted.open_encrypted(raw, SECRET)


def test_slots_are_a_table_for_people(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["remote", "key", "list", url]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "slot  kind        created              label",
        "1     passphrase  2026-11-22 00:00:00  first",
    ]


def test_what_a_stranger_wrote_into_a_slot_cannot_move_the_cursor(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = connect(url)
    hostile = raw.get("keys/1").replace(b"first", b"\\u001b[2J").replace(b"2026", b"\\u001b[2J")
    raw.put("keys/2", hostile)
    assert run(["remote", "key", "list", url]) == 0
    assert r"\x1b[2J" in capsys.readouterr().out.splitlines()[2]


@pytest.mark.parametrize("content", ["", "\n", "two\nlines\n", "x" * 5000, "\udcff"])
def test_a_file_that_holds_no_passphrase_is_refused(
    url: str, secrets: str, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new").write_bytes(content.encode("utf-8", "surrogateescape"))
    said = ["--secrets", secrets, "--new-passphrase-file", str(tmp_path / "new")]
    assert run(["remote", "key", "change", url, *said]) == UsageError.exit_code
    assert _slots(url, capsys) == [(1, "passphrase", "first")]


def test_without_a_terminal_nobody_is_asked(url: str, secrets: str) -> None:
    assert run(["remote", "key", "change", url]) == WrongKey.exit_code
    assert run(["remote", "key", "change", url, "--secrets", secrets]) == UsageError.exit_code


def test_what_is_not_encrypted_has_no_slots() -> None:
    assert run(["remote", "key", "list", raw_remote().place]) == BadRemote.exit_code


def test_a_remote_of_a_store_is_found_by_its_name(
    url: str, secrets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "store")
    assert run(["init", store]) == 0
    with reach(Path(store)) as surface:
        surface.ask(
            "remote_add", name="offsite", url=url, secrets=secrets, cost=200, limit="",
            is_encrypted=True, is_trash=False, writer="w", sequence=0,
        )  # fmt: skip
    (tmp_path / "new").write_text("battery staple\n")
    said = ["--new-passphrase-file", str(tmp_path / "new")]
    assert run(["remote", "key", "add", store, "offsite", *said]) == 0
    assert run(["remote", "key", "remove", store, "offsite", "2"]) == 0
    assert _slots(url, capsys) == [(1, "passphrase", "first")]
    assert run(["remote", "key", "list", store, "elsewhere"]) == NoSuchRemote.exit_code
    assert "no remote elsewhere" in capsys.readouterr().err


@pytest.mark.parametrize("where", [["offsite"], ["a", "b", "c"]])
def test_which_remote_is_to_be_said(where: list[str]) -> None:
    assert run(["remote", "key", "list", *where]) == UsageError.exit_code


def test_which_slot_is_to_be_said_by_its_number(url: str, secrets: str) -> None:
    said = ["--secrets", secrets]
    assert run(["remote", "key", "remove", url, "first", *said]) == UsageError.exit_code
    assert run(["remote", "key", "remove", url, *said]) == UsageError.exit_code
