"""Containers of arrays: how a user's nesting of tuple, list, dict, named tuple and dataclass becomes a flat list and
back.

Enters: any nesting.  Leaves: leaves with their paths, and a hashable `Structure`.  optree does the work; plain
dataclasses are registered with it the first time they are met.  Strings, bools, None, Enums, dtypes and callables are
static by nature: part of the structure, never arrays.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import optree

from gradc.aval import BFLOAT16, Aval
from gradc.errors import TraceError
from gradc.node import Node

NAMESPACE = "gradc"
T = TypeVar("T")
_registered: set[type] = set()
#: leaves that are arrays for sure, the usual case
_PLAIN = {np.ndarray, float, int, np.float16, np.float32, np.float64, BFLOAT16.type}


class MakeBranch(Protocol[T]):
    """What makes something of a container and of what its parts became; see `Structure.fold`."""

    def __call__(
        self, kind: type, keys: tuple[Any, ...], parts: tuple[T, ...], order: tuple[Any, ...], is_dataclass: bool, /
    ) -> T: ...


@dataclass(frozen=True, slots=True)
class Structure:
    """The nesting of some arrays, and the static values between them.  Equal structures mean one compiled function."""

    spec: Any
    static: tuple[tuple[int, Any], ...] = ()

    @property
    def is_leaf(self) -> bool:
        """Whether the tree is one array and nothing else."""
        return not self.static and bool(self.spec.is_leaf())

    def unflatten(self, arrays: Iterable[Any]) -> Any:
        """The user's nesting, filled with ``arrays`` in order."""
        if not self.static:
            return optree.tree_unflatten(self.spec, arrays)
        leaves = list(arrays)
        for position, value in self.static:
            leaves.insert(position, value.value if isinstance(value, Static) else value)
        return optree.tree_unflatten(self.spec, leaves)

    def parts_of(self, tree: Any) -> list[Any]:
        """What ``tree`` has in the place of each array; ValueError if it nests otherwise."""
        static = dict(self.static)
        return [part for i, part in enumerate(self.spec.flatten_up_to(tree)) if i not in static]

    def fold(self, array: Callable[[int], T], fixed: Callable[[Any], T], branch: MakeBranch[T]) -> T:
        """The nesting built up again from its leaves: ``array(number)`` for each array, ``fixed(value)`` for everything
        else that is not a container, and for a container ``branch(class, keys, parts, order, is a dataclass)``.

        A part is reached by a position, a key or a field's name; ``order`` are the keys as the container gives them,
        which for a dict is not the order of the parts.
        """
        static = dict(self.static)
        places, arrays = itertools.count(), itertools.count()

        def folded(spec: Any) -> T:
            if spec.is_leaf():
                place = next(places)
                if place not in static:
                    return array(next(arrays))
                value = static[place]
                return fixed(value.value if isinstance(value, Static) else value)
            if spec.num_children == 0 and spec.type in (type(None), Pinned):
                value = spec.one_level().unflatten(())
                return fixed(value.value if isinstance(value, Pinned) else value)
            keys = tuple(spec.entries())
            order = tuple(spec.one_level().unflatten(keys)) if spec.type is dict else keys
            return branch(spec.type, keys, tuple(map(folded, spec.children())), order, spec.type in _registered)

        return folded(self.spec)


@dataclass(frozen=True, slots=True)
class Static:
    """A static value, compared by types and bit patterns: 1, 1.0 and True differ, 0.0 and −0.0 too, a NaN is itself."""

    value: Any = field(compare=False)
    key: Hashable

    @classmethod
    def of(cls, value: Any) -> Static:
        """``value`` with what it is compared by."""
        return cls(value, _key(value))


def _key(value: Any) -> Hashable:
    if isinstance(value, float):
        return type(value), value.hex()
    if isinstance(value, tuple):
        return type(value), tuple(map(_key, value))
    return type(value), value


