"""Compiled functions: caching, static arguments, donation, inlining, and careless or hostile calls."""

from __future__ import annotations

import enum
import gc as garbage
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import gradc as gc


def test_compiles_once_per_shape_dtype_and_structure():
    f = gc.jit(lambda x: x * 2 + 1)
    for x in (np.ones(3), np.zeros(3), np.ones(4), np.ones(3, np.float32)):
        np.testing.assert_array_equal(f(x), x * 2 + 1)
        assert f(x).dtype == x.dtype
    assert "3 compiled" in repr(f)


def test_python_numbers_and_arrays_are_told_apart():
    f = gc.jit(lambda x, k: x * k)
    x = np.ones(2, np.float32)
    assert f(x, 2.0).dtype == np.float32
    assert f(x, np.array(2.0)).dtype == np.float64
    assert f(x, 2.0).dtype == np.float32


def test_decorator_with_options():
    @gc.jit(static="n")
    def power(x, n):
        return x**n if n > 1 else x

    assert power(3.0, 2) == 9.0 and power(3.0, n=1) == 3.0


def test_static_values_are_compared_by_type_and_value():
    f = gc.jit(lambda x, k: x * (2 if k is True else 3 if isinstance(k, float) else 4), static=1)
    assert [f(1.0, k) for k in (True, 1, 1.0)] == [2.0, 4.0, 3.0]


def test_unhashable_static_is_explained():
    with pytest.raises(TypeError, match="hashable"):
        gc.jit(lambda x, k: x, static="k")(1.0, k=[1])


def test_options_that_name_nothing():
    with pytest.raises(TypeError, match="no parameter 'm'"):
        gc.jit(lambda x: x, static="m")
    with pytest.raises(ValueError, match="'ieee'"):
        gc.jit(lambda x: x, fp="quick")
    with pytest.raises(TypeError, match="function"):
        gc.jit(3)


def test_strings_bools_none_and_enums_are_static_by_nature():
    class Mode(enum.Enum):
        UP = 1
        DOWN = 2

    f = gc.jit(lambda x, mode, flag, nothing: x * (1 if mode is Mode.UP else -1) * (2 if flag else 1))
    assert f(1.0, Mode.UP, True, None) == 2.0 and f(1.0, Mode.DOWN, False, None) == -1.0


def test_a_traced_int_as_a_shape_says_static():
    with pytest.raises(gc.TraceError, match="static"):
        gc.jit(lambda n: np.zeros(n) if False else gc.numpy.zeros(n))(3)


def test_captured_arrays_are_hidden_inputs_and_never_text():
    table = np.arange(20_000.0)
    executable = gc.jit(lambda x: (x * table).sum()).lower(gc.spec((20_000,)))
    assert len(executable.llvm) < 20_000
    np.testing.assert_allclose(executable(np.ones(20_000)), table.sum())


def test_donated_storage_comes_back():
    x = np.arange(6.0).reshape(2, 3)
    y = gc.jit(lambda x, g: x - 0.1 * g, donate=0)(x, np.ones((2, 3)))
    assert y is x
    np.testing.assert_allclose(x, np.arange(6.0).reshape(2, 3) - 0.1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: (np.ones((4, 4))[:, ::2], np.ones((4, 2))), "contiguous"),
        (lambda: ((lambda a: a.setflags(write=False) or a)(np.ones((4, 2))), np.ones((4, 2))), "read-only|writ"),
        (lambda: (lambda a: (a, a))(np.ones((4, 2))), "overlap|same|share"),
    ],
)
def test_donation_refuses_memory_it_cannot_own(make, words):
    x, g = make()
    with pytest.raises(gc.StorageError, match=words):
        gc.jit(lambda x, g: x - g, donate=0)(x, g)


def test_donation_needs_a_result_at_the_same_place():
    with pytest.raises(TypeError, match="donated x"):
        gc.jit(lambda x, y: (y.sum(), x), donate=0)(np.ones(3), np.ones(3))


def test_results_alias_nothing():
    f = gc.jit(lambda x: (x, x, x.T))
    x = np.ones((2, 2))
    a, b, c = f(x)
    a[0, 0] = 7
    assert x[0, 0] == b[0, 0] == c[0, 0] == 1
    first = f(x)[0]
    f(x * 2)
    assert first[1, 1] == 1


