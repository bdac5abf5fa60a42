"""The careless and the hostile caller: what is passed, donated, jitted, copied, or kept too long.

Every mistake gets one screen of help.  See `test_careless_use` for what happens inside a traced function.
"""

from __future__ import annotations

import array
import copy
import fractions
import functools
import operator
import pickle
import threading
import warnings
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.api.executable import Executable
from gradc.machines.options import Options
from gradc.trace import open_traces
from tests.careless_harness import M, X, clean, refused  # noqa: F401 - `clean` is a fixture for every test

# -- what is passed ---------------------------------------------------------------------------------------------------


class Foreign:
    """An array of another library."""

    def __array__(self, dtype=None, copy=None):
        return np.arange(3.0)


class Broken:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("the array is on another device")


class Sub(np.ndarray):
    pass


def _matrix() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.matrix([[1.0]])


@pytest.mark.parametrize(
    "x",
    [
        memoryview(np.arange(3.0)),
        array.array("d", [0, 1, 2]),
        Foreign(),
        range(3),
        np.arange(3.0).flat,
        np.arange(3.0).view(Sub),
        np.arange(6.0)[::2] / 2,
        np.arange(3.0)[::-1][::-1],
        np.arange(3.0).astype(">f8"),
        np.frombuffer(b"\0" * 8 + np.arange(3.0).tobytes() + b"\0", np.uint8)[8:-1].view(np.float64),
        np.frombuffer(b"\0" + np.arange(3.0).tobytes(), np.uint8)[1:].view(np.float64),
        np.broadcast_to(np.arange(3.0), (1, 3))[0],
        np.nditer(np.arange(3.0)).operands[0],
    ],
    ids=lambda x: type(x).__name__,
)
def test_what_numpy_takes_for_an_array_is_one(x):
    result = gc.jit(lambda x: x * 2)(x)
    assert type(result) is np.ndarray
    np.testing.assert_array_equal(result, [0, 2, 4])
    np.testing.assert_array_equal(gc.jvp(lambda x: x * 2.0, (np.asarray(x, float),), (X,))[1], 2 * X)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.array([1j]), "x has dtype complex128"),
        (1j, "x has dtype complex128"),
        (np.array([1, None]), "x has dtype object"),
        (np.array(["a"]), "x has dtype <U1"),
        (np.array(["2020"], "M8[D]"), "x has dtype datetime64"),
        (np.zeros(2, [("a", "f4")]), "x has dtype .*'a'"),
        (np.zeros(2, np.longdouble), "x: dtype|x has dtype"),
        (np.ma.masked_array(np.ones(3), [0, 1, 0]), r"x is a masked array(.|\n)*\.filled"),
        (_matrix(), "x is an np.matrix(.|\n)*np.asarray"),
        (fractions.Fraction(1, 2), "x has dtype object"),
        ({1.0}, "x has dtype object .set"),
        ((i for i in [1.0]), "x has dtype object .generator"),
        (2**70, "x: the integer 1180591620717411303424 does not fit"),
        (Broken(), "x: Broken is not an array: the array is on another device"),
        (..., "x has dtype object"),
    ],
    ids=lambda x: type(x).__name__ if not isinstance(x, str) else "",
)
def test_what_is_no_array_is_named(x, words):
    if isinstance(x, np.ndarray) and x.dtype == np.float64 and x.dtype == np.longdouble:
        pytest.skip("long double is float64 here")
    for call in (gc.jit(lambda x: x * 2), functools.partial(gc.trace, lambda x: x * 2)):
        with refused(gc.DTypeError, words):
            call(x)
    with refused(gc.DTypeError, words.replace("x", "a?.*", 0)):
        gc.grad(lambda x: (x * 2.0).sum())(x)


def test_no_derivative_forgets_a_mask():
    with refused(gc.DTypeError, "mask would be forgotten"):
        gc.grad(lambda x: x.sum())(np.ma.masked_array(np.ones(3), [0, 1, 0]))
    with refused(gc.DTypeError, "mask would be forgotten"):
        gc.trace(lambda x: x, X).evaluate(np.ma.masked_array(np.ones(3), [0, 1, 0]))


