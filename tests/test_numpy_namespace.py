"""Every function of the namespace means what NumPy means: traced through NumPy's own name, traced by ours, and eager.

One table of cases per room of the namespace; each case runs on all three paths.  Start at `CASES`.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp
from gradc import nn
from gradc.errors import DTypeError, ShapeError, TraceError
from gradc.node import FUNCTIONS, Node
from tests.namespace_harness import leaf, same, traced

RNG = np.random.default_rng(0)
A = RNG.standard_normal((3, 4))
FIRST_ROW = np.eye(3)[:, :1] * np.ones((3, 4))
B = RNG.standard_normal((2, 3, 4))
V = RNG.standard_normal(5)
SQUARE = RNG.standard_normal((4, 4))
I32 = RNG.integers(-5, 6, (3, 4)).astype(np.int32)
U8 = RNG.integers(0, 9, (3, 4)).astype(np.uint8)
MASK = RNG.random((3, 4)) > 0.5
F32 = RNG.standard_normal((3, 4)).astype(np.float32)
EMPTY = np.zeros((0, 3))
SCALAR = np.float64(1.5)
HOSTILE = np.array([[np.nan, np.inf, -np.inf, 0.0], [-0.0, 1.0, -1.0, 2.5]])

#: Sums in another order: each of the n terms is rounded once per level; n <= 60 here, so 64 epsilons bound it.
REORDERED = 64

Case = tuple[str, Callable[[Any], Callable[..., Any]], tuple[Any, ...], float]


def case(text: str, *arrays: Any, ulps: float = 0) -> Any:
    """A case from source text over the namespace ``np`` and the arguments x, y, z."""
    names = ["x", "y", "z"][: len(arrays)]
    program = eval(f"lambda np: lambda {', '.join(names)}: {text}")
    return pytest.param(program, arrays, ulps, id=text if len(text) < 60 else text[:57] + "...")


def every(texts: str, *arrays: Any, ulps: float = 0) -> Iterator[Any]:
    """The same texts, separated by semicolons, on each of several arrays."""
    for text in filter(None, map(str.strip, texts.split(";"))):
        for array in arrays:
            found = case(text, array, ulps=ulps)
            yield pytest.param(*found.values, id=f"{found.id}-{array.dtype}{list(array.shape)}")


SHAPES = [
    *every(
        "np.reshape(x, (-1,)); np.reshape(x, (4, 3), order='F'); np.reshape(x, -1, order='F'); np.ravel(x);"
        "np.transpose(x); np.transpose(x, (1, 0)); np.permute_dims(x, (-1, 0)); np.swapaxes(x, 0, -1);"
        "np.moveaxis(x, 0, 1); np.rollaxis(x, 1); np.expand_dims(x, 1); np.expand_dims(x, (0, -1));"
        "np.squeeze(np.expand_dims(x, (0, 2))); np.matrix_transpose(x); np.squeeze(np.expand_dims(x, 1), axis=1);"
        "np.flip(x); np.flip(x, 1); np.flip(x, (0, -1)); np.fliplr(x); np.flipud(x); np.rot90(x); np.rot90(x, 2);"
        "np.rot90(x, 3); np.rot90(x, -1, (1, 0)); np.roll(x, 2); np.roll(x, -1, 1); np.roll(x, 7, 0);"
        "np.roll(x, (1, 2), (0, 1)); np.roll(x, 1, (0, 1)); np.broadcast_to(x, (2, 3, 4)); np.atleast_1d(x);"
        "np.atleast_2d(x); np.atleast_3d(x); np.copy(x); np.tril(x); np.triu(x, 1); np.tril(x, -1);"
        "np.diagonal(x); np.diagonal(x, 1); np.diagonal(x, -2); np.diagonal(x, 9); np.diag(x); np.diag(x[0]);"
        "np.diag(x[0], -2); np.diagflat(x, 1); np.repeat(x, 2); np.repeat(x, 3, axis=1);"
        "np.repeat(x, [0, 2, 1], axis=0); np.repeat(x, 0, axis=0); np.tile(x, 2); np.tile(x, (2, 1, 3));"
        "np.tile(x, ()); np.pad(x, 1); np.pad(x, ((1, 2), (0, 3)), constant_values=2);"
        "np.pad(x, ((1, 2), (3, 1)), constant_values=((1, 2), (3, 4))); np.pad(x, 2, mode='edge');"
        "np.pad(x, 2, mode='reflect'); np.pad(x, (3, 1), mode='symmetric'); np.pad(x, 5, mode='wrap');"
        "np.pad(x, 7, mode='reflect'); np.concatenate([x, x]); np.concatenate([x, x[:, :1]], axis=1);"
        "np.concatenate((x, x), None); np.concatenate([x, x], axis=-1, dtype='float64'); np.stack([x, x]);"
        "np.stack([x, x], axis=-1); np.vstack([x, x[0]]); np.hstack([x, x]); np.hstack([x[0], x[1]]);"
        "np.dstack([x, x]); np.dstack([x[0], x[0]]); np.column_stack([x[:, 0], x]); np.append(x, x);"
        "np.append(x, x, axis=1); np.split(x, 3); np.split(x, [1, 3], axis=1); np.array_split(x, 3, axis=1);"
        "np.hsplit(x, 2); np.vsplit(x, [1]); np.array_split(x, [5, 9]); np.diff(x); np.diff(x, n=2, axis=0);"
        "np.diff(x, prepend=x[:, :1], append=0); np.diff(x, 0, append=0); np.unstack(x); np.unstack(x, axis=1);"
        "np.meshgrid(x[0], x[:, 0]);"
        "np.meshgrid(x[0], x[:, 0], indexing='ij'); np.meshgrid(x[0], x[:, 0], x[1], sparse=True);"
        "np.broadcast_arrays(x, x[0], x[:, :1])",
        A, I32, F32,
    ),
    *every("np.diff(x); np.flip(x); np.tril(x); np.roll(x, 1); np.pad(x, 1)", MASK, U8),
    *every(
        "np.reshape(x, (3, 0)); np.ravel(x); np.flip(x, 0); np.roll(x, 1, 0); np.roll(x, 1); np.pad(x, 1);"
        "np.tile(x, (2, 2)); np.repeat(x, 2, 0); np.concatenate([x, x]); np.stack([x, x]); np.diagonal(x);"
        "np.tril(x); np.diff(x, axis=0)",
        EMPTY,
    ),
    *every("np.reshape(x, (1, 1)); np.ravel(x); np.atleast_3d(x); np.tile(x, 3); np.repeat(x, 3); x.T", SCALAR),
    case("np.lib.stride_tricks.sliding_window_view(x, (2, 3))", A),
    case("np.lib.stride_tricks.sliding_window_view(x, 2, axis=0)", A),
    case("np.diagonal(x, 1, 0, 2)", B),
    case("np.diagonal(x, 0, -1, 1)", B),
    case("np.linalg.diagonal(x, offset=1)", B),
    case("np.dsplit(x, 2)", B),
    case("np.pad(x, {1: (1, 0), -1: 2})", B),
    case("np.stack([x, 1.0, 2])", SCALAR),
    case("np.concatenate([x, y])", A, F32),
    case("np.concatenate([x, y])", I32, U8),
]  # fmt: skip

REDUCTIONS = [
    *every(
        "np.sum(x); np.sum(x, axis=0); np.sum(x, axis=(0, 1), keepdims=True); np.sum(x, axis=());"
        "np.sum(x, dtype='float32'); np.sum(x, axis=1, initial=3); np.sum(x, where=x > 0); x.sum(-1); np.prod(x);"
        "np.prod(x, axis=0, keepdims=True); np.mean(x); np.mean(x, axis=1); np.mean(x, axis=0, keepdims=True);"
        "np.mean(x, dtype='float64'); np.mean(x, where=x > 0); np.average(x, axis=0);"
        "np.average(x, axis=1, weights=abs(x[0]) + 1.); np.average(x, weights=abs(x) + 1., returned=True);"
        "np.var(x); np.var(x, axis=0, ddof=1); np.var(x, axis=1, keepdims=True); np.var(x, correction=2);"
        "np.std(x); np.std(x, axis=0, ddof=1); np.cumsum(x); np.cumsum(x, axis=0); np.cumprod(x, axis=1);"
        "np.cumsum(x, dtype='float32'); np.cumulative_sum(x, axis=1, include_initial=True);"
        "np.cumulative_prod(x, axis=0); np.trapezoid(x); np.trapezoid(x, dx=.5, axis=0);"
        "np.trapezoid(x, x=np.arange(4.)**2); np.trapezoid(x[0], x=x);"
        "np.trapezoid(x, x=np.arange(3.), axis=0); np.select([x > 1, x < 0], [x, x > 2], 7.5);"
        "np.add.reduce(x); np.add.reduce(x, axis=None);"
        "np.multiply.reduce(x, axis=1); np.add.accumulate(x)",
        A, F32, I32, U8, ulps=REORDERED,
    ),
    *every(
        "np.sum(x); np.prod(x, axis=0); np.cumsum(x); np.mean(x, axis=1); np.max(x); np.argmax(x, axis=1);"
        "np.min(x, axis=0); np.any(x); np.all(x, axis=0); np.count_nonzero(x); np.sum(x, dtype=bool); np.std(x)",
        MASK, ulps=REORDERED,
    ),
    *every(
        "np.max(x); np.amax(x, 0); np.min(x, axis=(0, 1)); np.amin(x, axis=1, keepdims=True);"
        "np.max(x, initial=1); np.max(x, axis=1, where=x > 0, initial=1); np.ptp(x); np.ptp(x, axis=0);"
        "np.argmax(x); np.argmax(x, axis=0); np.argmin(x, axis=1, keepdims=True); np.argmin(x, keepdims=True);"
        "np.any(x); np.any(x, axis=0); np.all(x, keepdims=True); np.count_nonzero(x);"
        "np.count_nonzero(x, axis=1, keepdims=True); np.maximum.reduce(x); np.logical_or.reduce(x); np.median(x);"
        "np.median(x, axis=0); np.median(x, axis=1, keepdims=True); np.sort(x); np.sort(x, axis=0);"
        "np.sort(x, axis=None); np.argsort(x, kind='stable'); np.argsort(x, axis=0, stable=True)",
        A, I32, F32, U8,
    ),
    *every(
        "np.max(x); np.min(x, axis=1); np.argmax(x); np.argmin(x, axis=0); np.sum(x, axis=0); np.mean(x);"
        "np.median(x, axis=1); np.nansum(x); np.nanprod(x, axis=0); np.nanmax(x, axis=0); np.nanmin(x);"
        "np.nanmean(x, axis=1); np.sort(x); np.any(x); np.cumsum(x, axis=1); np.ptp(x)",
        HOSTILE,
    ),
    *every(
        "np.sum(x); np.sum(x, axis=0); np.prod(x, axis=1); np.mean(x, axis=0); np.var(x); np.max(x, axis=1);"
        "np.any(x); np.all(x); np.cumsum(x, axis=0); np.max(x, initial=2.); np.argmax(x, axis=1);"
        "np.sort(x, axis=0); np.median(x); np.linalg.norm(x)",
        EMPTY,
    ),
    *every(
        "np.sum(x); np.prod(x); np.mean(x); np.max(x); np.argmax(x); np.any(x); np.std(x); np.cumsum(x)",
        SCALAR,
    ),
    *every(
        "np.linalg.norm(x); np.linalg.norm(x, axis=0); np.linalg.norm(x, axis=(0, 1), keepdims=True);"
        "np.linalg.norm(x, 1); np.linalg.norm(x, np.inf); np.linalg.norm(x, -1);"
        "np.linalg.norm(x, -np.inf, keepdims=True); np.linalg.norm(x, 'fro'); np.linalg.norm(x, 2, axis=1);"
        "np.linalg.norm(x, 1, axis=1, keepdims=True); np.linalg.norm(x, np.inf, axis=0);"
        "np.linalg.norm(x, 0, axis=0); np.linalg.norm(x, 3, axis=0); np.linalg.vector_norm(x);"
        "np.linalg.matrix_norm(x, ord=1); np.linalg.vector_norm(x, axis=1, ord=4);"
        "np.linalg.norm(x, -np.inf, axis=1); np.linalg.norm(x, np.inf, axis=(1, 0));"
        "np.linalg.vector_norm(x, ord=None); np.linalg.matrix_norm(x, ord=None)",
        A, I32, F32, ulps=REORDERED,
    ),
]  # fmt: skip

LINEAR = [
    case("x @ y", A, SQUARE, ulps=REORDERED),
    case("np.matmul(x, y)", B, SQUARE, ulps=REORDERED),
    case("np.matmul(x, y)", B, RNG.standard_normal((1, 4, 2)), ulps=REORDERED),
    case("np.matmul(x, y)", RNG.standard_normal((5, 1, 3, 4)), RNG.standard_normal((2, 4, 2)), ulps=REORDERED),
    case("x @ y", A, V[:4], ulps=REORDERED),
    case("x @ y", V[:3], A, ulps=REORDERED),
    case("x @ y", V, V, ulps=REORDERED),
    case("x @ y", V[:2], RNG.standard_normal((3, 2, 4)), ulps=REORDERED),
    case("x @ y", A[:, :0], SQUARE[:0]),
    case("x @ y", I32, I32.T),
    case("x @ y", MASK, MASK.T),
    case("x @ y", F32, A.T, ulps=REORDERED),
    case("x @ y", F32[:, :1], F32[:1], ulps=REORDERED),
    case("np.dot(x, y)", B, RNG.standard_normal((5, 4, 2)), ulps=REORDERED),
    case("np.dot(x, y)", A, V[:4], ulps=REORDERED),
    case("np.dot(x, 2)", A),
    case("np.dot(x, y)", SCALAR, V),
    *every(  # a Python number is an array of its own dtype there
        "np.dot(x, 3); np.dot(2.5, x); np.inner(x, 3); np.inner(True, x); np.kron(x, 3); np.kron(2.5, x);"
        "np.tensordot(x, 3, 0); np.outer(3, x); np.einsum('...,->...', x, 2); np.vdot(x.reshape(-1)[:1], 3)",
        F32, I32, U8,
    ),
    case("np.convolve(x, 3)", F32[0]),
    case("np.convolve(2, x)", U8[0]),
    *every("np.heaviside(x, 3); np.heaviside(3.5, x); np.heaviside(x, 0.5)", F32, I32, U8, MASK),
    case("np.vdot(x, y)", A, A, ulps=REORDERED),
    case("np.inner(x, y)", B, A, ulps=REORDERED),
    case("np.outer(x, y)", A, V),
    case("np.linalg.outer(x, x)", V),
    case("np.tensordot(x, y)", B, A, ulps=REORDERED),
    case("np.tensordot(x, y, 1)", B, SQUARE, ulps=REORDERED),
    case("np.tensordot(x, y, 0)", A, V),
    case("np.tensordot(x, y, ([1, 2], [0, 1]))", B, A, ulps=REORDERED),
    case("np.tensordot(x, y, (-1, 0))", B, SQUARE, ulps=REORDERED),
    case("np.trace(x)", A, ulps=REORDERED),
    case("np.trace(x, 1, 0, 2)", B, ulps=REORDERED),
    case("np.linalg.trace(x)", B, ulps=REORDERED),
    case("np.trace(x)", U8),
    case("np.kron(x, y)", A, SQUARE),
    case("np.kron(x, y)", V, A),
    case("np.vecdot(x, y)", B, A, ulps=REORDERED),
    case("np.vecdot(x, y, axis=0)", A, A, ulps=REORDERED),
    case("np.cross(x, y)", A[:, :3], V[:3], ulps=REORDERED),
    case("np.cross(x, y, axis=0)", A, A[:, ::-1], ulps=REORDERED),
    case("np.linalg.multi_dot([x, y, x.T, x])", A, SQUARE, ulps=REORDERED),
    case("np.linalg.multi_dot([y, x, y])", SQUARE, V[:4], ulps=REORDERED),
    case("np.linalg.matrix_power(x, 5)", SQUARE, ulps=REORDERED),
    case("np.linalg.matrix_power(x, 0)", SQUARE),
    case("np.convolve(x, y)", V, V[:3], ulps=REORDERED),
    case("np.convolve(x, y, 'same')", V[:2], V, ulps=REORDERED),
    case("np.convolve(x, y, 'valid')", V, V[:2], ulps=REORDERED),
    case("np.matvec(x, y)", B, V[:4], ulps=REORDERED),
    case("np.vecmat(x, y)", V[:3], B, ulps=REORDERED),
    *every(
        "np.einsum('ij->ji', x); np.einsum('ij', x); np.einsum('ji', x); np.einsum('ij->', x);"
        "np.einsum('ij->j', x); np.einsum('...j->...', x); np.einsum(x, [0, 1], [1, 0]); np.einsum(x, [0, 1]);"
        "np.einsum('ij,ij', x, x); np.einsum('ij,ij->ij', x, x); np.einsum('ij,j->ij', x, x[0]);"
        "np.einsum('ij,kj->ik', x, x); np.einsum('ij,kj', x, x); np.einsum('i,j->ji', x[0], x[1]);"
        "np.einsum('ij,k->', x, x[0]); np.einsum('ij,kj,kl->il', x, x, x); np.einsum('ij,...->...ji', x, x[0]);"
        "np.einsum(x, [0, 1], x, [2, 1], [0, 2]); np.einsum('a...,...b->...ab', x, x.T);"
        "np.einsum(' i j , j k -> i k ', x, x.T); np.einsum('...i,...i', x, x);"
        "np.einsum(x, [Ellipsis, 0], x[0], [0], [Ellipsis]); np.einsum('ij,jk->ik', x[:, :1], x);"
        "np.einsum('ab,bc,cd,de->ae', x, x.T, x, x.T); np.einsum('ij,ij->i', x, x[:1])",
        A, F32, I32, ulps=4 * REORDERED,
    ),
    *every(
        "np.einsum('ii', x); np.einsum('ii->i', x); np.einsum('ii,ij->j', x, x); np.einsum('ij,ji', x, x)",
        SQUARE, ulps=REORDERED,
    ),
    case("np.einsum('iij->j', x)", RNG.standard_normal((3, 3, 2)), ulps=REORDERED),
    case("np.einsum('iii', x)", RNG.standard_normal((3, 3, 3)), ulps=REORDERED),
    case("np.einsum('bhqd,bhkd->bhqk', x, x[:, :, ::-1])", RNG.standard_normal((2, 2, 3, 4)), ulps=REORDERED),
    case("np.einsum('ij,jk', x, y)", MASK, MASK.T),
    case("np.einsum('...ij,...jk->...ik', x, y)", B, RNG.standard_normal((1, 4, 2)), ulps=REORDERED),
]  # fmt: skip

ELEMENTWISE = [
    *every(
        "np.abs(x); np.sign(x); x + 1; 2 - x; x * x; x / 3; x // 2; x % 2; np.mod(x, 3); np.divmod(x, 2); -x;"
        "np.square(x); x ** 2; np.pow(abs(x), 2); np.round(x, 1); np.around(x); x.round(-1); np.clip(x, -1, 1);"
        "np.clip(x, None, 1); np.clip(x, 0, None); np.clip(x, min=0); x.clip(0); np.maximum(x, 0); np.fmax(x, 1);"
        "np.fmin(x, 1); np.floor(x); np.ceil(x); np.trunc(x); np.fix(x); np.rint(x); np.isnan(x); np.isfinite(x);"
        "np.isposinf(x); np.isneginf(x); np.nan_to_num(x); np.nan_to_num(x, nan=1, posinf=2, neginf=3);"
        "np.deg2rad(x); np.degrees(x); np.radians(x); np.rad2deg(x); np.fabs(x); np.isclose(x, 1);"
        "np.isclose(x, x, equal_nan=True); np.allclose(x, x); np.array_equal(x, x); np.array_equal(x, x[0]);"
        "np.real(x); np.conj(x); np.where(x > 0, x, -x); np.where(x > 0, 1, x); np.heaviside(x, 0.5);"
        "np.float_power(abs(x), .5); np.select([x > 1, x < 0], [x, 10 * x], 7);"
        "np.select([x > 1, x < 0], [x > 2, x], 7.5); np.select([x > 1, x < 0], [x > 2, x < 2]); np.logical_not(x);"
        "np.logical_and(x, x > 0); np.positive(x); abs(x); np.astype(x, 'f4')",
        A, F32, I32.astype(np.int64), HOSTILE,
    ),
    *every("~x; x & 6; x | 1; x ^ 3; x << 1; x >> 1; np.invert(x); np.bitwise_invert(x); x << 2", I32, U8),
    *every("~x; x & True; np.logical_xor(x, True); x == x; np.logical_or(x, False)", MASK),
    *every(
        "np.sin(x); np.cos(x); np.exp(x); np.expm1(x); np.tanh(x); np.atan(x); np.asinh(x); np.atan2(x, 2.);"
        "np.hypot(x, 3.); np.sinh(x); np.sqrt(abs(x)); np.log(abs(x)); np.log1p(abs(x)); np.cbrt(x);"
        "np.logaddexp(x, 1.); np.exp2(x); np.acos(x / 9); np.atanh(x / 9)",
        A, F32, I32,
    ),
    case("np.logaddexp2(x, 1.)", A, ulps=4),  # three roundings more than NumPy's loop
]  # fmt: skip

CREATION = [
    *every(
        "np.zeros_like(x); np.ones_like(x, dtype='int32'); np.full_like(x, 3); np.full_like(x, 2, shape=(2,));"
        "np.zeros_like(x, shape=3); np.shape(x); np.ndim(x); np.size(x); np.size(x, 1); np.result_type(x, 1.0);"
        "np.result_type(x, 'f4'); np.iscomplexobj(x)",
        A, I32, F32,
    ),
    *every(
        "np.linspace(x, 2 * x + 1, 5); np.linspace(0, x, 4, endpoint=False, axis=-1); np.linspace(x, x, 3);"
        "np.linspace(x, 1, 1); np.linspace(x, 1, 0); np.linspace(1, x, 7, retstep=True); np.logspace(0, x, 4)",
        A, SCALAR, ulps=4,  # NumPy and we round step·i + start alike; logspace adds a power
    ),
]  # fmt: skip

INDEXING = [
    case("np.take(x, [0, -1, 2])", A),
    case("np.take(x, [[0, -1], [2, 1]], axis=1)", A),
    case("np.take(x, 2, axis=1)", A),
    case("np.take(x, [5, -7, 1], axis=0, mode='wrap')", A),
    case("np.take(x, [5, -7, 1], axis=0, mode='clip')", A),
    case("np.take(x, np.zeros(0, int), axis=0)", A),
    case("np.take(x, y, axis=1)", A, np.array([[3, 0], [-1, 2]])),
    case("np.take(x, y, axis=1, mode='wrap')", A, np.array([9, -9])),
    case("np.take_along_axis(x, y, 1)", A, np.array([[0], [-1], [2]])),
    case("np.take_along_axis(x, y, 0)", A, np.array([[0, 1, 2, -1]])),
    case("np.take_along_axis(x, np.argsort(x, axis=0), axis=0)", A),
    case("np.take_along_axis(x, y, None)", A, np.array([3, 1])),
    case("np.searchsorted(x, y)", np.sort(V), A),
    case("np.searchsorted(x, y, side='right')", np.array([1, 2, 2, 3]), I32),
    case("np.searchsorted(x, 0.5)", np.sort(V)),
    case("np.searchsorted(x, y, sorter=np.argsort(x))", V, A),
]

CHOSEN = [
    *every(
        "np.var(x, where=MASK); np.var(x, axis=0, where=MASK, keepdims=True); np.var(x, axis=1, ddof=1, where=MASK);"
        "np.std(x, where=MASK); np.std(x, axis=1, where=MASK[:1]); x.var(axis=1, where=MASK); x.std(where=MASK);"
        "np.var(x, axis=1, mean=np.mean(x, axis=1, keepdims=True)); np.std(x, mean=np.full((1, 1), 0.5));"
        "np.var(x, axis=1, where=np.zeros((3, 4), bool)); np.mean(x, axis=1, where=MASK);"
        "np.nanmean(x, axis=1, where=MASK); np.nanmax(x, axis=0, initial=-9, where=MASK);"
        "np.nanmin(x, initial=9.0, where=MASK); np.compress([True, False, True], x, axis=0);"
        "np.compress(MASK[0], x, axis=1); np.compress([0, 1, 0, 1], x); x.compress([True], axis=-1);"
        "np.extract(MASK, x); np.extract([1, 0, 1], x)",
        A, F32, HOSTILE[:1].repeat(3, 0), ulps=REORDERED,
    ),
    *every(
        "np.add(x, 1, casting='unsafe'); np.add(x, 1, dtype=np.float32); np.less(x, 1, dtype=bool);"
        "np.sin(x, dtype=np.float64); np.multiply(x, x, casting='no'); np.argsort(x, kind='heapsort');"
        "x.argsort(kind='stable'); x.take([0, 9, -14], mode='wrap'); x.take([5, 77], axis=1, mode='clip')",
        A, F32,
    ),
]  # fmt: skip

CASES = [*SHAPES, *REDUCTIONS, *CHOSEN, *LINEAR, *ELEMENTWISE, *CREATION, *INDEXING]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """NumPy warns of empty means and invalid values; here they are part of the meaning."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("program", "arrays", "ulps"), CASES)
def test_numpy_functions_on_traced_arrays(program, arrays, ulps):
    same(traced(program(np), *arrays), program(np)(*arrays), ulps)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("program", "arrays", "ulps"), CASES)
