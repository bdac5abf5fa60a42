"""Where the nodes of a graph stand on paper: rows from operands down to users, few crossings, short edges.

Enters: node widths and edges, by position, operands before users.  Leaves: `Drawing`, in pixels.
The method is Sugiyama's (1981): a row for each node, a corner wherever an edge passes a row, rows sorted by the
neighbours' middle in a few sweeps, then places pulled towards neighbours as far as there is room.  The same graph gives
the same picture.  Start reading at `draw`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

ROW, HEIGHT, GAP = 60, 36, 14
#: the room that an edge takes where it passes a row: less than nothing beside the gap
CORNER = -2
MARGIN = 14
SWEEPS = 8


@dataclass(frozen=True)
class Drawing:
    """Middles of the tops of nodes, the path of each edge (as SVG writes it), and the size of it all."""

    places: tuple[tuple[int, int], ...]
    paths: tuple[str, ...]
    width: int
    height: int


@dataclass
class _Spot:
    """A node, or a corner of an edge, in its row."""

    row: int
    width: float
    x: float = 0.0


def draw(widths: Sequence[int], edges: Sequence[tuple[int, int]]) -> Drawing:
    """A picture of nodes of these ``widths`` with ``edges`` (from, to)."""
    if not widths:
        return Drawing((), (), 2 * MARGIN, 2 * MARGIN)
    rows = _rows(len(widths), edges)
    spots = [_Spot(row, width) for row, width in zip(rows, widths, strict=True)]
    chains = [_chain(spots, a, b) for a, b in edges]
    above: list[list[int]] = [[] for _ in spots]
    below: list[list[int]] = [[] for _ in spots]
    for chain in chains:
        for a, b in pairwise(chain):
            above[b].append(a)
            below[a].append(b)
    layers: list[list[int]] = [[] for _ in range(max(rows) + 1)]
    for k, spot in enumerate(spots):
        layers[spot.row].append(k)
    _sort(layers, above, below)
    _place(layers, spots, above, below)
    left = min(s.x - s.width / 2 for s in spots) - MARGIN
    right = max(s.x + s.width / 2 for s in spots) + MARGIN
    for spot in spots:
        spot.x -= left
    places = tuple((round(s.x), MARGIN + ROW * s.row) for s in spots[: len(widths)])
    paths = tuple(_path([spots[k] for k in chain]) for chain in chains)
    return Drawing(places, paths, round(right - left), 2 * MARGIN + ROW * max(rows) + HEIGHT)


def _rows(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Below all operands; a node without operands right above its first user."""
    operands: list[list[int]] = [[] for _ in range(count)]
    users: list[list[int]] = [[] for _ in range(count)]
    for a, b in edges:
        operands[b].append(a)
        users[a].append(b)
    rows = [0] * count
    for k in range(count):
        rows[k] = 1 + max((rows[a] for a in operands[k]), default=-1)
    for k in range(count):
        if not operands[k] and users[k]:
            rows[k] = min(rows[b] for b in users[k]) - 1
    lowest = min(rows)
    return [row - lowest for row in rows]


def _chain(spots: list[_Spot], a: int, b: int) -> list[int]:
    """The spots of an edge: its ends, and a corner in every row between."""
    chain = [a]
    for row in range(spots[a].row + 1, spots[b].row):
        spots.append(_Spot(row, CORNER))
        chain.append(len(spots) - 1)
    return [*chain, b]


def _sort(layers: list[list[int]], above: Sequence[Sequence[int]], below: Sequence[Sequence[int]]) -> None:
    """Sort each row by the middle of the neighbours in the row before, down and up in turn."""
    at = {k: float(i) for layer in layers for i, k in enumerate(layer)}
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        neighbours = above if down else below
        for layer in layers if down else layers[::-1]:
            middle = {k: _mean([at[n] for n in neighbours[k]], at[k]) for k in layer}
            layer.sort(key=middle.__getitem__)
            at.update((k, float(i)) for i, k in enumerate(layer))


def _place(
    layers: Sequence[Sequence[int]],
    spots: Sequence[_Spot],
    above: Sequence[Sequence[int]],
    below: Sequence[Sequence[int]],
) -> None:
    for layer in layers:
        x = 0.0
        for k in layer:
            spots[k].x = x + spots[k].width / 2
            x += spots[k].width + GAP
        for k in layer:
            spots[k].x -= x / 2
    for sweep in range(2 * SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else layers[::-1]:
            wish = [_mean([spots[n].x for n in (above if down else below)[k]], spots[k].x) for k in layer]
            for k, x in zip(layer, _apart(wish, [spots[k].width for k in layer]), strict=True):
                spots[k].x = x


def _apart(wish: Sequence[float], widths: Sequence[float]) -> list[float]:
    """Places in this order, with room between them, as near as possible to ``wish``: neighbours that push each other
    share their wishes (pool adjacent violators)."""
    offsets, total = [], 0.0
    for k, width in enumerate(widths):
        total += (widths[k - 1] + width) / 2 + GAP if k else 0.0
        offsets.append(total)
    pools: list[tuple[float, int]] = []  # mean, count
    for w, offset in zip(wish, offsets, strict=True):
        mean, count = w - offset, 1
        while pools and pools[-1][0] >= mean:
            other, n = pools.pop()
            mean, count = (other * n + mean * count) / (n + count), n + count
        pools.append((mean, count))
    means = [mean for mean, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _path(chain: Sequence[_Spot]) -> str:
    """From the foot of the first to the head of the last, through the corners, in smooth curves."""
    first, *rest = chain
    x, y = round(first.x), MARGIN + ROW * first.row + HEIGHT
    path = f"M{x} {y}"
    for k, spot in enumerate(rest):
        last = k == len(rest) - 1
        to_x, top = round(spot.x), MARGIN + ROW * spot.row
        bend = (top - y) // 2
        path += f"C{x} {y + bend} {to_x} {top - bend} {to_x} {top}"
        x, y = to_x, top
        if not last:
            y = top + HEIGHT
            path += f"V{y}"
    return path
