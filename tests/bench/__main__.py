"""``make bench``: gradc beside its peers, interleaved in one run, as ratios.

    python -m tests.bench [--only mlp,gemm/f32] [--quick] [--threads 1,2] [--write] [--json FILE] [--resume FILE]

Prints Markdown on standard output and progress on standard error; ``--write`` also puts it into docs/benchmarks.md.
Exit status 1 when a contender gave a wrong answer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import date
from importlib import import_module, metadata
from pathlib import Path
from time import perf_counter

from tests.bench.race import Effort, FailedError, Result, Stable, run
from tests.bench.report import against, bytes_text, json_lines, page, restored, seconds_text, selected, verdict
from tests.bench.workload import Workload

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
#: family module -> its heading, in the page's order
FAMILIES = {
    "products": "Matrix products",
    "factorisations": "Factorisations of matrices",
    "finance": "Black–Scholes and its greeks",
    "elementary": "Transcendental functions",
    "rowwise": "Reductions, softmax, layer normalisation",
    "optimizers": "Optimizer updates",
    "networks": "Training steps of fully connected networks",
    "convnet": "Training step of a convolutional network",
    "transformer": "Training step of a transformer",
    "models": "Training steps of a residual and a recurrent network",
    "rosenbrock": "Rosenbrock's valley",
    "mechanism": "A scalar-heavy expression: seven links",
    "per_example": "Per-example gradients",
    "logistic": "Logistic regression",
    "hessians": "Hessians and Jacobians",
    "sparse": "Sparse derivatives and products",
    "random_numbers": "Random numbers",
    "solvers": "Solving as one call",
    "calls": "The cost of a call",
    "compile_time": "First calls",
    "memory": "Peak memory of a training step",
}
HEAD = """\
# Benchmarks

Written by `make bench`. Every figure is a median of {rounds} interleaved rounds in one run (gradc's minimum in
brackets); every answer was compared with gradc's before any clock started. Peers run at their best setting, each in a
process of its own, one at a time: JAX jitted, with donation where gradc donates; PyTorch eager and `torch.compile`;
CasADi in its virtual machine and as C compiled with `-O3 -march=native`; "AVX-512" marks a BLAS that may not take its
AVX-512 kernels on this CPU by itself and is made to. gradc is called from Python as a user calls it, with `fp="ieee"`:
no fast-math. *best ×* is the best peer's median over gradc's; *reached* says whether all goals of the row are: ratios
of medians, and the share of the FMA peak that gradc's shortest time is, as all percentages of limits measured in the
same run.

{date}, {cpu}, {cores} cores, {system}, Python {python}; {versions}."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    rows = chosen([w for w in options.only.split(",") if w], options.quick)
    if options.list:
        print("\n".join(workload.name for _, workload in rows))
        return 0
    if not rows:
        print(f"no row is called {options.only!r}; --list prints them all", file=sys.stderr)
        return 2
    everything = chosen([], options.quick)
    results, limits = known(options.resume, everything) if options.resume else ([], {})
    done = {(r.workload.name, r.threads) for r in results}
    for threads in map(int, options.threads.split(",")):
        effort = Effort.small(threads) if options.quick else Effort(threads=threads)
        left = [(f, w) for f, w in rows if (w.name, threads) not in done and (threads == 1 or w.measure == "time")]
        stable = Stable(threads)
        try:
            limits = limits or stable.get("gradc").ask("probe")
            for family, workload in left:
                results.append(measured(workload, family, stable, effort))
                if options.json:  # after every row: an interrupted run can be resumed
                    Path(options.json).write_text(json_lines(results, limits), encoding="utf-8")
        finally:
            stable.close()
    place = {workload.name: k for k, (_, workload) in enumerate(everything)}
    results.sort(key=lambda result: (result.threads, place[result.workload.name]))
    text = page(results, FAMILIES, limits, head(effort.rounds))
    print(text)
    if options.write:
        PAGE.write_text(text, encoding="utf-8")
        print(f"wrote {PAGE.name}", file=sys.stderr)
    return int(any("wrong answer" in why for r in results for why in r.failures.values()))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").split("\n")[0])
    made.add_argument("--only", default="", help="rows whose name has a part that starts with one of these words, a,b")
    made.add_argument("--quick", action="store_true", help="few rows, few rounds: does everything run?")
    many = "thread counts, one run each, as 1,2 (default: 1); with more than one, first calls and memory are left out"
    made.add_argument("--threads", default="1", help=many)
    made.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    made.add_argument("--json", metavar="FILE", help="write one JSON object per row")
    made.add_argument("--resume", metavar="FILE", help="take the rows of such a file as measured, and show them, too")
    made.add_argument("--list", action="store_true", help="print the names of the rows")
    return made


def chosen(wanted: Sequence[str], quick: bool) -> list[tuple[str, Workload]]:
    families = {family: import_module(f"tests.bench.{family}") for family in FAMILIES}
    rows = [(family, w) for family, module in families.items() for w in module.workloads(quick)]
    return [(family, w) for family, w in rows if selected(w.name, wanted)]


def known(file: str, rows: Sequence[tuple[str, Workload]]) -> tuple[list[Result], dict[str, float]]:
    """The results of ``rows`` in a file that ``--json`` wrote, and the limits measured with the last."""
    wanted = {workload.name: workload for _, workload in rows}
    records = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    found = {(r["name"], r["threads"]): r for r in records if r["name"] in wanted}
    order = {name: k for k, name in enumerate(wanted)}
    ordered = sorted(found.values(), key=lambda r: (r["threads"], order[r["name"]]))
    return [restored(r, wanted[r["name"]]) for r in ordered], records[-1]["machine"] if records else {}


def measured(workload: Workload, family: str, stable: Stable, effort: Effort) -> Result:
    """Measure one row and say so."""
    start = perf_counter()
    try:
        result = run(workload, family, stable, effort)
    except FailedError as failure:
        result = Result(workload, family, effort.threads, failures={"gradc": str(failure)})
    peer = against(result)
    ratio = f"{result.ratio(peer):.2f}× {peer}" if peer and "gradc" in result.median else "no ratio"
    show = bytes_text if workload.measure == "memory" else seconds_text
    own = show(result.median["gradc"]) if "gradc" in result.median else "no figure"
    trouble = "".join(f"\n    {label}: {why}" for label, why in result.failures.items())
    print(
        f"{workload.name:36} {own:>9}  {ratio:32} {verdict(result):3} [{perf_counter() - start:.1f} s]{trouble}",
        file=sys.stderr, flush=True,
    )  # fmt: skip
    return result


def head(rounds: int) -> str:
    names = ("numpy", "scipy", "llvmlite", "jax", "torch", "casadi", "numba")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return HEAD.format(
        rounds=rounds, date=date.today(), cpu=cpu_name(), cores=os.cpu_count(), system=platform.system(),
        python=platform.python_version(), versions=versions,
    )  # fmt: skip


def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def cpu_name() -> str:
    """The model as the operating system names it, and as LLVM does."""
    from gradc.codegen.target import Target

    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{model} ({Target.host().cpu})"


if __name__ == "__main__":
    sys.exit(main())
