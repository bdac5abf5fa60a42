"""SciPy's solvers on functions of trees, with compiled derivatives: SciPy's names and results, gradc's functions.

Enters: Python functions, guesses in trees, and SciPy's own arguments.  Leaves: SciPy's results, with trees for what the
function's arguments are.  SciPy is imported when one of these is called; where it is not installed, that is an error
that says how to install it.  Inside a trace there are no values for SciPy to work on: `gradc.minimize`, `gradc.root`
and `gradc.odeint` are for that.
"""

from __future__ import annotations

from gradc.scipy.integration import quad, solve_ivp
from gradc.scipy.optimization import least_squares, minimize, root

__all__ = ["least_squares", "minimize", "quad", "root", "solve_ivp"]


def __dir__() -> list[str]:
    return sorted(__all__)
