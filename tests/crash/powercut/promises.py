"""What must be in a writer's directory after a power cut, by its plan and by its history."""

import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tests.crash.powercut.steps import PAGE, WRITING, Step, Tree, trees, written
from tests.crash.powercut.writers import PAGES_NAME, Job

Removed = Counter[tuple[str, bytes]]


class Lost(AssertionError):
    """A promise that was not kept."""


class Progress(NamedTuple):
    """How far a writer came: `durable` steps were acknowledged, `begun` ones were at least tried,
    and the first `settled` ones had their pages synced."""

    durable: int
    begun: int
    settled: int


def progress(history: Path, steps: list[Step], end: int, never: int) -> Progress:
    """By what a writer noted while the log of the disk had not passed `end`.

    What is acknowledged before the next flush, which would have ended at `never`, did not need it.
    """
    durable = begun = settled = 0
    for line in history.read_text().splitlines():
        index, is_done, place = json.loads(line)
        if not is_done and place <= end:
            begun = index + 1
        elif is_done and place < never and steps[index].is_durable:
            durable = index + 1
            if steps[index].action == "settle":
                settled = index
    return Progress(durable, max(begun, durable), settled)


def check(job: Job, come: Progress, found: dict[str, bytes], removed: Removed) -> None:
    """Compare a directory and what of it is in the trash with what may be. Raises Lost."""
    pages = found.pop(PAGES_NAME, b"")
    problems = []
    for count, tree in trees(job.steps, come.durable, come.begun):
        running = job.steps[count] if count < come.begun else None
        problem = _difference(tree, running, found, removed)
        if not problem:
            break
        problems.append(f"after {count} steps: {problem}")
    else:
        raise Lost(f"{job.name}, {come}: " + "\n".join(problems[:5]))
    _check_pages(job, come, pages)


def _difference(tree: Tree, running: Step | None, found: dict[str, bytes], removed: Removed) -> str:
    """What is not as after the last step, and not as in the midst of `running`."""
    files, wrong = tree.files, []
    for name in sorted(files.keys() | found.keys()):
        old, here = files.get(name), found.get(name)
        if old == here:
            continue
        if running and running.action in WRITING and running.name == name and here is not None:
            problem = _half_done(old or b"", here, written(running, old))
        else:
            problem = f"{_described(old)} expected, {_described(here)} found"
        if problem:
            wrong.append(f"{name}: {problem}")
    if tree.removed != removed:
        wrong.append(f"trash: {_names(tree.removed)} expected, {_names(removed)} found")
    return "; ".join(wrong[:5])


def _described(content: bytes | None) -> str:
    return "nothing" if content is None else f"{len(content)} bytes {content[:4].hex()}"


def _names(removed: Removed) -> list[str]:
    return sorted(f"{name} ({len(data)} bytes)" for name, data in removed.elements())


def _half_done(old: bytes, found: bytes, new: bytes) -> str:
    """What is wrong with a file of which it is open how much of a write it has: each byte must be
    an old or a new one, or in a hole behind the old end."""
    size = max(len(old), len(new))
    if not min(len(old), len(new)) <= len(found) <= size:
        return f"{len(found)} bytes, when it had {len(old)} and gets {len(new)}"
    sources = [old.ljust(size, b"\0"), new.ljust(size, b"\0")]
    for at in range(0, len(found), 512):
        part = found[at : at + 512]
        if not any(source.startswith(part, at) for source in sources) and not all(
            byte in {source[at + i] for source in sources} for i, byte in enumerate(part)
        ):
            return f"bytes at {at} that nobody wrote there"
    return ""


def _check_pages(job: Job, come: Progress, found: bytes) -> None:
    """Each page of the open file has a content that it may have: the one at its last sync, or a
    later one; none of it in part."""
    for page, contents in _possible(job, come).items():
        here = found[page * PAGE : (page + 1) * PAGE].ljust(PAGE, b"\0")
        if here not in contents:
            raise Lost(f"{job.name} {come}: page {page} has none of {len(contents)} contents")


def _possible(job: Job, come: Progress) -> dict[int, list[bytes]]:
    possible: dict[int, list[bytes]] = {}
    newest: dict[int, bytes] = {}
    for step in job.steps[: come.begun]:
        if step.index == job.killed_after:
            newest.clear()  # it may be gone, and a sync afterwards says nothing of it
        if step.action == "scribble":
            newest |= step.pages
            for page, content in step.pages.items():
                possible.setdefault(page, [bytes(PAGE)]).append(content)
        elif step.action == "settle" and step.index <= come.settled:
            possible |= {page: [content] for page, content in newest.items()}
    return possible
