"""LLVM IR text → machine code: in this process, or as an object or assembly for any target LLVM knows.

Enters: the text of one LLVM module.  Leaves: `Loaded`, an address and what made it, or the bytes of an object file.
Invariant: code built for a CPU that this machine is not never becomes callable here, and LLVM is asked only for what it
answers without ending the process.  Everything is initialised once, on first use, under one lock.  Start at `load`.

No middle-end runs: the emitter writes explicit vectors and phi nodes, so LLVM's optimiser would only cost time.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from time import perf_counter
from typing import Any, Literal, overload

import llvmlite
import llvmlite.binding as llvm

from gradc.errors import CompileError
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
_LOCK = threading.RLock()
_NUMBER = itertools.count(1)


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

    ``key`` is where the disk keeps the object, ``ir`` the text it was made from (nothing, if nobody had it).
    ``seconds`` has one entry for each phase: ``parse``, ``codegen``, ``link`` (and ``cache`` when the disk was asked).
    """

    addresses: Mapping[str, int]
    name: str
    key: str
    ir: str
    object_bytes: bytes
    seconds: Mapping[str, float]
    cached: bool
    cpu: str
    features: str
    opt_level: int
    keep: Any = field(repr=False)

    @property
    def address(self) -> int:
        return self.addresses[self.name]

    def asm(self) -> str:
        """The assembly of the module, made again from its IR."""
        return self._asm

    @cached_property
    def _asm(self) -> str:
        return assemble(self.ir, target_info().triple, self.cpu, self.features, "asm", opt_level=self.opt_level)


class _Engine:
    """What LLVM needs once per process: its targets registered, the host described, one LLJIT."""

    def __init__(self) -> None:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        llvm.initialize_native_asmparser()
        self.windows = os.name == "nt"
        machine = self.machine(llvm.get_host_cpu_name(), "", 2)
        self.info = _describe_host(machine)
        self.jit = llvm.create_lljit_compiler(machine, use_jit_link=not self.windows, suppress_errors=True)

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


@cache
def _make_engine() -> _Engine:
    return _Engine()


def _get_engine() -> _Engine:
    with _LOCK:  # functools.cache alone would let two first callers build two
        return _make_engine()


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
    try:
        llvm.Target.from_triple(triple)
    except RuntimeError:
        return False
    return True


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
    cpu, features = _choose_cpu(engine.info, cpu, features)
    seconds: dict[str, float] = {"parse": 0.0, "codegen": 0.0, "link": 0.0}
    store = disk.default() if use_cache else None
    key = cache_key(ir_text, cpu, features, opt_level)
    start = perf_counter()
    blob = store.get(key) if store else None
    if store:
        seconds["cache"] = perf_counter() - start
    cached = blob is not None
    if blob is None:
        blob = _compile(engine, ir_text, cpu, features, opt_level, seconds)
    start = perf_counter()
    names = (name, *exports)
    tracker = _link(engine, blob, ir_text, names, symbols or {})
    seconds["link"] = perf_counter() - start
    if store and not cached:
        store.put(key, blob)
    return Loaded(
        {n: tracker[n] for n in names},
        name,
        key,
        ir_text,
        blob,
        seconds,
        cached,
        cpu,
        features,
        opt_level,
        (tracker, engine.jit),
    )


def load_known(key: str, name: str, symbols: Mapping[str, int] | None = None) -> Loaded | None:
    """The function ``name`` of the object that `load` left on disk under ``key``; None if it is not there any more.

    The text it was made from is not needed, and not known.
    """
    engine, store = _get_engine(), disk.default()
    cpu, features = _choose_cpu(engine.info, None, None)
    start = perf_counter()
    blob = store.get(key) if store else None
    if blob is None:
        return None
    read = perf_counter()
    tracker = _link(engine, blob, "", (name,), symbols or {})
    seconds = {"cache": read - start, "link": perf_counter() - read}
    return Loaded({name: tracker[name]}, name, key, "", blob, seconds, True, cpu, features, 2, (tracker, engine.jit))


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


