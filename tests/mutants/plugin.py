"""The pytest plugin that plants one fault: GRADC_FAULT=path:number, before gradc is imported.

Enters: the environment.  Leaves: an import hook that compiles one module from a tree with a fault in it.
Invariant: no file changes.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

from tests.mutants.faults import planted


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles the module with the fault; never reads or writes cached bytecode."""

    def __init__(self, name: str, path: str, number: int):
        super().__init__(name, path)
        self.number = number

    def get_code(self, fullname: str) -> CodeType | None:
        source = Path(self.path).read_text(encoding="utf-8")
        return compile(planted(source, self.number), self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, path: str, number: int):
        self.path, self.number = Path(path).resolve(), number

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith("gradc"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.origin is None or Path(spec.origin).resolve() != self.path:
            return None
        spec.loader = _Loader(fullname, spec.origin, self.number)
        return spec


if "GRADC_FAULT" in os.environ:
    _path, _number = os.environ["GRADC_FAULT"].rsplit(":", 1)
    sys.meta_path.insert(0, _Finder(_path, int(_number)))
