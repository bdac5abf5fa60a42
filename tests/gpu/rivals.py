"""The same training steps in PyTorch and JAX, for `python -m tests.gpu` to measure beside gradc's.

Enters: the arguments of a step of `tests.ptx.models`.  Leaves: a callable that runs one step, and the losses of its
first steps, by which the caller sees that it does the same work; None where the library is missing or sees no device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Steps that are run first, and whose losses are compared.
FIRST = 3


@dataclass
class Rival:
    """``run`` is one more step; ``wait`` returns when all of them are done."""

    run: Callable[[], Any]
    losses: list[float]
    wait: Callable[[], Any]


def torch_with_device(device: str = "cuda") -> Any:
    """PyTorch, if it is installed and sees a device."""
    try:
        import torch
    except ImportError:
        return None
    return torch if device != "cuda" or torch.cuda.is_available() else None


def torch_mlp(args: Any, device: str = "cuda", mode: str = "reduce-overhead") -> Rival | None:
    """Two layers, cross entropy, fused Adam."""
    torch = torch_with_device(device)
    if torch is None:
        return None
    params, _, x, y = args
    w = _parameters(torch, params, device)
    optimizer = torch.optim.Adam(w.values(), lr=1e-2, capturable=device == "cuda", fused=True)
    inputs, labels = torch.as_tensor(x, device=device), torch.as_tensor(y, device=device)

    def loss() -> Any:
        h = torch.relu(inputs @ w["W1"] + w["b1"])
        return torch.nn.functional.cross_entropy(h @ w["W2"] + w["b2"], labels)

    return _torch_rival(torch, loss, optimizer, mode, device)


def torch_transformer(args: Any, heads: int, device: str = "cuda", mode: str = "reduce-overhead") -> Rival | None:
    """One block; SGD with momentum."""
    torch = torch_with_device(device)
    if torch is None:
        return None
    params, _, words, following = args
    w = _parameters(torch, params, device)
    width = params["E"].shape[1]
    optimizer = torch.optim.SGD(w.values(), lr=0.1, momentum=0.9)
    tokens, labels = torch.as_tensor(words, device=device), torch.as_tensor(following, device=device)
    functional = torch.nn.functional

    def normed(x: Any) -> Any:
        return functional.layer_norm(x, (width,), w["g"], w["b"])

    def loss() -> Any:
        x = w["E"][tokens] + w["P"]
        batch, length, _ = x.shape
        split = (normed(x) @ w["qkv"]).reshape(batch, length, 3, heads, width // heads)
        q, k, v = (split[:, :, i].transpose(1, 2) for i in range(3))
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + seen.transpose(1, 2).reshape(batch, length, width) @ w["out"]
        x = x + functional.gelu(normed(x) @ w["up"]) @ w["down"]
        logits = normed(x) @ w["E"].T
        return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))

    return _torch_rival(torch, loss, optimizer, mode, device)


def _parameters(torch: Any, params: Any, device: str) -> dict[str, Any]:
    return {k: torch.nn.Parameter(torch.tensor(v, device=device)) for k, v in params.items()}


def _torch_rival(torch: Any, loss: Callable[[], Any], optimizer: Any, mode: str, device: str) -> Rival:
    compiled = torch.compile(loss, mode=mode) if mode else loss

    def step() -> Any:
        optimizer.zero_grad(set_to_none=True)
        value = compiled()
        value.backward()
        optimizer.step()
        return value

    losses = [float(step().detach()) for _ in range(FIRST)]
    return Rival(step, losses, torch.cuda.synchronize if device == "cuda" else lambda: None)


def jax_mlp(args: Any) -> Rival | None:
    """Two layers, cross entropy, Adam; one jitted step that donates what it updates."""
    try:
        import jax
        import jax.numpy as jnp

        if jax.default_backend() not in ("gpu", "cuda", "cpu"):
            return None
    except Exception:  # a JAX without this device says so in many ways
        return None
    params, _, x, y = args
    state = {"p": params, "m": _zeros(params), "v": _zeros(params), "t": np.float32(0)}

    def loss(p: Any) -> Any:
        h = jnp.maximum(x @ p["W1"] + p["b1"], 0)
        logits = h @ p["W2"] + p["b2"]
        return (jax.nn.logsumexp(logits, 1) - logits[jnp.arange(len(y)), y]).mean()

    def step(s: Any) -> Any:
        value, g = jax.value_and_grad(loss)(s["p"])
        t = s["t"] + 1
        m = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, s["m"], g)
        v = jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b * b, s["v"], g)
        rate = 1e-2 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        p = jax.tree.map(lambda a, b, c: a - rate * b / (jnp.sqrt(c) + 1e-8), s["p"], m, v)
        return {"p": p, "m": m, "v": v, "t": t}, value

    jitted, held = jax.jit(step, donate_argnums=0), [jax.device_put(state)]

    def run() -> Any:
        held[0], value = jitted(held[0])
        return value

    return Rival(run, [float(run()) for _ in range(FIRST)], lambda: jax.block_until_ready(held[0]))


def _zeros(params: Any) -> Any:
    return {k: np.zeros_like(v) for k, v in params.items()}
