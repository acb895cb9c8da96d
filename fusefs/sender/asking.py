"""Questions to the daemon of a mount, and whether it is there at all.

Each question is a connection of its own: the server closes one that is silent for seconds, and has
places for a few only, while a sender is silent for as long as it sends.
"""

import os
import time
from errno import ECONNABORTED, ENODEV, ENOTCONN
from pathlib import Path
from typing import Any

from fusefs.daemon.client import Client
from fusefs.daemon.mounttable import Mount, MountTable
from fusefs.errors import DaemonFailed, NotPermitted

_POLL_S = 0.1
#: What the kernel answers on the mount of a daemon that is gone.
GONE = (ENOTCONN, ECONNABORTED, ENODEV)


class Daemon:
    """The daemon of a mount."""

    def __init__(self, mount: Mount) -> None:
        self.mount = mount
        #: Whether it lets us ask; None as long as nobody has tried.
        self._may_ask: bool | None = None

    @property
    def may_ask(self) -> bool:
        """Whether it answers us: we are the owner of its store, or root, and can see its socket.

        Raises DaemonFailed if the mount is dead.
        """
        if self._may_ask is None:
            try:
                client = Client.connect(self.mount.store)
            except NotPermitted:
                self._may_ask = False
            else:
                self.check_alive()
                self._may_ask = client is not None
                if client is not None:
                    with client:
                        pass
        return self._may_ask

    def ask(self, verb: str, **arguments: Any) -> Any:
        """The answer to a verb. Raises what it raises, DaemonFailed."""
        client = Client.connect(self.mount.store)
        if client is None:
            raise self.lost()
        with client:
            return client.ask(verb, **arguments)

    def flush(self) -> None:
        """Make everything written so far durable. Raises DaemonFailed, DiskFull, StoreError."""
        client = Client.connect(self.mount.store)
        if client is None:
            raise self.lost()
        with client:
            client.flush()

    def check_alive(self) -> None:
        """Raises DaemonFailed if the mount is dead, or gone."""
        if not self.is_alive:
            raise self.lost()

    @property
    def is_alive(self) -> bool:
        """Whether the mount is there and answers."""
        if MountTable.read().at(self.mount.mountpoint) is None:
            return False
        try:
            os.stat(self.mount.mountpoint)
        except OSError as error:
            return error.errno not in GONE
        return True

    def lost(self) -> DaemonFailed:
        """What to raise where it does not answer."""
        store, mountpoint = self.mount.store, self.mount.path
        return DaemonFailed(
            f"the daemon of {mountpoint} is gone: 'fusefs mount {store} {mountpoint}', then run"
            " this again, and it will continue"
        )

    def wait_until_back(self, patience_s: float) -> bool:
        """Whether the mount answers again within so many seconds."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if self.is_alive and (client := Client.connect(self.mount.store)) is not None:
                with client:
                    return True
            time.sleep(_POLL_S)
        return False


def daemon_at(path: bytes) -> Daemon | None:
    """The daemon of the fusefs mount that `path` lies in, if it lies in one."""
    mount = MountTable.read().locate(path).mount
    return Daemon(mount) if mount is not None and mount.is_fusefs else None


def inner_path(path: bytes) -> bytes:
    """`path`, which lies in a mount, from the root of its filesystem."""
    return MountTable.read().locate(path).inner


def store_of(path: Path) -> Path | None:
    """The store of the mount that `path` lies in, if it lies in one."""
    daemon = daemon_at(os.fsencode(path))
    return daemon.mount.store if daemon else None
