"""The explorer: what its page says, that its links are those of the compiled code, and what it does in a browser.

The first half reads the page as text and data; the second drives a headless Chromium, where there is one.
"""

from __future__ import annotations

import inspect
import json
import re
from functools import partial
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

import gradc as gc
from gradc.cli import main
from gradc.explain import explain_graph, traced
from gradc.explain.mathml import MathmlPrinter
from gradc.explorer.film import is_number
from gradc.explorer.layering import draw
from gradc.explorer.page import page
from gradc.explorer.program import compiled_program
from tests.browser import CHROMIUM, DRIVER, MISSING, Browser

F32 = np.float32
EVIL = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>&amp;"


def network(W1, b1, W2, b2, W3, b3, x, y):
    h1 = np.maximum(x @ W1 + b1, 0)
    h2 = np.tanh(h1 @ W2 + b2)
    z = h2 @ W3 + b3
    return gc.nn.cross_entropy(z, y)


SHAPES = ((64, 128), (128,), (128, 128), (128,), (128, 10), (10,), (32, 64))


def arguments():
    rng = np.random.default_rng(0)
    return [*(rng.standard_normal(s).astype(F32) for s in SHAPES), rng.integers(0, 10, 32)]


class Reader(HTMLParser):
    """Tags and attributes of a page, its data, and whether each tag that was opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.texts = [], [], {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br", "img"):
            self.open.append((tag, dict(attrs).get("id", "")))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open:
            key = self.open[-1][1] or self.open[-1][0]
            self.texts[key] = self.texts.get(key, "") + data


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    """The page of a network's training loss, as text, as data, and the program behind it."""
    graph, wanted = traced(network, *arguments(), argnums=range(6))
    program = compiled_program(partial(explain_graph, graph, wanted), arguments())
    text = page(program)
    path = tmp_path_factory.mktemp("explorer") / "page.html"
    path.write_text(text, encoding="utf-8")
    reader = Reader(text)
    return SimpleNamespace(program=program, text=text, path=path, reader=reader, data=json.loads(reader.texts["data"]))


def linked(explored, tag):
    """The sets of nodes of the pieces with this tag or class."""
    sets = explored.data["sets"]
    for name, attributes in explored.reader.found:
        if tag in (name, *attributes.get("class", "").split()) and "data-s" in attributes:
            yield set(sets[int(attributes["data-s"])])


# -- the page as text ------------------------------------------------------------------------------------------------


def test_the_page_of_a_network_is_small_and_needs_no_network(explored):
    assert len(explored.text.encode()) < 1_000_000
    outside = re.findall(r"https?://[^\"'\s<)]+", explored.text.replace("http://www.w3.org/1998/Math/MathML", ""))
    assert set(outside) <= {"http://www.w3.org/2000/svg"}
    for tag, attributes in explored.reader.found:
        assert tag not in ("iframe", "object", "embed", "base")
        assert attributes.get("src") is None
        assert attributes.get("href", "#").startswith(("#", "data:"))
    assert "default-src 'none'" in explored.text


def test_html_writes_a_page_beside_the_text(tmp_path):
    def f(x):
        return np.sum(np.tanh(x))

    explanation = gc.explain(f, np.ones(8))
    assert isinstance(explanation, gc.Derivation)
    assert str(explanation) == str(explain_graph(*traced(f, np.ones(8))))
    path = explanation.html(str(tmp_path / "out.html"))
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "test_explorer.py" in text


def test_every_computed_node_is_in_every_pane(explored):
    program, data = explored.program, explored.data
    computed = {
        n
        for n, node in enumerate(program.graph.nodes)
        if node.op.name not in ("input", "constant") and not is_number(node)
    }
    panes = {
        "source": set().union(*linked(explored, "ln")),
        "formulas": set().union(*linked(explored, "formula")),
        "kernels": set().union(*linked(explored, "tr")),
        "graph": {n for node in data["frames"][-1]["nodes"] for n in data["sets"][node[5]]},
        "ir": {n for f in data["ir"] for line in f["lines"] if line[1] >= 0 for n in data["sets"][line[1]]},
        "asm": {n for f in data["asm"] for line in f["lines"] if line[1] >= 0 for n in data["sets"][line[1]]},
    }
    assert {name: computed - found for name, found in panes.items()} == {name: set() for name in panes}


