"""fusefs cp, put and get: copies that go on where they were interrupted."""

from typing import TYPE_CHECKING, Annotated

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json

if TYPE_CHECKING:
    from fusefs.sender.outcome import Outcome

Paths = Annotated[
    list[str],
    typer.Argument(metavar="SRC... DST", help="Paths, or STORE:/path.", show_default=False),
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Directories with all below them.")
]
Preserve = Annotated[
    bool,
    typer.Option("--preserve", "-p", help="Modes, times, extended attributes; as root owners."),
]
Archive = Annotated[bool, typer.Option("--archive", "-a", help="The same as -r -p.")]
Checksum = Annotated[
    bool,
    typer.Option("--checksum", "-c", help="Skip what has the same content, whatever its time."),
]
Verify = Annotated[bool, typer.Option("--verify", help="Read all back at the end, and compare.")]
Wait = Annotated[
    float,
    typer.Option(
        "--wait", metavar="SECONDS", min=0, help="Wait for a daemon that is gone to come back."
    ),
]


def cp(
    paths: Paths,
    recursive: Recursive = False,
    preserve: Preserve = False,
    archive: Archive = False,
    checksum: Checksum = False,
    verify: Verify = False,
    wait: Wait = 0.0,
    as_json: Json = False,
) -> None:
    """Copy, into a fusefs or out of one; run it again after an interruption, and it goes on.

    Only what the store does not have is sent. A file has its name when all of it has arrived as it
    was read; until then it is .NAME.TOKEN.fusefs-part beside it. What has the size and time of its
    source is skipped. STORE:/path is a path in a store, mounted or not.

    \b
    Example:
      fusefs cp big.iso ~/mnt/
      fusefs cp -a photos /srv/store:/backup
    """
    _copy("cp", paths, recursive, preserve, archive, checksum, verify, wait, as_json)


def put(
    paths: Paths,
    recursive: Recursive = False,
    preserve: Preserve = False,
    archive: Archive = False,
    checksum: Checksum = False,
    verify: Verify = False,
    wait: Wait = 0.0,
    as_json: Json = False,
) -> None:
    """Copy into a fusefs: as cp, but DST must be in one.

    \b
    Example:
      fusefs put big.iso /srv/store:/
    """
    _copy("put", paths, recursive, preserve, archive, checksum, verify, wait, as_json)


def get(
    paths: Paths,
    recursive: Recursive = False,
    preserve: Preserve = False,
    archive: Archive = False,
    checksum: Checksum = False,
    verify: Verify = False,
    wait: Wait = 0.0,
    as_json: Json = False,
) -> None:
    """Copy out of a fusefs: as cp, but each SRC must be in one.

    \b
    Example:
      fusefs get -a /srv/store:/photos .
    """
    _copy("get", paths, recursive, preserve, archive, checksum, verify, wait, as_json)


def _copy(
    verb: str, paths: list[str], recursive: bool, preserve: bool, archive: bool, checksum: bool,
    verify: bool, wait: float, as_json: bool,
) -> None:  # fmt: skip
    from fusefs.cli.places import Places, require_inside
    from fusefs.cli.progress import byte_bar
    from fusefs.errors import SomeFailed, UsageError
    from fusefs.sender.copying import Copying, Options

    if len(paths) < 2:
        raise UsageError(f"give SRC and DST: fusefs {verb} SRC... DST")
    options = Options(
        is_recursive=recursive or archive, is_preserving=preserve or archive,
        by_content=checksum, is_verifying=verify, patience_s=wait,
    )  # fmt: skip
    with Places() as places:
        *sources, target = [places.path(path) for path in paths]
        for path, argument in zip([*sources, target], paths, strict=True):
            if (verb == "put" and path is target) or (verb == "get" and path is not target):
                require_inside(path, argument, verb)
        with byte_bar(sources) as progress:
            copying = Copying(options, progress=progress, say=output.complain)
            outcome = copying.run(sources, target)
    if as_json:
        output.as_json(outcome.record())
    else:
        output.line(_summary(outcome))
    for one in outcome.failed:
        output.complain(f"{one['path']}: {one['error']}")
    if outcome.failed:
        codes = {one.get("exit_code", 1) for one in outcome.failed}
        if len(outcome.failed) == 1 and not outcome.files and not outcome.skipped:
            raise typer.Exit(codes.pop())
        count = output.counted(len(outcome.failed), "item was", "items were")
        raise SomeFailed(f"{count} not copied")


def _summary(outcome: "Outcome") -> str:
    size = output.size
    parts = [
        f"{output.counted(outcome.files, 'file', 'files')}, {size(outcome.total_bytes)}:"
        f" {size(outcome.sent_bytes)} sent, {size(outcome.present_bytes)} there already"
    ]
    if outcome.skipped:
        parts.append(f"{outcome.skipped} skipped")
    if outcome.resumed:
        parts.append(f"{outcome.resumed} resumed")
    return ", ".join(parts) + f", {outcome.seconds:.1f} s"
