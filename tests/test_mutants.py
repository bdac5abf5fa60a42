"""The planted faults: each changes one place of the text, in memory, and the run notices that tests fail."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.mutants import measure
from tests.mutants.__main__ import Verdict, _shares, listed, tests_of
from tests.mutants.choose import Batch, Chooser, Plan
from tests.mutants.faults import KINDS, faults_of, planted
from tests.mutants.importing import Finder
from tests.mutants.measure import ROOT, Index, text_of
from tests.mutants.regions import EXPRESSION, STATEMENT, marked, probed

SOURCE = """
def f(x, n):
    '''A docstring: a + b < 1.'''
    if not n < 3 and x:
        raise ValueError(f"{n + 1}")
    total = where(x > 0, g(x - n, -x), 0)
    for i in reversed(range(n)):
        total = total + h(i) if i else sub(total, i)
    return total
"""


def test_every_kind_of_fault_has_a_place_and_messages_have_none():
    found = faults_of("f.py", SOURCE)
    assert {f.kind for f in found} == set(KINDS)
    assert not any(f.line in (3, 5) for f in found)


@pytest.mark.parametrize("fault", faults_of("f.py", SOURCE), ids=lambda f: f"{f.kind}-{f.line}-{f.number}")
def test_a_fault_changes_one_place(fault):
    right, wrong = ast.unparse(ast.parse(SOURCE)), ast.unparse(planted(SOURCE, fault.number))
    assert wrong != right
    changed = [(a, b) for a, b in zip(right.splitlines(), wrong.splitlines(), strict=True) if a != b]
    assert len(changed) == 1
    compile(wrong, "f.py", "exec")


def test_a_planted_fault_is_in_the_module_that_is_imported():
    path = ROOT / "gradc" / "schedule" / "affine.py"
    code = compile("planted = 1", str(path), "exec")
    finder = Finder({path.resolve(): lambda: code})
    assert finder.find_spec("gradc.schedule.rows", [str(path.parent)]) is None
    spec = finder.find_spec("gradc.schedule.affine", [str(path.parent)])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.planted == 1
    assert not hasattr(module, "Affine")


# -- regions -----------------------------------------------------------------------------------------------------------
PROGRAM = """
'''A module.'''
LIMIT = 2 if True else 3

def choose(x):
    '''Docstring.'''
    if x > LIMIT:
        return [k * k for k in range(x) if k > 1 or x < 0]
    square = lambda y: y * y
    return square(x) if x else None

class Held:
    def value(self):
        return choose(0)
