"""The same calls in the mount and on the machine's own filesystem: same results, same tree.

Scenarios are plain functions over a directory; what they return, errors included, must be equal in
both places, and so must the trees that they leave: at once, and after the store was mounted anew.
"""

import ctypes
import errno
import json
import mmap
import multiprocessing
import os
import shutil
import stat
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conftest import Mounted, fusefs

pytestmark = [
    pytest.mark.mount,
    pytest.mark.root,
    pytest.mark.skipif(os.getuid() != 0, reason="needs to be root"),
]

MIB = 1 << 20
NOBODY = 65534
OTHER_GROUP = 4711
NOREPLACE, EXCHANGE = 1, 2
CAPABILITY = "security.capability"
#: As setcap(8) stores cap_net_bind_service=ep.
NET_BIND_SERVICE = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
#: Older times were set by a call; later ones are the present, which is not compared.
PRESENT_NS = 1_500_000_000 * 10**9
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)

Scenario = Callable[[Path], object]


class Pair(NamedTuple):
    """An empty directory on each side, in which other users may look around."""

    mounted: Mounted
    ours: Path
    native: Path


@pytest.fixture(scope="module")
def filesystem() -> Iterator[Mounted]:
    top = Path(tempfile.mkdtemp(prefix="fusefs-test-"))
    top.chmod(0o755)
    (top / "mnt").mkdir()
    (top / "native").mkdir()
    mounted = Mounted(top / "store", top / "mnt")
    try:
        fusefs("init", mounted.store)
        mounted.mount("-o", "allow_other")
        yield mounted
        report = fusefs("fsck", "--json", "--read-data", mounted.store)
        assert json.loads(report)["problems"] == []
    finally:
        mounted.clean_up()
        unexpected = mounted.unexpected()
        shutil.rmtree(top)
    assert unexpected == []


@pytest.fixture
def pair(filesystem: Mounted, request: pytest.FixtureRequest) -> Pair:
    name = request.node.name.replace("/", "-")
    sides = filesystem.mnt / name, filesystem.mnt.parent / "native" / name
    for side in sides:
        side.mkdir(mode=0o755)
    return Pair(filesystem, *sides)


# -- calls


