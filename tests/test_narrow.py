"""Narrow floats: stored in two bytes, computed in float32, rounded once per node.

Every bit pattern goes through every conversion and every unary op; the oracle, the compiled code of this CPU and that
of one without instructions for float16 give the same bits.
"""

from __future__ import annotations

import pickle
import warnings

import ml_dtypes
import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp
from gradc import special
from gradc.aval import NARROW, is_float, promoted
from gradc.cli import main
from gradc.codegen import emit
from gradc.codegen.target import Target
from gradc.node import OPS
from gradc.ops.record import HOLDERS, Kind
from gradc.oracle.rounding import running_errors
from gradc.runtime.load import assemble
from gradc.schedule import schedule
from tests.compiled_graph import compiled, same_bits
from tests.lowering_harness import compile_lowering
from tests.op_cases import BITWISE, LOGICAL, OF_ANY_SIGN, OPERANDS, cases, leaf, operand_count, operands

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


@pytest.mark.parametrize(
    "source", ["float64", "int64", "int32", "int16", "int8", "uint8", "uint32", "uint64", "bool", "other"]
)
def test_every_other_dtype_is_rounded_as_numpy_rounds(dtype, source):
    """float64 and integers become either in one rounding, as their packages have it."""
    random = np.random.default_rng(1)
    if source == "other":
        numbers = every(F16 if dtype == BF16 else BF16)
    elif source == "float64":
        with np.errstate(invalid="ignore"):
            middle = float32_around(dtype).astype(np.float64)
        numbers = np.concatenate([middle, np.nextafter(middle, np.inf), middle * (1 + 2.0**-40), [5e-324, -1e300]])
    elif source == "bool":
        numbers = np.array([True, False])
    else:
        numbers = random.integers(np.iinfo(source).min, np.iinfo(source).max, 4000, source, endpoint=True)
        numbers = np.concatenate([numbers, numbers >> random.integers(0, np.iinfo(source).bits, 4000).astype(source)])
        halves = (np.array([0x101, 0x103, 0x1FF], np.uint64) << np.arange(55, dtype=np.uint64)[:, None]).ravel()
        near = np.concatenate([halves - np.uint64(1), halves, halves + np.uint64(1)])
        numbers = np.concatenate([numbers, near.astype(source), -near.astype(source)])
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
    """Every pattern for one operand; random patterns and combinations of special numbers for several."""
    numbers, count = every(dtype), operand_count(op)
    if count == 1:
        return (numbers,)
    random = np.random.default_rng(2)
    edges = numbers[[0, 1, 0x3F80, 0x3C00, 0x7F80, 0x7C00, 0x7FFF, 0x8000, 0x8001, 0xBF80, 0xFF80, 0xFC00, 0xFFFF]]
    combined = [x.ravel() for x in np.meshgrid(*[edges] * count)]
    return tuple(np.concatenate([c, numbers[random.integers(0, 65536, 3000)]]) for c in combined)


#: an op that is written in other ops is rounded as those are; one of whole numbers or of bits is not
OWN = [
    n for n in NAMES if OPS[n].kind is Kind.ELEMENTWISE and OPS[n].expand is None and n not in BITWISE | LOGICAL
    and all(kind in ("bool", "float") for kind in OPERANDS.get(n, ()))
]  # fmt: skip


@pytest.mark.parametrize("name", OWN)
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


STRUCTURED = [n for n in NAMES if OPS[n].kind is not Kind.ELEMENTWISE and n not in OF_ANY_SIGN]


@pytest.mark.parametrize("name", STRUCTURED)
def test_structured_ops_are_the_oracle(name):
    """Moves and extremes bit for bit; sums within the rounding of float32 before the one to the narrow dtype."""
    applied = [case for dtype in DTYPES for case in cases(OPS[name], dtype)]
    nodes = [case.node() for case in applied]
    run = compiled(*nodes, inputs=[a for n in nodes for a in operands(n)])
    for case, node, got in zip(applied, nodes, run(*[a for c in applied for a in c.arrays]), strict=True):
        expected = case.value()
        assert (expected.dtype, expected.shape) == (node.dtype, node.shape)
        if node.dtype in NARROW and got.size and not same_bits(got, expected):
            assert case.op.kind in (Kind.REDUCE, Kind.PREFIX, Kind.CONTRACT, Kind.FOLD, Kind.SCATTER, Kind.WHOLE)
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


@pytest.mark.parametrize("exponent", [-2, -1, -0.5, 0.5, 1, 2, 3, 4])
def test_powers_written_as_products_are_rounded_once(dtype, exponent):
    x = np.abs(np.random.default_rng(9).normal(size=4000)).astype(dtype)
    with np.errstate(all="ignore"):
        exact = (x.astype(np.float64) ** exponent).astype(np.float32).astype(dtype)
    assert np.mean(gc.jit(lambda x: x**exponent)(x) != exact) < 1e-3


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
    asm = assemble(text, triple, cpu, features)
    for call in ("__trunc", "__extend", "__gnu_", "fmaf", "expf"):
        assert call not in asm
    assert "vcvtneps2bf16" not in asm  # which flushes subnormals


