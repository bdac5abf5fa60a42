"""Solving inside models: linear systems by their products, roots, minima and differential equations, as native loops.

Enters: functions of the user's.  Leaves: solutions in the user's trees, with the derivatives that solutions have, by
the implicit function theorem, never through the steps of a search.
The extension points are `custom_linear_solve` and `custom_root`.  Start reading there.
"""

from __future__ import annotations

from gradc.solve.equation import custom_root
from gradc.solve.linear import LinearSolution, linear_solve
from gradc.solve.linear_system import custom_linear_solve
from gradc.solve.minima import Minimum, minimize
from gradc.solve.ode import Integration, odeint
from gradc.solve.roots import FixedPoint, Root, fixed_point, root

__all__ = [
    "FixedPoint",
    "Integration",
    "LinearSolution",
    "Minimum",
    "Root",
    "custom_linear_solve",
    "custom_root",
    "fixed_point",
    "linear_solve",
    "minimize",
    "odeint",
    "root",
]
