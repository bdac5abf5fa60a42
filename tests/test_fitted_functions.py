"""Functions computed from tables: the tables against mpmath, values against mpmath within the bounds of the records,
SciPy's names and values at the ends of domains, formulas.

Derivatives, batching and special points are walked in test_ops.py and test_special_points.py.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

import mpmath
import numpy as np
import pytest
import scipy.special

import gradc as gc
from gradc import special
from gradc.node import OPS
from gradc.ops.curves import SHIPPED, curve, second_kind
from gradc.ops.elementwise import apply
from gradc.ops.fits import arithmetic, fitted, key_of, on, table
from gradc.ops.integrals import _uniform_terms
from gradc.ops.written import Arrays
from tests.elementary_harness import Array, extended, ulp_errors

INF = np.inf


class Function(NamedTuple):
    """What is called, what it is in mpmath, where, whose bound holds, and the size of terms that it counts beside."""

    call: Callable[..., Any]
    exact: Callable[[Any], Any]
    intervals: tuple[tuple[float, float], ...]
    op: str
    attrs: Mapping[str, Any] = MappingProxyType({})


def _erfcx(x: Any) -> Any:
    return mpmath.exp(x * x) * mpmath.erfc(x)


def _dawson(x: Any) -> Any:
    return mpmath.sqrt(mpmath.pi) / 2 * mpmath.exp(-x * x) * mpmath.erfi(x)


def _log_ndtr(x: Any) -> Any:
    tail = mpmath.erfc(abs(x) / mpmath.sqrt(2)) / 2
    return mpmath.log(tail) if x < 0 else mpmath.log1p(-tail)


def _derivative(name: str, n: int, **attrs: Any) -> Callable[..., Any]:
    return lambda x: apply(OPS[name], x, n=n, **attrs)


def second(n: int, sign: int) -> Callable[[Any], Any]:
    """Yₙ or Kₙ."""
    return lambda x: second_kind(mpmath.mp, mpmath.mpf(n), x, sign)


FUNCTIONS: dict[str, Function] = {
    "erfcx": Function(special.erfcx, _erfcx, ((-26, 0), (-2, 6), (3, 90)), "erfcx", {"n": 0}),
    "erfcx″": Function(
        _derivative("erfcx", 2), lambda x: mpmath.diff(_erfcx, x, 2), ((-9, 9),), "erfcx", {"n": 2}
    ),
    "dawsn": Function(special.dawsn, _dawson, ((-9, 9), (5, 80)), "dawsn", {"n": 0}),
    "dawsn′": Function(_derivative("dawsn", 1), lambda x: 1 - 2 * x * _dawson(x), ((-9, 20),), "dawsn", {"n": 1}),
    "erfi": Function(special.erfi, mpmath.erfi, ((-26, 26), (-1.5, 1.5)), "erfi"),
    "ndtr": Function(special.ndtr, mpmath.ncdf, ((-37, 0), (-6, 9)), "ndtr"),
    "log_ndtr": Function(special.log_ndtr, _log_ndtr, ((-90, 0), (-2, 36)), "log_ndtr"),
    "expi": Function(special.expi, mpmath.ei, ((-80, 0), (0, 1.5), (0.371, 0.374), (1, 700)), "expi"),
    "exp1": Function(special.exp1, mpmath.e1, ((0, 1.5), (1, 80)), "exp1"),
    "expn": Function(
        lambda x: special.expn(3, x), lambda x: mpmath.expint(3, x), ((0, 1.5), (1, 80)), "expn", {"n": 3}
    ),
    "sine": Function(lambda x: special.sici(x)[0], mpmath.si, ((-10, 10), (5, 900)), "sine_integral"),
    "cosine": Function(lambda x: special.sici(x)[1], mpmath.ci, ((0, 10), (5, 900)), "cosine_integral"),
    "hyperbolic sine": Function(
        lambda x: special.shichi(x)[0], mpmath.shi, ((-10, 10), (5, 700)), "hyperbolic_sine_integral"
    ),
    "hyperbolic cosine": Function(
        lambda x: special.shichi(x)[1], mpmath.chi, ((0, 10), (5, 700)), "hyperbolic_cosine_integral"
    ),
    "S": Function(lambda x: special.fresnel(x)[0], mpmath.fresnels, ((-5, 5), (3, 90)), "fresnels"),
    "C": Function(lambda x: special.fresnel(x)[1], mpmath.fresnelc, ((-5, 5), (3, 90)), "fresnelc"),
    "sin(πx²/2)": Function(
        lambda x: apply(OPS["quadratic_wave"], x, quarters=0), lambda x: mpmath.sinpi(x * x / 2), ((-9, 9), (3, 1e7)),
        "quadratic_wave", {"quarters": 0},
    ),
    "exprel": Function(special.exprel, lambda x: mpmath.expm1(x) / x, ((-50, 50), (-1, 1)), "exprel", {"n": 0}),
    "spence": Function(
        special.spence, lambda x: mpmath.re(mpmath.polylog(2, 1 - x)), ((0, 3), (1, 90)), "spence"
    ),
    "J₀": Function(special.j0, lambda x: mpmath.besselj(0, x), ((0, 20), (0, 300)), "bessel_j", {"order": 0.0}),
    "J₁": Function(special.j1, lambda x: mpmath.besselj(1, x), ((0, 20), (0, 300)), "bessel_j", {"order": 1.0}),
    "J½": Function(
        lambda x: special.jv(0.5, x), lambda x: mpmath.besselj(0.5, x), ((0, 20),), "bessel_j", {"order": 0.5}
    ),
    "Y₀": Function(special.y0, second(0, -1), ((0, 20), (0, 300)), "bessel_y", {"order": 0.0}),
    "Y₂": Function(
        lambda x: special.yn(2, x), second(2, -1), ((0.01, 20),), "bessel_y", {"order": 2.0}
    ),
    "I₀": Function(special.i0, lambda x: mpmath.besseli(0, x), ((0, 20), (0, 700)), "bessel_i", {}),
    "e^−|x|·I₁": Function(
        special.i1e, lambda x: mpmath.besseli(1, x) * mpmath.exp(-x), ((0, 20), (0, 300)), "bessel_i", {}
    ),
    "K₀": Function(special.k0, second(0, 1), ((0, 20), (0, 80)), "bessel_k", {}),
    "eˣ·K₁": Function(
        special.k1e, lambda x: second(1, 1)(x) * mpmath.exp(x), ((0, 20), (0, 300)), "bessel_k", {}
    ),
    "K(m)": Function(special.ellipk, mpmath.ellipk, ((-3, 1), (-90, 0), (0.99, 1)), "elliptic_k", {"n": 0}),
    "K(1 − p)": Function(
        special.ellipkm1, lambda p: mpmath.ellipk(1 - p), ((0, 1), (0.5, 90)), "elliptic_km1", {"n": 0}
    ),
    "E(m)": Function(special.ellipe, mpmath.ellipe, ((-3, 1), (-90, 0), (0.99, 1)), "elliptic_e", {"n": 0}),
    "K″": Function(
        _derivative("elliptic_k", 2), lambda m: 9 * mpmath.pi / 64 * mpmath.hyp2f1(2.5, 2.5, 3, m), ((-3, 0.9),),
        "elliptic_k", {"n": 2},
    ),
    "sin x/x": Function(
        _derivative("wave_quotient", 0, hyperbolic=False), mpmath.sinc, ((-9, 9), (3, 90)), "wave_quotient",
        {"n": 0, "hyperbolic": False},
    ),
    "log x/(x - 1)": Function(
        _derivative("log_quotient", 0), lambda x: mpmath.log(x) / (x - 1), ((0, 3), (1, 90)), "log_quotient", {"n": 0}
    ),
}  # fmt: skip


def sample(function: Function, dtype: str, count: int) -> Array:
    rng = np.random.default_rng(5)
    drawn = [rng.uniform(low, high, count) for low, high in function.intervals]
    if min(low for low, _ in function.intervals) <= 0:
        drawn.append(10 ** rng.uniform(-30, 0, count // 2))
    x = np.unique(np.concatenate(drawn).astype(dtype))
    return x[x < 80] if dtype == "float32" else x


def check(dtype: str, count: int) -> None:
    """All functions in one module."""
    xs = {name: sample(f, dtype, count) for name, f in FUNCTIONS.items()}
    names = list(xs)
    found = gc.jit(lambda *given: [FUNCTIONS[n].call(x) for n, x in zip(names, given, strict=True)])(*xs.values())
    for name, got in zip(names, found, strict=True):
        function, x, op = FUNCTIONS[name], xs[name], OPS[FUNCTIONS[name].op]
        with mpmath.workdps(40):
            exact = extended([function.exact(mpmath.mpf(float(v))) for v in x])
        errors = ulp_errors(got, exact, dtype)
        if op.scale is not None:
            size = np.abs(exact).astype(float) + op.scale(x.astype(float), **function.attrs)
            errors = np.minimum(errors, np.abs(got - exact).astype(float) / np.spacing(size.astype(dtype)))
        bound = op.bound(dtype)
        assert bound is not None
        assert errors.max() <= bound, (name, x[errors.argmax()], errors.max())


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_keep_their_bounds(dtype: str) -> None:
    check(dtype, 25)


@pytest.mark.nightly
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_values_keep_their_bounds(dtype: str) -> None:
    check(dtype, 2000)


# -- the tables --------------------------------------------------------------------------------------------------------


def test_tables_are_what_they_stand_for() -> None:
    """At a point of a piece, which moves from table to table."""
    rng, mp = np.random.default_rng(0), arithmetic()
    for name, *orders in SHIPPED:
        held, made = table(name, *orders), curve(name, *orders)
        assert (held.start, held.step, held.count) == (made.start, made.step, made.count)
        v = made.start + made.step * (rng.integers(made.count) + rng.uniform(0.02, 0.98))
        middle = made.start + made.step * (np.floor((v - made.start) / made.step) + 0.49)
        exact, size = (float(made.function(mp, mp.mpf(x), *map(mp.mpf, orders))) for x in (v, middle))
        assert abs(on(Arrays(), np.array([v]), held)[0] - exact) <= 2.0**-50 * max(abs(exact), abs(size)), (
            name,
            orders,
        )


@cache
def _refitted(k: int) -> Any:
    name, *orders = SHIPPED[k]
    return fitted(curve(name, *orders), *orders)


@pytest.mark.parametrize(
    "k", [pytest.param(k, marks=[] if k < 1 else pytest.mark.nightly) for k in range(len(SHIPPED))]
)
def test_a_table_is_fitted_again_to_the_same_numbers(k: int) -> None:
    name, *orders = SHIPPED[k]
    assert _refitted(k) == table(name, *orders), key_of(name, orders)


# -- SciPy's names and values ------------------------------------------------------------------------------------------
ENDS = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -3.5, INF, -INF, np.nan])
#: where SciPy's value is not the limit
BESIDE_SCIPY: dict[str, list[float]] = {"spence": [INF], "i0": [INF, -INF], "i1": [INF, -INF]}


def _results(found: Any) -> list[Array]:
    return [np.asarray(x) for x in (found if isinstance(found, (tuple, list)) else [found])]


NAMES = [
    "erfcx", "dawsn", "erfi", "ndtr", "log_ndtr", "expi", "exp1", "exprel", "spence", "sici", "shichi", "fresnel",
    "j0", "j1", "y0", "y1", "i0", "i0e", "i1", "i1e", "k0", "k0e", "k1", "k1e",
    "ellipk", "ellipkm1", "ellipe",
]  # fmt: skip


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", NAMES)
def test_scipys_own_function_and_its_values_at_the_ends(name: str) -> None:
    theirs, mine = getattr(scipy.special, name), getattr(special, name)
    with np.errstate(all="ignore"):
        want = _results(theirs(ENDS))
    for found in (_results(gc.jit(theirs)(ENDS)), _results(mine(ENDS))):
        for got, expected in zip(found, want, strict=True):
            same = ~np.isin(ENDS, BESIDE_SCIPY.get(name, []))
            np.testing.assert_allclose(got[same], expected[same], rtol=3e-14)


def test_orders_of_expn() -> None:
    x = np.array([0.2, 0.9, 3.0, 40.0, 0.0])
    for n in (0, 1, 2, 5):
        np.testing.assert_allclose(gc.jit(lambda x, n=n: scipy.special.expn(n, x))(x), scipy.special.expn(n, x), 1e-14)
    with pytest.raises(ValueError, match="n must be a whole number >= 0, got -1"):
        special.expn(-1, x)
    with pytest.raises(gc.TraceError, match="expn: the order is traced array 'n'"):
        gc.grad(lambda n: special.expn(n, 2.0))(2.0)


@pytest.mark.sampled(2)
def _continued(n: int, x: float) -> Any:
    """Eₙ(x) by its continued fraction (A&S 5.1.22, contracted), for x >= ½."""
    v, tail = mpmath.mpf(x), mpmath.mpf(0)
    for k in range(max(400, int(2000 / x)), 0, -1):
        tail = k * (n + k - 1) / (v + n + 2 * k - tail)
    return mpmath.exp(-v) / (v + n - tail)


def test_large_orders_of_expn_keep_the_bound_without_a_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("gradc.ops.integrals"), "table", None)
    x, orders = np.array([0.5, 1.0, 3.3, 9.0, 16.55, 43.4, 100.0, 600.0]), (30, 31, 40, 57, 200, 1000, 2**53)
    found = gc.jit(lambda x: [special.expn(n, x) for n in orders])(x)
    bound = OPS["expn"].bound("float64")
    assert bound == 4
    for n, got in zip(orders, found, strict=True):
        with mpmath.workdps(30):
            assert ulp_errors(got, extended([_continued(n, v) for v in x]), "float64").max() <= bound, n
    ends = gc.jit(lambda x: special.expn(200, x))(np.array([0.0, INF, -1.0, np.nan]))
    np.testing.assert_array_equal(ends, [1 / 199, 0.0, np.nan, np.nan])
    for n in (2**53 + 2, 10**400):
        with pytest.raises(ValueError, match=r"n goes up to 2\*\*53"):
            special.expn(n, 1.0)


def test_terms_of_large_orders_have_the_size_that_ends_their_sum() -> None:
    t = [mpmath.mpf(k) / 64 for k in range(65)]
    for k, terms in enumerate(_uniform_terms(17)):
        assert max(abs(mpmath.polyval(terms[::-1], v)) for v in t) <= max(1, mpmath.factorial(k) / 3**k)


@pytest.mark.parametrize("name", ["jv", "yv", "iv", "ive", "kv", "kve"])
def test_bessel_functions_of_any_order(name: str) -> None:
    """Whole and half orders of either sign; SciPy's own errors are larger."""
    theirs, x = getattr(scipy.special, name), np.array([0.1, 0.7, 1.5, 4.0, 11.0, 30.0])
    orders = [0, 2, 0.5, -1, -0.5]
    found = gc.jit(lambda x: [theirs(v, x) for v in orders])(x)
    for v, got in zip(orders, found, strict=True):
        np.testing.assert_allclose(got, theirs(v, x), rtol=2e-13, atol=1e-15)


