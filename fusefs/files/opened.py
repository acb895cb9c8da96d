"""A file that is open, and the handles that share it; kept by `files`."""

from fusefs.files.ahead import Ahead, Coming
from fusefs.files.waiting import Waiting
from fusefs.model.inode import Inode


class OpenFile:
    """What all handles of one file share."""

    __slots__ = (
        "coming", "handles", "inode", "is_live", "next_read", "prefetched", "waiting", "writers",
    )  # fmt: skip

    def __init__(self, inode: Inode, ahead: Ahead) -> None:
        self.inode = inode
        self.waiting = Waiting()
        self.coming = Coming(ahead)  # of what waits
        self.handles = self.writers = 0
        self.is_live = False  # opened while it had a name: may be written even in the trash
        self.next_read = self.prefetched = 0


class Handle:
    """One open(2), by the process or thread `pid`. `is_cut_off`: it may not write any more."""

    __slots__ = ("file", "is_cut_off", "is_writer", "pid")

    def __init__(self, file: OpenFile, is_writer: bool, pid: int) -> None:
        self.file = file
        self.is_cut_off = False
        self.is_writer = is_writer
        self.pid = pid
