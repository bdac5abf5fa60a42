"""A compiled function on the simulated device.

Enters: PTX text, a launch plan, arrays.  Leaves: the outputs, and the status word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradc.codegen.ptx import FINE, TRIPLE, Gpu, LaunchPlan, Pointer, emit
from gradc.graph import Graph
from gradc.machines.ptx import NvidiaGpu
from gradc.node import Node
from gradc.runtime.load import assemble
from gradc.schedule import Schedule, schedule
from gradc.schedule.kernel import Place
from tests.compiled_graph import expanded
from tests.ptx.machine import Device


def run(
    ptx: str, plan: LaunchPlan, schedule: Schedule, arrays: Sequence[Any]
) -> tuple[list[np.ndarray[Any, Any]], int, Device]:
    """The outputs of one call, the status word (0: fine), and the device after it."""
    needed = sum(b.size * np.dtype(b.dtype).itemsize + 1024 for b in schedule.buffers) + plan.arena_bytes
    device = Device(ptx, needed + (1 << 16))
    buffers = schedule.buffers
    inputs = [np.asarray(a, buffers[n].dtype) for a, n in zip(arrays, schedule.inputs, strict=True)]
    places: dict[tuple[Place, int], int] = {}
    for k, a in enumerate(inputs):
        places[Place.INPUT, k] = device.put(a, writable=k in schedule.donated)
    for k, a in enumerate(schedule.arrays):
        places[Place.HIDDEN, k] = device.put(a, writable=False)
    donors = {j: i for i, j in schedule.donated.items()}
    for j, number in enumerate(schedule.outputs):
        b = buffers[number]
        size = b.size * np.dtype(b.dtype).itemsize
        places[Place.OUTPUT, j] = places[Place.INPUT, donors[j]] if j in donors else device.reserve(size)
    arena = device.reserve(plan.arena_bytes)
    status = device.put(np.array([FINE], np.uint64))

    def address(p: Pointer, steps: Sequence[int]) -> int:
        return (arena + p.at if p.place is Place.ARENA else places[p.place, p.at]) + p.distance(steps)

    def holds(flag: Pointer, steps: Sequence[int]) -> bool:
        return bool(device.get(address(flag, steps), (), np.bool_)) and device.get(status, (), np.uint64) == FINE

    for launch, steps in plan.walk(holds):
        pointers = [address(p, steps) for p in launch.pointers]
        device.launch(launch.entry, launch.grid, launch.block, [*pointers, status], launch.dynamic_bytes)
    results = [
        device.get(places[Place.OUTPUT, j], buffers[n].shape, buffers[n].dtype) for j, n in enumerate(schedule.outputs)
    ]
    word = int(device.get(status, (1,), np.uint64)[0])
    return results, 0 if word == FINE else word, device


class DeviceGraph:
    """A graph compiled for the simulated device, as a callable from arrays to arrays."""

    def __init__(self, graph: Graph, arch: str = "sm_90", donated: Mapping[int, int] | None = None, **relaxed: str):
        self.graph, self.gpu = expanded(graph, NvidiaGpu.has_algorithms), Gpu(arch)
        self.schedule = schedule(self.graph, donated=donated, target=self.gpu)
        self.module = emit(self.schedule, self.gpu, "main", **relaxed)
        self.ptx = assemble(self.module.ir, TRIPLE, self.gpu.arch, self.gpu.features, opt_level=3)
        self.status, self.executed = 0, 0

    def __call__(self, *arrays: Any) -> list[np.ndarray[Any, Any]]:
        results, self.status, device = run(self.ptx, self.module.plan, self.schedule, arrays)
        self.executed = device.executed
        return results


def on_device(*outputs: Node, inputs: Sequence[Node], **options: Any) -> DeviceGraph:
    """The graph from ``inputs`` to ``outputs``, for the simulated device."""
    return DeviceGraph(Graph(tuple(inputs), outputs), **options)
