"""SciPy's minimize, least_squares and root on functions of trees: what a method can use of derivatives is compiled.

Enters: functions of trees, guesses, bounds and constraints.  Leaves: SciPy's `OptimizeResult`, x and the gradient as
trees.  Start reading at `minimize`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradc.api.bodies import required_function
from gradc.api.derivatives import hvp, value_and_grad
from gradc.api.jacobian import hessian, jacobian
from gradc.containers import flatten, path_text
from gradc.errors import ShapeError
from gradc.node import here
from gradc.scipy.flat import Flat, optimize_of
from gradc.solve.unknowns import array_of_numbers
from gradc.trace import function_name

#: methods of `scipy.optimize.minimize` by what they use
WITHOUT_DERIVATIVES = frozenset(("nelder-mead", "powell", "cobyla", "cobyqa"))
WITH_GRADIENT = frozenset(("cg", "bfgs", "l-bfgs-b", "tnc", "slsqp"))
WITH_PRODUCTS = frozenset(("newton-cg", "trust-ncg", "trust-krylov", "trust-constr"))
WITH_HESSIAN = frozenset(("dogleg", "trust-exact"))
METHODS = WITHOUT_DERIVATIVES | WITH_GRADIENT | WITH_PRODUCTS | WITH_HESSIAN


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    method: str | None = None,
    bounds: Any = None,
    constraints: Any = (),
    tol: float | None = None,
    callback: Callable[[Any], Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """`scipy.optimize.minimize` of ``fun(x, *args)``, a float scalar of trees like ``x0``.

    SciPy is handed what the method uses: value and gradient as one compiled call; products with the Hessian for
    Newton-CG, trust-ncg, trust-krylov and trust-constr; the Hessian for dogleg and trust-exact.  ``bounds`` nests like
    ``x0``, with a pair (low, high) for each array, numbers or arrays or None, or SciPy's list of pairs for a vector.
    ``constraints`` are SciPy's: dicts with "type" and "fun", or `NonlinearConstraint`, of functions of trees that
    return floats in any tree; their Jacobians (for trust-constr sparse ones where they are large and mostly
    zeros, and Hessians) are compiled, so they need none.
    `LinearConstraint` and `Bounds` speak of the vector of all leaves, in the order of `gradc.tree.leaves`.

    Returns SciPy's `OptimizeResult`; ``x``, and ``jac`` where it is a gradient, nest like ``x0``.  Raises ImportError
    without SciPy, TraceError inside a trace, ValueError for an unknown method, ShapeError for a ``fun`` that is not a
    scalar and for bounds that do not fit.

    >>> import gradc as gc, numpy as np
    >>> found = gc.scipy.minimize(lambda p: (p["a"] - 3) ** 2 + ((p["b"] + 1) ** 2).sum(), {"a": 0.0, "b": np.zeros(2)})
    >>> round(float(found.x["a"]), 6), np.round(found.x["b"], 6)
    (3.0, array([-1., -1.]))
    """
    optimize = optimize_of("minimize")
    flat = Flat.of(x0, args, "minimize", "x0", "use gc.minimize")
    limits = flat_bounds(bounds, x0, flat)
    several = [constraints] if not isinstance(constraints, (list, tuple)) else list(constraints)
    chosen = _method(method, limits is not None, bool(several))
    f = flat.scalar(fun)
    given: dict[str, Any] = {"fun": flat.compiled(value_and_grad(f)), "jac": True}
    if chosen in WITHOUT_DERIVATIVES:
        given = {"fun": flat.compiled(f)}
    if chosen in WITH_HESSIAN:
        given["hess"] = flat.compiled(hessian(f))
    if chosen in WITH_PRODUCTS:
        given["hessp"] = flat.compiled(lambda x, v, *rest: hvp(lambda x: f(x, *rest), (x,), (v,))[0], (0, 1))
    ready = [_constraint(c, flat, chosen, optimize) for c in several]
    told = None if callback is None else lambda x, *_: callback(flat.tree(x))
    result = optimize.minimize(
        **given, x0=flat.start, args=flat.args, method=chosen, bounds=limits, constraints=ready, tol=tol,
        callback=told, options=None if options is None else dict(options),
    )  # fmt: skip
    return _with_trees(result, flat)


def _method(method: str | None, bounded: bool, constrained: bool) -> str:
    """SciPy's choice where none is made."""
    if method is None:
        return "slsqp" if constrained else "l-bfgs-b" if bounded else "bfgs"
    if str(method).lower() not in METHODS:
        known = ", ".join(map(repr, sorted(METHODS)))
        raise ValueError(f"{here()}: gc.scipy.minimize: method={method!r:.40}; expected one of {known}")
    return method.lower()


