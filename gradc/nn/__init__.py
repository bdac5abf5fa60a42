"""Neural-network functions, pure and traced: names, arguments, layouts and meaning of torch.nn.functional.

Outside a trace they take and give NumPy arrays.  `activations`, `attention`, `convolution`,
`layers`, `losses` and `regularisation` hold one group each.
"""

# Each module lists in `__all__` what it gives to this namespace.
# ruff: noqa: F403
from __future__ import annotations

from gradc.nn import activations, attention, convolution, layers, losses, regularisation
from gradc.nn.activations import *
from gradc.nn.attention import *
from gradc.nn.convolution import *
from gradc.nn.layers import *
from gradc.nn.losses import *
from gradc.nn.regularisation import *
from gradc.numpy.published import published

__all__: list[str] = []
__all__ += activations.__all__
__all__ += attention.__all__
__all__ += convolution.__all__
__all__ += layers.__all__
__all__ += losses.__all__
__all__ += regularisation.__all__

_OF_RECORDS = published("nn")
__all__ += list(_OF_RECORDS)
globals().update(_OF_RECORDS)
