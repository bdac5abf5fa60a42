"""`gc.forecast`: the memory and the time of a step before it runs.

Enters: a function or a step, and arrays or specs.  Leaves: a `Forecast`, which prints as tables.
The step is traced, optimised and scheduled; no machine code is made and no array of its own is allocated.  Memory is
what the plan says.  Time is the least that this machine's arithmetic and memory allow for the plan's kernels, and what
the scheduler's cost model expects.
Start reading at `forecast`.
"""

from __future__ import annotations

import linecache
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradc.api.compiled import Jitted, Step
from gradc.api.executable import Executable
from gradc.explorer.roofline import Roofline, roofline
from gradc.graph import Graph
from gradc.machines.calling import flat_leaves
from gradc.machines.cpu import HostCpu
from gradc.machines.options import Options
from gradc.machines.stages import Stages
from gradc.node import Node, here
from gradc.ops.control import every_node
from gradc.places import Where
from gradc.schedule.duration import seconds_of
from gradc.schedule.kernel import Kernel, Place
from gradc.schedule.origin import nodes_of
from gradc.schedule.plan import Schedule
from gradc.tabular import byte_size, duration, table
from gradc.trace import spec, trace

#: values that a printed forecast lists
MOST_SHOWN = 16


@dataclass(frozen=True)
class LineForecast:
    """What one of the user's lines costs: ``flops`` and ``bytes`` (moved) of the kernels that end there, the least
    ``seconds`` that they take, None on another machine, and ``kept``: bytes of its values that wait for the backward
    pass."""

    where: Where | None
    flops: int
    bytes: int
    seconds: float | None
    kept: int

    @property
    def text(self) -> str:
        """How the line reads."""
        return "" if self.where is None else linecache.getline(self.where.file, self.where.line).strip()


@dataclass(frozen=True)
class KeptValue:
    """A value of the forward pass that waits for the backward pass: the user's name ("" if it has none), its line, and
    its bytes."""

    name: str
    where: Where | None
    shape: tuple[int, ...]
    dtype: str
    bytes: int


@dataclass(frozen=True)
class Forecast:
    """The memory (bytes) and the time (seconds) of one call; ``str`` is a table.

    ``arguments`` are bytes by what they are: "params", "state", the names of a function's other parameters; ``results``
    those of new results, donated ones not counted; ``captured`` those of arrays that the function holds; ``arena`` the
    scratch of a running call, of which ``activations`` are values of the forward pass that wait for the backward pass.
    ``least_seconds`` is the sum over kernels of the least time on one thread, arithmetic at its peak or memory at its
    rate, whichever takes longer, None on another machine than this; ``expected_seconds`` is the scheduler's estimate
    for one core, never less than the least. ``lines`` (`LineForecast`) by cost; ``kept`` (`KeptValue`) are the
    activations in the order in which they are made, layer by layer.
    """

    title: str
    machine: str
    threads: int
    arguments: dict[str, int]
    results: int
    captured: int
    arena: int
    activations: int
    flops: int
    moved: int
    kernels: int
    expected_seconds: float
    least_seconds: float | None
    roofline: Roofline | None
    lines: tuple[LineForecast, ...]
    kept: tuple[KeptValue, ...]
    notes: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """All memory that a call needs at once."""
        return sum(self.arguments.values()) + self.results + self.captured + self.arena

    def __str__(self) -> str:
        head = f"forecast of {self.title} on {self.machine}: {self.kernels} kernels, {self.flops:,} flops"
        rows = [(name, byte_size(n), "") for name, n in self.arguments.items()]
        rows.append(("new results", byte_size(self.results), ""))
        if self.captured:
            rows.append(("captured arrays", byte_size(self.captured), ""))
        kept = f"of which {byte_size(self.activations)} wait for the backward pass" if self.activations else ""
        rows += [("scratch", byte_size(self.arena), kept), ("in all", byte_size(self.bytes), "")]
        expected = f"{duration(1e9 * self.expected_seconds)} expected on one core"
        time = expected if self.least_seconds is None else f"{duration(1e9 * self.least_seconds)} at least, {expected}"
        parts = [head, _with_head(("memory", "", ""), rows), f"time: {time}; {self.moved:,} bytes moved"]
        if self.roofline is not None:
            parts[-1] += f"\n{self.roofline}"
        parts.append(_with_head(("line", "kept", "flops", "moved", "least", ""), [self._row(x) for x in self.lines]))
        if self.kept:
            shown = [
                (x.name or "—", str(x.where or "—"), _shape(x), byte_size(x.bytes)) for x in self.kept[:MOST_SHOWN]
            ]
            more = len(self.kept) - len(shown)
            tail = f"\n… and {more} more, in .kept" if more else ""
            parts.append(_with_head(("waits for the backward pass", "line", "", ""), shown) + tail)
        parts += [f"note: {note}" for note in self.notes]
        return "\n\n".join(parts)

    def _row(self, x: LineForecast) -> tuple[str, ...]:
        least = "—" if x.seconds is None else duration(1e9 * x.seconds)
        kept = byte_size(x.kept) if x.kept else "—"
        is_update = x.where is not None and x.where.phase == "update"
        place, text = ("update", "the optimizer's") if is_update else (str(x.where or "—"), x.text)
        return place, kept, f"{x.flops:,}", byte_size(x.bytes), least, text


