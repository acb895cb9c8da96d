"""fusefs key: which passphrases and key files open an encrypted store."""

from typing import Annotated

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json, Target
from fusefs.cli.remote.key import MAX_LABEL, Label, now, show_slots
from fusefs.cli.remote.unlocking import NewKeyFile, NewPassphraseFile
from fusefs.cli.unlocking import KeyFile, PassphraseFile

app = typer.Typer(
    name="key",
    help="Say which passphrases and key files open an encrypted store.",
    no_args_is_help=False,
    rich_markup_mode=None,
)


@app.command("list")
def list_slots(target: Target = ".", as_json: Json = False) -> None:
    """List the key slots of an encrypted store. No key is needed.

    \b
    Example:
      fusefs key list /srv/store
    """
    from fusefs.daemon.target import resolve
    from fusefs.store import keyring

    show_slots(keyring.slots(resolve(target).store), as_json=as_json)


@app.command("add")
def add(
    target: Target = ".",
    key_file: KeyFile = "",
    passphrase_file: PassphraseFile = "",
    new_key_file: NewKeyFile = None,
    new_passphrase_file: NewPassphraseFile = None,
    label: Label = "",
) -> None:
    """Let one more passphrase or key file open a store; it may be mounted.

    \b
    Example:
      fusefs key add /srv/store --key-file /root/key --new-passphrase-file /root/second
    """
    store, number, _ = _add(
        target, (key_file, passphrase_file), (new_key_file, new_passphrase_file), label,
        replacing=False,
    )  # fmt: skip
    output.line(f"key slot {number} opens {store} as well")


@app.command("change")
def change(
    target: Target = ".",
    key_file: KeyFile = "",
    passphrase_file: PassphraseFile = "",
    new_key_file: NewKeyFile = None,
    new_passphrase_file: NewPassphraseFile = None,
    label: Label = "",
) -> None:
    """Replace the passphrase or key file that is given now by another; nothing else is written.

    Copies of STORE/fusefs.json, and older checkpoints in remotes, are still opened by the old one.
    Whoever learned it may know the key of the data: where that is feared, make a new store.

    \b
    Example:
      fusefs key change /srv/store --new-key-file /media/stick/key
    """
    store, number, old = _add(
        target, (key_file, passphrase_file), (new_key_file, new_passphrase_file), label,
        replacing=True,
    )  # fmt: skip
    output.line(f"key slot {number} opens {store}, what opened slot {old} no longer")


@app.command("remove")
def remove(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="The store, or any path below its mountpoint.")
    ],
    slot: Annotated[int, typer.Argument(metavar="SLOT", help="As 'key list' says.")],
    key_file: KeyFile = "",
    passphrase_file: PassphraseFile = "",
) -> None:
    """Take a key slot away: what opened it opens the store no more. The last one stays.

    \b
    Example:
      fusefs key remove /srv/store 2
    """
    from fusefs.cli.unlocking import present
    from fusefs.daemon.target import resolve
    from fusefs.store import keyring

    store = resolve(target).store
    keyring.slots(store)
    keyring.remove(store, present(store, key_file, passphrase_file), slot)
    output.line(f"key slot {slot} no longer opens {store}")


def _add(
    target: str,
    present_files: tuple[str, str],
    new_files: tuple[str | None, str | None],
    label: str,
    *,
    replacing: bool,
) -> tuple[str, int, int]:
    """(the store, number of the new slot, of the one that was opened)."""
    from fusefs.cli.remote import unlocking
    from fusefs.cli.unlocking import present
    from fusefs.daemon.target import resolve
    from fusefs.store import keyring

    store = resolve(target).store
    keyring.slots(store)
    secret = present(store, *present_files)
    keyring.opened(store, secret)  # before a new one is asked for
    number, old = keyring.add(
        store, secret, unlocking.new(*new_files), label=label[:MAX_LABEL], created=now(),
        replacing=replacing,
    )  # fmt: skip
    return str(store), number, old
