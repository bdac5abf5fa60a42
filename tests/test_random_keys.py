"""Keys: one used twice in a trace is told, whatever made it; no false alarms; wrong arguments are refused in words."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc import nn

R = gc.random
KEY = R.key(0)


def _told(f: Callable[..., Any], *args: Any) -> list[str]:
    """The warnings of keys that tracing ``f`` raises."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.trace(f, *(args or (KEY,)))
    return [str(w.message) for w in caught if w.category is gc.KeyReuseWarning]


def _drawn_twice(k: Any) -> Any:
    x = R.normal(k, (3,))
    return x + R.uniform(k, (3,))


def test_a_key_that_is_used_twice_is_told_with_both_lines():
    (text,) = _told(_drawn_twice)
    first = _drawn_twice.__code__.co_firstlineno + 1
    assert f"test_random_keys.py:{first + 1}: " in text and f"drawn with at {__file__}:{first} already" in text
    assert "gc.random.split(key)" in text


def _with_one_split(k: Any, second: int) -> Any:
    keys = R.split(k)
    return R.normal(keys[0]) + R.normal(keys[second])


REUSED: dict[str, Callable[..., Any]] = {
    "drawn after it was split": lambda k: R.split(k)[0] + R.bits(k, (2,), "uint32"),
    "split after it was drawn with": lambda k: R.bits(k, (2,), "uint32") + R.split(k)[1],
    "split twice": lambda k: R.split(k)[0] + R.split(k, 3)[2],
    "the same row of a split": lambda k: _with_one_split(k, 0),
    "the same row, counted from the end": lambda k: _with_one_split(k, -2),
    "the same number folded in": lambda k: R.normal(R.fold_in(k, 1)) + R.normal(R.fold_in(k, 1)),
    "one that is known": lambda k: R.normal(KEY) + R.normal(np.array([0, 0], np.uint32)) + k.sum(),
    "in a loop of Python": lambda k: sum(R.normal(k) for _ in range(2)),
    "in a body": lambda k: gc.scan(lambda c, _: (c, R.normal(c) + R.normal(c)), k, None, 3)[1],
    "in a batch": lambda k: gc.vmap(lambda c: R.normal(c) * R.uniform(c))(R.split(k, 3)),
}


@pytest.mark.parametrize(
    ("name", "before", "now"),
    [
        ("drawn after it was split", "split", "drawn with"), ("split after it was drawn with", "drawn with", "split"),
        ("split twice", "split", "split again"), ("the same row of a split", "drawn with", "drawn with"),
    ],
)  # fmt: skip
def test_what_became_of_a_key_is_told(name, before, now):
    (text,) = _told(REUSED[name])
    assert f"this key was {before} at " in text and f"already, and is {now} here" in text


@pytest.mark.parametrize("name", REUSED)
def test_a_key_is_one_key_however_it_is_reached(name):
    assert len(_told(REUSED[name])) == 1


def _halved(k: Any) -> Any:
    return R.normal(k, (2,)) / 2


INNOCENT: dict[str, Callable[..., Any]] = {
    "every row of a split": lambda k: sum(R.normal(one) for one in R.split(k, 4)),
    "other numbers folded in": lambda k: R.normal(R.fold_in(k, 1)) + R.normal(R.fold_in(k, 2)),
    "a body that is traced twice": lambda k: gc.scan(lambda c, i: (c + R.normal(R.fold_in(k, i)), c), 0, np.arange(3)),
    "a function with several keys": lambda k: _halved(R.split(k)[0]) + _halved(R.split(R.fold_in(k, 3))[1]),
    "a function of its own leaves": lambda k: gc.jit(_halved)(R.fold_in(k, 0)) + gc.jit(_halved)(R.fold_in(k, 1)),
    "value and slope with the same noise": lambda k: gc.value_and_grad(lambda x: x * R.normal(k))(2.0),
    "branches": lambda k: gc.cond(k[0] > 0, lambda c: R.normal(c), lambda c: R.uniform(c), k),
    "a carried key": lambda k: gc.fori_loop(0, 3, lambda i, c: R.split(c)[0], k),
    "one call that draws several times": lambda k: R.randint(k, (3,), 0, 10),
}  # fmt: skip


