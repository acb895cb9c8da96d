"""Taking back what was removed: an entry, a batch, a directory with everything in it.

Never overwrites: what stands at the target stays, and the entry stays in the trash. Parents that
are gone are made again, with the owner, mode and attributes that their mirror in the trash has; but
a rule about the trash holds where it was given, so parents made elsewhere get none. A directory
that stands is no obstacle: what was removed from it is laid into it.

An entry or a directory that is moved whole is one act. What takes many acts may be cut short by a
crash between any two: what was not reached then is in the trash as it was.
"""

import re
import stat
from collections.abc import Generator, Iterator
from itertools import islice

from fusefs.base import failpoints
from fusefs.errors import FusefsError, NoSuchEntry, NotPermitted, Refused, TargetExists
from fusefs.model import dirent, keys
from fusefs.model.batch import RemovalBatch
from fusefs.model.entry import Entry, Operation, State, after
from fusefs.model.inode import IN_TRASH, ROOT_INO, TRASH_INO, Inode
from fusefs.trash.globs import is_glob, matcher
from fusefs.trash.ledger import STEP
from fusefs.trash.policy import ATTRIBUTE
from fusefs.trash.trash import Trash
from fusefs.tree.removal import Caller
from fusefs.tree.tree import TRASH_NAME, Tree

#: What the trash puts behind a name that is taken, and the length up to which names keep theirs.
_NUMBERED = re.compile(rb"\.~\d+~+\Z")
_UNCUT = 230


