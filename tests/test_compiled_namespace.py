"""Every public function of gradc.numpy, gradc.nn and gradc.special, compiled: what `gc.jit` gives is what NumPy gives.

Shapes and dtypes are NumPy's exactly.  Values are bit-equal where only elements move or IEEE arithmetic is done; else
they lie within the stated bound of the function (`Op.ulp`) or the bound of a sum in any order
(Higham, Accuracy and Stability of Numerical Algorithms, 4.2), measured against a reference in long double.
All rows of one group of arguments are compiled as one function.  Start reading at `ROWS`.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special as scipy_special

import gradc as gc
from gradc.numpy import factoring, solving
from gradc.ops import OPS
from tests import layer_cases
from tests.compiled_graph import same_bits
from tests.elementary_harness import ULP, extended, ulp_errors
from tests.name_rows import CASES as LESS_COMMON
from tests.name_rows import OWN

Array = np.ndarray[Any, Any]
WIDE = np.longdouble
#: Without a wider long double NumPy itself is the reference; its loops are tested to 4 units in the last place.
REFERENCE_ULP = 0.0 if np.finfo(WIDE).nmant > 52 else 4.0


# -- arguments --------------------------------------------------------------------------------------------------------
def _random() -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(7)
    return rng.standard_normal((3, 4)), 3 * rng.standard_normal((3, 4)), rng.standard_normal(4)


def _pairs(values: Any, dtype: Any) -> tuple[Array, Array, Array]:
    """All pairs of some numbers as two vectors, and the numbers themselves."""
    line = np.array(values, dtype)
    x, y = np.meshgrid(line, line)
    return x.ravel(), y.ravel(), line


def _hostile(dtype: Any) -> tuple[Array, Array, Array]:
    info = np.finfo(dtype)
    numbers = [0.0, info.smallest_subnormal, info.smallest_normal, 0.5, 1.0, 1.5, 2.5, 3.0, 100.5, info.max, np.inf]
    return _pairs([*numbers, *[-v for v in numbers], np.nan], dtype)


def _integer_edges() -> tuple[Array, Array, Array]:
    top = 2**63 - 1
    return _pairs([-top - 1, -top, -65, -64, -63, -2, -1, 0, 1, 2, 3, 31, 62, 63, 64, 65, 2**62, top], np.int64)


A, B, V = _random()
I8 = tuple(np.rint(4 * v).astype(np.int64) for v in (A, B, V))
GROUPS: dict[str, tuple[Array, ...]] = {
    "float64": (A, B, V),
    "float32": tuple(v.astype(np.float32) for v in (A, B, V)),
    "int64": I8,
    "bool": tuple(v > 0 for v in (A, B, V)),
    "scalar": tuple(np.array(v) for v in (1.5, -0.25, 2.0)),
    "empty": (np.zeros((0, 4)), np.ones((0, 4)), V),
    "backward": (A[::-1, ::-1], B.T.copy().T[:, ::-1], np.repeat(V, 2)[::-2]),
    "hostile64": _hostile(np.float64),
    "hostile32": _hostile(np.float32),
    "edges": _integer_edges(),
    "stack": (np.stack([A, B]), A[:, :3], B[:3, :3]),
    "classes": (B.T.copy(), np.array([2, 0, 1, 2]), np.array([0.5, 1.0, 2.0])),
    "probability": (1 / (1 + np.exp(-A)), 1 / (1 + np.exp(-B)), np.abs(A) + 0.1),
    "positive": (np.abs(A) + 0.01, np.abs(B) + 0.01, np.abs(V) + 0.01),
    "positive32": tuple((np.abs(v) + 0.01).astype(np.float32) for v in (A, B, V)),
    "unit": (np.tanh(A), np.tanh(B), np.tanh(V)),
}  # fmt: skip

FLOATS = ("float64", "float32")
PLAIN = (*FLOATS, "int64", "scalar", "empty", "backward")
HOSTILE = ("hostile64", "hostile32")
EVERYTHING = (*PLAIN, *HOSTILE)
MOVED = (*FLOATS, "int64", "bool", "backward")


# -- bounds -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Bound:
    """How far a result may be from the exact one: not at all, ``ulps``, or ``count`` epsilons of some magnitude."""

    ulps: str = ""  #: key of `ULP`
    count: float = 0.0
    scale: Callable[[Callable[..., Any], tuple[Array, ...], Array], Array] | None = None


EXACT = Bound()


def ulp(name: str) -> Bound:
    """Within the stated bound of an elementary function."""
    return Bound(ulps=name)


def _terms(f: Callable[..., Any], args: tuple[Array, ...], result: Array) -> Array:
    return np.abs(f(*map(np.abs, args)))


def _reach(f: Callable[..., Any], args: tuple[Array, ...], result: Array) -> Array:
    """1, the result, or the arguments: element by element if they have its shape."""
    near = [np.abs(a) for a in args[:2] if a.shape == result.shape]
    if not near:
        near = [np.max(np.abs(a[np.isfinite(a)]), initial=0.0) for a in args]
    return functools.reduce(np.fmax, [*near, np.abs(result)], np.ones(result.shape, WIDE))


#: A linear function of each argument: n terms in any order err by at most n epsilons of the sum of their magnitudes.
SUMS = Bound(count=24, scale=_terms)
#: Products and sums of positive terms have no cancellation: one epsilon for each of at most 24 roundings.
FACTORS = Bound(count=24, scale=lambda f, args, result: np.abs(result))
#: The stated bound of logaddexp counts in the last place of the largest of operands and result (it may cancel to 0).
LOGADDEXP = Bound(count=2.5, scale=_reach)
#: Differences of two products.
CROSS = Bound(count=4, scale=lambda f, args, result: np.abs(args[1]).max() * np.abs(args[2]).max())
#: A formula of at most ten operations of at most 4 ulp each, over magnitudes up to that of arguments and result.
FORMULA = Bound(count=40, scale=_reach)


# -- what is computed -------------------------------------------------------------------------------------------------
class _Reference:
    """NumPy, and what our namespace has under another roof than NumPy."""

    bfloat16 = gc.numpy.bfloat16
    logsumexp = staticmethod(scipy_special.logsumexp)
    sliding_window_view = staticmethod(np.lib.stride_tricks.sliding_window_view)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


OURS = SimpleNamespace(np=gc.numpy, nn=gc.nn, sp=gc.special)
THEIRS = SimpleNamespace(np=_Reference(), nn=gc.nn, sp=scipy_special)  # gc.nn outside a trace is the interpreter


@dataclass(frozen=True)
class Row:
    """Texts over x, y, z that are compiled for each of some groups of arguments and held to one bound."""

    texts: tuple[str, ...]
    groups: tuple[str, ...]
    bound: Bound


def row(texts: str, *groups: str, bound: Bound = EXACT) -> Row:
    return Row(tuple(filter(None, map(str.strip, texts.split(";")))), groups, bound)


def each(names: str, pattern: str) -> str:
    """The pattern for each of some names."""
    return ";".join(pattern.format(name) for name in names.split())


UNARY = (
    "abs absolute ceil conj conjugate fabs fix floor isfinite isinf isnan isneginf isposinf logical_not negative "
    "positive real rint round around sign sqrt square trunc nan_to_num deg2rad radians rad2deg degrees"
)
BINARY = (
    "add multiply subtract divide true_divide floor_divide mod remainder equal not_equal less less_equal greater "
    "greater_equal maximum minimum fmax fmin logical_and logical_or logical_xor heaviside divmod"
)
BITS = "bitwise_and bitwise_or bitwise_xor"
SHIFTS = "left_shift right_shift bitwise_left_shift bitwise_right_shift"

ELEMENTARY = [
    *[
        row(f"np.{name}(x)", *EVERYTHING, bound=ulp(bound))
        for name, bound in [
            *[(n, n) for n in ("exp", "exp2", "expm1", "sin", "cos", "tan", "arctan", "tanh", "sinh", "cosh", "cbrt")],
            ("arcsinh", "arcsinh"),
            ("atan", "arctan"), ("asinh", "arcsinh"),
        ]
    ],
    *[
        row(f"np.{name}(x)", "positive", "positive32", "int64", "scalar", *HOSTILE, bound=ulp(bound))
        for name, bound in [
            ("log", "log"), ("log2", "log2"), ("log10", "log10"), ("log1p", "log1p"),
            ("arccosh", "arccosh"), ("acosh", "arccosh"),
        ]
    ],
    *[
        row(f"np.{name}(x)", "unit", *HOSTILE, bound=ulp(bound))
        for name, bound in [
            ("arcsin", "arcsin"), ("asin", "arcsin"), ("arccos", "arccos"), ("acos", "arccos"),
            ("arctanh", "arctanh"), ("atanh", "arctanh"),
        ]
    ],
    row("np.hypot(x, y)", *EVERYTHING, bound=ulp("hypot")),
    row("np.arctan2(x, y); np.atan2(x, y)", *EVERYTHING, bound=ulp("arctan2")),
    row("np.logaddexp(x, y)", *EVERYTHING, bound=LOGADDEXP),
    row("np.logaddexp2(x, y)", *EVERYTHING, bound=FORMULA),
    row("np.power(x, y); np.pow(x, y); x ** y", "positive", "positive32", "scalar", *HOSTILE, bound=ulp("pow")),
    row("np.float_power(x, y)", "positive", "positive32", "int64", *HOSTILE, bound=ulp("pow")),
    row("np.power(x, y & 63); x ** 2; x ** 3", "int64", "edges"),
    row("x ** 2; np.power(x, 2)", *EVERYTHING),
    row("np.reciprocal(x)", *FLOATS, "scalar", "empty", "backward", *HOSTILE),
    row("np.logspace(0, z, 4); np.logspace(z, 1.0, 3)", *FLOATS, bound=FORMULA),
    row("np.linspace(z, 2 * z + 1, 5); np.linspace(0, z, 4, endpoint=False);"
        "np.linspace(z, z, 3, retstep=True)", *FLOATS),
]  # fmt: skip

ELEMENTWISE = [
    row(each(UNARY, "np.{}(x)"), *EVERYTHING),
    row(each(BINARY, "np.{}(x, y)"), *EVERYTHING),
    row(each("abs isfinite isinf isnan logical_not sign round square positive negative", "np.{}(x)"), "edges"),
    row(each(BINARY, "np.{}(x, y)"), "edges"),
    row("np.round(x, 1); np.round(x, -1); np.clip(x, -1, 1); np.clip(x, None, 1); np.clip(x, 0, None);"
        "np.clip(x, y, 2)",
        *EVERYTHING),
    row("np.isclose(x, y); np.isclose(x, x, equal_nan=True); np.allclose(x, y); np.allclose(x, x);"
        "np.array_equal(x, x);"
        "np.array_equal(x, y); np.nan_to_num(x, nan=1, posinf=2, neginf=3)", *EVERYTHING),
    row(each(f"{BITS} {SHIFTS}", "np.{}(x, y)"), "int64", "edges"),
    row(each(BITS, "np.{}(x, y)"), "bool"),
    row(each("invert bitwise_not bitwise_invert", "np.{}(x)"), "int64", "bool", "edges"),
    row(each("logical_and logical_or logical_xor equal not_equal less greater_equal add multiply maximum minimum",
             "np.{}(x, y)") + "; np.logical_not(x); np.abs(x); x & True; x | False; ~x; x ^ y", "bool"),
    row("np.where(x > 0, x, y); np.where(x > 0, 1, y); np.select([x > 1, x < 0], [x, y], 7);"
        "np.astype(x, np.float32); np.astype(x, np.float64); np.astype(x, np.bool_);"
        "np.astype(x, np.bool)", *EVERYTHING),
    row(each("float16 bfloat16", "np.astype(np.astype(x, np.{}), np.float32)"), *FLOATS, "int64", "bool"),
    row("np.astype(x, np.int8); np.astype(x, np.int16); np.astype(x, np.int32); np.astype(x, np.int64);"
        "np.astype(x, np.uint8); np.astype(x, np.uint16); np.astype(x, np.uint32); np.astype(x, np.uint64)",
        "int64", "bool", "edges", "scalar"),
    row("x * np.pi; x + np.e; x - np.euler_gamma; np.where(x > 0, np.nan, np.inf); x[np.newaxis]; x * np.size(x);"
        "x * np.ndim(x); np.reshape(x, np.shape(x)); x + np.finfo(np.float32).eps; x + np.iinfo(np.int8).max;"
        "x if np.can_cast(np.float32, np.float64) else y; np.astype(x, np.promote_types(np.int8, np.float32));"
        "np.astype(x, np.result_type(x, y)); x if np.isdtype(np.dtype('int8'), 'integral') else y;"
        "np.broadcast_to(x, np.broadcast_shapes((2, 1, 1), np.shape(x)))", *FLOATS, "int64"),
]  # fmt: skip

MOVES = [
    row("np.reshape(x, (-1,)); np.reshape(x, (4, 3), order='F'); np.ravel(x); np.transpose(x);"
        "np.permute_dims(x, (1, 0));"
        "np.swapaxes(x, 0, 1); np.moveaxis(x, 0, 1); np.rollaxis(x, 1); np.expand_dims(x, (0, -1));"
        "np.matrix_transpose(x);"
        "np.squeeze(np.expand_dims(x, 1), axis=1); np.flip(x); np.flip(x, 1); np.fliplr(x); np.flipud(x); np.rot90(x);"
        "np.rot90(x, -1); np.roll(x, 2); np.roll(x, -1, 1); np.roll(x, (1, 2), (0, 1)); np.broadcast_to(x, (2, 3, 4));"
        "np.atleast_1d(x); np.atleast_2d(x); np.atleast_3d(x); np.copy(x); np.tril(x); np.triu(x, 1); np.diagonal(x);"
        "np.diagonal(x, 1); np.diag(x); np.diag(z, -2); np.diagflat(z, 1); np.repeat(x, 2);"
        "np.repeat(x, [0, 2, 1], axis=0);"
        "np.tile(x, 2); np.tile(x, (2, 1, 3)); np.pad(x, 1); np.pad(x, ((1, 2), (0, 3)), constant_values=1);"
        "np.pad(x, 2, mode='edge'); np.pad(x, 2, mode='reflect'); np.pad(x, (3, 1), mode='symmetric');"
        "np.pad(x, 5, mode='wrap'); np.concatenate([x, y]); np.concat([x, y], axis=1); np.concatenate((x, y), None);"
        "np.stack([x, y]); np.stack([x, y], axis=-1); np.vstack([x, z]); np.hstack([x, y]); np.dstack([x, y]);"
        "np.column_stack([x[:, 0], x]); np.append(x, y); np.append(x, y, axis=1); np.split(x, 3);"
        "np.split(x, [1, 3], axis=1);"
        "np.array_split(x, 3, axis=1); np.hsplit(x, 2); np.vsplit(x, [1]); np.unstack(x, axis=1);"
        "np.meshgrid(z, x[:, 0]); np.meshgrid(z, x[0], indexing='ij'); np.broadcast_arrays(x, z);"
        "np.sliding_window_view(x, (2, 3)); np.sliding_window_view(x, 2, axis=0); x[::-1, ::2]; x[2:0:-1]; x[-1];"
        "x[..., None]",
        *MOVED),
    row("np.dsplit(x, 2); np.linalg.diagonal(x, offset=1); np.linalg.matrix_transpose(x);"
        "np.diagonal(x, 0, 0, 2)", "stack"),
    row("np.take(x, [0, -1, 2]); np.take(x, [[0, -1], [2, 1]], axis=1); np.take(x, [5, -7], axis=0, mode='wrap');"
        "np.take(x, [5, -7], axis=0, mode='clip'); np.take_along_axis(x, np.argsort(x, axis=0), axis=0);"
        "np.sort(x); np.sort(x, axis=0); np.sort(x, axis=None); np.argsort(x, kind='stable');"
        "np.diff(x) if x.dtype == bool else x",
        *MOVED),
    row("np.sort(x, kind='stable'); np.argsort(x, kind='stable'); np.searchsorted(np.sort(z), x);"
        "np.searchsorted(np.sort(z), x, side='right')",
        *HOSTILE, "edges", "float64", "int64"),
    row("np.diff(x); np.diff(x, n=2, axis=0); np.diff(x, prepend=x[:, :1], append=0)", *FLOATS, "int64", "backward"),
    row("np.max(x); np.amax(x, 0); np.min(x, axis=(0, 1)); np.amin(x, axis=1, keepdims=True); np.max(x, initial=1);"
        "np.ptp(x); np.ptp(x, axis=0); np.argmax(x); np.argmax(x, axis=0); np.argmin(x, axis=1, keepdims=True);"
        "np.argmin(x); np.any(x); np.any(x, axis=0); np.all(x, keepdims=True); np.all(x, axis=1); np.count_nonzero(x);"
        "np.count_nonzero(x, axis=1); np.median(x, axis=0); np.nanmax(x, axis=0);"
        "np.nanmin(x)", *FLOATS, "int64", "backward"),
    row("np.max(x); np.min(x); np.argmax(x); np.argmin(x); np.any(x); np.all(x); np.count_nonzero(x); np.nanmax(x);"
        "np.nanmin(x); np.ptp(x)", *HOSTILE, "edges"),
    row("np.max(x); np.argmin(x); np.any(x); np.all(x, axis=0); np.count_nonzero(x); np.sort(x)", "bool"),
    row("np.sum(x); np.sum(x, axis=0); np.prod(x, axis=1); np.max(x, axis=1); np.any(x); np.all(x);"
        "np.cumsum(x, axis=0);"
        "np.max(x, initial=2.); np.argmax(x, axis=1); np.sort(x, axis=0); np.mean(x, axis=0); np.var(x); np.median(x);"
        "np.linalg.norm(x); np.count_nonzero(x); np.ptp(x, axis=1); np.logsumexp(x[:, :0], axis=1); x @ x.T; x.T @ x;"
        "np.einsum('ij,kj->ik', x, y); np.reshape(x, (2, 0, 3)); np.ravel(x); np.flip(x); np.roll(x, 1); np.pad(x, 1);"
        "np.tile(x, (2, 2)); np.repeat(x, 2, 0); np.concatenate([x, y]); np.stack([x, y]); np.tril(x); np.diff(x);"
        "np.take(x, [], axis=1) if False else x; np.outer(x, y); np.nansum(x); np.cumprod(x)", "empty"),
    row("np.sum(x); np.prod(x); np.mean(x); np.max(x); np.argmax(x); np.any(x); np.std(x); np.cumsum(x); np.ravel(x);"
        "np.tile(x, 3); np.atleast_2d(x); np.stack([x, y, 2.0]); np.outer(x, y); np.sort(x, axis=None);"
        "np.dot(x, y)", "scalar"),
]  # fmt: skip

MADE = [
    row("np.zeros((2, 3)); np.ones(3, 'f4'); np.full((2,), 7); np.full((2, 3), z[0]); np.arange(2, 9, 3);"
        "np.eye(3, k=1);"
        "np.identity(2); np.tri(3); np.indices((2, 3)); np.tril_indices(3); np.triu_indices(3, 1);"
        "np.linspace(0, 1, 5);"
        "np.logspace(0, 2, 3); np.zeros_like(x); np.ones_like(x, dtype='int32'); np.full_like(x, 3);"
        "np.shape(np.empty((2, 3)));"
        "np.shape(np.empty_like(x)); np.asarray([[x, y], [y, x]]); np.asanyarray(x); np.ascontiguousarray(x.T);"
        "np.array([x, y], ndmin=4); np.array([1, 2]); np.asarray(x, dtype='float32');"
        "np.nonzero([0, 2]); np.argwhere([[0, 1], [2, 0]]); np.flatnonzero([0, 3]); np.compress([True, False], [1, 2]);"
        "np.extract([True, False], [1, 2]); np.unique([3, 1, 3]); np.unique_all([3, 1, 3]).inverse_indices;"
        "np.unique_counts([3, 1, 3]).counts; np.unique_inverse([3, 1, 3]).values; np.unique_values([3, 1, 3]);"
        "np.einsum_path('ij,jk->ik', x, y.T)[0][1]", "float64", "float32", "int64"),
]  # fmt: skip

REDUCED = [
    row("np.sum(x); np.sum(x, axis=0); np.sum(x, axis=(0, 1), keepdims=True); np.sum(x, axis=());"
        "np.sum(x, axis=1, initial=3);"
        "np.sum(x, where=abs(x) > 1); np.mean(x); np.mean(x, axis=1, keepdims=True); np.mean(x, where=abs(x) > 1);"
        "np.average(x, axis=0); np.average(x, axis=1, weights=abs(z) + 1.); np.cumsum(x); np.cumsum(x, axis=0);"
        "np.cumulative_sum(x, axis=1, include_initial=True); np.nansum(x); np.nanmean(x, axis=1);"
        "np.trapezoid(x, dx=.5);"
        "np.trapezoid(x, x=z); np.trace(x); np.linalg.trace(x)", *FLOATS, "int64", "backward", bound=SUMS),
    row("np.sum(x); np.mean(x, axis=0); np.cumsum(x); np.trace(x); np.prod(x);"
        "np.sum(x, dtype=bool)", "bool", bound=SUMS),
    row("np.sum(x); np.cumsum(x); np.prod(x); np.cumprod(x); np.trace(np.reshape(x, (18, 18)))", "edges"),
    row("np.prod(x); np.prod(x, axis=0, keepdims=True); np.cumprod(x, axis=1); np.cumulative_prod(x, axis=0);"
        "np.nanprod(x);"
        "np.var(x); np.var(x, axis=0, ddof=1); np.std(x); np.std(x, axis=1, keepdims=True); np.linalg.norm(x);"
        "np.linalg.norm(x, axis=0); np.linalg.norm(x, 1, axis=1); np.linalg.norm(x, np.inf);"
        "np.linalg.norm(x, 3, axis=0);"
        "np.linalg.vector_norm(x, axis=1); np.linalg.matrix_norm(x); np.linalg.matrix_norm(x, ord=1)",
        *FLOATS, "int64", "backward", bound=FACTORS),
    row("np.logsumexp(x, axis=1); np.logsumexp(x, axis=0, keepdims=True); sp.logsumexp(x, axis=1)",
        *FLOATS, "int64", "backward", bound=FORMULA),
    row("np.logsumexp(x)", *FLOATS, "int64", "backward", "scalar", bound=FORMULA),
    row("np.sum(x); np.mean(x); np.prod(x); np.nansum(x); np.cumsum(x); np.var(x); np.linalg.norm(x); np.logsumexp(x);"
        "np.median(x)", *HOSTILE, bound=FACTORS),
    row("np.matmul(x, y.T); x @ z; z @ x.T; np.dot(x, z); np.inner(x, y); np.vdot(x, y); np.outer(x, z);"
        "np.tensordot(x, y.T, 1);"
        "np.tensordot(x, y, ([1], [1])); np.kron(x, z); np.vecdot(x, y); np.matvec(x, z); np.vecmat(z, x.T);"
        "np.convolve(z, x[0]);"
        "np.convolve(z, x[0], 'same'); np.einsum('ij,kj->ik', x, y); np.einsum('ij,j->', x, z);"
        "np.einsum('...j->...', x);"
        "np.einsum(x, [0, 1], [1, 0]); np.einsum('ij,kj,k->i', x, y, y[:, 0]); np.linalg.matmul(x, y.T);"
        "np.linalg.outer(z, z);"
        "np.linalg.tensordot(x, y.T, axes=1); np.linalg.vecdot(x, y); np.linalg.multi_dot([x, y.T, x, z])",
        *FLOATS, "int64", "backward", bound=SUMS),
    row("np.matmul(x, y.T); x @ z; np.einsum('ij,kj->ik', x, y)", "bool"),
    row("np.matmul(np.swapaxes(x, 1, 2), y); np.einsum('bij,ik->bjk', x, y); np.linalg.matrix_power(y, 5);"
        "np.linalg.matrix_power(z, 0)", "stack", bound=SUMS),
    row("np.cross(y, z); np.linalg.cross(y, z[0])", "stack", bound=CROSS),
]  # fmt: skip

#: The functions that SciPy has and NumPy lacks, exactly (mpmath), and the bound each is stated to keep.
SPECIAL: dict[str, tuple[Callable[[Any], Any], str, tuple[str, ...]]] = {
    "erf": (mpmath.erf, "erf", EVERYTHING),
    "erfc": (mpmath.erfc, "erfc", (*FLOATS, "scalar", "empty")),
    "expit": (lambda x: 1 / (1 + mpmath.exp(-x)), "sigmoid", (*FLOATS, "scalar", "empty")),
    "gammaln": (lambda x: mpmath.log(abs(mpmath.gamma(x))), "lgamma", ("positive", "positive32", "scalar")),
    "digamma": (mpmath.digamma, "digamma", ("positive", "positive32", "scalar")),
    "psi": (mpmath.digamma, "digamma", ("positive", "positive32")),
}
SPECIALS = [
    *[row(f"sp.{name}(x)", *groups, bound=ulp(bound)) for name, (_, bound, groups) in SPECIAL.items()],
    *[row(f"sp.{name}(x)", *FLOATS, *HOSTILE, bound=ulp(name)) for name in ("exp2", "expm1", "cbrt")],
    row("sp.log1p(x)", "positive", "positive32", *HOSTILE, bound=ulp("log1p")),
    row("sp.log_expit(x); sp.softmax(x); sp.softmax(x, axis=1); sp.log_softmax(x); sp.log_softmax(x, axis=0)",
        *FLOATS, "int64", "backward", bound=FORMULA),
    row("sp.logit(x); sp.xlogy(x, y); sp.entr(x)", "probability", bound=FORMULA),
    row("sp.xlogy(x, y); sp.entr(abs(x))", "float64", bound=FORMULA),
    row("sp.erfinv(x); sp.erfcinv(x); sp.ndtri(x); sp.xlog1py(x, y); sp.rel_entr(x, y); sp.kl_div(x, y)", "probability",
        bound=FORMULA),
    row("sp.ndtr(x); sp.huber(1.0, x); sp.pseudo_huber(1.5, x); sp.xlog1py(x, abs(x))", *FLOATS, bound=FORMULA),
    row("sp.loggamma(x)", "positive", bound=FORMULA),
    row("sp.erfcx(x); sp.dawsn(x); sp.erfi(x); sp.log_ndtr(x); sp.exprel(x); sp.ellipe(-x); sp.ellipk(-x)", *FLOATS[:2],
        bound=FORMULA),
    row("sp.expi(x); sp.exp1(x); sp.expn(2, x); sp.spence(x); sp.sici(x); sp.shichi(x); sp.fresnel(x); sp.ellipk(-x)",
        "positive", bound=FORMULA),
    row("sp.j0(x); sp.j1(x); sp.jn(2, x); sp.jv(0.5, x); sp.y0(x); sp.y1(x); sp.yn(2, x); sp.yv(0.5, x)", "positive",
        bound=FORMULA),
    row("sp.i0(x); sp.i0e(x); sp.i1(x); sp.i1e(x); sp.iv(2, x); sp.ive(0.5, x); sp.ellipkm1(x)", "positive",
        bound=FORMULA),
    row("sp.k0(x); sp.k0e(x); sp.k1(x); sp.k1e(x); sp.kn(2, x); sp.kv(0.5, x); sp.kve(0.5, x)", "positive",
        bound=FORMULA),
    row("sp.polygamma(0, x); sp.polygamma(1, x); sp.polygamma(3, x)", "positive", bound=FORMULA),
    row("sp.boxcox(x, y); sp.boxcox1p(x, y); sp.inv_boxcox(x, y); sp.inv_boxcox1p(x, y); sp.multigammaln(x + 1.0, 2)",
        "positive", "probability", bound=FORMULA),
    row("sp.zeta(x + 1.5); sp.zeta(x + 1.5, y)", "positive", "positive32", bound=FORMULA),
    row("sp.comb(x + y, y); sp.perm(x + y, y)", "positive", bound=FORMULA),
    row("sp.comb(abs(x), 2.0, repetition=True); sp.comb(x, y); sp.perm(x, y)", "float64", bound=FORMULA),
    row("sp.factorial(x)", "positive", "int64", bound=FORMULA),
    row("sp.factorial2(x)", "int64", bound=FORMULA),
    row("sp.gammasgn(x)", *FLOATS, "hostile64"),
]  # fmt: skip

ACTIVATIONS = (
    "relu relu6 hardtanh hardsigmoid hardswish leaky_relu elu celu selu sigmoid logsigmoid tanh softplus softsign gelu "
    "silu mish hardshrink softshrink tanhshrink relu_squared rrelu"
)
LAYERS = [
    row(each(ACTIVATIONS, "nn.{}(x)") + "; nn.gelu(x, approximate='tanh'); nn.elu(x, 2.0); nn.softplus(x, 2.0)",
        *PLAIN, bound=FORMULA),
    row(each("relu relu6 hardtanh leaky_relu sigmoid logsigmoid tanh softplus selu",
        "nn.{}(x)"), *HOSTILE, bound=FORMULA),
    row("nn.softmax(x); nn.softmax(x, dim=0); nn.softmax(x, axis=(0, 1)); nn.log_softmax(x); nn.softmin(x);"
        "nn.linear(x, y, x[:, 0]); nn.layer_norm(x, 4, z, z); nn.rms_norm(x, 4, z); nn.normalize(x);"
        "nn.normalize(x, p=1, dim=0); nn.scaled_dot_product_attention(x, y, y);"
        "nn.conv2d(x[None], y[None, None, :2, :3], z[:1], padding=1); nn.max_pool2d(x[None], 2, 1, 1);"
        "nn.avg_pool2d(x[None], 2); nn.dropout(x, 0.5, np.array([0, 3], np.uint32));"
        "nn.dropout2d(x[None], 0.25, np.array([0, 3], np.uint32))",
        *FLOATS, "int64", "backward", bound=FORMULA),
    row("nn.cross_entropy(x, y); nn.cross_entropy(x, y, reduction='none'); nn.cross_entropy(x, y, z, ignore_index=0);"
        "nn.cross_entropy(x, y, label_smoothing=0.1); nn.nll_loss(nn.log_softmax(x), y);"
        "nn.nll_loss(x, y, z, reduction='sum');"
        "nn.embedding(y, x); nn.one_hot(y, 3) * 1.0", "classes", bound=FORMULA),
    row("nn.focal_loss(x, y); nn.multi_margin_loss(x, y); nn.causal_lm_loss(x, y);"
        "nn.ctc_loss(nn.log_softmax(x), np.where(y == 0, 1, y)[:1], 4, 1)", "classes", bound=FORMULA),
    row("nn.crelu(x); nn.glu(x); nn.reglu(x); nn.geglu(x); nn.swiglu(x); nn.maxout(x, 2); nn.threshold(x, 0.5, 2.0);"
        "nn.prelu(x, z); nn.cosine_similarity(x, y); nn.pdist(x);"
        "nn.pairwise_distance(x, y); nn.log_cosh_loss(x, y); nn.quantile_loss(x, y, 0.3); nn.info_nce_loss(x, y);"
        "nn.triplet_margin_loss(x, y, x + 1.0); nn.triplet_margin_with_distance_loss(x, y, x + 1.0);"
        "nn.multilabel_margin_loss(x, np.ones((3, 4), int)); nn.hinge_loss(x, 1.0); nn.soft_margin_loss(x, 1.0);"
        "nn.hinge_embedding_loss(x, -1.0); nn.margin_ranking_loss(x, y, 1.0);"
        "nn.cosine_embedding_loss(x, y, np.ones(3))", "float64", "float32", bound=FORMULA),
    row("nn.gumbel_softmax(x, key=np.array([0, 3], np.uint32)); nn.mixup(x, y, key=np.array([0, 3], np.uint32));"
        "nn.cutmix(x[:, None, :, None], y, key=np.array([0, 3], np.uint32))",
        "float64", bound=FORMULA),
    row("nn.sigmoid_focal_loss(x, y); nn.dice_loss(x, y); nn.multilabel_soft_margin_loss(x, y)", "probability",
        bound=FORMULA),
    row("nn.one_hot(y, 3); nn.one_hot(y, 5, dtype='float32')", "classes"),
    row("nn.cross_entropy(x, y); nn.kl_div(np.log(x), y); nn.kl_div(np.log(x), y, reduction='batchmean');"
        "nn.binary_cross_entropy(x, y); nn.binary_cross_entropy(x, y, reduction='none');"
        "nn.binary_cross_entropy_with_logits(x, y, pos_weight=z); nn.gaussian_nll_loss(x, y, z, full=True);"
        "nn.poisson_nll_loss(x, y); nn.poisson_nll_loss(x, y, log_input=False)", "probability", bound=FORMULA),
    row("nn.mse_loss(x, y); nn.l1_loss(x, y, reduction='none'); nn.huber_loss(x, y, delta=0.5);"
        "nn.smooth_l1_loss(x, y)",
        *FLOATS, "int64", "backward", bound=FORMULA),
]  # fmt: skip

ROWS = [*ELEMENTARY, *ELEMENTWISE, *MOVES, *MADE, *REDUCED, *SPECIALS, *LAYERS]
CASES = {(text, group): row.bound for row in ROWS for group in row.groups for text in row.texts}


# -- the walk ---------------------------------------------------------------------------------------------------------
def _public_names() -> Iterator[str]:
    """All but those that a record alone makes public, for the registry walk compiles the op, and what needs
    factorisations, which test_linalg.py compiles."""
    spaces = {"numpy": gc.numpy, "nn": gc.nn, "special": gc.special, "linalg": gc.numpy.linalg}
    written = {"numpy": "np", "special": "sp", "linalg": "np.linalg"}
    walked = {op.public for op in OPS.values()} | {f"linalg.{n}" for n in (*factoring.__all__, *solving.__all__)}
    for home, namespace in spaces.items():
        functions = [n for n in namespace.__all__ if not isinstance(getattr(namespace, n), type) or home == "numpy"]
        yield from (f"{written.get(home, home)}.{n}" for n in functions if f"{home}.{n}" not in walked)


def _layers() -> Iterator[str]:
    """The programs of layers, which `test_nn_layers.py` compiles, and the text of the files that test the others so."""
    yield from (re.sub(r"\b[FT]\.", "nn.", text) for text in layer_cases.CASES)
    for name in ("nn_attention", "nn_recurrent", "nn_states", "nn"):
        yield (Path(__file__).parent / f"test_{name}.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(_public_names()))
def test_every_public_name_has_a_case(name):
    texts = [text for text, _ in (*CASES, *LESS_COMMON)] + list(OWN) + [*_layers()]
    assert any(re.search(rf"\b{re.escape(name)}\b", text) for text in texts), f"no row of ROWS uses {name}"


# -- the comparison ---------------------------------------------------------------------------------------------------
def _program(text: str, namespace: SimpleNamespace) -> Callable[..., Any]:
    return eval(f"lambda x, y, z: {text}", vars(namespace).copy())  # type: ignore[no-any-return]


def _flat(result: Any) -> list[Any]:
    return [leaf for part in result for leaf in _flat(part)] if isinstance(result, (list, tuple)) else [result]


@functools.cache
def _compiled(group: str) -> dict[str, list[Any]] | Exception:
    """Every text of a group, compiled as one function: its flat results, or what went wrong (once, not per text)."""
    texts = [text for text, g in CASES if g == group]
    programs = {text: _program(text, OURS) for text in texts}

    def everything(x: Any, y: Any, z: Any) -> dict[str, list[Any]]:
        results = {}
        for text, program in programs.items():
            try:
                results[text] = _flat(program(x, y, z))
            except Exception as error:
                error.add_note(f"while tracing {text!r} on {group}")
                raise
        return results

    try:
        results: dict[str, list[Any]] = gc.jit(everything)(*GROUPS[group])
    except Exception as error:
        return error
    return results


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """NumPy warns of empty means and invalid values; here they are part of the meaning."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.sampled(2, each=("text", "group"))
@pytest.mark.parametrize(("text", "group"), CASES, ids=lambda value: value if len(value) < 60 else value[:57] + "...")
def test_compiled_is_numpy(text, group):
    program, bound = _program(text, THEIRS), CASES[text, group]
    expected = _flat(program(*GROUPS[group]))
    exact = expected if bound == EXACT else _flat(_reference(text, program, GROUPS[group], bool(bound.ulps)))
    compiled = _compiled(group)
    if isinstance(compiled, Exception):
        raise compiled
    actual = compiled[text]
    assert len(actual) == len(expected)
    for k, (a, e, wide) in enumerate(zip(actual, expected, exact, strict=True)):
        a, e = np.asarray(a), np.asarray(e)
        assert (a.shape, a.dtype) == (e.shape, e.dtype)
        if bound == EXACT or e.dtype.kind != "f":
            assert same_bits(a, e), f"got {a}\nexpected {e}"
        elif bound.ulps:
            errors = ulp_errors(a, np.asarray(wide, WIDE), str(e.dtype))
            allowed = ULP[bound.ulps][str(e.dtype)] + (REFERENCE_ULP if e.dtype == np.float64 else 0.0)
            assert errors.max(initial=0) <= allowed, f"{errors.max()} ulp: got {a}\nexpected {e}"
        else:
            _assert_near(a, e, np.asarray(wide, WIDE), _allowed(bound, program, group, k, e))


