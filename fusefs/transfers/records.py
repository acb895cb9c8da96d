"""The rows of transfers: read, and put together as the batch of one change."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from fusefs.errors import NoSuchTransfer
from fusefs.model import keys
from fusefs.model import transfer as rows
from fusefs.model.transfer import Ended, File, FileState, Specification, Status, Transfer
from fusefs.store.index import Batch
from fusefs.store.store import Store

_KEY_BYTES = 17
_AFTER_ALL_OF_ONE = b"\xff" * 6


class Records:
    """Transfers as `store` remembers them. Reads are of what was committed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, id: bytes) -> Transfer | None:
        row = self._store.get(keys.transfer(id))
        return None if row is None else rows.unpack(row)

    def get(self, id: bytes) -> Transfer:
        """Raises NoSuchTransfer."""
        found = self.find(id)
        if found is None:
            raise NoSuchTransfer(
                f"no transfer {shown(id)}: it was never created, or its record was deleted since;"
                " see fusefs transfer list and fusefs transfer journal"
            )
        return found

    def specification(self, id: bytes) -> Specification:
        """Of a transfer that there is."""
        row = self._store.get(keys.specification(id))
        assert row is not None
        return rows.unpack_specification(row)

    def files(self, id: bytes) -> Iterator[File]:
        for _, row in self._store.scan(keys.transfer_files(id)):
            yield rows.unpack_file(row)

    def waiting(self, id: bytes) -> dict[int, list[File]]:
        """The files that are still to be moved, by the number of their move."""
        found = defaultdict[int, list[File]](list)
        for file in self.files(id):
            if file.state is FileState.WAITING:
                found[file.move].append(file)
        return found

    def all(self) -> Iterator[tuple[bytes, Transfer]]:
        """Every transfer and its id, in no order that means anything; not what does not decode,
        which fsck tells."""
        start = keys.TRANSFER
        while found := next(self._store.scan(start, keys.TRANSFER), None):
            key, row = found
            with suppress(msgspec.MsgspecError):
                if len(key) == _KEY_BYTES:
                    yield key[1:], rows.unpack(row)
            start = key[:_KEY_BYTES] + _AFTER_ALL_OF_ONE

    def journal(self, since_ns: int, until_ns: int) -> Iterator[Ended]:
        """What ended from `since_ns` to `until_ns`, both inclusive, the earliest first."""
        last = keys.journal(until_ns, b"\xff" * 16)
        for key, row in self._store.scan(keys.journal(since_ns, b""), keys.JOURNAL):
            if key > last:
                return
            yield rows.unpack_ended(row)

    # -- batches

    def created(self, asked: Specification, transfer: Transfer, files: Iterable[File]) -> Batch:
        batch = self._store.batch()
        batch.put(keys.transfer(asked.id), rows.pack(transfer))
        batch.put(keys.specification(asked.id), rows.pack(asked))
        for file in files:
            batch.put(keys.transfer_file(asked.id, file.number), rows.pack(file))
        return batch

    def changed(
        self, id: bytes, change: Callable[[Transfer], Transfer], files: Iterable[File] = ()
    ) -> tuple[Batch, Transfer, Transfer]:
        """The batch for a change, with the transfer before and after it.

        `files` are as they are to be: their sums are counted here. One that ends is put into the
        journal by the same batch. Raises NoSuchTransfer, WrongState.
        """
        before = self.get(id)
        batch = self._store.batch()
        after = before
        for file in files:
            key = keys.transfer_file(id, file.number)
            row = self._store.get(key)
            assert row is not None
            after = _counted(_counted(after, rows.unpack_file(row), -1), file, 1)
            batch.put(key, rows.pack(file))
        after = change(after)
        batch.put(keys.transfer(id), rows.pack(after))
        if after.is_terminal and not before.is_terminal:
            ended = self._ended(self.specification(id), after)
            batch.put(keys.journal(ended.stop_ns, id), rows.pack(ended))
        return batch, before, after

    def forgotten(self, ids: Iterable[bytes]) -> Batch:
        """All rows of these go, but for the journal's."""
        batch = self._store.batch()
        for id in ids:
            for key, _ in self._store.scan(keys.transfer(id)):
                batch.delete(key)
        return batch

    def _ended(self, asked: Specification, transfer: Transfer) -> Ended:
        return Ended(
            asked.id,
            transfer.status,
            tuple(move.source for move in asked.moves),
            asked.destination,
            asked.user,
            asked.uid,
            asked.asked_ns,
            transfer.history[-1].time_ns,
            transfer.files_total,
            transfer.files_moved,
            transfer.files_skipped,
            transfer.bytes_moved,
            transfer.manifest if transfer.status is Status.SUCCEEDED else "",
            transfer.error_kind,
            transfer.error,
            asked.description,
        )


def _counted(transfer: Transfer, file: File, sign: int) -> Transfer:
    """The transfer with one file more or less in its sums."""
    is_moved, is_skipped = file.state is FileState.MOVED, file.state is FileState.SKIPPED
    return replace(
        transfer,
        bytes_total=transfer.bytes_total + sign * file.size,
        files_moved=transfer.files_moved + sign * is_moved,
        files_skipped=transfer.files_skipped + sign * is_skipped,
        bytes_moved=transfer.bytes_moved + sign * is_moved * file.size,
    )


def shown(id: bytes) -> str:
    """A UUID as people write it."""
    text = id.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
