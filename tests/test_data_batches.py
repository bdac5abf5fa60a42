"""`gc.data`: batches that resume to the very one, orders, parts, scales, sequences, and clear errors."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from collections import Counter
from itertools import chain, permutations, product

import numpy as np
import pytest

import gradc as gc
from gradc import data
from gradc.data.order import Order

KEY = gc.random.key(3)
X, Y = np.arange(20.0).reshape(10, 2), np.arange(10)


# -- orders ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 8, 100, 997, 4097])
def test_an_order_is_a_permutation_reached_at_any_place(count):
    order = Order(count, 7, 2)
    whole = order.all()
    assert np.array_equal(np.sort(whole), np.arange(count))
    assert order(np.array([count - 1, 0])).tolist() == [whole[-1], whole[0]]
    assert count < 8 or not np.array_equal(whole, Order(count, 7, 3).all())


def test_orders_are_equally_likely():
    """χ² of all 24 orders of four: mean 23, and above 60 once in 30,000."""
    draws = 4800
    counts = Counter(tuple(Order(4, k).all().tolist()) for k in range(draws))
    expected = draws / math.factorial(4)
    assert sum((counts[p] - expected) ** 2 / expected for p in permutations(range(4))) < 60


def test_an_order_is_the_same_everywhere():
    assert Order(10, 3 << 32 | 5, 1).all().tolist() == [5, 4, 3, 2, 0, 9, 8, 6, 7, 1]


# -- batches -----------------------------------------------------------------------------------------------------------


def rows(source):
    return [y.tolist() for _, y in source]


def test_each_epoch_has_every_example_once_in_another_order():
    source = data.batches((X, Y), 3, KEY)
    first, second = rows(source), rows(source)
    assert [len(b) for b in first] == [3, 3, 3, 1] and len(source) == 4
    assert sorted(chain(*first)) == sorted(chain(*second)) == Y.tolist() and first != second
    assert rows(data.batches((X, Y), 3, KEY)) == first
    assert rows(data.batches((X, Y), 3, gc.random.key(4))) != first
    assert [len(b) for b in rows(data.batches((X, Y), 3, KEY, drop_last=True))] == [3, 3, 3]
    assert rows(data.batches((X, Y), 3, KEY, epochs=2)) == first + second
    x, y = next(iter(data.batches((X, Y), 4, KEY)))
    assert np.array_equal(x, X[y])


def test_full_batch_mini_batch_and_single_sample_are_one_call():
    assert rows(data.batches((X, Y))) == [Y.tolist()]
    assert rows(data.batches((X, Y), 1, shuffle=False)) == [[i] for i in range(10)]
    assert isinstance(next(iter(data.batches({"x": X}, 5, KEY))), dict)


@pytest.mark.parametrize("prefetch", [0, 3])
def test_a_position_goes_on_with_the_very_batch(prefetch):
    whole = rows(data.batches((X, Y), 3, KEY, epochs=3))
    for cut in (0, 1, 4, 7, 11):
        source = data.batches((X, Y), 3, KEY, epochs=3, prefetch=prefetch)
        loop = iter(source)
        before = [next(loop)[1].tolist() for _ in range(cut)]
        position = json.loads(json.dumps(source.position))
        loop.close()
        after = rows(data.batches((X, Y), 3, KEY, epochs=3, prefetch=prefetch).at(position))
        assert before + after == whole
    assert not [t for t in threading.enumerate() if t.name == "gradc batches"]


def test_a_position_of_other_batches_is_refused():
    position = data.batches((X, Y), 3, KEY).position
    with pytest.raises(ValueError, match="batch_size was 3 and is 4"):
        data.batches((X, Y), 4, KEY).at(position)
    with pytest.raises(ValueError, match="examples was 10 and is 9; key was"):
        data.batches((X[:9], Y[:9]), 3, gc.random.key(9)).at(position)
    with pytest.raises(ValueError, match="not a position"):
        data.batches((X, Y), 4, KEY).at({})


def test_errors_of_the_thread_arrive_in_the_loop():
    class Torn:
        shape, dtype = (4,), np.dtype(float)

        def __len__(self):
            return 4

        def __getitem__(self, rows):
            raise OSError("the file is torn")

    with pytest.raises(OSError, match="torn"):
        list(data.batches(Torn(), 2, KEY))


BAD = {
    "lengths": (lambda: data.batches((X, Y[:9]), 3, KEY), ValueError, r"\[0\] has 10, \[1\] has 9"),
    "empty": (lambda: data.batches((X[:0], Y[:0]), 3, KEY), ValueError, "there are no examples"),
    "nothing": (lambda: data.batches((), 3, KEY), TypeError, "expected arrays"),
    "size 0": (lambda: data.batches(X, 0, KEY), ValueError, "batch_size is at least 1, got 0"),
    "size words": (lambda: data.batches(X, "3", KEY), TypeError, "batch_size is a whole number, got '3'"),
    "no key": (lambda: data.batches(X, 3), TypeError, "shuffle=True needs a key"),
    "key": (lambda: data.batches(X, 3, "key"), TypeError, "give gc.random.key"),
    "epochs": (lambda: data.batches(X, 3, KEY, epochs="ten"), TypeError, "epochs is a whole number, got 'ten'"),
    "dropped": (lambda: data.batches(X, 30, KEY, drop_last=True), ValueError, "leaves no batch"),
    "list": (lambda: data.batches([[1.0, 2.0], [3.0, 4.0]], 1, KEY), TypeError, "is the number 1.0"),
    "scalar": (lambda: data.batches((X, np.float64(1.0)), 3, KEY), ValueError, "no axis of examples"),
    "objects": (lambda: data.batches(np.array(["a", None]), 1, KEY), TypeError, "holds Python objects"),
    "fraction": (lambda: data.split(X, 1.2, KEY), ValueError, "add up to 1, got 1.2"),
    "empty part": (lambda: data.split(X, 0.001, KEY), ValueError, "leave parts of 0, 10"),
    "folds": (lambda: data.kfold(X, 11, KEY), ValueError, "between 2 and the number of examples, 10"),
    "one hot": (lambda: data.one_hot([0, 3], 3), ValueError, "label 3 lies outside of the classes 0 … 2"),
    "one hot names": (lambda: data.one_hot(["a"]), TypeError, "return_inverse"),
    "windows": (lambda: data.windows(np.arange(3), 3), ValueError, "3 tokens hold no window of 3"),
    "pad": (lambda: data.pad([[1, 2, 3]], 2), ValueError, "sequence 0 has 3 elements, more than length=2"),
    "pad kinds": (lambda: data.pad([[1], ["a"]]), ValueError, "sequence 1 is <U1"),
    "bucket": (lambda: data.bucket([[1] * 5], 1, KEY, lengths=(2, 4)), ValueError, "longest sequence has 5"),
    "kind": (lambda: data.normalise(X, "z"), ValueError, "kind is 'standard' or 'range'"),
    "nan": (lambda: data.normalise(np.array([[1.0, 2.0], [3.0, np.nan]])), ValueError, r"array\[1, 1\] is nan"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    call, kind, words = BAD[name]
    with pytest.raises(kind, match=f"test_data_batches.py:.*{words}"):
        call()


# -- files and tables --------------------------------------------------------------------------------------------------

TRAIN = """
import resource, sys, threading
import numpy as np, gradc as gc
rows, width = int(sys.argv[2]), 4096
x = np.memmap(sys.argv[1], np.float32, "r", shape=(rows, width))
step = gc.train_step(lambda w, x: ((x @ w - 1) ** 2).mean(), optimizer := gc.optim.sgd(1e-6))
w = np.zeros(width, np.float32); state = optimizer.init(w)
w, state, loss = step(w, state, np.asarray(x[:64]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
train, test = gc.data.split(x, 0.9, 1)
for part in (gc.data.batches(train, 64, gc.random.key(0)), gc.data.batches(test, 64, shuffle=False)):
    for batch in part:
        if len(batch) == 64:
            w, state, loss = step(w, state, batch)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, float(loss))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of the resident set in KiB")
def test_a_memory_map_trains_with_a_bounded_resident_set(tmp_path):
    """Of a file of 224 MiB, at most the 64 MiB that are let go of at a time and what a batch takes are resident."""
    path, count = tmp_path / "x.bin", 14336
    with path.open("wb") as file:
        file.truncate(count * 4096 * 4)
    done = subprocess.run([sys.executable, "-c", TRAIN, path, str(count)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    grown, loss = done.stdout.split()
    assert int(grown) < 128 * 1024 and float(loss) == 1.0


def test_rows_of_files_are_read_when_they_are_taken(tmp_path):
    np.save(tmp_path / "x.npy", X)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    train, test = data.split((x, Y), 0.8, KEY)
    assert not isinstance(train[0], np.ndarray) and "8 of 10 rows" in repr(train[0]) and train[1].shape == (8,)
    inner, _ = data.split(train, 0.5, KEY)
    for part in (train, test, inner):
        for a, b in data.batches(part, 3, KEY):
            assert type(a) is np.ndarray and np.array_equal(a, X[b])
        assert np.array_equal(np.asarray(part[0]), X[part[1]])
    assert np.allclose(data.normalise(x).shift, X.mean(0))


def test_private_changes_of_a_memory_map_stay(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 2)))
    x = np.load(tmp_path / "x.npy", mmap_mode="c")
    x[:] = 7.0
    assert data.examples._mapping(x) is None and all((b == 7.0).all() for b in data.batches(x, 2, KEY))


def test_tables_are_taken_by_column_name():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [4, 5, 6], "word": ["x", "y", "z"]})
    x, y = data.columns(frame, (["a", "b"], "b"))
    assert x.tolist() == [[1, 4], [2, 5], [3, 6]] and y.tolist() == [4, 5, 6]
    assert data.columns(frame, {"t": "a"})["t"].tolist() == [1, 2, 3]
    batch = next(iter(data.batches(frame[["a", "b"]], 2, shuffle=False)))
    assert batch["a"].tolist() == [1, 2] and batch["b"].tolist() == [4, 5]
    pair = next(iter(data.batches((frame[["a"]], frame["b"]), 2, shuffle=False)))
    assert pair[0]["a"].tolist() == [1, 2] and pair[1].tolist() == [4, 5]
    with pytest.raises(TypeError, match=r"column 'word' holds .*, not numbers"):
        data.batches(frame, 2, KEY)
    with pytest.raises(KeyError, match="no column 'c'; it has a, b, word"):
        data.columns(frame, "c")
    with pytest.raises(KeyError) as caught:
        data.columns(frame, "wort")
    assert str(caught.value).endswith("columns: the table has no column 'wort'; it has a, b, word; nearest: word")


