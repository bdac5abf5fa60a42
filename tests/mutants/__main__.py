"""`python -m tests.mutants`: plant faults one at a time and count how many the tests notice.

Exit status: 0 if at least 97 % of those that are not listed as equivalent were noticed, else 1.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.faults import Fault, faults_of

ROOT = Path(__file__).resolve().parent.parent.parent
LISTED = Path(__file__).parent / "survivors.toml"
#: what must be noticed
GOAL = 0.97
#: seconds of processor time: a run that takes more has noticed, for the fault made something endless
SECONDS = 600

#: the tests that concern a file, by the longest prefix of its path that is listed; quick ones first
CONCERNS: dict[str, tuple[str, ...]] = {
    "gradc/ops/": ("test_ops", "test_numpy_namespace", "test_special", "test_oracle"),
    "gradc/ops/control.py": ("test_control", "test_control_derivatives", "test_control_compiled"),
    "gradc/ops/custom.py": ("test_custom_derivative", "test_control_derivatives"),
    "gradc/ops/index.py": ("test_ops", "test_codegen", "test_schedule", "test_structured"),
    "gradc/ops/indexing.py": ("test_indexing", "test_ops", "test_numpy_namespace"),
    "gradc/ops/views.py": ("test_ops", "test_numpy_namespace", "test_structured", "test_symbolic"),
    "gradc/diff/": ("test_forward_reverse", "test_derivatives", "test_ops", "test_oracle"),
    "gradc/diff/finite.py": ("test_finite", "test_oracle"),
    "gradc/diff/loops.py": ("test_control_derivatives", "test_control", "test_control_compiled"),
    "gradc/diff/custom.py": ("test_custom_derivative", "test_control_derivatives"),
    "gradc/diff/calls.py": ("test_control_derivatives", "test_control", "test_custom_derivative"),
    "gradc/diff/structured/": ("test_structured", "test_derivatives", "test_explain_matrices"),
    "gradc/diff/symbolic/": ("test_symbolic", "test_ops", "test_oracle"),
    "gradc/passes/": ("test_passes", "test_golden", "test_forward_reverse", "test_oracle", "test_jit"),
    "gradc/schedule/": ("test_schedule", "test_codegen", "test_gemm", "test_compiled_namespace", "test_forward_reverse",
                        "test_threads", "test_control_compiled", "test_golden"),
    "gradc/codegen/": ("test_emit", "test_golden", "test_codegen", "test_ops", "test_compiled_namespace", "test_gemm",
                       "test_threads", "test_control_compiled"),
    "gradc/codegen/elementary/": ("test_elementary_ops", "test_elementary_exponential", "test_elementary_special",
                                  "test_elementary_trigonometric", "test_elementary_polygamma"),
    "gradc/codegen/gemm/": ("test_gemm", "test_symmetric_products", "test_codegen"),
    "gradc/codegen/correlation/": ("test_correlation", "test_nn_images"),
}  # fmt: skip
#: GPU code is tested where NVIDIA's tools are
WITHOUT = ("gradc/codegen/ptx/",)


def concerns(path: str) -> list[str]:
    """The test files for ``path``."""
    prefix = max((p for p in CONCERNS if path.startswith(p)), key=len)
    return [f"tests/{name}.py" for name in CONCERNS[prefix]]


def candidates(rooms: Sequence[str]) -> list[Fault]:
    """Every fault of every file."""
    files = sorted(p for room in rooms for p in (ROOT / "gradc" / room).rglob("*.py"))
    paths = [(p, p.relative_to(ROOT).as_posix()) for p in files]
    return [f for p, path in paths if not path.startswith(WITHOUT) for f in faults_of(path, p.read_text("utf-8"))]


def noticed(fault: Fault) -> bool:
    """Whether some test that concerns the file fails with the fault in it."""
    environment = {**os.environ, "GRADC_FAULT": f"{ROOT / fault.path}:{fault.number}", "GRADC_CHECK": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "tests.mutants.plugin",
               *concerns(fault.path)]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False, preexec_fn=_limit)
    return done.returncode != 0


def _limit() -> None:
    """In the child: a busy machine is no fault, so processor time counts and not the clock's."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


def listed() -> dict[str, str]:
    """Faults that change nothing a caller can see, each with the reason; by the words of the fault."""
    return {e["fault"]: e["reason"] for e in tomllib.loads(LISTED.read_text("utf-8")).get("equivalent", [])}


def without_line(fault: Fault) -> str:
    """How a fault is listed: lines move, its words do not."""
    return f"{fault.path} {fault.kind}: {fault.before} → {fault.after}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("-n", type=int, default=150, help="how many faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rooms", default="ops,diff,passes,schedule,codegen")
    options = parser.parse_args()
    known = listed()
    every = candidates(options.rooms.split(","))
    chosen = random.Random(options.seed).sample(every, min(options.n, len(every)))
    print(f"{len(every)} faults can be planted, {len(chosen)} are", flush=True)
    survivors, equivalent, seen = [], 0, 0
    for k, fault in enumerate(chosen, 1):
        if without_line(fault) in known:
            equivalent += 1
            continue
        begun = time.monotonic()
        found = noticed(fault)
        seen += found
        survivors += [] if found else [fault]
        seconds, verdict = time.monotonic() - begun, "noticed " if found else "SURVIVED"
        print(f"{k}/{len(chosen)} {seconds:4.0f} s {verdict} {fault}", flush=True)
    asked = len(chosen) - equivalent
    print(f"{seen} of {asked} noticed ({seen / max(asked, 1):.1%}), {equivalent} listed as equivalent")
    print("\n".join(f"survived: {without_line(f)}" for f in survivors))
    return 0 if seen >= GOAL * asked else 1


if __name__ == "__main__":
    sys.exit(main())
