"""Schedules: index forms, what is stored, what is fused, how the arena is shared.

The meaning of a schedule is tested where it runs (`test_codegen.py`); here is its shape.  Start reading at `plan`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest

import gradc as gc
from gradc.graph import Graph
from gradc.node import Node
from gradc.ops.index import linear_index, unravel
from gradc.passes import PIPELINE, run_passes
from gradc.schedule import Schedule, schedule
from gradc.schedule.affine import Affine, Var, split_point
from gradc.schedule.kernel import Apply, Correlation, Load, Nest, Place, Product, Work
from gradc.schedule.partition import MOST_WORK, cost
from gradc.schedule.touch import Touching
from tests.compiled_graph import HOST, apply, leaf


def plan(*outputs: Node, inputs: Sequence[Node], **options: object) -> Schedule:
    return schedule(Graph(tuple(inputs), outputs), target=HOST, **options)  # type: ignore[arg-type]


def titles(s: Schedule) -> list[str]:
    return [k.title for k in s.kernels]


def spread(row: Node, shape: tuple[int, ...]) -> Node:
    """A value per row, shown along the rows."""
    return apply("broadcast", row, shape=shape, axes=tuple(range(len(shape) - 1)))


def softmax(x: Node) -> Node:
    e = np.exp(x - spread(apply("max", x, axes=(x.ndim - 1,)), x.shape))
    return e / spread(apply("sum", e, axes=(x.ndim - 1,)), x.shape)


def layer_norm(x: Node) -> Node:
    centred = x - spread(apply("sum", x, axes=(x.ndim - 1,)) / x.shape[-1], x.shape)
    variance = apply("sum", centred * centred, axes=(x.ndim - 1,)) / x.shape[-1]
    return centred / spread(np.sqrt(variance + 1e-5), x.shape)


# -- forms -------------------------------------------------------------------------------------------------------------


def value(form: Affine, at: dict[Var, int]) -> int:
    """The number that a form stands for."""
    total = form.const
    for atom, factor in form.terms.items():
        inner = at[atom] if isinstance(atom, Var) else value(atom.numerator, at) // atom.divisor
        total += factor * inner
    return total


def random_form(variables: Sequence[Var], rng: np.random.Generator) -> tuple[Affine, str]:
    """A form built by random operations, and the same as Python text."""
    form, text = Affine.of(variables[0]), "v[0]"
    for _ in range(6):
        n, k = int(rng.integers(1, 7)), int(rng.integers(len(variables)))
        match int(rng.integers(0, 5)):
            case 0:
                form, text = form + Affine.of(variables[k]) * n, f"({text} + v[{k}] * {n})"
            case 1:
                form, text = form // n, f"({text} // {n})"
            case 2:
                form, text = form % n, f"({text} % {n})"
            case 3:
                form, text = form - n, f"({text} - {n})"
            case 4:
                form, text = form * n, f"({text} * {n})"
    return form, text


@pytest.mark.parametrize("seed", range(200))
def test_forms_are_exact_and_their_ranges_hold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    variables = [Var(k, int(rng.integers(2, 6))) for k in range(3)]
    form, text = random_form(variables, rng)
    for point in itertools.product(*(range(v.extent) for v in variables)):
        want = eval(text, {"v": point})
        assert value(form, dict(zip(variables, point, strict=True))) == want, text
        assert form.low <= want <= form.high


def test_a_reshape_and_its_inverse_cancel() -> None:
    i, j = Affine.of(Var(0, 6)), Affine.of(Var(1, 4))
    there = unravel(linear_index((i, j), (6, 4)), (3, 8))
    assert linear_index(there, (3, 8)) == i * 4 + j
    assert unravel(linear_index(there, (3, 8)), (6, 4)) == (i, j)


def test_a_quotient_that_a_split_makes_affine_is_found() -> None:
    i = Affine.of(Var(0, 12))
    assert split_point(iter([i // 4])) == (Var(0, 12), 4)
    assert split_point(iter([Affine.of(Var(0, 10)) // 4])) is None


# -- what is stored, what is fused -------------------------------------------------------------------------------------


def test_elementwise_chains_and_views_are_one_kernel() -> None:
    x, b = leaf((8, 5), "float32"), leaf((5,), "float32")
    y = np.exp(x + b) * apply("broadcast", b, shape=(8, 5), axes=(1,))
    s = plan(apply("transpose", y, axes=(1, 0)), inputs=(x, b))
    assert titles(s) == ["map"]
    assert s.temporary_bytes == 0


def test_an_update_of_parameter_and_moments_is_one_loop() -> None:
    p, m, v, g = (leaf((64, 32), "float32") for _ in range(4))
    new_m, new_v = m * 0.9 + g * 0.1, v * 0.99 + g * g * 0.01
    s = plan(p - new_m / (np.sqrt(new_v) + 1e-8), new_m, new_v, inputs=(p, m, v, g), donated={0: 0, 1: 1, 2: 2})
    assert titles(s) == ["map"]
    (nest,) = s.kernels[0].work
    assert isinstance(nest, Nest)
    assert [v.extent for v in nest.outer] == [64 * 32]  # one flat loop
    assert sum("[" in str(x) for x in nest.code) == 4  # each input is loaded once


def test_dear_values_read_by_two_kernels_are_stored_and_cheap_ones_are_not() -> None:
    x = leaf((40, 30), "float32")
    for function, kernels in ((np.exp, 3), (np.negative, 2)):
        y = function(x)
        s = plan(apply("sum", y, axes=(0,)), apply("sum", y, axes=(1,)), inputs=(x,))
        assert len(s.kernels) == kernels


def test_reductions_over_the_same_loops_share_them() -> None:
    x = leaf((30, 40), "float32")
    s = plan(apply("sum", x, axes=(1,)), apply("max", x, axes=(1,)), apply("sum", x * x, axes=(1,)), inputs=(x,))
    assert titles(s) == ["sum+max"]


def test_what_follows_a_reduction_does_not_cost_a_kernel() -> None:
    x = leaf((30, 40), "float32")
    total = apply("sum", x, axes=(0, 1)) / 1200
    assert titles(plan(total * 2 + 1, inputs=(x,))) == ["sum"]


def test_maps_after_a_product_go_into_its_epilogue() -> None:
    x, w, b = leaf((9, 8), "float32"), leaf((8, 64), "float32"), leaf((64,), "float32")
    z = apply("contract", x, w, left=(0, 1), right=(1, 2), out=(0, 2)) + b
    s = plan(apply("relu", z), inputs=(x, w, b))
    assert titles(s) == ["product+map"]
    assert s.temporary_bytes == 0


@pytest.mark.parametrize("masks_cost", [True, False])
@pytest.mark.parametrize(("columns", "whole"), [(10, False), (16, True), (25, False), (40, True)])
def test_short_ragged_rows_are_no_epilogue_where_masks_cost(columns: int, whole: bool, masks_cost: bool) -> None:
    """Their loop goes on over the ends of rows where it can."""
    x, w = leaf((64, 32), "float32"), leaf((32, columns), "float32")
    y = apply("contract", x, w, left=(0, 1), right=(1, 2), out=(0, 2))
    wide = SimpleNamespace(
        lanes=lambda dtype: 16, ahead_bytes=0, shortest_row=32, masks_cost=masks_cost, largest_square=16
    )
    (kernel,) = schedule(Graph((x, w), (np.maximum(y, 0.5),)), target=wide).kernels
    assert kernel.title == "product+map"
    expected = [Product] if whole or not masks_cost else [Product, Nest]
    assert [type(work) for work in kernel.work] == expected


def test_transposed_and_sliced_operands_cost_no_copy() -> None:
    x, w = leaf((8, 9), "float32"), leaf((20, 8), "float32")
    rows = apply("slice", w, starts=(2, 0), stops=(20, 8), steps=(3, 1))
    y = apply("contract", apply("transpose", x, axes=(1, 0)), rows, left=(0, 1), right=(2, 1), out=(0, 2))
    s = plan(y, inputs=(x, w))
    (work,) = s.kernels[0].work
    assert isinstance(work, Product)
    assert (work.left.strides, work.right.strides, work.right.offset) == ((1, 9), (1, 24), 16)


def test_fusion_never_makes_a_cycle() -> None:
    """a and c have one shape, but the product between them reads a and is read by c."""
    x = leaf((50, 50), "float32")
    a = np.exp(x)
    b = apply("contract", a, a, left=(0, 1), right=(1, 2), out=(0, 2))
    c = np.tanh(a + b)
    graph = Graph((x,), (a, c))
    s = schedule(graph, target=HOST)
    assert titles(s) == ["map", "product", "map"]
    order = {n: at for at, k in enumerate(s.kernels) for n in k.nodes}
    assert [order[graph.index[n]] for n in (a, b, c)] == [0, 1, 2]


def test_softmax_and_layer_norm_are_one_kernel_with_a_stage_per_reduction() -> None:
    x = leaf((20, 100), "float32")
    for result, stages in ((softmax(x), 3), (layer_norm(x), 3)):
        s = plan(result, inputs=(x,))
        assert len(s.kernels) == 1
        (nest,) = s.kernels[0].work
        assert isinstance(nest, Nest) and len(nest.stages) == stages
        assert s.temporary_bytes <= 512  # one row of scratch at most


def test_short_rows_run_flat_and_lanes_follow_the_contiguous_axis() -> None:
    x, y = leaf((128, 10), "float32"), leaf((40, 3), "float32")
    (flat,) = plan(x * 2 + x, inputs=(x,)).kernels[0].work
    (columns,) = plan(apply("sum", x, axes=(0,)), inputs=(x,)).kernels[0].work
    (rows,) = plan(apply("sum", y, axes=(1,)), inputs=(y,)).kernels[0].work
    assert isinstance(flat, Nest) and isinstance(columns, Nest) and isinstance(rows, Nest)
    assert [v.extent for v in flat.outer] == [1280]
    assert columns.across and columns.lane is not None and columns.lane.extent == 10
    assert rows.across and rows.lane is not None and rows.lane.extent == 40  # three elements fill no vector


# -- memory ------------------------------------------------------------------------------------------------------------


def chain(length: int) -> Schedule:
    """Products in a row, so that every step needs memory of its own."""
    x = h = leaf((16, 16), "float32")
    for _ in range(length):
        h = apply("contract", h, x, left=(0, 1), right=(1, 2), out=(0, 2))
    return plan(h, inputs=(x,))


def test_the_arena_does_not_grow_with_a_chain() -> None:
    assert chain(3).temporary_bytes == chain(30).temporary_bytes == 2 * 16 * 16 * 4


@pytest.mark.parametrize("seed", range(10))
def test_buffers_that_live_together_do_not_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = leaf((12, 12), "float32")
    pool = [x]
    for _ in range(15):
        a, b = (pool[int(k)] for k in rng.integers(max(0, len(pool) - 4), len(pool), 2))
        pool.append(apply("contract", a, b, left=(0, 1), right=(1, 2), out=(0, 2)))
    s = plan(pool[-1], pool[7], inputs=(x,))
    life: dict[int, tuple[int, int]] = {}
    for time, kernel in enumerate(s.kernels):
        for b in kernel.slots:
            if s.buffers[b].place is Place.ARENA:
                life[b] = (life.get(b, (time, time))[0], time)
    assert life
    for p, q in itertools.combinations(life, 2):
        together = life[p][0] <= life[q][1] and life[q][0] <= life[p][1]
        first, second = sorted((s.buffers[p], s.buffers[q]), key=lambda b: b.at)
        apart = first.at + first.size * 4 <= second.at
        assert apart or not together
    assert all(s.buffers[b].at % 64 == 0 and s.buffers[b].at + s.buffers[b].size * 4 <= s.temporary_bytes for b in life)


def test_a_map_in_step_takes_over_the_memory_of_what_nobody_reads_again() -> None:
    """A map too heavy for an epilogue, between two products, is written over the first one's result."""
    x = leaf((16, 16), "float32")
    y = apply("contract", x, x, left=(0, 1), right=(1, 2), out=(0, 2))
    s = plan(apply("contract", np.exp(np.sin(y)), x, left=(0, 1), right=(1, 2), out=(0, 2)), inputs=(x,))
    assert [k.title for k in s.kernels] == ["product", "map", "product"]
    assert s.temporary_bytes == 16 * 16 * 4