class ArrowTable:
    """A table as PyArrow has them: names, and columns with ``to_numpy``."""

    column_names = ("a",)

    def __getitem__(self, name):
        return self

    def to_numpy(self):
        return np.array([1.0, 2.0])


def test_arrow_tables_are_taken_by_column_name():
    assert data.columns(ArrowTable(), "a").tolist() == [1, 2]
    assert next(iter(data.batches(ArrowTable())))["a"].tolist() == [1, 2]


# -- parts, scales, sequences ------------------------------------------------------------------------------------------


def test_parts_are_disjoint_and_stratified():
    labels = np.array([0] * 70 + [1] * 20 + [2] * 10)
    parts = data.split((np.arange(100), labels), (0.5, 0.3, 0.2), KEY, stratify=labels)
    assert sorted(np.concatenate([p[0] for p in parts]).tolist()) == list(range(100))
    assert [np.bincount(p[1]).tolist() for p in parts] == [[35, 10, 5], [21, 6, 3], [14, 4, 2]]
    assert [p.tolist() for p in data.split(np.arange(5), 0.6, shuffle=False)] == [[0, 1, 2], [3, 4]]
    for stratify, shuffle in product((None, labels), (True, False)):
        key = KEY if shuffle else None
        folds = list(data.kfold((np.arange(100), labels), 3, key, shuffle=shuffle, stratify=stratify))
        assert sorted(np.concatenate([test[0] for _, test in folds]).tolist()) == list(range(100))
        for train, test in folds:
            assert sorted(np.concatenate([train[0], test[0]]).tolist()) == list(range(100))
            if stratify is not None:
                assert all(abs(c - n / 3) <= 1 for c, n in zip(np.bincount(test[1]), (70, 20, 10), strict=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["standard", "range"])
def test_normalisation_is_undone_within_its_bound(dtype, kind):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((400, 3, 5)) * 10.0 ** rng.integers(-3, 4, (1, 3, 1)) + 3).astype(dtype)
    x[:, 1] = 2.5
    normal = data.normalise({"x": x}, kind, axis=(0, 2))
    z = normal.apply({"x": x})
    u = np.finfo(dtype).eps / 2
    assert z["x"].dtype == dtype and normal.shift["x"].shape == (3, 1)
    back, bound = normal.inverse(z)["x"], (3 * abs(x - normal.shift["x"]) + abs(x)) * u * (1 + 4 * u)
    assert (abs(back.astype(float) - x) <= bound).all() and np.array_equal(back[:, 1], x[:, 1])
    if kind == "standard":
        first, off = z["x"][:, 0].astype(float), abs(normal.shift["x"] / normal.scale["x"])[0, 0] * u
        assert abs(first.mean()) <= off + 4 * u and abs(first.std() - 1) <= off + 8 * u
    else:
        assert z["x"].min() >= 0 and z["x"].max() <= 1
    again = gc.tree.map(np.copy, normal)
    assert isinstance(again, data.Normalisation)
    traced = gc.jit(lambda n, x: n.apply(x))(normal, {"x": x})
    assert np.array_equal(traced["x"], z["x"])


