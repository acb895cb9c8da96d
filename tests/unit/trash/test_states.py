"""What is possible in which state: the table, tried out on real entries through the desk."""

import itertools
import subprocess
import sys
from collections.abc import Callable

import pytest
import trio

from fusefs.daemon.trash_desk import ListArguments, PurgeArguments, RestoreArguments, TrashDesk
from fusefs.daemon.wire import decode_error
from fusefs.errors import FusefsError, StoreDamaged, WrongState
from fusefs.model import keys
from fusefs.model.entry import CHANGES, FINAL, Entry, Operation, State, after
from tests.conftest import ROOT
from tests.unit import invariants
from tests.unit.inprocess import InProcess

DAY_S = 86400


class Subject:
    """The entry that a test is about; `fs` is brought into a state by `bring`."""

    def __init__(self, fs: InProcess) -> None:
        self.fs = fs
        self.desk = TrashDesk(fs.filesystem)
        self.number = 0
        self._cut: tuple[bytes, bytes] | None = None

    def bring(self, state: State) -> None:
        fs = self.fs
        fs.write(b"file", b"content")
        fs.unlink(b"file")
        self.number = fs.pending()[0].number
        if state is State.READY:
            fs.restorer().restore(self.number)
        elif state is State.ERROR:
            self.damage()
            self.purge()
            self.work()
        elif state is not State.PENDING:
            self.purge()
            if state is State.COMPLETE:
                self.work()
            else:
                fs.filesystem.purger.step(fs.filesystem.purger.jobs()[0].number)
        fs.sync()
        assert self.state() is state

    def damage(self) -> None:
        """Take a row away that freeing the file needs."""
        ino = self.fs.pending()[0].ino
        key = keys.extent(ino, 0)
        row = self.fs.store.get(key)
        assert row is not None
        with self.fs.tree.act() as act:
            act.delete(key)
        self._cut = key, row

    def repair(self) -> None:
        if self._cut is not None:
            with self.fs.tree.act() as act:
                act.put(*self._cut)
            self._cut = None

    def work(self) -> None:
        for _ in range(20):
            if not self.fs.filesystem.purging.step():
                return

    def state(self) -> State:
        found = self.entry()
        assert found is not None
        return found.state

    def entry(self) -> Entry | None:
        ledger = self.fs.trash.ledger
        return ledger.find(self.number) or ledger.find_past(self.number)

    # -- operations, as they come from outside; each raises what it is answered

    def restore(self) -> None:
        answer = trio.run(self.desk.restore, RestoreArguments([self.number]), 0)
        for failed in answer["failed"]:
            raise decode_error(failed)

    def purge(self) -> None:
        answer = trio.run(self.desk.purge, PurgeArguments([self.number]), 0)
        for item in answer["items"]:
            if "class" in item:
                raise decode_error(item)

    def begin(self) -> None:
        """The purge was asked for and is under way."""
        self.purge()
        for active in self.fs.filesystem.purger.jobs():
            self.fs.filesystem.purger.step(active.number)

    def finish(self) -> None:
        with self.fs.tree.act() as act:
            one = self.entry()
            assert one is not None
            self.fs.trash.change(act, one, Operation.FINISH, "test")

    def fail(self) -> None:
        with self.fs.tree.act() as act:
            one = self.entry()
            assert one is not None
            self.fs.trash.change(act, one, Operation.FAIL, "test")

    def remove(self) -> None:
        """Its name again: only what is outside of the trash has one."""
        one = self.entry()
        assert one is not None
        after(one.state, Operation.REMOVE, one.number, one.origin)
        self.fs.unlink(one.origin)

    def clean(self) -> None:
        one = self.entry()
        assert one is not None
        after(one.state, Operation.CLEAN, one.number, one.origin)
        assert one == self.entry()  # what is old enough goes: see test_history


OPERATIONS: dict[Operation, Callable[[Subject], None]] = {
    Operation.REMOVE: Subject.remove,
    Operation.RESTORE: Subject.restore,
    Operation.PURGE: Subject.begin,
    Operation.FINISH: Subject.finish,
    Operation.FAIL: Subject.fail,
    Operation.CLEAN: Subject.clean,
}


@pytest.fixture
def subject(fs: InProcess) -> Subject:
    return Subject(fs)


def test_every_operation_is_tried() -> None:
    assert set(OPERATIONS) == set(Operation)


