"""mount.fusefs: what mount(8) runs for ``mount -t fusefs STORE MNT`` and for lines of fstab.

::

    /srv/store  /data  fusefs  allow_other,noatime,_netdev  0  0

Its arguments are ``STORE MNT [-sfnv] [-N namespace] [-o options] [-t type]`` and its exit codes
those of mount(8), which differ from those of `fusefs`.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from fusefs.cli import output
from fusefs.errors import FusefsError, FuseUnavailable, NotPermitted, UsageError

#: Of mount(8): 1 wrong invocation or permissions, 2 system error, 32 mount failure.
WRONG_INVOCATION = 1
SYSTEM_ERROR = 2
MOUNT_FAILED = 32


@dataclass
class Request:
    """What mount(8) asks for."""

    store: str = ""
    mountpoint: str = ""
    options: list[str] = field(default_factory=list)
    is_fake: bool = False
    is_verbose: bool = False


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Mount as `arguments` say; returns an exit code of mount(8)."""
    try:
        _mount(parse(arguments))
    except (UsageError, NotPermitted, FuseUnavailable) as error:
        return _failed(str(error), WRONG_INVOCATION)
    except FusefsError as error:
        return _failed(str(error), MOUNT_FAILED)
    except Exception as error:
        return _failed(f"unexpected {type(error).__name__}: {error}", SYSTEM_ERROR)
    return 0


def _failed(message: str, code: int) -> int:
    print(f"mount.fusefs: {output.printable(message)}", file=sys.stderr)
    return code


def parse(arguments: Sequence[str]) -> Request:
    """Read the command line of a mount helper; -s, -n, -N and -t say nothing to us.

    Raises UsageError.
    """
    request = Request()
    paths = []
    rest = list(arguments)[::-1]
    while rest:
        argument = rest.pop()
        if not argument.startswith("-") or argument == "-":
            paths.append(argument)
            continue
        for position, letter in enumerate(argument[1:], 2):
            if letter in "oNt":
                value = argument[position:] or (rest.pop() if rest else "")
                if letter == "o":
                    request.options.append(value)
                break
            if letter == "f":
                request.is_fake = True
            elif letter == "v":
                request.is_verbose = True
            elif letter not in "sn":
                raise UsageError(f"unknown option -{letter}")
    if len(paths) != 2:
        raise UsageError("usage: mount.fusefs STORE MNT [-sfnv] [-N ns] [-t type] [-o options]")
    request.store, request.mountpoint = paths
    return request


def _mount(request: Request) -> None:
    if request.is_fake:
        return _check(request)
    from fusefs.cli.mount import mount_store

    # The PATH of a boot may lack the place of fusermount3.
    os.environ["PATH"] = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin:/usr/bin:/sbin:/bin"
    mount_store(request.store, request.mountpoint, request.options)
    if request.is_verbose:
        output.line(output.printable(f"{request.store} mounted on {request.mountpoint}"))


def _check(request: Request) -> None:
    """Everything that a mount checks before it changes anything."""
    from fusefs.config.options import MountOptions
    from fusefs.daemon.mountpoint import check_device, check_mountpoint
    from fusefs.daemon.target import real_path
    from fusefs.store import identity

    store = real_path(request.store)
    MountOptions.parse(request.options)
    check_device()
    identity.read(store)
    check_mountpoint(store, real_path(request.mountpoint))