def test_our_functions_traced_and_eager(program, arrays, ulps):
    expected = program(np)(*arrays)
    source = Namespace()
    same(traced(program(source), *arrays), expected, ulps)
    if not source.missing:
        same(program(source)(*arrays), expected, ulps)


class Namespace:
    """`gradc.numpy`, and NumPy for what only NumPy has: ufunc methods and stride_tricks."""

    def __init__(self) -> None:
        self.missing = False

    def __getattr__(self, name: str) -> Any:
        if hasattr(gnp, name) and name not in ("add", "multiply", "maximum", "logical_or"):
            return getattr(gnp, name)
        self.missing = True
        return getattr(np, name)


# -- outside a trace --------------------------------------------------------------------------------------------------


def test_eager_results_are_numpy_values_that_the_caller_owns():
    x = np.arange(6.0).reshape(2, 3)
    y = gnp.reshape(x, (3, 2))
    assert type(y) is np.ndarray
    y[:] = 0
    assert x.any()
    gnp.broadcast_to(1.0, (2, 2))[0, 0] = 5
    assert isinstance(gnp.sum(x), np.float64)


@pytest.mark.parametrize("name", sorted(gnp.__all__))
def test_every_public_name_is_documented_numpy(name):
    value = getattr(gnp, name)
    if inspect.isfunction(value):
        assert value.__doc__
        if hasattr(np, name) and value.__module__.startswith("gradc.numpy"):
            _parameters_agree(name, value)