def test_assembly_is_linked_by_the_loc_lines_alone(explored):
    """Read `.loc` again, without the explorer, and compare instruction by instruction."""
    program, data = explored.program, explored.data
    expected, name, mark = {}, "", 0
    for line in program.asm.splitlines():
        if label := re.match(r"([\w.]+):", line):
            name = label[1] if not label[1].startswith(".L") else name
        elif found := re.match(r"\s+\.loc\s.*?(?:discriminator (\d+))?$", line.split("#")[0].rstrip()):
            mark = int(found[1] or 0)
        elif code := re.match(r"\t([a-z]\w*)", line):
            expected.setdefault(name, []).append((code[1], program.locations.nodes(mark) if mark else frozenset()))
    for block in data["asm"]:
        shown = [
            (text.split()[0], frozenset(data["sets"][rest[0]]) if rest[0] >= 0 else frozenset())
            for text, *rest in block["lines"]
            if not text.endswith(":")
        ]
        assert shown == expected[block["name"]], block["name"]
    assert {block["name"] for block in data["asm"]} == {block["name"] for block in data["ir"]}


def test_terms_stand_for_the_nodes_they_name(explored):
    """In `h2 = tanh(h1 W2 + b2)` the whole right side is the tanh, the product is one contraction."""
    program, sets = explored.program, explored.data["sets"]
    ops = {n: node.op.name for n, node in enumerate(program.graph.nodes)}
    row = re.search(r'<div class="formula forward"[^>]*aria-label="h2">.*?</div>', explored.text)[0]
    own = [{ops[n] for n in sets[int(found)]} for found in re.findall(r'data-o="(\d+)"', row)]
    assert {"tanh"} in own
    assert {"contract"} in own
    names = {name: program.graph.index[node] for node, name in program.graph.names.items()}
    assert any(names["W2"] in sets[int(found)] for found in re.findall(r'data-o="(\d+)"', row))


def test_a_gradient_that_is_an_input_still_has_its_code():
    """∂L/∂X = A: the formula computes nothing, the compiled graph does."""
    graph, wanted = traced(lambda X, A: np.trace(A.T @ X), np.ones((2, 3)), np.ones((2, 3)))
    program = compiled_program(partial(explain_graph, graph, wanted))
    text = page(program)
    data = json.loads(Reader(text).texts["data"])
    row = re.search(r'<div class="formula gradient"[^>]*data-s="(\d+)"', text)
    assert program.graph.index[program.graph.outputs[1]] in data["sets"][int(row[1])]


def test_a_composite_stands_for_all_that_it_computes(explored):
    ops = {n: node.op.name for n, node in enumerate(explored.program.graph.nodes)}
    row = re.search(r'<div class="formula forward"[^>]*aria-label="L">.*?</div>', explored.text)[0]
    whole = {ops[n] for n in explored.data["sets"][int(re.search(r'data-o="(\d+)"', row)[1])]}
    assert {"gather", "exp", "log", "max", "sum"} <= whole


def test_code_that_only_loads_is_told_from_code_that_computes(explored):
    data = explored.data
    loads = [line for f in data["ir"] for line in f["lines"] if len(line) > 3 and line[3] >= 0]
    assert loads
    assert any("load" in text for text, *_ in loads)
    assert all(not {*data["sets"][o]} & {*data["sets"][r]} for _, _, o, r in loads if o >= 0)


def test_the_passes_are_frames(explored):
    frames = explored.data["frames"]
    names = [frame["name"] for frame in frames]
    assert names[0] == "trace"
    assert [n for n in names if n in ("differentiate", "sizes", "expand")] == ["differentiate", "sizes", "expand"]
    differentiate = names.index("differentiate")
    before = next(frame for frame in reversed(frames[:differentiate]) if not frame["same"])
    kept = {node[0] for node in before["nodes"]}
    assert kept <= {node[0] for node in frames[differentiate]["nodes"]}
    assert ["+", "6 contract"] in frames[differentiate]["changes"] or any(
        "contract" in text for sign, text in frames[differentiate]["changes"] if sign == "+"
    )
    assert any(frame["same"] for frame in frames)
    for frame in (frame for frame in frames if not frame["same"]):
        assert all(0 <= a < len(frame["nodes"]) and 0 <= b < len(frame["nodes"]) for a, b, _ in frame["edges"])
        assert len({node[0] for node in frame["nodes"]}) == len(frame["nodes"])
    last = frames[-1]["nodes"]
    assert all(len(explored.data["sets"][node[5]]) == 1 for node in last)


def test_listings_show_code_and_nothing_for_linkers(explored):
    shown = "\n".join(text for which in ("ir", "asm") for f in explored.data[which] for text, *_ in f["lines"])
    for noise in ("!dbg", "DILocation", ".cfi", ".loc", ".Ltmp", ".size", "section"):
        assert noise not in shown
    assert "vfmadd" in shown or "fmla" in shown or "mul" in shown