@pytest.mark.parametrize("name", INNOCENT)
def test_nothing_is_told_where_nothing_is_wrong(name):
    assert _told(INNOCENT[name]) == []


def test_keys_are_not_watched_from_one_trace_to_the_next_nor_outside():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step = gc.jit(lambda k, x: x + R.normal(k, x.shape))
        for n in (2, 3):  # two versions, each traced
            step(KEY, np.ones(n))
        assert R.normal(KEY) == R.normal(KEY)


WRONG: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a seed in place of a key": (lambda: R.normal(3), gc.DTypeError, "make one with gc.random.key(3)"),
    "signed words": (lambda: R.normal(np.array([0, 1])), gc.DTypeError, "a key is an array of uint32"),
    "three words": (lambda: R.bits(np.zeros(3, np.uint32)), gc.ShapeError, r"shape (2,), got uint32[3]"),
    "several keys": (lambda: R.uniform(R.split(KEY, 4)), gc.ShapeError, "for several keys use gc.vmap"),
    "a float seed": (lambda: R.key(1.5), gc.DTypeError, "a seed is an integer"),
    "an array of seeds": (lambda: R.key([1, 2]), gc.ShapeError, "gc.vmap"),
    "a seed of 65 bits": (lambda: R.key(2**64), gc.DTypeError, "does not fit into int64"),
    "a number that is no word": (lambda: R.fold_in(KEY, -1), gc.DTypeError, r"[0, 2**32)"),
    "floats folded in": (lambda: R.fold_in(KEY, 0.5), gc.DTypeError, "one integer"),
    "an integer dtype": (lambda: R.normal(KEY, (), int), gc.DTypeError, "must be a floating one, got int64"),
    "a float dtype": (lambda: R.randint(KEY, (), 0, 3, float), gc.DTypeError, "must be an integer one"),
    "a signed dtype": (lambda: R.bits(KEY, (), "int32"), gc.DTypeError, "unsigned"),
    "complex numbers": (lambda: R.normal(KEY, (), complex), gc.DTypeError, "complex128 is not supported"),
    "float bounds": (lambda: R.randint(KEY, (2,), 0, 2.5), gc.DTypeError, "maxval must be an integer"),
    "a negative extent": (lambda: R.normal(KEY, (-1,)), gc.ShapeError, "negative extents"),
    "bounds that do not fit": (
        lambda: R.uniform(KEY, (2,), float, np.zeros(3)), gc.ShapeError, "minval, of shape (3,), does not broadcast"
    ),
    "bounds with more axes": (
        lambda: R.randint(KEY, (3,), 0, np.full((2, 3), 9)), gc.ShapeError, "does not broadcast to the shape (3,)"
    ),
    "a traced extent": (lambda: gc.trace(lambda n: R.normal(KEY, (n,)), 3), gc.TraceError, "static="),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_in_words(name):
    call, error, words = WRONG[name]
    with pytest.raises(error) as refused:
        call()
    assert words in str(refused.value) and "test_random_keys.py:" in str(refused.value)


