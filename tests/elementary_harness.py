"""Compile one elementary function over an array, and measure its error in units in the last place.

Enters: the name of a `Builder` method, a dtype, a lane count.  Leaves: a callable on arrays, and errors against
references of at least 64 significand bits (long double on x86, mpmath anywhere).  Start reading at `compile_unary` and
`ulp_error`.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import mpmath
import numpy as np

from gradc.codegen.builder import Builder
from gradc.codegen.ir import Function, Module, Value, memory_type, vector_type
from gradc.codegen.target import Target
from gradc.ops import OPS
from tests import effort

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
llvm.initialize_native_asmparser()

Array = np.ndarray[Any, Any]
#: method of a builder -> dtype -> largest error in units in the last place, as the op's record states it
ULP: dict[str, dict[str, float]] = {
    {"power": "pow"}.get(name, name): {d: float(op.bound(d) or 0) for d in ("float32", "float64")}
    for name, op in OPS.items()
    if (op.bound("float64") or 0) > 0.5
}
UNSIGNED = {"float32": "uint32", "float64": "uint64"}
#: The lanes of one AVX-512 register; the harness also compiles 1, for that is what PTX and scalar tails are.
FULL_LANES = {"float32": 16, "float64": 8}
#: The machine's own CPU, but no instruction is asked for by name: what every other CPU with FMA does.
PLAIN = "plain"


# -- compile and call ------------------------------------------------------------------------------------------------
@dataclass
class Kernel:
    """A compiled function over arrays; operands are broadcast, padded to whole vectors, and the result cut back."""

    engine: Any = field(repr=False)
    function: Callable[..., None] = field(repr=False)
    dtype: str
    lanes: int

    def __call__(self, *operands: Any) -> Array:
        arrays = np.broadcast_arrays(*[np.asarray(x, self.dtype) for x in operands])
        shape, count = arrays[0].shape, arrays[0].size
        whole = -(-max(count, 1) // self.lanes) * self.lanes
        padded = [np.resize(a.ravel(), whole) for a in arrays]
        out = np.empty_like(padded[0])
        self.raw(out, *padded)
        return out[:count].reshape(shape)

    def raw(self, out: Array, *operands: Array) -> None:
        """Run on contiguous arrays whose size is a multiple of the lane count."""
        self.function(out.size, out.ctypes.data, *[a.ctypes.data for a in operands])

    def nanoseconds(self, *operands: Any, repeats: int = 15) -> float:
        """Time per element: the best of ``repeats`` runs over arrays whose size is a multiple of the lane count."""
        arrays = [np.ascontiguousarray(x, self.dtype) for x in operands]
        out = np.empty_like(arrays[0])
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            self.raw(out, *arrays)
            times.append(time.perf_counter() - start)
        return min(times) / out.size * 1e9


def module_text(
    method: str, dtype: str, lanes: int, arity: int, fp: str = "ieee", extensions: frozenset[str] = frozenset()
) -> str:
    """IR of ``f(count, out, *inputs)``: ``out[i] = method(inputs[i], …)`` for i < count, a multiple of ``lanes``."""
    module = Module(fp=fp, extensions=extensions)
    names = [f"in{k}" for k in range(arity)]
    function = Function(module, "f", [("i64", "count"), ("ptr", "out"), *[("ptr", name) for name in names]])
    builder = Builder(function, lanes)
    element, vector = memory_type(dtype), vector_type(memory_type(dtype), lanes)
    align = np.dtype(dtype).itemsize

    def pointer(name: str, index: Value) -> str:
        return function.let(f"getelementptr {element}, ptr %{name}, {index.typed}")

    def load(name: str, index: Value) -> Value:
        return Value(function.let(f"load {vector}, ptr {pointer(name, index)}, align {align}"), dtype, lanes)

    with function.loop(0, Value("%count", "int64"), lanes) as loop:
        result = getattr(builder, method)(*[load(name, loop.index) for name in names])
        assert (result.dtype, result.lanes) == (dtype, lanes)
        function.line(f"store {result.typed}, ptr {pointer('out', loop.index)}, align {align}")
    function.finish()
    return str(module)


def load(text: str, cpu: str | None = None) -> Any:
    """A module compiled for this machine, or for another CPU of this architecture (its default features)."""
    features = llvm.get_host_cpu_features().flatten() if cpu is None else ""
    target = llvm.Target.from_triple(llvm.get_process_triple())
    machine = target.create_target_machine(
        cpu=cpu or llvm.get_host_cpu_name(), features=features, opt=effort.level(text), jit=True
    )
    module = llvm.parse_assembly(f'target triple = "{machine.triple}"\n{text}')
    module.verify()
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine


@cache
def _compile(method: str, dtype: str, lanes: int, arity: int, fp: str, cpu: str | None) -> Kernel:
    target = Target.host() if cpu in (None, PLAIN) else Target.of(llvm.get_process_triple(), cpu)
    extensions = frozenset() if cpu == PLAIN else target.extensions
    engine = load(module_text(method, dtype, lanes, arity, fp, extensions), None if cpu == PLAIN else cpu)
    signature = ctypes.CFUNCTYPE(None, ctypes.c_int64, *[ctypes.c_void_p] * (1 + arity))
    return Kernel(engine, signature(engine.get_function_address("f")), dtype, lanes)


def compile_unary(method: str, dtype: str, lanes: int = 16, fp: str = "ieee", cpu: str | None = None) -> Kernel:
    """``Builder.method`` over one array. ``cpu`` names another CPU of this architecture (its default features).

    `PLAIN` is the machine's own, no instruction being asked for by name.
    """
    return _compile(method, dtype, lanes, 1, fp, cpu)


def compile_binary(method: str, dtype: str, lanes: int = 16, fp: str = "ieee", cpu: str | None = None) -> Kernel:
    """``Builder.method`` over two arrays."""
    return _compile(method, dtype, lanes, 2, fp, cpu)


def ptx(method: str, dtype: str, arity: int = 1) -> str:
    """The PTX of the function as a kernel of one thread."""
    return ptx_of(module_text(method, dtype, 1, arity))


def ptx_of(text: str) -> str:
    """The PTX of a module whose function ``f`` becomes a kernel."""
    text = text.replace("define void @f", "define ptx_kernel void @f")
    target = llvm.Target.from_triple("nvptx64-nvidia-cuda")
    machine = target.create_target_machine(cpu="sm_90", features="+ptx80", opt=2)
    module = llvm.parse_assembly('target triple = "nvptx64-nvidia-cuda"\n' + text)
    module.verify()
    return str(machine.emit_assembly(module))


# -- where to look ---------------------------------------------------------------------------------------------------
def random_bits(dtype: str, count: int, seed: int = 0) -> Array:
    """Random bit patterns: every exponent alike, subnormals, infinities and NaNs among them."""
    unsigned = UNSIGNED[dtype]
    numbers = np.random.default_rng(seed).integers(0, np.iinfo(unsigned).max, count, unsigned, endpoint=True)
    return numbers.view(dtype)


def neighbours(points: Iterable[float], dtype: str, radius: int = 200) -> Array:
    """The ``2·radius + 1`` numbers around the magnitude of each point, and their negatives."""
    unsigned = UNSIGNED[dtype]
    centres = np.abs(np.array(list(points), dtype)).view(unsigned).astype("int64")
    steps = np.maximum(centres[:, None] + np.arange(-radius, radius + 1), 0)
    found = np.unique(steps.astype(unsigned)).view(dtype)
    return np.concatenate([found, -found])


def specials(dtype: str) -> Array:
    """Zeros, subnormals, ones, halves, the largest numbers, infinities, NaN; both signs."""
    info = np.finfo(dtype)
    tiny, sub, big = float(info.smallest_normal), float(info.smallest_subnormal), float(info.max)
    positive = [0.0, sub, 3 * sub, tiny - sub, tiny, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 10.0, big, np.inf, np.nan]
    return np.array(positive + [-v for v in positive], dtype)


# -- the measure -----------------------------------------------------------------------------------------------------
def extended(values: Iterable[Any]) -> Array:
    """mpmath numbers as long doubles."""
    return np.array([np.longdouble(mpmath.nstr(v, 25)) for v in values], np.longdouble)


def ulp_errors(got: Array, exact: Array | Sequence[Any], dtype: str) -> Array:
    """|got − exact| per element, in units in the last place of ``exact`` as ``dtype``.

    ``exact`` is an array of float64 or long double, or a list of mpmath numbers. A NaN against a number, a wrong sign
    of an exactly zero result, and a wrong infinity count as infinite. Overflow is measured as if infinity were the
    power of two that follows the largest number.
    """
    reference = exact if isinstance(exact, np.ndarray) else extended(exact)
    info, one = np.finfo(dtype), reference.dtype.type(1)
    # 2^1024 is no float64: there infinity itself has to do, and a reference that needs more is a long double.
    limit = np.ldexp(one, info.maxexp) if np.finfo(reference.dtype).maxexp > info.maxexp else one * np.inf
    with np.errstate(all="ignore"):
        value, goal = np.clip(got.astype(reference.dtype), -limit, limit), np.clip(reference, -limit, limit)
        exponent = np.clip(np.frexp(np.abs(goal))[1], info.minexp + 1, info.maxexp) - 1 - info.nmant
        error = np.abs(value - goal) / np.ldexp(one, exponent)
    both_nan = np.isnan(reference) & np.isnan(got)
    wrong = (np.isnan(reference) != np.isnan(got)) | (np.isinf(reference) & (reference != got))
    wrong |= (reference == 0) & ((got != 0) | (np.signbit(reference) != np.signbit(got)))
    same = both_nan | (got == reference)
    return np.where(wrong, np.inf, np.where(same, 0.0, error)).astype(float)


def ulp_error(got: Array, exact: Array | Sequence[Any], dtype: str) -> float:
    """The largest of `ulp_errors`."""
    return float(ulp_errors(got, exact, dtype).max(initial=0.0))


def measure(kernel: Kernel, reference: Callable[..., Any], *operands: Array) -> tuple[float, str]:
    """(largest error, where) of a compiled kernel against a long double function, on operands of the kernel's dtype."""
    got = kernel(*operands)
    with np.errstate(all="ignore"):
        exact = np.asarray(reference(*[x.astype(np.longdouble) for x in operands]), np.longdouble)
    errors = ulp_errors(got, exact, kernel.dtype)
    k = int(errors.argmax())
    at = ", ".join(repr(float(x[k])) for x in operands)
    return float(errors[k]), f"{errors[k]:.3f} ulp at ({at}): got {float(got[k])!r}, exact {exact[k]!r}"
