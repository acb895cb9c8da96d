"""fusefs rebuild: make the index of a store anew."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json, Target
from fusefs.cli.progress import bar
from fusefs.cli.unlocking import KeyFile, PassphraseFile

if TYPE_CHECKING:
    from pathlib import Path

    from fusefs.store.cipher import Cipher
    from fusefs.store.rebuild import Rebuilt

DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")]


def rebuild(
    target: Target = ".",
    dry_run: DryRun = False,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss", help="Go on where changes of names and attributes cannot be read."
        ),
    ] = False,
    key_file: KeyFile = "",
    passphrase_file: PassphraseFile = "",
    as_json: Json = False,
) -> None:
    """Make the index of a store anew, from its snapshot and its log.

    For a store whose index is missing or damaged, and which is not mounted. The log is not
    changed. The index that is there is kept as STORE/index.old until the next mount. Damaged
    blocks are passed over, and the files that need them are named; the exit code is 40 then.

    \b
    Example:
      fusefs rebuild --dry-run /srv/store
      fusefs rebuild /srv/store
    """
    from fusefs.cli.unlocking import cipher_of
    from fusefs.daemon.target import resolve
    from fusefs.errors import DamageFound
    from fusefs.store import rebuild

    store = resolve(target).store
    cipher = cipher_of(store, key_file, passphrase_file)
    with rebuild.alone(store):
        with bar("reading the log") as progress:
            plan = rebuild.plan(store, progress, cipher)
        record = plan.record()
        if dry_run:
            _print(record, as_json)
            if plan.damages:
                raise DamageFound(f"the log of {store} is damaged, in the parts named above")
            return
        if plan.losses:
            for one in plan.losses:
                output.complain(f"lost: {one}")
        with bar("making the index") as progress:
            made = rebuild.apply(plan, accept_loss=accept_loss, progress=progress)
    record |= _made(store, made, cipher)
    _print(record, as_json)
    if plan.losses:
        raise DamageFound(
            f"{store} has an index again, without what stood in the damaged parts of its log: run"
            " fusefs fsck, which names what does not fit together"
        )
    if made.damaged:
        raise DamageFound(f"{store} has an index again; some files are damaged, named above")


def _made(store: "Path", made: "Rebuilt", cipher: "Cipher | None") -> dict[str, Any]:
    from fusefs.fsck.check import users_of

    return {
        "rows": made.rows,
        "recounted_blocks": len(made.recounted),
        "old_index": str(made.old) if made.old else None,
        "problems": [
            {"kind": one.kind, "where": one.where, "message": one.message}
            for one in users_of(store, dict(made.damaged), cipher)
        ],
    }


def _print(record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.as_json(record)
        return
    for one in record.pop("problems", ()):
        output.line(output.printable(f"{one['kind']}: {one['where']}: {one['message']}"))
    lost = record.pop("losses")
    for one in record.pop("damages"):
        what = "lost" if one in lost else "damaged"
        output.line(output.printable(f"{what}: {one}"))
    output.record({name: value for name, value in record.items() if value not in ("", None)})
