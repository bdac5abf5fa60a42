"""First values of parameters: torch.nn.init's names and rules, with a key in the place of a global generator.

Enters: a key of `gradc.random` and a shape in PyTorch's layout, (out, in) or (out, in, *kernel).  Leaves: an array of
``dtype`` (None: float64), traced inside a trace.  Invariant: what is drawn has the variance that is stated, of any
distribution.  Start reading at `variance_scaling`, of which LeCun's, Xavier's and He's rules are cases.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import gradc.numpy as gnp
from gradc import random
from gradc.aval import Shape
from gradc.errors import ShapeError
from gradc.nn.terms import check_not_negative
from gradc.node import here
from gradc.numpy.axes import shape_of
from gradc.numpy.public import Array, ArrayLike
from gradc.random.arguments import float_dtype, known_number, one_of

__all__ = [
    "calculate_gain", "constant", "deepnorm", "deepnorm_scales", "dirac", "fans", "glorot_normal", "glorot_uniform",
    "he_normal", "he_uniform", "identity", "kaiming_normal", "kaiming_uniform", "lecun_normal", "lecun_uniform",
    "normal", "ones", "orthogonal", "sparse", "truncated_normal", "uniform", "variance_scaling", "xavier_normal",
    "xavier_uniform", "zeros",
]  # fmt: skip

#: gains by the names of torch.nn.init: 1/√(mean f(z)²), or what practice took
_GAINS = {
    **dict.fromkeys(
        ("linear", "identity", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
         "conv_transpose3d", "sigmoid"), 1.0
    ),
    "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4,
}  # fmt: skip
#: the standard deviation of a normal number between −2 and 2
_DEVIATION_WITHIN_2 = 0.87962566103423978


# -- without a draw ----------------------------------------------------------------------------------------------------


def zeros(shape: Any, dtype: Any = None) -> Array:
    """Zeros: of biases, and of what adds to a residual stream."""
    return constant(shape, 0.0, dtype)


def ones(shape: Any, dtype: Any = None) -> Array:
    """Ones: of the scales of a normalisation."""
    return constant(shape, 1.0, dtype)


def constant(shape: Any, value: ArrayLike, dtype: Any = None) -> Array:
    """One value everywhere."""
    return gnp.full(shape_of(shape), value, float_dtype(dtype, "nn.init.constant"))


def identity(shape: Any, gain: ArrayLike = 1.0, dtype: Any = None) -> Array:
    """``gain`` on the diagonal of a matrix (out, in), 0 elsewhere: as many inputs as can be pass unchanged."""
    extents = _of_rank("identity", shape, (2,))
    return gnp.astype(gnp.eye(extents[0], extents[1]) * gain, float_dtype(dtype, "nn.init.identity"))


def dirac(shape: Any, groups: int = 1, dtype: Any = None) -> Array:
    """Kernels (out, in, *kernel) of one to three axes that leave channels as they are: 1 in the middle, in each group.

    ShapeError unless ``groups`` divides the channels that come out.
    """
    extents = _of_rank("dirac", shape, (3, 4, 5))
    if groups < 1 or extents[0] % groups:
        raise ShapeError(f"{here()}: nn.init.dirac: groups={groups} must divide the {extents[0]} channels out")
    each = extents[0] // groups
    kernels = np.zeros(extents, float_dtype(dtype, "nn.init.dirac"))
    middle = tuple(n // 2 for n in extents[2:])
    for channel in range(min(each, extents[1])):
        place: Any = (slice(channel, None, each), channel, *middle)
        kernels[place] = 1
    return kernels


# -- of one distribution -----------------------------------------------------------------------------------------------


def uniform(key: ArrayLike, shape: Any, a: ArrayLike = 0.0, b: ArrayLike = 1.0, dtype: Any = None) -> Array:
    """Numbers uniform on [a, b); ValueError for known a > b."""
    low, high = known_number(a), known_number(b)
    if low is not None and high is not None and not low <= high:
        raise ValueError(f"{here()}: nn.init.uniform: a must be at most b, got a={low}, b={high}")
    return random.uniform(key, shape_of(shape), dtype, a, b)


def normal(key: ArrayLike, shape: Any, mean: ArrayLike = 0.0, std: ArrayLike = 1.0, dtype: Any = None) -> Array:
    """Normal numbers of this mean and standard deviation."""
    check_not_negative("nn.init.normal", std=std)
    return random.normal(key, shape_of(shape), float_dtype(dtype, "nn.init.normal")) * std + mean


def truncated_normal(
    key: ArrayLike, shape: Any, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, dtype: Any = None
) -> Array:
    """Numbers of a normal distribution of ``mean`` and ``std`` that lie between ``a`` and ``b``.

    As in PyTorch the bounds are those of the numbers, not multiples of ``std``, and the numbers deviate less than
    ``std`` says: by 0.88 of it for bounds at two of them.
    """
    if not std > 0 or not a < b:
        raise ValueError(f"{here()}: nn.init.truncated_normal: std > 0 and a < b are needed, got {std=}, {a=}, {b=}")
    target = float_dtype(dtype, "nn.init.truncated_normal")
    drawn = random.truncated_normal(key, (a - mean) / std, (b - mean) / std, shape_of(shape), target)
    return gnp.clip(drawn * std + mean, a, b)


# -- by the number of inputs -------------------------------------------------------------------------------------------


class Fans(NamedTuple):
    fan_in: int  #: inputs that one output adds up
    fan_out: int  #: outputs that one input reaches


def fans(shape: Any) -> Fans:
    """The inputs of an output and the outputs of an input, of weights (out, in) or kernels (out, in, *kernel).

    Of a grouped convolution's weights (out, in/groups, *kernel) fan_in is right and fan_out counts all groups, as in
    PyTorch.  ShapeError for fewer than two axes.
    """
    extents = shape_of(shape)
    if len(extents) < 2:
        raise ShapeError(
            f"{here()}: nn.init: fans need a shape (out, in) or (out, in, *kernel), got {extents}; "
            "biases begin as zeros"
        )
    area = math.prod(extents[2:])
    return Fans(extents[1] * area, extents[0] * area)


def calculate_gain(nonlinearity: str | Callable[[Any], Any], param: float | None = None) -> float:
    """By how much an activation's weights must be larger so that variances stay: PyTorch's table, or 1/√(mean f(z)²).

    Names: "linear", "conv1d" … "conv_transpose3d", "sigmoid" 1, "tanh" 5/3, "relu" √2, "leaky_relu" √(2/(1 + a²)) with
    the negative slope a = ``param`` (0.01), "selu" 3/4.  A function such as `gradc.nn.gelu` has the gain that keeps the
    second moment of normal inputs exactly, by a sum over 2¹⁵ points.
    """
    if callable(nonlinearity):
        z = np.linspace(-12, 12, 2**15 + 1)
        weight = np.exp(-z * z / 2)
        moment = float(np.sum(weight * np.square(np.asarray(nonlinearity(z)))) / weight.sum())
        if not 0 < moment < math.inf:
            raise ValueError(f"{here()}: nn.init.calculate_gain: the mean of f(z)² must be positive, got {moment}")
        return 1 / math.sqrt(moment)
    one_of(nonlinearity, (*_GAINS, "leaky_relu"), "nonlinearity", "nn.init.calculate_gain")
    if nonlinearity != "leaky_relu":
        return _GAINS[nonlinearity]
    slope = 0.01 if param is None else param
    if isinstance(slope, bool) or not isinstance(slope, int | float | np.number):
        raise ValueError(f"{here()}: nn.init.calculate_gain: param, a negative slope, must be a number, got {param!r}")
    return math.sqrt(2 / (1 + slope**2))


def variance_scaling(
    key: ArrayLike,
    shape: Any,
    scale: ArrayLike = 1.0,
    mode: str = "fan_in",
    distribution: str = "normal",
    dtype: Any = None,
) -> Array:
    """Numbers of mean 0 and variance scale/fan, fan as ``mode`` says: "fan_in", "fan_out", or their mean "fan_avg".

    ``distribution``: "normal", "truncated_normal" (at two standard deviations before it is cut, widened to keep the
    variance), "uniform".  The rule behind LeCun's, Xavier's and He's.
    """
    name = "nn.init.variance_scaling"
    one_of(mode, ("fan_in", "fan_out", "fan_avg"), "mode", name)
    one_of(distribution, ("normal", "truncated_normal", "uniform"), "distribution", name)
    check_not_negative("nn.init.variance_scaling", scale=scale)
    counts = fans(shape)
    fan = {"fan_in": counts.fan_in, "fan_out": counts.fan_out, "fan_avg": sum(counts) / 2}[mode]
    target, extents = float_dtype(dtype, name), shape_of(shape)
    deviation = gnp.sqrt(scale / max(fan, 1))
    if not isinstance(scale, np.ndarray) and known_number(scale) is not None:
        deviation = float(deviation)
    if distribution == "normal":
        return random.normal(key, extents, target) * deviation
    if distribution == "uniform":
        return random.uniform(key, extents, target, -1.0, 1.0) * (math.sqrt(3) * deviation)
    return random.truncated_normal(key, -2.0, 2.0, extents, target) * (deviation / _DEVIATION_WITHIN_2)


def lecun_normal(key: ArrayLike, shape: Any, dtype: Any = None) -> Array:
    """Normal numbers of variance 1/fan_in: Var(y) = Var(x) of a linear layer (LeCun et al. 1998); for selu."""
    return variance_scaling(key, shape, 1.0, "fan_in", "normal", dtype)


def lecun_uniform(key: ArrayLike, shape: Any, dtype: Any = None) -> Array:
    """Uniform numbers of variance 1/fan_in (LeCun et al. 1998)."""
    return variance_scaling(key, shape, 1.0, "fan_in", "uniform", dtype)


def xavier_normal(key: ArrayLike, shape: Any, gain: ArrayLike = 1.0, dtype: Any = None) -> Array:
    """Normal numbers of variance gain²·2/(fan_in + fan_out), between what activations and what gradients ask for.

    Glorot & Bengio 2010.  Also called glorot_normal.
    """
    return variance_scaling(key, shape, gain * gain, "fan_avg", "normal", dtype)


def xavier_uniform(key: ArrayLike, shape: Any, gain: ArrayLike = 1.0, dtype: Any = None) -> Array:
    """Uniform numbers of variance gain²·2/(fan_in + fan_out) (Glorot & Bengio 2010); also called glorot_uniform."""
    return variance_scaling(key, shape, gain * gain, "fan_avg", "uniform", dtype)


def kaiming_normal(
    key: ArrayLike,
    shape: Any,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str | Callable[[Any], Any] = "leaky_relu",
    dtype: Any = None,
) -> Array:
    """Normal numbers of variance gain²/fan, the gain by `calculate_gain` of ``nonlinearity`` and ``a``: 2/fan for relu.

    ``mode`` "fan_in" keeps the variance of activations, "fan_out" that of gradients (He et al. 2015).  Also called
    he_normal.
    """
    return _kaiming(key, shape, a, mode, nonlinearity, "normal", dtype)


def kaiming_uniform(
    key: ArrayLike,
    shape: Any,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str | Callable[[Any], Any] = "leaky_relu",
    dtype: Any = None,
) -> Array:
    """Uniform numbers of variance gain²/fan, as `kaiming_normal` (He et al. 2015); also called he_uniform."""
    return _kaiming(key, shape, a, mode, nonlinearity, "uniform", dtype)


def _kaiming(key: ArrayLike, shape: Any, a: Any, mode: str, nonlinearity: Any, distribution: str, dtype: Any) -> Array:
    one_of(mode, ("fan_in", "fan_out"), "mode", f"nn.init.kaiming_{distribution}")
    gain = calculate_gain(nonlinearity, a)
    return variance_scaling(key, shape, gain**2, mode, distribution, dtype)


glorot_normal, glorot_uniform = xavier_normal, xavier_uniform
he_normal, he_uniform = kaiming_normal, kaiming_uniform


# -- matrices as a whole -----------------------------------------------------------------------------------------------


def orthogonal(key: ArrayLike, shape: Any, gain: ArrayLike = 1.0, dtype: Any = None) -> Array:
    """``gain`` times a matrix with orthonormal rows or columns, whichever are fewer: all singular values are the gain.

    Kernels (out, in, *kernel) as the matrix of out rows (Saxe et al. 2014).
    """
    extents = shape_of(shape)
    if len(extents) < 2:
        raise ShapeError(f"{here()}: nn.init.orthogonal: the shape must have two axes at least, got {extents}")
    rows, columns = extents[0], math.prod(extents[1:])
    matrix = random.orthogonal(key, rows, (), float_dtype(dtype, "nn.init.orthogonal"), columns)
    return gnp.reshape(matrix, extents) * gain


def sparse(key: ArrayLike, shape: Any, sparsity: float, std: float = 0.01, dtype: Any = None) -> Array:
    """Normal numbers of deviation ``std`` in a matrix (out, in), of which ⌈sparsity·out⌉ in each column are 0.

    Martens 2010.
    """
    rows, columns = _of_rank("sparse", shape, (2,))
    if not 0 <= sparsity <= 1:
        raise ValueError(f"{here()}: nn.init.sparse: sparsity must lie in [0, 1], got {sparsity}")
    first, second = random.split(key)
    rank = gnp.argsort(gnp.argsort(random.uniform(first, (rows, columns)), axis=0), axis=0)
    return gnp.where(rank < math.ceil(sparsity * rows), 0.0, normal(second, (rows, columns), 0.0, std, dtype))


# -- deep transformers -------------------------------------------------------------------------------------------------


class DeepNormScales(NamedTuple):
    encoder_alpha: float  #: what the residual is multiplied by: LayerNorm(α·x + f(x))
    encoder_beta: float  #: the gain of values, projections and feed-forward weights
    decoder_alpha: float
    decoder_beta: float


def deepnorm_scales(encoder_layers: int = 0, decoder_layers: int = 0) -> DeepNormScales:
    """α and β of DeepNorm by the numbers of layers (Wang et al. 2022, figure 2); 1 for a part that is not there.

    One part alone of N layers: α = (2N)^¼, β = (8N)^−¼.  N encoder and M decoder layers: 0.81·(N⁴M)^(1/16) and
    0.87·(N⁴M)^(−1/16) in the encoder, (3M)^¼ and (12M)^−¼ in the decoder.
    """
    n, m = encoder_layers, decoder_layers
    if min(n, m) < 0 or not max(n, m):
        raise ValueError(
            f"{here()}: nn.init.deepnorm_scales: encoder_layers and decoder_layers must not be negative, nor both 0, "
            f"got {n} and {m}"
        )
    if n and m:
        both = (n**4 * m) ** (1 / 16)
        return DeepNormScales(0.81 * both, 0.87 / both, (3 * m) ** 0.25, (12 * m) ** -0.25)
    alone = ((2 * max(n, m)) ** 0.25, (8 * max(n, m)) ** -0.25)
    return DeepNormScales(*alone, 1.0, 1.0) if n else DeepNormScales(1.0, 1.0, *alone)


def deepnorm(key: ArrayLike, shape: Any, layers: int, dtype: Any = None) -> Array:
    """`xavier_normal` with DeepNorm's gain β = (8·layers)^−¼, for values, projections and feed-forward weights.

    Queries and keys begin by `xavier_normal` itself.  Of an encoder with a decoder take β of `deepnorm_scales`.
    """
    return xavier_normal(key, shape, deepnorm_scales(layers).encoder_beta, dtype)


# -- arguments ---------------------------------------------------------------------------------------------------------


def _of_rank(name: str, shape: Any, ranks: tuple[int, ...]) -> Shape:
    extents = shape_of(shape)
    if len(extents) not in ranks:
        wanted = " or ".join(map(str, ranks))
        raise ShapeError(f"{here()}: nn.init.{name}: the shape must have {wanted} axes, got {extents}")
    return extents


def __dir__() -> list[str]:
    return sorted(__all__)
