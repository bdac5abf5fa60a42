"""Compiled kernels against the NumPy oracle: bits where NumPy's are promised, stated bounds elsewhere.

Every input ends at a page that may not be touched and every output lies between guard bytes (`compiled_graph`), so each
test also shows that no lane leaves its array.  Start reading at `check`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from gradc.codegen import emit, emit_kernel
from gradc.node import OPS, Node, constant
from gradc.ops.leaves import full, iota
from gradc.ops.record import Kind, Op
from tests.compiled_graph import HOST, Array, Compiled, CompiledGraph, apply, compiled, leaf, same_bits
from tests.op_cases import cases, operand_count, operands
from tests.test_schedule import layer_norm, spread

FLOATS = ("float32", "float64")
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 1e30, -1e-30, 1e-45, 3.0]


def check(graph: CompiledGraph, *arrays: Any, bound: float = 0.0) -> None:
    """Bits equal to the oracle's, or within ``bound`` relative to the largest element."""
    want = graph.graph.evaluate(*[np.array(a, n.dtype) for a, n in zip(arrays, graph.graph.inputs, strict=True)])
    got = graph(*arrays)
    assert graph.status == 0
    for k, (x, y) in enumerate(zip(want, got, strict=True)):
        message = f"output {k}\n{graph.schedule}\nwant {x}\ngot {y}"
        if bound and y.dtype.kind == "f":
            assert close(x, y, bound), message
        else:
            assert same_bits(x, y), message


def close(want: Array, got: Array, bound: float) -> bool:
    scale = np.max(np.abs(want), initial=1.0, where=np.isfinite(want))
    return bool(np.allclose(want, got, rtol=0, atol=bound * scale, equal_nan=True))


def epsilon(dtype: Any) -> float:
    return float(np.finfo(dtype).eps)


# -- elementwise -------------------------------------------------------------------------------------------------------

#: Ops whose result is NumPy's bit for bit.
EXACT = (
    "add", "subtract", "multiply", "divide", "negative", "positive", "square", "reciprocal",
    "absolute", "sign", "maximum", "minimum", "relu", "sqrt", "equal", "not_equal", "less", "less_equal", "greater",
    "greater_equal", "isnan", "isinf", "isfinite", "logical_and", "logical_or", "logical_xor", "logical_not",
    "floor", "ceil", "trunc", "rint", "where", "cast", "stop_gradient", "copysign", "floor_divide", "remainder",
)  # fmt: skip
INTEGER = (
    "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_invert", "bitwise_left_shift", "bitwise_right_shift",
)  # fmt: skip
#: Functions with zeros at which the reference itself cancels: there errors are counted in the last place of 1.
CANCELLING = ("lgamma", "digamma", "logaddexp")


def elementwise_case(op: Op, arrays: Sequence[Array]) -> CompiledGraph:
    inputs = [leaf(a.shape, a.dtype) for a in arrays]
    attrs = {"dtype": np.dtype("int32")} if op.name == "cast" else {}
    return compiled(apply(op.name, *inputs, **attrs), inputs=inputs)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [n for n in EXACT if n in OPS])
def test_exact_elementwise(name: str, dtype: str) -> None:
    op = OPS[name]
    pairs = np.array([(x, y) for x in SPECIAL for y in SPECIAL], dtype)
    columns = [pairs[:, 0], pairs[:, 1], pairs[::-1, 0]][: operand_count(op)]
    if name == "cast":  # NumPy leaves out-of-range conversions undefined
        columns = [columns[0][np.abs(columns[0]) < 1e9]]
    if name.startswith("logical") or name == "where":
        columns[0] = columns[0] > 0
    if name.startswith("logical"):
        columns = [c > 0 for c in columns]
    check(elementwise_case(op, columns), *columns)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint64"])
def test_integer_arithmetic_wraps_and_never_traps(dtype: str) -> None:
    info = np.iinfo(dtype)
    values = np.array([info.min, info.min + 1, 0, 1, 2, 3, 7, info.max - 1, info.max], dtype)
    x, y = (a.reshape(-1) for a in np.meshgrid(values, values))
    a, b = leaf(x.shape, dtype), leaf(x.shape, dtype)
    plain = ("add", "subtract", "multiply", "floor_divide", "remainder", "maximum", "minimum", "less", "equal")
    names = (*plain, *INTEGER)
    nodes = [apply(n, a, b) if operand_count(OPS[n]) == 2 else apply(n, a) for n in names]
    check(compiled(*nodes, inputs=(a, b)), x, y)


