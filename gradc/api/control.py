"""Native control flow: scan, fori_loop, while_loop, cond, and checkpoint.

Enters: Python functions and arrays in any nesting.  Leaves: arrays, or nodes inside a trace.  A body is traced once, on
fresh leaves, whatever the number of steps; what it uses from outside becomes an operand of the loop.
Invariant: the carry is a fixed point, the same nesting, shapes and dtypes before and after a step.  Start reading at
`scan`; the ops are in `gradc.ops.control`.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.api.bodies import Leaves, as_aval, closed, is_array, over, parameter_name, ran, required_function
from gradc.api.transform import Transform
from gradc.aval import Aval, promoted
from gradc.containers import Structure, flatten, leaves_of, path_text
from gradc.errors import DTypeError, ShapeError, TraceError
from gradc.graph import Graph
from gradc.node import OPS, Node, as_node, here, next_serial
from gradc.ops.control import Loop, items, lifted, unrolled
from gradc.ops.leaves import full, iota
from gradc.trace import aval_of, new_input, trace

#: A carry that starts as a Python number takes the dtype of what the body makes of it; that settles at once.
ATTEMPTS = 4


# -- scan --------------------------------------------------------------------------------------------------------------


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> tuple[Any, Any]:
    """``carry, y = f(carry, x)`` for every row x of ``xs``, as one loop: returns the last carry and all ys, stacked.

    The meaning is that of::

        ys, carry = [], init
        for x in xs:  # reversed(xs) with reverse=True; the ys stay in the order of the xs
            carry, y = f(carry, x)
            ys.append(y)
        return carry, np.stack(ys)

    ``init``, ``xs`` and ``y`` are arrays in any nesting, or None; all arrays of ``xs`` have one first axis, and
    ``length`` says how many steps there are where ``xs`` does not.  The carry keeps its nesting, shapes and dtypes.
    ``unroll``: how many steps the compiled loop writes out in a row (True: all of them).
    Raises ShapeError, DTypeError or TraceError, naming the carry, for one that changes.

    >>> import gradc as gc, numpy as np
    >>> total, sums = gc.scan(lambda s, x: (s + x, s + x), 0.0, np.arange(4.0))
    >>> float(total), sums.tolist()
    (6.0, [0.0, 1.0, 3.0, 6.0])
    """
    title = required_function(f, "scan", "a function (carry, x) -> (carry, y)")
    start, rows = Leaves.of(init, parameter_name(f, 0, "init"), "scan"), Leaves.of(xs, "xs", "scan")
    steps = _steps(rows, length)
    wanted = _unroll_count(unroll, steps)
    slices = [Aval(a.shape[1:], a.dtype) for a in rows.avals]

    def traced(avals: Sequence[Aval]) -> _Body:
        graph, consts = closed(f, start.nest(avals), rows.nest(slices))
        return _Body.of_pair(graph, consts, title, "scan")

    body, avals = _settled(traced, start, title)
    heads, columns = start.inputs(), rows.inputs()
    inits = tuple(as_aval(x, a) for x, a in zip(heads, avals, strict=True))
    loop = Loop(body.graph, tuple(body.consts), inits, tuple(columns), steps, bool(reverse))
    flat = ran([*heads, *columns], _in_blocks(loop, wanted), title, [*start.values, *rows.values])
    carry, ys = flat[: len(avals)], flat[len(avals) :]
    return start.structure.unflatten(carry), body.ys.unflatten(ys)


def _steps(rows: Leaves, length: int | None) -> int:
    """The number of steps, from the first axis of every array of ``xs`` and ``length``."""
    if length is not None:
        length = _static(length, "length")
    for aval, name in zip(rows.avals, rows.names, strict=True):
        if not aval.shape:
            raise ShapeError(
                f"{here()}: scan: {name} has no axis to walk along; every array of xs has one row per step.\n"
                "  Close over a value that is the same in every step, and say length=."
            )
        if length is not None and aval.shape[0] != length:
            found = ", ".join(f"{n}: {a}" for n, a in zip(rows.names, rows.avals, strict=True))
            raise ShapeError(f"{here()}: scan: first axes (and length={length}) must agree, got {found}")
        length = aval.shape[0]
    if length is None:
        raise TypeError(f"{here()}: scan needs xs or length= to know how many steps there are")
    return length


def _static(value: Any, what: str) -> int:
    """A count known while tracing."""
    if isinstance(value, Node):
        raise TraceError(
            f"{here()}: {what} is a traced value, and the number of steps must be known: derive it from shapes, or "
            "make it a static argument.\n  gc.fori_loop takes a traced upper bound, gc.while_loop a traced condition."
        )
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{here()}: {what} must be an integer, got {value!r:.40}") from None
    if count < 0:
        raise ValueError(f"{here()}: {what} must not be negative, got {count}")
    return count


def _unroll_count(unroll: int | bool, steps: int) -> int:
    if unroll is True:
        return max(steps, 1)
    if unroll is False:
        return 1
    return max(1, min(_static(unroll, "unroll"), max(steps, 1)))


def _in_blocks(loop: Loop, count: int) -> list[Node]:
    """The results of a loop that writes out ``count`` steps in a row; the steps left over follow it."""
    assert loop.length is not None
    whole = loop.length // count
    if count == 1 or loop.length == 0:
        return items(loop.node())
    split = whole * count
    if whole <= 1 and split == loop.length:
        return unrolled(loop)
    first, last = ((loop.length - split, loop.length), (0, loop.length - split)) if loop.reverse else (
        (0, split), (split, loop.length))  # fmt: skip
    blocked = _blocked(loop, whole, count, first)
    results = items(blocked.node())
    carries, stacks = results[: len(loop.carries)], results[len(loop.carries) :]
    flat = [OPS["reshape"].make((s,), shape=(split, *s.shape[2:])) for s in stacks]
    if split == loop.length:
        return [*carries, *flat]
    rest = loop.rebuilt(carries=tuple(carries), xs=tuple(_rows(x, *last) for x in loop.xs), length=loop.length - split)
    tail = unrolled(rest)
    parts = zip(flat, tail[len(carries) :], strict=True)
    joined = [OPS["concatenate"].make((b, a) if loop.reverse else (a, b), axis=0) for a, b in parts]
    return [*tail[: len(carries)], *joined]


def _rows(x: Node, start: int, stop: int) -> Node:
    starts, stops = (start, *(0 for _ in x.shape[1:])), (stop, *x.shape[1:])
    return OPS["slice"].make((x,), starts=starts, stops=stops, steps=(1,) * x.ndim)


def _blocked(loop: Loop, whole: int, count: int, span: tuple[int, int]) -> Loop:
    """The loop over blocks of ``count`` rows, whose body is ``count`` steps."""
    inner = [new_input(Aval((count, *x.shape), x.dtype), str(x.attrs["name"])) for x in loop.inner_xs]
    written = unrolled(Loop(loop.body, loop.inner_consts, loop.inner_carries, tuple(inner), count, loop.reverse))
    inputs = (*loop.inner_consts, *loop.inner_carries, *inner)
    names = {x: str(x.attrs["name"]) for x in inputs}
    body = Graph(inputs, tuple(written), names, title=loop.body.title)
    xs = [OPS["reshape"].make((_rows(x, *span),), shape=(whole, count, *x.shape[1:])) for x in loop.xs]
    return loop.rebuilt(body=body, xs=tuple(xs), length=whole)


# -- fori_loop, while_loop ---------------------------------------------------------------------------------------------


def fori_loop(lower: Any, upper: Any, body: Callable[[Any, Any], Any], init: Any) -> Any:
    """``val = body(i, val)`` for i in range(lower, upper), as one loop; returns the last ``val``.

    ``i`` is a traced integer that takes the dtype of its partner, as a Python int does.  Bounds that are Python
    integers make a loop of known length, which has all derivatives; a traced bound makes a `while_loop`, which has
    forward mode.

    >>> import gradc as gc
    >>> int(gc.fori_loop(1, 6, lambda i, product: product * i, 1))
    120
    """
    title = required_function(body, "fori_loop", "a function (i, value) -> value")
    if isinstance(lower, Node) or isinstance(upper, Node):
        return _counting_while(lower, upper, body, init)
    first, last = _bound(lower, "lower"), _bound(upper, "upper")
    start = Leaves.of(init, parameter_name(body, 1, "init"), "fori_loop")
    steps = max(last - first, 0)

    def traced(avals: Sequence[Aval]) -> _Body:
        graph, consts = closed(body, Aval((), np.dtype(np.int64), weak=True), start.nest(avals))
        return _Body.of_value(_counted(graph, len(consts), first), consts)

    found, avals = _settled(traced, start, title)
    inputs = start.inputs()
    inits = tuple(as_aval(x, a) for x, a in zip(inputs, avals, strict=True))
    loop = Loop(found.graph, tuple(found.consts), inits, (iota((steps,)),), steps)
    return start.structure.unflatten(ran(inputs, items(loop.node()), title, start.values))


def _counted(graph: Graph, consts: int, first: int) -> Graph:
    """The body with the counter behind the carries, counting from 0."""
    before, counter, rest = graph.inputs[:consts], graph.inputs[consts], graph.inputs[consts + 1 :]
    if first == 0:
        return graph.replace(inputs=(*before, *rest, counter))
    step = new_input(counter.aval, "t")
    outputs = graph.inlined([*before, OPS["add"].make((step, as_node(first))), *rest])
    kept = {x: name for x, name in graph.names.items() if x is not counter}
    return graph.replace(inputs=(*before, *rest, step), outputs=tuple(outputs), names=kept)


def _bound(value: Any, what: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{here()}: fori_loop: {what} must be an integer, got {value!r:.40}") from None


def _counting_while(lower: Any, upper: Any, body: Callable[[Any, Any], Any], init: Any) -> Any:
    for bound, name in ((lower, "lower"), (upper, "upper")):
        aval = aval_of(bound, name)
        if aval.shape or aval.dtype.kind not in "iu":
            raise DTypeError(f"{here()}: fori_loop: {name} must be an integer scalar, got {aval}")
    # The counter is a Python integer to the body: it takes the dtype of its partner.
    start = as_node(lower)
    counter = Node(OPS["cast"], (start,), {"dtype": np.dtype(np.int64)}, Aval((), np.dtype(np.int64), weak=True))

    @functools.wraps(body)
    def step(state: Any) -> Any:
        return state[0] + 1, body(state[0], state[1])

    return while_loop(lambda state: state[0] < upper, step, (counter, init))[1]


def while_loop(cond: Callable[[Any], Any], body: Callable[[Any], Any], init: Any, max_steps: int | None = None) -> Any:
    """``val = body(val)`` while ``cond(val)``; returns the last ``val``.

    ``cond`` returns one bool.  With ``max_steps`` the loop ends after so many steps at the latest, and reverse mode can
    keep what it needs of each; without it there is forward mode only.

    >>> import gradc as gc
    >>> int(gc.while_loop(lambda n: n < 100, lambda n: 2 * n, 1))
    128
    """
    required_function(cond, "while_loop", "a condition (value) -> bool")
    title = required_function(body, "while_loop", "a function (value) -> value")
    most = None if max_steps is None else _static(max_steps, "max_steps")
    start = Leaves.of(init, parameter_name(body, 0, "init"), "while_loop")

    def traced(avals: Sequence[Aval]) -> _Body:
        graph, consts = closed(body, start.nest(avals))
        return _Body.of_value(graph, consts)

    found, avals = _settled(traced, start, title)
    test, test_consts = closed(cond, start.nest(avals))
    _one_bool(test, "while_loop: the condition")
    inputs = start.inputs()
    inits = tuple(as_aval(x, a) for x, a in zip(inputs, avals, strict=True))
    loop = _while(found, test, test_consts, inits, most)
    return start.structure.unflatten(ran(inputs, items(loop.node()), title, start.values))


def _while(body: _Body, test: Graph, test_consts: Sequence[Node], inits: tuple[Node, ...], most: int | None) -> Loop:
    """Body and condition over the consts of both."""
    consts = tuple(dict.fromkeys((*body.consts, *test_consts)))
    graphs = []
    for graph, own in ((body.graph, body.consts), (test, test_consts)):
        named = dict(zip(own, graph.inputs, strict=False))
        leaves = [named[c] if c in named else new_input(c.aval, "const") for c in consts]
        graphs.append(graph.replace(inputs=(*leaves, *graph.inputs[len(own) :])))
    return Loop(graphs[0], consts, inits, (), most, cond=graphs[1])


def _one_bool(graph: Graph, what: str) -> None:
    found = graph.outputs
    if len(found) != 1 or found[0].shape != () or found[0].dtype != np.bool_:
        shown = ", ".join(str(y.aval) for y in found)
        raise TraceError(
            f"{here()}: {what} must return one bool, {graph.title} returns {shown}; compare, and reduce with np.any or "
            "np.all"
        )


# -- cond --------------------------------------------------------------------------------------------------------------


def cond(pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], *operands: Any) -> Any:
    """``true_fn(*operands)`` if ``pred`` else ``false_fn(*operands)``; only the chosen one runs.

    ``pred`` is a bool scalar (a number counts as true where it is not 0).  Both functions return the same nesting,
    shapes and dtypes.  Under `vmap` with a batch of predicates both run and the results are selected.

    >>> import gradc as gc, numpy as np
    >>> float(gc.cond(True, np.sin, np.cos, 0.0))
    0.0
    """
    titles = [required_function(f, "cond", "a function of the operands") for f in (true_fn, false_fn)]
    given = Leaves.of(tuple(operands), "operand", "cond")
    which = Leaves.of(pred, "pred", "cond")
    if len(which.avals) != 1 or which.avals[0].shape != ():
        shown = ", ".join(map(str, which.avals)) or repr(pred)
        raise ShapeError(
            f"{here()}: cond: pred must be one scalar, got {shown}.\n"
            "  Reduce it with np.any or np.all; choose elements with np.where, or rows with gc.vmap."
        )
    (one, one_consts), (two, two_consts) = (closed(f, *given.nest(given.avals)) for f in (true_fn, false_fn))
    one, two = _same_results(one, two, titles)
    (chosen,), inputs = which.inputs(), given.inputs()
    consts = list(dict.fromkeys((*one_consts, *two_consts)))
    branches = [over(graph, own, consts) for graph, own in ((one, one_consts), (two, two_consts))]
    test = chosen if chosen.dtype == np.bool_ else OPS["not_equal"].make((chosen, full((), 0, chosen.dtype)))
    node = OPS["cond"].make((test, *consts, *inputs), body=branches[0], otherwise=branches[1])
    flat = ran([chosen, *inputs], items(node), "cond", [*which.values, *given.values])
    assert one.out_tree is not None
    return one.out_tree.unflatten(flat)


def _same_results(one: Graph, two: Graph, titles: Sequence[str]) -> tuple[Graph, Graph]:
    """Both branches with one nesting, shapes and dtypes; Python numbers take the dtype of their partner."""
    assert one.out_tree is not None and two.out_tree is not None
    if one.out_tree != two.out_tree:
        raise TraceError(
            f"{here()}: cond: both functions must return the same nesting; {titles[0]} returns {one.out_tree}, "
            f"{titles[1]} returns {two.out_tree}"
        )
    pairs = list(zip(one.outputs, two.outputs, strict=True))
    names = _names_of(one)
    left, right = [], []
    for (a, b), name in zip(pairs, names, strict=True):
        aval = _meeting(a.aval, b.aval)
        if aval is None:
            error = ShapeError if a.shape != b.shape else DTypeError
            raise error(
                f"{here()}: cond: both functions must return the same shapes and dtypes; {name} is {a.aval} in "
                f"{titles[0]}, {b.aval} in {titles[1]}"
            )
        left.append(as_aval(a, aval))
        right.append(as_aval(b, aval))
    return one.replace(outputs=tuple(left)), two.replace(outputs=tuple(right))


def _names_of(graph: Graph) -> list[str]:
    assert graph.out_tree is not None
    _, paths, _ = flatten(graph.out_tree.unflatten(graph.outputs))
    return [f"the result{path_text(p)}" for p in paths]


def _meeting(a: Aval, b: Aval) -> Aval | None:
    """The aval that both can have: Python numbers yield; None if there is none."""
    if a.shape != b.shape:
        return None
    for given, other in ((a, b), (b, a)):
        joined = _yielding(given, other)
        if joined is not None:
            return joined
    return None


# -- checkpoint --------------------------------------------------------------------------------------------------------


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """``f``, whose inner values reverse mode computes again from its arguments instead of keeping them: less memory,
    one more evaluation.  Its value and derivatives are those of ``f``.

    >>> import gradc as gc, numpy as np
    >>> float(gc.grad(gc.checkpoint(lambda x: np.sin(np.sin(x))))(0.0))
    1.0
    """
    required_function(f, "checkpoint", "a function")

    return Checkpointed(f)


class Checkpointed(Transform):
    """See `checkpoint`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves = leaves_of((args, kwargs))[0]
        since = next_serial()
        graph = trace(self.function, *args, **kwargs)
        body, consts = lifted(graph, lambda node: node.serial < since or is_array(node))
        inputs = [new_input(x.aval, graph.names.get(x, "argument")) for x in graph.inputs]
        node = OPS["checkpoint"].make((*consts, *inputs), body=body)
        assert graph.out_tree is not None
        return graph.out_tree.unflatten(ran(inputs, items(node), graph.title, leaves))


