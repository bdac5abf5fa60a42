"""Views and folds that no loop reads through: each operand is one piece, written into its box of the result.

Enters: a node of kind view or fold.  Leaves: what to fill beforehand, and the `Nest` of each piece.
Invariant: pieces of a view, and those of a fold that lie apart, are stored; only pieces that may overlap are added.
Start reading at `Pieces.of`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradc.node import Node
from gradc.ops.record import Kind
from gradc.schedule.affine import Affine, Quotient, Var
from gradc.schedule.kernel import Nest, Stage
from gradc.schedule.weave import Place, Weaver, view_pieces

#: Boxes are compared in a map of at most so many elements; beyond, they are taken to overlap.
LARGEST_MAP = 1 << 20


@dataclass(frozen=True)
class Pieces:
    """The operands of a view or fold, each with its index as a form of the result's; ``fill`` the result first."""

    node: Node
    forms: tuple[tuple[int, tuple[Affine, ...]], ...]
    adds: tuple[bool, ...]  #: whether a piece is added to what is there
    fill: bool

    @classmethod
    def of(cls, node: Node) -> Pieces:
        index = tuple(Affine(0, {Var(k, n): 1}) for k, n in enumerate(node.shape))
        found = view_pieces(node, index)
        forms = tuple((p.arg, tuple(map(Affine.of, p.index))) for p in found if node.args[p.arg].aval.size)
        covers = sum(node.args[arg].aval.size for arg, _ in forms) == node.aval.size
        if node.op.kind is Kind.VIEW or _lie_apart(node):
            return cls(node, forms, (False,) * len(forms), not covers)
        first = bool(forms) and _box_size(node, *forms[0]) == node.aval.size
        return cls(node, forms, tuple(not (first and k == 0) for k in range(len(forms))), not first)

    def nest(self, w: Weaver, which: int) -> Nest:
        """One piece, written into the box of the result that it fills."""
        arg, formula = self.forms[which]
        operand = self.node.args[arg]
        shape = tuple(1 if f.is_constant else n for n, f in zip(operand.shape, formula, strict=True))
        outer, free = w.loops(shape)
        source = tuple(f if f.is_constant else i for f, i in zip(formula, free, strict=True))
        target = _inverse(formula, free, self.node.ndim)
        how = "add" if self.adds[which] else "set"
        store = w.store(self.node, target, w.value(operand, source), how)
        return w.nest(outer, Stage(stores=(store,)))


def _lie_apart(node: Node) -> bool:
    """Whether no two pieces of a fold fill the same element, as far as their boxes say so."""
    if node.op.boxes is None:
        return False
    boxes = [
        tuple(zip(start, x.shape, step, strict=True))
        for x, (start, step) in zip(node.args, node.op.boxes(node), strict=True)
    ]
    whole = [(0, n, 1) for n in node.shape]
    axes = [k for k, all_of_it in enumerate(whole) if any(box[k] != all_of_it for box in boxes)]
    if math.prod(node.shape[k] for k in axes) > LARGEST_MAP:
        return False
    filled = np.zeros([node.shape[k] for k in axes], np.bool_)
    for box in boxes:
        place = tuple(slice(s, s + (n - 1) * t + 1, t) for s, n, t in (box[k] for k in axes))
        if filled[place].any():
            return False
        filled[place] = True
    return True


def _box_size(node: Node, arg: int, form: tuple[Affine, ...]) -> int:
    operand = node.args[arg]
    return math.prod(n for n, f in zip(operand.shape, form, strict=True) if not f.is_constant)


def _inverse(formula: Sequence[Affine], free: Place, ndim: int) -> Place:
    """Result index of an operand index: each operand coordinate is (result coordinate + c) // step."""
    target = [Affine()] * ndim
    for f, i in zip(formula, free, strict=True):
        if not f.is_constant:
            axis, shift, step = _placement(f)
            target[axis] = i * step - shift
    return tuple(target)


def _placement(f: Affine) -> tuple[int, int, int]:
    """(result axis, c, step) of a coordinate (result[axis] + c) // step."""
    ((atom, factor),) = f.terms.items()
    if isinstance(atom, Var) and factor == 1:
        return atom.number, f.const, 1
    if isinstance(atom, Quotient) and factor == 1:
        axis, shift, step = _placement(atom.numerator)
        if step == 1:
            return axis, shift + f.const * atom.divisor, atom.divisor
    raise AssertionError(f"{f} is no placement of a box")
