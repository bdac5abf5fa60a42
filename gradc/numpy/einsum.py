"""Einstein summation: every product of arrays brought to contract nodes of two operands.

Enters: operands and subscripts, as a string or as lists of labels.  Leaves: contract nodes; diagonals, private sums,
squeezed axes and transpositions are views and reductions around them.  Invariant: labels are ints from 0 on, sizes
agree once an axis of length 1 is dropped, and no operand repeats a label.  Start reading at `contraction`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import Shape, promoted
from gradc.errors import ShapeError
from gradc.node import OPS, Node, as_node, describe, here
from gradc.numpy.public import Array, function
from gradc.numpy.shapes import diagonal, moveaxis, permuted, reshaped, spread
from gradc.ops.contraction import contract
from gradc.ops.elementwise import apply, cast, loop_dtypes

__all__ = ["einsum", "einsum_path"]

Labels = tuple[int, ...]
Term = tuple[Node, Labels]


@function("einsum")
def einsum(*operands: Any, dtype: Any = None, optimize: Any = True) -> Array:
    """Σ over labels that the output lacks: ``einsum("ij,jk->ik", a, b)`` or ``einsum(a, [0, 1], b, [1, 2], [0, 2])``.

    ``...`` stands for leading axes, which broadcast; without ``->`` the output has the labels that occur once, in
    alphabetical order.  More than two operands are contracted pair by pair, cheapest first.
    ShapeError if subscripts and shapes do not fit.
    """
    arrays, terms, out, text = _read(operands)
    if dtype is not None:
        arrays = [cast(x, dtype) for x in arrays]
    inputs, output = _expanded(arrays, terms, out, text)
    return contraction(arrays, inputs, output, text)


@function("einsum_path")
def einsum_path(*operands: Any, optimize: Any = "greedy") -> tuple[list[Any], str]:
    """The order in which `numpy.einsum_path` would contract the operands, and its report."""
    arrays, terms, out, _ = _read(operands)
    flat = [v for x, term in zip(arrays, terms, strict=True) for v in (_sized(x.shape), [_number(k) for k in term])]
    tail = [] if out is None else [[_number(k) for k in out]]
    return np.einsum_path(*flat, *tail, optimize=optimize)


def _number(label: Any) -> Any:
    """A label of the string form as the int that NumPy's list form takes; `...` as it is."""
    return label if label is Ellipsis or isinstance(label, int) else _ALPHABET.index(label)


_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _sized(shape: Shape) -> np.ndarray[Any, Any]:
    """An array that has a shape and no memory."""
    return np.broadcast_to(np.float64(0), shape)


# -- subscripts -------------------------------------------------------------------------------------------------------


def _read(operands: Sequence[Any]) -> tuple[list[Node], list[list[Any]], list[Any] | None, str]:
    """Operands, their labels (letters or ints, and Ellipsis), the output's labels or None, and the text of it all."""
    if operands and isinstance(operands[0], str):
        text = operands[0].replace(" ", "")
        head, arrow, tail = text.partition("->")
        terms = [_letters(part, text) for part in head.split(",")]
        arrays = [as_node(x) for x in operands[1:]]
        if len(arrays) != len(terms):
            raise ShapeError(f"{here()}: einsum {text!r} has {len(terms)} terms for {len(arrays)} operands")
        return arrays, terms, _letters(tail, text) if arrow else None, text
    pairs = len(operands) // 2
    arrays = [as_node(operands[2 * i]) for i in range(pairs)]
    terms = [list(operands[2 * i + 1]) for i in range(pairs)]
    out = list(operands[-1]) if len(operands) % 2 else None
    return arrays, terms, out, ",".join(map(str, terms)) + (f"->{out}" if out is not None else "")


def _letters(part: str, text: str) -> list[Any]:
    before, dots, after = part.partition("...")
    if not all(c in _ALPHABET for c in before + after):
        raise ShapeError(f"{here()}: einsum {text!r}: subscripts are letters, ',', '->' and one '...' in each term")
    return [*before, *([Ellipsis] if dots else []), *after]


