"""What a collection chooses: as little as it can."""

from dataclasses import replace

import pytest

from fusefs.store.margins import DEFAULT
from fusefs.store.plan import Candidate, choose, merge

MIB = 1 << 20
NEWEST = 100
MARGINS = replace(DEFAULT, least_bytes=0)


def segments(*live_mib: float, size_mib: int = 16) -> list[Candidate]:
    """Segments from 1 on of one size, with so much of use."""
    return [
        Candidate(number, size_mib * MIB, int(live * MIB))
        for number, live in enumerate(live_mib, start=1)
    ]


def chosen(found: list[Candidate], *, only_mostly_dead: bool = False) -> list[int]:
    live = sum(one.live for one in found)
    plan = choose(found, live, MARGINS, NEWEST, only_mostly_dead=only_mostly_dead)
    return [one.number for one in plan.segments]


def test_the_emptiest_come_first_and_no_more_than_needed() -> None:
    assert chosen(segments(15, 8, 0, 15.9, 2)) == [3, 5, 2]
    assert chosen(segments(15, 8, 0, 15.9, 2, *[16] * 20)) == [3, 5]


def test_what_is_within_the_margin_is_left() -> None:
    assert chosen(segments(*[15.4] * 20)) == []
    assert len(chosen(segments(*[15] * 20))) == 8


def test_the_part_that_is_dead_counts_and_not_its_size() -> None:
    found = [*segments(8), Candidate(2, MIB, 0)]
    assert chosen(found) == [2, 1]


@pytest.mark.parametrize("dead_mib", [0.1, 8])
def test_the_newest_is_chosen_only_where_it_must_be(dead_mib: float) -> None:
    newest = Candidate(NEWEST, 16 * MIB, int((16 - dead_mib) * MIB))
    found = [*segments(0, 16, 16, 16), newest]
    assert chosen(found) == ([1, NEWEST] if dead_mib == 8 else [1])
    assert chosen(found, only_mostly_dead=True) == [1]


def test_a_small_newest_segment_of_no_use_is_not_ended_for_nothing() -> None:
    newest = Candidate(NEWEST, 1000, 0)
    assert chosen([*segments(0, 16), newest]) == [1]


def test_a_busy_store_is_rid_of_what_is_mostly_dead() -> None:
    assert chosen(segments(15, 8.1, 0, 8, 9), only_mostly_dead=True) == [3, 4]


def test_rows_that_stand_in_the_next_segment_even_out() -> None:
    """A segment may need more than its size, and the next so much less."""
    found = [Candidate(1, MIB, 2 * MIB), Candidate(2, 2 * MIB, MIB)]
    assert chosen(found) == []


def test_a_plan_tells_what_it_costs_and_frees() -> None:
    found = segments(4, 16, 0)
    plan = choose(found, 20 * MIB, MARGINS, NEWEST)
    assert plan.record() == {
        "segments": 2,
        "file_bytes": 32 * MIB,
        "move_bytes": 4 * MIB,
        "reclaimable_bytes": 28 * MIB,
        "live_bytes": 20 * MIB,
        "dead_bytes": 28 * MIB,
    }


def test_small_segments_are_merged_where_there_are_enough_of_them() -> None:
    margins = replace(DEFAULT, merge_least=4, merge_bytes=1000, merge_enough=8)
    few = [(number, 300, 200) for number in range(3)]
    large = [(number, 16 * MIB, 200) for number in range(10, 20)]
    assert merge([*few, *large], 10**9, 0, margins).segments == ()
    many = [(number, 300, 200) for number in range(9, 0, -1)]
    plan = merge([*many, *large], 10**9, 0, margins)
    assert [one.number for one in plan.segments] == [1, 2, 3, 4, 5]  # the oldest, and 1000 bytes
    assert (plan.move_bytes, plan.reclaimable_bytes) == (1000, 500)
    index = 6 * margins.merge_index_bytes
    assert merge(many[:5], 10**9, index, margins).segments == ()
    assert merge(many, 10**9, index, margins).segments
    assert merge(many, 10**9, 10**12, margins).segments
