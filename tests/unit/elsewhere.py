"""A remote that is a dictionary, and stores whose segments are in it: for tests of what is away."""

from blake3 import blake3

from fusefs.model import keys, remote
from fusefs.model.remote import Copy, Remote
from fusefs.store import format
from fusefs.store.store import Store

NUMBER, NAME = 1, "away"


class Away:
    """`objects`: what the remote holds. `asked`: (segment, offset, size) of what was fetched."""

    def __init__(
        self, store: Store, number: int = NUMBER, name: str = NAME, cost: int = 200
    ) -> None:
        self.store = store
        self.number, self.name = number, name
        self.objects: dict[int, bytes] = {}
        self.names: dict[str, int] = {}
        self.cost = cost
        self.asked: list[tuple[int, int, int]] = []
        batch = store.batch()
        batch.put(keys.remote(name), remote.pack(Remote(number, "memory:", cost=cost)))
        store.commit(batch)

    def copy_all(self) -> list[int]:
        """Seal the log and copy every segment; returns their numbers."""
        store = self.store
        store.roll()
        batch = store.batch()
        for number in sorted(store.segments):
            if number >= store.newest_segment:
                continue
            content = (store.path / "segments" / format.segment_name(number)).read_bytes()
            self.objects[number] = content
            digest = blake3(content).digest()
            copy = Copy(f"segments/{digest.hex()}", len(content), digest, store.clock.time_ns())
            self.names[copy.name] = number
            batch.put(keys.copy(number, self.number), remote.pack(copy))
        row = Remote(
            self.number, "memory:", cost=self.cost, published_segment=store.newest_segment - 1
        )
        batch.put(keys.remote(self.name), remote.pack(row))
        store.commit(batch)
        return sorted(self.objects)

    def evict_all(self) -> list[int]:
        """Copy every segment, and delete those here."""
        copied = self.copy_all()
        self.store.checkpoint()
        self.store.write_snapshot()
        numbers = [number for number in copied if number in self.store.segments]
        for number in numbers:
            self.store.evict(number)
        return numbers

    def by_name(self, name: str) -> bytes:
        """An object."""
        return self.objects[self.names[name]]

    def fetch(self, segment: int, offset: int, size: int) -> None:
        """Lay a part of a segment into the cache."""
        self.asked.append((segment, offset, size))
        self.store.cache.make()
        path = self.store.cache.path(segment)
        path.touch()
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(self.objects[segment][offset : offset + size])
        self.store.cache.used(segment)
