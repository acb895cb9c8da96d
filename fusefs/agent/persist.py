"""Tasks that go on whatever happens: a failure of one is logged, waited out, and no other's."""

from collections.abc import Awaitable, Callable

import structlog
import trio

from fusefs.errors import DaemonFailed, FusefsError

FIRST_REST_S, LAST_REST_S = 0.5, 60.0

log = structlog.get_logger(__name__)


async def persist(step: Callable[[], Awaitable[None]], name: str) -> None:
    """Call `step` again and again, after each failure with a longer rest; until cancelled.

    A step waits by itself while there is nothing to do, best in a verb that waits for it.
    """
    rest_s = FIRST_REST_S
    while True:
        try:
            await step()
        except DaemonFailed as error:
            log.debug("the daemon cannot be asked", task=name, error=str(error))
        except FusefsError as error:
            log.warning("a task waits", task=name, error=str(error))
        except Exception:
            log.exception("a task failed, and is begun again", task=name)
        else:
            rest_s = FIRST_REST_S
            await trio.lowlevel.checkpoint()
            continue
        await trio.sleep(rest_s)
        rest_s = min(rest_s * 2, LAST_REST_S)
