"""Which remotes are asked, and in which order."""

from typing import Any

from fusefs.agent.fetching import RESTS_S, parts

COPIES = [
    {"remote": name, "name": "object", "is_doubted": False} for name in ("near", "far", "farthest")
]
FETCH: dict[str, Any] = {"id": 1, "kind": "fetch", "offset": 0, "size": 1, "copies": COPIES}


def asked(silent: dict[str, float], now: float) -> list[list[str]]:
    return [[copy["remote"] for copy in part["copies"]] for part in parts(FETCH, silent, now)]


def test_one_remote_after_the_other_is_asked_for_content() -> None:
    assert asked({}, 1000.0) == [["near"], ["far"], ["farthest"]]
    assert [{**part, "copies": COPIES} for part in parts(FETCH, {}, 0.0)] == [FETCH] * 3


def test_one_that_did_not_answer_lately_is_asked_last() -> None:
    silent = {"near": 1000.0}
    assert asked(silent, 1000.0 + RESTS_S - 1) == [["far"], ["farthest"], ["near"]]
    assert asked(silent, 1000.0 + RESTS_S) == [["near"], ["far"], ["farthest"]]


def test_one_whose_content_is_doubted_is_asked_after_one_that_does_not_answer() -> None:
    copies = [{**COPIES[0], "is_doubted": True}, *COPIES[1:]]
    found = parts({**FETCH, "copies": copies}, {"far": 1000.0, "farthest": 1000.0}, 1001.0)
    assert [part["copies"][0]["remote"] for part in found] == ["far", "farthest", "near"]


def test_a_proof_wants_all_of_them() -> None:
    proof = {**FETCH, "kind": "prove"}
    assert parts(proof, {"near": 0.0}, 1.0) == [proof]
