"""Matrix products: every layout, squares from 8 to 2048, skinny and odd shapes, against BLAS libraries.

gradc and OpenBLAS are called from one native loop through their function pointers, so neither pays for Python; PyTorch
(MKL) and JAX are called as their users do, which costs them some microseconds at small shapes: their ratios count from
128³ on.
"""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Any

import numpy as np

from tests.bench.native import repeated
from tests.bench.peers import jax_entrant
from tests.bench.workload import Builder, Entrant, Workload

Shape = tuple[int, int, int]
SQUARES = (8, 16, 32, 50, 64, 100, 128, 256, 512, 1024, 2048)
LAYOUT_SQUARES = (32, 64, 128, 256, 512, 1024)
SKINNY: tuple[tuple[Shape, str], ...] = (
    ((1, 128, 784), "NN"), ((1, 1024, 1024), "NN"), ((1, 1024, 1024), "NT"), ((1024, 1, 1024), "NN"),
    ((8, 128, 784), "NN"), ((32, 128, 784), "NN"), ((4, 512, 512), "NT"), ((128, 10, 128), "NN"),
    ((128, 10, 128), "TN"), ((128, 128, 10), "NT"), ((64, 64, 2048), "TN"), ((768, 512, 128), "NN"),
    ((17, 33, 19), "NN"), ((33, 65, 127), "TT"),
)  # fmt: skip
COUNTED = (
    "C = A·B, 2mnk FLOP, letters: layout of A and B (N as written, T transposed); gradc and OpenBLAS from a native "
    "loop, PyTorch (MKL) with out= and JAX from Python"
)
NOTE = (
    "OpenBLAS's own kernels for small matrices reach 80 % of the FMA peak where it takes AVX-512: twice their rate "
    "would be beyond the peak"
)
#: shapes from this much work on, where the microseconds of a Python call no longer decide
PYTHON_FLOPS = 4_000_000


def workloads(quick: bool) -> list[Workload]:
    if quick:
        return [_row((n, n, n), "NN", dtype) for n in (32, 128) for dtype in ("float32", "float64")]
    shapes = [((n, n, n), "NN") for n in SQUARES]
    shapes += [((n, n, n), layout) for layout in ("TN", "NT", "TT") for n in LAYOUT_SQUARES]
    return [_row(*shape, dtype) for dtype in ("float32", "float64") for shape in (*shapes, *SKINNY)]


def _row(shape: Shape, layout: str, dtype: str) -> Workload:
    m, n, k = shape
    name, short = f"{m}x{n}x{k}", "f" + dtype[5:]
    contenders: dict[str, Builder] = {
        "gradc": partial(_ours, shape, layout, dtype),
        "OpenBLAS": partial(_openblas, shape, layout, dtype),
        "OpenBLAS AVX-512": partial(_openblas, shape, layout, dtype),
    }
    if 2 * m * n * k >= PYTHON_FLOPS:
        for label in ("PyTorch", "PyTorch AVX-512"):
            contenders[label] = partial(_torch, shape, layout, dtype)
        contenders["JAX"] = partial(_jax, shape, layout, dtype)
    return Workload(
        f"gemm/{short}/{layout}/{name}", f"{name.replace('x', ' × ')} {layout}, {short}", COUNTED, contenders,
        tolerance=1e-4 if dtype == "float32" else 1e-12, flops=2 * m * n * k, dtype=dtype,
        goal=2.0 if max(shape) <= 32 else 1.0, of_peak=_of_peak(shape), note=NOTE if max(shape) == 32 else "",
    )  # fmt: skip


def _of_peak(shape: Shape) -> float:
    if all(x % 32 == 0 for x in shape):
        return 0.9
    return 0.8 if min(shape) >= 50 else 0.0