def test_an_executable_takes_what_it_was_compiled_for():
    f = gc.jit(lambda x, y: x + y).lower(X, X)
    np.testing.assert_array_equal(f(X, X), 2 * X)
    for args, kwargs in [((X,), {}), ((X, X, X), {}), ((), {}), (((X, X),), {}), ((X,), {"y": X}), ((X, X), {"z": 1})]:
        with refused(TypeError, "nest differently"):
            f(*args, **kwargs)
        with refused(TypeError, "nest differently"):
            f.bind(*args, **kwargs)
    with refused(TypeError, r"\(\*, 'a'\)"):
        f(X, "a")
    with refused(gc.ShapeError, r"y has shape \(3, 1\), compiled for \(3,\)"):
        f(X, np.ones((3, 1)))
    with refused(gc.DTypeError, "y has dtype float32, compiled for float64"):
        f(X, X.astype("f4"))
    with refused(gc.DTypeError, r"y is a memoryview, not an array; pass np\.asarray\(y\)"):
        f(X, memoryview(X))


def test_out_takes_plain_arrays_that_overlap_nothing():
    f = gc.jit(lambda x, y: x + y).lower(X, X)
    x, out = X.copy(), np.empty(6)
    for bad, error, words in [
        (np.empty(4), gc.StorageError, r"float64\[4\], not float64\[3\]"),
        (np.empty(3, "f4"), gc.StorageError, "float32"),
        (x, gc.StorageError, "shares memory with x"),
        (out[::2], gc.StorageError, "not C-contiguous"),
        (X, gc.StorageError, "read-only"),
        (5, gc.StorageError, "int"),
        ((out[:3], out[3:]), TypeError, "out= takes 1"),
    ]:
        with refused(error, words, line=error is gc.StorageError):
            f(x, x, out=bad)
    np.testing.assert_array_equal(f(x, x, out=out[3:]), 2 * X)
    np.testing.assert_array_equal(out[3:], 2 * X)


def test_bind_refuses_what_it_would_have_to_copy():
    f = gc.jit(lambda x, y: x + y).lower(X, X)
    for bad in (np.ones(6)[::2], X.astype(">f8")):
        with refused(gc.StorageError, "x: cannot bind an array that needs a copy"):
            f.bind(bad, X)


# -- donation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: (X, X.copy()), "x is donated(.|\n)*read-only"),
        (lambda: (lambda a: (a, a))(np.ones(3)), "x is written in place but shares memory with y"),
        (lambda: (lambda a: (a[:3], a[2:5]))(np.ones(6)), "shares memory"),
        (lambda: (np.ones(6)[::2], X), "not C-contiguous"),
        (lambda: (np.ones(3, ">f8"), X), "byte order"),
        (lambda: (np.ones(3).view(Sub), X), "Sub, not a plain ndarray"),
        (lambda: (1.0, 2.0), "float, not a plain ndarray"),
    ],
)
def test_donated_memory_must_be_the_callers_to_give(make, words):
    with refused(gc.StorageError, words):
        gc.jit(lambda x, y: x + y, donate="x")(*make())


def test_donation_that_cannot_be_is_refused():
    with refused(TypeError, "passed by keyword; pass it by position"):
        gc.jit(lambda x: x * 2, donate="x")(x=np.ones(3))
    with refused(TypeError, "donated x is float64.3., the result at its place is bool"):
        gc.jit(lambda x: x > 0, donate=0)(np.ones(3))
    with refused(TypeError, "cannot be both static and donated"):
        gc.jit(lambda x: x, static=0, donate=0)
    with refused(TypeError, "takes 1 positional arguments; there is no 3"):
        gc.jit(lambda x: x, donate=3)
    z = np.ones(3)
    with refused(gc.StorageError, "a is written in place but shares memory with b"):
        gc.jit(lambda p: {k: v + 1 for k, v in p.items()}, donate=0)({"a": z, "b": z})


def test_donation_and_static_together_and_views_of_ones_own():
    f = gc.jit(lambda x, n, name: x * n, static=("n", "name"), donate="x")
    buffer = np.ones(6)
    view = buffer[3:]
    assert f(view, 3, name="q") is view
    np.testing.assert_array_equal(buffer, [1, 1, 1, 3, 3, 3])
    assert f(np.zeros(0), 3, "q").shape == (0,)


def test_a_train_step_refuses_what_it_cannot_train():
    optimizer = gc.optim.adam(0.1)
    loss = lambda p, x: ((x @ p["w"]) ** 2).mean()
    step, w = gc.train_step(loss, optimizer), np.ones((3, 2))
    state = optimizer.init({"w": w})
    with refused(gc.DTypeError, "'w'(.|\n)*no tangent"):
        step({"w": w.astype(int)}, state, M)
    step({"w": np.broadcast_to(w, w.shape)}, state, M)  # it is copied: the caller's memory is the caller's
    np.testing.assert_array_equal(w, np.ones((3, 2)))
    with refused(gc.ShapeError, "one float scalar"):
        gc.train_step(lambda p, x: x @ p["w"], optimizer)({"w": w}, state, M)
    with refused(TypeError, "got 'adam'"):
        gc.train_step(loss, "adam")
    params, _, value = gc.train_step(lambda p, x: (x * p).sum() ** 2, optimizer, donate=False)(
        2.0, optimizer.init(2.0), X
    )
    assert value == 36 and params < 2


