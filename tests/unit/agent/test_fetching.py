"""Which remotes are asked, and in which order."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from fusefs.agent.fetching import PATIENCE_S, RESTS_S, Record, _serve, parts

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


class Places:
    """Remotes of this process, by name; `forgotten` are to be connected anew."""

    def __init__(self, **remotes: "Remote") -> None:
        self._remotes = remotes
        self.forgotten: list[str] = []

    async def get(self, name: str) -> Any:
        return SimpleNamespace(remote=self._remotes[name])

    def forget(self, name: str) -> None:
        self.forgotten.append(name)

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await trio.to_thread.run_sync(function, *arguments, abandon_on_cancel=True)


class Remote:
    """Holds bytes. One that `hangs` does not give them before that is set."""

    def __init__(self, content: bytes, hangs: threading.Event | None = None) -> None:
        self._content = content
        self._hangs = hangs

    def get(self, _name: str, start: int, size: int) -> bytes:
        if self._hangs:
            self._hangs.wait()
        return self._content[start : start + size]


def test_others_are_not_kept_waiting_for_one_that_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    hanging = threading.Event()
    places = Places(near=Remote(b"near", hanging), far=Remote(b"far!"))
    order = {"id": 7, "kind": "fetch", "segment": 1, "offset": 0, "size": 4, "copies": COPIES[:2]}
    reports: list[Record] = []
    silent: dict[str, float] = {}

    class Link:
        store = tmp_path

        async def ask(self, _verb: str, **done: Any) -> None:
            reports.append(done)

    async def main() -> float:
        slots = trio.Semaphore(1)
        await slots.acquire()
        began = trio.current_time()
        await _serve(Link(), places, order, slots, silent)  # type: ignore[arg-type]
        return trio.current_time() - began

    clock = trio.testing.MockClock(autojump_threshold=0.05)
    try:
        took_s = trio.run(main, clock=clock)
        came = (tmp_path / "cache" / f"{1:016x}").read_bytes()
    finally:
        hanging.set()  # and what is left to itself may come, too
    assert (reports, came) == ([{"id": 7, "remote": "far"}], b"far!")
    assert PATIENCE_S <= took_s < PATIENCE_S + 1
    assert (list(silent), places.forgotten) == (["near"], ["near"])