# -- bodies ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Body:
    """A traced body: the carry it returns, and its ys."""

    graph: Graph
    consts: list[Node]
    carry: Structure
    ys: Structure
    count: int

    @classmethod
    def of_pair(cls, graph: Graph, consts: list[Node], title: str, whose: str) -> _Body:
        """A body that returns (carry, y)."""
        tree = _without_constants(graph, whose)
        if tree.spec.type is not tuple or tree.spec.num_children != 2:
            shown = "one array" if tree.is_leaf else f"{tree.spec.type.__name__}"
            raise TraceError(
                f"{here()}: {whose}: {title} must return a pair (carry, y), it returns {shown}; y may be None"
            )
        carry, ys = (Structure(child) for child in tree.spec.children())
        return cls(graph, consts, carry, ys, carry.spec.num_leaves)

    @classmethod
    def of_value(cls, graph: Graph, consts: list[Node]) -> _Body:
        """A body that returns the carry alone."""
        tree = _without_constants(graph, "loop")
        return cls(graph, consts, tree, tree, len(graph.outputs))

    def finished(self, avals: Sequence[Aval]) -> _Body:
        """With outputs cast to what the carry is."""
        carried = [as_aval(y, a) for y, a in zip(self.graph.outputs, avals, strict=False)]
        outputs = (*carried, *self.graph.outputs[self.count :])
        return _Body(self.graph.replace(outputs=outputs), self.consts, self.carry, self.ys, self.count)


