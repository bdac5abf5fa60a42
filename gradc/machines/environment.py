"""Where gradc runs: versions of what it stands on, and the processor, in words.

Leaves: names and values, for ``gradc doctor`` and for reports that say what made a result.  Start at `versions`.
"""

from __future__ import annotations

import os
import platform
from importlib import metadata

from gradc.codegen.target import Target
from gradc.runtime.load import target_info
from gradc.runtime.threads import available_cpus, default_threads
from gradc.version import __version__

#: extensions of instruction sets that change what is compiled
FEATURES = ("sse2", "avx", "avx2", "fma", "avx512f", "avx512bf16", "amx-tile", "neon", "sve")


def versions() -> list[tuple[str, str]]:
    """gradc, Python and the packages that compiled code comes from."""
    packages = ("numpy", "llvmlite", "sympy", "networkx", "optree", "rich")
    rows = [("gradc", __version__), ("python", platform.python_version())]
    rows += [(name, metadata.version(name)) for name in packages]
    return [*rows, ("LLVM", target_info().llvm_version)]


def machine() -> list[tuple[str, str]]:
    """The system and the processor, as compiled code sees them."""
    info, target = target_info(), Target.host()
    present = [f for f in FEATURES if info.has(f)]
    return [
        ("system", f"{platform.system()} {platform.machine()}"),
        ("triple", info.triple),
        ("cpu", info.cpu),
        ("features", " ".join(present) or "none of " + " ".join(FEATURES)),
        ("vectors", f"{target.vector_bits}-bit, {target.vector_registers} registers"),
        ("threads", _threads()),
    ]


def _threads() -> str:
    told = os.environ.get("OMP_NUM_THREADS")
    why = f"OMP_NUM_THREADS={told}" if told else "no OMP_NUM_THREADS"
    return f"{default_threads()} by default ({why}; {available_cpus()} of {os.cpu_count()} CPUs for this process)"
