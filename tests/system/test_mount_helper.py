"""``mount -t fusefs`` and a line of fstab, with the real mount(8).

In a mount namespace of its own, so that the machine's /sbin and /etc/fstab stay as they are.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import COMMAND_TIMEOUT_S, ROOT, Done, needs_mount_namespace

pytestmark = [pytest.mark.mount, pytest.mark.root, needs_mount_namespace]

HELPER = f"""#!/bin/sh
PYTHONPATH={ROOT} exec {sys.executable} -c 'from fusefs.cli.mount_helper import main; main()' "$@"
"""


@pytest.fixture
def sbin(tmp_path: Path) -> Path:
    """A folder to lie over /sbin."""
    path = tmp_path / "sbin"
    path.mkdir()
    (path / "mount.fusefs").write_text(HELPER)
    (path / "mount.fusefs").chmod(0o755)
    return path


def in_namespace(sbin: Path, script: str, fstab: Path = Path("/dev/null")) -> Done:
    """Run a shell script where mount(8) finds our helper and `fstab`."""
    prepare = f"""
        set -e
        sbin=$(readlink -f /sbin)
        mount -t overlay -o lowerdir={sbin}:$sbin overlay $sbin
        mount --bind {fstab} /etc/fstab
        umount() {{ PYTHONPATH={ROOT} {sys.executable} -m fusefs umount "$1"; }}
    """
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", prepare + script],
        capture_output=True,
        text=True,
        cwd="/",
        timeout=COMMAND_TIMEOUT_S,
    )


def test_mount_by_type(store: Path, mnt: Path, sbin: Path) -> None:
    script = f"""
        mount -t fusefs {store} {mnt} -o noatime,nosuid,x-systemd.automount
        echo kept > {mnt}/file
        findmnt -no FSTYPE,SOURCE {mnt}
        umount {mnt}
        mount -t fusefs -o ro {store} {mnt}
        cat {mnt}/file
        touch {mnt}/other 2>/dev/null || echo refused
        umount {mnt}
    """
    done = in_namespace(sbin, script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["fuse.fusefs", str(store), "kept", "refused"]


def test_a_line_of_fstab(store: Path, mnt: Path, sbin: Path, tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_text(f"{store} {mnt} fusefs defaults,_netdev,nofail,noauto,allow_other 0 0\n")
    script = f"""
        mount {mnt}
        echo kept > {mnt}/file
        umount {mnt}
        mount {mnt}
        cat {mnt}/file
        umount {mnt}
    """
    done = in_namespace(sbin, script, fstab)
    assert (done.returncode, done.stdout, done.stderr) == (0, "kept\n", "")


def test_a_failure_is_a_failure_of_mount(mnt: Path, sbin: Path, tmp_path: Path) -> None:
    done = in_namespace(sbin, f"mount -t fusefs {tmp_path}/none {mnt}")
    assert done.returncode == 32
    assert done.stderr.startswith("mount.fusefs: ")
    assert f"{tmp_path}/none" in done.stderr
