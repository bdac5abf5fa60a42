"""The textbook: programs give the numbers of plain NumPy, verdicts are true, and docs/textbook.md is what is printed.

By day one entry in eight is run, by night all.
"""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradc as gc
from docs.textbook import BESIDE, TO_COME, front, heading, section
from examples.textbook import TEXTBOOK
from examples.textbook.item import Entry, Says, Verdict

ENTRIES = [entry for entries in TEXTBOOK.values() for entry in entries]
PAGE = (Path(__file__).parent.parent / "docs" / "textbook.md").read_text(encoding="utf-8")


def close(found: Any, wanted: Any, within: float) -> None:
    for a, b in zip(gc.tree.leaves(found), gc.tree.leaves(wanted), strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(a, b, rtol=0, atol=within * max(1.0, float(np.max(np.abs(b)))))


def compiled(entry: Entry) -> Any:
    """What is explained, computed by a compiled function instead of the displayed formulas."""
    args, function = entry.arrays(), entry.function
    if entry.way == "jacobian":
        return gc.jit(gc.jacobian(function, entry.of))(*args)
    if entry.way == "hessian":
        return gc.jit(gc.hessian(function, entry.of[0]))(*args)
    (v,) = entry.cotangents(args)
    return gc.jit(lambda w, v: gc.hvp(lambda w: function(w, *args[1:]), (w,), (v,)))(args[0], v)


def true(says: Says, printed: str) -> bool:
    """Whether the verdict is what the printed lines say."""
    if says.verdict is Verdict.MEASURED:
        return not says.lines
    missing = says.missing(printed)
    if says.verdict is Verdict.PRINTS:
        return bool(says.lines) and not missing
    return bool(missing and says.why)


def test_every_item_has_one_entry():
    numbers = [says.number for entry in ENTRIES for says in entry.says]
    assert sorted(numbers) == list(range(1, 116))
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_program_gives_the_numbers_of_plain_numpy(entry):
    args = entry.arrays()
    printed, found = entry.answer()
    for says in entry.says:
        assert true(says, printed), f"item {says.number}: {says.verdict.value}, but missing {says.missing(printed)}"
    close(found, entry.wanted(), entry.within)
    if entry.way in ("jacobian", "hessian", "product"):
        close(compiled(entry), entry.wanted(), entry.within)
    if entry.way == "gradient":
        report = gc.check_gradients(entry.function, *args)
        assert report.ok, str(report)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_page_shows_what_is_printed(entry):
    assert section(entry) in PAGE, "run `make docs`"


def test_the_page_has_every_entry_and_counts_them():
    assert PAGE.startswith(front()), "run `make docs`"
    shown = [line for line in PAGE.splitlines() if line.startswith("### ")]
    assert shown == [heading(entry) for entry in ENTRIES]


def test_what_stands_beside_the_items_is_there_or_not():
    for name in (name for names in BESIDE.values() for name in names):
        assert callable(reduce(getattr, name.split("."), gc)), name
    assert not [name for name in TO_COME if hasattr(gc, name)], "docs/textbook.py says that this is not there"


def test_an_untrue_verdict_would_be_found():
    adam = next(entry for entry in ENTRIES if entry.name == "adam")
    says = adam.says[0]
    assert true(says, says.lines) and not true(says, says.lines.replace("β₂", "β₁"))
    worse = Says(1, "", "", "a = b", Verdict.WORSE, "reads worse")
    assert true(worse, "a = c") and not true(worse, "a = b")
