"""What is damaged -> what fsck tells, what is read meanwhile, what mends it, what is lost then.

Bytes that come back are the right ones, or there is an error; nothing ends a process; and what was
mended is sound. The table says the rest.
"""

import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

#: Where the random damages to the index begin; tools/soak begins elsewhere each time.
SEED = int(os.environ.get("FUSEFS_ROT_SEED", "0"))

Run = Callable[..., list[dict[str, Any]]]
FIRST, SECOND, LAST = (f"{number:016x}" for number in (1, 2, 3))
EIO = os.strerror(5)
REPAIR, REBUILD = "fsck --repair --read-data: 0", "rebuild: 0"
REBUILT = ["fsck --repair --read-data: 14", REBUILD, REPAIR]
IN_FIRST = ("d/inner", "raw", "text")


class Expected(NamedTuple):
    """`told`: kinds and places; `lost`: paths that answer EIO, before and after."""

    code: int
    told: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def content(*paths: str) -> tuple[str, ...]:
    return tuple(f"content /{path}" for path in paths)


#: The first pattern that a case matches says what is expected.
TABLE = {
    "header|batch|seal": Expected(40, (f"segment {FIRST}",)),
    "raw block: payload": Expected(40, content("raw"), ("raw",)),
    "zstd block: payload": Expected(40, content("text"), ("text",)),
    "raw block": Expected(40, (*content("raw"), f"segment {FIRST}",)),
    "zstd block": Expected(40, (*content("text"), f"segment {FIRST}",)),
    "segments": Expected(
        40,
        (
            *content(".trash/2027-01-15T08/gone", "d/inner", "raw", "second", "text"),
            f"segment {FIRST}", f"segment {SECOND}",
        ),
        ("d/inner", "raw", "second", "text",),
    ),
    "segment: half": Expected(40, (*content("d/inner"), f"segment {FIRST}",), ("d/inner",)),
    "segment: gone": Expected(40, (*content(*IN_FIRST), "snapshot snapshot",), IN_FIRST),
    "segment": Expected(40, (*content(*IN_FIRST), f"segment {FIRST}",), IN_FIRST),
    "last segment: (half|empty)": Expected(
        40, (*content("third"), f"log {LAST}", f"segment {LAST}",), ("third",)
    ),
    "last segment": Expected(40, (*content("third"), f"segment {LAST}",), ("third",)),
    "hints": Expected(0),
    "snapshot": Expected(40, ("snapshot snapshot",)),
}  # fmt: skip


def must_be(expected: Expected, one: dict[str, Any]) -> None:
    lost = dict.fromkeys(expected.lost, EIO)
    assert (one["code"], one["told"], one["read"]) == (expected.code, list(expected.told), lost), (
        one
    )
    assert one["mended"] == [REPAIR], one
    assert (one["code_after"], one["told_after"], one["read_after"]) == (0, [], lost), one


@pytest.mark.slow
def test_damage_is_told_never_read_and_mended(run_faulty: Run) -> None:
    found = run_faulty("rot")
    assert len(found) > 50
    for one in found:
        case = one["case"]
        if case.startswith("index"):
            assert (one["code"], one["read"], one["mended"]) == (14, "exit code 14", REBUILT), one
            assert (one["code_after"], one["told_after"], one["read_after"]) == (0, [], {}), one
        elif case.startswith("identity"):  # without it nothing is touched
            refused = 24 if case.endswith("gone") else 14
            assert one["code"] == one["code_after"] == refused, one
            assert one["read"] == one["read_after"], one
            assert one["read"] == ("exit code 10" if refused == 24 else "exit code 14"), one
        elif case == "last segment: gone":
            # The index knows of acts that the log lacks: nothing is given up unasked.
            assert (one["code"], one["told"]) == (40, ["content /third", "log log"]), one
            assert one["read"] == "exit code 14", one
            assert one["mended"] == [
                "fsck --repair --read-data: 14", "rebuild: 14", "rebuild --accept-loss: 40", REPAIR,
            ], one  # fmt: skip
            assert (one["code_after"], one["read_after"]) == (0, {"third": os.strerror(2)}), one
        else:
            first = next(row for pattern, row in TABLE.items() if re.match(pattern, case))
            must_be(first, one)


@pytest.mark.slow
def test_any_bits_of_the_index_are_survived_and_a_rebuild_makes_all_good(run_faulty: Run) -> None:
    """Rows of the index have no sums: what it says may be wrong until the damage is told. But it
    is told, and the log knows everything."""
    told = 0
    for one in run_faulty("rot", SEED):
        assert one["code"] in (0, 14, 17, 40), one
        if isinstance(one["read"], str):
            assert re.fullmatch(r"exit code \d\d", one["read"]), one
        else:
            assert one["code"] or one["read"].keys() <= {"new"}, one
        assert (one["code_after"], one["told_after"], one["read_after"]) == (0, [], {}), one
        told += one["code"] != 0
    assert told or SEED
