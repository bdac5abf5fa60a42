"""The product of a sparse matrix and a vector, or several: where the entries stand is static, their values are traced.

Canonical form: an array of values and a `Structure`, the row and the column of each of them, in any order and with
repetitions, which add up.  The product is linear in the values and in what they are multiplied by; its transpose is the
product with the transposed structure, of the same array of values.

In code it gathers, multiplies and adds up: rows of equal length stand together, 32 side by side in the lanes, so that
nothing is scattered and no entry is stored beside zeros (a sliced ELLPACK form: Monakov, Lokhmotov, Avetisyan,
Automatically tuning sparse matrix-vector multiplication for GPU architectures, HiPEAC 2010).  Start reading at
`Structure`, then at `_expand`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.aval import Aval
from gradc.node import OPS, Node, constant, dsl
from gradc.ops.consistent import refuse, same_dtype
from gradc.ops.elementwise import apply
from gradc.ops.leaves import full
from gradc.ops.ranges import Hazard, Range, Zeros, bounded, is_safe_to_contract, range_of
from gradc.ops.record import Kind, Op, Sample, register
from gradc.process import cached_property

Array = np.ndarray[Any, Any]
Numbers = np.ndarray[Any, np.dtype[np.int64]]

#: so many rows of equal length stand side by side
LANES = 32
#: up to this share of the rows may have another length than most, which are then computed as if none had
LEAST_COMMON = 0.1
#: of more different lengths, rows are filled up to the next of `_FILLED`
MOST_LENGTHS = 24
_FILLED = np.array(sorted({round(1.25**k) for k in range(160)}), np.int64)


@dataclass(frozen=True, eq=False)
class Structure:
    """Entry k of a matrix of ``shape`` stands in ``rows[k]`` and ``columns[k]``; equal if all of that is."""

    rows: Numbers
    columns: Numbers
    shape: tuple[int, int]

    @property
    def entries(self) -> int:
        """How many there are."""
        return len(self.rows)

    @cached_property
    def digest(self) -> str:
        """What tells it from others, in any process."""
        import hashlib  # not needed but by who has such a matrix

        parts = (np.ascontiguousarray(part, np.int64) for part in (self.rows, self.columns, np.array(self.shape)))
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Structure) and self.digest == other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __str__(self) -> str:
        return f"{self.shape[0]}×{self.shape[1]}with{self.entries}entries"

    __repr__ = __str__

    @cached_property
    def transposed(self) -> Structure:
        """The same entries with rows and columns exchanged."""
        return Structure(self.columns, self.rows, self.shape[::-1])

    @cached_property
    def blocks(self) -> Blocks:
        """The rows, those of equal length together."""
        return Blocks.of(self)


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows of equal length: which entries they have, in slices of rows side by side (slice, entry, lane)."""

    rows: Numbers
    entries: Numbers
    columns: Numbers
    there: Array | None  #: which of them there are, if rows were filled up


@dataclass(frozen=True, eq=False)
class Blocks:
    """All rows as if they had the length of most, if that is nearly true, and then the rows that have another one; or
    blocks of those that have equal lengths.  ``empty`` are rows without entries."""

    most: Block | None
    rest: Sequence[Block]
    empty: Numbers

    @classmethod
    def of(cls, structure: Structure) -> Blocks:
        """The blocks of a structure."""
        counts = np.bincount(structure.rows, minlength=structure.shape[0])
        in_order = bool((structure.rows[1:] >= structure.rows[:-1]).all())
        order = np.arange(structure.entries) if in_order else np.argsort(structure.rows, kind="stable")
        starts = np.concatenate([[0], np.cumsum(counts)])
        length = int(np.bincount(counts).argmax()) if len(counts) else 0
        others = np.flatnonzero(counts != length)
        if not length or len(others) > LEAST_COMMON * len(counts):
            length, others = 0, np.flatnonzero(counts)

        def block(rows: Numbers, length: int) -> Block:
            return _block(structure, rows, length, counts, starts, order)

        lengths = counts[others]
        if len(np.unique(lengths)) > MOST_LENGTHS:
            lengths = _FILLED[np.searchsorted(_FILLED, lengths)]
        return cls(
            block(np.arange(len(counts)), length) if length else None,
            [block(others[lengths == n], int(n)) for n in np.unique(lengths[lengths > 0])],
            np.flatnonzero(counts == 0),
        )


