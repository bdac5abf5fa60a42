"""What this machine can reach at most: multiply-adds per second, and bytes copied per second.

Enters: nothing; both are measured here, on one thread.  Leaves: `Roofline`, and from it the least time that some work
can take (Williams, Waterman, Patterson 2009: "Roofline: an insightful visual performance model").
Copying is measured with as many bytes as the first cache holds, the second, and so on: data that are near come faster,
and the ceiling for a kernel is the one for the bytes that it touches.  Start reading at `roofline`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from time import perf_counter_ns

import numpy as np

from gradc.codegen.ceilings import copies, copy_step, multiply_add_flops, multiply_adds
from gradc.codegen.target import Target
from gradc.runtime.arena import aligned_bytes
from gradc.runtime.load import Loaded, load, target_info
from gradc.tabular import byte_size

#: Bytes read and written, together, of the copies that are measured.
SIZES = (16 * 2**10, 256 * 2**10, 4 * 2**20, 64 * 2**20)
ROUNDS = 7
#: One round should take about this long: far longer than a look at the clock.
ROUND_NS = 400_000
SYMBOL = "gradc_ceiling"


@dataclass(frozen=True)
class Roofline:
    """The ceilings of one thread: ``flops`` per second by dtype, ``bandwidth`` in bytes per second by bytes touched."""

    cpu: str
    flops: Mapping[str, float]
    bandwidth: Mapping[int, float]

    def peak(self, dtype: str) -> float:
        """Arithmetic operations per second on ``dtype``; on integers and bools those of a float of that width."""
        wide = np.dtype(dtype).itemsize > 4
        return self.flops["float64" if wide else "float32"]

    def rate(self, touched: int) -> float:
        """Bytes per second for work that touches that many bytes."""
        return next((rate for size, rate in sorted(self.bandwidth.items()) if touched <= size), self.slowest)

    @property
    def slowest(self) -> float:
        """The bandwidth of main memory."""
        return self.bandwidth[max(self.bandwidth)]

    def predicted_ns(self, flops: int, touched: int, dtype: str) -> float:
        """The least time: arithmetic at its peak or memory at its rate, whichever takes longer."""
        return 1e9 * max(flops / self.peak(dtype), touched / self.rate(touched))

    def __str__(self) -> str:
        peaks = ", ".join(f"{1e-9 * rate:.0f} GF/s {dtype}" for dtype, rate in self.flops.items())
        rates = ", ".join(f"{1e-9 * rate:.0f} GB/s in {byte_size(size)}" for size, rate in self.bandwidth.items())
        return f"{self.cpu}, one thread: {peaks}; copying {rates}"


@cache
def roofline() -> Roofline:
    """The ceilings of this machine, measured once per process; takes about a tenth of a second."""
    target = Target.host()
    flops = {dtype: _multiply_add_rate(target, dtype) for dtype in ("float32", "float64")}
    return Roofline(target_info().cpu, flops, _copy_rates(target))


def _multiply_add_rate(target: Target, dtype: str) -> float:
    loaded = load(str(multiply_adds(target, dtype, SYMBOL)), SYMBOL)
    function = _function(loaded, ctypes.c_void_p, ctypes.c_int64)
    out = aligned_bytes(64 * multiply_add_flops(target, dtype))
    return multiply_add_flops(target, dtype) * _best_rate(lambda steps: function(out.ctypes.data, steps))


def _copy_rates(target: Target) -> dict[int, float]:
    loaded = load(str(copies(target, SYMBOL)), SYMBOL)
    function = _function(loaded, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    source, to = (aligned_bytes(max(SIZES) // 2) for _ in range(2))
    source.fill(0)
    to.fill(0)
    rates = {}
    for size in SIZES:
        count = size // 8 // copy_step(target) * copy_step(target)
        run = lambda times, n=count: function(source.ctypes.data, to.ctypes.data, n, times)  # noqa: E731
        rates[size] = 8 * count * _best_rate(run)
    return rates


def _function(loaded: Loaded, *kinds: type) -> Callable[..., None]:
    function = ctypes.CFUNCTYPE(None, *kinds)(loaded.address)

    def call(*arguments: int) -> None:
        function(*arguments)
        assert loaded.address, "the code stays mapped during the call"

    return call


def _best_rate(run: Callable[[int], None]) -> float:
    """Steps per second of ``run(steps)``, the best of several rounds."""
    run(1)
    steps = 1
    while (taken := _nanoseconds(run, steps)) < ROUND_NS // 4:
        steps *= 4
    steps = max(1, int(steps * ROUND_NS / taken))
    return 1e9 * steps / min(_nanoseconds(run, steps) for _ in range(ROUNDS))


def _nanoseconds(run: Callable[[int], None], steps: int) -> int:
    start = perf_counter_ns()
    run(steps)
    return perf_counter_ns() - start
