"""Narrow floats: stored in two bytes, computed in float32, rounded once per node.

Every bit pattern goes through every conversion and every unary op; the oracle, the compiled code of this CPU and that
of one without instructions for float16 give the same bits.
"""

from __future__ import annotations

import warnings

import ml_dtypes
import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp
from gradc.aval import NARROW, is_float, promoted
from gradc.codegen import emit
from gradc.codegen.target import Target
from gradc.node import OPS
from gradc.ops.record import HOLDERS, Kind
from gradc.runtime.load import assemble
from gradc.schedule import schedule
from tests.compiled_graph import compiled, same_bits
from tests.lowering_harness import compile_lowering
from tests.op_cases import BITWISE, LOGICAL, cases, leaf, operand_count

BF16, F16 = np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)
DTYPES = [BF16, F16]
PATTERNS = np.arange(65536, dtype=np.uint16)
NAMES = [n for n in sorted(OPS) if n not in ("input", "constant") and OPS[n].kind not in (*HOLDERS, Kind.ITEM)]


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request):
    return request.param


def every(dtype):
    """Every number of a narrow dtype."""
    return PATTERNS.view(dtype)


def float32_around(dtype):
    """float32 numbers at, between and next to the narrow ones, ties among them, and arbitrary bits."""
    bits = every(dtype).astype(np.float32).view(np.uint32)
    half = 0x8000 if dtype == BF16 else 0x1000
    near = [bits + np.uint32(k) for k in (0, 1, half - 1, half, half + 1)]
    chance = np.random.default_rng(0).integers(0, 2**32, 20000, np.uint32)
    return np.concatenate([*near, bits ^ np.uint32(0x80000000 + half), chance]).view(np.float32)


# -- conversions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lanes", [1, 16])
def test_every_pattern_becomes_the_same_float32_and_comes_back(dtype, lanes):
    """By integer arithmetic: what a target without instructions for it does."""
    wide = compile_lowering(lambda b, x: b.convert(x, "float32"), [str(dtype)], lanes)
    back = compile_lowering(lambda b, x: b.convert(x, str(dtype)), ["float32"], lanes)
    numbers = every(dtype)
    assert same_bits(wide(numbers), numbers.astype(np.float32))
    assert same_bits(back(wide(numbers)), numbers)
    signs = np.signbit(back(wide(numbers)))
    assert np.array_equal(signs, np.signbit(numbers))  # of NaN too


@pytest.mark.parametrize("lanes", [1, 16])
def test_float32_is_rounded_as_numpy_rounds(dtype, lanes):
    numbers = float32_around(dtype)
    with np.errstate(all="ignore"):
        expected = numbers.astype(dtype)
    assert same_bits(compile_lowering(lambda b, x: b.convert(x, str(dtype)), ["float32"], lanes)(numbers), expected)
    assert same_bits(gc.jit(lambda x: x.astype(dtype))(numbers), expected)


@pytest.mark.parametrize("source", ["float64", "int64", "int32", "int16", "int8", "uint8", "uint64", "bool", "other"])
def test_every_other_dtype_is_rounded_as_numpy_rounds(dtype, source):
    """float64 becomes float16 in one rounding and bfloat16 by way of float32, as their packages have it."""
    random = np.random.default_rng(1)
    if source == "other":
        numbers = every(F16 if dtype == BF16 else BF16)
    elif source == "float64":
        middle = float32_around(dtype).astype(np.float64)
        numbers = np.concatenate([middle, np.nextafter(middle, np.inf), middle * (1 + 2.0**-40), [5e-324, -1e300]])
    elif source == "bool":
        numbers = np.array([True, False])
    else:
        numbers = random.integers(np.iinfo(source).min, np.iinfo(source).max, 4000, source, endpoint=True)
        numbers = np.concatenate([numbers, numbers >> random.integers(0, np.iinfo(source).bits, 4000).astype(source)])
    with np.errstate(all="ignore"):
        expected = numbers.astype(np.float32).astype(dtype) if source == "other" else numbers.astype(dtype)
    assert same_bits(gc.jit(lambda x: x.astype(dtype))(numbers), expected)


