"""Golden text of decisions that change no result: how work is estimated, cut, and laid over registers and caches.

A wrong cost is a right answer that takes longer, which no comparison of values sees.  So the decisions for fixed
machines are written down: `make golden` refreshes them, and whoever changes a cost reads what follows from it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.codegen.correlation.plan import make_plan as correlation_plan
from gradc.codegen.gemm import Gemm, gemm_cut, gemm_scratch_bytes
from gradc.codegen.gemm.plan import Plan
from gradc.codegen.gemm.plan import make_plan as product_plan
from gradc.codegen.partial import Groups
from gradc.codegen.target import Target
from gradc.passes import LOWERING, PIPELINE, run_passes
from gradc.schedule import Schedule, schedule
from gradc.schedule.bodies import Choice, Repeat
from gradc.schedule.duration import seconds_of
from gradc.schedule.factor import _FLOPS
from gradc.schedule.kernel import Buffer, Correlation, Kernel, Load, Nest, Split, Staged, Tiled, Work
from gradc.schedule.lanes import flops
from gradc.schedule.partition import MAX_DEPTH, segments, stored_nodes
from gradc.schedule.split import work_seconds
from tests.test_threads import CASES

TARGETS = {
    "AVX2": Target.of("x86_64-unknown-linux-gnu", "x86-64-v3", ""),
    "AVX-512": Target.of("x86_64-unknown-linux-gnu", "x86-64-v4", ""),
    "Neon": Target.of("aarch64-unknown-linux-gnu", "generic", ""),
}
WIDE = TARGETS["AVX-512"]


# -- products ----------------------------------------------------------------------------------------------------------
SHAPES = (
    (1, 1, 1), (4, 16, 4), (8, 8, 8), (29, 31, 300), (64, 64, 64), (130, 90, 70), (14, 400, 200), (1, 512, 900),
    (512, 1, 900), (700, 300, 700), (1000, 10, 64), (33, 1025, 2050), (1024, 1024, 1024), (4096, 100, 5000),
    (3, 5, 20000),
    (4, 4, 1024), (64, 64, 4096),  # at the very bound of what stays in the first cache, and of rows in the second
)  # fmt: skip
DTYPES = ("float32", "float64", "int8")


def _layouts(m: int, n: int, k: int) -> dict[str, Any]:
    """Strides of A, B and C, as the operands lie in memory: plain, transposed, and with steps."""
    plain_a, plain_b, plain_c = (k, 1), (n, 1), (n, 1)
    return {
        "NN": (plain_a, plain_b, plain_c),
        "TN": ((1, m), plain_b, plain_c),
        "NT": (plain_a, (1, k), plain_c),
        "NN to T": (plain_a, plain_b, (1, m)),
        "steps": ((3 * k, 3), (2 * n, 2), (2 * n, 2)),
    }


def _shown(p: Plan) -> str:
    packed = " ".join(f"{side} {kind.name.lower()}" for side, kind in (("A", p.pack_a), ("B", p.pack_b)) if kind)
    text = (
        f"{p.kernel}{' swapped' * p.swapped} {p.rows}x{p.columns}/{p.width} chains {p.chains} depth {p.depth} "
        f"rows {p.a_rows} panels {p.panels} {p.stage.name.lower()} packed: {packed}{' if astride' * p.straddled} "
        f"scratch {p.scratch_bytes} cost {p.cost:.6g}{' outside' * p.rows_outside}{' buffered' * p.buffered}"
    )
    return text if p.rest is None else f"{text}\n      and from {p.corner}: {_shown(p.rest)}"


def test_how_products_are_laid_over_registers_and_caches(golden):
    lines = []
    for name, target in TARGETS.items():
        for m, n, k in SHAPES:
            for layout, (a, b, c) in _layouts(m, n, k).items():
                for dtype in DTYPES if layout == "NN" else ("float32",):
                    gemm = Gemm(m, n, k, dtype, a, b, c)
                    lines.append(f"{name} {dtype} {m}x{n}x{k} {layout}: {_shown(product_plan(gemm.normal, target))}")
                    assert gemm_scratch_bytes(gemm, target) >= 0
    golden("plans_products.txt", "\n".join(lines))


def _cut(gemm: Gemm, threads: int, wanted: int) -> str:
    cut = gemm_cut(gemm, WIDE, fold=False, wanted=wanted, threads=threads)
    told = "not shared" if cut is None else f"{cut.pieces} x {cut.steps} of {cut.extent} {cut.along.value}"
    return f"{threads} of {wanted}: {told}"


def test_how_threads_share_products(golden):
    lines = []
    for m, n, k in SHAPES:
        for batch in ((), (8,), (3, 5)):
            sizes = (m * k, k * n, m * n)
            steps = [tuple(size * int(np.prod(batch[a + 1 :])) for a in range(len(batch))) for size in sizes]
            gemm = Gemm(m, n, k, "float32", (k, 1), (n, 1), (n, 1), batch, *steps)
            for way in (gemm, gemm.transposed):
                cuts = (_cut(way, threads, wanted) for threads, wanted in ((2, 8), (3, 12), (8, 8)))
                lines.append(f"{way.m}x{way.n}x{way.k} {batch}: {', '.join(cuts)}")
    golden("plans_cuts.txt", "\n".join(lines))


def test_what_factorisations_cost(golden):
    """Of matrices all of whose sides differ, and square ones."""
    shapes = [[(n, m) for n, m in rows] for rows in (((9, 5), (7, 4), (3, 2)), ((5, 9), (4, 7)), ((6, 6), (6, 6)))]
    lines = [f"{a.name.lower()}: {', '.join(f'{count(s):.6g}' for s in shapes)}" for a, count in _FLOPS.items()]
    golden("plans_factorisations.txt", "\n".join(lines))


@pytest.mark.parametrize("wanted", [1, 2, 3, 8, 64])
def test_blocks_in_groups_are_all_there_in_as_few_groups_as_wanted(wanted):
    for total in range(1, 200):
        groups = Groups.of(total, wanted)
        assert groups.whole * groups.size + groups.rest == total
        assert groups.count <= wanted and groups.size & (groups.size - 1) == 0
        assert 0 <= groups.rest < groups.size
        assert groups.size == 1 or -(-total // (groups.size // 2)) > wanted


# -- what work costs, and how threads share it -------------------------------------------------------------------------
def _loops() -> dict[str, Any]:
    def steps(x: Any) -> Any:
        return gc.scan(lambda c, r: (np.tanh(c * r), c.sum()), x[0], x)

    def until(x: Any) -> Any:
        return gc.while_loop(lambda c: c.sum() < 9, lambda c: c * 1.5 + 1, x[0])

    def at_most(x: Any) -> Any:
        return gc.while_loop(lambda c: c.sum() < 9, lambda c: c * 1.5 + 1, x[0], max_steps=20)

    def either(x: Any) -> Any:
        return gc.cond(x[0, 0] > 0, lambda x: np.sin(x), lambda x: x @ x.T @ x, x)

    def swapped(x: Any) -> Any:
        return gc.fori_loop(0, 5, lambda i, c: (c[1], c[0] + i), (x, x * 2))

    return {f.__name__: f for f in (steps, until, at_most, either, swapped)}


#: dtypes by the name of a parameter
KINDS = {"i": "int64", "h": "float16"}
#: larger than what the tests of threads run: here nothing is run
LARGE = {
    "updates of long rows": (lambda c, x, i: c.at[i].add(x), ((500, 4000), (900, 4000), (900,))),
    "updates of long columns": (lambda c, x, i: c.at[:, i].max(x), ((4000, 50), (4000, 300), (300,))),
    "one long sum": (lambda x, y: (x * y).sum(), ((10**6,), (10**6,))),
    "sums of long rows": (lambda x: x.sum(axis=1), ((300, 4000),)),
    "sums of long columns": (lambda x: x.sum(axis=0), ((4000, 300),)),
    "a long map": (lambda x: x * 2, ((10**6,),)),
    "a transpose": (lambda x: x.T * 2, ((512, 512),)),
    "transposes": (lambda x: np.transpose(x, (0, 2, 1)) * 2, ((30, 64, 48),)),
    "a transpose of odd sides": (lambda x: x.T * 2, ((513, 511),)),
    "narrow numbers that move": (lambda h: np.pad(h, 3, constant_values=2.0), ((300, 300),)),
    "narrow numbers": (lambda h: h * 2 + 1, ((300, 300),)),
    "positions": (lambda x: (np.argmax(x, axis=0), np.argmin(x, axis=1), np.argmax(x)), ((90, 400),)),
    "sums of short rows": (lambda x: np.exp(x).sum(axis=1), ((9000, 5),)),
    "softmax of columns": (lambda x: np.exp(x) / np.exp(x).sum(axis=0), ((700, 80),)),
    "a product first": (lambda x, y: (np.sin(y) @ x, np.cos(y)), ((64, 64), (64, 64))),
    "a long chain": (lambda x: functools.reduce(lambda a, k: np.sin(a) + x * k, range(60), x), ((5000,),)),
    "convolutions of layers": (lambda x, w: gc.nn.conv2d(x, w, padding=1), ((4, 16, 32, 32), (32, 16, 3, 3))),
    "convolutions of images": (lambda x, w: gc.nn.conv2d(x, w, stride=2), ((2, 3, 45, 52), (5, 3, 5, 5))),
    "gradients of weights": (
        lambda x, w: gc.grad(lambda w: (gc.nn.conv2d(x, w) ** 2).sum())(w),
        ((4, 16, 32, 32), (32, 16, 3, 3)),
    ),
    "one long sort": (lambda x: np.sort(x), ((10**6,),)),
    "many sorts": (lambda x: np.sort(x, axis=1), ((3000, 90),)),
    "many searches": (lambda x, v: np.searchsorted(x, v), ((500,), (90000,))),
    "a product and what follows": (lambda x, y: np.tanh(x @ y + 1), ((700, 300), (300, 500))),
    "products": (lambda x, y: x @ y, ((12, 300, 200), (12, 200, 250))),
    "two long rows": (lambda x: (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)), ((2, 10**6),)),
    "running sums": (lambda x: np.cumsum(x, axis=0), ((1000, 3000),)),
    "rows that may fail": (lambda x, i: x[i] * 2, ((5000, 80), (7770,))),
    "a map beside a product": (lambda x, y: (x * 3, x @ y + 1), ((64, 64), (64, 64))),
    "products of two batch axes": (lambda x, y: x @ y + 1, ((3, 4, 30, 20), (3, 4, 20, 25))),
    "products of a unit batch axis": (lambda x, y: x @ y + 1, ((3, 1, 30, 20), (3, 1, 20, 25))),
    "light work on stored rows": (
        lambda x: (e := np.exp(x), (e + 1) / (e + 1).sum(axis=1, keepdims=True)),
        ((70, 600),),
    ),
    "a long chain of light steps": (lambda x: functools.reduce(lambda a, k: a * x + 1, range(100), x), ((5000,),)),
    "light steps read by many": (lambda x, y, z: (((x * y + 1) * x + y) * y + x) * z, ((200,), (200,), (300, 200))),
    "rows without elements": (lambda x: gc.scan(lambda c, r: (c + r.sum(), r[:0]), x[0, 0], x), ((30, 40),)),
}  # fmt: skip


def _programs() -> dict[str, Any]:
    small = CASES | {name: (f, (np.zeros((30, 40)),)) for name, f in _loops().items()}
    known = {name: (f, [gc.spec(a.shape, a.dtype) for a in args]) for name, (f, args) in small.items()}
    numbers = {name: f.__code__.co_varnames for name, (f, _) in LARGE.items()}
    return known | {
        name: (f, [gc.spec(s, KINDS.get(n, "float64")) for s, n in zip(shapes, numbers[name], strict=False)])
        for name, (f, shapes) in LARGE.items()
    }


PROGRAMS = _programs()


def _planned(name: str, threads: int) -> Schedule:
    f, specs = PROGRAMS[name]
    graph = run_passes(gc.trace(f, *specs), PIPELINE)
    return schedule(run_passes(graph, LOWERING), target=WIDE, threads=threads)


def _cost(work: Work, kernel: Kernel, buffers: Any) -> Iterator[str]:
    if isinstance(work, (Repeat, Choice)):
        bodies = (work.body, work.otherwise) if isinstance(work, Choice) else (work.body, work.again)
        steps = f" length {work.length} steps {work.steps} of {work.operations:.6g}" if isinstance(work, Repeat) else ""
        seconds = seconds_of([kernel], buffers, WIDE, np.inf)
        yield f"{type(work).__name__}{steps} flops {work.flops} {seconds * 1e9:.6g} ns"
        for body in bodies:
            if body is not None:
                yield f"  body of {body.arena_bytes} bytes, flops {body.flops}, bytes {body.bytes}"
                yield from (f"    {line}" for k in body.kernels for w in k.work for line in _cost(w, k, body.buffers))
        return
    extra = _loops_of(work) if isinstance(work, Nest) else ""
    yield f"{type(work).__name__} {work_seconds(work, kernel, buffers, WIDE) * 1e9:.6g} ns{extra}"
    if isinstance(work, Correlation):
        yield f"  {correlation_plan(work, WIDE)}"


def _loops_of(nest: Nest) -> str:
    for stage in nest.stages:
        assert nest.needed(stage) == sorted(nest.needed(stage))
    ahead = [x.ahead for x in nest.code if isinstance(x, Load) and x.ahead]
    loops = " ".join(f"{v.extent}{'*' * (v == nest.lane)}" for v in nest.outer)
    inner = " | ".join(" ".join(f"{v.extent}{'*' * (v == nest.lane)}" for v in s.inner) for s in nest.stages)
    code = f"{len(nest.code)} of {' '.join(sorted({x.dtype for x in nest.code}))}"
    lanes = f"{nest.lanes} lanes, ahead {ahead}, code {code}"
    return f" flops {flops(nest, lambda x: 1):.6g} loops {loops} > {inner} in {lanes}"


def _split(split: Any) -> str:
    if isinstance(split, Split):
        private = f" private {split.private}" if split.private else ""
        return f"{split.pieces} pieces of {split.steps} from {split.extent}, {split.threads} threads{private}"
    if isinstance(split, Staged):
        return "stages: " + "; ".join(_split(s) for s in split.stages)
    return f"tiles: {split.pieces} pieces, {split.threads} threads" if isinstance(split, Tiled) else "whole"


def _buffer(b: Buffer) -> str:
    return f"{b.place.name.lower()} {b.dtype}{list(b.shape)} at {b.at}"


def test_what_work_costs_and_how_it_is_cut(golden):
    lines = []
    for name in PROGRAMS:
        plan = _planned(name, 1)
        seconds = seconds_of(plan.kernels, plan.buffers, WIDE, np.inf)
        lines.append(
            f"{name}: flops {plan.flops}, bytes {plan.bytes}, arena {plan.temporary_bytes}, {seconds * 1e9:.6g} ns"
        )
        lines += [f"  {_buffer(b)}" for b in plan.buffers]
        for kernel in plan.kernels:
            assert all(0 <= slot < len(kernel.slots) for work in kernel.work for slot in work.touch.slots)
            lines += [f"  {line}" for work in kernel.work for line in _cost(work, kernel, plan.buffers)]
        for threads in (2, 16):
            shared = _planned(name, threads)
            cuts = [_split(s) for k in shared.kernels for s in k.splits]
            lines.append(f"  {threads} threads, arena {shared.temporary_bytes}: {' | '.join(cuts) or 'alone'}")
    golden("plans_costs.txt", "\n".join(lines))


def test_long_chains_are_cut_into_equal_pieces():
    graph = gc.trace(lambda x: functools.reduce(lambda a, k: -a, range(5 * MAX_DEPTH), x), gc.spec(9))
    steps = graph.nodes[1:]
    assert len(steps) == 5 * MAX_DEPTH
    stored = stored_nodes(graph, segments(graph))
    cuts = [k for k, node in enumerate(steps[:-1]) if node in stored]
    assert len(cuts) == 4 and {*np.diff([-1, *cuts])} == {MAX_DEPTH + 1}
