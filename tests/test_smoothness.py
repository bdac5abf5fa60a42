"""Where a function is smooth, its derivatives are right: at the points where an implementation branches, too.

Each case is a function and a point at which some formula of it has a branch (a tie, a zero, an infinity, the end of a
dtype's range), with the derivatives that the mathematics gives there, or that the record of the op declares.
"""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import mpmath
import numpy as np
import pytest
import scipy.special
import sympy

import gradc as gc
import gradc.numpy as gnp
from gradc import nn, special
from gradc.aval import Aval, finfo
from gradc.diff.modes import pull_back, push_forward
from gradc.node import OPS
from gradc.ops.elementwise import apply
from gradc.ops.record import Kind, Op, register
from tests.op_cases import leaf

INF = np.inf
LOG2 = float(np.log(2))


def first(f: Any, x: Any) -> list[Any]:
    """The gradient in reverse and in forward mode, interpreted and compiled."""
    by_columns = gc.jacobian(f, mode="forward")
    return [gc.grad(f)(x), by_columns(x), gc.jit(gc.grad(f))(x), gc.jit(by_columns)(x)]


def second(f: Any, x: Any) -> list[Any]:
    """The Hessian by every composition of modes, interpreted, and compiled once."""
    modes = ("forward", "reverse")
    nested = [gc.jacobian(gc.jacobian(f, mode=a), mode=b) for a in modes for b in modes]
    return [h(x) for h in (gc.hessian(f), *nested, gc.jit(gc.hessian(f)))]


def hold(found: list[Any], expected: Any, rtol: float = 1e-12) -> None:
    for value in found:
        np.testing.assert_allclose(np.asarray(value, np.float64), expected, rtol=rtol, atol=0)


# -- guards do not cut the next derivative -----------------------------------------------------------------------------

LOGISTIC = np.array([[0.25, -0.25], [-0.25, 0.25]])
SECOND: dict[str, tuple[Any, Any, Any]] = {
    "logaddexp at a tie": (lambda v: np.logaddexp(v[0], v[1]), [1.0, 1.0], LOGISTIC),
    "logaddexp2 at a tie": (lambda v: np.logaddexp2(v[0], v[1]), [1.0, 1.0], LOG2 * LOGISTIC),
    "logaddexp with 0 at 0": (lambda v: np.logaddexp(0.0, v[0] - 2 * v[1]), [0.0, 0.0], [[0.25, -0.5], [-0.5, 1.0]]),
    "logsumexp at a tie": (gnp.logsumexp, [3.0, 3.0], LOGISTIC),
    "power at exponent 0": (lambda v: v[0] ** v[1], [2.0, 0.0], [[0.0, 0.5], [0.5, LOG2**2]]),
    "power at exponent 1": (lambda v: v[0] ** v[1], [2.0, 1.0], [[0.0, 1 + LOG2], [1 + LOG2, 2 * LOG2**2]]),
    "power of 0 to 2": (lambda v: v[0] ** v[1], [0.0, 2.0], [[2.0, 0.0], [0.0, 0.0]]),
    "power of 0 to 1": (lambda v: v[0] ** v[1], [0.0, 1.0], [[0.0, -INF], [-INF, 0.0]]),
    "power of 0 to 1/2": (lambda v: v[0] ** v[1], [0.0, 0.5], [[-INF, -INF], [-INF, 0.0]]),
    "power of a negative number": (lambda v: v[0] ** 3 * v[1], [-2.0, 1.0], [[-12.0, 12.0], [12.0, 0.0]]),
    "xlogy at x = 0": (lambda v: special.xlogy(v[0], v[1]), [0.0, 2.0], [[0.0, 0.5], [0.5, 0.0]]),
}


@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives_where_a_partial_branches(name):
    f, point, expected = SECOND[name]
    hold(second(f, np.array(point)), expected)


def test_logistic_regression_in_terms_of_logaddexp_has_a_hessian_at_0():
    x = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.0]])
    hold(second(lambda w: np.logaddexp(0, x @ w).sum(), np.zeros(2)), x.T @ x / 4)


