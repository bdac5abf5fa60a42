"""The gradient as formulas a person reads, in the user's own names; the same formulas run.

Enters: a function and example arguments, or a traced graph.  Leaves: a `Derivation`.  Start reading at
`gradc.explain.derivation.explain_graph`; the road is graph → `lift` → formulas → `rules` → `notation` → `text`,
`latex`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradc.containers import flatten
from gradc.diff.derived import derived_of
from gradc.errors import TraceError
from gradc.explain.assumptions import assume
from gradc.graph import Graph
from gradc.node import Node, here
from gradc.passes import write_out
from gradc.trace import function_name, trace

if TYPE_CHECKING:
    from gradc.explain.derivation import Derivation, Line, explain_graph
    from gradc.explain.formula import Formula
    from gradc.explain.rules import RULES, Rule
    from gradc.passes import Observe

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


@dataclass(frozen=True)
class Question:
    """What is to be explained: the derivatives of ``order`` of a function by its arguments ``argnums``.

    ``matrix``: all of them as an array, ``operator``: their product with a direction; else a gradient (or
    vector–Jacobian product).
    """

    function: Callable[..., Any]
    argnums: int | Sequence[int]
    order: int
    matrix: bool
    operator: bool

    @classmethod
    def of(cls, f: Callable[..., Any], argnums: int | Sequence[int], order: int, operator: bool) -> Question:
        """The question that arguments of `gradc.explain` ask; ``f`` may be what `gradc.hessian` returned."""
        derived = derived_of(f)
        if derived is not None:
            f, argnums, order = derived.function, derived.argnums, derived.order
        if order not in (1, 2) or (operator and order != 2):
            raise ValueError(
                f"{here()}: order={order!r}, operator={operator!r}: "
                "expected order 1, or 2 with or without operator=True"
            )
        return cls(f, argnums, order, derived is not None or order == 2, operator)

    def answered(self, graph: Graph, wanted: Sequence[Node], observe: Observe | None = None) -> Derivation:
        """The derivation, of the function's graph; ``observe`` as in `explain_graph`."""
        from gradc.explain.higher import explained

        return explained(graph, wanted, self.order, self.matrix, self.operator, observe)

    @property
    def sought(self) -> str:
        """What is derived, in a word."""
        return "gradient" if not self.matrix else "Jacobian" if self.order == 1 else "Hessian"


def explain(
    f: Callable[..., Any],
    *args: Any,
    argnums: int | Sequence[int] = 0,
    order: int = 1,
    operator: bool = False,
    **kwargs: Any,
) -> Derivation:
    """The derivation of the gradient of ``f``; see `gradc.explain`, which adds what compilation makes of it."""
    question = Question.of(f, argnums, order, operator)
    return question.answered(*traced(question.function, *args, argnums=question.argnums, **kwargs))


def traced(
    f: Callable[..., Any], *args: Any, argnums: int | Sequence[int] = 0, **kwargs: Any
) -> tuple[Graph, list[Node]]:
    """The graph of ``f``, and those of its inputs that are in the arguments ``argnums``."""
    from gradc.diff.symbolic.written_out import refuse_to_write

    graph = trace(f, *args, **kwargs)
    refuse_to_write(graph, "explain", "Explain one of the functions, or with smaller shapes or fewer layers.")
    graph = write_out(graph)
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
    return graph, wanted


__all__ = ["RULES", "Derivation", "Formula", "Line", "Question", "Rule", "assume", "explain", "explain_graph", "traced"]
