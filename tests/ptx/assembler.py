"""ptxas, NVIDIA's assembler: of the package nvidia-cuda-nvcc, or one on the path.

Enters: PTX text.  Leaves: what each kernel takes of a device, by name.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Usage:
    registers: int
    spilled: int  #: bytes stored to memory for want of registers
    stack: int
    shared: int


@cache
def ptxas() -> str | None:
    """The assembler's path, or None."""
    found = importlib.util.find_spec("nvidia")
    for folder in (found.submodule_search_locations or []) if found is not None else []:
        for path in sorted(Path(folder).glob("cu*/bin/ptxas")):
            return str(path)
    return shutil.which("ptxas")


def assembled(ptx: str, arch: str) -> dict[str, Usage]:
    """What each kernel takes; the test is skipped where there is no assembler, and fails where it refuses the text."""
    tool = ptxas()
    if tool is None:
        pytest.skip("no ptxas here: pip install 'gradc[ptxas]'")
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        command = [tool, "-v", f"-arch={arch}", file.name, "-o", "/dev/null"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    return _usages(done.stderr)


def _usages(report: str) -> dict[str, Usage]:
    found: dict[str, Usage] = {}
    for part in report.split("Compiling entry function ")[1:]:
        name = part.split("'")[1]
        own = part.split(f"Function properties for {name}")[1]

        def number(pattern: str, text: str = own) -> int:
            match = re.search(pattern, text)
            return int(match[1]) if match else 0

        found[name] = Usage(
            number(r"Used (\d+) registers"), number(r"(\d+) bytes spill stores"), number(r"(\d+) bytes stack frame"),
            number(r"(\d+) bytes smem"),
        )  # fmt: skip
    return found
