"""Each event comes to each subscriber once and in order, and nobody waits for a slow one."""

import os
import re

import pytest

from fusefs.base import events as events_module
from fusefs.base.events import KEPT, Events, Kind, Record
from tests.conftest import ROOT
from tests.unit.clocks import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def events(clock: ManualClock) -> Events:
    return Events(clock)


def publish(events: Events, count: int, kind: Kind = Kind.PURGE) -> None:
    for number in range(count):
        events.publish(kind, entry=number)


def numbers(records: list[Record]) -> list[int]:
    return [record["number"] for record in records]


def silent() -> None:
    pass


def test_an_event_is_stamped_and_has_its_fields(events: Events, clock: ManualClock) -> None:
    publish(events, 1)
    clock.advance(0.25)
    events.publish(Kind.RESTORE, path=b"a\xff", to=None)
    second = events.since(1)[0].record()
    assert second == {
        "number": 2,
        "time": "2027-01-15T08:00:00.250000Z",
        "kind": "restore",
        "path": os.fsdecode(b"a\xff"),
        "to": None,
    }


def test_the_last_ones_are_kept(events: Events) -> None:
    publish(events, KEPT + 5)
    assert [one.number for one in events.since(0)] == list(range(6, KEPT + 6))
    assert [one.number for one in events.since(KEPT + 3)] == [KEPT + 4, KEPT + 5]
    assert events.since(KEPT + 5) == []


def test_a_number_of_an_earlier_daemon_gets_everything(events: Events) -> None:
    publish(events, 3)
    assert len(events.since(70)) == 3
    with events.subscribe(silent, after=70) as subscription:
        assert numbers(subscription.take(9)) == [1, 2, 3]


def test_what_is_kept_and_what_comes_follow_each_other(events: Events) -> None:
    publish(events, 3)
    with events.subscribe(silent) as all_of_them, events.subscribe(silent, after=2) as later:
        publish(events, 3)
        assert numbers(all_of_them.take(4)) == [1, 2, 3, 4]
        assert numbers(all_of_them.take(4)) == [5, 6]
        assert all_of_them.take(4) == []
        assert numbers(later.take(9)) == [3, 4, 5, 6]


def test_after_its_block_a_subscription_gets_nothing(events: Events) -> None:
    with events.subscribe(silent) as subscription:
        pass
    publish(events, 1)
    assert subscription.take(1) == []


def test_a_subscriber_is_woken_once_for_what_it_has_not_taken(events: Events) -> None:
    woken: list[int] = []
    with events.subscribe(lambda: woken.append(1)) as subscription:
        publish(events, 3)
        assert len(woken) == 1
        assert len(subscription.take(2)) == 2
        publish(events, 1)
        assert len(woken) == 1
        assert len(subscription.take(2)) == 2
        publish(events, 1)
        assert len(woken) == 2


def test_only_the_wanted_kinds(events: Events) -> None:
    woken: list[int] = []
    publish(events, 2, Kind.PURGE)
    publish(events, 1, Kind.RESTORE)
    with events.subscribe(
        lambda: woken.append(1), kinds=[Kind.RESTORE, Kind.MOUNTED]
    ) as subscription:
        assert numbers(subscription.take(9)) == [3]
        woken.clear()
        publish(events, 5, Kind.PURGE)
        assert (subscription.take(9), woken) == ([], [])
        publish(events, 1, Kind.RESTORE)
        assert numbers(subscription.take(9)) == [9]


def test_the_readme_has_each_kind_and_no_other() -> None:
    text = (ROOT / "README.rst").read_text()
    table = text[text.index("\nEvents\n---") : text.index("programs can follow a mount")]
    named = re.findall(r"^``([a-z-]+)`` ", table, re.MULTILINE)
    assert named == [*Kind, "lost"]


def test_who_falls_behind_is_told_how_much_it_lost(
    events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "QUEUE_LIMIT", 10)
    with events.subscribe(silent) as slow, events.subscribe(silent) as quick:
        publish(events, 2)
        assert numbers(slow.take(1)) == [1]
        for number in range(3, 41):
            publish(events, 1)
            assert len(quick.take(9)) == (3 if number == 3 else 1)
        lost, *rest = slow.take(99)
        assert lost == {"kind": "lost", "count": 29}
        assert numbers(rest) == list(range(31, 41))
        publish(events, 1)
        assert numbers(slow.take(99)) == [41]


def test_who_comes_back_too_late_is_told_how_much_it_missed(events: Events) -> None:
    publish(events, KEPT + 100)
    with events.subscribe(silent, after=40) as subscription:
        assert subscription.take(2)[0] == {"kind": "lost", "count": 60}
    with events.subscribe(silent, after=100) as subscription:
        assert numbers(subscription.take(1)) == [101]
    with events.subscribe(silent) as subscription:
        assert numbers(subscription.take(1)) == [101]
