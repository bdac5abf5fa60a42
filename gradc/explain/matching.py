"""What rules look at formulas with: the names in use, and questions about a formula's form.

Start reading at `Names`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from gradc.explain.formula import (
    ONE,
    UNIT,
    Apply,
    Factor,
    Formula,
    Labels,
    Number,
    Product,
    Symbol,
    in_place,
    negative,
    product,
    restricted,
    split,
    value_of,
    varying_axes,
)


@dataclass
class Names:
    """Quantities that are shown by name: what each one is, and which one a formula is."""

    definitions: dict[str, Formula]
    known: dict[Formula, Symbol]
    extents: Mapping[str, int] = field(default_factory=dict)  #: array extents that are shown by name
    facts: Mapping[str, frozenset[str]] = field(default_factory=dict)  #: what the user declared, by name
    asked: set[tuple[str, str]] = field(default_factory=set)  #: facts that were asked for and hold
    parts: dict[str, list[tuple[Symbol, Product]]] = field(default_factory=dict)  #: the user's products, by a symbol
    spelled: dict[str, list[Formula]] = field(default_factory=dict)  #: by name, what was made known under it
    mentions: dict[str, dict[str, None]] = field(default_factory=dict)  #: by name, definitions that it occurs in

    def define(self, symbol: Symbol, meaning: Formula) -> None:
        """``symbol`` is ``meaning`` from now on, in any other line too, along more axes or not."""
        if meaning == symbol:  # another node of the same value
            return
        self.definitions[symbol.name] = meaning
        for name in meaning.symbols:
            self.mentions.setdefault(name, {})[symbol.name] = None
        if meaning.parts and value_of(meaning) is None:
            small = _without_idle_axes(meaning)
            self.known.setdefault(small, symbol)
            self.spelled.setdefault(symbol.name, []).append(small)

    def offer(self, symbol: Symbol, meaning: Formula) -> None:
        """``symbol`` may be found in larger products, if it is a product."""
        if isinstance(meaning, Product) and len(meaning.factors) > 1:
            self.parts.setdefault(max(meaning.symbols, default=""), []).append((symbol, meaning))

    def products(self, symbols: frozenset[str]) -> list[tuple[Symbol, Product]]:
        """The user's products that are made of ``symbols``."""
        found = [part for name in sorted(symbols & self.parts.keys()) for part in self.parts[name]]
        return [(symbol, meaning) for symbol, meaning in found if meaning.symbols <= symbols]

    def forget(self, meaning: Formula, name: str) -> Symbol | None:
        """Take the name away from ``meaning``, and whatever else has it; its symbol, if it stood for ``meaning``."""
        symbol = self.known.get(_without_idle_axes(meaning))
        for place, offered in self.parts.items():
            self.parts[place] = [part for part in offered if part[0].name != name]
        for other in self.spelled.pop(name, ()):
            if other in self.known and self.known[other].name == name:
                del self.known[other]
        return symbol if symbol is not None and symbol.name == name else None

    def defined_with(self, name: str) -> list[str]:
        """The names whose definitions mention ``name``."""
        found = self.mentions.get(name, {})
        return [other for other in found if other in self.definitions and name in self.definitions[other].symbols]

    def named(self, x: Formula) -> Formula:
        """``x`` or a multiple of it by its name, if it has one."""
        if not x.parts:
            return x
        c, bare = split(x)
        small = _without_idle_axes(x)
        inner = _without_idle_axes(bare)
        for factor, candidate in ((ONE, small), (c, inner), (-c, negative(inner))):
            symbol = self.known.get(candidate)
            if symbol is not None and (axes := _same_axes(symbol, x)) is not None:
                return product(x.shape, [Factor(symbol, axes)], factor)
        return x

    def has(self, x: Formula, fact: str) -> bool:
        """Whether the user declared ``fact`` of ``x``; a yes is noted in ``asked``."""
        if not isinstance(x, Symbol) or fact not in self.facts.get(x.name, ()):
            return False
        self.asked.add((x.name, fact))
        return True

    def is_onehot(self, x: Formula) -> bool:
        """Whether ``x`` is one-hot along its last axis, as computed or as declared."""
        return called(self.meaning(x), "onehot") is not None or self.has(x, "one_hot")

    def meaning(self, x: Formula) -> Formula:
        """What a symbol stands for; any other formula itself."""
        return self.definitions.get(x.name, x) if isinstance(x, Symbol) else x


def _without_idle_axes(x: Formula) -> Formula:
    """``x`` on the axes along which it varies."""
    return restricted(x, sorted(varying_axes(x)))


def _same_axes(symbol: Symbol, x: Formula) -> Labels | None:
    """The axes of the symbol where the axes are along which ``x`` varies; None if it repeats ``x`` along others."""
    axes = sorted(varying_axes(x))
    if len(axes) != sum(n != 1 for n in symbol.shape):
        return None
    places = iter(axes)
    return tuple(UNIT if n == 1 else next(places) for n in symbol.shape)


def called(x: Formula, *names: str) -> Apply | None:
    """``x`` as a call of one of the functions ``names``, or None."""
    return x if isinstance(x, Apply) and x.name in names else None


def factors_of(x: Formula) -> tuple[Number, tuple[Factor, ...]]:
    """``x`` as a number and factors in its own axes."""
    return (x.coef, x.factors) if isinstance(x, Product) else (ONE, (in_place(x),))


def without(factors: Iterable[Factor], *gone: Factor) -> list[Factor]:
    """The factors but for these very ones."""
    return [f for f in factors if not any(f is g for g in gone)]


def kept_axes(x: Apply) -> Labels:
    """The axes of the argument that a reduction keeps."""
    return tuple(a for a in range(x.args[0].ndim) if a not in x.attrs["axes"])


def shown_again(x: Formula, inner: Callable[[Formula], bool]) -> tuple[Formula, Labels] | None:
    """Of a formula that is one base shown again along more axes: the base and its labels."""
    coef, factors = factors_of(x)
    if coef != 1 or len(factors) != 1 or factors[0].exponent != 1 or not inner(factors[0].base):
        return None
    return factors[0].base, factors[0].labels


def reduced_axes(x: Apply) -> Labels:
    """The axes that a function reduces or runs along."""
    axes = x.attrs["axes"]
    assert isinstance(axes, tuple)
    return axes


def single_base(x: Formula) -> Formula:
    """The only factor of a formula that is nothing but that factor, moved."""
    coef, factors = factors_of(x)
    return factors[0].base if coef == 1 and len(factors) == 1 and factors[0].exponent == 1 else x
