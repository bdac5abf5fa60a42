"""The methods of a traced array, under NumPy's names and with NumPy's arguments.

Enters: a call of a method.  Leaves: a call of NumPy's function of that name, or of one that does the
same, on the array and the other arguments.
Invariant: nothing is computed here, and no method has memory to write into: ``out=`` is handed on to be refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from gradc.aval import DTypeLike

#: attributes and methods of an ndarray that a value without memory does not have: what to write instead
WITHOUT_MEMORY: dict[str, str] = {
    **dict.fromkeys(
        ("base", "ctypes", "data", "flags", "setflags", "strides"),
        "Nothing needs it: a traced array is never written to.",
    ),
    **dict.fromkeys(("dump", "dumps", "tobytes", "tofile"), "Return the array and store it outside."),
    **dict.fromkeys(("byteswap", "getfield", "view"), "Convert numbers with .astype(dtype); bytes are not seen."),
    "fill": "Write  x = np.full_like(x, value).",
    "partition": "It works in place: write  x = np.partition(x, kth).",
    "put": "Write  x = x.ravel().at[indices].set(values).reshape(x.shape).",
    "resize": "It works in place: write  x = np.resize(x, shape).",
    "setfield": "Write  x = x.at[index].set(value).",
}


class ArrayMethods:
    """What an array does in the words of functions of its own first argument."""

    __slots__ = ()

    if TYPE_CHECKING:

        def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
            """The function called ``name`` of this array."""

    def reshape(self, *shape: Any, order: str = "C", copy: bool | None = None) -> Self:
        return self._call("reshape", shape[0] if len(shape) == 1 else shape, order=order, copy=copy)

    def transpose(self, *axes: Any) -> Self:
        chosen = axes[0] if len(axes) == 1 else (axes or None)
        return self._call("transpose", chosen)

    def swapaxes(self, axis1: int, axis2: int) -> Self:
        return self._call("swapaxes", axis1, axis2)

    def squeeze(self, axis: Any = None) -> Self:
        return self._call("squeeze", axis)

    def ravel(self, order: str = "C") -> Self:
        return self._call("reshape", -1, order=order)

    def flatten(self, order: str = "C") -> Self:
        return self._call("reshape", -1, order=order)

    def repeat(self, repeats: Any, axis: int | None = None) -> Self:
        return self._call("repeat", repeats, axis=axis)

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Self:
        return self._call("diagonal", offset, axis1, axis2)

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: DTypeLike = None, out: None = None) -> Self:
        return self._call("trace", offset, axis1, axis2, dtype, out=out)

    def copy(self, order: str = "C") -> Self:
        return self

    def conj(self) -> Self:
        return self

    conjugate = conj

    def sum(
        self, axis: Any = None, dtype: DTypeLike = None, out: None = None, keepdims: Any = False, **rest: Any
    ) -> Self:
        return self._call("sum", axis, dtype, out=out, keepdims=keepdims, **rest)

    def mean(
        self, axis: Any = None, dtype: DTypeLike = None, out: None = None, keepdims: Any = False, **rest: Any
    ) -> Self:
        return self._call("mean", axis, dtype, out=out, keepdims=keepdims, **rest)

    def prod(
        self, axis: Any = None, dtype: DTypeLike = None, out: None = None, keepdims: Any = False, **rest: Any
    ) -> Self:
        return self._call("prod", axis, dtype, out=out, keepdims=keepdims, **rest)

    def max(self, axis: Any = None, out: None = None, keepdims: Any = False, **rest: Any) -> Self:
        return self._call("max", axis, out=out, keepdims=keepdims, **rest)

    def min(self, axis: Any = None, out: None = None, keepdims: Any = False, **rest: Any) -> Self:
        return self._call("min", axis, out=out, keepdims=keepdims, **rest)

    def var(self, axis: Any = None, dtype: DTypeLike = None, out: None = None, ddof: float = 0, **rest: Any) -> Self:
        return self._call("var", axis, dtype, out=out, ddof=ddof, **rest)

    def std(self, axis: Any = None, dtype: DTypeLike = None, out: None = None, ddof: float = 0, **rest: Any) -> Self:
        return self._call("std", axis, dtype, out=out, ddof=ddof, **rest)

    def any(self, axis: Any = None, out: None = None, keepdims: Any = False, **rest: Any) -> Self:
        return self._call("any", axis, out=out, keepdims=keepdims, **rest)

    def all(self, axis: Any = None, out: None = None, keepdims: Any = False, **rest: Any) -> Self:
        return self._call("all", axis, out=out, keepdims=keepdims, **rest)

    def argmax(self, axis: int | None = None, out: None = None, *, keepdims: bool = False) -> Self:
        return self._call("argmax", axis, out=out, keepdims=keepdims)

    def argmin(self, axis: int | None = None, out: None = None, *, keepdims: bool = False) -> Self:
        return self._call("argmin", axis, out=out, keepdims=keepdims)

    def cumsum(self, axis: int | None = None, dtype: DTypeLike = None, out: None = None) -> Self:
        return self._call("cumsum", axis, dtype, out=out)

    def cumprod(self, axis: int | None = None, dtype: DTypeLike = None, out: None = None) -> Self:
        return self._call("cumprod", axis, dtype, out=out)

    def clip(self, min: Any = None, max: Any = None, out: None = None, **kwargs: Any) -> Self:
        return self._call("clip", min, max, out=out, **kwargs)

    def round(self, decimals: int = 0, out: None = None) -> Self:
        return self._call("round", decimals, out=out)

    def dot(self, other: Any, out: None = None) -> Self:
        return self._call("dot", other, out=out)

    def take(self, indices: Any, axis: int | None = None, out: None = None, mode: str = "raise") -> Self:
        return self._call("take", indices, axis, out=out, mode=mode)

    def argsort(self, axis: int | None = -1, kind: Any = None, order: None = None, *, stable: Any = None) -> Self:
        return self._call("argsort", axis, kind, order=order, stable=stable)

    def argpartition(self, kth: Any, axis: int | None = -1, kind: str = "introselect", order: None = None) -> Self:
        return self._call("argpartition", kth, axis, kind, order=order)

    def choose(self, choices: Any, out: None = None, mode: str = "raise") -> Self:
        return self._call("choose", choices, out=out, mode=mode)

    def nonzero(self) -> Any:
        return self._call("nonzero")

    def to_device(self, device: str, /, *, stream: None = None) -> Self:
        if device != "cpu" or stream is not None:
            raise ValueError(f"a traced array has the device 'cpu' alone, got {device!r}, stream={stream!r}")
        return self

    def searchsorted(self, v: Any, side: str = "left", sorter: Any = None) -> Self:
        return self._call("searchsorted", v, side, sorter)
