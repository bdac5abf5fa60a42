"""Which tests are run for a fault, and in which order.

Enters: a fault and the indices of the test files.  Leaves: `Plan`, tests by file.  First come the tests that run the
region of the fault, or, for what runs at import, what is defined by it or names it; of these, those that are quick and
run little else.  Start reading at `Chooser.plan`.
"""

from __future__ import annotations

import ast
import functools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.mutants.faults import Fault
from tests.mutants.measure import Index, files, text_of
from tests.mutants.regions import Region, marked

#: seconds of tests of one file before other files have their turn
TURN = 8.0


@dataclass(frozen=True)
class Batch:
    """Tests of one file, in order, and how long it takes to begin and each of them where all is right."""

    test_file: str
    tests: list[str]
    seconds: list[float]
    begin: float = 0.0

    @property
    def takes(self) -> float:
        return self.begin + sum(self.seconds)


@dataclass(frozen=True)
class Plan:
    """``batches`` in order.  ``tests`` counts all tests that would be run; ``runs``: some test gets to the place."""

    batches: list[Batch]
    tests: int
    runs: bool


@functools.cache
def regions_of(path: str) -> list[Region]:
    return marked(text_of(path))[1]


#: rank (small: first), name and seconds
Test = tuple[float, str, float]
Bits = np.ndarray[Any, Any]


class Chooser:
    """Plans for faults, from ``indices``; ``seconds`` is what the tests of one plan may take."""

    def __init__(self, indices: Iterable[Index], seconds: float):
        self.indices, self.seconds = list(indices), seconds

    def plan(self, fault: Fault) -> Plan:
        """The tests that run the fault; then those that run something else of its file, for what one test has run may
        be kept for the others."""
        wanted = self._regions(fault)
        direct = self._files(wanted, fault.path)
        loaded = any(i.was_loaded(self._numbers(i, wanted)) for i in self.indices)
        if not (direct or loaded or regions_of(fault.path)[fault.region].at_import):
            return Plan([], 0, False)
        chosen = {name for _, tests in direct for _, name, _ in tests}
        near = self._files([(fault.path, r) for r in regions_of(fault.path)], fault.path)
        near = [(i, [t for t in tests if t[1] not in chosen]) for i, tests in near]
        batches = list(self._turns(direct, self.seconds))
        batches += self._turns(near, self.seconds - sum(b.takes for b in batches))
        return Plan(batches, sum(len(tests) for _, tests in [*direct, *near]), True)

    def _files(self, wanted: list[tuple[str, Region]], path: str) -> list[tuple[Index, list[Test]]]:
        """The tests that run one of the regions, by file; the best file first."""
        found = [(index, self._tests(index, wanted, path)) for index in self.indices]
        return sorted(((i, tests) for i, tests in found if tests), key=lambda pair: _rank(*pair))

    def _regions(self, fault: Fault) -> list[tuple[str, Region]]:
        """What runs the fault: its region, or if that runs at import, what it defines and what names that."""
        regions = regions_of(fault.path)
        here = regions[fault.region]
        if not here.at_import:
            return [(fault.path, here)]
        inside = [r for r in regions if r.statement is here.statement and not r.at_import]
        defined = here.function.partition(".")[0]
        naming = [(p, r) for p, r in _naming(defined) if not r.at_import]
        return [*((fault.path, r) for r in inside), *naming]

    def _numbers(self, index: Index, wanted: list[tuple[str, Region]]) -> list[int]:
        """The numbers of the regions in an index; of one that has changed since, those of its function."""
        found: set[int] = set()
        for path, region in wanted:
            places = index.places.get(path, {})
            if (known := places.get(region.name)) is not None:
                found.add(known)
            else:
                found |= {k for name, k in places.items() if name.startswith(region.function + ":")}
        return sorted(found)

    def _tests(self, index: Index, wanted: list[tuple[str, Region]], path: str) -> list[Test]:
        """Rank, name and seconds of the tests of a file that run one of the regions."""
        numbers = self._numbers(index, wanted)
        if not numbers or not index.tests:
            return []
        ran = (index.ran(numbers) > 0) & index.passed
        if not ran.any():
            return []
        share = _share(index, path)
        return [
            (float(index.seconds[k] + 0.01) / max(share[k], 1e-3), index.tests[k], float(index.seconds[k]))
            for k in np.flatnonzero(ran)
        ]

    def _turns(self, ordered: list[tuple[Index, list[Test]]], left: float) -> Iterator[Batch]:
        """Each file has a turn, then what is left of each; as long as there are seconds."""
        waiting = [(index, _in_turn(tests)) for index, tests in ordered]
        for turn in (TURN, math.inf):
            for k, (index, queue) in enumerate(waiting):
                first, rest = _cut(queue, min(turn, left - index.begin))
                if first:
                    batch = Batch(index.test_file, [t for t, _ in first], [s for _, s in first], index.begin)
                    yield batch
                    left -= batch.takes
                    waiting[k] = (index, rest)


def _rank(index: Index, tests: list[Test]) -> float:
    """Small for a file that is quick to begin and has tests that are quick and of little else."""
    best = sorted(rank for rank, _, _ in tests)[:10]
    return index.begin * 3 + sum(best) / len(best)


def _in_turn(tests: list[Test]) -> list[tuple[str, float]]:
    """One test of every function, then a second of each, and so on; of each the best first."""
    seen: Counter[str] = Counter()
    placed = []
    for rank, name, seconds in sorted(tests):
        function = name.partition("[")[0]
        seen[function] += 1
        placed.append((seen[function], rank, name, seconds))
    return [(name, seconds) for _, _, name, seconds in sorted(placed)]


def _cut(queue: list[tuple[str, float]], seconds: float) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """Those of a queue that fit into ``seconds``, and the others."""
    first, rest = [], []
    for name, needs in queue:
        if needs <= seconds:
            first.append((name, needs))
            seconds -= needs
        else:
            rest.append((name, needs))
    return first, rest


_shares: dict[tuple[str, str], Bits] = {}


def _share(index: Index, path: str) -> Bits:
    """For each test, the part of the regions that it ran which are of ``path``."""
    if (index.test_file, path) not in _shares:
        first, count = index.first.get(path, 0), len(index.regions.get(path, ()))
        here = np.unpackbits(index.hits, axis=1)[:, first : first + count].sum(1)
        _shares[index.test_file, path] = here / np.maximum(index.counts, 1)
    return _shares[index.test_file, path]


@functools.cache
def _named() -> dict[str, list[tuple[str, Region]]]:
    """Regions by the names that stand in them."""
    found: dict[str, list[tuple[str, Region]]] = defaultdict(list)
    for path in files():
        regions = regions_of(path)
        for region in regions:
            for name in {n for node in _own(region) if (n := getattr(node, "id", getattr(node, "attr", None)))}:
                found[name].append((path, region))
    return found


def _own(region: Region) -> Iterator[ast.AST]:
    """The nodes of a region without those of regions in it."""
    number = region.node.region  # type: ignore[attr-defined]
    queue = [region.node]
    while queue:
        node = queue.pop()
        yield node
        queue += [n for n in ast.iter_child_nodes(node) if getattr(n, "region", None) == number]


def _naming(name: str) -> list[tuple[str, Region]]:
    return _named().get(name, []) if name != "module" else []
