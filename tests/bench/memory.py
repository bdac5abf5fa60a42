"""Peak memory of each training step: what a process needs beyond its imports while it runs steps."""

from __future__ import annotations

from importlib import import_module

from tests.bench.workload import Workload

COUNTED = (
    "peak resident memory during three steps from fresh parameters, less what the process holds with the compiled step "
    "but without any state: parameters, optimizer state and temporaries; what gradc announces as its arena is added, "
    "for it is kept between calls"
)
STEPS = {
    "mlp": ("networks", "mlp/large/adam"),
    "conv": ("convnet", "conv"),
    "transformer": ("transformer", "transformer"),
}
LABELS = ("gradc", "JAX", "PyTorch", "torch.compile")


def workloads(quick: bool) -> list[Workload]:
    steps = {"mlp": STEPS["mlp"]} if quick else STEPS
    return [_row(name, *place) for name, place in steps.items()]


def _row(name: str, family: str, of: str) -> Workload:
    (step,) = (w for w in import_module(f"tests.bench.{family}").workloads(False) if w.name == of)
    return Workload(
        f"memory/{name}", f"memory: {step.title}", COUNTED, {label: step.contenders[label] for label in LABELS},
        tolerance=0.0, goal=1.0, measure="memory",
    )  # fmt: skip
