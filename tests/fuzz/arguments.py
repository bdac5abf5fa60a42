"""Arguments by the names of parameters: how a call of any public function is written.

Enters: an `Entry` and a `Scope`.  Leaves: the text of a call, a proposal: whether NumPy accepts it is seen by running
it.  Invariant: a parameter that a call needs has a maker under its own name, or under ``function.parameter`` where the
function means something of its own by it.  Start reading at `call`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.fuzz.language import Array, literal
from tests.fuzz.layers import LAYERS
from tests.fuzz.scope import NotThisTimeError, Scope, is_float
from tests.fuzz.surface import Entry
from tests.fuzz.written import FIRST, LOSSES, RANDOM, WRITTEN

DTYPES = ("np.float64", "np.float32", "np.int32", "float", "np.float16", "gnp.bfloat16", "np.int64", "bool", "np.uint8")
WORDS: dict[str, tuple[str, ...]] = {
    "side": ("left", "right"), "order": ("C", "F"), "mode": ("raise",), "reduction": ("mean", "sum", "none"),
    "approximate": ("none", "tanh"), "pad.mode": ("constant", "edge", "reflect", "symmetric", "wrap"),
    **dict.fromkeys(("quantile.method", "nanquantile.method", "percentile.method", "nanpercentile.method"), (
        "linear", "lower", "midpoint", "hazen", "inverted_cdf", "median_unbiased", "averaged_inverted_cdf", "nearest")),
    "convolve.mode": ("full", "same", "valid"),
    "correlate.mode": ("full", "same", "valid"), "bitorder": ("big", "little"), "meshgrid.indexing": ("xy", "ij"),
}  # fmt: skip
NUMBERS: dict[str, tuple[Any, ...]] = {
    "k": (-1, 0, 1), "offset": (-1, 0, 1), "n": (1, 2), "ddof": (0, 1), "correction": (0, 1), "decimals": (0, 1, 2),
    "alpha": (0.5, 1.0, 1.5), "negative_slope": (0.01, 0.2), "beta": (0.5, 1.0, 2.0), "delta": (0.5, 1.0),
    "min_val": (-1.0, -0.5), "max_val": (0.5, 1.0), "eps": (1e-5, 1e-3), "label_smoothing": (0.0, 0.1),
    "p": (1.0, 2.0, 3.0), "dropout.p": (0.25, 0.5), "dropout2d.p": (0.5,),
    "dx": (0.5, 2.0), "fill_value": (0.0, 1.5, -2.0, 3), "initial": (0, 1, 2.5),
    "start": (0, 1), "num": (3, 5), "base": (2.0, 10.0), "rtol": (0.1,), "atol": (0.5,), "is_causal": (False, True),
    "scale": (0.5, None), "ndmin": (0, 1, 2, 3), "matrix_power.n": (0, 1, 2, 3), "polygamma.n": (1, 2),
    "diff.n": (0, 1, 2), "rot90.k": (-1, 0, 1, 2, 3), "groups": (1,), "dilation": (1, 2), "nan": (0.0, 1.5),
    "posinf": (2.0,), "neginf": (-2.0,), "stride": (1, 2, None), "conv2d.stride": (1, 2), "padding": (0, 1),
    "kernel_size": (1, 2), "num_classes": (3, 4), "a_min": (-0.5, None), "a_max": (0.5,), "min": (-0.5,),
    "quantile.q": (0.3, [0.1, 0.5, 1.0], 0, 1), "nanquantile.q": (0.3, [0.25, 0.9]), "percentile.q": (25, [10, 60.0]),
    "nanpercentile.q": (30, [25.0, 75]), "cov.ddof": (0, 1, None), "minlength": (0, 4), "bins": (3, [-1.0, 0.0, 1.5]),
    "range": (None, (-1.0, 2.0)), "histogramdd.bins": (2, 3), "histogramdd.range": (None,),
    "N": (0, 1, 3), "polyder.m": (0, 1, 2), "new_shape": (3, (2, 4)), "to_end": (0.5, [1.0, 2.0]), "to_begin": (0.5,),
    "histogram2d.range": (None, [(-1, 1), (-2, 2)]), "max": (0.75,), "ignore_index": (0, 1), "dropout_p": (0.0,),
}  # fmt: skip
FLAGS = {
    "keepdims", "endpoint", "equal_nan", "sparse", "descending", "include_initial", "full", "log_input", "log_target",
    "count_include_pad", "deg", "rowvar", "bias", "right", "density", "increasing", "invert",
}  # fmt: skip
#: never given: without meaning for values, or fixed by what the program does with the result
SKIPPED = {
    "optimize", "returned", "retstep", "copy", "kind", "stable", "subok", "device", "like", "out", "reflect_type",
    "casting",
}  # fmt: skip
ARRAYS = {
    "a", "x", "m", "arr", "array", "input", "val", "ary", "v", "y", "b", "x1", "x2", "a1", "a2", "values", "query",
    "key", "value", "A", "object", "prototype", "other", "target", "weight", "bias", "var", "pos_weight", "prepend",
    "append", "weights", "stop", "attn_mask", "p", "r", "z", "element", "test_elements", "seq_of_zeros",
}  # fmt: skip


#: elementwise functions of integers, beside those of bits and of truth
OF_INTEGERS = {"left_shift", "right_shift", "invert", "gcd", "lcm"}


@dataclass
class Call:
    """A call being written."""

    scope: Scope
    entry: Entry
    first: Array
    name: str
    written: dict[str, str] = field(default_factory=dict)


Maker = Callable[[Call], str]


def call(scope: Scope, entry: Entry) -> str:
    """The text of a call of ``entry`` on values of ``scope``."""
    if entry.operands:
        return _elementwise(scope, entry)
    if entry.path in WHOLE:
        return WHOLE[entry.path](scope)
    name = _first_operand(scope, entry)
    made = Call(scope, entry, scope.values[name], name)
    parts = []
    for parameter in list(entry.parameters.values())[0 if entry.method else 1 :]:
        text = _argument(made, parameter)
        if text is not None:
            made.written[parameter.name] = text
            parts.append(text)
    if entry.method:
        return f"{name}.{entry.name}({', '.join(parts)})"
    first = next(iter(entry.parameters.values()))
    head = _maker(entry, first.name)(made) if first.name not in ARRAYS else name
    path = entry.path
    if path.startswith("gnp.") and hasattr(np, entry.name) and "linalg" not in path and scope.chance(0.2):
        path = f"np.{entry.name}"  # the user writes NumPy's own name as well
    return f"{path}({', '.join([head, *parts])})"


def makers_missing(entry: Entry) -> list[str]:
    """Parameters that a call of ``entry`` needs and for which there is no maker."""
    if entry.operands or entry.path in WHOLE:
        return []
    needed = [p.name for p in entry.parameters.values() if p.default is p.empty]
    return [f"{entry.path}: {n}" for n in needed if n not in ARRAYS and _find(entry, n) is None]


def _first_operand(scope: Scope, entry: Entry) -> str:
    least = LEAST_DIMENSIONS.get(entry.name, 0)
    if scope.chance(0.8):
        return scope.float(least)
    return scope.pick(lambda a: a.ndim >= least)


def _argument(made: Call, parameter: inspect.Parameter) -> str | None:
    """One argument as it is written in the call, or None where it is left to its default."""
    name, needed = parameter.name, parameter.default is parameter.empty
    mixed = name == "dtype" and made.entry.name in ("std", "var")  # NumPy computes them in two precisions
    if name in SKIPPED or mixed or parameter.kind is parameter.VAR_KEYWORD:
        return None
    if not needed and parameter.kind is not parameter.VAR_POSITIONAL and not made.scope.chance(0.35):
        return None
    maker = _find(made.entry, name)
    if maker is None:
        if needed:
            raise NotThisTimeError
        return None
    text = maker(made)
    return text if needed or parameter.kind is parameter.VAR_POSITIONAL else f"{name}={text}"


def _find(entry: Entry, name: str) -> Maker | None:
    own = f"{entry.name}.{name}"
    for key in (own, name):
        if key in MAKERS:
            return MAKERS[key]
        if key in WORDS:
            return lambda c: repr(c.scope.one_of(WORDS[key]))
        if key in NUMBERS:
            return lambda c: repr(c.scope.one_of(NUMBERS[key]))
    if name in FLAGS:
        return lambda c: repr(c.scope.chance(0.5))
    return _partner if name in ARRAYS else None


def _maker(entry: Entry, name: str) -> Maker:
    found = _find(entry, name)
    if found is None:
        raise NotThisTimeError
    return found


# -- elementwise -------------------------------------------------------------------------------------------------------


def _elementwise(scope: Scope, entry: Entry) -> str:
    """Operands that broadcast; mostly squeezed into the domain where the record is sampled."""
    if entry.name.startswith(("bitwise", "logical")) or entry.name in OF_INTEGERS:
        return _of_integers(scope, entry)
    name = scope.float() if scope.chance(0.85) else scope.pick()
    operands = [name]
    for _ in range(entry.operands - 1):
        operands.append(_broadcastable(scope, scope.values[name]))
    if scope.chance(0.6):
        bounds = (*entry.domain, *[entry.domain[-1]] * len(operands))
        operands = [_squeezed(o, *b) for o, b in zip(operands, bounds, strict=False)]
    path = f"np.{entry.name}" if entry.path.startswith("gnp.") and scope.chance(0.3) else entry.path
    return f"{path}({', '.join(operands)})"


def _squeezed(name: str, low: float, high: float) -> str:
    """The operand mapped into the inner nine tenths of (low, high)."""
    if name[0] not in "xvp":
        return name
    middle, half = round((low + high) / 2, 3), round(0.45 * (high - low), 3)
    return f"{middle} + {half} * np.tanh({name})"


def _of_integers(scope: Scope, entry: Entry) -> str:
    name = scope.pick()
    whole = [f"gnp.astype({name}, np.int64)" if is_float(scope.values[name]) else name]
    whole += [str(scope.number(0, 3)) for _ in range(entry.operands - 1)]
    return f"{entry.path}({', '.join(whole)})"


def _broadcastable(scope: Scope, first: Array) -> str:
    if scope.chance(0.2):
        return repr(scope.one_of((0.5, 2.0, -1.0, 3, 0.0, 1)))

    def fits(a: Array) -> bool:
        try:
            return np.broadcast_shapes(a.shape, first.shape) is not None
        except ValueError:
            return False

    return scope.pick(fits)


# -- makers ------------------------------------------------------------------------------------------------------------


def _partner(c: Call) -> str:
    """A second array: of any shape that may go with the first."""
    kind = c.scope.number(0, 5)
    if kind == 0:
        return c.name
    if kind == 1 and c.first.ndim >= 2:
        return f"{c.name}.T"
    if kind == 2:
        shape = (*c.first.shape[-1:], *([2] if c.scope.chance(0.5) else []))
        return literal(np.round(c.scope.random.uniform(-2, 2, shape), 2))
    if kind == 3:
        return c.scope.pick(lambda a: a.shape == c.first.shape)
    return _broadcastable(c.scope, c.first)


def _axis(c: Call) -> str:
    kinds = ["one", "none", "pair", "all"]
    annotation = str(c.entry.parameters["axis"].annotation) if "axis" in c.entry.parameters else "Axes"
    if annotation == "int":
        kinds = ["one"]
    elif "Axes" not in annotation:
        kinds = ["one", "none"]
    kind = c.scope.one_of(kinds)
    rank = c.first.ndim
    if kind == "none" or not rank:
        return "None" if annotation != "int" else "0"
    if kind == "one":
        return str(c.scope.number(-rank, rank - 1))
    axes = sorted(c.scope.random.permutation(rank)[: 2 if kind == "pair" else rank].tolist())
    return repr(tuple(axes))


def _one_axis(c: Call) -> str:
    return str(c.scope.number(-max(c.first.ndim, 1), max(c.first.ndim, 1) - 1))


def _permutation(c: Call) -> str:
    return repr(tuple(int(k) for k in c.scope.random.permutation(c.first.ndim)))


def _new_shape(c: Call) -> str:
    size = c.first.size
    if c.scope.chance(0.3):
        return "(-1,)"
    divisors = [d for d in range(1, size + 1) if size % d == 0] or [0]
    d = int(c.scope.one_of(divisors))
    return repr((d, size // d) if d and c.scope.chance(0.7) else (size,))


def _wider_shape(c: Call) -> str:
    shape = tuple(n if n != 1 else c.scope.number(1, 3) for n in c.first.shape)
    return repr((*([c.scope.number(1, 3)] if c.scope.chance(0.6) else []), *shape))


def _indices(c: Call) -> str:
    axis = c.written.get("axis")
    bound = c.first.size if axis is None else c.first.shape[-1] if c.first.ndim else 1
    bound = min([bound, *c.first.shape])
    if not bound:
        raise NotThisTimeError
    shape = c.scope.one_of(((2,), (3,), (), (2, 2)))
    return literal(c.scope.random.integers(-bound, bound, shape))


def _mask(c: Call) -> str:
    return f"{c.name} > {c.scope.one_of((0, -0.5, 0.25))}"


def _repeats(c: Call) -> str:
    return str(c.scope.number(0, 3))


def _shift(c: Call) -> str:
    return str(c.scope.number(-3, 4))


def _dtype(c: Call) -> str:
    """Any dtype that NumPy's cast of the operand is defined for: of floats beyond the integers it is the platform's."""
    chosen = str(c.scope.one_of(DTYPES))
    if chosen == "np.uint8" and c.entry.name != "astype" and c.first.dtype.kind == "f" and np.any(c.first < 0):
        raise NotThisTimeError
    return chosen


def _several(c: Call) -> str:
    """A list of arrays: the same shape, or whatever stands in the pool."""
    count = c.scope.number(1, 3)
    names = [c.name]
    for _ in range(count):
        names.append(c.scope.pick(lambda a: a.shape == c.first.shape) if c.scope.chance(0.8) else c.scope.pick())
    return f"[{', '.join(names)}]"


def _more_arrays(c: Call) -> str:
    return c.scope.pick(lambda a: a.size <= 8)


def _pad_width(c: Call) -> str:
    if c.scope.chance(0.3):
        return str(c.scope.number(0, 2))
    return repr(tuple((c.scope.number(0, 2), c.scope.number(0, 2)) for _ in range(max(c.first.ndim, 1))))


def _tensordot_axes(c: Call) -> str:
    return str(c.scope.one_of((0, 1, "([0], [0])", "([-1], [-1])", "([0], [-1])")))


def _class_labels(c: Call) -> str:
    if c.first.ndim < 1 or not c.first.size:
        raise NotThisTimeError
    shape = c.first.shape[:1] + c.first.shape[2:] if c.first.ndim > 1 else ()
    classes = c.first.shape[1] if c.first.ndim > 1 else c.first.shape[0]
    return literal(c.scope.random.integers(0, classes, shape))


def _sections(c: Call) -> str:
    return str(c.scope.one_of((1, 2, "[1]", "[1, 2]")))


def _window(c: Call) -> str:
    return str(c.scope.number(1, 2))


def _reps(c: Call) -> str:
    return str(c.scope.one_of((1, 2, "(2, 1)", "(1, 2)", "()")))


def _last_axes(c: Call) -> str:
    return repr(c.first.shape[-1:])


def _axes_pair(c: Call) -> str:
    return str(c.scope.one_of(("(0, 1)", "(1, 0)", "(-1, 0)")))


def _order_of_norm(c: Call) -> str:
    return str(c.scope.one_of((1, 2, 3, "np.inf", "-np.inf", "None", "'fro'", 0.5)))


def _unit_interval(c: Call) -> str:
    return f"0.5 + 0.45 * np.tanh({c.name})"


def _positive(c: Call) -> str:
    return f"0.5 + abs({c.name})"


MAKERS: dict[str, Maker] = {
    "axis": _axis, "dim": _axis, "dtype": _dtype, "axis1": _one_axis, "axis2": _one_axis, "axes": _permutation,
    "shape": _new_shape, "broadcast_to.shape": _wider_shape, "full_like.shape": _wider_shape, "full.shape": _reps,
    "full.fill_value": lambda c: c.name, "full_like.fill_value": lambda c: c.name, "ones_like.shape": _wider_shape,
    "zeros_like.shape": _wider_shape, "indices": _indices, "where": _mask, "repeats": _repeats, "shift": _shift,
    "reps": _reps, "arrays": _several, "tup": _several, "arys": _more_arrays, "args": _more_arrays, "xi": _more_arrays,
    "pad_width": _pad_width, "constant_values": lambda c: repr(c.scope.one_of((0, 1.5))),
    "tensordot.axes": _tensordot_axes,
    "indices_or_sections": _sections, "window_shape": _window, "source": _one_axis, "destination": _one_axis,
    "normalized_shape": _last_axes, "rot90.axes": _axes_pair, "ord": _order_of_norm, "weights": _positive,
    "average.weights": _positive, "start": _one_axis, "cross_entropy.target": _class_labels,
    "nll_loss.target": _class_labels, "binary_cross_entropy.target": _unit_interval, "condition": _mask,
    "kl_div.target": _unit_interval, "gaussian_nll_loss.var": _positive, "Node.transpose.axes": _permutation,
    "linspace.start": lambda c: c.name, "logspace.start": lambda c: c.name, "indexing": lambda c: "'ij'",
    "include_initial": lambda c: "True", "a_max": lambda c: "0.5", "sorter": lambda c: "None",
    "choicelist": _several, "condlist": lambda c: f"[{_mask(c)}, {_mask(c)}]",
    "dropout.key": lambda c: "np.array([0, 3], np.uint32)", "dropout2d.key": lambda c: "np.array([1, 2], np.uint32)",
    "kth": lambda c: "0",
    "searchsorted.v": _partner, "vdot.b": _partner, "sample": lambda c: f"{c.name}",
    "fweights": lambda c: literal(c.scope.random.integers(0, 4, c.first.shape[-1:])),
    "aweights": lambda c: literal(np.round(c.scope.random.uniform(0.1, 2, c.first.shape[-1:]), 2)),
}  # fmt: skip
LEAST_DIMENSIONS = {
    **dict.fromkeys(("argsort", "sort", "split", "array_split", "hsplit", "unstack", "diff", "trapezoid", "softmax",
                     "log_softmax", "softmin", "convolve", "sliding_window_view", "layer_norm", "rms_norm",
                     "take_along_axis", "repeat", "median", "vecdot", "matvec", "vecmat", "linear"), 1),
    **dict.fromkeys(("tril", "triu", "diagonal", "trace", "fliplr", "rot90", "matrix_transpose", "vsplit",
                     "matrix_norm", "matrix_power", "swapaxes", "moveaxis", "cross_entropy", "nll_loss", "normalize",
                     "linear", "scaled_dot_product_attention", "diag"), 2),
    "dsplit": 3, "dropout2d": 3,
}  # fmt: skip


# -- functions whose arguments hang together ---------------------------------------------------------------------------


def _einsum(scope: Scope) -> str:
    x = scope.float(1)
    rank = scope.values[x].ndim
    letters = "abcd"[:rank]
    if scope.chance(0.3) and rank >= 2:
        return f"gnp.einsum('{letters}->{letters[::-1]}', {x})"
    y = scope.pick(lambda a: is_float(a) and 1 <= a.ndim <= 3)
    other, sizes = "", dict(zip(letters, scope.values[x].shape, strict=True))
    for n in scope.values[y].shape:
        same = [k for k, m in sizes.items() if m == n and k not in other]
        new = next(k for k in "efghij" if k not in other)
        other += scope.one_of(same) if same and scope.chance(0.7) else new
    both = sorted(set(letters) | set(other))
    kept = [k for k in both if scope.chance(0.5)]
    return f"gnp.einsum('{letters},{other}->{''.join(kept)}', {x}, {y})"


def _take_along_axis(scope: Scope) -> str:
    x = scope.float(1)
    axis = scope.number(-scope.values[x].ndim, scope.values[x].ndim - 1)
    return f"gnp.take_along_axis({x}, gnp.argsort({x}, axis={axis}), axis={axis})"


def _searchsorted(scope: Scope) -> str:
    return f"gnp.searchsorted(gnp.sort({scope.float(1, lambda a: a.ndim == 1)}), {scope.float()})"


def _method_searchsorted(scope: Scope) -> str:
    return f"gnp.sort({scope.float(1, lambda a: a.ndim == 1)}).searchsorted({scope.float()})"


def _select(scope: Scope) -> str:
    x = scope.float()
    y = scope.pick(lambda a: a.shape == scope.values[x].shape)
    return f"gnp.select([{x} > 0.5, {x} < -0.5], [gnp.sin({x}), {y}], {scope.one_of((0, 1.5))})"


def _embedding(scope: Scope) -> str:
    w = scope.float(2, lambda a: a.ndim == 2 and a.shape[0] > 0)
    return f"nn.embedding({literal(scope.random.integers(0, scope.values[w].shape[0], (3,)))}, {w})"


def _one_hot(scope: Scope) -> str:
    x = scope.float(1)
    return f"{x} * nn.one_hot(gnp.argmax({x}, axis=-1), {x}.shape[-1], dtype={x}.dtype)"


def _images(scope: Scope, channels: int = 2) -> str:
    """Some value as a small image N × C × H × W."""
    x = scope.float(fits=lambda a: a.size > 0)
    return f"gnp.tile(gnp.ravel({x}), 32)[:{channels * 12}].reshape(1, {channels}, 4, 3)"


def _conv2d(scope: Scope) -> str:
    images = _images(scope)
    w = scope.float(fits=lambda a: a.size > 0)
    weight = f"gnp.tile(gnp.ravel({w}), 16)[:12].reshape(3, 2, 2, 1)"
    stride, padding, dilation = scope.number(1, 2), scope.number(0, 1), scope.number(1, 2)
    if scope.chance(0.3):
        return f"nn.conv2d({images}, gnp.tile(gnp.ravel({w}), 16)[:8].reshape(2, 1, 2, 2), groups=2, padding={padding})"
    return f"nn.conv2d({images}, {weight}, stride={stride}, padding={padding}, dilation=({dilation}, 1))"


def _pool(name: str) -> Callable[[Scope], str]:
    def pooled(scope: Scope) -> str:
        return f"nn.{name}({_images(scope)}, {scope.number(1, 3)}, stride={scope.number(1, 2)})"

    return pooled


def _attention(scope: Scope) -> str:
    q = scope.float(2, lambda a: a.ndim in (2, 3) and a.size > 0)
    k = scope.float(2, lambda a: a.ndim == scope.values[q].ndim and a.shape[-1] == scope.values[q].shape[-1])
    causal = f", is_causal={scope.chance(0.5)}"
    return f"nn.scaled_dot_product_attention({q}, {k}, gnp.sin({k}){causal})"


def _linear(scope: Scope) -> str:
    x = scope.float(1, lambda a: a.shape[-1] > 0)
    w = literal(np.round(scope.random.uniform(-1, 1, (2, scope.values[x].shape[-1])), 2))
    return f"nn.linear({x}, {w}{', np.array([0.5, -1.0])' if scope.chance(0.5) else ''})"


def _probabilities(name: str) -> Callable[[Scope], str]:
    def loss(scope: Scope) -> str:
        x = scope.float()
        y = scope.pick(lambda a: a.shape == scope.values[x].shape)
        reduction = scope.one_of(WORDS["reduction"])
        return f"nn.{name}(nn.sigmoid({x}), 0.5 + 0.4 * np.sin({y}), reduction={reduction!r})"

    return loss


def _multi_dot(scope: Scope) -> str:
    x = scope.float(2, lambda a: a.ndim == 2)
    return f"gnp.linalg.multi_dot([{x}, {x}.T, gnp.cos({x})])"


def _square(path: str) -> Callable[[Scope], str]:
    def power(scope: Scope) -> str:
        x = scope.float(2, lambda a: a.ndim == 2)
        return f"{path}({x} @ {x}.T, {scope.number(0, 3)})"

    return power


def _logit(scope: Scope) -> str:
    return f"special.logit(0.5 + 0.45 * np.tanh({scope.float()}))"


def _ndtri(scope: Scope) -> str:
    return f"special.ndtri(0.5 + 0.45 * np.tanh({scope.float()}))"


def _polygamma(scope: Scope) -> str:
    return f"special.polygamma({scope.number(0, 3)}, 1.5 + np.tanh({scope.float()}))"


def _append(scope: Scope) -> str:
    x = scope.float(1)
    return f"gnp.append({x}, {scope.pick(lambda a: a.ndim == scope.values[x].ndim)}, axis={scope.one_of((0, 'None'))})"


def _where(scope: Scope) -> str:
    x = scope.float()
    return f"gnp.where({x} > {scope.one_of((0, 0.25))}, {x}, {_broadcastable(scope, scope.values[x])})"


def _lcm(scope: Scope) -> str:
    x = scope.pick()
    whole = f"gnp.astype({x}, np.int64)" if is_float(scope.values[x]) else x
    return f"gnp.lcm({whole}, {scope.number(1, 9)})"


def _bincount(scope: Scope) -> str:
    x = scope.float(1, lambda a: a.ndim == 1)
    whole = f"gnp.astype(abs({x}) * 2, np.int64)"
    weights = f", {x}" if scope.chance(0.6) else ""
    return f"gnp.bincount({whole}{weights}, length=6)"


def _definite(call: str) -> Callable[[Scope], str]:
    """A call of symmetric positive matrices {a} and right-hand sides {b}."""

    def form(scope: Scope) -> str:
        x = scope.float(2, lambda a: a.ndim == 2)
        rows = scope.values[x].shape[0]
        matrix = f"{x} @ {x}.T + {rows + 1} * np.eye({rows}, dtype={x}.dtype)"
        return call.format(a=f"({matrix})", b=f"gnp.sin({x})", x=x)

    return form


WHOLE: dict[str, Callable[[Scope], str]] = {
    **WRITTEN, **RANDOM, **LOSSES, **FIRST, **LAYERS,
    "gnp.linalg.cholesky": _definite("gnp.linalg.cholesky({a})"), "gnp.linalg.inv": _definite("gnp.linalg.inv({a})"),
    "gnp.linalg.solve": _definite("gnp.linalg.solve({a}, {b})"), "gnp.linalg.det": _definite("gnp.linalg.det({a})"),
    "gnp.linalg.slogdet": _definite("gnp.linalg.slogdet({a})[1]"), "gnp.linalg.qr": _definite("gnp.linalg.qr({a})[1]"),
    "gnp.linalg.tensorsolve": _definite("gnp.linalg.tensorsolve({a}, {b}[:, 0])"),
    "gnp.linalg.tensorinv": _definite("gnp.linalg.tensorinv({a}, ind=1)"),
    "gc.linalg.solve_triangular": _definite("gc.linalg.solve_triangular({a}, {b}, lower=True)"),
    "gc.linalg.cho_factor": _definite("gnp.triu(gc.linalg.cho_factor({a})[0])"),
    "gc.linalg.cho_solve": _definite("gc.linalg.cho_solve(gc.linalg.cho_factor({a}), {b})"),
    "gc.linalg.lu": _definite("gc.linalg.lu({a})[2]"), "gc.linalg.lu_factor": _definite("gc.linalg.lu_factor({a})[0]"),
    "gc.linalg.lu_solve": _definite("gc.linalg.lu_solve(gc.linalg.lu_factor({a}), {b}, trans=1)"),
    "gc.linalg.expm": _definite("gc.linalg.expm(-{a})"), "gc.linalg.kron": _definite("gc.linalg.kron({x}, {b})"),
    "gc.linalg.block_diag": _definite("gc.linalg.block_diag({x}, {b})"),
    "gnp.linalg.cond": _definite("gnp.linalg.cond({a})"), "gnp.linalg.eigh": _definite("gnp.linalg.eigh({a})[0]"),
    "gnp.linalg.eigvalsh": _definite("gnp.linalg.eigvalsh({a})"),
    "gnp.linalg.svdvals": _definite("gnp.linalg.svdvals({a})"), "gnp.linalg.pinv": _definite("gnp.linalg.pinv({a})"),
    "gnp.linalg.lstsq": _definite("gnp.linalg.lstsq({a}, {b})[0]"),
    "gnp.linalg.matrix_rank": _definite("gnp.linalg.matrix_rank({a})"),
    "gnp.linalg.svd": _definite("gnp.linalg.svd({a}, compute_uv=False)"),
    "gc.linalg.sqrtm": _definite("gc.linalg.sqrtm({a})"),
    "gc.linalg.toeplitz": _definite("gc.linalg.toeplitz({x}[:, 0], {b}[0])"),
    "gnp.bincount": _bincount,
    "gnp.lcm": _lcm,
    "gnp.einsum": _einsum, "gnp.take_along_axis": _take_along_axis, "gnp.searchsorted": _searchsorted,
    "gnp.select": _select, "nn.embedding": _embedding, "nn.one_hot": _one_hot, "nn.conv2d": _conv2d,
    "nn.max_pool2d": _pool("max_pool2d"), "nn.avg_pool2d": _pool("avg_pool2d"), "gnp.where": _where,
    "nn.scaled_dot_product_attention": _attention, "nn.linear": _linear, "gnp.linalg.multi_dot": _multi_dot,
    "nn.binary_cross_entropy": _probabilities("binary_cross_entropy"),
    "gnp.linalg.matrix_power": _square("gnp.linalg.matrix_power"),
    "special.logit": _logit, "special.ndtri": _ndtri, "special.polygamma": _polygamma, "gnp.append": _append,
    "Node.searchsorted": _method_searchsorted,
}  # fmt: skip
