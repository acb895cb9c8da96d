"""A store that this process has opened for itself, as a surface (see `surface`).

Imported when no daemon serves the store, and not before: it needs nearly all of fusefs.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import trio

from fusefs.config.options import MountOptions
from fusefs.daemon.collecting import Progress
from fusefs.daemon.filesystem import Filesystem
from fusefs.daemon.logs import log_to_file
from fusefs.daemon.service import Service
from fusefs.daemon.surface import Record
from fusefs.store.cipher import Cipher

#: For a purge or a scrub to go on, between two looks at it.
_MOMENT_S = 0.1


class InProcess:
    """A store that this process has opened for itself."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def status(self) -> Record:
        return self._service.status()

    def df(self) -> Record:
        return self._service.df()

    def info(self, path: bytes) -> Record:
        return self._service.info(path)

    def ask(self, verb: str, **arguments: Any) -> Any:
        found = self._service.verb(verb)
        assert found is not None, verb
        kind, perform = found
        decoded = msgspec.convert(arguments, type=kind, builtin_types=(bytes,))
        return trio.run(perform, decoded, os.getuid())

    def purge_progress(self, jobs: list[int]) -> list[Record]:
        self._service.purge_for(_MOMENT_S)
        return list(self.ask("trash_jobs", numbers=jobs))

    def scrub_progress(self) -> Record:
        trio.run(self._service.scrub_for, _MOMENT_S)
        return dict(self.ask("scrub_status"))

    def gc(self, dry_run: bool, on_progress: Progress | None = None) -> Record:
        return trio.run(self._service.gc, dry_run, on_progress)

    def checkpoint(self) -> None:
        self._service.checkpoint()

    def flush(self) -> None:
        """Nothing to do: no one writes, and closing the store makes its changes durable."""


def open_here(store: Path, cipher: Cipher | None) -> tuple[InProcess, Callable[[], None]]:
    """The surface of `store`, and what closes it; `cipher`: of an encrypted one. Raises what
    `Filesystem.open` does."""
    log_to_file(store)  # what a recovery found is to be known later too
    filesystem = Filesystem.open(store, MountOptions(), cipher=cipher)
    return InProcess(Service(filesystem, None)), filesystem.close