FIRST: dict[str, tuple[Any, Any, Any]] = {
    "xlogy in x at 0": (lambda x: special.xlogy(x, 2.0), 0.0, LOG2),
    "xlogy at 0, 0": (lambda x: special.xlogy(x, 0.0), 0.0, -INF),
    "xlogy in y at x = 0": (lambda y: special.xlogy(0.0, y), 3.0, 0.0),
    "entr at 0": (special.entr, 0.0, INF),
    "entr": (special.entr, 2.0, -LOG2 - 1),
    "logaddexp at equal infinities": (lambda x: np.logaddexp(x, -INF), -INF, 0.5),
    "logsumexp of minus infinities": (lambda x: gnp.logsumexp(np.stack([x, x - 1, 2 * x])), -INF, 4 / 3),
    "logsumexp of one minus infinity": (lambda x: gnp.logsumexp(np.stack([x, 0 * LOG2])), -INF, 0.0),
    "logsumexp of plus infinity": (lambda x: gnp.logsumexp(np.stack([x, 1.0])), INF, 1.0),
    "x**0 at 0": (lambda x: x**0.0, 0.0, 0.0),
}


@pytest.mark.parametrize("name", FIRST)
def test_first_derivatives_at_zeros_and_infinities(name):
    f, point, expected = FIRST[name]
    hold(first(f, np.float64(point)), expected)


def test_divergence_of_a_target_of_zero():
    target = np.array([0.0, 1.0])
    slope = gc.grad(lambda t: nn.kl_div(np.log(np.array([0.5, 0.5])), t, reduction="sum"))
    np.testing.assert_allclose(slope(target), [-INF, 1 + LOG2])


@pytest.mark.parametrize("x", [-1.0, -0.0, 0.0, 0.5, INF, -INF, np.nan])
@pytest.mark.parametrize("y", [-1.0, 0.0, 2.0, INF, np.nan])
def test_values_are_scipys(x, y):
    with np.errstate(all="ignore"):
        for f, reference, args in (
            (special.xlogy, scipy.special.xlogy, (x, y)), (special.entr, scipy.special.entr, (x,)),
        ):  # fmt: skip
            np.testing.assert_allclose(f(*args), reference(*args), rtol=1e-15)
            np.testing.assert_allclose(gc.jit(f)(*args), reference(*args), rtol=1e-15)


# -- norms and their kin at 0 -----------------------------------------------------------------------------------------

AT_ZERO: dict[str, Any] = {
    **{f"norm of order {p}": lambda x, p=p: np.linalg.norm(x, ord=p) for p in (1, 1.5, 2, 3, 4, INF)},
    "Frobenius norm": lambda x: np.linalg.norm(x.reshape(2, 2)),
    "maximal row sum": lambda x: np.linalg.norm(x.reshape(2, 2), ord=INF),
    "hypot": lambda x: np.hypot(x[0], x[1]) + np.hypot(x[2], x[3]),
    "absolute": lambda x: np.abs(x).sum(),
    "standard deviation": lambda x: np.std(x),
    "unbiased standard deviation": lambda x: np.std(x, ddof=1),
    "arctan2": lambda x: np.arctan2(x[0], x[1]),
}


@pytest.mark.parametrize("name", AT_ZERO)
def test_the_derivative_of_a_distance_at_0_is_0(name):
    hold(first(AT_ZERO[name], np.zeros(4)), np.zeros(4))


@pytest.mark.parametrize("name", ["norm of order 2", "norm of order 3", "hypot", "absolute", "standard deviation"])
def test_so_are_second_derivatives(name):
    hold(second(AT_ZERO[name], np.zeros(4)), np.zeros((4, 4)))


def test_one_vector_of_zeros_among_others():
    x = np.array([[0.0, 0.0], [3.0, 4.0]])
    for axis, expected in ((1, [[0, 0], [0.6, 0.8]]), (0, [[0, 0], [1, 1]])):
        hold(first(lambda x, axis=axis: np.linalg.norm(x, axis=axis).sum(), x), expected)


