"""Uploads: what is missing, who sends it, and that nothing wrong ever gets the name."""

import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from errno import EISDIR, ESTALE
from pathlib import Path

import pytest
import trio
from blake3 import blake3

from fusefs.errors import (
    ContentDiffers,
    DiskFull,
    FusefsError,
    NoSuchUpload,
    NotPermitted,
    Refused,
    WrongUpload,
)
from fusefs.model.extent import BLOCK_SIZE
from fusefs.model.keyslot import Secret
from fusefs.model.partial import Upload
from fusefs.tree.removal import Caller
from fusefs.uploads.sending import EXPIRY_S, LEASE_S
from fusefs.uploads.uploads import WINDOW_BLOCKS, Answer, Finished
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess
from tests.unit.remotes.encryption import SECRET

BLOCKS = WINDOW_BLOCKS + 3
SIZE = (BLOCKS - 1) * BLOCK_SIZE + 4321
STAGED, NAME = b"dir/.file.part", b"file"
TOKEN = bytes(range(32))


@pytest.fixture(scope="module")
def content() -> bytes:
    return random.Random(5).randbytes(SIZE)


@pytest.fixture(params=[None, SECRET], ids=["plain", "encrypted"])
def secret(request: pytest.FixtureRequest) -> Secret | None:
    """Senders ask in the same way, whatever the store is."""
    secret: Secret | None = request.param
    return secret


@pytest.fixture
def fs(fs: InProcess) -> InProcess:
    fs.mkdir(b"dir")
    return fs


@pytest.fixture
def damaged_fs(tmp_path: Path, clock: ManualClock, secret: Secret | None) -> Iterator[InProcess]:
    """Without the check of invariants at its end."""
    fs = InProcess(tmp_path / "damaged", clock, secret=secret)
    fs.mkdir(b"dir")
    yield fs
    fs.close()


@pytest.fixture
def other_pid() -> Iterator["Other"]:
    """Another process, that lives until it is killed."""
    other = Other()
    yield other
    other.kill()


class Other:
    def __init__(self) -> None:
        self._process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        self.pid = self._process.pid

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


