"""From any call of a function to the native step for its arguments, without Python in between where that is possible.

Enters: how a step's arguments and results nest (`Part`).  Leaves: a `Dispatcher`; its ``call`` is a builtin.
Invariant: a call reaches the chosen version only if its arguments nest, and are classed, exactly as that version's; all
others go to the Python callable given.  Start reading at `Dispatcher`, then `describe`.
"""

from __future__ import annotations

import enum
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from gradc.process import once
from gradc.runtime import dispatch_code as code
from gradc.runtime.arrays import Array, ArraySpec
from gradc.runtime.entry import Words, get_machinery, make_builtin, make_words
from gradc.runtime.native import NativeFunction
from gradc.runtime.objects import address

#: set in the flags of a class that Python code made (Include/object.h)
_HEAP_TYPE = 1 << 9
#: Classes whose instances never change, so that the same object means the same value.
_UNCHANGING = (
    type(None), bool, int, float, complex, str, bytes, np.dtype, type, enum.Enum, types.FunctionType,
    types.BuiltinFunctionType, np.ufunc,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fixed:
    """A value in a nesting that is not an array: None, a string, what was declared static."""

    value: Any


@dataclass(frozen=True, slots=True)
class Branch:
    """A container in a nesting: its class and its parts, each reached by a position, a key, or a field's name.

    ``order`` are the keys as the container gives them, which for a dict is not the order of the parts.
    """

    kind: type
    keys: tuple[Any, ...]
    parts: tuple[Part, ...]
    order: tuple[Any, ...]
    is_dataclass: bool = False


#: Part of a nesting; an int is the number of an array.
Part = Branch | Fixed | int


class Dispatcher:
    """``call(*args, **kwargs)`` runs the version that was chosen last if the call is one for it, else ``slow``.

    While ``variable`` has another value than ``idle``, every call goes to ``slow``.
    """

    call: Callable[..., Any]

    def __init__(self, slow: Callable[..., Any], variable: ContextVar[Any], idle: object):
        words = {"variable": id(variable), "idle": id(idle), "version": 0, "slow": id(slow)}
        self._words = make_words(code.CALLS, words, (slow, variable, idle))
        self._version: Words | None = None
        machinery = get_machinery()
        assert machinery is not None
        self.call = make_builtin(machinery.dispatch, self._words)

    def choose(self, version: Words | None) -> None:
        """Try ``version`` first from here on; None: none."""
        before = self._version  # stays alive until nothing points to it
        self._version = version
        self._words[code.CALLS.index("version")] = 0 if version is None else id(version)
        del before


def describe(native: NativeFunction, weak: Sequence[bool], arguments: Part, results: Part) -> Words | None:
    """The words of `dispatch_code.VERSION` for a step, None if its nesting is not one that compiled code can follow.

    ``arguments`` is the pair of positional arguments and keywords; ``weak`` says which arrays are Python numbers.
    """
    return _describe(native, weak, arguments, results) if rehearse() else None


def _describe(native: NativeFunction, weak: Sequence[bool], arguments: Part, results: Part) -> Words | None:
    words = native.words
    if words is None:
        return None
    keep: list[object] = []
    try:
        call = _Call.of(arguments, [_classes(spec, w) for spec, w in zip(native.inputs, weak, strict=True)])
        made = list(_makes(results, keep))
    except _Unfit:
        return None
    fetches, makes = _table(call.rows, code.FETCH), _table(made, code.MAKE)
    depth = len(made)  # no row pushes more than one
    version = {
        "step": address(words), "positional": call.positional, "named": len(call.names), "names": id(call.names),
        "fetches": address(fetches), "fetched": len(call.rows), "leaves": len(native.inputs),
        "makes": address(makes), "made": len(made), "room": len(call.rows) + len(native.inputs) + depth,
    }  # fmt: skip
    return make_words(code.VERSION, version, (native, call, keep, fetches, makes))


class _Unfit(Exception):  # noqa: N818 - a signal inside this file
    """Compiled code cannot follow this nesting."""


def _classes(spec: ArraySpec, weak: bool) -> tuple[type, type]:
    """What an argument may be for compiled code: an ndarray, a NumPy scalar; where a Python number was given, that."""
    if weak:
        number = {"f": float, "i": int}[spec.dtype.kind]
        return number, number
    return np.ndarray, np.ndarray if spec.shape else spec.dtype.type


@dataclass
class _Call:
    """The `FETCH` rows of a call, and the objects that they name."""

    positional: int
    names: tuple[str, ...]
    leaves: Sequence[tuple[type, type]]
    rows: list[dict[str, int]] = field(default_factory=list)
    keep: list[object] = field(default_factory=list)

    @classmethod
    def of(cls, arguments: Part, leaves: Sequence[tuple[type, type]]) -> _Call:
        assert isinstance(arguments, Branch)
        args, kwargs = arguments.parts
        assert isinstance(args, Branch) and isinstance(kwargs, Branch)
        call = cls(len(args.parts), kwargs.order, leaves)
        for i, part in enumerate(args.parts):
            call.fetch(part, source=code.ARGUMENT, which=i)
        for name, part in zip(kwargs.keys, kwargs.parts, strict=True):
            call.fetch(part, source=code.ARGUMENT, which=call.positional + call.names.index(name))
        return call

    def fetch(self, part: Part, **place: int) -> None:
        """The rows for one part, found at ``place``."""
        row = len(self.rows)
        self.rows.append(place | self._expectation(part))
        if isinstance(part, Branch):
            for key, inner in zip(part.keys, part.parts, strict=True):
                self.fetch(inner, parent=row, **self._place(part, key))

    def _expectation(self, part: Part) -> dict[str, int]:
        match part:
            case int():
                first, second = self.leaves[part]
                return {"expect": code.LEAF, "type": id(first), "other": id(second), "leaf": part}
            case Fixed(value):
                if not _is_unchanging(value):
                    raise _Unfit
                return {"expect": code.CONSTANT, "type": self._named(value)}
        container = self._container(part)
        if container == code.RECORD:
            return {"expect": container, "type": self._named(part.kind)} | self._attributes(part)
        return {"expect": container, "type": self._named(part.kind), "size": len(part.parts)}

    def _attributes(self, part: Branch) -> dict[str, int]:
        """How many attributes an instance must hold, where it could hold more than its parts."""
        if not part.kind.__dictoffset__:
            return {}
        slots = (isinstance(getattr(part.kind, key, None), types.MemberDescriptorType) for key in part.keys)
        return {"other": self._named("__dict__"), "size": len(part.keys) - sum(slots)}

    def _container(self, part: Branch) -> int:
        if part.kind is tuple or _is_plain_named_tuple(part.kind):
            return code.TUPLE
        if part.kind is list:
            return code.LIST
        if part.kind is dict:
            return code.DICT
        if part.is_dataclass:
            return code.RECORD
        raise _Unfit

    def _place(self, part: Branch, key: Any) -> dict[str, int]:
        if part.kind is list:
            return {"source": code.LIST_ITEM, "which": key}
        if part.kind is dict:
            if type(key) not in (str, int):
                raise _Unfit
            return {"source": code.DICT_ENTRY, "which": self._named(key)}
        if part.is_dataclass:
            return {"source": code.ATTRIBUTE, "which": self._named(key)}
        return {"source": code.TUPLE_ITEM, "which": key}

    def _named(self, thing: object) -> int:
        self.keep.append(thing)
        return id(thing)


def _makes(part: Part, keep: list[object]) -> Iterator[dict[str, int]]:
    """The `MAKE` rows of a nesting, parts before their container."""

    def named(thing: object) -> int:
        keep.append(thing)
        return id(thing)

    if isinstance(part, int):
        yield {"what": code.RESULT, "which": part}
        return
    if isinstance(part, Fixed):
        yield {"what": code.FIXED, "type": named(part.value)}
        return
    inner = dict(zip(part.keys, part.parts, strict=True))
    for key in part.order:
        yield from _makes(inner[key], keep)
    takes = {"takes": len(part.parts)}
    if part.kind in (tuple, list):
        yield takes | {"what": code.NEW_TUPLE if part.kind is tuple else code.NEW_LIST}
    elif part.kind is dict:
        yield takes | {"what": code.NEW_DICT, "keys": named(part.order)}
    elif part.is_dataclass and _is_plain_class(part.kind):
        yield takes | {"what": code.NEW_RECORD, "type": named(part.kind), "keys": named(part.order)}
    elif _is_plain_named_tuple(part.kind):
        yield takes | {"what": code.NEW_NAMED, "type": named(part.kind)}
    else:
        raise _Unfit


def _is_plain_named_tuple(kind: type) -> bool:
    """Whether instances are made by the constructor that `collections.namedtuple` writes: nothing but their parts."""
    if kind.__bases__ != (tuple,) or not hasattr(kind, "_fields"):
        return False
    made_by = getattr(kind.__new__, "__globals__", {}).get("__name__")
    return bool(made_by == f"namedtuple_{kind.__name__}")


def _is_plain_class(kind: Any) -> bool:
    """Whether an instance is nothing but its attributes: no base holds memory of its own, none makes it differently."""
    bases_hold_nothing = all(base is object or base.__flags__ & _HEAP_TYPE for base in kind.__mro__)
    return bool(bases_hold_nothing and kind.__new__ is object.__new__)


def _is_unchanging(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_unchanging, value))
    return isinstance(value, _UNCHANGING)


