"""The house rules of docs/rooms.md, read off the syntax trees of what is there.

Enters: the source files. Leaves: one list of violations per rule, each with file and line. No module is imported to be
judged, so the rules hold for code that no test runs. The second half plants one violation of every rule in a small
house of its own and asks for it back: a rule that cannot fail is no rule. Start at `ROOMS`.
"""

from __future__ import annotations

import ast
import functools
import gc
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeGuard

import networkx as nx
import pytest

from gradc.ops import OPS

ROOT = Path(__file__).resolve().parent.parent

ROOMS: tuple[tuple[str, ...], ...] = (
    (
        "startup",
        "version",
        "errors",
        "aval",
        "places",
        "refusals",
        "methods",
        "node",
        "interpret",
        "graph",
        "containers",
        "process",
        "tabular",
    ),
    ("ops",),
    ("numpy", "nn", "optim", "random", "linalg", "special", "data", "tree"),
    ("witnesses", "draws", "trace"),
    ("diff",),
    ("passes",),
    ("explain",),
    ("schedule",),
    ("codegen",),
    ("runtime",),
    ("machines",),
    ("explorer",),
    (
        "api",
        "solve",
        "sparse",
        "scipy",
        "oracle",
        "storage",
        "training",
        "diagnostics",
        "convergence",
        "cli",
        "__main__",
        "__init__",
    ),
)
"""Top to bottom, the modules and packages of each room. A room may import itself and the rooms above it."""

NAMESPACES = set(ROOMS[2])
STRUCTURE = set(ROOMS[0]) - {"startup", "version", "errors", "aval", "process"}

IGNORANT_OF: dict[str, set[str]] = {
    "data": {name for room in ROOMS for name in room} - {"data", "containers", "node"},
    "schedule": NAMESPACES | {"witnesses", "draws", "trace", "diff", "explain"},
    "codegen": NAMESPACES | {"witnesses", "draws", "trace", "diff", "explain", "passes"},
    "machines": NAMESPACES | {"witnesses", "draws", "trace", "diff", "explain"},
    "runtime": NAMESPACES | STRUCTURE | {"ops", "witnesses", "draws", "trace", "diff", "explain", "passes"},
}
"""What a room may not know although it lies above: the last stages must not care where a graph came from."""

TYPE_ONLY = {("node", "ops"): "a Node's field `op` has the record's type; the registry OPS binds it late"}
"""Imports against the order that stand under TYPE_CHECKING, each with its reason."""

NAMELESS = {"diff", "passes", "explain", "schedule", "codegen", "runtime", "machines", "explorer", "oracle"}
"""Rooms that know ops by their kind and the facets of their records."""

PICKS_NO_OP = NAMELESS - {"diff", "passes", "explain"}
"""Those of them that build no graph: they do not take an op out of the registry by its name either."""

RULE_FILES = (
    *("diff.structured.*", "diff.symbolic.*"),
    *(
        "passes.evenness",
        "passes.kink_forms",
        "passes.kinks",
        "passes.quotients",
        "passes.rules",
        "passes.share",
        "passes.simplify",
        "passes.stabilise",
    ),
    *("passes.together", "passes.unfold"),
    *("explain.extents", "explain.identities.*", "explain.lift", "explain.notation", "explain.quantities"),
    *("explain.reasons", "explain.values"),
)
"""Where identities of single ops may be written: each op that they do not name is treated by its kind.  docs/rooms.md
lists the same."""

NOT_AN_OP = {
    "gradc.runtime.load": "the names of LLVM's intrinsics",
    "gradc.explain.latex": "the names of LaTeX's commands",
    "gradc.passes.verify": "asks whether the op of a node is the one that is registered",
}
"""Files in which such words mean something else."""

