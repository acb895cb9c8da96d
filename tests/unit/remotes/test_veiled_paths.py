"""Veiled paths: there and back, and nothing of them to be seen."""

import pytest

from fusefs.remotes.veiled_paths import PathVeil
from tests.unit.remotes.test_formats_of_encryption import DATA_KEY

VEIL = PathVeil.of(DATA_KEY)


@pytest.mark.parametrize(
    "path",
    [
        b"a",
        b"folder/sub/file",
        b".partial/0",
        b"x" * 24 + b"/" + b"x" * 25,
        b"y" * 255 + b"/" + b"z" * 255 + b"/end",
        "Übung/日本".encode(),
        b"\xff\xfe \n-",
    ],
)
def test_there_and_back(path: bytes) -> None:
    covered = VEIL.cover(path)
    assert VEIL.uncover(covered) == path
    assert all(0 < len(part) <= 193 for part in covered.split(b"/"))
    assert set(covered) <= set(b"abcdefghijklmnopqrstuvwxyz234567-/")
    assert VEIL.cover(path) == covered


def test_the_place_itself_is_itself() -> None:
    assert VEIL.cover(b"") == b""
    assert VEIL.uncover(b"") is None


def test_a_folder_is_the_begin_of_what_is_in_it() -> None:
    assert VEIL.cover(b"a/b/c").startswith(VEIL.cover(b"a/b") + b"/")


def test_equal_names_in_two_folders_do_not_look_alike() -> None:
    one, other = VEIL.cover(b"a/name").split(b"/"), VEIL.cover(b"b/name").split(b"/")
    assert one[1] != other[1]
    assert VEIL.uncover(other[0] + b"/" + one[1]) is None


def test_names_of_about_one_length_have_one_length() -> None:
    assert len(VEIL.cover(b"a")) == len(VEIL.cover(b"b" * 24)) < len(VEIL.cover(b"c" * 25))


@pytest.mark.parametrize("covered", [b"keys/1", b"a", b"a-", b"\xff/x", b"-/-", b"a" * 64])
def test_what_others_put_there_is_none(covered: bytes) -> None:
    assert VEIL.uncover(covered) is None


def test_a_path_of_another_key_or_cut_short_is_none() -> None:
    covered = VEIL.cover(b"y" * 255)
    assert PathVeil.of(bytes(32)).uncover(covered) is None
    assert VEIL.uncover(covered.rpartition(b"/")[0]) is None
    assert VEIL.uncover(covered[:-1]) is None


def test_the_picture() -> None:
    assert VEIL.cover(b"a/b") == (
        b"vq3pvquvt6h7i4wlypb7pkmumhs47pv5sxzusw63jjfrbrsc6ghcatlyx26d67f3/"
        b"zkutvwgqvmtyjnyoyttmjykspe35o5ouvzjydquczj3gc4gf5ihikibj43oamj7c"
    )
