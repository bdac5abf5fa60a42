"""scan, fori_loop, while_loop and cond as a user meets them: values, containers, dtypes, and every careless use."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp


@dataclass
class State:
    position: object
    velocity: object


def test_scan_is_the_python_loop():
    total, sums = gc.scan(lambda s, x: (s + x, 2 * s), 0.0, np.arange(4.0))
    assert (float(total), sums.tolist()) == (6.0, [0.0, 0.0, 2.0, 6.0])
    total, sums = gc.scan(lambda s, x: (s + x, 2 * s), 0.0, np.arange(4.0), reverse=True)
    assert (float(total), sums.tolist()) == (6.0, [12.0, 10.0, 6.0, 0.0])


@pytest.mark.parametrize("unroll", [1, 2, 3, 4, 7, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_unrolling_changes_nothing(unroll, reverse):
    f = lambda c, x: (c * 0.5 + x[0], (c, x * 2))
    xs = np.arange(10.0).reshape(5, 2)
    expected = gc.scan(f, 1.0, xs, reverse=reverse)
    found = gc.scan(f, 1.0, xs, reverse=reverse, unroll=unroll)
    assert float(found[0]) == float(expected[0])
    assert all((a == b).all() for a, b in zip(found[1], expected[1], strict=True))


def test_carries_and_rows_nest_as_the_user_likes():
    def step(state, x):
        velocity = state.velocity - 0.1 * state.position + x["push"]
        return State(state.position + 0.1 * velocity, velocity), {"energy": (velocity**2, None)}

    last, out = gc.scan(step, State(1.0, 0.0), {"push": np.zeros(3), "unused": (np.ones((3, 2)),)})
    assert isinstance(last, State)
    assert out["energy"][0].shape == (3,)
    assert out["energy"][1] is None


def test_no_step_no_carry_no_rows():
    assert float(gc.scan(lambda c, x: (c + x, c), 2.5, np.zeros(0))[0]) == 2.5
    assert gc.scan(lambda c, x: (c + x, c), 2.5, np.zeros(0))[1].shape == (0,)
    carry, ys = gc.scan(lambda c, x: (c, x * x), (), np.arange(3.0))
    assert (carry, ys.tolist()) == ((), [0.0, 1.0, 4.0])
    assert float(gc.scan(lambda c, _: (c * 2, None), 1.0, length=5)[0]) == 32.0
    assert gc.fori_loop(3, 3, lambda i, x: x + i, 7) == 7
    assert gc.fori_loop(3, -3, lambda i, x: x + i, 7) == 7


def test_counts_flags_and_whole_numbers_are_carries_too():
    done, steps = gc.while_loop(lambda s: ~s[0], lambda s: (s[1] > 3, s[1] + 1), (False, 0))
    assert (bool(done), int(steps)) == (True, 5)
    assert done.dtype == np.bool_
    word = gc.fori_loop(0, 8, lambda i, h: (h ^ (h << 5)) + i, np.uint8(1))
    h = np.uint8(1)
    for i in range(8):
        h = (h ^ (h << np.uint8(5))) + np.uint8(i)
    assert (word, word.dtype) == (h, np.uint8)


def test_a_python_number_takes_the_dtype_of_its_partner():
    xs = np.ones(3, np.float32)
    assert gc.scan(lambda s, x: (s + x, None), 0.0, xs)[0].dtype == np.float32
    assert gc.scan(lambda s, x: (s + x, None), 0, xs)[0].dtype == np.float32
    assert gc.fori_loop(0, 3, lambda i, s: s + i * 0.5, 0).dtype == np.float64
    assert gc.fori_loop(0, 3, lambda i, s: s * i, np.float32(1)).dtype == np.float32, "the counter is a Python int"
    assert gc.scan(lambda s, x: (0.0, s), np.float32(1), xs)[1].tolist() == [1.0, 0.0, 0.0]


def test_bounds_may_be_traced():
    f = lambda n, x: gc.fori_loop(1, n, lambda i, y: y + x * i, 0.0)
    graph = gc.trace(f, 5, np.float32(2))
    assert graph.outputs[0].dtype == np.float32
    assert float(graph.evaluate(5, np.float32(2))[0]) == 20.0
    assert float(graph.evaluate(0, np.float32(2))[0]) == 0.0
    assert float(gc.grad(f, 1, method="forward")(5, 2.0)) == 10.0
    with pytest.raises(gc.DTypeError, match=r"upper must be an integer scalar"):
        gc.trace(lambda n: gc.fori_loop(0, n, lambda i, y: y, 0.0), 2.5)


def test_while_loop_ends_after_max_steps():
    assert int(gc.while_loop(lambda n: n >= 0, lambda n: n + 1, 0, max_steps=12)) == 12
    assert int(gc.while_loop(lambda n: n < 5, lambda n: n + 1, 0, max_steps=12)) == 5
    assert int(gc.while_loop(lambda n: n < 5, lambda n: n + 1, 0, max_steps=0)) == 0


def test_only_the_branch_that_is_taken_runs():
    table = np.arange(3.0)
    f = lambda i: gc.cond(i < 3, lambda: gnp.take(table, i), lambda: -1.0)
    graph = gc.trace(f, 0)
    assert [float(graph.evaluate(i)[0]) for i in (2, 3, 100)] == [2.0, -1.0, -1.0]
    assert float(gc.cond(np.float64(0.0), lambda: 1.0, lambda: 2.0)) == 2.0
    assert gc.cond(True, lambda x: (x, 1), lambda x: (0.5, x.astype(int)), np.float32(3))[0].dtype == np.float32


def test_what_is_around_a_body_is_an_operand():
    """Values of enclosing traces, captured arrays and computed values, through two levels of loops."""
    table = np.array([1.0, 10.0, 100.0])

    def f(x):
        y = np.exp(x)
        inner = lambda d, row: (d + (row * table).sum() * y, None)
        outer = lambda c, rows: (gc.scan(inner, c, rows)[0], y)
        return gc.scan(outer, 0.0, np.ones((2, 2, 3)))[0]

    graph = gc.trace(f, 0.5)
    assert abs(float(graph.evaluate(0.5)[0]) - 4 * 111.0 * np.exp(0.5)) < 1e-10
    assert "body outer" not in str(graph)
    assert "body f" in str(graph)
    assert abs(float(gc.grad(f)(0.5)) - 4 * 111.0 * np.exp(0.5)) < 1e-10


def test_a_body_is_printed_with_the_users_names_and_lines():
    def decay(height, rate):
        lower = height * rate
        return lower, lower - 1

    graph = gc.trace(lambda xs: gc.scan(decay, 1.0, xs), np.ones(4))
    text = str(graph)
    assert "body decay(height: float64[], rate: float64[])" in text
    assert " lower " in text
    assert text.count("test_control.py:") >= 4
    assert "subgraph" in graph.dot()


def test_explain_writes_a_loop_as_a_recursion():
    def loss(W, X):
        step = lambda h, x: (np.tanh(W * h + x), None)
        h, _ = gc.scan(step, 0.5, X)
        return h**2

    text = str(gc.explain(loss, 0.7, np.ones(6)))
    assert re.search(r"f repeats hₜ = tanh\(.*hₜ₋₁.*xₜ.*\).* for t = 1 … 6", text)
    assert re.search(r"f_backward repeats h̄ₜ = .*h̄ₜ₊₁.*, W̄ₜ = W̄ₜ₊₁ \+ .* for t = 6 … 1", text)
    assert "∂L/∂W = f_backward(" in text
    assert "cos(x)" in str(gc.explain(gc.checkpoint(lambda x: np.sin(x)), 1.0))
    assert "x > 0" in str(gc.explain(lambda x: gc.cond(x > 0, np.sin, np.cos, x), 1.0))


def test_compile_time_does_not_grow_with_the_length():
    graph = gc.trace(lambda x: gc.fori_loop(0, 10**15, lambda i, y: y * 0.5 + i, x), 1.0)
    assert len(graph.nodes) < 10
    gradient = gc.trace(gc.grad(lambda x: gc.fori_loop(0, 10**6, lambda i, y: np.sin(y) + i, x)), 1.0)
    assert len(gradient.nodes) < 30


# -- careless and hostile ----------------------------------------------------------------------------------------------


def _says(error, *words):
    return pytest.raises(error, match="(?s)" + ".*".join(words))


def test_a_carry_keeps_its_shape():
    with _says(gc.ShapeError, r"test_control\.py", r"total is float64\[\] before", r"float64\[3\] after", "zeros"):

        def grow(total, x):
            return total + x, None

        gc.scan(grow, np.float64(0), np.ones((2, 3)))
    with _says(gc.ShapeError, r"history is float64\[1\] before", r"float64\[2\] after", r"stacked by the loop"):
        gc.scan(lambda history, x: (np.concatenate([history, x[None]]), None), np.zeros(1), np.ones(2))


def test_a_carry_keeps_its_dtype():
    with _says(gc.DTypeError, r"n is int64\[\] before", r"float64\[\] after", r"astype\('int64'\)"):
        gc.while_loop(lambda n: n < 3, lambda n: n + 0.5, np.int64(0))
    with _says(gc.DTypeError, r"state\.h is float32\[2\] before"):
        gc.scan(lambda state, x: ({"h": state["h"] + x}, None), {"h": np.zeros(2, np.float32)}, np.ones((3, 2)))


def test_a_carry_keeps_its_nesting():
    with _says(gc.TraceError, r"nesting it got"):
        gc.scan(lambda c, x: ((c[0], c[1], x), None), (0.0, 1.0), np.ones(3))
    with _says(gc.TraceError, r"must return a pair"):
        gc.scan(lambda c, x: c + x, 0.0, np.ones(3))
    with _says(gc.TraceError, r"nesting it got"):
        gc.while_loop(lambda c: c[0] < 3, lambda c: c[0] + 1, (0, 1))


def test_steps_must_be_known_and_agree():
    with _says(TypeError, r"needs xs or length="):
        gc.scan(lambda c, x: (c, x), 0.0)
    with _says(gc.ShapeError, r"first axes \(and length=3\) must agree"):
        gc.scan(lambda c, x: (c, x), 0.0, np.ones(4), length=3)
    with _says(gc.ShapeError, r"must agree", r"xs\.a: float64\[4\]"):
        gc.scan(lambda c, x: (c, None), 0.0, {"a": np.ones(4), "b": np.ones(3)})
    with _says(gc.ShapeError, r"has no axis to walk along"):
        gc.scan(lambda c, x: (c, x), 0.0, np.float64(3))
    with _says(gc.TraceError, r"length is a traced value"):
        gc.trace(lambda n: gc.scan(lambda c, _: (c, None), 0.0, length=n)[0], 3)
    with _says(ValueError, r"length must not be negative"):
        gc.scan(lambda c, _: (c, None), 0.0, length=-1)
    with _says(TypeError, r"length must be an integer"):
        gc.scan(lambda c, _: (c, None), 0.0, length=2.5)


def test_bodies_must_be_functions_of_arrays():
    for call in (
        lambda: gc.scan(3, 0.0, np.ones(2)),
        lambda: gc.fori_loop(0, 3, None, 0.0),
        lambda: gc.while_loop(True, lambda x: x, 0),
        lambda: gc.cond(True, 1.0, lambda: 2.0),
        lambda: gc.checkpoint(1.0),
    ):
        with _says(TypeError, r"expects a"):
            call()
    with _says(TypeError, r"carry is 'text'", r"Close over it: read it inside"):
        gc.scan(lambda carry, x: (carry, x), "text", np.ones(2))
    with _says(TypeError, r"carry\.a is 'text'", r"take it out of the container"):
        gc.scan(lambda carry, x: (carry, x), {"a": "text"}, np.ones(2))
    with _says(gc.TraceError, r"must return one bool"):
        gc.while_loop(lambda x: x, lambda x: x, np.float64(1))
    with _says(gc.TraceError, r"must return one bool", r"np\.any"):
        gc.while_loop(lambda x: x > 0, lambda x: x, np.ones(3))


def test_branches_must_return_alike():
    with _says(gc.TraceError, r"same nesting"):
        gc.cond(True, lambda: (1.0, 2.0), lambda: 1.0)
    with _says(gc.ShapeError, r"the result\[0\] is float64\[3\] in f, float64\[\]~ in f"):
        gc.cond(True, lambda: (np.ones(3),), lambda: (1.0,))
    with _says(gc.DTypeError, r"same shapes and dtypes"):
        gc.cond(True, lambda: np.float32(1), lambda: np.float64(1))
    with _says(gc.ShapeError, r"pred must be one scalar"):
        gc.cond(np.array([True, False]), lambda: 1.0, lambda: 2.0)


def test_a_traced_value_that_leaves_its_body_is_a_leak():
    kept = []

    def step(c, x):
        kept.append(c * x)
        return c + x, None

    gc.scan(step, 0.0, np.ones(3))
    with _says(gc.TraceError, r"leaked traced value", r"finished trace of step"):
        gc.trace(lambda y: y + kept[0], 1.0)
    with _says(gc.TraceError, r"leaked traced value"):
        gc.scan(lambda c, x: (c + kept[0], None), 0.0, np.ones(3))


def test_python_control_flow_on_a_traced_value_names_the_functions():
    with _says(gc.TraceError, r"gc\.cond", r"gc\.while_loop"):
        gc.scan(lambda c, x: (c if x > 0 else -c, None), 1.0, np.ones(3))
    with _says(gc.TraceError, r"gc\.fori_loop"):
        gc.trace(lambda n, x: [x for _ in range(n)], 3, 1.0)


def test_errors_inside_a_body_say_the_line_of_the_body():
    with _says(gc.ShapeError, r"test_control\.py:", r"do not broadcast"):
        gc.scan(lambda c, x: (c + x, None), np.zeros(2), np.ones((4, 3)))
    with _says(gc.IndexingError, r"test_control\.py:\d+: gather"):
        gc.fori_loop(0, 5, lambda i, c: c + gnp.take(np.arange(3.0), i), 0.0)


def test_an_error_in_a_body_is_the_users_own_and_leaves_nothing_open():
    def step(c, x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        gc.scan(step, 0.0, np.ones(3))
    assert float(gc.grad(lambda x: x * x)(3.0)) == 6.0


@pytest.mark.parametrize(
    "loop",
    [
        lambda init: gc.scan(lambda c, x: (c, x), init, np.arange(3.0)),
        lambda init: gc.fori_loop(0, 3, lambda i, c: c, init),
        lambda init: gc.while_loop(lambda c: c["a"] < 1, lambda c: c, init),
    ],
)
def test_a_leaf_of_the_carry_that_is_no_array_is_named_by_its_place(loop):
    with pytest.raises(TypeError, match=r"c(arry)?\.mode\[1\] is 'sum', which is not an array(.|\n)*Close over it"):
        loop({"a": 0.0, "mode": [1.0, "sum"]})
