"""What the array API asks of a namespace: its devices, dtypes and capabilities.

Enters: nothing.  Leaves: `ArrayNamespaceInfo`, by ``__array_namespace_info__``.  Invariant: a dtype that is listed is
one that gradc computes with.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: dtypes of the array API by its kinds; complex numbers are not computed with
_KINDS: dict[str, tuple[str, ...]] = {
    "bool": ("bool",),
    "signed integer": ("int8", "int16", "int32", "int64"),
    "unsigned integer": ("uint8", "uint16", "uint32", "uint64"),
    "real floating": ("float32", "float64"),
    "complex floating": (),
}
_KINDS["integral"] = (*_KINDS["signed integer"], *_KINDS["unsigned integer"])
_KINDS["numeric"] = (*_KINDS["integral"], *_KINDS["real floating"])


class ArrayNamespaceInfo:
    """What `gradc.numpy` can do, by the functions that the array API names."""

    def capabilities(self) -> dict[str, Any]:
        """Shapes that depend on values exist outside of a trace alone."""
        return {"boolean indexing": False, "data-dependent shapes": False, "max dimensions": 64}

    def default_device(self) -> str:
        """Arrays are NumPy's, in the memory of the CPU."""
        return "cpu"

    def devices(self) -> tuple[str, ...]:
        """The devices that arrays can be on."""
        return ("cpu",)

    def default_dtypes(self, *, device: str | None = None) -> dict[str, Any]:
        """What numbers become without a dtype."""
        self._check(device)
        return {"real floating": np.dtype(float), "integral": np.dtype(int), "indexing": np.dtype(np.int64)}

    def dtypes(self, *, device: str | None = None, kind: str | tuple[str, ...] | None = None) -> dict[str, Any]:
        """The dtypes of a kind, or of several, by name; None: all."""
        self._check(device)
        kinds = ("bool", "numeric") if kind is None else (kind,) if isinstance(kind, str) else kind
        for one in kinds:
            if one not in _KINDS:
                raise ValueError(f"{one!r} is no kind of dtypes: {', '.join(_KINDS)}")
        return {name: np.dtype(name) for one in kinds for name in _KINDS[one]}

    def _check(self, device: str | None) -> None:
        if device not in (None, "cpu"):
            raise ValueError(f"there is no device {device!r}: 'cpu' alone")


def __array_namespace_info__() -> ArrayNamespaceInfo:  # noqa: N807 - the array API's name
    """Devices, dtypes and capabilities, as the array API asks for them."""
    return ArrayNamespaceInfo()
