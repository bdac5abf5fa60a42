"""Notation as text: Unicode, or plain ASCII for terminals that have no more.

Enters: a `Layout`.  Leaves: one line.  Invariant: brackets stand where precedence needs them and nowhere else.  ASCII
writes ``^T`` for a transpose, ``.*`` and ``./`` for elementwise product and quotient, ``sum_i`` for Σᵢ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from gradc.explain import layout as n
from gradc.explain.formula import Number
from gradc.explain.layout import Layout
from gradc.explain.letters import in_ascii, split_accent

#: how tightly each piece binds
SUM, PRODUCT, POSTFIX, ATOM = 1, 2, 4, 5
SIDE = 3  #: juxtaposition binds tighter than ⊙ and /

DIGITS = "0123456789"
_SUBSCRIPTS = str.maketrans("0123456789ijklmrstuvaexnhop+−", "₀₁₂₃₄₅₆₇₈₉ᵢⱼₖₗₘᵣₛₜᵤᵥₐₑₓₙₕₒₚ₊₋")
_SUPERSCRIPTS = str.maketrans("0123456789-−+l()", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁻⁺ˡ⁽⁾")

_PLAIN_DIGITS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", DIGITS)

_ASCII = {
    "σ": "sigmoid", "Φ": "Phi", "φ": "phi", "logΓ": "lgamma", "ψ": "psi", "δ": "delta", "≠": "!=", "≤": "<=", "≥": ">=",
    "∂": "d", "Γ": "Gamma", "ζ": "zeta",
    "−": "-",
    "←": "<-",
    "√": "sqrt ",
    "·": "*",
    "²": "^2", "ᵏ": "^k", "ᵀ": "^T", "½": "1/2", "Σ": "sum", "⊙": ".*", "⊘": "./", "⊗": "(x)", "𝟏": "1", "π": "pi",
    "∧": "and", "∨": "or",
    "ⱼ": "_j",
}  # fmt: skip


class TextPrinter:
    """Prints layouts in one line of text."""

    def __init__(self, ascii: bool = False):
        self.ascii = ascii

    def __call__(self, x: Layout) -> str:
        return self._text(x)[0]

    def _factors(self, items: Sequence[Layout]) -> list[str]:
        """The factors of an elementwise product; what a sum is of must not seem to go on."""
        return [*map(self._closed, items[:-1]), self.at_least(items[-1], SIDE)]

    def _closed(self, x: Layout) -> str:
        return self.at_least(x, POSTFIX if isinstance(x, n.Summed) else SIDE)

    def at_least(self, x: Layout, binding: int) -> str:
        """``x``, in brackets if it binds less tightly than ``binding``."""
        text, mine = self._text(x)
        return text if mine >= binding else f"({text})"

    def _text(self, x: Layout) -> tuple[str, int]:
        match x:
            case n.Ident():
                return self.ident(x), ATOM
            case n.Num(value):
                return self.number(value)
            case n.Known(names):
                return names[1 if self.ascii else 0], ATOM
            case n.Literal(text):
                return self.plain(text), ATOM
            case n.Ones():
                return self._pick("𝟏", "ones"), ATOM
            case n.Minus(inner):
                return self._minus() + self.at_least(inner, PRODUCT), SUM
            case n.Plus(terms):
                return self._plus(terms), SUM
            case n.Juxtaposed(items):
                return self._side_by_side(items), SIDE
            case n.Hadamard(items):
                return f" {self._pick('⊙', '.*')} ".join(self._factors(items)), PRODUCT
            case n.Kronecker(left, right):
                return f" {self._pick('⊗', '(x)')} ".join(self.at_least(i, SIDE) for i in (left, right)), PRODUCT
            case n.Quotient(top, bottom, pointwise):
                return self._quotient(top, bottom, pointwise), PRODUCT
            case _:
                return self._tight(x)

    def _tight(self, x: Layout) -> tuple[str, int]:
        """Pieces that bind more tightly than a product."""
        match x:
            case n.Transposed(n.Raised(base, n.Num(Fraction(numerator=-1, denominator=1)))):
                return self.at_least(base, ATOM) + self._pick("⁻ᵀ", "^-T"), POSTFIX
            case n.Transposed(inner):
                return self.at_least(inner, ATOM) + self._pick("ᵀ", "^T"), POSTFIX
            case n.Raised(base, exponent):
                return self.at_least(base, ATOM) + self._exponent(exponent), POSTFIX
            case n.Root(inner):
                text = self(inner) if self.ascii else self.at_least(inner, ATOM)
                return (f"sqrt({text})" if self.ascii else f"√{text}"), ATOM
            case n.Call(name, args, options, indices):
                inside = ", ".join([*(self(a) for a in args), *(self.plain(o) for o in options)])
                return f"{self.plain(name)}{self._along(indices)}({inside})", ATOM
            case n.Mask(condition):
                return f"1[{self(condition)}]", ATOM
            case n.Relation(left, sign, right):
                return f"{self.at_least(left, SUM)} {self.plain(sign)} {self.at_least(right, SUM)}", 0
            case n.Fenced(inner, double):
                bar = self._pick("‖", "||") if double else "|"
                return f"{bar}{self(inner)}{bar}", ATOM
            case n.Inner(left, right):
                pair = f"{self(left)}, {self(right)}"
                return (f"inner({pair})" if self.ascii else f"⟨{pair}⟩"), ATOM
            case n.Summed(indices, body, True):
                return f"mean{self._along(indices)}({self(body)})", ATOM
            case n.Summed(indices, body):
                return self._sum_sign(indices) + self.at_least(body, SIDE if indices else POSTFIX), SIDE
            case n.Indexed(base, indices):
                return f"{self.at_least(base, ATOM)}[{', '.join(map(self, indices))}]", ATOM
            case n.Running(first):
                return self.ident(first, x.number) if isinstance(first, n.Ident) else self.plain(x.number), ATOM
            case n.Listed(items):
                return ", ".join(map(self, items)), 0
            case n.Derivative(of, by):
                d = self._pick("∂", "d")
                return (f"{d}{self(of)}/" if of is not None else "") + d + self(by), ATOM
            case n.SecondDerivative(of, by, and_by):
                d, square = self._pick("∂", "d"), self._pick("²", "2")
                below = f"{self(by)}{square}" if by == and_by else f"{self(by)}{d}{self(and_by)}"
                return f"{d}{square}{self(of)}/{d}{below}", ATOM
            case n.Tensor(indices, body):
                return f"[{self(body)}]{self._below(''.join(indices))}", ATOM
        raise AssertionError(x)

    # -- pieces ------------------------------------------------------------------------------------------------------

    def ident(self, x: n.Ident, number: str = "") -> str:
        """A name with its subscript and its place in a row; ``number`` stands in the place of its own."""
        name, below, above = n.scripts(x, number)
        name = in_ascii(name) if self.ascii else name
        name = self.plain(name) + self._subscript(below, running=bool(number and not above))
        return name + self._raised(f"({above})") if above else name

    def _subscript(self, below: str, running: bool) -> str:
        """Small digits and terms in l; what else follows a bar."""
        if not below:
            return ""
        if below.isdecimal() or (running and not self.ascii):
            return below if self.ascii else self._below(below)
        below = self.plain(below)
        return f"_{below}" if below.isalpha() else f"_{{{below}}}"

    def _raised(self, text: str) -> str:
        return "^" + self.plain(text) if self.ascii else text.translate(_SUPERSCRIPTS)

    def _along(self, indices: tuple[str, ...]) -> str:
        """The axes that a function is taken along, behind its name."""
        return f"_{''.join(indices)}" if self.ascii and indices else self._below("".join(indices))

    def _below(self, text: str) -> str:
        if not text:
            return ""
        small = text.translate(_SUBSCRIPTS)
        fits = all(a != b for a, b in zip(text, small, strict=True))
        return small if fits and not self.ascii else f"_{text}"

    def _plus(self, terms: tuple[Layout, ...]) -> str:
        text = ""
        for i, term in enumerate(terms):
            negative = isinstance(term, n.Minus)
            body = self.at_least(term.inner if isinstance(term, n.Minus) else term, PRODUCT)
            sign = self._minus() if negative else ""
            text += f" {sign or '+'} {body}" if i else sign + body
        return text

    def _side_by_side(self, items: tuple[Layout, ...]) -> str:
        texts = [self.at_least(i, POSTFIX) for i in items[:-1]]
        texts.append(self.at_least(items[-1], SIDE if isinstance(items[-1], n.Summed) else POSTFIX))
        result = texts[0]
        for previous, item, text in zip(items, items[1:], texts[1:], strict=False):
            result += self._gap(previous, result, item, text) + text
        return result

    def _gap(self, left: Layout, before: str, right: Layout, after: str) -> str:
        if self.ascii:
            return " "
        if isinstance(left, n.Num) and not (after[0] in DIGITS or before[-1].isalpha()):
            return ""
        if any(isinstance(x, n.Call) and x.name == "diag" for x in (left, right)):
            return " "
        if isinstance(left, n.Ident) and not left.below.isdigit() and _ends_in_subscript(left, before):
            return "·"
        return "" if is_short(left) and is_short(right) and after[0] not in DIGITS else "·"

    def _quotient(self, top: Layout, bottom: Layout, pointwise: bool) -> str:
        sign = f" {self._pick('⊘', './')} " if pointwise else "/"
        return (
            (
                self._closed(top)
                if isinstance(top, n.Quotient) or (pointwise and isinstance(top, n.Summed))
                else self.at_least(top, PRODUCT)
            )
            + sign
            + self.at_least(bottom, POSTFIX)
        )

    def _exponent(self, x: Layout) -> str:
        if isinstance(x, n.Num) and isinstance(x.value, Fraction) and x.value.denominator == 1 and not self.ascii:
            return str(x.value).translate(_SUPERSCRIPTS)
        return "^" + self.at_least(x, ATOM)

    def _sum_sign(self, indices: tuple[str, ...]) -> str:
        if self.ascii:
            return f"sum_{''.join(map(in_ascii, indices))} " if indices else "sum "
        return "Σ" + (self._below("".join(indices)) + " " if indices else " ")

    def number(self, value: Number) -> tuple[str, int]:
        """A number ≥ 0, as short as it is exact."""
        if isinstance(value, Fraction):
            if value.denominator == 1:
                return str(value.numerator), ATOM
            if value == Fraction(1, 2):
                return ("½", ATOM) if not self.ascii else ("1/2", PRODUCT)
            decimal = repr(float(value))
            return (
                (decimal, ATOM) if Fraction(decimal) == value else (f"{value.numerator}/{value.denominator}", PRODUCT)
            )
        return f"{value:.6g}", ATOM

    def _minus(self) -> str:
        return self._pick("−", "-")

    def _pick(self, unicode: str, plain: str) -> str:
        return plain if self.ascii else unicode

    def plain(self, text: str) -> str:
        """``text`` in the printer's alphabet."""
        if not self.ascii:
            return text
        for sign, plain in _ASCII.items():
            text = text.replace(sign, plain)
        text = text.replace("×", "x").replace("…", "...").translate(_PLAIN_DIGITS)
        return text if text.isascii() else text.encode("ascii", "backslashreplace").decode()


def _ends_in_subscript(x: n.Ident, text: str) -> bool:
    """Whether what follows would be read as more of the subscript, as in v_U·V."""
    return bool(x.below) and text[-1].isascii() and text[-1].isalnum()


def is_short(x: Layout) -> bool:
    """Whether ``x`` can stand beside another factor without a dot between."""
    while isinstance(x, n.Transposed | n.Raised | n.Indexed):
        x = x.inner if isinstance(x, n.Transposed) else x.base
    if isinstance(x, n.Num) and not math.isfinite(x.value):
        return False
    if isinstance(x, n.Call | n.Root | n.Summed | n.Literal | n.Known | n.SecondDerivative):
        return False
    if isinstance(x, n.Running):
        return isinstance(x.first, n.Ident) and is_short(x.first)
    return not isinstance(x, n.Ident) or len(split_accent(x.name)[0]) == 1
