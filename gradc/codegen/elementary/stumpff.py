"""Stumpff's functions as lane arithmetic: even functions of a root, smooth where the root is not.

Enters: a `Value` s >= 0 of float32 or float64, and the static order k.  Leaves: a `Value` of the same dtype.
Invariant: branch-free but for the arguments for which sine and cosine are not; the error is within its bound of the
larger of the value and of the terms it is the difference of.
"""

from __future__ import annotations

import math
from math import nan

from gradc.codegen.elementary.exponential import Exponential
from gradc.codegen.elementary.trigonometric import Trigonometric
from gradc.codegen.ir import Value

#: Terms of the series: the first one left out is below half a unit in the last place where the recursion takes over.
TERMS = {"float32": 10, "float64": 16}


def switch(k: int) -> float:
    """From here on the recursion loses nothing; below, the terms of the series fall from the first one on."""
    return 4.0 * max(k, 1)


class Stumpff(Trigonometric, Exponential):
    """The method ``stumpff`` of a builder."""

    def stumpff(self, s: Value, k: int, hyperbolic: bool) -> Value:
        """Σⱼ (∓s)ʲ/(k + 2j)!, and from `switch` on cₖ₊₂(s) = (1/k! − cₖ(s))/s from cosine or sine."""
        sign = 1 if hyperbolic else -1
        terms = range(TERMS[s.dtype])
        near = self.polynomial(s, tuple(sign**j / math.factorial(k + 2 * j) for j in reversed(terms)))
        r = self.sqrt(s)
        if k % 2:
            far = self.div(self.sinh(r) if hyperbolic else self.sin(r), r)
        else:
            far = self.cosh(r) if hyperbolic else self.cos(r)
        for j in range(k % 2, k, 2):
            head = 1 / math.factorial(j)
            far = self.div(self.sub(far, head) if hyperbolic else self.sub(head, far), s)
        result = self.select(self.gt(s, switch(k)), far, near)
        return self.select(self.lt(s, 0.0), nan, result)
