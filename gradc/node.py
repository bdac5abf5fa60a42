"""Nodes: the traced value that a user holds and the graph's vertex are one immutable object.

Enters: operators, methods and NumPy functions applied by user code.  Leaves: `Node(op, args, attrs, aval, where)`.
Invariant: a Node never changes, hashes by identity, and ``==`` builds a comparison; so no stage uses ``==``, ``in`` or
``index`` on Nodes.  `OPS` (records of primitives) and `FUNCTIONS` (NumPy-named functions written in the DSL) are
declared empty here and filled by `gradc.ops` and `gradc.numpy`: the one late binding in the house.
"""

from __future__ import annotations

import itertools
import operator
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from numbers import Number
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np

from gradc.aval import Aval, DTypeLike, Shape, canonical_dtype, interned, is_scipy_sparse, lost_meaning
from gradc.errors import DTypeError, LeakedValueError, ShapeError, TraceError
from gradc.methods import WITHOUT_MEMORY, ArrayMethods
from gradc.places import (
    Where,
    called_by_the_user,
    doing,
    place,
    sparse_function_that_asks,
    through_scipy,
    user_frame,
    variable,
)
from gradc.refusals import ARRAY, noted, unsupported, words

if TYPE_CHECKING:
    from gradc.ops.ranges import Range
    from gradc.ops.record import Op

#: primitive name -> record; filled by `gradc.ops`
OPS: dict[str, Op] = {}
#: NumPy name -> function over Nodes; filled by `gradc.numpy`
FUNCTIONS: dict[str, Callable[..., Any]] = {}
#: NumPy as rules use it on Nodes: the same functions, which dispatch here at run time; NumPy's stubs cannot know that
dsl: Any = np


@dataclass(frozen=True, slots=True)
class Label:
    """Another way to say a node's value: the composite that the user called, with the operands it was given."""

    name: str
    args: tuple[Node, ...]
    attrs: Mapping[str, Any]


#: numbers nodes in the order in which they are made
_serials = itertools.count()


def next_serial() -> int:
    """Nodes made from here on have this serial number or a larger one."""
    return next(_serials)


#: source line and replica number of nodes that are derived from another one
_inherited: ContextVar[tuple[Where | None, int]] = ContextVar("gradc_inherited", default=(None, 0))


#: the phase of nodes that are made where the user's own code stands, see `gradc.places.PHASES`
made_in: ContextVar[str] = ContextVar("gradc_made_in", default="")


class Watcher(Protocol):
    """Whoever wants to see the user's frames while they make nodes."""

    def look(self, frame: FrameType) -> None:
        """``frame`` is making a node."""


watching: ContextVar[Watcher | None] = ContextVar("gradc_watching", default=None)


def tracing() -> bool:
    """Whether a function is being traced."""
    return watching.get() is not None


def user_location(args: Sequence[Node] = ()) -> Where | None:
    """The innermost frame that is neither gradc nor NumPy; None when there is none.

    Raises TraceError where the user makes a node of ``args`` whose trace is over.
    """
    inherited = _inherited.get()[0]
    if inherited is not None:
        return inherited
    frame = user_frame()
    if frame is None:
        return None
    watcher = watching.get()
    if watcher is not None:
        watcher.look(frame)
    elif args and called_by_the_user():
        refuse_leaked(args)
    return place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, made_in.get())


class derived_from:  # noqa: N801 - used as a function; a class, for it is entered for every node of every pass
    """Nodes made inside carry the source line of the node they are derived from, and with ``replica`` its number."""

    __slots__ = ("_from", "_token")

    def __init__(self, where: Where | None, replica: int = 0):
        self._from = where, replica

    def __enter__(self) -> None:
        self._token = _inherited.set(self._from)

    def __exit__(self, *error: object) -> None:
        _inherited.reset(self._token)


