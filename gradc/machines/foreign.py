"""CPUs for which objects are written: compiled functions that leave Python, for any of LLVM's targets.

Enters: `Stages`, and a target by LLVM's names.  Leaves: object, assembly or IR, with a C header; nothing is loaded.
Invariant: the object has one exported symbol, needs no library and no runtime, and calls nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from gradc.codegen.debug import Locations
from gradc.codegen.emit import arena_bytes, emit
from gradc.codegen.target import Target
from gradc.containers import flatten, path_text
from gradc.errors import CompileError
from gradc.graph import Graph
from gradc.machines.artefact import MADE_BY, in_comment, write_with
from gradc.machines.machine import Code, Destination, refuse_captured
from gradc.machines.options import Options
from gradc.machines.stages import Stages
from gradc.node import Node
from gradc.runtime.files import write_whole
from gradc.runtime.foreign import check_target, code_for
from gradc.schedule import Schedule, schedule
from gradc.version import __version__

#: what `ForeignCpu.write` can make, by the file's ending
SUFFIXES = (".ll", ".s", ".o", ".obj", ".h")
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


class ForeignCpu:
    """A CPU by LLVM's names of it, this one among them, and the name of the function in its objects.

    The function is ``void name(const void *const *inputs, void *const *outputs, void *arena, int64_t *status)``.
    Raises CompileError for a name that is no C identifier.
    """

    views: Mapping[str, Any] = {}
    has_algorithms = True

    def __init__(self, target: Target, symbol: str):
        _check_symbol(symbol)
        self.widths, self.symbol = target, symbol
        self.name = f"{target.triple} {target.cpu}".strip()

    def schedule(self, graph: Graph, options: Options) -> Schedule:
        return schedule(graph, donated=options.donate, target=self.widths)

    def emit(self, plan: Schedule, options: Options, locations: Locations | None) -> Code:
        text = str(emit(plan, self.widths, self.symbol, options.fp, locations, watch=options.watch))
        return Code(text, self.symbol, arena_bytes(plan, self.widths))

    def assemble(self, code: Code, options: Options) -> str:
        return code_for(code.text, *self._target, "asm").decode()

    def load(self, stages: Stages) -> NoReturn:
        raise CompileError(f"code for {self.name} cannot be called here: write it to a file")

    @property
    def _target(self) -> tuple[str, str, str]:
        return self.widths.triple, self.widths.cpu, self.widths.features

    # -- files ---------------------------------------------------------------------------------------------------------
    def write(self, stages: Stages, path: Path, destination: Destination, overwrite: bool) -> list[Path]:
        """An object (ELF, COFF, Mach-O or wasm, as the triple says) comes with its header."""
        refuse_captured(stages)
        code = stages.code
        match path.suffix:
            case ".h":
                check_target(*self._target)
                return write_with({}, path, self.header(stages), overwrite)
            case ".ll":
                check_target(*self._target)
                return write_whole({path: code.text})
            case ".s":
                return write_whole({path: stages.asm})
            case ".o" | ".obj":
                made = code_for(code.text, *self._target, "object")
                return write_with({path: made}, path.with_suffix(".h"), self.header(stages), overwrite)
        raise CompileError(f"{path.name}: the file must end in one of {', '.join(SUFFIXES)}")

    def header(self, stages: Stages) -> str:
        """A C header: the prototype, the size of the arena, and what each pointer is."""
        graph, guard = stages.lowered, self.symbol.upper()
        args = [_array(graph.names.get(node, ""), "inputs", i, node) for i, node in enumerate(graph.inputs)]
        results = [_array(name, "outputs", j, node) for j, (name, node) in enumerate(_named_results(graph))]
        donated = stages.options.donate.items()
        shared = [f" *   outputs[{j}] is inputs[{i}], updated in place" for i, j in donated]
        return "\n".join(
            [
                f"/* {in_comment(graph.title)}, {MADE_BY} {__version__} for {self.name}",
                " * Arrays are contiguous, row-major, aligned to their element; they must not overlap",
                " * but for what is updated in place.",
                *args,
                *results,
                *shared,
                f" *   arena: {guard}_ARENA_BYTES bytes of scratch, aligned to 64 (may be NULL if 0)",
                " *   status: 0 when all went well; the caller sets it to 0 before the call",
                " */",
                f"#ifndef {guard}_H\n#define {guard}_H\n#include <stdint.h>",
                f"#define {guard}_INPUTS {len(args)}\n#define {guard}_OUTPUTS {len(results)}",
                f"#define {guard}_ARENA_BYTES {stages.code.arena_bytes}",
                '#ifdef __cplusplus\nextern "C"\n#endif',
                f"void {self.symbol}(const void *const *inputs, void *const *outputs, void *arena, int64_t *status);",
                "#endif",
                "",
            ]
        )


def _named_results(graph: Graph) -> list[tuple[str, Node]]:
    """The outputs, each with the user's name for it, or its place in what the function returns."""
    paths: Sequence[tuple[Any, ...]] = [(j,) for j in range(len(graph.outputs))] if len(graph.outputs) > 1 else [()]
    if graph.out_tree is not None:
        _, paths, _ = flatten(graph.out_tree.unflatten(graph.outputs))
    return [(graph.names.get(y) or f"result{path_text(p)}", y) for y, p in zip(graph.outputs, paths, strict=True)]


def _array(name: str, block: str, position: int, node: Node) -> str:
    extents = "".join(f"[{n}]" for n in node.shape)
    return f" *   {block}[{position}]: {_C_TYPES[str(node.dtype)]} {in_comment(name)}{extents}".replace(" [", "[")


def _check_symbol(name: str) -> None:
    """CompileError for what a C or C++ compiler would not take as the name of a function."""
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise CompileError(f"{name!r} is not a C identifier: letters, digits and _, and no digit first")
    if name in _KEYWORDS.split():
        raise CompileError(f"{name!r} is a keyword of C or C++; name the symbol {name + '_step'!r}, say")
    if re.match(r"_[_A-Z]", name) or name == "main":
        raise CompileError(f"{name!r} is reserved in C; name the symbol {'gradc_' + name.strip('_')!r}, say")
