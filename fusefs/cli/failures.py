"""How a verb ends that was to do several things, some of which failed."""

from collections.abc import Sequence
from typing import Any

from fusefs.cli import output
from fusefs.errors import FusefsError, SomeFailed


def fail(failed: Sequence[tuple[str, dict[str, Any]]], done: int) -> None:
    """End with what failed, if anything did: alone by its own code, among others by SomeFailed.

    `failed`: (what, the error as a record).
    """
    from fusefs.daemon.wire import decode_error

    errors: list[FusefsError] = [decode_error(described) for _, described in failed]
    if len(errors) == 1 and not done:
        raise errors[0]
    if errors:
        for error in errors:
            output.complain(str(error))
        raise SomeFailed(f"{len(errors)} of {len(errors) + done} failed, see above")
