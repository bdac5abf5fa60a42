"""Every elementwise op: what its lowering emits computes what its NumPy reference says, for every dtype that it takes.

Enters: the registry, walked.  Leaves: one case per op, dtypes and attributes; each is compiled at one lane and at the
lanes of a register.  Invariant: an op that is rounded correctly must agree bit for bit, −0 included; only the sign and
payload of NaN are free, and which zero maximum and minimum take from a tie of zeros.  Start reading at `cases`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import mpmath
import numpy as np
import pytest

import gradc  # noqa: F401  (fills the registry)
from gradc.aval import Aval
from gradc.codegen.elementary import polygamma
from gradc.codegen.target import Target
from gradc.errors import DTypeError
from gradc.node import OPS
from gradc.ops.elementwise import loop_dtypes
from gradc.ops.randomness import PARTS
from gradc.ops.record import Kind, Op
from tests.elementary_harness import Array, random_bits, specials, ulp_errors
from tests.lowering_harness import compile_lowering

DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")
HOST = Target.host()

#: Errors in units in the last place of float64 references that have no wider form: what the C library documents for
#: those that Python's math module computes; for those of our own, what is tested below and in
#: tests/test_elementary_polygamma.py.
REFERENCE_ULP = {
    "erf": 1.0,
    "erfc": 5.0,
    "erfinv": 1.5,
    "erfcinv": 2.0,
    "normal_of_bits": 1.0,
    "lgamma": 5.0,
    "digamma": OPS["digamma"].bound("float64") or 0.0,
    "polygamma": polygamma.ulp(polygamma.TESTED_ORDER),
}
#: The largest error that NumPy allows its own float64 functions; it counts where long double is no wider than double.
NUMPY_ULP = 4.0
WIDER = np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant
#: Functions with zeros that no number hits: their bound is relative to the result only from here on.
RELATIVE_FROM = {"lgamma": -0.5, "digamma": 0.0, "polygamma": 0.0}
#: NumPy leaves open which zero comes out of a tie of zeros.
TIES_OF_ZEROS = {"maximum", "minimum"}


#: Draws by rejection, and their derivatives, in tests/test_random_rejection.py.
DRAWN = {"gamma_draw", "gamma_moment", "poisson_draw", "binomial_draw"}


# -- the table -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Case:
    op: Op
    dtypes: tuple[str, ...]
    result: str
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = "".join(f",{k}={v}" for k, v in self.attrs.items())
        return f"{self.op.name}({','.join(self.dtypes)}{shown})"

    @property
    def bound(self) -> float | None:
        """Units in the last place that the result may be off; None stands for equality."""
        if self.op.name == "polygamma":
            return polygamma.ulp(self.attrs["n"])
        error = self.op.bound(self.result)
        return error if error and error > 0.5 and self.result.startswith("float") else None


def cases() -> Iterator[Case]:
    for op in OPS.values():
        if op.kind is not Kind.ELEMENTWISE or op.expand is not None or op.name in DRAWN:
            continue
        if op.name == "where":
            yield from (Case(op, ("bool", d, d), d) for d in DTYPES)
        elif op.name == "threefry":
            yield from (Case(op, ("uint32",) * 4, str(dtype), {"part": part}) for part, dtype in PARTS.items())
        elif op.name in ("fraction", "normal_of_bits"):
            made = {bits: {"dtype": np.dtype(f"float{bits}")} for bits in (32, 64)}
            yield from (Case(op, (f"uint{bits}",), f"float{bits}", attrs) for bits, attrs in made.items())
        elif op.name == "exponent":
            floats = [Aval((), np.dtype(dtype)) for dtype in ("float32", "float64")]
            yield from (Case(op, (str(a.dtype),), str(op.infer(a).dtype)) for a in floats)
        elif op.name == "ldexp":
            yield from (Case(op, (a, "int32"), a) for a in ("float32", "float64"))
        elif op.name == "cast":
            yield from (Case(op, (a,), b, {"dtype": np.dtype(b)}) for a in DTYPES for b in DTYPES)
        elif op.name == "stumpff":
            yield from promoted(op, {"k": 3, "hyperbolic": False})  # the others are in test_smoothness
        elif op.name == "strong_multiply":
            for left, right in ((True, False), (False, True), (True, True)):
                yield from promoted(op, {"left": left, "right": right})
        elif op.name == "gaussian":
            yield from (case for n in (0, 1) for case in promoted(op, {"n": n}))
        elif op.name == "even_square":
            yield from (case for n in (0, 2) for case in promoted(op, {"n": n}))
        elif op.name == "polygamma":
            yield from (case for n in (1, 2, 3) for case in promoted(op, {"n": n}))
        else:
            yield from promoted(op, op.samples[0].attrs if op.samples else {})


def promoted(op: Op, attrs: Mapping[str, Any]) -> Iterator[Case]:
    """One case per loop that the op's dtype rule leads to from equal operands of the tested dtypes.

    NumPy computes small integers in float16; tests/test_narrow.py has those loops.
    """
    seen = set()
    for dtype in DTYPES:
        try:
            *operands, result = map(str, loop_dtypes(op.name, [Aval((1,), np.dtype(dtype))] * arity(op, attrs)))
        except DTypeError:
            continue
        if tuple(operands) not in seen and "float16" not in (*operands, result):
            seen.add(tuple(operands))
            yield Case(op, tuple(operands), result, attrs)


def arity(op: Op, attrs: Mapping[str, Any]) -> int:
    if isinstance(op.numpy, np.ufunc):
        return op.numpy.nin
    return len(inspect.signature(op.numpy).parameters) - len(attrs)


CASES = list(cases())


# -- operands --------------------------------------------------------------------------------------------------------
def values(dtype: str, seed: int) -> tuple[Array, Array]:
    """(special values, random ones of every size) of a dtype."""
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return np.array([False, True]), rng.integers(0, 2, 100).astype(bool)
    if not dtype.startswith("float"):
        info = np.iinfo(dtype)
        edges = [info.min, info.min + 1, -8, -1, 0, 1, 2, 3, 7, info.bits - 1, info.bits, info.max - 1, info.max]
        wide = rng.integers(info.min, info.max, 200, dtype, endpoint=True)
        small = rng.integers(max(info.min, -20), 70, 200).astype(dtype)
        return np.array([v for v in edges if v >= info.min], dtype), np.concatenate([wide, small])
    plain = [rng.normal(size=200) * 3, rng.uniform(-1, 1, 100), rng.integers(-9, 9, 100), rng.integers(-99, 99, 50) / 2]
    return specials(dtype), np.concatenate([random_bits(dtype, 200, seed), *[p.astype(dtype) for p in plain]])


def operands(case: Case) -> list[Array]:
    """All special values with each other, then random ones; less those for which there is no answer to compare with."""
    parts = [values(dtype, seed) for seed, dtype in enumerate(case.dtypes)]
    grid = np.meshgrid(*[special for special, _ in parts])
    count = max(len(random) for _, random in parts)
    out = [np.concatenate([g.ravel(), np.resize(r, count)]) for g, (_, r) in zip(grid, parts, strict=True)]
    name = case.op.name
    if name == "power" and case.dtypes[1].startswith("int"):
        keep = out[1] >= 0  # NumPy raises
    elif name == "cast" and case.dtypes[0].startswith("float") and not case.result.startswith(("float", "bool")):
        info = np.iinfo(case.result)  # NumPy's answer depends on the machine outside
        with np.errstate(invalid="ignore"):
            keep = (np.trunc(out[0]) >= float(info.min)) & (np.trunc(out[0]) < float(info.max))
    elif name in RELATIVE_FROM:
        keep = ~(out[0] < RELATIVE_FROM[name]) | (out[0] == np.rint(out[0]))
    else:
        return out
    return [x[keep] for x in out]


# -- agreement -------------------------------------------------------------------------------------------------------
def identical(a: Array, b: Array) -> Array:
    """Where two arrays have the same bits; any NaN counts as equal to any other."""
    if a.dtype.kind != "f":
        return a == b
    return (np.isnan(a) & np.isnan(b)) | ((a == b) & (np.signbit(a) == np.signbit(b)))


def exact_enough(case: Case, args: list[Array]) -> tuple[Array, float]:
    """The reference in the widest dtype that it has, and its own error in units of the case's result."""
    with np.errstate(invalid="ignore"):  # signalling NaNs
        wide = [x.astype(np.longdouble) if x.dtype.kind == "f" else x for x in args]
    want = np.asarray(case.op.evaluate(*wide, **case.attrs), np.longdouble)
    if case.result == "float32":
        return want, 1e-6
    if case.op.name in REFERENCE_ULP:
        return want, REFERENCE_ULP[case.op.name]
    return want, 0.0 if WIDER else NUMPY_ULP


