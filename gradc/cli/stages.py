"""``gradc show``, ``check`` and ``compile``: one function at any stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradc.api.compiled import compile as compile_function
from gradc.api.derivatives import value_and_grad
from gradc.api.executable import Executable
from gradc.cli.loading import Loaded, load_function
from gradc.cli.usage import UsageError
from gradc.machines.options import Options
from gradc.machines.stages import Stages
from gradc.machines.table import is_target, known_targets
from gradc.oracle import check_gradients
from gradc.trace import trace


def differentiable(loaded: Loaded) -> tuple[int, ...]:
    """Positions of the arguments that hold floats only: what a gradient is taken with respect to."""
    from gradc.containers import leaves_of
    from gradc.trace import aval_of

    chosen = []
    for i, value in enumerate(loaded.specs()):
        leaves = leaves_of(value)[0]
        if leaves and all(aval_of(leaf).is_float for leaf in leaves):
            chosen.append(i)
    if not chosen:
        raise UsageError("no argument holds floats, so there is nothing to differentiate with respect to")
    return tuple(chosen)


def with_gradient(loaded: Loaded) -> Callable[..., Any]:
    """The function with its gradient by every argument that holds floats."""
    return value_and_grad(loaded.function, differentiable(loaded))


def show(
    place: str,
    given: Sequence[str],
    stage: str,
    gradient: bool,
    threads: int | None = None,
    target: str | None = None,
    precision: str = "ieee",
) -> int:
    """Print one stage, of the code for ``target``: "cpu" (default), or a GPU such as "sm_80" (default of "ptx")."""
    loaded = load_function(place, given)
    function = with_gradient(loaded) if gradient or stage == "grad" else loaded.function
    target = target or ("sm_80" if stage == "ptx" else "cpu")
    _check_precision(precision, target)
    if target not in known_targets():
        raise UsageError(f"--target {target}: there is none; there are {', '.join(known_targets())}")
    if stage == "ptx" and target == "cpu":
        raise UsageError("a CPU has no PTX; choose --target sm_75, sm_80, sm_86, sm_89, sm_90, sm_100 or sm_120")
    if stage in ("graph", "dot", "grad", "optimised"):
        print(_graph_text(Stages(trace(function, *loaded.specs()), Options()), stage))
        return 0
    executable = compiled(loaded, function, threads=threads, target=target, precision=precision)
    print(stats_text(executable) if stage == "stats" else executable.text(stage))
    return 0


def compiled(loaded: Loaded, function: Callable[..., Any], **options: Any) -> Executable:
    """The function compiled for its example arguments."""
    return compile_function(function, *loaded.specs(), **options)


def _check_precision(precision: str, target: str | None) -> None:
    if precision != "ieee" and (target in (None, "cpu") or not is_target(target)):
        raise UsageError(f"--precision {precision} is about tensor cores of GPUs; add --target sm_80, say")


def _graph_text(stages: Stages, stage: str) -> str:
    if stage == "dot":
        return stages.source.dot()
    if stage == "graph":
        return stages.text(stage)
    return "\n".join([str(stages.optimised), *(f"  note: {n}" for n in stages.optimised.notes)])


def stats_text(executable: Executable) -> str:
    """Milliseconds per stage and what one call costs."""
    stats = executable.stats
    lines = [f"{name:<14} {1e3 * seconds:8.2f} ms" for name, seconds in stats["seconds"].items()]
    lines.append(f"{'total':<14} {1e3 * sum(stats['seconds'].values()):8.2f} ms")
    lines.append(
        f"one call: {stats['kernels']} kernels, {stats['flops']:,} flop, {stats['bytes']:,} bytes moved, "
        f"{stats['arena_bytes']:,} bytes of scratch, {_spread_over(stats)}"
    )
    return "\n".join(lines)


def _spread_over(stats: Mapping[str, Any]) -> str:
    count, what = (stats["launches"], "launch") if "launches" in stats else (stats["threads"], "thread")
    return f"{count} {what}" + ("es" if what == "launch" else "s") * (count != 1)


def check(place: str, given: Sequence[str]) -> int:
    """Print the agreement table; status 1 if the derivatives disagree."""
    loaded = load_function(place, given)
    report = check_gradients(loaded.function, *loaded.values())
    print(report)
    return 0 if report.ok else 1


def write(
    place: str,
    given: Sequence[str],
    output: str,
    gradient: bool,
    target: tuple[str | None, str, str],
    name: str,
    debug: bool = False,
    precision: str = "ieee",
    overwrite: bool = False,
) -> int:
    """Write the compiled function in the form that the file's ending asks for."""
    loaded = load_function(place, given)
    function = with_gradient(loaded) if gradient else loaded.function
    triple, *more = target
    _check_precision(precision, triple)
    if triple is not None and is_target(triple):
        if any(more) or debug:
            raise UsageError(f"--cpu, --features and --debug say nothing about {triple}; leave them out")
        written = compiled(loaded, function, target=triple, precision=precision).save(output, overwrite=overwrite)
    elif output.endswith(".ptx"):
        raise UsageError(f"{output}: PTX is for a GPU; add --target sm_80, say")
    else:
        written = compiled(loaded, function, debug=debug).save(output, *target, name, overwrite=overwrite)
    for path in written:
        print(f"wrote {path} ({path.stat().st_size:,} bytes)")
    return 0
