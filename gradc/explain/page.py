"""A derivation on a page of text: aligned lines, a legend, conventions and notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradc.explain.layout import Layout
from gradc.explain.text import TextPrinter

if TYPE_CHECKING:
    from gradc.explain.derivation import Derivation, Line


class Page:
    """Renders with one printer; ``lines`` adds source lines, ``width`` breaks what is longer."""

    def __init__(self, printer: TextPrinter, lines: bool, width: int | None):
        self.printer, self.lines, self.width = printer, lines, width

    def render(self, derivation: Derivation) -> str:
        blocks = [self.forward(derivation), self.derivative(derivation), self.remarks(derivation)]
        return "\n\n".join("\n".join(block) for block in blocks if block)

    def forward(self, derivation: Derivation) -> list[str]:
        """The lines of the function itself."""
        return self._block([line for line in derivation.lines if line.kind == "forward"])

    def derivative(self, derivation: Derivation) -> list[str]:
        """The lines of the gradients and of what they share."""
        return self._block([line for line in derivation.lines if line.kind != "forward"])

    def _block(self, lines: list[Line]) -> list[str]:
        shown = [(self._line(line), line) for line in lines]
        column = max((len(text) for text, _ in shown if "\n" not in text), default=0)
        return [row for text, line in shown for row in (self._with_source(text, line, column), *self._facts(line))]

    def _facts(self, line: Line) -> list[str]:
        """What the user declared and the formula makes use of, under it."""
        return [f"  {self.printer(ident)} {words}" for ident, words in line.facts]

    def _line(self, line: Line) -> str:
        head = self.printer(line.target) + " = "
        if line.layout is None:
            return f"{head}0   ({line.reason})"
        return self._broken(head, self.printer(line.layout))

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
        remarks += [f"at singular points, {self.printer.plain(text)}" for text in derivation.conventions]
        remarks += [f"stabilised, {self.printer.plain(text)}" for text in derivation.notes]
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
