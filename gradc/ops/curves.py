"""What the tables of special functions are fitted to: smooth functions, in many digits.

Enters: mpmath, a number of the curve's variable, orders.  Leaves: the value.  Invariant: each is smooth on its pieces;
what makes the function itself singular there (a logarithm, a power, an exponential) is taken out, and put back by the
algorithms of `gradc.ops.error_functions`, `gradc.ops.integrals`, `gradc.ops.bessel` and `gradc.ops.elliptic`, which
say what stands in their tables.  Start reading at `curve`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


@dataclass(frozen=True, slots=True)
class Curve:
    """A function of mpmath's numbers that is smooth from ``start`` on for ``count`` steps of width ``step``.

    ``function(mp, v, *orders)`` is called inside the pieces only, never at their ends or middles.
    """

    function: Callable[..., Any]
    start: float
    step: float
    count: int


# -- error functions ---------------------------------------------------------------------------------------------------
#: from here on erfcx and Dawson's function are fitted in (end/x)²
ERFCX_END, DAWSON_END = 4.0, 6.0


def _erfcx(mp: Any, x: Any, n: Any) -> Any:
    """(−1)ⁿ·dⁿ/dxⁿ e^(x²)·erfc x."""
    with mp.extradps(int(n) * 8 + 10):
        before, here = mp.exp(x * x) * mp.erfc(x), None
        here = 2 * x * before - 2 / mp.sqrt(mp.pi)
        if n == 0:
            return before
        for k in range(1, int(n)):
            before, here = here, 2 * x * here + 2 * k * before
        return here * (-1) ** int(n)


def _dawson(mp: Any, x: Any, n: Any) -> Any:
    """dⁿ/dxⁿ of Dawson's integral."""
    with mp.extradps(int(n) * 8 + 10):
        before = mp.sqrt(mp.pi) / 2 * mp.exp(-x * x) * mp.erfi(x)
        here = 1 - 2 * x * before
        if n == 0:
            return before
        for k in range(1, int(n)):
            before, here = here, -2 * x * here - 2 * k * before
        return here


def _far(function: Callable[..., Any], end: float, sign: int) -> Callable[..., Any]:
    """xⁿ⁺¹·f⁽ⁿ⁾(x) in v = (end/x)²."""

    def value(mp: Any, v: Any, n: Any) -> Any:
        x = end / mp.sqrt(v)
        return x ** (int(n) + 1) * function(mp, x, n) * sign ** int(n)

    return value


# -- integrals ---------------------------------------------------------------------------------------------------------
#: the zero of Ei in two parts
EI_ROOT = (0.37250741078136663, 1.3140183414386028e-17)
#: from here on Ei is fitted in end/x, and the sine and cosine integrals in (end/x)²
EI_END, SINE_END, FRESNEL_END = 24.0, 8.0, 4.0


def _entire_ei(mp: Any, x: Any) -> Any:
    """(Ei(x) − log |x| − γ)/x."""
    return mp.hyp2f2(1, 1, 2, 2, x)


def _ei_from_root(mp: Any, x: Any) -> Any:
    """(Ei(x) − log(x/root))/(x − root)."""
    with mp.extradps(20):
        root = mp.findroot(mp.ei, EI_ROOT[0])
        return (mp.ei(x) - mp.log(x / root)) / (x - root)


def _scaled_ei(mp: Any, x: Any) -> Any:
    return x * mp.exp(-x) * mp.ei(x)


def _scaled_en(mp: Any, u: Any, n: Any) -> Any:
    """x·eˣ·Eₙ(x) in u = 1/x."""
    return mp.exp(1 / u) * mp.expint(n, 1 / u) / u


def _entire_en(mp: Any, x: Any, n: Any) -> Any:
    """Eₙ(x) + (−x)ⁿ⁻¹·log x/(n − 1)!."""
    return mp.expint(n, x) + (-x) ** (int(n) - 1) / mp.factorial(n - 1) * mp.log(x)


