"""Generated matrix products against NumPy's BLAS, interleaved, on one thread.

    OPENBLAS_NUM_THREADS=1 python -m tests.bench.gemm [--dtype float64] [--only squares|layouts|mlp|skinny]

Every row: the shape m x n x k, the layouts of A and B (N as written, T transposed), the plan, GFLOP/s of both from the
shortest of interleaved runs, and their ratio.  Set OPENBLAS_CORETYPE=SkylakeX where OpenBLAS does not use the AVX-512
kernels that it has.  Both are called from one native loop, BLAS through SciPy's function pointer, so neither pays for
Python.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.codegen.gemm.plan import make_plan
from tests.bench.native import repeated
from tests.bench.products import blas
from tests.gemm_harness import HOST, Products, describe

SQUARES = [(n, n, n, "NN") for n in (8, 16, 32, 50, 64, 100, 128, 256, 512, 768, 1024)]
LAYOUTS = [(n, n, n, kind) for n in (32, 64, 128, 256, 512, 1024) for kind in ("TN", "NT", "TT")]
MLP = [
    (batch, *shape)
    for batch in (32, 64, 128, 256)
    for shape in ((128, 64, "NN"), (10, 128, "NN"), (128, 10, "NT"))
] + [
    (*shape, batch, "TN") for batch in (32, 64, 128, 256) for shape in ((64, 128), (128, 10))
]  # fmt: skip
SKINNY = [
    (1, 128, 784, "NN"), (1, 1024, 1024, "NN"), (1, 1024, 1024, "NT"), (1024, 1, 1024, "NN"), (1024, 1, 1024, "TN"),
    (1, 1, 4096, "NN"), (4, 512, 512, "NN"), (4, 512, 512, "NT"), (8, 128, 784, "NN"), (32, 128, 784, "NN"),
    (512, 512, 1, "NN"), (512, 3, 128, "NN"), (128, 2, 128, "NT"), (32, 512, 768, "NN"), (768, 512, 128, "NN"),
    (17, 33, 19, "NN"), (2048, 64, 64, "NN"), (64, 64, 2048, "TN"),
]  # fmt: skip
SETS = {"squares": SQUARES, "layouts": LAYOUTS, "mlp": MLP, "skinny": SKINNY}


@dataclass
class Case:
    """One shape with its operands."""

    m: int
    n: int
    k: int
    layout: str
    dtype: str

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        a, b = (self.m, self.k), (self.k, self.n)
        self.a, self.b = (
            rng.standard_normal(shape[::-1]).astype(self.dtype).T
            if letter == "T"
            else rng.standard_normal(shape).astype(self.dtype)
            for shape, letter in zip((a, b), self.layout, strict=True)
        )
        self.c = np.zeros((self.m, self.n), self.dtype)

    @property
    def flops(self) -> int:
        return 2 * self.m * self.n * self.k

    def ours(self) -> Run:
        products = Products([describe(self.a, self.b, self.c)])
        return Run(products.address(0), [self.a, self.b, self.c, products.scratch(0)], products)

    def theirs(self) -> Run:
        """Row-major C = A B is column-major Cᵀ = BᵀAᵀ."""
        kind = ctypes.c_float if self.dtype == "float32" else ctypes.c_double
        integers = [ctypes.c_int(x) for x in (self.n, self.m, self.k)]
        lda, ldb = (ctypes.c_int(max(x.strides) // x.itemsize) for x in (self.b, self.a))
        letters = [ctypes.c_char(letter.encode()) for letter in self.layout[::-1]]
        output = (kind(0), self.c, ctypes.c_int(self.n))
        return Run(blas(self.dtype), [*letters, *integers, kind(1), self.b, lda, self.a, ldb, *output])


class Run:
    """Calls of one function with fixed pointers, counted in native code."""

    def __init__(self, function: int, arguments: list[Any], owner: object = None):
        self.pointers = [x.ctypes.data if isinstance(x, np.ndarray) else ctypes.addressof(x) for x in arguments]
        self.function, self.held = function, (arguments, owner)

    def __call__(self, times: int) -> float:
        call = repeated(self.function, self.pointers, times, self.held)
        start = time.perf_counter()
        call()
        return time.perf_counter() - start


def fastest(runs: list[Run], flops: int, rounds: int) -> list[float]:
    """Seconds of the shortest call of each, their runs interleaved."""
    times = max(1, int(4e8 / max(flops, 1000)))
    for run in runs:
        run(max(1, times // 10))
    best = [float("inf")] * len(runs)
    for _ in range(rounds):
        for i, run in enumerate(runs):
            best[i] = min(best[i], run(times) / times)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--only", choices=tuple(SETS), help="one set of shapes")
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    print(f"{'shape':>16} {'AB':>3} {'plan':>22} {'ours GF':>9} {'BLAS GF':>9} {'ratio':>6}")
    for name in [options.only] if options.only else list(SETS):
        for m, n, k, layout in SETS[name]:
            case = Case(m, n, k, layout, options.dtype)
            plan = make_plan(describe(case.a, case.b, case.c).folded.normal, HOST)
            ours, theirs = fastest([case.ours(), case.theirs()], case.flops, options.rounds)
            shown = f"{plan.kernel}{'ᵀ' * plan.swapped} {plan.rows}x{plan.vectors} {plan.depth}"
            gf = [case.flops / t / 1e9 for t in (ours, theirs)]
            print(
                f"{f'{m}x{n}x{k}':>16} {layout:>3} {shown:>22} {gf[0]:9.1f} {gf[1]:9.1f} {theirs / ours:6.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
