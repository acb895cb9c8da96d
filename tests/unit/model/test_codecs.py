"""Rows of the index come back as the values that they were made of."""

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusefs.model import dirent, entry, extent, keys, scrub
from fusefs.model.block import Block
from fusefs.model.dirent import Dirent
from fusefs.model.entry import Cause, Entry, Stamp, State
from fusefs.model.extent import Extent
from fusefs.model.inode import Inode
from fusefs.model.scrub import Pass

U8, U32, U64 = (st.integers(0, (1 << bits) - 1) for bits in (8, 32, 64))
TIME = st.integers(-(1 << 63), (1 << 63) - 1)
NAME = st.binary(min_size=1, max_size=255)


@given(st.builds(Block, U64, U32, U32, U32, U8, st.binary(min_size=32, max_size=32), U32))
def test_a_block_comes_back(block: Block) -> None:
    assert Block.unpack(block.pack()) == block


@given(st.builds(Dirent, U64, U32, U64))
def test_a_name_comes_back(one: Dirent) -> None:
    assert dirent.unpack(dirent.pack(one)) == one


@given(U64, U32, NAME)
def test_a_listed_name_comes_back(ino: int, kind: int, name: bytes) -> None:
    assert dirent.unpack_listed(dirent.pack_listed(ino, kind, name)) == (ino, kind, name)


@given(st.builds(Extent, U64, U64, U64, U32))
def test_an_extent_comes_back(one: Extent) -> None:
    assert extent.unpack(one.offset, extent.pack(one)) == one


HISTORY = st.lists(st.builds(Stamp, st.sampled_from(State), TIME, st.text())).map(tuple)
PLACE = st.tuples(U32, U32, U32, U32, NAME, st.binary())
REMOVAL = st.tuples(U32, st.binary(), TIME, st.sampled_from(Cause), st.sampled_from(State))


@given(
    st.builds(
        lambda place, removal, history: Entry(*place, *removal, history), PLACE, REMOVAL, HISTORY
    )
)
def test_an_entry_of_the_trash_comes_back(one: Entry) -> None:
    assert entry.unpack(entry.pack(one)) == one


def test_a_row_that_is_no_entry_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        entry.unpack(b"\x93\x01\x02\x03")


@given(st.data())
def test_an_inode_comes_back_with_the_stored_size(data: st.DataObject) -> None:
    inode = Inode(data.draw(U64), 0, 0, 0, 0)
    for field in ("mode", "uid", "gid", "nlink", "rdev", "flags", "trash_names"):
        setattr(inode, field, data.draw(U32))
    for field in ("stored_size", "blocks_bytes", "parent"):
        setattr(inode, field, data.draw(U64))
    for field in ("atime", "mtime", "ctime", "btime"):
        setattr(inode, field, data.draw(TIME))
    inode.size = inode.stored_size + 5  # what waits in memory is not in the row
    found = Inode.unpack(inode.ino, inode.pack())
    inode.size = inode.stored_size
    for field in Inode.__slots__:
        assert getattr(found, field) == getattr(inode, field), field


def test_an_inode_of_another_version_is_refused() -> None:
    row = Inode(3, 0o100644, 0, 0, 0).pack()
    with pytest.raises(ValueError, match="version 2"):
        Inode.unpack(3, b"\x02" + row[1:])
    with pytest.raises(struct.error):
        Inode.unpack(3, row[:-1])


@given(U64, U64, U64, U64)
def test_keys_sort_as_their_numbers_do(ino: int, other: int, second: int, third: int) -> None:
    for one in (keys.inode, keys.block, keys.entry, keys.orphan, keys.directory, keys.link):
        assert (one(ino) < one(other)) == (ino < other)
        assert keys.number(one(ino)) == ino
    for two in (keys.extent, keys.order):
        assert (two(ino, second) < two(other, third)) == ((ino, second) < (other, third))
        assert (keys.number(two(ino, second)), keys.second(two(ino, second))) == (ino, second)


@given(U64, NAME, U64, NAME)
def test_names_of_one_directory_stand_together(a: int, one: bytes, b: int, two: bytes) -> None:
    for key in (keys.name, keys.xattr):
        assert (key(a, one) < key(b, two)) == ((a, one) < (b, two))
        assert keys.number(key(a, one)) == a
        assert key(a, one)[9:] == one


def test_a_pass_that_was_noted_before_healed_blocks_were_counted_goes_on() -> None:
    row = msgspec.msgpack.encode([5, 0, 7, 3, 300, 2])
    assert scrub.unpack(row) == Pass(5, 0, 7, blocks=3, read_bytes=300, damaged=2, healed=0)
