"""What is told of an origin: the op, the user's line and variable, the phase, the step, the elements, and why.

Enters: `Origin`s and the graph that they were found in.  Leaves: `Fault`, whose ``str`` a user reads.
Start reading at `told`.
"""

from __future__ import annotations

import linecache
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.aval import finfo
from gradc.diagnostics.kinds import CALLED, shows
from gradc.diagnostics.origin import Origin, cause, phase_of
from gradc.graph import Graph
from gradc.node import Node
from gradc.ops.control import every_body
from gradc.ops.record import Kind
from gradc.places import PHASES, Where

Array = np.ndarray[Any, Any]
#: what the argument of a step is called that an optimizer counts its steps in
STATE = "state"


@dataclass(frozen=True)
class Fault:
    """The first node at which a number of a kind appears that reaches a result.

    ``kind`` is "nan", "overflow" (an infinity), "denormal" or "underflow"; ``op`` the op, or "argument" or "constant"
    where the number came in; ``where`` the user's line, ``text`` how it reads; ``variable`` the user's name of the
    value, "" if there is none; ``phase`` "forward pass", "backward pass", "forward-mode derivative" or "update";
    ``step`` how many steps an optimizer had taken whose state is an argument, None without one; ``loops`` for each loop
    that the node is in its line and the step that it had come to, from the outermost one on; ``index`` the element of
    the node's value, ``value`` that element, ``elements`` how many are of the kind and reach a result; ``operands``
    what it was made of, by name: for an elementwise op the elements at ``index``, else None for each; ``why`` says it
    in words; ``cause`` is the Fault of the infinity that a NaN was made of, if it has an origin of its own.
    """

    kind: str
    op: str
    where: Where | None
    text: str
    variable: str
    phase: str
    step: int | None
    loops: tuple[tuple[Where | None, int], ...]
    index: tuple[int, ...]
    value: float
    elements: int
    shape: tuple[int, ...]
    operands: tuple[tuple[str, float | None], ...]
    why: str
    cause: Fault | None = None

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        size = int(np.prod(self.shape))
        of = f" ({self.elements} of its {size} elements)" if size > 1 else ""
        what = self.variable or f"the result of {self.op}"
        place = "" if self.where is None else f"{self.where}: "
        head = f"{place}first {CALLED[self.kind]} in the {self.phase}: {what}{_index(self.index)}{of}"
        lines = [head, f"  {self.why}"]
        if self.text:
            lines.append(f"  line: {self.text}")
        lines += [f"  at step {step} of the loop at {where or 'unknown line'}" for where, step in self.loops]
        if self.step is not None:
            lines.append(f"  when the optimizer had taken {self.step} step{'s' if self.step != 1 else ''}")
        if self.cause is not None:
            lines.append("  what it was made of: " + "\n  ".join(str(self.cause).splitlines()))
        return lines


def told(origin: Origin, outermost: Graph, arrays: Sequence[Any]) -> Fault:
    """What is told of ``origin``, found in ``outermost`` for these arguments."""
    because = cause(origin)
    return _fault(origin, outermost, arrays, None if because is None else _fault(because, outermost, arrays, None))


def _fault(origin: Origin, outermost: Graph, arrays: Sequence[Any], because: Fault | None) -> Fault:
    node = origin.node
    names = {n: name for body in every_body(outermost) for n, name in body.names.items()}
    index = tuple(int(i) for i in np.argwhere(origin.mask)[0])
    value = np.asarray(origin.values[node])[index]
    leaf = {Kind.INPUT: "argument", Kind.CONSTANT: "constant"}.get(node.op.kind)
    where = None if node.op.kind is Kind.INPUT else node.where
    return Fault(
        kind=origin.kind,
        op=leaf or node.op.title or node.op.name,
        where=where,
        text="" if where is None else linecache.getline(where.file, where.line).strip(),
        variable=names.get(node, ""),
        phase=PHASES[phase_of(origin)],
        step=_steps_taken(outermost, arrays),
        loops=tuple((holder.where, step) for holder, step in origin.inside if step is not None),
        index=index,
        value=float(value),
        elements=int(np.sum(origin.mask)),
        shape=node.shape,
        operands=_operands(origin, index, names),
        why=_why(origin, index),
        cause=because,
    )


def _steps_taken(graph: Graph, arrays: Sequence[Any]) -> int | None:
    """The first whole number in an argument called ``state``: how many steps an optimizer has taken."""
    for x, array in zip(graph.inputs, arrays, strict=True):
        if x.dtype.kind in "iu" and x.shape == () and graph.names.get(x, "").partition("[")[0] == STATE:
            return int(array)
    return None


