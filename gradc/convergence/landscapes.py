"""`landscape`: what the second derivatives of a loss say of gradient descent from where it stands.

Enters: a loss, parameters, a batch.  Leaves: a `Landscape`: extreme eigenvalues and spectral density of the Hessian,
condition number, learning rates, what kind of point it is, and convexity along segments.
Letters: H Hessian, λ its eigenvalues, L = max |λ| the Lipschitz constant of the gradient here, μ = λmin the constant of
strong convexity, η learning rate, κ condition number.
Sources: Nesterov, Lectures on Convex Optimization, 2nd ed., theorems 2.1.14 and 2.1.15, for 1/L, 2/(L + μ) and 2/L;
LeCun, Bottou, Orr and Müller, "Efficient BackProp" (1998), § 5, for one and several variables; Ghorbani, Krishnan and
Xiao, "An investigation into neural net optimization via Hessian eigenvalue density", ICML 2019, for the density.
Start reading at `landscape`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradc.api.compiled import jit
from gradc.api.derivatives import jvp, title_of, value_and_grad
from gradc.aval import finfo
from gradc.containers import flatten, path_text
from gradc.convergence.lanczos import Lanczos, Ritz
from gradc.convergence.segments import Convexity, convexity_along
from gradc.convergence.words import number, part_of, table, wrapped
from gradc.diff.linear import refuse_without_tangent
from gradc.errors import DTypeError
from gradc.node import Node, as_node, here
from gradc.training.picture import Line, Picture, Rule, chart
from gradc.tree import ravel

Array = np.ndarray[Any, Any]
Tree = Any

#: variables up to which `str` shows each of them
SHOWN = 6
#: so that random directions are not those that somebody built a test problem of
_OWN = 195_209
#: products after which a random vector has said what it knows of the density
DENSITY_STEPS = 64


@dataclass(frozen=True)
class Variables:
    """The second derivative by each variable alone, and whether the variables are independent: the Hessian diagonal."""

    names: tuple[str, ...]
    second: Array  #: ∂²f/∂wᵢ²
    independent: bool

    @property
    def optimal(self) -> Array:
        """η_opt,i = 1/(∂²f/∂wᵢ²), the best learning rate of each variable; NaN where it is not curved upwards."""
        with np.errstate(divide="ignore"):
            return np.where(self.second > 0, 1 / self.second, np.nan)


@dataclass(frozen=True)
class Landscape:
    """The loss around a point as gradient descent sees it; ``print(landscape)`` says it, ``landscape.plot()`` shows it.

    All of it holds at this point and for this batch; of a quadratic function it holds everywhere.
    """

    title: str
    size: int  #: of all parameters together
    value: float  #: the loss
    gradient_norm: float
    tolerance: float  #: the largest element of the gradient of a stationary point
    stationary: bool
    smallest: float  #: λmin
    largest: float  #: λmax
    errors: tuple[float, float]  #: an eigenvalue lies within this distance of λmin, of λmax
    floor: float  #: eigenvalues below this are not told from 0
    products: int  #: Hessian–vector products for the extreme eigenvalues
    exact: bool  #: they are exact up to rounding; otherwise Lanczos has seen ``products`` directions, and no others
    lowest: Tree  #: the unit vector along which curvature is λmin, a tree like the parameters
    steepest: Tree  #: the unit vector along which curvature is λmax
    nodes: Array  #: eigenvalues of the spectral density, ascending
    weights: Array  #: their parts of all directions; they add up to 1
    convexity: Convexity
    variables: Variables | None = field(default=None, repr=False)  #: of few parameters

    # -- learning rates ------------------------------------------------------------------------------------------------
    @property
    def lipschitz(self) -> float:
        """L = max |λ|: how fast the gradient changes, at most."""
        return max(abs(self.smallest), abs(self.largest))

    @property
    def safe(self) -> float:
        """1/L: below it the loss of a quadratic falls at every step and no direction oscillates."""
        return _reciprocal(self.lipschitz)

    @property
    def optimal(self) -> float:
        """2/(L + μ), the constant learning rate that is fastest; of one variable 1/f″; NaN where μ is not positive."""
        return 2 / (self.largest + self.smallest) if self.smallest > self.floor else math.nan

    @property
    def edge(self) -> float:
        """2/λmax: gradient descent with a larger learning rate diverges."""
        return 2 * _reciprocal(self.largest) if self.largest > self.floor else math.inf

    @property
    def condition_number(self) -> float:
        """λmax/λmin, 1 or more; inf where the smallest eigenvalue is 0, NaN where it is negative."""
        if self.smallest < -self.floor or not self.largest > self.floor:
            return math.nan
        return self.largest / self.smallest if self.smallest > self.floor else math.inf

    def contraction(self, learning_rate: float) -> float:
        """max |1 − ηλ| over the extreme eigenvalues: by what an error is multiplied in a step, at worst."""
        return max(abs(1 - learning_rate * self.largest), abs(1 - learning_rate * self.smallest))

    def behaviour(self, learning_rate: float) -> str:
        """What descent with a constant learning rate does along the steepest direction: "monotone", where 1 − ηλmax is
        not negative, "oscillating", where it changes its sign at each step, or "diverging"."""
        factor = 1 - learning_rate * self.largest
        return "diverging" if abs(factor) > 1 else "oscillating" if factor < 0 else "monotone"

    # -- what kind of point --------------------------------------------------------------------------------------------
    @property
    def curvature(self) -> str:
        """The definiteness of the Hessian: "positive definite", "positive semidefinite", "indefinite", "negative
        definite", "negative semidefinite" or "zero"."""
        up, down = self.largest > self.floor, self.smallest < -self.floor
        if up and down:
            return "indefinite"
        if not up and not down:
            return "zero"
        definite = self.smallest > self.floor if up else self.largest < -self.floor
        return ("positive " if up else "negative ") + ("definite" if definite else "semidefinite")

    @property
    def kind(self) -> str:
        """ "minimum", "maximum", "saddle" or "flat" (second derivatives do not decide: some are 0), of a stationary
        point; "slope" of any other."""
        if not self.stationary:
            return "slope"
        kinds = {"positive definite": "minimum", "negative definite": "maximum", "indefinite": "saddle"}
        return kinds.get(self.curvature, "flat")

    @property
    def negative(self) -> float:
        """The part of all directions along which curvature is negative, estimated."""
        return float(self.weights[self.nodes < -self.floor].sum())

    @property
    def flat(self) -> float:
        """The part of all directions along which curvature is not told from 0, estimated."""
        return float(self.weights[np.abs(self.nodes) <= self.floor].sum())

    # -- the spectrum --------------------------------------------------------------------------------------------------
    def density(self, at: Any, width: float | None = None) -> Array:
        """The spectral density at ``at``, an array of eigenvalues: its integral is 1.

        Each eigenvalue is smoothed by a normal distribution of standard deviation ``width``, a hundredth of the range
        of the spectrum if none is given.
        """
        where = np.asarray(at, np.float64)
        width = self._width() if width is None else width
        bells = np.exp(-0.5 * ((where[..., None] - self.nodes) / width) ** 2) / (width * math.sqrt(2 * math.pi))
        return np.asarray(bells @ self.weights)

    def _width(self) -> float:
        spread = float(self.nodes[-1] - self.nodes[0])
        return (spread or abs(self.largest) or 1.0) / 100

    def plot(self, path: str | os.PathLike[str] | None = None) -> Picture:
        """The spectral density as a picture, which notebooks show; with ``path`` it is written there as SVG."""
        width = self._width()
        at = np.linspace(self.nodes[0] - 4 * width, self.nodes[-1] + 4 * width, 600)
        smooth = self.density(at)
        rules = [Rule("λmin", x=self.smallest), Rule("λmax", x=self.largest)]
        if self.smallest < 0 < self.largest:
            rules.append(Rule("", x=0.0))  # the axis names it
        picture = chart(
            Line(at, np.maximum(smooth, smooth.max() * 1e-6)), *rules, title=f"Spectrum of the Hessian of {self.title}",
            x="eigenvalue λ", y="density", log_y=True, legend=False,
        )  # fmt: skip
        if path is not None:
            picture.save(path)
        return picture

    def _repr_svg_(self) -> str:
        return self.plot().svg

    # -- in words ------------------------------------------------------------------------------------------------------
    def __str__(self) -> str:
        head = (
            f"landscape of {self.title}: {self.size:,} parameter{'s' * (self.size != 1)}, loss {number(self.value)}, "
            f"‖gradient‖ {number(self.gradient_norm)}"
        )
        rows = [*self._spectrum_rows(), *self._rate_rows()]
        if self.variables is not None and self.size > 1:
            rows += self._variable_rows(self.variables)
        rows += [("convexity", self._convexity_words())]
        return "\n".join([head, "", *table(rows), "", *map(wrapped, self._conclusions())])

    def _spectrum_rows(self) -> list[tuple[str, str]]:
        if self.size == 1:
            return [("second derivative", f"f″ = {number(self.largest)}")]
        how = "exact up to rounding" if self.exact else "as far as these products see"
        low, high = (
            number(v) + (f" ± {e:.1g}" if not self.exact and e > 1e-5 * abs(v) else "")
            for v, e in zip((self.smallest, self.largest), self.errors, strict=True)
        )
        rows = [("eigenvalues", f"λmin = {low}, λmax = {high} ({self.products} products by Lanczos, {how})")]
        ratio = self.condition_number
        if not math.isnan(ratio):
            inverse = "0" if math.isinf(ratio) else number(1 / ratio)
            rows.append(("condition number", f"λmax/λmin = {number(ratio)}; as κ = λmin/λmax: {inverse}"))
        shares = [(self.negative, "negative"), (self.flat, "0 up to rounding")]
        said = [f"{part_of(share)} {word}" for share, word in shares if share > 0]
        if said and self.curvature not in ("positive definite", "zero"):
            rows.append(("directions", "curvature: " + ", ".join(said)))
        return rows

    def _rate_rows(self) -> list[tuple[str, str]]:
        if not self.largest > self.floor:
            return []
        if self.size == 1:
            best = number(1 / self.largest)
            return [
                ("η < η_opt", f"η_opt = 1/f″ = {best}: monotone convergence"),
                ("η_opt < η < 2η_opt", f"up to {number(self.edge)}: oscillating convergence"),
                ("η > 2η_opt", "divergence"),
            ]
        rows = [("η < 1/L", f"{number(self.safe)}: the loss falls at every step, no direction oscillates")]
        if not math.isnan(self.optimal):
            factor = self.contraction(self.optimal)
            best = f"{number(self.optimal)}: the fastest constant rate; it multiplies the error by {_factor(factor)}"
            rows.append(("η = 2/(L + μ)", f"{best} in a step"))
        last = "up to here it converges, oscillating" if self.smallest > self.floor else "oscillating up to here"
        rows.append(("η < 2/λmax", f"{number(self.edge)}: the edge; {last}, beyond it diverges"))
        return rows

    def _variable_rows(self, variables: Variables) -> list[tuple[str, str]]:
        words = "independent" if variables.independent else "not independent: these hold if one moves alone"
        rows = [("each variable", f"η_opt,i = 1/(∂²f/∂wᵢ²); the variables are {words}")]
        for name, second, best in zip(variables.names, variables.second, variables.optimal, strict=True):
            rate = "not curved upwards" if math.isnan(best) else f"η_opt = {number(best)}"
            rows.append((f"  {name}", f"∂²f/∂w² = {number(second)}, {rate}"))
        return rows

    def _convexity_words(self) -> str:
        where = f"{self.convexity.segments} segments within {number(self.convexity.radius)} of the point"
        if self.convexity.counter_example is None:
            return f"not contradicted on {where}"
        return f"not convex: {self.convexity.counter_example}"

    def _conclusions(self) -> list[str]:
        """The kind of point, and what it means for descent."""
        if not (math.isfinite(self.value) and math.isfinite(self.largest)):
            return [
                "the loss or its second derivatives are not finite here: begin from another point, or mend the loss"
            ]
        strong = f": strongly convex here, μ = {number(self.smallest)}" if self.curvature == "positive definite" else ""
        lines = [_KINDS[self.kind] + f" (the Hessian is {self.curvature}{strong})"]
        if self.kind == "slope":
            most = number(self.tolerance)
            lines[0] += f"; stationary points have elements of the gradient of at most {most}"
        if self.curvature == "indefinite":
            lines.append(
                "along .lowest the loss curves downwards: Newton's method would climb there, descent leaves along it"
            )
        if 100 <= self.condition_number < math.inf:
            lines.append(
                f"ill-conditioned: descent needs about {self.condition_number / 2:,.0f} steps for a factor of e in "
                "the error; normalise the inputs, use momentum, or change coordinates as Newton's method does "
                "(ŵ = H^½ w: there κ = 1 and η = 1 is best)"
            )
        if self.condition_number == math.inf:
            lines.append(
                "some directions are flat: convex, not strongly; expect O(1/k) of batch descent, no fixed factor"
            )
        return lines


