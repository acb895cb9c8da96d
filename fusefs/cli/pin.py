"""fusefs pin and unpin: what is to stay on this disk."""

from typing import Annotated

import typer

from fusefs.cli import output

Path = Annotated[str, typer.Argument(metavar="PATH", help="A file or directory in a mount.")]


def pin(
    path: Path,
    fetch: Annotated[
        bool, typer.Option("--fetch/--no-fetch", help="Bring back what is not here.")
    ] = True,
) -> None:
    """Keep a file, or all below a directory, on this disk: no eviction takes it.

    What is not here comes back now. The pin is the attribute user.fusefs.pin, and holds for what is
    made below later; 0 there excepts a file or directory from the pin above it.

    \b
    Example:
      fusefs pin ~/mnt/photos
    """
    from fusefs.cli.fetch import fetch_below
    from fusefs.cli.places import Places
    from fusefs.daemon.target import resolve

    if not fetch:
        _set(path, is_pinned=True)
        return
    place = resolve(path)
    with Places() as places:
        places.served(place.store)  # no daemon can be forked from who has opened the store
        _set(path, is_pinned=True)
        record = fetch_below(place.store, place.inner or b"")
        if record["segments"]:
            segments = output.counted(record["segments"], "segment", "segments")
            output.line(f"{segments} came back")


def unpin(path: Path) -> None:
    """Take away the pin of a file or directory; one above it holds on.

    \b
    Example:
      fusefs unpin ~/mnt/photos
    """
    _set(path, is_pinned=None)


def _set(path: str, *, is_pinned: bool | None) -> None:
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve

    place = resolve(path)
    with reach(place.store) as surface:
        surface.ask("pin", path=place.inner or b"", is_pinned=is_pinned)
