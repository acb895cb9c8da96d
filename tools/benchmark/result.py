"""Samples of the rows, and what is said of them: medians, ratios, a table, JSON."""

import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmark.rows import ROWS

#: Of the JSON; another one is refused by --against.
FORMAT = 1


@dataclass(frozen=True)
class Sample:
    """One measurement. `value` in the unit of its row; `seconds` that were timed. CPU seconds of
    the daemon: in these, and afterwards until it was idle (at most some seconds); None unknown."""

    value: float
    seconds: float
    daemon_cpu_s: float | None = None
    daemon_cpu_later_s: float | None = None


@dataclass
class Outcome:
    """What became of a row: `samples`, unless it was `skipped` or has `failed`, which say why."""

    samples: list[Sample] = field(default_factory=list)
    skipped: str | None = None
    failed: str | None = None

    @property
    def values(self) -> list[float]:
        return [sample.value for sample in self.samples]


@dataclass
class Result:
    """A whole run: `about` is what it was made with and on."""

    about: dict[str, Any]
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    @property
    def has_failed(self) -> bool:
        return any(outcome.failed for outcome in self.outcomes.values())

    def as_json(self) -> str:
        rows = {name: _as_record(name, outcome) for name, outcome in self.outcomes.items()}
        return json.dumps({"format": FORMAT, **self.about, "rows": rows}, indent=1) + "\n"

    def table(self, other: dict[str, Any] | None) -> Iterator[str]:
        """Lines for people; `other` is what `load` gave, to be compared with."""
        head = ("row", "median", "unit", "spread", "daemon CPU", "later")
        yield _line((*head, "other", "ratio") if other else head)
        for name, outcome in self.outcomes.items():
            if reason := outcome.failed or outcome.skipped:
                state = "FAILED" if outcome.failed else "skipped"
                yield f"{name:<13}{state:>9}  {reason}"
                continue
            cells = [name, *_cells(name, outcome)]
            if other:
                theirs = other["rows"].get(name, {}).get("median")
                cells += [_figure(theirs), _ratio(name, statistics.median(outcome.values), theirs)]
            yield _line(cells)


def load(path: Path) -> dict[str, Any]:
    """What `Result.as_json` wrote. Raises ValueError if it is something else, OSError."""
    content = path.read_bytes()
    try:
        record = json.loads(content)
    except ValueError:
        record = None
    if not isinstance(record, dict) or record.get("format") != FORMAT or "rows" not in record:
        raise ValueError(f"{path} is no result of tools/bench --json of this version")
    return record


def ratio(name: str, ours: float, theirs: float) -> float:
    """How many times as fast as theirs: above 1 is faster, for times and for rates."""
    return ours / theirs if ROWS[name].is_rate else theirs / ours


def _ratio(name: str, ours: float, theirs: float | None) -> str:
    return f"{ratio(name, ours, theirs):.2f}x" if ours and theirs else "-"


def _as_record(name: str, outcome: Outcome) -> dict[str, Any]:
    row = ROWS[name]
    record: dict[str, Any] = {"unit": row.unit, "better": "more" if row.is_rate else "less"}
    if outcome.failed:
        return {**record, "failed": outcome.failed}
    if outcome.skipped:
        return {**record, "skipped": outcome.skipped}
    median = statistics.median(outcome.values)
    return {**record, "median": median, "samples": [asdict(sample) for sample in outcome.samples]}


def _cells(name: str, outcome: Outcome) -> list[str]:
    values = outcome.values
    median = statistics.median(values)
    spread = f"{(max(values) - min(values)) / median * 100:.0f} %" if len(values) > 1 else "-"
    during = [s.daemon_cpu_s for s in outcome.samples if s.daemon_cpu_s is not None]
    later = [s.daemon_cpu_later_s for s in outcome.samples if s.daemon_cpu_later_s is not None]
    cpu = [f"{statistics.median(seconds):.2f} s" if seconds else "-" for seconds in (during, later)]
    return [_figure(median), ROWS[name].unit, spread, *cpu]


def _figure(value: float | None) -> str:
    """Three digits; more tells nothing."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _line(cells: tuple[str, ...] | list[str]) -> str:
    name, median, unit, *others = cells
    return f"{name:<13}{median:>9} {unit:<9}" + "".join(f"{cell:>11}" for cell in others)
