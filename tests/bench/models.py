"""Two models as their users write them, in gradc, JAX and PyTorch: a LeNet-like network and a character transformer.

Enters: nothing.  Leaves: builders of `Training` loops that start from the same parameters and see the same batches, by
contender (`LENET`, `TRANSFORMER`), and the rows that race them.  The counted floating-point operations are those of the
products alone: forward, and twice that backward, without the derivative by the images.
Start reading at `lenet_step` and `transformer_step`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

import gradc as gc
from gradc.tree import tree_map
from tests.bench.harness import Row, race
from tests.bench.workloads import B1, B2, BATCHES, EPS, LEARNING_RATE, Training, contender

Batches = Sequence[tuple[Any, Any]]
Build = Callable[[Batches], Training]


def model_step(title: str, counted: str, builders: Mapping[str, Build], batches: Batches, flops: int) -> Row:
    """Contenders whose losses of the first steps agree, raced from their initial parameters."""
    contenders = [
        contender(name, partial(build, batches), lambda result: [np.asarray(result, np.float64)])
        for name, build in builders.items()
    ]
    for c in contenders:
        c.values = partial(first_losses, builders[c.name], batches)
        c.reset = c.call.reset  # type: ignore[attr-defined]
    return race(title, counted, contenders, 1e-4, flops)


def first_losses(build: Build, batches: Batches, steps: int = 5) -> list[float]:
    """The losses of the first steps: equal derivatives give equal losses, whatever the order of a sum."""
    call = build(batches)
    return [float(call()) for _ in range(steps)]


def _uniform(rng: np.random.Generator, fan_in: int, shape: tuple[int, ...]) -> Any:
    return rng.uniform(-1, 1, shape).astype(np.float32) / np.float32(math.sqrt(fan_in))


# -- LeNet-like network ------------------------------------------------------------------------------------------------
LENET_BATCH = 64


def lenet_initial() -> dict[str, Any]:
    """PyTorch's initial distribution; weights of dense layers are (in, out)."""
    rng = np.random.default_rng(0)
    dense = [(f"w{k}", f"b{k}", m, n) for k, (m, n) in enumerate(((400, 120), (120, 84), (84, 10)), 3)]
    params = {
        "k1": _uniform(rng, 25, (6, 1, 5, 5)), "c1": _uniform(rng, 25, (6,)),
        "k2": _uniform(rng, 150, (16, 6, 5, 5)), "c2": _uniform(rng, 150, (16,)),
    }  # fmt: skip
    for w, b, m, n in dense:
        params |= {w: _uniform(rng, m, (m, n)), b: _uniform(rng, m, (n,))}
    return params


def lenet_batches(count: int = BATCHES, batch: int = LENET_BATCH) -> Batches:
    rng = np.random.default_rng(1)
    return [
        (rng.standard_normal((batch, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, batch)) for _ in range(count)
    ]


def lenet_flops(batch: int = LENET_BATCH) -> int:
    first = 28 * 28 * 6 * 25
    others = 10 * 10 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10
    return 2 * batch * (2 * first + 3 * others)


def lenet_step() -> Row:
    return model_step(
        "LeNet-like conv net, 28×28, batch 64, Adam step, f32", "forward, backward, Adam; FLOP of the products",
        LENET, lenet_batches(), lenet_flops(),
    )  # fmt: skip


def lenet_loss(p: Any, x: Any, y: Any) -> Any:
    """Two convolutions, each with ReLU and 2×2 maxima, then three dense layers."""
    x = gc.nn.max_pool2d(gc.nn.relu(gc.nn.conv2d(x, p["k1"], p["c1"], padding=2)), 2)
    x = gc.nn.max_pool2d(gc.nn.relu(gc.nn.conv2d(x, p["k2"], p["c2"])), 2)
    x = x.reshape(len(x), -1)
    x = gc.nn.relu(x @ p["w3"] + p["b3"])
    x = gc.nn.relu(x @ p["w4"] + p["b4"])
    return gc.nn.cross_entropy(x @ p["w5"] + p["b5"], y)


def gradc_lenet(batches: Batches) -> Training:
    optimizer = gc.optim.adam(LEARNING_RATE, B1, B2, EPS)
    step = gc.train_step(lenet_loss, optimizer)

    def start() -> Any:
        params = lenet_initial()
        return params, optimizer.init(params)

    return Training(start, step, batches)


def jax_lenet(batches: Batches) -> Training:
    import jax
    import jax.numpy as jnp
    from jax import lax

    def pooled(x: Any) -> Any:
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    def loss(p: Any, x: Any, y: Any) -> Any:
        x = lax.conv_general_dilated(x, p["k1"], (1, 1), ((2, 2), (2, 2))) + p["c1"][:, None, None]
        x = pooled(jax.nn.relu(x))
        x = lax.conv_general_dilated(x, p["k2"], (1, 1), "VALID") + p["c2"][:, None, None]
        x = pooled(jax.nn.relu(x)).reshape(len(x), -1)
        x = jax.nn.relu(x @ p["w3"] + p["b3"])
        x = jax.nn.relu(x @ p["w4"] + p["b4"])
        z = x @ p["w5"] + p["b5"]
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.take_along_axis(z, y[:, None], 1)[:, 0])

    return _jax_training(loss, lenet_initial, batches, decay=0.0, clip=None)