def _operands(
    origin: Origin, index: tuple[int, ...], names: Mapping[Node, str]
) -> tuple[tuple[str, float | None], ...]:
    elementwise = origin.node.op.kind is Kind.ELEMENTWISE
    return tuple(
        (names.get(a, ""), float(np.asarray(origin.values[a])[index]) if elementwise else None)
        for a in origin.node.args
    )


# -- why ---------------------------------------------------------------------------------------------------------------
def _why(origin: Origin, index: tuple[int, ...]) -> str:
    node = origin.node
    if node.op.kind is Kind.INPUT:
        return f"it came in with the argument{_more(origin)}"
    if node.op.kind is Kind.CONSTANT:
        return "it is a constant of the function"
    if node.op.kind is Kind.ELEMENTWISE:
        return _why_element(origin, [np.asarray(origin.values[a])[index] for a in node.args], index)
    return _why_whole(origin)


def _more(origin: Origin) -> str:
    return "" if origin.mask.all() else f"; {int(np.sum(origin.mask))} of {origin.node.size} elements reach a result"


def _why_element(origin: Origin, numbers: Sequence[Any], index: tuple[int, ...]) -> str:
    """``exp(710.0) is larger than any float64 (1.8e+308)``."""
    node = origin.node
    value = np.asarray(origin.values[node])[index]
    said = f"{_written(node, numbers)} is {_number(value)}"
    if node.op.chooses:
        return f"{_condition(origin, bool(numbers[0]), index)}: there the value is {_number(value)} by definition"
    if origin.kind == "nan":
        return f"{said}: there is no such number"
    if origin.kind == "overflow":
        if _is_finite_in_wider(node, numbers):
            return f"{said}: larger than any {node.dtype} ({float(finfo(node.dtype).max):.3g})"
        return f"{said}: a pole"
    least = float(finfo(node.dtype).smallest_normal)
    return f"{said}: smaller than the least normal {node.dtype} ({least:.3g})"


def _condition(origin: Origin, holds: bool, index: tuple[int, ...]) -> str:
    """``less(-2.0, 0.0) is True``: the comparison by which a constant was chosen, with its numbers."""
    condition = origin.node.args[0]
    there = all(a in origin.values for a in condition.args) and condition.args
    if condition.op.kind is not Kind.ELEMENTWISE or not there:
        return f"the condition is {holds}"
    numbers = [np.broadcast_to(origin.values[a], condition.shape)[index] for a in condition.args]
    return f"{_written(condition, numbers)} is {holds}"


def _written(node: Node, numbers: Sequence[Any]) -> str:
    given = [_number(x) for x in numbers]
    if node.op.sign and len(given) == 2:
        return f" {node.op.sign} ".join(f"({x})" if k and x.startswith("-") else x for k, x in enumerate(given))
    more = [f"{name}={value}" for name, value in node.attrs.items()]
    return f"{node.op.title or node.op.name}({', '.join([*given, *more])})"


def _number(x: Any) -> str:
    return str(x).replace("inf", "∞")


def _is_finite_in_wider(node: Node, numbers: Sequence[Any]) -> bool:
    """Whether the value is a number in a format of a wider range; False if there is none on this machine."""
    found = in_wider(node, numbers)
    return found is not None and bool(np.isfinite(found))


def in_wider(node: Node, arrays: Sequence[Any]) -> Any:
    """The node's value with every float in a format of a wider range: NumPy's long double, or else float64.

    None where the machine has no wider one, or NumPy's meaning of the op does not compute in it.
    """
    formats: tuple[Any, ...] = (np.longdouble, np.float64)
    for wide in (w for w in formats if np.finfo(w).maxexp > finfo(node.dtype).maxexp):
        given = [np.asarray(a, wide) if np.asarray(a).dtype == node.dtype else np.asarray(a) for a in arrays]
        try:
            with np.errstate(all="ignore"):
                found = np.asarray(node.op.numpy(*given, **node.attrs))
        except TypeError:  # a function that SciPy has for float64 alone
            continue
        if found.dtype == wide:
            return found
    return None


def _why_whole(origin: Origin) -> str:
    """Of a sum, a product of matrices, a factorisation: what its operands hold."""
    node, op = origin.node, origin.node.op
    floats = [np.asarray(origin.values[a]) for a in node.args if a.aval.is_float]
    infinite = sum(int(np.sum(shows("overflow", x))) for x in floats)
    largest = max((float(np.max(np.abs(x))) for x in floats if x.size and not infinite), default=0.0)
    title = op.title or op.name
    if infinite:
        return f"{title} of operands of which {infinite} elements are infinite"
    if origin.kind == "overflow":
        most = f"{node.dtype} ({float(finfo(node.dtype).max):.3g})"
        return f"{title} of numbers up to {largest:.3g} is larger than any {most}"
    return f"{title} of numbers up to {largest:.3g} is {CALLED[origin.kind]}"


def _index(index: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, index))}]" if index else ""
