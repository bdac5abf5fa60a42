"""Results looked at before a call ends: ``check_nans``.

Enters: a pointer to a result of a step, when the last kernel that writes it is done.  Leaves: the status word of the
first result that holds what was asked for, `IS_NAN`, `IS_INFINITE` or `IS_SUBNORMAL` with the number of the result.
Elements are compared as integers, by their bits without the sign: so what is found does not depend on the arithmetic,
and each costs a load, a mask and a comparison.
Invariant: nothing is written but the status word, and that only if nothing failed before.  Start reading at `look`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gradc.aval import is_float
from gradc.codegen.ir import Function
from gradc.codegen.status import IS_INFINITE, IS_NAN, IS_SUBNORMAL, KIND_BITS, WATCHED

#: Bytes that are looked at in one turn of the loop: a few vectors of any target.
TURN_BYTES = 128
#: dtype -> bits of an element, of its mantissa
FORMATS = {"float16": (16, 10), "bfloat16": (16, 7), "float32": (32, 23), "float64": (64, 52)}


def _nan(k: int, bits: int, mantissa: int, type_: str) -> list[str]:
    return [f"%hit{k} = icmp sgt {type_} %bare, {_splat(type_, _infinity(bits, mantissa))}"]


def _infinite(k: int, bits: int, mantissa: int, type_: str) -> list[str]:
    return [f"%hit{k} = icmp eq {type_} %bare, {_splat(type_, _infinity(bits, mantissa))}"]


def _subnormal(k: int, bits: int, mantissa: int, type_: str) -> list[str]:
    return [
        f"%less = sub {type_} %bare, {_splat(type_, 1)}",
        f"%hit{k} = icmp ult {type_} %less, {_splat(type_, (1 << mantissa) - 1)}",
    ]


#: how an element shows what is asked for
SHOWS: dict[int, Callable[[int, int, int, str], list[str]]] = {
    IS_NAN: _nan, IS_INFINITE: _infinite, IS_SUBNORMAL: _subnormal,
}  # fmt: skip


def look(f: Function, number: int, pointer: str, dtype: str, size: int, kinds: Sequence[str]) -> None:
    """Look at the ``size`` elements of result ``number`` from ``pointer`` on; others than floats show nothing."""
    if not size or not is_float(np.dtype(dtype)):
        return
    wanted = [status for name, status in WATCHED.items() if name in kinds]
    name = f"gradc.look.{'.'.join(map(str, wanted))}.{dtype}"
    if name not in f.module.functions:
        f.module.functions[name] = _function(name, dtype, wanted)
        bits, lanes = FORMATS[dtype][0], TURN_BYTES * 8 // FORMATS[dtype][0]
        f.module.declare(f"llvm.vector.reduce.or.v{lanes}i{bits}", f"i{bits}", f"<{lanes} x i{bits}>")
    f.line(f"call void @{name}(ptr {pointer}, i64 {size}, i64 {number << KIND_BITS}, ptr %status)")


def _function(name: str, dtype: str, kinds: Sequence[int]) -> str:
    """The text of a function that looks at elements of one dtype for these kinds, all in one pass."""
    bits, _ = FORMATS[dtype]
    one, lanes, size = f"i{bits}", TURN_BYTES * 8 // bits, bits // 8
    many = f"<{lanes} x {one}>"
    reduced = f"@llvm.vector.reduce.or.v{lanes}{one}"

    def each(text: str) -> str:
        return "\n".join(text.format(k=k, many=many, one=one) for k in kinds)

    return f"""\
define internal void @{name}(ptr %p, i64 %n, i64 %number, ptr %status) nounwind noinline {{
entry:
  %whole = and i64 %n, {-lanes}
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
{each("  %seen{k} = phi {many} [ zeroinitializer, %entry ], [ %all{k}, %body ]")}
  %more = icmp slt i64 %i, %whole
  br i1 %more, label %body, label %rest
body:
  %at = getelementptr {one}, ptr %p, i64 %i
  %v.x = load {many}, ptr %at, align {size}
{_hits("v", dtype, many, kinds)}
{each("  %all{k} = or {many} %seen{k}, %v.wide{k}")}
  %next = add i64 %i, {lanes}
  br label %head
rest:
{each(f"  %any{{k}} = call {{one}} {reduced}({{many}} %seen{{k}})")}
  br label %tail
tail:
  %j = phi i64 [ %whole, %rest ], [ %jnext, %single ]
{each("  %found{k} = phi {one} [ %any{k}, %rest ], [ %fall{k}, %single ]")}
  %left = icmp slt i64 %j, %n
  br i1 %left, label %single, label %last
single:
  %place = getelementptr {one}, ptr %p, i64 %j
  %t.x = load {one}, ptr %place, align {size}
{_hits("t", dtype, one, kinds)}
{each("  %fall{k} = or {one} %found{k}, %t.wide{k}")}
  %jnext = add i64 %j, 1
  br label %tail
last:
  %old = load i64, ptr %status, align 8
{_chosen(one, kinds)}
  store i64 %word, ptr %status, align 8
  ret void
}}
"""


def _hits(prefix: str, dtype: str, type_: str, kinds: Sequence[int]) -> str:
    """All ones in each element of %prefix.x that is of a kind, for each of the kinds."""
    bits, mantissa = FORMATS[dtype]
    mask = type_.replace(f"i{bits}", "i1")
    lines = [f"%{prefix}.bare = and {type_} %{prefix}.x, {_splat(type_, (1 << bits - 1) - 1)}"]
    for k in kinds:
        lines += [line.replace("%", f"%{prefix}.") for line in SHOWS[k](k, bits, mantissa, type_)]
        lines.append(f"%{prefix}.wide{k} = sext {mask} %{prefix}.hit{k} to {type_}")
    return "\n".join(f"  {line}" for line in lines)


def _chosen(one: str, kinds: Sequence[int]) -> str:
    """The status word: as it was, or if it was 0 that of the first of the kinds that was found."""
    lines, last = [], "0"
    for k in reversed(kinds):
        lines.append(f"%bad{k} = icmp ne {one} %found{k}, 0")
        lines.append(f"%code{k} = or i64 %number, {k}")
        lines.append(f"%told{k} = select i1 %bad{k}, i64 %code{k}, i64 {last}")
        last = f"%told{k}"
    lines += ["%well = icmp eq i64 %old, 0", f"%word = select i1 %well, i64 {last}, i64 %old"]
    return "\n".join(f"  {line}" for line in lines)


def _infinity(bits: int, mantissa: int) -> int:
    return (1 << bits - 1) - (1 << mantissa)


def _splat(type_: str, value: int) -> str:
    return f"splat ({type_.partition(' x ')[2].rstrip('>')} {value})" if type_.startswith("<") else str(value)
