"""What becomes of a model's own state in a training step, line by line.

Enters: a step that was made with ``has_state``, and its arguments.  Leaves: an `Update` whose arrows say what each part
of the state is after the step, and what its letters stand for.
Invariant: each line reads what its names stand for when it is read from top to bottom; a name that the loss and its
gradient use for something else is another one here.  Start reading at `state_update`.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from gradc.containers import leaves_of
from gradc.explain import Question, traced
from gradc.explain.folding import Said, Update, names_in, plain
from gradc.explain.layout import Call, Ident, Layout, Plus
from gradc.explain.naming import Naming
from gradc.explain.steps import PRIME, mapped

Legend = tuple[tuple[Layout, str | Layout], ...]


def state_update(step: Any, args: tuple[Any, ...], before: list[Said]) -> tuple[tuple[Update, ...], Legend]:
    """The lines of the model state, none where it stays as it is; ``before`` are those of the loss and its gradient."""

    @functools.wraps(step.loss)
    def after(params: Any, *batch: Any) -> Any:
        new = step.loss(params, *batch)[1]
        return new[0] if step.has_aux else new

    params, _, state, *batch = args
    graph, wanted = traced(after, params, state, *batch, argnums=())
    first = len(leaves_of(params)[0])
    olds = graph.inputs[first : first + len(leaves_of(state)[0])]
    tokens = {
        new: f"{graph.names.get(old, 'state')}{PRIME}{k}"
        for k, (old, new) in enumerate(zip(olds, graph.outputs, strict=True))
        if new not in graph.names
    }
    graph = graph.replace(names={**graph.names, **tokens})
    naming, found = Naming(graph), Question.of(after, (), 1, False).answered(graph, wanted)
    new_of = {
        naming.ident(graph.names[new]): naming.ident(graph.names[old])
        for old, new in zip(olds, graph.outputs, strict=True)
        if old is not new
    }
    lines = _apart([plain(line) for line in found.lines if line.kind == "forward"], before)
    lines = _assigned(lines, new_of, {naming.ident(token) for token in tokens.values()})
    if not lines:
        return (), ()
    shown = {name for line in lines for name in names_in(line.target) | _of(line.body)}
    legend = tuple(entry for entry in found.legend if names_in(entry[0]) & shown)
    return (Update(next(iter(new_of.values())), (), tuple(lines)),), legend


def _of(body: Layout | None) -> set[Ident]:
    return set() if body is None else set(names_in(body))


def _apart(lines: list[Said], before: list[Said]) -> list[Said]:
    """The lines but for those that were said before; what had another meaning there has a prime here."""
    meanings = {line.target: line.body for line in before}
    lines = [line for line in lines if meanings.get(line.target) != line.body]
    targets = [line.target for line in lines]
    other = {t: replace(t, name=t.name + PRIME) for t in targets if isinstance(t, Ident) and t in meanings}

    def renamed(x: Layout) -> Layout:
        return mapped(x, lambda piece: other.get(piece, piece) if isinstance(piece, Ident) else piece)

    return [replace(x, target=renamed(x.target), body=None if x.body is None else renamed(x.body)) for x in lines]


def _assigned(lines: list[Said], new_of: dict[Ident, Ident], unnamed: set[Ident]) -> list[Said]:
    """With arrows to the old names.  A new value that another line reads, or whose line would overwrite what another
    one reads, keeps a name of its own and is assigned at the end.
    """
    shown: dict[Layout, Ident] = {}  #: new values and how they are written
    rest, direct, last = [], [], []
    for line in lines:
        target = line.target
        old = new_of.get(target) if isinstance(target, Ident) else None
        if old is None or not isinstance(target, Ident):
            rest.append(line)
        elif any({target, old} & _of(x.body) for x in lines if x is not line):
            shown[target] = replace(old, name=old.name + PRIME) if target in unnamed else target
            rest.append(replace(line, target=shown[target]))
            last.append(Said(old, shown[target], sign="←"))
        else:
            direct.append(replace(line, target=old, sign="←"))

    def written_out(x: Layout) -> Layout:
        if isinstance(x, Call) and x.name == "add" and len(x.args) == 2:  # of whole numbers
            return Plus(x.args)
        return shown.get(x, x) if isinstance(x, Ident) else x

    every = (*rest, *direct, *last)
    return [x if x.body is None else replace(x, body=mapped(x.body, written_out)) for x in every]
