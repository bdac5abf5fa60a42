"""Run the models of examples/models in PyTorch, and store what they give: ``python -m tests.peers.models``.

Needs torch, which the tests do not: they read `models.npz`.  For each model: its loss at the weights and batch of
`MODELS`, in float64, and for every array of parameters in order the norm of its gradient and its product with `probe`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import gradc as gc
from examples.models import encoder, gpt, language, lenet, resnet, unet, vae

FILE = Path(__file__).with_suffix(".npz")
Case = tuple[Any, tuple[Any, ...], Callable[..., Any]]


def probe(shape: tuple[int, ...]) -> Any:
    """Numbers between −1 and 1 that look like noise and are the same everywhere."""
    return np.sin(12.9898 * np.arange(1.0, 1.0 + np.prod(shape, dtype=int)) ** 1.3).reshape(shape)


def weights(initial: Any) -> Any:
    """Parameters of the structure of ``initial``, in float64, large enough for every path to count."""
    count = 0

    def like(x: Any) -> Any:
        nonlocal count
        count += 1
        near = 1.0 if np.all(x == 1) else 0.0
        return near + probe((*x.shape, count))[..., -1] * (0.3 if near else 1.5 / np.sqrt(max(1, x.shape[-1])))

    return gc.tree.map(like, initial)


def images(count: int) -> Any:
    return gc.data.digits().images[:count].reshape(-1, 1, 8, 8).astype(np.float64)


def letters(time: int, batch: int) -> Any:
    return np.floor(np.abs(probe((time, batch))) * len(language.LETTERS)).astype(np.int64)


def of_text(kind: str, batch: int) -> Callable[..., Any]:
    return lambda p, text: language.loss(p, language.begun(kind, batch), text)[0]


def noise(count: int) -> Any:
    """What `vae` draws for so many images."""
    return gc.random.normal(gc.random.key(0), (count, vae.CODE), np.float64)


def digits(count: int) -> Any:
    """Rows for `gpt`: digits, and the same digits in order."""
    rows = np.floor(np.abs(probe((count, gpt.LENGTH))) * gpt.DIGITS).astype(np.int64)
    return np.concatenate([rows, np.sort(rows)], axis=1)


def labels(count: int) -> Any:
    return gc.data.digits().labels[:count]


def cases() -> dict[str, Case]:
    """Parameters, a batch, and gradc's loss of both, by model."""
    key = gc.random.key(0)
    res, seen = resnet.initial(key)
    seen = gc.tree.map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, seen)
    flat = images(6).reshape(6, -1)
    return {
        "encoder": (weights(encoder.initial(key)), (flat, labels(6)), encoder.loss),
        "gpt": (weights(gpt.initial(key)), (digits(4),), gpt.loss),
        "language, gru": (weights(language.initial(key, "gru")), (letters(9, 3),), of_text("gru", 3)),
        "language, lstm": (weights(language.initial(key, "lstm")), (letters(9, 3),), of_text("lstm", 3)),
        "lenet": (weights(lenet.initial(key)), (images(6), labels(6)), lenet.loss),
        "resnet": (weights(res), (images(6), labels(6)), lambda p, x, y: resnet.loss(p, seen, x, y)[0]),
        "unet": (weights(unet.initial(key)), (images(4)[::-1].copy(), images(4)), unet.loss),
        "vae": (weights(vae.initial(key)), (flat, noise(6)), lambda p, x, _: vae.loss(p, key, x)),
    }


# -- the same in PyTorch -----------------------------------------------------------------------------------------------


