"""Arguments of NumPy's functions that the functions here do not have: dropped where they change nothing, else refused.

Enters: a function's name, an argument and its value.  Leaves: nothing, or TraceError with the user's line and what to
write instead.  Invariant: no argument that NumPy takes is ignored if it would change the result.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from gradc.errors import TraceError
from gradc.node import here

#: arguments that change nothing for an array without memory, and the values that may be given
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "out": (None, (None,)),
    "order": (None, "C", "K", "A"),
    "subok": (True, False),
    "copy": (None, True, False),
    "device": (None, "cpu"),
    "like": (None,),
    "casting": ("same_kind", "unsafe"),
    "where": (True,),
    "dtype": (None,),
    "initial": (None,),
    "keepdims": (False,),
    "overwrite_input": (False, True),
    "sorter": (None,),
}
_REMEDY = {
    "out": "traced arrays are immutable; use the returned array",
    "where": "choose elements with np.where(mask, x, fill)",
    "casting": "convert operands or result with .astype",
    "order": "a traced array has no memory layout",
}


def refuse_unless_harmless(function: str, key: str, value: Any, accepted: Collection[str] = ()) -> None:
    """TraceError for an argument that would change the result, or that nobody knows."""
    allowed = _HARMLESS.get(key, ())
    if any(value is a or (type(a) in (str, tuple) and type(value) is type(a) and value == a) for a in allowed):
        return
    if key == "where" and isinstance(getattr(np, function, None), np.ufunc):
        raise TraceError(
            f"{here()}: np.{function} on traced arrays does not take where={_short(value)}: NumPy leaves what it does "
            "not select undefined, or as it was in out=, which a traced value cannot be written into.\n"
            f"  Write  np.where(mask, np.{function}(…), y)  with the values y that the others shall have."
        )
    remedy = _REMEDY.get(key, f"its arguments: {', '.join(sorted(accepted)) or 'none'}")
    raise TraceError(f"{here()}: {function} on traced arrays does not take {key}={_short(value)}: {remedy}")


def _short(value: Any) -> str:
    """An array by its kind alone."""
    return f"<{value.dtype} array>" if isinstance(value, np.ndarray) else f"{value!r:.60}"
