"""Facts that the user declares of an array: `assume` marks it, `without_assumptions` reads the marks.

Enters: a traced array and facts.  Leaves: the same array, in the graph as an identity with a label; explain takes the
identity away again and keeps the facts by name.
Invariant: a mark changes no value and no derivative, and every optimised graph has lost it.  Start reading at `assume`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradc.errors import DTypeError, ShapeError, TraceError
from gradc.graph import Graph, rewrite
from gradc.node import FUNCTIONS, Label, Node, describe, here

LABEL = "assume"
#: each fact and how it reads after the array's name
FACTS = {
    "symmetric": "is symmetric",
    "diagonal": "is diagonal",
    "one_hot": "is one-hot",
    "positive": "is positive",
}
Facts = Mapping[str, frozenset[str]]


def assume(x: Any, **facts: bool) -> Any:
    """``x`` itself, with facts that `gradc.explain` may use and prints under each formula that used them.

    ``symmetric=True``: x = xᵀ; ``diagonal=True``: x is zero off its diagonal (both: square matrices);
    ``one_hot=True``: along its last axis x has one 1 and zeros; ``positive=True``: every element is > 0 (both: floats
    of any shape with, for one-hot, at least one axis).  Use the result in place of ``x``; the fact serves where the
    array has a name in the derivation.  Values and derivatives do not change: the gradient with respect to a symmetric
    matrix is that with respect to all its elements.  Outside a trace ``x`` is returned as it is.
    Raises TraceError for a fact that does not exist, ShapeError and DTypeError for arrays that cannot have it.

    >>> import numpy as np, gradc as gc
    >>> def f(w, A):
    ...     A = gc.assume(A, symmetric=True)
    ...     return 0.5 * w @ A @ w
    >>> print(gc.explain(f, np.ones(3), np.eye(3)))
    L = ½wᵀAw
    <BLANKLINE>
    ∂L/∂w = Aw
      A is symmetric
    """
    unknown = [fact for fact in facts if fact not in FACTS]
    if unknown:
        raise TraceError(f"{here()}: assume knows no fact {unknown[0]!r}; there are {', '.join(FACTS)}")
    chosen = {fact: True for fact, holds in facts.items() if holds}
    if not isinstance(x, Node) or not chosen:
        return x
    for fact in chosen:
        _refuse_misfit(x, fact)
    marked: Node = FUNCTIONS["positive"](x)
    return marked.rebuilt(marked.args, Label(LABEL, (x,), chosen))


def _refuse_misfit(x: Node, fact: str) -> None:
    if fact in ("symmetric", "diagonal") and (x.ndim != 2 or x.shape[0] != x.shape[1]):
        raise ShapeError(f"{here()}: assume({fact}=True) needs a square matrix, got {describe(x)}")
    if fact == "one_hot" and not x.ndim:
        raise ShapeError(f"{here()}: assume(one_hot=True) needs an axis of classes, got {describe(x)}")
    if not x.aval.is_float:
        raise DTypeError(
            f"{here()}: assume({fact}=True) needs an array of floats, got {describe(x)}; use .astype(float)"
        )


def without_assumptions(graph: Graph) -> tuple[Graph, Facts]:
    """The graph without marks, and what was declared, by the name of the array."""
    marks = {n: n.label for n in graph.nodes if n.label is not None and n.label.name == LABEL}
    if not marks:
        return graph, {}
    kept: dict[Node, Node] = {}
    outputs = rewrite(graph.outputs, lambda node, args: args[0] if node in marks else None, None, kept)
    names = {kept[n]: name for n, name in graph.names.items() if n in kept and n in marks}
    names |= {kept.get(n, n): name for n, name in graph.names.items() if n not in marks}
    facts: dict[str, frozenset[str]] = {}
    for mark, label in marks.items():
        name = names.get(kept[mark]) if mark in kept else None
        if name is not None:
            facts[name] = facts.get(name, frozenset()) | frozenset(label.attrs)
    return graph.replace(outputs=tuple(outputs), names=names), facts
