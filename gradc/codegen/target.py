"""What the emitters must know of the machine: how wide a vector register is, how many there are, how large its caches.

Enters: a triple, a CPU name and a feature string as LLVM writes them.  Leaves: a `Target`, a plain value.
Invariant: nothing here asks the operating system except `Target.host`.  Start reading at `Target`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gradc.errors import CompileError
from gradc.process import once

#: CPU names that promise a vector extension without naming it in the feature string.
_AVX512_CPUS = {"x86-64-v4", "skylake-avx512", "cascadelake", "icelake-server", "sapphirerapids", "znver4", "znver5"}
_AVX2_CPUS = {"x86-64-v3", "haswell", "broadwell", "skylake", "znver1", "znver2", "znver3"}


#: The levels of the x86-64 psABI (System V Application Binary Interface, AMD64 supplement, 3.1.1), each with what LLVM
#: calls the features that it adds to the one before.
LEVELS = {
    "x86-64": ("sse2",),
    "x86-64-v2": ("cx16", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2"),
    "x86-64-v3": ("avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe"),
    "x86-64-v4": ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
}

#: Bytes of a cache line, and of the smallest page.
LINE, PAGE = 64, 4096


@dataclass(frozen=True)
class Cache:
    """One core's share of a level of cache: ``size`` bytes, ``ways`` lines in each of its sets."""

    size: int
    ways: int

    def rows(self, row_bytes: int, stride: int) -> int:
        """How many rows of ``row_bytes``, ``stride`` bytes apart, it holds at once.

        A line may lie in one set only, and rows a power of two apart soon come back to the same sets.
        """
        lines = -(-row_bytes // LINE)
        sets = self.size // (self.ways * LINE)
        places = sets // math.gcd(max(1, abs(stride) // LINE), sets) if stride % LINE == 0 else sets
        return min(sets, places * lines) * self.ways // lines


#: The first and the second level of CPUs by LLVM's name; of others what every server and laptop of late has at least.
_CACHES = {
    "znver5": (Cache(48 << 10, 12), Cache(1 << 20, 16)),
    "znver4": (Cache(32 << 10, 8), Cache(1 << 20, 8)),
    "skylake-avx512": (Cache(32 << 10, 8), Cache(1 << 20, 16)),
    "cascadelake": (Cache(32 << 10, 8), Cache(1 << 20, 16)),
    "icelake-server": (Cache(48 << 10, 12), Cache(1280 << 10, 20)),
    "sapphirerapids": (Cache(48 << 10, 12), Cache(2 << 20, 16)),
}
_OTHER_CACHES = Cache(32 << 10, 8), Cache(512 << 10, 8)


def _enabled(features: str) -> set[str]:
    return {feature[1:] for feature in features.split(",") if feature.startswith("+")}


def _registers(triple: str, cpu: str, features: str) -> tuple[int, int]:
    """(bits of a vector register, number of them)."""
    enabled = _enabled(features)
    arch = triple.split("-", 1)[0]
    if arch in ("x86_64", "amd64"):
        if "avx512f" in enabled or cpu in _AVX512_CPUS:
            return 512, 32
        if "avx2" in enabled or cpu in _AVX2_CPUS:
            return 256, 16
        return 128, 16
    return 128, 32 if arch in ("aarch64", "arm64") else 16


@dataclass(frozen=True)
class Target:
    """One CPU as the emitters see it. ``vector_bits`` is the width of a register, ``vector_registers`` their number."""

    triple: str
    cpu: str
    features: str
    vector_bits: int
    vector_registers: int

    @classmethod
    def of(cls, triple: str, cpu: str = "", features: str = "") -> Target:
        """The target that LLVM knows by this triple, CPU name and feature string (``"+avx2,+fma"``)."""
        return cls(triple, cpu, features, *_registers(triple, cpu, features))

    @classmethod
    def host(cls) -> Target:
        """The CPU that this process runs on."""
        return cls.of(*_host())

    @classmethod
    def level(cls, name: str) -> Target:
        """This machine as one of a whole class of CPUs, of which code asks nothing more: "x86-64-v3", say.

        The same for every machine of that level or a higher one, and with it each decision that shapes a result.
        Raises CompileError for an unknown level, and where this CPU lacks a feature of it.
        """
        import llvmlite.binding as llvm

        if name not in LEVELS:
            raise CompileError(f"cpu={name!r}: expected one of {', '.join(LEVELS)}, or None for this very CPU")
        present = llvm.get_host_cpu_features()
        order = list(LEVELS)
        wanted = [f for level in order[: order.index(name) + 1] for f in LEVELS[level]]
        missing = [f for f in wanted if not present.get(f, False)]
        if missing:
            raise CompileError(f"cpu={name!r}: this CPU ({llvm.get_host_cpu_name()}) lacks {', '.join(missing)}")
        return cls.of(llvm.get_process_triple(), name)

    @property
    def caches(self) -> tuple[Cache, Cache]:
        """The first and the second level of data cache of one core: a core's own, and known from its name alone."""
        return _CACHES.get(self.cpu, _OTHER_CACHES)

    @property
    def arch(self) -> str:
        """The architecture, by LLVM's name of it."""
        arch = self.triple.split("-", 1)[0]
        return {"amd64": "x86_64", "arm64": "aarch64"}.get(arch, arch)

    @property
    def extensions(self) -> frozenset[str]:
        """What code may ask for by name.

        ``avx512``: the AVX-512 instructions on registers of every width; ``half``: conversions of float16 (F16C);
        ``fma``: x·y + z rounded once.
        """
        enabled = _enabled(self.features)
        named = self.cpu in _AVX512_CPUS or {"avx512f", "avx512vl"} <= enabled
        found = {"avx512"} if self.vector_bits == 512 and named else set()
        if self.arch == "aarch64" or self.cpu in _AVX2_CPUS | _AVX512_CPUS or {"f16c", "avx512f"} & enabled:
            found.add("half")
        if self.arch == "aarch64" or self.cpu in _AVX2_CPUS | _AVX512_CPUS or {"fma", "avx512f"} & enabled:
            found.add("fma")
        return frozenset(found)

    @property
    def ahead_bytes(self) -> int:
        """How far ahead of its use a loop should ask for the memory it reads: a few pages, a third of an L1 cache."""
        return 1 << 14 if self.arch in ("x86_64", "aarch64") else 0

    @property
    def shortest_row(self) -> int:
        """Lanes run along a row, so that one of less than two vectors leaves most of them idle."""
        return 32

    @property
    def masks_cost(self) -> bool:
        """A masked load of what was just stored waits until that store has reached the cache."""
        return True

    @property
    def largest_square(self) -> int:
        """Its rows are registers, and its shuffles are unrolled."""
        return 16

    def lanes(self, dtype: str) -> int:
        """How many elements of NumPy dtype ``dtype`` fill one vector register (a bool takes one byte)."""
        return self.vector_bits // (8 * np.dtype(dtype).itemsize)


@once
def _host() -> tuple[str, str, str]:
    """Triple, CPU and features of the machine this process runs on, as LLVM names them."""
    import llvmlite.binding as llvm

    return llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