# -- training ----------------------------------------------------------------------------------------------------------


def _classifier(dtype):
    """An MLP with float32 weights and activations of ``dtype``: its loss, weights and a batch."""
    random = np.random.default_rng(5)
    sizes = [(20, 33), (33, 17), (17, 10)]
    weights = [(random.normal(size=s) / np.sqrt(s[0])).astype(np.float32) for s in sizes]
    x, y = random.normal(size=(50, 20)).astype(dtype), random.integers(0, 10, 50)

    def loss(weights, x, y):
        *hidden, last = [w.astype(dtype) for w in weights]
        for w in hidden:
            x = gc.nn.gelu(gc.nn.layer_norm(x @ w, (w.shape[1],)))
        return gc.nn.cross_entropy((x @ last).astype(np.float32), y)

    return loss, weights, x, y


@pytest.mark.sampled(2)
def test_gradients_of_a_network_are_within_the_rounding_of_its_nodes(dtype):
    """Compiled, against float64, each element within the bound of a running error analysis of the graph."""
    loss, weights, x, y = _classifier(dtype)
    gradient = gc.value_and_grad(loss)
    graph = gc.trace(gradient, weights, x, y)
    arrays = [*weights, x, y]
    values, bounds = running_errors(graph.outputs, dict(zip(graph.inputs, arrays, strict=True)))
    value, found = gc.jit(gradient)(weights, x, y)
    for node, got in zip(graph.outputs, [value, *found], strict=True):
        gap = np.abs(np.asarray(got, np.float64) - values[node])
        assert np.all(gap <= bounds[node])
        assert np.linalg.norm(gap) < (0.02 if dtype == BF16 else 0.002) * np.linalg.norm(values[node])
        assert got.dtype == np.float32  # the derivative of a cast is a cast
    assert gc.check_gradients(loss, weights, x, y).ok


@pytest.mark.sampled(2, each=("dtype",))
@pytest.mark.parametrize("master", [True, False])
def test_a_training_step_is_that_of_float64(dtype, master):
    """Adam's first step from the same gradients: within an ulp of the weights, whose moments are float32 at least."""
    loss, weights, x, y = _classifier(dtype)
    weights = weights if master else [w.astype(dtype) for w in weights]
    optimizer = gc.optim.adamw(1e-2)
    state = optimizer.init(weights)
    kept = [w.astype(np.float64) for w in weights]
    gradient = [g.astype(np.float64) for g in gc.jit(gc.grad(loss))(weights, x, y)]
    step = gc.train_step(loss, optimizer, donate=False)
    after, state, _ = step(weights, state, x, y)
    wide = gc.optim.adamw(1e-2)
    updates, _ = wide.update(gradient, wide.init(kept), kept)
    for w, g, old, u in zip(after, gradient, kept, updates, strict=True):
        assert w.dtype == (np.float32 if master else dtype)
        sure = np.abs(g) > 1e-6  # Adam divides by |g|
        spacing = np.spacing(np.abs(w)).astype(np.float64) + 1e-2 * 1e-4
        assert np.all(np.abs(w.astype(np.float64) - (old + u))[sure] <= spacing[sure])
    assert {str(m.dtype) for m in gc.tree.leaves_of(state)[0]} == {"int64", "float32"}  # steps, moments


def test_loss_scaling_is_exact_where_nothing_underflows():
    loss, weights, x, y = _classifier(F16)
    plain = gc.jit(gc.grad(loss))(weights, x, y)
    scaled = gc.jit(gc.grad(lambda w, x, y: loss(w, x, y) * 1024.0))(weights, x, y)
    for g, s in zip(plain, scaled, strict=True):
        sure = np.abs(g) > 1e-2
        np.testing.assert_allclose(s[sure] / 1024.0, g[sure], rtol=2e-3)


# -- careless use ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made_for", "given", "words"),
    [
        (np.float32, BF16, "x has dtype bfloat16, compiled for float32; use x.astype"),
        (BF16, np.float32, "x has dtype float32, compiled for bfloat16; use x.astype"),
        (BF16, F16, "x has dtype float16, compiled for bfloat16"),
        (BF16, np.uint16, "x has dtype uint16, compiled for bfloat16"),
        (BF16, np.dtype("V2"), r"x is .*dtype \|V2"),
    ],
)
def test_an_array_of_another_dtype_is_refused_by_name(made_for, given, words):
    step = gc.compile(lambda x: x * 2.0, gc.spec((4,), made_for))
    with pytest.raises(gc.DTypeError, match=words):
        step(np.zeros(4, given))
    with pytest.raises(gc.GradcError, match=rf"out\[0\] is .*not {np.dtype(made_for)}"):
        step(np.zeros(4, made_for), out=np.zeros(4, given))


