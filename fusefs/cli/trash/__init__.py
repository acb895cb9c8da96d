"""fusefs trash: what was removed, the way back, and the way out. One file per verb."""

import typer

from fusefs.cli.trash import history, listing, policy, purge, restore

app = typer.Typer(
    name="trash",
    help="List what was removed, take it back, purge it, and say how long it is kept.",
    no_args_is_help=False,
    rich_markup_mode=None,
)
app.command("list")(listing.list_entries)
app.command("restore")(restore.restore)
app.command("purge")(purge.purge)
app.command("empty")(purge.empty)
app.command("history")(history.history)
app.command("policy")(policy.policy)
