"""Trees in files: what is saved comes back bit for bit, what is damaged never does, and others can read the files."""

from __future__ import annotations

import collections
import enum
import errno
import json
import math
import os
import stat
import struct
import subprocess
import sys
import threading
import tracemalloc
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import gradc as gc
from gradc.aval import SUPPORTED
from gradc.runtime import files
from gradc.storage import tensors

ROOT = Path(__file__).resolve().parent.parent
Colour = enum.Enum("Colour", "RED GREEN")


class State(NamedTuple):
    t: Any
    m: Any


@dataclass
class Layer:
    w: Any
    heads: int = gc.tree.static(default=4)


class Affine:
    def __init__(self, w: Any, b: Any):
        self.w, self.b = w, b


gc.tree.register(Affine, lambda m: ((m.w, m.b), "affine"), lambda _, parts: Affine(*parts))


def bits(leaf: Any) -> Any:
    """What two leaves must have in common to be the same."""
    if isinstance(leaf, (np.ndarray, np.generic)):
        return type(leaf), leaf.dtype, leaf.shape, leaf.tobytes()
    return type(leaf), struct.pack("d", leaf) if isinstance(leaf, float) else leaf


def assert_same(tree: Any, other: Any) -> None:
    (leaves, nesting), (found, again) = gc.tree.flatten(tree), gc.tree.flatten(other)
    assert nesting == again
    assert list(map(bits, leaves)) == list(map(bits, found))


def everything() -> dict[str, Any]:
    """Each dtype, kind of number, kind of static value and kind of container."""
    rng = np.random.default_rng(0)
    arrays = {np.dtype(d).name: rng.integers(0, 2, (2, 3)).astype(d) for d in SUPPORTED}
    arrays["float32"].view(np.uint32)[0] = [0x7FC00001, 0x80000000, 0x7F800000]  # a NaN with a payload, −0, infinity
    return {
        "arrays": arrays,
        "0-d": [
            np.array(2.5),
            np.array(1, ml_dtypes.bfloat16),
            np.zeros((0, 3), "int8"),
            np.float16(0.5),
            np.bool_(True),
        ],
        "numbers": [0, -1, 2**53, 2**200, 0.1, -0.0, math.nan, -math.inf],
        "fixed": ("tanh", True, None, b"\x00\xff", np.dtype("float32"), "two\nlines", "\ud800", Colour.RED),
        "empty": [(), [], {}],
        "key": gc.random.key(7),
        "views": [np.arange(12.0).reshape(3, 4).T, np.arange(6)[::2], np.arange(3, dtype=">i4")],
        "z": State(np.int64(3), {"b": np.ones(2), "a": np.zeros(1)}),
        "layers": [Layer(np.ones((2, 2))), Layer(1.5, heads=8)],
        "ordered": collections.OrderedDict(b=np.ones(1), a=2),
        "default": collections.defaultdict(list, {"x": [1.0]}),
        "deque": collections.deque([1.0, 2]),
        "affine": Affine(np.ones(1), 2.0),
        "adam": gc.optim.adam(0.1).init({"w": np.ones(2, "float32")}),
        3: np.ones(1),
        ("a", 1): 1.0,
    }


def native(tree: Any) -> Any:
    """The same tree in native byte order, as it is loaded."""
    return gc.tree.map(lambda x: x.astype(x.dtype.newbyteorder("=")) if getattr(x, "dtype", None) == ">i4" else x, tree)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tree.safetensors"


def sealed(content: bytes) -> bytes:
    """A file with the checksum that its bytes have: what a hostile writer, who knows the format, would make."""
    place = content.index(b'"gradc.checksum":"') + len(b'"gradc.checksum":"')
    blank = content[:place] + b"0" * 64 + content[place + 64 :]
    return blank[:place] + sha256(blank).hexdigest().encode() + blank[place + 64 :]


