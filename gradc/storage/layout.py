"""How a tree nests, as JSON: what of it is an array is named, everything else is said.

Enters: a tree, or text from a file, which may be hostile.  Leaves: a *layout*, a JSON value, and a tree again.
Invariant: `built(layout(tree))` has the same leaves at the same paths, whatever they are; reading a layout runs no code
and imports nothing.  Start reading at `layout`.

In a layout null, booleans, numbers, strings and arrays are themselves (an array is a list).  An object has one of the
keys of `_READERS`: ``{"array": name}``, ``{"scalar": name}``, ``{"tuple": […]}``, ``{"dict": [[key, value], …]}``,
``{"class": name, "as": "dict", "keys": […], "values": […]}``, ``{"int": "0x…"}``, ``{"float": "nan"}``,
``{"bytes": "…"}``, ``{"dtype": name}``, ``{"name": text}``.  docs/checkpoints.md explains them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gradc import containers
from gradc.aval import canonical_dtype
from gradc.containers import Structure

Json = Any
Path = tuple[Any, ...]
#: integers of more bits than this are written as hexadecimal text: readers of JSON keep at most 64 bits
_PLAIN_BITS = 53


def layout(structure: Structure, leaf: Callable[[int], Json]) -> Json:
    """The layout of a tree; ``leaf(i)`` is that of its array number i."""
    return structure.fold(leaf, fixed, _branch)


def _branch(kind: type, keys: tuple[Any, ...], parts: tuple[Json, ...], order: tuple[Any, ...], named: bool) -> Json:
    if kind is list:
        return list(parts)
    if kind is tuple:
        return {"tuple": list(parts)}
    if kind is dict:
        held = dict(zip(keys, parts, strict=True))
        return {"dict": [[fixed(key), held[key]] for key in order]}
    fields = getattr(kind, "_fields", ())
    if issubclass(kind, tuple) and len(fields) == len(keys):
        keys, named = fields, True
    elif len(set(keys)) < len(keys):
        keys = tuple(range(len(keys)))
    places = keys == tuple(range(len(keys)))
    shown = "dict" if named or issubclass(kind, dict) or not places else "tuple" if issubclass(kind, tuple) else "list"
    name = f"{kind.__module__}.{kind.__qualname__}"
    return {"class": name, "as": shown, "keys": [fixed(k) for k in keys], "values": list(parts)}


def fixed(value: Any) -> Json:
    """The layout of a value that is no array: a static one, a key, a Python number."""
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int:
        return value if value.bit_length() <= _PLAIN_BITS else {"int": hex(value)}
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if type(value) is bytes:
        return {"bytes": value.hex()}
    if type(value) is tuple:
        return {"tuple": [fixed(v) for v in value]}
    if type(value) is list:
        return [fixed(v) for v in value]
    if type(value) is dict:
        return {"dict": [[fixed(k), fixed(v)] for k, v in value.items()]}
    if isinstance(value, np.dtype):
        return {"dtype": value.name}
    return {"name": _name_of(value)}


def _name_of(value: Any) -> str:
    """What only code can make again, by name: a function, a class, a member of an Enum, or the class of the value."""
    owner = value if hasattr(value, "__qualname__") else type(value)
    name = f"{owner.__module__}.{owner.__qualname__}"
    member = getattr(value, "name", None)
    return f"{name}.{member}" if owner is not value and isinstance(member, str) else name


def text_of(value: Json) -> str:
    """A layout as one line of ASCII."""
    return json.dumps(value, separators=(",", ":"))


# -- read again --------------------------------------------------------------------------------------------------------


def entries(value: Json, path: Path = ()) -> Iterator[tuple[Path, Json]]:
    """The leaves of a layout, each with its path: the keys on the way to it.

    Paths do not say what kind of container is met, so a dataclass and a dict with the same names have the same ones.
    Raises ValueError or TypeError for what is no layout.
    """
    parts = _parts(value)
    if parts is None:
        yield path, value
        return
    for key, part in parts:
        yield from entries(part, (*path, key))


def path_text(path: Path) -> str:
    """A path as the user writes it, on one line."""
    return containers.path_text(path).removeprefix(".") or "the tree"


def tensor_name(path: Path) -> str:
    """A path as it is written in names of tensors: ``layers.0.weight``."""
    name = ".".join(key if isinstance(key, str) else repr(key) for key in path) or "value"
    return name.encode("utf-8", "backslashreplace").decode()


def _parts(value: Json) -> list[tuple[Any, Json]] | None:
    """The parts of a container by key; None for a leaf."""
    if isinstance(value, list):
        return list(enumerate(value))
    if not isinstance(value, dict):
        return None
    if "tuple" in value:
        return list(enumerate(_list(value["tuple"])))
    if "dict" in value:
        pairs = [_list(pair, 2) for pair in _list(value["dict"])]
        return _unrepeated([(built(key, _no_array), part) for key, part in pairs])
    if "class" in value:
        keys, parts = _list(value["keys"]), _list(value["values"])
        return _unrepeated([(built(key, _no_array), part) for key, part in zip(keys, parts, strict=True)])
    return None


def _unrepeated(pairs: list[tuple[Any, Json]]) -> list[tuple[Any, Json]]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key stands there twice")
    return pairs


def _list(value: Json, length: int | None = None) -> list[Any]:
    if not isinstance(value, list) or length not in (None, len(value)):
        raise ValueError("a list is missing")
    return value


def _no_array(leaf: Json) -> Any:
    raise ValueError("an array where a key belongs")


def built(value: Json, array: Callable[[Json], Any]) -> Any:
    """The tree of a layout in dicts, lists and tuples; ``array(leaf)`` is the value of ``{"array": …}`` and the like.

    Raises ValueError, TypeError, KeyError or OverflowError for what is no layout.
    """
    parts = _parts(value)
    if parts is None:
        return leaf_value(value, array)
    filled = [(key, built(part, array)) for key, part in parts]
    kind = "list" if isinstance(value, list) else value["as"] if "class" in value else next(iter(value))
    if kind == "dict":
        return dict(filled)
    listed = [part for _, part in filled]
    return tuple(listed) if kind == "tuple" else listed


def leaf_value(value: Json, array: Callable[[Json], Any]) -> Any:
    """The value of a leaf of a layout."""
    if not isinstance(value, dict):
        return value
    (key, said), *others = value.items()
    if others or not isinstance(said, str):
        raise ValueError("a leaf with no meaning")
    return array(value) if key in ARRAYS else _READERS[key](said)


#: keys of leaves whose values are tensors: arrays, and NumPy's scalars
ARRAYS = ("array", "scalar")
_READERS: dict[str, Callable[[str], Any]] = {
    "int": lambda text: int(text, 16),
    "float": float,
    "bytes": bytes.fromhex,
    "dtype": canonical_dtype,
    "name": str,
}
