"""The gradient as formulas a person reads, in the user's own names; the same formulas run.

Enters: a function and example arguments, or a traced graph.  Leaves: a `Derivation`.  Start reading at
`gradc.explain.derivation.explain_graph`; the road is graph → `lift` → formulas → `rules` → `notation` → `text`,
`latex`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradc.errors import TraceError
from gradc.explain.assumptions import assume
from gradc.trace import function_name, trace
from gradc.tree import flatten

if TYPE_CHECKING:
    from gradc.explain.derivation import Derivation, Line, explain_graph
    from gradc.explain.formula import Formula
    from gradc.explain.rules import RULES, Rule

#: Loaded on first use: the algebra of formulas costs a tenth of a second.
_LATER = {
    **dict.fromkeys(("Derivation", "Line", "explain_graph"), "gradc.explain.derivation"),
    **dict.fromkeys(("RULES", "Rule"), "gradc.explain.rules"),
    "Formula": "gradc.explain.formula",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'gradc.explain' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value


def explain(f: Callable[..., Any], *args: Any, argnums: int | Sequence[int] = 0, **kwargs: Any) -> Derivation:
    """The derivation of the gradient of ``f`` at the shapes and dtypes of the arguments.

    ``argnums`` says with respect to which positional arguments, as in `gradc.grad`; an argument may nest arrays in
    tuples, lists, dicts and dataclasses.  A result that is not scalar is explained as the vector–Jacobian product with
    cotangent G. Raises TraceError where ``f`` cannot be traced or an argument holds no arrays.

    >>> import numpy as np
    >>> print(explain(lambda A, x: A @ x, np.ones((2, 3)), np.ones(3), argnums=(0, 1)))
    Y = Ax
    <BLANKLINE>
    ∂A = Gxᵀ
    ∂x = AᵀG
    <BLANKLINE>
    G is the cotangent of Y
    """
    from gradc.explain.derivation import explain_graph

    graph = trace(f, *args, **kwargs)
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    _, paths, _ = flatten((args, kwargs))
    wanted = []
    for number in chosen:
        position = number + len(args) if number < 0 else number
        found = [x for x, path in zip(graph.inputs, paths, strict=True) if path[:2] == (0, position)]
        if not found:
            raise TraceError(
                f"argnums={number}: {function_name(f)} was given {len(args)} arguments with arrays up to there"
            )
        wanted += found
    return explain_graph(graph, wanted)


__all__ = ["RULES", "Derivation", "Formula", "Line", "Rule", "assume", "explain", "explain_graph"]
