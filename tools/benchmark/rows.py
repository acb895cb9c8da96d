"""What is measured: the rows of the table, and how much is done for each."""

from dataclasses import dataclass

MIB = 1 << 20
#: What the random rows read and write at a time.
PAGE = 4096


@dataclass(frozen=True)
class Sizes:
    """How much is done. `file_mib` is the length of the large files, `overwritten_mib` that of the
    one that random-write changes; both in MiB, the others are counts."""

    file_mib: int
    overwritten_mib: int
    random_accesses: int
    syncs: int
    directories: int
    files_each: int
    tree_files: int

    @property
    def small_files(self) -> int:
        return self.directories * self.files_each

    @property
    def room_bytes(self) -> int:
        """What one workload takes at most at a time: two large files, and a third to spare."""
        return 3 * self.file_mib * MIB

    @property
    def memory_bytes(self) -> int:
        """Content is made before the clock starts, and is in memory until it is compared."""
        return self.file_mib * MIB + 128 * MIB


FULL = Sizes(1024, 256, 5000, 200, 50, 100, 2000)
QUICK = Sizes(16, 8, 200, 20, 4, 25, 100)


@dataclass(frozen=True)
class Row:
    """`unit` says which way is better, see `is_rate`; `programs` must be installed; `needs_drop`:
    means nothing unless the kernel's caches can be dropped, which root alone can do."""

    name: str
    unit: str
    text: str
    programs: tuple[str, ...] = ()
    needs_drop: bool = False

    @property
    def is_rate(self) -> bool:
        """Whether more is better; times are better when they are less."""
        return self.unit.endswith("/s")


_ROWS = (
    Row("write-1m", "MiB/s", "write 1 GiB, 1 MiB at a time, fsync, close"),
    Row("write-again", "MiB/s", "the same bytes once more to another file (deduplication)"),
    Row("read-cold", "MiB/s", "read that GiB, 1 MiB at a time, with cold caches"),
    Row("read-warm", "MiB/s", "the same again at once: the page cache as far as memory goes"),
    Row("random-read", "reads/s", "4 KiB at random places of it, one at a time, cold caches"),
    Row("write-128k", "MiB/s", "write another GiB, 128 KiB at a time, fsync, close"),
    Row("random-write", "writes/s", "4 KiB at random places of 256 MiB, one fsync at the end"),
    Row("fsync", "ms", "append 4 KiB and fsync: the median of 200"),
    Row("busy-lookup", "ms", "look up a new name while another process writes: p99"),
    Row("create", "files/s", "open, write 4 KiB, close 5000 new files in 50 directories, no fsync"),
    Row("stat-cold", "files/s", "stat each by its path, with cold caches", needs_drop=True),
    Row("stat", "files/s", "the same again at once: the kernel's cached names, where it may"),
    Row("list-cold", "files/s", "list the directories and stat each entry, cold", needs_drop=True),
    Row("list", "files/s", "the same again at once"),
    Row("read-small", "files/s", "open, read, close each, with cold caches"),
    Row("rename", "files/s", "rename each, every other one into another directory, no fsync"),
    Row("unlink", "files/s", "remove each (in a fusefs: into the trash), no fsync"),
    Row("cp", "s", "cp -a of a tree of 2000 files, 40 MiB, no fsync", ("cp",)),
    Row("rm", "s", "rm -rf of that copy", ("cp", "rm")),
    Row("tar", "s", "tar -x of another such tree, no fsync", ("tar",)),
    Row("rsync", "s", "rsync -a of another such tree, no fsync", ("rsync",)),
    Row("rsync-again", "s", "the same at once, when nothing has changed", ("rsync",)),
    Row("git-add", "s", "git init, git add of another such tree", ("git",)),
    Row("git-commit", "s", "git commit of it", ("git",)),
    Row("git-status", "s", "git status of it, at once: warm caches", ("git",)),
)
#: By name, in the order in which they are measured.
ROWS = {row.name: row for row in _ROWS}