def _parameters_agree(name: str, ours: Any) -> None:
    """Positional parameters have NumPy's names in NumPy's order."""
    try:
        theirs = list(inspect.signature(getattr(np, name)).parameters.values())
    except ValueError:
        return
    skip = {"out", "initial", "where", "keepdims", "order", "subok", "kind", "like", "copy", "optimize"}
    mine = [p.name for p in inspect.signature(ours).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    given = [p.name for p in theirs if p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY)]
    mine, given = ([n for n in names if n not in skip] for names in (mine, given))
    assert mine == given[: len(mine)], (mine, given)


def test_creation_is_numpy():
    texts = (
        "zeros((2, 3)); ones(3, 'f4'); full((2,), 7); arange(2, 9, 3); eye(3, k=1); identity(2); tri(3);"
        "linspace(0, 1, 5); asarray([1, 2]); array([1., 2.], ndmin=2); linspace(0, 5, 3, dtype=int); full(2, [1, 2])"
    )
    for text in texts.split(";"):
        text = text.strip()
        same(eval(f"gnp.{text}"), eval(f"np.{text}"))
    assert gnp.pi == np.pi
    assert gnp.newaxis is None
    assert gnp.float32 is np.float32
    assert gnp.isdtype(gnp.int64, "integral")


def test_lists_of_traced_values_become_arrays():
    same(traced(lambda x, y: gnp.asarray([[x, 1.0], [y, x]]), 2.0, 3.0), np.array([[2.0, 1.0], [3.0, 2.0]]))
    same(traced(gnp.ascontiguousarray, 2.0), np.ascontiguousarray(2.0))
    same(traced(gnp.ascontiguousarray, np.ones((2, 3))), np.ascontiguousarray(np.ones((2, 3))))
    same(traced(lambda x: gnp.array([x, x], dtype="float32", ndmin=2), 2.0), np.array([[2, 2]], "f4"))


