"""What transforms take and give: directions of any dtype, axes as trees, and functions that travel."""

from __future__ import annotations

import contextlib
import functools
import pickle
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import gradc as gc

X = np.array([1.0, 2.0, 3.0])
X32 = X.astype(np.float32)
A = np.array([[1.0, -1.0, 0.5], [0.3, 2.0, 1.0]])


@contextlib.contextmanager
def refused(error: type[Exception], words: str) -> Iterator[None]:
    """The body raises ``error`` with ``words`` in a message that names a line of this file first."""
    with pytest.raises(error, match=words) as caught:
        yield
    assert re.match(r"\S*test_transforms\.py:\d+", str(caught.value)), str(caught.value)


def model(x: Any) -> Any:
    return np.tanh(A.astype(x.dtype) @ x)


# -- tangents and cotangents -------------------------------------------------------------------------------------------

DIRECTIONS: dict[str, Any] = {
    "float64": np.array([1.0, 0.0, 2.0]),
    "float32": np.array([1.0, 0.0, 2.0], np.float32),
    "float16": np.array([1.0, 0.0, 2.0], np.float16),
    "int8": np.array([1, 0, 2], np.int8),
    "uint64": np.array([1, 0, 2], np.uint64),
    "bool": np.array([True, False, True]),
    "list": [1.0, 0.0, 2.0],
    "big-endian": np.array([1.0, 0.0, 2.0], ">f8"),
}