def forecast(step: Callable[..., Any], *args: Any, **kwargs: Any) -> Forecast:
    """The memory and the time that ``step(*args)`` will take, before it runs.

    ``step`` is a function, or what `gradc.jit`, `gradc.compile` or `gradc.train_step` made of one, with its options
    (``memory=``, ``donate=``, ``threads=``); ``args`` are arrays, numbers or `gradc.spec`s.  Of a training step the
    optimizer's state may be None: then it is the first one that the optimizer makes for such parameters.

    Nothing is compiled to machine code and no array of the step is allocated, so a model that would not fit can be
    asked about.  The ceilings of this machine are measured once in a process, in about a tenth of a second.

    The expected time is that of the scheduler's cost model, which tells microseconds from tens of them, or the least
    time where that is longer, which no code gets below on one thread. Steps of a ``while_loop`` that nobody knows count
    as in ``Executable.stats``.

    >>> import gradc as gc
    >>> x = gc.spec((512, 512), "float32")
    >>> gc.forecast(lambda a, b: a @ b, x, x).bytes >= 3 * 4 * 512**2
    True
    """
    if isinstance(step, Executable):
        graph, options = step.source_graph, step.options
        flat_leaves(graph, args, kwargs)
    elif isinstance(step, Jitted):
        graph, options, _ = step.traced(*_with_state(step, args), **kwargs)
    elif callable(step):
        graph, options = trace(step, *args, **kwargs), Options()
    else:
        raise TypeError(f"{here()}: forecast expects a function or a step, got {step!r:.60}")
    return _of(Stages(graph, replace(options, observe=None)))


def _with_state(step: Jitted, args: Sequence[Any]) -> tuple[Any, ...]:
    """The arguments of a training step, its state made where None was given."""
    if not isinstance(step.function, Step) or len(args) < 2 or args[1] is not None:
        return tuple(args)
    init = step.function.optimizer.init
    made = trace(lambda params: (init(params), np.zeros(())), args[0])  # a state may hold no array, a result must
    assert made.out_tree is not None
    state, _ = made.out_tree.unflatten([spec(y.shape, y.dtype) for y in made.outputs])
    return (args[0], state, *args[2:])


def _of(stages: Stages) -> Forecast:
    plan, lines, nodes = stages.schedule, stages.lines, list(every_node(stages.lowered))
    here_ = isinstance(stages.machine, HostCpu)
    ceilings = roofline() if here_ else None
    kept = _kept(plan, nodes)
    costs = _by_line(plan, lines, kept, nodes, ceilings)
    least = None if ceilings is None else sum(x.seconds or 0.0 for x in costs)
    donated = set(plan.donated.values())
    results = sum(_bytes(plan, b) for j, b in enumerate(plan.outputs) if j not in donated)
    modelled = seconds_of(plan.kernels, plan.buffers, stages.machine.widths, math.inf)
    expected = max(modelled, least or 0.0)  # the cost model is coarse, and knows no machine's peak
    return Forecast(
        stages.source.title, stages.machine.name, stages.options.threads, _arguments(stages.source), results,
        sum(a.nbytes for a in plan.arrays), stages.code.arena_bytes, sum(_bytes(plan, b) for b in kept), plan.flops,
        plan.bytes, len(plan.kernels), expected, least, ceilings, costs, _named(stages, kept, nodes),
        stages.lowered.notes,
    )  # fmt: skip