def _without_constants(graph: Graph, whose: str) -> Structure:
    """How the results of a body nest; what it hands on from step to step are arrays."""
    tree = graph.out_tree
    assert tree is not None
    for _, static in tree.static:
        raise TraceError(
            f"{here()}: {whose}: {graph.title} returns {static.value!r:.40}, which is not an array: it is the same in "
            "every step and known outside; leave it out"
        )
    return tree


def _settled(traced: Callable[[Sequence[Aval]], _Body], start: Leaves, title: str) -> tuple[_Body, list[Aval]]:
    """The body on carries that it returns as they are; a carry that starts as a Python number yields to the body."""
    avals = list(start.avals)
    for _ in range(ATTEMPTS):
        body = traced(avals)
        if body.carry.spec != start.structure.spec:
            raise TraceError(
                f"{here()}: {title} must return the carry in the nesting it got: expected {start.structure}, got "
                f"{body.carry}"
            )
        found = [y.aval for y in body.graph.outputs[: body.count]]
        joined = [_joined(a, y, name, title) for a, y, name in zip(avals, found, start.names, strict=True)]
        if joined == avals:
            return body.finished(avals), avals
        avals = joined
    raise TraceError(f"{here()}: {title}: the dtypes of the carry do not settle: {', '.join(map(str, avals))}")


