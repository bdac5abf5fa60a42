"""Printed text as words: numbers, names, functions, operators, superscripts and subscripts.

Enters: one formula in Unicode, and the names that the reader knows.  Leaves: `Word`s.  A run of letters is the longest
name that is known, so that `ax` is a·x where both are names.  Start reading at `words`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from typing import Any


class UnreadError(Exception):
    """The text does not say what is meant."""


@dataclass(frozen=True)
class Word:
    """``kind`` is one of number, name, function, op, power, below, end; ``tight`` if no blank precedes it."""

    kind: str
    value: Any
    tight: bool = True


SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
INDICES = dict(zip("ᵢⱼₖₗₘᵣₛₜᵤᵥₐ", "ijklmrstuva", strict=True))
OPERATORS = "+−⊙⊘⊗/()[]|‖⟨⟩,=≠<>≤≥√Σ·:^∧∨…×"
CONSTANTS = {"√π": "root π", "π": "π", "𝟏": "𝟏", "∞": "∞"}
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?(e[-−+]?[0-9]+)?|inf\b|nan\b")
_WORD = re.compile(r"[^\W\d_][^\W\d]*[₀-₉]*[′]*|[^\W\d_]\w*")


def words(text: str, names: Collection[str], functions: Collection[str]) -> list[Word]:
    """The words of ``text``."""
    found: list[Word] = []
    position, tight = 0, True
    ordered = sorted(names, key=len, reverse=True)
    while position < len(text):
        if text[position] == " ":
            position, tight = position + 1, False
            continue
        word, position = _next(text, position, ordered, functions, tight)
        found.append(word)
        tight = True
    return [*found, Word("end", "")]


def _next(text: str, at: int, names: list[str], functions: Collection[str], tight: bool) -> tuple[Word, int]:
    rest = text[at:]
    over = re.match(r"(mean|var|std)([ᵢⱼₖₗₘᵣₛₜᵤᵥ]*)\(", rest)
    if over and over[1] not in names:
        return Word("mean", (over[1], tuple(INDICES[c] for c in over[2])), tight), at + over.end() - 1
    called = re.match(r"((?:[^\W\d_]|[₀-₉′])+(?:_?\w+)?)\(", rest)
    if called and called[1] in functions and called[1] not in names:
        return Word("function", called[1], tight), at + called.end() - 1
    known = next((name for name in names if rest.startswith(name) and _whole(rest, name, names)), None)
    if known is not None:
        return Word("name", known, tight), at + len(known)
    number = _NUMBER.match(rest)
    if number:
        return Word("number", number[0].replace("−", "-"), tight), at + number.end()
    if rest[0] == "½":
        return Word("number", Fraction(1, 2), tight), at + 1
    if rest.startswith("⁻ᵀ"):
        return Word("power", "-T", tight), at + 2
    if rest[0] == "ᵀ":
        return Word("power", "T", tight), at + 1
    above = re.match(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", rest)
    if above:
        return Word("power", int(above[0].translate(SUPERSCRIPT)), tight), at + above.end()
    below = re.match(r"[ᵢⱼₖₗₘᵣₛₜᵤᵥₐ]+", rest)
    if below:
        return Word("below", tuple(INDICES[c] for c in below[0]), tight), at + below.end()
    for sign, meaning in CONSTANTS.items():
        if rest.startswith(sign):
            return Word("constant", meaning, tight), at + len(sign)
    if rest[0] in OPERATORS:
        return Word("op", rest[0], tight), at + 1
    if rest[0] == "-":
        return Word("op", "−", tight), at + 1
    word = _WORD.match(rest)
    if word:
        return Word("word", word[0], tight), at + word.end()
    raise UnreadError(f"the sign {rest[0]!r} in {text!r}")


def _whole(rest: str, name: str, names: list[str]) -> bool:
    """Whether ``name`` does not end inside a word that is written with a bar or small digits."""
    after = rest[len(name) : len(name) + 1]
    if after and after in "₀₁₂₃₄₅₆₇₈₉\u0302\u0303\u0304":
        return False
    return after != "_"
