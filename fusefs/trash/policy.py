"""What the trash is to do, as values: how long it keeps, what it does not take, when it is full.

The policy of the store is one record in the index. A directory or a file may have a rule of its own
in the attribute ``user.fusefs.trash``, which holds for everything below it:

    30d, 12h ...   keep for so long
    forever        keep until somebody purges it
    0              nothing from here goes to the trash, and what is there already is due
    skip           nothing from here goes to the trash; what is there stays as long as it would
    inherit        as if there were no rule
"""

import fnmatch
import math
import re
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from fusefs.base.units import parse_duration, parse_size, show_duration, show_size
from fusefs.errors import BadPolicy
from fusefs.model.inode import TRASH_RULE

ATTRIBUTE = TRASH_RULE
FOREVER = math.inf

#: Seconds, or one of the words.
Rule = float | Literal["skip", "inherit"]


class SkipRule(msgspec.Struct, frozen=True):
    """A temporary name: one that matches `pattern`, removed by a process that matches `process`,
    less than `below_s` seconds after it was made, does not go to the trash."""

    pattern: str
    below_s: float
    process: str = "*"

    def show(self) -> str:
        """What `parse_skip_rule` reads as the same."""
        by = "" if self.process == "*" else f" by {self.process}"
        return f"{self.pattern} below {show_duration(self.below_s)}{by}"


#: Names of tools that everybody uses; each one's own documentation or source names them.
USUAL_SKIPS = (
    SkipRule(".*.??????", 60, "rsync"),
    SkipRule(".goutputstream-??????", 60),  # GLib: gedit and others
    SkipRule(".*.sw?", 60),  # vim
    SkipRule(".*.sw?x", 60),  # vim, where it tries how long names may be
    SkipRule("4913", 60),  # vim tries whether it can write
    SkipRule("*~", 60, "*vi*"),
    SkipRule(".#*", 60),  # emacs locks
    SkipRule("#*#", 60, "emacs*"),
    SkipRule(".~lock.*#", 60),  # LibreOffice
    SkipRule("sed??????", 60, "sed"),
    SkipRule("tmp_obj_??????", 60, "git*"),
    SkipRule("*.lock", 60, "git*"),
    SkipRule(".nfs*", 60),
    SkipRule(".fuse_hidden*", 60),
    SkipRule(".fusefs-probe-*", 60),  # a transfer tries whether it can write
)


