"""Bytes of one file that were written but are not yet in the store.

They are kept as parts, sorted and without overlap, grouped by the 1 MiB span of the file they lie
in: what lies side by side is a piece, and becomes one block. Small sequential writes grow the last
part; large ones stay parts as they came, to be joined when the span is stored (to grow a bytearray
by 128 KiB at a time copies it several times over). Random ones stay small, so memory is what was
written and not more. Parts are replaced and never changed once their span is whole.
"""

from bisect import bisect_right
from collections.abc import Iterator

from fusefs.model.extent import BLOCK_SIZE

_SHIFT = BLOCK_SIZE.bit_length() - 1

#: A write of this size is kept as it came: so few of them that lists stay short.
_PART_FROM = 64 << 10

Piece = tuple[int, bytes | bytearray]


class Waiting:
    """`size_bytes`: how many bytes wait."""

    __slots__ = ("_since", "_spans", "size_bytes")

    def __init__(self) -> None:
        self._spans: dict[int, list[Piece]] = {}
        self._since: dict[int, float] = {}  # of each span, the oldest first
        self.size_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._spans)

    @property
    def since(self) -> float:
        """When the oldest of what waits was written; there must be some."""
        return next(iter(self._since.values()))

    def write(self, offset: int, data: bytes, now: float) -> list[int]:
        """Lay `data` over what waits; returns the spans that are now whole blocks."""
        whole = []
        end = offset + len(data)
        if offset >> _SHIFT == (end - 1) >> _SHIFT:
            if self._write_span(offset >> _SHIFT, offset, data, now):
                whole.append(offset >> _SHIFT)
            return whole
        view = memoryview(data)
        position = offset
        while position < end:
            span = position >> _SHIFT
            stop = min(end, (span + 1) << _SHIFT)
            part = bytes(view[position - offset : stop - offset])
            if self._write_span(span, position, part, now):
                whole.append(span)
            position = stop
        return whole

    def _write_span(self, span: int, offset: int, data: bytes, now: float) -> bool:
        pieces = self._spans.get(span)
        if pieces is None:
            self._spans[span] = [(offset, data)]
            self._since[span] = now
            self.size_bytes += len(data)
            return len(data) == BLOCK_SIZE
        start, last = pieces[-1]
        end = start + len(last)
        if end > offset:
            return self._merge(pieces, offset, data)
        self.size_bytes += len(data)
        if end == offset and len(data) < _PART_FROM:
            if not isinstance(last, bytearray):
                last = bytearray(last)
                pieces[-1] = (start, last)
            last += data
        else:
            pieces.append((offset, data))
        return _are_whole(pieces)

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
            return _are_whole(pieces)
        start = min(offset, touched[0][0])
        merged = bytearray(max(end, _end(touched[-1])) - start)
        for piece_start, piece in touched:
            merged[piece_start - start : piece_start - start + len(piece)] = piece
            self.size_bytes -= len(piece)
        merged[offset - start : end - start] = data
        pieces[first:last] = [(start, merged)]
        self.size_bytes += len(merged)
        return _are_whole(pieces)

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

    def parts(self, span: int) -> list[Piece]:
        """What waits of a span, in order; side by side there may be several."""
        return self._spans[span]

    def drop(self, span: int) -> None:
        """Forget what waits of a span."""
        self.size_bytes -= sum(len(piece) for _, piece in self._spans.pop(span))
        del self._since[span]

    def truncate(self, size: int) -> None:
        """Forget what lies behind `size`."""
        for span in [s for s in self._spans if (s + 1) << _SHIFT > size]:
            kept = [(start, part[: size - start]) for start, part in self._spans[span]]
            kept = [(start, part) for start, part in kept if part and start < size]
            if not kept:
                self.drop(span)
                continue
            self.size_bytes -= sum(len(part) for _, part in self._spans[span])
            self.size_bytes += sum(len(part) for _, part in kept)
            self._spans[span] = kept


def joined(parts: list[Piece]) -> list[Piece]:
    """The parts that lie side by side as one piece each."""
    pieces: list[Piece] = []
    at = 0
    while at < len(parts):
        stop = at + 1
        while stop < len(parts) and parts[stop][0] == _end(parts[stop - 1]):
            stop += 1
        pieces.append((parts[at][0], contents(parts[at:stop])))
        at = stop
    return pieces


def contents(parts: list[Piece]) -> bytes | bytearray:
    """The bytes of parts that lie side by side."""
    return parts[0][1] if len(parts) == 1 else b"".join([part for _, part in parts])


def _are_whole(parts: list[Piece]) -> bool:
    """Whether they are all of their span."""
    if parts[0][0] % BLOCK_SIZE or _end(parts[-1]) % BLOCK_SIZE:
        return False
    return sum([len(part) for _, part in parts]) == BLOCK_SIZE


def _start(piece: Piece) -> int:
    return piece[0]


def _end(piece: Piece) -> int:
    return piece[0] + len(piece[1])
