"""fusefs events: what happened in a mounted store, and what happens."""

import select
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from fusefs.base.events import Kind
from fusefs.cli import output
from fusefs.cli.arguments import Target
from fusefs.cli.interrupt import at_interrupt

if TYPE_CHECKING:
    from fusefs.daemon.client import Client

Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Go on with what comes, until the unmount or Ctrl-C.")
]
Kinds = Annotated[
    list[Kind] | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        help=f"Only events of this kind; may be given again. One of {', '.join(Kind)}.",
    ),
]


def events(target: Target = ".", follow: Follow = False, kinds: Kinds = None) -> None:
    """Print the last events of a mounted store, one JSON object a line.

    The daemon keeps 1000 of them. A reader who is far too slow misses some, and gets a line of the
    kind "lost" with their count.

    \b
    Example:
      fusefs events ~/mnt
      fusefs events --follow --kind collected ~/mnt | jq .freed_bytes
    """
    from fusefs.daemon.client import Client
    from fusefs.daemon.target import resolve
    from fusefs.errors import DaemonFailed, NotMounted

    store = resolve(target).store
    client = Client.connect(store)
    if client is None:
        if follow:
            raise NotMounted(f"{store} is not mounted, so nothing will happen: mount it first")
        return
    unread = threading.Event()
    threading.Thread(target=_watch_reader, args=(client, unread), daemon=True).start()
    with client, at_interrupt(client.hang_up):
        try:
            for event in client.events(follow=follow, kinds=kinds or ()):
                output.json_line(event)
        except DaemonFailed:
            if unread.is_set():
                raise BrokenPipeError from None
            raise


def _watch_reader(client: "Client", unread: threading.Event) -> None:
    """Hang up when nobody reads our output any more; the next event may be far."""
    poll = select.poll()
    poll.register(1, 0)
    if any(found & select.POLLERR for _, found in poll.poll()):
        unread.set()
        client.hang_up()