"""


def _run(call):
    """The texts of the regions in functions that ``call`` runs."""
    tree, regions = probed(PROGRAM, 5)[0], marked(PROGRAM)[1]
    held = bytearray(5 + len(regions))
    names = {STATEMENT: held, EXPRESSION: held.__setitem__}
    exec(compile(tree, "program.py", "exec"), names)
    assert names["choose"].__doc__ == "Docstring."
    assert not any(held)
    result = call(names)
    return result, {ast.unparse(regions[k - 5].node).split("\n")[0] for k, b in enumerate(held) if b}


def test_a_probed_program_does_the_same_and_tells_what_it_ran():
    result, ran = _run(lambda names: names["choose"](4))
    assert result == [4, 9]
    assert ran == {
        "if x > LIMIT:",
        "return [k * k for k in range(x) if k > 1 or x < 0]",
        "k * k",
        "k > 1 or x < 0",
        "x < 0",
    }
    result, ran = _run(lambda names: names["choose"](1))
    assert result == 1
    assert {"square = lambda y: y * y", "y * y", "square(x)"} <= ran
    assert not {"None", "k * k"} & ran
    result, ran = _run(lambda names: names["Held"]().value())
    assert result is None
    assert {"return choose(0)", "None"} <= ran
    assert "y * y" not in ran


def test_names_of_regions_are_unique_and_stay_when_other_lines_change():
    before = marked(PROGRAM)[1]
    changed = PROGRAM.replace("LIMIT = 2", "OTHER = 1\nLIMIT = 3").replace("return square(x)", "return -square(x)")
    after = marked(changed)[1]
    names = [r.name for r in before]
    assert len(set(names)) == len(names)
    assert {r.function for r in before} == {"module", "LIMIT", "choose", "Held", "Held.value"}
    kept = {r.name for r in before} & {r.name for r in after}
    assert {ast.unparse(r.node).split("\n")[0] for r in before if r.name not in kept} == {
        "LIMIT = 2 if True else 3", "2", "def choose(x):", "return square(x) if x else None", "square(x)",
    }  # fmt: skip


# -- the choice of tests -----------------------------------------------------------------------------------------------
PLACE = "gradc/passes/dce.py"


def _index(tests):
    """An index in which each test of ``tests`` ran the regions of `PLACE` that it is given, and has its seconds."""
    regions = {PLACE: [r.name for r in marked(text_of(PLACE))[1]]}
    rows = np.zeros((len(tests), len(regions[PLACE])), np.uint8)
    for row, (ran, _) in zip(rows, tests.values(), strict=True):
        row[list(ran)] = 1
    seconds = np.array([s for _, s in tests.values()], np.float32)
    loaded = np.packbits(np.zeros(len(regions[PLACE]), np.uint8))
    passed = np.array([name != "t.py::fails" for name in tests])
    return Index("t", "", 0.1, list(tests), passed, seconds, np.packbits(rows, axis=1), loaded, regions)


def _fault_in_a_function():
    return next(f for f in faults_of(PLACE, text_of(PLACE)) if not marked(text_of(PLACE))[1][f.region].at_import)


def test_the_tests_that_run_a_fault_come_first_quick_ones_before_slow_ones():
    place = _fault_in_a_function().region
    other = next(k for k, r in enumerate(marked(text_of(PLACE))[1]) if k != place and not r.at_import)
    index = _index({"t.py::slow": ([place], 3.0), "t.py::near": ([other], 0.1), "t.py::quick": ([place], 0.1),
                    "t.py::fails": ([place], 0.1)})  # fmt: skip
    plan = Chooser([index], seconds=60).plan(_fault_in_a_function())
    assert [t for b in plan.batches for t in b.tests] == ["t.py::quick", "t.py::slow", "t.py::near"]
    plan = Chooser([index], seconds=1).plan(_fault_in_a_function())
    assert [t for b in plan.batches for t in b.tests] == ["t.py::quick", "t.py::near"]
    assert plan.tests == 3


def test_a_place_that_no_test_runs_is_said_to_be_unreached():
    fault = _fault_in_a_function()
    other = next(k for k, r in enumerate(marked(text_of(PLACE))[1]) if k != fault.region)
    assert not Chooser([_index({"t.py::near": ([other], 0.1)})], seconds=60).plan(fault).runs


def test_a_verdict_holds_as_long_as_the_tests_that_it_was_found_with(tmp_path, monkeypatch):
    tests = tmp_path / "tests"
    tests.mkdir()
    texts = {"test_a": "from tests.held import X", "test_b": "import tests.other", "held": "X = 1", "other": "Y = 2"}
    for name, text in texts.items():
        (tests / f"{name}.py").write_text(text)
    monkeypatch.setattr(measure, "ROOT", tmp_path)
    plan = Plan(
        [Batch("test_a", ["tests/test_a.py::t"], [1.0]), Batch("test_b", ["tests/test_b.py::t"], [1.0])], 2, True
    )

    def verdicts() -> list[Verdict]:
        measure.digest.cache_clear()
        told = [("failed", "tests/test_a.py::t"), ("survived", "")]
        return [Verdict("f", what, test, 1, 2, 1.0, tests_of(what, test, plan)) for what, test in told]

    noticed, survived = verdicts()
    assert noticed.holds(plan) and survived.holds(plan)
    assert not survived.holds(Plan(plan.batches[:1], 1, True))
    (tests / "other.py").write_text("Y = 3")
    verdicts()
    assert noticed.holds(plan) and not survived.holds(plan)
    (tests / "held.py").write_text("X = 2")
    verdicts()
    assert not noticed.holds(plan)
    measure.digest.cache_clear()


# -- the run -----------------------------------------------------------------------------------------------------------
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")

CHILDREN = """
import json, os, sys
from pathlib import Path
from tests.mutants.__main__ import _what
from tests.mutants.forks import allow, in_child

