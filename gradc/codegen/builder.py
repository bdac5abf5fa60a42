"""The builder handed to the lowering of an op: lane arithmetic and the elementary functions in one object."""

from __future__ import annotations

from gradc.codegen.elementary import Elementary
from gradc.codegen.ir import Lanes


class Builder(Elementary, Lanes):
    """What a lowering gets as ``b``: ``b.add(x, y)``, ``b.exp(x)`` … on `Value`s, of one lane or many."""
