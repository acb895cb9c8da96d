"""The systemd unit, as systemd itself reads it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fusefs import errors
from tests.conftest import ROOT

UNIT = ROOT / "systemd" / "fusefs@.service"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text()
    installed = text.replace("ExecStart=/usr/bin/fusefs", f"ExecStart={sys.executable} -m fusefs")
    assert installed != text
    unit = tmp_path / "fusefs@example.service"
    unit.write_text(installed)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True
    )
    ours = [line for line in done.stderr.splitlines() if "fusefs" in line]
    assert (done.returncode, ours) == (0, [])


def test_exit_codes_that_a_restart_cannot_mend_are_ours() -> None:
    match = re.search(r"^RestartPreventExitStatus=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert match
    kinds = (kind for kind in vars(errors).values() if isinstance(kind, type))
    known = {kind.exit_code for kind in kinds if issubclass(kind, errors.FusefsError)}
    assert {int(code) for code in match[1].split()} <= known
