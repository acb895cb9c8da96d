"""Waiting bytes are those that were written, wherever and in whatever order."""

from hypothesis import given, settings
from hypothesis import strategies as st

from fusefs.files.waiting import Waiting, joined
from fusefs.model.extent import BLOCK_SIZE

EDGE = BLOCK_SIZE  # a small file that lies over the edge of two spans
FIRST, LAST = EDGE - 60, EDGE + 60

WRITE = st.tuples(st.just("write"), st.integers(FIRST, LAST), st.binary(min_size=1, max_size=40))
TRUNCATE = st.tuples(st.just("truncate"), st.integers(FIRST, LAST), st.just(b""))


def pieces_of(waiting: Waiting) -> list[tuple[int, bytes]]:
    found = []
    for span in waiting.spans():
        found += [(start, bytes(piece)) for start, piece in joined(waiting.parts(span))]
    return found


@given(st.lists(WRITE | TRUNCATE, max_size=25))
def test_what_waits_is_what_was_written_last(acts: list[tuple[str, int, bytes]]) -> None:
    waiting = Waiting()
    model: dict[int, int] = {}
    for kind, offset, data in acts:
        if kind == "write":
            assert waiting.write(offset, data, 0) == []
            model.update(enumerate(data, offset))
        else:
            waiting.truncate(offset)
            model = {position: byte for position, byte in model.items() if position < offset}
        pieces = pieces_of(waiting)
        found: dict[int, int] = {}
        end = -1
        for start, piece in pieces:
            assert piece
            assert start > end or start == EDGE, "pieces touch that could be one"
            assert start // BLOCK_SIZE == (start + len(piece) - 1) // BLOCK_SIZE
            found.update(enumerate(piece, start))
            end = start + len(piece)
        assert found == model
        assert waiting.size_bytes == len(model)
        assert bool(waiting) == bool(model)


@given(st.lists(WRITE, max_size=10), st.integers(FIRST - 20, LAST), st.integers(1, 80))
def test_an_overlay_changes_what_waits_and_nothing_else(
    acts: list[tuple[str, int, bytes]], start: int, size: int
) -> None:
    waiting = Waiting()
    model: dict[int, int] = {}
    for _, offset, data in acts:
        waiting.write(offset, data, 0)
        model.update(enumerate(data, offset))
    target = bytearray(b"." * size)
    waiting.overlay(start, target)
    assert target == bytes(model.get(start + index, ord(".")) for index in range(size))
    if any(start <= position < start + size for position in model):
        assert waiting.touches(start, start + size)


@settings(max_examples=20, deadline=None)
@given(st.permutations([0, 1, 2, 3, 4, 5]), st.integers(0, 1000))
def test_a_span_that_becomes_whole_is_said_once(order: list[int], shift: int) -> None:
    cuts = [0, 1000 + shift, 200_000, 400_000 - shift, 600_000, BLOCK_SIZE - 1, BLOCK_SIZE]
    waiting = Waiting()
    said = []
    for index in order:
        said.append(
            waiting.write(3 * BLOCK_SIZE + cuts[index], bytes(cuts[index + 1] - cuts[index]), 0)
        )
    assert said == [[]] * 5 + [[3]]


def test_a_write_over_several_spans_is_cut_at_their_edges() -> None:
    waiting = Waiting()
    assert waiting.write(BLOCK_SIZE - 5, bytes(2 * BLOCK_SIZE), 0) == [1]
    assert [(start, len(piece)) for start, piece in pieces_of(waiting)] == [
        (BLOCK_SIZE - 5, 5),
        (BLOCK_SIZE, BLOCK_SIZE),
        (2 * BLOCK_SIZE, BLOCK_SIZE - 5),
    ]


def test_far_offsets_cost_what_was_written() -> None:
    waiting = Waiting()
    waiting.write(2**62, b"far", 0)
    waiting.write(0, b"near", 0)
    assert waiting.size_bytes == 7
    assert waiting.touches(0, 2**63 - 1)
    assert not waiting.touches(BLOCK_SIZE, 2**61)


PARTS = [0, 100, 70_000, 200_000, 200_010, 330_000, 700_000, BLOCK_SIZE - 70_000, BLOCK_SIZE]


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(8)), st.integers(0, BLOCK_SIZE), st.integers(1, 300_000))
def test_large_parts_that_lie_side_by_side_are_one_piece(
    order: list[int], cut: int, length: int
) -> None:
    waiting, model = Waiting(), bytearray(BLOCK_SIZE)
    for index in order:
        data = bytes([index + 1]) * (PARTS[index + 1] - PARTS[index])
        whole = waiting.write(PARTS[index], data, 0)
        model[PARTS[index] : PARTS[index + 1]] = data
    assert whole == [0]
    assert pieces_of(waiting) == [(0, bytes(model))]
    length = min(length, BLOCK_SIZE - cut)
    if length:
        assert waiting.write(cut, b"." * length, 0) == [0]
        model[cut : cut + length] = b"." * length
        target = bytearray(BLOCK_SIZE)
        waiting.overlay(0, target)
        assert target == model
    waiting.truncate(cut)
    assert pieces_of(waiting) == ([(0, bytes(model[:cut]))] if cut else [])
    assert waiting.size_bytes == cut


def test_the_age_is_that_of_the_oldest_that_waits() -> None:
    waiting = Waiting()
    waiting.write(0, b"a", 1.0)
    waiting.write(BLOCK_SIZE, b"b", 2.0)
    waiting.write(1, b"c", 3.0)
    assert waiting.since == 1.0
    waiting.drop(0)
    assert waiting.since == 2.0
