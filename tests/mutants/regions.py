"""Regions: pieces of a file that run as a whole, each with a name that stays when other lines change.

Enters: source text.  Leaves: `marked`, the tree whose nodes know their region, and `probed`, the tree that records
which of its regions were run.  A region is a statement, the body of a lambda, one side of a choice, a later operand of
`and` and `or`, what a comprehension does for each element.  Start reading at `marked`.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

#: the names by which a probed module reaches the record of what was run
STATEMENT, EXPRESSION = "__gradc_run__", "__gradc_ran__"

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)


@dataclass(frozen=True)
class Region:
    """``node`` and what of it runs with it; ``at_import``: it runs when the module is imported and never again.

    ``function`` is the path of definitions to it, of which the first is that of ``statement``, the module's statement
    around it.
    """

    name: str
    function: str
    at_import: bool
    statement: ast.stmt
    node: ast.AST


def marked(source: str) -> tuple[ast.Module, list[Region]]:
    """The tree, each node with the attribute ``region``: the number of the smallest region around it."""
    tree = ast.parse(source)
    walk = _Walk()
    for statement in tree.body:
        walk.statement(statement, _label(statement), statement, True)
    return tree, walk.regions


def probed(source: str, first: int) -> tuple[ast.Module, list[Region]]:
    """The tree that sets item ``first + k`` of its module's ``STATEMENT`` to 1 as its region k is run."""
    tree, regions = marked(source)
    inside = {id(r.node): first + k for k, r in enumerate(regions) if not r.at_import}
    return ast.fix_missing_locations(_Probes(inside).visit(tree)), regions


class _Walk:
    def __init__(self) -> None:
        self.regions: list[Region] = []
        self.seen: Counter[str] = Counter()

    def _new(self, node: ast.AST, function: str, outer: ast.stmt, at_import: bool) -> int:
        text = hashlib.sha256(ast.dump(node).encode()).hexdigest()[:12]
        self.seen[f"{function}:{text}"] += 1
        name = f"{function}:{text}:{self.seen[f'{function}:{text}']}"
        self.regions.append(Region(name, function, at_import, outer, node))
        return len(self.regions) - 1

    def statement(self, node: ast.stmt, function: str, outer: ast.stmt, at_import: bool) -> None:
        region = self._new(node, function, outer, at_import)
        self._parts(node, region, function, outer, at_import)

    def _parts(self, node: ast.AST, region: int, function: str, outer: ast.stmt, at_import: bool) -> None:
        node.region = region  # type: ignore[attr-defined]
        inner, later = function, at_import
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node is not outer:
            inner = f"{function}.{node.name}"
        if isinstance(node, FUNCTIONS):
            later = False
        apart = {id(n) for n in separate(node)}
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                self.statement(child, inner, outer, later)
            elif id(child) in apart:
                self._parts(child, self._new(child, inner, outer, later), inner, outer, later)
            else:
                self._parts(child, region, function, outer, at_import)


def _label(statement: ast.stmt) -> str:
    """What a statement of a module defines."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return statement.name
        case ast.Assign(targets=[target, *_]) | ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            return ast.unparse(target)
    return "module"


def separate(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions of ``node`` that run at another time than it, or not always, or more than once."""
    match node:
        case ast.Lambda():
            yield node.body
        case ast.IfExp():
            yield from (node.body, node.orelse)
        case ast.BoolOp():
            yield from node.values[1:]
        case ast.DictComp():
            yield from (node.key, node.value)
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
            yield node.elt
        case ast.comprehension():
            yield from node.ifs


class _Probes(ast.NodeTransformer):
    """Puts a probe before each statement, and as first operand of an `or` before each expression, of ``numbers``."""

    def __init__(self, numbers: dict[int, int]):
        self.numbers = numbers

    def visit(self, node: ast.AST) -> ast.AST | list[ast.AST]:
        number = self.numbers.get(id(node))
        self.generic_visit(node)
        if number is None or _stands_first(node):
            return node
        if isinstance(node, ast.stmt):
            place = ast.Subscript(ast.Name(STATEMENT, ast.Load()), ast.Constant(number), ast.Store())
            probe = ast.copy_location(ast.Assign([place], ast.Constant(1)), node)
            return [probe, node]
        assert isinstance(node, ast.expr)
        call = ast.Call(ast.Name(EXPRESSION, ast.Load()), [ast.Constant(number), ast.Constant(1)], [])
        return ast.copy_location(ast.BoolOp(ast.Or(), [call, node]), node)


def _stands_first(node: ast.AST) -> bool:
    """A docstring, which stops being one behind another statement."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
