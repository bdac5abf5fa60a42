"""What is measured of a model in one compiled call: parameters, gradients, updates, signals along depth.

Enters: a loss, an optimizer or none.  Leaves: an `Examination`, which is called with parameters and a batch and returns
numbers by layer and by parameter.  Start reading at `Examination`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.api.compiled import Jitted, Step
from gradc.api.derivatives import arrays_of, refuse_unless_scalar, title_of, with_respect_to
from gradc.containers import leaves_of
from gradc.diagnostics.layers import Layer, Model, layers_of, slope_at
from gradc.diff.modes import pull_back, push_forward
from gradc.node import Node
from gradc.ops.leaves import full
from gradc.optim import Optimizer
from gradc.passes import looked_into
from gradc.places import Where
from gradc.trace import run

#: an activation is saturated where its slope is below this part of its largest
SATURATED = 0.05


@dataclass(frozen=True)
class LayerHealth:
    """One layer in numbers.

    ``signal`` is the root mean square of the layer's signal z (its product with what is added to it), ``gradient`` the
    Euclidean norm of the loss's derivative by z, over the whole batch; ``variance`` and ``gradient_variance`` are the
    variances of both over all elements; ``after`` is the norm of the derivative by the activation's result, None
    without one.  ``dead`` is the
    share of units whose activation has the slope 0 for every example, ``saturated`` the share of elements at which it
    is below 5 % of the largest, None without an activation, and for one that is not steepest at 0 (ReLU, GELU: they do
    not saturate to both sides).  ``slope_at_zero`` is the activation's.  ``weight_deviation`` is the standard deviation
    of the weight, ``depth`` counts layers from 1 on.
    """

    name: str
    where: Where | None
    depth: int
    shape: tuple[int, ...]
    fan_in: int
    fan_out: int
    activation: str
    signal: float
    variance: float
    gradient: float
    gradient_variance: float
    after: float | None
    dead: float | None
    saturated: float | None
    weight_deviation: float
    slope_at_zero: float | None


@dataclass(frozen=True)
class ParameterHealth:
    """One parameter in numbers: Euclidean norms of its value, of the gradient and of what the optimizer adds to it
    (None without one), and the ratios of the last two to the first."""

    name: str
    shape: tuple[int, ...]
    value: float
    gradient: float
    update: float | None

    @property
    def gradient_ratio(self) -> float:
        """Norm of the gradient over norm of the value."""
        return _ratio(self.gradient, self.value)

    @property
    def update_ratio(self) -> float | None:
        """Norm of the update over norm of the value."""
        return None if self.update is None else _ratio(self.update, self.value)


def _ratio(a: float, b: float) -> float:
    return a / b if b else float("nan") if not a else float("inf")


@dataclass(frozen=True)
class Measured:
    """All numbers of one call, and the model that they are of."""

    title: str
    loss: float
    model: Model
    layers: tuple[LayerHealth, ...]
    parameters: tuple[ParameterHealth, ...]


class Examination:
    """Measures a model: compiled once for each kind of arguments."""

    def __init__(
        self, loss: Callable[..., Any], optimizer: Optimizer | None = None, has_aux: bool = False
    ):  # fmt: skip
        self.title = title_of(loss, "health")
        self.loss, self.optimizer, self.has_aux = loss, optimizer, has_aux
        self._step = None if optimizer is None else Step(loss, Optimizer(*optimizer), has_aux)
        self._models: dict[Any, tuple[Model, tuple[tuple[str, tuple[int, ...]], ...]]] = {}
        self._compiled = Jitted(self._measured)

    def __call__(self, params: Any, *batch: Any, state: Any = None) -> Measured:
        """The numbers of these parameters on this batch; ``state`` is the optimizer's (None: its first)."""
        if self.optimizer is not None and state is None:
            state = self.optimizer.init(params)
        found = self._compiled(params, state if self.optimizer is not None else (), *batch)
        model, names = self._models[self._key(params, batch)]
        return _read(self.title, model, names, found)

    def _key(self, params: Any, batch: Any) -> Any:
        leaves, structure = leaves_of((params, batch))
        return structure, tuple((np.shape(x), gnp.result_type(x)) for x in leaves)

    def _measured(self, params: Any, state: Any, *batch: Any) -> dict[str, Any]:
        """What is compiled: numbers by name."""
        args = (params, *batch)
        _, graph, inputs = with_respect_to(self.loss, args, {}, 0, self.title)
        refuse_unless_scalar(graph, self.has_aux, "health")
        graph = looked_into(graph)
        model = layers_of(graph, inputs)
        names = tuple((graph.names.get(x, f"parameter {k}"), x.shape) for k, x in enumerate(inputs))
        self._models[self._key(params, batch)] = model, names
        wanted = _wanted(graph.outputs[0], inputs, model)
        flat = run(graph.replace(outputs=tuple(wanted.values()), out_tree=None), arrays_of(args, {}))
        nodes: dict[tuple[str, int], Any] = dict(zip(wanted, flat, strict=True))
        found = {"loss": nodes["loss", 0]}
        values = leaves_of(params)[0]
        found["value"] = [_norm(x) for x in values]
        found["gradient"] = [_norm(nodes["gradient", k]) for k in range(len(values))]
        if self._step is not None:
            moved = leaves_of(self._step(params, state, *batch)[0])[0]
            found["update"] = [_norm(gnp.subtract(new, old)) for new, old in zip(moved, values, strict=True)]
        found["layers"] = [_of_layer(layer, k, nodes) for k, layer in enumerate(model.layers)]
        return found