def torch_lenet(batches: Batches) -> Training:
    import torch
    from torch.nn import functional

    def loss(p: Any, x: Any, y: Any) -> Any:
        x = functional.max_pool2d(functional.relu(functional.conv2d(x, p["k1"], p["c1"], padding=2)), 2)
        x = functional.max_pool2d(functional.relu(functional.conv2d(x, p["k2"], p["c2"])), 2)
        x = x.flatten(1)
        x = functional.relu(x @ p["w3"] + p["b3"])
        x = functional.relu(x @ p["w4"] + p["b4"])
        return functional.cross_entropy(x @ p["w5"] + p["b5"], y)

    def optimizer(params: Any) -> Any:
        return torch.optim.Adam(params.values(), LEARNING_RATE, (B1, B2), EPS, foreach=True)

    return _torch_training(loss, lenet_initial, optimizer, batches, clip=None)


# -- character transformer ---------------------------------------------------------------------------------------------
LAYERS, WIDTH, HEADS, CONTEXT, SEQUENCES, SYMBOLS = 4, 128, 4, 64, 12, 65
DECAY, CLIP = 0.1, 1.0


def transformer_initial() -> dict[str, Any]:
    """GPT-2's initial distribution; no biases, and the embedding is also the last layer (Press & Wolf 2017)."""
    rng = np.random.default_rng(0)

    def normal(*shape: int, scale: float = 0.02) -> Any:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    def ones() -> Any:
        return np.ones(WIDTH, np.float32)

    def layer() -> dict[str, Any]:
        last = 0.02 / math.sqrt(2 * LAYERS)
        return {
            "n1": ones(), "qkv": normal(WIDTH, 3 * WIDTH), "out": normal(WIDTH, WIDTH, scale=last),
            "n2": ones(), "up": normal(WIDTH, 4 * WIDTH), "down": normal(4 * WIDTH, WIDTH, scale=last),
        }  # fmt: skip

    return {
        "token": normal(SYMBOLS, WIDTH), "place": normal(CONTEXT, WIDTH),
        "layers": [layer() for _ in range(LAYERS)], "n": ones(),
    }  # fmt: skip


def transformer_batches(count: int = 8) -> Batches:
    rng = np.random.default_rng(1)
    return [tuple(rng.integers(0, SYMBOLS, (2, SEQUENCES, CONTEXT))) for _ in range(count)]  # type: ignore[misc]


def transformer_flops() -> int:
    tokens = SEQUENCES * CONTEXT
    dense = LAYERS * 12 * WIDTH**2 + SYMBOLS * WIDTH
    attention = LAYERS * 2 * CONTEXT * WIDTH
    return 3 * 2 * tokens * (dense + attention)