THIRD_PARTY: dict[str, tuple[str, ...]] = {
    "numpy": ("*",),
    "ml_dtypes": ("aval",),
    "optree": ("containers",),
    "mpmath": ("ops.fits",),
    "networkx": ("graph", "passes.rematerialise", "schedule.chains"),
    "sympy": ("diff.symbolic*", "explain", "oracle"),
    "llvmlite": ("codegen", "runtime"),
    "scipy": ("sparse", "scipy", "numpy.sparse"),
    "rich": ("cli", "training"),
    "pandas": ("training.history",),
    "tensorboardX": ("training.tensorboard",),
    "safetensors": ("storage",),
    "cuda": ("runtime.cuda",),
}
"""Who may import what from outside; everything else from outside is refused."""

SLOW_TO_IMPORT = ("sympy", "mpmath", "scipy", "networkx", "rich", "llvmlite", "numpy.ma", "numpy.typing", "hashlib")
"""Paid on first use: `import gradc` loads none of them, and no module imports SymPy as it loads."""

WRITES = {
    "gradc.runtime.files": "writes beside the place and moves what is whole there",
    "gradc.ops.tables.__main__": "makes files of the source tree, under version control",
}
"""The modules that open files for writing; all others ask the first of them."""

WALKS = "machines"
"""The room that walks the road from a graph to a function; rooms below it take what stages make from there."""

STAGES = (
    "gradc.passes.PIPELINE", "gradc.passes.LOWERING", "gradc.passes.lowering", "gradc.schedule.schedule",
    "gradc.codegen.emit", "gradc.codegen.emit_kernel", "gradc.codegen.arena_bytes", "gradc.codegen.ptx",
    "gradc.runtime.load.assemble", "gradc.runtime.load.machine_code", "gradc.runtime.load.load_known",
    "gradc.runtime.foreign", "gradc.runtime.assembler",
)  # fmt: skip
"""What walks a stretch of that road: functions, the lists of passes that they run, or modules of nothing else."""

BANNED_NAMES = {"utils", "util", "helpers", "helper", "core", "base", "common", "manager", "misc"}
MAX_FUNCTION_LINES, MAX_FILE_LINES, MEDIAN_FUNCTION_LINES = 80, 700, 10

When = Literal["module", "lazy", "typing"]


@dataclass(frozen=True)
class Import:
    """`target` is a module of the house by its full name, or an outside package by its top name."""

    target: str
    line: int
    when: When


@dataclass(frozen=True)
class Source:
    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def top(self) -> str:
        """The entry of ROOMS this module belongs to."""
        return top(self.name)

    def at(self, line: int) -> str:
        return f"{self.path}:{line}"


class House:
    """The package under `root`: its sources and their imports, by dotted module name."""

    def __init__(self, root: Path) -> None:
        self.sources = {source.name: source for source in (_read(root, path) for path in sorted(root.rglob("*.py")))}
        self.imports = {name: list(self._imports(source)) for name, source in self.sources.items()}

    def _imports(self, source: Source) -> Iterator[Import]:
        for statement, when in _imports_of(source.tree, "module"):
            for name in _imported_names(statement, source):
                yield Import(self._resolve(name), statement.lineno, when)

    def _resolve(self, name: str) -> str:
        if not inside(name):
            return name.split(".")[0]
        holder = name.rpartition(".")[0]  # of `from gradc.node import Node`: gradc.node
        return holder if name not in self.sources and holder in self.sources else name

    def names(self, source: Source) -> Iterator[tuple[str, int]]:
        """Every dotted name that a source imports, functions and modules alike, with its line."""
        for statement, when in _imports_of(source.tree, "module"):
            if when != "typing":
                yield from ((name, statement.lineno) for name in _imported_names(statement, source))

    def edges(self, *whens: When) -> Iterator[tuple[Source, Import]]:
        """Every import at one of the given times (all, if none is given), with the source that holds it."""
        for name, imports in self.imports.items():
            yield from ((self.sources[name], found) for found in imports if not whens or found.when in whens)


def inside(module: str) -> bool:
    return module.split(".")[0] == "gradc"


def top(module: str) -> str:
    """The module or package right under gradc that holds a module; gradc itself is its __init__."""
    return [*module.split("."), "__init__"][1]


