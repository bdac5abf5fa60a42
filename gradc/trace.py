"""Tracing: run a Python function once on fresh leaves and keep what it computed as a Graph.

Enters: any callable and example arguments (arrays, numbers, `spec`s, traced values) in any nesting.
Leaves: a `Graph` that carries the user's names.
Invariant: a trace always starts from fresh leaves.  Whether its result is run or inlined into an enclosing trace is
decided afterwards, from what the graph contains (`Graph.free`), never from argument types: nested derivatives cannot
confuse their perturbations.  Start reading at `trace`.
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from gradc.aval import Aval, DTypeLike, canonical_dtype, is_extent, is_number, is_scipy_sparse, lost_meaning
from gradc.containers import Structure, flatten, path_text
from gradc.draws import drawn, warn_of_draws
from gradc.errors import DTypeError, GradcError, ShapeError, TraceError
from gradc.graph import Graph, fit_argument, rewrite
from gradc.interpret import interpret
from gradc.node import OPS, Node, as_node, here, leaked, watching
from gradc.ops.control import call_function, on_own_leaves
from gradc.places import is_user_code
from gradc.refusals import as_refused
from gradc.witnesses import Witnesses


class Trace:
    """Identity of one tracing run; its leaves point to it.

    ``inlined`` are names from graphs inlined into it; ``bodies`` the functions that are called in it, each on leaves of
    its own, which no other trace shares.
    """

    __slots__ = ("bodies", "finished", "inlined", "title")

    def __init__(self, title: str):
        self.title = title
        self.finished = False
        self.inlined: dict[Node, str] = {}
        self.bodies: dict[Graph, Graph] = {}


NO_TRACE: tuple[Trace, ...] = ()
open_traces: ContextVar[tuple[Trace, ...]] = ContextVar("gradc_open_traces", default=NO_TRACE)


def trace(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Graph:
    """The Graph of ``f`` at the shapes and dtypes of ``args``.

    Args: arrays, Python numbers, or `gradc.spec(shape, dtype)`, in any nesting of tuple, list, dict and dataclass;
    bool, str, None, Enum, dtype and callable leaves are static.  Raises TraceError where the function needs values.

    >>> import gradc as gc
    >>> print(gc.trace(lambda x: x * 2, gc.spec((3,))).outputs[0].shape)
    (3,)
    """
    title = function_name(f)
    if not callable(f):
        raise TypeError(f"{here()}: expected a function to trace, got {f!r:.60}")
    leaves, paths, structure = flatten((args, kwargs))
    labels = argument_names(f, args, kwargs, paths)
    me = Trace(title)
    inputs = tuple(_leaf(aval_of(v, n), n, me) for v, n in zip(leaves, labels, strict=True))
    witnesses = Witnesses(sys._getframe())
    before = drawn() if not open_traces.get() else None
    with _opened(me), _watching(witnesses):
        traced_args, traced_kwargs = structure.unflatten(inputs)
        try:
            result = f(*traced_args, **traced_kwargs)
        except TypeError as error:
            if _call_failed(error) and not str(error).startswith(here()):
                raise TypeError(f"{here()}: {error}") from None
            raise
    if before is not None:
        warn_of_draws(before, f, title)
    found = me.inlined | witnesses.names()
    outputs, out_tree = _outputs(result, title)
    graph = Graph(inputs, outputs, {}, structure, out_tree, title)
    _refuse_leaks(graph)
    names = _names_of_inputs(graph, labels, found)
    aliases = {x: found[x] for x in inputs if x in found and found[x] != names[x]}
    aliases |= witnesses.captured(x for x in graph.nodes if x.op.name == "constant" and x.shape)
    begun = witnesses.begun(found | dict.fromkeys(inputs, ""))
    witnesses.forget()
    return graph.replace(names=_unique_names(graph, names, found, begun), aliases=aliases)


def _call_failed(error: TypeError) -> bool:
    """Whether a function was called with other arguments than it takes: then no frame of its own is there."""
    frames, place = [], error.__traceback__
    while place is not None:
        frames.append(place.tb_frame)
        place = place.tb_next
    return not isinstance(error, GradcError) and not any(map(is_user_code, frames))


def _leaf(aval: Aval, name: str, me: Trace) -> Node:
    return Node(OPS["input"], (), {"aval": aval, "name": name, "trace": me}, aval)


def new_input(aval: Aval, name: str) -> Node:
    """A leaf that belongs to no user argument (a tangent, a cotangent)."""
    return Node(OPS["input"], (), {"aval": aval, "name": name, "trace": None}, aval)


def aval_of(value: Any, name: str = "argument") -> Aval:
    """The abstract value of an argument; raises DTypeError for what is not an array of numbers."""
    if isinstance(value, Aval):
        return value
    if isinstance(value, Node):
        return value.aval
    if type(value) in (int, float):
        if type(value) is int and not -(2**63) <= value < 2**63:
            raise DTypeError(f"{here()}: {name}: the integer {value} does not fit into int64; pass it as a float")
        return Aval((), np.dtype(type(value)), weak=True)
    if lost := lost_meaning(value):
        raise DTypeError(f"{here()}: {name} {lost}")
    if is_scipy_sparse(value):
        raise DTypeError(
            f"{here()}: {name} is a {type(value).__name__}: a sparse matrix is no array.\n"
            "  Pass gc.sparse.from_scipy of it, whose values are traced; one that is captured is a constant."
        )
    try:
        array = np.asarray(value)
    except Exception as error:
        raise DTypeError(f"{here()}: {name}: {type(value).__name__} is not an array: {error}") from None
    if not is_number(array.dtype):
        raise DTypeError(
            f"{here()}: {name} has dtype {array.dtype} ({type(value).__name__}): "
            "gradc computes with float16, bfloat16, float32, float64, integers and bool. "
            "Convert it, or pass it as a static argument if it is not data."
            + (
                ""
                if isinstance(value, np.ndarray | list | str)
                else f" If {type(value).__name__} holds arrays, make it a dataclass or tell gc.tree.register about it."
            )
        )
    try:
        return Aval(array.shape, canonical_dtype(array.dtype))
    except DTypeError as error:
        raise DTypeError(f"{here()}: {name}: {error}") from None


def spec(shape: int | Sequence[int] = (), dtype: DTypeLike = np.float64) -> Aval:
    """Describe an array argument without making it, for `gradc.trace`, `gradc.compile` and default arguments.

    ShapeError for extents that are none, DTypeError for a dtype that gradc does not compute with.

    >>> spec((3, 2), "float32")
    Aval(shape=(3, 2), dtype=dtype('float32'), weak=False)
    """
    given: Any = shape
    sizes = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    for size in sizes:
        if not is_extent(size):
            raise ShapeError(
                f"{here()}: spec: shape {shape!r:.60}: every extent must be an integer >= 0, got {size!r:.40}"
            )
    try:
        return Aval(tuple(map(int, sizes)), canonical_dtype(dtype))
    except DTypeError as error:
        raise DTypeError(f"{here()}: spec: {error}") from None


@contextmanager
def _opened(me: Trace) -> Iterator[None]:
    token = open_traces.set((*open_traces.get(), me))
    try:
        yield
    except (TypeError, ValueError) as error:
        if (refused := as_refused(error)) is not None:
            raise refused.with_traceback(error.__traceback__) from None
        raise
    finally:
        me.finished = True
        open_traces.reset(token)


def is_open(node: Node) -> bool:
    """Whether a leaf belongs to a trace that is running now."""
    owner = node.attrs.get("trace")
    return any(owner is t for t in open_traces.get())


def _outputs(result: Any, title: str) -> tuple[tuple[Node, ...], Structure]:
    leaves, paths, structure = flatten(result)
    if not leaves:
        raise TraceError(
            f"{here()}: {title} returned {result!r:.60}: a traced function must return at least one array.\n"
            "  A bool becomes one by np.bool_(value); strings and other constants are known outside."
        )
    nodes = []
    for leaf, path in zip(leaves, paths, strict=True):
        try:
            nodes.append(as_node(leaf))
        except DTypeError as error:
            place = f" at {'.'.join(map(str, path))}" if path else ""
            raise TraceError(
                f"{here()}: {title} returns a {type(leaf).__name__}{place}, which is not an array.\n  {error}"
            ) from None
    return tuple(nodes), structure


def _refuse_leaks(graph: Graph) -> None:
    for leaf in graph.free:
        if not is_open(leaf):
            raise _leak(graph, leaf)


def _leak(graph: Graph, leaf: Node) -> TraceError:
    """The error for what was computed from ``leaf`` before the graph's own inputs were made, where it is first used."""
    reached, begun = {leaf}, min((x.serial for x in graph.inputs), default=sys.maxsize)
    for node in graph.nodes:
        operand = next((a for a in node.args if a in reached), None)
        if operand is not None and node.serial > begun and node.where is not None:
            return leaked(leaf, operand, f"{node.where.file}:{node.where.line}")
        if operand is not None:
            reached.add(node)
    return leaked(leaf, next((y for y in graph.outputs if y in reached), leaf), here())