def transformer_step() -> Row:
    return model_step(
        "character transformer, 4 layers, d 128, 4 heads, block 64, batch 12, AdamW step, f32",
        "forward, backward, clipping by global norm, AdamW; FLOP of the products",
        TRANSFORMER, transformer_batches(), transformer_flops(),
    )  # fmt: skip


def transformer_loss(p: Any, tokens: Any, targets: Any) -> Any:
    """GPT-2's architecture (Radford et al. 2019)."""
    x = gc.nn.embedding(tokens, p["token"]) + p["place"]
    for layer in p["layers"]:
        x = x + gradc_attention(gc.nn.layer_norm(x, WIDTH, layer["n1"]) @ layer["qkv"]) @ layer["out"]
        x = x + gc.nn.gelu(gc.nn.layer_norm(x, WIDTH, layer["n2"]) @ layer["up"]) @ layer["down"]
    z = gc.nn.layer_norm(x, WIDTH, p["n"]) @ p["token"].T
    return gc.nn.cross_entropy(z.reshape(-1, SYMBOLS), targets.reshape(-1))


def gradc_attention(qkv: Any) -> Any:
    n, t, _ = qkv.shape
    q, k, v = (a.reshape(n, t, HEADS, -1).swapaxes(1, 2) for a in np.split(qkv, 3, axis=-1))
    y = gc.nn.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.swapaxes(1, 2).reshape(n, t, -1)


def decayed(params: Any) -> Any:
    """Matrices decay, gains do not."""
    return tree_map(lambda p: p.ndim > 1, params)


def gradc_transformer(batches: Batches) -> Training:
    adamw = gc.optim.adamw(LEARNING_RATE, B1, B2, EPS, weight_decay=DECAY, mask=decayed)
    optimizer = gc.optim.chain(gc.optim.clip_by_global_norm(CLIP), adamw)
    step = gc.train_step(transformer_loss, optimizer)

    def start() -> Any:
        params = transformer_initial()
        return params, optimizer.init(params)

    return Training(start, step, batches)


def jax_transformer(batches: Batches) -> Training:
    import jax
    import jax.numpy as jnp

    def norm(x: Any, gain: Any) -> Any:
        deviation = x - x.mean(-1, keepdims=True)
        return deviation * jax.lax.rsqrt((deviation * deviation).mean(-1, keepdims=True) + 1e-5) * gain

    def attention(qkv: Any) -> Any:
        n, t, _ = qkv.shape
        q, k, v = (a.reshape(n, t, HEADS, -1) for a in jnp.split(qkv, 3, axis=-1))
        return jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(n, t, -1)

    def loss(p: Any, tokens: Any, targets: Any) -> Any:
        x = p["token"][tokens] + p["place"]
        for layer in p["layers"]:
            x = x + attention(norm(x, layer["n1"]) @ layer["qkv"]) @ layer["out"]
            x = x + jax.nn.gelu(norm(x, layer["n2"]) @ layer["up"], approximate=False) @ layer["down"]
        z = norm(x, p["n"]) @ p["token"].T
        return jnp.mean(jax.nn.logsumexp(z, axis=-1) - jnp.take_along_axis(z, targets[..., None], -1)[..., 0])

    return _jax_training(loss, transformer_initial, batches, DECAY, CLIP)