@pytest.mark.parametrize(("state", "operation"), list(itertools.product(State, Operation)))
def test_the_table_is_what_happens(subject: Subject, state: State, operation: Operation) -> None:
    subject.bring(state)
    rows = invariants.rows_in_index(subject.fs.store)
    wanted = CHANGES.get((state, operation))
    stamps = subject.entry().history  # type: ignore[union-attr]
    if wanted is None:
        with pytest.raises(WrongState, match=rf"entry {subject.number} \(/file\) is {state}: "):
            OPERATIONS[operation](subject)
        assert invariants.rows_in_index(subject.fs.store) == rows
    else:
        if (state, operation) in ((State.ONGOING, Operation.FINISH), (State.ERROR, operation)):
            subject.repair()
        if operation is Operation.FINISH:
            subject.work()
        elif (state, operation) == (State.ONGOING, Operation.FAIL):
            ino = subject.entry().ino  # type: ignore[union-attr]
            subject.fs.trash.cannot_free(subject.number, StoreDamaged("it is broken"))
            assert ino in subject.fs.tree.orphans()
        else:
            OPERATIONS[operation](subject)
        found = subject.entry()
        assert found is not None
        if operation is not Operation.REMOVE:  # what is removed again is another entry
            assert found.state is wanted
            assert found.history[: len(stamps)] == stamps
            assert len(found.history) - len(stamps) == (wanted is not state)
        else:
            assert [one.state for one in subject.fs.pending()] == [wanted]
        invariants.check(subject.fs.store)
    subject.repair()


@pytest.mark.parametrize("state", State)
def test_a_list_and_the_history_tell_the_state(subject: Subject, state: State) -> None:
    subject.bring(state)
    listed = trio.run(subject.desk.listing, ListArguments(is_each=True), 0)["records"]
    history = trio.run(subject.desk.history, ListArguments(), 0)["records"]
    assert [one["state"] for one in listed] == ([] if state in FINAL else [state.value])
    assert [one["state"] for one in history] == [state.value]
    assert history[0]["history"][-1]["state"] == state.value
    subject.repair()


def test_only_what_is_ready_stands_in_the_tree_and_only_what_is_pending_in_the_trash(
    subject: Subject,
) -> None:
    seen = {}
    for state in State:
        subject.bring(state)
        fs = subject.fs
        trash = [path for path, data in fs.tree_below(b".trash").items() if data is not None]
        seen[state] = fs.names(), len(trash)
        subject.repair()
        if fs.names():
            fs.unlink(b"file")
        trio.run(subject.desk.purge, PurgeArguments(), 0)
        subject.work()
    assert seen.pop(State.READY) == ([b"file"], 0)
    assert seen.pop(State.PENDING) == ([], 1)
    assert list(seen.values()) == [([], 0)] * 3


def test_every_transition_is_in_the_history_in_order(subject: Subject) -> None:
    fs = subject.fs
    subject.bring(State.PENDING)
    subject.damage()
    for act in (subject.purge, subject.work, subject.purge):
        fs.clock.advance(2)
        act()
    subject.repair()
    fs.clock.advance(2)
    subject.work()
    found = subject.entry()
    assert found is not None
    assert [stamp.state for stamp in found.history] == [
        State.PENDING, State.ONGOING, State.ERROR, State.ONGOING, State.COMPLETE
    ]  # fmt: skip
    times = [stamp.time_ns for stamp in found.history]
    assert times == sorted(times)
    causes = [stamp.cause for stamp in found.history]
    assert causes[0] == "unlink"
    assert causes[1] == causes[3] == "purged by user 0"
    assert "extent" in causes[2]
    assert "space" in causes[4]


def test_an_error_names_what_happened_and_a_retry_forgets_it(subject: Subject) -> None:
    subject.bring(State.ERROR)
    found = subject.entry()
    assert found is not None
    assert found.errno == StoreDamaged.errno
    assert "extent" in found.message
    subject.repair()
    subject.begin()
    again = subject.entry()
    assert again is not None
    assert (again.state, again.errno, again.message) == (State.ONGOING, 0, "")
    subject.work()
    assert subject.state() is State.COMPLETE


def test_an_error_is_tried_again_by_the_next_start(subject: Subject) -> None:
    subject.bring(State.ERROR)
    subject.repair()
    subject.fs.crash()
    for _ in range(3):
        subject.fs.filesystem.purging.step()
    assert subject.state() is State.COMPLETE
    found = subject.entry()
    assert found is not None
    assert [stamp.state for stamp in found.history][-3:] == [
        State.ERROR, State.ONGOING, State.COMPLETE
    ]  # fmt: skip


def test_clean_history_takes_nothing_that_is_not_over(subject: Subject) -> None:
    fs = subject.fs
    subject.bring(State.ERROR)
    fs.clock.advance(1000 * DAY_S)
    for _ in range(5):
        assert fs.filesystem.expiry.clean_history() == 0
    assert subject.state() is State.ERROR
    subject.repair()


def test_what_cannot_be_is_an_error_of_its_own_class() -> None:
    with pytest.raises(WrongState) as caught:
        after(State.COMPLETE, Operation.RESTORE, 5, b"a\xffb")
    assert isinstance(caught.value, FusefsError)
    assert "entry 5 (/a\\xffb) is delete-complete" in str(caught.value)
    assert str(caught.value).endswith("restore is possible only when it is delete-pending")


def test_the_readme_has_the_table_of_the_code() -> None:
    done = subprocess.run([sys.executable, ROOT / "tools/state-table", "--check"])
    assert done.returncode == 0, "run tools/state-table"
