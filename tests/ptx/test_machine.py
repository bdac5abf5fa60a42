"""The interpreter of PTX text, on PTX written by hand: what a device computes, and what it must be told is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ptx import arithmetic, tensor
from tests.ptx.machine import Device
from tests.ptx.memory import FaultError

HEAD = """
.version 7.0
.target sm_80
.address_size 64
.visible .entry k(
	.param .u64 .ptr .align 1 k_param_0,
	.param .u64 .ptr .align 1 k_param_1
)
{
	.reg .pred %p<9>;
	.reg .b16 %rs<9>;
	.reg .b32 %r<20>;
	.reg .b64 %rd<20>;
	.shared .align 16 .b8 pool[512];
	ld.param.b64 %rd1, [k_param_0];
	ld.param.b64 %rd2, [k_param_1];
	mov.u32 %r1, %tid.x;
	mov.u32 %r2, %ctaid.x;
	mov.u32 %r3, %ntid.x;
	mad.lo.s32 %r4, %r2, %r3, %r1;
	mul.wide.u32 %rd3, %r4, 4;
	add.s64 %rd4, %rd1, %rd3;
	add.s64 %rd5, %rd2, %rd3;
	mul.wide.u32 %rd6, %r1, 4;
	mov.b64 %rd7, pool;
	add.s64 %rd8, %rd7, %rd6;
"""


def run(body: str, x: np.ndarray, grid: int = 1, block: int = 32, out: np.ndarray | None = None) -> np.ndarray:
    """``body`` with x at %rd1, the result at %rd2, the thread's elements at %rd4 and %rd5, shared memory at %rd8."""
    device = Device(HEAD + body + "\n\tret;\n}\n")
    y = np.zeros_like(x) if out is None else out
    given, result = device.put(x, writable=False), device.put(y)
    device.launch("k", grid, block, [given, result])
    return device.get(result, y.shape, y.dtype)


def test_threads_of_many_blocks_each_do_their_element():
    x = np.arange(160, dtype=np.float32)
    y = run("ld.global.b32 %r5, [%rd4]; fma.rn.f32 %r6, %r5, 0f40000000, 0f3F800000; st.global.b32 [%rd5], %r6;",
            x, grid=5)  # fmt: skip
    np.testing.assert_array_equal(y, 2 * x + 1)


def test_vectors_of_four():
    body = """
    shl.b32 %r5, %r4, 4;
    cvt.u64.u32 %rd9, %r5;
    add.s64 %rd10, %rd1, %rd9;
    add.s64 %rd11, %rd2, %rd9;
    ld.global.nc.v4.b32 {%r6, %r7, %r8, %r9}, [%rd10];
    st.global.v4.b32 [%rd11], {%r9, %r8, %r7, %r6};
    """
    x = np.arange(128, dtype=np.int32)
    np.testing.assert_array_equal(run(body, x), x.reshape(-1, 4)[:, ::-1].ravel())


def test_paths_that_part_meet_again():
    """Threads loop as often as their number says; the shuffle behind the loop needs them all."""
    body = """
    mov.b32 %r5, 0;
    mov.b32 %r6, 0;
$L__BB0_1:
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra $L__BB0_2;
    add.s32 %r6, %r6, %r5;
    add.s32 %r5, %r5, 1;
    bra.uni $L__BB0_1;
$L__BB0_2:
    shfl.sync.bfly.b32 %r7, %r6, 1, 31, -1;
    st.global.b32 [%rd5], %r7;
    """
    i = np.arange(32)
    np.testing.assert_array_equal(run(body, np.zeros(32, np.int32)), ((i ^ 1) * ((i ^ 1) - 1)) // 2)


@pytest.mark.parametrize("guard", ["", "bar.sync 0;"])
def test_shared_memory_needs_a_barrier(guard):
    body = f"""
    ld.global.b32 %r5, [%rd4];
    st.shared.b32 [%rd8], %r5;
    {guard}
    sub.s32 %r6, 63, %r1;
    mul.wide.u32 %rd9, %r6, 4;
    add.s64 %rd10, %rd7, %rd9;
    ld.shared.b32 %r7, [%rd10];
    st.global.b32 [%rd5], %r7;
    """
    x = np.arange(128, dtype=np.int32)
    if guard:
        np.testing.assert_array_equal(run(body, x, 2, 64), x.reshape(2, 64)[:, ::-1].ravel())
    else:
        with pytest.raises(FaultError, match="race in shared memory"):
            run(body, x, 2, 64)


def test_two_threads_that_write_one_element_race():
    with pytest.raises(FaultError, match="two threads write one element"):
        run("st.shared.b32 [%rd7], %r1;", np.zeros(32, np.int32))


def test_reading_before_another_thread_writes_is_a_race():
    body = "ld.shared.b32 %r5, [%rd7]; setp.eq.u32 %p1, %r1, 3; @%p1 st.shared.b32 [%rd7], %r5;"
    with pytest.raises(FaultError, match="race in shared memory"):
        run(body, np.zeros(32, np.int32))


def test_blocks_race_over_global_memory_in_spite_of_barriers():
    with pytest.raises(FaultError, match="race in global memory: two blocks"):
        run("bar.sync 0; setp.eq.u32 %p1, %r1, 0; @%p1 st.global.b32 [%rd2], %r2; bar.sync 0;",
            np.zeros(64, np.int32), 2)  # fmt: skip


def test_threads_of_a_block_may_pass_global_values_over_a_barrier():
    body = """
    st.global.b32 [%rd5], %r1;
    {0}
    xor.b32 %r6, %r1, 31;
    mul.wide.u32 %rd9, %r6, 4;
    add.s64 %rd10, %rd2, %rd9;
    ld.global.b32 %r7, [%rd10];
    bar.sync 0;
    st.global.b32 [%rd5], %r7;
    """
    zeros = np.zeros(32, np.int32)
    np.testing.assert_array_equal(run(body.replace("{0}", "bar.sync 0;"), zeros), np.arange(32)[::-1])
    with pytest.raises(FaultError, match="race in global memory: thread"):
        run(body.replace("{0}", ""), zeros)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("ld.global.b32 %r5, [%rd4+128];", "outside every global array"),
        ("ld.global.b32 %r5, [%rd4+-4];", "outside every global array"),
        ("st.global.b32 [%rd4], %r1;", "writes .* outside every global array"),
        ("ld.global.b32 %r5, [%rd4+2];", "not aligned"),
        ("ld.global.v4.b32 {%r5, %r6, %r7, %r8}, [%rd4];", "not aligned to 16"),
        ("mov.b64 %rd9, 64; ld.global.b32 %r5, [%rd9];", "outside global memory"),
        ("st.shared.b32 [%rd8+600], %r1;", "outside shared memory"),
        ("setp.lt.u32 %p1, %r1, 16; @%p1 bra $L__BB0_1; bar.sync 0; bar.sync 0; $L__BB0_1: bar.sync 0;", "different"),
        ("setp.lt.u32 %p1, %r1, 16; @%p1 shfl.sync.bfly.b32 %r5, %r1, 1, 31, -1;", "elsewhere"),
    ],
)  # fmt: skip
def test_what_a_device_must_not_do_is_a_fault(body, words):
    with pytest.raises(FaultError, match=words):
        run(body, np.zeros(32, np.int32))


