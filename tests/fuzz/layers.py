"""How layers of gc.nn are called: arguments of their shapes, cut out of whatever floats a program has.

Start reading at `LAYERS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tests.fuzz.scope import Scope

Shape = tuple[int, ...]
_KEY = "np.array([5, 7], np.uint32)"


def _layer(text: str, **shapes: Shape) -> Callable[[Scope], str]:
    """A call with arrays of these shapes by name, each made of some value."""

    def made(scope: Scope) -> str:
        found = {}
        for name, shape in shapes.items():
            x, count = scope.float(fits=lambda a: a.size > 0), math.prod(shape)
            found[name] = f"gnp.tile(gnp.ravel({x}), {count})[:{count}].reshape({shape!r})"
        return "nn." + text.format(**found)

    return made


def _recurrent(name: str, gates: int) -> Callable[[Scope], str]:
    weights = {"w": (2 * gates, 3), "u": (2 * gates, 2), "b": (2 * gates,)}
    states = "({h}, {c})" if gates == 4 else "{h}"
    if name.endswith("_cell"):
        text = f"{name}({{x}}, {states}, {{w}}, {{u}}, {{b}})" + ("[0]" if gates == 4 else "")
        return _layer(text, x=(2, 3), h=(2, 2), c=(2, 2), **weights)
    text = f"{name}({{x}}, {states}, [{{w}}, {{u}}, {{b}}, {{b}}])[0]"
    return _layer(text, x=(3, 2, 3), h=(1, 2, 2), c=(1, 2, 2), **weights)


_LINE, _IMAGE, _SPACE = (1, 2, 7), (1, 2, 4, 5), (1, 2, 2, 3, 2)
_OF_RANK = {1: _LINE, 2: _IMAGE, 3: _SPACE}

#: a public name: how a call of it is written
LAYERS: dict[str, Callable[[Scope], str]] = {
    "nn.causal_mask": _layer("causal_mask(3, 4, window=2, offset=gnp.sum({x} > 0)) * 1.0", x=(2,)),
    "nn.segment_mask": _layer("segment_mask({x} > 0) * 1.0", x=(4,)),
    "nn.residual": _layer("residual({x}, np.sin)", x=(2, 3)),
    "nn.pre_norm": _layer("pre_norm({x}, np.sin, lambda h: nn.layer_norm(h, 3, eps=0.1))", x=(2, 3)),
    "nn.post_norm": _layer("post_norm({x}, np.sin, lambda h: nn.layer_norm(h, 3, eps=0.1))", x=(2, 3)),
    "nn.deep_norm": _layer("deep_norm({x}, np.sin, lambda h: nn.layer_norm(h, 3, eps=0.1), 4)", x=(2, 3)),
    "nn.conv3d": _layer("conv3d({x}, {w})", x=_SPACE, w=(2, 2, 2, 2, 1)),
    "nn.conv_transpose2d": _layer("conv_transpose2d({x}, {w}, stride=2)", x=(1, 2, 2, 2), w=(2, 1, 2, 3)),
    "nn.conv_transpose3d": _layer("conv_transpose3d({x}, {w}, groups=2)", x=(1, 2, 1, 2, 2), w=(2, 1, 2, 1, 2)),
    "nn.multi_head_attention": _layer(
        "multi_head_attention({x}, {x}, {x}, {w}, None, {o}, None, 2, is_causal=True, rotary=True)",
        x=(1, 3, 4), w=(12, 4), o=(4, 4),
    ),
    "nn.bilinear": _layer("bilinear({x}, {y}, {w})", x=(2, 3), y=(2, 2), w=(2, 3, 2)),
    "nn.embedding_bag": _layer("embedding_bag([[0, 2], [1, 1]], {w})", w=(3, 2)),
    "nn.batch_norm": _layer("batch_norm({x}, None, None, {w}, training=True, eps=0.1)", x=(4, 2), w=(2,)),
    "nn.running_batch_norm": _layer("running_batch_norm({x}, nn.batch_norm_state(2), eps=0.1)[0]", x=(4, 2)),
    "nn.group_norm": _layer("group_norm({x}, 2, eps=0.1)", x=(1, 4, 3)),
    "nn.local_response_norm": _layer("local_response_norm({x}, 2)", x=_LINE),
    "nn.weight_norm": _layer("weight_norm(2.0 + np.sin({x}), {g})", x=(2, 3), g=(2,)),
    "nn.spectral_norm": _layer(
        "spectral_norm(2.0 + np.sin({x}), nn.SpectralNormState(np.full(2, 0.5), np.full(3, 0.5)))[0]", x=(2, 3)
    ),
    "nn.sinusoidal": _layer("sinusoidal(gnp.argsort({x}), 4)", x=(3,)),
    "nn.alibi": _layer("alibi(2, 3, offset=gnp.sum({x} > 0))", x=(2,)),
    **{f"nn.{n}": _layer(f"{n}({{x}}, 0.25, {_KEY})", x=_LINE) for n in
       ("alpha_dropout", "dropout1d", "feature_alpha_dropout")},
    "nn.dropout3d": _layer(f"dropout3d({{x}}, 0.25, {_KEY})", x=_SPACE),
    **{f"nn.adaptive_{how}_pool{k}d": _layer(f"adaptive_{how}_pool{k}d({{x}}, 2)", x=_OF_RANK[k])
       for k in (1, 2, 3) for how in ("avg", "max")},
    **{f"nn.lp_pool{k}d": _layer(f"lp_pool{k}d(2.0 + np.sin({{x}}), 3.0, 2)", x=_OF_RANK[k]) for k in (1, 2, 3)},
    **{f"nn.max_unpool{k}d": _layer(f"max_unpool{k}d(*nn.max_pool{k}d({{x}}, 2, return_indices=True), 2, "
                                    f"output_size={_OF_RANK[k][-k:]})", x=_OF_RANK[k]) for k in (1, 2, 3)},
    "nn.grid_sample": _layer("grid_sample({x}, 0.9 * np.sin({g}), 'bicubic', 'reflection')", x=_IMAGE, g=(1, 2, 3, 2)),
    "nn.affine_grid": _layer("affine_grid({x}, (2, 1, 3, 4))", x=(2, 2, 3)),
    "nn.cutmix": _layer(f"cutmix({{x}}, {{y}}, key={_KEY})[0]", x=(3, 1, 4, 5), y=(3, 2)),
    "nn.linear_cross_entropy": _layer("linear_cross_entropy({x}, {w}, np.array([4, 0, 2]), linear_bias={b}, chunk=2)",
                                      x=(3, 2), w=(5, 2), b=(5,)),
    "nn.fold": _layer("fold({x}, (3, 4), 2)", x=(1, 8, 6)),
    "nn.interpolate": _layer("interpolate({x}, (3, 7), mode='bicubic')", x=_IMAGE),
    "nn.pad": _layer("pad({x}, (1, 2), mode='reflect')", x=_LINE),
    "nn.pixel_shuffle": _layer("pixel_shuffle({x}, 2)", x=(1, 4, 2, 3)),
    "nn.pixel_unshuffle": _layer("pixel_unshuffle({x}, 2)", x=(1, 1, 2, 4)),
    **{f"nn.{n}{cell}": _recurrent(f"{n}{cell}", g) for n, g in
       (("rnn_tanh", 1), ("rnn_relu", 1), ("gru", 3), ("lstm", 4)) for cell in ("", "_cell")},
}  # fmt: skip
