"""The report of a run: one page that needs no network, to keep beside the parameters.

Enters: a `gradc.training.Run`.  Leaves: the text of an HTML page: curves, how it converges, health, the landscape where
it ended, the update rule and gradients as formulas, kernels and their time, and what it takes to do it again.
What a section needs and the run does not have is said in its place.  Whatever a user wrote is escaped.  Start reading
at `report_page`.
"""

from __future__ import annotations

import datetime
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from gradc.containers import flatten, path_text
from gradc.errors import GradcError
from gradc.explorer.page import palette
from gradc.machines.environment import machine, versions
from gradc.tabular import duration
from gradc.training.feed import described
from gradc.training.monitor import HealthMonitor
from gradc.version import __version__

if TYPE_CHECKING:
    from gradc.training.picture import Picture
    from gradc.training.run import Run

#: what a line of a kernel's table holds, and whether it is a word
_KERNELS = (("kernel", True), ("time", False), ("share", False), ("GFLOP/s", False), ("GB/s", False), ("lines", True))


@dataclass(frozen=True)
class Parts:
    """Which sections a report has that take time to make: a few compilations, some runs of the step."""

    health: bool = True
    landscape: bool = True
    formulas: bool = True
    kernels: bool = True


def report_page(run: Run, title: str, parts: Parts) -> str:
    """The page of ``run``."""
    sections = [(name, body) for name, body in _sections(run, parts) if body]
    links = "".join(f'<a href="#{_anchor(name)}">{escape(name)}</a>' for name, _ in sections)
    bodies = "".join(
        f'<section id="{_anchor(name)}"><h2>{escape(name)}</h2>{body}</section>' for name, body in sections
    )
    facts = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in _facts(run))
    style = palette() + files("gradc.training").joinpath("report.css").read_text(encoding="utf-8")
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    ended = run.stopped or ("it took the steps that were planned" if run.steps_left == 0 else "it was given no more")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="generator" content="gradc {__version__}">
<title>{escape(title)} — a training run</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p class="sub">A training run, ended because {escape(ended)}.</p>
<dl class="facts">{facts}</dl>
<nav aria-label="Sections">{links}</nav>
</header>
<main>{bodies}</main>
<footer>Written by gradc {__version__} on {now}.</footer>
</body>
</html>
"""


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    leaves, _, _ = flatten(run.params)
    yield "loss of the last step", f"{run.loss:.5g}"
    if run.best is not None:
        yield f"best {run.best.column.replace('_', ' ')}", f"{run.best.value:.5g}"
    yield "steps", f"{run.step:,}"
    yield "epochs", f"{run.epoch:,}"
    yield "parameters", f"{sum(int(np.size(x)) for x in leaves):,}"
    yield "seconds", f"{run.seconds:,.1f}"
    if np.isfinite(run.samples_per_second):
        yield "samples per second", f"{run.samples_per_second:,.0f}"


def _sections(run: Run, parts: Parts) -> Iterator[tuple[str, str]]:
    yield "Curves", _curves(run)
    yield "Convergence", _tried(lambda: _convergence(run))
    if parts.health:
        yield "Health", _of_loss(run, _health)
    if parts.landscape:
        yield "Landscape", _of_loss(run, _landscape)
    if parts.formulas:
        yield "Formulas", _of_step(run, _formulas)
    if parts.kernels:
        yield "Kernels", _of_step(run, _kernels)
    yield "To do it again", _again(run)


def _tried(make: Callable[[], str]) -> str:
    """A section, or why it could not be made: a report is written whatever its parts run into."""
    try:
        return make()
    except (GradcError, ValueError, TypeError, FloatingPointError) as error:
        return f'<p class="muted">Not here: {escape(str(error))}</p>'


def _of_loss(run: Run, make: Callable[[Run], str]) -> str:
    if run.loss_function is None:
        return '<p class="muted">The loss of a step of your own is not known to gc.fit.</p>'
    if run.batch is None:
        return '<p class="muted">No step was taken, so there is no batch to look at.</p>'
    return _tried(lambda: make(run))


def _of_step(run: Run, make: Callable[[Run], str]) -> str:
    if run.step_function is None or run.batch is None:
        return '<p class="muted">There is no compiled step of gradc to look into.</p>'
    return _tried(lambda: make(run))


# -- what was measured -------------------------------------------------------------------------------------------------


def _pictures(*pictures: Picture) -> str:
    return f'<div class="pictures">{"".join(p.svg for p in pictures)}</div>'


def _words(text: str) -> str:
    return f'<div class="scroll"><pre>{escape(text)}</pre></div>'


def _curves(run: Run) -> str:
    panels = run.history.panels()
    if not panels:
        return '<p class="muted">Nothing was measured: the run took no steps.</p>'
    monitors = [m for m in run.callbacks if isinstance(m, HealthMonitor) and len(m.history)]
    return _pictures(*panels, *(panel for m in monitors for panel in m.panels()))


def _convergence(run: Run) -> str:
    from gradc.convergence import diagnose

    if "loss" not in run.history or len(run.history["loss"]) < 3:
        return '<p class="muted">Fewer than three losses were noted.</p>'
    return _words(str(diagnose(run.history)))


def _health(run: Run) -> str:
    from gradc.diagnostics.report import health

    found = health(run.loss_function, *run.loss_arguments(), optimizer=run.optimizer, state=run.state)
    notes = "".join(f"<li>{escape(str(note))}</li>" for note in found.notes)
    said = f'<ul class="notes">{notes}</ul>' if notes else "<p>Nothing is worth a change.</p>"
    return f"{_pictures(*found.panels())}{said}<details><summary>As numbers</summary>{_words(str(found))}</details>"


def _landscape(run: Run) -> str:
    from gradc.convergence import landscape

    params, *batch = run.loss_arguments()
    found = landscape(run.loss_function, params, *batch, probes=2, segments=4)
    return f"{_pictures(found.plot())}{_words(str(found))}"


# -- what was computed -------------------------------------------------------------------------------------------------


def _formulas(run: Run) -> str:
    from gradc.api.explain import explain

    said = explain(run.step_function, *run.step_arguments())
    remarks = "".join(f"<li>{escape(line)}</li>" for line in said.remarks_below())
    return f'<div class="scroll">{said.mathml()}</div><ul class="notes muted">{remarks}</ul>'


def _kernels(run: Run) -> str:
    executable = run.step_function.lower(*run.step_arguments())
    found = executable.profile(*run.step_arguments())
    rows = [
        (k.title, duration(k.measured_ns), f"{found.share(k):.0%}", f"{k.gflops:.1f}", f"{k.gbytes:.1f}", k.lines)
        for k in found.by_time
    ]
    least = duration(found.predicted_ns)
    count = f"{len(rows)} kernels, {duration(found.step_ns)} a step; at the machine's limits {least}."
    most = 12
    table = _table(rows[:most])
    if len(rows) > most:
        table += f"<details><summary>All {len(rows)} kernels</summary>{_table(rows)}</details>"
    return f'<p>{escape(count)}</p><p class="muted">{escape(str(found.roofline))}</p>{table}'


def _table(rows: Sequence[Sequence[str]]) -> str:
    def cell(tag: str, text: str, word: bool) -> str:
        return f"<{tag}{' class=word' if word else ''}>{escape(text)}</{tag}>"

    head = "".join(cell("th", name, word) for name, word in _KERNELS)
    body = "".join(
        f"<tr>{''.join(cell('td', text, word) for text, (_, word) in zip(row, _KERNELS, strict=True))}</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


# -- what it takes to do it again --------------------------------------------------------------------------------------


def _again(run: Run) -> str:
    rows = [
        ("command", " ".join(map(_quoted, sys.argv)) or "an interpreter"),
        ("optimizer", repr(run.optimizer) if run.optimizer is not None else "of the step itself"),
        ("key", "none" if run.key is None else " ".join(f"{int(word)}" for word in np.ravel(run.key))),
        ("batch", ", ".join(described(run.batch))),
        ("parameters", ", ".join(described(run.params))),
        ("SHA-256 of the parameters", digest(run.params)),
        *versions(),
        *machine(),
    ]
    body = "".join(f'<tr><td class="name">{escape(k)}</td><td class="code">{escape(v)}</td></tr>' for k, v in rows)
    words = "The same program, versions, processor and key give the same bits, whatever the number of threads."
    return f'<p>{words}</p><div class="scroll"><table><tbody>{body}</tbody></table></div>'


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word


def digest(tree: Any) -> str:
    """The SHA-256 of the arrays of a tree: places, dtypes, shapes and bits, so that two runs can be compared."""
    whole = hashlib.sha256()
    leaves, paths, _ = flatten(tree)
    for path, leaf in zip(paths, leaves, strict=True):
        array = np.ascontiguousarray(leaf)
        whole.update(f"{path_text(path)} {array.dtype.name} {array.shape}\n".encode())
        whole.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return whole.hexdigest()


__all__ = ["Parts", "digest", "report_page"]
