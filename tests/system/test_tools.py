"""Programs that people use every day do their work in the mount, and find nothing odd there."""

import json
import multiprocessing
import os
import random
import re
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import COMMAND_TIMEOUT_S, Mounted, fusefs

pytestmark = pytest.mark.mount
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs to be root")

MIB = 1 << 20
#: Set on what a tool must keep: a whole second, and one with nanoseconds.
TIMES_NS = (1_000_000_000 * 10**9, 1_234_567_890_123_456_789)


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {' '.join(missing)}")


def run(
    *command: str | Path, cwd: Path | None = None, environ: dict[str, str] | None = None
) -> str:
    """Run a program, which must succeed; returns its output."""
    done = subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C", **(environ or {})},
        timeout=COMMAND_TIMEOUT_S,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(autouse=True)
def _fsck(mounted: Mounted) -> Iterator[None]:
    """The store must be sound at the end."""
    yield
    mounted.umount()
    assert json.loads(fusefs("fsck", "--json", "--read-data", mounted.store))["problems"] == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with one of everything."""
    top = tmp_path / "tree"
    for directory in ("", "plain", "plain/deep/er", "empty", "odd", "closed"):
        (top / directory).mkdir(parents=True, exist_ok=True)
    for number in range(120):
        size = (0, 1, 500, 4096, 70_000)[number % 5]
        (top / f"plain/{number}").write_bytes(random.Random(number).randbytes(size))
    (top / "plain/deep/er/large").write_bytes(random.Random(0).randbytes(3 * MIB + 17))
    for number in range(10):
        os.link(top / f"plain/{number}", top / f"odd/hard link {number}")
    with (top / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(50 * MIB)
        file.write(b"end")
        file.truncate(90 * MIB)
    for name in (b"-rf", b" ", b"a\nb\t", b"\xff\xfe", b"*?[a]", b"quote\"'", b"x" * 255, b"\\n"):
        Path(os.fsdecode(os.fsencode(top) + b"/odd/" + name)).write_bytes(name)
    (top / "link").symlink_to("plain/1")
    (top / "dangling").symlink_to("no/where")
    (top / "absolute").symlink_to("/etc/passwd")
    os.mkfifo(top / "odd/fifo", 0o640)
    os.setxattr(top / "plain/2", "user.comment", bytes(range(256)))
    os.setxattr(top / "plain", "user.on a directory", b"")
    (top / "plain/3").chmod(0o4755)
    (top / "plain/4").chmod(0)
    (top / "closed").chmod(0o2700)
    if os.getuid() == 0:
        os.mknod(top / "odd/device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.chown(top / "plain/6", 1234, 5678)
        os.chown(top / "link", 1234, 5678, follow_symlinks=False)
    if shutil.which("setfacl"):
        run("setfacl", "-m", "u:1234:rw,g:5678:r", top / "plain/7")
        run("setfacl", "-m", "d:u:1234:rwx", top / "plain/deep")
    # All of them: rsync takes times within one second for equal.
    for number, path in enumerate(sorted(top.rglob("*"))):
        os.utime(path, ns=(TIMES_NS[0], TIMES_NS[number % 2]), follow_symlinks=False)
    return top


def listing(top: Path) -> list[object]:
    """What a copy must keep of everything below `top`."""
    found: list[object] = []
    groups: dict[int, Path] = {}
    for path in sorted(top.rglob("*")):
        status, relative = path.lstat(), path.relative_to(top)
        is_dir = stat.S_ISDIR(status.st_mode)
        names = sorted(os.listxattr(path, follow_symlinks=False))
        xattrs = [(name, os.getxattr(path, name, follow_symlinks=False)) for name in names]
        same_file = None if is_dir else groups.setdefault(status.st_ino, relative)
        size = None if is_dir else status.st_size
        found.append(
            (
                relative, stat.filemode(status.st_mode), size, status.st_mtime_ns, status.st_uid,
                status.st_gid, status.st_rdev, xattrs, same_file,
            )
        )  # fmt: skip
    return found


def assert_copied(source: Path, copy: Path) -> None:
    assert listing(copy) == listing(source)
    for path in source.rglob("*"):
        here = copy / path.relative_to(source)
        if path.is_symlink():
            assert os.readlink(here) == os.readlink(path)
        elif path.is_file():
            run("cmp", path, here)


# -- copies


@needs_root
@needs("rsync")
def test_rsync_copies_everything_once(mnt: Path, tree: Path) -> None:
    copy = mnt / "copy"
    run("rsync", "-aHAXS", f"{tree}/", f"{copy}/")
    assert_copied(tree, copy)
    assert run("rsync", "-aHAXSin", f"{tree}/", f"{copy}/") == ""
    assert (copy / "sparse").stat().st_blocks * 512 < MIB


@needs("rsync")
def test_rsync_there_and_back(mnt: Path, tree: Path, tmp_path: Path) -> None:
    run("rsync", "-aHAXS", f"{tree}/", f"{mnt}/copy/")
    back = tmp_path / "back"
    run("rsync", "-aHAXS", f"{mnt}/copy/", f"{back}/")
    assert_copied(tree, back)


@needs("rsync", "diff")
def test_rsync_deletes_into_the_trash(mnt: Path, tree: Path) -> None:
    run("rsync", "-rlt", f"{tree}/plain/", f"{mnt}/copy/")
    before = (tree / "plain/deep/er/large").read_bytes()
    shutil.rmtree(tree / "plain/deep")
    (tree / "plain/1").write_text("changed, and of another size")
    (tree / "plain/2").unlink()
    (tree / "plain/new").touch()
    run("rsync", "-rlt", "--delete", f"{tree}/plain/", f"{mnt}/copy/")
    run("diff", "-r", "--no-dereference", tree / "plain", mnt / "copy")
    gone = {entry["original_path"].lstrip("/") for entry in trash_of(mnt)}
    assert gone >= {"copy/2", "copy/1", "copy/deep/er/large"}
    fusefs("trash", "restore", mnt / "copy/deep/er/large", "--to", mnt / "taken back")
    assert (mnt / "taken back").read_bytes() == before


@needs_root
def test_cp_there_and_mv_back(mnt: Path, tree: Path, tmp_path: Path) -> None:
    run("cp", "-a", tree, mnt / "copy")
    assert_copied(tree, mnt / "copy")
    run("mv", mnt / "copy", mnt / "renamed")
    run("mv", mnt / "renamed", tmp_path / "back")
    assert_copied(tree, tmp_path / "back")
    run("mv", tmp_path / "back", mnt / "again")
    assert_copied(tree, mnt / "again")


@needs_root
@needs("tar")
def test_tar_in_and_out(mnt: Path, tree: Path, tmp_path: Path) -> None:
    options = ("--xattrs", "--xattrs-include=*", "--acls", "--sparse", "--format=posix")
    for source, target in ((tree, mnt / "copy"), (mnt / "copy", tmp_path / "back")):
        target.mkdir()
        archive = target.with_name(f"{target.name}.tar")
        run("tar", "-cf", archive, *options, "-C", source, ".")
        run("tar", "-xpf", archive, *options, "--same-owner", "-C", target)
        assert_copied(tree, target)


# -- changes


def test_an_editor_saves(mnt: Path) -> None:
    """Write a temporary file, sync it, rename it over the old one, which is then in the trash."""
    path, temporary = mnt / "letter.txt", mnt / ".letter.txt.new"
    path.write_text("first")
    for text in ("second", "third"):
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        directory = os.open(mnt, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
    assert path.read_text() == "third"
    assert os.listdir(mnt) == ["letter.txt"]
    old = trash_of(mnt)
    assert [entry["original_path"].lstrip("/") for entry in old] == ["letter.txt"] * 2
    for number, text in enumerate(("first", "second")):
        fusefs("trash", "restore", mnt, str(old[number]["id"]), "--to", mnt / text)
        assert (mnt / text).read_text() == text


def test_sed_in_place(mnt: Path) -> None:
    path = mnt / "file"
    path.write_text("".join(f"line {number}\n" for number in range(50_000)))
    path.chmod(0o640)
    run("sed", "-i", "s/line 4/LINE 4/", path)
    assert path.read_text().count("LINE 4") == 11_111
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    run("sed", "-i.bak", "1,49990d", path)
    assert path.read_text().splitlines()[0] == "LINE 49990"
    assert (mnt / "file.bak").read_text().count("\n") == 50_000
    assert sorted(os.listdir(mnt)) == ["file", "file.bak"]


@pytest.mark.parametrize("options", ["relatime", "writeback_cache"])
def test_sync_after_removing_what_was_just_written(mounted: Mounted, options: str) -> None:
    """Whatever the kernel still has to say about the file, it may."""
    mounted.remount("-o", options)
    for name in ("removed", "replaced", "new"):
        (mounted.mnt / name).write_text(name)
    (mounted.mnt / "removed").unlink()
    (mounted.mnt / "new").rename(mounted.mnt / "replaced")
    run("sync", "--file-system", mounted.mnt)
    assert (mounted.mnt / "replaced").read_text() == "new"


# -- work


@needs("git")
def test_git(mnt: Path, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    for who in ("AUTHOR", "COMMITTER"):
        home |= {f"GIT_{who}_NAME": "Ada", f"GIT_{who}_EMAIL": "ada@example.org"}
    work = mnt / "work"

    def git(*arguments: str, cwd: Path = work) -> str:
        return run("git", *arguments, cwd=cwd, environ=home)

    run("git", "init", "-q", work, environ=home)
    for commit in range(5):
        for number in range(30):
            path = work / f"dir {number % 4}/{number}"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{commit}\n" * (number + 1))
        git("add", ".")
        git("commit", "-q", "-m", f"commit {commit}")
    git("tag", "here")
    git("checkout", "-q", "-b", "side", "HEAD~2")
    (work / "dir 0/side").write_text("side")
    git("add", ".")
    git("commit", "-q", "-m", "side")
    git("merge", "-q", "-m", "merged", "here")
    git("gc", "-q", "--prune=now")
    git("fsck", "--full", "--strict")
    assert git("status", "--porcelain") == ""
    for clone in (mnt / "clone", tmp_path / "clone"):
        git("clone", "-q", "--no-local", str(work), str(clone), cwd=mnt)
        git("fsck", "--full", cwd=clone)
        assert git("rev-parse", "HEAD", cwd=clone) == git("rev-parse", "HEAD")
        run("diff", "-r", "--exclude=.git", work, clone)
    git("clone", "-q", str(mnt / "clone"), str(mnt / "linked"), cwd=mnt)
    git("worktree", "add", "-q", str(mnt / "tree"), "here")
    assert (mnt / "tree/dir 1/29").read_text() == "4\n" * 30


def insert(path: Path, writer: int, count: int) -> None:
    """In a process of its own: many small transactions, some taken back."""
    with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as database:
        for number in range(count):
            database.execute("begin immediate")
            text = random.Random(number).randbytes(number % 3000).hex()
            database.execute("insert into notes values (?, ?, ?)", (writer, number, text))
            database.execute("rollback" if number % 10 == 9 else "commit")


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_sqlite_with_two_writers(mounted: Mounted, mnt: Path, mode: str) -> None:
    path, count = mnt / "notes.db", 150
    with closing(sqlite3.connect(path)) as database:
        assert database.execute(f"pragma journal_mode={mode}").fetchone() == (mode,)
        database.execute("create table notes (writer, number, text, primary key (writer, number))")
        database.commit()
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=insert, args=(path, number, count)) for number in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(100)
        assert writer.exitcode == 0

    def check() -> None:
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
            found = database.execute("select writer, number, text from notes order by 1, 2")
            kept = [number for number in range(count) if number % 10 != 9]
            assert found.fetchall() == [
                (writer, number, random.Random(number).randbytes(number % 3000).hex())
                for writer in range(2)
                for number in kept
            ]
            database.execute("vacuum")

    check()
    mounted.remount()
    check()


@needs("make", "gcc")
def test_a_build(mnt: Path) -> None:
    """make sees what is newer than what, and the program runs from the mount."""
    names = [f"part{number}" for number in range(6)]
    (mnt / "parts.h").write_text("".join(f"int {name}(void);\n" for name in names))
    for number, name in enumerate(names):
        source = f'#include "parts.h"\nint {name}(void) {{ return {number}; }}\n'
        (mnt / f"{name}.c").write_text(source)
    total = " + ".join(f"{name}()" for name in names)
    (mnt / "main.c").write_text(
        '#include <stdio.h>\n#include "parts.h"\n'
        f'int main(void) {{ printf("%d\\n", {total}); return 0; }}\n'
    )
    objects = " ".join(f"{name}.o" for name in [*names, "main"])
    (mnt / "Makefile").write_text(
        f"sum: {objects}\n\tgcc -o $@ $^\n%.o: %.c parts.h\n\tgcc -c -o $@ $<\n"
    )
    assert run("make", "-j2", cwd=mnt).count("gcc -c") == 7
    assert run(mnt / "sum") == "15\n"
    assert "up to date" in run("make", "-j2", cwd=mnt)
    (mnt / "part3.c").write_text('#include "parts.h"\nint part3(void) { return 30; }\n')
    assert re.findall(r"gcc -c -o (\S+)", run("make", "-j2", cwd=mnt)) == ["part3.o"]
    assert run(mnt / "sum") == "42\n"


def trash_of(mnt: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(fusefs("trash", "list", "--all", "--json", mnt))
    return entries
