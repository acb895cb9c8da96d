"""Addresses: from a URL to a remote.

::

    file:///dir                        a directory; ?mountpoint=/mnt/usb: only while that is mounted
    s3://bucket/prefix                 ?endpoint=https://host&region=eu-1
    gcs://bucket/prefix
    azblob://container/prefix          ?account=NAME
    b2://bucket/prefix                 ?bucket_id=ID
    webdav+https://user@host/dir       and webdav+http
    sftp://user@host:22/dir            ?known_hosts=/path, or host_key=...; /~/dir is below the home
    memory://name                      in this process, for tests

Everything in a URL may be shown: secrets in one are refused, and no message repeats what might be
one. `SCHEMES` has the options of each. Those of all that go over a network: ``timeout``, how long
an answer may take to begin, and ``slowest``, the rate below which a connection counts as stalled.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from fusefs.base.units import parse_duration, parse_size
from fusefs.errors import BadRemote
from fusefs.remotes.api import Remote
from fusefs.remotes.secrets import KEYS, Secrets

NO_SECRETS = Secrets()
_T = TypeVar("_T")


@dataclass(frozen=True)
class Address:
    """What a URL says.

    `host`: bucket, container, host or name. `port`: 0 for the usual one. `user`: empty for none.
    `path`: for objects the prefix, without slashes at its ends; for files the directory. `options`:
    parsed, those of `SCHEMES` that were given.
    """

    scheme: str
    host: str
    path: str
    port: int = 0
    user: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """For people: the URL without what they need not see every time."""
        user = f"{quote(self.user)}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        endpoint = self.options.get("endpoint")
        path = quote(self.path if self.path.startswith("/") or not self.path else f"/{self.path}")
        return (
            f"{self.scheme}://{user}{self.host}{port}{path}"
            + (f"?endpoint={endpoint}" if endpoint else "")
        )  # fmt: skip


def _flag(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError("give yes or no")
    return text == "yes"


def _count(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]?", text):
        raise ValueError("give a number from 1 to 99")
    return int(text)


def _word(text: str) -> str:
    if not re.fullmatch("[A-Za-z0-9._:-]+", text):
        raise ValueError("give letters, digits and . _ : - only")
    return text


def _seconds(text: str) -> float:
    wanted = "give 1s to 1h"
    try:
        seconds = parse_duration(text)
    except ValueError:
        raise ValueError(wanted) from None
    if not 1 <= seconds <= 3600:
        raise ValueError(wanted)
    return seconds


def _rate(text: str) -> int:
    wanted = "give a size such as 64K"
    try:
        rate = parse_size(text)
    except ValueError:
        raise ValueError(wanted) from None
    if not rate:
        raise ValueError(wanted)
    return rate


def _absolute(text: str) -> str:
    if not text.startswith("/") or "\0" in text:
        raise ValueError("give a path from the root")
    return text


def _endpoint(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("give https://host or http://host:port")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("nothing but scheme, host, port and path belongs in it")
    if _port(text) > 0xFFFF:
        raise ValueError("that port does not exist")
    return text.rstrip("/")


def _checksum(text: str) -> str:
    if text not in ("md5", "crc32c", "none"):
        raise ValueError("give md5, crc32c or none")
    return text


def _host_key(text: str) -> str:
    if not re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}=?|[a-z0-9@.-]+ [A-Za-z0-9+/]+=*", text):
        raise ValueError("give SHA256:... or 'ssh-ed25519 AAAA...', as ssh-keyscan prints it")
    return text


@dataclass(frozen=True)
class Scheme:
    """What a URL of one scheme may have. `host`: what stands there, for messages.

    `options`: their parsers, which raise ValueError with the way out. `required`: those of them
    that must be there.
    """

    host: str
    options: Mapping[str, Callable[[str], object]]
    required: tuple[str, ...] = ()
    has_user: bool = False
    has_port: bool = False


_NETWORK = {"timeout": _seconds, "slowest": _rate}
_OBJECTS = {**_NETWORK, "endpoint": _endpoint, "conditional": _flag}
_WEBDAV = Scheme("host", _NETWORK, has_user=True, has_port=True)
SCHEMES = {
    "file": Scheme("", {"mountpoint": _absolute}),
    "s3": Scheme(
        "bucket",
        {
            **_OBJECTS,
            "region": _word,
            "virtual_host": _flag,
            "storage_class": _word,
            "checksum": _checksum,
            "anonymous": _flag,
        },
    ),
    "gcs": Scheme("bucket", {**_OBJECTS, "storage_class": _word, "anonymous": _flag}),
    "azblob": Scheme("container", {**_OBJECTS, "account": _word}),
    "b2": Scheme("bucket", {**_NETWORK, "bucket_id": _word}, required=("bucket_id",)),
    "webdav+https": _WEBDAV,
    "webdav+http": _WEBDAV,
    "sftp": Scheme(
        "host",
        {
            "timeout": _seconds,
            "known_hosts": _absolute,
            "host_key": _host_key,
            "private_key": _absolute,
            "connections": _count,
        },
        has_user=True,
        has_port=True,
    ),
    "memory": Scheme("name", {}),
}


def parse(url: str) -> Address:
    """What `url` says. Raises BadRemote, which names what is wrong in it and the way out."""
    name, separator, _ = url.partition("://")
    name = name.lower()
    if not separator or name not in SCHEMES:
        shown = f"{name!r} is none" if re.fullmatch("[a-z0-9+.-]{1,20}", name) else "this has none"
        lasting = (f"{one}://" for one in SCHEMES if one != "memory")
        raise BadRemote(f"a remote's URL begins with one of {', '.join(lasting)}: {shown}")
    scheme = SCHEMES[name]
    try:
        parts = urlsplit(url)
    except ValueError:
        raise BadRemote(f"{name}: the {scheme.host or 'path'} in the URL makes no sense") from None
    if parts.fragment:
        raise BadRemote(f"{name}: a URL has no '#': write it as %23")
    user, host, port = _authority(name, scheme, parts.netloc)
    return Address(
        name, host, _path(name, parts.path), port, user, _options(name, scheme, parts.query)
    )


def _port(url: str) -> int:
    """The port in the URL, 0 for none, 65536 for one that makes no sense."""
    try:
        port = urlsplit(url).port
    except ValueError:
        return 0x10000
    return 0 if port is None else port or 0x10000


def _authority(name: str, scheme: Scheme, netloc: str) -> tuple[str, str, int]:
    """User, host and port of a URL."""
    user, _, rest = netloc.rpartition("@")
    if ":" in user:
        raise BadRemote(f"{name}: no password belongs in a URL: put it where --secrets reads it")
    if user and not scheme.has_user:
        raise BadRemote(f"{name}: no user or key belongs before the {scheme.host or 'path'}")
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]@]*)(?::(.*))?", rest)
    if not found:
        raise BadRemote(f"{name}: the {scheme.host or 'path'} in the URL makes no sense")
    host, port = found[1], found[2]
    if not scheme.host and rest:
        raise BadRemote(
            f"{name}: give the directory from the root, with three slashes: {name}:///dir"
        )
    if scheme.host and not host:
        raise BadRemote(
            f"{name}: the URL lacks the {scheme.host}: {name}://{scheme.host.upper()}/..."
        )
    if not re.fullmatch(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", host) and scheme.host:
        raise BadRemote(f"{name}: the {scheme.host} in the URL has characters that none has")
    if port is None:
        return unquote(user), host, 0
    if not scheme.has_port:
        raise BadRemote(
            f"{name}: no port belongs behind the {scheme.host}: give it in the endpoint"
        )
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 0x10000:
        raise BadRemote(f"{name}: the port is to be a number from 1 to 65535")
    return unquote(user), host, int(port)


def _path(name: str, written: str) -> str:
    """The path of a URL, decoded."""
    path = unquote(written)
    if ".." in path.split("/") or not path.isprintable():
        raise BadRemote(f"{name}: the path of the URL has '..' or control characters in it")
    if name == "file":
        if not path.strip("/"):
            raise BadRemote(f"{name}: the URL lacks the directory: {name}:///dir")
        return path.rstrip("/")
    if name == "sftp":
        return path.rstrip("/").removeprefix("/~/") if path.startswith("/~/") else path or "/"
    if name == "memory" and path.strip("/"):
        raise BadRemote("memory: a name, and no path behind it")
    return path.strip("/")


def _options(name: str, scheme: Scheme, query: str) -> Mapping[str, Any]:
    """The options of a URL, parsed."""
    options: dict[str, Any] = {}
    for key, text in parse_qsl(query, keep_blank_values=True):
        if key in KEYS and key not in scheme.options:
            raise BadRemote(f"{name}: {key} is a secret: put it where --secrets reads it")
        if key not in scheme.options:
            known = ", ".join(sorted(scheme.options)) or "none"
            raise BadRemote(f"{name}: no such option: {_shown(key)} (there are: {known})")
        if key in options:
            raise BadRemote(f"{name}: option {key} is given twice")
        try:
            options[key] = scheme.options[key](text)
        except ValueError as error:
            raise BadRemote(f"{name}: option {key}: {error}") from None
    for key in scheme.required:
        if key not in options:
            raise BadRemote(f"{name}: option {key} is missing: ...?{key}=...")
    return MappingProxyType(options)


def _shown(key: str) -> str:
    """A key that nobody knows, unless it might be a secret that slipped in."""
    return key if re.fullmatch("[A-Za-z_-]{1,30}", key) else "(not a word)"


def connect(url: str, secrets: Secrets = NO_SECRETS) -> Remote:
    """The remote at `url`. Nothing is sent yet: what is wrong there, the first call raises.

    Raises BadRemote.
    """
    address = parse(url)
    # A driver's library takes time and memory, and may be missing where it is not used.
    if address.scheme == "memory":
        from fusefs.remotes.memory import MemoryRemote

        return MemoryRemote(address.place)
    if address.scheme == "file":
        from fusefs.remotes.directory import DirectoryRemote

        mountpoint = address.options.get("mountpoint")
        return DirectoryRemote(
            address.place, Path(address.path), Path(mountpoint) if mountpoint else None
        )
    if address.scheme == "sftp":
        return need("paramiko", "sftp", _sftp)(address, secrets)
    return need("opendal", "s3", _objects)(address, secrets)


def _objects() -> Callable[[Address, Secrets], Remote]:
    from fusefs.remotes.objects import ObjectRemote

    return ObjectRemote


def _sftp() -> Callable[[Address, Secrets], Remote]:
    from fusefs.remotes.sftp import SftpRemote

    return SftpRemote


def need(library: str, extra: str, load: Callable[[], _T]) -> _T:
    """What `load` imports. Raises BadRemote where the library is not there."""
    try:
        return load()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != library:
            raise
        raise BadRemote(
            f"{library} is not installed: install fusefs with its extra {extra}, in a checkout by"
            f" pip install '.[{extra}]'"
        ) from None
