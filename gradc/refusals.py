"""What to say, and what to write instead, where numbers are needed and a traced value has none.

Enters: what the user's line is doing (`places.doing`).  Leaves: two sentences of a message, and the error that they
make even where NumPy replaces it by one of its own.  Invariant: a remedy is spelt with the user's own names, so that it
can be typed as it stands.  Start reading at `words`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextvars import ContextVar
from types import CodeType, FrameType

from gradc.errors import TraceError
from gradc.places import Doing, is_user_code

#: what `__array__` is asked for
ARRAY = "a NumPy array"
#: Python's functions of several values, each with NumPy's of one array
_BUILT_IN = {
    "max": "np.max(x), or np.maximum(a, b) of two values",
    "min": "np.min(x), or np.minimum(a, b) of two values",
    "sorted": "np.sort(x)",
    "any": "np.any(x)",
    "all": "np.all(x)",
}
#: what joins in an index, each with the function that does so
_JOINERS = {"r_": "np.concatenate([…])", "c_": "np.column_stack([…])"}

_WRITES = "it writes into its argument, and traced arrays are immutable"
_MEMORY = "it asks for the memory of an array, and a traced one has none"
_COMPLEX = "its results are complex numbers, which gradc does not compute with"
_TEXT = "it makes text of values, and a traced array has none"
_FILE = "it writes values to a file, and a traced array has none"
_LENGTH = "the length of its result depends on values"
_OUTSIDE = "Return the array and do it outside."
_UNDO = "Nothing needs it: a traced array is never written to."
_TRANSFORM = "Of a short signal write the sums: np.cos(2 * np.pi * np.outer(k, n) / len(x)) @ x, and with np.sin."
#: functions of NumPy that are refused on purpose: the reason, and what to do
ON_PURPOSE: dict[str, tuple[str, str]] = {
    "copyto": (_WRITES, "Write  x = np.where(mask, new, x)  and use the returned array."),
    "fill_diagonal": (_WRITES, "Write  i = np.arange(min(x.shape)); x = x.at[i, i].set(value)."),
    "place": (_WRITES, "Write  x = np.where(mask, value, x)  and use the returned array."),
    "put": (_WRITES, "Write  x = x.ravel().at[indices].set(values).reshape(x.shape)."),
    "putmask": (_WRITES, "Write  x = np.where(mask, values, x)  and use the returned array."),
    "put_along_axis": (_WRITES, "Write  x = gradc.numpy.put_along_axis(x, indices, values, axis)."),
    **dict.fromkeys(("shares_memory", "may_share_memory", "isfortran"), (_MEMORY, _UNDO)),
    **dict.fromkeys(("asfortranarray", "require"), (_MEMORY, "Write  gradc.numpy.asarray(x).")),
    "asarray_chkfinite": ("it looks at values", "Write  gradc.numpy.asarray(x), and return np.isfinite(x).all()."),
    "roots": (_COMPLEX, "Near a real root take Newton's steps: x - np.polyval(p, x) / np.polyval(np.polyder(p), x)."),
    "sort_complex": (_COMPLEX, "Write  np.sort(x)."),
    **dict.fromkeys(
        (f"fft.{n}{d}" for n in ("fft", "ifft", "rfft", "irfft") for d in ("", "2", "n")), (_COMPLEX, _TRANSFORM)
    ),
    **dict.fromkeys(("fft.hfft", "fft.ihfft"), (_COMPLEX, _TRANSFORM)),
    "trim_zeros": (_LENGTH, "Slice by a known length, or keep the zeros."),
    **dict.fromkeys(
        ("array2string", "array_repr", "array_str", "base_repr", "binary_repr", "format_float_positional",
         "format_float_scientific"), (_TEXT, _OUTSIDE)
    ),
    **dict.fromkeys(("save", "savez", "savez_compressed", "savetxt"), (_FILE, _OUTSIDE)),
    **dict.fromkeys(("asmatrix", "bmat"), ("an np.matrix is no array: its * is a product", "Write  np.block  and  @.")),
    "frompyfunc": ("a Python function of single numbers is called with values", "Write  gradc.vmap(f)(x)."),
}  # fmt: skip
_NAMESPACES = ("gradc.numpy", "gradc.special", "gradc.numpy.linalg", "gradc.linalg")


def public_name(name: str, first: str = "gradc.numpy") -> str | None:
    """The full name of gradc's function called ``name``, sought in namespace ``first`` before the others."""
    for module in (first, *_NAMESPACES):
        if name in getattr(sys.modules.get(module), "__all__", ()):
            return f"{module}.{name}"
    return None


