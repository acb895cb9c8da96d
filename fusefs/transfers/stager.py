"""The stager: has what a transfer needs of its sources brought to where it can be read at once."""

import trio

from fusefs.errors import RemoteUnreachable
from fusefs.model import transfer as model
from fusefs.model.transfer import FileState, Operation, Transfer
from fusefs.transfers.role import Role, rest_s


class Stager(Role):
    """Has those whose sources are elsewhere."""

    name = model.Role.STAGER

    async def work(self, id: bytes, transfer: Transfer) -> None:
        for number, move in enumerate(self._records.specification(id).moves):
            paths = [
                file.path
                for file in self._records.files(id)
                if file.move == number and file.state is FileState.WAITING
            ]
            tries = 0
            while True:
                try:
                    await self._office.carrier.stage(move.source, paths)
                    break
                except RemoteUnreachable:
                    tries += 1
                    if tries > self._office.options.retries:
                        raise
                await trio.sleep(rest_s(tries))
        await self.change(id, Operation.MOVE)
