"""Golden text of every stage of a few small functions, for one fixed CPU; `make golden` refreshes it.

A change here is a change in what users see or in what is generated: read the diff.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

import gradc as gc
from gradc.codegen.target import Target
from gradc.machines.foreign import ForeignCpu
from gradc.machines.machine import SYMBOL
from gradc.machines.options import Options
from gradc.machines.stages import Stages

TARGET = Target.of("x86_64-unknown-linux-gnu", "x86-64-v3", "")


def product(x):
    return (np.sin(x) * x).sum()


def affine(x, W, b):
    return np.sum(np.maximum(x @ W + b, 0.0) ** 2)


def masked(x):
    return np.where(x > 0, np.sqrt(x), 0.0).sum()


def rows(x):
    return (np.concatenate([x[1:], x[:1] * 2]) * x[::-1]).sum()


CASES = {
    "product": (product, (gc.spec((100,)),)),
    "affine": (affine, (gc.spec((8, 4), "float32"), gc.spec((4, 6), "float32"), gc.spec((6,), "float32"))),
    "masked": (masked, (gc.spec((10,)),)),
    "rows": (rows, (gc.spec((5, 3)),)),
}


def stages(f, specs):
    """Every stage as text, in order."""
    argnums = tuple(range(len(specs)))
    both = gc.trace(gc.value_and_grad(f, argnums), *specs)
    walked = Stages(both, Options(check=True), ForeignCpu(TARGET, SYMBOL))
    later = {stage: walked.text(stage) for stage in ("optimised", "schedule", "llvm")}
    return {"graph": gc.trace(f, *specs), "value and gradient": both} | later


@pytest.mark.parametrize("name", CASES)
def test_stages(name, golden):
    parts = (f"== {stage} ==\n{text}" for stage, text in stages(*CASES[name]).items())
    golden(f"stages_{name}.txt", re.sub(r"test_golden\.py:\d+", "model.py", "\n\n".join(parts)) + "\n")