def test_casts_between_all_dtypes() -> None:
    dtypes = ["bool", "int8", "int32", "int64", "uint8", "uint32", "uint64", "float32", "float64"]
    values = [np.arange(0, 100).astype(d) for d in dtypes]
    inputs = [leaf(v.shape, v.dtype) for v in values]
    nodes = [apply("cast", x, dtype=np.dtype(d)) for x in inputs for d in dtypes if x.dtype != np.dtype(d)]
    check(compiled(*nodes, inputs=inputs), *values)


@pytest.mark.parametrize("dtype", FLOATS)
def test_transcendental_ops_keep_their_bound(dtype: str) -> None:
    """One module for all of them; lane counts, tails and scalars included."""
    names = [n for n, op in OPS.items() if op.kind is Kind.ELEMENTWISE and (op.bound("float64") or 0) > 0.5]
    assert len(names) > 15
    sampled = [case for name in names for case in cases(OPS[name], dtype, (37,))]
    nodes, arrays = [case.node() for case in sampled], [a for case in sampled for a in case.arrays]
    graph = compiled(*nodes, inputs=[x for node in nodes for x in operands(node)])
    want = graph.graph.evaluate(*arrays)
    for case, exact, got in zip(sampled, want, graph(*arrays), strict=True):
        op = case.op
        ulp = (op.bound(str(got.dtype)) or 0.0) + 4.0  # and what the reference may be off by itself
        size = np.maximum(np.abs(exact), 1) if op.name in CANCELLING else np.abs(exact)
        if op.scale is not None:
            size = size + np.abs(op.scale(*[np.asarray(x, float) for x in case.arrays], **case.attrs))
        assert np.all(np.abs(got - exact) <= ulp * np.spacing(size.astype(got.dtype))), (op.name, dtype)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 100])
def test_tails_of_every_length(size: int) -> None:
    x, m = leaf(size, "float32"), leaf(size, "bool")
    y = apply("where", m, x * 2, apply("cast", apply("cast", x, dtype=np.dtype("int64")), dtype=np.dtype("float32")))
    rng = np.random.default_rng(size)
    check(compiled(y, apply("logical_not", m), inputs=(x, m)), rng.uniform(-9, 9, size), rng.integers(0, 2, size))


def test_zero_dimensional_and_constant_outputs() -> None:
    x = leaf((), "float64")
    graph = compiled(
        x + 1, x, constant(np.arange(3.0)), constant(2.5), full((2, 3), 7, "int32"), iota((2, 3), 1), x, inputs=(x,)
    )
    check(graph, 4.25)


def test_a_negative_integer_power_is_reported() -> None:
    x, y = leaf(20, "int64"), leaf(20, "int64")
    graph = compiled(apply("power", x, y), inputs=(x, y))
    powers = np.arange(20)
    check(graph, np.arange(-10, 10), powers)
    powers[13] = -1
    graph(np.arange(20), powers)
    assert graph.status == graph.graph.index[graph.graph.outputs[0]] << 8 | 2


# -- views -------------------------------------------------------------------------------------------------------------


def random_view(x: Node, rng: np.random.Generator) -> Node:
    """One view of ``x``, of any kind that fits."""
    kind = rng.integers(0, 6)
    if kind == 0 and x.ndim > 1:
        return apply("transpose", x, axes=tuple(int(a) for a in rng.permutation(x.ndim)))
    if kind == 1:
        return apply("reshape", x, shape=random_shape(x.size, rng))
    if kind == 2 and x.size:
        return random_slice(x, rng)
    if kind == 3 and x.size < 200:
        return apply("broadcast", x, shape=(3, *x.shape), axes=tuple(range(1, x.ndim + 1)))
    if kind == 4 and x.ndim and x.shape[-1] >= 3 and x.size < 300:
        return apply("windows", x, axes=(x.ndim - 1,), sizes=(2,), strides=(1,), dilations=(int(rng.integers(1, 3)),))
    if kind == 5 and x.ndim:
        starts = tuple(int(s) for s in rng.integers(0, 3, x.ndim))
        steps = tuple(int(s) for s in rng.integers(1, 3, x.ndim))
        ends = (a + max(n - 1, 0) * s + 1 for a, n, s in zip(starts, x.shape, steps, strict=True))
        return apply("pad", x, shape=tuple(e + 1 for e in ends), starts=starts, steps=steps, fill=2.5)
    return x


def random_shape(size: int, rng: np.random.Generator) -> tuple[int, ...]:
    shape = []
    for divisor in (2, 3, 2, 5, 3):
        if size % divisor == 0 and size and rng.integers(0, 2):
            shape.append(divisor)
            size //= divisor
    shape.insert(int(rng.integers(0, len(shape) + 1)), size)
    return tuple(shape)


