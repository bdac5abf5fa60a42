"""Algorithms that are written once, as lane arithmetic.

Enters: an algorithm as `gradc.ops.written` describes it, and `Value`s.  Leaves: a `Value` of the same dtype.
Invariant: computed in float64, in IEEE mode whatever the module's.  Start reading at `Written.written`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gradc.codegen.elementary.format import FORMATS
from gradc.codegen.ir import Function, Lanes, Scalar, Value

if TYPE_CHECKING:
    from gradc.codegen.builder import Builder
from gradc.ops.written import Algorithm, Given, sum_of


class Lane:
    """A `Value` with operators."""

    __slots__ = ("builder", "value")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, builder: Builder, value: Value):
        self.builder, self.value = builder, value

    def _with(self, method: str, x: Lane | Scalar, y: Lane | Scalar) -> Lane:
        return Lane(self.builder, getattr(self.builder, method)(_plain(x), _plain(y)))

    def __add__(self, other: Lane | Scalar) -> Lane:
        return self._with("add", self, other)

    def __radd__(self, other: Scalar) -> Lane:
        return self._with("add", other, self)

    def __sub__(self, other: Lane | Scalar) -> Lane:
        return self._with("sub", self, other)

    def __rsub__(self, other: Scalar) -> Lane:
        return self._with("sub", other, self)

    def __mul__(self, other: Lane | Scalar) -> Lane:
        return self._with("mul", self, other)

    def __rmul__(self, other: Scalar) -> Lane:
        return self._with("mul", other, self)

    def __truediv__(self, other: Lane | Scalar) -> Lane:
        return self._with("div", self, other)

    def __rtruediv__(self, other: Scalar) -> Lane:
        return self._with("div", other, self)

    def __neg__(self) -> Lane:
        return Lane(self.builder, self.builder.neg(self.value))

    def __lt__(self, other: Lane | Scalar) -> Lane:
        return self._with("lt", self, other)

    def __le__(self, other: Lane | Scalar) -> Lane:
        return self._with("le", self, other)

    def __gt__(self, other: Lane | Scalar) -> Lane:
        return self._with("gt", self, other)

    def __ge__(self, other: Lane | Scalar) -> Lane:
        return self._with("ge", self, other)

    def __eq__(self, other: object) -> Lane:  # type: ignore[override]
        return self._with("eq", self, other)  # type: ignore[arg-type]

    def __ne__(self, other: object) -> Lane:  # type: ignore[override]
        return self._with("ne", self, other)  # type: ignore[arg-type]

    def __and__(self, other: Lane | Scalar) -> Lane:
        return self._with("and_", self, other)

    def __or__(self, other: Lane | Scalar) -> Lane:
        return self._with("or_", self, other)

    def __invert__(self) -> Lane:
        return Lane(self.builder, self.builder.not_(self.value))


def _plain(x: Lane | Scalar) -> Value | Scalar:
    return x.value if isinstance(x, Lane) else x


class LaneMachine:
    """What an algorithm gets as ``m`` in code: the methods of `gradc.ops.written.Arrays`, of lanes."""

    def __init__(self, builder: Builder):
        self.b = builder

    def _of(self, value: Value) -> Lane:
        return Lane(self.b, value)

    def _lane(self, x: Lane | Scalar) -> Value:
        return x.value if isinstance(x, Lane) else self.b.const(x, "float64")

    def constant(self, value: float, like: Lane) -> Lane:
        return self._of(self.b.const(value, "float64"))

    def where(self, mask: Lane, x: Lane | Scalar, y: Lane | Scalar) -> Lane:
        return self._of(self.b.select(mask.value, self._lane(x), self._lane(y)))

    def choose(self, mask: Lane, rare: Callable[..., Lane], usual: Lane, given: Sequence[Given]) -> Lane:
        return self.choose_all(mask, lambda *numbers: [rare(*numbers)], [usual], given)[0]

    def choose_all(
        self, mask: Lane, rare: Callable[..., Sequence[Lane]], usual: Sequence[Lane], given: Sequence[Given]
    ) -> list[Lane]:
        values = [x.value for x in usual]
        with self.b.f.unless_rare(self.b.any(mask.value), values) as other:
            pairs = zip(rare(*given), values, strict=True)
            other.next = [self.b.select(mask.value, self._lane(new), old) for new, old in pairs]
        return [self._of(x) for x in other.result]

    def abs(self, x: Lane) -> Lane:
        return self._of(self.b.abs(x.value))

    def sqrt(self, x: Lane) -> Lane:
        return self._of(self.b.sqrt(x.value))

    def floor(self, x: Lane) -> Lane:
        return self._of(self.b.floor(x.value))

    def rint(self, x: Lane) -> Lane:
        return self._of(self.b.rint(x.value))

    def exp(self, x: Lane) -> Lane:
        return self._of(self.b.exp(x.value))

    def expm1(self, x: Lane) -> Lane:
        return self._of(self.b.expm1(x.value))

    def log(self, x: Lane) -> Lane:
        return self._of(self.b.log(x.value))

    def log1p(self, x: Lane) -> Lane:
        return self._of(self.b.log1p(x.value))

    def polygamma(self, x: Lane, n: int) -> Lane:
        return self._of(self.b.polygamma(x.value, n) if n else self.b.digamma(x.value))

    def copysign(self, x: Lane | Scalar, sign: Lane) -> Lane:
        return self._of(self.b.copysign(self._lane(x), sign.value))

    def sin(self, x: Lane) -> Lane:
        return self._of(self.b.sin(x.value))

    def cos(self, x: Lane) -> Lane:
        return self._of(self.b.cos(x.value))

    def power(self, x: Lane, y: float) -> Lane:
        return self._of(self.b.pow(x.value, self.b.const(y, "float64")))

    def fma(self, x: Lane, y: Lane, z: Lane | Scalar) -> Lane:
        return self._of(self.b.fma(x.value, y.value, self._lane(z)))

    def entries(self, rows: Sequence[Sequence[float]], place: Lane) -> list[Lane]:
        f, count = self.b.f, len(rows[0])
        table = f.module.table([x for row in rows for x in row], "float64")
        # The low bits of the sum are the whole number; those of a NaN are cut off, too.
        magic = FORMATS["float64"].magic
        index = self.b.bitcast(self.b.add(place.value, magic), "int64")
        index = self.b.and_(index, (1 << (count - 1).bit_length()) - 1)
        index = self.b.select(self.b.lt(index, count), index, 0)
        return [self._of(self._entry(table, self.b.add(index, k * count))) for k in range(len(rows))]

    def _entry(self, table: str, index: Value) -> Value:
        """One number of a constant table for each lane: gathered where there is a fast instruction for it."""
        f, lanes = self.b.f, index.lanes
        if lanes == 1:
            return Value(f.let(f"load double, ptr {self._place(table, index)}, align 8"), "float64")
        kind, mask = f"<{lanes} x double>", f"<{lanes} x i1>"
        if self.b.has_avx512:
            name = f.module.declare(
                f"llvm.masked.gather.v{lanes}f64.v{lanes}p0", kind, f"<{lanes} x ptr>", mask, kind
            )  # fmt: skip
            places = f"<{lanes} x ptr> align 8 {self._place(table, index)}"
            found = f.let(f"call {kind} @{name}({places}, {mask} splat (i1 true), {kind} zeroinitializer)")
            return Value(found, "float64", lanes)
        found = "poison"
        for lane in range(lanes):
            one = self._entry(table, Value(f.let(f"extractelement {index.typed}, i64 {lane}"), "int64"))
            found = f.let(f"insertelement {kind} {found}, {one.typed}, i64 {lane}")
        return Value(found, "float64", lanes)

    def _place(self, table: str, index: Value) -> str:
        return self.b.f.let(f"getelementptr double, ptr {table}, {index.typed}")

    def ldexp(self, x: Lane, exponent: Lane) -> Lane:
        return self._of(self.b.ldexp(x.value, self.b.convert(exponent.value, "int32")))

    def reduced(self, x: Lane) -> tuple[Lane, Lane]:
        k, f = self.b._reduce_log(x.value)
        return self._of(k), self._of(f)

    def product(self, x: Lane, y: Lane) -> tuple[Lane, Lane]:
        p = x * y
        if "fma" in self.b.f.module.extensions:
            rest = self.b._intrinsic("fma", p.value, [x.value, y.value, self.b.neg(p.value)])
            return p, self._of(rest)
        a, b = (self._of(self.b._head(v.value)) for v in (x, y))
        c, d = x - a, y - b
        return p, ((a * b - p) + a * d + c * b) + c * d

    def iterate(
        self,
        limit: int,
        carry: Sequence[Lane],
        step: Callable[..., Sequence[Lane]],
        going: Callable[..., Lane],
        start: Lane,
        given: Sequence[Given],
    ) -> list[Lane]:
        f, first = self.b.f, [*(x.value for x in carry), start.value]

        def more(index: Value, values: Sequence[Value]) -> Value:
            live = self.b.any(values[-1])
            below = Value(f.let(f"icmp sle i64 {index.ref}, {limit}"), "bool")
            return Value(f.let(f"and i1 {live.ref}, {below.ref}"), "bool")

        with f.loop_while(more, first, start=1) as loop:
            *values, live = loop.carry
            k = self._of(self.b.splat(Lanes(f).convert(loop.index, "float64")))
            found = step(k, *map(self._of, values), *given)
            kept = [
                self.b.select(live, self._lane(new), old) for new, old in zip(found, values, strict=True)
            ]  # fmt: skip
            loop.next = [*kept, self.b.and_(live, going(*map(self._of, kept), *given).value)]
        return [self._of(x) for x in loop.result[:-1]]

    def total(self, rows: Sequence[Sequence[float]], term: Callable[..., Lane], like: Lane) -> Lane:
        f = self.b.f
        tables = [f.module.table(tuple(column), "float64") for column in zip(*rows, strict=True)]
        with f.loop(0, len(rows), carry=[self.b.const(0.0, "float64")] * 2) as loop:
            entries = []
            for table in tables:
                place = f.let(f"getelementptr double, ptr {table}, i64 {loop.index.ref}")
                entries.append(self._of(self.b.splat(Value(f.let(f"load double, ptr {place}"), "float64"))))
            total, rest = sum_of(self._of(loop.carry[0]), term(*entries))
            loop.next = [total.value, self.b.add(loop.carry[1], rest.value)]
        return self._of(self.b.add(*loop.result))


class Written(Lanes):
    """Algorithms written once, as a method of a builder."""

    def written(self, algorithm: Algorithm, *operands: Value, **attrs: Any) -> Value:
        """What the algorithm gives for ``operands``, in their dtype."""
        with self.strict():
            wide = [Lane(self, self.convert(x, "float64")) for x in operands]  # type: ignore[arg-type]
            found: Lane = algorithm(LaneMachine(self), *wide, **attrs)  # type: ignore[arg-type]
            return self.convert(found.value, operands[0].dtype)

    def called(self, algorithm: Algorithm, *operands: Value, **attrs: Any) -> Value:
        """What `written` gives, by a call: a long algorithm stands in the module once, as a function."""
        dtype = operands[0].dtype
        with self.strict():
            wide = [self.convert(x, "float64") for x in operands]
        module = self.f.module
        key = (algorithm, tuple(sorted(attrs.items())), self.lanes)
        if key not in module.shared:
            module.shared[key] = self._function(algorithm, wide, attrs, f"written.{len(module.shared)}")
        name, result = module.shared[key]
        call = self.f.let(f"call {result.type} @{name}({', '.join(x.typed for x in wide)})")
        with self.strict():
            return self.convert(Value(call, "float64", self.lanes), dtype)

    def _function(
        self, algorithm: Algorithm, operands: Sequence[Value], attrs: dict[str, Any], name: str
    ) -> tuple[str, Value]:
        """The function's name, and a value of the type that it returns."""
        params = [(x.type, f"x{k}") for k, x in enumerate(operands)]
        f = Function(self.f.module, name, params, attrs="nounwind noinline")
        inside: Any = type(self)(f, self.lanes)
        with self.strict():
            found: Lane = algorithm(
                LaneMachine(inside),
                *[Lane(inside, Value(f"%x{k}", x.dtype, x.lanes)) for k, x in enumerate(operands)],
                **attrs,
            )
        f.result = f"internal {found.value.type}"
        f.finish(found.value)
        return name, found.value