def _table(rows: Sequence[dict[str, int]], names: Sequence[str]) -> Array:
    return np.array([[row.get(name, 0) for name in names] for row in rows] or [[0]], np.int64)


# -- rehearsal -------------------------------------------------------------------------------------------------------
class _Slow(Exception):  # noqa: N818 - a signal of the rehearsal, never seen outside
    """The call went the slow way."""


class _Pair(NamedTuple):
    first: Any
    second: Any


@dataclass
class _Record:
    first: Any
    second: Any = field(init=False)


@once
def rehearse() -> bool:
    """Run a step whose answer is known through containers of each kind, and count references."""
    machinery = get_machinery()
    if machinery is None:
        return False
    double = np.dtype(np.float64)
    inputs = (ArraySpec((2,), double), ArraySpec((), double))
    outputs = (ArraySpec((2,), double), ArraySpec((), double), ArraySpec((1 << 14,), double))

    def fail(status: int) -> Exception:
        return ZeroDivisionError(status)

    def misfit(i: int, given: object) -> Exception:
        return _Slow(i)

    def slow(*args: object, **kwargs: object) -> None:
        raise _Slow

    native = NativeFunction(machinery.probe_address, inputs, outputs, 0, {}, (), fail, misfit, owner=machinery)
    variable: ContextVar[int] = ContextVar("rehearsal", default=0)
    dispatcher = Dispatcher(slow, variable, 0)
    record = Branch(_Record, ("first", "second"), (Fixed(None), 1), ("first", "second"), True)
    arguments = _branch(tuple, _branch(tuple, _branch(list, _branch(dict, a=0), Fixed(None))), _branch(dict, s=record))
    pair = _branch(_Pair, record, Fixed("s"))
    results = _branch(tuple, _branch(list, 0), pair, _branch(dict, large=2), _branch(tuple))
    version = _describe(native, (False, False), arguments, results)
    if version is None:
        return False
    dispatcher.choose(version)
    return _rehearse_calls(native, dispatcher.call, variable)


