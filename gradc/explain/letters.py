"""Letters: Greek ones by the names that programmers write, and functions that are written with a letter."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Any

from gradc.node import OPS

_NAMES = [
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi",
    "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega",
]  # fmt: skip
_SIGNS = "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ"

#: letters by name; lambda is a keyword of Python, so the names people write instead mean it too
GREEK = dict(zip(_NAMES, _SIGNS, strict=True)) | dict.fromkeys(("lam", "lmbda", "lambda_"), "λ")
#: names by letter
NAMES = dict(zip(_SIGNS, _NAMES, strict=True))

#: accents by the names that programmers write, x̂ for xhat
ACCENTS = {"hat": "\u0302", "bar": "\u0304", "tilde": "\u0303", "dot": "\u0307"}
HAT = ACCENTS["hat"]


def split_accent(name: str) -> tuple[str, str]:
    """A name and the word for the accent on it, or the name and nothing."""
    for word, accent in ACCENTS.items():
        if len(name) > 1 and name[-1] == accent:
            return name[:-1], word
    return name, ""


def in_ascii(name: str) -> str:
    """A name with Greek letters and accents spelled out."""
    letter, accent = split_accent(name)
    return "".join(NAMES.get(sign, sign) for sign in letter) + accent


#: functions written in other ops that are written with a letter
COMPOSITES = {"normal_cdf": "Φ", "normal_pdf": "φ"}


_BELOW = str.maketrans("0123456789-", "₀₁₂₃₄₅₆₇₈₉₋")


class _Order:
    """A number in a title, as ``below`` writes it, an index, or ``primes``, a derivative."""

    def __init__(self, value: float):
        self.value = value

    def __format__(self, how: str) -> str:
        if how == "primes":
            n = int(self.value)
            return "′" * n if n < 4 else "⁽" + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(d)] for d in str(n)) + "⁾"
        whole = float(self.value).is_integer()
        return f"{int(self.value)}".translate(_BELOW) if whole else f"_{self.value:g}"


def call_name(name: str, attrs: Mapping[str, Any] | None = None) -> str:
    """What formulas call a function: the op of that name says so in its record, attributes in braces."""
    op = OPS.get(name)
    found = (op.title if op is not None else COMPOSITES.get(name)) or name
    if attrs is None or "{" not in found:
        return found
    return found.format_map({key: _Order(value) for key, value in attrs.items()})


def named_attributes(name: str) -> frozenset[str]:
    """The attributes that a function's title writes."""
    op = OPS.get(name)
    parts = Formatter().parse(op.title) if op is not None else ()
    return frozenset(field for _, field, _, _ in parts if field)