def attempt(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What the call returns, or the name of its error."""
    try:
        return call(*arguments, **options)
    except OSError as error:
        return os.strerror(error.errno or 0)


def rename2(old: Path | bytes, new: Path | bytes, flags: int) -> None:
    arguments = _AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags
    if _libc.renameat2(*arguments):
        raise OSError(ctypes.get_errno(), "renameat2")


def as_nobody(call: Callable[[], object], groups: tuple[int, ...] = ()) -> str:
    """The `repr` of what the call returns in a process of user and group 65534."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.umask(0o022)
            os.write(writing, repr(attempt(call)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        said = answer.read().decode()
    os.waitpid(child, 0)
    assert said, "the child failed"
    return said


def pattern(seed: int, length: int) -> bytes:
    unit = bytes((seed * 31 + i * 7) % 251 + 1 for i in range(251))
    return (unit * (length // 251 + 1))[:length]


def status(path: Path | int) -> tuple[object, ...]:
    """What of lstat(2) must be equal on both sides."""
    found = os.stat(path) if isinstance(path, int) else path.lstat()
    is_dir = stat.S_ISDIR(found.st_mode)
    return (
        stat.filemode(found.st_mode), found.st_nlink, found.st_uid, found.st_gid,
        found.st_rdev, None if is_dir else found.st_size,
        found.st_mtime_ns if found.st_mtime_ns < PRESENT_NS else None,
    )  # fmt: skip


def below(top: Path) -> Iterator[Path]:
    for directory, directories, files in os.walk(top):
        yield from (Path(directory, name) for name in (*directories, *files))


def tree(top: Path) -> dict[bytes, object]:
    """Everything below `top`, and itself: path -> status, content or target, xattrs."""
    found: dict[bytes, object] = {}
    groups: dict[int, bytes] = {}
    for path in sorted([top, *below(top)], key=os.fsencode):
        content: object = None
        kind = stat.S_IFMT(path.lstat().st_mode)
        if kind == stat.S_IFLNK:
            content = os.readlink(path)
        elif kind == stat.S_IFREG:
            content = contents(path) if path.stat().st_size < 64 * MIB else "large"
        names = sorted(os.listxattr(path, follow_symlinks=False))
        xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
        relative = os.fsencode(path.relative_to(top))
        same_file = (
            None if kind == stat.S_IFDIR else groups.setdefault(path.lstat().st_ino, relative)
        )
        found[relative] = status(path), content, xattrs, same_file
    return found


def contents(path: Path) -> bytes | str:
    """What is in a file, or the hash of more than is good to read in a failure."""
    data = path.read_bytes()
    return data if len(data) <= 4096 else f"{len(data)} bytes, SHA-256 {sha256(data).hexdigest()}"


def assert_same(pair: Pair, scenario: Scenario) -> None:
    assert scenario(pair.ours) == scenario(pair.native)
    assert tree(pair.ours) == tree(pair.native)
    drop_pages(pair.ours)
    assert tree(pair.ours) == tree(pair.native)


def drop_pages(top: Path) -> None:
    """Have the kernel forget contents, so that the next read asks fusefs."""
    for path in below(top):
        if stat.S_ISREG(path.lstat().st_mode):
            file = os.open(path, os.O_RDONLY)
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


# -- any sequence of calls

PATHS = "a b c d dir dir/a dir/b dir/dir dir/dir/a other other/a missing/a".split()
FLAGS = "O_CREAT O_EXCL O_TRUNC O_APPEND O_DIRECTORY O_NOFOLLOW".split()
ACCESS = "O_RDONLY O_WRONLY O_RDWR".split()
SEQUENCES = int(os.environ.get("FUSEFS_MODEL_EXAMPLES", "60"))
SLOTS = 3
NO_FILE = 1 << 20

paths = st.sampled_from(PATHS)
slots = st.integers(0, SLOTS - 1)
offsets = st.one_of(
    st.integers(0, 20_000),
    st.sampled_from([4095, 4096, 65_536, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 17]),
)
lengths = st.one_of(
    st.integers(0, 9000), st.sampled_from([4096, 131_072, MIB - 1, MIB, MIB + 1, 2 * MIB + 5])
)
data = st.builds(pattern, st.integers(0, 9), lengths)
modes = st.sampled_from([0o644, 0o755, 0o600, 0o4755, 0o2755, 0o2644, 0o1777, 0])
owners = st.sampled_from([-1, 0, NOBODY, OTHER_GROUP])
times = st.sampled_from([0, 1, -1, -1_500_000_000, 10**18, 1_234_567_890_123_456_789])
xattr_names = st.sampled_from(["user.a", "user.b", "user.\u00e9", "trusted.c", "nonsense"])

flags = st.builds(
    lambda access, others: sum(getattr(os, name) for name in {access, *others}),
    st.sampled_from(ACCESS),
    st.sets(st.sampled_from(FLAGS)),
)


def _call(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.just(name), *arguments)


creating = st.builds(
    lambda access, others: access | os.O_CREAT | sum(others),
    st.sampled_from([os.O_RDWR, os.O_RDWR, os.O_WRONLY]),
    st.sets(st.sampled_from([os.O_TRUNC, os.O_APPEND]), max_size=1),
)
calls = st.one_of(
    _call("open", slots, paths, creating, modes),
    _call("open", slots, paths, flags, modes),
    _call("close", slots),
    _call("write", slots, data),
    _call("write", slots, data),
    _call("pwrite", slots, data, offsets),
    _call("pwrite", slots, data, offsets),
    _call("pread", slots, lengths, offsets),
    _call("ftruncate", slots, offsets),
    _call("fsync", slots),
    _call("fstat", slots),
    _call("fchmod", slots, modes),
    _call("mmap", slots, data, offsets),
    _call("copy", slots, slots, lengths),
    _call("truncate", paths, offsets),
    _call("link", paths, paths),
    _call("symlink", st.sampled_from(["a", "dir", "dir/a", "../a", "nowhere", "x" * 300]), paths),
    _call("rename", paths, paths, st.sampled_from([0, 0, NOREPLACE, EXCHANGE, 3, 8])),
    _call("mkdir", paths, modes),
    _call("mkdir", paths, modes),
    _call("rmdir", paths),
    _call("unlink", paths),
    _call("mkfifo", paths, modes),
    _call("chmod", paths, modes),
    _call("chown", paths, owners, owners),
    _call("utime", paths, times, times),
    _call("setxattr", paths, xattr_names, st.binary(max_size=300), st.sampled_from([0, 0, 1, 2])),
    _call("removexattr", paths, xattr_names),
    _call("listxattr", paths),
    _call("stat", paths),
    _call("listdir", paths),
    _call("sync_directory", paths),
)


#: What there is before: without it most calls would find nothing.
START: tuple[tuple[Any, ...], ...] = (
    ("mkdir", "dir", 0o755),
    ("mkdir", "dir/dir", 0o755),
    ("mkdir", "other", 0o755),
    ("symlink", "a", "c"),
    ("mkfifo", "other/a", 0o644),
    ("open", 0, "a", os.O_RDWR | os.O_CREAT, 0o644),
    ("write", 0, pattern(1, MIB + 70_000)),
    ("link", "a", "dir/a"),
    ("open", 1, "b", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o4755),
    ("write", 1, pattern(2, 5000)),
    ("open", 2, "dir/dir/a", os.O_RDWR | os.O_CREAT, 0o600),
)


class Side:
    """Does calls below a directory."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._files: dict[int, int] = {}

    def close(self) -> None:
        for file in self._files.values():
            os.close(file)

    def call(self, name: str, *arguments: Any) -> object:
        """The result, or the name of the error."""
        return attempt(getattr(self, name), *arguments)

    def _file(self, slot: int) -> int:
        return self._files.get(slot, NO_FILE)

    def open(self, slot: int, path: str, flags: int, mode: int) -> None:
        file = os.open(self._top / path, flags | os.O_NONBLOCK, mode)  # of a fifo, too
        attempt(os.close, self._files.pop(slot, NO_FILE))
        self._files[slot] = file

    def close_slot(self, slot: int) -> None:
        os.close(self._files.pop(slot, NO_FILE))

    def write(self, slot: int, data: bytes) -> int:
        return os.write(self._file(slot), data)

    def pwrite(self, slot: int, data: bytes, offset: int) -> int:
        return os.pwrite(self._file(slot), data, offset)

    def pread(self, slot: int, length: int, offset: int) -> bytes:
        return os.pread(self._file(slot), length, offset)

    def ftruncate(self, slot: int, size: int) -> None:
        os.ftruncate(self._file(slot), size)

    def fsync(self, slot: int) -> None:
        os.fsync(self._file(slot))

    def fstat(self, slot: int) -> object:
        return status(self._file(slot))

    def fchmod(self, slot: int, mode: int) -> None:
        os.fchmod(self._file(slot), mode)

    def mmap(self, slot: int, data: bytes, offset: int) -> object:
        file = self._file(slot)
        size = os.fstat(file).st_size
        if not stat.S_ISREG(os.fstat(file).st_mode) or offset + len(data) > size or not data:
            return None
        with mmap.mmap(file, size) as memory:
            before = memory[offset : offset + len(data)]
            memory[offset : offset + len(data)] = data
            memory.flush()
            return before

    def copy(self, source: int, target: int, length: int) -> int:
        return os.copy_file_range(self._file(source), self._file(target), length, 0)

    def truncate(self, path: str, size: int) -> None:
        os.truncate(self._top / path, size)

    def link(self, path: str, new: str) -> None:
        os.link(self._top / path, self._top / new, follow_symlinks=False)

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, self._top / path)

    def rename(self, old: str, new: str, flags: int) -> None:
        rename2(self._top / old, self._top / new, flags)

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._top / path, mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._top / path)

    def unlink(self, path: str) -> None:
        os.unlink(self._top / path)

    def mkfifo(self, path: str, mode: int) -> None:
        os.mkfifo(self._top / path, mode)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._top / path, mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(self._top / path, uid, gid, follow_symlinks=False)

    def utime(self, path: str, atime: int, mtime: int) -> None:
        os.utime(self._top / path, ns=(atime, mtime), follow_symlinks=False)

    def setxattr(self, path: str, name: str, value: bytes, flags: int) -> None:
        os.setxattr(self._top / path, name, value, flags, follow_symlinks=False)

    def removexattr(self, path: str, name: str) -> None:
        os.removexattr(self._top / path, name, follow_symlinks=False)

    def listxattr(self, path: str) -> list[str]:
        return sorted(os.listxattr(self._top / path))

    def stat(self, path: str) -> object:
        return status(self._top / path)

    def listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(self._top / path))

    def sync_directory(self, path: str) -> None:
        file = os.open(self._top / path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a failure is made shorter step by step
def test_any_sequence_of_calls(pair: Pair) -> None:
    count = 0

    @settings(
        max_examples=SEQUENCES,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(calls, min_size=15, max_size=60))
    def check(sequence: list[tuple[Any, ...]]) -> None:
        nonlocal count
        count += 1
        tops = pair.ours / str(count), pair.native / str(count)
        for top in tops:
            top.mkdir()
        ours, native = map(Side, tops)
        try:
            for number, (name, *arguments) in enumerate((*START, *sequence)):
                name = "close_slot" if name == "close" else name
                there = native.call(name, *arguments)
                assert ours.call(name, *arguments) == there, (number, name)
            assert tree(tops[0]) == tree(tops[1])
        finally:
            ours.close()
            native.close()

    check()
    pair.mounted.remount("-o", "allow_other")
    assert tree(pair.ours) == tree(pair.native)


# -- one question each


def names_of_any_length(top: Path) -> object:
    results = []
    for length in (1, 254, 255, 256):
        name = top / ("n" * length)
        results += [
            attempt(name.write_bytes, b"x"),
            attempt(name.with_name("m" * length).mkdir),
            attempt(name.with_name("l" * length).symlink_to, "x"),
            attempt(os.link, name, name.with_name("h" * length)),
            attempt(os.mkfifo, name.with_name("f" * length)),
            attempt(os.rename, name.with_name("h" * length), name.with_name("r" * length)),
            attempt(os.rename, top / "n", name.with_name("s" * length)),
            attempt(name.unlink),
        ]
    return results


def names_of_any_bytes(top: Path) -> object:
    for byte in set(range(1, 256)) - {ord("/")}:
        name = os.fsencode(top) + b"/" + bytes([byte, 0xFF, 0xC0, byte])
        os.close(os.open(name, os.O_CREAT))
        os.rename(name, name + b"\n ")
    for name in (b"\xed\xa0\x80", b"e\xcc\x81", b"\xc3\xa9", b"-rf", b"*", b"\\", b"..."):
        os.mkdir(os.fsencode(top) + b"/" + name)
        os.symlink(name + b"\xff", os.fsencode(top) + b"/" + name + b"/\xfe")
    return sorted(os.listdir(os.fsencode(top)))


def symbolic_links(top: Path) -> object:
    (top / "longest").symlink_to("x" * 4095)
    (top / "loop").symlink_to("loop")
    return [
        attempt((top / "longer").symlink_to, "x" * 4096),
        attempt(os.symlink, "", top / "empty"),
        attempt(os.open, top / "loop", os.O_RDONLY),
        attempt(os.readlink, top),
        (top / "longest").lstat().st_size,
    ]


def pipes_that_are_open_when_they_go(top: Path) -> object:
    os.mkfifo(top / "pipe", 0o640)
    pipe = os.open(top / "pipe", os.O_RDWR)
    try:
        os.unlink(top / "pipe")
        os.write(pipe, b"x")
        return [attempt(os.fchmod, pipe, 0o600), os.read(pipe, 1), os.fstat(pipe).st_nlink]
    finally:
        os.close(pipe)


def offsets_beyond_4_gib(top: Path) -> object:
    with (top / "file").open("w+b", buffering=0) as file:
        for at in (2**31 - 1, 2**32 - 1, 2**32 + MIB, 2**40 + 5):
            os.pwrite(file.fileno(), pattern(at % 7, 70_000), at)
        os.fsync(file.fileno())
        found = [
            os.pread(file.fileno(), 100_000, at - 10)
            for at in (10, 2**31 - 1, 2**32 - 1, 2**32 + MIB, 2**40 + 5, 2**41)
        ]
        file.truncate(2**32 + MIB + 7)
        found.append(os.pread(file.fileno(), 100, 2**32 + MIB))
    return found, (top / "file").stat().st_size


def removed_while_open(top: Path) -> object:
    file = os.open(top / "file", os.O_CREAT | os.O_RDWR)
    os.write(file, b"x" * 5000)
    os.unlink(top / "file")
    (top / "file").write_bytes(b"another")
    os.pwrite(file, b"later", 2 * MIB)
    os.ftruncate(file, 2 * MIB + 3)
    os.fchmod(file, 0o600)
    os.setxattr(file, "user.a", b"b")
    os.fsync(file)
    found = [
        status(file)[1:6], os.pread(file, 10, 4995), os.pread(file, 10, 2 * MIB),
        os.getxattr(file, "user.a"), attempt(os.link, f"/proc/self/fd/{file}", top / "back"),
        (top / "file").read_bytes(),
    ]  # fmt: skip
    os.close(file)
    return found


def replaced_while_open(top: Path) -> object:
    for name in ("old", "new"):
        (top / name).write_text(name)
    with (top / "old").open("r+") as old:
        os.rename(top / "new", top / "old")
        old.write("still")
        old.flush()
        return os.fstat(old.fileno()).st_nlink, os.pread(old.fileno(), 9, 0), status(top / "old")


def a_directory_removed_while_open(top: Path) -> object:
    (top / "dir").mkdir()
    directory = os.open(top / "dir", os.O_RDONLY)
    os.rmdir(top / "dir")
    found = [
        os.listdir(directory), os.fstat(directory).st_nlink,
        attempt(os.open, "file", os.O_CREAT, dir_fd=directory),
        attempt(os.mkdir, "sub", dir_fd=directory),
        attempt(os.symlink, "x", "link", dir_fd=directory),
        attempt(os.stat, "file", dir_fd=directory),
        attempt(os.fsync, directory),
    ]  # fmt: skip
    os.close(directory)
    return found


def appending_by_two(top: Path) -> object:
    files = [os.open(top / "file", os.O_CREAT | os.O_WRONLY | os.O_APPEND) for _ in range(2)]
    for number in range(100):
        os.write(files[number % 2], b"%d," % number * 50)
        os.pwrite(files[0], b"!", 0)  # Linux appends these as well
    for file in files:
        os.close(file)
    return None


def appending_by_two_processes(top: Path) -> object:
    fork = multiprocessing.get_context("fork")

    def append(mark: bytes) -> None:
        file = os.open(top / "file", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for _ in range(500):
            assert os.write(file, mark * 99 + b"\n") == 100

    writers = [fork.Process(target=append, args=(mark,)) for mark in (b"a", b"b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = (top / "file").read_bytes().splitlines()
    (top / "file").unlink()
    return sorted(lines)


def directory_counts(top: Path) -> object:
    counts = []

    def count() -> None:
        counts.append([path.stat().st_nlink for path in (top, top / "a", top / "b")])

    for name in ("a", "b", "a/1", "a/2", "b/3"):
        (top / name).mkdir()
    count()
    os.rename(top / "a/1", top / "b/1")
    count()
    (top / "b/file").touch()
    rename2(top / "a/2", top / "b/file", EXCHANGE)
    count()
    os.rename(top / "b/1", top / "b/3")
    count()
    return counts, attempt(os.rmdir, top / "b"), attempt(os.rename, top / "a", top / "a/x")


def moving_a_directory_below_itself(top: Path) -> object:
    (top / "a/b/c").mkdir(parents=True)
    return [
        attempt(rename2, top / "a", top / "a/b/d", 0),
        attempt(rename2, top / "a", top / "a/b/c", EXCHANGE),
        attempt(rename2, top / "a/b/c", top / "a", EXCHANGE),
        attempt(rename2, top / "a/b/c", top / "a", 0),
        attempt(os.link, top / "a", top / "hard"),
    ]


def set_group_id_directories(top: Path) -> object:
    (top / "dir").mkdir()
    os.chown(top / "dir", NOBODY, OTHER_GROUP)
    (top / "dir").chmod(0o2777)

    def make() -> None:
        for mode in (0o2755, 0o2644, 0o4755):
            os.close(os.open(top / f"dir/{mode:o}", os.O_CREAT | os.O_WRONLY, mode))
        (top / "dir/sub").mkdir()
        (top / "dir/sub/file").touch()
        os.symlink("x", top / "dir/link")
        os.mkfifo(top / "dir/fifo")
        (top / "dir/2755").chmod(0o2755)

    make_more = [as_nobody(make)]
    (top / "dir/as root").touch()
    shutil.rmtree(top / "dir/sub")
    make_more.append(as_nobody(lambda: (top / "dir/2644").chmod(0o2711), groups=(OTHER_GROUP,)))
    return make_more


def sticky_directories(top: Path) -> object:
    (top / "dir").mkdir()
    (top / "dir").chmod(0o1777)
    (top / "dir/root's").write_text("x")
    (top / "dir/root's dir").mkdir()
    (top / "own").mkdir()
    os.chown(top / "own", NOBODY, NOBODY)
    (top / "own").chmod(0o1777)
    (top / "own/root's").write_text("x")
    return [
        as_nobody(lambda: (top / "dir/own").write_text("y")),
        as_nobody(lambda: (top / "dir/root's").unlink()),
        as_nobody(lambda: (top / "dir/root's dir").rmdir()),
        as_nobody(lambda: os.rename(top / "dir/root's", top / "dir/mine")),
        as_nobody(lambda: os.rename(top / "dir/own", top / "dir/root's")),
        as_nobody(lambda: rename2(top / "dir/own", top / "dir/root's", EXCHANGE)),
        as_nobody(lambda: os.rename(top / "dir/own", top / "dir/mine")),
        as_nobody(lambda: (top / "own/root's").unlink()),
    ]


def permissions(top: Path) -> object:
    (top / "closed").mkdir(mode=0o700)
    (top / "closed/file").touch()
    (top / "listed").mkdir()
    (top / "listed").chmod(0o744)
    (top / "listed/file").touch()
    (top / "file").write_text("secret")
    (top / "file").chmod(0o640)
    os.chown(top / "file", 0, OTHER_GROUP)
    return [
        as_nobody(lambda: os.listdir(top / "closed")),
        as_nobody(lambda: (top / "closed/file").stat()),
        as_nobody(lambda: os.listdir(top / "listed")),
        as_nobody(lambda: (top / "listed/file").read_text()),
        as_nobody(lambda: (top / "listed/new").touch()),
        as_nobody(lambda: (top / "file").read_text()),
        as_nobody(lambda: (top / "file").read_text(), groups=(OTHER_GROUP,)),
        as_nobody(lambda: (top / "file").write_text("x"), groups=(OTHER_GROUP,)),
        as_nobody(lambda: os.truncate(top / "file", 0)),
        as_nobody(lambda: (top / "file").chmod(0o777)),
        as_nobody(lambda: os.chown(top / "file", NOBODY, -1)),
        as_nobody(lambda: os.utime(top / "file")),
        as_nobody(lambda: os.setxattr(top / "file", "user.a", b"")),
        as_nobody(lambda: os.setxattr(top / "file", "trusted.a", b"")),
        as_nobody(lambda: os.mknod(top / "device", stat.S_IFCHR, os.makedev(1, 3))),
        as_nobody(lambda: os.access(top / "file", os.R_OK)),
    ]


def chown_to_nobody_new_while_it_is_written(top: Path) -> object:
    found = []
    for mode in (0o4755, 0o6755, 0o2745):
        descriptor = os.open(top / "file", os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, b"x")
        os.fchmod(descriptor, mode)
        os.write(descriptor, b"y")  # by root: they stay
        found.append(os.fstat(descriptor).st_mode)
        os.chown(top / "file", -1, -1)
        found.append(os.fstat(descriptor).st_mode)
        os.close(descriptor)
    return found


def set_id_bits(top: Path) -> object:
    found: list[object] = []

    def change(mode: int, call: Callable[[Path], object], *, as_root: bool = False) -> None:
        path = top / f"{len(found)}"
        path.write_bytes(b"x" * 100)
        os.chown(path, NOBODY, NOBODY)
        path.chmod(mode)
        said = repr(attempt(call, path)) if as_root else as_nobody(lambda: call(path))
        found.append((said, status(path)))

    for mode in (0o6755, 0o2644, 0o6777, 0o4711):
        for as_root in (False, True):
            change(mode, lambda path: os.truncate(path, 10), as_root=as_root)
            change(mode, lambda path: path.open("ab").close(), as_root=as_root)
            change(mode, lambda path: append(path), as_root=as_root)
            change(mode, lambda path: path.write_bytes(b"new"), as_root=as_root)
            change(mode, lambda path: os.chown(path, -1, NOBODY), as_root=as_root)
            change(mode, lambda path: os.chown(path, NOBODY, -1), as_root=as_root)
            change(mode, lambda path: os.chown(path, -1, -1), as_root=as_root)
            change(mode, lambda path: path.chmod(path.stat().st_mode | 1), as_root=as_root)
            change(mode, write_mapped, as_root=as_root)
            change(mode, set_capability_and_append, as_root=as_root)
        change(mode, lambda path: os.chown(path, 0, OTHER_GROUP), as_root=True)
        change(mode, append_to_what_root_opened, as_root=True)
    for mode in (0o6755, 0o2644, 0o755):  # by neither the owner nor a member of the group
        path = top / f"other {mode:o}"
        path.touch()
        path.chmod(mode)
        found.append((as_nobody(lambda path=path: os.chown(path, -1, -1)), status(path)))
    (top / "dir").mkdir()
    (top / "dir").chmod(0o6755)
    os.chown(top / "dir", NOBODY, OTHER_GROUP)
    return found


def append(path: Path) -> int:
    with path.open("ab", buffering=0) as file:
        return file.write(b"more")


def append_to_what_root_opened(path: Path) -> str:
    with path.open("ab", buffering=0) as file:
        return as_nobody(lambda: file.write(b"more"))


def write_mapped(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[0:1] = b"!"
        memory.flush()


def set_capability_and_append(path: Path) -> object:
    said = attempt(os.setxattr, path, CAPABILITY, NET_BIND_SERVICE)
    return said, append(path), attempt(os.getxattr, path, CAPABILITY)


def capabilities(top: Path) -> object:
    """Who writes, truncates or changes the owner takes them; whatever came in between."""
    found: list[object] = []

    def attempt_each(*acts: Callable[[Path, int], object]) -> None:
        path = top / f"{len(found)}"
        with path.open("w+b", buffering=0) as file:
            for act in acts:
                act(path, file.fileno())
            found.append(attempt(os.getxattr, path, CAPABILITY))

    def grant(path: Path, file: int) -> None:
        os.setxattr(path, CAPABILITY, NET_BIND_SERVICE)

    def write(path: Path, file: int) -> None:
        os.write(file, b"content")

    def look(path: Path, file: int) -> None:
        path.stat()

    attempt_each(grant)
    attempt_each(grant, write)
    attempt_each(write, grant, write)
    attempt_each(write, write, grant, write, grant)
    attempt_each(write, grant, look, write)
    attempt_each(write, grant, lambda path, file: as_nobody(lambda: os.write(file, b"more")))
    attempt_each(write, grant, lambda path, file: os.ftruncate(file, 1))
    attempt_each(write, grant, lambda path, file: path.open("wb").close())
    attempt_each(write, grant, lambda path, file: os.chown(path, NOBODY, NOBODY))
    attempt_each(write, grant, lambda path, file: os.chown(path, -1, -1))
    attempt_each(write, grant, lambda path, file: path.chmod(0o755))
    return found


def times_set(top: Path) -> object:
    path, second = top / "file", 10**9
    path.touch()
    os.utime(path, ns=(1, 2))
    found: list[object] = []
    for atime, mtime in (
        (OMIT, 1000), (2000, OMIT), (OMIT, OMIT), (NOW, OMIT), (3000, NOW), (NOW, NOW), (OMIT, 77),
    ):  # fmt: skip
        utimensat(path, atime, mtime)
        found.append([old(path.stat().st_atime_ns), old(path.stat().st_mtime_ns)])
    for year in (-60, -1, 30, 68, 130, 200, 291):
        os.utime(path, ns=(0, year * 31_556_952 * second + 999_999_999))
        found.append(path.stat().st_mtime_ns)
    os.utime(path, ns=(5, 6))
    (top / "link").symlink_to("file")
    os.utime(top / "link", ns=(7, 8), follow_symlinks=False)
    path.chmod(0o600)
    os.rename(path, top / "renamed")
    return found, status(top / "renamed"), (top / "renamed").stat().st_atime_ns


NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2


def old(time_ns: int) -> int | None:
    return time_ns if time_ns < PRESENT_NS else None


def utimensat(path: Path, *nanoseconds: int) -> None:
    times = (ctypes.c_long * 4)(0, nanoseconds[0], 0, nanoseconds[1])
    if _libc.utimensat(_AT_FDCWD, os.fsencode(path), times, 0):
        raise OSError(ctypes.get_errno(), "utimensat")


def directory_times(top: Path) -> object:
    """Which directories each change of a name touches."""
    for name in ("a", "b"):
        (top / name).mkdir()
    found = []

    def touched(call: Callable[..., object], *arguments: Any) -> None:
        for name in ("a", "b"):
            os.utime(top / name, ns=(0, 0))
        attempt(call, *arguments)
        found.append([(top / name).stat().st_mtime_ns == 0 for name in ("a", "b")])

    touched((top / "a/file").touch)
    touched((top / "a/file").touch)
    touched(os.link, top / "a/file", top / "b/link")
    touched(os.rename, top / "a/file", top / "b/link")
    touched(os.rename, top / "a/file", top / "b/moved")
    touched(rename2, top / "b/moved", top / "b/link", EXCHANGE)
    touched(os.unlink, top / "b/moved")
    touched(os.unlink, top / "b/none")
    touched(os.mkdir, top / "a/dir")
    touched(os.rename, top / "a/dir", top / "b/dir")
    touched(os.rmdir, top / "b/dir")
    touched((top / "b/link").write_text, "x")
    return found


def access_lists(top: Path) -> object:
    (top / "dir").mkdir(mode=0o700)
    (top / "dir/file").write_text("x")
    (top / "dir/file").chmod(0o600)
    found: list[object] = [as_nobody((top / "dir/file").read_text)]
    setfacl("-m", f"u:{NOBODY}:x", top / "dir")
    found.append(as_nobody((top / "dir/file").read_text))
    setfacl("-m", f"u:{NOBODY}:rw", top / "dir/file")
    found.append(as_nobody((top / "dir/file").read_text))
    found.append(as_nobody(lambda: append(top / "dir/file")))
    found.append(as_nobody(lambda: os.listdir(top / "dir")))
    (top / "dir/file").chmod(0o640)  # the mask: now without w
    found.append(as_nobody(lambda: append(top / "dir/file")))
    found += [getfacl(top / "dir"), getfacl(top / "dir/file")]
    setfacl("-m", f"u:{NOBODY}:-,o::r", top / "dir/file")
    found.append(as_nobody((top / "dir/file").read_text))
    setfacl("-m", f"g:{OTHER_GROUP}:rw,m::rw", top / "dir/file")
    found.append(as_nobody((top / "dir/file").read_text, groups=(OTHER_GROUP,)))
    setfacl("-b", top / "dir/file")
    found.append(getfacl(top / "dir/file"))
    setfacl("-m", f"u:{NOBODY}:rwx", top / "dir")
    found.append(as_nobody(lambda: (top / "dir/by nobody").touch()))
    return found


def default_access_lists(top: Path) -> object:
    umask = os.umask(0)
    try:
        (top / "dir").mkdir(mode=0o750)
        setfacl("-d", "-m", f"u:{NOBODY}:rwx,g:{OTHER_GROUP}:rx,o::-", top / "dir")
        (top / "dir/sub").mkdir(mode=0o755)
        (top / "dir/sub/sub").mkdir(mode=0o700)
        os.close(os.open(top / "dir/file", os.O_CREAT | os.O_WRONLY, 0o666))
        os.close(os.open(top / "dir/sub/private", os.O_CREAT | os.O_WRONLY, 0o600))
        os.mkfifo(top / "dir/sub/fifo", 0o640)
        (top / "dir/link").symlink_to("file")
        os.umask(0o027)  # which a default ACL leaves out
        (top / "dir/shared").mkdir()
        (top / "dir/shared/file").touch()
        os.mkfifo(top / "dir/shared/fifo")
        (top / "masked").mkdir()
        (top / "masked/file").touch()
        os.mkfifo(top / "masked/fifo")
    finally:
        os.umask(umask)
    setfacl("-k", top / "dir/sub/sub")
    (top / "dir/sub/sub/plain").touch()
    return [
        [getfacl(path) for path in sorted(below(top)) if not path.is_symlink()],
        attempt(os.setxattr, top / "dir/file", "system.posix_acl_access", b"nonsense"),
        attempt(os.setxattr, top / "dir/file", "system.posix_acl_default", b"\2\0\0\0"),
    ]


def setfacl(*arguments: str | Path) -> None:
    subprocess.run(["setfacl", *arguments], check=True)


def getfacl(path: Path) -> str:
    command: list[str | Path] = ["getfacl", "--numeric", "--omit-header", path]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def extended_attributes(top: Path) -> object:
    path = top / "file"
    path.touch()
    found = [
        attempt(os.setxattr, path, "user." + "n" * 250, b"longest name"),
        attempt(os.setxattr, path, "user." + "n" * 251, b"too long"),
        attempt(os.setxattr, path, "user.empty", b""),
        attempt(os.setxattr, path, "user.bytes", bytes(range(256))),
        attempt(os.setxattr, path, "user.new", b"1", os.XATTR_REPLACE),
        attempt(os.setxattr, path, "user.new", b"2", os.XATTR_CREATE),
        attempt(os.setxattr, path, "user.new", b"3", os.XATTR_CREATE),
        attempt(os.setxattr, path, "user.new", b"4", os.XATTR_REPLACE),
        attempt(os.setxattr, path, "user.large", b"x" * 65537),
        attempt(os.setxattr, path, "system.nonsense", b""),
        attempt(os.setxattr, path, "trusted.a", b"t"),
        attempt(os.setxattr, path, "security.a", b"s"),
        attempt(os.getxattr, path, "user.absent"),
        attempt(os.removexattr, path, "user.absent"),
        attempt(os.getxattr, path, "user.empty"),
        as_nobody(lambda: sorted(os.listxattr(path))),
        as_nobody(lambda: os.getxattr(path, "user.bytes")),
    ]
    os.link(path, top / "link")
    found.append(os.getxattr(top / "link", "user.new"))
    return found


def device_nodes(top: Path) -> object:
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(top / "block", stat.S_IFBLK | 0o600, os.makedev(7, 1 << 18))
    os.mknod(top / "socket", stat.S_IFSOCK | 0o600)
    os.mknod(top / "file", stat.S_IFREG | 0o600)
    return (top / "null").write_bytes(b"gone"), attempt(os.open, top / "socket", os.O_RDONLY)


def mapped_memory(top: Path) -> object:
    """What is written through a shared mapping is what read(2) sees, and the other way round."""
    with (top / "file").open("w+b", buffering=0) as file:
        file.truncate(3 * MIB)
        with mmap.mmap(file.fileno(), 3 * MIB) as memory:
            memory[MIB - 3 : MIB + 3] = b"mapped"
            found = [os.pread(file.fileno(), 6, MIB - 3)]
            os.pwrite(file.fileno(), b"written", 2 * MIB)
            found.append(memory[2 * MIB : 2 * MIB + 7])
            memory[0:1] = b"!"
    found.append((top / "file").read_bytes()[:2])
    with (top / "file").open("rb") as again, mmap.mmap(again.fileno(), 0, prot=mmap.PROT_READ) as m:
        found.append(m[MIB - 3 : MIB + 3])
    return found


def flags_of_open(top: Path) -> object:
    (top / "file").write_text("content")
    (top / "link").symlink_to("file")
    (top / "dir").mkdir()
    flags = (
        os.O_CREAT | os.O_EXCL, os.O_CREAT, os.O_TRUNC, os.O_TRUNC | os.O_RDWR, os.O_DIRECTORY,
        os.O_NOFOLLOW, os.O_PATH, os.O_WRONLY, os.O_RDWR, os.O_SYNC | os.O_RDWR,
        os.O_DSYNC | os.O_WRONLY, os.O_NOATIME, os.O_CREAT | os.O_DIRECTORY,
    )  # fmt: skip
    found = []
    for name in ("file", "link", "dir", "file/", "dir/", "none/", "none"):
        for flag in flags:
            file = attempt(os.open, f"{top}/{name}", flag, 0o644)
            found.append((name, flag, "opened" if isinstance(file, int) else file))
            if isinstance(file, int):
                found.append((name, flag, repr(attempt(os.read, file, 3))))
                found.append((name, flag, repr(attempt(os.pwrite, file, b"12", 1))))
                os.close(file)
        (top / "none").unlink(missing_ok=True)
    return found


SCENARIOS = (
    names_of_any_length, names_of_any_bytes, symbolic_links, offsets_beyond_4_gib,
    pipes_that_are_open_when_they_go, chown_to_nobody_new_while_it_is_written,
    removed_while_open, replaced_while_open, a_directory_removed_while_open, appending_by_two,
    appending_by_two_processes, directory_counts, moving_a_directory_below_itself,
    set_group_id_directories, sticky_directories, permissions, set_id_bits, times_set,
    directory_times, access_lists, default_access_lists, extended_attributes, device_nodes,
    mapped_memory, flags_of_open, capabilities,
)  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_it_is_as_on_a_local_disk(pair: Pair, scenario: Scenario) -> None:
    assert_same(pair, scenario)


@pytest.mark.parametrize(
    "scenario",
    [set_id_bits, capabilities, appending_by_two, flags_of_open, mapped_memory, times_set],
    ids=lambda scenario: scenario.__name__,
)
def test_it_is_so_with_a_write_back_cache(pair: Pair, scenario: Scenario) -> None:
    pair.mounted.remount("-o", "allow_other,writeback_cache")
    try:
        assert_same(pair, scenario)
    finally:
        pair.mounted.remount("-o", "allow_other")


def test_the_largest_file(pair: Pair) -> None:
    """Larger than the local filesystem can have them."""
    path, size = pair.ours / "file", 2**63 - 1
    with path.open("w+b", buffering=0) as file:
        os.truncate(path, size)
        assert path.stat().st_size == size
        os.pwrite(file.fileno(), b"end", size - 3)
        assert os.pread(file.fileno(), 5, size - 5) == b"\0\0end"
        assert attempt(os.pwrite, file.fileno(), b"x", size) == os.strerror(errno.EINVAL)
        os.fsync(file.fileno())
        assert path.stat().st_blocks < 100
        file.truncate(size - 1)
        assert os.pread(file.fileno(), 5, size - 5) == b"\0\0en"
    path.unlink()
    (trashed,) = (e for e in trash_of(pair.mounted) if e["original_path"].endswith("e/file"))
    assert trashed["size"] == size - 1


def trash_of(mounted: Mounted) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(
        fusefs("trash", "list", "--all", "--json", mounted.mnt)
    )
    return entries


def test_who_renames_what_a_listing_shows_comes_to_an_end(pair: Pair) -> None:
    """Each file is seen once; a local disk may show some again, under their new names."""
    for number in range(3000):
        (pair.ours / f"{number}").touch()
    with os.scandir(pair.ours) as listing:
        for count, entry in enumerate(listing):
            os.rename(entry.path, pair.ours / f"renamed {count}")
    assert set(os.listdir(pair.ours)) == {f"renamed {number}" for number in range(3000)}


def churn(top: Path, ready: int) -> None:
    """Create names and remove them again, and exchange old ones for new files, until killed."""
    number = 0
    while True:
        number += 1
        (top / f"churn {number}").touch()
        if number > 500:
            (top / f"churn {number - 500}").unlink()
        os.rename(top / f"churn {number}", top / f"moved {number}")
        os.rename(top / f"moved {number}", top / f"churn {number}")
        if number % 100 == 0:
            os.write(ready, b".")


def replace(top: Path, ready: int) -> None:
    """Write files anew, by a rename over them, until killed."""
    number = 0
    while True:
        number += 1
        (top / "temporary").touch()
        os.rename(top / "temporary", top / f"lasting {number * 7 % len(LASTING)}")
        if number % 100 == 0:
            os.write(ready, b".")


LASTING = {f"lasting {number}" for number in range(8000)}


@pytest.fixture(scope="module")
def long_directory(filesystem: Mounted) -> Path:
    path = filesystem.mnt / "long"
    path.mkdir()
    for name in LASTING:
        os.close(os.open(path / name, os.O_CREAT))
    return path


@pytest.mark.parametrize("disturb", [churn, replace])
def test_a_long_listing_while_names_change(
    long_directory: Path, disturb: Callable[[Path, int], None]
) -> None:
    """What is there all the time shows once, and nothing twice."""
    reading, ready = os.pipe()
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=disturb, args=(long_directory, ready))
    process.start()
    try:
        seen = []
        with os.scandir(long_directory) as listing:
            for entry in listing:
                seen.append(entry.name)
                if len(seen) % 2000 == 0:
                    assert os.read(reading, 4096)
                    assert os.read(reading, 1)  # in between much has changed
        assert len(seen) == len(set(seen)), "a name is listed twice"
        assert set(seen) >= LASTING
    finally:
        process.kill()
        process.join()
        os.close(reading)
        os.close(ready)
