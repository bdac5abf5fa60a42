"""Schedules to LLVM IR: instructions, but no pointer and no array of this process.  Start reading at `emit.emit`."""

from __future__ import annotations

from gradc.codegen.emit import arena_bytes, emit, emit_kernel

__all__ = ["arena_bytes", "emit", "emit_kernel"]