def random_slice(x: Node, rng: np.random.Generator) -> Node:
    starts, stops, steps = [], [], []
    for n in x.shape:
        step = int(rng.choice([1, 1, 2, -1, -2]))
        start = int(rng.integers(0, n)) if step > 0 else int(rng.integers(n // 2, n))
        starts.append(start if step < 0 else start // 2)
        stops.append(n if step > 0 else -1)
        steps.append(step)
    return apply("slice", x, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))


@pytest.mark.parametrize("seed", range(24))
def test_random_chains_of_views(seed: int) -> None:
    """Views are moves, so the bits must be the oracle's whatever the composed index map is."""
    rng = np.random.default_rng(seed)
    x = leaf([(4, 6), (12,), (2, 3, 5), (5, 1, 4)][seed % 4], "float32")
    outputs = []
    for _ in range(3):
        y = x
        for _ in range(5):
            y = random_view(y, rng)
        outputs.append(y + y * 2)
    check(compiled(*outputs, inputs=(x,)), rng.standard_normal(x.shape))


def test_reshape_across_axes_splits_loops_instead_of_dividing() -> None:
    x = leaf((3, 8), "float32")
    y = apply("reshape", apply("transpose", x, axes=(1, 0)), shape=(24,)) * 2
    graph = compiled(y, inputs=(x,))
    check(graph, np.arange(24.0).reshape(3, 8))
    assert "//" not in str(graph.schedule)


def test_superpose_and_fold_add_where_pieces_overlap() -> None:
    a, b = leaf((3, 4), "float64"), leaf((2, 4), "float64")
    s = apply("superpose", a, b * b, shape=(5, 5), starts=((0, 0), (3, 1)), steps=((2, 1), (1, 1)))
    w = leaf((2, 6, 3), "float64")
    f = apply("fold", w, shape=(2, 13), axes=(1,), sizes=(3,), strides=(2,), dilations=(1,))
    rng = np.random.default_rng(0)
    graph = compiled(s, f, inputs=(a, b, w))
    check(graph, *(rng.standard_normal(n.shape) for n in (a, b, w)), bound=4 * epsilon("float64"))


# -- reductions --------------------------------------------------------------------------------------------------------


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "any", "all"])
def test_reductions_over_every_choice_of_axes(name: str, dtype: str) -> None:
    rng = np.random.default_rng(2)
    x = leaf((3, 5, 18), dtype)
    values = rng.integers(0, 2, x.shape) if dtype == "bool" else rng.uniform(1, 3, x.shape).astype(dtype)
    axes = [(), (0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)]
    graph = compiled(*[apply(name, x, axes=a) for a in axes], inputs=(x,))
    check(graph, values, bound=300 * epsilon(dtype) if dtype in FLOATS else 0)


@pytest.mark.parametrize("shape", [(5, 0), (0, 5), (0,), (3, 0, 2)])
def test_reductions_of_nothing_give_the_identity(shape: tuple[int, ...]) -> None:
    x = leaf(shape, "float32")
    nodes = [apply(n, x, axes=a) for n in ("sum", "prod", "any", "all") for a in ((0,), tuple(range(len(shape))))]
    check(compiled(*nodes, inputs=(x,)), np.zeros(shape))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape,axes", [
    ((100_003,), (0,)), ((7, 5001), (1,)), ((5001, 7), (0,)), ((4097, 33), (0, 1)), ((70, 65, 3), (0, 2)),
    ((2, 9001, 2), (1,)),
])  # fmt: skip
def test_long_sums_keep_the_stated_bound(shape: tuple[int, ...], axes: tuple[int, ...], dtype: str) -> None:
    """|error| <= (64 + 2 + log2(accumulators and blocks)) eps sum|x|, against sums in extended precision."""
    x = leaf(shape, dtype)
    values = np.random.default_rng(3).standard_normal(shape).astype(dtype)
    (got,) = compiled(apply("sum", x, axes=axes), inputs=(x,))(values)
    exact = values.astype(np.longdouble).sum(axis=axes)
    magnitude = np.abs(values.astype(np.longdouble)).sum(axis=axes)
    count = int(np.prod([shape[a] for a in axes]))
    assert np.all(np.abs(got - exact) <= (66 + np.log2(count)) * epsilon(dtype) * magnitude)


def test_sums_have_the_same_bits_at_every_address() -> None:
    values = np.random.default_rng(4).standard_normal(10_000).astype(np.float32)
    x = leaf(9000, "float32")
    graph = compiled(apply("sum", x, axes=(0,)), inputs=(x,))
    results = set()
    for shift in range(20):
        room = np.empty(10_000, np.float32)
        part = room[shift : shift + 9000]
        part[...] = values[:9000]
        results.add(np.asarray(graph.code([part])[0]).tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "bool"])
