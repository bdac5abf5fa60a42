"""A `Driver` without a device: memory, kernels and graphs of the simulated one.

Invariant: pointers are what the runtime was given, so a mistake in its bookkeeping is a `FaultError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradc.errors import DeviceError
from tests.ptx.machine import Device

#: Shared memory of a block on the smallest devices with asynchronous copies (sm_86): 99 KB.
MOST_DYNAMIC = 99 * 1024
EMPTY = ".version 7.0\n.target sm_80\n.address_size 64\n"


class SimulatedDriver:
    """One simulated device.  ``launched`` counts kernels, ``freed`` holds the addresses given back."""

    name = "Simulated GPU"
    stream = 7

    def __init__(self, capability: tuple[int, int] = (12, 0), cuda: tuple[int, int] = (13, 0), room: int = 1 << 24):
        self.compute_capability, self.cuda_version, self.room = capability, cuda, room
        self.device = Device(EMPTY, room)
        self.launched, self.graphs, self.freed = 0, 0, set[int]()
        self._allowed: dict[str, int] = {}
        self._capturing: list[Callable[[], None]] | None = None

    def load(self, ptx: str) -> Any:
        self.device.load(ptx)
        return ptx

    def function(self, module: Any, name: str, dynamic_bytes: int) -> Any:
        assert dynamic_bytes <= MOST_DYNAMIC, f"{name}: no device lends {dynamic_bytes} bytes of shared memory"
        self._allowed[name] = dynamic_bytes
        return name

    def allocate(self, size: int) -> int:
        try:
            return self.device.reserve(size)
        except MemoryError:
            raise DeviceError(f"the device could not allocate {size:,} bytes: out of memory") from None

    def free(self, pointer: int) -> None:
        self.freed.add(pointer)

    def upload(self, pointer: int, array: Any) -> None:
        assert self._capturing is None, "a copy from the host while a graph is recorded"
        self.device.set(pointer, array)

    def download(self, array: Any, pointer: int) -> None:
        array[...] = self.device.get(pointer, array.shape, array.dtype)

    def fill(self, pointer: int, byte: int, size: int) -> None:
        self._ask(lambda: self.device.set(pointer, np.full(size, byte, np.uint8)))

    def launch(self, function: Any, grid: int, block: int, pointers: Sequence[int], dynamic_bytes: int) -> None:
        assert dynamic_bytes <= self._allowed[function]

        def run() -> None:
            self.launched += 1
            self.device.launch(function, grid, block, pointers, dynamic_bytes)

        self._ask(run)

    def synchronize(self) -> None:
        pass

    def capture(self, record: Callable[[], None]) -> Callable[[], None]:
        self._capturing = captured = []
        record()
        self._capturing = None

        def replay() -> None:
            self.graphs += 1
            for work in captured:
                work()

        return replay

    def _ask(self, work: Callable[[], None]) -> None:
        if self._capturing is None:
            work()
        else:
            self._capturing.append(work)
