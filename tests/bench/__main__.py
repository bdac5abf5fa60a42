"""``make bench``: gradc beside NumPy, JAX and PyTorch, one thread, interleaved in one run, as ratios.

Prints Markdown; ``--write`` also puts it into docs/benchmarks.md.  A ratio is the peer's median over gradc's median:
above 1 gradc is faster.
"""

from __future__ import annotations

import os
import sys
from datetime import date
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
FAIRNESS = """\
One thread for everybody; contenders interleaved in one run, 15 rounds, medians (and gradc's minimum); every answer is
checked against gradc's before any clock starts. JAX is jitted with donation, PyTorch is eager as installed, NumPy is
written by hand (gradients derived on paper, in-place updates). gradc is called from Python with fresh outputs, donated
parameters for training. `fp="ieee"`: no fast-math. GF counts 6·batch·Σmn − 2·batch·m₁n₁ floating-point operations per
training step (the matrix products only). First calls include tracing and compiling, with empty compile caches and
imports done.
"""


def measure() -> str:
    """Run every workload; the tables as Markdown."""
    from tests.bench.harness import first_table, table
    from tests.bench.workloads import everything

    rows = everything()
    return f"{table(rows)}\n\n{first_table(rows)}\n"


def machine() -> str:
    """CPU name as LLVM knows it, and the versions that were compared."""
    from gradc.runtime.load import target_info

    names = ("numpy", "jax", "torch", "llvmlite")
    versions = ", ".join(f"{n} {metadata.version(n)}" for n in names)
    return f"{date.today()}, {target_info().cpu}, {os.cpu_count()} cores (shared), {versions}."


def main() -> None:
    from tests.bench.threads import single_thread

    single_thread()
    with TemporaryDirectory() as cache:  # first calls are cold: nothing from an earlier run
        os.environ["GRADC_CACHE_DIR"] = cache
        import jax

        jax.config.update("jax_enable_x64", True)
        import networkx  # noqa: F401 - imports are done before the clock starts, for everybody
        import torch  # noqa: F401

        import gradc.api.executable  # noqa: F401
        tables = measure()
    page = f"# Benchmarks\n\n{FAIRNESS}\n{machine()}\n\n{tables}"
    print(page)
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page, encoding="utf-8")
        print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()
