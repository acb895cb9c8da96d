"""Durations and sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusefs.base.units import parse_duration, parse_size, show_duration, show_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("0s", 0), ("90s", 90), ("5m", 300), ("12h", 43200), ("7d", 604800),
        ("4w", 2419200), ("1y", 31536000), ("1.5h", 5400), (" 7 d ", 604800),
        ("100y", 3153600000),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "7", "-1d", "1d2h", "d", "1 day", "1D", "inf", "nan", "1e3s", ".5h", "101y",
     "9" * 400 + "d"],
)  # fmt: skip
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no duration|too long"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("1", 1), ("500M", 500 << 20), ("10G", 10 << 30), ("10GiB", 10 << 30),
        ("10gb", 10 << 30), ("1.5K", 1536), ("2T", 2 << 40), ("1P", 1 << 50), ("7B", 7),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "-1", "1X", "G", "1 000", "1e3", "inf", "2000P", "9" * 400, "9" * 400 + "P"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no size|too large"):
        parse_size(text)


@given(st.integers(0, 1 << 60))
def test_a_size_is_shown_as_what_reads_the_same(size: int) -> None:
    assert parse_size(show_size(size)) == size


@given(st.integers(0, 100 * 365 * 86400))
def test_a_duration_is_shown_as_what_reads_the_same(seconds: int) -> None:
    assert parse_duration(show_duration(float(seconds))) == seconds


@given(st.sampled_from(["s", "m", "h", "d"]), st.integers(1, 36_499), st.integers(0, 9))
def test_also_with_a_fraction(unit: str, whole: int, tenth: int) -> None:
    seconds = parse_duration(f"{whole}.{tenth}{unit}")
    assert parse_duration(show_duration(seconds)) == pytest.approx(seconds)
