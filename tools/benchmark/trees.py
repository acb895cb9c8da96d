"""Workloads on whole trees, done by the programs that people use.

Each copies a tree of its own, with new content, so that none finds the bytes of another in a store.
The trees are made in the staging directory, and are in the page cache when read.
"""

import os
import random
import tarfile
from pathlib import Path

from benchmark.run import Run, Wrong, execute

#: Of the sizes of files: the median is 6 KiB, the mean some 20 KiB, as in a tree of sources.
_LOG_MEDIAN, _SIGMA = 8.75, 1.6
_LARGEST_BYTES = 4 << 20
_FILES_PER_DIRECTORY = 12
_FILES_PER_LINK = 60
_MTIME_NS = 1_500_000_000 * 10**9


def copy(run: Run) -> None:
    target = run.path / "copy"
    tree = _make_tree(run)
    with run.timed() as stretch:
        execute("cp", "-a", tree, target)
    _compare(tree, target)
    run.record("cp", stretch.seconds, stretch)
    if run.wants("rm"):
        with run.timed() as stretch:
            execute("rm", "-rf", target)
        if os.path.lexists(target):
            raise Wrong("the tree is still there after rm -rf")
        run.record("rm", stretch.seconds, stretch)


def unpack(run: Run) -> None:
    tree, archive = _make_tree(run), run.staging / "tree.tar"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as file:
        file.add(tree, arcname="tree")
    with run.timed() as stretch:
        execute("tar", "-x", "-f", archive, "-C", run.path)
    _compare(tree, run.path / "tree")
    run.record("tar", stretch.seconds, stretch)


def synchronize(run: Run) -> None:
    target = run.path / "copy"
    tree = _make_tree(run)
    for name in ("rsync", "rsync-again"):
        with run.timed() as stretch:
            execute("rsync", "-a", f"{tree}/", f"{target}/")
        _compare(tree, target)
        run.record(name, stretch.seconds, stretch)


def commit(run: Run) -> None:
    work = run.path / "work"
    environ = {
        # Neither settings nor lists of ignored names of this user.
        "HOME": str(run.staging),
        "XDG_CONFIG_HOME": str(run.staging),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_DIR": str(work / ".git"),
        "GIT_WORK_TREE": str(work),
        **{f"GIT_{who}_NAME": "bench" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_EMAIL": "bench@localhost" for who in ("AUTHOR", "COMMITTER")},
    }

    def git(*arguments: str) -> str:
        return execute("git", "-c", "gc.auto=0", "-C", work, *arguments, **environ)

    execute("cp", "-r", _make_tree(run), work)
    with run.timed() as stretch:
        git("init", "-q")
        git("add", "-A")
    run.record("git-add", stretch.seconds, stretch)
    with run.timed() as stretch:
        git("commit", "-q", "-m", "all")
    run.record("git-commit", stretch.seconds, stretch)
    with run.timed() as stretch:
        changed = git("status", "--porcelain")
    if changed:
        raise Wrong("git sees changes that nobody made")
    git("fsck", "--full")
    run.record("git-status", stretch.seconds, stretch)


def _make_tree(run: Run) -> Path:
    """A tree in nested directories, with links: each time the same but for the content."""
    files = run.sizes.tree_files
    chance = random.Random(files)
    top = run.staging / "tree"
    directories = [top]
    for number in range(files // _FILES_PER_DIRECTORY):
        directories.append(chance.choice(directories) / f"directory-{number}")
    for directory in directories:
        directory.mkdir()
    for number in range(files):
        path = chance.choice(directories) / f"file {number}.bin"
        size = int(chance.lognormvariate(_LOG_MEDIAN, _SIGMA))
        path.write_bytes(os.urandom(min(size, _LARGEST_BYTES)))
        path.chmod(chance.choice((0o644, 0o644, 0o755, 0o600)))
        os.utime(path, ns=(_MTIME_NS, _MTIME_NS + number))
        if number % _FILES_PER_LINK == 0:
            path.with_name(f"link {number}").symlink_to(path.name)
    return top


def _compare(tree: Path, copy: Path) -> None:
    originals = {path.relative_to(tree): path for path in tree.rglob("*")}
    if set(originals) != {path.relative_to(copy) for path in copy.rglob("*")}:
        raise Wrong("the copy of a tree has other names")
    for relative, path in originals.items():
        here, there = path.lstat(), (copy / relative).lstat()
        if here.st_mode != there.st_mode:
            raise Wrong(f"the copy of {relative} has another type or mode")
        if path.is_symlink():
            is_same = path.readlink() == (copy / relative).readlink()
        else:
            is_same = path.is_dir() or path.read_bytes() == (copy / relative).read_bytes()
        if not is_same:
            raise Wrong(f"the copy of {relative} has other content")
