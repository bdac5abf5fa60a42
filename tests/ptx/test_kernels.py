"""Kernels of every kind on the simulated device, at shapes that meet each of their paths.

A wrong index, a race, a misaligned access or a missing barrier is a `FaultError` of the interpreter; numbers are held
against NumPy within the bound of the operation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp
from gradc.codegen.ptx import mma, simt
from gradc.codegen.ptx.problem import problem_of
from gradc.codegen.ptx.tile import Extents, choose
from gradc.node import Node
from gradc.schedule.kernel import Correlation
from tests.compiled_graph import apply, compiled, leaf
from tests.ptx.assembler import assembled
from tests.ptx.device import DeviceGraph, on_device, run

RANDOM = np.random.default_rng(5)
EPS = {np.float32: 2.0**-24, np.float64: 2.0**-53}
ARCHS = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]
#: for a sample of architectures every day, for the others nightly
EACH_ARCH = [pytest.param(a, marks=() if a in ("sm_75", "sm_90", "sm_120") else pytest.mark.nightly) for a in ARCHS]


def normal(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(dtype)


def titles(run: DeviceGraph) -> list[str]:
    return [x.entry.split("_", 2)[2] for x in run.module.plan.launches]


# -- elementwise -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "width"), [((64, 8), 4), ((7, 12), 4), ((5, 6), 2), ((3, 7), 1), ((), 1), ((1,), 1)])
def test_maps_move_sixteen_bytes_where_rows_start_aligned(shape, width):
    x, y = leaf(shape), leaf(shape[-1:])
    row = apply("broadcast", y, shape=shape, axes=tuple(range(len(shape) - 1, len(shape)))) if shape else y
    run = on_device(apply("add", x, row), inputs=[x, y])
    a, b = normal(*shape), normal(*shape[-1:])
    np.testing.assert_array_equal(run(a, b)[0], a + b)
    assert (f"v{width}.b32" in run.ptx) == (width > 1)


def test_inputs_that_nothing_writes_are_read_as_constant():
    x = leaf((8,))
    assert "ld.global.nc" in on_device(apply("negative", x), inputs=[x]).ptx
    in_place = on_device(apply("negative", x), inputs=[x], donated={0: 0})
    assert "ld.global.nc" not in in_place.ptx
    a = normal(8)
    np.testing.assert_array_equal(in_place(a)[0], -a)


@pytest.mark.parametrize("shape", [(33, 20), (64, 48), (3, 5, 7), (40, 3, 36), (18, 70), (100, 16)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.bool_])
def test_transposes(shape, dtype):
    x = leaf(shape, dtype)
    order = tuple(reversed(range(len(shape))))
    a = RANDOM.integers(0, 2 if dtype == np.bool_ else 100, shape).astype(dtype)
    run = on_device(apply("transpose", x, axes=order), inputs=[x])
    np.testing.assert_array_equal(run(a)[0], a.T)
    turned = shape[0] >= 16 and shape[-1] >= 16
    assert titles(run) == ["map_turned" if turned else "map"]


def test_what_is_read_along_another_axis_is_turned_and_the_rest_is_not():
    """Σ of a transpose, a plain array and a row, fused: 16 bytes at once for all of them, one tile."""
    x, y, z = leaf((64, 36)), leaf((36, 64)), leaf((64,))
    total = apply("add", apply("transpose", x, axes=(1, 0)), y)
    node = apply("multiply", total, apply("broadcast", z, shape=(36, 64), axes=(1,)))
    run = on_device(node, inputs=[x, y, z])
    assert titles(run) == ["map_turned"] and run.module.plan.launches[0].shared_bytes == 4 * 32 * 33
    assert len(re.findall(r"ld\.global\.nc\.v4", run.ptx)) == 3 and "st.global.v4" in run.ptx
    a, b, c = normal(64, 36), normal(36, 64), normal(64)
    np.testing.assert_array_equal(run(a, b, c)[0], (a.T + b) * c)


def test_axes_that_lie_close_together_are_not_turned():
    """Channels last to channels first: three neighbours share what memory moves at once."""
    x = leaf((4, 30, 30, 3))
    run = on_device(apply("transpose", x, axes=(0, 3, 1, 2)), inputs=[x])
    a = normal(4, 30, 30, 3)
    np.testing.assert_array_equal(run(a)[0], a.transpose(0, 3, 1, 2))
    assert titles(run) == ["map"]


# -- reductions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((5, 3), (1,)), ((700, 9), (1,)), ((600, 200), (1,)), ((3, 1000), (1,)), ((2, 70000), (1,)),
        ((40000,), (0,)), ((9, 5), (0,)), ((300, 40), (0,)), ((5000, 33), (0,)), ((6, 7, 8), (1,)), ((6, 7, 8), (0, 2)),
        ((1, 1), (0, 1)), ((7,), (0,)),
    ],
)  # fmt: skip
def test_sums_by_teams_of_every_size(shape, axes, dtype):
    x = leaf(shape, dtype)
    a = normal(*shape, dtype=dtype)
    run = on_device(apply("sum", x, axes=axes), inputs=[x])
    got = run(a)[0]
    count = a.size // got.size
    error = np.abs(got - a.astype(np.longdouble).sum(axis=axes))
    bound = (64 + count / 64 + 2 * np.log2(count + 1) + 2) * EPS[dtype] * np.abs(a).sum(axis=axes)
    assert (error <= bound).all()
    np.testing.assert_array_equal(got, run(a)[0])


def test_long_rows_are_cut_into_parts_and_wide_results_are_not():
    x, y = leaf((2, 70000)), leaf((70000, 2))
    assert titles(on_device(apply("sum", x, axes=(1,)), inputs=[x])) == ["sum_parts", "sum"]
    assert titles(on_device(apply("sum", y, axes=(1,)), inputs=[y])) == ["sum"]


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin", "prod", "any", "all"])
@pytest.mark.parametrize("shape", [(4, 50), (3, 9000)])
def test_other_reductions_keep_numpys_answers(name, shape):
    a = np.round(normal(*shape), 1)
    a[1, 7] = np.nan if "max" in name or "min" in name else 1
    if name in ("any", "all", "prod"):
        a = (a > 0) if name != "prod" else np.where(RANDOM.random(shape) < 0.5, -1, 1).astype(np.float32)
    x = leaf(shape, a.dtype)
    got = on_device(apply(name, x, axes=(1,)), inputs=[x])(a)[0]
    np.testing.assert_array_equal(got, getattr(np, name)(a, axis=1))


@pytest.mark.parametrize(("rows", "length"), [(3, 40), (2, 700), (600, 64), (30, 3), (12, 10), (5, 2)])
def test_softmax_rows_are_one_kernel(rows, length):
    x = leaf((rows, length))
    a = normal(rows, length)
    run = on_device(_softmax(x), inputs=[x])
    got = run(a)[0]
    exact = np.exp(a.astype(float) - a.max(1, keepdims=True))
    np.testing.assert_allclose(got, exact / exact.sum(1, keepdims=True), rtol=(length + 20) * 2.0**-24)
    assert len(run.module.plan.launches) == 1


def _softmax(x: Node) -> Node:
    def spread(v: Node) -> Node:
        return apply("broadcast", v, shape=x.shape, axes=(0,))

    e = apply("exp", apply("subtract", x, spread(apply("max", x, axes=(1,)))))
    return apply("divide", e, spread(apply("sum", e, axes=(1,))))


# -- scans -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axis", "launches"),
    [
        ((5, 20), 1, 1), ((3, 33), 1, 1), ((2, 1000), 1, 1), ((30000,), 0, 2), ((2, 9001), 1, 2), ((500, 6), 0, 2),
        ((4, 130, 5), 1, 2), ((2, 64), 1, 1), ((1,), 0, 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_running_sums_by_many_threads(shape, axis, launches, dtype):
    """Within the bound that the head of `gradc.codegen.ptx.scan` states, and the same bits again."""
    x = leaf(shape, dtype)
    a = normal(*shape, dtype=dtype) if dtype != np.int64 else RANDOM.integers(-99, 99, shape)
    run = on_device(apply("cumsum", x, axis=axis, reverse=False), inputs=[x])
    assert len(titles(run)) == launches
    got = run(a)[0]
    if dtype == np.int64:
        np.testing.assert_array_equal(got, np.cumsum(a, axis))
        return
    depth = min(shape[axis], shape[axis] / 32 + 64)  # never deeper than in order
    bound = depth * EPS[dtype] * np.cumsum(np.abs(a), axis, dtype=np.longdouble)
    assert (np.abs(got - np.cumsum(a, axis, dtype=np.longdouble)) <= bound).all()
    np.testing.assert_array_equal(got, run(a)[0])


@pytest.mark.parametrize(("shape", "axis"), [((3, 300), 1), ((300, 3), 0)])
def test_running_products_keep_signs_infinities_and_nans(shape, axis):
    x = leaf(shape)
    a = np.where(RANDOM.random(shape) < 0.5, -1, 1).astype(np.float32)
    places = (0, 100), (1, 200)
    a[places[0] if axis else places[0][::-1]], a[places[1] if axis else places[1][::-1]] = np.inf, np.nan
    got = on_device(apply("cumprod", x, axis=axis, reverse=False), inputs=[x])(a)[0]
    np.testing.assert_array_equal(got, np.cumprod(a, axis))


@pytest.mark.parametrize(("shape", "axis"), [((3, 3000), 1), ((3000, 3), 0), ((2, 7), 1)])
def test_running_sums_go_backwards(shape, axis):
    x = leaf(shape, np.int64)
    a = RANDOM.integers(-99, 99, shape)
    got = on_device(apply("cumsum", x, axis=axis, reverse=True), inputs=[x])(a)[0]
    np.testing.assert_array_equal(got, np.flip(np.cumsum(np.flip(a, axis), axis), axis))


def test_a_running_sum_of_negative_zeros_is_one():
    x = leaf((100,))
    got = on_device(apply("cumsum", x, axis=0, reverse=False), inputs=[x])(np.full(100, -0.0, np.float32))[0]
    assert np.signbit(got).all()


# -- order and scatter -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1,), (2,), (129,), (5, 64), (3, 100)])
def test_sorts_are_stable(shape):
    a = np.round(normal(*shape), 1)
    a.flat[0] = np.nan
    x = leaf(shape)
    got = on_device(apply("argsort", x, axis=-1 % len(shape)), inputs=[x])(a)[0]
    np.testing.assert_array_equal(got, np.argsort(a, axis=-1, kind="stable"))


def test_scatter_adds_in_order_and_reports_what_is_out_of_range():
    x, i, v = leaf((9, 8)), leaf((20,), np.int64), leaf((20, 8))
    node = apply("scatter", x, v, i, axes=(0,), how="add")
    run = on_device(node, inputs=[x, i, v])
    a, k, b = normal(9, 8), RANDOM.integers(-9, 9, 20), normal(20, 8)
    expected = a.copy()
    for at, row in zip(k, b, strict=True):
        expected[at] += row
    np.testing.assert_array_equal(run(a, k, b)[0], expected)
    assert run.status == 0
    k[3] = 9
    run(a, k, b)
    assert (run.status & 0xFF, run.status >> 8) == (1, run.graph.index[run.graph.outputs[0]])


# -- products ----------------------------------------------------------------------------------------------------------

SIZES = [(17, 33, 19), (64, 64, 8), (1, 1, 1), (130, 10, 20), (3, 5, 2000), (1, 40, 70), (40, 1, 70)]


@pytest.mark.sampled(4, each=("transposed",))
@pytest.mark.parametrize(("dtype", "arch"), [(np.float32, "sm_75"), (np.float32, "sm_90"), (np.float64, "sm_90")])
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
def test_products_of_every_layout(transposed, dtype, arch):
    nodes, inputs, arrays, exact, sizes = [], [], [], [], []
    for m, n, k in SIZES if transposed == (False, False) else SIZES[:2]:
        shapes = [(k, m) if transposed[0] else (m, k), (n, k) if transposed[1] else (k, n)]
        pair = [leaf(s, dtype) for s in shapes]
        labels = [(2, 0) if transposed[0] else (0, 2), (1, 2) if transposed[1] else (2, 1)]
        nodes.append(apply("contract", *pair, left=labels[0], right=labels[1], out=(0, 1)))
        a, b = (normal(*s, dtype=dtype) for s in shapes)
        inputs += pair
        arrays += [a, b]
        x, y = a.T if transposed[0] else a, b.T if transposed[1] else b
        exact.append((x.astype(np.longdouble) @ y, np.abs(x) @ np.abs(y)))
        sizes.append(k)
    run = on_device(*nodes, inputs=inputs, arch=arch)
    for got, (value, size), k in zip(run(*arrays), exact, sizes, strict=True):
        assert (np.abs(got - value) <= (k + 2) * EPS[dtype] * size).all()


TENSOR_SIZES = [(17, 33, 19), (64, 72, 40), (130, 24, 20), (8, 8, 8), (40, 130, 16)]


LAYOUTS = [(False, False), (True, False), (False, True), (True, True)]
#: every tile and every layout once; the other pairs nightly
TILES = [
    pytest.param(shape, layout, marks=() if k % len(LAYOUTS) == j else pytest.mark.nightly)
    for k, shape in enumerate(mma.SHAPES)
    for j, layout in enumerate(LAYOUTS)
]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("shape", "transposed"), TILES)
def test_tf32_products_of_every_layout_and_tile(monkeypatch, shape, transposed):
    """Operands lose at most 2⁻¹¹ of themselves, products and sums at most 2⁻²² of a product each."""
    monkeypatch.setattr(mma, "SHAPES", (shape,))
    nodes, inputs, arrays, exact = [], [], [], []
    for m, n, k in TENSOR_SIZES:
        pair = [leaf((k, m) if transposed[0] else (m, k)), leaf((n, k) if transposed[1] else (k, n))]
        labels = [(2, 0) if transposed[0] else (0, 2), (1, 2) if transposed[1] else (2, 1)]
        nodes.append(apply("contract", *pair, left=labels[0], right=labels[1], out=(0, 1)))
        a, b = (normal(*x.shape) for x in pair)
        inputs += pair
        arrays += [a, b]
        x, y = (v.T if t else v for v, t in zip((a.astype(float), b.astype(float)), transposed, strict=True))
        exact.append((x @ y, (2 * 2.0**-11 + 2.0**-22 + (k + 2) * 2.0**-22) * (np.abs(x) @ np.abs(y))))
    run = on_device(*nodes, inputs=inputs, arch="sm_80", precision="tf32")
    assert titles(run) == ["product_tf32"] * len(nodes)
    results = run(*arrays)
    for got, (value, bound) in zip(results, exact, strict=True):
        assert (np.abs(got - value) <= bound).all()
    for first, second in zip(results, run(*arrays), strict=True):
        np.testing.assert_array_equal(first, second)


def test_tf32_rounds_its_operands_and_nothing_else():
    """Operands of 11 bits and sums that float32 holds: exact; one bit more is rounded to nearest, away from zero."""
    x, y = leaf((16, 8)), leaf((8, 8))
    run = on_device(
        apply("contract", x, y, left=(0, 2), right=(2, 1), out=(0, 1)), inputs=[x, y], arch="sm_80", precision="tf32"
    )
    a, one = RANDOM.integers(-1024, 1024, (16, 8)).astype(np.float32), np.eye(8, dtype=np.float32)
    np.testing.assert_array_equal(run(a, one)[0], a)
    a[:, 0] = 2049
    assert (run(a, one)[0][:, 0] == 2050).all()
    a[0, 0], a[1, 0] = np.inf, np.nan
    got = run(a, np.ones((8, 8), np.float32))[0]
    assert np.isinf(got[0]).all() and np.isnan(got[1]).all() and np.isfinite(got[2:]).all()


def test_tf32_is_for_float32_products_that_fill_a_fragment():
    def title(m: int, n: int, k: int, dtype: type = np.float32) -> list[str]:
        x, y = leaf((m, k), dtype), leaf((k, n), dtype)
        node = apply("contract", x, y, left=(0, 2), right=(2, 1), out=(0, 1))
        return titles(on_device(node, inputs=[x, y], arch="sm_90", precision="tf32"))

    assert title(16, 16, 16) == ["product_tf32"]
    assert title(16, 16, 16, np.float64) == title(7, 16, 16) == title(16, 7, 16) == title(16, 16, 7) == ["product"]


@pytest.mark.sampled(4, each=("name",))
@pytest.mark.parametrize(
    ("dtype", "arch", "name"),
    [
        ("bfloat16", "sm_80", "product_bf16"), ("float16", "sm_80", "product_f16"), ("float16", "sm_75", "product_f16"),
        ("bfloat16", "sm_75", "product"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("transposed", [(False, False), (True, True)])
def test_narrow_products_are_summed_in_float32_and_rounded_once(dtype, arch, name, transposed):
    """Products of narrow floats are exact in float32; sums lose at most 2⁻²² of each, the result half a step."""

    def product(*pairs):
        return [(a.T if transposed[0] else a) @ (b.T if transposed[1] else b) for a, b in pairs]

    pairs = []
    for m, n, k in TENSOR_SIZES:
        a, b = (RANDOM.standard_normal(s).astype(np.dtype(dtype)) for s in ((m, k), (k, n)))
        pairs.append((a.T.copy() if transposed[0] else a, b.T.copy() if transposed[1] else b))
    exe = gc.compile(product, *pairs, target=arch)
    assert {x.entry.split("_", 2)[2] for x in exe.plan.launches} == {name}
    results, _, _ = run(exe.ptx, exe.plan, exe.schedule, [x for pair in pairs for x in pair])
    for got, (a, b), (_, _, k) in zip(results, pairs, TENSOR_SIZES, strict=True):
        x, y = ((v.T if t else v).astype(float) for v, t in zip((a, b), transposed, strict=True))
        step = 2.0 ** (-8 if dtype == "bfloat16" else -11)
        bound = step * np.abs(x @ y) + (k + 2) * 2.0**-22 * (np.abs(x) @ np.abs(y))
        assert got.dtype == np.dtype(dtype) and (np.abs(got.astype(float) - x @ y) <= bound).all()


def test_narrow_products_write_what_is_asked_for_and_no_float32():
    pair = [gc.spec((64, 64), np.dtype("bfloat16"))] * 2
    exe = gc.compile(lambda a, b: gc.nn.relu(a @ b), *pair, target="sm_80")
    assert [x.entry for x in exe.plan.launches] == ["gradc_0_product_bf16"]
    assert "st.global.b32" in exe.ptx and "st.global.v2.b32" not in exe.ptx


@pytest.mark.parametrize("by_own", [False, True])
@pytest.mark.parametrize("shape", mma.SHAPES, ids=str)
def test_lanes_of_one_access_to_a_fragment_meet_in_no_bank(shape, by_own):
    """The 32 words of a warp's access, or the eight rows of 16 bytes of a piece, lie in different banks."""
    walks = (((64, 1),), ((64, 64),)) if by_own else (((64, 64),), ((64, 1),))
    x, y = leaf((256, 256)), leaf((256, 256))
    node = apply("contract", x, y, left=(0, 2), right=(2, 1), out=(0, 1))
    (work,) = on_device(node, inputs=[x, y]).schedule.kernels[0].work
    product = mma.Mma(problem_of(work), mma.TF32)
    shelf = product.shelf(shape[0], *walks)
    lane = np.arange(32)
    if shelf.by_own:
        places = lane % 4 * shelf.pitch + lane // 4
    else:
        places = (np.arange(8) * shelf.pitch)[:, None] + np.arange(4)
    assert len(np.unique(places % 32)) == 32


