"""``make bench``: gradc beside NumPy, JAX and PyTorch, one thread, interleaved in one run, as ratios.

Prints Markdown.  A ratio is peer's median over gradc's median: above 1 gradc is faster.
"""

from __future__ import annotations

import os
import platform
from datetime import date
from tempfile import TemporaryDirectory


def main() -> None:
    from tests.bench.harness import first_table, single_thread, table

    single_thread()
    with TemporaryDirectory() as cache:  # first calls are cold: nothing from an earlier run
        os.environ["GRADC_CACHE_DIR"] = cache
        import jax

        jax.config.update("jax_enable_x64", True)
        from tests.bench import workloads

        rows = [
            workloads.mlp_step((64, 128, 10), 128),
            workloads.mlp_step((64, 128, 128, 10), 128),
            workloads.mlp_step((784, 128, 10), 64),
            workloads.greeks(),
            workloads.rosenbrock_gradient(10),
            workloads.rosenbrock_gradient(1_000),
            workloads.rosenbrock_gradient(1_000_000),
            workloads.call_overhead(),
        ]
    print(
        f"{date.today()}, {platform.processor() or platform.machine()}, {_versions()}; one thread, medians of 15 rounds.\n"
    )
    print(table(rows))
    print()
    print(first_table(rows))


def _versions() -> str:
    from importlib import metadata

    return ", ".join(f"{n} {metadata.version(n)}" for n in ("numpy", "jax", "torch", "llvmlite"))


if __name__ == "__main__":
    main()