# -- large offsets and the ends of a dtype -----------------------------------------------------------------------------


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 3])
def test_softmax_does_not_see_a_common_offset(dtype, rows):
    offset = dtype({np.float16: 1024, np.float32: 2**20, np.float64: 2**50}[dtype])
    x = np.tile(np.array([0, 1, 3, 1], dtype), (rows, 1))
    target = np.arange(rows) % 4
    for f in (
        lambda x: nn.softmax(x, -1), lambda x: nn.log_softmax(x, -1), lambda x: nn.cross_entropy(x, target),
        lambda x: special.softmax(x, 1), lambda x: special.log_softmax(x, 1), gc.vmap(nn.softmax),
        lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True), lambda x: x - gnp.logsumexp(x, axis=-1, keepdims=True),
        lambda x: nn.softmin(-x, -1), lambda x: nn.cross_entropy(x, target, label_smoothing=0.25),
        lambda x: nn.cross_entropy(x, nn.softmax(x, -1)),
    ):  # fmt: skip
        compiled, slope = gc.jit(f), gc.jit(gc.grad(lambda x, f=f: np.sum(f(x) * f(x))))
        np.testing.assert_array_equal(compiled(x + offset), compiled(x))
        np.testing.assert_array_equal(slope(x + offset), slope(x))
    for f in (nn.softmax, nn.log_softmax, special.log_softmax):
        np.testing.assert_array_equal(f(x + offset), f(x))


def test_attention_does_not_see_a_common_offset():
    q, v = np.ones((1, 1, 1), np.float32), np.eye(2, dtype=np.float32)[None]
    for size in (1.0, 1e8):
        k = np.full((1, 2, 1), size, np.float32)
        for f in (nn.scaled_dot_product_attention, gc.jit(nn.scaled_dot_product_attention)):
            np.testing.assert_array_equal(f(q, k, v), [[[0.5, 0.5]]])


@pytest.mark.parametrize("masked", ["added", "handed in", "selected", "added to scores of the user's"])
def test_a_row_of_attention_without_keys_poisons_no_other_row(masked):
    q, k, v = (np.random.default_rng(i).normal(size=(1, 3, 2)) for i in range(3))
    seen = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1]], bool)
    mask: Any = seen if masked == "selected" else np.where(seen, 0.5, -INF)

    def attention(q: Any, k: Any, v: Any, mask: Any) -> Any:
        if masked == "added to scores of the user's":
            return nn.softmax(q @ np.swapaxes(k, -1, -2) * 2**-0.5 + mask) @ v
        return nn.scaled_dot_product_attention(q, k, v, mask)

    def loss(q: Any, k: Any, v: Any, m: Any = mask) -> Any:
        return (attention(q, k, v, m)[:, ::2] ** 2).sum()

    empty = attention(q, k, v, mask)[0, 1]
    assert np.isnan(empty).all() if masked == "added to scores of the user's" else not empty.any()
    wanted = gc.grad(lambda q, k, v: (attention(q[:, ::2], k, v, mask[::2]) ** 2).sum(), argnums=(0, 1, 2))(q, k, v)
    given = (q, k, v, mask) if masked == "handed in" else (q, k, v)
    slopes = gc.grad(loss, argnums=(0, 1, 2))
    for found in (slopes(*given), gc.jit(slopes)(*given), gc.grad(loss, argnums=(0, 1, 2), method="forward")(*given)):
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "x", [[-INF, -INF], [-INF, 1.0], [np.nan, 1.0], [2.0], [INF, 1.0, 0.0], [INF, INF, 0.0], [INF, -INF], [INF, np.nan]]
)
def test_softmax_of_infinities_is_scipys(x):
    x = np.array(x)
    with np.errstate(all="ignore"):
        for f, reference in (
            (special.softmax, scipy.special.softmax), (special.log_softmax, scipy.special.log_softmax),
            (gnp.logsumexp, scipy.special.logsumexp),
        ):  # fmt: skip
            np.testing.assert_allclose(f(x), reference(x), rtol=1e-15)
            np.testing.assert_allclose(gc.jit(f)(x), reference(x), rtol=1e-15)
        for written in (lambda x: x - gnp.logsumexp(x), lambda x: np.exp(x) / np.exp(x).sum(keepdims=True)):
            if INF in x or len(x) == 1:  # else the stable form is a better one
                np.testing.assert_allclose(gc.jit(written)(x), written(x), rtol=1e-15)


