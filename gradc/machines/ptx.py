"""NVIDIA GPUs: PTX, a launch plan, and a function on device arrays.

Enters: `Stages`.  Leaves: texts, which need no GPU, no driver and no NVIDIA software; a function, which opens them at
its first call.  Start reading at `NvidiaGpu`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from gradc.codegen.debug import Locations
from gradc.codegen.ptx import TRIPLE, Gpu, LaunchPlan, emit
from gradc.codegen.ptx.target import PTX_VERSIONS
from gradc.errors import CompileError
from gradc.graph import Graph
from gradc.machines.artefact import MADE_BY, write_with
from gradc.machines.calling import array_specs, failure, mismatch
from gradc.machines.machine import Code, Compiled, Destination, Function, refuse_captured
from gradc.machines.options import Options
from gradc.machines.stages import Stages
from gradc.node import Node
from gradc.process import cached_property
from gradc.runtime import cuda
from gradc.runtime.device import DeviceArray, DeviceFunction
from gradc.runtime.files import write_whole
from gradc.runtime.load import assemble
from gradc.schedule import Schedule, schedule
from gradc.schedule.bodies import every_part
from gradc.schedule.kernel import Apply, Bounded, Nest, Product
from gradc.version import __version__

#: what the names of kernels begin with
PREFIX = "gradc"

names = tuple(PTX_VERSIONS)


@dataclass(frozen=True)
class DeviceCode(Code):
    """Kernels, and how they are launched."""

    plan: LaunchPlan
    title: str


class NvidiaGpu:
    """One architecture, "sm_90": its code runs on it and on later ones."""

    has_algorithms = False

    def __init__(self, arch: str):
        self.name, self.widths = arch, Gpu(arch)
        self.views: Mapping[str, Callable[[Stages], Any]] = {
            "schedule": lambda stages: f"{stages.schedule}\n{launches(stages)}",
            "plan": launches,
            "ptx": lambda stages: stages.asm,
            "interface": partial(interface, self.widths),
        }

    def schedule(self, graph: Graph, options: Options) -> Schedule:
        return schedule(graph, donated=options.donate, target=self.widths)

    def emit(self, plan: Schedule, options: Options, locations: Locations | None) -> DeviceCode:
        made = emit(plan, self.widths, PREFIX, options.fp, options.precision)
        return DeviceCode(made.ir, PREFIX, made.plan.arena_bytes, made.plan, plan.title)

    def assemble(self, code: Code, options: Options) -> str:
        """The PTX, headed by the launch plan as comments."""
        assert isinstance(code, DeviceCode)
        head = [f"gradc {__version__}: {code.title} for {self.name}{options.relaxed}", *str(code.plan).split("\n")]
        text = assemble(code.text, TRIPLE, self.name, self.widths.features, opt_level=3)
        return "".join(f"// {line}\n" for line in head) + text

    def load(self, stages: Stages) -> Compiled:
        count = len(launches(stages).launches)
        start = perf_counter()
        assert stages.asm
        seconds = {"codegen": perf_counter() - start}
        facts = {"launches": count, "precision": stages.options.precision}
        function = OnDevice(stages, self.widths)
        return Compiled.of(stages, function, f"{count} launches on {self.name}", seconds=seconds, facts=facts)

    def write(self, stages: Stages, path: Path, destination: Destination, overwrite: bool) -> list[Path]:
        """``.ptx`` with the launch plan beside it as ``.json``, ``.ll``, or ``.json`` alone."""
        if destination != Destination():
            raise CompileError(f"triple, cpu, features and name say nothing about {self.name}; leave them out")
        if path.suffix not in (".ptx", ".ll", ".json"):
            raise CompileError(f"{path.name}: the file must end in .ptx, .json or .ll for {self.name}")
        refuse_captured(stages)
        if path.suffix == ".ll":
            return write_whole({path: stages.code.text})
        plan = json.dumps(interface(self.widths, stages), indent=1) + "\n"
        return write_with(
            {path: stages.asm} if path.suffix == ".ptx" else {}, path.with_suffix(".json"), plan, overwrite
        )


class OnDevice(Function):
    """A function on this machine's GPU, which the first call opens.

    Raises DeviceError where the driver, NVIDIA's bindings or a device that runs this code is missing.
    """

    def __init__(self, stages: Stages, gpu: Gpu):
        self._stages, self._gpu = stages, gpu

    @cached_property
    def _function(self) -> DeviceFunction:
        stages, plan = self._stages, self._stages.schedule
        inputs, outputs = array_specs(stages.source)
        return DeviceFunction(
            cuda.driver(), self._gpu, stages.asm, launches(stages), inputs, outputs, stages.options.donate, plan.arrays,
            partial(failure, stages) if _can_fail(plan) else None, partial(mismatch, stages.source),
        )  # fmt: skip

    def __call__(self, *leaves: Any, out: Sequence[Any] | None = None) -> Sequence[Any]:
        return self._function(*leaves, out=out)

    def bind(
        self, *leaves: Any, out: Sequence[Any] | None = None, nest: Callable[[Sequence[Any]], Any] = tuple
    ) -> Callable[[], Any]:
        return self._function.bind(*leaves, out=out, nest=nest)

    def put(self, x: Any) -> DeviceArray:
        return self._function.put(x)


def launches(stages: Stages) -> LaunchPlan:
    """The launches of one call, and the bytes of the arena on which they work."""
    assert isinstance(stages.code, DeviceCode)
    return stages.code.plan


def interface(gpu: Gpu, stages: Stages) -> dict[str, Any]:
    """All that a program without Python needs to run the PTX, as plain data (docs/gpu.md)."""
    graph, plan = stages.lowered, launches(stages)
    return {
        "producer": f"{MADE_BY} {__version__}", "title": graph.title,
        "target": gpu.arch, "ptx_version": ".".join(map(str, gpu.ptx_version)),
        "inputs": [_array(x, graph.names.get(x, f"input{i}")) for i, x in enumerate(graph.inputs)],
        "outputs": [_array(y, graph.names.get(y, f"output{j}")) for j, y in enumerate(graph.outputs)],
        "donated": {str(i): j for i, j in stages.options.donate.items()},
        "arena_bytes": plan.arena_bytes,
        "launches": plan.data,
    }  # fmt: skip


def _can_fail(plan: Schedule) -> bool:
    """Whether any kernel may write the status word."""
    works = [w for w, _ in every_part(plan.kernels)]
    nests = [w for w in works if isinstance(w, Nest)]
    nests += [w.epilogue.nest for w in works if isinstance(w, Product) and w.epilogue is not None]
    return any(isinstance(x, Bounded) or (isinstance(x, Apply) and x.node >= 0) for n in nests for x in n.code)


def _array(node: Node, name: str) -> dict[str, Any]:
    plain = re.sub(r"\W+", "_", name).strip("_")
    return {"name": plain, "dtype": str(node.dtype), "shape": list(node.shape)}


def machine(options: Options) -> NvidiaGpu:
    """The GPU that the options name."""
    made = NvidiaGpu(options.target)
    if options.debug:
        raise CompileError(f"debug=True has no meaning on {made.name}; leave it out")
    if options.cpu is not None:
        raise CompileError(f"cpu={options.cpu!r} says nothing about {made.name}; leave it out")
    if options.precision == "tf32" and not made.widths.has_tf32:
        able = ", ".join(a for a in PTX_VERSIONS if Gpu(a).has_tf32)
        raise CompileError(f"{made.name} has no tensor cores for precision='tf32'; there are those of {able}")
    return made
