"""The conformance test: every facet of every op in the registry, against every other.

Compiled = NumPy; SymPy = NumPy; JVP = SymPy derivative = difference quotient; ⟨ct, J t⟩ = ⟨Jᵀct, t⟩; second order;
float32 and float64; broadcast, zero-size and zero-dim shapes; batching rule = loop; singular points as declared.  A new
op is tested by being registered.  The comparisons are those of `gradc.oracle.rules`, which test_oracle.py proves by
planting faults.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sympy

import gradc as gc
from gradc.aval import Aval
from gradc.diff.modes import pull_back
from gradc.diff.reverse import is_linear_in
from gradc.diff.symbolic import symbolic_pull_back
from gradc.graph import Graph
from gradc.interpret import interpret
from gradc.node import OPS, Node, constant
from gradc.ops.control import items
from gradc.ops.elementwise import apply, promotes
from gradc.ops.record import HOLDERS, LEAVES, Kind, Op, has_results
from gradc.oracle.check import check_graph
from gradc.oracle.rounding import CORRECT, running_errors
from gradc.oracle.rules import applied, batching_faults, derivative_faults, meaning_faults
from tests.compiled_graph import compiled, same_bits
from tests.op_cases import (
    BITWISE,
    LOGICAL,
    OF_ANY_SIGN,
    ON_CPUS_ALONE,
    OPERANDS,
    Case,
    cases,
    leaf,
    operand_count,
    operands,
)

#: what holds bodies is an op for every body: programs test it, in test_control*.py
WITH_BODIES = {name for name, op in OPS.items() if op.kind in (*HOLDERS, Kind.ITEM)}
ALL = sorted(set(OPS) - WITH_BODIES)
COMPUTED = [name for name in ALL if name not in ("input", "constant")]
#: ops whose derivatives in a parameter SymPy has not; see tests/test_random_rejection.py and tests/test_gammas.py
PARAMETRIC = {
    "beta_moment", "betainc", "betaincc", "betainccinv", "betaincinv",
    "gamma_moment", "gammainc", "gammaincc", "gammainccinv", "gammaincinv", "hurwitz_zeta", "riemann_zeta",
    "zeta_derivative", "zetac",
}
FLOATING = [
    n for n in COMPUTED
    if OPS[n].differentiable and cases(OPS[n])[0].node().aval.is_float and n not in PARAMETRIC
]  # fmt: skip
ELEMENTWISE = [n for n in COMPUTED if OPS[n].kind is Kind.ELEMENTWISE]

#: ops without a SymPy meaning or index formula, each with its reason
WITHOUT_SYMPY = {
    **dict.fromkeys(("input", "constant", "iota"), "a leaf has no operands"),
    **dict.fromkeys(BITWISE, "bits of integers"),
    **dict.fromkeys(("threefry", "fraction", "normal_of_bits"), "bits of integers"),
    **dict.fromkeys(("gamma_draw", "poisson_draw", "binomial_draw"), "draws by rejection"),
    "gamma_moment": "an integral without a closed derivative in SymPy; see tests/test_random_rejection.py",
    "beta_moment": "SymPy knows no derivative in the shapes; see tests/test_incomplete.py",
    **dict.fromkeys(("gammaincinv", "gammainccinv", "betaincinv", "betainccinv"), "an inverse SymPy has no name for"),
    "zeta_derivative": "SymPy knows no derivative in the exponent; see tests/test_gammas.py",
    **dict.fromkeys(LOGICAL, "boolean operands"),
    **dict.fromkeys(("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"), "a predicate"),
    **dict.fromkeys(("isnan", "isinf", "isfinite", "signbit"), "a predicate on number formats"),
    **dict.fromkeys(("exponent", "gcd"), "integer result"),
    **dict.fromkeys(("any", "all"), "boolean result"),
    **dict.fromkeys(("argmax", "argmin", "argsort", "searchsorted"), "integer result"),
    "scatter": "combining at computed places; symbolic mode derives it from gather, equality and sums",
    **dict.fromkeys(("lu", "complete_lu"), "the pivots are chosen by size"),
    **dict.fromkeys(("qr", "eigh", "eigh_up_to_signs", "svd", "svd_up_to_signs"), "signs are chosen by size"),
    **dict.fromkeys(("eigvalsh", "svdvals", "sqrtm", "lyapunov"), "by the roots of a polynomial of any degree"),
    "pinv": "small singular values are told by size",
    **dict.fromkeys(("expm", "expm_slope"), "a series, of which as much is summed as a norm asks for"),
}
#: ops that no formula of their operands defines, so that there is no symbolic derivative
WITHOUT_DEFINITION = {
    "eigh", "eigh_up_to_signs", "svd", "svd_up_to_signs", "eigvalsh", "svdvals", "pinv", "sqrtm", "lyapunov",
    "expm", "expm_slope",
}  # fmt: skip


def test_who_may_lack_a_sympy_meaning():
    lacking = {name for name in ALL if OPS[name].sympy is None and OPS[name].source is None}
    assert lacking == set(WITHOUT_SYMPY)


def test_what_holds_bodies_is_differentiated_and_batched_by_kind():
    assert {"cond", "checkpoint", "custom", "function", "item", "loop"} == WITH_BODIES
    for name in WITH_BODIES:
        op = OPS[name]
        assert op.differentiable
        assert (op.partials, op.jvp, op.transpose, op.batch, op.lower, op.expand) == (None,) * 6


@pytest.mark.parametrize("name", ALL)
def test_the_record_is_whole(name):
    op = OPS[name]
    rules = [k for k in ("partials", "jvp") if getattr(op, k) is not None]
    assert len(rules) <= 1, f"one derivative rule, not {rules}"
    assert op.transpose is None or op.partials is None or op.linear, "a transpose of the operands that are linear"
    assert op.batch is not None or op.expand is not None or op.kind in LEAVES
    if op.kind is Kind.ELEMENTWISE:
        assert op.lower is not None
        assert op.partials is not None or op.transpose is not None or op.constant
    elif op.kind not in LEAVES:
        assert op.samples, "a structured op says where to test it"
    if op.kind in (Kind.VIEW, Kind.FOLD):
        assert op.source is not None
        assert op.transpose is not None


@pytest.mark.parametrize("name", [n for n in ELEMENTWISE if OPS[n].partials is not None])
def test_there_is_a_partial_for_each_operand(name):
    """Of a predicate too, whose partials nobody asks for: there is none."""
    node = cases(OPS[name])[0].node()
    partials = OPS[name].partials(node, *node.args, **node.attrs)
    assert len(partials) == len(node.args)
    assert node.aval.is_float or set(partials) == {None}


def test_a_strong_contraction_is_the_sum_of_strong_products():
    """Also where the plain one meets 0·∞, in matrices of more than one element."""
    x = np.array([[0.0, 1.0, 2.0], [np.inf, 0.0, -1.0], [3.0, 4.0, 5.0], [0.0, 0.0, np.nan]])
    y = np.array([[np.inf, 0.0], [1.0, np.inf], [0.0, 3.0]])
    strong = OPS["strong_multiply"].numpy
    attrs = {"left": (0, 1), "right": (1, 2), "out": (0, 2)}
    with np.errstate(all="ignore"):
        expected = [[sum(strong(x[i, k], y[k, j]) for k in range(3)) for j in range(2)] for i in range(4)]
        np.testing.assert_array_equal(OPS["strong_contract"].evaluate(x, y, **attrs), expected)
        turned = OPS["strong_contract"].evaluate(x, y, **attrs | {"out": (2, 0)})
    np.testing.assert_array_equal(turned, np.transpose(expected))


@pytest.mark.parametrize("name", COMPUTED)
def test_shape_rule_and_dtype_are_numpys(name):
    for dtype in (np.float32, np.float64):
        for case in cases(OPS[name], dtype):
            node = case.node()
            value = case.value()
            assert (value.shape, value.dtype) == (node.shape, node.dtype)


@pytest.mark.parametrize("name", [n for n in COMPUTED if OPS[n].kind not in LEAVES])
def test_second_meanings_have_the_value_of_numpys(name):
    for case in cases(OPS[name]):
        assert meaning_faults(case.node(), case.arrays) == []


@pytest.mark.parametrize("name", FLOATING)
def test_derivatives_agree(name):
    """JVP = difference quotient, SymPy derivative = difference quotient, ⟨ct, J t⟩ = ⟨Jᵀct, t⟩."""
    for case in [*cases(OPS[name]), *cases(OPS[name], shape=()), *cases(OPS[name], shape=(2, 3))]:
        assert derivative_faults(case.node(), case.arrays) == []


@pytest.mark.parametrize("name", [n for n in COMPUTED if OPS[n].kind not in LEAVES])
def test_batching_is_one_example_at_a_time(name):
    for case in cases(OPS[name]):
        assert batching_faults(case.node(), case.arrays, size=3) == []


@pytest.mark.parametrize("name", FLOATING)
def test_an_op_is_linear_in_just_the_operands_that_it_says(name):
    """Jointly, with what the others add: f(3u − 2v) = 3 f(u) − 2 f(v), for every choice of operands.  Of an elementwise
    op it may not be said."""
    random = np.random.default_rng(0)
    for case in cases(OPS[name]):
        if case.attrs.get("how", "add") != "add":
            continue  # no derivative is made of the others
        node = case.node()
        floats = [i for i, a in enumerate(operands(node)) if a.aval.is_float]
        for where in (w for n in range(1, len(floats) + 1) for w in itertools.combinations(floats, n)):
            u, v = (_replaced(case.arrays, where, random) for _ in "uv")
            both = [3 * a - 2 * b if i in where else a for i, (a, b) in enumerate(zip(u, v, strict=True))]
            with np.errstate(all="ignore"):
                try:
                    one, two, together = (replace(case, arrays=tuple(x)).value() for x in (u, v, both))
                except np.linalg.LinAlgError:  # it is not defined everywhere
                    assert not is_linear_in(applied(node), where)
                    continue
                holds = np.allclose(together, 3 * one - 2 * two, rtol=1e-9, atol=1e-9)
            assert holds >= is_linear_in(applied(node), where), where
            if case.op.transpose is not None and together.any():
                assert holds == is_linear_in(node, where), where


def _replaced(arrays: Sequence[Any], where: Sequence[int], random: np.random.Generator) -> list[Any]:
    return [random.standard_normal(a.shape) if i in where else a for i, a in enumerate(arrays)]


STRUCTURED_SYMPY = [n for n in FLOATING if OPS[n].kind is not Kind.ELEMENTWISE and OPS[n].sympy is not None]


@pytest.mark.parametrize("name", STRUCTURED_SYMPY)
def test_structured_ops_have_the_derivative_of_their_sympy_meaning(name):
    """∂(Σ ct·y)/∂x by sympy.diff on an array of symbols, against reverse mode."""
    for case in cases(OPS[name]):
        if case.node().size:
            _hold_against_symbols(case)


def _hold_against_symbols(case: Case) -> None:
    node = case.node()
    floats = [i for i, a in enumerate(case.arrays) if a.dtype.kind == "f"]
    symbols = {i: np.array(sympy.symbols(f"x{i}_:{case.arrays[i].size}", real=True), object) for i in floats}
    given = [symbols[i].reshape(a.shape) if i in floats else a for i, a in enumerate(case.arrays)]
    found = case.op.sympy(sympy, *given, **case.attrs)
    meaning = np.asarray(found if case.result is None else found[case.result], object)
    ct = np.random.default_rng(0).normal(size=node.shape)
    total = sum(float(c) * m for c, m in zip(ct.reshape(-1), meaning.reshape(-1), strict=True))
    point = {s: float(v) for i in floats for s, v in zip(symbols[i], case.arrays[i].reshape(-1), strict=True)}
    pulled = pull_back([node], [operands(node)[i] for i in floats], [constant(ct)])
    present = [g for g in pulled if g is not None]
    values, bounds = running_errors(present, dict(zip(operands(node), case.arrays, strict=True)))
    for i, g in zip(floats, pulled, strict=True):
        expected = [float(sympy.diff(total, s).xreplace(point)) for s in symbols[i]]
        found, bound = (values[g].reshape(-1), bounds[g].reshape(-1)) if g is not None else (0.0, 0.0)
        assert np.all(np.abs(found - np.array(expected)) <= 4 * bound + 1e-15)


@pytest.mark.parametrize("name", FLOATING)
def test_second_order(name):
    """The gradient of the op's own gradient, by all four methods."""
    for case in cases(OPS[name])[:2]:
        node = case.node()
        if not node.aval.is_float or not node.size:
            continue
        leaves = [a for a in operands(node) if a.aval.is_float]
        ct = constant(np.random.default_rng(1).uniform(0.5, 1.5, node.shape))
        pulled = [g for g in pull_back([node], leaves, [ct]) if g is not None and g.size]
        if not pulled:
            continue  # locally constant: there is no gradient to differentiate
        graph = Graph(operands(node), tuple(pulled))
        methods = ("symbolic", "forward", "reverse", "finite")[name in WITHOUT_DEFINITION :]
        report = check_graph(graph, case.arrays, methods)
        assert report.ok, str(report)