@pytest.mark.parametrize("name", DIRECTIONS)
def test_a_direction_is_cast_to_its_partner_eager_and_jitted(name: str) -> None:
    v = DIRECTIONS[name]
    loss = lambda x: np.sum(model(x) ** 2)
    for x in (X, X32):
        exact = np.asarray(v).astype(x.dtype)
        wanted = gc.jvp(model, (x,), (exact,)), gc.vjp(model, x)[1](model(x)), gc.hvp(loss, (x,), (exact,))
        got = gc.jvp(model, (x,), (v,)), gc.vjp(model, x)[1](model(x).astype(np.float64)), gc.hvp(loss, (x,), (v,))
        for g, w in zip(gc.tree.leaves(got), gc.tree.leaves(wanted), strict=True):
            assert g.dtype == x.dtype
            np.testing.assert_array_equal(g, w)
        if isinstance(v, np.ndarray):
            pushed = gc.jit(lambda x, v: gc.jvp(model, (x,), (v,))[1])(x, v)
            bent = gc.jit(lambda x, v: gc.hvp(loss, (x,), (v,))[0])(x, v)
            assert pushed.dtype == bent.dtype == x.dtype
            tolerance = 8 * np.finfo(x.dtype).eps  # tanh, and sums of three
            np.testing.assert_allclose(pushed, wanted[0][1], rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(bent, wanted[2][0], rtol=64 * tolerance, atol=64 * tolerance)


def test_python_numbers_and_constants_are_directions() -> None:
    for one in (1.0, 1, True, np.float32(1), np.int8(1), np.array(1)):
        for run in (lambda f: f, gc.jit):
            _, slope = run(lambda x, one=one: gc.jvp(np.sin, (x,), (one,)))(0.3)
            assert slope == pytest.approx(np.cos(0.3)) and slope.dtype == np.float64
            assert run(lambda x, one=one: gc.vjp(np.sin, x)[1](one))(0.3)[0] == pytest.approx(np.cos(0.3))
    assert gc.jit(lambda x: gc.jvp(model, (x,), (np.ones(3),))[1])(X32).dtype == np.float32


def test_an_integer_has_no_direction() -> None:
    f = lambda x, n, flag: np.where(flag, x * n, 0.0)
    no_tangent = np.zeros((), [("float0", np.void, 0)])
    for zero in (None, 0, 0.0, False, np.int8(0), no_tangent):
        for run in (lambda f: f, gc.jit):
            got = run(lambda x, n, zero=zero: gc.jvp(f, (x, n, True), (1.0, zero, None)))(2.0, 3)
            assert got == (6.0, 3.0)
    assert gc.jvp(lambda x: (x * 2, x > 0), (X,), (X,))[1][1].dtype == np.bool_
    assert gc.vjp(lambda x: (x * 2, x > 0), X)[1]((X, None))[0].tolist() == (2 * X).tolist()
    assert gc.hvp(lambda x, n: x**3 * n, (2.0, 3), (1.0, None)) == (36.0, None)
    tree = {"w": X, "n": 3}
    assert gc.hvp(lambda p: np.sum(p["w"] ** 2) * p["n"], (tree,), ({"w": X, "n": 0},))[0]["n"] is None
    for run in (lambda f: f, gc.jit):
        with refused(gc.DTypeError, r"n is int64\[\]~; integers and bools have no tangent"):
            run(lambda x, n: gc.jvp(lambda x, n: x * n, (x, n), (1.0, 1.0)))(2.0, 3)
    with refused(gc.DTypeError, r"the result\[1\] is bool\[3\]; integers and bools have no cotangent"):
        gc.vjp(lambda x: (x * 2, x > 0), X)[1]((X, X))


def test_none_is_the_zero_direction_of_a_leaf_or_an_argument() -> None:
    p = {"w": X, "b": 2.0}
    f = lambda p, x: np.sum(p["w"] * x) + p["b"]
    assert gc.jvp(f, (p, X), (None, X))[1] == np.sum(X * X)
    assert gc.jvp(f, (p, X), ({"w": None, "b": 5.0}, None))[1] == 5.0
    assert gc.jvp(f, (p, X), (None, None))[1] == 0.0
    assert gc.vjp(f, p, X)[1](None)[1].tolist() == [0, 0, 0]


BAD_DIRECTIONS: dict[str, tuple[type[Exception], str, Callable[[Any], Any]]] = {
    "shape": (gc.ShapeError, r"the tangent of x has shape \(2,\), its partner \(3,\)",
              lambda x: gc.jvp(model, (x,), (np.ones(2),))),
    "a number for an array": (gc.ShapeError, r"the tangent of x has shape \(\)", lambda x: gc.jvp(model, (x,), (1.0,))),
    "complex": (gc.DTypeError, "the tangent of x is .* complex128", lambda x: gc.jvp(model, (x,), (1j * np.ones(3),))),
    "text": (gc.DTypeError, "the tangent of x is 'up'", lambda x: gc.jvp(model, (x,), ("up",))),
    "an object": (gc.DTypeError, "the tangent of x is", lambda x: gc.jvp(model, (x,), (object(),))),
    "a mask": (gc.DTypeError, "masked array", lambda x: gc.jvp(model, (x,), (np.ma.masked_array(X, X > 2),))),
    "nesting": (TypeError, "tangents must nest like its primal", lambda x: gc.jvp(
        lambda p: np.sum(p["a"]), ({"a": x},), ({"b": x},))),
    "count": (TypeError, "tangents must nest like primals: 2 of them for 1", lambda x: gc.jvp(model, (x,), (x, x))),
    "no tuple": (TypeError, "primals must be a tuple", lambda x: gc.jvp(model, x, x)),
    "no tuple of tangents": (TypeError, "tangents must be a tuple", lambda x: gc.hvp(np.sum, (x,), x)),
    "no function": (TypeError, "jvp expects a function", lambda x: gc.jvp(x, (x,), (x,))),
    "cotangent's shape": (gc.ShapeError, r"the cotangent of the result has shape \(3,\)",
                          lambda x: gc.vjp(model, x)[1](X)),
    "cotangent's nesting": (TypeError, "the cotangent must nest like the result of f", lambda x: gc.vjp(
        lambda x: (x, x), x)[1]([x])),
    "vector": (gc.ShapeError, "one float scalar", lambda x: gc.hvp(model, (x,), (x,))),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_DIRECTIONS)
def test_what_is_no_direction_is_refused_by_name_eager_and_jitted(name: str) -> None:
    error, words, run = BAD_DIRECTIONS[name]
    with refused(error, words):
        run(X)
    if name != "no function":
        with refused(error, words):
            gc.jit(run)(X)


def test_a_traced_direction_of_another_shape_is_refused_before_anything_is_compiled() -> None:
    with refused(gc.ShapeError, r"the tangent of x has shape \(2,\)"):
        gc.jit(lambda x, v: gc.jvp(model, (x,), (v,)))(X, np.ones(2))
    with refused(gc.ShapeError, r"the cotangent of the result has shape \(3,\)"):
        gc.jit(lambda x, v: gc.vjp(model, x)[1](v))(X, X)


def test_lists_of_primals_and_scipys_unit_vectors() -> None:
    loss = lambda w: np.sum((w - 1) ** 4) + w @ w
    columns = [gc.hvp(loss, [X], [row])[0] for row in np.eye(3, dtype=np.int8)]
    np.testing.assert_allclose(columns, gc.hessian(loss)(X), rtol=1e-14)


# -- axes as trees -----------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    left: Any
    right: Any


W, B = np.arange(12.0).reshape(3, 2, 2), np.arange(6.0).reshape(2, 3)
IN_AXES: dict[str, tuple[Any, tuple[Any, ...], Callable[..., Any]]] = {
    "one for all": (0, (B.T, W), lambda b, w: w @ b),
    "per argument": ((1, 0), (B, W), lambda b, w: w @ b),
    "negative": ((-1, -3), (B, W), lambda b, w: w @ b),
    "none": ((None, 0), (B[:, 0], W), lambda b, w: w @ b),
    "a dict": (({"w": 0, "b": -1},), ({"w": W, "b": B},), lambda p: p["w"] @ p["b"]),
    "a dict with none": (({"w": 0, "b": None},), ({"w": W, "b": B[:, 0]},), lambda p: p["w"] @ p["b"]),
    "a prefix": (({"l": 0, "b": 1},), ({"l": [W, {"v": W}], "b": B},), lambda p: (p["l"][0] + p["l"][1]["v"]) @ p["b"]),
    "a list for a tuple": (([0, 1],), ((W, B),), lambda t: t[0] @ t[1]),
    "a named tuple": ((Pair(0, 1),), (Pair(W, B),), lambda t: t.left @ t.right),
    "lists": ([[0, [1, None]]], ([W, [B, 2.0]],), lambda t: t[0] @ t[1][0] * t[1][1]),
    "a static leaf": (({"w": 0, "s": None},), ({"w": W, "s": "sum"},), lambda p: getattr(np, p["s"])(p["w"])),
    "NumPy integers": ((np.int64(1), np.int8(0)), (B, W), lambda b, w: w @ b),
}  # fmt: skip


def taken(axes: Any, tree: Any, k: int) -> Any:
    """Example ``k`` of a tree, by the axes as one would write them."""
    if axes is None or isinstance(axes, (int, np.integer)):
        return tree if axes is None else gc.tree.map(lambda a: np.take(a, k, axes), tree)
    if isinstance(tree, dict):
        return {key: taken(axes[key], part, k) for key, part in tree.items()}
    parts = [taken(a, part, k) for a, part in zip(axes, tree, strict=True)]
    return type(tree)(*parts) if isinstance(tree, Pair) else type(tree)(parts)


@pytest.mark.parametrize("name", IN_AXES)
def test_axes_of_arguments(name: str) -> None:
    in_axes, args, f = IN_AXES[name]
    axes = [in_axes] * len(args) if isinstance(in_axes, int) else in_axes
    wanted = np.stack([f(*(taken(a, x, k) for a, x in zip(axes, args, strict=True))) for k in range(3)])
    mapped = gc.vmap(f, in_axes=in_axes)
    np.testing.assert_allclose(mapped(*args), wanted, rtol=1e-14)
    np.testing.assert_allclose(gc.jit(mapped)(*args), wanted, rtol=1e-14)


def test_axes_of_results() -> None:
    x = np.arange(6.0).reshape(3, 2)
    f = lambda a: {"twice": a * 2, "parts": (np.sum(a), [a[0], 7.0]), "outer": np.outer(a, a)}
    got = gc.vmap(f, out_axes={"twice": 1, "parts": (0, [-1, None]), "outer": -1})(x)
    np.testing.assert_array_equal(got["twice"], 2 * x.T)
    np.testing.assert_array_equal(got["parts"][0], x.sum(axis=1))
    np.testing.assert_array_equal(got["parts"][1][0], x[:, 0])
    assert got["parts"][1][1] == 7.0
    np.testing.assert_array_equal(got["outer"], np.einsum("ki,kj->ijk", x, x))
    assert gc.vmap(lambda a: (a * 2, np.sum(a)), out_axes=(1, 0))(np.ones((3, 2)))[0].shape == (2, 3)
    assert gc.vmap(lambda: np.zeros(2), axis_size=3)().shape == (3, 2)
    assert gc.vmap(lambda x: x, in_axes=None, axis_size=3, out_axes=1)(X).shape == (3, 3)
    nested = gc.vmap(gc.vmap(lambda a, b: a * b, in_axes=(None, 0)), in_axes=(0, None))(X, X)
    np.testing.assert_array_equal(nested, np.outer(X, X))
    np.testing.assert_array_equal(gc.vmap(lambda x, *, k: x * k)(X, k=2.0), 2 * X)  # keywords are the same for all


BAD_AXES: dict[str, tuple[type[Exception], str, Callable[[], Any]]] = {
    "lengths": (gc.ShapeError, "differ in length: a has 3 along axis 0, b has 2 along axis 1",
                lambda: gc.vmap(lambda p: p["a"], ({"a": 0, "b": 1},))({"a": X, "b": np.ones((2, 2))})),
    "axis_size": (gc.ShapeError, "axis_size is 4, x has 3 along axis 0", lambda: gc.vmap(lambda x: x, axis_size=4)(X)),
    "no axis": (gc.ShapeError, r"b has shape \(\), so no axis 0",
                lambda: gc.vmap(lambda p: p["a"], 0)({"a": X, "b": 1.0})),
    "too few": (TypeError, "2 entries for 1 arguments", lambda: gc.vmap(lambda x: x, (0, 0))(X)),
    "other keys": (TypeError, r"in_axes\[0\] is \{'a': 0\}, but the argument there has the parts 'a', 'b'",
                   lambda: gc.vmap(lambda p: p["a"], ({"a": 0},))({"a": X, "b": X})),
    "too deep": (TypeError, r"in_axes\[0\].a is \(0,\), but the argument is no container there",
                 lambda: gc.vmap(lambda p: p["a"], ({"a": (0,)},))({"a": X})),
    "a float": (TypeError, "an axis is an integer or None, got 0.5", lambda: gc.vmap(np.sum, 0.5)),
    "a bool": (TypeError, "an axis is an integer or None, got True", lambda: gc.vmap(np.sum, (True,))),
    "result": (gc.ShapeError, r"axis 3 is out of bounds for result\[1\]",
               lambda: gc.vmap(lambda x: (x, x), out_axes=(0, 3))(X)),
    "result's nesting": (TypeError, r"out_axes is \(0, 1\), but the result",
                         lambda: gc.vmap(np.sin, out_axes=(0, 1))(X)),
    "result is not the same": (gc.ShapeError, "not the same for all", lambda: gc.vmap(np.sin, out_axes=None)(X)),
    "size": (TypeError, "axis_size must be an integer", lambda: gc.vmap(np.sin, axis_size="3")),  # type: ignore[arg-type]
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_AXES)
def test_axes_that_do_not_fit_are_named(name: str) -> None:
    error, words, run = BAD_AXES[name]
    with refused(error, words):
        run()


# -- what travels ------------------------------------------------------------------------------------------------------


def loss(x: Any) -> Any:
    """A module's function."""
    return np.sum(x**3)


def push(primals: Any, tangents: Any) -> Any:
    return primals[0], 5 * np.sum(tangents[0])


@gc.grad
def decorated(x: Any) -> Any:
    return np.sum(x**2)


class Model:
    k = 3.0

    @gc.grad
    def slope(self: Any, x: Any) -> Any:
        return x

    @gc.checkpoint
    def __call__(self, x: Any) -> Any:
        return np.sum(x) * self.k


state = gc.optim.adam(1e-3).init(X)
TRAVELLERS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "grad": (gc.grad(loss), (X,)),
    "grad with options": (gc.grad(loss, argnums=(0,), method="forward"), (X,)),
    "value_and_grad": (gc.value_and_grad(loss), (X,)),
    "jacobian": (gc.jacobian(loss, mode="reverse"), (X,)),
    "hessian": (gc.hessian(loss), (X,)),
    "vmap": (gc.vmap(loss, in_axes=(1,), out_axes=0), (A,)),
    "checkpoint": (gc.checkpoint(loss), (X,)),
    "custom_derivative": (gc.grad(gc.custom_derivative(loss, jvp=push)), (X,)),
    "pullback": (gc.vjp(loss, X)[1], (1.0,)),
    "jit": (gc.jit(loss), (X,)),
    "jit of grad": (gc.jit(gc.grad(loss)), (X,)),
    "vmap of grad of checkpoint": (gc.vmap(gc.grad(gc.checkpoint(loss))), (A,)),
    "compile": (gc.compile(gc.grad(loss), X), (X,)),
    "train_step": (gc.train_step(loss, gc.optim.adamw(gc.optim.cosine_decay_schedule(0.1, 10))),
                   (X, gc.optim.adamw(gc.optim.cosine_decay_schedule(0.1, 10)).init(X))),
    "clipped": (gc.optim.chain(gc.optim.clip_by_global_norm(1.0), gc.optim.sgd(0.1, 0.9)).init, (X,)),
    "update": (gc.optim.adam(1e-3).update, (X, state)),
    "warm-up": (gc.optim.warmup_cosine_decay_schedule(0.0, 1.0, 5, 20), (7,)),
    "linear": (gc.optim.linear_schedule(0.0, 1.0, 5), (2,)),
    "exponential": (gc.optim.exponential_decay(1.0, 5, 0.5), (2,)),
    "constant": (gc.optim.constant_schedule(0.5), (2,)),
    "unravel": (gc.tree.ravel({"a": X, "s": "name"})[1], (X,)),
    "decorated": (decorated, (X,)),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAVELLERS)
