"""Functions with a derivative of their own: one rule, both modes, all orders, batched, in loops, compiled."""

from __future__ import annotations

import gc as garbage
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc import nn
from gradc.diff.modes import pull_back
from gradc.ops.custom import DerivativeRule

X = np.array([-1.5, -0.2, 0.3, 2.0])
FORMS = ["jvp", "vjp"]


def logistic(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def custom_softplus(form: str) -> gc.CustomDerivative:
    """log(1 + eˣ), with a rule that calls a function with a rule of its own."""

    @gc.custom_derivative
    def softplus(x: Any) -> Any:
        return np.log1p(np.exp(x))

    inner = gc.custom_derivative(
        logistic,
        jvp=lambda primals, tangents: (inner(*primals), tangents[0] * inner(*primals) * (1 - inner(*primals))),
    )
    if form == "jvp":
        softplus.defjvp(lambda primals, tangents: (softplus(*primals), tangents[0] * inner(*primals)))
    else:
        softplus.defvjp(lambda x: (softplus(x), lambda ct: (ct * inner(x),)))
    return softplus


def plain(x: Any) -> Any:
    return np.log1p(np.exp(x))


TRANSFORMS: dict[str, Callable[[Callable[..., Any]], Any]] = {
    "value": lambda f: f(X),
    "jvp": lambda f: gc.jvp(f, (X,), (X + 1,))[1],
    "vjp": lambda f: gc.vjp(f, X)[1](X + 1)[0],
    "gradient": lambda f: gc.grad(lambda x: f(x).sum())(X),
    "forward gradient": lambda f: gc.grad(lambda x: f(x).sum(), method="forward")(X),
    "second": lambda f: gc.grad(gc.grad(f))(0.3),
    "third": lambda f: gc.grad(gc.grad(gc.grad(f)))(0.3),
    "forward over reverse": lambda f: gc.hvp(lambda x: (f(x) ** 2).sum(), (X,), (X + 1,))[0],
    "reverse over forward": lambda f: gc.grad(lambda x: gc.jvp(f, (x,), (X,))[1].sum())(X),
    "Jacobian": lambda f: gc.jacobian(lambda x: f(np.cumsum(x)))(X),
    "Hessian": lambda f: gc.hessian(lambda x: (f(x) * f(x[::-1])).sum())(X),
    "vmap": lambda f: gc.vmap(f)(X),
    "gradient of vmap": lambda f: gc.grad(lambda x: (gc.vmap(f)(x) * X).sum())(X),
    "vmap of gradient": lambda f: gc.vmap(gc.grad(f))(X),
    "vmap of second": lambda f: gc.vmap(gc.grad(gc.grad(f)))(X),
    "vmap of vmap": lambda f: gc.vmap(gc.vmap(gc.grad(f)))(X.reshape(2, 2)),
    "jvp of vmap": lambda f: gc.jvp(gc.vmap(f), (X,), (X,))[1],
    "inside a loop": lambda f: gc.grad(lambda x: gc.scan(lambda c, _: (f(c), None), x, length=4)[0])(0.3),
    "second inside a loop": lambda f: gc.grad(gc.grad(lambda x: gc.fori_loop(0, 3, lambda i, c: f(c), x)))(0.3),
    "inside a checkpoint": lambda f: gc.grad(lambda x: gc.checkpoint(lambda y: f(f(y)))(x).sum())(X),
    "inside a branch": lambda f: gc.grad(lambda x: gc.cond(x > 0, f, np.sin, x))(0.3),
    "after sin": lambda f: gc.grad(lambda x: f(np.sin(x)).sum())(X),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_right_rule_changes_nothing(name: str, form: str) -> None:
    run, f = TRANSFORMS[name], custom_softplus(form)
    np.testing.assert_allclose(run(f), run(plain), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["gradient", "second", "gradient of vmap", "inside a loop", "inside a checkpoint"])
def test_compiled(name: str, form: str) -> None:
    run, f = TRANSFORMS[name], custom_softplus(form)
    wanted = run(f)
    for x in (X, 0.3):
        np.testing.assert_allclose(gc.jit(gc.grad(lambda x: f(x).sum()))(x), logistic(x), rtol=1e-14)
    np.testing.assert_allclose(gc.jit(lambda: run(f))(), wanted, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("form", FORMS)
def test_the_rule_is_used_and_not_the_body(form: str) -> None:
    """Straight-through rounding: the derivative of the identity."""
    if form == "jvp":
        ste = gc.custom_derivative(np.round, jvp=lambda primals, tangents: (np.round(primals[0]), tangents[0]))
    else:
        ste = gc.custom_derivative(np.round, vjp=lambda x: (np.round(x), lambda ct: (ct,)))
    loss = lambda x: (ste(x) ** 2).sum()
    wanted = 2 * np.round(X)
    for method in ("reverse", "forward"):
        np.testing.assert_array_equal(gc.grad(loss, method=method)(X), wanted)
    np.testing.assert_array_equal(gc.jit(gc.grad(loss))(X), wanted)
    np.testing.assert_array_equal(gc.grad(lambda x: (gc.vmap(ste)(x) ** 2).sum())(X), wanted)
    np.testing.assert_array_equal(gc.grad(loss, method="symbolic")(X), np.zeros(4))  # what round itself says


@pytest.mark.parametrize("form", FORMS)
def test_several_arguments_nested_with_integers_and_several_results(form: str) -> None:
    def f(p: dict[str, Any], k: Any, x: Any) -> Any:
        return {"y": p["a"] * x + p["b"][0], "n": k + 1, "z": [p["a"] * p["a"]]}

    def push(primals: Any, tangents: Any) -> Any:
        (p, _, x), (dp, dk, dx) = primals, tangents
        assert dk is None
        return f(*primals), {"y": dp["a"] * x + p["a"] * dx + dp["b"][0], "n": None, "z": [2 * p["a"] * dp["a"]]}

    def pull_rule(p: Any, k: Any, x: Any) -> Any:
        def pull(ct: Any) -> Any:
            assert ct["n"] is None
            a = ct["y"] * x + 2 * p["a"] * ct["z"][0]
            return {"a": a, "b": [ct["y"]]}, None, ct["y"] * p["a"]

        return f(p, k, x), pull

    g = gc.custom_derivative(f, **({"jvp": push} if form == "jvp" else {"vjp": pull_rule}))  # type: ignore[arg-type]
    p, k = {"a": X + 1, "b": [X]}, np.arange(4)

    def loss(h: Any) -> Callable[..., Any]:
        return lambda p, x: (h(p, k, x)["y"] ** 2).sum() + h(p, k, x)["z"][0].sum() + h(p, k, x=x)["y"][0]

    for method in ("reverse", "forward"):
        got = gc.grad(loss(g), argnums=(0, 1), method=method)(p, X)
        wanted = gc.grad(loss(f), argnums=(0, 1), method=method)(p, X)
        np.testing.assert_allclose(got[0]["a"], wanted[0]["a"], rtol=1e-14)
        np.testing.assert_allclose(got[0]["b"][0], wanted[0]["b"][0], rtol=1e-14)
        np.testing.assert_allclose(got[1], wanted[1], rtol=1e-14)


@pytest.mark.parametrize("form", FORMS)
def test_an_operand_shared_by_a_batch_gathers_its_cotangents(form: str) -> None:
    if form == "jvp":
        f = gc.custom_derivative(lambda w, x: w * x, jvp=lambda p, t: (p[0] * p[1], t[0] * p[1] + p[0] * t[1]))
    else:
        f = gc.custom_derivative(lambda w, x: w * x, vjp=lambda w, x: (w * x, lambda ct: (ct * x, ct * w)))

    def total(w: Any) -> Any:
        return gc.vmap(lambda x: f(w, x))(X).sum()

    assert gc.grad(total)(2.0) == pytest.approx(X.sum())
    assert gc.jvp(total, (2.0,), (1.0,))[1] == pytest.approx(X.sum())
    rows = gc.vmap(lambda w: gc.vmap(lambda x: f(w, x))(X))(X)
    np.testing.assert_allclose(rows, np.outer(X, X))


def test_what_is_structurally_zero_stays_absent() -> None:
    """The tangent of one argument alone does not compute the part of the other."""
    f = gc.custom_derivative(lambda x, y: x * y, jvp=lambda p, t: (p[0] * p[1], t[0] * p[1] + np.exp(p[0]) * t[1]))
    graph = gc.trace(gc.grad(lambda x, y: f(x, y).sum()), X, X)
    assert not any(n.op.name == "exp" for n in graph.nodes)


def test_the_rule_is_traced_when_a_derivative_is_asked_for() -> None:
    calls: list[int] = []

    def rule(primals: Any, tangents: Any) -> Any:
        calls.append(1)
        return np.sin(primals[0]), tangents[0] * np.cos(primals[0])

    f = gc.custom_derivative(np.sin, jvp=rule)
    f(X)
    gc.jit(f)(X)
    assert not calls
    gc.grad(f)(1.0)
    assert calls == [1]


def test_a_wrong_rule_is_named() -> None:
    wrong = gc.custom_derivative(np.sin, jvp=lambda p, t: (np.sin(p[0]), t[0] * np.sin(p[0])))
    report = gc.check_gradients(lambda x: (3 * wrong(x * 2)).sum(), X)
    assert not report.ok
    found = report.first_wrong
    assert (found.stage, found.facet, found.op) == ("rule", "jvp", "sin") and "not the derivative of sin" in str(found)
    assert gc.check_gradients(lambda x: (3 * custom_softplus("vjp")(x * 2)).sum(), X).ok


@pytest.mark.parametrize("f", [lambda x: np.exp2(2.7 * x), nn.gelu, lambda x: np.log10(2 + x * x)])
def test_constants_of_a_narrow_rule_are_rounded_as_those_of_its_function_where_both_are_checked(f: Any) -> None:
    """log 2 in the slope of 2ˣ, √2 in gelu itself: rounded to float32 they are off by more than the check allows."""
    for rule in ({"jvp": lambda p, t: gc.jvp(f, p, t)}, {"vjp": lambda p: gc.vjp(f, p)}):
        smooth = gc.custom_derivative(f, **rule)
        report = gc.check_gradients(lambda x, g=smooth: gc.vmap(g)(x) + g(x), np.array([0.7, -0.3], np.float32))
        assert report.ok, report


def test_a_function_that_asks_for_its_own_dtype_is_checked_as_it_was_traced() -> None:
    def halved(x: Any) -> Any:
        return gc.fori_loop(0, 2, lambda i, c: (c * 0.5).astype(np.float16), x)

    for rule in ({"jvp": lambda p, t: gc.jvp(halved, p, t)}, {"vjp": lambda p: gc.vjp(halved, p)}):
        assert gc.check_gradients(gc.custom_derivative(halved, **rule), np.array([1.0, -2.0], np.float16)).ok


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("form", ["jvp", "vjp"])
def test_the_rule_of_a_narrow_function_is_checked_in_float64_with_it(form: str, dtype: str) -> None:
    """Also one that calls a function with a rule, in a batch, a loop and a derivative of its own."""
    softplus = custom_softplus(form)
    x = X.astype(dtype)
    for f in (
        softplus, gc.vmap(softplus), lambda x: gc.fori_loop(0, 2, lambda i, y: softplus(y), x),
        gc.grad(lambda x: softplus(x).sum()),
    ):  # fmt: skip
        report = gc.check_gradients(f, x)
        assert report.ok, report


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_a_rule_may_hold_a_loop_whose_carry_is_lost_or_kept_as_it_was(steps: int) -> None:
    """A carry that every step replaces by a constant is that constant, or what it started with if no step is taken."""

    def counted(x: Any) -> Any:
        return gc.fori_loop(0, steps, lambda i, y: np.tanh(x), x)

    def tested(x: Any) -> Any:
        return gc.while_loop(lambda s: s[0] < steps, lambda s: (s[0] + 1, np.float64(0)), (0, x), max_steps=5)[1]

    f = gc.custom_derivative(counted, vjp=lambda x: gc.vjp(counted, x))
    g = gc.custom_derivative(tested, jvp=lambda primals, tangents: (tested(*primals), tested(*tangents)))
    for mode in ("reverse", "forward"):
        assert gc.grad(f, method=mode)(0.5) == gc.grad(counted, method=mode)(0.5)
        assert gc.grad(g, method=mode)(0.5) == (0.0 if steps else 1.0)


def test_formulas_show_the_rule() -> None:
    shown = str(gc.explain(lambda x: custom_softplus("jvp")(x).sum(), X))
    assert "∂L/∂x = σ(x)" in shown


@pytest.mark.parametrize("form", FORMS)
def test_a_graph_travels_without_its_rule(form: str) -> None:
    f = custom_softplus(form)
    graph = pickle.loads(pickle.dumps(gc.trace(f, X)))
    np.testing.assert_array_equal(graph.evaluate(X)[0], plain(X))
    exe = pickle.loads(pickle.dumps(gc.compile(gc.grad(lambda x: f(x).sum()), X)))
    np.testing.assert_allclose(exe(X), logistic(X), rtol=1e-14)
    with pytest.raises(gc.TraceError, match="did not travel"):
        pull_back(graph.outputs, graph.inputs, graph.outputs)


def test_as_a_method_and_a_decorator_with_a_rule() -> None:
    @gc.custom_derivative(jvp=lambda primals, tangents: (primals[0] * 2, tangents[0] * 3))
    def twice(x: Any) -> Any:
        """Twice."""
        return x * 2

    assert twice.__doc__ == "Twice." and "jvp rule" in repr(twice)
    assert gc.grad(twice)(1.0) == 3

    class Layer:
        @gc.custom_derivative
        def apply(self: Any, x: Any) -> Any:
            return x * 2

        apply.defvjp(lambda self, x: (x * 2, lambda ct: (None, ct * 5)))

    layer = Layer()
    with pytest.raises(gc.DTypeError, match="dtype object"):  # an object that is no container of arrays
        layer.apply(1.0)


def refused(error: type[Exception], words: str, run: Callable[[], Any]) -> None:
    with pytest.raises(error, match=words) as caught:
        run()
    assert __file__.rpartition("/")[2] in str(caught.value)


def sine(**rules: Any) -> gc.CustomDerivative:
    return gc.custom_derivative(np.sin, **rules)


BAD: dict[str, tuple[type[Exception], str, Callable[[], Any]]] = {
    "no rule": (TypeError, "no rule yet", lambda: sine()(1.0)),
    "two rules": (TypeError, "one rule serves both", lambda: sine(jvp=lambda p, t: t, vjp=lambda x: x)),
    "not a function": (TypeError, "expects a function", lambda: gc.custom_derivative(3)),
    "not a rule": (TypeError, "a jvp rule is a function", lambda: sine(jvp=3)),
    "no pair": (gc.TraceError, r"pair \(result, tangent\)", lambda: gc.grad(sine(jvp=lambda p, t: t[0]))(1.0)),
    "not linear": (
        gc.TraceError, "not linear in its tangents", lambda: gc.grad(sine(jvp=lambda p, t: (p[0], t[0] ** 2)))(1.0),
    ),
    "not linear backwards": (
        gc.TraceError, "not linear in its cotangents",
        lambda: gc.jvp(sine(vjp=lambda x: (x, lambda ct: (ct * ct,))), (1.0,), (1.0,)),
    ),
    "shape": (
        gc.ShapeError, r"has shape \(\)",
        lambda: gc.grad(lambda x: sine(jvp=lambda p, t: (p[0], t[0].sum()))(x).sum())(X),
    ),
    "nesting": (
        gc.TraceError, "must nest as its partner", lambda: gc.grad(sine(jvp=lambda p, t: (p[0], {"a": t[0]})))(1.0),
    ),
    "no function": (
        gc.TraceError, "return a function second", lambda: gc.grad(sine(vjp=lambda x: (x, x)))(1.0),
    ),
    "no tuple": (
        gc.TraceError, "a tuple with a cotangent", lambda: gc.grad(sine(vjp=lambda x: (x, lambda ct: ct)))(1.0),
    ),
    "too many": (
        gc.TraceError, "got 2 of them", lambda: gc.grad(sine(vjp=lambda x: (x, lambda ct: (ct, ct))))(1.0),
    ),
    "reads outside": (
        gc.TraceError, "not its argument",
        lambda: gc.grad(lambda y: gc.custom_derivative(lambda x: x * y, jvp=lambda p, t: (p[0], t[0]))(2.0))(1.0),
    ),
    "the rule reads outside": (
        gc.TraceError, "not its argument",
        lambda: gc.grad(lambda y: gc.grad(sine(jvp=lambda p, t: (p[0], t[0] * y)))(2.0) * y)(1.0),
    ),
    "the jvp rule reads what is over": (
        gc.TraceError, "the jvp rule of sin reads .*not its argument(.|\n)*Pass it to sin as an arg.* a tangent",
        lambda: gc.grad(lambda y: sine(jvp=lambda p, t: (p[0], t[0] * y))(2.0 * y))(1.0),
    ),
    "the vjp rule reads what is over": (
        gc.TraceError, "the vjp rule of sin reads .*not its argument(.|\n)*Pass it to sin as an arg.* a cotangent",
        lambda: gc.jit(gc.grad(lambda y: sine(vjp=lambda x: (x, lambda ct: (ct * y,)))(2.0 * y)))(1.0),
    ),
    "keyword only": (
        TypeError, "only be passed by keyword",
        lambda: gc.custom_derivative(lambda x, *, k: x * k, jvp=lambda p, t: t)(1.0, k=2.0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told(name: str) -> None:
    refused(*BAD[name])


def test_numbers_with_extreme_values_follow_the_rule() -> None:
    """What a rule is for: no 0·∞ where the plain derivative overflows."""

    @gc.custom_derivative
    def logaddexp(x: Any, y: Any) -> Any:
        top = np.maximum(x, y)
        return top + np.log(np.exp(x - top) + np.exp(y - top))

    @logaddexp.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        (x, y), (dx, dy) = primals, tangents
        out = logaddexp(x, y)
        return out, np.exp(x - out) * dx + np.exp(y - out) * dy

    assert gc.grad(logaddexp, argnums=(0, 1))(1e300, 0.0) == (1.0, 0.0)


# -- rules that call functions with rules, and rules with loops --------------------------------------------------------


def scaled_identity(form: str, factor: float) -> gc.CustomDerivative:
    """The identity, whose derivative is said to be ``factor``: value and rule can be told apart."""
    if form == "jvp":
        return gc.custom_derivative(lambda x: x, jvp=lambda p, t: (p[0], factor * t[0]))
    return gc.custom_derivative(lambda x: x, vjp=lambda x: (x, lambda ct: (factor * ct,)))


FIRST_AND_SECOND: dict[str, Callable[[Callable[..., Any]], tuple[Any, Any]]] = {
    "reverse": lambda f: (gc.grad(f)(1.5), gc.grad(gc.grad(lambda x: f(x) ** 2 / 2))(1.5)),
    "compiled": lambda f: (gc.jit(gc.grad(f))(1.5), gc.jit(gc.grad(gc.grad(lambda x: f(x) ** 2 / 2)))(1.5)),
    "batched": lambda f: (gc.vmap(gc.grad(f))(X)[0], gc.vmap(gc.grad(gc.grad(lambda x: f(x) ** 2 / 2)))(X)[0]),
    "in a loop": lambda f: (
        gc.grad(lambda x: gc.fori_loop(0, 1, lambda i, c: f(c), x))(1.5),
        gc.grad(gc.grad(lambda x: gc.fori_loop(0, 1, lambda i, c: f(c), x) ** 2 / 2))(1.5),
    ),
    "jitted inside": lambda f: (gc.grad(gc.jit(f))(1.5), gc.grad(gc.grad(lambda x: gc.jit(f)(x) ** 2 / 2))(1.5)),
}


@pytest.mark.parametrize("inner", FORMS)
@pytest.mark.parametrize("way", FIRST_AND_SECOND)
def test_a_rule_is_evaluated_in_its_own_direction_and_differentiated_in_the_next(way: str, inner: str) -> None:
    """foo = 2x by a rule that calls bar, the identity with derivative 3: foo' = 2·bar(1) = 2.  Of ct = foo(x) = 2x the
    cotangent 2·bar(ct) has the value 4x and, by bar's rule, the derivative 2·3·2."""
    bar = scaled_identity(inner, 3.0)
    foo = gc.custom_derivative(lambda x: 2 * x, vjp=lambda x: (2 * x, lambda ct: (2 * bar(ct),)))
    assert FIRST_AND_SECOND[way](foo) == (2.0, 12.0)


@pytest.mark.parametrize("inner", FORMS)
@pytest.mark.parametrize("outer", FORMS)
def test_in_the_other_direction_the_values_of_a_rule_are_transposed(outer: str, inner: str) -> None:
    bar = scaled_identity(inner, 3.0)
    if outer == "jvp":
        foo = gc.custom_derivative(lambda x: 2 * x, jvp=lambda p, t: (2 * p[0], 2 * bar(t[0])))
    else:
        foo = gc.custom_derivative(lambda x: 2 * x, vjp=lambda x: (2 * x, lambda ct: (2 * bar(ct),)))
    assert gc.jvp(foo, (1.0,), (1.0,)) == (2.0, 2.0)
    assert gc.grad(foo)(1.0) == gc.grad(foo, method="forward")(1.0) == gc.jit(gc.grad(foo))(1.0) == 2.0
    np.testing.assert_array_equal(gc.jacobian(foo)(X), 2 * np.eye(4))


def test_a_rule_may_call_its_own_function_on_the_tangent() -> None:
    """A x = b: dx = solve(A, db − dA x), which is recursive; against the plain function."""

    def closed(A: Any, b: Any) -> Any:
        d = A[0, 0] * A[1, 1] - A[0, 1] * A[1, 0]
        return np.stack([A[1, 1] * b[0] - A[0, 1] * b[1], A[0, 0] * b[1] - A[1, 0] * b[0]]) / d

    solve = gc.custom_derivative(closed)

    @solve.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        (A, b), (dA, db) = primals, tangents
        x = solve(A, b)
        return x, solve(A, db - dA @ x)

    A, b = np.array([[2.0, 0.3], [0.1, 1.5]]), np.array([1.0, -2.0])

    def all_of(f: Callable[..., Any]) -> list[Any]:
        loss = lambda A, b: (f(A, b) ** 2).sum()
        return [
            gc.jvp(f, (A, b), (np.ones((2, 2)), b))[1], *gc.grad(loss, argnums=(0, 1))(A, b),
            gc.jit(gc.grad(loss))(A, b), gc.hessian(loss)(A, b), gc.hessian(loss, argnums=1)(A, b),
            gc.jit(gc.hvp)(loss, (A, b), (A, b))[0], gc.vmap(gc.grad(loss), in_axes=(None, 0))(A, np.stack([b, 2 * b])),
        ]  # fmt: skip

    for got, wanted in zip(all_of(solve), all_of(closed), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12)


LINEAR_LOOPS: dict[str, Callable[[Any], Any]] = {  # each is 1.75·ct
    "carry and const": lambda ct: gc.fori_loop(0, 2, lambda i, u: ct + 0.5 * u, ct),
    "carry from zero": lambda ct: gc.fori_loop(0, 3, lambda i, u: ct + 0.5 * u, np.zeros(4)),
    "carry alone": lambda ct: 7 * gc.fori_loop(0, 2, lambda i, u: 0.5 * u, ct),
    "rows": lambda ct: 1.75 * gc.scan(lambda c, r: (c, r), None, ct)[1],
    "a counter beside": lambda ct: gc.fori_loop(0, 3, lambda i, u: u + ct * (7 / 12) * i**2 / 5 * 3, 0 * ct),
    "branch": lambda ct: gc.cond(True, lambda c: 1.75 * c, lambda c: 0 * c, ct),
    "while": lambda ct: gc.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, ct + 0.5 * s[1]), (0, 0 * ct), 5)[1],
}


@pytest.mark.parametrize("name", LINEAR_LOOPS)
def test_a_rule_may_hold_a_loop_that_is_linear(name: str) -> None:
    loop = LINEAR_LOOPS[name]
    f = gc.custom_derivative(lambda x: 1.75 * x, vjp=lambda x: (1.75 * x, lambda ct: (loop(ct),)))
    square = lambda x: (f(x) ** 2).sum()
    for got in (gc.grad(square)(X), gc.jit(gc.grad(square))(X), gc.grad(square, method="forward")(X)):
        np.testing.assert_allclose(got, 2 * 1.75**2 * X, rtol=1e-14)
    np.testing.assert_allclose(gc.jacobian(f)(X), 1.75 * np.eye(4), rtol=1e-14)
    np.testing.assert_allclose(gc.jvp(f, (X,), (X,))[1], 1.75 * X, rtol=1e-14)
    np.testing.assert_allclose(gc.hessian(square)(X), 2 * 1.75**2 * np.eye(4), rtol=1e-14)


NOT_LINEAR: dict[str, Callable[[Any], Any]] = {
    "a square in a loop": lambda ct: gc.fori_loop(0, 2, lambda i, u: u * ct, ct),
    "a condition": lambda ct: gc.cond(ct[0] > 0, lambda c: c, lambda c: 2 * c, ct),
    "a loop until": lambda ct: gc.while_loop(lambda u: u[0] < 3, lambda u: 2 * u, ct, 5),
    "a constant added": lambda ct: ct + 1,
    "a constant chosen": lambda ct: np.where(X > 0, ct, 1.0),
    "a constant carry": lambda ct: gc.fori_loop(0, 2, lambda i, u: u + ct, np.ones(4)),
    "a constant branch": lambda ct: gc.cond(X[0] > 0, lambda c: c, lambda c: X, ct),
    "a constant": lambda ct: np.ones(4),
    "a sign": np.sign,
    "rounded": lambda ct: np.round(ct) + ct,
    "rounded in a loop": lambda ct: gc.fori_loop(0, 2, lambda i, u: u + np.floor(ct), ct),
    "an integer": lambda ct: ct.astype(int) * 1.0,
    "a test": lambda ct: (ct > 0) * X,
    "a place": lambda ct: np.argmax(ct) * X,
    "a remainder": lambda ct: ct % 1.0,
    "held": lambda ct: gc.stop_gradient(ct),
}


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_a_rule_that_is_not_linear_is_refused_in_both_directions(name: str) -> None:
    f = gc.custom_derivative(lambda x: x, vjp=lambda x: (x, lambda ct: (NOT_LINEAR[name](ct),)))
    refused(gc.TraceError, "not linear in its cotangents", lambda: gc.grad(lambda x: f(x).sum())(X))
    refused(gc.TraceError, "not linear in its cotangents", lambda: gc.jvp(f, (X,), (X,)))


P = np.array([2, 0, 2, 1])

LINEAR: dict[str, Callable[[Any, Any], Any]] = {
    "a selection": lambda x, ct: np.where(x > 0, ct, 0) * np.exp(300 * x) * 1e-200,
    "a quotient": lambda x, ct: ct / (x + 3),
    "rows gathered": lambda x, ct: ct[P] * x,
    "rows added": lambda x, ct: (0 * x).at[P].add(ct),
    "rows replaced": lambda x, ct: ct.at[1].set(0).at[P[:2]].multiply(x[:2]).at[3].divide(x[3]),
    "zeros like it": lambda x, ct: np.zeros_like(ct) + ct,
    "sorted by the primals": lambda x, ct: ct[np.argsort(x)],
    "casts": lambda x, ct: ct.astype(np.float32).astype(np.float64) * np.median(x),
    "running products": lambda x, ct: np.cumsum(np.cumprod(x) * ct),
    "sums and views": lambda x, ct: np.sum(ct) + np.pad(np.diff(np.roll(ct, 1)), (1, 0)),
    "products": lambda x, ct: np.outer(x, x) @ ct + np.convolve(ct, np.ones(3), "same"),
    "a branch of the primals": lambda x, ct: gc.cond(x[0] > 0, lambda c: c, lambda c: 2 * c, ct),
    "a derivative": lambda x, ct: gc.jvp(lambda v: np.sin(v) ** 3, (x,), (ct,))[1],
    "a mask": lambda x, ct: ct * (x == x.max()),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LINEAR)
def test_whatever_is_linear_is_a_rule_in_both_directions(name: str, form: str) -> None:
    apply = LINEAR[name]
    columns = gc.trace(lambda x: np.stack([apply(x, u) for u in np.eye(4) + 0 * x], -1), X).evaluate(X)[0]
    if form == "jvp":
        f, jacobian = gc.custom_derivative(lambda x: x, jvp=lambda p, t: (p[0], apply(p[0], t[0]))), columns
    else:
        f, jacobian = gc.custom_derivative(lambda x: x, vjp=lambda x: (x, lambda ct: (apply(x, ct),))), columns.T
    weights = np.array([0.5, -1.5, 2.0, 0.25])
    tolerance = {"rtol": 1e-6 if name == "casts" else 1e-13, "atol": 1e-13}
    np.testing.assert_allclose(gc.jvp(f, (X,), (weights,))[1], jacobian @ weights, **tolerance)
    np.testing.assert_allclose(gc.vjp(f, X)[1](weights)[0], weights @ jacobian, **tolerance)


def test_a_zero_tangent_meets_nothing_infinite_in_a_rule() -> None:
    f = gc.custom_derivative(lambda x, y: x * y, jvp=lambda p, t: (p[0] * p[1], t[0] * p[1] + np.inf * p[0] * t[1]))
    assert gc.grad(f)(2.0, 3.0) == gc.jit(gc.grad(f))(2.0, 3.0) == gc.jvp(lambda x: f(x, 3.0), (2.0,), (1.0,))[1] == 3.0


def test_an_implicit_function_by_iteration_with_arrays_of_its_own() -> None:
    """A x = b by Richardson's iteration from zeros, an array in the body; its rule calls it on the cotangent."""

    @gc.custom_derivative
    def solve(A: Any, b: Any) -> Any:
        step = lambda s: (s[0] + 1, s[1] + 0.3 * (b - A @ s[1]))
        return gc.while_loop(lambda s: s[0] < 200, step, (0, np.zeros(2)), 200)[1]

    @solve.defvjp
    def rule(A: Any, b: Any) -> Any:
        x = solve(A, b)

        def pull(ct: Any) -> Any:
            back = solve(A.T, ct)
            return -np.outer(back, x), back

        return x, pull

    A, b = np.array([[2.0, 0.3], [0.1, 1.5]]), np.array([1.0, -2.0])
    inverse = np.linalg.inv(A)
    loss = lambda A, b: (solve(A, b) ** 2).sum() / 2
    by_b = inverse.T @ inverse @ b
    for run in (lambda f: f, gc.jit):
        np.testing.assert_allclose(run(gc.grad(loss, argnums=1))(A, b), by_b, rtol=1e-12)
        np.testing.assert_allclose(run(gc.grad(loss))(A, b), -np.outer(by_b, inverse @ b), rtol=1e-12)
        np.testing.assert_allclose(run(gc.hessian(loss, argnums=1))(A, b), inverse.T @ inverse, rtol=1e-12)
    np.testing.assert_allclose(gc.jvp(solve, (A, b), (None, b))[1], inverse @ b, rtol=1e-12)
    batch = gc.vmap(gc.grad(loss, argnums=1), (None, 0))(A, np.stack([b, 2 * b]))
    np.testing.assert_allclose(batch, [by_b, 2 * by_b], rtol=1e-12)


def test_a_rule_that_calls_its_own_function_goes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of a rule may hold nodes with that very rule."""
    made: list[weakref.ref[Any]] = []
    begin = DerivativeRule.__init__

    def counted(self: DerivativeRule, *args: Any) -> None:
        made.append(weakref.ref(self))
        begin(self, *args)

    monkeypatch.setattr(DerivativeRule, "__init__", counted)

    def derived() -> float:
        f = gc.custom_derivative(np.exp, jvp=lambda primals, tangents: (g(*primals), g(*primals) * tangents[0]))
        g = gc.jit(f)  # traced once, so every call of it has the same rule
        second = gc.trace(gc.grad(gc.grad(g)), 1.0).evaluate(1.0)
        return float(np.ravel(np.asarray(second))[0])

    assert derived() == pytest.approx(np.e)
    garbage.collect()
    assert made and not any(r() is not None for r in made)


def test_a_rule_is_linear_through_products_with_the_zeros_of_a_loop() -> None:
    """A tangent that every step replaces by 0 is 0, and a product of matrices with it adds nothing."""

    def stepped(x: Any) -> Any:
        return gc.fori_loop(0, 3, lambda i, c: np.tanh(np.floor(2.7 * c)), x) @ x

    f = gc.custom_derivative(stepped, jvp=lambda p, t: gc.jvp(stepped, p, t))
    x = np.array([[1.01, 0.24], [0.11, 1.25]])
    np.testing.assert_allclose(gc.grad(lambda x: f(x).sum())(x), gc.grad(lambda x: stepped(x).sum())(x), rtol=1e-15)
