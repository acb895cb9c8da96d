"""Each damage to one row of the index is told by its kind and its path, and nothing else is."""

import stat
from collections.abc import Callable, Iterator

import msgspec
import pytest

from fusefs.fsck.check import check
from fusefs.fsck.tables import Tables
from fusefs.model import dirent, entry, extent, keys
from fusefs.model.dirent import Dirent
from fusefs.model.entry import State
from fusefs.model.extent import HOLE, Extent
from fusefs.model.inode import IN_TRASH as TRASHED
from fusefs.model.totals import Totals
from fusefs.store.counters import Counters
from tests.unit.fsck.sample import (
    A_COOKIE,
    DOCS,
    EMPTY,
    EMPTY_COOKIE,
    HOUR,
    IN_TRASH,
    LAST_COOKIE,
    LINK,
    MIB,
    OLD,
    OLD_BATCH,
    OLD_ENTRY,
    ROOT,
    SPARSE,
    SUB,
    TWICE_COOKIE,
    A,
    B,
    Changes,
    Sample,
)

FILE, DIR, SYMLINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK
COUNTERS = keys.META + b"counters"
TOTALS = keys.META + b"totals"
BEHIND = 99  # no inode has this number

Case = tuple[Callable[[Sample], Changes], set[str]]


def name(parent: int, text: bytes, ino: int, kind: int, cookie: int) -> Changes:
    """Both rows of a name."""
    return {
        keys.name(parent, text): dirent.pack(Dirent(ino, kind, cookie)),
        keys.order(parent, cookie): dirent.pack_listed(ino, kind, text),
    }


def no_name(parent: int, text: bytes, cookie: int) -> Changes:
    return {keys.name(parent, text): None, keys.order(parent, cookie): None}


def extents(ino: int, *several: Extent) -> Changes:
    return {keys.extent(ino, one.offset): extent.pack(one) for one in several}


def trashed(sample: Sample, at: int = OLD_ENTRY, **fields: object) -> Changes:
    """The entry with other fields, at another number."""
    one = entry.unpack(sample.row(keys.entry(OLD_ENTRY)))
    return {keys.entry(at): entry.pack(msgspec.structs.replace(one, **fields))}


def counters(**fields: int) -> Changes:
    now = Counters(ino=SPARSE, block=5, cookie=LAST_COOKIE)
    return {COUNTERS: msgspec.msgpack.encode(msgspec.structs.replace(now, **fields))}


