"""Transfers: each has what was asked for, its files, sums that are theirs, and one end."""

from collections.abc import Iterator
from itertools import groupby

from fusefs.fsck.problem import Problem
from fusefs.fsck.tables import Tables
from fusefs.model import keys
from fusefs.model.transfer import File, FileState, Specification, Transfer


def transfers(tables: Tables) -> Iterator[Problem]:
    """What is wrong with them; rows that do not decode were told before."""
    for id, rows in groupby(tables.transfer_rows(), key=lambda row: row[0]):
        where = f"transfer {id.hex()}"
        head: Transfer | None = None
        asked: Specification | None = None
        files: list[File] = []
        for _, row in rows:
            match row:
                case Transfer():
                    head = row
                case Specification():
                    asked = row
                case File():
                    files.append(row)
        if head is None:
            yield Problem("transfer", where, "has no status")
            continue
        if asked is None:
            yield Problem("transfer", where, "does not say what was asked for")
        yield from _sums(where, head, files)
        if head.is_terminal and not tables.has(keys.journal(head.history[-1].time_ns, id)):
            yield Problem("transfer", where, f"is {head.status}, and not in the journal")


def _sums(where: str, head: Transfer, files: list[File]) -> Iterator[Problem]:
    moved = [file for file in files if file.state is FileState.MOVED]
    skipped = sum(file.state is FileState.SKIPPED for file in files)
    counted = (
        len(files), len(moved), skipped, sum(file.size for file in files),
        sum(file.size for file in moved),
    )  # fmt: skip
    told = (
        head.files_total, head.files_moved, head.files_skipped, head.bytes_total, head.bytes_moved,
    )  # fmt: skip
    names = ("files", "moved files", "skipped files", "bytes", "moved bytes")
    for name, found, said in zip(names, counted, told, strict=True):
        if found != said:
            yield Problem("transfer", where, f"has {found} {name}, and says {said}")
