"""One tree in one file: safetensors with the nesting, and a checksum over every byte, in its metadata.

Enters: a tree and a path.  Leaves: a file that is complete or not there, and from it the same tree, bit for bit.
Invariant: what is read is what was written, or CheckpointError; nothing in a file is run, imported or used as a path.
Memory beside the arrays is that of the header.  Start reading at `save` and `read`; docs/checkpoints.md has the format.

The checksum is the SHA-256 of the whole file in which its own 64 digits are zeros (FIPS 180-4).  It tells damage, not
forgery: whoever can write the file can write the checksum.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, TensorSpec, safe_open, serialize_file

from gradc.aval import SUPPORTED
from gradc.containers import flatten
from gradc.errors import CheckpointError, DTypeError, TraceError
from gradc.node import Node, here
from gradc.runtime.files import build_whole
from gradc.storage.fitting import Kind, fitted
from gradc.storage.layout import (
    ARRAYS,
    Json,
    built,
    entries,
    fixed,
    layout,
    leaf_value,
    path_text,
    tensor_name,
    text_of,
)
from gradc.version import __version__

Array = np.ndarray[Any, Any]
#: the version of the format that is written, and the newest that is read
FORMAT = 1
#: the longest header in bytes, which the safetensors library sets
MOST_HEADER = 100_000_000
_DIGITS = re.compile(rb'"gradc\.checksum":"([0-9a-f]{64})"')
_FORMAT = re.compile(rb'"gradc\.format":"([0-9]{1,9})"')
_END = re.compile(rb'"data_offsets":\[[0-9]{1,18},([0-9]{1,18})\]')
_ZEROS = b"0" * 64
_BLOCK = 1 << 20
_DTYPES = {
    "BOOL": "bool", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64", "U8": "uint8", "U16": "uint16",
    "U32": "uint32", "U64": "uint64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
}  # fmt: skip
_ATTEMPTS = 10


# -- writing -----------------------------------------------------------------------------------------------------------


def save(path: str | os.PathLike[str], tree: Any, *, metadata: Mapping[str, Any] | None = None) -> Path:
    """Write ``tree`` to ``path``, a safetensors file, and return the path.

    Arrays keep dtype, shape and bits; Python numbers, strings, bools, None, bytes and dtypes are kept as they are; of
    functions, classes and Enums the name.  ``metadata`` is a mapping of JSON values by name, for `load_metadata`.  The
    file appears complete, on disk, or not at all, and what stood at ``path`` is kept until then.

    Raises OSError where it cannot be written, a full disk (ENOSPC) included, DTypeError for arrays of other dtypes
    than gradc's, TypeError for metadata that are no JSON.

    >>> import gradc as gc, numpy as np, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> _ = gc.save(path, {"w": np.ones(2, "float32"), "rate": 0.1}, metadata={"step": 7})
    >>> gc.load(path), gc.load_metadata(path)
    ({'w': array([1., 1.], dtype=float32), 'rate': 0.1}, {'step': 7})
    """
    place = Path(os.fspath(path))
    said = plain({} if metadata is None else metadata, "metadata")
    if not isinstance(said, dict):
        raise TypeError(f"{here()}: save: metadata is a mapping of JSON values by name, got {metadata!r:.60}")
    arrays, nesting = _apart(tree)
    size = sum(array.nbytes for array in arrays.values())
    header = {
        "gradc.format": str(FORMAT),
        "gradc.version": __version__,
        "gradc.checksum": _ZEROS.decode(),
        "gradc.tree": nesting,
        "gradc.metadata": text_of(said),
    }
    if sum(map(len, header.values())) + sum(len(name) + 100 for name in arrays) > MOST_HEADER:
        raise ValueError(
            f"{here()}: save: names, nesting and metadata take more than {MOST_HEADER:,} bytes, which is what a "
            "safetensors header may hold; join small arrays, or keep long records elsewhere"
        )
    try:
        build_whole(place, lambda part: _write(part, arrays, header, size))
    except OSError as error:
        text = f"{here()}: save: cannot write {place}: {error.strerror or error}; "
        kept = "the file that stands there is as it was" if os.path.isfile(place) else "nothing was written"
        raise (type(error)(text + kept) if error.errno is None else type(error)(error.errno, text + kept)) from error
    return place


def _write(part: Path, arrays: Mapping[str, Array], header: dict[str, str], size: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < size:
        raise OSError(errno.ENOSPC, f"it takes {size:,} bytes, and the disk has {free:,} free")
    specs = {
        name: TensorSpec(dtype=a.dtype.name, shape=a.shape, data_ptr=a.ctypes.data, data_len=a.nbytes)
        for name, a in arrays.items()
    }
    try:
        serialize_file(specs, part, metadata=header)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
    with part.open("r+b") as file:
        summed = _summed(file)
        file.seek(summed.place)
        file.write(summed.digits)


def _apart(tree: Any) -> tuple[dict[str, Array], str]:
    """The arrays of a tree by the names they get in the file, and its layout as text."""
    try:
        leaves, _, structure = flatten(tree)
        found = {leaf["leaf"]: path for path, leaf in entries(layout(structure, lambda i: {"leaf": i}))
                 if isinstance(leaf, dict) and "leaf" in leaf}  # fmt: skip
        if len(found) < len(leaves):
            raise ValueError(f"{here()}: save: keys of the tree differ in ways that a file cannot say: {structure}")
        said, arrays = _named(leaves, [found[i] for i in range(len(leaves))])
        return arrays, text_of(layout(structure, said.__getitem__))
    except RecursionError:
        raise ValueError(f"{here()}: save: the tree nests deeper than Python's recursion limit allows") from None


def _named(leaves: list[Any], paths: list[tuple[Any, ...]]) -> tuple[list[Json], dict[str, Array]]:
    """The layout of each leaf, and the arrays by name; DTypeError lists all that have no place in a file."""
    said: list[Json] = []
    arrays: dict[str, Array] = {}
    refused = []
    for leaf, path in zip(leaves, paths, strict=True):
        if type(leaf) in (int, float):
            said.append(fixed(leaf))
            continue
        if isinstance(leaf, Node):
            raise TraceError(f"{here()}: save: {path_text(path)} is a traced value; save what the function returns")
        array = np.asarray(leaf, order="C")
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        if array.dtype not in SUPPORTED or isinstance(leaf, np.ma.MaskedArray):
            kind = type(leaf).__name__ if array.dtype == object else array.dtype
            refused.append(f"{path_text(path)} ({'a masked array' if isinstance(leaf, np.ma.MaskedArray) else kind})")
            continue
        name = first = tensor_name(path)
        number = 1
        while name in arrays or name == "__metadata__":  # which a safetensors file keeps for itself
            number += 1
            name = f"{first}~{number}"
        arrays[name] = array
        said.append({"scalar" if isinstance(leaf, np.generic) else "array": name})
    if refused:
        raise DTypeError(
            f"{here()}: save: no array of a dtype that can be saved: {', '.join(refused)}; convert to one of "
            + ", ".join(sorted(map(str, SUPPORTED)))
        )
    return said, arrays


def plain(value: Any, where: str) -> Json:
    """``value`` as JSON has it: NumPy's numbers as Python's, tuples as lists; TypeError names what is none."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.shape == ()):
        return plain(value.item(), where)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{here()}: {where} has the key {key!r:.60}; keys of JSON are strings")
        return {key: plain(part, f"{where}[{key!r}]") for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part, f"{where}[{i}]") for i, part in enumerate(value)]
    raise TypeError(
        f"{here()}: {where} is {type(value).__name__}, which is no JSON value; arrays belong in the tree, or say "
        ".tolist()"
    )