def rank(module: str) -> int | None:
    """The number of the room that holds a module of the house, from the top; None where no room does."""
    return next((number for number, room in enumerate(ROOMS) if top(module) in room), None)


def _read(root: Path, path: Path) -> Source:
    parts = path.relative_to(root.parent).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Source(name, path, *_parsed(path))


@functools.cache
def _parsed(path: Path) -> tuple[str, ast.Module]:
    """The text of a file and its syntax tree, which stays: the collector need not look through it again and again."""
    text = path.read_text(encoding="utf-8")
    gc.disable()
    try:
        return text, ast.parse(text, str(path))
    finally:
        gc.freeze()
        gc.enable()


def _imports_of(node: ast.AST, when: When) -> Iterator[tuple[ast.stmt | ast.Call, When]]:
    """Import statements and `import_module("…")` calls below a node, with the time at which they run."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom) or _dynamic_import(child):
            yield child, when
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _imports_of(child, "lazy" if when != "typing" else when)
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from _imports_of(ast.Module(child.body, []), "typing")
            yield from _imports_of(ast.Module(child.orelse, []), when)
        else:
            yield from _imports_of(child, when)


def _dynamic_import(node: ast.AST) -> TypeGuard[ast.Call]:
    return (
        isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("import_module", "importlib.import_module", "__import__")
        and bool(node.args)
        and isinstance(node.args[0], ast.Constant)
    )


def _imported_names(statement: ast.stmt | ast.Call, source: Source) -> list[str]:
    """Dotted names a statement may load; `from a import b` gives a.b, which `House` cuts back to a module."""
    if isinstance(statement, ast.Call):
        argument = statement.args[0]
        assert isinstance(argument, ast.Constant)
        return [str(argument.value)]
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    assert isinstance(statement, ast.ImportFrom)
    if not statement.level:
        prefix = statement.module or ""
    else:
        package = source.name.split(".") + (["__init__"] if source.path.name == "__init__.py" else [])
        prefix = ".".join([*package[: -statement.level], *filter(None, [statement.module])])
    return [f"{prefix}.{alias.name}" for alias in statement.names]


# The rules. Each takes a house and gives its violations.


def every_module_has_a_room(house: House) -> list[str]:
    return [
        f"{source.path}: no room of ROOMS holds {source.name!r}; decide what it may know, then add it there and in "
        "docs/rooms.md"
        for source in house.sources.values()
        if rank(source.name) is None
    ]


def imports_go_upwards(house: House) -> list[str]:
    return [
        f"{source.at(found.line)}: {source.name} imports {found.target}, which lies in a room below it"
        for source, found in house.edges()
        if inside(found.target)
        and (rank(found.target) or 0) > (rank(source.name) or 0)
        and not (found.when == "typing" and (source.top, top(found.target)) in TYPE_ONLY)
    ]


def rooms_keep_their_ignorance(house: House) -> list[str]:
    return [
        f"{source.at(found.line)}: {source.top} may know nothing of {top(found.target)}"
        for source, found in house.edges()
        if inside(found.target) and top(found.target) in IGNORANT_OF.get(source.top, ())
    ]


def one_road_leads_to_code(house: House) -> list[str]:
    """Below the machines nobody calls a stage: whoever wants its work takes it from `gradc.machines.stages`.

    Nor does anybody import a whole module that holds one.
    """
    walks = next(number for number, room in enumerate(ROOMS) if WALKS in room)
    return [
        f"{source.at(line)}: {source.name} reaches for the stage {stage}; take what it makes from gradc.machines.stages"
        for source in house.sources.values()
        if (rank(source.name) or 0) > walks
        for name, line in house.names(source)
        for stage in [s for s in STAGES if holds(s, name) or (holds(name, s) and name != "gradc")][:1]
    ]


def holds(outer: str, inner: str) -> bool:
    """Whether a dotted name is another one, or what holds it."""
    return f"{inner}.".startswith(f"{outer}.")


def no_module_imports_itself_through_others(house: House) -> list[str]:
    """Imports inside functions count: they are how a circle is usually hidden. Imports for the type checker do not."""
    graph = nx.DiGraph()
    for source, found in house.edges("module", "lazy"):
        if inside(found.target) and found.target != source.name:
            graph.add_edge(source.name, found.target)
    circles = [sorted(circle) for circle in nx.strongly_connected_components(graph) if len(circle) > 1]
    return [f"import each other in a circle: {', '.join(circle)}" for circle in sorted(circles)]


def outside_packages_stay_in_their_rooms(house: House) -> list[str]:
    def allowed(source: Source, package: str) -> bool:
        name = source.name.removeprefix("gradc.")
        return any(fnmatchcase(name, p) or fnmatchcase(name, f"{p}.*") for p in THIRD_PARTY.get(package, ()))

    return [
        f"{source.at(found.line)}: {source.name} may not import {found.target} (THIRD_PARTY says who may)"
        for source, found in house.edges()
        if not inside(found.target)
        and found.target not in sys.stdlib_module_names
        and not allowed(source, found.target)
    ]


def sympy_is_imported_on_first_use(house: House) -> list[str]:
    return [
        f"{source.at(found.line)}: import sympy inside the function that needs it"
        for source, found in house.edges("module")
        if found.target == "sympy"
    ]


def names_say_what_is_inside(house: House) -> list[str]:
    return [
        f"{source.path}: {source.name!r} says nothing of what it holds"
        for source in house.sources.values()
        if BANNED_NAMES & {part.strip("_") for part in source.name.split(".")}
    ]


def every_file_has_a_head(house: House) -> list[str]:
    return [
        f"{source.path}: no docstring says what enters, what leaves and where to start"
        for source in house.sources.values()
        if source.tree.body and not ast.get_docstring(source.tree)
    ]


def nothing_is_left_for_later(house: House) -> list[str]:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError)\b")
    return [
        f"{source.at(number)}: {line.strip()}"
        for source in house.sources.values()
        for number, line in enumerate(source.text.splitlines(), 1)
        if marks.search(line)
    ]


def files_are_written_whole(house: House) -> list[str]:
    """A file of a user is replaced by a complete one or kept: `write_whole` and `build_whole` see to that."""
    return [
        f"{source.at(node.lineno)}: {ast.unparse(node.func)} may leave half a file; use gradc.runtime.files"
        for source in house.sources.values()
        if source.name not in WRITES
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and _writes_a_file(node)
    ]


def _writes_a_file(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    words = [a.value for a in (*call.args, *(k.value for k in call.keywords)) if isinstance(a, ast.Constant)]
    return name in ("write_text", "write_bytes") or (
        name == "open" and any(re.fullmatch(r"[wax][bt+]*", str(word)) for word in words)
    )


def ops_are_known_by_their_records(house: House) -> list[str]:
    """Stages ask an op's record, not its name: no table of names, no comparison with one, no op picked by name."""
    found = []
    for source in house.sources.values():
        if source.top not in NAMELESS or _may_name_ops(source) or source.name in NOT_AN_OP:
            continue
        for node in ast.walk(source.tree):
            if named := _ops_named(node, source.top in PICKS_NO_OP):
                found.append(f"{source.at(node.lineno)}: names {', '.join(named)}; make it a facet of the op's record")
    return found