def _joined(given: Aval, returned: Aval, name: str, title: str) -> Aval:
    """What a carry is, that goes into a step as ``given`` and comes out as ``returned``."""
    if given.shape != returned.shape:
        raise ShapeError(
            f"{here()}: {title}: the carry keeps its shape, but {name} is {given} before a step and {returned} after "
            f"it.\n  {_shape_remedy(given, returned)}"
        )
    joined = _yielding(given, returned)
    if joined is None:
        raise DTypeError(
            f"{here()}: {title}: the carry keeps its dtype, but {name} is {given} before a step and {returned} after "
            f"it.\n  Start with {name} as {returned.dtype}, or return it with .astype('{given.dtype}')."
        )
    return joined


def _shape_remedy(given: Aval, returned: Aval) -> str:
    if given.ndim == 0 or given.ndim < returned.ndim:
        return f"Start with an array of that shape, such as np.zeros({returned.shape}), or reduce the result."
    return "Return what has the shape of the start; a growing array is an array of ys, stacked by the loop."


def _yielding(given: Aval, returned: Aval) -> Aval | None:
    """The common aval if ``given`` is a Python number that can yield, or ``returned`` is, or both have one dtype."""
    shape = given.shape
    if given.dtype == returned.dtype:
        return Aval(shape, given.dtype, given.weak and returned.weak)
    if given.weak:
        joint = promoted(_zero(given), returned.dtype) if not returned.weak else promoted(
            given.dtype, returned.dtype)  # fmt: skip
        return Aval(shape, np.dtype(joint), returned.weak) if joint == returned.dtype else None
    if returned.weak:
        joint = promoted(given.dtype, _zero(returned))
        return given if joint == given.dtype else None
    return None


def _zero(aval: Aval) -> float | int:
    return 0.0 if aval.is_float else 0


__all__ = ["checkpoint", "cond", "fori_loop", "scan", "while_loop"]
