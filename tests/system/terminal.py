"""The program at a terminal, where it asks for passphrases."""

import os
import pty
import select
import signal
import subprocess
import sys

from tests.conftest import COMMAND_TIMEOUT_S, ROOT


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
        self._wait_for(question)
        os.write(self._side, f"{typed}\n".encode())

    def interrupt(self, question: str) -> None:
        """Give up where that is asked, by Ctrl-C."""
        self._wait_for(question)
        self._program.send_signal(signal.SIGINT)

    def _wait_for(self, question: str) -> None:
        before = len(self.seen)
        while question not in self.seen[before:] or not self.seen.endswith(": "):
            assert self._more(), self.seen

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
