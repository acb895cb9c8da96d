"""Whatever is done, and whatever fails: all content stays readable, and every checkpoint is whole.

A store with two remotes. The model knows the files, and those that each checkpoint was made of.
Remotes fail at any call, before or after it has had its effect; segments are dropped here as soon
as the store lets them go; the daemon is killed at any time.
"""

import shutil
import sys
import tempfile
from contextlib import suppress
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fusefs.config.options import MountOptions
from fusefs.errors import NotEnoughCopies, NotLocal, RemoteUnreachable, StoreDamaged
from fusefs.model.keyslot import Secret
from fusefs.model.remote import Remote as Row
from fusefs.remotes.memory import MemoryRemote
from fusefs.store import format
from fusefs.store.format import BLOCK
from fusefs.store.index import Index
from fusefs.sync import expire, layout, reading
from fusefs.sync.margins import Margins
from fusefs.sync.restore import restore
from tests.unit import invariants
from tests.unit.clocks import ManualClock
from tests.unit.daemon.agents import Agent
from tests.unit.inprocess import InProcess
from tests.unit.sync.places import Desk, Faulty, restored

REMOTES = ("one", "two")
PATH = st.sampled_from([b"a", b"b", b"c", b"d"])
NAME = st.sampled_from(REMOTES)
#: Few enough to be written again, when they may be known, or garbage, or elsewhere.
CONTENT = st.integers(0, 9).map(lambda seed: Random(seed).randbytes(200 * seed + 50))
NEVER = 10_000
#: Which one of a publication fails.
CALL = st.just(NEVER) | st.integers(1, 14)
Files = dict[bytes, bytes]