def test_what_is_returned_can_be_pickled(name: str) -> None:
    function, args = TRAVELLERS[name]
    moved = pickle.loads(pickle.dumps(function))
    copy = lambda: gc.tree.map(np.copy, args)
    got, wanted = moved(*copy()), function(*copy())
    assert gc.tree.structure(got) == gc.tree.structure(wanted)
    for g, w in zip(gc.tree.leaves(got), gc.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(g, w)


def test_transforms_look_like_the_function_and_work_as_methods() -> None:
    import inspect

    for made in (gc.grad(loss), gc.value_and_grad(loss), gc.jacobian(loss), gc.hessian(loss), gc.vmap(loss)):
        assert (made.__name__, made.__doc__) == ("loss", "A module's function.")
        assert list(inspect.signature(made).parameters) == ["x"] and "of loss" in repr(made)
    assert pickle.loads(pickle.dumps(decorated)) is decorated
    with pytest.raises(gc.DTypeError, match="holds no array"):
        Model().slope(1.0)
    assert Model.slope.__name__ == "slope" and gc.grad(lambda x: x * 3.0).__name__ == "<lambda>"


def test_cloudpickle_sends_functions_of_main_by_value() -> None:
    pytest.importorskip("cloudpickle")
    script = """
        import sys, cloudpickle, numpy as np, gradc as gc

        @gc.jit
        def f(x): return x * 2

        @gc.grad
        def g(x): return np.sum(x**2)

        optimizer = gc.optim.adam(0.1)
        step = gc.train_step(lambda p, x: np.sum((p - x) ** 2), optimizer)
        things = [f, g, step, gc.jit(gc.vmap(lambda x: x + 1)), gc.hessian(lambda x: x**3), optimizer]
        sys.stdout.buffer.write(cloudpickle.dumps(things))
    """
    sent = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, check=True).stdout
    f, g, step, mapped, bent, optimizer = pickle.loads(sent)
    assert f(3.0) == 6.0 and g(3.0) == 6.0 and mapped(X).tolist() == (X + 1).tolist() and bent(2.0) == 12.0
    assert step(np.zeros(2), optimizer.init(np.zeros(2)), np.ones(2))[2] == 2.0


