"""What an update tells whoever reads it: what numbers are called, and what a rule called the values it computed.

Enters: the calls of rules while `reading` holds a `Reader`.  Leaves: names of nodes.  Nobody reads while a step is
compiled or run: then a hyperparameter is the number it is.  Start reading at `Reader`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from types import CodeType, FrameType
from typing import Any

import numpy as np

from gradc.containers import Structure, leaves_of
from gradc.node import Node, Watcher, constant, watching

#: how papers write what arguments are called here
LETTERS = {
    "learning_rate": "eta", "step_size": "eta", "b1": "beta1", "b2": "beta2", "b3": "beta3", "decay": "beta",
    "momentum": "beta", "eps": "epsilon", "eps_root": "epsilon0", "weight_decay": "lambda", "lambd": "lambda",
    "penalty": "lambda", "l1": "lambda1", "l2": "lambda2", "min_norm": "epsilon",
}  # fmt: skip

#: what a rule takes that makes a step of a gradient
SCALES = frozenset({"learning_rate", "step_size"})


@dataclass
class Reader:
    """Collects names while an update is traced for parameters of a ``structure``.

    ``numbers``: for each hyperparameter, by name and value, the node that stands for it; 0, 1 and −1 stay numbers, for
    formulas leave them out.  ``computed``: the names that rules gave to what they computed.  ``passed_on``: of updates
    from one rule to the next, whether they are still gradients.
    """

    structure: Structure
    numbers: dict[tuple[str, float], Node] = field(default_factory=dict)
    functions: set[Node] = field(default_factory=set)  #: what rules were given that are functions of the step
    computed: dict[Node, str] = field(default_factory=dict)
    #: what is of all parameters together: its name, and what it is of, for each parameter
    joint: dict[Node, tuple[str, tuple[tuple[Any, ...], ...]]] = field(default_factory=dict)
    passed_on: dict[Node, bool] = field(default_factory=dict)

    def number(self, name: str, value: Any) -> Any:
        """What a rule is given for a number that it was told."""
        if isinstance(value, bool) or not isinstance(value, (float, np.floating)):
            return value
        known = float(value)
        if not math.isfinite(known) or known in (0.0, 1.0, -1.0):
            return value
        key = (name, known)
        if key not in self.numbers:
            self.numbers[key] = constant(known, weak=True)
        return self.numbers[key]

    def called(self, step: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any], stateless: bool) -> Any:
        """``step(*args, **given)``; its variables as they are when it returns are names, but for its arguments."""
        for name, value in given.items():
            if isinstance(value, Node):
                self._note(value, name)
                self.functions.add(value)
        result, held = _with_locals(step, args, given)
        known = set(map(id, (*leaves_of(args)[0], *leaves_of(dict(given))[0])))
        gradients = [g for g in leaves_of(args[0])[0] if isinstance(g, Node)]
        still = stateless and not given.keys() & SCALES and all(self.passed_on.get(g, False) for g in gradients)
        for name, value in held.items():
            for leaf in [value] if isinstance(value, Node) else self._of_parameters(value):
                if isinstance(leaf, Node) and id(leaf) not in known and not name.startswith("_"):
                    self._note(leaf, "u" if name == "g" and not still else name)
        for leaf in leaves_of(result[0])[0]:
            if isinstance(leaf, Node):
                self.passed_on.setdefault(leaf, still)
        return result

    def _note(self, node: Node, name: str) -> None:
        self.computed.setdefault(node, name)

    def _of_parameters(self, value: Any) -> list[Any]:
        """The leaves of a tree with one array for each parameter."""
        if not isinstance(value, (tuple, list, dict)) and not hasattr(value, "__dataclass_fields__"):
            return []
        try:
            leaves, structure = leaves_of(value)
        except TypeError:  # parts of the variable cannot be compared: it is nested as no parameters are
            return []
        return leaves if structure == self.structure else []


reading: ContextVar[Reader | None] = ContextVar("gradc_reading", default=None)


def told(name: str, value: Any) -> Any:
    """A number that an optimizer was told, or what stands for it while somebody reads."""
    reader = reading.get()
    return value if reader is None else reader.number(name, value)


class Rates:
    """Collects the learning rates of an update while it is traced or run, and what scales all of it.

    Where several rules take a rate, each that differs counts, in their order: a rule with a rate of its own for some of
    the parameters is one of `partition`.  A rate that `reduce_on_plateau` scales is noted as scaled.
    """

    def __init__(self) -> None:
        self.given: list[Any] = []  #: what rules were told, a number or a function of the step
        self.values: list[Any] = []  #: what that is at this step
        self.scales: list[Any] = []

    @property
    def listens(self) -> bool:
        """Whether what is computed now is to be noted."""
        return True

    def found(self) -> list[Any]:
        """The rates of this step."""
        return [math.prod(self.scales, start=value) for value in self.values]


rates: ContextVar[Rates | None] = ContextVar("gradc_rates", default=None)


def note_rate(told: Any, value: Any) -> None:
    """A rule goes on with the learning rate ``value``; it was told a number, or a function of the step."""
    noted = rates.get()
    if noted is not None and noted.listens and not any(told is x or _same_number(told, x) for x in noted.given):
        noted.given.append(told)
        noted.values.append(value)


def note_scale(value: Any) -> None:
    """All updates are multiplied by ``value``."""
    noted = rates.get()
    if noted is not None and noted.listens:
        noted.scales.append(value)


def _same_number(one: Any, two: Any) -> bool:
    return isinstance(one, (int, float)) and isinstance(two, (int, float)) and one == two


def joined(node: Any, name: str, *trees: Sequence[Any]) -> Any:
    """``node``, which is a norm or a product over all leaves of ``trees`` together."""
    reader = reading.get()
    if reader is not None and isinstance(node, Node):
        reader.joint[node] = (name, tuple(zip(*trees, strict=True)))
    return node


@dataclass(eq=False)
class _Caller:
    """Keeps the outermost frame of ``code`` above the first node that is made, for what ``watcher`` is told, too.

    A frame that is kept holds its variables as they are when it returns: no profiler or debugger is in the way.
    """

    code: CodeType | None
    root: FrameType
    watcher: Watcher | None
    found: FrameType | None = None

    def look(self, frame: FrameType) -> None:
        if self.found is None:
            above: FrameType | None = sys._getframe()
            while above is not None and above is not self.root:
                self.found = above if above.f_code is self.code else self.found
                above = above.f_back
        if self.watcher is not None:
            self.watcher.look(frame)


def _with_locals(step: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What a call returns, and the variables of its outermost frame at the end but for those of enclosing functions.

    A call that makes no node computes nothing: it has none.
    """
    caller = _Caller(getattr(_bare(step), "__code__", None), sys._getframe(), watching.get())
    token = watching.set(caller)
    try:
        result = step(*args, **given)
    finally:
        watching.reset(token)
    if caller.found is None:
        return result, {}
    return result, {k: v for k, v in caller.found.f_locals.items() if k not in caller.found.f_code.co_freevars}


def _bare(step: Any) -> Any:
    while isinstance(step, partial):
        step = step.func
    return step


__all__ = ["LETTERS", "Rates", "Reader", "joined", "note_rate", "note_scale", "rates", "reading", "told"]
