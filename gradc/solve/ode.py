"""odeint: ordinary differential equations in trees, integrated by native loops.

Enters: f(y, t, *args), y at the first time, and times.  Leaves: y at all times, stacked, and on request an
`Integration` that says what it cost and how it ended. Invariant: where an integration failed, its status says so, and y
is NaN from there.  Start reading at `odeint`; the steps are in `gradc.solve.steps`, their control in
`gradc.solve.integrate`, the continuous adjoint in `gradc.solve.adjoint`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradc import tree
from gradc.api.batched import vmap
from gradc.api.bodies import Leaves, closed, ran, required_function
from gradc.api.control import fori_loop, scan
from gradc.aval import Aval
from gradc.errors import ShapeError
from gradc.node import Node, as_node, dsl, here
from gradc.solve import steps
from gradc.solve.adjoint import adjoint_solver
from gradc.solve.integrate import Control, Walk, integrated
from gradc.solve.options import chosen, static_count, static_number
from gradc.solve.reports import Report
from gradc.solve.statuses import IntegrationStatus
from gradc.solve.steps import Field, State
from gradc.solve.unknowns import Traced, like_unknowns, unknowns
from gradc.solve.vectors import epsilon_of

METHODS = (*steps.METHODS, "rk4")


@dataclass(frozen=True)
class Integration(Report):
    """What `odeint` says of an integration on request."""

    STATUSES = IntegrationStatus

    steps: Any  #: that were taken
    rejected: Any  #: tried, and found too long
    stopped: Any  #: whether an event ended the integration
    t: Any  #: when it ended: at the last time, or at the event
    y: Any  #: y then
    status: Any


def odeint(
    f: Callable[..., Any],
    y0: Any,
    t: Any,
    *args: Any,
    method: str = "dopri5",
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int | None = None,
    substeps: int | None = None,
    adjoint: str = "discrete",
    event: Callable[..., Any] | None = None,
    full_output: bool = False,
) -> Any:
    """y at the times ``t``, with y' = ``f(y, t, *args)`` and y = ``y0`` at ``t[0]``, by native loops.

    ``y0`` is a tree, ``f`` returns one like it, and so do results, with an axis for the times in front.  ``t`` rises or
    falls.  ``method``: "dopri5" or "tsit5" (explicit, order 5), "rodas4" (linearly implicit, order 4, for stiff
    equations), each with steps as long as the error of one allows, ``atol`` + ``rtol``·|y| in the root mean square
    (default √ε, 1.5·10⁻⁸ for float64), and values at the times from its own interpolant; "rk4" makes ``substeps`` equal
    steps between two times (default 1).  ``max_steps``: steps between two times at most, 4096 by default.

    Derivatives by ``y0``, ``t``, ``args`` and whatever ``f`` closes over, in both modes and to any order.  ``adjoint``:
    "discrete", the exact derivative of the steps that were made, the sizes of which count as constants; reverse mode
    keeps y at the times, and computes what is between again.  "continuous" integrates the adjoint equation backwards,
    in constant memory, to the same tolerance; for explicit methods.

    ``event(y, t, *args)``: where it crosses zero the integration ends, and results at later times are y there.  With
    ``full_output`` the result is a pair with an `Integration`: steps, status, where it ended.  Results are NaN from
    where an integration failed.

    Raises ShapeError, DTypeError, TypeError and ValueError for arguments that do not fit.

    >>> import gradc as gc, numpy as np
    >>> decay = lambda k: gc.odeint(lambda y, t, k: -k * y, 1.0, np.array([0.0, 1.0]), k)[-1]
    >>> bool(np.isclose(decay(2.0), np.exp(-2.0))), bool(np.isclose(gc.grad(decay)(2.0), -np.exp(-2.0)))
    (True, True)
    """
    whose = "odeint"
    title = required_function(f, whose, "a function f(y, t, *args)")
    given, times = unknowns(y0, "y0", whose), _times(t, whose)
    field = _field(f, args, given, times, title, whose)
    control = None
    method = chosen(method, METHODS, "method", whose)
    if method != "rk4":
        step, order = steps.METHODS[method]
        least = epsilon_of(given) ** 0.5
        control = Control(
            step, order, static_number(least if rtol is None else rtol, "rtol", whose),
            static_number(least if atol is None else atol, "atol", whose),
            static_count(max_steps, "max_steps", whose, 4096),
        )  # fmt: skip
    plan = _Plan(field, given, control, static_count(substeps, "substeps", whose, 1), event, args)
    backward = chosen(adjoint, ("discrete", "continuous"), "adjoint", whose) == "continuous"
    if backward and (control is None or method == "rodas4" or event is not None):
        raise ValueError(
            f"{here()}: {whose}: adjoint='continuous' is for the explicit methods 'dopri5' and 'tsit5', without an "
            "event; leave it out: the discrete adjoint serves all methods"
        )
    whole = plan.with_continuous_adjoint if backward else plan.with_discrete_adjoint
    body, consts = closed(whole, given.nest(given.avals), times.avals[0])
    inputs = [*given.inputs(), *times.inputs()]
    assert body.out_tree is not None
    flat = ran(inputs, body.inlined([*consts, *inputs]), whose, [*given.values, *times.values])
    ys, told = body.out_tree.unflatten(flat)
    return (ys, Integration(*told)) if full_output else ys


def _times(t: Any, whose: str) -> Leaves:
    """One vector of floats, in order where that can be seen."""
    times = unknowns(np.asarray(t) if isinstance(t, (list, tuple)) else t, "t", whose)
    if not times.structure.is_leaf or times.avals[0].ndim != 1 or not times.avals[0].size:
        raise ShapeError(f"{here()}: {whose}: t must be a vector of times, got {', '.join(map(str, times.avals))}")
    if not isinstance(times.values[0], Node):
        gaps = np.diff(times.values[0])
        if not (np.all(gaps >= 0) or np.all(gaps <= 0)):
            raise ValueError(f"{here()}: {whose}: t must rise or fall, got {times.values[0]!r:.80}")
    return times


def _field(f: Callable[..., Any], args: Any, given: Leaves, times: Leaves, title: str, whose: str) -> Traced:
    """f as a traced function of (y, t)."""

    def applied(pair: Any) -> Any:
        return f(pair[0], pair[1], *args)

    applied.__name__ = title
    instant = Aval((), times.avals[0].dtype)
    pair = Leaves.of((given.nest(given.avals), instant), "y", whose)
    pair = Leaves(pair.values, pair.avals, [*given.names, "t"], pair.structure)
    traced = Traced.of(applied, pair)
    graph = like_unknowns(traced.graph, given, f"{whose}: {title}")
    return Traced(graph, traced.consts, pair, given.structure)


@dataclass(frozen=True, eq=False)
class _Plan:
    """What is integrated, and how."""

    field: Traced
    given: Leaves
    control: Control | None  #: of adaptive methods
    substeps: int
    event: Callable[..., Any] | None
    args: tuple[Any, ...]

    def with_discrete_adjoint(self, y: Any, times: Any) -> Any:
        """y at the times, and what is told, by loops whose steps are differentiated."""
        start, unravel = tree.ravel(y)

        def f(state: State, t: Any) -> State:
            return (tree.ravel(self.field((unravel(state[0]), t)))[0].astype(start.dtype),)

        if self.control is None:
            (ys,) = self._equal_steps(f, (start,), times)
            count, none = dsl.int64(self.substeps * (times.size - 1)), dsl.int64(0)
            return vmap(unravel)(ys), (count, none, dsl.bool_(False), times[-1], unravel(ys[-1]), none)
        control = replace(self.control, event=self._event(unravel, times))
        (ys,), walk = integrated(f, (start,), times, control)
        return vmap(unravel)(ys), _told(walk, unravel)

    def _event(self, unravel: Callable[[Any], Any], times: Any) -> Callable[[State, Any], Any] | None:
        if self.event is None:
            return None
        event = self.event

        def value(state: State, t: Any) -> Any:
            found = as_node(event(unravel(state[0]), t, *self.args))
            if found.shape != () or not found.aval.is_float:
                raise ShapeError(f"{here()}: odeint: event must return one float scalar, it returns {found.aval}")
            return found.astype(times.dtype)

        return value

    def _equal_steps(self, f: Field, y: State, times: Any) -> State:
        def interval(y: State, ends: Any) -> tuple[State, State]:
            first, last = ends
            h = (last - first) / self.substeps
            y = fori_loop(0, self.substeps, lambda i, y: steps.classical(f, y, first + i * h, h), y)
            return y, y

        _, ys = scan(interval, y, (times[:-1], times[1:]))
        return tuple(dsl.concatenate([a[None], b]) for a, b in zip(y, ys, strict=True))

    def with_continuous_adjoint(self, y: Any, times: Any) -> Any:
        """The same, by loops that the adjoint equation is solved for."""
        assert self.control is not None
        start, unravel = tree.ravel(y)
        solve = adjoint_solver(self.field, self.control, unravel, start.dtype)
        ys, walk = solve(start, times, tuple(self.field.consts))
        return vmap(unravel)(ys), _told(walk, unravel)


def _told(walk: Walk, unravel: Callable[[Any], Any]) -> tuple[Any, ...]:
    stop = walk.stop.crossed
    t, y = dsl.where(stop, walk.stop.t, walk.t), dsl.where(stop, walk.stop.y[0], walk.y[0])
    return walk.steps, walk.rejected, stop, t, unravel(y), walk.status