@pytest.mark.parametrize("name", FLOATING)
def test_float32_derivatives_stay_float32(name):
    for case in cases(OPS[name], np.float32):
        node = case.node()
        leaves = [a for a in operands(node) if a.aval.is_float]
        for pull in (pull_back, symbolic_pull_back) if name not in WITHOUT_DEFINITION else (pull_back,):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                pulled = pull([node], leaves, [constant(np.ones(node.shape, np.float32))])
            for g, x in zip(pulled, leaves, strict=True):
                assert g is None or (g.dtype, g.shape) == (x.dtype, x.shape)


@pytest.mark.parametrize("name", [n for n in ELEMENTWISE if operand_count(OPS[n]) == 2 and promotes(OPS[n])])
def test_broadcasting_is_numpys(name):
    op = OPS[name]
    (wide,), (narrow,) = cases(op, shape=(2, 1, 4)), cases(op, shape=(3, 1))
    a, b = wide.arrays[0], narrow.arrays[1]
    node = apply(op, leaf(Aval(a.shape, a.dtype)), leaf(Aval(b.shape, b.dtype)), **wide.attrs)
    expected = op.evaluate(a, b, **wide.attrs)
    assert node.shape == (2, 3, 4)
    values: dict[Node, Any] = dict(zip(_leaves(node), (a, b), strict=True))
    assert np.array_equal(interpret([node], values)[0], expected, equal_nan=expected.dtype.kind == "f")