def _may_name_ops(source: Source) -> bool:
    return any(fnmatchcase(source.name, f"gradc.{pattern}") for pattern in RULE_FILES)


def _ops_named(node: ast.AST, picks: bool) -> list[str]:
    """The ops that an expression knows by name: compared, looked up, or as keys or elements of a table."""
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        if any(_asks_an_op(side) for side in sides) or _compares_a_name(sides):
            return [ast.unparse(node)]
    if isinstance(node, ast.Match) and _asks_an_op(node.subject):
        return [ast.unparse(node.subject)]
    if isinstance(node, ast.Subscript | ast.Call) and (table := _looked_up(node)) is not None:
        return [table]
    if picks and isinstance(node, ast.Subscript) and ast.unparse(node.value) in ("OPS", "FUNCTIONS"):
        return [ast.unparse(node)]
    if isinstance(node, ast.Dict | ast.Set | ast.Tuple | ast.List):
        elements = node.keys if isinstance(node, ast.Dict) else node.elts
        words = [e.value for e in elements if isinstance(e, ast.Constant) and isinstance(e.value, str)]
        return words if len(named := [w for w in words if w in OPS]) > 1 and len(named) > len(words) / 2 else []
    return []


def _asks_an_op(expression: ast.expr) -> bool:
    """Whether an expression is the name of a node's op, or an op taken from the registry."""
    text = ast.unparse(expression)
    return text.endswith("op.name") or bool(re.match(r"OPS\b", text))


