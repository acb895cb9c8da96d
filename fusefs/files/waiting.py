"""Bytes of one file that were written but are not yet in the store.

They are kept as pieces, sorted and apart, grouped by the 1 MiB span of the file they lie in:
a piece becomes one block. Sequential writes grow the last piece; random ones stay small pieces, so
memory is what was written and not more.
"""

from bisect import bisect_right
from collections.abc import Iterator

from fusefs.model.extent import BLOCK_SIZE

_SHIFT = BLOCK_SIZE.bit_length() - 1

Piece = tuple[int, bytes | bytearray]


class Waiting:
    """`size_bytes`: how many bytes wait."""

    __slots__ = ("_spans", "size_bytes")

    def __init__(self) -> None:
        self._spans: dict[int, list[Piece]] = {}
        self.size_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._spans)

    def write(self, offset: int, data: bytes) -> list[int]:
        """Lay `data` over what waits; returns the spans that are now whole blocks."""
        whole = []
        end = offset + len(data)
        if offset >> _SHIFT == (end - 1) >> _SHIFT:
            if self._write_span(offset >> _SHIFT, offset, data):
                whole.append(offset >> _SHIFT)
            return whole
        view = memoryview(data)
        position = offset
        while position < end:
            span = position >> _SHIFT
            stop = min(end, (span + 1) << _SHIFT)
            part = bytes(view[position - offset : stop - offset])
            if self._write_span(span, position, part):
                whole.append(span)
            position = stop
        return whole

    def _write_span(self, span: int, offset: int, data: bytes) -> bool:
        pieces = self._spans.get(span)
        if pieces is None:
            self._spans[span] = [(offset, data)]
            self.size_bytes += len(data)
            return len(data) == BLOCK_SIZE
        start, last = pieces[-1]
        if start + len(last) == offset:
            if not isinstance(last, bytearray):
                last = bytearray(last)
                pieces[-1] = (start, last)
            last += data
            self.size_bytes += len(data)
            return len(last) == BLOCK_SIZE
        if start + len(last) < offset:
            pieces.append((offset, data))
            self.size_bytes += len(data)
            return False
        return self._merge(pieces, offset, data)

    def _merge(self, pieces: list[Piece], offset: int, data: bytes) -> bool:
        end = offset + len(data)
        first = bisect_right(pieces, offset, key=_start)
        if first and _end(pieces[first - 1]) >= offset:
            first -= 1
        last = first
        while last < len(pieces) and pieces[last][0] <= end:
            last += 1
        touched = pieces[first:last]
        if not touched:
            pieces.insert(first, (offset, data))
            self.size_bytes += len(data)
            return False
        start = min(offset, touched[0][0])
        merged = bytearray(max(end, _end(touched[-1])) - start)
        for piece_start, piece in touched:
            merged[piece_start - start : piece_start - start + len(piece)] = piece
            self.size_bytes -= len(piece)
        merged[offset - start : end - start] = data
        pieces[first:last] = [(start, merged)]
        self.size_bytes += len(merged)
        return len(merged) == BLOCK_SIZE

    def overlay(self, offset: int, target: bytearray) -> None:
        """Lay what waits over `target`, the file's bytes from `offset` on."""
        end = offset + len(target)
        for span in self._spans_in(offset, end):
            for start, piece in self._spans[span]:
                first, last = max(start, offset), min(start + len(piece), end)
                if first < last:
                    target[first - offset : last - offset] = memoryview(piece)[
                        first - start : last - start
                    ]

    def touches(self, offset: int, end: int) -> bool:
        """Whether a span of [offset, end) has waiting bytes."""
        return any(True for _ in self._spans_in(offset, end))

    def _spans_in(self, offset: int, end: int) -> Iterator[int]:
        first, last = offset >> _SHIFT, (end - 1) >> _SHIFT
        if last - first < len(self._spans):
            return (span for span in range(first, last + 1) if span in self._spans)
        return (span for span in self._spans if first <= span <= last)

    def spans(self) -> list[int]:
        """The spans with waiting bytes, ascending."""
        return sorted(self._spans)

    def take(self, span: int) -> list[Piece]:
        """Remove and return the pieces of a span."""
        pieces = self._spans.pop(span)
        self.size_bytes -= sum(len(piece) for _, piece in pieces)
        return pieces

    def put_back(self, span: int, pieces: list[Piece]) -> None:
        """Undo `take`."""
        self._spans[span] = pieces
        self.size_bytes += sum(len(piece) for _, piece in pieces)

    def truncate(self, size: int) -> None:
        """Forget what lies behind `size`."""
        for span in [s for s in self._spans if (s + 1) << _SHIFT > size]:
            kept = []
            for start, piece in self.take(span):
                if start < size:
                    kept.append((start, piece[: size - start]))
            if kept:
                self.put_back(span, kept)


def _start(piece: Piece) -> int:
    return piece[0]


def _end(piece: Piece) -> int:
    return piece[0] + len(piece[1])
