"""docs/adding-an-op.md is run: its blocks, pasted into a copy of the package, are ops in every respect.

Enters: the page.  Leaves: a copy of the package with its blocks, in which its program runs, the registry walk of the
new ops is green, and a block that is half defined is refused by name.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "adding-an-op.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"`(gradc/[\w/]+\.py)`:\n\n```python\n(.*?)```", re.S)
PROGRAM = re.findall(r"```python\n(.*?)```", PAGE, re.S)[-1]
NEW = ("softsign", "sum_of_squares", "ldl")
#: what the walk reads of the tests
WALK = ("__init__.py", "conftest.py", "effort.py", "op_cases.py", "compiled_graph.py", "test_ops.py")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The package and the walk with the page's blocks pasted in."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "gradc", folder / "gradc", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "tests").mkdir()
    for name in WALK:
        shutil.copy(ROOT / "tests" / name, folder / "tests")
    for path, block in BLOCK.findall(PAGE):
        with (folder / path).open("a", encoding="utf-8") as file:
            file.write(f"\n{block}")
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    known = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=folder, env=known, check=False
    )


def test_the_page_says_where_each_block_goes():
    paths = [path for path, _ in BLOCK.findall(PAGE)]
    files = ("transcendental.py", "reductions.py", "square_root_free.py", "__init__.py")
    assert paths == [f"gradc/ops/{name}" for name in files]
    assert len(PAGE.split("```python\n")) == len(paths) + 2, "every other block is the program"


def test_the_program_of_the_page_runs(copy):
    """Traced, interpreted, compiled, differentiated in all modes, batched and explained, under their public names."""
    done = run(copy, "-c", PROGRAM)
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_registry_walk_of_the_new_ops_is_green(copy):
    chosen = " or ".join(NEW)
    done = run(copy, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "tests/test_ops.py", "-k", chosen)
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) >= 9 * len(NEW)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("facet", "missing"),
    [
        ("    combine=lambda b, x, y: b.add(x, y),", "identity and combine"),
        ("    definition=", "definition"),
        ("        expand=_columns,", "expand"),
        ("    jvp=", "a derivative rule"),
    ],
)
def test_a_block_without_a_facet_is_refused_by_name(copy, facet, missing):
    path, block = next((path, block) for path, block in BLOCK.findall(PAGE) if facet in block)
    (line,) = (line for line in block.splitlines() if line.startswith(facet))
    target = copy / path
    whole = target.read_text(encoding="utf-8")
    start = whole.rindex(line)
    try:
        target.write_text(whole[:start] + whole[start + len(line) :], encoding="utf-8")
        done = run(copy, "-c", "import gradc")
    finally:
        target.write_text(whole, encoding="utf-8")
    assert done.returncode != 0
    assert "half defined" in done.stderr
    assert missing in done.stderr.splitlines()[-1]