def test_a_barrier_that_some_threads_left_by_returning_is_fine():
    body = """
    setp.lt.u32 %p1, %r1, 16;
    @%p1 bra $L__BB0_1;
    bar.sync 0;
    st.global.b32 [%rd5], %r1;
$L__BB0_1:
    """
    i = np.arange(32)
    np.testing.assert_array_equal(run(body, np.zeros(32, np.int32)), np.where(i < 16, 0, i))


def test_atomics_lose_nothing():
    y = run("red.global.add.u32 [%rd2], 1; atom.global.max.u32 %r5, [%rd2+4], %r4;", np.zeros(64, np.uint32), 2)
    assert (y[0], y[1]) == (64, 63)


def test_asynchronous_copies_arrive_when_waited_for():
    body = """
    cp.async.ca.shared.global [%rd8], [%rd4], 4, {0};
    cp.async.commit_group;
    cp.async.wait_group {1};
    bar.sync 0;
    ld.shared.b32 %r5, [%rd8];
    st.global.b32 [%rd5], %r5;
    """
    x = np.arange(1, 33, dtype=np.int32)
    np.testing.assert_array_equal(run(body.replace("{0}", "4").replace("{1}", "0"), x), x)
    np.testing.assert_array_equal(run(body.replace("{0}", "0").replace("{1}", "0"), x), 0 * x)
    np.testing.assert_array_equal(run(body.replace("{0}", "4").replace("{1}", "1"), x), np.full(32, -1))


