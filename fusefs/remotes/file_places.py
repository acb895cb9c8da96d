"""From a place of files, as the daemon names it, to what reads and writes there."""

import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Protocol

from fusefs.errors import BadRemote
from fusefs.remotes import address, secrets
from fusefs.remotes.address import Address
from fusefs.remotes.encrypted import data_key
from fusefs.remotes.encrypted_files import EncryptedFiles
from fusefs.remotes.files import Files
from fusefs.remotes.local_files import LocalFiles
from fusefs.remotes.secrets import Secrets


class Place(Protocol):
    """A directory, or else a URL with where its secrets are read from; and a path below.

    `is_encrypted`: the URL is that of an encrypted remote.
    """

    @property
    def directory(self) -> bytes: ...
    @property
    def url(self) -> str: ...
    @property
    def secrets(self) -> str: ...
    @property
    def path(self) -> bytes: ...
    @property
    def is_encrypted(self) -> bool: ...


def connect(place: Place, environ: Mapping[str, str] = os.environ) -> Files:
    """Raises BadRemote for a URL that makes no sense or has no files; of an encrypted remote, what
    reading its key slots raises, and WrongKey."""
    if not place.url:
        return LocalFiles(_below(place.directory, place.path))
    parsed = address.parse(place.url)
    found = secrets.read(place.secrets, environ)
    if not place.is_encrypted:
        return _plain(parsed, found, place.path)
    with closing(address.connect(place.url, found)) as remote:
        key = data_key(remote, found)
    return EncryptedFiles(_plain(parsed, found, b""), key, place.path)


def _plain(parsed: Address, found: Secrets, path: bytes) -> Files:
    if parsed.scheme == "file":
        directory = _below(os.fsencode(parsed.path), path)
        return LocalFiles(directory, parsed.options.get("mountpoint"))
    if parsed.scheme == "memory":
        raise BadRemote(f"{parsed.place}: transfers know no {parsed.scheme}")
    if parsed.scheme == "sftp":
        from fusefs.remotes.sftp_files import SftpFiles

        below = os.path.join(parsed.path, os.fsdecode(path)).rstrip("/") or "/"
        return SftpFiles(replace(parsed, path=below), found)
    from fusefs.remotes.object_files import ObjectFiles

    below = "/".join(filter(None, (parsed.path, os.fsdecode(path))))
    options = dict(parsed.options)
    if parsed.scheme == "s3":
        options["checksum"] = "none"  # it is read back; and for large files MD5 is not taken
    return ObjectFiles(replace(parsed, path=below, options=options), found)


def _below(directory: bytes, path: bytes) -> bytes:
    return os.path.join(directory, path).rstrip(b"/") or b"/"