# -- what is jitted ---------------------------------------------------------------------------------------------------


class Model:
    scale = 2.0

    def __init__(self) -> None:
        self.w = np.ones(3)

    @gc.jit
    def decorated(self, x):
        return x * self.scale

    @gc.jit
    @staticmethod
    def static(x):
        return x * 3

    def plain(self, x):
        return x * self.w

    def __call__(self, x):
        return x * 5


def test_any_callable_can_be_jitted():
    model = Model()
    for f, expected in [
        (model.decorated, 2 * X),
        (Model.static, 3 * X),
        (gc.jit(model.plain), X),
        (gc.jit(model), 5 * X),
        (gc.jit(functools.partial(lambda a, b, *, c: a * b + c, 2.0, c=X)), 3 * X),
        (gc.jit(abs), X),
        (gc.jit(np.square), X**2),
        (gc.jit(operator.neg), -X),
        (gc.jit(list), X),
        (gc.jit(np.cumsum), np.cumsum(X)),
    ]:
        np.testing.assert_array_equal(f(X), expected)
    assert gc.jit(len)(X) == 3 and gc.jit(sum)(X) == 3
    np.testing.assert_array_equal(gc.jit(np.add)(X, X), 2 * X)
    np.testing.assert_array_equal(gc.jit(dict)(a=X)["a"], X)
    np.testing.assert_array_equal(gc.jit(lambda: np.ones(3))(), np.ones(3))


def test_what_is_no_function_is_told():
    for transform in (gc.jit, gc.grad, gc.value_and_grad, gc.jacobian, gc.hessian, gc.vmap):
        with refused(TypeError, "function, got (int|3)", line=transform is not gc.jit):
            transform(3)
    with refused(TypeError, "function to trace, got 3"):
        gc.trace(3, X)


def test_defaults_keywords_and_stars():
    f = gc.jit(lambda x, k=2.0: x * k)
    np.testing.assert_array_equal(f(X), 2 * X)
    np.testing.assert_array_equal(f(X, k=3.0), 3 * X)
    np.testing.assert_array_equal(gc.jit(lambda *a, **k: a[-1] + k["q"])(X, X, q=X), 2 * X)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'y'"):
        gc.jit(lambda x, y: x)(X)


def test_captured_state_is_that_of_the_first_call():
    model = Model()
    f = gc.jit(model.plain)
    f(X)
    model.w = 7 * np.ones(3)
    np.testing.assert_array_equal(f(X), X)
    f.clear()
    np.testing.assert_array_equal(f(X), 7 * X)


def test_static_values_are_told_apart_by_type_and_bits():
    f = gc.jit(lambda x, k: x * k, static="k")
    assert np.signbit(f(X, -0.0)).all() and not np.signbit(f(X, 0.0)).any()
    for _ in range(3):
        assert np.isnan(f(X, float("nan"))).all()
    assert "3 compiled" in repr(f)
    g = gc.jit(lambda x, k: x * (2 if k[0] is True else 3 if isinstance(k[0], float) else 4), static="k")
    assert [g(1.0, k) for k in ((True,), (1,), (1.0,))] == [2.0, 4.0, 3.0]


def test_a_static_argument_is_static_however_it_is_passed():
    for chosen in (1, "n"):
        f = gc.jit(lambda x, n: x + np.ones(n), static=chosen)
        np.testing.assert_array_equal(f(1.0, n=2), [2, 2])
        np.testing.assert_array_equal(f(1.0, 3), [2, 2, 2])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"static": 4}, "takes 2 positional arguments; there is no 4"),
        ({"static": 1.5}, "static=1.5"),
        ({"static": True}, "static=True"),
        ({"static": -1}, "static=-1"),
        ({"donate": "z"}, "no parameter 'z'; it has x, k"),
    ],
)
def test_options_that_name_no_argument(options, words):
    with refused(TypeError, words):
        gc.jit(lambda x, k: x, **options)


@pytest.mark.parametrize("value", [[1], X, {"a": 1}])
def test_a_static_value_must_be_hashable(value):
    with refused(TypeError, "static argument 'k' must be hashable, got (list|ndarray|dict)"):
        gc.jit(lambda x, k: x, static="k")(X, k=value)


