"""The stager: has what a transfer needs of its sources brought to where it can be read at once."""

import trio

from fusefs.errors import RemoteUnreachable
from fusefs.model import transfer as model
from fusefs.model.transfer import Operation, Transfer
from fusefs.transfers.role import Role, rest_s


class Stager(Role):
    """Has those whose sources are elsewhere."""

    name = model.Role.STAGER

    async def work(self, id: bytes, transfer: Transfer) -> None:
        moves = self._records.specification(id).moves
        for number, files in self._records.waiting(id).items():
            paths = [file.path for file in files]
            tries = 0
            while True:
                try:
                    await self._office.carrier.stage(moves[number].source, paths)
                    break
                except RemoteUnreachable:
                    tries += 1
                    if tries > self._office.options.retries:
                        raise
                await trio.sleep(rest_s(tries))
        await self.change(id, Operation.MOVE)
