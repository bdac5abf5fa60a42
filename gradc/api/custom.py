"""custom_derivative: a function whose derivative is a rule of the user's.

Enters: a function, and a jvp or a vjp rule with the shape of `gradc.jvp` or `gradc.vjp`.  Leaves: the function, which
every transform differentiates by that one rule: forward and reverse mode, any order, batched, in loops, compiled.
Invariant: neither reads a traced value that is not an argument.  Start reading at `CustomDerivative`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, overload

from gradc.api.transform import name_to_travel_by
from gradc.aval import Aval
from gradc.containers import Structure, leaves_of
from gradc.errors import GradcError, LeakedValueError, ShapeError, TraceError
from gradc.graph import Graph
from gradc.node import OPS, Node, as_node, describe, here
from gradc.ops.control import items
from gradc.ops.custom import DerivativeRule, RuleKind, Widen
from gradc.ops.elementwise import cast
from gradc.ops.leaves import full
from gradc.passes import looked_into
from gradc.trace import function_name, new_input, run, trace

Rule = Callable[..., Any]


@overload
def custom_derivative(f: None = None, *, jvp: Rule | None = None, vjp: Rule | None = None) -> Callable[..., Any]: ...
@overload
def custom_derivative(
    f: Callable[..., Any], *, jvp: Rule | None = None, vjp: Rule | None = None
) -> CustomDerivative: ...
def custom_derivative(f: Callable[..., Any] | None = None, *, jvp: Rule | None = None, vjp: Rule | None = None) -> Any:
    """``f``, with a derivative of your own: a jvp *or* a vjp rule; one is enough for both modes and all orders.

    ``jvp(primals, tangents) -> (result, tangent)`` has the shape of `gradc.jvp`: the tangents are tuples nested as the
    arguments, and the tangent of the result is linear in them.  ``vjp(*primals) -> (result, pull)`` has the shape of
    `gradc.vjp`: ``pull(cotangent)`` returns one cotangent for each argument, linear in the given one; None stands for
    zero.  Integers and bools have no tangent: None stands in their place.  In its own direction a rule is evaluated, in
    the other one what it computes is transposed; it may hold loops and branches that are linear, and call other
    functions with rules and the function itself, whose own derivatives count from the next derivative on.  The result
    is always ``f``'s.

    The rule can be given later, by ``f.defjvp`` or ``f.defvjp``, as decorators.  Finite differences and
    ``method="symbolic"`` look at ``f`` itself: `gradc.check_gradients` tells whether the rule is its derivative.

    Raises TypeError for two rules, or none; TraceError for a rule that is not linear, for what it returns in another
    nesting, and for a function or rule that reads a traced value which is not an argument; ShapeError for a tangent or
    cotangent of another shape than its partner.

    >>> import gradc as gc, numpy as np
    >>> @gc.custom_derivative
    ... def softplus(x):
    ...     return np.log1p(np.exp(x))
    >>> @softplus.defjvp
    ... def rule(primals, tangents):
    ...     (x,), (dx,) = primals, tangents
    ...     return softplus(x), dx / (1 + np.exp(-x))
    >>> float(gc.grad(softplus)(0.0))
    0.5
    """
    if f is None:
        return functools.partial(custom_derivative, jvp=jvp, vjp=vjp)
    if not callable(f):
        raise TypeError(f"{here()}: custom_derivative expects a function, got {f!r:.60}")
    made = CustomDerivative(f)
    for kind, rule in (("jvp", jvp), ("vjp", vjp)):
        if rule is not None:
            made._define(kind, rule)  # type: ignore[arg-type]
    return made


class CustomDerivative:
    """A function with a derivative of its own; see `custom_derivative`."""

    def __init__(self, f: Callable[..., Any]):
        functools.update_wrapper(self, f, updated=())
        self.function = f
        self.title = function_name(f)
        self._rule: tuple[RuleKind, Rule] | None = None

    def defjvp(self, rule: Rule) -> Rule:
        """Give the rule ``(primals, tangents) -> (result, tangent)``; returns it, so that it can be a decorator."""
        return self._define("jvp", rule)

    def defvjp(self, rule: Rule) -> Rule:
        """Give the rule ``(*primals) -> (result, pull)``; returns it, so that it can be a decorator."""
        return self._define("vjp", rule)

    def _define(self, kind: RuleKind, rule: Rule) -> Rule:
        if not callable(rule):
            raise TypeError(f"{here()}: {self.title}: a {kind} rule is a function, got {rule!r:.60}")
        if self._rule is not None:
            raise TypeError(
                f"{here()}: {self.title} has a {self._rule[0]} rule already; one rule serves both modes and all orders"
            )
        self._rule = kind, rule
        return rule

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._rule is None:
            raise TypeError(f"{here()}: {self.title} has no rule yet: give one with {self.title}.defjvp or .defvjp")
        args = self._positional(args, kwargs)
        graph = trace(self.function, *args)
        self._refuse_outside(graph, self.title)
        kind, rule = self._rule
        title, structure = self.title, graph.in_tree
        assert structure is not None and graph.out_tree is not None

        def make(widen: Widen) -> Graph:
            return widen(_in_dtype_of(widen(graph), graph, lambda body: _Rule(title, kind, rule, body).graph()))

        def retraced(widen: Widen) -> Graph:
            return _in_dtype_of(widen(graph), graph, again)

        def again(body: Graph) -> Graph:
            return trace(self.function, *structure.unflatten([x.aval for x in body.inputs])[0])

        inputs = [new_input(x.aval, graph.names.get(x, "argument")) for x in graph.inputs]
        node = OPS["custom"].make(inputs, body=graph, rule=DerivativeRule(kind, title, make, retraced))
        names = {x: str(x.attrs["name"]) for x in inputs}
        flat = run(Graph(tuple(inputs), tuple(items(node)), names, title=self.title), leaves_of((args, {}))[0])
        return graph.out_tree.unflatten(flat)

    def _positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments as a rule gets them: by position."""
        if not kwargs:
            return args
        try:
            bound = inspect.signature(self.function).bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{here()}: {self.title}: {error}") from None
        bound.apply_defaults()
        if bound.kwargs:
            raise TypeError(
                f"{here()}: {self.title}: {', '.join(bound.kwargs)} can only be passed by keyword, and a rule takes "
                "its arguments by position; let the function take it by position too"
            )
        return bound.args

    @staticmethod
    def _refuse_outside(graph: Graph, title: str) -> None:
        if graph.free:
            read = ", ".join(describe(x) for x in list(graph.free)[:3])
            raise TraceError(
                f"{here()}: {title} reads a traced value that is not its argument: {read}.\n"
                "  Its rule would not know of it; pass it as an argument."
            )

    def __reduce__(self) -> str | tuple[Any, ...]:
        return name_to_travel_by(self) or (_with_rule, (self.function, self._rule))

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __repr__(self) -> str:
        return f"<{self.title} with {'no rule yet' if self._rule is None else f'a {self._rule[0]} rule'}>"


