"""Several objects under way to a remote at one time: a far line is idle while one is waited for.

They are begun in the order in which they come. Together they are no larger than a segment, or it is
one alone: so a connection that is lost costs no more than if they went one by one, and the small
ones, of which there are many, need not wait for each other's answers. In memory is one more.

The threads are such that nobody waits for them at the end of the process, as a network may hang.
"""

import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Generic, NamedTuple, TypeVar

from fusefs.store.format import SEGMENT_SIZE

#: Objects under way to one remote.
AT_ONCE = 4

_Key = TypeVar("_Key")


class Job(NamedTuple, Generic[_Key]):
    """An object to be sent; `key`: what the caller knows it by."""

    key: _Key
    name: str
    content: bytes


def send(
    put: Callable[[str, bytes], object],
    jobs: Iterable[Job[_Key]],
    done: Callable[[_Key, int], None],
) -> None:
    """Have `put` send all `jobs`, which are taken one by one; `done` hears of each that is there,
    and of its bytes, in this thread.

    When one fails no more are begun. What `put` raised first is raised when nothing is under way
    any more, and `done` has heard of all that are there.
    """
    ends: SimpleQueue[tuple[Job[_Key], BaseException | None]] = SimpleQueue()
    pending = iter(jobs)
    job = next(pending, None)
    under_way = size = 0
    error: BaseException | None = None
    while job is not None or under_way:
        if job is not None and ends.empty() and _fits(job, under_way, size):
            # Not of an executor, which the interpreter's end waits for.
            threading.Thread(target=_carry, args=(put, job, ends), daemon=True).start()
            under_way += 1
            size += len(job.content)
            job = next(pending, None)
            continue
        ended, why = ends.get()
        under_way -= 1
        size -= len(ended.content)
        if why is None:
            done(ended.key, len(ended.content))
        else:
            error, job = error or why, None
    if error is not None:
        raise error


def _fits(job: Job[_Key], under_way: int, size: int) -> bool:
    is_room = under_way < AT_ONCE and size + len(job.content) <= SEGMENT_SIZE
    return is_room or not under_way


def _carry(
    put: Callable[[str, bytes], object],
    job: Job[_Key],
    ends: "SimpleQueue[tuple[Job[_Key], BaseException | None]]",
) -> None:
    error: BaseException | None = None
    try:
        put(job.name, job.content)
    except BaseException as raised:  # whoever waits for it gets it
        error = raised
    ends.put((job, error))