@pytest.mark.parametrize("shape", [(4, 40), (40, 4), (3, 700), (1, 1)])
def test_extrema_and_their_positions(shape: tuple[int, int], dtype: str) -> None:
    """Ties go to the first position; NaN wins wherever it stands."""
    rng = np.random.default_rng(5)
    values = rng.integers(0, 2 if dtype == "bool" else 6, shape).astype(dtype)
    if dtype in FLOATS:
        values[0, -1], values[-1, shape[1] // 2] = np.nan, np.nan
        values[shape[0] // 2] = -np.inf
    x = leaf(shape, dtype)
    nodes = [apply(n, x, axes=(a,)) for n in ("max", "min", "argmax", "argmin") for a in (0, 1)]
    check(compiled(*nodes, inputs=(x,)), values)


def test_reductions_of_fused_producers_and_what_follows() -> None:
    x, b = leaf((30, 20), "float64"), leaf((20,), "float64")
    z = np.exp(x + b) * 0.5
    s = apply("sum", z, axes=(1,))
    c = apply("sum", z, axes=(0,))
    lse = apply("logsumexp", x, axes=(1,))
    graph = compiled(s / 20, np.sqrt(s) + 1, c * b, lse, apply("norm", x, axes=(0, 1)), inputs=(x, b))
    rng = np.random.default_rng(6)
    check(graph, rng.standard_normal((30, 20)), rng.standard_normal(20), bound=64 * epsilon("float64"))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(6, 32), (5, 33), (2, 3, 100), (1, 5000), (40, 20)])
def test_several_passes_over_each_row(shape: tuple[int, ...], dtype: str) -> None:
    """Softmax, layer norm and the like, with and without their inner values wanted, and onto a donated input."""
    x, w = leaf(shape, dtype), leaf(shape, dtype)
    e = np.exp(x - spread(apply("max", x, axes=(x.ndim - 1,)), shape))
    total = apply("sum", e, axes=(x.ndim - 1,))
    p = e / spread(total, shape)
    loss = np.log(total) * 2
    arrays = [np.random.default_rng(20).standard_normal(shape) for _ in range(2)]
    bound = 100 * epsilon(dtype)
    check(compiled(p, inputs=(x,)), arrays[0], bound=bound)
    check(compiled(p, e, loss, inputs=(x,)), arrays[0], bound=bound)
    check(compiled(layer_norm(x) * w, apply("argmax", p, axes=(x.ndim - 1,)), inputs=(x, w)), *arrays, bound=bound)
    check(compiled(p, inputs=(x,), donated={0: 0}), arrays[0], bound=bound)
    check(compiled(e, p + x, inputs=(x,), donated={0: 0}), arrays[0], bound=bound)


@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_running_reductions_in_both_directions(name: str, dtype: str) -> None:
    x = leaf((5, 33, 2), dtype)
    values = np.random.default_rng(7).uniform(0.5, 2, x.shape).astype(dtype)
    nodes = [apply(name, x, axis=a, reverse=r) for a in (0, 1, 2) for r in (False, True)]
    check(compiled(*nodes, inputs=(x,)), values)  # one order of additions: the same bits


# -- contract ----------------------------------------------------------------------------------------------------------

