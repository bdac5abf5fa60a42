"""How each library is called at its best: small adaptors from a function to an `Entrant`.

gradc and JAX are jitted, PyTorch runs eagerly and through ``torch.compile``, CasADi in its virtual machine and as C
that the system's compiler translates with -O3 -march=native.
"""

from __future__ import annotations

import ctypes
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
class CasadiC:
    """A CasADi function as C, compiled by the system's compiler, called through pointers prepared once."""

    def __init__(self, function: Any, args: Sequence[Any], shapes: Sequence[tuple[int, ...]]):
        self.library = build_c(function)
        native = getattr(self.library, function.name())
        sizes = [getattr(self.library, f"{function.name()}_work")]
        self.outputs = [np.zeros(shape) for shape in shapes]
        self.inputs = [np.ascontiguousarray(a, np.float64) for a in args]
        counts = [ctypes.c_longlong() for _ in range(4)]
        sizes[0](*[ctypes.byref(c) for c in counts])
        arg, res, iw, w = (max(int(c.value), 1) for c in counts)
        self.held = (
            (ctypes.c_void_p * arg)(*[a.ctypes.data for a in self.inputs]),
            (ctypes.c_void_p * res)(*[a.ctypes.data for a in self.outputs]),
            (ctypes.c_longlong * iw)(),
            (ctypes.c_double * w)(),
        )
        native.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_int]
        self.call = partial(native, *[ctypes.addressof(x) for x in self.held], 0)
        self.native = native

    def values(self) -> list[Any]:
        self.call()
        return [a.copy() for a in self.outputs]


def build_c(function: Any, flags: Sequence[str] = ("-O3", "-march=native")) -> ctypes.CDLL:
    """Generate C, compile it and load it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise ImportError("no C compiler", name="cc")
    folder = Path(tempfile.mkdtemp(prefix="gradc-bench-"))
    source = function.generate("generated.c", {"with_header": False, "casadi_int": "long long int"})
    target = folder / "generated.so"
    shutil.move(source, folder / "generated.c")
    subprocess.run([compiler, *flags, "-shared", "-fPIC", "-o", target, folder / "generated.c"], check=True)
    return ctypes.CDLL(str(target))


def casadi_contenders(
    make: Callable[[], Any], args: Sequence[Any], shapes: Sequence[tuple[int, ...]]
) -> dict[str, Builder]:
    """The virtual machine through its buffers, and generated C; ``make`` builds the `casadi.Function`."""

    def machine() -> Entrant:
        function = make()
        buffer, trigger = function.buffer()
        inputs = [np.ascontiguousarray(a, np.float64) for a in args]
        outputs = [np.zeros(shape) for shape in shapes]
        for i, a in enumerate(inputs):
            buffer.set_arg(i, memoryview(a))
        for j, a in enumerate(outputs):
            buffer.set_res(j, memoryview(a))

        def values() -> list[Any]:
            trigger()
            return [a.copy() for a in outputs]

        held = (buffer, inputs, outputs)
        return Entrant(trigger, values, lambda: held and None)  # the lambda keeps the buffers alive

    def generated() -> Entrant:
        compiled = CasadiC(make(), args, shapes)
        return Entrant(compiled.call, compiled.values)

    return {"CasADi VM": machine, "CasADi C": generated}
