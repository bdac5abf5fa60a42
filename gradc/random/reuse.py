"""A key that is used twice in one trace is told: what is drawn with it twice is the same numbers twice.

Enters: each use of a key, as it is traced.  Leaves: a `KeyReuseWarning` that names both lines.
Invariant: uses are counted per trace, so that a body that is traced again, or a function that is traced on leaves of
its own, raises no false alarm; two nodes are one key if they are computed in the same way of the same leaves.  Nothing
is counted outside a trace.  Start reading at `note`.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from gradc.errors import KeyReuseWarning
from gradc.graph import Graph
from gradc.interpret import topological
from gradc.node import Node, user_location, watching
from gradc.ops.record import Kind
from gradc.places import Where, warn_user


class Use(enum.Enum):
    """What became of a key."""

    DRAW = "drawn with"
    SPLIT = "split"


@dataclass
class _Seen:
    """What one trace has done with its keys."""

    numbers: dict[Node, int] = field(default_factory=dict)  #: nodes that compute the same have the same number
    known: dict[Hashable, int] = field(default_factory=dict)
    uses: dict[Hashable, tuple[Use, Where | None]] = field(default_factory=dict)

    def identity(self, node: Node) -> int:
        """A number that is the same for all nodes that compute the same."""
        for each in topological([node], self.numbers):
            if each not in self.numbers:
                self.numbers[each] = self.known.setdefault(self._what(each), len(self.known))
        return self.numbers[node]

    def _what(self, node: Node) -> Hashable:
        if node.op.kind is Kind.INPUT or any(isinstance(v, Graph) for v in node.attrs.values()):
            return id(node)  # it stays alive among `numbers`
        attrs = tuple((name, _bits(value)) for name, value in sorted(node.attrs.items()))
        return (node.op.name, tuple(self.numbers[a] for a in node.args), attrs)


def _bits(value: Any) -> Hashable:
    """An attribute, which compares by its bits if it is an array."""
    return (value.shape, str(value.dtype), value.tobytes()) if isinstance(value, np.ndarray) else repr(value)


_seen: WeakKeyDictionary[Any, _Seen] = WeakKeyDictionary()


def note(key: Any, use: Use) -> None:
    """The user's line uses ``key`` up; warn if an earlier one of the same trace did."""
    watcher = watching.get()
    if watcher is None:
        return
    seen = _seen.setdefault(watcher, _Seen())
    identity: Hashable = seen.identity(key) if isinstance(key, Node) else np.asarray(key).tobytes()
    where = user_location()
    if identity not in seen.uses:
        seen.uses[identity] = use, where
        return
    before, line = seen.uses[identity]
    what = "split again" if use is Use.SPLIT and before is Use.SPLIT else use.value
    warn_user(
        f"{_line(where)}: this key was {before.value} at {_line(line)} already, and is {what} here: the same key gives "
        "the same numbers. Make new keys of it first: k1, k2 = gc.random.split(key).",
        KeyReuseWarning,
    )


def _line(where: Where | None) -> str:
    return f"{where.file}:{where.line}" if where is not None else "<unknown line>"
