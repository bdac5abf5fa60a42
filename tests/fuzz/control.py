"""Loops, branches, `vmap` and the other transforms, with bodies that are programs of their own.

Enters: a `Scope`.  Leaves: a statement with bodies, taken into it.
Invariant: a carry keeps its shape and dtype, the two branches of a `cond` give the same.  Start reading at `CONTROL`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np

from tests.fuzz.forms import FORMS, Form
from tests.fuzz.language import Array, Body, Statement
from tests.fuzz.scope import NotThisTimeError, Scope, is_float, weighted

#: derivatives of one another in a program: to the third they are promised at kinks, and every one costs as much as all
#: before it
HIGHEST = 3
#: attempts of a body to make a value
ATTEMPTS = 6


def _body(
    scope: Scope, parameters: dict[str, Array], finish: Callable[[Scope], str | None], most: int = 3
) -> tuple[Body, Scope]:
    """A body over ``parameters``; ``finish`` writes what it returns, or nothing if it cannot."""
    inner = scope.inner(parameters)
    wanted = scope.number(1, most)
    for _ in range(ATTEMPTS):
        if len(inner.statements) < wanted:
            _grow(inner)
    result = finish(inner)
    if result is None:
        raise NotThisTimeError
    return Body(scope.fresh("f"), tuple(parameters), tuple(inner.statements), result), inner


def _grow(scope: Scope) -> None:
    with contextlib.suppress(NotThisTimeError):
        scope.likely(POOL if scope.depth < 2 else FLAT)(scope)


def _like(inner: Scope, name: str, a: Array) -> str:
    """An expression with the shape and dtype of ``a``: the newest value that has them, or ``name`` moved by one."""
    for other in reversed(inner.values):
        value = inner.values[other]
        if other != name and value.shape == a.shape and value.dtype == a.dtype and other[0] == "v":
            return f"gnp.tanh({other})" if is_float(a) else other
    floats = [n for n, v in inner.values.items() if is_float(v) and n[0] == "v" and v.size]
    pulled = f"gnp.tanh(gnp.mean({floats[-1]}))" if floats else "0.25"
    return f"gnp.astype(gnp.sin({name}) * 0.5 + {pulled}, {_dtype(a)})"


def _dtype(a: Array) -> str:
    return "gnp.bfloat16" if a.dtype.name == "bfloat16" else f"np.{a.dtype.name}"


def _floats(inner: Scope) -> str | None:
    """The newest float value."""
    return next((n for n in reversed(inner.values) if is_float(inner.values[n])), None)


def scan(scope: Scope) -> bool:
    """A scan over the rows of one value, or of a few steps, with one or two carries."""
    init = scope.float()
    xs = scope.float(1, lambda a: a.shape[0] > 0) if scope.chance(0.8) else None
    c, x, d = scope.fresh("p"), scope.fresh("p"), scope.fresh("p")
    carry = scope.values[init]
    two = scope.chance(0.3)
    parameters = {c: carry} | ({d: carry} if two else {}) | ({} if xs is None else {x: scope.values[xs][0]})

    def finish(inner: Scope) -> str | None:
        y = _floats(inner)
        moved = _like(inner, c, carry)
        return f"({moved}, gnp.sin({c})), {y}" if two else f"{moved}, {y}"

    body, _ = _body(scope, parameters, finish)
    state, row = f"p{next(scope.counter)}", "" if xs is None else f", {x}"
    unpack = f"lambda {state}, {x}: {body.name}({state}[0], {state}[1]{row})"
    plain = f"lambda {state}, {x}: {body.name}({state}{row})"
    start = f"({init}, {init})" if two else init
    over = f"{xs}" if xs is not None else f"None, length={scope.number(1, 4)}"
    options = ", reverse=True" if scope.chance(0.2) else ", unroll=2" if scope.chance(0.1) else ""
    made = scope.fresh(), scope.fresh()
    text = f"gc.scan({unpack if two else plain}, {start}, {over}{options})"
    if two:
        text = f"(lambda r: (r[0][0] * r[0][1], r[1]))({text})"
    return scope.accept(Statement(made, text, "scan", (body,)))


def fori_loop(scope: Scope) -> bool:
    """A few steps over one carry; the body sees the step."""
    init = scope.float()
    i, c = scope.fresh("p"), scope.fresh("p")
    carry = scope.values[init]
    body, _ = _body(scope, {i: np.asarray(1), c: carry}, lambda inner: _like(inner, c, carry))
    low = scope.number(0, 2)
    text = f"gc.fori_loop({low}, {low + scope.number(0, 4)}, {body.name}, {init})"
    return scope.accept(Statement((scope.fresh(),), text, "fori_loop", (body,)))


def while_loop(scope: Scope) -> bool:
    """Steps counted by a value: a loop whose length is known only when it runs."""
    init = scope.float()
    c = scope.fresh("p")
    carry = scope.values[init]
    body, _ = _body(scope, {c: carry}, lambda inner: _like(inner, c, carry))
    state = f"p{next(scope.counter)}"
    count = str(scope.number(1, 4))
    if scope.chance(0.5):
        count = f"gnp.astype(abs(gnp.sum(gnp.sin({init}))) * 3, np.int64) % 4"
    text = (
        f"gc.while_loop(lambda {state}: {state}[0] < {count}, "
        f"lambda {state}: ({state}[0] + 1, {body.name}({state}[1])), (0, {init}), max_steps={scope.number(5, 8)})[1]"
    )
    return scope.accept(Statement((scope.fresh(),), text, "while_loop", (body,)))


def cond(scope: Scope) -> bool:
    """Two branches, chosen by a value."""
    x = scope.float()
    p, q = scope.fresh("p"), scope.fresh("p")
    a = scope.values[x]
    first, _ = _body(scope, {p: a}, lambda inner: _like(inner, p, a), 2)
    second, _ = _body(scope, {q: a}, lambda inner: _like(inner, q, a), 2)
    chooser = scope.float(fits=lambda v: v.size > 0)
    text = f"gc.cond(gnp.sum({chooser}) > {scope.one_of((0, 0.3))}, {first.name}, {second.name}, {x})"
    return scope.accept(Statement((scope.fresh(),), text, "cond", (first, second)))


def vmap(scope: Scope) -> bool:
    """A body for one row, mapped over an axis of one or two values."""
    x = scope.float(1, lambda a: min(a.shape) > 0)
    a = scope.values[x]
    axis = scope.number(0, a.ndim - 1)
    p, q = scope.fresh("p"), scope.fresh("p")
    others = [n for n, v in scope.values.items() if is_float(v) and v.ndim and v.shape[0] == a.shape[axis]]
    other, along = (str(scope.one_of(others)), "0") if others and scope.chance(0.6) else (x, "None")
    row = scope.values[other][0] if along == "0" else scope.values[other]
    body, _ = _body(scope, {p: np.take(a, 0, axis), q: row}, _floats)
    out = scope.one_of(("", "", ", out_axes=-1"))
    text = f"gc.vmap({body.name}, in_axes=({axis}, {along}){out})({x}, {other})"
    return scope.accept(Statement((scope.fresh(),), text, "vmap", (body,)))


def _called(form: str, wrap: str) -> Callable[[Scope], bool]:
    """A body that is called once through a transform which keeps its values."""

    def make(scope: Scope) -> bool:
        x, y = scope.float(), scope.float()
        p, q = scope.fresh("p"), scope.fresh("p")
        body, _ = _body(scope, {p: scope.values[x], q: scope.values[y]}, _floats)
        return scope.accept(Statement((scope.fresh(),), f"{wrap.format(body.name)}({x}, {y})", form, (body,)))

    return make


def custom_derivative(scope: Scope) -> bool:
    """A function with its own derivative given as a rule, in either direction; the rule may call custom functions."""
    x = scope.float()
    p = scope.fresh("p")
    inner = Scope(scope.random, {p: scope.values[x]}, [], scope.counter, scope.depth + 1)  # reads nothing from outside
    for _ in range(ATTEMPTS):
        if len(inner.statements) < 2:
            _grow(inner)
    result = _floats(inner)
    if result is None:
        raise NotThisTimeError
    body = Body(scope.fresh("f"), (p,), tuple(inner.statements), result)
    rule = scope.one_of((
        f"jvp=lambda primals, tangents: gc.jvp({body.name}, primals, tangents)",
        f"vjp=lambda p: gc.vjp({body.name}, p)",
    ))  # fmt: skip
    text = f"gc.custom_derivative({body.name}, {rule})({x})"
    return scope.accept(Statement((scope.fresh(),), text, "custom_derivative", (body,)))


def _derivative(form: str, wrap: str) -> Callable[[Scope], bool]:
    """A derivative inside the program; ``wrap`` takes the body and the value."""

    def make(scope: Scope) -> bool:
        x = scope.float(fits=lambda a: 0 < a.size <= 6)
        p = scope.fresh("p")

        def finish(inner: Scope) -> str | None:
            name = _floats(inner)
            if name is None:
                return None
            return name if form in ("jacobian", "jvp", "vjp") else f"gnp.sum(gnp.sin({name}))"

        body, _ = _body(scope, {p: scope.values[x]}, finish, 2)
        statement = Statement((scope.fresh(),), wrap.format(f=body.name, x=x), form, (body,))
        if statement.order() > HIGHEST:
            raise NotThisTimeError
        return scope.accept(statement)

    return make


CONTROL: dict[str, Form] = {
    "scan": scan, "fori_loop": fori_loop, "while_loop": while_loop, "cond": cond, "vmap": vmap,
    "checkpoint": _called("checkpoint", "gc.checkpoint({})"), "jit": _called("jit", "gc.jit({})"),
    "custom_derivative": custom_derivative, "grad": _derivative("grad", "gc.grad({f})({x})"),
    "value_and_grad": _derivative("value_and_grad", "gc.value_and_grad({f})({x})[1]"),
    "jvp": _derivative("jvp", "gc.jvp({f}, ({x},), (gnp.cos({x}),))[1]"),
    "vjp": _derivative("vjp", "(lambda r: r[1](r[0]))(gc.vjp({f}, {x}))[0]"),
    "hvp": _derivative("hvp", "gc.hvp({f}, ({x},), (gnp.cos({x}),))[0]"),
    "jacobian": _derivative("jacobian", "gc.jacobian({f})({x})"),
    "hessian": _derivative("hessian", "gc.hessian({f})({x})"),
}  # fmt: skip
#: what a statement of a body may be, with weights: bodies in bodies only so deep
POOL = weighted((*FORMS, *((form, 0.3) for form in CONTROL.values())))
FLAT = weighted(FORMS)