def _leaves(node: Node) -> list[Node]:
    return [n for n in Graph((), (node,)).nodes if n.op.name == "input"]


@pytest.mark.parametrize("shape", [(0,), (2, 0), ()])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_empty_and_zero_dimensional_operands(name, shape):
    (case,) = cases(OPS[name], shape=shape)
    node = case.node()
    assert node.shape == shape
    leaves = [a for a in node.args if a.aval.is_float]
    if node.aval.is_float and OPS[name].differentiable:
        pulled = pull_back([node], leaves, [constant(np.ones(shape))])
        known: dict[Node, Any] = dict(zip(node.args, case.arrays, strict=True))
        for g in (g for g in pulled if g is not None):
            assert interpret([g], dict(known))[0].shape == shape


# -- singular points ---------------------------------------------------------------------------------------------------

INF = float("inf")
#: op -> (operands, expected ∂/∂operand at them); every op that declares a singular point has a row
SINGULAR: dict[str, list[tuple[Any, ...]]] = {
    "absolute": [((0.0,), (0.0,))],
    "sign": [((0.0,), (0.0,))],
    "relu": [((0.0,), (0.0,))],
    "maximum": [((1.0, 1.0), (0.5, 0.5))],
    "minimum": [((1.0, 1.0), (0.5, 0.5))],
    "floor_divide": [((4.0, 2.0), (0.0, 0.0))],
    "remainder": [((4.0, 2.0), (1.0, -2.0))],
    "copysign": [((0.0, 2.0), (0.0, 0.0)), ((-0.0, -0.0), (0.0, 0.0)), ((3.0, -0.0), (-1.0, 0.0))],
    "fmod": [((4.0, 2.0), (1.0, -2.0)), ((-4.0, 2.0), (1.0, 2.0))],
    "floor": [((2.0,), (0.0,))],
    "ceil": [((2.0,), (0.0,))],
    "trunc": [((2.0,), (0.0,))],
    "rint": [((0.5,), (0.0,))],
    "power": [((0.0, 0.0), (0.0, 0.0)), ((0.0, 2.0), (0.0, 0.0)), ((3.0, 0.0), (0.0, np.log(3.0)))],
    "xlogy": [((0.0, 2.0), (np.log(2.0), 0.0)), ((0.0, 0.0), (-INF, 0.0))],
    "strong_multiply": [((2.0, 0.0), (0.0, 2.0)), ((INF, 0.0), (0.0, INF))],
    "sqrt": [((0.0,), (INF,))],
    "cbrt": [((0.0,), (INF,))],
    "hypot": [((0.0, 0.0), (0.0, 0.0))],
    "arctan2": [((0.0, 0.0), (0.0, 0.0))],
    "direction_cosine": [((0.0, 0.0), (0.0, 0.0))],
    "circle_inversion": [((0.0, 0.0), (0.0, 0.0))],
    "where": [((True, 1.0, 2.0), (None, 1.0, 0.0)), ((False, 1.0, 2.0), (None, 0.0, 1.0))],
    "prod": [(([0.0, 2.0, 3.0],), ([6.0, 0.0, 0.0],)), (([0.0, 0.0, 3.0],), ([0.0, 0.0, 0.0],))],
    "cumprod": [(([0.0, 2.0, 3.0],), ([1 + 2 + 6.0, 0.0, 0.0],))],
    "strong_cumprod": [(([0.0, 2.0, 3.0],), ([1 + 2 + 6.0, 0.0, 0.0],))],
    "max": [(([2.0, 1.0, 2.0],), ([0.5, 0.0, 0.5],))],
    "min": [(([2.0, 1.0, 1.0],), ([0.0, 0.5, 0.5],))],
    "norm": [(([0.0, 0.0],), ([0.0, 0.0],))],
    "logsumexp": [(([-INF, -INF],), ([0.5, 0.5],)), (([INF, 1.0, INF],), ([0.5, 0.0, 0.5],))],
    "scatter": [
        (([1.0, 2.0], [1.0, 3.0], [0, 0]), "max", ([0.0, 1.0], [0.0, 1.0])),
        (([3.0, 2.0], [3.0, 3.0], [0, 0]), "max", ([1 / 3, 1.0], [1 / 3, 1 / 3])),
        (([3.0, 2.0], [5.0, 7.0], [0, 0]), "set", ([0.0, 1.0], [0.0, 1.0])),
    ],
}