MALFORMED: dict[str, Case] = {
    "inode": (lambda s: {keys.inode(A): b"?"}, {"row /docs/a.txt"}),
    "inode of a later version": (
        lambda s: {keys.inode(A): b"\2" + s.row(keys.inode(A))[1:]},
        {"row /docs/a.txt"},
    ),
    "inode of a directory": (lambda s: {keys.inode(DOCS): b"?"}, {"row /docs"}),
    "inode of the root": (lambda s: {keys.inode(ROOT): b""}, {"row /"}),
    "inode key": (lambda s: {keys.inode(A) + b"x": b""}, {"row /docs/a.txt"}),
    "name": (lambda s: {keys.name(DOCS, b"a.txt"): b"?"}, {"row /docs/a.txt"}),
    "name of a directory": (lambda s: {keys.name(DOCS, b"sub"): b"?"}, {"row /docs/sub"}),
    "name of the trash": (lambda s: {keys.name(ROOT, b".trash"): b"?"}, {"row /.trash"}),
    "name in the trash": (lambda s: {keys.name(HOUR, b"old"): b"?"}, {f"row {IN_TRASH}"}),
    "name key": (lambda s: {b"n123": b""}, {"row index"}),
    "listing": (lambda s: {keys.order(DOCS, A_COOKIE): b"?"}, {"row /docs"}),
    "listing of nothing": (
        lambda s: {keys.order(DOCS, A_COOKIE): dirent.pack_listed(A, FILE, b"")},
        {"row /docs"},
    ),
    "directory key": (lambda s: {keys.directory(DOCS) + b"x": b"docs"}, {"row /docs"}),
    "target key": (lambda s: {keys.link(LINK) + b"x": b"docs"}, {"row /link"}),
    "attribute key": (lambda s: {keys.XATTR + b"12": b"docs"}, {"row index"}),
    "extent": (
        lambda s: {keys.extent(A, 0): b"?"},
        {"row /docs/a.txt", "references block 1"},
    ),
    "extent of nothing": (
        lambda s: extents(A, Extent(0, 0, 1, 0)),
        {"row /docs/a.txt", "references block 1"},
    ),
    "hole with a skip": (lambda s: extents(SPARSE, Extent(0, MIB, HOLE, 1)), {"row /sparse"}),
    "extent behind all files": (
        lambda s: extents(SPARSE, Extent((1 << 63) - 1, 2, HOLE, 0)),
        {"row /sparse"},
    ),
    "block": (lambda s: {keys.block(3): b"?"}, {"row block 3", "content /docs/sub/b"}),
    "record": (lambda s: {keys.corruption(3): b"?"}, {"row block 3"}),
    "record key": (lambda s: {keys.corruption(3) + b"x": b""}, {"row block 3"}),
    "record of another block": (lambda s: s.record(1, at=2), {"row block 2"}),
    "scrub": (lambda s: {keys.setting("scrub"): b"?"}, {"row index"}),
    "block of 4 GiB": (
        lambda s: s.block(3, stored=(1 << 32) - 1),
        {"row block 3", "content /docs/sub/b"},
    ),
    "block in the header": (
        lambda s: s.block(3, offset=3),
        {"row block 3", "content /docs/sub/b"},
    ),
    "block without some leaf": (
        lambda s: s.block(1, leaves=bytes(8)),
        {"row block 1", "content /docs/a.txt"},
    ),
    "entry": (lambda s: {keys.entry(OLD_ENTRY): b"\xc1"}, {f"row {IN_TRASH}"}),
    "entry of other types": (
        lambda s: {keys.entry(OLD_ENTRY): msgspec.msgpack.encode(["a", 1])},
        {f"row {IN_TRASH}"},
    ),
    "entry in an unknown state": (
        lambda s: {
            keys.entry(OLD_ENTRY): s.row(keys.entry(OLD_ENTRY)).replace(b"e-pending", b"e-unheard")
        },
        {f"row {IN_TRASH}"},
    ),
    "entry of a negative inode": (lambda s: trashed(s, ino=-1), {f"row {IN_TRASH}"}),
    "entry under another number": (lambda s: trashed(s, at=77), {"row entry 77"}),
    "orphan": (
        lambda s: {keys.orphan(A): b"x"},
        {"row /docs/a.txt", "orphan /docs/a.txt"},
    ),
    "counters": (lambda s: {COUNTERS: b"\xc1"}, {"row index"}),
    "position": (lambda s: {keys.META + b"position": b"\xc1"}, {"row index"}),
    "negative position": (
        lambda s: {keys.META + b"position": msgspec.msgpack.encode((-1, -1))},
        {"row index"},
    ),
    "unknown table": (lambda s: {b"~who": b"", b"\xff": b""}, {"row index"}),
}

NAMES: dict[str, Case] = {
    "leads nowhere": (
        lambda s: name(ROOT, b"empty", BEHIND, FILE, EMPTY_COOKIE),
        {"name /empty", f"orphan inode {EMPTY}"},
    ),
    "inode is gone": (
        lambda s: {keys.inode(EMPTY): None},
        {"name /empty", f"xattr inode {EMPTY}"},
    ),
    "type differs": (
        lambda s: name(ROOT, b"empty", EMPTY, SYMLINK, EMPTY_COOKIE),
        {"name /empty"},
    ),
    "in no directory": (
        lambda s: (
            no_name(ROOT, b"empty", EMPTY_COOKIE) | name(BEHIND, b"e", EMPTY, FILE, EMPTY_COOKIE)
        ),
        {f"name inode {BEHIND}/e"},
    ),
    "in a file": (
        lambda s: no_name(ROOT, b"empty", EMPTY_COOKIE) | name(A, b"e", EMPTY, FILE, EMPTY_COOKIE),
        {"name /docs/a.txt/e"},
    ),
    "in a removed directory": (
        lambda s: {keys.orphan(DOCS): b""},
        {"name /docs/a.txt", "name /docs/sub", "name /docs/twice", "orphan /docs"},
    ),
    "not listed": (lambda s: {keys.order(DOCS, A_COOKIE): None}, {"listing /docs/a.txt"}),
    "listed otherwise": (
        lambda s: {keys.order(DOCS, A_COOKIE): dirent.pack_listed(B, FILE, b"a.txt")},
        {"listing /docs/a.txt"},
    ),
    "only listed": (
        lambda s: {keys.name(DOCS, b"a.txt"): None},
        {"listing /docs/a.txt", f"orphan inode {A}"},
    ),
    "none left": (
        lambda s: no_name(ROOT, b"empty", EMPTY_COOKIE),
        {f"orphan inode {EMPTY}"},
    ),
    "one link too many": (lambda s: s.inode(B, nlink=3), {"links /docs/sub/b"}),
    "one directory too few": (lambda s: s.inode(DOCS, nlink=2), {"links /docs"}),
    "directory without its name": (
        lambda s: {keys.directory(SUB): None},
        {"directory /docs/sub"},
    ),
    "directory with another name": (
        lambda s: {keys.directory(SUB): b"other"},
        {"directory /docs/sub"},
    ),
    "directory with another parent": (
        lambda s: s.inode(SUB, parent=ROOT),
        {"directory /docs/sub"},
    ),
    "name of a directory that is none": (
        lambda s: {keys.directory(A): b"a.txt"},
        {"directory /docs/a.txt"},
    ),
    "name of a directory that is gone": (
        lambda s: {keys.directory(BEHIND): b"gone"},
        {f"directory inode {BEHIND}"},
    ),
    "directory inside itself": (
        lambda s: (
            no_name(ROOT, b"docs", 4)
            | name(SUB, b"docs", DOCS, DIR, 4)
            | s.inode(DOCS, parent=SUB)
            | s.inode(SUB, nlink=3)
            | s.inode(ROOT, nlink=2)
        ),
        {f"directory inode {DOCS}"},
    ),
    "no root": (
        lambda s: {keys.inode(ROOT): None},
        {"directory /", "name /docs", "name /link", "name /empty", "name /sparse"},
    ),
    "no trash": (lambda s: {keys.name(ROOT, b".trash"): None}, {"name /.trash"}),
    "trash elsewhere": (
        lambda s: {keys.name(ROOT, b".trash"): dirent.pack(Dirent(DOCS, DIR, 0))},
        {"name /.trash", "listing /.trash", "directory /.trash", "links /"},
    ),
    "orphan that is gone": (lambda s: {keys.orphan(BEHIND): b""}, {f"orphan inode {BEHIND}"}),
    "orphan with a name": (lambda s: {keys.orphan(EMPTY): b""}, {"orphan /empty"}),
}

