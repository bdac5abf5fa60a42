"""FILE:FUNC and NAME=VALUE: from words to a function and example arguments."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradc.aval import Aval, canonical_dtype
from gradc.cli.usage import UsageError, in_one_line
from gradc.containers import tree_map

_SPEC = re.compile(r"^(?P<dtype>[a-z]+\d*)\[(?P<shape>[\d,\s]*)\]$")


@dataclass(frozen=True)
class Loaded:
    """A user's function and one example argument per parameter (arrays, numbers or `spec`s)."""

    function: Callable[..., Any]
    arguments: dict[str, Any]

    def values(self, seed: int = 0) -> list[Any]:
        """The arguments with random arrays (standard normal; zeros and ones for integers and bools) for specs."""
        rng = np.random.default_rng(seed)
        return [tree_map(lambda leaf: _drawn(leaf, rng), v) for v in self.arguments.values()]

    def specs(self) -> list[Any]:
        return list(self.arguments.values())


def _drawn(leaf: Any, rng: np.random.Generator) -> Any:
    if not isinstance(leaf, Aval):
        return leaf
    if leaf.is_float:
        return np.asarray(rng.standard_normal(leaf.shape), leaf.dtype)
    return np.asarray(rng.integers(0, 2, leaf.shape), leaf.dtype)


def load_function(place: str, given: Sequence[str]) -> Loaded:
    """Import the file of ``FILE:FUNC`` and pair the function with its example arguments."""
    file, colon, name = place.rpartition(":")
    if not colon or not file or not name:
        raise UsageError(f"{place!r}: expected FILE:FUNC, for example model.py:loss")
    function = getattr(_import(Path(file)), name, None)
    if not callable(function):
        raise UsageError(f"{file} has no function {name!r}")
    return Loaded(function, _arguments(function, name, given))


def _import(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"no such file: {path}")
    name = f"_gradc_file_{path.stem}"  # not the stem itself: a json.py must not stand in for the library's
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise UsageError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module  # dataclasses and pickles look there
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # last, for the same reason
    try:
        module_spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        del sys.modules[name]
        raise UsageError(f"{path} fails to import: {in_one_line(error)}") from error
    return module


def _arguments(function: Callable[..., Any], name: str, given: Sequence[str]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    values = {k: p.default for k, p in parameters.items() if p.default is not p.empty}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or key not in parameters:
            raise UsageError(f"--arg {text!r}: expected NAME=VALUE with NAME one of {', '.join(parameters)}")
        values[key] = _value(text, value)
    missing = [k for k, p in parameters.items() if k not in values and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if missing:
        raise UsageError(
            f"{name} needs example values for {', '.join(missing)}: give the parameter a default, "
            f"or --arg '{missing[0]}=float64[5,8]'"
        )
    return {k: values[k] for k in parameters if k in values}


def _value(text: str, value: str) -> Any:
    match = _SPEC.match(value.strip())
    if match:
        shape = [int(n) for n in match["shape"].split(",") if n.strip()]
        return Aval(tuple(shape), canonical_dtype(match["dtype"]))
    for convert in (int, float):
        try:
            return convert(value)
        except ValueError:
            continue
    raise UsageError(f"--arg {text!r}: {value!r} is neither DTYPE[SHAPE], e.g. float64[5,8], nor a number")