def _reference(text: str, program: Callable[..., Any], args: tuple[Array, ...], inexact: bool) -> Any:
    """The result in long double, or of SciPy's functions in float64 where only those exist.

    Integers are widened too if what is computed of them is ``inexact``: NumPy's own float64 may be off.
    """
    name = text.removeprefix("sp.").removesuffix("(x)")
    if text.startswith("sp.") and name in SPECIAL:
        return _by_mpmath(SPECIAL[name][0], args[0], program(*args))
    if text.startswith(("nn.", "sp.")) and name not in ("exp2", "expm1", "cbrt", "log1p"):
        return program(*[_widened(a, np.float64) for a in args])
    if name in ("exp2", "expm1", "cbrt", "log1p"):
        return getattr(np, name)(_widened(args[0], WIDE))
    return program(*[a.astype(WIDE) if inexact and a.dtype.kind in "iu" else _widened(a, WIDE) for a in args])


def _widened(array: Array, dtype: Any) -> Array:
    return array.astype(dtype) if array.dtype.kind == "f" else array


def _by_mpmath(function: Callable[[Any], Any], x: Array, fallback: Any) -> Array:
    """The exact values where argument and result are finite and not zero, SciPy's elsewhere."""
    result = np.asarray(fallback, WIDE).copy()
    finite = np.isfinite(x) & np.isfinite(result) & (x != 0)  # mpmath has no −0
    with mpmath.workdps(40):
        result[finite] = extended([function(mpmath.mpf(float(v))) for v in x[finite]])
    return result


def _allowed(bound: Bound, program: Callable[..., Any], group: str, k: int, expected: Array) -> Array:
    args = tuple(_widened(a, np.float64) for a in GROUPS[group])
    assert bound.scale is not None
    scale = np.asarray(bound.scale(lambda *a: _flat(program(*a))[k], args, expected), WIDE)
    return bound.count * np.finfo(expected.dtype).eps * scale + np.finfo(expected.dtype).smallest_subnormal


def _assert_near(actual: Array, expected: Array, exact: Array, allowed: Array) -> None:
    finite = np.isfinite(expected)
    assert same_bits(actual[~finite], expected[~finite]), f"got {actual}\nexpected {expected}"
    error = np.abs(actual.astype(WIDE) - exact)
    assert (error <= allowed)[finite].all(), f"errors {error}\nallowed {allowed}\ngot {actual}\nexpected {expected}"
