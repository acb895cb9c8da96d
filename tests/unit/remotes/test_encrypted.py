"""An encrypted remote: what is below it sees nothing, and can change nothing unnoticed."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusefs.errors import NoSuchObject, ObjectDamaged, RemoteError
from fusefs.remotes import contract, encrypted, sealed
from fusefs.remotes.directory import DirectoryRemote
from fusefs.remotes.encrypted import Encrypted
from fusefs.remotes.memory import MemoryRemote
from fusefs.remotes.sealed import CHUNK_SIZE, FRAME_SIZE, HEAD_SIZE
from tests.unit.remotes.encryption import (
    CREATED,
    SECRET,
    WEAK,
    encrypted_remote,
    only_name,
    raw_remote,
    replace,
)

SIZES = [0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 2 * CHUNK_SIZE, 3 * CHUNK_SIZE + 77]
SEGMENT = "segments/" + "ab" * 32
LONG = "payload/" + "/".join(["a-rather-long-part-of-a-name"] * 6)


@pytest.fixture
def raw() -> MemoryRemote:
    return raw_remote()


@pytest.fixture
def remote(raw: MemoryRemote) -> Encrypted:
    return encrypted_remote(raw)


@pytest.mark.parametrize("size", SIZES)
def test_what_was_put_comes_back_with_its_size(remote: Encrypted, size: int) -> None:
    content = os.urandom(size)
    assert remote.put(SEGMENT, memoryview(content))
    assert not remote.put(SEGMENT, b"another")
    assert remote.get(SEGMENT) == content
    assert remote.sizes([SEGMENT, "segments/other"]) == {SEGMENT: size}
    assert [(found.name, found.size) for found in remote.list("segments/")] == [(SEGMENT, size)]
    assert remote.delete(SEGMENT)
    assert not remote.delete(SEGMENT)


@pytest.fixture(scope="module")
def large() -> tuple[Encrypted, bytes]:
    remote, content = encrypted_remote(), os.urandom(3 * CHUNK_SIZE)
    remote.put(SEGMENT, content)
    return remote, content


_near_frames = st.builds(
    lambda frame, off: max(0, frame * CHUNK_SIZE + off), st.integers(0, 5), st.integers(-3, 3)
)
_places = st.integers(0, 5 * CHUNK_SIZE) | _near_frames


@settings(deadline=None, max_examples=300)
@given(start=_places, size=st.none() | _places)
def test_a_range_is_what_it_is_of_the_plain_object(
    large: tuple[Encrypted, bytes], start: int, size: int | None
) -> None:
    remote, content = large
    expected = content[start:] if size is None else content[start : start + size]
    assert remote.get(SEGMENT, start, size) == expected


@pytest.mark.parametrize("check", contract.CHECKS)
@pytest.mark.parametrize("below", ["memory", "directory"])
def test_it_keeps_what_every_remote_must_keep(
    tmp_path: Path, below: str, check: contract.Check
) -> None:
    inner = raw_remote() if below == "memory" else DirectoryRemote("file:///there", tmp_path)
    check(contract.Trial(encrypted_remote(inner), "trial/0123456789abcdef/"))


def test_a_directory_shows_nothing_to_grep(tmp_path: Path) -> None:
    remote = encrypted_remote(DirectoryRemote("file:///there", tmp_path))
    for name in (SEGMENT, LONG):
        remote.put(name, b"a known plain text " * 10_000)
    shown = b"".join(
        os.fsencode(path.relative_to(tmp_path)) + (path.read_bytes() if path.is_file() else b"")
        for path in tmp_path.rglob("*")
    )
    parts = [part.encode() for name in (SEGMENT, LONG) for part in name.split("/")]
    assert len(list(tmp_path.rglob("*"))) > 4
    assert [needle for needle in [b"known plain", *parts] if needle in shown] == []


def test_a_range_asks_for_the_frames_that_it_touches_at_once(
    raw: MemoryRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = encrypted_remote(raw)
    remote.put(SEGMENT, bytes(3 * CHUNK_SIZE))
    asked = []
    plain_get = raw.get

    def get(name: str, start: int = 0, size: int | None = None) -> bytes:
        asked.append((start, size))
        return plain_get(name, start, size)

    monkeypatch.setattr(raw, "get", get)
    remote.get(SEGMENT, CHUNK_SIZE + 5, 10)
    remote.get(SEGMENT, 5, CHUNK_SIZE)
    assert asked == [(HEAD_SIZE + FRAME_SIZE, FRAME_SIZE), (0, HEAD_SIZE + 2 * FRAME_SIZE)]


def test_nothing_of_contents_and_names_is_in_the_raw_remote(
    raw: MemoryRemote, remote: Encrypted
) -> None:
    names = [SEGMENT, "index/0123456789abcdef", "checkpoints/0000000000000001", LONG, "alone"]
    for name in names:
        remote.put(name, b"a known plain text " * 10_000)
    found = {found.name: raw.get(found.name) for found in raw.list("")}
    everything = b"".join(name.encode() + b"\0" + content for name, content in found.items())
    needles = [b"known plain", SECRET.material]
    needles += [part.encode() for name in names for part in name.split("/")]
    assert [needle for needle in needles if needle in everything] == []
    assert len(found) == len(names) + 1
    assert len({len(name) for name in found if len(name.partition("/")[2]) == 160}) == 1


def test_a_listing_gives_the_plain_names_back_and_no_others(
    raw: MemoryRemote, remote: Encrypted
) -> None:
    names = {SEGMENT, "segments/x/y", "checkpoints/1", "checkpoints/2", LONG, "alone"}
    for name in names:
        remote.put(name, b"content")
    raw.put("a-strangers/file", b"content")
    folder = only_folder(raw, remote, "checkpoints/1")
    raw.put(f"{folder}/{'a' * 160}", b"content")
    raw.put(f"{folder}/{'b' * 64}", b"content")
    raw.put(f"{folder}/{'1' * 160}", b"content")
    assert {found.name for found in remote.list("")} == names
    assert {found.name for found in remote.list("segments/")} == {SEGMENT, "segments/x/y"}
    assert {found.name for found in remote.list("segments/x/")} == {"segments/x/y"}
    assert {found.name for found in remote.list("payload/")} == {LONG}
    assert list(remote.list("seg/")) == []


def only_folder(raw: MemoryRemote, remote: Encrypted, name: str) -> str:
    """The folder of one object, found by taking it away for a moment."""
    before = {found.name for found in raw.list("")}
    content = remote.get(name)
    remote.delete(name)
    (gone,) = before - {found.name for found in raw.list("")}
    remote.put(name, content)
    return gone.partition("/")[0]


def test_a_listing_asks_for_nothing_but_the_listing(
    raw: MemoryRemote, remote: Encrypted, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.put(SEGMENT, b"content")
    monkeypatch.delattr(MemoryRemote, "get")
    assert [found.name for found in remote.list("segments/")] == [SEGMENT]


@pytest.mark.parametrize("name", ["", "/a", "a//b", "a/", ".a", "a/.b", "ä", "a" * 201])
def test_a_name_that_is_none_is_refused_as_below(remote: Encrypted, name: str) -> None:
    for call in (
        lambda: remote.put(name, b""),
        lambda: remote.get(name),
        lambda: remote.sizes([name]),
        lambda: remote.delete(name),
    ):
        with pytest.raises(RemoteError):
            call()


def test_the_longest_name_fits(raw: MemoryRemote, remote: Encrypted) -> None:
    name = "a/" * 99 + "bc"
    remote.put(name, b"content")
    assert [found.name for found in remote.list("a/a/")] == [name]


def test_every_flipped_byte_is_found(raw: MemoryRemote, remote: Encrypted) -> None:
    remote.put(SEGMENT, b"some content")
    name = only_name(raw)
    good = raw.get(name)
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1
        replace(raw, name, bytes(bad))
        with pytest.raises(ObjectDamaged):
            remote.get(SEGMENT)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_flipped_byte_hurts_only_the_ranges_that_touch_it(
    raw: MemoryRemote, remote: Encrypted, part: int
) -> None:
    content = os.urandom(3 * CHUNK_SIZE)
    remote.put(SEGMENT, content)
    bad = bytearray(raw.get(only_name(raw)))
    bad[HEAD_SIZE + part * FRAME_SIZE + 1000] ^= 0x80
    replace(raw, only_name(raw), bytes(bad))
    for frame in range(3):
        start = frame * CHUNK_SIZE + 10
        if frame == part:
            with pytest.raises(ObjectDamaged, match=f"part {part} "):
                remote.get(SEGMENT, start, 100)
        else:
            assert remote.get(SEGMENT, start, 100) == content[start : start + 100]


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * CHUNK_SIZE])
def test_an_object_that_was_cut_short_is_found_wherever_it_was_cut(
    raw: MemoryRemote, remote: Encrypted, size: int
) -> None:
    remote.put(SEGMENT, os.urandom(size))
    good = raw.get(only_name(raw))
    cuts = {
        HEAD_SIZE + frame * FRAME_SIZE + off for frame in range(4) for off in (-1, 0, 1, 20, 36)
    }
    for cut in sorted(cut for cut in cuts | {0, 1, len(good) - 1} if cut < len(good)):
        replace(raw, only_name(raw), good[:cut])
        with pytest.raises(ObjectDamaged):
            remote.get(SEGMENT)
        with pytest.raises(ObjectDamaged):
            remote.get(SEGMENT, 0, size + 1)
        with pytest.raises(ObjectDamaged):
            remote.get(SEGMENT, 10 * CHUNK_SIZE, 10)
        assert remote.sizes([SEGMENT])[SEGMENT] <= size


def test_what_was_appended_is_found(raw: MemoryRemote, remote: Encrypted) -> None:
    remote.put(SEGMENT, os.urandom(CHUNK_SIZE))
    good = raw.get(only_name(raw))
    for more in (b"\0", b"\1" * 40, good[HEAD_SIZE:]):
        replace(raw, only_name(raw), good + more)
        with pytest.raises(ObjectDamaged):
            remote.get(SEGMENT)
        with pytest.raises(ObjectDamaged):
            remote.get(SEGMENT, CHUNK_SIZE + 1, 10)


def test_frames_in_another_order_are_found(raw: MemoryRemote, remote: Encrypted) -> None:
    remote.put(SEGMENT, os.urandom(3 * CHUNK_SIZE))
    good = raw.get(only_name(raw))
    frames = [good[HEAD_SIZE + n * FRAME_SIZE :][:FRAME_SIZE] for n in range(3)]
    for order in ([1, 0, 2], [0, 2], [0, 0, 1, 2], [2], [1, 2]):
        replace(raw, only_name(raw), good[:HEAD_SIZE] + b"".join(frames[n] for n in order))
        with pytest.raises(ObjectDamaged):
            remote.get(SEGMENT)


def test_an_object_under_the_name_of_another_is_found(raw: MemoryRemote, remote: Encrypted) -> None:
    remote.put("checkpoints/1", os.urandom(2 * CHUNK_SIZE))
    first = only_name(raw)
    old = raw.get(first)
    remote.put("checkpoints/2", os.urandom(2 * CHUNK_SIZE))
    (second,) = (f.name for f in raw.list(first.partition("/")[0] + "/") if f.name != first)
    head = raw.get(second)[:HEAD_SIZE]
    for swapped in (old, head + old[HEAD_SIZE:]):
        replace(raw, second, swapped)
        for start in (0, CHUNK_SIZE):
            with pytest.raises(ObjectDamaged):
                remote.get("checkpoints/2", start, 10 if start else None)


def test_two_versions_of_an_object_cannot_be_mixed(raw: MemoryRemote, remote: Encrypted) -> None:
    versions = []
    for _ in range(2):
        remote.put(SEGMENT, os.urandom(2 * CHUNK_SIZE))
        versions.append(raw.get(only_name(raw)))
        remote.delete(SEGMENT)
    remote.put(SEGMENT, b"")
    mixed = versions[0][: HEAD_SIZE + FRAME_SIZE] + versions[1][HEAD_SIZE + FRAME_SIZE :]
    replace(raw, only_name(raw), mixed)
    with pytest.raises(ObjectDamaged, match="belong together"):
        remote.get(SEGMENT)


def test_a_range_that_the_remote_keeps_back_is_found(
    raw: MemoryRemote, remote: Encrypted, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.put(SEGMENT, os.urandom(3 * CHUNK_SIZE))
    plain_get = raw.get

    def get(name: str, start: int = 0, size: int | None = None) -> bytes:
        monkeypatch.setattr(raw, "get", plain_get)
        return b""

    monkeypatch.setattr(raw, "get", get)
    with pytest.raises(ObjectDamaged, match="missing"):
        remote.get(SEGMENT, CHUNK_SIZE, 10)
    assert raw.get is plain_get


def test_an_object_that_was_moved_is_not_listed_where_it_is(
    raw: MemoryRemote, remote: Encrypted
) -> None:
    for name in (SEGMENT, LONG):
        remote.put(name, b"content")
        there = only_name(raw)
        folder = only_folder(raw, remote, name)
        remote.put("checkpoints/1", b"content")
        other = only_folder(raw, remote, "checkpoints/1")
        raw.put(there.replace(folder, other), raw.get(there))
        assert [found.name for found in remote.list("")].count(name) == 1
        assert [found.name for found in remote.list("checkpoints/")] == ["checkpoints/1"]
        for found in list(raw.list("")):
            if not found.name.startswith("keys/"):
                raw.delete(found.name)


def test_what_is_not_there_is_said_so(remote: Encrypted) -> None:
    for start, size in ((0, None), (0, 10), (5 * CHUNK_SIZE, 10)):
        with pytest.raises(NoSuchObject):
            remote.get(SEGMENT, start, size)


def test_one_plain_object_never_looks_the_same_twice(raw: MemoryRemote, remote: Encrypted) -> None:
    seen = set()
    for _ in range(2):
        remote.put(SEGMENT, b"same")
        seen.add(raw.get(only_name(raw)))
        remote.delete(SEGMENT)
    assert len(seen) == 2


@given(st.integers(0, 20 * CHUNK_SIZE))
def test_the_plain_size_is_known_by_the_sealed_one(size: int) -> None:
    frames = sealed.seal(bytes(32), b"name", bytes(sealed.SALT_SIZE), memoryview(bytes(size)))
    assert sealed.plain_size(sealed.HEAD_SIZE + sum(map(len, frames))) == size


def test_the_same_secret_opens_it_again(raw: MemoryRemote, remote: Encrypted) -> None:
    remote.put(SEGMENT, b"content")
    assert encrypted.open_encrypted(raw, SECRET).get(SEGMENT) == b"content"
    again = encrypted.initialise(raw, SECRET, created=CREATED, strength=WEAK)
    assert again.get(SEGMENT) == b"content"