def test_full_takes_a_traced_value():
    same(traced(lambda x: gnp.full((2, 2), x), 3.0), np.full((2, 2), 3.0))
    padded = traced(lambda x: np.pad(np.zeros_like(x), 1, constant_values=x[0]), V)
    same(padded, np.pad(np.zeros(5), 1, constant_values=V[0]))


def test_value_dependent_functions_work_outside_a_trace():
    same(gnp.unique([3, 1, 3]), np.array([1, 3]))
    same(gnp.nonzero([0, 2]), np.nonzero([0, 2]))
    same(gnp.where(np.array([True, False])), np.where([True, False]))


# -- structure --------------------------------------------------------------------------------------------------------


def kinds(node: Node) -> set[str]:
    """Names of the ops that a node is made of."""
    from gradc.interpret import topological

    return {n.op.name for n in topological([node])}


def test_views_are_views():
    x = leaf(A)
    views = np.roll(x, 1), np.pad(x, 1, mode="reflect"), np.diag(x), np.repeat(x, [1, 0, 2], 0), np.tile(x, 2)
    for view in views:
        assert not kinds(view) & {"gather", "scatter", "constant"}


def test_like_functions_store_no_array():
    big = leaf(np.zeros(()))
    x = np.broadcast_to(big, (1000, 1000))
    assert np.ones_like(x).args[0].aval.size == 1
    assert "constant" not in kinds(np.tril(x)) or all(n.aval.size < 10 for n in np.tril(x).args[2].args)


