"""One PTX instruction as one Python function over all lanes.

Enters: an `Instruction` and the function it stands in.  Leaves: an action ``(grid, frame, mask) -> None``.
Invariant: a register holds raw bits of its declared width, for all lanes or, where they agree, for one; an instruction
reads them as its own type.  What is not known is refused when the text is read, not when it runs.  Start reading at
`action`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.ptx import arithmetic, tensor
from tests.ptx.arithmetic import DTYPES
from tests.ptx.memory import LOCAL_WINDOW, SHARED_WINDOW, UNSIGNED, Array, FaultError
from tests.ptx.parse import Function, Instruction, Program, size_of

Read = Callable[[Any, Any], Array]
Write = Callable[[Any, Any, Array, Any], None]
Action = Callable[[Any, Any, Any], None]
WARP = 32


def action(program: Program, f: Function, x: Instruction) -> Action:
    """The function that performs ``x``."""
    build = BUILD.get(x.opcode[0])
    if build is None:
        raise NotImplementedError(f"{x}: not interpreted")
    done = build(_Context(program, f, x))
    if not x.guard or x.opcode[0] in ("bra", "ret", "exit"):
        return done
    guard = _Context(program, f, x).source(x.guard, np.bool_)

    def guarded(grid: Any, frame: Any, mask: Any) -> None:
        p = np.broadcast_to(guard(grid, frame), grid.lanes)
        p = ~p if x.negated else p
        done(grid, frame, p if mask is None else p & mask)

    return guarded


class _Context:
    def __init__(self, program: Program, f: Function, x: Instruction):
        self.program, self.f, self.x = program, f, x

    # -- operands ----------------------------------------------------------------------------------------------------
    def type_of(self, register: str) -> str:
        prefix = register.rstrip("0123456789")
        found = self.f.registers.get(register) or self.f.registers.get(prefix)
        if found is None:
            raise NotImplementedError(f"{self.x}: unknown register {register}")
        return found

    def is_register(self, text: str) -> bool:
        known = self.f.registers
        return text in known or (text.startswith("%") and text.rstrip("0123456789") in known)

    def source(self, text: str, dtype: Any) -> Read:
        """What reads an operand as an array of ``dtype``."""
        dtype = np.dtype(dtype)
        if self.is_register(text):
            return _register(text, dtype)
        if text.startswith("%"):
            return lambda grid, frame: _as(grid.special(text), dtype)
        if text[0].isdigit() or text[0] == "-":
            constant = _literal(text, dtype)
            return lambda grid, frame: constant
        return self._symbol(text, dtype)

    def _symbol(self, text: str, dtype: Any) -> Read:
        name, _, more = text.partition("+")
        extra = int(more or 0)
        program, f = self.program, self.f
        if name in f.local:
            at = f.local[name][0] + extra
            return lambda grid, frame: np.array([frame.local_at + at], dtype)
        if name in program.dynamic:
            return lambda grid, frame: np.array([grid.dynamic_at + extra], dtype)
        for table, start in ((f.shared, program.shared_bytes), (program.shared, 0)):
            if name in table:
                place = np.array([start + table[name][0] + extra], dtype)
                return lambda grid, frame: place
        if name in program.arrays:
            return lambda grid, frame: np.array([grid.device.symbols[name] + extra], dtype)
        raise NotImplementedError(f"{self.x}: unknown symbol {name}")

    def address(self, text: str) -> Read:
        inside = text.strip("[] ")
        found = re.match(r"([%\w$]+)(?:\s*\+\s*(-?\w+))?$", inside)
        if found is None:
            raise NotImplementedError(f"{self.x}: address {text}")
        base, extra = found[1], int(found[2] or "0", 0)
        if not self.is_register(base):
            return self.source(f"{base}+{extra}", np.uint64)
        wide = DTYPES["u" + self.type_of(base)[1:]]
        read, offset = _register(base, np.dtype(wide)), np.array([extra % (1 << 64)], np.uint64)
        return lambda grid, frame: read(grid, frame).astype(np.uint64) + offset

    def target(self, text: str) -> Write:
        """What writes an array into a register: cut or extended to its width, by the sign of the array's dtype."""
        if text == "_":
            return lambda grid, frame, value, mask: None
        kind = self.type_of(text)
        unsigned = np.dtype(np.bool_ if kind == "pred" else UNSIGNED[size_of(kind)])

        def write(grid: Any, frame: Any, value: Array, mask: Any) -> None:
            if value.dtype.itemsize != unsigned.itemsize:
                value = value.astype(f"i{unsigned.itemsize}" if value.dtype.kind == "i" else unsigned)
            value = value.view(unsigned)
            old = frame.registers.get(text)
            if mask is not None and old is not None:
                value = np.where(mask, value, old)
            frame.registers[text] = value

        return write

    def sources(self, dtype: Any, first: int = 1, count: int | None = None) -> list[Read]:
        last = None if count is None else first + count
        return [self.source(t, dtype) for t in self.x.operands[first:last]]

    @property
    def dtype(self) -> Any:
        """The type that the opcode ends with."""
        return np.dtype(DTYPES[self.x.opcode[-1]])