def test_every_pattern_becomes_every_other_dtype(dtype):
    numbers = every(dtype)
    finite = numbers[np.abs(numbers.astype(np.float32)) < 100]
    f = gc.jit(lambda x: [x.astype(t) for t in (np.float32, np.float64, np.int64, np.int8, bool)])
    for got in f(finite):
        assert same_bits(got, finite.astype(np.float32).astype(got.dtype))


# -- ops ---------------------------------------------------------------------------------------------------------------


def _operands(op, dtype):
    """Every pattern for one operand; pairs of random patterns and of special numbers for two."""
    numbers = every(dtype)
    if operand_count(op) == 1:
        return (numbers,)
    random = np.random.default_rng(2)
    edges = numbers[[0, 1, 0x3F80, 0x3C00, 0x7F80, 0x7C00, 0x7FFF, 0x8000, 0x8001, 0xBF80, 0xFF80, 0xFC00, 0xFFFF]]
    pairs = [x.ravel() for x in np.meshgrid(edges, edges)]
    return tuple(np.concatenate([p, numbers[random.integers(0, 65536, 3000)]]) for p in pairs)


@pytest.mark.parametrize("name", [n for n in NAMES if OPS[n].kind is Kind.ELEMENTWISE and n not in BITWISE | LOGICAL])
def test_a_node_is_its_float32_value_rounded_once(name):
    """Of the compiled op, in both dtypes; where its float32 is NumPy's bit for bit, so is the narrow result."""
    op = OPS[name]
    if name in ("cast", "where"):
        pytest.skip("moves numbers; its own tests are above and below")
    attrs = cases(op)[0].attrs
    given, nodes, wide = [], [], []
    for dtype in DTYPES:
        operands = _operands(op, dtype)
        given += [operands, tuple(x.astype(np.float32) for x in operands)]
        nodes += [op.make([leaf(gc.spec(x.shape, x.dtype)) for x in arrays], **attrs) for arrays in given[-2:]]
    run = compiled(*nodes, inputs=[a for n in nodes for a in n.args])
    found = run(*[x for arrays in given for x in arrays])
    for k, dtype in ((0, DTYPES[0]), (2, DTYPES[1])):
        narrow, wide = found[k], found[k + 1]
        with np.errstate(all="ignore"):
            assert same_bits(narrow, wide.astype(dtype) if is_float(narrow.dtype) else wide)
            oracle = op.evaluate(*given[k], **attrs)
            exact = same_bits(wide, np.asarray(op.evaluate(*given[k + 1], **attrs)))
        assert oracle.dtype == narrow.dtype
        if exact:
            assert same_bits(narrow, oracle)


@pytest.mark.parametrize("name", [n for n in NAMES if OPS[n].kind is not Kind.ELEMENTWISE])
def test_structured_ops_are_the_oracle(name):
    """Moves and extremes bit for bit; sums within the rounding of float32 before the one to the narrow dtype."""
    applied = [case for dtype in DTYPES for case in cases(OPS[name], dtype)]
    nodes = [case.node() for case in applied]
    run = compiled(*nodes, inputs=[a for n in nodes for a in n.args])
    for case, node, got in zip(applied, nodes, run(*[a for c in applied for a in c.arrays]), strict=True):
        expected = np.asarray(case.op.evaluate(*case.arrays, **case.attrs))
        assert (expected.dtype, expected.shape) == (node.dtype, node.shape)
        if node.dtype in NARROW and got.size and not same_bits(got, expected):
            assert case.op.kind in (Kind.REDUCE, Kind.PREFIX, Kind.CONTRACT, Kind.FOLD, Kind.SCATTER)
            step = np.spacing(np.abs(expected)).astype(np.float64)  # they round to neighbours, if not to the same
            assert np.all(np.abs(got.astype(np.float64) - expected.astype(np.float64)) <= step)
        else:
            assert same_bits(got, expected), (case, got, expected)


def test_a_fused_chain_rounds_after_each_node(dtype):
    x = np.random.default_rng(3).normal(size=1000).astype(dtype)

    def chain(x):
        return (x * 1.1 + 0.3) * x - 0.7

    got = gc.jit(chain)(x)
    assert same_bits(got, gc.trace(chain, x).evaluate(x)[0])
    steps = [lambda x: x * 1.1, lambda y: y + 0.3, lambda y: y * gnp.asarray(x), lambda y: y - 0.7]
    y = x
    for step in steps:
        y = gc.jit(step)(y)
    assert same_bits(got, y)