def test_products_without_sums_are_elementwise():
    x = leaf(A)
    assert "contract" not in kinds(np.einsum("ij,j->ij", x, x[0]))
    assert "contract" in kinds(np.einsum("i,j->ij", x[0], x[1]))


def test_an_einsum_of_three_contracts_the_cheap_pair_first():
    big, small = leaf(np.zeros((50, 50))), leaf(np.zeros((50, 2)))
    result = np.einsum("ij,jk,kl->il", big, big, small)
    contracts = {n.shape for n in (result, *result.args) if n.op.name == "contract"}
    assert contracts == {(50, 2)} or (50, 50) not in contracts


def test_composites_are_labelled_with_the_operands_given():
    x, labels = leaf(A), leaf(np.array([0, 1, 2]))
    for node, name, operands in (
        (np.mean(x, axis=0), "mean", (x,)),
        (np.std(x), "std", (x,)),
        (np.clip(x, 0, 1), "clip", None),
        (nn.softmax(x), "softmax", (x,)),
        (nn.gelu(x), "gelu", (x,)),
        (nn.cross_entropy(x, labels), "cross_entropy", (x, labels)),
    ):
        assert node.label is not None
        assert node.label.name == name
        if operands is not None:
            assert all(a is b for a, b in zip(node.label.args, operands, strict=True))


