"""How long what is removed stays: the policy of the store, and rules of directories and files.

A change holds for what is in the trash already. Deadlines stand in the index, so after a change
(and after dates that were not known at first, see `steady`) they are made anew, a slice at a time;
a row in the index remembers that this is to be done, and nothing expires until it is.
"""

from itertools import islice
from typing import NamedTuple

import msgspec
import structlog

from fusefs.base import failpoints
from fusefs.errors import BadPolicy, StoreDamaged
from fusefs.model import dirent, keys
from fusefs.model.entry import Entry, State
from fusefs.model.inode import HAS_XATTR, ROOT_INO, TRASH_INO, Inode
from fusefs.trash.ledger import STEP, Ledger
from fusefs.trash.policy import ATTRIBUTE, FOREVER, Policy, Rule, Skips, parse_rule
from fusefs.trash.steady import Steady
from fusefs.tree.act import Act
from fusefs.tree.tree import Tree

_REPLAN = keys.setting("replan")

log = structlog.get_logger(__name__)


class Keeping(NamedTuple):
    """What holds somewhere: keep so long, or, `is_bypass`, take nothing at all.

    `source`: the inode whose rule decides; 0 for the policy of the store.
    """

    keep_s: float
    is_bypass: bool
    source: int


class Retention:
    """The policy and the rules of one store."""

    def __init__(self, tree: Tree, ledger: Ledger, steady: Steady) -> None:
        self._tree = tree
        self._store = tree.store
        self._ledger = ledger
        self._steady = steady
        self._replanned = 0  # the last entry whose deadline was made anew
        self._use(self._read_policy())

    def _read_policy(self) -> Policy:
        row = self._store.get(keys.TRASH_POLICY)
        try:
            return msgspec.msgpack.decode(row, type=Policy) if row is not None else Policy()
        except msgspec.MsgspecError as error:
            raise StoreDamaged(f"the policy of the trash does not decode: {error}") from error

    def _use(self, policy: Policy) -> None:
        self.policy = policy
        self.skips = Skips(policy.skips)

    # -- the policy of the store

    def set_policy(self, policy: Policy) -> None:
        """From now on, and for what is in the trash. Raises DiskFull, StoreError."""
        with self._tree.act() as act:
            act.put(keys.TRASH_POLICY, msgspec.msgpack.encode(policy))
            if policy.keep_s != self.policy.keep_s:
                self.call_for_replan(act)
        self._use(policy)

    # -- rules

    def rule_of(self, inode: Inode) -> Rule:
        """The rule that an inode has itself."""
        if not inode.flags & HAS_XATTR:
            return "inherit"
        value = self._store.get(keys.xattr(inode.ino, ATTRIBUTE))
        if value is None:
            return "inherit"
        try:
            return parse_rule(value)
        except BadPolicy as error:  # put there by an older fusefs, which took anything
            log.warning("ignored", inode=inode.ino, error=str(error))
            return "inherit"

    def at(self, inode: Inode, directory: Inode) -> Keeping:
        """What holds for `inode` in the live `directory`."""
        chain = [inode]
        while True:
            chain.append(directory)
            if directory.ino == ROOT_INO:
                break
            directory = self._tree.inode(directory.parent)
        return self._resolve(chain)

    def _resolve(self, chain: list[Inode]) -> Keeping:
        """What holds for the first of `chain`, which is followed by what it lies in."""
        bypass_by = 0
        for inode in chain:
            rule = self.rule_of(inode)
            if rule == "inherit":
                continue
            if rule != "skip":
                keep_s = float(rule)
                return Keeping(keep_s, bool(bypass_by) or not keep_s, bypass_by or inode.ino)
            bypass_by = bypass_by or inode.ino
        keep_s = self.policy.keep_s
        return Keeping(keep_s, bool(bypass_by) or not keep_s, bypass_by)

    def deadline_ns(self, since_ns: int, keep_s: float) -> int:
        """When what was removed at `since_ns` is to be purged; 0: never, or not known yet."""
        if not since_ns or keep_s == FOREVER:
            return 0
        return since_ns + int(keep_s * 1e9)

    # -- deadlines made anew

    @property
    def needs_replan(self) -> bool:
        return self._store.get(_REPLAN) is not None

    def call_for_replan(self, act: Act) -> None:
        """Have all deadlines made anew once `act` has happened."""
        act.put(_REPLAN, b"")
        self._replanned = 0

    def replan_step(self) -> None:
        """Make the next deadlines anew. Call while `needs_replan` and the time is settled."""
        found = list(islice(self._ledger.entries(self._replanned), STEP))
        known: dict[int, Keeping] = {}
        now = self._steady.now_ns()
        with self._tree.act() as act:
            for one in found:
                if one.state is State.PENDING:
                    self._replan(act, one, now, known)
            if not found:
                act.delete(_REPLAN)
        self._replanned = found[-1].number if found else 0
        failpoints.hit("replan.step")

    def _replan(self, act: Act, one: Entry, now: int, known: dict[int, Keeping]) -> None:
        since = min(one.since_ns or now, now)
        inode = self._tree.inodes.find(one.ino)
        if inode is None:
            return  # damage: fsck names it
        rule = self.rule_of(inode)
        if rule == "inherit" and one.parent in known:
            keeping = known[one.parent]
        else:
            self._note_rules(act, one)
            keeping = self.of(one)
            if rule == "inherit":
                known[one.parent] = keeping
        deadline = self.deadline_ns(since, keeping.keep_s)
        if (since, deadline) != (one.since_ns, one.deadline_ns):
            self._ledger.set_deadline(act, one, since, deadline)

    def of(self, one: Entry) -> Keeping:
        """What holds for an entry: where directories above it live, their rules of now; else those
        that they had when they were removed, which their mirrors have."""
        live, mirrors = self._above(one)
        chain = [*live, *mirrors[len(live) :], self._tree.inode(one.ino)]
        return self._resolve(chain[::-1])

    def _note_rules(self, act: Act, one: Entry) -> None:
        """Give the mirrors above an entry the rules that their directories have now: to hold when
        these are gone. A mirror that is an entry has those that its directory had at the end."""
        for directory, mirror in list(zip(*self._above(one), strict=False))[1:]:
            name = act.get(keys.directory(mirror.ino)) or b""
            row = act.get(keys.name(mirror.parent, name))
            if row is None or act.get(keys.entry(dirent.unpack(row).cookie)) is not None:
                return
            key = keys.xattr(mirror.ino, ATTRIBUTE)
            value = self._store.get(keys.xattr(directory.ino, ATTRIBUTE))
            if act.get(key) == value:
                continue
            act.change(mirror)
            if value is None:
                act.delete(key)
            else:
                act.put(key, value)
                mirror.flags |= HAS_XATTR

    def _above(self, one: Entry) -> tuple[list[Inode], list[Inode]]:
        """From the root down, the directories that live above an entry's old path, as far as there
        are any, and the mirrors above it."""
        tree = self._tree
        mirrors: list[Inode] = []
        above = tree.inode(one.parent)
        while above.ino not in (TRASH_INO, ROOT_INO):
            mirrors.append(above)
            above = tree.inode(above.parent)
        mirrors.reverse()  # that of the root first
        chain = [tree.inode(ROOT_INO)]
        for name in one.origin.split(b"/")[:-1]:
            found = tree.lookup(chain[-1].ino, name)
            if found is None or not found.is_dir:
                break
            chain.append(found)
        return chain, mirrors
