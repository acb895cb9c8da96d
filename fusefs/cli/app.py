"""The program `fusefs`: its verbs, and the one place where errors become exit codes."""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from fusefs import __version__
from fusefs.cli import output
from fusefs.cli.spelling import spelled
from fusefs.errors import FusefsError, UsageError

#: Of the shell: 128 and the number of SIGINT, of SIGPIPE.
INTERRUPTED = 130
PIPE_CLOSED = 141

#: Verb: its module in `fusefs.cli`, which has a function of that name. In the order of --help.
VERBS = {
    "init": "init",
    "mount": "mount",
    "umount": "umount",
    "cp": "cp",
    "put": "cp",
    "get": "cp",
    "status": "status",
    "info": "info",
    "df": "df",
    "events": "events",
    "fsck": "fsck",
    "rebuild": "rebuild",
    "gc": "gc",
    "scrub": "scrub",
    "clone": "clone",
    "evict": "evict",
    "fetch": "fetch",
    "pin": "pin",
    "unpin": "pin",
    "whereis": "whereis",
    "copies": "copies",
    "version": "version",
    "agent": "agent",
}
#: Modules of `fusefs.cli` with verbs of their own, behind those above.
GROUPS = ("trash", "partial", "transfer", "remote", "sync", "key")
#: Of no use to people.
_HIDDEN = ("agent",)


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


def parser(arguments: Sequence[str]) -> typer.Typer:
    """What understands `arguments`.

    It knows the verb that they name, or all verbs if they name none: to load and to describe all
    takes as long as the work of most.
    """
    called = next((argument for argument in arguments if not argument.startswith("-")), "")
    known = [*VERBS, *GROUPS]
    app = typer.Typer(
        name="fusefs",
        help="A filesystem that continues interrupted copies and forgets nothing too early.",
        epilog="Start with: fusefs init STORE, fusefs mount STORE MNT. Each verb has --help.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_program)
    for verb in [called] if called in known else known:
        module = importlib.import_module(f"fusefs.cli.{VERBS.get(verb, verb)}")
        if verb in GROUPS:
            app.add_typer(module.app, name=verb)
        else:
            app.command(verb, hidden=verb in _HIDDEN)(getattr(module, verb))
    return app


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Do what `arguments` say; returns the exit code. Errors are one line on stderr."""
    try:
        _arm_failpoints()
        code = parser(arguments)(
            args=list(map(spelled, arguments)), prog_name="fusefs", standalone_mode=False
        )
        sys.stdout.flush()
    except FusefsError as error:
        return _failed(str(error), error.exit_code)
    except typer.TyperException as error:
        # What the parser has to say about the command line; it carries its own words and code.
        message = getattr(error, "format_message", error.__str__)()
        if context := getattr(error, "ctx", None):
            message = f"{message.rstrip('.')}; see {context.command_path} --help"
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
