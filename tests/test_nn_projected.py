"""Losses of a projection in chunks of its classes, images made of two, and what both refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc import nn
from gradc.errors import DTypeError, IndexingError, ShapeError

RNG = np.random.default_rng(5)
X, W, B = RNG.standard_normal((5, 4)), RNG.standard_normal((11, 4)), RNG.standard_normal(11)
Y, SHARES = np.array([3, 0, 10, 7, 3]), np.abs(RNG.standard_normal(11)) + 0.1
OPTIONS: list[dict[str, Any]] = [{}, {"weight": SHARES, "label_smoothing": 0.2, "ignore_index": 3}]


def test_chunks_change_nothing_but_memory():
    """Value, gradient and second derivatives are those of the logits at once, whatever the chunks are."""

    def losses(p: Any, chunk: int | None) -> Any:
        if chunk is None:
            return sum(nn.cross_entropy(nn.linear(p["x"], p["w"], p["b"]), Y, **o) for o in OPTIONS)
        return sum(
            nn.linear_cross_entropy(p["x"], p["w"], Y, linear_bias=p["b"], chunk=chunk, **o) for o in OPTIONS
        )

    def everything(p: Any) -> Any:
        return [
            (gc.value_and_grad(lambda p, c=c: losses(p, c))(p), gc.hvp(lambda p, c=c: losses(p, c), (p,), (p,)))
            for c in (None, 3)
        ]

    p = {"x": X, "w": W, "b": B}
    whole, *chunked = gc.jit(everything)(p)
    for found in chunked:
        for a, b in zip(gc.tree.leaves(found), gc.tree.leaves(whole), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    assert gc.check_gradients(lambda x, w: nn.linear_cross_entropy(x, w, Y, chunk=4), X, W).ok


def test_memory_does_not_grow_with_examples_times_classes():
    """With the classes grow the weight's gradient and one number for each example and chunk: not the logits."""
    n, width, chunk = 64, 8, 128
    y = np.arange(n)

    def scratch(classes: int, loss: Any) -> int:
        step = gc.jit(lambda x, w: gc.grad(loss, argnums=(0, 1))(x, w))
        return int(step.lower(gc.spec((n, width)), gc.spec((classes, width))).stats["arena_bytes"])

    def growth(loss: Any) -> float:
        return (scratch(8192, loss) - scratch(4096, loss)) / (8 * 4096)

    assert growth(lambda x, w: nn.cross_entropy(x @ w.T, y)) >= n
    assert growth(lambda x, w: nn.linear_cross_entropy(x, w, y, chunk=chunk)) <= 2 * width + 4 * n / chunk


def test_cutmix_puts_a_box_of_another_image_into_each():
    images = np.arange(4.0).reshape(4, 1, 1, 1) + np.zeros((1, 2, 6, 8))
    targets = np.eye(4)
    draw = gc.jit(lambda key: nn.cutmix(images, targets, key=key))
    areas = []
    for seed in range(40):
        x, y = draw(gc.random.key(seed))
        strange = x != images
        assert (strange == strange[:, :1]).all()
        other = np.where(strange.any((1, 2, 3)))[0]
        area = strange[:, 0].sum((1, 2)).max(initial=0) / 48
        areas.append(area)
        np.testing.assert_allclose(y.sum(1), 1.0)
        for i in other:
            rows, columns = np.where(strange[i, 0])
            assert (np.ptp(rows) + 1) * (np.ptp(columns) + 1) == len(rows)
            assert len(set(x[i][strange[i]])) == 1
            np.testing.assert_allclose(y[i, i], 1 - area)
            np.testing.assert_allclose(y[i, int(x[i][strange[i]][0])], area)
    assert 0.05 < np.mean(areas) < 0.5 and max(areas) > 0.3
    again = nn.cutmix(images, targets, key=gc.random.key(39))
    np.testing.assert_array_equal(again[0], x)
    np.testing.assert_allclose(again[1], y, rtol=1e-15)


PAIR = np.ones((1, 2, 4, 4))
REFUSED: dict[str, tuple[type[Exception], str, Any]] = {
    "features": (ShapeError, "input is (N, in) or (in,)", lambda: nn.linear_cross_entropy(X, W[:, :3], Y)),
    "targets": (ShapeError, "needs targets of shape (5,)", lambda: nn.linear_cross_entropy(X, W, Y[:3])),
    "class": (IndexingError, "0 … 10, got 11", lambda: nn.linear_cross_entropy(X, W, Y + 1)),
    "chunk": (ValueError, "chunk is at least 1, got 0", lambda: nn.linear_cross_entropy(X, W, Y, chunk=0)),
    "probable": (ValueError, "ignore_index=1 needs integer targets",
                 lambda: nn.linear_cross_entropy(X, W, np.ones((5, 11)), ignore_index=1)),
    "grid": (ShapeError, "need grid (n, …, …, 2)", lambda: nn.grid_sample(PAIR, np.ones((1, 3, 3, 3)))),
    "whole grid": (DTypeError, "grid holds floats", lambda: nn.grid_sample(PAIR, np.ones((1, 3, 3, 2), int))),
    "mode": (ValueError, "mode is 'bilinear', 'nearest' or 'bicubic'",
             lambda: nn.grid_sample(PAIR, np.ones((1, 3, 3, 2)), "cubic")),
    "outside": (ValueError, "padding_mode is 'zeros', 'border', 'reflection'",
                lambda: nn.grid_sample(PAIR, np.ones((1, 3, 3, 2)), padding_mode="edge")),
    "maps": (ShapeError, "goes with size (n, c, h, w)", lambda: nn.affine_grid(np.ones((2, 2, 3)), (1, 1, 4, 4))),
    "unpooled": (IndexingError, "positions of an image of 8x8, got 64",
                 lambda: nn.max_unpool2d(PAIR, np.full((1, 2, 4, 4), 64), 2)),
    "unpooled size": (ShapeError, "less than a stride (2, 2) from (8, 8)",
                      lambda: nn.max_unpool2d(PAIR, np.zeros((1, 2, 4, 4), int), 2, output_size=(10, 8))),
    "norm": (ValueError, "max_norm must be at least 0", lambda: nn.embedding(Y, W, max_norm=-1.0)),
    "images": (ShapeError, "input is images (N, C, H, W)", lambda: nn.cutmix(X, X, key=gc.random.key(0))),
    "classes": (DTypeError, "cutmix: integer classes have no mean", lambda: nn.cutmix(X, Y, key=gc.random.key(0))),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused(name: str) -> None:
    kind, words, call = REFUSED[name]
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value)


def test_a_pool_laid_out_again_is_pooled_to_what_it_was():
    x = RNG.standard_normal((2, 3, 7, 6))
    y, at = nn.max_pool2d(x, 2, 2, return_indices=True)
    whole = nn.max_unpool2d(y, at, 2, output_size=x.shape)
    assert whole.shape == x.shape
    np.testing.assert_array_equal(whole, np.where(whole != 0, x, 0.0))
    assert np.count_nonzero(whole) == y.size


def test_an_affine_grid_of_the_identity_reads_the_image_itself():
    x = RNG.standard_normal((2, 3, 5, 4))
    same = np.broadcast_to(np.eye(2, 3), (2, 2, 3))
    for corners in (True, False):
        grid = nn.affine_grid(same, x.shape, align_corners=corners)
        for mode in ("bilinear", "bicubic"):
            found = nn.grid_sample(x, grid, mode, "border", align_corners=corners)
            np.testing.assert_allclose(found, x, rtol=1e-12, atol=1e-13)
