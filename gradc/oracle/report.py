"""What `check_gradients` returns: a table of pairwise errors, and the first wrong node if there is one.

Enters: rows and findings.  Leaves: text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradc.oracle.compare import Row, Verdict
from gradc.places import Where
from gradc.tabular import table

#: the part of an input's comparisons that must have been made for `Report.ok`
LEAST = 1 / 3
HEAD = ("input", "methods", "max |Δ|", "max |Δ|/|g|", "ulp", "verdict")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong: in which stage, at which node, and why.

    ``stage`` is "rule" (a facet of the op's record), "mode" (the chain rule of a differentiation mode), "pass" (a graph
    rewrite), "kernel" (the compiled code of a kernel) or "plan" (the order or the memory of the kernels).
    """

    stage: str
    facet: str
    op: str
    node: int
    where: Where | None
    words: str

    def __str__(self) -> str:
        place = f"{self.where.file}:{self.where.line}" if self.where else "unknown line"
        node = f"%{self.node}, " if self.node >= 0 else ""
        return f"{self.stage}: {self.facet} of {self.op} ({node}{place}): {self.words}"


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of `gradc.check_gradients`; ``str(report)`` is the table."""

    title: str
    methods: tuple[str, ...]
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def compared(self) -> int:
        """How many comparisons of derivatives could be made, in part at least, and say something."""
        return sum(row.compared for row in self.rows if row.derivative)

    @property
    def ok(self) -> bool:
        """Whether enough could be compared, every comparison came out right and no part was found wrong.

        Enough: of the derivatives by each input, at least a third of the entries of its rows (where the function has no
        finite value, difference quotients and compiled code drop out of six methods, and with them nine of fifteen
        rows).  Entries at kinks, which have no derivative to compare, do not count.
        """
        enough = bool(self.compared) and not self._short()
        return enough and not self.findings and all(row.ok for row in self.rows)

    def _short(self) -> list[str]:
        """The inputs and values of which less than `LEAST` could be compared."""
        groups: dict[str, list[Row]] = {}
        for row in (row for row in self.rows if row.derivative):
            groups.setdefault(row.name, []).append(row)
        return [name for name, rows in groups.items() if _settled(rows) < LEAST * _open(rows)]

    @property
    def first_wrong(self) -> Finding | None:
        """The first wrong node, in the order of the data: rule, then pass, then compiled code."""
        return self.findings[0] if self.findings else None

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        head = f"gradients of {self.title}: {', '.join(self.methods)}"
        return "\n".join([head, "", _table(self.rows), "", *self._ending()])

    def _ending(self) -> list[str]:
        lines = [f"note: {note}" for note in self.notes]
        if self.rows and (gaps := _gaps(self.rows)):
            lines.append(gaps)
        if self.ok:
            unsure = sum(row.verdict is Verdict.UNSURE for row in self.rows)
            tail = f", {unsure} not fully comparable, none disagree" if unsure else ""
            count = len(self.rows)
            return [*lines, f"ok: {count - unsure} of {count} comparisons agree within error bounds{tail}"]
        if not self.compared and not self.findings:
            return [*lines, f"NOTHING COMPARED: {self._why_nothing()}"]
        short = self._short()
        if short and not self.findings and all(row.ok for row in self.rows):
            return [*lines, f"NOT ENOUGH COMPARED: of {', '.join(short)} less than a third. Choose another point."]
        wrong = sum(not row.ok for row in self.rows)
        how = f"{wrong} of {len(self.rows)} comparisons disagree beyond their error bounds"
        lines.append(f"WRONG: {how if wrong else 'a part is, which no comparison of the gradients shows'}")
        if not self.findings:
            lines.append("no single node could be made responsible")
        lines += [f"  {finding}" for finding in self.findings]
        return lines

    def _why_nothing(self) -> str:
        if not self.rows:
            return "one method alone agrees with itself; give two"
        return f"of {len(self.rows)} comparisons none could be made; the table says why. Choose another point."

    def _repr_html_(self) -> str:
        from html import escape

        lines = [_html_row(HEAD, "th"), *(_html_row(_cells(row), "td") for row in self.rows)]
        ending = "<br>".join(map(escape, self._ending()))
        title = escape(f"gradients of {self.title}: {', '.join(self.methods)}")
        return f"<table><caption>{title}</caption>{''.join(lines)}</table><div>{ending}</div>"


def _settled(rows: Sequence[Row]) -> int:
    return sum(row.settled for row in rows)


def _open(rows: Sequence[Row]) -> int:
    """Entries that could have been compared."""
    return sum(row.entries - row.kinks for row in rows)


def _gaps(rows: Sequence[Row]) -> str:
    """How many entries were not compared, and why; "" if all were."""
    missing = _open(rows) - _settled(rows)
    reasons: dict[str, int] = {}
    for why, count in (reason for row in rows for reason in row.reasons):
        reasons[why] = reasons.get(why, 0) + count
    said = "; ".join(f"{why} at {count}" for why, count in reasons.items())
    return f"not comparable: {missing} of {_open(rows)} entries, because: {said}" if missing else ""


def _table(rows: Sequence[Row]) -> str:
    """The rows under their names; an input that several of them are about is named once."""
    cells = [_cells(row) for row in rows]
    again = [k > 0 and row.name == rows[k - 1].name for k, row in enumerate(rows)]
    shown = [("", *line[1:]) if repeats else line for line, repeats in zip(cells, again, strict=True)]
    return table([HEAD, *shown], (0, 1, 5), rule=True)


def _html_row(cells: Sequence[str], tag: str) -> str:
    from html import escape

    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _cells(row: Row) -> tuple[str, ...]:
    mark = {Verdict.WRONG: "✗", Verdict.UNSURE: "?"}.get(row.verdict, "✓")
    return (
        f"{row.name}: {row.aval}", f"{row.pair[0]} – {row.pair[1]}", _number(row.absolute), _number(row.relative),
        _ulps(row.ulp), f"{mark} {row.words}",
    )  # fmt: skip


def _number(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}"


def _ulps(value: float) -> str:
    if not math.isfinite(value):
        return "—"
    return f"{value:.0f}" if value < 1e6 else f"{value:.0e}"
