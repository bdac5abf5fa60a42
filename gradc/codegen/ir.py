"""LLVM IR as text: modules, functions, structured loops, and lane arithmetic.

Enters: Python calls.  Leaves: the text of one LLVM module.
Invariant: every instruction is IEEE by default; fast-math flags are written only when the module was opened with
``fp="contract"`` or ``fp="fast"``.  A `Value` knows its NumPy dtype (so signedness is never lost) and its lane count;
``lanes == 1`` is a scalar, which is all that PTX uses.  Start reading at `Lanes`.

The text route is used instead of llvmlite.ir because it is several times faster and knows every type.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from gradc.errors import CompileError
from gradc.schedule.kernel import Kernel

#: NumPy dtype name -> LLVM register type of one lane.  bool is i1 in registers and i8 in memory.  A narrow float is a
#: float32 in registers, one that the narrow dtype can hold, and i16 in memory (`gradc.codegen.narrow`).
REGISTER = {
    "bool": "i1", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
    "uint8": "i8", "uint16": "i16", "uint32": "i32", "uint64": "i64",
    "float16": "float", "bfloat16": "float", "float32": "float", "float64": "double",
}  # fmt: skip
NARROW = frozenset(("float16", "bfloat16"))
FLOATS = frozenset(("float32", "float64")) | NARROW
#: From so many coefficients on a polynomial is evaluated in two chains.
LONG_POLYNOMIAL = 10
FLAGS = {"ieee": "", "contract": "contract ", "fast": "fast "}

Scalar = bool | int | float
_BITS = {"bool": 1, **dict.fromkeys(NARROW, 32)}
_UNMARKED = nullcontext()


@dataclass(frozen=True, slots=True)
class Value:
    """An SSA value or constant: its IR text, the NumPy dtype name of a lane, the number of lanes."""

    ref: str
    dtype: str
    lanes: int = 1

    @property
    def type(self) -> str:
        return vector_type(REGISTER[self.dtype], self.lanes)

    @property
    def typed(self) -> str:
        return f"{self.type} {self.ref}"

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS

    @property
    def is_narrow(self) -> bool:
        return self.dtype in NARROW

    @property
    def is_signed(self) -> bool:
        return self.dtype.startswith("int")

    @property
    def bits(self) -> int:
        """Bits of a lane in a register."""
        return _BITS.get(self.dtype) or np.dtype(self.dtype).itemsize * 8


def vector_type(scalar: str, lanes: int) -> str:
    return scalar if lanes == 1 else f"<{lanes} x {scalar}>"


def memory_type(dtype: str) -> str:
    return "i8" if dtype == "bool" else "i16" if dtype in NARROW else REGISTER[dtype]


def literal(value: Scalar, dtype: str) -> str:
    """The IR text of one scalar constant, bit-exact."""
    if dtype == "bool":
        return "true" if value else "false"
    if dtype == "float32" or dtype in NARROW:
        with np.errstate(over="ignore"):
            value = float(np.dtype(dtype).type(value))
        return "0x" + struct.pack(">d", float(value)).hex().upper()
    if dtype == "float64":
        return "0x" + struct.pack(">d", float(value)).hex().upper()
    bits = np.dtype(dtype).itemsize * 8
    wrapped = int(value) & ((1 << bits) - 1)
    return str(wrapped - (1 << bits) if wrapped >> (bits - 1) else wrapped)


def const(value: Scalar, dtype: str, lanes: int = 1) -> Value:
    text = literal(value, dtype)
    if lanes > 1:
        text = f"splat ({REGISTER[dtype]} {text})"
    return Value(text, dtype, lanes)


def vector_const(values: Sequence[Scalar], dtype: str) -> Value:
    """A constant vector with one given value per lane."""
    if len(values) == 1:
        return const(values[0], dtype)
    body = ", ".join(f"{REGISTER[dtype]} {literal(v, dtype)}" for v in values)
    return Value(f"<{body}>", dtype, len(values))


class Debug(Protocol):
    """Where the code of a module comes from; `gradc.codegen.debug` writes it as LLVM's debug metadata."""

    def enter(self, kernel: int, work: int = 0, inner: Kernel | None = None, part: int = 0) -> None:
        """What follows is emitted for this piece of this kernel; or for part of an ``inner`` one that it runs."""

    def runs(self, function: str, kernel: int, work: int | None, inner: Kernel) -> None:
        """``function`` is that of ``kernel``; or, given a piece of work, of an ``inner`` kernel in its bodies."""

    def function(self, name: str) -> str:
        """What stands behind the head of a function."""

    def location(self, name: str, place: Mapping[str, int]) -> str:
        """What stands behind the instructions of a function at ``place``."""

    def metadata(self) -> list[str]:
        """The lines at the end of the module."""


