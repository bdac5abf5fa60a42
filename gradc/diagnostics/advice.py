"""What the numbers of a model say, in words, and what the textbooks advise.

Enters: `Measured`.  Leaves: `Note`s: what is wrong, in which layer, by what factor, what to change.
Going back through one layer multiplies the loss's derivative by the slope of its activation and by the transpose of a
weight.  A product of many factors below 1 vanishes, one of factors above 1 explodes (Glorot & Bengio 2010; He et al.
2015, § 2.2); which of the two factors it is says what helps.
Start reading at `notes_of`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradc.diagnostics.measure import LayerHealth, Measured, ParameterHealth
from gradc.places import Where

#: The gradient vanishes, or explodes, if over all layers it changes by this factor,
WHOLE = 100.0
#: and by at least this one on average from layer to layer.
EACH = 1.5
#: Shares of dead units and of saturated elements that are worth a note.
DEAD, SATURATED = 0.3, 0.5
#: A step that moves a weight (a bias may begin at 0) by more than this part of its norm is large.
LARGE_STEP = 0.1
#: A weight's standard deviation is far from its rule's beyond this factor.
FAR = 2.0


@dataclass(frozen=True)
class Note:
    """One thing that is worth a change: ``kind`` is "vanishing", "exploding", "dead", "saturated", "no gradient" or
    "large step"; ``layer`` the name of the weight, ``where`` its line; ``factor`` what the kind is about (per layer,
    or a share); ``words`` say it, ``advice`` what to change, each a sentence."""

    kind: str
    layer: str
    where: Where | None
    factor: float
    words: str
    advice: tuple[str, ...]

    def __str__(self) -> str:
        place = "" if self.where is None else f"{self.where}: "
        return "\n".join([f"{place}{self.words}", *(f"  - {line}" for line in self.advice)])


@dataclass(frozen=True)
class Profile:
    """By depth: root mean squares of signals, norms of gradients over all layers of that depth."""

    depths: tuple[int, ...]
    signal: tuple[float, ...]
    gradient: tuple[float, ...]

    @property
    def whole(self) -> float:
        """The gradient at the first layer over that at the last one."""
        return self.gradient[0] / self.gradient[-1] if self.gradient[-1] else float("nan")

    @property
    def each(self) -> float:
        """The factor by which the gradient changes from a layer to the one before it: the geometric mean."""
        steps = len(self.gradient) - 1
        return self.whole ** (1 / steps) if steps and self.whole > 0 else float("nan")


def profile_of(layers: Sequence[LayerHealth]) -> Profile:
    depths = sorted({layer.depth for layer in layers})
    groups = [[layer for layer in layers if layer.depth == d] for d in depths]
    signal = tuple(math.sqrt(sum(x.signal**2 for x in group) / len(group)) for group in groups)
    return Profile(tuple(depths), signal, tuple(_together([x.gradient for x in group]) for group in groups))


def _together(values: Sequence[float]) -> float:
    return math.hypot(*values)


def notes_of(found: Measured) -> tuple[Note, ...]:
    """What is worth a change, the worst first."""
    return (*_of_depth(found), *_of_units(found), *_of_parameters(found))


# -- along depth -------------------------------------------------------------------------------------------------------
def _of_depth(found: Measured) -> Iterator[Note]:
    profile = profile_of(found.layers)
    if len(profile.depths) < 2 or not all(map(math.isfinite, profile.gradient)):
        return
    whole = profile.whole
    if whole == 0 or (whole < 1 / WHOLE and profile.each < 1 / EACH):
        yield _depth_note("vanishing", found, profile)
    elif whole > WHOLE and profile.each > EACH:
        yield _depth_note("exploding", found, profile)


def _depth_note(kind: str, found: Measured, profile: Profile) -> Note:
    layer, factor = _worst(kind, found.layers)
    slope, weight = _slope_factor(layer), _weight_factor(layer, found.layers)
    each = f"by a factor of {_number(profile.each)} per layer" if profile.each == profile.each else "to nothing"
    words = (
        f"the gradient {'vanishes' if kind == 'vanishing' else 'explodes'}: from layer {profile.depths[-1]} back to "
        f"layer {profile.depths[0]} it changes {each}, {_number(profile.whole)} in all; most in {layer.name} "
        f"({_number(factor)}: {_number(slope)} by its activation, {_number(weight)} by the weights behind it)"
    )
    return Note(kind, layer.name, layer.where, profile.each, words, tuple(_depth_advice(kind, found, layer)))


def _worst(kind: str, layers: Sequence[LayerHealth]) -> tuple[LayerHealth, float]:
    """The layer in which the gradient changes most, and by what factor, from the layers behind it to its own signal."""
    behind = {d: _together([x.gradient for x in layers if x.depth == d]) for d in {x.depth for x in layers}}
    factors = [
        (x, x.gradient / behind[x.depth + 1]) for x in layers if behind.get(x.depth + 1, 0.0) > 0
    ]  # fmt: skip
    pick = min if kind == "vanishing" else max
    return pick(factors, key=lambda pair: pair[1]) if factors else (layers[0], 0.0)


def _slope_factor(layer: LayerHealth) -> float:
    """By what the activation multiplies the gradient."""
    return 1.0 if not layer.after else layer.gradient / layer.after


def _weight_factor(layer: LayerHealth, layers: Sequence[LayerHealth]) -> float:
    """By what the weights behind a layer multiply the gradient."""
    behind = [x.gradient for x in layers if x.depth == layer.depth + 1]
    after = layer.after if layer.after is not None else layer.gradient
    return after / _together(behind) if behind and _together(behind) else float("nan")


def _depth_advice(kind: str, found: Measured, layer: LayerHealth) -> Iterator[str]:
    """The five remedies of the texts, those that the numbers point at first."""
    flat = [x for x in found.layers if x.after is not None and _slope_factor(x) < 0.5 and (x.dead or 0) <= DEAD]
    if kind == "vanishing" and flat:
        steepest = f", whose slope is {layer.slope_at_zero:.3g} at most," if layer.saturated is not None else ""
        name = layer.activation or "the activation"
        yield f"activation: {name}{steepest} shrinks every gradient that passes; ReLU, gc.nn.relu, has the slope 1"
    far = [x for x in found.layers if x.fan_in > 1 and not 1 / FAR < x.weight_deviation / _rule(x)[1] < FAR]
    for x in far[:1]:
        name, wanted = _rule(x)
        yield (
            f"initialisation: {x.name} has a standard deviation of {x.weight_deviation:.3g}; {name} asks for "
            f"{wanted:.3g} with {x.fan_in} inputs and {x.fan_out} outputs{_more(len(far) - 1)}"
        )
    if not found.model.normalises:
        yield "normalisation: gc.nn.layer_norm or gc.nn.batch_norm before each activation keeps the variance at 1"
    if not found.model.residual:
        yield "residual connections: x + f(x) lets the gradient pass by, for its derivative is 1 + f′"
    if kind == "exploding":
        yield "clipping: gc.optim.chain(gc.optim.clip_by_global_norm(1.0), …) bounds the length of a step"


def _more(count: int) -> str:
    return f", and {count} more {'layer is' if count == 1 else 'layers are'} off" if count > 0 else ""


def _rule(layer: LayerHealth) -> tuple[str, float]:
    """The name of the rule for first values, and the standard deviation that it gives."""
    if layer.saturated is None and layer.activation:
        return "He's rule (gc.nn.init.he_normal)", math.sqrt(2 / layer.fan_in)
    return "Xavier's rule (gc.nn.init.xavier_normal)", math.sqrt(2 / (layer.fan_in + layer.fan_out))


# -- units and parameters ----------------------------------------------------------------------------------------------
def _of_units(found: Measured) -> Iterator[Note]:
    dead = [(x, x.dead) for x in found.layers if x.dead is not None and x.dead > DEAD]
    flat = [(x, x.saturated) for x in found.layers if x.saturated is not None and x.saturated > SATURATED]
    if dead:
        x, share = max(dead, key=lambda pair: pair[1])
        words = f"{share:.0%} of the units of {x.name} are dead: {x.activation} is flat there for every example"
        advice = (
            f"initialisation: {_rule(x)[0]} has a standard deviation of {_rule(x)[1]:.3g} (here "
            f"{x.weight_deviation:.3g}), with biases of 0",
            "activation: gc.nn.leaky_relu or gc.nn.elu keep a slope on the other side",
            "a smaller learning rate, or normalisation before the activation, keeps units from being thrown there",
        )
        yield Note("dead", x.name, x.where, share, words + _others(dead, x), advice)
    if flat:
        x, share = max(flat, key=lambda pair: pair[1])
        words = f"{share:.0%} of what {x.name} gives lies where {x.activation} is flat (signal {x.signal:.3g})"
        lines = (
            f"initialisation: the signal is too large; {_rule(x)[0]} has a standard deviation of {_rule(x)[1]:.3g}, "
            f"here it is {x.weight_deviation:.3g}",
            "normalisation: of the data, or gc.nn.layer_norm or gc.nn.batch_norm before the activation",
        )
        yield Note("saturated", x.name, x.where, share, words + _others(flat, x), lines)


def _others(found: Sequence[tuple[LayerHealth | ParameterHealth, float]], told: object) -> str:
    """The rest of those of which one is told."""
    rest = [f"{x.name} {share:.0%}" if share else x.name for x, share in found if x is not told]
    return f"; likewise {', '.join(rest)}" if rest else ""


def _of_parameters(found: Measured) -> Iterator[Note]:
    where = {x.name: x.where for x in found.layers}
    still = [(p, 0.0) for p in found.parameters if p.gradient == 0]
    weights = [p for p in found.parameters if len(p.shape) > 1 and p.value]
    large = [(p, r) for p in weights if (r := p.update_ratio or 0.0) > LARGE_STEP]
    if still:
        p = still[0][0]
        words = f"{p.name} gets no gradient at all on this batch"
        look = "look at what reads it: a dead layer, stop_gradient, or nothing on the way to the loss"
        yield Note("no gradient", p.name, where.get(p.name), 0.0, words + _others(still, p), (look,))
    if large:
        p, ratio = max(large, key=lambda pair: pair[1])
        words = f"one step moves {p.name} by {ratio:.0%} of its norm"
        less = ("a smaller learning rate, or a warm-up",)
        yield Note("large step", p.name, where.get(p.name), ratio, words + _others(large, p), less)


def _number(x: float) -> str:
    return f"{x:.3g}"
