"""A printed page: its lines read one after the other, and what the legend says.

Enters: the text of a derivation, the program's arrays by the names that the text has for them, and the shapes that the
program gives its named quantities.  Leaves: `Page`, the value of each line.  Start reading at `read`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tests.readback.reading import Reading
from tests.readback.signs import UnreadError
from tests.readback.values import Value, classes, dropped, settled, value

_RULE = re.compile(r"for l = (\d+)…(\d+):")
_LITTLE = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_PLAIN = str.maketrans("₀₁₂₃₄₅₆₇₈₉⁰¹²³⁴⁵⁶⁷⁸⁹", "01234567890123456789")
_ABOVE = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_NUMBERED = re.compile(r"(?P<minus>₋)?ₗ(?:(?P<sign>[₊₋])(?P<by>[₀-₉]+))?|⁽(?P<m>⁻)?ˡ(?:(?P<s>[⁺⁻])(?P<b>[⁰¹²³⁴-⁹]+))?⁾")


@dataclass
class Page:
    """The values of the lines by their left-hand sides, in order; ``reasons`` of zeros; what the legend says."""

    values: dict[str, Value]
    forward: list[tuple[str, str]]
    derivative: list[tuple[str, str]]
    meanings: dict[str, str] = field(default_factory=dict)  #: δ is ∂L/∂z
    numbers: dict[str, Value] = field(default_factory=dict)  #: n = 4


def lines_of(block: str) -> list[tuple[str, str]]:
    """Targets and formulas, repeated rules written out."""
    found: list[tuple[str, str]] = []
    rows = block.split("\n")
    position = 0
    while position < len(rows):
        row = rows[position]
        rule = _RULE.fullmatch(row)
        position += 1
        if rule:
            body = []
            while position < len(rows) and rows[position].startswith("  "):
                body.append(rows[position].strip())
                position += 1
            first, last = int(rule[1]), int(rule[2])
            step = 1 if last >= first else -1
            for number in range(first, last + step, step):
                found += [part for line in body for part in lines_of(at(line, number))]
        elif " = " in row and not row.startswith("  "):
            target, _, body_text = row.partition(" = ")
            found.append((target, body_text))
    return found


def at(line: str, number: int) -> str:
    """A line of a rule at l = ``number``."""

    def numbered(match: re.Match[str]) -> str:
        minus, sign, by = (match[a] or match[b] for a, b in (("minus", "m"), ("sign", "s"), ("by", "b")))
        distance = int((by or "0").translate(_PLAIN))
        k = (-number if minus else number) + (-distance if sign in ("₋", "⁻") else distance)
        return str(k).translate(_LITTLE) if "ₗ" in match[0] else f"⁽{str(k).translate(_ABOVE)}⁾"

    line = _NUMBERED.sub(numbered, line)
    return re.sub(r"\[l([+−]\d+)?\]", lambda m: f"[{number + int((m[1] or '0').replace('−', '-'))}]", line)


def read(
    text: str, given: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], targets: Mapping[str, tuple[int, ...]],
    strict: bool = False,
) -> Page:  # fmt: skip
    """The page; ``shapes`` are those of named quantities, ``targets`` those of derivatives."""
    blocks = text.split("\n\n")
    forward = lines_of(blocks[0]) if not blocks[0].startswith("∂") else []
    rest = blocks[1:] if forward else blocks
    derivative = lines_of(rest[0]) if rest else []
    if not derivative and forward:
        derivative = [line for line in forward if line[0].startswith("∂")]
        forward = [line for line in forward if line not in derivative]
    page = Page({}, forward, derivative)
    reading = Reading({name: value(x) for name, x in given.items()}, False)
    for row in "\n".join(rest[1:]).split("\n"):
        if found := re.fullmatch(r"(\S+) = ([\d.e+-]+)(,.*)?", row):
            if found[1] in reading.names:
                raise UnreadError(f"{found[1]} is a number of elements and a name")
            page.numbers[found[1]] = reading.names[found[1]] = value(float(found[2]))
        if found := re.fullmatch(r"(\S+) is (∂\S+)", row):
            page.meanings[found[1]] = found[2]
    run(page, reading, shapes, targets, strict)
    return page


def run(
    page: Page, reading: Reading, shapes: Mapping[str, tuple[int, ...]], targets: Mapping[str, tuple[int, ...]],
    strict: bool = False, instead: Mapping[str, Any] | None = None, forward_only: bool = False,
) -> None:  # fmt: skip
    """Evaluate the lines in order; the values ``instead`` stand for what their lines say."""
    for lines, is_forward in ((page.forward, True), (page.derivative, False)):
        if not is_forward and forward_only:
            return
        reading.strict = strict and not is_forward
        for target, body in lines:
            zero = re.fullmatch(r"0   \(.*\)", body)
            shape = targets.get(target, shapes.get(target))
            try:
                reading.expected = shape
                found = value(np.zeros(shape or ())) if zero else reading(body)
                found = found if shape is None else fitted(found, shape, target in targets)
            except UnreadError as error:
                raise UnreadError(f"{target} = {body}: {error}") from None
            if instead and target in instead:
                found = replace(found, array=found.array + instead[target])
            if target in reading.names and page.values.get(target) is None:
                raise UnreadError(f"{target} is an argument and a line")
            page.values[target] = found
            if not target.startswith("∂"):
                reading.names[target] = found


def fitted(v: Value, shape: tuple[int, ...], is_result: bool) -> Value:
    """``v`` as an array of ``shape``, which the program says: axes of length 1 may go or come."""
    if v.labels:
        raise UnreadError(f"an open index {v.labels}")
    if v.unit is not None:
        if len(shape) != 2 or shape[0] != shape[1]:
            raise UnreadError(f"I as an array of {shape}")
        v = settled(v, shape[0])
    if v.pending is not None:
        if not shape:
            raise UnreadError("onehot as a number")
        v = classes(v, shape[-1])
    if v.ghost and len(shape) < v.ndim:
        v = dropped(v)
    if v.own == shape and not v.free:
        return replace(v, row=False, ghost=frozenset())
    if v.row and not v.free and (len(shape) != 2 or shape[0] != 1):
        raise UnreadError(f"a row where an array of {shape} is meant")
    if v.ndim == 0 and is_result and not v.labels and not np.any(v.array):
        return value(np.zeros(shape))
    if v.free:
        return value(np.broadcast_to(v.array, shape))
    if [n for n in v.own if n != 1] == [n for n in shape if n != 1]:
        return value(v.array.reshape(shape))
    raise UnreadError(f"an array of {v.own} where one of {shape} is meant")
