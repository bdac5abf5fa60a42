"""Compilation: a Graph becomes one function of its machine, and a Python callable around it.

Enters: a Graph and options.  Leaves: `Executable`.  The stages are `gradc.machines.stages`'s, and what differs from
machine to machine is the machine's; texts for people (LLVM IR, assembly, the printed schedule) are made only when asked
for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradc.api.dispatched import Dispatched
from gradc.codegen.debug import Locations
from gradc.containers import MakeBranch, Structure, leaves_of
from gradc.errors import CompileError
from gradc.graph import Graph, fit_argument
from gradc.machines.calling import flat_leaves
from gradc.machines.machine import SYMBOL, Destination
from gradc.machines.options import Options
from gradc.machines.stages import Stages
from gradc.node import here
from gradc.process import cached_property
from gradc.runtime.dispatch import Branch, Fixed, Part, describe
from gradc.runtime.entry import Words
from gradc.runtime.native import NativeFunction
from gradc.schedule.plan import Schedule
from gradc.version import __version__

if TYPE_CHECKING:
    from gradc.codegen.ptx import LaunchPlan
    from gradc.explorer.profile import Profile


class Executable(Dispatched):
    """A compiled function: call it with arrays shaped as at compile time.

    ``.graph`` is the optimised graph, ``.schedule`` the kernels and the memory plan, ``.llvm`` and ``.asm`` the
    generated code, ``.stats`` seconds per stage, flops, bytes moved, arena bytes.  Compiled with ``debug=True``,
    ``.locations`` leads from code back to graph nodes.

    Compiled for a GPU, it takes arrays on the device (`put` copies a host array there, ``.numpy()`` of a result copies
    it back), and has ``.ptx`` and ``.plan``, the launches and the arena, which need no GPU.
    """

    def __init__(self, graph: Graph, options: Options | None = None, traced_seconds: float = 0.0):
        options = options or Options()
        self.source_graph = graph
        self.options = options
        self._stages = Stages(graph, options)
        self._stages.examine = _examined
        if traced_seconds:
            self._stages.seconds["trace"] = traced_seconds
        self._compiled = self._stages.load()
        self.native = self._compiled.function
        assert graph.out_tree is not None
        self.unflatten = graph.out_tree.unflatten
        self.single = graph.out_tree.is_leaf
        self.weak = any(x.aval.weak for x in graph.inputs)
        self._profile: Profile | None = None
        self._verified = "" if options.verify else "not asked for"
        self.prefer(self.dispatched)
        for stage in options.show:
            print(f"── {graph.title}: {stage}\n{self.text(stage)}", file=sys.stderr)

    # -- stages, walked when asked for ---------------------------------------------------------------------------------
    @property
    def graph(self) -> Graph:
        """The optimised graph."""
        return self._stages.optimised

    @property
    def lowered(self) -> Graph:
        """The graph that is scheduled: ops that are written in other ops have become those."""
        return self._stages.lowered

    @property
    def schedule(self) -> Schedule:
        """Kernels and the memory plan."""
        return self._stages.schedule

    @property
    def locations(self) -> Locations | None:
        """With ``debug=True``: the way from code back to graph nodes."""
        return self._stages.locations

    @property
    def plan(self) -> LaunchPlan:
        """Of a GPU: the launches of one call, and the bytes of the arena on which they work."""
        plan: LaunchPlan = self._view("plan")
        return plan

    @property
    def ptx(self) -> str:
        """Of a GPU: the PTX, headed by the launch plan as comments."""
        text: str = self._view("ptx")
        return text

    def interface(self) -> dict[str, Any]:
        """Of a GPU: all that a program without Python needs to run the PTX, as plain data (docs/gpu.md)."""
        data: dict[str, Any] = self._view("interface")
        return data

    def _view(self, name: str) -> Any:
        """What only some machines have."""
        machine = self._stages.machine
        if name not in machine.views:
            raise AttributeError(f"{self.source_graph.title} is compiled for {machine.name}, which has no {name}")
        return machine.views[name](self._stages)

    @property
    def _seconds(self) -> dict[str, float]:
        """Seconds per stage, of those that were walked."""
        return self._stages.seconds | {f"llvm {k}": v for k, v in self._compiled.seconds.items()}

    @property
    def arena_bytes(self) -> int:
        """Scratch of one running call, in bytes."""
        return self._compiled.arena_bytes

    # -- calling -------------------------------------------------------------------------------------------------------
    def call_any(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run on arrays nested as at compile time; the keyword ``out`` nests like the result and is filled instead of
        new arrays.

        On a GPU these are `DeviceArray`, or anything with ``__cuda_array_interface__`` or DLPack, and Python numbers
        where the function takes a number; results stay on the device.  Raises DeviceError where the driver, NVIDIA's
        bindings or a device that runs this code is missing.
        """
        out = kwargs.pop("out", None)
        return self.call_flat(self._flat(args, kwargs), out)

    def _flat(self, args: Any, kwargs: Any) -> list[Any]:
        return flat_leaves(self.source_graph, args, kwargs)

    def call_flat(self, leaves: Sequence[Any], out: Any = None) -> Any:
        """Run on flat arrays; the result nests as the function's."""
        if self.weak:
            self.source_graph.refuse_overflow(leaves)
        given = None if self._verified else self._kept(leaves)
        results = self._entry(*leaves) if out is None else self.native(*leaves, out=leaves_of(out)[0])
        if given is not None:
            self._verify(given, results)
        return self._nested(results)

    @cached_property
    def _entry(self) -> Callable[..., Sequence[Any]]:
        return self.native.entry

    def put(self, x: Any) -> Any:
        """A copy of a host array in the memory of the machine.  Raises DeviceError where there is none."""
        return self.native.put(x)

    def _kept(self, leaves: Sequence[Any]) -> list[Any]:
        """The arguments as they are before the call, which may overwrite donated ones."""
        pairs = zip(leaves, self.source_graph.inputs, strict=True)
        return [np.array(fit_argument(x, n.aval, self.source_graph.name(n))) for x, n in pairs]

    def _verify(self, given: Sequence[Any], results: Sequence[Any]) -> None:
        """Raise VerificationError unless the results are the interpreter's; from then on calls are as short as any."""
        from gradc.oracle.first_call import compared  # loads the oracle: only where it is asked

        self._verified = compared(self._stages, given, results)
        self.prefer(self.dispatched)

    @property
    def dispatched(self) -> Words | None:
        """How compiled code takes the arguments of a call apart and nests its results, where it can."""
        return self._described if self._verified else None

    @cached_property
    def _described(self) -> Words | None:
        graph = self.source_graph
        assert graph.in_tree is not None and graph.out_tree is not None
        if graph.limits or not isinstance(self.native, NativeFunction):  # Python looks at the numbers, or at all
            return None
        weak = [x.aval.weak for x in graph.inputs]
        return describe(self.native, weak, _nesting(graph.in_tree), _nesting(graph.out_tree))

    def bind(self, *args: Any, out: Any = None, **kwargs: Any) -> Callable[[], Any]:
        """Fix the buffers once: a callable without arguments that reads ``args`` as they are at each call, and returns
        the same result each time, nested as the function's, its arrays filled anew (0-d results are 0-d arrays).

        On a GPU the whole step is captured as one graph.
        """
        leaves, outputs = self._flat(args, kwargs), self.source_graph.outputs
        self.source_graph.refuse_overflow(leaves)
        given = [None] * len(outputs) if out is None else leaves_of(out)[0]
        if len(given) != len(outputs):
            raise TypeError(f"{here()}: out= takes {len(outputs)} arrays, got {len(given)}")
        for j in self.options.donate.values():  # it goes into its donor
            given[j] = None
        return self.native.bind(*leaves, out=given, nest=self._nested)

    def _nested(self, results: Sequence[Any]) -> Any:
        return results[0] if self.single else self.unflatten(results)

    # -- looking at it -------------------------------------------------------------------------------------------------
    def text(self, stage: str) -> str:
        """One stage in words: "graph" as traced, "optimised", "lowered", "schedule", "llvm" or "asm" (of a GPU: the
        PTX).
        """
        return self._stages.text(stage)

    @property
    def llvm(self) -> str:
        """The LLVM IR."""
        return self._stages.code.text

    @property
    def asm(self) -> str:
        """The assembly for the machine; of a GPU the PTX."""
        return self._stages.asm

    def profile(self, *args: Any, **kwargs: Any) -> Profile:
        """Where the time of one call on ``args`` goes: each kernel's nanoseconds, beside the least that this machine's
        arithmetic and memory allow.

        `str` is a table.  Donated arguments are copied first.  Afterwards ``.stats`` has ``profile``: per kernel
        ``predicted_ns``, ``measured_ns``, ``flops``, ``bytes``.  Raises CompileError for code of another machine.
        """
        from gradc.explorer.profile import profile

        leaves = self._flat(args, kwargs)
        arrays = [fit_argument(x, n.aval, self.graph.name(n)) for x, n in zip(leaves, self.graph.inputs, strict=True)]
        self._profile = profile(self._stages, arrays)
        return self._profile

    @property
    def stats(self) -> dict[str, Any]:
        """``seconds`` per stage that ran, ``flops`` and ``bytes`` per call, ``arena_bytes``, ``kernels``, ``cached``,
        ``fp``, ``notes``, ``verified``; of a CPU ``subnormals`` and ``threads``, of a GPU ``launches`` and
        ``precision``; after `profile` also what it measured.
        """
        made = self._compiled
        measured = {} if self._profile is None else {"profile": self._profile.rows}
        return {
            "seconds": self._seconds,
            "flops": made.flops,
            "bytes": made.bytes,
            "arena_bytes": made.arena_bytes,
            "kernels": made.kernels,
            "cached": made.cached,
            "fp": self.options.fp,
            **made.facts,
            "notes": made.notes,
            "verified": self._verified or "not called yet",
            **measured,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """It travels as its graph and options, stamped with gradc's version; where it arrives, it is recalled from the
        disk or compiled again."""
        if self.options.observe is not None:
            raise CompileError(f"{here()}: {self.source_graph.title} was compiled with an observer: it cannot travel")
        return _arrived, (Stamp(__version__), self.source_graph, self.options)

    def __copy__(self) -> Executable:
        """Itself: nothing about it changes."""
        return self

    def __deepcopy__(self, memo: Any) -> Executable:
        return self

    def save(
        self,
        path: str | Path,
        triple: str | None = None,
        cpu: str = "",
        features: str = "",
        name: str = SYMBOL,
        *,
        overwrite: bool = False,
    ) -> list[Path]:
        """Write the function as it needs no Python: ``.o`` (with a C header beside it), ``.s``, ``.ll`` or ``.h``; of a
        GPU ``.ptx`` (with the launch plan beside it as ``.json``), ``.ll`` or ``.json``.

        ``triple``, ``cpu`` and ``features`` name any target of LLVM ("aarch64-unknown-linux-gnu"); default: this CPU.
        ``name`` is the exported symbol.  Each file is written whole or not at all.  Returns the files written.

        A header or plan that gradc did not write is not replaced unless ``overwrite``: the new one gets another name,
        which a warning gives.  Raises CompileError for captured arrays, which live in the Python process; for an
        unknown target, CPU or feature; for a target that LLVM has no such code for; for a name that C does not take.
        """
        destination = Destination(triple, cpu, features, name)
        return self._stages.machine.write(self._stages, Path(path), destination, overwrite)

    def __repr__(self) -> str:
        graph, relaxed = self.source_graph, self.options.relaxed
        inputs = ", ".join(f"{graph.name(x)}: {x.aval}" for x in graph.inputs)
        milliseconds = 1e3 * sum(self._seconds.values())
        return f"<compiled {graph.title}({inputs}), {self._compiled.runs}{relaxed}, {milliseconds:.0f} ms>"


@dataclass(frozen=True)
class Stamp:
    """The version of gradc that pickled something; read first, and refused where another one reads it."""

    version: str

    def __reduce__(self) -> tuple[Any, ...]:
        return _read_stamp, (self.version,)


def _examined(stages: Stages, status: int, arguments: Callable[[], list[Any]]) -> Exception:
    from gradc.diagnostics.compiled import (
        examined,  # loads what looks for origins: only where there is something to find
    )

    return examined(stages, status, arguments)


def _read_stamp(version: str) -> Stamp:
    if version != __version__:
        raise CompileError(
            f"{here()}: this executable was pickled by gradc {version}; this is gradc {__version__}, whose graphs may "
            "mean something else; compile the function again and pickle that"
        )
    return Stamp(version)


def _arrived(stamp: Stamp, graph: Graph, options: Options) -> Executable:
    return Executable(graph, options)


def _nesting(structure: Structure) -> Part:
    array: Callable[[int], Part] = int
    fixed: Callable[[Any], Part] = Fixed
    branch: MakeBranch[Part] = Branch
    return structure.fold(array, fixed, branch)
