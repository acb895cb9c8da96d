"""From the row of a remote to the remote: connected, unlocked, within its bandwidth, patient."""

import os

from fusefs.model.remote import Remote as Row
from fusefs.remotes import secrets
from fusefs.remotes.address import connect as connect_to
from fusefs.remotes.api import Remote
from fusefs.remotes.encrypted import open_with


def connect(row: Row) -> Remote:
    """The remote of a row.

    Raises BadRemote, WrongKey, and of an encrypted one what reading its key slots raises.
    """
    known = secrets.read(row.secrets, os.environ)
    remote = connect_to(row.url, known)
    if not row.is_encrypted:
        return remote
    return open_with(remote, known)
