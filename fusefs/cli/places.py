"""What an argument of a copy stands for: a path, or ``STORE:/path`` in a store.

A store that is not mounted is mounted at a directory of its own for as long as the copy takes.
"""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fusefs.errors import UsageError

if TYPE_CHECKING:
    from fusefs.store.cipher import Cipher

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_EVERY_S = 0.2


class Places:
    """Use it as a context manager: it unmounts what it has mounted."""

    def __init__(self) -> None:
        self._mounts = ExitStack()
        self._mounted: dict[Path, Path] = {}
        self._ciphers: dict[Path, Cipher | None] = {}

    def __enter__(self) -> "Places":
        return self

    def __exit__(self, *raised: object) -> None:
        self._mounts.close()

    def path(self, argument: str) -> bytes:
        """The path to use for an argument. Raises what mounting a store raises."""
        split = split_store(argument)
        if split is None:
            return os.fsencode(argument)
        store, inner = split
        mountpoint = self._mountpoint(store)
        path = os.path.normpath(b"/" + os.fsencode(inner)).lstrip(b"/")
        return os.path.join(os.fsencode(mountpoint), path)

    def _mountpoint(self, store: str) -> Path:
        """Where a store is mounted, by us if need be; it stays so until our end."""
        from fusefs.daemon.surface import PATIENCE_S
        from fusefs.daemon.target import resolve
        from fusefs.errors import StoreLocked

        deadline = time.monotonic() + PATIENCE_S
        while True:
            target = resolve(store)
            if target.store in self._mounted:
                return self._mounted[target.store]
            try:
                if target.mountpoint is None:
                    cipher = self._unlocked(target.store)
                    found = self._mounts.enter_context(_mounted_for_now(target.store, cipher))
                else:
                    found = self._mounts.enter_context(_held(target.mountpoint))
            except (StoreLocked, FileNotFoundError):
                # Another copy is just mounting it for now, or has just taken that away.
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK_EVERY_S)
            else:
                self._mounted[target.store] = found
                return found

    def _unlocked(self, store: Path) -> "Cipher | None":
        """The keys of a store, which are asked for once, and while Ctrl-C still ends us."""
        from fusefs.cli.unlocking import cipher_of

        if store not in self._ciphers:
            self._ciphers[store] = cipher_of(store)
        return self._ciphers[store]

    def served(self, store: Path) -> None:
        """Have a daemon serve a store, and with it an agent, until our end: the one that does, or
        one of our own. Raises what mounting a store raises."""
        self._mountpoint(os.fspath(store))

    @staticmethod
    def is_inside(path: bytes) -> bool:
        """Whether a path lies in a fusefs."""
        from fusefs.sender.asking import daemon_at

        return daemon_at(path) is not None


def split_store(argument: str) -> tuple[str, str] | None:
    """(store, inner path) of ``STORE:/path``; None for a plain path."""
    from fusefs.store.identity import NAME

    store, colon, inner = argument.partition(":/")
    if colon and not os.path.lexists(argument) and (Path(store) / NAME).is_file():
        return store, inner
    return None


def require_inside(path: bytes, argument: str, verb: str) -> None:
    """Raises UsageError unless the path lies in a fusefs."""
    if not Places.is_inside(path):
        raise UsageError(
            f"{argument} is not in a mounted fusefs: 'fusefs {verb}' needs a path below a"
            " mountpoint, or STORE:/path"
        )


@contextmanager
def _held(mountpoint: Path) -> Iterator[Path]:
    """Keep a mount from being taken away: it may be another copy's, for now.

    Raises FileNotFoundError if it is gone already.
    """
    from fusefs.sender.asking import daemon_at

    descriptor = os.open(mountpoint, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if daemon_at(os.fsencode(mountpoint)) is None:
            raise FileNotFoundError(mountpoint)
        yield mountpoint
    finally:
        os.close(descriptor)


@contextmanager
def _mounted_for_now(store: Path, cipher: "Cipher | None") -> Iterator[Path]:
    from fusefs.cli.mount import mount_store

    with tempfile.TemporaryDirectory(prefix="fusefs-") as directory:
        mountpoint = Path(directory) / "mnt"
        mountpoint.mkdir(mode=0o700)
        with _Interruptions() as interruptions:
            mount_store(os.fspath(store), os.fspath(mountpoint), [], cipher=cipher)
            try:
                with interruptions.let_in():
                    yield mountpoint
            finally:
                _unmount(mountpoint)


def _unmount(mountpoint: Path) -> None:
    from fusefs.cli.umount import umount
    from fusefs.errors import MountpointBusy

    while True:
        try:
            umount(os.fspath(mountpoint))
            return
        except MountpointBusy:  # another copy has found it, and uses it
            time.sleep(_LOOK_EVERY_S)


class _Interruptions:
    """Signals that end a program. They wait, but for where they are let in as KeyboardInterrupt, so
    that what was mounted is always unmounted."""

    def __init__(self) -> None:
        self._are_let_in = False
        self._is_waiting = False
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        self._before = [(number, signal.signal(number, self._come)) for number in _SIGNALS]
        return self

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)

    def _come(self, *_: object) -> None:
        if self._are_let_in:
            raise KeyboardInterrupt
        self._is_waiting = True

    @contextmanager
    def let_in(self) -> Iterator[None]:
        """One that waits is raised at once."""
        self._are_let_in = True
        try:
            if self._is_waiting:
                raise KeyboardInterrupt
            yield
        finally:
            self._are_let_in = False
