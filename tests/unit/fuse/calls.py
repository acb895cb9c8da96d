"""What a request handler is called with."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

Call = Callable[..., Any]


def context(uid: int = 0, gid: int = 0) -> Any:
    """A RequestContext, which only pyfuse3 can make."""
    return SimpleNamespace(uid=uid, gid=gid, pid=1, umask=0)
