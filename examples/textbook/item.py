"""An entry of the textbook page: a program, the items of the textbook that it answers, and what checks it.

Enters: decorated functions.  Leaves: `Entry`s, each with its `Says`, one for each item.  A verdict is not an opinion:
`tests/test_textbook.py` holds the lines of the book against what gradc prints, in both directions.  Start at `Entry`.
"""

from __future__ import annotations

import enum
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

import gradc as gc
from examples.gallery.row import Kind, Row

Way = Kind | Literal["value", "program"]
#: at most 10³ roundings of 2⁻⁵³ each, of numbers of the size of the largest
ROUNDING = 1e-12


class Verdict(enum.Enum):
    """How an item of the textbook stands in gradc."""

    PRINTS = "as the textbook"
    MEASURED = "shown by numbers"
    WORSE = "right, reads worse"
    UNREADABLE = "unreadable or misleading"
    ABSENT = "not in gradc yet"


@dataclass(frozen=True)
class Says:
    """One item: its number, what it is, the book's formula, and the ``lines`` that the book would have.

    The lines are written in gradc's notation.  If the verdict is `Verdict.PRINTS` each of them is printed as a line;
    if it is `Verdict.WORSE`, `Verdict.UNREADABLE` or `Verdict.ABSENT` at least one is not, and ``why`` says what stands
    in its place.
    """

    number: int
    title: str
    book: str
    lines: str = ""
    verdict: Verdict = Verdict.PRINTS
    why: str = ""

    def missing(self, printed: str) -> list[str]:
        """The book's lines that are not printed."""
        shown = {line.strip() for line in printed.splitlines()}
        return [line for line in inspect.cleandoc(self.lines).splitlines() if line.strip() not in shown]


@dataclass(frozen=True)
class Entry:
    """A function, how it is shown, and the items that it answers.

    A ``way`` of the gallery explains the function's derivative; "value" its formulas alone; a "program" is run, and
    returns what is printed and the numbers to be checked.  ``reference`` computes the same numbers in plain NumPy, of
    the same arguments (of none for a program) and, where the function is no scalar, of the cotangent G that they are
    multiplied with; they must agree to ``within``, relative to the largest.  A gradient is checked by
    `gradc.check_gradients`, too.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    of: tuple[int, ...]
    way: Way
    says: tuple[Says, ...]
    reference: Callable[..., Any] | None
    within: float

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def source(self) -> str:
        """The function as it is written, without decorators and docstring."""
        lines = inspect.getsource(self.function).splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith("def "))
        text = "\n".join(lines[start:])
        doc = self.function.__doc__
        return textwrap.dedent(text.replace(f'    """{doc}"""\n', "", 1) if doc else text)

    def arrays(self) -> tuple[Any, ...]:
        """Random arguments, the same each time."""
        rng = np.random.default_rng(self.says[0].number)
        return Row(self.function, self.args, "", self.of, "").arrays(rng)

    def answer(self) -> tuple[str, Any]:
        """What gradc prints, and the numbers that the reference must give: None where only gradients are checked."""
        args = self.arrays()
        if self.way == "program":
            return self.function()
        if self.way == "value":
            return str(gc.explain(self.function, *args, argnums=())), gc.jit(self.function)(*args)
        explained = Row(self.function, self.args, "", self.of, "", self.way).explained(*args)
        leaves = gc.tree.leaves(args)
        return str(explained), list(explained.graph.evaluate(*leaves, *self.cotangents(args)))

    def cotangents(self, args: tuple[Any, ...]) -> list[Any]:
        """G of a function that is no scalar, or the direction v of a product."""
        if self.way == "product":
            return [np.cos(1.0 + np.arange(np.size(args[self.of[0]]))).reshape(np.shape(args[self.of[0]]))]
        shape = np.shape(self.function(*args)) if self.way == "gradient" else ()
        return [np.cos(1.0 + np.arange(np.prod(shape, dtype=int))).reshape(shape)] if shape else []

    def wanted(self) -> Any:
        """What the reference computes."""
        assert self.reference is not None
        if self.way == "program":
            return self.reference()
        args = self.arrays()
        return self.reference(*args, *self.cotangents(args))


class Entries(list[Entry]):
    """The entries of a chapter, in order; called with items it decorates the program that answers them."""

    def __call__(
        self,
        *says: Says,
        args: tuple[Any, ...] = (),
        of: tuple[int, ...] = (0,),
        way: Way = "gradient",
        reference: Callable[..., Any] | None = None,
        within: float = ROUNDING,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def kept(function: Callable[..., Any]) -> Callable[..., Any]:
            self.append(Entry(function, args, of, way, says, reference, within))
            return function

        return kept


__all__ = ["ROUNDING", "Entries", "Entry", "Says", "Verdict"]