@pytest.mark.parametrize("scale", [1e-44, 2e-38, 1e-25, 1.0, 1e25, 3e37])
def test_norms_of_numbers_whose_squares_leave_the_dtype(scale):
    for dtype, power in ((np.float32, 1), (np.float64, 8 if scale > 1 else 7)):
        x = (np.array([[3, 4, 0], [0, 0, 0], [1, 1, 1]]) * np.longdouble(scale) ** power).astype(dtype)
        size = np.abs(x).max().astype(np.longdouble) or 1
        exact = np.linalg.norm(x / size, axis=1) * size
        for f in (lambda x: gnp.linalg.norm(x, axis=1), gc.jit(lambda x: np.linalg.norm(x, axis=1))):
            unit = np.spacing(exact.astype(dtype))
            assert np.all(np.abs(f(x) - exact) <= 2 * unit)
        if size > np.finfo(dtype).tiny:
            slope = np.asarray(x / np.where(exact == 0, 1, exact)[:, None], np.float64)
            for found in first(lambda x: np.linalg.norm(x, axis=1).sum(), x):
                np.testing.assert_allclose(found, slope, rtol=8 * np.finfo(dtype).eps)


def test_ties_are_counted_in_a_wider_dtype():
    x = np.ones(70000, np.float16)
    for f in (np.max, np.min, lambda x: np.max(x.reshape(7, 10000))):
        for slope in (gc.grad(f)(x), gc.jit(gc.grad(f))(x)):
            assert np.all(slope == np.float16(1 / 70000))


def test_norms_of_integers_are_computed_in_float64():
    x = np.full((300, 300), 255, np.uint8)
    for f in (np.linalg.norm, gnp.linalg.norm, gc.jit(np.linalg.norm), gc.trace(np.linalg.norm, x).evaluate):
        value = np.asarray(f(x)).reshape(())
        assert (value.dtype, float(value)) == (np.float64, 76500.0)


# -- "no rule" and "constant" ------------------------------------------------------------------------------------------


def test_an_op_says_what_its_derivative_is():
    facets: dict[str, Any] = {"kind": Kind.ELEMENTWISE, "infer": lambda x: x, "numpy": lambda x: x}
    with pytest.raises(
        ValueError, match=r"'mute' of kind elementwise is half defined; .*constant=True; batch: .*; lower: "
    ):
        register(Op(name="mute", **facets))
    assert "mute" not in OPS
    x = leaf(Aval((2,), np.dtype(np.float64)))
    silent, constant = (Op(name="silent", constant=c, **facets).make((x,)) for c in (False, True))
    with pytest.raises(gc.TraceError, match="silent has no derivative rule"):
        pull_back([silent * 2.0], [x], [x])
    with pytest.raises(gc.TraceError, match="silent has no derivative rule"):
        push_forward([silent * 2.0], [x], [x])
    assert pull_back([constant * 2.0], [x], [x]) == [None]
    assert push_forward([constant * 2.0], [x], [x]) == [None]


# -- kinks inside smooth functions -------------------------------------------------------------------------------------