def test_words_and_probabilities_that_do_not_fit_are_refused():
    for call, words in (
        (lambda: R.bernoulli(KEY, 1.5), "p must lie in [0, 1], got 1.5"),
        (lambda: R.bernoulli(KEY, np.array([0.5, -0.1])), "p must lie in [0, 1]"),
        (lambda: R.bernoulli(KEY, 0.5, mode="fast"), "mode must be 'low' or 'high', got 'fast'"),
        (lambda: R.choice(KEY, 3, (2,), p=np.array([0.5, 0.6, -0.1])), "p must lie in [0, 1]"),
        (lambda: nn.dropout(np.ones(3), 2.0, KEY), "nn.dropout: p must lie in [0, 1]"),
        (lambda: R.choice(KEY, 4, (3,), False, np.array([0.5, 0.5, 0, 0])), "3 different positions cannot be drawn"),
        (lambda: R.categorical(KEY, np.array([0, -np.inf]), -1, (2,), False), "with 1 logits above −inf"),
    ):
        with pytest.raises(ValueError) as refused:
            call()
        assert words in str(refused.value) and "test_random_keys.py:" in str(refused.value)
    for call, words in (
        (lambda: R.bernoulli(KEY, np.array([1, 0])), "is a probability, a float"),
        (lambda: R.bernoulli(KEY, np.zeros(3), (2,)), "does not broadcast to the shape (2,)"),
        (lambda: R.categorical(KEY, np.zeros((2, 3)), shape=(3,)), "must end with (2,)"),
        (lambda: R.categorical(KEY, np.zeros(3), shape=(4,), replace=False), "4 different positions of 3"),
        (lambda: R.choice(KEY, 3, (5,), replace=False), "5 different elements of 3"),
        (lambda: R.choice(KEY, 0, (2,)), "nothing to choose from"),
        (lambda: R.choice(KEY, 3, (2,), p=np.array([0.5, 0.5])), "p has the shape (2,), expected (3,)"),
        (lambda: R.truncated_normal(KEY, np.zeros(2), np.ones(3)), "lower (2,), upper (3,) do not broadcast"),
        (lambda: nn.dropout2d(np.ones((2, 3)), 0.5, KEY), "at least three axes"),
        (lambda: nn.dropout(np.ones(3), 0.5, 3), "nn.dropout: expected a key, got the number 3"),
    ):
        with pytest.raises((gc.ShapeError, gc.DTypeError)) as refused:
            call()
        assert words in str(refused.value), str(refused.value)


# -- dropout -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_dropout_keeps_the_mean_and_drops_what_it_says(dtype):
    x = np.ones((200, 300), dtype)
    for f in (nn.dropout, gc.jit(nn.dropout, static=("p",))):
        y = f(x, 0.25, KEY)
        assert y.dtype == dtype and set(np.unique(y).tolist()) == {0.0, float(dtype(1) / dtype(0.75))}
        assert abs(np.mean(y == 0) - 0.25) < 5 * np.sqrt(0.25 * 0.75 / y.size)
    assert np.array_equal(nn.dropout(x, 0.25, KEY), gc.jit(lambda x, p, k: nn.dropout(x, p, k))(x, 0.25, KEY))
    assert np.array_equal(nn.dropout(x, 0.5, KEY, training=False), x)
    assert not nn.dropout(x, 1.0, KEY).any() and np.array_equal(nn.dropout(x, 0.0, KEY), x)
    channels = nn.dropout2d(np.ones((40, 50, 2, 3), dtype), 0.5, KEY)
    assert all(len(np.unique(c)) == 1 for c in channels.reshape(2000, 6)) and 0.4 < np.mean(channels == 0) < 0.6


def test_a_mask_is_drawn_where_it_is_used_and_its_slope_is_the_mask():
    def loss(x: Any, key: Any) -> Any:
        return np.sum(nn.dropout(np.tanh(x), 0.3, key) * x)

    x = np.linspace(-2, 2, 5000)
    step = gc.jit(gc.value_and_grad(loss))
    value, slope = step(x, KEY)
    kept = nn.dropout(np.ones_like(x), 0.3, KEY)
    np.testing.assert_allclose(value, np.sum(kept * np.tanh(x) * x), rtol=1e-13)
    np.testing.assert_allclose(slope, kept * (np.tanh(x) + x / np.cosh(x) ** 2), rtol=1e-12)
    assert "threefry" in str(step.lower(x, KEY).schedule)
    assert not any(b.dtype == "bool" and b.size > 1 for b in step.lower(x, KEY).schedule.buffers)


def test_formulas_call_noise_by_a_letter():
    def loss(w: Any, x: Any, key: Any) -> Any:
        one, two = R.split(key)
        noise = R.normal(one, x.shape)
        return np.sum((w * x + noise * R.uniform(two, x.shape) + R.normal(R.fold_in(key, 7))) ** 2)

    text = str(gc.explain(loss, 2.0, np.ones(5), KEY))
    assert (
        "noise = random.normal(" in text
        and "ε1 = random" in text.replace("₁", "1")
        and "threefry" not in text.split("∂L")[1]
    )
    assert "normal_of_bits" not in text and "fraction" not in text
    assert "m = random.bernoulli(key)" in str(
        gc.explain(lambda x, key: np.sum(nn.dropout(x, 0.5, key) ** 2), np.ones(3), KEY)
    )
