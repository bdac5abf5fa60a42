"""The workloads: the same work in gradc, NumPy, JAX and PyTorch, each written as its users would."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle, pairwise
from typing import Any

import numpy as np

import gradc as gc
from examples.black_scholes_greeks import options, price_and_greeks
from examples.rosenbrock_scipy import rosenbrock
from tests.bench.harness import Contender, Row, race, timed_first

LEARNING_RATE, B1, B2, EPS = 1e-3, 0.9, 0.999, 1e-8
BATCHES = 64
Batches = Sequence[tuple[Any, Any]]


def contender(name: str, build: Callable[[], Callable[[], Any]], values: Callable[[Any], Any]) -> Contender:
    """A contender whose first call is timed, starting from the plain function."""
    call, first = timed_first(build)
    return Contender(name, call, lambda: values(call()), first)


class Training:
    """A training loop as a zero-argument callable that returns the loss; `reset` starts again from the beginning.

    Batches take turns: on one batch alone a network soon becomes sure of every label, its softmax underflows, and the
    clock measures arithmetic on subnormal numbers.
    """

    def __init__(self, start: Callable[[], Any], step: Callable[..., Any], batches: Iterable[Any]):
        self.start, self.step, self.batches = start, step, list(batches)
        self.reset()

    def __call__(self) -> Any:
        x, y = next(self.turn)
        *self.state, value = self.step(*self.state, x, y)
        return value

    def reset(self) -> None:
        self.state, self.turn = self.start(), cycle(self.batches)


# -- MLP training step -----------------------------------------------------------------------------------------------


def initial(sizes: tuple[int, ...]) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(0)
    return [
        ((rng.standard_normal((m, n)) / math.sqrt(m)).astype(np.float32), np.zeros(n, np.float32))
        for m, n in pairwise(sizes)
    ]


def step_flops(sizes: tuple[int, ...], batch: int) -> int:
    """6·batch·Σmn − 2·batch·m₁n₁: forward, weight and input gradients; no gradient of the first input."""
    products = [m * n for m, n in pairwise(sizes)]
    return 6 * batch * sum(products) - 2 * batch * products[0]


def mlp_step(sizes: tuple[int, ...] = (64, 128, 10), batch: int = 128) -> Row:
    rng = np.random.default_rng(1)
    batches = [
        (rng.standard_normal((batch, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], batch))
        for _ in range(BATCHES)
    ]
    contenders = [
        contender(name, lambda build=build: build(sizes, batches), lambda result: [np.asarray(result, np.float64)])
        for name, build in STEPS.items()
    ]
    name = "-".join(map(str, sizes))
    for c in contenders:  # the losses of the first steps; every timed block starts from the initial parameters
        c.values = _first_losses(c.name, sizes, batches)
        c.reset = c.call.reset  # type: ignore[attr-defined]
    return race(
        f"MLP {name}, batch {batch}, Adam step, f32", "forward, backward, Adam; 6·batch·Σmn − 2·batch·m₁n₁ FLOP",
        contenders, 1e-4, step_flops(sizes, batch),
    )  # fmt: skip


def _first_losses(name: str, sizes: tuple[int, ...], batches: Batches, steps: int = 5) -> Callable[[], Any]:
    def values() -> list[float]:
        call = STEPS[name](sizes, batches)
        return [float(call()) for _ in range(steps)]

    return values


def gradc_loss(params: Any, x: Any, y: Any) -> Any:
    for w, b in params[:-1]:
        x = np.maximum(x @ w + b, 0)
    w, b = params[-1]
    return gc.nn.cross_entropy(x @ w + b, y)


def gradc_step(sizes: tuple[int, ...], batches: Batches) -> Training:
    optimizer = gc.optim.adam(LEARNING_RATE, B1, B2, EPS)
    step = gc.train_step(gradc_loss, optimizer)

    def start() -> Any:
        params = initial(sizes)
        return params, optimizer.init(params)

    return Training(start, step, batches)


def jax_step(sizes: tuple[int, ...], batches: Batches) -> Training:
    import jax
    import jax.numpy as jnp

    def loss(params: Any, x: Any, y: Any) -> Any:
        for w, b in params[:-1]:
            x = jnp.maximum(x @ w + b, 0)
        w, b = params[-1]
        z = x @ w + b
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.take_along_axis(z, y[:, None], 1)[:, 0])

    def step(params: Any, m: Any, v: Any, t: Any, x: Any, y: Any) -> Any:
        value, g = jax.value_and_grad(loss)(params, x, y)
        t = t + 1
        m = jax.tree.map(lambda m, g: B1 * m + (1 - B1) * g, m, g)
        v = jax.tree.map(lambda v, g: B2 * v + (1 - B2) * g * g, v, g)
        c1, c2 = 1 - B1**t, 1 - B2**t
        new = jax.tree.map(lambda p, m, v: p - LEARNING_RATE * (m / c1) / (jnp.sqrt(v / c2) + EPS), params, m, v)
        return new, m, v, t, value

    compiled = jax.jit(step, donate_argnums=(0, 1, 2, 3))

    def start() -> Any:
        params = jax.tree.map(jnp.array, initial(sizes))
        return (
            params,
            jax.tree.map(jnp.zeros_like, params),
            jax.tree.map(jnp.zeros_like, params),
            jnp.zeros((), jnp.float32),
        )

    on_device = [(jnp.asarray(x), jnp.asarray(y)) for x, y in batches]
    return Training(start, lambda *state: jax.block_until_ready(compiled(*state)), on_device)


def torch_step(sizes: tuple[int, ...], batches: Batches) -> Training:
    import torch

    torch.set_num_threads(1)

    def start() -> Any:
        params = [tuple(torch.tensor(a, requires_grad=True) for a in pair) for pair in initial(sizes)]
        flat = [p for pair in params for p in pair]
        return params, torch.optim.Adam(flat, LEARNING_RATE, (B1, B2), EPS, foreach=True)

    def step(params: Any, optimizer: Any, x: Any, y: Any) -> Any:
        h = x
        for w, b in params[:-1]:
            h = torch.relu(h @ w + b)
        w, b = params[-1]
        value = torch.nn.functional.cross_entropy(h @ w + b, y)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        return params, optimizer, value.detach()

    return Training(start, step, [(torch.tensor(x), torch.tensor(y)) for x, y in batches])


def numpy_step(sizes: tuple[int, ...], batches: Batches) -> Training:
    rows = np.arange(len(batches[0][1]))

    def start() -> Any:
        params = [a for pair in initial(sizes) for a in pair]
        return params, [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params], 0

    def step(params: Any, m: Any, v: Any, t: int, x: Any, y: Any) -> Any:
        value, grads = numpy_gradient(params, x, y, rows)
        t += 1
        for p, g, mi, vi in zip(params, grads, m, v, strict=True):
            mi += np.float32(1 - B1) * (g - mi)
            vi += np.float32(1 - B2) * (g * g - vi)
            scale = np.float32(LEARNING_RATE / (1 - B1**t))
            p -= scale * mi / (np.sqrt(vi / np.float32(1 - B2**t)) + np.float32(EPS))
        return params, m, v, t, value

    return Training(start, step, batches)


def numpy_gradient(params: Any, x: Any, y: Any, rows: Any) -> Any:
    """Forward and backward by hand."""
    inputs, h = [x], x
    for w, b in zip(params[:-2:2], params[1:-2:2], strict=True):
        h = np.maximum(h @ w + b, 0)
        inputs.append(h)
    z = h @ params[-2] + params[-1]
    shifted = z - z.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    value = np.mean(np.log(total[:, 0]) - shifted[rows, y])
    delta = e / total
    delta[rows, y] -= 1
    delta /= np.float32(len(y))
    grads: list[Any] = []
    for layer in range(len(inputs) - 1, -1, -1):
        grads = [inputs[layer].T @ delta, delta.sum(axis=0), *grads]
        if layer:
            delta = (delta @ params[2 * layer].T) * (inputs[layer] > 0)
    return value, grads


STEPS: dict[str, Callable[[tuple[int, ...], Batches], Training]] = {
    "gradc": gradc_step,
    "JAX": jax_step,
    "PyTorch": torch_step,
    "NumPy": numpy_step,
}


# -- elementwise greeks ------------------------------------------------------------------------------------------------


def greeks(n: int = 100_000) -> Row:
    market = options(n)
    keep: Callable[[Any], Any] = list
    contenders = [
        contender("gradc", lambda: _bound(gc.jit(price_and_greeks), market), keep),
        contender("JAX", lambda: jax_greeks(market), lambda r: [np.asarray(a) for a in r]),
        contender("PyTorch", lambda: torch_greeks(market), lambda r: [a.numpy() for a in r]),
        contender("NumPy", lambda: lambda: numpy_greeks(*market), keep),
    ]
    return race(
        f"Black–Scholes price + 5 greeks, {n:,} options, f64",
        "closed form for NumPy, AD for the others",
        contenders,
        1e-9,
    )


def _bound(f: Callable[..., Any], args: Any) -> Callable[[], Any]:
    return lambda: f(*args)


def jax_greeks(market: Any) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    def price(s: Any, k: Any, t: Any, r: Any, v: Any) -> Any:
        d1 = (jnp.log(s / k) + (r + 0.5 * v**2) * t) / (v * jnp.sqrt(t))
        d2 = d1 - v * jnp.sqrt(t)

        def cdf(x: Any) -> Any:
            return 0.5 * (1 + jax.lax.erf(x / math.sqrt(2)))

        return s * cdf(d1) - k * jnp.exp(-r * t) * cdf(d2)

    def total(*a: Any) -> Any:
        return jnp.sum(price(*a))

    def everything(*a: Any) -> Any:
        delta, dt, rho, vega = jax.grad(total, (0, 2, 3, 4))(*a)
        gamma = jax.jvp(lambda s: jax.grad(total)(s, *a[1:]), (a[0],), (jnp.ones_like(a[0]),))[1]
        return price(*a), delta, -dt, rho, vega, gamma

    compiled = jax.jit(everything)
    arrays = [jnp.asarray(a) for a in market]
    return lambda: jax.block_until_ready(compiled(*arrays))


def torch_greeks(market: Any) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(1)

    def call() -> Any:
        s, k, t, r, v = (torch.tensor(a, requires_grad=True) for a in market)
        d1 = (torch.log(s / k) + (r + 0.5 * v**2) * t) / (v * torch.sqrt(t))
        d2 = d1 - v * torch.sqrt(t)
        cdf = [0.5 * (1 + torch.erf(d / math.sqrt(2))) for d in (d1, d2)]
        price = s * cdf[0] - k * torch.exp(-r * t) * cdf[1]
        delta, dt, rho, vega = torch.autograd.grad(price.sum(), (s, t, r, v), create_graph=True)
        (gamma,) = torch.autograd.grad(delta.sum(), (s,))
        return [a.detach() for a in (price, delta, -dt, rho, vega, gamma)]

    return call


def numpy_greeks(s: Any, k: Any, t: Any, r: Any, v: Any) -> Any:
    """The textbook's closed forms."""
    from scipy.special import ndtr

    root = v * np.sqrt(t)
    d1 = (np.log(s / k) + (r + 0.5 * v**2) * t) / root
    d2 = d1 - root
    density, discount = np.exp(-0.5 * d1**2) / math.sqrt(2 * math.pi), k * np.exp(-r * t)
    n1, n2 = ndtr(d1), ndtr(d2)
    theta = -s * density * v / (2 * np.sqrt(t)) - r * discount * n2
    return s * n1 - discount * n2, n1, theta, discount * t * n2, s * density * np.sqrt(t), density / (s * root)


