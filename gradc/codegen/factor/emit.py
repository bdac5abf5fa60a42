"""Work on whole matrices to functions of a module, and calls of them.

Enters: `Factor` work, pointers.  Leaves: for each different work a function

    void factorN(ptr each source, ptr each target, ptr %scratch, ptr %status, i64 %who, i64 %begin, i64 %end)

for the matrices from begin to end of the batch, begin a multiple of those that are done side by side.
Invariant: arithmetic is IEEE whatever the mode of the module, for algorithms rely on NaN and on how sums round; what is
done with a matrix does not depend on the others beside it.  Start reading at `Factors.call`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradc.codegen import memory
from gradc.codegen.factor import cholesky, elimination, orthogonal, singular, symmetric, triangular
from gradc.codegen.factor.matrices import Matrices
from gradc.codegen.factor.number import Number
from gradc.codegen.factor.rows import Bench
from gradc.codegen.factor.side import Side, is_tiny
from gradc.codegen.factor.update import Update
from gradc.codegen.ir import Function, Lanes, Module, Value, const
from gradc.codegen.poll import looks, walking
from gradc.codegen.target import LINE, Target
from gradc.ops.algorithm import Algorithm
from gradc.schedule.factor import Factor

Sizes = Callable[[Factor], Sequence[int]]


@dataclass(frozen=True)
class Program:
    """How an algorithm is written: for each matrix ``alone``, and for small ones ``aside``; of how many elements are
    the pieces of scratch of the one, and the tiles of the other (of one matrix) in the order in which it makes them.
    """

    alone: Callable[[Matrices], None]
    scratch: Sizes
    aside: Callable[[Side], None]
    tiles: Sizes


PROGRAMS: Mapping[Algorithm, Program] = {
    Algorithm.CHOLESKY: Program(cholesky.alone, cholesky.scratch, cholesky.aside, cholesky.tiles),
    Algorithm.TRIANGULAR_SOLVE: Program(triangular.alone, triangular.scratch, triangular.aside, triangular.tiles),
    Algorithm.LU: Program(elimination.alone, elimination.scratch, elimination.aside, elimination.tiles),
    Algorithm.SOLVE: Program(
        elimination.solve_alone, elimination.solve_scratch, elimination.solve_aside, triangular.tiles
    ),
    Algorithm.QR: Program(orthogonal.alone, orthogonal.scratch, orthogonal.aside, orthogonal.tiles),
    Algorithm.EIGH: Program(symmetric.alone, symmetric.scratch, symmetric.aside, symmetric.tiles),
    Algorithm.EIGENVALUES: Program(symmetric.alone, symmetric.scratch, symmetric.aside, symmetric.tiles),
    Algorithm.SVD: Program(singular.alone, singular.scratch, singular.aside, singular.tiles),
    Algorithm.SINGULAR_VALUES: Program(singular.alone, singular.scratch, singular.aside, singular.tiles),
    Algorithm.INVERSE: Program(
        elimination.inverse_alone, elimination.inverse_scratch, elimination.inverse_aside, elimination.inverse_tiles
    ),
}


def is_unrolled(work: Factor) -> bool:
    """Whether matrices are held in registers, and every loop is written out."""
    return not work.algorithm.iterates and is_tiny(work)


def is_aside(work: Factor) -> bool:
    """Whether matrices are done side by side, or a single one as if it were."""
    return work.lanes > 1 or is_unrolled(work)


def _places(work: Factor, target: Target) -> list[int]:
    """Where the pieces of scratch begin, in bytes, and last where they end.

    Each begins at a cache line.  Of matrices alone, the first is that of products; tiles are as large as whole
    stretches of lanes.
    """
    program = PROGRAMS[work.algorithm]
    if is_aside(work):
        sizes = [0] if is_unrolled(work) else [-(-n // work.lanes) * work.lanes**2 for n in program.tiles(work)]
    else:
        longest = max(n for m in (*work.sources, *work.targets) for n in m.shape)
        sizes = [Update(target, work.dtype).pack_elements(longest), *program.scratch(work)]
    places = [0]
    for size in sizes:
        bytes_ = size * np.dtype(work.dtype).itemsize
        places.append(places[-1] + -(-bytes_ // LINE) * LINE)
    return places


def scratch_bytes(work: Factor, target: Target) -> int:
    """Bytes of scratch that one thread needs."""
    return _places(work, target)[-1]


class Factors:
    """The functions of a module, each emitted on its first use."""

    def __init__(self, target: Target):
        self.target = target
        self._known: dict[object, str] = {}

    def call(
        self, f: Function, work: Factor, slots: Sequence[str], scratch: str, status: str,
        part: tuple[Value, Value] | None = None,
    ) -> None:  # fmt: skip
        """Emit the call for the matrices in ``part``; None: for all."""
        begin, end = part or (const(0, "int64"), const(work.batch, "int64"))
        touched = [slots[m.slot] if m.slot >= 0 else "null" for m in (*work.sources, *work.targets)]
        pointers = ", ".join(f"ptr {p}" for p in [*touched, scratch, status])
        f.line(f"call void @{self._function(f.module, work)}({pointers}, i64 {f.who}, {begin.typed}, {end.typed})")

    def _function(self, module: Module, work: Factor) -> str:
        """Equal work on other slots is the same function."""
        shapes = [(m.shape, m.dtype, m.slot >= 0) for m in (*work.sources, *work.targets)]
        key = (work.algorithm, work.batch, tuple(shapes), work.attrs, work.node, work.lanes)
        if key not in self._known:
            self._known[key] = f"factor{len(self._known)}"
            self._emit(module, work, self._known[key])
        return self._known[key]

    def _emit(self, module: Module, work: Factor, name: str) -> None:
        pointers = [f"m{k}" for k in range(len(work.sources) + len(work.targets))]
        params = [
            *(("ptr", p) for p in (*pointers, "scratch", "status")),
            *(("i64", p) for p in ("who", "begin", "end")),
        ]
        f = Function(module, name, params, "internal void")
        f.who = "%who"
        with Lanes(f).strict():
            self._batch(f, work)
        f.finish()

    def _batch(self, f: Function, work: Factor) -> None:
        """Matrix after matrix, or as many as there are lanes after as many."""
        scratch = [memory.offset_pointer(f, "%scratch", at, "int8") for at in _places(work, self.target)[:-1]]
        begin, end = (Value(f"%{p}", "int64") for p in ("begin", "end"))
        each = work.lanes * work.flops / 2 / max(work.batch, 1)
        if looks(work):
            outer = walking(f, "%status", begin, end, work.lanes, each, each, work.batch)
        else:
            outer = f.loop(begin, end, work.lanes)
        with outer as loop:
            first, program = Number(f, loop.index), PROGRAMS[work.algorithm]
            if is_aside(work):
                program.aside(Side(f, work, is_unrolled(work), "%status", first, Number(f, end), scratch))
            else:
                bench = Bench(f, work.dtype, self.target.lanes(work.dtype), "%status", looks(work))
                program.alone(Matrices.at(bench, Update(self.target, work.dtype), work, first, scratch))
