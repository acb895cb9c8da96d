"""fusefs sync adopt: go on in a remote where another has published."""

import os

from fusefs.cli import output
from fusefs.cli.arguments import Json
from fusefs.cli.remote.adding import Name, Store
from fusefs.cli.remote.where import connected


def adopt(target: Store, name: Name, as_json: Json = False) -> None:
    """Take over a remote to which another machine with this store has published.

    From then on this store is what the remote holds, and the other writer is refused. What the
    other one changed since the two went apart is in its checkpoints, until these expire.

    \b
    Example:
      fusefs sync adopt ~/mnt bucket
    """
    from fusefs.cli.reaching import reach
    from fusefs.daemon.target import resolve
    from fusefs.errors import RemoteTaken
    from fusefs.sync import layout

    with reach(resolve(target).store) as surface:
        uuid = surface.status()["uuid"]
        with connected(surface, name) as (remote, _):
            newest = max(layout.sequences(remote), default=0)
            if newest and (found := layout.read_checkpoint(remote, newest)).uuid != uuid:
                raise RemoteTaken(
                    f"{remote.place} holds another store by now ({found.uuid}): remove this remote"
                    " and give the store another place"
                )
        record = surface.ask(
            "remote_adopt", name=name, sequence=newest, writer=os.urandom(16).hex()
        )
    if as_json:
        output.as_json(record)
