"""Random programs built from the registry, for hypothesis: what the fuzz tests compile, differentiate and compare.

Enters: `draw` of a hypothesis strategy.  Leaves: a `Program`: a graph of a few float inputs and arrays for them. Every
differentiable elementwise op of the registry takes part in the middle of its own `domain`, so a new op is fuzzed by
being registered; structured ops are chosen so that sizes stay small.  Start reading at `programs`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import gradc.numpy  # noqa: F401  fills the functions behind NumPy's names
from gradc.aval import Aval
from gradc.errors import DTypeError
from gradc.graph import Graph
from gradc.node import OPS, Node, constant
from gradc.ops.elementwise import apply, loop_dtypes, promotes
from gradc.ops.record import Kind, Op
from tests.op_cases import ATTRS, leaf, operand_count

Array = np.ndarray[Any, Any]
Draw = Callable[[Any], Any]

#: no array of a program has more elements
MOST_ELEMENTS = 48
SHAPES = ((3,), (2, 3), (4, 2), (), (5,), (2, 2, 2), (1, 3))
ARITHMETIC = ("add", "subtract", "multiply")


def _takes_floats(op: Op) -> bool:
    """Whether all operands may be floats: not the bits of integers, nor an exponent."""
    try:
        return promotes(op) and loop_dtypes(op.name, [Aval((), np.dtype(float))] * operand_count(op))[-1].kind == "f"
    except DTypeError:
        return False


ELEMENTWISE = tuple(
    n for n, op in sorted(OPS.items())
    if op.kind is Kind.ELEMENTWISE and n not in ("where", "cast", "stop_gradient", *ARITHMETIC) and _takes_floats(op)
)  # fmt: skip
#: of these SymPy has no derivative in all operands that gradc has an op for, so symbolic mode refuses them by name
REFUSED_BY_SYMBOLIC = {n for n in ELEMENTWISE if OPS[n].sympy is None and OPS[n].source is None} | {
    "gammainc", "gammaincc", "betainc", "betaincc", "riemann_zeta", "zetac",
}  # fmt: skip
#: locally constant or with jumps: fine to compile, nothing to compare a difference quotient with
STEPS = ("floor", "ceil", "trunc", "rint", "sign", "floor_divide", "remainder", "fmod")
PREDICATES = ("less", "less_equal", "greater", "greater_equal")


@dataclass(frozen=True)
class Program:
    """A graph and arguments for it; ``str`` shows both when a test fails."""

    graph: Graph
    arrays: tuple[Array, ...]

    def __repr__(self) -> str:
        values = [np.array2string(a, threshold=64) for a in self.arrays]
        return f"{self.graph}\nat {values}"


@st.composite
def programs(
    draw: Draw,
    dtype: Any = np.float64,
    steps: bool = True,
    most_ops: int = 10,
    scalar: bool = False,
    symbolic: bool = False,
) -> Program:
    """A program of up to ``most_ops`` ops; with ``scalar`` its one output is a scalar, else its last values are; with
    ``symbolic`` of ops that symbolic mode differentiates in all operands."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3))
    inputs = [leaf(Aval(s, np.dtype(dtype)), f"x{k}") for k, s in enumerate(shapes)]
    pool = list(inputs)
    builders = [b for b in BUILDERS if steps or b is not _step]
    builders = [_symbolic if symbolic and b is _elementwise else b for b in builders]
    for _ in range(draw(st.integers(1, most_ops))):
        made = draw(st.sampled_from(builders))(draw, pool, random)
        if made.size <= MOST_ELEMENTS:
            pool.append(made)
    arrays = tuple(random.uniform(-2, 2, s).astype(dtype) for s in shapes)
    made_here = pool[len(inputs) :] or pool
    last = made_here[-1]
    outputs = (_summed(draw, made_here),) if scalar else tuple(dict.fromkeys((last, *made_here[-3:])))
    return Program(Graph(tuple(inputs), outputs, title="program"), arrays)


def _summed(draw: Draw, pool: list[Node]) -> Node:
    """A scalar that depends on several values."""
    chosen = [pool[-1], *draw(st.lists(st.sampled_from(pool), max_size=2))]
    floats = [n for n in chosen if n.aval.is_float] or pool[:1]
    total = np.sum(np.tanh(floats[0]))
    for n in floats[1:]:
        total = total + np.sum(np.sin(n))
    return total


