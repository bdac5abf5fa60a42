"""`check_nans` and `gc.trace_nans`: both name the node at which a NaN that reaches a result was made, and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp
from gradc.passes.quotients import quotients

RNG = np.random.default_rng(0)


def fault_of(f, *args, kinds="nan", **options):
    """The fault of a compiled call, which is the one that `gc.trace_nans` finds."""
    compiled = gc.jit(f, check_nans=kinds, **options)
    with pytest.raises(gc.NumericalError) as caught:
        compiled(*args)
    found = caught.value.fault
    assert str(found) in str(caught.value)
    assert str(gc.trace_nans(f, *args, kinds=kinds)) == str(found)
    assert str(gc.trace_nans(compiled, *args, kinds=kinds)) == str(found)
    return found


def of_an_exponential(x):
    y = np.exp(x)
    z = y - y[::-1]
    return gnp.sum(z)


def exponential(x):
    y = np.exp(x)
    return y + 1


def square_of_a_root(x):
    y = np.sqrt(x)
    return y * y


def chosen(x):
    return np.where(x < 0, np.nan, x)


def slope_of_a_square(x):
    return gc.grad(lambda x: gnp.sum(gnp.sqrt(x) ** 2))(x)


def of_a_logarithm(x):
    y = np.log(x)
    return y * 2, x


def quotient(x):
    return gnp.sum(x / (x - 1), axis=0)


def with_constant(x):
    return x + np.array([1.0, np.nan, 2.0])


CASES = {
    "log of a negative number": (of_a_logarithm, [1.0, -0.3, 2.0], "nan", "log", "y", (1,), "log(-0.3) is nan"),
    "infinity minus infinity": (of_an_exponential, [1.0, 710.0, 3.0], "nan", "subtract", "z", (1,), "∞ − ∞ is nan"),
    "zero by zero": (lambda x: x / (2 * x), [3.0, 0.0], "nan", "divide", "", (1,), "0.0 / 0.0 is nan"),
    "zero times infinity": (lambda x: x * x[::-1], [0.0, np.inf], "nan", "multiply", "", (0,), "0.0 · ∞ is nan"),
    "came in": (lambda x: np.cos(x[1:]) + 1, [1.0, 2.0, np.nan], "nan", "argument", "x", (2,), "came in with the arg"),
    "a root that a pass took away": (square_of_a_root, [1.0, -2.0], "nan", "sqrt", "y", (1,), "sqrt(-2.0) is nan"),
    "chosen": (chosen, [1.0, -2.0], "nan", "where", "", (1,), "less(-2.0, 0.0) is True: there the"),
    "a guard of a pass": (slope_of_a_square, [1.0, -2.0], "nan", "where", "", (1,), "less(-2.0, 0.0) is"),
    "a constant": (with_constant, [1.0, 1.0, 1.0], "nan", "constant", "", (1,), "it is a constant of the function"),
    "overflow": (exponential, [1.0, 710.0], "overflow", "exp", "y", (1,), "larger than any float64"),
    "a pole": (quotient, [[2.0], [1.0]], "overflow", "divide", "", (1, 0), "1.0 / 0.0 is ∞: a pole"),
    "an overflowing sum": (lambda x: gnp.sum(x), [1e308, 1e308], "overflow", "sum", "", (), "numbers up to 1e+308"),
    "subnormal": (lambda x: x * 1e-300, [1.0, 1e-10], "denormal", "multiply", "", (1,), "1e-10 · 1e-300 is 1e-310"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_origin_is_named_with_its_reason(name):
    f, x, kind, op, variable, index, why = CASES[name]
    found = fault_of(f, np.array(x), kinds=kind)
    assert (found.op, found.variable, found.index, found.phase) == (op, variable, index, "forward pass")
    assert why in found.why
    assert found.where is None or found.where.file == __file__
    assert found.text == "" or found.text in Path(__file__).read_text(encoding="utf-8")


def test_a_nan_made_of_an_infinity_says_where_that_came_from():
    found = fault_of(of_an_exponential, np.array([1.0, 710.0, 3.0]))
    assert (found.cause.kind, found.cause.op, found.cause.variable) == ("overflow", "exp", "y")
    assert "exp(710.0) is ∞" in found.cause.why
    assert dict(found.operands) == {"y": np.inf, "": np.inf}


def test_numbers_read_as_in_their_dtype():
    found = fault_of(of_a_logarithm, np.array([1.0, -0.3], np.float32))
    assert found.why.startswith("log(-0.3) is nan")


# -- bodies ------------------------------------------------------------------------------------------------------------
def accumulated(x):
    """1/c of a carry that is 0 after step 2."""

    def body(c, v):
        c = c - v
        return c, np.log(c)

    return gc.scan(body, np.float64(3.0), x)[1]


def differentiated_scan(x):
    return gc.grad(lambda x: gnp.sum(gc.scan(lambda c, v: (c * v, np.sqrt(c)), x[0] * 0 + 1, x)[1]))(x)


def walked(x):
    def body(state):
        k, y = state
        return k + 1, np.sqrt(y - 1.0)

    return gc.while_loop(lambda s: s[0] < 5, body, (0, x))[1]


def branched(x):
    return gc.cond(x[0] > 0, lambda x: np.arcsin(x), lambda x: np.log(x), x)


def mapped(x):
    return gc.vmap(lambda v: gnp.sum(np.log(v)))(x)


def recomputed(x):
    return gc.checkpoint(lambda v: np.exp(np.log(v)))(x) + 1


BODIES = {
    "scan": (accumulated, np.ones(5), "log", [3], "log(-1.0)"),
    "while": (walked, np.array([1.5, 3.0]), "sqrt", [1], "sqrt(-"),
    "cond": (branched, np.array([2.0, 0.5]), "arcsin", [], "arcsin(2.0)"),
    "vmap": (mapped, np.array([[1.0, 2.0], [-4.0, 1.0]]), "log", [], "log(-4.0)"),
    "checkpoint": (recomputed, np.array([1.0, -2.0]), "log", [], "log(-2.0)"),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_are_followed_to_the_step(name):
    f, x, op, steps, why = BODIES[name]
    found = fault_of(f, x)
    assert (found.op, [step for _, step in found.loops]) == (op, steps)
    assert why in found.why


def test_a_loop_is_left_where_the_nan_came_in():
    def f(x, scale):
        return gc.scan(lambda c, v: (c * scale + v, c), x[0], x)[0]

    found = fault_of(f, np.ones(4), np.float64("nan"))
    assert (found.op, found.variable) == ("argument", "scale")
    x = np.ones(6)
    x[4] = np.nan
    found = fault_of(f, x, np.float64(1.0))
    assert (found.op, found.variable, found.index) == ("argument", "x", (4,))


# -- derivatives and updates -------------------------------------------------------------------------------------------
def test_the_backward_pass_is_told_from_the_forward_pass():
    x = np.array([1.0, 1e-320])
    found = fault_of(gc.grad(lambda x: gnp.sum(np.log(x))), x, kinds="overflow")
    assert (found.op, found.phase, found.index) == ("divide", "backward pass", (1,))
    found = fault_of(lambda x: gc.jvp(lambda x: np.log(x), (x,), (x * 0 + 1,))[1], x, kinds="overflow")
    assert found.phase == "forward-mode derivative"
    found = fault_of(differentiated_scan, np.array([2.0, 1e-200, 1e-200, 1e-200]), kinds="overflow")
    assert found.phase == "backward pass" and found.loops


def squares(params, x):
    return gnp.mean((x @ params["w"]) ** 2)


def test_a_step_says_which_and_leaves_its_arguments_as_they_were():
    optimizer = gc.optim.adam(0.1)
    params = {"w": np.ones((3, 4), np.float32)}
    step, state = gc.train_step(squares, optimizer, check_nans=("nan", "overflow")), optimizer.init(params)
    good, bad = np.ones((2, 3), np.float32), np.full((2, 3), 1e15, np.float32)
    for _ in range(3):
        params, state, _ = step(params, state, good)
    before = gc.tree.map(np.copy, (params, state))
    with pytest.raises(gc.NumericalError, match="infinite") as caught:
        step(params, state, bad)
    found = caught.value.fault
    assert (found.step, found.phase, found.kind) == (3, "update", "overflow")
    again = gc.trace_nans(step, params, state, bad, kinds="overflow")
    assert (again.why, again.index, again.phase, again.step) == (found.why, found.index, found.phase, found.step)
    for kept, now in zip(gc.tree.leaves(before), gc.tree.leaves((params, state)), strict=True):
        np.testing.assert_array_equal(kept, now)
    step(params, state, good)


def test_an_update_that_makes_a_nan():
    optimizer = gc.optim.sgd(np.inf)
    params = {"w": np.zeros((3, 4))}
    with pytest.raises(gc.NumericalError) as caught:
        gc.train_step(squares, optimizer, check_nans=True)(params, optimizer.init(params), np.ones((2, 3)))
    assert (caught.value.fault.phase, caught.value.fault.op) == ("update", "multiply")


# -- what is no fault --------------------------------------------------------------------------------------------------
def masked_attention(q):
    return gc.nn.scaled_dot_product_attention(q, q, q, is_causal=True)


def guarded(x):
    return gnp.where(x > 0, np.log(x), 0.0) + gnp.nan_to_num(np.sqrt(x))


@pytest.mark.parametrize("f", [masked_attention, guarded, gc.grad(lambda x: gnp.sum(guarded(x)))])
def test_what_reaches_no_result_is_no_fault(f):
    x = RNG.normal(size=(4, 4))
    gc.jit(f, check_nans=("nan", "overflow"))(x)
    assert gc.trace_nans(f, x, kinds=("nan", "overflow")) is None


def test_the_side_that_was_chosen_is_blamed():
    def f(x, y):
        return gnp.where(x > 0, np.log(x - 2), np.sqrt(y))

    found = fault_of(f, np.array([1.0, -1.0]), np.array([-1.0, 4.0]))
    assert (found.op, found.index, found.elements) == ("log", (0,), 1)


# -- the code ----------------------------------------------------------------------------------------------------------
SIZES = (1, 7, 8, 9, 33, 64, 129)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_element_of_every_dtype_is_looked_at(dtype):
    dtype = gnp.dtype(dtype) if hasattr(gnp, "dtype") else np.dtype(dtype)
    tiny, odd = {"nan": np.nan, "overflow": -np.inf, "denormal": None}, gnp.finfo(dtype)
    tiny["denormal"] = float(odd.smallest_subnormal)
    f = gc.compile(
        lambda *xs: tuple(-x for x in xs), *(gc.spec((n,), dtype) for n in SIZES), check_nans=tuple(tiny), threads=1
    )
    xs = [np.ones(n, dtype) for n in SIZES]
    f(*xs)
    for k, n in enumerate(SIZES):
        for place in {0, n // 2, n - 1}:
            for kind, value in tiny.items():
                xs[k][place] = value
                with pytest.raises(gc.NumericalError) as caught:
                    f(*xs)
                found = caught.value.fault
                assert (found.kind, found.variable, found.index) == (kind, f"xs[{k}]", (place,))
                xs[k][place] = 1
    f(*xs)


def test_threads_bound_calls_and_other_versions():
    x = np.ones((300, 300))
    f = gc.jit(lambda x: (np.log(x) @ x, x.argmax()), threads=2, check_nans=True)
    run = f.lower(x).bind(x)
    run()
    x[17, 3] = -1
    for call in (run, lambda: f(x)):
        with pytest.raises(gc.NumericalError, match=r"log\(-1\.0\)") as caught:
            call()
        assert caught.value.fault.index == (17, 3)
    assert np.isnan(gc.jit(lambda x: (np.log(x) @ x, x.argmax()), threads=2)(x)[0]).any()
    x[17, 3] = 1
    run()


def test_donated_arguments_are_gone_when_it_is_noticed():
    f = gc.jit(lambda x: np.log(x), donate=0, check_nans=True)
    with pytest.raises(gc.NumericalError, match="Donated arguments are overwritten") as caught:
        f(np.array([-1.0, 2.0]))
    assert caught.value.fault is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: gc.jit(np.log, check_nans="nans"), "expected True, or some of 'nan', 'overflow', 'denormal'"),
        (lambda: gc.jit(np.log, check_nans="underflow"), r"gc\.trace_nans\(f, \*args, kinds='underflow'\)"),
        (lambda: gc.jit(np.log, check_nans=True, fp="fast"), "fp='fast' assumes"),
        (lambda: gc.compile(np.log, gc.spec((3,)), check_nans=True, target="sm_80"), "check_nans is for CPUs"),
        (lambda: gc.trace_nans(np.log, np.ones(3), kinds="inf"), "expected some of 'nan'"),
    ],
)
def test_what_cannot_be_asked_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# -- underflow ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_underflow_is_found_where_it_happens(dtype):
    def f(x):
        p = np.exp(x)
        return gnp.sum(p) + 1

    x = np.array([0.0, -800.0, 0.0], dtype)
    found = gc.trace_nans(f, x, kinds=("nan", "underflow"))
    assert (found.kind, found.op, found.variable, found.index) == ("underflow", "exp", "p", (1,))
    assert gc.trace_nans(f, x * 0, kinds="underflow") is None
    small = np.full(4, {"float32": 1e-15, "float64": 1e-120}[dtype], dtype)
    inside = gc.trace_nans(lambda x: gc.scan(lambda c, v: (c * v, v), x[0], x)[0], small, kinds="underflow")
    assert [step for _, step in inside.loops] == [1]


def test_zeros_of_other_reasons_are_no_underflow():
    def f(x):
        return gnp.maximum(x, 0) * (x - x) + np.floor(x * 0.1) + np.log(x / x)

    assert gc.trace_nans(f, np.array([1.0, 2.0, -3.0])[:2], kinds="underflow") is None


def test_a_fault_tells_what_it_knows():
    found = gc.trace_nans(of_an_exponential, np.array([1.0, 710.0, 3.0]))
    text = str(found)
    for words in ("first NaN in the forward pass: z[1]", "line: z = y - y[::-1]", "what it was made of", "exp(710.0)"):
        assert words in text


def test_a_quotient_made_of_a_product_keeps_its_line():
    graph = gc.trace(lambda x, y: x * gnp.reciprocal(y), np.ones(3), np.ones(3))
    made = quotients(graph)
    assert [n.op.name for n in made.nodes if n.args] == ["divide"]
    assert {n.where for n in made.nodes} <= {n.where for n in graph.nodes}