def test_conversions_round_and_saturate():
    def convert(x, to, *modifiers):
        return arithmetic.convert(np.array(x), np.dtype(to), modifiers).tolist()

    x = np.float32([0.5, 1.5, -2.5, 3e9, -3e9, np.nan, np.inf])
    assert convert(x, "int32", "rni") == [0, 2, -2, 2**31 - 1, -(2**31), 0, 2**31 - 1]
    assert convert(x, "int32", "rzi") == [0, 1, -2, 2**31 - 1, -(2**31), 0, 2**31 - 1]
    assert convert(x, "uint8", "rmi") == [0, 1, 0, 255, 0, 0, 255]
    assert convert(np.float64([1e30, -1e30]), "int64", "rzi") == [2**63 - 1, -(2**63)]
    assert convert(np.int32([300, -300]), "int8", "sat") == [127, -128]


def test_minimum_and_maximum_are_those_of_ptx():
    a, b = np.float32([np.nan, 1, 0.0, -0.0]), np.float32([2, np.nan, -0.0, 0.0])
    assert arithmetic.extreme(a, b, True, False).tolist() == [2, 1, 0, 0]
    assert np.isnan(arithmetic.extreme(a, b, True, True)[:2]).all()
    assert np.signbit(arithmetic.extreme(a, b, False, False)[2:]).all()
    assert not np.signbit(arithmetic.extreme(a, b, True, False)[2:]).any()


def test_fused_products_round_once():
    a = np.float32([1 + 2**-23, 1 + 2**-12])
    c = np.float32([-1 - 2**-22, 2**-60])
    exact = [2.0**-46, 1 + 2**-11 + 2**-23]  # the second sum lies just above a tie
    np.testing.assert_array_equal(arithmetic.fma(a, a, c), np.float32(exact))
    x = np.float64([1 + 2**-52])
    np.testing.assert_array_equal(arithmetic.fma(x, x, np.float64([-1 - 2**-51])), [2.0**-104])


def test_high_products_and_bit_fields():
    big = np.array([2**63 + 5, 7], np.uint64)
    assert arithmetic.high_product(big, big).tolist() == [(int(v) ** 2) >> 64 for v in big]
    small = np.array([-(2**62), 12345], np.int64)
    assert arithmetic.high_product(small, small[::-1]).tolist() == [(-(2**62) * 12345) >> 64] * 2
    word = np.array([0x80F0], np.int32)
    assert arithmetic.bit_field(word, np.uint32([4]), np.uint32([4])).tolist() == [-1]
    assert arithmetic.bit_field(word.view(np.uint32), np.uint32([4]), np.uint32([4])).tolist() == [15]


def test_calls_pass_values_both_ways():
    function = """
.version 7.0
.target sm_80
.func (.param .b32 func_retval0) twice(.param .b32 twice_param_0)
{
	.reg .b32 %r<4>;
	ld.param.b32 %r1, [twice_param_0];
	add.s32 %r2, %r1, %r1;
	st.param.b32 [func_retval0], %r2;
	ret;
}
"""
    body = """
    setp.lt.u32 %p1, %r1, 16;
    mov.b32 %r6, %r1;
    @%p1 bra $L__BB0_1;
	{ // callseq 0, 0
	.param .b32 param0;
	.param .b32 retval0;
	st.param.b32 [param0], %r1;
	call.uni (retval0), twice, (param0);
	ld.param.b32 %r6, [retval0];
	} // callseq 0
$L__BB0_1:
    st.global.b32 [%rd5], %r6;
    """
    device = Device(function + HEAD.split(".address_size 64")[1] + body + "\n\tret;\n}\n")
    y = device.put(np.zeros(32, np.int32))
    device.launch("k", 1, 32, [y, y])
    i = np.arange(32)
    np.testing.assert_array_equal(device.get(y, (32,), np.int32), np.where(i < 16, i, 2 * i))


def test_pairs_of_numbers_in_one_register():
    body = """
    mul.wide.u32 %rd9, %r4, 8;
    add.s64 %rd10, %rd1, %rd9;
    add.s64 %rd11, %rd2, %rd9;
    ld.global.b64 %rd12, [%rd10];
    fma.rn.f32x2 %rd13, %rd12, %rd12, %rd12;
    add.rn.f32x2 %rd13, %rd13, %rd12;
    st.global.b64 [%rd11], %rd13;
    """
    x = np.arange(64, dtype=np.float32) - 20
    np.testing.assert_array_equal(run(body, x), x * x + 2 * x)


# -- tensor cores ------------------------------------------------------------------------------------------------------


def _halves(values: np.ndarray, kind: str) -> np.ndarray:
    """Pairs of numbers as registers, the first one in the low half."""
    if kind == "f16":
        bits = values.astype(np.float16).view(np.uint16)
    else:
        bits = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return bits[..., 0] | bits[..., 1].astype(np.uint32) << 16