def test_orders_are_numbers_within_bounds() -> None:
    for f in (special.jv, special.yv, special.iv, special.kv):
        with pytest.raises(gc.TraceError, match=r"[jyik]v: the order is traced array 'v'.*(\n.*)*static="):
            gc.grad(lambda v, f=f: f(v, 2.0))(1.5)
        with pytest.raises(ValueError, match="orders go from −64 to 64, got 65"):
            f(65, 2.0)
    with pytest.raises(ValueError, match=r"yn: n must be a whole number, got 0\.5; yv takes any"):
        special.yn(0.5, 2.0)


def test_an_order_beside_a_shipped_one_has_a_table_of_its_own() -> None:
    assert len({key_of("bessel_j", [v]) for v in (1.5, np.nextafter(1.5, 2), np.nextafter(1.5, 1), 1.5000001)}) == 4
    assert key_of("bessel_j", [-0.0]) == key_of("bessel_j", [0])
    beside = float(np.nextafter(0.5, 1))
    assert table("bessel_p", beside) is not table("bessel_p", 0.5)
    with mpmath.workdps(30):
        for f, exact, v in ((special.jv, mpmath.besselj, 1.5000001), (special.iv, mpmath.besseli, beside)):
            want = float(exact(mpmath.mpf(v), 2))
            assert abs(float(f(v, 2.0)) - want) <= 4 * np.spacing(want)


