"""Fits the tables that the package holds; of the families that the arguments name, or all.

Enters: nothing but `gradc.ops.curves`.  Leaves: the JSON files beside this one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from gradc.ops.curves import SHIPPED, curve
from gradc.ops.fits import FOLDER, fitted, key_of


def write(keys: Sequence[tuple[Any, ...]]) -> None:
    """Fit the tables with these names and orders, and write whole families."""
    families: dict[str, dict[str, Any]] = {}
    for name, *orders in keys:
        found = fitted(curve(name, *orders), *orders)
        entry = {"start": found.start, "step": found.step, "rows": [list(row) for row in found.rows]}
        families.setdefault(name.partition("_")[0], {})[key_of(name, orders)] = entry
        print(f"{key_of(name, orders):34} {found.count} pieces of degree {len(found.rows) - 1}")
    for family, tables in families.items():
        text = json.dumps(tables, separators=(",", ":")).replace("],[", "],\n[").replace("]]},", "]]},\n")
        (FOLDER / f"{family}.json").write_text(text + "\n")


write([key for key in SHIPPED if key[0].startswith(tuple(sys.argv[1:]) or "")])