def test_batches_and_integers():
    x, y = leaf((3, 2, 17, 20)), leaf((3, 2, 20, 31))
    i, j = leaf((20, 30), np.int8), leaf((30, 40), np.int8)
    nodes = [
        apply("contract", x, y, left=(0, 1, 2, 4), right=(0, 1, 4, 3), out=(0, 1, 2, 3)),
        apply("contract", i, j, left=(0, 2), right=(2, 1), out=(0, 1)),
    ]
    a, b = normal(3, 2, 17, 20), normal(3, 2, 20, 31)
    c, d = (RANDOM.integers(-9, 9, s).astype(np.int8) for s in ((20, 30), (30, 40)))
    first, second = on_device(*nodes, inputs=[x, y, i, j])(a, b, c, d)
    np.testing.assert_allclose(first, a @ b, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(second, c @ d)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("m", "n", "k", "batch", "dtype", "precision"),
    [
        pytest.param(64, 64, 2048, 1, np.float32, "ieee", marks=pytest.mark.nightly),
        pytest.param(64, 64, 2048, 1, np.float32, "tf32", marks=pytest.mark.nightly),
        (33, 47, 3000, 1, np.float32, "ieee"), (20, 30, 1500, 2, np.float64, "ieee"),
        (40, 21, 5001, 1, np.float32, "tf32"), (64, 64, 2048, 1, np.int32, "ieee"),
    ],
)  # fmt: skip
def test_long_sums_of_few_elements_are_cut_into_parts(m, n, k, batch, dtype, precision):
    """Parts follow from the shape, and are added up in order: the same bits again."""
    x, y, z = leaf((batch, m, k), dtype), leaf((batch, k, n), dtype), leaf((n,), dtype)
    product = apply("contract", x, y, left=(0, 1, 3), right=(0, 3, 2), out=(0, 1, 2))
    node = apply("add", product, apply("broadcast", z, shape=product.shape, axes=(2,)))
    run = on_device(node, inputs=[x, y, z], precision=precision)
    name = "product_tf32" if precision == "tf32" else "product"
    assert titles(run)[:2] == [f"{name}_parts", f"{name}_joined"]
    if dtype == np.int32:
        a, b, c = (RANDOM.integers(-9, 9, s.shape).astype(dtype) for s in (x, y, z))
        np.testing.assert_array_equal(run(a, b, c)[0], a @ b + c)
        return
    assert len(titles(run)) == 2
    a, b, c = (normal(*s.shape, dtype=dtype) for s in (x, y, z))
    got = run(a, b, c)[0]
    exact = a.astype(np.longdouble) @ b + c
    rounding = 2 * 2.0**-11 if precision == "tf32" else 0
    bound = (rounding + (k / 8 + 70) * 4 * EPS[dtype]) * (np.abs(a) @ np.abs(b) + np.abs(c))
    assert (np.abs(got - exact) <= bound).all()
    np.testing.assert_array_equal(got, run(a, b, c)[0])


