"""One row of the gallery: a function, its arguments, and the derivative as it must read, which is its docstring.

Enters: decorated functions.  Leaves: `Row`s.  Start reading at `Row`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

import gradc as gc
from gradc import spec
from gradc.aval import Aval
from gradc.explain import Derivation

Kind = Literal["gradient", "jacobian", "hessian", "product"]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Row:
    """``function`` of ``args``; ``derivative`` is what ``gradc.explain`` must print below the forward quantities.

    An argument is a `gradc.spec`, filled with normal numbers, a pair (spec, how to fill it), a value, a dict of
    arguments, or a list of layers: pairs of weights and biases.  ``of`` says with respect to which arguments; ``about``
    names the source of the formula; ``kind`` is what is derived: a gradient (or vector–Jacobian product), a Jacobian or
    Hessian as a matrix, or the product of a Hessian with a direction.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    derivative: str
    of: tuple[int, ...]
    about: str
    kind: Kind = "gradient"

    @property
    def name(self) -> str:
        return self.function.__name__

    def explained(self, *args: Any) -> Derivation:
        """What gradc prints of the row."""
        if self.kind == "jacobian":
            return gc.explain(gc.jacobian(self.function, self.of), *args)
        order, operator = (1, False) if self.kind == "gradient" else (2, self.kind == "product")
        return gc.explain(self.function, *args, argnums=self.of, order=order, operator=operator)

    def arrays(self, rng: np.random.Generator) -> tuple[Any, ...]:
        """Random arguments."""
        return tuple(_filled(a, rng) for a in self.args)


class Rows(list[Row]):
    """The rows of a module, in order; called with the arguments it decorates a function that shows its derivative."""

    def __call__(
        self, *args: Any, of: tuple[int, ...] = (0,), about: str = "", kind: Kind = "gradient"
    ) -> Callable[[Function], Function]:
        def shown(function: Function) -> Function:
            self.append(Row(function, args, inspect.cleandoc(function.__doc__ or ""), of, about, kind))
            return function

        return shown


def _filled(argument: Any, rng: np.random.Generator) -> Any:
    if isinstance(argument, dict):
        return {name: _filled(a, rng) for name, a in argument.items()}
    if isinstance(argument, list):
        return [(_filled(weights, rng), _filled(biases, rng)) for weights, biases in argument]
    if isinstance(argument, Aval):
        return rng.normal(size=argument.shape)
    if isinstance(argument, tuple):
        kind, make = argument
        return make(rng, kind.shape)
    return argument


def positive(*shape: int) -> tuple[Any, Any]:
    """An array of numbers between ½ and 2."""
    return spec(shape), lambda rng, size: rng.uniform(0.5, 2.0, size)


def probability(*shape: int) -> tuple[Any, Any]:
    """Numbers strictly between 0 and 1."""
    return spec(shape), lambda rng, size: rng.uniform(0.1, 0.9, size)


def symmetric(n: int) -> tuple[Any, Any]:
    """A symmetric matrix."""
    return spec((n, n)), _symmetric


def _symmetric(rng: np.random.Generator, shape: tuple[int, int]) -> Any:
    half = rng.normal(size=shape)
    return half + half.T


def regular(n: int) -> tuple[Any, Any]:
    """A matrix that is far from singular, and its transpose another one."""
    return spec((n, n)), lambda rng, size: rng.normal(size=size) + 4 * np.eye(size[0])


def definite(n: int) -> tuple[Any, Any]:
    """A symmetric positive definite matrix."""
    return spec((n, n)), _definite


def _definite(rng: np.random.Generator, shape: tuple[int, int]) -> Any:
    half = rng.normal(size=shape)
    return half @ half.T + shape[0] * np.eye(shape[0])


def onehot(rows: int, classes: int) -> tuple[Any, Any]:
    """Rows with one 1."""
    return spec((rows, classes)), lambda rng, size: np.eye(size[1])[rng.integers(0, size[1], size[0])]


def array(*shape: int) -> Aval:
    """Numbers of the normal distribution."""
    return spec(shape)
