"""The generated pages are what the code says now, and README's example prints what README shows."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import llvmlite.binding as llvm
import pytest

ROOT = Path(__file__).resolve().parent.parent


def _generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ops_page_is_the_registry():
    assert (ROOT / "docs" / "ops.md").read_text(encoding="utf-8") == _generator().ops_page(), "run `make docs`"


def test_names_page_is_what_the_modules_say():
    assert (ROOT / "docs" / "names.md").read_text(encoding="utf-8") == _generator().names_page(), "run `make docs`"


def test_the_page_names_what_is_missing():
    """A name that does not exist is listed; one that exists is not."""
    missing = {n for names in _generator().missing().values() for n in names}
    assert "complex" in missing and "sin" not in missing


@pytest.mark.skipif(llvm.llvm_version_info[0] != 22, reason="the tour shows the assembly of LLVM 22")
def test_tour_is_what_the_stages_print():
    assert (ROOT / "docs" / "tour.md").read_text(encoding="utf-8") == _generator().tour_page(), "run `make docs`"


def test_gallery_is_what_explain_prints():
    assert (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8") == _generator().gallery_page(), "run `make docs`"


def test_update_rules_are_what_explain_prints():
    assert (ROOT / "docs" / "update-rules.md").read_text(encoding="utf-8") == _generator().updates_page(), "make docs"


def test_the_map_of_rooms_shows_what_is_there():
    """`make docs` draws it anew; its figures may age by a few lines, its rooms may not."""
    drawn = (ROOT / "docs" / "rooms.svg").read_text(encoding="utf-8")
    shown = re.findall(r">([a-z_, ]+)</text>", drawn)
    assert {r for words in shown for r in words.split(", ")} >= {
        room.removesuffix(".py") for row in importlib.import_module("docs.drawing").rooms() for room in row
    }, "run `make docs`"


def test_every_page_is_in_the_menu_and_in_the_index():
    menu, index = ((ROOT / p).read_text(encoding="utf-8") for p in ("mkdocs.yml", "docs/index.md"))
    for page in (ROOT / "docs").glob("*.md"):
        assert re.search(rf"\b{page.name}\b", menu), f"mkdocs.yml does not list {page.name}"
        assert page.name == "index.md" or f"({page.name})" in index, f"docs/index.md does not link to {page.name}"


def _blocks(language):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def test_readme_example_prints_what_it_shows(tmp_path):
    """The first Python block is run as a script; its output is the block that follows it."""
    code, shown = _blocks("python")[0], _blocks("text")[0]
    path = tmp_path / "example.py"
    path.write_text(code)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == shown.strip()


def test_readme_training_loop_trains():
    """The second Python block, after the first one's definitions and with two batches."""
    first, second = _blocks("python")[:2]
    names: dict[str, object] = {}
    exec(first.partition("print(")[0], names)
    start = names["w"].copy()
    names["batches"] = [(names["X"], names["y"])] * 2
    exec(second, names)
    assert names["value"] < names["loss"](start, names["X"], names["y"])


def test_every_linked_file_exists():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
        for link in re.findall(r"\]\((?!http)([^)#]+)", prose):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


@pytest.mark.parametrize("page", ["nn", "optimizers", "precision", "checkpoints", "data", "training"])
def test_the_programs_of_a_page_run(page):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, f"docs/{page}.md", "exec"), names)


def test_the_page_on_neural_networks_knows_their_names():
    import gradc.nn

    text = (ROOT / "docs" / "nn.md").read_text(encoding="utf-8")
    listed = {n for row in re.findall(r"^\|.*\|$", text, re.M) for n in re.findall(r"`(?:init\.)?([a-z_0-9]+)`", row)}
    keywords = {"weight", "ignore_index", "label_smoothing", "pos_weight", "log_target"}
    assert listed - keywords <= {*gradc.nn.__all__, *gradc.nn.init.__all__}


def test_the_page_on_optimizers_knows_their_names():
    import gradc.optim

    text = (ROOT / "docs" / "optimizers.md").read_text(encoding="utf-8")
    called = set(re.findall(r"`(\w+)\(", text)) | set(re.findall(r"`(\w+)`", text))
    unknown = {n for n in called if re.fullmatch(r"[a-z_0-9]+", n)} - set(gradc.optim.__all__)
    of_the_loss = {"value", "value_fn", "grad_fn", "hessian_fn", "residual_fn", "factors_fn", "line_search"}
    assert unknown <= {"init", "update", "t", "transforms", "hyperparameters"} | of_the_loss, unknown