class Restorer:
    """Restores from `trash` on behalf of `caller`.

    `restored`: paths that are there again. `failed`: what was to be restored and could not be, with
    the reason; the rest was done all the same.
    """

    def __init__(self, tree: Tree, trash: Trash, caller: Caller) -> None:
        self._tree = tree
        self._trash = trash
        self._ledger = trash.ledger
        self._caller = caller
        #: (parent, name) of each name that came into being: a kernel's cache must learn of it.
        self.appeared: list[tuple[int, bytes]] = []
        self.restored: list[bytes] = []
        self.failed: list[tuple[bytes, FusefsError]] = []
        self._is_elsewhere = False

    def restore(self, target: int | bytes, to: bytes | None = None) -> list[bytes]:
        """All steps at once; returns the restored paths. Raises what failed first."""
        for _ in self.steps(target, to):
            pass
        if self.failed:
            raise self.failed[0][1]
        return self.restored

    def steps(
        self, target: int | bytes, to: bytes | None = None, *, is_batch: bool = False
    ) -> Iterator[None]:
        """Take back, an act at each step: the entry or batch with this id, or what has this path.

        That is its old path or the one below ``.trash``, or a pattern of old paths. A path that was
        removed several times means the last removal. `is_batch`: all of the batch that an entry
        belongs to. Failures are in `failed`, that nothing was found too.
        """
        self._is_elsewhere = to is not None
        try:
            if isinstance(target, int):
                yield from self._numbered(target, to, is_batch)
            else:
                yield from self._at_path(target.strip(b"/"), to)
        except FusefsError as error:
            self._note(b"%d" % target if isinstance(target, int) else target, error)
        yield from self._trash.revive()

    def last_batch(self) -> int | None:
        """What the caller removed last, if anything of it is in the trash."""
        mine = (one.number for one in self._ledger.batches() if one.uid == self._caller.uid)
        return max(mine, default=None)

    # -- finding

    def _numbered(self, number: int, to: bytes | None, is_batch: bool) -> Iterator[None]:
        one = self._ledger.find(number)
        sums = self._ledger.find_batch(one.batch if one and is_batch else number)
        if sums is not None:
            yield from self._batch(sums, to)
        elif one is not None:
            yield from self._entry(one, to)
        else:
            past = self._ledger.find_past(number)
            if past is not None:
                after(past.state, Operation.RESTORE, number, past.origin)  # raises WrongState
            raise NoSuchEntry(f"no entry {number} in the trash: see fusefs trash list")

    def _at_path(self, path: bytes, to: bytes | None) -> Iterator[None]:
        if path.split(b"/")[0] == TRASH_NAME:
            yield from self._at_trash_path(path, to)
            return
        for hour in sorted(self._hours(), reverse=True):
            found = self._removed_at(hour + b"/" + path)
            if isinstance(found, Entry):
                yield from self._entry(found, to)
                return
            if found is not None:
                yield from self._directory(found, to if to is not None else path)
                return
        if not is_glob(path):
            raise NoSuchEntry(f"{_shown(path)} is not in the trash: see fusefs trash list")
        yield from self._matching(path, to)

    def _matching(self, pattern: bytes, to: bytes | None) -> Iterator[None]:
        matches = matcher(pattern)
        numbers: list[int] = []
        last = 0
        while found := list(islice(self._ledger.entries(last), STEP)):
            last = found[-1].number
            numbers += [
                one.number for one in found if one.state is State.PENDING and matches(one.origin)
            ]
            yield
        if not numbers:
            raise NoSuchEntry(f"nothing in the trash matches {_shown(pattern)}")
        for number in numbers:
            one = self._ledger.find(number)
            if one is not None:  # else it came back with its directory
                yield from self._entry(one, to and to + b"/" + one.origin)

    def _at_trash_path(self, path: bytes, to: bytes | None) -> Iterator[None]:
        parts = path.split(b"/")
        above = self._resolve(b"/".join(parts[:-1]))
        row = above and self._tree.store.get(keys.name(above.ino, parts[-1]))
        if above is None or not row or len(parts) < 3:
            raise NoSuchEntry(f"{_shown(path)} is not in the trash: see fusefs trash list")
        found = dirent.unpack(row)
        one = self._ledger.find(found.cookie)
        if one is not None:
            yield from self._entry(one, to)
        elif found.kind == stat.S_IFDIR:
            mirror = self._tree.inode(found.ino)
            yield from self._directory(mirror, to if to is not None else b"/".join(parts[2:]))

    def _hours(self) -> list[bytes]:
        return [name for _, _, name, _ in self._tree.listing(TRASH_INO, 0)]

    def _removed_at(self, path: bytes) -> Entry | Inode | None:
        """What was removed last of that path in an hour; else the mirror of a directory there."""
        mirrors = [self._tree.inode(TRASH_INO)]
        *above, last = path.split(b"/")
        for name in above:
            mirrors = [
                self._tree.inode(found.ino)
                for mirror in mirrors
                for found in self._like(mirror, name)
                if found.kind == stat.S_IFDIR
            ]
        found = [one for mirror in mirrors for one in self._like(mirror, last)]
        wanted = path.partition(b"/")[2]
        entries = [self._ledger.find(one.cookie) for one in found]
        removed = [one for one in entries if one is not None and one.origin == wanted]
        if removed:
            return max(removed, key=lambda one: one.number)
        directories = [one for one in found if self._holds_entries(one)]
        return self._tree.inode(directories[-1].ino) if directories else None

    def _holds_entries(self, found: dirent.Dirent) -> bool:
        """Whether it is a directory with anything to take back in it, and not just left over."""
        waiting = [found.ino] if found.kind == stat.S_IFDIR else []
        while waiting:
            for ino, kind, _, cookie in self._tree.listing(waiting.pop(), 0):
                if self._ledger.find(cookie) is not None:
                    return True
                if kind == stat.S_IFDIR:
                    waiting.append(ino)
        return False

    def _like(self, mirror: Inode, name: bytes) -> list[dirent.Dirent]:
        """Names in a mirror that may stand for `name`: itself, and with a number behind it."""
        row = self._tree.store.get(keys.name(mirror.ino, name))
        found = [row] if row else []
        is_cut = len(name) > _UNCUT
        start = name[:_UNCUT] if is_cut else name + b".~"
        for key, numbered in self._tree.store.scan(keys.name(mirror.ino, start)):
            suffix = _NUMBERED.search(key, 9)
            before = key[9 : suffix.start()] if suffix else b"/"
            if before == name or (is_cut and name.startswith(before)):
                found.append(numbered)
        return [dirent.unpack(one) for one in found]

    # -- taking back

    def _entry(self, one: Entry, to: bytes | None) -> Iterator[None]:
        after(one.state, Operation.RESTORE, one.number, one.origin)
        path = (to if to is not None else one.origin).strip(b"/")
        inode = self._tree.inode(one.ino)
        if inode.is_dir:
            yield from self._directory(inode, path)
            return
        self._check_may(inode, one.uid, path)
        self._move(one.parent, one.name, path, self._tree.inode(one.parent))
        self.restored.append(path)
        yield

    def _batch(self, sums: RemovalBatch, to: bytes | None) -> Iterator[None]:
        """Take back what was removed in one go, and nothing else."""
        if sums.pending == 0:
            first = next(self._ledger.of_batch(sums), None)
            if first is not None:
                after(first.state, Operation.RESTORE, first.number, first.origin)
        directories: set[int] = set()
        for found in self._slices_of(sums):
            directories |= {one.ino for one in found if one.kind == stat.S_IFDIR}
            yield
        tops: list[int] = []
        for found in self._slices_of(sums):
            tops += [one.number for one in found if one.parent not in directories]
            yield
        for number in tops:
            one = self._ledger.find(number)
            if one is None or one.state is not State.PENDING:
                continue
            path = one.origin
            if to is not None:
                path = (to.strip(b"/") + b"/" + one.origin[len(sums.top) :].strip(b"/")).strip(b"/")
            try:
                if one.kind == stat.S_IFDIR:
                    yield from self._directory(self._tree.inode(one.ino), path, sums.number)
                else:
                    yield from self._entry(one, path)
            except FusefsError as error:
                self._note(one.origin, error)

    def _slices_of(self, sums: RemovalBatch) -> Iterator[list[Entry]]:
        last = 0
        while found := list(islice(self._ledger.of_batch(sums, last), STEP)):
            last = found[-1].number
            yield found

    def _directory(self, mirror: Inode, path: bytes, only: int = 0) -> Iterator[None]:
        """Take back a directory, whole where nothing stands in its place; else all that was removed
        from it. `only`: of it what belongs to that batch."""
        standing = self._resolve(path.strip(b"/"))
        if standing is not None and standing.is_dir and self._tree.is_empty(mirror.ino):
            raise TargetExists(f"{_shown(path)} exists: give another place with --to")
        waiting = [(mirror, path.strip(b"/"))]
        while waiting:
            mirror, path = waiting.pop()
            try:
                waiting += yield from self._one_directory(mirror, path, only)
            except FusefsError as error:
                self._note(path, error)
            yield from self._trash.revive()

    def _one_directory(
        self, mirror: Inode, path: bytes, only: int
    ) -> Generator[None, None, list[tuple[Inode, bytes]]]:
        """Returns the directories in it that are left to do, with their paths."""
        one = self._entry_of(mirror)
        if one is not None:  # before its parents are made
            after(one.state, Operation.RESTORE, one.number, one.origin)
        self._check_may(mirror, one.uid if one else -1, path)
        standing = self._resolve(path)
        if standing is None and (not only or self._is_all_of(mirror, only)):
            above = self._tree.inode(mirror.parent)
            self._move(mirror.parent, self._tree.name_of(mirror), path, above)
            self.restored.append(path)
            return []
        if standing is None:
            self._make_parents(path, mirror)
            self.restored.append(path)
        elif not standing.is_dir:
            raise TargetExists(f"{_shown(path)} exists: give another place with --to")
        left = []
        for ino, kind, name, cookie in list(self._tree.listing(mirror.ino, 0)):
            inner = self._ledger.find(cookie)
            original = inner.origin.rpartition(b"/")[2] if inner is not None else name
            inside = path + b"/" + original if path else original
            if kind == stat.S_IFDIR:
                left.append((self._tree.inode(ino), inside))
            elif inner is not None and only in (0, inner.batch):
                try:
                    self._check_may(self._tree.inode(ino), inner.uid, inside)
                    self._move(mirror.ino, name, inside, mirror)
                    self.restored.append(inside)
                except FusefsError as error:
                    self._note(inside, error)
                yield
        if one is not None and only in (0, one.batch):
            with self._tree.act() as act:
                self._trash.change(act, one, Operation.RESTORE, "laid into what is there")
            self._trash.emptied.add(mirror.ino)
        return left

    def _entry_of(self, mirror: Inode) -> Entry | None:
        name = self._tree.name_of(mirror)
        row = self._tree.store.get(keys.name(mirror.parent, name))
        return self._ledger.find(dirent.unpack(row).cookie) if row is not None else None

    def _is_all_of(self, mirror: Inode, batch: int) -> bool:
        """Whether everything in a directory of the trash was removed by that batch."""
        waiting = [mirror.ino]
        while waiting:
            for ino, kind, _, cookie in list(self._tree.listing(waiting.pop(), 0)):
                one = self._ledger.find(cookie)
                if one is not None and one.batch != batch:
                    return False
                if kind == stat.S_IFDIR:
                    waiting.append(ino)
        return True

    def _check_may(self, inode: Inode, remover: int, path: bytes) -> None:
        if self._caller.uid not in (0, inode.uid, remover):
            raise NotPermitted(f"{_shown(path)} belongs to another user")

    def _note(self, what: bytes, error: FusefsError) -> None:
        self.failed.append((what, error))

    def _move(self, parent: int, name: bytes, path: bytes, mirror: Inode) -> None:
        head, _, last = path.rpartition(b"/")
        if not last:
            raise TargetExists("the root of the filesystem exists: give another place with --to")
        if self._resolve(path) is not None:
            raise TargetExists(f"{_shown(path)} exists: give another place with --to")
        into = self._make_parents(head, mirror)
        self._tree.rename(parent, name, into.ino, last, 1, self._caller)
        failpoints.hit("restore.moved")
        self.appeared.append((into.ino, last))

    def _make_parents(self, path: bytes, mirror: Inode) -> Inode:
        """The directory at `path`, made where it is gone as `mirror` and those above it show."""
        directory = self._tree.inode(ROOT_INO)
        parts = path.split(b"/") if path else []
        for name, model in zip(parts, self._models(mirror, len(parts)), strict=True):
            found = self._tree.lookup(directory.ino, name)
            if found is None:
                found = self._make_parent(directory, name, model)
            elif not found.is_dir or found.flags & IN_TRASH:
                raise TargetExists(f"{_shown(path)} is no directory to restore into")
            directory = found
        return directory

    def _models(self, mirror: Inode, count: int) -> list[Inode | None]:
        """The last `count` directories down to `mirror`; None for those above the mirrors."""
        models: list[Inode | None] = []
        while len(models) < count and mirror.parent != TRASH_INO:
            models.append(mirror)
            mirror = self._tree.inode(mirror.parent)
        return [*[None] * (count - len(models)), *reversed(models)]

    def _make_parent(self, above: Inode, name: bytes, model: Inode | None) -> Inode:
        mode = model.mode if model else stat.S_IFDIR | 0o755
        made = self._tree.make(above.ino, name, mode, self._caller)
        if model:
            but = ATTRIBUTE if self._is_elsewhere else b""
            with self._tree.act() as act:
                act.change(made)
                made.uid, made.gid, made.mode = model.uid, model.gid, model.mode
                self._tree.xattrs.copy(act, model, made, but)
        failpoints.hit("restore.parent")
        self.appeared.append((above.ino, name))
        return made

    def _resolve(self, path: bytes) -> Inode | None:
        try:
            return self._tree.resolve(path)
        except Refused:
            return None


def _shown(path: bytes) -> str:
    return "/" + path.decode(errors="backslashreplace")
