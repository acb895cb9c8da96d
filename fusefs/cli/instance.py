"""What the instance name of a systemd unit stands for: a store, its mountpoint, mount options.

``fusefs@NAME.service`` runs ``fusefs mount --foreground --instance NAME``. NAME is either that of a
file /etc/fusefs/NAME.conf::

    STORE=/srv/store
    MOUNTPOINT=/home/user/mnt
    OPTIONS=allow_other,noatime

or the path of a store as systemd-escape(1) --path writes it, such as ``srv-store``. What the file
does not say, or where there is none, the mountpoint is the one that `fusefs init --mountpoint`
wrote into the store.
"""

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from fusefs.errors import UsageError

DIRECTORY = Path("/etc/fusefs")
_KEYS = ("STORE", "MOUNTPOINT", "OPTIONS")
_HEX = re.compile(rb"\\x([0-9a-fA-F]{2})")


@dataclass(frozen=True)
class Instance:
    """One configured mount."""

    store: str
    mountpoint: str
    options: str = ""


def load(name: str, directory: Path = DIRECTORY) -> Instance:
    """What the instance `name` stands for.

    Raises UsageError on a malformed file or a missing mountpoint; NotAStore, FormatTooNew.
    """
    from fusefs.store import identity

    path = directory / f"{name}.conf"
    settings = _parse(path) if path.exists() else {}
    store = settings.get("STORE") or unescape_path(name)
    mountpoint = settings.get("MOUNTPOINT") or identity.read(Path(store)).mountpoint
    if not mountpoint:
        raise UsageError(f"no mountpoint is known for {store}: write MOUNTPOINT=... to {path}")
    return Instance(store, mountpoint, settings.get("OPTIONS", ""))


def _parse(path: Path) -> dict[str, str]:
    settings = {}
    for number, line in enumerate(path.read_text("utf-8", "surrogateescape").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith(("#", ";")):
            continue
        key, equals, value = line.partition("=")
        if not equals or key.strip() not in _KEYS:
            raise UsageError(f"{path} line {number}: expected one of {', '.join(_KEYS)} and =")
        settings[key.strip()] = " ".join(shlex.split(value))
    return settings


def unescape_path(name: str) -> str:
    r"""Undo ``systemd-escape --path``: ``-`` is a slash, ``\xNN`` a byte."""
    path = os.fsencode(name).replace(b"-", b"/")
    return "/" + os.fsdecode(_HEX.sub(lambda match: bytes([int(match[1], 16)]), path)).strip("/")
