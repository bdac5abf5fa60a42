"""Containers of arrays: how a user's nesting of tuple, list, dict, named tuple and dataclass becomes a flat list and
back.

Enters: any nesting.  Leaves: leaves with their paths, and a hashable `Structure`.  optree does the work; dataclasses
and subclasses of dict, list and tuple are taught to it the first time they are met.  Strings, bools, None, Enums,
dtypes and callables are static by nature: part of the structure, never arrays.
Invariant: an object is rebuilt from what it holds, and no constructor of the user's runs again.  Start reading at
`Structure`; classes are taught at `register`.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import functools
import itertools
import pickle
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MemberDescriptorType
from typing import Any, Protocol, TypeVar

import numpy as np
import optree

from gradc.aval import BFLOAT16, Aval
from gradc.errors import MissingNameError, ShapeError, TraceError
from gradc.node import Node, here

NAMESPACE = "gradc"
T = TypeVar("T")
#: dataclasses that optree was taught here
_dataclasses: set[type] = set()
#: subclasses of builtin containers that it was taught here
_subclasses: set[type] = set()
#: all classes that it was taught here, or by the user
_taught: set[type] = set()
#: nestings in which nothing is left to be taught
_known_specs: set[Any] = set()
_MOST_KNOWN = 4096
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

    def __reduce__(self) -> tuple[Any, ...]:
        """It travels with the classes that must be known before optree can read it."""
        found = _kinds_of(self.spec)
        taught = [kind for kind in found if kind in _dataclasses or kind in _subclasses]
        return _arrived, (taught, pickle.dumps(self.spec), self.static)

    def __str__(self) -> str:
        """The nesting, ``*`` for each array."""
        return self.fold(lambda _: "*", lambda value: f"{value!r:.40}", _branch_text)

    @property
    def is_leaf(self) -> bool:
        """Whether the tree is one array and nothing else."""
        return not self.static and bool(self.spec.is_leaf())

    @property
    def of_arrays(self) -> Structure:
        """The same nesting with None in place of static leaves: that of gradients and tangents."""
        return Structure(self.spec, tuple((i, None) for i, _ in self.static)) if self.static else self

    @property
    def size(self) -> int:
        """How many arrays it has."""
        count: int = self.spec.num_leaves
        return count - len(self.static)

    def unflatten(self, arrays: Iterable[Any]) -> Any:
        """The user's nesting, filled with ``arrays`` in order; ShapeError for more or fewer than it holds."""
        leaves = arrays
        if self.static:
            leaves = list(arrays)
            for position, value in self.static:
                leaves.insert(position, value.value if isinstance(value, Static) else value)
        try:
            return optree.tree_unflatten(self.spec, leaves)
        except ValueError as error:
            if "leaves for PyTreeSpec" in str(error):
                raise ShapeError(f"{here()}: {self} takes {self.size} arrays, it was given more or fewer") from None
            raise

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
            parts = tuple(map(folded, spec.children()))
            if spec.type in _dataclasses:
                rest = _static_attributes(spec.one_level().unflatten(keys), keys)
                keys, parts = (*keys, *rest), (*parts, *map(fixed, rest.values()))
            order = tuple(spec.one_level().unflatten(keys)) if spec.type is dict else keys
            return branch(spec.type, keys, parts, order, spec.type in _dataclasses)

        return folded(self.spec)


def _branch_text(kind: type, keys: tuple[Any, ...], parts: tuple[str, ...], order: tuple[Any, ...], _: bool) -> str:
    """A container as code."""
    inner = dict(zip(keys, parts, strict=True))
    if kind is dict:
        return "{" + ", ".join(f"{k!r}: {inner[k]}" for k in order) + "}"
    named = all(isinstance(k, str) for k in keys)
    listed = ", ".join(f"{k}={part}" for k, part in inner.items()) if named and keys else ", ".join(parts)
    if kind is tuple:
        return f"({listed},)" if len(parts) == 1 else f"({listed})"
    return f"[{listed}]" if kind is list else f"{kind.__name__}({listed})"


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


