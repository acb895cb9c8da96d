"""The trash of a mount as its users see it: through the program, and every wait has a deadline.

What a test does, it does with the program in a process of its own. For looking, again and again,
the command line is run in this process (`look`): that saves the start of an interpreter.
"""

import io
import json
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

from fusefs.cli import app
from tests.conftest import COMMAND_TIMEOUT_S, Done, run_fusefs_as

Record = dict[str, Any]
Answer = TypeVar("Answer")

NOBODY = 65534
_POLL_S = 0.05


def until(look: Callable[[], Answer], timeout_s: float = COMMAND_TIMEOUT_S) -> Answer:
    """What `look` answers as soon as that is true; fails at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not (answer := look()):
        assert time.monotonic() < deadline, f"still {answer!r}"
        time.sleep(_POLL_S)
    return answer


def fusefs_as(uid: int, *arguments: str | Path, cwd: str | Path = "/") -> Done:
    """Run the program as another user, who must be let in to the store and the mountpoint.

    Into `cwd` that user need not be let.
    """
    return run_fusefs_as(uid, *arguments, cwd=cwd)


def look(*arguments: str | Path) -> Any:
    """The JSON that a command line prints, which must succeed."""
    said = io.StringIO()
    with redirect_stdout(said):
        assert app.run([*map(str, arguments)]) == 0, arguments
    return json.loads(said.getvalue())


class TrashCan:
    """The trash of what `place`, a mountpoint or a store, stands for."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def lines(self, *options: str) -> list[Record]:
        """What `trash list` says; each entry for itself with ``--all``."""
        found: list[Record] = look("trash", "list", "--json", *options, self.place)
        return found

    def ids(self, *options: str) -> list[str]:
        """Ids of all entries, oldest first."""
        return [str(entry["id"]) for entry in self.lines("--all", *options)]

    def entry(self, path: str) -> Record:
        """The one entry that was `path`, but for its date, which is told anew by each answer."""
        (found,) = (one for one in self.lines("--all") if one["original_path"] == f"/{path}")
        del found["purge_at"]
        return found

    def id_of(self, path: str) -> str:
        return str(self.entry(path)["id"])

    def history(self, *options: str) -> list[Record]:
        found: list[Record] = look("trash", "history", "--json", *options, self.place)
        return found

    def states(self, number: str) -> list[str]:
        """Every state that an entry has been in, in order."""
        (entry,) = self.history("--id", number)
        return [stamp["state"] for stamp in entry["history"]]

    def set(self, *settings: str) -> None:
        look("trash", "policy", "--json", self.place, "set", *settings)

    def space(self) -> Record:
        record: Record = look("status", "--json", self.place)
        return record


def remove(path: Path, text: str | bytes = "content") -> None:
    """Write a file, and remove it."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.unlink()
