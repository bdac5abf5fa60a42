"""What the user's code calls the nodes of one trace.

Enters: the frames that make nodes, as they make them.  Leaves: for each node the variable that held it.
Invariant: a frame is looked at before a variable of it that may hold another value by and by takes that value; what
the others held is read at the end, for a finished frame keeps its locals.  So a function of many lines, each with a
variable of its own, costs no more for a line than one of few.  Start reading at `Witnesses.look`.
"""

from __future__ import annotations

import dis
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType, FrameType, ModuleType
from typing import Any

import numpy as np

from gradc.aval import is_number
from gradc.node import Node
from gradc.places import is_user_code

#: A function of fewer local variables has all of them looked at on every line: that is cheaper than knowing better.
MANY_VARIABLES = 48


class Witnesses:
    """The frames that made the nodes of a trace, and what their locals held, in order."""

    def __init__(self, root: FrameType):
        self.root = root  #: the frame of the tracer: what lies above it is not part of the traced function
        self.depth: dict[FrameType, int] = {}
        self._held: dict[FrameType, dict[str, list[Node]]] = {}  #: the nodes that each variable held, in order
        self._seen: dict[FrameType, tuple[int, int]] = {}
        self._rebound: dict[FrameType, list[int]] = {}  #: of functions with many variables: see `_rebinding`

    def forget(self) -> None:
        """Let go of the frames: what they hold, and this among it, must not wait for the collector of cycles."""
        for known in (self.depth, self._held, self._seen, self._rebound):
            known.clear()

    def look(self, frame: FrameType) -> None:
        """Note a user frame that makes a node, and on its first node those that called it."""
        if frame not in self.depth:
            self._add(frame)
            return
        line, instruction = self._seen[frame]
        back = frame.f_lasti <= instruction  # the same line once more, in a loop
        if back or (frame.f_lineno != line and self._rebinds(frame, instruction)):
            self._observe(frame)
        else:
            self._seen[frame] = frame.f_lineno, frame.f_lasti

    def _rebinds(self, frame: FrameType, since: int) -> bool:
        """Whether a variable got a value since an instruction, and may get another one further down."""
        rebound = self._rebound.get(frame)
        return rebound is None or bisect_right(rebound, since) < bisect_right(rebound, frame.f_lasti)

    def _add(self, frame: FrameType) -> None:
        chain: list[FrameType] = []
        current: FrameType | None = frame
        while current is not None and current is not self.root:
            if is_user_code(current):
                chain.append(current)
            current = current.f_back
        for depth, one in enumerate(reversed(chain), 1):
            if one not in self.depth and one.f_code.co_nlocals >= MANY_VARIABLES:
                self._rebound[one] = _rebinding(one.f_code)
            self.depth[one] = depth
            self._observe(one)

    def _observe(self, frame: FrameType) -> None:
        self._seen[frame] = frame.f_lineno, frame.f_lasti
        held = self._held.setdefault(frame, {})
        for key, value in frame.f_locals.items():
            if isinstance(value, Node) and not key.startswith(("_", ".")):
                values = held.setdefault(key, [])
                if not values or values[-1] is not value:
                    values.append(value)

    def names(self) -> dict[Node, str]:
        """The variable that held each node: the first in its frame, and that of the outermost frame."""
        found: dict[Node, str] = {}
        for frame in sorted(self.depth, key=self.depth.__getitem__):
            self._observe(frame)
            for key, values in self._held[frame].items():
                for value in values:
                    found.setdefault(value, key)
        return found

    def captured(self, constants: Iterable[Node]) -> dict[Node, str]:
        """The variable, key or attribute that holds the array of each constant; a constant is a copy, so its elements
        tell which.
        """
        waiting: dict[tuple[int, ...], list[Node]] = {}
        for node in constants:
            waiting.setdefault(node.shape, []).append(node)
        found: dict[Node, str] = {}
        for frame in sorted(self.depth, key=self.depth.__getitem__) if waiting else ():
            for name, array in _arrays_seen_by(frame):
                if not is_number(array.dtype):
                    continue
                for node in waiting.get(array.shape, ()):
                    if node not in found and _same(node.attrs["value"], array):
                        found[node] = name
        return found

    def begun(self, names: Mapping[Node, str]) -> set[str]:
        """Variables that held a value with a name of its own before values that are named after them."""
        return {
            key
            for held in self._held.values()
            for key, values in held.items()
            if names.get(values[0]) != key and sum(names.get(v) == key for v in values) > 1
        }


def _rebinding(code: CodeType) -> list[int]:
    """The places of instructions that bind variables which are bound or deleted at other places, too."""
    places: dict[str, list[int]] = {}
    for instruction in dis.get_instructions(code):
        if instruction.opname.startswith(("STORE_FAST", "STORE_DEREF", "DELETE_FAST", "DELETE_DEREF")):
            names = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
            for name in names:
                places.setdefault(name, []).append(instruction.offset)
    return sorted({place for found in places.values() if len(found) > 1 for place in found})


def _arrays_seen_by(frame: FrameType) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """The arrays that the code of a frame can name, its own variables first: by variable, key, place or attribute."""
    code = frame.f_code
    seen = dict(frame.f_locals) | {k: frame.f_globals[k] for k in code.co_names if k in frame.f_globals}
    for name, value in seen.items():
        if name.startswith("."):
            continue
        if isinstance(value, np.ndarray):
            yield name, value
        elif isinstance(value, dict):
            yield from ((k, v) for k, v in value.items() if isinstance(k, str) and isinstance(v, np.ndarray))
        elif isinstance(value, list | tuple):
            yield from ((f"{name}[{i}]", v) for i, v in enumerate(value) if isinstance(v, np.ndarray))
        elif not isinstance(value, Node | ModuleType | type):
            held = getattr(value, "__dict__", {})
            yield from ((k, held[k]) for k in code.co_names if isinstance(held.get(k), np.ndarray))


def _same(mine: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """Whether two arrays of one shape have the same elements, NaNs among them."""
    return bool(np.all((mine == other) | ((mine != mine) & (other != other))))