class Pinned:
    """A value that the user declared static: a container without arrays, so it is part of the structure."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value


def _register(cls: Any, parts: Any, build: Any, **options: Any) -> None:
    """optree's own types want a Collection; any class will do."""
    optree.register_pytree_node(cls, parts, build, namespace=NAMESPACE, **options)


_register(
    Pinned,
    lambda pinned: ((), Static.of(pinned.value)),
    lambda static, _: Pinned(static.value),
)


def is_static(leaf: Any) -> bool:
    """Whether a leaf can never be an array."""
    return isinstance(leaf, (bool, str, bytes, enum.Enum, np.dtype, type)) or (
        callable(leaf) and not hasattr(leaf, "__array__") and not isinstance(leaf, (Node, Aval))
    )


def flatten(tree: Any) -> tuple[list[Any], list[tuple[Any, ...]], Structure]:
    """Array leaves, their paths and the structure (with static leaves inside)."""
    paths, leaves, spec = optree.tree_flatten_with_path(tree, namespace=NAMESPACE)
    while any(_register_dataclass(leaf) for leaf in leaves):
        paths, leaves, spec = optree.tree_flatten_with_path(tree, namespace=NAMESPACE)
    static = tuple((i, Static.of(v)) for i, v in enumerate(leaves) if is_static(v))
    dynamic = [i for i, v in enumerate(leaves) if not is_static(v)]
    return [leaves[i] for i in dynamic], [paths[i] for i in dynamic], Structure(spec, static)


def leaves_of(tree: Any) -> tuple[list[Any], Structure]:
    """`flatten` without paths: the fast way on every call."""
    leaves, spec = optree.tree_flatten(tree, namespace=NAMESPACE)
    for leaf in leaves:
        if type(leaf) not in _PLAIN:
            break
    else:
        return leaves, Structure(spec)
    if any(_register_dataclass(leaf) for leaf in leaves):
        return leaves_of(tree)
    static = tuple((i, Static.of(v)) for i, v in enumerate(leaves) if is_static(v))
    if not static:
        return leaves, Structure(spec)
    return [v for v in leaves if not is_static(v)], Structure(spec, static)


def tree_map(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply ``function`` to each array leaf (and the matching leaves of ``rest``); static leaves stay."""
    leaves, structure = leaves_of(tree)
    others = []
    for other in rest:
        flat, shape = leaves_of(other)
        if shape.spec != structure.spec:
            raise TraceError(f"containers differ: {structure.spec} and {shape.spec}")
        others.append(flat)
    return structure.unflatten(function(*group) for group in zip(leaves, *others, strict=True))


def leaf_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply ``function`` to every leaf, static ones included."""
    leaves, spec = optree.tree_flatten(tree, namespace=NAMESPACE)
    while any(_register_dataclass(leaf) for leaf in leaves):
        leaves, spec = optree.tree_flatten(tree, namespace=NAMESPACE)
    return optree.tree_unflatten(spec, [function(leaf) for leaf in leaves])


def path_text(path: Iterable[Any]) -> str:
    """A place in a container as code: ``[0].weight``."""
    return "".join(f".{key}" if isinstance(key, str) else f"[{key}]" for key in path)


def every_leaf(tree: Any) -> list[Any]:
    """All leaves, static ones included."""
    return list(optree.tree_leaves(tree, namespace=NAMESPACE))


def _register_dataclass(leaf: Any) -> bool:
    """Teach optree a plain dataclass; True if that was news."""
    cls = type(leaf)
    if not dataclasses.is_dataclass(leaf) or isinstance(leaf, (type, Aval, Node)) or cls in _registered:
        return False
    names = tuple(f.name for f in dataclasses.fields(cls) if f.init)

    def parts(value: Any) -> tuple[Sequence[Any], Any, Sequence[Any]]:
        return [getattr(value, n) for n in names], None, names

    def build(_: Any, children: Iterable[Any]) -> Any:
        return cls(**dict(zip(names, children, strict=True)))

    _register(cls, parts, build, path_entry_type=optree.GetAttrEntry)
    _registered.add(cls)
    return True
