"""L-BFGS with a line search in optax and PyTorch, stored in `searches.npz`: ``python -m tests.peers.searches``.

Needs optax, jax and torch, which the tests do not.  On a sum of curved valleys a first trial of 1 meets the conditions
of all three searches for as many steps as are stored: from there on they interpolate differently.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_suffix(".npz")
BENT = np.logspace(-2, -0.3, 20)
LEAST = np.sin(1.0 + 1.7 * np.arange(20))
#: steps until a search tries anything but 1
OPTAX, TORCH = 4, 13


def start() -> Any:
    """The first parameters."""
    return LEAST + 0.2 * np.cos(3.0 * np.arange(20))


def loss(p: Any, xp: Any = np, bent: Any = BENT, least: Any = LEAST) -> Any:
    """What is minimised, in the words of a module."""
    d = p - least
    curved = xp.sum(0.5 * bent * d * d) + 0.01 * xp.sum(xp.log(xp.cosh(3 * d)))
    return curved + 0.003 * xp.sum(d[1:] * d[:-1])


def main() -> None:
    """Write the file."""
    import jax
    import optax
    import torch

    jax.config.update("jax_enable_x64", True)
    f = lambda p: loss(p, jax.numpy)
    optimizer, p, of_optax = optax.lbfgs(memory_size=4), jax.numpy.asarray(start()), []
    state = optimizer.init(p)
    for _ in range(OPTAX):
        value, grad = optax.value_and_grad_from_state(f)(p, state=state)
        u, state = optimizer.update(grad, state, p, value=value, grad=grad, value_fn=f)
        p = optax.apply_updates(p, u)
        of_optax.append(np.asarray(p))
    q, of_torch = torch.tensor(start(), requires_grad=True), []
    search = torch.optim.LBFGS([q], 1, 1, 60, 0, 0, history_size=4, line_search_fn="strong_wolfe")

    def closure() -> Any:
        search.zero_grad()
        value = loss(q, torch, torch.tensor(BENT), torch.tensor(LEAST))
        value.backward()
        return value

    for _ in range(TORCH):
        search.step(closure)
        of_torch.append(q.detach().numpy().copy())
    np.savez_compressed(FILE, optax=np.array(of_optax), torch=np.array(of_torch))


if __name__ == "__main__":
    main()