def torch_transformer(batches: Batches, compiled: bool = False) -> Training:
    import torch
    from torch.nn import functional

    def attention(qkv: Any) -> Any:
        n, t, _ = qkv.shape
        q, k, v = (a.view(n, t, HEADS, -1).transpose(1, 2) for a in qkv.chunk(3, -1))
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(n, t, -1)

    def loss(p: Any, tokens: Any, targets: Any) -> Any:
        x = functional.embedding(tokens, p["token"]) + p["place"]
        for k in range(LAYERS):
            n1, qkv, out, n2, up, down = (p[f"layers.{k}.{name}"] for name in ("n1", "qkv", "out", "n2", "up", "down"))
            x = x + attention(functional.layer_norm(x, (WIDTH,), n1) @ qkv) @ out
            x = x + functional.gelu(functional.layer_norm(x, (WIDTH,), n2) @ up) @ down
        z = functional.layer_norm(x, (WIDTH,), p["n"]) @ p["token"].T
        return functional.cross_entropy(z.view(-1, SYMBOLS), targets.view(-1))

    def optimizer(params: Any) -> Any:
        groups: list[dict[str, Any]] = [
            {"params": [p for p in params.values() if (p.ndim > 1) is decays], "weight_decay": DECAY * decays}
            for decays in (True, False)
        ]
        return torch.optim.AdamW(groups, LEARNING_RATE, (B1, B2), EPS, foreach=True)

    return _torch_training(torch.compile(loss) if compiled else loss, _flat_transformer, optimizer, batches, CLIP)


def _flat_transformer() -> dict[str, Any]:
    params = transformer_initial()
    layers = params.pop("layers")
    return params | {f"layers.{k}.{name}": a for k, layer in enumerate(layers) for name, a in layer.items()}


# -- training loops of the peers ---------------------------------------------------------------------------------------


def _jax_training(
    loss: Callable[..., Any], initial: Callable[[], Any], batches: Batches, decay: float, clip: float | None
) -> Training:
    """Adam with decoupled decay of matrices, jitted whole, its state donated."""
    import jax
    import jax.numpy as jnp

    def moved(p: Any, m: Any, v: Any, t: Any) -> Any:
        direction = m / (1 - B1**t) / (jnp.sqrt(v / (1 - B2**t)) + EPS)
        return p - LEARNING_RATE * (direction + decay * p if decay and p.ndim > 1 else direction)

    def step(params: Any, m: Any, v: Any, t: Any, x: Any, y: Any) -> Any:
        value, g = jax.value_and_grad(loss)(params, x, y)
        if clip is not None:
            norm = jnp.sqrt(sum(jnp.sum(a * a) for a in jax.tree.leaves(g)))
            g = jax.tree.map(lambda a: a * jnp.minimum(1, clip / norm), g)
        t = t + 1
        m = jax.tree.map(lambda m, g: B1 * m + (1 - B1) * g, m, g)
        v = jax.tree.map(lambda v, g: B2 * v + (1 - B2) * g * g, v, g)
        return jax.tree.map(lambda p, m, v: moved(p, m, v, t), params, m, v), m, v, t, value

    compiled = jax.jit(step, donate_argnums=(0, 1, 2, 3))

    def start() -> Any:
        params = jax.tree.map(jnp.array, initial())
        zeros = partial(jax.tree.map, jnp.zeros_like, params)
        return params, zeros(), zeros(), jnp.zeros((), jnp.float32)

    on_device = [(jnp.asarray(x), jnp.asarray(y)) for x, y in batches]
    return Training(start, lambda *state: jax.block_until_ready(compiled(*state)), on_device)


def _torch_training(
    loss: Callable[..., Any], initial: Callable[[], Any], optimizer: Callable[[Any], Any], batches: Iterable[Any],
    clip: float | None,
) -> Training:  # fmt: skip
    import torch

    torch.set_num_threads(1)

    def start() -> Any:
        params = {name: torch.tensor(a, requires_grad=True) for name, a in initial().items()}
        return params, optimizer(params)

    def step(params: Any, optimizer: Any, x: Any, y: Any) -> Any:
        optimizer.zero_grad(set_to_none=True)
        value = loss(params, x, y)
        value.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(params.values(), clip)
        optimizer.step()
        return params, optimizer, value.detach()

    return Training(start, step, [(torch.tensor(x), torch.tensor(y)) for x, y in batches])


LENET: dict[str, Build] = {"gradc": gradc_lenet, "JAX": jax_lenet, "PyTorch": torch_lenet}
TRANSFORMER: dict[str, Build] = {
    "gradc": gradc_transformer,
    "JAX": jax_transformer,
    "PyTorch": torch_transformer,
    "torch.compile": partial(torch_transformer, compiled=True),
}
