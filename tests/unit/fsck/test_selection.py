"""A part of the blocks, a part of the time; and which files need a block."""

import json
import os
import signal

import pytest

from fusefs.cli import fsck as fsck_verb
from fusefs.cli.app import run
from fusefs.errors import UsageError
from fusefs.fsck.check import check, uses_of
from fusefs.fsck.selection import Selection
from fusefs.model import keys
from fusefs.store import format
from fusefs.store.format import Record
from tests.unit.fsck.sample import B, Sample
from tests.unit.store.acts import flip, records, segment


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_all_parts_together_are_all_blocks_once(parts: int) -> None:
    taken = [
        number
        for part in range(1, parts + 1)
        for number in range(1000)
        if Selection.parse(f"{part}/{parts}", 0).takes(number)
    ]
    assert sorted(taken) == list(range(1000))


def test_a_percentage_is_about_that_many_and_the_same_for_a_seed() -> None:
    def taken(seed: int) -> set[int]:
        selection = Selection.parse("12.5%", seed)
        return {number for number in range(8000) if selection.takes(number)}

    assert 900 < len(taken(1)) < 1100
    assert taken(1) == taken(1) != taken(2)
    assert all(Selection.parse("100%", 3).takes(number) for number in range(100))


@pytest.mark.parametrize("text", ["", "0/3", "4/3", "1/0", "1", "0%", "101%", "x%", "-1/2", "5 %"])
def test_what_is_no_part_is_a_mistake(text: str, sample: Sample) -> None:
    with pytest.raises(UsageError, match="give a part such as"):
        Selection.parse(text, 0)
    assert run(["fsck", f"--read-data={text}", str(sample.path)]) == 2


def damage(sample: Sample, which: int) -> None:
    found = [r for r in records(sample.path, 1) if isinstance(r, Record)]
    blocks = [r for r in found if r.kind == format.BLOCK]
    flip(segment(sample.path, 1), blocks[which].end - 1)


def test_one_part_finds_the_damage_in_its_blocks(
    sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(sample, 2)  # block 3
    codes = [run(["fsck", f"--read-data={n}/3", str(sample.path)]) for n in (1, 2, 3)]
    assert codes == [40, 0, 0]
    assert "content: /docs/" in capsys.readouterr().out


def test_a_percentage_says_by_which_seed(
    sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(*options: str) -> dict[str, int]:
        assert run(["fsck", "--json", "--read-data=40%", *options, str(sample.path)]) == 0
        found: dict[str, int] = json.loads(capsys.readouterr().out)
        return found

    first = read()
    assert read("--seed", str(first["seed"])) == first
    assert len({read("--seed", str(seed))["blocks_read"] for seed in range(9)}) > 1


def test_out_of_time_it_says_how_far_it_came(
    sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fsck", "--read-data", "--time", "0", str(sample.path)]) == 0
    out = capsys.readouterr().out
    assert out.endswith("ended before it was done, in the check of names, files and trash\n")
    assert run(["fsck", "--time", "600", "--json", str(sample.path)]) == 0
    assert json.loads(capsys.readouterr().out)["stopped"] == ""


def test_ended_anywhere_it_tells_what_it_found_until_then(sample: Sample) -> None:
    sample.change({keys.inode(B): b"?"})
    damage(sample, 0)
    whole = check(sample.path, True)
    said, count, steps = set(), 0, 0
    while True:
        steps, left = steps + 1, steps

        def goes_on() -> bool:
            nonlocal left
            left -= 1
            return left >= 0

        report = check(sample.path, True, goes_on=goes_on)
        assert set(report.problems) <= set(whole.problems)
        assert len(report.problems) >= count or report.stopped in ("blocks", "known damage")
        count = len(report.problems)
        said.add(report.stopped)
        if not report.stopped:
            break
    assert report == whole
    assert said == {"names, files and trash", "segments", "blocks", "known damage", ""}
    assert steps > 20


def test_ctrl_c_shows_the_report_so_far(
    sample: Sample, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sample.change({keys.inode(B): b"?"})
    monkeypatch.setattr(
        fsck_verb, "bring_up_to_date", lambda store: os.kill(os.getpid(), signal.SIGINT)
    )
    assert run(["fsck", "--json", str(sample.path)]) == 130
    assert json.loads(capsys.readouterr().out)["stopped"] == "names, files and trash"


def test_a_block_tells_which_files_need_it(
    sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    block, (use,) = uses_of(sample.path, 3)
    assert block is not None
    assert use.path in ("/docs/sub/b", "/docs/twice")
    assert (use.inode, use.offset, use.length, use.skip) == (B, 0, 12, 0)
    assert run(["info", "--json", "--block", "3", str(sample.path)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["segment"], record["references"]) == (format.segment_name(1), 1)
    assert [one["path"] for one in record["extents"]] == [use.path]
    assert run(["info", "--block", "99", str(sample.path)]) == 30
    assert run(["info", "--block", "-1", str(sample.path)]) == 30
