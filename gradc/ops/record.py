"""The record of an op: every facet of one primitive in one place.

Enters: the facets, written once in an op file.  Leaves: an `Op` in `OPS`, which every stage reads.
Invariant: stages dispatch on `Op.kind`; only algebraic rule tables name single ops.  Start reading at `Op`, then at one
kind's file (`elementwise.py`, `views.py`, …), which holds the rules that all ops of the kind share.
"""

from __future__ import annotations

import enum
import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradc.aval import NARROW, Aval, Results, computed_in
from gradc.errors import GradcError, ShapeError
from gradc.node import OPS, Node, here
from gradc.ops.algorithm import Algorithm
from gradc.ops.consistent import ContradictionError

if TYPE_CHECKING:
    from gradc.ops.index import Piece
    from gradc.ops.ranges import Range


class Kind(enum.Enum):
    """What an op does to indices; all that scheduling, batching and code generation need to know of it."""

    INPUT = "input"  #: an argument of the graph, or of a body
    CONSTANT = "constant"  #: an array known at trace
    INDEX = "index"  #: y[i] = f(i): no operands, and no memory
    ELEMENTWISE = "elementwise"  #: y[i] = f(x[i], …); all operands have the shape of the result
    VIEW = "view"  #: y[i] is one element of one operand, or a fill value
    FOLD = "fold"  #: the adjoint of a view that repeats elements: each y[i] sums the x that map to i
    REDUCE = "reduce"  #: axes combined away by one associative operation
    PREFIX = "prefix"  #: running reduction along one axis
    CONTRACT = "contract"  #: einsum of two operands
    GATHER = "gather"  #: y[i, r] = x[idx0[i], …, r]
    SCATTER = "scatter"  #: x with v written (or combined) at computed indices
    SORT = "sort"  #: the permutation that orders along one axis
    WHOLE = "whole"  #: whole arrays made of whole arrays: a factorisation; it may have several results
    SEARCH = "search"  #: where elements would be inserted into an ordered axis
    LOOP = "loop"  #: a body of its own, run many times; several results
    BRANCH = "branch"  #: one of two bodies, whichever a bool chooses; several results
    CALL = "call"  #: a body with a rule of its own: computed again, or differentiated as the user says
    ITEM = "item"  #: one result of a node that has several


#: kinds of nodes without operands
LEAVES = (Kind.INPUT, Kind.CONSTANT, Kind.INDEX)
#: kinds of nodes that hold bodies and have several results
HOLDERS = (Kind.LOOP, Kind.BRANCH, Kind.CALL)
#: the cost of one element that nothing is said of, an addition counting 1: that of a transcendental function
DEAR = 16.0
#: the cost of one element of what is computed where it is read, where its record does not say one
_COST_BY_KIND = {Kind.ELEMENTWISE: DEAR, Kind.GATHER: 1.0}
#: kinds that compute nothing themselves: elements pass as they are
_MOVING = (*HOLDERS, Kind.ITEM, *LEAVES, Kind.VIEW, Kind.GATHER)


def has_results(node: Node) -> bool:
    """Whether a node has several results, which ``item`` nodes read: one that holds bodies, and some factorisations."""
    return isinstance(node.aval, Results)


