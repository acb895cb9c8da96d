"""The trash of desktops works in a mount, and what it gives up is not kept a second time.

trash-cli does what file managers do, by the XDG trash specification: it makes .Trash-$uid at the
top of the mount, since that is another filesystem than the home directory's.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import COMMAND_TIMEOUT_S, Mounted
from tests.system.trashcan import TrashCan, until

_PROGRAMS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(
        shutil.which("trash-put", path=_PROGRAMS) is None, reason="not installed: trash-cli"
    ),
]

Desktop = Callable[..., str]


@pytest.fixture
def desktop(mounted: Mounted, tmp_path: Path) -> Desktop:
    """Runs a program of trash-cli in the mount."""
    environ = {
        **os.environ,
        "PATH": _PROGRAMS,
        "XDG_DATA_HOME": str(tmp_path / "home"),
        # trash-cli looks into mounts of the kinds that it knows, and of these.
        "TRASH_VOLUMES": str(mounted.mnt),
    }

    def run(*command: str, stdin: str = "") -> str:
        return subprocess.run(
            command,
            cwd=mounted.mnt,
            env=environ,
            input=stdin,
            check=True,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        ).stdout

    return run


def test_put_list_restore_and_empty(mounted: Mounted, tmp_path: Path, desktop: Desktop) -> None:
    top, can = mounted.mnt, TrashCan(mounted.mnt)
    own = f".Trash-{os.getuid()}"
    (top / "file").write_text("content")
    (top / "dir").mkdir()
    (top / "dir/inner").write_text("inner")
    desktop("trash-put", "file", "dir")
    assert os.listdir(top) == [own]
    assert not (tmp_path / "home").exists()
    assert (top / own / "files/file").read_text() == "content"
    assert can.lines() == []  # it was moved, not removed
    listed = desktop("trash-list").splitlines()
    assert sorted(line.split(" ", 2)[2] for line in listed) == [f"{top}/dir", f"{top}/file"]
    desktop("trash-restore", "--trash-dir", own, str(top / "file"), stdin="0\n")
    assert (top / "file").read_text() == "content"
    desktop("trash-put", "file")
    desktop("trash-empty", "-f")
    assert desktop("trash-list") == ""
    assert list((top / own / "files").iterdir()) == []
    assert can.lines("--all") == []
    until(lambda: can.space()["stored_bytes"] == 0)
    assert can.space()["trash_bytes"] == 0


def test_what_is_removed_elsewhere_is_kept_as_ever(mounted: Mounted, desktop: Desktop) -> None:
    """The names alone do not make a trash of a desktop: they must stand at the top."""
    can = TrashCan(mounted.mnt)
    for place in (".Trash-x", "dir/.Trash-0", ".Trash"):
        (mounted.mnt / place).mkdir(parents=True)
        (mounted.mnt / place / "file").touch()
        desktop("rm", f"{place}/file")
    found = [one["original_path"] for one in can.lines("--all")]
    assert found == ["/.Trash-x/file", "/dir/.Trash-0/file", "/.Trash/file"]
