"""Named places where a test can make the program fail, die, or stop until it is told to go on.

The code calls `hit("log.append")` at the places where the order of things matters. Without a
plan that is one attribute test. A plan comes from a test in the same process (`arm`), or, for a
daemon that a test starts, from ``FUSEFS_FAILPOINTS`` through the CLI::

    log.append=3:kill        the third time: SIGKILL to oneself
    purge.ended=2:stop       the second time: SIGSTOP to oneself
    checkpoint.commit=1:EIO  the first time: OSError(EIO)

`hits()` shows which were reached: a fault that was not hit is a test that tested nothing.
"""

import errno
import os
import signal
from collections import Counter

_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
_plan: dict[str, tuple[int, str]] = {}
_hits: Counter[str] = Counter()


def hit(name: str) -> None:
    """Note that `name` was reached; fail here when the plan says so."""
    if not _plan:
        return
    _hits[name] += 1
    if (planned := _plan.get(name)) and _hits[name] == planned[0]:
        _fail(name, planned[1])


def _fail(name: str, action: str) -> None:
    if action in _SIGNALS:
        os.kill(os.getpid(), _SIGNALS[action])
        return
    raise OSError(getattr(errno, action), f"failpoint {name}")


def arm(plan: str) -> None:
    """Set the plan, such as ``log.append=3:kill,log.seal=1:EIO``; counting starts at zero.

    Raises ValueError on a plan that does not parse.
    """
    _plan.clear()
    _hits.clear()
    for item in filter(None, plan.split(",")):
        name, _, rest = item.partition("=")
        count, _, action = rest.partition(":")
        if not count.isdigit() or not (action in _SIGNALS or hasattr(errno, action)):
            raise ValueError(f"failpoint {item!r}: expected NAME=COUNT:kill, :stop or :ERRNO")
        _plan[name] = int(count), action


def disarm() -> None:
    """Forget the plan."""
    _plan.clear()


def hits() -> dict[str, int]:
    """How often each failpoint was reached since `arm`."""
    return dict(_hits)