def test_jit_inside_a_trace_is_inlined():
    inner = gc.jit(lambda x: np.sin(x) * x)
    assert "sin" in str(gc.trace(lambda x: inner(x) + 1, 1.0))
    np.testing.assert_allclose(gc.grad(inner)(0.5), np.sin(0.5) + 0.5 * np.cos(0.5))
    np.testing.assert_allclose(gc.grad(lambda x: gc.jit(lambda y: x * y)(2.0))(1.0), 2.0)


def test_gradients_compile():
    f = lambda w, x: np.tanh(x @ w).sum()
    w, x = np.random.default_rng(0).standard_normal((2, 4, 4))
    np.testing.assert_allclose(gc.jit(gc.grad(f))(w, x), gc.grad(f)(w, x), rtol=1e-12)
    hessian = gc.jit(gc.hessian(lambda v: (np.sin(v) * v).sum()))(x[0])
    np.testing.assert_allclose(hessian, np.diag(2 * np.cos(x[0]) - x[0] * np.sin(x[0])), atol=1e-14)


def test_methods_can_be_jitted():
    class Model:
        scale = 3.0

        @gc.jit
        def __call__(self, x):
            return x * self.scale

    assert Model()(2.0) == 6.0


def test_bind_and_out():
    executable = gc.jit(lambda x: x * 2).lower(gc.spec((3,)))
    x, out = np.ones(3), np.empty(3)
    executable(x, out=out)
    np.testing.assert_array_equal(out, [2, 2, 2])
    step = executable.bind(x)
    x[:] = 5
    np.testing.assert_array_equal(step(), [10, 10, 10])
    assert step() is step()


def test_bound_steps_nest_and_update_in_place():
    f = gc.jit(lambda p, g: ({"w": p["w"] - g}, g.sum()), donate=0)
    p, g = {"w": np.ones(3)}, np.full(3, 0.25)
    step = f.lower(p, g).bind(p, g)
    (new, total), (again, _) = step(), step()
    assert new["w"] is p["w"] is again["w"]
    np.testing.assert_array_equal(p["w"], [0.5, 0.5, 0.5])
    assert total == 0.75


def test_ahead_of_time():
    executable = gc.compile(lambda x, y: x @ y, gc.spec((3, 4), "float32"), gc.spec((4, 2), "float32"))
    x, y = np.ones((3, 4), np.float32), np.ones((4, 2), np.float32)
    np.testing.assert_array_equal(executable(x, y), x @ y)
    stats = executable.stats
    assert stats["flops"] >= 2 * 3 * 4 * 2 and stats["seconds"]["llvm codegen"] >= 0


