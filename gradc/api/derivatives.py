"""Derivatives of Python functions: grad, value_and_grad, jvp, vjp, hvp.

Each transform traces its function on fresh leaves, differentiates the graph, and then runs it on the NumPy interpreter,
or inlines it if it was called inside a trace (`gradc.trace.run` decides).  So transforms nest, and under `gradc.jit`
they become part of the compiled graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gradc.api.tangents import fitted
from gradc.api.transform import Transform
from gradc.aval import Aval
from gradc.containers import Structure, flatten, leaves_of, path_text, tree_map
from gradc.diff.batching import batch, one_hot_basis
from gradc.diff.finite import finite_difference
from gradc.diff.linear import refuse_without_tangent
from gradc.diff.modes import pull_back, push_forward
from gradc.diff.symbolic import symbolic_pull_back
from gradc.diff.widen import widen, widen_array
from gradc.errors import DTypeError, ShapeError, TraceError
from gradc.graph import Graph, fit_argument
from gradc.node import FUNCTIONS, Node, here
from gradc.ops.leaves import full
from gradc.passes import SMOOTH, run_passes
from gradc.trace import argument_names, as_result, aval_of, function_name, new_input, run, trace

Method = Literal["reverse", "forward", "symbolic", "finite"]
ArgNums = int | Sequence[int]

#: directions pushed at once when forward mode runs on the interpreter: bounds memory, amortises Python
CHUNK = 32


@dataclass(frozen=True)
class Wanted:
    """Which flat inputs an ``argnums`` selects, and how their gradients nest."""

    positions: tuple[int, ...]
    structures: tuple[Structure, ...]
    single: bool

    def nest(self, flat: Sequence[Any]) -> Any:
        """Flat gradients in the nesting of the selected arguments."""
        parts, rest = [], list(flat)
        for structure in self.structures:
            count = structure.size
            parts.append(structure.of_arrays.unflatten(rest[:count]))
            rest = rest[count:]
        return parts[0] if self.single else tuple(parts)


def select(args: Sequence[Any], argnums: ArgNums, title: str) -> Wanted:
    """Resolve ``argnums`` against the arguments of a call; raises TypeError for one that does not exist."""
    single = isinstance(argnums, (int, np.integer)) and not isinstance(argnums, bool)
    if not single and not isinstance(argnums, (tuple, list)):
        raise TypeError(f"{here()}: argnums={argnums!r:.40}: expected an argument's position, or a tuple of them")
    numbers = [argnums] if single else list(argnums)  # type: ignore[arg-type]
    flat = [leaves_of(a) for a in args]
    starts = np.cumsum([0, *(len(leaves) for leaves, _ in flat)])
    chosen = []
    for number in numbers:
        if (
            not isinstance(number, (int, np.integer))
            or isinstance(number, bool)
            or not -len(args) <= number < len(args)
        ):
            raise TypeError(
                f"{here()}: argnums={argnums!r:.60}: {title} was called with {len(args)} positional arguments.\n"
                "  They are counted from 0; pass by position what is differentiated."
            )
        chosen.append(int(number) % len(args))
        if flat[chosen[-1]][1].static and not flat[chosen[-1]][0]:
            raise DTypeError(f"{here()}: argument {number} of {title} holds no array to differentiate with respect to")
    positions = tuple(p for n in chosen for p in range(int(starts[n]), int(starts[n + 1])))
    return Wanted(positions, tuple(flat[n][1] for n in chosen), single)


def title_of(f: Callable[..., Any], transform: str) -> str:
    """The name of a function in messages; TypeError for what is none."""
    if not callable(f):
        raise TypeError(f"{here()}: {transform} expects a function, got {f!r:.60}")
    return function_name(f)


def prepared(f: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Graph:
    """The stabilised graph of ``f``: what derivatives are taken of."""
    return run_passes(trace(f, *args, **kwargs), SMOOTH)


def with_respect_to(
    f: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], argnums: ArgNums, title: str
) -> tuple[Wanted, Graph, list[Node]]:
    """What ``argnums`` selects, the graph to differentiate, and its inputs that are selected."""
    wanted = select(args, argnums, title)
    graph = prepared(f, args, kwargs)
    inputs = [graph.inputs[p] for p in wanted.positions]
    for x in inputs:
        refuse_without_tangent(x, graph.names.get(x, "argument"))
    return wanted, graph, inputs


def arrays_of(args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
    """The flat array arguments of a call."""
    return leaves_of((tuple(args), kwargs))[0]


def refuse_unless_scalar(graph: Graph, has_aux: bool, whose: str, pair: str = "has_aux=True: (loss, aux)") -> Node:
    first = graph.outputs[0]
    if has_aux and not _is_pair(graph.out_tree):
        said, _, wanted = pair.partition(": ")
        raise TypeError(f"{here()}: {said}: {graph.title} must return a pair {wanted}")
    count = 1 if has_aux else len(graph.outputs)
    if count != 1 or first.shape != () or not first.aval.is_float:
        shown = ", ".join(str(y.aval) for y in graph.outputs)
        raise ShapeError(
            f"{here()}: {whose} needs a function with one float scalar result; {graph.title} returns {shown}.\n"
            "  Reduce it (e.g. .sum() or .mean()), return (loss, aux) with has_aux=True, or use gc.jacobian or gc.vjp."
        )
    return first


def _is_pair(tree: Structure | None) -> bool:
    return tree is not None and tree.spec.type is tuple and tree.spec.num_children == 2


def _zeros_if_absent(gradients: Sequence[Node | None], inputs: Sequence[Node]) -> list[Node]:
    return [g if g is not None else full(x.shape, 0, x.dtype) for g, x in zip(gradients, inputs, strict=True)]


# -- grad --------------------------------------------------------------------------------------------------------------


def value_and_grad(
    f: Callable[..., Any], argnums: ArgNums = 0, has_aux: bool = False, method: Method = "reverse"
) -> Callable[..., Any]:
    """A function that returns ``(f(*args), gradient)``.

    ``f`` returns one float scalar, or ``(scalar, aux)`` with ``has_aux=True`` (then the value is that pair).
    ``argnums`` is an int, or a tuple (then a tuple of gradients comes back); a gradient has the nesting and shapes of
    its argument. ``method``: "reverse" or "forward" AD, "symbolic" (SymPy on the ops' own formulas), or "finite"
    (central differences with Richardson extrapolation).
    """
    title_of(f, "value_and_grad")
    if method not in _METHODS:
        raise ValueError(f"{here()}: method={method!r}: expected one of {', '.join(map(repr, _METHODS))}")
    return ValueAndGradient(f, argnums, has_aux, method)


class ValueAndGradient(Transform):
    """See `value_and_grad`; ``pair``: what says that the function returns a pair, and which."""

    def __init__(
        self, f: Callable[..., Any], argnums: ArgNums, has_aux: bool, method: Method,
        pair: str = "has_aux=True: (loss, aux)",
    ):  # fmt: skip
        super().__init__(f, argnums, has_aux, method, pair)
        self.argnums, self.has_aux, self.method, self.pair = argnums, has_aux, method, pair

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        wanted, graph, inputs = with_respect_to(self.function, args, kwargs, self.argnums, self.title)
        refuse_unless_scalar(graph, self.has_aux, "a gradient", self.pair)
        values, gradients = _METHODS[self.method](graph, inputs, arrays_of(args, kwargs))
        assert graph.out_tree is not None
        return graph.out_tree.unflatten(values), wanted.nest(gradients)


def grad(
    f: Callable[..., Any], argnums: ArgNums = 0, method: Method = "reverse", has_aux: bool = False
) -> Callable[..., Any]:
    """The gradient of a scalar function, as a function of the same arguments.

    See `value_and_grad`; with ``has_aux=True`` it returns ``(gradient, aux)``.

    >>> import gradc as gc
    >>> float(gc.grad(lambda x: x * x * x)(2.0))
    12.0
    """
    title_of(f, "grad")
    value_and_grad(f, argnums, has_aux, method)  # refuses a method that is none
    return Gradient(f, argnums, has_aux, method)


class Gradient(ValueAndGradient):
    """See `grad`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        value, result = super().__call__(*args, **kwargs)
        return (result, value[1]) if self.has_aux else result


Flat = tuple[list[Any], list[Any]]


def gradient_graph(graph: Graph, inputs: Sequence[Node], symbolic: bool = False) -> Graph:
    """``graph`` with the gradients of its first output with respect to ``inputs`` appended to the outputs."""
    loss = graph.outputs[0]
    rule = symbolic_pull_back if symbolic else pull_back
    gradients = _zeros_if_absent(rule([loss], inputs, [full((), 1, loss.dtype)]), inputs)
    return graph.replace(outputs=(*graph.outputs, *gradients))


def _by_graph(symbolic: bool) -> Callable[[Graph, Sequence[Node], Sequence[Any]], Flat]:
    def evaluate(graph: Graph, inputs: Sequence[Node], arrays: Sequence[Any]) -> Flat:
        results = run(gradient_graph(graph, inputs, symbolic), arrays)
        count = len(graph.outputs)
        return results[:count], results[count:]

    return evaluate


def _by_forward(graph: Graph, inputs: Sequence[Node], arrays: Sequence[Any]) -> Flat:
    """One directional derivative per input element; batched in chunks, or in one batch inside a trace."""
    values = run(graph, arrays)
    traced = bool(graph.free) or any(isinstance(a, Node) for a in arrays)
    gradients = []
    for x in inputs:
        chunk = x.size if traced else min(CHUNK, max(x.size, 1))
        directional = _directional(graph, x, chunk)
        if directional is None:
            gradients.append(run(graph.replace(outputs=(full(x.shape, 0, x.dtype),)), arrays)[0])
        elif traced:
            basis = one_hot_basis(x.aval)
            gradients.append(run(directional, [*arrays, basis])[0].reshape(x.shape))
        else:
            gradients.append(_looped(directional, x.aval, chunk, arrays))
    return values, gradients


def _directional(graph: Graph, x: Node, size: int) -> Graph | None:
    """The derivative of the first output along ``size`` directions of ``x`` at once, given as one more input."""
    tangent = new_input(x.aval, "tangent")
    (slope,) = push_forward([graph.outputs[0]], [x], [tangent])
    batched = new_input(Aval((size, *x.shape), x.dtype), "tangents")
    if slope is None:
        return None
    ((result, has),) = batch([slope], {tangent: batched}, size)
    assert has, "a tangent depends on its direction"
    return graph.replace(inputs=(*graph.inputs, batched), outputs=(result,))


def _looped(directional: Graph, aval: Aval, chunk: int, arrays: Sequence[Any]) -> np.ndarray[Any, Any]:
    gradient = np.empty(aval.size, aval.dtype)
    for start in range(0, aval.size, chunk):
        count = min(chunk, aval.size - start)
        directions = np.zeros((chunk, aval.size), aval.dtype)
        directions[np.arange(count), np.arange(start, start + count)] = 1
        slopes = directional.evaluate(*arrays, directions.reshape(chunk, *aval.shape))[0]
        gradient[start : start + count] = slopes[:count]
    return gradient.reshape(aval.shape)


def _by_finite(graph: Graph, inputs: Sequence[Node], arrays: Sequence[Any]) -> Flat:
    if graph.free or any(isinstance(a, Node) for a in arrays):
        raise TraceError(
            f"{here()}: method='finite' needs values and cannot run inside a trace; call it outside jit and grad"
        )
    values = run(graph, arrays)
    wide = widen(graph)
    order = {node: i for i, node in enumerate(graph.inputs)}
    gradients, _ = finite_difference(
        lambda xs: wide.evaluate(*xs)[0], [widen_array(a) for a in arrays], [order[x] for x in inputs]
    )
    return values, [as_result(g.astype(x.dtype)) for g, x in zip(gradients, inputs, strict=True)]


_METHODS: dict[str, Callable[[Graph, Sequence[Node], Sequence[Any]], Flat]] = {
    "reverse": _by_graph(symbolic=False),
    "forward": _by_forward,
    "symbolic": _by_graph(symbolic=True),
    "finite": _by_finite,
}

# -- jvp, vjp, hvp -----------------------------------------------------------------------------------------------------


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """``(f(*primals), directional derivative along tangents)``.

    ``primals`` is a tuple (or list) with one entry per argument; ``tangents`` nests like it, leaf by leaf of the same
    shape.  A tangent of another real dtype is cast to its primal's; None stands for zero, for a leaf or a whole
    argument.  An integer or bool primal has no tangent: None or zeros stand in its place.  The tangent of an integer
    result is zeros.
    """
    pushed = _Pushed.of("jvp", f, primals, tangents)
    graph = pushed.graph
    slopes = push_forward(graph.outputs, graph.inputs, pushed.leaves)
    results = pushed.run((*graph.outputs, *_zeros_if_absent(slopes, graph.outputs)))
    count = len(graph.outputs)
    assert graph.out_tree is not None
    return graph.out_tree.unflatten(results[:count]), graph.out_tree.of_arrays.unflatten(results[count:])


def hvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """Hessian-vector product of a scalar function (forward over reverse), in the tree of ``primals``.

    ``tangents`` as for `jvp`; None comes back in the place of integers and bools.

    >>> import numpy as np
    >>> hvp(lambda x: (x**3).sum(), (np.ones(3),), (np.array([1, 0, 0], np.int8),))
    (array([6., 0., 0.]),)
    """
    pushed = _Pushed.of("hvp", f, primals, tangents)
    refuse_unless_scalar(pushed.graph, False, "hvp")
    floats = [x for x in pushed.graph.inputs if x.aval.is_float]
    whole = gradient_graph(pushed.graph, floats)
    gradient = run_passes(whole.replace(outputs=whole.outputs[1:]), SMOOTH)
    slopes = push_forward(gradient.outputs, gradient.inputs, pushed.leaves)
    flat = iter(pushed.run(_zeros_if_absent(slopes, gradient.outputs)))
    found = [next(flat) if x.aval.is_float else None for x in gradient.inputs]
    structures = [leaves_of(p)[1] for p in primals]
    return Wanted((), tuple(structures), single=False).nest(found)


def _in_short(given: Any) -> str:
    """An array as it is written, anything that nests by its class."""
    return f"{given!r:.60}" if isinstance(given, np.ndarray | Node | int | float) else f"a {type(given).__name__}"


@dataclass(frozen=True)
class _Pushed:
    """A traced function with a direction: for each input its tangent leaf, and the value that leaf stands for."""

    graph: Graph
    leaves: list[Node | None]
    arrays: list[Any]
    directions: list[Any]

    @classmethod
    def of(cls, whose: str, f: Callable[..., Any], primals: Any, tangents: Any) -> _Pushed:
        title = title_of(f, whose)
        for given, name in ((primals, "primals"), (tangents, "tangents")):
            if not isinstance(given, (tuple, list)):
                raise TypeError(
                    f"{here()}: {whose}({title}): {name} must be a tuple with one entry per argument, got "
                    f"{_in_short(given)}; write ({'x' if name == 'primals' else 'dx'},) for one"
                )
        if len(primals) != len(tangents):
            raise TypeError(
                f"{here()}: {whose}({title}): tangents must nest like primals: {len(tangents)} of them for "
                f"{len(primals)} primals; None stands for zero"
            )
        _, paths, _ = flatten((tuple(primals), {}))
        names = argument_names(f, primals, {}, paths)
        graph = prepared(f, primals, {})
        rest, directions = list(zip(graph.inputs, names, strict=True)), []
        for k, (primal, tangent) in enumerate(zip(primals, tangents, strict=True)):
            structure = leaves_of(primal)[1]
            mine, rest = rest[: structure.size], rest[structure.size :]
            owner = f"primals[{k}]" if len(primals) > 1 else "its primal"
            nodes, called = [x for x, _ in mine], [n for _, n in mine]
            directions += fitted(tangent, structure, nodes, called, "tangent", owner)
        leaves = [
            None if d is None else new_input(Aval(x.shape, x.dtype), "tangent")
            for d, x in zip(directions, graph.inputs, strict=True)
        ]
        return cls(graph, leaves, arrays_of(primals, {}), [d for d in directions if d is not None])

    def run(self, outputs: Sequence[Node]) -> list[Any]:
        """The flat values of ``outputs``, which read the inputs and the tangent leaves."""
        inputs = (*self.graph.inputs, *(x for x in self.leaves if x is not None))
        return run(self.graph.replace(inputs=inputs, outputs=tuple(outputs)), [*self.arrays, *self.directions])


def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """``(f(*primals), pullback)``: ``pullback(cotangent)`` returns one cotangent per primal.

    The cotangent nests like the result, leaf by leaf of the same shape; another real dtype is cast, None stands for
    zero, and in the place of an integer result None or zeros stand.
    """
    title_of(f, "vjp")
    graph = prepared(f, primals, {})
    # Snapshots: the pullback may be called after the caller has written into the primals.
    arrays = [
        a if isinstance(a, Node) else fit_argument(a, aval_of(a), "a primal").copy() for a in arrays_of(primals, {})
    ]
    values = run(graph, arrays)
    assert graph.out_tree is not None
    structures = tuple(leaves_of(p)[1] for p in primals)
    return graph.out_tree.unflatten(values), Pullback(graph, tuple(arrays), structures)


class Pullback:
    """Cotangents of the primals from one of the result; see `vjp`."""

    def __init__(self, graph: Graph, primals: tuple[Any, ...], structures: tuple[Structure, ...]):
        self.graph, self.primals, self.structures = graph, primals, structures

    def __call__(self, cotangent: Any) -> tuple[Any, ...]:
        graph = self.graph
        assert graph.out_tree is not None
        _, paths, _ = flatten(graph.out_tree.unflatten(graph.outputs))
        names = [f"the result{path_text(p)}" for p in paths]
        given = fitted(cotangent, graph.out_tree, graph.outputs, names, "cotangent", f"the result of {graph.title}")
        leaves = [
            None if c is None else new_input(Aval(y.shape, y.dtype), "cotangent")
            for c, y in zip(given, graph.outputs, strict=True)
        ]
        pulled = _zeros_if_absent(pull_back(graph.outputs, graph.inputs, leaves), graph.inputs)
        present = tuple(x for x in leaves if x is not None)
        joint = graph.replace(inputs=(*graph.inputs, *present), outputs=tuple(pulled))
        flat = run(joint, [*self.primals, *(c for c in given if c is not None)])
        return Wanted((), self.structures, single=False).nest(flat)

    def __repr__(self) -> str:
        return f"<pullback of {self.graph.title}>"


def stop_gradient(x: Any) -> Any:
    """The identity, with derivative zero; any nesting of arrays."""
    return tree_map(lambda leaf: FUNCTIONS["stop_gradient"](leaf) if isinstance(leaf, Node) else leaf, x)


__all__ = ["grad", "hvp", "jvp", "stop_gradient", "value_and_grad", "vjp"]
