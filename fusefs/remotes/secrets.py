"""Secrets of remotes: read where the user keeps them, shown to nobody.

Where they are is said by a *source*::

    file:/path         a file, TOML or lines of KEY=VALUE, that only its owner may read
    env:PREFIX         environment variables PREFIX_ACCESS_KEY_ID and so on
    credential:NAME    the file NAME in $CREDENTIALS_DIRECTORY (systemd: LoadCredential=)

An empty source has none. Keys are those of `KEYS`, in any case. The environment is passed in. No
message says a value: errors name the key, or the line of a file.
"""

import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from fusefs.errors import BadRemote

#: Every key that a secrets file may hold, with what it is for. One file may serve several remotes.
KEYS = {
    "access_key_id": "S3",
    "secret_access_key": "S3",
    "session_token": "S3",
    "credential": "Google: a service account's JSON, as it is or in base64",
    "token": "Google, WebDAV: a bearer token",
    "account_name": "Azure",
    "account_key": "Azure",
    "sas_token": "Azure",
    "application_key_id": "B2",
    "application_key": "B2",
    "username": "WebDAV",
    "password": "WebDAV, SFTP",
    "private_key": "SFTP: path of a private key",
    "private_key_passphrase": "SFTP: of that key",
    "passphrase": "encryption",
    "key_file": "encryption: path of a key file",
}
#: Shorter values are no secrets, and hiding them would garble messages.
_HIDDEN_FROM_CHARACTERS = 4
_SIZE_MAX_BYTES = 1 << 20
_LINE = re.compile(r"(?:export\s+)?([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(.*)")


class Secrets(Mapping[str, str]):
    """Secrets by key. Printing them shows the keys only."""

    def __init__(self, values: Mapping[str, str] | None = None, source: str = "") -> None:
        self._values = dict(values or {})
        self.source = source

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<secrets {', '.join(sorted(self)) or 'none'} from {self.source or 'nowhere'}>"

    def need(self, key: str, what: str) -> str:
        """The value of `key`, which `what` cannot do without. Raises BadRemote."""
        if value := self._values.get(key):
            return value
        if not self.source:
            raise BadRemote(f"{what} needs the secret {key}: say where it is by --secrets")
        raise BadRemote(f"{what} needs the secret {key}, and {_spelled(self.source, key)} is not")

    def hide(self, text: str) -> str:
        """`text` without any of the values."""
        for value in sorted(self._values.values(), key=len, reverse=True):
            if len(value) >= _HIDDEN_FROM_CHARACTERS:
                text = text.replace(value, "***")
        return text


def _spelled(source: str, key: str) -> str:
    """How `key` is written in `source`, for the end of a sentence on what is missing."""
    kind, _, rest = source.partition(":")
    return f"${_variable(rest, key)} is set" if kind == "env" else f"in {source} it"


def read(source: str, environment: Mapping[str, str]) -> Secrets:
    """What `source` holds. Raises BadRemote, which names the source, the key and the way out."""
    kind, _, rest = source.partition(":")
    if not source:
        return Secrets()
    if kind == "file":
        return _of_file(source, Path(rest))
    if kind == "env":
        return _of_environment(source, rest, environment)
    if kind == "credential":
        return _of_credential(source, rest, environment)
    # What stands there may be the secret itself: it is not repeated.
    raise BadRemote(
        "secrets: give file:/path, env:PREFIX or credential:NAME, not the secret itself"
    )


def _variable(prefix: str, key: str) -> str:
    return f"{prefix.removesuffix('_')}_{key.upper()}"


def _of_environment(source: str, prefix: str, environment: Mapping[str, str]) -> Secrets:
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", prefix):
        raise BadRemote("secrets: env: needs a prefix of variables, such as env:BACKUP")
    found = {key: environment.get(_variable(prefix, key), "") for key in KEYS}
    values = {key: value for key, value in found.items() if value}
    if not values:
        raise BadRemote(
            f"secrets {source}: no variable like ${_variable(prefix, 'password')} is set"
        )
    return Secrets(values, source)


def _of_credential(source: str, name: str, environment: Mapping[str, str]) -> Secrets:
    if not name or "/" in name:
        raise BadRemote("secrets: credential: needs the name of a systemd credential")
    directory = environment.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise BadRemote(
            f"secrets {source}: $CREDENTIALS_DIRECTORY is not set: give the unit "
            f"LoadCredential={name}:/path"
        )
    # Its mode is not looked at: systemd opens it to the service by an access control list, which
    # looks like a right of the group.
    return Secrets(
        _parse(source, _content(source, Path(directory, name), is_private=False)), source
    )


def _of_file(source: str, path: Path) -> Secrets:
    if not path.is_absolute():
        raise BadRemote(f"secrets {source}: give the path from the root, such as file:/etc/key")
    return Secrets(_parse(source, _content(source, path, is_private=True)), source)


def _content(source: str, path: Path, is_private: bool) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BadRemote(f"secrets {source}: {error.strerror}") from None
    try:
        what = os.fstat(descriptor)
        if not stat.S_ISREG(what.st_mode):
            raise BadRemote(f"secrets {source}: not a file")
        if is_private and what.st_mode & 0o077:
            raise BadRemote(f"secrets {source}: others may read it: chmod 600 {path}")
        content = os.read(descriptor, _SIZE_MAX_BYTES)
    except OSError as error:
        raise BadRemote(f"secrets {source}: {error.strerror}") from None
    finally:
        os.close(descriptor)
    return content


def _parse(source: str, content: bytes) -> dict[str, str]:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise BadRemote(f"secrets {source}: not text") from None
    try:
        written: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        written = dict(_lines(source, text))
    values: dict[str, str] = {}
    for name, value in written.items():
        key = name.lower().replace("-", "_")
        if key not in KEYS:
            raise BadRemote(f"secrets {source}: no such key: {name}; there are {', '.join(KEYS)}")
        if not isinstance(value, str) or not value:
            raise BadRemote(f"secrets {source}: {name} is to be a text that is not empty")
        values[key] = value
    if not values:
        raise BadRemote(f"secrets {source}: it is empty")
    return values


def _lines(source: str, text: str) -> Iterator[tuple[str, str]]:
    """The pairs of lines of KEY=VALUE; empty lines and those of # are passed over."""
    for number, line in enumerate(text.splitlines(), 1):
        if not (line := line.strip()) or line.startswith("#"):
            continue
        if not (found := _LINE.fullmatch(line)):
            raise BadRemote(f"secrets {source}: line {number} is neither TOML nor KEY=VALUE")
        value = found[2]
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        yield found[1], value
