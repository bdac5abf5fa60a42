"""At the points where an implementation may branch: values are NumPy's and SciPy's, derivatives are the mathematics'.

The walk visits every op that acts on single numbers at the points that its record declares (`special_points`): zeros of
both signs, ±1, ties, infinities, NaN.  Where SymPy's derivative has a value, forward, reverse and compiled code have
it, to second order, to third of functions of one number; elsewhere the first derivative is what the record declares.
"""

from __future__ import annotations

import itertools
import math
from functools import reduce
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special
import sympy

import gradc as gc
import gradc.numpy as gnp
from gradc import nn, special
from gradc.aval import BFLOAT16, Aval, finfo
from gradc.node import OPS
from gradc.numpy.public import CONVENTIONS
from gradc.ops.elementwise import apply
from gradc.ops.record import Kind, Op, special_points
from tests.op_cases import ATTRS, BITWISE, LOGICAL, OPERANDS, leaf, operand_count

INF, NAN = math.inf, math.nan
Array = np.ndarray[Any, Any]
#: SciPy's functions where NumPy has none
REFERENCES: dict[str, Any] = {
    "erf": scipy.special.erf, "erfc": scipy.special.erfc, "lgamma": scipy.special.gammaln, "xlogy": scipy.special.xlogy,
    "digamma": scipy.special.digamma, "sigmoid": scipy.special.expit, "softplus": lambda x: np.logaddexp(x, 0),
    "relu": lambda x: np.maximum(x, 0), "rsqrt": lambda x: 1 / np.sqrt(x), "tanh_slope": lambda x: 1 / np.cosh(x) ** 2,
    "reciprocal": np.reciprocal, "erfinv": scipy.special.erfinv,
    "erfcinv": scipy.special.erfcinv, "gamma": scipy.special.gamma, "rgamma": scipy.special.rgamma,
}  # fmt: skip


#: ops that are made of several Γ, or of ζ
OF_GAMMAS = {
    "beta", "betaln", "poch", "binom", "hurwitz_zeta", "zetac", "riemann_zeta", "gammainc", "gammaincc",
    "gamma_density", "beta_density", "betainc", "betaincc",
}  # fmt: skip


def _is_smooth_kind(op: Op) -> bool:
    """Of floats, with a rule that is not zero everywhere."""
    if op.kind is not Kind.ELEMENTWISE or op.partials is None or op.sympy is None:
        return False
    if op.name in BITWISE | LOGICAL or op.name in OPERANDS or op.name in ("stumpff", "copysign"):
        return False  # bits and masks; c_k is defined for s >= 0 and has a test of its own; SymPy knows no −0
    if op.name in OF_GAMMAS:
        return False  # mpmath takes minutes for limits at infinity; they have tests of their own in test_gammas.py
    x = leaf(Aval((), np.dtype(np.float64)))
    y = apply(op, *[x] * operand_count(op), **ATTRS.get(op.name, {}))
    return any(p is not None for p in op.partials(y, *y.args, **y.attrs))


WALKED = [name for name, op in OPS.items() if _is_smooth_kind(op)]


def _polygamma(n: Any, x: Any) -> Any:
    """mpmath goes to a negative number in steps of 1; towards −∞ there are poles all the way, and no limit."""
    if x < -1000:
        raise ValueError(f"polygamma at {x}")
    return mpmath.psi(n, x)


#: beside mpmath's own functions
OURS = {
    "erfcinv": lambda x: mpmath.erfinv(1 - x),
    "floor_divide": lambda x, y: mpmath.floor(x / y),
    "trunc": lambda x: mpmath.sign(x) * mpmath.floor(abs(x)),
    "polygamma": _polygamma,
}


def derivatives(op: Op, order: int, names: tuple[sympy.Symbol, ...]) -> dict[tuple[int, ...], Any]:
    """By numbers of operands: the mixed derivatives in mpmath."""
    expression = op.sympy(sympy, *names, **ATTRS.get(op.name, {}))
    found = {}
    for by in itertools.product(range(len(names)), repeat=order):
        bent = reduce(lambda e, i: sympy.diff(e, names[i]), by, expression)
        found[by] = sympy.lambdify(names, bent, [OURS, "mpmath"])
    return found


