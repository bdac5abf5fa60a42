"""Schedules to kernels of NVIDIA GPUs: the same scalar code as on the CPU, walked by threads.  Start at `emit.emit`."""

from __future__ import annotations

from gradc.codegen.ptx.emit import DeviceModule, emit
from gradc.codegen.ptx.launch import FINE, Launch, LaunchPlan, Pointer
from gradc.codegen.ptx.target import TRIPLE, Gpu

__all__ = [
    "FINE",
    "TRIPLE",
    "DeviceModule",
    "Gpu",
    "Launch",
    "LaunchPlan",
    "Pointer",
    "emit",
]