def test_compiled_things_and_copies():
    f = gc.jit(np.sin)
    f(X)
    np.testing.assert_array_equal(copy.deepcopy(f)(X), f(X))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(f))(X), f(X))
    executable = f.lower(X)
    assert copy.copy(executable) is executable and copy.deepcopy([executable])[0] is executable
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(executable))(X), f(X))
    seen = Executable(executable.source_graph, Options(observe=lambda *_: None))
    with refused(gc.CompileError, "compiled with an observer: it cannot travel"):
        pickle.dumps(seen)


# -- leaks ------------------------------------------------------------------------------------------------------------


def leaked() -> Any:
    """A traced value that outlived its trace."""
    kept: list[Any] = []
    gc.jit(lambda x: kept.append(x) or x * 2)(X)
    return kept[0]


@pytest.mark.parametrize(
    "use",
    [
        lambda x: gc.jit(lambda y: y + x)(X),
        lambda x: gc.jit(lambda y: x * 2)(X),
        lambda x: gc.jit(lambda y: y)(x),
        lambda x: gc.grad(lambda y: (y * x).sum())(X),
        lambda x: gc.grad(lambda y: y.sum())(x),
        lambda x: gc.vmap(lambda y: y * 2)(x),
        lambda x: gc.jit(lambda y: gc.jit(lambda z: z + y)(x))(X),
        lambda x: gc.compile(lambda y: y + x, gc.spec(3)),
        lambda x: gc.trace(lambda: x),
    ],
)
def test_a_leaked_value_is_named_wherever_it_surfaces(use):
    with refused(gc.TraceError, "leaked traced value: traced array 'x'(.|\n)*return it instead"):
        use(leaked())


def test_a_generator_may_carry_a_leak():
    made: list[Any] = []
    gc.jit(lambda x: made.append(v * 2 for v in x) or x)(X)
    with refused(gc.TraceError, "leaked traced value"):
        gc.jit(lambda y: y + next(made[0]))(X)


def test_another_thread_is_another_trace():
    errors: list[BaseException] = []

    def worker(x):
        try:
            gc.jit(lambda y: y + x)(X)
        except gc.TraceError as error:
            errors.append(error)

    def f(x):
        thread = threading.Thread(target=worker, args=(x,))
        thread.start()
        thread.join()
        return x + 1

    np.testing.assert_array_equal(gc.jit(f)(X), X + 1)
    assert len(errors) == 1 and "leaked traced value" in str(errors[0])


def test_threads_may_trace_at_the_same_time():
    shared, wrong = gc.jit(lambda x: np.sin(x) * 2), []

    def work(k):
        try:
            for n in range(1, 4):
                own = gc.jit(gc.grad(lambda v, n=n: (np.sin(v) * k * n).sum()))
                np.testing.assert_allclose(own(X), np.cos(X) * k * n, rtol=1e-14)
                np.testing.assert_allclose(shared(np.full(n, k)), np.full(n, 2 * np.sin(k)), rtol=1e-14)
        except AssertionError as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(float(k),)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and "3 compiled" in repr(shared)


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_in_the_users_code_closes_the_trace(error):
    def f(x):
        raise error("mine")

    for transform in (gc.jit(f), gc.grad(f), gc.vmap(f), gc.jit(lambda x: gc.grad(f)(x))):
        with pytest.raises(error, match="mine"):
            transform(X)
        assert open_traces.get() == ()
    np.testing.assert_array_equal(gc.jit(lambda x: x + 1)(X), X + 1)


# -- options, and what a transform is told ----------------------------------------------------------------------------


def total(x: Any) -> Any:
    return (x**2.0).sum()