def _block(structure: Structure, rows: Numbers, length: int, counts: Numbers, starts: Numbers, order: Numbers) -> Block:
    """The block of ``rows``; ``order`` are the entries row after row, which begin at ``starts``.

    What a row lacks is another entry of it; of the block of all rows, which are not asked for there, any.
    """
    lanes = LANES if len(rows) >= LANES else 1
    slices = -(-len(rows) // lanes)
    shown = np.append(rows, np.full(slices * lanes - len(rows), rows[-1]))
    inside = np.minimum(np.arange(length), np.maximum(counts[shown][:, None] - 1, 0))
    entries = order[np.minimum(starts[shown][:, None] + inside, structure.entries - 1)]
    entries = entries.reshape(slices, lanes, length).transpose(0, 2, 1)
    there = (np.arange(length) < counts[shown][:, None]).reshape(slices, lanes, length).transpose(0, 2, 1)
    whole = there.all() or len(rows) == structure.shape[0]
    return Block(rows, entries, structure.columns[entries], None if whole else there)


def _infer(data: Aval, x: Aval, structure: Structure, strong: bool) -> Aval:
    same_dtype((data, x))
    if data.shape != (structure.entries,):
        refuse(f"{structure.entries} entries have values of {data.shape}")
    if x.ndim not in (1, 2) or x.shape[0] != structure.shape[1]:
        refuse(f"{structure.shape[1]} columns are multiplied by {x.shape}")
    return Aval((structure.shape[0], *x.shape[1:]), x.dtype)


def _numpy(data: Array, x: Array, structure: Structure, strong: bool) -> Array:
    values = data.reshape(-1, *[1] * (x.ndim - 1))
    chosen = x[structure.columns]
    products = OPS["strong_multiply"].numpy(values, chosen) if strong and data.dtype != object else values * chosen
    total = np.zeros((structure.shape[0], *x.shape[1:]), x.dtype)
    np.add.at(total, structure.rows, products)
    return total


def _expand(data: Node, x: Node, structure: Structure, strong: bool) -> Node:
    """All rows at once, and those of other lengths written over them; or block after block, and each row fetched."""
    blocks, shape = structure.blocks, (structure.shape[0], *x.shape[1:])
    parts = [_of_block(data, x, block, strong) for block in blocks.rest]
    rows = [block.rows for block in blocks.rest]
    if len(blocks.empty) and blocks.most is not None:
        parts.append(full((len(blocks.empty), *x.shape[1:]), 0, x.dtype))
        rows.append(blocks.empty)
    joint = OPS["concatenate"].make(parts, axis=0) if len(parts) > 1 else parts[0] if parts else None
    if blocks.most is not None:
        total = _of_block(data, x, blocks.most, strong)
        if joint is None:
            return total
        return OPS["scatter"].make((total, joint, constant(_small(np.concatenate(rows)))), axes=(0,), how="set")
    if joint is None:
        return full(shape, 0, x.dtype)
    filled = sum(map(len, rows))
    if filled < structure.shape[0]:
        joint = OPS["concatenate"].make((joint, full((1, *x.shape[1:]), 0, x.dtype)), axis=0)
    place = np.full(structure.shape[0], filled)
    place[np.concatenate(rows)] = np.arange(filled)
    return OPS["gather"].make((joint, constant(_small(place))), axes=(0,))


def _of_block(data: Node, x: Node, block: Block, strong: bool) -> Node:
    chosen = OPS["gather"].make((x, constant(_small(block.columns))), axes=(0,))
    values = _arranged(data, block.entries)
    if x.ndim == 2:
        values = OPS["broadcast"].make((values,), shape=chosen.shape, axes=(0, 1, 2))
    products = apply(OPS["strong_multiply"], values, chosen) if strong else apply(OPS["multiply"], values, chosen)
    if block.there is not None:
        mask = dsl.broadcast_to(constant(block.there).reshape(block.there.shape + (1,) * (x.ndim - 1)), products.shape)
        products = dsl.where(mask, products, 0)
    total = OPS["sum"].make((products,), axes=(1,))
    slices, lanes = total.shape[:2]
    return dsl.reshape(total, (slices * lanes, *x.shape[1:]))[: len(block.rows)]


def _arranged(data: Node, entries: Numbers) -> Node:
    """The values in the order of ``entries``: of constants that is done now."""
    if data.op.kind is Kind.CONSTANT:
        return constant(data.attrs["value"][entries])
    return OPS["gather"].make((data, constant(_small(entries))), axes=(0,))


def _small(numbers: Numbers) -> Array:
    """Half the memory, where they fit."""
    return numbers.astype(np.int32) if numbers.max(initial=0) <= np.iinfo(np.int32).max else numbers


def _product(data: Node, x: Node, structure: Structure) -> Node:
    """A product whose zeros survive what is infinite or NaN, where that may be there."""
    return sparse_product(data, x, structure, not is_safe_to_contract(range_of(data), range_of(x)))


def _jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    (data, x), structure = node.args, node.attrs["structure"]
    moved, shifted = tangents
    terms = [
        *([_product(moved, x, structure)] if moved is not None else ()),
        *([_product(data, shifted, structure)] if shifted is not None else ()),
    ]
    return sum(terms[1:], terms[0]) if terms else None


def _transpose(ct: Node, node: Node, i: int) -> Node:
    """Of the vector: the product with the transposed matrix; of each value: cotangent of its row times what it met."""
    structure: Structure = node.attrs["structure"]
    data, x = node.args
    if i == 1:
        return _product(data, ct, structure.transposed)
    rows = OPS["gather"].make((ct, constant(_small(structure.rows))), axes=(0,))
    met = OPS["gather"].make((x, constant(_small(structure.columns))), axes=(0,))
    safe = is_safe_to_contract(range_of(ct), range_of(x))
    products = apply(OPS["multiply" if safe else "strong_multiply"], rows, met)
    return OPS["sum"].make((products,), axes=(1,)) if x.ndim == 2 else products


def _range(node: Node, data: Range, x: Range) -> Range:
    worst = max(data.hazard, x.hazard)
    hazard = Hazard.ARITHMETIC if worst <= Hazard.DATA else worst
    zeros = min(max(data.zeros, x.zeros, Zeros.POSSIBLE), Zeros.MASKED)
    return bounded(-np.inf, np.inf, hazard, zeros)


def _sympy(S: Any, data: Array, x: Array, structure: Structure, strong: bool) -> Array:
    total = np.full((structure.shape[0], *x.shape[1:]), S.Integer(0), object)
    for k, (i, j) in enumerate(zip(structure.rows.tolist(), structure.columns.tolist(), strict=True)):
        total[i] = total[i] + data[k] * x[j]
    return total


def _case(rows: Sequence[int], columns: Sequence[int], shape: tuple[int, int], strong: bool = False) -> dict[str, Any]:
    return {"structure": Structure(np.array(rows, np.int64), np.array(columns, np.int64), shape), "strong": strong}


register(
    Op(
        name="sparse_product",
        kind=Kind.WHOLE,
        infer=_infer,
        numpy=_numpy,
        sympy=_sympy,
        jvp=_jvp,
        transpose=_transpose,
        linear=(0, 1),
        multilinear=True,
        expand=_expand,
        range=_range,
        samples=(
            Sample(((4,), (3,)), _case([0, 0, 1, 2], [0, 2, 1, 0], (3, 3))),
            Sample(((3,), (2, 2)), _case([2, 0, 2], [1, 0, 0], (4, 2))),
            Sample(((3,), (2,)), _case([1, 1, 0], [1, 1, 0], (2, 2), True)),
            Sample(((0,), (2,)), _case([], [], (3, 2))),
        ),
        doc="A sparse matrix, of which the places of the entries are known, times a vector or a matrix.",
    )
)


def sparse_product(data: Node, x: Node, structure: Structure, strong: bool = False) -> Node:
    """The matrix with the values ``data`` at the places of ``structure``, times ``x``; ``strong``: 0·∞ is 0 in it."""
    return OPS["sparse_product"].make((data, x), structure=structure, strong=strong)
