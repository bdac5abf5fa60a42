"""Generated matrix products against NumPy: every layout, dtype and edge; the order of sums bit by bit."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradc.codegen.builder import Builder
from gradc.codegen.gemm import Gemm, Half, emit_gemm, gemm_scratch_bytes
from gradc.codegen.gemm.dot import Dot
from gradc.codegen.gemm.output import Output
from gradc.codegen.gemm.pack import Pack
from gradc.codegen.gemm.plan import Plan, Stage, make_plan
from gradc.codegen.gemm.registers import address, load, plus, store, times
from gradc.codegen.ir import Module, Value
from gradc.codegen.target import Cache, Target
from gradc.errors import DTypeError
from tests.gemm_harness import HOST, Products, bound, describe, machine, text

FLOATS = ("float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
HAS_FMA = "+fma" in HOST.features.split(",") or HOST.triple.startswith(("aarch64", "arm64"))


def plan_of(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Plan:
    return make_plan(describe(a, b, c).folded.normal, HOST)


def random_array(rng: np.random.Generator, shape: Sequence[int], dtype: str) -> np.ndarray:
    if dtype in FLOATS:
        return rng.standard_normal(shape).astype(dtype)
    if dtype == "bool":
        return rng.random(shape) < 0.3
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def laid_out(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, layout: str) -> np.ndarray:
    """A view of random numbers whose strides are of the named kind."""
    *batch, rows, cols = shape
    match layout:
        case "rows":
            return random_array(rng, shape, dtype)
        case "columns":
            return random_array(rng, (*batch, cols, rows), dtype).swapaxes(-1, -2)
        case "strided":
            return random_array(rng, (*batch, 2 * rows, 3 * cols), dtype)[..., ::2, ::3]
        case "padded":
            return random_array(rng, (*batch, rows + 1, cols + 5), dtype)[..., 1:, 3 : 3 + cols]
        case "backwards":
            return random_array(rng, shape, dtype)[..., ::-1, ::-1]
        case "column backwards":
            return random_array(rng, shape, dtype)[..., ::-1]
        case "repeated row":
            return np.broadcast_to(random_array(rng, (*batch, 1, cols), dtype), shape)
        case "repeated column":
            return np.broadcast_to(random_array(rng, (*batch, rows, 1), dtype), shape)
    raise AssertionError(layout)


LAYOUTS = ("rows", "columns", "strided", "padded", "backwards", "column backwards")
INPUT_LAYOUTS = (*LAYOUTS, "repeated row", "repeated column")


def expected(a: np.ndarray, b: np.ndarray, c: np.ndarray, accumulate: bool, alpha: int | float | None) -> np.ndarray:
    """NumPy's answer: wrapping for integers, float64 for floats."""
    wide = float if a.dtype.kind == "f" else a.dtype
    result = a.astype(wide) @ b.astype(wide)
    if alpha is not None:
        result = result * np.array(alpha).astype(wide)
    if accumulate:
        result = result | c if a.dtype == bool else result + c
    return result


def check(c: np.ndarray, a: np.ndarray, b: np.ndarray, old: np.ndarray, accumulate: bool, alpha: float | None) -> None:
    right = expected(a, b, old, accumulate, alpha)
    if a.dtype.kind == "f":
        error = bound(a, b, old if accumulate else None, 1.0 if alpha is None else alpha)
        assert (abs(c - right) <= error).all()
    else:
        assert np.array_equal(c, np.broadcast_to(right, c.shape))


extents = st.one_of(st.integers(0, 5), st.integers(6, 40), st.sampled_from([63, 64, 65, 100, 128]))


