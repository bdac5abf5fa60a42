"""All partial derivatives at once: jacobian and hessian.

Enters: a Python function.  Leaves: a function of the same arguments that returns arrays of partial derivatives.  The
linearised function is simplified and then applied to a structural identity (`gradc.diff.structured`), so a Jacobian
costs what its closed form costs: a diagonal stays one, a product with the identity is no product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradc.api.derivatives import ArgNums, arrays_of, grad, title_of, with_respect_to
from gradc.api.transform import Transform, name_to_travel_by
from gradc.diff.derived import Derived, noted
from gradc.diff.structured import Mode, jacobian_blocks
from gradc.errors import DTypeError
from gradc.graph import Graph
from gradc.node import here
from gradc.ops.leaves import full
from gradc.passes import LINEAR, looked_into, run_passes
from gradc.trace import run


def jacobian(f: Callable[..., Any], argnums: ArgNums = 0, mode: Mode = "auto") -> Callable[..., Any]:
    """All first derivatives: for an output of shape S and an argument of shape T, an array of shape S + T.

    The result nests like the output, then like the argument.  "forward" linearises per argument, "reverse" per output;
    "auto" takes the side with fewer elements.  No direction is pushed one by one and no identity matrix is multiplied:
    the linear map is applied to Kronecker deltas, so structure (a diagonal, a product of outer products) is kept.
    `gradc.explain` of the result shows it as a matrix.

    >>> import numpy as np
    >>> jacobian(np.sin)(np.zeros(2))
    array([[1., 0.],
           [0., 1.]])
    """
    title_of(f, "jacobian")
    if mode not in ("auto", "forward", "reverse"):
        raise ValueError(f"{here()}: mode={mode!r}: expected 'auto', 'forward' or 'reverse'")
    return Jacobian(f, argnums, mode)


class Jacobian(Transform):
    """See `jacobian`."""

    def __init__(self, f: Callable[..., Any], argnums: ArgNums, mode: Mode):
        super().__init__(f, argnums, mode)
        self.argnums, self.mode = argnums, mode
        noted(self, Derived(f, argnums, order=1))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        wanted, graph, inputs = with_respect_to(self.function, args, kwargs, self.argnums, self.title)
        _refuse_integers(graph)
        graph = looked_into(graph)
        blocks = jacobian_blocks(graph, inputs, lambda g: run_passes(g, LINEAR), self.mode, lanes=True)
        dense = [
            full(y.shape + x.shape, 0, y.dtype) if block is None else block
            for y, row in zip(graph.outputs, blocks, strict=True)
            for x, block in zip(inputs, row, strict=True)
        ]
        flat = run(run_passes(graph.replace(outputs=tuple(dense)), ()), arrays_of(args, kwargs))
        width = len(inputs)
        nested = [wanted.nest(flat[i * width : (i + 1) * width]) for i in range(len(graph.outputs))]
        assert graph.out_tree is not None
        return graph.out_tree.of_arrays.unflatten(nested)


def _refuse_integers(graph: Graph) -> None:
    for y in graph.outputs:
        if not y.aval.is_float:
            raise DTypeError(
                f"{here()}: jacobian: a result of {graph.title} is {y.aval}; integers and bools have no derivative.\n"
                "  Return floats only, or cast the result with .astype(float) if its derivative is 0."
            )


def hessian(f: Callable[..., Any], argnums: ArgNums = 0) -> Callable[..., Any]:
    """All second derivatives of a scalar function: forward over reverse; shape T + T for an argument of shape T.

    A result for several arguments (or an argument that nests arrays) is a tree of blocks, row by row.  `gradc.explain`
    of the result shows it as a matrix.
    """
    title_of(f, "hessian")
    return Hessian(f, argnums)


class Hessian(Jacobian):
    """See `hessian`."""

    def __init__(self, f: Callable[..., Any], argnums: ArgNums):
        super().__init__(grad(f, argnums), argnums, "forward")
        self.settings = (argnums,)
        noted(self, Derived(f, argnums, order=2))

    def __reduce__(self) -> str | tuple[Any, ...]:
        gradient: Any = self.function
        return name_to_travel_by(self) or (Hessian, (gradient.function, self.argnums))


__all__ = ["hessian", "jacobian"]
