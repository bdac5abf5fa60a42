"""Products over sliding windows: the oracle's values at every class of shape, nothing touched outside, on every target.

Enters: contracts of a windowed operand.  The data are small integers in floating point, so every order of summation is
exact and results are compared bit for bit.  Start at `CASES`.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import gradc as gc
from gradc.codegen import arena_bytes, emit
from gradc.codegen.correlation.plan import make_plan, pieces
from gradc.codegen.target import Target
from gradc.graph import Graph
from gradc.node import Node
from gradc.schedule import schedule
from gradc.schedule.kernel import Correlation, Product
from tests.compiled_graph import HOST, Compiled, CompiledGraph, apply, at_page_end, compiled, leaf, same_bits

RNG = np.random.default_rng(5)

#: Labels of the einsum: image, channel, row, column, row and column inside the window, kernel.
SEEN, KERNEL, OUT = (0, 1, 2, 3, 4, 5), (6, 1, 4, 5), (0, 6, 2, 3)

#: images, kernels, kernel size, stride, dilation
CASES = [
    ((2, 3, 20, 21), 5, (3, 4), (1, 1), (1, 1)),
    ((3, 1, 32, 32), 6, (5, 5), (1, 1), (1, 1)),
    ((2, 6, 14, 14), 16, (5, 5), (1, 1), (1, 1)),
    ((1, 2, 9, 40), 1, (2, 2), (2, 1), (3, 1)),
    ((2, 2, 12, 70), 3, (3, 3), (1, 1), (1, 2)),
    ((5, 4, 11, 12), 7, (1, 3), (1, 1), (1, 1)),
    ((1, 1, 3, 130), 2, (2, 5), (1, 1), (1, 1)),
    ((4, 17, 10, 10), 19, (2, 2), (1, 1), (1, 1)),
    ((3, 5, 7, 6), 33, (3, 2), (1, 1), (1, 1)),
    ((2, 3, 8, 9), 16, (2, 2), (2, 3), (1, 2)),
]


def forward(images: Any, kernels: int, size: Any, stride: Any, dilation: Any, dtype: str, first: int) -> Graph:
    """Σ windows · kernel; ``first`` says which operand comes first."""
    x, w = leaf(images, dtype), leaf((kernels, images[1], *size), dtype)
    seen = apply("windows", x, axes=(2, 3), sizes=size, strides=stride, dilations=dilation)
    sides = [(seen, SEEN), (w, KERNEL)][:: 1 - 2 * first]
    out = apply("contract", *(n for n, _ in sides), left=sides[0][1], right=sides[1][1], out=OUT)
    return Graph((x, w), (out,))


def by_kernel(images: Any, kernels: int, size: Any, stride: Any, dilation: Any, dtype: str, first: int) -> Graph:
    """The derivative by the kernel: Σ over images and positions."""
    x = leaf(images, dtype)
    seen = apply("windows", x, axes=(2, 3), sizes=size, strides=stride, dilations=dilation)
    ct = leaf((images[0], kernels, *seen.shape[2:4]), dtype)
    sides = [(ct, OUT), (seen, SEEN)][:: 1 - 2 * first]
    out = apply("contract", *(n for n, _ in sides), left=sides[0][1], right=sides[1][1], out=KERNEL)
    return Graph((x, ct), (out,))


#: which axes of the kernels (kernel, channel, row, column) an operand has, the others being copies of one
PARTS = [(), (0,), (1,), (2, 3), (0, 1), (1, 2, 3), (0, 1, 2, 3)]


@pytest.mark.parametrize("images", [(1, 2, 4, 3), (2, 1, 5, 9), (1, 1, 3, 16)])
@pytest.mark.parametrize("kernels", [1, 3])
@pytest.mark.parametrize("parts", PARTS)
def test_kernels_that_are_copies_along_some_axes_are_planned(images: Any, kernels: int, parts: Any) -> None:
    """Few axes of the result are left then, and one may fit both spans of a tile."""
    whole = (kernels, images[1], 2, 1)
    x, w = leaf(images, "float64"), leaf(tuple(whole[k] for k in parts), "float64")
    seen = apply("windows", x, axes=(2, 3), sizes=(2, 1), strides=(1, 1), dilations=(1, 1))
    wide = apply("broadcast", w, shape=whole, axes=parts)
    graph = Graph((x, w), (apply("contract", seen, wide, left=SEEN, right=KERNEL, out=OUT),))
    arrays = [integers(n) for n in graph.inputs]
    assert same_bits(CompiledGraph(graph)(*arrays)[0], graph.evaluate(*arrays)[0])


def correlations(graph: CompiledGraph) -> list[Correlation]:
    return [w for k in graph.schedule.kernels for w in k.work if isinstance(w, Correlation)]


def integers(node: Node) -> Any:
    return RNG.integers(-4, 5, node.shape).astype(node.dtype)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("build", [forward, by_kernel])
@pytest.mark.parametrize(("dtype", "first"), [("float32", 0), ("float64", 1)])
def test_values_are_the_oracles(case: Any, build: Any, dtype: str, first: int) -> None:
    graph = build(*case, dtype, first)
    arrays = [integers(n) for n in graph.inputs]
    run = CompiledGraph(graph)
    assert same_bits(run(*arrays)[0], graph.evaluate(*arrays)[0])


def test_windows_are_never_copied() -> None:
    for build in (forward, by_kernel):
        run = CompiledGraph(build(*CASES[1], "float32", 0))
        assert correlations(run)
        assert run.schedule.temporary_bytes == 0


def test_the_error_is_that_of_one_sum() -> None:
    """|error| ≤ γ(k + 2)·Σ|x||w| for real data, whatever the order."""
    graph = forward(*CASES[2], "float32", 0)
    x, w = (RNG.standard_normal(n.shape).astype(np.float32) for n in graph.inputs)
    wide = forward(*CASES[2], "float64", 0)
    exact, size = (wide.evaluate(a.astype("f8"), b.astype("f8"))[0] for a, b in ((x, w), (np.abs(x), np.abs(w))))
    found = CompiledGraph(graph)(x, w)[0]
    assert (np.abs(found - exact) <= 152 * np.finfo(np.float32).eps * size).all()


def test_infinities_and_nans_travel() -> None:
    graph = forward((1, 1, 4, 20), 1, (2, 2), (1, 1), (1, 1), "float32", 0)
    x, w = integers(graph.inputs[0]), integers(graph.inputs[1])
    x[0, 0, 1, 3], x[0, 0, 2, 9], w[0, 0, 1, 1] = np.inf, np.nan, 0
    with np.errstate(invalid="ignore"):
        assert same_bits(CompiledGraph(graph)(x, w)[0], graph.evaluate(x, w)[0])


def test_lanes_that_would_lie_idle_are_worth_a_copy() -> None:
    """Three positions a row and three kernels leave most lanes empty: windows are copied, and a product sums them."""
    run = CompiledGraph(forward((8, 16, 4, 5), 3, (2, 3), (1, 1), (1, 1), "float32", 0))
    works = [w for k in run.schedule.kernels for w in k.work]
    assert any(isinstance(w, Product) for w in works) and not correlations(run)


def test_integers_are_copied_too() -> None:
    graph = forward(*CASES[0], "int64", 0)
    arrays = [integers(n) for n in graph.inputs]
    run = CompiledGraph(graph)
    assert not correlations(run)
    assert same_bits(run(*arrays)[0], graph.evaluate(*arrays)[0])


def test_no_image_and_no_kernel() -> None:
    for images, kernels in (((0, 2, 9, 20), 3), ((2, 2, 9, 20), 0)):
        graph = forward(images, kernels, (2, 2), (1, 1), (1, 1), "float32", 0)
        arrays = [integers(n) for n in graph.inputs]
        assert CompiledGraph(graph)(*arrays)[0].shape == graph.outputs[0].shape
    graph = by_kernel((0, 2, 9, 20), 3, (2, 2), (1, 1), (1, 1), "float32", 0)
    assert not CompiledGraph(graph)(*(integers(n) for n in graph.inputs))[0].any()


# -- plans -------------------------------------------------------------------------------------------------------------
def test_few_channels_put_the_lanes_along_pixels() -> None:
    (c,) = correlations(CompiledGraph(forward(*CASES[1], "float32", 0)))
    plan = make_plan(c, Target.of("x86_64-unknown-linux-gnu", "x86-64-v4"))
    assert not plan.summed_lane and plan.lane.extent == 28 and plan.high * plan.wide * plan.vectors >= 8


def test_the_derivative_by_the_kernel_puts_them_along_a_sum() -> None:
    (c,) = correlations(CompiledGraph(by_kernel(*CASES[1], "float32", 0)))
    plan = make_plan(c, Target.of("x86_64-unknown-linux-gnu", "x86-64-v4"))
    assert plan.summed_lane and plan.high > 1 and plan.wide > 1


@pytest.mark.parametrize("build", [forward, by_kernel])
def test_short_rows_of_pixels_put_them_along_channels(build: Any) -> None:
    """The operand with the channels and the result are brought into that order; no window is copied."""
    run = CompiledGraph(build((8, 16, 6, 6), 32, (3, 3), (1, 1), (1, 1), "float32", 0))
    (c,) = correlations(run)
    plan = make_plan(c, HOST)
    assert plan.lane.extent == 32 and not plan.summed_lane and plan.high * plan.wide * plan.vectors >= 8
    copied = 32 * 16 * 9 + 8 * 32 * 4 * 4
    assert run.schedule.temporary_bytes <= 4 * copied + 128


@pytest.mark.parametrize(("extent", "size"), [(1, 1), (10, 4), (16, 16), (17, 6), (25, 4)])
def test_pieces_are_even_and_cover(extent: int, size: int) -> None:
    found = pieces(extent, size)
    assert sum(n * k for n, k in found) == extent
    assert len(found) <= 2 and max(n for n, _ in found) - min(n for n, _ in found) <= 1 <= size


# -- targets -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("build", [forward, by_kernel])
@pytest.mark.parametrize(
    ("triple", "features"),
    [
        ("x86_64-unknown-linux-gnu", ""), ("x86_64-unknown-linux-gnu", "+avx2,+fma"),
        ("aarch64-unknown-linux-gnu", "+neon"), ("wasm32-unknown-unknown", "+simd128"),
    ],
)  # fmt: skip
def test_other_targets_assemble(build: Any, triple: str, features: str) -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = Target.of(triple, features=features)
    plan = schedule(build(*CASES[0], "float32", 0), target=target)
    machine = llvm.Target.from_triple(triple).create_target_machine(features=features, opt=2)
    text = f'target triple = "{triple}"\n{emit(plan, target, "main")}'
    assert machine.emit_object(llvm.parse_assembly(text, llvm.create_context()))


@pytest.mark.skipif(not HOST.triple.startswith("x86_64") or HOST.vector_bits < 256, reason="narrower x86 vectors")
@pytest.mark.parametrize("cpu", ["x86-64", "x86-64-v3"])
@pytest.mark.parametrize("build", [forward, by_kernel])
def test_narrower_vectors_give_the_same_values(build: Any, cpu: str) -> None:
    target = Target.of(HOST.triple, cpu)
    for case in CASES[:5]:
        graph = build(*case, "float32", 0)
        plan = schedule(graph, target=target)
        code = Compiled(emit(plan, target, "main"), "main", [(graph.outputs[0].shape, "f4")], arena_bytes(plan, target))
        arrays = [integers(n) for n in graph.inputs]
        assert same_bits(code([at_page_end(a) for a in arrays])[0], graph.evaluate(*arrays)[0])


# -- lanes a few elements apart ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("step", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "bool"])
def test_spread_lanes_are_read_and_written_inside_their_arrays(step: int, dtype: str) -> None:
    for count in (1, 2, 7, 16, 33, 64):
        x = leaf((3, (count - 1) * step + 1), dtype)
        end = x.shape[1]
        picked = apply("slice", x, starts=(0, 0), stops=(3, end), steps=(1, step))
        spread = apply("pad", picked, shape=x.shape, starts=(0, 0), steps=(1, step), fill=0)
        total = apply("maximum", picked, apply("slice", x, starts=(2, 0), stops=(-1, end), steps=(-1, step)))
        run = compiled(picked, spread, total, inputs=(x,))
        array = RNG.integers(0, 2 if dtype == "bool" else 99, x.shape).astype(dtype)
        for found, expected in zip(run(array), run.graph.evaluate(array), strict=True):
            assert same_bits(found, expected)


def conv(x: Any, w: Any) -> Any:
    return gc.nn.conv2d(x, w, padding=1)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "program",
    [
        lambda x, y, w, v: conv(x, w) + conv(y, v),
        lambda x, y, w, v: conv(np.tanh(x), w) + np.tanh(x),
        lambda x, y, w, v: conv(conv(x, w), v) * conv(x, w),
        lambda x, y, w, v: gc.grad(lambda x: np.sum(np.tanh(conv(x, w) + conv(np.sin(x), v))))(x),
    ],
)
def test_what_stands_beside_a_correlation_keeps_its_memory(program: Any, dtype: str) -> None:
    """Sums of two, skip connections: the kernel that adds them reads both to the end.

    At most three sums of 27 terms stand in a row, each within 29 eps of Σ|terms|, which is less than four times the
    largest result.
    """
    args = [RNG.normal(size=s).astype(dtype) for s in ((2, 3, 8, 8), (2, 3, 8, 8), (3, 3, 3, 3), (3, 3, 3, 3))]
    (expected,) = gc.trace(program, *args).evaluate(*args)
    bound = 3 * 29 * np.finfo(dtype).eps * 4 * np.max(np.abs(expected))
    np.testing.assert_allclose(gc.jit(program)(*args), expected, rtol=0, atol=bound)
