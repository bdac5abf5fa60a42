"""Trees: arrays in any nesting of tuple, list, dict, named tuple, dataclass and registered class.

Enters and leaves: trees, inside a trace and outside.  A *leaf* is an array or a number; strings, bools, None, Enums,
dtypes and callables are static, part of the `structure`.  What a tree is, is in `gradc.containers`; start reading at
`map` and `ravel`.

>>> import gradc as gc, numpy as np
>>> params = {"w": np.ones((2, 2)), "b": np.zeros(2), "act": "tanh"}
>>> gc.tree.paths(params)
['b', 'w']
>>> vector, unravel = gc.tree.ravel(params)
>>> vector.shape, unravel(vector)["act"]
((6,), 'tanh')
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, overload

import gradc.numpy as gnp
from gradc import containers
from gradc.aval import is_number
from gradc.containers import Structure, leaves_of, tree_map
from gradc.errors import DTypeError, ShapeError
from gradc.node import Node, here

Class = TypeVar("Class", bound=type)


def map(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """``function`` of each leaf of ``tree``, and of the leaves at the same places of ``rest``, nested like ``tree``.

    Static leaves stay as they are; ``rest`` may have None or other static leaves there, as gradients do.
    Raises TraceError if the trees nest differently.
    """
    if not callable(function):
        raise TypeError(f"{here()}: tree.map expects a function first, got {function!r:.60}")
    return tree_map(function, tree, *rest)


def leaves(tree: Any) -> list[Any]:
    """The arrays and numbers of ``tree``, in order: dicts by sorted keys, dataclasses by their fields."""
    return leaves_of(tree)[0]


def structure(tree: Any) -> Structure:
    """How ``tree`` nests, and its static leaves: hashable, and equal for trees that nest alike."""
    return leaves_of(tree)[1]


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The `leaves` and the `structure`."""
    return leaves_of(tree)


def unflatten(structure: Structure, leaves: Iterable[Any]) -> Any:
    """A tree that nests as ``structure`` says; raises TypeError if it takes another number of leaves.

    >>> unflatten(structure([1.0, (2.0,)]), [3.0, 4.0])
    [3.0, (4.0,)]
    """
    if not isinstance(structure, Structure):
        raise TypeError(f"{here()}: unflatten takes a structure first, then leaves, got {structure!r:.60}")
    flat = list(leaves)
    if len(flat) != structure.size:
        raise TypeError(f"{here()}: {structure} has {structure.size} leaves, got {len(flat)}")
    return structure.unflatten(flat)


def paths(tree: Any) -> list[str]:
    """The place of each leaf, as code: ``layers[0].weight``; "" for a tree that is a leaf."""
    return [containers.path_text(path).removeprefix(".") for path in containers.flatten(tree)[1]]


# -- one vector --------------------------------------------------------------------------------------------------------


class Unravel:
    """From a vector back to a tree; see `ravel`.  It can be pickled, and a compiled function sees it as static."""

    def __init__(self, structure: Structure, shapes: tuple[tuple[int, ...], ...], dtypes: tuple[Any, ...]):
        self.structure, self.shapes, self.dtypes = structure, shapes, dtypes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unravel) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.structure, self.shapes, self.dtypes))

    def __repr__(self) -> str:
        return f"<unravel to {self.structure}>"

    def __call__(self, vector: Any) -> Any:
        """The tree whose leaves are the parts of ``vector`` in order, each with its own shape and dtype."""
        sizes = [math.prod(s) for s in self.shapes]
        given = vector if isinstance(vector, Node) else gnp.asarray(vector)
        if given.shape != (sum(sizes),):
            raise ShapeError(f"{here()}: unravel takes a vector of {sum(sizes)} elements, got shape {given.shape}")
        if not is_number(given.dtype):
            raise DTypeError(f"{here()}: unravel takes a vector of numbers, got dtype {given.dtype}")
        parts, start = [], 0
        for size, shape, dtype in zip(sizes, self.shapes, self.dtypes, strict=True):
            part = gnp.reshape(given[start : start + size], shape)
            parts.append(gnp.astype(part, dtype) if shape else gnp.astype(part, dtype)[()])
            start += size
        return self.structure.unflatten(parts)