def test_numbers_stand_beside_the_pieces(explored):
    rows = list(explored.program.profile.kernels)
    assert explored.text.count("data-share=") == len(rows)
    assert explored.data["step"] == pytest.approx(explored.program.profile.step_ns, abs=0.1)
    contract = next(n for n in explored.data["nodes"] if n["op"] == "contract")
    assert contract["flops"] == 2 * 32 * 64 * 128
    assert contract["bytes"] == 4 * (32 * 64 + 64 * 128 + 32 * 128)
    assert contract["kernels"]
    assert contract["where"].startswith("test_explorer.py:")


def test_what_a_user_wrote_cannot_break_the_page(tmp_path):
    file = tmp_path / "evil & <b>.py"
    file.write_text(
        f'import numpy as np\ndef f(x):\n    note = "{EVIL}"  # {EVIL}\n    return np.sum(np.tanh(x))  # {EVIL}\n',
        encoding="utf-8",
    )
    names = {}
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), names)
    names["f"].__name__ = EVIL
    path = gc.explain(names["f"], np.ones(8)).html(tmp_path / "page.html")
    text = path.read_text(encoding="utf-8")
    reader = Reader(text)
    assert [tag for tag, _ in reader.found].count("script") == 2
    assert "img" not in [tag for tag, _ in reader.found]
    assert "{" in reader.texts["data"]
    json.loads(reader.texts["data"])
    assert EVIL not in text


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (lambda x, w: x @ w, (gc.spec((3, 4)), gc.spec((4, 2)))),  # no scalar: a cotangent
        (lambda x: np.sum(np.floor(x)), (gc.spec(5),)),  # a gradient that is structurally zero
        (lambda x: x * 2.0, (gc.spec(()),)),  # one number
        (lambda x: np.sum(x), (gc.spec(0),)),  # no element
        (lambda x: x.at[np.array([0, 2])].add(1.0)[1:] ** 2, (gc.spec(5),)),  # scatter, slice
        (lambda x: np.mean(np.sort(x) * np.arange(6.0)), (gc.spec(6),)),  # captured array, sort
        (lambda p: p["a"] @ p["b"][0], ({"a": gc.spec(3), "b": [gc.spec(3)]},)),  # nested arguments
    ],
)
def test_any_function_has_a_page(function, args, tmp_path):
    text = gc.explain(function, *args).html(tmp_path / "page.html").read_text(encoding="utf-8")
    data = json.loads(Reader(text).texts["data"])
    assert data["frames"]
    assert data["ir"]


def test_source_that_is_gone_is_said_to_be(tmp_path):
    names = {}
    exec(compile("import numpy as np\ndef f(x):\n    return np.sum(np.exp(x))\n", "<gone>", "exec"), names)
    text = gc.explain(names["f"], gc.spec(4)).html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "source not available" in text
    assert "&lt;gone&gt;" in text


MODEL = """
import numpy as np
import gradc as gc

def loss(w=gc.spec((3,)), X=gc.spec((5, 3)), y=gc.spec((5,))):
    r = X @ w - y
    return r @ r
"""


def test_the_command_writes_the_page(tmp_path, capsys):
    (tmp_path / "model.py").write_text(MODEL)
    out = tmp_path / "out.html"
    assert main(["explain", f"{tmp_path / 'model.py'}:loss", "--html", str(out)]) == 0
    assert f"wrote {out}" in capsys.readouterr().out
    assert "r = X @ w - y" in re.sub(r"<[^>]+>", "", out.read_text(encoding="utf-8"))
    assert main(["explain", f"{tmp_path / 'model.py'}:loss", "--html", str(tmp_path / "no" / "out.html")]) == 2
    assert "there is no directory" in capsys.readouterr().err


def test_marks_change_nothing_of_the_notation(explored):
    for line in explored.program.derivation.lines:
        if line.layout is not None:
            marked = MathmlPrinter(lambda x: ' data-t=""')(line.layout)
            assert marked.replace(' data-t=""', "") == MathmlPrinter()(line.layout)
            assert marked != MathmlPrinter()(line.layout)


def test_a_drawing_has_no_two_nodes_in_one_place():
    rng = np.random.default_rng(0)
    edges = [(int(a), b) for b in range(1, 60) for a in {*rng.integers(max(0, b - 20), b, 2)}]
    widths = [int(w) for w in rng.integers(40, 120, 60)]
    drawing = draw(widths, edges)
    for i, (x, y) in enumerate(drawing.places):
        assert 0 <= x - widths[i] / 2
        assert x + widths[i] / 2 <= drawing.width
        for k in range(i):
            other_x, other_y = drawing.places[k]
            assert y != other_y or abs(x - other_x) >= (widths[i] + widths[k]) / 2
    assert all(drawing.places[a][1] < drawing.places[b][1] for a, b in edges)
    assert draw([], []).paths == ()


