"""LLVM IR text → machine code: in this process, or as an object or assembly for any target LLVM knows.

Enters: the text of one LLVM module.  Leaves: `Loaded`, an address and what made it, or the bytes of an object file.
Invariant: code built for a CPU that this machine is not never becomes callable here, and LLVM is asked only for what it
answers without ending the process.  All of LLVM's objects live on the one thread of `gradc.process.in_llvm`, are made
and closed there in order, and leave it as text, bytes and addresses.  Start at `load`.

No middle-end runs: the emitter writes explicit vectors and phi nodes, so LLVM's optimiser would only cost time.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import struct
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any, Literal

import llvmlite
import llvmlite.binding as llvm

from gradc.errors import CompileError
from gradc.process import in_child, in_llvm, later_in_llvm, once
from gradc.runtime import assembler
from gradc.runtime import cache as disk

#: Families of LLVM intrinsics that GPUs have code for.  Of others (exp, log, pow, sin …) some make instruction
#: selection end the process, so what is not known to be safe never reaches it.
GPU_INTRINSICS = (
    "nvvm", "amdgcn", "fabs", "sqrt", "floor", "ceil", "trunc", "roundeven", "copysign", "fma", "fmuladd",
    "fptosi.sat", "fptoui.sat", "ctlz", "cttz", "ctpop", "vector.reduce.or",
)  # fmt: skip
_KNOWN_ON_GPUS = re.compile(rf"(?:{'|'.join(map(re.escape, GPU_INTRINSICS))})\.")
_INTRINSIC = re.compile(r'@"?llvm\.([\w.]+)')
_DECLARED = re.compile(r'^declare [^@\n]*@"?([\w.$]+)', re.MULTILINE)
_NUMBER = itertools.count(1)
#: What LLVM keeps of a link is given back only with the linker that did it (9 KiB for each), so none does more than so
#: many: when all of its code is gone, it goes.
LINKS_PER_LINKER = 32


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """The machine this process runs on, as LLVM names it."""

    triple: str
    cpu: str
    features: Mapping[str, bool]
    data_layout: str
    pointer_bits: int
    llvm_version: str
    llvmlite_version: str

    def has(self, feature: str) -> bool:
        return self.features.get(feature, False)


@dataclass(frozen=True)
class Loaded:
    """One function in memory (and what else was exported); the code stays mapped as long as this object lives.

    ``key`` is where the disk keeps the object.  ``seconds`` has one entry for each phase: ``parse``, ``codegen``,
    ``link`` (and ``cache`` when the disk was asked).
    """

    addresses: Mapping[str, int]
    name: str
    key: str
    object_bytes: bytes
    seconds: Mapping[str, float]
    cached: bool
    keep: Mapped = field(repr=False)

    @property
    def address(self) -> int:
        return self.addresses[self.name]


class Mapped:
    """Code in memory, with the addresses of what it exports; it is unmapped when nobody holds this object any more."""

    __slots__ = ("_number", "addresses")

    def __init__(self, addresses: Mapping[str, int], number: int):
        self.addresses, self._number = addresses, number

    def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if not ending():  # the process takes its memory with it
            later_in_llvm(partial(_unmap, self._number))


#: What keeps code mapped, with its linker, by number.  No object that the collector of cycles may meet holds one of
#: LLVM's: it would have them closed on whatever thread it runs.
_mapped: dict[int, tuple[llvm.ResourceTracker, _Linker]] = {}


def _unmap(number: int) -> None:
    tracker, linker = _mapped.pop(number)
    tracker.close()
    linker.gone()


class _Linker:
    """An LLJIT for a number of links; the whole of its memory goes with the last of their code."""

    def __init__(self, machine: llvm.TargetMachine, windows: bool):
        self._jit = llvm.create_lljit_compiler(machine, use_jit_link=not windows, suppress_errors=True)
        self._left, self._mapped = LINKS_PER_LINKER, 0

    @property
    def is_full(self) -> bool:
        return not self._left

    def link(self, builder: llvm.JITLibraryBuilder, names: Sequence[str]) -> Mapped:
        self._left -= 1
        self._mapped += 1
        number = next(_NUMBER)
        try:
            tracker = builder.link(self._jit, f"gradc.{number}")
        except RuntimeError:
            self.gone()
            raise
        _mapped[number] = tracker, self
        return Mapped({name: tracker[name] for name in names}, number)

    def gone(self) -> None:
        """One link less needs this."""
        self._mapped -= 1
        if self.is_full and not self._mapped:
            self._jit.close()


class _Engine:
    """What LLVM needs once per process: its targets registered, the host described, the linker at hand."""

    def __init__(self) -> None:
        assembler.register_targets()
        self.windows = os.name == "nt"
        self._linker: _Linker | None = None
        with self.machine(llvm.get_host_cpu_name(), "", 2) as machine:
            self.info = _describe_host(machine)

    @property
    def linker(self) -> _Linker:
        """One that can do one more link."""
        if self._linker is None or self._linker.is_full:
            with self.machine(llvm.get_host_cpu_name(), "", 2) as machine:
                self._linker = _Linker(machine, self.windows)
        return self._linker

    def machine(self, cpu: str, features: str, opt_level: int) -> llvm.TargetMachine:
        """A machine for code that runs in this process.

        On Windows LLVM's in-memory linkers want ELF, which llvmlite gives together with its default code model.
        """
        target = llvm.Target.from_triple(llvm.get_process_triple())
        if self.windows:
            return target.create_target_machine(cpu=cpu, features=features, opt=opt_level, jit=True)
        return target.create_target_machine(
            cpu=cpu, features=features, opt=opt_level, reloc="pic", codemodel="small", jit=True
        )


@once
def _get_engine() -> _Engine:
    in_child(_renew_lock_of_llvmlite)
    return _Engine()


def _renew_lock_of_llvmlite() -> None:
    """In a forked child: another user of llvmlite may have been inside LLVM."""
    ffi: Any = sys.modules["llvmlite.binding.ffi"]
    with suppress(AttributeError):  # another llvmlite keeps it elsewhere, or has none
        if isinstance(ffi.lib._lock._lock, type(threading.RLock())):
            ffi.lib._lock._lock = threading.RLock()


def _describe_host(machine: llvm.TargetMachine) -> TargetInfo:
    try:
        features = dict(llvm.get_host_cpu_features())
    except RuntimeError:  # LLVM cannot ask this CPU: its name alone has to do
        features = {}
    return TargetInfo(
        triple=llvm.get_process_triple(),
        cpu=llvm.get_host_cpu_name(),
        features=features,
        data_layout=str(machine.target_data),
        pointer_bits=8 * struct.calcsize("P"),
        llvm_version=".".join(map(str, llvm.llvm_version_info)),
        llvmlite_version=llvmlite.__version__,
    )


def target_info() -> TargetInfo:
    """The host's triple, CPU, features and data layout, from LLVM."""
    return _get_engine().info