def test_every_declared_singular_point_is_tested():
    """Here, or by the points that its record names, with the partials there (test_special_points.py)."""
    declared = {name for name in ALL if OPS[name].singular and OPS[name].kind is not Kind.WHOLE}  # test_linalg*.py
    assert {name for name in declared if not OPS[name].special} <= set(SINGULAR) <= declared


@pytest.mark.parametrize("name", sorted(SINGULAR))
def test_singular_points_are_what_the_record_declares(name):
    for point, *how, expected in SINGULAR[name]:
        arrays = tuple(np.asarray(v) for v in point)
        attrs: dict[str, Any] = {
            Kind.REDUCE: {"axes": (0,)},
            Kind.PREFIX: {"axis": 0, "reverse": False},
            Kind.SCATTER: {"axes": (0,), "how": "".join(how)},
        }.get(OPS[name].kind, {})
        node = Case(OPS[name], arrays, attrs).node()
        leaves = [a for a in node.args if a.aval.is_float]
        pulled = pull_back([node], leaves, [constant(np.ones(node.shape))])
        want = [e for e in expected if e is not None]
        known: dict[Node, Any] = dict(zip(node.args, arrays, strict=True))
        for g, w, x in zip(pulled, want, leaves, strict=True):
            found = np.zeros(x.shape) if g is None else interpret([g], dict(known))[0]
            np.testing.assert_array_equal(found, w)


