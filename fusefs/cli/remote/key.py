"""fusefs remote key: which passphrases and key files open an encrypted remote."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json
from fusefs.cli.remote.trial import Secrets
from fusefs.cli.remote.unlocking import NewKeyFile, NewPassphraseFile

if TYPE_CHECKING:
    from fusefs.remotes.api import Remote
    from fusefs.remotes.secrets import Secrets as Known

app = typer.Typer(
    name="key",
    help="Say which passphrases and key files open an encrypted remote.",
    no_args_is_help=False,
    rich_markup_mode=None,
)

Url = Annotated[str, typer.Argument(help="Where it is, as it was given when it was added.")]
Label = Annotated[str, typer.Option(metavar="TEXT", help="For people: whose it is, say.")]
_MAX_LABEL = 100


@app.command("list")
def list_slots(url: Url, secrets: Secrets = "", as_json: Json = False) -> None:
    """List the key slots of an encrypted remote. No passphrase is needed.

    \b
    Example:
      fusefs remote key list file:///mnt/usb/backup
    """
    from fusefs.errors import BadRemote
    from fusefs.remotes import keyring

    with _reached(url, secrets) as (remote, _):
        slots = keyring.slots(remote)
        where = remote.place
    if not slots:
        raise BadRemote(f"{where} is not encrypted: it holds no key slot that can be read")
    if as_json:
        output.as_json(
            [
                {"slot": number, "kind": slot.kind, "label": slot.label, "created": slot.created}
                for number, slot in slots.items()
            ]
        )
        return
    columns = [output.Column(title) for title in ("slot", "kind", "created", "label")]
    rows = (
        [str(number), slot.kind, output.moment(slot.created), output.printable(slot.label)]
        for number, slot in slots.items()
    )
    output.table(columns, rows)


@app.command("add")
def add(
    url: Url,
    secrets: Secrets = "",
    new_key_file: NewKeyFile = None,
    new_passphrase_file: NewPassphraseFile = None,
    label: Label = "",
) -> None:
    """Let one more passphrase or key file open a remote.

    What opens it now comes from its secrets, or is asked for.

    \b
    Example:
      fusefs remote key add file:///mnt/usb/backup --new-key-file /media/stick/key
    """
    from fusefs.cli.remote import unlocking
    from fusefs.remotes import keyring

    with _reached(url, secrets) as (remote, known):
        data_key = keyring.unlock(remote, unlocking.present(remote.place, known))
        secret = unlocking.new(new_key_file, new_passphrase_file)
        number = keyring.add(remote, data_key, secret, label=label[:_MAX_LABEL], created=_now())
    output.line(f"key slot {number} opens {remote.place} as well")


@app.command("change")
def change(
    url: Url,
    secrets: Secrets = "",
    new_key_file: NewKeyFile = None,
    new_passphrase_file: NewPassphraseFile = None,
    label: Label = "",
) -> None:
    """Replace the passphrase or key file that opens a remote now by another.

    Nothing that is stored there is written again. Put the new one where the secrets of the remote
    are read from. Whoever learned the old one and saw its slot may know the key of the data: where
    that is feared, make a new remote.

    \b
    Example:
      fusefs remote key change file:///mnt/usb/backup
    """
    from fusefs.cli.remote import unlocking
    from fusefs.remotes import keyring

    with _reached(url, secrets) as (remote, known):
        old, data_key = keyring.opened(remote, unlocking.present(remote.place, known))
        secret = unlocking.new(new_key_file, new_passphrase_file)
        number = keyring.add(remote, data_key, secret, label=label[:_MAX_LABEL], created=_now())
        keyring.remove(remote, old, data_key)
    output.line(f"key slot {number} opens {remote.place}, slot {old} no longer")


@app.command("remove")
def remove(
    url: Url,
    slot: Annotated[int, typer.Argument(metavar="SLOT", help="As 'key list' numbers them.")],
    secrets: Secrets = "",
) -> None:
    """Take a key slot away: what opened it opens the remote no more. The last one stays.

    \b
    Example:
      fusefs remote key remove file:///mnt/usb/backup 2
    """
    from fusefs.cli.remote import unlocking
    from fusefs.remotes import keyring

    with _reached(url, secrets) as (remote, known):
        data_key = keyring.unlock(remote, unlocking.present(remote.place, known))
        keyring.remove(remote, slot, data_key)
    output.line(f"key slot {slot} no longer opens {remote.place}")


@contextmanager
def _reached(url: str, source: str) -> "Iterator[tuple[Remote, Known]]":
    """The raw remote, and its secrets. Raises BadRemote."""
    from fusefs.remotes import address
    from fusefs.remotes.secrets import read

    known = read(source, os.environ)
    remote = address.connect(url, known)
    try:
        yield remote, known
    finally:
        remote.close()


def _now() -> str:
    from fusefs.base.clock import SystemClock, utc

    return utc(SystemClock().time_ns())