def has_backend(triple: str) -> bool:
    """Whether this LLVM can generate code for ``triple``."""
    _get_engine()

    def find() -> bool:
        try:
            llvm.Target.from_triple(triple)
        except RuntimeError:
            return False
        return True

    return in_llvm(find)


def load(
    ir_text: str,
    name: str,
    *,
    cpu: str | None = None,
    features: str | None = None,
    opt_level: int = 2,
    symbols: Mapping[str, int] | None = None,
    exports: Sequence[str] = (),
    use_cache: bool = True,
) -> Loaded:
    """Compile ``ir_text`` for this machine and return its function ``name``; ``exports`` names others to be callable.

    ``cpu`` is an LLVM CPU name (default: this one), ``features`` LLVM's ``+a,-b`` list; what this CPU lacks is always
    switched off, and asking for it raises.  ``symbols`` gives the addresses of names the module only declares; they are
    bound at link time and never enter the object, so that it can be cached.  Other declared names are looked up in the
    process (libc, libm).  Raises CompileError when the IR is invalid or a symbol is missing.
    """
    engine = _get_engine()
    cpu, features = cpu_for(cpu, features)
    seconds: dict[str, float] = {"parse": 0.0, "codegen": 0.0, "link": 0.0}
    store = disk.default() if use_cache else None
    key = cache_key(ir_text, cpu, features, opt_level)
    start = perf_counter()
    blob = store.get(key) if store else None
    if store:
        seconds["cache"] = perf_counter() - start
    cached = blob is not None
    names = (name, *exports)
    if blob is None:
        blob = emit_object(engine, ir_text, cpu, features, opt_level, seconds)
    mapped = _link(engine, blob, ir_text, names, symbols or {}, seconds)
    if store and not cached:
        store.put(key, blob)
    return Loaded(mapped.addresses, name, key, blob, seconds, cached, mapped)


def load_known(key: str, name: str, symbols: Mapping[str, int] | None = None) -> Loaded | None:
    """The function ``name`` of the object that `load` left on disk under ``key``; None if it is not there any more.

    The text it was made from is not needed, and not known.
    """
    engine, store = _get_engine(), disk.default()
    start = perf_counter()
    blob = store.get(key) if store else None
    if blob is None:
        return None
    seconds = {"cache": perf_counter() - start}
    mapped = _link(engine, blob, "", (name,), symbols or {}, seconds)
    return Loaded(mapped.addresses, name, key, blob, seconds, True, mapped)


