"""Random programs: forward, reverse and finite differences agree; compiled code computes what the interpreter does.

A failing program is printed with its graph and its arguments.  The nightly run draws thousands, with fresh seeds.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gradc as gc
from gradc.diff.modes import pull_back, push_forward
from gradc.graph import Graph
from gradc.node import OPS, Node, constant
from gradc.oracle import estimates as by
from gradc.oracle.check import agreement, default_compiler
from gradc.oracle.rounding import running_errors
from gradc.oracle.witness import subject_of
from gradc.passes import PIPELINE, run_passes, verify
from tests.programs import Program, programs

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
FUZZ = settings(suppress_health_check=SLOW)
COMPILE = default_compiler()


def agree(program: Program, methods: tuple[str, ...]) -> None:
    """Every pair of methods on every input."""
    rows = agreement(program.graph, program.arrays, methods)
    wrong = [row for row in rows if not row.ok and not row.singular]
    assert not wrong, f"{wrong}\n{program!r}"


@given(programs(steps=False, most_ops=8, scalar=True))
@FUZZ
def test_forward_reverse_and_differences_agree(program):
    agree(program, ("forward", "reverse", "finite"))


@given(programs(most_ops=12))
@FUZZ
def test_forward_is_the_adjoint_of_reverse(program):
    """⟨ct, J t⟩ = ⟨Jᵀct, t⟩ for whole programs, locally constant ops included."""
    subject = subject_of(program.graph, program.arrays).widened()
    random = np.random.default_rng(0)
    tangents = {x: constant(random.normal(size=x.shape)) for x in subject.leaves}
    pushed = push_forward(subject.graph.outputs, subject.leaves, list(tangents.values()))
    weights = [constant(subject.weights[y]) if y in subject.weights else None for y in subject.graph.outputs]
    pulled = pull_back(subject.graph.outputs, subject.leaves, weights)
    values, errors = running_errors([n for n in (*pushed, *pulled) if n is not None], subject.values)
    left = [(subject.weights[y], p) for y, p in zip(subject.graph.outputs, pushed, strict=True) if p is not None]
    right = [(tangents[x].attrs["value"], g) for x, g in zip(subject.leaves, pulled, strict=True) if g is not None]
    (a, a_error), (b, b_error) = (_paired(pairs, values, errors) for pairs in (left, right))
    if np.isfinite(a) and np.isfinite(b):
        assert abs(a - b) <= a_error + b_error, repr(program)


def _paired(pairs, values, errors):
    total = sum(float(np.sum(w * values[n])) for w, n in pairs)
    bound = sum(float(np.sum(np.abs(w) * (errors[n] + 2e-15 * n.size * np.abs(values[n])))) for w, n in pairs)
    return total, bound


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@given(data=st.data())
@settings(suppress_health_check=SLOW, max_examples=60)
def test_compiled_programs_compute_what_numpy_does(dtype, data):
    program = data.draw(programs(dtype))
    compiled_equals_interpreted(program)


@given(programs(most_ops=8, scalar=True))
@settings(suppress_health_check=SLOW, max_examples=30)
def test_compiled_gradients_agree_with_reverse(program):
    agree(program, ("reverse", "compiled"))


@pytest.mark.nightly
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@given(data=st.data())
@settings(suppress_health_check=SLOW, max_examples=2000)
def test_thousands_of_compiled_programs(dtype, data):
    compiled_equals_interpreted(data.draw(programs(dtype, most_ops=16)))


def compiled_equals_interpreted(program: Program) -> None:
    """Values and gradients of the compiled program against the interpreter, within the rounding of the dtype."""
    graph = program.graph
    results = COMPILE(graph)(list(program.arrays))
    known, bounds = running_errors(graph.outputs, dict(zip(graph.inputs, program.arrays, strict=True)))
    for node, got in zip(graph.outputs, results, strict=True):
        expected = known[node]
        if np.any(np.abs(expected.astype(float)) > 1e30) or not np.all(np.isfinite(bounds[node])):
            continue
        gap = np.abs(np.asarray(got, np.float64) - expected)
        same = (got == expected) | (np.isnan(expected) & np.isnan(got)) if node.aval.is_float else got == expected
        assert np.all((gap <= 2 * bounds[node]) | same), f"{node!r}: {got} against {expected}\n{program!r}"


@given(programs(most_ops=8))
@FUZZ
def test_passes_keep_programs_valid_and_their_values(program):
    graph = run_passes(program.graph, PIPELINE, check=True)
    verify(graph, "the pipeline")
    before, bounds = running_errors(program.graph.outputs, dict(zip(program.graph.inputs, program.arrays, strict=True)))
    after, other = running_errors(graph.outputs, dict(zip(graph.inputs, program.arrays, strict=True)))
    for old, new in zip(program.graph.outputs, graph.outputs, strict=True):
        a, b = before[old].astype(float), after[new].astype(float)
        with np.errstate(all="ignore"):
            inside = np.abs(a - b) <= bounds[old] + other[new]
        assert np.all(inside | ~np.isfinite(a)), repr(program)


# -- fixed points of the two modes -------------------------------------------------------------------------------------


def test_a_structurally_zero_tangent_is_absent():
    x = Node(OPS["input"], (), {"aval": None}, constant(1.0).aval)
    y = constant(2.0) * 3.0
    assert push_forward([y], [x], [constant(1.0)]) == [None]
    assert pull_back([y], [x], [constant(1.0)]) == [None]


def test_cotangents_of_rows_are_collected_into_one_node():
    """A loop over n rows costs O(n): one superposition, not n padded arrays and n − 1 additions."""
    x = Node(OPS["input"], (), {"aval": None}, constant(np.zeros((16, 3))).aval)
    total = sum((np.sum(np.sin(x[i])) for i in range(16)), start=constant(0.0))
    (g,) = pull_back([total], [x], [constant(1.0)])
    assert g is not None
    kinds = [n.op.name for n in Graph((x,), (g,)).nodes]
    assert kinds.count("superpose") == 1


def test_estimates_of_both_modes_come_with_bounds():
    x = np.linspace(0.1, 1.0, 5)
    leaf = Node(OPS["input"], (), {"aval": None}, constant(x).aval)
    subject = subject_of(Graph((leaf,), (np.sum(np.exp(leaf) * leaf),)), [x])
    exact = np.exp(x) * (1 + x)
    for estimate in (by.by_pull_back(subject, "reverse", by.Pulled()), by.forward(subject, {}), by.finite(subject, {})):
        (slope,) = estimate.slopes
        assert np.all(np.abs(slope.value - exact) <= slope.error + 1e-15)
        assert np.all(slope.error < 1e-9)


def test_cotangents_of_the_same_slice_are_added_before_they_are_placed():
    """The gates of an unrolled recurrence: as many placements as there are gates, whatever the number of steps."""

    def loss(b, steps=9):
        h = np.zeros(2)
        for _ in range(steps):
            z = np.concatenate([h, h]) + b
            h = np.tanh(z[:2]) * np.sin(z[2:])
        return np.sum(h)

    b = np.array([0.1, 0.2, 0.3, 0.4])
    placed = [n for n in gc.trace(gc.grad(loss), b).nodes if n.op.name == "superpose"]
    assert max(len(n.args) for n in placed) == 2
    np.testing.assert_allclose(gc.grad(loss)(b), gc.grad(loss, method="forward")(b), rtol=1e-13)
