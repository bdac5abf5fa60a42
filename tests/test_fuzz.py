"""The fuzzer reaches every public name, its oracles see faults, what fails is shrunk, and a few hundred programs pass.

`make fuzz N=100000` draws more; the nightly run draws thousands.
"""

from __future__ import annotations

import json
import subprocess
import sys
import types
from dataclasses import replace

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp
from gradc.interpret import interpret
from gradc.node import OPS
from tests.fuzz import arguments, surface
from tests.fuzz.campaign import Campaign, manner_for, oracles_for
from tests.fuzz.check import NATIVE, ORACLES, applies, examine, one
from tests.fuzz.control import CONTROL
from tests.fuzz.forms import FORMS, UPDATES
from tests.fuzz.generate import program, program_of
from tests.fuzz.language import Body, Program, Statement, literal
from tests.fuzz.native import MANNERS, donations, native_results
from tests.fuzz.report import file_of
from tests.fuzz.shrink import shrunk
from tests.fuzz.subjects import Subjects, is_singular

#: programs of `make test`, and of the nightly run
FEW, MANY = 100, 5000


# -- the surface -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", surface.ENTRIES)
def test_every_public_function_is_called_by_some_program(path):
    missing = arguments.makers_missing(surface.ENTRIES[path])
    assert not missing, f"tests/fuzz/arguments.py has no maker for {missing}"
    made = program_of(path, 0)
    assert made is not None, f"no call of {path} could be made that NumPy accepts"
    assert path in made.forms()


def test_every_operator_and_every_name_of_the_package_takes_part():
    assert surface.operators_without_a_form() == []
    assert set(surface.updates()) == set(UPDATES)
    assert surface.package_names_without_a_form({*CONTROL, *(f.__name__ for f, _ in FORMS), "stop_gradient"}) == []


def test_every_namespace_inside_a_namespace_takes_part():
    spaces = {id(space) for space in surface.SPACES.values()}
    for prefix, space in surface.SPACES.items():
        inner = [name for name in space.__all__ if isinstance(getattr(space, name), types.ModuleType)]
        assert [name for name in inner if id(getattr(space, name)) not in spaces] == [], prefix


def test_what_is_left_out_still_exists_and_is_not_called():
    public = {path for path, _ in (*surface.public_functions(), *surface.methods())}
    assert set(surface.LEFT_OUT) <= public
    assert set(surface.ENTRIES) | set(surface.LEFT_OUT) == public


# -- programs ----------------------------------------------------------------------------------------------------------


def test_a_number_gives_the_same_program_again():
    first, second = program(3, 14), program(3, 14)
    assert first.source() == second.source()
    assert literal(first.args[0]) == literal(second.args[0])
    assert {program(3, n).source() for n in range(5)} != {program(4, n).source() for n in range(5)}


@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", "bool", "uint8"])
def test_literals_are_read_back_bit_for_bit(dtype):
    a = np.array([[0.0, -0.0, np.nan], [np.inf, -1.5, 2.0]])
    a = (np.arange(6).reshape(2, 3) % 3).astype(dtype) if dtype in ("int8", "bool", "uint8") else a.astype(dtype)
    back = eval(literal(a), {"np": np})
    assert back.dtype == a.dtype
    assert back.tobytes() == a.tobytes()


# -- the oracles see faults --------------------------------------------------------------------------------------------


def of_one(text: str, x: np.ndarray, plain: str | None = None) -> Program:
    return Program({"x0": x}, (Statement(("v1",), text, "planted", (), plain),), ("v1",))


X = np.array([0.3, -0.7, 1.2])
PLANTED = {
    "value": of_one("gnp.sin(x0)", X, plain="np.cos(x0)"),
    "adjoint": of_one("gnp.sin(x0)", X),
    "finite": of_one("gnp.tanh(x0)", X),
    "symbolic": of_one("gnp.cos(x0)", X),
}


def test_a_value_that_is_not_numpys_is_seen():
    assert one("value", Subjects(PLANTED["value"])).oracle == "value"


@pytest.mark.parametrize("manner", [*dict.fromkeys(MANNERS)])
@pytest.mark.parametrize("oracle", NATIVE)
def test_wrong_machine_code_is_seen_in_every_manner(oracle, manner, monkeypatch):
    """One result of a few of the planted program, moved by a little, is one too many."""
    s = Subjects(of_one("gnp.sin(x0) * x0", X), manner)
    assert one(oracle, s) is None

    def wrong(asked, how):
        (results,) = native_results(asked, how)
        return [[r + 1e-9 * (np.arange(r.size).reshape(r.shape) == r.size - 1) for r in results]]

    monkeypatch.setattr("tests.fuzz.check.native_results", wrong)
    found = one(oracle, s)
    assert found is not None
    assert (found.oracle, found.manner) == (oracle, manner)


