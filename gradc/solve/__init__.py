"""Solving inside models: linear systems by their products, roots, minima and differential equations, as native loops.

Enters: functions of the user's.  Leaves: solutions in the user's trees, with the derivatives that solutions have, by
the implicit function theorem, never through the steps of a search.
The extension point is `custom_linear_solve`.  Start reading there.
"""

from __future__ import annotations

from gradc.solve.linear import LinearSolution, linear_solve
from gradc.solve.linear_system import custom_linear_solve

__all__ = ["LinearSolution", "custom_linear_solve", "linear_solve"]
