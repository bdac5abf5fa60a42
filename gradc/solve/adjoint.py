"""The continuous adjoint of an integration: the adjoint equation, integrated backwards.

Enters: the field of an integration and how its steps are controlled.  Leaves: a function whose derivative is that of
the flow, not of the steps.  With y' = f(y, t, p) and cotangents ȳ of y at the times,

    λ' = −(∂f/∂y)ᵀ λ,  p̄' = −(∂f/∂p)ᵀ λ  from the last time to the first, λ growing by ȳ at every time,

beside y itself, which begins anew at every time.  Its steps are as long as the errors of y and of one more solution of
the adjoint equation allow, which begins with ones: they do not depend on ȳ, so the rule is linear in ȳ, and can be
transposed for forward mode and differentiated again.
Source: Chen, Rubanova, Bettencourt and Duvenaud, Neural ordinary differential equations (2018), appendix B.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradc import tree
from gradc.api.control import scan
from gradc.api.custom import custom_derivative
from gradc.api.derivatives import vjp
from gradc.node import dsl
from gradc.solve.integrate import Control, Walk, advanced, begun, integrated
from gradc.solve.statuses import IntegrationStatus
from gradc.solve.steps import State
from gradc.solve.unknowns import Traced


def adjoint_solver(
    field: Traced, control: Control, unravel: Callable[[Any], Any], dtype: Any
) -> Callable[[Any, Any, Any], tuple[Any, Walk]]:
    """``solve(y, times, consts) -> (ys, walk)``, differentiated by the adjoint equation."""

    def slope(y: Any, t: Any, consts: Sequence[Any]) -> Any:
        applied = Traced(field.graph, consts, field.given, field.returns)
        return tree.ravel(applied((unravel(y), t)))[0].astype(dtype)

    @custom_derivative
    def solve(y: Any, times: Any, consts: Any) -> tuple[Any, Walk]:
        (ys,), walk = integrated(lambda state, t: (slope(state[0], t, consts),), (y,), times, control)
        return ys, walk

    @solve.defvjp
    def rule(y: Any, times: Any, consts: Any) -> Any:
        ys, walk = solve(y, times, consts)
        return (ys, walk), lambda cotangent: _pulled(slope, control, ys, times, consts, cotangent[0])

    return solve


def _pulled(
    slope: Callable[..., Any], control: Control, ys: Any, times: Any, consts: Sequence[Any], given: Any
) -> tuple[Any, Any, Any]:
    """The cotangents of y at the first time, of the times and of the consts, from those of y at the times."""
    moving = [k for k, c in enumerate(consts) if c.aval.is_float]
    size = ys.shape[1]
    parameters, unravel = tree.ravel([consts[k] for k in moving])

    def filled(parts: Sequence[Any]) -> list[Any]:
        found = list(consts)
        for k, part in zip(moving, parts, strict=True):
            found[k] = part
        return found

    def backward(state: State, t: Any) -> State:
        told, carried = state
        y, probe, lam = told[:size], told[size:], carried[:size]
        there, pull = vjp(lambda y, p: slope(y, t, filled(p)), y, [consts[k] for k in moving])
        (at_probe, _), (at_lam, at_p) = pull(probe), pull(lam)
        grown = [(-at_lam).astype(carried.dtype)]
        if moving:
            grown.append((-tree.ravel(at_p)[0]).astype(carried.dtype))
        return dsl.concatenate([there, -at_probe]), dsl.concatenate(grown)

    def interval(carried: Any, row: tuple[Any, Any, Any, Any]) -> tuple[Any, Any]:
        y, late, early, ct = row
        carried = carried.at[:size].add(ct)
        span = dsl.stack([late, early])
        told = dsl.concatenate([y, 0 * y + 1])
        walk = advanced(backward, begun(backward, (told, carried), span, control), early, early, control)
        fell = walk.y[1] * dsl.where(walk.status == IntegrationStatus.DONE, 1.0, dsl.nan).astype(carried.dtype)
        return fell, dsl.dot(ct, slope(y, late, consts))

    start = dsl.concatenate([0 * ys[0], 0 * parameters]) if moving else 0 * ys[0]
    end, at_times = scan(interval, start, (ys[1:], times[1:], times[:-1], given[1:]), reverse=True)
    first = -dsl.dot(end[:size], slope(ys[0], times[0], consts))
    at_consts: list[Any] = [None] * len(consts)
    for k, part in zip(moving, unravel(end[size:]) if moving else [], strict=True):
        at_consts[k] = part
    return end[:size] + given[0], dsl.concatenate([first[None], at_times]), tuple(at_consts)