def _expanded(
    arrays: Sequence[Node], terms: Sequence[list[Any]], out: list[Any] | None, text: str
) -> tuple[list[Labels], Labels]:
    """Int labels with the ellipses spelled out: those of the letters, then of leading axes, from the right."""
    letters = sorted({k for term in terms for k in term if k is not Ellipsis})
    number = {k: i for i, k in enumerate(letters)}
    inputs, deepest = [], 0
    for x, term in zip(arrays, terms, strict=True):
        named = sum(k is not Ellipsis for k in term)
        extra = x.ndim - named
        if extra < 0 or (extra and named == len(term)):
            raise ShapeError(f"{here()}: einsum {text!r}: {named} labels for the {x.ndim} axes of {describe(x)}")
        deepest = max(deepest, extra)
        inputs.append(_spelled(term, number, extra))
    if out is None:
        flat = [k for term in terms for k in term]
        out = [Ellipsis, *(k for k in letters if flat.count(k) == 1)]
    _check_output(out, number, deepest, text)
    return inputs, _spelled(out, number, deepest)


def _spelled(term: Sequence[Any], number: dict[Any, int], extra: int) -> Labels:
    lead = range(len(number) + extra - 1, len(number) - 1, -1)
    return tuple(label for k in term for label in (lead if k is Ellipsis else (number[k],)))


def _check_output(out: Sequence[Any], number: dict[Any, int], deepest: int, text: str) -> None:
    named = [k for k in out if k is not Ellipsis]
    unknown = [k for k in named if k not in number]
    if unknown or len(set(named)) < len(named):
        fault = f"label {unknown[0]!r} of the output is in no operand" if unknown else "the output repeats a label"
        raise ShapeError(f"{here()}: einsum {text!r}: {fault}")
    if deepest and len(named) == len(out):
        raise ShapeError(
            f"{here()}: einsum {text!r}: the axes of '...' are neither in the output nor summed; write '...' after '->'"
        )


# -- contraction ------------------------------------------------------------------------------------------------------


def contraction(arrays: Sequence[Node], inputs: Sequence[Labels], out: Labels, text: str) -> Node:
    """Σ of the product of the operands over all labels not in ``out``; axes of length 1 broadcast."""
    arrays = [as_array(x) for x in arrays]
    dtype = _product_dtype(arrays, text)
    if dtype.kind == "b":  # or of ands: counted, then compared
        return contraction([cast(x, np.int64) for x in arrays], inputs, out, text) != 0
    sizes = _sizes(arrays, inputs, text)
    terms = [_without_ones(*_simple(cast(x, dtype), labels), sizes) for x, labels in zip(arrays, inputs, strict=True)]
    while len(terms) > 1:
        left, right = _cheapest(terms, out, sizes)
        others = [t for k, t in enumerate(terms) if k not in (left, right)]
        needed = {*out}.union(*(labels for _, labels in others))
        terms = [*others, _product(terms[left], terms[right], needed, out if not others else None)]
    return _finished(*terms[0], out, sizes)


def as_array(x: Node) -> Node:
    """A Python number as an array of its own dtype, which does not yield: so NumPy takes the operands of products."""
    return cast(x, x.dtype) if x.aval.weak else x


def _product_dtype(arrays: Sequence[Node], text: str) -> np.dtype[Any]:
    if not arrays:
        raise ShapeError(f"{here()}: einsum {text!r} needs at least one operand")
    dtype = arrays[0].dtype if len(arrays) == 1 else loop_dtypes("multiply", [arrays[0].aval, arrays[1].aval])[-1]
    for x in arrays[2:]:
        dtype = promoted(dtype, x.dtype)
    return dtype


def _sizes(arrays: Sequence[Node], inputs: Sequence[Labels], text: str) -> dict[int, int]:
    """The extent of each label; an axis of length 1 yields to any other."""
    sizes: dict[int, int] = {}
    for x, labels in zip(arrays, inputs, strict=True):
        for n, k in zip(x.shape, labels, strict=True):
            if sizes.setdefault(k, n) == 1:
                sizes[k] = n
            elif n not in (1, sizes[k]):
                shapes = " and ".join(describe(a) for a in arrays)
                raise ShapeError(
                    f"{here()}: {text}: an axis has length {sizes[k]} in one operand and {n} in another.\n"
                    f"  operands: {shapes}"
                )
    return sizes