def _teach(cls: Any, parts: Any, build: Any, **options: Any) -> None:
    """optree's own types want a Collection; any class will do.  What it knew of the class is forgotten."""
    if cls in _taught:
        optree.unregister_pytree_node(cls, namespace=NAMESPACE)
    optree.register_pytree_node(cls, parts, build, namespace=NAMESPACE, **options)
    _taught.add(cls)
    _dataclasses.discard(cls)
    _known_specs.clear()


_teach(
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
    while any(_met(leaf) for leaf in leaves) or _met_inside(spec):
        paths, leaves, spec = optree.tree_flatten_with_path(tree, namespace=NAMESPACE)
    static = tuple((i, Static.of(v)) for i, v in enumerate(leaves) if is_static(v))
    dynamic = [i for i, v in enumerate(leaves) if not is_static(v)]
    return [leaves[i] for i in dynamic], [paths[i] for i in dynamic], Structure(spec, static)


def leaves_of(tree: Any) -> tuple[list[Any], Structure]:
    """`flatten` without paths: the fast way on every call."""
    leaves, spec = optree.tree_flatten(tree, namespace=NAMESPACE)
    if spec not in _known_specs and _met_inside(spec):
        return leaves_of(tree)
    for leaf in leaves:
        if type(leaf) not in _PLAIN:
            break
    else:
        return leaves, Structure(spec)
    if any(_met(leaf) for leaf in leaves):
        return leaves_of(tree)
    static = tuple((i, Static.of(v)) for i, v in enumerate(leaves) if is_static(v))
    if not static:
        return leaves, Structure(spec)
    return [v for v in leaves if not is_static(v)], Structure(spec, static)


def tree_map(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply ``function`` to each array leaf (and the matching leaves of ``rest``); static leaves stay.

    Those of ``rest`` may be others: gradients have None there.
    """
    leaves, structure = leaves_of(tree)
    others = []
    for other in rest:
        flat, shape = leaves_of(other)
        if shape.spec != structure.spec and _bare(shape) != _bare(structure):
            raise TraceError(f"{here()}: trees nest differently: {structure} and {shape}")
        others.append(flat)
    return structure.unflatten(function(*group) for group in zip(leaves, *others, strict=True))


def _bare(structure: Structure) -> Any:
    """The nesting of the arrays alone, None at every other place."""
    if not structure.static:
        return structure.spec
    return optree.tree_structure(structure.of_arrays.unflatten([0] * structure.size), namespace=NAMESPACE)


def leaf_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply ``function`` to every leaf, static ones included."""
    leaves, spec = optree.tree_flatten(tree, namespace=NAMESPACE)
    while any(_met(leaf) for leaf in leaves):
        leaves, spec = optree.tree_flatten(tree, namespace=NAMESPACE)
    return optree.tree_unflatten(spec, [function(leaf) for leaf in leaves])


def one_level(tree: Any) -> dict[Any, Any] | None:
    """The parts of a container, by position, key or field; None for what is no container."""
    leaves_of(tree)  # its class is known from here on
    if tree is None or optree.tree_is_leaf(tree, namespace=NAMESPACE):
        return None
    children, _, entries, _ = optree.tree_flatten_one_level(tree, namespace=NAMESPACE)
    return dict(zip(entries, children, strict=True))


def path_text(path: Iterable[Any]) -> str:
    """A place in a container as code, on one line whatever its keys are: ``[0].weight``, ``['two words']``."""
    return "".join(f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]" for key in path)


# -- classes -----------------------------------------------------------------------------------------------------------


def no_such_name(said: str, name: Any, known: Iterable[Any]) -> MissingNameError:
    """The error for ``name``, which is none of ``known``: what is ``said``, the names that there are, the nearest."""
    names = list(map(str, known))
    near = difflib.get_close_matches(str(name), names)
    nearest = f"; nearest: {', '.join(near)}" if near else ""
    return MissingNameError(f"{said}; it has {', '.join(names) or 'nothing yet'}{nearest}")


def register(cls: type, flatten: Callable[[Any], Any], unflatten: Callable[[Any, Iterable[Any]], Any]) -> None:
    """Instances of ``cls`` are containers from here on.

    ``flatten(value) -> (children, static)`` or ``(children, static, names)``; ``unflatten(static, children)``.
    """

    def parts(value: Any) -> tuple[Any, ...]:
        found = flatten(value)
        if not isinstance(found, tuple) or len(found) not in (2, 3):
            raise TypeError(
                f"{here()}: flatten of {cls.__name__} must return (children, static) or (children, static, names), "
                f"got {found!r:.60}"
            )
        return (found[0], _static_part(found[1], f"the static part of {cls.__name__}"), *found[2:])

    _teach(cls, parts, lambda static, children: unflatten(static.value, children))


def _static_part(value: Any, what: str) -> Static:
    """Static parts are compared, as part of the key of what is compiled."""
    made = Static.of(value)
    try:
        hash(made)
    except TypeError:
        raise TypeError(
            f"{here()}: {what} must be hashable, got {type(value).__name__}; arrays are no static parts, and a tuple "
            "does in place of a list"
        ) from None
    return made


def _met(leaf: Any) -> bool:
    """Teach optree the class of what it took for a leaf; True if that was news."""
    cls = type(leaf)
    if cls in _taught or isinstance(leaf, (type, Aval, Node, Structure)):
        return False
    if not dataclasses.is_dataclass(cls) and not isinstance(leaf, tuple(_BUILTIN)):
        return False
    _teach_class(cls)
    return True


def _teach_class(cls: Any) -> None:
    """Teach optree a dataclass or a subclass of a builtin container."""
    kind: Any = cls
    if dataclasses.is_dataclass(cls):
        _teach(kind, *_dataclass_ways(kind), path_entry_type=optree.GetAttrEntry)
        _dataclasses.add(kind)
        return
    _subclasses.add(cls)
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # optree's, that it knew named tuples already
            _teach(cls, *_named_tuple_ways(cls), path_entry_type=optree.GetAttrEntry)
        return
    ways = next(ways for kind, ways in _BUILTIN.items() if issubclass(cls, kind))
    _teach(cls, *ways(cls))


def _met_inside(spec: Any) -> bool:
    """Teach optree the named tuples with a constructor of their own, which it would call; True if one was news."""
    if spec in _known_specs:
        return False
    new = [k for k in _kinds_of(spec) - _taught if issubclass(k, tuple) and _constructs(k)]
    for kind in new:
        _teach_class(kind)
    if not new:
        if len(_known_specs) >= _MOST_KNOWN:
            _known_specs.clear()
        _known_specs.add(spec)
    return bool(new)


def _kinds_of(spec: Any) -> set[type]:
    """The classes of the containers in a nesting."""
    pending, kinds = [spec], set()
    while pending:
        part = pending.pop()
        pending += part.children()
        kinds.add(part.type)
    return {kind for kind in kinds if isinstance(kind, type)}


def _arrived(taught: Sequence[type], spec: bytes, static: tuple[tuple[int, Any], ...]) -> Structure:
    """A `Structure` that was pickled."""
    for kind in taught:
        if kind not in _taught:
            _teach_class(kind)
    return Structure(pickle.loads(spec), static)


def _constructs(kind: Any) -> bool:
    """Whether a named tuple is made by more than what `collections.namedtuple` wrote."""
    made_by = getattr(kind.__new__, "__globals__", {}).get("__name__", "")
    return hasattr(kind, "_fields") and (not made_by.startswith("namedtuple_") or kind.__init__ is not object.__init__)


def _named_tuple_ways(cls: Any) -> Ways:
    parts, build = _tuple_ways(cls)
    return lambda value: (*parts(value), cls._fields), build


def _dataclass_ways(cls: type) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A dataclass comes apart into its fields and whatever else an instance holds, and is filled again as it was.

    Static are the fields that say so (see `gradc.tree.static`), and of other attributes all but arrays and containers.
    """
    fields = {f.name: bool(f.metadata.get("static")) or f.metadata.get("pytree_node") is False
              for f in dataclasses.fields(cls)}  # fmt: skip

    def parts(value: Any) -> tuple[Sequence[Any], Any, Sequence[str]]:
        names, children, static = [], [], []
        for name, part in _attributes(value, fields):
            if fields[name] if name in fields else not _is_part(part):
                key = _static_part(part, f"{cls.__name__}.{name}, which is static,") if name in fields else _same(part)
                static.append((name, key))
            else:
                names.append(name)
                children.append(part)
        return children, (tuple(names), tuple(static)), names

    def build(held: Any, children: Iterable[Any]) -> Any:
        names, static = held
        return _filled(cls, itertools.chain(zip(names, children, strict=True), ((n, s.value) for n, s in static)))

    return parts, build


def _attributes(value: Any, fields: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """What an instance of a dataclass holds: its fields first, then other attributes by name.

    A cached property is none: it is computed again from the rest.
    """
    for name in fields:
        if hasattr(value, name):
            yield name, getattr(value, name)
    others = {**_slots(value), **getattr(value, "__dict__", {})}
    for name in sorted(others.keys() - set(fields)):
        if not isinstance(getattr(type(value), name, None), functools.cached_property):
            yield name, others[name]


def _slots(value: Any) -> dict[str, Any]:
    """What stands in the slots of an instance."""
    names = {n for c in type(value).__mro__ for n, d in vars(c).items() if isinstance(d, MemberDescriptorType)}
    return {n: getattr(value, n) for n in names if hasattr(value, n)}


def _is_part(value: Any) -> bool:
    """Whether an attribute that is no field is an array or a container of arrays."""
    return isinstance(value, (np.ndarray, np.generic, Node, Aval, dict, list, tuple)) or type(value) in _taught


def _same(value: Any) -> Static:
    """A static value, compared by identity if it cannot be by value."""
    made = Static.of(value)
    try:
        hash(made)
    except TypeError:
        return Static(value, (type(value), id(value)))
    return made


def _static_attributes(shell: Any, keys: Sequence[str]) -> dict[str, Any]:
    """The attributes of a rebuilt instance other than its parts."""
    fields = [f.name for f in dataclasses.fields(shell)]
    return {name: value for name, value in _attributes(shell, fields) if name not in keys}


def _filled(cls: Any, attributes: Iterable[tuple[str, Any]]) -> Any:
    """A new instance that holds ``attributes``; neither ``__init__`` nor a ``__setattr__`` of the class runs."""
    made = object.__new__(cls) if cls.__new__ is object.__new__ else cls.__new__(cls)
    for name, value in attributes:
        object.__setattr__(made, name, value)
    return made


Ways = tuple[Callable[..., Any], Callable[..., Any]]


def _mapping_ways(cls: type, base: Any) -> Ways:
    """A subclass of dict comes apart into its values, in its own order."""

    def parts(value: Any) -> tuple[Any, ...]:
        factory = value.default_factory if isinstance(value, defaultdict) else None
        keys = tuple(base.keys(value))
        return [base.__getitem__(value, k) for k in keys], (keys, factory, _held(value)), keys

    def build(held: Any, children: Iterable[Any]) -> Any:
        keys, factory, attributes = held
        made = _filled_builtin(base.__new__(cls), attributes)
        if factory is not None:
            made.default_factory = factory
        for key, child in zip(keys, children, strict=True):
            base.__setitem__(made, key, child)
        return made

    return parts, build


def _list_ways(cls: type) -> Ways:
    def build(attributes: Any, children: Iterable[Any]) -> Any:
        made = _filled_builtin(list.__new__(cls), attributes)
        list.extend(made, children)
        return made

    return lambda value: (list(list.__iter__(value)), _held(value)), build


def _tuple_ways(cls: Any) -> Ways:
    def build(attributes: Any, children: Iterable[Any]) -> Any:
        return _filled_builtin(tuple.__new__(cls, children), attributes)

    return lambda value: (list(tuple.__iter__(value)), _held(value)), build


def _held(value: Any) -> tuple[tuple[str, Static], ...]:
    """The attributes of an instance of a subclass of a builtin container."""
    return tuple((name, _same(held)) for name, held in sorted(getattr(value, "__dict__", {}).items()))


def _filled_builtin(made: Any, attributes: Iterable[tuple[str, Static]]) -> Any:
    for name, static in attributes:
        object.__setattr__(made, name, static.value)
    return made


_BUILTIN: Mapping[type, Callable[[type], Ways]] = {
    OrderedDict: lambda cls: _mapping_ways(cls, OrderedDict),
    defaultdict: lambda cls: _mapping_ways(cls, defaultdict),
    dict: lambda cls: _mapping_ways(cls, dict),
    list: _list_ways,
    tuple: _tuple_ways,
}
