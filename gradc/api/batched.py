"""vmap: a function applied along an axis of its arguments, as one batched graph.

Enters: a function, and an axis for every array of the arguments and of the results, given for each or for a whole
container.  Leaves: the function on arrays with that axis.  Batching itself is one rule per kind of op
(`gradc.diff.batching`).  Start reading at `vmap`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradc.api.derivatives import arrays_of, title_of
from gradc.api.transform import Transform
from gradc.aval import Aval
from gradc.containers import flatten, is_static, leaf_map, leaves_of, one_level, path_text
from gradc.diff.batching import batch
from gradc.errors import ShapeError
from gradc.graph import Graph
from gradc.node import OPS, Node, dsl, here
from gradc.trace import argument_names, aval_of, new_input, run, trace

Axis = int | None


def vmap(
    f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0, axis_size: int | None = None
) -> Callable[..., Any]:
    """``f`` applied along an axis of its arguments, as one batched graph.

    ``in_axes``: the axis to walk along, counted from the end if negative, or None for what is the same for all; an int
    for every array of every argument, or a tuple with one entry per positional argument, each an int or None for every
    array in it or a tree of such, nested like the argument down to where one entry is for all below:
    ``in_axes=({"w": 0, "b": None}, 1)``.  Arrays in keyword arguments are the same for all.
    ``out_axes``: where the new axis stands in the results, likewise; None for a result that is the same for all.
    ``axis_size``: the length of the axis, needed only where no argument has it.

    Raises ShapeError, naming the arguments, for an axis that is not there and for lengths that differ; TypeError for
    axes that do not nest like what they are for.

    >>> import numpy as np
    >>> vmap(lambda d: d["a"] * d["b"], in_axes=({"a": 0, "b": None},))({"a": np.array([1.0, 2.0]), "b": 3.0})
    array([3., 6.])
    """
    title = title_of(f, "vmap")
    _check_axes(in_axes, f"vmap({title}): in_axes")
    _check_axes(out_axes, f"vmap({title}): out_axes")
    if axis_size is not None:
        axis_size = _size(axis_size, title)
    return Mapped(f, in_axes, out_axes, axis_size)


class Mapped(Transform):
    """See `vmap`."""

    def __init__(self, f: Callable[..., Any], in_axes: Any, out_axes: Any, axis_size: int | None):
        super().__init__(f, in_axes, out_axes, axis_size)
        self.in_axes, self.out_axes, self.axis_size = in_axes, out_axes, axis_size

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        flat, paths, structure = flatten((args, {}))
        names = argument_names(self.function, args, {}, paths)
        axes = self._axis_per_leaf(args)
        avals = [aval_of(a, n) for a, n in zip(flat, names, strict=True)]
        axes = [self._counted(axis, a, n) for axis, a, n in zip(axes, avals, names, strict=True)]
        size = self._length(avals, axes, names)
        examples, _ = structure.unflatten(_row(a, axis) for a, axis in zip(avals, axes, strict=True))
        graph = trace(self.function, *examples, **kwargs)
        fronted = [a if axis is None else np.moveaxis(a, axis, 0) for a, axis in zip(flat, axes, strict=True)]
        leaves = _batched_leaves(graph, axes, size)
        wide = {x: b for x, b in zip(graph.inputs, leaves, strict=True) if x is not b}
        joint = graph.replace(inputs=tuple(leaves), outputs=self._placed(graph, batch(graph.outputs, wide, size), size))
        assert graph.out_tree is not None
        return graph.out_tree.unflatten(run(joint, [*fronted, *arrays_of((), kwargs)]))

    def _axis_per_leaf(self, args: Sequence[Any]) -> list[Axis]:
        given = self.in_axes
        entries = [given] * len(args) if given is None or _is_axis(given) else list(given)
        if len(entries) != len(args):
            raise TypeError(
                f"{here()}: vmap({self.title}): in_axes has {len(entries)} entries for {len(args)} arguments; one each"
            )
        return [
            axis
            for i, (entry, arg) in enumerate(zip(entries, args, strict=True))
            for axis in _spread(entry, arg, f"{here()}: vmap({self.title}): in_axes[{i}]", "the argument")
        ]

    def _counted(self, axis: Axis, aval: Aval, name: str) -> Axis:
        """The axis counted from the front."""
        if axis is None:
            return None
        if not -aval.ndim <= axis < aval.ndim:
            raise ShapeError(
                f"{here()}: vmap({self.title}): {name} has shape {aval.shape}, so no axis {axis} to map over"
            )
        return axis % aval.ndim

    def _length(self, avals: Sequence[Aval], axes: Sequence[Axis], names: Sequence[str]) -> int:
        """How long the mapped axes are."""
        found = [(a.shape[x], x, n) for a, x, n in zip(avals, axes, names, strict=True) if x is not None]
        sizes = {size for size, _, _ in found} | ({self.axis_size} if self.axis_size is not None else set())
        if not sizes:
            raise ShapeError(f"{here()}: vmap({self.title}): no argument is mapped; give axis_size= if that is meant")
        if len(sizes) > 1:
            said = [f"axis_size is {self.axis_size}"] if self.axis_size is not None else []
            said += [f"{n} has {size} along axis {x}" for size, x, n in found]
            raise ShapeError(f"{here()}: vmap({self.title}): mapped axes differ in length: {', '.join(said[:12])}")
        (size,) = sizes
        return int(size)

    def _placed(self, graph: Graph, results: Sequence[tuple[Node, bool]], size: int) -> tuple[Node, ...]:
        """The results with the new axis where ``out_axes`` says."""
        assert graph.out_tree is not None
        tree = graph.out_tree.unflatten([y for y, _ in results])
        axes = _spread(self.out_axes, tree, f"{here()}: vmap({self.title}): out_axes", "the result")
        names = [f"result{path_text(path)}" for path in flatten(tree)[1]]
        return tuple(
            self._with_axis(y, has, size, axis, name) for (y, has), axis, name in zip(results, axes, names, strict=True)
        )

    def _with_axis(self, node: Node, has: bool, size: int, axis: Axis, name: str) -> Node:
        if axis is None:
            if has:
                raise ShapeError(
                    f"{here()}: vmap({self.title}): out_axes is None for {name}, which is not the same for all; "
                    "give it an axis"
                )
            return node
        if not has:
            node = OPS["broadcast"].make((node,), shape=(size, *node.shape), axes=tuple(range(1, node.ndim + 1)))
        if not -node.ndim <= axis < node.ndim:
            raise ShapeError(
                f"{here()}: vmap({self.title}): out_axes: axis {axis} is out of bounds for {name}, of shape "
                f"{node.shape} with the new axis"
            )
        return dsl.moveaxis(node, 0, axis)


def _row(aval: Aval, axis: Axis) -> Aval:
    """What the function sees of an argument."""
    return aval if axis is None else Aval(aval.shape[:axis] + aval.shape[axis + 1 :], aval.dtype)


def _batched_leaves(graph: Graph, axes: Sequence[Axis], size: int) -> list[Node]:
    mapped = [*axes, *[None] * (len(graph.inputs) - len(axes))]
    return [
        x if axis is None else new_input(Aval((size, *x.shape), x.dtype), graph.names.get(x, "x"))
        for x, axis in zip(graph.inputs, mapped, strict=True)
    ]


# -- axes as trees -----------------------------------------------------------------------------------------------------


def _is_axis(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _check_axes(axes: Any, what: str) -> None:
    """Axes are ints and None in any nesting."""

    def check(leaf: Any) -> None:  # None is no leaf, and a static one stands where the tree has one
        if not _is_axis(leaf) and (isinstance(leaf, bool) or not is_static(leaf)):
            raise TypeError(f"{here()}: {what}: an axis is an integer or None, got {leaf!r:.60}")

    leaf_map(check, axes)


def _spread(axes: Any, tree: Any, place: str, what: str) -> list[Axis]:
    """The axis of every array in ``tree``; one entry of ``axes`` is for all arrays in what stands at its place."""
    if axes is None or _is_axis(axes):
        return [None if axes is None else operator.index(axes)] * len(leaves_of(tree)[0])
    mine, theirs = one_level(axes), one_level(tree)
    if theirs is None and mine is None and not leaves_of(tree)[0]:
        return []
    if theirs is None:
        raise TypeError(f"{place} is {axes!r:.60}, but {what} is no container there; an int or None goes there")
    if mine is None or mine.keys() != theirs.keys():
        shown = ", ".join(map(repr, theirs))
        raise TypeError(f"{place} is {axes!r:.60}, but {what} there has the parts {shown:.120}; give an axis for each")
    return [
        axis for key, part in theirs.items() for axis in _spread(mine[key], part, f"{place}{path_text([key])}", what)
    ]


def _size(value: Any, title: str) -> int:
    try:
        size = operator.index(value)
    except TypeError:
        size = -1
    if size < 0:
        raise TypeError(f"{here()}: vmap({title}): axis_size must be an integer >= 0, got {value!r:.40}")
    return size


__all__ = ["vmap"]
