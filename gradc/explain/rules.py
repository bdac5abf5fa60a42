"""Display rewrites: general identities, each with a name, that bring a formula to the form a textbook prints.

Enters: a `Formula` in normal form.  Leaves: an equal one that is shorter or says more.
Invariant: a rule knows identities, never a model; each is checked by evaluating both sides on random numbers.  They
hold for real numbers where both sides are defined: they are for reading, and no compiled value comes from them.
Start reading at `Simplifier`; `RULES` is the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gradc.explain.formula import Formula, Symbol, rebuilt
from gradc.explain.identities.averages import deviations_cancel
from gradc.explain.identities.convolutions import fold_is_correlation, slice_of_slice
from gradc.explain.identities.densities import density_elsewhere
from gradc.explain.identities.distributions import class_indicator, number_of_mask, selected_element, sums_to_one
from gradc.explain.identities.exponentials import (
    exp_from_expm1,
    logsumexp_shift,
    normal_cdf,
    normal_pdf,
    sigmoid_of_negative,
    softmax_from_logsumexp,
    softmax_quotient,
    softmax_shift,
)
from gradc.explain.identities.facts import root_of_power, sign_of_positive, transpose_of_symmetric, unit_of_diagonal
from gradc.explain.identities.inverses import (
    inverse_cancels,
    inverse_of_multiple,
    inverse_of_transposed,
    leading_vectors,
    symmetric_inverse,
)
from gradc.explain.identities.polynomials import common_denominator, common_factor, multiplied_out
from gradc.explain.identities.selection import (
    extremum_mask,
    mask_is_idempotent,
    mask_of_nonzero,
    opposite_comparison,
    positive_part,
    selection_is_mask,
    singular_mask,
    singular_point,
    tie_is_shared,
)
from gradc.explain.identities.structure import (
    diagonal_by_stride,
    diagonal_placed,
    extent_cancels,
    named_part,
    part_across_sum,
    part_of_constant,
    part_of_placed,
    unit_eliminates,
    unit_joins_indices,
)
from gradc.explain.matching import Names

#: rewrites of one formula beyond this number are a cycle between rules
LIMIT = 100

#: what a formula owes its form to: the name of an array and what the user declared of it, or BY and the name of a rule
Fact = tuple[str, str]
BY = ""
Rewrite = Callable[[Formula, Names], Formula | None]


@dataclass(frozen=True)
class Rule:
    """A named identity."""

    name: str
    statement: str
    rewrite: Rewrite


class Simplifier:
    """Applies `RULES` from the inside out until none applies, and replaces what has a name by its name."""

    def __init__(self, names: Names, rules: Sequence[Rule] | None = None):
        self.names = names
        self.rules = RULES if rules is None else rules
        self.applied: dict[str, Rule] = {}
        self._done: dict[Formula, Formula] = {}
        #: what the present formula owes its form to, and each that is done
        self.owed: frozenset[Fact] = frozenset()
        self._owes: dict[Formula, frozenset[Fact]] = {}
        self._with: dict[str, set[Formula]] = {}  #: by symbol, what is done in which it occurs, before or after

    def __call__(self, x: Formula) -> Formula:
        if isinstance(x, Symbol):
            return x
        known = self._done.get(x)
        if known is None:
            outside, self.owed = self.owed, frozenset()
            known = self._simplified(x)
            self._keep(x, known)
            self._keep(known, known)
            self.owed = outside
        self.owed |= self._owes[x]
        if known == x:
            return x
        return known.including(x.nodes) if known.parts else known

    def _keep(self, x: Formula, simplified: Formula) -> None:
        if x not in self._done:
            self._done[x] = simplified
            self._owes[x] = self.owed if x != simplified else frozenset()
            for name in x.symbols | simplified.symbols:
                self._with.setdefault(name, set()).add(x)

    def forget(self, name: str) -> None:
        """``name`` stands for something else now: what it occurs in may be simplified otherwise."""
        for x in self._with.pop(name, ()):
            self._done.pop(x, None)

    def learn(self, meaning: Formula) -> None:
        """``meaning`` has a name now: what all its symbols occur in may be simplified otherwise."""
        if not meaning.symbols:
            self._done.clear()
            self._with.clear()
            return
        rarest = min(meaning.symbols, key=lambda name: len(self._with.get(name, ())))
        for x in list(self._with.get(rarest, ())):
            done = self._done.get(x)
            if done is not None and meaning.symbols <= x.symbols | done.symbols:
                del self._done[x]

    def _simplified(self, x: Formula) -> Formula:
        x = rebuilt(x, self)
        for _ in range(LIMIT):
            changed = self._rewritten(x)
            if changed is None:
                return self.names.named(x)
            x = rebuilt(changed, self) if not isinstance(changed, Symbol) else changed
        raise AssertionError(f"display rules cycle on {x!r}")

    def _rewritten(self, x: Formula) -> Formula | None:
        for rule in self.rules:
            self.names.asked.clear()
            result = rule.rewrite(x, self.names)
            if result is not None and result != x:
                self.applied[rule.name] = rule
                self.owed |= self.names.asked | {(BY, rule.name)}
                return result.including(x.nodes) if result.parts else result
        return None


RULES: tuple[Rule, ...] = (
    Rule("log-sum-exp shift", "lse(z + c) = lse(z) + c, for c constant along the axes of lse", logsumexp_shift),
    Rule("softmax", "exp(z − lse z) = softmax z", softmax_from_logsumexp),
    Rule("softmax quotient", "exp z / Σ exp z = softmax z", softmax_quotient),
    Rule("softmax shift", "softmax(z + c) = softmax z, for c constant along the axes of softmax", softmax_shift),
    Rule("sigmoid of a negative", "σ(−x) = 1 − σ(x)", sigmoid_of_negative),
    Rule("exponential", "expm1(x) + 1 = exp x", exp_from_expm1),
    Rule("normal distribution function", "(1 + erf(x/√2))/2 = erfc(−x/√2)/2 = Φ(x)", normal_cdf),
    Rule("normal density", "exp(−x²/2)/√(2π) = φ(x)", normal_pdf),
    Rule("opposite comparison", "not (a > b) = (a ≤ b)", opposite_comparison),
    Rule("singular point", "where(x = c, number, f(x)) = f(x) but at the singular point x = c of f", singular_point),
    Rule("singular factor", "1[x ≠ c]·f(x) = f(x) but at the singular point x = c of f", singular_mask),
    Rule("shared tie", "where(a > b, 1, where(a < b, 0, ½)) = 1[a > b], one half at a tie", tie_is_shared),
    Rule("mask", "where(m, a, 0) = a ⊙ 1[m]", selection_is_mask),
    Rule("mask squared", "1[m]² = 1[m]", mask_is_idempotent),
    Rule("mask of a factor", "k·1[k ≠ 0] = k", mask_of_nonzero),
    Rule("positive part", "1[x > 0] = 1[relu x > 0]", positive_part),
    Rule("arg max", "1[a = max a] / Σ 1[a = max a] = onehot(argmax a), shared where elements tie", extremum_mask),
    Rule("one-hot", "1[y = j] = onehot(y)[j]", class_indicator),
    Rule("number of a mask", "a truth value is 0 or 1", number_of_mask),
    Rule("selected element", "onehot ⊙ a ⊘ (Σ onehot ⊙ a)𝟏ᵀ = onehot", selected_element),
    Rule("distribution", "Σ softmax = 1, Σ onehot = 1, over their own axes", sums_to_one),
    Rule("deviations", "Σ (a − mean a) = 0, over the axis of the mean", deviations_cancel),
    Rule("diagonal", "every (n+1)-th element of an n×n matrix is its diagonal", diagonal_by_stride),
    Rule("diagonal matrix", "a vector at every (n+1)-th element of an n×n matrix of zeros is diag v", diagonal_placed),
    Rule("identity matrix", "Σⱼ I[i, j] f(j) = f(i)", unit_eliminates),
    Rule("index of the identity", "I[i, j] f(j) = I[i, j] f(i)", unit_joins_indices),
    Rule("extent", "n·a/n = a, n the extent of an axis", extent_cancels),
    Rule("part of a constant", "a part of an array that is the same everywhere", part_of_constant),
    Rule("part of what is placed", "place(a, I)[I] = a, place(a, I)[J] = 0", part_of_placed),
    Rule(
        "leading singular vectors",
        "U diag(onehot(argmax σ)) Vᵀ = u₁v₁ᵀ, but at a tie of the largest, and at 0",
        leading_vectors,
    ),
    Rule("inverse of a transpose", "(Aᵀ)⁻¹ = (A⁻¹)ᵀ, (A⁻¹)⁻¹ = A, but at a singular A", inverse_of_transposed),
    Rule("inverse of a multiple", "(cA)⁻¹ = A⁻¹/c, but at a singular cA", inverse_of_multiple),
    Rule("inverse", "A⁻¹A = I, but at a singular A", inverse_cancels),
    Rule("symmetric inverse", "A⁻ᵀ = A⁻¹, where A is symmetric, but at a singular A", symmetric_inverse),
    Rule("symmetric", "Aᵀ = A, where A is declared symmetric", transpose_of_symmetric),
    Rule("diagonal kept", "I ⊙ D = D, where D is declared diagonal", unit_of_diagonal),
    Rule("positive", "|a| = a, relu a = a, sign a = 1, 1[a > 0] = 1, where a is positive", sign_of_positive),
    Rule("root of a power", "(aᵏ)^r = a^(kr), where a is positive", root_of_power),
    Rule("correlation", "fold(G ⊗ K) = windows(pad G)·K backwards", fold_is_correlation),
    Rule("part of a part", "x[a:b][c:d] is a part of x", slice_of_slice),
    Rule("density elsewhere", "φ(w) = φ(u)·exp((u² − w²)/2), where a sum gets shorter", density_elsewhere),
    Rule("multiplied out", "(a + b)·c = a·c + b·c, where terms cancel", multiplied_out),
    Rule("common denominator", "a/b + c/d = (a·d + b·c)/(b·d), where terms cancel", common_denominator),
    Rule("part with a name", "a·b·c = v·c, where v is the name of a·b", named_part),
    Rule("part across a sum", "(Σ a·t)·c = Σ a·v, where v is the name of t·c", part_across_sum),
    Rule("common factor", "a·b + a·c = a·(b + c)", common_factor),
)
"""In the order in which they are tried."""

_NOTATION = (
    "opposite comparison", "mask", "one-hot", "mask squared", "number of a mask", "diagonal",
    "identity matrix",
)  # fmt: skip
FORWARD_RULES = tuple(r for r in RULES if r.name in _NOTATION)
"""What the user's own formulas are shown with: notation, no algebra."""