def ravel(tree: Any) -> tuple[Any, Unravel]:
    """All leaves as one vector, and the function that makes a tree like ``tree`` of such a vector.

    The vector has the dtype that NumPy gives the leaves together; the way back gives each leaf its own shape and dtype,
    whatever the dtype of the vector it is given.  What `scipy.optimize` wants::

        x0, unravel = gc.tree.ravel(params)
        f = gc.jit(gc.value_and_grad(lambda x: loss(unravel(x))))
        scipy.optimize.minimize(f, x0, jac=True)

    >>> import numpy as np
    >>> vector, unravel = ravel([np.ones(2, np.float32), (2.0,)])
    >>> vector, unravel(vector * 2)
    (array([1., 1., 2.]), [array([2., 2.], dtype=float32), (np.float64(4.0),)])
    """
    flat, nesting = leaves_of(tree)
    arrays = [x if isinstance(x, Node) else gnp.asarray(x) for x in flat]
    back = Unravel(nesting, tuple(x.shape for x in arrays), tuple(x.dtype for x in arrays))
    if not arrays:
        return gnp.zeros(0), back
    dtype = gnp.result_type(*arrays)
    return gnp.concatenate([gnp.reshape(gnp.astype(x, dtype), (-1,)) for x in arrays]), back


# -- classes -----------------------------------------------------------------------------------------------------------


def static(**options: Any) -> Any:
    """A field of a dataclass that is static: it is no array, and another value is another compiled function.

    Takes the options of `dataclasses.field`.  Its values must be hashable.  A field with ``metadata={"static": True}``
    (as Equinox writes it) or ``{"pytree_node": False}`` (Flax) is static as well.

    >>> import dataclasses, gradc as gc, numpy as np
    >>> @dataclasses.dataclass
    ... class Layer:
    ...     weight: np.ndarray
    ...     heads: int = gc.tree.static(default=4)
    >>> gc.tree.leaves(Layer(np.zeros(1)))
    [array([0.])]
    """
    metadata = {**(options.pop("metadata", None) or {}), "static": True}
    return dataclasses.field(metadata=metadata, **options)


@overload
def register(cls: Class, flatten: None = None, unflatten: None = None) -> Class: ...
@overload
def register(cls: Class, flatten: Callable[[Any], Sequence[Any]], unflatten: Callable[[Any, Any], Any]) -> Class: ...
def register(
    cls: Class,
    flatten: Callable[[Any], Sequence[Any]] | None = None,
    unflatten: Callable[[Any, Any], Any] | None = None,
) -> Class:
    """Make instances of ``cls`` trees; returns ``cls``, so that it can be a decorator.

    ``flatten(value)`` returns ``(children, static)``, or ``(children, static, names)`` with what `paths` calls each
    child; ``static`` is hashable.  ``unflatten(static, children)`` makes an instance again; it meets traced values and
    other placeholders, so it should not look at the children.  Without the two, the class has them as methods, under
    JAX's names ``tree_flatten(self)`` and ``tree_unflatten(cls, static, children)``.

    Dataclasses, and subclasses of dict, list and tuple, need no registration; what `optree` knows is known here.

    >>> import gradc as gc, numpy as np
    >>> class Affine:
    ...     def __init__(self, w, b):
    ...         self.w, self.b = w, b
    >>> _ = gc.tree.register(Affine, lambda m: ((m.w, m.b), None), lambda _, parts: Affine(*parts))
    >>> gc.grad(lambda m: m.w * 3.0 + m.b)(Affine(2.0, 1.0)).w
    np.float64(3.0)
    """
    if not isinstance(cls, type):
        raise TypeError(f"{here()}: tree.register takes a class, got {cls!r:.60}")
    flatten = flatten or getattr(cls, "tree_flatten", None)
    unflatten = unflatten or getattr(cls, "tree_unflatten", None)
    if not callable(flatten) or not callable(unflatten):
        raise TypeError(
            f"{here()}: tree.register({cls.__name__}) needs functions flatten and unflatten, or a class with methods "
            "tree_flatten and tree_unflatten"
        )
    containers.register(cls, flatten, unflatten)
    return cls


__all__ = [
    "Structure",
    "Unravel",
    "flatten",
    "leaves",
    "map",
    "paths",
    "ravel",
    "register",
    "static",
    "structure",
    "unflatten",
]


def __dir__() -> list[str]:
    return sorted(__all__)