def remembers() -> bool:
    """Whether objects are kept on disk."""
    return disk.default() is not None


def cache_key(ir_text: str, cpu: str, features: str, opt_level: int) -> str:
    """The hexadecimal digest of everything that decides the bytes of an object made for this process."""
    info = target_info()
    parts = (ir_text, info.triple, cpu, features, str(opt_level), info.llvmlite_version, info.llvm_version)
    digest = hashlib.sha256(f"gradc object {disk.FORMAT_VERSION}".encode())
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def cpu_for(cpu: str | None = None, features: str | None = None) -> tuple[str, str]:
    """CPU and feature list whose code can run here; see `load`."""
    info = target_info()
    known = info.features.items()
    host = [("+" if on else "-") + feature for feature, on in sorted(known)]
    if features is None:
        return cpu or info.cpu, ",".join(f for f in host if cpu is None or f.startswith("-"))
    wanted = [f.strip() for f in features.split(",") if f.strip()]
    missing = [f[1:] for f in wanted if f.startswith("+") and info.features and not info.has(f[1:])]
    if missing:
        raise CompileError(
            f"this CPU ({info.cpu}) lacks {', '.join(missing)}: the code could not run here. "
            f"Use machine_code() to build an object for another machine."
        )
    return cpu or info.cpu, ",".join([f for f in host if f.startswith("-")] + wanted)


def emit_object(
    engine: _Engine, ir_text: str, cpu: str, features: str, opt_level: int, seconds: dict[str, float]
) -> bytes:
    """The object file of a module for this process."""

    def make() -> bytes:
        start = perf_counter()
        with ExitStack() as held:
            machine = held.enter_context(engine.machine(cpu, features, opt_level))
            module = _parse(ir_text, machine, engine.info.triple, held)
            seconds["parse"] = perf_counter() - start
            start = perf_counter()
            blob: bytes = machine.emit_object(module)
            seconds["codegen"] = perf_counter() - start
        return blob

    return in_llvm(make)


def _parse(ir_text: str, machine: llvm.TargetMachine, triple: str, held: ExitStack) -> llvm.ModuleRef:
    """`assembler.parse`, whose RefusedError is a CompileError."""
    try:
        return assembler.parse(ir_text, machine, triple, held)
    except assembler.RefusedError as error:
        raise CompileError(str(error)) from error.__cause__


def _link(
    engine: _Engine,
    blob: bytes,
    ir_text: str,
    names: Sequence[str],
    symbols: Mapping[str, int],
    seconds: dict[str, float],
) -> Mapped:
    def make() -> Mapped:
        builder = llvm.JITLibraryBuilder().add_object_img(blob).add_current_process()
        for name in names:
            builder.export_symbol(name)
        for symbol, address in symbols.items():
            builder.import_symbol(symbol, address)
        return engine.linker.link(builder, names)

    start = perf_counter()
    try:
        mapped = in_llvm(make)
    except RuntimeError as error:
        outside = [n for n in _DECLARED.findall(ir_text) if not n.startswith("llvm.") and n not in symbols]
        from_process = f" (looked up in the process: {', '.join(outside)})" if outside else ""
        raise CompileError(f"cannot link {names[0]!r}: {str(error).strip()}{from_process}") from error
    seconds["link"] = perf_counter() - start
    return mapped


def refuse_what_gpus_lack(ir_text: str, triple: str) -> None:
    """CompileError for an intrinsic that would make LLVM end the process for a GPU."""
    if not triple.startswith(("nvptx", "amdgcn")):
        return
    for name in dict.fromkeys(_INTRINSIC.findall(ir_text)):
        if not _KNOWN_ON_GPUS.match(name):
            raise CompileError(f"llvm.{name} has no code on {triple}: lower it to arithmetic before emitting")


def assemble(ir_text: str, triple: str, cpu: str, features: str, *, opt_level: int = 2) -> str:
    """The assembly of `machine_code`; PTX for NVIDIA triples."""
    return machine_code(ir_text, triple, cpu, features, "asm", opt_level=opt_level).decode()


def machine_code(
    ir_text: str, triple: str, cpu: str, features: str, filetype: Literal["asm", "object"], *, opt_level: int = 2
) -> bytes:
    """The module as an object file for any target, or as the text of its assembly; nothing is loaded.

    The code is position independent.  Raises CompileError for an unknown triple or invalid IR.
    """
    _get_engine()
    refuse_what_gpus_lack(ir_text, triple)

    def make() -> bytes:
        try:
            return assembler.machine_code(ir_text, triple, cpu, features, filetype, opt_level)
        except assembler.RefusedError as error:
            raise CompileError(str(error)) from error.__cause__

    return in_llvm(make)
