"""Whichever call of the store fails, what was acknowledged is there, and the error says what it is.

Each call of a script on a file of the store fails once, on its own; see strike.py.
"""

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

#: Of the calls one in so many fails; tools/soak tries each.
EVERY = int(os.environ.get("FUSEFS_FAULTS_EVERY", "0"))

Run = Callable[..., list[dict[str, Any]]]


def check(outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Nothing is wrong with them, and the last one passed untouched; the others."""
    *struck, last = outcomes
    assert (last["first"], last["raised"], last["wrong"]) == ("", [], "")
    wrong = [one for one in struck if one["wrong"]]
    assert not wrong, "\n".join(f"{json.dumps(one)}\n{one['wrong']}" for one in wrong[:5])
    assert all(one["first"] for one in struck)
    return struck


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "every", "least"),
    [("EIO", 5, 24), ("ENOSPC", 5, 18), ("short", 3, 20), ("unreadable", 5, 9)],
)
def test_a_call_that_fails_costs_no_more_than_its_act(
    run_faulty: Run, kind: str, every: int, least: int
) -> None:
    every = EVERY or every
    struck = check(run_faulty("strike", kind, "acts", every))
    assert len(struck) >= least
    calls = {one["first"].split("/")[0] for one in struck}
    if kind == "EIO" and every == 1:
        assert {
            "ftruncate lock", "mkdir cut", "rename cut", "fdatasync segments", "writev segments",
            "open segments", "unlink segments", "sync segments", "pwrite index", "fdatasync index",
            "write snapshot.new", "rename snapshot.new", "open readers.lock", "pwrite hints",
        } <= calls  # fmt: skip
    failed = [one for one in struck if one["first"].startswith("fdatasync segments")]
    assert all(one["raised"] for one in failed)


@pytest.mark.slow
def test_a_disk_that_is_full_from_any_moment_on_is_used_again_when_it_is_not(
    run_faulty: Run,
) -> None:
    """Whatever was acknowledged before and meanwhile is there."""
    struck = check(run_faulty("strike", "ENOSPC", "acts-on", EVERY or 5))
    assert any(len(one["raised"]) > 5 for one in struck)
    assert all("DiskFull" in text for one in struck for text in one["raised"][-1:])


@pytest.mark.parametrize("kind", ["EIO", "unreadable"])
@pytest.mark.parametrize("verb", ["init", "rebuild", "repair", "fsck"])
def test_a_verb_that_fails_can_be_called_again(run_faulty: Run, verb: str, kind: str) -> None:
    every = EVERY or {"repair": 9, "fsck": 6, "rebuild": 5}.get(verb, 2)
    check(run_faulty("strike", kind, verb, every))
