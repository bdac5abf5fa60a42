"""NumPy's names, and the array API's, over traced values; outside a trace they are NumPy: arrays in, arrays out.

Every function is written over the primitives of `gradc.ops` and also serves ``np.…`` on traced values, through
NumPy's protocols.  Start reading at `public` (how a function becomes both), then any of the modules of functions.
"""

# Each module lists in `__all__` what it gives to this namespace; repeating 280 names here would be a second truth.
# ruff: noqa: F403
from __future__ import annotations

from gradc.numpy import (
    bessel,
    calculus,
    creation,
    elementwise,
    formats,
    histograms,
    index_arrays,
    indexing,
    joining,
    linalg,
    linear,
    polynomials,
    rearranged,
    reductions,
    sets,
    shapes,
    statistics,
)
from gradc.numpy import einsum as _einsum
from gradc.numpy.bessel import *
from gradc.numpy.calculus import *
from gradc.numpy.creation import *
from gradc.numpy.einsum import *
from gradc.numpy.elementwise import *
from gradc.numpy.formats import *
from gradc.numpy.histograms import *
from gradc.numpy.index_arrays import *
from gradc.numpy.indexing import *
from gradc.numpy.inspection import __array_namespace_info__ as __array_namespace_info__
from gradc.numpy.joining import *
from gradc.numpy.linear import *
from gradc.numpy.polynomials import *
from gradc.numpy.published import published
from gradc.numpy.rearranged import *
from gradc.numpy.reductions import *
from gradc.numpy.sets import *
from gradc.numpy.shapes import *
from gradc.numpy.statistics import *

__all__ = ["linalg"]
__all__ += bessel.__all__
__all__ += calculus.__all__
__all__ += creation.__all__
__all__ += _einsum.__all__
__all__ += elementwise.__all__
__all__ += formats.__all__
__all__ += histograms.__all__
__all__ += index_arrays.__all__
__all__ += indexing.__all__
__all__ += joining.__all__
__all__ += linear.__all__
__all__ += polynomials.__all__
__all__ += rearranged.__all__
__all__ += reductions.__all__
__all__ += sets.__all__
__all__ += shapes.__all__
__all__ += statistics.__all__

#: the version of the array API's standard that these names follow
__array_api_version__ = "2025.12"

_OF_RECORDS = published("numpy")
__all__ += list(_OF_RECORDS)
globals().update(_OF_RECORDS)


def __dir__() -> list[str]:
    return sorted(__all__)
