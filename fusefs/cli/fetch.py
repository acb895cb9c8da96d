"""fusefs fetch: bring content back from remotes."""

from pathlib import Path
from typing import Annotated

import typer

from fusefs.cli import output
from fusefs.cli.arguments import Json
from fusefs.cli.progress import bar


def fetch(
    target: Annotated[
        str, typer.Argument(metavar="PATH", help="A file or directory; a mountpoint for all.")
    ],
    as_json: Json = False,
) -> None:
    """Bring all content of a file, or of all files below a directory, back to this disk.

    Whole segments come, verified, and stay until an eviction. What was fetched before, by readers
    or by a fetch that was interrupted, does not come again. A later eviction may drop it: 'fusefs
    pin' keeps it here.

    \b
    Example:
      fusefs fetch ~/mnt/videos
    """
    from fusefs.daemon.target import resolve

    place = resolve(target)
    record = fetch_below(place.store, place.inner or b"")
    if as_json:
        output.as_json(record)
    else:
        segments = output.counted(record["segments"], "segment", "segments")
        fetched = output.size(record["fetched_bytes"])
        output.line(f"{segments} came back, for which {fetched} were fetched")


def fetch_below(store: Path, path: bytes) -> dict[str, int]:
    """Bring back what a file or directory needs."""
    from fusefs.cli.places import Places
    from fusefs.cli.reaching import reach

    with Places() as places:
        places.served(store)
        with reach(store) as surface, bar("fetching") as on_progress:
            segments = surface.ask("fetch_plan", path=path)["segments"]
            total = sum(size for _, size in segments)
            done = fetched = 0
            for number, size in segments:
                if on_progress:
                    on_progress(done, total)
                fetched += surface.ask("fetch_segment", segment=number)["fetched_bytes"]
                done += size
    return {"segments": len(segments), "fetched_bytes": fetched}
