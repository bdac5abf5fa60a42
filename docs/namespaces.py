"""The public modules, in the order in which pages list them: one list for the names page and for the reference."""

from __future__ import annotations

from types import ModuleType

import gradc as gc
from gradc.nn import init

NAMESPACES: dict[str, ModuleType] = {
    "gradc": gc, "gradc.tree": gc.tree, "gradc.nn": gc.nn, "gradc.nn.init": init, "gradc.optim": gc.optim,
    "gradc.linalg": gc.linalg, "gradc.random": gc.random, "gradc.special": gc.special, "gradc.sparse": gc.sparse,
    "gradc.scipy": gc.scipy, "gradc.data": gc.data, "gradc.training": gc.training,
}  # fmt: skip
#: modules whose names are NumPy's own: they have pages of reference, and ops.md says what is there
NUMPYS: dict[str, ModuleType] = {"gradc.numpy": gc.numpy, "gradc.numpy.linalg": gc.numpy.linalg}