# -- in a browser ----------------------------------------------------------------------------------------------------

needs_a_browser = pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason=MISSING)


def in_a_browser(test):
    """A test that drives Chromium; starting one takes a second or two."""
    return pytest.mark.slow(needs_a_browser(test))


LIT = "return document.querySelectorAll(arguments[0] + ' [data-s].lit').length"
PANES = ("source", "formulas", "graph", "kernels", "ir", "asm")


@pytest.fixture(scope="module")
def browser(explored):
    with Browser() as found:
        found.size(1440, 900)
        found.open(explored.path)
        yield found


@pytest.fixture
def opened(browser, explored):
    """The page as it opens; afterwards it is put back, and nothing has complained."""
    yield browser
    assert browser.complaints() == []
    browser.dark(False)
    browser.size(1440, 900)
    browser.away()
    browser.press("Escape")
    browser.run("document.getElementById('strip').lastChild.click()")


def lit(browser):
    return {pane: browser.run(LIT, f"#list-{pane}") for pane in PANES}


def line_of(name):
    lines, start = inspect.getsourcelines(network)
    return start + next(k for k, text in enumerate(lines) if text.strip().startswith(f"{name} ="))


def source_line(browser, name):
    """A selector of the source line that defines ``name``."""
    script = """
        const line = [...document.querySelectorAll("#list-source .ln")]
            .find((e) => e.querySelector(".no").textContent === arguments[0]);
        line.id = "wanted-" + arguments[0];
        line.scrollIntoView({ block: "center" });
        return line.id"""
    return "#" + browser.run(script, str(line_of(name)))


@in_a_browser
def test_nothing_is_lit_and_nothing_is_fetched_at_first(opened):
    assert set(lit(opened).values()) == {0}
    assert opened.run("return performance.getEntriesByType('resource').length") == 0
    assert opened.run("return document.querySelectorAll('#list-asm .ln').length") > 500
    assert opened.run("return document.querySelectorAll('#list-graph .node').length") > 40


@in_a_browser
def test_pointing_at_a_source_line_lights_its_pieces_everywhere(opened, explored):
    opened.hover(source_line(opened, "h2"))
    assert all(count > 0 for count in lit(opened).values())
    nodes = opened.run("return [...document.querySelectorAll('#list-graph .node.lit')].map((e) => e.ariaLabel)")
    assert any("tanh" in text for text in nodes)
    assert not any("logsumexp" in text or "gather" in text for text in nodes)
    assert "flop" in opened.run("return document.getElementById('inspector').textContent")
    opened.away()
    assert set(lit(opened).values()) == {0}


@in_a_browser
def test_pointing_at_a_term_lights_less_than_its_line(opened):
    opened.hover('.formula[aria-label="h2"] .at')
    line = lit(opened)
    term = opened.run(
        """const terms = [...document.querySelectorAll('.formula[aria-label="h2"] [data-t]')];
        const last = terms.at(-1); last.id = "term"; return last.textContent"""
    )
    opened.hover("#term")
    assert term == "b2"
    part = lit(opened)
    assert part["source"] <= line["source"]
    assert 0 < part["graph"] < line["graph"]


@in_a_browser
def test_a_click_chooses_and_escape_lets_go(opened):
    opened.click("#list-kernels tbody tr:nth-child(2)")
    opened.away()
    chosen = lit(opened)
    assert all(count > 0 for count in chosen.values())
    assert opened.run("return document.querySelector('#list-kernels tr.pinned').ariaSelected") == "true"
    visible = """
        const body = document.getElementById("list-asm"), box = body.getBoundingClientRect();
        return [...body.querySelectorAll(".lit")].some((e) => {
            const at = e.getBoundingClientRect(); return at.top >= box.top && at.bottom <= box.bottom })"""
    assert opened.run(visible), "the assembly scrolls to what was chosen"
    opened.hover(source_line(opened, "z"))
    assert lit(opened) != chosen
    opened.away()
    assert lit(opened) == chosen
    opened.press("Escape")
    assert set(lit(opened).values()) == {0}


