"""Numbers that a training step returns beside its results: the norm of the gradient, the rate at which it was taken.

Enters: their names.  Leaves: nodes by name, read off a step while it is traced.  Invariant: a step that was asked for
none is traced as ever.  Start reading at `Measures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import Token
from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.node import here
from gradc.optim.reading import Rates, rates
from gradc.trace import open_traces

#: what a step can be asked for
KNOWN = ("gradient_norm", "learning_rate")


def measures_of(given: str | Sequence[str]) -> tuple[str, ...]:
    """What ``measure=`` asks for; ValueError for what no step knows."""
    names = (given,) if isinstance(given, str) else tuple(given)
    if unknown := [name for name in names if name not in KNOWN]:
        raise ValueError(f"{here()}: train_step: measure={unknown[0]!r}: a step measures {' and '.join(KNOWN)}")
    return tuple(dict.fromkeys(names))


class Measures(Rates):
    """Collects numbers while a step is traced; a context manager."""

    def __init__(self, wanted: tuple[str, ...]):
        super().__init__()
        self.wanted = wanted
        self.norm: Any = None
        self._depth = 0
        self._token: Token[Rates | None] | None = None

    def __enter__(self) -> Measures:
        self._depth = len(open_traces.get())
        self._token = rates.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        rates.reset(self._token)

    @property
    def listens(self) -> bool:
        """Whether what is computed now stands in the step itself, not in the body of a loop or a branch of it."""
        return len(open_traces.get()) == self._depth

    def numbers(self) -> dict[str, Any]:
        """What was wanted and found, as float64 scalars; a second and third rate are learning_rate_2, …"""
        found = {} if self.norm is None else {"gradient_norm": self.norm}
        if "learning_rate" in self.wanted:
            found |= {f"learning_rate_{i + 1}" if i else "learning_rate": r for i, r in enumerate(self.found())}
        return {name: gnp.astype(gnp.asarray(value), np.float64) for name, value in found.items()}


def measuring(grads: Any, scale: Any) -> None:
    """Note the norm of gradients, which are those of a loss times ``scale`` if there is one."""
    measures = rates.get()
    if isinstance(measures, Measures) and "gradient_norm" in measures.wanted:
        from gradc.optim.rules import global_norm, number

        measures.norm = global_norm(grads) if scale is None else global_norm(grads) / number(scale)


__all__ = ["KNOWN", "Measures", "measures_of", "measuring"]
