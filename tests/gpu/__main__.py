"""Everything that needs a device, unattended: answers first, then figures, which go to docs/gpu.md.

    python -m tests.gpu

It takes under eight minutes; what does not fit is named.  PyTorch and JAX are measured beside gradc where they are
installed, compute-sanitizer runs where it is on the path.  Times are those of device events around captured graphs, the
median of several rounds; contenders of one row take turns.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import gradc as gc
from gradc.runtime import cuda
from gradc.tree import leaves_of
from tests.gpu.test_on_device import target
from tests.ptx import models

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gpu.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
DEADLINE = 400.0  # seconds until no new row is begun
ROUNDS, LONG_ENOUGH = 7, 0.02


@dataclass(frozen=True)
class Row:
    what: str
    ours: str
    theirs: str
    share: str
    aim: str

    def __str__(self) -> str:
        return f"| {self.what} | {self.ours} | {self.theirs} | {self.share} | {self.aim} |"


# -- time --------------------------------------------------------------------------------------------------------------


class Clock:
    """Seconds between two points of the driver's stream."""

    def __init__(self) -> None:
        self.driver: Any = cuda.driver()
        ask, made = self.driver._ask, self.driver.cuda.cuEventCreate
        self.events = [ask("make an event", made, 0) for _ in range(2)]

    def __call__(self, work: Callable[[], Any]) -> float:
        ask, api, stream = self.driver._ask, self.driver.cuda, self.driver._stream
        ask("mark a time", api.cuEventRecord, self.events[0], stream)
        work()
        ask("mark a time", api.cuEventRecord, self.events[1], stream)
        self.driver.synchronize()
        return float(ask("tell the time", api.cuEventElapsedTime, *self.events)) * 1e-3


def seconds(*contenders: Callable[[], Any]) -> list[float]:
    """The median time of one run of each; they take turns.  What others ask of the default stream counts, too."""
    clock, counts = Clock(), []
    for run in contenders:
        clock(run)
        counts.append(max(1, round(LONG_ENOUGH / max(clock(run), 1e-6))))
    times: list[list[float]] = [[] for _ in contenders]
    for _ in range(ROUNDS):
        for k, (run, count) in enumerate(zip(contenders, counts, strict=True)):
            times[k].append(clock(lambda run=run, count=count: [run() for _ in range(count)]) / count)
    return [median(t) for t in times]


def on_device(f: Callable[..., Any], *arrays: Any) -> Callable[[], Any]:
    exe = gc.compile(f, *arrays, target=target())
    return exe.bind(*[exe.put(a) for a in arrays])


