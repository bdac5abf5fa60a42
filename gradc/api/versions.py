"""The compiled versions of one function: so many at most, the least recently used one goes.

Enters: versions, by what tells calls apart.  Leaves: the version for a call, if it is still there.
Invariant: a version that is dropped costs time when it is called again, never a result; the first one that goes is
worth a warning, which names the argument whose shapes or values are so many.  Start reading at `Versions`.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gradc.containers import Pinned, Structure
from gradc.errors import VersionsWarning
from gradc.node import user_location

T = TypeVar("T")
#: What tells the versions of a function apart: how the arguments nest, with their static values, and of each array its
#: shape and dtype, and whether it is a Python number.
Key = tuple[Structure, tuple[Hashable, ...]]


class Versions(Generic[T]):
    """At most ``most`` versions of ``function``."""

    def __init__(self, function: Callable[..., Any], title: str, most: int):
        self.function, self.title, self.most = function, title, most
        self._known: dict[Key, T] = {}  # the least recently used one first
        self._warned = False

    def get(self, key: Key) -> T | None:
        found = self._known.get(key)
        if found is not None:
            with suppress(KeyError):  # another thread moves it too
                self._known[key] = self._known.pop(key)
        return found

    def keep(self, key: Key, version: T) -> T:
        """``version``, to be found under ``key``."""
        self._known[key] = version
        while len(self._known) > self.most:
            self._drop()
        return version

    def _drop(self) -> None:
        if not self._warned:
            self._warned = True
            where = user_location()
            file, line = (where.file, where.line) if where else (self.title, 0)
            warnings.warn_explicit(self._complaint(), VersionsWarning, file, line)
        with suppress(StopIteration, KeyError, RuntimeError):  # another thread drops too
            self._known.pop(next(iter(self._known)))

    def _complaint(self) -> str:
        text = (
            f"{self.title} has been compiled for more than {self.most} kinds of arguments; from here on the least "
            "recently used version goes, and is compiled again when it is called."
        )
        if found := _most_varied(self.function, list(self._known)):
            text += f" What varies most is {found.name} ({found.examples}): {found.remedy}."
        return f"{text} versions={2 * self.most} allows twice as many."

    def clear(self) -> None:
        self._known.clear()

    def __len__(self) -> int:
        return len(self._known)


@dataclass(frozen=True)
class _Varied:
    name: str
    examples: str
    remedy: str


class _Array:
    """Stands for an array in the nesting of a call's arguments."""

    def __init__(self, key: Any):
        self.shape, self.dtype, *weak = key
        self.is_number = bool(weak)

    def __repr__(self) -> str:
        return "a Python number" if self.is_number else f"{self.dtype}{list(self.shape)}"


def _most_varied(function: Callable[..., Any], keys: list[Key]) -> _Varied | None:
    """The argument with the most kinds of values, and what to do about it."""
    calls = [_arguments(function, structure, arrays) for structure, arrays in keys]
    names = dict.fromkeys(name for call in calls for name in call)
    kinds = {name: dict.fromkeys(repr(call.get(name)) for call in reversed(calls)) for name in names}
    name = max(names, key=lambda n: len(kinds[n]), default="")
    if not name or len(kinds[name]) < 2:
        return None
    examples = [text if len(text) <= 60 else text[:59] + "…" for text in list(kinds[name])[:3]]
    more = ", …" if len(kinds[name]) > len(examples) else ""
    return _Varied(name, ", ".join(examples) + more, _remedy([call[name] for call in calls if name in call]))


def _arguments(function: Callable[..., Any], structure: Structure, arrays: Iterable[Any]) -> dict[str, Any]:
    """The arguments of a call by name, an `_Array` for each array."""
    args, kwargs = structure.unflatten(map(_Array, arrays))
    try:
        positional = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        positional = []
    names = [*positional[: len(args)], *(f"argument {i}" for i in range(len(positional), len(args)))]
    named = {name: _unpinned(x) for name, x in zip(names, args, strict=True)}
    return named | {name: _unpinned(x) for name, x in kwargs.items()}


def _unpinned(value: Any) -> Any:
    return value.value if isinstance(value, Pinned) else value


def _remedy(values: list[Any]) -> str:
    if not all(isinstance(x, _Array) for x in values):
        return (
            "a static value is part of the code, so pass one that is only computed with as an array or a number, and "
            "give containers one nesting; or pad their arrays to a few sizes"
        )
    if len({x.shape for x in values}) > 1:
        return "pad it to a few sizes (and pass the true length as an array), or pass it in pieces of one size"
    return "give it one dtype, with .astype"
