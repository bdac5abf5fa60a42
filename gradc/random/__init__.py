"""Random numbers, pure and reproducible: the names, arguments and numbers of `jax.random`.

Every function takes a key first and has no state: the same key gives the same numbers, interpreted and compiled, on
every machine and for any number of threads.  Inside a trace the numbers are made in the loop that uses them.  Outside
a trace these functions take and give NumPy arrays.  `keys`, `continuous`, `discrete`, `matrices` and
`rejection` hold one group each.
"""

# Each module lists in `__all__` what it gives to this namespace.
# ruff: noqa: F403
from __future__ import annotations

from gradc.random import continuous, discrete, matrices, rejection
from gradc.random.continuous import *
from gradc.random.discrete import *
from gradc.random.keys import bits, fold_in, key, split
from gradc.random.matrices import *
from gradc.random.rejection import *

__all__ = ["bits", "fold_in", "key", "split"]
__all__ += continuous.__all__
__all__ += discrete.__all__
__all__ += matrices.__all__
__all__ += rejection.__all__


def __dir__() -> list[str]:
    return sorted(__all__)
