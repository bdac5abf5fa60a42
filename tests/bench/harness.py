"""Timing contenders side by side: interleaved rounds, minimum and median, answers checked before any clock starts.

Enters: contenders, each a zero-argument callable that does the same work.  Leaves: a `Row`.
Rules: one thread each; every contender is called once (compiled, caches filled) and its answer compared with the
reference before it is timed; rounds go A B C A B C …, so drift of the machine hits all alike; results are dropped
before the next call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

ROUNDS = 15
#: a timed block lasts about this long, so that the clock's grain does not matter
BLOCK_SECONDS = 0.02
#: and is at most this many calls: a training step that is repeated for thousands of steps on one batch stops being one
MOST_REPEATS = 300


@dataclass
class Contender:
    name: str
    call: Callable[[], Any]
    values: Callable[[], Any]  #: the answer as NumPy arrays, to be checked
    first_call: float = float("nan")  #: seconds from the Python function to the first answer
    reset: Callable[[], Any] = lambda: None  #: run before each timed block, not timed


@dataclass
class Row:
    title: str
    counted: str  #: what one call does, in words
    flops: int = 0
    minimum: dict[str, float] = field(default_factory=dict)
    median: dict[str, float] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)

    def ratio(self, name: str, against: str = "gradc") -> float:
        """How many times longer ``name`` takes than gradc, by medians."""
        return self.median[name] / self.median[against]


def check(contenders: list[Contender], tolerance: float) -> None:
    """Every contender's answer against the first one's, relative to its largest element."""
    reference = [np.asarray(v, np.float64) for v in contenders[0].values()]
    for other in contenders[1:]:
        for a, b in zip(reference, other.values(), strict=True):
            scale = max(float(np.max(np.abs(a))), 1e-30)
            error = float(np.max(np.abs(a - np.asarray(b, np.float64)))) / scale
            if not error <= tolerance:
                raise AssertionError(
                    f"{other.name} differs from {contenders[0].name} by {error:.1e} (> {tolerance:.0e})"
                )


def race(title: str, counted: str, contenders: list[Contender], tolerance: float, flops: int = 0) -> Row:
    """Check, calibrate, then interleave `ROUNDS` rounds."""
    check(contenders, tolerance)
    repeats = {c.name: _repeats(c.call) for c in contenders}
    times: dict[str, list[float]] = {c.name: [] for c in contenders}
    for _ in range(ROUNDS):
        for c in contenders:
            c.reset()
            times[c.name].append(_block(c.call, repeats[c.name]))
    row = Row(title, counted, flops)
    for c in contenders:
        row.minimum[c.name], row.median[c.name] = min(times[c.name]), median(times[c.name])
        row.first[c.name] = c.first_call
    return row


def _repeats(call: Callable[[], Any]) -> int:
    call()
    start = perf_counter()
    call()
    return max(1, min(MOST_REPEATS, int(BLOCK_SECONDS / max(perf_counter() - start, 1e-8))))


def _block(call: Callable[[], Any], repeats: int) -> float:
    start = perf_counter()
    for _ in range(repeats):
        call()
    return (perf_counter() - start) / repeats


def timed_first(build: Callable[[], Callable[[], Any]]) -> tuple[Callable[[], Any], float]:
    """Seconds from nothing to the first answer, and the callable."""
    start = perf_counter()
    call = build()
    call()
    return call, perf_counter() - start


def seconds_text(seconds: float) -> str:
    """A time with three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def table(rows: list[Row]) -> str:
    """A Markdown table: gradc's median and minimum, then each peer's median and its ratio to gradc."""
    peers = list(dict.fromkeys(n for row in rows for n in row.median if n != "gradc"))
    head = ["workload", "gradc median (min)", *(f"{p} (× gradc)" for p in peers)]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        cells = [row.title, f"{seconds_text(row.median['gradc'])} ({seconds_text(row.minimum['gradc'])})"]
        if row.flops:
            cells[1] += f", {row.flops / row.minimum['gradc'] / 1e9:.0f} GF"
        for p in peers:
            cells.append(f"{seconds_text(row.median[p])} ({row.ratio(p):.2f}×)" if p in row.median else "—")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def first_table(rows: list[Row]) -> str:
    """From the Python function to the first answer, by contender."""
    peers = list(dict.fromkeys(n for row in rows for n, t in row.first.items() if t == t))
    lines = ["| first call | " + " | ".join(peers) + " |", "|" + " --- |" * (len(peers) + 1)]
    for row in rows:
        if any(t == t for t in row.first.values()):
            cells = [seconds_text(row.first[p]) if row.first.get(p, np.nan) == row.first.get(p) else "—" for p in peers]
            lines.append(f"| {row.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
