"""Whether what the newest checkpoint of a remote needs is there, and is what was stored.

Every object is asked for by its size. Its content is read and compared with its name, all of it or
a part of the objects, another one each time. What is bad is put right from the segment here or in
another remote; where the index is bad there a new base has to be made.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from blake3 import blake3

from fusefs.errors import NoSuchObject, ObjectDamaged
from fusefs.remotes.api import Remote
from fusefs.sync import layout
from fusefs.sync.layout import Checkpoint

#: Asked for in one question.
_AT_ONCE = 256
_DIGEST_CHARACTERS = 64
Progress = Callable[[int, int], None]


class Object(NamedTuple):
    """One that is needed: `segment` is 0 where it is of the index."""

    name: str
    size: int
    segment: int


class Bad(NamedTuple):
    """One that is not as it should be."""

    object: Object
    why: str


@dataclass
class Found:
    """What a look came to. `checkpoint`: the newest that can be read; `bad_checkpoints`: newer."""

    checkpoint: Checkpoint | None = None
    bad_checkpoints: list[int] = field(default_factory=list)
    objects: int = 0
    size_bytes: int = 0
    read_bytes: int = 0
    bad: list[Bad] = field(default_factory=list)

    @property
    def is_index_bad(self) -> bool:
        """Whether anything is bad that is no segment."""
        return any(not one.object.segment for one in self.bad)


def look(
    remote: Remote,
    copies: Iterable[Object],
    is_read: Callable[[Object], bool],
    progress: Progress | None = None,
) -> Found:
    """Look at all that the newest checkpoint and `copies`, segments known to be there, need.

    `is_read`: whether the content of an object is to be read. Raises what a remote raises.
    """
    found = Found()
    for sequence in reversed(layout.sequences(remote)):
        try:
            found.checkpoint = layout.read_checkpoint(remote, sequence)
            break
        except (ObjectDamaged, NoSuchObject):
            found.bad_checkpoints.append(sequence)
    wanted = {one.name: one for one in copies}
    if found.checkpoint is not None:
        for one in _needed(remote, found.checkpoint, found.bad):
            wanted.setdefault(one.name, one)
    known_bad = {one.object.name for one in found.bad}
    rest = iter([one for name, one in wanted.items() if name not in known_bad])
    while part := list(islice(rest, _AT_ONCE)):
        sizes = remote.sizes([one.name for one in part])
        for one in part:
            found.objects += 1
            found.size_bytes += one.size
            why = _size_problem(one, sizes.get(one.name))
            if not why and is_read(one):
                found.read_bytes += one.size
                why = _content_problem(remote, one)
            if why:
                found.bad.append(Bad(one, why))
            if progress:
                progress(found.objects, len(wanted))
    return found


def _needed(remote: Remote, checkpoint: Checkpoint, bad: list[Bad]) -> Iterator[Object]:
    """All objects of a checkpoint; those that name others and cannot be read are `bad`."""
    pieces = [*checkpoint.tables, *(piece for one in checkpoint.deltas for piece in one.pieces)]
    yield from (Object(piece.name, piece.size, 0) for piece in pieces)
    base = Object(checkpoint.base.name, checkpoint.base.size, 0)
    yield base
    try:
        for piece in layout.read_base(remote, checkpoint).pieces:
            yield Object(piece.name, piece.size, 0)
    except (ObjectDamaged, NoSuchObject) as error:
        bad.append(Bad(base, str(error)))
    for piece in checkpoint.tables:
        try:
            for one in layout.unpack_table(layout.read_piece(remote, piece), piece.name):
                yield Object(one.name, one.size, one.number)
        except (ObjectDamaged, NoSuchObject) as error:
            bad.append(Bad(Object(piece.name, piece.size, 0), str(error)))


def _size_problem(wanted: Object, size: int | None) -> str:
    if size is None:
        return "is missing"
    return "" if size == wanted.size else f"has {size} bytes, and should have {wanted.size}"


def _content_problem(remote: Remote, wanted: Object) -> str:
    try:
        content = remote.get(wanted.name)
    except NoSuchObject:
        return "is missing"
    except ObjectDamaged as error:
        return str(error)
    is_right = blake3(content).hexdigest() == wanted.name[-_DIGEST_CHARACTERS:]
    return "" if is_right else "is not what was stored"


def put_right(remote: Remote, wanted: Object, content: bytes) -> bool:
    """Replace a bad object by `content`, if that is what it should be; whether it was."""
    if blake3(content).hexdigest() != wanted.name[-_DIGEST_CHARACTERS:]:
        return False
    remote.delete(wanted.name)
    remote.put(wanted.name, content)
    return True
