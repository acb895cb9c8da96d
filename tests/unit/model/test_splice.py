"""Laying extents over extents is writing bytes over bytes."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fusefs.model.extent import HOLE, Extent, splice

#: A byte of a file, as the extents say it: (block, offset in it), or (HOLE, 0).
Cell = tuple[int, int]


def cells(extents: list[Extent]) -> dict[int, Cell]:
    found = {}
    for one in extents:
        for index in range(one.length):
            position = one.offset + index
            assert position not in found, "extents overlap"
            found[position] = (one.block, one.skip + index) if one.block else (HOLE, 0)
    return found


@st.composite
def maps(draw: st.DrawFn, *, gaps: bool) -> list[Extent]:
    """Sorted extents without overlap; with `gaps`, not all of the range is covered."""
    extents = []
    position = draw(st.integers(0, 20)) if gaps else 0
    for _ in range(draw(st.integers(0, 6))):
        length = draw(st.integers(1, 12))
        block = draw(st.integers(0, 4))
        skip = draw(st.integers(0, 9)) if block else 0
        extents.append(Extent(position, length, block, skip))
        position += length + (draw(st.integers(0, 6)) if gaps else 0)
    return extents


@given(maps(gaps=False), maps(gaps=True))
def test_new_extents_hide_what_they_cover_and_nothing_else(
    old: list[Extent], new: list[Extent]
) -> None:
    result = splice(old, new)
    assert cells(result) == cells(old) | cells(new)
    assert result == sorted(result)
    assert all(one.length > 0 for one in result)


@given(maps(gaps=False), maps(gaps=True))
def test_no_two_holes_touch_in_the_result(old: list[Extent], new: list[Extent]) -> None:
    result = splice(old, new)
    for one, two in pairwise(result):
        assert not (one.block == two.block == HOLE and one.end == two.offset)


@given(maps(gaps=True))
def test_nothing_laid_over_changes_no_byte(old: list[Extent]) -> None:
    assert cells(splice(old, [])) == cells(old)


def test_the_part_of_a_hole_keeps_no_skip() -> None:
    assert Extent(10, 20, HOLE, 0).part(15, 18) == Extent(15, 3, HOLE, 0)
    assert Extent(10, 20, 7, 100).part(15, 99) == Extent(15, 15, 7, 105)
