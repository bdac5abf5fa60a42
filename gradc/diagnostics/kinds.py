"""The kinds of numbers that are looked for, and which elements of an array are such.

Enters: arrays.  Leaves: masks.  Start reading at `shows`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradc.aval import finfo, is_float
from gradc.codegen.status import WATCHED
from gradc.machines.options import ALSO_TRACED

Array = np.ndarray[Any, Any]

#: kind -> what such an element is called
CALLED = {"nan": "NaN", "overflow": "infinity", "denormal": "subnormal number", "underflow": "underflow"}
#: and several of them
SEVERAL = {"nan": "NaN", "overflow": "infinite", "denormal": "subnormal"}
#: all kinds, in the order in which they are reported
KINDS = (*WATCHED, *ALSO_TRACED)


def _subnormal(x: Array) -> Array:
    bare = np.abs(x)
    mask: Array = (bare > 0) & (bare < finfo(x.dtype).smallest_normal)
    return mask


_MASKS: dict[str, Callable[[Array], Array]] = {"nan": np.isnan, "overflow": np.isinf, "denormal": _subnormal}


def shows(kind: str, x: Any) -> Array:
    """Which elements of ``x`` are of this kind, one that an element shows."""
    array = np.asarray(x)
    if not is_float(array.dtype):
        return np.zeros(array.shape, bool)
    with np.errstate(all="ignore"):
        return np.asarray(_MASKS[kind](array), bool)


def kind_of_status(kind: int) -> str:
    """The name of what a status word says of a result."""
    return next(name for name, status in WATCHED.items() if status == kind)