TRASH: dict[str, Case] = {
    "no entry": (
        lambda s: {keys.entry(OLD_ENTRY): None},
        {f"links {IN_TRASH}", f"trash entry {OLD_ENTRY}", f"trash batch {OLD_BATCH}"},
    ),
    "miscounted": (lambda s: s.inode(OLD, trash_names=2), {f"links {IN_TRASH}"}),
    "inode is gone": (
        lambda s: {keys.inode(OLD): None},
        {f"name {IN_TRASH}", "trash /old", f"extent {IN_TRASH}"},
    ),
    "entry of nothing": (lambda s: trashed(s, at=77, number=77), {"trash /old"}),
    "entry of another name": (lambda s: trashed(s, name=b"other"), {"trash /old"}),
    "entry of another inode": (lambda s: trashed(s, ino=A), {"trash /old"}),
    "entry of another state": (
        lambda s: trashed(s, state=State.ERROR),
        {"trash /old", f"trash batch {OLD_BATCH}"},
    ),
    "entry without a past": (lambda s: trashed(s, history=()), {"trash /old"}),
    "entry of an endless name": (lambda s: trashed(s, name=b"n" * 999), {"trash /old"}),
    "directory outside": (lambda s: s.inode(DOCS, flags=TRASHED), {"trash /docs"}),
}

CONTENTS: dict[str, Case] = {
    "no first extent": (
        lambda s: {keys.extent(A, 0): None},
        {"extent /docs/a.txt", "references block 1"},
    ),
    "no last extent": (
        lambda s: {keys.extent(A, MIB): None},
        {"extent /docs/a.txt", "references block 2"},
    ),
    "no extent at all": (
        lambda s: {keys.extent(B, 0): None},
        {"extent /docs/sub/b", "references block 3"},
    ),
    "no hole": (lambda s: {keys.extent(SPARSE, 0): None}, {"extent /sparse"}),
    "overlap": (
        lambda s: extents(SPARSE, Extent(0, MIB + 1, HOLE, 0)),
        {"extent /sparse"},
    ),
    "across a multiple of 1 MiB": (
        lambda s: (
            {keys.extent(SPARSE, MIB): None, keys.extent(SPARSE, MIB + 4): None}
            | extents(
                SPARSE,
                Extent(0, MIB - 2, HOLE, 0),
                Extent(MIB - 2, 4, 5, 0),
                Extent(MIB + 2, 2 * MIB - 2, HOLE, 0),
            )
        ),
        {"extent /sparse"},
    ),
    "behind the end of its block": (
        lambda s: extents(B, Extent(0, 12, 3, 1)),
        {"extent /docs/sub/b"},
    ),
    "no block": (lambda s: {keys.block(3): None}, {"extent /docs/sub/b"}),
    "size": (lambda s: s.inode(A, stored_size=MIB), {"extent /docs/a.txt"}),
    "size of an empty file": (lambda s: s.inode(EMPTY, stored_size=1), {"extent /empty"}),
    "bytes of data": (lambda s: s.inode(A, blocks_bytes=1), {"extent /docs/a.txt"}),
    "extents of a directory": (
        lambda s: extents(DOCS, Extent(0, 9, HOLE, 0)),
        {"extent /docs"},
    ),
    "extents of nothing": (
        lambda s: extents(BEHIND, Extent(0, 9, HOLE, 0)),
        {f"extent inode {BEHIND}"},
    ),
    "too many references": (lambda s: s.block(1, refs=2), {"references block 1"}),
    "too few references": (lambda s: s.block(1, refs=0), {"references block 1"}),
    "record of nothing": (lambda s: s.record(BEHIND), {f"record block {BEHIND}"}),
    "record of what nothing needs": (
        lambda s: s.record(1) | s.block(1, refs=0),
        {"record block 1", "references block 1"},
    ),
    "no target": (lambda s: {keys.link(LINK): None}, {"link /link"}),
    "shorter target": (lambda s: {keys.link(LINK): b"docs"}, {"link /link"}),
    "target of a file": (lambda s: {keys.link(A): b"docs"}, {"link /docs/a.txt"}),
    "target of nothing": (lambda s: {keys.link(BEHIND): b"docs"}, {f"link inode {BEHIND}"}),
    "hidden attribute": (lambda s: s.inode(EMPTY, flags=0), {"xattr /empty"}),
    "attribute of nothing": (
        lambda s: {keys.xattr(BEHIND, b"user.a"): b""},
        {f"xattr inode {BEHIND}"},
    ),
}

