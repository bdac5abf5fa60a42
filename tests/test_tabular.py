"""Tables, times and sizes as reports print them."""

from __future__ import annotations

import pytest

from gradc.tabular import byte_size, duration, table


def test_words_stand_to_the_left_and_numbers_to_the_right():
    assert table([("layer", "norm"), ("w", "0.5")], (0,)) == "layer  norm\nw       0.5"


def test_accents_take_no_column():
    assert table([("v̄₁", "1"), ("v₁", "2")], (0,), rule=True).splitlines() == ["v̄₁  1", "──  ─", "v₁  2"]


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1023 << 10, "1,023 KiB"),
        (5 << 18, "1.25 MiB"),
        (3 << 40, "3,072 GiB"),
    ],
)
def test_sizes_have_three_digits_and_no_exponent(count, said):
    assert byte_size(count) == said


@pytest.mark.parametrize(
    ("ns", "said"),
    [(0.0, "0 ns"), (12.34, "12.3 ns"), (1e3, "1 µs"), (999.6e3, "1,000 µs"), (2.5e6, "2.5 ms"), (7.2e12, "7,200 s")],
)
def test_times_have_three_digits_and_no_exponent(ns, said):
    assert duration(ns) == said
