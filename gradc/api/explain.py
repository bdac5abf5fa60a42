"""`gradc.explain` as users call it: the derivation, and around it what the stages below can say of the same graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gradc.aval import Aval
from gradc.explain import traced
from gradc.tree import flatten

if TYPE_CHECKING:
    from gradc.api.explanation import Explanation


def explain(f: Callable[..., Any], *args: Any, argnums: int | Sequence[int] = 0, **kwargs: Any) -> Explanation:
    """The derivation of the gradient of ``f`` at the shapes and dtypes of the arguments.

    ``argnums`` says with respect to which positional arguments, as in `gradc.grad`; an argument may nest arrays in
    tuples, lists, dicts and dataclasses.  A result that is not scalar is explained as the vector–Jacobian product with
    cotangent G.  `str` is the derivation as text; ``.latex()``, ``.mathml()``; ``.html(path)`` writes a page that links
    source, formulas, graph, kernels, LLVM IR and assembly.  Raises TraceError where ``f`` cannot be traced or an
    argument holds no arrays.

    >>> import numpy as np
    >>> print(explain(lambda A, x: A @ x, np.ones((2, 3)), np.ones(3), argnums=(0, 1)))
    Y = Ax
    <BLANKLINE>
    ∂A = Gxᵀ
    ∂x = AᵀG
    <BLANKLINE>
    G is the cotangent of Y
    """
    from gradc.api.explanation import Explanation
    from gradc.explain import explain_graph

    graph, wanted = traced(f, *args, argnums=argnums, **kwargs)
    leaves, _, _ = flatten((args, kwargs))
    arrays = tuple(None if isinstance(x, Aval) else x for x in leaves)
    return Explanation.of(explain_graph(graph, wanted), graph, wanted, arrays)
