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
from gradc.errors import CompileError
from gradc.graph import Graph
from gradc.node import Node, Where
from gradc.ops.control import every_node
from gradc.process import cached_property
from gradc.runtime.load import assemble
from gradc.schedule import Schedule, schedule
from gradc.version import __version__

#: what `Artefact.write` can make, by the file's ending
SUFFIXES = (".ll", ".s", ".o", ".obj", ".h")
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
        return assemble(self.ir, self.target.triple, self.target.cpu, self.target.features, "asm")

    @cached_property
    def object_bytes(self) -> bytes:
        """The object file: ELF, COFF, Mach-O or wasm, as the triple says."""
        return assemble(self.ir, self.target.triple, self.target.cpu, self.target.features, "object")

    @cached_property
    def header(self) -> str:
        """A C header: the prototype, the size of the arena, and what each pointer is."""
        guard, where = self.name.upper(), f"{self.target.triple} {self.target.cpu}".strip()
        args = [self._array("inputs", i, node) for i, node in enumerate(self.graph.inputs)]
        results = [self._array("outputs", j, node) for j, node in enumerate(self.graph.outputs)]
        shared = [f" *   outputs[{j}] is inputs[{i}], updated in place" for i, j in self.donated.items()]
        return "\n".join(
            [
                f"/* {self.graph.title}, compiled by gradc {__version__} for {where}",
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
        name = self.graph.names.get(node, "")
        return f" *   {block}[{position}]: {_C_TYPES[str(node.dtype)]} {name}{extents}".replace(" [", "[")

    def write(self, path: str | Path) -> list[Path]:
        """Write what the file's ending asks for (an object comes with its header); returns the files written."""
        path = Path(path)
        if path.suffix not in SUFFIXES:
            raise CompileError(f"{path.name}: the file must end in one of {', '.join(SUFFIXES)}")
        if path.suffix == ".h":
            path.write_text(self.header)
        elif path.suffix == ".ll":
            path.write_text(self.ir)
        elif path.suffix == ".s":
            path.write_text(self.asm)
        else:
            path.write_bytes(self.object_bytes)
            return [path, *self.write(path.with_suffix(".h"))]
        return [path]


def build(
    graph: Graph, target: Target, name: str, fp: str, donated: Mapping[int, int], debug: bool = False
) -> Artefact:
    """Schedule and emit a lowered graph for ``target``, with the user's source lines if ``debug``.

    Raises CompileError for a name that is no C identifier, and for captured arrays: those live in the Python process.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise CompileError(f"{name!r} is not a C identifier")
    plan = schedule(graph, donated=donated, target=target)
    if plan.arrays:
        captured = ", ".join(f"{a.dtype}{list(a.shape)}" for a in plan.arrays)
        raise CompileError(
            f"{graph.title} captures arrays ({captured}), which a standalone function cannot hold; "
            "pass them as arguments"
        )
    text = str(emit(plan, target, name, fp, locations(plan, graph) if debug else None))
    return Artefact(graph, plan, target, name, text, arena_bytes(plan, target), donated)


def locations(plan: Schedule, graph: Graph) -> Locations:
    """Debug locations for the code of ``plan``, the schedule of ``graph``."""
    return Locations(plan, source_lines(graph))


def source_lines(graph: Graph) -> list[Where | None]:
    """The user's line of each node; an argument has none, for it is made where the function is called."""
    return [None if node.op.name == "input" else node.where for node in every_node(graph)]
