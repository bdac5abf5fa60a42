"""gc.mixed_precision: what is narrow and what is not, the scale of the loss, and training beside float32.

Start at `test_products_and_nothing_else_are_narrow`.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import gradc as gc
from gradc import nn, optim
from gradc.aval import NARROW
from gradc.ops.control import every_node
from gradc.ops.record import Kind

RNG = np.random.default_rng(3)
X, W = (RNG.standard_normal(s).astype("f4") for s in ((6, 5), (4, 5)))
DTYPES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
#: half a unit in the last place, relative to the smallest number that has it
HALF_ULP = {"bfloat16": 2.0**-8, "float16": 2.0**-11}


def _inside(w: Any, x: Any) -> Any:
    """Products in a scan, in a branch, under checkpoint and under vmap."""
    h = gc.scan(lambda h, w: (np.tanh(w @ h), 0.0), x[0, :4], np.stack([w[:, :4], w[:, 1:]]))[0]
    h = gc.cond(h[0] > 0, lambda h: w[:, :4] @ h, lambda h: h, h)
    y = gc.vmap(lambda row: w @ row)(x)
    z = gc.checkpoint(lambda x: nn.conv2d(x[None, None], w[None, None, :2, :2]))(x)
    return np.sum(h) + np.sum(y**2) + np.sum(np.exp(z))


@pytest.mark.parametrize("name", DTYPES)
def test_products_and_nothing_else_are_narrow(name):
    mixed = gc.mixed_precision(name)
    for f in (mixed.cast(_inside), gc.grad(mixed.cast(_inside))):
        graph = gc.trace(f, W, X)
        products = [n for n in every_node(graph) if n.op.kind is Kind.CONTRACT and n.aval.is_float]
        assert products and {n.dtype for n in products} == {np.dtype(DTYPES[name])}
        assert all(y.dtype == np.float32 for y in graph.outputs)
        others = [n for n in every_node(graph) if n.op.kind in (Kind.REDUCE, Kind.ELEMENTWISE) and n.aval.is_float]
        assert {n.op.name for n in others if n.dtype in NARROW} == {"cast"}


@pytest.mark.parametrize("name", DTYPES)
def test_a_product_rounds_its_operands_and_its_result_in_both_directions(name):
    dtype, half = DTYPES[name], HALF_ULP[name]
    x, w = (a.astype(dtype).astype("f8") for a in (X, W))
    ct = RNG.standard_normal((6, 4)).astype("f4")
    f = gc.mixed_precision(name).cast(lambda w, x: x @ w.T)
    y, back = gc.vjp(f, W, X)
    narrow = ct.astype(dtype).astype("f8")
    for found, exact in ((y, x @ w.T), (back(ct)[0], narrow.T @ x), (back(ct)[1], narrow @ w)):
        assert found.dtype == np.float32 and np.array_equal(found, found.astype(dtype).astype("f4"))
        terms = np.abs(exact).max() * 6 * 2.0**-24  # what float32 sums of six terms may lose
        np.testing.assert_allclose(found, exact, rtol=half, atol=terms)


def test_float64_parameters_stay_float64():
    mixed = gc.mixed_precision("bfloat16")
    value, slope = gc.value_and_grad(mixed.cast(lambda w: np.sum(X.astype("f8") @ w.T)))(W.astype("f8"))
    assert value.dtype == slope.dtype == np.float64


# -- digits ------------------------------------------------------------------------------------------------------------

TRAIN = gc.data.digits().split()[0]


def _loss(params: Any, x: Any, y: Any) -> Any:
    for layer in params[:-1]:
        x = nn.relu(nn.linear(x, *layer))
    return nn.cross_entropy(nn.linear(x, *params[-1]), y)


def _start() -> list[tuple[Any, Any]]:
    keys, sizes = gc.random.split(gc.random.key(0), 3), (64, 64, 32, 10)
    return [
        (nn.init.he_normal(k, (n, m), dtype="float32"), nn.init.zeros(n, "float32"))
        for k, m, n in zip(keys, sizes, sizes[1:], strict=False)
    ]


def _curve(optimizer: Any, steps: int = 100) -> tuple[np.ndarray[Any, Any], Any, Any]:
    step, params = gc.train_step(_loss, optimizer), _start()
    state, losses = optimizer.init(params), []
    for i in range(steps):
        rows = slice(64 * (i % 20), 64 * (i % 20) + 64)
        params, state, loss = step(params, state, TRAIN.images[rows], TRAIN.labels[rows])
        losses.append(loss)
    assert {a.dtype for a in gc.tree.leaves((params, losses))} == {np.dtype(np.float32)}
    return np.array(losses), params, state


@pytest.mark.parametrize("name", DTYPES)
def test_the_loss_curve_of_digits_is_that_of_float32(name):
    """To one per cent in each of a hundred steps of Adam, of a loss that falls from 2.7 to 0.8; measured: 0.5."""
    wide, _, _ = _curve(optim.adam(1e-3))
    narrow, _, state = _curve(gc.mixed_precision(name)(optim.adam(1e-3)))
    assert wide[-1] < 0.85 < 2.5 < wide[0]
    np.testing.assert_allclose(narrow, wide, rtol=0.01)
    assert (state.scale, state.good_steps, state.skipped) == ({"float16": 2.0**16}.get(name, 1.0), 100, 0)


def test_accumulation_and_clipping_inside():
    def optimizer() -> Any:
        return optim.chain(optim.clip_by_global_norm(0.5), optim.multi_steps(optim.adam(1e-3), 2))

    wide, _, _ = _curve(optimizer(), 20)
    narrow, _, state = _curve(gc.mixed_precision("float16", dynamic=True)(optimizer()), 20)
    np.testing.assert_allclose(narrow, wide, rtol=0.01)
    assert state.inner[1].gradient_step == 10


def test_a_scale_that_is_a_power_of_two_changes_no_bit():
    curves = [_curve(gc.mixed_precision("bfloat16", scale=s)(optim.sgd(0.1, momentum=0.9)), 8) for s in (1.0, 2.0**20)]
    np.testing.assert_array_equal(curves[0][0], curves[1][0])
    for one, two in zip(*(gc.tree.leaves(c[1]) for c in curves), strict=True):
        np.testing.assert_array_equal(one, two)


# -- the scale ---------------------------------------------------------------------------------------------------------


def _line(w: Any, x: Any) -> Any:
    return np.sum(x @ w)


def test_overflow_skips_and_halves_and_good_steps_double():
    optimizer = gc.mixed_precision("float16", scale=2.0**18, growth_interval=3)(optim.adam(0.5))
    step, w = gc.train_step(_line, optimizer), np.ones(2, "f4")
    x, state = np.ones((1, 2), "f4"), optimizer.init(np.ones(2, "f4"))
    seen = []
    for _ in range(9):
        before = w.copy()
        w, state, loss = step(w, state, x)
        assert np.isfinite(loss)
        moved = not np.array_equal(before, w)
        seen.append((float(state.scale), int(state.good_steps), int(state.skipped), moved, int(state.inner[0].t)))
    # the cotangent of the product is the scale itself: 2¹⁶ and more is infinite in float16
    assert seen == [
        (2.0**17, 0, 1, False, 0), (2.0**16, 0, 2, False, 0), (2.0**15, 0, 3, False, 0),
        (2.0**15, 1, 3, True, 1), (2.0**15, 2, 3, True, 2), (2.0**16, 0, 3, True, 3),
        (2.0**15, 0, 4, False, 3), (2.0**15, 1, 4, True, 4), (2.0**15, 2, 4, True, 5),
    ]  # fmt: skip


def test_small_gradients_survive():
    loss = lambda w, x: 1e-9 * np.sum(x @ w)
    moved = {}
    for name, optimizer in (
        ("float32", optim.sgd(1e9)),
        ("scaled", gc.mixed_precision("float16")(optim.sgd(1e9))),
        ("plain", gc.mixed_precision("float16", scale=1.0, dynamic=False)(optim.sgd(1e9))),
    ):
        w = np.ones(2, "f4")
        moved[name] = gc.train_step(loss, optimizer)(w, optimizer.init(w), np.ones((1, 2), "f4"))[0] - 1
    assert np.array_equal(moved["plain"], [0, 0])  # 1e-9 is 0 in float16
    np.testing.assert_allclose(moved["scaled"], moved["float32"], rtol=2.0**-9)


def test_more_than_a_number_may_come_with_the_loss():
    mixed = gc.mixed_precision("bfloat16")
    optimizer = mixed(optim.sgd(0.1))
    step = gc.train_step(lambda w, x: (_line(w, x), {"w": w * 2}), optimizer, has_aux=True)
    w = np.ones(2, "f4")
    _, _, loss, aux = step(w, optimizer.init(w), np.ones((1, 2), "f4"))
    assert loss == 2 and np.array_equal(aux["w"], [2, 2])


def test_optimizers_that_ask_for_other_points_see_the_same_loss():
    optimizer = gc.mixed_precision("float16", scale=256.0)(optim.nesterov(0.1))
    w, x = np.ones(2, "f4"), np.ones((1, 2), "f4")
    step = gc.train_step(_line, optimizer)
    w, _, _ = step(w, optimizer.init(w), x)
    np.testing.assert_allclose(w, 0.9, rtol=1e-6)


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: gc.mixed_precision("float32"), ValueError, "must be 'bfloat16' or 'float16', got 'float32'"),
    (lambda: gc.mixed_precision("float16", scale=0.0), ValueError, "scale must be finite and above 0, got 0.0"),
    (lambda: gc.mixed_precision("float16", growth_factor=1.0), ValueError, "growth_factor must be finite and above 1"),
    (lambda: gc.mixed_precision("float16", backoff_factor=2.0), ValueError, "must lie between 0 and 1, got 2.0"),
    (lambda: gc.mixed_precision("float16", growth_interval=0), ValueError, "a whole number from 1 on, got 0"),
    (lambda: gc.mixed_precision("float16")(3), TypeError, "takes transformations such as"),
    (lambda: gc.mixed_precision("float16").cast(3), TypeError, "mixed_precision.cast expects a function"),
]


@pytest.mark.parametrize(("program", "error", "text"), BAD)
def test_bad_arguments(program, error, text):
    with pytest.raises(error, match=text) as caught:
        program()
    assert __file__ in str(caught.value)


def test_it_stands_outermost():
    mixed, w = gc.mixed_precision("float16"), np.ones(2, "f4")
    inside = optim.chain(optim.clip(1.0), mixed(optim.sgd(0.1)))
    with pytest.raises(ValueError, match=r"stands outermost.\n  Write  mixed\(gc.optim.chain"):
        gc.train_step(_line, inside)(w, inside.init(w), np.ones((1, 2), "f4"))
    with pytest.raises(ValueError, match=r"mixed_precision got a state .*; use its own init"):
        gc.train_step(_line, mixed(optim.sgd(0.1)))(w, optim.sgd(0.1).init(w), np.ones((1, 2), "f4"))


# -- mixup -------------------------------------------------------------------------------------------------------------


def test_mixup_makes_means_of_two_examples():
    x, y = RNG.standard_normal((8, 3, 2)), RNG.integers(0, 4, 8)
    draw = lambda k, x: nn.mixup(x, nn.one_hot(y, 4), 0.5, key=k)
    key = gc.random.key(5)
    mixed, soft = draw(key, x)
    for c, e in zip(gc.jit(draw)(key, x), (mixed, soft), strict=True):
        np.testing.assert_allclose(c, e, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-15)
    # of each mixed example: some share of itself, the rest of one other, the same share for all; targets alike
    first, second = gc.random.split(key)
    share, order = gc.random.beta(first, 0.5, 0.5, ()), gc.random.permutation(second, 8)
    assert 0 < share < 1 and sorted(order) == list(range(8))
    np.testing.assert_allclose(mixed, share * x + (1 - share) * x[order], rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(soft, share * np.eye(4)[y] + (1 - share) * np.eye(4)[y[order]], rtol=1e-13)
    assert np.isfinite(nn.cross_entropy(mixed.sum(2) @ np.ones((3, 4)), soft))


def test_mixup_refuses_what_has_no_mean():
    key = gc.random.key(0)
    for target, alpha, error, text in (
        (np.arange(2), 0.2, gc.DTypeError, "integer classes have no mean; give gc.nn.one_hot"),
        (np.ones(3), 0.2, gc.ShapeError, "one example in each row"),
        (np.ones(2), 0.0, ValueError, "alpha must be positive, got 0.0"),
    ):
        with pytest.raises(error, match=text):
            nn.mixup(np.ones((2, 3)), target, alpha, key=key)


def test_a_models_own_state_flows_beside_the_scale():
    def loss(w: Any, seen: Any, x: Any) -> Any:
        y = x @ w
        return np.mean(y), 0.5 * seen + 0.5 * np.mean(y)

    optimizer = gc.mixed_precision("float16", scale=256.0)(optim.sgd(0.1))
    step = gc.train_step(loss, optimizer, has_state=True)
    w = np.ones(2, "f4")
    w, state, seen, value = step(w, optimizer.init(w), np.zeros((), "f4"), np.ones((4, 2), "f4"))
    assert (value, seen, state.good_steps) == (2, 1, 1) and seen.dtype == np.float32
    np.testing.assert_allclose(w, 0.9, rtol=2.0**-11)


def test_a_scale_has_a_least_value_from_which_training_goes_on() -> None:
    optimizer = gc.mixed_precision("float16", backoff_factor=1e-3)(optim.sgd(0.1))
    step = gc.train_step(lambda w, x: ((w * x) ** 2).sum(), optimizer)
    w = np.ones(2, "float32")
    state = optimizer.init(w)
    for _ in range(150):
        w, state, _ = step(w, state, np.full(2, np.nan, "float32"))
    assert float(state.scale) == 2.0**-14
    w, state, _ = step(w, state, np.ones(2, "float32"))
    np.testing.assert_allclose(w, 0.8, rtol=1e-6)


def test_what_a_step_cannot_do_with_a_loss_is_said_in_its_terms() -> None:
    w, mixed = np.ones(2, "float32"), gc.mixed_precision("bfloat16")
    marquardt, plain = mixed(optim.levenberg_marquardt()), optim.sgd(0.1)
    with pytest.raises(TypeError, match=r"without gc\.mixed_precision around it"):
        gc.train_step(optim.sum_of_squares(lambda w: w - 1), marquardt)(w, marquardt.init(w))

    def loss(p: Any, m: Any, x: Any) -> Any:
        return ((p * m - x) ** 2).sum()

    for optimizer in (plain, mixed(plain)):
        state = optimizer.init(w)
        with pytest.raises(TypeError, match=r"has_state=True: loss must return a pair \(loss, model_state\)"):
            gc.train_step(loss, optimizer, has_state=True)(w, state, w, w)
        with pytest.raises(TypeError, match=r"has_state=True, has_aux=True: .*\(loss, \(model_state, aux\)\)"):
            gc.train_step(loss, optimizer, has_state=True, has_aux=True)(w, state, w, w)
    with pytest.raises(TypeError, match=r"loss_step was given 3 arguments; .*'x'\.\n  Call step\(params, state, \*b"):
        gc.train_step(loss, plain)(w, w, w)
    with pytest.raises(TypeError, match=r"loss_step was given 1 argument; .*\n  Call step\(params, state, model_st"):
        gc.train_step(loss, plain, has_state=True)(w)
