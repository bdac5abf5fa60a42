"""What the disk remembers of a compilation: with it, a known graph becomes a callable without any stage in between.

Enters: a traced graph and the options it is compiled with.  Leaves: a key, and under it a `Record`: the facts that a
callable needs, and the key of its object file.
Invariant: the key holds everything that decides the object: ops, attributes, avals and every constant by type and
bits, the options, the target, and the versions of gradc, NumPy and LLVM — of gradc, the content of each of its files,
so that an edited one forgets what older ones made.  A graph with a part that has no such name (an op from elsewhere,
whose meaning may change with its file; an attribute of an unknown kind) has no key: its stages run each time.
Start reading at `graph_key`.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gradc.aval import Aval, Results
from gradc.graph import Graph
from gradc.machines.options import Options
from gradc.ops.custom import BodyRule
from gradc.ops.record import Kind, Op
from gradc.ops.sparse import Structure
from gradc.runtime import cache as disk
from gradc.runtime.load import target_info
from gradc.version import __version__

Array = np.ndarray[Any, Any]
_PACKAGE = Path(__file__).resolve().parent.parent
#: Rooms that have no say in what the compiler makes of a graph.
_NOT_THE_COMPILER = frozenset(("__pycache__", "cli", "data", "explain", "explorer", "oracle"))
_CODE = (".py", ".pyc", ".so", ".pyd")
_LENGTH = struct.Struct("<Q")
#: Types whose ``repr`` tells their value bit for bit (no NaN has a payload here that code could see).
_PLAIN = frozenset((type(None), bool, int, float, str, bytes))


class _NamelessError(Exception):
    """Part of a graph has no name that means the same in another process."""


# -- the key -----------------------------------------------------------------------------------------------------------


def graph_key(graph: Graph, options: Options) -> str | None:
    """The hexadecimal digest of everything that decides the object of ``graph``; None if part of it has no name."""
    digest = hashlib.sha256(b"gradc graph\0")
    try:
        for part in (*_surroundings(options), *_graph(graph)):
            digest.update(_LENGTH.pack(len(part)))
            digest.update(part)
    except _NamelessError:
        return None
    return digest.hexdigest()


def _surroundings(options: Options) -> Iterator[bytes]:
    info = target_info()
    o = options
    yield repr((o.fp, o.cpu, o.threads, sorted(o.donate.items()), o.budget, o.watch)).encode()
    yield repr((info.triple, info.cpu, sorted(info.features.items()))).encode()
    yield repr((info.llvm_version, info.llvmlite_version)).encode()
    yield repr((__version__, np.__version__, _state_of_the_compiler())).encode()


@cache
def _state_of_the_compiler() -> str:
    """A digest of gradc's own code: of the content of each of its files, whatever their times say.

    An installation without sources has its compiled modules, or the archive that holds them all.
    """
    archive = getattr(getattr(__spec__, "loader", None), "archive", None)
    places = [archive] if archive else sorted(_files_of_the_compiler())
    if not places:
        raise _NamelessError
    digest = hashlib.sha256()
    for place in places:
        with open(place, "rb", buffering=0) as file:
            content = file.read()
        digest.update(f"{os.path.relpath(place, _PACKAGE)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _files_of_the_compiler() -> Iterator[str]:
    for folder, folders, files in os.walk(_PACKAGE):
        folders[:] = [f for f in folders if f not in _NOT_THE_COMPILER]
        yield from (os.path.join(folder, name) for name in files if name.endswith(_CODE))


@dataclass(frozen=True)
class _Met:
    """What was met on the way, numbered in that order, which is the same in any process."""

    replicas: dict[int, int]  #: numbers of what is computed again
    graphs: dict[Graph, int]  #: bodies: one that several nodes hold is described once


def _graph(graph: Graph, met: _Met | None = None) -> Iterator[bytes | memoryview]:
    """What a graph computes."""
    met = _Met({0: 0}, {}) if met is None else met
    numbers = graph.index
    yield repr(([numbers[n] for n in graph.inputs], [numbers[n] for n in graph.outputs])).encode()
    lines: list[str] = []
    large: list[Any] = []
    avals: dict[tuple[Any, ...], str] = {}
    for node in graph.nodes:
        if not _is_ours(node.op):
            raise _NamelessError
        a = node.aval
        kind = (a.shape, id(a.dtype), a.weak) if type(a) is Aval else (a,)
        aval = avals.get(kind)
        if aval is None:
            aval = avals[kind] = _aval(a)
        attrs = ""
        if node.attrs and node.op.kind is not Kind.INPUT:  # what an input says of its trace is nothing to the code
            attrs = ";".join([f"{name}={_name(value)}" for name, value in node.attrs.items()])
            large += [v for v in node.attrs.values() if type(v) not in _PLAIN]
        replica = met.replicas.setdefault(node.replica, len(met.replicas))
        lines.append(f"{node.op.name}{[numbers[x] for x in node.args]}{attrs} {aval} {replica}")
    yield "\n".join(lines).encode()
    for value in large:
        yield from _large(value, met)


@cache
def _is_ours(op: Op) -> bool:
    """Whether all of the op's rules are gradc's own."""
    rules = (rule for rule in (getattr(op, name) for name in op.__dataclass_fields__) if callable(rule))
    return all(str(getattr(rule, "__module__", None)).partition(".")[0] in ("gradc", "numpy") for rule in rules)


def _aval(aval: Aval) -> str:
    if isinstance(aval, Results):
        return f"({','.join(map(_aval, aval.parts))})"
    return f"{aval.dtype.name}{aval.shape}{'~' * aval.weak}"


def _name(value: Any) -> str:
    """An attribute's value by type and bits; what `_large` yields is only described."""
    kind = type(value)
    if kind in _PLAIN:
        return repr(value)
    if kind is tuple or kind is list:
        return f"{kind.__name__}({','.join([_name(x) for x in value])})"
    if kind is slice:
        return f"slice({_name(value.start)},{_name(value.stop)},{_name(value.step)})"
    if isinstance(value, np.ndarray):
        return f"array({value.dtype.name}{value.shape})"
    if isinstance(value, np.generic):
        return f"{value.dtype.name}{value.tobytes().hex()}"
    if isinstance(value, np.dtype):
        return value.name
    if kind is Aval or kind is Results:
        return _aval(value)
    if kind is Graph:
        return "graph"
    if isinstance(value, Structure):
        return f"structure {value.digest}"
    if isinstance(value, BodyRule):  # what no derivative was taken of compiles as its body
        return "rule"
    raise _NamelessError