# -- errors -----------------------------------------------------------------------------------------------------------

ERRORS: list[tuple[Callable[[Node], Any], type[Exception], str]] = [
    (lambda x: np.reshape(x, (5, -1)), ShapeError, r"reshape.*'w'.*size 12 into shape \(5, -1\)"),
    (lambda x: np.concatenate([x, x[:, :2]]), ShapeError, r"array 1 has shape \(3, 2\)"),
    (lambda x: np.stack([x, x[0]]), ShapeError, "array 1 has"),
    (lambda x: np.transpose(x, (0, 0)), ShapeError, "twice"),
    (lambda x: np.sum(x, axis=2), ShapeError, "axis 2 is out of bounds for 2 dimensions of traced array 'w'"),
    (lambda x: np.squeeze(x, 0), ShapeError, "length 3"),
    (lambda x: np.split(x, 2), ShapeError, "2 equal parts"),
    (lambda x: x @ x, ShapeError, r"matmul of shapes \(3, 4\) and \(3, 4\): axis 1 of the first \(4\)"),
    (lambda x: x @ 2.0, ShapeError, r"use \* instead"),
    (lambda x: np.einsum("ij,jk->ik", x, x), ShapeError, "ij,jk->ik"),
    (lambda x: np.einsum("ijk->i", x), ShapeError, "3 labels for the 2 axes"),
    (lambda x: np.einsum("ij->ik", x), ShapeError, "'k' of the output is in no operand"),
    (lambda x: np.max(x[:0]), ShapeError, "zero-size array to reduction operation maximum which has no identity"),
    (lambda x: np.argmax(x[:0]), ShapeError, "attempt to get argmax of an empty sequence"),
    (lambda x: np.linalg.norm(x, 3, axis=(0, 1)), TraceError, "expected 'fro', 'nuc'"),
    (lambda x: gnp.linalg.vector_norm(x, ord="fro"), TraceError, "is for matrices"),
    (lambda x: gnp.linalg.vector_norm(x, ord=[1]), TraceError, r"ord must be a number.*\[1\]"),
    (lambda x: gnp.linalg.matrix_norm(x, ord=x), TraceError, "ord must be a number"),
    (lambda x: np.sum(x, out=np.zeros(3)), TraceError, "immutable"),
    (lambda x: np.unique(x), TraceError, r"depend on the values of(.|\n)*gradc\.numpy\.unique\(…, size=n\)"),
    (lambda x: np.compress(x[0] > 0, x, axis=1), TraceError, "depend on the values of .*which is traced"),
    (lambda x: np.extract(x > 0, A), TraceError, "gradc.numpy.extract.*size=n"),
    (lambda x: np.compress(MASK, x), ShapeError, "one dimension"),
    (lambda x: np.add(x, 1, where=MASK), TraceError, r"leaves what it does not select(.|\n)*np.where\(mask, np.add"),
    (lambda x: np.add(x, 1, where=MASK, out=A.copy()), TraceError, r"np.where\(mask, np.add"),
    (lambda x: np.add(x, 1, dtype=int), DTypeError, "same_kind"),
    (lambda x: np.add(x, F32, casting="no"), DTypeError, "casting='no'"),
    (lambda x: np.less(x, 1, dtype=float), DTypeError, "dtype=float64"),
    (lambda x: np.argsort(x, kind="bogo"), ValueError, "kind must be 'quicksort'"),
    (lambda x: np.var(x, axis=0, mean=np.zeros((2, 3, 4))), ShapeError, "does not fit"),
    (lambda x: np.max(x, where=MASK), ShapeError, "needs initial="),
    (lambda x: np.sum(x, where=np.ones((2, 3, 4), bool)), ShapeError, r"where= of shape \(2, 3, 4\) does not"),
    (lambda x: np.max(x, where=np.ones(5, bool), initial=0), ShapeError, r"where= of shape \(5,\) does not"),
    (lambda x: np.nanmean(x, where=np.ones(5, bool)), ShapeError, r"where= of shape \(5,\) does not"),
    (lambda x: np.sort(x, kind=np.array(["a", "b"])), ValueError, "kind must be"),
    (lambda x: gnp.add(x, 1, casting=x), DTypeError, "casting="),
    (lambda x: np.nonzero(x), TraceError, "np.where"),
    (lambda x: np.where(x > 0), TraceError, "gradc.numpy.nonzero.*size=n"),
    (lambda x: gnp.zeros(x), TraceError, "add the argument to static="),
    (lambda x: gnp.arange(x[0, 0]), TraceError, "add the argument to static="),
    (lambda x: np.reshape(x, (x[0, 0], 2)), TraceError, "static="),
    (lambda x: np.repeat(x, x), TraceError, "static"),
    (lambda x: np.linalg.eig(x), TraceError, "complex"),
    (lambda x: np.poly(x), TraceError, "complex in general"),
    (lambda x: np.pad(x, 1, mode="mean"), TraceError, "supported: constant"),
    (lambda x: np.var(x, dtype=int), DTypeError, "floating dtype"),
    (lambda x: np.sum(x, where=I32), DTypeError, r"where= must be boolean(.|\n)*mask != 0"),
    (lambda x: np.clip(np.astype(x, "uint8"), -1, 1), DTypeError, "out of bounds"),
    (lambda x: np.gradient(x > 0), DTypeError, "truth values have no differences"),
    (lambda x: gnp.gradient(MASK, axis=0), DTypeError, "truth values have no differences"),
    (lambda x: gnp.average(x, axis=1, weights=[1, -1, 0, 0]), ZeroDivisionError, "sum up to 0"),
    (lambda x: gnp.average(x, 0, np.eye(3, 4)), ZeroDivisionError, "sum up to 0"),
    (lambda x: gnp.quantile(x, 0.5, method="inverted_cdf", weights=0 * A), ValueError, "not all 0"),
    (lambda x: gnp.quantile(x, 0.5, 1, method="inverted_cdf", weights=FIRST_ROW), ValueError, "in any line"),
    (lambda x: gnp.histogram([1, np.nan]), ValueError, "must be finite; give range"),
    (lambda x: gnp.histogram_bin_edges([[1, np.inf]]), ValueError, "must be finite; give range"),
    (lambda x: gnp.histogramdd([[1, np.nan], [2.0, 3]]), ValueError, "must be finite; give range"),
    (lambda x: gnp.histogramdd(np.array([[1, 2], [3, -np.inf]])), ValueError, "must be finite; give range"),
    (lambda x: gnp.histogram2d([1, 2], [1, np.nan]), ValueError, "must be finite; give range"),
]