def _register(name: str, dtype: np.dtype[Any]) -> Read:
    def read(grid: Any, frame: Any) -> Array:
        value = frame.registers.get(name)
        if value is None:
            value = np.zeros(1, UNSIGNED[dtype.itemsize] if dtype != np.bool_ else np.bool_)
        if value.dtype.itemsize == dtype.itemsize:
            return value.view(dtype)
        return value.astype(UNSIGNED[dtype.itemsize]).view(dtype)

    return read


def _as(value: Array, dtype: np.dtype[Any]) -> Array:
    return value.astype(dtype)


def _literal(text: str, dtype: np.dtype[Any]) -> Array:
    if text.startswith(("0f", "0F")):
        raw = bytes.fromhex(text[2:])[::-1]
        return np.frombuffer(raw, np.float32).view(np.uint32 if dtype.itemsize == 4 else dtype).view(dtype).copy()
    if text.startswith(("0d", "0D")):
        return np.frombuffer(bytes.fromhex(text[2:])[::-1], np.float64).view(dtype).copy()
    if dtype == np.bool_:
        return np.array([int(text, 0) != 0])
    value = int(text.rstrip("U"), 0)
    if dtype.kind == "f":
        if dtype.itemsize == 2:
            return np.frombuffer(struct.pack("<H", value & 0xFFFF), np.float16).copy()
        return np.array([value % (1 << 8 * dtype.itemsize)], UNSIGNED[dtype.itemsize]).view(dtype)
    return np.array([value % (1 << 8 * dtype.itemsize)], UNSIGNED[dtype.itemsize]).view(dtype)


# -- builders ----------------------------------------------------------------------------------------------------------


def _computes(compute: Callable[..., Array], dtype: Any = None, out: Any = None) -> Callable[[_Context], Action]:
    """An instruction that computes its first operand from the others, all of the opcode's type."""

    def build(c: _Context) -> Action:
        if c.x.opcode[-1] == "f32x2":
            return _pairs(c, compute)
        chosen = c.dtype if dtype is None else np.dtype(dtype)
        read, write = c.sources(chosen), c.target(c.x.operands[0])

        def run(grid: Any, frame: Any, mask: Any) -> None:
            value = compute(*(r(grid, frame) for r in read))
            write(grid, frame, value if value.dtype == chosen or out else value.astype(chosen), mask)

        return run

    return build


def _pairs(c: _Context, compute: Callable[..., Array]) -> Action:
    """Two float32 in each register of 64 bits (from sm_100 on)."""
    read, write = c.sources(np.uint64), c.target(c.x.operands[0])

    def run(g: Any, f: Any, m: Any) -> None:
        given = np.broadcast_arrays(*(r(g, f) for r in read))
        both = compute(*(np.ascontiguousarray(x)[:, None].view(np.float32) for x in given))
        write(g, f, np.ascontiguousarray(both).view(np.uint64)[:, 0], m)

    return run


def _by_opcode(choose: Callable[[_Context], Callable[[_Context], Action]]) -> Callable[[_Context], Action]:
    return lambda c: choose(c)(c)