@dataclass
class Module:
    """The text of one LLVM module: functions, globals and the declarations they turn out to need."""

    fp: str = "ieee"
    debug: Debug | None = None
    #: instruction sets that code may name beyond what LLVM chooses by itself, see `Target.extensions`
    extensions: frozenset[str] = frozenset()
    #: whether its loops look now and then if they are to end, see `gradc.codegen.poll`
    polls: bool = False
    checks: bool = False  #: whether accesses are checked, see `gradc.codegen.bounds`
    functions: dict[str, str] = field(default_factory=dict)
    globals: dict[str, str] = field(default_factory=dict)
    declarations: dict[str, str] = field(default_factory=dict)
    #: what `gradc.codegen.shared` made functions of: their names, each with a value of the type returned
    shared: dict[Hashable, tuple[str, Value]] = field(default_factory=dict)

    def declare(self, name: str, result: str, *params: str) -> str:
        self.declarations.setdefault(name, f"declare {result} @{name}({', '.join(params)})")
        return name

    def table(self, values: Sequence[Scalar], dtype: str) -> str:
        """A private constant array; equal tables share one symbol. Returns ``@name``."""
        body = ", ".join(f"{memory_type(dtype)} {literal(v, dtype)}" for v in values)
        text = f"private unnamed_addr constant [{len(values)} x {memory_type(dtype)}] [{body}], align 64"
        for name, known in self.globals.items():
            if known == text:
                return "@" + name
        name = f"table.{len(self.globals)}"
        self.globals[name] = text
        return "@" + name

    def hide(self, name: str) -> None:
        """Make a finished function internal: no symbol of the object, free to be inlined."""
        self.functions[name] = self.functions[name].replace("define void", "define internal void", 1)

    def __str__(self) -> str:
        parts = [f"@{name} = {text}" for name, text in self.globals.items()]
        parts += self.functions.values()
        parts += [text for name, text in self.declarations.items() if name not in self.functions]
        parts += self.debug.metadata() if self.debug is not None else []
        return "\n".join(parts) + "\n"


