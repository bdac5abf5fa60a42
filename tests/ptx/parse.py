"""PTX text to instructions.

Enters: the text of one PTX module as LLVM writes it.  Leaves: a `Program`: its functions cut into basic blocks, and its
global arrays.  Nothing is interpreted here.  Reference: NVIDIA, PTX ISA 9.0.  Start reading at `parse`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Instruction:
    """``@guard opcode operands``: the opcode split at its dots, operands as text."""

    opcode: tuple[str, ...]
    operands: tuple[str, ...]
    guard: str = ""  #: register of the predicate, "" if there is none
    negated: bool = False
    line: int = 0

    def __str__(self) -> str:
        guard = f"@{'!' if self.negated else ''}{self.guard} " if self.guard else ""
        return f"line {self.line}: {guard}{'.'.join(self.opcode)} {', '.join(self.operands)}"


@dataclass
class Function:
    """Blocks of instructions; only the last instruction of a block transfers control, or waits at a barrier."""

    name: str
    entry: bool
    params: list[tuple[str, str]]  #: (PTX type, name)
    registers: dict[str, str] = field(default_factory=dict)  #: prefix -> PTX type
    local: dict[str, tuple[int, int]] = field(default_factory=dict)  #: name -> (offset, size)
    shared: dict[str, tuple[int, int]] = field(default_factory=dict)
    blocks: list[list[Instruction]] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    results: list[tuple[str, str]] = field(default_factory=list)

    @property
    def local_bytes(self) -> int:
        return max((at + size for at, size in self.local.values()), default=0)


@dataclass
class Program:
    version: str
    target: str
    functions: dict[str, Function]
    arrays: dict[str, tuple[int, bytes]]  #: name -> (alignment, contents)
    shared: dict[str, tuple[int, int]]  #: name -> (offset, size)
    dynamic: set[str]  #: names of the shared memory that a launch asks for

    @property
    def shared_bytes(self) -> int:
        return max((at + size for at, size in self.shared.values()), default=0)


SIZES = {"8": 1, "16": 2, "32": 4, "64": 8}
ENDS_BLOCK = {"bra", "ret", "exit", "bar", "barrier", "call"}


def size_of(ptx_type: str) -> int:
    return 1 if ptx_type == "pred" else SIZES[ptx_type[1:]]


def parse(text: str) -> Program:
    return _Parser(text).program()


_HEAD = re.compile(r"(?:\.visible\s+|\.weak\s+)?\.(entry|func)\s+(?:\((?P<results>[^)]*)\)\s*)?(?P<name>[\w$]+)")
_ARRAY = re.compile(
    r"(?:\.visible\s+|\.weak\s+)?\.(global|const|shared|local)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)"
    r"(?:\[(\d*)\])?(?:\s*=\s*(.*))?$",
    re.DOTALL,
)
_PARAM = re.compile(
    r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)(?:\s+\.ptr)?(?:\s+\.\w+)*?(?:\s+\.align\s+\d+)?\s+([\w$]+)"
)


class _Parser:
    def __init__(self, text: str):
        text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m[0].count("\n"), text, flags=re.DOTALL)
        self.text = re.sub(r"//[^\n]*", "", text)
        self.at = 0
        self.functions: dict[str, Function] = {}
        self.arrays: dict[str, tuple[int, bytes]] = {}
        self.shared: dict[str, tuple[int, int]] = {}
        self.dynamic: set[str] = set()
        self.info = {"version": "", "target": ""}

    def program(self) -> Program:
        while (statement := self._statement()) is not None:
            self._top_level(statement)
        return Program(
            self.info["version"], self.info["target"], self.functions, self.arrays, self.shared, self.dynamic
        )

    def _statement(self) -> str | None:
        """What stands before the next ``;`` or ``{`` outside an initialiser, or a directive's line."""
        rest = self.text[self.at :].lstrip()
        self.at = len(self.text) - len(rest)
        if not rest:
            return None
        if rest.startswith((".version", ".target", ".address_size")):
            end = rest.find("\n")
            self.at += end + 1
            return rest[:end].strip()
        depth = re.match(r"[^;{=]*", rest)
        assert depth is not None
        stop = depth.end()
        if rest[stop : stop + 1] == "=":
            stop = rest.index(";")
        self.at += stop + (rest[stop] == ";")
        return rest[:stop].strip()

    def _top_level(self, s: str) -> None:
        if s.startswith((".version", ".target")):
            key, value = s[1:].split(None, 1)
            self.info[key] = value
        elif found := _HEAD.match(s):
            self._function(found, s)
        elif dynamic := re.match(r"\.extern\s+\.shared\s+.*?([\w$]+)\[\]$", s):
            self.dynamic.add(dynamic[1])
        elif s.startswith((".extern", ".address_size")):
            pass
        elif array := _ARRAY.match(s):
            self._array(array, None)
        elif s:
            raise SyntaxError(f"not understood: {s[:80]}")

    def _array(self, m: re.Match[str], f: Function | None) -> None:
        space, align, kind, name, count, init = m.groups()
        align, width = int(align or 1), size_of(kind)
        size = width * int(count or 1)
        if space in ("global", "const"):
            contents = bytes(size)
            if init:
                values = [int(v, 0) for v in re.findall(r"-?\w+", init)]
                contents = b"".join((v % (1 << 8 * width)).to_bytes(width, "little") for v in values).ljust(size, b"\0")
            self.arrays[name] = (align, contents)
            return
        table = self.shared if space == "shared" else f.local if f is not None else None
        assert table is not None, f"{space} array outside a function"
        end = max((at + n for at, n in table.values()), default=0)
        table[name] = (-(-end // align) * align, size)

    def _function(self, head: re.Match[str], s: str) -> None:
        params = [(t, n) for t, n in _PARAM.findall(s[head.end() :])]
        f = Function(head["name"], head[1] == "entry", params)
        f.results = [(t, n) for t, n in _PARAM.findall(head["results"] or "")]
        if self.text[self.at - 1] == ";":  # a declaration
            return
        start = self.at + 1
        depth, end = 1, start
        while depth:
            depth += {"{": 1, "}": -1}.get(self.text[end], 0)
            end += 1
        self._body(f, self.text[start : end - 1], self.text.count("\n", 0, start) + 1)
        self.at = end
        self.functions[f.name] = f

    def _body(self, f: Function, text: str, line: int) -> None:
        f.blocks.append([])
        for piece, n in _statements(text):
            where = line + n
            while label := re.match(r"\s*([\w$]+):", piece):
                if f.blocks[-1]:
                    f.blocks.append([])
                f.labels[label[1]] = len(f.blocks) - 1
                piece = piece[label.end() :]
            piece = piece.strip()
            if not piece:
                continue
            if piece.startswith("."):
                self._directive(f, piece)
                continue
            instruction = _instruction(piece, where)
            f.blocks[-1].append(instruction)
            if instruction.opcode[0] in ENDS_BLOCK:
                f.blocks.append([])

    def _directive(self, f: Function, s: str) -> None:
        if reg := re.match(r"\.reg\s+\.(\w+)\s+([%\w]+)(?:<\d+>)?$", s):
            f.registers[reg[2]] = reg[1]
        elif array := _ARRAY.match(s):
            self._array(array, f)
        elif not s.startswith((".param", ".loc", ".file", ".pragma")):
            raise SyntaxError(f"not understood: {s[:80]}")


def _statements(text: str) -> list[tuple[str, int]]:
    """(statement, lines before it); the braces of nested scopes are dropped, those of vectors are not."""
    found, start = [], 0
    depth = 0
    for k, c in enumerate(text):
        if c == "{":
            if not text[start:k].strip():
                start = k + 1
            else:
                depth += 1
        elif c == "}":
            if depth:
                depth -= 1
            else:
                start = k + 1
        elif c == ";":
            body = text[start:k]
            lead = len(body) - len(body.lstrip())
            found.append((body, text.count("\n", 0, start + lead)))
            start = k + 1
    return found


def _instruction(s: str, line: int) -> Instruction:
    guard, negated = "", False
    if s.startswith("@"):
        word, s = s[1:].split(None, 1)
        negated, guard = word.startswith("!"), word.lstrip("!")
    opcode, *rest = s.split(None, 1)
    return Instruction(tuple(opcode.split(".")), tuple(_operands("".join(rest))), guard, negated, line)


def _operands(s: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for k, c in enumerate(s):
        depth += {"[": 1, "{": 1, "(": 1, "]": -1, "}": -1, ")": -1}.get(c, 0)
        if c == "," and not depth:
            parts.append(s[start:k].strip())
            start = k + 1
    if s[start:].strip():
        parts.append(s[start:].strip())
    return parts
