"""A bar for what takes its time, where someone can see it."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None] | None]:
    """What to tell how much is done, and of how much: a progress bar on stderr at a terminal, None
    otherwise."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def byte_bar(sources: Sequence[bytes]) -> Iterator[Callable[[int], None]]:
    """What to tell how many more bytes are copied: a bar with rate and time left on stderr, at a
    terminal."""
    if not sys.stderr.isatty():
        yield lambda size: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("copying", total=sum(map(_size_below, sources)))
        yield lambda size: progress.advance(task, size)


def _size_below(path: bytes) -> int:
    """Bytes of a file, or of all files below a directory."""
    if not os.path.isdir(path):
        return os.path.getsize(path) if os.path.exists(path) else 0
    return sum(
        os.path.getsize(os.path.join(directory, name))
        for directory, _, names in os.walk(path)
        for name in names
        if not os.path.islink(os.path.join(directory, name))
    )
