"""Steps written by hand in LLVM IR, and a fixture that makes them callable by both ways in.

Every test that uses `make` runs twice, through the compiled entry and through the portable one, and expects the same.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from gradc.runtime import objects
from gradc.runtime.arrays import ArraySpec
from gradc.runtime.load import load
from gradc.runtime.native import NativeFunction

IR_TYPES = {"float64": "double", "float32": "float", "int64": "i64", "int32": "i32", "bool": "i8"}
HEAD = "define void @step(ptr noalias %in, ptr noalias %out, ptr noalias %arena, ptr noalias %status) nounwind {"


class MismatchError(TypeError):
    """What the tests' steps raise for an argument that does not fit."""


class FailureError(ArithmeticError):
    """What the tests' steps raise for a status word."""


def pointers(inputs: int, outputs: int = 1) -> str:
    lines = []
    for letter, block, count in (("x", "in", inputs), ("y", "out", outputs)):
        for k in range(count):
            lines += [f"%{letter}{k}.at = getelementptr ptr, ptr %{block}, i64 {k}"]
            lines += [f"%{letter}{k} = load ptr, ptr %{letter}{k}.at"]
    return "\n  ".join(lines)


def loop(n: int, body: str) -> str:
    """``body`` for each %i below n."""
    return f"""
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, {n}
  br i1 %more, label %body, label %done
body:
  {textwrap.indent(textwrap.dedent(body).strip(), "  ").strip()}
  %next = add i64 %i, 1
  br label %head
done:"""


def affine_ir(n: int, dtype: str = "float64") -> str:
    """y = 2x + 1."""
    t = IR_TYPES[dtype]
    mul, add, two, one = ("fmul", "fadd", "2.0", "1.0") if "float" in dtype else ("mul", "add", "2", "1")
    body = f"""
        %p = getelementptr {t}, ptr %x0, i64 %i
        %q = getelementptr {t}, ptr %y0, i64 %i
        %v = load {t}, ptr %p
        %d = {mul} {t} %v, {two}
        %r = {add} {t} %d, {one}
        store {t} %r, ptr %q
    """
    return f"{HEAD}\nentry:\n  {pointers(1)}{loop(n, body)}\n  ret void\n}}\n"


def descend_ir(n: int) -> str:
    """p = p - rate·g, in place when p is donated; the status word is 3 | 5 << 8 where the rate is negative."""
    body = """
        %p = getelementptr double, ptr %x0, i64 %i
        %g = getelementptr double, ptr %x1, i64 %i
        %q = getelementptr double, ptr %y0, i64 %i
        %pv = load double, ptr %p
        %gv = load double, ptr %g
        %d = fmul double %rate, %gv
        %r = fsub double %pv, %d
        store double %r, ptr %q
    """
    check = """
  %bad = fcmp olt double %rate, 0.0
  br i1 %bad, label %fail, label %fine
fail:
  store i64 1283, ptr %status
  br label %fine
fine:
  ret void
}
"""
    return f"{HEAD}\nentry:\n  {pointers(3)}\n  %rate = load double, ptr %x2{loop(n, body)}{check}"


def double_ir() -> str:
    """y = 2x for one number."""
    return f"""{HEAD}
entry:
  {pointers(1)}
  %v = load double, ptr %x0
  %r = fadd double %v, %v
  store double %r, ptr %y0
  ret void
}}
"""


def through_arena_ir(n: int, between: str = "") -> str:
    """y = x by way of the arena, with ``between`` run while only the arena holds the values."""
    return f"""declare void @between()
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
{HEAD}
entry:
  {pointers(1)}
  call void @llvm.memcpy.p0.p0.i64(ptr %arena, ptr %x0, i64 {8 * n}, i1 false)
  {between}
  call void @llvm.memcpy.p0.p0.i64(ptr %y0, ptr %arena, i64 {8 * n}, i1 false)
  ret void
}}
"""


def spec(*shape: int, dtype: str = "float64", name: str = "") -> ArraySpec:
    return ArraySpec(shape, np.dtype(dtype), name)


def describe(status: int) -> Exception:
    return FailureError(status & 0xFF, status >> 8)


Maker = Callable[..., NativeFunction]


@pytest.fixture(params=["compiled entry", "portable"])
def make(request: pytest.FixtureRequest) -> Maker:
    """`make(ir, inputs, outputs, ...)`: the step as a NativeFunction, by the entry under test."""
    fast = request.param == "compiled entry"
    if fast and objects.probe() is None:
        pytest.skip("this interpreter's objects are not the ones the compiled entry reads")

    def build(
        ir: str,
        inputs: Sequence[ArraySpec],
        outputs: Sequence[ArraySpec],
        donated: Mapping[int, int] | None = None,
        hidden: Sequence[np.ndarray[Any, Any]] = (),
        arena_bytes: int = 0,
        seconds_estimate: float = 0.0,
        symbols: Mapping[str, int] | None = None,
    ) -> NativeFunction:
        loaded = load(ir, "step", symbols=symbols)

        def mismatch(i: int, given: object) -> Exception:
            return MismatchError(f"argument {i}: {type(given).__name__} given, {inputs[i]} expected")

        function = NativeFunction(
            loaded.address, inputs, outputs, arena_bytes, donated or {}, hidden, describe, mismatch,
            seconds_estimate=seconds_estimate, owner=loaded, fast=fast,
        )  # fmt: skip
        assert function.is_fast == fast
        leases = function.portable.leases
        leases.give(leases.take())  # the first call would find no lease and go the portable way
        return function

    return build


def descend(make: Maker, n: int = 5, **options: Any) -> NativeFunction:
    inputs = [spec(n, name="weights"), spec(n, name="slope"), spec(name="rate")]
    return make(descend_ir(n), inputs, [spec(n)], **options)