def _choose_cpu(info: TargetInfo, cpu: str | None, features: str | None) -> tuple[str, str]:
    """CPU and feature list whose code can run here."""
    known = info.features.items()
    host = [("+" if on else "-") + feature for feature, on in sorted(known)]
    if features is None:
        return cpu or info.cpu, ",".join(f for f in host if cpu is None or f.startswith("-"))
    wanted = [f.strip() for f in features.split(",") if f.strip()]
    missing = [f[1:] for f in wanted if f.startswith("+") and info.features and not info.has(f[1:])]
    if missing:
        raise CompileError(
            f"this CPU ({info.cpu}) lacks {', '.join(missing)}: the code could not run here. "
            f"Use assemble() to build an object for another machine."
        )
    return cpu or info.cpu, ",".join([f for f in host if f.startswith("-")] + wanted)


def _compile(
    engine: _Engine, ir_text: str, cpu: str, features: str, opt_level: int, seconds: dict[str, float]
) -> bytes:
    start = perf_counter()
    machine = engine.machine(cpu, features, opt_level)
    module = _parse(ir_text, machine, engine.info.triple)
    seconds["parse"] = perf_counter() - start
    start = perf_counter()
    blob: bytes = machine.emit_object(module)
    seconds["codegen"] = perf_counter() - start
    return blob


def _parse(ir_text: str, machine: llvm.TargetMachine, triple: str) -> llvm.ModuleRef:
    """The verified module. Its data layout stands before the first instruction, which takes its alignments from it."""
    head = ""
    if "target datalayout" not in ir_text:
        head += f'target datalayout = "{machine.target_data}"\n'
    if "target triple" not in ir_text:
        head += f'target triple = "{machine.triple or triple}"\n'
    try:
        module = llvm.parse_assembly(head + ir_text, llvm.create_context())
        module.verify()
    except RuntimeError as error:
        raise CompileError(f"LLVM rejects the generated module: {str(error).strip()}") from error
    return module


def _link(
    engine: _Engine, blob: bytes, ir_text: str, names: Sequence[str], symbols: Mapping[str, int]
) -> llvm.ResourceTracker:
    builder = llvm.JITLibraryBuilder().add_object_img(blob).add_current_process()
    for name in names:
        builder.export_symbol(name)
    for symbol, address in symbols.items():
        builder.import_symbol(symbol, address)
    try:
        with _LOCK:
            return builder.link(engine.jit, f"gradc.{next(_NUMBER)}")
    except RuntimeError as error:
        outside = [n for n in _DECLARED.findall(ir_text) if not n.startswith("llvm.") and n not in symbols]
        from_process = f" (looked up in the process: {', '.join(outside)})" if outside else ""
        raise CompileError(f"cannot link {names[0]!r}: {str(error).strip()}{from_process}") from error


def _refuse_what_gpus_lack(ir_text: str, triple: str) -> None:
    for name in dict.fromkeys(_INTRINSIC.findall(ir_text)):
        if not _KNOWN_ON_GPUS.match(name):
            raise CompileError(f"llvm.{name} has no code on {triple}: lower it to arithmetic before emitting")


@overload
def assemble(
    ir_text: str,
    triple: str,
    cpu: str,
    features: str,
    filetype: Literal["asm"],
    *,
    opt_level: int = ...,
    abi: str = ...,
) -> str: ...
@overload
def assemble(
    ir_text: str,
    triple: str,
    cpu: str,
    features: str,
    filetype: Literal["object"],
    *,
    opt_level: int = ...,
    abi: str = ...,
) -> bytes: ...
def assemble(
    ir_text: str,
    triple: str,
    cpu: str,
    features: str,
    filetype: Literal["asm", "object"],
    *,
    opt_level: int = 2,
    abi: str = "",
) -> str | bytes:
    """Assembly text (PTX for NVIDIA triples) or object bytes of the module for any target; nothing is loaded.

    The code is position independent. ``abi`` is LLVM's ABI name where a target needs one (``lp64d`` on RISC-V).
    Raises CompileError for an unknown triple or invalid IR.
    """
    _get_engine()
    if triple.startswith(("nvptx", "amdgcn")):
        _refuse_what_gpus_lack(ir_text, triple)
    try:
        target = llvm.Target.from_triple(triple)
    except RuntimeError as error:
        raise CompileError(f"LLVM has no target {triple!r}: {str(error).strip()}") from error
    machine = target.create_target_machine(
        cpu=cpu, features=features, opt=opt_level, reloc="pic", codemodel="default", abiname=abi
    )
    module = _parse(ir_text, machine, triple)
    text_or_bytes: str | bytes = machine.emit_assembly(module) if filetype == "asm" else machine.emit_object(module)
    return text_or_bytes