# -- running a graph ---------------------------------------------------------------------------------------------------


def run(graph: Graph, arrays: Sequence[Any]) -> list[Any]:
    """The flat outputs: inlined as Nodes if an argument is traced or the graph reads an open trace, NumPy values
    otherwise.
    """
    if graph.free or any(isinstance(a, Node) for a in arrays):
        return _inlined(graph, arrays)
    graph.refuse_overflow(arrays)
    values = {
        node: fit_argument(a, node.aval, graph.names.get(node, f"argument {i}"))
        for i, (node, a) in enumerate(zip(graph.inputs, arrays, strict=True))
    }
    return [as_result(v) for v in interpret(graph.outputs, dict(values), names=graph.names)]


def called(graph: Graph, arrays: Sequence[Any]) -> list[Node]:
    """The flat outputs of a graph that reads no open trace, as the results of one node: a call of its function."""
    operands = [as_node(a) for a in arrays]
    running = open_traces.get()
    if not running:
        _refuse_leaks(graph.replace(inputs=(), outputs=tuple(operands)))
    known = running[0].bodies if running else {}
    return call_function(on_own_leaves(graph, known), operands)


def _inlined(graph: Graph, arrays: Sequence[Any]) -> list[Node]:
    """The outputs on other leaves; the user's names inside go to the enclosing trace."""
    known: dict[Node, Node] = {}
    leaves = dict(zip(graph.inputs, map(as_node, arrays), strict=True))
    outputs = rewrite(graph.outputs, lambda node, args: None, leaves, known)
    running = open_traces.get()
    if not running:
        _refuse_leaks(graph.replace(inputs=(), outputs=tuple(leaves.values())))
    else:
        inner = {known[n]: name for n, name in graph.names.items() if n in known and n not in leaves}
        running[-1].inlined = inner | running[-1].inlined
    return outputs


