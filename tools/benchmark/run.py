"""What the workloads share: the clock, cold caches, programs, and where figures are recorded."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from benchmark.daemon import Daemon
from benchmark.place import Place
from benchmark.result import Outcome, Sample
from benchmark.rows import ROWS, Sizes

DROP_CACHES = Path("/proc/sys/vm/drop_caches")
#: A daemon is idle when it uses less than this part of a core, several times in a row.
_IDLE_PART = 0.15
_IDLE_TIMES = 2


class Wrong(Exception):
    """The filesystem gave something else than what was written; its figures do not count."""


@dataclass
class Stretch:
    """What was timed in a `with` block, once that has ended."""

    seconds: float = 0.0
    daemon_cpu_s: float | None = None
    daemon_cpu_later_s: float | None = None


@dataclass(frozen=True)
class Idleness:
    """How long to wait until a daemon has done what was left: looks `every_s`, `at_most_s`."""

    every_s: float
    at_most_s: float


class Run:
    """One run over all repeats. `tell` is given a line for each figure. Figures of rows that are
    not in `outcomes` are measured where others need them, and forgotten."""

    def __init__(
        self,
        place: Place,
        staging: Place,
        sizes: Sizes,
        daemon: Daemon | None,
        idleness: Idleness,
        can_drop: bool,
        tell: Callable[[str], None],
    ) -> None:
        self._place = place
        self._staging = staging
        self.sizes = sizes
        self.can_drop = can_drop
        self.outcomes: dict[str, Outcome] = {}
        self._daemon = daemon
        self._idleness = idleness
        self._tell = tell

    @property
    def path(self) -> Path:
        """The directory to work in, empty when a workload begins."""
        return self._place.path

    @property
    def staging(self) -> Path:
        """Another one, elsewhere, for what is to be copied from there."""
        return self._staging.path

    def tidy(self) -> None:
        """Empty both directories."""
        self._place.empty()
        self._staging.empty()

    def want(self, names: Iterable[str]) -> None:
        """These rows are to be measured, unless something that they need is not there."""
        for name in names:
            self.outcomes[name] = Outcome(skipped=self._obstacle(name))

    def _obstacle(self, name: str) -> str | None:
        row = ROWS[name]
        missing = [program for program in row.programs if which(program) is None]
        if missing:
            return f"not installed: {' '.join(missing)}"
        if row.needs_drop and not self.can_drop:
            return "needs to drop the kernel's caches: run it as root, without --keep-caches"
        return None

    def wants(self, name: str) -> bool:
        """Whether a figure of that row is still looked for."""
        outcome = self.outcomes.get(name)
        return outcome is not None and not outcome.skipped and not outcome.failed

    @contextmanager
    def timed(self) -> Iterator[Stretch]:
        """Time the block. Before it nothing waits to be written, and the daemon is idle; the CPU
        time that the daemon needs afterwards until it is idle again is counted apart."""
        self.settle()
        stretch = Stretch()
        cpu_before = self._cpu_s()
        begin = time.perf_counter()
        yield stretch
        stretch.seconds = time.perf_counter() - begin
        cpu_after = self._cpu_s()
        self.settle()
        cpu_at_last = self._cpu_s()
        if cpu_before is not None and cpu_after is not None and cpu_at_last is not None:
            stretch.daemon_cpu_s = round(cpu_after - cpu_before, 2)
            stretch.daemon_cpu_later_s = round(cpu_at_last - cpu_after, 2)

    def record(self, name: str, value: float, stretch: Stretch) -> None:
        """A figure, in the unit of the row."""
        if not self.wants(name):
            return
        sample = Sample(value, stretch.seconds, stretch.daemon_cpu_s, stretch.daemon_cpu_later_s)
        self.outcomes[name].samples.append(sample)
        self._tell(f"  {name:<13}{value:>10.4g} {ROWS[name].unit}")

    def fail(self, names: Iterable[str], reason: str) -> None:
        """These rows have no figure that counts."""
        for name in names:
            if self.wants(name):
                self.outcomes[name].failed = reason
                self._tell(f"  {name:<13}    FAILED {reason}")

    def settle(self) -> None:
        """Have all written out, and wait for the daemon to be idle."""
        self._place.sync()
        if self._daemon is None:
            return
        every_s, deadline = self._idleness.every_s, time.monotonic() + self._idleness.at_most_s
        idle, before = 0, self._daemon.cpu_s()
        while idle < _IDLE_TIMES and time.monotonic() < deadline:
            time.sleep(every_s)
            now = self._daemon.cpu_s()
            idle = idle + 1 if now - before <= max(_IDLE_PART * every_s, 0.01) else 0
            before = now

    def chill(self, paths: Iterable[Path]) -> None:
        """Take files out of the kernel's caches: all caches where that is allowed, else the pages
        of these files. What a daemon keeps in its own memory stays there, and in the second case so
        do names and attributes, and the pages of the files below a FUSE filesystem."""
        self.settle()
        if self.can_drop:
            DROP_CACHES.write_text("3\n")
            return
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)

    def _cpu_s(self) -> float | None:
        return self._daemon.cpu_s() if self._daemon else None


def execute(*command: str | Path, **environ: str) -> str:
    """Run a program, which must succeed; returns what it printed, but for stderr.

    It has a session of its own, so that it and its children end when we are interrupted. Raises
    OSError with what it said.
    """
    # git is told about another repository when we are run from a hook of one.
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**inherited, "LC_ALL": "C", **environ},
        start_new_session=True,
    )
    try:
        output, complaints = process.communicate()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode:
        said = " ".join(complaints.split())[-300:]
        raise OSError(f"{Path(command[0]).name} ended with {process.returncode}: {said}")
    return output