@st.composite
def products(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool, float | None]:
    """(A, B, C, accumulate, alpha) of any dtype, layout and batch."""
    m, n, k = draw(extents), draw(extents), draw(extents)
    dtype = draw(st.sampled_from(FLOATS * 4 + INTEGERS))
    batch = draw(st.sampled_from([(), (), (1,), (3,), (2, 3), (0,)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    a_batch, b_batch = (tuple(draw(st.sampled_from([1, size])) for size in batch) for _ in "ab")
    a = laid_out(rng, (*a_batch, m, k), dtype, draw(st.sampled_from(INPUT_LAYOUTS)))
    b = laid_out(rng, (*b_batch, k, n), dtype, draw(st.sampled_from(INPUT_LAYOUTS)))
    c = laid_out(rng, (*batch, m, n), dtype, draw(st.sampled_from(LAYOUTS)))
    alpha = draw(st.sampled_from([None, None, 3, 0] if dtype in INTEGERS else [None, None, -0.37, 0.0]))
    return a, b, c, draw(st.booleans()), alpha


@given(products())
def test_any_product(case: tuple[np.ndarray, np.ndarray, np.ndarray, bool, float | None]) -> None:
    a, b, c, accumulate, alpha = case
    whole = c if c.base is None else c.base
    old, around = c.copy(), whole.copy()
    Products([describe(a, b, c, accumulate, alpha)])(0, a, b, c)
    check(c, a, b, old, accumulate, alpha)
    c[...] = old
    assert np.array_equal(whole, around)  # nothing beside C was written


BLOCKED = [(130, 200, 1200), (700, 40, 420), (17, 1030, 700), (64, 40, 2600)]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", FLOATS)
def test_products_in_blocks(dtype: str) -> None:
    rng = np.random.default_rng(1)
    layouts = itertools.product(BLOCKED, ("rows", "columns"), ("rows", "columns", "strided"))
    arrays = [  # every other one adds to what is there
        (laid_out(rng, (m, k), dtype, a), laid_out(rng, (k, n), dtype, b), random_array(rng, (m, n), dtype), i % 2 == 1)
        for i, ((m, n, k), a, b) in enumerate(layouts)
    ]
    plans = [plan_of(a, b, c) for a, b, c, _ in arrays]
    assert any(plan.depth < plan.problem.k for plan in plans)
    assert {plan.pack_a for plan in plans} > {None} and len({plan.pack_b for plan in plans}) == 4
    compiled = Products([describe(*case) for case in arrays])
    for i, (a, b, c, add) in enumerate(arrays):
        old = c.copy()
        compiled(i, a, b, c)
        check(c, a, b, old, add, None)


def test_every_way_is_taken() -> None:
    """The shapes that the plans were made for get them."""

    def way(m: int, n: int, k: int, a: str, b: str, c: str = "rows") -> tuple[str, bool, Stage]:
        rng = np.random.default_rng(0)
        shapes = ((m, k), (k, n), (m, n))
        plan = plan_of(
            *(laid_out(rng, shape, "float32", layout) for shape, layout in zip(shapes, (a, b, c), strict=True))
        )
        return plan.kernel, plan.swapped, plan.stage

    assert way(64, 64, 64, "rows", "rows") == ("tile", False, Stage.NONE)
    assert way(64, 64, 64, "columns", "columns", "columns") == ("tile", True, Stage.NONE)
    assert way(1, 1, 1000, "rows", "columns")[0] == "dot"
    assert way(100, 1, 100, "rows", "rows")[:2] == ("dot", True)
    assert way(128, 10, 64, "columns", "rows") == ("tile", True, Stage.FLIP)
    assert way(64, 64, 64, "rows", "rows", "strided")[2] is Stage.MOVE


@pytest.mark.parametrize("half", [Half.UPPER, Half.LOWER])
@pytest.mark.parametrize("c_layout", ["rows", "columns", "strided"])
def test_the_wanted_half_is_computed(half: Half, c_layout: str) -> None:
    rng = np.random.default_rng(7)
    wanted = np.triu if half is Half.UPPER else np.tril
    cases = []
    for n, k, layout in ((5, 9, "rows"), (70, 30, "columns"), (81, 300, "rows"), (97, 64, "columns")):
        a, b = laid_out(rng, (n, k), "float32", layout), laid_out(rng, (k, n), "float32", "rows")
        cases.append((a, b, laid_out(rng, (n, n), "float32", c_layout)))
    compiled = Products([replace(describe(*case, accumulate=True), half=half) for case in cases])
    for i, (a, b, c) in enumerate(cases):
        right = c + a.astype(float) @ b
        compiled(i, a, b, c)
        assert (wanted(abs(c - right)) <= bound(a, b, abs(c))).all()


# -- the order of sums -------------------------------------------------------------------------------------------------
def fma(x: np.ndarray, y: np.ndarray, total: np.ndarray) -> np.ndarray:
    """float32 FMA through float64: the product is exact there; the second rounding differs once in 2**29 steps."""
    return (x.astype(float) * y.astype(float) + total.astype(float)).astype(np.float32)


def in_whole_tiles(shape: tuple[int, int, int], layout: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, Plan]:
    """Operands of about that shape which this CPU's tiles cover without a rest, and the plan for them."""
    rng, (m0, n0, k) = np.random.default_rng(2), shape
    for m, n in itertools.product(range(m0, m0 + 9), range(n0, n0 + 2 * HOST.lanes("float32"))):
        a = laid_out(rng, (m, k), "float32", layout)
        b, c = (random_array(rng, s, "float32") for s in ((k, n), (m, n)))
        plan = plan_of(a, b, c)
        if plan.kernel == "tile" and plan.rest is None:
            return a, b, c, plan
    raise AssertionError(f"no shape near {shape} is covered by whole tiles")


@pytest.mark.skipif(not HAS_FMA, reason="without FMA a step has two roundings")
@pytest.mark.parametrize(
    ("shape", "layout"),
    [((5, 40, 37), "rows"), ((33, 46, 200), "rows"), ((12, 300, 1100), "rows"), ((64, 48, 2600), "columns")],
)
def test_tiles_add_in_the_order_of_k(shape: tuple[int, int, int], layout: str) -> None:
    a, b, c, plan = in_whole_tiles(shape, layout)
    (m, n), k = c.shape, a.shape[1]
    blocks = []
    for start in range(0, k, plan.depth):
        total = np.zeros((m, n), np.float32)
        for j in range(start, min(start + plan.depth, k)):
            total = fma(a[:, j : j + 1], b[j], total)
        blocks.append(total)
    for add in (False, True):
        right = c.copy() if add else np.zeros_like(c)
        for total in blocks:
            right = right + total
        got = c.copy()
        Products([describe(a, b, got, add)])(0, a, b, got)
        assert np.array_equal(got.view(np.uint32), right.view(np.uint32))


@pytest.mark.parametrize(("layout", "swapped"), [("rows", False), ("columns", True)])
def test_the_last_columns_are_a_product_of_their_own(layout: str, swapped: bool) -> None:
    long = 3 * HOST.lanes("float32") + 1
    m, n, k = (long, 40, 90) if swapped else (40, long, 90)
    rng = np.random.default_rng(5)
    a, b, c = (laid_out(rng, shape, "float32", layout) for shape in ((m, k), (k, n), (m, n)))
    plan = plan_of(a, b, c)
    assert plan.rest is not None and plan.swapped is swapped
    old, last = c.copy(), (slice(-1, None), slice(None)) if swapped else (slice(None), slice(-1, None))
    Products([describe(a, b, c, accumulate=True)])(0, a, b, c)
    check(c, a, b, old, True, None)
    alone = old[last].copy()
    Products([describe(a[last[0]], b[:, last[1]], alone, accumulate=True)])(0, a[last[0]], b[:, last[1]], alone)
    assert np.array_equal(c[last].view(np.uint32), alone.view(np.uint32))


@pytest.mark.skipif(not HAS_FMA, reason="without FMA a step has two roundings")
@pytest.mark.parametrize("shape", [(1, 1, 1000), (1, 7, 333), (3, 20, 100), (4, 9, 64), (12, 10, 999)])
def test_inner_products_add_as_stated(shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    rng = np.random.default_rng(3)
    a, b, got = random_array(rng, (m, k), "float32"), random_array(rng, (n, k), "float32").T, np.empty((m, n), "f4")
    plan = plan_of(a, b, got)
    assert plan.kernel == "dot"
    stride = plan.width * plan.chains
    steps = -(-k // stride)
    wide = [np.pad(x, ((0, 0), (0, steps * stride - k))).reshape(-1, steps, plan.chains, plan.width) for x in (a, b.T)]
    totals = np.zeros((m, n, plan.chains, plan.width), np.float32)
    for t in range(steps):
        totals = fma(wide[0][:, None, t], wide[1][None, :, t], totals)
    for axis in (2, 3):
        while totals.shape[axis] > 1:
            even, odd = (np.take(totals, range(side, totals.shape[axis], 2), axis) for side in (0, 1))
            totals = even + odd
    Products([describe(a, b, got)])(0, a, b, got)
    assert np.array_equal(got.view(np.uint32), totals[:, :, 0, 0].view(np.uint32))


@pytest.mark.parametrize("dtype", FLOATS)
def test_same_bits_at_any_alignment_and_batch_place(dtype: str) -> None:
    rng = np.random.default_rng(4)
    for m, n, k in ((13, 37, 29), (1, 9, 100), (50, 10, 64), (96, 128, 200)):
        a, b = random_array(rng, (m, k), dtype), random_array(rng, (k, n), dtype)
        seen = set()
        for shift in range(9):
            moved = []
            for x in (a, b, np.zeros((m, n), dtype)):
                moved.append(np.zeros(x.size + 16, dtype)[shift : shift + x.size].reshape(x.shape))
                moved[-1][...] = x
            Products([describe(*moved)])(0, *moved)
            seen.add(moved[2].tobytes())
        stack = np.empty((3, m, n), dtype)
        Products([describe(np.stack([a] * 3), np.stack([b] * 3), stack)])(
            0, np.stack([a] * 3), np.stack([b] * 3), stack
        )
        seen.update(x.tobytes() for x in stack)
        assert len(seen) == 1


# -- edges -------------------------------------------------------------------------------------------------------------
def test_special_values_stay_in_their_row_and_column() -> None:
    """NaN and infinity in a row of A reach that row of C only, although tiles overlap and panels are padded."""
    rng = np.random.default_rng(5)
    for la, lb in itertools.product(("rows", "columns"), repeat=2):
        a, b = laid_out(rng, (21, 19), "float32", la), laid_out(rng, (19, 35), "float32", lb)
        a[20], b[:, 34] = np.nan, np.inf
        c = np.zeros((21, 35), np.float32)
        Products([describe(a, b, c)])(0, a, b, c)
        assert np.isfinite(c[:20, :34]).all() and np.isnan(c[20]).all() and not np.isfinite(c[:, 34]).any()


@pytest.mark.skipif(os.name != "posix", reason="pages are protected by mprotect")
def test_nothing_outside_is_touched() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.gemm_guard"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 160


def test_no_terms_give_zero_or_what_was_there() -> None:
    a, b = np.zeros((3, 0), np.float32), np.zeros((0, 20), np.float32)
    compiled = Products([describe(a, b, np.ones((3, 20), np.float32), add) for add in (False, True)])
    for add in (False, True):
        c = np.ones((3, 20), np.float32)
        compiled(int(add), a, b, c)
        assert (c == int(add)).all()


def test_bad_problems_are_refused() -> None:
    good = {"m": 2, "n": 2, "k": 2, "dtype": "float32", "a_strides": (2, 1), "b_strides": (2, 1), "c_strides": (2, 1)}
    with pytest.raises(DTypeError, match="complex64"):
        Gemm(**{**good, "dtype": "complex64"})
    with pytest.raises(ValueError, match="negative"):
        Gemm(**{**good, "m": -1})
    with pytest.raises(ValueError, match="batch"):
        Gemm(**good, batch=(2,))


# -- epilogue ----------------------------------------------------------------------------------------------------------
class BiasRelu:
    """max(C + bias[col] + shift[batch, row], 0), counting in ``seen`` how often an element was visited."""

    extra_params = (("ptr", "bias"), ("ptr noalias", "shift"), ("ptr", "seen"))

    def __init__(self, m: int, n: int):
        self.m, self.n = m, n

    def apply(self, b: Builder, acc: Value, row: Value, col: Value, mask: Value | None) -> Value:
        f, batch = b.f, Value("%batch", "int64")
        bias = load(f, address(f, "%bias", col, "float32"), "float32", acc.lanes, mask)
        line = plus(f, times(f, batch, self.m), row)
        shift = load(f, address(f, "%shift", line, "float32"), "float32")
        seen = address(f, "%seen", plus(f, times(f, line, self.n), col), "int32")
        store(f, b.add(load(f, seen, "int32", acc.lanes, mask), 1), seen, mask)
        return b.max(b.add(b.add(acc, bias), b.splat(shift)), 0.0)


EPILOGUE_CASES = [
    (5, 33, 20, "rows", "rows", "rows"),
    (64, 10, 32, "columns", "rows", "rows"),
    (1, 50, 40, "rows", "columns", "rows"),
    (50, 1, 40, "rows", "rows", "rows"),
    (20, 30, 9, "rows", "rows", "columns"),
    (20, 30, 9, "rows", "rows", "strided"),
    (12, 300, 1100, "rows", "rows", "rows"),  # two blocks of k
    (12, 10, 200, "rows", "columns", "rows"),
    (19, 33, 20, "rows", "rows", "rows"),  # the second tile overlaps the first
    (40, 97, 90, "rows", "rows", "rows"),  # the last column is computed on its own
    (97, 40, 90, "columns", "columns", "columns"),  # the last row is
]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("accumulate", [False, True])
def test_epilogue_sees_every_final_element_once(batch: tuple[int, ...], accumulate: bool) -> None:
    rng = np.random.default_rng(6)
    cases = []
    for m, n, k, *layouts in EPILOGUE_CASES:
        shapes = ((m, k), (k, n), (m, n))
        cases.append([laid_out(rng, (*batch, *s), "float32", x) for s, x in zip(shapes, layouts, strict=True)])
    epilogues = {i: BiasRelu(m, n) for i, (m, n, *_) in enumerate(EPILOGUE_CASES)}
    compiled = Products([describe(*case, accumulate) for case in cases], epilogues=epilogues)
    for i, (a, b, c) in enumerate(cases):
        old, (m, n) = c.copy(), c.shape[-2:]
        bias, shift = random_array(rng, (n,), "float32"), random_array(rng, (*batch, m, 1), "float32")
        seen = np.zeros((*batch, m, n), np.int32)
        compiled(i, a, b, c, bias, shift, seen)
        assert (seen == 1).all()
        sums = old.copy()
        Products([describe(a, b, sums, accumulate)])(0, a, b, sums)
        right = np.maximum((sums + bias) + shift, 0)
        # An epilogue keeps the batch out of the rows, so the product may be planned, and summed, another way.
        slack = 2 * bound(a, b, old) + 4 * np.finfo(np.float32).eps * (abs(sums) + abs(bias) + abs(shift))
        assert (abs(c - right) <= slack).all()


class Negate:
    """Logical not, to see that a bool epilogue gets bools."""

    extra_params = ()

    def apply(self, b: Builder, acc: Value, row: Value, col: Value, mask: Value | None) -> Value:
        return b.not_(acc)


def test_epilogue_of_bools() -> None:
    rng = np.random.default_rng(7)
    a, b, c = random_array(rng, (9, 5), "bool"), random_array(rng, (5, 21), "bool"), np.zeros((9, 21), bool)
    Products([describe(a, b, c)], epilogues={0: Negate()})(0, a, b, c)
    assert np.array_equal(c, ~(a @ b)) and set(c.view(np.uint8).ravel()) == {0, 1}


# -- what is emitted ---------------------------------------------------------------------------------------------------
def row_major(m: int, n: int, k: int, dtype: str = "float32") -> Gemm:
    return Gemm(m, n, k, dtype, (k, 1), (n, 1), (n, 1))


def test_products_share_their_kernels() -> None:
    module = Module()
    for i, (m, n, k) in enumerate([(64, 128, 64), (128, 64, 32), (32, 256, 100)]):
        emit_gemm(module, row_major(m, n, k), HOST, f"product{i}")
    assert sum(name.startswith("gemm.tile") for name in module.functions) == 1
    # A new product of a known kind is a few loops: 64 lines, against some 200 of a kernel.
    assert all(len(module.functions[f"product{i}"].splitlines()) <= 64 for i in range(3))


def test_no_flags_and_no_libcalls() -> None:
    module = Module()
    for i, m in enumerate((1, 4, 64)):
        emit_gemm(module, row_major(m, 100, 100), HOST, f"product{i}")
    words = set(str(module).replace(",", " ").split())
    assert not words & {"fast", "contract", "reassoc", "nnan", "ninf", "nsz", "arcp", "afn", "@llvm.fma"}


def test_names_tell_kernels_apart() -> None:
    outputs = [Output("float32", add, scaled) for add in (False, True) for scaled in (False, True)]
    assert len({Dot(16, 1, 8, 1, True, output).name for output in outputs}) == 4


@pytest.mark.parametrize(
    ("triple", "features"),
    [
        ("aarch64-unknown-linux-gnu", ""), ("arm64-apple-macosx", ""), ("x86_64-pc-windows-msvc", "+avx2,+fma"),
        ("wasm32-unknown-unknown", "+simd128"), ("riscv64-unknown-linux-gnu", "+m,+a,+f,+d"), ("x86_64-linux-gnu", ""),
    ],
)  # fmt: skip
def test_other_targets_assemble(triple: str, features: str) -> None:
    target = Target.of(triple, features=features)
    module = Module()
    emit_gemm(module, row_major(20, 30, 40), target, "plain")
    emit_gemm(module, Gemm(20, 30, 40, "float64", (1, 20), (1, 40), (30, 1)), target, "flipped")
    emit_gemm(module, Gemm(1, 30, 40, "float32", (40, 1), (1, 40), (30, 1)), target, "dot")
    parsed = llvm.parse_assembly(text(module, target))
    parsed.verify()
    assert machine(target).emit_object(parsed)


@pytest.mark.parametrize("cpu", ["x86-64-v3", "x86-64"])
def test_narrower_registers(cpu: str) -> None:
    if not HOST.triple.startswith("x86_64") or HOST.vector_bits < 256:
        pytest.skip("the host cannot run it")
    target = Target.of(HOST.triple, cpu)
    rng = np.random.default_rng(8)
    layouts = list(
        itertools.product([(17, 35, 21), (1, 20, 50), (30, 5, 64)], ("rows", "columns"), ("rows", "columns"))
    )
    cases = [
        [laid_out(rng, (m, k), "float32", la), laid_out(rng, (k, n), "float32", lb), np.zeros((m, n), np.float32)]
        for (m, n, k), la, lb in layouts
    ]
    compiled = Products([describe(*case) for case in cases], target)
    for i, (a, b, c) in enumerate(cases):
        compiled(i, a, b, c)
        check(c, a, b, c, False, None)


def test_targets() -> None:
    def shape(triple: str, cpu: str = "", features: str = "") -> tuple[int, int]:
        target = Target.of(triple, cpu, features)
        return target.lanes("float32"), target.vector_registers

    assert shape("x86_64-unknown-linux-gnu") == (4, 16)
    assert shape("x86_64-unknown-linux-gnu", features="+avx,+avx2,-avx512f") == (8, 16)
    assert shape("x86_64-unknown-linux-gnu", "x86-64-v4") == (16, 32)
    assert shape("aarch64-apple-darwin") == (4, 32)
    assert shape("riscv64-unknown-linux-gnu") == (4, 16)
    assert Target.of("x86_64", features="+avx512f").lanes("bool") == 64


def test_rows_that_a_cache_holds() -> None:
    cache = Cache(48 << 10, 12)
    assert cache.rows(128, 128) == 384  # side by side: all of it
    assert cache.rows(128, 400) == 384  # no line is preferred
    assert cache.rows(128, 2048) == 24  # two places of 64 sets, two lines each
    assert cache.rows(128, 4096) == cache.rows(128, -8192) == 12  # all in the same two sets
    assert Target.of("x86_64-unknown-linux-gnu", "an unknown one").caches == Target.of("riscv64").caches


def test_an_operand_is_packed_where_it_would_not_stay_in_a_cache() -> None:
    target = Target.of("x86_64-unknown-linux-gnu", "znver5")

    def packed(m: int, n: int, k: int, transposed: bool = False) -> tuple[Pack | None, Pack | None]:
        a_strides = (1, m) if transposed else (k, 1)
        plan = make_plan(Gemm(m, n, k, "float64", a_strides, (n, 1), (n, 1)), target)
        return plan.pack_a, plan.pack_b

    assert packed(64, 64, 64) == (None, None)  # all three in the second cache, a panel of B in the first
    assert packed(128, 128, 128) == (None, Pack.COPY)  # a panel is not: packed if its vectors lie across lines
    assert packed(128, 100, 128) == (None, None)  # and rows of B in all sets of the first
    assert packed(768, 512, 128) == (None, Pack.COPY)  # rows of B a page apart
    assert packed(768, 500, 128) == (None, None)  # rows of B in all sets
    assert packed(1024, 1024, 1024, transposed=True) == (Pack.COPY, Pack.COPY)  # each step of k on another page of A
    assert packed(4096, 4096, 4096) == (Pack.COPY, Pack.COPY)  # rows of A push each other out of the second cache


def test_scratch_is_asked_for_only_where_needed() -> None:
    assert gemm_scratch_bytes(row_major(64, 64, 64), HOST) == 0
    assert gemm_scratch_bytes(row_major(0, 64, 64), HOST) == 0
    flipped = Gemm(64, 64, 64, "float32", (64, 1), (1, 64), (64, 1))
    assert gemm_scratch_bytes(flipped, HOST) == 64 * 64 * 4


def _places(g: Gemm) -> list[tuple[int, int, int]]:
    """For every product of two elements, where these lie and where it is added."""
    found = []
    for at in np.ndindex(*g.batch):
        a, b, c = (int(np.dot(at, steps)) for steps in (g.a_batch, g.b_batch, g.c_batch))
        for i, j, p in np.ndindex(g.m, g.n, g.k):
            places = (a, g.a_strides, i, p), (b, g.b_strides, p, j), (c, g.c_strides, i, j)
            found.append(tuple(start + x * down + y * along for start, (down, along), x, y in places))
    return sorted(found)


@pytest.mark.parametrize(("m", "shared"), [(1, 2), (1, 3), (3, 0), (3, 1), (3, 2), (3, 3)])
def test_folded_batches_are_the_same_products(m: int, shared: int) -> None:
    batch = (2, 3, 4)
    extents = [m * int(np.prod(batch[axis + 1 :])) for axis in range(3)]
    b = tuple(0 if axis >= 3 - shared else 10 * (axis + 1) for axis in range(3))
    g = Gemm(m, 2, 2, "float32", (2, 1), (2, 1), (2, 1), batch, tuple(2 * n for n in extents), b,
             tuple(2 * n for n in extents))  # fmt: skip
    assert _places(g.folded) == _places(g)
    assert len(g.folded.batch) == 3 - shared
    apart = replace(g, c_batch=tuple(3 * n for n in g.c_batch))
    assert _places(apart.folded) == _places(apart)
