"""One thread for every library.  Imports nothing: the variables must stand before NumPy loads its BLAS."""

from __future__ import annotations

import os


def single_thread() -> None:
    """Call before NumPy, JAX or PyTorch are imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    # An OPENBLAS_CORETYPE in the environment would pin OpenBLAS to old kernels: let it choose for this CPU.
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(name, None)
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