class Policy(msgspec.Struct, frozen=True):
    """The policy of a store.

    `keep_s`: how long an entry stays (`FOREVER`: until somebody purges it; 0: nothing goes to the
    trash). `keeps_replaced`: whether what a rename overwrites goes to the trash. `max_bytes`: more
    than that is purged early, oldest first, as is whatever keeps less than `min_free_bytes` of the
    disk free; 0 is off. `history_s`: for so long it is known what became of an entry.
    """

    keep_s: float = 7 * 86400.0
    keeps_replaced: bool = True
    max_bytes: int = 0
    min_free_bytes: int = 0
    history_s: float = 30 * 86400.0
    skips: tuple[SkipRule, ...] = USUAL_SKIPS

    def with_changes(self, changes: Iterable[tuple[str, str]]) -> "Policy":
        """The policy after (name, text) settings, as `shown` names them. Raises BadPolicy."""
        changed = self
        for name, text in changes:
            changed = changed._with(name, text.strip())
        return changed

    def _with(self, name: str, text: str) -> "Policy":
        values: dict[str, object]
        try:
            match name:
                case "keep":
                    values = {"keep_s": _keep(text)}
                case "replaced":
                    values = {"keeps_replaced": _switch(text)}
                case "max-size":
                    values = {"max_bytes": 0 if text == "off" else parse_size(text)}
                case "min-free":
                    values = {"min_free_bytes": 0 if text == "off" else parse_size(text)}
                case "history":
                    values = {"history_s": _keep(text)}
                case "skip":
                    values = {"skips": self._skips(text)}
                case _:
                    names = ", ".join(self.shown())
                    raise BadPolicy(f"the trash has no setting {name!r}; there are {names}")
        except ValueError as error:
            raise BadPolicy(f"{name}={text}: {error}") from error
        return msgspec.structs.replace(self, **values)

    def _skips(self, text: str) -> tuple[SkipRule, ...]:
        """``none``, ``usual``, ``+RULE`` to add one, ``-PATTERN`` to drop those with a pattern."""
        if text == "none":
            return ()
        if text == "usual":
            return USUAL_SKIPS
        if text.startswith("-"):
            kept = tuple(rule for rule in self.skips if rule.pattern != text[1:])
            if kept == self.skips:
                raise ValueError(f"there is no rule for {text[1:]!r}")
            return kept
        if text.startswith("+"):
            return (*self.skips, parse_skip_rule(text[1:]))
        raise ValueError("write none, usual, '+PATTERN below 60s by PROCESS' or -PATTERN")

    def shown(self) -> dict[str, str]:
        """Every setting but the skip rules as text, by the name that `with_changes` knows."""
        return {
            "keep": show_rule(self.keep_s),
            "replaced": "on" if self.keeps_replaced else "off",
            "max-size": show_size(self.max_bytes) if self.max_bytes else "off",
            "min-free": show_size(self.min_free_bytes) if self.min_free_bytes else "off",
            "history": show_rule(self.history_s),
            "skip": f"{len(self.skips)} rules",
        }


def parse_skip_rule(text: str) -> SkipRule:
    """A rule of ``PATTERN below DURATION [by PROCESS]``. Raises ValueError."""
    found = re.fullmatch(r"(\S+) below (\S+)(?: by (\S+))?", text.strip())
    if not found:
        raise ValueError(f"{text!r} is no rule: write it like '.*.tmp below 60s by rsync'")
    return SkipRule(found[1], parse_duration(found[2]), found[3] or "*")


def parse_rule(value: bytes) -> Rule:
    """The rule in an attribute. Raises BadPolicy."""
    try:
        text = value.decode().strip("\0 \n")
        return text if text in ("skip", "inherit") else _keep(text)  # type: ignore[return-value]
    except ValueError as error:
        raise BadPolicy(
            f"{value.decode(errors='backslashreplace')!r} is no policy of the trash:"
            " write a duration like 30d, or forever, 0, skip, inherit"
        ) from error


def show_rule(rule: Rule) -> str:
    """What `parse_rule` reads as the same."""
    if isinstance(rule, str):
        return rule
    return "forever" if rule == FOREVER else show_duration(rule)


def _keep(text: str) -> float:
    return FOREVER if text == "forever" else parse_duration(text)


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError("write on or off")
    return text == "on"


class Skips:
    """Skip rules, ready to be asked for every removed name."""

    def __init__(self, rules: Iterable[SkipRule]) -> None:
        self._rules = [
            (_matcher(rule.pattern), _matcher(rule.process), int(rule.below_s * 1e9))
            for rule in rules
        ]
        patterns = [fnmatch.translate(rule.pattern).encode() for rule in rules]
        self._any = re.compile(b"|".join(patterns), re.DOTALL) if patterns else None

    def may_take(self, name: bytes) -> bool:
        """Whether any rule is about `name`: quickly no for nearly all."""
        return self._any is not None and self._any.match(name) is not None

    def takes(self, name: bytes, process: bytes, age_ns: int) -> bool:
        """Whether a name of that age, removed by that process, is a temporary one."""
        return any(
            0 <= age_ns < below_ns and is_name(name) and is_process(process)
            for is_name, is_process, below_ns in self._rules
        )


def _matcher(pattern: str) -> Callable[[bytes], object]:
    return re.compile(fnmatch.translate(pattern).encode(), re.DOTALL).match
