"""Charts as SVG text, with no dependency: lines, points, bands, bars, rules and a map of cells, in light and in dark.

Enters: marks with their data, labels, and which axes are logarithmic.  Leaves: a `Picture`, whose text stands alone as
a file and stands inline in a page as well.  Colours are CSS custom properties of the class ``gradc-picture`` and follow
the reader's colour scheme; a page may set them itself.  Invariant: values that are no numbers leave gaps, and on a
logarithmic axis so do those that are not positive; the length of the text is bounded by the width of the picture, not
by the number of values.  Start reading at `chart`; `stacked` puts pictures one above the other.

>>> picture = chart(Line([0, 1, 2], [4.0, 2.0, 1.0], "loss"), title="Training", x="step", y="loss", log_y=True)
>>> picture.svg.startswith("<svg")
True
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape as escaped
from pathlib import Path
from typing import Any

import numpy as np

from gradc.runtime.files import write_whole

Values = Sequence[float] | np.ndarray[Any, Any]

#: the colours of marks in order, in a light and in a dark surrounding
COLOURS = (
    ("#2563c9", "#74aaff"), ("#cf5a10", "#ff9a57"), ("#17825a", "#4fcf9b"), ("#8a45c4", "#c79bff"),
    ("#c42f4f", "#ff7f97"), ("#0d8494", "#4fd0df"), ("#8a6a12", "#e0bd58"), ("#5b6470", "#aab3bf"),
)  # fmt: skip
_LIGHT = "--ink:#22262b;--muted:#666c75;--rule:#e5e1d8;--axis:#b9bcc1;--paper:#ffffff;"
_DARK = "--ink:#e4e3df;--muted:#9aa1ab;--rule:#2c3037;--axis:#4a515b;--paper:#1a1d22;"
_STYLE = (
    f".gradc-picture{{{_LIGHT}{''.join(f'--c{i}:{light};' for i, (light, _) in enumerate(COLOURS))}}}"
    "@media (prefers-color-scheme:dark){.gradc-picture{"
    f"{_DARK}{''.join(f'--c{i}:{dark};' for i, (_, dark) in enumerate(COLOURS))}}}}}"
    ".gradc-picture text{font:12px system-ui,-apple-system,'Segoe UI','Helvetica Neue','DejaVu Sans',sans-serif;"
    "fill:var(--muted);font-variant-numeric:tabular-nums}"
    ".gradc-picture .title{font-size:14px;font-weight:600;fill:var(--ink)}"
    ".gradc-picture .name{fill:var(--ink)}"
    ".gradc-picture .grid{stroke:var(--rule);stroke-width:1}"
    ".gradc-picture .axis{stroke:var(--axis);stroke-width:1}"
    ".gradc-picture .line{fill:none;stroke-width:1.75;stroke-linejoin:round;stroke-linecap:round}"
)

#: heights of the parts of a panel in pixels
_TITLE, _LEGEND, _FOOT = 26, 20, 40
_DIGIT = 6.9  #: about how wide a character of a label is


# -- marks -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A curve through points in order; ``faint`` for raw values behind a smoothed curve."""

    x: Values
    y: Values
    name: str = ""
    dashed: bool = False
    faint: bool = False
    colour: int | None = None  #: its number among `COLOURS`; None: the next one


@dataclass(frozen=True)
class Points:
    """Single points."""

    x: Values
    y: Values
    name: str = ""
    colour: int | None = None


@dataclass(frozen=True)
class Band:
    """The area between two curves over the same x."""

    x: Values
    low: Values
    high: Values
    name: str = ""
    colour: int | None = None


@dataclass(frozen=True)
class Bars:
    """A bar for each of ``labels``, from zero, or from the bottom of a logarithmic axis; several series stand side by
    side."""

    labels: Sequence[str]
    heights: Values
    name: str = ""
    colour: int | None = None


@dataclass(frozen=True)
class Rule:
    """A dashed line across the panel at ``x`` or at ``y``, with its name beside it."""

    name: str = ""
    x: float | None = None
    y: float | None = None
    colour: int | None = None


Mark = Line | Points | Band | Bars | Rule