class Sender:
    """What a sender does, step by step."""

    def __init__(self, fs: InProcess, content: bytes, token: bytes = TOKEN, pid: int = 0) -> None:
        self.fs = fs
        self.content = content
        self.token = token
        self.pid = pid or os.getpid()
        self.ino = 0

    def begin(self, path: bytes = STAGED, name: bytes = NAME, mtime_ns: int = 0) -> int:
        """Returns how many bytes are there."""
        if path.rpartition(b"/")[2] not in self.fs.names(path.rpartition(b"/")[0]):
            self.fs.make(path)
        declared = Upload(self.token, len(self.content), name, mtime_ns=mtime_ns)
        inode, present = self.fs.filesystem.uploads.begin(path, declared, self.pid, 0)
        self.ino = inode.ino
        return present

    def digests(self, window: int) -> list[bytes]:
        start = window * WINDOW_BLOCKS * BLOCK_SIZE
        part = self.content[start : start + WINDOW_BLOCKS * BLOCK_SIZE]
        return [
            blake3(part[at : at + BLOCK_SIZE]).digest() for at in range(0, len(part), BLOCK_SIZE)
        ]

    @property
    def windows(self) -> int:
        return -(-len(self.content) // (WINDOW_BLOCKS * BLOCK_SIZE))

    @property
    def root(self) -> bytes:
        hasher = blake3()
        for window in range(self.windows):
            hasher.update(b"".join(self.digests(window)))
        return hasher.digest()

    def offer(self, window: int, root: bytes = b"") -> Answer:
        return trio.run(
            self.fs.filesystem.uploads.offer, self.ino, self.token, self.pid, window,
            self.digests(window), root,
        )  # fmt: skip

    def write(self, *ranges: tuple[int, int], path: bytes = STAGED) -> None:
        """Write blocks of ranges, as the kernel hands them over."""
        if not ranges:
            return
        handle = self.fs.opened(path)
        for start, end in ranges:
            for at in range(start, end, BLOCK_SIZE):
                self.fs.pwrite(handle, at, self.content[at : min(at + BLOCK_SIZE, end)])
        self.fs.files.close(self.fs.files.handle(handle))
        self.fs.files.release(handle)

    def send(self, *, root: bool = True) -> int:
        """Offer all and send what is missing; returns how many bytes."""
        sent = 0
        for window in range(self.windows):
            last = window == self.windows - 1
            answer = self.offer(window, self.root if root and last else b"")
            self.write(*answer.missing)
            sent += sum(end - start for start, end in answer.missing)
        return sent

    def finish(self, root: bytes | None = None) -> Finished:
        caller = Caller(0, 0, 0)
        return trio.run(
            self.fs.filesystem.uploads.finish, self.ino, self.token, root or self.root, caller
        )


def damage(fs: InProcess, path: bytes, at: int) -> None:
    """Change a byte of a file's content on the disk."""
    block = fs.store.blocks.locate(next(e for e in fs.extents(path) if e.offset == at).block).block
    segment = fs.path / "segments" / f"{block.segment:016x}"
    with segment.open("r+b") as file:
        file.seek(block.offset + 99)
        byte = file.read(1)[0]
        file.seek(block.offset + 99)
        file.write(bytes([byte ^ 1]))


def test_nothing_is_there_all_is_sent_and_it_has_its_name(fs: InProcess, content: bytes) -> None:
    sender = Sender(fs, content)
    assert sender.begin(mtime_ns=1234567) == 0
    assert sender.send() == SIZE
    assert fs.names(b"dir") == [b".file.part"]
    done = sender.finish()
    assert (done.staged, done.name, done.was_already) == (b".file.part", NAME, False)
    assert fs.names(b"dir") == [NAME]
    assert fs.read(b"dir/file") == content
    assert fs.at(b"dir/file").mtime == 1234567
    assert fs.at(b"dir/file").ino not in fs.files.partials
    assert fs.store.unsynced_bytes == 0
    fs.crash()
    assert fs.read(b"dir/file") == content


def test_an_encrypted_store_does_not_tell_what_is_on_its_way(
    tmp_path: Path, clock: ManualClock, content: bytes
) -> None:
    fs = InProcess(tmp_path / "encrypted", clock, secret=SECRET)
    fs.mkdir(b"dir")
    sender = Sender(fs, content)
    sender.begin()
    sender.send()
    fs.crash()
    assert fs.read(b"dir/file") == content  # all was there, it got its name at the start
    with pytest.raises(ContentDiffers):
        sender.finish(bytes(32))
    assert sender.finish().was_already
    fs.close()
    stored = b"".join(one.read_bytes() for one in fs.path.rglob("*") if one.is_file())
    assert sender.token in stored
    assert sender.root not in stored


def test_what_the_store_has_is_not_asked_for(fs: InProcess, content: bytes) -> None:
    fs.write(b"known", content[: 4 * BLOCK_SIZE])
    sender = Sender(fs, content)
    sender.begin()
    assert sender.offer(0) == Answer(
        WINDOW_BLOCKS * BLOCK_SIZE, [(4 * BLOCK_SIZE, WINDOW_BLOCKS * BLOCK_SIZE)]
    )
    sender.send()
    sender.finish()
    assert fs.read(b"dir/file") == content


def test_a_hole_is_as_good_as_zeros(fs: InProcess) -> None:
    sender = Sender(fs, bytes(3 * BLOCK_SIZE + 5))
    sender.begin()
    assert sender.send() == 0
    sender.finish()
    assert fs.at(b"dir/file").blocks_bytes == 0
    assert fs.read(b"dir/file") == sender.content


def test_a_file_of_ragged_blocks_is_recognized(fs: InProcess, content: bytes) -> None:
    sender = Sender(fs, content)
    sender.begin()
    handle = fs.opened(STAGED)
    for start in range(0, SIZE, 300_000):
        fs.pwrite(handle, start, content[start : start + 300_000])
        fs.files.flush_one(sender.ino)
    fs.files.release(handle)
    assert sender.send() == 0
    sender.finish()
    assert fs.read(b"dir/file") == content


def test_the_old_file_goes_to_the_trash(fs: InProcess, content: bytes) -> None:
    fs.write(b"dir/file", b"old")
    sender = Sender(fs, content)
    sender.begin()
    sender.send()
    sender.finish()
    [entry] = fs.pending()
    assert entry.origin == b"dir/file"
    assert fs.read(b"dir/file") == content


def test_a_later_sender_goes_on(fs: InProcess, content: bytes) -> None:
    sender = Sender(fs, content)
    sender.begin()
    sender.write((0, 5 * BLOCK_SIZE), (7 * BLOCK_SIZE, 9 * BLOCK_SIZE))
    fs.crash()
    sender = Sender(fs, content)
    assert sender.begin() == 7 * BLOCK_SIZE
    missing = trio.run(_missing, fs, sender)
    assert missing == [(5 * BLOCK_SIZE, 7 * BLOCK_SIZE), (9 * BLOCK_SIZE, SIZE)]
    assert sender.send() == SIZE - 7 * BLOCK_SIZE
    sender.finish()
    assert fs.read(b"dir/file") == content
    assert fs.filesystem.uploads.counts.resumes == 1


async def _missing(fs: InProcess, sender: Sender) -> list[tuple[int, int]]:
    return fs.filesystem.uploads.missing(sender.ino, sender.token)


def test_a_damaged_kept_block_is_asked_for_again(damaged_fs: InProcess, content: bytes) -> None:
    fs = damaged_fs
    sender = Sender(fs, content)
    sender.begin()
    sender.write((0, 5 * BLOCK_SIZE))
    damage(fs, STAGED, 2 * BLOCK_SIZE)
    fs.remount()
    sender = Sender(fs, content)
    sender.begin()
    answer = sender.offer(0)
    assert answer.missing[0] == (2 * BLOCK_SIZE, 3 * BLOCK_SIZE)
    sender.send()
    sender.finish()
    fs.remount()
    assert fs.read(b"dir/file") == content


def test_a_damaged_block_elsewhere_is_not_taken_and_is_healed(
    damaged_fs: InProcess, content: bytes
) -> None:
    fs = damaged_fs
    fs.write(b"known", content[: 3 * BLOCK_SIZE])
    damage(fs, b"known", BLOCK_SIZE)
    fs.remount()
    sender = Sender(fs, content)
    sender.begin()
    assert sender.offer(0).missing[0] == (BLOCK_SIZE, 2 * BLOCK_SIZE)
    sender.send()
    sender.finish()
    trio.run(fs.filesystem.scrubbing.settle)  # which hears of it when it has been healed
    assert fs.filesystem.scrubbing.count() == 0
    fs.remount()
    assert fs.read(b"dir/file") == content
    assert fs.read(b"known") == content[: 3 * BLOCK_SIZE]


def test_other_content_never_gets_the_name(fs: InProcess, content: bytes) -> None:
    sender = Sender(fs, content)
    sender.begin()
    sender.send()
    fs.write(STAGED, b"wrong", offset=BLOCK_SIZE)
    with pytest.raises(ContentDiffers):
        sender.finish()
    assert fs.names(b"dir") == [b".file.part"]
    assert sender.send() == 0  # the right block is in the store, still
    sender.finish()
    assert fs.read(b"dir/file") == content


def test_identical_bytes_again_change_nothing(fs: InProcess, content: bytes) -> None:
    sender = Sender(fs, content)
    sender.begin()
    sender.send()
    written = fs.store.statistics().blocks.written_bytes
    sender.write((0, SIZE))
    assert fs.store.statistics().blocks.written_bytes == written
    sender.finish()
    assert fs.read(b"dir/file") == content


def test_a_writer_from_before_cannot_change_what_is_finished(fs: InProcess, content: bytes) -> None:
    sender = Sender(fs, content)
    sender.begin()
    sender.send()
    late = fs.opened(STAGED)
    sender.finish()
    with pytest.raises(Refused) as refused:
        fs.pwrite(late, 0, b"late")
    assert refused.value.errno == ESTALE
    fs.files.release(late)
    assert fs.read(b"dir/file") == content


def test_the_slower_sender_is_told_that_it_is_done(
    fs: InProcess, content: bytes, other_pid: Other
) -> None:
    first, second = Sender(fs, content), Sender(fs, content, pid=other_pid.pid)
    first.begin()
    second.begin()
    first.send()
    first.finish()
    assert second.send() == 0
    assert second.finish().was_already
    third = Sender(fs, bytes(SIZE))
    third.ino = first.ino
    with pytest.raises(ContentDiffers):
        third.finish()


@pytest.mark.parametrize("what", ["token", "size", "name"])
def test_another_upload_is_not_joined(fs: InProcess, content: bytes, what: str) -> None:
    Sender(fs, content).begin()
    other = Sender(fs, content, token=bytes(32) if what == "token" else TOKEN)
    if what == "size":
        other.content = content[:-1]
    with pytest.raises(WrongUpload):
        other.begin(name=b"other" if what == "name" else NAME)


def test_what_is_asked_with_another_token_is_refused(fs: InProcess, content: bytes) -> None:
    sender = Sender(fs, content)
    sender.begin()
    other = Sender(fs, content, token=bytes(32))
    other.ino = sender.ino
    with pytest.raises(WrongUpload):
        other.offer(0)
    with pytest.raises(WrongUpload):
        other.finish()
    with pytest.raises(WrongUpload):
        fs.filesystem.uploads.abort(sender.ino, bytes(32))
    assert sender.send() == SIZE


def test_offers_of_another_length_are_refused(fs: InProcess, content: bytes) -> None:
    sender = Sender(fs, content)
    sender.begin()
    sender.content = content[:BLOCK_SIZE]
    with pytest.raises(WrongUpload):
        sender.offer(0)


def test_files_that_are_no_staging_files(fs: InProcess, content: bytes) -> None:
    fs.write(b"complete", b"content")
    with pytest.raises(WrongUpload):
        Sender(fs, content).begin(b"complete")
    with pytest.raises(WrongUpload):
        Sender(fs, content).begin(b"dir/.part", name=b"../file")
    uploads = fs.filesystem.uploads
    with pytest.raises(WrongUpload):
        uploads.begin(b"dir", Upload(TOKEN, SIZE, NAME), os.getpid(), 0)
    with pytest.raises(NoSuchUpload):
        uploads.begin(b"nowhere", Upload(TOKEN, SIZE, NAME), os.getpid(), 0)
    with pytest.raises(NotPermitted):
        uploads.begin(b"dir/.part", Upload(TOKEN, SIZE, NAME), os.getpid(), 1000)


def test_a_name_that_a_directory_has_is_refused(fs: InProcess, content: bytes) -> None:
    fs.mkdir(b"dir/file")
    sender = Sender(fs, content)
    sender.begin()
    sender.send()
    with pytest.raises(Refused) as refused:
        sender.finish()
    assert refused.value.errno == EISDIR
    assert sender.ino in fs.files.partials
    fs.crash()  # and a start does not fail for it
    assert fs.names(b"dir") == [b".file.part", NAME]


# -- a start


def test_a_start_finishes_what_has_all_its_blocks(fs: InProcess, content: bytes) -> None:
    fs.write(b"dir/file", b"old")
    sender = Sender(fs, content)
    sender.begin(mtime_ns=77)
    sender.send()
    fs.crash()
    assert fs.names(b"dir") == [NAME]
    assert fs.read(b"dir/file") == content
    assert fs.at(b"dir/file").mtime == 77
    assert len(fs.pending()) == 1
    assert len(list(fs.files.partials)) == 0


def test_a_start_does_not_finish_what_lacks_a_block(fs: InProcess, content: bytes) -> None:
    sender = Sender(fs, content)
    sender.begin()
    sender.offer(0)
    sender.write((0, SIZE - BLOCK_SIZE))
    sender.offer(1, sender.root)
    fs.crash()
    assert fs.names(b"dir") == [b".file.part"]


def test_a_start_does_not_finish_what_is_damaged(damaged_fs: InProcess, content: bytes) -> None:
    fs = damaged_fs
    sender = Sender(fs, content)
    sender.begin()
    sender.send()
    damage(fs, STAGED, BLOCK_SIZE)
    fs.store.checkpoint()
    fs.crash()
    assert fs.names(b"dir") == [b".file.part"]
    sender.begin()
    assert sender.send() == BLOCK_SIZE
    sender.finish()
    fs.remount()
    assert fs.read(b"dir/file") == content


def test_a_start_does_not_finish_without_the_root(fs: InProcess, content: bytes) -> None:
    sender = Sender(fs, content)
    sender.begin()
    sender.send(root=False)
    fs.crash()
    assert fs.names(b"dir") == [b".file.part"]


# -- senders that ended


def finish_left(fs: InProcess, names: list[bytes] | None = None) -> list[bytes]:
    """The names that were given, put into `names` one by one."""
    given = [] if names is None else names

    async def finish() -> None:
        async for done in fs.filesystem.uploads.finish_left():
            given.append(done.name)

    fs.filesystem.uploads.tend()
    trio.run(finish)
    return given


def test_what_has_all_its_blocks_is_finished_when_its_sender_has_ended(
    fs: InProcess, content: bytes, other_pid: Other
) -> None:
    sender = Sender(fs, content, pid=other_pid.pid)
    sender.begin(mtime_ns=77)
    sender.send()
    assert finish_left(fs) == []
    assert fs.names(b"dir") == [b".file.part"]
    other_pid.kill()
    assert finish_left(fs) == [NAME]
    assert fs.names(b"dir") == [NAME]
    assert fs.read(b"dir/file") == content
    assert fs.at(b"dir/file").mtime == 77
    assert fs.store.unsynced_bytes == 0
    late = Sender(fs, content)
    late.ino = sender.ino
    assert late.send() == 0
    assert late.finish().was_already


@pytest.mark.parametrize("what", ["a block", "the root", "one of several senders"])
def test_it_is_not_finished_without(
    fs: InProcess, content: bytes, other_pid: Other, what: str
) -> None:
    sender = Sender(fs, content, pid=other_pid.pid)
    sender.begin()
    if what == "one of several senders":
        Sender(fs, content).begin()
    if what == "a block":
        sender.offer(0)
        sender.write((0, SIZE - BLOCK_SIZE))
        sender.offer(1, sender.root)
    else:
        sender.send(root=what != "the root")
    other_pid.kill()
    assert finish_left(fs) == []
    assert fs.names(b"dir") == [b".file.part"]


def test_one_whose_source_has_changed_is_not_finished_without_a_sender(
    fs: InProcess, content: bytes, other_pid: Other
) -> None:
    sender = Sender(fs, content, pid=other_pid.pid)
    sender.begin()
    sender.send()
    with pytest.raises(WrongUpload):
        fs.filesystem.uploads.withdraw(sender.ino, b"another")
    fs.filesystem.uploads.withdraw(sender.ino, TOKEN)
    other_pid.kill()
    assert finish_left(fs) == []
    fs.crash()
    assert fs.names(b"dir") == [b".file.part"]


def test_a_name_that_a_directory_has_is_not_taken_without_a_sender(
    fs: InProcess, content: bytes, other_pid: Other
) -> None:
    fs.mkdir(b"dir/file")
    sender = Sender(fs, content, pid=other_pid.pid)
    sender.begin()
    sender.send()
    other_pid.kill()
    assert finish_left(fs) == []
    assert fs.names(b"dir") == [b".file.part", NAME]


def test_what_is_finished_is_told_though_the_next_cannot_be(
    fs: InProcess, content: bytes, other_pid: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, name in ((STAGED, NAME), (b"dir/.more.part", b"more")):
        sender = Sender(fs, content, pid=other_pid.pid)
        sender.begin(path, name)
        sender.send()
    other_pid.kill()
    flush_one = fs.files.flush_one

    def refuse(ino: int) -> None:
        if ino == sender.ino:
            raise DiskFull("no room")
        flush_one(ino)

    monkeypatch.setattr(fs.files, "flush_one", refuse)
    names: list[bytes] = []
    with pytest.raises(DiskFull):
        finish_left(fs, names)
    assert names == [NAME]


def test_a_copy_that_is_gone_again_can_be_told(fs: InProcess, content: bytes) -> None:
    sender = Sender(fs, content)
    sender.begin()
    sender.send()
    done = sender.finish()
    fs.unlink(b"dir/file")
    fs.rmdir(b"dir")
    forgotten: list[int] = []
    fs.filesystem.forget_file = lambda names, ino: forgotten.append(ino)
    trio.run(fs.filesystem.tell_uploaded, done)
    assert forgotten == [sender.ino]


# -- several senders


def test_a_window_is_leased_until_it_has_come(
    fs: InProcess, content: bytes, other_pid: Other
) -> None:
    first, second = Sender(fs, content, pid=other_pid.pid), Sender(fs, content)
    first.begin()
    second.begin()
    answer = first.offer(0)
    assert second.offer(0).is_taken
    assert not second.offer(1).is_taken
    first.write(*answer.missing)
    assert second.offer(0) == Answer(WINDOW_BLOCKS * BLOCK_SIZE, [])


def test_the_lease_of_a_killed_sender_is_free_at_once(
    fs: InProcess, content: bytes, other_pid: Other
) -> None:
    first, second = Sender(fs, content, pid=other_pid.pid), Sender(fs, content)
    first.begin()
    second.begin()
    first.offer(0)
    assert second.offer(0).is_taken
    other_pid.kill()
    assert not second.offer(0).is_taken


def test_the_lease_of_a_sender_that_sends_nothing_expires(
    fs: InProcess, content: bytes, other_pid: Other, clock: ManualClock
) -> None:
    first, second = Sender(fs, content, pid=other_pid.pid), Sender(fs, content)
    first.begin()
    second.begin()
    first.offer(0)
    for at in range(3):  # while blocks come it is kept
        clock.advance(LEASE_S - 1)
        first.write((at * BLOCK_SIZE, (at + 1) * BLOCK_SIZE))
        assert second.offer(0).is_taken
    clock.advance(LEASE_S + 1)
    assert second.offer(0).missing == [(3 * BLOCK_SIZE, WINDOW_BLOCKS * BLOCK_SIZE)]


# -- space


def test_the_second_of_two_that_do_not_fit_together_is_refused_at_once(
    fs: InProcess, content: bytes, other_pid: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = fs.store.space
    room = SIZE + SIZE // 2
    monkeypatch.setattr(space, "refresh", lambda: space.reserve_bytes + room)
    first, second = Sender(fs, content, pid=other_pid.pid), Sender(fs, content, bytes(32))
    first.begin()
    with pytest.raises(DiskFull, match="promised"):
        second.begin(b"dir/.other.part")
    declared = Upload(bytes(32), SIZE, NAME)
    gone = fs.filesystem.uploads.take_back(b"dir/.other.part", declared)
    assert gone is not None
    assert fs.names(b"dir") == [b".file.part"]
    assert fs.filesystem.uploads.take_back(STAGED, declared) is None
    assert fs.names(b"dir") == [b".file.part"]
    assert fs.pending() == []
    fs.make(b"dir/.other.part")
    # Nor may anybody else write what was promised.
    monkeypatch.setattr(space, "refresh", lambda: space.reserve_bytes + SIZE)
    space._left = 0
    with pytest.raises(DiskFull):
        fs.write(b"greedy", b"x")
    # But what comes of it is let in, and counts.
    first.write((0, SIZE - BLOCK_SIZE))
    assert sum(space.promises.values()) == BLOCK_SIZE
    monkeypatch.setattr(space, "refresh", lambda: space.reserve_bytes + room)
    second.begin(b"dir/.other.part")


@pytest.mark.parametrize("how", ["abort", "death", "silence", "end"])
def test_the_room_is_given_back(
    fs: InProcess, content: bytes, other_pid: Other, clock: ManualClock, how: str
) -> None:
    sender = Sender(fs, content, pid=other_pid.pid)
    sender.begin()
    assert sum(fs.store.space.promises.values()) == SIZE
    match how:
        case "abort":
            fs.filesystem.uploads.abort(sender.ino, TOKEN)
        case "death":
            other_pid.kill()
        case "silence":
            clock.advance(EXPIRY_S + 1)
        case "end":
            sender.send()
            sender.finish()
    fs.filesystem.uploads.tend()
    assert fs.store.space.promises == {}
    assert not fs.files.expected


def test_an_aborted_upload_is_gone_and_not_in_the_trash(fs: InProcess, content: bytes) -> None:
    sender = Sender(fs, content)
    sender.begin()
    sender.write((0, 2 * BLOCK_SIZE))
    fs.filesystem.uploads.abort(sender.ino, TOKEN)
    assert fs.names(b"dir") == []
    assert fs.pending() == []
    while fs.reap():
        pass
    assert fs.store.totals.inodes == 3  # the root, the trash, dir
    with pytest.raises(FusefsError):
        fs.filesystem.uploads.abort(sender.ino, TOKEN)


def test_what_is_finished_cannot_be_aborted(fs: InProcess, content: bytes) -> None:
    sender = Sender(fs, content)
    sender.begin()
    sender.send()
    sender.finish()
    with pytest.raises(NoSuchUpload):
        fs.filesystem.uploads.abort(sender.ino, TOKEN)
    assert fs.read(b"dir/file") == content


def test_counts(fs: InProcess, content: bytes) -> None:
    fs.write(b"known", content[:BLOCK_SIZE])
    sender = Sender(fs, content)
    sender.begin()
    sender.send()
    sender.finish()
    assert asdict(fs.filesystem.uploads.counts) == {
        "requests": 2,
        "already_present_bytes": BLOCK_SIZE,
        "needed_bytes": SIZE - BLOCK_SIZE,
        "received_bytes": SIZE - BLOCK_SIZE,
        "resumes": 0,
        "finished": 1,
        "aborted": 0,
    }
