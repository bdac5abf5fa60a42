"""The environment of each contender's process.  Imports nothing heavy: the variables must stand before NumPy loads.

A label is a library's name, with " AVX-512" behind it where its BLAS is made to take its AVX-512 kernels although it
does not on this CPU by itself: OpenBLAS by OPENBLAS_CORETYPE, MKL (inside PyTorch) by a preloaded function that answers
its question for an Intel CPU with yes.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

AVX512 = " AVX-512"
#: labels that share a process: they are one library
PROCESS = {"asdex": "JAX", "torch.compile": "PyTorch", "OpenBLAS": "NumPy", "CasADi VM": "CasADi", "CasADi C": "CasADi"}
SHIM = "int mkl_serv_intel_cpu_true(void) { return 1; }\nint mkl_serv_intel_cpu(void) { return 1; }\n"


def process_of(label: str) -> str:
    """The name of the process that runs the contender ``label``."""
    library = label.removesuffix(AVX512)
    return PROCESS.get(library, library) + label[len(library) :]


def environment(process: str, threads: int, scratch: Path) -> dict[str, str]:
    """The variables of a contender's process; ``scratch`` takes compile caches, so that nothing is known beforehand."""
    own = dict(os.environ)
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "LD_PRELOAD"):
        own.pop(name, None)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        own[name] = str(threads)
    own["GRADC_BENCH_THREADS"] = str(threads)
    own["JAX_ENABLE_X64"] = "1"
    eigen = "true" if threads > 1 else "false"
    own["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={eigen} intra_op_parallelism_threads={threads}"
    own["GRADC_CACHE_DIR"] = str(scratch / "gradc")
    own["TORCHINDUCTOR_CACHE_DIR"] = str(scratch / "inductor")
    own["NUMBA_CACHE_DIR"] = str(scratch / "numba")
    if process.endswith(AVX512):
        own["OPENBLAS_CORETYPE"] = "SkylakeX"
        if process.startswith("PyTorch"):
            own["LD_PRELOAD"] = shim()
    return own


def threads() -> int:
    """How many threads this process may use."""
    return int(os.environ.get("GRADC_BENCH_THREADS", "1"))


@functools.cache
def shim() -> str:
    """The compiled shim for MKL; raises FileNotFoundError without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise FileNotFoundError("no C compiler for the shim that lets MKL onto AVX-512")
    folder = Path(tempfile.mkdtemp(prefix="gradc-bench-"))
    source, library = folder / "mkl.c", folder / "mkl.so"
    source.write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return str(library)
