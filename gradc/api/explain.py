"""`gradc.explain` as users call it: the derivation, and around it what the stages below can say of the same graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradc.aval import Aval
from gradc.containers import flatten
from gradc.diff.derived import derived_of
from gradc.explain import Question, traced

if TYPE_CHECKING:
    from gradc.api.explanation import Explanation


def explain(
    f: Callable[..., Any],
    *args: Any,
    argnums: int | Sequence[int] = 0,
    order: int = 1,
    operator: bool = False,
    **kwargs: Any,
) -> Explanation:
    """The derivation of the gradient of ``f`` at the shapes and dtypes of the arguments.

    ``argnums`` says with respect to which positional arguments, as in `gradc.grad`; an argument may nest arrays in
    tuples, lists, dicts and dataclasses.  A result that is not scalar is explained as the vector–Jacobian product with
    cotangent G.  `str` is the derivation as text; ``.latex()``, ``.mathml()``; ``.html(path)`` writes a page that links
    source, formulas, graph, kernels, LLVM IR and assembly.

    Of ``gc.jacobian(g)`` and ``gc.hessian(g)`` the result itself is explained, as a matrix, with respect to the
    arguments that they were made for; of ``gc.sparse_jacobian(g)`` and ``gc.sparse_hessian(g)`` where its entries are
    and how they are found, too.  ``order=2`` is the Hessian of ``f``; with ``operator=True`` its product with a
    direction v.  Of two arguments each mixed block is shown once.

    Raises TraceError where ``f`` cannot be traced or an argument holds no arrays, ShapeError where a Hessian is asked
    of a function that is not scalar, ValueError for an order that there is not.

    >>> import numpy as np
    >>> print(explain(lambda A, x: A @ x, np.ones((2, 3)), np.ones(3), argnums=(0, 1)))
    Y = Ax
    <BLANKLINE>
    ∂A = Gxᵀ
    ∂x = AᵀG
    <BLANKLINE>
    G is the cotangent of Y
    >>> print(explain(lambda w, A: 0.5 * w @ A @ w, np.ones(3), np.eye(3), order=2))
    L = ½wᵀAw
    <BLANKLINE>
    ∂²L/∂w² = ½(A + Aᵀ)
    """
    from gradc.api.explanation import Explanation

    derived = derived_of(f)
    question = Question.of(f, argnums, order, operator)
    graph, wanted = traced(question.function, *args, argnums=question.argnums, **kwargs)
    leaves, _, _ = flatten((args, kwargs))
    arrays = tuple(None if isinstance(x, Aval) else x for x in leaves)
    derivation = question.answered(graph, wanted)
    if derived is not None and derived.remarks is not None:
        derivation = replace(derivation, remarks=tuple(derived.remarks(*args, **kwargs)))
    return Explanation.of(derivation, graph, wanted, arrays, question)
