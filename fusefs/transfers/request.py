"""From a request to what is recorded; whatever is wrong with it is refused here, before that."""

import json
import posixpath
import pwd
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fusefs import errors
from fusefs.base.units import readable_size
from fusefs.config.transfers import TransferOptions
from fusefs.errors import BadTransfer, NotPermitted, PayloadTooLarge, RemoteFull, UnknownEndpoint
from fusefs.model.transfer import Endpoint, File, Move, Policy
from fusefs.transfers import manifest
from fusefs.transfers.api import Surveyed

#: Of the description, and of the instructions.
TEXT_MAX_BYTES = 256 << 10
#: What is kept free at a destination that says how much it has.
RESERVE_BYTES = 100 << 20


def check_texts(description: str, instructions: str) -> None:
    """Raises BadTransfer."""
    for name, text in (("description", description), ("instructions", instructions)):
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise BadTransfer(f"{name}: not valid Unicode") from None
        if size > TEXT_MAX_BYTES:
            raise BadTransfer(f"{name}: {size} bytes are more than {TEXT_MAX_BYTES}")
    if not instructions:
        return
    try:
        value = json.loads(instructions, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadTransfer(f"instructions: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise BadTransfer("instructions: give a JSON object, such as {}")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def shown_user(uid: int) -> str:
    """The name of a user, or the number of one that has none here."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def user_name(user: str, uid: int) -> str:
    """Whose a transfer is: `user`, if that is who asks or root asks.

    Raises BadTransfer for one that does not exist, NotPermitted.
    """
    if not user:
        return shown_user(uid)
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise BadTransfer(f"user: there is no user {user!r} here") from None
    if uid not in (0, found.pw_uid):
        raise NotPermitted(f"user: only root may ask for a transfer in the name of {user}")
    return user


def check_ends(moves: Sequence[Move], destination: Endpoint, options: TransferOptions) -> None:
    """What can be seen without looking. Raises BadTransfer, PayloadTooLarge."""
    asked = [(move.source, path) for move in moves for path in move.files]
    if not asked:
        raise BadTransfer("files: name at least one")
    if len(asked) > options.files:
        raise PayloadTooLarge(f"files: {len(asked)} are more than {options.files} (transfer_files)")
    same = Counter((source, posixpath.normpath(path)) for source, path in asked)
    for source, path in asked:
        if not path:
            raise BadTransfer(f"files: one has no name: write . for all of {source.shown}")
        if (count := same[source, posixpath.normpath(path)]) > 1:
            raise BadTransfer(f"files: {_text(path)} of {source.shown} is named {count} times")
        parts = path.split(b"/")
        if path.startswith(b"/") or b".." in parts or b"\0" in path:
            raise BadTransfer(f"files: {_text(path)} is not a path below {source.shown}")
    for move in moves:
        if move.source == destination:
            raise BadTransfer(
                f"destination: {destination.shown} is the source as well, so nothing would move"
            )


def files_of(
    surveyed: Surveyed,
    moves: Sequence[Move],
    options: TransferOptions,
    policy: Policy = Policy.STOP,
) -> list[File]:
    """The files of a transfer, if it may be; what the destination can never take is left to be
    skipped by one that continues.

    Raises UnknownEndpoint, BadTransfer, PayloadTooLarge.
    """
    taken = dict[bytes, int]()
    for found in surveyed.files:
        source = moves[found.move].source.shown
        if found.error:
            raise UnknownEndpoint(f"files: {_text(found.path)}: {found.error}")
        if not {b"", b".", b".."}.isdisjoint(found.path.split(b"/")) or b"\0" in found.path:
            raise BadTransfer(
                f"files: {_text(found.path)} of {source} is no name that a file can have"
            )
        if found.unfit and policy is Policy.STOP:
            raise errors.named(found.unfit_kind, f"files: {found.unfit}", BadTransfer)
        if found.path == manifest.NAME or found.path.split(b"/")[0] == manifest.PARTIAL:
            raise BadTransfer(
                f"files: {_text(found.path)} of {source} is a name that the transfer needs itself:"
                " give a source above it, so that its path is longer"
            )
        if found.path in taken:
            other = moves[taken[found.path]].source.shown
            raise BadTransfer(
                f"files: {_text(found.path)} comes from {other} and from {source}:"
                " both would have the same name"
            )
        taken[found.path] = found.move
    for path in taken:
        above = path
        while above := above.rpartition(b"/")[0]:
            if above in taken:
                raise BadTransfer(
                    f"files: {_text(above)} would be a file and the directory of {_text(path)}"
                )
    if len(surveyed.files) > options.files:
        raise PayloadTooLarge(
            f"files: more than {options.files} (transfer_files): split the transfer"
        )
    size = sum(found.size for found in surveyed.files)
    if size > options.payload_bytes:
        raise PayloadTooLarge(
            f"files: {readable_size(size)} are more than {readable_size(options.payload_bytes)}"
            " (transfer_payload): split the transfer"
        )
    return [
        File(number, found.move, found.path, found.size)
        for number, found in enumerate(surveyed.files)
    ]


def check_room(surveyed: Surveyed, needed: int, reserved: int, destination: Endpoint) -> None:
    """`reserved`: what transfers under way have still to bring there. Raises RemoteFull."""
    if surveyed.free_bytes is None:
        return
    room = surveyed.free_bytes - reserved - RESERVE_BYTES
    if needed > room:
        raise RemoteFull(
            f"destination: {destination.shown} has room for {readable_size(max(room, 0))}, beside a"
            f" reserve of {readable_size(RESERVE_BYTES)} and {readable_size(reserved)} that are on"
            f" their way: {readable_size(needed)} are needed"
        )


def _text(path: bytes) -> str:
    return path.decode(errors="backslashreplace")
