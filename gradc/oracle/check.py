"""`check_gradients`: one gradient by six methods, compared in pairs, and the first wrong node named.

Enters: a Python function and a point.  Leaves: a `Report`.  Start reading at `check_gradients`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradc.containers import leaves_of
from gradc.diff.symbolic.written_out import NotWrittenError
from gradc.graph import Graph
from gradc.machines.options import Options
from gradc.machines.stages import Stages
from gradc.node import Node, here
from gradc.ops.custom import rule_of
from gradc.ops.record import has_results
from gradc.oracle import estimates as by
from gradc.oracle.blame import derivative_findings, pass_findings, record_findings
from gradc.oracle.compare import SMALL, Estimate, Probes, Row, Verdict, compare, pairs
from gradc.oracle.estimates import CompileGraph
from gradc.oracle.kernels import kernel_findings, truncation_findings
from gradc.oracle.matrices import DenseError, by_jacobian, curvature, refuse_dear_columns
from gradc.oracle.nearby import special_points_nearby
from gradc.oracle.polish import searches
from gradc.oracle.report import Finding, Report
from gradc.oracle.sampled import FACTOR, RUNS
from gradc.oracle.scheduled import Compiled, Scheduled, as_scheduled
from gradc.oracle.witness import Subject, subject_of
from gradc.trace import trace

Failures = dict[str, Exception]

METHODS = ("symbolic", "forward", "reverse", "finite", "jacobian", "compiled")


def check_gradients(
    f: Callable[..., Any],
    *args: Any,
    methods: Sequence[str] = METHODS,
    compiled: CompileGraph | None = None,
    **kwargs: Any,
) -> Report:
    """Compare the gradient of ``f`` at ``args`` by several methods that share as little as possible.

    ``f`` may return a scalar, or any nesting of arrays (then their sum with fixed random weights is differentiated).
    All float inputs are examined; with more than 2,000 elements by 8 random directions and 16 sampled elements per
    input. ``methods``: of "symbolic" (SymPy on each op's meaning), "forward", "reverse" (the ops' rules), "finite"
    (Richardson differences), "jacobian" (the structured Jacobian; and beside forward mode the structured Hessian times
    a random vector), all in float64 on the graph as written, and "compiled" (machine code in the model's own dtypes).
    ``compiled`` turns a Graph into a function of flat arrays; the default is gradc's compiler, whose code is run by one
    thread, and by several in donated memory. docs/checking.md: error bounds, when it is ok, special points, the price.

    ``report.ok``, ``str(report)`` (a table), ``report.first_wrong`` (stage, op, source line, words).
    """
    unknown = [m for m in methods if m not in METHODS]
    if unknown or not methods:
        raise ValueError(f"{here()}: methods={tuple(methods)!r}: expected some of {', '.join(METHODS)}")
    graph = trace(f, *args, **kwargs)
    return check_graph(graph, leaves_of((args, kwargs))[0], methods, compiled)


def check_graph(
    graph: Graph, arrays: Sequence[Any], methods: Sequence[str] = METHODS, compiled: CompileGraph | None = None
) -> Report:
    """`check_gradients` for a graph and its flat arguments."""
    with np.errstate(all="ignore"):  # what is not finite is said in the table
        return _checked(graph, arrays, methods, compiled)


def _checked(graph: Graph, arrays: Sequence[Any], methods: Sequence[str], compiled: CompileGraph | None) -> Report:
    subject = subject_of(graph, arrays)
    witness = subject.witness()
    probes = by.probes_for(witness)
    runs: list[by.Run] = []
    makers = _makers(subject, witness, probes, compiled or default_compiler(), runs)
    found, failures, left_out = _estimates(methods, makers)
    rows = _rows(witness, found, probes) + [row for run in runs for row in _value_rows(subject, run)]
    rows += _curvature_rows(witness, found, failures, rows, left_out)
    findings = _findings(subject, witness, rows, failures, compiled, methods)
    notes = [*_notes(witness, probes, found), *left_out]
    if not findings:
        own = "compiled" in methods and compiled is None and "compiled" not in failures
        special, words = special_points_nearby(witness, Compiled.of if own else None)
        findings, notes = findings + special, notes + words
    for other in [_as_scheduled(subject, run) for run in runs if not findings]:
        if other is not None:
            rows += other.rows
            findings += other.findings
            notes.append(other.words)
    if not findings:
        rows = [row.excused() if row.singular else row for row in rows]
    return Report(graph.title, tuple(methods), tuple(rows), tuple(findings), tuple(notes))


def _as_scheduled(subject: Subject, run: by.Run) -> Scheduled | None:
    """Compiled code by several threads and in donated memory; None for a compiler that was handed in."""
    if not isinstance(run.call, Compiled):
        return None
    return as_scheduled(run.call, run.graph, subject.arrays, subject.wanted)


def _all_right(rows: Sequence[Row]) -> bool:
    return all(row.verdict in (Verdict.EQUAL, Verdict.AGREE) for row in rows)


def _curvature_rows(
    witness: Subject, found: Sequence[Estimate], failures: Failures, rows: Sequence[Row], left_out: list[str]
) -> list[Row]:
    """The structured Hessian beside forward over reverse: rows of their own.

    Where the gradient is right and has no kinks here; if there are no rows, ``left_out`` is told why.
    """
    if not any(e.method == "jacobian" for e in found):
        left_out.append("second derivatives were not compared: they are with the method 'jacobian'")
        return []
    if failures or not _all_right(rows):
        left_out.append("second derivatives were not compared, for the first ones do not all agree, or have kinks here")
        return []
    second = curvature(witness)
    if second is None:
        return []
    try:
        refuse_dear_columns(second)
        structured = by_jacobian(second)  # first, for it says at once where it is too large
    except DenseError as error:
        left_out.append(f"hessian left out: {error}")
        return []
    rows = _rows(second, [by.forward(second, {}), structured], {})
    return [replace(row, name=f"∂²/∂{row.name}", pair=("forward", "hessian")) for row in rows]


def _findings(
    subject: Subject,
    witness: Subject,
    rows: Sequence[Row],
    failures: Failures,
    compiled: CompileGraph | None,
    methods: Sequence[str],
) -> list[Finding]:
    """Who is to blame: rules that no gradient shows, then rewrites; on any trouble derivative rules, modes, kernels."""
    wrong = [row.pair for row in rows if not row.ok]
    found = record_findings(witness, methods)
    doubtful = any("compiled" in row.pair and row.verdict not in (Verdict.EQUAL, Verdict.AGREE) for row in rows)
    if not found and "compiled" in methods and (doubtful or failures) and "reverse" not in failures:
        found = pass_findings(witness)  # what compiled code gets right, the passes before it did
    if wrong or failures or found:
        found = derivative_findings(witness) + found
    if not found and any("compiled" not in pair for pair in wrong):
        pair = next(pair for pair in wrong if "compiled" not in pair)
        second = curvature(witness) if "hessian" in pair else None
        found = _mode_findings(witness, pair) if second is None else _mode_findings(second, ("forward", "jacobian"))
    if not found and ("compiled" in failures or any("compiled" in pair for pair in wrong)):
        found = _compiled_findings(subject, compiled, "compiled" in failures)
    return found or [_failure(method, error) for method, error in failures.items()]


def _failure(method: str, error: Exception) -> Finding:
    stage = "kernel" if method == "compiled" else "mode"
    return Finding(stage, method, "?", -1, None, f"raised {type(error).__name__}: {error}")


def _mode_findings(witness: Subject, pair: tuple[str, str]) -> list[Finding]:
    """The first node up to which two methods disagree although each op's rules are right: the mode itself is wrong."""
    graph = witness.graph
    for node in graph.nodes:
        if node.args and node.aval.is_float and not has_results(node):
            rows = agreement(graph.replace(outputs=(node,), in_tree=None, out_tree=None), witness.arrays, pair)
            if any(not row.ok and not row.singular for row in rows):
                return [_mode_finding(node, graph.index[node], pair)]
    return []


def _mode_finding(node: Node, index: int, pair: tuple[str, str]) -> Finding:
    """What is wrong at the first node up to which two methods disagree."""
    rule = rule_of(node.args[0])
    if rule is not None:
        words = f"is not the derivative of {rule.title}, which {pair[0]} and {pair[1]} tell"
        return Finding("rule", rule.kind, rule.title, index, node.where, words)
    words = f"{pair[0]} and {pair[1]} differ up to this node, though every rule on the way is right"
    return Finding("mode", "chain rule", node.op.name, index, node.where, words)


def agreement(
    graph: Graph, arrays: Sequence[Any], methods: Sequence[str], compiled: CompileGraph | None = None
) -> list[Row]:
    """The rows of the table alone, without looking for who is to blame; a method that raises, raises."""
    subject = subject_of(graph, arrays)
    witness = subject.witness()
    probes = by.probes_for(witness)
    makers = _makers(subject, witness, probes, compiled or default_compiler(), [])
    return _rows(subject, [makers[m]() for m in methods], probes)


def default_compiler() -> CompileGraph:
    """gradc's own compiler: a Graph to a function from flat arrays to flat arrays."""
    return Compiled.of


def _makers(
    subject: Subject, witness: Subject, probes: dict[int, Probes], compile_graph: CompileGraph, runs: list[by.Run]
) -> dict[str, Callable[[], Estimate]]:
    """How to make each method's estimate; what compiled code returned besides is added to ``runs``."""
    pulled = by.Pulled()

    def run_compiled() -> Estimate:
        runs.append(by.compiled(subject, witness, compile_graph, pulled))
        return runs[-1].gradient

    return {
        "symbolic": lambda: by.symbolic(witness, pulled),
        "forward": lambda: by.forward(witness, probes),
        "reverse": lambda: by.by_pull_back(witness, "reverse", pulled),
        "finite": lambda: by.finite(witness, probes),
        "jacobian": lambda: by_jacobian(witness),
        "compiled": run_compiled,
    }


def _estimates(
    methods: Sequence[str], makers: dict[str, Callable[[], Estimate]]
) -> tuple[list[Estimate], Failures, list[str]]:
    """What each method gives, how it fails, or why it has nothing to say: the report says it either way."""
    found: list[Estimate] = []
    failures: Failures = {}
    left_out: list[str] = []
    for method in methods:
        try:
            found.append(makers[method]())
        except (NotWrittenError, DenseError) as error:
            left_out.append(f"{method} left out: {str(error).splitlines()[0]}")
        except Exception as error:
            failures[method] = error
    return found, failures, left_out


def _rows(subject: Subject, found: Sequence[Estimate], probes: dict[int, Probes]) -> list[Row]:
    rows = []
    size = subject.size() if len(found) > 1 else 0.0
    for k, i in enumerate(subject.wanted):
        node, x = subject.graph.inputs[i], subject.arrays[i]
        name = subject.graph.names.get(node, f"argument {i}")
        around = float(np.max(np.abs(x), initial=0.0, where=np.isfinite(x))) or 1.0
        natural = SMALL * size / around
        rows += [compare(name, str(node.aval), a, b, k, probes.get(i), natural) for a, b in pairs(found)]
    return rows


def _value_rows(subject: Subject, run: by.Run) -> list[Row]:
    """The function's own values, compiled against interpreted."""
    rows = []
    for k, y in enumerate(run.outputs):
        name = subject.graph.names.get(y, "value" if len(run.outputs) == 1 else f"value {k}")
        row = compare(f"= {name}", str(y.aval), run.interpreted, run.values, k, None, SMALL)
        rows.append(replace(row, derivative=False))
    return rows


def _compiled_findings(subject: Subject, compiled: CompileGraph | None, failed: bool) -> list[Finding]:
    """gradc's own kernels one by one; a compiler that was handed in, or that failed, can only be cut short."""
    graph = by.compiled_subject(subject)
    if compiled is None and not failed:
        return kernel_findings(Stages(graph, Options(threads=1)), subject.arrays, default_compiler())
    return truncation_findings(graph, subject.arrays, compiled or default_compiler())


def _notes(witness: Subject, probes: dict[int, Probes], found: Sequence[Estimate]) -> list[str]:
    notes = []
    if probes:
        total = sum(witness.arrays[i].size for i in witness.wanted)
        each = f"{by.DIRECTIONS} random directions and {by.COORDINATES} sampled elements"
        notes.append(
            f"{total} input elements: forward and finite looked along {each} of each input, not at every element"
        )
    if searches(witness.graph):
        notes.append(
            "solutions of equations were taken to rounding by steps of Newton's method; the bounds of compiled hold "
            f"{by.UNDONE:.0f} times what its tolerance left undone"
        )
    if estimated := [e.method for e in found if any(s.sampled for s in e.slopes)]:
        spread = f"{FACTOR:.0f} times the spread of {RUNS} runs with random rounding, an estimate"
        notes.append(f"error bounds of {', '.join(estimated)}: {spread}")
    return notes
