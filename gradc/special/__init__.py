"""SciPy's special functions over traced values, under SciPy's names.

``scipy.special``'s own functions work on traced values too: each is a NumPy ufunc, so its name finds the one here.
Outside a trace they are NumPy: arrays in, arrays out.
"""

from __future__ import annotations

from typing import Any

from gradc.node import FUNCTIONS, OPS, static_int
from gradc.numpy.public import exported, function
from gradc.ops.elementwise import apply

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
FUNCTIONS |= {"psi": FUNCTIONS["digamma"], "expit": FUNCTIONS["sigmoid"], "gammaln": FUNCTIONS["lgamma"]}


@function("log_expit")
def log_expit(x: Any) -> Any:
    """log(1/(1 + e⁻ˣ)) without overflow."""
    return -apply(OPS["softplus"], -FUNCTIONS["positive"](x))


@function("logit")
def logit(p: Any) -> Any:
    """log(p/(1 − p)), the inverse of expit."""
    return FUNCTIONS["log"](p) - FUNCTIONS["log1p"](FUNCTIONS["negative"](p))


@function("xlogy")
def xlogy(x: Any, y: Any) -> Any:
    """x·log y, and 0 where x is 0."""
    where = FUNCTIONS["where"]
    return where(x == 0, 0, FUNCTIONS["multiply"](x, FUNCTIONS["log"](where(x == 0, 1, y))))


@function("entr")
def entr(x: Any) -> Any:
    """−x·log x, and 0 at 0."""
    return FUNCTIONS["negative"](FUNCTIONS["xlogy"](x, x))


@function("special.softmax")
def softmax(x: Any, axis: Any = None) -> Any:
    """eˣ/Σeˣ over ``axis``, by default over all of them."""
    return FUNCTIONS["exp"](FUNCTIONS["special.log_softmax"](x, axis))


@function("special.log_softmax")
def log_softmax(x: Any, axis: Any = None) -> Any:
    """x − logsumexp(x) over ``axis``, by default over all of them."""
    return FUNCTIONS["subtract"](x, FUNCTIONS["logsumexp"](x, axis=axis, keepdims=True))


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