CONTRACTS = [
    ((2, 3), (3, 4), (0, 1), (1, 2), (0, 2)),
    ((17, 33), (9, 33), (0, 1), (2, 1), (2, 0)),
    ((6, 5, 4), (4, 5, 7), (0, 1, 2), (2, 1, 3), (0, 3)),  # two summed labels in different orders
    ((3, 4, 5), (3, 5, 6), (0, 1, 2), (0, 2, 3), (0, 1, 3)),
    ((3, 4, 5), (3, 5, 6), (0, 1, 2), (0, 2, 3), (1, 0, 3)),
    ((7,), (7,), (0,), (0,), ()),
    ((7,), (5,), (0,), (1,), (1, 0)),
    ((4, 6), (6,), (0, 1), (1,), (0,)),
    ((2, 3, 4, 5), (5, 3), (0, 1, 2, 3), (3, 4), (0, 4, 1, 2)),  # rows that do not lie together in the result
    ((4, 3), (5, 3), (0, 1), (2, 1), (0, 1, 2)),
    ((3, 4), (3, 4), (0, 1), (0, 1), (1, 0)),
    ((3, 4), (4, 5), (0, 1), (1, 2), (2,)),  # a label of one operand alone is summed
    ((2, 0), (0, 3), (0, 1), (1, 2), (0, 2)),
    ((0, 4), (4, 3), (0, 1), (1, 2), (0, 2)),
    ((1, 1, 4), (4, 1), (0, 1, 2), (2, 3), (0, 1, 3)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bool"])
def test_contracts_of_all_label_patterns(dtype: str) -> None:
    rng = np.random.default_rng(8)
    inputs, arrays, nodes = [], [], []
    for left, right, *labels in CONTRACTS:
        x, y = leaf(left, dtype), leaf(right, dtype)
        inputs += [x, y]
        arrays += [rng.integers(0, 3, s).astype(dtype) for s in (left, right)]  # small integers: exact in every dtype
        nodes.append(apply("contract", x, y, left=labels[0], right=labels[1], out=labels[2]))
    check(compiled(*nodes, inputs=inputs), *arrays)


def test_operands_of_contracts_are_read_through_views() -> None:
    x, w = leaf((6, 8), "float32"), leaf((4, 8), "float32")
    part = apply("slice", x, starts=(1, 7), stops=(6, -1), steps=(2, -1))
    product = apply("contract", part, apply("transpose", w, axes=(1, 0)), left=(0, 1), right=(1, 2), out=(0, 2))
    cut = apply("reshape", apply("transpose", x, axes=(1, 0)), shape=(4, 12))
    square = apply("contract", cut, cut, left=(0, 1), right=(2, 1), out=(0, 2))
    repeated = apply("broadcast", w, shape=(3, 4, 8), axes=(1, 2))
    same = apply("contract", repeated, x, left=(0, 1, 2), right=(3, 2), out=(0, 1, 3))
    graph = compiled(product, square, same, inputs=(x, w))
    rng = np.random.default_rng(9)
    check(graph, rng.integers(-4, 5, x.shape), rng.integers(-4, 5, w.shape))
    copies = [k for k in graph.schedule.kernels if k.title == "map"]
    assert len(copies) == 1  # only the reshape of a transpose, of which no stride makes sense


def test_convolution_is_windows_and_contract() -> None:
    x, w = leaf((2, 3, 7, 8), "float32"), leaf((4, 3, 3, 2), "float32")
    windows = apply("windows", x, axes=(2, 3), sizes=(3, 2), strides=(2, 1), dilations=(1, 2))
    y = apply("contract", windows, w, left=(0, 1, 2, 3, 4, 5), right=(6, 1, 4, 5), out=(0, 6, 2, 3))
    rng = np.random.default_rng(10)
    check(compiled(y, inputs=(x, w)), rng.integers(-3, 4, x.shape), rng.integers(-3, 4, w.shape))


# -- gather, scatter, order --------------------------------------------------------------------------------------------


def test_gather_inlines_and_wraps() -> None:
    x, i, j = leaf((5, 6, 20), "float32"), leaf((4, 3), "int32"), leaf((4, 3), "uint8")
    rows = apply("gather", x * 2, i, axes=(0,))
    pairs = apply("gather", x, i, apply("cast", j, dtype=np.dtype("int32")), axes=(0, 1))
    last = apply("gather", x, i, axes=(2,)) + 1
    rng = np.random.default_rng(11)
    graph = compiled(rows + 1, pairs, last, inputs=(x, i, j))
    check(graph, rng.standard_normal(x.shape), rng.integers(-5, 5, (4, 3)), rng.integers(0, 6, (4, 3)))


@pytest.mark.parametrize("bad", [5, -6, 2**40])
def test_an_index_out_of_range_is_reported_with_its_node(bad: int) -> None:
    x, i = leaf((5, 3), "float32"), leaf(40, "int64")
    gathered = apply("gather", x, i, axes=(0,))
    graph = compiled(gathered * 2, inputs=(x, i))
    index = np.zeros(40, np.int64)
    graph(np.zeros((5, 3)), index)
    assert graph.status == 0
    index[37] = bad
    graph(np.zeros((5, 3)), index)
    assert graph.status == graph.graph.index[gathered] << 8 | 1


def test_the_first_failure_is_kept_and_an_empty_operand_fails() -> None:
    x, e, i = leaf(5, "float32"), leaf(0, "float32"), leaf(4, "int64")
    first = apply("gather", x, i, axes=(0,))
    graph = compiled(first, apply("gather", e, i, axes=(0,)), inputs=(x, e, i))
    graph(np.zeros(5), np.zeros(0), np.array([0, 9, 0, 0]))
    assert graph.status == graph.graph.index[first] << 8 | 1
    graph(np.zeros(5), np.zeros(0), np.zeros(4))
    assert graph.status & 255 == 1


def test_huge_unsigned_indices_do_not_wrap() -> None:
    x, i = leaf(5, "float32"), leaf(4, "uint64")
    graph = compiled(apply("gather", x, i, axes=(0,)), inputs=(x, i))
    graph(np.zeros(5), np.array([2**64 - 1, 0, 0, 0], np.uint64))
    assert graph.status & 255 == 1


@pytest.mark.parametrize("how", ["set", "add", "max", "min"])
@pytest.mark.parametrize("dtype", ["float32", "int16", "bool"])
def test_scatter_applies_updates_in_order(how: str, dtype: str) -> None:
    x, v, i = leaf((4, 7), dtype), leaf((9, 7), dtype), leaf(9, "int64")
    c, u, j = leaf((3, 5), dtype), leaf((6, 3), dtype), leaf(6, "int64")
    rng = np.random.default_rng(12)
    arrays = [rng.integers(0, 2 if dtype == "bool" else 9, n.shape) for n in (x, v, i, c, u, j)]
    arrays[2], arrays[5] = rng.integers(-4, 4, 9), rng.integers(-5, 5, 6)
    rows = apply("scatter", x, v, i, axes=(0,), how=how)
    columns = apply("scatter", c, u, j, axes=(1,), how=how)
    check(compiled(rows, columns, inputs=(x, v, i, c, u, j)), *arrays)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "uint64", "bool"])
