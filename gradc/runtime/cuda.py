"""The CUDA driver, as much of it as a compiled function needs.

Enters: PTX text, sizes, pointers.  Leaves: handles, pointers, and a `DeviceError` for every call that fails.
Invariant: all work goes to one stream of the first device's primary context, the one that other libraries use too; so
what is asked for happens in order, and a call returns before it has happened unless it hands bytes to the host.
NVIDIA's own bindings (``pip install gradc[cuda]``) are imported when a driver is first asked for.
Start reading at `Driver`.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol

import numpy as np

from gradc.errors import DeviceError

Array = np.ndarray[Any, Any]


class Driver(Protocol):
    """One device: its memory, its kernels, its one stream.  Pointers are addresses; other handles are opaque."""

    @property
    def name(self) -> str:
        """The device's name."""

    @property
    def compute_capability(self) -> tuple[int, int]:
        """(major, minor)."""

    @property
    def cuda_version(self) -> tuple[int, int]:
        """The newest CUDA version that the driver knows."""

    @property
    def stream(self) -> int:
        """The address of the stream, as other libraries name it."""

    def load(self, ptx: str) -> Any:
        """A module from PTX text."""

    def function(self, module: Any, name: str, dynamic_bytes: int) -> Any:
        """A kernel of a module, whose launches may ask for so many bytes of shared memory."""

    def allocate(self, size: int) -> int:
        """The address of ``size`` bytes, aligned to 256."""

    def free(self, pointer: int) -> None:
        """Give memory back once the work asked for so far is done with it."""

    def upload(self, pointer: int, array: Array) -> None:
        """Copy a contiguous host array to the device."""

    def download(self, array: Array, pointer: int) -> None:
        """Copy into a contiguous host array, when all work asked for so far is done."""

    def fill(self, pointer: int, byte: int, size: int) -> None:
        """Set bytes."""

    def launch(self, function: Any, grid: int, block: int, pointers: Sequence[int], dynamic_bytes: int) -> None:
        """Run a kernel on a one-dimensional grid; each block gets so many bytes of shared memory beside its own."""

    def synchronize(self) -> None:
        """Wait until all work asked for so far is done."""

    def capture(self, record: Callable[[], None]) -> Callable[[], None]:
        """What ``record`` asks for, as one graph; calling the result runs it."""


@cache
def driver() -> Driver:
    """The driver of this machine's first device.

    Raises DeviceError where NVIDIA's bindings, the driver or a device is missing.
    """
    try:
        from cuda.bindings import driver as bindings
    except ImportError:
        raise DeviceError(
            "running on a GPU needs NVIDIA's Python bindings: pip install 'gradc[cuda]'; the PTX and the launch plan "
            "are there without them (.ptx, .plan)"
        ) from None
    try:
        return Bindings(bindings)
    except DeviceError:
        raise
    except Exception as error:  # the bindings look for the driver's library when they are first called
        raise DeviceError(
            f"no CUDA driver was found ({type(error).__name__}): install NVIDIA's display driver; the PTX and the "
            "launch plan are there without it (.ptx, .plan)"
        ) from error


#: Bytes of what the driver's compiler may say about PTX that it refuses.
LOG_BYTES = 8192