def optional(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        return None


# -- rows --------------------------------------------------------------------------------------------------------------


def bandwidths() -> Iterator[Row]:
    """Elementwise and row kernels beside a plain copy of the same bytes."""
    x = np.random.default_rng(0).standard_normal((8192, 4096)).astype(np.float32)
    copy = _copy(2 * x.nbytes)

    def normalised(v: Any) -> Any:
        return gc.nn.layer_norm(v, (v.shape[-1],))

    cases = [
        ("x·2 + 1, 8192 × 4096 float32", lambda v: v * 2 + 1, "≥ 90 %"),
        ("softmax of rows", lambda v: gc.nn.softmax(v, -1), "≥ 85 %"),
        ("layer norm of rows", normalised, "≥ 85 %"),
        ("sum of all", lambda v: v.sum(), ""),
        ("transpose", lambda v: v.T + 0, ""),
    ]
    for what, f, aim in cases:
        moved = 2 * x.nbytes if "sum" not in what else x.nbytes
        ours, theirs = seconds(on_device(f, x), copy)
        a, b = moved / ours / 1e9, 2 * x.nbytes / theirs / 1e9
        yield Row(what, f"{a:.0f} GB/s", f"copy {b:.0f} GB/s", f"{a / b:.0%}", aim)


def _copy(size: int) -> Callable[[], Any]:
    driver: Any = cuda.driver()
    half = size // 2
    source, to = driver.allocate(half), driver.allocate(half)
    return lambda: driver._ask("copy", driver.cuda.cuMemcpyDtoDAsync, to, source, half, driver._stream)


def products() -> Iterator[Row]:
    torch = optional("torch")
    for n, dtype in ((4096, np.float32), (1024, np.float32), (512, np.float32), (2048, np.float64)):
        a = np.random.default_rng(1).standard_normal((n, n)).astype(dtype)
        contenders = [on_device(lambda x, y: x @ y, a, a)]
        if torch is not None:
            torch.backends.cuda.matmul.allow_tf32 = False
            t = torch.as_tensor(a, device="cuda")
            out = torch.empty_like(t)
            contenders.append(lambda t=t, out=out: torch.mm(t, t, out=out))
        rates = [2 * n**3 / s / 1e12 for s in seconds(*contenders)]
        theirs = f"cuBLAS {rates[1]:.1f} TF" if len(rates) > 1 else "–"
        share = f"{rates[0] / rates[1]:.0%}" if len(rates) > 1 else "–"
        yield Row(f"{n}³ {np.dtype(dtype)} product", f"{rates[0]:.1f} TF", theirs, share, "≥ 80 %")


def training() -> Iterator[Row]:
    """Whole steps, captured; PyTorch's is compiled with reduce-overhead."""
    sizes: list[tuple[str, models.Step]] = [
        ("MLP 64-128-10, batch 128", models.mlp(128, 64, 128, 10)),
        ("MLP 784-2048-10, batch 512", models.mlp(512, 784, 2048, 10)),
        ("transformer block, 8 × 128 tokens, width 256", models.transformer(8, 128, 256, 8, 512)),
    ]
    for what, (step, args) in sizes:
        exe = gc.compile(step, *args, target=target(), donate=(0, 1))
        leaves, structure = leaves_of((args, {}))
        given, _ = structure.unflatten([exe.put(x) for x in leaves])
        contenders = [exe.bind(*given)]
        rival = _torch_mlp(args) if what.startswith("MLP") else None
        if rival is not None:
            contenders.append(rival)
        times = seconds(*contenders)
        theirs = f"torch.compile {1e6 * times[1]:.0f} µs" if len(times) > 1 else "–"
        share = f"{times[1] / times[0]:.2f} ×" if len(times) > 1 else "–"
        yield Row(what, f"{1e6 * times[0]:.0f} µs", theirs, share, "> 1 ×" if "128-10" in what else "≥ 0.8 ×")


def _torch_mlp(args: Any) -> Callable[[], Any] | None:
    torch = optional("torch")
    if torch is None:
        return None
    params, _, x, y = args
    weights = {k: torch.nn.Parameter(torch.as_tensor(v, device="cuda")) for k, v in params.items()}
    optimizer = torch.optim.Adam(weights.values(), lr=1e-2, capturable=True, fused=True)
    inputs, labels = torch.as_tensor(x, device="cuda"), torch.as_tensor(y, device="cuda")

    def loss() -> Any:
        h = torch.relu(inputs @ weights["W1"] + weights["b1"])
        return torch.nn.functional.cross_entropy(h @ weights["W2"] + weights["b2"], labels)

    compiled = torch.compile(loss, mode="reduce-overhead")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        compiled().backward()
        optimizer.step()

    for _ in range(5):
        step()
    return step


# -- the run -----------------------------------------------------------------------------------------------------------


def answers() -> str:
    """The tests on the device; one line."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "gpu", str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-300:]


def sanitized() -> str:
    """A training step under compute-sanitizer; one line."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return "compute-sanitizer is not installed"
    body = "from tests.gpu.__main__ import one_step; one_step()"
    done = subprocess.run([tool, sys.executable, "-c", body], capture_output=True, text=True, timeout=90, check=False)
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-300:]


def one_step() -> None:
    step, args = models.mlp()
    exe = gc.compile(step, *args, target=target())
    leaves, structure = leaves_of((args, {}))
    exe(*structure.unflatten([exe.put(x) for x in leaves])[0])
    cuda.driver().synchronize()


def main() -> int:
    """Run, print, and write the page."""
    begin, lines = time.monotonic(), []
    device = cuda.driver()
    major, minor = device.cuda_version
    lines += [f"{device.name}, driver for CUDA {major}.{minor}, code for {target()}.", ""]
    lines += [f"- tests on the device: {answers()}", f"- compute-sanitizer: {sanitized()}", ""]
    lines += ["| what | gradc | beside | share | aim |", "|---|--:|--:|--:|--:|"]
    for section in (bandwidths, products, training):
        for row in section():
            print(row, flush=True)
            lines.append(str(row))
            if time.monotonic() - begin > DEADLINE:
                lines.append(f"| what follows in {section.__name__} was not reached | | | | |")
                break
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + rest.split(END)[1], encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