# -- compiled = NumPy --------------------------------------------------------------------------------------------------

SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, INF, -INF, np.nan, 0.5, -2.5, 1e-3, 30.0, -30.0, 3e38, -3e38])
#: elementwise ops that are a few correctly rounded operations
BY_ARITHMETIC = {"remainder", "floor_divide", "lorentzian", "power_derivative"}


@pytest.mark.parametrize("name", sorted(ON_CPUS_ALONE))
def test_what_has_no_code_on_a_device_is_refused_by_name(name):
    case = cases(OPS[name])[0]
    with pytest.raises(gc.CompileError, match=r"(eigen|singular )(vectors|values) has no code on sm_80"):
        gc.compile(lambda *nodes: _whole(OPS[name].make(nodes, **case.attrs)), *case.arrays, target="sm_80").ptx


def _whole(node: Node) -> Any:
    return items(node) if has_results(node) else node


@pytest.mark.parametrize("name", [n for n in COMPUTED if n not in OF_ANY_SIGN])
def test_compiled_is_numpy(name):
    """All samples of an op in both dtypes, and IEEE's special values, in one module."""
    applied = [c for dtype in (np.float64, np.float32) for c in _compiled_cases(OPS[name], dtype)]
    nodes = [case.node() for case in applied]
    run = compiled(*nodes, inputs=[a for n in nodes for a in operands(n)])
    results = run(*[a for case in applied for a in case.arrays])
    assert run.status == 0
    for case, node, got in zip(applied, nodes, results, strict=True):
        _hold_against_numpy(case, node, got)


