"""LLVM IR text → an object or assembly for any target that LLVM knows, with llvmlite and nothing of gradc.

Enters: the text of one LLVM module and a target by LLVM's names.  Leaves: bytes.
Invariant: this file imports nothing of gradc, so that it is also a program that starts in a fraction of the time of
``import gradc``: `gradc.runtime.foreign` runs it for each request in a process of its own.  Start at `machine_code`.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack

import llvmlite.binding as llvm

#: Exit status of the program when it says why in its own words.
REFUSED = 3


class RefusedError(Exception):
    """What LLVM does not take, in words for the user."""


def register_targets() -> None:
    """All targets of this LLVM, with what writes their code."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()


def parse(ir_text: str, machine: llvm.TargetMachine, triple: str, held: ExitStack) -> llvm.ModuleRef:
    """The verified module, which lives until ``held`` ends, and its context a little longer.

    Its data layout stands before the first instruction, which takes its alignments from it.  Raises RefusedError for
    invalid IR.
    """
    head = ""
    if "target datalayout" not in ir_text:
        head += f'target datalayout = "{machine.target_data}"\n'
    if "target triple" not in ir_text:
        head += f'target triple = "{machine.triple or triple}"\n'
    context = held.enter_context(llvm.create_context())
    try:
        module = held.enter_context(llvm.parse_assembly(head + ir_text, context))
        module.verify()
    except RuntimeError as error:
        raise RefusedError(f"LLVM rejects the generated module: {str(error).strip()}") from error
    return module


def machine_code(ir_text: str, triple: str, cpu: str, features: str, filetype: str, opt_level: int = 2) -> bytes:
    """The module as an "object" file, or as the text of its assembly ("asm"), position independent.

    The targets must be registered.  Raises RefusedError for an unknown triple or invalid IR, and RuntimeError where
    LLVM has no writer of such files.
    """
    try:
        target = llvm.Target.from_triple(triple)
    except RuntimeError as error:
        raise RefusedError(f"LLVM has no target {triple!r:.80}: {str(error).strip():.160}") from error
    with ExitStack() as held:
        machine = held.enter_context(
            target.create_target_machine(cpu=cpu, features=features, opt=opt_level, reloc="pic", codemodel="default")
        )
        module = parse(ir_text, machine, triple, held)
        made: bytes = machine.emit_assembly(module).encode() if filetype == "asm" else machine.emit_object(module)
    return made


def serve() -> None:
    """What the program does: one request on standard input, the code on standard output."""
    ir_text, triple, cpu, features, filetype = json.load(sys.stdin.buffer)
    register_targets()
    try:
        made = machine_code(ir_text, triple, cpu, features, filetype)
    except RefusedError as error:
        sys.stdout.write(str(error))
        sys.exit(REFUSED)
    except RuntimeError as error:
        sys.stdout.write(f"LLVM writes no {filetype} for {triple}: {error}")
        sys.exit(REFUSED)
    sys.stdout.buffer.write(made)


if __name__ == "__main__":
    serve()