@pytest.mark.parametrize(("kind", "depth"), [("tf32", 8), ("bf16", 16), ("f16", 16), ("f16", 8)])
def test_tensor_cores_multiply_the_fragments_of_the_manual(kind, depth):
    """Lane by lane, register by register, as PTX ISA 9.0 tells where elements are."""
    random = np.random.default_rng(0)
    a, b = random.integers(-8, 8, (16, depth)).astype(float), random.integers(-8, 8, (depth, 8)).astype(float)
    c = random.integers(-8, 8, (16, 8)).astype(np.float32)
    wide = kind == "tf32"
    lefts, rights = depth // (2 if wide else 4), depth // (4 if wide else 8)
    left, right, sums = (np.zeros((n, 1, 32), np.uint32) for n in (lefts, rights, 4))
    for lane in range(32):
        group, member = lane // 4, lane % 4
        for r in range(lefts):
            row, first = group + 8 * (r % 2), (r // 2) * (4 if wide else 8)
            if wide:
                left[r, 0, lane] = np.float32(a[row, first + member]).view(np.uint32)
            else:
                left[r, 0, lane] = _halves(a[row, first + 2 * member : first + 2 * member + 2], kind)
        for r in range(rights):
            first = r * (4 if wide else 8)
            if wide:
                right[r, 0, lane] = np.float32(b[first + member, group]).view(np.uint32)
            else:
                right[r, 0, lane] = _halves(b[first + 2 * member : first + 2 * member + 2, group], kind)
        for r in range(4):
            sums[r, 0, lane] = c[group + 8 * (r // 2), 2 * member + r % 2].view(np.uint32)
    got = tensor.product(list(left), list(right), list(sums), kind, "mma")
    expected = (a @ b + c).astype(np.float32)
    for lane in range(32):
        for r in range(4):
            assert got[r][0, lane] == expected[lane // 4 + 8 * (r // 2), 2 * (lane % 4) + r % 2]


def test_matrices_are_loaded_row_by_row_and_transposed():
    body = """
    mov.u32 %r5, %laneid;
    mul.wide.u32 %rd9, %r5, 16;
    mul.wide.u32 %rd12, %r5, 4;
    add.s64 %rd10, %rd7, %rd9;
    ld.global.v4.b32 {%r6, %r7, %r8, %r9}, [%rd11];
    st.shared.v4.b32 [%rd10], {%r6, %r7, %r8, %r9};
    bar.sync 0;
    ldmatrix.sync.aligned.m8n8.x4.TRANSshared.b16 {%r10, %r11, %r12, %r13}, [%rd10];
    st.global.v4.b32 [%rd13], {%r10, %r11, %r12, %r13};
    """
    body = body.replace("add.s64 %rd10, %rd7, %rd9;",
                        "add.s64 %rd10, %rd7, %rd9; add.s64 %rd11, %rd1, %rd9; add.s64 %rd13, %rd2, %rd9;")  # fmt: skip
    x = np.arange(256, dtype=np.uint16)
    pieces = x.reshape(4, 8, 8)
    for words, turned in (("", pieces), ("trans.", pieces.transpose(0, 2, 1))):
        got = run(body.replace("TRANS", words), x).view(np.uint32).reshape(32, 4)
        expected = np.ascontiguousarray(turned).view(np.uint32).reshape(4, 32)
        np.testing.assert_array_equal(got.T, expected)
    shifted = body.replace("ldmatrix", "add.s64 %rd10, %rd10, 8;\n    ldmatrix").replace("TRANS", "")
    with pytest.raises(FaultError, match="not aligned to 16 bytes"):
        run(shifted, x)


def test_operands_of_tensor_cores_must_be_rounded():
    unrounded = [np.full((1, 32), np.float32(1 + 2.0**-20).view(np.uint32))]
    zero = [np.zeros((1, 32), np.uint32)]
    with pytest.raises(FaultError, match="not rounded to tf32"):
        tensor.product(4 * unrounded, 2 * zero, 4 * zero, "tf32", "mma")
    bits = np.array([1 + 2.0**-11, 1 + 2.0**-12, -1 - 2.0**-11, np.inf, np.nan], np.float32).view(np.uint32)
    rounded = tensor.rounded_to_tf32(bits).view(np.float32)
    np.testing.assert_array_equal(rounded, [1 + 2.0**-10, 1, -1 - 2.0**-10, np.inf, np.nan])


def test_what_is_not_known_is_refused_when_it_is_read():
    with pytest.raises(NotImplementedError, match="ex2"):
        run("ex2.approx.f32 %r5, %r4;", np.zeros(32, np.float32))