class Function:
    """One function under construction: a list of instruction lines in the current block.

    ``with module_function.loop(...)`` builds counted loops whose carried values are phi nodes, so no optimiser pass is
    needed to promote memory to registers.
    """

    def __init__(
        self,
        module: Module,
        name: str,
        params: Sequence[tuple[str, str]],
        result: str = "void",
        attrs: str = "nounwind",
    ):
        """``params`` are (IR type with attributes, name without %)."""
        self.module, self.name, self.result, self.attrs = module, name, result, attrs
        self.params = list(params)
        self.rounds_halves = False  #: whether numbers were rounded to float16 by the target's instruction
        self.who = "0"  #: which thread of a crew runs this; 0: the caller
        self.place: dict[str, int] = {}  #: what the instructions being emitted stand for
        self._mark = ""
        if module.debug is not None:
            self.attrs += module.debug.function(name)
            self._mark = module.debug.location(name, self.place)
        self.lines: list[str] = []
        self.block = "entry"
        self._entry: list[str] = []
        self._scratch: dict[tuple[str, int, int], str] = {}
        self._count = 0

    # -- raw emission ----------------------------------------------------------------------------------------------
    def fresh(self, stem: str = "v") -> str:
        self._count += 1
        return f"{stem}{self._count}"

    def line(self, text: str) -> None:
        self.lines.append(f"  {text}{self._mark}")

    def let(self, instruction: str) -> str:
        """Emit ``%new = instruction`` and return ``%new``."""
        self._count += 1
        name = f"%v{self._count}"
        self.lines.append(f"  {name} = {instruction}{self._mark}")
        return name

    def standing_for(self, **place: int) -> AbstractContextManager[None]:
        """Instructions emitted inside stand for a part of what those around them stand for."""
        return _UNMARKED if self.module.debug is None else self._standing_for(self.module.debug, place)

    @contextmanager
    def _standing_for(self, debug: Debug, place: Mapping[str, int]) -> Iterator[None]:
        around, mark = self.place, self._mark
        self.place = {**around, **place}
        self._mark = debug.location(self.name, self.place)
        yield
        self.place, self._mark = around, mark

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")
        self.block = name

    def branch(self, target: str) -> None:
        self.line(f"br label %{target}")

    def alloca(self, type_: str, count: int = 1, align: int = 64) -> str:
        """Stack memory in the entry block (so it is allocated once); returns its ``%name`` pointer."""
        name = "%" + self.fresh("stack")
        self._entry.append(f"  {name} = alloca {type_}, i64 {count}, align {align}")
        return name

    def scratch(self, type_: str, count: int, number: int) -> str:
        """Stack memory shared by all who ask for the same: whoever writes it reads it before anybody else writes."""
        key = (type_, count, number)
        if key not in self._scratch:
            self._scratch[key] = self.alloca(type_, count)
        return self._scratch[key]

    # -- structured control flow -----------------------------------------------------------------------------------
    @contextmanager
    def loop(self, start: Value | int, stop: Value | int, step: int = 1, carry: Sequence[Value] = ()) -> Iterator[Loop]:
        """A counted loop ``for index in range(start, stop, step)`` over int64, skipped when empty.

        ``L.carry`` are the carried values inside; set ``L.next`` to their new values before leaving; read
        ``L.result`` after the ``with`` block.
        """
        end = stop if isinstance(stop, Value) else const(stop, "int64")

        def more(index: Value, _: Sequence[Value]) -> Value:
            return Value(self.let(f"icmp slt i64 {index.ref}, {end.ref}"), "bool")

        with self.loop_while(more, carry, start, step) as loop:
            yield loop

    @contextmanager
    def loop_while(
        self,
        more: Callable[[Value, Sequence[Value]], Value],
        carry: Sequence[Value] = (),
        start: Value | int = 0,
        step: int = 1,
    ) -> Iterator[Loop]:
        """A loop that goes on while ``more(index, carried values)``, emitted before each step, gives true.

        The values are as in `loop`; ``L.index`` counts, and after the block is what it would be in the next step.
        """
        begin = start if isinstance(start, Value) else const(start, "int64")
        number = self.fresh("")
        before, head, body, done = self.block, f"head{number}", f"body{number}", f"done{number}"
        self.branch(head)
        self.label(head)
        index = Value(f"%i{number}", "int64")
        inside = [Value(f"%c{number}.{k}", v.dtype, v.lanes) if v.dtype != "ptr" else v for k, v in enumerate(carry)]
        phi_at = len(self.lines)
        self.lines += [""] * (1 + len(inside))
        self.line(f"br i1 {more(index, inside).ref}, label %{body}, label %{done}")
        self.label(body)
        loop = Loop(index, inside, list(inside), list(inside))
        yield loop
        bump = self.let(f"add nsw i64 {index.ref}, {step}")
        latch = self.block
        self.branch(head)
        self.lines[phi_at] = f"  {index.ref} = phi i64 [ {begin.ref}, %{before} ], [ {bump}, %{latch} ]"
        for k, (first, here, after) in enumerate(zip(carry, inside, loop.next, strict=True)):
            if (after.dtype, after.lanes) != (here.dtype, here.lanes):
                raise CompileError(f"loop carry {k} changes type from {here.type} to {after.type}")
            self.lines[phi_at + 1 + k] = (
                f"  {here.ref} = phi {here.type} [ {first.ref}, %{before} ], [ {after.ref}, %{latch} ]"
            )
        self.label(done)

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """Run the body only if the scalar bool ``condition`` holds (no values leave the body except through memory)."""
        number = self.fresh("")
        self.line(f"br i1 {condition.ref}, label %then{number}, label %after{number}")
        self.label(f"then{number}")
        yield
        self.branch(f"after{number}")
        self.label(f"after{number}")

    @contextmanager
    def unless_rare(self, condition: Value, usual: Sequence[Value]) -> Iterator[Alternative]:
        """Replace the values ``usual`` by others where the scalar bool ``condition`` holds, expected to be rare.

        Set ``A.next`` to the other values inside the ``with`` block, which only runs then; read ``A.result`` after it.
        """
        number, before = self.fresh(""), self.block
        unlikely = '!prof !{!"branch_weights", i32 1, i32 2000}'
        self.line(f"br i1 {condition.ref}, label %rare{number}, label %usual{number}, {unlikely}")
        self.label(f"rare{number}")
        result = [Value(f"%a{number}.{k}", v.dtype, v.lanes) for k, v in enumerate(usual)]
        alternative = Alternative(list(usual), result)
        yield alternative
        after = self.block
        self.branch(f"usual{number}")
        self.label(f"usual{number}")
        for k, (old, new, out) in enumerate(zip(usual, alternative.next, result, strict=True)):
            if (old.dtype, old.lanes) != (new.dtype, new.lanes):
                raise CompileError(f"alternative value {k} changes type from {old.type} to {new.type}")
            self.line(f"{out.ref} = phi {out.type} [ {old.ref}, %{before} ], [ {new.ref}, %{after} ]")

    def finish(self, result: Value | None = None) -> str:
        """Close the function, add it to its module, return its text."""
        self.line("ret void" if result is None else f"ret {result.typed}")
        params = ", ".join(f"{type_} %{name}" for type_, name in self.params)
        text = "\n".join(
            [f"define {self.result} @{self.name}({params}) {self.attrs} {{", "entry:", *self._entry, *self.lines, "}"]
        )
        self.module.functions[self.name] = text
        return text


