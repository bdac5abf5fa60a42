"""Which small faults a file can have.

Enters: source text.  Leaves: `Fault`s, each a place and what stands there instead; `planted` gives the tree with one.
Annotations, docstrings, messages and what only prints are no place for a fault that a test of values could see.
Start reading at `faults_of`.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.mutants.regions import Region, marked

Change = Callable[[ast.expr], "ast.expr | None"]

ORDER = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
OTHER_SIGN = {ast.Add: ast.Sub, ast.Sub: ast.Add}
UNLIKE = (ast.Sub, ast.Div, ast.FloorDiv, ast.MatMult, ast.Pow, ast.Mod)
#: integers that are axes, offsets and extents
SMALL = range(-2, 4)
#: calls of two arguments of one kind, in which their order counts
IN_ORDER = {"sub", "div", "subtract", "divide", "gt", "lt", "ge", "le", "greater", "less", "power", "pow", "matmul",
            "rem", "fdiv", "fsub", "take", "concatenate", "moveaxis", "swapaxes", "shl", "shift"}  # fmt: skip
#: functions whose body is text for people, and what says where tests look
TEXT = ("__repr__", "__str__", "describe", "title", "show", "explain", "docs", "samples")
#: keywords that hold text, or SymPy's second meaning, or say where tests look
WORDS = ("doc", "text", "singular", "latex", "samples")


@dataclass(frozen=True)
class Fault:
    """Fault number ``number`` of ``path``: ``kind`` at ``line``, ``before`` becoming ``after``.

    ``region`` is the number of the region that it stands in, ``function`` the definition; ``copy`` counts the same
    words in the same definition.
    """

    path: str
    number: int
    line: int
    kind: str
    before: str
    after: str
    function: str
    region: int
    copy: int

    @property
    def name(self) -> str:
        """The words by which a fault is known: lines move, its words do not."""
        again = f" ({self.copy})" if self.copy > 1 else ""
        return f"{self.path} {self.function} {self.kind}: {self.before} → {self.after}{again}"

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.function} {self.kind}: {self.before} → {self.after}"


def _order(node: ast.expr) -> ast.expr | None:
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in ORDER:
        node.ops = [ORDER[type(node.ops[0])]()]
        return node
    return None


def _sign(node: ast.expr) -> ast.expr | None:
    if isinstance(node, ast.BinOp) and type(node.op) in OTHER_SIGN:
        node.op = OTHER_SIGN[type(node.op)]()
        return node
    return None


def _no_minus(node: ast.expr) -> ast.expr | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        return node.operand
    return None


def _swapped(node: ast.expr) -> ast.expr | None:
    if isinstance(node, ast.BinOp) and isinstance(node.op, UNLIKE):
        node.left, node.right = node.right, node.left
        return node
    return None


def _dropped_term(node: ast.expr) -> ast.expr | None:
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mult)):
        return node.left
    return None


def _dropped_condition(node: ast.expr) -> ast.expr | None:
    if isinstance(node, ast.BoolOp):
        return node.values[0] if len(node.values) == 2 else ast.BoolOp(node.op, node.values[:-1])
    return None


def _no_not(node: ast.expr) -> ast.expr | None:
    return node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not) else None


def _dropped_guard(node: ast.expr) -> ast.expr | None:
    name = getattr(getattr(node, "func", None), "attr", getattr(getattr(node, "func", None), "id", None))
    if isinstance(node, ast.Call) and name in ("where", "select") and len(node.args) == 3:
        return node.args[2] if isinstance(node.args[1], ast.Constant) else node.args[1]
    return None


def _chosen(node: ast.expr) -> ast.expr | None:
    if isinstance(node, ast.IfExp):
        node.body, node.orelse = node.orelse, node.body
        return node
    return None


def _off_by_one(node: ast.expr) -> ast.expr | None:
    if isinstance(node, ast.Constant) and type(node.value) is int and node.value in SMALL:
        return ast.Constant(node.value + 1)
    return None


def _other_arguments(node: ast.expr) -> ast.expr | None:
    starred = isinstance(node, ast.Call) and any(isinstance(a, ast.Starred) for a in node.args)
    plain = isinstance(node, ast.Call) and len(node.args) == 2 and not starred
    if plain and getattr(node.func, "attr", getattr(node.func, "id", "")) in IN_ORDER:
        node.args = node.args[::-1]
        return node
    return None


def _not_reversed(node: ast.expr) -> ast.expr | None:
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("reversed", "sorted") and len(node.args) == 1:
        return node.args[0]
    return None


KINDS: dict[str, Change] = {
    "another comparison": _order, "another sign": _sign, "no minus": _no_minus, "swapped operands": _swapped,
    "dropped term": _dropped_term, "dropped condition": _dropped_condition, "no not": _no_not,
    "dropped guard": _dropped_guard, "the other choice": _chosen, "off by one": _off_by_one,
    "swapped arguments": _other_arguments, "not in order": _not_reversed,
}  # fmt: skip


def _places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.expr]]:
    """Every expression that computes, with where it hangs: parent, field, index in it."""
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "decorator_list", "bases") or _is_words(tree, field):
            continue
        for k, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or _is_text(child):
                continue
            if isinstance(child, ast.expr) and getattr(child, "lineno", None):
                yield tree, field, k, child
            yield from _places(child)


def _is_words(parent: ast.AST, field: str) -> bool:
    return isinstance(parent, ast.keyword) and parent.arg in WORDS and field == "value"


def _is_text(node: ast.AST) -> bool:
    if isinstance(node, (ast.Raise, ast.JoinedStr, ast.Assert, ast.Import, ast.ImportFrom)):
        return True
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        return "SAMPLES" in ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
    return isinstance(node, (ast.FunctionDef, ast.ClassDef)) and any(t in node.name.lower() for t in TEXT)


Place = tuple[ast.AST, str, int | None, ast.expr]


def _all(source: str) -> Iterator[tuple[ast.Module, list[Region], Place, str]]:
    tree, regions = marked(source)
    for place in _places(tree):
        for kind, change in KINDS.items():
            if change(copy.copy(place[3])) is not None:
                yield tree, regions, place, kind


def faults_of(path: str, source: str) -> list[Fault]:
    """All faults of a file, in the order of its text."""
    found = []
    words: Counter[tuple[str, ...]] = Counter()
    for number, (_, regions, (_, _, _, node), kind) in enumerate(_all(source)):
        changed = KINDS[kind](copy.copy(node))
        assert changed is not None
        before, after = (" ".join(ast.unparse(ast.fix_missing_locations(n)).split())[:70] for n in (node, changed))
        region: int = node.region  # type: ignore[attr-defined]
        told = (regions[region].function, kind, before, after)
        words[told] += 1
        found.append(Fault(path, number, node.lineno, kind, before, after, told[0], region, words[told]))
    return found


def planted(source: str, number: int) -> ast.Module:
    """The tree of a file with fault ``number``."""
    for k, (tree, _, (parent, field, index, node), kind) in enumerate(_all(source)):
        if k == number:
            changed = KINDS[kind](copy.copy(node))
            assert changed is not None
            ast.copy_location(changed, node)
            if index is None:
                setattr(parent, field, changed)
            else:
                getattr(parent, field)[index] = changed
            return ast.fix_missing_locations(tree)
    raise IndexError(number)
