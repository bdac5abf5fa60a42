"""What AVX-512 does in one instruction with the exponents and special values of floats.

Enters: `Value`s of one dtype, float32 or float64, of any number of lanes.  Leaves: a `Value` of the same type.
Invariant: each method has the bits of the arithmetic that stands for it on other targets; the callers, which ask
`has_avx512` first, say which.  Start reading at `Avx512.scaled`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gradc.codegen.ir import Lanes, Value, const, vector_type

#: Bits of the registers that the instructions take.
NARROWEST, WIDEST = 128, 512
#: Classes of numbers that `Avx512.fixed` tells apart, by their place in its table, and what it may put in their stead.
QUIET, SIGNALLING, ZERO, ONE, MINUS_INFINITY, INFINITY, NEGATIVE, POSITIVE = range(8)
KEEP, ITSELF, ITSELF_QUIET, NAN, TO_MINUS_INFINITY, TO_INFINITY, TO_ZERO = 0, 1, 2, 3, 4, 5, 8

OnRegister = Callable[..., Value]
Answers = Mapping[int, int]


class Avx512(Lanes):
    """Parts of floats, on `Value`s of one lane or many."""

    @property
    def has_avx512(self) -> bool:
        return "avx512" in self.f.module.extensions

    def scaled(self, x: Value, n: Value) -> Value:
        """x·2^n for an integral float n, rounded once; a subnormal result costs no more than another."""

        def emit(x: Value, n: Value) -> Value:
            return self._instruction("scalef", [x, n], [const(0, x.dtype, x.lanes)], x)

        return self._by_registers(emit, x, n)

    def exponent(self, x: Value) -> Value:
        """The k of |x| = m·2^k with m in [1, 2), as a float; −∞ for 0, ∞ for infinities."""
        return self._by_registers(lambda x: self._instruction("getexp", [x], [const(0, x.dtype, x.lanes)], x), x)

    def significand(self, x: Value) -> Value:
        """That m; 1 for 0 and infinities."""

        def emit(x: Value) -> Value:
            unsigned = const(0b0100, "int32")  # from [1, 2), the sign dropped
            return self._instruction("getmant", [x], [unsigned, const(0, x.dtype, x.lanes)], x)

        return self._by_registers(emit, x)

    def fixed(
        self, result: Value, x: Value, answers: Answers, otherwise: Answers | None = None, mask: Value | None = None
    ) -> Value:
        """``result``, but what ``answers`` says where x is of one of these classes; ``otherwise`` outside ``mask``."""
        table = self.const(_table(answers), f"int{x.bits}")
        if otherwise is not None and mask is not None:
            table = self.select(mask, table, _table(otherwise))

        def emit(result: Value, x: Value, table: Value) -> Value:
            return self._instruction("fixupimm", [result, x], [table, const(0, "int32")], x)

        return self._by_registers(emit, result, x, table)

    def _instruction(self, name: str, operands: Sequence[Value], more: Sequence[Value], like: Value) -> Value:
        """An instruction on one register, all lanes live; the widest ones also say how to round: as the mode does."""
        bits = like.lanes * like.bits
        full = f"llvm.x86.avx512.mask.{name}.{'ps' if like.dtype == 'float32' else 'pd'}.{bits}"
        arguments = [(v.type, v.ref) for v in (*operands, *more)] + [(f"i{max(like.lanes, 8)}", "-1")]
        arguments += [("i32", "4")] if bits == WIDEST else []
        self.f.module.declare(full, like.type, *(kind for kind, _ in arguments))
        listed = ", ".join(f"{kind} {ref}" for kind, ref in arguments)
        return Value(self.f.let(f"call {like.type} @{full}({listed})"), like.dtype, like.lanes)

    # -- registers of other sizes ----------------------------------------------------------------------------------
    def _by_registers(self, emit: OnRegister, *operands: Value) -> Value:
        """``emit`` on as many whole registers as the operands fill, or on one that they fill in part."""
        lanes, most = operands[0].lanes, WIDEST // operands[0].bits
        if lanes > most:
            parts = [emit(*[self._part(x, at, most) for x in operands]) for at in range(0, lanes, most)]
            while len(parts) > 1:
                parts = [self._shuffled(a, range(2 * a.lanes), b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            return parts[0]
        least = NARROWEST // operands[0].bits
        if lanes < least:
            return self._part(emit(*[self._widened(x, least) for x in operands]), 0, lanes)
        return emit(*operands)

    def _part(self, x: Value, start: int, lanes: int) -> Value:
        if lanes == 1:
            return Value(self.f.let(f"extractelement {x.typed}, i64 {start}"), x.dtype)
        return self._shuffled(x, range(start, start + lanes))

    def _widened(self, x: Value, lanes: int) -> Value:
        """x in the first lanes of a register; it does not matter what stands in the others."""
        if x.lanes > 1:
            return self._shuffled(x, [k % x.lanes for k in range(lanes)])
        vector = vector_type(x.type, lanes)
        return Value(self.f.let(f"insertelement {vector} zeroinitializer, {x.typed}, i64 0"), x.dtype, lanes)

    def _shuffled(self, x: Value, chosen: Sequence[int], y: Value | None = None) -> Value:
        indices = ", ".join(f"i32 {k}" for k in chosen)
        other = f"{x.type} poison" if y is None else y.typed
        mask = f"<{len(chosen)} x i32> <{indices}>"
        return Value(self.f.let(f"shufflevector {x.typed}, {other}, {mask}"), x.dtype, len(chosen))


def _table(answers: Answers) -> int:
    return sum(answer << 4 * kind for kind, answer in answers.items())
