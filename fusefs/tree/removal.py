"""The seam between the tree, which takes names away, and who decides what becomes of the objects.

A tree without a trash frees them (`Free`); the trash puts itself in that place.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from fusefs.errors import FusefsError
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

    def settle(self) -> None:
        """Called before an act takes a name away that is in the trash, or was until just now.

        Raises DiskFull, StoreError.
        """

    def left_trash(
        self, act: Act, parent: Inode, name: bytes, inode: Inode, caller: Caller
    ) -> None:
        """Called inside the act that renames `name` out of the directory `parent` of the trash.

        Raises Refused(EPERM).
        """

    def purged(self, act: Act, parent: Inode, name: bytes, inode: Inode, caller: Caller) -> None:
        """Called inside the act that deletes `name` from the directory `parent` of the trash.

        Raises Refused(EPERM).
        """

    def freed(self, act: Act, entry_number: int) -> None:
        """Called inside the act that frees the object of that entry of the trash."""

    def cannot_free(self, entry_number: int, error: FusefsError) -> None:
        """Called when the object of that entry cannot be freed."""

    def directory_moved(self) -> None:
        """Called after a live directory was renamed: paths have changed."""


class Free:
    """A removal without trash: what lost its last name is freed."""

    def __init__(self, free_if_unnamed: Callable[[Act, Inode], object]) -> None:
        self._free_if_unnamed = free_if_unnamed

    def removed(self, act: Act, what: Removed) -> None:
        self._free_if_unnamed(act, what.inode)

    def settle(self) -> None:
        """Never called: nothing is in the trash; so for the others."""

    def left_trash(
        self, act: Act, parent: Inode, name: bytes, inode: Inode, caller: Caller
    ) -> None: ...

    def purged(
        self, act: Act, parent: Inode, name: bytes, inode: Inode, caller: Caller
    ) -> None: ...

    def freed(self, act: Act, entry_number: int) -> None: ...

    def cannot_free(self, entry_number: int, error: FusefsError) -> None: ...

    def directory_moved(self) -> None:
        """Keeps no paths."""
