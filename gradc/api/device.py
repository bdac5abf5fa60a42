"""Compilation for NVIDIA GPUs: a Graph becomes PTX, a launch plan, and a callable on device arrays.

Enters: a Graph and options that name a target.  Leaves: `DeviceExecutable`.  Making one needs no GPU, no driver and no
NVIDIA software; calling it does.  Start reading at `DeviceExecutable`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from gradc.api.artefact import MADE_BY, write_with
from gradc.api.calling import failure, flat_leaves, mismatch
from gradc.api.options import STAGES, Options
from gradc.api.stages import Stages
from gradc.codegen.ptx import TRIPLE, DeviceModule, Gpu, LaunchPlan, NoDeviceCodeError, emit
from gradc.containers import leaves_of
from gradc.errors import CompileError
from gradc.graph import Graph
from gradc.node import here
from gradc.ops.control import every_node
from gradc.process import cached_property
from gradc.runtime import cuda
from gradc.runtime.arrays import ArraySpec
from gradc.runtime.device import DeviceArray, DeviceFunction
from gradc.runtime.files import write_whole
from gradc.runtime.load import assemble
from gradc.schedule import Schedule
from gradc.schedule.bodies import every_part
from gradc.schedule.kernel import Apply, Bounded, Nest, Product
from gradc.version import __version__

#: what the names of kernels begin with
PREFIX = "gradc"


class DeviceExecutable:
    """A function compiled for a GPU: call it with arrays on the device, shaped as at compile time.

    ``.ptx`` is the code, ``.plan`` the launches and the arena, ``.graph``, ``.schedule`` and ``.llvm`` what they came
    from, ``.stats`` seconds per stage, flops, bytes moved, arena bytes.  ``.put(x)`` copies a host array to the device,
    ``.numpy()`` of a result copies it back.
    """

    def __init__(self, graph: Graph, options: Options, traced_seconds: float = 0.0):
        if options.debug:
            raise CompileError(f"{here()}: {graph.title}: debug=True has no meaning on {options.target}; leave it out")
        self.source_graph, self.options, self.gpu = graph, options, Gpu(options.target)
        self._stages = Stages(graph, options, self.gpu)
        if traced_seconds:
            self._stages.seconds["trace"] = traced_seconds
        self.graph, self.lowered = self._stages.optimised, self._stages.lowered
        self.schedule: Schedule = self._stages.schedule
        self.module: DeviceModule = self._stages.timed("emit", self._emit)
        self._text: str = self._stages.timed("llvm codegen", self._assemble)
        self.weak = any(x.aval.weak for x in graph.inputs)
        for stage in options.show:
            print(f"── {graph.title}: {stage}\n{self.text(stage)}", file=sys.stderr)

    def _emit(self) -> DeviceModule:
        try:
            return emit(self.schedule, self.gpu, PREFIX, self.options.fp, self.options.precision)
        except NoDeviceCodeError as error:
            where = f"{list(every_node(self.lowered))[error.node].where}: " if error.node >= 0 else ""
            raise CompileError(f"{where}{self.graph.title}: {error}; compile it with target='cpu'") from None

    def _assemble(self) -> str:
        return assemble(self.module.ir, TRIPLE, self.gpu.arch, self.gpu.features, "asm", opt_level=3)

    # -- calling -----------------------------------------------------------------------------------------------------
    @cached_property
    def _function(self) -> DeviceFunction:
        """The code on this machine's device."""
        graph = self.lowered
        names = [graph.names.get(x, f"argument {i}") for i, x in enumerate(graph.inputs)]
        inputs = [ArraySpec(x.shape, x.dtype, n) for x, n in zip(graph.inputs, names, strict=True)]
        outputs = [ArraySpec(y.shape, y.dtype, f"output {j}") for j, y in enumerate(graph.outputs)]
        return DeviceFunction(
            cuda.driver(), self.gpu, self.ptx, self.plan, inputs, outputs, self.options.donate, self.schedule.arrays,
            self._failure if _can_fail(self.schedule) else None, self._mismatch,
        )  # fmt: skip

    def put(self, x: Any) -> DeviceArray:
        """A copy of a host array on the device.  Raises DeviceError where there is none."""
        return self._function.put(x)

    def call_flat(self, leaves: Any) -> Any:
        """Run on flat device arrays; the result nests as the function's."""
        if self.weak:
            self.source_graph.refuse_overflow([x for x in leaves if not isinstance(x, DeviceArray)])
        results = self._function(*leaves)
        return self._nested(results)

    def _nested(self, results: Any) -> Any:
        assert self.source_graph.out_tree is not None
        return self.source_graph.out_tree.unflatten(results)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run on device arrays nested as at compile time: `DeviceArray`, or anything with ``__cuda_array_interface__``
        or DLPack; Python numbers where the function takes a number.  Results stay on the device.

        Raises DeviceError where the driver, NVIDIA's bindings or a device that runs this code is missing.
        """
        return self.call_flat(flat_leaves(self.source_graph, args, kwargs))

    def bind(self, *args: Any, out: Any = None, **kwargs: Any) -> Callable[[], Any]:
        """Fix the buffers once: a callable without arguments that runs on them as one captured CUDA graph."""
        leaves = flat_leaves(self.source_graph, args, kwargs)
        given = [None] * len(self.graph.outputs) if out is None else leaves_of(out)[0]
        if len(given) != len(self.graph.outputs):
            raise TypeError(f"{here()}: out= takes {len(self.graph.outputs)} arrays, got {len(given)}")
        run, results = self._function.bind(leaves, given)
        result = self._nested(results)

        def bound() -> Any:
            run()
            return result

        return bound

    # -- looking at it -----------------------------------------------------------------------------------------------
    @property
    def plan(self) -> LaunchPlan:
        """The launches of one call, and the bytes of the arena on which they work."""
        return self.module.plan

    @cached_property
    def ptx(self) -> str:
        """The PTX, headed by the launch plan as comments."""
        head = [f"gradc {__version__}: {self.graph.title} for {self.gpu.arch}{self._relaxed}"]
        head += str(self.plan).split("\n")
        return "".join(f"// {line}\n" for line in head) + self._text

    @property
    def llvm(self) -> str:
        """The LLVM IR."""
        return self.module.ir

    def text(self, stage: str) -> str:
        """One stage in words: "graph" as traced, "optimised", "schedule", "llvm", or "asm", which is the PTX."""
        match stage:
            case "graph":
                return str(self.source_graph)
            case "optimised":
                return str(self.graph)
            case "schedule":
                return f"{self.schedule}\n{self.plan}"
            case "llvm":
                return self.llvm
            case "ptx" | "asm":
                return self.ptx
        raise ValueError(f"unknown stage {stage!r}; expected one of {', '.join(STAGES)}")

    @property
    def stats(self) -> dict[str, Any]:
        """``seconds`` per stage, ``flops`` and ``bytes`` of one call, ``arena_bytes``, ``kernels``, ``launches``."""
        return {
            "seconds": dict(self._stages.seconds), "flops": self.schedule.flops, "bytes": self.schedule.bytes,
            "arena_bytes": self.plan.arena_bytes, "kernels": len(self.schedule.kernels),
            "launches": len(self.plan.launches), "cached": False, "fp": self.options.fp,
            "precision": self.options.precision, "notes": self.graph.notes,
        }  # fmt: skip

    def save(self, path: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write ``.ptx`` (with the launch plan beside it as ``.json``), ``.ll`` or ``.json``; returns what was written.

        Each file is written whole or not at all.  A ``.json`` that gradc did not write is not replaced unless
        ``overwrite`` (`gradc.api.artefact.write_with`).  Raises CompileError for captured arrays: those live in the
        Python process.
        """
        path = Path(path)
        if path.suffix not in (".ptx", ".ll", ".json"):
            raise CompileError(f"{path.name}: the file must end in .ptx, .json or .ll for {self.gpu.arch}")
        if self.schedule.arrays:
            captured = ", ".join(f"{a.dtype}{list(a.shape)}" for a in self.schedule.arrays)
            raise CompileError(f"{self.graph.title} captures arrays ({captured}); pass them as arguments")
        if path.suffix == ".ll":
            return write_whole({path: self.llvm})
        plan = json.dumps(self.interface(), indent=1) + "\n"
        return write_with({path: self.ptx} if path.suffix == ".ptx" else {}, path.with_suffix(".json"), plan, overwrite)

    def interface(self) -> dict[str, Any]:
        """All that a program without Python needs to run the PTX, as plain data (docs/gpu.md)."""
        graph = self.lowered
        return {
            "producer": f"{MADE_BY} {__version__}", "title": graph.title,
            "target": self.gpu.arch, "ptx_version": ".".join(map(str, self.gpu.ptx_version)),
            "inputs": [_array(x, graph.names.get(x, f"input{i}")) for i, x in enumerate(graph.inputs)],
            "outputs": [_array(y, graph.names.get(y, f"output{j}")) for j, y in enumerate(graph.outputs)],
            "donated": {str(i): j for i, j in self.options.donate.items()},
            "arena_bytes": self.plan.arena_bytes,
            "launches": self.plan.data,
        }  # fmt: skip

    def __reduce__(self) -> NoReturn:
        raise CompileError(f"{here()}: {self.graph.title}: compiled code cannot be copied; copy the function")

    def __repr__(self) -> str:
        inputs = ", ".join(f"{self.graph.name(x)}: {x.aval}" for x in self.graph.inputs)
        launches = f"{len(self.plan.launches)} launches on {self.gpu.arch}"
        milliseconds = 1e3 * sum(self._stages.seconds.values())
        return f"<compiled {self.graph.title}({inputs}), {launches}{self._relaxed}, {milliseconds:.0f} ms>"

    @property
    def _relaxed(self) -> str:
        """What the options allow beyond IEEE arithmetic, in words."""
        allowed = {"fp": self.options.fp, "precision": self.options.precision}
        return "".join(f", {name}={value}" for name, value in allowed.items() if value != "ieee")

    # -- errors ------------------------------------------------------------------------------------------------------
    def _mismatch(self, i: int, given: object) -> Exception:
        node = self.source_graph.inputs[i]
        return mismatch(self.graph.title, self.source_graph.names.get(node, f"argument {i}"), node, given)

    def _failure(self, status: int) -> Exception:
        return failure(self.graph.title, self.lowered, status)


def _can_fail(plan: Schedule) -> bool:
    """Whether any kernel may write the status word."""
    works = [w for w, _ in every_part(plan.kernels)]
    nests = [w for w in works if isinstance(w, Nest)]
    nests += [w.epilogue.nest for w in works if isinstance(w, Product) and w.epilogue is not None]
    return any(isinstance(x, Bounded) or (isinstance(x, Apply) and x.node >= 0) for n in nests for x in n.code)


def _array(node: Any, name: str) -> dict[str, Any]:
    plain = re.sub(r"\W+", "_", name).strip("_")
    return {"name": plain, "dtype": str(node.dtype), "shape": list(node.shape)}