def _with_trees(result: Any, flat: Flat) -> Any:
    """SciPy's result with trees for what are vectors like x."""
    for name in ("x", "jac", "grad"):
        vector = result.get(name)
        if isinstance(vector, np.ndarray) and vector.shape == flat.start.shape:
            result[name] = flat.tree(vector)
    return result


# -- constraints -------------------------------------------------------------------------------------------------------


def _constraint(given: Any, flat: Flat, method: str, optimize: Any) -> Any:
    """One constraint with what a method uses of its derivatives; for trust-constr all are of one kind."""
    if isinstance(given, optimize.LinearConstraint):
        return given
    if isinstance(given, optimize.NonlinearConstraint):
        return _nonlinear(given.fun, given.lb, given.ub, given.keep_feasible, flat, method, optimize)
    if not isinstance(given, Mapping) or given.get("type") not in ("eq", "ineq") or "fun" not in given:
        raise TypeError(
            f"{here()}: gc.scipy.minimize: a constraint is a dict with 'type' ('eq' or 'ineq') and 'fun', or a "
            f"NonlinearConstraint or LinearConstraint of scipy.optimize; got {given!r:.80}"
        )
    required_function(given["fun"], "gc.scipy.minimize", "constraints, functions of trees")
    fun, args = given["fun"], given.get("args", ())

    def applied(x: Any) -> Any:
        return fun(x, *args)

    applied.__name__ = function_name(fun)
    if method == "trust-constr":
        high = 0.0 if given["type"] == "eq" else np.inf
        return _nonlinear(applied, 0.0, high, False, flat, method, optimize)
    f = flat.on_vectors(applied)
    made = {"type": given["type"], "fun": flat.compiled(f)}
    return made if method in WITHOUT_DERIVATIVES else {**made, "jac": flat.compiled(jacobian(f))}


def _nonlinear(
    fun: Callable[..., Any], low: Any, high: Any, keep_feasible: Any, flat: Flat, method: str, optimize: Any
) -> Any:
    """low ≤ fun(x) ≤ high; methods other than trust-constr take the Jacobian alone."""
    f = flat.on_vectors(fun)
    more: dict[str, Any] = {"jac": flat.jacobian(f, (), sparse=method == "trust-constr")}
    if method == "trust-constr":
        more |= {
            "hess": flat.compiled(lambda x, v: hessian(lambda x: f(x) @ v)(x), (0, 1)),
            "keep_feasible": keep_feasible,
        }
    return optimize.NonlinearConstraint(flat.compiled(f), low, high, **more)


# -- bounds ------------------------------------------------------------------------------------------------------------


def flat_bounds(bounds: Any, x0: Any, flat: Flat) -> Any:
    """Bounds of the vector, as SciPy's `Bounds`; None where there are none."""
    optimize = optimize_of(flat.whose)
    if bounds is None or isinstance(bounds, optimize.Bounds):
        return bounds
    leaves, paths, structure = flatten(array_of_numbers(x0))
    try:
        parts = structure.parts_of(bounds)
    except ValueError as error:
        reason = str(error).split("\n")[0].replace("PyTreeSpec", "")
        raise TypeError(
            f"{here()}: gc.scipy.{flat.whose}: bounds must nest like x0, {structure}, with a pair (low, high) for each "
            f"array: {reason:.200}"
        ) from None
    low: list[Any] = []
    high: list[Any] = []
    for part, leaf, path in zip(parts, leaves, paths, strict=True):
        name = f"x0{path_text(path)}"
        for side, ends in zip(_ends(part, name, flat.whose), (low, high), strict=True):
            ends.append(_spread(side, np.shape(leaf), name, flat.whose))
    return optimize.Bounds(np.concatenate(low), np.concatenate(high))