@pytest.mark.parametrize(("program", "error", "text"), ERRORS)
def test_errors_name_line_operand_and_remedy(program, error, text):
    with pytest.raises(error, match=text) as caught:
        program(leaf(A, "w"))
    assert f"{__file__}:{program.__code__.co_firstlineno}" in str(caught.value)


def test_functions_are_registered_under_their_numpy_names():
    names = "linalg.norm getitem at matrix_transpose astype stack clip lib.stride_tricks.sliding_window_view"
    assert set(names.split()) <= FUNCTIONS.keys()


# -- what is known inside a trace -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: gnp.zeros(4),
        lambda: gnp.ones((4, 2)),
        lambda: gnp.full(4, 2.5),
        lambda: gnp.arange(4.0),
        lambda: gnp.linspace(0, 1, 4),
        lambda: gnp.eye(4),
        lambda: gnp.asarray([1.0, 2.0, 3.0, 4.0]),
        lambda: gnp.asarray(np.arange(4.0)),
        lambda: gnp.array(np.arange(4.0)),
        lambda: gnp.zeros_like(np.arange(4.0)),
        lambda: gnp.stack([np.arange(4.0)] * 4),
        lambda: gnp.zeros(4) * 2 + 1,
        lambda: gnp.cumsum(np.arange(4.0)),
        lambda: gnp.zeros(8).reshape(4, 2)[:, ::-1],
    ],
)
def test_arrays_that_are_known_inside_a_trace_are_updated_like_traced_ones(make):
    """They are NumPy arrays: outside a trace of NumPy's own class, inside with `.at`."""
    want = np.array(make())
    assert type(make()) is np.ndarray
    want[1] = 7.0

    def f(x):
        known = make()
        assert isinstance(known, np.ndarray) and float(known.sum()) == make().sum() and len(range(known.shape[0])) == 4
        return known.at[1].set(x)

    same(gc.jit(f)(7.0), want)
    same(gc.grad(lambda x: f(x).sum())(7.0), np.float64(want[1].size))


def test_known_arrays_take_traced_indices_and_refuse_traced_values():
    table = np.arange(12.0).reshape(4, 3)
    same(gc.jit(lambda i: gnp.asarray(table)[i])(np.array([2, 0])), table[[2, 0]])
    same(gc.jit(lambda i: gnp.asarray(table)[1:, i])(1), table[1:, 1])
    same(
        gc.jit(lambda x: gnp.asarray(np.array([-1.0, 300.0, np.nan])).astype("uint8") + x)(np.uint8(0)),
        np.array([0, 255, 0], np.uint8),
    )

    def assign(x):
        z = gnp.zeros(3)
        z[1] = 5.0
        z[0] = x
        return z

    with pytest.raises(TraceError, match=rf"{__file__}:\d+: item assignment(.|\n)*z = z\.at"):
        gc.jit(assign)(1.0)


def test_namespaces_list_what_they_give() -> None:
    """`dir` shows public names, none of what a module itself imports."""
    for module in (gc, gc.nn, gc.nn.init, gc.special, gc.optim, gc.linalg, gc.random, gc.sparse, gc.tree, gc.data):
        assert set(dir(module)) - {"init"} == set(module.__all__), module.__name__
        assert all(hasattr(module, name) for name in dir(module))
