"""Ctrl-C, and every other exception out of a signal's handler, while compiled code runs.

Enters: what compiled code asks now and then (`gradc.codegen.poll`).  Leaves: the function that answers, and the
exception, raised where the call was made.
Invariant: handlers run where Python runs them, on the thread that may, with the GIL; of a call they are given a chance
every `PERIOD_SECONDS`.  Start reading at `poll_symbols`, then `reraise`.

The head of a lease (`gradc.runtime.arena.HEAD`) holds what one call needs: a pointer to itself for the code, the time
of the next look, whether the call was stopped, and the exception that stopped it, as PyErr_Fetch gives it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import NoReturn

from gradc.codegen.poll import POLL
from gradc.codegen.status import INTERRUPTED
from gradc.errors import CompileError
from gradc.process import once
from gradc.runtime.arena import HEAD, WORD
from gradc.runtime.clock import SYMBOL as CLOCK
from gradc.runtime.clock import clock
from gradc.runtime.load import Loaded, load

#: How long a signal may wait for compiled code.
PERIOD_SECONDS = 20e-3
_API = ("PyGILState_Ensure", "PyGILState_Release", "PyErr_CheckSignals", "PyErr_Fetch", "PyErr_Restore")


def poll_symbols() -> dict[str, int]:
    """What a module that looks whether to end calls, with its address."""
    return {POLL: _poll().address}


def is_stopped(lease: int) -> bool:
    """Whether the call with the lease at this address was stopped."""
    return ctypes.c_int64.from_address(lease + WORD * HEAD.index("stopped")).value != 0


def reraise(lease: int) -> NoReturn:
    """Raise the exception that stopped the call, once."""
    words = [_take(lease + WORD * HEAD.index(name)) for name in ("type", "value", "traceback")]
    _restore()(*words)
    raise AssertionError("PyErr_Restore raises")


@cache
def _restore() -> Callable[..., None]:
    return ctypes.PYFUNCTYPE(None, *[ctypes.c_void_p] * 3)(("PyErr_Restore", ctypes.pythonapi))


def _take(at: int) -> int | None:
    word = ctypes.c_void_p.from_address(at)
    taken, word.value = word.value, None
    return taken


@once
def _poll() -> Loaded:
    if sys.implementation.name != "cpython" or not all(hasattr(ctypes.pythonapi, name) for name in _API):
        return load(_NEVER, POLL)  # no way to Python's signals from here: they wait for the end of the call
    symbols = {name: ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0 for name in _API[:-1]}
    try:
        return load(_text(), POLL, symbols=symbols | clock().symbols)
    except CompileError:
        return load(_NEVER, POLL)


_NEVER = f"define i64 @{POLL}(ptr %status, i64 %who) nounwind {{\nentry:\n  ret i64 0\n}}\n"


def _text() -> str:
    places = {name: str(WORD * HEAD.index(name)) for name in HEAD}
    text = _TEXT.replace("$PERIOD", str(int(PERIOD_SECONDS * 1e9))).replace("$INTERRUPTED", str(INTERRUPTED))
    for name, place in places.items():
        text = text.replace(f"@{name}@", f"getelementptr i8, ptr %head, i64 {place}")
    return text.replace("$POLL", POLL).replace("$CLOCK", CLOCK)


_TEXT = """
declare i32 @PyGILState_Ensure()
declare void @PyGILState_Release(i32)
declare i32 @PyErr_CheckSignals()
declare void @PyErr_Fetch(ptr, ptr, ptr)
declare i64 @$CLOCK()

; Worker threads only hear what the caller was told; the caller looks at the clock, and when it is time, at the signals.
define i64 @$POLL(ptr %status, i64 %who) nounwind {
entry:
  %head_at = getelementptr i8, ptr %status, i64 8
  %head = load ptr, ptr %head_at, align 8
  %stopped_at = @stopped@
  %stopped = load atomic i64, ptr %stopped_at monotonic, align 8
  %is_stopped = icmp ne i64 %stopped, 0
  br i1 %is_stopped, label %stop, label %going
going:
  %is_caller = icmp eq i64 %who, 0
  br i1 %is_caller, label %look, label %on
look:
  %now = call i64 @$CLOCK()
  %deadline_at = @deadline@
  %deadline = load i64, ptr %deadline_at, align 8
  %first = icmp eq i64 %deadline, 0
  br i1 %first, label %wait, label %timed
timed:
  %late = icmp sge i64 %now, %deadline
  br i1 %late, label %check, label %on
check:
  %gil = call i32 @PyGILState_Ensure()
  %error = call i32 @PyErr_CheckSignals()
  %is_error = icmp ne i32 %error, 0
  br i1 %is_error, label %fetch, label %release
fetch:
  %type_at = @type@
  %value_at = @value@
  %traceback_at = @traceback@
  call void @PyErr_Fetch(ptr %type_at, ptr %value_at, ptr %traceback_at)
  store atomic i64 1, ptr %stopped_at monotonic, align 8
  br label %release
release:
  call void @PyGILState_Release(i32 %gil)
  br i1 %is_error, label %stop, label %again
again:
  %later = call i64 @$CLOCK()
  br label %wait
wait:
  %from = phi i64 [ %now, %look ], [ %later, %again ]
  %next = add i64 %from, $PERIOD
  store i64 %next, ptr %deadline_at, align 8
  br label %on
on:
  ret i64 0
stop:
  store atomic i64 $INTERRUPTED, ptr %status monotonic, align 8
  ret i64 1
}
"""
