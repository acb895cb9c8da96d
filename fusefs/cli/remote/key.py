"""fusefs remote key: which passphrases and key files open an encrypted remote."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json
from fusefs.cli.remote.unlocking import NewKeyFile, NewPassphraseFile
from fusefs.cli.remote.where import Secrets, Where, reached

if TYPE_CHECKING:
    from fusefs.model.keyslot import Slot

app = typer.Typer(
    name="key",
    help="Say which passphrases and key files open an encrypted remote.",
    no_args_is_help=False,
    rich_markup_mode=None,
)

Label = Annotated[str, typer.Option(metavar="TEXT", help="For people: whose it is, say.")]
MAX_LABEL = 100


@app.command("list")
def list_slots(where: Where, secrets: Secrets = "", as_json: Json = False) -> None:
    """List the key slots of an encrypted remote. No passphrase is needed.

    \b
    Example:
      fusefs remote key list ~/mnt offsite
    """
    from fusefs.errors import BadRemote
    from fusefs.remotes import keyring

    with reached(where, secrets) as (remote, _):
        slots = keyring.slots(remote)
        place = remote.place
    if not slots:
        raise BadRemote(f"{place} is not encrypted: it holds no key slot that can be read")
    show_slots(slots, as_json=as_json)


@app.command("add")
def add(
    where: Where,
    secrets: Secrets = "",
    new_key_file: NewKeyFile = None,
    new_passphrase_file: NewPassphraseFile = None,
    label: Label = "",
) -> None:
    """Let one more passphrase or key file open a remote.

    What opens it now comes from its secrets, or is asked for.

    \b
    Example:
      fusefs remote key add ~/mnt offsite --new-key-file /media/stick/key
    """
    from fusefs.cli.remote import unlocking
    from fusefs.remotes import keyring

    with reached(where, secrets) as (remote, known):
        data_key = keyring.unlock(remote, unlocking.present(remote.place, known))
        secret = unlocking.new(new_key_file, new_passphrase_file)
        number = keyring.add(remote, data_key, secret, label=label[:MAX_LABEL], created=now())
    output.line(f"key slot {number} opens {remote.place} as well")


@app.command("change")
def change(
    where: Where,
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
      fusefs remote key change ~/mnt offsite
    """
    from fusefs.cli.remote import unlocking
    from fusefs.remotes import keyring

    with reached(where, secrets) as (remote, known):
        old, data_key = keyring.opened(remote, unlocking.present(remote.place, known))
        secret = unlocking.new(new_key_file, new_passphrase_file)
        number = keyring.add(remote, data_key, secret, label=label[:MAX_LABEL], created=now())
        keyring.remove(remote, old, data_key)
    output.line(f"key slot {number} opens {remote.place}, slot {old} no longer")
    if known:
        output.line(f"put the new one where its secrets are read: {known.source}")


@app.command("remove")
def remove(
    where: Annotated[
        list[str],
        typer.Argument(metavar="(MNT NAME | URL) SLOT", help="Which slot, as 'key list' says."),
    ],
    secrets: Secrets = "",
) -> None:
    """Take a key slot away: what opened it opens the remote no more. The last one stays.

    \b
    Example:
      fusefs remote key remove ~/mnt offsite 2
    """
    from fusefs.cli.remote import unlocking
    from fusefs.errors import UsageError
    from fusefs.remotes import keyring

    *where, slot = where
    if not slot.isdecimal():
        raise UsageError(f"say which slot at the end, by its number: {slot!r} is none")
    with reached(where, secrets) as (remote, known):
        data_key = keyring.unlock(remote, unlocking.present(remote.place, known))
        keyring.remove(remote, int(slot), data_key)
    output.line(f"key slot {slot} no longer opens {remote.place}")


def show_slots(slots: "Mapping[int, Slot]", *, as_json: bool) -> None:
    """Key slots by their numbers, of a remote or of a store."""
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
        # Whoever can write where they are can write anything here.
        [str(number), slot.kind, *map(output.printable, (output.moment(slot.created), slot.label))]
        for number, slot in slots.items()
    )
    output.table(columns, rows)


def now() -> str:
    from fusefs.base.clock import SystemClock, utc

    return utc(SystemClock().time_ns())
