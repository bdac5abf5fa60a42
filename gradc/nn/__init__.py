"""Neural-network functions, pure and traced: names, arguments, layouts and meaning of torch.nn.functional.

Outside a trace they take and give NumPy arrays.  `activations`, `gated` and `sampled` hold activations, `losses`,
`margins`, `similarity`, `segmentation`, `sequences` and `projected` losses, `init` first values of parameters;
`attention` and `heads`, `positions`, `recurrent`, `convolution`, `pooling`, `resampling`, `sampling`, `normalisation`,
`connections`, `layers`, `mixing` and `regularisation` one group of layers each.
"""

# Each module lists in `__all__` what it gives to this namespace.
# ruff: noqa: F403
from __future__ import annotations

from gradc.nn import (
    activations,
    attention,
    connections,
    convolution,
    gated,
    heads,
    layers,
    losses,
    margins,
    mixing,
    normalisation,
    pooling,
    positions,
    projected,
    recurrent,
    regularisation,
    resampling,
    sampled,
    sampling,
    segmentation,
    sequences,
    similarity,
)
from gradc.nn import init as init
from gradc.nn.activations import *
from gradc.nn.attention import *
from gradc.nn.connections import *
from gradc.nn.convolution import *
from gradc.nn.gated import *
from gradc.nn.heads import *
from gradc.nn.layers import *
from gradc.nn.losses import *
from gradc.nn.margins import *
from gradc.nn.mixing import *
from gradc.nn.normalisation import *
from gradc.nn.pooling import *
from gradc.nn.positions import *
from gradc.nn.projected import *
from gradc.nn.recurrent import *
from gradc.nn.regularisation import *
from gradc.nn.resampling import *
from gradc.nn.sampled import *
from gradc.nn.sampling import *
from gradc.nn.segmentation import *
from gradc.nn.sequences import *
from gradc.nn.similarity import *
from gradc.numpy.published import published

__all__: list[str] = []
__all__ += activations.__all__
__all__ += attention.__all__
__all__ += connections.__all__
__all__ += convolution.__all__
__all__ += gated.__all__
__all__ += heads.__all__
__all__ += layers.__all__
__all__ += losses.__all__
__all__ += margins.__all__
__all__ += mixing.__all__
__all__ += normalisation.__all__
__all__ += pooling.__all__
__all__ += positions.__all__
__all__ += projected.__all__
__all__ += recurrent.__all__
__all__ += regularisation.__all__
__all__ += resampling.__all__
__all__ += sampled.__all__
__all__ += sampling.__all__
__all__ += segmentation.__all__
__all__ += sequences.__all__
__all__ += similarity.__all__

_OF_RECORDS = published("nn")
__all__ += list(_OF_RECORDS)
globals().update(_OF_RECORDS)


def __dir__() -> list[str]:
    return sorted((*__all__, "init"))