_KINDS = {
    "minimum": "a minimum: the gradient is 0 and all curvature is upwards",
    "maximum": "a maximum: the gradient is 0 and all curvature is downwards",
    "saddle": "a saddle point: the gradient is 0, and curvature is upwards along some directions, not along others",
    "flat": "flat: the gradient is 0 and so is curvature along some directions, so second derivatives do not decide",
    "slope": "not stationary: descent moves on from here",
}


def _reciprocal(value: float) -> float:
    return 1 / value if value else math.inf


def _factor(value: float) -> str:
    """A factor below 1 with the digits that tell it from 1."""
    return "0" if value < 1e-12 else f"{value:.{max(3, 2 - math.floor(math.log10(max(1 - value, 1e-12))))}g}"


# -- made --------------------------------------------------------------------------------------------------------------


def landscape(
    loss: Callable[..., Any],
    params: Tree,
    *batch: Any,
    steps: int = 128,
    probes: int = 8,
    segments: int = 16,
    radius: float | None = None,
    tolerance: float | None = None,
    seed: int = 0,
) -> Landscape:
    """The landscape of ``loss(params, *batch)`` at ``params``: curvature, learning rates, kind of point, convexity.

    ``loss`` returns a float scalar, ``params`` is a tree of floats, ``batch`` what else it takes.  Extreme eigenvalues
    and the spectral density of the Hessian come from compiled Hessian–vector products; it is never built.

    ``steps``: products for the extreme eigenvalues at most, and vectors in memory; where they do not suffice the result
    says so.  ``probes``: random orthonormal vectors for the density, each of up to 64 products; with one for each
    parameter it is exact.  ``segments``: how many are sampled for convexity, between points at the distance ``radius``
    of ``params`` (their norm by default, 1 where that is 0).  ``tolerance``: the largest element that the gradient of a
    stationary point has, √ε·max(1, |loss|) by default, with the ε of the dtype, as in `gc.minimize`.  ``seed``: of all
    random directions.

    ShapeError for a loss that is not scalar, DTypeError for parameters that are not floats, ValueError for counts that
    are not positive.

    >>> import gradc as gc, numpy as np
    >>> E = lambda w: 0.5 * (w[0] ** 2 + 10 * w[1] ** 2)
    >>> found = gc.landscape(E, np.array([3.0, -1.0]))
    >>> round(found.largest, 9), round(found.smallest, 9), round(found.optimal, 6), found.kind
    (10.0, 1.0, 0.181818, 'slope')
    """
    title = title_of(loss, "landscape")
    _refuse_counts(steps=steps, probes=probes, segments=segments, radius=radius, tolerance=tolerance)
    names = _checked(loss, params)
    vector, back = ravel(params)
    at = np.asarray(vector)
    random = np.random.default_rng((seed, at.size, _OWN))

    def function(x: Any, *rest: Any) -> Any:
        return loss(back(x), *rest)

    function.__name__ = title
    value, gradient = jit(value_and_grad(function))(at, *batch)
    gradient = np.asarray(gradient, np.float64)
    if tolerance is None:
        tolerance = math.sqrt(float(finfo(at.dtype).eps)) * max(1.0, abs(float(value)))
    stationary = bool(np.isfinite(value) and np.max(np.abs(gradient)) <= tolerance)  # where there is a loss at all
    recursion = Lanczos(function, at, batch, steps)
    starts = np.linalg.qr(random.normal(size=(at.size, min(probes, at.size))))[0].T
    ritz = recursion.ritz(starts[0])
    nodes, weights = _density(recursion, ritz, starts)
    if radius is None:
        radius = float(np.linalg.norm(at.astype(np.float64))) or 1.0
    bent = ritz.low if ritz.values[0] < -ritz.floor else None
    if np.isfinite(ritz.values[0]):
        convexity = convexity_along(function, at.astype(np.float64), batch, back, segments, radius, bent, random)
    else:
        convexity = Convexity(0, radius, None)
    return Landscape(
        title, at.size, float(value), math.hypot(*gradient.ravel().tolist()), tolerance,
        stationary, float(ritz.values[0]), float(ritz.values[-1]),
        (float(ritz.residuals[0]), float(ritz.residuals[-1])), ritz.floor, ritz.steps, ritz.exact, back(ritz.low),
        back(ritz.high), nodes, weights, convexity,
        _variables(function, at, batch, names) if at.size <= SHOWN else None,
    )  # fmt: skip