#: a function of two numbers that is smooth at 0, and the Taylor polynomial of its third order there, as f(x, y)
KINKS: dict[str, tuple[Any, Any]] = {
    "norm**2": (lambda x: np.linalg.norm(x) ** 2, lambda x, y: x * x + y * y),
    "norm·norm": (lambda x: np.linalg.norm(x) * np.linalg.norm(x), lambda x, y: x * x + y * y),
    "norm·x·norm": (lambda x: np.linalg.norm(x) * x[0] * np.linalg.norm(x), lambda x, y: x**3 + x * y * y),
    "norm**4": (lambda x: np.linalg.norm(x) ** 4, lambda x, y: 0),
    "norm**6 + x": (lambda x: np.linalg.norm(x) ** 6 + x[1], lambda x, y: y),
    "hypot**2": (lambda x: np.hypot(x[0], 2 * x[1]) ** 2, lambda x, y: x * x + 4 * y * y),
    "|x|**2": (lambda x: (np.abs(x) ** 2).sum(), lambda x, y: x * x + y * y),
    "|x|·|x|": (lambda x: (np.abs(x) * np.abs(x)).sum(), lambda x, y: x * x + y * y),
    "|−x²|": (lambda x: np.abs(-(x**2)).sum(), lambda x, y: x * x + y * y),
    "|eˣ|": (lambda x: np.abs(np.exp(x[0])), lambda x, y: x + x * x / 2 + x**3 / 6),
    "max(x, −x)²": (lambda x: np.maximum(x[0], -x[0]) ** 2, lambda x, y: x * x),
    "√s·√s": (lambda x: np.sqrt(x @ x) * np.sqrt(x @ x), lambda x, y: x * x + y * y),
    "√(x⁴)": (lambda x: np.sqrt(x[0] ** 4), lambda x, y: x * x),
    "cos norm": (lambda x: np.cos(np.linalg.norm(x)), lambda x, y: -(x * x + y * y) / 2),
    "cos 3·norm": (lambda x: np.cos(3 * np.linalg.norm(x)), lambda x, y: -9 * (x * x + y * y) / 2),
    "cosh hypot": (lambda x: np.cosh(np.hypot(x[0], x[1])), lambda x, y: (x * x + y * y) / 2),
    "cos |x|": (lambda x: np.cos(np.abs(x[0])), lambda x, y: -x * x / 2),
    "cos of kept axes": (
        lambda x: np.cos(np.linalg.norm(x.reshape(1, 2), axis=1, keepdims=True)).sum(),
        lambda x, y: -(x * x + y * y) / 2,
    ),
    "exp(−norm²)": (lambda x: np.exp(-(np.linalg.norm(x) ** 2)), lambda x, y: -(x * x + y * y)),
    "exp(−n·n/2)": (
        lambda x: np.exp(-np.linalg.norm(x) * np.linalg.norm(x) / 2), lambda x, y: -(x * x + y * y) / 2
    ),
    "norm·sin norm": (lambda x: np.linalg.norm(x) * np.sin(np.linalg.norm(x)), lambda x, y: x * x + y * y),
    "|x|·|x|³": (lambda x: np.abs(x[0]) * np.abs(x[0]) ** 3, lambda x, y: 0),
    "|x|·sin |x|": (lambda x: (np.sin(np.abs(x)) * np.abs(x)).sum(), lambda x, y: x * x + y * y),
    "tanh |x|·arctan 2|x|": (lambda x: np.tanh(np.abs(x[0])) * np.arctan(2 * np.abs(x[0])), lambda x, y: 2 * x * x),
    "|x|·y/(1 + …)·−sinh |x|": (
        lambda x: np.abs(x[0]) * x[1] / (1 + x[1] ** 2) * -np.sinh(np.abs(x[0])), lambda x, y: -x * x * y
    ),
    "(sin |x|)²": (lambda x: (np.sin(np.abs(x)) ** 2).sum(), lambda x, y: x * x + y * y),
    "cos sin |x|": (lambda x: np.cos(np.sin(np.abs(x[0]))), lambda x, y: -x * x / 2),
    "|x|·|y|·|y|·|x|": (
        lambda x: np.abs(x[0]) * np.abs(x[1]) * (np.abs(x[1]) * np.abs(x[0])) + x[1], lambda x, y: y
    ),
    "|x| against |x| reversed": (
        lambda x: (np.abs(x) * np.abs(x[::-1]) * np.abs(x[::-1]) * np.abs(x)).sum(), lambda x, y: 0
    ),
    "|x| in a view": (
        lambda x: (np.abs(x)[None] * np.tanh(np.abs(x))[None]).sum(), lambda x, y: x * x + y * y
    ),
    "std²": (lambda x: np.std(x) ** 2, lambda x, y: (x - y) ** 2 / 4),
    "√(1 + norm²)": (lambda x: np.sqrt(1 + np.linalg.norm(x) ** 2), lambda x, y: (x * x + y * y) / 2),
}  # fmt: skip


def taylor(f: Any, order: int) -> Any:
    """The derivative tensor of a polynomial of two variables at 0."""
    x = sympy.symbols("x y")
    result = sympy.derive_by_array(sympy.sympify(f(*x)), x)
    for _ in range(order - 1):
        result = sympy.derive_by_array(result, x)
    return np.array(result.subs(dict.fromkeys(x, 0)).tolist(), float)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", KINKS)
def test_a_kink_inside_a_smooth_function_is_not_one_of_it(name):
    f, polynomial = KINKS[name]
    at, along = np.zeros(2), np.array([1.0, 2.0])
    g = gc.grad(f)
    hold([g(at), gc.jacobian(f, mode="forward")(at)], taylor(polynomial, 1))
    curvature = taylor(polynomial, 2)
    hold(
        [gc.hessian(f)(at), gc.jit(gc.hessian(f))(at), gc.jacobian(g)(at), gc.jacobian(g, mode="forward")(at)],
        curvature,
    )
    hold([gc.jvp(lambda x: gc.jvp(f, (x,), (along,))[1], (at,), (along,))[1]], along @ curvature @ along)
    bent = taylor(polynomial, 3) @ along @ along
    hold([gc.grad(lambda x: gc.grad(lambda x: g(x) @ along)(x) @ along)(at)], bent)