def test_parts_are_worth_their_launch():
    """64 x 64 x 2048 in many parts; products with tiles enough, or with short sums, in one."""
    tiles = simt.TILES[4]
    assert choose(tiles, Extents(64, 64, 2048, 1, 4), 64)[1] >= 16
    assert choose(tiles, Extents(4096, 4096, 4096, 1, 4), 64) == (tiles[0], 1)
    assert choose(tiles, Extents(64, 64, 128, 1, 4), 64)[1] == choose(tiles, Extents(64, 64, 64, 500, 4), 64)[1] == 1


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
@pytest.mark.parametrize(("m", "n", "k"), [(20, 64, 9), (33, 32, 12), (1, 24, 30)])
def test_epilogues_are_part_of_the_product(m, n, k, precision):
    x, y, bias = leaf((m, k)), leaf((k, n)), leaf((n,))
    product = apply("contract", x, y, left=(0, 2), right=(2, 1), out=(0, 1))
    shifted = apply("add", product, apply("broadcast", bias, shape=(m, n), axes=(1,)))
    run = on_device(apply("relu", shifted), apply("square", shifted), inputs=[x, y, bias], precision=precision)
    assert len(run.module.plan.launches) == 1
    a, b, c = normal(m, k), normal(k, n), normal(n)
    rectified, squared = run(a, b, c)
    value = a.astype(float) @ b + c
    rounding = 2 * 2.0**-11 if precision == "tf32" and m > 1 else 0
    bound = (rounding + (k + 3) * 2.0**-22) * (np.abs(a) @ np.abs(b) + np.abs(c))
    assert (np.abs(rectified - np.maximum(value, 0)) <= bound).all()
    assert (np.abs(squared - value**2) <= (2 * np.abs(value) + bound) * bound + 2.0**-23 * value**2).all()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("arch", EACH_ARCH)
