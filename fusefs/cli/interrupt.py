"""Ctrl-C for verbs that go on until then."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def at_interrupt(stop: Callable[[], object]) -> Iterator[None]:
    """At Ctrl-C call `stop`, which makes the block end somehow; KeyboardInterrupt is raised then.

    `stop` runs in a signal handler, in the midst of whatever the block does: it must take no lock
    that the block takes too, such as that of a `threading.Event` which somebody waits for.

    Raised in the middle of anything it may be lost, where it falls into a finalizer. A second
    Ctrl-C, for what hangs, is raised at once.
    """
    is_interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal is_interrupted
        if is_interrupted:
            raise KeyboardInterrupt
        is_interrupted = True
        stop()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except Exception:
        if not is_interrupted:
            raise
    finally:
        signal.signal(signal.SIGINT, before)
    if is_interrupted:
        raise KeyboardInterrupt
