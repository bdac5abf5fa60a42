"""Compiled functions that leave Python: object, assembly or IR for any LLVM target, with a C header.

Enters: a lowered Graph and a `Target`.  Leaves: an `Artefact`; nothing is loaded here.
Invariant: the object has one exported symbol, needs no library and no runtime, and calls nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gradc.codegen.debug import Locations
from gradc.codegen.emit import arena_bytes, emit
from gradc.codegen.target import Target
from gradc.errors import ArtefactWarning, CompileError
from gradc.graph import Graph
from gradc.node import Node
from gradc.ops.control import every_node
from gradc.ops.record import Kind
from gradc.places import Where, warn_user
from gradc.process import cached_property
from gradc.runtime.files import write_whole
from gradc.runtime.foreign import assemble_for, check_target
from gradc.schedule import Schedule, schedule
from gradc.version import __version__

#: what `Artefact.write` can make, by the file's ending
SUFFIXES = (".ll", ".s", ".o", ".obj", ".h")
#: Stands in every file that describes another one.
MADE_BY = "compiled by gradc"
#: Of C23 and C++23, whose compilers read the header alike.
_KEYWORDS = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t char8_t class
    co_await co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype default
    delete do double dynamic_cast else enum explicit export extern false float for friend goto if inline int long
    mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public register
    reinterpret_cast requires restrict return short signed sizeof static static_assert static_cast struct switch
    template this thread_local throw true try typedef typeid typename typeof typeof_unqual union unsigned using virtual
    void volatile wchar_t while xor xor_eq
"""
_C_TYPES = {
    "bool": "uint8_t", "float32": "float", "float64": "double",
    "float16": "uint16_t /* IEEE binary16 */", "bfloat16": "uint16_t /* bfloat16 */",
    **{f"{u}int{n}": f"{u}int{n}_t" for u in ("", "u") for n in (8, 16, 32, 64)},
}  # fmt: skip


@dataclass(frozen=True)
class Artefact:
    """``void name(const void *const *inputs, void *const *outputs, void *arena, int64_t *status)`` for one target."""

    graph: Graph
    schedule: Schedule
    target: Target
    name: str
    ir: str
    arena_bytes: int
    donated: Mapping[int, int]

    @cached_property
    def asm(self) -> str:
        """The assembly of the target."""
        return assemble_for(self.ir, self.target.triple, self.target.cpu, self.target.features, "asm")

    @cached_property
    def object_bytes(self) -> bytes:
        """The object file: ELF, COFF, Mach-O or wasm, as the triple says."""
        return assemble_for(self.ir, self.target.triple, self.target.cpu, self.target.features, "object")

    @cached_property
    def header(self) -> str:
        """A C header: the prototype, the size of the arena, and what each pointer is."""
        guard, where = self.name.upper(), f"{self.target.triple} {self.target.cpu}".strip()
        args = [self._array("inputs", i, node) for i, node in enumerate(self.graph.inputs)]
        results = [self._array("outputs", j, node) for j, node in enumerate(self.graph.outputs)]
        shared = [f" *   outputs[{j}] is inputs[{i}], updated in place" for i, j in self.donated.items()]
        return "\n".join(
            [
                f"/* {in_comment(self.graph.title)}, {MADE_BY} {__version__} for {where}",
                " * Arrays are contiguous, row-major, aligned to their element; they must not overlap.",
                *args,
                *results,
                *shared,
                f" *   arena: {guard}_ARENA_BYTES bytes of scratch, aligned to 64 (may be NULL if 0)",
                " *   status: 0 when all went well; the caller sets it to 0 before the call",
                " */",
                f"#ifndef {guard}_H\n#define {guard}_H\n#include <stdint.h>",
                f"#define {guard}_INPUTS {len(args)}\n#define {guard}_OUTPUTS {len(results)}",
                f"#define {guard}_ARENA_BYTES {self.arena_bytes}",
                '#ifdef __cplusplus\nextern "C"\n#endif',
                f"void {self.name}(const void *const *inputs, void *const *outputs, void *arena, int64_t *status);",
                "#endif",
                "",
            ]
        )

    def _array(self, block: str, position: int, node: Node) -> str:
        extents = "".join(f"[{n}]" for n in node.shape)
        name = in_comment(self.graph.names.get(node, ""))
        return f" *   {block}[{position}]: {_C_TYPES[str(node.dtype)]} {name}{extents}".replace(" [", "[")

    def write(self, path: str | Path, overwrite: bool = False) -> list[Path]:
        """Write what the file's ending asks for (an object comes with its header); returns the files written.

        All of them are written, or none.  A header that gradc did not write stays, unless ``overwrite``: see
        `write_with`.
        """
        path = Path(path)
        match path.suffix:
            case ".h":
                self._check_target()
                return write_with({}, path, self.header, overwrite)
            case ".ll":
                self._check_target()
                return write_whole({path: self.ir})
            case ".s":
                return write_whole({path: self.asm})
            case ".o" | ".obj":
                return write_with({path: self.object_bytes}, path.with_suffix(".h"), self.header, overwrite)
        raise CompileError(f"{path.name}: the file must end in one of {', '.join(SUFFIXES)}")

    def _check_target(self) -> None:
        """CompileError if LLVM does not know the target, which it is not asked for code of."""
        check_target(self.target.triple, self.target.cpu, self.target.features)


