"""Transfers while the daemon and its agent are killed again and again.

Each transfer ends once, in the journal as well; what it says to have come has; and nothing ever has
its final name before it is whole. FUSEFS_TRANSFERS, FUSEFS_TRANSFER_KILLS and FUSEFS_KILL_SEED make
the transfers and the kills more, or others.
"""

import json
import os
import random
import threading
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fusefs.daemon.client import Client
from fusefs.errors import DaemonFailed, FusefsError
from tests.conftest import Mounted, fusefs
from tests.crash.inotify import MOVED_TO, Watcher
from tests.system.synced import kill_agent
from tests.system.trashcan import until

pytestmark = [pytest.mark.mount, pytest.mark.slow]

MIB = 1 << 20
TRANSFERS = int(os.environ.get("FUSEFS_TRANSFERS", "24"))
KILLS = int(os.environ.get("FUSEFS_TRANSFER_KILLS", "6"))
SEED = int(os.environ.get("FUSEFS_KILL_SEED", "1"))
SIZES = (0, 1, 70_000, MIB, 3 * MIB + 17, 9 * MIB)
#: Between two kills, and between two transfers while there are kills, seconds.
PAUSE_S = (0.4, 3.0)
EACH_S = 0.3


def ask(store: Path, verb: str, **arguments: Any) -> Any:
    """Raises DaemonFailed as well where nobody is there."""
    client = Client.connect(store)
    if client is None:
        raise DaemonFailed("it is dead just now")
    with client:
        return client.ask(verb, **arguments)


class Creator(threading.Thread):
    """Creates transfers, one after the other, whoever is dead meanwhile, until there are enough and
    all kills are done."""

    def __init__(self, store: Path, source: Path, target: Path) -> None:
        super().__init__(daemon=True)
        self._store = store
        self._arguments = {
            "moves": [{"source": end(source), "files": [b"."]}],
            "destination": end(target),
        }
        self.ids: list[str] = []
        self.errors: list[FusefsError] = []
        self.enough = threading.Event()

    def run(self) -> None:
        while len(self.ids) < TRANSFERS or not self.enough.is_set():
            self.enough.wait(EACH_S)
            try:
                self.ids.append(ask(self._store, "transfer_create", **self._arguments)["id"])
            except DaemonFailed:
                threading.Event().wait(0.1)
            except FusefsError as error:
                self.errors.append(error)
                return


def end(path: Path) -> dict[str, Any]:
    return {"text": str(path), "path": os.fsencode(path)}


@pytest.mark.timeout(600 + TRANSFERS * 2 + KILLS * 15)
def test_transfers_end_once_whoever_is_killed(mounted: Mounted, tmp_path: Path) -> None:
    mounted.expected = [".*"]  # of a daemon that is killed
    source, target = mounted.mnt / "source", tmp_path / "target"
    (source / "sub").mkdir(parents=True)
    target.mkdir()
    content = random.Random(SEED)
    for number, size in enumerate(SIZES):
        (source / ("sub" if number % 2 else ".") / f"f{number}").write_bytes(
            content.randbytes(size)
        )
    os.sync()
    hashes = {
        str(path.relative_to(source)): sha256(path.read_bytes()).hexdigest()
        for path in source.rglob("f*")
    }
    watcher = Watcher(target)
    creator = Creator(mounted.store, source, target)
    creator.start()
    chance = random.Random(SEED)
    kills = Counter[str]()
    for number in range(KILLS):
        threading.Event().wait(chance.uniform(*PAUSE_S))
        if number % 2:
            until(lambda: kill_agent(mounted))
            kills["agent"] += 1
        else:
            kills["daemon"] += 1
            mounted.kill()
            mounted.mount()
    creator.enough.set()
    creator.join(200 + TRANSFERS)
    assert creator.errors == []
    until(lambda: not open_transfers(mounted.store), timeout_s=180 + TRANSFERS)
    watcher.stop()

    listed = {
        one["id"]: one for one in json.loads(fusefs("transfer", "list", "--json", mounted.mnt))
    }
    journal = json.loads(fusefs("transfer", "journal", "--json", mounted.mnt))
    print(f"{len(listed)} transfers, {dict(kills)} kills, seed {SEED}")
    assert set(creator.ids) <= set(listed)
    assert Counter(one["id"] for one in journal) == Counter(listed.keys())
    assert {one["status"] for one in listed.values()} == {"succeeded"}, [
        one["error"] for one in listed.values() if one["error"]
    ]
    for id in listed:
        manifest = json.loads((target / id / "manifest.json").read_bytes())
        told = {one["path"]: one["hash"].removeprefix("sha256:") for one in manifest["resources"]}
        assert told == hashes
        for path, digest in told.items():
            assert sha256((target / id / path).read_bytes()).hexdigest() == digest
        assert not (target / id / ".partial").exists()
    assert not watcher.lost
    finals = [one for one in watcher.seen if ".partial" not in one.path.parts[1:2]]
    finals = [one for one in finals if not one.path.name.startswith(".fusefs-probe-")]
    assert [one for one in finals if one.mask not in (0, MOVED_TO)] == []
    names = Counter(one.path for one in finals if one.mask)
    assert len(names) >= len(listed)
    mounted.remount()
    assert json.loads(fusefs("transfer", "journal", "--json", mounted.mnt)) == journal
    fusefs("fsck", mounted.mnt)


def open_transfers(store: Path) -> bool:
    found = ask(store, "transfer_list", statuses=[
        "unknown", "staging", "active", "inactive", "finalizing",
    ])  # fmt: skip
    return bool(found)
