"""Tree-shaped elementwise fragments of a graph, and their derivatives by SymPy.

Enters: a graph's nodes.  Leaves: for each fragment its expression and ∂root/∂leaf for every leaf that carries a
tangent. Invariant: in a fragment's expression no inner node occurs twice, so the expression is as small as the graph:
cut at every node that is read more than once, at every operand that an op's own meaning mentions more than once (max(x,
y) compares and returns x), at every node that is not elementwise, and at `LARGEST` ops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np

from gradc.diff.symbolic.convert import Reader, Value
from gradc.diff.symbolic.written_out import NoDefinitionError
from gradc.node import Node
from gradc.ops.leaves import number_of
from gradc.ops.record import Kind, Op

#: ops in one fragment; a derivative of n nested ops has O(n²) of them before common subexpressions are shared
LARGEST = 16


@dataclass(frozen=True, slots=True)
class Fragment:
    """``expression`` over ``symbols`` is the meaning of the root; the symbols stand for the Nodes ``leaves``."""

    expression: Any
    symbols: tuple[Any, ...]
    leaves: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Partial:
    """∂root/∂leaf, and where it can be non-zero at all (None: everywhere)."""

    leaf: Node
    value: Value
    mask: Node | None


def is_elementwise(node: Node) -> bool:
    """Whether SymPy sees the op element by element; a cast changes the number format and is its own fragment."""
    return node.op.kind is Kind.ELEMENTWISE and node.op.name != "cast"


def interior_nodes(order: Sequence[Node], active: set[Node], kept: set[Node]) -> set[Node]:
    """Active elementwise nodes that may vanish into the expression of their only reader; ``kept`` must stay visible."""
    readers: dict[Node, list[tuple[Node, int]]] = {}
    for node in order:
        if node in active:
            for i, arg in enumerate(node.args):
                readers.setdefault(arg, []).append((node, i))
    inside: set[Node] = set()
    size: dict[Node, int] = {}
    for node in order:
        size[node] = 1 + sum(size[a] for a in node.args if a in inside)
        if size[node] > LARGEST:
            inside.difference_update(node.args)
            size[node] = 1
        by = readers.get(node, ())
        if node in active and node not in kept and len(by) == 1 and is_elementwise(node) and _read_once(*by[0]):
            inside.add(node)
    return inside


def _read_once(reader: Node, i: int) -> bool:
    return is_elementwise(reader) and mentions(meaning_of(reader.op), len(reader.args), _key(reader.attrs))[i] <= 1


def _key(attrs: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(attrs.items()))


def meaning_of(op: Op) -> Any:
    """The op's SymPy meaning; NoDefinitionError for one that has none, by which its other rules are not judged."""
    if op.sympy is None:
        raise NoDefinitionError(
            f"op {op.name} has no SymPy meaning, so it has no symbolic derivative; use method='reverse'"
        )
    return op.sympy


@cache
def mentions(meaning: Any, operands: int, attrs: tuple[tuple[str, Any], ...]) -> tuple[int, ...]:
    """How often each operand occurs in an op's SymPy meaning."""
    import sympy

    symbols = sympy.symbols(f"a:{operands}", real=True)
    expression = sympy.sympify(meaning(sympy, *symbols, **dict(attrs)))
    found = [e for e in sympy.preorder_traversal(expression) if e.is_Symbol]
    return tuple(found.count(s) for s in symbols)


