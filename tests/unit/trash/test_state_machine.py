"""Whatever is done, and whatever the clocks say: nothing leaves the trash early, nothing is lost.

The model knows live paths and entries by inode, and when by real time each was removed. Rules about
how long something is kept belong to the two directories at the top, which stay where they are.
"""

import shutil
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fusefs.daemon.trash_desk import PolicyArguments, PurgeArguments, RestoreArguments, TrashDesk
from fusefs.errors import FusefsError, InUse, Refused, TargetExists
from fusefs.model import keys
from fusefs.model.entry import Entry, State
from fusefs.trash.policy import FOREVER, parse_rule
from fusefs.trash.steady import SETTLE_S, Mark
from fusefs.tree.removal import Caller
from tests.unit import invariants
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess, split

TOPS = (b"a", b"b")
NAME = st.sampled_from([b"x", b"y", b".nfs1"])
PATH = st.tuples(st.sampled_from(TOPS), st.lists(NAME, min_size=1, max_size=2)).map(
    lambda parts: b"/".join([parts[0], *parts[1]])
)
DATA = st.binary(min_size=1, max_size=12)
PID = st.sampled_from([2**22 + 1, 2**22 + 2])  # of no process that there could be
INDEX = st.integers(0, 30)
RULE = st.sampled_from(["skip", "0", "1h", "30d", "forever", "inherit"])
HOUR_S, DAY_S = 3600, 86400
JUMP_S = st.sampled_from([-1000 * DAY_S, -DAY_S, -HOUR_S, HOUR_S, 8 * DAY_S, 1000 * DAY_S])
#: More than any sequence of acts leaves to do.
MANY = 400


class Gone(NamedTuple):
    """An entry of the model: `at_ns`, by the time that really passes, is when it was removed."""

    ino: int
    origin: bytes
    is_dir: bool
    at_ns: int
    batch: int


class TrashMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.patch = pytest.MonkeyPatch()  # acts of a few entries, so that there are several
        for name in ("trash.purge.BEGIN_STEP", "trash.retention.STEP", "files.reaper.STEP"):
            self.patch.setattr(f"fusefs.{name}", 2)
        self.patch.setattr("fusefs.trash.trash.STEP", 2)
        self.directory = Path(tempfile.mkdtemp(prefix="fusefs-trash-"))
        self.clock = ManualClock()
        self.right_ns = self.clock.now_ns - self.clock.passed_ns
        self.fs = InProcess(self.directory / "store", self.clock)
        self.live: dict[bytes, int | None] = {}  # path -> inode; None is a directory
        self.content: dict[int, bytes] = {}
        self.gone: dict[int, Gone] = {}
        self.ongoing: set[int] = set()
        #: Who may be purged although it is not due: at which age at the youngest, in ns.
        self.asked: dict[int, int] = {}
        self.held: dict[int, int] = {}
        self.has_restarted = False
        self.store_keep_s: float = 7 * DAY_S
        self.keeps_replaced = True
        self.rules = dict.fromkeys(TOPS, "inherit")
        for top in TOPS:
            self.fs.mkdir(top)
            self.live[top] = None

    def teardown(self) -> None:
        if not hasattr(self, "fs"):
            return
        try:
            if sys.exc_info()[0] is None:  # else that is what is to be seen
                self.everything_can_go()
                self.fs.close()
        finally:
            self.patch.undo()
            shutil.rmtree(self.directory)

    # -- the model

    def path_at(self, index: int) -> bytes | None:
        paths = sorted(self.live.keys() - set(TOPS))
        return paths[index % len(paths)] if paths else None

    def children(self, path: bytes) -> list[bytes]:
        return [one for one in self.live if split(one)[0] == path]

    def below(self, path: bytes) -> list[bytes]:
        return [one for one in self.live if one == path or one.startswith(path + b"/")]

    def can_be_made(self, path: bytes) -> bool:
        above = split(path)[0]
        return path not in self.live and above in self.live and self.live[above] is None

    def keep_s(self, path: bytes) -> float:
        """How long what was removed there stays, by the rules of now."""
        held = parse_rule(self.rules[path.split(b"/")[0]].encode())
        return self.store_keep_s if isinstance(held, str) else held

    def is_bypassed(self, path: bytes, *, is_replaced: bool = False) -> bool:
        if is_replaced and not self.keeps_replaced:
            return True
        if self.rules[path.split(b"/")[0]] == "skip" or not self.keep_s(path):
            return True
        age_ns = self.clock.now_ns - self.fs.at(path).btime
        is_temporary = split(path)[1] == b".nfs1" and 0 <= age_ns < 60 * 10**9
        return self.live[path] is not None and is_temporary

    def entries(self) -> dict[int, Entry]:
        return {one.number: one for one in self.fs.trash.entries()}

    def pending(self) -> list[int]:
        return [number for number in self.gone if number not in self.ongoing]

    def age_ns(self, number: int) -> int:
        return self.clock.passed_ns - self.gone[number].at_ns

    def path_in_trash(self, number: int) -> bytes:
        one = self.fs.trash.ledger.find(number)
        assert one is not None
        return self.fs.trash.path_in_trash(one)

    def number_at(self, index: int) -> int:
        return self.pending()[index % len(self.pending())]

    def lost_name(self, path: bytes, *, is_bypassed: bool) -> None:
        """One name went; see what became of it."""
        ino = self.live.pop(path)
        new = self.entries().keys() - self.gone.keys()
        assert len(new) == (not is_bypassed)
        for number in new:
            one = self.entries()[number]
            assert (one.origin, one.state) == (path, State.PENDING)
            assert stat.S_ISDIR(one.kind) == (ino is None)
            is_dir = ino is None
            self.gone[number] = Gone(one.ino, path, is_dir, self.clock.passed_ns, one.batch)

    def ask(self, numbers: Iterable[int], least_age_ns: int = 0) -> None:
        for number in numbers:
            self.asked[number] = min(self.asked.get(number, least_age_ns), least_age_ns)

    def with_contents(self, numbers: Iterable[int]) -> set[int]:
        """Those entries, and those below them where they are directories."""
        found = set(numbers)
        tops = [self.path_in_trash(number) + b"/" for number in found if self.gone[number].is_dir]
        paths = {number: self.path_in_trash(number) for number in self.pending()}
        return found | {n for n, path in paths.items() if path.startswith(tuple(tops))}

    def refused(self, wanted: type[FusefsError], act: Any) -> None:
        """It must fail so, and change nothing."""
        before = invariants.rows_in_index(self.fs.store)
        try:
            act()
        except wanted:
            pass
        else:
            raise AssertionError(f"no {wanted.__name__}")
        self.check_unchanged(before)

    def check_unchanged(self, before: invariants.Rows) -> None:
        after = invariants.rows_in_index(self.fs.store)
        changed = {key for key in before | after if before.get(key) != after.get(key)}
        assert not changed, changed

    # -- live files

    @rule(path=PATH, data=DATA)
    def make(self, path: bytes, data: bytes) -> None:
        if self.can_be_made(path):
            self.fs.write(path, data)
            ino = self.fs.at(path).ino
            self.live[path], self.content[ino] = ino, data

    @rule(path=PATH)
    def mkdir(self, path: bytes) -> None:
        if self.can_be_made(path):
            self.fs.mkdir(path)
            self.live[path] = None

    @rule(top=st.sampled_from(TOPS), data=DATA)
    def make_tree(self, top: bytes, data: bytes) -> None:
        for path in (top + b"/x", top + b"/x/y"):
            self.mkdir(path)
        for path in (top + b"/x/y/x", top + b"/x/y/y", top + b"/x/x"):
            self.make(path, data)

    @precondition(lambda self: self.content)
    @rule(index=INDEX, data=DATA)
    def overwrite(self, index: int, data: bytes) -> None:
        path = self.path_at(index)
        ino = path and self.live[path]
        if ino:
            self.fs.write(path, data)
            self.fs.sync()  # for it may be held, and then waits
            self.content[ino] = data + self.content[ino][len(data) :]

    @rule(index=INDEX, new=PATH)
    def link(self, index: int, new: bytes) -> None:
        path = self.path_at(index)
        if path and self.live[path] is not None and self.can_be_made(new):
            self.fs.link(path, new)
            self.live[new] = self.live[path]

    @rule(index=INDEX, pid=PID)
    def remove(self, index: int, pid: int) -> None:
        """rm -rf, by one process."""
        path = self.path_at(index)
        if path is None:
            return
        before = set(self.gone)
        for one in sorted(self.below(path), reverse=True):
            (self.rmdir if self.live[one] is None else self.unlink)(one, pid)
        assert len({self.gone[number].batch for number in self.gone.keys() - before}) <= 1

    def unlink(self, path: bytes, pid: int) -> None:
        if self.live.get(path) is not None:
            self.fs.caller = Caller(0, 0, pid)
            is_bypassed = self.is_bypassed(path)
            self.fs.unlink(path)
            self.lost_name(path, is_bypassed=is_bypassed)

    def rmdir(self, path: bytes, pid: int) -> None:
        if path in self.live and self.live[path] is None and not self.children(path):
            self.fs.caller = Caller(0, 0, pid)
            is_bypassed = self.is_bypassed(path)
            self.fs.rmdir(path)
            self.lost_name(path, is_bypassed=is_bypassed)

    @rule(index=INDEX, new=PATH)
    def rename(self, index: int, new: bytes) -> None:
        old = self.path_at(index)
        if old is None or old == new or new.startswith(old + b"/"):
            return
        is_replaced = self.live.get(new) is not None and self.live[old] is not None
        if is_replaced and self.live[new] == self.live[old]:
            return
        if not is_replaced and not self.can_be_made(new):
            return
        is_bypassed = is_replaced and self.is_bypassed(new, is_replaced=True)
        self.fs.rename(old, new)
        moved = {new + path[len(old) :]: self.live.pop(path) for path in self.below(old)}
        if is_replaced:
            self.lost_name(new, is_bypassed=is_bypassed)
        self.live |= moved

    # -- open files

    @rule(index=INDEX, is_live=st.booleans())
    def hold(self, index: int, is_live: bool) -> None:
        inos = [ino for ino in self.live.values() if ino is not None]
        if not is_live:
            inos = [self.gone[n].ino for n in self.pending() if not self.gone[n].is_dir]
        if inos and len(self.held) < 3:
            inode = self.fs.tree.inode(inos[index % len(inos)])
            handle = self.fs.files.open(inode, for_writing=False)
            self.held[handle] = inode.ino

    @precondition(lambda self: self.held)
    @rule(index=INDEX)
    def let_go(self, index: int) -> None:
        handle = list(self.held)[index % len(self.held)]
        self.read_held()
        self.fs.files.release(handle)
        del self.held[handle]

    def read_held(self) -> None:
        for handle, ino in self.held.items():
            assert self.fs.pread(handle, 0, 99) == self.content[ino]

    # -- taking back

    def restored(self, act: Any, to: bytes = b"") -> int:
        """Do it: what left the trash is live, what was live still is; returns how many left."""
        self.fs.sync()
        before = invariants.rows_in_index(self.fs.store)
        names = {number: self.path_in_trash(number) for number in self.pending()}
        act()
        left = self.gone.keys() - self.entries().keys()
        found = self.inodes_below()
        assert {path: found.get(path, 0) for path in self.live} == self.live
        new = {path: ino for path, ino in found.items() if path not in self.live}
        files = {number: self.gone[number] for number in left if not self.gone[number].is_dir}
        came = Counter(ino for ino in new.values() if ino is not None)
        assert came == Counter(one.ino for one in files.values())
        for number, one in files.items():
            past = self.fs.trash.ledger.find_past(number)
            assert past is not None
            assert past.state is State.READY
            may_be_called = {split(path)[1] for path in (one.origin, names[number], to)}
            assert any(ino == one.ino and split(path)[1] in may_be_called
                       for path, ino in new.items())  # fmt: skip
        if not left:
            assert not new
            self.check_unchanged(before)
        for number in left:
            del self.gone[number]
        self.live |= new
        return len(left)

    def inodes_below(self) -> dict[bytes, int | None]:
        return {
            path: None if content is None else self.fs.at(path).ino
            for path, content in self.fs.tree_below().items()
        }

    @precondition(lambda self: self.pending())
    @rule(index=INDEX)
    def restore_by_id(self, index: int) -> None:
        number = self.number_at(index)
        one = self.gone[number]
        if one.is_dir:
            self.restored(lambda: list(self.fs.restorer().steps(number)))
        elif one.origin in self.live or self.is_blocked(one.origin):
            self.refused(TargetExists, lambda: self.fs.restorer().restore(number))
        else:
            assert self.restored(lambda: self.fs.restorer().restore(number)) == 1
            assert self.live[one.origin] == one.ino

    def is_blocked(self, path: bytes) -> bool:
        """Whether a file stands where a directory above `path` is wanted."""
        parts = path.split(b"/")
        above = [b"/".join(parts[:depth]) for depth in range(1, len(parts))]
        return any(self.live.get(one) is not None for one in above)

    @precondition(lambda self: self.pending())
    @rule(index=INDEX)
    def restore_by_path(self, index: int) -> None:
        path = self.gone[self.number_at(index)].origin
        self.restored(lambda: list(self.fs.restorer().steps(path)))

    @precondition(lambda self: self.pending())
    @rule(index=INDEX, to=PATH)
    def restore_elsewhere(self, index: int, to: bytes) -> None:
        number = self.number_at(index)
        one = self.gone[number]
        if one.is_dir:
            self.restored(lambda: list(self.fs.restorer().steps(number, to)), to)
        elif to in self.live or self.is_blocked(to):
            self.refused(TargetExists, lambda: self.fs.restorer().restore(number, to))
        else:
            assert self.restored(lambda: self.fs.restorer().restore(number, to), to) == 1
            assert self.live[to] == one.ino

    @precondition(lambda self: self.pending())
    @rule(index=INDEX, is_last=st.booleans())
    def restore_batch(self, index: int, is_last: bool) -> None:
        number = self.number_at(index)
        arguments = RestoreArguments([number], is_batch=True)
        batch = self.gone[number].batch
        if is_last:
            arguments = RestoreArguments(is_last=True)
            batch = max(one.batch for one in self.gone.values())
        mine = {n for n, one in self.gone.items() if one.batch == batch}
        others = {n for n in self.pending() if n not in mine}
        is_free = all(
            self.gone[n].origin not in self.live and not self.is_blocked(self.gone[n].origin)
            for n in mine
        )
        is_simple = len({self.gone[n].origin for n in mine}) == len(mine) and not (
            mine & self.ongoing
        )
        self.restored(lambda: trio.run(TrashDesk(self.fs.filesystem).restore, arguments, 0))
        assert others <= self.gone.keys()
        if is_free and is_simple:
            assert not mine & self.gone.keys()

    @precondition(lambda self: self.pending())
    @rule(index=INDEX, new=PATH)
    def mv_out(self, index: int, new: bytes) -> None:
        number = self.number_at(index)
        one = self.gone[number]
        above = split(new)[0]
        if above not in self.live or self.live[above] is not None:
            return
        is_replaced = self.live.get(new) is not None and not one.is_dir
        if (new in self.live and not is_replaced) or self.live.get(new) == one.ino:
            return
        is_bypassed = is_replaced and self.is_bypassed(new, is_replaced=True)
        inside = self.with_contents([number])
        path = self.path_in_trash(number)
        paths = {n: self.path_in_trash(n) for n in inside}
        moved = {
            new + one[len(path) :]: None if content is None else self.fs.at(one).ino
            for one, content in {path: None if one.is_dir else b""}.items()
        }
        if one.is_dir:
            moved |= {
                new + below[len(path) :]: None if content is None else self.fs.at(below).ino
                for below, content in self.fs.tree_below(path).items()
            }
        assert all(new + at[len(path) :] in moved for at in paths.values())
        self.fs.rename(path, new)
        for n in inside:
            del self.gone[n]
        if is_replaced:
            self.lost_name(new, is_bypassed=is_bypassed)
        self.live |= moved

    # -- purging

    @precondition(lambda self: self.pending())
    @rule(index=INDEX)
    def rm_in_trash(self, index: int) -> None:
        number = self.number_at(index)
        path = self.path_in_trash(number)
        if not self.gone[number].is_dir:
            self.ask([number])
            self.fs.unlink(path)
        elif self.fs.names(path):
            self.refused(Refused, lambda: self.fs.rmdir(path))
        else:
            self.ask([number])
            self.fs.rmdir(path)
        self.see_what_went()

    def purge(self, **arguments: Any) -> dict[str, Any]:
        desk = TrashDesk(self.fs.filesystem)
        return trio.run(desk.purge, PurgeArguments(**arguments), 0)

    @precondition(lambda self: self.pending())
    @rule(index=INDEX)
    def purge_by_id(self, index: int) -> None:
        number = self.number_at(index)
        self.fs.sync()
        if self.gone[number].ino in self.held.values():
            before = invariants.rows_in_index(self.fs.store)
            (item,) = self.purge(numbers=[number])["items"]
            assert item["errno"] == InUse.errno
            self.check_unchanged(before)
        else:
            self.ask(self.with_contents([number]))
            first, second = (self.purge(numbers=[number])["items"][0]["job"] for _ in range(2))
            assert first == second

    @precondition(lambda self: self.pending())
    @rule(index=INDEX)
    def purge_batch(self, index: int) -> None:
        batch = self.gone[self.number_at(index)].batch
        self.ask(n for n, one in self.gone.items() if one.batch == batch)
        self.purge(numbers=[batch])

    @rule()
    def purge_all(self) -> None:
        self.ask(self.gone)
        self.purge()

    @rule(seconds=st.sampled_from([1, HOUR_S, DAY_S]))
    def purge_older(self, seconds: int) -> None:
        self.ask([n for n in self.pending() if self.age_ns(n) >= seconds * 10**9], seconds * 10**9)
        self.purge(older_than_s=seconds)

    @rule(count=st.sampled_from([1, 1, 2, 5, MANY]))
    def step(self, count: int) -> None:
        """The background works, as it does every now and then."""
        self.time_passes(1)
        for _ in range(count):
            is_busy = self.fs.filesystem.purging.step()
            self.see_what_went()
            self.read_held()
            if not is_busy:
                break

    def see_what_went(self) -> None:
        """What is not pending any more was asked for, or is due."""
        entries = self.entries()
        for number in self.pending():
            one = entries.get(number)
            if one is not None and one.state is State.PENDING:
                continue
            gone = self.gone[number]
            age_ns = self.age_ns(number)
            due_ns = self.asked.get(number, FOREVER)
            assert age_ns >= min(self.keep_s(gone.origin) * 1e9, due_ns), (gone, age_ns)
            self.ongoing.add(number)
        for number in list(self.ongoing):
            if number not in entries:
                past = self.fs.trash.ledger.find_past(number)
                assert past is None or past.state is State.COMPLETE
                self.ongoing.discard(number)
                del self.gone[number]
            else:
                assert entries[number].state is State.ONGOING

    # -- policy

    def change_policy(self, path: bytes, name: str, text: str) -> None:
        arguments = PolicyArguments(path, [(name, text)])
        trio.run(TrashDesk(self.fs.filesystem).policy, arguments, 0)

    @rule(text=st.sampled_from(["0", "1h", "7d", "7d", "30d", "forever"]))
    def keep(self, text: str) -> None:
        self.change_policy(b"", "keep", text)
        held = parse_rule(text.encode())
        assert not isinstance(held, str)
        self.store_keep_s = held

    @rule(is_on=st.booleans())
    def keep_replaced(self, is_on: bool) -> None:
        self.change_policy(b"", "replaced", "on" if is_on else "off")
        self.keeps_replaced = is_on

    @rule(top=st.sampled_from(TOPS), text=RULE)
    def set_rule(self, top: bytes, text: str) -> None:
        self.change_policy(top, "keep", text)
        self.rules[top] = text

    # -- time

    @rule(seconds=st.sampled_from([1, 4, 10, 61, 301, HOUR_S, DAY_S, 6 * DAY_S, 31 * DAY_S]))
    def time_passes(self, seconds: int) -> None:
        left_ns = SETTLE_S * 10**9 - self.clock.uptime_ns()
        if 0 < left_ns <= seconds * 10**9:
            self.settle()
            self.fs.trash.steady.mark_if_due()  # as the background does within a second
            seconds -= left_ns // 10**9
        self.clock.advance(seconds)

    def settle(self) -> None:
        """The clock may be wrong no longer, unless it is behind what it was: see `steady`."""
        row = self.fs.store.get(keys.setting("steady"))
        if row is None or self.clock.now_ns >= msgspec.msgpack.decode(row, type=Mark).wall_ns:
            self.wall_clock_is_set_right()
        self.clock.advance(SETTLE_S - self.clock.uptime_ns() / 1e9)

    @rule(seconds=JUMP_S)
    def wall_clock_jumps(self, seconds: int) -> None:
        if abs(self.clock.now_ns - self.clock.passed_ns - self.right_ns) < 3000 * DAY_S * 10**9:
            self.clock.jump(seconds)

    @rule()
    def wall_clock_is_set_right(self) -> None:
        ahead_ns = self.clock.now_ns - self.clock.passed_ns - self.right_ns
        self.clock.jump(-ahead_ns // 10**9)

    @rule(off_s=st.sampled_from([0, 60, DAY_S]), wrong_s=st.just(0) | JUMP_S, is_cut=st.booleans())
    def reboot(self, off_s: int, wrong_s: int, is_cut: bool) -> None:
        self.let_all_go(is_cut=is_cut)
        if is_cut:
            self.fs.store.abandon()
        else:
            self.fs.close()
        self.clock.advance(off_s)
        self.clock.reboot()
        self.clock.jump(wrong_s)
        self.fs.open()
        self.look()

    # -- the store

    def let_all_go(self, *, is_cut: bool) -> None:
        self.has_restarted = True
        if not is_cut:
            for handle in self.held:
                self.fs.files.release(handle)
        self.held.clear()

    @rule(
        top=st.sampled_from(TOPS), seconds=JUMP_S, is_marked=st.booleans(), is_reboot=st.booleans()
    )
    def clocks_lie_over_a_restart(
        self, top: bytes, seconds: int, is_marked: bool, is_reboot: bool
    ) -> None:
        """What was just removed is there when the clock is wrong, or right again, afterwards."""
        self.reboot(0, 0, True)
        self.settle()
        if is_marked:
            self.step(1)
        self.remove_something(top)
        self.wall_clock_jumps(seconds)
        if is_marked:
            self.step(1)
        if is_reboot:
            self.reboot(60, 0, True)
            self.time_passes(SETTLE_S)
        else:
            self.crash()
        self.step(MANY)

    @rule(top=st.sampled_from(TOPS))
    def clock_without_a_battery(self, top: bytes) -> None:
        """It starts long ago, and the network corrects it: at once, or when it has settled."""
        self.step(1)
        self.remove_something(top)
        self.reboot(60, -1000 * DAY_S, True)
        self.time_passes(SETTLE_S)
        self.step(1)
        self.time_passes(HOUR_S)
        self.step(1)
        self.wall_clock_is_set_right()
        self.step(1)
        self.reboot(60, 0, True)
        self.time_passes(SETTLE_S)
        self.step(MANY)

    def remove_something(self, top: bytes) -> None:
        self.make_tree(top, b"content")
        self.remove(0 if top == TOPS[0] else -1, 2**22 + 1)

    @rule(top=st.sampled_from(TOPS), count=st.sampled_from([0, 1, 2]))
    def prolong_what_is_due(self, top: bytes, count: int) -> None:
        self.keep("1h")
        self.set_rule(top, "inherit")
        self.step(MANY)
        self.remove_something(top)
        self.time_passes(2 * HOUR_S)
        if count:
            self.step(count)
        self.set_rule(top, "30d")
        self.step(1)
        self.step(MANY)

    @precondition(lambda self: self.pending())
    @rule(index=INDEX)
    def purge_what_is_then_opened(self, index: int) -> None:
        number = self.number_at(index)
        if not self.gone[number].is_dir and len(self.held) < 3:
            inode = self.fs.tree.inode(self.gone[number].ino)
            self.purge_all()
            handle = self.fs.files.open(inode, for_writing=False)
            self.held[handle] = inode.ino
            self.step(MANY)
            assert number in self.pending()

    @rule()
    def checkpoint(self) -> None:
        self.fs.store.checkpoint()

    @rule()
    def crash(self) -> None:
        self.let_all_go(is_cut=True)
        self.fs.crash()
        self.look()
        invariants.check(self.fs.store)

    @rule()
    def remount(self) -> None:
        self.let_all_go(is_cut=False)
        self.fs.remount()
        self.look()
        invariants.check(self.fs.store)

    @rule()
    def look(self) -> None:
        """All that can be seen is what the model says."""
        self.see_what_went()
        found = self.inodes_below()
        assert found == self.live
        for path, ino in found.items():
            if ino is not None:
                assert self.fs.read(path) == self.content[ino]
        for number, one in self.gone.items():
            entry = self.entries()[number]
            assert (entry.ino, entry.origin) == (one.ino, one.origin)
            if number in self.ongoing:
                assert not self.is_there(entry)
            elif not one.is_dir:
                assert self.fs.read(self.path_in_trash(number)) == self.content[one.ino]

    def is_there(self, entry: Entry) -> bool:
        row = self.fs.store.get(keys.name(entry.parent, entry.name))
        names = {cookie for *_, cookie in self.fs.tree.listing(entry.parent, 0)} if row else set()
        return entry.number in names

    @invariant()
    def entries_are_those_of_the_model(self) -> None:
        if hasattr(self, "fs"):
            assert self.entries().keys() == self.gone.keys()

    def everything_can_go(self) -> None:
        self.look()
        for _ in range(len(self.held)):
            self.let_go(0)
        self.clock.advance(DAY_S)
        self.purge_all()
        for _ in range(MANY):
            self.clock.advance(61)
            if not self.fs.filesystem.purging.step():
                break
        self.see_what_went()
        assert not self.gone
        self.look()
        tables = {key[:1] for key in invariants.rows_in_index(self.fs.store)}
        assert not tables & {
            keys.ENTRY, keys.QUEUE, keys.BATCH, keys.JOB, keys.ORPHAN, keys.REVIVAL
        }  # fmt: skip
        for _ in range(2):
            self.clock.advance(61)
            self.fs.filesystem.purging.step()
        left = self.fs.tree_below(b".trash")
        assert not any(content is not None for content in left.values())
        assert not left or self.has_restarted  # only memory knows which directories became empty
        totals = self.fs.store.totals
        assert totals.trash_bytes == totals.trash_entries == 0
        inos = {ino for ino in self.live.values() if ino is not None}
        assert totals.files == len(inos)
        assert totals.live_bytes == sum(len(self.content[ino]) for ino in inos)
        directories = [path for path, ino in self.live.items() if ino is None]
        assert totals.inodes == 2 + len(inos) + len(directories) + len(left)
        invariants.check(self.fs.store)


TestTrash = TrashMachine.TestCase
TestTrash.settings = settings(
    max_examples=30,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
