"""Bringing a store into a remote: segments, then what makes a filesystem of them, then its name.

::

    begin     is the remote ours, and how far did we come
    send      segments, before anybody needs them
    publish   cut -> delta -> what the cut needs and lacks -> tables -> intent -> checkpoint

A checkpoint is put when everything that it names is there, under the number that follows, and only
if there is none: so a remote is whole at every instant, and two writers meet at a number. Which of
them we are is told by the *intent*, STORE/sync/<number of the remote>: what we are about to put is
written there first, durably. Found in the remote, it is ours, whatever became of the answer; what
is none of it is another's, and nothing is sent any more until a user has decided.

The same file, once its checkpoint is there, is what the next one goes on from: its base and deltas.
A base is made where there is none, where a segment whose batches were to be a delta is gone, and
where the deltas have become much of what a clone reads.

All of it may be cut off anywhere and begun again. What was put without being named is found by its
name the next time, or is collected (`sync.expire`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from fusefs.base import failpoints
from fusefs.base.clock import utc
from fusefs.errors import (
    FormatTooNew,
    ObjectDamaged,
    RemoteError,
    RemoteTaken,
    WrongState,
)
from fusefs.remotes.api import Remote
from fusefs.store import identity
from fusefs.sync import lanes, layout
from fusefs.sync.api import Cut, Source, Wanted
from fusefs.sync.intents import Intent, Intents
from fusefs.sync.lanes import Job
from fusefs.sync.layout import Base, Checkpoint, Delta, Piece, Place, Segment
from fusefs.sync.reading import (
    SegmentGone,
    batches,
    index_position,
    index_rows,
    segment_bytes,
)

#: A base is made anew behind so many deltas, or when they are half as large, and above this.
MAX_DELTAS = 200
MIN_DELTAS_BYTES = 1 << 20
#: How often a cut is made again because a segment went meanwhile, before others have their turn.
CUTS = 5
#: Pieces of a base that wait in memory for the question which of them are there, and their bytes.
_ASKED_PIECES, _ASKED_BYTES = 32, 16 << 20


@dataclass
class Chain:
    """A base and the deltas since, up to `end` of the log."""

    base: Piece
    base_bytes: int
    deltas: list[Delta]
    end: Place

    @property
    def is_long(self) -> bool:
        size = sum(delta.size for delta in self.deltas)
        return len(self.deltas) >= MAX_DELTAS or size > max(self.base_bytes // 2, MIN_DELTAS_BYTES)


class Publisher:
    """Brings the store at `path` into `remote`, which its row knows by `number` and `writer`.

    Its methods block. After any error make a new one. `sequence`: of what it published last.
    """

    def __init__(
        self, remote: Remote, path: Path, number: int, writer: str, source: Source
    ) -> None:
        self._remote = remote
        self._path = path
        self._intents = Intents(path, number)
        self.writer = writer
        self._source = source
        self._uuid = identity.read(path).uuid
        self.sequence = 0
        self._chain: Chain | None = None
        self._there: set[bytes] = set()  # tables that are known to be in the remote
        self._is_sure = False  # that what is not known to be there is not

    # -- is it ours

    def begin(self, sequence: int) -> None:
        """Look at the remote, in which this store has published `sequence` last.

        Raises RemoteTaken, FormatTooNew, ObjectDamaged and what a remote raises.
        """
        if not layout.check(self._remote):
            self._put(layout.FORMAT_NAME, layout.pack_format())
        newest = max(layout.sequences(self._remote), default=0)
        intent = self._intents.read()
        if newest > sequence:
            sequence = self._recover(newest, sequence, intent)
        elif newest < sequence:
            raise self._lost()
        self.sequence = sequence
        if sequence:
            self._take_up(sequence, intent)

    def _recover(self, newest: int, sequence: int, intent: Intent | None) -> int:
        """Somebody has published behind `sequence`: we, before we could say so, or another."""
        content = self._remote.get(layout.checkpoint_object(newest))
        is_ours = (
            intent is not None
            and newest == intent.sequence == sequence + 1
            and blake3(content).digest() in intent.digests
        )
        if not is_ours:
            raise self._taken(newest, content)
        self._source.recovered(layout.unpack_checkpoint(content, layout.checkpoint_object(newest)))
        return newest

    def _lost(self) -> ObjectDamaged:
        return ObjectDamaged(
            f"{self._remote.place} has lost what was published there: 'fusefs sync verify' finds"
            " out what is missing, and has it sent again"
        )

    def _taken(self, sequence: int, content: bytes) -> RemoteTaken:
        try:
            found = layout.unpack_checkpoint(content, layout.checkpoint_object(sequence))
            what = "another store" if found.uuid != self._uuid else "this store, elsewhere,"
            who = f"{what} has published there at {utc(found.created_ns)[:19]}"
        except (ObjectDamaged, FormatTooNew) as error:
            who = f"another has published there ({error})"
        return RemoteTaken(
            f"{self._remote.place} has another writer: {who}. Give this one another place, or stop"
            " the other one and take it over by 'fusefs sync adopt'"
        )

    def _take_up(self, sequence: int, intent: Intent | None) -> None:
        """Go on from our checkpoint; from a base of our own where that is another's."""
        name = layout.checkpoint_object(sequence)
        try:
            if intent is not None and intent.sequence == sequence and len(intent.digests) == 1:
                checkpoint = layout.unpack_checkpoint(intent.content, name)
            else:
                checkpoint = layout.read_checkpoint(self._remote, sequence)
        except ObjectDamaged:
            return  # with a base of its own the next one does not need it
        if checkpoint.writer == self.writer and checkpoint.uuid == self._uuid:
            self._chain = Chain(
                checkpoint.base, checkpoint.base_bytes, list(checkpoint.deltas), checkpoint.end
            )
            self._there.update(piece.digest for piece in checkpoint.tables)

    # -- segments

    def send(self, wanted: Sequence[Wanted]) -> None:
        """Have these segments in the remote, begun in this order, some at one time. Those that
        went meanwhile are left.

        Raises what a remote raises; those that were sent until then are.
        """
        self._source.tell("sending segments")
        if not self._is_sure:
            wanted = self._without_present(wanted)
        self._is_sure = False
        jobs = (self._segment_job(one) for one in wanted)
        lanes.send(self._remote.put, (job for job in jobs if job), self._segment_sent)
        self._is_sure = True

    def _segment_job(self, wanted: Wanted) -> Job[Segment] | None:
        """None where it is gone. Holds no content, once it has returned."""
        try:
            content = self._content(wanted)
        except SegmentGone:
            return None
        segment = Segment(wanted.segment, len(content), blake3(content).digest())
        failpoints.hit("sync.send")
        return Job(segment, segment.name, content)

    def _segment_sent(self, segment: Segment, size: int) -> None:
        self._source.tell("sending", size, 1)
        failpoints.hit("sync.sent")
        self._source.stored([segment])

    def _without_present(self, wanted: Sequence[Wanted]) -> list[Wanted]:
        """Those that are not there; after a connection was lost nobody knows what has arrived."""
        known: dict[int, Segment] = {}
        for one in wanted:
            try:
                content = self._content(one)
            except SegmentGone:
                continue
            known[one.segment] = Segment(one.segment, len(content), blake3(content).digest())
        sizes = self._remote.sizes([segment.name for segment in known.values()])
        there = [one for one in known.values() if sizes.get(one.name) == one.size]
        if there:
            self._source.stored(there)
        rest = known.keys() - {one.number for one in there}
        return [one for one in wanted if one.segment in rest]

    def _content(self, wanted: Wanted) -> bytes:
        """A segment's bytes; another's copy, where the disk does not give what it once was.

        Raises SegmentGone, RemoteError.
        """
        content = None
        if wanted.is_here:
            content = segment_bytes(self._path, wanted.segment)
            digest = blake3(content).digest() if wanted.elsewhere else b""
            if all(copy.digest == digest for copy in wanted.elsewhere):
                return content
        for copy in wanted.elsewhere:
            try:
                found = self._source.fetch(copy)
            except RemoteError:
                continue
            if blake3(found).digest() == copy.digest:
                return found
        if content is None:
            raise SegmentGone(wanted.segment)
        return content

    # -- checkpoints

    def publish(self) -> None:
        """Make a cut, and bring it into the remote whole.

        Raises RemoteTaken, WrongState where segments went again and again before they were sent,
        and what a remote and a store raise.
        """
        self._source.tell("publishing")
        if self._chain is None or self._chain.is_long:
            self._chain = self._new_base()
        for _ in range(CUTS):
            cut = self._source.cut()
            failpoints.hit("sync.cut")
            try:
                self._extend(self._chain, cut.end)
            except SegmentGone:
                self._chain = self._new_base()
                continue
            try:
                tables, segments = self._send_tables(cut)
            except SegmentGone:
                continue
            self._put_checkpoint(self._chain, cut, tables, segments)
            self._source.tell("")
            return
        raise WrongState("segments were collected before they could be sent: it is tried again")

    def _new_base(self) -> Chain:
        """All rows of the index. Raises what a remote and a store raise."""
        self._source.tell("sending the index")
        position = index_position(self._path)
        pieces: list[Piece] = []
        waiting: dict[str, bytes] = {}
        rows = held = 0
        for content, count in layout.base_objects(index_rows(self._path)):
            piece = layout.piece_of(content)
            pieces.append(piece)
            rows += count
            waiting[piece.name] = content
            held += piece.size
            if len(waiting) >= _ASKED_PIECES or held >= _ASKED_BYTES:
                self._put_missing(waiting)
                waiting, held = {}, 0
        self._put_missing(waiting)
        size = sum(piece.size for piece in pieces)
        content = layout.pack_base(Base(position, rows, size, tuple(pieces)))
        base = layout.piece_of(content)
        self._put_missing({base.name: content})
        failpoints.hit("sync.base")
        return Chain(base, size, [], position)

    def _extend(self, chain: Chain, end: Place) -> None:
        """Have the batches up to `end` in the chain. Raises SegmentGone, StoreDamaged."""
        if end <= chain.end:
            return
        # What was cut is the end of its segment: that need not be there any more.
        is_cut = bool(chain.deltas)
        start = (chain.end[0] + 1, 0) if is_cut else chain.end
        pieces = []
        for content in layout.delta_objects(batches(self._path, start, end)):
            piece = layout.piece_of(content)
            self._put_missing({piece.name: content})
            pieces.append(piece)
        chain.deltas.append(Delta(chain.end, end, tuple(pieces)))
        chain.end = end
        failpoints.hit("sync.delta")

    def _send_tables(self, cut: Cut) -> tuple[list[Piece], list[Segment]]:
        """Have all segments that a cut needs in the remote, and the tables of them.

        Raises SegmentGone, WrongState.
        """
        pieces: list[Piece] = []
        segments: list[Segment] = []
        for first in cut.tables:
            table = self._source.table(cut, first)
            if table.lacking:
                self.send(table.lacking)
                table = self._source.table(cut, first)
                if table.lacking:
                    raise SegmentGone(table.lacking[0].segment)
            content = layout.pack_table(table.segments)
            piece = layout.piece_of(content)
            if piece.digest not in self._there:
                self._put_missing({piece.name: content})
            pieces.append(piece)
            segments += table.segments
        failpoints.hit("sync.tables")
        return pieces, segments

    def _put_checkpoint(
        self, chain: Chain, cut: Cut, tables: list[Piece], segments: Iterable[Segment]
    ) -> None:
        sizes = [one.size for one in segments]
        content = layout.pack_checkpoint(
            Checkpoint(
                uuid=self._uuid,
                writer=self.writer,
                sequence=self.sequence + 1,
                created_ns=cut.time_ns,
                identity=(self._path / identity.NAME).read_bytes(),
                counters=cut.counters,
                end=cut.end,
                base=chain.base,
                base_bytes=chain.base_bytes,
                deltas=tuple(chain.deltas),
                tables=tuple(tables),
                segments=len(sizes),
                segments_bytes=sum(sizes),
            )
        )
        self._require_ours(chain)
        name = layout.checkpoint_object(self.sequence + 1)
        intent = self._intents.write(self.sequence + 1, content)
        failpoints.hit("sync.intent")
        if not self._put(name, content):
            found = self._remote.get(name)
            if blake3(found).digest() not in intent.digests:
                raise self._taken(self.sequence + 1, found)
            if found != content:
                # An earlier one of ours, which came late. The next number is free for this.
                self._source.recovered(layout.unpack_checkpoint(found, name))
                self.sequence += 1
                self._put_checkpoint(chain, cut, tables, segments)
                return
        failpoints.hit("sync.put")
        self.sequence += 1
        self._there = {piece.digest for piece in tables}
        self._source.published(self.sequence, cut)
        failpoints.hit("sync.published")

    def _require_ours(self, chain: Chain) -> None:
        """Notice a remote that was emptied since we began. Raises ObjectDamaged."""
        names = [chain.base.name]
        if self.sequence:
            names.append(layout.checkpoint_object(self.sequence))
        if len(self._remote.sizes(names)) < len(names):
            raise self._lost()

    # -- what both need

    def _put(self, name: str, content: bytes) -> bool:
        is_new = self._remote.put(name, content)
        self._source.tell("sending", len(content), 1)
        return is_new

    def _put_missing(self, objects: dict[str, bytes]) -> None:
        """Put objects that may be there, by their names."""
        there = self._remote.sizes(list(objects)) if objects else {}
        jobs = (
            Job(name, name, content)
            for name, content in objects.items()
            if there.get(name) != len(content)
        )
        lanes.send(
            self._remote.put, jobs, lambda _name, size: self._source.tell("sending", size, 1)
        )