def operands(shape: Shape, layout: str, dtype: str) -> tuple[Any, Any]:
    """A and B as they lie in memory: a transposed operand is stored as its transpose."""
    rng = np.random.default_rng(0)
    m, n, k = shape
    return tuple(
        rng.standard_normal(s[::-1] if letter == "T" else s).astype(dtype)
        for s, letter in zip(((m, k), (k, n)), layout, strict=True)
    )  # type: ignore[return-value]


def product(layout: str) -> Any:
    first, second = (letter == "T" for letter in layout)
    return lambda a, b: (a.T if first else a) @ (b.T if second else b)


def _times(shape: Shape) -> int:
    """Calls of one native loop: about 50 µs of work, so that the loop's own call does not count."""
    m, n, k = shape
    return max(1, 5_000_000 // (2 * m * n * k))


def _ours(shape: Shape, layout: str, dtype: str) -> Entrant:
    import gradc as gc

    a, b = operands(shape, layout, dtype)
    executable = gc.jit(product(layout)).lower(a, b)
    c = np.empty(shape[:2], dtype)
    room = np.empty(executable.arena_bytes + 64, np.uint8)
    arena = room.ctypes.data + -room.ctypes.data % 64
    inputs, outputs = (ctypes.c_void_p * 2)(a.ctypes.data, b.ctypes.data), (ctypes.c_void_p * 1)(c.ctypes.data)
    status = ctypes.c_int64()
    pointers = [ctypes.addressof(inputs), ctypes.addressof(outputs), arena, ctypes.addressof(status)]
    owner = (executable, a, b, c, room, inputs, outputs, status)
    times = _times(shape)
    return _entrant(repeated(executable.native.address, pointers, times, owner), c, times)


def _openblas(shape: Shape, layout: str, dtype: str) -> Entrant:
    """SciPy's OpenBLAS; row-major C = A B is column-major Cᵀ = BᵀAᵀ."""
    m, n, k = shape
    a, b = operands(shape, layout, dtype)
    c = np.empty((m, n), dtype)
    kind = ctypes.c_float if dtype == "float32" else ctypes.c_double
    given = [ctypes.c_char(letter.encode()) for letter in layout[::-1]]
    given += [ctypes.c_int(x) for x in (n, m, k)]  # type: ignore[misc]
    given += [kind(1), b, ctypes.c_int(b.shape[1]), a, ctypes.c_int(a.shape[1]), kind(0), c, ctypes.c_int(n)]
    pointers = [x.ctypes.data if isinstance(x, np.ndarray) else ctypes.addressof(x) for x in given]
    times = _times(shape)
    return _entrant(repeated(blas(dtype), pointers, times, given), c, times)


def _entrant(call: Any, c: Any, times: int) -> Entrant:
    def values() -> list[Any]:
        call()
        return [c.copy()]

    return Entrant(call, values, works=times)


def blas(dtype: str) -> int:
    """The address of OpenBLAS's own gemm, as SciPy exports it: Fortran's argument order, everything by pointer."""
    from scipy.linalg import cython_blas

    capsule = cython_blas.__pyx_capi__[{"float32": "sgemm", "float64": "dgemm"}[dtype]]
    python = ctypes.pythonapi
    python.PyCapsule_GetName.restype, python.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    python.PyCapsule_GetPointer.restype = ctypes.c_void_p
    python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    address: int = python.PyCapsule_GetPointer(capsule, python.PyCapsule_GetName(capsule))
    return address


def _torch(shape: Shape, layout: str, dtype: str) -> Entrant:
    import torch

    a, b = (torch.tensor(x) for x in operands(shape, layout, dtype))
    a, b = (x.t() if letter == "T" else x for x, letter in zip((a, b), layout, strict=True))
    c = torch.empty(shape[:2], dtype=a.dtype)
    call = partial(torch.mm, a, b, out=c)

    def values() -> list[Any]:
        call()
        return [c.numpy().copy()]

    return Entrant(call, values)


def _jax(shape: Shape, layout: str, dtype: str) -> Entrant:
    return jax_entrant(product(layout), *operands(shape, layout, dtype))