@dataclass(frozen=True)
class Reference:
    """What a case must give for ``args``: equal bits without a bound, else ``want``, known to ``slack`` units."""

    case: Case
    args: list[Array]
    want: Array
    slack: float
    #: the terms that may cancel, where the op names them
    terms: Array | None

    @classmethod
    def of(cls, case: Case, args: list[Array]) -> Reference:
        if case.bound is None:
            return cls(case, args, np.asarray(case.op.evaluate(*args, **case.attrs)), 0.0, None)
        want, slack = exact_enough(case, args)
        terms = None
        if case.op.scale is not None and case.op.name not in ("logaddexp", *RELATIVE_FROM):
            with np.errstate(all="ignore"):
                terms = case.op.scale(*[x.astype(float) for x in args], **case.attrs)
        return cls(case, args, want, slack, terms)

    def worst(self, got: Array) -> tuple[float, int]:
        """(how far beyond the bound, where); of logaddexp, which may cancel, in units of the largest number."""
        case, want = self.case, self.want
        assert case.bound is not None
        errors = ulp_errors(got, want, case.result)
        with np.errstate(all="ignore"):
            if case.op.name == "logaddexp":
                unit = np.spacing(np.max(np.abs([*self.args, got]), axis=0).astype(case.result))
                absolute = np.abs(got - want) / unit
                errors = np.where(np.isfinite(absolute), absolute, errors)
            elif self.terms is not None:
                absolute = np.abs(got - want) / np.spacing((np.abs(want) + self.terms).astype(case.result))
                errors = np.where(absolute < errors, absolute, errors)
        k = int(errors.argmax())
        return float(errors[k]) - case.bound - self.slack, k

    def check(self, got: Array, lanes: int) -> None:
        case, args, want = self.case, self.args, self.want
        if case.bound is not None:
            excess, k = self.worst(got)
            assert excess <= 0, (lanes, [x[k] for x in args], got[k], excess)
            return
        assert want.dtype == case.result
        same = identical(got, want)
        if case.op.name in TIES_OF_ZEROS:
            same |= (got == 0) & (want == 0)
        k = int(same.argmin())
        assert same.all(), (lanes, [x[k] for x in args], got[k], want[k])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_lowering_computes_what_the_reference_says(case: Case) -> None:
    args = operands(case)
    assert len(args[0]) >= (2 if case.dtypes[0] == "bool" else 40)
    reference = Reference.of(case, args)
    native = min(HOST.lanes(dtype) for dtype in (*case.dtypes, case.result))
    for lanes in (1, native):
        compiled = compile_lowering(lambda b, *xs: case.op.lower(b, *xs, **case.attrs), case.dtypes, lanes)
        assert compiled.result == case.result
        reference.check(compiled(*args), lanes)