@in_a_browser
def test_the_page_is_walked_with_keys_alone(opened):
    active = "return document.activeElement.id"
    reached = []
    opened.run("document.activeElement.blur()")
    while len(reached) < 40 and not {f"list-{pane}" for pane in PANES} <= {*reached}:
        opened.press("Tab")
        reached.append(opened.run(active))
    assert {f"list-{pane}" for pane in PANES} <= {*reached}
    opened.run("document.getElementById('list-formulas').focus()")
    opened.press("Down", "Down")
    row = opened.run("return document.querySelector('#list-formulas .active').getAttribute('aria-label')")
    before = lit(opened)
    assert before["asm"] > 0
    opened.press("Right", "Right")
    assert opened.run("return document.querySelector('#list-formulas .active').hasAttribute('data-t')")
    assert opened.run("return document.querySelector('#list-formulas .active').closest('.formula').ariaLabel") == row
    opened.press("Enter")
    assert opened.run("return document.querySelectorAll('.pinned').length") == 1
    outline = opened.run("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none", "the focus is visible"
    opened.press("Escape")
    assert set(lit(opened).values()) == {0}


@in_a_browser
def test_the_passes_are_walked_through(opened, explored):
    frames = explored.data["frames"]
    selected = "return [...document.querySelectorAll('#strip button')].findIndex((e) => e.ariaSelected === 'true')"
    assert opened.run(selected) == len(frames) - 1
    opened.press("[")
    assert opened.run(selected) == len(frames) - 2
    opened.click("#frame0")
    count = "return document.querySelectorAll('#list-graph .node').length"
    assert opened.run(count) == len(frames[0]["nodes"])
    assert "trace" in opened.run("return document.getElementById('film-words').textContent")
    at = [frame["name"] for frame in frames].index("differentiate")
    opened.run("document.getElementById(arguments[0]).click()", f"frame{at}")
    assert opened.run(count) == len(frames[at]["nodes"])
    assert opened.run("return document.querySelectorAll('#list-graph .added').length") > 5
    opened.hover(source_line(opened, "h2"))
    assert lit(opened)["graph"] > 0, "earlier graphs are linked too"


@in_a_browser
def test_panes_and_functions_fold(opened):
    opened.click("#pane-ir .fold")
    assert opened.run("return document.getElementById('list-ir').offsetHeight") == 0
    assert opened.run("return document.querySelector('#pane-ir .fold').getAttribute('aria-expanded')") == "false"
    opened.click("#pane-ir .fold")
    assert opened.run("return document.getElementById('list-ir').offsetHeight") > 100
    opened.click("#list-asm .fn")
    assert opened.run("return document.querySelector('#list-asm .fn-body').offsetHeight") == 0
    opened.click("#list-asm .fn")


def luminance(color):
    return sum(w * int(v) for w, v in zip((0.2126, 0.7152, 0.0722), re.findall(r"\d+", color)[:3], strict=True)) / 255


@in_a_browser
@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_in_light_and_dark(opened, dark):
    opened.dark(dark)
    opened.click("#list-kernels tbody tr:nth-child(2)")
    for selector in ("body", "#list-source .ln.lit", "#list-kernels tr.pinned td", ".pane h2", "#film-words"):
        script = """
            let e = document.querySelector(arguments[0]); const ink = getComputedStyle(e).color;
            while (getComputedStyle(e).backgroundColor === "rgba(0, 0, 0, 0)" && e.parentElement) e = e.parentElement;
            return [ink, getComputedStyle(e).backgroundColor]"""
        ink, paper = map(luminance, opened.run(script, selector))
        assert (ink > paper) == dark, selector
        assert abs(ink - paper) > 0.35, selector


@in_a_browser
def test_the_page_fits_its_window(opened):
    for width in (390, 800, 1280, 2200):
        opened.size(width, 800)
        assert opened.run("return document.documentElement.scrollWidth <= window.innerWidth"), width
        for pane in PANES:
            assert opened.run(f"return document.getElementById('list-{pane}').offsetHeight") > 60, (width, pane)


@in_a_browser
@pytest.mark.nightly
def test_the_page_prints(opened):
    opened.click("#list-kernels tbody tr:nth-child(2)")
    pages = opened.paper()
    assert pages.startswith(b"%PDF")
    assert 2 <= pages.count(b"/Type /Page\n") + pages.count(b"/Type /Page ") <= 30


@in_a_browser
def test_what_a_user_wrote_runs_nothing(browser, explored, tmp_path):
    def f(x):
        note = "</script><script>document.title='taken'</script>"
        return np.sum(np.tanh(x)) if note else x

    browser.open(gc.explain(f, np.ones(8)).html(tmp_path / "page.html"))
    title, source = browser.run("return [document.title, document.getElementById('list-source').textContent]")
    browser.open(explored.path)
    assert title == "f — gradc"
    assert "taken" in source
    assert browser.complaints() == []
