"""``gradc demo``: every stage on real data, in one screen or two.

Loads the bundled digits, traces a 64-128-10 network with softmax cross-entropy and Adam, and shows the gradient as
formulas, the agreement of six ways to compute it, what compiling cost, the training, and the files it wrote: code,
and a report of the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from gradc import data, optim
from gradc.api.compiled import Jitted, train_step
from gradc.api.executable import Executable
from gradc.cli.stages import stats_text
from gradc.explain import explain
from gradc.nn import cross_entropy, relu
from gradc.oracle import check_gradients
from gradc.runtime.files import write_whole
from gradc.training import Progress, Run, fit

HIDDEN = 128
BATCH = 64
LEARNING_RATE = 1e-3

Params = dict[str, Any]


def model(params: Params, x: Any) -> Any:
    """Logits of the digits' classes: x is (batch, 64)."""
    z1 = x @ params["W1"] + params["b1"]
    h = relu(z1)
    return h @ params["W2"] + params["b2"]


def loss(params: Params, x: Any, y: Any) -> Any:
    """Mean softmax cross-entropy; y holds class numbers."""
    z2 = model(params, x)
    return cross_entropy(z2, y)


def right(params: Params, x: Any, y: Any) -> Any:
    """Whether each digit is read right."""
    return model(params, x).argmax(axis=1) == y


def initial(seed: int) -> Params:
    """He initialisation (2015)."""
    rng = np.random.default_rng(seed)

    def weights(fan_in: int, fan_out: int) -> np.ndarray[Any, Any]:
        return (rng.standard_normal((fan_in, fan_out)) * np.sqrt(2 / fan_in)).astype(np.float32)

    return {
        "W1": weights(64, HIDDEN),
        "b1": np.zeros(HIDDEN, np.float32),
        "W2": weights(HIDDEN, 10),
        "b2": np.zeros(10, np.float32),
    }


def demo(out: str, epochs: int, seed: int) -> int:
    """Run it; status 1 if the gradients disagree."""
    console = Console(highlight=False)
    train, test = data.digits().split(seed=seed)
    params = initial(seed)
    x, y = train.images[:BATCH], train.labels[:BATCH]
    console.print(
        f"[bold]gradc demo[/]  {len(train.labels)} + {len(test.labels)} handwritten digits of 8×8 pixels (UCI), "
        f"a 64-{HIDDEN}-10 network, softmax cross-entropy, Adam\n"
    )
    console.rule("the gradient, as formulas", align="left")
    console.print(str(explain(loss, params, x, y, argnums=0)), markup=False, soft_wrap=True)
    console.rule("six derivations, compared", align="left")
    report = check_gradients(lambda params: loss(params, x, y), params)
    console.print(str(report), markup=False, soft_wrap=True)
    optimizer = optim.adam(LEARNING_RATE)
    state = optimizer.init(params)
    step = train_step(loss, optimizer)
    executable = step.lower(params, state, x, y)
    console.rule("one native function: loss, gradient and Adam", align="left")
    console.print(stats_text(executable), markup=False, soft_wrap=True)
    console.rule("training", align="left")
    run = _train(console, step, params, train, test, epochs, seed)
    console.rule("files", align="left")
    _save(console, executable, Path(out))
    path = run.report(Path(out) / "report.html", title="gradc demo: handwritten digits")
    console.print(f"{'report of the run:':<25} {path}  (open it in a browser)", markup=False)
    return 0 if report.ok else 1


def _train(console: Console, step: Jitted, params: Params, train: Any, test: Any, epochs: int, seed: int) -> Run:
    watch = Progress(file=console.file)
    run = fit(
        step, params, (train.images, train.labels), batch_size=BATCH, drop_last=True, epochs=epochs, key=seed,
        validate=(test.images, test.labels), metrics={"accuracy": right}, callbacks=[watch], log=False,
    )  # fmt: skip
    console.print(
        f"{run.step:,} steps of batch {BATCH}: {run.samples_per_second:,.0f} samples per second (validation and calls "
        "from Python included)"
    )
    accuracy = float(run.history["validation_accuracy"][-1])
    console.print(f"test accuracy [bold]{accuracy:.3f}[/] on {len(test.labels)} digits it has not seen")
    return run


def _save(console: Console, executable: Executable, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "step.ll": ("LLVM IR", executable.llvm),
        "step.s": ("assembly", executable.asm),
        "graph.txt": ("graph", str(executable.graph)),
        "graph.dot": ("graph for Graphviz", executable.graph.dot()),
        "schedule.txt": ("kernels and memory plan", str(executable.schedule)),
    }
    for name, (words, text) in texts.items():
        path = folder / name
        write_whole({path: text})
        console.print(f"{words + ':':<25} {path}  ({len(text.splitlines()):,} lines)", markup=False)
