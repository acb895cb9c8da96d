"""fusefs remote key at a terminal: a passphrase is asked for, and never shown."""

import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

from fusefs.errors import WrongKey
from fusefs.model import keyslot
from fusefs.remotes import encrypted
from fusefs.remotes.directory import DirectoryRemote
from tests.conftest import COMMAND_TIMEOUT_S, ROOT

OLD, NEW = "correct horse", "battery staple"


class Terminal:
    """The program at a terminal of its own, and somebody who types."""

    def __init__(self, *arguments: str) -> None:
        self._side, other = pty.openpty()
        self._program = subprocess.Popen(
            [sys.executable, "-m", "fusefs", *arguments],
            stdin=other,
            stdout=other,
            stderr=other,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
        os.close(other)
        self.seen = ""

    def answer(self, question: str, typed: str) -> None:
        """Wait for what has not been seen yet and ends with `question`; type a line."""
        before = len(self.seen)
        while question not in self.seen[before:] or not self.seen.endswith(": "):
            assert self._more(), self.seen
        os.write(self._side, f"{typed}\n".encode())

    def end(self) -> int:
        """The exit code."""
        while self._more():
            pass
        os.close(self._side)
        return self._program.wait(COMMAND_TIMEOUT_S)

    def _more(self) -> bool:
        assert select.select([self._side], [], [], COMMAND_TIMEOUT_S)[0], self.seen
        try:
            text = os.read(self._side, 4096)
        except OSError:  # how a terminal says that the program is gone
            return False
        self.seen += text.decode()
        return bool(text)


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
