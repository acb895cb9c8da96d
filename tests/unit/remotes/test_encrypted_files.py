"""Encrypted files in a directory: what is read back, what is to be seen, what is noticed."""

import os
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from fusefs.errors import NoSuchObject, ObjectDamaged
from fusefs.model.keyslot import subkey
from fusefs.remotes import sealed
from fusefs.remotes.encrypted_files import FOLDER, MAGIC, EncryptedFiles
from fusefs.remotes.files import FileCapabilities, read_fully
from fusefs.remotes.local_files import LocalFiles
from fusefs.remotes.sealed import CHUNK_SIZE, FRAME_SIZE
from tests.unit.remotes.encryption import counted_random
from tests.unit.remotes.test_formats_of_encryption import DATA_KEY

SIZES = [0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 5 * CHUNK_SIZE, 300_000]
NAME = b"folder/a known name"
CONTENT = Random(7).randbytes(3 * CHUNK_SIZE + 99)


def files_in(directory: Path, base: bytes = b"") -> EncryptedFiles:
    return EncryptedFiles(LocalFiles(bytes(directory)), DATA_KEY, base)


@pytest.fixture
def files(tmp_path: Path) -> EncryptedFiles:
    return files_in(tmp_path)


def only_file(directory: Path) -> Path:
    (found,) = (path for path in directory.rglob("*") if path.is_file())
    return found


def content(files: EncryptedFiles, path: bytes) -> bytes:
    seen = files.look(path)
    assert seen is not None
    with closing(files.reader(path)) as reader:
        return read_fully(reader, 0, seen.size + 10)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("part", [1000, CHUNK_SIZE, 1 << 20])
def test_any_part_of_a_file_is_read(files: EncryptedFiles, size: int, part: int) -> None:
    whole = Random(size).randbytes(size)
    files.write_whole(NAME, (whole[at : at + part] for at in range(0, size, part)))
    seen = files.look(NAME)
    assert seen is not None
    assert seen.size == size
    assert content(files, NAME) == whole
    with closing(files.reader(NAME)) as reader:
        for start in (0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, size - 1, size, size + CHUNK_SIZE):
            for wanted in (0, 1, CHUNK_SIZE, 2 * CHUNK_SIZE + 1):
                if start >= 0:
                    assert reader.read(start, wanted) == whole[start : start + wanted]


def test_neither_names_nor_content_are_to_be_seen(files: EncryptedFiles, tmp_path: Path) -> None:
    files.write_whole(NAME, [b"a known plain text; " * 10_000])
    path = only_file(tmp_path)
    told = os.fsencode(path.relative_to(tmp_path)) + path.read_bytes()
    assert [one for one in (b"known", b"folder", b"plain text") if one in told] == []


def test_equal_files_do_not_look_alike(files: EncryptedFiles, tmp_path: Path) -> None:
    for name in (b"a", b"b"):
        files.write_whole(name, [CONTENT])
    one, other = (path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert len(one) == len(other)
    alike = sum(a == b for a, b in zip(one[len(MAGIC) :], other[len(MAGIC) :], strict=True))
    assert alike < len(one) / 200


def test_all_below_is_found_and_what_others_put_there_is_not(
    files: EncryptedFiles, tmp_path: Path
) -> None:
    for name in (b"a/b/c", b"a/d", b"ab", b"e" * 255 + b"/f"):
        files.write_whole(name, [name])
    (tmp_path / os.fsdecode(FOLDER) / "mine").write_bytes(b"x")
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "1").write_bytes(b"{}")
    assert sorted(one.path for one in files.walk(b"a")) == [b"a/b/c", b"a/d"]
    assert {one.path: one.size for one in files.walk(b"")} == {
        b"a/b/c": 5, b"a/d": 3, b"ab": 2, b"e" * 255 + b"/f": 257,
    }  # fmt: skip
    assert [files.has_folder(name) for name in (b"", b"a", b"none")] == [True, True, False]
    below = files_in(tmp_path, b"/a/./b/")
    assert [one.path for one in below.walk(b"")] == [b"c"]
    assert content(below, b"c") == b"a/b/c"


