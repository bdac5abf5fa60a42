"""Where the conformance tests sample an op: operands, attributes and dtypes for every record in the registry.

Enters: an `Op`.  Leaves: `Case`s.  Elementwise ops are sampled in their `domain`, structured ones by their `samples`.
"""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gradc.aval import Aval
from gradc.diff.modes import push_forward
from gradc.graph import Graph
from gradc.node import OPS, Node
from gradc.ops.control import item, result_count
from gradc.ops.record import Kind, Op, has_results
from gradc.oracle.rules import applied
from gradc.passes import expand_all

Array = np.ndarray[Any, Any]

#: attributes of the elementwise ops that have some
ATTRS = {name: dict(op.samples[0].attrs) for name, op in OPS.items() if op.kind is Kind.ELEMENTWISE and op.samples}
LOGICAL = {"logical_and", "logical_or", "logical_xor", "logical_not"}
BITWISE = {name for name in OPS if name.startswith("bitwise_")}
#: ops with results of any sign, which others that fix it stand for in comparisons
OF_ANY_SIGN = {"eigh_up_to_signs", "svd_up_to_signs"}
#: the operand dtypes where they are not all floats
OPERANDS: dict[str, tuple[str, ...]] = {"where": ("bool", "float", "float")} | {
    name: op.samples[0].dtypes for name, op in OPS.items() if op.kind is Kind.ELEMENTWISE and op.samples
    and op.samples[0].dtypes
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Operands and attributes of one application of an op, and which of its results, if it has several."""

    op: Op
    arrays: tuple[Array, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    result: int | None = None

    def node(self) -> Node:
        """The application, on fresh leaves, or the one result of it."""
        made = self.op.make([leaf(Aval(a.shape, a.dtype)) for a in self.arrays], **self.attrs)
        return made if self.result is None else item(made, self.result)

    def value(self) -> Array:
        """What the NumPy meaning gives."""
        found = self.op.evaluate(*self.arrays, **self.attrs)
        return np.asarray(found if self.result is None else found[self.result])

    def each(self) -> list[Case]:
        """A case for every result."""
        made = self.node()
        return [replace(self, result=k) for k in range(result_count(made))] if has_results(made) else [self]


def operands(node: Node) -> tuple[Node, ...]:
    """The operands of the application that ``node`` is the value, or one result, of."""
    return applied(node).args


def leaf(aval: Aval, name: str = "x") -> Node:
    return Node(OPS["input"], (), {"aval": aval, "name": name, "trace": None}, aval)


def moves(node: Node) -> bool:
    """Whether a tangent reaches ``node``, if it is one result of several: the sign of a determinant has none."""
    leaves = [a for a in operands(node) if a.aval.is_float]
    return node.op.kind is not Kind.ITEM or any(t is not None for t in push_forward([node], leaves, leaves))


def each(found: Any, change: Callable[[Any], Any]) -> Any:
    """What a facet gave, changed; of several results each that is there."""
    if isinstance(found, tuple):
        return tuple(None if x is None else change(x) for x in found)
    return None if found is None else change(found)


def needs_algorithm(op: Op) -> bool:
    """Whether the op, or one that it is written in, is of whole matrices and written in no other: it has code where
    that algorithm has."""
    written = (expand_all(Graph(operands(n), (n,))) for n in (case.node() for case in cases(op)))
    return any(node.op.algorithm is not None for graph in written for node in graph.nodes)


def operand_count(op: Op) -> int:
    """How many operands an elementwise op takes."""
    if op.name in OPERANDS:
        return len(OPERANDS[op.name])
    if isinstance(op.numpy, np.ufunc):
        return op.numpy.nin
    positional = [p for p in inspect.signature(op.numpy).parameters.values() if p.default is p.empty]
    return len(positional) - len(ATTRS.get(op.name, {}))


def cases(op: Op, dtype: Any = np.float64, shape: tuple[int, ...] = (5,)) -> list[Case]:
    """The op's samples in ``dtype``; ``shape`` is that of elementwise operands."""
    random = np.random.default_rng(zlib.crc32(op.name.encode()))
    if op.kind is not Kind.ELEMENTWISE:
        return [case for sample in op.samples for case in _structured(op, sample, dtype, random).each()]
    count = operand_count(op)
    kinds = OPERANDS.get(op.name) or (_kind(op),) * count
    domain = (*op.domain, *[op.domain[-1]] * count)
    attrs = ATTRS.get(op.name, {})
    if op.name == "cast":
        attrs = {"dtype": np.dtype(dtype)}
    return [Case(op, tuple(_array(k, shape, dtype, random, d) for k, d in zip(kinds, domain, strict=False)), attrs)]


def _kind(op: Op) -> str:
    return "bool" if op.name in LOGICAL else "index:8" if op.name in BITWISE else "float"


def _structured(op: Op, sample: Any, dtype: Any, random: np.random.Generator) -> Case:
    kinds = sample.dtypes or ("float",) * len(sample.shapes)
    low, high = op.domain[0]
    arrays = [_array(k, s, dtype, random, (low, high)) for k, s in zip(kinds, sample.shapes, strict=True)]
    if op.name == "searchsorted":
        arrays[0] = np.sort(arrays[0], axis=-1)
    attrs = dict(sample.attrs)
    if op.name in ("iota", "delta"):
        attrs["dtype"] = np.dtype(dtype)
    return Case(op, tuple(arrays), attrs)


def _array(
    kind: str, shape: Sequence[int], dtype: Any, random: np.random.Generator, domain: tuple[float, float]
) -> Array:
    if kind == "bool":
        return random.random(shape) < 0.5
    if kind == "uint32":
        return random.integers(0, 2**32, shape, np.uint32)
    if kind.startswith("index:"):
        bound = int(kind.removeprefix("index:"))
        low = 0 if bound == 8 else -bound  # shifts by negative amounts have no meaning
        return random.integers(low, bound, shape)
    found = np.asarray(random.uniform(*domain, shape)).astype(dtype)
    if kind == "definite":
        wide = found.astype(np.float64)
        return np.asarray(wide @ np.swapaxes(wide, -1, -2) + shape[-1] * np.eye(shape[-1])).astype(dtype)
    if kind == "small":
        return np.full(shape, 1e-9 if np.dtype(dtype) == np.float64 else 1e-3).astype(dtype)
    if kind == "regular":
        return np.asarray(found + 4 * np.eye(*shape[-2:])).astype(dtype)
    return found


#: ops whose algorithm has code on CPUs alone
ON_CPUS_ALONE = {name for name, op in OPS.items() if op.kind is Kind.WHOLE and needs_algorithm(op)}