def _pick(draw: Draw, pool: list[Node], fits: Callable[[Node], bool] = lambda n: True) -> Node:
    """One of the pool that fits, newest first when shrinking; the first input if none does."""
    found = [n for n in reversed(pool) if fits(n)]
    return draw(st.sampled_from(found)) if found else pool[0]


def _into(x: Node, low: float, high: float) -> Node:
    """x squeezed into (low, high), monotonically."""
    return apply(OPS["sigmoid"], x) * (high - low) + low


# -- one op each -------------------------------------------------------------------------------------------------------


def _elementwise(draw: Draw, pool: list[Node], random: np.random.Generator, names: tuple[str, ...] = ()) -> Node:
    """Any op of the registry, on operands in the inner nine tenths of its domain."""
    op = OPS[draw(st.sampled_from(names or [n for n in ELEMENTWISE if n not in STEPS]))]
    x = _pick(draw, pool)
    operands = [x]
    for _ in range(operand_count(op) - 1):
        operands.append(_pick(draw, pool, lambda n: n.shape in (x.shape, ())))
    bounds = (*op.domain, *[op.domain[-1]] * len(operands))
    squeezed = []
    for operand, (low, high) in zip(operands, bounds, strict=False):
        margin = 0.05 * (high - low)
        squeezed.append(_into(operand, low + margin, high - margin))
    return apply(op, *squeezed, **ATTRS.get(op.name, {}))


def _symbolic(draw: Draw, pool: list[Node], random: np.random.Generator) -> Node:
    return _elementwise(draw, pool, random, tuple(n for n in ELEMENTWISE if n not in {*STEPS, *REFUSED_BY_SYMBOLIC}))


def _step(draw: Draw, pool: list[Node], random: np.random.Generator) -> Node:
    return _elementwise(draw, pool, random, STEPS)


def _arithmetic(draw: Draw, pool: list[Node], random: np.random.Generator) -> Node:
    x = _pick(draw, pool)
    y = _pick(draw, pool, lambda n: _broadcast(n, x))
    if not _broadcast(y, x):
        y = np.sum(y)
    return apply(OPS[draw(st.sampled_from(ARITHMETIC))], np.tanh(x), y)


def _broadcast(a: Node, b: Node) -> bool:
    try:
        return int(np.prod(np.broadcast_shapes(a.shape, b.shape))) <= MOST_ELEMENTS
    except ValueError:
        return False


def _with_constant(draw: Draw, pool: list[Node], random: np.random.Generator) -> Node:
    x = _pick(draw, pool)
    value = draw(st.sampled_from([0.5, 2.0, -1.0, 3.0]))
    how = draw(st.sampled_from(["add", "multiply", "divide", "power"]))
    if how == "power":
        return apply(OPS["power"], _into(x, 0.2, 2.0), value)
    return apply(OPS[how], x, value) if draw(st.booleans()) else apply(OPS[how], value, _into(x, 0.5, 2.0))


def _where(draw: Draw, pool: list[Node], random: np.random.Generator) -> Node:
    x = _pick(draw, pool)
    y = _pick(draw, pool, lambda n: n.shape == x.shape)
    mask = apply(OPS[draw(st.sampled_from(PREDICATES))], x, draw(st.sampled_from([0.0, 0.25, -1.0])))
    other = y if y.shape == x.shape else x
    safe = draw(st.sampled_from([np.sqrt, np.log, np.sin]))
    return np.where(mask, safe(x) if draw(st.booleans()) else x * 2, other)


def _reduce(draw: Draw, pool: list[Node], random: np.random.Generator) -> Node:
    x = _pick(draw, pool, lambda n: n.ndim > 0)
    if not x.ndim:
        return np.sin(x)
    axes = tuple(sorted(draw(st.sets(st.integers(0, x.ndim - 1), min_size=1))))
    name = draw(st.sampled_from(["sum", "max", "min", "prod", "norm", "logsumexp"]))
    return OPS[name].make((np.tanh(x),), axes=axes)