def _named(stages: Stages, kept: set[int], nodes: Sequence[Node]) -> tuple[KeptValue, ...]:
    """Kept values in the order in which they are made."""
    plan, names = stages.schedule, stages.lowered.names
    found = []
    for b in sorted((plan.buffers[number] for number in kept), key=lambda b: b.node):
        node = nodes[b.node]
        found.append(KeptValue(names.get(node, ""), node.where, b.shape, b.dtype, _bytes(plan, b.number)))
    return tuple(found)


def _arguments(graph: Graph) -> dict[str, int]:
    """Bytes of the arguments by the parameter of the function that they belong to."""
    found: dict[str, int] = {}
    for k, x in enumerate(graph.inputs):
        name = graph.names.get(x, f"argument {k}").partition(".")[0].partition("[")[0]
        found[name] = found.get(name, 0) + x.nbytes
    return found


def _bytes(plan: Schedule, number: int) -> int:
    buffer = plan.buffers[number]
    return buffer.size * np.dtype(buffer.dtype).itemsize


def _phase(node: Node) -> str:
    return node.where.phase if node.where is not None else ""


def _kept(plan: Schedule, nodes: Sequence[Node]) -> set[int]:
    """Buffers of scratch that hold values of the forward pass which kernels of the backward pass read."""
    forward = {
        b.number for b in plan.buffers if b.place is Place.ARENA and b.node >= 0 and _phase(nodes[b.node]) == ""
    }  # fmt: skip
    found: set[int] = set()
    for kernel in plan.kernels:
        if kernel.nodes and all(_phase(nodes[n]) for n in kernel.nodes):  # others go on with the forward pass
            written = {kernel.slots[s] for s in kernel.writes}
            found |= forward & {kernel.slots[s] for s in kernel.reads} - written
    return found


def _by_line(
    plan: Schedule, lines: Sequence[Where | None], kept: set[int], nodes: Sequence[Node], ceilings: Roofline | None
) -> tuple[LineForecast, ...]:
    """Kernels count where what they compute last stands, kept values where they are made."""
    rows: dict[Where | None, LineForecast] = {}

    def row(where: Where | None) -> LineForecast:
        zero = None if ceilings is None else 0.0
        return rows.get(where, LineForecast(where, 0, 0, zero, 0))

    for number, kernel in enumerate(plan.kernels):
        places = [w for n in sorted(nodes_of(plan, number), reverse=True) if (w := lines[n]) is not None]
        where = places[0] if places else None
        old = row(where)
        least = None if ceilings is None else 1e-9 * _least_ns(kernel, ceilings) + (old.seconds or 0.0)
        rows[where] = replace(
            old, flops=old.flops + kernel.flops, bytes=old.bytes + kernel.bytes, seconds=least
        )  # fmt: skip
    for number in kept:
        where = nodes[plan.buffers[number].node].where
        rows[where] = replace(row(where), kept=row(where).kept + _bytes(plan, number))
    return tuple(sorted(rows.values(), key=lambda x: (-(x.seconds or 0.0), -x.flops, -x.bytes, -x.kept)))


def _least_ns(kernel: Kernel, ceilings: Roofline) -> float:
    floats = [d for d in kernel.dtypes if "float" in d]
    dtype = max(floats or kernel.dtypes, key=lambda d: np.dtype(d).itemsize)
    return ceilings.predicted_ns(kernel.flops, kernel.bytes, dtype)


def _shape(x: KeptValue) -> str:
    return f"{x.dtype}[{','.join(map(str, x.shape))}]"


def _with_head(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first and last columns are words."""
    return table([head, *rows], (0, len(head) - 1))
