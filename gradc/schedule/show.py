"""A schedule as text: buffers, then each kernel with its loops and scalar code.

Enters: a `Schedule`.  Leaves: lines that read like a plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gradc.schedule.affine import Var
from gradc.schedule.bodies import Body, Call, Choice, Repeat
from gradc.schedule.factor import Factor
from gradc.schedule.kernel import (
    Buffer,
    Correlation,
    Kernel,
    Nest,
    Place,
    Product,
    Recur,
    Search,
    Sort,
    Work,
)
from gradc.schedule.lanes import dependences

if TYPE_CHECKING:
    from gradc.schedule.plan import Schedule


def show_schedule(s: Schedule) -> str:
    """The whole plan."""
    moved = f"{s.bytes} bytes moved, {s.temporary_bytes} bytes of temporaries"
    lines = [f"schedule {s.title}: {len(s.kernels)} kernels, {s.flops} flops, {moved}"]
    used = {b for k in s.kernels for b in k.slots}
    lines += [f"  {_buffer(b, s)}" for b in s.buffers if b.place is not Place.ARENA or b.number in used]
    shown: Shown = {}
    for number, kernel in enumerate(s.kernels):
        lines += show_kernel(number, kernel, s, shown)
    return "\n".join(lines)


def _buffer(b: Buffer, s: Schedule) -> str:
    where = f"arena+{b.at}" if b.place is Place.ARENA else f"{b.place.value} {b.at}"
    donors = [i for i, j in s.donated.items() if b.place is Place.OUTPUT and j == b.at]
    where += "".join(f" (in place of input {i})" for i in donors)
    name = s.names.get(b.node, "")
    holds = f"%{b.node} {name}".rstrip() if b.node >= 0 else "scratch"
    size = b.size * np.dtype(b.dtype).itemsize
    return f"{b!s:<5} {b.dtype}[{','.join(map(str, b.shape))}] {where}, {size} bytes: {holds}"


def show_kernel(number: int, kernel: Kernel, s: Schedule, shown: Shown | None = None) -> Iterator[str]:
    """One kernel: what it does, its slots, its loops; a body that several calls run is written down once."""
    shown = {} if shown is None else shown
    nodes = " ".join(f"%{n}" for n in kernel.nodes)
    yield f"  kernel {number} {kernel.title} -> {nodes or 'copy'}: {kernel.flops} flops, {kernel.bytes} bytes"
    names = (f"s{k} = {s.buffers[b]}" for k, b in enumerate(kernel.slots))
    reads = " ".join(str(s.buffers[kernel.slots[k]]) for k in kernel.reads)
    writes = " ".join(str(s.buffers[kernel.slots[k]]) for k in kernel.writes)
    yield f"    reads {reads or 'nothing'}, writes {writes}; {', '.join(names)}"
    for work, split in kernel.parts:
        if split is not None:
            yield f"    shared: {split}"
        yield from ("    " + line for line in _work(work, shown))


#: bodies that are written down already, and where
Shown = dict[int, str]


def _work(work: Work, shown: Shown) -> Iterator[str]:
    if isinstance(work, Nest):
        yield from _nest(work)
    elif isinstance(work, Product):
        batch = f" batch {work.batch}" if work.batch else ""
        half = ", on and above the diagonal" if work.half else ""
        yield f"product {work.m}x{work.n}x{work.k}{batch} {work.dtype}{half}"
        for name, v in (("left", work.left), ("right", work.right), ("out", work.out)):
            yield f"  {name:<5} s{v.slot}+{v.offset} strides {v.strides}" + (f" batch {v.batch}" if v.batch else "")
        if work.epilogue is not None:
            yield from (f"  then {line}" for line in _nest(work.epilogue.nest))
    elif isinstance(work, Correlation):
        yield from _correlation(work)
    elif isinstance(work, Repeat):
        yield from _repeat(work, shown)
    elif isinstance(work, Choice):
        yield f"if s{work.which}"
        for name, body in (("then", work.body), ("else", work.otherwise)):
            yield f"  {name}: inputs {_places(work.operands)}, outputs {_places(work.results)}, arena s{work.arena}"
            yield from _body(body, shown)
    elif isinstance(work, Call):
        yield f"call: inputs {_places(work.operands)}, outputs {_places(work.results)}, arena s{work.arena}"
        if id(work.body) in shown:
            yield f"  body {shown[id(work.body)]}, as above"
        else:
            shown[id(work.body)] = str(len(shown))
            yield f"  body {shown[id(work.body)]}"
            yield from _body(work.body, shown)
    elif isinstance(work, Factor):
        yield from _factor(work)
    elif isinstance(work, Sort):
        yield f"argsort s{work.source} -> s{work.out}: {work.length} elements, {work.step} apart, rows {work.rows}"
    elif isinstance(work, Search):
        yield f"search s{work.values} in s{work.table} ({work.side}) -> s{work.out}: {work.rows} rows of {work.length}"


def _factor(work: Factor) -> Iterator[str]:
    attrs = "".join(f", {name} {value}" for name, value in work.attrs)
    aside = f", {work.lanes} side by side" if work.lanes > 1 else ""
    yield f"{work.algorithm.value} {work.dtype}{attrs}: {work.batch} times{aside}"
    for name, matrices in (("from", work.sources), ("to", work.targets)):
        for m in matrices:
            where = f"s{m.slot}" if m.slot >= 0 else "nowhere"
            yield f"  {name:<4} {where} {m.dtype}[{','.join(map(str, m.shape))}]"


def _correlation(c: Correlation) -> Iterator[str]:
    yield (
        f"correlation {c.dtype}: "
        + "x".join(str(x.extent) for x in c.kept)
        + " sums of "
        + "x".join(str(x.extent) for x in c.summed)
    )
    for name, corner in (("left", c.left), ("right", c.right), ("out", c.out)):
        kept, summed = (tuple(getattr(x, name) for x in axes) for axes in (c.kept, c.summed))
        inside = "" if name == "out" else f" and {summed}"
        yield f"  {name:<5} s{corner.slot}+{corner.offset} strides {kept}{inside}"


def _places(slots: Sequence[int]) -> str:
    return " ".join(f"s{s}" for s in slots) or "none"


def _repeat(work: Repeat, shown: Shown) -> Iterator[str]:
    """A loop: what each step is given, then the kernels of its body."""
    count = "while the condition holds" if work.again is not None else f"{work.length} times"
    most = f", {work.length} times at most" if work.again is not None and work.length is not None else ""
    yield f"repeat {count}{most}" + (", last row first" if work.reverse else "")
    carries = (f"s{c.home}" + (f" and s{c.spare} in turn" if c.spare >= 0 else " in place") for c in work.carries)
    yield f"  consts {_places(work.consts)}; carries {', '.join(carries) or 'none'}"
    rows = ("the step's number" if r.slot < 0 else f"s{r.slot} by {r.bytes} bytes" for r in (*work.xs, *work.ys))
    yield f"  rows {', '.join(rows) or 'none'}; temporaries in s{work.arena}"
    if work.again is not None:
        yield "  condition"
        yield from _body(work.again, shown)
    yield "  body"
    yield from _body(work.body, shown)


def _body(body: Body, shown: Shown) -> Iterator[str]:
    for number, kernel in enumerate(body.kernels):
        names = ", ".join(f"s{k} = {_inner(body, b)}" for k, b in enumerate(kernel.slots))
        yield f"    kernel {number} {kernel.title}: {kernel.flops} flops; {names}"
        for work in kernel.work:
            yield from ("      " + line for line in _work(work, shown))


def _inner(body: Body, number: int) -> str:
    buffer = body.buffers[number]
    place = "arena+" if buffer.place is Place.ARENA else f"{buffer.place.value} "
    return f"{place}{buffer.at} {buffer.dtype}[{','.join(map(str, buffer.shape))}]"


def _nest(nest: Nest) -> Iterator[str]:
    depends = dependences(nest)
    outer = frozenset(nest.outer)
    how = " in order" if nest.sequential else ""
    yield "for " + (", ".join(_loop(v, nest) for v in nest.outer) or "once") + how
    shown: set[int] = set()
    for stage in nest.stages:
        inside = outer | frozenset(stage.inner)
        indent = "  "
        if stage.inner:
            yield "  for " + ", ".join(_loop(v, nest) for v in stage.inner)
            indent = "    "
        for k in nest.needed(stage):
            if k not in shown and depends[k] <= inside:
                shown.add(k)
                yield f"{indent}%{k} = {nest.code[k]}"
        yield from (f"{indent}{r.op.name} of %{r.value}" for r in stage.reduces)
        if stage.scan is not None:
            yield f"{indent}{stage.scan.op.name} of %{stage.scan.value} -> {stage.scan.store}"
        yield from (f"{indent}{store}" for store in stage.stores)
        if stage.recur is not None:
            yield from _recur(stage.recur, indent)


def _recur(recur: Recur, indent: str) -> Iterator[str]:
    for k, (start, following) in enumerate(zip(recur.starts, recur.nexts, strict=True)):
        yield f"{indent}carried {k}: from %{start}, then %{following}"
    if recur.again is not None:
        yield f"{indent}while %{recur.again}"
    yield from (f"{indent}at the end {end}" for end in recur.ends)


def _loop(var: Var, nest: Nest) -> str:
    return f"{var}<{var.extent}" + (f" by {nest.lanes} lanes" if var == nest.lane else "")