def _large(value: Any, met: _Met) -> Iterator[bytes | memoryview]:
    """The contents of arrays and graphs in an attribute."""
    if isinstance(value, np.ndarray):
        yield _bytes(value)
    elif type(value) is Graph:
        known = met.graphs.get(value)
        if known is not None:
            yield f"graph {known}".encode()
        else:
            met.graphs[value] = len(met.graphs)
            yield from _graph(value, met)
    elif type(value) in (tuple, list):
        for x in value:
            yield from _large(x, met)


# -- the record --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """What a callable needs to know of its code.

    ``arrays`` are the captured ones, in the order of the pointer block; ``seconds`` is an
    estimate that stops counting at `RELEASE_GIL_SECONDS`; ``shares``: whether the code calls the fork-join
    of threads; ``polls``: whether it looks now and then if to end; ``notes`` are what passes reported;
    ``object_key`` is where the disk keeps the object.
    """

    object_key: str
    arena_bytes: int
    flops: int
    bytes: int
    kernels: int
    seconds: float
    shares: bool
    polls: bool
    notes: tuple[str, ...]
    arrays: tuple[Array, ...]


_FACTS = ("object_key", "arena_bytes", "flops", "bytes", "kernels", "seconds", "shares", "polls", "notes")


def remember(key: str, record: Record, graph: Graph) -> None:
    """Write ``record`` under the key of ``graph``; captured arrays that stand in the graph are only pointed to."""
    store = disk.default()
    if store is None:
        return
    known = {_content(value): (k, name) for k, name, value in _captured(graph)} if record.arrays else {}
    places = [known.get(_content(array)) for array in record.arrays]
    arrays = [
        [array.dtype.name, array.shape] if place is None else place
        for array, place in zip(record.arrays, places, strict=True)
    ]
    contents = [a.tobytes() for a, place in zip(record.arrays, places, strict=True) if place is None]
    facts = {name: getattr(record, name) for name in _FACTS} | {"arrays": arrays}
    head = json.dumps(facts).encode()
    store.put(key, b"".join([_LENGTH.pack(len(head)), head, *contents]))


def recall(key: str, graph: Graph) -> Record | None:
    """The record under the key of ``graph``, if there is one."""
    store = disk.default()
    data = store.get(key) if store is not None else None
    if data is None:
        return None
    (length,) = _LENGTH.unpack_from(data)
    head = json.loads(data[_LENGTH.size : _LENGTH.size + length])
    arrays = tuple(_arrays(head.pop("arrays"), graph, memoryview(data)[_LENGTH.size + length :]))
    return Record(**head | {"notes": tuple(head["notes"]), "arrays": arrays})


def _captured(graph: Graph) -> Iterator[tuple[int, str, Array]]:
    """Arrays among the attributes of a graph's own nodes: position, attribute, value."""
    for k, node in enumerate(graph.nodes):
        for name, value in node.attrs.items():
            if isinstance(value, np.ndarray):
                yield k, name, value


def _content(array: Array) -> tuple[str, tuple[int, ...], bytes]:
    return array.dtype.name, array.shape, hashlib.sha256(_bytes(array)).digest()


def _bytes(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _arrays(described: Sequence[Any], graph: Graph, contents: memoryview) -> Iterator[Array]:
    at = 0
    for first, second in described:
        if isinstance(first, int):
            value = graph.nodes[first].attrs[second]
            yield np.ascontiguousarray(value).reshape(value.shape)
        else:
            dtype = np.dtype(first)
            size = int(np.prod(second, dtype=np.int64))
            yield np.frombuffer(contents, dtype, size, at).reshape(second).copy()
            at += size * dtype.itemsize
