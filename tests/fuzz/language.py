"""A program of the fuzzer: straight Python text over named values, with nested functions for loops and transforms.

Enters: statements.  Leaves: source text that runs as it stands, and functions: in gradc's namespaces, or in those of
`reference`, where the same text is plain NumPy.
Invariant: every name is bound once; inputs are x0, x1, …, values v0, …, parameters of bodies p0, …, bodies f0, ….
Start reading at `Program`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
#: the forms that are derivatives, and of which order
ORDERS = {**dict.fromkeys(("grad", "value_and_grad", "jvp", "vjp", "jacobian"), 1), "hvp": 2, "hessian": 2}
NAME = re.compile(r"\b[xvp]\d+\b")


@dataclass(frozen=True)
class Body:
    """A nested function: parameters, statements, and the expression it returns."""

    name: str
    parameters: tuple[str, ...]
    statements: tuple[Statement, ...]
    result: str

    def lines(self) -> Iterator[str]:
        """The text of the definition."""
        yield f"def {self.name}({', '.join(self.parameters)}):"
        for statement in self.statements:
            yield from ("    " + line for line in statement.lines())
        yield f"    return {self.result}"


@dataclass(frozen=True)
class Statement:
    """``targets = text``; ``plain`` is the text for the NumPy reference where that differs."""

    targets: tuple[str, ...]
    text: str
    form: str  #: the public name or the construct that this statement exercises
    bodies: tuple[Body, ...] = ()
    plain: str | None = None

    def lines(self, reference: bool = False) -> Iterator[str]:
        """The bodies, then the assignment."""
        for body in self.bodies:
            yield from body.lines() if not reference else _plain_lines(body)
        text = self.plain if reference and self.plain is not None else self.text
        yield f"{', '.join(self.targets)} = {text}"

    def forms(self) -> Iterator[str]:
        """Every form in the statement, those in bodies included."""
        yield self.form
        for body in self.bodies:
            for inner in body.statements:
                yield from inner.forms()

    def order(self) -> int:
        """How many derivatives of one another the statement takes."""
        inside = (s.order() for body in self.bodies for s in body.statements)
        return ORDERS.get(self.form, 0) + max(inside, default=0)

    def reads(self) -> set[str]:
        """Names that the statement takes from outside."""
        found = set(NAME.findall(self.text)) | set(NAME.findall(self.plain or ""))
        for body in self.bodies:
            inner = set(NAME.findall(body.result)).union(*(s.reads() for s in body.statements))
            found |= inner - set(body.parameters) - {t for s in body.statements for t in s.targets}
        return found

    def renamed(self, names: Mapping[str, str]) -> Statement:
        """With names that are read replaced."""

        def swap(text: str) -> str:
            return NAME.sub(lambda m: names.get(m.group(), m.group()), text)

        bodies = tuple(
            replace(b, statements=tuple(s.renamed(names) for s in b.statements), result=swap(b.result))
            for b in self.bodies
        )
        plain = None if self.plain is None else swap(self.plain)
        return replace(self, text=swap(self.text), plain=plain, bodies=bodies)


def _plain_lines(body: Body) -> Iterator[str]:
    yield f"def {body.name}({', '.join(body.parameters)}):"
    for statement in body.statements:
        yield from ("    " + line for line in statement.lines(reference=True))
    yield f"    return {body.result}"


@dataclass(frozen=True)
class Program:
    """Inputs with their arrays, statements, and the values returned."""

    arrays: Mapping[str, Array]
    statements: tuple[Statement, ...]
    outputs: tuple[str, ...]
    title: str = field(default="program", compare=False)
    made: Mapping[str, Array] = field(default_factory=dict, compare=False)  #: what its values were when it was drawn

    def source(self, reference: bool = False) -> str:
        """The definition of ``f``."""
        lines = [f"def f({', '.join(self.arrays)}):"]
        for statement in self.statements:
            lines += ["    " + line for line in statement.lines(reference)]
        lines.append(f"    return {', '.join(self.outputs)},")
        return "\n".join(lines)

    def function(self, namespace: Mapping[str, Any], reference: bool = False) -> Callable[..., Any]:
        """``f`` in a namespace; its lines can be read back by those who report the user's line."""
        return bindings(self.source(reference), namespace, f"<{self.title}>")["f"]

    @property
    def args(self) -> tuple[Array, ...]:
        return tuple(self.arrays.values())

    def forgotten(self) -> Program:
        """The program without what was known when it was drawn: another one is to be made of it."""
        return replace(self, made={})

    def expected(self, namespace: Mapping[str, Any]) -> list[Any]:
        """The outputs by the text for ``namespace``, run at once unless it was run as the program was drawn."""
        if all(name in self.made for name in self.outputs):
            return [self.made[name] for name in self.outputs]
        return list(self.function(namespace, reference=True)(*self.args))

    def forms(self) -> set[str]:
        return {form for s in self.statements for form in s.forms()}

    @property
    def order(self) -> int:
        """How many derivatives the program takes of one another."""
        return max((s.order() for s in self.statements), default=0)

    def pruned(self) -> Program:
        """Without statements and inputs that no output reads."""
        needed = set(self.outputs)
        kept: list[Statement] = []
        for statement in reversed(self.statements):
            if needed & set(statement.targets):
                kept.append(statement)
                needed |= statement.reads()
        arrays = {k: a for k, a in self.arrays.items() if k in needed}
        return replace(self, arrays=arrays, statements=tuple(reversed(kept)))


def bindings(source: str, namespace: Mapping[str, Any], title: str = "<fuzz>") -> dict[str, Any]:
    """The names that running ``source`` in a copy of ``namespace`` binds."""
    bound = dict(namespace)
    exec(compile(source, title, "exec"), bound)
    return bound


def quietly(f: Callable[..., Any], *args: Any) -> Any:
    """``f(*args)`` without NumPy's warnings: what is not finite is compared, not announced."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return f(*args)


def literal(array: Any) -> str:
    """An array as Python text that makes the same bits."""
    a = np.asarray(array)
    if a.dtype.name == "bfloat16":
        return f"{literal(a.astype(np.float32))}.astype(gnp.bfloat16)"
    values = np.vectorize(repr, otypes=[object])(a.astype(object)).tolist() if a.size else "[]"
    text = str(values).replace("'", "")
    text = re.sub(r"\b(nan|inf)\b", r"np.\1", text)
    shape = f".reshape{a.shape}" if not a.size else ""
    return f"np.array({text}, np.{'bool_' if a.dtype == bool else a.dtype.name}){shape}"


def script(program: Program, ending: Sequence[str], head: str) -> str:
    """A Python file: what is wrong, the program, its arguments, and the lines that show it."""
    args = ", ".join(literal(a) for a in program.args)
    comment = "\n".join(f"# {line}".rstrip() for line in head.splitlines())
    imports = "import numpy as np, gradc as gc, gradc.numpy as gnp\nfrom gradc import nn, special"
    return f"{comment}\n{imports}\n\n{program.source()}\n\nargs = ({args},)\n" + "\n".join(ending) + "\n"