class Node(ArrayMethods):
    """A traced array: what ``x`` is inside a function that gradc traces.  Behaves like a NumPy array that has no
    values.

    Operators, methods, indexing and NumPy functions on it build further Nodes.  Updates are functional:
    ``x.at[i].set(v)`` returns a new array.
    """

    __slots__ = ("__weakref__", "args", "attrs", "aval", "label", "op", "range", "replica", "serial", "where")
    __array_priority__ = 1000

    def __init__(
        self,
        op: Op,
        args: tuple[Node, ...],
        attrs: Mapping[str, Any],
        aval: Aval,
        where: Where | None = None,
        label: Label | None = None,
        replica: int | None = None,
    ):
        self.op = op
        self.args = args
        self.attrs = attrs
        self.aval = aval
        self.where = where or user_location(args)
        self.label = label
        self.replica = _inherited.get()[1] if replica is None else replica
        self.serial = next(_serials)
        self.range: Range | None = None  # what is known of its values, once `gradc.ops.ranges` was asked

    def rebuilt(self, args: Sequence[Node], label: Label | None = None) -> Node:
        """The same operation on other operands, at the same source line; they leave its result's aval as it is."""
        for new, old in zip(args, self.args, strict=False):
            if new.aval is not old.aval and (new.aval.shape != old.aval.shape or new.aval.dtype != old.aval.dtype):
                self._refuse_other_result(args)
        return Node(self.op, tuple(args), self.attrs, self.aval, self.where, label, self.replica)

    def _refuse_other_result(self, args: Sequence[Node]) -> None:
        """A node keeps its aval when its operands are replaced, so what they are may not change it."""
        found = self.op.result_of([a.aval for a in args], self.attrs)
        if (found.shape, found.dtype) != (self.aval.shape, self.aval.dtype):
            raise ShapeError(f"{self.where or here()}: {self.op.name} of other operands is {found}, not {self.aval}")

    # -- what an array knows of itself -------------------------------------------------------------------------------
    @property
    def shape(self) -> Shape:
        return self.aval.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return len(self.aval.shape)

    @property
    def size(self) -> int:
        return self.aval.size

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.aval.nbytes

    @property
    def T(self) -> Node:
        return self._call("transpose")

    @property
    def mT(self) -> Node:
        return self._call("matrix_transpose")

    @property
    def at(self) -> Any:
        """Functional updates: ``x.at[i].set(v)``, ``.add``, ``.max``, ``.min``."""
        return FUNCTIONS["at"](self)

    @property
    def flat(self) -> NoReturn:
        raise TraceError(f"{describe(self)}.flat: a traced array has no iterator over elements; use .reshape(-1)")

    @property
    def real(self) -> Node:
        return self

    @property
    def imag(self) -> Node:
        return self._call("imag")

    @property
    def device(self) -> str:
        return "cpu"

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"{here()}: len() of {describe(self)}, which has no axis")
        return self.shape[0]

    def __iter__(self) -> Iterator[Node]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<traced {self.aval} = {self.op.name}>"

    __hash__ = object.__hash__  # by identity, as == builds a comparison

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return sys.modules["gradc.numpy"]

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return FUNCTIONS[name](self, *args, **kwargs)

    # -- operators -----------------------------------------------------------------------------------------------------
    def __add__(self, other: Any) -> Node:
        return _paired("add", self, other, "__radd__")

    def __radd__(self, other: Any) -> Node:
        return FUNCTIONS["add"](other, self)

    def __sub__(self, other: Any) -> Node:
        return _paired("subtract", self, other, "__rsub__")

    def __rsub__(self, other: Any) -> Node:
        return FUNCTIONS["subtract"](other, self)

    def __mul__(self, other: Any) -> Node:
        if is_scipy_sparse(other) and type(other).__name__.endswith("_matrix"):  # whose * is a matrix product
            return FUNCTIONS["matmul"](self, other)
        return _paired("multiply", self, other, "__rmul__")

    def __rmul__(self, other: Any) -> Node:
        if is_scipy_sparse(other) and type(other).__name__.endswith("_matrix"):
            return FUNCTIONS["matmul"](other, self)
        if isinstance(other, list) and not self.shape and self.dtype.kind in "iu":
            self._concrete("repeating a list", "For a product write gradc.numpy.asarray(list) * x.")
        return FUNCTIONS["multiply"](other, self)

    def __truediv__(self, other: Any) -> Node:
        return _paired("divide", self, other, "__rtruediv__")

    def __rtruediv__(self, other: Any) -> Node:
        return FUNCTIONS["divide"](other, self)

    def __floordiv__(self, other: Any) -> Node:
        return _paired("floor_divide", self, other, "__rfloordiv__")

    def __rfloordiv__(self, other: Any) -> Node:
        return FUNCTIONS["floor_divide"](other, self)

    def __mod__(self, other: Any) -> Node:
        return _paired("remainder", self, other, "__rmod__")

    def __rmod__(self, other: Any) -> Node:
        return FUNCTIONS["remainder"](other, self)

    def __divmod__(self, other: Any) -> tuple[Node, Node]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Node, Node]:
        return other // self, other % self

    def __pow__(self, other: Any) -> Node:
        if self.dtype.kind == "b" and type(other) is int and other == 2:
            return self._call("square")  # int8, where np.power gives int64: ndarray's own shortcut
        return _paired("power", self, other, "__rpow__")

    def __rpow__(self, other: Any) -> Node:
        return FUNCTIONS["power"](other, self)

    def __matmul__(self, other: Any) -> Node:
        return _paired("matmul", self, other, "__rmatmul__")

    def __rmatmul__(self, other: Any) -> Node:
        return FUNCTIONS["matmul"](other, self)

    def __neg__(self) -> Node:
        return self._call("negative")

    def __pos__(self) -> Node:
        return self._call("positive")

    def __abs__(self) -> Node:
        return self._call("absolute")

    def __invert__(self) -> Node:
        return self._call("bitwise_invert")

    def __and__(self, other: Any) -> Node:
        return _paired("bitwise_and", self, other, "__rand__")

    def __rand__(self, other: Any) -> Node:
        return FUNCTIONS["bitwise_and"](other, self)

    def __or__(self, other: Any) -> Node:
        return _paired("bitwise_or", self, other, "__ror__")

    def __ror__(self, other: Any) -> Node:
        return FUNCTIONS["bitwise_or"](other, self)

    def __xor__(self, other: Any) -> Node:
        return _paired("bitwise_xor", self, other, "__rxor__")

    def __rxor__(self, other: Any) -> Node:
        return FUNCTIONS["bitwise_xor"](other, self)

    def __lshift__(self, other: Any) -> Node:
        return _paired("bitwise_left_shift", self, other, "__rlshift__")

    def __rlshift__(self, other: Any) -> Node:
        return FUNCTIONS["bitwise_left_shift"](other, self)

    def __rshift__(self, other: Any) -> Node:
        return _paired("bitwise_right_shift", self, other, "__rrshift__")

    def __rrshift__(self, other: Any) -> Node:
        return FUNCTIONS["bitwise_right_shift"](other, self)

    def __eq__(self, other: object) -> Node:  # type: ignore[override]
        return _paired("equal", self, other, "__eq__")

    def __ne__(self, other: object) -> Node:  # type: ignore[override]
        return _paired("not_equal", self, other, "__ne__")

    def __lt__(self, other: Any) -> Node:
        return _paired("less", self, other, "__gt__")

    def __le__(self, other: Any) -> Node:
        return _paired("less_equal", self, other, "__ge__")

    def __gt__(self, other: Any) -> Node:
        return _paired("greater", self, other, "__lt__")

    def __ge__(self, other: Any) -> Node:
        return _paired("greater_equal", self, other, "__le__")

    def __getitem__(self, index: Any) -> Node:
        return self._call("getitem", index)

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        if through_scipy():
            self._concrete(ARRAY, "")
        does = doing(user_frame())
        name, at = (does.base, does.index) if does.stores else ("x", "index")
        raise TraceError(
            f"{here()}: item assignment on {describe(self)}: traced arrays are immutable.\n"
            f"  Write  {name} = {name}.at[{at}].set(value)  (or .add, .max, .min) and use the returned array."
        )

    def __delitem__(self, index: Any) -> NoReturn:
        raise TraceError(f"{here()}: del on {describe(self)}: traced arrays are immutable; keep the rest by slicing")

    def __contains__(self, item: Any) -> NoReturn:
        raise TraceError(f"{here()}: `in` needs values; {describe(self)} is traced. Use (x == item).any() and where.")

    # -- methods -------------------------------------------------------------------------------------------------------
    def astype(
        self, dtype: DTypeLike, order: str = "K", casting: str = "unsafe", subok: bool = True, copy: bool = True
    ) -> Node:
        if casting != "unsafe" and not FUNCTIONS["can_cast"](self.dtype, dtype, casting):
            raise DTypeError(f"{here()}: casting={casting!r} does not let {describe(self)} become {np.dtype(dtype)}")
        return self._call("astype", dtype)

    def compress(self, condition: Any, axis: int | None = None, out: None = None) -> Node:
        result: Node = FUNCTIONS["compress"](condition, self, axis, out=out)
        return result

    def sort(self, axis: int = -1, *args: Any, **kwargs: Any) -> NoReturn:
        raise TraceError(f"{here()}: .sort() works in place, traced arrays are immutable; use np.sort(x, axis={axis})")

    # -- NumPy's protocols ---------------------------------------------------------------------------------------------
    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """NEP 13: ``np.sin(x)``, ``array + x``."""
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        name = {"add.reduce": "sum", "multiply.reduce": "prod", "maximum.reduce": "max", "minimum.reduce": "min"}.get(
            name, name
        )
        if method in ("reduce", "accumulate"):
            kwargs.setdefault("axis", 0)  # a ufunc's method runs along the first axis, np.sum over all of them
        if kwargs.get("out") is not None:
            raise TraceError(
                f"{here()}: out= in np.{name}, or an in-place operator on a NumPy array: a traced value cannot be "
                "written into memory, traced arrays are immutable.\n  "
                + (
                    f"Write  y = np.where(mask, np.{name}(…), y)."
                    if "where" in kwargs
                    else "Use the returned array: y = y + x, not y += x."
                )
            )
        if method == "outer" and ufunc.__name__ in FUNCTIONS:
            a, b = map(as_node, inputs)
            return FUNCTIONS[ufunc.__name__](a.reshape(a.shape + (1,) * b.ndim), b, **kwargs)
        function = FUNCTIONS.get(name)
        if function is None:
            raise unsupported(here(), name, FUNCTIONS)
        return function(*inputs, **kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """NEP 18: ``np.concatenate``, ``np.einsum``, …"""
        module = getattr(func, "__module__", "") or ""
        name = func.__name__ if module in ("numpy", "") else f"{module.removeprefix('numpy.')}.{func.__name__}"
        function = FUNCTIONS.get(name)
        if function is None:
            raise unsupported(here(), name, FUNCTIONS)
        return function(*args, **kwargs)

    def __array__(self, dtype: DTypeLike = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if (function := sparse_function_that_asks()) is None:
            remedy = "Compute it outside and pass it in, or write it with functions that docs/ops.md lists."
            self._concrete(ARRAY, remedy)
        if function != "_matmul_dispatch":
            raise TraceError(
                f"{here()}: a sparse matrix of SciPy's meets {describe(self)}, which has no values while tracing: "
                f"A @ x, A.T @ x and x @ A work.\n  {SPARSE_REMEDY}"
            )
        held = np.empty((), object)  # SciPy leaves products with what is no array to the reflected operator
        held[()] = self
        return held

    def _concrete(self, needs: str, remedy: str) -> NoReturn:
        refuse_leaked((self,))
        frame = user_frame()
        what, remedy = words(doing(frame), through_scipy(), needs, remedy)
        wanted, missing = ("numbers", "values") if self.shape else ("a number", "value")
        text = f"{here()}: {what} needs {wanted}, but {describe(self)} has no {missing} while tracing.\n  {remedy}"
        raise noted(TraceError(text), frame)

    def __bool__(self) -> NoReturn:
        self._concrete(
            "a Python `if`, `while`, `and`, `or` or `not`",
            "Choose elements with np.where(condition, a, b) and combine conditions with & | ~; branch with gc.cond, "
            "repeat with gc.while_loop; or decide from shapes, dtypes and static arguments.",
        )

    def __float__(self) -> NoReturn:
        self._concrete(
            "float(x)", "Keep it traced; use x.astype(float) for the dtype, or return it and convert outside."
        )

    def __int__(self) -> NoReturn:
        self._concrete("int(x)", "Use x.astype(int); where a shape needs the number, add the argument to static=.")

    def __complex__(self) -> NoReturn:
        self._concrete("complex(x)", "Complex numbers are not supported.")

    def __index__(self) -> NoReturn:
        self._concrete(
            "an index, a range or a shape",
            "If a shape depends on it, add the argument to static=; to repeat that often, use gc.fori_loop; "
            "to index a NumPy array with it, write  gradc.numpy.take(table, index, axis=0).",
        )

    def item(self, *args: Any) -> NoReturn:
        self._concrete(".item()", "Keep it traced; return it and call .item() outside.")

    def tolist(self) -> NoReturn:
        self._concrete(".tolist()", "Return the array and convert it outside.")

    def __round__(self, ndigits: int | None = None) -> Any:
        if ndigits is None:
            self._concrete("round(x)", "Use np.round(x), and .astype(int) for an integer dtype.")
        return self.round(ndigits)

    def __format__(self, form: str) -> str:
        if form:
            self._concrete(f"the format {form!r}", "Return the array and print it outside; f'{x}' shows its dtype.")
        return repr(self)

    def __copy__(self) -> Node:
        return self

    def __deepcopy__(self, memo: Any) -> Node:
        return self

    def __reduce__(self) -> NoReturn:
        raise TraceError(f"{here()}: {describe(self)} cannot be pickled: it has no values; save the compiled function")

    def __getattr__(self, name: str) -> NoReturn:
        """Reached for what a traced array does not have; tells so for what an ndarray has."""
        if not name.startswith("_") and hasattr(np.ndarray, name):
            raise AttributeError(
                f"{here()}: {describe(self)} has no .{name}: it has no memory and no values, and never changes.\n"
                f"  {WITHOUT_MEMORY.get(name, 'What needs values belongs outside the traced function.')}"
            )
        if name.startswith("__dlpack"):
            words = "has no memory to hand over: write  gradc.numpy.asarray(x)."
            raise AttributeError(f"{here()}: {describe(self)} {words}")
        raise AttributeError(f"a traced array has no attribute {name!r}")


SPARSE_REMEDY = "To change its values write  A = gc.sparse.from_scipy(A)  and use A.data; or use A.toarray()."

#: operands that are arrays or numbers, as nearly all are
_ORDINARY = frozenset((Node, int, float, bool, np.ndarray, list, tuple))


def _paired(name: str, x: Node, other: Any, reflected: str) -> Any:
    """The function ``name`` of both, or NotImplemented, as ndarray says it to operands that know better."""
    if type(other) not in _ORDINARY and _knows_better(other, reflected):
        return NotImplemented
    return FUNCTIONS[name](x, other)


def _knows_better(other: Any, reflected: str) -> bool:
    """Whether an operand is no array and defines the reflected operator, or opts out of NumPy's operators (NEP 13)."""
    if is_scipy_sparse(other):
        return False
    kind = type(other)
    if getattr(kind, "__array_ufunc__", "") is None:
        return True
    if isinstance(other, (Number, Sequence)) or hasattr(kind, "__array__"):
        return False
    return getattr(kind, reflected, None) is not getattr(object, reflected, None)


def refuse_leaked(nodes: Sequence[Node]) -> None:
    """TraceError if one of ``nodes`` was computed from a leaf of a trace that is over."""
    seen: set[Node] = set()
    for used in nodes:
        stack = [used]
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            owner = node.attrs.get("trace") if node.op.name == "input" else None
            if owner is not None and owner.finished:
                raise leaked(node, used, here())
            stack += node.args


def leaked(leaf: Node, used: Node, at: str) -> TraceError:
    """The error for the use, at ``at``, of a value that was computed from ``leaf`` in a trace that is over."""
    title = getattr(leaf.attrs.get("trace"), "title", "another function")
    source = "" if used is leaf else f", computed from {describe(leaf)},"
    return LeakedValueError(
        f"{at}: leaked traced value: {describe(used)}{source} belongs to the finished trace of {title}.\n"
        "  A traced array was kept outside its function (a global, a list, self.x); return it instead.",
        describe(used),
    )


def here() -> str:
    """The user's current line, for the head of a message."""
    where = user_location()
    return f"{where.file}:{where.line}" if where else "<unknown line>"


def describe(node: Node) -> str:
    """A value in a message: its aval and where it was made."""
    if node.op.name == "constant":
        return f"the Python number {node.attrs['value']}" if node.aval.weak else f"a constant array ({node.aval})"
    made = f", made at {node.where} in {node.where.function}" if node.where and node.op.name != "input" else ""
    name = node.attrs.get("name") if node.op.name == "input" else variable(user_frame(), node)
    return f"{'traced array ' + repr(name) if name else 'a traced array'} ({node.aval}{made})"


def constant(value: Any, weak: bool = False) -> Node:
    """A constant leaf; the array is copied and frozen (snapshotted at trace)."""
    if lost := lost_meaning(value):
        raise DTypeError(f"{here()}: a captured array {lost}")
    try:
        array = np.array(value, order="C", copy=True)
    except ValueError as error:
        raise ShapeError(f"{here()}: cannot make an array of {value!r:.80}: {error}") from None
    if is_scipy_sparse(value):
        raise DTypeError(
            f"{here()}: a sparse matrix stands where an array is needed: A @ x, A.T @ x and x @ A work with it.\n"
            f"  {SPARSE_REMEDY}"
        )
    if array.dtype == object:
        raise DTypeError(f"{here()}: cannot use {value!r:.80} as an array of numbers (object dtype)")
    try:
        array = array.astype(canonical_dtype(array.dtype), copy=False)
    except DTypeError as error:
        raise DTypeError(f"{here()}: {value!r:.80}: {error}") from None
    array.flags.writeable = False
    return Node(OPS["constant"], (), {"value": array}, Aval(array.shape, array.dtype, weak))


def _number(value: int | float) -> Node:
    """A Python number, whose dtype yields to its partner's."""
    array = np.array(value, _INTEGER if type(value) is int else _FLOAT)
    array.setflags(write=False)
    return Node(OPS["constant"], (), {"value": array}, interned((), array.dtype, True))


_INTEGER, _FLOAT = np.dtype(np.int64), np.dtype(np.float64)


def as_node(value: Any) -> Node:
    """Lift a value into the graph: Nodes stay, Python numbers become weak constants, arrays become constants."""
    if isinstance(value, Node):
        return value
    if isinstance(value, bool):
        return constant(np.bool_(value))
    if type(value) is int or type(value) is float:
        if type(value) is int and not -(2**63) <= value < 2**63:
            raise DTypeError(f"{here()}: the integer {value} does not fit into int64; write it as a float")
        return _number(value)
    if isinstance(value, complex):
        raise DTypeError(f"{here()}: complex numbers are not supported, got {value!r}")
    if isinstance(value, (list, tuple)) and _has_node(value):
        return FUNCTIONS["stack"]([as_node(v) for v in value])
    return constant(value)


def _has_node(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_has_node, value))
    return isinstance(value, Node)


def static_int(value: Any, what: str) -> int:
    """A Python int for a shape or axis; a traced value or a float gets a clear error."""
    try:
        return operator.index(value)
    except TypeError as error:
        if isinstance(error, TraceError):
            raise
        raise TypeError(f"{here()}: {what} must be an integer, got {value!r}") from None
