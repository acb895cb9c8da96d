"""What can be asked of the trash of an open filesystem, and the records that answer.

Long answers come in pages: ask again with the `next` of the last one as `after`. A verb that takes
long lets requests go on beside it.
"""

import os
from collections.abc import Callable, Mapping
from heapq import merge
from typing import ClassVar

import msgspec
import trio

from fusefs.base.events import Kind
from fusefs.daemon.filesystem import Filesystem
from fusefs.daemon.purge_requests import PurgeRequests
from fusefs.daemon.trash_records import Record, TrashRecords, page
from fusefs.daemon.verbs import Verb
from fusefs.daemon.wire import describe_error
from fusefs.errors import (
    BadPolicy,
    NoSuchEntry,
    NotPermitted,
)
from fusefs.model.entry import Entry, State
from fusefs.model.inode import IN_TRASH, ROOT_INO, Inode
from fusefs.trash.globs import matcher
from fusefs.trash.policy import ATTRIBUTE, Policy, parse_rule, show_rule
from fusefs.trash.restore import Restorer
from fusefs.tree.removal import Caller


class ListArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`after`: the `next` of the page before. `is_each`: a line for each entry, not for each batch.
    `path`: a pattern of original paths, which implies it. `uid`: of who removed it. `number`: this
    entry alone; `state`: those in it."""

    after: int = 0
    is_each: bool = False
    path: bytes | None = None
    uid: int | None = None
    number: int | None = None
    state: State | None = None

    def filter(self) -> Callable[[Entry], bool]:
        matches = matcher(self.path) if self.path is not None else None

        def takes(one: Entry) -> bool:
            return (
                (self.uid is None or one.uid == self.uid)
                and (self.number is None or one.number == self.number)
                and (self.state is None or one.state is self.state)
                and (matches is None or matches(one.origin))
            )

        return takes


class RestoreArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`targets`: ids, or paths from the root of the filesystem. `is_batch`: all of the batch that
    an entry belongs to. `is_last`: what the caller removed last, too. `to`: to another place."""

    targets: list[int | bytes] = []
    is_batch: bool = False
    is_last: bool = False
    to: bytes | None = None


class PurgeArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`numbers`: of entries or batches. Or else all, but only what was removed more than
    `older_than_s` seconds ago, or belongs to the user `owner`."""

    numbers: list[int] = []
    older_than_s: float | None = None
    owner: int | None = None


class NumbersArguments(msgspec.Struct, forbid_unknown_fields=True):
    numbers: list[int]


class PolicyArguments(msgspec.Struct, forbid_unknown_fields=True):
    """`path`: from the root of the filesystem; the root means the policy of the store. `changes`:
    (name, text) pairs to set; `is_clear`: back to what holds without."""

    path: bytes = b""
    changes: list[tuple[str, str]] = []
    is_clear: bool = False


class TrashDesk:
    """Answers about the trash of `filesystem`."""

    def __init__(self, filesystem: Filesystem) -> None:
        self._filesystem = filesystem
        self._tree = filesystem.tree
        self._trash = filesystem.trash
        self._ledger = filesystem.trash.ledger
        self._records = TrashRecords(filesystem)
        self._requests = PurgeRequests(filesystem, self._records)

    # -- looking

    async def listing(self, arguments: ListArguments, _uid: int) -> Record:
        """A page of what is in the trash, oldest first."""
        takes = arguments.filter()
        if arguments.is_each or arguments.path is not None or arguments.state is not None:
            return page(self._ledger.entries(arguments.after), takes, self._records.of_entry)
        uid = arguments.uid
        return page(
            self._ledger.batches(arguments.after),
            lambda one: uid is None or one.uid == uid,
            self._records.of_batch,
        )

    async def history(self, arguments: ListArguments, _uid: int) -> Record:
        """A page of entries with all their transitions, those included that have left the trash;
        by number."""
        after = arguments.after
        both = merge(
            self._ledger.entries(after), self._ledger.past(after), key=lambda one: one.number
        )
        return page(both, arguments.filter(), self._records.of_past)

    # -- taking back

    async def restore(self, arguments: RestoreArguments, uid: int) -> Record:
        """Take back; durable when this returns. Never overwrites.

        Failures are items of the answer: nothing stops the rest.
        """
        filesystem = self._filesystem
        self._filesystem.check_writable()
        gid = self._tree.inode(ROOT_INO).gid
        restorer = Restorer(self._tree, self._trash, Caller(uid, gid, os.getpid()))
        targets = list(arguments.targets)
        if arguments.is_last:
            last = restorer.last_batch()
            if last is None:
                raise NoSuchEntry("nothing that you removed is in the trash")
            targets.append(last)
        try:
            for target in targets:
                for _ in restorer.steps(target, arguments.to, is_batch=arguments.is_batch):
                    await trio.lowlevel.checkpoint()
        finally:
            for parent, name in restorer.appeared:
                filesystem.forget_name(parent, name)
        await filesystem.flush()
        if restorer.restored:
            filesystem.events.publish(Kind.RESTORE, uid=uid, paths=len(restorer.restored))
        return {
            "restored": ["/" + os.fsdecode(path) for path in restorer.restored],
            "failed": [
                {"what": os.fsdecode(what), **describe_error(error)}
                for what, error in restorer.failed
            ],
        }

    # -- purging

    async def purge(self, arguments: PurgeArguments, uid: int) -> Record:
        """Ask for purges; returns at once, with their jobs, and what cannot be purged and why."""
        self._filesystem.check_writable()
        requests = self._requests
        items: list[Record] = []
        if arguments.numbers:
            jobs, items = requests.ask_for(arguments.numbers, uid)
        else:
            jobs = [requests.ask_for_all(arguments.older_than_s, arguments.owner, uid)]
        await self._filesystem.files.sync()
        self._filesystem.purging.wake()
        return {"jobs": [job.number for job in jobs], "items": items}

    async def outcomes(self, arguments: NumbersArguments, _uid: int) -> list[Record]:
        """What became of entries and batches that were to be purged."""
        return [self._requests.outcome(number) for number in arguments.numbers]

    async def job(self, arguments: NumbersArguments, _uid: int) -> list[Record]:
        """How far purges are."""
        return [self._filesystem.purging.job_record(number) for number in arguments.numbers]

    # -- policy

    async def policy(self, arguments: PolicyArguments, uid: int) -> Record:
        """What holds for a path, after `changes` if there are any.

        Raises NoSuchPath, BadPolicy, NotPermitted, DiskFull, StoreError.
        """
        inode = self._filesystem.resolve(arguments.path)
        if arguments.changes or arguments.is_clear:
            self._filesystem.check_writable()
            if uid not in (0, inode.uid):
                raise NotPermitted("only its owner and root may change what holds for it")
            if inode.ino == ROOT_INO:
                changed = Policy() if arguments.is_clear else self._trash.retention.policy
                self._trash.set_policy(changed.with_changes(arguments.changes))
            else:
                self._change_rule(inode, arguments)
            await self._filesystem.flush()
            self._filesystem.events.publish(Kind.POLICY, path=b"/" + arguments.path, uid=uid)
        retention = self._trash.retention
        above = self._tree.inode(inode.parent or ROOT_INO)
        keeping = retention.at(inode, above) if inode.is_dir else None
        if keeping is None:
            parent = self._filesystem.resolve(arguments.path.strip(b"/").rpartition(b"/")[0])
            keeping = retention.at(inode, parent)
        source = self._tree.inodes.find(keeping.source) if keeping.source else None
        return {
            "path": "/" + os.fsdecode(arguments.path.strip(b"/")),
            "rule": show_rule(retention.rule_of(inode)),
            "keeps": "nothing" if keeping.is_bypass else show_rule(keeping.keep_s),
            "because_of": self._where(inode, source, arguments.path),
            "store": retention.policy.shown(),
            "skips": [rule.show() for rule in retention.policy.skips],
            "is_enabled": self._filesystem.options.trash,
        }

    def _where(self, inode: Inode, source: Inode | None, path: bytes) -> str:
        if source is None:
            return "the store"
        if source is inode:
            return "/" + os.fsdecode(path.strip(b"/"))
        return "/" + os.fsdecode(self._tree.path_of(source))

    def _change_rule(self, inode: Inode, arguments: PolicyArguments) -> None:
        names = {name for name, _ in arguments.changes}
        if names - {"keep"}:
            raise BadPolicy(
                f"{', '.join(sorted(names - {'keep'}))} can be set for the whole store only:"
                " give its mountpoint"
            )
        if inode.flags & IN_TRASH or not (inode.nlink or inode.is_dir):
            raise NotPermitted("what is in the trash cannot be changed")
        for _, text in arguments.changes:
            parse_rule(text.encode())
        self._trash.rules_change()
        if arguments.is_clear and self._trash.retention.rule_of(inode) != "inherit":
            self._tree.xattrs.remove(inode.ino, ATTRIBUTE)
        for _, text in arguments.changes:
            self._tree.xattrs.set(inode.ino, ATTRIBUTE, text.encode())

    VERBS: ClassVar[Mapping[str, Verb]] = {
        "trash_list": Verb(ListArguments, listing),
        "trash_history": Verb(ListArguments, history),
        "trash_restore": Verb(RestoreArguments, restore),
        "trash_purge": Verb(PurgeArguments, purge),
        "trash_outcomes": Verb(NumbersArguments, outcomes),
        "trash_jobs": Verb(NumbersArguments, job),
        "trash_policy": Verb(PolicyArguments, policy),
    }
