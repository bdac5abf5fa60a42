"""Run products whose operands end, or start, at pages that nobody may touch. A wrong access ends this process.

Run as ``python -m tests.gemm_guard``; prints the number of products.  POSIX only: pages are protected by mprotect.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap

import numpy as np

from gradc.codegen.target import Target
from tests.gemm_harness import HOST, Products, bound, describe

SHAPES = [
    (1, 1, 1),
    (3, 5, 2),
    (9, 17, 19),
    (8, 10, 33),
    (14, 33, 7),
    (1, 37, 50),
    (37, 1, 50),
    (2, 3, 70),
    (31, 47, 16),
]
SHAPES += [(7, 33, 300), (11, 10, 133)]  # inner products in both directions
SHAPES += [(100, 35, 1700)]  # k in blocks, A packed
NARROWER = ("x86-64-v3", "x86-64")
PROT_NONE = 0


class Fence:
    """Readable memory between two pages that are not."""

    def __init__(self, size: int):
        page = mmap.PAGESIZE
        self.inner = max(page, -(-size // page) * page)
        self.map = mmap.mmap(-1, self.inner + 2 * page)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        mprotect = ctypes.CDLL(None, use_errno=True).mprotect
        mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for edge in (self.base, self.base + page + self.inner):
            if mprotect(edge, page, PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")

    def array(self, shape: tuple[int, int], dtype: str, at_end: bool) -> np.ndarray:
        """An array flush with the page behind it, or with the one before it."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        start = mmap.PAGESIZE + (self.inner - size if at_end else 0)
        return np.frombuffer(self.map, np.uint8)[start : start + size].view(dtype).reshape(shape)


def fenced(x: np.ndarray, at_end: bool, fences: list[Fence]) -> np.ndarray:
    """A copy of x, memory order kept, between fences."""
    flipped = not x.flags.c_contiguous
    fences.append(Fence(x.nbytes))
    copy = fences[-1].array(x.T.shape if flipped else x.shape, x.dtype.name, at_end)
    copy[...] = x.T if flipped else x
    return copy.T if flipped else copy


def run(target: Target, dtype: str) -> int:
    """Every shape and layout, once against the fence behind and once against the one before."""
    rng = np.random.default_rng(0)
    cases, fences = [], list[Fence]()
    for (m, n, k), flips, at_end in itertools.product(SHAPES, itertools.product((0, 1), repeat=3), (False, True)):
        arrays = [rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n), (m, n))]
        views = [np.asfortranarray(x) if flip else x for x, flip in zip(arrays, flips, strict=True)]
        cases.append([fenced(x, at_end, fences) for x in views])
    products = Products([describe(*case, accumulate=True) for case in cases], target)
    for i, (a, b, c) in enumerate(cases):
        expected, error = c + a.astype(float) @ b.astype(float), bound(a, b, c)
        size = products.scratch(i).size
        fences.append(Fence(size))
        assert size % 64 == 0  # so that the end of a page leaves it aligned
        scratch = fences[-1].array((1, size), "uint8", at_end=True)
        products.function(i)(*[x.ctypes.data for x in (a, b, c, scratch)])
        assert (abs(c - expected) <= error).all()
    return len(cases)


def main() -> None:
    x86 = HOST.triple.startswith("x86_64")
    targets = [HOST, *(Target.of(HOST.triple, cpu) for cpu in NARROWER if x86)]
    usable = [target for target in targets if target is HOST or target.vector_bits < HOST.vector_bits]
    print(sum(run(target, dtype) for target, dtype in zip(usable, ("float32", "float64", "float32"), strict=False)))


if __name__ == "__main__":
    main()
