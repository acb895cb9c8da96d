"""Errors become one line and a number of their own."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
import typer

from fusefs import errors
from fusefs.cli import app as app_module
from fusefs.cli.app import GROUPS, VERBS, parser, run
from fusefs.errors import FusefsError, NotMounted, StoreLocked
from tests.conftest import ROOT

#: Classes that only group others or stand for anything.
NO_ERRORS = {"FusefsError", "StoreError", "MountError", "TransferError", "Refused"}


def _tree(kind: type[FusefsError]) -> list[type[FusefsError]]:
    return [kind, *(k for sub in kind.__subclasses__() for k in _tree(sub))]


def test_every_error_has_an_exit_code_of_its_own() -> None:
    codes = Counter(k.exit_code for k in _tree(FusefsError) if k.__name__ not in NO_ERRORS)
    assert [code for code, count in codes.items() if count > 1] == []
    assert {1, 130, 141}.isdisjoint(codes)


def test_the_drawing_of_the_tree_is_the_tree() -> None:
    drawn = dict(re.findall(r"-- (\w+) +(?:E\w+|any) +(\d+)", errors.__doc__ or ""))
    real = {k.__name__: str(k.exit_code) for k in _tree(FusefsError)}
    for group in NO_ERRORS - {"Refused"}:
        del real[group]
    assert drawn == real


@pytest.mark.parametrize(
    "kind", [k for k in _tree(FusefsError) if k.__name__ not in NO_ERRORS], ids=lambda k: k.__name__
)
def test_an_error_is_one_line_and_its_exit_code(
    kind: type[FusefsError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise kind("the thing\nand the way out")

    monkeypatch.setattr(app_module, "parser", lambda _: fail)
    assert run(["status"]) == kind.exit_code
    assert capsys.readouterr().err == "fusefs: the thing\\x0aand the way out\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 141, ""),
        (ZeroDivisionError("x"), 1, "fusefs: unexpected ZeroDivisionError: x (details: --debug)\n"),
    ],
)
def test_other_ends(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(app_module, "parser", lambda _: fail)
    monkeypatch.setattr(app_module.os, "dup2", lambda *_: None)
    assert run(["status"]) == code
    assert capsys.readouterr().err == said


def test_a_traceback_only_on_demand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise StoreLocked("x")

    monkeypatch.setattr(app_module, "parser", lambda _: fail)
    monkeypatch.setenv("FUSEFS_DEBUG", "1")
    run(["status"])
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["frobnicate"], ["status", "--frob"], ["mount"], ["mount", "a"], ["trash", "frob"], ["info"]],
)
def test_a_command_line_without_sense_is_one_line_and_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("fusefs: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "verb"),
    [(["frobnicate"], ""), (["sync", "verify", "/mnt"], " sync verify"), (["info"], " info")],
)
def test_a_command_line_without_sense_is_told_where_the_help_is(
    arguments: list[str], verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(arguments)
    assert capsys.readouterr().err.endswith(f"; see fusefs{verb} --help\n")


def _verbs(command: object, words: str) -> Iterator[str]:
    if isinstance(command, typer.core.TyperGroup):
        for name, below in command.commands.items():
            if not below.hidden:
                yield from _verbs(below, f"{words}{name} ")
    else:
        yield words.strip()


@pytest.mark.parametrize("verb", [*_verbs(typer.main.get_command(parser([])), "")])
def test_every_verb_has_a_page_with_an_example(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*verb.split(), "--help"]) == 0
    page = capsys.readouterr().out
    assert f"  fusefs {verb}" in page.partition("Example:")[2]


def test_version_is_quick_to_tell(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert run(["version", "--json"]) == 0
    assert '"pyfuse3"' in capsys.readouterr().out


_LOADED = """
import sys
from fusefs.cli.app import run
code = run(sys.argv[1:])
print(*sorted(sys.modules))
sys.exit(code)
"""


def test_a_verb_that_asks_a_daemon_loads_neither_the_others_nor_the_daemon() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOADED, "umount", "/"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == NotMounted.exit_code, done
    loaded = set(done.stdout.split())
    assert {"fusefs.cli.umount", "fusefs.daemon.target"} <= loaded
    assert loaded.isdisjoint({"fusefs.cli.mount", "fusefs.daemon.daemon", "trio", "structlog"})


@pytest.mark.parametrize("verb", [*VERBS, *GROUPS])
def test_a_verb_is_the_same_alone_and_among_all(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([verb, "--help"]) == 0
    alone = capsys.readouterr().out
    parser([])(args=[verb, "--help"], prog_name="fusefs", standalone_mode=False)
    assert capsys.readouterr().out == alone
