r"""What users see: tables at a terminal, plain columns in a pipe, JSON for programs.

Names may hold any byte. People see odd ones escaped (``a\xffb``), so that a name can neither move
the cursor nor pretend to be two lines; JSON has them as lone surrogates in plain ASCII, which
`os.fsencode` turns back into the same bytes.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fusefs.base.units import readable_size

size = readable_size


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    title: str
    right: bool = False


def line(text: str) -> None:
    """Print one line."""
    print(text)


def as_json(value: object) -> None:
    """Print `value`, which is made of plain JSON types."""
    print(json.dumps(value, indent=2, ensure_ascii=True))


def json_line(value: object) -> None:
    """Print `value`, made of plain JSON types, on one line, at once."""
    print(json.dumps(value, ensure_ascii=True), flush=True)


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; the cells are printable already."""
    if sys.stdout.isatty():
        _rich_table(columns, rows)
    else:
        _plain_table(columns, list(rows))


def fields(pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one pair a line."""
    shown = list(pairs)
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{name:<{width}}  {value}")


def record(values: dict[str, Any]) -> None:
    """Print a record as it is, one field a line."""
    fields((title(name), text(value)) for name, value in values.items())


def title(name: str) -> str:
    """The name of a field of a record, for people."""
    return name.replace("_", " ")


def text(value: object) -> str:
    """The value of a field of a record, for people."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return printable(" ".join(map(str, value)))
        case _:
            return printable(str(value))


def _plain_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    everything = [[column.title for column in columns], *rows]
    widths = [max(map(len, cells)) for cells in zip(*everything, strict=True)]
    for row in everything:
        cells = (
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        )
        print("  ".join(cells).rstrip())


def _rich_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        drawn.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*map(Text, row))
    Console().print(drawn)


def printable(text: str) -> str:
    """`text` on one line, with everything that does not print escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(ord(c)) for c in text)


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # how os.fsdecode keeps a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def counted(count: int, one: str, many: str) -> str:
    """A number with its noun: 1 file, 2 files."""
    return f"{count} {one if count == 1 else many}"


def moment(time: str) -> str:
    """A time of a record to the second."""
    return time[:19].replace("T", " ")


def complain(text: str) -> None:
    """Print one line about something that went wrong, beside the output."""
    print(f"fusefs: {printable(text)}", file=sys.stderr)
