"""From the row of a remote to the remote: connected, within its room and bandwidth, patient,
unlocked.

::

    Verified( Encrypted( Retrying( Spared( Throttled( driver ) ) ) ) )

So what is tried again is the same bytes, and whoever asks for a whole object gets what its name
says or an error.
"""

import os

from fusefs.base.clock import SystemClock
from fusefs.model.remote import Remote as Row
from fusefs.remotes import secrets
from fusefs.remotes.address import connect as connect_to
from fusefs.remotes.api import Remote
from fusefs.remotes.encrypted import open_with
from fusefs.remotes.retry import Retrying, Tried
from fusefs.remotes.room import Spared
from fusefs.remotes.throttle import Limits, Throttled
from fusefs.remotes.verify import Verified


def connect(row: Row, tried: Tried | None = None, limits: Limits | None = None) -> Remote:
    """The remote of a row; `tried` hears of calls that are made again. `limits`: of all who share
    its bandwidth; None for one who has it alone.

    Raises BadRemote, WrongKey, and of an encrypted one what reading its key slots raises.
    """
    known = secrets.read(row.secrets, os.environ)
    clock = SystemClock()
    remote: Remote = connect_to(row.url, known)
    if row.limit:
        limits = limits or Limits(clock)
        remote = Throttled(remote, *limits.buckets(row.url, row.limit))
    remote = Retrying(Spared(remote, clock), clock, tried=tried)
    if row.is_encrypted:
        remote = open_with(remote, known)
    return Verified(remote)