# -- axes --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """From values to pixels: ``low`` lies at ``begin``, ``high`` at ``end``."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def __call__(self, values: Any) -> Any:
        """Pixels of values; NaN for what the axis does not show."""
        given = np.asarray(values, np.float64)
        with np.errstate(all="ignore"):
            if self.log:
                part = np.log(np.where(given > 0, given, np.nan) / self.low) / math.log(self.high / self.low)
            else:
                part = (given - self.low) / (self.high - self.low)
        return np.where(np.isfinite(given), self.begin + part * (self.end - self.begin), np.nan)

    @property
    def ticks(self) -> list[float]:
        """Where the axis has labels."""
        room = max(2, int(abs(self.end - self.begin) / (60 if self.begin < self.end else 34)))
        return log_ticks(self.low, self.high, room) if self.log else linear_ticks(self.low, self.high, room)


def linear_ticks(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from ``low`` to ``high``, about ``most`` of them at most."""
    raw = (high - low) / max(most, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of ten from ``low`` to ``high``, some left out where they are many, with 2 and 5 times them where few."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    count = last - first + 1
    if count < 2:
        found = [m * 10.0**k for k in range(first - 1, last + 2) for m in (1, 2, 5)]
        found = [t for t in found if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]
        return found if len(found) > 1 else linear_ticks(low, high, most)
    every = -(-count // max(most, 1))
    return [10.0**k for k in range(first, last + 1) if k % every == 0]


def tick_text(value: float) -> str:
    """A number as a label: 0.001, 2,000, 10⁻⁷."""
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)) + 1e-12)
    if -5 < exponent < 6:
        return f"{float(f'{value:.6g}'):,.10g}".replace("-", "−")
    mantissa = float(f"{value / 10.0**exponent:.4g}")
    power = "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    head = "" if mantissa == 1 else "−" if mantissa == -1 else f"{mantissa:g}·".replace("-", "−")
    return head + power


def _range(parts: Iterable[Any], log: bool, from_zero: bool = False) -> tuple[float, float]:
    """The least and the greatest value that an axis must show, with some air."""
    arrays = [np.asarray(p, np.float64).ravel() for p in parts]
    values = np.concatenate(arrays) if arrays else np.zeros(0)
    values = values[np.isfinite(values) & ((values > 0) | (not log))]
    if values.size == 0:
        return (0.1, 1.0) if log else (0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if log:
        spread = (high / low) ** 0.04 if high > low else 2.0
        return max(low / spread, 1e-307), min(high * spread, 1e307)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if from_zero and low == high == 0:
        return 0.0, 1.0
    if high == low:
        air = abs(low) / 2 or 0.5
        return low - air, high + air
    air = 0.05 * (high - low)
    return (low if from_zero and low == 0 else low - air), (high if from_zero and high == 0 else high + air)


def escape(text: str) -> str:
    """``text`` as it stands in XML, which has no control characters."""
    return escaped("".join(c if c.isprintable() or c == " " else "\N{REPLACEMENT CHARACTER}" for c in text))


# -- pictures ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """A drawing of ``width`` by ``height`` pixels; ``body`` is what stands inside of the SVG element."""

    width: float
    height: float
    body: str
    description: str = ""

    @property
    def svg(self) -> str:
        """The whole drawing as an SVG element with its style."""
        size = f'viewBox="0 0 {self.width:g} {self.height:g}" width="{self.width:g}" height="{self.height:g}"'
        said = escape(self.description)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="gradc-picture" {size} role="img" aria-label="{said}" '
            f'style="max-width:100%;height:auto"><style>{_STYLE}</style><title>{said}</title>'
            f'<rect width="{self.width:g}" height="{self.height:g}" fill="var(--paper)"/>{self.body}</svg>'
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the drawing as an .svg file, whole or not at all, and return its path."""
        where = Path(path)
        write_whole({where: self.svg + "\n"})
        return where

    def _repr_svg_(self) -> str:
        return self.svg

    def __str__(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<picture of {self.description or 'nothing named'}, {self.width:g} × {self.height:g}; .save(path)>"


def stacked(*pictures: Picture, columns: int = 1, gap: float = 8) -> Picture:
    """Pictures as one, in rows of ``columns``."""
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    parts, y, width = [], 0.0, 0.0
    for row in rows:
        x = 0.0
        for picture in row:
            parts.append(f'<g transform="translate({x:g} {y:g})">{picture.body}</g>')
            x += picture.width + gap
        width = max(width, x - gap)
        y += max(p.height for p in row) + gap
    return Picture(width, max(y - gap, 0), "".join(parts), "; ".join(p.description for p in pictures if p.description))


def chart(
    *marks: Mark,
    title: str = "",
    x: str = "",
    y: str = "",
    log_x: bool = False,
    log_y: bool = False,
    width: float = 640,
    height: float = 320,
    legend: bool = True,
) -> Picture:
    """One panel with ``marks`` on common axes.

    ``x`` and ``y`` name the axes, with their units; ``width`` and ``height`` are in pixels.  The legend lists the marks
    that have a name, rules excepted, which carry theirs.
    """
    coloured = _coloured(marks)
    entries = [(m.name, c, m) for m, c in coloured if m.name and not isinstance(m, Rule)] if legend else []
    rows = _legend_rows(entries, width - 24)
    top = 10 + (_TITLE if title else 0) + _LEGEND * len(rows) + (16 if y else 4)
    bars = [m for m in marks if isinstance(m, Bars)]
    low, high = _range((v for m in marks for v in _heights(m)), log_y, from_zero=bool(bars))
    upright = Axis(low, high, height - _FOOT + (0 if x else 14), top, log_y)
    labels = [tick_text(t) for t in upright.ticks]
    left = 18 + _DIGIT * max(map(len, labels), default=1)
    if bars:
        level = Axis(-0.5, max(len(b.labels) for b in bars) - 0.5, left, width - 14)
    else:
        level = Axis(*_sides(marks, log_x), left, width - 14, log_x)
    panel = _Panel(level, upright, bars)
    parts = [panel.grid(labels), *(panel.drawn(m, c) for m, c in coloured), panel.frame()]
    if title:
        parts.append(f'<text class="title" x="12" y="24">{escape(title)}</text>')
    for k, row in enumerate(rows):
        parts.append(_legend(row, 10 + (_TITLE if title else 0) + _LEGEND * k))
    if y:
        parts.append(f'<text x="12" y="{top - 8:g}">{escape(y)}</text>')
    if x:
        parts.append(f'<text x="{width - 14:g}" y="{height - 6:g}" text-anchor="end">{escape(x)}</text>')
    said = title or ", ".join(m.name for m in marks if m.name)
    return Picture(width, height, "".join(parts), said)


def _sides(marks: Sequence[Mark], log: bool) -> tuple[float, float]:
    """The range of x: curves reach both edges, single points keep a distance."""
    parts = [m.x for m in marks if not isinstance(m, Bars) and m.x is not None]
    low, high = _range(parts, log)
    curves = [m.x for m in marks if isinstance(m, Line | Band)]
    if log or not curves or any(isinstance(m, Points) for m in marks):
        return low, high
    values = np.concatenate([np.asarray(p, np.float64).ravel() for p in parts])
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size and values.min() < values.max() else (low, high)


def _heights(mark: Mark) -> list[Any]:
    if isinstance(mark, Band):
        return [mark.low, mark.high]
    if isinstance(mark, Bars):
        return [mark.heights]
    return [] if mark.y is None else [mark.y]


def _coloured(marks: Sequence[Mark]) -> list[tuple[Mark, str]]:
    """Each mark with its colour: its own, or the next one."""
    following, found = 0, []
    for mark in marks:
        if mark.colour is not None:
            colour = f"var(--c{mark.colour % len(COLOURS)})"
        elif isinstance(mark, Rule):
            colour = "var(--muted)"
        else:
            colour = f"var(--c{following % len(COLOURS)})"
            following += 1
        found.append((mark, colour))
    return found


Entry = tuple[str, str, Mark]


def _legend_rows(entries: Sequence[Entry], room: float) -> list[list[Entry]]:
    """The entries of the legend in rows that fit."""
    rows: list[list[Entry]] = []
    used = room
    for entry in entries:
        size = 40 + _DIGIT * len(entry[0])
        if used + size > room:
            rows.append([])
            used = 0.0
        rows[-1].append(entry)
        used += size
    return rows


def _legend(entries: Sequence[Entry], y: float) -> str:
    parts, x = [], 12.0
    for name, colour, mark in entries:
        if isinstance(mark, Line):
            dash = ' stroke-dasharray="5 4"' if mark.dashed else ""
            parts.append(f'<path class="line" d="M{x:g} {y + 9:g}h18" style="stroke:{colour}"{dash}/>')
        else:
            opacity = ' fill-opacity="0.25"' if isinstance(mark, Band) else ""
            parts.append(
                f'<rect x="{x + 4:g}" y="{y + 4:g}" width="10" height="10" rx="2" style="fill:{colour}"{opacity}/>'
            )
        parts.append(f'<text class="name" x="{x + 24:g}" y="{y + 13:g}">{escape(name)}</text>')
        x += 40 + _DIGIT * len(name)
    return "".join(parts)


@dataclass(frozen=True)
class _Panel:
    """The axes of a chart, and how marks are drawn on them."""

    level: Axis
    upright: Axis
    bars: Sequence[Bars] = field(default=())

    def grid(self, labels: Sequence[str]) -> str:
        """Lines across at the ticks of the upright axis, and the labels of both."""
        parts = []
        for tick, label in zip(self.upright.ticks, labels, strict=True):
            at = float(self.upright(tick))
            parts.append(f'<path class="grid" d="M{self.level.begin:.1f} {at:.1f}H{self.level.end:.1f}"/>')
            parts.append(f'<text x="{self.level.begin - 8:.1f}" y="{at + 4:.1f}" text-anchor="end">{label}</text>')
        below = self.upright.begin + 18
        for at, label in self._places():
            parts.append(f'<text x="{at:.1f}" y="{below:.1f}" text-anchor="middle">{escape(label)}</text>')
        return "".join(parts)

    def _places(self) -> list[tuple[float, str]]:
        """The labels below, with their places."""
        if not self.bars:
            return [(float(self.level(t)), tick_text(t)) for t in self.level.ticks]
        labels = max((b.labels for b in self.bars), key=len)
        room = (self.level.end - self.level.begin) / max(len(labels), 1)
        most = max(3, int(room / _DIGIT))
        return [(float(self.level(i)), s if len(s) <= most else s[: most - 1] + "…") for i, s in enumerate(labels)]

    def frame(self) -> str:
        """The axis below."""
        return f'<path class="axis" d="M{self.level.begin:.1f} {self.upright.begin:.1f}H{self.level.end:.1f}"/>'

    def drawn(self, mark: Mark, colour: str) -> str:
        """A mark as SVG."""
        draws: dict[type, Callable[[Any, str], str]] = {
            Line: self._line, Points: self._points, Band: self._band, Bars: self._bars, Rule: self._rule,
        }  # fmt: skip
        return draws[type(mark)](mark, colour)

    def _line(self, mark: Line, colour: str) -> str:
        x, y = thinned(self.level(mark.x), self.upright(mark.y))
        dash = ' stroke-dasharray="5 4"' if mark.dashed else ""
        faint = ' stroke-opacity="0.35"' if mark.faint else ""
        alone = "".join(
            f'<circle cx="{x[i]:.1f}" cy="{y[i]:.1f}" r="2.5" style="fill:{colour}"/>' for i in _lonely(x, y)
        )
        return f'<path class="line" d="{_path(x, y)}" style="stroke:{colour}"{dash}{faint}/>{alone}'

    def _points(self, mark: Points, colour: str) -> str:
        x, y = self.level(mark.x), self.upright(mark.y)
        shown = np.isfinite(x) & np.isfinite(y)
        places = dict.fromkeys(zip(np.round(x[shown], 1).tolist(), np.round(y[shown], 1).tolist(), strict=True))
        dots = "".join(f'<circle cx="{a:g}" cy="{b:g}" r="3"/>' for a, b in places)
        return f'<g style="fill:{colour}" fill-opacity="0.8">{dots}</g>'

    def _band(self, mark: Band, colour: str) -> str:
        x, low, high = self.level(mark.x), self.upright(mark.low), self.upright(mark.high)
        shown = np.isfinite(x) & np.isfinite(low) & np.isfinite(high)
        (x1, y1), (x2, y2) = thinned(x[shown], high[shown]), thinned(x[shown][::-1], low[shown][::-1])
        if x1.size == 0:
            return ""
        outline = _path(np.concatenate([x1, x2]), np.concatenate([y1, y2]))
        return f'<path d="{outline}Z" style="fill:{colour}" fill-opacity="0.18"/>'

    def _bars(self, mark: Bars, colour: str) -> str:
        number = next(i for i, b in enumerate(self.bars) if b is mark)
        room = (self.level.end - self.level.begin) / max(len(b.labels) for b in self.bars)
        wide = min(room * 0.72, 90) / len(self.bars)
        heights = np.asarray(mark.heights, np.float64)
        tops = self.upright(heights)
        foot = self.upright.begin if self.upright.log else float(self.upright(0.0))
        parts = []
        for i, (label, value, top) in enumerate(zip(mark.labels, heights.tolist(), tops.tolist(), strict=True)):
            if not math.isfinite(top):
                continue
            x = float(self.level(i)) + (number - len(self.bars) / 2) * wide
            y, size = min(top, foot), abs(top - foot)
            said = escape(f"{label}: {value:.6g}")
            parts.append(
                f'<rect x="{x + 0.5:.1f}" y="{y:.1f}" width="{max(wide - 1, 0.5):.1f}" height="{max(size, 0.5):.1f}" '
                f'rx="1.5"><title>{said}</title></rect>'
            )
        return f'<g style="fill:{colour}">{"".join(parts)}</g>'

    def _rule(self, mark: Rule, colour: str) -> str:
        parts = []
        style = f'class="line" style="stroke:{colour};stroke-width:1.25" stroke-dasharray="3 4"'
        if mark.x is not None and math.isfinite(at := float(self.level(mark.x))):
            right = at > (self.level.begin + self.level.end) / 2
            anchor, shift = ("end", -5) if right else ("start", 5)
            parts.append(f'<path {style} d="M{at:.1f} {self.upright.begin:.1f}V{self.upright.end:.1f}"/>')
            parts.append(
                f'<text x="{at + shift:.1f}" y="{self.upright.end + 11:.1f}" text-anchor="{anchor}">'
                f"{escape(mark.name)}</text>"
            )
        if mark.y is not None and math.isfinite(at := float(self.upright(mark.y))):
            parts.append(f'<path {style} d="M{self.level.begin:.1f} {at:.1f}H{self.level.end:.1f}"/>')
            parts.append(
                f'<text x="{self.level.end - 2:.1f}" y="{at - 5:.1f}" text-anchor="end">{escape(mark.name)}</text>'
            )
        return "".join(parts)


def thinned(x: Any, y: Any) -> tuple[Any, Any]:
    """A curve in pixels with at most four points for each pixel of x: the first, the lowest, the highest, the last.

    It covers the same pixels as the whole curve.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.size < 2000:
        return x, y
    column = np.floor(np.where(np.isfinite(x), x, -1))
    starts = np.flatnonzero(np.r_[True, np.diff(column) != 0])
    ends = np.r_[starts[1:], x.size]
    keep = []
    for a, b in zip(starts.tolist(), ends.tolist(), strict=True):
        part = y[a:b]
        keep += [a, b - 1]
        gaps = np.flatnonzero(~np.isfinite(part))
        if gaps.size:
            keep.append(a + int(gaps[0]))
        if gaps.size < part.size:
            keep += [a + int(np.nanargmin(part)), a + int(np.nanargmax(part))]
    kept = np.unique(keep)
    return x[kept], y[kept]


def _path(x: Any, y: Any) -> str:
    """The points as a path, broken where one is no number."""
    parts, begun = [], False
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        if not (math.isfinite(a) and math.isfinite(b)):
            begun = False
            continue
        parts.append(f"{'L' if begun else 'M'}{a:.1f} {b:.1f}")
        begun = True
    return "".join(parts)


def _lonely(x: Any, y: Any) -> list[int]:
    """Points with no number on either side, which a path does not show."""
    shown = np.isfinite(x) & np.isfinite(y)
    padded = np.r_[False, shown, False]
    found: list[int] = np.flatnonzero(shown & ~padded[:-2] & ~padded[2:]).tolist()
    return found


__all__ = ["COLOURS", "Axis", "Band", "Bars", "Line", "Mark", "Picture", "Points", "Rule", "chart", "stacked"]