def test_threads_that_ask_for_one_new_order_share_a_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are past the cache before one has the lock."""
    fits = importlib.import_module("gradc.ops.fits")
    lock, barrier, made = threading.Lock(), threading.Barrier(4), []

    class Together:
        def __enter__(self) -> None:
            barrier.wait(30)
            lock.acquire()

        def __exit__(self, *error: object) -> None:
            lock.release()

    def fit(mp: Any, curve: Any, orders: Any) -> Any:
        made.append(orders)
        return table("integral_moment", 0)

    monkeypatch.setattr(fits, "_ONE_AT_A_TIME", Together())
    monkeypatch.setattr(fits, "_fitted", fit)
    monkeypatch.setattr(fits, "_MADE", {})
    ask = fits.table.__wrapped__  # no answer stays in the process
    with ThreadPoolExecutor(4) as pool:
        found = [f.result() for f in [pool.submit(ask, "integral_moment", 777.0) for _ in range(4)]]
    assert made == [(777.0,)] and all(t is found[0] for t in found)


def test_an_order_that_is_not_shipped_is_fitted() -> None:
    x = np.array([0.1, 0.7, 1.5, 4.0, 11.0, 30.0])
    np.testing.assert_allclose(gc.jit(lambda x: special.iv(4.25, x))(x), scipy.special.iv(4.25, x), rtol=2e-13)
    np.testing.assert_allclose(gc.jit(lambda x: special.kn(5, x))(x), scipy.special.kn(5, x), rtol=2e-13)


@pytest.mark.nightly
@pytest.mark.parametrize("v", [4.25, -2.5, 7, 20, 64])
def test_other_orders_are_fitted(v: float) -> None:
    x = np.linspace(0.6, 200, 150)
    found = gc.jit(lambda x: (special.jv(v, x), special.yv(v, x), special.ive(v, x), special.kve(v, x)))(x)
    with mpmath.workdps(30):
        for got, f, factor in zip(
            found, (mpmath.besselj, mpmath.bessely, mpmath.besseli, mpmath.besselk), (0, 0, -1, 1), strict=True
        ):
            exact = extended([f(v, mpmath.mpf(float(a))) * mpmath.exp(factor * mpmath.mpf(float(a))) for a in x])
            size = np.maximum(np.abs(exact).astype(float), 0 if factor else np.where(x > abs(v), np.sqrt(0.6 / x), 0))
            assert (np.abs(got - exact) <= 4 * np.spacing(size)).all(), (v, f)


def test_the_second_kind_in_many_digits() -> None:
    """What values are held against, against mpmath's slower way."""
    with mpmath.workdps(30):
        for n in (0, 1, 3):
            for x in (mpmath.mpf("0.7"), mpmath.mpf(9)):
                n_, far = mpmath.mpf(n), mpmath.mpf(10) ** -27
                assert abs(second_kind(mpmath.mp, n_, x, -1) / mpmath.bessely(n, x) - 1) < far
                assert abs(second_kind(mpmath.mp, n_, x, 1) / mpmath.besselk(n, x) - 1) < far