def written(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + data


def hostile(tree: Any, metadata: Any = None, shape: Any = None, **more: Any) -> bytes:
    """A sealed file with one tensor of two float32 and any nesting; ``more`` in its metadata."""
    said = {"gradc.format": "1", "gradc.checksum": "0" * 64, "gradc.metadata": "{}" if metadata is None else metadata}
    said["gradc.tree"] = tree if isinstance(tree, str) else json.dumps(tree)
    w = {"dtype": "F32", "shape": [2] if shape is None else shape, "data_offsets": [0, 8]}
    return sealed(written({"__metadata__": {**said, **more}, "w": w}, bytes(8)))


# -- there and back ----------------------------------------------------------------------------------------------------
def test_everything_comes_back_with_the_very_containers(path: Path) -> None:
    tree = everything()
    gc.save(path, tree)
    found = gc.load(path, like=tree)
    assert_same(found, native(tree))
    assert type(found["z"]) is State and found["layers"][1].heads == 8 and type(found["affine"]) is Affine
    assert list(found) == list(tree)
    arrays = [leaf for leaf in gc.tree.leaves(found) if isinstance(leaf, np.ndarray)]
    assert all(x.flags.writeable and x.flags.carray and x.flags.aligned for x in arrays)


def test_without_like_it_comes_in_dicts_lists_and_tuples(path: Path) -> None:
    tree = everything()
    gc.save(path, tree)
    found = gc.load(path)
    assert list(found) == list(tree)
    assert found["z"] == {"t": 3, "m": {"b": pytest.approx(np.ones(2)), "a": pytest.approx(np.zeros(1))}}
    assert list(found["z"]["m"]) == ["b", "a"]  # a dict keeps its own order
    assert found["layers"][1] == {"w": 1.5, "heads": 8}
    assert found["fixed"] == (*tree["fixed"][:-1], f"{__name__}.Colour.RED")
    assert [*map(type, found["empty"])] == [tuple, list, dict] and type(found["ordered"]) is dict
    assert found["affine"][1] == 2.0 and found["deque"] == [1.0, 2] and found["default"] == {"x": [1.0]}
    assert list(map(bits, found["numbers"])) == list(map(bits, tree["numbers"]))
    assert list(map(bits, found["0-d"])) == list(map(bits, tree["0-d"]))
    assert {k: bits(x) for k, x in found["arrays"].items()} == {k: bits(x) for k, x in tree["arrays"].items()}
    assert bits(found["key"]) == bits(tree["key"])


@pytest.mark.parametrize(
    "tree", [np.ones(3), 1.5, None, "text", (), [], {}, np.float32(1), {"__metadata__": np.ones(1)}]
)
def test_a_tree_may_be_anything(tree: Any, path: Path) -> None:
    gc.save(path, tree)
    assert_same(gc.load(path), tree)
    if tree is not None:
        assert_same(gc.load(path, like=tree), tree)


def test_names_may_be_odd_and_alike(path: Path) -> None:
    tree = {"a.b": np.ones(1), "a": {"b": np.zeros(2)}, "../../etc/passwd": np.ones(3), "/\0\n\"'": np.ones(4),
            "\ud800": np.ones(5), "": np.ones(6), "é": np.ones(7), 0: np.ones(8), "0": np.ones(9)}  # fmt: skip
    gc.save(path, tree)
    assert_same(gc.load(path), tree)
    assert os.listdir(path.parent) == [path.name]


def test_metadata_come_back_and_are_checked(path: Path) -> None:
    said = {
        "step": np.int64(7),
        "loss": np.float32(0.1),
        "nested": {"rows": ((1, 2.5), None, "é\ud800")},
        "nan": math.nan,
    }
    gc.save(path, {}, metadata=said)
    found = gc.load_metadata(path)
    assert found["step"] == 7 and found["loss"] == float(np.float32(0.1)) and math.isnan(found["nan"])
    assert found["nested"] == {"rows": [[1, 2.5], None, "é\ud800"]}
    for bad, words in (
        ({1: 2}, "keys of JSON"),
        ({"a": [np.ones(2)]}, r"metadata\['a'\]\[0\] is ndarray"),
        ([], "mapping"),
    ):
        with pytest.raises(TypeError, match=words):
            gc.save(path, {}, metadata=bad)  # type: ignore[arg-type]


def test_what_no_file_can_hold_is_listed(path: Path) -> None:
    tree = {"ok": 1.0, "c": np.ones(1, complex), "d": [np.array("2020", "M8[D]")], "o": object()}
    with pytest.raises(gc.DTypeError, match=r"(?s)c \(complex128\), d\[0\] \(datetime64\[D\]\), o \(object\)"):
        gc.save(path, tree)
    with pytest.raises(gc.TraceError, match=r"\bw is a traced value"):
        gc.trace(lambda w: gc.save(path, {"w": w}) and w, np.ones(1))
    assert not path.exists()


def test_deep_trees_are_refused_in_words(path: Path) -> None:
    tree: Any = 1.0
    for _ in range(5000):
        tree = [tree]
    with pytest.raises((ValueError, RecursionError)):
        gc.save(path, tree)
    assert not path.exists()


# -- what does not fit -------------------------------------------------------------------------------------------------
def test_all_that_does_not_fit_is_listed_with_near_names(path: Path) -> None:
    gc.save(path, {"layers": [{"weight": np.ones((2, 3)), "bias": np.ones(3)}], "act": "tanh", "t": 1})
    like = {
        "layers": [{"wieght": np.ones((2, 3)), "bias": np.ones(4, "float32")}],
        "act": "relu",
        "t": 1.0,
        "new": None,
    }
    with pytest.raises(gc.CheckpointMismatchError) as caught:
        gc.load(path, like=like)
    assert set(caught.value.problems) == {
        "layers[0].bias: float64[3] in the file, float32[4] in like",
        'act: "tanh" in the file, "relu" in like',
        "t: a Python int in the file, a Python float in like",
        "layers[0].wieght (float64[2,3]) is not in the file; near: layers[0].weight",
        "new (null) is not in the file",
        "layers[0].weight (float64[2,3]) is in the file, not in like",
    }
    assert all(problem in str(caught.value) for problem in caught.value.problems)


def test_containers_may_differ_and_numbers_may_have_become_arrays(path: Path) -> None:
    gc.save(path, {"t": np.array(3), "m": [0.5, np.float32(2)]})
    found = gc.load(path, like=State(1, (1.0, gc.spec((), "float32"))))
    assert type(found) is State and found.t.shape == () and found.m == (0.5, 2.0)
    with pytest.raises(gc.CheckpointMismatchError, match="t: int64"):
        gc.load(path, like=State(1.0, (1.0, np.float32(0))))


def test_a_static_field_must_be_the_same(path: Path) -> None:
    gc.save(path, Layer(np.ones(1), heads=4))
    with pytest.raises(gc.CheckpointMismatchError, match="heads: 4 in the file, 8 in like"):
        gc.load(path, like=Layer(np.ones(1), heads=8))


# -- damaged, foreign and hostile files --------------------------------------------------------------------------------
SMALL = {"w": np.arange(3, dtype="float32"), "b": [1.5, None], "h": np.ones(1, ml_dtypes.bfloat16)}


def test_every_flipped_byte_is_noticed(path: Path) -> None:
    gc.save(path, SMALL, metadata={"step": 1})
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        with pytest.raises(gc.CheckpointError):
            gc.load(path)


def test_every_truncation_and_extension_is_noticed(path: Path) -> None:
    gc.save(path, SMALL)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(gc.CheckpointError, match=r"cut off|no regular|gradc\.save"):
            gc.load(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(gc.CheckpointError, match="damaged"):
        gc.load_metadata(path)
    path.write_bytes(content)
    assert_same(gc.load(path), SMALL)


@pytest.mark.nightly
def test_every_bit_of_every_byte_counts(path: Path) -> None:
    gc.save(path, SMALL, metadata={"step": 1})
    content = path.read_bytes()
    for place in range(len(content)):
        for value in set(range(256)) - {content[place]}:
            path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
            with pytest.raises(gc.CheckpointError):
                gc.load(path)


GOOD = {"dict": [["w", {"array": "w"}]]}


def test_a_sealed_file_by_others_is_read(path: Path) -> None:
    """The files that the next test spoils are good without the spoiling."""
    path.write_bytes(hostile(GOOD))
    assert_same(gc.load(path), {"w": np.zeros(2, "float32")})


@pytest.mark.parametrize("content", [
    b"", b"\0" * 8, struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 99_999_999) + b"{}", b"PK\3\4" + b"x" * 100,
    written(b'{"a":' + b"[" * 100_000), hostile("[" * 200_000), hostile('{"tuple":' * 50_000),
    hostile({"array": "other"}), hostile([{"array": "w"}, {"array": "w"}]), hostile([]), hostile({"dict": [["w"]]}),
    hostile({"dict": [[{"array": "w"}, 1]]}), hostile({"dict": [["w", 1], ["w", {"array": "w"}]]}),
    hostile({"dict": [[[], {"array": "w"}]]}), hostile([{"array": "w"}, {"code": "1"}]), hostile([{"array": "w"}, {}]),
    hostile([{"array": "w"}, {"dtype": "S9"}]), hostile([{"array": "w"}, {"int": "x"}]), hostile([{"array": ["w"]}]),
    hostile([{"array": "w"}, {"class": "a", "as": "list", "keys": [], "values": [1]}]),
    hostile([{"array": "w"}, {"class": "a"}]), hostile('[{"array":"w"},' + "9" * 5000 + "]"), hostile("nonsense"),
    hostile(GOOD, metadata="[]"), hostile(GOOD, metadata="{"),
    hostile(GOOD, shape=[1] * 70 + [2]), hostile(GOOD, shape=[2**62, 4]), hostile(GOOD, shape=[3]),
    sealed(hostile(GOOD).replace(b"[0,8]", b"[4,8]")), sealed(hostile(GOOD).replace(b'"F32"', b'"F9"')),
    sealed(hostile(GOOD).replace(b'"F32"', b'"C64"').replace(b'"shape":[2]', b'"shape":[1]')),
    sealed(written({"__metadata__": {"gradc.checksum": "0" * 64}})), hostile(GOOD, **{"gradc.format": "one"}),
], ids=lambda content: f"{content[8:60]!r}")  # fmt: skip
def test_foreign_and_hostile_files_are_refused(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(gc.CheckpointError):
            gc.load(path)
        assert tracemalloc.get_traced_memory()[1] < 40 * len(content) + 2**21  # a byte of JSON may be a list
    finally:
        tracemalloc.stop()


def test_a_newer_format_is_told_as_such(path: Path) -> None:
    for content in (hostile(GOOD, **{"gradc.format": "2"}), written({"__metadata__": {"gradc.format": "7"}})):
        path.write_bytes(content)
        with pytest.raises(gc.CheckpointError, match=r"has format [27], and this gradc .* reads up to 1"):
            gc.load(path)


def test_files_of_others_are_told_as_such(path: Path) -> None:
    safetensors.numpy.save_file({"w": np.ones(2)}, path)
    with pytest.raises(gc.CheckpointError, match=r"not written by gradc\.save"):
        gc.load(path)


def test_two_tensors_of_the_same_bytes_are_refused(path: Path) -> None:
    head = {"gradc.format": "1", "gradc.checksum": "0" * 64, "gradc.metadata": "{}"}
    head["gradc.tree"] = json.dumps([{"array": "a"}, {"array": "b"}])
    part = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    path.write_bytes(sealed(written({"__metadata__": head, "a": part, "b": part}, bytes(8))))
    with pytest.raises(gc.CheckpointError):
        gc.load(path)


# -- read by others ----------------------------------------------------------------------------------------------------
def test_the_files_open_in_safetensors(path: Path) -> None:
    tree = {"layers": [{"w": np.ones((2, 3), "float32")}], "key": gc.random.key(1), "n": np.array(3)}
    gc.save(path, tree, metadata={"step": 5})
    found = safetensors.numpy.load_file(path)
    assert sorted(found) == ["key", "layers.0.w", "n"]
    assert bits(found["layers.0.w"]) == bits(tree["layers"][0]["w"]) and bits(found["key"]) == bits(tree["key"])
    with safetensors.safe_open(path, "np") as file:
        said = file.metadata()
    assert json.loads(said["gradc.metadata"]) == {"step": 5} and said["gradc.format"] == "1"
    content = path.read_bytes()
    assert sealed(content) == content  # the checksum is what the page says


@pytest.mark.parametrize("reader", ["torch", "flax"])
def test_the_files_open_in_other_libraries(reader: str, path: Path) -> None:
    pytest.importorskip({"torch": "torch", "flax": "jax"}[reader])
    module = pytest.importorskip(f"safetensors.{reader}")
    gc.save(path, {"w": np.arange(3, dtype="float32"), "h": np.ones(2, ml_dtypes.bfloat16)})
    found = module.load_file(path)
    assert (
        found["w"].tolist() == [0, 1, 2]
        and str(found["h"].dtype).endswith("bfloat16")
        and found["h"].tolist() == [1, 1]
    )


# -- where it cannot be written ----------------------------------------------------------------------------------------
def test_a_full_disk_keeps_what_was_there(path: Path) -> None:
    gc.save(path, SMALL)
    before = path.read_bytes()
    program = (
        "import resource, sys, numpy as np, gradc as gc\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "try: gc.save(sys.argv[1], {'w': np.ones(1000)})\n"
        "except OSError as error: print(error.errno, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.startswith(f"{errno.EFBIG} ") and "the file that stands there is as it was" in done.stdout
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_too_little_room_is_said_before_anything_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors.shutil, "disk_usage", lambda _: collections.namedtuple("U", "free")(100))
    with pytest.raises(OSError, match="takes 8,000 bytes, and the disk has 100 free; nothing was written") as caught:
        gc.save(path, {"w": np.ones(1000)})
    assert caught.value.errno == errno.ENOSPC and not os.listdir(path.parent)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_folder_is_said(tmp_path: Path) -> None:
    gc.save(tmp_path / "t", SMALL)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match="as it was"):
            gc.save(tmp_path / "t", {})
        with pytest.raises(PermissionError):
            gc.Checkpoints(tmp_path).prepare()
    finally:
        tmp_path.chmod(0o700)
    assert_same(gc.load(tmp_path / "t"), SMALL)


@pytest.mark.parametrize("name", ["", "no folder/t", "x\0y", "n" * 300])
def test_a_path_that_cannot_be_written_is_said(name: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"save: cannot write|null byte"):
        gc.save(os.path.join(tmp_path, name), SMALL)
    assert not os.listdir(tmp_path)


def test_a_write_protected_file_is_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gc.save(path, SMALL)
    monkeypatch.setattr(files.os, "access", lambda *_: False)  # the superuser may write anything
    with pytest.raises(PermissionError, match="write-protected"):
        gc.save(path, {})
    assert_same(gc.load(path), SMALL)


def test_links_are_followed_and_permissions_kept(tmp_path: Path) -> None:
    target, link = tmp_path / "there" / "t", tmp_path / "link"
    target.parent.mkdir()
    link.symlink_to(target)
    gc.save(link, {"a": 1})
    target.chmod(0o640)
    gc.save(link, SMALL)
    assert link.is_symlink() and stat.S_IMODE(target.stat().st_mode) == 0o640
    assert_same(gc.load(link), SMALL)
    assert sorted(os.listdir(tmp_path)) == ["link", "there"] and os.listdir(target.parent) == ["t"]


def test_a_new_file_has_the_permissions_that_the_umask_leaves(path: Path) -> None:
    path.touch()
    usual = stat.S_IMODE(path.stat().st_mode)
    path.unlink()
    gc.save(path, SMALL)
    assert stat.S_IMODE(path.stat().st_mode) == usual


@pytest.mark.parametrize("name", ["é" * 127, "a b'\"\n*?", "-rf", b"\xff\xfe.st", ".hidden"])
def test_files_may_have_odd_names(name: str | bytes, tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(name)
    gc.save(place, SMALL)
    assert_same(gc.load(place), SMALL)


def test_what_is_no_regular_file_is_not_waited_for(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(gc.CheckpointError, match="no regular file"):
        gc.load(path)
    with pytest.raises(FileExistsError, match="no regular file"):
        gc.save(path, SMALL)
    with pytest.raises(IsADirectoryError):
        gc.load(path.parent)


def test_everything_is_synchronised_in_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file, then the rename, then the directory: in this order a loss of power loses nothing."""
    done: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda h: (done.append(stat.filemode(os.fstat(h).st_mode)[0]), sync(h)))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (done.append("rename"), replace(a, b)))
    gc.save(path, SMALL)
    assert done == ["-", "rename", "d"]


# -- others at the same time -------------------------------------------------------------------------------------------
def test_a_reader_beside_a_writer_sees_whole_trees(path: Path) -> None:
    gc.save(path, np.full(5000, 0.0))
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            gc.save(path, np.full(5000, float(number := number + 1)))

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    read = 0
    for _ in range(60):
        try:
            found = gc.load(path)
        except gc.CheckpointError as error:
            assert "replace" in str(error)
            continue
        read += 1
        assert found.shape == (5000,) and (found == found[0]).all()
    stop.set()
    for writer in writers:
        writer.join()
    assert read and os.listdir(path.parent) == [path.name]


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_holds_is_not(path: Path) -> None:
    left, held = path.with_name(f".{path.name}.{'0' * 12}.part"), path.with_name(f".{path.name}.{'1' * 12}.part")
    foreign = path.with_name(f".other.{'0' * 12}.part")
    for folder in (left, held, foreign):
        folder.mkdir()
        (folder / ".tmpAbCdEf").write_bytes(b"half")
    lock = files._locked(held, wait=False)
    gc.save(path, SMALL)
    assert not left.exists() and held.exists() and foreign.exists()
    os.close(lock)


def test_arrays_are_not_copied_on_the_way() -> None:
    """Beside the tree, saving and loading take the memory of one tree: the one that is loaded."""
    program = """
import os, resource, sys, tempfile
import numpy as np
import gradc as gc
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
path, tree = os.path.join(tempfile.mkdtemp(), "t"), {"w": np.ones(8 * 2**20)}
gc.save(path, {"w": np.ones(2)}), gc.load(path)
first = peak(); gc.save(path, tree); second = peak(); found = gc.load(path); third = peak()
os.unlink(path)
print(second - first, third - second)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    saved, loaded = map(int, done.stdout.split())
    size = 64 * 2**20
    assert saved < size / 4 and loaded < size * 1.25