def test_lanes_apart_are_not_written_over_what_they_read() -> None:
    """The second element of a pair would be loaded around the first, just written."""
    x = leaf((64, 64), "float32")
    y = apply("contract", x, x, left=(0, 1), right=(1, 2), out=(0, 2))
    pairs = apply("reshape", y, shape=(64, 32, 2))
    top = apply("broadcast", apply("max", pairs, axes=(2,)), shape=(64, 32, 2), axes=(0, 1))
    z = apply("reshape", np.exp(np.sin(pairs - top)), shape=(64, 64))
    s = plan(apply("contract", z, x, left=(0, 1), right=(1, 2), out=(0, 2)), inputs=(x,))
    kernel = next(k for k in s.kernels if k.title == "map")
    (nest,) = kernel.work
    assert isinstance(nest, Nest) and nest.lane is not None
    assert any(isinstance(c, Load) and c.offset.coefficient(nest.lane) == 2 for c in nest.code)
    read = [s.buffers[kernel.slots[n]].at for n in kernel.reads]
    assert not {s.buffers[kernel.slots[n]].at for n in kernel.writes} & {*read}


def test_no_work_but_loops_in_step_is_written_over_what_the_kernel_still_reads() -> None:
    """A correlation reads windows of what lies around an element, and the sum behind it reads the other operand."""
    h, x = leaf((2, 3, 8, 40)), leaf((2, 3, 8, 40))
    w = leaf((3, 3, 3, 3))
    seen = apply("windows", np.tanh(h), axes=(2, 3), sizes=(3, 3), strides=(1, 1), dilations=(1, 1))
    conv = apply("contract", seen, w, left=(0, 1, 2, 3, 4, 5), right=(6, 1, 4, 5), out=(0, 6, 2, 3))
    other = apply("slice", np.sin(x), starts=(0, 0, 0, 0), stops=(2, 3, 6, 38), steps=(1, 1, 1, 1))
    s = plan(conv + np.sqrt(other * other), inputs=(h, x, w))
    for kernel in s.kernels:
        if any(isinstance(piece, Correlation) for piece in kernel.work):
            arena = [s.buffers[b] for b in kernel.slots if s.buffers[b].place is Place.ARENA]
            assert len({b.at for b in arena}) == len(arena)