@pytest.mark.parametrize("length", [1, 2, 3, 8, 37, 300])
def test_argsort_is_stable_with_nan_last(dtype: str, length: int) -> None:
    rng = np.random.default_rng(length)
    values = rng.integers(0, 2 if dtype == "bool" else 9, (3, length)).astype(dtype)
    if dtype in FLOATS and length > 2:
        values[0, :2], values[1, 1], values[2] = np.nan, -np.inf, -0.0
        values[2, ::2] = 0.0
    x, y = leaf((3, length), dtype), leaf((length, 3), dtype)
    graph = compiled(apply("argsort", x, axis=1), apply("argsort", y, axis=0), inputs=(x, y))
    check(graph, values, values.T)


@pytest.mark.parametrize("side", ["left", "right"])
def test_searchsorted_in_numpys_order(side: str) -> None:
    table = np.array([-np.inf, -1, -1, 0, 0, 2, 2, 2, 5, np.nan, np.nan])
    values = np.array([[-np.inf, -1, 0.5], [2, np.inf, np.nan]])
    a, v = leaf(11, "float64"), leaf((2, 3), "float64")
    many, each_row = leaf((2, 4), "int32"), leaf((2, 3), "int32")
    e = leaf(0, "float64")
    nodes = [apply("searchsorted", t, x, side=side) for t, x in ((a, v), (many, each_row), (e, v))]
    graph = compiled(*nodes, inputs=(a, v, many, each_row, e))
    check(graph, table, values, [[1, 2, 2, 5], [0, 0, 1, 9]], [[0, 2, 9], [0, 1, 8]], [])


# -- donation ----------------------------------------------------------------------------------------------------------


def test_an_update_in_place_with_shared_loads() -> None:
    p, m, g = (leaf((33, 7), "float32") for _ in range(3))
    new_m = m * 0.9 + g * 0.1
    new_p = p - new_m / (np.sqrt(g * g) + 1e-3)
    graph = compiled(new_p, new_m, inputs=(p, m, g), donated={0: 0, 1: 1})
    rng = np.random.default_rng(13)
    check(graph, *(rng.standard_normal((33, 7)) for _ in range(3)))
    assert len(graph.schedule.kernels) == 1


def test_donated_inputs_are_overwritten_after_their_last_reader() -> None:
    a, b = leaf((4, 4), "float32"), leaf((4, 4), "float32")
    flipped = apply("transpose", a, axes=(1, 0)) + b  # reads a at another place than it writes
    later = apply("contract", flipped, a, left=(0, 1), right=(1, 2), out=(0, 2))  # reads old a after new a exists
    swapped = [b, a]
    rng = np.random.default_rng(14)
    arrays = [rng.integers(-5, 5, (4, 4)) for _ in range(2)]
    check(compiled(flipped, later, inputs=(a, b), donated={0: 0}), *arrays)
    check(compiled(*swapped, inputs=(a, b), donated={0: 0, 1: 1}), *arrays)
    check(compiled(a, b * 2, inputs=(a, b), donated={0: 0, 1: 1}), *arrays)
    check(compiled(b, inputs=(a, b), donated={0: 0}), *arrays)