def _prefix(draw: Draw, pool: list[Node], random: np.random.Generator) -> Node:
    x = _pick(draw, pool, lambda n: n.ndim > 0)
    if not x.ndim:
        return np.cos(x)
    axis = draw(st.integers(0, x.ndim - 1))
    return OPS[draw(st.sampled_from(["cumsum", "cumprod"]))].make((np.tanh(x),), axis=axis, reverse=draw(st.booleans()))


def _view(draw: Draw, pool: list[Node], random: np.random.Generator) -> Node:
    x = _pick(draw, pool, lambda n: n.ndim > 0)
    if not x.ndim:
        return np.broadcast_to(x, (2, 3))
    return draw(st.sampled_from(VIEWS))(draw, x)


def _slice(draw: Draw, x: Node) -> Node:
    index = []
    for n in x.shape:
        step = draw(st.sampled_from([1, 2, -1]))
        index.append(slice(None, None, step) if n == 1 else slice(draw(st.integers(0, n - 1)), None, step))
    return x[tuple(index)]


def _concatenate(draw: Draw, x: Node) -> Node:
    return np.concatenate([x, np.sin(x)], axis=draw(st.integers(0, x.ndim - 1)))


def _pad(draw: Draw, x: Node) -> Node:
    return np.pad(x, [(draw(st.integers(0, 2)), draw(st.integers(0, 1))) for _ in x.shape])


def _windows(draw: Draw, x: Node) -> Node:
    size, stride = draw(st.integers(1, min(2, x.shape[-1]))), draw(st.integers(1, 2))
    return OPS["windows"].make((x,), axes=(x.ndim - 1,), sizes=(size,), strides=(stride,), dilations=(1,))


def _permuted(draw: Draw, x: Node) -> Node:
    return np.transpose(x, draw(st.permutations(range(x.ndim))))


VIEWS: tuple[Callable[[Draw, Node], Node], ...] = (
    _slice, _concatenate, _pad, _windows, _permuted,
    lambda draw, x: x.reshape(-1),
    lambda draw, x: np.roll(x, 1, axis=0),
    lambda draw, x: x[..., None] + np.zeros((2,), x.dtype),
    lambda draw, x: np.tril(x) if x.ndim >= 2 else x[::-1],
)  # fmt: skip


def _contract(draw: Draw, pool: list[Node], random: np.random.Generator) -> Node:
    x = _pick(draw, pool, lambda n: n.ndim == 2)
    if x.ndim != 2:
        return np.sin(x)
    matrix = constant(random.uniform(-1, 1, (x.shape[1], 3)).astype(x.dtype))
    products = (
        lambda: x @ matrix,
        lambda: x @ x.T,
        lambda: x.T @ np.cos(x),
        lambda: np.einsum("ij,ij->i", x, np.sin(x)),
    )
    return draw(st.sampled_from(products))()


def _gather(draw: Draw, pool: list[Node], random: np.random.Generator) -> Node:
    x = _pick(draw, pool, lambda n: n.ndim > 0 and n.shape[0] > 0)
    if not x.ndim or not x.shape[0]:
        return np.sin(x)
    indices = random.integers(-x.shape[0], x.shape[0], draw(st.integers(1, 4)))
    return x[indices] if draw(st.booleans()) else x[np.argsort(x, axis=0)[:, *[0] * (x.ndim - 1)]]


def _scatter(draw: Draw, pool: list[Node], random: np.random.Generator) -> Node:
    x = _pick(draw, pool, lambda n: n.ndim > 0 and n.shape[0] > 0)
    if not x.ndim or not x.shape[0]:
        return np.cos(x)
    indices = random.integers(0, x.shape[0], 2)
    update = np.sin(x)[:1] * 0.5
    place = x.at[indices]
    how = draw(st.sampled_from(["set", "add", "max", "min"]))
    return getattr(place, how)(np.broadcast_to(update, (2, *x.shape[1:])))


BUILDERS: tuple[Callable[[Draw, list[Node], np.random.Generator], Node], ...] = (
    _elementwise, _elementwise, _step, _arithmetic, _arithmetic, _with_constant, _where, _reduce, _prefix, _view, _view,
    _contract, _gather, _scatter,
)  # fmt: skip
