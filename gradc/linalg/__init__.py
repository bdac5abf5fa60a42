"""Linear algebra: all of ``numpy.linalg``, and SciPy's names beside it.

Enters: matrices in the last two axes of traced values or arrays, leading axes in front.  Leaves: the same.  Invariant:
names, arguments and shapes are NumPy's (`gradc.numpy.linalg`) or SciPy's (`systems`, `functions`, `patterns`); NumPy's
own functions, ``np.linalg.solve(a, b)``, work on traced values too, SciPy's do not.  docs/linalg.md says which triangle
is read, and what the derivatives are where there is more than one answer.
"""

# Each module lists in `__all__` what it gives to this namespace.
# ruff: noqa: F403
from __future__ import annotations

from gradc.linalg import functions, patterns, systems
from gradc.linalg.functions import *
from gradc.linalg.patterns import *
from gradc.linalg.systems import *
from gradc.numpy import linalg as _numpy
from gradc.numpy.linalg import *
from gradc.numpy.linear import kron

__all__ = ["kron"]
__all__ += _numpy.__all__
__all__ += functions.__all__
__all__ += patterns.__all__
__all__ += systems.__all__


def __dir__() -> list[str]:
    return sorted(__all__)