def _refuse_counts(**given: Any) -> None:
    for name, value in given.items():
        counts = name in ("steps", "probes", "segments")
        if value is None and not counts:
            continue
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        fits = whole and value > 0 if counts else isinstance(value, int | float | np.number) and value > 0
        if not fits:
            kind = "a positive whole number" if counts else "a positive number"
            raise ValueError(f"{here()}: landscape: {name}={value!r:.60}: expected {kind}")


def _checked(loss: Callable[..., Any], params: Tree) -> tuple[str, ...]:
    """The names of all variables; DTypeError for parameters that are none."""
    leaves, places, _ = flatten(params)
    names: list[str] = []
    for leaf, place in zip(leaves, places, strict=True):
        path = path_text(place).removeprefix(".")
        if isinstance(leaf, Node):
            raise DTypeError(f"{here()}: landscape reads numbers: call it outside of jit and of traced functions")
        refuse_without_tangent(as_node(leaf), f"params.{path}" if path else "params")
        shape, label = np.shape(leaf), path or "w"
        names += [label + (f"[{', '.join(map(str, k))}]" if shape else "") for k in np.ndindex(shape)][: SHOWN + 1]
    if not sum(np.size(leaf) for leaf in leaves):
        raise DTypeError(f"{here()}: landscape of {title_of(loss, 'landscape')}: params hold no number")
    return tuple(names)


