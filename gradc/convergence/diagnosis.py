"""`diagnose`: how a run converges, by what its history says.

Enters: a history, or losses.  Leaves: a `Diagnosis`: monotone, oscillating, diverging or stalled; at which rate; what
textbooks give for the way of descent; and what to change.  Start reading at `diagnose`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradc.convergence.landscapes import Landscape
from gradc.convergence.rates import Rate, rate_of, slope_of
from gradc.convergence.words import number, table, wrapped
from gradc.node import here
from gradc.training.history import History

if TYPE_CHECKING:
    from gradc.training.run import Run

Array = np.ndarray[Any, Any]

#: ways of descent by the size of a batch, with the rates of a convex and of a strongly convex function
RATES = {
    "batch": "batch descent: O(1/k) for convex functions, C·qᵏ (linear) for strongly convex ones",
    "sgd": "single samples (SGD): O(1/√k) for convex functions, O(1/k) for strongly convex ones with rates like 1/k",
    "mini-batch": "mini-batches of b: O(1/√(bk) + 1/k) for convex functions",
}
#: steps that turn back on the one before, of all steps, where a run oscillates
TURNS = 0.5
#: rises of all changes, where losses oscillate
RISES = 0.1
#: gradient norms below this part of the first one are those of a minimum
SMALL_GRADIENT = 1e-3


@dataclass(frozen=True)
class Diagnosis:
    """What a history says of its run; ``print(diagnosis)`` says it with what to change."""

    behaviour: str  #: "monotone", "oscillating", "diverging" or "stalled"
    rate: Rate  #: linear, sublinear, superlinear or none, with interval and confidence
    noisy: bool  #: losses scatter, as those of samples do
    converged: bool  #: the loss moves no more, or the gradient is small: this is the end
    batch: str  #: "batch", "sgd" or "mini-batch", given or taken from the scatter
    size: int | None  #: of a mini-batch, if it was given
    first: float
    last: float
    steps: int
    why: str  #: what of the history shows the behaviour
    against: str  #: the rate beside those of textbooks
    remedies: tuple[str, ...]
    predicted: str = ""  #: what a landscape says of the learning rate

    def __str__(self) -> str:
        head = f"{self.behaviour}{' to its end' if self.converged and self.behaviour != 'stalled' else ''}: "
        rows = [("rate", self._rate_words()), ("textbooks", RATES[self.batch]), ("here", self.against)]
        if self.predicted:
            rows.append(("learning rate", self.predicted))
        lines = [wrapped(f"  • {remedy}", 4) for remedy in self.remedies]
        loss = f"loss {number(self.first)} → {number(self.last)} in {self.steps:,} steps"
        return "\n".join([wrapped(f"{head}{self.why}; {loss}"), "", *table(rows), *([""] if lines else []), *lines])

    def _rate_words(self) -> str:
        r = self.rate
        sure = "" if math.isnan(r.confidence) else f", {100 * min(r.confidence, 0.999):.3g} % sure"
        within = "" if math.isnan(r.low) else f" [{number(_short(r.low))}, {number(_short(r.high))}]"
        if r.kind == "linear":
            tenth = f"a tenth of the error in {r.steps_for(10):,.3g} steps"
            return f"linear: the error is C·qᵏ with q = {number(_short(r.value))}{within}{sure}; {tenth}"
        if r.kind == "sublinear":
            more = r.steps_for(10)
            tenth = f"takes {more:,.3g} times as many steps" if more < _FAR else "is out of reach"
            tenth = f"a tenth of the error {tenth}"
            return f"sublinear: the error is about C/kᵖ with p = {r.value:.3g}{within}{sure}; {tenth}"
        if r.kind == "superlinear":
            if math.isinf(r.value):
                return "superlinear: the minimum in a step, as Newton's method finds that of a quadratic"
            return f"superlinear: e(k+1) ≈ C·e(k)ʳ with r = {r.value:.3g}{within}; digits multiply at each step"
        return "none that can be told from this history"


#: so many times the steps that were taken are out of reach
_FAR = 1e9


def _short(value: float) -> float:
    """Four digits, of numbers near 1 four of the distance from it."""
    if 0.9 < value < 1:
        return 1 - float(f"{1 - value:.3g}")
    return float(f"{value:.3g}")


def diagnose(
    history: Run | History | Sequence[float] | Array,
    *,
    column: str = "loss",
    batch: str | int | None = None,
    minimum: float | None = None,
    gradient_norms: Any = None,
    iterates: Any = None,
    learning_rate: float | None = None,
    landscape: Landscape | None = None,
) -> Diagnosis:
    """How a run converges: its behaviour, its rate with an interval, what textbooks say of such a run, and a remedy.

    ``history``: a run that `gc.fit` returned or its `gc.History`, of which ``column`` is read and "gradient_norm" and
    "learning_rate" where they are not given, or losses at equal distances. ``batch``: "batch", "sgd" (single samples),
    "mini-batch" or its size; taken from the scatter of the losses if None. ``minimum``: the least value of the loss, if
    it is known; no rate needs it, and rates are sharper with it. ``gradient_norms``: one per loss. ``iterates``:
    parameters, an array of shape (losses, n) or (losses,): steps that turn back show an oscillation that losses hide,
    for a loss may fall at each step while the parameters jump over the minimum. ``learning_rate`` and ``landscape``
    (what `gc.landscape` returned for this run): what curvature predicts is put beside what was seen.

    Losses are judged as they stand: of batches, or means over epochs.  ValueError for fewer than three losses, and for
    arrays that do not fit.

    >>> import gradc as gc
    >>> said = gc.diagnose([1 + 0.5**k for k in range(20)])
    >>> said.behaviour, said.rate.kind, round(said.rate.value, 6)
    ('monotone', 'linear', 0.5)
    """
    losses, steps, norms, rate_used = _read(history, column, gradient_norms, learning_rate)
    kind, size = _batch(batch)
    moves = _moves(iterates, losses.size)
    ended = np.flatnonzero(~np.isfinite(losses))
    finite = losses[: ended[0]] if ended.size else losses
    with np.errstate(over="ignore"):
        rounding = 2.0**-24 if np.array_equal(finite, finite.astype(np.float32)) else 2.0**-53
    noisy = _is_noisy(finite, rounding) if kind is None else kind != "batch" and _scatters(finite, rounding)
    kind = kind or ("mini-batch" if noisy else "batch")
    turning = float(np.mean(moves < 0)) if moves is not None and moves.size else 0.0
    with np.errstate(all="ignore"):
        scattered = rate_of(finite, steps, minimum, True, rounding, False) if noisy and finite.size >= 20 else None
        if ended.size:
            behaviour, why = "diverging", f"the loss is {number(losses[ended[0]])} at step {steps[ended[0]]:,}"
        else:
            behaviour, why = _behaviour(finite, norms, scattered, turning, rounding)
        converged = behaviour in ("monotone", "oscillating") and _at_rest(finite, norms, noisy, rounding)
        rate = Rate("none", points=finite.size)
        if behaviour in ("monotone", "oscillating") or (behaviour == "stalled" and scattered is not None):
            wavy = behaviour == "oscillating" and _rises(finite, rounding) >= RISES
            rate = scattered or rate_of(finite, steps, minimum, False, rounding, wavy)
    predicted = _predicted(rate_used, landscape)
    return Diagnosis(
        behaviour, rate, noisy, converged, kind, size, float(losses[0]), float(losses[-1]), int(steps[-1] - steps[0]),
        why, _against(kind, size, rate), _remedies(behaviour, kind, rate, noisy, converged, turning, landscape),
        predicted,
    )  # fmt: skip


# -- read --------------------------------------------------------------------------------------------------------------


def _read(
    history: Any, column: str, norms: Any, learning_rate: float | None
) -> tuple[Array, Array, Array | None, float | None]:
    """Losses, steps, gradient norms and the last learning rate."""
    history = getattr(history, "history", history)
    if isinstance(history, History):
        whole = history[column]
        there = np.flatnonzero(~np.isnan(whole))
        last = there[-1] + 1 if there.size else 0
        lost = [last] if last < whole.size and "gradient_norm" in history else []  # rows that ended at NaN
        rows = np.r_[there, np.array(lost, int)].astype(int)
        losses, steps = whole[rows], history.steps[rows]
        if norms is None and "gradient_norm" in history:
            norms = history["gradient_norm"][rows]
        if learning_rate is None and "learning_rate" in history:
            learning_rate = history.last("learning_rate")
    else:
        try:
            given = np.asarray(history)
            if given.dtype.kind in "SUcMm" or (given.dtype.kind == "O" and any(x is None for x in given.flat)):
                raise TypeError
            losses = given.astype(np.float64)
        except (TypeError, ValueError):
            raise TypeError(
                f"{here()}: diagnose takes a run, its History or losses of shape (n,), which are real numbers, got "
                f"{type(history).__name__}: {history!r:.60}"
            ) from None
        if losses.ndim != 1:
            raise ValueError(f"{here()}: diagnose takes a History or losses of shape (n,), got shape {losses.shape}")
        steps = np.arange(losses.size)
    if losses.size < 3:
        raise ValueError(f"{here()}: diagnose needs three losses, got {losses.size}: let the run go on")
    if norms is not None:
        norms = np.asarray(norms, np.float64)
        if norms.shape != losses.shape:
            raise ValueError(
                f"{here()}: diagnose: gradient_norms has shape {norms.shape}, the losses {losses.shape}: give one each"
            )
        if not np.isfinite(norms[[0, -1]]).all():
            norms = None
    return losses, steps, norms, learning_rate


def _batch(batch: str | int | None) -> tuple[str | None, int | None]:
    if batch is None or batch in ("batch", "sgd", "mini-batch"):
        return batch if isinstance(batch, str) else None, None
    if isinstance(batch, int | np.integer) and not isinstance(batch, bool) and batch > 0:
        return ("sgd", 1) if batch == 1 else ("mini-batch", int(batch))
    raise ValueError(
        f"{here()}: diagnose: batch={batch!r:.60}: expected 'batch', 'sgd', 'mini-batch' or the size of a mini-batch"
    )


def _moves(iterates: Any, count: int) -> Array | None:
    """Cosines between steps and the ones before."""
    if iterates is None:
        return None
    points = np.asarray(iterates, np.float64)
    if points.ndim not in (1, 2) or points.shape[0] != count:
        raise ValueError(f"{here()}: diagnose: iterates has shape {points.shape}: expected ({count},) or ({count}, n)")
    moved = np.diff(points.reshape(count, -1), axis=0)
    sizes = np.linalg.norm(moved, axis=1)
    there = (sizes[1:] > 0) & (sizes[:-1] > 0)
    return np.asarray(np.sum(moved[1:] * moved[:-1], axis=1)[there] / (sizes[1:] * sizes[:-1])[there])


# -- behaviour ---------------------------------------------------------------------------------------------------------


def _changes(losses: Array, rounding: float) -> Array:
    """Changes that are more than rounding; the others are 0."""
    changes = np.diff(losses)
    return np.where(np.abs(changes) > 8 * rounding * np.abs(losses[:-1]), changes, 0.0)


def _rises(losses: Array, rounding: float) -> float:
    """The part of the changes that go up."""
    changes = _changes(losses, rounding)
    moved = np.count_nonzero(changes)
    return float(np.count_nonzero(changes > 0) / moved) if moved else 0.0


def _scatters(losses: Array, rounding: float) -> bool:
    return _rises(losses, rounding) >= RISES


def _is_noisy(losses: Array, rounding: float) -> bool:
    """Whether rises come at random: changes of white noise are correlated by −½, of an oscillation by about ±1."""
    changes = _changes(losses, rounding)
    if losses.size < 20 or _rises(losses, rounding) < 0.15:
        return False
    tail = changes[changes.size // 2 :]
    size = np.median(np.abs(tail)) or np.abs(tail).max() or 1.0
    tail = np.clip(tail / size, -5, 5)
    tail = tail - tail.mean()
    total = float(tail @ tail)
    if total == 0:
        return False
    first = float(tail[1:] @ tail[:-1]) / total
    second = float(tail[2:] @ tail[:-2]) / total
    return -0.8 < first < 0.1 and abs(second) < 0.45


def _trend(losses: Array) -> tuple[float, float]:
    """The rise over the second half by a line through means of ten stretches, and half of its interval of 95 %."""
    half = losses[losses.size // 2 :]
    means = np.array([part.mean() for part in np.array_split(half, 10)])
    slope, spread = slope_of(np.arange(10.0), means)
    return 9 * slope, 9 * spread


def _behaviour(
    losses: Array, norms: Array | None, noisy: Rate | None, turning: float, rounding: float
) -> tuple[str, str]:
    """Which of the four, and what shows it."""
    low = int(np.argmin(losses))
    dropped = float(losses[0] - losses[low])
    if noisy is not None:
        rise, spread = _trend(losses)
        if rise > spread and rise > 0.1 * abs(dropped):
            return "diverging", "the mean loss rises over the second half of the run"
        settled = noisy.kind == "none" or noisy.late < 0.4 * spread  # about a standard deviation
        if rise > -spread and settled:
            return "stalled", "the mean loss has not fallen over the second half of the run: only noise is left"
        return "oscillating", "the mean loss falls, single values go up and down"
    after = losses.size - 1 - low
    if after >= max(2, losses.size // 10) and losses[-1] - losses[low] > max(
        0.5 * dropped, 1e3 * rounding * abs(losses[low])
    ):
        return "diverging", f"the loss has risen from {number(losses[low])} since"
    if norms is not None and norms[-1] > 10 * norms[0] and losses[-1] >= losses[0]:
        return "diverging", "the gradient grows"
    stalled = _stalled(losses, norms, rounding)
    if stalled:
        return "stalled", stalled
    if turning >= TURNS:
        words = f"{100 * turning:.0f} % of the steps turn back on the one before, over the minimum"
        return "oscillating", words
    rises = _rises(losses, rounding)
    if rises >= RISES:
        return "oscillating", f"the loss rises in {100 * rises:.0f} % of the steps"
    return "monotone", "the loss falls at every step" if rises == 0 else "the loss falls at nearly every step"


def _stalled(losses: Array, norms: Array | None, rounding: float) -> str:
    """Why a run without noise makes no way, "" if it does."""
    changes = -_changes(losses, rounding)
    if not changes.any():
        return "the loss does not move"
    dropped = float(losses[0] - losses[-1])
    half = losses.size // 2
    late = float(losses[half] - losses[-1])
    steep = norms is not None and norms[-1] > 0.1 * norms.max()
    if steep and late <= 0.01 * max(dropped, 0.0) and late <= 1e-3 * abs(losses[half]):
        return "the gradient is as large as it was, but the loss moves no more"
    ends = np.abs(changes[: max(1, changes.size // 10)]).mean(), np.abs(changes[-max(1, changes.size // 10) :]).mean()
    little = abs(dropped) <= 0.01 * abs(losses[0])
    if changes.size >= 10 and little and ends[1] > 0.5 * ends[0]:
        return f"the loss has moved by {100 * abs(dropped / losses[0]):.2g} % in all, and no slower at the end"
    return ""


def _at_rest(losses: Array, norms: Array | None, noisy: bool, rounding: float) -> bool:
    """Whether nothing is left to gain."""
    if norms is not None and norms[-1] <= SMALL_GRADIENT * norms.max():
        return True
    tail = _changes(losses, rounding)[-max(1, losses.size // 20) :]
    return not noisy and not tail.any()


# -- words -------------------------------------------------------------------------------------------------------------


def _predicted(learning_rate: float | None, landscape: Landscape | None) -> str:
    if learning_rate is None or landscape is None or not landscape.largest > landscape.floor:
        return ""
    how = landscape.behaviour(learning_rate)
    edge = number(landscape.edge)
    places = {
        "monotone": f"below 1/λmax = {number(landscape.edge / 2)}",
        "oscillating": f"between 1/λmax and the edge 2/λmax = {edge}",
        "diverging": f"beyond the edge 2/λmax = {edge}",
    }
    words = f"η = {number(learning_rate)} lies {places[how]}: {how} along the steepest direction"
    if how != "diverging" and landscape.smallest > landscape.floor:
        q = landscape.contraction(learning_rate) ** 2
        words += f", losses by at most q = {number(_short(q))} a step"
    return words


def _against(kind: str, size: int | None, rate: Rate) -> str:
    """The rate that was seen beside the rates of textbooks."""
    if rate.kind == "none":
        return "no rate to compare"
    if rate.kind == "superlinear":
        return "faster than gradient descent by any batch: as Newton's and quasi-Newton methods near a minimum"
    if kind == "batch":
        if rate.kind == "linear":
            return "as of batch descent on a strongly convex function: O(log(1/ε)) steps to ε"
        return _beside(rate, [(1.0, "batch descent on a function that is convex, not strongly: O(1/ε) steps to ε")])
    if rate.kind == "linear":
        return "as if there were no noise yet: the error of samples is still small beside that of the start"
    if kind == "sgd":
        strong = (1.0, "SGD on a strongly convex function: O(1/ε) steps to ε")
        return _beside(rate, [strong, (0.5, "SGD on a convex function: O(1/ε²) steps to ε")])
    b = "b" if size is None else str(size)
    either = [(0.5, f"the noise of mini-batches, 1/√({b}k)"), (1.0, "the descent itself, 1/k")]
    return _beside(rate, either)


def _beside(rate: Rate, known: Sequence[tuple[float, str]]) -> str:
    fitting = [words for p, words in known if rate.low - 0.05 <= p <= rate.high + 0.05]
    if fitting:
        return "as of " + "; or of ".join(fitting)
    if rate.value > max(p for p, _ in known):
        return f"faster than 1/k^{max(p for p, _ in known):g}: the run is not yet where these bounds are reached"
    if rate.value < min(p for p, _ in known):
        return f"slower than 1/k^{min(p for p, _ in known):g}: not convex here, or the learning rate falls too fast"
    return "between " + " and ".join(words for _, words in known)


def _remedies(
    behaviour: str, kind: str, rate: Rate, noisy: bool, converged: bool, turning: float, landscape: Landscape | None
) -> tuple[str, ...]:
    """What to change."""
    edge = "" if landscape is None or math.isinf(landscape.edge) else f" = {number(landscape.edge)} here"
    best = "" if landscape is None or math.isnan(landscape.optimal) else f" = {number(landscape.optimal)} here"
    if behaviour == "diverging":
        return (
            f"learning rate too large: reduce it below 2/L{edge} (gc.landscape finds L); begin with a tenth of it",
            "clip the gradient (gc.optim.clip_by_global_norm), or warm the learning rate up",
        )
    if behaviour == "stalled":
        if noisy:
            return (
                "the noise of samples bounds the loss at this learning rate: let it decay, so that Ση = ∞ and Ση² < ∞ "
                "(like 1/k), or take larger batches",
            )
        return (
            "learning rate too small, or a plateau: raise it towards 2/(L + μ)" + best + " (gc.landscape finds both)",
            "a saddle or a flat region: momentum or noise lead out; see .kind and .lowest of gc.landscape",
            "look whether the gradient vanishes on its way to the first layers, and whether anything is trained at all",
        )
    if converged:
        return ()
    found: list[str] = []
    if behaviour == "oscillating" and not noisy:
        cause = "momentum too large, or learning rate" if turning < TURNS else "learning rate"
        found.append(
            f"{cause} near its edge 2/L{edge}: reduce it to 2/(L + μ){best}, or below 1/L to end the oscillation"
        )
    if rate.kind == "linear" and rate.value > 0.99 and not noisy:
        found.append(
            "slow: the condition number is large; normalise the inputs, use momentum or adaptive rates, or Newton's "
            "method, which changes coordinates so that all curvature is 1"
        )
    if rate.kind == "sublinear" and kind == "batch":
        found.append("flat directions: add a penalty λ‖w‖², which makes the loss strongly convex, or use curvature")
    if noisy and rate.kind == "sublinear":
        found.append("let the learning rate decay like 1/k (strongly convex) or 1/√k, and average the last parameters")
    return tuple(found)


__all__ = ["RATES", "Diagnosis", "diagnose"]
