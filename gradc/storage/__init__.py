"""Trees of arrays in files: written whole or not at all, checked when they are read, and readable by others.

Enters: trees, paths.  Leaves: safetensors files, and the same trees again, bit for bit.  `layout` says how a tree nests
as text, `fitting` compares that with the tree that is wanted, `tensors` is the file, `checkpoints` a folder of them.
docs/checkpoints.md specifies the format.
"""

from __future__ import annotations

from gradc.storage.checkpoints import Checkpoints, Restored
from gradc.storage.tensors import load, load_metadata, save

__all__ = ["Checkpoints", "Restored", "load", "load_metadata", "save"]