class Down(MemoryRemote):
    """A remote that may be out of reach."""

    is_down = False

    def get(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        if self.is_down:
            raise RemoteUnreachable(f"{self.place} does not answer")
        return super().get(name, start, size)


class SyncMachine(RuleBasedStateMachine):
    secret: Secret | None = None

    @initialize()
    def start(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.directory = Path(tempfile.mkdtemp(prefix="fusefs-sync-"))
        self.numbers = count(1)
        self.patch.setattr(reading, "Index", self.index_elsewhere)
        self.clock = ManualClock()
        self.fs = self.opened(self.directory / "store")
        self.remotes = {name: Down(f"memory:{self.directory}/{name}") for name in REMOTES}
        self.files: Files = {}
        self.is_rotten = False
        #: By remote and sequence.
        self.pasts: dict[str, dict[int, Files]] = {name: {} for name in REMOTES}
        for name in REMOTES:
            row = Row(number=0, url=f"memory:{name}", writer=f"me in {name}")
            self.fs.filesystem.syncing.registry.add(name, row)
            self.clock.advance(1)

    def opened(self, place: Path) -> InProcess:
        return InProcess(place, self.clock, MountOptions(trash=False), secret=self.secret)

    def index_elsewhere(self, path: Path, *, read_only: bool) -> Index:
        """LMDB wants readers to be in another process, as the agent is; here they read a copy."""
        copy = self.directory / f"index{next(self.numbers)}"
        shutil.copytree(path, copy)
        return Index(copy, read_only=read_only)

    def teardown(self) -> None:
        if not hasattr(self, "fs"):
            return
        try:
            if sys.exc_info()[0] is None:  # else that is what is to be seen
                self.all_is_there()
        finally:
            self.fs.store.abandon()
            self.patch.undo()
            shutil.rmtree(self.directory)

    # -- files

    @rule(path=PATH, content=CONTENT)
    def write(self, path: bytes, content: bytes) -> None:
        self.remove(path)
        self.fs.write(path, content)
        self.files[path] = content

    @precondition(lambda self: self.files)
    @rule(path=PATH, content=CONTENT, offset=st.integers(0, 1500))
    def overwrite(self, path: bytes, content: bytes, offset: int) -> None:
        """A part, which has to be laid into what was there, wherever that is."""
        if path in self.files:
            old = self.files[path]

            async def act() -> None:
                handle = self.fs.opened(path)
                self.fs.pwrite(handle, offset, content)
                await self.fs.filesystem.flush()
                self.fs.files.release(handle)

            self.agent().run(act)
            padded = old.ljust(offset, b"\0")
            self.files[path] = padded[:offset] + content + padded[offset + len(content) :]

    @rule(path=PATH)
    def remove(self, path: bytes) -> None:
        if self.files.pop(path, None) is not None:
            self.fs.unlink(path)
            while self.fs.reap():
                pass

    @precondition(lambda self: self.files)
    @rule(path=PATH, down=st.sets(NAME))
    def read(self, path: bytes, down: set[str]) -> None:
        """What is read is right, or cannot be had just now."""
        if path not in self.files:
            return
        for name in down:
            self.remotes[name].is_down = True
        try:
            assert self.agent().read(path) == self.files[path]
        except (NotLocal, StoreDamaged):  # that is away, or rotten and not healed
            assert down
        finally:
            for name in down:
                self.remotes[name].is_down = False

    def agent(self, fs: InProcess | None = None) -> Agent:
        return Agent(fs or self.fs, **self.remotes)  # type: ignore[arg-type]

    # -- remotes

    def desk(self, name: str) -> Desk:
        desk = Desk(self.fs.store, name, syncing=self.fs.filesystem.syncing)
        desk.others = dict(self.remotes)
        return desk

    @rule(name=NAME, at=CALL, is_done=st.booleans())
    def publish(self, name: str, at: int, is_done: bool) -> None:
        remote, cuts = self.remotes[name], list[Files]()
        desk = self.desk(name)
        desk.after_cut = lambda: cuts.append(dict(self.files))
        with suppress(RemoteUnreachable):
            desk.publisher(Faulty(remote, at, is_done=is_done)).publish()
        for sequence in layout.sequences(remote)[-1:]:
            if sequence not in self.pasts[name]:
                self.pasts[name][sequence] = cuts[-1]

    @rule(name=NAME, at=CALL, is_done=st.booleans())
    def send(self, name: str, at: int, is_done: bool) -> None:
        """Sealed segments, ahead of the next cut."""
        desk = self.desk(name)
        with suppress(RemoteUnreachable):
            publisher = desk.publisher(Faulty(self.remotes[name], at, is_done=is_done))
            publisher.send(desk.wanted())

    @rule(name=NAME, keep=st.integers(1, 3), is_sent=st.booleans())
    def expire(self, name: str, keep: int, is_sent: bool) -> None:
        """`is_sent`: when segments have just arrived that no checkpoint names yet."""
        if is_sent:
            self.publish(name, NEVER, False)
            self.write(b"new", Random(next(self.numbers)).randbytes(500))
            self.seal()
            self.send(name, NEVER, False)
        remote, syncing = self.remotes[name], self.fs.filesystem.syncing
        number = syncing.registry.get(name).number
        copies = [syncing.copies.get(n, number) for n in syncing.copies.held(number)]
        known = {copy.name for copy in copies if copy is not None}
        margins = Margins(keep_newest=keep, keep_days=0, min_age_s=-1e6)
        expire.apply(expire.plan(remote, known, self.clock.time_ns(), margins), remote)
        assert remote.sizes(known).keys() == known
        left = set(layout.sequences(remote))
        assert set(sorted(self.pasts[name])[-keep:]) <= left
        self.pasts[name] = {n: files for n, files in self.pasts[name].items() if n in left}

    @rule(down=st.sets(NAME), needed=st.integers(1, 2))
    def evict(self, down: set[str], needed: int) -> None:
        """All that may go."""
        for name in down:
            self.remotes[name].is_down = True
        try:
            self.evict_with(numcopies=needed)
        except NotEnoughCopies:
            assert down
        finally:
            for name in down:
                self.remotes[name].is_down = False

    def evict_with(self, **options: Any) -> None:
        evicting = self.fs.filesystem.evicting

        async def act() -> None:
            plan = await evicting.plan(None, None)
            await evicting.evict([one.number for one in plan.segments], **options)

        self.agent().run(act)

    @rule(name=NAME, is_other=st.booleans())
    def evict_what_was_lost(self, name: str, is_other: bool) -> None:
        """A remote has lost its segments for a while, or has others: what is only there stays."""
        remote, syncing = self.remotes[name], self.fs.filesystem.syncing
        there = {found.name: remote.get(found.name) for found in remote.list(layout.SEGMENTS)}
        for one, content in there.items():
            remote.delete(one)
            if is_other:
                remote.put(one, bytes(len(content)))
        (second,) = set(REMOTES) - {name}
        safe = syncing.copies.held(syncing.registry.get(second).number)
        before = self.fs.store.segments.keys() - safe
        self.evict_with(read_all=is_other)
        assert before <= self.fs.store.segments.keys()
        for one, content in there.items():
            remote.delete(one)
            remote.put(one, content)

    @rule(name=NAME, is_newest=st.booleans())
    def clone(self, name: str, is_newest: bool) -> None:
        if not self.pasts[name]:
            return
        sequence = (max if is_newest else min)(self.pasts[name])
        place = self.directory / f"clone{next(self.numbers)}"
        row = Row(number=0, url=f"memory:{name}", writer="the clone")
        restore(self.remotes[name], row, place, now_ns=self.clock.time_ns(), sequence=sequence)
        clone = self.opened(place)
        try:
            agent = self.agent(clone)
            expected = self.pasts[name][sequence]
            assert set(clone.names()) == set(expected)
            for path, content in expected.items():
                assert agent.read(path) == content
            invariants.check(clone.store)
        finally:
            clone.store.abandon()
            shutil.rmtree(place)

    # -- the store

    @rule()
    def seal(self) -> None:
        self.fs.sync()
        self.fs.store.roll()

    @rule()
    def checkpoint(self) -> None:
        self.fs.store.checkpoint()

    @rule()
    def collect(self) -> None:
        self.fs.collect()

    @rule()
    def drop_the_cache(self) -> None:
        while self.fs.filesystem.fetching.drop_oldest():
            pass

    @precondition(lambda self: self.here_and_there())
    @rule(index=st.integers(0, 30), at=st.integers(0, 30))
    def rot(self, index: int, at: int) -> None:
        """A bit of a segment here flips, of which there is a copy: who reads it has it healed."""
        segments = self.here_and_there()
        name = format.segment_name(segments[index % len(segments)])
        path = self.fs.store.path / "segments" / name
        content = bytearray(path.read_bytes())
        found = format.scan(memoryview(bytes(content)), format.HEADER_SIZE, verify_blocks=False)
        ends = [one.end for one in found if isinstance(one, format.Record) and one.kind == BLOCK]
        if ends:
            self.fs.store.checkpoint()
            content[ends[at % len(ends)] - 1] ^= 1
            path.write_bytes(content)
            self.is_rotten = True

    def here_and_there(self) -> list[int]:
        store = self.fs.store
        sealed = [number for number in store.segments if number < store.newest_segment]
        return [number for number in sealed if store.is_copied(number)]

    @rule()
    def crash(self) -> None:
        self.fs.crash()
        self.check()

    @rule()
    def remount(self) -> None:
        self.fs.remount()
        self.check()

    def check(self) -> None:
        if not self.is_rotten:  # else the log cannot be read whole
            invariants.check(self.fs.store)

    @invariant()
    def names_are_those_of_the_model(self) -> None:
        if hasattr(self, "fs"):
            assert set(self.fs.names()) == set(self.files)

    def all_is_there(self) -> None:
        for path in self.files:
            self.read(path, set())
        for name in REMOTES:
            for sequence in self.pasts[name]:
                restored(self.remotes[name], sequence, self.fs.cipher)
            self.publish(name, NEVER, False)
            self.clone(name, True)
            number = self.fs.filesystem.syncing.registry.get(name).number
            assert not self.fs.filesystem.syncing.copies.lacking(number)
        self.fs.crash()
        for path in self.files:
            self.read(path, set())
        self.check()


class EncryptedSyncMachine(SyncMachine):
    secret = Secret("passphrase", b"open sesame")


TestSync = SyncMachine.TestCase
TestEncryptedSync = EncryptedSyncMachine.TestCase
TestSync.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestEncryptedSync.settings = settings(TestSync.settings, max_examples=10)
