"""No node whose operands contradict each other can be built: a shape rule refuses, or what it says is so.

Every sample of every op is changed in one place: an operand's rank, an extent, a dtype; a number of an attribute, one
more of them, one less.  The rule may refuse, by an error that names op and line; what it accepts must have a value in
NumPy, of the shape and dtype it says.  Loops, branches and bodies, which have no samples, have a table of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.aval import Aval
from gradc.graph import Graph
from gradc.node import OPS, Node
from gradc.ops.control import Loop, inner_leaf, item
from gradc.ops.record import Kind, Op, has_results
from gradc.passes import verify
from tests.op_cases import cases, leaf

Attrs = Mapping[str, Any]
Application = tuple[list[Aval], Attrs]
SAMPLED = sorted(name for name, op in OPS.items() if op.kind is Kind.ELEMENTWISE or op.samples)


def changed(op: Op, avals: list[Aval], attrs: Attrs) -> Iterator[Application]:
    """The application with one thing changed; attributes of elementwise ops are numbers of their arithmetic."""
    for i, x in enumerate(avals):
        others = [{"shape": (*x.shape, 3)}, {"shape": x.shape[1:]}, {"shape": (*x.shape[:-1], 7)}]
        others += [{"shape": (*x.shape[:a], n + 1, *x.shape[a + 1 :])} for a, n in enumerate(x.shape)]
        others += [{"dtype": np.dtype(d)} for d in ("float32", "int64", "bool", "int8")]
        for other in others:
            yield [*avals[:i], replace(x, **other), *avals[i + 1 :]], attrs
    if len(avals) > 1:
        yield avals[:-1], attrs
    for name, value in attrs.items() if op.kind is not Kind.ELEMENTWISE else ():
        for other in changed_attribute(value):
            yield avals, {**attrs, name: other}


def changed_attribute(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple):
        yield (*value, *value[:1])
        yield value[:-1]
        yield value[::-1]
        for k, part in enumerate(value):
            for other in changed_attribute(part):
                yield (*value[:k], other, *value[k + 1 :])
    elif isinstance(value, int) and not isinstance(value, bool):
        yield from (value + 1, value - 1, value + 7, -value - 1)


def made(op: Op, avals: list[Aval], attrs: Attrs) -> Node:
    return op.make([leaf(a) for a in avals], **attrs)


def ones(aval: Aval) -> np.ndarray:
    """Numbers that are in every op's domain or give NaN, regular matrices, and indices into any axis that has an
    element."""
    if aval.dtype.kind == "i":
        return np.zeros(aval.shape, aval.dtype)
    found = np.ones(aval.shape, aval.dtype)
    return found + np.eye(*aval.shape[-2:], dtype=aval.dtype) if aval.ndim > 1 and aval.is_float else found


@pytest.mark.parametrize("name", SAMPLED)
def test_a_rule_refuses_or_says_what_is_so(name):
    op, refusals = OPS[name], 0
    for case in cases(op):
        for avals, attrs in changed(op, [Aval(a.shape, a.dtype) for a in case.arrays], case.attrs):
            try:
                node = made(op, avals, attrs)
            except (gc.ShapeError, gc.DTypeError) as refused:
                assert str(refused).startswith("test_shape_rules.py:") or "/test_shape_rules.py:" in str(refused)
                assert name in str(refused)
                refusals += 1
                continue
            found = op.evaluate(*map(ones, avals), **attrs)
            values, parts = (found, node.aval.parts) if has_results(node) else ([np.asarray(found)], [node.aval])
            for value, part in zip(values, parts, strict=True):
                assert (value.shape, value.dtype) == (part.shape, part.dtype), f"{avals} {attrs}"
    assert refusals or (op.kind is Kind.ELEMENTWISE and len(cases(op)[0].arrays) == 1)  # maps take whatever comes


X, Y = Aval((3,), np.dtype(np.float64)), Aval((4, 3), np.dtype(np.float64))
SINGLE, FLAG = replace(X, dtype=np.dtype(np.float32)), Aval((), np.dtype(bool))


def body(*avals: Aval, returns: Callable[..., tuple[Node, ...]]) -> Graph:
    inputs = tuple(inner_leaf(a, "x") for a in avals)
    return Graph(inputs, returns(*inputs))


ADDS = body(X, X, returns=lambda c, row: (c + row, c))
GROWS = body(X, X, returns=lambda c, row: (np.concatenate([c, row]), c))
WIDENS = body(SINGLE, X, returns=lambda c, row: (c + row, c))
KEEPS = body(X, returns=lambda x: (x,))
SUMS = body(X, returns=lambda x: (np.sum(x),))
POSITIVE = body(X, returns=lambda x: (np.all(x > 0),))


def loop(body: Graph, carry: Aval, rows: Aval | None, length: int | None, cond: Graph | None = None) -> Node:
    xs = () if rows is None else (leaf(rows),)
    return Loop(body, (), (leaf(carry),), xs, length, cond=cond).node()


def held(name: str, *avals: Aval, **bodies: Graph) -> Node:
    return made(OPS[name], list(avals), bodies)


FINE: dict[str, Callable[[], Node]] = {
    "a scan": lambda: loop(ADDS, X, Y, 4),
    "a while loop": lambda: loop(KEEPS, X, None, None, POSITIVE),
    "a branch": lambda: held("cond", FLAG, X, body=KEEPS, otherwise=KEEPS),
    "a body": lambda: held("checkpoint", X, body=SUMS),
}
REFUSED: dict[str, Callable[[], Node]] = {
    "rows of another number": lambda: loop(ADDS, X, Y, 5),
    "rows of another shape": lambda: loop(ADDS, X, replace(Y, shape=(4, 2)), 4),
    "no rows": lambda: loop(ADDS, X, None, 4),
    "a carry of another shape": lambda: loop(ADDS, replace(X, shape=(2,)), Y, 4),
    "a carry that grows": lambda: loop(GROWS, X, Y, 4),
    "a carry that widens": lambda: loop(WIDENS, SINGLE, Y, 4),
    "a condition on something else": lambda: loop(KEEPS, X, None, None, ADDS),
    "a condition that is a number": lambda: loop(KEEPS, X, None, None, SUMS),
    "branches with other results": lambda: held("cond", FLAG, X, body=KEEPS, otherwise=SUMS),
    "branches of something else": lambda: held("cond", FLAG, SINGLE, body=KEEPS, otherwise=KEEPS),
    "a number that chooses": lambda: held("cond", replace(FLAG, dtype=X.dtype), X, body=KEEPS, otherwise=KEEPS),
    "many that choose": lambda: held("cond", replace(FLAG, shape=(3,)), X, body=KEEPS, otherwise=KEEPS),
    "an operand too many": lambda: held("checkpoint", X, X, body=SUMS),
    "a result that is not there": lambda: item(held("checkpoint", X, body=SUMS), 1),
    "the result of an array": lambda: made(OPS["item"], [X], {"index": 0}),
}


@pytest.mark.parametrize("name", FINE)
def test_bodies_that_fit(name):
    FINE[name]()


@pytest.mark.parametrize("name", REFUSED)
def test_bodies_that_contradict_their_operands(name):
    with pytest.raises((gc.ShapeError, gc.DTypeError), match="contradicts itself"):
        REFUSED[name]()


def test_a_node_on_other_operands_is_the_same_array():
    x, y = leaf(X), leaf(Y)
    total = OPS["sum"].make((y,), axes=(0,))
    with pytest.raises(gc.ShapeError, match=r"sum of other operands is float64\[2\], not float64\[3\]"):
        total.rebuilt((leaf(replace(Y, shape=(4, 2))),))
    assert total.rebuilt((leaf(replace(Y, shape=(9, 3))),)).shape == x.shape


def test_verify_says_what_the_rules_say():
    """A node made past the rules is found between passes."""
    x = leaf(Y)
    wrong = Node(OPS["transpose"], (x,), {"axes": (0, 0)}, Y)
    with pytest.raises(gc.CompileError, match=r"invalid graph after a pass: %1 = transpose.*no permutation"):
        verify(Graph((x,), (wrong,)), "a pass")
