"""The kernel's lookup counts, in little memory."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fusefs.fuse.references import References


def test_an_inode_is_referenced_until_all_of_it_is_forgotten() -> None:
    references = References()
    for _ in range(3):
        references.add(5)
    references.drop(5, 2)
    assert references.has(5)
    assert not references.has(4)
    references.drop(5, 1)
    assert not references.has(5)


def test_what_was_never_known_may_be_forgotten() -> None:
    references = References()
    references.drop(7, 1)  # of a kernel that knew it from before a restart
    references.add(8)
    references.drop(8, 1000)
    references.add(8)
    assert references.has(8)
    assert not references.has(7)


def test_forgotten_inodes_take_no_memory() -> None:
    references = References()
    for ino in range(5000):
        references.add(ino)
    for ino in range(5000):
        references.drop(ino, 1)
    assert references._chunks == {}


@given(st.lists(st.tuples(st.sampled_from([1, 2, 1023, 1024, 1 << 60]), st.integers(0, 3))))
def test_counts_are_those_of_a_counter(changes: list[tuple[int, int]]) -> None:
    references, model = References(), Counter[int]()
    for ino, dropped in changes:
        if dropped:
            references.drop(ino, dropped)
            model[ino] = max(0, model[ino] - dropped)
        else:
            references.add(ino)
            model[ino] += 1
        assert all(references.has(ino) == (model[ino] > 0) for ino, _ in changes)