def test_every_manner_is_met_by_every_oracle_of_machine_code():
    """The shares of the oracles and those of the manners do not walk in step."""
    met = {(name, manner_for(n)) for n in range(20_000) for name in oracles_for(n)}
    assert {(name, manner) for name in NATIVE for manner in MANNERS} <= met


def test_donated_arguments_get_results_of_their_own_program_that_fit():
    x, y = np.zeros(3), np.zeros((2, 2))
    first = NATIVE["compiled"](Subjects(of_one("gnp.sin(x0)", x)))
    second = NATIVE["compiled"](Subjects(of_one("gnp.cos(x0)", y)))
    third = NATIVE["compiled"](Subjects(of_one("gnp.sum(x0)", x)))
    assert donations([first, third, second]) == {0: 0, 2: 2}


def test_a_wrong_partial_is_seen_by_differences_and_by_sympy():
    record = OPS["tanh"]
    right = record.partials
    try:
        object.__setattr__(record, "partials", lambda y, x: (1 + right(y, x)[0],))
        for oracle in ("finite", "symbolic"):
            assert one(oracle, Subjects(PLANTED["finite"])).oracle == oracle
    finally:
        object.__setattr__(record, "partials", right)
    assert one("finite", Subjects(PLANTED["finite"])) is None


@pytest.mark.parametrize(("text", "excused"), [
    ("gnp.cbrt(x0 - gnp.mean(x0))", True),  # ∞ − ∞ in reverse mode; a constant in forward mode
    ("(-x0) ** (x0 - x0)", True),  # no slope by the exponent, which is a constant
    ("gnp.where(x0 > 5, gnp.sqrt(x0 - x0), x0)", False),
    ("gnp.sin(x0)", False),
])  # fmt: skip
def test_only_where_there_is_no_derivative_the_modes_may_differ(text, excused):
    s = Subjects(of_one(text, np.array([1.0])))
    assert s.reverse.singular() == excused
    assert one("adjoint", s) is None


@pytest.mark.parametrize(("f", "cancels"), [
    (lambda a, b: a + b, True), (lambda a, b: a * 0, False), (lambda a, b: gnp.stack([a, b]).sum(), True),
    (lambda a, b: (a + b) + a * 0, False), (lambda a, b: gnp.stack([a, b]) @ np.ones(2), True),
    (lambda a, b: gnp.stack([a, b]) @ np.zeros(2), False), (lambda a, b: a - b, False),
    (lambda a, b: a - a, True), (lambda a, b: gc.fori_loop(0, 2, lambda i, c: c + b, a), True),
    (lambda a, b: gc.checkpoint(lambda c: gnp.log(c - 1))(1 / a), True),
    (lambda a, b: gc.fori_loop(0, 2, lambda i, c: gnp.log(c - 1), 1 / a), True),
    (lambda a, b: gc.checkpoint(lambda c: (1 / c) * c)(1 / a), False),
    (lambda a, b: gnp.log(b) * 2, True), (lambda a, b: gnp.log(b) * 0, False),
])  # fmt: skip
def test_what_has_no_derivative_is_told_from_products_with_zero(f, cancels):
    graph = gc.trace(f, np.inf, -np.inf)
    values = dict(zip(graph.inputs, map(np.asarray, (np.inf, -np.inf)), strict=True))
    interpret(graph.outputs, values)
    assert is_singular(graph.outputs, values) == cancels


def test_every_call_reads_a_value_of_the_program():
    """What is computed outside a trace has no error bound that its difference from SciPy could be held against."""
    for path in ("special.huber", "gc.random.orthogonal", "nn.init.normal"):
        for seed in range(5):
            made = program_of(path, seed)
            assert made is not None
            assert all(s.reads() for s in made.statements)


def test_fourth_derivatives_are_asked_where_there_is_no_kink():
    """To the third order they are promised at kinks as well."""

    def of(text):
        body = Body("f1", ("p1",), (), text)
        inner = Statement(("v1",), "gc.hvp(f1, (x0,), (x0,))[0]", "hvp", (body,))
        outer = Statement(("v2",), "gc.grad(f2)(x0)", "grad", (Body("f2", ("p2",), (inner,), "gnp.sum(v1)"),))
        return Program({"x0": X}, (outer,), ("v2",))

    assert of("gnp.sum(p1)").order == 3
    assert max(program(1, n).order for n in range(300)) <= 3
    assert PLANTED["value"].order == 0
    for text, asked in (("gnp.sum(gnp.sin(p1))", True), ("gnp.sum(gnp.maximum(p1, 0) ** 3)", False)):
        inner = replace(of(text), statements=of(text).statements[0].bodies[0].statements, outputs=("v1",))
        assert [applies(name, Subjects(inner)) for name in ("hessian", "adjoint")] == [asked, True]