def _wanted(loss: Node, inputs: Sequence[Node], model: Model) -> dict[tuple[str, int], Node]:
    """The nodes that are measured: what they are, and of which layer or parameter."""
    ends = [layer.activation.end if layer.activation else layer.signal for layer in model.layers]
    at = [*inputs, *(layer.signal for layer in model.layers), *ends]
    unique = list(dict.fromkeys(at))
    pulled = dict(zip(unique, pull_back([loss], unique, [full((), 1, loss.dtype)]), strict=True))

    def cotangent(node: Node) -> Node:
        found = pulled[node]
        return full(node.shape, 0, node.dtype) if found is None else found

    found: dict[tuple[str, int], Node] = {("loss", 0): loss}
    found |= {("gradient", k): cotangent(x) for k, x in enumerate(inputs)}
    for k, layer in enumerate(model.layers):
        found["weight", k] = layer.weight
        found["signal", k], found["pulled", k] = layer.signal, cotangent(layer.signal)
        if layer.activation is not None:
            start, end = layer.activation.start, layer.activation.end
            (slope,) = push_forward([end], [start], [full(start.shape, 1, start.dtype)])
            if slope is not None:
                found["slope", k], found["flat", k] = slope, slope_at(slope, start, 0.0)
            found["after", k] = cotangent(end)
    return found


def _of_layer(layer: Layer, k: int, nodes: Mapping[tuple[str, int], Any]) -> dict[str, Any]:
    numbers = {
        "signal": _rms(nodes["signal", k]), "variance": _variance(nodes["signal", k]),
        "gradient": _norm(nodes["pulled", k]), "gradient_variance": _variance(nodes["pulled", k]),
        "weight_deviation": gnp.sqrt(_variance(nodes["weight", k])),
    }  # fmt: skip
    if ("after", k) in nodes:
        numbers["after"] = _norm(nodes["after", k])
    if ("slope", k) in nodes:
        slope, at_zero = gnp.abs(_wide(nodes["slope", k])), gnp.abs(_wide(nodes["flat", k]))
        rows = tuple(a for a in range(layer.signal.ndim) if a not in layer.units)
        most = gnp.maximum(gnp.max(slope), gnp.max(at_zero))
        numbers["dead"] = gnp.mean(_wide(gnp.max(slope, axis=rows) == 0) if rows else _wide(slope == 0))
        numbers["saturated"] = gnp.mean(_wide(slope <= SATURATED * most))
        numbers["slope_at_zero"], numbers["steepest"] = gnp.max(at_zero), most
    return numbers


def _wide(x: Any) -> Any:
    return gnp.astype(x, np.float64)


def _rms(x: Any) -> Any:
    return gnp.sqrt(gnp.mean(gnp.square(_wide(x))))


def _variance(x: Any) -> Any:
    wide = _wide(x)
    return gnp.mean(gnp.square(wide - gnp.mean(wide)))


def _norm(x: Any) -> Any:
    return gnp.sqrt(gnp.sum(gnp.square(_wide(x))))


def _saturated(read: Mapping[str, float]) -> float | None:
    """Where the activation is steepest at 0 and flat on both sides; others do not saturate."""
    steep = read.get("slope_at_zero", 0.0) >= 0.9 * read.get("steepest", 1.0) > 0
    return read.get("saturated") if steep else None


def _read(title: str, model: Model, names: Sequence[tuple[str, tuple[int, ...]]], found: Mapping[str, Any]) -> Measured:
    layers = []
    for layer, numbers in zip(model.layers, found["layers"], strict=True):
        end = layer.activation.end if layer.activation is not None else None
        read = {name: float(x) for name, x in numbers.items()}
        layers.append(
            LayerHealth(
                layer.name, layer.where, layer.depth, layer.weight.shape, layer.fan_in, layer.fan_out,
                "" if end is None else (end.label.name if end.label else end.op.title or end.op.name),
                read["signal"], read["variance"], read["gradient"], read["gradient_variance"], read.get("after"),
                read.get("dead"), _saturated(read), read["weight_deviation"], read.get("slope_at_zero"),
            )
        )  # fmt: skip
    updates = found.get("update", [None] * len(names))
    rows = zip(names, found["value"], found["gradient"], updates, strict=True)
    parameters = tuple(
        ParameterHealth(*name, float(v), float(g), None if u is None else float(u)) for name, v, g, u in rows
    )
    return Measured(title, float(found["loss"]), model, tuple(layers), parameters)