def passes(say): say(begins="t")
def fails(say): say(begins="t"); say(failed="t")
def raises(say): raise MemoryError
def crashes(say): say(begins="t"); os.abort()
def leaves(say): say(begins="t"); os._exit(0)
def loops(say):
    say(begins="t")
    allow(0.1)
    while True: pass

def verdict(work):
    ended = in_child(work, Path(sys.argv[1]))
    return _what(ended, [w["begins"] for w in ended.said if "begins" in w])[0]

print(json.dumps({w.__name__: verdict(w) for w in (passes, fails, raises, crashes, leaves, loops)}))
"""


@forks
def test_a_child_that_fails_crashes_or_never_ends_has_noticed_and_only_one_that_ends_well_has_not(tmp_path):
    run = [sys.executable, "-c", CHILDREN, str(tmp_path / "child")]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {
        "passes": "survived", "fails": "failed", "raises": "failed", "crashes": "crashed", "leaves": "crashed",
        "loops": "endless",
    }  # fmt: skip


TURNS = """
import os, sys
from tests.mutants.forks import in_turns

out = os.open(sys.argv[1], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
in_turns(range(20), lambda k: os.write(out, b"%d\\n" % k), 3)
try:
    in_turns([1, 0], lambda k: 1 // k, 2)
except RuntimeError:
    os.write(out, b"told\\n")
"""


@forks
def test_each_thing_is_worked_on_by_one_of_the_forks(tmp_path):
    subprocess.run([sys.executable, "-c", TURNS, str(tmp_path / "out")], cwd=ROOT, capture_output=True, check=True)
    *numbers, told = (tmp_path / "out").read_text().split()
    assert sorted(map(int, numbers)) == list(range(20)) and told == "told"


JUDGED = """
import json, sys
from pathlib import Path
import tests.mutants.__main__ as main
from tests.mutants.choose import Batch, Plan
from tests.mutants.faults import faults_of
from tests.mutants.measure import text_of

main.STATE = Path(sys.argv[1])
path, test = "gradc/passes/cse.py", "tests/test_passes.py::test_cse_merges_equal_work_and_keeps_signed_zeros_apart"
plan = Plan([Batch("test_passes", [test, "tests/test_passes.py::of_no_such_name"], [0.1, 0.1])], 2, True)
fault, *_, harmless = [f for f in faults_of(path, text_of(path)) if f.function in ("cse.merge", "attrs_key")]
print(json.dumps([(v.what, v.test, v.tests) for v in (main.judge(fault, plan), main.judge(harmless, plan))]))
"""


@forks
def test_a_fault_is_noticed_by_the_tests_of_its_plan_or_survives_them(tmp_path):
    run = [sys.executable, "-c", JUDGED, str(tmp_path)]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True)
    (noticed, test, _), (survived, *_) = json.loads(done.stdout)
    assert (noticed, survived) == ("failed", "survived")
    assert test.endswith("test_cse_merges_equal_work_and_keeps_signed_zeros_apart")


def test_the_sample_is_in_proportion_to_the_lines_of_each_room():
    assert _shares(10, {"a": 70, "b": 24, "c": 6}) == {"a": 7, "b": 2, "c": 1}
    assert sum(_shares(7, {"a": 1, "b": 1, "c": 1}).values()) == 7


def test_the_list_of_equivalent_faults_is_of_faults_that_can_be_planted():
    for path in {name.partition(" ")[0] for name in listed()}:
        assert {n for n in listed() if n.startswith(path + " ")} <= {f.name for f in faults_of(path, text_of(path))}
    assert all(len(reason) > 20 for reason in listed().values())
