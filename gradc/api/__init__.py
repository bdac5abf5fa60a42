"""Functions to functions: what a user calls.

Enters: Python functions and arrays.  Leaves: Python functions, Graphs, Executables.  Everything here composes the rooms
above; no mathematics and no instruction is decided here.
"""

from __future__ import annotations
