"""From a place of files, as the daemon names it, to what reads and writes there."""

import os
from typing import Protocol
from urllib.parse import unquote, urlsplit

from fusefs.errors import BadRemote
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


def connect(place: Place) -> Files:
    """Raises BadRemote for a URL that transfers cannot use, and what connecting raises."""
    if not place.url:
        return LocalFiles(os.path.join(place.directory, place.path).rstrip(b"/") or b"/")
    parts = urlsplit(place.url)
    if parts.scheme == "file":
        directory = os.fsencode(unquote(parts.path))
        return LocalFiles(os.path.join(directory, place.path).rstrip(b"/") or b"/")
    raise BadRemote(f"{place.url}: transfers know no scheme {parts.scheme!r}")
