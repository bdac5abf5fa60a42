"""Training steps of models of examples/models: a residual network with batch normalisation, an LSTM language model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tests.bench.peers import Function, gradc_facts, torch_contenders
from tests.bench.training import B1, B2, EPS, RATE, Batches, jax_training
from tests.bench.workload import Entrant, Training, Workload

IMAGES, SEQUENCES, LETTERS = 64, 32, 40
COUNTED = (
    "forward, backward, Adam in place; the residual network normalises by the statistics of the batch; the "
    "LSTM is PyTorch's own, in JAX and in gradc a scan; losses of five steps are compared"
)


def workloads(quick: bool) -> list[Workload]:
    titles = {
        "resnet": f"residual network of six blocks on 8 × 8 images, batch {IMAGES}, Adam step, f32",
        "lstm": f"LSTM language model, 64 units, {LETTERS} letters, batch {SEQUENCES}, Adam step, f32",
    }
    return [
        Workload(
            f"models/{name}", title, COUNTED,
            {"gradc": partial(_ours, name), "JAX": partial(_jax, name), **torch_contenders(partial(_torch, name))},
            tolerance=2e-3, goal=1.2,
        )
        for name, title in titles.items()
    ]  # fmt: skip


def _initial(name: str) -> Any:
    import gradc as gc
    from examples.models import language, resnet

    key = gc.random.key(0)
    return resnet.initial(key)[0] if name == "resnet" else language.initial(key, "lstm")


def _batches(name: str, count: int = 8) -> Batches:
    rng = np.random.default_rng(1)
    if name == "lstm":
        from examples.models import language

        texts = rng.integers(0, len(language.LETTERS), (count, LETTERS + 1, SEQUENCES))
        return [(text[:-1], text[1:]) for text in texts]
    images = rng.random((count, IMAGES, 1, 8, 8), np.float32)
    return list(zip(images, rng.integers(0, 10, (count, IMAGES)), strict=True))


def _ours(name: str) -> Entrant:
    import gradc as gc
    from examples.models import language, resnet

    _, seen = resnet.initial(gc.random.key(0))

    def of_images(p: Any, x: Any, y: Any) -> Any:
        return resnet.loss(p, seen, x, y)[0]

    def of_text(p: Any, x: Any, y: Any) -> Any:
        z, _ = language.run(p, language.begun("lstm", SEQUENCES), x)
        return gc.nn.cross_entropy(z.reshape(-1, len(language.LETTERS)), y.reshape(-1))

    optimizer = gc.optim.adam(RATE, B1, B2, EPS)
    step, data = gc.train_step(of_images if name == "resnet" else of_text, optimizer), _batches(name)

    def start() -> Any:
        params = _initial(name)
        return params, optimizer.init(params)

    return Training(start, step, data).entrant(**gradc_facts(step.lower(*start(), *data[0])))


def _torch(name: str, wrap: Function) -> Entrant:
    import torch

    import gradc as gc
    from tests.peers import models

    def of_text(p: Any, x: Any, y: Any) -> Any:
        z = models.recurrent(p, torch.nn.functional.embedding(x, p["letters"])) @ p["out"].T
        return torch.nn.functional.cross_entropy(z.flatten(0, 1), y.flatten())

    loss = wrap(models.torch_resnet if name == "resnet" else of_text)

    def start() -> Any:
        params = gc.tree.map(lambda a: torch.tensor(a, requires_grad=True), _initial(name))
        return params, torch.optim.Adam(gc.tree.leaves(params), RATE, (B1, B2), EPS, fused=True)

    def step(params: Any, optimizer: Any, x: Any, y: Any) -> Any:
        optimizer.zero_grad(set_to_none=True)
        value = loss(params, x, y)
        value.backward()
        optimizer.step()
        return params, optimizer, value.detach()

    return Training(start, step, [(torch.tensor(x), torch.tensor(y)) for x, y in _batches(name)]).entrant()


def _jax(name: str) -> Entrant:
    loss = _jax_of_images() if name == "resnet" else _jax_of_text()
    return jax_training(loss, partial(_initial, name), _batches(name), 0.0, None).entrant()


def _jax_of_images() -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    def conv(x: Any, w: Any, stride: int = 1) -> Any:
        around = ((w.shape[-1] // 2,) * 2,) * 2
        return jax.lax.conv_general_dilated(x, w, (stride, stride), around, dimension_numbers=("NCHW", "OIHW", "NCHW"))

    def normed(q: Any, x: Any) -> Any:
        deviation = x - x.mean((0, 2, 3), keepdims=True)
        y = deviation * jax.lax.rsqrt((deviation * deviation).mean((0, 2, 3), keepdims=True) + 1e-5)
        return y * q["weight"][:, None, None] + q["bias"][:, None, None]

    def loss(p: Any, x: Any, y: Any) -> Any:
        x = jax.nn.relu(normed(p["norm"], conv(x, p["stem"])))
        for q in p["blocks"]:
            stride = 2 if "skip" in q else 1
            h = jax.nn.relu(normed(q["norm1"], conv(x, q["conv1"], stride)))
            h = normed(q["norm2"], conv(h, q["conv2"]))
            x = jax.nn.relu(h + (conv(x, q["skip"], 2) if stride == 2 else x))
        z = jax.nn.log_softmax(x.mean((2, 3)) @ p["dense"].T)
        return -jnp.mean(0.9 * jnp.take_along_axis(z, y[:, None], 1)[:, 0] + 0.1 * z.mean(1))

    return loss


def _jax_of_text() -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    def loss(p: Any, x: Any, y: Any) -> Any:
        w, u, b, c = p["cell"]
        given = p["letters"][x] @ w.T + b + c

        def step(carry: Any, row: Any) -> Any:
            h, cell = carry
            i, f, g, o = jnp.split(row + h @ u.T, 4, -1)
            cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(cell)
            return (h, cell), h

        zeros = jnp.zeros((x.shape[1], u.shape[1]), given.dtype)
        _, h = jax.lax.scan(step, (zeros, zeros), given)
        z = h @ p["out"].T
        return jnp.mean(jax.nn.logsumexp(z, axis=-1) - jnp.take_along_axis(z, y[..., None], -1)[..., 0])

    return loss
