"""Derivatives of Python functions: grad, value_and_grad, jvp, vjp, hvp, vmap.

Each transform traces its function on fresh leaves, differentiates the graph, and then runs it on the NumPy interpreter,
or inlines it if it was called inside a trace (`gradc.trace.run` decides).  So transforms nest, and under `gradc.jit`
they become part of the compiled graph.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gradc.aval import Aval, is_number
from gradc.containers import Structure, leaves_of, tree_map
from gradc.diff.batching import batch, one_hot_basis
from gradc.diff.finite import finite_difference
from gradc.diff.linear import refuse_without_tangent
from gradc.diff.modes import pull_back, push_forward
from gradc.diff.symbolic import symbolic_pull_back
from gradc.diff.widen import widen, widen_array
from gradc.errors import DTypeError, ShapeError, TraceError
from gradc.graph import Graph, fit_argument
from gradc.node import FUNCTIONS, OPS, Node, dsl, here
from gradc.ops.leaves import full
from gradc.passes import FORWARD, run_passes
from gradc.trace import as_result, aval_of, function_name, new_input, run, trace

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
            raise TypeError(f"{here()}: argnums={argnums!r}: {title} was called with {len(args)} positional arguments")
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
    return run_passes(trace(f, *args, **kwargs), FORWARD)


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


def _scalar_output(graph: Graph, has_aux: bool) -> Node:
    first = graph.outputs[0]
    if has_aux and not _is_pair(graph.out_tree):
        raise TypeError(f"{here()}: has_aux=True: {graph.title} must return a pair (loss, aux)")
    count = 1 if has_aux else len(graph.outputs)
    if count != 1 or first.shape != () or not first.aval.is_float:
        shown = ", ".join(str(y.aval) for y in graph.outputs)
        raise ShapeError(
            f"{here()}: grad needs a function with one float scalar result; {graph.title} returns {shown}.\n"
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
    title = title_of(f, "grad")
    if method not in _METHODS:
        raise ValueError(f"method={method!r}: expected one of {', '.join(map(repr, _METHODS))}")

    @functools.wraps(f, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    def both(*args: Any, **kwargs: Any) -> Any:
        wanted, graph, inputs = with_respect_to(f, args, kwargs, argnums, title)
        _scalar_output(graph, has_aux)
        values, gradients = _METHODS[method](graph, inputs, arrays_of(args, kwargs))
        assert graph.out_tree is not None
        return graph.out_tree.unflatten(values), wanted.nest(gradients)

    return both


def grad(
    f: Callable[..., Any], argnums: ArgNums = 0, method: Method = "reverse", has_aux: bool = False
) -> Callable[..., Any]:
    """The gradient of a scalar function, as a function of the same arguments.

    See `value_and_grad`; with ``has_aux=True`` it returns ``(gradient, aux)``.

    >>> import gradc as gc
    >>> float(gc.grad(lambda x: x * x * x)(2.0))
    12.0
    """
    both = value_and_grad(f, argnums, has_aux, method)

    @functools.wraps(both)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, result = both(*args, **kwargs)
        return (result, value[1]) if has_aux else result

    return gradient


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

# -- jvp, vjp ----------------------------------------------------------------------------------------------------------


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """``(f(*primals), directional derivative along tangents)``; tangents have the trees and shapes of the primals."""
    for given, name in ((primals, "primals"), (tangents, "tangents")):
        if not isinstance(given, (tuple, list)):
            raise TypeError(f"{here()}: {name} must be a tuple with one entry per argument, got {given!r:.60}")
    graph = prepared(f, primals, {})
    directions = leaves_of(tuple(tangents))[0]
    _match_trees("tangents", tuple(tangents), "primals", tuple(primals))
    leaves = [new_input(x.aval, "tangent") for x in graph.inputs]
    for x in graph.inputs:
        refuse_without_tangent(x, graph.names.get(x, "argument"))
    slopes = push_forward(graph.outputs, graph.inputs, leaves)
    complete = _zeros_if_absent(slopes, graph.outputs)
    joint = graph.replace(inputs=(*graph.inputs, *leaves), outputs=(*graph.outputs, *complete))
    results = run(
        joint, [*arrays_of(primals, {}), *[_as_tangent(t, x) for t, x in zip(directions, graph.inputs, strict=True)]]
    )
    count = len(graph.outputs)
    assert graph.out_tree is not None
    return graph.out_tree.unflatten(results[:count]), graph.out_tree.of_arrays.unflatten(results[count:])


def _as_tangent(value: Any, like: Node) -> Any:
    if isinstance(value, Node):
        return value
    array = np.asarray(value)
    if not is_number(array.dtype):
        raise DTypeError(f"{here()}: a tangent or cotangent has dtype {array.dtype}, its partner {like.dtype}")
    if array.shape != like.shape:
        raise ShapeError(f"{here()}: a tangent or cotangent has shape {array.shape}, its partner {like.shape}")
    return array.astype(like.dtype)


def _match_trees(name: str, tree: Any, other_name: str, other: Any) -> None:
    mine, theirs = leaves_of(tree)[1], leaves_of(other)[1]
    if mine.spec != theirs.spec:
        raise TypeError(f"{here()}: {name} must nest like {other_name}: got {mine.spec}, expected {theirs.spec}")


def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """``(f(*primals), pullback)``: ``pullback(cotangent)`` returns one cotangent per primal."""
    graph = prepared(f, primals, {})
    # Snapshots: the pullback may be called after the caller has written into the primals.
    arrays = [
        a if isinstance(a, Node) else fit_argument(a, aval_of(a), "a primal").copy() for a in arrays_of(primals, {})
    ]
    structures = [leaves_of(p)[1] for p in primals]
    values = run(graph, arrays)
    assert graph.out_tree is not None
    out_tree = graph.out_tree

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        given = leaves_of(cotangent)[0]
        if len(given) != len(graph.outputs):
            raise TypeError(f"{here()}: the cotangent must nest like the result of {graph.title}")
        leaves = [new_input(y.aval, "cotangent") for y in graph.outputs]
        pulled = _zeros_if_absent(pull_back(graph.outputs, graph.inputs, leaves), graph.inputs)
        joint = graph.replace(inputs=(*graph.inputs, *leaves), outputs=tuple(pulled))
        flat = run(joint, [*arrays, *[_as_tangent(c, y) for c, y in zip(given, graph.outputs, strict=True)]])
        return Wanted((), tuple(structures), single=False).nest(flat)

    return out_tree.unflatten(values), pullback


# -- hvp ---------------------------------------------------------------------------------------------------------------


def hvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """Hessian-vector product of a scalar function (forward over reverse), in the tree of ``primals``."""
    numbers = tuple(range(len(primals) if isinstance(primals, (tuple, list)) else 0))
    return jvp(grad(f, numbers), primals, tangents)[1]


# -- vmap --------------------------------------------------------------------------------------------------------------


def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: int = 0) -> Callable[..., Any]:
    """``f`` applied along an axis of its arguments, as one batched graph.

    ``in_axes``: an int, or a tuple with one int or None per positional argument (None: the same for all); each applies
    to every array in that argument.  ``out_axes``: where the new axis stands in every result.
    """
    title = title_of(f, "vmap")

    @functools.wraps(f, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    def mapped(*args: Any, **kwargs: Any) -> Any:
        axes = _axis_per_leaf(args, in_axes, title)
        flat = leaves_of(args)[0]
        size = _batch_size(flat, axes, title)
        examples = _examples(args, axes)
        graph = trace(f, *examples, **kwargs)
        fronted = [a if ax is None else np.moveaxis(a, ax, 0) for a, ax in zip(flat, axes, strict=True)]
        rest = arrays_of((), kwargs)
        leaves = _batched_leaves(graph, axes, size)
        results = batch(graph.outputs, {x: b for x, b in zip(graph.inputs, leaves, strict=True) if x is not b}, size)
        outputs = tuple(_with_axis(y, has, size, out_axes) for y, has in results)
        joint = graph.replace(inputs=tuple(leaves), outputs=outputs)
        assert graph.out_tree is not None
        return graph.out_tree.unflatten(run(joint, [*fronted, *rest]))

    return mapped


def _axis_per_leaf(args: Sequence[Any], in_axes: Any, title: str) -> list[int | None]:
    per_argument = [in_axes] * len(args) if in_axes is None or isinstance(in_axes, int) else list(in_axes)
    if len(per_argument) != len(args):
        raise TypeError(f"{here()}: vmap({title}): in_axes has {len(per_argument)} entries for {len(args)} arguments")
    axes: list[int | None] = []
    for axis, arg in zip(per_argument, args, strict=True):
        axes += [axis] * len(leaves_of(arg)[0])
    return axes


def _batch_size(flat: Sequence[Any], axes: Sequence[int | None], title: str) -> int:
    sizes: dict[int, tuple[int, ...]] = {}
    for a, axis in zip(flat, axes, strict=True):
        if axis is not None:
            shape = aval_of(a).shape
            if not -len(shape) <= axis < len(shape):
                raise ShapeError(
                    f"{here()}: vmap({title}): an argument of shape {shape} has no axis {axis} to map over"
                )
            sizes.setdefault(shape[axis], shape)
    if len(sizes) != 1:
        what = "no argument is mapped" if not sizes else f"mapped axes differ in length: shapes {list(sizes.values())}"
        raise ShapeError(f"{here()}: vmap({title}): {what}")
    return next(iter(sizes))


def _examples(args: Sequence[Any], axes: Sequence[int | None]) -> tuple[Any, ...]:
    remaining = iter(axes)

    def one(leaf: Any) -> Any:
        axis, aval = next(remaining), aval_of(leaf)
        if axis is None:
            return aval
        shape = list(aval.shape)
        del shape[axis]
        return Aval(tuple(shape), aval.dtype)

    return tree_map(one, tuple(args))


def _batched_leaves(graph: Graph, axes: Sequence[int | None], size: int) -> list[Node]:
    mapped = [*axes, *[None] * (len(graph.inputs) - len(axes))]
    return [
        x if axis is None else new_input(Aval((size, *x.shape), x.dtype), graph.names.get(x, "x"))
        for x, axis in zip(graph.inputs, mapped, strict=True)
    ]


def _with_axis(node: Node, has: bool, size: int, out_axis: int) -> Node:
    if not has:
        node = OPS["broadcast"].make((node,), shape=(size, *node.shape), axes=tuple(range(1, node.ndim + 1)))
    return dsl.moveaxis(node, 0, out_axis)


def stop_gradient(x: Any) -> Any:
    """The identity, with derivative zero; any nesting of arrays."""
    return tree_map(lambda leaf: FUNCTIONS["stop_gradient"](leaf) if isinstance(leaf, Node) else leaf, x)


__all__ = ["grad", "hvp", "jvp", "stop_gradient", "value_and_grad", "vjp", "vmap"]
