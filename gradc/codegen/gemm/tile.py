"""The register tile: ``rows`` x ``vectors`` registers of C, filled by one FMA chain per element.

Enters: pointers and run-time strides.  Leaves: one internal function per kind of tile, shared by all products of a
module.  Invariant: element (i, j) adds a[i,k]*b[k,j] for k = 0, 1, … in one chain that starts from zero; B is read in
vectors (its columns are neighbours), A one element at a time.  Start reading at `emit_tile`.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradc.codegen.gemm.output import Output, multiply_add
from gradc.codegen.gemm.registers import (
    address,
    argument,
    first_lanes,
    first_part,
    kinds,
    load,
    plus,
    storage,
    times,
)
from gradc.codegen.ir import Function, Lanes, Module, Value, const


@dataclass(frozen=True)
class Tile:
    """One kind of tile, of ``rows`` rows and ``vectors`` registers of ``width`` lanes, the last of ``last`` lanes.

    ``masked``: only the first %live lanes of the last vector exist.  Operands have the dtype of the output unless
    ``a_dtype`` or ``b_dtype`` says otherwise.
    """

    width: int
    rows: int
    vectors: int
    last: int
    output: Output
    masked: bool = False
    a_dtype: str = ""
    b_dtype: str = ""

    @property
    def dtype(self) -> str:
        return self.output.dtype

    @property
    def lanes(self) -> list[int]:
        """The lanes of each vector of a row."""
        return [self.width] * (self.vectors - 1) + [self.last]

    @property
    def name(self) -> str:
        lanes = "x".join(str(n) for n in self.lanes)
        read = kinds(self.dtype, self.a_dtype, self.b_dtype)
        return f"gemm.tile.{read}.{self.rows}x{lanes}.{'masked' * self.masked}{self.output.tag}"

    @property
    def params(self) -> list[tuple[str, str]]:
        """Strides in elements. Where sums are added, the first %skip rows are left alone: a tile before had them."""
        live = [("i64", "live")] if self.masked else []
        skip = [("i64", "skip")] if self.output.add else []
        return [
            ("ptr noalias readonly", "a"), ("i64", "a_row"), ("i64", "a_col"),
            ("ptr noalias readonly", "b"), ("i64", "b_row"),
            ("ptr noalias", "c"), ("i64", "c_row"), ("i64", "k"), *live, *skip, *self.output.params,
        ]  # fmt: skip


def emit_tile(module: Module, tile: Tile) -> str:
    """Make sure that the module has the function of this tile; return its name."""
    if tile.name not in module.functions:
        f = Function(module, tile.name, tile.params, result="internal void")
        edge = first_lanes(f, argument("live"), tile.last) if tile.masked else None
        _write(f, tile, _accumulate(f, tile, edge), edge)
        f.finish()
    return tile.name


def _accumulate(f: Function, tile: Tile, edge: Value | None) -> list[list[Value]]:
    """The loop over k; returns sums[row][vector]."""
    count = tile.rows * tile.vectors
    rows = [times(f, r, argument("a_row")) for r in range(tile.rows)]
    zeros, start = [const(0, storage(tile.dtype), lanes) for lanes in tile.lanes], const(0, "int64")
    with f.loop(0, argument("k"), carry=[*zeros * tile.rows, start, start]) as loop:
        sums, (a_at, b_at) = loop.carry[:count], loop.carry[count:]
        vectors = _load_b(f, tile, b_at, edge)
        for r in range(tile.rows):
            dtype = tile.a_dtype or tile.dtype
            one = load(f, address(f, "%a", plus(f, a_at, rows[r]), dtype), dtype)
            sums[r * tile.vectors : (r + 1) * tile.vectors] = _row_step(f, tile, one, vectors, sums[r * tile.vectors :])
        loop.next = [*sums, plus(f, a_at, argument("a_col")), plus(f, b_at, argument("b_row"))]
    done = loop.result[:count]
    return [done[at : at + tile.vectors] for at in range(0, count, tile.vectors)]


def _load_b(f: Function, tile: Tile, at: Value, edge: Value | None) -> list[Value]:
    masks = [None] * (tile.vectors - 1) + [edge]
    dtype = tile.b_dtype or tile.dtype
    places = [address(f, "%b", plus(f, at, v * tile.width), dtype) for v in range(tile.vectors)]
    return [load(f, place, dtype, lanes, mask) for place, lanes, mask in zip(places, tile.lanes, masks, strict=True)]


def _row_step(f: Function, tile: Tile, one: Value, vectors: list[Value], sums: list[Value]) -> list[Value]:
    everywhere = Lanes(f, tile.lanes[0]).splat(one)
    splats = [everywhere] * (tile.vectors - 1) + [first_part(f, everywhere, tile.last)]
    return [
        multiply_add(Lanes(f, x.lanes), tile.dtype, splat, x, total)
        for splat, x, total in zip(splats, vectors, sums, strict=False)
    ]


def _write(f: Function, tile: Tile, sums: list[list[Value]], edge: Value | None) -> None:
    masks = [None] * (tile.vectors - 1) + [edge]
    for r, row in enumerate(sums):
        with tile.output.unless_done(f, "skip", r):
            for v, (value, mask) in enumerate(zip(row, masks, strict=True)):
                pointer = address(f, "%c", plus(f, times(f, r, argument("c_row")), v * tile.width), tile.dtype)
                tile.output.write(f, value, pointer, mask)