def test_fast_mode_keeps_float32_inside_a_kernel(dtype):
    x = np.random.default_rng(4).normal(size=1000).astype(dtype)

    def chain(x):
        return (x * 1.1 + 0.3) * x - 0.7

    c = [float(np.asarray(v, dtype)) for v in (1.1, 0.3, 0.7)]
    wide = x.astype(np.float64)
    exact = ((wide * c[0] + c[1]) * wide - c[2]).astype(dtype)
    fast, ieee = gc.jit(chain, fp="fast")(x), gc.jit(chain)(x)
    assert np.mean(fast != exact) < 0.01 < np.mean(ieee != exact)
    rounds = gc.jit(lambda x: (x.astype(np.float32) * 1.1).astype(dtype).astype(np.float32), fp="fast")
    assert np.array_equal(rounds(x), rounds(x).astype(dtype).astype(np.float32))  # a cast is always one


def test_moves_keep_every_bit(dtype):
    """Signalling NaN and their payloads too: what moves is bits."""
    numbers = every(dtype).reshape(256, 256)
    results = gc.jit(lambda x: (x.T, x[::-1, 3:], np.concatenate([x, x], 1), np.pad(x, 1), x[np.arange(5)]))(numbers)
    plain = PATTERNS.reshape(256, 256)
    expected = (plain.T, plain[::-1, 3:], np.concatenate([plain, plain], 1), np.pad(plain, 1), plain[np.arange(5)])
    for got, bits in zip(results, expected, strict=True):
        assert np.array_equal(got.view(np.uint16), bits)


def test_sums_take_float32_and_round_once(dtype):
    """One by one in the narrow dtype a sum of ones would stop at 256 or 2048."""
    ones = np.ones(5000, dtype)
    assert gc.jit(np.sum)(ones) == np.asarray(5000, dtype)
    assert gc.jit(np.cumsum)(ones)[-1] == np.asarray(5000, dtype)
    index = np.zeros(5000, np.int64)
    assert gc.jit(lambda v: gnp.zeros_like(v[:2]).at[index].add(v))(ones)[0] == np.asarray(5000, dtype)
    assert gc.jit(lambda v: v @ v)(ones) == np.asarray(5000, dtype)
    many = np.full(100000, 3.0, dtype)
    assert gc.jit(np.mean)(many) == 3.0  # whose sum overflows float16
    assert gc.trace(np.mean, many).evaluate(many)[0] == 3.0


@pytest.mark.parametrize("target", [np.int8, np.int16, np.uint8, bool, BF16, F16])
@pytest.mark.parametrize("count", [1, 9, 17, 33, 65])
def test_one_element_behind_whole_vectors_is_written_alone(target, count):
    """Between guards: narrowed on its way to memory it must not be written as wide as it was."""
    x = np.random.default_rng(count).integers(0, 100, count).astype(np.float32)
    node = OPS["cast"].make((leaf(gc.spec(count, np.float32)),), dtype=np.dtype(target))
    (got,) = compiled(node, inputs=node.args)(x)
    assert same_bits(got, x.astype(target))


# -- dtypes ------------------------------------------------------------------------------------------------------------