def words(does: Doing, scipy: bool, needs: str, remedy: str) -> tuple[str, str]:
    """What needs numbers, and what to do; ``needs`` and ``remedy`` where the line itself says no more."""
    name = does.call.rpartition(".")[2]
    if does.stores:
        new = f"{does.base} = gradc.numpy.asarray({does.base}).at[{does.index}].set(…)"
        return (
            f"`{does.base}[{does.index}] = …` writes into a NumPy array and",
            f"Write  {new}  and go on with that: traced values make new arrays.",
        )
    if does.contains:
        return f"`{does.text}`", f"Write  ({does.index} == {does.base}).any()  and choose with np.where or gc.cond."
    if does.call in _BUILT_IN and needs != ARRAY:
        return f"Python's {does.call}(…), which compares one after another,", f"Write  {_BUILT_IN[does.call]}."
    if does.formats:
        return f"the format in  {does.text}", "Return the array and print it outside; f'{x}' shows its dtype."
    if scipy and name:
        return _of_scipy(does.call, name)
    if does.call.startswith("math."):
        known = f"Write  np.{name}(…)." if public_name(name) else "docs/ops.md lists functions of traced values."
        return f"{does.call}(…)", f"Python's math computes with numbers alone. {known}"
    if needs == ARRAY and name:
        return _of_numpy(does.call, name, remedy)
    if does.base and not does.call:
        return _of_an_index(does)
    if needs == ARRAY and does.lists:
        return f"a list in  {does.text}  becomes a NumPy array and", "Write  gradc.numpy.asarray([…])  for the list."
    return needs, remedy


def _of_numpy(call: str, name: str, remedy: str) -> tuple[str, str]:
    known = public_name(name)
    if name in ON_PURPOSE and call in (f"np.{name}", f"numpy.{name}"):
        reason, remedy = ON_PURPOSE[name]
        return f"{call}(…) is refused: {reason}; it", remedy
    what = f"{call}(…) computes with NumPy arrays and"
    if known is None:
        return what, remedy
    function = getattr(sys.modules[known.rpartition(".")[0]], name)
    if isinstance(function, type):
        return what, f"Convert with  .astype({call})."
    if hasattr(function, "remedy"):
        return what, function.remedy
    return what, f"Write  {known}(…): it takes traced values, also in lists."


def _of_scipy(call: str, name: str) -> tuple[str, str]:
    what = f"{call}(…) is no ufunc: it computes with NumPy arrays and"
    known = public_name(name, "gradc.special")
    if known:
        return what, f"Write  {known}(…)."
    return what, "gradc.special has no function of that name; docs/ops.md lists what it can be written with."


def _of_an_index(does: Doing) -> tuple[str, str]:
    joiner = _JOINERS.get(does.base.rpartition(".")[2])
    if joiner is not None:
        return f"{does.text}  joins NumPy arrays and", f"Write  {joiner}."
    if ":" in does.index:
        return (
            f"the slice in  {does.text}",
            "A slice needs a known length: write  gradc.numpy.asarray(table)[start + np.arange(length)], "
            "or add the bound to static=.",
        )
    return (
        f"the index in  {does.text}",
        f"Write  gradc.numpy.asarray({does.base})[{does.index}]: it takes traced indices.",
    )


#: what `x.at[index]` calls what a ufunc does at an index
_AT = {name: name for name in ("add", "subtract", "multiply", "divide", "power")} | {"maximum": "max", "minimum": "min"}


def unsupported(at: str, name: str, known: Iterable[str]) -> TraceError:
    """The error for a NumPy function that gradc does not trace, with those ``known`` of nearly the same name."""
    from difflib import get_close_matches

    ufunc, _, method = name.partition(".")
    if method == "at" and ufunc in _AT:
        return TraceError(
            f"{at}: np.{name} cannot be traced by gradc: traced arrays are immutable.\n"
            f"  Write  x = x.at[index].{_AT[ufunc]}(values)  and use the returned array."
        )
    if name in ON_PURPOSE:
        reason, remedy = ON_PURPOSE[name]
        return TraceError(f"{at}: np.{name} is refused: {reason}.\n  {remedy}")
    words = [k for k in known if k.isidentifier() and len(k) > 2]
    near = get_close_matches(name.split(".")[-1], words, n=3, cutoff=0.8)
    hint = f"Nearest supported: {', '.join(near)}." if near else "See docs/ops.md for what is supported."
    return TraceError(f"{at}: np.{name} cannot be traced by gradc.\n  {hint}")


# -- refusals that NumPy hides -----------------------------------------------------------------------------------------

#: what was refused last: the message, and the code and line of the user that were running
_last: ContextVar[tuple[str, CodeType, int] | None] = ContextVar("gradc_refused", default=None)


def noted(error: TraceError, frame: FrameType | None) -> TraceError:
    """``error``, remembered as what the user's ``frame`` met."""
    if frame is not None:
        _last.set((str(error), frame.f_code, frame.f_lineno))
    return error


def as_refused(error: Exception) -> TraceError | None:
    """The refusal to give a number that NumPy or Python met and replaced by ``error``; None if there was none.

    Assigning to an element of a NumPy array, ``np.zeros(n)`` and ``'%d' % n`` do so.
    """
    refused, trail, last = _last.get(), error.__traceback__, None
    while trail is not None:
        if is_user_code(trail.tb_frame):
            last = trail.tb_frame.f_code, trail.tb_lineno
        trail = trail.tb_next
    if type(error) not in (TypeError, ValueError) or refused is None or last != refused[1:]:
        return None
    return TraceError(refused[0])
