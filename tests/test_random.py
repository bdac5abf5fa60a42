"""Keys, bits, uniform and normal numbers, random integers: those of JAX, the same however they are computed.

The vectors come from `tests/jax_vectors.py`.  What must be equal is equal bit by bit: interpreted, compiled, for any
number of threads, under `vmap`, and where a loop makes the numbers that it uses.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import gradc as gc
from gradc.node import OPS, constant
from gradc.ops.randomness import FRACTIONS, LARGEST_NORMAL
from gradc.ops.ranges import range_of
from tests import jax_vectors
from tests.elementary_harness import ulp_errors
from tests.op_cases import leaf

R = gc.random
VECTORS: dict[str, Any] = json.loads(jax_vectors.FILE.read_text())
#: units in the last place between our normal numbers and JAX's: in float32 the arithmetic is the same but for the last
#: bits, in float64 JAX's own logarithm is off by up to 240 units, which moves a number by up to 40
#: the same of numbers that are made by a logarithm: up to four roundings, and in float64 those 240 units
LOGARITHM_ULP = {"float32": 8, "float64": 250}
NORMAL_ULP = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 40}


def _evaluated(text: str, seed: int) -> Any:
    return np.asarray(eval(text, {"r": R, "k": R.key(seed), "np": np}))


def _compiled(text: str, seed: int) -> Any:
    names: dict[str, Any] = {"r": R, "np": np}
    return np.asarray(gc.jit(lambda k: eval(text, names | {"k": k}))(R.key(seed)))


@pytest.mark.parametrize("seed", jax_vectors.SEEDS)
@pytest.mark.parametrize("text", jax_vectors.EXACT)
def test_the_bits_are_those_of_jax(text, seed):
    assert jax_vectors.described(_evaluated(text, seed)) == VECTORS[f"{seed}: {text}"]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("text", jax_vectors.EXACT)
def test_the_bits_are_those_of_jax_compiled(text):
    assert jax_vectors.described(_compiled(text, 7)) == VECTORS[f"7: {text}"]


def _known(text: str, seed: int) -> Any:
    kept = VECTORS[f"{seed}: {text}"]
    dtype = np.dtype(getattr(ml_dtypes, kept["dtype"], kept["dtype"]))
    return np.array(kept["bits"], f"uint{8 * dtype.itemsize}").view(dtype).reshape(kept["shape"])


def _worst(found: Any, want: Any, least: float) -> float:
    """The largest difference, in units in the last place of what is wanted or of ``least``, if that is larger."""
    assert (found.dtype, found.shape) == (want.dtype, want.shape)
    wide = want.astype(np.float64)
    unit = np.maximum(np.abs(wide), least) * float(ml_dtypes.finfo(want.dtype).eps)
    return float(np.max(np.abs(found.astype(np.float64) - wide) / unit))


@pytest.mark.parametrize("text", jax_vectors.NORMAL)
def test_normal_numbers_are_those_of_jax(text):
    for seed in jax_vectors.SEEDS:
        want = _known(text, seed)
        for found in (_evaluated(text, seed), _compiled(text, seed)):
            assert _worst(found, want, 0.0) <= NORMAL_ULP[want.dtype.name]


@pytest.mark.parametrize("text", jax_vectors.CLOSE)
def test_numbers_of_other_distributions_are_those_of_jax(text):
    for seed in jax_vectors.SEEDS:
        want = _known(text, seed)
        for found in (_evaluated(text, seed), _compiled(text, seed)):
            assert _worst(found, want, 1.0) <= LOGARITHM_ULP[want.dtype.name]


# -- the generator -----------------------------------------------------------------------------------------------------

#: key, counter and result of the authors' own test (Random123, kat_vectors), high words first
KNOWN = (
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
)


def test_threefry_is_that_of_its_authors():
    for key, counter, (high, low) in KNOWN:
        words = [np.array([w], np.uint32) for w in (*key, *counter)]
        found = {part: int(OPS["threefry"].evaluate(*words, part=part)[0]) for part in ("high", "low", "xor", "both")}
        assert found == {"high": high, "low": low, "xor": high ^ low, "both": high << 32 | low}


def test_counters_go_on_beyond_a_word():
    """Bits of an array of 2³⁴ elements, of which the last few are computed."""
    rows = 2**33
    drawn = gc.jit(lambda k: R.bits(k, (rows, 2))[-3:])(R.key(5))
    counters = np.arange(2**34 - 6, 2**34, dtype=np.uint64).reshape(3, 2)
    words = [np.full((3, 2), w, np.uint32) for w in (0, 5)]
    counts = [(counters >> np.uint64(32)).astype(np.uint32), counters.astype(np.uint32)]
    assert np.array_equal(drawn, OPS["threefry"].evaluate(*words, *counts, part="both"))


def test_nothing_warns_where_integers_wrap():
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        for shape in ((), (1,), (5,), (3, 4)):
            R.bits(R.key(2**63 - 1), shape)
            R.normal(R.split(R.key(-1))[1], shape)
            R.randint(R.fold_in(R.key(1), 2**32 - 1), shape, -(2**63), 2**63 - 1)


def test_numbers_are_the_same_wherever_they_are_made():
    """Interpreted, compiled, with several threads, of several shapes, in batches, and inside other loops."""
    k, n = R.key(11), 200_000
    want = R.uniform(k, (n,), np.float32)
    for threads in (1, 2, 3):
        assert np.array_equal(gc.jit(lambda k: R.uniform(k, (n,), np.float32), threads=threads)(k), want)
    assert np.array_equal(gc.jit(lambda k: R.uniform(k, (400, 500), np.float32))(k).ravel(), want)
    assert np.array_equal(gc.jit(lambda k: R.uniform(k, (400, 500), np.float32).T)(k).T.ravel(), want)
    assert np.array_equal(gc.jit(lambda k: R.uniform(k, (n,), np.float32)[7::3])(k), want[7::3])
    several = R.split(k, 5)
    batch = gc.vmap(lambda k: R.normal(k, (33,)))(several)
    assert np.array_equal(batch, [R.normal(one, (33,)) for one in several])
    compiled = gc.jit(gc.vmap(lambda k: R.bits(k, (33,))))(several)
    assert np.array_equal(compiled, [R.bits(one, (33,)) for one in several])
    steps = gc.jit(lambda k: gc.scan(lambda c, i: (c, R.bits(R.fold_in(c, i), (4,))), k, np.arange(3))[1])(k)
    assert np.array_equal(steps, [R.bits(R.fold_in(k, i), (4,)) for i in range(3)])


def test_normal_numbers_are_the_same_for_any_number_of_threads():
    k = R.key(3)
    found = [gc.jit(lambda k: R.normal(k, (150_001,)), threads=t)(k) for t in (1, 2, 3)]
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
    assert ulp_errors(found[0], R.normal(k, (150_001,)), "float64").max() <= 12  # both within 6 units of the exact one


def test_numbers_are_made_in_the_loop_that_uses_them():
    """No array but the result."""
    for draw in (R.uniform, R.normal, lambda k, shape: R.randint(k, shape, 0, 6)):

        def noisy(k: Any, x: Any, draw: Any = draw) -> Any:
            return x + draw(k, x.shape)

        step = gc.compile(noisy, gc.spec((2,), np.uint32), gc.spec((500, 100)))
        assert len(step.schedule.kernels) == 1 and step.stats["arena_bytes"] == 0


def test_a_seed_that_is_known_in_a_trace_gives_numbers_that_are_made_there():
    graph = gc.trace(lambda x: x * R.uniform(R.key(3), x.shape), gc.spec((1000,)))
    assert not any(node.op.name == "constant" and node.size > 1 for node in graph.nodes)
    assert np.array_equal(graph.evaluate(np.ones(1000))[0], R.uniform(R.key(3), (1000,)))


@pytest.mark.parametrize("seed", [0, 1, -1, 2**31, 2**32, -(2**63), np.int64(-5), np.uint64(2**64 - 1), np.int32(-7),
                                  np.uint32(2**32 - 1), np.int8(-3), True, False, np.bool_(True),
                                  np.array(9, np.int16)])  # fmt: skip
def test_a_key_is_the_two_words_of_its_seed(seed):
    """One that is traced too, whether it comes as it is or as an array."""
    wide = np.asarray(seed).dtype.itemsize == 8
    words = [int(seed) >> 32 & 0xFFFFFFFF if wide else 0, int(seed) & 0xFFFFFFFF]
    assert R.key(seed).tolist() == words and R.key(seed).dtype == np.uint32
    for given in (seed, np.asarray(seed)):
        assert gc.jit(R.key)(given).tolist() == words
        assert gc.jit(lambda s: R.bits(R.key(s)))(given) == R.bits(R.key(seed))


def test_outside_a_trace_arrays_come_back_and_inside_nodes():
    assert type(R.key(0)) is np.ndarray and type(R.normal(R.key(0), (3,))) is np.ndarray
    assert type(R.uniform(R.key(0))) is np.float64 and type(R.uniform(R.key(0), dtype="f4")) is np.float32
    kinds = []
    gc.trace(lambda x: kinds.append((R.key(0), R.normal(R.key(0), (3,)))) or x, 1.0)
    assert isinstance(kinds[0][0], np.ndarray) and isinstance(kinds[0][1], gc.Node)


@pytest.mark.filterwarnings("ignore::gradc.errors.KeyReuseWarning")
def test_a_check_in_float64_draws_the_same_numbers(monkeypatch):
    """What a witness computes in float64 is about the very numbers that were drawn in float32."""
    monkeypatch.setenv("GRADC_CHECK", "1")
    key, x = R.key(1), np.linspace(0.5, 1.5, 6, dtype=np.float32)
    report = gc.check_gradients(lambda x: np.sum(gc.nn.dropout(x, 0.5, key) * x * R.normal(key, (6,), "f4")), x)
    assert report.ok, str(report)


@pytest.mark.parametrize("bits", [32, 64])
def test_fractions_and_normal_numbers_reach_just_what_is_said_of_them(bits):
    ends = np.array([0, 2**bits - 1], f"uint{bits}")
    made, digits = FRACTIONS[ends.dtype]
    assert OPS["fraction"].evaluate(ends, dtype=made).tolist() == [0.0, 1 - 2.0**-digits]
    normal = OPS["normal_of_bits"].evaluate(ends, dtype=made)
    low, high = LARGEST_NORMAL[made.name]
    assert low <= normal[0] < low + 0.01 and high - 0.01 < normal[1] <= high
    known = range_of(OPS["normal_of_bits"].make((leaf(constant(ends).aval),), dtype=made))
    assert (known.lo, known.hi) == (low, high)


FAR_BOUNDS = [
    (np.int64(0), np.int64(2**40)), (np.int64(-(2**33)), np.int64(5)), (np.int64(-(2**33)), np.int64(2**40)),
    (np.int64(2**32), np.int64(2**33)), (np.uint64(3), np.uint64(2**63)), (np.int8(-5), np.uint64(2**63)),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::gradc.errors.KeyReuseWarning")
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_bounds_outside_a_dtype_mean_the_same_traced_and_known(dtype):
    drawn = lambda key, low, high: R.randint(key, (200,), low, high, dtype)
    compiled = gc.jit(lambda key, bounds: [drawn(key, low, high) for low, high in bounds])(R.key(5), FAR_BOUNDS)
    for (low, high), found in zip(FAR_BOUNDS, compiled, strict=True):
        np.testing.assert_array_equal(found, drawn(R.key(5), low, high), f"{low} … {high}")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(("low", "high"), [(7.0, np.inf), (-8.0, -7.5), (200.0, np.inf), (-np.inf, -100.0)])
def test_normal_numbers_between_far_bounds_are_near_the_nearer(low, high, dtype):
    found = gc.jit(lambda key, a, b: R.truncated_normal(key, a, b, (500,), dtype))(R.key(5), low, high)
    near = min(abs(low), abs(high))
    beyond = np.abs(found.astype(float)) - near
    assert np.all(np.sign(found) == np.sign(low + high)) and beyond.min() > 0
    assert beyond.max() < max(-np.log(1e-9) / near, 2 * near * float(np.finfo(dtype).eps))


@pytest.mark.parametrize(
    ("bound", "dtype"), [(38.0, "float64"), (14.0, "float32"), (8.0, "float16"), (60.0, "float16")]
)
def test_normal_numbers_that_rounding_puts_on_their_bound_move_with_it(bound, dtype):
    """The mean's slope is 1 − 1/a² and less: E[x] = a + 1/a − 2/a³ + …"""
    mean = lambda a: np.mean(R.truncated_normal(R.key(3), a, np.inf, (500,), dtype).astype("float64"))
    slope = gc.grad(mean)(np.asarray(bound, dtype))
    assert 1 - 3 / bound**2 < slope < 1 + 1e-3