def _in_dtype_of(wide: Graph, own: Graph, traced: Callable[[Graph], Graph]) -> Graph:
    """What is traced for the operands of ``wide``, or of ``own`` where the user's code asks for its own dtype: where a
    carry is cast to float16, say.
    """
    try:
        return traced(wide)
    except GradcError:
        if wide is own:
            raise
        return traced(own)


def _with_rule(f: Callable[..., Any], rule: tuple[RuleKind, Rule] | None) -> CustomDerivative:
    made = CustomDerivative(f)
    made._rule = rule
    return made


class _Rule:
    """The user's rule for one traced call, as the graph of a `DerivativeRule`."""

    def __init__(self, title: str, kind: RuleKind, rule: Rule, body: Graph):
        self.title, self.kind, self.rule, self.body = title, kind, rule, body
        assert body.in_tree is not None and body.out_tree is not None
        self.arguments, self.results = body.in_tree, body.out_tree

    def graph(self) -> Graph:
        """Traced on primals, and tangents of the arguments or cotangents of the results."""
        ends = self.body.inputs if self.kind == "jvp" else self.body.outputs
        structure = self.arguments if self.kind == "jvp" else self.results
        linear = structure.unflatten([_tangent_aval(x) if x.aval.is_float else None for x in ends])
        primals = self.arguments.unflatten([x.aval for x in self.body.inputs])
        return self._traced(primals[0], linear[0] if self.kind == "jvp" else linear)

    def _traced(self, primals: tuple[Any, ...], linear: Any) -> Graph:
        def applied(primals: tuple[Any, ...], linear: Any) -> tuple[Node, ...]:
            return self._pushed(primals, linear) if self.kind == "jvp" else self._pulled(primals, linear)

        applied.__name__ = f"the {self.kind} rule of {self.title}"
        try:
            graph = trace(applied, primals, linear)
        except LeakedValueError as error:
            raise TraceError(self._reads(applied.__name__, error.what)) from None
        CustomDerivative._refuse_outside(graph, applied.__name__)
        return looked_into(graph)

    def _reads(self, name: str, what: str) -> str:
        """What a rule reads that it cannot: it is traced when the derivative is taken, after the function's trace."""
        return (
            f"{here()}: {name} reads a traced value that is not its argument: {what}.\n"
            f"  Pass it to {self.title} as an argument, which then has a {self._end()} of its own."
        )

    def _end(self) -> str:
        return "tangent" if self.kind == "jvp" else "cotangent"

    def _pushed(self, primals: tuple[Any, ...], tangents: Any) -> tuple[Node, ...]:
        _, tangent = self._pair(self.rule(primals, tangents), "(result, tangent)")
        return self._floats(tangent, self.results, self.body.outputs, "the tangent of the result")

    def _pulled(self, primals: tuple[Any, ...], cotangent: Any) -> tuple[Node, ...]:
        _, pull = self._pair(self.rule(*primals), "(result, pull)")
        if not callable(pull):
            raise TraceError(f"{here()}: the vjp rule of {self.title} must return a function second, got {pull!r:.40}")
        found = pull(cotangent)
        if not isinstance(found, tuple) or len(found) != len(primals):
            got = f"{len(found)} of them" if isinstance(found, tuple) else f"a {type(found).__name__}"
            raise TraceError(
                f"{here()}: the vjp rule of {self.title}: pull must return a tuple with a cotangent for each of "
                f"{len(primals)} arguments (None: zero), got {got}"
            )
        nothing = self.arguments.unflatten([None] * len(self.body.inputs))[0]
        found = tuple(zeros if c is None else c for c, zeros in zip(found, nothing, strict=True))
        return self._floats((found, {}), self.arguments, self.body.inputs, "the cotangent of an argument")

    def _pair(self, returned: Any, what: str) -> tuple[Any, Any]:
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise TraceError(
                f"{here()}: the {self.kind} rule of {self.title} must return a pair {what}, got {returned!r:.60}"
            )
        return returned

    def _floats(self, tree: Any, structure: Structure, partners: Sequence[Node], what: str) -> tuple[Node, ...]:
        """What the rule returned for each float partner, nested as the partners are; zeros for None."""
        try:
            parts = structure.parts_of(tree)
        except ValueError as error:
            raise TraceError(
                f"{here()}: the {self.kind} rule of {self.title}: {what} must nest as its partner: {error}"
            ) from None
        found = []
        for part, partner in zip(parts, partners, strict=True):
            if partner.aval.is_float:
                found.append(self._fitted(part, partner, what))
        return tuple(found)

    def _fitted(self, part: Any, partner: Node, what: str) -> Node:
        if part is None:
            return full(partner.shape, 0, partner.dtype)
        try:
            node = as_node(part)
        except GradcError as error:
            raise TraceError(
                f"{here()}: the {self.kind} rule of {self.title}: {what} must nest as its partner: {error}"
            ) from None
        if node.shape != partner.shape:
            raise ShapeError(
                f"{here()}: the {self.kind} rule of {self.title}: {what} has shape {node.shape}, its partner "
                f"{self.body.name(partner)} has {partner.shape}; sum over what was broadcast"
            )
        return cast(node, partner.dtype) if node.dtype != partner.dtype else node


def _tangent_aval(x: Node) -> Aval:
    return Aval(x.shape, x.dtype)


__all__ = ["CustomDerivative", "custom_derivative"]