def _branch(kind: type, *parts: Part, **named: Part) -> Branch:
    keys: tuple[Any, ...] = tuple(named) if named else tuple(range(len(parts)))
    return Branch(kind, keys, parts or tuple(named.values()), keys)


def _record(second: Any) -> _Record:
    made = _Record(None)
    made.second = second
    return made


def _rehearse_calls(native: NativeFunction, call: Callable[..., Any], variable: ContextVar[int]) -> bool:
    x, scale = np.array([1.0, 2.0]), np.float64(3.0)
    native(x, scale)  # makes what calls share
    given, zero, more = _record(scale), _record(np.float64(0.0)), _record(scale)
    more.third = None  # type: ignore[attr-defined]
    (y,), pair, large, empty = call([{"a": x}, None], s=given)
    right = y.tolist() == [3.0, 6.0] and pair == (given, "s") and type(pair) is _Pair and empty == ()
    right = right and type(pair.first) is _Record and pair.first is not given
    right = right and large.keys() == {"large"} and large["large"][0] == 3.0
    watched = (x, scale, given, call, _Pair, _Record)
    before = [sys.getrefcount(w) for w in watched]
    for _ in range(16):
        call([{"a": x}, None], s=given)
    right = right and [sys.getrefcount(w) for w in watched] == before
    calls: list[tuple[Callable[[], Any], type[Exception]]] = [
        (lambda: call([{"a": x}, None], s=zero), ZeroDivisionError),
        (lambda: call([{"b": x}, None], s=given), _Slow),
        (lambda: call([{"a": x}, None], s=more), _Slow),
        (lambda: call([{"a": x[::-1]}, None], s=given), _Slow),
        (lambda: call([{"a": x}, 1], s=given), _Slow),
        (lambda: call([{"a": x}], s=given), _Slow),
        (lambda: call([{"a": x}, None], t=given), _Slow),
        (lambda: call([{"a": x}, None], given), _Slow),
    ]
    right = right and all(_raises(run, kind) for run, kind in calls)
    token = variable.set(1)
    right = right and _raises(lambda: call([{"a": x}, None], s=given), _Slow)
    variable.reset(token)
    return right


def _raises(run: Callable[[], Any], kind: type[Exception]) -> bool:
    try:
        run()
    except (ZeroDivisionError, _Slow) as error:
        return type(error) is kind
    return False