def _mul(c: _Context) -> Callable[[_Context], Action]:
    """The product, or one half of it, or all of it."""
    if "wide" in c.x.opcode:
        return _wide(lambda a, b: a * b)
    if "hi" in c.x.opcode:
        return _computes(arithmetic.high_product)
    return _computes(np.multiply)


def _mad(c: _Context) -> Callable[[_Context], Action]:
    if "wide" in c.x.opcode:
        return _wide(lambda a, b, d: a * b + d, 1)
    if "hi" in c.x.opcode:
        return _computes(lambda a, b, d: arithmetic.high_product(a, b) + d)
    return _computes(lambda a, b, d: a * b + d)


def _wide(compute: Callable[..., Array], already_wide: int = 0) -> Callable[[_Context], Action]:
    def build(c: _Context) -> Action:
        narrow = c.dtype
        wide = np.dtype(f"{narrow.kind}{2 * narrow.itemsize}")
        write = c.target(c.x.operands[0])
        count = len(c.x.operands) - 1 - already_wide
        read = [c.source(t, narrow if k < count else wide) for k, t in enumerate(c.x.operands[1:])]

        def run(grid: Any, frame: Any, mask: Any) -> None:
            write(grid, frame, compute(*(r(grid, frame).astype(wide) for r in read)), mask)

        return run

    return build


def _div(c: _Context) -> Callable[[_Context], Action]:
    if c.dtype.kind == "f":
        if "rn" not in c.x.opcode:
            raise NotImplementedError(f"{c.x}: only the IEEE quotient is interpreted")
        return _computes(np.divide)

    def quotient(a: Array, b: Array) -> Array:
        if (b == 0).all():
            return np.full_like(a, -1)
        whole = a // b
        return whole + ((a % b != 0) & ((a < 0) != (b < 0))) if c.dtype.kind == "i" else whole

    return _computes(quotient)


def _sqrt(c: _Context) -> Callable[[_Context], Action]:
    if "rn" not in c.x.opcode:
        raise NotImplementedError(f"{c.x}: only the IEEE root is interpreted")
    return _computes(np.sqrt)


def _reciprocal(c: _Context) -> Callable[[_Context], Action]:
    if "rn" not in c.x.opcode:
        raise NotImplementedError(f"{c.x}: only the IEEE quotient is interpreted")
    return _computes(lambda a: np.divide(np.array([1], a.dtype), a))


def _extreme(largest: bool) -> Callable[[_Context], Action]:
    return lambda c: _computes(lambda a, b: arithmetic.extreme(a, b, largest, "NaN" in c.x.opcode))(c)


def _bits(compute: Callable[..., Array]) -> Callable[[_Context], Action]:
    return _by_opcode(lambda c: _computes(compute, np.bool_ if c.x.opcode[-1] == "pred" else None))


def _shift(left: bool) -> Callable[[_Context], Action]:
    def build(c: _Context) -> Action:
        read, amount = c.source(c.x.operands[1], c.dtype), c.source(c.x.operands[2], np.uint32)
        write = c.target(c.x.operands[0])
        return lambda g, f, m: write(g, f, arithmetic.shift(read(g, f), amount(g, f), left), m)

    return build


def _bfe(c: _Context) -> Action:
    read, (start, length) = c.source(c.x.operands[1], c.dtype), c.sources(np.uint32, 2)
    write = c.target(c.x.operands[0])
    return lambda g, f, m: write(g, f, arithmetic.bit_field(read(g, f), start(g, f), length(g, f)), m)


def _bfi(c: _Context) -> Action:
    (a, b), (start, length) = c.sources(c.dtype, 1, 2), c.sources(np.uint32, 3)
    write = c.target(c.x.operands[0])
    return lambda g, f, m: write(g, f, arithmetic.insert_bits(a(g, f), b(g, f), start(g, f), length(g, f)), m)


def _counts(compute: Callable[[Array], Array]) -> Callable[[_Context], Action]:
    def build(c: _Context) -> Action:
        read, write = c.source(c.x.operands[1], c.dtype), c.target(c.x.operands[0])
        return lambda g, f, m: write(g, f, compute(read(g, f)), m)

    return build


def _mov(c: _Context) -> Action:
    out, given = c.x.operands
    if "{" in given or "{" in out:
        return _pack(c)
    write, read = c.target(out), c.source(given, c.dtype)
    return lambda g, f, m: write(g, f, read(g, f), m)


