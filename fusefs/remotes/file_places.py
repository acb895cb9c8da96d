"""From a place of files, as the daemon names it, to what reads and writes there."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from fusefs.errors import BadRemote, RemoteMissing
from fusefs.remotes import address, secrets
from fusefs.remotes.address import Address
from fusefs.remotes.files import Files
from fusefs.remotes.local_files import LocalFiles


class Place(Protocol):
    """A directory, or else a URL with where its secrets are read from; and a path below."""

    @property
    def directory(self) -> bytes: ...
    @property
    def url(self) -> str: ...
    @property
    def secrets(self) -> str: ...
    @property
    def path(self) -> bytes: ...


def connect(place: Place, environ: Mapping[str, str] = os.environ) -> Files:
    """Raises BadRemote for a URL that makes no sense or has no files, RemoteMissing."""
    if not place.url:
        return _local(place.directory, place.path)
    parsed = address.parse(place.url)
    found = secrets.read(place.secrets, environ)
    if parsed.scheme == "file":
        _require_mounted(parsed)
        return _local(os.fsencode(parsed.path), place.path)
    if parsed.scheme == "memory":
        raise BadRemote(f"{parsed.place}: transfers know no {parsed.scheme}")
    if parsed.scheme == "sftp":
        from fusefs.remotes.sftp_files import SftpFiles

        below = os.path.join(parsed.path, os.fsdecode(place.path)).rstrip("/") or "/"
        return SftpFiles(replace(parsed, path=below), found)
    from fusefs.remotes.object_files import ObjectFiles

    below = "/".join(filter(None, (parsed.path, os.fsdecode(place.path))))
    options = dict(parsed.options)
    if parsed.scheme == "s3":
        options["checksum"] = "none"  # it is read back; and for large files MD5 is not taken
    return ObjectFiles(replace(parsed, path=below, options=options), found)


def _local(directory: bytes, path: bytes) -> LocalFiles:
    return LocalFiles(os.path.join(directory, path).rstrip(b"/") or b"/")


def _require_mounted(parsed: Address) -> None:
    mountpoint = parsed.options.get("mountpoint")
    if mountpoint and not Path(mountpoint).is_mount():
        raise RemoteMissing(f"{parsed.place}: nothing is mounted at {mountpoint}")
