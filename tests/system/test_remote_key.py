"""fusefs remote key at a terminal: a passphrase is asked for, and never shown."""

from pathlib import Path

import pytest

from fusefs.errors import WrongKey
from fusefs.model import keyslot
from fusefs.remotes import encrypted
from fusefs.remotes.directory import DirectoryRemote
from tests.system.terminal import Terminal

OLD, NEW = "correct horse", "battery staple"


@pytest.fixture
def remote(tmp_path: Path) -> DirectoryRemote:
    remote = DirectoryRemote("file:///there", tmp_path)
    made = encrypted.initialise(remote, keyslot.passphrase(OLD), created="2026-11-22T00:00:00Z")
    made.put("a", b"content")
    return remote


def test_a_passphrase_is_changed_at_a_terminal(tmp_path: Path, remote: DirectoryRemote) -> None:
    terminal = Terminal("remote", "key", "change", f"file://{tmp_path}")
    terminal.answer("Passphrase of", OLD)
    terminal.answer("New passphrase", NEW)
    terminal.answer("confirm", NEW)
    assert terminal.end() == 0, terminal.seen
    assert OLD not in terminal.seen
    assert NEW not in terminal.seen
    opened = encrypted.open_encrypted(remote, keyslot.passphrase(NEW))
    assert opened.get("a") == b"content"
    with pytest.raises(WrongKey):
        encrypted.open_encrypted(remote, keyslot.passphrase(OLD))


@pytest.mark.usefixtures("remote")
def test_a_wrong_passphrase_is_refused_before_a_new_one_is_asked_for(tmp_path: Path) -> None:
    terminal = Terminal("remote", "key", "add", f"file://{tmp_path}")
    terminal.answer("Passphrase of", NEW)
    assert terminal.end() == WrongKey.exit_code
    assert "is not opened by this passphrase" in terminal.seen