class Bindings:
    """`Driver` by way of cuda-bindings."""

    def __init__(self, cuda: Any):
        self.cuda = cuda
        self._ask("start", cuda.cuInit, 0)
        if not self._ask("count devices", cuda.cuDeviceGetCount):
            raise DeviceError("the CUDA driver is there, but no device; the PTX and the launch plan are in .ptx, .plan")
        self.device = self._ask("find the device", cuda.cuDeviceGet, 0)
        self.context = self._ask("open a context", cuda.cuDevicePrimaryCtxRetain, self.device)
        with self._inside():
            # An ordinary stream: it waits for the default one, which other libraries use, and that one for it.
            self._stream = self._ask("open a stream", cuda.cuStreamCreate, 0)
            pool = self._ask("find its memory pool", cuda.cuDeviceGetDefaultMemPool, self.device)
            keep = cuda.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
            self._ask("keep freed memory", cuda.cuMemPoolSetAttribute, pool, keep, cuda.cuuint64_t(2**64 - 1))

    def _ask(self, what: str, call: Callable[..., Any], *args: Any) -> Any:
        """The results of a driver call without its error code, or the error by name."""
        code, *results = call(*args)
        if code != self.cuda.CUresult.CUDA_SUCCESS:
            raise DeviceError(f"the device could not {what}: {self._words(code)}")
        return results[0] if len(results) == 1 else results

    def _words(self, code: Any) -> str:
        _, name = self.cuda.cuGetErrorName(code)
        _, words = self.cuda.cuGetErrorString(code)
        if not name or not words:  # an error that this driver does not know
            return f"error {int(code)}"
        return f"{words.decode()} ({name.decode()})"

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """With the context current, as each Python thread has its own; another library's comes back afterwards."""
        if int(self._ask("say where it is", self.cuda.cuCtxGetCurrent)) == int(self.context):
            yield
            return
        self._ask("enter its context", self.cuda.cuCtxPushCurrent, self.context)
        try:
            yield
        finally:
            self._ask("leave its context", self.cuda.cuCtxPopCurrent)

    @property
    def name(self) -> str:
        text = self._ask("say its name", self.cuda.cuDeviceGetName, 256, self.device)
        return str(text.split(b"\0")[0].decode())

    @property
    def compute_capability(self) -> tuple[int, int]:
        kinds = self.cuda.CUdevice_attribute
        asked = (
            kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
        major, minor = (self._ask("say what it is", self.cuda.cuDeviceGetAttribute, k, self.device) for k in asked)
        return int(major), int(minor)

    @property
    def cuda_version(self) -> tuple[int, int]:
        number = int(self._ask("say its version", self.cuda.cuDriverGetVersion))
        return number // 1000, number % 1000 // 10

    @property
    def stream(self) -> int:
        return int(self._stream)

    def load(self, ptx: str) -> Any:
        kinds = self.cuda.CUjit_option
        options = [kinds.CU_JIT_ERROR_LOG_BUFFER, kinds.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES]
        log = bytearray(LOG_BYTES)
        with self._inside():
            code, module = self.cuda.cuModuleLoadDataEx(ptx.encode() + b"\0", 2, options, [log, LOG_BYTES])
        if code != self.cuda.CUresult.CUDA_SUCCESS:
            said = log.split(b"\0")[0].decode(errors="replace").strip()
            raise DeviceError(f"the device could not load the PTX: {self._words(code)}" + (f"\n{said}" if said else ""))
        return module

    def function(self, module: Any, name: str, dynamic_bytes: int) -> Any:
        with self._inside():
            found = self._ask(f"find {name}", self.cuda.cuModuleGetFunction, module, name.encode())
            if dynamic_bytes:
                what = self.cuda.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                words = f"lend {dynamic_bytes:,} bytes of shared memory to {name}"
                self._ask(words, self.cuda.cuFuncSetAttribute, found, what, dynamic_bytes)
        return found

    def allocate(self, size: int) -> int:
        with self._inside():
            return int(self._ask(f"allocate {size:,} bytes", self.cuda.cuMemAllocAsync, max(size, 1), self._stream))

    def free(self, pointer: int) -> None:
        with self._inside():
            self._ask("free memory", self.cuda.cuMemFreeAsync, pointer, self._stream)

    def upload(self, pointer: int, array: Array) -> None:
        if array.nbytes:
            with self._inside():
                copy = self.cuda.cuMemcpyHtoDAsync
                self._ask("copy from the host", copy, pointer, array.ctypes.data, array.nbytes, self._stream)
            self.synchronize()

    def download(self, array: Array, pointer: int) -> None:
        if array.nbytes:
            with self._inside():
                copy = self.cuda.cuMemcpyDtoHAsync
                self._ask("copy to the host", copy, array.ctypes.data, pointer, array.nbytes, self._stream)
        self.synchronize()

    def fill(self, pointer: int, byte: int, size: int) -> None:
        with self._inside():
            self._ask("fill memory", self.cuda.cuMemsetD8Async, pointer, byte, size, self._stream)

    def launch(self, function: Any, grid: int, block: int, pointers: Sequence[int], dynamic_bytes: int) -> None:
        arguments = (tuple(pointers), (ctypes.c_void_p,) * len(pointers))
        shape = (grid, 1, 1, block, 1, 1, dynamic_bytes)
        with self._inside():
            self._ask("launch a kernel", self.cuda.cuLaunchKernel, function, *shape, self._stream, arguments, 0)

    def synchronize(self) -> None:
        with self._inside():
            self._ask("finish", self.cuda.cuStreamSynchronize, self._stream)

    def capture(self, record: Callable[[], None]) -> Callable[[], None]:
        with self._inside():
            graph = self._recorded(record)
            replay = self._ask("make a graph", self.cuda.cuGraphInstantiate, graph, 0)
            self._ask("forget a graph", self.cuda.cuGraphDestroy, graph)

        def run() -> None:
            with self._inside():
                self._ask("run a graph", self.cuda.cuGraphLaunch, replay, self._stream)

        weakref.finalize(run, self._forget, replay).atexit = False
        return run

    def _recorded(self, record: Callable[[], None]) -> Any:
        """What ``record`` asks of the stream; nothing of it runs."""
        mode = self.cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._ask("record a graph", self.cuda.cuStreamBeginCapture, self._stream, mode)
        try:
            record()
        except BaseException:
            self.cuda.cuStreamEndCapture(self._stream)  # whatever it says: the stream is ordinary again
            raise
        return self._ask("record a graph", self.cuda.cuStreamEndCapture, self._stream)

    def _forget(self, replay: Any) -> None:
        """A graph that nobody can run any more."""
        with self._inside():
            self._ask("forget a graph", self.cuda.cuGraphExecDestroy, replay)


def host_array(x: Any) -> Array:
    """``x`` as a contiguous host array."""
    return np.ascontiguousarray(x).reshape(np.shape(x))
