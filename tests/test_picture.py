"""Pictures as SVG: well-formed, true to their data, bounded in size; and the history that is drawn with them."""

from __future__ import annotations

import csv
import json
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import gradc as gc
from gradc.training.picture import (
    Axis,
    Band,
    Bars,
    Line,
    Points,
    Rule,
    chart,
    linear_ticks,
    stacked,
    thinned,
    tick_text,
)

SVG = "{http://www.w3.org/2000/svg}"


def test_a_name_of_any_characters_is_a_picture_still():
    history = gc.History()
    history.add(1, **{"a\x00b\ud800<&": 1.0, "v\u0304\u2081": 2.0})
    words = [t.text for t in ET.fromstring(history.plot().svg).iter(f"{SVG}text")]
    assert "a\ufffdb\ufffd<&" in words and "v\u0304\u2081" in words


def test_every_mark_is_drawn_where_its_values_are():
    x = [0.0, 1.0, 2.0]
    picture = chart(
        Band(x, [0, 0, 0], [2, 2, 2], "between"), Line(x, [0.0, 2.0, 1.0], "a < b & c"), Points(x, x, "seen"),
        Rule("limit", y=2.0), Rule("there", x=1.0), title='The "title"', x="s", y="m",
    )  # fmt: skip
    root = ET.fromstring(stacked(picture, chart(Bars(["p", "q"], [1.0, 1e-3], "norm"), log_y=True)).svg)
    words = [t.text for t in root.iter(f"{SVG}text")]
    assert {"a < b & c", 'The "title"', "limit", "there", "between", "p", "q", "norm", "s", "m"} <= set(words)
    places = re.findall(
        r"[ML]([\d.]+) ([\d.]+)", next(root.iter(f"{SVG}g")).findall(f"{SVG}path[@class='line']")[0].get("d")
    )
    (x0, y0), (x1, y1), (x2, y2) = [(float(a), float(b)) for a, b in places]
    assert math.isclose(x1 - x0, x2 - x1, abs_tol=0.11)
    assert math.isclose((y0 - y1) / 2, y0 - y2, abs_tol=0.11)
    bars = [float(r.get("height")) for r in root.iter(f"{SVG}rect") if r.find(f"{SVG}title") is not None]
    assert len(bars) == 2 and bars[0] > 10 * bars[1]


def test_what_is_no_number_leaves_a_gap_and_long_curves_stay_short():
    n = 200_000
    y = np.sin(np.arange(n) / 100.0)
    y[77_777] = 50.0
    y[100_000:110_000] = np.nan
    axis = Axis(0, n, 0, 600)
    x, kept = thinned(axis(np.arange(n)), y)
    assert x.size < 600 * 6 and kept[np.isfinite(kept)].max() == 50.0 and np.isnan(kept).any()
    drawn = chart(Line(np.arange(n), y, "y")).svg
    assert len(drawn) < 80_000
    assert re.search(r'class="line" d="M[^"]*M', drawn)
    assert "nan" not in chart(Line([0, 1, 2], [np.nan, -1.0, np.inf]), Points([1], [0.0]), log_y=True).svg
    assert "<circle" in chart(Line([0, 1, 2], [np.nan, 3.0, np.nan])).svg


@pytest.mark.parametrize(
    ("values", "log"), [([], False), ([], True), ([3.0], False), ([0.0, 0.0], True), ([1e-320, 1e300], True)]
)
def test_any_range_has_an_axis(values, log):
    ET.fromstring(chart(Line(range(len(values)), values), log_y=log).svg)


def test_ticks():
    assert linear_ticks(0.0, 1.0, 6) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert [tick_text(v) for v in (0, 0.001, 2000, 1e-7, -2.5e9, -3)] == [
        "0",
        "0.001",
        "2,000",
        "10⁻⁷",
        "−2.5·10⁹",
        "−3",
    ]


def history() -> gc.History:
    made = gc.History()
    for step in range(1, 31):
        made.add(step, loss=1.0 / step, learning_rate=0.1)
    made.add(30, validation_loss=np.float32(0.5), accuracy=np.array([0.75]))
    return made


def test_a_history_is_a_table(tmp_path):
    made = history()
    assert len(made) == 30 and made.columns == ("loss", "learning_rate", "validation_loss", "accuracy")
    assert made["loss"][1] == 0.5 and np.isnan(made["accuracy"][0]) and made.last("accuracy") == 0.75
    assert [a.tolist() for a in made.of("validation_loss")] == [[30], [0.5]]
    rows = list(csv.DictReader(made.to_csv(tmp_path / "h.csv").open(encoding="utf-8")))
    assert float(rows[2]["loss"]) == 1 / 3 and rows[2]["accuracy"] == "" and rows[29]["accuracy"] == "0.75"
    lines = made.to_json_lines(tmp_path / "h.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[2]) == {"step": 3, "loss": 1 / 3, "learning_rate": 0.1}
    assert str(made).splitlines()[0].split() == ["step", "loss", "learning_rate", "validation_loss", "accuracy"]
    assert len(str(made).splitlines()) == 22
    drawn = made.plot(tmp_path / "h.svg").svg
    assert ET.parse(tmp_path / "h.svg").getroot().tag == f"{SVG}svg" and ">Accuracy<" in drawn


def test_a_history_travels_with_every_bit():
    made = history()
    made.add(31, loss=math.inf, gradient_norm=-0.0)
    again = gc.History.unpacked(json.loads(json.dumps(made.packed())))
    assert again == made and math.copysign(1, again["gradient_norm"][-1]) == -1
    again.add(32, loss=0.0)
    assert again != made and again.until(31) == made


def test_a_history_as_a_data_frame():
    pytest.importorskip("pandas")
    frame = history().to_pandas()
    assert frame.index.name == "step" and frame["loss"].loc[4] == 0.25


def test_what_is_no_row_is_refused():
    made = history()
    with pytest.raises(ValueError, match=r"goes on from step 30, got step 7"):
        made.add(7, loss=1.0)
    with pytest.raises(TypeError, match=r"accuracy is ndarray of shape \(2,\)"):
        made.add(31, accuracy=np.ones(2))
    with pytest.raises(TypeError, match="loss is str"):
        made.add(31, loss="0.5")
    with pytest.raises(KeyError, match=r"no column 'los'; it has loss, learning_rate"):
        made["los"]


def test_bars_of_nothing_stand_on_the_axis():
    """Shares that are all 0 have no negative ticks above and below them."""
    drawn = chart(Bars(["a", "b"], [0.0, 0.0], "dead")).svg
    assert "−" not in drawn and ">0</text>" in drawn
