"""``gradc doctor``: what is installed, what this machine can do, and whether a compiled function answers right."""

from __future__ import annotations

import ctypes.util
import shutil
import subprocess

import numpy as np

from gradc.api.compiled import Jitted
from gradc.machines.environment import machine, versions
from gradc.runtime import cache
from gradc.runtime.load import has_backend

BACKENDS = {
    "x86-64": "x86_64-unknown-linux-gnu",
    "aarch64": "aarch64-unknown-linux-gnu",
    "riscv64": "riscv64-unknown-linux-gnu",
    "wasm32": "wasm32-unknown-unknown",
    "nvptx64": "nvptx64-nvidia-cuda",
    "amdgcn": "amdgcn-amd-amdhsa",
}


def doctor() -> int:
    """Print the report; status 1 if the self-test fails."""
    for section, lines in (
        ("versions", versions()),
        ("machine", [*machine(), ("gpu", _gpu())]),
        ("targets", _targets()),
        ("cache", _cache()),
    ):
        print(section)
        for name, value in lines:
            print(f"  {name:<12} {value}")
    fine, words = _self_test()
    print(f"self-test\n  {'ok' if fine else 'FAILED':<12} {words}")
    return 0 if fine else 1


def _gpu() -> str:
    if ctypes.util.find_library("cuda") is None:
        return "no CUDA driver found"
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "CUDA driver present"
    query = [tool, "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    return answer.stdout.strip().replace("\n", "; ") or "CUDA driver present, no device"


def _targets() -> list[tuple[str, str]]:
    return [(n, "LLVM backend present" if has_backend(t) else "not in this llvmlite") for n, t in BACKENDS.items()]


def _cache() -> list[tuple[str, str]]:
    store = cache.default()
    if store is None:
        return [("off", "GRADC_CACHE=0, or no writable directory")]
    stats = cache.stats()
    used = f"{stats.files} files, {stats.bytes / 2**20:.1f} of at most {stats.limit / 2**20:.0f} MiB"
    return [("directory", str(store.directory)), ("use", used)]


def _self_test() -> tuple[bool, str]:
    x = np.linspace(-3, 3, 1001)
    compiled = Jitted(lambda x: np.sin(x) * x)
    error = float(np.max(np.abs(compiled(x) - np.sin(x) * x)))
    bound = 4 * np.finfo(float).eps * 3
    return bool(error <= bound), f"sin(x)·x compiled and run: largest error {error:.1e}, bound {bound:.1e}"
