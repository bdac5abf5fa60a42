"""Products with a side of one: reductions, written as the nest that they are.

Enters: a `Product`.  Leaves: a `Nest` that says the same, so that teams of threads share each sum.
Start reading at `as_nest`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradc.codegen.ptx.target import Gpu
from gradc.ops.arithmetic import cast, multiply
from gradc.ops.reductions import total as summation
from gradc.schedule.affine import MAX_FACTORS, Affine, Var
from gradc.schedule.kernel import Apply, Instruction, Load, Nest, Product, Reduce, Stage, Store, Total, View
from gradc.schedule.lanes import arranged

#: A product of fewer elements than this, each a sum of more than that many products, is worth many threads an element.
FEW_ELEMENTS, LONG_SUM = 256, 1024


def is_thin(p: Product) -> bool:
    elements = p.m * p.n
    for extent in p.batch:
        elements *= extent
    return p.m == 1 or p.n == 1 or (elements < FEW_ELEMENTS and p.k > LONG_SUM)


def as_nest(p: Product, gpu: Gpu) -> Nest:
    """Σₖ left·right for every batch index, row and column, then what the epilogue makes of it."""
    e = p.epilogue
    first = 1 + max((v.number for v in e.nest.outer), default=0) if e is not None else 0
    numbers = iter(range(first, first + (3 + len(p.batch)) * MAX_FACTORS, MAX_FACTORS))
    own = [Var(next(numbers), n) for n in p.batch]
    row, column, summed = Var(next(numbers), p.m), Var(next(numbers), p.n), Var(next(numbers), p.k)
    if e is not None:
        row, column = e.row or row, e.column
        if e.batch is not None:
            return _with_epilogue_batch(p, gpu, e.batch, row, column, summed)
    return _nest(p, gpu, own, [Affine.of(v) for v in own], row, column, summed)


def _with_epilogue_batch(p: Product, gpu: Gpu, batch: Var, row: Var, column: Var, summed: Var) -> Nest:
    """The epilogue counts all batch axes by one variable; the operands' strides want each of them."""
    places, step = [], 1
    for extent in reversed(p.batch):
        places.append(Affine.of(batch) // step % extent)
        step *= extent
    return _nest(p, gpu, [batch], places[::-1], row, column, summed)


def _nest(p: Product, gpu: Gpu, batch: list[Var], places: list[Affine], row: Var, column: Var, summed: Var) -> Nest:
    def offset(view: View, first: Var, second: Var) -> Affine:
        total = Affine.of(view.offset) + Affine.of(first) * view.strides[0] + Affine.of(second) * view.strides[1]
        for place, stride in zip(places, view.batch, strict=True):
            total = total + place * stride
        return total

    code: list[Instruction] = []

    def element(view: View, first: Var, second: Var) -> int:
        """The instruction that holds an element of an operand, as what is summed."""
        code.append(Load(view.slot, offset(view, first, second), view.dtype))
        if view.dtype != p.dtype:
            code.append(Apply(cast, (len(code) - 1,), (("dtype", np.dtype(p.dtype)),), p.dtype, -1))
        return len(code) - 1

    factors = element(p.left, row, summed), element(p.right, summed, column)
    code.append(Apply(multiply, factors, (), p.dtype, -1))
    before = len(code)
    sums = Stage((summed,), (Reduce(summation, before - 1, p.dtype),))
    stores: tuple[Store, ...] = ()
    if p.epilogue is None:
        code.append(Total(0, 0, p.dtype))
    else:
        nest = p.epilogue.nest
        code += [_moved(x, before) for x in nest.code]
        stores = tuple(
            replace(s, value=s.value + before, terms=tuple(replace(t, value=t.value + before) for t in s.terms))
            for s in nest.stores
        )
    if p.epilogue is None or p.epilogue.result < 0:
        total = next(k for k, x in enumerate(code) if isinstance(x, Total))
        stores = (Store(p.out.slot, offset(p.out, row, column), total, p.dtype), *stores)
    outer = tuple(v for v in (*batch, row, column) if v.extent != 1)
    return arranged(Nest(outer, tuple(code), (sums, Stage(stores=stores))), gpu)


def _moved(x: Instruction, by: int) -> Instruction:
    """The instruction where ``by`` others stand before it."""
    if isinstance(x, Apply):
        return replace(x, args=tuple(a + by for a in x.args))
    return x
