"""Whether a tree in a file is the tree that is wanted, and all that differs.

Enters: the layout in the file, what its tensors are, and a tree ``like`` it.  Leaves: the containers of ``like`` and
the file's leaf for each of its own, or CheckpointMismatchError.  Leaves meet by their paths, so the classes of
containers may differ.  Start reading at `fitted`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np

from gradc.aval import canonical_dtype, is_float
from gradc.containers import Structure, flatten
from gradc.errors import CheckpointMismatchError
from gradc.storage.layout import ARRAYS, Json, Path, entries, layout, path_text, text_of

#: what a tensor of a file is: its dtype's name and its shape
Kind = tuple[str, tuple[int, ...]]
#: near names are sought for so many names that are missing, among so many that are left over
MOST_NEAR = 300


def fitted(held: Json, kinds: Mapping[str, Kind], like: Any, where: str) -> tuple[Structure, list[Json]]:
    """The structure of ``like``, and the leaf of the file for each of its arrays.

    A leaf fits if its shape and dtype do; a Python float fits floats of shape (), a Python int integers.  A static
    value must be the same.  Raises CheckpointMismatchError, which lists every difference.
    """
    wanted, _, structure = flatten(like)
    asked = dict(entries(layout(structure, lambda i: {"leaf": i})))
    found = dict(entries(held))
    missing = [path for path in asked if path not in found]
    extra = [path for path in found if path not in asked]
    chosen: list[Json] = [None] * len(wanted)
    different = []
    for path, leaf in asked.items():
        if path not in found:
            continue
        if isinstance(leaf, dict) and "leaf" in leaf:
            chosen[leaf["leaf"]] = found[path]
            want, have = _kind(wanted[leaf["leaf"]]), _kind_in_file(found[path], kinds)
            fits = _fits(want, have)
        else:
            want, have = _said(leaf), _said(found[path], kinds)
            fits = want == have
        if not fits:
            different.append(f"{path_text(path)}: {_text(have)} in the file, {_text(want)} in like")
    problems = (*different, *_unmatched(missing, extra, asked, found, wanted, kinds))
    if problems:
        raise CheckpointMismatchError(
            f"{where} does not fit like=, in {len(problems)} place{'s' * (len(problems) > 1)}:\n  "
            + "\n  ".join(problems)
            + "\n  Nothing was loaded. Give a tree of the file's shapes and names, or load without like= and pick.",
            tuple(problems),
        )
    return structure, chosen


def _unmatched(
    missing: list[Path],
    extra: list[Path],
    asked: Mapping[Path, Json],
    found: Mapping[Path, Json],
    wanted: list[Any],
    kinds: Mapping[str, Kind],
) -> list[str]:
    """A line for each name that only one side has; ``missing`` with names in the file that are nearly the same."""
    names = [path_text(path) for path in extra[:MOST_NEAR]]
    lines = []
    for number, path in enumerate(missing):
        leaf = asked[path]
        is_array = isinstance(leaf, dict) and "leaf" in leaf
        what = _text(_kind(wanted[leaf["leaf"]]) if is_array else _said(leaf))
        near = get_close_matches(path_text(path), names, n=3) if number < MOST_NEAR else []
        hint = f"; near: {', '.join(near)}" if near else ""
        lines.append(f"{path_text(path)} ({what}) is not in the file{hint}")
    for path in extra:
        lines.append(f"{path_text(path)} ({_text(_said(found[path], kinds))}) is in the file, not in like")
    return lines


def _kind(leaf: Any) -> Any:
    """What a leaf of ``like`` is: a `Kind`, or the class of a Python number."""
    if type(leaf) in (int, float):
        return type(leaf)
    given = leaf if hasattr(leaf, "dtype") and hasattr(leaf, "shape") else np.asarray(leaf)
    return np.dtype(given.dtype).name, tuple(given.shape)


def _kind_in_file(leaf: Json, kinds: Mapping[str, Kind]) -> Any:
    """The same of a leaf of the file; its text, if it is static."""
    if isinstance(leaf, dict):
        (key, said), *_ = leaf.items()
        if key in ARRAYS:
            return kinds[said]
        return int if key == "int" else float if key == "float" else _said(leaf)
    return type(leaf) if type(leaf) in (int, float) else _said(leaf)


def _said(leaf: Json, kinds: Mapping[str, Kind] | None = None) -> Any:
    """A static value as text, or the kind of an array."""
    if kinds is not None and isinstance(leaf, dict) and next(iter(leaf)) in ARRAYS:
        return kinds[next(iter(leaf.values()))]
    return text_of(leaf)


def _fits(want: Any, have: Any) -> bool:
    if want == have:
        return True
    a, b = (want, have) if isinstance(want, type) else (have, want)
    if not isinstance(a, type) or not isinstance(b, tuple) or b[1] != ():
        return False
    dtype = canonical_dtype(b[0])
    return is_float(dtype) if a is float else dtype.kind in "iu"


_SHOWN: dict[type, Callable[[Any], str]] = {
    tuple: lambda kind: f"{kind[0]}[{','.join(map(str, kind[1]))}]",
    type: lambda kind: f"a Python {kind.__name__}",
    str: lambda text: text if len(text) <= 60 else f"{text[:59]}…",
}


def _text(kind: Any) -> str:
    return _SHOWN[type(kind)](kind)
