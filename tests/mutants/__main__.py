"""`python -m tests.mutants`: plant faults one at a time and count how many the tests notice.

Exit status: 0 if at least 97 % of those that are not listed as equivalent were noticed, else 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from tests.mutants.choose import Batch, Chooser, Plan
from tests.mutants.faults import Fault, faults_of, planted
from tests.mutants.forks import Ended, Say, allow, import_outside, in_child, in_turns, processor_seconds
from tests.mutants.importing import Finder
from tests.mutants.measure import ROOMS, ROOT, STATE, digest, files, measure, read, test_files, text_of
from tests.mutants.sessions import run

LISTED = Path(__file__).parent / "survivors.toml"
#: what must be noticed
GOAL = 0.97
#: a test that takes so many times its seconds, and at least so many, does not end: nobody would wait for it
ENDLESS, AT_LEAST = 20, 30
#: the verdicts that count as noticed
NOTICED = ("failed", "crashed", "endless")


@dataclass(frozen=True)
class Verdict:
    """Of one fault: ``what`` (failed, crashed, endless, survived, unreached; doubtful if the test that noticed also
    fails without the fault), by which test, after how many tests of how many, and the processor seconds it took.

    ``digest`` is of the tests that it was found with: of the file that noticed, or of all that did not.
    """

    name: str
    what: str
    test: str
    tests: int
    of: int
    seconds: float
    digest: str = ""

    def holds(self, plan: Plan) -> bool:
        """Whether the tests are those that it was found with."""
        return self.digest == tests_of(self.what, self.test, plan)


def tests_of(what: str, test: str, plan: Plan) -> str:
    """The digest of the tests on which a verdict rests."""
    if what in NOTICED:
        return digest(Path(test.partition("::")[0]).stem)
    told = [digest(name) for name in sorted({batch.test_file for batch in plan.batches})]
    return hashlib.sha256(" ".join(told).encode()).hexdigest()


def candidates(rooms: Sequence[str] = ROOMS) -> list[Fault]:
    """Every fault of every file."""
    return [fault for path in files(rooms) for fault in faults_of(path, text_of(path))]


def sample(count: int, seed: int, rooms: Sequence[str] = ROOMS) -> list[Fault]:
    """So many faults, of each room in proportion to its lines.  Which these are depends on the words of each fault and
    on the seed: a change elsewhere leaves them."""
    lines = {room: sum(text_of(p).count("\n") for p in files([room])) for room in rooms}
    chosen = []
    for room, share in _shares(count, lines).items():
        faults = sorted(candidates([room]), key=lambda f: hashlib.sha256(f"{seed} {f.name}".encode()).digest())
        chosen += faults[:share]
    return sorted(chosen, key=lambda f: hashlib.sha256(f"{seed} {f.name}".encode()).digest())


def _shares(count: int, lines: dict[str, int]) -> dict[str, int]:
    """``count`` in proportion to ``lines``, by largest remainders."""
    exact = {room: Fraction(count * n, sum(lines.values())) for room, n in lines.items()}
    shares = {room: int(x) for room, x in exact.items()}
    for room in sorted(lines, key=lambda r: shares[r] - exact[r])[: count - sum(shares.values())]:
        shares[room] += 1
    return shares


def judge(fault: Fault, plan: Plan) -> Verdict:
    """Run the tests of the plan with the fault in place until one notices it."""
    if not plan.runs:
        return Verdict(fault.name, "unreached", "", 0, 0, 0.0, tests_of("unreached", "", plan))
    before = processor_seconds()
    ended = in_child(lambda say: _try(fault, plan.batches, say), STATE / f"child-{os.getpid()}")
    seconds = processor_seconds() - before
    begun = [words["begins"] for words in ended.said if "begins" in words]
    what, test = _what(ended, begun)
    return Verdict(fault.name, what, test, len(begun), plan.tests, round(seconds, 2), tests_of(what, test, plan))


def _what(ended: Ended, begun: list[str]) -> tuple[str, str]:
    last = begun[-1] if begun else "the import of gradc"
    if failed := [words["failed"] for words in ended.said if "failed" in words]:
        return "failed", failed[0]
    if any("error" in words for words in ended.said):
        return "failed", last
    if ended.still:
        return "endless", last
    if ended.by:
        return "endless" if ended.by == signal.SIGXCPU else "crashed", last
    return ("survived", "") if ended.said[-1:] == [{"done": True}] else ("crashed", last)


class _Watch:
    """Says which test begins and which fails; gives each the processor time that it may take."""

    def __init__(self, say: Say, batch: Batch):
        self.say, self.usual = say, dict(zip(batch.tests, batch.seconds, strict=True))

    def before(self, test: str) -> None:
        allow(max(ENDLESS * self.usual[test], AT_LEAST))
        self.say(begins=test)

    def after(self, test: str, outcome: str) -> None:
        allow(AT_LEAST * 4)
        if outcome == "failed":
            self.say(failed=test)


def _try(fault: Fault, batches: Sequence[Batch], say: Say) -> None:
    def code() -> CodeType:
        return compile(planted(text_of(fault.path), fault.number), str(ROOT / fault.path), "exec", dont_inherit=True)

    sys.meta_path.insert(0, Finder({(ROOT / fault.path).resolve(): code}))
    os.chdir(ROOT)
    allow(AT_LEAST * 4)
    for batch in batches:
        status = run(f"tests/{batch.test_file}.py", _Watch(say, batch), batch.tests, "-x")
        if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            say(failed=batch.test_file)
            return


def innocent(verdicts: Sequence[Verdict]) -> set[str]:
    """Those of the tests that noticed a fault that pass without any."""
    by_file: dict[str, list[str]] = {}
    for test in sorted({v.test for v in verdicts if "::" in v.test}):
        by_file.setdefault(Path(test.partition("::")[0]).stem, []).append(test)
    passed: set[str] = set()
    for name, tests in by_file.items():
        batch = Batch(name, tests, [AT_LEAST] * len(tests))
        ended = in_child(lambda say, batch=batch: _watch(batch, say), STATE / f"child-{os.getpid()}")  # type: ignore[misc]
        failed = {words["failed"] for words in ended.said if "failed" in words}
        passed |= {words["begins"] for words in ended.said if "begins" in words} - failed
    return passed


def _watch(batch: Batch, say: Say) -> None:
    os.chdir(ROOT)
    run(f"tests/{batch.test_file}.py", _Watch(say, batch), batch.tests)


def listed() -> dict[str, str]:
    """Faults that change nothing a caller can see, each with the reason; by name."""
    return {e["fault"]: e["reason"] for e in tomllib.loads(LISTED.read_text("utf-8")).get("equivalent", [])}


class Journal:
    """The verdicts of one seed, kept as they come, so that a run goes on where it stood."""

    def __init__(self, seed: int):
        self.path = STATE / f"seed-{seed}.jsonl"
        lines = self.path.read_text("utf-8").splitlines() if self.path.exists() else []
        self.known = {v.name: v for v in (Verdict(**json.loads(line)) for line in lines)}

    def add(self, verdict: Verdict) -> None:
        self.known[verdict.name] = verdict
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(vars(verdict)) + "\n")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("-n", type=int, default=150, help="how many faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rooms", default=",".join(ROOMS))
    parser.add_argument("--seconds", type=float, default=60, help="of tests that one fault may take")
    parser.add_argument("--again", action="store_true", help="try again what survived before")
    parser.add_argument("--at", metavar="FILE[:LINE]", help="every fault of a file or of a line, instead")
    parser.add_argument("--jobs", type=int, default=1, help="how many faults, or measured test files, at a time")
    options = parser.parse_args(words)
    import_outside()
    measure([name for name in test_files() if read(name) is None], options.jobs)
    chosen = _at(options.at) if options.at else sample(options.n, options.seed, options.rooms.split(","))
    journal = Journal(options.seed)
    known = listed()
    asked = [f for f in chosen if f.name not in known]
    _try_all(asked, journal, options)
    journal = Journal(options.seed)
    return report(asked, len(chosen) - len(asked), journal)


def _at(place: str) -> list[Fault]:
    path, _, line = place.partition(":")
    return [f for f in faults_of(path, text_of(path)) if not line or f.line == int(line)]


def _try_all(faults: Sequence[Fault], journal: Journal, options: Any) -> None:
    """Find the verdicts that are not known, or were found with other tests."""
    indices = [index for name in test_files() if (index := read(name)) is not None]
    chooser = Chooser(indices, options.seconds)

    def one(fault: Fault) -> None:
        known, plan = journal.known.get(fault.name), chooser.plan(fault)
        again = options.at or (options.again and known is not None and known.what not in NOTICED)
        if known is None or again or not known.holds(plan):
            v = judge(fault, plan)
            journal.add(v)
            print(f"{v.seconds:5.1f} s {v.what:9s} {fault}  [{v.tests} of {v.of}] {v.test}", flush=True)

    in_turns(faults, one, options.jobs)


def report(asked: Sequence[Fault], equivalent: int, journal: Journal) -> int:
    """Print the count and the survivors; the exit status."""
    found = [journal.known[f.name] for f in asked]
    passing = innocent(found)
    found = [v if "::" not in v.test or v.test in passing else replace(v, what="doubtful") for v in found]
    seen = sum(v.what in NOTICED for v in found)
    print(f"{seen} of {len(asked)} noticed ({seen / max(len(asked), 1):.1%}), {equivalent} listed as equivalent")
    for verdict in found:
        if verdict.what not in NOTICED:
            print(f"{verdict.what}: {verdict.name} {verdict.test}")
    return 0 if seen >= GOAL * len(asked) else 1


if __name__ == "__main__":
    sys.exit(main())
