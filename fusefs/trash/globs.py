"""Patterns for paths, as shells know them: ``*`` and ``?`` stay in one name, ``**`` does not."""

import re
from collections.abc import Callable

_SPECIAL = re.compile(rb"[*?[]")


def is_glob(path: bytes) -> bool:
    return _SPECIAL.search(path) is not None


def matcher(pattern: bytes) -> Callable[[bytes], bool]:
    """Whether a path without a leading slash matches. A pattern without a slash is for the last
    name alone, wherever it is; what follows ``[`` up to ``]`` is a set of bytes."""
    pattern = pattern.lstrip(b"/") if b"/" in pattern.strip(b"/") else b"**/" + pattern.strip(b"/")
    expression, at = [], 0
    while at < len(pattern):
        if pattern.startswith(b"**/", at):
            expression.append(rb"(?:.*/)?")
            at += 3
        elif pattern.startswith(b"**", at):
            expression.append(rb".*")
            at += 2
        elif found := re.compile(rb"\[(!?)(\]?[^\]]*)\]").match(pattern, at):
            inside = re.sub(rb"([\\\[\]^])", rb"\\\1", found[2])
            expression.append(b"[" + (b"^/" if found[1] else b"") + inside + b"]")
            at = found.end()
        else:
            one = pattern[at : at + 1]
            expression.append({b"*": rb"[^/]*", b"?": rb"[^/]"}.get(one, re.escape(one)))
            at += 1
    compiled = re.compile(b"".join(expression), re.DOTALL)
    return lambda path: compiled.fullmatch(path) is not None
