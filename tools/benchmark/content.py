"""Workloads on the bytes of large files.

Content is random, made before the clock starts, and new in each repeat: it neither compresses nor
is it anywhere in a store already, but for write-again, which is about that. Where the random rows
read and write is the same in each run.
"""

import os
import random
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmark.rows import MIB, PAGE
from benchmark.run import Run, Wrong

_PAGES_PER_MIB = MIB // PAGE
_SMALL_WRITE = 128 * 1024
#: Between two lookups; long enough to leave the writer its time.
_BETWEEN_LOOKUPS_S = 0.002


def sequential(run: Run) -> None:
    """One large file, written twice, and read in every way."""
    first, second = run.path / "first", run.path / "second"
    content = _random_content(run.sizes.file_mib)
    for name, path in (("write-1m", first), ("write-again", second)):
        if path == first or run.wants(name):
            with run.timed() as stretch:
                _write(path, content, MIB)
            run.record(name, len(content) / stretch.seconds, stretch)
    for name in ("read-cold", "read-warm"):
        if run.wants(name):
            if name == "read-cold":
                run.chill([first, second] if second.exists() else [first])
            with run.timed() as stretch:
                _read(first)
            run.record(name, len(content) / stretch.seconds, stretch)
    if run.wants("random-read"):
        _random_read(run, first, content)
    for path in (first, second):
        if path.exists():
            _compare(path, content)


def _random_read(run: Run, path: Path, content: Sequence[bytes]) -> None:
    places = _places(len(content), run.sizes.random_accesses)
    run.chill([path])
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with run.timed() as stretch:
            pages = [os.pread(descriptor, PAGE, place * PAGE) for place in places]
    finally:
        os.close(descriptor)
    if pages != [_page(content, place) for place in places]:
        raise Wrong("a page read at random is not what was written")
    run.record("random-read", len(places) / stretch.seconds, stretch)


def small_writes(run: Run) -> None:
    path = run.path / "file"
    content = _random_content(run.sizes.file_mib)
    with run.timed() as stretch:
        _write(path, content, _SMALL_WRITE)
    _compare(path, content)
    run.record("write-128k", len(content) / stretch.seconds, stretch)


def random_writes(run: Run) -> None:
    path = run.path / "file"
    content = [bytearray(block) for block in _random_content(run.sizes.overwritten_mib)]
    _write(path, content, MIB)
    places = _places(len(content), run.sizes.random_accesses)
    pages = [os.urandom(PAGE) for _ in places]
    run.chill([path])
    with run.timed() as stretch:
        descriptor = os.open(path, os.O_WRONLY)
        try:
            for place, page in zip(places, pages, strict=True):
                _write_all(descriptor, page, place * PAGE)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    for place, page in zip(places, pages, strict=True):
        block, begin = _within(place)
        content[block][begin : begin + PAGE] = page
    _compare(path, content)
    run.record("random-write", len(places) / stretch.seconds, stretch)


def syncs(run: Run) -> None:
    """The median of single ones, in ms."""
    path = run.path / "file"
    pages = [os.urandom(PAGE) for _ in range(run.sizes.syncs)]
    took_s = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        with run.timed() as stretch:
            for number, page in enumerate(pages):
                begin = time.perf_counter()
                _write_all(descriptor, page, number * PAGE)
                os.fsync(descriptor)
                took_s.append(time.perf_counter() - begin)
    finally:
        os.close(descriptor)
    if path.read_bytes() != b"".join(pages):
        raise Wrong("what was appended reads otherwise")
    run.record("fsync", statistics.median(took_s) * 1000, stretch)


def busy_lookups(run: Run) -> None:
    """How long a name that nobody has asked for takes, while another process writes; p99 in ms."""
    content = _random_content(run.sizes.file_mib // 2)
    names = run.path / "names"
    names.mkdir()
    took_s: list[float] = []
    with run.timed() as stretch, _writing(run.path / "file", content) as is_writing:
        while not took_s or is_writing():
            begin = time.perf_counter()
            is_there = os.path.lexists(names / f"missing-{len(took_s)}")
            took_s.append(time.perf_counter() - begin)
            if is_there:
                raise Wrong("a name that was never made is there")
            time.sleep(_BETWEEN_LOOKUPS_S)
    _compare(run.path / "file", content)
    took_s.sort()
    run.record("busy-lookup", took_s[len(took_s) * 99 // 100] * 1000, stretch)


@contextmanager
def _writing(path: Path, content: Sequence[bytes]) -> Iterator[Callable[[], bool]]:
    """While another process writes a file and syncs it: gives what tells whether it still does.

    It is ended with the block. Raises OSError if it fails.
    """
    # No signal may be handled between the fork and where each of the two knows who it is; the
    # writer handles none at all, because it would clean up what belongs to us.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    writer = os.fork()
    if not writer:
        code = 1
        try:
            _write(path, content, MIB)
            code = 0
        finally:
            os._exit(code)
    has_ended = False

    def is_writing() -> bool:
        nonlocal has_ended
        done, code = os.waitpid(writer, os.WNOHANG)
        has_ended = bool(done)
        if code:
            raise OSError("the process that wrote meanwhile has failed")
        return not has_ended

    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield is_writing
    finally:
        if not has_ended:
            os.kill(writer, signal.SIGKILL)
            os.waitpid(writer, 0)


def _random_content(mib: int) -> list[bytes]:
    return [os.urandom(MIB) for _ in range(mib)]


def _places(mib: int, count: int) -> list[int]:
    """Pages of a file, at random, without one twice; the same each time."""
    pages = mib * _PAGES_PER_MIB
    return random.Random(count).sample(range(pages), min(count, pages))


def _within(place: int) -> tuple[int, int]:
    """The block of 1 MiB that a page is in, and the offset there."""
    block, page = divmod(place, _PAGES_PER_MIB)
    return block, page * PAGE


def _page(content: Sequence[bytes], place: int) -> bytes:
    block, begin = _within(place)
    return content[block][begin : begin + PAGE]


def _write(path: Path, content: Sequence[bytes | bytearray], size: int) -> None:
    """A new file, `size` bytes at a time, synced."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        offset = 0
        for block in content:
            view = memoryview(block)
            for begin in range(0, MIB, size):
                _write_all(descriptor, view[begin : begin + size], offset)
                offset += size
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    if os.pwrite(descriptor, data, offset) != len(data):
        raise OSError("a write was cut short: the disk may be full")


def _read(path: Path) -> None:
    """All of it into one buffer; comparing is not timed."""
    buffer = bytearray(MIB)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _compare(path: Path, content: Sequence[bytes | bytearray]) -> None:
    with open(path, "rb") as file:
        for number, block in enumerate(content):
            if file.read(MIB) != block:
                raise Wrong(f"the {number + 1}. MiB of a file is not what was written")
        if file.read(1):
            raise Wrong("a file is longer than what was written")