def as_result(value: np.ndarray[Any, Any]) -> Any:
    """A result the caller may keep: 0-d values are NumPy scalars, arrays own their memory and are writable."""
    if value.shape == ():
        return value[()]
    return np.array(value, order="C", copy=True)


# -- names -------------------------------------------------------------------------------------------------------------


def function_name(f: Any) -> str:
    """What to call ``f`` in messages: one line, whatever it calls itself."""
    inner = f if hasattr(f, "__name__") else getattr(f, "func", f)  # functools.partial
    name = getattr(inner, "__name__", type(inner).__name__)
    return "f" if name == "<lambda>" else str(name) if str(name).isprintable() else repr(str(name))[1:-1]


def argument_names(f: Any, args: Any, kwargs: Any, paths: Sequence[tuple[Any, ...]]) -> list[str]:
    """A short unique name per array leaf: the parameter's, or its key inside the parameter's container."""
    heads = parameter_names(f, len(args))
    full = [_path_name(heads, path) for path in paths]
    short = [_short_name(path, name) for path, name in zip(paths, full, strict=True)]
    return [s if short.count(s) == 1 else n for s, n in zip(short, full, strict=True)]


def parameter_names(f: Any, count: int) -> list[str]:
    """What ``f`` calls its first ``count`` positional arguments."""
    names: list[str] = []
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    for p in parameters:
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
        elif p.kind is p.VAR_POSITIONAL:
            names += [f"{p.name}[{i}]" for i in range(count - len(names))]
    return names + [f"arg{i}" for i in range(len(names), count)]


def _path_name(heads: Sequence[str], path: tuple[Any, ...]) -> str:
    which, first, *rest = path
    name = heads[first] if which == 0 else str(first)
    return name + path_text(rest)


def _short_name(path: tuple[Any, ...], full: str) -> str:
    last = path[-1]
    return last if len(path) > 2 and isinstance(last, str) and last.isidentifier() else full


@contextmanager
def _watching(witnesses: Witnesses) -> Iterator[None]:
    token = watching.set(witnesses)
    try:
        yield
    finally:
        watching.reset(token)


def _names_of_inputs(graph: Graph, labels: Sequence[str], found: Mapping[Node, str]) -> dict[Node, str]:
    """The argument's name if that is an identifier, else the variable that held this input and no other."""
    held = Counter(found[x] for x in graph.inputs if x in found)
    names = {
        x: found[x] if not label.isidentifier() and x in found and held[found[x]] == 1 else label
        for x, label in zip(graph.inputs, labels, strict=True)
    }
    return names if len(set(names.values())) == len(names) else dict(zip(graph.inputs, labels, strict=True))


def _unique_names(
    graph: Graph, inputs: Mapping[Node, str], found: Mapping[Node, str], begun: Container[str]
) -> dict[Node, str]:
    """The user's names, made unique: values that one variable held are numbered in order.

    Where arguments come in lists the numbers begin at 0, as those of the lists do, else at 1; a variable in ``begun``
    had its zeroth value from elsewhere.
    """
    names = dict(inputs)
    taken = set(names.values())
    values: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node in found and node not in names:
            values.setdefault(found[node], []).append(node)
    listed = any("[0]" in label and label.replace("[0]", "[1]") in taken for label in taken)
    for name, nodes in values.items():
        if len(nodes) == 1 and name not in taken:
            taken.add(name)
            names[nodes[0]] = name
            continue
        number = 0 if listed and name not in begun and name not in inputs.values() else 1
        for node in nodes:
            while f"{name}_{number}" in taken:
                number += 1
            taken.add(f"{name}_{number}")
            names[node] = f"{name}_{number}"
    return names