def test_statistics_in_blocks_are_those_of_the_whole(monkeypatch):
    monkeypatch.setattr("gradc.data.scaling._BLOCK", 64)
    x = np.random.default_rng(1).standard_normal((101, 3)) + 1e3
    normal = data.normalise(x)
    assert np.allclose(normal.shift, x.mean(0), rtol=1e-14) and np.allclose(normal.scale, x.std(0), rtol=1e-12)


def test_windows_are_views_and_padding_is_masked():
    tokens = np.arange(100, dtype=np.uint16)
    x, y = data.windows(tokens, 8, 3)
    assert np.shares_memory(x, tokens) and np.array_equal(x[2], tokens[6:14]) and np.array_equal(y, x + 1)
    assert x[-1, 0] + 8 <= 99
    a, b = next(iter(data.batches((x, y), 4, KEY)))
    assert a.shape == (4, 8) and np.array_equal(a + 1, b)
    padded = data.pad([[1, 2, 3], [], [4]], value=-1, side="left")
    assert padded.values.tolist() == [[1, 2, 3], [-1, -1, -1], [-1, -1, 4]]
    assert padded.mask.sum(1).tolist() == [3, 0, 1]
    assert data.one_hot(np.array([[1], [0]]), 2).tolist() == [[[0, 1]], [[1, 0]]]


