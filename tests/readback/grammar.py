"""Words as a tree, by the usual order: powers, then factors side by side, then ⊙ ⊘ /, then + and −, then relations.

Enters: the `Word`s of a formula.  Leaves: nested tuples, the first element of each says what it is.
Start reading at `tree`.
"""

from __future__ import annotations

from typing import Any

from tests.readback.signs import UnreadError, Word

Tree = tuple[Any, ...]
RELATIONS = "=≠<>≤≥"


def tree(words: list[Word]) -> Tree:
    """The tree of one formula."""
    reader = _Reader(words)
    found = reader.logic()
    if reader.word.kind != "end":
        raise UnreadError(f"{reader.word.value!r} after the end of a formula")
    return found


class _Reader:
    def __init__(self, words: list[Word]):
        self.words, self.at = words, 0

    @property
    def word(self) -> Word:
        return self.words[self.at]

    def is_op(self, signs: str, ahead: int = 0) -> bool:
        word = self.words[min(self.at + ahead, len(self.words) - 1)]
        return word.kind == "op" and word.value in signs

    def take(self, signs: str = "") -> Word:
        word = self.word
        if signs and not self.is_op(signs):
            raise UnreadError(f"{word.value!r} where {signs!r} is expected")
        self.at += 1
        return word

    # -- from the loosest to the tightest ----------------------------------------------------------------------------

    def logic(self) -> Tree:
        left = self.relation()
        while self.is_op("∧∨"):
            left = ("logic", self.take().value, left, self.relation())
        return left

    def relation(self) -> Tree:
        left = self.sum()
        if self.is_op(RELATIONS):
            return ("relation", self.take().value, left, self.sum())
        return left

    def sum(self) -> Tree:
        negative = self.is_op("−") and bool(self.take())
        left = self.product()
        left = ("minus", left) if negative else left
        terms = [left]
        while self.is_op("+−"):
            sign = self.take().value
            term = self.product()
            terms.append(("minus", term) if sign == "−" else term)
        return terms[0] if len(terms) == 1 else ("plus", *terms)

    def product(self) -> Tree:
        left = self.side()
        while self.is_op("⊙⊘/⊗"):
            sign = self.take().value
            right = self.side() if sign in "⊙⊗" else self.postfix()
            if sign in "⊘/" and self.begins_factor():
                raise UnreadError("a quotient whose denominator goes on: a/bc")
            left = (sign, left, right)
        return left

    def side(self) -> Tree:
        items = [self.postfix()]
        while self.is_op("·") or self.begins_factor():
            if self.is_op("·"):
                self.take()
            items.append(self.postfix())
        return items[0] if len(items) == 1 else ("side", *items)

    def begins_factor(self) -> bool:
        if self.word.kind in ("number", "name", "function", "constant", "mean", "word"):
            return True
        if self.is_op("|‖"):
            return self.open == 0
        return self.is_op("([√Σ⟨")

    open = 0  #: bars that are open

    def postfix(self) -> Tree:
        base = self.atom()
        while True:
            if self.word.kind == "power":
                power = self.take().value
                base = {"T": ("transposed", base), "-T": ("transposed", ("inverse", base))}.get(power) or (
                    ("inverse", base) if power == -1 else ("power", base, ("number", power))
                )
            elif self.is_op("^"):
                self.take()
                base = ("power", base, self.atom())
            elif self.is_op("[") and self.word.tight and base[0] != "number":
                base = ("indexed", base, self.indices())
            else:
                return base

    def indices(self) -> tuple[Tree, ...]:
        self.take("[")
        found = [self.index()]
        while self.is_op(","):
            self.take()
            found.append(self.index())
        self.take("]")
        return tuple(found)

    def index(self) -> Tree:
        """An index, or a slice of up to three numbers."""
        parts: list[Tree | None] = [None]
        while not self.is_op(",]"):
            if self.is_op(":"):
                self.take()
                parts.append(None)
            else:
                parts[-1] = self.sum()
        return ("slice", *parts) if len(parts) > 1 else self.some(parts[0])

    def some(self, x: Tree | None) -> Tree:
        if x is None:
            raise UnreadError("an empty index")
        return x

    def atom(self) -> Tree:
        word = self.take()
        match word.kind, word.value:
            case "number", "1" if self.is_op("[") and self.word.tight:
                self.take("[")
                condition = self.bracketed("]")
                return ("mask", condition)
            case "number", value:
                return ("number", value)
            case "word", value if self.is_op("(") and self.word.tight:
                raise UnreadError(f"{value}(…) is not said to be anything")
            case "constant" | "name" | "word", value:
                return (word.kind, value)
            case "function", name:
                return ("call", name, *self.arguments(name == "place"))
            case "mean", (name, indices):
                self.take("(")
                return ("mean", name, indices, self.bracketed(")"))
            case "op", "(":
                return self.bracketed(")")
            case "op", "√":
                return ("root", self.atom())
            case "op", "Σ":
                indices = self.take().value if self.word.kind == "below" else ()
                return ("sum", indices, self.side())
            case "op", "|" | "‖":
                self.open += 1
                inside = self.logic()
                self.open -= 1
                self.take(word.value)
                return ("bars", word.value, inside)
            case "op", "⟨":
                left = self.sum()
                self.take(",")
                right = self.bracketed("⟩")
                return ("inner", left, right)
            case "op", "[":
                return self.listed()
        raise UnreadError(f"{word.value!r} where a factor is expected")

    def bracketed(self, close: str) -> Tree:
        kept, self.open = self.open, 0
        inside = self.logic()
        self.open = kept
        self.take(close)
        return inside

    def listed(self) -> Tree:
        """[1.0,2.0], or an array by its elements [body]ᵢⱼ."""
        kept, self.open = self.open, 0
        found = [self.logic()]
        while self.is_op(","):
            self.take()
            found.append(self.logic())
        self.open = kept
        self.take("]")
        if self.word.kind == "below" and len(found) == 1:
            return ("elements", self.take().value, found[0])
        return ("list", *found)

    def arguments(self, placed: bool) -> tuple[Tree, ...]:
        """Arguments, and the options after them: option=1,2 and sizes 3×4."""
        self.take("(")
        found: list[Tree] = []
        kept, self.open = self.open, 0
        while not self.is_op(")"):
            found.append(self.argument(placed and bool(found)))
            if self.is_op(","):
                self.take()
        self.take(")")
        self.open = kept
        return tuple(found)

    def argument(self, placed: bool) -> Tree:
        is_name = self.word.kind in ("word", "name", "function")
        if is_name and self.is_op("=", 1) and all(word.tight for word in self.words[self.at + 1 : self.at + 3]):
            return self.option()
        if self.word.kind == "number" and self.is_op("×", 1):
            sizes = [int(self.take().value)]
            while self.is_op("×"):
                self.take()
                sizes.append(int(self.take().value))
            return ("sizes", *sizes)
        if placed:
            return ("places", *self.indices())
        if self.is_op("[") and self.is_op("(", 1) and self.words[self.at + 2].kind == "number" and self.is_op(",", 3):
            return self.pairs()
        if self.is_op("(") and self.is_op(")", 1):
            self.at += 2
            return ("sizes",)
        return self.logic()

    def option(self) -> Tree:
        name = self.take().value
        self.take("=")
        values = [self.value()]
        while self.is_op(",") and self.words[self.at + 1].tight:
            self.take()
            values.append(self.value())
        return ("option", name, tuple(values))

    def value(self) -> Any:
        negative = self.is_op("−") and bool(self.take())
        word = self.take()
        if word.kind == "number":
            number = float(word.value)
            number = int(number) if number.is_integer() else number
            return -number if negative else number
        return {"True": True, "False": False}.get(word.value, word.value)

    def pairs(self) -> Tree:
        """[(0, 2), (1, 1)]: what is added before and after, along each axis."""
        self.take("[")
        found = []
        while not self.is_op("]"):
            self.take("(")
            before = int(self.take().value)
            self.take(",")
            found.append((before, int(self.take().value)))
            self.take(")")
            if self.is_op(","):
                self.take()
        self.take("]")
        return ("pairs", *found)