@pytest.mark.parametrize(("wrong", "fails"), [({1}, False), ({2}, False), ({1, 2}, True)])
def test_a_quotient_that_is_wrong_in_one_direction_alone_is_an_unlucky_estimate(wrong, fails, monkeypatch):
    monkeypatch.setattr("tests.fuzz.check._quotient", lambda s: "off" if s.draw in wrong else None)
    assert (one("finite", Subjects(PLANTED["finite"])) is not None) == fails


def test_an_error_that_is_not_gradcs_own_is_a_failure(monkeypatch):
    def broken(*args, **kwargs):
        raise KeyError("lost")

    monkeypatch.setattr("tests.fuzz.subjects.push_forward", broken)
    found = one("adjoint", Subjects(PLANTED["adjoint"]))
    assert "KeyError" in found.kind


# -- shrinking ---------------------------------------------------------------------------------------------------------


def test_a_failing_program_is_shrunk_to_what_fails():
    """Any program with a stack fails here; what remains is that statement on one small array."""
    drawn = (program(1, n) for n in range(400))

    def holds(p):
        return any(s.form == "stack" for s in p.statements) and examine(p, ["value"]) is None

    small = shrunk(next(p for p in drawn if len(p.statements) > 3 and holds(p)).forgotten(), holds)
    assert [s.form for s in small.statements] == ["stack"]
    assert sum(a.size for a in small.args) <= 2


def test_bodies_are_shrunk_as_well():
    looped = next(p for p in (program(1, n) for n in range(400)) if sum(len(b.statements) for s in p.statements
                  if s.form == "scan" for b in s.bodies) > 2)  # fmt: skip

    def holds(p):
        return any(s.form == "scan" for s in p.statements) and examine(p, ["value"]) is None

    small = shrunk(looped.forgotten(), holds)
    (statement,) = small.statements
    assert statement.form == "scan"
    assert sum(len(b.statements) for b in statement.bodies) == 0


def test_the_file_of_a_failure_runs_on_its_own_and_fails(tmp_path):
    failing = PLANTED["value"]
    path = tmp_path / "failure.py"
    path.write_text(file_of(failing, one("value", Subjects(failing))))
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Not equal to tolerance" in done.stderr
    mended = replace(failing, statements=of_one("gnp.sin(x0)", X, plain="np.sin(x0)").statements)
    path.write_text(file_of(mended, one("value", Subjects(failing))))
    assert subprocess.run([sys.executable, str(path)], capture_output=True, check=False).returncode == 0


def test_the_file_of_a_small_fault_fails_too(tmp_path):
    statements = of_one("gnp.sin(x0) + 1e-11", X, plain="np.sin(x0)").statements
    failing = replace(PLANTED["value"], statements=statements)
    path = tmp_path / "failure.py"
    path.write_text(file_of(failing, one("value", Subjects(failing))))
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Not equal to tolerance" in done.stderr


# -- the runs ----------------------------------------------------------------------------------------------------------


def test_what_failed_is_run_again_and_is_clean_once_it_is_mended(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(ORACLES, "value", lambda s: "planted" if s.program.title.endswith("-7") else None)
        assert not Campaign(5, tmp_path, 0.0, say=lambda text: None).run(10)
    assert json.loads((tmp_path / "state.json").read_text())["failed"] == {"7": "value"}
    again = Campaign(5, tmp_path, say=lambda text: None).resumed()
    assert again.again()
    assert json.loads((tmp_path / "state.json").read_text())["failed"] == {}
    assert again.done == 10


def test_a_run_goes_on_where_it_stood(tmp_path):
    said = []
    Campaign(5, tmp_path, say=said.append).resumed().run(20)
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["done"] == 20
    again = Campaign(5, tmp_path, say=said.append).resumed()
    assert again.done == 20
    assert "20/20 programs" in said[-1]


def passes(seed: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADC_CHECK", "1")
    campaign = Campaign(seed, say=lambda text: None)
    assert campaign.run(count), "\n\n".join(campaign.files.values())


def test_some_programs_pass(monkeypatch):
    passes(3, FEW, monkeypatch)


@pytest.mark.nightly
def test_thousands_of_programs_pass(monkeypatch):
    passes(int(np.random.default_rng().integers(1, 2**31)), MANY, monkeypatch)
