"""Everything that needs a device, unattended and once: answers first, then figures, which go to docs/gpu.md.

    python -m tests.gpu [SECTION …]        of: answers sanitizer memory products training

It takes under eight minutes: each section has its own time, and what does not fit is named.  What fails says so and
stops nothing else; the page is written after every section, so that a run cut short leaves what it has.  PyTorch and
JAX are measured beside gradc where they are installed, compute-sanitizer runs where it is on the path.  Times are those
of device events around captured graphs, the median of several rounds; contenders of one row take turns.
"""

from __future__ import annotations

import datetime
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import gradc as gc
from gradc.containers import leaves_of
from gradc.runtime import cuda
from gradc.version import __version__
from tests.gpu import rows
from tests.gpu.test_on_device import target
from tests.ptx import models

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gpu.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
HEAD = ["| what | gradc | beside | share | aim |", "|---|--:|--:|--:|--:|"]
#: Seconds for each section; together less than eight minutes.
TIMES = {"answers": 150.0, "sanitizer": 60.0, "memory": 60.0, "products": 80.0, "training": 110.0}
FIGURES: dict[str, Callable[[rows.Sizes], Iterator[rows.Case]]] = {
    "memory": rows.memory, "products": rows.products, "training": rows.training,
}  # fmt: skip


def answers(limit: float) -> str:
    """The tests on the device; one line."""
    if importlib.util.find_spec("pytest") is None:
        return "pytest is not installed"
    workers = min(6, os.cpu_count() or 1) if importlib.util.find_spec("xdist") is not None else 0
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", str(Path(__file__).parent)]
    return _last_line([*command, *(["-n", str(workers)] if workers else [])], limit)


def sanitized(limit: float) -> str:
    """A training step under compute-sanitizer; one line."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return "compute-sanitizer is not installed"
    body = "from tests.gpu.__main__ import one_step; one_step()"
    return _last_line([tool, "--error-exitcode", "1", sys.executable, "-c", body], limit)


def _last_line(command: list[str], limit: float) -> str:
    """What a command says last; all of it is printed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired as late:
        print((late.stdout or b"").decode(errors="replace")[-4000:], flush=True)
        return f"not done after {limit:.0f} s"
    print(done.stdout[-4000:], done.stderr[-2000:], flush=True)
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return f"{lines[-1] if lines else 'nothing was said'} (exit status {done.returncode})"


def one_step() -> None:
    """A training step, for compute-sanitizer to watch."""
    step, args = models.mlp()
    exe = gc.compile(step, *args, target=target())
    leaves, structure = leaves_of((args, {}))
    exe(*structure.unflatten([exe.put(x) for x in leaves])[0])
    cuda.driver().synchronize()


def section(name: str, sizes: rows.Sizes) -> Iterator[str]:
    """The lines of a section for the page."""
    if name in FIGURES:
        for row in rows.measured(FIGURES[name](sizes), time.monotonic() + TIMES[name]):
            yield str(row)
    elif name == "answers":
        yield f"- tests on the device: {answers(TIMES[name])}"
    else:
        yield f"- compute-sanitizer, a training step: {sanitized(TIMES[name])}"


def write(lines: list[str], table: list[str]) -> None:
    """Put what there is between the markers of the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    body = "\n".join([*lines, "", *([*HEAD, *table] if table else [])]).strip()
    PAGE.write_text(f"{before}{BEGIN}\n{body}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def main(chosen: list[str], sizes: rows.Sizes = rows.FULL) -> int:
    """Run, print, and write the page; 1 if something failed."""
    unknown = [name for name in chosen if name not in TIMES]
    if unknown:
        print(f"no section {unknown[0]}; there are {' '.join(TIMES)}")
        return 2
    device = cuda.driver()
    major, minor = device.cuda_version
    date = datetime.datetime.now(tz=datetime.UTC).date()
    lines, table = [f"{device.name}, driver for CUDA {major}.{minor}, code for {target()}, {date}.", ""], []
    lines[0] += f" gradc {__version__}."
    print(lines[0], flush=True)
    failed = False
    for name in chosen or TIMES:
        start = time.monotonic()
        print(f"== {name}", flush=True)
        try:
            for line in section(name, sizes):
                print(line, flush=True)
                (table if name in FIGURES else lines).append(line)
                failed |= "failed" in line or "exit status 1" in line
        except Exception:
            traceback.print_exc()
            failed = True
        print(f"== {name}: {time.monotonic() - start:.0f} s", flush=True)
        write(lines, table)
    return int(failed)


if __name__ == "__main__":
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    raise SystemExit(main(sys.argv[1:]))