def write_with(files: Mapping[Path, str | bytes], place: Path, description: str, overwrite: bool) -> list[Path]:
    """Write ``files`` and, at ``place``, the text that describes them: all of them, or none.

    A file at ``place`` that gradc did not write is not replaced unless ``overwrite``.  If nobody named it (its name
    follows from that of a file), the description goes into a file of a similar name, which a warning gives; else, and
    if that stands there too, it raises CompileError.
    """
    if not overwrite and _is_foreign(place):
        beside = place.with_suffix(f".gradc{place.suffix}")
        if not files or _is_foreign(beside):
            raise CompileError(
                f"{place} exists, and gradc did not write it: choose another name, or say overwrite=True (--overwrite)"
            )
        warn_user(f"{place} stays as it is, for gradc did not write it; the new one is {beside.name}", ArtefactWarning)
        place = beside
    return write_whole({**files, place: description})


def _is_foreign(path: Path) -> bool:
    return path.exists() and MADE_BY not in path.read_text(errors="replace")


def in_comment(text: str) -> str:
    """``text``, which is one line, so that a comment of C that holds it ends where it should."""
    return text.replace("*/", "* /").replace("/*", "/ *")


def build(
    graph: Graph, target: Target, name: str, fp: str, donated: Mapping[int, int], debug: bool = False
) -> Artefact:
    """Schedule and emit a lowered graph for ``target``, with the user's source lines if ``debug``.

    Raises CompileError for a name that is no C identifier, and for captured arrays: those live in the Python process.
    """
    _check_symbol(name)
    plan = schedule(graph, donated=donated, target=target)
    if plan.arrays:
        captured = ", ".join(f"{a.dtype}{list(a.shape)}" for a in plan.arrays)
        raise CompileError(
            f"{graph.title} captures arrays ({captured}), which a standalone function cannot hold; "
            "pass them as arguments"
        )
    text = str(emit(plan, target, name, fp, locations(plan, graph) if debug else None))
    return Artefact(graph, plan, target, name, text, arena_bytes(plan, target), donated)


def _check_symbol(name: str) -> None:
    """CompileError for what a C or C++ compiler would not take as the name of a function."""
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise CompileError(f"{name!r} is not a C identifier: letters, digits and _, and no digit first")
    if name in _KEYWORDS.split():
        raise CompileError(f"{name!r} is a keyword of C or C++; name the symbol {name + '_step'!r}, say")
    if re.match(r"_[_A-Z]", name) or name == "main":
        raise CompileError(f"{name!r} is reserved in C; name the symbol {'gradc_' + name.strip('_')!r}, say")


def locations(plan: Schedule, graph: Graph) -> Locations:
    """Debug locations for the code of ``plan``, the schedule of ``graph``."""
    return Locations(plan, source_lines(graph))


def source_lines(graph: Graph) -> list[Where | None]:
    """The user's line of each node; an argument has none, for it is made where the function is called."""
    return [None if node.op.kind is Kind.INPUT else node.where for node in every_node(graph)]