def product_step(fused_layout: bool) -> tuple[list[Node], list[Node]]:
    """A product whose result goes into an in-place update, and one followed by bias and relu."""
    x, w, m, b = leaf((9, 21), "float32"), leaf((21, 34), "float32"), leaf((9, 34), "float32"), leaf((34,), "float32")
    z = apply("contract", x, w, left=(0, 1), right=(1, 2), out=(0, 2) if fused_layout else (2, 0))
    if not fused_layout:
        z = apply("transpose", z, axes=(1, 0))
    update = m * 0.5 + z * 0.25
    bias = apply("broadcast", b, shape=(9, 34), axes=(1,))
    return [x, w, m, b], [update, apply("relu", z + bias), apply("greater", z, bias)]


@pytest.mark.parametrize("fused", [True, False])
def test_epilogues_of_products(fused: bool) -> None:
    inputs, outputs = product_step(fused)
    graph = compiled(*outputs, inputs=inputs, donated={2: 0})
    rng = np.random.default_rng(18)
    check(graph, *(rng.integers(-4, 5, n.shape) for n in inputs))
    assert [k.title for k in graph.schedule.kernels] == (["product+map"] if fused else ["product", "map"])


def test_a_map_that_shares_loops_with_an_epilogue_but_does_not_read_the_product() -> None:
    x, w = leaf((9, 8), "float32"), leaf((8, 8), "float32")
    before = x * 2
    z = apply("contract", x, w, left=(0, 1), right=(1, 2), out=(0, 2))
    graph = compiled(before, apply("relu", z) + x, inputs=(x, w))
    rng = np.random.default_rng(21)
    check(graph, rng.integers(-4, 5, x.shape), rng.integers(-4, 5, w.shape))
    assert len(graph.schedule.kernels) == 1


def test_an_epilogue_in_a_batch_of_products() -> None:
    x, w, b = leaf((3, 2, 5, 7), "float64"), leaf((3, 2, 7, 4), "float64"), leaf((2, 4), "float64")
    z = apply("contract", x, w, left=(0, 1, 2, 3), right=(0, 1, 3, 4), out=(0, 1, 2, 4))
    bias = apply("broadcast", b, shape=z.shape, axes=(1, 3))
    row = apply("cast", iota(z.shape, 2), dtype=np.dtype("float64"))
    graph = compiled(z * z + row, apply("relu", z), z, inputs=(x, w))
    biased = compiled(z + bias, inputs=(x, w, b))  # the place in the batch alone does not say which row of b
    rng = np.random.default_rng(19)
    arrays = [rng.integers(-4, 5, n.shape) for n in (x, w, b)]
    check(graph, *arrays[:2])
    check(biased, *arrays)


def test_scatter_into_a_donated_operand() -> None:
    x, i = leaf((6, 3), "float32"), leaf(4, "int64")
    other = apply("gather", x, i, axes=(0,))
    graph = compiled(apply("scatter", x, other, i, axes=(0,), how="add"), inputs=(x, i), donated={0: 0})
    check(graph, np.arange(18.0).reshape(6, 3), [1, 1, 5, 0])


# -- random programs ---------------------------------------------------------------------------------------------------


def random_program(seed: int) -> tuple[CompiledGraph, list[Array]]:
    """A graph of some twenty operations of all kinds on small integers in float64, so that every sum is exact."""
    rng = np.random.default_rng(seed)
    inputs = [leaf(s, "float64") for s in ((4, 6), (6,), (3, 33), (4, 1), (), (6, 6))]
    pool: list[Node] = list(inputs)
    for _ in range(20):
        pool.append(random_operation(pool, rng))
    outputs = [pool[int(k)] for k in rng.integers(len(inputs), len(pool), 3)] + [pool[-1]]
    arrays = [rng.integers(-3, 4, n.shape).astype(float) for n in inputs]
    donated = {0: next((k for k, o in enumerate(outputs) if o.shape == (4, 6)), -1)}
    return compiled(*outputs, inputs=inputs, donated={i: j for i, j in donated.items() if j >= 0}), arrays


