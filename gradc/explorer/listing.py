"""LLVM IR and assembly as lines that know what they come from.

Enters: a module's text with debug locations, and the assembly that LLVM made of it.  Leaves: `Block`s, one for each
function, whose lines carry discriminators (`gradc.codegen.debug`) and are free of what only linkers and debuggers read.
Invariant: an instruction of assembly belongs to the `.loc` above it, as LLVM wrote it, and to nothing else.
Start reading at `assembly_blocks`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass

from gradc.codegen.debug import Locations, without_marks

_DEFINE = re.compile(r"define .*?@([\w.]+)\(")
_LABEL = re.compile(r'_?"?([\w.$]+)"?:')
_LOC = re.compile(r"\s*\.loc\s+\d+\s+\d+.*?(?:discriminator\s+(\d+))?\s*(?:#.*|//.*)?$")
_NOT_CODE = re.compile(r"\s*(?:\.(?!L\w*:)|#|//|;|@|$)|\s*\.?L(?:tmp|func_)\w*:")
_COMMENT = re.compile(r"\s+(?:#|//|##) .*$")
_END = re.compile(r"\s*\.(?:size|section|data|text)\b|\s*\.cfi_endproc|\.?L(?:func_end|fe)\w*:")


@dataclass(frozen=True)
class Block:
    """One function: lines of text, each with its discriminator (0: none)."""

    name: str
    lines: tuple[tuple[str, int], ...]


def ir_blocks(text: str, locations: Locations) -> list[Block]:
    """The functions of a module's text, without debug metadata."""
    blocks: list[Block] = []
    name, lines = "", list[tuple[str, int]]()
    for line in text.splitlines():
        found = _DEFINE.match(line)
        if found:
            name, lines = found[1], []
        if name:
            mark = 0 if found else locations.discriminator(line)
            lines.append((without_marks(line), mark))
        if line == "}":
            blocks.append(Block(name, tuple(lines)))
            name = ""
    return blocks


def assembly_blocks(asm: str, functions: Set[str]) -> list[Block]:
    """The code of ``functions`` in assembly; data, and directives for the linker and the debugger, are left out."""
    return [Block(name, tuple(lines)) for name, lines in _functions(asm, functions)]


def _functions(asm: str, functions: Set[str]) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    name, lines, mark = "", list[tuple[str, int]](), 0
    for line in asm.splitlines():
        label = _LABEL.match(line)
        if label and label[1] in functions:
            name, lines, mark = label[1], [], 0
        elif name and _END.match(line):
            yield name, lines
            name = ""
        elif name and (loc := _LOC.match(line)):
            mark = int(loc[1] or 0)
        elif name and not _NOT_CODE.match(line):
            text = _COMMENT.sub("", line)
            lines.append((_aligned(text), 0 if text.endswith(":") else mark))


def _aligned(line: str) -> str:
    """Mnemonics in one column, operands in another."""
    if not line.startswith("\t"):
        return line
    mnemonic, _, operands = line.strip().partition("\t")
    return f"  {mnemonic:<13} {operands}".rstrip()
