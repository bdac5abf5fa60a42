"""Machine code for other machines, made in a process of its own.

Enters: the text of an LLVM module and a target by LLVM's names.  Leaves: the bytes of an object, or assembly.
Invariant: whatever LLVM does with a target that it lists but cannot serve — end the process, warn and go on with a
generic CPU — becomes a `CompileError` here.  Only this very CPU is asked for in this process.  Start at `code_for`.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess
import sys
from typing import Literal

from gradc.errors import CompileError
from gradc.runtime import assembler
from gradc.runtime.load import machine_code, refuse_what_gpus_lack, target_info

_EMPTY = "define void @nothing() {\n  ret void\n}\n"
_LISTED = re.compile(r"^  (\S+) +- ", re.MULTILINE)
_UNKNOWN = re.compile(r"'\+?([^']*)' is not a recognized (processor|feature)")


def code_for(ir_text: str, triple: str, cpu: str, features: str, filetype: Literal["asm", "object"]) -> bytes:
    """`load.machine_code`, in a child process unless the target is this machine.

    Raises CompileError for an unknown triple, CPU or feature, and for a target that LLVM cannot write such code for.
    """
    if _is_here(triple, cpu, features):
        return machine_code(ir_text, triple, cpu, features, filetype)
    refuse_what_gpus_lack(ir_text, triple)
    answer = _ask(ir_text, triple, cpu, features, filetype)
    said = answer.stderr.decode(errors="replace")
    if unknown := _UNKNOWN.search(said):
        raise CompileError(_not_known(unknown[1], unknown[2], triple))
    if answer.returncode == assembler.REFUSED:
        raise CompileError(answer.stdout.decode())
    if answer.returncode:
        raise CompileError(f"LLVM cannot generate this code for {' '.join((triple, cpu)).strip()}: {_last_words(said)}")
    return answer.stdout


def check_target(triple: str, cpu: str, features: str) -> None:
    """CompileError for a triple, a CPU or a feature that LLVM does not know."""
    code_for(_EMPTY, triple, cpu, features, "asm")


def _ask(*request: str) -> subprocess.CompletedProcess[bytes]:
    """The child's answer."""
    if not sys.executable:
        raise CompileError("this process knows no Python interpreter to generate code for other machines with")
    return subprocess.run(
        [sys.executable, "-P", assembler.__file__],
        input=json.dumps(request).encode(),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONWARNINGS": "ignore"},
        check=False,
    )


def _is_here(triple: str, cpu: str, features: str) -> bool:
    info = target_info()
    mine = {("+" if on else "-") + name for name, on in info.features.items()}
    return triple == info.triple and cpu == info.cpu and set(filter(None, features.split(","))) <= mine


def _not_known(name: str, kind: str, triple: str) -> str:
    """What to say of a CPU or feature that LLVM does not know, with the names most like it."""
    listed = _ask(_EMPTY, triple, "help", "", "asm").stderr.decode(errors="replace")
    cpus, _, others = listed.partition("Available features")
    known = sorted({m[1] for m in _LISTED.finditer(cpus if kind == "processor" else others)})
    near = difflib.get_close_matches(name, known, 4, 0.6)
    which = f"those most like it are {', '.join(near)}" if near else f"none of its {len(known)} is like it"
    return f"LLVM knows no {'CPU' if kind == 'processor' else kind} {name!r} of {triple}; {which}"


def _last_words(said: str) -> str:
    """What LLVM says last, without the paths of its own build."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    reasons = [line for line in lines if "error" in line.lower() or "UNREACHABLE" in line or "Cannot select" in line]
    last = (reasons or lines or ["it ended without a word"])[-1]
    return re.sub(r" ?(at )?\S*/llvm/lib/\S+", "", last)[:200]
