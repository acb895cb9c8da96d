"""fusefs remote: places where copies of a store are kept. One file per verb."""

import typer

from fusefs.cli.remote import adding, changing, key, listing, removing, trial

app = typer.Typer(
    name="remote",
    help="Places where copies of a store are kept.",
    no_args_is_help=False,
    rich_markup_mode=None,
)
app.command("add")(adding.add)
app.command("list")(listing.list_remotes)
app.command("show")(listing.show)
app.command("set")(changing.change)
app.command("remove")(removing.remove)
app.command("test")(trial.try_out)
app.add_typer(key.app, name="key")
