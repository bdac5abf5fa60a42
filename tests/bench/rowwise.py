"""Reductions, softmax and layer normalisation over the rows of a matrix."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tests.bench.peers import entrant, gradc_entrant, jax_entrant, numpy_entrant, torch_contenders
from tests.bench.workload import Entrant, Workload

#: name -> (rows, columns): one that fits the second-level cache and one that does not
SHAPES = {"cached": (512, 256), "large": (8192, 1024)}
NAMES = ("sum", "max", "var", "logsumexp", "softmax", "layernorm")
#: (name, size, dtype) -> why a goal may be missed
NOTES = {
    ("max", "large", "float32"): "1.5 times JAX is 75 GB/s; sums of this matrix reach 77 to 82, maxima, which compare "
    "every second vector to find NaN, 66 to 72",
    ("sum", "large", "float64"): "64 MiB do not fit the last level of cache; 1.5 times JAX is 52 GB/s from memory",
}
COUNTED = "along rows; gradc and NumPy fresh outputs; bytes: the matrix read once, the result written once"


def workloads(quick: bool) -> list[Workload]:
    sizes = ("cached",) if quick else tuple(SHAPES)
    return [_row(name, size, "float32") for name in NAMES for size in sizes] + [
        _row(name, "large", "float64") for name in (() if quick else ("sum", "softmax", "layernorm"))
    ]


def _row(name: str, size: str, dtype: str) -> Workload:
    m, n = SHAPES[size]
    outputs = m * n if name in ("softmax", "layernorm") else m
    short = "f" + dtype[5:]
    return Workload(
        f"rowwise/{name}/{size}/{short}", f"{name} of the rows of {m} × {n}, {short}", COUNTED,
        {"gradc": partial(_ours, name, size, dtype), "JAX": partial(_jax, name, size, dtype),
         **torch_contenders(partial(_torch, name, size, dtype)), "NumPy": partial(_numpy, name, size, dtype)},
        tolerance=1e-4 if dtype == "float32" else 1e-11, goal=1.5, limit="bandwidth", dtype=dtype,
        moved=(m * n + outputs) * np.dtype(dtype).itemsize, note=NOTES.get((name, size, dtype), ""),
    )  # fmt: skip


def arguments(name: str, size: str, dtype: str) -> list[Any]:
    rng = np.random.default_rng(0)
    m, n = SHAPES[size]
    x = rng.standard_normal((m, n)).astype(dtype)
    if name == "layernorm":
        return [x, rng.uniform(0.5, 1.5, n).astype(dtype), rng.standard_normal(n).astype(dtype)]
    return [x]


def _ours(name: str, size: str, dtype: str) -> Entrant:
    import gradc as gc

    functions: dict[str, Any] = {
        "sum": lambda x: x.sum(axis=1),
        "max": lambda x: x.max(axis=1),
        "var": lambda x: np.var(x, axis=1),
        "logsumexp": lambda x: gc.special.logsumexp(x, axis=1),
        "softmax": lambda x: gc.nn.softmax(x, -1),
        "layernorm": lambda x, w, b: gc.nn.layer_norm(x, (x.shape[1],), w, b),
    }
    return gradc_entrant(functions[name], *arguments(name, size, dtype))


def _jax(name: str, size: str, dtype: str) -> Entrant:
    import jax
    import jax.numpy as jnp

    def layernorm(x: Any, w: Any, b: Any) -> Any:
        mean = x.mean(axis=1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(x.var(axis=1, keepdims=True) + 1e-5) * w + b

    functions: dict[str, Any] = {
        "sum": lambda x: x.sum(axis=1),
        "max": lambda x: x.max(axis=1),
        "var": lambda x: jnp.var(x, axis=1),
        "logsumexp": lambda x: jax.nn.logsumexp(x, axis=1),
        "softmax": lambda x: jax.nn.softmax(x, axis=-1),
        "layernorm": layernorm,
    }
    return jax_entrant(functions[name], *arguments(name, size, dtype))


def _torch(name: str, size: str, dtype: str, wrap: Any) -> Entrant:
    import torch

    functions: dict[str, Any] = {
        "sum": lambda x: x.sum(dim=1),
        "max": lambda x: x.amax(dim=1),
        "var": lambda x: x.var(dim=1, unbiased=False),
        "logsumexp": lambda x: torch.logsumexp(x, 1),
        "softmax": lambda x: torch.softmax(x, -1),
        "layernorm": lambda x, w, b: torch.nn.functional.layer_norm(x, (x.shape[1],), w, b),
    }
    return entrant(partial(wrap(functions[name]), *[torch.tensor(a) for a in arguments(name, size, dtype)]))


def _numpy(name: str, size: str, dtype: str) -> Entrant:
    def softmax(x: Any) -> Any:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        e /= e.sum(axis=1, keepdims=True)
        return e

    def logsumexp(x: Any) -> Any:
        top = x.max(axis=1)
        return np.log(np.exp(x - top[:, None]).sum(axis=1)) + top

    def layernorm(x: Any, w: Any, b: Any) -> Any:
        centred = x - x.mean(axis=1, keepdims=True)
        return centred / np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + x.dtype.type(1e-5)) * w + b

    functions: dict[str, Any] = {
        "sum": lambda x: x.sum(axis=1),
        "max": lambda x: x.max(axis=1),
        "var": lambda x: x.var(axis=1),
        "logsumexp": logsumexp,
        "softmax": softmax,
        "layernorm": layernorm,
    }
    return numpy_entrant(functions[name], *arguments(name, size, dtype))
