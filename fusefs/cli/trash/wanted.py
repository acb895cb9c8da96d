"""What the arguments of a verb of the trash mean: a store, and what in its trash."""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fusefs.errors import UsageError

if TYPE_CHECKING:
    from fusefs.daemon.surface import Surface
    from fusefs.daemon.target import Target


def split(arguments: Sequence[str]) -> tuple["Target", list[int | bytes]]:
    """The store, and ids and inner paths in it, of ``[TARGET] WHAT...``.

    TARGET may be left out where WHAT is a path in the mount, or where the current directory is in
    one. Raises UsageError, NotMounted.
    """
    from fusefs.daemon.target import resolve, resolve_inner

    first = arguments[0] if arguments else "."
    place = resolve("." if first.isdecimal() else first)
    is_target = not first.isdecimal() and not place.inner
    what = arguments[1:] if is_target else arguments
    return place, [int(one) if one.isdecimal() else resolve_inner(place, one) for one in what]


def numbers(wanted: Sequence[int | bytes]) -> list[int]:
    """Raises UsageError on a path where only ids make sense."""
    found = [one for one in wanted if isinstance(one, int)]
    for one in wanted:
        if isinstance(one, bytes):
            raise UsageError(f"{os.fsdecode(one)!r} is no id: see fusefs trash list")
    return found


def pages(surface: "Surface", verb: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    """All records of an answer that comes in pages."""
    after = 0
    while after is not None:
        answer = surface.ask(verb, after=after, **arguments)
        yield from answer["records"]
        after = answer["next"]
