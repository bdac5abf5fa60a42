"""The report of a run: one page that stands alone, says what was measured, and escapes what a user wrote."""

from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import gradc as gc
from gradc.explorer.page import palette
from gradc.training.report import digest
from tests.browser import CHROMIUM, DRIVER, MISSING, Browser

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = ["Curves", "Convergence", "Health", "Landscape", "Formulas", "Kernels", "To do it again"]
VOID = {"meta", "link", "br", "rect", "path", "line", "circle"}


def net(params, x, y):
    h = np.tanh(x @ params["W"] + params["b"])
    return np.mean((h @ params["v"] - y) ** 2)


def trained(**options):
    random = np.random.default_rng(3)
    x = random.normal(size=(48, 3))
    start = {"W": random.normal(size=(3, 4)), "b": np.zeros(4), "v": random.normal(size=4)}
    given = {"optimizer": gc.optim.adam(0.05), "batch_size": 16, "epochs": 4, "log": False, **options}
    return gc.fit(net, start, (x, np.sin(x[:, 0])), **given)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    monitor = gc.training.HealthMonitor(every=4, tell=None)
    run = trained(callbacks=[monitor])
    path = run.report(tmp_path_factory.mktemp("report") / "run.html", title="a <b> & c")
    return run, path, path.read_text(encoding="utf-8")


class Nesting(HTMLParser):
    """Whether every element is closed where it should be."""

    def __init__(self):
        super().__init__()
        self.open, self.wrong, self.words = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.words.append(data)


def test_a_report_has_every_part(page):
    run, path, text = page
    assert re.findall(r"<h2>(.*?)</h2>", text) == SECTIONS and "Not here" not in text
    reader = Nesting()
    reader.feed(text)
    assert reader.wrong == [] and reader.open == []
    words = "".join(reader.words)
    for said in (f"{run.loss:.5g}", "12", "adam", "λmax", "θ", digest(run.params), gc.__version__, "nothing is worth"):
        assert said.lower() in words.lower(), said
    assert text.count("<svg") >= 6 and "<math" in text and text.count("Gradient norm") >= 2
    assert path.stat().st_size < 400_000


def test_a_report_stands_alone_and_escapes(page):
    _, _, text = page
    assert "a &lt;b&gt; &amp; c" in text and "a <b> & c" not in text
    assert re.findall(r"https?://(?!www\.w3\.org/)", text) == [] and "<script" not in text
    assert re.findall(r"\b(?:src|href)=\"(?!#|data:)", text) == []


def test_parts_can_be_left_out_and_what_is_missing_is_said(tmp_path):
    run = trained()
    text = run.report(tmp_path / "x.html", health=False, landscape=False, formulas=False, kernels=False).read_text()
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["Curves", "Convergence", "To do it again"]
    assert "<title>net — a training run</title>" in text

    def own(params, state, x):
        return params - 0.1 * x.mean(), state, float(params)

    run = gc.fit(own, 1.0, [(np.ones(2),)] * 4, state=(), log=False)
    text = run.report(tmp_path / "y.html").read_text()
    assert "a step of your own is not known" in text and "no compiled step of gradc" in text


def test_a_digest_is_that_of_places_dtypes_shapes_and_bits():
    a = {"w": np.arange(3.0), "b": np.float32(1)}
    assert digest(a) == digest({"b": np.float32(1), "w": np.arange(3.0)}) != digest({**a, "b": np.float64(1)})
    assert digest({"w": np.zeros(2)}) != digest({"w": -np.zeros(2)}) != digest({"w": np.zeros((2, 1))})
    assert digest(np.ones(1)) == hashlib.sha256(b" float64 (1,)\n" + np.ones(1, "<f8").tobytes()).hexdigest()


@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=MISSING)
def test_a_browser_shows_a_report_without_a_sideways_scroll(page):
    _, path, _ = page
    with Browser() as browser:
        for width in (1200, 390):
            browser.size(width, 900)
            browser.open(path)
            wide = browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
            boxes = "[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect())"
            drawn = browser.run(f"return {boxes}.every(box => box.width > 200 && box.right <= window.innerWidth)")
            assert wide and drawn, width


@pytest.mark.parametrize("sheet", ["gradc/explorer/page.css", "gradc/training/report.css"])
def test_every_colour_that_a_page_uses_is_set_once(sheet):
    """Colours that pages share stand in the palette alone; a page's own sheet and its script set the others."""
    own = (ROOT / sheet).read_text(encoding="utf-8")
    script = ROOT / sheet.replace(".css", ".js")
    by_script = set(re.findall(r"setProperty\(\"(--[\w-]+)", script.read_text("utf-8") if script.exists() else ""))
    shared, mine = (set(re.findall(r"(?<=[\s;{])(--[\w-]+):", text)) for text in (palette(), own))
    assert shared and not shared & mine
    assert set(re.findall(r"var\((--[\w-]+)\)", own)) <= shared | mine | by_script
