"""Optimizers and schedules: names, arguments and meaning of optax; pure functions, compiled with the gradient.

>>> import gradc as gc, numpy as np
>>> optimizer = gc.optim.adam(0.1)
>>> step = gc.train_step(lambda w, x: ((x @ w) ** 2).sum(), optimizer)
>>> w = np.ones(2)
>>> w, state, loss = step(w, optimizer.init(w), np.eye(2))
>>> w.round(3)
array([0.9, 0.9])

`rule` makes an optimizer of a function that reads like its paper; `descent`, `adaptive`, `layerwise` and
`preconditioned` hold such rules, `optimizers`, `automatic`, `noise` and `quasi_newton` the optimizers by name,
`wrappers` and `masking` what goes around one, `clipping` what comes before and after, `projections` constraints,
`schedules` functions of the step.
"""

# Each module lists in `__all__` what it gives to this namespace.
# ruff: noqa: F403
from __future__ import annotations

from gradc.optim import (
    adaptive,
    automatic,
    clipping,
    descent,
    kronecker,
    layerwise,
    masking,
    noise,
    optimizers,
    preconditioned,
    projections,
    quasi_newton,
    rules,
    schedules,
    second_order,
    transforms,
    wrappers,
)
from gradc.optim.adaptive import *
from gradc.optim.automatic import *
from gradc.optim.clipping import *
from gradc.optim.descent import *
from gradc.optim.kronecker import *
from gradc.optim.layerwise import *
from gradc.optim.masking import *
from gradc.optim.noise import *
from gradc.optim.optimizers import *
from gradc.optim.preconditioned import *
from gradc.optim.projections import *
from gradc.optim.quasi_newton import *
from gradc.optim.rules import *
from gradc.optim.schedules import *
from gradc.optim.second_order import *
from gradc.optim.transforms import *
from gradc.optim.wrappers import *

__all__: list[str] = []
__all__ += adaptive.__all__
__all__ += automatic.__all__
__all__ += clipping.__all__
__all__ += descent.__all__
__all__ += kronecker.__all__
__all__ += layerwise.__all__
__all__ += masking.__all__
__all__ += noise.__all__
__all__ += optimizers.__all__
__all__ += preconditioned.__all__
__all__ += projections.__all__
__all__ += quasi_newton.__all__
__all__ += rules.__all__
__all__ += schedules.__all__
__all__ += second_order.__all__
__all__ += transforms.__all__
__all__ += wrappers.__all__


def __dir__() -> list[str]:
    return sorted(__all__)
