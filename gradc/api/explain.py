"""`gradc.explain` as users call it: the derivation, and around it what the stages below can say of the same graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, overload

from gradc.api.compiled import Step
from gradc.aval import Aval
from gradc.containers import flatten
from gradc.diff.derived import derived_of
from gradc.explain import Question, traced
from gradc.node import here
from gradc.trace import trace as traced_alone

if TYPE_CHECKING:
    from gradc.api.explanation import Explanation
    from gradc.explain.traces import EvaluationTrace


@overload
def explain(
    f: Callable[..., Any],
    *args: Any,
    argnums: int | Sequence[int] = 0,
    order: int = 1,
    operator: bool = False,
    trace: None = None,
    **kwargs: Any,
) -> Explanation: ...
@overload
def explain(
    f: Callable[..., Any],
    *args: Any,
    argnums: int | Sequence[int] = 0,
    order: int = 1,
    operator: bool = False,
    trace: Literal["reverse", "forward"],
    **kwargs: Any,
) -> EvaluationTrace: ...
def explain(
    f: Callable[..., Any],
    *args: Any,
    argnums: int | Sequence[int] = 0,
    order: int = 1,
    operator: bool = False,
    trace: Literal["reverse", "forward"] | None = None,
    **kwargs: Any,
) -> Explanation | EvaluationTrace:
    """The derivation of the gradient of ``f`` at the shapes and dtypes of the arguments.

    ``argnums`` says with respect to which positional arguments, as in `gradc.grad`; an argument may nest arrays in
    tuples, lists, dicts and dataclasses.  A result that is not scalar is explained as the vector–Jacobian product with
    cotangent G.  `str` is the derivation as text; ``.latex()``, ``.mathml()``; ``.html(path)`` writes a page that links
    source, formulas, graph, kernels, LLVM IR and assembly.

    Of ``gc.jacobian(g)`` and ``gc.hessian(g)`` the result itself is explained, as a matrix, with respect to the
    arguments that they were made for; of ``gc.sparse_jacobian(g)`` and ``gc.sparse_hessian(g)`` where its entries are
    and how they are found, too.  ``order=2`` is the Hessian of ``f``; with ``operator=True`` its product with a
    direction v.  Of two arguments each mixed block is shown once.

    Of a ``gc.train_step`` the loss is explained, its gradient, and the update: what becomes of the parameters θ and of
    the fields of the optimizer's state, one rule for all parameters that have the same, hyperparameters by name, and
    what becomes of the model's own state (``has_state``).  The arguments are those of the step: parameters, state,
    batch; ``.html(path)`` shows the loss and its gradient.

    ``trace="reverse"`` or ``"forward"`` gives, in place of the gradient, the evaluation trace: the function one
    operation at a time, v₁, v₂, …, and beside it the adjoints v̄ or the tangents v̇ that the mode computes, with the
    numbers of scalars where arrays were given (Griewank and Walther, Evaluating Derivatives, 2008).

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
    from gradc.explain.traces import evaluation_trace

    step = getattr(f, "function", None)
    if isinstance(step, Step):
        if argnums != 0 or order != 1 or operator or trace is not None or kwargs:
            raise ValueError(
                f"{here()}: of a training step the update is explained: leave out argnums, order, operator, trace and "
                "keywords"
            )
        return explained_step(step, *args)
    derived = derived_of(f)
    question = Question.of(f, argnums, order, operator)
    graph, wanted = traced(question.function, *args, argnums=question.argnums, **kwargs)
    leaves, _, _ = flatten((args, kwargs))
    arrays = tuple(None if isinstance(x, Aval) else x for x in leaves)
    if trace is not None:
        if trace not in ("reverse", "forward"):
            raise ValueError(f"{here()}: trace={trace!r}: expected 'reverse' or 'forward'")
        if question.matrix:
            raise ValueError(f"{here()}: trace={trace!r} is of one function and its gradient: explain that function")
        return evaluation_trace(graph, wanted, trace, arrays)
    derivation = question.answered(graph, wanted)
    if derived is not None and derived.remarks is not None:
        derivation = replace(derivation, remarks=tuple(derived.remarks(*args, **kwargs)))
    return Explanation.of(derivation, graph, wanted, arrays, question)


def explained_step(step: Step, *args: Any) -> Explanation:
    """The loss of a training step, its gradient, and what the optimizer makes of it."""
    from gradc.api.model_states import state_update
    from gradc.explain.folding import names_in, plain
    from gradc.explain.layout import Derivative, Ident
    from gradc.explain.steps import explained_steps

    if len(args) < 2:
        raise TypeError(f"{here()}: a training step takes parameters, a state and the batch, got {len(args)} arguments")
    params, state, *batch = args
    found = explain(step.alone, params, *batch)
    targets = {line.name: line.target for line in found.lines if line.kind == "gradient"}
    leaves, _, _ = flatten(params)
    called = [found.traced.names[x] for x in found.traced.inputs[: len(leaves)]]
    ordered = [(name, t.by if isinstance(t := targets.get(name), Derivative) else Ident(name)) for name in called]
    loss = next((t.of for t in targets.values() if isinstance(t, Derivative) and t.of is not None), Ident("L"))
    parts = [part for line in found.lines for part in (line.target, line.layout) if part is not None]
    taken = {name for part in parts for name in names_in(part)}
    residuals = getattr(step.loss, "residuals", None)
    count = 0 if residuals is None else sum(y.aval.size for y in traced_alone(residuals, params, *batch).outputs)
    updates, legend = explained_steps(step.optimizer, params, state, ordered, loss, taken, count)
    if step.has_state:
        own, more = state_update(step, args, [plain(line) for line in found.lines])
        updates, legend = (*updates, *own), (*legend, *(entry for entry in more if entry not in found.legend))
    return replace(found, updates=updates, legend=(*found.legend, *legend))


__all__ = ["explain"]