# -- jitted functions inside traces ------------------------------------------------------------------------------------


def fibonacci(n: int) -> tuple[Callable[[Any], Any], list[int]]:
    """Jitted functions that each call the two before them, and how often any was traced."""
    traces: list[int] = []
    table: dict[int, Callable[[Any], Any]] = {}

    def made(k: int) -> Callable[[Any], Any]:
        @gc.jit
        def f(x: Any) -> Any:
            traces.append(k)
            return np.sin(x) if k <= 2 else table[k - 1](x) + table[k - 2](x)

        return f

    for k in range(1, n + 1):
        table[k] = made(k)
    return table[n], traces


@pytest.mark.parametrize(
    "run", [lambda f: f(0.5), lambda f: gc.grad(f)(0.5), lambda f: gc.jit(gc.grad(gc.grad(f)))(0.5),
            lambda f: gc.vmap(f)(X)[0], lambda f: gc.fori_loop(0, 3, lambda i, c: f(c) * 1e-9, 0.5)],
)  # fmt: skip
def test_a_jitted_function_is_traced_once_for_all_calls_inside_traces(run: Callable[[Any], Any]) -> None:
    f, traces = fibonacci(40)
    run(f)
    assert sorted(traces) == list(range(1, 41))


def test_functions_that_call_each_other_stay_as_large_as_what_they_compute() -> None:
    f, _ = fibonacci(40)
    assert f(0.5) == pytest.approx(102334155 * np.sin(0.5), rel=1e-13)
    assert len(gc.trace(f, 0.5).nodes) < 200
    assert gc.grad(f)(0.5) == pytest.approx(102334155 * np.cos(0.5), rel=1e-13)