def _compiled_cases(op: Op, dtype: Any) -> list[Case]:
    found = cases(op, dtype)
    if op.kind is not Kind.ELEMENTWISE or op.name in LOGICAL | BITWISE | OPERANDS.keys():
        return found
    special = SPECIAL.astype(dtype)
    operands = tuple(x.ravel() for x in np.meshgrid(*[special] * operand_count(op)))
    plain = cases(op, dtype, shape=(37,))
    return [*found, *plain, Case(op, operands, found[0].attrs), *_shaped(op, dtype)]


def _shaped(op: Op, dtype: Any) -> list[Case]:
    return [case for shape in ((), (0,), (3, 1, 5)) for case in cases(op, dtype, shape)]


def _hold_against_numpy(case: Case, node: Node, got: Any) -> None:
    expected = case.value().astype(node.dtype)
    moves = case.op.kind in (Kind.VIEW, Kind.GATHER, *LEAVES)
    if moves or case.op.exact or case.op.ulp == CORRECT or node.dtype.kind != "f":
        assert same_bits(got, expected), (case, got, expected)
        return
    values, bounds = running_errors([node], dict(zip(operands(node), case.arrays, strict=True)))
    exact_value = values[node].astype(np.float64)
    with np.errstate(all="ignore"):
        inside = np.abs(np.asarray(got, np.float64) - exact_value) <= bounds[node] + _largest(case, node, exact_value)
        same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    assert np.all(inside | same), (case, got, expected)


def _largest(case: Case, node: Node, value: Any) -> Any:
    """Near overflow a correctly bounded result may round to infinity in one and to the largest number in the other."""
    top = float(np.finfo(node.dtype).max)
    near = np.abs(value) > top * (1 - 16 * float(np.finfo(node.dtype).eps))
    return np.where(near, INF, 0.0)


def test_every_transcendental_op_states_its_bound():
    named = {n for n in FLOATING if OPS[n].kind is Kind.ELEMENTWISE and not OPS[n].exact}
    assert {n for n in named - BY_ARITHMETIC if OPS[n].ulp is None} == set()
