"""A clock that compiled code can read: ``i64 ()``, nanoseconds from some start.

Enters: nothing.  Leaves: `Clock`, the address of a function made here.  It asks the system's monotonic clock, which
every 64-bit system offers without a privilege; a processor's cycle counter would be cheaper to read, but on some
processors reading it ends the process.  Start reading at `clock`.
"""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import dataclass
from typing import Any

from gradc.process import once
from gradc.runtime.load import load

SYMBOL = "gradc_clock"
_POSIX = """
declare i32 @clock_gettime(i32, ptr)
define i64 @gradc_clock() nounwind {{
  %time = alloca [2 x i64], align 8
  %status = call i32 @clock_gettime(i32 {number}, ptr %time)
  %second = load i64, ptr %time, align 8
  %place = getelementptr i64, ptr %time, i64 1
  %rest = load i64, ptr %place, align 8
  %whole = mul i64 %second, 1000000000
  %now = add i64 %whole, %rest
  ret i64 %now
}}
"""
_WINDOWS = """
declare i32 @QueryPerformanceCounter(ptr)
define i64 @gradc_clock() nounwind {{
  %time = alloca i64, align 8
  %status = call i32 @QueryPerformanceCounter(ptr %time)
  %ticks = load i64, ptr %time, align 8
  %seconds = udiv i64 %ticks, {number}
  %left = urem i64 %ticks, {number}
  %whole = mul i64 %seconds, 1000000000
  %scaled = mul i64 %left, 1000000000
  %rest = udiv i64 %scaled, {number}
  %now = add i64 %whole, %rest
  ret i64 %now
}}
"""


@dataclass(frozen=True)
class Clock:
    """A function in memory; it stays mapped as long as this object lives."""

    address: int
    owner: Any

    @property
    def symbols(self) -> dict[str, int]:
        """What `gradc.runtime.load.load` needs to link code that reads the clock."""
        return {SYMBOL: self.address}


@once
def clock() -> Clock:
    """The clock of this process."""
    text, asked = _windows() if os.name == "nt" else _posix()
    loaded = load(text, SYMBOL, symbols=asked)
    return Clock(loaded.address, loaded)


def _posix() -> tuple[str, dict[str, int]]:
    number = time.CLOCK_MONOTONIC
    return _POSIX.format(number=number), {"clock_gettime": _address(ctypes.CDLL(None).clock_gettime)}


def _windows() -> tuple[str, dict[str, int]]:
    kernel = ctypes.CDLL("kernel32")
    frequency = ctypes.c_int64()
    kernel.QueryPerformanceFrequency(ctypes.byref(frequency))
    asked = {"QueryPerformanceCounter": _address(kernel.QueryPerformanceCounter)}
    return _WINDOWS.format(number=frequency.value), asked


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0
