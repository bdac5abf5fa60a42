"""Integer forms of loop variables: how an element's place in memory depends on the loops around it.

Enters: loop variables and integers, combined by ``+ - * // %`` (the only operators that view formulas use).
Leaves: `Affine`, a constant plus multiples of atoms.  Invariant: an atom is a loop variable or a quotient that could
not be simplified, and ``x % n`` is kept as ``x - n * (x // n)``; so a reshape of a reshape cancels by plain addition,
and two forms are equal as data whenever they were simplified alike.  Start reading at `Affine.__floordiv__`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

#: Numbers that belong to the variables of one axis, which may be split.
MAX_FACTORS = 16


@dataclass(frozen=True, slots=True)
class Var:
    """A loop variable that runs over range(extent)."""

    number: int
    extent: int

    @property
    def low(self) -> int:
        return 0

    @property
    def high(self) -> int:
        return self.extent - 1

    def __str__(self) -> str:
        return f"i{self.number}"


@dataclass(frozen=True, slots=True)
class Quotient:
    """floor(numerator / divisor), where that is not affine."""

    numerator: Affine
    divisor: int

    @property
    def low(self) -> int:
        return self.numerator.low // self.divisor

    @property
    def high(self) -> int:
        return self.numerator.high // self.divisor

    def __str__(self) -> str:
        return f"({self.numerator})//{self.divisor}"


Atom = Var | Quotient


class Affine:
    """const + Σ coefficient · atom, immutable, with the exact range of each atom known."""

    __slots__ = ("_hash", "const", "terms")

    def __init__(self, const: int = 0, terms: Mapping[Atom, int] | None = None):
        self.const = const
        self.terms: Mapping[Atom, int] = terms or {}
        self._hash: int | None = None

    @classmethod
    def of(cls, x: Affine | Var | int) -> Affine:
        if isinstance(x, Affine):
            return x
        if isinstance(x, Var):
            return cls(0, {x: 1} if x.extent != 1 else None)
        return cls(int(x))

    # -- what is known of it -----------------------------------------------------------------------------------------
    @property
    def low(self) -> int:
        return self.const + sum(c * (a.low if c > 0 else a.high) for a, c in self.terms.items())

    @property
    def high(self) -> int:
        return self.const + sum(c * (a.high if c > 0 else a.low) for a, c in self.terms.items())

    @property
    def is_constant(self) -> bool:
        return not self.terms

    def coefficient(self, var: Var) -> int | None:
        """How far one step of ``var`` goes; None if that is not a constant (the variable is inside a quotient)."""
        if any(isinstance(a, Quotient) and var in a.numerator.variables for a in self.terms):
            return None
        return self.terms.get(var, 0)

    @property
    def variables(self) -> frozenset[Var]:
        return frozenset(self._walk())

    def _walk(self) -> Iterator[Var]:
        for atom in self.terms:
            if isinstance(atom, Var):
                yield atom
            else:
                yield from atom.numerator._walk()

    @property
    def quotients(self) -> tuple[Quotient, ...]:
        return tuple(a for a in self.terms if isinstance(a, Quotient))

    # -- arithmetic --------------------------------------------------------------------------------------------------
    def __add__(self, other: Affine | int) -> Affine:
        if not isinstance(other, Affine):
            return Affine(self.const + int(other), self.terms)
        terms = dict(self.terms)
        for atom, c in other.terms.items():
            total = terms.get(atom, 0) + c
            if total:
                terms[atom] = total
            else:
                del terms[atom]
        return Affine(self.const + other.const, terms)

    __radd__ = __add__

    def __mul__(self, factor: int) -> Affine:
        if factor == 0:
            return Affine()
        return self if factor == 1 else Affine(self.const * factor, {a: c * factor for a, c in self.terms.items()})

    __rmul__ = __mul__

    def __neg__(self) -> Affine:
        return self * -1

    def __sub__(self, other: Affine | int) -> Affine:
        return self + (other * -1)

    def __rsub__(self, other: int) -> Affine:
        return self * -1 + other

    def __floordiv__(self, n: int) -> Affine:
        """self = n·whole + rest, so the quotient is ``whole`` plus that of ``rest``, often the same for all of it."""
        if n == 1:
            return self
        whole = Affine(self.const // n, {a: c // n for a, c in self.terms.items() if c % n == 0})
        rest = Affine(self.const % n, {a: c for a, c in self.terms.items() if c % n})
        if rest.low // n == rest.high // n:
            return whole + rest.low // n
        return whole + _quotient(rest, n)

    def __mod__(self, n: int) -> Affine:
        return self - (self // n) * n

    def substitute(self, mapping: Mapping[Var, Affine]) -> Affine:
        """Variables replaced by forms; quotients are simplified again."""
        if not any(v in mapping for v in self._walk()):
            return self
        total = Affine(self.const)
        for atom, c in self.terms.items():
            if isinstance(atom, Var):
                new = mapping.get(atom)
                total = total + (Affine(0, {atom: 1}) if new is None else new) * c
            else:
                total = total + (atom.numerator.substitute(mapping) // atom.divisor) * c
        return total

    # -- identity ----------------------------------------------------------------------------------------------------
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Affine) and self.const == other.const and self.terms == other.terms

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash((self.const, frozenset(self.terms.items())))
        return self._hash

    def __str__(self) -> str:
        parts = sorted(str(a) if c == 1 else f"{c}*{a}" for a, c in self.terms.items())
        if self.const or not parts:
            parts.append(str(self.const))
        return " + ".join(parts).replace("+ -", "- ")

    __repr__ = __str__


def _quotient(rest: Affine, n: int) -> Affine:
    """rest // n as an atom in lowest terms; a quotient of a quotient is one quotient."""
    common = math.gcd(n, *rest.terms.values())
    if common > 1:
        return Affine(rest.const // common, {a: c // common for a, c in rest.terms.items()}) // (n // common)
    if len(rest.terms) == 1:
        ((atom, c),) = rest.terms.items()
        if c == 1 and isinstance(atom, Quotient):
            return (atom.numerator + rest.const * atom.divisor) // (atom.divisor * n)
    return Affine(0, {Quotient(rest, n): 1})


def split_point(forms: Iterator[Affine]) -> tuple[Var, int] | None:
    """A variable and an inner extent: cutting the variable so makes a quotient among ``forms`` affine."""
    for form in forms:
        for quotient in form.quotients:
            found = _split_for(quotient)
            if found:
                return found
    return None


def _split_for(quotient: Quotient) -> tuple[Var, int] | None:
    for atom, c in quotient.numerator.terms.items():
        if isinstance(atom, Quotient):
            inner = _split_for(atom)
            if inner:
                return inner
        elif c % quotient.divisor:
            size = quotient.divisor // math.gcd(quotient.divisor, c)
            if 1 < size < atom.extent and atom.extent % size == 0:
                return atom, size
    return None
