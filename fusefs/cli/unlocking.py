"""The key of an encrypted store: from a file, systemd's credentials, or a terminal.

Never from the command line itself, nor as a value of the environment. The daemon gets it as part of
its memory, when it is forked; nothing else needs it.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fusefs.model.keyslot import Secret
    from fusefs.store.cipher import Cipher

KeyFile = Annotated[
    str, typer.Option(metavar="FILE", help="A key file that opens an encrypted store.")
]
PassphraseFile = Annotated[
    str, typer.Option(metavar="FILE", help="The passphrase of an encrypted store is in FILE.")
]
#: Names a key file.
VARIABLE = "FUSEFS_KEY_FILE"
#: Of systemd (LoadCredential=), where nothing else is said.
KEY_CREDENTIAL, PASSPHRASE_CREDENTIAL = "fusefs.key", "fusefs.passphrase"
_CREDENTIAL = "credential:"


def cipher_of(store: Path, key_file: str = "", passphrase_file: str = "") -> "Cipher | None":
    """The keys of `store`, None where it is not encrypted; asks at a terminal where it must.

    Raises WrongKey; UsageError where a file cannot be read, or opens nothing; NotAStore and the
    like.
    """
    from fusefs.errors import UsageError
    from fusefs.store import identity, keyring

    if not identity.read(store).is_encrypted:
        if key_file or passphrase_file:
            raise UsageError(f"{store} is not encrypted: it needs no key")
        return None
    return keyring.unlock(store, present(store, key_file, passphrase_file))


def present(store: Path, key_file: str = "", passphrase_file: str = "") -> "Secret":
    """What opens the encrypted `store` now.

    The files given come first; then the credentials and the environment of this process; then who
    sits at the terminal. Raises WrongKey where there is none of these, UsageError.
    """
    from fusefs.errors import WrongKey
    from fusefs.model import keyslot
    from fusefs.store import keyring
    from fusefs.store.identity import WAYS

    environment = os.environ
    if found := from_files(key_file, passphrase_file, environment):
        return found
    for name in (KEY_CREDENTIAL, PASSPHRASE_CREDENTIAL):
        path = Path(environment.get("CREDENTIALS_DIRECTORY", "/nonexistent"), name)
        if path.is_file():
            is_key = name == KEY_CREDENTIAL
            return _key_file(path) if is_key else _passphrase_file(path)
    if named := environment.get(VARIABLE):
        return _key_file(_path(named, environment))
    slots = keyring.slots(store).values()
    if not sys.stdin.isatty() or all(slot.kind != "passphrase" for slot in slots):
        raise WrongKey(f"{store} is encrypted: {WAYS}")
    return keyslot.passphrase(
        typer.prompt(f"Passphrase of {store}", hide_input=True, err=True, type=str)
    )


def from_files(
    key_file: str, passphrase_file: str, environment: Mapping[str, str]
) -> "Secret | None":
    """The secret in the file that is given, which may be ``credential:NAME``. Raises UsageError."""
    from fusefs.errors import UsageError

    if key_file and passphrase_file:
        raise UsageError("give --key-file or --passphrase-file, not both")
    if key_file:
        return _key_file(_path(key_file, environment))
    if passphrase_file:
        return _passphrase_file(_path(passphrase_file, environment))
    return None


def first(key_file: str, passphrase_file: str) -> "Secret":
    """What shall open a new store; where no file says it, asked for twice. Raises UsageError."""
    from fusefs.errors import UsageError
    from fusefs.model import keyslot

    if found := from_files(key_file, passphrase_file, os.environ):
        return found
    if not sys.stdin.isatty():
        raise UsageError("--encrypt: say what shall open it by --key-file or --passphrase-file")
    return keyslot.passphrase(
        typer.prompt(
            "New passphrase", hide_input=True, confirmation_prompt=True, err=True, type=str
        )
    )


def _path(given: str, environment: Mapping[str, str]) -> Path:
    from fusefs.errors import UsageError

    if not given.startswith(_CREDENTIAL):
        return Path(given)
    name, directory = given.removeprefix(_CREDENTIAL), environment.get("CREDENTIALS_DIRECTORY")
    if not name or "/" in name:
        raise UsageError(f"{given}: give the name of a systemd credential")
    if not directory:
        raise UsageError(
            f"{given}: $CREDENTIALS_DIRECTORY is not set: give the unit LoadCredential={name}:/path"
        )
    return Path(directory, name)


def _key_file(path: Path) -> "Secret":
    from fusefs.errors import UsageError
    from fusefs.remotes import keyring

    try:
        return keyring.read_key_file(path)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _passphrase_file(path: Path) -> "Secret":
    from fusefs.cli.remote.unlocking import first_line
    from fusefs.errors import UsageError
    from fusefs.model import keyslot

    try:
        return keyslot.passphrase(first_line(path))
    except ValueError as error:
        raise UsageError(str(error)) from error