BOOKS: dict[str, Case] = {
    "ino": (lambda s: counters(ino=SPARSE - 1), {"counters index"}),
    "block": (lambda s: counters(block=4), {"counters index"}),
    "cookie": (lambda s: counters(cookie=LAST_COOKIE - 1), {"counters index"}),
    "totals": (lambda s: {TOTALS: msgspec.msgpack.encode(Totals())}, {"totals index"}),
    "totals that do not decode": (lambda s: {TOTALS: b"\xc1"}, {"row index"}),
}


def cases(**groups: dict[str, Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("damage", "expected"),
        [
            pytest.param(*case, id=f"{group}: {title}")
            for group, several in groups.items()
            for title, case in several.items()
        ],
    )


@cases(malformed=MALFORMED, name=NAMES, trash=TRASH, contents=CONTENTS, books=BOOKS)
def test_one_damage_is_told_as_what_it_is(
    sample: Sample, damage: Callable[[Sample], Changes], expected: set[str]
) -> None:
    sample.change(damage(sample))
    assert sample.problems() == expected


@pytest.mark.parametrize("read_data", [False, True])
def test_a_sound_store_has_no_problems(sample: Sample, read_data: bool) -> None:
    report = check(sample.path, read_data)
    assert (report.problems, report.torn, report.replayed) == ((), "", 0)
    assert (report.inodes, report.blocks, report.segments) == (11, 5, 2)


def test_counters_as_they_should_be_are_no_problem(sample: Sample) -> None:
    sample.change(counters())
    assert sample.problems() == set()


@pytest.mark.parametrize(
    ("text", "more"),
    [
        (b"a/b", set()),
        (b"a\0b", set()),
        (b".", set()),
        (b"..", set()),
        (b"", {"row /docs"}),
        (b"n" * 256, {"row /docs"}),
    ],
)
def test_a_name_that_no_file_can_have(sample: Sample, text: bytes, more: set[str]) -> None:
    gone: Changes = {keys.name(DOCS, b"twice"): None}
    sample.change(gone | name(DOCS, text, B, FILE, TWICE_COOKIE))
    assert sample.problems() == {"name /docs/" + text.decode()} | more


def test_a_malformed_row_is_told_with_its_table_and_numbers(sample: Sample) -> None:
    sample.change({keys.extent(A, MIB): b"?", keys.name(DOCS, b"\xff\n"): b"?"})
    told = {p.message.partition(" does")[0] for p in check(sample.path, False).problems}
    assert {f"row e {A} {MIB}", f"row n {DOCS} '\\xff\\n'"} <= told


def test_much_damage_is_named_without_listing_all_names_for_each(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    listings = 0
    plain = Tables.listing

    def counted(self: Tables) -> Iterator[tuple[int, int, int, int, bytes]]:
        nonlocal listings
        listings += 1
        return plain(self)

    monkeypatch.setattr(Tables, "listing", counted)
    sample.change({keys.inode(ino): b"?" for ino in (A, B, LINK, EMPTY, OLD, SPARSE)})
    assert sample.problems() == {
        f"row {path}"
        for path in ("/docs/a.txt", "/docs/sub/b", "/link", "/empty", IN_TRASH, "/sparse")
    }
    assert listings == 2  # one for the map, one for the check of the listing itself
