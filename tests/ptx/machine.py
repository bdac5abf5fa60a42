"""An interpreter of PTX text: one NumPy lane for each thread of many blocks.

Enters: PTX text, arrays, and the launches of a plan.  Leaves: the arrays as the device would leave them, or
`FaultError`.
Invariant: threads that disagree about a branch run one group after another, always the group at the lowest block of
code, so they meet again where their paths do; a thread that waits at a barrier runs on when all living threads of its
block wait.  Reference: NVIDIA, PTX ISA 9.0.  Start reading at `Device.launch`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.ptx.instructions import action
from tests.ptx.memory import (
    GLOBAL_BASE,
    LOCAL_WINDOW,
    RED_ZONE,
    SHARED_WINDOW,
    UNSIGNED,
    WINDOW,
    Array,
    FaultError,
    Races,
    Space,
)  # fmt: skip
from tests.ptx.parse import Function, Instruction, Program, parse, size_of

WARP = 32
#: Threads that run at once: more lanes cost less for each, until they leave the cache.
LANES = 1 << 14
DONE = 1 << 30


class Device:
    """Global memory with named arrays, and one loaded module."""

    def __init__(self, text: str, bytes_: int = 1 << 24):
        self.memory = Space("global", 1, bytes_, GLOBAL_BASE)
        self._free = RED_ZONE
        self.load(text)
        self.executed = 0

    def load(self, text: str) -> None:
        """The module whose kernels `launch` runs from here on."""
        self.program: Program = parse(text)
        self.symbols = {
            name: self.put(np.frombuffer(b, np.uint8), align, False) for name, (align, b) in self.program.arrays.items()
        }

    def put(self, array: Array, align: int = 256, writable: bool = True) -> int:
        """Copy an array to the device; returns its address."""
        at = -(-self._free // align) * align
        raw = np.ascontiguousarray(array).view(np.uint8).reshape(-1) if array.size else np.zeros(0, np.uint8)
        self._free = at + raw.size + RED_ZONE
        if self._free > self.memory.size:
            raise MemoryError("the simulated device is full")
        self.memory.bytes[at : at + raw.size] = raw
        self.memory.readable[at : at + raw.size] = True
        self.memory.writable[at : at + raw.size] = writable
        return GLOBAL_BASE + at

    def set(self, address: int, array: Array) -> None:
        """Overwrite what lies at an address."""
        raw = np.ascontiguousarray(array).view(np.uint8).reshape(-1) if array.size else np.zeros(0, np.uint8)
        at = address - GLOBAL_BASE
        self.memory.bytes[at : at + raw.size] = raw

    def reserve(self, size: int) -> int:
        """Memory that nothing was written to."""
        return self.put(np.full(size, 0xFF, np.uint8))

    def get(self, address: int, shape: Sequence[int], dtype: Any) -> Array:
        """Copy an array back."""
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        at = address - GLOBAL_BASE
        return self.memory.bytes[at : at + count].copy().view(dtype).reshape(shape)

    def launch(self, name: str, grid: int, block: int, arguments: Sequence[int], dynamic_bytes: int = 0) -> None:
        """Run every block of a one-dimensional grid, each with so many bytes of shared memory beyond its own."""
        function = self.program.functions[name]
        if not function.entry:
            raise FaultError(f"{name} is not an entry")
        if not 1 <= block <= 1024 or not 1 <= grid < 2**31:
            raise FaultError(f"{name}: a grid of {grid} blocks of {block} threads cannot be launched")
        races = Races("global", self._free, "block"), Races("global", self._free, "thread")
        at_once = max(1, LANES // block)
        with np.errstate(all="ignore"):
            for first in range(0, grid, at_once):
                blocks = np.arange(first, min(grid, first + at_once))
                _Grid(self, function, blocks, grid, block, races, dynamic_bytes).run(arguments)


@dataclass
class _Frame:
    """One activation of a function: registers, and parameters by name."""

    function: Function
    registers: dict[str, Array] = field(default_factory=dict)
    params: dict[str, Array] = field(default_factory=dict)
    local_at: int = 0


@dataclass
class _Copy:
    """A copy to shared memory that has not arrived in the lanes ``where``; ``group``: that of each lane."""

    address: Array
    values: Array
    where: Array
    group: Array
    what: Instruction


Mask = Array | None  # None: all lanes
Action = Callable[["_Grid", _Frame, Mask], None]


class _Grid:
    """Some blocks of a launch, run together."""

    def __init__(
        self, device: Device, function: Function, blocks: Array, grid: int, threads: int, races: tuple[Races, Races],
        dynamic_bytes: int = 0,
    ):  # fmt: skip
        self.device, self.function, self.grid, self.threads = device, function, grid, threads
        self.padded = -(-threads // WARP) * WARP
        n = self.lanes = blocks.size * self.padded
        self.thread = np.tile(np.arange(self.padded), blocks.size)
        self.slot = np.repeat(np.arange(blocks.size), self.padded)
        self.block = np.repeat(blocks, self.padded)
        self.number = self.block * self.padded + self.thread
        self.alive = self.thread < threads
        self.epoch = np.zeros(blocks.size, np.int64)
        self.waiting = np.zeros(n, bool)
        size = device.program.shared_bytes + sum(s for _, s in function.shared.values())
        self.dynamic_at = -(-size // 16) * 16
        self.shared = Space("shared", blocks.size, self.dynamic_at + dynamic_bytes if dynamic_bytes else size)
        self.local = Space("local", n, sum(f.local_bytes + 16 for f in device.program.functions.values() if f.local))
        self.races_blocks, self.races_threads = races
        self.races_shared = Races("shared", self.shared.bytes.size, "thread")
        self.lane_index = np.arange(n)
        self.copies: list[_Copy] = []
        self.committed = np.zeros(n, np.int64)  # groups of each thread

    # -- control -----------------------------------------------------------------------------------------------------
    def run(self, arguments: Sequence[int]) -> None:
        f = self.function
        if len(arguments) != len(f.params):
            raise FaultError(f"{f.name} takes {len(f.params)} parameters, got {len(arguments)}")
        params = {
            name: np.array([value % (1 << 8 * size_of(t))], UNSIGNED[size_of(t)])
            for (t, name), value in zip(f.params, arguments, strict=True)
        }
        self.execute(_Frame(f, params=params), self.alive if not self.alive.all() else None)

    def execute(self, frame: _Frame, mask: Mask) -> None:
        f = frame.function
        code = _compiled(self.device.program, f)
        pc = np.zeros(self.lanes, np.int32)
        if mask is not None:
            pc[~mask] = DONE
        while True:
            runnable = np.where(self.waiting, DONE, pc) if f.entry else pc
            at = int(runnable.min())
            if at == DONE:
                if f.entry and self.waiting.any():
                    raise FaultError(f"{f.name}: some threads of a block wait at a barrier that the others never reach")
                return
            here = runnable == at
            everywhere = None if here.all() else here
            self.device.executed += len(code[at])
            if at == len(code) - 1 and not code[at]:
                raise FaultError(f"{f.name}: runs past its end")
            target = self._block(code[at], f.blocks[at], frame, everywhere)
            self._go(pc, here, at, target, frame)

    def _block(self, actions: list[Action], block: list[Instruction], frame: _Frame, mask: Mask) -> Any:
        for perform in actions[:-1]:
            perform(self, frame, mask)
        last = block[-1]
        if last.opcode[0] in ("bra", "ret", "exit", "bar", "barrier"):
            return last
        actions[-1](self, frame, mask)
        return None

    def _go(self, pc: Array, here: Array, at: int, last: Instruction | None, frame: _Frame) -> None:
        pc[here] = at + 1
        if last is None:
            return
        taken = here
        if last.guard:
            p = np.broadcast_to(frame.registers[last.guard], here.shape)
            taken = here & (~p if last.negated else p)
        if last.opcode[0] == "bra":
            pc[taken] = frame.function.labels[last.operands[0]]
        elif last.opcode[0] in ("ret", "exit"):
            pc[taken] = DONE
            if frame.function.entry:
                self._release(pc)
        else:
            if not frame.function.entry:
                raise FaultError(f"{last}: a barrier in a called function is not interpreted")
            self.waiting |= taken
            self._release(pc)

    def _release(self, pc: Array) -> None:
        """Let blocks go on in which every living thread waits."""
        shape = (-1, self.padded)
        living = (pc < DONE).reshape(shape)
        ready = (self.waiting.reshape(shape) | ~living).all(axis=1) & self.waiting.reshape(shape).any(axis=1)
        if ready.any():
            ends = np.where(self.waiting, pc, -1).reshape(shape)[ready].max(axis=1, keepdims=True)
            if (self.waiting.reshape(shape)[ready] & (pc.reshape(shape)[ready] != ends)).any():
                raise FaultError(f"{self.function.name}: threads of a block wait at different barriers")
            self.waiting.reshape(shape)[ready] = False
            self.epoch[ready] += 1

    # -- memory ------------------------------------------------------------------------------------------------------
    def load(self, space: str, address: Array, width: int, mask: Mask, what: Instruction) -> Array:
        """One element of ``width`` bytes for each lane; 0 in lanes outside the mask."""
        if space == "":
            return self._load_generic(address, width, mask, what)
        result = np.zeros(self.lanes, UNSIGNED[width])
        which = slice(None) if mask is None else np.flatnonzero(mask)
        result[which] = self._touch(space, np.broadcast_to(address, self.lanes)[which], width, which, what, None)
        return result

    def atomic(self, space: str, address: Array, width: int, mask: Mask, what: Instruction) -> tuple[Space, Array, Any]:
        """The memory, element numbers and lanes of an atomic access; the elements change one lane after another."""
        which = self.lane_index if mask is None else np.flatnonzero(mask)
        memory, owner = self._space(space or "global", which)
        return memory, memory.indices(np.broadcast_to(address, self.lanes)[which], width, owner, True, what), which

    def call(self, frame: _Frame, callee: Function, arguments: dict[str, Array], mask: Mask) -> dict[str, Array]:
        """Run a function to its end in the lanes of the mask; returns its parameters, results among them."""
        inner = _Frame(callee, params=arguments, local_at=frame.local_at + -(-frame.function.local_bytes // 16) * 16)
        self.execute(inner, np.ones(self.lanes, bool) if mask is None else mask)
        return inner.params

    def _load_generic(self, address: Array, width: int, mask: Mask, what: Instruction) -> Array:
        result = np.zeros(self.lanes, UNSIGNED[width])
        for space, at, part in self._windows(address, mask):
            result[part] = self._touch(space, at, width, part, what, None)
        return result

    def _windows(self, address: Array, mask: Mask) -> list[tuple[str, Array, Array]]:
        address = np.broadcast_to(address, self.lanes)
        which = np.arange(self.lanes) if mask is None else np.flatnonzero(mask)
        window = address[which] // np.uint64(WINDOW)
        found = []
        for space, test in (("shared", window == 1), ("local", window == 2), ("global", window > 2)):
            part = which[test]
            if part.size:
                offset = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW, "global": 0}[space]
                found.append((space, address[part] - np.uint64(offset), part))
        if sum(p.size for _, _, p in found) != which.size:
            raise FaultError("a generic address points nowhere")
        return found

    def store(self, space: str, address: Array, values: Array, mask: Mask, what: Instruction) -> None:
        width = values.dtype.itemsize
        values, address = np.broadcast_to(values, self.lanes), np.broadcast_to(address, self.lanes)
        if space == "":
            for where, at, part in self._windows(address, mask):
                self._touch(where, at, width, part, what, values[part])
            return
        which = slice(None) if mask is None else np.flatnonzero(mask)
        self._touch(space, address[which], width, which, what, values[which])

    def _touch(
        self, space: str, address: Array, width: int, which: Any, what: Instruction, values: Array | None
    ) -> Array:
        write = values is not None
        memory, owner = self._space(space, which)
        index = memory.indices(address, width, owner, write, what)
        if space != "local" and what.opcode[0] not in ("atom", "red"):
            self._watch(space, index * width, which, write, what)
        if values is None:
            return memory.read(index, width)
        memory.write(index, values, width)
        return values

    def _space(self, space: str, which: Any) -> tuple[Space, Array | int]:
        if space in ("global", "const", "param"):
            return self.device.memory, 0
        if space == "shared":
            return self.shared, self.slot[which]
        return self.local, self.lane_index[which]

    def _watch(self, space: str, byte: Array, which: Any, write: bool, what: Instruction) -> None:
        thread, block, epoch = self.number[which], self.block[which], self.epoch[self.slot[which]]
        if space == "shared":
            trackers = [(self.races_shared, thread, epoch)]
        else:
            trackers = [
                (self.races_blocks, block, np.zeros_like(block)),
                (self.races_threads, thread, (block << 24) + epoch),
            ]
        for races, who, stamp in trackers:
            (races.write if write else races.read)(byte, who, stamp, what)

    # -- asynchronous copies -----------------------------------------------------------------------------------------
    def copy(self, address: Array, values: Array, mask: Mask, what: Instruction) -> None:
        """Start a copy; it is part of the next group that each thread commits."""
        where = np.ones(self.lanes, bool) if mask is None else np.broadcast_to(mask, self.lanes).copy()
        self.copies.append(_Copy(np.broadcast_to(address, self.lanes), values, where, self.committed.copy(), what))

    def commit(self, mask: Mask) -> None:
        """The copies that a thread has started are a group."""
        self.committed[slice(None) if mask is None else mask] += 1

    def wait(self, left: int, mask: Mask) -> None:
        """Let all groups of these threads but the last ``left`` of each arrive."""
        for copy in self.copies:
            ready = copy.where & (copy.group < self.committed - left)
            ready = ready if mask is None else ready & mask
            if ready.any():
                self.store("shared", copy.address, copy.values, ready, copy.what)
                copy.where &= ~ready
        self.copies = [c for c in self.copies if c.where.any()]

    # -- operands ----------------------------------------------------------------------------------------------------
    def special(self, name: str) -> Array:
        base, _, axis = name.partition(".")
        if axis != "x" and axis:
            return np.array([1 if base in ("%ntid", "%nctaid") else 0], np.uint32)
        values = {"%tid": self.thread, "%ctaid": self.block, "%ntid": np.array([self.threads]),
                  "%nctaid": np.array([self.grid]), "%laneid": self.thread % WARP}  # fmt: skip
        return values[base].astype(np.uint32)


def _compiled(program: Program, f: Function) -> list[list[Action]]:
    known = program.__dict__.setdefault("compiled", {})
    if f.name not in known:
        known[f.name] = [[action(program, f, x) for x in block] for block in f.blocks]
    return known[f.name]