def torch_encoder(p: Any, x: Any, y: Any) -> Any:
    from torch.nn import functional as f

    def dense(q: Any, x: Any) -> Any:
        return f.linear(x, q["W"].T, q["b"])

    def normed(q: Any, x: Any) -> Any:
        return f.layer_norm(x, (encoder.WIDTH,), **q)

    x = x.reshape(-1, 4, 2, 4, 2).transpose(2, 3).reshape(-1, encoder.PATCHES, 4)
    x = dense(p["patch"], x) + p["places"]
    for q in p["blocks"]:
        parts = dense(q["qkv"], normed(q["norm1"], x)).chunk(3, -1)
        heads = [part.unflatten(-1, (encoder.HEADS, -1)).transpose(1, 2) for part in parts]
        x = x + dense(q["out"], f.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
        x = x + dense(q["down"], f.gelu(dense(q["up"], normed(q["norm2"], x))))
    return f.cross_entropy(dense(p["head"], normed(p["norm"], x).mean(1)), y)


def torch_language(p: Any, text: Any) -> Any:
    from torch.nn import functional as f

    return f.cross_entropy((recurrent(p, f.embedding(text[:-1], p["letters"])) @ p["out"].T).flatten(0, 1),
                           text[1:].flatten())  # fmt: skip


def recurrent(p: Any, x: Any) -> Any:
    """The outputs of the LSTM or GRU of `language`, whose states begin at 0."""
    import torch

    zeros = torch.zeros(1, x.shape[1], language.WIDTH, dtype=x.dtype)
    options = (True, 1, 0.0, True, False, False)
    if len(p["cell"][2]) == 4 * language.WIDTH:
        return torch.lstm(x, (zeros, zeros), p["cell"], *options)[0]
    return torch.gru(x, zeros, p["cell"], *options)[0]


def torch_unet(p: Any, x: Any, y: Any) -> Any:
    import torch
    from torch.nn import functional as f

    def doubled(level: Any, x: Any) -> Any:
        for q in level:
            x = f.relu(f.conv2d(x, q["W"], q["b"], padding=1))
        return x

    seen = [doubled(p["down"][0], x)]
    for level in p["down"][1:]:
        seen.append(doubled(level, f.max_pool2d(seen[-1], 2)))
    x = seen.pop()
    for level in p["up"]:
        x = f.conv_transpose2d(x, level["grow"]["W"], level["grow"]["b"], stride=2)
        x = doubled(level["convs"], torch.cat([seen.pop(), x], 1))
    return f.mse_loss(f.conv2d(x, p["last"]["W"], p["last"]["b"]), y)


def torch_vae(p: Any, x: Any, ε: Any) -> Any:
    import torch
    from torch.nn import functional as f

    def dense(q: Any, x: Any) -> Any:
        return f.linear(x, q["W"].T, q["b"])

    μ, s = dense(p["code"], torch.tanh(dense(p["enter"], x))).chunk(2, -1)
    z = dense(p["image"], torch.tanh(dense(p["leave"], μ + torch.exp(s / 2) * ε)))
    missed = f.binary_cross_entropy_with_logits(z, x, reduction="sum")
    return (missed + 0.5 * (μ**2 + s.exp() - 1 - s).sum()) / len(x)


def torch_gpt(p: Any, tokens: Any) -> Any:
    from torch.nn import functional as f

    def block(q: Any, x: Any) -> Any:
        h = f.layer_norm(x, (gpt.WIDTH,), **q["norm1"])
        heads = [part.unflatten(-1, (gpt.HEADS, -1)).transpose(1, 2) for part in (h @ q["qkv"]).chunk(3, -1)]
        x = x + f.scaled_dot_product_attention(*heads, is_causal=True).transpose(1, 2).flatten(2) @ q["out"]
        return x + f.gelu(f.layer_norm(x, (gpt.WIDTH,), **q["norm2"]) @ q["up"], approximate="tanh") @ q["down"]

    given = tokens[:, :-1]
    x = f.embedding(given, p["tokens"]) + p["places"][: given.shape[1]]
    for q in p["blocks"]:
        x = block(q, x)
    z = f.layer_norm(x, (gpt.WIDTH,), **p["norm"]) @ p["tokens"].T
    return f.cross_entropy(z[:, gpt.LENGTH - 1 :].flatten(0, 1), tokens[:, gpt.LENGTH :].flatten())


def torch_lenet(p: Any, x: Any, y: Any) -> Any:
    import torch
    from torch.nn import functional as f

    for name in ("conv1", "conv2"):
        x = f.avg_pool2d(torch.tanh(f.conv2d(x, p[name]["W"], p[name]["b"], padding=1)), 2)
    x = x.flatten(1)
    for name in ("dense1", "dense2"):
        x = torch.tanh(f.linear(x, p[name]["W"], p[name]["b"]))
    return f.cross_entropy(f.linear(x, p["dense3"]["W"], p["dense3"]["b"]), y)


def torch_resnet(p: Any, x: Any, y: Any) -> Any:
    from torch.nn import functional as f

    def normed(q: Any, x: Any) -> Any:
        return f.batch_norm(x, None, None, q["weight"], q["bias"], training=True)

    x = f.relu(normed(p["norm"], f.conv2d(x, p["stem"], padding=1)))
    for q in p["blocks"]:
        stride = 2 if "skip" in q else 1
        h = f.relu(normed(q["norm1"], f.conv2d(x, q["conv1"], stride=stride, padding=1)))
        h = normed(q["norm2"], f.conv2d(h, q["conv2"], padding=1))
        x = f.relu(h + (f.conv2d(x, q["skip"], stride=2) if stride == 2 else x))
    return f.cross_entropy(f.linear(x.mean((2, 3)), p["dense"]), y, label_smoothing=0.1)


TORCH: dict[str, Callable[..., Any]] = {
    "encoder": torch_encoder, "gpt": torch_gpt, "language, gru": torch_language, "language, lstm": torch_language,
    "lenet": torch_lenet, "resnet": torch_resnet, "unet": torch_unet, "vae": torch_vae,
}  # fmt: skip


def summary(loss: Any, gradients: Any) -> Any:
    """The loss, then norm and product with `probe` of each gradient."""
    parts = [np.array([np.linalg.norm(g), np.vdot(g, probe(g.shape))]) for g in map(np.asarray, gradients)]
    return np.concatenate([[float(loss)], *parts])


def of_torch(name: str) -> Any:
    import torch

    p, batch, _ = cases()[name]
    leaves = gc.tree.map(lambda x: torch.tensor(x, requires_grad=True), p)
    loss = TORCH[name](leaves, *map(torch.as_tensor, batch))
    loss.backward()
    return summary(loss.detach(), [x.grad for x in gc.tree.leaves(leaves)])


if __name__ == "__main__":
    np.savez(FILE, **{name: of_torch(name) for name in TORCH})
    print(f"wrote {FILE.name}: {', '.join(TORCH)}")