def _auxiliary(mp: Any, x: Any, power: int) -> Any:
    """x·f(x) or x²·g(x), A&S 5.2.6 and 5.2.7."""
    with mp.extradps(15):
        rest = mp.pi / 2 - mp.si(x)
        if power == 1:
            return x * (mp.ci(x) * mp.sin(x) + rest * mp.cos(x))
        return x * x * (rest * mp.sin(x) - mp.ci(x) * mp.cos(x))


def _fresnel(mp: Any, v: Any, part: int) -> Any:
    """πx·f, or π²x³·g, of A&S 7.3.9 and 7.3.10 in v = (end/x)²."""
    x = FRESNEL_END / mp.sqrt(v)
    with mp.extradps(20):
        s, c = mp.mpf(1) / 2 - mp.fresnels(x), mp.mpf(1) / 2 - mp.fresnelc(x)
        sine, cosine = mp.sin(mp.pi * x * x / 2), mp.cos(mp.pi * x * x / 2)
        if part == 0:
            return mp.pi * x * (s * cosine - c * sine)
        return mp.pi**2 * x**3 * (c * cosine + s * sine)


def _quotient(mp: Any, x: Any, n: Any, hyperbolic: Any) -> Any:
    """dⁿ/dxⁿ of sin x/x or sinh x/x, over x for odd n: a series in x²."""
    n, sign = int(n), 1 if hyperbolic else -1
    total, k = mp.mpf(0), -(-n // 2)
    while True:
        term = sign**k * x ** (2 * k - n - n % 2) * mp.ff(2 * k, n) / mp.factorial(2 * k + 1)
        total += term
        if k > x and abs(term) < mp.eps * abs(total) * 1e-6 + mp.mpf(10) ** -70:
            return total
        k += 1


def _moment(mp: Any, x: Any, n: Any) -> Any:
    """∫₀¹ tⁿ·eˣᵗ dt."""
    return mp.hyp1f1(n + 1, n + 2, x) / (n + 1)


def _log_quotient(mp: Any, x: Any, n: Any) -> Any:
    """(−1)ⁿ·dⁿ/dxⁿ log x/(x − 1)."""
    return mp.factorial(n) * mp.hyp2f1(n + 1, n + 1, n + 2, 1 - x) / (n + 1)


def _dilogarithm_quotient(mp: Any, x: Any) -> Any:
    """Li₂(1 − x)/(1 − x)."""
    return mp.re(mp.polylog(2, 1 - x)) / (1 - x)


# -- Bessel functions --------------------------------------------------------------------------------------------------
def bessel_end(order: float) -> float:
    """From here on Bessel functions are fitted to their asymptotic form."""
    return 8.0 + 2.0 * int(abs(order) + 0.999)


def bessel_scale(order: float) -> float:
    """The power of two c for which (c·x)^order is about as large as a Bessel function, for x up to `bessel_end`."""
    return 2.0 ** -max((int(abs(order)) + 1).bit_length() - 1, 0)


#: below, the functions of the second kind are sums of an entire function and one with a logarithm
Y_START, K_START = 2.0, 0.5


def _power(mp: Any, x: Any, order: Any) -> Any:
    return (x * bessel_scale(float(order))) ** order


def _asymptotic(mp: Any, order: Any, x: Any) -> list[Any] | None:
    """The terms aₖ(order)/xᵏ of A&S 9.7, until they vanish; None where they begin to grow before."""
    terms, k = [mp.mpf(1)], 0
    while abs(terms[-1]) > mp.eps / 16:
        k += 1
        terms.append(terms[-1] * (4 * order**2 - (2 * k - 1) ** 2) / (8 * k * x))
        if abs(terms[-1]) > abs(terms[-2]) and k > order:
            return None
    return terms


def second_kind(mp: Any, order: Any, x: Any, sign: int) -> Any:
    """Y for sign −1, K for 1: by series of order 0 and 1 and the recurrence upwards where the order is whole."""
    if order != int(order):
        return mp.bessely(order, x) if sign < 0 else mp.besselk(order, x)
    with mp.extradps(10 + int(x)):
        before, here = _of_orders_0_and_1(mp, x, sign)
        if order == 0:
            return before
        for n in range(1, int(order)):
            before, here = here, 2 * n / x * here + sign * before
        return here


def _of_orders_0_and_1(mp: Any, x: Any, sign: int) -> tuple[Any, Any]:
    """Y or K by A&S 9.1.11 and 9.6.11 in z = ∓x²/4, in whole numbers of 2^−bits."""
    bits = mp.prec + 2 * int(x) + 20
    one = 1 << bits
    z = int(mp.nint(mp.ldexp(x * x / 4, bits))) * sign
    term, harmonic, first, second, i0, i1, k = one, 0, 0, 0, 0, 0, 0
    while term:
        next_ = term // (k + 1)
        i0, i1 = i0 + term, i1 + next_
        first += term * harmonic >> bits
        second += next_ * (2 * harmonic + one // (k + 1)) >> bits
        k += 1
        harmonic += one // k
        term = (term * z >> bits) // (k * k)
        term = 0 if term == -1 else term
    scale = mp.ldexp(1, -bits)
    logarithm = mp.log(x / 2) + mp.euler
    zeroth = first * scale - logarithm * (i0 * scale)
    once = 1 / x + sign * (logarithm * (i1 * scale) * x / 2 - x / 4 * (second * scale))
    return (zeroth, once) if sign > 0 else (-2 / mp.pi * zeroth, -2 / mp.pi * once)


def _hankel(mp: Any, v: Any, order: Any, part: int) -> Any:
    """P, or x·Q, of A&S 9.2.5 in v = (end/x)²: J = √(2/πx)·(P·cos χ − Q·sin χ)."""
    x = bessel_end(float(order)) / mp.sqrt(v)
    terms = _asymptotic(mp, order, x)
    if terms is not None:
        return sum((-1) ** k * t for k, t in enumerate(terms[part::2])) * (x if part else 1)
    return _turned_back(mp, x, order)[part]


@lru_cache(1024)
def _turned_back(mp: Any, x: Any, order: Any) -> tuple[Any, Any]:
    """P and x·Q, of J and Y."""
    with mp.extradps(15):
        chi = x - (order / 2 + mp.mpf(1) / 4) * mp.pi
        j, y = mp.besselj(order, x), second_kind(mp, order, x, -1)
        root, cosine, sine = mp.sqrt(mp.pi * x / 2), mp.cos(chi), mp.sin(chi)
        return root * (j * cosine + y * sine), x * root * (y * cosine - j * sine)


def _entire_y(mp: Any, x: Any, n: Any) -> Any:
    """(Yₙ − 2/π·log x·Jₙ)·(cx)ⁿ for whole n."""
    with mp.extradps(20):
        return (second_kind(mp, n, x, -1) - 2 / mp.pi * mp.log(x) * mp.besselj(n, x)) * _power(mp, x, n)


def _entire_k(mp: Any, x: Any, n: Any) -> Any:
    """(Kₙ + (−1)ⁿ·log x·Iₙ)·(cx)ⁿ for whole n."""
    with mp.extradps(20):
        return (second_kind(mp, n, x, 1) + (-1) ** int(n) * mp.log(x) * mp.besseli(n, x)) * _power(mp, x, n)


def _far_i(mp: Any, v: Any, order: Any) -> Any:
    """√x·e⁻ˣ·I in v = end/x."""
    x = bessel_end(float(order)) / v
    return mp.sqrt(x) * mp.besseli(order, x) * mp.exp(-x)


def _far_k(mp: Any, v: Any, order: Any) -> Any:
    """√x·eˣ·K in v = end/x."""
    x = bessel_end(float(order)) / v
    terms = _asymptotic(mp, order, x)
    if terms is not None:
        return mp.sqrt(mp.pi / 2) * sum(terms)
    return mp.sqrt(x) * second_kind(mp, order, x, 1) * mp.exp(x)


def _bessel(name: str, order: float) -> Curve:
    end = bessel_end(order)
    sixteenth = 1 / 16
    if name == "p":
        return Curve(lambda mp, v, o: _hankel(mp, v, o, 0), 0.0, sixteenth, 16)
    if name == "q":
        return Curve(lambda mp, v, o: _hankel(mp, v, o, 1), 0.0, sixteenth, 16)
    if name in ("ifar", "kfar"):
        return Curve(_far_i if name == "ifar" else _far_k, 0.0, sixteenth, 16)
    if name == "j":
        return Curve(lambda mp, x, o: mp.besselj(o, x) / _power(mp, x, o), 0.0, 0.5, int(2 * end))
    if name == "i":
        return Curve(lambda mp, x, o: mp.besseli(o, x) / _power(mp, x, o), 0.0, 0.5, int(2 * end))
    if name == "y":
        return Curve(
            lambda mp, x, o: second_kind(mp, o, x, -1) * _power(mp, x, o), Y_START, 0.5, int(2 * (end - Y_START))
        )
    if name == "k":
        return Curve(
            lambda mp, x, o: second_kind(mp, o, x, 1) * mp.exp(x) * _power(mp, x, o),
            K_START,
            0.25,
            int(4 * (end - K_START)),
        )
    if name == "ynear":
        return Curve(_entire_y, 0.0, 0.5, int(2 * Y_START))
    return Curve(_entire_k, 0.0, 0.5, int(2 * K_START))


# -- elliptic integrals ------------------------------------------------------------------------------------------------
def _hypergeometric(mp: Any, p: Any, a: Any, b: Any, c: Any) -> Any:
    """₂F₁(a, b; c; 1 − p)."""
    return mp.hyp2f1(a, b, c, 1 - p)


def _logarithmic(mp: Any, p: Any, a: Any, b: Any, c: Any) -> Any:
    """B of ₂F₁(a, b; c; 1 − p) = A(p) + p^s·B(p)·log p with s = c − a − b a whole number >= 0 (DLMF 15.8.10)."""
    s = int(mp.nint(c - a - b))
    factor = -((-1) ** s) * mp.gamma(c) * mp.rgamma(a) * mp.rgamma(b) / mp.factorial(s)
    return factor * mp.hyp2f1(a + s, b + s, s + 1, p)


def _regular(mp: Any, p: Any, a: Any, b: Any, c: Any) -> Any:
    """A of the same."""
    s = int(mp.nint(c - a - b))
    with mp.extradps(20):
        return mp.hyp2f1(a, b, c, 1 - p) - p**s * mp.log(p) * _logarithmic(mp, p, a, b, c)


#: by name, but for Bessel functions; what takes orders is of their arguments
_CURVES: dict[str, Curve] = {
    "error_erfcx": Curve(_erfcx, 0.0, 0.25, 16),
    "error_erfcxfar": Curve(_far(_erfcx, ERFCX_END, 1), 0.0, 1 / 16, 16),
    "error_dawson": Curve(lambda mp, x, n: _dawson(mp, x, n) / (x if n % 2 == 0 else 1), 0.0, 0.25, 24),
    "error_dawsonfar": Curve(_far(_dawson, DAWSON_END, -1), 0.0, 1 / 16, 16),
    "error_erfi": Curve(lambda mp, x: mp.erfi(x) / x, 0.0, 0.25, 4),
    "integral_ein": Curve(_entire_ei, -0.25, 0.25, 2),
    "integral_eiroot": Curve(_ei_from_root, 0.25, 0.25, 3),
    "integral_ei": Curve(_scaled_ei, 1.0, 0.5, 46),
    "integral_eifar": Curve(lambda mp, v: _scaled_ei(mp, EI_END / v), 0.0, 1 / 16, 16),
    "integral_e1": Curve(lambda mp, x: mp.expint(1, x), 0.25, 1 / 16, 12),
    "integral_enfar": Curve(_scaled_en, 0.0, 1 / 32, 32),
    "integral_en": Curve(_entire_en, 0.0, 0.25, 4),
    "integral_si": Curve(lambda mp, x: mp.si(x) / x, 0.0, 0.5, 16),
    "integral_cin": Curve(lambda mp, x: (mp.ci(x) - mp.log(x) - mp.euler) / x**2, 0.0, 0.5, 4),
    "integral_ci": Curve(lambda mp, x: mp.ci(x), 2.0, 0.5, 12),
    "integral_f": Curve(lambda mp, v: _auxiliary(mp, SINE_END / mp.sqrt(v), 1), 0.0, 1 / 16, 16),
    "integral_g": Curve(lambda mp, v: _auxiliary(mp, SINE_END / mp.sqrt(v), 2), 0.0, 1 / 16, 16),
    "integral_shi": Curve(lambda mp, x: mp.shi(x) / x, 0.0, 0.5, 4),
    "integral_chin": Curve(lambda mp, x: (mp.chi(x) - mp.log(x) - mp.euler) / x**2, 0.0, 0.5, 4),
    "integral_logquotient": Curve(_log_quotient, 0.5, 0.125, 12),
    "integral_logquotientfar": Curve(_log_quotient, 2.0, 0.5, 20),
    "integral_spence": Curve(_dilogarithm_quotient, 0.5, 0.125, 12),
    "integral_fresnels": Curve(lambda mp, x: mp.fresnels(x) / x**3, 0.0, 0.25, 16),
    "integral_fresnelc": Curve(lambda mp, x: mp.fresnelc(x) / x, 0.0, 0.25, 16),
    "integral_fresnelf": Curve(lambda mp, v: _fresnel(mp, v, 0), 0.0, 1 / 16, 16),
    "integral_fresnelg": Curve(lambda mp, v: _fresnel(mp, v, 1), 0.0, 1 / 16, 16),
    "elliptic_f": Curve(_hypergeometric, 0.5, 0.125, 12),
    "elliptic_a": Curve(_regular, 0.0, 0.125, 4),
    "elliptic_b": Curve(_logarithmic, 0.0, 0.125, 4),
}


def curve(name: str, *orders: float) -> Curve:
    """The curve of this name; where its pieces lie may depend on its orders."""
    family, _, rest = name.partition("_")
    if family == "bessel":
        return _bessel(rest, orders[0])
    if name == "integral_quotient":
        return Curve(_quotient, 0.0, 0.5, 2 * int(4 + orders[0]))
    if name == "integral_moment":
        return Curve(_moment, -4.0 - orders[0], 0.5, 4 * int(4 + orders[0]))
    return _CURVES[name]


def hypergeometric_orders(kind: str, n: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(a, b, c) of the n-th derivative of K or E, near m = 1 and, by Pfaff's transformation, for m far below 0."""
    if kind == "k":
        return (0.5, 0.5, n + 1.0), (0.5, n + 0.5, n + 1.0)
    if n == 0:
        return (-0.5, 0.5, 1.0), (-0.5, 0.5, 1.0)
    return (0.5, 1.5, n + 1.0), (0.5, n - 0.5, n + 1.0)


def _elliptic_keys() -> list[tuple[Any, ...]]:
    found = []
    for kind in "ke":
        for n in range(4):
            near, far = hypergeometric_orders(kind, n)
            found += [("elliptic_f", *near), *((f"elliptic_{x}", *o) for x in "ab" for o in (near, far))]
    return sorted(set(found))


#: what ``tables/`` holds
SHIPPED: list[tuple[Any, ...]] = [
    *((name, n) for name in _CURVES if name[:7] in ("error_e", "error_d") and name != "error_erfi" for n in range(4)),
    ("error_erfi",),
    *(
        (name,)
        for name in _CURVES
        if name[:9] == "integral_" and name[9:] not in ("enfar", "en", "logquotient", "logquotientfar")
    ),
    *((name, n) for name in ("integral_enfar", "integral_en") for n in (1, 2, 3) if (name, n) != ("integral_en", 1)),
    *((f"integral_logquotient{x}", n) for x in ("", "far") for n in range(4)),
    *(("integral_quotient", n, h) for n in range(4) for h in (0, 1)),
    *(("integral_moment", n) for n in range(4)),
    *((f"bessel_{x}", n) for x in ("j", "p", "q", "y", "ynear", "i", "ifar", "k", "kfar", "knear") for n in range(4)),
    *((f"bessel_{x}", v) for x in ("j", "p", "q", "y", "i", "ifar", "k", "kfar") for v in (0.5, 1.5)),
    *((f"bessel_{x}", v) for x in "ji" for v in (-0.5, -1.5)),
    *_elliptic_keys(),
]