def test_a_rename_replaces_and_a_removal_removes(files: EncryptedFiles, tmp_path: Path) -> None:
    files.write_whole(b"id/.partial/0", [b"new"])
    files.write_whole(b"id/x", [b"old"])
    files.rename(b"id/.partial/0", b"id/x")
    assert content(files, b"id/x") == b"new"
    with pytest.raises(NoSuchObject):
        files.reader(b"id/.partial/0")
    files.write_whole(b"id/.partial/1", [b"1"])
    files.remove_folder(b"id/.partial")
    assert not files.has_folder(b"id/.partial")
    assert (files.remove(b"id/x"), files.remove(b"id/x")) == (True, False)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("at", [0, 8, 30, FRAME_SIZE + 7, FRAME_SIZE + 8 + 19, -1])
def test_a_changed_byte_is_noticed(files: EncryptedFiles, tmp_path: Path, at: int) -> None:
    files.write_whole(NAME, [CONTENT])
    path = only_file(tmp_path)
    stored = bytearray(path.read_bytes())
    stored[at] ^= 1
    path.write_bytes(stored)
    with pytest.raises(ObjectDamaged, match=r"a known name in .* is damaged"):
        content(files, NAME)


@pytest.mark.parametrize(
    "size",
    [
        0,
        len(MAGIC),
        len(MAGIC) + 10,
        len(MAGIC) + FRAME_SIZE,
        len(MAGIC) + 2 * FRAME_SIZE,
        len(MAGIC) + 2 * FRAME_SIZE + 100,
    ],
)
def test_what_was_cut_off_is_noticed(files: EncryptedFiles, tmp_path: Path, size: int) -> None:
    files.write_whole(NAME, [CONTENT])
    os.truncate(only_file(tmp_path), size)
    with pytest.raises(ObjectDamaged):
        content(files, NAME)


def test_parts_of_two_files_are_no_file(files: EncryptedFiles, tmp_path: Path) -> None:
    files.write_whole(b"a", [CONTENT])
    first = only_file(tmp_path).read_bytes()
    files.write_whole(b"b", [CONTENT])
    path = next(one for one in tmp_path.rglob("*") if one.is_file() and one.read_bytes() != first)
    end = len(MAGIC) + FRAME_SIZE
    path.write_bytes(first[:end] + path.read_bytes()[end:])
    with closing(files.reader(b"b")) as reader:
        reader.read(0, CHUNK_SIZE)
        with pytest.raises(ObjectDamaged):
            reader.read(CHUNK_SIZE, CHUNK_SIZE)
    with pytest.raises(ObjectDamaged):
        content(files, b"b")


@pytest.mark.parametrize("most", [FRAME_SIZE, FRAME_SIZE + 8, FRAME_SIZE + 40, 64 << 20])
def test_the_largest_file_is_as_large_as_the_place_allows(tmp_path: Path, most: int) -> None:
    class Limited(LocalFiles):
        capabilities = FileCapabilities(can_resume=False, whole_bytes=most)

    files = EncryptedFiles(Limited(bytes(tmp_path)), DATA_KEY)
    largest = files.capabilities.whole_bytes
    assert largest
    files.write_whole(NAME, [bytes(largest)])
    stored = only_file(tmp_path).stat().st_size
    assert most - sealed.FRAME_SIZE + CHUNK_SIZE <= stored <= most


def test_the_picture(tmp_path: Path) -> None:
    files = EncryptedFiles(LocalFiles(bytes(tmp_path)), DATA_KEY, random=counted_random())
    files.write_whole(b"a", [CONTENT])
    stored = only_file(tmp_path).read_bytes()
    key, salt = subkey(DATA_KEY, "file content"), bytes(range(19))
    frames = b"".join(sealed.seal(key, b"file", salt, memoryview(CONTENT)))
    assert stored == MAGIC + frames
