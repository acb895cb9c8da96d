"""The dispatcher: lets transfers begin as there is a place for them, staged or to be staged."""

from fusefs.model import transfer as model
from fusefs.model.transfer import Operation, Transfer
from fusefs.transfers.queue import Queue
from fusefs.transfers.role import Office, Role


class Dispatcher(Role):
    """Has those that wait for a place."""

    name = model.Role.DISPATCHER

    def __init__(self, office: Office, queue: Queue) -> None:
        super().__init__(office)
        self._queue = queue

    async def work(self, id: bytes, transfer: Transfer) -> None:
        await self._queue.take(id)
        is_begun = False
        try:
            moves = self._records.specification(id).moves
            for number, files in self._records.waiting(id).items():
                paths = [file.path for file in files]
                if not await self._office.carrier.is_staged(moves[number].source, paths):
                    await self.change(id, Operation.STAGE)
                    break
            else:
                await self.change(id, Operation.MOVE)
            is_begun = True
        finally:
            if not is_begun:
                self._queue.give_back(id)
