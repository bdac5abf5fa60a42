"""Notation as MathML (Core), for web pages and notebooks.

Enters: a `Layout`.  Leaves: well-formed markup that any browser of today shows without a library.  Brackets stand
where `gradc.explain.text` puts them; quotients of scalars become fractions and roots have their bar, so what is in them
needs none.
Start reading at `MathmlPrinter.table`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from html import escape
from itertools import pairwise

from gradc.explain import layout as n
from gradc.explain.folding import Rule, Said, Update
from gradc.explain.formula import Formula, Number
from gradc.explain.layout import Layout
from gradc.explain.letters import split_accent
from gradc.explain.text import ATOM, POSTFIX, PRODUCT, SIDE, SUM, is_short

NAMESPACE = "http://www.w3.org/1998/Math/MathML"


_INDENT = '<mspace width="1.5em"/>'


class MathmlPrinter:
    """Prints layouts as MathML elements; ``mark`` gives each that shows a formula further attributes."""

    def __init__(self, mark: Callable[[Formula], str] | None = None):
        self.mark = mark

    def __call__(self, x: Layout) -> str:
        return self._element(x)[0]

    def table(self, items: Sequence[Said | Rule | Update]) -> str:
        """A ``math`` element with one row per line, aligned at the equals signs; a rule is a heading and its lines."""
        rows: list[str] = []
        for item in items:
            if isinstance(item, Said):
                rows.append(self._line(item))
            elif isinstance(item, Update):
                if item.members:
                    names = _operator(",").join(map(self, item.members))
                    rows.append(_cells("", _row(_text("for\u00a0") + self(item.letter) + _operator("=") + names)))
                rows += [self._line(said, inside=bool(item.members)) for said in item.lines]
            else:
                rows += map(self._line, item.said_first)
                values = _number(str(item.first)) + _operator("…") + _number(str(item.last))
                heading = _text("for\u00a0") + "<mi>ℓ</mi>" + _operator("=") + values + _text(":")
                rows.append(_cells("", _row(heading)))
                rows += [self._line(said, inside=True) for said in item.lines]
        return f'<math xmlns="{NAMESPACE}" display="block"><mtable>{"".join(rows)}</mtable></math>'

    def _line(self, said: Said, inside: bool = False) -> str:
        """One row per formula and fact; what is inside a rule is set back."""
        right = self(said.body) if said.body is not None else _number("0") + _text(f"\u2003({said.reason})")
        row = _cells(self(said.target), (_INDENT if inside else "") + _operator(said.sign) + right)
        return row + "".join(
            _cells("", _text("\u2003") + self(ident) + _text(f"\u00a0{words}")) for ident, words in said.facts
        )

    def _factors(self, items: Sequence[Layout]) -> list[str]:
        """The factors of an elementwise product; what a sum is of must not seem to go on."""
        return [*map(self._closed, items[:-1]), self.at_least(items[-1], SIDE)]

    def _closed(self, x: Layout) -> str:
        return self.at_least(x, POSTFIX if isinstance(x, n.Summed) else SIDE)

    def at_least(self, x: Layout, binding: int) -> str:
        """``x``, in brackets if it binds less tightly than ``binding``."""
        text, mine = self._element(x)
        return text if mine >= binding else _between("(", text, ")")

    def _element(self, x: Layout) -> tuple[str, int]:
        text, binding = self._bare(x)
        return self._marked(text, x), binding

    def _marked(self, text: str, x: Layout) -> str:
        """The element ``text``, which shows ``x``, with the attributes of a mark."""
        if self.mark is None or x.source is None:
            return text
        tag = re.match(r"<\w+", text)
        assert tag is not None, "every piece of notation is one element"
        return f"{tag[0]}{self.mark(x.source)}{text[tag.end() :]}"

    def _bare(self, x: Layout) -> tuple[str, int]:
        match x:
            case n.Ident():
                return _ident(x), ATOM
            case n.Num(value):
                return _value(value)
            case n.Known(names):
                return _name(names[0]), ATOM
            case n.Literal(text):
                return _text(text), ATOM
            case n.Ones():
                return _number("𝟏"), ATOM
            case n.Minus(inner):
                return _row(_operator("−", "prefix") + self.at_least(inner, PRODUCT)), SUM
            case n.Plus(terms):
                return self._plus(terms), SUM
            case n.Juxtaposed(items):
                return self._side_by_side(items), SIDE
            case n.Hadamard(items):
                return _row(_operator("⊙").join(self._factors(items))), PRODUCT
            case n.Kronecker(left, right):
                return _row(_operator("⊗").join(self.at_least(i, SIDE) for i in (left, right))), PRODUCT
            case n.Quotient(top, bottom, True):
                return _row(self._closed(top) + _operator("⊘") + self.at_least(bottom, POSTFIX)), PRODUCT
            case n.Quotient(top, bottom, False):
                return f"<mfrac>{self(top)}{self(bottom)}</mfrac>", SIDE
            case _:
                return self._tight(x)

    def _tight(self, x: Layout) -> tuple[str, int]:
        """Pieces that bind more tightly than a product."""
        match x:
            case n.Transposed(n.Raised(base, n.Num(Fraction(numerator=-1, denominator=1)))):
                return self._above(base, "<mrow><mo>−</mo><mo>⊤</mo></mrow>"), POSTFIX
            case n.Transposed(inner):
                return self._above(inner, "<mo>⊤</mo>"), POSTFIX
            case n.Raised(base, exponent):
                return self._above(base, self(exponent)), POSTFIX
            case n.Root(inner):
                return f"<msqrt>{self(inner)}</msqrt>", ATOM
            case n.Call(name, args, options, indices):
                inside = _operator(",", "separator").join([*map(self, args), *map(_text, options)])
                sign = _below(_name(name), "".join(indices))
                return _row(sign + "<mo>&#x2061;</mo>" + _between("(", inside, ")")), ATOM
            case n.Mask(condition):
                return _row(_number("1") + _between("[", self(condition), "]")), ATOM
            case n.Relation(left, sign, right):
                return _row(self.at_least(left, SUM) + _operator(sign) + self.at_least(right, SUM)), 0
            case n.Fenced(inner, double):
                bar = "‖" if double else "|"
                return _between(bar, self(inner), bar), ATOM
            case n.Inner(left, right):
                return _between("⟨", _row(self(left) + _operator(",", "separator") + self(right)), "⟩"), ATOM
            case n.Summed(indices, body, True):
                sign = _below(_name("mean"), "".join(indices))
                return _row(sign + "<mo>&#x2061;</mo>" + _between("(", self(body), ")")), ATOM
            case n.Summed(indices, body):
                sign = _below(_operator("∑"), "".join(indices))
                return _row(sign + self.at_least(body, SIDE if indices else POSTFIX)), SIDE
            case n.Indexed(base, indices):
                inside = _operator(",", "separator").join(map(self, indices))
                return _row(self.at_least(base, ATOM) + _between("[", inside, "]")), ATOM
            case n.Running(first):
                return _ident(first, x.number) if isinstance(first, n.Ident) else _term(x.number), ATOM
            case n.Listed(items):
                return _row(_operator(",", "separator").join(map(self, items))), 0
            case n.Derivative(None, by):
                return _row(_operator("∂", "prefix") + self(by)), ATOM
            case n.Derivative(of, by):
                assert of is not None
                top, bottom = (_row(_operator("∂", "prefix") + self(part)) for part in (of, by))
                return f"<mfrac>{top}{bottom}</mfrac>", ATOM
            case n.SecondDerivative(of, by, and_by):
                squared = "<msup><mo>∂</mo><mn>2</mn></msup>"
                below = _operator("∂", "prefix") + self(by) + _operator("∂", "prefix") + self(and_by)
                if by == and_by:
                    below = _operator("∂", "prefix") + f"<msup>{self(by)}<mn>2</mn></msup>"
                return f"<mfrac>{_row(squared + self(of))}{_row(below)}</mfrac>", ATOM
            case n.Tensor(indices, body):
                return _below(_between("[", self(body), "]"), "".join(indices)), ATOM
        raise AssertionError(x)

    def _above(self, base: Layout, text: str) -> str:
        """``text`` above ``base``; above a name that has something below, both stand behind the name."""
        if isinstance(base, n.Ident) and base.below and base.index is None:
            lower = _number(base.below) if base.below.isdecimal() else f"<mi>{escape(base.below)}</mi>"
            return f"<msubsup>{self._marked(_name(base.name), base)}{lower}{text}</msubsup>"
        return f"<msup>{self.at_least(base, ATOM)}{text}</msup>"

    def _plus(self, terms: Sequence[Layout]) -> str:
        pieces = []
        for i, term in enumerate(terms):
            negative = isinstance(term, n.Minus)
            if i or negative:
                pieces.append(_operator("−" if negative else "+", "" if i else "prefix"))
            pieces.append(self.at_least(term.inner if isinstance(term, n.Minus) else term, PRODUCT))
        return _row("".join(pieces))

    def _side_by_side(self, items: Sequence[Layout]) -> str:
        pieces = [self.at_least(items[0], SIDE if isinstance(items[0], n.Quotient) else POSTFIX)]
        for previous, item in pairwise(items):
            short = is_short(previous) and is_short(item)
            closed = any(isinstance(i, n.SecondDerivative) or _is_diagonal(i) for i in (previous, item))
            apart = isinstance(item, n.Num) or not (isinstance(previous, n.Num) or short or closed)
            pieces.append(_operator("⋅") if apart else "<mo>&#x2062;</mo>")
            pieces.append(self.at_least(item, SIDE if isinstance(item, n.Quotient) else POSTFIX))
        return _row("".join(pieces))


def _is_diagonal(x: Layout) -> bool:
    return isinstance(x, n.Call) and x.name == "diag"


# -- elements ----------------------------------------------------------------------------------------------------------


def _cells(left: str, right: str) -> str:
    return (
        f'<mtr><mtd style="text-align: right; text-align: -webkit-right">{_shown(left)}</mtd>'
        f'<mtd style="text-align: left; text-align: -webkit-left">{_shown(right)}</mtd></mtr>'
    )


def _shown(inside: str) -> str:
    return f'<mstyle displaystyle="true">{inside}</mstyle>'


def _row(inside: str) -> str:
    return f"<mrow>{inside}</mrow>"


def _between(left: str, inside: str, right: str) -> str:
    return f'<mrow><mo form="prefix">{left}</mo>{inside}<mo form="postfix">{right}</mo></mrow>'


def _operator(sign: str, form: str = "") -> str:
    attributes = ' separator="true"' if form == "separator" else f' form="{form}"' if form else ""
    return f"<mo{attributes}>{escape(sign)}</mo>"


def _number(text: str) -> str:
    return f"<mn>{text}</mn>"


def _text(text: str) -> str:
    return f"<mtext>{escape(text)}</mtext>"


def _below(base: str, text: str) -> str:
    letters = "".join(f"<mi>{escape(letter)}</mi>" for letter in text)
    return f"<msub>{base}{_row(letters)}</msub>" if text else base


_ACCENTS = {"hat": "^", "bar": "¯", "tilde": "~", "dot": "˙"}


def _name(name: str) -> str:
    letter, accent = split_accent(name)
    if accent:
        return f'<mover accent="true"><mi>{escape(letter)}</mi><mo>{_ACCENTS[accent]}</mo></mover>'
    return f"<mi>{escape(name)}</mi>"


def _ident(x: n.Ident, number: str = "") -> str:
    """A name; ``number`` stands in the place of its own."""
    name, below, above = n.scripts(x, number)
    if not below:
        return f"<msup>{_name(name)}{_in_brackets(above)}</msup>" if above else _name(name)
    lower = (
        _number(below) if below.isdecimal() else _term(below) if number and not above else f"<mi>{escape(below)}</mi>"
    )
    if above:
        return f"<msubsup>{_name(name)}{lower}{_in_brackets(above)}</msubsup>"
    return f"<msub>{_name(name)}{lower}</msub>"


def _in_brackets(number: str) -> str:
    return f"<mrow><mo>(</mo>{_term(number)}<mo>)</mo></mrow>"


def _term(number: str) -> str:
    """A number, or a term in l such as 2l+1."""
    pieces = []
    for text in re.findall(r"\d+|.", number):
        pieces.append(_number(text) if text.isdecimal() else "<mi>ℓ</mi>" if text == "l" else _operator(text))
    return _row("".join(pieces))


def _value(value: Number) -> tuple[str, int]:
    """A number ≥ 0, as short as it is exact."""
    if isinstance(value, Fraction):
        if value.denominator == 1:
            return _number(str(value.numerator)), ATOM
        decimal = repr(float(value))
        if Fraction(decimal) != value or value.denominator == 2:
            return f"<mfrac>{_number(str(value.numerator))}{_number(str(value.denominator))}</mfrac>", ATOM
        value = float(value)
    mantissa, e, exponent = f"{value:.6g}".partition("e")
    if not e:
        return _number(mantissa), ATOM
    power = f"<msup>{_number('10')}{_number(str(int(exponent)).replace('-', '−'))}</msup>"
    return _row(_number(mantissa) + _operator("⋅") + power), PRODUCT