def _parts(text: str) -> list[str]:
    return [t.strip() for t in text.strip("{} ").split(",")]


def _pack(c: _Context) -> Action:
    """mov between one wide register and several narrow ones."""
    out, given = c.x.operands
    whole = UNSIGNED[size_of(c.x.opcode[-1])]
    if "{" in given:
        parts = _parts(given)
        narrow = UNSIGNED[np.dtype(whole).itemsize // len(parts)]
        reads, write = [c.source(t, narrow) for t in parts], c.target(out)

        def pack(g: Any, f: Any, m: Any) -> None:
            values = np.broadcast_arrays(*(r(g, f) for r in reads))
            write(g, f, np.stack(values, axis=-1).view(whole)[..., 0], m)

        return pack
    parts = _parts(out)
    narrow = UNSIGNED[np.dtype(whole).itemsize // len(parts)]
    read, writes = c.source(given, whole), [c.target(t) for t in parts]

    def unpack(g: Any, f: Any, m: Any) -> None:
        pieces = np.ascontiguousarray(read(g, f)).view(narrow).reshape(-1, len(parts))
        for k, write in enumerate(writes):
            write(g, f, np.ascontiguousarray(pieces[:, k]), m)

    return unpack


def _cvta(c: _Context) -> Action:
    write, read = c.target(c.x.operands[0]), c.source(c.x.operands[1], np.uint64)
    window = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW}.get(c.x.opcode[-2], 0)
    sign = -1 if "to" in c.x.opcode else 1
    offset = np.array([sign * window % (1 << 64)], np.uint64)
    return lambda g, f, m: write(g, f, read(g, f) + offset, m)


def _setp(c: _Context) -> Action:
    outs = [c.target(t.strip()) for t in c.x.operands[0].split("|")]
    a, b = c.sources(c.dtype, 1, 2)
    how = c.x.opcode[1]
    joined = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}.get(c.x.opcode[2])
    other = c.source(c.x.operands[3].lstrip("!"), np.bool_) if joined is not None else None
    inverted = joined is not None and c.x.operands[3].startswith("!")

    def run(g: Any, f: Any, m: Any) -> None:
        value = arithmetic.compare(how, a(g, f), b(g, f))
        for k, write in enumerate(outs):
            result = ~value if k else value
            if joined is not None and other is not None:
                result = joined(result, ~other(g, f) if inverted else other(g, f))
            write(g, f, result, m)

    return run


def _selp(c: _Context) -> Action:
    (a, b), p = c.sources(c.dtype, 1, 2), c.source(c.x.operands[3], np.bool_)
    write = c.target(c.x.operands[0])
    return lambda g, f, m: write(g, f, np.where(p(g, f), a(g, f), b(g, f)), m)


def _cvt(c: _Context) -> Action:
    to, given = c.x.opcode[-2:]
    modifiers = c.x.opcode[1:-2]
    write = c.target(c.x.operands[0])
    if "bf16" in (to, given):
        return _cvt_bf16(c, to, given, write)
    if to == "f16x2":
        return _cvt_pair(c, write)
    if to == "tf32":
        bits = c.source(c.x.operands[1], np.uint32)
        return lambda g, f, m: write(g, f, tensor.rounded_to_tf32(bits(g, f)), m)
    read = c.source(c.x.operands[1], DTYPES[given])
    return lambda g, f, m: write(g, f, arithmetic.convert(read(g, f), DTYPES[to], modifiers), m)


def _cvt_pair(c: _Context, write: Write) -> Action:
    """Two float32 as float16 in one register, the first one in its upper half."""
    upper, lower = c.sources(np.float32, 1, 2)

    def run(g: Any, f: Any, m: Any) -> None:
        high, low = (v.astype(np.float16).view(np.uint16).astype(np.uint32) for v in (upper(g, f), lower(g, f)))
        write(g, f, high << np.uint32(16) | low, m)

    return run