def test_bessel_functions_have_their_wronskians() -> None:
    """Derivatives of both kinds against A&S 9.1.16 and 9.6.15, at every order of differentiation by the recurrences."""
    x = np.array([0.2, 1.0, 3.0, 9.0, 25.0])
    for v in (0, 1, 0.5):
        j, y, i, k = (lambda x, f=f, v=v: f(v, x) for f in (special.jv, special.yv, special.iv, special.kv))
        slope = lambda f: gc.vmap(gc.grad(f))(x)
        np.testing.assert_allclose(j(x) * slope(y) - slope(j) * y(x), 2 / (np.pi * x), rtol=1e-13)
        np.testing.assert_allclose(i(x) * slope(k) - slope(i) * k(x), -1 / x, rtol=1e-13)
    assert gc.check_gradients(lambda x: (special.ive(0, x) * special.kve(1, x) + special.jv(2, x)).sum(), x).ok


def test_narrow_floats_are_rounded_once() -> None:
    x = np.linspace(0.1, 3, 40).astype(np.float16)
    for f, exact in ((special.erfcx, _erfcx), (special.expi, mpmath.ei)):
        want = np.array([float(exact(mpmath.mpf(float(v)))) for v in x]).astype(np.float32).astype(np.float16)
        np.testing.assert_array_equal(gc.jit(f)(x), want)


