"""The surface of a store for verbs, whoever has it open; an encrypted one is unlocked."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusefs.daemon.surface import Surface


@contextmanager
def reach(store: Path) -> Iterator["Surface"]:
    """See `daemon.surface.reach`. A daemon has the key; where there is none this process needs it,
    from the credentials, the environment or the terminal (cli.unlocking)."""
    from fusefs.cli.unlocking import cipher_of
    from fusefs.daemon import surface

    with surface.reach(store, unlock=cipher_of) as reached:
        yield reached
