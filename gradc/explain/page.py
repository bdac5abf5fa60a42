"""A derivation on a page of text: aligned lines, a legend, conventions and notes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradc.explain.folding import Rule, Said, Update, plain
from gradc.explain.layout import Layout
from gradc.explain.text import TextPrinter

if TYPE_CHECKING:
    from gradc.explain.derivation import Derivation, Line


#: what the lines of a rule begin with
INDENT = "  "


class Page:
    """Renders with one printer; ``lines`` adds source lines, ``width`` breaks what is longer.

    ``identities`` says under each line by which it was simplified.  Repeated layers are one rule; ``fold=False`` prints
    each line.  Source lines and identities are those of one line, so with them nothing is folded.
    """

    def __init__(
        self,
        printer: TextPrinter,
        lines: bool = False,
        width: int | None = None,
        fold: bool = True,
        identities: bool = False,
    ):
        self.printer, self.lines, self.width, self.identities = printer, lines, width, identities
        self.fold = fold and not lines and not identities

    def render(self, derivation: Derivation) -> str:
        updates = [self._update(update) for update in derivation.updates]
        blocks = [self.forward(derivation), self.derivative(derivation), *updates, self.remarks(derivation)]
        return "\n\n".join("\n".join(block) for block in blocks if block)

    def forward(self, derivation: Derivation) -> list[str]:
        """The lines of the function itself."""
        return self._block(derivation, forward=True)

    def derivative(self, derivation: Derivation) -> list[str]:
        """The lines of the gradients and of what they share."""
        return self._block(derivation, forward=False)

    def _block(self, derivation: Derivation, forward: bool) -> list[str]:
        if self.fold:
            return [row for item in derivation.folded[0 if forward else 1] for row in self._item(item)]
        lines = [line for line in derivation.lines if (line.kind == "forward") == forward]
        shown = [(self._line(plain(line), ""), line) for line in lines]
        column = max((len(text) for text, _ in shown if "\n" not in text), default=0)
        return [
            row
            for text, line in shown
            for row in (self._with_source(text, line, column), *self._facts(line.facts), *self._identities(line))
        ]

    def _update(self, update: Update) -> list[str]:
        """The lines of one step, under the names of the parameters that they are of."""
        if not update.members:
            return [self._line(said, "") for said in update.lines]
        names = ", ".join(map(self.printer, update.members))
        return [f"for {self.printer(update.letter)} = {names}:", *(self._line(said, INDENT) for said in update.lines)]

    def _item(self, item: Said | Rule) -> list[str]:
        if isinstance(item, Said):
            return self._rows(item, "")
        first = [row for said in item.said_first for row in self._rows(said, "")]
        heading = self.printer.plain(f"for l = {item.first}…{item.last}:".replace("-", "−"))
        return [*first, heading, *(row for said in item.lines for row in self._rows(said, INDENT))]

    def _rows(self, said: Said, indent: str) -> list[str]:
        return [self._line(said, indent), *(indent + row for row in self._facts(said.facts))]

    def _facts(self, facts: Sequence[tuple[Layout, str]]) -> list[str]:
        """What the user declared and the formula makes use of, under it."""
        return [f"  {self.printer(ident)} {words}" for ident, words in facts]

    def _identities(self, line: Line) -> list[str]:
        """By which identities a line was simplified."""
        if not self.identities:
            return []
        return [self.printer.plain(f"  by {rule.name}: {rule.statement}") for rule in line.rules]

    def _line(self, said: Said, indent: str) -> str:
        head = indent + f"{self.printer(said.target)} {self.printer.plain(said.sign)} "
        if said.body is None:
            return f"{head}0   ({said.reason})"
        return self._broken(head, self.printer(said.body))

    def _with_source(self, text: str, line: Line, column: int) -> str:
        if not self.lines or not line.where:
            return text
        return f"{text:<{column}}   # {', '.join(dict.fromkeys(str(w) for w in line.where))}"

    def _broken(self, head: str, body: str) -> str:
        """``body`` after ``head``, broken before operators where the page ends."""
        if self.width is None or len(head) + len(body) <= self.width:
            return head + body
        result, indent = [head], " " * len(head)
        for word in _words(body):
            if (
                len(result[-1]) + len(word.rstrip()) > self.width
                and result[-1].strip() != head.strip()
                and result[-1] != indent
            ):
                result.append(indent)
            result[-1] += word
        return "\n".join(part.rstrip() for part in result)

    def _meaning(self, text: str | Layout) -> str:
        return self.printer.plain(text) if isinstance(text, str) else f"is {self.printer(text)}"

    def remarks(self, derivation: Derivation) -> list[str]:
        """What stands below the formulas: the derivation's own letters, singular points, stable forms."""
        remarks = [f"{self.printer(ident)} {self._meaning(text)}" for ident, text in derivation.legend]
        if derivation.open_forms:
            remarks.append(self.printer.plain(f"no closed form, written as it is: {', '.join(derivation.open_forms)}"))
        for name in derivation.undeclared:
            words = f"if the rows of {name} are one-hot, {name} = gc.assume({name}, one_hot=True) makes this shorter"
            remarks.append(self.printer.plain(words))
        remarks += [f"at singular points, {self.printer.plain(text)}" for text in derivation.conventions]
        remarks += [f"stabilised, {self.printer.plain(text)}" for text in derivation.notes]
        remarks += map(self.printer.plain, derivation.remarks)
        return remarks


def _words(body: str) -> list[str]:
    """Pieces between which a line may break: before each +, −, ⊙ and ⊘."""
    words, current = [], ""
    for token in body.split(" "):
        if token in ("+", "−", "-", "⊙", "⊘", ".*", "./") and current:
            words.append(current)
            current = ""
        current += token + " "
    return [*words, current]
