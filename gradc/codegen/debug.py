"""Debug locations: which line of the user's file, and which piece of which kernel, an instruction comes from.

Enters: places as the emitters walk (`Function.standing_for`).  Leaves: LLVM's debug metadata, from which LLVM writes
DWARF line tables (`.loc` in assembly), and the way back from what it wrote: `Locations.nodes`.
A location is a line of the user's file — that of the node computed there, so debuggers and profilers show the Python
source — and a *discriminator*, DWARF's number for "which of several pieces of code on one line".  Discriminators are
numbered over the module and name a `Piece` of the function that is emitted.  A function shared by several kernels, or
called by several, stands for the pieces of them all.
Invariant: locations change no instruction.  Start reading at `Locations`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from gradc.codegen.fork import FORK
from gradc.places import Where
from gradc.process import cached_property
from gradc.schedule.bodies import held_kernels
from gradc.schedule.kernel import Kernel
from gradc.schedule.origin import Piece, loaded_at, nodes_at, nodes_of
from gradc.schedule.plan import Schedule

#: metadata numbers below this one are the compile unit and what it needs
FIRST = 8
HEAD = """\
!llvm.dbg.cu = !{{!0}}
!llvm.module.flags = !{{!1, !2}}
!0 = distinct !DICompileUnit(language: DW_LANG_Python, file: !{file}, producer: "gradc", isOptimized: true, \
runtimeVersion: 0, emissionKind: LineTablesOnly)
!1 = !{{i32 2, !"Debug Info Version", i32 3}}
!2 = !{{i32 2, !"Dwarf Version", i32 4}}
!3 = !DISubroutineType(types: !{{null}})"""
#: a call, or a fork, which calls its first argument
_CALL = re.compile(rf"call [^@]*@(?:{FORK}\(ptr @)?([\w.]+)[(,].*!dbg !(\d+)$")
_MARK = re.compile(r",? !dbg !(\d+)")


@dataclass(frozen=True, slots=True)
class Location:
    """One place in the emitted code: a function, and in it a piece of a kernel, or a whole one."""

    function: str
    piece: Piece | None  #: None: the whole kernel
    kernel: int = -1  #: where kernels are done one after another, called or in place: which one


#: for each function that is no kernel: the pieces of kernels from which it is called, directly or not
Callers = dict[str, frozenset[tuple[int, Piece]]]


class Locations:
    """The debug locations of one module.

    ``source`` gives for each node of the scheduled graph the user's line, or None: what reads an argument then has the
    line of what is computed from it.
    """

    def __init__(self, schedule: Schedule, source: Sequence[Where | None]):
        self.schedule, self.source = schedule, source
        self.found: list[Location] = []  #: discriminator k is ``found[k - 1]``
        self._numbers: dict[str, int] = {}  # a line of metadata -> its number
        self._known: dict[tuple[str, frozenset[tuple[str, int]]], int] = {}
        self._discriminators: dict[int, int] = {}  # number of a location's metadata -> its discriminator
        self._functions: dict[str, int] = {}
        self._runs: dict[str, list[tuple[int, Piece | None]]] = {}  # function -> the kernels, or parts, whose it is
        self._texts: Mapping[str, str] = {}
        self._kernel, self._around = 0, Piece()

    # -- while emitting ----------------------------------------------------------------------------------------------
    def enter(self, kernel: int, work: int = 0, inner: Kernel | None = None, part: int = 0) -> None:
        """What follows is emitted for this piece of this kernel; or for part of an ``inner`` one that it runs."""
        self._kernel = kernel
        self._around = Piece(work) if inner is None else self._inside(kernel, work, inner, part)

    def runs(self, function: str, kernel: int, work: int | None, inner: Kernel) -> None:
        """``function`` is that of ``kernel``; or, given a piece of work, of an ``inner`` kernel in its bodies."""
        around = None if work is None else self._inside(kernel, work, inner)
        self._runs.setdefault(function, []).append((kernel, around))

    def _inside(self, kernel: int, work: int, inner: Kernel, part: int = 0) -> Piece:
        held = held_kernels(self.schedule.kernels[kernel].work[work])
        return Piece(work, inner=next(k for k, (_, other) in enumerate(held) if other is inner), part=part)

    def function(self, name: str) -> str:
        where = self._where(self._kernel_nodes())
        file = self._file(where)
        self._functions[name] = self._number(
            f'distinct !DISubprogram(name: "{name}", scope: !{file}, file: !{file}, line: {_line(where)}, type: !3, '
            "spFlags: DISPFlagDefinition | DISPFlagOptimized, unit: !0)"
        )
        return f" !dbg !{self._functions[name]}"

    def location(self, name: str, place: Mapping[str, int]) -> str:
        key = (name, frozenset(place.items()))
        if key not in self._known:
            self._known[key] = self._new(name, dict(place))
        return f", !dbg !{self._known[key]}"

    def _new(self, name: str, place: dict[str, int]) -> int:
        kernel = place.pop("kernel", -1)
        location = Location(name, Piece(**place) if place or kernel < 0 else None, kernel)
        self.found.append(location)
        where = self._where(self._nodes_now(location)) or self._where(self._kernel_nodes())
        block = f"!DILexicalBlockFile(scope: !{self._functions[name]}, file: !{self._file(where)}, "
        scope = self._number(f"{block}discriminator: {len(self.found)})")
        number = self._number(f"!DILocation(line: {_line(where)}, scope: !{scope})")
        self._discriminators[number] = len(self.found)
        return number

    def _nodes_now(self, location: Location) -> frozenset[int]:
        """What a location stands for in the kernel for which it is being emitted."""
        if location.piece is None:
            return nodes_of(self.schedule, location.kernel)
        if not self.schedule.kernels:
            return frozenset()
        return nodes_at(self.schedule, self._kernel, _placed(location.piece, self._around))

    def _kernel_nodes(self) -> frozenset[int]:
        return nodes_of(self.schedule, self._kernel) if self.schedule.kernels else frozenset()

    def _where(self, nodes: frozenset[int]) -> Where | None:
        """The line of what is computed last."""
        return next((w for w in (self.source[n] for n in sorted(nodes, reverse=True)) if w is not None), None)

    def finish(self, functions: Mapping[str, str]) -> None:
        """The module is complete: the texts of its functions."""
        self._texts = functions

    # -- metadata ----------------------------------------------------------------------------------------------------
    def _number(self, text: str) -> int:
        return self._numbers.setdefault(text, FIRST + len(self._numbers))

    def _file(self, where: Where | None) -> int:
        path = PurePath(where.file) if where is not None else PurePath("unknown")
        return self._number(f'!DIFile(filename: "{_quoted(path.name)}", directory: "{_quoted(str(path.parent))}")')

    def metadata(self) -> list[str]:
        file = self._file(next((w for w in self.source if w is not None), None))
        return [HEAD.format(file=file), *(f"!{number} = {text}" for text, number in self._numbers.items())]

    # -- the way back ------------------------------------------------------------------------------------------------
    def discriminator(self, line: str) -> int:
        """The discriminator of a line of the module's text; 0 where it has none."""
        mark = _MARK.search(line)
        return self._discriminators.get(int(mark[1]), 0) if mark is not None else 0

    def nodes(self, discriminator: int) -> frozenset[int]:
        """The positions of the graph nodes that code with this discriminator stands for."""
        location = self.found[discriminator - 1]
        if location.piece is None:
            return nodes_of(self.schedule, location.kernel)
        pieces = self.pieces(discriminator)
        return frozenset[int]().union(*(nodes_at(self.schedule, kernel, piece) for kernel, piece in pieces))

    def loaded(self, discriminator: int) -> frozenset[int]:
        """Those of `nodes` whose values code with this discriminator only loads."""
        location = self.found[discriminator - 1]
        pieces = self.pieces(discriminator) if location.piece is not None else frozenset[tuple[int, Piece]]()
        return frozenset[int]().union(*(loaded_at(self.schedule, kernel, piece) for kernel, piece in pieces))

    def pieces(self, discriminator: int) -> frozenset[tuple[int, Piece]]:
        """The pieces of kernels that code with this discriminator belongs to, each with its kernel's number."""
        location = self.found[discriminator - 1]
        return self._stands_for(location)

    def _stands_for(self, location: Location, callers: Callers | None = None) -> frozenset[tuple[int, Piece]]:
        """The pieces of kernels that code at a location belongs to, given who calls functions that are no kernel's."""
        piece = location.piece
        if piece is None:
            return frozenset((location.kernel, Piece(work)) for work in range(self._works(location.kernel)))
        if location.kernel >= 0:
            return frozenset(((location.kernel, piece),))
        if location.function in self._runs:
            return frozenset(
                (kernel, piece if around is None else _placed(piece, replace(around, part=piece.part)))
                for kernel, around in self._runs[location.function]
            )
        return frozenset(
            (kernel, around if piece.is_whole else _placed(piece, around))
            for kernel, around in (self._callers if callers is None else callers)[location.function]
        )

    def _works(self, kernel: int) -> int:
        return len(self.schedule.kernels[kernel].work)

    @cached_property
    def _callers(self) -> Callers:
        """For each function that is no kernel: the pieces of kernels from which it is called, directly or not."""
        called = [call for text in self._texts.values() for call in _calls(text)]
        known: Callers = {name: frozenset() for name in self._texts}
        changed = True
        while changed:
            changed = False
            for callee, mark in called:
                location = self.found[self._discriminators[mark] - 1]
                if callee not in known or callee in self._runs:
                    continue
                found = self._stands_for(location, known)
                if not found <= known[callee]:
                    known[callee] |= found
                    changed = True
        return known


def _placed(piece: Piece, around: Piece) -> Piece:
    """An instruction or slot of ``piece`` in the work that ``around`` names."""
    return replace(around, instruction=piece.instruction, slot=piece.slot)


def without_marks(line: str) -> str:
    """A line of the module's text as it reads without debug locations."""
    return _MARK.sub("", line)


def _calls(text: str) -> Iterator[tuple[str, int]]:
    for line in text.splitlines():
        if found := _CALL.search(line):
            yield found[1], int(found[2])


def _line(where: Where | None) -> int:
    return 0 if where is None else where.line


def _quoted(text: str) -> str:
    """A string of metadata: anything but plain characters as \\XX."""
    plain = (32 <= byte < 127 and byte not in b'"\\' for byte in text.encode(errors="surrogateescape"))
    bytes_ = text.encode(errors="surrogateescape")
    return "".join(chr(b) if ok else f"\\{b:02X}" for b, ok in zip(bytes_, plain, strict=True))