PROMOTIONS = [
    (BF16, np.float32, "float32"), (BF16, np.float64, "float64"), (BF16, np.float16, "float32"),
    (BF16, np.int8, "bfloat16"), (BF16, np.uint8, "bfloat16"), (BF16, bool, "bfloat16"), (BF16, BF16, "bfloat16"),
    (BF16, np.int16, "float32"), (BF16, np.int32, "float64"), (BF16, np.int64, "float64"),
    (F16, np.int8, "float16"), (F16, np.int16, "float32"), (F16, np.int32, "float64"), (F16, np.float32, "float32"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other", "joint"), PROMOTIONS)
def test_promotion_is_that_of_the_array_packages(one, other, joint):
    x, y = np.ones(3, one), np.ones(3, other)
    for a, b in ((x, y), (y, x)):
        assert gc.trace(lambda a, b: a + b, a, b).outputs[0].dtype == joint
        assert gnp.result_type(a, b) == promoted(a.dtype, b.dtype) == gnp.promote_types(a.dtype, b.dtype) == joint
        assert np.add(a, b).dtype == joint
        assert gnp.concatenate([a, b]).dtype == joint


@pytest.mark.parametrize("number", [1, 1.5, True, 1e30])
def test_python_numbers_leave_a_narrow_dtype_as_it_is(dtype, number):
    for f in (lambda x: x * number, lambda x: number - x, lambda x: np.maximum(x, number), lambda x: x**number):
        (y,) = gc.trace(f, gc.spec((3,), dtype)).outputs
        assert y.dtype == dtype
    assert gc.jit(lambda x, a: x * a)(np.ones(3, dtype), 1.5).dtype == dtype


def test_numpys_functions_keep_a_narrow_dtype(dtype):
    def f(x):
        return [
            np.mean(x), np.var(x), np.std(x), np.clip(x, 0, 1), np.where(x > 0, x, 0.0), np.cumsum(x), np.sort(x),
            np.nan_to_num(x), np.round(x, 1), np.deg2rad(x), np.linalg.norm(x), np.outer(x, x), x @ x, np.median(x),
            np.stack([x, x]), np.zeros_like(x), np.diff(x), np.maximum(x, 0), gnp.linspace(x[0], x[1], 3),
            gc.nn.softmax(x), gc.nn.gelu(x), gc.nn.layer_norm(x, (5,)),
        ]  # fmt: skip

    graph = gc.trace(f, gc.spec((5,), dtype))
    assert {str(y.dtype) for y in graph.outputs} == {str(dtype)}


def test_what_a_dtype_is(dtype):
    assert gnp.isdtype(dtype, "real floating") and not gnp.isdtype(dtype, "integral")
    assert gnp.isdtype(dtype, (dtype, "bool")) and not gnp.isdtype(dtype, np.float32)
    assert gnp.can_cast(dtype, np.float32) and not gnp.can_cast(np.float32, dtype)
    assert not gnp.can_cast(BF16, F16) and gnp.can_cast(BF16, F16, "same_kind")
    info = gnp.finfo(dtype)
    assert float(info.eps) == (2.0**-7 if dtype == BF16 else 2.0**-10)
    assert float(info.max) == float(every(dtype)[0x7F7F if dtype == BF16 else 0x7BFF])


def test_a_spec_says_the_dtype(dtype):
    assert str(gc.spec((4,), str(dtype))) == f"{dtype}[4]"
    assert gc.spec((4,), str(dtype)).dtype == dtype
    with pytest.raises(gc.DTypeError, match="float8"):
        gc.spec((4,), ml_dtypes.float8_e4m3fn)


def test_a_double_constant_is_told(dtype):
    with pytest.warns(gc.PromotionWarning, match=f"stay in {dtype}"):
        gc.trace(lambda x: x / np.sqrt(64), gc.spec((3,), dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.trace(lambda x: x / 8.0, gc.spec((3,), dtype))


# -- other targets -----------------------------------------------------------------------------------------------------

TARGETS = [
    ("x86_64-unknown-linux-gnu", "x86-64", ""),
    ("x86_64-unknown-linux-gnu", "x86-64-v3", ""),
    ("x86_64-unknown-linux-gnu", "", "+avx2,+fma"),
    ("x86_64-unknown-linux-gnu", "", "+avx512f"),
    ("x86_64-unknown-linux-gnu", "sapphirerapids", ""),
    ("aarch64-unknown-linux-gnu", "generic", ""),
    ("riscv64-unknown-linux-gnu", "generic-rv64", "+m,+d"),
    ("wasm32-unknown-unknown", "generic", ""),
]


@pytest.mark.parametrize(("triple", "cpu", "features"), TARGETS)
def test_no_target_calls_a_library(dtype, triple, cpu, features):
    """A conversion that LLVM has no instruction for is a call that nobody answers."""
    target = Target.of(triple, cpu, features)
    graph = gc.trace(lambda x: (np.exp(x) * 2, x.astype(np.float64).astype(dtype), x > 0), gc.spec((19,), dtype))
    text = str(emit(schedule(graph, target=target), target, "main"))
    asm = assemble(text, triple, cpu, features, "asm")
    for call in ("__trunc", "__extend", "__gnu_", "fmaf", "expf"):
        assert call not in asm
    assert "vcvtneps2bf16" not in asm  # which flushes subnormals
