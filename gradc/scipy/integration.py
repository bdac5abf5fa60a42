"""SciPy's solve_ivp and quad on functions of trees: the functions, and Jacobians of stiff systems, are compiled.

Enters: fields, integrands, and SciPy's own arguments.  Leaves: SciPy's results, y as a tree.  Start reading at
`solve_ivp`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradc.api.bodies import required_function
from gradc.api.compiled import jit
from gradc.api.jacobian import jacobian
from gradc.containers import tree_map
from gradc.scipy.flat import Flat, integrate_of, refuse_traced

#: methods that use the Jacobian of the field
STIFF = ("Radau", "BDF", "LSODA")
#: where SciPy puts the vector, behind the time
STATE = (1,)


def solve_ivp(
    fun: Callable[..., Any], t_span: Any, y0: Any, method: str = "RK45", t_eval: Any = None, args: Any = (),
    events: Any = None, dense_output: bool = False, **options: Any,
) -> Any:  # fmt: skip
    """`scipy.integrate.solve_ivp` of y' = ``fun(t, y, *args)`` for trees y, compiled, with a compiled Jacobian for the
    methods Radau, BDF and LSODA.

    ``events(t, y, *args)``: a function or a list of them, with SciPy's attributes ``terminal`` and ``direction``.
    Returns SciPy's result: ``y`` nests like ``y0``, with the axis of times behind those of each array; ``sol(t)``, and
    each row of ``y_events``, nest likewise.

    >>> import gradc as gc, numpy as np
    >>> found = gc.scipy.solve_ivp(lambda t, y: {"x": -y["x"]}, (0.0, 1.0), {"x": 1.0}, rtol=1e-8)
    >>> bool(np.isclose(found.y["x"][-1], np.exp(-1.0)))
    True
    """
    integrate = integrate_of("solve_ivp")
    flat = Flat.of(y0, args, "solve_ivp", "y0", "use gc.odeint")
    refuse_traced((t_span, t_eval), "solve_ivp", "use gc.odeint")
    f = flat.on_vectors(fun, before=1)
    if method in STIFF:
        options["jac"] = flat.compiled(lambda t, y, *rest: jacobian(lambda y: f(t, y, *rest))(y), STATE)
    watched = _events(events, flat)
    result = integrate.solve_ivp(
        flat.compiled(f, STATE), t_span, flat.start, method=method, t_eval=t_eval, args=flat.args or None,
        events=watched, dense_output=dense_output, **options,
    )  # fmt: skip
    result["y"] = _columns(result["y"], flat)
    if result.get("y_events") is not None:
        result["y_events"] = [[flat.tree(y) for y in found] for found in result["y_events"]]
    if result.get("sol") is not None:
        dense = result["sol"]
        result["sol"] = lambda t: flat.tree(dense(t)) if np.ndim(t) == 0 else _columns(dense(t), flat)
    return result


def _columns(values: Any, flat: Flat) -> Any:
    """Vectors side by side as a tree, the axis of columns last."""
    first, count = flat.tree(flat.start), values.shape[1]
    rows = [flat.tree(values[:, k]) for k in range(count)]
    if not rows:
        return tree_map(lambda x: np.zeros((*np.shape(x), 0)), first)
    return tree_map(lambda *parts: np.stack(parts, axis=-1), *rows)


def _events(events: Any, flat: Flat) -> Any:
    """Events of trees as events of vectors."""
    if events is None:
        return None
    several = events if isinstance(events, (list, tuple)) else [events]
    made = []
    for event in several:
        required_function(event, "gc.scipy.solve_ivp", "events, functions (t, y)")
        call = flat.compiled(lambda t, y, *rest, event=event: event(t, flat.unravel(y), *rest), STATE)
        for name in ("terminal", "direction"):
            if hasattr(event, name):
                setattr(call, name, getattr(event, name))
        made.append(call)
    return made


def quad(fun: Callable[..., Any], a: float, b: float, args: Any = (), **options: Any) -> Any:
    """`scipy.integrate.quad` of ``fun(x, *args)``, a float scalar, compiled; ``options`` are SciPy's.

    Returns the integral and the estimate of its error, and whatever ``full_output`` adds.

    >>> import gradc as gc, numpy as np
    >>> round(gc.scipy.quad(lambda x, k: np.exp(-k * x * x), 0.0, np.inf, args=(1.0,))[0], 9)
    0.886226925
    """
    integrate = integrate_of("quad")
    required_function(fun, "gc.scipy.quad", "a function of a number")
    args = args if isinstance(args, tuple) else (args,)
    refuse_traced((a, b, args), "quad", "write the rule itself: points and weights of np.polynomial.legendre.leggauss")
    native = jit(fun)
    return integrate.quad(lambda x: float(native(np.float64(x), *args)), a, b, **options)
