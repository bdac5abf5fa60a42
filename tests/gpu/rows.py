"""The rows of figures that `python -m tests.gpu` measures: each is verified before it is timed.

Enters: sizes.  Leaves: `Row`s, section by section.  A row that fails is a row that says so; the others go on.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import gradc as gc
import gradc.numpy as gnp
from gradc.containers import leaves_of
from tests.gpu.clock import copy_of, seconds
from tests.gpu.rivals import Rival, jax_mlp, torch_mlp, torch_transformer, torch_with_device
from tests.gpu.test_on_device import target
from tests.ptx import models


@dataclass(frozen=True)
class Row:
    what: str
    ours: str
    theirs: str = "–"
    share: str = "–"
    aim: str = ""

    def __str__(self) -> str:
        return f"| {self.what} | {self.ours} | {self.theirs} | {self.share} | {self.aim} |"


@dataclass(frozen=True)
class Sizes:
    """What is measured; the array of the section on memory is larger than every cache."""

    memory: tuple[int, int]
    products: tuple[int, ...]
    doubles: int
    mlps: tuple[tuple[int, int, int, int], ...]  #: batch, features, hidden, classes
    transformer: tuple[int, int, int, int, int]  #: batch, tokens, width, heads, vocabulary


FULL = Sizes(
    (8192, 8192), (8192, 4096, 1024, 512), 4096, ((128, 64, 128, 10), (512, 784, 2048, 10)), (8, 128, 256, 8, 512)
)
SMALL = Sizes((64, 64), (32, 20), 16, ((12, 20, 16, 10),), (2, 6, 16, 2, 11))

#: A row: what it is called, and what makes it.
Case = tuple[str, Callable[[], Row]]


def measured(cases: Iterator[Case], deadline: float) -> Iterator[Row]:
    """The rows, until the time is up; an error becomes a row, and its story goes to the screen."""
    for what, make in cases:
        if time.monotonic() > deadline:
            yield Row(what, "not reached")
            continue
        try:
            yield make()
        except Exception as error:
            traceback.print_exc()
            yield Row(what, f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


def on_device(f: Callable[..., Any], *arrays: Any, **options: Any) -> tuple[Callable[[], Any], Any]:
    """A bound call, and its result after the first run."""
    exe = gc.compile(f, *arrays, target=target(), **options)
    run = exe.bind(*[exe.put(a) for a in arrays])
    return run, run()


# -- memory ------------------------------------------------------------------------------------------------------------


def memory(sizes: Sizes) -> Iterator[Case]:
    """Kernels that are bound by memory, beside a plain copy of as many bytes."""
    x = np.random.default_rng(0).standard_normal(sizes.memory).astype(np.float32)
    wide = x.astype(float)
    shape = " × ".join(map(str, sizes.memory))

    def softmax(v: Any) -> Any:
        return gc.nn.softmax(v, -1)

    def normalised(v: Any) -> Any:
        return gc.nn.layer_norm(v, (v.shape[-1],))

    def stable(v: Any) -> Any:
        e = np.exp(v - v.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def standard(v: Any) -> Any:
        return (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + 1e-5)

    moved = 2 * x.nbytes
    cases = [
        (f"x·2 + 1, {shape} float32", lambda v: v * 2 + 1, lambda v: v * 2 + 1, 1e-6, moved, "≥ 90 %"),
        ("softmax of rows", softmax, stable, 1e-4, moved, "≥ 85 %"),
        ("layer norm of rows", normalised, standard, 1e-3, moved, "≥ 85 %"),
        ("transpose", lambda v: v.T + 0, lambda v: v.T, 0, moved, ""),
        ("cumsum of rows", lambda v: gnp.cumsum(v, 1), lambda v: np.cumsum(v, 1), 1e-3, moved, ""),
        ("cumsum of all", lambda v: gnp.cumsum(v), lambda v: np.cumsum(v), 1e-2, moved, ""),
        ("sum of all", lambda v: v.sum(), lambda v: v.sum(), 1e-2, x.nbytes, ""),
    ]
    for what, f, reference, tolerance, count, aim in cases:

        def make(f: Any = f, reference: Any = reference, tolerance: float = tolerance, count: int = count,
                 what: str = what, aim: str = aim) -> Row:  # fmt: skip
            run, result = on_device(f, x)
            scale = np.abs(reference(wide)).max()
            np.testing.assert_allclose(result.numpy(), reference(wide), rtol=0, atol=max(tolerance * scale, 1e-30))
            ours, theirs = seconds(run, copy_of(count // 2))
            a, b = (count / s / 1e9 for s in (ours, theirs))  # a copy reads and writes half of the bytes each
            return Row(what, f"{a:.0f} GB/s", f"copy {b:.0f} GB/s", f"{a / b:.0%}", aim)

        yield what, make


# -- products ----------------------------------------------------------------------------------------------------------


def products(sizes: Sizes) -> Iterator[Case]:
    """Square products beside cuBLAS, which PyTorch calls, at the same precision; some rows against float64 first."""
    kinds = [(n, "float32", "ieee", "≥ 80 %") for n in sizes.products]
    kinds += [(n, dtype, "ieee", "≥ 60 %") for dtype in ("bfloat16", "float16") for n in sizes.products[:2]]
    kinds += [(n, "float32", "tf32", "≥ 60 %") for n in sizes.products]
    kinds += [(sizes.doubles, "float64", "ieee", "")]
    for n, dtype, precision, aim in kinds:
        what = f"{n}³ {dtype} product{', tf32' if precision == 'tf32' else ''}"
        yield (
            what,
            lambda n=n, dtype=dtype, precision=precision, aim=aim, what=what: _product(
                n, n, n, dtype, precision, aim, what
            ),
        )
    what = "64 × 64 × 16384 float32 product"
    yield what, lambda: _product(64, 64, 16384 if sizes is FULL else 300, "float32", "ieee", "", what)


#: Beside the sums, what the result loses of Σ|aᵢ bᵢ|.
UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "tf32": 2.0**-10, "bfloat16": 2.0**-8, "float16": 2.0**-11}


def _product(m: int, n: int, k: int, dtype: str, precision: str, aim: str, what: str) -> Row:
    random = np.random.default_rng(1)
    a, b = (random.standard_normal(s).astype(np.float32).astype(np.dtype(dtype)) for s in ((m, k), (k, n)))
    run, result = on_device(lambda x, y: x @ y, a, b, precision=precision)
    some = a[:8].astype(float)
    sums = (k + 2) * (2.0**-53 if dtype == "float64" else 2.0**-22)
    bound = (UNITS["tf32" if precision == "tf32" else dtype] + sums) * (np.abs(some) @ np.abs(b.astype(float)))
    worst = (np.abs(result.numpy()[:8].astype(float) - some @ b.astype(float)) / bound).max()
    if worst > 1:
        raise AssertionError(f"{worst:.1f} times the bound of the error")
    contenders = [run]
    torch = torch_with_device()
    if torch is not None:
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        kind = getattr(torch, dtype)
        x, y = (torch.tensor(v.astype(float), dtype=kind, device="cuda") for v in (a, b))
        out = torch.empty((m, n), dtype=x.dtype, device="cuda")
        contenders.append(lambda: torch.mm(x, y, out=out))
    rates = [2 * m * n * k / s / 1e12 for s in seconds(*contenders)]
    theirs = f"cuBLAS {rates[1]:.1f} TF" if len(rates) > 1 else "–"
    share = f"{rates[0] / rates[1]:.0%}" if len(rates) > 1 else "–"
    return Row(what, f"{rates[0]:.1f} TF", theirs, share, aim)


# -- training ----------------------------------------------------------------------------------------------------------


def training(sizes: Sizes) -> Iterator[Case]:
    """Whole steps, captured, beside torch.compile with CUDA graphs and jax.jit; their first losses must agree."""
    for size in sizes.mlps:
        batch, *layers = size
        what = f"MLP {'-'.join(map(str, layers))}, batch {batch}"
        aim = "> 1 ×" if size == sizes.mlps[0] else "≥ 0.8 ×"
        for rival, name in ((torch_mlp, "torch.compile"), (jax_mlp, "jax.jit")):
            yield (
                f"{what}, beside {name}",
                lambda size=size, rival=rival, name=name, what=what, aim=aim: _step(
                    what, models.mlp(*size), rival, name, aim
                ),
            )
    batch, tokens, width, heads, _ = sizes.transformer
    what = f"transformer block, {batch} × {tokens} tokens, width {width}"
    yield what, lambda: _step(
        what, models.transformer(*sizes.transformer), lambda args: torch_transformer(args, heads), "torch.compile",
        "≥ 0.8 ×",
    )  # fmt: skip


def _step(what: str, model: models.Step, rival_of: Callable[[Any], Rival | None], name: str, aim: str) -> Row:
    step, args = model
    exe = gc.compile(step, *args, target=target(), donate=(0, 1))
    leaves, structure = leaves_of((args, {}))
    given, _ = structure.unflatten([exe.put(x) for x in leaves])
    run = exe.bind(*given)
    losses = [float(run()[2].numpy()) for _ in range(3)]
    rival = rival_of(args)
    if rival is None:
        (ours,) = seconds(run)
        return Row(what, f"{1e6 * ours:.0f} µs", f"no {name}", "–", aim)
    np.testing.assert_allclose(losses, rival.losses, rtol=1e-2)
    if name == "jax.jit":  # its stream is its own: the host's clock, around many steps
        ours, theirs = seconds(run)[0], _on_the_host(rival)
    else:
        ours, theirs = seconds(run, rival.run)
    return Row(what, f"{1e6 * ours:.0f} µs", f"{name} {1e6 * theirs:.0f} µs", f"{theirs / ours:.2f} ×", aim)


def _on_the_host(rival: Rival, count: int = 200) -> float:
    rival.wait()
    start = time.perf_counter()
    for _ in range(count):
        rival.run()
    rival.wait()
    return (time.perf_counter() - start) / count