# -- Rosenbrock, call overhead -----------------------------------------------------------------------------------------


def rosenbrock_gradient(n: int) -> Row:
    x = np.linspace(-1.0, 1.0, n)
    contenders = [
        contender("gradc", lambda: _bound(gc.jit(gc.value_and_grad(rosenbrock)), (x,)), list),
        contender("JAX", lambda: jax_rosenbrock(x), lambda r: [np.asarray(a) for a in r]),
        contender("PyTorch", lambda: torch_rosenbrock(x), lambda r: [a.numpy() for a in r]),
        contender("NumPy", lambda: lambda: numpy_rosenbrock(x), list),
    ]
    return race(f"Rosenbrock value + gradient, n = {n:,}, f64", "from Python, fresh outputs", contenders, 1e-12)


def jax_rosenbrock(x: Any) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    compiled = jax.jit(jax.value_and_grad(lambda x: jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)))
    array = jnp.asarray(x)
    return lambda: jax.block_until_ready(compiled(array))


def torch_rosenbrock(x: Any) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(1)
    t = torch.tensor(x, requires_grad=True)

    def call() -> Any:
        value = torch.sum(100.0 * (t[1:] - t[:-1] ** 2) ** 2 + (1 - t[:-1]) ** 2)
        (g,) = torch.autograd.grad(value, (t,))
        return value.detach(), g

    return call


