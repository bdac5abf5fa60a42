"""A run of many programs: seeded, resumable, with the failures in a folder, each shrunk and named by its kind.

Enters: a seed, a number, a folder.  Leaves: ``state.json`` (where the run stands) and ``failures/*.py``.
Programs are drawn in batches; a batch is compiled as one module, and program by program only if something is wrong.
Start reading at `Campaign.run`.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gradc.errors import GradcError
from tests.fuzz.check import ORACLES, Failure, RefusedError, Subjects, compiled, compiled_results, examine, one
from tests.fuzz.generate import program as program_number
from tests.fuzz.language import Program, quietly
from tests.fuzz.report import file_of
from tests.fuzz.shrink import shrunk

#: programs compiled together
BATCH = 20
#: of so many programs, one is also asked by the oracle: those that cost more than the others together are asked less
EVERY: dict[str, int] = {
    "value": 1, "adjoint": 1, "finite": 2, "jacobian": 5, "hessian": 12, "second": 6, "gradient": 7, "batched": 4,
    "symbolic": 10, "explained": 20, "checked": 60,
}  # fmt: skip


def oracles_for(number: int) -> list[str]:
    """The oracles, besides compiled values, that program ``number`` is held against."""
    return [name for k, (name, every) in enumerate(EVERY.items()) if (number + k) % every == 0]


@dataclass
class Campaign:
    """Programs 0, 1, … of one seed."""

    seed: int
    folder: Path | None = None
    seconds_to_shrink: float = 60.0
    say: Callable[[str], None] = print
    done: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    files: dict[str, str] = field(default_factory=dict)  #: kind -> text of the smallest program

    def resumed(self) -> Campaign:
        """The same run where it stood."""
        if self.folder is not None and (self.folder / "state.json").exists():
            state = json.loads((self.folder / "state.json").read_text())
            if state["seed"] == self.seed:
                self.done = state["done"]
                self.kinds, self.refused = Counter(state["kinds"]), Counter(state["refused"])
                self.files = dict.fromkeys(self.kinds, "")
        return self

    def run(self, until: int) -> bool:
        """All programs up to ``until``; True if none failed."""
        begun, first = time.monotonic(), self.done
        while self.done < until:
            numbers = range(self.done, min(self.done + BATCH, until))
            self._batch(numbers)
            self.done = numbers.stop
            self._save()
            rate = (self.done - first) / max(time.monotonic() - begun, 1e-9)
            left = (until - self.done) / rate
            found = f"{sum(self.kinds.values())} failures of {len(self.kinds)} kinds"
            counts = f"{found}, {sum(self.refused.values())} refused"
            self.say(f"{self.done}/{until} programs, {rate:.1f}/s, {left / 60:.0f} min left, {counts}")
        return not self.kinds

    def _batch(self, numbers: Iterable[int]) -> None:
        traced: list[Subjects] = []
        for number in numbers:
            s = Subjects(program_number(self.seed, number))
            try:
                failure = examine(s.program, oracles_for(number), s)
            except RefusedError as refusal:
                self.refused[_without_numbers(str(refusal))] += 1
                continue
            if failure is not None:
                self._fail(s.program, failure)
            if failure is None or failure.oracle != "trace":
                traced.append(s)
        self._compiled(traced)

    def _compiled(self, traced: Sequence[Subjects]) -> None:
        """Compiled values of a whole batch; one by one where the batch raises."""
        usable = [s for s in traced if _interprets(s)]
        try:
            results = quietly(compiled_results, [s.graph for s in usable], [s.program.args for s in usable])
        except Exception:
            for s in usable:
                self._fail_if(s, one("compiled", s))
            return
        for s, found in zip(usable, results, strict=True):
            if words := quietly(compiled, s, found):
                alone = one("compiled", s)
                self._fail_if(s, alone or Failure("compiled", "compiled together", words))

    def _fail_if(self, s: Subjects, failure: Failure | None) -> None:
        if failure is not None:
            self._fail(s.program, failure)

    def _fail(self, program: Program, failure: Failure) -> None:
        """Count; the first of its kind is shrunk and written, with what it then is about."""
        smallest = program
        if self.kinds[failure.kind] < MOST_SHRUNK:
            smallest = shrunk(program, lambda p: _same(p, failure), self.seconds_to_shrink)
            failure = _again(smallest, failure) or failure
            kind = f"{failure.kind} [{', '.join(sorted(smallest.forms()))}]"
            if kind not in self.files:
                self.files[kind] = text = file_of(smallest, failure)
                if self.folder is not None:
                    self._write(kind, text)
                self.say(f"FAILED {kind}\n{text}")
        self.kinds[failure.kind] += 1

    def _write(self, kind: str, text: str) -> None:
        assert self.folder is not None
        name = re.sub(r"\W+", "-", kind)[:80].strip("-")
        folder = self.folder / "failures"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}-{hashlib.sha1(kind.encode()).hexdigest()[:6]}.py").write_text(text)

    def _save(self) -> None:
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            state = {"seed": self.seed, "done": self.done, "kinds": self.kinds, "refused": self.refused}
            (self.folder / "state.json").write_text(json.dumps(state, indent=1))


#: so many failures of one kind are shrunk, for one kind may have several causes
MOST_SHRUNK = 12


def _same(program: Program, failure: Failure) -> bool:
    found = _again(program, failure)
    return found is not None and found.kind == failure.kind


def _again(program: Program, failure: Failure) -> Failure | None:
    """What the same oracle says of another program."""
    try:
        return examine(program, [failure.oracle] if failure.oracle in ORACLES else [])
    except RefusedError:
        return None


def _interprets(s: Subjects) -> bool:
    """Whether the interpreter can evaluate the program: if not, `value` has said so."""
    try:
        return quietly(lambda: s.interpreted) is not None
    except (Exception, GradcError):
        return False


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+", "#", text.split("program", 1)[-1])[:100]