def test_every_elementwise_op_has_cases_in_both_floats_or_in_none() -> None:
    """A dtype rule that turned an op down by mistake would leave it untested."""
    integral = {op.name for op in OPS.values() if op.name.startswith("bitwise")} | {"gcd"}
    made_of_bits = {"threefry", "fraction", "normal_of_bits"}
    taken = {case.op.name: {d for c in CASES if c.op is case.op for d in c.dtypes} for case in CASES}
    elementwise = {op.name for op in OPS.values() if op.kind is Kind.ELEMENTWISE and op.expand is None} - DRAWN
    assert taken.keys() == elementwise
    unfit = {name for name, dtypes in taken.items() if not {"float32", "float64"} <= dtypes}
    assert unfit == integral | made_of_bits
    assert all({"int32", "int64", "uint8"} <= taken[name] for name in integral)


def test_the_reference_of_lgamma_keeps_its_bound() -> None:
    rng = np.random.default_rng(0)
    roots = [root + sign * 2.0**-k for root in (1.0, 2.0) for sign in (-1, 1) for k in range(1, 53)]
    x = np.concatenate([rng.uniform(-0.5, 3, 400), rng.uniform(2, 12, 200), np.exp(rng.uniform(-700, 700, 100)), roots])
    with mpmath.workdps(40):
        exact = [mpmath.re(mpmath.loggamma(mpmath.mpf(float(v)))) for v in x]
    errors = ulp_errors(OPS["lgamma"].evaluate(x), exact, "float64")
    assert errors.max() <= REFERENCE_ULP["lgamma"], (x[errors.argmax()], errors.max())
