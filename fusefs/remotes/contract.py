"""What every remote must keep, as checks that any remote can be put to.

A check is a function over a `Trial`, a remote and a prefix of its own in it; it returns nothing, or
why it does not apply, and raises RemoteError when a promise of `remotes.api` is not kept. `CHECKS`
has them in the order of telling: the first finds out whether the place can be used at all.

Called by tests, for every driver and wrapper, and by ``fusefs remote test``, for users' own places.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TypeVar

from blake3 import blake3

from fusefs.base.clock import Clock
from fusefs.errors import NoSuchObject, RemoteError
from fusefs.remotes.api import MAX_NAME_BYTES, Found, Remote

#: At once, where a check is about doing things at the same time.
THREADS = 8
#: More than one page of a listing of any service.
MANY = 1050
LARGE_BYTES = 16 << 20
_A = TypeVar("_A")
_T = TypeVar("_T")
_ODD_NAMES = (
    "a", "-", "_", "0", "A.b", "a..b", "a.", "--x--", "a/b.c/-/_/0", "b/" + "x" * 40 + ".y",
    "c/c/c/c/c/c/c/c", "index.html", "con", "x.tar.gz", "1e5", "-rf",
)  # fmt: skip
_NO_NAMES = (
    "", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", ".a", "a/.b", "a b", "a\n", "\u00e4",
    "a\0b", "a\\b", "a?b", "a*", "a:b", "x" * (MAX_NAME_BYTES + 1),
)  # fmt: skip
_NO_PREFIXES = ("a", "/", "../", "a//", ".a/", "a b/")


@dataclass(frozen=True)
class Trial:
    """A remote on trial. `scratch`: a prefix, ending with a slash, that nobody else uses."""

    remote: Remote
    scratch: str

    def name(self, name: str) -> str:
        return self.scratch + name

    def content(self, size: int, salt: str = "") -> bytes:
        """Bytes that do not compress, the same for the same `salt`."""
        return blake3(f"{self.scratch}{salt}".encode()).digest(length=size) if size else b""

    def put(self, name: str, content: bytes) -> None:
        """Store what is not there yet."""
        _want(self.remote.put(self.name(name), content), f"put of a new object, {name}, said no")

    def each(self, act: Callable[[_A], _T], items: Iterable[_A]) -> list[_T]:
        """What `act` returns for each of `items`, called in several threads."""
        with ThreadPoolExecutor(THREADS) as threads:
            return list(threads.map(act, items))


Check = Callable[[Trial], str | None]


@dataclass(frozen=True)
class Outcome:
    """Of one check. `skipped`: why it does not apply; `error`: what it found, None for nothing."""

    check: str
    seconds: float
    skipped: str = ""
    error: RemoteError | None = None


def _want(kept: bool, broken: str) -> None:
    if not kept:
        raise RemoteError(f"a promise is not kept: {broken}")


def reach(trial: Trial) -> None:
    """The place answers, lets us in, and an unknown prefix is empty."""
    _want(not list(trial.remote.list(trial.scratch)), f"{trial.scratch} is not empty")


def write_and_read(trial: Trial) -> None:
    """What was put is there, with these bytes, whatever kind of buffer it came from."""
    content = trial.content(10_000)
    for name, buffer in (
        ("bytes", content),
        ("bytearray", bytearray(content)),
        ("view", memoryview(b"x" + content)[1:]),
    ):
        _want(trial.remote.put(trial.name(f"kinds/{name}"), buffer), f"put of {name} said no")
        _want(trial.remote.get(trial.name(f"kinds/{name}")) == content, "get has other bytes")


def put_twice(trial: Trial) -> None:
    """A second put of a name changes nothing, and says so."""
    first, second = trial.content(1000, "first"), trial.content(2000, "second")
    trial.put("twice", first)
    again = trial.remote.put(trial.name("twice"), second)
    there = trial.remote.get(trial.name("twice"))
    _want(there == first, f"a second put replaced the object{_advice(trial)}")
    _want(not again, "a second put said that it stored the object")


def put_race(trial: Trial) -> str | None:
    """Of many puts of one name at the same time one succeeds, and its bytes are there."""
    contents = [trial.content(50_000, f"race {number}") for number in range(THREADS)]
    for turn in range(4):
        name = trial.name(f"race/{turn}")
        won = list(trial.each(partial(trial.remote.put, name), contents))
        there = trial.remote.get(name)
        _want(there in contents, "after a race of puts the object is none of what was put")
        if trial.remote.capabilities.is_conditional:
            winners = [content for content, has_won in zip(contents, won, strict=True) if has_won]
            _want(winners == [there], f"{len(winners)} puts won one race{_advice(trial)}")
    if not trial.remote.capabilities.is_conditional:
        return "this place cannot say which of two writers was first"
    return None


def _advice(trial: Trial) -> str:
    if not trial.remote.capabilities.is_conditional:
        return ""
    return ": it ignores If-None-Match; if the URL has that option, add conditional=no to it"


def ranges(trial: Trial) -> None:
    """A get has the bytes asked for, and fewer at the end and beyond."""
    content = trial.content(100_000)
    size = len(content)
    trial.put("ranges", content)
    for start, count in (
        (0, 0), (0, 1), (0, size), (0, size + 1), (10, 5), (65_535, 2), (size - 3, 3),
        (size - 3, 10), (size - 1, 1), (size, 0), (size, 5), (size + 100, 5), (5, None),
        (size - 1, None), (size, None), (size + 1, None), (0, None),
    ):  # fmt: skip
        there = trial.remote.get(trial.name("ranges"), start, count)
        wanted = content[start:] if count is None else content[start : start + count]
        _want(there == wanted, f"get from {start}, {count} bytes: got {len(there)}, or others")


def sizes(trial: Trial) -> None:
    """Of many names, those that are there have their sizes, and the others none."""
    there = {trial.name(f"sizes/{n}"): n * 100 for n in range(100)}
    trial.each(lambda n: trial.put(f"sizes/{n}", trial.content(n * 100)), range(100))
    absent = [trial.name(f"sizes/absent-{n}") for n in range(100)]
    elsewhere = [trial.name("no/such/directory"), trial.name("sizes-")]
    asked = [*there, *absent, *elsewhere]
    _want(trial.remote.sizes(asked) == there, "sizes of many names differ")
    few = asked[97:103]
    wanted = {name: size for name, size in there.items() if name in few}
    _want(trial.remote.sizes(few) == wanted, "sizes of a few names differ")
    _want(trial.remote.sizes([]) == {}, "sizes of no names are some")


def list_many(trial: Trial) -> None:
    """A listing has all objects below a prefix, and no others, also beyond one page."""
    wanted = {trial.name(f"many/{n % 3}/{n}"): n % 7 for n in range(MANY)}
    trial.each(lambda n: trial.put(f"many/{n % 3}/{n}", trial.content(n % 7)), range(MANY))
    trial.put("many-more", b"")
    _want(_listed(trial, "many/") == wanted, "a listing of many objects differs")
    below = {name: size for name, size in wanted.items() if "many/1/" in name}
    _want(_listed(trial, "many/1/") == below, "a listing of a part differs")
    _want(_listed(trial, "no/such/") == {}, "a listing of nothing has something")


def odd_names(trial: Trial) -> None:
    """Every name that is legal can be put, listed and got."""
    longest = "x" * (MAX_NAME_BYTES - len(trial.name("odd/")))
    names = [f"odd/{name}" for name in (*_ODD_NAMES, longest)]
    # On file systems a name cannot be both an object and a directory; nobody asks for that.
    names = [name for name in names if not any(n.startswith(f"{name}/") for n in names)]
    for name in names:
        trial.put(name, name.encode())
    wanted = {trial.name(name): len(name) for name in names}
    _want(_listed(trial, "odd/") == wanted, "a listing of odd names differs")
    for name in names:
        _want(trial.remote.get(trial.name(name)) == name.encode(), f"get of {name} differs")


def case(trial: Trial) -> None:
    """Names that differ in nothing but case are two."""
    trial.put("case/abc", b"small")
    trial.put("case/ABC", b"large")
    _want(trial.remote.get(trial.name("case/abc")) == b"small", "case of letters is not kept")


def _listed(trial: Trial, prefix: str) -> dict[str, int]:
    found: list[Found] = list(trial.remote.list(trial.name(prefix)))
    listed = {name: size for name, size, _ in found}
    _want(len(listed) == len(found), "a listing has a name twice")
    return listed


def delete(trial: Trial) -> None:
    """What is deleted is gone, a second delete finds nothing, and the name can be put again."""
    name = trial.name("delete/me")
    trial.put("delete/me", b"content")
    trial.put("delete/not-me", b"content")
    _want(trial.remote.delete(name), "a delete of an object said that there was none")
    _want(not trial.remote.delete(name), "a second delete said that there was something")
    _want(trial.remote.sizes([name]) == {}, "a deleted object has a size")
    _want(list(_listed(trial, "delete/")) == [trial.name("delete/not-me")], "it is still listed")
    trial.put("delete/me", b"again")
    _want(trial.remote.get(name) == b"again", "put after delete has other bytes")


def unknown(trial: Trial) -> None:
    """An object that is not there is told apart from all other troubles."""
    name = trial.name("not/there")
    for arguments in ((), (5,), (0, 10), (0, 0)):
        try:
            trial.remote.get(name, *arguments)
        except NoSuchObject:
            continue
        _want(False, f"get{arguments} of an object that is not there has something")
    _want(not trial.remote.delete(name), "delete of what is not there said that it was")


def empty(trial: Trial) -> None:
    """An object may have no bytes."""
    name = trial.name("empty/none")
    trial.put("empty/none", b"")
    _want(not trial.remote.put(name, b""), "an empty object was stored twice")
    for arguments in ((), (0, 10), (5,), (0, 0)):
        _want(trial.remote.get(name, *arguments) == b"", "an empty object has bytes")
    _want(trial.remote.sizes([name]) == {name: 0}, "an empty object has another size")
    _want(_listed(trial, "empty/") == {name: 0}, "an empty object is not listed")


def large(trial: Trial) -> None:
    """An object of the size of a segment, whole and in parts."""
    name = trial.name("large")
    content = trial.content(LARGE_BYTES)
    trial.put("large", content)
    _want(trial.remote.get(name) == content, "a large object has other bytes")
    middle = LARGE_BYTES // 2 - 7
    part = trial.remote.get(name, middle, 1 << 20)
    _want(part == content[middle : middle + (1 << 20)], "a part of it has other bytes")
    _want(trial.remote.get(name, LARGE_BYTES - 9) == content[-9:], "its end has other bytes")


def whole(trial: Trial) -> None:
    """Whoever looks while an object is being put sees nothing, or all of it."""
    name, content = trial.name("whole"), trial.content(4 << 20, "whole")

    def look(_: int) -> int:
        size = trial.remote.sizes([name]).get(name)
        _want(size in (None, len(content)), f"{size} bytes of {len(content)} are visible")
        _want(all(f.size == len(content) for f in trial.remote.list(name[:-5])
                  if f.name == name), "a part of an object is listed")  # fmt: skip
        if size is not None:
            _want(trial.remote.get(name) == content, "half-written bytes are visible")
        return size or 0

    with ThreadPoolExecutor(1) as writer:
        writing = writer.submit(trial.remote.put, name, content)
        while not writing.done():
            look(0)
        _want(writing.result(), "put of a new object said no")
    _want(look(0) == len(content), "after put returned, the object is not visible")


def threads(trial: Trial) -> None:
    """Several threads use one remote, each as if it were alone."""
    shared = trial.content(100_000, "shared")
    trial.put("threads/shared", shared)

    def act(number: int) -> None:
        own = trial.content(30_000 + number, f"own {number}")
        for turn in range(5):
            name = trial.name(f"threads/{number}-{turn}")
            _want(trial.remote.put(name, own), "put said no")
            _want(trial.remote.get(name) == own, "a thread got the bytes of another")
            _want(trial.remote.get(trial.name("threads/shared"), 7, 999) == shared[7:1006],
                  "a thread got other bytes")  # fmt: skip
            _want(trial.remote.delete(name), "delete found nothing")

    trial.each(act, range(THREADS))


def no_names(trial: Trial) -> None:
    """What is no name is refused by every method, before anything is done."""
    remote = trial.remote
    for name in _NO_NAMES:
        _refused(name, lambda it: remote.put(it, b"x"))
        _refused(name, remote.get)
        _refused(name, lambda it: remote.sizes([it]))
        _refused(name, remote.delete)
    for prefix in _NO_PREFIXES:
        _refused(prefix, lambda it: list(remote.list(it)))


def _refused(name: str, call: Callable[[str], object]) -> None:
    try:
        call(name)
    except NoSuchObject:
        pass
    except RemoteError:
        return
    _want(False, f"{name!r} is taken for a name")


def room(trial: Trial) -> str | None:
    """A place that knows its room says how much there is."""
    free = trial.remote.free_bytes()
    if not trial.remote.capabilities.knows_free_space:
        _want(free is None, "a place that does not know its room says a number")
        return "this place does not say how much room it has"
    _want(free is not None and free >= 0, "a place that knows its room does not say it")
    return None


CHECKS: tuple[Check, ...] = (
    reach, write_and_read, put_twice, put_race, ranges, unknown, empty, delete, sizes, list_many,
    odd_names, case, no_names, threads, whole, large, room,
)  # fmt: skip


def run(trial: Trial, clock: Clock, checks: Sequence[Check] = CHECKS) -> Iterator[Outcome]:
    """Put a remote to each check. Where the first fails the others are left out: all would."""
    for number, check in enumerate(checks):
        began = clock.monotonic()
        skipped, error = "", None
        try:
            skipped = check(trial) or ""
        except RemoteError as found:
            error = found
        except Exception as found:  # of whatever library: no driver may let that out
            error = RemoteError(f"an error of another kind came out: {type(found).__name__}")
        name = check.__name__.replace("_", " ")
        yield Outcome(name, clock.monotonic() - began, skipped, error)
        if error and not number:
            return


@dataclass(frozen=True)
class Speed:
    """How fast a remote is: seconds of the shortest answer, bytes a second up and down."""

    round_trip_s: float
    up: float
    down: float


def measure(trial: Trial, clock: Clock) -> Speed:
    """How fast the remote is, for one connection. Raises RemoteError."""
    name, content = trial.name("speed/object"), trial.content(LARGE_BYTES, "speed")
    put: Callable[[], object] = partial(trial.remote.put, name, content)
    get: Callable[[], object] = partial(trial.remote.get, name)
    look: Callable[[], object] = partial(trial.remote.get, name, 0, 1)
    times = [clock.monotonic()]
    for act in (put, get, *[look] * 5):
        act()
        times.append(clock.monotonic())
    took = [max(end - begin, 1e-6) for begin, end in pairwise(times)]
    return Speed(min(took[2:]), LARGE_BYTES / took[0], LARGE_BYTES / took[1])


def clean(trial: Trial) -> int:
    """Delete all that the checks left; how many that were. Raises RemoteError."""
    names = [found.name for found in trial.remote.list(trial.scratch)]
    return sum(trial.each(trial.remote.delete, names))
