"""Inner products with lanes along k: for products of few rows, or of long ones, whose operands both run along k.

Enters: pointers and run-time strides.  Leaves: one internal function per kind, shared by all products of a module.
Invariant, the order of the sum: chain c of lane l adds the products at k = (c + chains*t)*width + l for t = 0, 1, …;
the chains of a lane are joined by a binary tree over neighbours, then the lanes likewise.  Start reading at `emit_dot`.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradc.codegen.gemm.output import Output, add, multiply_add
from gradc.codegen.gemm.registers import (
    address,
    argument,
    extract,
    first_lanes,
    kinds,
    load,
    plus,
    storage,
    sum_lanes,
    times,
)
from gradc.codegen.ir import Function, Lanes, Module, Value, const
from gradc.codegen.poll import ACCESS, looking


@dataclass(frozen=True)
class Dot:
    """``rows`` x ``cols`` elements of C at once (``cols`` a power of two <= width), ``chains`` registers for each.

    ``contiguous``: the elements of a row of C are neighbours.  Operands have the dtype of the output unless ``a_dtype``
    or ``b_dtype`` says otherwise.
    """

    width: int
    rows: int
    cols: int
    chains: int
    contiguous: bool
    output: Output
    a_dtype: str = ""
    b_dtype: str = ""
    looks: bool = False  #: whether to end, now and then along k

    @property
    def dtype(self) -> str:
        return self.output.dtype

    @property
    def name(self) -> str:
        shape = f"{self.rows}x{self.cols}x{self.chains}x{self.width}"
        read = kinds(self.dtype, self.a_dtype, self.b_dtype)
        return f"gemm.dot.{read}.{shape}.{'row' * self.contiguous}{self.output.tag}{'looks' * self.looks}"

    @property
    def params(self) -> list[tuple[str, str]]:
        """Strides in elements, that along k being one.

        Where sums are added, the first %above rows and %skip columns are left alone: a piece before had them.
        """
        done = [("i64", "above"), ("i64", "skip")] if self.output.add else []
        return [
            ("ptr noalias readonly", "a"), ("i64", "a_row"), ("ptr noalias readonly", "b"), ("i64", "b_col"),
            ("ptr noalias", "c"), ("i64", "c_row"), ("i64", "c_col"), ("i64", "k"), *done,
            *self.output.params, *([("ptr", "status"), ("i64", "who")] if self.looks else []),
        ]  # fmt: skip


Sums = list[Value]  # [(row * cols + col) * chains + chain]


def emit_dot(module: Module, dot: Dot) -> str:
    """Make sure that the module has the function of this kind; return its name."""
    if dot.name not in module.functions:
        f = Function(module, dot.name, dot.params, result="internal void")
        f.who = "%who" if dot.looks else f.who
        totals = [_join(f, dot, chains) for chains in _accumulate(f, dot)]
        for r in range(dot.rows):
            _write_row(f, dot, totals[r * dot.cols : (r + 1) * dot.cols], r)
        f.finish()
    return dot.name


def _accumulate(f: Function, dot: Dot) -> list[Sums]:
    """All of k; returns the chains of each element."""
    count = dot.rows * dot.cols * dot.chains
    zero = const(0, storage(dot.dtype), dot.width)
    stride = dot.width * dot.chains
    whole = Lanes(f).sub(argument("k"), Lanes(f).irem(argument("k"), stride))
    zeros = [zero] * count
    operations = dot.chains * (dot.rows * dot.cols + ACCESS * (dot.rows + dot.cols))
    steps = looking(f, "%status", 0, whole, stride, operations, zeros) if dot.looks else f.loop(0, whole, stride, zeros)
    with steps as loop:
        loop.next = _stride(f, dot, loop.carry, loop.index, masked=False)
    # The rest of k: at most one turn, and none where k is a multiple of the stride.
    with f.loop(whole, argument("k"), stride, carry=loop.result) as rest:
        rest.next = _stride(f, dot, rest.carry, rest.index, masked=True)
    return [rest.result[at : at + dot.chains] for at in range(0, count, dot.chains)]


def _stride(f: Function, dot: Dot, sums: Sums, start: Value, masked: bool) -> Sums:
    """One step of every chain. Lanes behind k are loaded as zero, and 0*0 leaves a sum alone."""
    sums = list(sums)
    for chain in range(dot.chains):
        at = plus(f, start, chain * dot.width)
        mask = first_lanes(f, Lanes(f).sub(argument("k"), at), dot.width) if masked else None
        _step(f, dot, sums, chain, at, mask)
    return sums


def _step(f: Function, dot: Dot, sums: Sums, chain: int, at: Value, mask: Value | None) -> None:
    """Add the products of one register's worth of k to one chain of every element."""
    b = Lanes(f, dot.width)

    def lines(base: str, dtype: str, stride: str, count: int) -> list[Value]:
        places = [address(f, base, plus(f, times(f, x, argument(stride)), at), dtype) for x in range(count)]
        return [load(f, place, dtype, dot.width, mask) for place in places]

    a_lines = lines("%a", dot.a_dtype or dot.dtype, "a_row", dot.rows)
    b_lines = lines("%b", dot.b_dtype or dot.dtype, "b_col", dot.cols)
    for r, x in enumerate(a_lines):
        for c, y in enumerate(b_lines):
            place = (r * dot.cols + c) * dot.chains + chain
            sums[place] = multiply_add(b, dot.dtype, x, y, sums[place])


def _join(f: Function, dot: Dot, chains: Sums) -> Value:
    while len(chains) > 1:
        b = Lanes(f, dot.width)
        chains = [add(b, dot.dtype, x, y) for x, y in zip(chains[::2], chains[1::2], strict=True)]
    return chains[0]


def _write_row(f: Function, dot: Dot, totals: Sums, r: int) -> None:
    with dot.output.unless_done(f, "above", r):
        sums = sum_lanes(f, totals, lambda b, x, y: add(b, dot.dtype, x, y))
        line = address(f, "%c", times(f, r, argument("c_row")), dot.dtype)
        if dot.contiguous and dot.cols > 1:
            b = Lanes(f, dot.cols)
            mask = b.not_(first_lanes(f, argument("skip"), dot.cols)) if dot.output.add else None
            dot.output.write(f, sums, line, mask)
            return
        for c in range(dot.cols):
            with dot.output.unless_done(f, "skip", c):
                pointer = address(f, line, times(f, c, argument("c_col")), dot.dtype)
                dot.output.write(f, extract(f, sums, c), pointer)
