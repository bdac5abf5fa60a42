"""Data for training runs: batches of arrays of any size, parts, scales, sequences; and four small real data sets.

Enters: trees of arrays, memory maps, tables. Leaves: batches and trees of NumPy arrays; start at `batches`.
The data sets are shipped inside the package so that the examples and the tests need no network: fresh NumPy arrays in a
named tuple, the same on every machine. The files beside this one are gzipped CSV with a header line, or text; each has
a README that names its source, its licence and what was changed. Start at `digits`.
"""

from __future__ import annotations

import gzip
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from gradc.data.examples import columns
from gradc.data.minibatches import Batches, batches
from gradc.data.parts import kfold, split
from gradc.data.scaling import Normalisation, normalise
from gradc.data.sequences import Buckets, Padded, bucket, one_hot, pad, windows
from gradc.data.source import Source

__all__ = [
    "Batches", "BreastCancer", "Buckets", "Digits", "Nile", "Normalisation", "Padded", "Source", "alice", "batches",
    "breast_cancer", "bucket", "columns", "digits", "kfold", "nile", "normalise", "one_hot", "pad", "split", "windows",
]  # fmt: skip

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Features = np.ndarray[Any, np.dtype[np.float64]]

PIXEL_MAX = 16
"""The largest pixel value in the digits file: each pixel counts the set points of a 4 by 4 block."""


class Digits(NamedTuple):
    """Handwritten digits: `images` float32 [n, 64] in [0, 1], row-major 8 by 8; `labels` int64 [n] in 0..9."""

    images: np.ndarray[Any, np.dtype[np.float32]]
    labels: Numbers

    def split(self, seed: int = 0, test_fraction: float = 0.2) -> tuple[Digits, Digits]:
        """Shuffle the rows and cut them into (train, test); see `split_rows` for the promise."""
        train, test = split_rows(len(self.labels), seed, test_fraction)
        return Digits(self.images[train], self.labels[train]), Digits(self.images[test], self.labels[test])


class BreastCancer(NamedTuple):
    """Tumours: `features` float64 [n, 30] in the units of the file; `labels` int64 [n], 1 malignant and 0 benign.

    `names` holds the 30 column names. The columns differ in scale by a factor of a million: standardise them before
    a gradient method, with the mean and deviation of the training rows.
    """

    features: Features
    labels: Numbers
    names: tuple[str, ...]

    def split(self, seed: int = 0, test_fraction: float = 0.2) -> tuple[BreastCancer, BreastCancer]:
        """Shuffle the rows and cut them into (train, test); see `split_rows` for the promise."""
        train, test = split_rows(len(self.labels), seed, test_fraction)
        return (
            BreastCancer(self.features[train], self.labels[train], self.names),
            BreastCancer(self.features[test], self.labels[test], self.names),
        )


class Nile(NamedTuple):
    """A river's flow: `years` int64 [100], `flow` float64 [100] in 10⁸ m³ a year."""

    years: Numbers
    flow: Features


def digits() -> Digits:
    """The 1,797 images of the UCI Optical Recognition of Handwritten Digits test set, in the order of the file.

    Source: Alpaydin and Kaynak (1998), doi 10.24432/C50P49, CC BY 4.0.
    """
    _, table = _read("digits.csv.gz")
    images = (table[:, :-1] / PIXEL_MAX).astype(np.float32)  # sixteenths: exact in float32
    return Digits(images, table[:, -1].astype(np.int64))


def breast_cancer() -> BreastCancer:
    """The 569 tumours of the UCI Breast Cancer Wisconsin (Diagnostic) set, in the order of the file.

    Source: Wolberg, Mangasarian, Street and Street (1993), doi 10.24432/C5DW2B, CC BY 4.0.
    """
    columns, table = _read("breast_cancer.csv.gz")
    return BreastCancer(np.ascontiguousarray(table[:, :-1]), table[:, -1].astype(np.int64), columns[:-1])


def nile() -> Nile:
    """The Nile's annual flow past Aswan from 1871 to 1970, which fell in 1898 and never rose again.

    Source: Cobb (1978), doi 10.1093/biomet/65.2.243, table 1.
    """
    _, table = _read("nile.csv.gz")
    return Nile(table[:, 0].astype(np.int64), np.ascontiguousarray(table[:, 1]))


def alice() -> str:
    """The text of Alice's Adventures in Wonderland, 144,288 characters of 69 kinds: something to learn a language from.

    Source: Lewis Carroll (1865), Project Gutenberg eBook 11; in the public domain.
    """
    return _text("alice.txt.gz")


def split_rows(count: int, seed: int, test_fraction: float) -> tuple[Numbers, Numbers]:
    """Row numbers (train, test) of a random split: disjoint, together all of 0..count-1, neither empty.

    The same arguments give the same rows with every NumPy version and on every machine. The test part has
    `round(count * test_fraction)` rows. Raises ValueError if that leaves either part empty.
    """
    held_out = round(count * test_fraction) if 0 < test_fraction < 1 else 0
    if not 0 < held_out < count:
        raise ValueError(
            f"test_fraction={test_fraction} of {count} rows leaves one part empty; "
            "choose a fraction between 0 and 1 that puts rows in both"
        )
    # The legacy generator, because its stream is frozen; default_rng's may change between NumPy versions (NEP 19).
    order = np.random.RandomState(seed).permutation(count).astype(np.int64)
    return order[held_out:], order[:held_out]


def _read(name: str) -> tuple[tuple[str, ...], Features]:
    """The column names and the numbers of one bundled file."""
    header, *rows = _text(name).splitlines()
    return tuple(header.split(",")), np.loadtxt(rows, delimiter=",", dtype=np.float64)


def _text(name: str) -> str:
    """The text of one bundled file."""
    return gzip.decompress(resources.files(__name__).joinpath(name).read_bytes()).decode("ascii")


def __dir__() -> list[str]:
    return sorted(__all__)