TOLD: dict[str, tuple[type[Exception], str, Any]] = {
    "threads": (ValueError, "threads=0: expected a whole number", lambda: gc.jit(total, threads=0)),
    "threads of a step": (ValueError, "threads='2'", lambda: gc.train_step(total, gc.optim.sgd(0.1), threads="2")),
    "versions": (ValueError, "versions=0", lambda: gc.jit(total, versions=0)),
    "fp": (ValueError, "fp='exact'", lambda: gc.jit(total, fp="exact")),
    "an extent": (gc.ShapeError, "spec: shape 3.5", lambda: gc.spec(3.5)),
    "a negative extent": (gc.ShapeError, "got -3", lambda: gc.spec((2, -3))),
    "a dtype": (gc.DTypeError, "spec: 'f99' is not a dtype", lambda: gc.spec(3, "f99")),
    "argnums": (TypeError, "counted from 0", lambda: gc.grad(total)(x=X)),
    "no function": (TypeError, "value_and_grad expects a function", lambda: gc.value_and_grad(3)),
    "no loss": (TypeError, "train_step expects a function", lambda: gc.train_step(3, gc.optim.sgd(0.1))),
    "no scalar": (gc.ShapeError, "hvp needs a function with one", lambda: gc.hvp(lambda x: x, (X,), (X,))),
    "a rate": (TypeError, "a learning rate is a number", lambda: gc.optim.sgd("0.1")),
    "a carry": (
        gc.TraceError, r"expected \*, got \(\*, \*\)", lambda: gc.fori_loop(0, 3, lambda i, c: (c, c), 1.0),
    ),
    "many conditions": (gc.ShapeError, "np.any", lambda: gc.cond(X > 0, lambda: 1.0, lambda: 2.0)),
    "a keyword": (
        TypeError, "missing a required argument",
        lambda: gc.custom_derivative(total, vjp=lambda x: (x, lambda c: (c,)))(y=1.0),
    ),
    "a static that is traced": (
        gc.TraceError, "static argument 1 is traced: traced array 'n'",
        lambda: gc.grad(gc.jit(lambda x, n: (x**n).sum(), static="n"), argnums=1)(X, 2.0),
    ),
    "a static that holds a traced one": (
        gc.TraceError, "static argument 'n' is traced",
        lambda: gc.grad(lambda x: gc.jit(lambda x, n: x.sum(), static="n")(x, n=(1, x)))(X),
    ),
    "an executable in a trace": (
        gc.DTypeError, "x is traced(.|\n)*call the function itself", lambda: gc.grad(gc.compile(total, gc.spec(3)))(X),
    ),
    "methods": (ValueError, "methods=", lambda: gc.check_gradients(total, X, methods=("backward",))),
    "arrays for a graph": (TypeError, "takes 1 arrays, got 2", lambda: gc.trace(total, X).evaluate(X, X)),
    "a target": (gc.CompileError, "no target 'sm_1'", lambda: gc.compile(total, X, target="sm_1")),
    "a cpu": (gc.CompileError, "cpu='fast'", lambda: gc.compile(total, X, cpu="fast")),
    "no state": (ValueError, "got a state None; use its own init", lambda: gc.optim.adam(0.1).update(X, None, X)),
    "no transformation": (TypeError, "chain takes transformations", lambda: gc.optim.chain(3)),
    "a schedule": (
        gc.DTypeError, "'a': dtype",
        lambda: gc.optim.sgd(lambda s: "a").update(X, gc.optim.sgd(lambda s: 1).init(X), X),
    ),
    "nothing to map": (TypeError, "tree.map expects a function", lambda: gc.tree.map(3, X)),
    "leaves": (gc.ShapeError, r"\[\*, \*\] takes 2 arrays", lambda: gc.tree.structure([X, X]).unflatten([X])),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_what_a_transform_cannot_use_is_told_where_it_was_written(name):
    error, words, call = TOLD[name]
    with refused(error, words):
        call()


def test_the_line_is_said_once():
    for call in (
        lambda: gc.hessian(total)(X, X),
        lambda: gc.train_step(total, gc.optim.sgd(0.1), has_aux=True)(X, gc.optim.sgd(0.1).init(X)),
    ):
        with pytest.raises(TypeError) as caught:
            call()
        assert str(caught.value).count("test_careless_calls.py:") == 1


def test_attributes_that_are_elsewhere_are_pointed_to():
    with pytest.raises(AttributeError, match=r"no attribute 'save'(.|\n)*f\.lower"):
        gc.jit(np.sin).save("sin.o")
    with pytest.raises(AttributeError, match=r"_calls\.py:\d+: x\.at\[…\] has no \.mul; it has .*\.multiply"):
        gc.jit(lambda x: x.at[0].mul(2))(X)


def test_what_holds_arrays_is_a_tree_or_registered():
    with pytest.raises(gc.DTypeError, match=r"If Apart holds arrays, make it a dataclass or .*gc\.tree\.register"):
        gc.jit(lambda p: p.w)(Apart())
    with pytest.raises(TypeError, match="one entry per argument, got a dict; write"):
        gc.hvp(lambda p: np.sum(p["w"] ** 2), {"w": X}, {"w": X})


def test_padding_is_named_in_lower_case():
    with pytest.raises(gc.ShapeError, match='"valid" or "same", got \'SAME\''):
        gc.nn.conv2d(np.ones((1, 4, 4)), np.ones((1, 1, 3, 3)), padding="SAME")


def test_a_directory_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no directory .*nowhere"):
        gc.compile(np.sin, gc.spec((3,))).save(tmp_path / "nowhere" / "sin.o")


class Apart:
    w = X
