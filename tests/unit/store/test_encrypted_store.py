"""A whole store that is encrypted: no content is left in it anywhere, and all works as ever."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from blake3 import blake3

from fusefs.base import failpoints
from fusefs.errors import FormatTooNew, StoreDamaged, WrongKey
from fusefs.fsck.check import check
from fusefs.fsck.repair import repair
from fusefs.fsck.selection import Selection
from fusefs.model import keys, keyslot
from fusefs.model.block import ENCRYPTED, Block
from fusefs.model.extent import BLOCK_SIZE
from fusefs.model.keyslot import Secret
from fusefs.store import format, identity, keyring, rebuild
from fusefs.store.cipher import Cipher
from fusefs.store.store import Store
from tests.unit.clocks import ManualClock
from tests.unit.inprocess import InProcess
from tests.unit.remotes.encryption import SECRET
from tests.unit.store import acts

SECRET_TEXT = b"The treasure lies under the third oak. "
NOISE = random.Random(3).randbytes(3 * BLOCK_SIZE + 777)
TEXT = SECRET_TEXT * 40_000
LATE = b"And the oak was felled. " * 9
PARTS = (SECRET_TEXT[:16], NOISE[:16], NOISE[BLOCK_SIZE + 5 : BLOCK_SIZE + 21], NOISE[-16:])


@pytest.fixture
def secret() -> Secret:
    return SECRET


def files_of(path: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()
    }


def traces_of(path: Path) -> list[tuple[str, bytes]]:
    """Where known content, or what tells it, stands in the files of a store."""
    contents = (b"small " + SECRET_TEXT, NOISE[:BLOCK_SIZE], TEXT[:BLOCK_SIZE], LATE)
    digests = [blake3(content).digest() for content in contents]
    wanted = [*PARTS, *digests, *(digest[:10] for digest in digests)]
    return [(name, one) for name, text in files_of(path).items() for one in wanted if one in text]


def fill(fs: InProcess) -> None:
    fs.write(b"small", b"small " + SECRET_TEXT)
    fs.write(b"noise", NOISE)
    fs.write(b"text", TEXT)
    fs.write(b"ragged", NOISE[:5000], offset=3)
    fs.write(b"ragged", TEXT[:40], offset=100_000)
    fs.write(b"gone", TEXT[77:])
    fs.unlink(b"gone")


def assert_filled(fs: InProcess) -> None:
    assert fs.read(b"small") == b"small " + SECRET_TEXT
    assert fs.read(b"noise") == NOISE
    assert fs.read(b"text") == TEXT
    ragged = fs.read(b"ragged")
    assert (ragged[3:5003], ragged[100_000:]) == (NOISE[:5000], TEXT[:40])


@pytest.fixture(params=["none", "zstd"])
def damageable(
    tmp_path: Path, clock: ManualClock, request: pytest.FixtureRequest
) -> Iterator[InProcess]:
    """Filled; without the check of invariants at its end."""
    fs = InProcess(tmp_path / "damaged", clock, secret=SECRET, compression=request.param)
    fill(fs)
    yield fs
    failpoints.disarm()
    fs.store.abandon()


def test_no_content_stands_anywhere_in_the_store(damageable: InProcess) -> None:
    fs = damageable
    fs.sync()
    assert traces_of(fs.path) == []
    fs.crash()  # hints are filled anew
    fs.write(b"late", LATE)
    fs.collect()  # blocks move, the index is copied
    assert_filled(fs)
    fs.close()
    assert traces_of(fs.path) == []
    data = acts.segment(fs.path, min(fs.store.segments)).read_bytes()
    acts.flip(acts.segment(fs.path, max(fs.store.segments)), len(data) // 2)
    fs.open()
    fs.store.checkpoint()
    assert traces_of(fs.path) == []


def test_what_the_search_looks_for_is_in_a_plain_store(tmp_path: Path, clock: ManualClock) -> None:
    """Or the test above would find nothing in any store."""
    fs = InProcess(tmp_path / "plain", clock)
    fill(fs)
    fs.write(b"late", LATE)
    fs.close()
    assert ("hints/data.mdb", blake3(LATE).digest()[:10]) in traces_of(fs.path)
    assert {one for _, one in traces_of(fs.path)} >= {
        *PARTS,
        blake3(b"small " + SECRET_TEXT).digest(),
        blake3(NOISE[:BLOCK_SIZE]).digest()[:10],
    }


def test_what_was_written_survives_a_crash(fs: InProcess) -> None:
    fill(fs)
    fs.crash()
    assert fs.store.replay.blocks
    assert_filled(fs)
    fs.remount()
    assert_filled(fs)


def test_every_block_is_encrypted_and_its_segment_says_so(fs: InProcess) -> None:
    fill(fs)
    fs.sync()
    rows = [Block.unpack(row) for _, row in fs.store.scan(keys.BLOCK)]
    assert rows
    assert {row.codec for row in rows} <= set(ENCRYPTED.values())
    header = acts.segment(fs.path, 1).read_bytes()[: format.HEADER_SIZE]
    assert header[10] == format.FEATURE_ENCRYPTED


def test_equal_content_is_stored_once(fs: InProcess) -> None:
    fs.write(b"a", NOISE)
    fs.sync()
    fs.remount()
    stored = fs.store.totals.stored_bytes
    fs.write(b"b", NOISE)
    fs.sync()
    assert fs.store.totals.stored_bytes == stored
    assert fs.read(b"b") == NOISE


def test_space_is_given_back_and_the_rest_stays(fs: InProcess) -> None:
    fill(fs)
    for number in range(6):
        fs.write(b"heap%d" % number, random.Random(number).randbytes(3 << 20))
    for number in range(6):
        fs.truncate(b"heap%d" % number, 0)
    fs.sync()
    before = fs.store.segments_bytes
    done = fs.collect()
    assert done.segments
    assert fs.store.segments_bytes < before
    assert_filled(fs)


def test_an_index_is_made_anew(damageable: InProcess) -> None:
    fs = damageable
    fs.close()
    before = {key: row for key, row in opened_rows(fs) if key[:1] != keys.META}
    (fs.path / "index" / "data.mdb").unlink()
    with pytest.raises(WrongKey), rebuild.alone(fs.path):
        rebuild.plan(fs.path)
    with rebuild.alone(fs.path):
        plan = rebuild.plan(fs.path, cipher=fs.cipher)
        assert (plan.damages, plan.torn) == ((), "")
        made = rebuild.apply(plan)
    assert made.damaged == ()
    assert {key: row for key, row in opened_rows(fs) if key[:1] != keys.META} == before
    fs.open()
    assert_filled(fs)


def opened_rows(fs: InProcess) -> list[tuple[bytes, bytes]]:
    store = Store.open(fs.path, clock=fs.clock, cipher=fs.cipher)
    try:
        return list(store.scan(b""))
    finally:
        store.close()


def test_damage_is_found_named_and_repaired(damageable: InProcess) -> None:
    fs = damageable
    fs.close()
    assert check(fs.path, True, cipher=fs.cipher).problems == ()
    block = Block.unpack(dict(opened_rows(fs))[keys.block(2)])
    acts.flip(acts.segment(fs.path, block.segment), block.offset + block.stored // 2)
    assert check(fs.path, False, cipher=fs.cipher).problems == ()
    found = check(fs.path, True, cipher=fs.cipher).problems
    assert [one.where for one in found] == ["/noise"]
    repair(fs.path, Selection.of(True), fs.clock, cipher=fs.cipher)
    assert check(fs.path, True, cipher=fs.cipher).problems == ()
    fs.open()
    assert fs.read(b"text") == TEXT
    with pytest.raises(StoreDamaged):
        fs.read(b"noise")


def test_a_scrub_finds_a_bad_block_and_the_same_content_heals_it(damageable: InProcess) -> None:
    fs = damageable
    fs.sync()
    block = Block.unpack(fs.store.get(keys.block(2)) or b"")
    acts.flip(acts.segment(fs.path, block.segment), block.offset + 2000)
    fs.scrub()
    assert [one.block for one in fs.corruptions()] == [2]
    fs.write(b"again", NOISE)
    fs.sync()
    assert fs.corruptions() == []
    assert_filled(fs)


def test_a_plain_digest_finds_a_block_and_is_given_back(fs: InProcess) -> None:
    """What senders ask by, and are told."""
    content = NOISE[:BLOCK_SIZE]
    fs.write(b"a", content)
    fs.sync()
    digest = blake3(content).digest()
    number = fs.store.blocks.find(fs.store.batch(), digest, len(content))
    assert number is not None
    assert fs.store.blocks.digest(fs.store.blocks.row(fs.store.batch(), number)) == digest
    found = trio.run(fs.filesystem.uploads.digests, b"a", 0, 1)
    assert found == [digest]


@pytest.mark.parametrize("cipher", [None, Cipher(bytes(32))], ids=["no key", "another key"])
def test_without_its_key_a_store_is_left_as_it_is(
    damageable: InProcess, cipher: Cipher | None, clock: ManualClock
) -> None:
    fs = damageable
    fs.files.flush_all()
    fs.store.abandon()  # there is something to replay
    before = files_of(fs.path)
    with pytest.raises(WrongKey, match=str(fs.path)):
        Store.open(fs.path, clock=clock, cipher=cipher)
    with pytest.raises(WrongKey):
        check(fs.path, True, cipher=cipher)
    with pytest.raises(WrongKey):
        repair(fs.path, Selection.of(True), clock, cipher=cipher)
    after = files_of(fs.path)
    assert after == before
    fs.open()
    assert_filled(fs)


def test_an_earlier_program_refuses_it(
    damageable: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    damageable.close()
    monkeypatch.setattr(identity, "FEATURES", frozenset())
    with pytest.raises(FormatTooNew, match="encryption"):
        identity.read(damageable.path)


def test_after_a_change_of_the_secret_nothing_but_the_slots_has_changed(
    damageable: InProcess,
) -> None:
    fs = damageable
    fs.close()
    before = files_of(fs.path)
    new = keyslot.key_file(bytes(range(100)))
    keyring.add(fs.path, SECRET, new, label="", created="", replacing=True)
    after = files_of(fs.path)
    assert {name for name in before if before[name] != after[name]} == {identity.NAME}
    with pytest.raises(WrongKey):
        keyring.unlock(fs.path, SECRET)
    fs.cipher = keyring.unlock(fs.path, new)
    fs.open()
    assert_filled(fs)
