"""tools/bench measures any directory, and leaves nothing behind."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import COMMAND_TIMEOUT_S, ROOT, Done, Mounted, fusefs, needs_mount_namespace

BENCH = (sys.executable, str(ROOT / "tools/bench"))
#: Not the whole machine's caches are dropped by a test.
SMALL = ("--quick", "--keep-caches")


@pytest.fixture
def staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where trees to be copied are made."""
    path = tmp_path / "staging"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory to measure, with something in it that must stay as it is."""
    path = tmp_path / "place"
    path.mkdir()
    (path / "mine").write_text("before")
    return path


def bench(*arguments: str | Path, **environ: str) -> Done:
    return subprocess.run(
        [*BENCH, *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environ},
        timeout=COMMAND_TIMEOUT_S,
    )


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = json.loads(path.read_text())["rows"]
    return rows


def all_rows() -> list[str]:
    return [line.split()[0] for line in bench("--list").stdout.splitlines()]


def assert_as_before(place: Path, staging: Path) -> None:
    assert os.listdir(place) == ["mine"]
    assert (place / "mine").read_text() == "before"
    assert os.listdir(staging) == []


def test_every_row_has_a_figure_or_says_why_not(place: Path, staging: Path, tmp_path: Path) -> None:
    done = bench(*SMALL, place, "--json", tmp_path / "out.json", "--repeat", "2")
    assert done.returncode == 0, done
    rows = rows_of(tmp_path / "out.json")
    assert list(rows) == all_rows()
    for name, row in rows.items():
        if "skipped" in row:
            assert row["skipped"].startswith(("needs to drop", "not installed")), name
        else:
            first, second = (sample["value"] for sample in row["samples"])
            assert min(first, second) > 0, name
            assert row["median"] == (first + second) / 2, name
            assert row["better"] == ("more" if row["unit"].endswith("/s") else "less"), name
        assert re.search(rf"^{name} ", done.stdout, re.MULTILINE), name
    # As an ordinary user has it.
    assert {name for name in rows if "needs to drop" in rows[name].get("skipped", "")} == {
        "stat-cold",
        "list-cold",
    }
    assert_as_before(place, staging)


def test_the_result_says_what_was_measured(place: Path, staging: Path, tmp_path: Path) -> None:
    done = bench(*SMALL, place, "--json", tmp_path / "out.json", "--only", "fsync")
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["directory"] == str(place)
    assert record["machine"]["kernel"] == os.uname().release
    assert record["machine"]["memory_bytes"] > 1 << 20
    assert record["quick"] is True
    assert record["cold"] == "posix_fadvise"
    for text in (record["machine"]["cpu"], record["filesystem"], record["fusefs_version"]):
        assert text in done.stdout


def test_against_another_result_more_than_one_is_faster(
    place: Path, staging: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    bench(*SMALL, place, "--json", one, "--only", "fsync,create")
    done = bench(*SMALL, place, "--json", two, "--against", one, "--only", "fsync,stat,create")
    assert done.returncode == 0, done
    assert list(rows_of(two)) == ["fsync", "create", "stat"]
    shown = dict(re.findall(r"^(\S+) .* (\S+)$", done.stdout, re.MULTILINE))
    before, after = rows_of(one), rows_of(two)
    assert shown["create"] == f"{after['create']['median'] / before['create']['median']:.2f}x"
    assert shown["fsync"] == f"{before['fsync']['median'] / after['fsync']['median']:.2f}x"
    assert shown["stat"] == "-"


# While it writes a large file, while another process does, and while rsync copies.
@pytest.mark.parametrize("last", ["repeat 1", "fsync", "tar"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_the_directory_as_it_was(
    place: Path, staging: Path, tmp_path: Path, last: str, number: signal.Signals
) -> None:
    # It must not be done before the signal comes.
    often = ("--repeat", "100", "--json", str(tmp_path / "out.json"))
    command = [*BENCH, *SMALL, str(place), *often]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any(line.strip().startswith(last) for line in process.stderr)
        assert len(os.listdir(place)) == 2
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait(COMMAND_TIMEOUT_S) == 128 + number, said
    assert f"ended by {number.name}" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out.json").exists()
    assert_as_before(place, staging)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("{place}", "--only", "fsync,fsink"), "'fsink'"),
        (("{place}/missing",), "place/missing is no directory"),
        (("{place}/mine",), "place/mine is no directory"),
        (("{place}", "--against", "{place}/mine"), "place/mine is no result"),
        (("{place}", "--against", "{place}/gone"), "place/gone: No such file"),
        (("{place}", "--json", "{place}/gone/out"), "place/gone cannot be written to"),
        (("{place}", "--pid", "4194305"), "process 4194305"),
        ((), "give the directory"),
    ],
)
def test_what_makes_no_sense_is_refused(
    place: Path, staging: Path, arguments: tuple[str, ...], named: str
) -> None:
    done = bench(*SMALL, *(argument.format(place=place) for argument in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert_as_before(place, staging)


@pytest.mark.root
@needs_mount_namespace
def test_a_directory_without_room_is_refused(tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o size=1M none "$1" && exec "$2" "$3" --quick "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", tmp_path, *BENCH],
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
    )
    assert done.returncode == 2, done
    assert "has room for 1 MiB" in done.stderr


def test_a_row_that_fails_says_so_and_the_others_go_on(
    place: Path, staging: Path, tmp_path: Path
) -> None:
    """Programs that fail, that lie, and that are missing."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, script in (("cp", "echo no cp today >&2; exit 4"), ("tar", "exit 0")):
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    (programs / "rm").symlink_to(shutil.which("rm") or "/bin/rm")
    out = tmp_path / "out.json"
    done = bench(
        *SMALL, place, "--json", out, "--only", "cp,rm,tar,rsync,fsync", PATH=str(programs)
    )
    assert done.returncode == 1, done
    rows = rows_of(out)
    assert rows["cp"]["failed"] == rows["rm"]["failed"] == "cp ended with 4: no cp today"
    assert rows["tar"]["failed"].startswith("WRONG")
    assert rows["rsync"]["skipped"] == "not installed: rsync"
    assert rows["fsync"]["median"] > 0
    assert re.search("^tar +FAILED", done.stdout, re.MULTILINE)
    assert_as_before(place, staging)


@pytest.mark.mount
def test_in_a_fusefs_the_daemon_is_found_and_the_trash_is_left_as_it_was(
    mounted: Mounted, staging: Path, tmp_path: Path
) -> None:
    directory = mounted.mnt / "some [dir]"
    directory.mkdir()
    (directory / "mine").write_text("before")
    (directory / "removed").write_text("before")
    (directory / "removed").unlink()

    def trash() -> list[str]:
        entries = json.loads(fusefs("trash", "list", "--all", "--json", mounted.mnt))
        return [entry["original_path"] for entry in entries]

    out = tmp_path / "out.json"
    done = bench(*SMALL, directory, "--json", out, "--only", "write-1m,fsync,create,unlink,rsync")
    assert done.returncode == 0, done
    record = json.loads(out.read_text())
    assert record["daemon_pid"] == mounted.pid
    assert record["filesystem"] == "fuse.fusefs"
    (sample,) = record["rows"]["create"]["samples"]
    assert sample["daemon_cpu_s"] >= 0
    assert sample["daemon_cpu_later_s"] >= 0
    assert trash() == ["/some [dir]/removed"]
    assert_as_before(directory, staging)
