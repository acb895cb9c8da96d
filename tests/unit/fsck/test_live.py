"""A store can be checked while a daemon goes on writing, between any two steps of the check."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import fusefs
from fusefs.fsck import check as check_module
from fusefs.fsck import view as view_module
from fusefs.fsck.check import check
from fusefs.fsck.segments import Blocks
from fusefs.store.index import Index
from tests.unit.fsck.sample import Sample

Order = Callable[..., None]


@contextmanager
def started(store: Path) -> Iterator[subprocess.Popen[str]]:
    """The other process, that has `store` open."""
    command = [sys.executable, "-m", "tests.unit.fsck.writer", str(store)]
    root = Path(fusefs.__file__).parents[1]
    with subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


@pytest.fixture
def writer(sample: Sample) -> Iterator[subprocess.Popen[str]]:
    with started(sample.path) as process:
        yield process


@pytest.fixture
def order(writer: subprocess.Popen[str]) -> Order:
    return orders(writer)


def orders(writer: subprocess.Popen[str]) -> Order:
    """What has the other process do some acts, and returns when they are done."""

    def send(*acts: str) -> None:
        assert writer.stdin is not None
        assert writer.stdout is not None
        for act in acts:
            writer.stdin.write(act + "\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "done\n"

    return send


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str, Callable[[], None]], None]:
    """Has something happen just before a step of the check."""

    def put_before(module: Any, step: str, act: Callable[[], None]) -> None:
        plain = getattr(module, step)

        def with_act(*arguments: Any, **named: Any) -> Any:
            act()
            return plain(*arguments, **named)

        monkeypatch.setattr(module, step, with_act)

    return put_before


def test_what_is_in_the_log_alone_is_checked_too(sample: Sample, order: Order) -> None:
    order("write")
    report = check(sample.path, True)
    assert (report.problems, report.torn) == ((), "")
    assert report.replayed > 20


@pytest.mark.parametrize("acts", [["write", "checkpoint"], ["checkpoint", "write", "seal"]])
def test_a_checkpoint_between_the_index_and_the_log(
    sample: Sample, order: Order, before: Any, acts: list[str]
) -> None:
    order("write")
    before(view_module, "replay", lambda: order(*acts, *acts))
    report = check(sample.path, True)
    assert (report.problems, report.torn) == ((), "")


@pytest.mark.parametrize("step", ["view", "names", "contents", "segments", "Blocks.check", "users"])
def test_writes_between_the_steps(sample: Sample, order: Order, before: Any, step: str) -> None:
    order("write")
    where = Blocks if step == "Blocks.check" else check_module
    before(
        where, step.split(".")[-1], lambda: order("write", "checkpoint", "write", "seal", "write")
    )
    report = check(sample.path, True)
    assert (report.problems, report.torn) == ((), "")


def test_a_batch_that_is_being_appended_is_no_torn_log(
    sample: Sample, order: Order, before: Any
) -> None:
    order("write", "half")
    before(check_module, "segments", lambda: order("rest"))
    report = check(sample.path, True)
    assert (report.problems, report.torn) == ((), "")


def test_a_batch_whose_writer_died_is_a_torn_log(
    sample: Sample, order: Order, writer: subprocess.Popen[str]
) -> None:
    order("write", "half")
    writer.kill()
    writer.wait()
    report = check(sample.path, True)
    assert report.problems == ()
    assert "cut short" in report.torn


def test_a_storm_of_writes(sample: Sample, order: Order) -> None:
    is_over = False

    def storm() -> None:
        while not is_over:
            order("write", "checkpoint", "write", "write", "seal", "write")

    thread = Thread(target=storm)
    thread.start()
    try:
        reports = [check(sample.path, True) for _ in range(8)]
    finally:
        is_over = True
        thread.join()
    assert [(report.problems, report.torn) for report in reports] == [((), "")] * 8
    assert reports[-1].blocks > reports[0].blocks


@pytest.mark.parametrize(
    ("module", "step"), [(Index, "_begin"), (view_module, "replay"), (Blocks, "check")]
)
def test_the_map_of_the_index_grows_meanwhile(
    tmp_path: Path, before: Any, module: Any, step: str
) -> None:
    with started(tmp_path / "store") as process:
        order = orders(process)
        order("write", "checkpoint")
        acts = iter(["grow"])
        before(module, step, lambda: order(*acts))
        report = check(tmp_path / "store", True)
    assert (report.problems, report.torn) == ((), "")
    assert next(acts, None) is None
