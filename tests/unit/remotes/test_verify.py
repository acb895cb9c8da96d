"""A remote that does not believe."""

import pytest
from blake3 import blake3

from fusefs.errors import ObjectDamaged, RemoteUnreachable
from fusefs.remotes.fault import Fault, Faulty, Kind
from fusefs.remotes.memory import MemoryRemote
from fusefs.remotes.verify import Look, Verified

CONTENT = b"content" * 1000
NAME = f"segments/{blake3(CONTENT).hexdigest()}"


def _faulty(place: str, *plan: Fault) -> Faulty:
    return Faulty(MemoryRemote(f"memory://verify-{place}"), plan)


def test_what_was_flipped_on_the_way_back_is_not_returned() -> None:
    faulty = _faulty("get", Fault("get", Kind.FLIPPED))
    remote = Verified(faulty)
    assert remote.put(NAME, CONTENT)
    with pytest.raises(ObjectDamaged, match=NAME):
        remote.get(NAME)
    assert faulty.hits == [1]
    assert remote.get(NAME) == CONTENT
    assert remote.get(NAME, 7, 7) == b"content"


def test_what_was_cut_on_the_way_there_is_put_again() -> None:
    faulty = _faulty("cut", Fault("put", Kind.CUT))
    assert Verified(faulty).put(NAME, CONTENT)
    assert faulty.hits == [1]
    assert faulty.get(NAME) == CONTENT


def test_a_flipped_byte_is_seen_by_reading_back_only() -> None:
    blind = _faulty("blind", Fault("put", Kind.FLIPPED))
    assert Verified(blind, Look.SIZE).put(NAME, CONTENT)
    assert blind.get(NAME) != CONTENT
    seeing = _faulty("seeing", Fault("put", Kind.FLIPPED))
    assert Verified(seeing, Look.BYTES).put(NAME, CONTENT)
    assert seeing.get(NAME) == CONTENT


def test_a_remote_that_never_keeps_what_is_put_is_told_of_and_left_clean() -> None:
    faulty = _faulty("never", Fault("put", Kind.CUT, count=0))
    with pytest.raises(ObjectDamaged):
        Verified(faulty).put(NAME, CONTENT)
    assert faulty.sizes([NAME]) == {}


def test_what_an_earlier_put_left_damaged_is_replaced() -> None:
    inner = _faulty("earlier")
    inner.put(NAME, b"cut")
    assert Verified(inner).put(NAME, CONTENT)
    assert inner.get(NAME) == CONTENT


def test_a_name_that_another_took_stays_his() -> None:
    inner = _faulty("taken")
    inner.put("checkpoints/0000000000000001", b"his")
    assert not Verified(inner, Look.BYTES).put("checkpoints/0000000000000001", b"mine")
    assert inner.get("checkpoints/0000000000000001") == b"his"


def test_bytes_under_the_name_of_others_are_not_sent() -> None:
    inner = _faulty("wrong")
    with pytest.raises(ObjectDamaged):
        Verified(inner).put(NAME, b"other")
    assert inner.sizes([NAME]) == {}


def test_an_answer_that_was_lost_is_told_as_such() -> None:
    faulty = _faulty("answer", Fault("sizes", Kind.BEFORE))
    remote = Verified(faulty)
    with pytest.raises(RemoteUnreachable):
        remote.put(NAME, CONTENT)
    assert not remote.put(NAME, CONTENT)
    assert remote.get(NAME) == CONTENT