def _cvt_bf16(c: _Context, to: str, given: str, write: Write) -> Action:
    if to == "f32":
        narrow = c.source(c.x.operands[1], np.uint16)
        return lambda g, f, m: write(g, f, narrow(g, f).astype(np.uint32) << np.uint32(16), m)
    if given != "f32":
        raise NotImplementedError(f"{c.x}: not interpreted")
    wide = c.source(c.x.operands[1], np.uint32)

    def run(g: Any, f: Any, m: Any) -> None:
        bits = wide(g, f)
        rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        write(g, f, np.where(np.isnan(bits.view(np.float32)), 0x7FFF, rounded).astype(np.uint16), m)

    return run


# -- memory ------------------------------------------------------------------------------------------------------------

SPACES = ("global", "shared", "local", "param", "const")


def _space(c: _Context) -> str:
    return next((o for o in c.x.opcode if o in SPACES), "")


def _ld(c: _Context) -> Action:
    outs = [c.target(t) for t in _parts(c.x.operands[0])]
    space, width = _space(c), c.dtype.itemsize
    if space == "param":
        names = _param_elements(c.x.operands[1], len(outs), width)

        def take(g: Any, f: Any, m: Any) -> None:
            for write, name in zip(outs, names, strict=True):
                write(g, f, f.params[name], m)

        return take
    at, dtype, total = c.address(c.x.operands[1]), c.dtype, width * len(outs)

    def run(g: Any, f: Any, m: Any) -> None:
        base = at(g, f)
        _aligned(base, total, m, g, c.x)
        for k, write in enumerate(outs):
            write(g, f, g.load(space, base + np.uint64(k * width), width, m, c.x).view(dtype), m)

    return run


def _st(c: _Context) -> Action:
    space, width = _space(c), c.dtype.itemsize
    reads = [c.source(t, UNSIGNED[width]) for t in _parts(c.x.operands[1])]
    if space == "param":
        names = _param_elements(c.x.operands[0], len(reads), width)

        def pass_on(g: Any, f: Any, m: Any) -> None:
            for read, name in zip(reads, names, strict=True):
                value, old = read(g, f), f.params.get(name)
                f.params[name] = value if m is None or old is None else np.where(m, value, old)

        return pass_on
    at, total = c.address(c.x.operands[0]), width * len(reads)

    def run(g: Any, f: Any, m: Any) -> None:
        base = at(g, f)
        _aligned(base, total, m, g, c.x)
        for k, read in enumerate(reads):
            g.store(space, base + np.uint64(k * width), read(g, f), m, c.x)

    return run


def _param_elements(text: str, count: int, width: int) -> list[str]:
    """The names of ``count`` elements from [name] or [name+offset] on: a parameter of several has one for each."""
    name, _, offset = text.strip("[]").partition("+")
    return [name + f"+{at}" * (at > 0) for at in range(int(offset or 0), int(offset or 0) + count * width, width)]