def _compares_a_name(sides: Sequence[ast.expr]) -> bool:
    """Whether something called a name is compared with the name of an op."""
    words = [s.value for s in sides if isinstance(s, ast.Constant)]
    return any(w in OPS for w in words) and any(ast.unparse(s).split(".")[-1] == "name" for s in sides)


def _looked_up(node: ast.Subscript | ast.Call) -> str | None:
    """The table that is asked for the name of an op."""
    if isinstance(node, ast.Subscript):
        return ast.unparse(node) if _asks_an_op(node.slice) else None
    asked = isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args and _asks_an_op(node.args[0])
    return ast.unparse(node) if asked else None


RULES: tuple[Callable[[House], list[str]], ...] = (
    every_module_has_a_room,
    imports_go_upwards,
    rooms_keep_their_ignorance,
    one_road_leads_to_code,
    no_module_imports_itself_through_others,
    outside_packages_stay_in_their_rooms,
    sympy_is_imported_on_first_use,
    names_say_what_is_inside,
    every_file_has_a_head,
    nothing_is_left_for_later,
    files_are_written_whole,
    ops_are_known_by_their_records,
)


def functions(tree: ast.Module) -> list[tuple[str, int, int]]:
    """(name, first line, number of lines) of every function in a file, nested ones and docstrings included."""
    found = [node for node in _statements(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [(node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1) for node in found]


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements within a node; expressions, which hold none, are not looked into."""
    for part in ("body", "orelse", "finalbody", "handlers", "cases"):
        for statement in getattr(node, part, ()):
            yield statement
            yield from _statements(statement)


def too_long(path: Path) -> list[str]:
    text, tree = _parsed(path)
    long_functions = [
        f"{path}:{line}: {name} has {length} lines, more than {MAX_FUNCTION_LINES}"
        for name, line, length in functions(tree)
        if length > MAX_FUNCTION_LINES
    ]
    lines = len(text.splitlines())
    return long_functions + [f"{path}: {lines} lines, more than {MAX_FILE_LINES}"] * (lines > MAX_FILE_LINES)


@functools.cache
def the_house() -> House:
    return House(ROOT / "gradc")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule(rule):
    violations = rule(the_house())
    assert not violations, "\n" + "\n".join(violations)


@pytest.mark.parametrize("folder", ["gradc", "tests", "examples", "docs"])
def test_files_and_functions_are_short(folder):
    violations = [line for path in sorted((ROOT / folder).rglob("*.py")) for line in too_long(path)]
    assert not violations, "\n" + "\n".join(violations)


def test_the_median_function_is_short():
    lengths = [length for source in the_house().sources.values() for *_, length in functions(source.tree)]
    assert statistics.median(lengths) < MEDIAN_FUNCTION_LINES


def test_import_is_light():
    """`import gradc`, and every module of the user's namespaces, which a model file imports by name."""
    modules = ["gradc", *(name for name in the_house().sources if top(name) in NAMESPACES)]
    code = f"import sys, {', '.join(modules)}; print(*sorted(sys.modules.keys() & {set(SLOW_TO_IMPORT)}))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [], "loaded by the import; move it into the function that needs it"


def test_the_page_and_the_rules_agree():
    """docs/rooms.md shows the same rooms in the same order, and the same outside packages beside each."""
    rows = [line for line in (ROOT / "docs/rooms.md").read_text(encoding="utf-8").splitlines() if line[:3] == "| `"]
    cells = [[re.findall(r"`([^`]+)`", cell) for cell in row.strip("|").split("|")] for row in rows]
    page = [(tuple(Path(name).stem for name in row[0]), set(row[-1])) for row in cells]
    assert [room for room, _ in page] == list(ROOMS)
    for room, packages in page:
        assert packages == {
            package
            for package, patterns in THIRD_PARTY.items()
            if patterns != ("*",) and {pattern.split(".")[0] for pattern in patterns} & set(room)
        }, room


# One planted violation per rule, in a house built for it.


def build(folder: Path, files: dict[str, str]) -> House:
    for name, text in files.items():
        path = folder / "gradc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return House(folder / "gradc")


SOUND = {
    "__init__.py": '"""Facade."""\ndef __getattr__(name):\n    from gradc import api\n    return getattr(api, name)\n',
    "node.py": '"""Head."""\nimport typing\nif typing.TYPE_CHECKING:\n    from gradc.ops.record import Op\n',
    "graph.py": '"""Head."""\nfrom gradc.node import Node\ndef nx():\n    import networkx\n    return networkx\n',
    "ops/__init__.py": "",
    "schedule/__init__.py": '"""Head."""',
    "codegen/emit.py": '"""Head."""',
    "runtime/load.py": '"""Head."""',
    "runtime/foreign.py": '"""Head."""',
    "runtime/assembler.py": '"""Head."""',
    "ops/record.py": '"""Head."""\nimport numpy as np\nfrom gradc.node import OPS\n',
    "diff/symbolic.py": '"""Head."""\nfrom gradc.ops import record\ndef f():\n    import sympy\n    return sympy\n',
    "api.py": '"""Head."""\nfrom gradc.diff.symbolic import f\nfrom gradc.graph import Graph\n',
}


def test_a_sound_house_breaks_no_rule(tmp_path):
    house = build(tmp_path, SOUND)
    assert {rule.__name__: rule(house) for rule in RULES} == {rule.__name__: [] for rule in RULES}


PLANTED: list[tuple[Callable[[House], list[str]], str, str, str]] = [
    (every_module_has_a_room, "attic.py", "", "attic.py"),
    (imports_go_upwards, "ops/bad.py", "from gradc.api import grad", "bad.py:1"),
    (imports_go_upwards, "ops/bad.py", "from .. import api", "bad.py:1"),
    (imports_go_upwards, "ops/bad.py", "def f():\n    import gradc.api", "bad.py:2"),
    (imports_go_upwards, "ops/bad.py", "import importlib\nx = importlib.import_module('gradc.api')", "bad.py:2"),
    (imports_go_upwards, "graph.py", "if TYPE_CHECKING:\n    from gradc.api import grad", "graph.py:2"),
    (imports_go_upwards, "ops/bad.py", "import gradc", "bad.py:1"),
    (rooms_keep_their_ignorance, "runtime/load.py", "from gradc import graph", "load.py:1"),
    (rooms_keep_their_ignorance, "codegen/ir.py", "from gradc.diff.symbolic import f", "ir.py:1"),
    (rooms_keep_their_ignorance, "data/__init__.py", "from gradc.graph import Graph", "__init__.py:1"),
    (one_road_leads_to_code, "oracle/bad.py", "from gradc.schedule import Schedule, schedule", "bad.py:1"),
    (one_road_leads_to_code, "explorer/bad.py", "def f():\n    from gradc.codegen.emit import arena_bytes", "bad.py:2"),
    (one_road_leads_to_code, "cli.py", "from gradc.runtime import load", "cli.py:1"),
    (one_road_leads_to_code, "cli.py", "import gradc.runtime.foreign as f", "cli.py:1"),
    (no_module_imports_itself_through_others, "node.py", "def f():\n    from gradc.graph import Graph", "gradc.graph"),
    (outside_packages_stay_in_their_rooms, "ops/bad.py", "import networkx.algorithms", "bad.py:1"),
    (outside_packages_stay_in_their_rooms, "diff/forward.py", "def f():\n    from sympy import sin", "forward.py:2"),
    (outside_packages_stay_in_their_rooms, "schedule/__init__.py", "import llvmlite.binding", "__init__.py:1"),
    (outside_packages_stay_in_their_rooms, "cli.py", "import requests", "cli.py:1"),
    (sympy_is_imported_on_first_use, "explain/text.py", "try:\n    import sympy\nexcept ImportError:\n    pass", ":2"),
    (names_say_what_is_inside, "passes/_utils.py", "", "_utils"),
    (every_file_has_a_head, "api.py", "x = 1", "api.py"),
    (ops_are_known_by_their_records, "schedule/bad.py", "def f(n):\n    return n.op.name == 'add'", "bad.py:2"),
    (ops_are_known_by_their_records, "explain/bad.py", "def f(name):\n    return name == 'log'", "bad.py:2"),
    (ops_are_known_by_their_records, "codegen/bad.py", "COST = {'divide': 4, 'sqrt': 4}", "bad.py:1"),
    (ops_are_known_by_their_records, "diff/bad.py", "def f(n):\n    return TABLE.get(n.op.name)", "bad.py:2"),
    (ops_are_known_by_their_records, "oracle/bad.py", "def f(n):\n    return TABLE[n.op.name]", "bad.py:2"),
    (ops_are_known_by_their_records, "oracle/bad.py", "def f(n):\n    return n.op in (OPS['add'],)", "bad.py:2"),
    (ops_are_known_by_their_records, "schedule/bad.py", "def f():\n    return OPS['add']", "bad.py:2"),
    (files_are_written_whole, "api.py", "def f(path):\n    path.write_text('')", "api.py:2"),
    (files_are_written_whole, "api.py", "def f(path):\n    return open(path, mode='wb')", "api.py:2"),
    (nothing_is_left_for_later, "api.py", "def f():\n    raise NotImplementedError", "api.py:2"),
]


@pytest.mark.parametrize(("rule", "name", "text", "where"), PLANTED)
def test_a_planted_violation_is_found(rule, name, text, where, tmp_path):
    violations = rule(build(tmp_path, {**SOUND, name: text}))
    assert len(violations) == 1
    assert where in violations[0]


def test_every_rule_has_a_planted_violation():
    assert {rule for rule, *_ in PLANTED} == set(RULES)


@pytest.mark.parametrize("length", [MAX_FUNCTION_LINES, MAX_FUNCTION_LINES + 1])
def test_long_functions_are_found(length, tmp_path):
    path = tmp_path / "long.py"
    path.write_text("def f():\n" + "    x = 1\n" * (length - 1), encoding="utf-8")
    assert len(too_long(path)) == (length > MAX_FUNCTION_LINES)


@pytest.mark.parametrize("length", [MAX_FILE_LINES, MAX_FILE_LINES + 1])
def test_long_files_are_found(length, tmp_path):
    path = tmp_path / "long.py"
    path.write_text("x = 1\n" * length, encoding="utf-8")
    assert len(too_long(path)) == (length > MAX_FILE_LINES)


def test_the_page_lists_the_rule_files():
    line = next(x for x in (ROOT / "docs/rooms.md").read_text(encoding="utf-8").split("\n- ") if "rule files" in x)
    assert set(re.findall(r"`((?:diff|passes|explain)/[\w/*.]+)`", line)) == {
        pattern.replace(".", "/") + ("" if pattern.endswith("*") else ".py") for pattern in RULE_FILES
    }


def test_the_rooms_are_listed_once():
    names = sorted(name for room in ROOMS for name in room)
    assert not [name for name, following in pairwise(names) if name == following]
