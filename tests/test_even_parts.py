"""What is smooth at a kink has its second and third derivatives there, however the kink is written.

`gradc.passes.evenness` adds them before a derivative is taken.  One Hessian asks many cases at once: a sum of functions
of a variable each, whose Hessian is diagonal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc import special
from gradc.passes import FORWARD, SMOOTH, run_passes

Function = Callable[[Any], Any]
W = np.array([3.0, -4.0])

#: ways to write c·|t|, with c
SIZES: dict[str, tuple[Function, float]] = {
    "|t|": (np.abs, 1),
    "|−2t|": (lambda t: np.abs(-2 * t), 2),
    "|t/3|": (lambda t: np.abs(t / 3), 1 / 3),
    "|2t − 5t|": (lambda t: np.abs(2 * t - t * 5), 3),
    "max(t, −t)": (lambda t: np.maximum(t, -t), 1),
    "max(2t, −2t)": (lambda t: np.maximum(2 * t, -2 * t), 2),
    "max(t, 0) − min(t, 0)": (lambda t: np.maximum(t, 0) - np.minimum(0, t), 1),
    "√(t·t)": (lambda t: np.sqrt(t * t), 1),
    "√(t²)": (lambda t: np.sqrt(t**2), 1),
    "(t²)^½": (lambda t: (t**2) ** 0.5, 1),
    "t·sign t": (lambda t: t * np.sign(t), 1),
    "‖t·w‖": (lambda t: np.linalg.norm(t * W), 5),
    "‖(t)‖": (lambda t: np.linalg.norm(t[None]), 1),
    "‖t·(1, 1)‖": (lambda t: np.linalg.norm(t * np.ones(2)), 2**0.5),
    "hypot(3t, −4t)": (lambda t: np.hypot(3 * t, -4 * t), 5),
    "|t| in a view": (lambda t: np.abs(t[None])[0], 1),
    "|t| in a row": (lambda t: np.abs(t[None, None])[0, 0], 1),
}
#: functions with g(0) = 0 and g′(0) = 1
ODD: tuple[Function, ...] = (
    lambda u: u, np.tanh, np.sin, np.arctan, np.sinh, special.erf, np.expm1, np.log1p, lambda u: u / (1 + u),
    lambda u: (u[None] * 2)[0] / 2, lambda u: u * (1 + u * u) ** 0.5,
)  # fmt: skip
SLOPES = tuple(1.0 if g is not special.erf else 2 / np.pi**0.5 for g in ODD)


def diagonal(functions: list[Function]) -> Function:
    """Their sum, each of an element of its own."""
    return lambda v: sum(f(v[k]) for k, f in enumerate(functions))


def seconds(f: Function, x: Any) -> list[Any]:
    """The diagonal of a Hessian that is diagonal, by both modes over each other, and compiled."""
    ones = np.ones_like(x)

    def along(v: Any) -> Any:
        return gc.jvp(f, (v,), (ones,))[1]

    compiled = gc.jit(lambda v: gc.hvp(f, (v,), (ones,))[0])
    return [gc.grad(along)(x), gc.grad(lambda v: gc.grad(f)(v) @ ones)(x), gc.hvp(f, (x,), (ones,))[0], compiled(x)]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("second", ["|−2t|", "max(t, 0) − min(t, 0)", "‖t·w‖", "hypot(3t, −4t)", "|t| in a view"])
def test_products_of_two_ways_to_write_one_kink(second):
    b, d = SIZES[second]
    f, x = diagonal([lambda t, a=a: a(t) * b(t) for a, _ in SIZES.values()]), np.zeros(len(SIZES))
    for found in seconds(f, x):
        np.testing.assert_allclose(found, [2 * c * d for _, c in SIZES.values()], rtol=1e-12)
    np.testing.assert_array_equal(gc.grad(f)(x), 0)


@pytest.mark.parametrize("of", ["line", "plane"])
def test_products_of_odd_functions_of_a_kink(of):
    def pair(g: Function, h: Function) -> Function:
        if of == "line":
            return lambda t: g(np.abs(t)) * h(np.abs(2 * t))
        return lambda t: g(np.linalg.norm(t * W)) * h(np.linalg.norm(-t * W / 5))

    odd = list(zip(ODD, SLOPES, strict=True))
    cases = [(pair(odd[k][0], h), odd[k][1] * d) for k in (0, 4) for h, d in odd]
    f, x = diagonal([g for g, _ in cases]), np.zeros(len(cases))
    for found in seconds(f, x):
        np.testing.assert_allclose(found, [(4 if of == "line" else 10) * want for _, want in cases], rtol=1e-12)


#: smooth functions of two numbers x and y: their second and third derivatives at 0 by (x, x), (x, y), (y, y); (x, x, y)
SMOOTH_AT_0: dict[str, tuple[Function, tuple[float, float, float], float]] = {
    "softplus": (lambda v: (np.maximum(v, 0) + np.log1p(np.exp(-np.abs(v)))).sum(), (0.25, 0, 0.25), 0),
    "log cosh": (lambda v: (np.abs(v) + np.log1p(np.exp(-2 * np.abs(v)))).sum(), (1, 0, 1), 0),
    "log cosh‖v‖": (lambda v: np.log(np.cosh(np.linalg.norm(v))), (1, 0, 1), 0),
    "max·min": (lambda v: np.maximum(v[0], v[1]) * np.minimum(v[1], v[0]), (0, 1, 0), 0),
    "max² + min²": (lambda v: np.maximum(v[0], v[1]) ** 2 + np.minimum(v[0], v[1]) ** 2, (2, 0, 2), 0),
    "|x − y|·|2y − 2x|": (lambda v: np.abs(v[0] - v[1]) * np.abs(2 * v[1] - 2 * v[0]), (4, -4, 4), 0),
    "‖v‖·‖2v‖": (lambda v: np.linalg.norm(v) * np.linalg.norm(2 * v), (4, 0, 4), 0),
    "tanh‖v‖·‖v‖·eʸ": (lambda v: np.tanh(np.linalg.norm(v)) * np.linalg.norm(v) * np.exp(v[1]), (2, 0, 2), 2),
    "‖v‖·‖v‖ of rows": (
        lambda v: (np.linalg.norm(v[None], axis=1) * np.linalg.norm(v[None] / 2, axis=1))[0], (1, 0, 1), 0
    ),
    "|3 − 3(x + 1)|·|x + 1 − 1|": (lambda v: np.abs(3 - 3 * (v[0] + 1)) * np.abs(v[0] + 1 - 1), (6, 0, 0), 0),
    "std·std": (lambda v: np.std(v) * np.std(2 * v), (1, -1, 1), 0),
    "std·std kept": (lambda v: np.std(v, keepdims=True)[0] * np.std(-v), (0.5, -0.5, 0.5), 0),
    "hypot·hypot": (lambda v: np.hypot(v[0], v[1]) * np.hypot(-3 * v[1], 3 * v[0]), (6, 0, 6), 0),
    "(1 + r)² − 2r": (lambda v: (1 + np.linalg.norm(v)) ** 2 - 2 * np.linalg.norm(v), (2, 0, 2), 0),
    "e⁻ʳ + r": (lambda v: np.exp(-np.linalg.norm(v)) + np.linalg.norm(v), (1, 0, 1), 0),
    "r·tanh r of √": (lambda v: np.sqrt(v @ v) * np.tanh(np.sqrt(v @ v)), (2, 0, 2), 0),
    "exp(|x||2x| + |y||3y|)": (
        lambda v: np.exp(np.abs(v[0]) * np.abs(2 * v[0]) + np.abs(v[1]) * np.abs(3 * v[1]) + v[1]), (4, 0, 7), 4
    ),
    "|v|·|2v| as a matrix product": (lambda v: np.abs(v) @ np.abs(2 * v), (4, 0, 4), 0),
    "|v|·|v| by einsum": (lambda v: np.einsum("i,i->", np.abs(v), np.abs(v)), (2, 0, 2), 0),
    "in vmap": (lambda v: gc.vmap(lambda t: np.abs(t) * np.abs(2 * t))(v).sum(), (4, 0, 4), 0),
    "in cond": (lambda v: gc.cond(v[0] < 1, lambda v: (np.abs(v) * np.tanh(np.abs(v))).sum(), np.sum, v), (2, 0, 2), 0),
    "in jit": (lambda v: gc.jit(lambda t: np.abs(t) * np.abs(2 * t) * np.exp(v[1]))(v).sum(), (4, 0, 4), 4),
    "cbrt⁶ + cbrt³·y": (lambda v: np.cbrt(v[0]) ** 6 + np.cbrt(v[0]) ** 3 * v[1], (2, 1, 0), 0),
    "|x|^1.5·√|x|": (lambda v: np.abs(v[0]) ** 1.5 * np.sqrt(np.abs(v[0])), (2, 0, 0), 0),
    "xʸ of |x|": (lambda v: np.abs(v[0]) ** (2 + 0 * v[1]), (2, 0, 0), 0),
    "a kink of the third derivative": (lambda v: np.linalg.norm(v) ** 3, (0, 0, 0), 0),
}  # fmt: skip


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", SMOOTH_AT_0)
def test_smooth_functions_of_kinks(name):
    f, (xx, xy, yy), xxy = SMOOTH_AT_0[name]
    at = np.zeros(2)
    for h in (gc.hessian(f), gc.jit(gc.hessian(f)), gc.jacobian(gc.jacobian(f, mode="forward"), mode="reverse")):
        np.testing.assert_allclose(h(at), [[xx, xy], [xy, yy]], rtol=1e-12, atol=1e-15)
    for first, then, last in ((0, 0, 1), (1, 0, 0)):
        bent = gc.grad(lambda v, i=first, j=then: gc.grad(lambda v: gc.grad(f)(v)[i])(v)[j])(at)[last]
        assert name == "a kink of the third derivative" or abs(bent - xxy) <= 1e-12
    elsewhere = np.array([0.7, -0.4])
    along = np.array([0.3, 0.9])
    steps = [gc.grad(f)(elsewhere + h * along) for h in (1e-5, -1e-5)]
    np.testing.assert_allclose(gc.hvp(f, (elsewhere,), (along,))[0], (steps[0] - steps[1]) / 2e-5, rtol=1e-6, atol=1e-9)


ROOTS: tuple[tuple[Function, float], ...] = (
    (lambda t: np.cbrt(t) ** 3, 1), (lambda t: np.cbrt(t) * np.cbrt(t) * np.cbrt(t), 1), (lambda t: np.cbrt(t**3), 1),
    (lambda t: np.cbrt(t * t) * np.cbrt(t), 1), (lambda t: (t ** (1 / 3)) ** 3, 1), (lambda t: t**0.25 * t**0.75, 1),
    (lambda t: np.sqrt(np.sqrt(t)) ** 4, 1), (lambda t: np.sqrt(t) ** 3 * np.sqrt(t), 0), (lambda t: (t**2) ** 1.5, 0),
    (lambda t: np.sqrt(t**6), 0), (lambda t: np.cbrt(t**2) ** 1.5, 0), (lambda t: np.sqrt(t**2) * np.cbrt(t), 0),
    (lambda t: (t**4) ** 0.25, 0), (lambda t: np.sqrt(t * t * t * t), 0), (lambda t: np.cbrt(np.sqrt(t)) ** 6, 1),
)  # fmt: skip


def test_powers_of_roots_are_what_they_were_written_as():
    x = np.array([-8.0, -1.0, 0.0, 1e-3, 2.0, 3.0])
    for k, (f, slope) in enumerate(ROOTS):
        with np.errstate(invalid="ignore"):
            value = f(x)
        np.testing.assert_allclose(gc.jit(f)(x), value, rtol=1e-14, err_msg=str(k))
        for g in (gc.grad(f), gc.jit(gc.grad(f))):
            assert g(0.0) == slope, k


def test_a_gradient_costs_nothing_for_it():
    def f(x: Any) -> Any:
        return (np.log1p(np.abs(x)) * np.tanh(np.abs(x))).sum() + np.linalg.norm(x) * np.sin(np.linalg.norm(3 * x))

    x = np.ones(3)
    compiled = gc.jit(gc.value_and_grad(f)).lower(x)
    assert not any("even" in node.op.name for node in compiled.graph.nodes)
    second = gc.jit(gc.hessian(f)).lower(x)
    assert any("even" in node.op.name for node in second.graph.nodes)
    for shown in (run_passes(gc.trace(f, x), steps) for steps in (FORWARD, SMOOTH)):
        np.testing.assert_array_equal(shown.evaluate(x)[0], f(x))


def test_many_kinks_of_one_number_stay_linear():
    """Each adds what lies between it and the sum, at most."""

    def f(n: int) -> Function:
        def chain(x: Any) -> Any:
            for _ in range(n):
                x = np.tanh(x + np.abs(x - 1))
            return x

        return chain

    small, large = (len(run_passes(gc.trace(f(n), 1.0), SMOOTH).nodes) for n in (100, 200))
    assert large < 2.1 * small


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_even_parts_of_narrow_floats_are_narrow(dtype):
    """Squares are summed in float32; what they are added to keeps its dtype."""
    x = np.array([1.0, 2.0], np.float32).astype(gc.spec((), dtype).dtype)
    for f in (lambda x: np.sum(np.where(x > 0, np.std(x) * x, 0)), lambda x: np.hypot(x[0], x[1]) ** 2):
        found = gc.hessian(f)(x)
        assert found.dtype == x.dtype
        wide = gc.hessian(f)(x.astype(np.float64))
        np.testing.assert_allclose(found.astype(np.float64), wide, atol=16 * 2.0**-9)  # 8 roundings of up to 2


def test_orders_beyond_the_promise_do_not_multiply():
    """Terms are added for derivatives to third order: those beyond grow as of a function without a kink."""

    def smooth(x: Any) -> Any:
        return np.sum(np.sin(2 + np.sin(x)) ** 3)

    def counts(f: Function) -> list[int]:
        found = []
        for _ in range(5):
            found.append(len(gc.trace(f, np.zeros(3)).nodes))
            f = gc.grad(lambda x, f=f: np.sum(np.sin(f(x))))
        return found

    bent, straight = counts(lambda x: smooth(np.maximum(x, 0))), counts(smooth)
    assert all(bent[k] * straight[k - 1] < 2 * bent[k - 1] * straight[k] for k in (3, 4)), (bent, straight)
