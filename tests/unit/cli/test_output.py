"""What people and programs see."""

import json
import os

import pytest

from fusefs.cli import output


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"plain [x] 100%", "plain [x] 100%"),
        ("Füße".encode(), "Füße"),
        (b"a\xff\xfeb", r"a\xff\xfeb"),
        (b"two\nlines\x1b[31m", r"two\x0alines\x1b[31m"),
        ("\u202egpj".encode(), r"\u202egpj"),
    ],
)
def test_odd_names_are_escaped(name: bytes, shown: str) -> None:
    assert output.printable(os.fsdecode(name)) == shown


def test_json_keeps_every_byte_of_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    name = b"a\xff\n\xe2\x82"
    output.as_json({"path": os.fsdecode(name)})
    text = capsys.readouterr().out
    assert text.isascii()
    assert os.fsencode(json.loads(text)["path"]) == name


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 << 20, "1.5 GiB"),
        (5 << 60, "5120.0 PiB"),
    ],
)
def test_sizes(count: int, shown: str) -> None:
    assert output.size(count) == shown


def test_a_pipe_gets_plain_columns(capsys: pytest.CaptureFixture[str]) -> None:
    columns = [output.Column("ID", right=True), output.Column("PATH")]
    output.table(columns, [["1", "a"], ["100", "b c"]])
    assert capsys.readouterr().out == " ID  PATH\n  1  a\n100  b c\n"


def test_a_record_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    output.record({"is_over": True, "ended": None, "files": ["a", "b"], "count": 0})
    assert capsys.readouterr().out.splitlines() == [
        "is over  yes",
        "ended    -",
        "files    a b",
        "count    0",
    ]