def test_buckets_have_few_shapes_and_resume():
    rng = np.random.default_rng(0)
    sequences = [np.full(n, i) for i, n in enumerate(rng.integers(1, 30, 50))]
    source = data.bucket(sequences, 4, KEY, np.arange(50), lengths=3, epochs=2)
    found = list(source)
    assert len({v.shape[1] for v, _, _ in found}) == 3 and len(found) == 2 * len(source)
    seen = [i for v, m, who in found for i in who.tolist()]
    assert Counter(seen) == dict.fromkeys(range(50), 2)
    assert all((v[m] == np.repeat(who, m.sum(1))).all() for v, m, who in found)
    again = data.bucket(sequences, 4, KEY, np.arange(50), lengths=3, epochs=2)
    loop = iter(again)
    for _ in range(9):
        next(loop)
    rest = list(data.bucket(sequences, 4, KEY, np.arange(50), lengths=3, epochs=2).at(again.position))
    assert [b[2].tolist() for b in rest] == [b[2].tolist() for b in found[9:]]


def test_parts_keep_to_the_fractions_with_many_small_classes_and_nan_is_a_class():
    """Classes of one and of three: rounded one by one, all of the first and two thirds of the second went one way."""
    for each, fractions in product((1, 3, 7), ((0.5, 0.5), (0.4, 0.3, 0.3), (0.8, 0.1, 0.1))):
        labels = np.repeat(np.arange(60), each)
        parts = data.split((np.arange(60 * each), labels), fractions, KEY, stratify=labels)
        assert sorted(np.concatenate([p[0] for p in parts]).tolist()) == list(range(60 * each))
        for part, f in zip(parts, fractions, strict=True):
            assert abs(len(part[0]) - 60 * each * f) <= 1
            assert (abs(np.bincount(part[1], minlength=60) - each * f) < 1).all()
    missing = np.array([0, 0, 0, np.nan, np.nan, 1])
    halves = data.split(np.arange(6), 0.5, KEY, stratify=missing)
    folds = [test for _, test in data.kfold(np.arange(6), 2, KEY, stratify=missing)]
    for found in (halves, folds):
        assert sorted(np.concatenate(found).tolist()) == list(range(6))
        assert [int(np.isnan(missing[part]).sum()) for part in found] == [1, 1]


def test_positions_that_are_none_are_refused():
    source = data.batches(X, 4, KEY)
    for wrong in ({"batch": 3}, {"batch": -1}, {"epoch": -1}, {"epoch": "a"}, {"batch": 0.5}):
        with pytest.raises(ValueError, match="no position: epoch"):
            source.at(source.position | wrong)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: data.normalise(np.array([6e4, -6e4], "f2"), "range"), ValueError, "beyond float16: give float32"),
        (lambda: data.normalise(np.array([1e308, -1e308])), ValueError, "beyond float64: give smaller"),
        (lambda: data.normalise({"a": np.array(["x"])}), TypeError, "normalise: a holds <U1, not real"),
        (lambda: data.pad([[1, 2], [3]], value=np.nan), ValueError, "value=nan is no int64"),
        (lambda: data.pad([np.ones(2, "u1"), np.ones(1, "u1")], value=-1), ValueError, "value=-1 is no uint8"),
    ],
)
def test_what_a_dtype_does_not_hold_is_refused(call, kind, words):
    with pytest.raises(kind, match=words):
        call()