def test_work_that_does_not_say_what_it_touches_cannot_be_made() -> None:
    class Forgotten(Touching):
        pass

    with pytest.raises(TypeError, match="touch"):
        Forgotten()  # type: ignore[abstract]
    assert all(issubclass(kind, Touching) for kind in get_args(Work))


def test_what_frees_memory_runs_as_soon_as_it_can() -> None:
    """Weight gradients of a deep chain run beside it, not after it: the arena holds two activations' gradients."""
    x, depth = leaf((256, 32), "float32"), 12
    weights = [leaf((32, 32), "float32") for _ in range(depth)]
    cts, h = [], x
    for w in weights:
        h = apply("contract", h, w, left=(0, 1), right=(1, 2), out=(0, 2))
        cts.append(h)
    grads = [apply("contract", h, x, left=(0, 1), right=(0, 2), out=(1, 2)) for h in cts]
    s = plan(*grads, inputs=(x, *weights))
    assert s.temporary_bytes == 2 * 256 * 32 * 4


def test_strangers_do_not_hold_each_others_operands() -> None:
    """Sums over large arrays of one shape are kernels of their own; over small ones they share loops."""
    for rows, kernels in ((4096, 2), (16, 1)):
        arrays = [leaf((rows, 8), "float32") for _ in range(2)]
        s = plan(*(apply("sum", a, axes=(0,)) for a in arrays), inputs=arrays)
        assert len(s.kernels) == kernels


