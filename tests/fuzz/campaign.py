"""A run of many programs: seeded, resumable, with the failures in a folder, each shrunk and named by its kind.

Enters: a seed, a number, a folder.  Leaves: ``state.json`` (where the run stands, the numbers of the programs that
failed, and what was asked) and ``failures/*.py``.
Programs are drawn in batches; what a batch asks of machine code is compiled as one module, each alone only if something
is wrong.  Start reading at `Campaign.run`.
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

from tests.fuzz.check import (
    NATIVE,
    ORACLES,
    Failure,
    RefusedError,
    applies,
    attempted,
    examine,
    held_against,
    one,
)
from tests.fuzz.generate import program as program_number
from tests.fuzz.language import Program, quietly
from tests.fuzz.native import MANNERS, Manner, Native, native_results
from tests.fuzz.report import file_of
from tests.fuzz.shrink import shrunk
from tests.fuzz.subjects import Subjects

#: programs compiled together
BATCH = 20
#: of so many programs, one is asked by the oracle: those that cost more than the others together are asked less.  No
#: divisor in common with the turn of manners, but for that of `compiled`: every oracle meets every manner.
EVERY: dict[str, int] = {
    "value": 1, "adjoint": 1, "compiled": 2, "finite": 7, "batched": 17, "gradient": 17, "symbolic": 23, "second": 31,
    "jacobian": 33, "hessian": 63, "explained": 79, "checked": 211, "matrix_auto": 211, "matrix_forward": 211,
    "matrix_reverse": 211, "matrix_hessian": 211,
}  # fmt: skip
#: so many failures of one kind are shrunk, for one kind may have several causes
MOST_SHRUNK = 12
#: processor seconds after which a program is noted as slow
LONG = 20.0


def oracles_for(number: int) -> list[str]:
    """The oracles that program ``number`` is held against; its gradient is compiled together with its values."""
    asked = [name for k, (name, every) in enumerate(EVERY.items()) if (number + 7 * k) % every == 0]
    return [name for name in asked if name != "compiled" or "gradient" not in asked]


def manner_for(number: int) -> Manner:
    """How the module is compiled that program ``number`` is a part of."""
    return MANNERS[number // BATCH % len(MANNERS)]


@dataclass
class Campaign:
    """Programs 0, 1, … of one seed."""

    seed: int
    folder: Path | None = None
    seconds_to_shrink: float = 60.0
    say: Callable[[str], None] = print
    done: int = 0
    failed: dict[int, str] = field(default_factory=dict)  #: number -> kind
    refused: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)  #: programs that an oracle was asked of
    slow: dict[int, float] = field(default_factory=dict)  #: number -> processor seconds, of those beyond `LONG`
    files: dict[str, str] = field(default_factory=dict)  #: kind -> text of the smallest program

    @property
    def kinds(self) -> Counter[str]:
        return Counter(self.failed.values())

    def resumed(self) -> Campaign:
        """The same run where it stood."""
        if self.folder is not None and (self.folder / "state.json").exists():
            state = json.loads((self.folder / "state.json").read_text())
            if state["seed"] == self.seed:
                self.done = state["done"]
                self.failed = {int(number): kind for number, kind in state["failed"].items()}
                self.refused, self.asked = Counter(state["refused"]), Counter(state["asked"])
                self.slow = {int(number): seconds for number, seconds in state.get("slow", {}).items()}
        return self

    def run(self, until: int) -> bool:
        """All programs up to ``until``; True if none failed."""
        begun, first = time.monotonic(), self.done
        while self.done < until:
            numbers = range(self.done, min((self.done // BATCH + 1) * BATCH, until))
            self._batch(numbers)
            self.done = numbers.stop
            self._save()
            rate = (self.done - first) / max(time.monotonic() - begun, 1e-9)
            left = (until - self.done) / rate
            self.say(f"{self.done}/{until} programs, {rate:.1f}/s, {left / 60:.0f} min left, {self._counts()}")
        return not self.failed

    def again(self) -> bool:
        """The programs that failed, once more, each by all oracles that it was held against; True if none fails."""
        for number in sorted(self.failed):
            del self.failed[number]
            self._batch([number])
            self.say(f"{number}: {self.failed.get(number, 'no failure')}")
            self._save()
        self.say(self._counts())
        return not self.failed

    def _counts(self) -> str:
        found = f"{len(self.failed)} failures of {len(self.kinds)} kinds"
        return f"{found}, {sum(self.refused.values())} refused, {len(self.slow)} slow"

    def _batch(self, numbers: Iterable[int]) -> None:
        natives: list[tuple[int, str, Subjects, Native]] = []
        for number in numbers:
            s = Subjects(program_number(self.seed, number), manner_for(number))
            oracles = oracles_for(number)
            begun = time.process_time()
            try:
                failure = examine(s.program, [name for name in oracles if name not in NATIVE], s)
                if (took := time.process_time() - begun) > LONG:
                    self.slow[number] = round(took, 1)
            except RefusedError as refusal:
                self.refused[_without_numbers(str(refusal))] += 1
                continue
            if failure is None or failure.oracle != "trace":
                self.asked.update(name for name in oracles if applies(name, s))
            if failure is None:
                made, failure = _natives([name for name in oracles if name in NATIVE], s)
                natives += [(number, name, s, native) for name, native in made.items()]
            if failure is not None:
                self._fail(number, s.program, failure)
        if natives:
            self._compiled(natives)

    def _compiled(self, natives: Sequence[tuple[int, str, Subjects, Native]]) -> None:
        """Machine code of a whole batch; one by one where the batch raises."""
        try:
            results = quietly(native_results, [native for *_, native in natives], natives[0][2].manner)
        except Exception:
            for number, name, s, _ in natives:
                if (failure := one(name, s)) is not None:
                    self._fail(number, s.program, failure)
            return
        for (number, name, s, native), found in zip(natives, results, strict=True):
            if words := quietly(held_against, native, found):
                self._fail(number, s.program, one(name, s) or Failure(name, "compiled together", words, s.manner))

    def _fail(self, number: int, program: Program, failure: Failure) -> None:
        """Note it; the first of its kind are shrunk and written, with what they then are about."""
        if self.kinds[failure.kind] < MOST_SHRUNK:
            smallest = shrunk(program.forgotten(), lambda p: _same(p, failure), self.seconds_to_shrink)
            least = _again(smallest, failure) or failure
            kind = f"{least.kind} [{', '.join(sorted(smallest.forms()))}]"
            if kind not in self.files:
                self.files[kind] = text = file_of(smallest, least)
                if self.folder is not None:
                    self._write(kind, text)
                self.say(f"FAILED {kind}\n{text}")
        self.failed.setdefault(number, failure.kind)

    def _write(self, kind: str, text: str) -> None:
        assert self.folder is not None
        name = re.sub(r"\W+", "-", kind)[:80].strip("-")
        folder = self.folder / "failures"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}-{hashlib.sha1(kind.encode()).hexdigest()[:6]}.py").write_text(text)

    def _save(self) -> None:
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            state = {"seed": self.seed, "done": self.done, "failed": self.failed, "asked": self.asked,
                     "refused": self.refused, "slow": self.slow}  # fmt: skip
            whole = self.folder / "state.json.new"
            whole.write_text(json.dumps(state, indent=1))
            whole.replace(self.folder / "state.json")


def _natives(names: Sequence[str], s: Subjects) -> tuple[dict[str, Native], Failure | None]:
    """What is to be compiled of a program, and what went wrong on the way."""
    found: dict[str, Native] = {}
    for name in ("compiled", *names) if names == ["gradient"] and not applies("gradient", s) else names:
        made = attempted(name, NATIVE[name], s) if applies(name, s) else None
        if isinstance(made, Failure):
            return found, made
        if made is not None:
            found[name] = made
    return found, None


def _same(program: Program, failure: Failure) -> bool:
    found = _again(program, failure)
    return found is not None and found.kind == failure.kind


def _again(program: Program, failure: Failure) -> Failure | None:
    """What the same oracle says of another program."""
    try:
        return examine(program, [failure.oracle] if failure.oracle in ORACLES else [], manner=failure.manner)
    except RefusedError:
        return None


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+", "#", text.split("program", 1)[-1])[:100]
