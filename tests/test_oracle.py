"""The oracle finds what is planted and is silent about what is right.

For every op in turn one facet of its record is made wrong (partials, transpose, JVP, SymPy meaning, index formula,
batching rule; by day a sample of the lowerings), and rewrites, tile edges and buffer lifetimes of the compiler: the
report must name the op and the user's line.  A zoo of correct programs, with kinks, masks, overflow and float32: clean.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import gradc as gc
import gradc.codegen.gemm.blocks as gemm_blocks
import gradc.schedule.memory as schedule_memory
from gradc.errors import DTypeError
from gradc.graph import Graph
from gradc.node import OPS
from gradc.ops.elementwise import apply
from gradc.ops.record import Kind
from gradc.oracle import check, check_gradients, rounding, rounding_bodies, rounding_loops
from gradc.oracle.check import METHODS, check_graph, default_compiler
from gradc.oracle.compare import Verdict
from gradc.oracle.lines import Lines
from gradc.oracle.rounding import running_errors
from gradc.oracle.witness import subject_of
from gradc.passes import LOWERING, PIPELINE, run_passes
from gradc.passes.simplify import RULES as SIMPLIFY
from gradc.passes.stabilise import RULES as STABILISE
from gradc.trace import trace
from tests.op_cases import cases, each, moves, operands
from tests.test_ops import COMPUTED, ELEMENTWISE, FLOATING

INTERPRETED = ("symbolic", "forward", "reverse", "finite")
R = np.random.default_rng(0)


@contextmanager
def planted(name, **facets):
    """The record of op ``name`` with other facets, for a while; Nodes hold the record, so it is changed in place."""
    op = OPS[name]
    held = {key: getattr(op, key) for key in facets}
    try:
        for key, wrong in facets.items():
            object.__setattr__(op, key, wrong)
        yield
    finally:
        for key, right in held.items():
            object.__setattr__(op, key, right)


def one_op(name):
    """A graph of one application of the op, at its first sample that has elements to tell apart."""
    case = next(c for c in cases(OPS[name]) if (c.node().size > 1 or c.arrays[0].size > 1) and moves(c.node()))
    node = case.node()
    return Graph(operands(node), (node,)), case.arrays


def must_name(report, name, stage, *facets, line=True):
    found = report.first_wrong
    assert not report.ok
    assert found is not None, str(report)
    assert (found.op, found.stage) == (name, stage), str(report)
    assert not facets or found.facet in facets, str(report)
    assert not line or (found.where is not None and Path(found.where.file).parent == Path(__file__).parent)
    assert found.op in str(report)


# -- rules -------------------------------------------------------------------------------------------------------------

WITH_PARTIALS = [n for n in FLOATING if OPS[n].partials is not None]
WITH_JVP = [n for n in FLOATING if OPS[n].jvp is not None]
#: the transpose of `where` is written in reverse mode itself, where it keeps the mask; the record's is never called.
#: That of an op with partials is called where another op's rule applies it to a tangent: see the test of it
WITH_TRANSPOSE = [n for n in FLOATING if OPS[n].transpose is not None and OPS[n].partials is None and n != "where"]
WITH_SOURCE = [n for n in COMPUTED if OPS[n].source is not None]
WITH_SYMPY = [n for n in FLOATING if OPS[n].sympy is not None]


@pytest.mark.parametrize("name", WITH_PARTIALS)
def test_a_wrong_partial_is_named(name):
    right = OPS[name].partials

    def wrong(y, *xs, **attrs):
        first, *rest = right(y, *xs, **attrs)
        return (1.0 if first is None else first * 1.25, *rest)

    with planted(name, partials=wrong):
        must_name(check_graph(*one_op(name), INTERPRETED), name, "rule", "partials")


@pytest.mark.parametrize("name", WITH_JVP)
def test_a_wrong_jvp_is_named(name):
    right = OPS[name].jvp

    def wrong(node, tangents):
        return each(right(node, tangents), lambda t: t * 1.5)

    with planted(name, jvp=wrong):
        must_name(check_graph(*one_op(name), INTERPRETED), name, "rule", "jvp")


def test_a_wrong_transpose_beside_partials_is_seen_where_a_rule_divides_its_tangent():
    right = OPS["divide"].transpose
    with planted("divide", transpose=lambda ct, node, i: right(ct, node, i) * 1.5):
        assert not check_graph(*one_op("max"), INTERPRETED).ok


@pytest.mark.parametrize("name", WITH_TRANSPOSE)
def test_a_wrong_transpose_is_named(name):
    right = OPS[name].transpose
    with planted(name, transpose=lambda ct, node, i: right(ct, node, i) * 1.5):
        must_name(check_graph(*one_op(name), INTERPRETED), name, "rule", "transpose")


def test_a_transpose_that_a_jvp_uses_is_named_not_its_user():
    right = OPS["sum"].transpose
    with planted("sum", transpose=lambda ct, node, i: right(ct, node, i) * 1.5):
        found = check_graph(*one_op("norm"), INTERPRETED).first_wrong
    assert found is not None
    assert (found.op, found.facet) == ("sum", "transpose")
    assert "rule of norm" in found.words


@pytest.mark.parametrize("name", WITH_SYMPY)
def test_a_wrong_sympy_meaning_is_named(name):
    right, elementwise = OPS[name].sympy, OPS[name].kind is Kind.ELEMENTWISE

    def wrong(S, *xs, **attrs):
        value = right(S, *xs, **attrs)
        return value + xs[-1] / 3 if elementwise else each(value, lambda x: x * 2)

    with planted(name, sympy=wrong):
        must_name(check_graph(*one_op(name), INTERPRETED), name, "rule", "SymPy meaning")


@pytest.mark.parametrize("name", WITH_SOURCE)
def test_a_wrong_index_formula_is_named(name):
    right = OPS[name].source

    def wrong(index, *avals, **attrs):
        pieces = right(index, *avals, **attrs)
        return [replace(p, index=(avals[p.arg].shape[0] - 1 - p.index[0], *p.index[1:])) for p in pieces]

    with planted(name, source=wrong):
        must_name(check_graph(*one_op(name), INTERPRETED), name, "rule", "index formula", "SymPy meaning")


@pytest.mark.parametrize("name", [n for n in FLOATING if OPS[n].batch is not None])
def test_a_wrong_batching_rule_is_named(name):
    right = OPS[name].batch
    with planted(name, batch=lambda node, args, batched, size: right(node, args, batched, size) + 1):
        must_name(check_graph(*one_op(name), ("forward", "reverse")), name, "rule", "batching rule")


def test_a_rule_that_is_not_linear_is_named():
    with planted("prod", jvp=lambda node, tangents: np.sum(tangents[0] * tangents[0])):
        must_name(check_graph(*one_op("prod"), INTERPRETED), "prod", "rule")


def test_the_wrong_one_of_many_ops_is_found():
    def model(x, w):
        h = np.tanh(x @ w)
        z = np.cumprod(h, axis=1) + np.exp(h[:, ::-1])
        return np.sum(z * z)

    x, w = R.normal(size=(3, 4)), R.normal(size=(4, 4))
    assert check_gradients(model, x, w, methods=INTERPRETED).ok
    with planted("exp", partials=lambda y, x: (y * 1.001,)):
        report = check_gradients(model, x, w, methods=INTERPRETED)
    must_name(report, "exp", "rule", "partials")
    assert report.first_wrong.where.function == "model"
    assert report.first_wrong.where.line == model.__code__.co_firstlineno + 2


def test_a_wrong_chain_rule_is_told_from_a_wrong_rule(monkeypatch):
    """Every rule is right, but reverse mode forgets one of two paths."""
    monkeypatch.setattr("gradc.diff.modes.accumulate", lambda parts: parts[0])
    report = check_gradients(lambda x: np.exp(np.sin(x) * np.cos(x)), np.ones(3), methods=INTERPRETED)
    must_name(report, "multiply", "mode", "chain rule")


# -- rewrites ----------------------------------------------------------------------------------------------------------


def of_cosine(node):
    """f(x, …) became f(cos x, …)."""
    x, *rest = node.args
    return None if x.op.name == "cos" else node.rebuilt((np.cos(x), *rest))


def on_x(f):
    return f, R.uniform(0.3, 1.5, (3, 4))


REWRITES = {
    ("simplify", "multiply"): on_x(lambda x: np.sum(np.sin(x) * x)),
    ("simplify", "add"): on_x(lambda x: np.sum(np.sin(x) + x * x)),
    ("simplify", "divide"): on_x(lambda x: np.sum(np.sin(x) / (x + 2))),
    ("simplify", "negative"): on_x(lambda x: np.sum(np.exp(-x))),
    ("simplify", "power"): on_x(lambda x: np.sum(x**2.7)),
    ("simplify", "where"): on_x(lambda x: np.sum(np.where(x > 1, np.sin(x), x))),
    ("simplify", "transpose"): on_x(lambda x: np.sum(np.sin(x).T[:2] ** 3)),
    ("simplify", "reshape"): on_x(lambda x: np.sum(np.sin(x).reshape(2, 6)[1] * 3)),
    ("simplify", "contract"): on_x(lambda x: np.sum(np.sin(x) @ x.T)),
    ("simplify", "sum"): on_x(lambda x: np.sum(np.sin(x), axis=0)),
    ("stabilise", "log"): on_x(lambda x: np.sum(np.log(np.sin(x)))),
    ("stabilise", "sqrt"): on_x(lambda x: np.sum(np.sqrt(np.sin(x)))),
    ("stabilise", "subtract"): on_x(lambda x: np.sum(np.sin(x) - x * x)),
}
WRONG = {
    "where": lambda node: node.args[1],
    **dict.fromkeys(("contract", "transpose", "reshape", "sum"), of_cosine),
    "negative": lambda node: node.args[0],
    "power": lambda node: np.exp(node.args[0]),
    "log": lambda node: np.exp(node.args[0]),
    "sqrt": lambda node: np.exp(node.args[0]),
}


@pytest.mark.parametrize(("which", "name"), REWRITES)
def test_a_wrong_rewrite_is_named(which, name, monkeypatch):
    f, x = REWRITES[which, name]
    rules = {"simplify": SIMPLIFY, "stabilise": STABILISE}[which]
    wrong = WRONG.get(name, lambda node: np.hypot(*node.args))
    monkeypatch.setitem(rules, name, (wrong,))
    must_name(check_gradients(f, x, methods=("reverse", "compiled")), name, "pass", which)


def test_a_wrong_cse_is_named(monkeypatch):
    """Constants that are merged although their values differ."""
    monkeypatch.setattr(sys.modules["gradc.passes.cse"], "value_key", lambda value: "any")
    f = lambda x: np.sum(np.sin(x * 2.0) + np.cos(x * 3.0))
    report = check_gradients(f, np.ones(3), methods=("reverse", "compiled"))
    found = report.first_wrong
    assert found is not None
    assert (found.stage, found.facet) == ("pass", "cse")


# -- compiled code -----------------------------------------------------------------------------------------------------

LOWERED = [(n, one_op(n)[0]) for n in ELEMENTWISE if OPS[n].expand is None]
WITH_LOWERING = [n for n, g in LOWERED if all(any(x.aval.is_float for x in xs) for xs in (g.inputs, g.outputs))]
#: gone before lowering: the identity, in three spellings
VANISH = {"positive", "cast", "settled"}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", sorted(set(WITH_LOWERING) - VANISH))
def test_a_wrong_lowering_is_named(name):
    (graph, arrays), right = one_op(name), OPS[name].lower
    with planted(name, lower=lambda b, *xs, **attrs: b.add(right(b, *xs, **attrs), 0.125)):
        report = check_graph(graph, arrays, ("reverse", "compiled"))
    must_name(report, name, "kernel", "lowering")


def test_the_ops_that_vanish_do():
    for name in VANISH:
        lowered = run_passes(one_op(name)[0], (*PIPELINE, *LOWERING))
        assert name not in {n.op.name for n in lowered.nodes}


def network(x, a, b):
    return np.sum(np.tanh(np.tanh(x @ a) @ b) ** 2)


NETWORK = (R.normal(size=(37, 29)), R.normal(size=(29, 45)) / 5, R.normal(size=(45, 13)) / 5)


def test_a_wrong_tile_edge_is_named(monkeypatch):
    live = gemm_blocks.Region.live.fget
    monkeypatch.setattr(gemm_blocks.Region, "live", property(lambda self: max(1, live(self) - 1)))
    report = check_gradients(network, *NETWORK, methods=("reverse", "compiled"))
    must_name(report, "contract", "kernel")


def test_buffers_reused_too_early_are_named(monkeypatch, unverified):
    right = schedule_memory._lifetimes

    def wrong(kernels, buffers):
        first, _ = right(kernels, buffers)
        return first, dict(first)

    monkeypatch.setattr(schedule_memory, "_lifetimes", wrong)
    report = check_gradients(network, *NETWORK, methods=("reverse", "compiled"))
    assert not report.ok
    assert report.first_wrong is not None, str(report)
    assert (report.first_wrong.stage, report.first_wrong.facet) == ("plan", "memory plan")


def test_a_compiler_that_was_handed_in_is_cut_short():
    def broken(graph):
        run = default_compiler()(graph)
        spoiled = any(n.op.name == "tanh" for n in graph.nodes)
        return lambda arrays: [np.asarray(y) * (1.5 if spoiled else 1.0) for y in run(arrays)]

    report = check_gradients(lambda x: np.sum(np.sin(np.tanh(x))), np.ones(3), methods=METHODS, compiled=broken)
    must_name(report, "tanh", "kernel")


def test_an_op_that_cannot_be_compiled_is_named():
    with planted("tanh", lower=None):
        report = check_gradients(network, *NETWORK, methods=("reverse", "compiled"))
    must_name(report, "tanh", "kernel")


# -- correct programs --------------------------------------------------------------------------------------------------


def f4(*shape):
    return R.normal(size=shape).astype(np.float32)


def mlp(w1, b1, w2, x):
    h = np.maximum(x @ w1 + b1, 0)
    z = h @ w2
    p = np.exp(z) / np.sum(np.exp(z), axis=1, keepdims=True)
    return -np.mean(np.log(p[:, 0]))


def attention(q, k, v):
    s = q @ k.T / np.sqrt(4.0)
    return np.sum((np.exp(s) / np.sum(np.exp(s), axis=-1, keepdims=True)) @ v)


def lstm_cell(x, w):
    g = x @ w
    i, f, o = (1 / (1 + np.exp(-g[:, k : k + 3])) for k in (0, 3, 6))
    return np.sum(o * np.tanh(f * x[:, :3] + i * np.tanh(g[:, 9:12])))


def layer_norm(x, gain):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * gain


def two_layers(x, w):
    return np.mean(np.maximum(np.maximum(x @ w, 0) @ w.T, 0))


X, P = R.normal(size=(4, 3)), R.uniform(0.2, 2.0, (4, 3))
ZOO = {
    "sine times x": (lambda x: np.sin(x) * x, X),
    "relu at its kink": (lambda x: np.maximum(x, 0.0), np.array([1.0, 0.0, -1.0, 1e-9])),
    "absolute value near zero": (lambda x: np.abs(x) ** 1.5 + np.abs(x), np.array([1e-5, -1e-7, 2.0])),
    "ties": (lambda x: np.max(x) + np.maximum(x, 1.0), np.array([1.0, 2.0, 2.0])),
    "masked root": (lambda x: np.where(x > 0, np.sqrt(x), 0), X),
    "masked logarithm": (lambda x: np.where(x > 0, np.log(np.where(x > 0, x, 1)), -1.0), X),
    "root of relu": (lambda x: np.sqrt(np.maximum(x, 0)), X),
    "float32 mlp": (mlp, f4(6, 8), f4(8), f4(8, 4), f4(10, 6)),
    "float64 mlp": (mlp, *(a.astype(float) for a in (f4(6, 8), f4(8), f4(8, 4), f4(10, 6)))),
    "overflowing softmax": (lambda x: -np.log(np.exp(x) / np.sum(np.exp(x)))[0], np.array([1.0, 1000.0, 3.0])),
    "logsumexp": (lambda x: np.logaddexp(x[0], x[1]) + np.log(np.sum(np.exp(x), axis=1))[:3], X),
    "gather and scatter": (lambda x: x.at[np.array([0, 0, 2])].add(np.sin(x[[1, 2, 3]])) ** 2, X),
    "scatter set": (lambda x: x.at[np.array([1, 1])].set(x[:2] * 3), X),
    "scatter max": (lambda x: x.at[np.array([1, 1])].max(x[:2] * 3), X),
    "cumprod with a zero": (lambda x: np.cumprod(x), np.array([2.0, 0.0, 3.0, -1.0])),
    "product with zeros": (lambda x: np.prod(x, axis=0), np.array([[0.0, 2.0], [0.0, 3.0], [4.0, 5.0]])),
    "norm at zero": (lambda x: np.linalg.norm(x) + np.sum(x), np.zeros(3)),
    "attention": (attention, f4(5, 4), f4(6, 4), f4(6, 3)),
    "gates": (lstm_cell, f4(4, 5), f4(5, 12)),
    "layer norm": (layer_norm, X, X[0]),
    "triangular system": (lambda x: np.tril(x @ x.T) @ np.triu(x @ x.T), P),
    "convolution": (lambda x, w: np.stack([x[k : k + 4] for k in range(3)], -1) @ w, P[:, 0].repeat(2), P[0]),
    "sorting": (lambda x: np.sort(x, axis=0)[::2] * np.array([1.0, 2.0, 3.0]), X),
    "powers": (lambda x: x**2.5 + x**x + 2.0**x - x**-2.0, P),
    "rounding": (lambda x: np.floor(x * 3) * x + np.sign(x) + x % 0.7, X),
    "float32 statistics": (lambda x: (x - np.mean(x)) / np.std(x), f4(5, 4)),
    "mixed dtypes": (lambda x, n: np.sum(x.astype(np.float64) ** 2) * n + np.sum(x), f4(3), np.arange(3)),
    "cancellation": (lambda x: (1 - np.cos(x)) / x**2, np.array([1e-4, 1e-2, 1.0])),
    "black-scholes": (lambda s, v: s * np.exp(-v) * (1 + np.tanh((np.log(s) + v**2 / 2) / v)) / 2, P[0], P[1]),
    "far out": (lambda x: np.logaddexp(x, 0) + 1 / (1 + np.exp(-x)), np.array([800.0, -800.0, 1.0])),
    "float32 overflow": (lambda x: np.sum(np.exp(x)), np.array([100.0, 1.0], np.float32)),
    "many kinks": (two_layers, R.normal(size=(205, 10)), R.normal(size=(10, 4))),
    "empty": (lambda x: np.sum(x * x) + 1.0, np.zeros((0, 3))),
    "a scalar": (lambda x: np.exp(np.sin(x)), 0.5),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::gradc.errors.PromotionWarning")  # attention divides by a float64
@pytest.mark.parametrize("name", ZOO)
def test_correct_programs_never_cry_wolf(name):
    f, *args = ZOO[name]
    report = check_gradients(f, *args)
    assert report.ok, str(report)
    assert report.first_wrong is None


# -- what the report says ----------------------------------------------------------------------------------------------


def test_the_table_names_kinks():
    report = check_gradients(*ZOO["relu at its kink"], methods=("reverse", "finite"))
    assert report.rows[0].verdict is Verdict.KINK
    assert "kink within the difference step at 1 of 4; the rest agree" in str(report)


def test_a_lone_kink_is_a_kink():
    report = check_gradients(np.abs, 0.0, methods=("reverse", "finite"))
    assert [row.verdict for row in report.rows] == [Verdict.KINK]


def test_one_method_that_is_not_finite_is_not_passed_over():
    """A mask that reverse mode loses: 0·∞ where the function is flat."""
    right = OPS["sqrt"].partials
    with planted("sqrt", partials=lambda y, x: (np.where(x > 100, np.nan, right(y, x)[0]),)):
        report = check_gradients(lambda x: np.sum(np.sqrt(x)), np.array([1.0, 400.0]), methods=INTERPRETED)
    must_name(report, "sqrt", "rule", "partials")
    assert "NOT FINITE" in str(report)


def test_an_overflowing_point_is_not_comparable_and_not_passed():
    report = check_gradients(*ZOO["overflowing softmax"])
    of_compiled = [row for row in report.rows if "compiled" in row.pair and row.name != "= all results"]
    assert {row.verdict for row in of_compiled} == {Verdict.UNSURE}
    assert not any(row.absolute > 0.5 for row in report.rows if row.verdict is Verdict.AGREE)


MASK, ROWS = np.array([True, False, True]), np.array([[0.3, 1.0], [np.nan, np.nan], [0.4, 2.0]])


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sum(gc.nn.softmax(np.where(MASK, x, -np.inf)) ** 2),
        lambda x: gc.special.logsumexp(np.where(MASK, x, -np.inf)),
        lambda x: np.sum(np.where(MASK, gc.special.logsumexp(ROWS * x[:2], axis=1), 0.0)),
        lambda x: np.sum(np.exp(-2.0 * np.where(MASK, x, np.inf)) + x),
    ],
    ids=["softmax of -inf", "logsumexp of -inf", "a row of NaN", "a product with inf"],
)
def test_what_is_masked_leaves_every_comparison_its_bound(f):
    """An infinity that goes through is not rounded, and 0 times anything is exactly 0 where the product is strong."""
    report = check_gradients(f, np.array([0.3, -1.0, 0.5]), methods=INTERPRETED)
    assert {row.verdict for row in report.rows} <= {Verdict.EQUAL, Verdict.AGREE}, str(report)


def test_an_overflow_of_finite_numbers_has_no_bound():
    """Another order of the same sum need not overflow."""
    graph = gc.trace(lambda x: x + x, np.array([1.5e308]))
    _, bounds = running_errors(graph.outputs, {graph.inputs[0]: np.array([1.5e308])})
    assert bounds[graph.outputs[0]] == np.inf


def test_large_inputs_are_sampled_and_the_table_says_so():
    report = check_gradients(lambda x, w: np.sum(np.tanh(x @ w)), R.normal(size=(60, 50)), R.normal(size=(50, 4)))
    assert report.ok, str(report)
    assert "3200 input elements" in str(report)
    assert "8 random directions and 16 sampled elements" in str(report)
    assert "agree (24 probes)" in str(report)


def test_a_wrong_rule_is_found_in_a_large_model():
    with planted("tanh", partials=lambda y, x: (1 - y * y * 0.99,)):
        report = check_gradients(
            lambda x, w: np.sum(np.tanh(x @ w)), R.normal(size=(60, 50)), R.normal(size=(50, 4)), methods=INTERPRETED
        )
    must_name(report, "tanh", "rule", "partials")


def test_the_report_reads_well():
    report = check_gradients(lambda weight: np.sum(weight**2), np.arange(3.0), methods=("forward", "reverse"))
    lines = str(report).splitlines()
    assert lines[0] == "gradients of f: forward, reverse"
    assert lines[2].split() == ["input", "methods", "max", "|Δ|", "max", "|Δ|/|g|", "ulp", "verdict"]
    assert lines[4].split() == ["weight:", "float64[3]", "forward", "–", "reverse", "0", "0", "0", "✓", "equal"]
    assert len({len(line) for line in lines[2:4]}) == 1
    assert lines[-1] == "ok: 1 of 1 comparisons agree within error bounds"
    assert bool(report) is True


def test_what_cannot_be_checked_is_an_error():
    with pytest.raises(DTypeError, match="nothing to differentiate"):
        check_gradients(lambda n: n * 2, np.arange(3))
    with pytest.raises(ValueError, match="expected some of symbolic"):
        check_gradients(np.sin, 1.0, methods=("magic",))


def test_apply_is_the_only_way_in():
    """The plants above change records in place because Nodes hold them: the op of a new Node is the one in OPS."""
    graph, _ = one_op("tanh")
    assert graph.outputs[0].op is OPS["tanh"]
    assert apply(OPS["tanh"], graph.inputs[0]).op is OPS["tanh"]


# -- honest ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (np.sin, 1e6),
        (lambda x: 1 / x, 1e-6),
        (lambda x: np.tanh(x / 1e-6), 1e-6),
        (np.cbrt, 1e-6),
        (lambda x: np.cos(x * x), 1e3),
        (lambda x: np.exp(-x / 1e-8), 1e-8),
        (lambda x: np.log(x - 1e6), 1e6 + 1e-3),
    ],
)
def test_a_function_of_another_scale_than_its_argument_is_right(f, x):
    report = check_gradients(lambda a: f(a).sum(), np.array([x, 1.37 * x, max(x, 1.0) * 1.1]), methods=INTERPRETED)
    assert report.ok, str(report)
    assert {row.verdict for row in report.rows} <= {Verdict.AGREE, Verdict.EQUAL}, str(report)


def test_nothing_compared_is_not_ok_and_says_so():
    report = check_gradients(lambda x: (np.log(x) / 0.0).sum(), np.array([-1.0, 4.0]))
    assert not report.ok
    assert report.compared == 0
    assert "NOTHING COMPARED" in str(report)
    alone = check_gradients(lambda x: np.sum(np.sin(x)), np.ones(2), methods=("reverse",))
    assert not alone.ok
    assert "give two" in str(alone)


def test_part_of_an_input_compared_is_ok_and_says_what_was_not():
    report = check_gradients(lambda x: np.where(x < 0, np.nan, x**2).sum() - 0 * np.log(x).sum(), np.array([-1.0, 4.0]))
    assert report.compared < len(report.rows) or "not" in str(report)


@pytest.mark.parametrize(
    ("f", "args"),
    [
        (lambda x, y: np.arctan2(x, y).sum(), (np.array([0.0, 1.0]), np.array([0.0, 2.0]))),
        (lambda x, y: np.hypot(x, y).sum(), (np.array([0.0, 1.0]), np.array([0.0, 2.0]))),
        (lambda x, y: np.maximum(x, y).sum(), (np.array([1.0, 1.0]), np.array([1.0, 2.0]))),
        (lambda x, y: (abs(x) + np.sign(y)).sum(), (np.array([0.0, 1.0]), np.array([0.0, 2.0]))),
        (lambda x, y: np.linalg.norm(x, axis=1).sum() + y.sum(), (np.array([[0.0, 0.0], [3.0, 4.0]]), np.ones(2))),
        (lambda x, y: np.max(x * y), (np.array([2.0, 1.0]), np.array([1.0, 2.0]))),
    ],
)
def test_documented_singular_points_are_no_faults(f, args):
    report = check_gradients(f, *args)
    assert report.ok, str(report)
    assert not report.findings


@pytest.mark.parametrize(
    "wrap",
    [
        lambda f, x: f(x),
        lambda f, x: gc.checkpoint(f)(x),
        lambda f, x: gc.scan(lambda c, _: (f(c), None), x, None, length=3)[0],
        lambda f, x: gc.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, f(s[1])), (0, x), max_steps=4)[1],
        lambda f, x: gc.cond(np.sum(x) > 0, f, np.sin, x),
        lambda f, x: gc.vmap(f)(x),
    ],
)
def test_what_is_held_in_a_body_is_held_for_differences_too(wrap):
    f = lambda x: x * gc.stop_gradient(np.sin(x)) + 0.1
    report = check_gradients(lambda x: np.sum(wrap(f, x)), np.array([0.7, 1.1]), methods=("forward", "finite"))
    assert report.ok, str(report)


def test_methods_that_are_not_asked_for_do_no_work(monkeypatch):
    """Neither SymPy, nor the compiler, nor the passes are touched by two methods that need none of them."""

    def unwanted(*args, **kwargs):
        raise AssertionError("this method was not asked for")

    for place in ("check.pass_findings", "blame.meaning_faults", "estimates.compiled", "estimates.finite"):
        monkeypatch.setattr(f"gradc.oracle.{place}", unwanted)
    assert check_gradients(lambda x: np.sum(np.exp(x) * x), np.ones(3), methods=("forward", "reverse")).ok


def test_a_loop_is_run_a_fixed_number_of_times_whatever_its_length(monkeypatch):
    """Its price is that of some gradients: every direction and every step of a quotient is a lane of one run."""
    runs = []

    def counted(f):
        return lambda *args, **attrs: runs.append(1) or f(*args, **attrs)

    def chain(c, xs):
        return gc.scan(lambda c, x: (np.tanh(c * x + 0.1), c), c, xs)[0]

    monkeypatch.setattr(rounding_bodies, "_loop", counted(rounding_bodies._loop))
    counts = []
    with planted("loop", numpy=counted(OPS["loop"].numpy)):
        for length in (4, 40):
            runs.clear()
            assert check_gradients(chain, 0.4, np.linspace(0.1, 0.9, length), methods=INTERPRETED[1:]).ok
            counts.append(len(runs))
    assert abs(counts[0] - counts[1]) <= 8  # a quotient may need a few steps more
    assert max(counts) < 64


# -- the structured Jacobian and Hessian -------------------------------------------------------------------------------


def logistic(w):
    return np.sum(np.logaddexp(0.0, X @ w))


def test_the_structured_jacobian_and_hessian_are_derivations_of_their_own():
    report = check_gradients(logistic, np.array([0.3, -0.2, 0.5]))
    assert report.ok, str(report)
    pairs = [row.pair for row in report.rows]
    assert {("reverse", "jacobian"), ("jacobian", "compiled"), ("forward", "hessian")} <= set(pairs)
    assert "left out" not in str(report)


@pytest.mark.parametrize("which", ["gradient", "curvature"])
def test_a_wrong_structured_derivative_is_noticed(which, monkeypatch):
    """Every rule and mode is right; what is written out by structure is not."""
    right, asked = check.by_jacobian, []

    def wrong(subject):
        asked.append(1)
        found = right(subject)
        spoiled = len(asked) == (1 if which == "gradient" else 2)
        return replace(found, slopes=tuple(replace(s, value=1.5 * s.value) for s in found.slopes)) if spoiled else found

    monkeypatch.setattr(check, "by_jacobian", wrong)
    report = check_gradients(logistic, np.array([0.3, -0.2, 0.5]))
    assert not report.ok
    wrong_pairs = {row.pair for row in report.rows if not row.ok}
    assert all({"jacobian", "hessian"} & set(pair) for pair in wrong_pairs)
    assert (("forward", "hessian") in wrong_pairs) == (which == "curvature")


def test_a_jacobian_that_loops_or_size_make_dense_is_left_out_and_the_report_says_so():
    looped = check_gradients(lambda c: gc.scan(lambda c, _: (np.sin(c), None), c, None, length=3)[0], np.ones(2))
    assert looped.ok, str(looped)
    assert "jacobian left out: a loop" in str(looped)
    large = check_gradients(lambda x: np.sin(x), np.ones(300), methods=("reverse", "jacobian", "forward"))
    assert large.ok
    assert "jacobian left out: the Jacobian has 90000 entries" in str(large)


# -- bounds of loops ---------------------------------------------------------------------------------------------------


def mixed_chain(c, xs):
    return gc.scan(lambda c, x: (np.tanh(c * x + 0.1 * c[::-1]), c[0] * x), c, xs, reverse=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bounds_of_all_steps_at_once_hold_and_are_near_those_of_one_after_another(dtype, monkeypatch):
    """Nodes whose bound is worked out: as many for 80 steps as for 10."""
    worked_out, right = [], rounding._bound
    monkeypatch.setattr(rounding, "_bound", lambda *args: worked_out.append(1) or right(*args))
    counts = []
    for length in (10, 80):
        args = np.array([0.4, -0.3], dtype), np.linspace(0.2, 0.9, length, dtype=dtype)
        subject = subject_of(trace(mixed_chain, *args), args)
        graph = subject.gradient_graph("reverse")
        worked_out.clear()
        values, bounds = rounding.running_errors(graph.outputs, subject.values)
        counts.append(len(worked_out))
        with monkeypatch.context() as stepwise:
            stepwise.setattr(rounding_bodies, "begun", lambda *args: None)
            same, one_by_one = rounding.running_errors(graph.outputs, subject.values)
        assert len(worked_out) > 3 * counts[-1] or length < 80
        for y in graph.outputs:
            np.testing.assert_array_equal(values[y], same[y])
            assert np.all(bounds[y] >= one_by_one[y])
            assert np.all(bounds[y] <= 4 * one_by_one[y])
    assert counts[0] == counts[1]


def test_steps_whose_guessed_bounds_do_not_hold_are_taken_one_after_another(monkeypatch):
    args = np.array([0.4, -0.3]), np.linspace(0.2, 0.9, 12)
    subject = subject_of(trace(mixed_chain, *args), args)
    right = rounding_loops._Steps.guess

    def low(self):
        guessed = right(self)
        guessed[5:] /= 8
        return guessed

    monkeypatch.setattr(rounding_loops._Steps, "guess", low)
    values, bounds = rounding.running_errors(subject.graph.outputs, subject.values)
    monkeypatch.setattr(rounding_bodies, "begun", lambda *args: None)
    same, one_by_one = rounding.running_errors(subject.graph.outputs, subject.values)
    for y in subject.graph.outputs:
        np.testing.assert_array_equal(values[y], same[y])
        assert np.all(bounds[y] >= one_by_one[y])


def test_a_loop_that_carries_nothing_is_checked():
    """A map over rows has no errors that go from step to step."""
    f = lambda x: gc.scan(lambda c, r: (None, np.sin(r) * r), None, x)[1].sum()
    report = gc.check_gradients(f, np.linspace(0.1, 2.0, 12))
    assert report.ok and "raised" not in str(report), str(report)


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_inputs_without_elements_are_checked(shape: tuple[int, ...]) -> None:
    """Alone, and beside inputs that move."""
    for f in (lambda x, y: x, lambda x, y: np.sum(x) + y, lambda x, y: (x * y, y)):
        assert gc.check_gradients(f, np.zeros(shape), np.float64(2.0)).ok
    assert gc.check_gradients(lambda x: x * 2, np.zeros(shape)).ok
    subject = subject_of(gc.trace(lambda x: x * 2, np.zeros(shape)), [np.zeros(shape)])
    (quotient,) = Lines(subject, subject.wanted).differences([{0: np.zeros(shape)}])
    assert float(quotient.value) == 0
