"""fusefs transfer: files from one place to another, recorded and proved. One file per verb."""

import typer

from fusefs.cli.transfer import creating, listing, steering, watching

app = typer.Typer(
    name="transfer",
    help="Bring files from one place to another in the background, with a manifest and a record.",
    no_args_is_help=False,
    rich_markup_mode=None,
)
app.command("create")(creating.create)
app.command("list")(listing.list_transfers)
app.command("show")(listing.show)
app.command("watch")(watching.watch)
app.command("cancel")(steering.cancel)
app.command("pause")(steering.pause)
app.command("resume")(steering.resume)
app.command("journal")(listing.journal)
app.command("stop")(steering.stop)
app.command("start")(steering.start)
