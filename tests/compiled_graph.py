"""Graphs compiled and called with ctypes alone, between guard bytes: what the tests of schedule and codegen stand on.

Enters: a `Graph`.  Leaves: `Compiled`, a callable from arrays to arrays.
Invariant: inputs end at a page that must not be read and outputs lie between bytes that must not change, so a vector
that reaches outside an array is a crash or a failed test, never luck.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradc.aval import is_float
from gradc.codegen import arena_bytes, emit
from gradc.codegen.fork import calls_fork
from gradc.codegen.ir import Module
from gradc.codegen.target import Target
from gradc.graph import Graph
from gradc.node import OPS, Node
from gradc.passes.accumulate import accumulate, is_narrow_sum
from gradc.passes.expand import expand, expand_all
from gradc.runtime.load import load
from gradc.runtime.pool import fork_symbols
from gradc.schedule import Schedule, schedule
from gradc.trace import spec

Array = np.ndarray[Any, Any]

HOST = Target.host()
GUARD = 64
FILL = 0xA5


def leaf(shape: Sequence[int] | int = (), dtype: Any = np.float32) -> Node:
    """An input of a graph."""
    aval = spec(shape, dtype)
    return Node(OPS["input"], (), {"aval": aval}, aval)


def apply(name: str, *args: Node, **attrs: Any) -> Node:
    """Op ``name`` on operands that already fit."""
    return OPS[name].make(args, **attrs)


def expanded(graph: Graph, algorithms: bool = True) -> Graph:
    """``graph`` with ops that are written in other ops replaced by those, and narrow sums taken in float32; for a
    machine that knows no ``algorithms``, those of whole matrices too."""
    written = expand if algorithms else expand_all
    return written(accumulate(graph) if any(map(is_narrow_sum, graph.nodes)) else graph)


class Compiled:
    """A graph, or one kernel's module, as a callable; `status` is the status word of the last call."""

    def __init__(self, module: Module, name: str, outputs: Sequence[tuple[tuple[int, ...], Any]], arena: int):
        self.ir = str(module)
        self._code = load(self.ir, name, use_cache=False, symbols=fork_symbols(2) if calls_fork(self.ir) else {})
        self._run = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(self._code.address)
        self.outputs, self.arena_bytes, self.status = outputs, arena, 0

    def __call__(self, inputs: Sequence[Array], results: Mapping[int, Array] | None = None) -> list[Array]:
        """Outputs for ``inputs``; ``results`` gives arrays to write some outputs into."""
        placed = [at_page_end(a) for a in inputs]
        given = results or {}
        guarded = [_guarded(shape, dtype) for shape, dtype in self.outputs]
        made = [given.get(k, array) for k, (_, array) in enumerate(guarded)]
        arena = np.full(self.arena_bytes + 2 * GUARD, FILL, np.uint8)
        begin = -arena.ctypes.data % GUARD
        status = np.zeros(1, np.int64)
        self._run(_pointers(placed), _pointers(made), arena.ctypes.data + begin, status.ctypes.data)
        self.status = int(status[0])
        for raw, array in guarded:
            around = np.concatenate([raw[:GUARD], raw[GUARD + array.nbytes :]])
            assert (around == FILL).all(), "wrote outside an output"
        assert (arena[begin + self.arena_bytes :] == FILL).all(), "wrote outside the arena"
        return made


class CompiledGraph:
    """A graph with its schedule and its code."""

    def __init__(self, graph: Graph, donated: Mapping[int, int] | None = None, fp: str = "ieee", threads: int = 1):
        self.graph = expanded(graph)
        self.schedule: Schedule = schedule(self.graph, donated=donated, target=HOST, threads=threads)
        shapes = [(n.shape, n.dtype) for n in self.graph.outputs]
        self.code = Compiled(emit(self.schedule, HOST, "main", fp), "main", shapes, arena_bytes(self.schedule, HOST))

    def __call__(self, *arrays: Any) -> list[Array]:
        """Outputs; a donated argument is copied first, and its copy is the output."""
        inputs = [np.array(a, dtype=n.dtype).reshape(n.shape) for a, n in zip(arrays, self.graph.inputs, strict=True)]
        donors = self.schedule.donated
        pinned = [at_page_end(a) for a in inputs]
        results = {j: pinned[i] for i, j in donors.items()}
        return self.code([*pinned, *self.schedule.arrays], results)

    @property
    def status(self) -> int:
        return self.code.status


def compiled(*outputs: Node, inputs: Sequence[Node], **options: Any) -> CompiledGraph:
    """The compiled graph from ``inputs`` to ``outputs``."""
    return CompiledGraph(Graph(tuple(inputs), outputs), **options)


def _pointers(arrays: Sequence[Array]) -> Any:
    return (ctypes.c_void_p * max(1, len(arrays)))(*[a.ctypes.data for a in arrays])


def _guarded(shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    raw = np.full(size + 2 * GUARD, FILL, np.uint8)
    return raw, raw[GUARD : GUARD + size].view(dtype).reshape(shape)


_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_pinned: dict[int, Any] = {}


def at_page_end(array: Array) -> Array:
    """A copy whose last byte lies right before a page that may not be touched (a plain copy off Linux)."""
    array = np.ascontiguousarray(array).reshape(array.shape)
    if _libc is None or array.ctypes.data in _pinned:  # there already
        return array
    page = mmap.PAGESIZE
    pages = -(-max(array.nbytes, 1) // page)
    region = mmap.mmap(-1, (pages + 1) * page)
    whole = np.frombuffer(region, np.uint8)
    _libc.mprotect(ctypes.c_void_p(whole.ctypes.data + pages * page), ctypes.c_size_t(page), 0)
    start = pages * page - array.nbytes
    copy = whole[start : pages * page].view(array.dtype).reshape(array.shape)
    copy[...] = array
    _pinned[copy.ctypes.data] = region
    if len(_pinned) > 256:
        _pinned.clear()
    return copy


def same_bits(x: Array, y: Array) -> bool:
    """Equal bit for bit, any NaN being equal to any other."""
    x, y = np.asarray(x), np.asarray(y)
    if x.dtype != y.dtype or x.shape != y.shape:
        return False
    if not is_float(x.dtype):
        return bool((x == y).all())
    whole = np.dtype(f"u{x.dtype.itemsize}")
    equal = np.ascontiguousarray(x).view(whole) == np.ascontiguousarray(y).view(whole)
    with np.errstate(invalid="ignore"):  # signalling NaN of bfloat16
        return bool((equal | (np.isnan(x) & np.isnan(y))).all())
