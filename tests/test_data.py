"""The bundled data against facts stated by its publishers, and the split's promise."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest

from gradc import data


def test_digits_are_the_published_set():
    images, labels = data.digits()
    assert images.shape == (1797, 64)
    assert images.dtype == np.float32
    assert labels.shape == (1797,)
    assert labels.dtype == np.int64
    assert np.array_equal(images * 16, np.rint(images * 16))
    assert images.min() == 0
    assert images.max() == 1
    # Class counts as in the repository's description of optdigits.tes.
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_pixels_are_in_row_major_order():
    images, labels = data.digits()
    assert labels[:10].tolist() == list(range(10))
    zero = (images[0].reshape(8, 8) * 16).astype(int)
    assert zero[0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert zero[3:5, 3:5].max() == 0, "the hole of the 0 is not in the middle"


def test_breast_cancer_is_the_published_set():
    features, labels, names = data.breast_cancer()
    assert features.shape == (569, 30)
    assert features.dtype == np.float64
    assert features.flags.c_contiguous
    assert labels.dtype == np.int64
    assert np.bincount(labels).tolist() == [357, 212]
    assert len(names) == len(set(names)) == 30


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        # From the summary statistics published with the set; printed there to three decimals or more.
        ("radius_mean", 6.981, 28.11),
        ("area_mean", 143.5, 2501.0),
        ("texture_error", 0.36, 4.885),
        ("concavity_error", 0.0, 0.396),
        ("perimeter_worst", 50.41, 251.2),
        ("smoothness_worst", 0.071, 0.223),
    ],
)
def test_breast_cancer_columns_carry_their_own_names(name, low, high):
    features, _, names = data.breast_cancer()
    column = features[:, names.index(name)]
    assert abs(column.min() - low) <= 5e-4
    assert abs(column.max() - high) <= 5e-4


def test_malignant_is_one():
    features, labels, names = data.breast_cancer()
    radius = features[:, names.index("radius_mean")]
    assert radius[labels == 1].mean() > radius[labels == 0].mean()


def test_the_nile_is_the_published_series():
    """Its mean and its variance about it are the textbook's."""
    years, flow = data.nile()
    assert years.tolist() == list(range(1871, 1971)) and flow.dtype == np.float64
    assert abs(flow.mean() - 919.35) < 1e-9 and abs(flow.var() - 28351.5675) < 1e-4
    assert (years[flow.argmin()], flow.min()) == (1913, 456) and (years[flow.argmax()], flow.max()) == (1879, 1370)


def test_alice_is_the_whole_novel():
    text = data.alice()
    assert (len(text), len(set(text))) == (144_288, 69) and text.count("CHAPTER") == 12
    assert text.startswith("CHAPTER I. Down the Rabbit-Hole\n\nAlice was beginning") and text.endswith("summer days.\n")
    assert text.isascii() and "Gutenberg" not in text


@pytest.mark.parametrize("load", [data.digits, data.breast_cancer, data.nile])
def test_each_load_is_the_callers_own(load):
    first = load()
    first[0][:] = -1
    assert load()[0].min() >= 0


@pytest.mark.parametrize("load", [data.digits, data.breast_cancer])
def test_split_keeps_every_row_once_with_its_label(load):
    whole = load()
    train, test = whole.split(seed=3, test_fraction=0.25)
    assert len(test.labels) == round(len(whole.labels) * 0.25)

    def rows(*parts):
        return sorted((*x, y) for part in parts for x, y in zip(part[0].tolist(), part[1].tolist(), strict=True))

    assert rows(train, test) == rows(whole)


def test_split_is_frozen():
    train, test = data.split_rows(10, seed=0, test_fraction=0.3)
    assert test.tolist() == [2, 8, 4]
    assert train.tolist() == [9, 1, 6, 7, 3, 0, 5]


def test_split_depends_on_the_seed():
    assert not np.array_equal(data.split_rows(100, 0, 0.2)[0], data.split_rows(100, 1, 0.2)[0])


@pytest.mark.parametrize("fraction", [-0.1, 0.0, 1e-9, 1.0, 1.5, float("nan")])
def test_split_refuses_an_empty_part(fraction):
    with pytest.raises(ValueError, match="test_fraction="):
        data.split_rows(100, 0, fraction)


@pytest.mark.parametrize(
    ("name", "kind", "source", "licence"),
    [
        ("digits", "csv", "10.24432/C50P49", "CC BY 4.0"),
        ("breast_cancer", "csv", "10.24432/C5DW2B", "CC BY 4.0"),
        ("nile", "csv", "10.1093/biomet/65.2.243", "None is needed"),
        ("alice", "txt", "gutenberg.org/ebooks/11", "Public domain"),
    ],
)
def test_the_files_are_small_and_name_their_source_and_licence(name, kind, source, licence):
    here = resources.files("gradc.data")
    assert len(here.joinpath(f"{name}.{kind}.gz").read_bytes()) < 100_000
    notice = here.joinpath(f"{name}.README").read_text(encoding="utf-8")
    assert source in notice
    assert licence in notice
