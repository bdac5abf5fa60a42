"""SciPy's special functions over traced values, under SciPy's names.

Those of ``scipy.special``'s own functions that are NumPy ufuncs (``erf``, ``gammaln``, ``expit``, ``xlogy`` …) work on
traced values too: their names find the ones here.  The others (``logsumexp``, ``softmax``, ``log_softmax``,
``polygamma`` …) are Python: they turn their arguments into NumPy arrays first, where no method of an argument is asked,
or, with ``SCIPY_ARRAY_API=1``, compute in the namespace of their arguments, but write into their intermediate results
unless these are JAX's or Dask's (``softmax`` does not, and then works).  The error says to call the one here.  Outside
a trace these are NumPy: arrays in, arrays out.

Dtypes are NumPy's (NEP 50), also where SciPy widens: a Python number takes the dtype of the array that it meets, so
``xlogy(x, 2.0)`` of float32 is float32, and ``polygamma(1, x)`` has the dtype of ``x``.
"""

from __future__ import annotations

import math
from typing import Any

from gradc.node import FUNCTIONS, OPS, as_node, static_int
from gradc.numpy.axes import axes_of
from gradc.numpy.public import exported, function
from gradc.numpy.published import published
from gradc.ops.elementwise import apply
from gradc.special import combinatorics, entropies, ordered, power_transforms
from gradc.special.combinatorics import *  # noqa: F403 - lists in `__all__` what it gives
from gradc.special.entropies import *  # noqa: F403 - the same
from gradc.special.ordered import *  # noqa: F403 - the same
from gradc.special.power_transforms import *  # noqa: F403 - the same

erf = exported("erf")
erfc = exported("erfc")
digamma = psi = exported("digamma")
expit = exported("sigmoid")
gammaln = exported("lgamma")
log1p = exported("log1p")
expm1 = exported("expm1")
cbrt = exported("cbrt")
exp2 = exported("exp2")
logsumexp = exported("logsumexp")
xlogy = exported("xlogy")
FUNCTIONS |= {"psi": FUNCTIONS["digamma"], "expit": FUNCTIONS["sigmoid"], "gammaln": FUNCTIONS["lgamma"]}


@function("log_expit")
def log_expit(x: Any) -> Any:
    """log(1/(1 + e⁻ˣ)) without overflow."""
    return -apply(OPS["softplus"], -FUNCTIONS["positive"](x))


@function("logit", singular="+inf at 0 and 1")
def logit(p: Any) -> Any:
    """log(p/(1 − p)), the inverse of expit."""
    return FUNCTIONS["log"](p) - FUNCTIONS["log1p"](FUNCTIONS["negative"](p))


@function("entr", singular="+inf at 0")
def entr(x: Any) -> Any:
    """−x·log x, 0 at 0, and −∞ for x < 0; its derivative at 0 is +∞."""
    return FUNCTIONS["where"](x < 0, -math.inf, FUNCTIONS["negative"](FUNCTIONS["xlogy"](x, x)))


@function("special.softmax")
def softmax(x: Any, axis: Any = None) -> Any:
    """eˣ/Σeˣ over ``axis``, by default over all of them; the same for x + c, to the last bits of x."""
    node = as_node(x)
    return FUNCTIONS["nn.softmax"](node, axes_of(axis, node))


@function("special.log_softmax")
def log_softmax(x: Any, axis: Any = None) -> Any:
    """log(eˣ/Σeˣ) over ``axis``, by default over all of them."""
    node = as_node(x)
    return FUNCTIONS["nn.log_softmax"](node, axes_of(axis, node))


@function("polygamma")
def polygamma(n: int, x: Any) -> Any:
    """The n-th derivative of digamma; ``n`` is a static integer >= 0."""
    if static_int(n, "polygamma's n") < 0:
        raise ValueError(f"polygamma: n must be >= 0, got {n}")
    return apply(OPS["digamma"], x) if n == 0 else apply(OPS["polygamma"], x, n=n)


__all__ = [
    "cbrt",
    "digamma",
    "entr",
    "erf",
    "erfc",
    "exp2",
    "expit",
    "expm1",
    "gammaln",
    "log1p",
    "log_expit",
    "log_softmax",
    "logit",
    "logsumexp",
    "polygamma",
    "psi",
    "softmax",
    "xlogy",
]

__all__ += entropies.__all__
__all__ += ordered.__all__
__all__ += combinatorics.__all__
__all__ += power_transforms.__all__
_OF_RECORDS = published("special")
__all__ += list(_OF_RECORDS)
globals().update(_OF_RECORDS)


def __dir__() -> list[str]:
    return sorted(__all__)
