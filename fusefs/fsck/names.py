"""Do names and inodes fit together?

Every name has its inode and every inode its names; directories know where they are; link counts
are right. Where a row does not decode (that was told already), what depends on it is passed over.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from fusefs.base.counts import Counts
from fusefs.fsck.problem import Places, Problem
from fusefs.fsck.tables import Tables
from fusefs.model import keys
from fusefs.model.dirent import Dirent
from fusefs.model.inode import IN_TRASH, ROOT_INO, TRASH_INO, Inode
from fusefs.tree.tree import NAME_MAX, TRASH_NAME


@dataclass
class _NameCounts:
    """What the names say, to be compared with what the inodes say."""

    live_names: Counts = field(default_factory=Counts)
    trash_names: Counts = field(default_factory=Counts)
    subdirectories: Counts = field(default_factory=Counts)


def names(tables: Tables, places: Places) -> Iterator[Problem]:
    """Every misfit among names and inodes."""
    counts = _NameCounts()
    yield from _roots(tables)
    yield from _by_name(tables, places, counts)
    yield from _listed(tables, places, counts)
    yield from _own_names(tables, places)
    yield from _inodes(tables, places, counts)
    yield from _orphans(tables)
    yield from _cycles(tables, places)


def _roots(tables: Tables) -> Iterator[Problem]:
    if not tables.has_any(keys.INODE):
        return  # never mounted
    if not tables.has(keys.inode(ROOT_INO)):
        yield Problem("directory", "/", "the root does not exist")
    trash = keys.name(ROOT_INO, TRASH_NAME)
    found = tables.dirent(ROOT_INO, TRASH_NAME)
    if not tables.has(trash) or (found and found != Dirent(TRASH_INO, stat.S_IFDIR, 0)):
        yield Problem("name", "/.trash", "does not lead to the trash")


def _by_name(tables: Tables, places: Places, counts: _NameCounts) -> Iterator[Problem]:
    last, wrong_parent = -1, ""
    for parent, name, found in tables.names():
        if parent != last:
            last, wrong_parent = parent, _wrong_parent(tables, parent)
        if (parent, name, found.ino) == (ROOT_INO, TRASH_NAME, TRASH_INO):
            continue  # the one name that is not listed and not counted
        for kind, message in _misfits(tables, parent, name, found):
            yield Problem(kind, places.named(parent, name), message)
        if wrong_parent:
            yield Problem("name", places.named(parent, name), wrong_parent)
        _count(tables, counts, parent, found)


def _count(tables: Tables, counts: _NameCounts, parent: int, found: Dirent) -> None:
    is_dir = found.kind == stat.S_IFDIR
    if is_dir:
        counts.subdirectories.add(parent)
    is_entry = not is_dir and tables.has(keys.entry(found.cookie))
    (counts.trash_names if is_entry else counts.live_names).add(found.ino)


def _wrong_parent(tables: Tables, parent: int) -> str:
    inode = tables.inode(parent)
    if inode is None:
        is_there = tables.has(keys.inode(parent))
        return "" if is_there else f"lies in directory {parent}, which does not exist"
    if not inode.is_dir:
        return f"lies in inode {parent}, which is no directory"
    if tables.has(keys.orphan(parent)):
        return f"lies in directory {parent}, which was removed"
    return ""


def _misfits(tables: Tables, parent: int, name: bytes, found: Dirent) -> Iterator[tuple[str, str]]:
    """(kind, message) of what is wrong with one name."""
    if not 0 < len(name) <= NAME_MAX or name in (b".", b"..") or b"/" in name or b"\0" in name:
        yield "name", "is no name that a file can have"
    listed = tables.listed(parent, found.cookie)
    if listed != (found.ino, found.kind, name) and (
        listed or not tables.has(keys.order(parent, found.cookie))
    ):
        yield "listing", "is not listed in its directory"
    inode = tables.inode(found.ino)
    if inode is None:
        if not tables.has(keys.inode(found.ino)):
            yield "name", f"names inode {found.ino}, which does not exist"
    elif stat.S_IFMT(inode.mode) != found.kind:
        yield "name", "names an inode of another type"
    elif inode.is_dir:
        yield from _misplaced(tables, parent, name, inode)


def _misplaced(tables: Tables, parent: int, name: bytes, inode: Inode) -> Iterator[tuple[str, str]]:
    own_name = tables.get(keys.directory(inode.ino))
    if inode.parent != parent or own_name != name:
        yield "directory", "does not know its own name and parent"
    above = tables.inode(parent)
    if above is None or inode.flags & IN_TRASH == above.flags & IN_TRASH:
        return
    if inode.flags & IN_TRASH:
        # Of a directory that is taken back the marks go from the top down.
        if not any(tables.has(keys.revival(one.ino)) for one in _upwards(tables, inode)):
            yield "trash", "is marked as a part of the trash, and lies outside of it"
    elif any(one.ino == TRASH_INO for one in _upwards(tables, above)):
        yield "trash", "lies in the trash, and is not marked as a part of it"


def _upwards(tables: Tables, directory: Inode) -> Iterator[Inode]:
    """A directory and those that it is in, up to the root, or to where that cannot be told."""
    above: Inode | None = directory
    passed = {ROOT_INO}
    while above is not None and above.ino not in passed:
        yield above
        passed.add(above.ino)
        above = tables.inode(above.parent)


def _listed(tables: Tables, places: Places, counts: _NameCounts) -> Iterator[Problem]:
    for parent, cookie, ino, kind, name in tables.listing():
        by_name = tables.dirent(parent, name)
        if by_name is None and tables.has(keys.name(parent, name)):
            _count(tables, counts, parent, Dirent(ino, kind, cookie))
        elif by_name is None or by_name.cookie != cookie:
            message = f"is listed (inode {ino}) but cannot be looked up"
            yield Problem("listing", places.named(parent, name), message)


def _own_names(tables: Tables, places: Places) -> Iterator[Problem]:
    for ino, _, name in tables.of_inodes(keys.DIRECTORY):
        inode = tables.inode(ino)
        if inode is None and not tables.has(keys.inode(ino)):
            message = f"is called {os.fsdecode(name)}, but does not exist"
            yield Problem("directory", f"inode {ino}", message)
        elif inode and not inode.is_dir:
            yield Problem("directory", places.path(ino), "is no directory, and known as one")


def _inodes(tables: Tables, places: Places, counts: _NameCounts) -> Iterator[Problem]:
    for inode in tables.inodes():
        ino = inode.ino
        live, trashed = counts.live_names.of(ino), counts.trash_names.of(ino)
        is_orphan = tables.has(keys.orphan(ino))
        if is_orphan and (live or trashed):
            message = "is marked to be freed, but has a name"
            yield Problem("orphan", places.path(ino), message)
        elif not (live or trashed or is_orphan or ino in (ROOT_INO, TRASH_INO)):
            message = "has no name and is not marked to be freed"
            yield Problem("orphan", f"inode {ino}", message)
        elif inode.is_dir:
            expected = 2 + counts.subdirectories.of(ino)
            if inode.nlink != expected and not is_orphan:
                message = f"has {inode.nlink} links, should have {expected}"
                yield Problem("links", places.path(ino), message)
        elif (inode.nlink, inode.trash_names) != (live, trashed):
            message = (
                f"counts {inode.nlink} names and {inode.trash_names} in the trash,"
                f" has {live} and {trashed}"
            )
            yield Problem("links", places.path(ino), message)


def _orphans(tables: Tables) -> Iterator[Problem]:
    for ino, _, _ in tables.of_inodes(keys.ORPHAN):
        if not tables.has(keys.inode(ino)):
            yield Problem("orphan", f"inode {ino}", "is marked to be freed, but does not exist")


def _cycles(tables: Tables, places: Places) -> Iterator[Problem]:
    """Directories that are inside themselves: nobody gets to them from the root.

    A way up that ends elsewhere was told by the names on it.
    """
    known = {ROOT_INO}
    for inode in tables.inodes():
        if not inode.is_dir or tables.has(keys.orphan(inode.ino)):
            continue
        way: dict[int, None] = {}
        above: Inode | None = inode
        while above is not None and above.is_dir and above.ino not in known:
            if above.ino in way:
                cycle = list(way)[list(way).index(above.ino) :]
                message = f"is inside itself: directories {', '.join(map(str, cycle))}"
                yield Problem("directory", places.path(above.ino), message)
                break
            way[above.ino] = None
            above = tables.inode(above.parent)
        known.update(way)