# -- careless and hostile calls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "error", "words"),
    [
        (np.ones(4), gc.ShapeError, r"x has shape \(4,\), compiled for \(3,\)"),
        (np.ones(3, np.float32), gc.DTypeError, "x has dtype float32, compiled for float64"),
        (np.ones(3, int), gc.DTypeError, "x has dtype int64"),
        (np.array([None] * 3), gc.DTypeError, "object"),
        ("text", TypeError, "nest"),
        (None, TypeError, "nest"),
        ([1.0, 2.0, 3.0], TypeError, "nest"),
        (np.ones(3, complex), gc.DTypeError, "complex"),
        (np.ma.masked_array(np.ones(3), [0, 1, 0]), gc.GradcError, "x"),
    ],
)
def test_a_wrong_argument_is_named(argument, error, words):
    executable = gc.jit(lambda x: x + 1).lower(gc.spec((3,)))
    with pytest.raises(error, match=words):
        executable(argument)


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.arange(12.0).reshape(3, 4)[:, 1],
        lambda: np.arange(6.0)[::-2],
        lambda: np.arange(3.0).astype(">f8"),
        lambda: (lambda a: a.setflags(write=False) or a)(np.arange(3.0)),
        lambda: np.frombuffer(b"\0" * 25, np.uint8)[1:].view(np.float64),
        lambda: np.broadcast_to(np.float64(1.5), (3,)),
    ],
)
def test_awkward_memory_simply_works(make):
    x = make()
    np.testing.assert_array_equal(gc.jit(lambda x: x + 1)(x), np.asarray(x, float) + 1)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_empty_arrays_work(shape):
    x = np.ones(shape)
    f = gc.jit(lambda x: (x * 2, x.sum(), x.sum(axis=0), x.T @ x if x.ndim == 2 else x))
    for got, expected in zip(f(x), (x * 2, x.sum(), x.sum(axis=0), x.T @ x if x.ndim == 2 else x), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_nan_and_inf_travel_as_in_numpy():
    x = np.array([np.nan, np.inf, -np.inf, -0.0, 1.0])
    f = lambda x: (x + 1, x * 0, np.maximum(x, 0), np.sign(x), np.floor(x), x > 0, np.where(x > 0, x, -x), x.max())
    with np.errstate(all="ignore"):
        for got, expected in zip(gc.jit(f)(x), f(x), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_integer_division_by_zero_does_not_end_the_process():
    x, y = np.array([7, -7, -(2**63)]), np.array([0, 0, -1])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(gc.jit(lambda x, y: x // y)(x, y), x // y)
        np.testing.assert_array_equal(gc.jit(lambda x, y: x % y)(x, y), x % y)


def test_an_index_out_of_range_names_the_users_line():
    f = gc.jit(lambda x, i: x[i] * 2)
    np.testing.assert_array_equal(f(np.arange(3.0), np.array([0, -1])), [0.0, 4.0])
    with pytest.raises(IndexError, match=r"test_jit\.py:\d+"):
        f(np.arange(3.0), np.array([0, 3]))
    np.testing.assert_array_equal(f(np.arange(3.0), np.array([1, 1])), [2.0, 2.0])


def test_many_threads_one_function():
    f = gc.jit(lambda x: (np.sin(x) @ np.cos(x)).sum(axis=0))
    inputs = [np.random.default_rng(i).standard_normal((20, 20)) for i in range(8)]
    expected = [f(x) for x in inputs]
    wrong = []

    def work(i):
        for _ in range(200):
            if not np.array_equal(f(inputs[i]), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_no_fast_math_in_the_generated_code():
    def everything(w, x):
        return gc.value_and_grad(lambda w: (gc.nn.softmax(np.tanh(x @ w)) ** 2).mean())(w)

    text = gc.jit(everything).lower(np.ones((4, 3)), np.ones((5, 4))).llvm
    for flag in ("nnan", "ninf", "nsz", "arcp", " afn", "reassoc", " contract ", " fast "):
        assert flag not in text


def test_relaxed_arithmetic_is_asked_for_and_shown():
    executable = gc.compile(lambda x: x * 2 + 1, gc.spec((8,)), fp="fast")
    assert " fast " in executable.llvm and executable.stats["fp"] == "fast"


def test_same_bits_every_run():
    f = gc.jit(lambda x, w: (np.exp(x @ w).sum(axis=1), x.sum()))
    x, w = np.random.default_rng(1).standard_normal((2, 64, 64))
    first = f(x, w)
    padded = np.empty(64 * 64 + 3)
    shifted = padded[3:].reshape(64, 64)
    shifted[:] = x
    for a, b in zip(first, f(shifted, w), strict=True):
        np.testing.assert_array_equal(a, b)


def test_stages_can_be_shown_and_checked(capsys, monkeypatch):
    gc.jit(lambda x: x * 2, show=("graph", "schedule"), check=True)(np.ones(3))
    err = capsys.readouterr().err
    assert "multiply(x, 2.0)" in err and "kernel 0" in err
    monkeypatch.setenv("GRADC_SHOW", "optimised")
    gc.jit(lambda x: x * 2)(np.ones(3))
    assert "optimised" in capsys.readouterr().err
    with pytest.raises(ValueError, match="unknown stage 'ptx'"):
        gc.jit(lambda x: x, show=("ptx",))


def test_threads_that_call_different_versions_get_their_own_results():
    @gc.jit
    def f(x):
        return x + 1 if x.ndim == 1 else (x + 2, x + 3)

    def check(x):
        for _ in range(3000):
            result = f(x)
            assert isinstance(result, tuple) == (x.ndim == 2) and np.shape(result)[-1] == x.shape[-1]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(check, [np.zeros(3), np.zeros((2, 4))] * 2))
    finally:
        sys.setswitchinterval(interval)


def test_no_cycles_are_collected_while_compiling_and_the_collector_is_as_it_was_afterwards():
    seen = []

    def model(x):
        seen.append(garbage.isenabled())
        inner = gc.jit(lambda y: y * 2)
        return inner(x) if x.shape else x.undefined_attribute

    try:
        for running in (True, False):
            (garbage.enable if running else garbage.disable)()
            gc.jit(model)(np.ones(3))
            assert garbage.isenabled() is running
            with pytest.raises(AttributeError):
                gc.jit(model)(np.ones(()))
            assert garbage.isenabled() is running
    finally:
        garbage.enable()
    assert seen == [False] * 4
