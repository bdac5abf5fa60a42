"""The matrix exponential of one matrix in NumPy, and the approximant that code uses too.

Enters: a square matrix.  Leaves: its exponential, by scaling and squaring (Higham 2005, SIAM J. Matrix Anal. Appl. 26).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: numerator of the Padé approximant of degree 13 (Higham 2005, SIAM J. Matrix Anal. Appl. 26, table 2.3)
PADE = (
    64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0, 129060195264000.0,
    10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0, 40840800.0, 960960.0, 16380.0, 182.0, 1.0,
)  # fmt: skip
#: the norm up to which it is right to float64's and to float32's last bit (of degree 13 and 7; here 13 serves both)
REACH = 5.371920351148152


def pade(xp: Any, a: Any, eye: Any, multiply: Any) -> tuple[Any, Any]:
    """The odd and the even part of the numerator."""
    b = PADE
    a2 = multiply(a, a)
    a4 = multiply(a2, a2)
    a6 = multiply(a4, a2)
    odd = multiply(a6, b[13] * a6 + b[11] * a4 + b[9] * a2) + b[7] * a6 + b[5] * a4 + b[3] * a2 + b[1] * eye
    even = multiply(a6, b[12] * a6 + b[10] * a4 + b[8] * a2) + b[6] * a6 + b[4] * a4 + b[2] * a2 + b[0] * eye
    return multiply(a, odd), even


def expm_of_one(a: Array) -> Array:
    """Scaling and squaring with a Padé approximant (Higham 2005)."""
    norm = float(np.max(np.sum(np.abs(a), axis=0), initial=0.0))
    if not math.isfinite(norm):
        return np.full_like(a, np.nan)
    squarings = max(0, math.ceil(math.log2(norm / REACH))) if norm > 0 else 0
    odd, even = pade(np, a / a.dtype.type(2.0) ** squarings, np.eye(len(a), dtype=a.dtype), np.matmul)
    found = np.linalg.solve(even - odd, even + odd)
    for _ in range(squarings):
        found = found @ found
    return found