def random_operation(pool: Sequence[Node], rng: np.random.Generator) -> Node:
    x = pool[int(rng.integers(len(pool)))]
    if x.size > 400:
        return apply("slice", x, starts=(0,) * x.ndim, stops=(1,) * x.ndim, steps=(1,) * x.ndim)
    match int(rng.integers(0, 11)):
        case 0 | 1:
            return random_view(x, rng)
        case 2 if x.ndim and x.size:
            axes = tuple(sorted({int(a) for a in rng.integers(0, x.ndim, 2)}))
            return tamed(apply(str(rng.choice(["sum", "max", "min"])), x, axes=axes))
        case 3 if x.ndim and x.size:
            return tamed(apply("cumsum", x, axis=int(rng.integers(0, x.ndim)), reverse=bool(rng.integers(0, 2))))
        case 4 if x.ndim == 2:
            return tamed(apply("contract", x, x, left=(0, 1), right=(2, 1), out=(0, 2)))
        case 5 if x.ndim and x.shape[0]:
            index = apply("remainder", apply("cast", x, dtype=np.dtype("int64")), full(x.shape, x.shape[0], "int64"))
            return apply("gather", x, index, axes=(0,))
        case 6 if x.ndim and x.size:
            return apply("cast", apply("argsort", x, axis=x.ndim - 1), dtype=np.dtype("float64"))
        case 7 if x.ndim:
            return apply("concatenate", x, x * 2, axis=int(rng.integers(0, x.ndim)))
        case 8 | 9 if x.ndim and x.size:
            row = apply(str(rng.choice(["sum", "max"])), x, axes=(x.ndim - 1,))
            return tamed(apply(str(rng.choice(["add", "multiply", "subtract"])), x, spread(row, x.shape)))
        case _:
            same = [y for y in pool if y.shape == x.shape]
            y = same[int(rng.integers(len(same)))]
            return tamed(apply(str(rng.choice(["add", "multiply", "maximum", "subtract"])), x, y))


def tamed(x: Node) -> Node:
    """Kept small, so that nothing rounds."""
    return apply("remainder", x, full(x.shape, 7, "float64"))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("seed", range(40))
def test_random_programs(seed: int) -> None:
    graph, arrays = random_program(seed)
    check(graph, *arrays)


# -- modules -----------------------------------------------------------------------------------------------------------


def layers(count: int) -> CompiledGraph:
    """A small network whose layers are alike."""
    x = h = leaf((8, 16), "float32")
    weights = [leaf((16, 16), "float32") for _ in range(count)]
    for w in weights:
        h = np.tanh(apply("contract", h, w, left=(0, 1), right=(1, 2), out=(0, 2)) * 0.1)
    return compiled(h, inputs=(x, *weights))


def test_equal_kernels_are_emitted_once() -> None:
    few, many = layers(2), layers(9)
    count = [len(re.findall("^define ", g.code.ir, re.MULTILINE)) for g in (few, many)]
    assert count[0] == count[1]
    rng = np.random.default_rng(15)
    check(many, *(rng.standard_normal(n.shape) for n in many.graph.inputs), bound=1e-5)


def test_default_code_has_no_fast_math_flag() -> None:
    graph = layers(1)
    assert not re.search(r"\b(fast|nnan|ninf|nsz|arcp|contract|afn|reassoc)\b", graph.code.ir.replace("k0.", ""))
    assert re.search(r"\bfast\b", str(emit(graph.schedule, HOST, "main", "fast")))


def test_every_kernel_of_a_graph_alone_gives_the_oracles_values() -> None:
    """What the verifier does: run kernel k on the interpreter's values of what it reads."""
    x, w, i = leaf((12, 9), "float64"), leaf((9, 5), "float64"), leaf(12, "int64")
    z = apply("contract", np.sin(x), w, left=(0, 1), right=(1, 2), out=(0, 2))
    p = np.exp(z - apply("broadcast", apply("max", z, axes=(1,)), shape=(12, 5), axes=(0,)))
    rows = apply("gather", p, i, axes=(0,)) + apply("cumsum", z, axis=0, reverse=False)
    graph = compiled(rows, apply("argsort", p, axis=1), apply("concatenate", p, z, axis=0), inputs=(x, w, i))
    rng = np.random.default_rng(16)
    values: dict[int, Array] = {}
    nodes = graph.graph.index
    arrays = rng.standard_normal((12, 9)), rng.standard_normal((9, 5)), rng.integers(-12, 12, 12)
    graph.graph.evaluate(*arrays, observe=lambda n, v: values.__setitem__(nodes[n], np.asarray(v)))
    buffers = graph.schedule.buffers
    for number, kernel in enumerate(graph.schedule.kernels):
        reads, writes = ([buffers[kernel.slots[s]] for s in part] for part in (kernel.reads, kernel.writes))
        module = emit_kernel(graph.schedule, number, HOST, "alone")
        code = Compiled(module, "alone", [(b.shape, b.dtype) for b in writes], graph.code.arena_bytes)
        for buffer, got in zip(writes, code([values[b.node] for b in reads]), strict=True):
            assert close(values[buffer.node], got, 64 * epsilon("float64")), f"kernel {number} {kernel.title}"
