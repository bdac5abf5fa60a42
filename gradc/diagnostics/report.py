"""`gc.health`: a model's parameters, gradients and signals in numbers, and what they say.

Enters: a loss, parameters, a batch.  Leaves: `HealthReport`, which prints as tables with notes and draws itself.
Start reading at `health`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradc.diagnostics.advice import Note, Profile, notes_of, profile_of
from gradc.diagnostics.measure import Examination, LayerHealth, Measured, ParameterHealth
from gradc.optim import Optimizer
from gradc.tabular import table
from gradc.training.picture import Bars, Line, Picture, chart, stacked

LAYERS = ("layer", "line", "activation", "signal", "gradient", "× next", "dead", "saturated")
PARAMETERS = ("parameter", "shape", "|value|", "|gradient|", "gradient/value", "|update|", "update/value")


@dataclass(frozen=True)
class HealthReport:
    """What `health` found; ``str`` is two tables and the notes.

    ``layers`` (`LayerHealth`) by depth, ``parameters`` (`ParameterHealth`) in the order of the tree, ``notes`` (`Note`)
    what is worth a change, ``loss`` on this batch.
    """

    title: str
    loss: float
    layers: tuple[LayerHealth, ...]
    parameters: tuple[ParameterHealth, ...]
    notes: tuple[Note, ...]
    hidden: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: Measured) -> HealthReport:
        """The report of what an `Examination` has measured."""
        return cls(found.title, found.loss, found.layers, found.parameters, notes_of(found), found.model.hidden)

    @property
    def ok(self) -> bool:
        """Whether nothing is worth a change."""
        return not self.notes

    @property
    def profile(self) -> Profile:
        """Signals and gradients by depth."""
        return profile_of(self.layers)

    def __str__(self) -> str:
        parts = [f"health of {self.title}: loss {self.loss:.6g}"]
        if self.layers:
            parts.append(table([LAYERS, *(_layer_row(x, self._next(x)) for x in self.layers)], range(3)))
        if self.hidden:
            parts.append(f"read in loops, branches or calls only, so not told apart by layer: {', '.join(self.hidden)}")
        rows = [_parameter_row(p) for p in self.parameters]
        with_update = any(p.update is not None for p in self.parameters)
        keep = slice(None) if with_update else slice(5)
        parts.append(table([row[keep] for row in (PARAMETERS, *rows)], range(2)))
        parts += [str(note) for note in self.notes] or ["nothing is worth a change"]
        return "\n\n".join(parts)

    def _next(self, layer: LayerHealth) -> float | None:
        """By what the gradient changes from the next depth to this layer."""
        depths = dict(zip(self.profile.depths, self.profile.gradient, strict=True))
        behind = depths.get(layer.depth + 1)
        return layer.gradient / behind if behind else None

    def plot(self, path: str | os.PathLike[str] | None = None) -> Picture:
        """Signal and gradient along depth, dead and saturated shares, and norms by parameter, as one picture, which
        notebooks show; with ``path`` it is written there as SVG.
        """
        made = stacked(*self.panels())
        if path is not None:
            made.save(path)
        return made

    def panels(self) -> list[Picture]:
        """The parts of `plot`."""
        panels = []
        if len(self.profile.depths) > 1:
            depth, p = [float(d) for d in self.profile.depths], self.profile
            panels.append(
                chart(
                    Line(depth, p.signal, "signal, root mean square"), Line(depth, p.gradient, "gradient, norm"),
                    title="Along depth", x="layer", log_y=True,
                )
            )  # fmt: skip
        shares = [x for x in self.layers if x.dead is not None]
        if shares:
            names = [x.name for x in shares]
            bars = [Bars(names, [100 * (x.dead or 0.0) for x in shares], "dead units")]
            if any(x.saturated is not None for x in shares):
                bars.append(Bars(names, [100 * (x.saturated or 0.0) for x in shares], "saturated"))
            panels.append(chart(*bars, title="Units", y="%"))
        names = [p.name for p in self.parameters]
        norms = [Bars(names, [p.value for p in self.parameters], "value")]
        norms.append(Bars(names, [p.gradient for p in self.parameters], "gradient"))
        if any(p.update is not None for p in self.parameters):
            norms.append(Bars(names, [p.update or 0.0 for p in self.parameters], "update"))
        panels.append(chart(*norms, title="Parameters", y="Euclidean norm", log_y=True))
        return panels

    def _repr_html_(self) -> str:
        from html import escape

        return f"{self.plot().svg}<pre>{escape(str(self))}</pre>"


def health(
    loss: Callable[..., Any],
    params: Any,
    *batch: Any,
    optimizer: Optimizer | None = None,
    state: Any = None,
    has_aux: bool = False,
) -> HealthReport:
    """The health of a model at ``params`` on one batch: what each layer does to signals and gradients, in one compiled
    call.

    ``loss(params, *batch)`` returns a float scalar (``(scalar, aux)`` with ``has_aux``).  With an ``optimizer``, and
    its ``state`` (None: the first one), the update that it would make is measured too; nothing is changed.

    Layers are read off the graph: a product, convolution or embedding of something made of parameters with something
    that is not.  For each: the root mean square of its signal (the product with its bias), the norm of the loss's
    derivative by that, their variances, the factor by which the gradient changes from the layer behind it, the share of
    dead units (the activation's slope is 0 for every example of the batch) and of saturated elements (slope below 5 %
    of the largest, of activations that are flat on both sides).  Layers inside of `scan`, `cond` and `checkpoint` are
    not told apart; the report names their parameters.

    ``notes`` say where the gradient vanishes or explodes (over all layers by a factor of more than 100, and by more
    than 1.5 for each), which layer adds most to that, and which of the remedies of the textbooks the numbers point at:
    activation, initialisation (He, Xavier), normalisation, residual connections, clipping.

    Raises what `grad` raises for a loss that is no float scalar.

    >>> import gradc as gc, numpy as np
    >>> w = np.eye(3) * 0.5
    >>> found = gc.health(lambda w, x: (np.tanh(np.tanh(x @ w) @ w) ** 2).mean(), w, np.ones((4, 3)))
    >>> [layer.depth for layer in found.layers]
    [1, 2]
    """
    return HealthReport.of(Examination(loss, optimizer, has_aux)(params, *batch, state=state))


# -- tables ------------------------------------------------------------------------------------------------------------
def _layer_row(x: LayerHealth, factor: float | None) -> tuple[str, ...]:
    return (
        x.name, str(x.where or ""), x.activation or "—", _number(x.signal), _number(x.gradient), _number(factor),
        _share(x.dead), _share(x.saturated),
    )  # fmt: skip


def _parameter_row(p: ParameterHealth) -> tuple[str, ...]:
    shape = "×".join(map(str, p.shape)) or "1"
    return (
        p.name, shape, _number(p.value), _number(p.gradient), _number(p.gradient_ratio), _number(p.update),
        _number(p.update_ratio),
    )  # fmt: skip


def _number(x: float | None) -> str:
    return "—" if x is None or x != x else f"{x:.3g}"


def _share(x: float | None) -> str:
    return "—" if x is None else f"{x:.0%}"