@dataclass(frozen=True, slots=True)
class Sample:
    """One case of the conformance test of a structured op: operand shapes (dtype float unless said) and attributes."""

    shapes: tuple[tuple[int, ...], ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    #: per operand "float", "bool", "index:N" (random integers in [-N, N)), "definite" (a symmetric positive matrix) or
    #: "regular" (one that is far from singular) or "small" (a tolerance)
    dtypes: tuple[str, ...] = ()


#: for each operand its starts and its steps, along all axes of the result
Boxes = Sequence[tuple[Sequence[int], Sequence[int]]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Op:
    """One primitive.  A facet that an op does not have is None; `tests/test_ops.py` holds who may lack what.

    Its meaning: ``infer(*avals, **attrs)`` is the shape rule, which checks what it is given (`gradc.ops.consistent`),
    ``numpy(*arrays, **attrs)`` the reference value, ``sympy(S, *exprs, **attrs)`` the same for one element, with the
    SymPy module handed in as ``S``; ``source(index, *avals, **attrs)`` is the index formula of a view: for an output
    index, the pieces it may come from.  ``range(node, *ranges)`` is what is known of the values from what is known of
    the operands' (`gradc.ops.ranges`).

    Its derivative is exactly one of these: ``partials(y, *args, **attrs)`` (elementwise: ∂y/∂argᵢ, each a Node, a
    Python number, or None for structurally zero); ``transpose(ct, node, i)`` (linear in the operands named by
    ``linear``: the cotangent of operand i); ``jvp(node, tangents)`` (tangents may be None = structurally zero; returns
    a Node built from linear ops of the tangents, and of an op with several results a sequence of them, one for each).
    A transpose beside partials or a jvp is that of the operands in which the op is linear.  An op with none of them
    says ``constant=True``: its results are integers or truth values, or its derivative is 0 by definition; `register`
    refuses one that says neither.  ``special`` names points at which the op
    branches beside those of its kind, see `special_points`: a number, or one per operand, with the partial derivatives
    there (None: what the mathematics says) where the limits do not decide.

    Its batching: ``batch(node, args, batched, size)`` returns the node for operands that carry a new leading axis where
    ``batched[i]``.

    Its code: ``lower(b, *values, **attrs)`` emits one element of an elementwise op with the builder ``b``; for an index
    ``lower(w, index, **attrs)`` makes one of the loop counters, with the weaver ``w`` of a schedule.  A reduction or a
    running one is written from ``identity``, what it starts with (a number, or a tuple if it keeps several),
    ``element(b, x)``, what an element becomes (None: itself, in the result's dtype), ``combine(b, first, second)``,
    which joins what two stretches became, and ``finish(b, state)``; one to an element, or to its position, from
    ``keeps``.  ``expand(*args, **attrs)`` rewrites the op into others before scheduling instead (one with several
    results gives a sequence of nodes); an op of whole arrays that has no rule of its own is batched and differentiated
    as what it expands to.  ``definition(node)`` is a node of
    the same value that symbolic mode differentiates (None: the expansion), so that it shares no rule with the others.
    """

    name: str
    kind: Kind
    infer: Callable[..., Aval]
    numpy: Callable[..., Any]
    sympy: Callable[..., Any] | None = None
    partials: Callable[..., Sequence[Node | float | None]] | None = None
    transpose: Callable[[Node, Node, int], Node | None] | None = None
    linear: tuple[int, ...] | None = None  #: operands in which the op is linear; None: all, or with `partials` none
    chooses: bool = False  #: the result is operand 1 or 2, whichever operand 0 says
    multilinear: bool = False  #: linear in each of them with the others held (contract), not in all jointly (where)
    jvp: Callable[[Node, Sequence[Node | None]], Any] | None = None
    constant: bool = False  #: no tangent passes, by definition: there is no rule because none is needed
    batch: Callable[[Node, Sequence[Node], Sequence[bool], int], Node] | None = None
    lower: Callable[..., Any] | None = None
    expand: Callable[..., Any] | None = None
    algorithm: Algorithm | None = None  #: of whole arrays: how code does it, where it need not be expanded
    parted: Callable[..., bool] | None = None  #: and for which avals it is expanded, for others share its parts
    definition: Callable[[Node], Node] | None = None
    source: Callable[..., list[Piece]] | None = None
    repeats: bool = False  #: of a view: operand axis k is axis axes[k], repeated where it is 1 long and along the rest
    permutes: bool = False  #: of a view: axis k is operand axis axes[k]
    regroups: bool = False  #: of a view: all elements of the operand in their order, under other axes
    boxes: Callable[[Node], Boxes] | None = None  #: of a fold: where each operand lies in the result, see `Boxes`
    terms: Callable[[Node], int] | None = None  #: of a fold: of how many elements one is the sum, at most
    range: Callable[..., Range] | None = None  #: None: any value, infinite and NaN too
    identity: Any = None  #: of a reduction: what it starts with, see `combine`
    element: Callable[..., Any] | None = None
    combine: Callable[..., Any] | None = None
    finish: Callable[..., Any] | None = None
    keeps: str = ""  #: of a reduction to one of its elements: the builder's comparison that this one wins, gt or lt
    position: bool = False  #: of such a reduction: the result is where that element stands, not what it is
    upper_bound: bool = False  #: of a reduction: no element that it is taken of is larger
    cost: float | None = None  #: of one element, an addition counting 1; None: that of its kind, see `element_cost`
    light: bool = False  #: one or two instructions on every target: a loop may hold several vectors of it
    counts: bool = False  #: of an index: the number of the element along axis "axis"
    stops: bool = False  #: its derivative is 0 by definition, though its value moves
    converts: bool = False  #: the result is the operand in another dtype
    fails: str = ""  #: kinds of result dtypes (NumPy's letters) of which an element can report a failure
    ulp: float | tuple[float, float] | None = None  #: largest error in units in the last place, see `bound`
    scale: Callable[..., Any] | None = None  #: of arrays: the size of the terms that `ulp` counts beside the value
    whole: bool = False  #: small whole numbers give small whole numbers exactly; those with ``ulp=0.5`` do anyway
    moved: Callable[..., Any] | None = None  #: how far errors move the value, see `gradc.ops.rounding`; None: tried out
    perturbed: Callable[..., Any] | None = None  #: the same of whole arrays, see `gradc.ops.factorisations.bounds`
    ordered: bool = False  #: a comparison that the least change decides at a tie
    side: Callable[..., Any] | None = None  #: ``side(value, *arrays, **attrs)``: on which side of each kink or jump
    exact: bool = False  #: the result is an operand, its negative, or a whole number near it: nothing is rounded
    title: str = ""  #: what formulas call its function, if not by its name: "σ"
    sign: str = ""  #: of arithmetic: what is written between its operands
    relation: str = ""  #: of a comparison: the sign that formulas write between its operands
    domain: tuple[tuple[float, float], ...] = ((-3.0, 3.0),)  #: where the conformance test samples each operand
    samples: tuple[Sample, ...] = ()  #: of an elementwise op: its attributes, if it has some
    public: str = ""  #: where users find its function: "special.softsign"; see `gradc.numpy.published`
    special: Mapping[Any, Any] = field(default_factory=dict)  #: point: partial(s) there, by definition or by limit
    singular: str = ""  #: what the derivative is at the op's singular points, in words
    doc: str = ""

    def __repr__(self) -> str:
        return self.name

    @property
    def differentiable(self) -> bool:
        """Whether a tangent can pass; what holds bodies is differentiated by its kind, through them."""
        ruled = self.partials is not None or self.transpose is not None or self.jvp is not None
        return ruled or self.by_expansion or self.kind in (*HOLDERS, Kind.ITEM)

    @property
    def by_expansion(self) -> bool:
        """Whether derivatives are those of what the op expands to."""
        ruled = self.constant or self.partials is not None or self.transpose is not None or self.jvp is not None
        return self.kind is Kind.WHOLE and not ruled

    @property
    def element_cost(self) -> float:
        """What one element costs that is computed where it is read, an addition counting 1."""
        return self.cost if self.cost is not None else _COST_BY_KIND.get(self.kind, 0.0)

    def bound(self, dtype: str) -> float | None:
        """The largest error of code for float32 or float64 over all arguments, in units in the last place of the exact
        result (and of `scale`); 0.5 for what is rounded correctly, None where nothing is said."""
        if not isinstance(self.ulp, tuple):
            return self.ulp
        return self.ulp[dtype == "float64"]

    @property
    def multiplies(self) -> tuple[int, ...]:
        """Of an elementwise op: the operands of which the result is the product with something made of the others."""
        if self.kind is not Kind.ELEMENTWISE or self.linear is None or self.converts:
            return ()
        return self.linear if self.multilinear or len(self.linear) == 1 else ()

    def make(self, args: Sequence[Node], **attrs: Any) -> Node:
        """Apply the op to operands that already obey its contract (dtype and shape); no promotion, no broadcasting."""
        return Node(self, tuple(args), attrs, self.result_of([a.aval for a in args], attrs))

    def result_of(self, avals: Sequence[Aval], attrs: Mapping[str, Any]) -> Aval:
        """The aval of the op on operands of these avals; ShapeError or DTypeError if they contradict each other."""
        error: type[GradcError]
        try:
            return self.infer(*avals, **attrs)
        except ContradictionError as contradiction:
            why, error = str(contradiction), contradiction.error
        except TypeError:
            if _takes(self.infer, avals, attrs):
                raise
            why, error = "it takes other operands or attributes", ShapeError
        given = ", ".join([*map(str, avals), *(f"{k}={v!r:.80}" for k, v in attrs.items())])
        raise error(f"{here()}: {self.name}({given}) contradicts itself: {why}")

    def evaluate(self, *arrays: Any, **attrs: Any) -> Any:
        """The reference value, as NumPy computes it, with IEEE results instead of warnings.

        Of narrow floats it is the value for the same numbers in float32, rounded once; what only moves stays as it is.
        """
        with np.errstate(all="ignore"):
            if self.kind in _MOVING or not any(getattr(a, "dtype", None) in NARROW for a in arrays):
                return self.numpy(*arrays, **attrs)
            avals = [Aval(a.shape, a.dtype) for a in arrays]
            wide = [a.astype(computed_in(a.dtype)) for a in arrays]
            found, aval = self.numpy(*wide, **attrs), self.infer(*avals, **attrs)
            if isinstance(aval, Results):
                return tuple(np.asarray(x).astype(part.dtype) for x, part in zip(found, aval.parts, strict=True))
            return np.asarray(found).astype(aval.dtype)


#: where implementations of functions of numbers branch
_BRANCHES = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, math.inf, -math.inf, math.nan)
_PAIRED = (0.0, -0.0, 1.0, -1.0, 2.0, math.inf, -math.inf, math.nan)


def special_points(op: Op, operands: int) -> list[tuple[float, ...]]:
    """The points at which the conformance tests visit an elementwise op: those of its kind, and those it declares.

    Zeros of both signs, ±1, infinities and NaN; of several operands every combination of them, ties among them.
    """
    default = [(x,) for x in _BRANCHES] if operands == 1 else [*itertools.product(_PAIRED, repeat=operands)]
    declared = [point if isinstance(point, tuple) else (point,) for point in op.special]
    return [*default, *(point for point in declared if point not in default)]


def _takes(infer: Callable[..., Aval], avals: Sequence[Aval], attrs: Mapping[str, Any]) -> bool:
    """Whether a shape rule can be called like this."""
    try:
        inspect.signature(infer).bind(*avals, **attrs)
    except TypeError:
        return False
    return True


def _lacking(op: Op) -> list[str]:
    """The facets without which no stage could do with an op of its kind, each with what it is for."""
    kind, lacks = op.kind, []
    moves = kind not in (*LEAVES, *HOLDERS, Kind.ITEM)
    combined = op.identity is not None and op.combine is not None

    def need(given: object, what: str) -> None:
        if not given:
            lacks.append(what)

    need(op.differentiable or op.constant, "a derivative rule: partials, transpose or jvp, or constant=True")
    if moves:
        need(op.batch or op.expand, "batch: the op on operands with a leading axis")
    if moves and kind is not Kind.ELEMENTWISE:
        need(op.samples, "samples: operand shapes at which it is tested")
    if kind in (Kind.ELEMENTWISE, Kind.INDEX):
        need(op.lower, "lower: the code of one element")
    elif kind in (Kind.VIEW, Kind.FOLD):
        need(op.source, "source: the index formula")
        need(kind is Kind.VIEW or op.terms, "terms: of how many elements one is the sum")
    elif kind is Kind.REDUCE:
        need(op.keeps or combined or op.expand, "identity and combine, or keeps, or expand: how it is computed")
    elif kind is Kind.PREFIX:
        need(combined or op.expand, "identity and combine, or expand: how it is computed")
    elif kind is Kind.WHOLE:
        need(
            op.expand or (op.batch and not op.by_expansion), "expand: its definition in other ops, or rules of its own"
        )
    if kind in (Kind.REDUCE, Kind.PREFIX, Kind.SCATTER) and op.jvp is not None:
        need(op.definition or op.expand, "definition (or expand): what symbolic mode differentiates")
    return lacks


def register(op: Op) -> Op:
    """Enter ``op`` in the registry; a name can be taken once.

    ValueError for one that is half defined, with the facets that are missing; one of them is the derivative, for no
    rule and "constant" are different facts.
    """
    if op.name in OPS:
        raise ValueError(f"op {op.name!r} is registered already")
    if lacks := _lacking(op):
        raise ValueError(f"op {op.name!r} of kind {op.kind.value} is half defined; it lacks " + "; ".join(lacks))
    OPS[op.name] = op
    return op