def test_large_narrow_products_spill_nothing(arch):
    specs = [gc.spec((n, n), np.dtype(dtype)) for n in (4096, 4095) for dtype in ("bfloat16", "float16")]
    exe = gc.compile(lambda *arrays: [a @ a for a in arrays], *specs, target=arch)
    usages = assembled(exe.ptx, arch)
    assert len(usages) == len(specs) and not any(u.spilled for u in usages.values()), usages
    assert all(x.shared_bytes <= 99 * 1024 for x in exe.plan.launches)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("precision", ["ieee", "tf32"])
@pytest.mark.parametrize("arch", EACH_ARCH)
def test_large_products_spill_nothing(arch, precision):
    """The tiles of large products, for every architecture; a shape with edges and one without."""
    if precision == "tf32" and arch == ARCHS[0]:
        pytest.skip("before sm_80 tensor cores know no tf32")
    nodes, inputs = [], []
    for n, dtype in ((4096, np.float32), (4095, np.float32), (2048, np.float64)):
        pair = [leaf((n, n), dtype), leaf((n, n), dtype)]
        nodes.append(apply("contract", *pair, left=(0, 2), right=(2, 1), out=(0, 1)))
        inputs += pair
    usages = assembled(on_device(*nodes, inputs=inputs, arch=arch, precision=precision).ptx, arch)
    assert len(usages) == len(nodes)
    assert all(u.spilled == 0 and u.shared <= 48 * 1024 and u.registers <= 255 for u in usages.values()), usages


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("arch", "precision"), [("sm_75", "ieee"), ("sm_90", "ieee"), ("sm_90", "tf32")])
def test_convolutions_read_their_windows_where_they_lie(arch, precision):
    """Forward and both derivatives, by `correlation`: no window is copied."""
    image, weights = gc.spec((2, 3, 10, 20), np.float32), gc.spec((5, 3, 3, 3), np.float32)
    exe = gc.compile(gc.value_and_grad(convolved, (0, 1)), image, weights, target=arch, precision=precision)
    arrays = [normal(*image.shape), normal(*weights.shape)]
    results, _, _ = run(exe.ptx, exe.plan, exe.schedule, arrays)
    assert any(isinstance(w, Correlation) for k in exe.schedule.kernels for w in k.work)
    for got, want in zip(results, exe.lowered.evaluate(*arrays), strict=True):
        relative = {"ieee": 1e-4, "tf32": 4 * 2.0**-10}[precision]
        np.testing.assert_allclose(got, want, rtol=relative, atol=relative * np.abs(want).max())