def _renamed(values: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """The elements of parameter ``old``, as those of ``new``."""
    return {new + key[len(old) :]: v for key, v in values.items() if key == old or key.startswith(f"{old}+")}


def _aligned(address: Array, width: int, mask: Any, grid: Any, what: Instruction) -> None:
    off = address % np.uint64(width) != 0
    if (off if mask is None else np.broadcast_to(off, grid.lanes) & mask).any():
        raise FaultError(f"{what}: an address is not aligned to {width} bytes")


ATOMIC = {"min": np.minimum, "max": np.maximum, "add": np.add, "or": np.bitwise_or, "and": np.bitwise_and}


def _atom(c: _Context) -> Action:
    """One lane after another; the value that was there goes to the first operand of ``atom``."""
    returns = c.x.opcode[0] == "atom"
    space, dtype, width = _space(c), c.dtype, c.dtype.itemsize
    how = next(o for o in c.x.opcode if o in (*ATOMIC, "cas", "exch"))
    write = c.target(c.x.operands[0]) if returns else None
    at = c.address(c.x.operands[returns])
    reads = c.sources(dtype, 1 + returns)

    def run(g: Any, f: Any, m: Any) -> None:
        memory, index, which = g.atomic(space, at(g, f), width, m, c.x)
        view = memory.bytes.view(dtype)
        values = [np.broadcast_to(r(g, f), g.lanes)[which] for r in reads]
        old = np.zeros(g.lanes, dtype)
        for k, (place, lane) in enumerate(zip(index, which, strict=True)):
            old[lane] = view[place]
            if how == "cas":
                view[place] = values[1][k] if view[place] == values[0][k] else view[place]
            else:
                view[place] = values[0][k] if how == "exch" else ATOMIC[how](view[place], values[0][k])
        if write is not None:
            write(g, f, old, m)

    return run


def _cp_async(c: _Context) -> Action:
    """Copies to shared memory that arrive when their group is waited for."""
    if c.x.opcode[2] == "commit_group":
        return lambda g, f, m: g.commit(m)
    if c.x.opcode[2] == "wait_group":
        left = int(c.x.operands[0], 0)
        return lambda g, f, m: g.wait(left, m)
    to, source, size = c.address(c.x.operands[0]), c.address(c.x.operands[1]), int(c.x.operands[2], 0)
    taken = c.source(c.x.operands[3], np.uint32) if len(c.x.operands) > 3 else lambda g, f: np.array([size], np.uint32)
    unit = min(size, 4)

    def run(g: Any, f: Any, m: Any) -> None:
        _aligned(to(g, f), size, m, g, c.x)
        live = np.broadcast_to(taken(g, f), g.lanes)
        for k in range(0, size, unit):
            inside = live > k if m is None else (live > k) & m
            part = np.zeros(g.lanes, UNSIGNED[unit])
            if inside.any():
                part = g.load("global", source(g, f) + np.uint64(k), unit, inside, c.x)
            g.copy(to(g, f) + np.uint64(k), part, m, c.x)

    return run


# -- warps -------------------------------------------------------------------------------------------------------------


def _shfl(c: _Context) -> Action:
    mode, dtype = c.x.opcode[2], c.dtype
    outs = [c.target(t.strip()) for t in c.x.operands[0].split("|")]
    read = c.source(c.x.operands[1], dtype)
    lane, clamp, members = c.sources(np.uint32, 2)

    def run(g: Any, f: Any, m: Any) -> None:
        here = np.ones(g.lanes, bool) if m is None else m
        _converged(g, here, np.broadcast_to(members(g, f), g.lanes), c.x)
        value = np.broadcast_to(read(g, f), g.lanes)
        own = g.lane_index % WARP
        offset = np.broadcast_to(lane(g, f), g.lanes).astype(np.int64) & 31
        bits = np.broadcast_to(clamp(g, f), g.lanes).astype(np.int64)
        segment = bits >> 8 & 31
        last = (own & segment) | (bits & 31 & ~segment)
        first = own & segment
        source = {"down": own + offset, "up": own - offset, "bfly": own ^ offset, "idx": first | offset & ~segment}[
            mode
        ]
        inside = source >= last if mode == "up" else source <= last
        source = np.where(inside, source, own)
        index = g.lane_index - own + source
        if not here[index][here].all():
            raise FaultError(f"{c.x}: reads a lane that does not take part")
        outs[0](g, f, value[index], m)
        if len(outs) > 1:
            outs[1](g, f, inside, m)

    return run


def _converged(g: Any, here: Array, members: Array, what: Instruction) -> None:
    """Every lane that the mask names must stand here."""
    warps = here.reshape(-1, WARP)
    named = (members.reshape(-1, WARP)[:, :1] >> np.arange(WARP, dtype=np.uint32)) & 1
    if (warps.any(axis=1, keepdims=True) & (named == 1) & ~warps).any():
        raise FaultError(f"{what}: lanes of a warp that the mask names are elsewhere")


def _mma(c: _Context) -> Action:
    """Products of whole warps on tensor cores."""
    shape, dtype, result = c.x.opcode[3], c.x.opcode[7], (c.x.opcode[6], c.x.opcode[9])
    if shape not in ("m16n8k8", "m16n8k16") or c.x.opcode[4:6] != ("row", "col") or result != ("f32", "f32"):
        raise NotImplementedError(f"{c.x}: not interpreted")
    outs = [c.target(t) for t in _parts(c.x.operands[0])]
    reads = [[c.source(t, np.uint32) for t in _parts(group)] for group in c.x.operands[1:]]

    def run(g: Any, f: Any, m: Any) -> None:
        _whole_warps(g, m, c.x)
        a, b, s = ([np.broadcast_to(r(g, f), g.lanes).reshape(-1, WARP) for r in group] for group in reads)
        for write, value in zip(outs, tensor.product(a, b, s, dtype, c.x), strict=True):
            write(g, f, np.ascontiguousarray(value).reshape(-1), m)

    return run


def _ldmatrix(c: _Context) -> Action:
    outs = [c.target(t) for t in _parts(c.x.operands[0])]
    at, transposed = c.address(c.x.operands[1]), "trans" in c.x.opcode

    def run(g: Any, f: Any, m: Any) -> None:
        _whole_warps(g, m, c.x)
        address = np.broadcast_to(at(g, f), g.lanes)
        for write, value in zip(outs, tensor.matrices(g, address, len(outs), transposed, m, c.x), strict=True):
            write(g, f, value, m)

    return run


def _whole_warps(g: Any, m: Any, what: Instruction) -> None:
    here = np.ones(g.lanes, bool) if m is None else m
    _converged(g, here & g.alive, np.full(g.lanes, 0xFFFFFFFF, np.uint32), what)


# -- calls -------------------------------------------------------------------------------------------------------------


def _call(c: _Context) -> Action:
    operands = list(c.x.operands)
    results = _names(operands.pop(0)) if operands[0].startswith("(") else []
    callee = c.program.functions.get(operands[0])
    if callee is None:
        raise NotImplementedError(f"{c.x}: calls what is not defined here")
    given = _names(operands[1]) if len(operands) > 1 else []

    def run(g: Any, f: Any, m: Any) -> None:
        passed: dict[str, Any] = {}
        for (_, name), arg in zip(callee.params, given, strict=True):
            passed |= _renamed(f.params, arg, name)
        after = g.call(f, callee, passed, m)
        for name, (_, inner) in zip(results, callee.results, strict=True):
            f.params |= _renamed(after, inner, name)

    return run


def _names(text: str) -> list[str]:
    return [t.strip() for t in text.strip("() ").split(",") if t.strip()]


def _nothing(c: _Context) -> Action:
    return lambda g, f, m: None


BUILD: dict[str, Callable[[_Context], Action]] = {
    "add": _computes(np.add), "sub": _computes(np.subtract), "mul": _by_opcode(_mul), "mad": _by_opcode(_mad),
    "fma": _computes(arithmetic.fma), "div": _by_opcode(_div), "sqrt": _by_opcode(_sqrt),
    "rcp": _by_opcode(_reciprocal),
    "rem": _computes(lambda a, b: np.fmod(a, np.where(b == 0, np.array([1], b.dtype), b))),
    "neg": _computes(np.negative), "abs": _computes(np.abs), "min": _extreme(False), "max": _extreme(True),
    "and": _bits(np.bitwise_and), "or": _bits(np.bitwise_or), "xor": _bits(np.bitwise_xor), "not": _bits(np.invert),
    "shl": _shift(True), "shr": _shift(False), "bfe": _bfe, "bfi": _bfi,
    "clz": _counts(arithmetic.leading_zeros), "popc": _counts(lambda a: np.bitwise_count(a).astype(np.uint32)),
    "brev": _computes(arithmetic.reversed_bits),
    "prmt": _computes(arithmetic.permuted_bytes, np.uint32),
    "shf": _by_opcode(lambda c: _computes(
        lambda a, b, n: arithmetic.funnel(a, b, n, c.x.opcode[1] == "l", c.x.opcode[2] == "wrap"), np.uint32)),
    "copysign": _computes(lambda sign, x: np.copysign(x, sign)),
    "mov": _mov, "cvta": _cvta, "setp": _setp, "selp": _selp, "cvt": _cvt, "ld": _ld, "st": _st,
    "atom": _atom, "red": _atom, "cp": _cp_async, "shfl": _shfl, "mma": _mma, "ldmatrix": _ldmatrix, "call": _call,
    "bra": _nothing, "ret": _nothing, "exit": _nothing, "bar": _nothing, "barrier": _nothing, "fence": _nothing,
    "membar": _nothing,
}  # fmt: skip
