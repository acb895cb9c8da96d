"""What people write into the policy of the trash, and what is taken from it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusefs.errors import BadPolicy
from fusefs.trash.policy import (
    FOREVER,
    USUAL_SKIPS,
    Policy,
    Skips,
    parse_rule,
    parse_skip_rule,
    show_rule,
)

MINUTE_NS = 60 * 10**9


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (b"30d", 30 * 86400.0),
        (b" 12h\n", 43200.0),
        (b"90s\0", 90.0),  # as some tools end a value
        (b"0", 0.0),
        (b"1.5h", 5400.0),
        (b"forever", FOREVER),
        (b"skip", "skip"),
        (b"inherit", "inherit"),
    ],
)
def test_a_rule_is_read_and_shown_as_what_reads_the_same(value: bytes, rule: object) -> None:
    assert parse_rule(value) == rule
    assert parse_rule(show_rule(parse_rule(value)).encode()) == rule


@pytest.mark.parametrize(
    "value", [b"", b"7", b"-1d", b"7 days", b"1e9d", b"nan", b"inf", b"SKIP", b"\xff", b"9999y"]
)
def test_what_is_no_rule_is_said_with_the_way_out(value: bytes) -> None:
    with pytest.raises(BadPolicy, match="no policy of the trash: write a duration like 30d"):
        parse_rule(value)


@given(st.binary(max_size=8))
def test_any_bytes_are_a_rule_or_an_error_of_our_own(value: bytes) -> None:
    try:
        found = parse_rule(value)
    except BadPolicy:
        return
    assert found in ("skip", "inherit") or (isinstance(found, float) and not math.isnan(found))


CHANGES = [
    ("keep", "30d"), ("keep", "forever"), ("keep", "0"), ("replaced", "off"), ("replaced", "on"),
    ("max-size", "10G"), ("max-size", "off"), ("min-free", "500M"), ("min-free", "off"),
    ("history", "90d"), ("history", "forever"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), CHANGES)
def test_a_setting_is_shown_as_it_was_set(name: str, text: str) -> None:
    start = Policy(keeps_replaced=text == "off", max_bytes=5, min_free_bytes=5)
    changed = start.with_changes([(name, f" {text} ")])
    assert changed.shown()[name] == text
    assert {k: v for k, v in changed.shown().items() if k != name} == {
        k: v for k, v in start.shown().items() if k != name
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("keep", "skip"), ("keep", ""), ("keep", "7"), ("replaced", "yes"), ("max-size", "10X"),
        ("max-size", "-1"), ("min-free", "lots"), ("history", "never"), ("skip", "*.tmp"),
        ("skip", "-*.tmp"), ("skip", "+*.tmp"), ("skip", "+*.tmp below soon"), ("kep", "7d"),
    ],
)  # fmt: skip
def test_a_bad_setting_changes_nothing_and_is_named(name: str, text: str) -> None:
    with pytest.raises(BadPolicy, match=name):
        Policy().with_changes([("keep", "1d"), (name, text)])


def test_skip_rules_are_added_and_dropped() -> None:
    policy = Policy().with_changes([("skip", "none"), ("skip", "+*.tmp below 5m by cc*")])
    assert [rule.show() for rule in policy.skips] == ["*.tmp below 5m by cc*"]
    policy = policy.with_changes([("skip", "+*.o below 1h")])
    assert [rule.show() for rule in policy.skips][1:] == ["*.o below 1h"]
    assert policy.with_changes([("skip", "-*.tmp"), ("skip", "-*.o")]).skips == ()
    assert policy.with_changes([("skip", "usual")]).skips == USUAL_SKIPS
    for rule in USUAL_SKIPS:
        assert parse_skip_rule(rule.show()) == rule


@pytest.mark.parametrize(
    ("name", "process", "is_taken"),
    [
        (b".file.aB3dE9", b"rsync", True),
        (b".file.aB3dE9", b"cp", False),
        (b"file.aB3dE9", b"rsync", False),
        (b".file.aB3dE", b"rsync", False),
        (b".goutputstream-ABCDEF", b"gedit", True),
        (b".file.swp", b"vim", True),
        (b"4913", b"vim", True),
        (b"49131", b"vim", False),
        (b"notes~", b"nvim", True),
        (b"notes~", b"rm", False),
        (b".#lock", b"emacs", True),
        (b"#auto#", b"emacs-29", True),
        (b"#auto#", b"rm", False),
        (b".~lock.a.odt#", b"soffice.bin", True),
        (b"sedAbCdEf", b"sed", True),
        (b"sedan.jpg", b"rm", False),
        (b"tmp_obj_a1B2c3", b"git", True),
        (b"index.lock", b"git-gc", True),
        (b"Cargo.lock", b"rm", False),
        (b".nfs0000001", b"", True),
        (b".fuse_hidden01", b"", True),
        (b".fusefs-probe-1a2b3c", b"fusefs", True),
        (b"\xff\n~", b"vi", True),
        (b"thesis.tex", b"vim", False),
    ],
)
def test_the_usual_temporary_names(name: bytes, process: bytes, is_taken: bool) -> None:
    skips = Skips(USUAL_SKIPS)
    assert skips.takes(name, process, MINUTE_NS - 1) is is_taken
    if is_taken:
        assert skips.may_take(name)
    assert not skips.takes(name, process, MINUTE_NS)
    assert not skips.takes(name, process, -1)  # a clock that was set back tells no age


def test_without_rules_nothing_is_temporary() -> None:
    skips = Skips(())
    assert not skips.may_take(b"4913")
    assert not skips.takes(b"4913", b"vim", 0)
