"""The chain rule over fragments: how symbolic mode pulls cotangents back.

Enters: outputs, inputs and cotangents, as in `gradc.diff.reverse.pull_back`.  Leaves: the cotangent of each input.
Invariant: no derivative rule of any record is read.  Elementwise fragments go through `sympy.diff` (`fragments`), sums
and moves of elements through their index formula (`indexed`), the rest through a definition in those two
(`gradc.ops.definitions`), loops through the derivative of their body (`loops`). A cotangent carries the condition that
it is not zero, so a branch that was not taken never turns 0·inf into NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradc.diff.symbolic.fragments import Partial, interior_nodes, is_elementwise, partials_at
from gradc.diff.symbolic.indexed import pull_index
from gradc.diff.symbolic.loops import pull_loop
from gradc.diff.symbolic.written_out import NoDefinitionError, written_out
from gradc.interpret import computed_from, topological
from gradc.node import OPS, Node, derived_from, here
from gradc.ops.control import Loop, result_count
from gradc.ops.elementwise import apply, cast
from gradc.ops.leaves import full
from gradc.ops.record import Kind
from gradc.places import in_phase


@dataclass(frozen=True, slots=True)
class _Cotangent:
    value: Node
    mask: Node | None = None

    def settled(self) -> Node:
        if self.mask is None:
            return self.value
        return OPS["where"].make((self.mask, self.value, full(self.value.shape, 0, self.value.dtype)))


def symbolic_pull_back(
    outputs: Sequence[Node], inputs: Sequence[Node], cotangents: Sequence[Node | None]
) -> list[Node | None]:
    """Vector-Jacobian product by SymPy: the cotangent of each input, None where it is structurally zero.

    Raises TraceError, naming the op, where an op on the way has no SymPy meaning.
    """
    outputs = written_out(outputs, inputs)
    return _pull_back(topological(outputs), outputs, inputs, cotangents)


def _pull_back(
    order: Sequence[Node], outputs: Sequence[Node], inputs: Sequence[Node], cotangents: Sequence[Node | None]
) -> list[Node | None]:
    active = _active(order, inputs)
    inside = interior_nodes(order, active, {*outputs, *inputs})
    pending: dict[Node, list[_Cotangent]] = {}
    several: dict[Node, dict[int, Node]] = {}
    for y, ct in zip(outputs, cotangents, strict=True):
        if ct is not None and y in active:
            pending.setdefault(y, []).append(_Cotangent(ct))
    wanted, results = set(inputs), dict[Node, Node]()
    for node in reversed(order):
        if node in several:
            with derived_from(in_phase(node.where, "backward")):
                for arg, ct in _pull_results(node, several.pop(node), active):
                    pending.setdefault(arg, []).append(_Cotangent(ct))
            continue
        received = pending.pop(node, None)
        if received is None:
            continue
        with derived_from(in_phase(node.where, "backward")):
            whole = _sum(received)
            if node.op.kind is Kind.ITEM and node not in wanted:
                several.setdefault(node.args[0], {})[node.attrs["index"]] = whole.settled()
                continue
            if node in wanted:
                results[node] = whole.settled()
                continue  # held independent of the other inputs, also where it was computed from one of them
            for arg, part in _pulled(node, whole, active, inside):
                pending.setdefault(arg, []).append(part)
    return [results.get(x) for x in inputs]


def _pull_results(node: Node, cts: Mapping[int, Node], active: set[Node]) -> Iterable[tuple[Node, Node]]:
    """Operands of a node with several results, each with its cotangent."""
    if node.op.kind is Kind.LOOP:
        pulled = pull_loop(Loop.of(node), cts, _moving(node, active), symbolic_pull_back)
        return [(node.args[i], ct) for i, ct in pulled.items()]
    return _pull_definition(node, list(_defined(node)), [cts.get(k) for k in range(result_count(node))], active)


def _active(order: Sequence[Node], inputs: Sequence[Node]) -> set[Node]:
    """Float nodes that read an input through float nodes only: what is not a float is locally constant."""
    return computed_from([x for x in inputs if x.aval.is_float], order, lambda n: n.aval.is_float)


def _moving(node: Node, active: set[Node]) -> set[int]:
    return {i for i, a in enumerate(node.args) if a in active}


def _sum(parts: Sequence[_Cotangent]) -> _Cotangent:
    if len(parts) == 1:
        return parts[0]
    total, *rest = [p.settled() for p in parts]
    for part in rest:
        total = apply(OPS["add"], total, part)
    return _Cotangent(total)


def _pulled(node: Node, ct: _Cotangent, active: set[Node], inside: set[Node]) -> Iterable[tuple[Node, _Cotangent]]:
    if not any(a in active for a in node.args):
        return []
    if is_elementwise(node):
        return [(p.leaf, _times(ct, p)) for p in partials_at(node, inside, active)]
    parts: list[tuple[Node, _Cotangent]] = []
    for i, arg in enumerate(node.args):
        if arg in active:
            part = _through_index(node, i, ct)
            if part is None:
                return _by_definition(node, ct, active)
            parts.append((arg, part))
    return parts


def _times(ct: _Cotangent, partial: Partial) -> _Cotangent:
    if isinstance(partial.value, Node):
        value = apply(OPS["strong_multiply"], ct.value, partial.value)
    elif partial.value in (1, -1):
        value = ct.value if partial.value == 1 else apply(OPS["negative"], ct.value)
    else:
        value = apply(OPS["multiply"], ct.value, partial.value)
    return _Cotangent(cast(value, partial.leaf.dtype), _both(ct.mask, partial.mask))


def _both(a: Node | None, b: Node | None) -> Node | None:
    if a is None or b is None:
        return b if a is None else a
    return apply(OPS["logical_and"], a, b)


def _through_index(node: Node, i: int, ct: _Cotangent) -> _Cotangent | None:
    """An element's cotangent is non-zero only if one of the elements that read it has a non-zero one."""
    value = pull_index(node, i, ct.settled())
    if value is None:
        return None
    if ct.mask is None or node.op.kind is Kind.CONTRACT:
        return _Cotangent(value)
    readers = pull_index(node, i, cast(ct.mask, node.dtype))
    assert readers is not None
    return _Cotangent(value, apply(OPS["not_equal"], readers, 0))


def _defined(node: Node) -> Any:
    """A node of the same value (or one for each result) of ops that SymPy or an index formula differentiates;
    TraceError where none is said.
    """
    if node.op.definition is not None:
        return node.op.definition(node)
    if node.op.expand is not None:
        return node.op.expand(*node.args, **node.attrs)
    raise NoDefinitionError(
        f"{node.where or here()}: the record of {node.op.name} says neither its definition in other ops nor its "
        "expansion, so it has no symbolic derivative; use method='reverse'"
    )


def _by_definition(node: Node, ct: _Cotangent, active: set[Node]) -> list[tuple[Node, _Cotangent]]:
    with derived_from(in_phase(node.where, "backward")):
        defined = _defined(node)
    return [(a, _Cotangent(v)) for a, v in _pull_definition(node, [defined], [ct.settled()], active)]


def _pull_definition(
    node: Node, defined: Sequence[Node], cts: Sequence[Node | None], active: set[Node]
) -> list[tuple[Node, Node]]:
    """Operands of ``node``, each with its cotangent, by what it is ``defined`` as."""
    args = list(dict.fromkeys(a for a in node.args if a in active))
    with derived_from(in_phase(node.where, "backward")):
        whole = written_out(defined, args)
    pulled = _pull_back(topological(whole, dict.fromkeys(args)), whole, args, cts)
    return [(a, v) for a, v in zip(args, pulled, strict=True) if v is not None]
