"""The planted faults: each changes one place of the text, in memory, and the run notices that tests fail."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest

from tests.mutants.__main__ import CONCERNS, ROOT, candidates, concerns, listed, without_line
from tests.mutants.faults import KINDS, faults_of, planted

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


def test_every_file_has_tests_that_concern_it():
    for path in {f.path for f in candidates(["ops", "diff", "passes", "schedule", "codegen"])}:
        assert concerns(path)
    assert all((ROOT / "tests" / f"{name}.py").exists() for names in CONCERNS.values() for name in names)


def test_the_list_of_equivalent_faults_is_of_faults_that_can_be_planted():
    possible = {without_line(f) for f in candidates(["ops", "diff", "passes", "schedule", "codegen"])}
    assert set(listed()) <= possible
    assert all(len(reason) > 20 for reason in listed().values())


def test_a_planted_fault_is_seen_by_the_module_that_is_imported():
    path = ROOT / "gradc" / "schedule" / "affine.py"
    fault = faults_of("gradc/schedule/affine.py", path.read_text(encoding="utf-8"))[0]
    environment = {**os.environ, "GRADC_FAULT": f"{path}:{fault.number}"}
    ask = "import tests.mutants.plugin, gradc.schedule.affine as m; print(type(m.__loader__).__name__)"
    run = [sys.executable, "-c", ask]
    done = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "_Loader" or done.returncode != 0
