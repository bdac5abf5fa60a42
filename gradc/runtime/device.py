"""Compiled kernels on a device: arrays that live there, calls, and a step captured as one graph.

Enters: PTX text, a launch plan, descriptions of the arguments, and a `Driver`.  Leaves: `DeviceFunction`.
Invariant: nothing crosses between host and device but what is asked for (`DeviceFunction.put`, `DeviceArray.numpy`),
Python numbers, and the status word of a function that can fail.  Scratch is one arena, allocated once; calls of one
function run one after another, on the driver's stream.  Start reading at `DeviceFunction.__call__`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gradc.codegen.ptx.launch import FINE, LaunchPlan, Pointer
from gradc.codegen.ptx.target import Gpu
from gradc.errors import ArgumentDTypeError, DeviceError, StorageError
from gradc.process import renewed
from gradc.runtime import dlpack
from gradc.runtime.arrays import ArraySpec
from gradc.runtime.cuda import Driver, host_array
from gradc.schedule.kernel import Place

Array = np.ndarray[Any, Any]
ALIGN = 16
_SCALARS = (bool, int, float, np.generic)


class Memory:
    """Bytes of a device, freed when nobody holds them."""

    def __init__(self, driver: Driver, size: int):
        self.driver, self.size = driver, size
        self.pointer = driver.allocate(size)
        weakref.finalize(self, driver.free, self.pointer).atexit = False  # the process takes the context with it


class DeviceArray:
    """A contiguous array on the device.

    Other libraries read it where it lies (``__cuda_array_interface__``, DLPack); `numpy` copies it to the host.
    """

    __slots__ = ("driver", "dtype", "owner", "pointer", "shape")

    def __init__(self, driver: Driver, pointer: int, shape: tuple[int, ...], dtype: np.dtype[Any], owner: Any):
        self.driver, self.pointer, self.shape, self.dtype, self.owner = driver, pointer, shape, dtype, owner

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        size = self.dtype.itemsize
        for extent in self.shape:
            size *= extent
        return size

    def numpy(self) -> Array:
        """A copy on the host, made when the work asked for so far is done."""
        result = np.empty(self.shape, self.dtype)
        self.driver.download(result, self.pointer)
        return result

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """CUDA Array Interface, version 3."""
        return {
            "shape": self.shape, "typestr": self.dtype.str, "data": (self.pointer, False), "strides": None,
            "version": 3, "stream": self.driver.stream or None,
        }  # fmt: skip

    def __dlpack__(self, *, stream: int | None = None, **_: Any) -> Any:
        if stream not in (None, 1, -1):  # the default stream waits for ours; −1: the consumer does not want to wait
            self.driver.synchronize()
        return dlpack.capsule(self.pointer, self.shape, self.dtype, self, (dlpack.CUDA, 0))

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, 0

    def __array__(self, *_: Any, **__: Any) -> Array:
        raise TypeError("the array is on the device; copy it to the host with .numpy()")

    def __repr__(self) -> str:
        return f"<{self.dtype}[{','.join(map(str, self.shape))}] on the device>"


@dataclass(frozen=True)
class _Given:
    """An argument as it lies on the device; ``owner`` keeps it there."""

    pointer: int
    owner: Any


class DeviceFunction:
    """A compiled function on one device.

    ``failure`` makes the exception of a status word, ``mismatch`` that of an argument that does not fit.
    """

    def __init__(
        self,
        driver: Driver,
        gpu: Gpu,
        ptx: str,
        plan: LaunchPlan,
        inputs: Sequence[ArraySpec],
        outputs: Sequence[ArraySpec],
        donated: Mapping[int, int],
        hidden: Sequence[Array],
        failure: Callable[[int], Exception] | None,
        mismatch: Callable[[int, object], Exception],
    ):
        _check_device(driver, gpu)
        self.driver, self.plan, self.inputs, self.outputs = driver, plan, inputs, outputs
        self.donors = {j: i for i, j in donated.items()}
        self.failure, self.mismatch = failure, mismatch
        module = driver.load(ptx)
        self.functions = {x.entry: driver.function(module, x.entry, x.dynamic_bytes) for x in plan.launches}
        self.arena = Memory(driver, plan.arena_bytes)
        self.status = Memory(driver, 8)
        self.hidden = [self.put(a) for a in hidden]
        self.lock = renewed(self, "lock", threading.Lock)

    # -- arrays ------------------------------------------------------------------------------------------------------
    def put(self, x: Any) -> DeviceArray:
        """A copy of a host array on the device."""
        array = host_array(x)
        made = self._empty(array.shape, array.dtype)
        self.driver.upload(made.pointer, array)
        return made

    def _empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceArray:
        memory = Memory(self.driver, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        return DeviceArray(self.driver, memory.pointer, shape, dtype, memory)

    def _admit(self, i: int, x: Any) -> _Given:
        """Argument ``i`` where it lies on the device; only a Python number is copied there."""
        spec = self.inputs[i]
        if isinstance(x, _SCALARS) and not spec.shape:
            made = self.put(np.array(x, spec.dtype))
            return _Given(made.pointer, made)
        found = _on_device(x, self.driver.stream)
        if found is None:
            if isinstance(x, np.ndarray) and (x.shape, x.dtype) == (spec.shape, spec.dtype):
                raise ArgumentDTypeError(
                    f"{spec.name} is an array of the host; copy it to the device first, with .put({spec.name})"
                )
            raise self.mismatch(i, x)
        pointer, shape, dtype, contiguous, owner = found
        if (shape, dtype) != (spec.shape, spec.dtype):
            raise self.mismatch(i, np.broadcast_to(np.zeros((), dtype), shape))
        if not contiguous or (pointer % ALIGN and spec.nbytes):
            raise StorageError(f"{spec.name} must be contiguous and start at a multiple of {ALIGN} bytes; copy it")
        return _Given(pointer, owner)

    def _results(self, leaves: Sequence[Any], out: Sequence[Any | None] | None) -> list[Any]:
        """The arrays that the outputs go to: donated arguments, those given, fresh ones."""
        made: list[Any] = []
        wanted = out if out is not None else [None] * len(self.outputs)
        for j, (spec, given) in enumerate(zip(self.outputs, wanted, strict=True)):
            if j in self.donors:
                made.append(leaves[self.donors[j]])
            elif given is None:
                made.append(self._empty(spec.shape, spec.dtype))
            else:
                found = _on_device(given, self.driver.stream)
                if found is None or found[1:4] != (spec.shape, spec.dtype, True) or found[0] % ALIGN:
                    raise StorageError(f"out= for {spec.name} must be a contiguous device array {spec}")
                made.append(given)
        return made

    # -- running -----------------------------------------------------------------------------------------------------
    def __call__(self, *leaves: Any, out: Sequence[Any | None] | None = None) -> list[Any]:
        """Run on device arrays; returns as soon as the work is asked for, unless the function can fail."""
        given = [self._admit(i, x) for i, x in enumerate(leaves)]
        results = self._results(leaves, out)
        with self.lock:
            self._record(given, results)
            self._check()
        return results

    def bind(
        self, *leaves: Any, out: Sequence[Any | None] | None = None, nest: Callable[[Sequence[Any]], Any] = tuple
    ) -> Callable[[], Any]:
        """A callable that runs on these buffers, as one graph, and returns the same results each time, nested by
        ``nest``.

        Where what runs depends on what was found before, there is no graph: the host asks, and launches one by one.
        """
        given = [self._admit(i, x) for i, x in enumerate(leaves)]
        results = self._results(leaves, out)
        with self.lock:
            record = partial(self._record, given, results)
            replay = record if self.plan.decides else self.driver.capture(record)
        keep, answer = (given, results), nest(results)

        def run() -> Any:
            assert keep
            with self.lock:
                replay()
                self._check()
            return answer

        return run

    def _record(self, given: Sequence[_Given], results: Sequence[Any]) -> None:
        """Ask for every launch, in order."""
        pointers: dict[tuple[Place, int], int] = {(Place.INPUT, i): g.pointer for i, g in enumerate(given)}
        pointers |= {(Place.HIDDEN, k): a.pointer for k, a in enumerate(self.hidden)}
        pointers |= {(Place.OUTPUT, j): self._address(r) for j, r in enumerate(results)}
        if self.failure is not None:
            self.driver.fill(self.status.pointer, 0xFF, 8)

        def address(p: Pointer, steps: Sequence[int]) -> int:
            start = self.arena.pointer + p.at if p.place is Place.ARENA else pointers[p.place, p.at]
            return start + p.distance(steps)

        for x, steps in self.plan.walk(lambda flag, steps: self._holds(address(flag, steps))):
            places = [address(p, steps) for p in x.pointers]
            self.driver.launch(
                self.functions[x.entry], x.grid, x.block, [*places, self.status.pointer], x.dynamic_bytes
            )

    def _holds(self, flag: int) -> bool:
        """What launches have found so far; a function that has failed goes no further."""
        found = np.empty(1, np.uint8)
        self.driver.download(found, flag)
        return bool(found[0]) and self._word() == FINE

    def _address(self, x: Any) -> int:
        found = _on_device(x, self.driver.stream)
        assert found is not None
        return found[0]

    def _check(self) -> None:
        """Wait for the status word and raise what it says, if there is anything that can fail."""
        if self.failure is not None and (word := self._word()) != FINE:
            raise self.failure(word)

    def _word(self) -> int:
        """The status word when all work asked for is done."""
        if self.failure is None:
            return FINE
        word = np.empty(1, np.uint64)
        self.driver.download(word, self.status.pointer)
        return int(word[0])


def _check_device(driver: Driver, gpu: Gpu) -> None:
    """Raise DeviceError for a device older than the code, or a driver that does not know its PTX."""
    if driver.compute_capability < gpu.compute_capability:
        major, minor = driver.compute_capability
        raise DeviceError(f"compiled for {gpu.arch}, but {driver.name} is sm_{major}{minor}: compile for that target")
    if driver.cuda_version < gpu.cuda_version:
        have, need = (".".join(map(str, v)) for v in (driver.cuda_version, gpu.cuda_version))
        raise DeviceError(f"the driver of {driver.name} knows CUDA {have}; code for {gpu.arch} needs {need}: update it")


Found = tuple[int, tuple[int, ...], np.dtype[Any], bool, Any]


def _on_device(x: Any, stream: int) -> Found | None:
    """(pointer, shape, dtype, contiguous, owner) of what says that it lies on a CUDA device."""
    if isinstance(x, DeviceArray):
        return x.pointer, x.shape, x.dtype, True, x
    interface = getattr(x, "__cuda_array_interface__", None)
    if interface is not None:
        shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
        strides = interface.get("strides")
        steps = None if strides is None else tuple(s // dtype.itemsize for s in strides)
        return interface["data"][0] or 0, shape, dtype, dlpack.is_contiguous(shape, steps), x
    if hasattr(x, "__dlpack_device__") and x.__dlpack_device__()[0] in (dlpack.CUDA, dlpack.CUDA_MANAGED):
        t = dlpack.take(x.__dlpack__(stream=stream))
        return t.pointer, t.shape, t.dtype, t.contiguous, t.owner
    return None
