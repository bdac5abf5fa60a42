"""Notation as LaTeX (amsmath).

Enters: a `Layout`.  Leaves: source for math mode.  Brackets stand where `gradc.explain.text` puts them; quotients of
scalars become fractions, so their parts need none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from gradc.explain import layout as n
from gradc.explain.folding import Rule, Said, Update
from gradc.explain.formula import Number
from gradc.explain.layout import Layout
from gradc.explain.letters import NAMES, split_accent
from gradc.explain.text import ATOM, POSTFIX, PRODUCT, SIDE, SUM

_LETTERS = {letter: rf"\{name}" for letter, name in NAMES.items()} | {
    "φ": r"\varphi", "ε": r"\varepsilon", "∂": r"\partial ",
}  # fmt: skip
_SIGNS = {"≠": r"\ne", "≤": r"\le", "≥": r"\ge", "∧": r"\wedge", "∨": r"\vee", "θ": r"\theta"}
_OPERATORS = {"exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "max", "min", "arcsin", "arccos", "arctan"}


#: a function with an index or primes behind its name
_INDEXED = re.compile("(\\w+?)(?:([₀-₉₋]+)|_(-?[0-9]+\\.[0-9]+))?(′*)")
_DIGITS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₋", "0123456789-")


class LatexPrinter:
    """Prints layouts as LaTeX."""

    def __call__(self, x: Layout) -> str:
        return self._text(x)[0]

    def aligned(self, items: Sequence[Said | Rule | Update]) -> str:
        """Lines target = body, aligned at the equals signs; a rule is a heading and its lines."""
        rows: list[str] = []
        for item in items:
            if isinstance(item, Said):
                rows += self._rows(item)
            elif isinstance(item, Update):
                names = ", ".join(map(self, item.members))
                rows += [rf"  & \textbf{{for }} {self(item.letter)} = {names}\colon"] if names else []
                rows += [row for said in item.lines for row in self._rows(said, r"\quad " if names else "")]
            else:
                rows += [row for said in item.said_first for row in self._rows(said)]
                rows.append(rf"  & \textbf{{for }} \ell = {item.first}, \dots, {item.last}\colon")
                rows += [row for said in item.lines for row in self._rows(said, r"\quad ")]
        return "\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}"

    def _rows(self, said: Said, indent: str = "") -> list[str]:
        right = self(said.body) if said.body is not None else _zero(said.reason)
        facts = [rf"  & \quad {self(ident)} \text{{ {words}}}" for ident, words in said.facts]
        sign = r"\leftarrow" if said.sign == "←" else said.sign
        return [f"  {self(said.target)} &{indent}{sign} {right}", *facts]

    def _factors(self, items: Sequence[Layout]) -> list[str]:
        """The factors of an elementwise product; what a sum is of must not seem to go on."""
        return [*map(self._closed, items[:-1]), self.at_least(items[-1], SIDE)]

    def _closed(self, x: Layout) -> str:
        return self.at_least(x, POSTFIX if isinstance(x, n.Summed) else SIDE)

    def at_least(self, x: Layout, binding: int) -> str:
        """``x``, in brackets if it binds less tightly than ``binding``."""
        text, mine = self._text(x)
        return text if mine >= binding else rf"\left({text}\right)"

    def _text(self, x: Layout) -> tuple[str, int]:
        match x:
            case n.Ident():
                return self._ident(x), ATOM
            case n.Num(value):
                return self._number(value)
            case n.Known(names):
                return names[2], ATOM
            case n.Literal(text):
                return _LETTERS.get(text, rf"\texttt{{{_words(text)}}}"), ATOM
            case n.Ones():
                return r"\mathbf{1}", ATOM
            case n.Minus(inner):
                return "-" + self.at_least(inner, PRODUCT), SUM
            case n.Plus(terms):
                return self._plus(terms), SUM
            case n.Juxtaposed(items):
                return self._side_by_side(items), SIDE
            case n.Hadamard(items):
                return r" \odot ".join(self._factors(items)), PRODUCT
            case n.Kronecker(left, right):
                return rf"{self.at_least(left, SIDE)} \otimes {self.at_least(right, SIDE)}", PRODUCT
            case n.Quotient(top, bottom, True):
                return f"{self._closed(top)} \\oslash {self.at_least(bottom, POSTFIX)}", PRODUCT
            case n.Quotient(top, bottom, False):
                return rf"\frac{{{self(top)}}}{{{self(bottom)}}}", SIDE
            case _:
                return self._tight(x)

    def _tight(self, x: Layout) -> tuple[str, int]:
        """Pieces that bind more tightly than a product."""
        match x:
            case n.Transposed(n.Raised(base, n.Num(Fraction(numerator=-1, denominator=1)))):
                return self._below_script(base) + r"^{-\top}", POSTFIX
            case n.Transposed(inner):
                return self._below_script(inner) + r"^{\top}", POSTFIX
            case n.Raised(base, exponent):
                return f"{self._below_script(base)}^{{{self(exponent)}}}", POSTFIX
            case n.Root(inner):
                return rf"\sqrt{{{self(inner)}}}", ATOM
            case n.Call(name, args, options, indices):
                below = f"_{{{','.join(indices)}}}" if indices else ""
                inside = ", ".join([*(self(a) for a in args), *(rf"\texttt{{{_words(o)}}}" for o in options)])
                return rf"{self._function(name)}{below}\left({inside}\right)", ATOM
            case n.Mask(condition):
                return rf"\mathbf{{1}}\left[{self(condition)}\right]", ATOM
            case n.Relation(left, sign, right):
                return f"{self.at_least(left, SUM)} {_SIGNS.get(sign, sign)} {self.at_least(right, SUM)}", 0
            case n.Fenced(inner, double):
                bar = r"\|" if double else "|"
                return rf"\left{bar}{self(inner)}\right{bar}", ATOM
            case n.Inner(left, right):
                return rf"\left\langle {self(left)}, {self(right)}\right\rangle", ATOM
            case n.Summed(indices, body, True):
                below = f"_{{{','.join(indices)}}}" if indices else ""
                return rf"\operatorname{{mean}}{below}\left({self(body)}\right)", ATOM
            case n.Summed(indices, body):
                sign = rf"\sum_{{{','.join(_SIGNS.get(i, i) for i in indices)}}} " if indices else r"\sum "
                return sign + self.at_least(body, SIDE if indices else POSTFIX), SIDE
            case n.Indexed(base, indices):
                return f"{self.at_least(base, ATOM)}[{', '.join(map(self, indices))}]", ATOM
            case n.Running(first):
                return self._running(x, first), ATOM
            case n.Listed(items):
                return ", ".join(map(self, items)), 0
            case n.Derivative(None, by):
                return rf"\partial {self(by)}", ATOM
            case n.Derivative(of, by):
                assert of is not None
                return rf"\frac{{\partial {self(of)}}}{{\partial {self(by)}}}", ATOM
            case n.SecondDerivative(of, by, and_by):
                below = f"{self(by)}^2" if by == and_by else rf"{self(by)}\, \partial {self(and_by)}"
                return rf"\frac{{\partial^2 {self(of)}}}{{\partial {below}}}", ATOM
            case n.Tensor(indices, body):
                return rf"\left[{self(body)}\right]_{{{''.join(indices)}}}", ATOM
        raise AssertionError(x)

    def _ident(self, x: n.Ident, number: str = "") -> str:
        """A name; ``number`` stands in the place of its own."""
        name, below, above = n.scripts(x, number)
        sub = below if number or len(below) == 1 or below.isdecimal() else rf"\mathrm{{{_escaped(below)}}}"
        return _name(name) + (f"_{{{sub}}}" if below else "") + (f"^{{({above})}}" if above else "")

    def _running(self, x: n.Running, first: n.Ident | n.Literal) -> str:
        number = x.number.replace("−", "-")
        if not isinstance(first, n.Ident) or n.PLACE not in first.name:
            number = number.replace("l", r"\ell ").strip()
        return self._ident(first, number) if isinstance(first, n.Ident) else number

    def _below_script(self, x: Layout) -> str:
        """``x`` as the base of a superscript: in braces if it has one itself."""
        text = self.at_least(x, ATOM)
        inner = x.first if isinstance(x, n.Running) else x
        return f"{{{text}}}" if isinstance(inner, n.Ident) and inner.index is not None else text

    def _function(self, name: str) -> str:
        if name in _LETTERS:
            return _LETTERS[name]
        if (found := _INDEXED.fullmatch(name)) and any(found.groups()[1:]):
            letter, below, decimal, primes = found.groups()
            index = below.translate(_DIGITS) if below else decimal
            return self._function(letter) + (f"_{{{index}}}" if index else "") + "'" * len(primes)
        return rf"\{name}" if name in _OPERATORS else rf"\operatorname{{{_escaped(name)}}}"

    def _plus(self, terms: tuple[Layout, ...]) -> str:
        text = ""
        for i, term in enumerate(terms):
            negative = isinstance(term, n.Minus)
            body = self.at_least(term.inner if isinstance(term, n.Minus) else term, PRODUCT)
            text += f" {'-' if negative else '+'} {body}" if i else ("-" if negative else "") + body
        return text

    def _side_by_side(self, items: tuple[Layout, ...]) -> str:
        texts = [self.at_least(i, SIDE if isinstance(i, n.Quotient) else POSTFIX) for i in items]
        result = texts[0]
        for previous, text in zip(items, texts[1:], strict=False):
            dot = isinstance(previous, n.Num) and text[0].isdigit()
            result += (r" \cdot " if dot else " ") + text
        return result

    def _number(self, value: Number) -> tuple[str, int]:
        if isinstance(value, Fraction):
            if value.denominator == 1:
                return str(value.numerator), ATOM
            decimal = repr(float(value))
            if Fraction(decimal) != value or value.denominator == 2:
                return rf"\tfrac{{{value.numerator}}}{{{value.denominator}}}", ATOM
            value = float(value)
        mantissa, e, exponent = f"{value:.6g}".partition("e")
        return (rf"{mantissa} \cdot 10^{{{int(exponent)}}}", PRODUCT) if e else (mantissa, ATOM)


def _name(name: str) -> str:
    letter, accent = split_accent(name)
    if accent:
        return rf"\{accent}{{{_name(letter)}}}"
    if name in _LETTERS:
        return _LETTERS[name]
    return name if len(name) == 1 else rf"\mathrm{{{_escaped(name)}}}"


#: what has a meaning of its own in LaTeX, and how it is said as a sign; all of it stands in math and in text
_SPECIAL = {sign: "\\" + sign for sign in "_%&#${}"} | {
    "\\": r"{\backslash}", "^": r"{\wedge}", "~": r"{\sim}", " ": r"\ ", "×": r"{\times}", "…": r"\ldots ",
    "·": r"{\cdot}", "−": "-",
}  # fmt: skip


def _escaped(text: str) -> str:
    """``text`` for math mode."""
    return "".join(_SPECIAL.get(sign) or _LETTERS.get(sign, sign) for sign in text)


def _words(text: str) -> str:
    """``text`` for text mode."""
    return "".join(f"${_escaped(sign)}$" if _is_mathematical(sign) else _TEXT.get(sign, sign) for sign in text)


_TEXT = {sign: "\\" + sign for sign in "_%&#${}"} | {"…": r"\ldots{}"}


def _is_mathematical(sign: str) -> bool:
    return sign in _LETTERS or sign in "\\^~×·−"


def _zero(reason: str) -> str:
    return rf"0 \quad \text{{({_words(reason)})}}"
