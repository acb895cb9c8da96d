"""Where passphrases and key files come from: the secrets of a remote, files, or a terminal.

Never from the command line, which every process of the machine can read.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fusefs.model.keyslot import Secret

NewKeyFile = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="What shall open it: a key file, 32 random bytes or more."),
]
NewPassphraseFile = Annotated[
    str | None, typer.Option(metavar="FILE", help="What shall open it: the passphrase in FILE.")
]
_MAX_PASSPHRASE_BYTES = 4096


def present(place: str, secrets: Mapping[str, str]) -> "Secret":
    """What opens the remote at `place` now: as its secrets say, else asked for at a terminal.

    Raises WrongKey where there is neither, BadRemote where a key file cannot be read.
    """
    from fusefs.errors import WrongKey
    from fusefs.model import keyslot
    from fusefs.remotes import keyring

    if (found := keyring.secret(secrets)) is not None:
        return found
    if not sys.stdin.isatty():
        raise WrongKey(
            f"{place} is encrypted: put passphrase = or key_file = where --secrets reads it"
        )
    return keyslot.passphrase(
        typer.prompt(f"Passphrase of {place}", hide_input=True, err=True, type=str)
    )


def new(key_file: str | None, passphrase_file: str | None) -> "Secret":
    """What shall open a remote from now on: from a file, else asked for twice at a terminal.

    Raises UsageError.
    """
    from fusefs.errors import UsageError
    from fusefs.model import keyslot
    from fusefs.remotes import keyring

    if key_file is not None and passphrase_file is not None:
        raise UsageError("give --new-key-file or --new-passphrase-file, not both")
    try:
        if key_file is not None:
            return keyring.read_key_file(Path(key_file))
        if passphrase_file is not None:
            return keyslot.passphrase(first_line(Path(passphrase_file)))
        if not sys.stdin.isatty():
            raise UsageError("say what shall open it: --new-key-file or --new-passphrase-file")
        return keyslot.passphrase(
            typer.prompt(
                "New passphrase", hide_input=True, confirmation_prompt=True, err=True, type=str
            )
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def first_line(path: Path) -> str:
    """Raises ValueError, without what is in the file."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_PASSPHRASE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    line, _, rest = content.partition(b"\n")
    if rest.strip() or len(content) > _MAX_PASSPHRASE_BYTES:
        raise ValueError(
            f"{path}: a passphrase is one line of at most {_MAX_PASSPHRASE_BYTES} bytes"
        )
    if not line.removesuffix(b"\r"):
        raise ValueError(f"{path}: its first line is empty, where the passphrase should be")
    try:
        return line.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not text in UTF-8") from None