# -- the checksum ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Summed:
    place: int  #: where the digits stand
    found: bytes
    digits: bytes  #: what they should be


def _summed(file: BinaryIO) -> _Summed:
    """The checksum of a file and the one it states; ValueError for what is no file of this format."""
    file.seek(0, os.SEEK_END)
    size = file.tell()
    file.seek(0)
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > min(MOST_HEADER, size - 8):
        raise ValueError("it is no safetensors file, or was cut off in its header")
    header = file.read(length)
    places = list(_DIGITS.finditer(header))
    if len(places) != 1:
        if (version := _FORMAT.search(header)) and int(version[1]) > FORMAT:
            raise ValueError(_newer(int(version[1])))
        raise ValueError("it was not written by gradc.save (safetensors.numpy.load_file may read it), or is damaged")
    begin, end = places[0].span(1)
    sha = hashlib.sha256(start + header[:begin] + _ZEROS + header[end:])
    while block := file.read(_BLOCK):
        sha.update(block)
    summed = _Summed(8 + begin, places[0][1], sha.hexdigest().encode())
    if summed.found not in (summed.digits, _ZEROS):
        wanted = 8 + length + max((int(found[1]) for found in _END.finditer(header)), default=0)
        if size < wanted:
            raise ValueError(f"it was cut off: it has {size:,} of {wanted:,} bytes")
        if (version := _FORMAT.search(header)) and int(version[1]) > FORMAT:
            raise ValueError(_newer(int(version[1])))
    return summed


