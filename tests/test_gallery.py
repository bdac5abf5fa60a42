"""The gallery: each derivative reads as the text beside its function, and is the derivative.

Each row is explained and compared literally; checked by five methods (`gradc.check_gradients`: symbolic, forward,
reverse, finite differences, compiled); and the graph of the displayed formulas is evaluated beside reverse mode.
"""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

import gradc as gc
from examples.gallery import GALLERY
from examples.gallery.row import Row
from gradc.explain.page import Page
from gradc.explain.text import TextPrinter
from gradc.tree import leaves_of

ROWS = [row for rows in GALLERY.values() for row in rows]
NAMES = [row.name for row in ROWS]
#: both sides add and multiply the same fewer than 10³ numbers of order at most 10², rounded by 2⁻⁵³ each
TOLERANCE = 1e-12


def given(row: Row) -> tuple:
    return row.arrays(np.random.default_rng(len(row.name)))


def printed(row: Row) -> str:
    derivation = gc.explain(row.function, *given(row), argnums=row.of)
    return "\n".join(Page(TextPrinter()).derivative(derivation))


def test_names_are_unique_and_the_gallery_is_full():
    assert len(set(NAMES)) == len(NAMES) >= 90


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_the_derivative_reads_as_beside_the_function(row):
    assert row.derivative
    assert printed(row) == row.derivative


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_five_methods_agree(row):
    report = gc.check_gradients(row.function, *given(row))
    assert report.ok, str(report)


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_the_displayed_formulas_are_the_derivative(row):
    args = given(row)
    displayed = gc.explain(row.function, *args, argnums=row.of).graph
    flat = leaves_of(args)[0]
    rng = np.random.default_rng(7)
    extra = [rng.normal(size=x.shape).astype(x.dtype) for x in displayed.inputs[len(flat) :]]
    mine = displayed.evaluate(*flat, *extra)
    pulled = gc.vjp(row.function, *args)[1](extra[0] if extra else np.float64(1.0))
    wanted = leaves_of(tuple(pulled[i] for i in row.of))[0]
    for a, b in zip(mine, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE * max(1.0, float(np.max(np.abs(b)))))


def test_a_report_is_a_table_in_a_notebook():
    report = gc.check_gradients(ROWS[0].function, *given(ROWS[0]))
    page = ElementTree.fromstring(f"<div>{report._repr_html_().replace('<br>', '<br/>')}</div>")
    assert len(list(page.iter("tr"))) == 1 + len(report.rows)


def test_a_wrong_text_would_be_found():
    row = ROWS[0]
    assert printed(row) != row.derivative.replace("X − Y", "Y − X")