def test_they_batch_and_differentiate_to_every_order() -> None:
    x = np.array([0.3, 1.7])
    f = lambda x: special.erfcx(x) * special.exprel(x) + special.sici(x)[0] * special.dawsn(x)
    assert gc.check_gradients(lambda x: f(x).sum(), x).ok
    third = gc.grad(gc.grad(gc.grad(f)))
    np.testing.assert_allclose(gc.jit(gc.vmap(third))(x), [third(v) for v in x], rtol=1e-13)
    step = 1e-4
    rise = (gc.vmap(gc.grad(gc.grad(f)))(x + step) - gc.vmap(gc.grad(gc.grad(f)))(x - step)) / (2 * step)
    np.testing.assert_allclose(gc.vmap(third)(x), rise, rtol=1e-6)


def test_formulas_are_those_of_textbooks() -> None:
    x = np.array([0.3, 1.2])
    shown = {
        special.ndtr: ("Φ(x)", "φ(x)"), special.expi: ("Ei(x)", "exp(x) ⊘ x"), special.erfcx: ("erfcx(x)", "erfcx′(x)"),
        special.ellipk: ("K(x)", "K′(x)"), special.ellipe: ("E(x)", "E′(x)"),
        special.exp1: ("E₁(x)", "−E₀(x)"), special.j0: ("J₀(x)", "−J₁(x)"), special.i0: ("I₀(x)", "I₁(x)"),
    }  # fmt: skip
    for f, (value, slope) in shown.items():
        text = str(gc.explain(lambda x, f=f: f(x).sum(), x))
        assert value in text
        assert slope in text
    latex = gc.explain(lambda x: special.expn(3, x).sum(), x).latex()
    assert r"\operatorname{E}_{3}" in latex


def test_devices_need_no_library() -> None:
    text = gc.compile(lambda x: special.erfcx(x) + special.spence(x), np.ones(40), target="sm_80").ptx
    assert ".extern .func" not in text
