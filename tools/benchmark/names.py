"""The workload on many small files: what a filesystem does for a name."""

import os
from pathlib import Path

from benchmark.rows import PAGE
from benchmark.run import Run, Wrong

#: Rows that look at the files under their first names, in order.
_BEFORE_RENAME = ("stat-cold", "stat", "list-cold", "list")


def small_files(run: Run) -> None:
    """Make them, look at them in every way, rename and remove them."""
    count = run.sizes.small_files
    directories = [run.path / f"directory-{n:02}" for n in range(run.sizes.directories)]
    for directory in directories:
        directory.mkdir()
    paths = [
        directory / f"file-{number:03}"
        for directory in directories
        for number in range(run.sizes.files_each)
    ]
    content = [os.urandom(PAGE) for _ in paths]

    with run.timed() as stretch:
        for path, data in zip(paths, content, strict=True):
            _create(path, data)
    run.record("create", count / stretch.seconds, stretch)

    for name in _BEFORE_RENAME:
        if run.wants(name):
            if name.endswith("-cold"):
                run.chill(paths)
            with run.timed() as stretch:
                if name.startswith("stat"):
                    sizes = {str(path): os.stat(path).st_size for path in paths}
                else:
                    sizes = _list(directories)
            if sizes != {str(path): PAGE for path in paths}:
                raise Wrong("names or sizes are not those of the files that were made")
            run.record(name, count / stretch.seconds, stretch)

    if run.wants("read-small"):
        run.chill(paths)
        with run.timed() as stretch:
            found = [_read(path) for path in paths]
        if found != content:
            raise Wrong("a small file is not what was written")
        run.record("read-small", count / stretch.seconds, stretch)

    if run.wants("rename") or run.wants("unlink"):
        renamed = [_new_name(path, directories, n) for n, path in enumerate(paths)]
        with run.timed() as stretch:
            for path, new in zip(paths, renamed, strict=True):
                os.rename(path, new)
        if _list(directories) != {str(path): PAGE for path in renamed}:
            raise Wrong("after the renames there are other names")
        run.record("rename", count / stretch.seconds, stretch)

        with run.timed() as stretch:
            for path in renamed:
                os.unlink(path)
        if _list(directories):
            raise Wrong("names are still there that were removed")
        run.record("unlink", count / stretch.seconds, stretch)


def _create(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError("a write was cut short: the disk may be full")
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 2 * PAGE)
    finally:
        os.close(descriptor)


def _list(directories: list[Path]) -> dict[str, int]:
    """Paths and sizes, from listing the directories and asking for each entry's attributes."""
    found = {}
    for directory in directories:
        with os.scandir(directory) as entries:
            for entry in entries:
                found[entry.path] = entry.stat(follow_symlinks=False).st_size
    return found


def _new_name(path: Path, directories: list[Path], number: int) -> Path:
    """In the next directory for every other file."""
    here = directories.index(path.parent)
    there = directories[(here + number % 2) % len(directories)]
    return there / f"renamed-{number:05}"
