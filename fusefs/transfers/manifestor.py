"""The manifestor: puts the manifest in place, which says that a transfer is complete."""

from math import inf

import structlog
import trio
from msgspec.structs import replace

from fusefs.base import failpoints
from fusefs.errors import FusefsError, RemoteUnreachable, StoreError
from fusefs.model import transfer as model
from fusefs.model.transfer import Operation, Transfer
from fusefs.transfers import manifest
from fusefs.transfers.recorder import LAST_WORD_S
from fusefs.transfers.records import shown
from fusefs.transfers.role import Role, rest_s

log = structlog.get_logger(__name__)


class Manifestor(Role):
    """Has those whose files are all there."""

    name = model.Role.MANIFESTOR

    async def work(self, id: bytes, transfer: Transfer) -> None:
        asked = self._records.specification(id)
        content = manifest.make(asked, self._records.files(id), transfer.history[-1].time_ns)
        tries = 0
        while True:
            try:
                place = await self._put(id, asked.destination, content)
                break
            except StoreError:
                raise
            except FusefsError as error:
                tries += 1
                if tries > self._office.options.retries:
                    raise
                log.info("a manifest is tried again", transfer=shown(id), error=str(error))
            await trio.sleep(rest_s(tries))
        failpoints.hit("transfer.manifest")

        def succeed(one: Transfer) -> Transfer:
            done = self._changed(one, Operation.SUCCEED, "")
            return replace(done, manifest=place)

        with trio.move_on_after(
            LAST_WORD_S, shield=True
        ):  # it is there, and so the transfer is complete
            await self._recorder.change(id, succeed)

    async def _put(self, id: bytes, destination: model.Endpoint, content: str) -> str:
        stall_s = self._office.options.stall_s
        with trio.CancelScope(deadline=inf) as scope:

            def on_progress(_good: int, _sent: int) -> None:
                scope.deadline = trio.current_time() + stall_s

            return await self._office.carrier.put_manifest(
                id, destination, content.encode(), on_progress
            )
        raise RemoteUnreachable(
            f"the manifest did not move for {stall_s:g} s: look at {destination.shown}"
        )
