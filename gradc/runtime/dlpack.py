"""DLPack capsules: arrays handed to and taken from other libraries without a copy.

Enters: a pointer with its shape and dtype, or a capsule.  Leaves: a capsule, or a `Tensor`.
The layout is that of `DLPack 0.8 <https://dmlc.github.io/dlpack/latest/c_api.html>`_ (``DLManagedTensor``).
Invariant: the memory lives until the consumer calls the deleter; a capsule that nobody took is released with itself.
Start reading at `capsule`.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.errors import ArgumentDTypeError

HOST, CUDA, CUDA_MANAGED = 1, 2, 13
_KINDS = {"i": 0, "u": 1, "f": 2, "b": 6}
_BFLOAT = 4
_LETTERS = {code: kind for kind, code in _KINDS.items()}


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )  # fmt: skip


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _DLManagedTensor(ctypes.Structure):
    _fields_ = (("tensor", _DLTensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


_NAME, _USED = b"dltensor", b"used_dltensor"
#: Address of a managed tensor -> what keeps it and its memory alive.
_ALIVE: dict[int, tuple[Any, ...]] = {}


def _delete(address: int) -> None:
    _ALIVE.pop(address, None)


def _drop(capsule: int) -> None:
    """A capsule that dies under its first name was never taken."""
    if _valid(capsule, _NAME):
        _delete(_pointer(capsule, _NAME))


_DELETER, _DESTRUCTOR = _Deleter(_delete), _Destructor(_drop)


def _api(name: str, result: Any, *arguments: Any) -> Any:
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


_new = _api("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _Destructor)
_valid = _api("PyCapsule_IsValid", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_pointer = _api("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
_rename = _api("PyCapsule_SetName", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)


def capsule(pointer: int, shape: tuple[int, ...], dtype: np.dtype[Any], owner: Any, device: tuple[int, int]) -> Any:
    """A capsule of contiguous memory that ``owner`` keeps alive; ``device`` is DLPack's (type, number)."""
    extents = (ctypes.c_int64 * max(1, len(shape)))(*shape)
    kind = _BFLOAT if dtype.name == "bfloat16" else _KINDS[dtype.kind]
    tensor = _DLTensor(pointer, *device, len(shape), kind, 8 * dtype.itemsize, 1, extents, None, 0)
    managed = _DLManagedTensor(tensor, None, ctypes.cast(_DELETER, ctypes.c_void_p))
    address = ctypes.addressof(managed)
    _ALIVE[address] = (managed, extents, owner)
    return _new(address, _NAME, _DESTRUCTOR)


@dataclass(frozen=True)
class Tensor:
    """What a capsule holds; ``owner`` releases it when it goes."""

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    contiguous: bool
    device: tuple[int, int]
    owner: Any


class _Taken:
    """Calls the producer's deleter once nobody holds this."""

    def __init__(self, address: int):
        self.address = address

    def __del__(self) -> None:
        managed = _DLManagedTensor.from_address(self.address)
        if managed.deleter:
            _Deleter(managed.deleter)(self.address)


def take(given: Any) -> Tensor:
    """The tensor in a capsule, which is used up."""
    if not _valid(id(given), _NAME):
        raise ArgumentDTypeError("a DLPack capsule can be taken once, and only under the name 'dltensor'")
    address = _pointer(id(given), _NAME)
    _rename(id(given), _USED)
    t = _DLManagedTensor.from_address(address).tensor
    owner = _Taken(address)
    dtype = _dtype_of(t) if t.lanes == 1 else None
    if dtype is None:
        raise ArgumentDTypeError(f"a DLPack array of type code {t.code} with {t.lanes} lanes has no NumPy dtype")
    shape = tuple(t.shape[k] for k in range(t.ndim))
    strides = tuple(t.strides[k] for k in range(t.ndim)) if t.strides else None
    return Tensor(
        (t.data or 0) + t.byte_offset, shape, dtype, is_contiguous(shape, strides), (t.device_type, t.device_id), owner
    )


def _dtype_of(t: _DLTensor) -> np.dtype[Any] | None:
    """The dtype of an element, if NumPy and ml_dtypes have one."""
    if t.code == _BFLOAT:
        return np.dtype("bfloat16") if t.bits == 16 else None
    letter = _LETTERS.get(t.code)
    return None if letter is None else np.dtype(bool) if letter == "b" else np.dtype(f"{letter}{t.bits // 8}")


def is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> bool:
    if strides is None or 0 in shape:
        return True
    step = 1
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent != 1 and stride != step:
            return False
        step *= extent
    return True
