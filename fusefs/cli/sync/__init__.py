"""fusefs sync: how a store goes to its remotes. One file per verb."""

import typer

from fusefs.cli.sync import adopting, draining, expiring, pausing, standing, verifying

app = typer.Typer(
    name="sync",
    help="See, hurry, pause, verify and tidy up how a store goes to its remotes.",
    no_args_is_help=False,
    rich_markup_mode=None,
)
app.command("status")(standing.status)
app.command("now")(draining.now)
app.command("wait")(draining.wait)
app.command("pause")(pausing.pause)
app.command("resume")(pausing.resume)
app.command("verify")(verifying.verify)
app.command("expire")(expiring.expire)
app.command("adopt")(adopting.adopt)