def numpy_rosenbrock(x: Any) -> Any:
    d = x[1:] - x[:-1] ** 2
    g = np.zeros_like(x)
    g[:-1] = -400 * x[:-1] * d - 2 * (1 - x[:-1])
    g[1:] += 200 * d
    return np.sum(100 * d * d + (1 - x[:-1]) ** 2), g


def call_overhead() -> Row:
    x = np.arange(4.0)

    def jax_call() -> Callable[[], Any]:
        import jax
        import jax.numpy as jnp

        compiled, array = jax.jit(lambda x: x + 1), jnp.asarray(x)
        return lambda: compiled(array).block_until_ready()

    def torch_call() -> Callable[[], Any]:
        import torch

        array = torch.tensor(x)
        return lambda: array + 1

    contenders = [
        contender("gradc", lambda: _bound(gc.jit(lambda x: x + 1), (x,)), lambda r: [r]),
        contender("JAX", jax_call, lambda r: [np.asarray(r)]),
        contender("PyTorch", torch_call, lambda r: [r.numpy()]),
        contender("NumPy", lambda: lambda: x + 1, lambda r: [r]),
    ]
    return race("call overhead: x + 1, 4 numbers", "one call from Python, a fresh output array", contenders, 0.0)


def everything() -> list[Row]:
    """The rows of docs/benchmarks.md."""
    return [
        mlp_step((64, 128, 10), 128),
        mlp_step((64, 128, 128, 10), 128),
        mlp_step((784, 128, 10), 64),
        mlp_step((32, 64, 10), 16),
        greeks(),
        rosenbrock_gradient(10),
        rosenbrock_gradient(1_000),
        rosenbrock_gradient(1_000_000),
        call_overhead(),
    ]
