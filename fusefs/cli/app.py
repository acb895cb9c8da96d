"""The program `fusefs`: its verbs, and the one place where errors become exit codes."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from fusefs import __version__
from fusefs.cli import (
    agent,
    clone,
    copies,
    cp,
    df,
    events,
    evict,
    fetch,
    fsck,
    gc,
    info,
    init,
    mount,
    output,
    partial,
    pin,
    rebuild,
    remote,
    scrub,
    status,
    sync,
    transfer,
    trash,
    umount,
    version,
    whereis,
)
from fusefs.errors import FusefsError, UsageError

#: Of the shell: 128 and the number of SIGINT, of SIGPIPE.
INTERRUPTED = 130
PIPE_CLOSED = 141

app = typer.Typer(
    name="fusefs",
    help="A filesystem that continues interrupted copies and forgets nothing too early.",
    epilog="Start with: fusefs init STORE, fusefs mount STORE MNT. Each verb has --help.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(init.init)
app.command("mount")(mount.mount)
app.command("umount")(umount.umount)
app.command("cp")(cp.cp)
app.command("put")(cp.put)
app.command("get")(cp.get)
app.command("status")(status.status)
app.command("info")(info.info)
app.command("df")(df.df)
app.command("events")(events.events)
app.command("fsck")(fsck.fsck)
app.command("rebuild")(rebuild.rebuild)
app.command("gc")(gc.gc)
app.command("scrub")(scrub.scrub)
app.command("clone")(clone.clone)
app.command("evict")(evict.evict)
app.command("fetch")(fetch.fetch)
app.command("pin")(pin.pin)
app.command("unpin")(pin.unpin)
app.command("whereis")(whereis.whereis)
app.command("copies")(copies.copies)
app.add_typer(trash.app, name="trash")
app.add_typer(partial.app, name="partial")
app.add_typer(transfer.app, name="transfer")
app.add_typer(remote.app, name="remote")
app.add_typer(sync.app, name="sync")
app.command("version")(version.version)
app.command("agent", hidden=True)(agent.agent)


@app.callback(invoke_without_command=True)
def _program(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks, log more.")] = False,
    show_version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if debug:
        os.environ["FUSEFS_DEBUG"] = "1"
    if show_version:
        output.line(f"fusefs {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(UsageError.exit_code)


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Do what `arguments` say; returns the exit code. Errors are one line on stderr."""
    try:
        _arm_failpoints()
        code = app(
            args=list(map(fsck.spelled, arguments)), prog_name="fusefs", standalone_mode=False
        )
        sys.stdout.flush()
    except FusefsError as error:
        return _failed(str(error), error.exit_code)
    except typer.TyperException as error:
        # What the parser has to say about the command line; it carries its own words and code.
        message = getattr(error, "format_message", error.__str__)()
        return _failed(message, getattr(error, "exit_code", UsageError.exit_code))
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return PIPE_CLOSED
    except Exception as error:
        return _failed(f"unexpected {type(error).__name__}: {error} (details: --debug)", 1)
    return code if isinstance(code, int) else 0


def _failed(message: str, code: int) -> int:
    if os.environ.get("FUSEFS_DEBUG"):
        traceback.print_exc()
    print(f"fusefs: {output.printable(message)}", file=sys.stderr)
    return code


def _arm_failpoints() -> None:
    """Let a test that starts this program plan its faults."""
    if plan := os.environ.get("FUSEFS_FAILPOINTS"):
        from fusefs.base import failpoints

        failpoints.arm(plan)
