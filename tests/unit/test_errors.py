"""The tree of errors, against what users are told of it."""

import re
from collections import Counter
from collections.abc import Iterator

from fusefs.cli.app import INTERRUPTED, PIPE_CLOSED
from fusefs.errors import FusefsError
from tests.conftest import ROOT


def kinds(of: type[FusefsError] = FusefsError) -> Iterator[type[FusefsError]]:
    yield of
    for kind in of.__subclasses__():
        yield from kinds(kind)


def told() -> dict[int, str]:
    """The table of exit codes in the README: code, what it means."""
    text = (ROOT / "README.rst").read_text()
    table = re.search(r"Exit codes never change.*?\n\n=+ +=+\n(.*?)\n=+ +=+\n", text, re.DOTALL)
    assert table
    rows = [line.split(maxsplit=1) for line in table[1].splitlines() if line[0] != " "]
    found = {int(code): meaning for code, meaning in rows}
    assert len(found) == len(rows)
    return found


def test_users_are_told_of_every_exit_code_and_of_no_other() -> None:
    codes = {kind.exit_code for kind in kinds() if kind.__module__ == FusefsError.__module__}
    assert told().keys() == codes | {0, INTERRUPTED, PIPE_CLOSED}


def test_no_two_errors_share_an_exit_code() -> None:
    own = Counter(kind.exit_code for kind in kinds() if "exit_code" in vars(kind))
    assert {code for code, count in own.items() if count > 1} == set()