def at(f: Any, point: Any) -> Any:
    """The value in mpmath, None where it is no finite real number."""
    try:
        value = mpmath.mpmathify(f(*point))
        return value.real if mpmath.isfinite(value) and abs(value.imag) < 1e-30 else None
    except (ZeroDivisionError, ValueError, TypeError, OverflowError):
        return None


def exact(f: Any, point: tuple[float, ...]) -> float | None:
    """The value, and where it has none the limit from all sides from which it is real; None if there is none either."""
    if np.isnan(point).any():
        return None
    value = at(f, map(mpmath.mpf, point)) if np.isfinite(point).all() else None
    return float(value) if value is not None else limit(f, point)


def limit(f: Any, point: tuple[float, ...]) -> float | None:
    """The one limit on every way to the point: from both sides, the coordinates moving in step or one far ahead."""
    found = set()
    for sides in itertools.product((1, -1), repeat=sum(map(math.isfinite, point))):
        for rates in ((1, 1), (1, 2), (2, 1))[: 1 if len(point) == 1 else 3]:
            side = iter(sides)
            signs = [next(side) if math.isfinite(p) else math.copysign(1, p) for p in point]
            pair = [_stable(f, _on_the_way(point, signs, rates, step)) for step in (4, 16)]
            if None in pair:
                if all(map(math.isfinite, point)):
                    continue  # beyond the end of the domain
                return None
            found.add(_tendency(*pair))
    return found.pop() if len(found) == 1 else None


