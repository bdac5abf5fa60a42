"""One function from its source to its machine code, with the way back from every piece.

Enters: what explains a traced graph, and perhaps arrays to measure with.  Leaves: a `Program`.
The graph that is compiled and the graph that is read have one origin, and the nodes of both are followed from there
through every rewrite (`gradc.passes.lineage`); the schedule says which nodes a piece of a kernel stands for, and debug
locations carry that into IR and assembly.  Start reading at `compiled_program`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.codegen.debug import Locations
from gradc.explain.derivation import Derivation
from gradc.explorer.film import Film, Frame
from gradc.explorer.profile import Profile, profile
from gradc.graph import Graph, rewrite
from gradc.machines.options import Options
from gradc.machines.stages import Stages
from gradc.node import Node, constant
from gradc.passes import Observe
from gradc.passes.lineage import following, rewritten
from gradc.schedule.plan import Schedule


@dataclass(frozen=True)
class Program:
    """Everything that one derivation became.

    ``graph`` is the scheduled graph, by whose positions all pieces are linked; ``became`` leads there from each node
    that was there at any time, those of formulas among them.
    """

    derivation: Derivation
    frames: tuple[Frame, ...]
    graph: Graph
    became: Mapping[Node, frozenset[int]]
    schedule: Schedule
    locations: Locations
    llvm: str
    asm: str
    profile: Profile
    sought: str

    def positions(self, nodes: frozenset[Node] | set[Node]) -> frozenset[int]:
        """What ``nodes``, of any graph on the way, are in the scheduled graph."""
        return frozenset[int]().union(*(self.became.get(n, frozenset()) for n in nodes))


def compiled_program(
    derive: Callable[[Observe], Derivation], arrays: Sequence[Any] | None = None, sought: str = "gradient"
) -> Program:
    """Compile and measure what ``derive`` explains, a function and its derivative; ``sought`` names that in a word.

    ``arrays`` fit the inputs of the function; without them, or where one is None, random ones are drawn: standard
    normal, zeros and ones for integers and bools.
    """
    with following() as lineage:
        film = Film(lineage)
        derivation = derive(film)
        step = _with_sizes(derivation)
        film("sizes", derivation.step, step)
        stages = Stages(step, Options(threads=1, observe=film, debug=True))
        lowered = stages.lowered
    text, locations = stages.code.text, stages.locations
    assert locations is not None
    return Program(
        derivation=derivation,
        frames=tuple(film.frames),
        graph=lowered,
        became=_positions(derivation, lowered, lineage.became(lowered)),
        schedule=stages.schedule,
        locations=locations,
        llvm=text,
        asm=stages.asm,
        profile=profile(stages, _arrays(lowered, arrays or ())),
        sought=sought,
    )


def _positions(
    derivation: Derivation, lowered: Graph, became: Mapping[Node, frozenset[Node]]
) -> dict[Node, frozenset[int]]:
    """Where each node that was there at any time stands in ``lowered``; for those that were made to be read, by way of
    what they were before."""
    found = {node: frozenset(lowered.index[n] for n in nodes) for node, nodes in became.items()}
    nothing = frozenset[int]()
    read = {
        node: nothing.union(*(found.get(old, nothing) for old in olds)) for node, olds in derivation.origins.items()
    }
    return {**read, **{node: at | read.get(node, nothing) for node, at in found.items()}}


def _with_sizes(derivation: Derivation) -> Graph:
    """What is compiled: named extents are numbers again."""
    step, sizes = derivation.step, derivation.sizes
    known: dict[Node, Node] = {}
    numbers = {leaf: constant(np.asarray(size, leaf.dtype)) for leaf, size in sizes.items()}
    outputs = rewrite(step.outputs, lambda node, args: None, {n: n for n in step.inputs} | numbers, known)
    inputs = tuple(n for n in step.inputs if n not in sizes)
    names = {known.get(n, n): name for n, name in step.names.items() if n not in sizes}
    after = step.replace(inputs=inputs, outputs=tuple(outputs), names=names)
    rewritten(step, known, after)
    return after


def _arrays(graph: Graph, given: Sequence[Any]) -> list[Any]:
    """One array for each input: the given one where there is one; a cotangent is ones."""
    rng = np.random.default_rng(0)
    found = []
    for k, node in enumerate(graph.inputs):
        value = given[k] if k < len(given) else None
        found.append(np.asarray(value, node.dtype) if value is not None else _drawn(node, rng))
    return found


def _drawn(node: Node, rng: np.random.Generator) -> Any:
    if node.aval.is_float:
        return np.asarray(rng.standard_normal(node.shape), node.dtype)
    return np.asarray(rng.integers(0, 2, node.shape), node.dtype)
