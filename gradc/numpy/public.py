"""How a function over Nodes becomes a function of the user's namespace.

Enters: a function that takes Nodes (or anything `as_node` lifts) and returns Nodes.  Leaves: its entry in
`FUNCTIONS`, which serves operators, methods and NumPy's protocols, and the public function, which is NumPy outside a
trace. Invariant: with a Node among the arguments a public function traces; without one it returns NumPy values, which
inside a trace are of the class `ConcreteArray`. Start reading at `function`.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np

from gradc.aval import FLOAT32, NARROW, computed_in, promoted
from gradc.errors import DTypeError, TraceError
from gradc.interpret import interpret
from gradc.node import FUNCTIONS, Label, Node, as_node, here
from gradc.numpy.concrete import known
from gradc.ops.arguments import refuse_unless_harmless
from gradc.ops.elementwise import cast as as_dtype

F = TypeVar("F", bound=Callable[..., Any])

#: A Node inside a trace, a NumPy array (0-d: a NumPy scalar) outside.
Array: TypeAlias = Any
#: What NumPy takes for an array: Nodes, arrays, Python numbers, nested lists of them.
ArrayLike: TypeAlias = Any
#: None, an int or a tuple of ints.
Axes: TypeAlias = Any


#: of functions written in other ops, by name: what the derivative is at singular points, in words
CONVENTIONS: dict[str, str] = {}


def function(*names: str, singular: str = "", wide: bool = False) -> Callable[[F], F]:
    """Enter a function over Nodes in `FUNCTIONS` under NumPy's ``names`` and return its public form.

    ``singular`` says what its derivative is at singular points, as `Op.singular` does of an op.  ``wide``: of narrow
    floats it is computed in float32 and rounded once, as a `composite` is.
    """
    if singular:
        CONVENTIONS[names[0]] = singular

    def decorate(traced: F) -> F:
        entry = _entry(traced, names[0], wide)
        FUNCTIONS.update(dict.fromkeys(names, entry))
        return public(entry)

    return decorate


def _entry(traced: F, name: str, wide: bool) -> F:
    """``traced``, telling in gradc's words when an argument of the NumPy function is not supported."""
    code = traced.__code__
    accepted = frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    most = sys.maxsize if code.co_flags & inspect.CO_VARARGS else code.co_argcount
    needed = _needed_arrays(traced)

    @functools.wraps(traced)
    def entry(*args: Any, **kwargs: Any) -> Any:
        if len(args) > most and (places := _places(name)):
            kwargs |= zip(places[most:], args[most:], strict=False)
            args = args[:most]
        for key in kwargs.keys() - accepted:
            refuse_unless_harmless(name, key, kwargs.pop(key), accepted)
        try:
            return _rounded_once(traced, args, kwargs) if wide else traced(*args, **kwargs)
        except DTypeError:
            given = dict(zip(code.co_varnames, args, strict=False)) | kwargs
            missing = next((k for k in needed if k in given and given[k] is None), None)
            if missing is None:
                raise
            raise DTypeError(f"{here()}: {name}: {missing} must be an array, got None") from None

    return cast(F, entry)


def _needed_arrays(traced: Callable[..., Any]) -> tuple[str, ...]:
    """The parameters of a function that are arrays and have no default."""
    return tuple(
        p.name for p in inspect.signature(traced).parameters.values()
        if p.annotation in ("ArrayLike", ArrayLike) and p.default is p.empty and p.kind is not p.VAR_POSITIONAL
    )  # fmt: skip