def _newer(version: int) -> str:
    return f"it has format {version}, and this gradc ({__version__}) reads up to {FORMAT}: read it with a newer gradc"


# -- reading -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contents:
    """What a sound file says, before any array is read; ``file`` is safetensors' own reader."""

    nesting: Json
    metadata: dict[str, Any]
    kinds: Mapping[str, Kind]
    file: Any

    def array(self, leaf: Json) -> Any:
        """The value of the leaf ``{"array": name}`` or ``{"scalar": name}``."""
        (key, name), *_ = leaf.items()
        array = self.file.get_tensor(name)
        return array[()] if key == "scalar" else array


def load(path: str | os.PathLike[str], like: Any = None) -> Any:
    """The tree that `save` wrote to ``path``.

    Without ``like`` it comes in dicts, lists and tuples (named tuples and dataclasses as dicts of their fields).  With
    ``like``, a tree of arrays or `gradc.spec`\\ s, it comes in the very containers of ``like``, whose leaves must have
    the file's names, shapes and dtypes; containers may be of other classes.

    Raises CheckpointError for a file that is torn, damaged, foreign or of a newer format, CheckpointMismatchError with
    a line for every name, shape and dtype that does not fit, and OSError.
    """
    return read(Path(os.fspath(path)), like)[0]


def load_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The ``metadata`` that `save` was given with the tree in the file at ``path``, whose checksum is checked.

    Raises CheckpointError and OSError, as `load` does.
    """
    with opened(Path(os.fspath(path))) as contents:
        return contents.metadata


def read(path: Path, like: Any) -> tuple[Any, dict[str, Any]]:
    """The tree in a file, like ``like`` unless that is None, and the metadata; see `load`."""
    with opened(path) as contents:
        if like is None:
            return built(contents.nesting, contents.array), contents.metadata
        structure, leaves = fitted(contents.nesting, contents.kinds, like, str(path))
        return structure.unflatten([leaf_value(leaf, contents.array) for leaf in leaves]), contents.metadata


@contextmanager
def opened(path: Path) -> Iterator[Contents]:
    """What is in a file whose checksum is right, for as long as nobody replaces it."""
    with _refused(path):
        for _ in range(_ATTEMPTS):
            before = _checked(path)
            with safe_open(path, framework="np", backend="pread") as file:
                if _identity(path.stat()) == before:
                    yield _contents(file)
                    if _identity(path.stat()) == before:
                        return
                    raise ValueError("another process replaced it while it was read; read it again")
        raise ValueError("other processes replace it faster than it can be read")


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Whatever a bad file makes the readers raise, as CheckpointError."""
    try:
        yield
    except (CheckpointError, OSError):
        raise
    except RecursionError:
        raise CheckpointError(
            f"{here()}: {path} cannot be loaded: it nests deeper than Python's recursion limit allows"
        ) from None
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        what = str(error) or type(error).__name__
        raise CheckpointError(f"{here()}: {path} cannot be loaded: {what}") from error


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _checked(path: Path) -> tuple[int, ...]:
    """The identity of a regular file with the right checksum."""
    if "\0" in str(path):
        raise FileNotFoundError(errno.ENOENT, "a path with a null byte names no file", str(path))
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no regular file")
        summed = _summed(file)
    if summed.found != summed.digits:
        raise ValueError("it is damaged: its bytes do not have the checksum that it states")
    return _identity(status)


def _contents(file: Any) -> Contents:
    said = file.metadata() or {}
    version = said.get("gradc.format", "")
    if not re.fullmatch(r"[0-9]{1,9}", version):
        raise ValueError("it states no version of its format")
    if int(version) > FORMAT:
        raise ValueError(_newer(int(version)))
    nesting, metadata = json.loads(said["gradc.tree"]), json.loads(said["gradc.metadata"])
    kinds: dict[str, Kind] = {}
    for name in file.keys():  # noqa: SIM118 - it is no mapping
        part = file.get_slice(name)
        kinds[name] = _DTYPES[part.get_dtype()], tuple(part.get_shape())
    used = [next(iter(leaf.values())) for _, leaf in entries(nesting) if isinstance(leaf, dict)
            and next(iter(leaf), None) in ARRAYS]  # fmt: skip
    if sorted(used) != sorted(kinds):
        raise ValueError("its nesting does not name each of its tensors once")
    if not isinstance(metadata, dict):
        raise ValueError("its metadata are no mapping")
    return Contents(nesting, metadata, kinds, file)