def test_numbers_fit_into_narrow_slots(dtype):
    step = gc.compile(lambda x, a: x * a, gc.spec((3,), dtype), gc.spec((), dtype))
    x = np.arange(3).astype(dtype)
    for number in (2, 2.0, dtype.type(2), np.array(2, dtype)):
        assert step(x, number).tolist() == (x * dtype.type(number)).tolist()
    total = gc.compile(np.sum, gc.spec((3,), dtype))(x)
    assert type(total) is dtype.type and float(total) == 3.0
    with pytest.raises(gc.DTypeError):
        step(x, np.float32(2))


def test_strided_swapped_and_empty_arrays(dtype):
    f = gc.jit(lambda x: x + 1.0)
    x = np.arange(24).astype(dtype).reshape(4, 6)
    assert same_bits(f(x[::2, ::-1]), (x[::2, ::-1].astype(np.float32) + 1).astype(dtype))
    assert f(x[:0]).shape == (0, 6)
    if dtype == F16:
        assert same_bits(f(x.astype(">f2")), f(x))


def test_loops_branches_and_donation(dtype):
    def run(x, n):
        y, ys = gc.scan(lambda c, v: (c * 0.5 + v, c), x[0], x)
        y = gc.fori_loop(0, n, lambda i, c: c * 1.01, y)
        return gc.cond(y[0] > 0, lambda a: a * 2.0, lambda a: -a, y), ys

    x = np.random.default_rng(6).normal(size=(7, 5)).astype(dtype)
    expected = gc.trace(run, x, 3).evaluate(x, 3)
    for got, want in zip(gc.jit(run)(x, 3), expected, strict=True):
        assert same_bits(got, want)
    update = gc.jit(lambda w, g: w - g * 0.1, donate=(0,))
    w = x.copy()
    assert update(w, x) is w and w.dtype == dtype


def test_a_compiled_function_is_recalled_and_pickled(dtype, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADC_CACHE_DIR", str(tmp_path))
    table = np.random.default_rng(7).normal(size=9).astype(dtype)
    other = table.view(np.uint16).view(F16 if dtype == BF16 else BF16)

    def made(captured):
        return gc.compile(lambda x: x * captured, gc.spec((9,), captured.dtype))

    x = np.arange(9).astype(dtype)
    first, again = made(table), made(table)
    assert same_bits(first(x), again(x))
    assert made(other)(x.astype(other.dtype)).dtype == other.dtype  # same bits, another meaning
    assert same_bits(pickle.loads(pickle.dumps(first))(x), first(x))


def test_explain_and_the_command_line_say_the_dtype(tmp_path, capsys):
    path = tmp_path / "model.py"
    path.write_text("import numpy as np\n\n\ndef f(x):\n    return np.tanh(x).sum()\n")
    assert main(["show", f"{path}:f", "--stage", "graph", "--arg", "x=bfloat16[5,8]"]) == 0
    assert "bfloat16[5,8] = tanh(x)" in capsys.readouterr().out
    text = str(gc.explain(lambda x, w: np.sum(np.tanh(x @ w)), gc.spec((4, 3), BF16), gc.spec((3,), BF16)))
    assert "∂" in text and "float" not in text
    header = gc.compile(lambda x: x * 2.0, gc.spec((3,), BF16)).save(tmp_path / "step.h")
    assert "bfloat16" in (tmp_path / "step.h").read_text(), header


def test_random_widths_of_products(dtype):
    """Odd shapes, both ways round, one operand wide or both narrow: within float32's bound, then rounded."""
    random = np.random.default_rng(8)
    for m, n, k in [(1, 1, 1), (17, 33, 19), (3, 40, 65), (1, 9, 70), (70, 1, 33), (33, 65, 130)]:
        for left, right in ((dtype, dtype), (dtype, np.float32), (np.float32, dtype)):
            a, b = random.normal(size=(m, k)).astype(left), random.normal(size=(n, k)).astype(right)
            exact, size = a.astype(float) @ b.T.astype(float), np.abs(a.astype(float)) @ np.abs(b.T.astype(float))
            for got in (gc.jit(lambda a, b: a @ b.T)(a, b), gc.jit(lambda a, b: b @ a.T)(a, b).T):
                half = float(gnp.finfo(got.dtype).eps) / 2
                bound = k * 2.0**-24 * size * (1 + half) + half * np.abs(exact)
                assert np.all(np.abs(got.astype(float) - exact) <= bound)


def test_the_sign_of_a_half_that_was_a_float64_is_copied_without_another_rounding():
    """LLVM reads through both roundings to the sign, and then rounds a float64 to float16 by a function it has not."""

    def body(i, c):
        return gc.cond(c > 0, lambda p: gnp.sin(p), lambda p: gnp.tanh(special.sici(0.3 + abs(c))[1]), c)

    f, x = (lambda x: gc.fori_loop(0, 3, body, x)), np.float16(-1.0)
    np.testing.assert_allclose(gc.jit(f)(x), gc.trace(f, x).evaluate(x), rtol=2e-3)