def _simple(x: Node, labels: Labels) -> Term:
    """The operand with each repeated label replaced by its diagonal."""
    for k in dict.fromkeys(labels):
        while labels.count(k) > 1:
            i = labels.index(k)
            j = labels.index(k, i + 1)
            if x.shape[i] != x.shape[j]:
                raise ShapeError(
                    f"{here()}: einsum: a label repeated in {describe(x)} has extents {x.shape[i]} and {x.shape[j]}"
                )
            x = moveaxis(diagonal(x, 0, i, j), -1, i)
            labels = labels[:j] + labels[j + 1 :]
    return x, labels


def _without_ones(x: Node, labels: Labels, sizes: dict[int, int]) -> Term:
    """The operand without the axes of length 1 whose label is longer elsewhere."""
    kept = [k for k, n in zip(labels, x.shape, strict=True) if n == sizes[k]]
    if len(kept) == len(labels):
        return x, labels
    return reshaped(x, [sizes[k] for k in kept]), tuple(kept)


def _cheapest(terms: Sequence[Term], out: Labels, sizes: dict[int, int]) -> tuple[int, int]:
    """The pair whose product removes most elements, at the least work (the greedy rule of opt_einsum)."""
    if len(terms) == 2:
        return 0, 1
    sets = [set(labels) for _, labels in terms]

    def growth(i: int, j: int) -> tuple[float, float]:
        needed = {*out}.union(*(s for k, s in enumerate(sets) if k not in (i, j)))
        both = sets[i] | sets[j]
        return _volume(both & needed, sizes) - _volume(sets[i], sizes) - _volume(sets[j], sizes), _volume(both, sizes)

    pairs = [(i, j) for i in range(len(terms)) for j in range(i + 1, len(terms))]
    connected = [(i, j) for i, j in pairs if sets[i] & sets[j]] or pairs
    return min(connected, key=lambda pair: growth(*pair))


def _volume(labels: set[int], sizes: dict[int, int]) -> float:
    return math.prod(float(sizes[k]) for k in labels)


def _product(left: Term, right: Term, needed: set[int], out: Labels | None) -> Term:
    """Two terms as one, with the labels still needed, in the order of ``out`` if this is the last product."""
    (x, a), (y, b) = left, right
    both = tuple(dict.fromkeys(a + b))
    result = tuple(k for k in both if k in needed)
    if out is not None:
        result = tuple(k for k in out if k in both)
    if {*a, *b} == {*result} and ({*a} <= {*b} or {*b} <= {*a}):  # nothing summed, one scales the other
        return apply(OPS["multiply"], _aligned(x, a, result, y, b), _aligned(y, b, result, x, a)), result
    return contract(x, a, y, b, result), result


def _aligned(x: Node, labels: Labels, out: Labels, other: Node, theirs: Labels) -> Node:
    """The operand broadcast to the labels ``out``, their extents read off either operand."""
    extent = dict(zip(theirs, other.shape, strict=True)) | dict(zip(labels, x.shape, strict=True))
    return _shown(x, labels, out, extent)


def _shown(x: Node, labels: Labels, out: Labels, extent: dict[int, int]) -> Node:
    present = [k for k in out if k in labels]
    arranged = permuted(x, [labels.index(k) for k in present])
    return spread(arranged, tuple(extent[k] for k in out), [out.index(k) for k in present])


def _finished(x: Node, labels: Labels, out: Labels, sizes: dict[int, int]) -> Node:
    """The single term left: what the output lacks summed, axes in the output's order."""
    summed = tuple(axis for axis, k in enumerate(labels) if k not in out)
    if summed:
        x, labels = OPS["sum"].make((x,), axes=summed), tuple(k for k in labels if k in out)
    return _shown(x, labels, out, sizes)
