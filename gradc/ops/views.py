"""The view and fold kinds: every output element is one operand element (view), or the sum of several (fold).

Attributes are canonical: axes are non-negative, slices are (start, stop, step) with ``len(range(...))`` elements.
`gradc.numpy` normalises what users write.  Adjoint pairs: broadcast/sum, slice/pad, concatenate/slice, windows/fold,
superpose/slice; transposes reach each other through NumPy functions and `OPS`, by name.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradc.aval import Aval, Shape
from gradc.node import OPS, Node, dsl
from gradc.ops.consistent import axes_in, axis_in, extents, lies_inside, one_for_each, refuse, same_dtype
from gradc.ops.index import Coordinate, Piece, linear_index, placed, unravel
from gradc.ops.ranges import ANYTHING, Range, union
from gradc.ops.record import Kind, Op, Sample, register

Array = np.ndarray[Any, Any]
Attrs = Mapping[str, Any]


def view(name: str, *, shifted: Callable[[int, Attrs], Attrs], kind: Kind = Kind.VIEW, **facets: Any) -> Op:
    """Declare a view or fold; ``shifted(size, attrs)`` are its attributes once a leading axis of ``size`` is added."""

    def batch(node: Node, args: Sequence[Node], batched: Sequence[bool], size: int) -> Node:
        full = [a if has else _repeated(a, size) for a, has in zip(args, batched, strict=True)]
        return node.op.make(full, **shifted(size, node.attrs))

    facets.setdefault("range", _one_of)
    return register(Op(name=name, kind=kind, batch=batch, **facets))


def _one_of(node: Node, *xs: Range) -> Range:
    return union(xs)


def _repeated(node: Node, size: int) -> Node:
    return OPS["broadcast"].make((node,), shape=(size, *node.shape), axes=tuple(range(1, node.ndim + 1)))


# -- broadcast: out axis axes[k] shows operand axis k, repeating it where it has length 1 ------------------------------


def _broadcast_infer(x: Aval, shape: Shape, axes: tuple[int, ...]) -> Aval:
    extents(shape)
    one_for_each("axes", axes, x.ndim)
    axes_in(axes, len(shape))
    for n, a in zip(x.shape, axes, strict=True):
        if n not in (1, shape[a]):
            refuse(f"an axis of {n} is shown along one of {shape[a]}")
    return Aval(shape, x.dtype)


def _broadcast_numpy(x: Array, shape: Shape, axes: tuple[int, ...]) -> Array:
    spread = [1] * len(shape)
    for k, axis in enumerate(axes):
        spread[axis] = x.shape[k]
    return np.broadcast_to(np.reshape(x, spread), shape)


def _broadcast_source(index: Sequence[Coordinate], x: Aval, shape: Shape, axes: tuple[int, ...]) -> list[Piece]:
    return [Piece(0, tuple(0 if n == 1 and shape[a] != 1 else index[a] for n, a in zip(x.shape, axes, strict=True)))]


def _broadcast_transpose(ct: Node, node: Node, i: int) -> Node:
    x, axes, shape = node.args[0], node.attrs["axes"], node.attrs["shape"]
    spread = [a for k, a in enumerate(axes) if x.shape[k] == 1 and shape[a] != 1]
    summed = tuple(sorted({*range(len(shape))} - {*axes} | {*spread}))
    total = OPS["sum"].make((ct,), axes=summed) if summed else ct
    return dsl.reshape(total, x.shape)


view(
    "broadcast",
    infer=_broadcast_infer,
    numpy=_broadcast_numpy,
    source=_broadcast_source,
    repeats=True,
    transpose=_broadcast_transpose,
    shifted=lambda size, a: {"shape": (size, *a["shape"]), "axes": (0, *(k + 1 for k in a["axes"]))},
    samples=(
        Sample(((3,),), {"shape": (2, 3), "axes": (1,)}),
        Sample(((2, 1),), {"shape": (2, 3), "axes": (0, 1)}),
        Sample(((),), {"shape": (2, 2), "axes": ()}),
        Sample(((1, 0),), {"shape": (2, 0), "axes": (0, 1)}),
    ),
    doc="Repeat along new axes and along axes of length 1.",
)

# -- reshape, transpose ------------------------------------------------------------------------------------------------


def _reshape_infer(x: Aval, shape: Shape) -> Aval:
    extents(shape)
    if math.prod(shape) != x.size:
        refuse(f"{x.size} elements do not fill {shape}")
    return Aval(shape, x.dtype)


def _transpose_infer(x: Aval, axes: tuple[int, ...]) -> Aval:
    if sorted(axes) != [*range(x.ndim)]:
        refuse(f"axes {tuple(axes)} are no permutation")
    return Aval(tuple([x.shape[a] for a in axes]), x.dtype)


view(
    "reshape",
    infer=_reshape_infer,
    numpy=lambda x, shape: np.reshape(x, shape),
    regroups=True,
    source=lambda index, x, shape: [Piece(0, unravel(linear_index(index, shape), x.shape))],
    transpose=lambda ct, node, i: np.reshape(ct, node.args[0].shape),
    shifted=lambda size, a: {"shape": (size, *a["shape"])},
    samples=(
        Sample(((2, 3),), {"shape": (3, 2)}),
        Sample(((4,),), {"shape": (2, 1, 2)}),
        Sample(((1,),), {"shape": ()}),
        Sample(((0, 2),), {"shape": (3, 0)}),
    ),
    doc="The same elements in row-major order under another shape.",
)


def _inverse(permutation: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argsort(permutation))


view(
    "transpose",
    infer=_transpose_infer,
    numpy=lambda x, axes: np.transpose(x, axes),
    permutes=True,
    source=lambda index, x, axes: [Piece(0, tuple(index[k] for k in _inverse(axes)))],
    transpose=lambda ct, node, i: np.transpose(ct, _inverse(node.attrs["axes"])),
    shifted=lambda size, a: {"axes": (0, *(k + 1 for k in a["axes"]))},
    samples=(Sample(((2, 3),), {"axes": (1, 0)}), Sample(((2, 3, 2),), {"axes": (2, 0, 1)})),
    doc="Axes permuted: output axis k is operand axis axes[k].",
)

# -- slice and its adjoints: pad, superpose ----------------------------------------------------------------------------


def _extent(start: int, stop: int, step: int) -> int:
    return len(range(start, stop, step))


def _slice_infer(x: Aval, starts: Shape, stops: Shape, steps: Shape) -> Aval:
    for what, values in (("starts", starts), ("stops", stops), ("steps", steps)):
        one_for_each(what, values, x.ndim)
    shape = []
    for size, start, stop, step in zip(x.shape, starts, stops, steps, strict=True):
        n = _extent(start, stop, step) if step else -1
        last = start + (n - 1) * step
        if n < 0 or start < 0 or stop < -(step < 0) or (n and not (start < size and 0 <= last < size)):
            refuse(f"{start}:{stop}:{step} is no part of an axis of {size}")
        shape.append(n)
    return Aval(tuple(shape), x.dtype)


def _slice_numpy(x: Array, starts: Shape, stops: Shape, steps: Shape) -> Array:
    parts = zip(starts, stops, steps, strict=True)
    return x[tuple(slice(a, b if b >= 0 else None, s) for a, b, s in parts)]


def _slice_transpose(ct: Node, node: Node, i: int) -> Node:
    """Flip axes of negative step, then place at the lowest index."""
    starts, steps = node.attrs["starts"], node.attrs["steps"]
    if any(s < 0 for s in steps):
        ct = dsl.flip(ct, tuple(k for k, s in enumerate(steps) if s < 0))
        starts = tuple(a + s * (n - 1) if s < 0 and n else a for a, s, n in zip(starts, steps, ct.shape, strict=True))
    return OPS["superpose"].make(
        (ct,), shape=node.args[0].shape, starts=(tuple(starts),), steps=(tuple(abs(s) for s in steps),)
    )


view(
    "slice",
    infer=_slice_infer,
    numpy=_slice_numpy,
    source=lambda index, x, starts, stops, steps: [
        Piece(0, tuple(a + i * s for i, a, s in zip(index, starts, steps, strict=True)))
    ],
    transpose=_slice_transpose,
    shifted=lambda size, a: {"starts": (0, *a["starts"]), "stops": (size, *a["stops"]), "steps": (1, *a["steps"])},
    samples=(
        Sample(((5,),), {"starts": (1,), "stops": (5,), "steps": (2,)}),
        Sample(((4,),), {"starts": (3,), "stops": (-1,), "steps": (-2,)}),
        Sample(((3, 2),), {"starts": (0, 1), "stops": (3, 2), "steps": (1, 1)}),
        Sample(((3,),), {"starts": (2,), "stops": (2,), "steps": (1,)}),
    ),
    doc="Elements start, start + step, … of each axis; a negative stop means down to the first element.",
)


def _pad_infer(x: Aval, shape: Shape, starts: Shape, steps: Shape, fill: float) -> Aval:
    lies_inside(x.shape, starts, steps, shape)
    return Aval(shape, x.dtype)


def _pad_numpy(x: Array, shape: Shape, starts: Shape, steps: Shape, fill: float) -> Array:
    out = np.full(shape, fill, x.dtype)
    out[_region(x.shape, starts, steps)] = x
    return out


def _region(shape: Shape, starts: Sequence[int], steps: Sequence[int]) -> tuple[slice, ...]:
    parts = zip(shape, starts, steps, strict=True)
    return tuple(slice(a, a + (n - 1) * s + 1 if n else a, s) for n, a, s in parts)


def _window_of(ct: Node, shape: Shape, starts: Sequence[int], steps: Sequence[int]) -> Node:
    """The part of ``ct`` where an operand of ``shape`` was placed."""
    region = _region(shape, starts, steps)
    return OPS["slice"].make(
        (ct,), starts=tuple(r.start for r in region), stops=tuple(r.stop for r in region), steps=tuple(steps)
    )


def _pad_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    (t,) = tangents
    return None if t is None else OPS["pad"].make((t,), **{**node.attrs, "fill": 0})


def _pad_range(node: Node, x: Range) -> Range:
    fill = float(node.attrs["fill"])
    if fill == 0:
        return x.among_zeros()
    return x.joined(Range(fill, fill)) if np.isfinite(fill) else x.joined(ANYTHING)


view(
    "pad",
    range=_pad_range,
    infer=_pad_infer,
    numpy=_pad_numpy,
    source=lambda index, x, shape, starts, steps, fill: [placed(index, starts, steps, x.shape, 0)],
    jvp=_pad_jvp,
    transpose=lambda ct, node, i: _window_of(ct, node.args[0].shape, node.attrs["starts"], node.attrs["steps"]),
    shifted=lambda size, a: {
        **a,
        "shape": (size, *a["shape"]),
        "starts": (0, *a["starts"]),
        "steps": (1, *a["steps"]),
    },
    samples=(
        Sample(((3,),), {"shape": (6,), "starts": (1,), "steps": (1,), "fill": 2.5}),
        Sample(((2, 2),), {"shape": (2, 5), "starts": (0, 1), "steps": (1, 2), "fill": 0}),
    ),
    doc="The operand placed at start + step·i in an array of `fill`.",
)


def _superpose_infer(*xs: Aval, shape: Shape, starts: Sequence[Shape], steps: Sequence[Shape]) -> Aval:
    if not xs:
        refuse("nothing is placed")
    same_dtype(xs)
    one_for_each("starts", starts, len(xs))
    one_for_each("steps", steps, len(xs))
    for x, start, step in zip(xs, starts, steps, strict=True):
        lies_inside(x.shape, start, step, shape)
    return Aval(shape, xs[0].dtype)


def _superpose_numpy(*xs: Array, shape: Shape, starts: Sequence[Shape], steps: Sequence[Shape]) -> Array:
    out = np.zeros(shape, xs[0].dtype)
    for x, start, step in zip(xs, starts, steps, strict=True):
        out[_region(x.shape, start, step)] += x
    return out


def _superpose_range(node: Node, *xs: Range) -> Range:
    """Placed among zeros, unless the parts fill every place; where they overlap, sums of them."""
    total = union(xs).repeated_sum(len(xs)) if len(xs) > 1 else xs[0]
    if not _is_filled(node):
        return total.among_zeros()
    overlapping = sum(a.size for a in node.args) > node.size
    return replace(total, zeros=max(x.zeros for x in (*xs, *([total] if overlapping else ()))))


def _is_filled(node: Node) -> bool:
    """Whether the parts of a superpose leave no place out, looking only along axes that some part does not span."""
    parts, starts, steps = node.args, node.attrs["starts"], node.attrs["steps"]
    if sum(a.size for a in parts) < node.size:
        return False
    axes = [k for k, n in enumerate(node.shape) if any(a.shape[k] != n for a in parts)]
    filled = np.zeros([node.shape[k] for k in axes], bool)
    for a, start, step in zip(parts, starts, steps, strict=True):
        if a.size:
            region = _region(a.shape, start, step)
            filled[tuple(region[k] for k in axes)] = True
    return bool(filled.all())


view(
    "superpose",
    boxes=lambda node: [*zip(node.attrs["starts"], node.attrs["steps"], strict=True)],
    terms=lambda node: len(node.args),
    range=_superpose_range,
    kind=Kind.FOLD,
    infer=_superpose_infer,
    numpy=_superpose_numpy,
    source=lambda index, *xs, shape, starts, steps: [
        placed(index, a, s, x.shape, k) for k, (x, a, s) in enumerate(zip(xs, starts, steps, strict=True))
    ],
    transpose=lambda ct, node, i: _window_of(ct, node.args[i].shape, node.attrs["starts"][i], node.attrs["steps"][i]),
    shifted=lambda size, a: {
        "shape": (size, *a["shape"]),
        "starts": tuple((0, *s) for s in a["starts"]),
        "steps": tuple((1, *s) for s in a["steps"]),
    },
    samples=(
        Sample(((2,), (3,)), {"shape": (5,), "starts": ((0,), (1,)), "steps": ((2,), (1,))}),
        Sample(((2, 2), (1, 3)), {"shape": (3, 3), "starts": ((1, 0), (2, 0)), "steps": ((1, 1), (1, 1))}),
    ),
    doc="Zeros, plus each operand added where it is placed: the adjoint of taking slices.",
)

# -- concatenate -------------------------------------------------------------------------------------------------------


def _concatenate_infer(*xs: Aval, axis: int) -> Aval:
    if not xs:
        refuse("nothing is concatenated")
    same_dtype(xs)
    axis_in(axis, xs[0].ndim)
    others = [(x.ndim, x.shape[:axis], x.shape[axis + 1 :]) for x in xs]
    if others.count(others[0]) < len(others):
        refuse("the operands differ along other axes")
    shape = list(xs[0].shape)
    shape[axis] = sum(x.shape[axis] for x in xs)
    return Aval(tuple(shape), xs[0].dtype)


def _offsets(shapes: Sequence[Shape], axis: int) -> list[int]:
    return [0, *itertools.accumulate(s[axis] for s in shapes)]


def _concatenate_source(index: Sequence[Coordinate], *xs: Aval, axis: int) -> list[Piece]:
    def piece(k: int, offset: int) -> Piece:
        starts = [offset if a == axis else 0 for a in range(len(index))]
        return placed(index, starts, [1] * len(index), xs[k].shape, k)

    return [piece(k, offset) for k, offset in enumerate(_offsets([x.shape for x in xs], axis)[:-1])]


def _concatenate_transpose(ct: Node, node: Node, i: int) -> Node:
    axis = node.attrs["axis"]
    offset = _offsets([a.shape for a in node.args], axis)[i]
    starts = [offset if a == axis else 0 for a in range(ct.ndim)]
    return _window_of(ct, node.args[i].shape, starts, [1] * ct.ndim)


view(
    "concatenate",
    infer=_concatenate_infer,
    numpy=lambda *xs, axis: np.concatenate(xs, axis),
    source=_concatenate_source,
    transpose=_concatenate_transpose,
    shifted=lambda size, a: {"axis": a["axis"] + 1},
    samples=(Sample(((2, 2), (1, 2)), {"axis": 0}), Sample(((2, 1), (2, 2), (2, 1)), {"axis": 1})),
    doc="Operands one after another along an axis.",
)

# -- windows and fold --------------------------------------------------------------------------------------------------


def window_count(size: int, window: int, stride: int, dilation: int) -> int:
    """How many windows fit along an axis."""
    return max(0, (size - (window - 1) * dilation - 1) // stride + 1)


def _windows_infer(x: Aval, axes: Shape, sizes: Shape, strides: Shape, dilations: Shape) -> Aval:
    axes_in(sorted(axes), x.ndim)
    for what, values in (("sizes", sizes), ("strides", strides), ("dilations", dilations)):
        one_for_each(what, values, len(axes))
        if min(values, default=1) < (what != "sizes"):
            refuse(f"{what} {tuple(values)} are too small")
    shape = list(x.shape)
    for axis, size, stride, dilation in zip(axes, sizes, strides, dilations, strict=True):
        shape[axis] = window_count(x.shape[axis], size, stride, dilation)
    return Aval((*shape, *sizes), x.dtype)


def _windows_numpy(x: Array, axes: Shape, sizes: Shape, strides: Shape, dilations: Shape) -> Array:
    out = _windows_infer(Aval(x.shape, x.dtype), axes, sizes, strides, dilations)
    if 0 in out.shape:
        return np.zeros(out.shape, x.dtype)
    step = list(x.strides)
    for axis, stride in zip(axes, strides, strict=True):
        step[axis] *= stride
    inner = [x.strides[a] * d for a, d in zip(axes, dilations, strict=True)]
    return np.lib.stride_tricks.as_strided(x, out.shape, (*step, *inner), writeable=False)


def _windows_source(
    index: Sequence[Coordinate], x: Aval, axes: Shape, sizes: Shape, strides: Shape, dilations: Shape
) -> list[Piece]:
    inner = list(index[: len(x.shape)])
    for k, axis in enumerate(axes):
        inner[axis] = index[axis] * strides[k] + index[len(x.shape) + k] * dilations[k]
    return [Piece(0, tuple(inner))]


def _shift_axes(attrs: Attrs) -> Attrs:
    return {**attrs, "axes": tuple(a + 1 for a in attrs["axes"])}


_WINDOW_SAMPLES = (
    Sample(((5,),), {"axes": (0,), "sizes": (2,), "strides": (2,), "dilations": (1,)}),
    Sample(((2, 6),), {"axes": (1,), "sizes": (3,), "strides": (1,), "dilations": (2,)}),
    Sample(((3, 3),), {"axes": (0, 1), "sizes": (2, 2), "strides": (1, 1), "dilations": (1, 1)}),
)
view(
    "windows",
    infer=_windows_infer,
    numpy=_windows_numpy,
    source=_windows_source,
    transpose=lambda ct, node, i: OPS["fold"].make((ct,), shape=node.args[0].shape, **node.attrs),
    shifted=lambda size, a: _shift_axes(a),
    samples=_WINDOW_SAMPLES,
    doc="Sliding windows: axis k shows where the window stands, one appended axis per window axis shows inside it.",
)


def _fold_pieces(x: Shape, axes: Shape, sizes: Shape, strides: Shape, dilations: Shape, shape: Shape) -> Any:
    """For each position inside the window: (position, starts, steps) of where that slice of the operand is added."""
    for inside in itertools.product(*map(range, sizes)):
        starts, steps = [0] * len(shape), [1] * len(shape)
        for k, axis in enumerate(axes):
            starts[axis], steps[axis] = inside[k] * dilations[k], strides[k]
        yield inside, starts, steps


def _fold_infer(x: Aval, shape: Shape, **window: Any) -> Aval:
    shown = _windows_infer(Aval(shape, x.dtype), **window).shape
    if x.shape != shown:
        refuse(f"the windows of {shape} are {shown}")
    return Aval(shape, x.dtype)


def _fold_numpy(x: Array, shape: Shape, **window: Any) -> Array:
    out = np.zeros(shape, x.dtype)
    for inside, starts, steps in _fold_pieces(x.shape, shape=shape, **window):
        part = x[(..., *inside)]
        out[_region(part.shape, starts, steps)] += part
    return out


def _fold_source(index: Sequence[Coordinate], x: Aval, shape: Shape, **window: Any) -> list[Piece]:
    pieces = []
    for inside, starts, steps in _fold_pieces(x.shape, shape=shape, **window):
        outer = placed(index, starts, steps, x.shape[: len(shape)], 0)
        pieces.append(Piece(0, (*outer.index, *inside), outer.guards))
    return pieces


view(
    "fold",
    kind=Kind.FOLD,
    terms=lambda node: math.prod(node.attrs["sizes"]),
    range=lambda node, x: x.among_zeros().repeated_sum(math.prod(node.attrs["sizes"])),
    infer=_fold_infer,
    numpy=_fold_numpy,
    source=_fold_source,
    transpose=lambda ct, node, i: OPS["windows"].make((ct,), **{k: v for k, v in node.attrs.items() if k != "shape"}),
    shifted=lambda size, a: {**_shift_axes(a), "shape": (size, *a["shape"])},
    samples=tuple(
        Sample((_windows_infer(Aval(s.shapes[0], np.dtype("f8")), **s.attrs).shape,), {**s.attrs, "shape": s.shapes[0]})
        for s in _WINDOW_SAMPLES
    ),
    doc="The adjoint of windows: each element sums the window elements that showed it.",
)