def _rounded_once(traced: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What ``traced`` makes of arrays among its arguments, narrow floats as float32, in the dtype that they meet in."""
    arrays = [as_node(x) for x in (*args, *kwargs.values()) if isinstance(x, (Node, np.ndarray, np.generic))]
    if not any(x.dtype in NARROW for x in arrays):
        return traced(*args, **kwargs)
    joint = promoted(*[x.dtype for x in arrays if x.aval.is_float and not x.aval.weak])

    def widened(x: Any) -> Any:
        is_narrow = isinstance(x, (Node, np.ndarray, np.generic)) and as_node(x).dtype in NARROW
        return as_dtype(as_node(x), FLOAT32) if is_narrow else x

    result = traced(*map(widened, args), **{name: widened(x) for name, x in kwargs.items()})
    return as_dtype(result, joint) if result.dtype == computed_in(joint) else result


@functools.cache
def _places(name: str) -> tuple[str, ...]:
    """The parameters that NumPy's function ``name`` takes by position; none, if there is no such function."""
    numpy: Any = np
    for part in name.split("."):
        numpy = getattr(numpy, part, None)
    if numpy is None:
        return ()
    return tuple(
        p.name for p in inspect.signature(cast(Any, numpy)).parameters.values() if p.kind is not p.KEYWORD_ONLY
    )


def public(entry: F) -> F:
    """The user's form of an entry of `FUNCTIONS`: traces if a Node is among the arguments, else computes."""

    @functools.wraps(entry)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = entry(*args, **kwargs)
        return result if is_traced(args) or is_traced(kwargs.values()) else known(evaluated(result))

    return cast(F, call)


def exported(name: str) -> Callable[..., Any]:
    """The public form of a function that an op registered itself."""
    return public(FUNCTIONS[name])


def is_traced(values: Iterable[Any]) -> bool:
    """Whether a Node is among ``values`` or inside a list or tuple among them."""
    return any(isinstance(v, Node) or (isinstance(v, (list, tuple)) and is_traced(v)) for v in values)


def evaluated(result: Any) -> Any:
    """The NumPy value of Nodes that depend on constants alone; the caller owns it."""
    if isinstance(result, (list, tuple)):
        parts = map(evaluated, result)
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
    if not isinstance(result, Node):
        return result
    (value,) = interpret([result], {})
    if value.shape == ():
        return value[()]
    return value if value.flags.writeable and value.base is None else value.copy()


def static(numpy: F, remedy: str) -> F:
    """A NumPy function whose result's shape is read off its arguments' values: computed at once, never traced."""
    name = numpy.__name__

    @functools.wraps(numpy)
    def call(*args: Any, **kwargs: Any) -> Any:
        if is_traced(args) or is_traced(kwargs.values()):
            raise TraceError(f"{here()}: {name}: the result's shape would depend on traced values.\n  {remedy}")
        return known(numpy(*args, **kwargs))

    call.__dict__["remedy"] = remedy  # told also where NumPy's own function meets a traced value
    FUNCTIONS[name] = call
    return cast(F, call)


def composite(name: str) -> Callable[[Callable[..., Node]], Callable[..., Node]]:
    """Label what a function over Nodes returns with the composite's name, so that explain can print it by that name.

    Positional arguments are the composite's operands, keyword arguments its attributes.  The function must return a
    node of its own making.  Of narrow floats it is computed in float32, see `in_float32`.
    """

    def decorate(build: Callable[..., Node]) -> Callable[..., Node]:
        @functools.wraps(build)
        def labelled(*operands: Node, **attrs: Any) -> Node:
            result = build(*operands, **attrs)
            if not any(result is x for x in operands):
                result.label = Label(name, operands, attrs)
            return result

        return in_float32(labelled)

    return decorate


def in_float32(build: Callable[..., Node]) -> Callable[..., Node]:
    """``build`` of narrow floats in float32 from the first node to the last, and rounded once."""

    @functools.wraps(build)
    def rounded(*operands: Node, **attrs: Any) -> Node:
        if not any(x.dtype in NARROW for x in operands):
            return build(*operands, **attrs)
        joint = promoted(*[x.dtype for x in operands if x.aval.is_float and not x.aval.weak])
        result = build(*[as_dtype(x, FLOAT32) if x.dtype in NARROW else x for x in operands], **attrs)
        return as_dtype(result, joint) if result.dtype == computed_in(joint) else result

    return rounded
