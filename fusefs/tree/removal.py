"""The seam between the tree, which takes names away, and who decides what becomes of the objects.

A tree without a trash frees them (`Free`); the trash puts itself in that place.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from fusefs.model.entry import Cause
from fusefs.model.inode import Inode
from fusefs.tree.act import Act


class Caller(NamedTuple):
    """Who makes a system call."""

    uid: int
    gid: int
    pid: int


class Removed(NamedTuple):
    """A name that an act takes away: `inode` lost the name `name` in `parent`."""

    parent: Inode
    name: bytes
    inode: Inode
    cause: Cause
    caller: Caller


class Removal(Protocol):
    """What becomes of an object that lost a name."""

    def removed(self, act: Act, what: Removed) -> None:
        """Called inside the act, after the name's rows were deleted and `nlink` was lowered."""

    def left_trash(self, act: Act, parent: Inode, name: bytes, inode: Inode) -> None:
        """Called inside the act that renames `name` out of the directory `parent` of the trash."""

    def purged(self, act: Act, parent: Inode, name: bytes, inode: Inode) -> None:
        """Called inside the act that deletes `name` from the directory `parent` of the trash."""

    def directory_moved(self) -> None:
        """Called after a live directory was renamed: paths have changed."""


class Free:
    """A removal without trash: what lost its last name is freed."""

    def __init__(self, free_if_unnamed: Callable[[Act, Inode], object]) -> None:
        self._free_if_unnamed = free_if_unnamed

    def removed(self, act: Act, what: Removed) -> None:
        self._free_if_unnamed(act, what.inode)

    def left_trash(self, act: Act, parent: Inode, name: bytes, inode: Inode) -> None:
        """Never called: nothing is in the trash."""

    def purged(self, act: Act, parent: Inode, name: bytes, inode: Inode) -> None:
        """Never called: nothing is in the trash."""

    def directory_moved(self) -> None:
        """Keeps no paths."""
