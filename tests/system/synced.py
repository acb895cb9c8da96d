"""A mounted filesystem with remotes: what the tests of the sync ask it."""

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from fusefs.base.clock import SystemClock
from fusefs.model import keys
from fusefs.remotes.api import Remote
from fusefs.store.store import Store
from tests.conftest import Mounted, fusefs
from tests.unit.sync.places import restored

Record = dict[str, Any]

#: Tables that a publication itself, or a mount, writes to.
_OWN = frozenset({keys.SETTING, keys.CORRUPTION, keys.REMOTE, keys.COPY})


def record(mounted: Mounted, name: str) -> Record:
    found: Record = json.loads(fusefs("remote", "show", mounted.mnt, name, "--json"))
    return found


def agent_of(mounted: Mounted) -> int:
    """The process id of the agent, 0 if there is none."""
    for thread in Path(f"/proc/{mounted.pid}/task").iterdir():  # each has its own children
        with suppress(FileNotFoundError, ProcessLookupError):  # what ends meanwhile
            for child in map(int, (thread / "children").read_text().split()):
                if b"agent" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                    return child
    return 0


def kill_agent(mounted: Mounted) -> bool:
    """kill -9; whether there was one."""
    if pid := agent_of(mounted):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(pid)


def assert_restorable(store: Path, remote: Remote) -> None:
    """Of a store that is unmounted: the newest checkpoint has all of its rows and blocks."""
    opened = Store.open(store, clock=SystemClock())
    try:
        mine = {
            key: row
            for key, row in opened.scan(b"")
            if key[:1] != keys.META and key[:1] not in _OWN
        }
    finally:
        opened.close()
    theirs = {key: row for key, row in restored(remote)[1].items() if key[:1] not in _OWN}
    assert theirs.keys() == mine.keys()
    assert theirs == mine