@pytest.mark.parametrize("x", [[0.0, 0.0], [3.0, -4.0], [1e-9, 2e-9], [50.0, 20.0]])
def test_the_value_is_what_was_written(x):
    x = np.array(x)
    for name, (f, _) in KINKS.items():
        np.testing.assert_allclose(gc.jit(f)(x), f(x), rtol=1e-13, atol=1e-15, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_a_root_became_keeps_its_dtype(dtype):
    """Also where nothing is known of the sign of the radicand."""
    x = dtype(0.75)
    for f in (np.cos, np.cosh, np.square, lambda r: np.sin(r) / r):
        got = gc.jit(lambda x, f=f: f(np.sqrt(x)))(x)
        assert got.dtype == dtype
        np.testing.assert_allclose(got, f(np.sqrt(x)), rtol=4 * np.finfo(dtype).eps)


def test_a_root_of_a_negative_number_stays_nan():
    for f in (lambda x: np.sqrt(x) * np.sqrt(x), lambda x: np.cos(np.sqrt(x)), lambda x: np.sqrt(x) ** 4):
        assert np.isnan(gc.jit(f)(-1.0)) and np.isnan(gc.jit(gc.grad(f))(-1.0))
        assert not np.isnan(gc.grad(f)(0.0))


def test_sine_over_its_argument_needs_no_guard():
    def f(x: Any) -> Any:
        r = np.linalg.norm(x)
        return np.where(r == 0, 1.0, np.sin(r) / r)

    hold([gc.hessian(f)(np.zeros(2)), gc.jit(gc.hessian(f))(np.zeros(2))], -np.eye(2) / 3)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("hyperbolic", [False, True])
@pytest.mark.parametrize("k", range(8))
def test_stumpffs_functions(k, hyperbolic):
    """Against their series in 50 digits."""
    s = np.concatenate([np.linspace(0, 6, 30), np.linspace(6, 60, 30)])
    for dtype in (np.float32, np.float64):
        x = s.astype(dtype)
        with mpmath.workdps(50):
            terms = [[mpmath.mpf(float(v)) ** j / mpmath.factorial(k + 2 * j) for j in range(80)] for v in x]
            exact = [float(sum(t if hyperbolic or j % 2 == 0 else -t for j, t in enumerate(row))) for row in terms]
        unit = np.finfo(dtype).eps * np.maximum(np.abs(exact), 1 / math.factorial(k)) * (10 + np.sqrt(s) / 2)
        graph = gc.trace(lambda x: apply(OPS["stumpff"], x, k=k, hyperbolic=hyperbolic), x)
        for value in (graph.evaluate(x)[0], gc.jit(lambda x: apply(OPS["stumpff"], x, k=k, hyperbolic=hyperbolic))(x)):
            assert np.all(np.abs(value - exact) <= unit)


# -- partials to the ends of each dtype --------------------------------------------------------------------------------


M: Any = mpmath
#: op -> its first derivatives in exact arithmetic, the largest error in units in the last place, where it is asked
PARTIALS: dict[str, tuple[Any, float, tuple[float, float]]] = {
    "tanh": (lambda x: M.sech(x) ** 2, 6, (-INF, INF)),
    "sigmoid": (lambda x: M.exp(-abs(x)) / (1 + M.exp(-abs(x))) ** 2, 8, (-INF, INF)),
    "softplus": (lambda x: 1 / (1 + M.exp(-x)), 4, (-INF, INF)),
    "arctan": (lambda x: 1 / (1 + x * x), 4, (-INF, INF)),
    "arcsinh": (lambda x: 1 / M.sqrt(1 + x * x), 4, (-INF, INF)),
    "arccosh": (lambda x: 1 / M.sqrt(x * x - 1), 6, (1.0, INF)),
    "arctanh": (lambda x: 1 / (1 - x * x), 4, (-1.0, 1.0)),
    "arcsin": (lambda x: 1 / M.sqrt(1 - x * x), 6, (-1.0, 1.0)),
    "arccos": (lambda x: -1 / M.sqrt(1 - x * x), 6, (-1.0, 1.0)),
    "log": (lambda x: 1 / x, 2, (0.0, INF)),
    "log2": (lambda x: 1 / (x * M.log(2)), 4, (0.0, INF)),
    "log1p": (lambda x: 1 / (1 + x), 2, (-0.5, INF)),
    "expm1": (lambda x: M.exp(x), 6, (-1.0, INF)),
    "sqrt": (lambda x: 1 / (2 * M.sqrt(x)), 2, (0.0, INF)),
    "rsqrt": (lambda x: -1 / (2 * x * M.sqrt(x)), 8, (0.0, INF)),
    "reciprocal": (lambda x: -1 / (x * x), 4, (-INF, INF)),
    "square": (lambda x: 2 * x, 1, (-INF, INF)),
    "erf": (lambda x: 2 / M.sqrt(M.pi) * M.exp(-x * x), 4, (-INF, INF)),
    "erfc": (lambda x: -2 / M.sqrt(M.pi) * M.exp(-x * x), 4, (-INF, INF)),
}


def _everywhere(dtype: Any, low: float, high: float) -> Any:
    """Numbers of both signs from the smallest normal one to the largest, evenly in the exponent, and around 1."""
    limits = finfo(np.dtype(dtype))
    sizes = np.exp(np.linspace(np.log(float(limits.smallest_normal)) + 1, np.log(float(limits.max)) - 1, 60))
    near = np.concatenate([np.linspace(0.05, 12, 40), 1 - np.exp2(-np.arange(1.0, 8)), 1 + np.exp2(-np.arange(1.0, 8))])
    x = np.concatenate([sizes, -sizes, near, -near]).astype(dtype)
    return x[(x.astype(np.float64) > low) & (x.astype(np.float64) < high)]


@pytest.mark.parametrize("name", PARTIALS)
def test_partials_are_accurate_to_the_ends_of_each_dtype(name):
    """Compiled and interpreted, wherever the derivative is a normal number of the dtype."""
    exact, bound, (low, high) = PARTIALS[name]
    slope = gc.grad(lambda x: np.sum(apply(OPS[name], x)))
    compiled = gc.jit(slope)
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64):
        x, limits = _everywhere(dtype, low, high), finfo(np.dtype(dtype))
        with mpmath.workdps(40):
            want = np.array([float(exact(mpmath.mpf(float(v)))) for v in x])
        shown = (np.abs(want) >= float(limits.smallest_normal)) & (np.abs(want) <= float(limits.max) / 2)
        for found in (slope(x), compiled(x)):
            error = np.abs(found.astype(np.float64) - want)[shown] / np.abs(want[shown]) / float(limits.eps)
            assert error.max(initial=0) <= bound, (dtype, x[shown][error.argmax()], error.max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_partials_of_two_numbers_are_accurate_to_the_ends_of_a_dtype(dtype):
    limits = np.finfo(dtype)
    sizes = np.exp(np.linspace(np.log(float(limits.tiny)), np.log(float(limits.max)) - 1e-4, 12)).astype(dtype)
    sizes = np.concatenate([sizes, [limits.max, limits.smallest_subnormal, limits.tiny / 8]]).astype(dtype)
    x, y = (a.ravel() for a in np.meshgrid(sizes, sizes))
    for name, exact in (
        ("arctan2", (lambda y, x: x / (x * x + y * y), lambda y, x: -y / (x * x + y * y))),
        ("hypot", (lambda x, y: x / mpmath.hypot(x, y), lambda x, y: y / mpmath.hypot(x, y))),
    ):
        slope = gc.grad(lambda x, y, name=name: np.sum(apply(OPS[name], x, y)), argnums=(0, 1))
        for found in (slope(x, y), gc.jit(slope)(x, y)):
            for g, f in zip(found, exact, strict=True):
                pairs = zip(x.tolist(), y.tolist(), strict=True)
                want = np.array([float(f(mpmath.mpf(a), mpmath.mpf(b))) for a, b in pairs])
                shown = (np.abs(want) >= float(limits.tiny)) & (np.abs(want) <= float(limits.max))
                assert np.all(np.abs(g - want)[shown] <= 8 * float(limits.eps) * np.abs(want[shown]))
