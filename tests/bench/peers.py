"""How each library is called at its best: small adaptors from a function to an `Entrant`.

gradc and JAX are jitted, PyTorch runs eagerly and through ``torch.compile``, CasADi in its virtual machine and as C
that the system's compiler translates with -O3 -march=native.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.workload import Builder, Entrant

Function = Callable[..., Any]


def flat(result: Any) -> list[Any]:
    """The arrays of nested tuples, lists and dicts, as NumPy arrays."""
    if isinstance(result, dict):
        return [a for key in sorted(result) for a in flat(result[key])]
    if isinstance(result, (tuple, list)):
        return [a for item in result for a in flat(item)]
    return [np.array(result.detach() if hasattr(result, "detach") else result)]


def entrant(call: Callable[[], Any], **more: Any) -> Entrant:
    return Entrant(call, lambda: flat(call()), **more)


def numpy_entrant(f: Function, *args: Any) -> Entrant:
    return entrant(partial(f, *args))


# -- gradc -------------------------------------------------------------------------------------------------------------
def gradc_entrant(f: Function, *args: Any, bound: bool = False, **options: Any) -> Entrant:
    """``f`` jitted and called as a user does; with ``bound`` through `Executable.bind`, its buffers fixed once."""
    import gradc as gc

    jitted = gc.jit(f, **options)
    executable = jitted.lower(*args)
    call = executable.bind(*args) if bound else partial(jitted, *args)
    return entrant(call, **gradc_facts(executable))


def gradc_facts(executable: Any) -> dict[str, Any]:
    """What an executable tells about itself."""
    stats = executable.stats
    return {"planned_bytes": stats["arena_bytes"], "stages": stats["seconds"]}


# -- JAX ---------------------------------------------------------------------------------------------------------------
def jax_entrant(f: Function, *args: Any, **options: Any) -> Entrant:
    import jax

    compiled = jax.jit(f, **options)
    on_device = jax.tree.map(jax.numpy.asarray, args)
    return entrant(lambda: jax.block_until_ready(compiled(*on_device)))


# -- PyTorch -----------------------------------------------------------------------------------------------------------
def torch_contenders(build: Callable[[Callable[[Function], Function]], Entrant]) -> dict[str, Builder]:
    """Eager and compiled, each with its MKL as installed and on AVX-512; ``build`` takes what wraps a function."""

    def compiled() -> Entrant:
        import torch

        return build(torch.compile)

    plain: dict[str, Builder] = {"PyTorch": lambda: build(lambda f: f), "torch.compile": compiled}
    return plain | {f"{label} AVX-512": builder for label, builder in plain.items()}


# -- CasADi ------------------------------------------------------------------------------------------------------------
def compiled_c(function: Any, flags: Sequence[str] = ("-O3", "-march=native")) -> Any:
    """The function as generated C, compiled and loaded again as CasADi loads it."""
    import casadi

    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise ImportError("no C compiler", name="cc")
    folder = Path(tempfile.mkdtemp(prefix="gradc-bench-"))
    target = folder / "generated.so"
    generator = casadi.CodeGenerator("generated.c")
    generator.add(function)
    source = generator.generate(f"{folder}/")
    subprocess.run([compiler, *flags, "-shared", "-fPIC", "-o", target, source], check=True)
    return casadi.external(function.name(), str(target))


def buffered(function: Any, args: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> Entrant:
    """A CasADi function called through buffers prepared once, its shortest way in; results are column-major."""
    buffer, trigger = function.buffer()
    inputs = [np.asfortranarray(a, np.float64) for a in args]
    outputs = [np.zeros(shape, order="F") for shape in shapes]
    for i, a in enumerate(inputs):
        buffer.set_arg(i, memoryview(a.reshape(-1, order="F")))
    for j, a in enumerate(outputs):
        buffer.set_res(j, memoryview(a.reshape(-1, order="F")))
    held = (function, buffer, inputs, outputs)

    def values() -> list[Any]:
        trigger()
        return [a.copy() for a in outputs]

    return Entrant(trigger, values, lambda: held and None)  # the lambda keeps the buffers alive


def casadi_contenders(
    make: Callable[[], Any], args: Sequence[Any], shapes: Sequence[tuple[int, ...]]
) -> dict[str, Builder]:
    """The virtual machine and generated C, both through buffers; ``make`` builds the `casadi.Function`."""
    return {
        "CasADi VM": lambda: buffered(make(), args, shapes),
        "CasADi C": lambda: buffered(compiled_c(make()), args, shapes),
    }