def test_every_buffer_is_written_before_it_is_read() -> None:
    x = leaf((20, 30), "float32")
    m = apply("max", x, axes=(1,))
    e = np.exp(x - apply("broadcast", m, shape=x.shape, axes=(0,)))
    p = e / apply("broadcast", apply("sum", e, axes=(1,)), shape=x.shape, axes=(0,))
    s = plan(p, apply("argsort", p, axis=1), inputs=(x,))
    written = {*s.inputs, *s.hidden}
    for kernel in s.kernels:
        assert all(kernel.slots[r] in written for r in kernel.reads if r not in kernel.writes)
        written |= {kernel.slots[w] for w in kernel.writes}
    assert {*s.outputs} <= written


def test_a_schedule_reads_like_a_plan() -> None:
    x, w = leaf((128, 64), "float32"), leaf((64, 10), "float32")
    y = np.exp(apply("contract", x, w, left=(0, 1), right=(1, 2), out=(0, 2)))
    text = str(plan(apply("sum", y, axes=(1,)), inputs=(x, w)))
    for phrase in ("kernel 0 product", "product 128x10x64", "sum of %", "163840 flops", "arena+0", "lanes", "exp(%"):
        assert phrase in text


def test_hidden_arrays_are_the_captured_constants() -> None:
    x = leaf(4, "float64")
    table = np.arange(4.0)
    s = plan(x * table * 2.0, inputs=(x,))
    (array,) = s.arrays
    assert (array == table).all() and len(s.hidden) == 1


