"""Compilation: a Graph becomes one native function, and a Python callable around it.

Enters: a Graph and options.  Leaves: `Executable`.  The stages run in the order of the house and each is timed; texts
for people (LLVM IR, assembly, the printed schedule) are made only when asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradc.api.artefact import build, source_lines
from gradc.api.calling import failure, flat_leaves, mismatch
from gradc.api.dispatched import Dispatched
from gradc.api.options import STAGES, Options
from gradc.api.recall import Record, graph_key, recall, remember
from gradc.api.stages import SYMBOL, Stages
from gradc.codegen.bounds import OUT_OF_BOUNDS
from gradc.codegen.debug import Locations
from gradc.codegen.flush import flushes
from gradc.codegen.fork import calls_fork
from gradc.codegen.poll import polls
from gradc.codegen.target import Target
from gradc.containers import MakeBranch, Structure, flatten, leaves_of
from gradc.errors import CompileError, StorageError
from gradc.graph import Graph, fit_argument
from gradc.node import here
from gradc.process import cached_property
from gradc.runtime.arena import memory_class
from gradc.runtime.arrays import ArraySpec
from gradc.runtime.dispatch import Branch, Fixed, Part, describe
from gradc.runtime.entry import Words
from gradc.runtime.interrupt import poll_symbols
from gradc.runtime.load import Loaded, assemble, load, load_known, remembers, target_info
from gradc.runtime.native import RELEASE_GIL_SECONDS, NativeFunction
from gradc.runtime.pool import fork_symbols
from gradc.schedule import Schedule
from gradc.schedule.duration import seconds_of
from gradc.version import __version__

if TYPE_CHECKING:
    from gradc.explorer.profile import Profile


class Executable(Dispatched):
    """A compiled function: call it with arrays shaped as at compile time.

    ``.graph`` is the optimised graph, ``.schedule`` the kernels and the memory plan, ``.llvm`` and ``.asm`` the
    generated code, ``.stats`` seconds per stage, flops, bytes moved, arena bytes.  Compiled with ``debug=True``,
    ``.locations`` leads from code back to graph nodes.
    """

    def __init__(
        self,
        graph: Graph,
        options: Options | None = None,
        traced_seconds: float = 0.0,
        results_of: type | None = None,
    ):
        options = options or Options()
        self._results_of = results_of or (memory_class() if options.keeps_foreign else None)
        self.source_graph = graph
        self.options = options
        self._stages = Stages(graph, options)
        self._record, self._loaded = self._remembered() or self._built()
        self._traced_seconds = traced_seconds
        self.native: NativeFunction = self._stages.timed("entry", self._native)
        self._entry = self.native.entry
        assert graph.out_tree is not None
        self.unflatten = graph.out_tree.unflatten
        self.single = graph.out_tree.is_leaf
        self.weak = any(x.aval.weak for x in graph.inputs)
        self._profile: Profile | None = None
        self._verified = "" if options.verify else "not asked for"
        self.prefer(self.dispatched)
        for stage in options.show:
            print(f"── {graph.title}: {stage}\n{self.text(stage)}", file=sys.stderr)

    # -- making it -----------------------------------------------------------------------------------------------------
    def _remembered(self) -> tuple[Record, Loaded] | None:
        """What the disk has of this very compilation.  Whoever wants to see stages has them walked."""
        self._key: str | None = None
        options = self.options
        if not options.recall or options.observe is not None or options.check or options.debug or not remembers():
            return None
        self._key = self._stages.timed("key", lambda: graph_key(self.source_graph, options))
        record = recall(self._key, self.source_graph) if self._key is not None else None
        if record is None:
            return None
        symbols = self._symbols(record.shares, record.polls)
        loaded = load_known(record.object_key, SYMBOL, symbols, options.cpu)
        return (record, loaded) if loaded is not None else None

    def _built(self) -> tuple[Record, Loaded]:
        """All stages, and what the next process would like to know."""
        stages = self._stages
        shares, looks = calls_fork(stages.text), polls(stages.text)
        loaded = load(stages.text, SYMBOL, cpu=self.options.cpu, symbols=self._symbols(shares, looks))
        plan = stages.schedule
        seconds = seconds_of(plan.kernels, plan.buffers, stages.target, RELEASE_GIL_SECONDS)
        record = Record(
            loaded.key, stages.arena_bytes, plan.flops, plan.bytes, len(plan.kernels), seconds, shares, looks,
            stages.optimised.notes, plan.arrays,
        )  # fmt: skip
        if self._key is not None:
            remember(self._key, record, self.source_graph)
        return record, loaded

    def _symbols(self, shares: bool, looks: bool) -> dict[str, int]:
        """What the code calls."""
        return (fork_symbols(self.options.threads) if shares else {}) | (poll_symbols() if looks else {})

    def _native(self) -> NativeFunction:
        graph, record = self.source_graph, self._record
        names = [graph.names.get(x, f"argument {i}") for i, x in enumerate(graph.inputs)]
        inputs = [ArraySpec(x.shape, x.dtype, n) for x, n in zip(graph.inputs, names, strict=True)]
        outputs = [ArraySpec(y.shape, y.dtype, f"output {j}") for j, y in enumerate(graph.outputs)]
        return NativeFunction(
            self._loaded.address,
            inputs,
            outputs,
            record.arena_bytes,
            self.options.donate,
            record.arrays,
            partial(_failure, self._stages),
            partial(_mismatch, graph),
            names,
            owner=self._loaded,
            results_of=self._results_of,
            seconds_estimate=record.seconds,
            refuse=partial(_refused, graph.title),
        )

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
    def _seconds(self) -> dict[str, float]:
        """Seconds per stage, of those that were walked."""
        trace = {"trace": self._traced_seconds} if self._traced_seconds else {}
        return trace | self._stages.seconds | {f"llvm {k}": v for k, v in self._loaded.seconds.items()}

    @property
    def flushes(self) -> bool:
        """Whether subnormal numbers are zero while this runs: with ``fp="fast"``, on CPUs that can."""
        return self.options.fp == "fast" and flushes(self._stages.target)

    @property
    def arena_bytes(self) -> int:
        """Scratch of one running call, in bytes."""
        return self._record.arena_bytes

    # -- calling -------------------------------------------------------------------------------------------------------
    def call_any(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run on arrays nested as at compile time; the keyword ``out`` nests like the result and is filled instead of
        new arrays.
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
        return results[0] if self.single else self.unflatten(results)

    def _kept(self, leaves: Sequence[Any]) -> list[Any]:
        """The arguments as they are before the call, which may overwrite donated ones."""
        pairs = zip(leaves, self.source_graph.inputs, strict=True)
        return [np.array(fit_argument(x, n.aval, self.source_graph.name(n))) for x, n in pairs]

    def _verify(self, given: Sequence[Any], results: Sequence[Any]) -> None:
        """Raise VerificationError unless the results are the interpreter's; from then on calls are as short as any."""
        from gradc.oracle.first_call import compared  # loads the oracle: only where it is asked

        self._verified = compared(self.source_graph, given, results, self._compiled_part)
        self.prefer(self.dispatched)

    def _compiled_part(self, graph: Graph) -> Callable[[Sequence[Any]], Sequence[Any]]:
        trees = (flatten((tuple(0.0 for _ in graph.inputs), {}))[2], flatten(tuple(0.0 for _ in graph.outputs))[2])
        native = Executable(graph.replace(in_tree=trees[0], out_tree=trees[1]), Options(recall=False)).native
        return lambda arrays: native(*arrays)

    @property
    def dispatched(self) -> Words | None:
        """How compiled code takes the arguments of a call apart and nests its results, where it can."""
        return self._described if self._verified else None

    @cached_property
    def _described(self) -> Words | None:
        graph = self.source_graph
        assert graph.in_tree is not None and graph.out_tree is not None
        if graph.limits:  # of a Python number, which Python looks at
            return None
        weak = [x.aval.weak for x in graph.inputs]
        return describe(self.native, weak, _nesting(graph.in_tree), _nesting(graph.out_tree))

    def bind(self, *args: Any, out: Any = None, **kwargs: Any) -> Callable[[], Any]:
        """Fix the buffers once: a callable without arguments that reads ``args`` as they are at each call, and returns
        the same result each time, nested as the function's, its arrays filled anew (0-d results are 0-d arrays).
        """
        leaves = self.native.portable.with_own_memory(self._flat(args, kwargs))
        self.source_graph.refuse_overflow(leaves)
        given = [None] * len(self.source_graph.outputs) if out is None else leaves_of(out)[0]
        if len(given) != len(self.source_graph.outputs):
            raise TypeError(f"{here()}: out= takes {len(self.source_graph.outputs)} arrays, got {len(given)}")
        donors = {j: leaves[i] for i, j in self.options.donate.items()}
        outputs = self.source_graph.outputs
        fresh = [np.empty(y.shape, y.dtype) if a is None else a for a, y in zip(given, outputs, strict=True)]
        result = self.unflatten([donors.get(j, a) for j, a in enumerate(fresh)])
        return self.native.bind(*leaves, out=[None if j in donors else a for j, a in enumerate(fresh)], answer=result)

    # -- looking at it -------------------------------------------------------------------------------------------------
    def text(self, stage: str) -> str:
        """One stage in words: "graph" as traced, "optimised", "schedule", "llvm" or "asm"."""
        match stage:
            case "graph":
                return str(self.source_graph)
            case "optimised":
                return str(self.graph)
            case "schedule":
                return str(self.schedule)
            case "llvm":
                return self.llvm
            case "asm":
                return self.asm
        raise ValueError(f"unknown stage {stage!r}; expected one of {', '.join(STAGES)}")

    @property
    def llvm(self) -> str:
        """The LLVM IR."""
        return self._stages.text

    @cached_property
    def asm(self) -> str:
        """The assembly for this CPU."""
        made = self._loaded
        return assemble(self.llvm, target_info().triple, made.cpu, made.features, "asm", opt_level=made.opt_level)

    def profile(self, *args: Any, **kwargs: Any) -> Profile:
        """Where the time of one call on ``args`` goes: each kernel's nanoseconds, beside the least that this machine's
        arithmetic and memory allow.

        `str` is a table.  Donated arguments are copied first.  Afterwards ``.stats`` has ``profile``: per kernel
        ``predicted_ns``, ``measured_ns``, ``flops``, ``bytes``.
        """
        from gradc.explorer.profile import profile_schedule

        leaves = self._flat(args, kwargs)
        arrays = [fit_argument(x, n.aval, self.graph.name(n)) for x, n in zip(leaves, self.graph.inputs, strict=True)]
        self._profile = profile_schedule(self.schedule, source_lines(self.lowered), arrays, self.options.fp)
        return self._profile

    @property
    def stats(self) -> dict[str, Any]:
        """``seconds`` per stage that ran, ``flops`` and ``bytes`` per call, ``arena_bytes``, ``kernels``, ``cached``,
        ``fp``, ``subnormals``, ``threads``, ``notes``, ``verified``; after `profile` also what it measured.
        """
        measured = {} if self._profile is None else {"profile": self._profile.rows}
        return {
            "seconds": dict(self._seconds),
            "flops": self._record.flops,
            "bytes": self._record.bytes,
            "arena_bytes": self.arena_bytes,
            "kernels": self._record.kernels,
            "cached": self._loaded.cached,
            "fp": self.options.fp,
            "subnormals": "flushed to zero" if self.flushes else "kept",
            "threads": self.options.threads,
            "notes": self._record.notes,
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
        """Write the function as it needs no Python: ``.o`` (with a C header beside it), ``.s``, ``.ll`` or ``.h``.

        ``triple``, ``cpu`` and ``features`` name any target of LLVM ("aarch64-unknown-linux-gnu"); default: this CPU.
        ``name`` is the exported symbol.  Each file is written whole or not at all.  Returns the files written.

        A header that gradc did not write is not replaced unless ``overwrite``: the new one gets another name, which a
        warning gives.  Raises CompileError for an unknown target, CPU or feature, for a target that LLVM has no such
        code for, and for a name that C does not take.
        """
        here_too = triple is None and not cpu and not features
        target = self._stages.target if here_too else Target.of(triple or target_info().triple, cpu, features)
        options = self.options
        return build(self.lowered, target, name, options.fp, options.donate, bool(options.debug)).write(path, overwrite)

    def __repr__(self) -> str:
        relaxed = "" if self.options.fp == "ieee" else f", fp={self.options.fp}"
        inputs = ", ".join(f"{self.source_graph.name(x)}: {x.aval}" for x in self.source_graph.inputs)
        seconds = sum(self._seconds.values())
        what = f"{self.source_graph.title}({inputs}), {self._record.kernels} kernels"
        return f"<compiled {what}{relaxed}, {1e3 * seconds:.0f} ms>"


# -- errors: of the graph and the stages, for what raises them must not hold the executable ----------------------------
def _mismatch(graph: Graph, i: int, given: object) -> Exception:
    node = graph.inputs[i]
    return mismatch(graph.title, graph.names.get(node, f"argument {i}"), node, given)


def _refused(title: str, words: str) -> Exception:
    return StorageError(f"{here()}: {title}: {words}")


def _failure(stages: Stages, status: int) -> Exception:
    if status & 0xFF == OUT_OF_BOUNDS:
        number = status >> 8
        kernel, lines = stages.schedule.kernels[number], source_lines(stages.lowered)
        where = next((w for n in reversed(kernel.nodes) if (w := lines[n]) is not None), here())
        what = f"kernel {number} ({kernel.title}) touches memory outside of its buffers"
        return CompileError(f"{where}: {stages.source.title}: {what}; the access was not made")
    return failure(stages.source.title, stages.lowered, status)


@dataclass(frozen=True)
class Stamp:
    """The version of gradc that pickled something; read first, and refused where another one reads it."""

    version: str

    def __reduce__(self) -> tuple[Any, ...]:
        return _read_stamp, (self.version,)


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
