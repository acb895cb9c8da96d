"""fusefs remote add: have a store kept in a place as well."""

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json
from fusefs.cli.remote.where import Secrets

if TYPE_CHECKING:
    from fusefs.model.remote import Remote as Row
    from fusefs.remotes.api import Remote

Store = Annotated[str, typer.Argument(metavar="MNT", help="The mountpoint, or the store.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="What the remote is called.")]


def add(
    target: Store,
    name: Name,
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Such as s3://bucket/prefix or file:///dir.")
    ],
    secrets: Secrets = "",
    cost: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, max=10_000, help="The cheapest is read from first; here is 100."
        ),
    ] = 200,
    limit: Annotated[
        str,
        typer.Option(
            metavar="RATE",
            help="Bandwidth: 2M, 1M:off for up and down, 08:00-18:00=500K,4M.",
            show_default=False,
        ),
    ] = "",
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Encrypt all there; the secrets have the key.")
    ] = False,
    trash: Annotated[
        bool,
        typer.Option("--trash", help="Not for sync: takes what is dropped for good elsewhere."),
    ] = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take over a place that this store was kept in before.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Have a store kept in a place as well; a mounted one goes there in the background.

    The place is reached and written to before anything is recorded. It must be empty, or with
    --adopt have been this store's: then what is there of it is not sent again.

    \b
    Example:
      fusefs remote add ~/mnt usb file:///mnt/usb/backup
      fusefs remote add ~/mnt bucket 's3://bucket/laptop?region=eu-1' --secrets file:/etc/fusefs/b
      fusefs remote add ~/mnt far sftp://me@host/backup --encrypt --secrets file:/etc/fusefs/far
    """
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve
    from fusefs.errors import BadRemote
    from fusefs.model.remote import Remote as Row
    from fusefs.store import identity

    store = resolve(target).store
    row = Row(
        number=0, url=url, secrets=secrets, cost=cost, limit=limit, is_encrypted=encrypt,
        is_trash=trash, writer=os.urandom(16).hex(),
    )  # fmt: skip
    if identity.read(store).is_encrypted and not encrypt:
        raise BadRemote(f"{store} is encrypted, so its remotes must be: say --encrypt")
    with reach(store) as surface:
        uuid = surface.status()["uuid"]
        _require_free(surface.ask("remotes"), name, url)
        sequence = 0 if trash else _probe(row, uuid, adopt=adopt)
        record: dict[str, Any] = surface.ask(
            "remote_add", name=name, url=url, secrets=secrets, cost=cost, limit=limit,
            is_encrypted=encrypt, is_trash=trash, writer=row.writer, sequence=sequence,
        )  # fmt: skip
    if as_json:
        output.as_json(record)


def _require_free(records: list[dict[str, Any]], name: str, url: str) -> None:
    """Raises BadRemote, WrongState."""
    from fusefs.errors import WrongState
    from fusefs.remotes.address import parse
    from fusefs.sync.registry import check_name

    check_name(name)
    place = parse(url).place
    for known in records:
        if known["name"] == name:
            raise WrongState(
                f"there is a remote {name} already, {known['url']}: give another name, or remove"
                " that one first"
            )
        if parse(known["url"]).place == place:
            raise WrongState(
                f"{url} is the place of the remote {known['name']} already: give another place, or"
                " remove that one first"
            )


def _probe(row: "Row", uuid: str, *, adopt: bool) -> int:
    """The number of the checkpoint that is there, 0 for none, after showing that it can be written.

    Raises RemoteTaken and what a remote raises.
    """
    from fusefs.errors import RemoteTaken
    from fusefs.sync import layout

    remote = _connect(row)
    try:
        if not layout.check(remote):
            remote.put(layout.FORMAT_NAME, layout.pack_format())
        newest = max(layout.sequences(remote), default=0)
        if newest:
            found = layout.read_checkpoint(remote, newest)
            if found.uuid != uuid:
                raise RemoteTaken(
                    f"{remote.place} holds another store ({found.uuid}): give another place"
                )
            if not adopt:
                raise RemoteTaken(
                    f"{remote.place} holds this store already: if nobody else writes to it, take"
                    " it over with --adopt"
                )
        return newest
    finally:
        remote.close()


def _connect(row: "Row") -> "Remote":
    """As the agent will; of one that is to be encrypted, with the first key slot if it has none.

    Raises BadRemote where plain objects would be among encrypted ones, or the other way round.
    """
    from fusefs.base.clock import SystemClock, utc
    from fusefs.errors import BadRemote, WrongKey
    from fusefs.remotes import keyring, secrets
    from fusefs.remotes.address import connect as connect_plain
    from fusefs.remotes.encrypted import initialise
    from fusefs.sync.places import connect

    if not row.is_encrypted:
        remote = connect(row)
        if keyring.is_encrypted(remote):
            remote.close()
            raise BadRemote(
                f"{remote.place} is encrypted: say --encrypt, and where its key is by --secrets"
            )
        return remote
    known = secrets.read(row.secrets, os.environ)
    plain = connect_plain(row.url, known)
    secret = keyring.secret(known)
    if secret is None:
        raise WrongKey(
            f"{plain.place} is to be encrypted: put passphrase = or key_file = where --secrets"
            " reads it"
        )
    return initialise(plain, secret, created=utc(SystemClock().time_ns()))
