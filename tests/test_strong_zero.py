"""Zero is zero: what a guard leaves out has derivative 0, whatever stands between it and a singular point.

Every elementwise op of the registry is put at its singular points (found by evaluating it and its derivatives), in rows
that a guard leaves out, with every structural op in between.  The derivatives of all orders are those of the same
program at an ordinary point, with zeros in the guarded rows: the same arithmetic on the same numbers, so to a rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp
from gradc.node import OPS, constant
from gradc.ops.elementwise import apply
from gradc.ops.ranges import UNKNOWN, Hazard, Zeros, range_of
from gradc.ops.record import Kind
from tests.op_cases import cases, operand_count

Array = np.ndarray[Any, Any]
Program = Callable[[Any], Any]

#: what stands between: rows stay rows, of any number of columns
BETWEEN: dict[str, Program] = {
    "nothing": lambda u: u,
    "sum": lambda u: u.sum(axis=1, keepdims=True),
    "mean": lambda u: np.mean(u, axis=1, keepdims=True),
    "max": lambda u: np.max(u, axis=1, keepdims=True),
    "prod": lambda u: np.prod(u, axis=1, keepdims=True),
    "column": lambda u: u[:, :1],
    "reversed": lambda u: u[:, ::-1] * 2.0,
    "taken": lambda u: gnp.take(u, np.array([1, 0, 1]), axis=1),
    "sorted": lambda u: np.sort(u, axis=1),
    "stacked": lambda u: np.stack([u, 3.0 * u], axis=1).reshape(len(u), -1),
    "concatenated": lambda u: np.concatenate([u, u[:, :1]], axis=1),
    "padded": lambda u: np.pad(u, ((0, 0), (1, 1))),
    "transposed": lambda u: np.transpose(2.0 * u.T),
    "running sum": lambda u: np.cumsum(u, axis=1),
    "running product": lambda u: np.cumprod(u, axis=1),
    "matrix": lambda u: u @ np.array([[1.0, 0.0, 2.0], [0.5, 3.0, -1.0]]),
    "outer": lambda u: np.einsum("ij,k->ijk", u, np.array([0.0, 2.0])).reshape(len(u), -1),
    "clipped": lambda u: np.clip(u, -50.0, 50.0),
    "narrow": lambda u: u.astype(np.float32).astype(np.float64),
    "where": lambda u: np.where(u > 0.3, u, 2.0 * u),
    "where of where": lambda u: np.where(u > 0.3, np.where(u < 0.6, u, 4.0 * u), 2.0 * u),
    "scan": lambda u: gc.scan(lambda c, row: (c + row, c * 0.5 + row), 0.0 * u[:, 0], u.T)[1].T,
    "vmap of cond": lambda u: gc.vmap(lambda r: gc.cond(r[0] > 0.4, lambda r: 2.0 * r, lambda r: r, r))(u),
    "checkpoint": gc.checkpoint(lambda u: np.sin(u) * 0.5),
    "scattered": lambda u: np.concatenate([u, u[:, :1] * 0.5], axis=1).at[:, np.array([2, 0])].add(u),
}
#: what leaves the first ``n`` rows out
GUARDS: dict[str, Callable[[Any, int], Any]] = {
    "where": lambda v, n: np.where(np.arange(len(v))[:, None] >= n, v, 0.0),
    "slice": lambda v, n: v[n:],
    "index": lambda v, n: gnp.take(v, np.arange(n, v.shape[0]), axis=0),
    "other branch": lambda v, n: np.where(np.arange(len(v))[:, None] < n, -1.0, v),
}
CANDIDATES = (0.0, -1.0, 1.0, -2.0, 1e4, -1e4)


def singular_points(name: str) -> list[float]:
    """Where the op, its first or its second derivative is not finite."""
    f, at = as_function(name), np.array(CANDIDATES)
    slope = gc.grad(lambda x: np.sum(f(x)))
    with np.errstate(all="ignore"):
        every = [f(at), slope(at), gc.grad(lambda x: np.sum(slope(x)))(at)]
    return [c for c, *values in zip(CANDIDATES, *every, strict=True) if not np.all(np.isfinite(values))]


def as_function(name: str) -> Program:
    """The op as a function of its first operand, other operands at ordinary points."""
    op = OPS[name]
    case = cases(op)[0]
    domains = [op.domain[min(i, len(op.domain) - 1)] for i in range(1, operand_count(op))]
    rest = [low + (high - low) / 4 for low, high in domains]

    def f(x: Any) -> Any:
        return apply(op, gnp.asarray(x), *[np.float64(r) for r in rest], **case.attrs)

    return lambda x: f(x) if hasattr(x, "aval") else gc.trace(f, gc.spec(np.shape(x))).evaluate(np.asarray(x))[0]


def is_real(name: str) -> bool:
    op = OPS[name]
    if op.kind is not Kind.ELEMENTWISE or op.partials is None or not cases(op)[0].node().aval.is_float:
        return False
    return all(a.dtype.kind == "f" for a in cases(op)[0].arrays)


SINGULAR = {n: points for n in sorted(OPS) if is_real(n) and (points := singular_points(n))}


def guarded(name: str, between: str, guard: str) -> tuple[Program, Array, Array, int]:
    """The program, a singular point of it, an ordinary one, and how many rows the guard leaves out."""
    points, op = SINGULAR[name], as_function(name)
    n = len(points)
    (low, high), *_ = OPS[name].domain
    fine = low + (high - low) * np.random.default_rng(len(name)).uniform(0.3, 0.7, size=(n + 2, 2))
    at = fine.copy()
    at[:n] = np.array(points)[:, None]
    return lambda x: np.sum(np.sin(GUARDS[guard](BETWEEN[between](op(x)), n))), at, fine, n


def orders(f: Program, count: int) -> list[Program]:
    """The derivatives along a fixed direction after the first: reverse, forward over reverse, reverse again."""
    first = gc.grad(f)
    second = lambda x: gc.jvp(first, (x,), (direction(x),))[1]
    third = gc.grad(lambda x: np.sum(second(x) * direction(x)))
    return [first, lambda x: gc.jvp(f, (x,), (direction(x),))[1], second, third][:count]


def direction(x: Any) -> Array:
    return np.linspace(0.5, 1.5, x.size).reshape(x.shape)


def hold(name: str, between: str, guard: str, count: int, jit: bool = False) -> None:
    f, at, fine, n = guarded(name, between, guard)
    for k, derivative in enumerate(orders(f, count)):
        run = gc.jit(derivative) if jit else derivative
        with np.errstate(all="ignore"):
            got, expected = np.asarray(run(at)), np.array(run(fine))
        if k == 1:  # a sum over all directions: those of guarded rows add nothing
            still = np.where(np.arange(len(at))[:, None] >= n, direction(at), 0.0)
            expected = np.asarray(gc.jvp(f, (fine,), (still,))[1])
        else:
            expected[:n] = 0
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12, err_msg=f"{name}, {between}, {guard}, {k}")


PAIRS = [
    (name, between, tuple(GUARDS)[(i + j) % len(GUARDS)])
    for i, name in enumerate(SINGULAR)
    for j, between in enumerate(BETWEEN)
]
POLES = ("sqrt", "log", "exp")


def test_the_registry_has_singular_points():
    assert {"sqrt", "log", "reciprocal", "power", "exp", "arcsin", "cbrt", "lgamma"} <= set(SINGULAR)
    assert 0.0 in SINGULAR["sqrt"]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("name", "between", "guard"), [p for k, p in enumerate(PAIRS) if k % 9 == 0])
def test_guarded_rows_have_no_derivative(name, between, guard):
    hold(name, between, guard, 3)


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "between", "guard"), PAIRS)
def test_guarded_rows_have_no_derivative_of_third_order_either(name, between, guard):
    hold(name, between, guard, 4)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("between", BETWEEN)
def test_third_derivatives_beside_a_root(between):
    hold("sqrt", between, "where", 4)


@pytest.mark.parametrize("between", ["sum", "matrix", "sorted", "scan", "running product"])
def test_compiled(between):
    hold("log", between, "where", 3, jit=True)


@pytest.mark.parametrize("name", ["sqrt", "log", "arcsin", "reciprocal"])
def test_an_op_that_says_nothing_of_its_values_is_safe(monkeypatch, name):
    monkeypatch.setitem(OPS, name, dataclasses.replace(OPS[name], range=None))
    f, at, *_ = guarded(name, "nothing", "where")
    assert {range_of(n) for n in gc.trace(f, at).nodes if n.op.name == name} == {UNKNOWN}
    for between in ("sum", "matrix"):
        hold(name, between, "where", 3)


# -- what is not guarded comes out -------------------------------------------------------------------------------------


def test_live_poles_come_out():
    with np.errstate(all="ignore"):
        for derived in (gc.grad, lambda f: gc.jit(gc.grad(f))):
            assert np.array_equal(derived(lambda x: np.sum(np.log(x)))(np.array([0.0, 2.0])), [np.inf, 0.5])
            assert np.isnan(derived(lambda x: np.sum(np.sqrt(x)))(np.array([-1.0, 4.0]))[0])
            assert np.isnan(derived(lambda x: np.sum(np.where(x < 2, np.sqrt(x), 0.0)))(np.array([-1.0, 4.0]))[0])
            data = np.array([np.nan, 1.0])
            assert np.isnan(derived(lambda w, data=data: np.sum(w * data))(np.array([2.0, 3.0]))[0])


def test_missing_data_is_kept_out_by_a_mask():
    """Rows of NaN that are not selected, through a sum and through a matrix product."""
    x = np.array([[np.nan, 1.0], [2.0, 3.0]])
    mask, w = np.array([False, True]), np.ones((2, 2))
    summed = lambda w: np.sum(np.where(mask, np.sum(x * w[0], axis=1), 0.0))
    contracted = lambda w: np.sum(np.where(mask[:, None], x @ w, 0.0))
    for derived in (gc.grad, lambda f: gc.jit(gc.grad(f))):
        assert np.array_equal(derived(summed)(w), [[2.0, 3.0], [0.0, 0.0]])
        assert np.array_equal(derived(contracted)(w), [[2.0, 2.0], [3.0, 3.0]])


def test_a_zero_tangent_stays_zero_in_a_matrix_product():
    e, x = np.array([[0.0, 1.0]]), np.array([0.0, 4.0])
    f = lambda x: np.sum(e @ np.sqrt(x))
    with np.errstate(all="ignore"):
        for mode in ("reverse", "forward"):
            assert np.array_equal(gc.grad(f, method=mode)(x), [0.0, 0.25])
            assert np.array_equal(gc.jacobian(f, mode=mode)(x), [0.0, 0.25])
        assert np.array_equal(gc.hessian(f)(x), [[0.0, 0.0], [0.0, -1 / 32]])


def test_products_of_many_that_overflow():
    x = np.array([[1e13, 0, 0], [1e13, 1e13, 0], [1e13, 1e13, 1e13]], np.float32)
    y = np.array([1e200, 1e200, 0.0, 0.0])
    with np.errstate(all="ignore"):
        assert np.array_equal(gc.grad(np.prod)(x), np.zeros((3, 3)))
        assert np.array_equal(gc.jit(gc.grad(np.prod))(x), np.zeros((3, 3)))
        assert gc.jvp(np.prod, (y,), (np.ones(4),))[1] == 0
        assert np.array_equal(gc.hessian(np.prod)(np.array([0.0, 0.0, 3.0])), [[0, 3, 0], [3, 0, 0], [0, 0, 0]])


SOFTMAX: dict[str, Program] = {
    "softmax": lambda s: np.sum(gc.nn.softmax(s, -1) * np.array([1.0, 2.0]), axis=-1),
    "log_softmax": lambda s: np.sum(gc.nn.log_softmax(s, -1) * np.array([0.3, 0.6]), axis=-1),
    "logsumexp": lambda s: gnp.logsumexp(s, -1),
}


@pytest.mark.parametrize("name", SOFTMAX)
@pytest.mark.parametrize("shown", [False, True], ids=["after", "before"])
def test_rows_without_a_finite_logit_are_left_out(name, shown):
    """A row of −∞ has no softmax: a guard leaves out the whole row, before or after its elements are summed."""
    keep, alone = np.array([True, False]), np.array([[0.1, 0.2]])
    both = np.concatenate([alone, np.full((1, 2), -np.inf)])

    def left_out(s: Any) -> Any:
        if shown and name != "logsumexp":
            inside = getattr(gc.nn, name)(s, -1) * np.array([1.0, 2.0])
            return np.sum(np.sum(np.where(keep[:, None], inside, 0.0), axis=-1) ** 2)
        return np.sum(np.where(keep, SOFTMAX[name](s), 0.0) ** 2)

    def kept(s: Any) -> Any:
        if shown and name != "logsumexp":
            return np.sum(np.sum(getattr(gc.nn, name)(s, -1) * np.array([1.0, 2.0]), axis=-1) ** 2)
        return np.sum(SOFTMAX[name](s) ** 2)

    with np.errstate(all="ignore"):
        for derive in (gc.grad, lambda f: gc.grad(f, method="forward"), lambda f: gc.jit(gc.grad(f))):
            got = derive(left_out)(both)
            np.testing.assert_allclose(got[:1], gc.grad(kept)(alone), rtol=1e-12, atol=1e-14)
            assert np.array_equal(got[1], [0.0, 0.0])
        second = np.asarray(gc.hessian(left_out)(both))
        np.testing.assert_allclose(second[:1, :, :1], gc.hessian(kept)(alone), rtol=1e-12, atol=1e-14)
        assert not np.any(second[1]) and not np.any(second[:, :, 1])


@pytest.mark.parametrize("known", [True, False], ids=["mask known", "mask given"])
def test_queries_that_see_no_key_are_left_out(known):
    """Through the matrix product that follows the softmax: a mask may leave nothing of a row."""
    keep, mask = np.array([True, False]), np.array([[True, True], [False, False]])
    q = np.array([[0.3, -0.4], [0.7, 0.2]])

    def f(q: Any, mask: Any, keep: Any = keep) -> Any:
        found = gc.nn.scaled_dot_product_attention(q, q, q, attn_mask=mask)
        return np.sum(np.where(keep[:, None], found, 0.0) ** 2)

    g = (lambda q, m: f(q, mask)) if known else f
    every = np.ones((2, 2), bool)  # the query that is left out changes nothing, whatever it sees
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(gc.grad(g)(q, mask), gc.grad(f)(q, every), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(gc.hessian(g)(q, mask), gc.hessian(f)(q, every), rtol=1e-12, atol=1e-14)


def test_a_sum_within_what_a_guard_leaves_out_is_left_out_by_it():
    """Along the axes over which the mask is shown; over the others it blurs the guard."""
    keep = np.array([True, False])

    def zeros(axis: int) -> Zeros:
        (y,) = gc.trace(lambda x: np.sum(np.where(keep[:, None], x, 0.0) * x, axis=axis), np.ones((2, 3))).outputs
        return range_of(y).zeros

    assert [zeros(1), zeros(0)] == [Zeros.GUARDED, Zeros.MASKED]


# -- plain products stay plain -----------------------------------------------------------------------------------------


def strong(f: Program, *args: Any) -> list[str]:
    graph = gc.trace(gc.grad(f, argnums=tuple(range(len(args)))), *args)
    return [n.op.name for n in graph.nodes if n.op.name.startswith("strong")]


def test_ordinary_models_have_plain_products():
    x, w, v = np.ones((4, 3)), np.ones((3, 3)), np.ones((3, 2))
    labels = np.array([0, 1, 1, 0])
    causal = np.tril(np.ones((4, 4), bool))
    assert strong(lambda w, v: gc.nn.cross_entropy(gc.nn.relu(x @ w) @ v, labels), w, v) == []
    assert strong(lambda w, v: np.mean((np.maximum(np.tanh(x @ w), 0.0) @ v) ** 2), w, v) == []
    assert strong(lambda w: np.sum(gc.nn.layer_norm(x @ w, (3,)) ** 2), w) == []
    attention = lambda w: np.sum(gc.nn.softmax(np.where(causal, (x @ w) @ x.T, -np.inf), axis=1) @ x)
    assert strong(attention, w) == []


def test_an_exponential_of_what_is_never_positive_is_never_infinite():
    (bell,) = gc.trace(lambda x: np.exp(-np.square(1 / x)), np.ones(3)).outputs
    assert range_of(bell).hazard is Hazard.NAN and range_of(bell).hi == 1
    assert strong(lambda x: np.sum(np.exp(-np.square(x / 3)) ** 2), np.ones(3)) == []


def test_what_is_known_of_values_is_true():
    """A value lies in its range, and is finite and not 0 where that is said, for operands anywhere in the domains."""
    for name in sorted(OPS):
        op = OPS[name]
        if op.kind is Kind.ELEMENTWISE and op.range is not None and is_real(name):
            for case in cases(op):
                node = apply(op, *[constant(a) for a in case.arrays], **case.attrs)
                known, value = range_of(node), np.asarray(node.op.evaluate(*case.arrays, **case.attrs))
                slack = 1e-12 * np.abs(value)
                assert np.all((value >= known.lo - slack) & (value <= known.hi + slack) | np.isnan(value)), name
                assert known.hazard >= Hazard.GROWTH or np.all(np.isfinite(value)) or known.hazard is Hazard.NAN, name
                assert known.zeros is not Zeros.NEVER or np.all(value != 0), name


@pytest.mark.parametrize("read", [
    lambda u: u[np.array([1, 2, 1])],
    lambda u: np.concatenate([u[1:], u[2:]]),
    lambda u: np.stack([u[1:], u[1:][::-1]]),
    lambda u: np.stack([u[1], u[2], u[1] + u[2]]),
], ids=["repeated index", "overlapping slices", "reversed slices", "elements"])  # fmt: skip
@pytest.mark.parametrize("f", [np.log, np.sqrt, np.reciprocal], ids=["log", "sqrt", "reciprocal"])
def test_what_is_read_twice_does_not_make_up_for_what_is_not_read(f, read):
    """As many elements as the operand has are read, but not the singular one."""
    x = np.array([0.0, 3.0, 2.0])
    for derive in (gc.grad, lambda g: gc.grad(g, method="forward")):
        got = derive(lambda x: np.sum(read(f(x))))(x)
        want = derive(lambda x: np.sum(read(f(x))))(np.array([1.0, 3.0, 2.0]))
        np.testing.assert_array_equal(got, [0.0, *want[1:]])


@pytest.mark.parametrize("starts, sizes, zeros", [
    ((0, 1), (2, 2), Zeros.POSSIBLE), ((0, 0), (2, 2), Zeros.GUARDED), ((0, 1), (1, 2), Zeros.NEVER),
], ids=["overlapping", "a gap", "side by side"])  # fmt: skip
def test_parts_side_by_side_leave_no_zeros(starts, sizes, zeros):
    """Sums of what is never 0 may be, and a place that no part fills is."""
    parts = tuple(constant(np.full(n, v)) for n, v in zip(sizes, (1.0, -1.0), strict=True))
    node = OPS["superpose"].make(parts, shape=(3,), starts=tuple((a,) for a in starts), steps=((1,), (1,)))
    assert range_of(node).zeros is zeros


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.nansum(x**3),
        lambda x: np.where(np.isnan(x), 0.0, x**3).sum(),
        lambda x: np.where(x != x, 0.0, x * x * x).sum(),
    ],
)
def test_a_mask_that_stands_alone_in_a_hessian_is_a_guard(f):
    """1[mask]·1 + 1[mask]·2 times a slope: none of the factors is the selected value itself."""
    x = np.array([2.0, np.nan])
    for hessian in (gc.hessian(f), gc.jit(gc.hessian(f))):
        np.testing.assert_array_equal(hessian(x), [[12.0, 0.0], [0.0, 0.0]])
