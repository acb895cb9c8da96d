"""Copies in remotes that the store does not know: it could not read them.

So it is when the row of a remote was lost or damaged. Of what is here as well, or in another
remote, such a row says nothing that is needed; of anything else it is the last that is known.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from fusefs.fsck.problem import Problem
from fusefs.fsck.tables import Tables


@dataclass
class Unknown:
    """A remote that the store has not, by its number: the segments that are said to be in it.
    `only`: those that are needed, and that are neither here nor in a remote that is known."""

    number: int
    segments: list[int] = field(default_factory=list)
    only: list[int] = field(default_factory=list)

    @property
    def where(self) -> str:
        return f"remote number {self.number}"


def unknown(tables: Tables, local: Collection[int]) -> list[Unknown]:
    """The remotes that rows of copies name and the store has not. `local`: segments here."""
    known = tables.remote_numbers()
    found: dict[int, Unknown] = {}
    for segment, number in tables.copies():
        if number not in known:
            found.setdefault(number, Unknown(number)).segments.append(segment)
    if found:
        needed = {one.segment for _, one in tables.blocks() if one is not None and one.refs}
        for one in found.values():
            one.only = [
                segment
                for segment in one.segments
                if segment in needed
                and segment not in local
                and not known & tables.remotes_of(segment)
            ]
    return list(found.values())


def copies(tables: Tables, local: Collection[int]) -> Iterator[Problem]:
    """What is wrong with them."""
    for one in unknown(tables, local):
        message = f"is none that the store has, and {len(one.segments)} segments are said to be in"
        if one.only:
            message += f" it: {len(one.only)} are nowhere else (fusefs clone of it has them still)"
        else:
            message += " it, all of which are elsewhere or not needed"
        yield Problem("copy", one.where, message)