def convolved(image, weights):
    return gnp.square(gc.nn.conv2d(image, weights, padding=1)).sum()


# -- in place ----------------------------------------------------------------------------------------------------------


def in_place_of_the_first(rows: int, n: int) -> Iterator[tuple[Node, list[Node]]]:
    """Results that may take over the storage of their first operand, of which each kind of step reads more than the
    thread that writes it."""
    x, a, b = (leaf(shape, np.float64) for shape in ((rows,), (rows, n), (n, rows)))
    places = leaf((rows,), np.int64)
    along, across = apply("sum", a, axes=(1,)), apply("sum", b, axes=(0,))
    beside, below = (apply("broadcast", x, shape=y.shape, axes=(k,)) for k, y in enumerate((a, b)))
    yield x * 2, [x]
    yield apply("gather", x, places, axes=(0,)), [x, places]
    yield x + along, [x, a]
    yield x + across, [x, b]
    yield apply("sum", a * beside, axes=(1,)), [x, a]
    yield apply("max", b * below, axes=(0,)) + x, [x, b]
    yield a / apply("broadcast", apply("sum", np.exp(a), axes=(1,)), shape=a.shape, axes=(0,)), [a]
    yield b / apply("broadcast", apply("sum", np.exp(b), axes=(0,)), shape=b.shape, axes=(1,)), [b]
    yield apply("cumsum", a, axis=1, reverse=False), [a]
    yield apply("cumsum", b, axis=0, reverse=False), [b]
    w = leaf((n, n), np.float64)
    yield apply("tanh", a) + apply("contract", np.exp(a), w, left=(0, 1), right=(1, 2), out=(0, 2)), [a, w]


@pytest.mark.sampled(3, each=("n", "rows"))
@pytest.mark.parametrize("rows", [1, 7, 33])
@pytest.mark.parametrize("n", [1, 3, 40])
def test_what_is_written_in_place_has_been_read_by_all(rows, n):
    """Also by threads that write nothing: those without an index of their own, and the other members of a team."""
    for y, inputs in in_place_of_the_first(rows, n):
        arrays = [
            RANDOM.integers(-1, 1, x.shape) if x.dtype.kind == "i" else normal(*x.shape, dtype=np.float64)
            for x in inputs
        ]
        found = on_device(y, inputs=inputs, donated={0: 0})(*arrays)[0]
        np.testing.assert_allclose(found, compiled(y, inputs=inputs)(*arrays)[0], rtol=1e-12, atol=1e-13)