def _ends(part: Any, name: str, whose: str) -> tuple[Any, Any]:
    """The low and the high end of one array."""
    if part is None:
        return -np.inf, np.inf
    pairs = isinstance(part, Sequence) and len(part) > 0 and all(isinstance(p, (tuple, list)) for p in part)
    if pairs and all(len(p) == 2 for p in part):
        low, high = zip(*part, strict=True)
        return [-np.inf if x is None else x for x in low], [np.inf if x is None else x for x in high]
    if pairs or not isinstance(part, (tuple, list)) or len(part) != 2:
        raise TypeError(
            f"{here()}: gc.scipy.{whose}: the bounds of {name} must be a pair (low, high), got {part!r:.60}"
        )
    return (-np.inf if part[0] is None else part[0]), (np.inf if part[1] is None else part[1])


def _spread(side: Any, shape: tuple[int, ...], name: str, whose: str) -> np.ndarray[Any, Any]:
    try:
        return np.broadcast_to(np.asarray(side, np.float64), shape).reshape(-1)
    except ValueError as error:
        raise ShapeError(f"{here()}: gc.scipy.{whose}: the bounds of {name}, of shape {shape}: {error}") from None


# -- least squares and roots -------------------------------------------------------------------------------------------


def least_squares(
    fun: Callable[..., Any], x0: Any, args: Any = (), bounds: Any = None, method: str = "trf", **options: Any
) -> Any:
    """`scipy.optimize.least_squares` of the residuals ``fun(x, *args)``, floats in any tree, with a compiled Jacobian,
    sparse where that is large and mostly zeros (not for "lm").

    ``bounds`` as in `minimize`; ``options`` are SciPy's (``loss``, ``ftol``, ``x_scale`` …).  Returns SciPy's result;
    ``x`` and ``grad`` nest like ``x0``, ``fun`` and ``jac`` are of the vectors.

    >>> import gradc as gc, numpy as np
    >>> t = np.array([0.0, 1.0, 2.0])
    >>> fit = gc.scipy.least_squares(lambda p: p["a"] * t + p["b"] - (2 * t + 1), {"a": 0.0, "b": 0.0})
    >>> round(float(fit.x["a"]), 6), round(float(fit.x["b"]), 6)
    (2.0, 1.0)
    """
    optimize = optimize_of("least_squares")
    flat = Flat.of(x0, args, "least_squares", "x0", "use gc.minimize with method='levenberg-marquardt'")
    f = flat.on_vectors(fun)
    limits = flat_bounds(bounds, x0, flat)
    ends = (-np.inf, np.inf) if limits is None else (limits.lb, limits.ub)
    result = optimize.least_squares(
        flat.compiled(f), flat.start, jac=flat.jacobian(f, flat.args, method != "lm"), bounds=ends, method=method,
        args=flat.args, **options,
    )  # fmt: skip
    result["x"], result["grad"] = flat.tree(result["x"]), flat.tree(result["grad"])
    return result


def root(
    fun: Callable[..., Any], x0: Any, args: Any = (), method: str = "hybr", tol: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> Any:  # fmt: skip
    """`scipy.optimize.root` of ``fun(x, *args)``, which returns a tree like ``x0``; "hybr" and "lm" are handed the
    compiled Jacobian, other methods use none.

    Returns SciPy's result; ``x`` and ``fun`` nest like ``x0``.

    >>> import gradc as gc, numpy as np
    >>> float(np.round(gc.scipy.root(lambda x: np.cos(x) - x, 1.0).x, 6))
    0.739085
    """
    optimize = optimize_of("root")
    flat = Flat.of(x0, args, "root", "x0", "use gc.root")
    f = flat.on_vectors(fun)
    jac = flat.compiled(jacobian(f)) if method in ("hybr", "lm") else None
    result = optimize.root(
        flat.compiled(f), flat.start, args=flat.args, method=method, jac=jac, tol=tol,
        options=None if options is None else dict(options),
    )  # fmt: skip
    result["x"], result["fun"] = flat.tree(result["x"]), flat.tree(result["fun"])
    return result


__all__ = ["least_squares", "minimize", "root"]