def test_a_jitted_function_that_reads_an_open_trace_belongs_to_it_alone() -> None:
    seen: list[Any] = []

    def outer(y: Any) -> Any:
        @gc.jit
        def inner(x: Any) -> Any:
            seen.append(x)
            return x * y

        return inner(2.0) + inner(y) + inner(y)

    assert gc.grad(outer)(3.0) == 14.0 and len(seen) == 3
    shapes: list[Any] = []

    @gc.jit
    def by_shape(x: Any, power: Any = 2) -> Any:
        shapes.append(x.shape)
        return np.sum(x**power)

    total = gc.jit(lambda x: by_shape(x) + by_shape(x[:2]) + by_shape(x[1:]) + by_shape(2.0) + by_shape(x, 3.0))
    assert total(X) == np.sum(X**2) + 5 + 13 + 4 + np.sum(X**3)
    assert shapes == [(3,), (2,), (), (3,)]


def test_a_function_that_calls_itself_for_ever_is_told() -> None:
    @gc.jit
    def forever(x: Any) -> Any:
        return forever(x) + 1

    with refused(gc.TraceError, "forever calls itself with arguments of the same shapes"):
        forever(1.0)

    @functools.partial(gc.jit, static="n")
    def power(x: Any, n: int) -> Any:
        return x * power(x, n=n - 1) if n else x

    assert power(2.0, n=5) == 64.0 and gc.grad(lambda x: power(x, n=2))(2.0) == 12.0

    @gc.jit
    def halves(x: Any) -> Any:
        return x[0] if x.shape == (1,) else halves(x[: x.shape[0] // 2]) + halves(x[x.shape[0] // 2 :])

    assert halves(np.arange(16.0)) == 120.0


CALLS: dict[str, Callable[[], Any]] = {
    "missing": lambda: gc.jit(lambda x, y: x)(1.0),
    "too many": lambda: gc.grad(lambda x: x)(1.0, 2.0),
    "unknown keyword": lambda: gc.vmap(lambda x: x)(X, z=1.0),
    "missing keyword": lambda: gc.grad(lambda x, *, k: x * k)(1.0),
    "argnums": lambda: gc.grad(lambda x: x, argnums=0.5)(1.0),  # type: ignore[arg-type]
    "static": lambda: gc.jit(lambda x: x, static="y"),
    "no function": lambda: gc.jit(3),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_that_cannot_be_name_the_line(name: str) -> None:
    with refused(TypeError, "."):
        CALLS[name]()
