"""The remotes of a store: their rows, and every change of them."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from fusefs.errors import BadRemote, NoSuchRemote, StoreDamaged, WrongState
from fusefs.model import keys, remote
from fusefs.model.remote import Remote
from fusefs.store.store import Store

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
#: What transfers call the store.
_STORE = "store"
#: Of these a change makes another connection necessary, or another order; the rest are books.
_CHANGEABLE = frozenset({"url", "secrets", "cost", "limit", "is_paused"})


def rows(store: Store) -> Iterator[tuple[str, Remote]]:
    """The remotes of a store, with their names. Raises StoreDamaged."""
    for key, row in store.scan(keys.REMOTE):
        try:
            yield key[1:].decode(), remote.unpack_remote(row)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StoreDamaged(
                f"{store.path}: the row of a remote does not decode: run fusefs fsck"
            ) from error


def by_number(store: Store) -> dict[int, tuple[str, Remote]]:
    """The remotes of a store by their numbers, with their names. Raises StoreDamaged."""
    return {row.number: (name, row) for name, row in rows(store)}


def check_name(name: str) -> None:
    """Raises BadRemote where no remote can have that name."""
    if not _NAME.fullmatch(name):
        raise BadRemote(
            f"{name!r} is no name for a remote: give up to 64 letters, digits and . _ -"
        )
    if name == _STORE:
        raise BadRemote(f"{name!r} is the store itself, in transfers: give another name")


class Registry:
    """The rows of the remotes of `store`. `version` grows with each change but of the books."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.version = 0
        self._rows = dict(rows(store))

    def __iter__(self) -> Iterator[tuple[str, Remote]]:
        return iter(sorted(self._rows.items()))

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, name: str) -> Remote | None:
        return self._rows.get(name)

    def get(self, name: str) -> Remote:
        """Raises NoSuchRemote."""
        if (row := self._rows.get(name)) is None:
            known = ", ".join(sorted(self._rows)) or "none"
            raise NoSuchRemote(f"the store has no remote {name} (there are: {known})")
        return row

    def synced(self) -> Iterator[tuple[str, Remote]]:
        """Those that the store goes to."""
        return ((name, row) for name, row in self if not row.is_trash)

    def add(self, name: str, row: Remote) -> Remote:
        """Record a remote, under a number that no other had. Raises BadRemote, WrongState."""
        check_name(name)
        if name in self._rows:
            raise WrongState(f"there is a remote {name}: give another name, or remove that one")
        number = remote.next_number(self._rows.values(), self._store.clock.time_ns())
        row = msgspec.structs.replace(row, number=number)
        self._write(name, row)
        self.version += 1
        return row

    def change(self, name: str, **fields: Any) -> Remote:
        """Replace fields of a row. Raises NoSuchRemote."""
        before = self.get(name)
        row = msgspec.structs.replace(before, **fields)
        if row != before:
            self._write(name, row)
            self.version += bool(_CHANGEABLE & fields.keys())
        return row

    def remove(self, name: str) -> None:
        """Forget a remote; the rows of what is in it are gone already. Raises NoSuchRemote."""
        self.get(name)
        batch = self._store.batch()
        batch.delete(keys.remote(name))
        self._store.commit(batch)
        del self._rows[name]
        self.version += 1

    def _write(self, name: str, row: Remote) -> None:
        batch = self._store.batch()
        batch.put(keys.remote(name), remote.pack(row))
        self._store.commit(batch)
        self._rows[name] = row
