"""A million random numbers from a key, against those of JAX, which are the same, and of others' generators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tests.bench.peers import entrant, gradc_facts
from tests.bench.workload import Entrant, Workload

COUNTED = (
    "numbers written to fresh memory, the key an argument; JAX's Threefry gives the same bits; NumPy's generator is "
    "Philox, PyTorch's its default; answers are compared by mean, deviation and extremes"
)


@dataclass(frozen=True)
class Case:
    """A distribution by its name in `gradc.random`; ``numpy`` and ``torch`` say how the others are asked."""

    name: str
    dtype: str
    numpy: Callable[[Any, int, str], Any]
    torch: Callable[[Any, int], Any] | None = None
    parameters: tuple[float, ...] = ()
    goal: float = 5.0  #: times NumPy
    jax: float = 2.0


CASES = (
    Case("uniform", "float32", lambda g, n, t: g.random(n, t), lambda torch, n: torch.rand(n)),
    Case("normal", "float32", lambda g, n, t: g.standard_normal(n, t), lambda torch, n: torch.randn(n)),
    Case("normal", "float64", lambda g, n, t: g.standard_normal(n, t)),
    Case("exponential", "float32", lambda g, n, t: g.standard_exponential(n, t)),
    Case("gamma", "float64", lambda g, n, t: g.standard_gamma(2.5, n), None, (2.5,)),
)


def workloads(quick: bool) -> list[Workload]:
    n = 100_000 if quick else 1_000_000
    return [_row(case, n) for case in (CASES[:2] if quick else CASES)]


def _row(case: Case, n: int) -> Workload:
    contenders = {"gradc": partial(_ours, case, n), "JAX": partial(_jax, case, n), "NumPy": partial(_numpy, case, n)}
    if case.torch is not None:
        contenders["PyTorch"] = partial(_torch, case, n)
    bits = np.dtype(case.dtype).itemsize
    return Workload(
        f"random_numbers/{case.name}/f{8 * bits}", f"{n:,} {case.name} numbers, f{8 * bits}", COUNTED, contenders,
        tolerance=0.05, moved=bits * n, dtype=case.dtype, goal=case.goal, against="NumPy", also={"JAX": case.jax},
    )  # fmt: skip


def _by_moments(call: Callable[[], Any], **more: Any) -> Entrant:
    """Compared by what does not depend on the generator."""
    made = entrant(call, **more)

    def moments() -> list[Any]:
        x = np.asarray(call(), np.float64)
        return [np.array([x.mean(), x.std(), *np.quantile(x, (0.01, 0.25, 0.5, 0.75, 0.99))])]

    made.values = moments
    return made


def _ours(case: Case, n: int) -> Entrant:
    import gradc as gc

    key = gc.random.key(0)
    draw = gc.jit(lambda key: getattr(gc.random, case.name)(key, *case.parameters, shape=(n,), dtype=case.dtype))
    return _by_moments(lambda: draw(key), **gradc_facts(draw.lower(key)))


def _jax(case: Case, n: int) -> Entrant:
    import jax

    jax.config.update("jax_enable_x64", case.dtype == "float64")
    key = jax.random.key(0)
    draw = jax.jit(lambda key: getattr(jax.random, case.name)(key, *case.parameters, shape=(n,), dtype=case.dtype))
    return _by_moments(lambda: jax.block_until_ready(draw(key)))


def _numpy(case: Case, n: int) -> Entrant:
    generator = np.random.Generator(np.random.Philox(0))
    return _by_moments(lambda: case.numpy(generator, n, case.dtype))


def _torch(case: Case, n: int) -> Entrant:
    import torch

    assert case.torch is not None
    return _by_moments(partial(case.torch, torch, n))