def _stable(f: Any, point: list[Any]) -> Any:
    """The value where more digits do not change it: terms that cancel may leave nothing but what was rounded."""
    value = at(f, point)
    with mpmath.workdps(mpmath.mp.dps * 3 // 2):
        again = at(f, point)
    return value if value is not None and again is not None and abs(value - again) <= 1e-20 * abs(again) else None


def _on_the_way(point: tuple[float, ...], signs: list[float], rates: tuple[int, int], step: int) -> list[Any]:
    """The point, 7/10^step of it to the given sides, or as far from 0 as that is near to it; no whole numbers."""
    moved = [(p, s, mpmath.mpf(10) ** (step * r) / 7) for p, s, r in zip(point, signs, rates, strict=False)]
    return [p + s / far if math.isfinite(p) else s * far for p, s, far in moved]


def _tendency(near: Any, nearer: Any) -> float | None:
    """What two values on the way to a point tend to: a number, or an infinity, as slow as a logarithm."""
    if abs(nearer) > 3 * abs(near) and near * nearer > 0:
        return math.copysign(INF, nearer)
    if 3 * abs(nearer) <= abs(near) or abs(nearer) < 1e-30:
        return 0.0
    return float(nearer) if abs(near - nearer) < 1e-3 * abs(nearer) else None


def programs(op: Op, count: int, orders: int) -> Any:
    """Columns of operands ↦ value and all derivatives of each order, reverse; and the first two by forward mode."""

    def value(*xs: Any) -> Any:
        return apply(op, *xs, **ATTRS.get(op.name, {}))

    def slopes(f: Any) -> list[Any]:
        return [gc.grad(lambda *xs: np.sum(f(*xs)), argnums=i) for i in range(count)]

    reverse: list[list[Any]] = [[value]]
    for _ in range(orders):
        reverse.append([g for f in reverse[-1] for g in slopes(f)])

    def along(f: Any, i: int) -> Any:
        def moved(*xs: Any) -> Any:
            return gc.jvp(lambda x: f(*xs[:i], x, *xs[i + 1 :]), (xs[i],), (np.ones_like(xs[i]),))[1]

        return moved

    forward = [[value]]
    for _ in range(2):
        forward.append([along(f, i) for f in forward[-1] for i in range(count)])
    return reverse, forward


def agree(found: Any, want: Array, where: Array, what: str, points: Array) -> None:
    found = np.broadcast_to(np.asarray(found, np.float64), want.shape)
    near = np.isclose(found, want, rtol=1e-11, atol=1e-13, equal_nan=True) | ~where
    at_minus_zero = ((points == 0) & np.signbit(points)).any(axis=1) & np.isinf(want)  # 1/−0 has the sign of the zero
    near |= at_minus_zero & (np.abs(found) == np.abs(want))
    assert near.all(), f"{what} at {points[~near].tolist()}: {found[~near]}, expected {want[~near]}"


@pytest.mark.parametrize("name", WALKED)
def test_an_op_at_its_special_points(name):
    op = OPS[name]
    count = operand_count(op)
    points = np.array(special_points(op, count))
    columns = tuple(points.T)
    orders = 3 if count == 1 else 2
    reverse, forward = programs(op, count, orders)
    flat = [f for row in (*reverse, *forward[1:]) for f in row]
    with np.errstate(all="ignore"):
        graph = gc.trace(lambda *xs: tuple(f(*xs) for f in flat), *columns)
        interpreted = graph.evaluate(*columns)
        compiled = gc.jit(lambda *xs: tuple(f(*xs) for f in flat))(*columns)
        reference = REFERENCES.get(name) or (op.numpy if isinstance(op.numpy, np.ufunc) else None)
        value = np.asarray(reference(*columns)) if reference is not None else interpreted[0]
    wanted, declared = [value], []  # the second: by operand, where a convention takes the place of a limit
    names = sympy.symbols(("x", "y", "z")[:count], real=True)
    everywhere = np.ones(len(points), bool)
    with mpmath.workdps(150):
        for order in range(1, orders + 1):
            for by, f in derivatives(op, order, names).items():
                if by != tuple(sorted(by)):  # the order of derivatives does not matter
                    wanted.append(wanted[1 + count + count * by[1] + by[0]])
                    continue
                inside = ~np.isnan(value)
                for i in by if order > 1 else ():
                    inside &= ~np.isnan(wanted[1 + i]) & ~declared[i]  # log −1 is not real
                want = [exact(f, tuple(p)) if ok else None for p, ok in zip(points.tolist(), inside, strict=True)]
                if order == 1:
                    said = [_declared(op, tuple(p), by[0], w) for p, w in zip(points.tolist(), want, strict=True)]
                    declared.append(np.array([w != v for v, w in zip(want, said, strict=True)]))
                    want = said
                wanted.append(np.array([NAN if w is None else w for w in want]))
    wanted += wanted[1 : 1 + count + count**2]
    where = [everywhere] + [~np.isnan(w) & ~np.isnan(value) for w in wanted[1:]]
    second = slice(1 + count, 1 + count + count**2)
    of_hessian = [wanted[0], *wanted[second]], [where[0], *where[second]]
    for results, kind, (wants, masks) in (
        (interpreted, "interpreted", (wanted, where)),
        (compiled, "compiled", (wanted, where)),
        ([value, *hessian_diagonals(reverse[0][0], columns)], "Hessian", of_hessian),
    ):
        for k, (result, want, mask) in enumerate(zip(results, wants, masks, strict=True)):
            agree(result, want, mask, f"{kind} {name}, derivative {k}", points)


def hessian_diagonals(f: Any, columns: tuple[Array, ...]) -> list[Array]:
    """The second derivatives of Σ f by `gc.hessian`, for every pair of operands; between points they are 0."""
    with np.errstate(all="ignore"):
        blocks = gc.hessian(lambda *xs: np.sum(f(*xs)), argnums=tuple(range(len(columns))))(*columns)
    flat = [np.asarray(block) for row in blocks for block in row]
    for block in flat:
        assert not np.any(block[~np.eye(len(block), dtype=bool)])
    return [np.diagonal(block) for block in flat]


@pytest.mark.parametrize("part", [0, *(pytest.param(k, marks=pytest.mark.nightly) for k in (1, 2, 3))])
def test_a_bfloat16_at_its_special_points_is_a_rounded_float32(part):
    """Values are rounded once; a first derivative after each of the few operations that it is made of."""
    for name in WALKED[part::4]:
        count = operand_count(OPS[name])
        points = np.array(special_points(OPS[name], count), np.float32).astype(BFLOAT16)
        reverse = programs(OPS[name], count, 1)[0]

        def flat(*xs: Any, reverse: Any = reverse) -> list[Any]:
            return [f(*xs) for row in reverse for f in row]

        columns = tuple(points.T)
        wide = tuple(c.astype(np.float32) for c in columns)
        with np.errstate(all="ignore"):
            found, exact_ones = (gc.trace(flat, *a).evaluate(*a) for a in (columns, wide))
        for k, (got, want) in enumerate(zip(found, exact_ones, strict=True)):
            assert got.dtype == BFLOAT16
            got, want = (np.broadcast_to(v, len(points)).astype(BFLOAT16).astype(np.float64) for v in (got, want))
            near = np.isclose(got, want, rtol=(4 if k else 0) * 2.0**-8, atol=0, equal_nan=True)
            assert near.all(), f"{name}, derivative {k} at {points[~near].tolist()}: {got[~near]}, not {want[~near]}"


def _declared(op: Op, point: tuple[float, ...], operand: int, smooth: float | None) -> float | None:
    """What the record says of the first derivative there, else the mathematics."""
    said = op.special.get(point if len(point) > 1 else point[0])
    if said is None:
        return smooth
    value = said[operand] if isinstance(said, tuple) else said
    return float(value) if value is not None else None


@pytest.mark.parametrize(
    "f", [np.abs, lambda x: np.maximum(x, 1.0), lambda x: np.minimum(1.0, x), gc.nn.relu, np.log1p]
)
def test_a_nan_that_is_chosen_comes_out_of_the_gradient_too(f):
    slope = gc.grad(lambda x: f(np.sqrt(x)))
    assert np.isnan(slope(-1.0)) and np.isnan(gc.jit(slope)(-1.0))
    assert np.isnan(gc.jvp(lambda x: f(np.sqrt(x)), (-1.0,), (1.0,))[1])


def _windows(rank: int) -> tuple[int, ...]:
    """An image of two elements along its last axis."""
    return (1, 1, *[1] * (rank - 1), 2)


ZERO, ONES = np.zeros(2), np.ones(2)
#: of every function that declares a convention: a function of an array, the point, and the gradient declared there
COMPOSITES: dict[str, list[tuple[Any, Any, Any]]] = {
    **{
        f"nn.{kind}max_pool{rank}d": [(
            lambda x, kind=kind, rank=rank: getattr(gc.nn, f"{kind}max_pool{rank}d")(
                x.reshape(_windows(rank)), 1 if kind else _windows(rank)[2:]
            ).sum(),
            ONES, [0.5, 0.5],
        )]
        for kind in ("", "adaptive_") for rank in (1, 2, 3)
    },
    **{
        f"nn.lp_pool{rank}d": [(
            lambda x, rank=rank, p=p: getattr(gc.nn, f"lp_pool{rank}d")(
                x.reshape(_windows(rank)), p, _windows(rank)[2:]
            ).sum(),
            ZERO, [0, 0],
        ) for p in (2.0, 3.0)]
        for rank in (1, 2, 3)
    },
    "nn.embedding_bag": [(
        lambda x: gc.nn.embedding_bag(np.array([[0, 1]]), x.reshape(2, 1), mode="max").sum(), ONES, [0.5, 0.5]
    )],
    "nn.grid_sample": [(  # at the middle pixel of 1, 2, 5: the slope of the right side
        lambda x: gc.nn.grid_sample(
            np.array([[[[1.0, 2.0, 5.0]]]]), gnp.stack([x, 0 * x], -1).reshape(1, 1, 1, 2), align_corners=True
        ).sum(),
        [0.0], [3.0],
    )],
    "nn.rnn_relu_cell": [(
        lambda x: gc.nn.rnn_relu_cell(x[:1, None], x[1:, None], np.eye(1), np.eye(1)).sum(), ZERO, [0, 0]
    )],
    "nn.rnn_relu": [(
        lambda x: gc.nn.rnn_relu(x[:1, None, None], x[1:, None, None], [np.eye(1), np.eye(1)], False)[0].sum(),
        ZERO, [0, 0],
    )],
    "fabs": [(lambda x: gnp.fabs(x).sum(), ZERO, [0, 0])],
    "clip": [(lambda x: np.clip(x, -1.0, 1.0).sum(), [-1.0, 1.0], [0.5, 0.5])],
    "fmax": [(lambda x: np.fmax(x[0], x[1]), ONES, [0.5, 0.5])],
    "fmin": [(lambda x: np.fmin(x[0], x[1]), ONES, [0.5, 0.5])],
    "heaviside": [(lambda x: np.heaviside(x, 0.5).sum(), ZERO, [0, 0])],
    "spacing": [(lambda x: np.spacing(x).sum(), ONES, [0, 0])],
    "angle": [(lambda x: np.angle(x).sum(), [0.0, -1.0], [0, 0])],
    "std": [(np.std, ONES, [0, 0])],
    **{
        name: [(f, np.ones(3), [0, 1, 0])]
        for name, f in {
            "median": np.median,
            "nanmedian": np.nanmedian,
            "quantile": lambda x: np.quantile(x, 0.5),
            "percentile": lambda x: np.percentile(x, 50),
            "nanquantile": lambda x: np.nanquantile(x, 0.5),
            "nanpercentile": lambda x: np.nanpercentile(x, 50),
        }.items()
    },
    "interp": [
        (
            lambda x: np.interp(x, [0.0, 1.0, 3.0], [0.0, 2.0, 1.0]).sum(),
            [-1.0, 0.0, 1.0, 3.0, 4.0],
            [0, 2, -0.5, -0.5, 0],
        ),
    ],
    "nanstd": [(np.nanstd, ONES, [0, 0])],
    "corrcoef": [(lambda x: np.corrcoef(x, [-1.0, 0.0, 1.0])[0, 1], [-1.0, 0.0, 1.0], [0, 0, 0])],
    "linalg.norm": [
        *((lambda x, p=p: np.linalg.norm(x, ord=p), ZERO, [0, 0]) for p in (1, 1.5, 2, 3, INF)),
        (lambda x: np.linalg.norm(x, ord=1), [0.0, 2.0], [0, 1]),
        (lambda x: np.linalg.norm(x, ord=INF), ONES, [0.5, 0.5]),
    ],
    "entr": [(lambda x: special.entr(x).sum(), ZERO, [INF, INF])],
    "gammasgn": [(lambda x: special.gammasgn(x).sum(), [0.0, 2.0, -0.5], [0, 0, 0])],
    "huber": [(lambda x: special.huber(1.0, x).sum(), ONES, [1, 1])],
    "kl_div": [(lambda x: special.kl_div(x, 2.0).sum(), ZERO, [-1, -1])],
    "ndtri": [(lambda x: special.ndtri(x).sum(), [0.0, 1.0], [INF, INF])],
    "rel_entr": [(lambda x: special.rel_entr(x, 2.0).sum(), ZERO, [0, 0])],
    "xlog1py": [(lambda x: special.xlog1py(x[0], x[1]), [0.0, -1.0], [-INF, 0])],
    "logit": [(lambda x: special.logit(x).sum(), [0.0, 1.0], [INF, INF])],
    "nn.relu6": [(lambda x: nn.relu6(x).sum(), [0.0, 6.0], [0, 0])],
    "nn.hardtanh": [(lambda x: nn.hardtanh(x).sum(), [-1.0, 1.0], [0, 0])],
    "nn.hardsigmoid": [(lambda x: nn.hardsigmoid(x).sum(), [-3.0, 3.0], [0, 0])],
    "nn.hardswish": [(lambda x: nn.hardswish(x).sum(), [-3.0, 3.0], [0, 1])],
    "nn.leaky_relu": [(lambda x: nn.leaky_relu(x, 0.25).sum(), ZERO, [0.25, 0.25])],
    "nn.elu": [(lambda x: nn.elu(x, 2.0).sum(), ZERO, [2, 2])],
    "nn.l1_loss": [(lambda x: nn.l1_loss(x, np.ones(2)), ONES, [0, 0])],
    "nn.threshold": [(lambda x: nn.threshold(x, 1.0, 7.0).sum(), ONES, [0, 0])],
    "nn.prelu": [
        (lambda x: nn.prelu(x, 0.25).sum(), ZERO, [0.25, 0.25]),
        (lambda w: nn.prelu(np.zeros((2, 2)), w).sum(), ONES, [0, 0]),
    ],
    "nn.rrelu": [(lambda x: nn.rrelu(x, 0.25, 0.25).sum(), ZERO, [0.25, 0.25])],
    "nn.hardshrink": [(lambda x: nn.hardshrink(x, 1.0).sum(), [-1.0, 1.0], [0, 0])],
    "nn.softshrink": [(lambda x: nn.softshrink(x, 1.0).sum(), [-1.0, 1.0], [0, 0])],
    "nn.reglu": [(lambda x: nn.reglu(x).sum(), [2.0, 0.0], [0, 0])],
    "nn.maxout": [(lambda x: nn.maxout(x, 2, 0).sum(), ONES, [0.5, 0.5])],
    "nn.gaussian_nll_loss": [
        (lambda v: nn.gaussian_nll_loss(np.zeros(2), np.zeros(2), v, eps=0.5, reduction="sum"), [0.25, 0.0], [1, 1])
    ],
    "nn.quantile_loss": [(lambda x: nn.quantile_loss(x, ONES, 0.25, reduction="sum"), ONES, [0.75, 0.75])],
    "nn.hinge_loss": [(lambda x: nn.hinge_loss(x, [1.0, -1.0]), [1.0, -1.0], [0, 0])],
    "nn.hinge_embedding_loss": [(lambda x: nn.hinge_embedding_loss(x, -ONES), ONES, [0, 0])],
    "nn.margin_ranking_loss": [
        (lambda x: nn.margin_ranking_loss(x, x[::-1], ONES, reduction="none")[0], ONES, [-1, 1]),
    ],
    "nn.multi_margin_loss": [(lambda x: nn.multi_margin_loss(x, 0), [1.0, 0.0], [0, 0])],
    "nn.multilabel_margin_loss": [(lambda x: nn.multilabel_margin_loss(x, [0, -1]), [1.0, 0.0], [0, 0])],
    "nn.cosine_embedding_loss": [
        (lambda x: nn.cosine_embedding_loss(x, [0.0, 1.0], -1), [1.0, 0.0], [0, (1 + 1e-12) ** -1.0])
    ],
    "nn.triplet_margin_loss": [
        (lambda x: nn.triplet_margin_loss(x[:1], x[1:], [3.0], 2.0, eps=0.0), [0.0, 1.0], [0, 1])
    ],
    "nn.triplet_margin_with_distance_loss": [
        (lambda x: nn.triplet_margin_with_distance_loss(
            x[:1], x[1:], [3.0], margin=2.0, distance_function=lambda a, b: np.abs(a - b)[0]), [0.0, 1.0], [0, 1])
    ],
    "nn.ctc_loss": [(lambda x: nn.ctc_loss(x[:, None] + np.zeros((2, 2)), [1, 1], 2, 2), ZERO, [0, 0])],
}


GATED = {
    "gelu": nn.gelu, "gelu_tanh": lambda x: nn.gelu(x, approximate="tanh"), "silu": nn.silu, "mish": nn.mish,
    "hardswish": nn.hardswish,
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float64, np.float32, BFLOAT16])
def test_an_activation_that_fades_is_a_line_and_nothing_at_the_infinities(dtype):
    """Value and three derivatives, in both modes and compiled, also where squares leave the dtype."""
    large = 1e200 if dtype == np.float64 else 1e30
    x = np.array([INF, large, -INF, -large], dtype)

    def derivatives_of(f: Any) -> list[Any]:
        reverse, forward = [f], [f]
        for _ in range(3):
            reverse.append(gc.grad(lambda x, g=reverse[-1]: np.sum(g(x))))
            forward.append(lambda x, g=forward[-1]: gc.jvp(g, (x,), (np.ones_like(x),))[1])
        return [*reverse, *forward[1:]]

    flat = [g for f in GATED.values() for g in derivatives_of(f)]
    with np.errstate(all="ignore"):
        graph = gc.trace(lambda x: [g(x) for g in flat], x)
        for results in (graph.evaluate(x), gc.jit(lambda x: [g(x) for g in flat])(x)):
            for name, found in zip(GATED, np.reshape(np.asarray(results), (-1, 7, 4)), strict=True):
                slopes = [[1, 1, 0, 0], [0] * 4, [0] * 4]
                wanted = np.array([[INF, x[1], 0, 0], *slopes, *slopes], float)
                two_roundings = 2 * float(finfo(np.dtype(dtype)).eps)  # x·6/6
                np.testing.assert_allclose(found.astype(float), wanted, two_roundings, 0, err_msg=name)


@pytest.mark.parametrize("name", sorted(CONVENTIONS))
def test_a_function_has_the_derivative_that_it_declares(name):
    for f, point, want in COMPOSITES[name]:
        x = np.array(point)
        for slope in (gc.grad(f)(x), gc.jacobian(f, mode="forward")(x), gc.jit(gc.grad(f))(x)):
            np.testing.assert_allclose(slope, want, rtol=1e-15)


def test_every_function_with_a_convention_is_visited():
    assert COMPOSITES.keys() == CONVENTIONS.keys()
