"""Where this CPython and this NumPy keep what the compiled entry reads, verified on live objects before it is trusted.

Enters: nothing.  Leaves: `ObjectModel`, or None on an interpreter whose objects look different; `address`.
Invariant: no offset is used that was not compared with what Python itself says.  Start reading at `probe`.

The offsets are those of 64-bit CPython with the GIL and of NumPy 2's `PyArrayObject`_; function indices are positions
in NumPy's C-API table, fixed for one ABI version.

.. _PyArrayObject: https://numpy.org/doc/stable/reference/c-api/types-and-structures.html
"""

from __future__ import annotations

import ctypes
import struct
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

REFCOUNT, TYPE = 0, 8  # PyObject
VALUE = 16  # PyFloatObject and every NumPy scalar of fixed size
DATA, NDIM, DIMS, BASE, DESCR, FLAGS = 16, 24, 32, 48, 56, 64  # PyArrayObject
C_CONTIGUOUS, ALIGNED, WRITEABLE = 0x1, 0x100, 0x400

_ABI_VERSION = 0x02000000
_NEW_FROM_DESCR, _SCALAR, _SET_BASE_OBJECT = 94, 60, 282  # numpy/__multiarray_api.h
_PYTHON_FUNCTIONS = (
    "Py_IncRef", "Py_DecRef", "PyTuple_New", "PyTuple_Size", "PyTuple_GetItem", "PyTuple_SetItem", "PyList_New",
    "PyList_Size", "PyList_GetItem", "PyList_SetItem", "PyDict_New", "PyDict_Size", "PyDict_GetItemWithError",
    "PyDict_SetItem", "PyObject_GetAttr", "PyObject_GenericSetAttr", "PyObject_Vectorcall", "PyType_GenericAlloc",
    "PyContextVar_Get", "PyErr_Clear", "PyErr_Occurred", "PyLong_FromLongLong", "PyLong_AsDouble",
    "PyLong_AsLongLongAndOverflow", "PyEval_SaveThread", "PyEval_RestoreThread", "PyMem_RawMalloc", "PyMem_RawFree",
)  # fmt: skip
_SCALAR_DTYPES = "?bhiqBHIQefd"


@dataclass(frozen=True, slots=True)
class ObjectModel:
    """Addresses of the C functions the compiled entry calls, by symbol."""

    symbols: dict[str, int]


@cache
def probe() -> ObjectModel | None:
    """The object model, or None where it is not the one the compiled entry was written for."""
    if not _is_known_interpreter():
        return None
    table = _numpy_table()
    if table is None or not (_arrays_fit() and _scalars_fit() and _refcounts_fit()):
        return None
    symbols = {name: _address(name) for name in _PYTHON_FUNCTIONS if hasattr(ctypes.pythonapi, name)}
    if len(symbols) < len(_PYTHON_FUNCTIONS):
        return None
    symbols |= {
        "PyArray_NewFromDescr": table[_NEW_FROM_DESCR],
        "PyArray_Scalar": table[_SCALAR],
        "PyArray_SetBaseObject": table[_SET_BASE_OBJECT],
    }
    return ObjectModel(symbols)


def _is_known_interpreter() -> bool:
    return (
        sys.implementation.name == "cpython"
        and struct.calcsize("P") == 8
        and sys.byteorder == "little"
        and not sysconfig.get_config_var("Py_GIL_DISABLED")
        and not hasattr(sys, "gettotalrefcount")
    )


def _address(name: str) -> int:
    return ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0


def _numpy_table() -> ctypes.Array[Any] | None:
    """NumPy's C-API table, if it is of the ABI version whose indices we know."""
    try:
        capsule = import_module("numpy._core._multiarray_umath")._ARRAY_API  # it lives nowhere else
    except (ImportError, AttributeError):
        return None
    prototype = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    get = prototype(("PyCapsule_GetPointer", ctypes.pythonapi))
    table = (ctypes.c_void_p * (_SET_BASE_OBJECT + 1)).from_address(get(capsule, None))
    version = ctypes.PYFUNCTYPE(ctypes.c_uint)(table[0] or 0)()
    known = version == _ABI_VERSION and table[2] == id(np.ndarray) and table[3] == id(np.dtype)
    return table if known else None


def _word(at: int) -> int:
    return ctypes.c_int64.from_address(at).value


def _arrays_fit() -> bool:
    read_only = np.arange(6.0).reshape(2, 3)
    read_only.flags.writeable = False
    unaligned = np.zeros(17, np.uint8)[1:].view(np.float64)
    probes: list[np.ndarray[Any, Any]] = [
        np.arange(6.0, dtype=np.float32).reshape(1, 2, 3),
        np.zeros((3, 4))[:, 1],
        np.array(2),
        read_only,
        unaligned,
    ]
    return all(map(_array_fits, probes))


def _array_fits(x: np.ndarray[Any, Any]) -> bool:
    at = id(x)
    flags = _word(at + FLAGS)
    dims = _word(at + DIMS)
    return (
        _word(at + TYPE) == id(np.ndarray)
        and _word(at + DATA) == x.__array_interface__["data"][0]
        and ctypes.c_int32.from_address(at + NDIM).value == x.ndim
        and all(_word(dims + 8 * k) == extent for k, extent in enumerate(x.shape))
        and _word(at + BASE) == (0 if x.base is None else id(x.base))
        and _word(at + DESCR) == id(x.dtype)
        and bool(flags & C_CONTIGUOUS) == x.flags.c_contiguous
        and bool(flags & ALIGNED) == x.flags.aligned
        and bool(flags & WRITEABLE) == x.flags.writeable
    )


def _scalars_fit() -> bool:
    scalars: list[Any] = [np.dtype(code).type(1) for code in _SCALAR_DTYPES]
    numpy_fits = all(
        _word(id(s) + TYPE) == id(type(s)) and ctypes.string_at(id(s) + VALUE, s.itemsize) == s.tobytes()
        for s in scalars
    )
    value = float("1.375")
    return numpy_fits and ctypes.c_double.from_address(id(value) + VALUE).value == value


def _refcounts_fit() -> bool:
    """An object held by one list counts one, and each further holder one more."""
    held = [np.empty(1)]
    count: Callable[[], int] = lambda: ctypes.c_int32.from_address(id(held[0]) + REFCOUNT).value  # noqa: E731
    alone = count()
    held.append(held[0])
    return (alone, count()) == (1, 2)


def _choose_address() -> Callable[[np.ndarray[Any, Any]], int]:
    """The quick way to an array's data where the layout is known, the documented one elsewhere (six times slower)."""
    if not (_is_known_interpreter() and _arrays_fit()):
        return lambda x: x.ctypes.data
    read = ctypes.c_size_t.from_address
    return lambda x: read(id(x) + DATA).value


address = _choose_address()
"""``address(array)``: where its first element lies."""