@dataclass
class Loop:
    index: Value
    carry: list[Value]
    next: list[Value]
    result: list[Value]


@dataclass
class Alternative:
    next: list[Value]
    result: list[Value]


class Lanes:
    """Arithmetic on values of a fixed number of lanes, with NumPy's meaning bit for bit.

    Operands are `Value`s or Python scalars; a scalar takes the dtype of the other operand.  Both operands of a binary
    method must have one dtype: casts are nodes of the graph, made before lowering.
    """

    def __init__(self, function: Function, lanes: int = 1):
        self.f = function
        self.lanes = lanes

    # -- constants and conversion ----------------------------------------------------------------------------------
    def const(self, value: Scalar, like: Value | str) -> Value:
        return const(value, like if isinstance(like, str) else like.dtype, self.lanes)

    def lift(self, *operands: Value | Scalar) -> list[Value]:
        """All operands as values; scalars take the dtype of the first value."""
        values = [v for v in operands if isinstance(v, Value)]
        if len(values) == len(operands):
            return values
        dtype = values[0].dtype
        return [v if isinstance(v, Value) else self.const(v, dtype) for v in operands]

    def splat(self, scalar: Value) -> Value:
        """One scalar in every lane."""
        if self.lanes == 1 or scalar.lanes == self.lanes:
            return scalar
        vec = vector_type(REGISTER[scalar.dtype], self.lanes)
        one = self.f.let(f"insertelement {vec} poison, {scalar.typed}, i64 0")
        mask = f"<{self.lanes} x i32> zeroinitializer"
        return Value(self.f.let(f"shufflevector {vec} {one}, {vec} poison, {mask}"), scalar.dtype, self.lanes)

    def lane_index(self, dtype: str = "int64") -> Value:
        """0, 1, 2, … over the lanes."""
        return vector_const(list(range(self.lanes)), dtype)

    def bitcast(self, x: Value, dtype: str) -> Value:
        out = Value("", dtype, x.lanes)
        if out.type == x.type:
            return Value(x.ref, dtype, x.lanes)
        return Value(self.f.let(f"bitcast {x.typed} to {out.type}"), dtype, x.lanes)

    def convert(self, x: Value, dtype: str) -> Value:
        """NumPy's ``astype``: float to int truncates (saturating where NumPy's answer is undefined)."""
        out = Value("", dtype, x.lanes)
        if dtype == x.dtype:
            return x
        if dtype == "bool":
            return self.ne(x, 0)
        if dtype in NARROW:
            return self._narrowed(x, dtype)
        if x.is_narrow:  # which is a float32 already
            return self.convert(Value(x.ref, "float32", x.lanes), dtype)
        if x.is_float and out.is_float:
            how = "fpext" if out.bits > x.bits else "fptrunc"
        elif x.is_float:
            letter = "fptosi" if out.is_signed else "fptoui"
            return self._intrinsic(f"{letter}.sat", out, [x], suffix=[out, x])
        elif out.is_float:
            how = "sitofp" if x.is_signed else "uitofp"
        elif out.bits == x.bits:
            return Value(x.ref, dtype, x.lanes)
        elif out.bits < x.bits:
            how = "trunc"
        else:
            how = "sext" if x.is_signed else "zext"
        return Value(self.f.let(f"{how} {x.typed} to {out.type}"), dtype, x.lanes)

    # -- narrow floats ---------------------------------------------------------------------------------------------
    def _narrowed(self, x: Value, dtype: str) -> Value:
        """A number rounded once to a narrow float, halves to even; float16 ends where float32 holds every integer."""
        if x.is_float or x.bits < 32 or dtype == "float16":
            wide = x
        else:
            wide = self.convert(self._sticky(x) if x.bits == 64 else x, "float64")
        x = self._to_odd(wide) if wide.dtype == "float64" else self.convert(wide, "float32")
        with self.strict():
            bits = self.half_rounded(x) if dtype == "float16" else self.brain_rounded(self.bitcast(x, "uint32"))
        return Value(self.bitcast(bits, "float32").ref, dtype, x.lanes)

    @contextmanager
    def strict(self) -> Iterator[None]:
        """Arithmetic inside is IEEE whatever the module's mode."""
        mode, self.f.module.fp = self.f.module.fp, "ieee"
        yield
        self.f.module.fp = mode

    def brain_rounded(self, bits: Value) -> Value:
        """The bits of a float32 with its lower half rounded away; a NaN becomes the quiet one of its sign."""
        tie = self.and_(self.shr(bits, 16), 1)
        rounded = self.and_(self.add(self.add(bits, 0x7FFF), tie), 0xFFFF0000)
        quiet = self.or_(self.and_(bits, 0x80000000), 0x7FC00000)
        return self.select(self.isnan(self.bitcast(bits, "float32")), quiet, rounded)

    def half_rounded(self, x: Value) -> Value:
        """The bits of float32 ``x`` as float16 rounds it; below 2⁻¹⁴ the spacing is that of float32 around ½."""
        if "half" in self.f.module.extensions:
            self.f.rounds_halves = True
            return self.bitcast(self.extended(self.truncated(x)), "uint32")
        bits = self.bitcast(x, "uint32")
        size = self.and_(bits, 0x7FFFFFFF)
        tie = self.and_(self.shr(bits, 13), 1)
        near = self.and_(self.add(self.add(size, 0xFFF), tie), 0xFFFFE000)
        near = self.select(self.ge(near, 0x47800000), 0x7F800000, near)
        tiny = self.bitcast(self.sub(self.add(self.bitcast(size, "float32"), 0.5), 0.5), "uint32")
        near = self.select(self.lt(size, 0x38800000), tiny, near)
        near = self.select(self.gt(size, 0x7F800000), self.and_(self.or_(size, 0x400000), 0xFFFFE000), near)
        return self.or_(near, self.and_(bits, 0x80000000))

    def _sticky(self, x: Value) -> Value:
        """An integer of 64 bits that float64 holds: beyond ±2⁵³ the last twelve bits become one, set if any was."""
        last = self.and_(x, 0xFFF)
        any_set = self.and_(self.shr(self.add(last, 0xFFF), 1), 0x800)
        short = self.or_(self.xor(x, last), any_set)
        beyond = self.gt(x, 2**53)
        if x.is_signed:
            beyond = self.or_(beyond, self.lt(x, -(2**53)))
        return self.select(beyond, short, x)

    def _to_odd(self, x: Value) -> Value:
        """A float64 as float32, rounded to odd: to round that again is to round once (Boldo, Melquiond 2008)."""
        near = self.convert(x, "float32")
        bits, back = self.bitcast(near, "uint32"), self.convert(near, "float64")
        towards_zero = self.select(self.gt(self.abs(back), self.abs(x)), self.sub(bits, 1), bits)
        odd = self.bitcast(self.or_(towards_zero, 1), "float32")
        inexact = self.and_(self.ne(back, x), self.lt(self.abs(x), math.inf))
        return self.select(inexact, odd, near)

    def truncated(self, x: Value) -> Value:
        """A float32 in float16's format, by the target's instruction; the bits as uint16."""
        half = vector_type("half", x.lanes)
        out = Value("", "uint16", x.lanes)
        ref = self.f.let(f"bitcast {half} {self.f.let(f'fptrunc {x.typed} to {half}')} to {out.type}")
        return Value(ref, out.dtype, x.lanes)

    def extended(self, bits: Value) -> Value:
        """The float32 with the bits of a float16, by the target's instruction."""
        half, out = vector_type("half", bits.lanes), Value("", "float32", bits.lanes)
        ref = self.f.let(f"fpext {half} {self.f.let(f'bitcast {bits.typed} to {half}')} to {out.type}")
        return Value(ref, out.dtype, bits.lanes)

    # -- plain instructions ----------------------------------------------------------------------------------------
    def _binary(self, float_op: str, int_op: str, x: Value | Scalar, y: Value | Scalar) -> Value:
        a, b = self.lift(x, y)
        if (a.dtype, a.lanes) != (b.dtype, b.lanes):
            raise CompileError(f"operands differ: {a.type} ({a.dtype}) and {b.type} ({b.dtype})")
        if a.is_narrow:
            raise CompileError(f"arithmetic on {a.dtype}: it is computed in float32 and rounded after")
        op = float_op + " " + FLAGS[self.f.module.fp] if a.is_float else int_op
        if not op.strip():
            raise CompileError(f"no such instruction for {a.dtype}")
        return Value(self.f.let(f"{op} {a.type} {a.ref}, {b.ref}"), a.dtype, a.lanes)

    def _intrinsic(self, name: str, out: Value, args: Sequence[Value], suffix: Sequence[Value] | None = None) -> Value:
        def mangled(v: Value) -> str:
            scalar = {"float": "f32", "double": "f64"}.get(REGISTER[v.dtype], REGISTER[v.dtype])
            return scalar if v.lanes == 1 else f"v{v.lanes}{scalar}"

        full = "llvm." + name + "".join("." + mangled(v) for v in (suffix or [args[0]]))
        self.f.module.declare(full, out.type, *[a.type for a in args])
        flags = FLAGS[self.f.module.fp] if out.is_float else ""
        call = f"call {flags}{out.type} @{full}({', '.join(a.typed for a in args)})"
        return Value(self.f.let(call), out.dtype, out.lanes)

    def add(self, x: Value | Scalar, y: Value | Scalar) -> Value:
        a, b = self.lift(x, y)
        return self._binary("fadd", "or" if a.dtype == "bool" else "add", a, b)

    def sub(self, x: Value | Scalar, y: Value | Scalar) -> Value:
        return self._binary("fsub", "sub", x, y)

    def mul(self, x: Value | Scalar, y: Value | Scalar) -> Value:
        a, b = self.lift(x, y)
        return self._binary("fmul", "and" if a.dtype == "bool" else "mul", a, b)

    def div(self, x: Value | Scalar, y: Value | Scalar) -> Value:
        """True division of floats."""
        return self._binary("fdiv", "", x, y)

    def frem(self, x: Value | Scalar, y: Value | Scalar) -> Value:
        """C's fmod, exact."""
        return self._binary("frem", "", x, y)

    def idiv(self, x: Value | Scalar, y: Value | Scalar) -> Value:
        """Integer quotient rounded towards zero; the caller has made sure that it is defined."""
        op = "sdiv" if self.lift(x, y)[0].is_signed else "udiv"
        return self._binary("", op, x, y)

    def irem(self, x: Value | Scalar, y: Value | Scalar) -> Value:
        op = "srem" if self.lift(x, y)[0].is_signed else "urem"
        return self._binary("", op, x, y)

    def fma(self, x: Value | Scalar, y: Value | Scalar, z: Value | Scalar) -> Value:
        """x*y + z. `llvm.fmuladd`: one rounding where the target has FMA, two where it has not; never a libcall."""
        a, b, c = self.lift(x, y, z)
        return self._intrinsic("fmuladd", a, [a, b, c])

    def neg(self, x: Value) -> Value:
        if x.is_float:
            return Value(self.f.let(f"fneg {x.typed}"), x.dtype, x.lanes)
        return self.sub(0, x)

    def abs(self, x: Value) -> Value:
        if x.is_float:
            return self._intrinsic("fabs", x, [x])
        return self.select(self.lt(x, 0), self.neg(x), x) if x.is_signed else x

    def sqrt(self, x: Value) -> Value:
        return self._intrinsic("sqrt", x, [x])

    def floor(self, x: Value) -> Value:
        return self._intrinsic("floor", x, [x])

    def ceil(self, x: Value) -> Value:
        return self._intrinsic("ceil", x, [x])

    def trunc(self, x: Value) -> Value:
        return self._intrinsic("trunc", x, [x])

    def rint(self, x: Value) -> Value:
        """To the nearest integer, ties to even."""
        return self._intrinsic("roundeven", x, [x])

    def copysign(self, x: Value | Scalar, sign: Value) -> Value:
        a, s = self.lift(x, sign)
        if self.f.rounds_halves and a.dtype == "float32":  # LLVM would take the sign of a float64 behind s
            size, bit = self.and_(self.bitcast(a, "uint32"), 0x7FFFFFFF), self.and_(self.bitcast(s, "uint32"), 1 << 31)
            return self.bitcast(self.or_(size, bit), "float32")
        return self._intrinsic("copysign", a, [a, s])

    # -- comparison, selection, bits -------------------------------------------------------------------------------
    def _compare(self, float_op: str, int_op: str, x: Value | Scalar, y: Value | Scalar) -> Value:
        a, b = self.lift(x, y)
        if a.is_float:
            op = "fcmp " + float_op
        elif int_op in ("eq", "ne"):
            op = "icmp " + int_op
        else:
            op = "icmp " + ("s" if a.is_signed else "u") + int_op
        return Value(self.f.let(f"{op} {a.type} {a.ref}, {b.ref}"), "bool", a.lanes)

    def eq(self, x: Value | Scalar, y: Value | Scalar) -> Value:
        return self._compare("oeq", "eq", x, y)

    def ne(self, x: Value | Scalar, y: Value | Scalar) -> Value:
        return self._compare("une", "ne", x, y)

    def lt(self, x: Value | Scalar, y: Value | Scalar) -> Value:
        return self._compare("olt", "lt", x, y)

    def le(self, x: Value | Scalar, y: Value | Scalar) -> Value:
        return self._compare("ole", "le", x, y)

    def gt(self, x: Value | Scalar, y: Value | Scalar) -> Value:
        return self._compare("ogt", "gt", x, y)

    def ge(self, x: Value | Scalar, y: Value | Scalar) -> Value:
        return self._compare("oge", "ge", x, y)

    def isnan(self, x: Value) -> Value:
        return self.unordered(x, x)

    def unordered(self, x: Value, y: Value) -> Value:
        """Whether one of two floats is NaN."""
        return Value(self.f.let(f"fcmp uno {x.type} {x.ref}, {y.ref}"), "bool", x.lanes)

    def select(self, mask: Value, x: Value | Scalar, y: Value | Scalar) -> Value:
        a, b = self.lift(x, y)
        return Value(self.f.let(f"select {mask.typed}, {a.typed}, {b.typed}"), a.dtype, a.lanes)

    def any(self, mask: Value) -> Value:
        """Whether a bool holds in any lane: a scalar bool."""
        if mask.lanes == 1:
            return mask
        packed = self.f.let(f"bitcast {mask.typed} to i{mask.lanes}")
        return Value(self.f.let(f"icmp ne i{mask.lanes} {packed}, 0"), "bool")

    def max(self, x: Value | Scalar, y: Value | Scalar) -> Value:
        """np.maximum: NaN wins; of two zeros the second operand, as x86's instruction (and NumPy there) has it."""
        return self._pick(self.gt, x, y)

    def min(self, x: Value | Scalar, y: Value | Scalar) -> Value:
        """np.minimum: NaN wins; of two zeros the second operand."""
        return self._pick(self.lt, x, y)

    def _pick(self, better: Callable[[Value, Value], Value], x: Value | Scalar, y: Value | Scalar) -> Value:
        a, b = self.lift(x, y)
        picked = self.select(better(a, b), a, b)  # one instruction where the target has it; b if either is NaN
        return self.select(self.isnan(a), a, picked) if a.is_float else picked

    def and_(self, x: Value | Scalar, y: Value | Scalar) -> Value:
        return self._binary("", "and", x, y)

    def or_(self, x: Value | Scalar, y: Value | Scalar) -> Value:
        return self._binary("", "or", x, y)

    def xor(self, x: Value | Scalar, y: Value | Scalar) -> Value:
        return self._binary("", "xor", x, y)

    def not_(self, x: Value) -> Value:
        return self.xor(x, True if x.dtype == "bool" else -1)

    def shl(self, x: Value | Scalar, y: Value | Scalar) -> Value:
        """Shift left; the caller has made sure that 0 <= y < bits."""
        return self._binary("", "shl", x, y)

    def shr(self, x: Value | Scalar, y: Value | Scalar) -> Value:
        """Shift right, arithmetic for signed and logical for unsigned; 0 <= y < bits."""
        return self._binary("", "ashr" if self.lift(x, y)[0].is_signed else "lshr", x, y)

    def polynomial(self, x: Value, coefficients: Sequence[float]) -> Value:
        """Horner with FMA; coefficients from the highest power down.

        A long one is two chains in x², of the even and the odd powers: half as many steps wait for each other.
        """
        if len(coefficients) >= LONG_POLYNOMIAL:
            square = self.mul(x, x)
            odd, even = coefficients[-2::-2][::-1], coefficients[::-2][::-1]
            return self.fma(self.polynomial(square, odd), x, self.polynomial(square, even))
        value = self.const(coefficients[0], x)
        for c in coefficients[1:]:
            value = self.fma(value, x, self.const(c, x))
        return value
