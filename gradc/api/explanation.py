"""A derivation that can also show what became of it: `Explanation`, what `gradc.explain` returns.

Enters: a derivation with the traced graph it came from.  Leaves: the same, with `html`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from gradc.explain import Derivation, Question
from gradc.graph import Graph
from gradc.node import Node
from gradc.runtime.files import write_whole


@dataclass(frozen=True, repr=False)
class Explanation(Derivation):
    """A `Derivation` and where it came from: the ``traced`` graph, the inputs ``wanted``, the given arrays, and the
    ``question`` that it answers.
    """

    traced: Graph = field(kw_only=True, repr=False)
    wanted: tuple[Node, ...] = field(kw_only=True, repr=False)
    arrays: tuple[Any, ...] = field(kw_only=True, repr=False)
    question: Question = field(kw_only=True, repr=False)

    @classmethod
    def of(
        cls, derivation: Derivation, graph: Graph, wanted: Sequence[Node], arrays: Sequence[Any], question: Question
    ) -> Explanation:
        """``derivation``, which explains ``graph``, with what it came from."""
        known = {f.name: getattr(derivation, f.name) for f in fields(derivation)}
        return cls(**known, traced=graph, wanted=tuple(wanted), arrays=tuple(arrays), question=question)

    def html(self, path: str | Path) -> Path:
        """Write the explorer: one page, readable without a network, that shows source, formulas, graph, kernels, LLVM
        IR and assembly side by side; what belongs together lights up together, and the passes can be walked through.

        The function and its derivative are compiled for this machine and each kernel is timed, on the arrays that were
        explained, or on random ones where only their shapes were given.  The file is written whole or not at all.
        Returns the path.
        """
        from gradc.explorer.page import page
        from gradc.explorer.program import compiled_program

        path = Path(path)
        derive = functools.partial(self.question.answered, self.traced, self.wanted)
        program = compiled_program(derive, self.arrays, self.question.sought)
        write_whole({path: page(program)})
        return path
