"""Clusters to kernels.

Enters: a cluster of nodes.  Leaves: one `Kernel`, whose scratch buffers have numbers below zero until memory is
planned.
Start reading at `kernel_of`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from gradc.aval import Results
from gradc.errors import CompileError
from gradc.node import Node
from gradc.ops.index import row_major_strides
from gradc.ops.record import HOLDERS, Kind
from gradc.schedule import nests
from gradc.schedule.bodies import Holder
from gradc.schedule.epilogue import epilogue_of, output_node
from gradc.schedule.factor import Factor, Matrix, matrices_aside
from gradc.schedule.fuse import is_map
from gradc.schedule.kernel import Apply, Buffer, Correlation, Kernel, Nest, Product, Search, Sort, Work
from gradc.schedule.lanes import Widths, flops
from gradc.schedule.loops import LoopShop, PlanBody, branch_work, call_work, loop_work
from gradc.schedule.pieces import Pieces
from gradc.schedule.product import contract_work
from gradc.schedule.rows import Rows, rows_nest
from gradc.schedule.weave import Slots, Weaver, dtype_name


@dataclass(frozen=True)
class Draft:
    """A kernel, and the dtype and size of each of its scratch buffers (slot number −1 − k)."""

    kernel: Kernel
    scratch: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Workshop:
    """What all kernels of a graph are made with.

    ``read`` are the nodes whose values leave their kernel, ``in_place`` the results that take over an input's storage;
    ``plan`` makes the schedule of a body.
    """

    buffers: Mapping[Node, int]
    number: Mapping[Node, int]
    widths: Widths
    read: Set[Node]
    in_place: Set[Node]
    plan: PlanBody

    def woven(self, slots: Slots, body: Callable[[Weaver], Nest]) -> Nest:
        return nests.woven(slots, self.number, self.widths, body)


def kernel_of(nodes: list[Node], shop: Workshop) -> Draft:
    """The kernel that computes ``nodes``, which are in topological order and none of them empty."""
    slots = Slots(shop.buffers)
    return _draft(tuple(_work(nodes, slots, shop)), slots, tuple(shop.number[n] for n in nodes))


def number_kernel(node: Node, to: int, shop: Workshop) -> Draft:
    """The kernel that writes a constant of one element into buffer number ``to``."""
    slots = Slots(shop.buffers)
    write = slots.slot(to, dtype_name(node.dtype))
    slots.writes.add(write)
    return _draft((shop.woven(slots, lambda w: nests.written_nest(w, node, write)),), slots, ())


def copy_kernel(source: int, to: int, buffers: Sequence[Buffer], shop: Workshop) -> Draft:
    """The kernel that copies buffer number ``source`` into buffer number ``to``, of the same shape and dtype."""
    slots = Slots(shop.buffers)
    dtype = buffers[source].dtype
    read, write = slots.slot(source, dtype), slots.slot(to, dtype)
    slots.reads.add(read)
    slots.writes.add(write)
    nest = shop.woven(slots, lambda w: nests.copy_nest_between(w, read, write, buffers[source].size, dtype))
    return _draft((nest,), slots, ())


def _draft(work: tuple[Work, ...], slots: Slots, nodes: tuple[int, ...]) -> Draft:
    kernel = Kernel(
        slots=tuple(slots.numbers), dtypes=tuple(slots.dtypes), work=work,
        reads=tuple(sorted(slots.reads)), writes=tuple(sorted(slots.writes)), nodes=nodes,
        flops=sum(map(_flops, work)),
    )  # fmt: skip
    return Draft(kernel, tuple(slots.scratch))


def _flops(work: Work) -> int:
    if isinstance(work, Nest):
        return flops(work, _weight)
    if isinstance(work, Correlation):
        return 2 * work.macs
    if isinstance(work, Product):
        total = (work.m * (work.m + 1) if work.half else 2 * work.m * work.n) * work.k
        for extent in work.batch:
            total *= extent
        return total + (_flops(work.epilogue.nest) if work.epilogue is not None else 0)
    return work.flops if isinstance(work, Holder | Factor) else 0


def _weight(x: Apply) -> float:
    return x.op.element_cost


# -- by kind -----------------------------------------------------------------------------------------------------------


def _work(nodes: list[Node], slots: Slots, shop: Workshop) -> list[Work]:
    first = nodes[0]
    if all(map(is_map, nodes)):
        return [shop.woven(slots, lambda w: nests.map_nest(w, nodes))]
    if any(n.op.kind is Kind.REDUCE for n in nodes):
        return _reduction(nodes, slots, shop)
    if first.op.kind is Kind.CONTRACT:
        return _contract(nodes, slots, shop)
    if first.op.kind is Kind.WHOLE:
        return _whole(nodes, slots, shop)
    if first.op.kind in HOLDERS:
        make = {Kind.LOOP: loop_work, Kind.BRANCH: branch_work, Kind.CALL: call_work}[first.op.kind]
        return make(nodes, LoopShop(slots, shop.woven, shop.plan))
    return _BY_KIND[first.op.kind](first, slots, shop)


def _reduction(nodes: list[Node], slots: Slots, shop: Workshop) -> list[Work]:
    rows = Rows.of(nodes)
    build = rows_nest if rows is not None and 0 not in rows.shape else nests.empty_reduce_nest
    return [shop.woven(slots, lambda w: build(w, nodes))]


def _contract(nodes: list[Node], slots: Slots, shop: Workshop) -> list[Work]:
    """A product and the maps that follow it: in its epilogue, or in loops of their own behind it."""
    first, *rest = nodes
    fused = _fused(first, rest, slots, shop) if rest and all(a.aval.size for a in first.args) else None
    if fused is not None:
        return fused
    if all(a.aval.size for a in first.args):
        work = contract_work(first, slots, shop.number, shop.widths)
    else:
        work = [shop.woven(slots, lambda w: nests.fill_nest(w, first, 0))]
    if rest:
        work.append(shop.woven(slots, lambda w: nests.map_nest(w, rest)))
    return work


def _fused(first: Node, rest: list[Node], slots: Slots, shop: Workshop) -> list[Work] | None:
    """The product with an epilogue; ``slots`` change only if there is one."""
    trial = Slots(shop.buffers)
    target = first if first in shop.read else output_node(first, rest, trial, shop.in_place)
    *copies, product = contract_work(first, trial, shop.number, shop.widths, target)
    if not isinstance(product, Product):
        return None
    epilogue = epilogue_of(product, first, rest, Weaver(trial, shop.number), shop.widths)
    if epilogue is None:
        return None
    slots.become(trial)
    return [*copies, replace(product, epilogue=epilogue)]


def _prefix(node: Node, slots: Slots, shop: Workshop) -> list[Work]:
    return [shop.woven(slots, lambda w: nests.prefix_nest(w, node))]


def _scatter(node: Node, slots: Slots, shop: Workshop) -> list[Work]:
    work: list[Work] = [shop.woven(slots, lambda w: nests.copy_nest(w, node, node.args[0]))]
    if node.args[1].aval.size:
        work.append(shop.woven(slots, lambda w: nests.scatter_nest(w, node)))
    return work


def _pieces(node: Node, slots: Slots, shop: Workshop) -> list[Work]:
    pieces, work = Pieces.of(node), list[Work]()
    if pieces.fill:
        work.append(shop.woven(slots, lambda w: nests.fill_nest(w, node, node.attrs.get("fill", 0))))
    work += [shop.woven(slots, lambda w, k=which: pieces.nest(w, k)) for which in range(len(pieces.forms))]  # type: ignore[misc]
    return work


def _sort(node: Node, slots: Slots, shop: Workshop) -> list[Work]:
    axis = node.attrs["axis"]
    steps = row_major_strides(node.shape)
    rows = tuple((n, s) for a, (n, s) in enumerate(zip(node.shape, steps, strict=True)) if a != axis and n != 1)
    work = Sort(
        source=slots.reading(node.args[0]), out=slots.writing(node), scratch=slots.own("int64", 2 * node.shape[axis]),
        dtype=dtype_name(node.args[0].dtype), rows=rows, length=node.shape[axis], step=steps[axis],
    )  # fmt: skip
    return [work]


def _search(node: Node, slots: Slots, shop: Workshop) -> list[Work]:
    table, values = node.args
    rows = 1
    for extent in table.shape[:-1]:
        rows *= extent
    work = Search(
        table=slots.reading(table), values=slots.reading(values), out=slots.writing(node),
        dtype=dtype_name(table.dtype), rows=rows, length=table.shape[-1], per_row=values.aval.size // rows,
        side=node.attrs["side"],
    )  # fmt: skip
    return [work]


def _whole(nodes: Sequence[Node], slots: Slots, shop: Workshop) -> list[Work]:
    """The work of an op of whole arrays; behind it in ``nodes`` stand the items that read its results."""
    node, *read = nodes
    if node.op.algorithm is None:
        raise CompileError(
            f"{node.where}: {node.op.name} has no code; call the function without gc.jit, on the NumPy interpreter"
        )
    lead = node.args[0].ndim - 2
    sources = tuple(Matrix(slots.reading(a), a.shape[lead:], dtype_name(a.dtype)) for a in node.args)
    if isinstance(node.aval, Results):
        items = {item.attrs["index"]: item for item in read}
        results = [(part, items.get(k)) for k, part in enumerate(node.aval.parts)]
    else:
        results = [(node.aval, node)]
    targets = tuple(
        Matrix(slots.writing(n) if n is not None else -1, aval.shape[lead:], dtype_name(aval.dtype))
        for aval, n in results
    )
    batch, dtype = math.prod(node.args[0].shape[:lead]), sources[0].dtype
    lanes = matrices_aside(node.op.algorithm, batch, [m.shape for m in (*sources, *targets)], shop.widths.lanes(dtype))
    told = shop.number[node] if node.attrs.get("check", False) else -1
    attrs = tuple((name, value) for name, value in node.attrs.items() if name != "check")
    return [Factor(node.op.algorithm, batch, sources, targets, dtype, attrs, told, lanes)]


_BY_KIND: Mapping[Kind, Callable[[Node, Slots, Workshop], list[Work]]] = {
    Kind.PREFIX: _prefix,
    Kind.SCATTER: _scatter,
    Kind.SORT: _sort,
    Kind.SEARCH: _search,
    Kind.VIEW: _pieces,
    Kind.FOLD: _pieces,
}