def _density(recursion: Lanczos, first: Ritz, starts: Array) -> tuple[Array, Array]:
    """Nodes and weights of the density, the mean over all random vectors, which are orthonormal: as many as there are
    parameters make it exact."""
    steps = min(DENSITY_STEPS, recursion.most)
    found = [first] + [recursion.ritz(start, steps) for start in starts[1:]]
    if not all(np.isfinite(r.values).all() for r in found):
        return np.full(1, np.nan), np.ones(1)
    nodes = np.concatenate([r.values for r in found])
    weights = np.concatenate([r.weights for r in found]) / len(found)
    order = np.argsort(nodes)
    return nodes[order], weights[order]


def _variables(function: Callable[..., Any], at: Array, rest: Sequence[Any], names: tuple[str, ...]) -> Variables:
    """The diagonal of the Hessian of few variables, and whether there is nothing beside it."""

    def column(x: Any, v: Any, *rest: Any) -> Any:
        return jvp(lambda x: value_and_grad(function)(x, *rest)[1], (x,), (v,))[1]

    compiled = jit(column)
    h = np.stack([np.asarray(compiled(at, e, *rest), np.float64) for e in np.eye(at.size, dtype=at.dtype)])
    beside = np.where(np.eye(at.size, dtype=bool), 0.0, h)
    independent = bool(np.all(np.abs(beside) <= 4 * float(finfo(at.dtype).eps) * np.abs(h).max()))
    return Variables(names, np.diag(h).copy(), independent)


__all__ = ["Landscape", "Variables", "landscape"]
