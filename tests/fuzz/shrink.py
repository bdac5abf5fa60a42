"""The smallest program that still fails in the same way.

Enters: a program and a test.  Leaves: a program from which nothing can be taken: no output, statement, argument of a
call, input, or digit of a number.  Start reading at `shrunk`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from tests.fuzz.language import NAME, Array, Body, Program, Statement, quietly
from tests.fuzz.reference import NUMPY
from tests.fuzz.scope import is_float

StillFails = Callable[[Program], bool]
KEYWORD = re.compile(r", \w+=(?:\([^()]*\)|[^,()]+)(?=[,)])")


def shrunk(program: Program, still_fails: StillFails, seconds: float = 60.0) -> Program:
    """``program`` made smaller as long as ``still_fails``, for at most ``seconds``."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        smaller = next((p for p in _smaller(program) if time.monotonic() < until and _fails(p, still_fails)), None)
        if smaller is None:
            break
        program = smaller
    return program


def _fails(program: Program, still_fails: StillFails) -> bool:
    try:
        return bool(program.outputs) and still_fails(program)
    except Exception:  # a program that cannot be run is no smaller example of this failure
        return False


def _smaller(program: Program) -> Iterator[Program]:
    yield from _fewer_outputs(program)
    yield from _cut(program)
    yield from _without_statements(program)
    yield from _in_bodies(program)
    yield from _shorter_texts(program)
    yield from _smaller_arrays(program)
    yield from _plainer_numbers(program)


def _fewer_outputs(program: Program) -> Iterator[Program]:
    if len(program.outputs) > 1:
        for name in program.outputs:
            yield replace(program, outputs=(name,)).pruned()


def _cut(program: Program) -> Iterator[Program]:
    """A value as an input: what led to it is not needed.  Taken only if statements disappear by it."""
    values = _values(program)
    for statement in reversed(program.statements):
        for target in statement.targets:
            if target not in values or target in program.outputs:
                continue
            name = f"x{900 + int(target[1:])}"
            names = {target: name}
            statements = tuple(s.renamed(names) for s in program.statements)
            cut = replace(program, arrays={**program.arrays, name: np.asarray(values[target])}, statements=statements)
            cut = cut.pruned()
            if len(cut.statements) < len(program.statements):
                yield cut


def _values(program: Program) -> dict[str, Array]:
    """Every value of the program in plain NumPy."""
    names = [t for s in program.statements for t in s.targets]
    whole = replace(program, outputs=tuple(names))
    try:
        results = quietly(whole.function(NUMPY, reference=True), *program.args)
    except Exception:
        return {}
    return {n: np.asarray(r) for n, r in zip(names, results, strict=True)}


def _without_statements(program: Program) -> Iterator[Program]:
    """What reads a value reads one of its operands instead."""
    for statement in reversed(program.statements):
        for target in statement.targets:
            for operand in sorted(statement.reads()):
                names = {target: operand}
                statements = tuple(s.renamed(names) for s in program.statements if s is not statement)
                outputs = tuple(dict.fromkeys(names.get(o, o) for o in program.outputs))
                yield replace(program, statements=statements, outputs=outputs).pruned()


def _in_bodies(program: Program) -> Iterator[Program]:
    for k, statement in enumerate(program.statements):
        for other in _smaller_bodies(statement):
            yield replace(program, statements=(*program.statements[:k], other, *program.statements[k + 1 :])).pruned()


def _smaller_bodies(statement: Statement) -> Iterator[Statement]:
    for b, body in enumerate(statement.bodies):
        for other in _smaller_body(body):
            yield replace(statement, bodies=(*statement.bodies[:b], other, *statement.bodies[b + 1 :]))


def _smaller_body(body: Body) -> Iterator[Body]:
    for k in reversed(range(len(body.statements))):
        statement = body.statements[k]
        rest = (*body.statements[:k], *body.statements[k + 1 :])
        read = set(NAME.findall(body.result)).union(*(s.reads() for s in rest))
        if not set(statement.targets) & read:
            yield replace(body, statements=rest)
            continue
        for target in statement.targets:
            for operand in sorted(statement.reads() | set(body.parameters)):
                names = {target: operand}
                result = NAME.sub(lambda m, names=names: names.get(m.group(), m.group()), body.result)
                yield replace(body, statements=tuple(s.renamed(names) for s in rest), result=result)
        for other in _smaller_bodies(statement):
            yield replace(body, statements=(*body.statements[:k], other, *body.statements[k + 1 :]))


def _shorter_texts(program: Program) -> Iterator[Program]:
    """Without one keyword argument, and without one index."""
    for k, statement in enumerate(program.statements):
        for found in KEYWORD.finditer(statement.text):
            text = statement.text[: found.start()] + statement.text[found.end() :]
            plain = None if statement.plain is None else statement.plain.replace(found.group(), "")
            other = replace(statement, text=text, plain=plain)
            yield replace(program, statements=(*program.statements[:k], other, *program.statements[k + 1 :]))


def _smaller_arrays(program: Program) -> Iterator[Program]:
    """Every axis of one length, in all inputs, one shorter; or one input without a leading axis."""
    lengths = sorted({n for a in program.arrays.values() for n in a.shape}, reverse=True)
    for n in lengths:
        if n > 1:
            arrays = {k: a[tuple(slice(0, m - 1 if m == n else m) for m in a.shape)] for k, a in program.arrays.items()}
            yield replace(program, arrays=arrays)
    for name, a in program.arrays.items():
        if a.ndim and a.shape[0]:
            yield replace(program, arrays={**program.arrays, name: np.asarray(a[0])})


def _plainer_numbers(program: Program) -> Iterator[Program]:
    """Numbers of fewer digits; float64 for the narrower floats."""
    for name, a in program.arrays.items():
        if is_float(a):
            wide = a.astype(np.float64)
            for plain in (np.ones_like(a), np.round(wide).astype(a.dtype), np.round(wide, 1).astype(a.dtype)):
                if not np.array_equal(plain, a) and _digits(plain) < _digits(a):
                    yield replace(program, arrays={**program.arrays, name: plain})
            if a.dtype != np.float64:
                yield replace(program, arrays={**program.arrays, name: wide})


def _digits(a: Array) -> int:
    return len(repr(a.tolist()))