def fragment_at(root: Node, inside: set[Node], exact: bool = True) -> Fragment:
    """The expression of ``root`` down to the first nodes outside the fragment.

    An operand that an op reads twice has a symbol for each time, as every rule has a derivative for each.  With
    ``exact``, constants that are small whole numbers or quarters take part as numbers (x² rather than xᵃ).
    """
    import sympy

    leaves: list[tuple[Any, Node]] = []
    expressions: dict[Node, Any] = {}

    def symbol_for(leaf: Node) -> Any:
        leaves.append((sympy.Symbol(f"s{len(leaves)}", real=True), leaf))
        return leaves[-1][0]

    for node in _fragment_order(root, inside):
        if node is root or node in inside:
            operands = [expressions[a] for a in node.args]
            for i, a in enumerate(node.args):
                if any(a is b for b in node.args[:i]) and operands[i].is_Symbol:
                    operands[i] = symbol_for(a)
            expressions[node] = sympy.sympify(meaning_of(node.op)(sympy, *operands, **node.attrs))
        else:
            value = _exact_scalar(node) if exact else None
            expressions[node] = symbol_for(node) if value is None else sympy.Rational(value)
    expression = expressions[root]
    if exact and expression.has(sympy.zoo, sympy.nan, sympy.oo, -sympy.oo):
        return fragment_at(root, inside, exact=False)
    return Fragment(expression, tuple(s for s, _ in leaves), tuple(leaf for _, leaf in leaves))


def _fragment_order(root: Node, inside: set[Node]) -> list[Node]:
    """Nodes of the fragment and its leaves, operands first."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack = [(root, False)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            if node is root or node in inside:
                stack.extend((a, False) for a in reversed(node.args))
    return order


def _exact_scalar(node: Node) -> float | None:
    number = number_of(node)
    if number is None or node.dtype == bool:
        return None
    value = float(number)
    whole = np.isfinite(value) and abs(value) < 2**20 and (4 * value).is_integer()
    return value if whole and not (value == 0 and np.signbit(value)) else None


def partials_at(root: Node, inside: set[Node], wanted: set[Node]) -> list[Partial]:
    """∂root/∂leaf for the leaves in ``wanted``, as Nodes; structurally zero ones are left out."""
    import sympy

    fragment = fragment_at(root, inside)
    chosen = [(s, leaf) for s, leaf in zip(fragment.symbols, fragment.leaves, strict=True) if leaf in wanted]
    definitions, derivatives = differentiated(fragment.expression, tuple(s for s, _ in chosen))
    reader = Reader(dict(zip(fragment.symbols, fragment.leaves, strict=True)), root, root.op.name)
    for symbol, expr in definitions:
        reader.define(symbol, expr)
    partials = []
    for (_, leaf), (reduced, where) in zip(chosen, derivatives, strict=True):
        if reduced != 0:
            mask = None if where == sympy.true else reader.mask(where)
            partials.append(Partial(leaf, reader.value(reduced), mask))
    return partials


@lru_cache(maxsize=4096)
def differentiated(expression: Any, symbols: tuple[Any, ...]) -> tuple[list[tuple[Any, Any]], list[tuple[Any, Any]]]:
    """Common subexpressions, and per symbol the derivative in terms of them with the condition that it is not zero."""
    import sympy

    raw = [sympy.diff(expression, s) for s in symbols]
    where = [support(sympy, d) for d in raw]
    names = sympy.numbered_symbols("t", real=True)
    definitions, reduced = sympy.cse([*raw, *where], symbols=names, order="none")
    return definitions, list(zip(reduced[: len(raw)], reduced[len(raw) :], strict=True))


def support(S: Any, expr: Any) -> Any:
    """The condition under which ``expr`` is not structurally zero."""
    if expr == 0:
        return S.false
    if not expr.has(S.Piecewise):
        return S.true
    if expr.is_Add:
        return S.Or(*[support(S, term) for term in expr.args])
    if expr.is_Mul:
        return S.And(*[support(S, factor) for factor in expr.args])
    if isinstance(expr, S.Piecewise):
        return _branches(S, expr)
    return S.true


def _branches(S: Any, expr: Any) -> Any:
    parts, before = [], S.false
    for value, condition in expr.args:
        parts.append(S.And(condition, S.Not(before), support(S, value)))
        before = S.Or(before, condition)
    return S.Or(*parts)
