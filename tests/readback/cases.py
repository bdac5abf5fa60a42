"""Programs held against what is printed of them.

Enters: a derivation and arrays.  Leaves: a `Finding` of each program: what is unread or untrue, and why.
``resized`` gives a program sizes that differ from every number in it and from each other, where it takes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.containers import leaves_of
from gradc.explain import Question, traced
from gradc.explain.naming import Naming
from gradc.explain.text import TextPrinter
from tests.readback.pages import Page, read, run
from tests.readback.reading import Reading
from tests.readback.signs import UnreadError
from tests.readback.values import value

#: fewer than 10⁴ roundings of 2⁻⁵³ on both sides, of numbers of the size of the largest, amplified by cancellation
TOLERANCE = 1e-9
#: numbers are printed with six digits where they are no simple fractions
ROUNDED = 1e-5
_SIX_DIGITS = re.compile(r"\d\.\d{5}(?!\d)|0\.0*[1-9]\d{5}(?!\d)|\d\.\d+e|\d\d\.\d{4}(?!\d)")
#: central differences of step 10⁻⁶: h² and 2⁻⁵³/h
STEP, DIFFERENCES = 1e-6, 1e-5


@dataclass(frozen=True)
class Finding:
    """What came of reading one page."""

    name: str
    verdict: str  #: "true", "untrue" or "unread"
    why: str = ""
    text: str = ""


def held(
    name: str,
    function: Callable[..., Any],
    args: Sequence[Any],
    argnums: int | Sequence[int] = 0,
    order: int = 1,
    operator: bool = False,
) -> Finding:
    """Explain ``function``, read the page, and hold every line against the graphs that the page was made from."""
    question = Question.of(function, argnums, order, operator)
    graph, wanted = traced(question.function, *args, argnums=question.argnums)
    derivation = question.answered(graph, wanted)
    text = str(derivation)
    try:
        why = disagreement(graph, derivation, leaves_of((tuple(args), {}))[0], text, question.matrix)
    except UnreadError as error:
        return Finding(name, "unread", str(error), text)
    return Finding(name, "untrue" if why else "true", why, text)


def disagreement(primal: Any, derivation: Any, arrays: Sequence[Any], text: str, strict: bool) -> str:
    """What a line says that is not so; nothing if all is true."""
    leaves = [np.asarray(a) for a in arrays]
    naming, printer = Naming(primal), TextPrinter()
    given: dict[str, Any] = {}
    for leaf, x in zip(primal.inputs, leaves, strict=True):
        shown = printer.ident(naming.ident(primal.names.get(leaf, "")))
        if shown in given:
            raise UnreadError(f"two arguments are called {shown}")
        given[shown] = x
    for (shape, dtype, elements), ident in naming.captured.items():
        given[printer(ident)] = np.frombuffer(elements, dtype).reshape(shape)
    known = dict(zip(primal.names.values(), primal.replace(outputs=tuple(primal.names)).evaluate(*leaves), strict=True))
    outputs = dict(zip(primal.outputs, primal.evaluate(*leaves), strict=True))
    known |= {name: outputs[y] for y, name in zip(primal.outputs, naming.output_names, strict=True)}
    cotangents = derivation.graph.inputs[len(leaves) :]
    rng = np.random.default_rng(7)
    seeds = [rng.normal(size=c.shape) for c in cotangents]
    given |= {derivation.graph.names[c]: seed for c, seed in zip(cotangents, seeds, strict=True)}
    shapes, wanted = {}, {}
    for line in derivation.lines:
        shown = printer(line.target)
        if line.kind == "forward" and line.name in known:
            shapes[shown] = known[line.name].shape
        if line.kind == "gradient":
            wanted[shown] = _value(derivation, line, [*leaves, *seeds])
    said = [line for line in derivation.lines if line.kind == "forward" and line.name in known]
    expected = {printer(line.target): known[line.name] for line in said}
    expected |= {shown: x for shown, x in wanted.items() if x is not None}
    tolerance = ROUNDED if _SIX_DIGITS.search(text) else TOLERANCE
    page = read(text, given, shapes, {shown: np.shape(x) for shown, x in wanted.items() if x is not None}, strict)
    for shown, x in expected.items():
        if shown not in page.values:
            return f"{shown} has no line"
        if not _close(page.values[shown].array, x, tolerance):
            return f"{shown} = {dict((*page.forward, *page.derivative))[shown]} is read as another value"
    return legend_disagreement(page, given, shapes)


def _value(derivation: Any, line: Any, leaves: list[Any]) -> Any:
    if line.value is None:
        return np.zeros(()) if line.formula is None else None
    graph = derivation.compiled
    by_leaf = {**dict(zip(derivation.graph.inputs, leaves, strict=True)), **derivation.sizes}
    (found,) = graph.replace(outputs=(line.value,)).evaluate(*(by_leaf[x] for x in graph.inputs))
    return found


def _close(mine: Any, wanted: Any, tolerance: float) -> bool:
    mine, wanted = np.asarray(mine, complex), np.asarray(wanted, complex)
    if not np.all(np.isfinite(wanted)):
        return bool(np.array_equal(np.isfinite(mine), np.isfinite(wanted)))
    scale = max(1.0, float(np.max(np.abs(wanted), initial=0.0)))
    return mine.shape == wanted.shape and bool(np.all(np.abs(mine - wanted) <= tolerance * scale))


def legend_disagreement(page: Page, given: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> str:
    """A δ that is not the derivative that the legend calls it, by differences of the lines as they are read."""
    rng = np.random.default_rng(11)
    names = {k: value(x) for k, x in given.items()} | page.numbers
    for name, meaning in page.meanings.items():
        found = re.fullmatch(r"∂(\S+)/∂(\S+)", meaning)
        if found is None or name not in page.values or found[2] not in page.values:
            continue
        of, by = found.groups()
        shape, mine = page.values[by].array.shape, np.real(page.values[name].array)
        towards = rng.normal(size=shape)
        ends = []
        for step in (STEP, -STEP):
            other = Page({}, page.forward, [])
            run(other, Reading(names), shapes, {}, instead={by: step * towards})
            ends.append(float(np.real(other.values[of].array)))
        slope = (ends[0] - ends[1]) / (2 * STEP)
        if mine.size == towards.size:
            mine = mine.reshape(shape)
        scale = max(1.0, abs(slope), float(np.max(np.abs(mine), initial=0.0)))
        if mine.ndim > len(shape) or abs(float(np.sum(mine * towards)) - slope) > DIFFERENCES * scale:
            return f"{name} is not {meaning}"
    return ""
