"""The verbs on a store, the same whether a daemon serves it or nobody does.

`reach` is the one way by which `cli` gets at a store. A store that a daemon serves is asked through
its socket; any other is opened in this process, which recovers it and locks it meanwhile: only for
that is all loaded that a daemon needs.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fusefs.daemon.client import Client
from fusefs.daemon.writer import writer_of
from fusefs.errors import DaemonFailed, StoreLocked

if TYPE_CHECKING:
    from fusefs.daemon.collecting import Progress
    from fusefs.store.cipher import Cipher

#: From a store to its keys, None where it is not encrypted; may ask for them.
Unlock = Callable[[Path], "Cipher | None"]
#: A JSON object; names in it are text with surrogate escapes for bytes that are not UTF-8.
Record = dict[str, Any]

#: How long a starting or draining daemon, or another verb, may keep the store from us.
PATIENCE_S = 10.0
_POLL_S = 0.02


class Surface(Protocol):
    """What can be asked of a store. Every method raises the classes of `fusefs.errors`."""

    def status(self) -> Record:
        """Counters, space, the log and the mount."""

    def df(self) -> Record:
        """Bytes of the store by what they are for."""

    def info(self, path: bytes) -> Record:
        """Inode, extents and blocks of `path`, which is relative to the root of the filesystem."""

    def ask(self, verb: str, **arguments: Any) -> Any:
        """The answer to a verb of a desk, see `verbs`; paths in `arguments` are bytes."""

    def purge_progress(self, jobs: list[int]) -> list[Record]:
        """How far purges are, after giving them a moment to go on."""

    def scrub_progress(self) -> Record:
        """How far a scrub is, after giving it a moment to go on."""

    def gc(self, dry_run: bool, on_progress: "Progress | None" = None) -> Record:
        """Give back the space of what nothing needs, or say how much that is.

        `on_progress` is told how many segments are done, and planned.
        """

    def checkpoint(self) -> None:
        """Bring the index on disk up to date with the log."""

    def flush(self) -> None:
        """Make everything written so far durable."""


def _no_key(_store: Path) -> None:
    return None


@contextmanager
def reach(
    store: Path, patience_s: float = PATIENCE_S, *, unlock: Unlock = _no_key
) -> Iterator[Surface]:
    """The surface of `store`, through its daemon or in this process, which `unlock` gives the key
    of an encrypted one.

    Raises NotAStore and the like from opening; DaemonFailed when some process keeps the store
    locked and does not answer within `patience_s`.
    """
    deadline = time.monotonic() + patience_s
    cipher: Cipher | None = None
    while True:
        if (client := Client.connect(store)) is not None:
            with client:
                yield client
            return
        if writer_of(store) is None:
            from fusefs.daemon.opened import open_here

            try:
                cipher = cipher or unlock(store)
                opened = open_here(store, cipher)
            except StoreLocked:
                pass  # someone was faster: ask them
            else:
                surface, close = opened
                try:
                    yield surface
                finally:
                    close()
                return
        if time.monotonic() > deadline:
            raise DaemonFailed(
                f"{store} is locked by process {writer_of(store)}, which does not answer:"
                f" wait, look at {store}/daemon.log, or end that process"
            )
        time.sleep(_POLL_S)
