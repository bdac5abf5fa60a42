"""Jacobians and Hessians as matrices, and the Hessian as an operator: what is derived in place of a gradient.

Enters: a traced graph and inputs.  Leaves: a `Derivation` whose wanted lines are ∂Y/∂x, ∂²L/∂x∂y or ∂²L/∂x∂y·v.
The graph is the one that `gradc.jacobian` and `gradc.hessian` compile: the structural identity pushed through.
Start reading at `JacobianDeriver`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from gradc.aval import Aval
from gradc.diff.linear import has_tangent
from gradc.diff.modes import pull_back, push_forward
from gradc.diff.structured import Mode, jacobian_blocks
from gradc.errors import ShapeError
from gradc.explain.derivation import Derivation, Deriver, Line
from gradc.explain.equations import systems_to_read
from gradc.explain.layout import Derivative, Ident, Juxtaposed, Kronecker, Layout, SecondDerivative
from gradc.explain.quantities import Quantities
from gradc.explain.reasons import why_zero
from gradc.graph import Graph
from gradc.interpret import topological
from gradc.node import Node, constant, derived_from, here
from gradc.ops.leaves import full
from gradc.passes import LINEAR, Observe, cse, fold, run_passes, simplify_to_read
from gradc.passes.lineage import following
from gradc.trace import new_input


def explained(
    primal: Graph, wanted: Sequence[Node], order: int, matrix: bool, operator: bool, observe: Observe | None = None
) -> Derivation:
    """The derivation of a gradient (``order`` 1), a Jacobian (as a ``matrix``), or a Hessian as matrix or operator.

    ``observe`` as in `gradc.explain.derivation.explain_graph`.
    """
    deriver = ProductDeriver if operator else HessianDeriver if order == 2 else JacobianDeriver if matrix else Deriver
    return deriver(primal, wanted, observe).derivation()


@dataclass(frozen=True)
class Block:
    """The derivative of one thing by the input number ``by``: of an output, or of the gradient by an input."""

    of: int
    by: int
    aval: Aval
    node: Node | None


class JacobianDeriver(Deriver):
    """∂Y/∂x for every result that is of floats and every wanted input."""

    strict = True

    def _seeds(self) -> list[Node]:
        return []

    def _differentiated(self) -> tuple[Graph, list[Node | None], dict[Node, Node]]:
        """The forward quantities and all blocks, optimised as one graph."""
        blocks = self._blocks()
        names = {**self.marked.names, **self.stable.names}
        named = [n for n in topological([*names]) if n in names]
        present = [b.node for b in blocks if b.node is not None]
        leaves = (*self.primal.inputs, *self.extents.leaves.values(), *self.cotangents)
        self.step = Graph(leaves, (*self.stable.outputs, *present), self.stable.names, title=self.primal.title)
        if self.observe is not None:
            self.observe("differentiate", self.stable, self.step)
        whole = Graph(leaves, (*named, *present), names)
        with following() as lineage:
            graph = run_passes(whole, (systems_to_read, fold, simplify_to_read, cse, simplify_to_read))
        self.origins = lineage.origins(graph)
        found = iter(graph.outputs[len(named) :])
        self.blocks = blocks
        return graph, [next(found) if b.node is not None else None for b in blocks], {}

    def _blocks(self) -> list[Block]:
        outputs = [y for y in self.stable.outputs if y.aval.is_float]
        found = self._jacobian(self.stable.replace(outputs=tuple(outputs)))
        places = [i for i, y in enumerate(self.stable.outputs) if y.aval.is_float]
        return [
            Block(places[i], j, Aval(y.shape + x.shape, y.dtype), found[i][j])
            for i, y in enumerate(outputs)
            for j, x in enumerate(self.wanted)
        ]

    def _jacobian(self, graph: Graph, mode: Mode = "auto") -> list[list[Node | None]]:
        """Blocks of the outputs by the wanted inputs; integers have none."""
        floats = [x for x in self.wanted if has_tangent(x)]
        rows = jacobian_blocks(graph, floats, lambda g: run_passes(g, LINEAR), mode)
        by = [dict(zip(floats, row, strict=True)) for row in rows]
        return [[row.get(x) for x in self.wanted] for row in by]

    def _results(self) -> list[Aval]:
        return [b.aval for b in self.blocks]

    def _ident(self, x: Node) -> Ident:
        return self.naming.ident(self._name(x))

    def _target(self, i: int) -> tuple[str, Layout]:
        block = self.blocks[i]
        output, x = self.naming.output_names[block.of], self.wanted[block.by]
        name = self._name(x)
        alone = len(self.naming.output_names) == 1
        return name if alone else f"{output}, {name}", Derivative(self.naming.idents[output], self._ident(x))

    def _reason(self, i: int) -> str:
        block = self.blocks[i]
        x, output = self.wanted[block.by], self.naming.output_names[block.of]
        return self._no_tangent(x) or f"{output} does not change with {self._name(x)}"

    def _no_tangent(self, *wanted: Node) -> str:
        """Why there is no derivative by an input of integers, if it is one."""
        return next((why_zero(self.primal, x, self.naming) for x in wanted if not has_tangent(x)), "")

    def _legend(self, quantities: Quantities, lines: Sequence[Line]) -> tuple[tuple[Layout, str | Layout], ...]:
        legend = self.naming.legend(self.compiled, self.extents.symbols, (), {}, scalar=True)
        return (*legend, *self._notation(quantities))

    def _notation(self, quantities: Quantities) -> list[tuple[Layout, str | Layout]]:
        """What is said of the letters that are neither names nor extents."""
        return []

    def derivation(self) -> Derivation:
        result = super().derivation()
        if not any(_has_kronecker(line.layout) for line in result.lines):
            return result
        return replace(result, legend=(*result.legend, (Ident("A ⊗ B"), "is A[i, k]·B[j, l] at (i, j, k, l)")))


def _has_kronecker(x: object) -> bool:
    """Whether a Kronecker product is written somewhere in a layout."""
    stack = [x]
    while stack:
        part = stack.pop()
        if isinstance(part, Kronecker):
            return True
        if isinstance(part, tuple):
            stack += part
        elif isinstance(part, Layout):
            stack += [getattr(part, f.name) for f in fields(part) if f.name != "source"]
    return False


class HessianDeriver(JacobianDeriver):
    """∂²L/∂x∂y for every pair of wanted inputs, each pair once: the other block is its transpose."""

    def _blocks(self) -> list[Block]:
        gradients = self._gradients()
        found = self._jacobian(self.stable.replace(outputs=tuple(gradients)), "forward")
        return [
            Block(i, j, Aval(x.shape + self.wanted[j].shape, x.dtype), found[i][j])
            for i, x in enumerate(self.wanted)
            for j in range(i, len(self.wanted))
        ]

    def _gradients(self) -> list[Node]:
        """∂L/∂x for each wanted input, zeros where there is none."""
        (loss,) = self.stable.outputs if len(self.stable.outputs) == 1 else (None,)
        if loss is None or loss.shape != () or not loss.aval.is_float:
            shown = ", ".join(str(y.aval) for y in self.stable.outputs)
            raise ShapeError(
                f"{here()}: a Hessian is that of a function with one float scalar result; {self.primal.title} returns "
                f"{shown}.\n  Reduce it (e.g. .sum() or .mean()), or explain gc.jacobian(f)."
            )
        with derived_from(loss.where):
            pulled = pull_back([loss], self.wanted, [constant(np.ones((), loss.dtype))])
        present = [g if g is not None else full(x.shape, 0, x.dtype) for g, x in zip(pulled, self.wanted, strict=True)]
        return list(run_passes(Graph(self.stable.inputs, tuple(present)), LINEAR).outputs)

    def _target(self, i: int) -> tuple[str, Layout]:
        block = self.blocks[i]
        x, y = self.wanted[block.of], self.wanted[block.by]
        name = self._name(x) if x is y else f"{self._name(x)}, {self._name(y)}"
        return name, SecondDerivative(self.naming.idents[self.naming.output_names[0]], self._ident(x), self._ident(y))

    def _reason(self, i: int) -> str:
        x, y = self.wanted[self.blocks[i].of], self.wanted[self.blocks[i].by]
        change = f"∂{self.naming.output_names[0]}/∂{self._name(x)} does not change with {self._name(y)}"
        return self._no_tangent(x, y) or change


class ProductDeriver(HessianDeriver):
    """∂²L/∂x∂y·v for every pair of wanted inputs: the Hessian as an operator, never a matrix."""

    strict = False

    def _seeds(self) -> list[Node]:
        floats = [x for x in self.wanted if has_tangent(x)]
        below = {x: f"_{self._name(x)}" if len(floats) > 1 else "" for x in floats}
        self.directions = {x: new_input(x.aval, self.naming.fresh(f"v{below[x]}")) for x in floats}
        return list(self.directions.values())

    def _blocks(self) -> list[Block]:
        gradients = self._gradients()
        found = []
        for j, x in enumerate(self.wanted):
            v = self.directions.get(x)
            slopes: Sequence[Node | None] = push_forward(gradients, [x], [v])
            found += [Block(i, j, self.wanted[i].aval, slope) for i, slope in enumerate(slopes)]
        return sorted(found, key=lambda b: (b.of, b.by))

    def _target(self, i: int) -> tuple[str, Layout]:
        name, target = super()._target(i)
        v = self.directions.get(self.wanted[self.blocks[i].by])
        return name, Juxtaposed((target, self.naming.idents[v.attrs["name"]])) if v is not None else target

    def _notation(self, quantities: Quantities) -> list[tuple[Layout, str | Layout]]:
        return [
            (self.naming.idents[v.attrs["name"]], f"is a direction of {self._name(x)}")
            for x, v in self.directions.items()
        ]
