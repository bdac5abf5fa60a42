"""Modules of gradc made from other trees than their files hold.

Enters: for each path, what makes its code.  Leaves: an import hook, to be put first on `sys.meta_path` before gradc is
imported.  Invariant: no file changes, and no cached bytecode is read or written.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any


class Loader(importlib.machinery.SourceFileLoader):
    """Runs ``make()`` as the module's code, with ``names`` among its globals."""

    def __init__(self, name: str, path: str, make: Callable[[], CodeType], names: Mapping[str, Any]):
        super().__init__(name, path)
        self.make, self.names = make, names

    def get_code(self, fullname: str) -> CodeType | None:
        return self.make()

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__.update(self.names)
        super().exec_module(module)


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of ``codes``, which is by resolved path; leaves all others to Python."""

    def __init__(self, codes: Mapping[Path, Callable[[], CodeType]], names: Mapping[str, Any] | None = None):
        self.codes, self.names = codes, names or {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith("gradc"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.origin is None or (make := self.codes.get(Path(spec.origin).resolve())) is None:
            return None
        spec.loader = Loader(fullname, spec.origin, make, self.names)
        return spec