def test_scheduling_is_linear_in_the_graph() -> None:
    """Twice the layers, twice the kernels, and the same work per kernel: counted, not timed."""

    def kernels(count: int) -> int:
        x = h = leaf((8, 16), "float32")
        for _ in range(count):
            h = np.tanh(apply("contract", h, leaf_weight, left=(0, 1), right=(1, 2), out=(0, 2)))
        return len(plan(h, inputs=(x, leaf_weight)).kernels)

    leaf_weight = leaf((16, 16), "float32")
    assert kernels(20) == 2 * kernels(10)


# -- long straight lines of scalars ------------------------------------------------------------------------------------


def scalar_program(operations: int) -> tuple[list[Node], Node]:
    """A random program over scalars in which nearly every value is read several times."""
    rng = np.random.default_rng(operations)
    inputs = [leaf((), np.float64) for _ in range(8)]
    values = list(inputs)
    for k in range(operations):
        a, b = (values[-1 - int(i) % len(values)] for i in rng.integers(0, 16, 2))
        values.append(np.sin(a * b) if k % 8 == 0 else a * b + a)
    return inputs, sum(values[-16:], np.multiply(values[-1], 1.0))


@pytest.mark.parametrize("operations", [200, 2000])
def test_a_long_scalar_program_computes_each_value_about_once(operations: int) -> None:
    inputs, output = scalar_program(operations)
    graph = Graph(tuple(inputs), (output,))
    planned = schedule(graph, target=HOST)
    applied = sum(isinstance(x, Apply) for k in planned.kernels for w in k.work for x in w.code)  # type: ignore[union-attr]
    assert applied <= 1.1 * sum(bool(n.args) for n in graph.nodes)
    assert len(planned.kernels) <= 1 + sum(map(cost, graph.nodes)) / MOST_WORK * 2


def test_pieces_of_a_fold_that_lie_apart_are_stored_not_added() -> None:
    rows = [leaf((5,)) for _ in range(3)]
    placed = [apply("reshape", r, shape=(1, 5)) for r in rows]

    def folded(*starts: tuple[int, int]) -> Schedule:
        return plan(apply("superpose", *placed, shape=(3, 5), starts=starts, steps=((1, 1),) * 3), inputs=rows)

    def ways(planned: Schedule) -> list[str]:
        return [s.how for k in planned.kernels for w in k.work for s in w.stores]  # type: ignore[union-attr]

    assert ways(folded((2, 0), (0, 0), (1, 0))) == ["set"] * 3
    assert ways(folded((2, 0), (0, 0), (2, 0))) == ["set", "add", "add", "add"]  # zeros first


def test_a_function_has_the_same_plan_every_time() -> None:
    """Sets of nodes have another order in every trace; no choice may follow it."""

    def deep(w: Node, x: Node) -> Node:
        for _ in range(3):
            x = np.maximum(x @ w, 0.1)
        return x.sum()

    step = gc.value_and_grad(deep)
    shapes = (gc.spec((16, 16)), gc.spec((8, 16)))
    plans = {str(schedule(run_passes(gc.trace(step, *shapes), PIPELINE), target=HOST)) for _ in range(12)}
    assert len(plans) == 1
