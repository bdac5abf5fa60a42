"""Small facts on which results hang, each asked where a mistake in it would pass through everything else.

`make mutants` plants small faults; what no other test noticed is asked here, directly.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp
from gradc.codegen.elementary.stumpff import switch
from gradc.codegen.gemm.plan import STREAMED_BYTES, _dot_plan
from gradc.codegen.gemm.problem import Gemm
from gradc.codegen.ir import Function, Module, const
from gradc.codegen.memory import load
from gradc.codegen.target import Target
from gradc.diff.structured.labels import Axis, Direction
from gradc.diff.structured.moves import _never_negative
from gradc.diff.structured.products import _with_scalars_inside
from gradc.diff.structured.terms import Factor as Labelled
from gradc.diff.structured.terms import Space, Term
from gradc.diff.symbolic import symbolic_pull_back
from gradc.graph import Graph
from gradc.interpret import interpret
from gradc.node import OPS, Node, constant
from gradc.ops.algorithm import Algorithm
from gradc.ops.control import item
from gradc.ops.factorisations.bounds import lu_moved, partial_lu
from gradc.ops.leaves import iota
from gradc.ops.ranges import Zeros, range_of
from gradc.ops.record import Kind
from gradc.ops.rounding import largest_error
from gradc.optim.adaptive import scale_by_rss
from gradc.optim.clipping import per_example_global_norm_clip, unitwise_norm
from gradc.passes import LOWERING, PIPELINE, run_passes, simplify
from gradc.schedule import schedule
from gradc.schedule.affine import Affine, Var
from gradc.schedule.bodies import Repeat
from gradc.schedule.factor import ALWAYS_ASIDE, MOST_ASIDE, MOST_ROTATED, Factor, matrices_aside
from gradc.schedule.fuse import Cluster, in_order
from gradc.schedule.partition import cost
from gradc.schedule.product import _overlaps, _Strided
from gradc.schedule.rows import cost_inside
from gradc.schedule.split import work_seconds
from gradc.schedule.verify.accesses import Access
from gradc.schedule.verify.steps import written_before
from tests.op_cases import cases, leaf

WITH_DEFINITION = [n for n, op in sorted(OPS.items()) if op.definition is not None and op.kind is not Kind.WHOLE]


@pytest.mark.parametrize("name", WITH_DEFINITION)
def test_the_definition_of_an_op_has_its_value(name):
    """Symbolic mode differentiates it, and a derivative does not see everything that a value does."""
    for case in (c for c in cases(OPS[name]) if c.attrs.get("how") != "add"):  # which is linear, and needs none
        node = case.node()
        assert node.op.definition is not None
        defined = node.op.definition(node)
        given: dict[Node, Any] = dict(zip(node.args, case.arrays, strict=True))
        value, wanted = interpret([defined, node], given)
        np.testing.assert_allclose(value, wanted, rtol=1e-12, atol=1e-14)


def test_a_contraction_with_a_scalar_that_sums_nothing_is_a_product():
    x, s = leaf(gc.spec((3, 2)), "x"), leaf(gc.spec(()), "s")
    everywhere = OPS["broadcast"].make((s,), shape=(3, 2), axes=())
    for args in ((everywhere, x), (x, everywhere)):
        for out in ((0, 1), (1, 0)):
            product = OPS["contract"].make(args, left=(0, 1), right=(0, 1), out=out)
            plain = simplify(Graph((x, s), (product,)))
            assert not any(node.op.name == "contract" for node in plain.nodes)
            values = np.arange(6.0).reshape(3, 2), np.float64(2.5)
            np.testing.assert_array_equal(plain.evaluate(*values)[0], Graph((x, s), (product,)).evaluate(*values)[0])


def test_what_counts_from_the_front_is_known():
    x, i = leaf(gc.spec((4,)), "x"), leaf(gc.spec((4,), np.int64), "i")
    front = [
        np.argmax(x),
        np.argsort(x),
        gnp.searchsorted(x, x),
        iota((4,)),
        constant(np.array([0, 3])),
        constant(np.int64(0)),
    ]
    assert all(map(_never_negative, front))
    assert not any(map(_never_negative, [i, -iota((4,)), constant(np.array([0, -1]))]))


def test_ties_of_a_renamed_term_stand_in_order_of_their_axes():
    """Terms with the same ties are summed as one, so there is one way to write them."""
    first, second = (Axis(0), Direction(1)), (Axis(1), Direction(0))
    term = Term((), (first, second), Space((2, 3)))
    names = {Axis(0): Axis(2), Axis(1): Axis(0)}
    assert term.renamed(names).ties == ((Axis(0), Direction(0)), (Axis(2), Direction(1)))


def test_a_scalar_is_multiplied_into_the_smallest_factor_of_a_sum():
    i, j, k = (Axis(a) for a in range(3))
    scalar = Labelled(leaf(gc.spec(()), "s"), ())
    thin, wide = Labelled(leaf(gc.spec((8, 2)), "a"), (i, k)), Labelled(leaf(gc.spec((2, 9)), "b"), (k, j))
    for factors, count in (([scalar, thin, wide], 2), ([scalar, thin, wide, scalar], 2), ([thin, wide], 2)):
        found = _with_scalars_inside(factors, frozenset({k}))
        assert len(found) == count and wide in found
        assert len(factors) == 2 or (thin not in found and any(set(f.labels) == {i, k} for f in found))
    held = [scalar, replace(thin, role="over"), replace(wide, role="over")]
    assert _with_scalars_inside(held, frozenset({k})) is held


def test_symbolic_derivatives_are_taken_of_a_result_of_several():
    """By one of the results of a branch, which is held independent of what it was computed from."""
    x = leaf(gc.spec(()), "x")
    body = gc.trace(lambda x: (x * 2.0, np.sin(x)), gc.spec(()))
    other = gc.trace(lambda x: (x, x), gc.spec(()))
    node = OPS["cond"].make((constant(np.bool_(True)), x), body=body, otherwise=other)
    first, second = item(node, 0), item(node, 1)
    pulled = symbolic_pull_back([first * first * second], [first, second], [constant(np.float64(1.0))])
    slopes = interpret([p for p in pulled if p is not None], {x: np.float64(0.5)})
    np.testing.assert_allclose(slopes, [2 * 1.0 * np.sin(0.5), 1.0])


def test_an_extremum_moves_as_far_as_its_elements_do():
    errors = np.array([[1e-16, 3e-16], [2e-16, 0.0]])
    np.testing.assert_array_equal(largest_error([errors], [errors], (1,)), [3e-16, 2e-16])
    np.testing.assert_array_equal(largest_error([errors[:0]], [errors[:0]], (0,)), [0.0, 0.0])


def test_a_cluster_is_computed_operands_first_and_products_before_all():
    """A reduction stays behind the map that it reads; a product moves before maps that it does not read."""
    x, w = leaf(gc.spec((4, 4)), "x"), leaf(gc.spec((4, 4)), "w")
    bent = np.sin(x)
    total = OPS["sum"].make((bent,), axes=(1,))
    product = OPS["contract"].make((x, w), left=(0, 2), right=(2, 1), out=(0, 1))
    shown = product + bent
    graph = Graph((x, w), (total, shown))
    assert in_order(Cluster(0, [total, bent]), graph.index) == [bent, total]
    assert in_order(Cluster(0, [shown, bent, product]), graph.index) == [product, bent, shown]


def test_work_inside_is_counted_down_to_what_is_stored():
    """A chain of maps costs all of them; what lies in memory, or is computed by the kernel anyway, nothing more."""
    x = leaf(gc.spec((4,)), "x")
    first = np.exp(x)
    second = np.sin(first)
    third = second + first
    each = [cost(n) for n in (first, second, third)]

    def inside(stored: set[Node], own: set[Node]) -> float:
        weaver: Any = SimpleNamespace(slots=SimpleNamespace(buffers=stored), own=own)
        return cost_inside(third, weaver)

    assert inside({x}, set()) == sum(each)
    assert inside({x, second}, set()) == each[0] + each[2]
    assert inside({x}, {first}) == each[1] + each[2]
    assert inside({x, third}, set()) == sum(each)


def test_a_matrix_by_itself_has_its_rows_in_the_lanes():
    """Then a core does two elements at a time, where it does one matrix per lane otherwise."""
    wide = Target.of("x86_64-unknown-linux-gnu", "x86-64-v4", "")
    graph = run_passes(gc.trace(gc.linalg.cholesky, gc.spec((8, 8))), (*PIPELINE, *LOWERING))
    plan = schedule(graph, target=wide)
    kernel, work = next((k, w) for k in plan.kernels for w in k.work if isinstance(w, Factor))
    alone, together = (work_seconds(replace(work, lanes=n), kernel, plan.buffers, wide) for n in (1, 8))
    assert 0 < 2 * alone == together


@pytest.mark.parametrize("reversed_", [False, True])
def test_a_place_that_another_step_has_written_is_not_written_before(reversed_):
    """Each step writes two places, and in a later stage reads them, or those of the step as far from the other end."""
    step, within, again = Var(1, 4), Var(2, 2), Var(3, 2)
    write = Access(0, "float64", True, Affine(0, {step: 2, within: 1}), (step,), (within,), stage=0.0)
    form = Affine(6, {step: -2, again: 1}) if reversed_ else Affine(0, {step: 2, again: 1})
    assert written_before(Access(0, "float64", False, form, (step,), (again,), stage=1.0), write) is not reversed_


def test_stumpffs_recursion_begins_where_it_loses_nothing():
    """cₖ₊₂ = (1/k! − cₖ)/s cancels while cₖ is near 1/k!: not before s is some multiple of k."""
    assert [switch(k) for k in range(4)] == [4.0, 4.0, 8.0, 12.0]


def test_one_lane_is_loaded_without_a_mask():
    """LLVM has masked loads of vectors alone; what runs one lane at a time does not run where the mask is off."""
    module = Module()
    f = Function(module, "f", [("ptr", "p")])
    load(f, "%p", "float64", 1, const(True, "bool"))
    f.finish()
    assert "load double, ptr %p" in str(module) and "masked" not in str(module)


def test_an_operand_whose_elements_are_shown_more_than_once_overlaps():
    """Sliding windows and repeated axes do; rows that lie apart, and a label of extent one, do not."""
    sizes: Any = SimpleNamespace(sizes={0: 4, 1: 3, 2: 1})

    def overlaps(strides: dict[int, int], labels: tuple[int, ...]) -> bool:
        return _overlaps(_Strided(0, 0, strides, "float64"), labels, sizes)

    assert overlaps({0: 1, 1: 1}, (0, 1)) and overlaps({0: 1}, (0, 1)) and overlaps({1: 1}, (0, 1))
    assert not overlaps({0: 3, 1: 1}, (0, 1)) and not overlaps({0: -3, 1: -1}, (0, 1))
    assert not overlaps({0: 1}, (0, 2)) and not overlaps({0: 1, 2: 7}, (0,))


def test_matrices_are_done_side_by_side_where_that_pays():
    """Two at least, of few rows: those by rotations of fewer; and, unless they are tiny, half a vector of them."""

    def aside(algorithm: Algorithm, batch: int, n: int) -> int:
        return matrices_aside(algorithm, batch, [(n, n)], 8)

    assert [aside(Algorithm.CHOLESKY, batch, ALWAYS_ASIDE) for batch in (1, 2, 4)] == [1, 8, 8]
    assert [aside(Algorithm.CHOLESKY, batch, ALWAYS_ASIDE + 1) for batch in (1, 3, 4, 100)] == [1, 1, 8, 8]
    assert [aside(Algorithm.CHOLESKY, 8, n) for n in (MOST_ASIDE, MOST_ASIDE + 1)] == [8, 1]
    assert [aside(Algorithm.EIGH, 8, n) for n in (MOST_ROTATED, MOST_ROTATED + 1)] == [8, 1]


def test_inner_products_cost_more_once_their_operands_leave_the_first_cache():
    """The bound itself is still inside."""

    def per_step(k: int) -> float:
        plan = _dot_plan(Gemm(4, 64, k, "float64", (k, 1), (1, k), (64, 1)), 8, 32)
        return plan.cost / (k + 8 * 4)

    plan = _dot_plan(Gemm(4, 64, 64, "float64", (64, 1), (1, 64), (64, 1)), 8, 32)
    bound = STREAMED_BYTES // 8 // (plan.rows + plan.vectors)
    assert (plan.rows + plan.vectors) * 8 * bound == STREAMED_BYTES
    assert per_step(bound + 8) > 1.4 * per_step(bound) > 1.3 * per_step(bound - 8)


def test_units_of_a_weight_are_along_its_first_axes():
    """A column of a matrix, a filter of a kernel (axes in front of the last one); a vector is one unit."""
    x = np.arange(1.0, 13.0)
    for shape, axes in (((12,), None), ((1, 12), None), ((3, 4), 0), ((2, 3, 2), 0), ((2, 3, 2, 1), (0, 1, 2))):
        found = unitwise_norm(x.reshape(shape))
        np.testing.assert_allclose(found, np.sqrt(np.square(x.reshape(shape)).sum(axes, keepdims=True)), rtol=1e-14)


def test_examples_are_counted_where_their_gradient_was_clipped():
    gradients = np.diag([0.5, 1.0, 2.0, 3.0])
    total, count = per_example_global_norm_clip([gradients], 1.0)
    np.testing.assert_allclose(total[0], [0.5, 1.0, 1.0, 1.0])
    assert count == 2


def test_integers_of_an_empty_range_that_is_known_at_run_time_are_its_start():
    draw = gc.jit(lambda low, high: gc.random.randint(gc.random.key(0), (4,), low, high))
    for low, high in ((3, 3), (3, -2)):
        np.testing.assert_array_equal(draw(np.int64(low), np.int64(high)), np.full(4, 3))


def test_adagrad_leaves_what_has_had_no_gradient():
    """Also without what its root usually keeps from 0; and a sum of squares of 1 is a number like any other."""
    optimizer = gc.optim.adagrad(0.5, initial_accumulator_value=0.0, eps=0.0)
    p = np.zeros(3)
    updates, _ = optimizer.update(np.array([0.0, 1.0, 2.0]), optimizer.init(p), p)
    np.testing.assert_allclose(updates, [0.0, -0.5, -0.5])


def test_a_loop_costs_what_its_body_and_its_condition_cost():
    """Once where the condition decides how often, and as often as the body runs otherwise."""

    def repeat(f: Any) -> Repeat:
        graph = run_passes(gc.trace(f, gc.spec((3,))), (*PIPELINE, *LOWERING))
        plan = schedule(graph, target=Target.of("x86_64-unknown-linux-gnu", "x86-64-v3", ""))
        return next(w for k in plan.kernels for w in k.work if isinstance(w, Repeat))

    searched = repeat(lambda x: gc.while_loop(lambda x: np.sum(x * x) < 9.0, lambda x: 1.5 * x, x))
    assert searched.again is not None and searched.again.flops >= 6
    counted = repeat(lambda x: gc.fori_loop(0, 700, lambda _, x: x * np.sum(x), x))
    for name in ("flops", "bytes"):
        body, again = (getattr(part, name) for part in (searched.body, searched.again))
        assert getattr(searched, name) == body + again
        assert getattr(counted, name) == 700 * getattr(counted.body, name) > 0
    assert searched.operations == searched.body.operations + searched.again.operations
    assert counted.operations == counted.body.operations > 0


@pytest.mark.parametrize(("m", "n"), [(5, 2), (4, 2), (2, 5), (3, 3)])
def test_factors_of_any_shape_move_no_further_than_their_bound(m, n):
    """Rows below the square and columns beside it have bounds of their own; these are not much too wide either."""
    rng = np.random.default_rng(0)
    a, e = rng.normal(size=(m, n)), np.full((m, n), 1e-7)
    packed, rows, _ = partial_lu(a)
    bound, unsure = lu_moved((a,), (e,), 2.0**-53)
    assert not np.any(unsure)
    worst = np.zeros((m, n))
    for _ in range(100):
        near, near_rows, _ = partial_lu(a + e * rng.choice([-1, 1], size=(m, n)))
        np.testing.assert_array_equal(near_rows, rows)
        worst = np.maximum(worst, np.abs(near - packed))
    assert np.all(worst <= bound) and np.all(bound <= 50 * worst)


def test_qr_of_a_square_matrix_is_complete_and_has_a_derivative():
    """There are no columns of Q beyond the rank's that could be any."""
    rng = np.random.default_rng(1)
    a, t = rng.normal(size=(2, 3, 3))
    complete, reduced = (gc.jvp(lambda a, m=m: tuple(np.linalg.qr(a, m)), (a,), (t,)) for m in ("complete", "reduced"))
    for got, want in zip([*complete[0], *complete[1]], [*reduced[0], *reduced[1]], strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_bound_that_rounds_to_zero_is_zero(sign):
    """exp(−100) is no float32: what is known of the number says so, on either side."""
    graph = gc.trace(lambda x: sign * np.exp(-np.clip(x, 0, 120)), gc.spec((), np.float32))
    known = range_of(graph.outputs[0])
    assert (known.lo, known.hi) == ((0.0, 1.0) if sign > 0 else (-1.0, 0.0))
    assert known.zeros is Zeros.POSSIBLE and graph.evaluate(np.float32(120))[0] == 0


def test_symbolic_derivatives_keep_their_numbers():
    """Factors of 1 and −1 are left out, and no other."""
    for k in (1.0, -1.0, 2.0, -2.0, 0.5):
        assert gc.grad(lambda x, k=k: x * k, method="symbolic")(3.0) == k
        assert gc.grad(lambda x, k=k: np.sin(x) * k, method="symbolic")(0.0) == k


def test_the_root_of_a_sum_of_squares_grows_with_every_gradient():
    """g/(√(v₀ + Σg²) + ε), with ε outside the root, as PyTorch has it."""
    rule = scale_by_rss(0.5, eps=0.25, eps_in_sqrt=False)
    g, p = np.array([1.5, -2.0]), np.zeros(2)
    state, v = rule.init(p), np.full(2, 0.5)
    for _ in range(2):
        updates, state = rule.update(g, state, p)
        v = v + g * g
        np.testing.assert_allclose(updates, g / (np.sqrt(v) + 0.25), rtol=1e-14)


def test_a_cosine_ends_at_its_share_of_the_beginning():
    f = gc.optim.cosine_decay_schedule(2.0, 10, alpha=0.25, exponent=2.0)
    np.testing.assert_allclose([f(0), f(5), f(10), f(99)], [2.0, 2 * (0.75 * 0.25 + 0.25), 0.5, 0.5], rtol=1e-14)


def test_kinks_of_a_hypotenuse_weigh_each_leg():
    """h·tanh(h) of h = √((a·x)² + (b·y)²) is smooth, and so is it where both legs have the same number."""

    def smooth(v: Any, a: float, b: float) -> Any:
        h = np.hypot(a * v[0], b * v[1])
        return h * np.tanh(h)

    for a, b in ((2.0, 3.0), (-3.0, 2.0), (2.0, 2.0), (0.5, -0.5)):
        found = gc.hessian(lambda v, a=a, b=b: smooth(v, a, b))(np.zeros(2))
        np.testing.assert_allclose(found, np.diag([2 * a * a, 2 * b * b]), rtol=1e-14)


def test_times_may_repeat_whichever_way_they_run():
    for t in ([0.0, 0.5, 0.5, 1.0], [1.0, 0.5, 0.5, 0.0]):
        ys = gc.odeint(lambda y, t: -y, np.ones(1), np.array(t)).ravel()
        assert ys[1] == ys[2]
        np.testing.assert_allclose(ys, np.exp(t[0] - np.array(t)), rtol=1e-6)


def test_a_root_pulls_back_to_arguments_of_no_elements():
    gradient = gc.grad(lambda p, q: gc.root(lambda x: x * x - q + np.sum(p), 1.0).x, argnums=(0, 1))
    empty, slope = gradient(np.zeros(0), 4.0)
    assert empty.shape == (0,)
    np.testing.assert_allclose(slope, 0.25, rtol=1e-12)
