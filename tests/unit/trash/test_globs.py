"""Patterns for paths, as shells know them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusefs.trash.globs import is_glob, matcher


@pytest.mark.parametrize(
    ("pattern", "takes", "leaves"),
    [
        (b"a/*.txt", [b"a/b.txt", b"a/.txt"], [b"a/b/c.txt", b"b/a.txt", b"a/b.txt2", b"xa/b.txt"]),
        (b"/a/*.txt", [b"a/b.txt"], [b"b/a/b.txt"]),
        (b"*.txt", [b"b.txt", b"a/b.txt", b"a/b/c.txt"], [b"a.txt/b"]),
        (b"/*.txt", [b"b.txt", b"a/b.txt"], [b"b.txt/c"]),
        (b"a/**", [b"a/b", b"a/b/c"], [b"a", b"b/a"]),
        (b"**/b", [b"b", b"a/b", b"a/c/b"], [b"ab", b"a/xb"]),
        (b"a/**/b", [b"a/b", b"a/x/b", b"a/x/y/b"], [b"a/xb", b"xa/b"]),
        (b"a?c", [b"abc", b"x/a\xffc", b"a\nc"], [b"ac", b"a/c", b"abbc"]),
        (b"a/?", [b"a/b"], [b"a/", b"a//"]),
        (b"[ab]", [b"a", b"x/b"], [b"c", b"ab"]),
        (b"[!ab]", [b"c"], [b"a", b"b"]),
        (b"x/[!a]y", [b"x/by"], [b"x/ay", b"x//y"]),
        (b"[]]", [b"]"], [b"[", b"a"]),
        (b"[a-c]", [b"a", b"b", b"c"], [b"d", b"-"]),
        (b"[a", [b"[a"], [b"a"]),
        (b"a.b", [b"a.b"], [b"axb"]),
        (b"a+(b)$^|{2}\\", [b"a+(b)$^|{2}\\"], [b"aa(b)"]),
        (b"[\\^]", [b"\\", b"^"], [b"a"]),
        (b"f", [b"f", b"d/f"], [b"f/d"]),
    ],
)
def test_what_a_pattern_matches(pattern: bytes, takes: list[bytes], leaves: list[bytes]) -> None:
    matches = matcher(pattern)
    assert [path for path in takes if not matches(path)] == []
    assert [path for path in leaves if matches(path)] == []


def test_only_some_characters_make_a_pattern() -> None:
    assert all(is_glob(pattern) for pattern in (b"*", b"a?", b"x/[a]", b"**/a"))
    assert not any(is_glob(path) for path in (b"", b"a/b", b"a{b}", b"~x", b"a]"))


@given(st.binary(max_size=12), st.binary(max_size=12))
def test_any_bytes_are_a_pattern(pattern: bytes, path: bytes) -> None:
    matcher(pattern)(path)


@given(st.binary(min_size=1, max_size=12).filter(lambda path: not is_glob(path)))
def test_a_path_without_special_characters_matches_itself(path: bytes) -> None:
    if not path.startswith(b"/") and not path.endswith(b"/"):
        assert matcher(path)(path)
